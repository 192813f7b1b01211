package credentials

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	parallelDuties = 8   // of a tenant
	accountsAtOnce = 200 // that are read
	// lookAgain is how often all accounts are read anew, and lookAgainShared how often where other processes change them.
	lookAgain       = time.Hour
	lookAgainShared = time.Minute
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
	woken     chan struct{} // holds a token when there is something to look at
	attending sync.WaitGroup
	lookAt    time.Time // when all accounts are to be read; of round alone

	mu      sync.Mutex
	changed map[string]bool // tenants
	planned map[Key]*chore
	running map[string]int // chores that are done now, by tenant
}

// chore is what is to be done for an account next, and when.
type chore struct {
	id        string
	duty      duty
	at        time.Time
	busy      bool      // it is done now
	tested    time.Time // by upkeep; zero: not yet
	notBefore time.Time
	failures  int // in a row
}

func newUpkeep(k *Keeper, testEvery time.Duration) *upkeep {
	return &upkeep{
		keeper: k, testEvery: testEvery, seed: maphash.MakeSeed(), woken: make(chan struct{}, 1),
		changed: make(map[string]bool), planned: make(map[Key]*chore), running: make(map[string]int),
	}
}

// look says that accounts of a tenant have changed.
func (u *upkeep) look(tenant string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changed[tenant] = true
	u.wake()
}

func (u *upkeep) wake() {
	select {
	case u.woken <- struct{}{}:
	default:
	}
}

// run keeps accounts alive until ctx is done, and returns when nothing is being done any more.
func (u *upkeep) run(ctx context.Context) {
	defer u.attending.Wait()
	u.lookAt = time.Time{} // another process may have done it meanwhile
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

// round begins what is due, and returns how long nothing else is. What is done wakes the next round; who hangs holds up
// nobody.
func (u *upkeep) round(ctx context.Context) time.Duration {
	if err := u.read(ctx); err != nil && ctx.Err() == nil {
		u.keeper.log.Error("accounts to keep alive could not be read", "error", err)
		u.lookAt = u.keeper.now().Add(lookSoon)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now, next := u.keeper.now(), u.lookAt
	for key, c := range u.planned {
		switch {
		case c.duty == dutyNone || c.busy:
		case now.Before(c.at):
			next = earlier(next, c.at)
		case u.running[key.Tenant] < parallelDuties:
			c.busy = true
			u.running[key.Tenant]++
			u.attending.Go(func() { u.attend(ctx, key, c) })
		}
	}
	return max(next.Sub(now), time.Millisecond)
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
		if u.keeper.store.Shared() {
			u.lookAt = now.Add(lookAgainShared)
		}
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
		u.mu.Lock()
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
		u.mu.Unlock()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.planned, func(key Key, _ *chore) bool { return key.Tenant == tenant && !seen[key] })
	return nil
}

// plan decides what is to be done for an account next. The lock is held.
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
		if refused(a) && a.Check.Reason == rejectedReason {
			due = earlier(due, freshUntil(t)) // it was lost early
		}
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

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// attend does for an account what is due, and plans what comes after.
func (u *upkeep) attend(ctx context.Context, key Key, c *chore) {
	account, err := u.attempt(ctx, key, c)
	u.mu.Lock()
	defer u.mu.Unlock()
	defer u.wake()
	c.busy = false
	if u.running[key.Tenant]--; u.running[key.Tenant] == 0 {
		delete(u.running, key.Tenant)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		c.duty = dutyNone
		return
	case err != nil:
		c.failures++
		c.notBefore = u.keeper.now().Add(Backoff(c.failures, 0))
	default:
		c.failures = 0
	}
	if account.ID != "" {
		u.plan(key, c, account)
	}
	c.at = later(c.at, c.notBefore)
}

// attempt does what is due, if it still is, and returns the account as it is then, if that is known.
func (u *upkeep) attempt(ctx context.Context, key Key, c *chore) (account store.Account, err error) {
	defer func() {
		if p := recover(); p != nil {
			u.keeper.panicked()
			err = recovered(p)
			u.keeper.log.Error("keeping an account alive panicked", "tenant", key.Tenant, "account_id", c.id, "error", err)
		}
	}()
	use := store.AccountUse{AccountID: c.id, Incarnation: key.Incarnation}
	if account, err = u.keeper.store.AccountOf(ctx, key.Tenant, use); err != nil {
		return account, err
	}
	u.mu.Lock()
	u.plan(key, c, account)
	next, due := c.duty, !u.keeper.now().Before(c.at)
	if due && next == dutyTest {
		c.tested = u.keeper.now()
	}
	u.mu.Unlock()
	if !due {
		return account, nil // someone else has done it
	}
	err = u.perform(ctx, key.Tenant, next, account)
	if after, readErr := u.keeper.store.AccountOf(ctx, key.Tenant, use); readErr == nil || errors.Is(readErr, store.ErrNotFound) {
		return after, cmp.Or(readErr, err)
	}
	return account, err
}

// perform does what is due. After an error it is tried again, if it still is.
func (u *upkeep) perform(ctx context.Context, tenant string, next duty, account store.Account) error {
	ctx, cancel := context.WithTimeout(ctx, dutyTime)
	defer cancel()
	switch next {
	case dutyRenew:
		_, err := u.keeper.renewals.renew(ctx, tenant, account)
		return err
	case dutyUse:
		return u.keeper.use(ctx, tenant, account)
	case dutyTest:
		test, err := u.keeper.Test(ctx, tenant, account, nil)
		u.keeper.log.Info("connection tested", "tenant", tenant, "account_id", account.ID, "outcome", test.Outcome.String())
		return err
	}
	return nil
}
