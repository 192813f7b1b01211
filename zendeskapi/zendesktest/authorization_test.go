package zendesktest

import (
	"context"
	"maps"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const elsewhere = "http://127.0.0.1:9/back?from=zendesk"

// asking for an authorization, with changes; nil takes a parameter away.
func authorization(change url.Values) url.Values {
	query := url.Values{
		"response_type": {"code"}, "client_id": {ClientID}, "redirect_uri": {elsewhere}, "scope": {"read write"}, "state": {"a b"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	maps.Copy(query, change)
	maps.DeleteFunc(query, func(_ string, values []string) bool { return values == nil })
	return query
}

func (a *account) page(query url.Values) response {
	a.t.Helper()
	return a.do("GET", "/oauth/authorizations/new?"+query.Encode(), "")
}

func (a *account) answer(form url.Values) response {
	a.t.Helper()
	return a.do("POST", "/oauth/authorizations", form.Encode(), with("Content-Type", "application/x-www-form-urlencoded"))
}

// sent is where an answer sends the browser: its query.
func (r response) sent(t testing.TB) url.Values {
	t.Helper()
	target, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != 302 {
		t.Fatalf("%d, to %q: %s", r.status, r.header.Get("Location"), r.raw)
	}
	return target.Query()
}

// What is asked is judged before a person is asked, and again with their answer: the client is told what is wrong, and who names
// a client or a redirect URI that is not known is sent nowhere.
func TestAuthorizationRefused(t *testing.T) {
	a := open(t, Config{})
	a.do("POST", "/_sandbox/clients", `{"redirect_uri":"`+elsewhere+`"}`).want(t, 204)
	a.do("POST", "/_sandbox/clients", `{"client_id":"public","name":"Public","redirect_uri":"`+elsewhere+`"}`).want(t, 204)
	a.do("POST", "/_sandbox/clients", `{"client_id":"narrow","name":"Narrow","client_secret":"x","scopes":["tickets:read"],"redirect_uri":"`+elsewhere+`"}`).want(t, 204)
	for name, test := range map[string]struct {
		change  url.Values
		refused string // "page": not redirected; "": a person is asked
	}{
		"fine":                      {nil, ""},
		"no state":                  {url.Values{"state": nil}, ""},
		"no PKCE":                   {url.Values{"code_challenge": nil, "code_challenge_method": nil}, ""},
		"another redirect URI":      {url.Values{"redirect_uri": {LoopbackRedirectURI}}, ""},
		"allowed scope":             {url.Values{"client_id": {"narrow"}, "scope": {"tickets:read"}}, ""},
		"unknown client":            {url.Values{"client_id": {"x"}}, "page"},
		"no client":                 {url.Values{"client_id": nil}, "page"},
		"unknown redirect URI":      {url.Values{"redirect_uri": {elsewhere + "x"}}, "page"},
		"longer redirect URI":       {url.Values{"redirect_uri": {LoopbackRedirectURI + "/"}}, "page"},
		"other client's redirect":   {url.Values{"client_id": {"public"}, "redirect_uri": {LoopbackRedirectURI}}, "page"},
		"no redirect URI":           {url.Values{"redirect_uri": nil}, "page"},
		"two redirect URIs":         {url.Values{"redirect_uri": {elsewhere, LoopbackRedirectURI}}, "page"},
		"two states":                {url.Values{"state": {"a b", "c"}}, "page"},
		"token":                     {url.Values{"response_type": {"token"}}, "unsupported_response_type"},
		"no response type":          {url.Values{"response_type": nil}, "unsupported_response_type"},
		"unknown scope":             {url.Values{"scope": {"read fly"}}, "invalid_scope"},
		"no scope":                  {url.Values{"scope": {" "}}, "invalid_scope"},
		"scope that is not allowed": {url.Values{"client_id": {"narrow"}, "scope": {"read"}}, "invalid_scope"},
		"plain":                     {url.Values{"code_challenge_method": {"plain"}}, "invalid_request"},
		"challenge, no method":      {url.Values{"code_challenge_method": nil}, "invalid_request"},
		"method, no challenge":      {url.Values{"code_challenge": nil}, "invalid_request"},
		"challenge of words":        {url.Values{"code_challenge": {"words"}}, "invalid_request"},
		"public without PKCE":       {url.Values{"client_id": {"public"}, "code_challenge": nil, "code_challenge_method": nil}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			query := authorization(test.change)
			form := maps.Clone(query)
			form.Set("answer", "allow")
			form.Set("email", Agent.Email)
			for how, got := range map[string]response{"page": a.page(query), "answer": a.answer(form)} {
				switch test.refused {
				case "page":
					if got.status != 400 || got.header.Get("Location") != "" || !strings.Contains(string(got.raw), "Invalid Authorization Request") {
						t.Errorf("%s: %d, to %q", how, got.status, got.header.Get("Location"))
					}
				case "":
					if how == "page" {
						got.want(t, 200)
					} else if sent := got.sent(t); sent.Get("code") == "" || sent.Get("state") != query.Get("state") || sent.Has("state") != query.Has("state") {
						t.Errorf("%s: %v", how, sent)
					}
				default:
					if sent := got.sent(t); sent.Get("error") != test.refused || sent.Get("error_description") == "" || sent.Has("code") || sent.Get("state") != "a b" || sent.Get("from") != "zendesk" {
						t.Errorf("%s: %v", how, sent)
					}
				}
			}
		})
	}
}

// A person answers on the page, and the code redeems for a token of theirs: once, with the redirect URI, the client and the
// verifier that it was asked with.
func TestAuthorization(t *testing.T) {
	a := open(t, Config{})
	server := httptest.NewServer(a.Zendesk)
	defer server.Close()
	if err := a.AddClient(Client{ID: "other", Secret: "other-secret", RedirectURIs: []string{PageRedirectURIs[0]}}); err != nil {
		t.Fatal(err)
	}
	address := func(redirect string) string {
		return server.URL + "/oauth/authorizations/new?" + authorization(url.Values{"redirect_uri": {redirect}}).Encode()
	}
	for _, redirect := range slices.Concat([]string{RedirectURI, LoopbackRedirectURI}, PageRedirectURIs) {
		for email, who := range map[string]Person{"": Admin, Agent.Email: Agent, Admin.Email: Admin} {
			sent, err := Answer(t.Context(), address(redirect), email, true)
			if err != nil {
				t.Fatal(err)
			}
			query := sent.Query()
			if target := strings.TrimSuffix(sent.String(), "?"+sent.RawQuery); target != redirect || query.Get("state") != "a b" || query.Has("error") {
				t.Errorf("sent to %s", sent)
			}
			right := map[string]string{"grant_type": "authorization_code", "code": query.Get("code"), "redirect_uri": redirect, "code_verifier": verifier}
			got := a.token(t, right).want(t, 200)
			if me := a.do("GET", "/api/v2/users/me", "", bearing(got.text("access_token"))).want(t, 200); me.text("user", "email") != who.Email {
				t.Errorf("the token is %s's, want %s's", me.text("user", "email"), who.Email)
			}
			a.token(t, right).want(t, 400)
		}
	}
	for name, change := range map[string]map[string]string{
		"another redirect URI": {"redirect_uri": PageRedirectURIs[1]},
		"another client":       {"client_id": "other", "client_secret": "other-secret"},
		"another verifier":     {"code_verifier": verifier[1:] + "x"},
		"no verifier":          {"code_verifier": ""},
	} {
		sent, err := Answer(t.Context(), address(PageRedirectURIs[0]), "", true)
		if err != nil {
			t.Fatal(err)
		}
		request := map[string]string{"grant_type": "authorization_code", "code": sent.Query().Get("code"), "redirect_uri": PageRedirectURIs[0], "code_verifier": verifier}
		maps.Copy(request, change)
		if got := a.token(t, request).want(t, 400); got.text("error") != "invalid_grant" {
			t.Errorf("%s: %s", name, got.raw)
		}
	}

	sent, err := Answer(t.Context(), address(RedirectURI), "", false)
	if err != nil || sent.Query().Get("error") != "access_denied" || sent.Query().Get("error_description") == "" || sent.Query().Get("state") != "a b" || sent.Query().Has("code") {
		t.Errorf("not agreed: %v, %v", sent, err)
	}
	if sent, err := Answer(t.Context(), address(RedirectURI)+"&scope=x", "", true); err == nil {
		t.Errorf("scope twice: sent to %s", sent)
	}
	if sent, err := Answer(t.Context(), address(RedirectURI), "nobody@example.com", true); err == nil || !strings.Contains(err.Error(), "There is no such person") {
		t.Errorf("nobody agrees: %v, %v", sent, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := Answer(ended, address(RedirectURI), "", true); err == nil {
		t.Error("an answer after the end")
	}
	for _, answer := range []url.Values{nil, {"answer": {"perhaps"}}} {
		if got := a.answer(authorization(answer)); got.status != 400 || got.header.Get("Location") != "" {
			t.Errorf("%v: %d", answer, got.status)
		}
	}
	a.do("PUT", "/api/v2/users/45900000000102", `{"user":{"suspended":true}}`).want(t, 200)
	if page := string(a.page(authorization(url.Values{"redirect_uri": {RedirectURI}})).want(t, 200).raw); strings.Contains(page, Agent.Name) || strings.Contains(page, EndUser.Name) || !strings.Contains(page, OtherAgent.Name) {
		t.Errorf("the people are not those who may agree:\n%s", page)
	}
	if sent, err := Answer(t.Context(), address(RedirectURI), Agent.Email, true); err == nil {
		t.Errorf("who is suspended agrees: %v", sent)
	}
}

// The page shows what others say as text, and a browser loads, runs and remembers nothing for it.
func TestAuthorizationPage(t *testing.T) {
	const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.Client}}</title>`
	a := open(t, Config{})
	if err := a.AllowRedirect(ClientID, elsewhere); err != nil {
		t.Fatal(err)
	}
	plain := string(a.page(authorization(nil)).want(t, 200).raw)
	for _, part := range []string{ClientName, "read all that", "<code>write</code>", elsewhere, Admin.Name, `action="/oauth/authorizations"`, `lang="en"`, `<label for="email">`} {
		if !strings.Contains(plain, part) {
			t.Errorf("the page has no %q:\n%s", part, plain)
		}
	}
	if err := a.AddClient(Client{ID: hostile, Name: hostile, RedirectURIs: []string{elsewhere + "&" + hostile}}); err != nil {
		t.Fatal(err)
	}
	a.do("PUT", "/api/v2/users/45900000000102", `{"user":{"name":"\"'><script>alert(1)</script>"}}`).want(t, 200)
	got := a.page(authorization(url.Values{"client_id": {hostile}, "redirect_uri": {elsewhere + "&" + hostile}, "state": {hostile}})).want(t, 200)
	if page := string(got.raw); strings.Count(page, "<") != strings.Count(plain, "<") || strings.Contains(page, "<script") || !strings.Contains(page, "&lt;script&gt;") {
		t.Errorf("the page is\n%s", page)
	}
	form := authorization(url.Values{"client_id": {hostile}, "redirect_uri": {elsewhere + "&" + hostile}, "state": {hostile}, "email": {Agent.Email}, "answer": {"allow"}})
	if sent := a.answer(form).sent(t); sent.Get("state") != hostile || sent.Get("code") == "" {
		t.Errorf("sent with %v", sent)
	}
	for _, got := range []response{got, a.page(authorization(url.Values{"client_id": {hostile}})).want(t, 400)} {
		header := got.header
		for _, part := range []string{"src=", "href=", "url(", "<script", "<link", "@import"} {
			if strings.Contains(strings.NewReplacer("img src=x", "", `<link rel="icon" href="data:,">`, "").Replace(string(got.raw)), part) {
				t.Errorf("the page has %q", part)
			}
		}
		if !strings.HasPrefix(header.Get("Content-Type"), "text/html") || !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") ||
			strings.Contains(header.Get("Content-Security-Policy"), "form-action") || header.Get("Cache-Control") != "no-store" || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("the header is %v", header)
		}
	}
}

func TestClients(t *testing.T) {
	a := open(t, Config{})
	for _, body := range []string{
		`{"redirect_uri":"/back"}`, `{"redirect_uri":"http://acme.example/"}`, `{"redirect_uri":"http://[::1]:1/"}`, `{"redirect_uri":"https://acme.example/#x"}`,
		`{"redirect_uri":"https://acme.example/#"}`, `{"redirect_uri":"ftp://127.0.0.1/"}`, `{"redirect_uri":"` + elsewhere + `","client_id":"x"}`,
		`{"client_id":"x","name":"X"}`, `{"client_id":"x","name":"X","redirect_uri":"https://acme.example/","scopes":["fly"]}`,
		`{"client_id":"` + ClientID + `","name":"X","redirect_uri":"https://acme.example/"}`, `{"client_id":"","name":"X","redirect_uri":"https://acme.example/"}`,
		`{"client_secret":"x"}`, `{"unknown":1}`,
	} {
		if got := a.do("POST", "/_sandbox/clients", body).want(t, 400); got.text("error") != "InvalidClient" {
			t.Errorf("%s: %s", body, got.raw)
		}
	}
	a.do("POST", "/_sandbox/clients", `{"redirect_uri":"https://acme.example/"}`).want(t, 204)
	a.do("POST", "/_sandbox/clients", `{"redirect_uri":"https://acme.example/"}`).want(t, 204)

	// A public client has nothing but its codes and what they bring.
	a.do("POST", "/_sandbox/clients", `{"client_id":"public","name":"Public","redirect_uri":"`+elsewhere+`"}`).want(t, 204)
	public := map[string]string{"client_id": "public", "client_secret": ""}
	ask := func(request map[string]string) response {
		maps.Copy(request, public)
		return a.token(t, request)
	}
	ask(map[string]string{"grant_type": "client_credentials"}).want(t, 401)
	if _, err := a.IssueCode(Grant{ClientID: "public"}); err == nil {
		t.Error("a public client gets a code without PKCE")
	}
	code := a.code(t, Grant{ClientID: "public", Challenge: challenge, ChallengeMethod: "S256"})
	ask(map[string]string{"grant_type": "authorization_code", "code": code, "redirect_uri": elsewhere}).want(t, 401)
	got := ask(map[string]string{"grant_type": "authorization_code", "code": code, "redirect_uri": elsewhere, "code_verifier": verifier}).want(t, 200)
	a.token(t, map[string]string{"grant_type": "refresh_token", "client_secret": "", "refresh_token": got.text("refresh_token")}).want(t, 401)
	ask(map[string]string{"grant_type": "refresh_token", "refresh_token": got.text("refresh_token")}).want(t, 200)
}
