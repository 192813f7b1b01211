package credentials

import (
	"fmt"
	"slices"
	"strings"
	"time"

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

// Authorization says which credential authenticates an account's requests.
type Authorization int

// Credentials that may be in force.
const (
	AuthorizationNone Authorization = iota + 1
	AuthorizationAPIToken
	AuthorizationOAuthToken
)

// State says whether the credential in force works, as far as is known.
type State int

// States of a credential.
const (
	StateOK                 State = iota + 1 // Zendesk accepted it when it was last asked
	StateExpiring                            // it works, and stops soon unless someone acts
	StateNeedsAuthorization                  // there is none, it has expired, or Zendesk refused it or its renewal
	StateUntested                            // Zendesk has not been asked with it yet
)

// Warning is something that an administrator should look at.
type Warning struct {
	Code    WarningCode
	Message string // what it means and what to do; for people
	Time    time.Time
}

// WarningCode is a kind of warning.
type WarningCode int

// Kinds of warnings.
const (
	WarningAPITokenRetirement WarningCode = iota + 1 // Zendesk retires API tokens then
	WarningTokenExpiring                             // the OAuth token expires then and has no successor
	WarningNeedsAuthorization                        // there is no credential, or it, or its renewal, was refused then
	WarningScopesMissing                             // fewer scopes were granted than asked for
	WarningNotAnAgent                                // the credential's user has no role that can do what blocks do
)

// InForce says which credential is in force.
func InForce(a store.Account) Authorization {
	switch {
	case a.OAuthToken != nil:
		return AuthorizationOAuthToken
	case a.APIToken != nil:
		return AuthorizationAPIToken
	}
	return AuthorizationNone
}

// Same tells whether the credential in force is the same in two states of an account.
func Same(a, b store.Account) bool {
	switch {
	case InForce(a) != InForce(b):
		return false
	case a.OAuthToken != nil:
		return a.OAuthToken.AccessToken.Reveal() == b.OAuthToken.AccessToken.Reveal()
	case a.APIToken != nil:
		return a.APIToken.Username == b.APIToken.Username && a.APIToken.Token.Reveal() == b.APIToken.Token.Reveal()
	}
	return true
}

// End is when the access token in force ends, or what renews it, where that has an end of its own; zero: neither is known, as
// of an API token. renews tells whether it gets a successor without a person.
func End(a store.Account, now time.Time) (end time.Time, renews bool) {
	t := a.OAuthToken
	if t == nil {
		return time.Time{}, false
	}
	end, renews = t.ExpireTime, Renewable(t, now)
	if renews && !t.Renewal.RefreshExpireTime.IsZero() {
		end = t.Renewal.RefreshExpireTime
	}
	return end, renews
}

// Renewable tells whether a token gets a successor without a person, as far as is known.
func Renewable(t *store.OAuthToken, now time.Time) bool {
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

// StateOf says whether the credential in force works at now, as far as is known.
func StateOf(a store.Account, now time.Time) State {
	switch {
	case InForce(a) == AuthorizationNone || expired(a, now) || refused(a),
		a.OAuthToken != nil && renewalRefused(a.OAuthToken):
		return StateNeedsAuthorization
	case a.Check.Time.IsZero():
		return StateUntested
	case expiring(a, now):
		return StateExpiring
	}
	return StateOK
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

// Warnings lists what an administrator should look at, the most pressing first.
func Warnings(a store.Account, now time.Time) []Warning {
	var warnings []Warning
	warn := func(code WarningCode, at time.Time, message string) {
		warnings = append(warnings, Warning{Code: code, Message: message, Time: at})
	}
	switch {
	case InForce(a) == AuthorizationNone:
		warn(WarningNeedsAuthorization, a.UpdateTime, "the account has no credential: get an OAuth token with RequestToken, or set one with UpdateAccount")
	case a.OAuthToken != nil && renewalRefused(a.OAuthToken):
		warn(WarningNeedsAuthorization, a.OAuthToken.Renewal.RefuseTime, "Zendesk refused to renew the OAuth token ("+a.OAuthToken.Renewal.Refusal+
			"): get a new one with RequestToken")
	case expired(a, now) && Renewable(a.OAuthToken, now):
		warn(WarningNeedsAuthorization, a.OAuthToken.ExpireTime, "the OAuth token has expired, and could not be renewed yet; "+
			"that is tried again, but RequestToken may help: it says what goes wrong")
	case expired(a, now):
		warn(WarningNeedsAuthorization, a.OAuthToken.ExpireTime, "the OAuth token has expired: get a new one with RequestToken")
	case refused(a) && a.Check.Reason == rejectedReason && a.OAuthToken != nil && Renewable(a.OAuthToken, now):
		warn(WarningNeedsAuthorization, a.Check.Time, "Zendesk refused the OAuth token before its time; it is renewed by itself, and if that does not help within minutes: "+
			"get a new one with RequestToken")
	case refused(a):
		warn(WarningNeedsAuthorization, a.Check.Time, "Zendesk did not accept the credential when it was last asked with it ("+a.Check.Reason+
			"): TestConnection says why; get an OAuth token with RequestToken")
	}
	if role := a.Check.Role; role != "" && !agentRole(role) {
		warn(WarningNotAnAgent, a.Check.Time, fmt.Sprintf("the credential acts as a user with the role %q: "+
			"make the person an agent again, or have an agent or administrator authorize the account", role))
	}
	if t := a.OAuthToken; t != nil {
		if !t.ExpireTime.IsZero() && !expired(a, now) && !refused(a) && (!Renewable(t, now) || expiring(a, now)) {
			warn(WarningTokenExpiring, t.ExpireTime,
				"the OAuth token expires then, and has no successor yet: get a new one with RequestToken before")
		}
		if missing := missingScopes(t.RequestedScopes, t.Scopes); len(missing) > 0 {
			warn(WarningScopesMissing, t.IssueTime,
				"Zendesk did not grant these scopes: "+strings.Join(missing, " ")+"; allow them for the OAuth client and use RequestToken again")
		}
	}
	if InForce(a) == AuthorizationAPIToken {
		warn(WarningAPITokenRetirement, apiTokenRetirement.end, apiTokenWarning(now))
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
