package zendesktest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultTokenLife is the life of an access token whose request names none.
const defaultTokenLife = 30 * time.Minute

// defaultRefreshLife is the life of a refresh token whose request names none.
const defaultRefreshLife = 30 * 24 * time.Hour

type oauthToken struct {
	id               int64
	userID           int64
	clientID         int64
	access, refresh  string
	scopes           []string
	createdAt        time.Time
	expiresAt        time.Time
	refreshExpiresAt time.Time
	usedAt           *time.Time
	revoked          bool
}

func (t *oauthToken) alive(now time.Time) bool { return !t.revoked && now.Before(t.expiresAt) }

// ExpireTokens ends the life of the access tokens named, or of all, as if
// their time had come; their refresh tokens live on. It tells how many it hit.
func (z *Zendesk) ExpireTokens(access ...string) int {
	now := z.now()
	return z.eachToken(access, func(t *oauthToken) bool {
		hit := t.alive(now)
		if hit {
			t.expiresAt = now
		}
		return hit
	})
}

// RevokeTokens kills the access tokens named, or all, with their refresh
// tokens, as an administrator can. It tells how many it hit.
func (z *Zendesk) RevokeTokens(access ...string) int {
	return z.eachToken(access, func(t *oauthToken) bool {
		hit := !t.revoked
		t.revoked = true
		return hit
	})
}

func (z *Zendesk) eachToken(access []string, act func(*oauthToken) bool) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	count := 0
	for _, t := range z.tokens {
		if (len(access) == 0 || slices.Contains(access, t.access)) && act(t) {
			count++
		}
	}
	return count
}

// random gives 64 hexadecimal digits that do not repeat. Two accounts at one
// origin give the same ones, so that they answer alike; at two origins they
// differ, so that no token of one account is good at the other. These are no
// secrets.
func (z *Zendesk) random() string {
	z.randoms++
	sum := sha256.Sum256([]byte(z.origin + " " + strconv.FormatUint(z.randoms, 10)))
	return hex.EncodeToString(sum[:])
}

// knownScopes are the ones a token can be asked for: the plain ones, and those
// of one resource.
var knownScopes = []string{
	"read", "write", "impersonate",
	"tickets:read", "tickets:write", "users:read", "users:write",
	"organizations:read", "organizations:write", "groups:read", "groups:write",
	"ticket_fields:read", "ticket_fields:write",
	"auditlogs:read", "hc:read", "hc:write", "apps:read", "apps:write",
	"automations:read", "automations:write", "triggers:read", "triggers:write",
	"targets:read", "targets:write", "webhooks:read", "webhooks:write",
	"macros:read", "macros:write", "requests:read", "requests:write",
	"satisfaction_ratings:read", "satisfaction_ratings:write", "any_channel:write", "web_widget:write",
}

func unknownScope(scopes []string) string {
	for _, s := range scopes {
		if !slices.Contains(knownScopes, s) {
			return s
		}
	}
	return ""
}

// tokenRequest is the body of POST /oauth/tokens, JSON or form.
type tokenRequest map[string]string

func readTokenRequest(r *http.Request) (tokenRequest, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && kind == "application/x-www-form-urlencoded" {
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		return firstValues(r.PostForm), nil
	}
	var body map[string]json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, err
	}
	request := tokenRequest{}
	for key, raw := range body {
		var value string
		if json.Unmarshal(raw, &value) != nil {
			value = string(raw) // a number, or something no field takes
		}
		request[key] = value
	}
	return request, nil
}

func firstValues(form url.Values) tokenRequest {
	request := tokenRequest{}
	for key := range form {
		request[key] = form.Get(key)
	}
	return request
}

// serveTokenRequest is POST /oauth/tokens.
func (z *Zendesk) serveTokenRequest(w http.ResponseWriter, r *http.Request) {
	request, err := readTokenRequest(r)
	z.mu.Lock()
	defer z.mu.Unlock()
	if refused := z.limit(w.Header(), TokensBucket); refused != nil {
		refused.write(w)
		return
	}
	if err != nil {
		oauthFailure(http.StatusBadRequest, "invalid_request", "The request could not be parsed.").write(w)
		return
	}
	z.grantToken(request, z.now()).write(w)
}

