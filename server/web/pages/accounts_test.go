package pages

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// parsed is the markup of an answer.
func (s *shown) parsed(t testing.TB) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(s.body))
	must(t, err)
	return root
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// textOf is what a person reads of a part.
func textOf(n *html.Node) string {
	var words []string
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			words = append(words, strings.Fields(d.Data)...)
		}
	}
	return strings.Join(words, " ")
}

// href is where the link with a text leads.
func (s *shown) href(t testing.TB, text string) string {
	t.Helper()
	for n := range s.parsed(t).Descendants() {
		if n.Type == html.ElementNode && n.Data == "a" && textOf(n) == text {
			href, _ := attr(n, "href")
			return href
		}
	}
	t.Fatalf("%s has no link %q: %s", s.path, text, s.text())
	return ""
}

// inputs are what a browser would send of the form that goes to an address, as it is shown.
func (s *shown) inputs(t testing.TB, action string) url.Values {
	t.Helper()
	for n := range s.parsed(t).Descendants() {
		if to, _ := attr(n, "action"); n.Type != html.ElementNode || n.Data != "form" || to != action {
			continue
		}
		values := url.Values{}
		for in := range n.Descendants() {
			name, named := attr(in, "name")
			if in.Type != html.ElementNode || !named {
				continue
			}
			value, _ := attr(in, "value")
			kind, _ := attr(in, "type")
			_, checked := attr(in, "checked")
			switch {
			case in.Data == "textarea":
				values.Add(name, strings.TrimPrefix(strings.Join(textsOf(in), ""), "\n"))
			case in.Data == "input" && (kind != "checkbox" || checked):
				values.Add(name, value)
			}
		}
		return values
	}
	t.Fatalf("%s has no form to %s", s.path, action)
	return nil
}

func textsOf(n *html.Node) (texts []string) {
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			texts = append(texts, d.Data)
		}
	}
	return texts
}

// beside is what is said of an input: the text that describes it.
func (s *shown) beside(t testing.TB, name string) string {
	t.Helper()
	for n := range s.parsed(t).Descendants() {
		if id, _ := attr(n, "id"); id == name+"-about" {
			return textOf(n)
		}
	}
	return ""
}

// send sends a form that a page shows, with what was filled in.
func (b *browser) send(t testing.TB, on *shown, action string, filled url.Values) *shown {
	t.Helper()
	form := on.inputs(t, action)
	for name, values := range filled {
		form[name] = values
	}
	return b.post(t, action, form)
}

// where is where a browser is sent that asks for an address; it does not go there.
func (b *browser) where(t testing.TB, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.site.url+path, nil)
	must(t, err)
	still := *b.Client
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := still.Do(r)
	must(t, err)
	must(t, resp.Body.Close())
	return resp.Header.Get("Location")
}

// create makes an account of the fake Zendesk over the API of a site without authentication.
func (s *site) create(t testing.TB, id string, change func(*zendeskv1.Account)) *zendeskv1.Account {
	t.Helper()
	a := &zendeskv1.Account{Name: "Account " + id, Url: s.zendesk.Origin(), ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken}}
	if change != nil {
		change(a)
	}
	resp, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: id, Account: a})
	must(t, err)
	return resp.GetAccount()
}

func (s *site) account(t testing.TB, id string) *zendeskv1.Account {
	t.Helper()
	resp, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: id})
	must(t, err)
	return resp.GetAccount()
}

