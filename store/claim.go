package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Whether something is done by one process at a time.
var (
	ErrClaimed   = errors.New("it is done by another")                       // another replica, or another caller in this one, holds the claim
	ErrClaimLost = errors.New("another replica has taken over what is done") // nothing was stored
)

// Claim is the right to do what one process at a time does. It ends when it is given back, or when this replica is taken for
// dead and another one claims the same.
type Claim struct {
	store *Store
	key   []byte
	nonce string
	lost  chan struct{}
}

// claims is what this process knows of replicas and has claimed itself.
type claims struct {
	self, name string
	stop       context.CancelFunc
	beating    sync.WaitGroup
	releasing  sync.WaitGroup

	mu       sync.Mutex
	replicas []Replica
	held     map[string]*Claim        // by key; nil: being claimed
	freed    map[string]chan struct{} // closed when a claim of this process ends that others in it wait for
	owed     map[*Claim]time.Time     // not this process's, and not known to be gone from the database; until when it may come to stand there

	died, away atomic.Bool // a replica has died, or this one may have lost claims, since it was looked what follows
	unadopted  atomic.Bool // this replica was taken for dead, and its keys have to be adopted anew
	leaving    bool
}

// storedClaim is the stored form of a claim.
type storedClaim struct {
	Replica string `json:"replica"`
	Nonce   string `json:"nonce"` // of this claim, which tells it from an earlier one of the same replica
}

// Claim claims what has a name, of at most 900 bytes in all: letters and digits of this program's choice, or hashes, since
// it stands in clear. Errors: [ErrClaimed], at once; those of the engine. Where no other process works on the data
// nothing is stored.
func (s *Store) Claim(ctx context.Context, name ...string) (*Claim, error) {
	c := &Claim{store: s, key: claimKey(name...), nonce: newID(), lost: make(chan struct{})}
	if !s.claims.begin(c.key) {
		return nil, fmt.Errorf("%s: %w", strings.Join(name, " "), ErrClaimed)
	}
	if s.Shared() {
		if err := s.storeClaim(ctx, c); err != nil {
			if errors.Is(err, ErrUnknownOutcome) { // it may come to stand there, and nobody would give it back
				s.claims.owe(c, lateClaim)
			}
			s.claims.end(c.key, nil)
			return nil, fmt.Errorf("%s: %w", strings.Join(name, " "), err)
		}
	}
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	s.claims.held[string(c.key)] = c
	return c, nil
}

func (s *Store) storeClaim(ctx context.Context, c *Claim) error {
	value, err := encode(storedClaim{s.claims.self, c.nonce})
	if err != nil {
		return err
	}
	return s.commit(ctx, func(tx kv.Txn) error {
		stands, found, err := loadClaim(tx, c.key)
		if err != nil {
			return err
		}
		if found && stands.Replica != s.claims.self {
			m, err := loadMembers(tx)
			if err != nil {
				return err
			}
			if _, lives := m[stands.Replica]; lives {
				return ErrClaimed
			}
		}
		tx.Put(c.key, value)
		return nil
	})
}

func loadClaim(r kv.Getter, key []byte) (stored storedClaim, found bool, err error) {
	values, err := r.Get(key)
	if err != nil || values[0] == nil {
		return storedClaim{}, false, err
	}
	err = decode(values[0], &stored)
	return stored, err == nil, err
}

// claimPoll is how often it is tried to claim what another replica has: that one may have died.
const claimPoll = time.Second

// AwaitClaim claims what has a name as [Store.Claim] does, when who has it gives it back or has died. Errors: [ErrClaimed] and
// that of ctx, when it is done before; else the engine's.
func (s *Store) AwaitClaim(ctx context.Context, name ...string) (*Claim, error) {
	key := claimKey(name...)
	var tokens <-chan struct{}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	for waited := false; ; waited = true {
		freed := s.claims.whenFreed(key)
		c, err := s.Claim(ctx, name...)
		switch {
		case errors.Is(err, ErrClaimed):
		case err != nil && waited && ctx.Err() != nil:
			return nil, fmt.Errorf("%s: %w: %w", strings.Join(name, " "), ErrClaimed, ctx.Err())
		default:
			return c, err
		}
		if freed == nil { // it may have been claimed in this process since
			freed = s.claims.whenFreed(key)
		}
		if s.Shared() && tokens == nil {
			if tokens, err = s.engine.Watch(watching, key); err != nil {
				return nil, err
			}
			continue // it may have been given back before
		}
		if freed == nil && !s.Shared() {
			continue // it has been given back
		}
		timer := time.NewTimer(claimPoll)
		select {
		case <-freed:
		case _, open := <-tokens:
			if !open {
				tokens = nil
			}
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w: %w", strings.Join(name, " "), ErrClaimed, ctx.Err())
		}
	}
}

