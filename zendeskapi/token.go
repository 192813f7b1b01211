package zendeskapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

const (
	// Asked for, because without a wish the answer does not tell the life and a short one looks endless. Zendesk's bounds
	// are 300 s to 172,800 s, and 604,800 s to 7,776,000 s.
	accessTokenLife  = 24 * time.Hour
	refreshTokenLife = 60 * 24 * time.Hour

	// What Zendesk gives a token when nothing tells its life.
	unknownTokenLife = 30 * time.Minute

	maxTokenAnswerBytes = 1 << 20

	grantOp, grantPath = "request_token", "/oauth/tokens"

	// Learning it is not worth more: there is a token already.
	expiryTimeout = 5 * time.Second
)

// TokenRequest asks for an OAuth access token.
type TokenRequest struct {
	ClientID     string
	ClientSecret secret.Value // empty for public clients
	Scopes       []string     // such as "read", "write"; none: what the grant usually goes with, see RequestToken
	Grant        Grant        // the zero value is ClientCredentialsGrant
}

// Grant is what entitles to a token.
type Grant struct {
	kind    string
	plain   map[string]string
	secrets map[string]secret.Value
}

// ClientCredentialsGrant acts as the owner of the OAuth client. Its tokens come without a refresh token.
func ClientCredentialsGrant() Grant { return Grant{kind: "client_credentials"} }

// PasswordGrant takes a user's name and password. Zendesk removed it on 17 February 2025; older set-ups still answer.
func PasswordGrant(username string, password secret.Value) Grant {
	return Grant{
		kind:    "password",
		plain:   map[string]string{"username": username},
		secrets: map[string]secret.Value{"password": password},
	}
}

// AuthorizationCodeGrant takes the code that a person brought back; it lives 120 s. redirectURI must be the one that the
// code was asked for with. verifier is the PKCE code verifier (RFC 7636); empty without PKCE.
func AuthorizationCodeGrant(code secret.Value, redirectURI string, verifier secret.Value) Grant {
	g := Grant{
		kind:    "authorization_code",
		plain:   map[string]string{"redirect_uri": redirectURI},
		secrets: map[string]secret.Value{"code": code},
	}
	if verifier.Reveal() != "" {
		g.secrets["code_verifier"] = verifier
	}
	return g
}

// RefreshTokenGrant takes a refresh token. Zendesk kills it, and its access token, while it answers: store the answer
// before anything else.
func RefreshTokenGrant(refreshToken secret.Value) Grant {
	return Grant{kind: "refresh_token", secrets: map[string]secret.Value{"refresh_token": refreshToken}}
}

// Secrets are what of the request nobody may be told.
func (r TokenRequest) Secrets() []secret.Value {
	return append(slices.Collect(maps.Values(r.Grant.secrets)), r.ClientSecret)
}

// Token is what Zendesk granted.
type Token struct {
	AccessToken      secret.Value
	RefreshToken     secret.Value // empty: none
	ExpiresAt        time.Time    // of the access token
	RefreshExpiresAt time.Time    // of the refresh token; zero: not told
	Scopes           []string     // granted; may be others than were asked for
	RequestedScopes  []string     // what the request that was granted asked for; none: it named no scope
}

// RequestToken gets an access token. It needs no credential, is sent once, and follows no redirect: the request holds
// secrets, and some grants can be used only once. Kinds of errors: CredentialsRejected (with Code invalid_client or
// invalid_grant) and InvalidRequest (invalid_scope, unsupported_grant_type) when Zendesk refuses; else those of a write.
// Code holds Zendesk's error and Detail its description, which is left out when it may repeat anything of the request or
// of a token; Body is always empty.
//
// With no Scopes, client credentials are sent without any, for Zendesk to grant what the client is allowed, a refresh token
// too, for those of the old token, and the other grants with read and write. When Zendesk refuses that as invalid_scope,
// the other form is sent, once. Scopes that were given are sent as they are, and never others.
//
// When the answer does not tell when the token expires, tokens/current is asked, else the token itself (a JWT), else 30
// minutes are assumed. A token that came with a refresh token is not used here: its pair must be stored first.
// https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
func (c *Client) RequestToken(ctx context.Context, r TokenRequest) (Token, error) {
	if r.Grant.kind == "" {
		r.Grant = ClientCredentialsGrant()
	}
	c = c.keeping(r.Secrets()...)
	if len(r.Scopes) > 0 {
		token, e := c.requestToken(ctx, r)
		if e != nil {
			return Token{}, e
		}
		return token, nil
	}
	forms := [][]string{nil, usualScopes}
	if r.Grant.kind != "client_credentials" && r.Grant.kind != "refresh_token" {
		slices.Reverse(forms)
	}
	r.Scopes = forms[0]
	token, refused := c.requestToken(ctx, r)
	if refused == nil {
		return token, nil
	}
	if refused.Code != "invalid_scope" || refused.Unknown() || ctx.Err() != nil {
		return Token{}, refused
	}
	r.Scopes = forms[1]
	token, e := c.requestToken(ctx, r)
	switch {
	case e == nil:
		return token, nil
	case e.Kind == InvalidRequest || e.Code == "invalid_grant":
		e = refused // the second try has used up nothing that the first has not: the scopes are what is wrong
	}
	e.Attempts = 2
	return Token{}, e
}

