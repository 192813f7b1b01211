// Package credentials asks Zendesk as an account, and keeps the account's credential alive meanwhile.
//
// It hides which credential is in force, how tokens are got, renewed and stored before anything uses them, what is done for
// accounts from time to time so that they stay usable, and what Zendesk's answers say about a credential's state. It knows
// nothing of gRPC.
//
//	keeper := credentials.New(credentials.Config{...})
//	err := keeper.Do(ctx, limit.Blocks, tenant, &account, func(client *zendeskapi.Client) (err error) {
//		found, err = client.Search(ctx, query)
//		return err
//	})
//	failure := credentials.FailureOf(err)
package credentials

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// useMemory is how long it is remembered that an account was used.
const useMemory = 24 * time.Hour

// Config is what a Keeper depends on. All but UserAgent, TestEvery, NoWrites, Renewed and Panicked is required.
type Config struct {
	Store     *store.Store
	Transport *zendeskapi.Transport // shared by all accounts
	UserAgent string                // sent to Zendesk
	TestEvery time.Duration         // how often, about, the connection of each account is tested; 0: only when asked
	NoWrites  bool                  // no token is renewed, and what Zendesk says of credentials is not kept: the data are a copy
	Audit     *audit.Log
	Log       *slog.Logger
	Now       func() time.Time
	Renewed   func(result string) // is told how a renewal of a token ended: renewed, refused or failed; nil: nobody is
	Panicked  func()              // is called when what is done in the background has panicked; nil: nothing is
}

// Keeper asks Zendesk as accounts, and keeps what that says about their credentials. It is safe for concurrent use.
type Keeper struct {
	transport *zendeskapi.Transport
	userAgent string
	store     *store.Store
	noWrites  bool
	audit     *audit.Log
	log       *slog.Logger
	now       func() time.Time
	renewed   func(result string)
	panicked  func()
	exchanges exchanges
	renewals  *renewals
	upkeep    *upkeep
	courses   *courses
	uses      *cache.Cache[Key, time.Time] // when Zendesk last took an account's credential
	ended     chan struct{}                // closed when what could not be stored is given up
	end       func()                       // closes it
}

// Key tells an account of a tenant from all others, also from one that had its id before.
type Key struct{ Tenant, Incarnation string }

// String is the key as one text, as the account is named to the [zendeskapi.Transport].
func (k Key) String() string { return k.Tenant + "/" + k.Incarnation }

// New makes a Keeper. It does nothing by itself until Run.
func New(c Config) *Keeper {
	k := &Keeper{
		transport: c.Transport, userAgent: c.UserAgent, store: c.Store, noWrites: c.NoWrites, audit: c.Audit, log: c.Log, now: c.Now,
		renewed: c.Renewed, panicked: c.Panicked,
		courses: newCourses(c.Log, c.Now), uses: cache.New[Key, time.Time](useMemory, c.Now),
		ended: make(chan struct{}),
	}
	if k.renewed == nil {
		k.renewed = func(string) {}
	}
	if k.panicked == nil {
		k.panicked = func() {}
	}
	k.end = sync.OnceFunc(func() { close(k.ended) })
	k.renewals = newRenewals(k)
	k.upkeep = newUpkeep(k, c.TestEvery)
	return k
}

// Run keeps the accounts alive until ctx is done. One process does so at a time; it may be called again.
func (k *Keeper) Run(ctx context.Context) { k.upkeep.run(ctx) }

// Wait returns when the token requests and renewals that run have ended: they outlive their callers, since what Zendesk
// answers must be stored. That takes them little more than 20 s; those that cannot store their token go on trying until ctx
// is done. No new one may come.
func (k *Keeper) Wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, k.end)
	defer stop()
	k.exchanges.group.Wait()
}

// Changed says that an account is new, may be able to do what it was not, or is gone.
func (k *Keeper) Changed(key Key) {
	k.upkeep.look(key.Tenant)
}

// client returns a client that acts as the account: with its OAuth access token if there is one, else with its API token.
// No answer may repeat what the account has of secrets, nor those that were sent beside.
func (k *Keeper) client(lane limit.Lane, tenant string, account store.Account, sent ...secret.Value) (*zendeskapi.Client, error) {
	c := configOf(lane, tenant, account)
	c.Credential, c.Secrets = credentialOf(account), append(secretsOf(account), sent...)
	c.Transport, c.UserAgent = k.transport, k.userAgent
	return zendeskapi.New(c)
}

// configOf says for whom a client asks, without what it asks with.
func configOf(lane limit.Lane, tenant string, account store.Account) zendeskapi.Config {
	return zendeskapi.Config{
		Tenant:   tenant,
		Account:  Key{tenant, account.Incarnation}.String(),
		Lane:     lane,
		MaxShare: account.MaxLimitShare,
		Origin:   account.URL,
	}
}

// SearchRefused returns the error with which Do would refuse a search now, without a request and at once; nil: it would not.
func (k *Keeper) SearchRefused(ctx context.Context, lane limit.Lane, tenant string, account store.Account) error {
	return k.transport.SearchRefused(ctx, configOf(lane, tenant, account))
}

// Room is how many requests more a lane may send to the Zendesk at an origin within a time.
func (k *Keeper) Room(origin string, lane limit.Lane, within time.Duration) int {
	return k.transport.Room(origin, lane, within)
}

// secretsOf lists what an account has of secrets, also those that are not in force.
func secretsOf(account store.Account) []secret.Value {
	var secrets []secret.Value
	if account.APIToken != nil {
		secrets = append(secrets, account.APIToken.Token)
	}
	if t := account.OAuthToken; t != nil {
		secrets = append(secrets, t.AccessToken)
		if t.Renewal != nil {
			secrets = append(secrets, t.Renewal.RefreshToken, t.Renewal.ClientSecret)
		}
	}
	return secrets
}

