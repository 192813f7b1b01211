package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/testing/protocmp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// sandboxToken asks the fake Zendesk's own client for a token.
func sandboxToken(grant any) *zendeskv1.RequestTokenRequest {
	req := &zendeskv1.RequestTokenRequest{AccountId: "acme", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret}
	switch g := grant.(type) {
	case *zendeskv1.PasswordGrant:
		req.Grant = &zendeskv1.RequestTokenRequest_Password{Password: g}
	case *zendeskv1.AuthorizationCodeGrant:
		req.Grant = &zendeskv1.RequestTokenRequest_AuthorizationCode{AuthorizationCode: g}
	case *zendeskv1.ClientCredentialsGrant:
		req.Grant = &zendeskv1.RequestTokenRequest_ClientCredentials{ClientCredentials: g}
	}
	return req
}

func passwordOf(p zendesktest.Person) *zendeskv1.PasswordGrant {
	return &zendeskv1.PasswordGrant{Username: p.Email, Password: p.Password}
}

// verifier and challenge belong together (RFC 7636, appendix B).
const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

func TestRequestTokenGrants(t *testing.T) {
	s := newTestServer(t, func(_ *Config, z *zendesktest.Config) { z.PasswordGrant = true })
	code := func(g zendesktest.Grant) string {
		code, err := s.zendesk.IssueCode(g)
		must(t, err)
		return code
	}
	public := sandboxToken(&zendeskv1.AuthorizationCodeGrant{
		Code: code(zendesktest.Grant{Challenge: challenge, ChallengeMethod: "S256"}), RedirectUri: zendesktest.RedirectURI, CodeVerifier: verifier,
	})
	public.ClientSecret = ""
	narrow := sandboxToken(nil)
	narrow.Scopes = []string{"read"}
	for _, test := range []struct {
		name    string
		req     *zendeskv1.RequestTokenRequest
		scopes  []string
		renewal string // grant that renews; empty: none
		secret  string // kept for it
	}{
		{"none given", sandboxToken(nil), []string{"read", "write"}, clientCredentials, zendesktest.ClientSecret},
		{"client credentials", sandboxToken(&zendeskv1.ClientCredentialsGrant{}), []string{"read", "write"}, clientCredentials, zendesktest.ClientSecret},
		{"narrow scopes", narrow, []string{"read"}, clientCredentials, zendesktest.ClientSecret},
		{"password", sandboxToken(passwordOf(zendesktest.Agent)), []string{"read", "write"}, refreshToken, zendesktest.ClientSecret},
		{
			"authorization code", sandboxToken(&zendeskv1.AuthorizationCodeGrant{Code: code(zendesktest.Grant{}), RedirectUri: zendesktest.RedirectURI}),
			[]string{"read", "write"}, refreshToken, zendesktest.ClientSecret,
		},
		{"authorization code of a public client", public, []string{"read", "write"}, refreshToken, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.createAccount(t, "acme", zendesktest.Admin)
			resp, err := s.accounts.RequestToken(t.Context(), test.req)
			must(t, err)
			account := resp.GetAccount()
			if account.GetAuthorization() != zendeskv1.Authorization_AUTHORIZATION_OAUTH_TOKEN ||
				account.GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_OK || len(account.GetWarnings()) > 0 {
				t.Errorf("account is %v", account)
			}
			token := account.GetOauthToken()
			if diff := cmp.Diff(test.scopes, token.GetScopes()); diff != "" {
				t.Errorf("scopes differ (-want +got):\n%s", diff)
			}
			if token.GetClientId() != zendesktest.ClientID || !token.GetExpireTime().AsTime().After(s.clock.now()) || !token.GetRenewable() {
				t.Errorf("token is %v", token)
			}
			stored, err := s.store.Account(t.Context(), defaultTenant, "acme")
			must(t, err)
			renewal := stored.OAuthToken.Renewal
			if renewal.Grant != test.renewal || renewal.ClientSecret.Reveal() != test.secret || renewal.RefreshToken.IsZero() != (test.renewal == clientCredentials) {
				t.Errorf("renewal is by %s with secret %q and refresh token %t", renewal.Grant, renewal.ClientSecret.Reveal(), !renewal.RefreshToken.IsZero())
			}
			_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: "acme"})
			must(t, err)
		})
	}
}

