package store

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// What a tenant has is counted beside the data, so that no key is written by all of its changes. A change counts itself
// while it runs (meter), and is added in memory once it is committed (counter); FlushUsage adds that to the tenant's stored
// count every few seconds. What a crash loses, and what a change could not know, the next Scrub mends: it counts all data,
// and sets the count. A change that is being committed while the walk reads its keys may be missed or counted twice until
// the one after: a count is a few of many thousands off then, and quotas are soft.

// meter is a transaction that counts what it changes. What stood under a key before is known if the transaction has read
// it; else the key counts as new.
type meter struct {
	kv.Txn
	tenant  []byte         // what its keys begin with; others do not count
	sizes   map[string]int // of the entries known, as they are now
	changes []change
	grown   int64 // bytes

	states []stateChange
}

// change is a part of what a transaction has changed, and the key that it stands under.
type change struct {
	key []byte
	by  Usage
}

func (m *meter) Get(keys ...[]byte) ([][]byte, error) {
	values, err := m.Txn.Get(keys...)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if values[i] != nil {
			m.know(key, len(key)+len(values[i]))
		}
	}
	return values, nil
}

func (m *meter) know(key []byte, size int) {
	if m.sizes == nil {
		m.sizes = make(map[string]int)
	}
	m.sizes[string(key)] = size
}

func (m *meter) Put(key, value []byte) {
	m.Txn.Put(key, value)
	size := len(key) + len(value)
	m.count(key, Usage{StoredBytes: int64(size - m.sizes[string(key)])})
	m.know(key, size)
}

// Delete counts a key that was not read as one without a value, such as those of indexes.
func (m *meter) Delete(key []byte) {
	m.Txn.Delete(key)
	size, known := m.sizes[string(key)]
	if !known {
		size = len(key)
	}
	m.count(key, Usage{StoredBytes: int64(-size)})
	m.know(key, 0)
}

// DeleteRange counts nothing: who deletes a range says by freed what was in it.
func (m *meter) DeleteRange(start, end []byte) {
	m.Txn.DeleteRange(start, end)
	for key := range m.sizes {
		if key >= string(start) && (len(end) == 0 || key < string(end)) {
			m.sizes[key] = 0
		}
	}
}

// freed counts the bytes of a range that was deleted.
func (m *meter) freed(key []byte, n int64) { m.count(key, Usage{StoredBytes: -n}) }

func (m *meter) count(key []byte, by Usage) {
	if by != (Usage{}) && bytes.HasPrefix(key, m.tenant) {
		m.changes = append(m.changes, change{key, by})
		m.grown += by.StoredBytes
	}
}

// total is what the transaction changes, as far as it has run.
func (m *meter) total() (sum Usage) {
	for _, c := range m.changes {
		sum = sum.plus(c.by)
	}
	return sum
}

// counter knows what tenants have.
type counter struct {
	quota Usage // of each

	storing sync.Mutex // held while counts are stored

	mu      sync.Mutex
	tenants map[string]*count
}

// count is what a tenant has: stored as it was last read or written, and fresh, which is not stored yet.
type count struct {
	loaded        bool
	stored, fresh Usage
	refused       bool     // a change was: others may have made room since stored was read
	recount       *recount // nil: none is under way

	warned      time.Time
	warnedLevel int64 // in per cent
}

func (c *count) now() Usage { return c.stored.plus(c.fresh).atLeastNone() }

// recount is what a walk over a tenant's data has seen.
type recount struct {
	cursor []byte // keys before it are walked over
	seen   Usage  // of these, as they are now
}

// of returns a tenant's count. The caller holds mu.
func (c *counter) of(tenant string) *count {
	if c.tenants == nil {
		c.tenants = make(map[string]*count)
	}
	if c.tenants[tenant] == nil {
		c.tenants[tenant] = new(count)
	}
	return c.tenants[tenant]
}

