package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Several processes may work on one database, where the engine lets them: replicas. Each raises a counter of its own every
// beatEvery, all of which stand under one key, so that a transaction sees them together. Who sees a counter unchanged for
// deadAfter, by its own monotonic clock, takes the replica out: what that one has claimed is free then. No two clocks are
// compared. A replica that was taken for dead and only slept puts itself in again; what it had begun meanwhile is kept from
// being stored by its claims, see [Fenced].

const (
	beatEvery = time.Second
	deadAfter = 8 * time.Second
	// awayAfter is after how long without a look at the counters nothing is concluded from them: whoever has not looked, or could
	// not, as when the database was away, does not know whether they stood still.
	awayAfter = 3 * beatEvery
	// beatTime is how long one beat may take.
	beatTime = 5 * time.Second
)

// Replica is a process that works on the data.
type Replica struct {
	ID      string    // random, of this run of the process
	Name    string    // for people: Config.Replica
	Started time.Time // by its own clock
	Keys    []uint32  // ids of the keys by which it reads
	Primary uint32    // id of that by which it seals
}

// member is the stored form of a replica.
type member struct {
	Counter uint64    `json:"counter"`
	Name    string    `json:"name,omitempty"`
	Started time.Time `json:"started"`
	Keys    []uint32  `json:"keys"`
	Primary uint32    `json:"primary"`
}

// members are the replicas that live, by their ids.
type members map[string]member

// loadMembers reads them. Ids of keys and counters are no secret, and a replica that lacks a key is to be seen by the others: it
// stands in clear.
func loadMembers(r kv.Getter) (members, error) {
	values, err := r.Get(replicasKey)
	if err != nil || values[0] == nil {
		return members{}, err
	}
	var m members
	if err := decode(values[0], &m); err != nil {
		return nil, err
	}
	return m, nil
}

func (m members) save(tx kv.Txn) error {
	if len(m) == 0 {
		tx.Delete(replicasKey)
		return nil
	}
	value, err := encode(m)
	if err == nil {
		tx.Put(replicasKey, value)
	}
	return err
}

// behind names a replica that seals with another key; empty: none does.
func (m members) behind(primary uint32) string {
	for _, id := range slices.Sorted(maps.Keys(m)) {
		if m[id].Primary != primary {
			return cmp.Or(m[id].Name, id)
		}
	}
	return ""
}

// register puts this replica among those that work on the data, with the keys that it has, and returns the others. Where
// nobody else can be, nothing is stored.
func (s *Store) register(tx kv.Txn, keys *keyfile.Keys) (others members, err error) {
	if !s.Shared() {
		return nil, nil
	}
	m, err := loadMembers(tx)
	if err != nil {
		return nil, err
	}
	if _, was := m[s.claims.self]; !was && s.claims.stop != nil {
		s.claims.away.Store(true)
	}
	m[s.claims.self] = s.member(m[s.claims.self].Counter+1, keys)
	if err := m.save(tx); err != nil {
		return nil, err
	}
	delete(m, s.claims.self)
	return m, nil
}

func (s *Store) member(counter uint64, keys *keyfile.Keys) member {
	return member{counter, s.claims.name, s.started.UTC().Round(0), keys.Enabled(), keys.Primary()}
}

// pulse is what one replica has seen of the counters of others.
type pulse struct {
	looked bool
	at     time.Duration // of the last look
	seen   map[string]beat
}

type beat struct {
	counter uint64
	since   time.Duration
}

// look takes in the counters as they are at a time of a monotonic clock, and returns which replicas are dead.
func (p *pulse) look(now time.Duration, counters map[string]uint64) (dead []string) {
	wasAway := !p.looked || now-p.at > awayAfter
	before := p.seen
	p.looked, p.at, p.seen = true, now, make(map[string]beat, len(counters))
	for id, counter := range counters {
		last, known := before[id]
		if !known || wasAway || last.counter != counter {
			p.seen[id] = beat{counter, now}
			continue
		}
		p.seen[id] = last
		if now-last.since >= deadAfter {
			dead = append(dead, id)
		}
	}
	slices.Sort(dead)
	return dead
}

// Replicas returns the processes that work on the data, by what was known a moment ago, oldest first: at least this one.
func (s *Store) Replicas() []Replica {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	return slices.Clone(s.claims.replicas)
}

// Replica returns the id of this process among those that work on the data.
func (s *Store) Replica() string { return s.claims.self }

// Shared reports whether other processes may work on the data at the same time.
func (s *Store) Shared() bool { return s.engine.Shared() }

