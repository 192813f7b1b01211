package credentials

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	// exchangeTimeout is for Zendesk's part of a token request. It does not end with the caller's.
	exchangeTimeout = 20 * time.Second

	// Pauses between the tries to store a new token, each twice as long as the one before.
	firstStorePause = 50 * time.Millisecond
	lastStorePause  = 2 * time.Second
)

// Names of OAuth grants, as they are stored for renewal.
const (
	GrantClientCredentials = "client_credentials"
	GrantAuthorizationCode = "authorization_code"
	GrantPassword          = "password"
	grantRefreshToken      = "refresh_token"
)

var (
	// ErrTooManyExchanges says that a token was not asked for, since too many requests wait for Zendesk already.
	ErrTooManyExchanges = errors.New("too many token requests wait for Zendesk already")
	// ErrStillRequesting says that ctx was done before Zendesk answered. If it grants the token, the account will have it.
	ErrStillRequesting = errors.New("the token request has not been answered yet")
)

// UnusableTokenError says that Zendesk granted a token which no block could use. Nothing was stored.
type UnusableTokenError struct {
	Found Check // what users/me told
	Err   error // what the request failed with; nil: the user is no agent
}

func (e *UnusableTokenError) Error() string { return "the token cannot be used: " + e.Found.Message }

func (e *UnusableTokenError) Unwrap() error { return e.Err }

// RequestToken gets a token by one of the grants, asks Zendesk with it who it is, and puts it in force. Asking comes first
// because none of the grants takes an old token away: until the new one is known to work, the account keeps the one it has.
// What was sent to Zendesk is finished and stored also when ctx is done before. Errors: [ErrTooManyExchanges],
// [ErrStillRequesting], [*UnusableTokenError], [*zendeskapi.Error] when Zendesk granted none, and the store's.
func (k *Keeper) RequestToken(ctx context.Context, caller auth.Caller, account store.Account, grant string, request zendeskapi.TokenRequest) (store.Account, error) {
	if err := k.audit.Ready(); err != nil {
		return store.Account{}, err // what Zendesk grants is stored in any case
	}
	type outcome struct {
		account store.Account
		err     error
	}
	ended := make(chan outcome, 1)
	started := k.exchanges.start(Key{caller.Tenant, account.Incarnation}, maxAccountRequests, func() {
		var o outcome
		defer func() {
			if p := recover(); p != nil {
				k.panicked()
				o.err = recovered(p)
			}
			ended <- o
		}()
		o.account, o.err = k.exchange(context.WithoutCancel(ctx), caller, account, grant, request)
	})
	if !started {
		return store.Account{}, ErrTooManyExchanges
	}
	select {
	case o := <-ended:
		return o.account, o.err
	case <-ctx.Done():
		return store.Account{}, ErrStillRequesting
	}
}

func (k *Keeper) exchange(ctx context.Context, caller auth.Caller, account store.Account, grant string, request zendeskapi.TokenRequest) (store.Account, error) {
	zendeskCtx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	client, err := k.client(limit.Background, caller.Tenant, account)
	if err != nil {
		return store.Account{}, err
	}
	issued := k.now()
	granted, err := client.RequestToken(zendeskCtx, request)
	if err != nil {
		return store.Account{}, err
	}
	token := grantedToken(granted, grant, request, issued)
	candidate := account
	candidate.OAuthToken = token
	if client, err = k.client(limit.Background, caller.Tenant, candidate, append(request.Secrets(), secretsOf(account)...)...); err != nil {
		return store.Account{}, err
	}
	user, err := client.Me(zendeskCtx)
	if found := userCheck(user, err); found.Outcome != OutcomeOK {
		return store.Account{}, &UnusableTokenError{found, err}
	}
	note := k.audit.NoteAnyway(caller, "token stored", slog.String("account_id", account.ID), slog.String("grant", grant),
		slog.String("client_id", token.ClientID), slog.Any("scopes", token.Scopes))
	updated, err := k.persist(caller.Tenant, account.ID, func() (store.Account, error) {
		return k.store.UpdateAccount(ctx, caller.Tenant, account.ID, "", func(a *store.Account) error {
			if a.Incarnation != account.Incarnation {
				return store.ErrNotFound
			}
			a.OAuthToken = token
			a.Check = store.Check{Time: k.now(), OK: true, Role: user.Role}
			return nil
		}, note)
	})
	if err == nil {
		k.Changed(Key{caller.Tenant, account.Incarnation})
	}
	return updated, err
}

// persist stores a new token by put, again and again while the store fails: Zendesk gives it once, and may have killed the
// one before. It ends without success when the credential was replaced meanwhile, the store is closed, or the drain is over.
func (k *Keeper) persist(tenant, accountID string, put func() (store.Account, error)) (store.Account, error) {
	log := k.log.With("tenant", tenant, "account_id", accountID)
	for pause := firstStorePause; ; pause = min(2*pause, lastStorePause) {
		account, err := put()
		if err == nil || replaced(err) {
			return account, err
		}
		if pause == firstStorePause {
			log.Error("a new token cannot be stored; it is kept in memory, and storing is tried again", "error", err)
		}
		select {
		case <-time.After(pause):
		case <-k.ended:
			log.Error("a new token was never stored: the account needs RequestToken", "error", err)
			return store.Account{}, err
		}
		if errors.Is(err, store.ErrClosed) {
			return store.Account{}, err
		}
	}
}

// grantedToken is what is stored of a granted token: with what renews it, never with a password.
func grantedToken(granted zendeskapi.Token, grant string, request zendeskapi.TokenRequest, issued time.Time) *store.OAuthToken {
	token := &store.OAuthToken{
		AccessToken:     granted.AccessToken,
		ClientID:        request.ClientID,
		Scopes:          granted.Scopes,
		RequestedScopes: granted.RequestedScopes,
		IssueTime:       issued,
		ExpireTime:      granted.ExpiresAt,
	}
	switch {
	case !granted.RefreshToken.IsZero():
		token.Renewal = &store.Renewal{
			Grant:             grantRefreshToken,
			RefreshToken:      granted.RefreshToken,
			RefreshExpireTime: granted.RefreshExpiresAt,
		}
	case grant == GrantClientCredentials:
		token.Renewal = &store.Renewal{Grant: GrantClientCredentials}
	default:
		return token
	}
	token.Renewal.ClientSecret = request.ClientSecret
	return token
}
