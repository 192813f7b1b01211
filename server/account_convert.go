package server

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// apiTokenRetirement is Zendesk's calendar for API tokens (https://support.zendesk.com/hc/en-us/articles/10840968198042).
var apiTokenRetirement = struct {
	creationEnds time.Time     // from then on nobody can create one
	idle         time.Duration // one that is unused for so long is deactivated
	end          time.Time     // from then on none works
}{
	creationEnds: time.Date(2026, time.October, 27, 0, 0, 0, 0, time.UTC),
	idle:         30 * 24 * time.Hour,
	end:          time.Date(2027, time.April, 30, 0, 0, 0, 0, time.UTC),
}

// maxExpiringWindow is how long before its end at most a token counts as expiring.
const maxExpiringWindow = 24 * time.Hour

// accountToProto converts an account as it is at now. No secret is in the result.
func accountToProto(a store.Account, now time.Time) *zendeskv1.Account {
	account := &zendeskv1.Account{
		AccountId:       a.ID,
		Name:            a.Name,
		Url:             a.URL,
		DefaultAccount:  a.Default,
		DefaultRegion:   a.DefaultRegion,
		Authorization:   authorizationOf(a),
		CredentialState: credentialState(a, now),
		Warnings:        accountWarnings(a, now),
		Etag:            a.ETag,
		CreateTime:      timestamppb.New(a.CreateTime),
		UpdateTime:      timestamppb.New(a.UpdateTime),
	}
	if t := a.APIToken; t != nil {
		account.ApiToken = &zendeskv1.ApiToken{Username: t.Username}
	}
	if t := a.OAuthToken; t != nil {
		account.OauthToken = &zendeskv1.OAuthToken{ClientId: t.ClientID, Scopes: t.Scopes, Renewable: renewable(t, now)}
		if !t.ExpireTime.IsZero() {
			account.OauthToken.ExpireTime = timestamppb.New(t.ExpireTime)
		}
	}
	return account
}

// authorizationOf says which credential is in force.
func authorizationOf(a store.Account) zendeskv1.Authorization {
	switch {
	case a.OAuthToken != nil:
		return zendeskv1.Authorization_AUTHORIZATION_OAUTH_TOKEN
	case a.APIToken != nil:
		return zendeskv1.Authorization_AUTHORIZATION_API_TOKEN
	}
	return zendeskv1.Authorization_AUTHORIZATION_NONE
}

// sameCredential tells whether the credential in force is the same in two states of an account.
func sameCredential(a, b store.Account) bool {
	switch {
	case authorizationOf(a) != authorizationOf(b):
		return false
	case a.OAuthToken != nil:
		return a.OAuthToken.AccessToken.Reveal() == b.OAuthToken.AccessToken.Reveal()
	case a.APIToken != nil:
		return a.APIToken.Username == b.APIToken.Username && a.APIToken.Token.Reveal() == b.APIToken.Token.Reveal()
	}
	return true
}

// renewable tells whether a token gets a successor without a person, as far as is known.
func renewable(t *store.OAuthToken, now time.Time) bool {
	return renewalHeld(t, now) && !renewalRefused(t)
}

// renewalHeld tells whether there is what it takes to ask Zendesk for a successor of a token.
func renewalHeld(t *store.OAuthToken, now time.Time) bool {
	r := t.Renewal
	return r != nil && (r.RefreshExpireTime.IsZero() || now.Before(r.RefreshExpireTime))
}

func renewalRefused(t *store.OAuthToken) bool {
	return t.Renewal != nil && !t.Renewal.RefuseTime.IsZero()
}

// credentialState says whether the credential in force works at now, as far as is known.
func credentialState(a store.Account, now time.Time) zendeskv1.CredentialState {
	switch {
	case authorizationOf(a) == zendeskv1.Authorization_AUTHORIZATION_NONE || expired(a, now) || refused(a),
		a.OAuthToken != nil && renewalRefused(a.OAuthToken):
		return zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION
	case a.Check.Time.IsZero():
		return zendeskv1.CredentialState_CREDENTIAL_STATE_UNTESTED
	case expiring(a, now):
		return zendeskv1.CredentialState_CREDENTIAL_STATE_EXPIRING
	}
	return zendeskv1.CredentialState_CREDENTIAL_STATE_OK
}

func refused(a store.Account) bool { return !a.Check.Time.IsZero() && !a.Check.OK }

