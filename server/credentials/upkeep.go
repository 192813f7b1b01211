package credentials

import (
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	parallelDuties = 8
	accountsAtOnce = 200 // that are read
	// lookAgain is how often all accounts are read anew: another process may have changed them.
	lookAgain = time.Hour
	// lookSoon is how long the reading of accounts waits after it has failed.
	lookSoon = 10 * time.Second
	// idleTime is how long an API token may go unused. Zendesk deactivates one after 30 days.
	idleTime = 24 * time.Hour
	// dutyTime is how long one duty may take.
	dutyTime = exchangeTimeout
)

// duty is what an account wants done from time to time.
type duty int

const (
	dutyNone  duty = iota
	dutyRenew      // get a successor of the access token before it ends
	dutyUse        // use the API token, so that Zendesk does not deactivate it
	dutyTest       // test the connection
)

// upkeep does what keeps accounts alive, in the background. Nothing of its plan is stored: it follows from the accounts.
type upkeep struct {
	keeper    *Keeper
	testEvery time.Duration // 0: never
	seed      maphash.Seed  // other in every process: two of them do not do the same at the same moment

	mu      sync.Mutex
	changed map[string]bool // tenants
	woken   chan struct{}   // holds a token when there is something to look at

	// Of round alone.
	planned map[Key]*chore
	lookAt  time.Time // when all accounts are to be read
}

// chore is what is to be done for an account next, and when.
type chore struct {
	id        string
	duty      duty
	at        time.Time
	tested    time.Time // by upkeep; zero: not yet
	notBefore time.Time
	failures  int // in a row
}

func newUpkeep(k *Keeper, testEvery time.Duration) *upkeep {
	return &upkeep{
		keeper: k, testEvery: testEvery, seed: maphash.MakeSeed(),
		changed: make(map[string]bool), woken: make(chan struct{}, 1), planned: make(map[Key]*chore),
	}
}

// look says that accounts of a tenant have changed.
func (u *upkeep) look(tenant string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changed[tenant] = true
	select {
	case u.woken <- struct{}{}:
	default:
	}
}