// HashedName is what stands in the name of a claim for texts that may not, such as ids that a caller chose.
func (s *Store) HashedName(texts ...string) string {
	return s.vault.hash(append([]string{"!", "claim"}, texts...)...)
}

// Lost is closed when it is known that another replica has taken the claim over. What is stored with [Fenced] is kept from being
// stored before that.
func (c *Claim) Lost() <-chan struct{} { return c.lost }

// GiveBack ends the claim. When the database is away, it is given back as soon as it can be. It may be called more than once.
func (c *Claim) GiveBack() {
	s := c.store
	if s.Shared() && s.claims.has(c) {
		ctx, cancel := context.WithTimeout(context.Background(), OutcomeTime)
		defer cancel()
		if err := s.eraseClaim(ctx, c); err != nil {
			s.claims.owe(c, 0)
		}
	}
	s.claims.end(c.key, c)
}

// eraseClaim removes a claim, if it still stands.
func (s *Store) eraseClaim(ctx context.Context, c *Claim) error {
	return s.commit(ctx, func(tx kv.Txn) error {
		stands, found, err := loadClaim(tx, c.key)
		if err == nil && found && stands == (storedClaim{s.claims.self, c.nonce}) {
			tx.Delete(c.key)
		}
		return err
	})
}

// Release is GiveBack for who does not wait for it. Closing the store waits.
func (c *Claim) Release() {
	if !c.store.Shared() {
		c.GiveBack()
		return
	}
	claims := &c.store.claims
	claims.mu.Lock()
	defer claims.mu.Unlock()
	if !claims.leaving { // else it is free when this replica has left
		claims.releasing.Go(c.GiveBack)
	}
}

// check fails unless the claim stands.
func (c *Claim) check(r kv.Getter) error {
	stands, found, err := loadClaim(r, c.key)
	if err == nil && (!found || stands != storedClaim{c.store.claims.self, c.nonce}) {
		err = ErrClaimLost
	}
	return err
}

type fenceKey struct{}

// fence is a claim that must stand, and those of the contexts around.
type fence struct {
	claim  *Claim
	around *fence
}

// Fenced returns a context for which the store changes nothing unless the claim stands, and those that the context is fenced by
// already: it fails with [ErrClaimLost] then. With nil, what the context was fenced by does not count any more.
func Fenced(ctx context.Context, c *Claim) context.Context {
	if c == nil {
		return context.WithValue(ctx, fenceKey{}, (*fence)(nil))
	}
	around, _ := ctx.Value(fenceKey{}).(*fence)
	return context.WithValue(ctx, fenceKey{}, &fence{c, around})
}

// fenced is fn behind the fences of a context.
func (s *Store) fenced(ctx context.Context, fn func(kv.Txn) error) func(kv.Txn) error {
	fences, _ := ctx.Value(fenceKey{}).(*fence)
	if fences == nil || !s.Shared() {
		return fn
	}
	return func(tx kv.Txn) error {
		for f := fences; f != nil; f = f.around {
			if err := f.claim.check(tx); err != nil {
				return err
			}
		}
		return fn(tx)
	}
}

// begin is false when this process has the claim, or is claiming it.
func (c *claims) begin(key []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held, c.freed = make(map[string]*Claim), make(map[string]chan struct{})
	}
	if _, ok := c.held[string(key)]; ok {
		return false
	}
	c.held[string(key)] = nil
	return true
}

// has reports whether this process holds a claim.
func (c *claims) has(claim *Claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[string(claim.key)] == claim
}

// end ends a claim, or with nil the claiming of one; false: it had ended already.
func (c *claims) end(key []byte, claim *Claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if held, ok := c.held[string(key)]; !ok || held != claim {
		return false
	}
	delete(c.held, string(key))
	if freed := c.freed[string(key)]; freed != nil {
		close(freed)
		delete(c.freed, string(key))
	}
	return true
}

// whenFreed is closed when a claim of this process ends; nil where it has none.
func (c *claims) whenFreed(key []byte) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, held := c.held[string(key)]; !held {
		return nil
	}
	if c.freed[string(key)] == nil {
		c.freed[string(key)] = make(chan struct{})
	}
	return c.freed[string(key)]
}

// lateClaim is how long a claim may come to stand in the database after it was not known whether it does.
const lateClaim = 15 * time.Minute

// owe notes that a claim is to be removed from the database: until it is, and for some time if it may come to stand there later.
func (c *claims) owe(claim *Claim, late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owed == nil {
		c.owed = make(map[*Claim]time.Time)
	}
	c.owed[claim] = time.Now().Add(late)
}