// grantToken runs one grant of RFC 6749 as Zendesk does.
func (z *Zendesk) grantToken(request tokenRequest, now time.Time) *reply {
	client, found := z.clients[request["client_id"]]
	if !found {
		return invalidClient()
	}
	secretRight := !client.public() && subtle.ConstantTimeCompare([]byte(request["client_secret"]), []byte(client.secret)) == 1
	if !secretRight && !client.secretless(request) {
		return invalidClient()
	}
	scopes := strings.Fields(request["scope"])
	if unknownScope(scopes) != "" || len(client.allowed) > 0 && !contains(client.allowed, scopes) {
		return oauthFailure(http.StatusBadRequest, "invalid_scope", "The requested scope is invalid, unknown, or malformed.")
	}
	life, refused := seconds(request, "expires_in", 301, 172_799, defaultTokenLife)
	if refused != nil {
		return refused
	}
	if z.config.TokenLife > 0 {
		life = z.config.TokenLife
	}
	refreshLife, refused := seconds(request, "refresh_token_expires_in", 604_800, 7_776_000, defaultRefreshLife)
	if refused != nil {
		return refused
	}

	t := &oauthToken{
		clientID: client.id, scopes: scopes, createdAt: now,
		expiresAt: now.Add(life), refreshExpiresAt: now.Add(refreshLife),
	}
	switch request["grant_type"] {
	case "client_credentials":
		t.userID = client.owner
	case "authorization_code":
		code, found := z.codes[request["code"]]
		// A code is used up by the first attempt, right or wrong.
		delete(z.codes, request["code"])
		if !found || !now.Before(code.expiresAt) || code.ClientID != request["client_id"] ||
			code.RedirectURI != request["redirect_uri"] || !code.verified(request["code_verifier"]) ||
			!secretRight && code.Challenge == "" {
			return invalidGrant()
		}
		t.userID, t.scopes, t.refresh = code.userID, code.Scopes, z.random()
	case "refresh_token":
		old := z.refreshable(request["refresh_token"], client.id, now)
		if old == nil {
			return invalidGrant()
		}
		if len(scopes) == 0 {
			t.scopes = old.scopes
		}
		if !contains(old.scopes, t.scopes) {
			return oauthFailure(http.StatusBadRequest, "invalid_scope", "The requested scope exceeds the one granted.")
		}
		old.revoked = true
		t.userID, t.refresh = old.userID, z.random()
	case "password":
		if !z.config.PasswordGrant {
			return unsupportedGrant()
		}
		u, found := z.userByEmail(request["username"])
		if !found || u.password == "" || u.password != request["password"] {
			return invalidGrant()
		}
		t.userID, t.refresh = u.ID, z.random()
	default:
		return unsupportedGrant()
	}
	if len(t.scopes) == 0 {
		t.scopes = []string{"read", "write"}
		if len(client.allowed) > 0 {
			t.scopes = client.allowed
		}
	}
	t.id, t.access = z.newID(), z.random()
	z.tokens = append(slices.DeleteFunc(z.tokens, func(old *oauthToken) bool { return old.useless(now) }), t)

	granted := struct {
		Access           string  `json:"access_token"`
		Refresh          *string `json:"refresh_token"`
		Type             string  `json:"token_type"`
		Scope            string  `json:"scope"`
		ExpiresIn        *int64  `json:"expires_in,omitempty"`
		RefreshExpiresIn *int64  `json:"refresh_token_expires_in,omitempty"`
	}{Access: t.access, Type: "bearer", Scope: strings.Join(t.scopes, " ")}
	if request["expires_in"] != "" {
		granted.ExpiresIn = new(int64(life / time.Second))
	}
	if t.refresh != "" {
		granted.Refresh = &t.refresh
		if request["refresh_token_expires_in"] != "" {
			granted.RefreshExpiresIn = new(int64(refreshLife / time.Second))
		}
	}
	r := answer(http.StatusOK, granted)
	r.header.Set("Cache-Control", "no-store")
	return r
}

// refreshable finds the token whose refresh token can still be redeemed.
func (z *Zendesk) refreshable(refresh string, clientID int64, now time.Time) *oauthToken {
	for _, t := range z.tokens {
		if refresh != "" && t.refresh == refresh && t.clientID == clientID && !t.revoked && now.Before(t.refreshExpiresAt) {
			return t
		}
	}
	return nil
}

// useless tells that neither half of the token can ever be used again.
func (t *oauthToken) useless(now time.Time) bool {
	return t.revoked || !t.alive(now) && (t.refresh == "" || !now.Before(t.refreshExpiresAt))
}

// contains tells whether all wanted are in granted.
func contains(granted, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(s string) bool { return !slices.Contains(granted, s) })
}

// seconds reads a life from the request; its bounds are inclusive.
func seconds(request tokenRequest, key string, least, most int64, usual time.Duration) (time.Duration, *reply) {
	if request[key] == "" {
		return usual, nil
	}
	n, err := strconv.ParseInt(request[key], 10, 64)
	if err != nil || n < least || n > most {
		return 0, oauthFailure(http.StatusBadRequest, "invalid_request",
			fmt.Sprintf("%s must be a number of seconds from %d to %d.", key, least, most))
	}
	return time.Duration(n) * time.Second, nil
}

func invalidClient() *reply {
	return oauthFailure(http.StatusUnauthorized, "invalid_client",
		"Client authentication failed due to an unknown client or a wrong secret.")
}

func invalidGrant() *reply {
	return oauthFailure(http.StatusBadRequest, "invalid_grant",
		"The code, refresh token or password is wrong, expired, used up, or another client's.")
}

func unsupportedGrant() *reply {
	return oauthFailure(http.StatusBadRequest, "unsupported_grant_type",
		"The authorization server does not support this grant type.")
}

// showCurrentToken is GET /api/v2/oauth/tokens/current.
func (z *Zendesk) showCurrentToken(c *call) *reply {
	t := c.caller.token
	if t == nil {
		return recordNotFound()
	}
	shown := struct {
		URL              string     `json:"url"`
		ID               int64      `json:"id"`
		UserID           int64      `json:"user_id"`
		ClientID         int64      `json:"client_id"`
		Token            string     `json:"token"`
		RefreshToken     *string    `json:"refresh_token"`
		Scopes           []string   `json:"scopes"`
		CreatedAt        time.Time  `json:"created_at"`
		UsedAt           *time.Time `json:"used_at"`
		ExpiresAt        time.Time  `json:"expires_at"`
		RefreshExpiresAt *time.Time `json:"refresh_token_expires_at"`
	}{
		URL: fmt.Sprintf("%s/api/v2/oauth/tokens/%d.json", c.origin, t.id),
		ID:  t.id, UserID: t.userID, ClientID: t.clientID,
		// Zendesk shows no more than this of a token once it is made.
		Token: t.access[:10], Scopes: t.scopes,
		CreatedAt: t.createdAt, UsedAt: t.usedAt, ExpiresAt: t.expiresAt,
	}
	if t.refresh != "" {
		shown.RefreshToken, shown.RefreshExpiresAt = new(t.refresh[:10]), &t.refreshExpiresAt
	}
	return answer(http.StatusOK, object{"token": shown})
}