// run keeps accounts alive until ctx is done.
func (u *upkeep) run(ctx context.Context) {
	for {
		timer := time.NewTimer(u.round(ctx))
		select {
		case <-timer.C:
		case <-u.woken:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// round does what is due, and returns how long nothing else is.
func (u *upkeep) round(ctx context.Context) time.Duration {
	if err := u.read(ctx); err != nil && ctx.Err() == nil {
		u.keeper.log.Error("accounts to keep alive could not be read", "error", err)
		u.lookAt = u.keeper.now().Add(lookSoon)
	}
	var group errgroup.Group
	group.SetLimit(parallelDuties)
	for key, c := range u.planned {
		if c.duty != dutyNone && !u.keeper.now().Before(c.at) {
			group.Go(func() error {
				u.attend(ctx, key, c)
				return nil
			})
		}
	}
	_ = group.Wait() // no function returns an error
	next := u.lookAt
	for _, c := range u.planned {
		if c.duty != dutyNone && c.at.Before(next) {
			next = c.at
		}
	}
	return max(next.Sub(u.keeper.now()), time.Millisecond)
}

// read brings the plan up to date with the accounts of the tenants that have changed, or of all.
func (u *upkeep) read(ctx context.Context) error {
	u.mu.Lock()
	changed := u.changed
	u.changed = make(map[string]bool)
	u.mu.Unlock()
	if now := u.keeper.now(); !now.Before(u.lookAt) {
		tenants, err := u.keeper.store.Tenants(ctx)
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			changed[tenant] = true
		}
		u.lookAt = now.Add(lookAgain)
	}
	for tenant := range changed {
		if err := u.readTenant(ctx, tenant); err != nil {
			return err
		}
	}
	return nil
}

func (u *upkeep) readTenant(ctx context.Context, tenant string) error {
	seen := make(map[Key]bool)
	for after, more := "", true; more; {
		var accounts []store.Account
		var err error
		if accounts, more, err = u.keeper.store.ListAccounts(ctx, tenant, after, accountsAtOnce); err != nil {
			return err
		}
		for _, a := range accounts {
			key := Key{tenant, a.Incarnation}
			seen[key], after = true, a.ID
			c := u.planned[key]
			if c == nil {
				c = &chore{id: a.ID}
				u.planned[key] = c
			}
			u.plan(key, c, a)
		}
	}
	maps.DeleteFunc(u.planned, func(key Key, _ *chore) bool { return key.Tenant == tenant && !seen[key] })
	return nil
}

// plan decides what is to be done for an account next.
func (u *upkeep) plan(key Key, c *chore, a store.Account) {
	used, _ := u.keeper.uses.Get(key)
	spread := float64(maphash.Comparable(u.seed, key)%1000) / 1000
	c.duty, c.at = nextDuty(a, used, c.tested, u.testEvery, spread)
	c.at = later(c.at, c.notBefore)
}

// nextDuty returns what is to be done for an account next, and when; used and tested are when that was last done, if it is
// known, and spread, from 0 to 1, keeps accounts from being dealt with all at once.
func nextDuty(a store.Account, used, tested time.Time, testEvery time.Duration, spread float64) (next duty, at time.Time) {
	consider := func(d duty, t time.Time) {
		if next == dutyNone || t.Before(at) {
			next, at = d, t
		}
	}
	known := a.Check.Time
	if known.IsZero() {
		known = a.UpdateTime
	}
	t := a.OAuthToken
	if t != nil && !t.ExpireTime.IsZero() && renewalHeld(t, t.ExpireTime) {
		// At 75 to 85 % of its life.
		life := float64(t.ExpireTime.Sub(t.IssueTime))
		due := t.IssueTime.Add(time.Duration(life * (0.75 + spread/10)))
		if refusedAt := t.Renewal.RefuseTime; !refusedAt.IsZero() {
			due = later(due, refusedAt.Add(refusalRest))
		}
		consider(dutyRenew, due)
	}
	if t == nil && a.APIToken != nil {
		consider(dutyUse, later(known, used).Add(idleTime))
	}
	if testEvery > 0 && (t != nil || a.APIToken != nil) {
		if tested.IsZero() {
			tested = known
		}
		consider(dutyTest, tested.Add(time.Duration(float64(testEvery)*(0.9+spread/5))))
	}
	return next, at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// attend does for an account what is due, and plans what comes after.
func (u *upkeep) attend(ctx context.Context, key Key, c *chore) {
	defer func() {
		if p := recover(); p != nil {
			u.keeper.log.Error("keeping an account alive panicked", "tenant", key.Tenant, "account_id", c.id, "error", recovered(p))
			u.postpone(c)
		}
	}()
	use := store.AccountUse{AccountID: c.id, Incarnation: key.Incarnation}
	account, err := u.keeper.store.AccountOf(ctx, key.Tenant, use)
	if err == nil {
		u.plan(key, c, account)
		if u.keeper.now().Before(c.at) {
			return // someone else has done it
		}
		if err = u.perform(ctx, key.Tenant, c, account); err != nil {
			u.postpone(c)
		} else {
			c.failures = 0
		}
		account, err = u.keeper.store.AccountOf(ctx, key.Tenant, use)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		c.duty = dutyNone
	case err != nil:
		u.postpone(c)
	default:
		u.plan(key, c, account)
	}
}

// postpone lets a chore that failed wait a while.
func (u *upkeep) postpone(c *chore) {
	c.failures++
	c.notBefore = u.keeper.now().Add(Backoff(c.failures, 0))
	c.at = later(c.at, c.notBefore)
}

// perform does what is due. After an error it is tried again, if it still is.
func (u *upkeep) perform(ctx context.Context, tenant string, c *chore, account store.Account) error {
	ctx, cancel := context.WithTimeout(ctx, dutyTime)
	defer cancel()
	switch c.duty {
	case dutyRenew:
		_, err := u.keeper.renewals.renew(ctx, tenant, account)
		return err
	case dutyUse:
		return u.keeper.use(ctx, tenant, account)
	case dutyTest:
		c.tested = u.keeper.now()
		test, err := u.keeper.Test(ctx, tenant, account)
		u.keeper.log.Info("connection tested", "tenant", tenant, "account_id", account.ID, "outcome", test.Outcome.String())
		return err
	}
	return nil
}
