package zendesktest

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Roles of a user, least first.
const (
	roleEndUser = "end-user"
	roleAgent   = "agent"
	roleAdmin   = "admin"
)

// idleAPIToken is how long an API token may go unused before Zendesk
// deactivates it.
const idleAPIToken = 30 * 24 * time.Hour

// apiToken authenticates as any user of the account: the user name beside it
// says which.
type apiToken struct {
	usedAt      time.Time
	deactivated bool
}

// caller is who a request comes from. The zero value is nobody.
type caller struct {
	user  user
	token *oauthToken // nil with an API token
}

func (c caller) known() bool { return c.user.ID != 0 }

// authenticate finds out who calls and whether they may; its result is the
// refusal.
func (z *Zendesk) authenticate(c *call, a access) *reply {
	scheme, credentials, _ := strings.Cut(c.Header.Get("Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "basic":
		c.caller = z.apiTokenCaller(credentials, c.now)
	case "bearer":
		if c.caller = z.bearer(strings.TrimSpace(credentials), c.now); !c.caller.known() {
			return invalidToken()
		}
	}
	switch {
	case !c.caller.known() && a.anonymous:
		return nil
	case !c.caller.known():
		return unauthenticated()
	case a.role == roleAgent && c.caller.user.Role == roleEndUser:
		return forbidden()
	case c.caller.token != nil && len(a.scope) > 0 && !c.caller.token.allows(a.scope):
		return failure(http.StatusForbidden, "Forbidden",
			"You are missing the following required scopes: "+a.scope[0])
	}
	if name := c.Header.Get("X-On-Behalf-Of"); name != "" {
		return z.impersonate(c, a, name)
	}
	return nil
}

// apiTokenCaller checks "{email}/token:{token}". Passwords are not accepted
// any more.
func (z *Zendesk) apiTokenCaller(credentials string, now time.Time) caller {
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(credentials))
	if err != nil {
		return caller{}
	}
	name, secret, _ := strings.Cut(string(decoded), ":")
	email, isToken := strings.CutSuffix(name, "/token")
	token := z.apiTokens[secret]
	if !isToken || token == nil || token.deactivated {
		return caller{}
	}
	if now.Sub(token.usedAt) > idleAPIToken {
		token.deactivated = true
		return caller{}
	}
	u, found := z.userByEmail(email)
	if !found || u.Suspended || !u.Active {
		return caller{}
	}
	token.usedAt = now
	return caller{user: u}
}

func (z *Zendesk) bearer(access string, now time.Time) caller {
	for _, t := range z.tokens {
		if t.access != access || !t.alive(now) {
			continue
		}
		u, found := z.users.get(t.userID)
		if !found || u.Suspended || !u.Active {
			return caller{}
		}
		t.usedAt = &now
		return caller{user: u, token: t}
	}
	return caller{}
}

func (t *oauthToken) allows(scopes []string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(t.scopes, s) })
}

func unauthenticated() *reply {
	r := answer(http.StatusUnauthorized, object{"error": "Couldn't authenticate you"})
	r.header.Set("WWW-Authenticate", `Basic realm="Web Password"`)
	return r
}

func invalidToken() *reply {
	r := oauthFailure(http.StatusUnauthorized, "invalid_token",
		"The access token provided is expired, revoked, malformed or invalid for other reasons.")
	r.header.Set("WWW-Authenticate", `Bearer realm="Zendesk", error="invalid_token"`)
	return r
}
