package zendesktest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// token asks for one, as the seeded client unless the request says otherwise.
func (a *account) token(t testing.TB, request map[string]string) response {
	t.Helper()
	all := map[string]string{"client_id": ClientID, "client_secret": ClientSecret}
	maps.Copy(all, request)
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return a.do("POST", "/oauth/tokens", string(body), with("Content-Type", "application/json"))
}

func (a *account) code(t testing.TB, g Grant) string {
	t.Helper()
	code, err := a.IssueCode(g)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// The challenge of RFC 7636, appendix B.
const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

func TestGrants(t *testing.T) {
	s256 := Grant{Challenge: challenge, ChallengeMethod: "S256"}
	code := func(more ...string) map[string]string {
		request := map[string]string{"grant_type": "authorization_code", "code": "CODE", "redirect_uri": RedirectURI}
		for i := 0; i < len(more); i += 2 {
			request[more[i]] = more[i+1]
		}
		return request
	}
	tests := []struct {
		name    string
		grant   Grant // of the code
		request map[string]string
		status  int
		code    string
	}{
		{"client credentials", Grant{}, map[string]string{"grant_type": "client_credentials"}, 200, ""},
		{"wrong secret", Grant{}, map[string]string{"grant_type": "client_credentials", "client_secret": "x"}, 401, "invalid_client"},
		{"no secret", Grant{}, map[string]string{"grant_type": "client_credentials", "client_secret": ""}, 401, "invalid_client"},
		{"a verifier is no secret", Grant{}, map[string]string{"grant_type": "client_credentials", "client_secret": "", "code_verifier": "x"}, 401, "invalid_client"},
		{"unknown client", Grant{}, map[string]string{"grant_type": "client_credentials", "client_id": "x"}, 401, "invalid_client"},
		{"unknown scope", Grant{}, map[string]string{"grant_type": "client_credentials", "scope": "read fly"}, 400, "invalid_scope"},
		{"no grant type", Grant{}, map[string]string{}, 400, "unsupported_grant_type"},
		{"implicit", Grant{}, map[string]string{"grant_type": "token"}, 400, "unsupported_grant_type"},
		{"password", Grant{}, map[string]string{"grant_type": "password", "username": Admin.Email, "password": Admin.Password}, 400, "unsupported_grant_type"},
		{"expires_in too short", Grant{}, map[string]string{"grant_type": "client_credentials", "expires_in": "300"}, 400, "invalid_request"},
		{"expires_in too long", Grant{}, map[string]string{"grant_type": "client_credentials", "expires_in": "172800"}, 400, "invalid_request"},
		{"expires_in of words", Grant{}, map[string]string{"grant_type": "client_credentials", "expires_in": "soon"}, 400, "invalid_request"},
		{"refresh life too short", Grant{}, code("refresh_token_expires_in", "604799"), 400, "invalid_request"},
		{"code", Grant{}, code(), 200, ""},
		{"unknown code", Grant{}, code("code", "x"), 400, "invalid_grant"},
		{"other redirect URI", Grant{}, code("redirect_uri", RedirectURI+"/"), 400, "invalid_grant"},
		{"PKCE S256", s256, code("code_verifier", verifier), 200, ""},
		{"PKCE without secret", s256, code("code_verifier", verifier, "client_secret", ""), 200, ""},
		{"PKCE with a wrong secret", s256, code("code_verifier", verifier, "client_secret", "x"), 401, "invalid_client"},
		{"PKCE wrong verifier", s256, code("code_verifier", challenge), 400, "invalid_grant"},
		{"PKCE no verifier", s256, code(), 400, "invalid_grant"},
		{"no secret and no PKCE", Grant{}, code("code_verifier", verifier, "client_secret", ""), 400, "invalid_grant"},
		{"unknown refresh token", Grant{}, map[string]string{"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"},
		{"no refresh token", Grant{}, map[string]string{"grant_type": "refresh_token"}, 400, "invalid_grant"},
	}
	a := open(t, Config{})
	for _, test := range tests {
		request := maps.Clone(test.request)
		if request["code"] == "CODE" {
			request["code"] = a.code(t, test.grant)
		}
		got := a.token(t, request)
		if got.status != test.status || test.code != "" && got.text("error") != test.code {
			t.Errorf("%s: %d %s, want %d %s", test.name, got.status, got.raw, test.status, test.code)
			continue
		}
		if got.status != 200 {
			if got.at("error_description") == nil {
				t.Errorf("%s: no error_description in %s", test.name, got.raw)
			}
			continue
		}
		if got.text("scope") != "read write" || got.text("token_type") != "bearer" || got.at("expires_in") != nil {
			t.Errorf("%s: %s", test.name, got.raw)
		}
		me := a.do("GET", "/api/v2/users/me", "", bearing(got.text("access_token"))).want(t, 200)
		if me.text("user", "email") != Admin.Email {
			t.Errorf("%s: the token is %s's", test.name, me.text("user", "email"))
		}
	}
}

func TestTokenRequestAsForm(t *testing.T) {
	a := open(t, Config{})
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {ClientID}, "client_secret": {ClientSecret},
		"scope": {"read"}, "expires_in": {"86400"},
	}
	got := a.do("POST", "/oauth/tokens", form.Encode(), with("Content-Type", "application/x-www-form-urlencoded")).want(t, 200)
	if got.text("scope") != "read" || got.text("expires_in") != "86400" || got.at("refresh_token") != nil {
		t.Errorf("%s", got.raw)
	}
	a.do("POST", "/oauth/tokens", "{", with("Content-Type", "application/json")).want(t, 400)
}

func TestPasswordGrant(t *testing.T) {
	a := open(t, Config{PasswordGrant: true})
	ask := func(user, password string) response {
		return a.token(t, map[string]string{"grant_type": "password", "username": user, "password": password})
	}
	got := ask(Agent.Email, Agent.Password).want(t, 200)
	if got.at("refresh_token") == nil {
		t.Errorf("no refresh token: %s", got.raw)
	}
	for _, wrong := range [][2]string{{Agent.Email, "x"}, {"x@example.com", Agent.Password}, {OtherAgent.Email, ""}} {
		if got := ask(wrong[0], wrong[1]).want(t, 400); got.text("error") != "invalid_grant" {
			t.Errorf("%v: %s", wrong, got.raw)
		}
	}
}

func TestCodeLivesOnceAndShortly(t *testing.T) {
	a := open(t, Config{})
	redeem := func(code string) response {
		return a.token(t, map[string]string{"grant_type": "authorization_code", "code": code, "redirect_uri": RedirectURI})
	}
	code := a.code(t, Grant{Email: Agent.Email, Scopes: []string{"read"}})
	if got := redeem(code).want(t, 200); got.text("scope") != "read" {
		t.Errorf("scope %q, want the granted one", got.text("scope"))
	}
	redeem(code).want(t, 400)
	late := a.code(t, Grant{})
	a.clock.advance(codeLife)
	redeem(late).want(t, 400)
	for _, g := range []Grant{
		{ClientID: "x"}, {RedirectURI: "https://elsewhere.example"}, {Email: "x@example.com"},
		{Scopes: []string{"fly"}}, {Challenge: challenge, ChallengeMethod: "S512"},
		{Challenge: challenge, ChallengeMethod: "plain"}, {Challenge: challenge}, {ChallengeMethod: "S256"}, {Challenge: "x", ChallengeMethod: "S256"},
	} {
		if _, err := a.IssueCode(g); err == nil {
			t.Errorf("IssueCode(%+v) gave no error", g)
		}
	}
}

func TestRefreshRotates(t *testing.T) {
	a := open(t, Config{})
	first := a.token(t, map[string]string{
		"grant_type": "authorization_code", "code": a.code(t, Grant{}), "redirect_uri": RedirectURI,
		"expires_in": "86400", "refresh_token_expires_in": "604800",
	}).want(t, 200)
	if first.text("expires_in") != "86400" || first.text("refresh_token_expires_in") != "604800" {
		t.Errorf("lives not told: %s", first.raw)
	}
	refresh := func(token string, more ...string) response {
		request := map[string]string{"grant_type": "refresh_token", "refresh_token": token}
		if len(more) > 0 {
			request["scope"] = more[0]
		}
		return a.token(t, request)
	}
	works := func(token string) bool {
		return a.do("GET", "/api/v2/groups", "", bearing(token)).status == 200
	}
	refresh(first.text("refresh_token"), "read write users:read").want(t, 400) // more than was granted
	second := refresh(first.text("refresh_token")).want(t, 200)
	if works(first.text("access_token")) {
		t.Error("the old access token still works")
	}
	if !works(second.text("access_token")) {
		t.Error("the new access token does not work")
	}
	if got := refresh(first.text("refresh_token")).want(t, 400); got.text("error") != "invalid_grant" {
		t.Errorf("the old refresh token: %s", got.raw)
	}
	a.ExpireTokens(second.text("access_token"))
	if works(second.text("access_token")) {
		t.Error("an expired access token works")
	}
	third := refresh(second.text("refresh_token"), "read").want(t, 200)
	if third.text("scope") != "read" {
		t.Errorf("scope %q, want the narrower one asked for", third.text("scope"))
	}
	a.clock.advance(defaultRefreshLife)
	refresh(third.text("refresh_token")).want(t, 400)
}

func TestTokenExpiry(t *testing.T) {
	tests := []struct {
		name      string
		config    Config
		expiresIn string
		told      string
		life      time.Duration
	}{
		{"not asked", Config{}, "", "<nil>", 30 * time.Minute},
		{"asked", Config{}, "3600", "3600", time.Hour},
		{"configured", Config{TokenLife: 10 * time.Second}, "86400", "10", 10 * time.Second},
	}
	for _, test := range tests {
		a := open(t, test.config)
		got := a.token(t, map[string]string{"grant_type": "client_credentials", "expires_in": test.expiresIn}).want(t, 200)
		if got.text("expires_in") != test.told {
			t.Errorf("%s: expires_in %s, want %s", test.name, got.text("expires_in"), test.told)
		}
		token := bearing(got.text("access_token"))
		current := a.do("GET", "/api/v2/oauth/tokens/current.json", "", token).want(t, 200)
		if want := stamp(a.clock.now().Add(test.life)); current.text("token", "expires_at") != want {
			t.Errorf("%s: expires_at %s, want %s", test.name, current.text("token", "expires_at"), want)
		}
		if strings.Contains(string(current.raw), got.text("access_token")) {
			t.Errorf("%s: tokens/current tells the whole token", test.name)
		}
		a.clock.advance(test.life - time.Second)
		a.do("GET", "/api/v2/groups", "", token).want(t, 200)
		a.clock.advance(time.Second)
		if got := a.do("GET", "/api/v2/users/me", "", token).want(t, 401); got.text("error") != "invalid_token" {
			t.Errorf("%s: %s", test.name, got.raw)
		}
	}
}

func TestCurrentTokenWantsABearer(t *testing.T) {
	open(t, Config{}).do("GET", "/api/v2/oauth/tokens/current", "").want(t, 404)
}

func TestTokensOfTwoAccountsDiffer(t *testing.T) {
	mint := map[string]string{"grant_type": "client_credentials"}
	a, b := open(t, Config{}), open(t, Config{Origin: "https://other.zendesk.example"})
	b.token(t, mint)
	token := a.token(t, mint).want(t, 200).text("access_token")
	b.do("GET", "/api/v2/groups", "", bearing(token)).want(t, 401)
}

func TestTokensEndedFromOutside(t *testing.T) {
	a := open(t, Config{})
	mint := func() string {
		return a.token(t, map[string]string{"grant_type": "client_credentials"}).want(t, 200).text("access_token")
	}
	one, other := mint(), mint()
	status := func(token string) int { return a.do("GET", "/api/v2/groups", "", bearing(token)).status }
	if got := a.do("POST", "/_sandbox/tokens/expire", `{"access_token":"`+one+`"}`).want(t, 200); got.text("count") != "1" {
		t.Errorf("expired %s tokens", got.text("count"))
	}
	if status(one) != 401 || status(other) != 200 {
		t.Errorf("after expiring one: %d and %d", status(one), status(other))
	}
	if got := a.do("POST", "/_sandbox/tokens/revoke", "").want(t, 200); got.text("count") != "2" {
		t.Errorf("revoked %s tokens", got.text("count"))
	}
	if status(other) != 401 {
		t.Errorf("after revoking all: %d", status(other))
	}
	code := a.do("POST", "/_sandbox/codes", `{"email":"`+Agent.Email+`","scope":"read"}`).want(t, 201).text("code")
	got := a.token(t, map[string]string{"grant_type": "authorization_code", "code": code, "redirect_uri": RedirectURI}).want(t, 200)
	if status(got.text("access_token")) != 200 || got.text("scope") != "read" {
		t.Errorf("the token of a code from outside: %s", got.raw)
	}
	a.do("POST", "/_sandbox/codes", `{"client_id":"x"}`).want(t, 400)
	a.do("POST", "/_sandbox/codes", `{`).want(t, 400)
}

func TestRequestsHoldNoCredentials(t *testing.T) {
	a := open(t, Config{})
	r := httptest.NewRequest(http.MethodGet, "/api/v2/groups.json?access_token=canary&page=1&client%5Fsecret=canary", nil)
	a.ServeHTTP(httptest.NewRecorder(), r)
	a.token(t, map[string]string{"grant_type": "client_credentials", "client_secret": "canary"})
	raw := a.do("GET", "/_sandbox/requests", "").want(t, 200).raw
	if strings.Contains(string(raw), "canary") || !strings.Contains(string(raw), `"page=1"`) {
		t.Errorf("recorded: %s", raw)
	}
}
