package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Limits of token requests. The proto comments state the same figures.
const (
	maxClientID     = 255
	maxClientSecret = 1024
	maxPassword     = 1024 // characters
	maxCode         = 4096
	maxRedirectURI  = 2048
	maxScopes       = 50
)

const (
	tokenExchangeTimeout = 20 * time.Second // for Zendesk's part; it does not end with the caller's
	maxTokenExchanges    = 32               // at a time
)

var (
	// RFC 6749, 3.3, with a bound on the length.
	scopeToken = regexp.MustCompile(`^[!#-\[\]-~]{1,128}$`)
	// RFC 7636, 4.1.
	codeVerifier = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
)

var defaultScopes = []string{"read", "write"}

// Names of OAuth grants, as they are stored for renewal.
const (
	clientCredentials = "client_credentials"
	authorizationCode = "authorization_code"
	passwordGrant     = "password"
	refreshToken      = "refresh_token"
)

// RequestToken implements AccountService. What was sent to Zendesk is finished and stored also when the caller does not
// wait for it.
func (s *accountService) RequestToken(ctx context.Context, req *zendeskv1.RequestTokenRequest) (*zendeskv1.RequestTokenResponse, error) {
	grant, request, err := newTokenRequest(req)
	if err != nil {
		return nil, err
	}
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	logging.AddFields(ctx, logging.Fields{"grant", grant})
	type outcome struct {
		account store.Account
		err     error
	}
	ended := make(chan outcome, 1)
	started := s.exchanges.start(func() {
		var o outcome
		defer func() {
			// No interceptor stands around this goroutine.
			if p := recover(); p != nil {
				o.err = recovered(ctx, p)
			}
			ended <- o
		}()
		o.account, o.err = s.exchangeToken(context.WithoutCancel(ctx), account, grant, request)
	})
	if !started {
		return nil, &publicError{
			reason:     zendeskv1.ErrorReason_ERROR_REASON_ZENDESK_UNAVAILABLE,
			message:    "too many token requests wait for Zendesk already",
			retryAfter: time.Second,
		}
	}
	waitCtx, cancel := answerInTime(ctx)
	defer cancel()
	select {
	case o := <-ended:
		if o.err != nil {
			return nil, accountError(o.err, account.ID)
		}
		return &zendeskv1.RequestTokenResponse{Account: accountToProto(o.account, s.now())}, nil
	case <-waitCtx.Done():
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, &publicError{
		reason:   zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
		message:  fmt.Sprintf("Zendesk has not answered yet; if it grants the token, account %q will have it", account.ID),
		metadata: map[string]string{"account_id": account.ID},
	}
}

// wait returns when the token requests that run have ended, which takes them little more than tokenExchangeTimeout. No
// new one may come: the server has stopped.
func (s *accountService) wait() { s.exchanges.group.Wait() }

// exchangeToken gets a token, asks Zendesk with it who it is, and puts it in force. Asking comes first because none of
// the grants takes an old token away: until the new one is known to work, the account keeps the one it has.
func (s *accountService) exchangeToken(ctx context.Context, account store.Account, grant string, request zendeskapi.TokenRequest) (store.Account, error) {
	zendeskCtx, cancel := context.WithTimeout(ctx, tokenExchangeTimeout)
	defer cancel()
	client, err := s.zendesk.client(account)
	if err != nil {
		return store.Account{}, tokenRefusal(err, account.ID, grant)
	}
	issued := s.now()
	granted, err := client.RequestToken(zendeskCtx, request)
	if err != nil {
		return store.Account{}, tokenRefusal(err, account.ID, grant)
	}
	token := grantedToken(granted, grant, request, issued)
	candidate := account
	candidate.OAuthToken = token
	if client, err = s.zendesk.client(candidate); err != nil {
		return store.Account{}, err
	}
	user, err := client.Me(zendeskCtx)
	if f := userFinding(user, err); f.outcome != zendeskv1.CheckOutcome_CHECK_OUTCOME_OK {
		return store.Account{}, unusableToken(f, err, account.ID)
	}
	updated, err := s.store.UpdateAccount(ctx, tenantOf(ctx), account.ID, "", func(a *store.Account) error {
		if a.Incarnation != account.Incarnation {
			return store.ErrNotFound
		}
		a.OAuthToken = token
		a.Check = store.Check{Time: s.now(), OK: true, Role: user.Role}
		return nil
	})
	if err == nil {
		s.changed(tenantOf(ctx))
		s.audit.note(ctx, "token stored", slog.String("account_id", account.ID), slog.String("grant", grant), slog.String("client_id", token.ClientID), slog.Any("scopes", token.Scopes))
	}
	return updated, err
}

// newTokenRequest reads a token request: the name of its grant, and what Zendesk is asked.
func newTokenRequest(req *zendeskv1.RequestTokenRequest) (grant string, request zendeskapi.TokenRequest, err error) {
	var v violations
	v.accountID("account_id", req.GetAccountId())
	v.requiredSecret("client_id", req.GetClientId(), maxClientID)
	request = zendeskapi.TokenRequest{
		ClientID:     req.GetClientId(),
		ClientSecret: zendeskapi.NewSecret(req.GetClientSecret()),
		Scopes:       req.GetScopes(),
	}
	if len(request.Scopes) == 0 {
		request.Scopes = defaultScopes
	}
	v.scopes("scopes", request.Scopes)
	public := false // a client without a secret
	switch g := req.GetGrant().(type) {
	case *zendeskv1.RequestTokenRequest_Password:
		grant = passwordGrant
		v.username("password.username", g.Password.GetUsername())
		v.password("password.password", g.Password.GetPassword())
		request.Grant = zendeskapi.PasswordGrant(g.Password.GetUsername(), zendeskapi.NewSecret(g.Password.GetPassword()))
	case *zendeskv1.RequestTokenRequest_AuthorizationCode:
		grant = authorizationCode
		code, verifier := g.AuthorizationCode.GetCode(), g.AuthorizationCode.GetCodeVerifier()
		v.requiredSecret("authorization_code.code", code, maxCode)
		v.redirectURI("authorization_code.redirect_uri", g.AuthorizationCode.GetRedirectUri())
		if public = verifier != ""; public && !codeVerifier.MatchString(verifier) {
			v.add("authorization_code.code_verifier", "must be 43 to 128 letters, digits, hyphens, dots, underscores or tildes")
		}
		request.Grant = zendeskapi.AuthorizationCodeGrant(zendeskapi.NewSecret(code), g.AuthorizationCode.GetRedirectUri(), zendeskapi.NewSecret(verifier))
	default:
		grant = clientCredentials
		request.Grant = zendeskapi.ClientCredentialsGrant()
	}
	if public && req.GetClientSecret() == "" {
		return grant, request, v.err()
	}
	v.requiredSecret("client_secret", req.GetClientSecret(), maxClientSecret)
	return grant, request, v.err()
}

// grantedToken is what is stored of a granted token: with what renews it, never with a password.
func grantedToken(granted zendeskapi.Token, grant string, request zendeskapi.TokenRequest, issued time.Time) *store.OAuthToken {
	token := &store.OAuthToken{
		AccessToken:     store.NewSecret(granted.AccessToken.Reveal()),
		ClientID:        request.ClientID,
		Scopes:          granted.Scopes,
		RequestedScopes: request.Scopes,
		IssueTime:       issued,
		ExpireTime:      granted.ExpiresAt,
	}
	switch {
	case granted.RefreshToken.Reveal() != "":
		token.Renewal = &store.Renewal{
			Grant:             refreshToken,
			RefreshToken:      store.NewSecret(granted.RefreshToken.Reveal()),
			RefreshExpireTime: granted.RefreshExpiresAt,
		}
	case grant == clientCredentials:
		token.Renewal = &store.Renewal{Grant: clientCredentials}
	default:
		return token
	}
	token.Renewal.ClientSecret = store.NewSecret(request.ClientSecret.Reveal())
	return token
}

// tokenRefusal tells the caller why Zendesk issued no token.
func tokenRefusal(err error, accountID, grant string) error {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok {
		return err
	}
	switch api.Kind {
	case zendeskapi.CredentialsRejected, zendeskapi.AccessDenied, zendeskapi.InvalidRequest, zendeskapi.NotFound:
	default:
		return zendeskUnavailable(api, accountID)
	}
	said := cmp.Or(api.Code, string(api.Kind))
	if api.Detail != "" {
		said += ": " + api.Detail
	}
	hint := tokenHint(api, grant)
	refusal := tokenRefused(accountID, fmt.Sprintf("Zendesk issued no token for account %q (%s): %s", accountID, said, hint), hint, err)
	addZendeskError(refusal.metadata, api)
	return refusal
}

// unusableToken tells the caller that Zendesk issued a token which no block could use.
func unusableToken(f finding, err error, accountID string) error {
	api, isAPI := errors.AsType[*zendeskapi.Error](err)
	if isAPI && api.Kind != zendeskapi.CredentialsRejected && api.Kind != zendeskapi.AccessDenied {
		return zendeskUnavailable(api, accountID)
	}
	refusal := tokenRefused(accountID, fmt.Sprintf("Zendesk issued a token for account %q that cannot be used: %s", accountID, f.message), f.message, err)
	if isAPI {
		addZendeskError(refusal.metadata, api)
	}
	return refusal
}

func tokenRefused(accountID, message, hint string, cause error) *publicError {
	return &publicError{
		reason:   zendeskv1.ErrorReason_ERROR_REASON_TOKEN_REFUSED,
		message:  message,
		metadata: map[string]string{"account_id": accountID, "hint": hint},
		cause:    cause,
	}
}

func zendeskUnavailable(api *zendeskapi.Error, accountID string) error {
	unavailable := &publicError{
		reason:     zendeskv1.ErrorReason_ERROR_REASON_ZENDESK_UNAVAILABLE,
		message:    fmt.Sprintf("no token for account %q: %s", accountID, api.Message()),
		metadata:   map[string]string{"account_id": accountID},
		retryAfter: api.RetryAfter,
		cause:      api,
	}
	addZendeskError(unavailable.metadata, api)
	return unavailable
}

// addZendeskError adds to the metadata of an error what Zendesk said.
func addZendeskError(metadata map[string]string, api *zendeskapi.Error) {
	for key, value := range map[string]string{
		"zendesk_error":             api.Code,
		"zendesk_error_description": api.Detail,
		"zendesk_request_id":        api.RequestID,
	} {
		if value != "" {
			metadata[key] = value
		}
	}
	if api.StatusCode != 0 {
		metadata["http_status"] = strconv.Itoa(api.StatusCode)
	}
}

// tokenHint says what to do about an error of the token endpoint (RFC 6749, 5.2).
func tokenHint(api *zendeskapi.Error, grant string) string {
	const removed = "Zendesk removed the password grant on 17 February 2025: use client_credentials or authorization_code"
	switch {
	case api.StatusCode == 0:
		return "look at the account's URL, and at the hosts that the service's configuration allows"
	case api.Code == "invalid_client":
		return "look at client_id and client_secret in Admin Center, Apps and integrations, APIs, OAuth clients"
	case api.Code == "invalid_scope":
		return "ask for scopes that Zendesk knows and the OAuth client may have, such as read and write"
	case api.Code == "invalid_grant" && grant == authorizationCode:
		return "the code was used before, is older than 120 s, or was issued for another client_id, redirect_uri or code_verifier: get a new one"
	case api.Code == "invalid_grant" && grant == passwordGrant:
		return "the user name or password is wrong, or this is about the grant itself: " + removed
	case grant == passwordGrant:
		return removed
	case api.Code == "unsupported_grant_type", api.Code == "unauthorized_client":
		return "the OAuth client may not use the grant " + grant + ": client_credentials wants a confidential client"
	case api.Kind == zendeskapi.NotFound:
		return "look at the account's URL: no Zendesk takes token requests there"
	}
	return "look at the OAuth client in Admin Center, Apps and integrations, APIs, OAuth clients"
}

// scopes checks OAuth scopes.
func (v *violations) scopes(field string, scopes []string) {
	if len(scopes) > maxScopes {
		v.add(field, "has %d entries; at most %d are allowed", len(scopes), maxScopes)
		return
	}
	for i, scope := range scopes {
		if !scopeToken.MatchString(scope) {
			v.add(fmt.Sprintf("%s[%d]", field, i), "must be one scope, such as read: 1 to 128 printable ASCII characters without spaces and quotes")
		}
	}
}

// password checks a person's password without ever repeating it. It may hold anything that can be typed.
func (v *violations) password(field, password string) {
	switch n := utf8.RuneCountInString(password); {
	case n == 0:
		v.add(field, "is required")
	case n > maxPassword:
		v.add(field, "has %d characters; at most %d are allowed", n, maxPassword)
	}
}

// redirectURI checks where an authorization page sent its code. Zendesk compares it with the one it knows.
func (v *violations) redirectURI(field, uri string) {
	v.requiredSecret(field, uri, maxRedirectURI)
	if parsed, err := url.Parse(uri); uri != "" && (err != nil || !parsed.IsAbs()) {
		v.add(field, "must be an absolute URI, exactly as it was when the code was asked for")
	}
}

// tokenExchanges runs what outlives its caller.
type tokenExchanges struct {
	mu      sync.Mutex
	running int
	group   sync.WaitGroup
}

// start runs exchange in a goroutine of its own; false when too many run already.
func (x *tokenExchanges) start(exchange func()) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running == maxTokenExchanges {
		return false
	}
	x.running++
	x.group.Go(func() {
		defer func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.running--
		}()
		exchange()
	})
	return true
}