func credentialOf(account store.Account) zendeskapi.Credential {
	switch {
	case account.OAuthToken != nil:
		return zendeskapi.BearerCredential(account.OAuthToken.AccessToken)
	case account.APIToken != nil:
		return zendeskapi.APITokenCredential(account.APIToken.Username, account.APIToken.Token)
	}
	return zendeskapi.Credential{}
}

// Do makes requests as an account, in a lane of the Zendesk's limit. When Zendesk refuses the credential, request runs once more with the one that has
// replaced it, or that a renewal brings within ctx; account is then as it is with that. What the answer says about the
// credential is kept. Errors are those of request; when the renewal is not decided, a [*zendeskapi.Error] of Kind Timeout,
// RateLimited or Unavailable.
func (k *Keeper) Do(ctx context.Context, lane limit.Lane, tenant string, account *store.Account, request func(*zendeskapi.Client) error) error {
	err := k.ask(ctx, lane, tenant, account, request)
	k.note(ctx, tenant, *account, err)
	return err
}

// ask is Do for those who keep the outcome themselves.
func (k *Keeper) ask(ctx context.Context, lane limit.Lane, tenant string, account *store.Account, request func(*zendeskapi.Client) error) error {
	err := k.askOnce(lane, tenant, *account, request)
	refusal, refused := credentialRefused(err)
	if !refused {
		return err
	}
	renewed, renewalErr := k.renewals.renew(ctx, tenant, *account)
	tooFresh, isTooFresh := errors.AsType[*tooFreshError](renewalErr)
	switch {
	case errors.Is(renewalErr, errNotRenewed):
		return err
	case isTooFresh:
		return tooEarly(refusal, tooFresh)
	case renewalErr != nil:
		return undecided(refusal, renewalErr)
	}
	*account = renewed
	return k.askOnce(lane, tenant, *account, request)
}

// tooEarly is the error of a request whose token Zendesk refused soon after it had granted it.
func tooEarly(refusal *zendeskapi.Error, tooFresh *tooFreshError) error {
	e := *refusal
	e.Detail, e.Pause = "Zendesk refuses a token that it granted just now: "+tooFresh.Error(), tooFresh.wait
	return &e
}

// undecided is the error of a request whose credential Zendesk refused, when it is not known whether there will be another.
func undecided(refusal *zendeskapi.Error, renewalErr error) error {
	e := *refusal
	e.Kind, e.Code, e.Detail, e.Err = zendeskapi.Unavailable, "", "the credential was refused, and renewing it failed", renewalErr
	api, ok := errors.AsType[*zendeskapi.Error](renewalErr)
	switch {
	case errors.Is(renewalErr, errStillRenewing):
		e.Kind, e.Detail = zendeskapi.Timeout, "the credential was refused, and is still being renewed"
	case !ok:
		return renewalErr
	case api.Kind == zendeskapi.Timeout, api.Kind == zendeskapi.RateLimited:
		e.Kind, e.RetryAfter, e.Pause = api.Kind, api.RetryAfter, api.Pause
	}
	return &e
}

func (k *Keeper) askOnce(lane limit.Lane, tenant string, account store.Account, request func(*zendeskapi.Client) error) error {
	client, err := k.client(lane, tenant, account)
	if err != nil {
		return err
	}
	return request(client)
}

// credentialRefused tells the answers by which Zendesk refuses a credential.
func credentialRefused(err error) (*zendeskapi.Error, bool) {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	return api, ok && api.Kind == zendeskapi.CredentialsRejected && api.StatusCode != 0
}

// rejectedReason is the reason of a [store.Check] that Zendesk's refusal of the credential leaves.
const rejectedReason = string(store.ReasonCredentialsRejected)

// note keeps what an answer says about a credential, if that is news.
func (k *Keeper) note(ctx context.Context, tenant string, account store.Account, err error) {
	k.courses.note(tenant, account, err)
	check := store.Check{Time: k.now(), OK: err == nil}
	if err == nil {
		k.uses.Put(Key{tenant, account.Incarnation}, check.Time)
	} else if _, refused := credentialRefused(err); refused {
		check.Reason = rejectedReason
	} else {
		return
	}
	if k.noWrites || !isNews(account, check) {
		return
	}
	_, err = k.store.UpdateAccount(ctx, tenant, account.ID, "", func(a *store.Account) error {
		if a.Incarnation != account.Incarnation || !Same(*a, account) || !isNews(*a, check) {
			return errCredentialChanged
		}
		a.Check = check
		return nil
	})
	log := k.log.With("tenant", tenant, "account_id", account.ID)
	switch {
	case errors.Is(err, errCredentialChanged), errors.Is(err, store.ErrNotFound), ctx.Err() != nil:
		// Someone else knows better, or the next answer says it again.
	case err != nil:
		log.Error("state of a credential could not be stored", "error", err)
	case !check.OK:
		log.Warn("credential is refused")
	case refused(account):
		log.Info("credential is accepted again")
	}
}

// isNews tells whether a request has shown something that is not known of the account's credential. That it went well
// says nothing against what users/me told: that the user is no agent, or that the token has too few scopes.
func isNews(a store.Account, check store.Check) bool {
	if check.OK {
		return a.Check.Time.IsZero() || refused(a) && a.Check.Reason == rejectedReason || a.Check.OK && expired(a, check.Time)
	}
	return !refused(a)
}
