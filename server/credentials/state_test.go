package credentials

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
)

func TestCredentialState(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	tested := store.Check{Time: now.Add(-time.Hour), OK: true}
	apiToken := &store.APIToken{Username: "joe@acme.com"}
	renewal := &store.Renewal{Grant: GrantClientCredentials}
	oauth := func(age, left time.Duration, renewal *store.Renewal) *store.OAuthToken {
		return &store.OAuthToken{IssueTime: now.Add(-age), ExpireTime: now.Add(left), Renewal: renewal, RequestedScopes: []string{"read", "write"}, Scopes: []string{"read", "write"}}
	}
	for _, test := range []struct {
		name     string
		account  store.Account
		auth     Authorization
		state    State
		warnings []WarningCode
	}{
		{"no credential", store.Account{}, AuthorizationNone, StateNeedsAuthorization, []WarningCode{WarningNeedsAuthorization}},
		{"new API token", store.Account{APIToken: apiToken}, AuthorizationAPIToken, StateUntested, []WarningCode{WarningAPITokenRetirement}},
		{"good API token", store.Account{APIToken: apiToken, Check: tested}, AuthorizationAPIToken, StateOK, []WarningCode{WarningAPITokenRetirement}},
		{"refused API token", store.Account{APIToken: apiToken, Check: store.Check{Time: now, Reason: "CREDENTIALS_REJECTED"}}, AuthorizationAPIToken, StateNeedsAuthorization, []WarningCode{WarningNeedsAuthorization, WarningAPITokenRetirement}},
		{"pasted OAuth token", store.Account{APIToken: apiToken, OAuthToken: &store.OAuthToken{}}, AuthorizationOAuthToken, StateUntested, nil},
		{"good OAuth token", store.Account{OAuthToken: oauth(time.Hour, 23*time.Hour, renewal), Check: tested}, AuthorizationOAuthToken, StateOK, nil},
		{"good OAuth token that nothing renews", store.Account{OAuthToken: oauth(time.Hour, 23*time.Hour, nil), Check: tested}, AuthorizationOAuthToken, StateOK, []WarningCode{WarningTokenExpiring}},
		{"refresh token has ended", store.Account{OAuthToken: oauth(time.Hour, 23*time.Hour, &store.Renewal{Grant: grantRefreshToken, RefreshExpireTime: now}), Check: tested}, AuthorizationOAuthToken, StateOK, []WarningCode{WarningTokenExpiring}},
		{"a tenth of its life left", store.Account{OAuthToken: oauth(9*time.Hour, time.Hour, renewal), Check: tested}, AuthorizationOAuthToken, StateExpiring, []WarningCode{WarningTokenExpiring}},
		{"more than a tenth of its life left", store.Account{OAuthToken: oauth(9*time.Hour, time.Hour+time.Minute, renewal), Check: tested}, AuthorizationOAuthToken, StateOK, nil},
		{"a day of a long life left", store.Account{OAuthToken: oauth(99*24*time.Hour, 24*time.Hour, renewal), Check: tested}, AuthorizationOAuthToken, StateExpiring, []WarningCode{WarningTokenExpiring}},
		{"more than a day of a long life left", store.Account{OAuthToken: oauth(99*24*time.Hour, 25*time.Hour, renewal), Check: tested}, AuthorizationOAuthToken, StateOK, nil},
		{"expired", store.Account{OAuthToken: oauth(time.Hour, 0, renewal), Check: tested}, AuthorizationOAuthToken, StateNeedsAuthorization, []WarningCode{WarningNeedsAuthorization}},
		{"taken after its end", store.Account{OAuthToken: oauth(3*time.Hour, -2*time.Hour, renewal), Check: tested}, AuthorizationOAuthToken, StateExpiring, []WarningCode{WarningTokenExpiring}},
		{"refused OAuth token", store.Account{OAuthToken: oauth(time.Hour, 23*time.Hour, renewal), Check: store.Check{Time: now}}, AuthorizationOAuthToken, StateNeedsAuthorization, []WarningCode{WarningNeedsAuthorization}},
		{"scopes missing", store.Account{OAuthToken: &store.OAuthToken{RequestedScopes: []string{"read", "write"}, Scopes: []string{"read"}}, Check: tested}, AuthorizationOAuthToken, StateOK, []WarningCode{WarningScopesMissing}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if auth, state := InForce(test.account), StateOf(test.account, now); auth != test.auth || state != test.state {
				t.Errorf("authorization %v, state %v, want %v, %v", auth, state, test.auth, test.state)
			}
			if diff := cmp.Diff(test.warnings, warnings(test.account, now)); diff != "" {
				t.Errorf("warnings differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPITokenWarningTime(t *testing.T) {
	account := store.Account{APIToken: &store.APIToken{}}
	for _, now := range []time.Time{apiTokenRetirement.creationEnds.Add(-time.Hour), apiTokenRetirement.end.Add(time.Hour)} {
		warnings := Warnings(account, now)
		if len(warnings) != 1 || !warnings[0].Time.Equal(apiTokenRetirement.end) || warnings[0].Message == "" {
			t.Errorf("at %v warnings are %v", now, warnings)
		}
	}
}

func TestEnd(t *testing.T) {
	now := time.Date(2026, time.November, 26, 12, 0, 0, 0, time.UTC)
	soon, later := now.Add(time.Hour), now.Add(24*time.Hour)
	for name, test := range map[string]struct {
		token  *store.OAuthToken
		end    time.Time
		renews bool
	}{
		"API token":                {},
		"alone":                    {&store.OAuthToken{ExpireTime: soon}, soon, false},
		"renewed without end":      {&store.OAuthToken{ExpireTime: soon, Renewal: &store.Renewal{}}, soon, true},
		"renewed by what ends":     {&store.OAuthToken{ExpireTime: soon, Renewal: &store.Renewal{RefreshExpireTime: later}}, later, true},
		"what renews it has ended": {&store.OAuthToken{ExpireTime: soon, Renewal: &store.Renewal{RefreshExpireTime: now}}, soon, false},
		"renewal is refused":       {&store.OAuthToken{ExpireTime: soon, Renewal: &store.Renewal{RefreshExpireTime: later, RefuseTime: now}}, soon, false},
	} {
		if end, renews := End(store.Account{OAuthToken: test.token}, now); !end.Equal(test.end) || renews != test.renews {
			t.Errorf("%s: %v, %t, want %v, %t", name, end, renews, test.end, test.renews)
		}
	}
}