// enter keeps this process a replica until the store is closed.
func (s *Store) enter(ctx context.Context) error {
	if !s.Shared() {
		s.claims.replicas = []Replica{{ID: s.claims.self, Name: s.claims.name, Started: s.started}}
		return nil
	}
	if _, err := s.beat(ctx, nil); err != nil {
		return fmt.Errorf("telling other replicas of this one: %w", err)
	}
	ctx, s.claims.stop = context.WithCancel(context.Background())
	s.claims.beating.Go(func() { s.keepBeating(ctx) })
	s.claims.beating.Go(func() { s.keepClaims(ctx) })
	return nil
}

// leave ends what enter began. What this replica had claimed is free then.
func (s *Store) leave() {
	if !s.Shared() || s.vault == nil {
		return
	}
	s.claims.mu.Lock()
	s.claims.leaving = true
	s.claims.mu.Unlock()
	s.claims.releasing.Wait()
	if s.claims.stop != nil {
		s.claims.stop()
		s.claims.beating.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), OutcomeTime)
	defer cancel()
	err := s.engine.Update(ctx, func(tx kv.Txn) error {
		m, err := loadMembers(tx)
		if _, isMember := m[s.claims.self]; err != nil || !isMember {
			return err
		}
		delete(m, s.claims.self)
		tx.Delete(noticeKey(s.claims.self))
		return m.save(tx)
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		s.log.Warn("other replicas were not told that this one ends: they take over what it did after a while", "error", err, "after", deadAfter.String())
	}
}

func (s *Store) keepBeating(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	began := time.Now()
	var p pulse
	var dead members
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		found, err := s.beat(ctx, dead)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
				s.log.Warn("other replicas could not be told that this one lives", "error", err)
			}
			if errors.Is(err, ErrUnknownOutcome) || errors.Is(err, context.DeadlineExceeded) { // a database that does not answer
				err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			_ = s.noteUnavailable(err)
			continue
		}
		counters := make(map[string]uint64, len(found))
		for id := range found {
			if id != s.claims.self {
				counters[id] = found[id].Counter
			}
		}
		dead = make(members)
		for _, id := range p.look(time.Since(began), counters) {
			dead[id] = found[id]
		}
	}
}

// beat raises this replica's counter, and takes out those that are dead, as far as they are as they were seen.
func (s *Store) beat(ctx context.Context, dead members) (found members, err error) {
	ctx, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	keys := s.vault.keys.Load()
	var was bool
	var gone []string
	err = s.engine.Update(ctx, func(tx kv.Txn) (err error) {
		if found, err = loadMembers(tx); err != nil {
			return err
		}
		gone = nil
		for id, seen := range dead {
			if now, ok := found[id]; ok && now.Counter == seen.Counter {
				delete(found, id)
				gone = append(gone, id)
			}
		}
		var self member
		if self, was = found[s.claims.self]; !was {
			self = s.member(0, keys)
		}
		self.Counter++ // its keys are as adopt has left them, which may have been meanwhile
		found[s.claims.self] = self
		return found.save(tx)
	})
	if err != nil {
		return nil, err
	}
	if len(gone) > 0 {
		s.claims.died.Store(true)
	}
	for _, id := range gone {
		s.log.Warn("a replica has died, or hangs: the others take over what it did", "replica", dead[id].Name, "replica_id", id)
	}
	if s.noteMembers(found); s.claims.stop != nil && !was {
		s.log.Warn("this replica was taken for dead, since it did not say for long that it lives: others do what it did", "replica_id", s.claims.self)
		s.wasDead()
	}
	if s.claims.unadopted.Load() {
		if err := s.adopt(ctx, keys); err != nil {
			s.log.Error("nothing is stored: the keys of this replica may not be those of the others any more", "error", err)
			return found, nil
		}
		s.claims.unadopted.Store(false)
	}
	return found, nil
}

// wasDead notes that this replica was none for a while: others may have taken over what it has claimed, and done without the keys
// that it seals with.
func (s *Store) wasDead() {
	s.claims.away.Store(true)
	s.claims.unadopted.Store(true)
}

// noteMembers takes in who the replicas are.
func (s *Store) noteMembers(found members) {
	replicas := make([]Replica, 0, len(found))
	for _, id := range slices.Sorted(maps.Keys(found)) {
		m := found[id]
		replicas = append(replicas, Replica{id, m.Name, m.Started, m.Keys, m.Primary})
	}
	slices.SortStableFunc(replicas, func(a, b Replica) int { return a.Started.Compare(b.Started) })
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	s.claims.replicas = replicas
}