// The documented procedure, with a mouse: add an account, paste the URL, request a token, test, see the confirmation, use it.
func TestDocumentedProcedure(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	list := b.get(t, "/").wants(t, 200, "Accounts", "There is no account.")
	form := b.get(t, list.href(t, "Add an account")).wants(t, 200, "Add an account")
	account := b.send(t, form, "/accounts/new", url.Values{"account.name": {" Acme support "}, "account.url": {s.zendesk.Origin() + "/agent/dashboard?x=1"}, "account_id": {"acme"}, "account.default_region": {"US"}}).
		wants(t, 200, "Acme support", "The account is there. It needs an authorization", "needs authorization", "the account has no credential", "default")
	if account.path != "/accounts/acme?done=bare" {
		t.Errorf("it leads to %s", account.path)
	}
	token := b.get(t, account.href(t, "Request token")).wants(t, 200, "Client credentials", "Apps and integrations", "Confidential")
	account = b.send(t, token, "/accounts/acme/token", url.Values{"client_id": {zendesktest.ClientID}, "client_secret": {zendesktest.ClientSecret}}).
		wants(t, 200, "The token is in force.", "Granted: read , write", "OAuth token , ok", "renewed by itself")
	b.send(t, account, "/accounts/acme/test", nil).wants(t, 200,
		"Who it acts as ok the credential acts as a user with the role admin", "Searching ok", "Popping screens ok Zendesk pops screens for this account",
		"Outcome ok All of it works.", "Nora Becker")
	b.get(t, "/accounts").wants(t, 200, "Acme support default", "well OAuth token until").lacks(t, zendesktest.ClientSecret)
	if a := s.account(t, "acme"); a.GetName() != "Acme support" || a.GetUrl() != s.zendesk.Origin() || a.GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_OK {
		t.Errorf("the account is %v", a)
	}
	second := b.send(t, form, "/accounts/new", url.Values{
		"account.name": {"Other"}, "account.url": {s.zendesk.Origin()}, "account_id": {"new"},
		"account.api_token.username": {zendesktest.Agent.Email}, "account.api_token.token": {zendesktest.Agent.APIToken},
	}).wants(t, 200, "Other", "untested", "API token", "API tokens end , 2027-04-30", zendesktest.Agent.Email)
	if second.path != "/accounts/new/?done=created" {
		t.Errorf("the page of an account with the id new is %s", second.path)
	}
	b.send(t, second, "/accounts/new/default", nil).wants(t, 200, "It is the default account now.")
	gone := b.get(t, b.get(t, "/accounts/new/").href(t, "Delete")).wants(t, 200, "Delete the account?", "No activity waits", "while there are others")
	b.send(t, gone, "/accounts/new/delete", nil).wants(t, 409, "Not possible as it is", "is the default and others exist")
	b.post(t, "/accounts/acme/default", nil).wants(t, 200, "It is the default account now.")
	gone = b.get(t, "/accounts/new/delete")
	b.send(t, gone, "/accounts/new/delete", nil).wants(t, 200, "The account is deleted.", "Acme support").lacks(t, "Other")
	b.get(t, "/accounts/new/").wants(t, 404, "Not found", `account "new" does not exist`)

	clear := b.get(t, b.get(t, "/accounts/acme").href(t, "Clear the OAuth token")).wants(t, 200, "has no API token")
	b.send(t, clear, "/accounts/acme/clear", nil).wants(t, 200, "The OAuth token is cleared.", "needs authorization")
	if got := s.account(t, "acme"); got.GetOauthToken() != nil {
		t.Errorf("the token is %v", got.GetOauthToken())
	}
}