// usualScopes are asked for when nobody named any, of grants that go with some.
var usualScopes = []string{"read", "write"}

// requestToken sends one token request.
func (c *Client) requestToken(ctx context.Context, r TokenRequest) (Token, *Error) {
	if c.transport.noWrites {
		return Token{}, notSent(&Error{Op: grantOp, Kind: NoWrites})
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
		TokenURL:       c.origin + grantPath,
		Scopes:         r.Scopes,
		EndpointParams: form,
		// Trying out styles would send a failed request twice.
		AuthStyle: oauth2.AuthStyleInParams,
	}
	asked := time.Now()
	traced, progress := watch(c.sending(ctx, grantOp, 1))
	exchange := &tokenExchange{base: c.http.Transport, userAgent: c.userAgent}
	_, err := config.Token(context.WithValue(traced, oauth2.HTTPClient, &http.Client{
		Transport:     exchange,
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}))
	// The answer is read here: the library takes none whose lesser parts are odd, and Zendesk has killed the old pair.
	token, ok := exchange.token(asked)
	told := request{op: grantOp, method: http.MethodPost, path: grantPath}
	if !ok {
		e := c.tokenError(ctx, err, exchange, progress)
		c.sent(ctx, told, 1, asked, exchange.answer, e)
		return Token{}, e
	}
	c.sent(ctx, told, 1, asked, exchange.answer, nil)
	c = c.keeping(token.AccessToken, token.RefreshToken)
	token.Scopes, token.RequestedScopes = c.tellAll(token.Scopes), r.Scopes
	if token.Scopes == nil {
		token.Scopes = r.Scopes // RFC 6749, 5.1: left out when they are those asked for
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
	answer    *answer // nil: none
	cut       error   // the answer broke off
}

// RoundTrip implements [http.RoundTripper].
func (x *tokenExchange) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", x.userAgent)
	res, err := x.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x.answer = newAnswer(res.StatusCode, res.Header)
	x.answer.body, x.cut = io.ReadAll(io.LimitReader(res.Body, maxTokenAnswerBytes))
	if closeErr := res.Body.Close(); x.cut == nil {
		x.cut = closeErr
	}
	res.Body = io.NopCloser(bytes.NewReader(x.answer.body))
	return res, nil
}

// token reads the answer's token, if it holds one.
func (x *tokenExchange) token(asked time.Time) (Token, bool) {
	if x.answer == nil || x.cut != nil || x.answer.status < 200 || x.answer.status > 299 {
		return Token{}, false
	}
	o, err := readObject(x.answer.body)
	if err != nil {
		return Token{}, false
	}
	access, ok := o.secret("access_token")
	refresh, refreshOK := o.secret("refresh_token")
	if !ok || !refreshOK || access.Reveal() == "" || o.text("error") != "" {
		return Token{}, false
	}
	token := Token{AccessToken: access, RefreshToken: refresh, Scopes: o.texts("scope")}
	if life, ok := whole(o.lenient("expires_in")); ok && life > 0 {
		token.ExpiresAt = asked.Add(lifetime(life))
	}
	if life, ok := whole(o.lenient("refresh_token_expires_in")); ok && life > 0 {
		token.RefreshExpiresAt = asked.Add(lifetime(life))
	}
	return token, true
}

// secret returns a text that decides; ok is false when there is something else.
func (o object) secret(name string) (text secret.Value, ok bool) {
	raw, err := o.get(name)
	if err != nil {
		return secret.Value{}, false
	}
	if isNull(raw) {
		return secret.Value{}, true
	}
	var value string
	err = json.Unmarshal(raw, &value)
	return secret.New(value), err == nil
}