// add takes in what a committed transaction has changed.
func (c *counter) add(tenant string, changes []change) {
	if len(changes) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.of(tenant)
	for _, change := range changes {
		count.fresh = count.fresh.plus(change.by)
		if r := count.recount; r != nil && bytes.Compare(change.key, r.cursor) < 0 {
			r.seen = r.seen.plus(change.by)
		}
	}
}

// admit decides whether a change of a tenant may go in. accounts are how many it has, where that matters.
func (c *counter) admit(tenant string, accounts int64, d demand) error {
	if c.quota == (Usage{}) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.of(tenant)
	used := count.now()
	used.Accounts = accounts
	if refused := admit(used, c.quota, d); refused != nil {
		count.refused = true
		return refused
	}
	return nil
}

// begin begins a recount.
func (c *counter) begin(tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(tenant).recount = new(recount)
}

// walked takes in what stands before a key, and behind what was walked over before.
func (c *counter) walked(tenant string, seen Usage, next []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.of(tenant).recount; r != nil {
		r.seen, r.cursor = r.seen.plus(seen), next
	}
}

// abandon ends all recounts without a result.
func (c *counter) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, count := range c.tenants {
		count.recount = nil
	}
}

// storedUsage is the stored form of a tenant's count.
type storedUsage struct {
	Usage
	CountTime time.Time `json:"count_time,omitzero"` // of the last recount
}

// usage reads a tenant's stored count. One that cannot be read is told, and counts as none until the next recount.
func (s *Store) usage(ctx context.Context, r kv.Getter, tenant string) (stored storedUsage, err error) {
	in := &reading{vault: s.vault, tenant: tenant, kv: r}
	if _, err = in.load(usageKey(tenant), &stored); errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFailed) {
		s.log.ErrorContext(ctx, "what a tenant has is not known until all data is counted again: the count is damaged", "tenant", tenant, "error", err)
		return storedUsage{}, nil
	}
	return stored, err
}