// What the API refuses of a field stands beside its input, and on top; what is filled in stays, but no secret.
func TestFieldErrors(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.create(t, "taken", nil)
	const canary = "k4nary k4nary"
	got := b.post(t, "/accounts/new", url.Values{
		"account_id": {"Not An Id"}, "account.name": {strings.Repeat("x", 101)}, "account.url": {"http://acme.example"}, "account.default_region": {"usa"},
		"account.max_limit_share": {"101"}, "account.phone_fields": {"mobile\nno good\r\n"}, "account.api_access.methods": {"GET", "TRACE"},
		"account.api_access.path_prefixes": {"tickets\n\n../users"}, "account.api_token.username": {"nobody"}, "account.api_token.token": {canary},
		"account.oauth_token.access_token": {canary},
	}).wants(t, 400, "That does not fit")
	for _, name := range []string{
		"account_id", "account.name", "account.url", "account.default_region", "account.max_limit_share", "account.phone_fields",
		"account.api_access.path_prefixes", "account.api_token.username", "account.api_token.token", "account.oauth_token.access_token",
	} {
		if n := strings.Count(got.text(), name); n == 0 {
			t.Errorf("%s is not named on top", name)
		}
		if said := got.beside(t, name); !strings.Contains(said, "must") && !strings.Contains(said, "allowed") && !strings.Contains(said, "at most") && !strings.Contains(said, ":") {
			t.Errorf("beside %s stands %q", name, said)
		}
	}
	got.wants(t, 400, "entry 2 must match", "entry 2 must be segments", "entry 2 must be one of GET").lacks(t, "k4nary")
	if strings.Contains(got.body, "k4nary") {
		t.Error("a secret is in the page")
	}
	if form := got.inputs(t, "/accounts/new"); form.Get("account.default_region") != "usa" || form.Get("account.phone_fields") != "mobile\nno good" {
		t.Errorf("filled in is %v", form)
	}
	b.post(t, "/accounts/new", url.Values{"account.max_limit_share": {"much"}}).wants(t, 400, "must be a whole number")
	for _, test := range []struct{ id, name, field string }{{"taken", "Free", "account_id"}, {"free", "account TAKEN", "account.name"}} {
		got := b.post(t, "/accounts/new", url.Values{"account_id": {test.id}, "account.name": {test.name}, "account.url": {s.zendesk.Origin()}}).wants(t, 409, "That exists")
		if said := got.beside(t, test.field); !strings.Contains(said, "taken") {
			t.Errorf("beside %s stands %q", test.field, said)
		}
	}
	b.post(t, "/accounts/new", url.Values{"account.name": {strings.Repeat("x", maxForm)}}).wants(t, 413, "too long")
	change := b.get(t, "/accounts/taken/change")
	got = b.send(t, change, "/accounts/taken/change", url.Values{"account.api_token.username": {""}}).wants(t, 400)
	if said := got.beside(t, "account.api_token.username"); !strings.Contains(said, "is required") {
		t.Errorf("beside the user of the API token stands %q", said)
	}
	got = b.post(t, "/accounts/taken/token", url.Values{"grant": {"client_credentials"}, "scopes": {`read "x"`}}).wants(t, 400)
	for name, want := range map[string]string{"client_id": "is required", "client_secret": "is required", "scopes": "entry 2"} {
		if said := got.beside(t, name); !strings.Contains(said, want) {
			t.Errorf("beside %s stands %q", name, said)
		}
	}
	b.post(t, "/accounts/taken/token", url.Values{"grant": {"magic"}}).wants(t, 400, "is none of")
}

// A form changes what was changed in it, and nothing else; a secret that is left empty stays.
func TestChangingAnAccount(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.create(t, "acme", nil)
	change := b.get(t, "/accounts/acme/change").wants(t, 200, "Change Account acme", "Left empty, it stays as it is.").lacks(t, "URL of the Zendesk")
	if form := change.inputs(t, "/accounts/acme/change"); form.Get("account.api_token.token") != "" || form.Get("account.api_token.username") != zendesktest.Admin.Email {
		t.Errorf("the form is %v", form)
	}
	b.send(t, change, "/accounts/acme/change", nil).wants(t, 200, "There was nothing to change.")
	b.send(t, change, "/accounts/acme/change", url.Values{
		"account.name": {"Renamed"}, "account.max_limit_share": {"40"}, "account.phone_fields": {"mobile\r\nother\r\n"},
		"account.api_access.methods": {"GET", "PUT"}, "account.api_access.path_prefixes": {"tickets.json"}, "account.api_access.on_behalf_of": {"yes"},
	}).wants(t, 200, "The account is changed.", "Renamed", "40 %", "mobile , other", "GET, PUT", "/api/v2/tickets")
	stored, err := s.store.Account(t.Context(), "default", "acme")
	must(t, err)
	if stored.APIToken == nil || stored.APIToken.Token.Reveal() != zendesktest.Admin.APIToken {
		t.Error("the API token did not stay")
	}
	change = b.get(t, "/accounts/acme/change")
	b.send(t, change, "/accounts/acme/change", url.Values{"account.api_access.methods": nil, "account.api_access.path_prefixes": {""}, "account.api_access.on_behalf_of": nil, "drop_api_token": {"yes"}}).
		wants(t, 200, "The account is changed.", "GET, HEAD", "everything below", "needs authorization")
	change = b.get(t, "/accounts/acme/change")
	b.send(t, change, "/accounts/acme/change", url.Values{"account.oauth_token.access_token": {"pasted-token"}}).wants(t, 200, "which was pasted in", "untested").lacks(t, "pasted-token")
}

