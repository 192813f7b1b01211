package zendeskapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestRequestTokenGrants(t *testing.T) {
	for name, tt := range map[string]struct {
		grant  Grant
		scopes []string
		want   map[string]string
	}{
		"none given":         {want: map[string]string{"grant_type": "client_credentials"}},
		"client credentials": {grant: ClientCredentialsGrant(), scopes: []string{"read", "write"}, want: map[string]string{"grant_type": "client_credentials", "scope": "read write"}},
		"password":           {grant: PasswordGrant("a+b@c.d", secret.New("p w&")), want: map[string]string{"grant_type": "password", "scope": "read write", "username": "a+b@c.d", "password": "p w&"}},
		"code":               {grant: AuthorizationCodeGrant(secret.New("co"), "https://x/cb", secret.Value{}), want: map[string]string{"grant_type": "authorization_code", "scope": "read write", "code": "co", "redirect_uri": "https://x/cb", "refresh_token_expires_in": "5184000"}},
		"code with PKCE":     {grant: AuthorizationCodeGrant(secret.New("co"), "https://x/cb", secret.New("ver")), want: map[string]string{"grant_type": "authorization_code", "scope": "read write", "code": "co", "redirect_uri": "https://x/cb", "code_verifier": "ver", "refresh_token_expires_in": "5184000"}},
		"refresh":            {grant: RefreshTokenGrant(secret.New("old")), want: map[string]string{"grant_type": "refresh_token", "refresh_token": "old", "refresh_token_expires_in": "5184000"}},
	} {
		t.Run(name, func(t *testing.T) {
			// Zendesk's tokens answers vary between 200 and 201.
			zendesk := scripted(reply{status: 201, header: map[string]string{"Content-Type": "application/json"}, body: `{"access_token":"new","token_type":"bearer","scope":"read","expires_in":86400}`})
			client := newClient(t, zendesk)
			client.credential = Credential{}
			token, err := client.RequestToken(t.Context(), TokenRequest{ClientID: "cid", ClientSecret: secret.New("cs"), Scopes: tt.scopes, Grant: tt.grant})
			if err != nil || token.AccessToken.Reveal() != "new" || token.RefreshToken.Reveal() != "" {
				t.Fatalf("token %q, %v", token.AccessToken.Reveal(), err)
			}
			if diff := cmp.Diff([]string{"read"}, token.Scopes); diff != "" {
				t.Error(diff)
			}
			requests := zendesk.requests()
			form, err := url.ParseQuery(requests[0].Body)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, name := range slices.Collect(maps.Keys(form)) {
				got[name] = form.Get(name)
			}
			tt.want["client_id"], tt.want["client_secret"], tt.want["expires_in"] = "cid", "cs", "86400"
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if len(requests) != 1 || requests[0].Method != http.MethodPost || requests[0].Path != "/oauth/tokens" || requests[0].Header.Get("Authorization") != "" ||
				requests[0].Header.Get("User-Agent") != "zendeskblocks" || requests[0].Header.Get("Accept") != "application/json" {
				t.Errorf("requests are %+v", requests)
			}
		})
	}
}

func TestRequestTokenPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := bubbleClient(t, reply{header: map[string]string{"Content-Type": "application/json"}, body: `{"access_token":"a2","refresh_token":"r2","expires_in":7200,"refresh_token_expires_in":5184000}`})
		token, err := client.RequestToken(t.Context(), TokenRequest{ClientID: "c", Scopes: []string{"read"}, Grant: RefreshTokenGrant(secret.New("r1"))})
		if err != nil {
			t.Fatal(err)
		}
		if token.RefreshToken.Reveal() != "r2" || !token.ExpiresAt.Equal(time.Now().Add(2*time.Hour)) ||
			!token.RefreshExpiresAt.Equal(time.Now().Add(60*24*time.Hour)) || !slices.Equal(token.Scopes, []string{"read"}) {
			t.Errorf("token is %+v", token)
		}
	})
}

func TestRequestTokenDoesNotKeepTheDeadRefreshToken(t *testing.T) {
	client := newClient(t, reply{header: map[string]string{"Content-Type": "application/json"}, body: `{"access_token":"a2","expires_in":7200}`})
	token, err := client.RequestToken(t.Context(), TokenRequest{ClientID: "c", Grant: RefreshTokenGrant(secret.New("r1"))})
	if err != nil || token.RefreshToken.Reveal() != "" {
		t.Errorf("refresh token is %q, %v", token.RefreshToken.Reveal(), err)
	}
}