// lifetime is a number of seconds that a token may live for.
func lifetime(seconds int64) time.Duration {
	const longest = 10 * 365 * 24 * time.Hour
	return min(time.Duration(min(seconds, int64(longest/time.Second)))*time.Second, longest)
}

// tokenError is the error of a request that brought no token. The library's text holds the body.
func (c *Client) tokenError(ctx context.Context, err error, x *tokenExchange, progress *progress) *Error {
	got := x.answer
	if got == nil {
		e := connectionError(ctx, err, progress.phase())
		e.Op, e.Attempts, e.unknown = grantOp, 1, progress.left()
		return e
	}
	var e *Error
	c = c.keeping(tokensIn(got.body)...)
	said, reported := parseFault(got.body, c.tellOfToken)
	switch {
	case x.cut != nil:
		e = connectionError(ctx, x.cut, phaseReading)
		if e.Kind == Unavailable {
			e.Kind, e.Err = BadResponse, errNotToken
		}
		e.unknown = true
	case got.status < 200 || got.status > 299 || reported:
		e = c.refusal(got, said)
		if got.status >= 200 && got.status <= 299 {
			e.Detail = "" // an answer of success is about a token
		}
	default:
		// The answer is no token; its text may be parts of one.
		e = &Error{Kind: BadResponse, Err: errNotToken, unknown: true}
	}
	e.Op, e.Attempts, e.StatusCode, e.Date = grantOp, 1, got.status, got.date
	e.RequestID = c.requestID(got.header)
	if !tokenErrors.MatchString(e.Code) {
		e.Code, e.Detail = "", first(e.Detail, e.Code)
	}
	e.Fields = nil
	return e
}

// tokenErrors is what codes of errors look like (RFC 6749, 5.2, and those of Zendesk).
var tokenErrors = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)

// knownTokenErrors are told whatever the secrets are: by them it is decided what to do (RFC 6749, 5.2).
var knownTokenErrors = []string{
	"invalid_request", "invalid_client", "invalid_grant", "invalid_scope", "unauthorized_client", "unsupported_grant_type",
}

// tellOfToken is the teller of token requests: there it is all or nothing.
func (c *Client) tellOfToken(text string, n int) string {
	if slices.Contains(knownTokenErrors, text) {
		return text
	}
	if len(text) > maxLineBytes || c.secrets().Holds(text) {
		return ""
	}
	return oneLine(text, n)
}

// namedTokens finds tokens, also in an answer that is broken.
var namedTokens = regexp.MustCompile(`(?i)(?:token|secret|assertion|code|password)[\\"']{0,4}\s{0,9}[:=]\s{0,9}[\\"']{0,4}([^\\"'\s&,}]{8,})`)

// tokensIn lists what may be tokens in the answer to a token request.
func tokensIn(body []byte) []secret.Value {
	const most = 20
	var tokens []secret.Value
	for _, found := range namedTokens.FindAllSubmatch(body[:min(len(body), maxBodyTextBytes)], most) {
		tokens = append(tokens, secret.New(string(found[1])))
	}
	return tokens
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
	if err != nil {
		return time.Time{}, false
	}
	claims, err := readObject(payload)
	exp, ok := whole(claims.lenient("exp"))
	if err != nil || !ok || exp <= 0 {
		return time.Time{}, false
	}
	return time.Unix(exp, 0), true
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

// readTokenInfo reads Zendesk's token object. Its scopes decide.
func readTokenInfo(o object) (TokenInfo, error) {
	_, err := o.get("scopes")
	return TokenInfo{
		ID: o.text("id"), UserID: o.text("user_id"), ClientID: o.text("client_id"), Scopes: o.texts("scopes"),
		CreatedAt: o.time("created_at"), ExpiresAt: o.time("expires_at"),
	}, err
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
	out.token.Scopes, out.token.ID, out.token.UserID, out.token.ClientID = c.tellAll(out.token.Scopes), c.tell(out.token.ID, maxCodeRunes),
		c.tell(out.token.UserID, maxCodeRunes), c.tell(out.token.ClientID, maxCodeRunes)
	return out.token, nil
}

type currentTokenAnswer struct{ token TokenInfo }

func (a *currentTokenAnswer) read(o object) error {
	token, err := o.object("token")
	if err != nil {
		return err
	}
	if token == nil {
		return errNotToken
	}
	a.token, err = readTokenInfo(token)
	return err
}