// Who saves on top of somebody else's change is shown it, and does not undo it.
func TestStaleForm(t *testing.T) {
	s := newSite(t)
	s.create(t, "acme", nil)
	mine, other := s.browser(t), s.browser(t)
	form := mine.get(t, "/accounts/acme/change")
	other.send(t, other.get(t, "/accounts/acme/change"), "/accounts/acme/change", url.Values{"account.name": {"Theirs"}, "account.default_region": {"DE"}}).wants(t, 200)
	got := mine.send(t, form, "/accounts/acme/change", url.Values{"account.name": {"Mine"}, "account.max_limit_share": {"40"}, "account.api_token.token": {"k4nary"}}).
		wants(t, 409, "Somebody has changed the account", "Name Account acme Theirs Mine , which is stored if you save",
			"Region of numbers without country code nothing DE as it is now").lacks(t, "k4nary")
	if a := s.account(t, "acme"); a.GetName() != "Theirs" || a.GetMaxLimitShare() != 0 {
		t.Errorf("the account is %v", a)
	}
	mine.send(t, got, "/accounts/acme/change", nil).wants(t, 200, "The account is changed.", "Mine", "40 %", "DE")
	if a := s.account(t, "acme"); a.GetName() != "Mine" || a.GetDefaultRegion() != "DE" || a.GetMaxLimitShare() != 40 {
		t.Errorf("the account is %v", a)
	}

	form = mine.get(t, "/accounts/acme/change")
	other.post(t, "/accounts/acme/token", url.Values{"grant": {"client_credentials"}, "client_id": {zendesktest.ClientID}, "client_secret": {zendesktest.ClientSecret}}).wants(t, 200)
	mine.send(t, form, "/accounts/acme/change", url.Values{"account.name": {"Again"}}).
		wants(t, 409, "Authorization in force API token OAuth token", "Scopes of the OAuth token nothing read write")

	clear, gone := mine.get(t, "/accounts/acme/clear"), mine.get(t, "/accounts/acme/delete")
	other.send(t, other.get(t, "/accounts/acme/change"), "/accounts/acme/change", url.Values{"account.name": {"Moved on"}}).wants(t, 200)
	mine.send(t, clear, "/accounts/acme/clear", nil).wants(t, 409, "since you were asked", "Moved on")
	again := mine.send(t, gone, "/accounts/acme/delete", nil).wants(t, 409, "since you were asked", "Moved on")
	mine.send(t, again, "/accounts/acme/delete", nil).wants(t, 200, "The account is deleted.")
}

