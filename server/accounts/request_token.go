package accounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

var (
	// RFC 6749, 3.3, with a bound on the length.
	scopeToken = regexp.MustCompile(`^[!#-\[\]-~]{1,128}$`)
	// RFC 7636, 4.1.
	codeVerifier = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
)

// RequestToken implements AccountService.
func (s *Service) RequestToken(ctx context.Context, req *zendeskv1.RequestTokenRequest) (*zendeskv1.RequestTokenResponse, error) {
	grant, request, err := newTokenRequest(req)
	if err != nil {
		return nil, err
	}
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	rpc.AddFields(ctx, slog.String("grant", grant))
	caller, _ := rpc.Caller(ctx)
	waitCtx, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	var updated store.Account
	rpc.Aside(ctx, func() { updated, err = s.credentials.RequestToken(waitCtx, caller, account, grant, request) })
	if errors.Is(err, credentials.ErrStillRequesting) && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, rpc.AccountError(tokenError(err, account.ID, grant), account.ID)
	}
	return &zendeskv1.RequestTokenResponse{Account: accountToProto(updated, s.now())}, nil
}

// tokenError tells the caller why there is no token.
func tokenError(err error, accountID, grant string) error {
	if unusable, ok := errors.AsType[*credentials.UnusableTokenError](err); ok {
		return unusableToken(unusable, accountID)
	}
	if api, ok := errors.AsType[*zendeskapi.Error](err); ok {
		return tokenRefusal(api, accountID, grant)
	}
	switch {
	case errors.Is(err, credentials.ErrTooManyExchanges):
		return &rpc.Error{
			Reason:     zendeskv1.ErrorReason_ERROR_REASON_ZENDESK_UNAVAILABLE,
			Message:    "too many token requests wait for Zendesk already",
			RetryAfter: time.Second,
		}
	case errors.Is(err, credentials.ErrStillRequesting):
		return &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
			Message:  fmt.Sprintf("Zendesk has not answered yet; if it grants the token, account %q will have it", accountID),
			Metadata: map[string]string{"account_id": accountID},
		}
	}
	return err
}

// newTokenRequest reads a token request: the name of its grant, and what Zendesk is asked.
func newTokenRequest(req *zendeskv1.RequestTokenRequest) (grant string, request zendeskapi.TokenRequest, err error) {
	var v violations
	v.AccountID("account_id", req.GetAccountId())
	v.requiredSecret("client_id", req.GetClientId(), rpc.MaxClientID)
	request = zendeskapi.TokenRequest{
		ClientID:     req.GetClientId(),
		ClientSecret: secret.New(req.GetClientSecret()),
		Scopes:       req.GetScopes(),
	}
	v.scopes("scopes", request.Scopes)
	public := false // a client without a secret
	switch g := req.GetGrant().(type) {
	case *zendeskv1.RequestTokenRequest_Password:
		grant = credentials.GrantPassword
		v.username("password.username", g.Password.GetUsername())
		v.password("password.password", g.Password.GetPassword())
		request.Grant = zendeskapi.PasswordGrant(g.Password.GetUsername(), secret.New(g.Password.GetPassword()))
	case *zendeskv1.RequestTokenRequest_AuthorizationCode:
		grant = credentials.GrantAuthorizationCode
		code, verifier := g.AuthorizationCode.GetCode(), g.AuthorizationCode.GetCodeVerifier()
		v.requiredSecret("authorization_code.code", code, rpc.MaxCode)
		v.redirectURI("authorization_code.redirect_uri", g.AuthorizationCode.GetRedirectUri())
		if public = verifier != ""; public && !codeVerifier.MatchString(verifier) {
			v.Add("authorization_code.code_verifier", "must be 43 to 128 letters, digits, hyphens, dots, underscores or tildes")
		}
		request.Grant = zendeskapi.AuthorizationCodeGrant(secret.New(code), g.AuthorizationCode.GetRedirectUri(), secret.New(verifier))
	default:
		grant = credentials.GrantClientCredentials
		request.Grant = zendeskapi.ClientCredentialsGrant()
	}
	if public && req.GetClientSecret() == "" {
		return grant, request, v.Err()
	}
	v.requiredSecret("client_secret", req.GetClientSecret(), rpc.MaxClientSecret)
	return grant, request, v.Err()
}

