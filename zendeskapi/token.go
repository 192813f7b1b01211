package zendeskapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	// Asked for, because without a wish the answer does not tell the life and a short one looks endless. Zendesk's bounds
	// are 300 s to 172,800 s, and 604,800 s to 7,776,000 s.
	accessTokenLife  = 24 * time.Hour
	refreshTokenLife = 60 * 24 * time.Hour

	// What Zendesk gives a token when nothing tells its life.
	unknownTokenLife = 30 * time.Minute

	// Learning it is not worth more: there is a token already.
	expiryTimeout = 5 * time.Second
)

// TokenRequest asks for an OAuth access token.
type TokenRequest struct {
	ClientID     string
	ClientSecret Secret   // empty for public clients
	Scopes       []string // such as "read", "write"; with RefreshTokenGrant none means those of the old token
	Grant        Grant    // the zero value is ClientCredentialsGrant
}

// Grant is what entitles to a token.
type Grant struct {
	kind    string
	plain   map[string]string
	secrets map[string]Secret
}

// ClientCredentialsGrant acts as the owner of the OAuth client. Its tokens come without a refresh token.
func ClientCredentialsGrant() Grant { return Grant{kind: "client_credentials"} }

// PasswordGrant takes a user's name and password. Zendesk removed it on 17 February 2025; older set-ups still answer.
func PasswordGrant(username string, password Secret) Grant {
	return Grant{
		kind:    "password",
		plain:   map[string]string{"username": username},
		secrets: map[string]Secret{"password": password},
	}
}

// AuthorizationCodeGrant takes the code that a person brought back; it lives 120 s. redirectURI must be the one that the
// code was asked for with. verifier is the PKCE code verifier (RFC 7636); empty without PKCE.
func AuthorizationCodeGrant(code Secret, redirectURI string, verifier Secret) Grant {
	g := Grant{
		kind:    "authorization_code",
		plain:   map[string]string{"redirect_uri": redirectURI},
		secrets: map[string]Secret{"code": code},
	}
	if verifier.Reveal() != "" {
		g.secrets["code_verifier"] = verifier
	}
	return g
}

// RefreshTokenGrant takes a refresh token. Zendesk kills it, and its access token, while it answers: store the answer
// before anything else.
func RefreshTokenGrant(refreshToken Secret) Grant {
	return Grant{kind: "refresh_token", secrets: map[string]Secret{"refresh_token": refreshToken}}
}

// Token is what Zendesk granted.
type Token struct {
	AccessToken      Secret
	RefreshToken     Secret    // empty: none
	ExpiresAt        time.Time // of the access token
	RefreshExpiresAt time.Time // of the refresh token; zero: not told
	Scopes           []string  // granted; may be others than were asked for
}

// RequestToken gets an access token. It needs no credential, is sent once, and follows no redirect: the request holds
// secrets, and some grants can be used only once. Kinds of errors: CredentialsRejected (with Code invalid_client or
// invalid_grant) and InvalidRequest (invalid_scope, unsupported_grant_type) when Zendesk refuses; else those of a write.
// Code and Detail hold Zendesk's error and its description; Body is always empty.
//
// When the answer does not tell when the token expires, tokens/current is asked, else the token itself (a JWT), else 30
// minutes are assumed. A token that came with a refresh token is not used here: its pair must be stored first.
// https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
func (c *Client) RequestToken(ctx context.Context, r TokenRequest) (Token, error) {
	if r.Grant.kind == "" {
		r.Grant = ClientCredentialsGrant()
	}
	form := url.Values{
		"grant_type": {r.Grant.kind},
		"expires_in": {strconv.Itoa(int(accessTokenLife / time.Second))},
	}
	if r.Grant.kind == "authorization_code" || r.Grant.kind == "refresh_token" {
		form.Set("refresh_token_expires_in", strconv.Itoa(int(refreshTokenLife/time.Second)))
	}
	for name, value := range r.Grant.plain {
		form.Set(name, value)
	}
	for name, value := range r.Grant.secrets {
		form.Set(name, value.Reveal())
	}
	config := clientcredentials.Config{
		ClientID:       r.ClientID,
		ClientSecret:   r.ClientSecret.Reveal(),
		TokenURL:       c.origin + "/oauth/tokens",
		Scopes:         r.Scopes,
		EndpointParams: form,
		// Trying out styles would send a failed request twice.
		AuthStyle: oauth2.AuthStyleInParams,
	}
	asked := time.Now()
	traced, left := watchDeparture(ctx)
	exchange := &tokenExchange{base: c.http.Transport, userAgent: c.userAgent}
	granted, err := config.Token(context.WithValue(traced, oauth2.HTTPClient, &http.Client{
		Transport:     exchange,
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}))
	if err != nil {
		return Token{}, tokenError(ctx, err, exchange, left.Load(), r)
	}
	token := Token{
		AccessToken: NewSecret(granted.AccessToken),
		ExpiresAt:   granted.Expiry,
		Scopes:      r.Scopes, // RFC 6749, 5.1: left out when they are those asked for
	}
	// Not granted.RefreshToken: the library fills in the one that was sent, which is dead by now.
	if refresh, ok := granted.Extra("refresh_token").(string); ok && refresh != "" {
		token.RefreshToken = NewSecret(refresh)
	}
	if scope, ok := granted.Extra("scope").(string); ok {
		token.Scopes = strings.Fields(scope)
	}
	if life, ok := granted.Extra("refresh_token_expires_in").(float64); ok && life > 0 {
		token.RefreshExpiresAt = asked.Add(time.Duration(life) * time.Second)
	}
	if token.ExpiresAt.IsZero() {
		token.ExpiresAt = c.expiryOf(ctx, token, asked)
	}
	return token, nil
}