func TestOnTop(t *testing.T) {
	values := func(pairs ...string) url.Values {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v
	}
	for name, test := range map[string]struct {
		was, theirs, mine, merged url.Values
		others                    []otherChange
	}{
		"mine alone":   {values("account.name", "a"), values("account.name", "a"), values("account.name", "b"), values("account.name", "b"), nil},
		"theirs alone": {values("account.name", "a"), values("account.name", "b"), values("account.name", "a"), values("account.name", "b"), []otherChange{{Label: "Name", Was: "a", Is: "b"}}},
		"the same":     {values("account.name", "a"), values("account.name", "b"), values("account.name", "b"), values("account.name", "b"), []otherChange{{Label: "Name", Was: "a", Is: "b"}}},
		"both": {
			values("account.name", "a"), values("account.name", "b"), values("account.name", "c"), values("account.name", "c"),
			[]otherChange{{Label: "Name", Was: "a", Is: "b", Mine: "c", Differs: true}},
		},
		"cleared by me": {
			values("account.default_region", "US"), values("account.default_region", "DE"), values(), values(),
			[]otherChange{{Label: "Region of numbers without country code", Was: "US", Is: "DE", Mine: "nothing", Differs: true}},
		},
		"several values": {
			values("account.api_access.methods", "GET"), values("account.api_access.methods", "GET", "account.api_access.methods", "PUT"), values("account.api_access.methods", "GET"),
			values("account.api_access.methods", "GET", "account.api_access.methods", "PUT"),
			[]otherChange{{Label: "Methods of InvokeApi", Was: "GET", Is: "GET, PUT"}},
		},
		"no input": {
			values("account.authorization", "none"), values("account.authorization", "OAuth token"), values("account.name", "a"), values("account.name", "a"),
			[]otherChange{{Label: "Authorization in force", Was: "none", Is: "OAuth token"}},
		},
	} {
		merged, others := onTop(test.was, test.theirs, test.mine)
		if diff := cmp.Diff(test.merged, merged); diff != "" {
			t.Errorf("%s: merged (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(test.others, others); diff != "" {
			t.Errorf("%s: others (-want +got):\n%s", name, diff)
		}
	}
}

func TestChangedPaths(t *testing.T) {
	was := url.Values{"account.name": {"a"}, "account.api_access.methods": {"GET"}, "account.api_token.username": {"u"}}
	for name, test := range map[string]struct {
		mine url.Values
		want []string
	}{
		"nothing":   {was, nil},
		"name":      {url.Values{"account.name": {"b"}, "account.api_access.methods": {"GET"}, "account.api_token.username": {"u"}}, []string{"name"}},
		"as whole":  {url.Values{"account.name": {"a"}, "account.api_access.path_prefixes": {"x"}, "account.api_token.username": {"u"}}, []string{"api_access"}},
		"secrets":   {url.Values{"account.name": {"a"}, "account.api_access.methods": {"GET"}, "account.api_token.username": {"u"}, apiTokenInput: {"s"}, oauthTokenInput: {"s"}}, []string{"api_token.token", "oauth_token.access_token"}},
		"dropped":   {url.Values{"account.name": {"a"}, "account.api_access.methods": {"GET"}, apiTokenInput: {"s"}, dropAPITokenName: {"yes"}}, []string{"api_token"}},
		"no inputs": {url.Values{"account.name": {"a"}, "account.api_access.methods": {"GET"}, "account.api_token.username": {"u"}, "account.default_account": {"yes"}, "account.url": {"x"}}, nil},
	} {
		if diff := cmp.Diff(test.want, changedPaths(was, test.mine)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// hostileNames are texts that would be more than texts, were they not shown as such.
var hostileNames = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</textarea></title><svg onload=alert(1)>`, `'-alert(1)-'`, `{{.Account}}`, "javascript:alert(1)",
	"\u202egnp.exe\u202c \u2066x", strings.Repeat("\U0001f469\u200d\U0001f4bb", 33), strings.Repeat("W", 100), "&lt;b&gt; & é \u0000"[:14],
}

// harmless fails the test if an answer has elements that no template has.
func (s *shown) harmless(t testing.TB) *shown {
	t.Helper()
	for n := range s.parsed(t).Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		src, _ := attr(n, "src")
		href, _ := attr(n, "href")
		switch {
		case n.Data == "script" && !strings.HasPrefix(src, "/static/"), n.Data == "img", n.Data == "svg", n.Data == "b", strings.HasPrefix(strings.ToLower(href), "javascript:"):
			t.Errorf("%s has the element <%s %v>", s.path, n.Data, n.Attr)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("%s has the attribute %s", s.path, a.Key)
			}
		}
	}
	return s
}

func TestHostileStrings(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	for i, text := range hostileNames {
		id := fmt.Sprintf("h%d", i)
		_, err := s.store.CreateAccount(t.Context(), "default", store.Account{
			ID: id, Name: text, URL: s.zendesk.Origin(), DefaultRegion: text, PhoneFields: []string{text},
			APIToken:   &store.APIToken{Username: text, Token: secret.New("x")},
			OAuthToken: &store.OAuthToken{AccessToken: secret.New("k4nary"), ClientID: text, Scopes: []string{text}, RequestedScopes: []string{text, "other"}},
			APIAccess:  store.APIAccess{Methods: []string{text}, PathPrefixes: []string{text}},
		})
		must(t, err)
		for _, path := range []string{"", "/change", "/delete", "/clear", "/token", "/token?grant=authorization_code", "/token?grant=password", "/test"} {
			b.get(t, "/accounts/"+id+path).wants(t, 200, strings.Join(strings.Fields(text), " ")).harmless(t)
		}
		b.send(t, b.get(t, "/accounts/"+id), "/accounts/"+id+"/test", nil).wants(t, 200, "Outcome").harmless(t)
		form := url.Values{"grant": {"client_credentials"}}
		for _, name := range []string{
			"account_id", "account.name", "account.url", "account.default_region", "account.max_limit_share", "account.phone_fields", "account.api_token.username",
			"account.api_access.methods", "account.api_access.path_prefixes", "account.oauth_token.access_token", "account.api_token.token", "etag", "was",
			"client_id", "client_secret", "scopes", "password.username", "password.password",
		} {
			form.Set(name, text)
		}
		for _, path := range []string{"/accounts/new", "/accounts/" + id + "/change", "/accounts/" + id + "/token", "/accounts/" + id + "/delete"} {
			if got := b.post(t, path, form).harmless(t); got.status < 400 {
				t.Errorf("%s takes %q: %d", path, text, got.status)
			}
		}
		for _, grant := range []string{"authorization_code", "password", text} {
			form.Set("grant", grant)
			b.post(t, "/accounts/"+id+"/token", form).harmless(t)
		}
		b.get(t, "/accounts/"+url.PathEscape(text)).harmless(t)
		b.get(t, "/accounts?page="+url.QueryEscape(text)+"&done="+url.QueryEscape(text)).wants(t, 400).harmless(t)
		b.get(t, "/redirect?error="+url.QueryEscape(text)+"&state="+url.QueryEscape(text)).wants(t, 400, "not expected").harmless(t)
	}
	list := b.get(t, "/accounts").wants(t, 200).harmless(t)
	for _, text := range hostileNames {
		list.wants(t, 200, strings.Join(strings.Fields(text), " "))
	}
	if strings.Contains(list.body, "k4nary") {
		t.Error("a secret is in the list")
	}
}

// Who may do what on the pages is what the API says.
func TestAccountsByRole(t *testing.T) {
	s := newSite(t,
		auth.Caller{Tenant: "acme", Name: "ada", Roles: []auth.Role{auth.Admin}},
		auth.Caller{Tenant: "acme", Name: "oscar", Roles: []auth.Role{auth.Ops}},
		auth.Caller{Tenant: "acme", Name: "rita", Roles: []auth.Role{auth.Runtime}},
		auth.Caller{Tenant: "acme", Name: "desk", Roles: []auth.Role{auth.Desktop}},
		auth.Caller{Tenant: "other", Name: "eve", Roles: []auth.Role{auth.Admin}},
	)
	ada := s.signIn(t, "ada")
	ada.post(t, "/accounts/new", url.Values{
		"account_id": {"support"}, "account.name": {"Support"}, "account.url": {s.zendesk.Origin()},
		"account.api_token.username": {zendesktest.Admin.Email}, "account.api_token.token": {zendesktest.Admin.APIToken},
	}).wants(t, 200, "Support")
	looks := []string{"/accounts", "/accounts/support", "/accounts/support/test"}
	changes := []string{"/accounts/new", "/accounts/support/change", "/accounts/support/clear", "/accounts/support/delete", "/accounts/support/token", "/accounts/support/agree?flow=x", "/accounts/support/authorize?flow=x"}
	posts := []string{"/accounts/new", "/accounts/support/change", "/accounts/support/clear", "/accounts/support/delete", "/accounts/support/token", "/accounts/support/default"}
	form := url.Values{"grant": {"authorization_code"}, "client_id": {"x"}, "account.name": {"Intruded"}, "account.url": {s.zendesk.Origin()}}
	for name, may := range map[string]struct{ look, change bool }{"oscar": {look: true}, "rita": {}, "desk": {}} {
		b := s.signIn(t, name)
		for _, path := range looks {
			want := http.StatusForbidden
			if may.look {
				want = http.StatusOK
			}
			got := b.get(t, path).wants(t, want)
			if may.look {
				got.lacks(t, "Add an account", "Request token", "Make default", "Delete")
			}
		}
		for _, path := range changes {
			b.get(t, path).wants(t, http.StatusForbidden, "Not allowed")
		}
		for _, path := range posts {
			b.post(t, path, form).wants(t, http.StatusForbidden, "Not allowed")
		}
		tested := b.post(t, "/accounts/support/test", nil)
		if may.look {
			tested.wants(t, 200, "All of it works.")
		} else {
			tested.wants(t, http.StatusForbidden)
		}
	}
	eve := s.signIn(t, "eve")
	eve.get(t, "/accounts").wants(t, 200, "There is no account.")
	for _, path := range append(looks[1:], changes[1:]...) {
		eve.get(t, path).wants(t, http.StatusNotFound)
	}
	for _, path := range posts[1:] {
		eve.post(t, path, form).wants(t, http.StatusNotFound)
	}
	ada.get(t, "/accounts/support").wants(t, 200, "Support", "Request token", "Delete").lacks(t, "Intruded")
}

// A list of many accounts is paged, and each page is small, whatever stands in it. Of accounts that are well in a row, a page of ill
// ones has none, and there are more. With ZENDESKBLOCKS_TEST_ACCOUNTS there are as many accounts as it says, such as 10000.
func TestManyAccounts(t *testing.T) {
	s := newSite(t)
	accounts := 1200
	if n, err := strconv.Atoi(os.Getenv("ZENDESKBLOCKS_TEST_ACCOUNTS")); err == nil {
		accounts = n
	}
	const well = 1100
	for i := range accounts {
		account := store.Account{ID: fmt.Sprintf("a%05d", i), Name: fmt.Sprintf("%05d %s", i, strings.Repeat(`"`, 94)), URL: "https://" + strings.Repeat("x", 60) + ".zendesk.com"}
		if i < well {
			account.APIToken = &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New("x")}
		}
		_, err := s.store.CreateAccount(t.Context(), "default", account)
		must(t, err)
	}
	b := s.browser(t)
	for seen, path := 0, "/accounts"; ; {
		got := b.get(t, path).wants(t, 200, fmt.Sprintf(" a%05d ", seen), fmt.Sprintf(" a%05d ", seen+accountsOfPage-1))
		if len(got.body) > 200_000 {
			t.Errorf("%s has %d bytes", path, len(got.body))
		}
		if seen += accountsOfPage; seen == accounts {
			got.lacks(t, "Next accounts")
			break
		}
		path = got.href(t, "Next accounts")
	}
	ill := b.get(t, "/accounts?ill=1").wants(t, 200, "None of these is ill. There are more.").lacks(t, "a00000")
	ill = b.get(t, ill.href(t, "Next accounts")).wants(t, 200, " a01100 ", " a01149 ", "needs authorization", "From the start")
	if next := ill.href(t, "Next accounts"); !strings.Contains(next, "ill=1") {
		t.Errorf("the next page is %s", next)
	}
	if start := ill.href(t, "From the start"); start != "/accounts?ill=1" {
		t.Errorf("the first page is %s", start)
	}
}

// What waits for an account is told in the list, on its page, and before it is deleted.
func TestActivitiesOfAnAccount(t *testing.T) {
	s := newSite(t)
	s.create(t, "acme", nil)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets", Status: http.StatusServiceUnavailable})
	_, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{InteractionId: "call", AccountId: "acme", TicketId: "45900000001101"})
	must(t, err)
	b := s.browser(t)
	b.get(t, "/accounts").wants(t, 200, "1 waiting, the oldest since 20")
	b.get(t, "/accounts/acme").wants(t, 200, "Activities that wait 1, the oldest since 20", "Dead activities 0", "Activities of this account")
	gone := b.get(t, "/accounts/acme/delete").wants(t, 200, "1 activity that waits to be written: dead from then on")
	b.send(t, gone, "/accounts/acme/delete", nil).wants(t, 200, "The account is deleted.", "There is no account.")
}