// expired tells that the token in force has ended, unless Zendesk took it after the end that it was thought to have.
func expired(a store.Account, now time.Time) bool {
	t := a.OAuthToken
	return t != nil && !t.ExpireTime.IsZero() && !now.Before(t.ExpireTime) && (!a.Check.OK || !a.Check.Time.After(t.ExpireTime))
}

// expiring tells that the end of the token in force is near: a tenth of its life, or a day if that is shorter.
func expiring(a store.Account, now time.Time) bool {
	t := a.OAuthToken
	if t == nil || t.ExpireTime.IsZero() {
		return false
	}
	window := maxExpiringWindow
	if !t.IssueTime.IsZero() {
		window = min(window, t.ExpireTime.Sub(t.IssueTime)/10)
	}
	return !now.Before(t.ExpireTime.Add(-window))
}

// accountWarnings lists what an administrator should look at, the most pressing first.
func accountWarnings(a store.Account, now time.Time) []*zendeskv1.AccountWarning {
	var warnings []*zendeskv1.AccountWarning
	warn := func(code zendeskv1.AccountWarningCode, at time.Time, message string) {
		warnings = append(warnings, &zendeskv1.AccountWarning{Code: code, Message: message, Time: timestamppb.New(at)})
	}
	const needsAuthorization = zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_NEEDS_AUTHORIZATION
	switch {
	case authorizationOf(a) == zendeskv1.Authorization_AUTHORIZATION_NONE:
		warn(needsAuthorization, a.UpdateTime, "the account has no credential: get an OAuth token with RequestToken, or set one with UpdateAccount")
	case a.OAuthToken != nil && renewalRefused(a.OAuthToken):
		warn(needsAuthorization, a.OAuthToken.Renewal.RefuseTime, "Zendesk refused to renew the OAuth token ("+a.OAuthToken.Renewal.Refusal+
			"): get a new one with RequestToken")
	case expired(a, now) && renewable(a.OAuthToken, now):
		warn(needsAuthorization, a.OAuthToken.ExpireTime, "the OAuth token has expired, and could not be renewed yet; "+
			"that is tried again, but RequestToken may help: it says what goes wrong")
	case expired(a, now):
		warn(needsAuthorization, a.OAuthToken.ExpireTime, "the OAuth token has expired: get a new one with RequestToken")
	case refused(a):
		warn(needsAuthorization, a.Check.Time, "Zendesk did not accept the credential when it was last asked with it ("+a.Check.Reason+
			"): TestConnection says why; get an OAuth token with RequestToken")
	}
	if role := a.Check.Role; role != "" && !agentRole(role) {
		warn(zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_NOT_AN_AGENT, a.Check.Time, fmt.Sprintf("the credential acts as a user with the role %q: "+
			"make the person an agent again, or have an agent or administrator authorize the account", role))
	}
	if t := a.OAuthToken; t != nil {
		if !t.ExpireTime.IsZero() && !expired(a, now) && !refused(a) && (!renewable(t, now) || expiring(a, now)) {
			warn(zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_TOKEN_EXPIRING, t.ExpireTime,
				"the OAuth token expires then, and has no successor yet: get a new one with RequestToken before")
		}
		if missing := missingScopes(t.RequestedScopes, t.Scopes); len(missing) > 0 {
			warn(zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_SCOPES_MISSING, t.IssueTime,
				"Zendesk did not grant these scopes: "+strings.Join(missing, " ")+"; allow them for the OAuth client and use RequestToken again")
		}
	}
	if authorizationOf(a) == zendeskv1.Authorization_AUTHORIZATION_API_TOKEN {
		warn(zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_API_TOKEN_RETIREMENT, apiTokenRetirement.end, apiTokenWarning(now))
	}
	return warnings
}

func apiTokenWarning(now time.Time) string {
	if !now.Before(apiTokenRetirement.end) {
		return "Zendesk ended all API tokens then: get an OAuth token with RequestToken"
	}
	return fmt.Sprintf("Zendesk ends all API tokens then, creates none from %s on, and deactivates one that is unused for %d days: get an OAuth token with RequestToken",
		apiTokenRetirement.creationEnds.Format("2 January 2006"), apiTokenRetirement.idle/(24*time.Hour))
}

// agentRole tells whether users of a role can do what the service does.
func agentRole(role string) bool { return role == "agent" || role == "admin" }

// missingScopes lists the scopes that were asked for and not granted. Nothing is missing when either is not known.
func missingScopes(requested, granted []string) []string {
	var missing []string
	for _, scope := range requested {
		if len(granted) > 0 && !slices.Contains(granted, scope) {
			missing = append(missing, scope)
		}
	}
	return missing
}