// The granted scopes may be others than those asked for.
func TestRequestTokenScopesMissing(t *testing.T) {
	s := newTestServer(t)
	s.createAccount(t, "acme", zendesktest.Admin)
	code, err := s.zendesk.IssueCode(zendesktest.Grant{Scopes: []string{"read"}})
	must(t, err)
	resp, err := s.accounts.RequestToken(t.Context(), sandboxToken(&zendeskv1.AuthorizationCodeGrant{Code: code, RedirectUri: zendesktest.RedirectURI}))
	must(t, err)
	warnings := resp.GetAccount().GetWarnings()
	if len(warnings) != 1 || warnings[0].GetCode() != zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_SCOPES_MISSING {
		t.Errorf("warnings are %v", warnings)
	}
}

func TestRequestTokenFailures(t *testing.T) {
	const refused, unavailable = zendeskv1.ErrorReason_ERROR_REASON_TOKEN_REFUSED, zendeskv1.ErrorReason_ERROR_REASON_ZENDESK_UNAVAILABLE
	wrongSecret := sandboxToken(nil)
	wrongSecret.ClientSecret = "wrong"
	wrongScope := sandboxToken(nil)
	wrongScope.Scopes = []string{"read", "everything"}
	noUsersScope := sandboxToken(nil)
	noUsersScope.Scopes = []string{"tickets:read"}
	usedCode := sandboxToken(&zendeskv1.AuthorizationCodeGrant{Code: "used", RedirectUri: zendesktest.RedirectURI})
	html := "<html><body>Maintenance</body></html>"
	const token, me = "/oauth/tokens", "/api/v2/users/me"
	for _, test := range []struct {
		name       string
		req        *zendeskv1.RequestTokenRequest
		fault      *zendesktest.Fault
		want       zendeskv1.ErrorReason
		code       string // Zendesk's
		status     string
		retryAfter time.Duration
	}{
		{name: "wrong client secret", req: wrongSecret, want: refused, code: "invalid_client", status: "401"},
		{name: "unknown scope", req: wrongScope, want: refused, code: "invalid_scope", status: "400"},
		{name: "used code", req: usedCode, want: refused, code: "invalid_grant", status: "400"},
		{name: "password", req: sandboxToken(passwordOf(zendesktest.Agent)), want: refused, code: "unsupported_grant_type", status: "400"},
		{name: "no Zendesk there", fault: &zendesktest.Fault{PathPrefix: token, Status: 404}, want: refused, code: "RecordNotFound", status: "404"},
		{name: "scopes too narrow for users/me", req: noUsersScope, want: refused, code: "Forbidden", status: "403"},
		{name: "token dead at once", fault: &zendesktest.Fault{PathPrefix: me, Status: 401}, want: refused, code: "Couldn't authenticate you", status: "401"},
		{name: "anonymous", fault: &zendesktest.Fault{PathPrefix: me, Body: new(`{"user":{"id":null,"role":"end-user"}}`)}, want: refused, status: "200"},
		{name: "end user", fault: &zendesktest.Fault{PathPrefix: me, Body: new(`{"user":{"id":7,"role":"end-user"}}`)}, want: refused},
		{name: "throttled", fault: &zendesktest.Fault{PathPrefix: token, Status: 429, RetryAfter: "93"}, want: unavailable, code: "APIRateLimitExceeded", status: "429", retryAfter: 93 * time.Second},
		{name: "throttled afterwards", fault: &zendesktest.Fault{PathPrefix: me, Status: 429, RetryAfter: "93"}, want: unavailable, code: "APIRateLimitExceeded", status: "429", retryAfter: 93 * time.Second},
		{name: "broken", fault: &zendesktest.Fault{PathPrefix: token, Status: 500}, want: unavailable, status: "500"},
		{name: "broken afterwards", fault: &zendesktest.Fault{PathPrefix: me, Status: 500}, want: unavailable, status: "500"},
		{name: "HTML", fault: &zendesktest.Fault{PathPrefix: token, Body: &html}, want: unavailable, status: "200"},
		{name: "HTML afterwards", fault: &zendesktest.Fault{PathPrefix: me, Body: &html}, want: unavailable, status: "200"},
		{name: "connection cut", fault: &zendesktest.Fault{PathPrefix: token, Drop: zendesktest.DropBefore}, want: unavailable},
		{name: "answer lost", fault: &zendesktest.Fault{PathPrefix: token, Drop: zendesktest.DropAfter}, want: unavailable},
		{name: "answer lost afterwards", fault: &zendesktest.Fault{PathPrefix: me, Drop: zendesktest.DropAfter}, want: unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newTestServer(t)
			before := s.createAccount(t, "acme", zendesktest.Admin)
			if test.fault != nil {
				s.zendesk.AddFault(*test.fault)
			}
			req := test.req
			if req == nil {
				req = sandboxToken(nil)
			}
			_, err := s.accounts.RequestToken(t.Context(), req)
			info := mustReason(t, err, codeOf(test.want), test.want)
			metadata := info.GetMetadata()
			if metadata["zendesk_error"] != test.code || metadata["http_status"] != test.status || metadata["account_id"] != "acme" {
				t.Errorf("metadata is %v, want error %q and status %q", metadata, test.code, test.status)
			}
			if (metadata["hint"] != "") != (test.want == refused) {
				t.Errorf("hint is %q", metadata["hint"])
			}
			retry, _ := detailOf[*errdetails.RetryInfo](err)
			if got := retry.GetRetryDelay().AsDuration(); got != test.retryAfter {
				t.Errorf("retry delay is %v, want %v", got, test.retryAfter)
			}
			after, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "acme"})
			must(t, err)
			if after.GetAccount().GetEtag() != before.GetEtag() {
				t.Errorf("the account has changed: %v", after.GetAccount())
			}
			if n := strings.Count(strings.Join(s.requests(), "\n"), "POST /oauth/tokens"); n != 1 {
				t.Errorf("%d token requests were sent, want 1", n)
			}
		})
	}
}

