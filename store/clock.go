package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

const (
	// clockSlack is how far the wall clock may move apart from the time that has passed, between two looks at it, before
	// it is said to have jumped. Clocks that are being adjusted move by less.
	clockSlack = time.Minute
	// clockTrust is how long the clock must go evenly after a jump before anything expires by it, and how long a process
	// may have been away before its clock is taken for one that has jumped.
	clockTrust = time.Hour
	// sweptEvery is how often it is stored when the sweep last trusted the clock.
	sweptEvery = 10 * time.Minute
)

// clockWatch watches a wall clock by the time that passes, which nobody can set. The zero clockWatch has not looked yet.
type clockWatch struct {
	looked bool
	wall   time.Time     // at the last look
	passed time.Duration // at the last look, since the process began
	until  time.Duration // nothing expires before so much has passed
}

// look looks at the clocks again: jump is how far the wall clock has moved by itself; zero: it has not. Before the first look,
// swept is when an earlier process last trusted the clock; zero: there was none.
func (w clockWatch) look(wall time.Time, passed time.Duration, swept time.Time) (next clockWatch, jump time.Duration) {
	next = clockWatch{looked: true, wall: wall, passed: passed, until: w.until}
	if !w.looked {
		next.until = passed
	}
	switch {
	case w.looked:
		if moved := wall.Sub(w.wall) - (passed - w.passed); moved.Abs() > clockSlack {
			jump = moved
		}
	case !swept.IsZero():
		if moved := wall.Sub(swept); moved > clockTrust || moved < -clockSlack {
			jump = moved
		}
	}
	if jump != 0 {
		next.until = passed + clockTrust
	}
	return next, jump
}

// even reports whether things may expire by the clock.
func (w clockWatch) even() bool { return w.looked && w.passed >= w.until }

// sweepClock is what a store knows of its clock.
type sweepClock struct {
	mu    sync.Mutex
	watch clockWatch
	waits bool      // for the clock to go evenly
	swept time.Time // when the sweep last trusted the clock
}

// noteSwept stores that the sweep trusted the clock, unless that was stored not long ago.
func (s *Store) noteSwept(ctx context.Context, now, stored time.Time) error {
	if now.Sub(stored).Abs() < sweptEvery {
		return nil
	}
	return s.commit(ctx, func(tx kv.Txn) error {
		sealed, err := s.vault.seal(sweptKey, []byte(now.Format(time.RFC3339Nano)))
		if err == nil {
			tx.Put(sweptKey, sealed)
		}
		return err
	})
}

// lookAtClock returns the present, and whether things may expire by it.
func (s *Store) lookAtClock(ctx context.Context, stored time.Time) (now time.Time, even bool) {
	present := s.now() // with the monotonic reading, where it has one
	now = present.UTC().Round(0)
	c := &s.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	jump := time.Duration(0)
	if c.watch, jump = c.watch.look(now, present.Sub(s.started), stored); jump != 0 {
		c.waits = true
		s.log.WarnContext(ctx, "the clock has jumped, or nobody has served for long: nothing expires until it has gone evenly for a while",
			"jump", jump.String(), "wait", clockTrust.String())
	}
	if even = c.watch.even(); !even {
		return now, false
	}
	if c.waits {
		c.waits = false
		s.log.InfoContext(ctx, "the clock goes evenly: what is due expires again")
	}
	c.swept = now
	return now, true
}

func (s *Store) loadSwept(ctx context.Context) (at time.Time, err error) {
	err = s.engine.View(ctx, func(r kv.Reader) error {
		values, err := r.Get(sweptKey)
		if err != nil || values[0] == nil {
			return err
		}
		value, err := s.vault.open(sweptKey, values[0])
		if err != nil {
			return err
		}
		if at, err = time.Parse(time.RFC3339Nano, string(value)); err != nil {
			err = fmt.Errorf("when expiry last went by the clock: %w: %w", err, ErrDamaged)
		}
		return err
	})
	return at, err
}

// changeTime is the present for what expires by the time of its last change: it does not go back with the clock.
func (s *Store) changeTime(now, before time.Time) time.Time {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	for _, other := range []time.Time{before, s.clock.swept} {
		if other.After(now) {
			now = other
		}
	}
	return now
}
