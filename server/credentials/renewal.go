package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	// refusalRest is how long Zendesk is not asked again after it has refused to renew a token: people may have mended the
	// OAuth client meanwhile.
	refusalRest = time.Hour

	// freshFor is how long a token that should live is not renewed although Zendesk refuses it: its successor would fare no
	// better.
	freshFor = time.Minute
)

var (
	// errNotRenewed says that an account has no other credential than the one that was refused, and gets none now.
	errNotRenewed = errors.New("the credential is not renewed")
	// errStillRenewing says that who waited for a renewal has no more time. The renewal goes on.
	errStillRenewing = errors.New("the credential is still being renewed")
	// errTooManyRenewals says that a renewal was not begun.
	errTooManyRenewals = &zendeskapi.Error{
		Op: "request_token", Kind: zendeskapi.Unavailable, RetryAfter: time.Second, Err: errors.New("too many renewals wait for Zendesk already"),
	}
)

// renewals get successors of access tokens: one at a time for each account, whoever wants it, in whichever process. A renewal
// does not end with those who wait for it, since Zendesk kills the old pair of tokens while it answers: the new one is stored
// before anything else is done. Nor does it end with its claim: what it brings is stored while the account has the credential
// that it replaces, although another process has taken this one for dead and has asked too, maybe in vain.
type renewals struct {
	keeper   *Keeper
	failures *cache.Cache[Key, failedRenewal]

	mu      sync.Mutex
	running map[Key]*renewal
}

// renewal is one that runs, or has ended.
type renewal struct {
	ended   chan struct{} // closed at the end; then the others are set
	account store.Account // with a credential that was not refused; unless err is set
	err     error
}

// failedRenewal is one that Zendesk has not decided on. The next waits a while.
type failedRenewal struct {
	of       store.Account
	err      error
	until    time.Time
	failures int // in a row
}

func newRenewals(k *Keeper) *renewals {
	return &renewals{keeper: k, failures: cache.New[Key, failedRenewal](refusalRest, k.now), running: make(map[Key]*renewal)}
}

// renew returns the account with another credential than the refused one: the one that it has by now, or a successor.
// Errors: [errNotRenewed]; [errStillRenewing] when ctx is done before; a [*zendeskapi.Error] when Zendesk did not decide.
func (r *renewals) renew(ctx context.Context, tenant string, refused store.Account) (store.Account, error) {
	if r.keeper.noWrites { // Zendesk would kill the token of those who write
		return store.Account{}, errNotRenewed
	}
	for {
		running := r.join(ctx, Key{tenant, refused.Incarnation}, refused)
		if running == nil {
			return store.Account{}, errTooManyRenewals
		}
		select {
		case <-running.ended:
		case <-ctx.Done():
			return store.Account{}, errStillRenewing
		}
		// One that was begun for an older credential may have found that the account has this one.
		if running.err != nil || !Same(running.account, refused) {
			return running.account, running.err
		}
	}
}