// How an account is, is said in a word, and with dates.
func TestStatesOfAccounts(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	_, err := s.store.CreateAccount(t.Context(), "default", store.Account{
		ID: "ends", Name: "Ends", URL: s.zendesk.Origin(), Check: store.Check{OK: true, Time: time.Now(), Role: "agent"},
		OAuthToken: &store.OAuthToken{AccessToken: secret.New("x"), ExpireTime: time.Now().Add(5*time.Hour + 30*time.Minute), IssueTime: time.Now().Add(-2400 * time.Hour)},
	})
	must(t, err)
	_, err = s.store.CreateAccount(t.Context(), "default", store.Account{
		ID: "ended", Name: "Ended", URL: s.zendesk.Origin(), Check: store.Check{OK: true, Time: time.Now().Add(-3 * time.Hour), Role: "agent"},
		OAuthToken: &store.OAuthToken{AccessToken: secret.New("x"), ExpireTime: time.Now().Add(-2*time.Hour - 30*time.Minute)},
	})
	must(t, err)
	b.get(t, "/accounts").wants(t, 200, "expiring OAuth token until", "(in 5 h ", "The token expires", "needs authorization", "(2 h ", "the OAuth token has expired")
	b.get(t, "/accounts/ends").wants(t, 200, "expiring The credential in force ends soon", "Only a person can get one")
	b.get(t, "/accounts?ill=1").wants(t, 200, "Ended").lacks(t, "Ends ")
	s.create(t, "throttled", nil)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/search", Status: http.StatusTooManyRequests, RetryAfter: "3600"})
	b.post(t, "/accounts/throttled/test", nil).wants(t, 200, "Searching skipped", "to be tried again after 1 h 0 min", "not asked: Zendesk throttles")
	b.get(t, "/accounts?ill=1").wants(t, 200, "Account throttled", "throttled until")

	for state, want := range map[zendeskv1.HealthState]tag{
		zendeskv1.HealthState_HEALTH_STATE_FAILING: {"failing", "bad"}, zendeskv1.HealthState_HEALTH_STATE_LIMITED: {"throttled", "warn"},
		zendeskv1.HealthState_HEALTH_STATE_HEALTHY: {"well", "good"}, zendeskv1.HealthState_HEALTH_STATE_UNKNOWN: {"authorized", "good"},
		zendeskv1.HealthState_HEALTH_STATE_NEEDS_AUTHORIZATION: {"needs authorization", "bad"}, 99: {"99", ""},
	} {
		a := accountView{Account: &zendeskv1.Account{Health: &zendeskv1.AccountHealth{State: state}, CredentialState: zendeskv1.CredentialState_CREDENTIAL_STATE_OK}}
		if got := a.State(); got != want {
			t.Errorf("%v is %v, want %v", state, got, want)
		}
	}
}