// Claimed returns how many claims this process holds.
func (s *Store) Claimed() int {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	return len(s.claims.held)
}

// ClaimOwners returns who has what is claimed, of the names that begin as given: by the rest of the name, the id of the
// replica, which lives.
func (s *Store) ClaimOwners(ctx context.Context, name ...string) (owners map[string]string, err error) {
	owners = make(map[string]string)
	err = s.eachClaim(ctx, claimKey(name...), func(key []byte, stored storedClaim) error {
		segments, err := kv.Split(key)
		if err == nil && len(segments) > 2+len(name) {
			owners[strings.Join(segments[2+len(name):], " ")] = stored.Replica
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var live members // read after the claims, so that nobody is missing who has claimed something since
	if err := s.inTime(ctx, func(ctx context.Context) error {
		return s.engine.View(ctx, func(r kv.Reader) (err error) {
			live, err = loadMembers(r)
			return err
		})
	}); err != nil {
		return nil, err
	}
	maps.DeleteFunc(owners, func(_, replica string) bool {
		_, lives := live[replica]
		return !lives
	})
	return owners, nil
}

func (s *Store) eachClaim(ctx context.Context, prefix []byte, visit func(key []byte, stored storedClaim) error) error {
	return s.each(ctx, kv.Prefix(prefix), func(entry kv.Entry) error {
		var stored storedClaim
		if err := decode(entry.Value, &stored); err != nil {
			return nil //nolint:nilerr // nobody's: who claims it next replaces it
		}
		return visit(entry.Key, stored)
	})
}

const (
	// dropEvery is how often it is looked for claims of replicas that are no more, also when none was seen to die.
	dropEvery = 10 * time.Minute
	// dropAtOnce is how many of them go in one transaction.
	dropAtOnce = 32
)

// keepClaims gives back what is owed, finds out what was lost, and removes what the dead have claimed.
func (s *Store) keepClaims(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		s.settleClaims(ctx)
		if s.claims.died.Swap(false) || time.Since(last) >= dropEvery {
			last = time.Now()
			if err := s.dropClaims(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("what dead replicas had claimed could not be removed; who needs it takes it over", "error", err)
			}
		}
	}
}

// dropClaims removes what the dead have claimed, so that it does not stand there for ever.
func (s *Store) dropClaims(ctx context.Context) error {
	live := make(map[string]bool)
	for _, r := range s.Replicas() {
		live[r.ID] = true
	}
	dead := make(map[string]storedClaim)
	drop := func() error {
		err := s.commit(ctx, func(tx kv.Txn) error {
			m, err := loadMembers(tx)
			if err != nil {
				return err
			}
			for _, key := range slices.Sorted(maps.Keys(dead)) {
				stands, found, err := loadClaim(tx, []byte(key))
				if err != nil {
					return err
				}
				if _, lives := m[stands.Replica]; found && !lives && stands == dead[key] {
					tx.Delete([]byte(key))
				}
			}
			return nil
		})
		clear(dead)
		return err
	}
	err := s.eachClaim(ctx, claimKey(), func(key []byte, stored storedClaim) error {
		if live[stored.Replica] {
			return nil
		}
		if dead[string(key)] = stored; len(dead) < dropAtOnce {
			return nil
		}
		return drop()
	})
	if err == nil && len(dead) > 0 {
		err = drop()
	}
	return err
}

// settleClaims gives back what is owed, and, when this replica may have been taken for dead, finds out which claims it has lost.
func (s *Store) settleClaims(ctx context.Context) {
	s.claims.mu.Lock()
	owed := maps.Clone(s.claims.owed)
	var held []*Claim
	if s.claims.away.Swap(false) {
		for _, c := range s.claims.held {
			if c != nil {
				held = append(held, c)
			}
		}
	}
	s.claims.mu.Unlock()
	for c, until := range owed {
		if err := s.eraseClaim(ctx, c); err != nil {
			break // it is tried again
		}
		if time.Now().Before(until) {
			continue
		}
		s.claims.mu.Lock()
		delete(s.claims.owed, c)
		s.claims.mu.Unlock()
	}
	for some := range slices.Chunk(held, kv.MaxTxnKeys) {
		if err := s.findLost(ctx, some); err != nil {
			s.claims.away.Store(true)
			return
		}
	}
}

func (s *Store) findLost(ctx context.Context, held []*Claim) error {
	return s.engine.View(ctx, func(r kv.Reader) error {
		for _, c := range held {
			err := c.check(r)
			switch {
			case errors.Is(err, ErrClaimLost):
				if s.claims.end(c.key, c) {
					close(c.lost)
				}
			case err != nil:
				return err
			}
		}
		return nil
	})
}