// loadUsage reads what a tenant has, unless that is known.
func (s *Store) loadUsage(ctx context.Context, tenant string) error {
	c := &s.counter
	c.mu.Lock()
	loaded := c.of(tenant).loaded
	c.mu.Unlock()
	if loaded {
		return nil
	}
	c.storing.Lock() // else what is stored meanwhile would count twice, or not at all
	defer c.storing.Unlock()
	var stored storedUsage
	err := s.inTime(ctx, func(ctx context.Context) error {
		return s.engine.View(ctx, func(r kv.Reader) (err error) {
			stored, err = s.usage(ctx, r, tenant)
			return err
		})
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.of(tenant)
	count.stored, count.loaded = stored.Usage, true
	return nil
}

// Quota returns what each tenant may have; zero: as much as there is.
func (s *Store) Quota() Usage { return s.counter.quota }

// Usage returns what a tenant has. Accounts are exact. The rest is counted as it changes: a crash loses the changes of the
// last seconds, and Scrub counts anew; it last did so at counted, or never, if that is zero. What other processes count is in it
// some seconds later.
func (s *Store) Usage(ctx context.Context, tenant string) (used Usage, counted time.Time, err error) {
	if err := checkTenant(tenant); err != nil {
		return Usage{}, time.Time{}, err
	}
	c := &s.counter
	c.storing.Lock() // else what is stored meanwhile would count twice, or not at all
	defer c.storing.Unlock()
	accounts := 0
	var stored storedUsage
	err = s.view(ctx, tenant, func(r *reading, _ kv.Reader) error {
		values, err := r.get(accountCountKey(tenant))
		if err != nil {
			return err
		}
		if accounts, err = parseCount(values[0]); err != nil {
			return err
		}
		stored, err = s.usage(ctx, r.kv, tenant)
		return err
	})
	if err != nil {
		return Usage{}, time.Time{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.of(tenant)
	count.stored, count.loaded = stored.Usage, true // which other processes may have changed
	used = count.now()
	used.Accounts = int64(accounts)
	return used, stored.CountTime, nil
}

// flushTenants is how many counts are stored in one transaction.
const flushTenants = 32

// FlushUsage stores what has been counted since it was called before: call it every few seconds. It warns of tenants that come
// near to a quota.
func (s *Store) FlushUsage(ctx context.Context) error {
	c := &s.counter
	c.storing.Lock()
	defer c.storing.Unlock()
	fresh := make(map[string]Usage)
	c.mu.Lock()
	for tenant, count := range c.tenants {
		if count.fresh != (Usage{}) || count.refused {
			fresh[tenant], count.refused = count.fresh, false
		}
	}
	c.mu.Unlock()
	for tenants := range slices.Chunk(slices.Sorted(maps.Keys(fresh)), flushTenants) {
		stored := make(map[string]Usage)
		err := s.commit(ctx, func(tx kv.Txn) error {
			for _, tenant := range tenants {
				next, err := s.usage(ctx, tx, tenant)
				if err != nil {
					return err
				}
				next.Usage = next.plus(fresh[tenant])
				if err := s.putUsage(tx, tenant, next); err != nil {
					return err
				}
				stored[tenant] = next.Usage
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.mu.Lock()
		for _, tenant := range tenants {
			count := c.of(tenant)
			count.stored, count.fresh, count.loaded = stored[tenant], count.fresh.minus(fresh[tenant]), true
		}
		c.mu.Unlock()
		for _, tenant := range tenants {
			s.warnOfQuota(ctx, tenant, 0)
		}
	}
	return nil
}

// putUsage stores a tenant's count. One that has nothing has no count either.
func (s *Store) putUsage(tx kv.Txn, tenant string, u storedUsage) error {
	if u.Usage == (Usage{}) {
		tx.Delete(usageKey(tenant))
		return nil
	}
	value, err := encode(u)
	if err == nil {
		value, err = s.vault.seal(usageKey(tenant), value)
	}
	if err == nil {
		tx.Put(usageKey(tenant), value)
	}
	return err
}

// setUsage ends a recount, and makes what it has seen the tenant's count.
func (s *Store) setUsage(ctx context.Context, tenant string) error {
	c := &s.counter
	c.storing.Lock()
	defer c.storing.Unlock()
	c.mu.Lock()
	count := c.of(tenant)
	seen, known := count.recount, count.fresh // which the walk has seen, or has taken in
	count.recount = nil
	c.mu.Unlock()
	if seen == nil {
		return nil
	}
	now := s.time()
	err := s.commit(ctx, func(tx kv.Txn) error {
		return s.putUsage(tx, tenant, storedUsage{seen.seen, now})
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	count.stored, count.fresh, count.loaded = seen.seen, count.fresh.minus(known), true
	return nil
}

// Of a tenant that is near to a quota the log tells at warnPercent and at the quota itself, and again after warnEvery.
const (
	warnPercent = 90
	warnEvery   = 10 * time.Minute
)

// warnOfQuota warns of a tenant, with as many accounts if that is known.
func (s *Store) warnOfQuota(ctx context.Context, tenant string, accounts int64) {
	c := &s.counter
	now := s.time()
	c.mu.Lock()
	count := c.of(tenant)
	used := count.now()
	used.Accounts = accounts
	name, percent := fullest(used, c.quota, warnPercent)
	level := int64(0)
	switch {
	case percent >= 100:
		level = 100
	case name != "":
		level = warnPercent
	}
	due := level > 0 && (level > count.warnedLevel || now.Sub(count.warned).Abs() >= warnEvery)
	if due {
		count.warned, count.warnedLevel = now, level
	}
	c.mu.Unlock()
	switch {
	case !due:
	case level == 100:
		s.log.WarnContext(ctx, "a tenant is at its quota: what would add to it is refused", "tenant", tenant, "quota", name, "percent", percent)
	default:
		s.log.WarnContext(ctx, "a tenant is near to its quota", "tenant", tenant, "quota", name, "percent", percent)
	}
}