// tokenExchange names the product to Zendesk, and keeps what the library does not hand on.
type tokenExchange struct {
	base      http.RoundTripper
	userAgent string
	status    int
	header    http.Header
}

// RoundTrip implements [http.RoundTripper].
func (x *tokenExchange) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", x.userAgent)
	res, err := x.base.RoundTrip(r)
	if err == nil {
		x.status, x.header = res.StatusCode, res.Header
	}
	return res, err
}

// tokenError replaces the library's error, whose text holds the body.
func tokenError(ctx context.Context, err error, x *tokenExchange, left bool, r TokenRequest) *Error {
	var e *Error
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case ok:
		said, _ := parseFault(refused.Body)
		e = refusal(x.status, x.header, said)
	case x.status == 0 || ctx.Err() != nil:
		e = connectionError(ctx, err)
		e.unknown = left
	default:
		// The answer broke off or is no token; the cause's text may repeat parts of it.
		e = &Error{Kind: BadResponse, Err: errNotToken, unknown: true}
	}
	e.Op, e.Attempts, e.StatusCode = "request_token", 1, x.status
	e.RequestID = sanitize(x.header.Get("X-Request-Id"), maxCodeRunes)
	for _, secret := range append(slices.Collect(maps.Values(r.Grant.secrets)), r.ClientSecret) {
		e.Code, e.Detail = redactSecret(secret, e.Code), redactSecret(secret, e.Detail)
	}
	return e
}

// expiryOf finds out when a token ends that came without its life.
func (c *Client) expiryOf(ctx context.Context, token Token, asked time.Time) time.Time {
	if token.RefreshToken.Reveal() == "" {
		ctx, cancel := context.WithTimeout(ctx, expiryTimeout)
		defer cancel()
		bearer := *c
		bearer.credential = BearerCredential(token.AccessToken)
		if info, err := bearer.CurrentToken(ctx); err == nil && !info.ExpiresAt.IsZero() {
			return info.ExpiresAt
		}
	}
	if exp, ok := jwtExpiry(token.AccessToken.Reveal()); ok {
		return exp
	}
	return asked.Add(unknownTokenLife)
}

// jwtExpiry reads the exp claim (RFC 7519, 4.1.4). The signature is not checked: only Zendesk is told the token.
func jwtExpiry(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Exp int64 }
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Exp <= 0 {
		return time.Time{}, false
	}
	return time.Unix(claims.Exp, 0), true
}

// TokenInfo is what Zendesk knows about an access token.
type TokenInfo struct {
	ID        string
	UserID    string // who it acts as
	ClientID  string // the OAuth client's numeric id
	Scopes    []string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: Zendesk did not tell
}

// UnmarshalJSON reads Zendesk's token object.
func (t *TokenInfo) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID        id
		UserID    id `json:"user_id"`
		ClientID  id `json:"client_id"`
		Scopes    []string
		CreatedAt *time.Time `json:"created_at"`
		ExpiresAt *time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*t = TokenInfo{ID: string(wire.ID), UserID: string(wire.UserID), ClientID: string(wire.ClientID), Scopes: wire.Scopes}
	if wire.CreatedAt != nil {
		t.CreatedAt = *wire.CreatedAt
	}
	if wire.ExpiresAt != nil {
		t.ExpiresAt = *wire.ExpiresAt
	}
	return nil
}

// CurrentToken returns what Zendesk knows about the access token that the client authenticates with. Kinds of errors:
// those of a read.
// https://developer.zendesk.com/api-reference/ticketing/oauth/oauth_tokens/#show-token
func (c *Client) CurrentToken(ctx context.Context) (TokenInfo, error) {
	var out currentTokenAnswer
	r := request{op: "current_token", method: http.MethodGet, path: apiPath("oauth", "tokens", "current"), quiet: true}
	if _, err := c.do(ctx, true, r, &out); err != nil {
		return TokenInfo{}, err
	}
	return *out.Token, nil
}

type currentTokenAnswer struct{ Token *TokenInfo }

func (a *currentTokenAnswer) validate() error {
	if a.Token == nil {
		return errNotToken
	}
	return nil
}
