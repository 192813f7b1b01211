package server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// useMemory is how long it is remembered that an account was used.
const useMemory = 24 * time.Hour

// zendesk asks Zendesk as accounts, and keeps what that says about their credentials. All accounts share one pool of
// connections.
type zendesk struct {
	transport *zendeskapi.Transport
	userAgent string
	store     *store.Store
	log       *slog.Logger
	now       func() time.Time
	renewals  *renewals
	uses      *cache[accountKey, time.Time] // when Zendesk last took an account's credential
}

func newZendesk(s *store.Store, transport *zendeskapi.Transport, userAgent string, log *slog.Logger, now func() time.Time, audit auditLog) *zendesk {
	z := &zendesk{transport: transport, userAgent: userAgent, store: s, log: log, now: now, uses: newCache[accountKey, time.Time](useMemory, now)}
	z.renewals = newRenewals(z, audit)
	return z
}

// client returns a client that acts as the account: with its OAuth access token if there is one, else with its API token.
func (z *zendesk) client(account store.Account) (*zendeskapi.Client, error) {
	return zendeskapi.New(zendeskapi.Config{
		Origin:     account.URL,
		Credential: credentialOf(account),
		Transport:  z.transport,
		UserAgent:  z.userAgent,
	})
}

func credentialOf(account store.Account) zendeskapi.Credential {
	switch {
	case account.OAuthToken != nil:
		return zendeskapi.BearerCredential(zendeskapi.NewSecret(account.OAuthToken.AccessToken.Reveal()))
	case account.APIToken != nil:
		return zendeskapi.APITokenCredential(account.APIToken.Username, zendeskapi.NewSecret(account.APIToken.Token.Reveal()))
	}
	return zendeskapi.Credential{}
}

// do makes requests as an account. When Zendesk refuses the credential, request runs once more with the one that has
// replaced it, or that a renewal brings within ctx; account is then as it is with that. What the answer says about the
// credential is kept. Errors are those of request; when the renewal is not decided, a [*zendeskapi.Error] of Kind Timeout,
// RateLimited or Unavailable.
func (z *zendesk) do(ctx context.Context, tenant string, account *store.Account, request func(*zendeskapi.Client) error) error {
	err := z.ask(ctx, tenant, account, request)
	z.note(ctx, tenant, *account, err)
	return err
}

// ask is do for those who keep the outcome themselves.
func (z *zendesk) ask(ctx context.Context, tenant string, account *store.Account, request func(*zendeskapi.Client) error) error {
	err := z.askOnce(*account, request)
	refusal, refused := credentialRefused(err)
	if !refused {
		return err
	}
	renewed, renewalErr := z.renewals.renew(ctx, tenant, *account)
	switch {
	case errors.Is(renewalErr, errNotRenewed):
		return err
	case renewalErr != nil:
		return undecided(refusal, renewalErr)
	}
	*account = renewed
	return z.askOnce(*account, request)
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
		e.Kind, e.RetryAfter = api.Kind, api.RetryAfter
	}
	return &e
}

func (z *zendesk) askOnce(account store.Account, request func(*zendeskapi.Client) error) error {
	client, err := z.client(account)
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
var rejectedReason = strings.TrimPrefix(zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED.String(), "FAILURE_REASON_")

// note keeps what an answer says about a credential, if that is news.
func (z *zendesk) note(ctx context.Context, tenant string, account store.Account, err error) {
	check := store.Check{Time: z.now(), OK: err == nil}
	if err == nil {
		z.uses.put(accountKey{tenant, account.Incarnation}, check.Time)
	} else if _, refused := credentialRefused(err); refused {
		check.Reason = rejectedReason
	} else {
		return
	}
	if !isNews(account, check) {
		return
	}
	_, err = z.store.UpdateAccount(ctx, tenant, account.ID, "", func(a *store.Account) error {
		if a.Incarnation != account.Incarnation || !sameCredential(*a, account) || !isNews(*a, check) {
			return errCredentialChanged
		}
		a.Check = check
		return nil
	})
	log := z.log.With("tenant", tenant, "account_id", account.ID)
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

// newID returns a random id: lower-case letters and digits, starting with a letter, with 128 bits of chance.
func newID() string { return "x" + strings.ToLower(rand.Text()) }
