package pages

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// begin fills in the form of an authorization code, and returns the page that leads to Zendesk.
func (b *browser) begin(t testing.TB, account string, filled url.Values) *shown {
	t.Helper()
	form := b.get(t, "/accounts/"+account+"/token?grant=authorization_code").wants(t, 200, "Authorization code", b.site.url+"/redirect")
	values := url.Values{"client_id": {zendesktest.ClientID}, "client_secret": {zendesktest.ClientSecret}}
	for name, value := range filled {
		values[name] = value
	}
	return b.send(t, form, "/accounts/"+account+"/token", values)
}

// leave follows the link to Zendesk, up to there.
func (b *browser) leave(t testing.TB, agree *shown) string {
	t.Helper()
	agree.wants(t, 200, "Agree at Zendesk", "Leads to "+b.site.zendesk.Origin(), b.site.url+"/redirect")
	return b.where(t, agree.href(t, "Go to Zendesk"))
}

// answer is where Zendesk sends the browser back to, without the origin.
func (s *site) answer(t testing.TB, address string, agrees bool) string {
	t.Helper()
	back, err := zendesktest.Answer(t.Context(), address, "", agrees)
	must(t, err)
	if back == nil || !strings.HasPrefix(back.String(), s.url+"/redirect?") {
		t.Fatalf("Zendesk sends to %v", back)
	}
	return strings.TrimPrefix(back.String(), s.url)
}

func TestAuthorizationCode(t *testing.T) {
	s := newSite(t)
	must(t, s.zendesk.AllowRedirect(zendesktest.ClientID, s.url+"/redirect"))
	s.create(t, "acme", nil)
	b := s.browser(t)
	agree := b.begin(t, "acme", url.Values{"scopes": {"read, write"}})
	address := b.leave(t, agree)
	asked, err := url.Parse(address)
	must(t, err)
	for _, secret := range []string{zendesktest.ClientSecret, asked.Query().Get("state"), "verifier"} {
		if strings.Contains(agree.body, secret) || strings.Contains(agree.path, secret) {
			t.Errorf("the page or its address has %q", secret)
		}
	}
	if q := asked.Query(); q.Get("scope") != "read write" || q.Get("code_challenge_method") != "S256" || q.Get("redirect_uri") != s.url+"/redirect" || q.Get("state") == "" {
		t.Errorf("the address is %s", address)
	}
	back := s.answer(t, address, true)
	got := b.get(t, back).wants(t, 200, "The token is in force.", "Granted: read , write", "It is renewed by itself before.")
	if got.path != "/accounts/acme?done=token" {
		t.Errorf("the redirect leads to %s", got.path)
	}
	b.send(t, got, "/accounts/acme/test", nil).wants(t, 200, "All of it works.")

	// A used code, as with the back button or a reload.
	tokens := len(tokenRequests(s))
	if got := b.get(t, back).wants(t, 400, "not expected", "has been answered already"); got.path != "/redirect" {
		t.Errorf("the address is %s", got.path)
	}
	b.get(t, agree.path).wants(t, 404, "This authorization is over")
	b.get(t, agree.href(t, "Go to Zendesk")).wants(t, 404, "This authorization is over")
	if n := len(tokenRequests(s)); n != tokens {
		t.Errorf("%d requests for tokens were made", n-tokens)
	}
}

func tokenRequests(s *site) []zendesktest.Request {
	return slices.DeleteFunc(s.zendesk.Requests(), func(r zendesktest.Request) bool { return r.Path != "/oauth/tokens" })
}