// join returns the account's renewal that runs, or begins one; nil when too many run.
func (r *renewals) join(ctx context.Context, key Key, refused store.Account) *renewal {
	r.mu.Lock()
	defer r.mu.Unlock()
	if running := r.running[key]; running != nil {
		return running
	}
	begun := &renewal{ended: make(chan struct{})}
	ctx = store.Fenced(context.WithoutCancel(ctx), nil) // no claim of whoever wants it keeps a token from being stored
	started := r.keeper.exchanges.start(key, maxAccountRequests+1, func() {
		defer func() {
			// No interceptor stands around this goroutine.
			if p := recover(); p != nil {
				r.keeper.panicked()
				begun.err = recovered(p)
				r.keeper.log.Error("renewing a token panicked", "tenant", key.Tenant, "account_id", refused.ID, "error", begun.err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.running, key)
			close(begun.ended)
		}()
		begun.account, begun.err = r.inTurn(ctx, key, refused)
	})
	if !started {
		return nil
	}
	r.running[key] = begun
	return begun
}

// inTurn is replace when no other process renews the credential: it may have replaced it then.
func (r *renewals) inTurn(ctx context.Context, key Key, refused store.Account) (store.Account, error) {
	wait, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	turn, err := r.keeper.store.AwaitClaim(wait, "renewal", key.Tenant, key.Incarnation)
	switch {
	case errors.Is(err, store.ErrClaimed):
		return store.Account{}, errStillRenewing
	case err != nil:
		r.keeper.log.Error("a renewal of a token could not be begun", "tenant", key.Tenant, "account_id", refused.ID, "store_error", err)
		return store.Account{}, err
	}
	defer turn.Release()
	return r.replace(ctx, key, refused)
}

// replace finds or gets what replaces a refused credential. Whoever has replaced it meanwhile has won.
func (r *renewals) replace(ctx context.Context, key Key, refused store.Account) (store.Account, error) {
	account, err := r.current(ctx, key, refused)
	if err != nil && !errors.Is(err, errNotRenewed) {
		r.keeper.log.Error("account could not be read for the renewal of its token", "tenant", key.Tenant, "account_id", refused.ID, "store_error", err)
	}
	if err != nil || !Same(account, refused) {
		return account, err
	}
	if may, wait := mayRenew(account, r.keeper.now()); !may {
		if wait > 0 {
			return store.Account{}, &tooFreshError{r.keeper.now().Add(wait), wait}
		}
		return store.Account{}, errNotRenewed
	}
	failed, _ := r.failures.Get(key)
	if !Same(failed.of, account) {
		failed = failedRenewal{of: account}
	}
	if r.keeper.now().Before(failed.until) {
		return store.Account{}, failed.err
	}
	log := r.keeper.log.With("tenant", key.Tenant, "account_id", account.ID, "grant", account.OAuthToken.Renewal.Grant)
	token, err := r.request(ctx, key.Tenant, account)
	if err == nil {
		renewed, err := r.keep(ctx, key, account, token)
		if err == nil {
			r.failures.Drop(key)
			r.keeper.renewed("renewed")
			log.Info("token renewed", "expire_time", renewed.OAuthToken.ExpireTime)
			r.keeper.Changed(key)
		}
		return r.unlessChanged(ctx, key, account, renewed, err, log)
	}
	api, _ := errors.AsType[*zendeskapi.Error](err)
	if api == nil {
		return store.Account{}, err
	}
	log = log.With("error", err, "zendesk_error", api.Code)
	if api.Kind == zendeskapi.CredentialsRejected || api.Kind == zendeskapi.InvalidRequest {
		err := r.keepRefusal(ctx, key, account, cmp.Or(api.Code, string(api.Kind)))
		if err == nil {
			r.keeper.renewed("refused")
			log.Error("token renewal is refused: the account needs RequestToken", "expire_time", account.OAuthToken.ExpireTime)
			err = errNotRenewed
		}
		return r.unlessChanged(ctx, key, account, store.Account{}, err, log)
	}
	failed.err, failed.failures = err, failed.failures+1
	failed.until = r.keeper.now().Add(Backoff(failed.failures, api.Pause))
	r.failures.Put(key, failed)
	r.keeper.renewed("failed")
	log.Warn("token renewal failed", "until", failed.until, "expire_time", account.OAuthToken.ExpireTime)
	return store.Account{}, err
}

// current reads the account again; [errNotRenewed] when it is gone.
func (r *renewals) current(ctx context.Context, key Key, account store.Account) (store.Account, error) {
	account, err := r.keeper.store.AccountOf(ctx, key.Tenant, store.AccountUse{AccountID: account.ID, Incarnation: account.Incarnation})
	if errors.Is(err, store.ErrNotFound) {
		return store.Account{}, errNotRenewed
	}
	return account, err
}

// unlessChanged ends a renewal whose outcome was stored, unless someone has replaced the credential meanwhile: then that
// one counts.
func (r *renewals) unlessChanged(ctx context.Context, key Key, before, renewed store.Account, err error, log *slog.Logger) (store.Account, error) {
	switch {
	case replaced(err):
		return r.current(ctx, key, before)
	case err != nil && !errors.Is(err, errNotRenewed):
		log.Error("outcome of a token renewal could not be stored", "store_error", err)
	}
	return renewed, err
}

// replaced tells the errors that say that the credential which was renewed is not the account's any more.
func replaced(err error) bool {
	return errors.Is(err, errCredentialChanged) || errors.Is(err, store.ErrNotFound)
}

// mayRenew tells whether Zendesk is to be asked for a successor of the credential in force, or how long to wait before it
// is; 0: it is not.
func mayRenew(a store.Account, now time.Time) (may bool, wait time.Duration) {
	t := a.OAuthToken
	if t == nil || !renewalHeld(t, now) || renewalRefused(t) && now.Before(t.Renewal.RefuseTime.Add(refusalRest)) {
		return false, 0
	}
	wait = freshUntil(t).Sub(now)
	return wait <= 0, max(wait, 0)
}

// freshUntil is when a token stops being so new that a successor would fare no better.
func freshUntil(t *store.OAuthToken) time.Time {
	return t.IssueTime.Add(min(freshFor, t.ExpireTime.Sub(t.IssueTime)/2))
}

// tooFreshError says that a token is refused which Zendesk has just granted, and when it is renewed.
type tooFreshError struct {
	until time.Time
	wait  time.Duration
}

func (e *tooFreshError) Error() string {
	return "it is renewed from " + e.until.UTC().Format("15:04:05 MST") + " on"
}

// request asks Zendesk for a successor. A connection that was cut is tried again at once: of a pair that was rotated in
// vain, that tells the end.
func (r *renewals) request(ctx context.Context, tenant string, account store.Account) (*store.OAuthToken, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	client, err := r.keeper.client(limit.Background, tenant, account)
	if err != nil {
		return nil, err
	}
	old := account.OAuthToken
	request := zendeskapi.TokenRequest{
		ClientID:     old.ClientID,
		ClientSecret: old.Renewal.ClientSecret,
		Scopes:       old.RequestedScopes,
		Grant:        zendeskapi.ClientCredentialsGrant(),
	}
	if old.Renewal.Grant == grantRefreshToken {
		// More than the old token had would be refused.
		request.Scopes, request.Grant = nil, zendeskapi.RefreshTokenGrant(old.Renewal.RefreshToken)
	}
	issued := r.keeper.now()
	granted, err := client.RequestToken(ctx, request)
	if api, ok := errors.AsType[*zendeskapi.Error](err); ok && api.Kind == zendeskapi.Unavailable && api.StatusCode == 0 {
		granted, err = client.RequestToken(ctx, request)
	}
	if err != nil {
		return nil, err
	}
	token := grantedToken(granted, old.Renewal.Grant, request, issued)
	token.RequestedScopes = old.RequestedScopes
	if len(token.Scopes) == 0 {
		token.Scopes = old.Scopes
	}
	if token.Renewal == nil {
		token.Renewal = old.Renewal // RFC 6749, 6: without a new refresh token the old one stays
	}
	return token, nil
}

// keep stores a successor. Errors: [errCredentialChanged], [store.ErrNotFound], and the store's when it gave up.
func (r *renewals) keep(ctx context.Context, key Key, account store.Account, token *store.OAuthToken) (store.Account, error) {
	note := r.keeper.audit.NoteAnyway(audit.Service(key.Tenant), "token renewed", slog.String("account_id", account.ID),
		slog.String("grant", account.OAuthToken.Renewal.Grant), slog.String("client_id", token.ClientID), slog.Any("scopes", token.Scopes))
	return r.keeper.persist(key.Tenant, account.ID, func() (store.Account, error) {
		return r.update(ctx, key, account, func(a *store.Account) {
			a.OAuthToken = token
			if a.Check.Reason == rejectedReason || a.Check.OK {
				a.Check = store.Check{Time: r.keeper.now(), OK: true, Role: a.Check.Role}
			}
		}, note)
	})
}

// keepRefusal stores that Zendesk refuses to renew the token. Errors: [errCredentialChanged], [store.ErrNotFound].
func (r *renewals) keepRefusal(ctx context.Context, key Key, account store.Account, why string) error {
	_, err := r.update(ctx, key, account, func(a *store.Account) {
		token, held := *a.OAuthToken, *a.OAuthToken.Renewal
		held.RefuseTime, held.Refusal = r.keeper.now(), why
		token.Renewal = &held
		a.OAuthToken = &token
	})
	return err
}

// update changes the account if its credential is still the one that was to be renewed.
func (r *renewals) update(ctx context.Context, key Key, account store.Account, change func(*store.Account), notes ...store.Note) (store.Account, error) {
	updated, err := r.keeper.store.UpdateAccount(ctx, key.Tenant, account.ID, "", func(a *store.Account) error {
		if a.Incarnation != account.Incarnation || !Same(*a, account) {
			return errCredentialChanged
		}
		change(a)
		return nil
	}, notes...)
	if err != nil {
		return store.Account{}, fmt.Errorf("renewing the token of account %q: %w", account.ID, err)
	}
	return updated, nil
}