// A token in force, and the default mark, are there after a restart.
func TestRequestTokenSurvivesRestart(t *testing.T) {
	s := newTestServer(t)
	s.createAccount(t, "acme", zendesktest.Admin)
	granted, err := s.accounts.RequestToken(t.Context(), sandboxToken(nil))
	must(t, err)
	s.restart(t)
	kept, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "acme"})
	must(t, err)
	if diff := cmp.Diff(granted.GetAccount(), kept.GetAccount(), protocmp.Transform(), protocmp.IgnoreFields(&zendeskv1.Account{}, "health")); diff != "" {
		t.Errorf("account differs (-before +after):\n%s", diff)
	}
	tested, err := s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: "acme"})
	must(t, err)
	if tested.GetOutcome() != zendeskv1.CheckOutcome_CHECK_OUTCOME_OK {
		t.Errorf("test says %v", tested)
	}
}

// Every credential holds the canary, and Zendesk echoes what it is sent. No one else may ever see it.
func TestSecretsStayInside(t *testing.T) {
	const canary = "canary-7f3a"
	secret := func(name string) string { return canary + "-" + name }
	var issue atomic.Bool
	s := newTestServer(t, func(c *Config, _ *zendesktest.Config) { c.AllowHosts = []string{"127.0.0.1:*"} })
	zendesk := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.Header().Set("Content-Type", "application/json")
		echo := fmt.Sprintf("%v %s", r.Form, r.Header.Get("Authorization"))
		if user, password, ok := r.BasicAuth(); ok {
			echo += user + ":" + password
		}
		switch {
		case issue.Load() && r.URL.Path == "/oauth/tokens":
			_, _ = fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q,"token_type":"bearer","expires_in":86400}`, secret("granted"), secret("refresh"))
		case issue.Load() && strings.HasPrefix(r.URL.Path, "/api/v2/users/me"):
			_, _ = fmt.Fprint(w, `{"user":{"id":1,"name":"Ann","role":"admin"}}`)
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"error":"invalid_request","error_description":%q}`, echo)
		}
	}))
	t.Cleanup(zendesk.Close)
	credentials := &zendeskv1.Account{
		AccountId: "acme", Name: "Acme", Url: zendesk.URL,
		ApiToken:   &zendeskv1.ApiToken{Username: "joe@acme.com", Token: secret("api-token")},
		OauthToken: &zendeskv1.OAuthToken{AccessToken: secret("access-token")},
	}
	ctx := t.Context()
	exercise := func() {
		// What comes back does not matter here; record has seen it.
		_, _ = s.accounts.UpdateAccount(ctx, &zendeskv1.UpdateAccountRequest{Account: credentials})
		_, _ = s.accounts.GetAccount(ctx, &zendeskv1.GetAccountRequest{AccountId: "acme"})
		_, _ = s.accounts.ListAccounts(ctx, &zendeskv1.ListAccountsRequest{})
		_, _ = s.accounts.TestConnection(ctx, &zendeskv1.TestConnectionRequest{AccountId: "acme"})
		for _, grant := range []any{
			nil,
			&zendeskv1.PasswordGrant{Username: "joe@acme.com", Password: secret("password")},
			&zendeskv1.AuthorizationCodeGrant{Code: secret("code"), RedirectUri: "https://x.example/", CodeVerifier: secret("verifier" + strings.Repeat("v", 43))},
		} {
			req := sandboxToken(grant)
			req.ClientSecret = secret("client-secret")
			_, _ = s.accounts.RequestToken(ctx, req)
		}
		_, _ = s.accounts.TestConnection(ctx, &zendeskv1.TestConnectionRequest{AccountId: "acme"})
	}
	_, err := s.accounts.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: credentials})
	must(t, err)
	exercise()
	issue.Store(true)
	exercise()
	stored, err := s.store.Account(ctx, defaultTenant, "acme")
	must(t, err)
	if stored.OAuthToken.AccessToken.Reveal() != secret("granted") {
		t.Fatal("the canary is not where it should be either: this test looks for nothing")
	}
	// Malformed credentials are refused without being repeated.
	_, err = s.accounts.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{Account: &zendeskv1.Account{
		Name: "Other", Url: (&url.URL{Scheme: "https", User: url.UserPassword("joe", secret("url")), Host: "acme.zendesk.com"}).String(),
		ApiToken:   &zendeskv1.ApiToken{Username: secret("username"), Token: secret("with space ")},
		OauthToken: &zendeskv1.OAuthToken{AccessToken: secret("with\nbreak")},
	}})
	mustViolate(t, err, "account.url", "account.api_token.username", "account.api_token.token", "account.oauth_token.access_token")

	s.stop()
	for name, text := range map[string]string{"log": s.log.String(), "replies": s.replies.String()} {
		if text == "" || strings.Contains(text, canary) {
			t.Errorf("the %s hold the canary, or nothing:\n%s", name, text)
		}
	}
	files, err := os.ReadDir(s.dir)
	must(t, err)
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(s.dir, file.Name()))
		must(t, err)
		if strings.Contains(string(data), canary) {
			t.Errorf("the file %q holds the canary", file.Name())
		}
	}
}