func TestTokenExpiryFallbacks(t *testing.T) {
	jwt := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"x","exp":1800000000}`)) + ".sig"
	for name, tt := range map[string]struct {
		token   string
		current http.Handler // nil: must not be asked, for a refresh token came along
		want    func(now time.Time) time.Time
	}{
		"tokens/current":           {jwt, reply{body: `{"token":{"id":1,"expires_at":"2026-12-01T00:00:00Z"}}`}, func(time.Time) time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) }},
		"JWT":                      {jwt, reply{body: `{"token":{"id":1,"expires_at":null}}`}, func(time.Time) time.Time { return time.Unix(1800000000, 0) }},
		"JWT, as current fails":    {jwt, reply{status: 404}, func(time.Time) time.Time { return time.Unix(1800000000, 0) }},
		"30 minutes":               {"opaque", reply{status: 404}, func(now time.Time) time.Time { return now.Add(30 * time.Minute) }},
		"30 minutes, JWT without":  {"a.e30.c", reply{status: 404}, func(now time.Time) time.Time { return now.Add(30 * time.Minute) }},
		"30 minutes, JWT is none":  {"a.!.c", reply{status: 404}, func(now time.Time) time.Time { return now.Add(30 * time.Minute) }},
		"JWT of a pair":            {jwt, nil, func(time.Time) time.Time { return time.Unix(1800000000, 0) }},
		"30 minutes of a pair":     {"opaque", nil, func(now time.Time) time.Time { return now.Add(30 * time.Minute) }},
		"30 minutes, as all hangs": {"opaque", hang, func(now time.Time) time.Time { return now.Add(30 * time.Minute) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				granted := reply{header: map[string]string{"Content-Type": "application/json"}, body: fmt.Sprintf(`{"access_token":%q}`, tt.token)}
				if tt.current == nil {
					granted.body = fmt.Sprintf(`{"access_token":%q,"refresh_token":"r"}`, tt.token)
				}
				zendesk := scripted(granted, tt.current)
				client := bubbleClient(t, zendesk)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				start := time.Now()
				token, err := client.RequestToken(ctx, TokenRequest{ClientID: "c", Scopes: []string{"read"}})
				if err != nil {
					t.Fatal(err)
				}
				if want := tt.want(start); !token.ExpiresAt.Equal(want) {
					t.Errorf("expires at %v, want %v", token.ExpiresAt, want)
				}
				if tt.current == nil {
					if got := zendesk.requests(); len(got) != 1 {
						t.Errorf("requests are %+v", got)
					}
					return
				}
				if since := time.Since(start); since > 6*time.Second {
					t.Errorf("took %v", since)
				}
				asked := zendesk.requests()[1]
				if asked.Path != "/api/v2/oauth/tokens/current.json" || asked.Header.Get("Authorization") != "Bearer "+tt.token {
					t.Errorf("asked %+v", asked)
				}
			})
		})
	}
}

func TestRequestTokenFailures(t *testing.T) {
	elsewhere := scripted(reply{body: `{"access_token":"stolen","expires_in":1}`})
	other := httptest.NewServer(elsewhere)
	defer other.Close()
	asJSON := map[string]string{"Content-Type": "application/json", "X-Request-Id": "r-1"}
	for name, tt := range map[string]struct {
		answer  http.Handler
		kind    Kind
		status  int
		code    string
		unknown bool
	}{
		"invalid grant":         {reply{400, asJSON, `{"error":"invalid_grant","error_description":"The provided authorization grant is invalid"}`}, CredentialsRejected, 400, "invalid_grant", false},
		"invalid client":        {reply{401, asJSON, `{"error":"invalid_client","error_description":"Client authentication failed"}`}, CredentialsRejected, 401, "invalid_client", false},
		"invalid scope":         {reply{400, asJSON, `{"error":"invalid_scope"}`}, InvalidRequest, 400, "invalid_scope", false},
		"error under 200":       {reply{200, asJSON, `{"error":"unsupported_grant_type"}`}, InvalidRequest, 200, "unsupported_grant_type", false},
		"titled":                {reply{403, asJSON, `{"error":{"title":"Forbidden","message":"no"}}`}, AccessDenied, 403, "Forbidden", false},
		"HTML":                  {reply{404, nil, "<html>"}, NotFound, 404, "", false},
		"throttled":             {reply{429, map[string]string{"Retry-After": "9"}, "slow"}, RateLimited, 429, "", false},
		"500":                   {reply{500, asJSON, `{}`}, Unavailable, 500, "", true},
		"no token":              {reply{200, asJSON, `{}`}, BadResponse, 200, "", true},
		"empty":                 {reply{200, asJSON, ``}, BadResponse, 200, "", true},
		"broken":                {reply{200, asJSON, `{"access_token":"` + canary + `"`}, BadResponse, 200, "", true},
		"of the wrong types":    {reply{200, asJSON, `{"access_token":["` + canary + `"]}`}, BadResponse, 200, "", true},
		"text":                  {reply{200, map[string]string{"Content-Type": "text/plain"}, canary}, BadResponse, 200, "", true},
		"cut":                   {cut, Unavailable, 0, "", true},
		"cut within":            {cutWithin, BadResponse, 200, "", true},
		"redirect, same method": {reply{307, map[string]string{"Location": other.URL}, ""}, BadResponse, 307, "", false},
		"redirect":              {reply{302, map[string]string{"Location": "/oauth/tokens2"}, ""}, BadResponse, 302, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(tt.answer)
			client := newClient(t, zendesk)
			_, err := client.RequestToken(t.Context(), TokenRequest{ClientID: "c", ClientSecret: secret.New(canary), Scopes: []string{"read"}, Grant: RefreshTokenGrant(secret.New(canary))})
			e := failed(t, err, tt.kind)
			if e.StatusCode != tt.status || e.Code != tt.code || e.Unknown() != tt.unknown || e.Body() != "" || e.Attempts != 1 {
				t.Errorf("error is %+v, unknown %t", *e, e.Unknown())
			}
			if strings.Contains(fmt.Sprintf("%+v %#v %s", err, err, e.Message()), canary) {
				t.Errorf("error shows the secret: %+v", *e)
			}
			if len(zendesk.requests()) != 1 || len(elsewhere.requests()) != 0 {
				t.Errorf("%d requests here, %d elsewhere", len(zendesk.requests()), len(elsewhere.requests()))
			}
		})
	}
	t.Run("out of time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := bubbleClient(t, hang)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := client.RequestToken(ctx, TokenRequest{ClientID: "c"})
			if e := failed(t, err, Timeout); !e.Unknown() {
				t.Error("the outcome is taken for known")
			}
		})
	})
}

// Scopes that nobody asked for are found: one request, or two.
func TestRequestTokenFindsScopes(t *testing.T) {
	for name, tt := range map[string]struct {
		allowed  []string // of the client; none: all
		grant    func(t *testing.T, z *zendesktest.Zendesk) Grant
		scopes   []string
		want     []string // granted; none: refused
		asked    []string
		requests int
		fault    *zendesktest.Fault
		kind     Kind
	}{
		"client credentials":                  {want: []string{"read", "write"}, requests: 1},
		"client credentials, narrower":        {allowed: []string{"tickets:read", "read"}, want: []string{"tickets:read", "read"}, requests: 1},
		"client credentials, scopes wanted":   {scopes: []string{"read"}, want: []string{"read"}, asked: []string{"read"}, requests: 1},
		"client credentials, too many wanted": {allowed: []string{"read"}, scopes: []string{"read", "write"}, requests: 1, kind: InvalidRequest},
		"client credentials want scopes":      {fault: &zendesktest.Fault{PathPrefix: "/oauth", Status: 400, Body: new(`{"error":"invalid_scope"}`), Times: 1}, want: []string{"read", "write"}, asked: []string{"read", "write"}, requests: 2},
		"client credentials, never":           {fault: &zendesktest.Fault{PathPrefix: "/oauth", Status: 400, Body: new(`{"error":"invalid_scope"}`)}, requests: 2, kind: InvalidRequest},
		"password":                            {grant: password, want: []string{"read", "write"}, asked: []string{"read", "write"}, requests: 1},
		"password, narrower":                  {allowed: []string{"tickets:read"}, grant: password, want: []string{"tickets:read"}, requests: 2},
		"code":                                {grant: code, want: []string{"read", "write"}, asked: []string{"read", "write"}, requests: 1},
		"code, narrower":                      {allowed: []string{"read"}, grant: code, want: []string{"read", "write"}, requests: 2},
		"refused for another reason": {grant: func(*testing.T, *zendesktest.Zendesk) Grant {
			return AuthorizationCodeGrant(secret.New("used"), zendesktest.RedirectURI, secret.Value{})
		}, requests: 1, kind: CredentialsRejected},
	} {
		t.Run(name, func(t *testing.T) {
			client, zendesk := fakeClient(t, zendesktest.Config{PasswordGrant: true})
			if err := zendesk.AllowScopes(zendesktest.ClientID, tt.allowed...); err != nil {
				t.Fatal(err)
			}
			request := TokenRequest{ClientID: zendesktest.ClientID, ClientSecret: secret.New(zendesktest.ClientSecret), Scopes: tt.scopes}
			if tt.grant != nil {
				request.Grant = tt.grant(t, zendesk)
			}
			if tt.fault != nil {
				zendesk.AddFault(*tt.fault)
			}
			token, err := client.RequestToken(t.Context(), request)
			if got := len(zendesk.Requests()); got != tt.requests {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
			if tt.kind != "" {
				if e := failed(t, err, tt.kind); e.Attempts != tt.requests || e.Unknown() {
					t.Errorf("error is %+v", *e)
				}
				return
			}
			if err != nil || !slices.Equal(token.Scopes, tt.want) || !slices.Equal(token.RequestedScopes, tt.asked) {
				t.Errorf("token is %+v, %v", token, err)
			}
		})
	}
}

func password(*testing.T, *zendesktest.Zendesk) Grant {
	return PasswordGrant(zendesktest.Admin.Email, secret.New(zendesktest.Admin.Password))
}

func code(t *testing.T, z *zendesktest.Zendesk) Grant {
	t.Helper()
	issued, err := z.IssueCode(zendesktest.Grant{})
	if err != nil {
		t.Fatal(err)
	}
	return AuthorizationCodeGrant(secret.New(issued), zendesktest.RedirectURI, secret.Value{})
}

// When the second answer is lost, the outcome is unknown: that it was the scopes the first time says nothing any more.
func TestRequestTokenSecondAnswerLost(t *testing.T) {
	refusedScope := reply{status: 400, body: `{"error":"invalid_scope"}`}
	_, err := newClient(t, scripted(refusedScope, cut)).RequestToken(t.Context(), TokenRequest{ClientID: "c"})
	if e := failed(t, err, Unavailable); !e.Unknown() || e.Attempts != 2 {
		t.Errorf("error is %+v", *e)
	}
	_, err = newClient(t, scripted(refusedScope, reply{status: 400, body: `{"error":"invalid_grant"}`})).RequestToken(t.Context(), TokenRequest{ClientID: "c", Grant: PasswordGrant("a", secret.New("b"))})
	if e := failed(t, err, InvalidRequest); e.Code != "invalid_scope" || e.Attempts != 2 {
		t.Errorf("error is %+v", *e)
	}
}

func TestCurrentToken(t *testing.T) {
	zendesk := scripted(
		reply{body: `{"token":{"url":"u","id":223443,"user_id":46000000000001,"client_id":41,"token":"` + canary + `","scopes":["read","write"],"created_at":"2026-11-24T12:00:00Z","expires_at":"2026-11-25T12:00:00Z","used_at":null}}`},
		reply{body: `{"token":null,"text":"` + canary + `"}`},
	)
	client := newClient(t, zendesk)
	got, err := client.CurrentToken(t.Context())
	want := TokenInfo{
		ID: "223443", UserID: "46000000000001", ClientID: "41", Scopes: []string{"read", "write"},
		CreatedAt: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), ExpiresAt: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC),
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	_, err = client.CurrentToken(t.Context())
	if e := failed(t, err, BadResponse); e.Body() != "" {
		t.Errorf("body is kept: %q", e.Body())
	}
}