// What Zendesk's redirect may bring beside a code that is good.
func TestRedirects(t *testing.T) {
	s := newSite(t)
	must(t, s.zendesk.AllowRedirect(zendesktest.ClientID, s.url+"/redirect"))
	s.create(t, "acme", nil)
	b := s.browser(t)
	start := func(t *testing.T, filled url.Values) string {
		t.Helper()
		return b.leave(t, b.begin(t, "acme", filled))
	}
	refused := func(t *testing.T, back string, words ...string) *shown {
		t.Helper()
		got := b.get(t, back).wants(t, 409, words...)
		if got.path != "/accounts/acme/token?grant=authorization_code" {
			t.Errorf("the redirect leads to %s", got.path)
		}
		b.get(t, got.path).wants(t, 200).lacks(t, words[0]) // it is said once
		if a := s.account(t, "acme"); a.GetOauthToken() != nil {
			t.Errorf("the account has %v", a.GetOauthToken())
		}
		return got
	}
	t.Run("not agreed", func(t *testing.T) {
		got := refused(t, s.answer(t, start(t, url.Values{"scopes": {"read"}}), false), "The person at Zendesk did not agree (access_denied")
		if form := got.inputs(t, "/accounts/acme/token"); form.Get("client_id") != zendesktest.ClientID || form.Get("scopes") != "read" || form.Get("client_secret") != "" {
			t.Errorf("filled in is %v", form)
		}
	})
	t.Run("a wrong scope", func(t *testing.T) {
		back := b.whereFrom(t, start(t, url.Values{"scopes": {"magic"}}))
		refused(t, strings.TrimPrefix(back, s.url), "invalid_scope", "ask for scopes that Zendesk knows")
	})
	t.Run("a wrong secret", func(t *testing.T) {
		refused(t, s.answer(t, start(t, url.Values{"client_secret": {"wrong"}}), true), "invalid_client", "What to do look at client_id and client_secret")
	})
	t.Run("Zendesk is away", func(t *testing.T) {
		back := s.answer(t, start(t, nil), true)
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/oauth/tokens", Status: http.StatusServiceUnavailable})
		defer s.zendesk.ClearFaults()
		got := b.get(t, back).wants(t, 503, "Not available at the moment", "no token for account")
		if got.path != "/accounts/acme/token?grant=authorization_code" {
			t.Errorf("the redirect leads to %s", got.path)
		}
	})
	t.Run("neither code nor error", func(t *testing.T) {
		address, err := url.Parse(start(t, nil))
		must(t, err)
		refused(t, "/redirect?state="+address.Query().Get("state"), "neither a code nor an error")
	})
	t.Run("said twice", func(t *testing.T) {
		refused(t, s.answer(t, start(t, nil), true)+"&code=another", "several values of code")
	})
	for name, change := range map[string]func(string) string{
		"a wrong state": func(back string) string { return strings.Replace(back, "state=", "state=x", 1) },
		"no state":      func(back string) string { return strings.Replace(back, "state=", "estate=", 1) },
		"two states":    func(back string) string { return back + "&state=x" },
	} {
		t.Run(name, func(t *testing.T) {
			back := s.answer(t, start(t, nil), true)
			tokens := len(tokenRequests(s))
			if got := b.get(t, change(back)).wants(t, 400, "not expected"); got.path != "/redirect" {
				t.Errorf("the address is %s", got.path)
			}
			if n := len(tokenRequests(s)); n != tokens {
				t.Error("a token was requested")
			}
			other := s.browser(t)
			other.get(t, back).wants(t, 400, "not expected") // one that did not begin it
			if n := len(tokenRequests(s)); n != tokens {
				t.Error("a token was requested")
			}
		})
	}
	if a := s.account(t, "acme"); a.GetOauthToken() != nil {
		t.Errorf("the account has %v", a.GetOauthToken())
	}
}

// whereFrom is where an address of another site sends the browser.
func (b *browser) whereFrom(t testing.TB, address string) string {
	t.Helper()
	elsewhere := &browser{b.Client, &site{}}
	return elsewhere.where(t, address)
}

// Each tab ends what it began, in any order; of too many the oldest is forgotten.
func TestTwoTabs(t *testing.T) {
	s := newSite(t)
	must(t, s.zendesk.AllowRedirect(zendesktest.ClientID, s.url+"/redirect"))
	s.create(t, "one", nil)
	s.create(t, "two", nil)
	b := s.browser(t)
	first := b.leave(t, b.begin(t, "one", url.Values{"scopes": {"read"}}))
	second := b.leave(t, b.begin(t, "two", nil))
	backOfFirst, backOfSecond := s.answer(t, first, true), s.answer(t, second, true)
	b.get(t, backOfSecond).wants(t, 200, "Account two", "The token is in force.")
	b.get(t, backOfFirst).wants(t, 200, "Account one", "Granted: read .")

	var begun []*shown
	for range maxFlows + 1 {
		begun = append(begun, b.begin(t, "one", nil).wants(t, 200, "Agree at Zendesk"))
	}
	b.get(t, begun[0].path).wants(t, 404, "This authorization is over")
	for _, page := range begun[1:] {
		b.get(t, page.path).wants(t, 200, "Agree at Zendesk")
	}
}