// tokenRefusal tells the caller why Zendesk issued no token.
func tokenRefusal(api *zendeskapi.Error, accountID, grant string) error {
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
	refusal := tokenRefused(accountID, fmt.Sprintf("Zendesk issued no token for account %q (%s): %s", accountID, said, hint), hint, api)
	addZendeskError(refusal.Metadata, api)
	return refusal
}

// unusableToken tells the caller that Zendesk issued a token which no block could use.
func unusableToken(unusable *credentials.UnusableTokenError, accountID string) error {
	api, isAPI := errors.AsType[*zendeskapi.Error](unusable.Err)
	if isAPI && api.Kind != zendeskapi.CredentialsRejected && api.Kind != zendeskapi.AccessDenied {
		return zendeskUnavailable(api, accountID)
	}
	refusal := tokenRefused(accountID, fmt.Sprintf("Zendesk issued a token for account %q that cannot be used: %s", accountID, unusable.Found.Message), unusable.Found.Message, unusable.Err)
	if isAPI {
		addZendeskError(refusal.Metadata, api)
	}
	return refusal
}

func tokenRefused(accountID, message, hint string, cause error) *rpc.Error {
	return &rpc.Error{
		Reason:   zendeskv1.ErrorReason_ERROR_REASON_TOKEN_REFUSED,
		Message:  message,
		Metadata: map[string]string{"account_id": accountID, "hint": hint},
		Cause:    cause,
	}
}

func zendeskUnavailable(api *zendeskapi.Error, accountID string) error {
	unavailable := &rpc.Error{
		Reason:     zendeskv1.ErrorReason_ERROR_REASON_ZENDESK_UNAVAILABLE,
		Message:    fmt.Sprintf("no token for account %q: %s", accountID, api.Message()),
		Metadata:   map[string]string{"account_id": accountID},
		RetryAfter: api.RetryAfter,
		Cause:      api,
	}
	addZendeskError(unavailable.Metadata, api)
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
		return "look at the account's URL, and at the hosts that the service is started with --allow-host for"
	case api.Code == "invalid_client":
		return "look at client_id and client_secret in Admin Center, Apps and integrations, APIs, OAuth clients"
	case api.Code == "invalid_scope":
		return "ask for scopes that Zendesk knows and the OAuth client may have, such as read and write"
	case api.Code == "invalid_grant" && grant == credentials.GrantAuthorizationCode:
		return "the code was used before, is older than 120 s, or was issued for another client_id, redirect_uri or code_verifier: get a new one"
	case api.Code == "invalid_grant" && grant == credentials.GrantPassword:
		return "the user name or password is wrong, or this is about the grant itself: " + removed
	case grant == credentials.GrantPassword:
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
	if len(scopes) > rpc.MaxScopes {
		v.Add(field, "has %d entries; at most %d are allowed", len(scopes), rpc.MaxScopes)
		return
	}
	for i, scope := range scopes {
		if !scopeToken.MatchString(scope) {
			v.Add(fmt.Sprintf("%s[%d]", field, i), "must be one scope, such as read: 1 to 128 printable ASCII characters without spaces and quotes")
		}
	}
}

// password checks a person's password without ever repeating it. It may hold anything that can be typed.
func (v *violations) password(field, password string) {
	switch n := utf8.RuneCountInString(password); {
	case n == 0:
		v.Add(field, "is required")
	case n > rpc.MaxPassword:
		v.Add(field, "has %d characters; at most %d are allowed", n, rpc.MaxPassword)
	}
}

// redirectURI checks where an authorization page sent its code. Zendesk compares it with the one it knows.
func (v *violations) redirectURI(field, uri string) {
	v.requiredSecret(field, uri, rpc.MaxURL)
	if uri == "" || len(uri) > rpc.MaxURL {
		return
	}
	if parsed, err := url.Parse(uri); err != nil || !parsed.IsAbs() {
		v.Add(field, "must be an absolute URI, exactly as it was when the code was asked for")
	}
}