// What cannot be a flow is told before anybody is sent anywhere.
func TestFlowThatCannotBe(t *testing.T) {
	s := newSite(t)
	s.create(t, "acme", nil)
	b := s.browser(t)
	for name, test := range map[string]struct{ input, value, said string }{
		"no client":        {"client_id", "", "is required"},
		"a client in two":  {"client_id", "a b", "must be printable ASCII"},
		"a secret in two":  {"client_secret", "a b", "must be printable ASCII"},
		"a scope of words": {"scopes", "r\u00e9ad", "must be printable ASCII"},
		"too much":         {"scopes", strings.Repeat("x", 2000), "for a browser to keep"},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.begin(t, "acme", url.Values{test.input: {test.value}}).wants(t, 400)
			if said := got.beside(t, test.input); !strings.Contains(said, test.said) {
				t.Errorf("beside it stands %q", said)
			}
		})
	}
	b.begin(t, "acme", url.Values{"client_secret": {""}}).wants(t, 200, "without a secret")

	// What is kept at most leaves room among the 16 KiB of headers that a server takes.
	for range maxFlows {
		b.begin(t, "acme", url.Values{"scopes": {strings.Repeat("x", 900)}}).wants(t, 200, "Agree at Zendesk")
	}
	at, err := url.Parse(s.url)
	must(t, err)
	bytes := 0
	for _, c := range b.Jar.Cookies(at) {
		bytes += len(c.String())
	}
	if bytes > 8000 {
		t.Errorf("the browser sends %d bytes of cookies", bytes)
	}
}

// Who has signed out meanwhile has to begin again, and the code goes no further; nobody ends what another one began.
func TestRedirectOfAnother(t *testing.T) {
	s := newSite(t,
		auth.Caller{Tenant: "acme", Name: "ada", Roles: []auth.Role{auth.Admin}}, auth.Caller{Tenant: "acme", Name: "alan", Roles: []auth.Role{auth.Admin}},
	)
	must(t, s.zendesk.AllowRedirect(zendesktest.ClientID, s.url+"/redirect"))
	b := s.signIn(t, "ada")
	b.post(t, "/accounts/new", url.Values{"account_id": {"support"}, "account.name": {"Support"}, "account.url": {s.zendesk.Origin()}}).wants(t, 200)
	back := s.answer(t, b.leave(t, b.begin(t, "support", nil)), true)
	b.post(t, "/signout", nil)
	if got := b.get(t, back).wants(t, 200, "Sign in"); got.path != "/signin?to=%2Fredirect" {
		t.Errorf("it leads to %s", got.path)
	}
	b.post(t, "/signin", url.Values{"credential": {s.tokens["alan"]}, "to": {"/redirect"}}).wants(t, 400, "not expected")
	b.get(t, back).wants(t, 400, "not expected")
	b.get(t, "/accounts/support").wants(t, 200, "needs authorization")
	if n := len(tokenRequests(s)); n != 0 {
		t.Error("a token was requested")
	}
}

// The grants that need no page of Zendesk, and what is said when it refuses.
func TestTokenRefusals(t *testing.T) {
	s := newSite(t)
	s.create(t, "acme", nil)
	b := s.browser(t)
	client := url.Values{"grant": {"client_credentials"}, "client_id": {zendesktest.ClientID}, "client_secret": {"k4nary"}, "scopes": {"read"}}
	got := b.post(t, "/accounts/acme/token", client).wants(t, 409, "Not possible as it is", "Zendesk said invalid_client", "What to do look at client_id and client_secret").lacks(t, "k4nary")
	if form := got.inputs(t, "/accounts/acme/token"); form.Get("client_id") != zendesktest.ClientID || form.Get("scopes") != "read" || strings.Contains(got.body, "k4nary") {
		t.Errorf("filled in is %v", form)
	}
	client.Set("grant", "password")
	client.Set("client_secret", zendesktest.ClientSecret)
	client.Set("password.username", zendesktest.Admin.Email)
	client.Set("password.password", " k4nary ")
	got = b.post(t, "/accounts/acme/token", client).wants(t, 409, "Zendesk removed the password grant", "Password").lacks(t, "k4nary")
	if strings.Contains(got.body, "k4nary") {
		t.Error("a password is in the page")
	}
	client.Del("password.username")
	got = b.post(t, "/accounts/acme/token", client).wants(t, 400)
	if said := got.beside(t, "password.username"); !strings.Contains(said, "is required") {
		t.Errorf("beside the user name stands %q", said)
	}
	b.post(t, "/accounts/nobody/token", client).wants(t, 404, "Not found")
}
