package store

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/tink-crypto/tink-go/v2/aead"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

func TestPulse(t *testing.T) {
	type look struct {
		at       time.Duration
		counters map[string]uint64
		dead     []string
	}
	s := time.Second
	steady := func(from, to time.Duration, counters map[string]uint64) (looks []look) {
		for at := from; at <= to; at += s {
			looks = append(looks, look{at, counters, nil})
		}
		return looks
	}
	a1, a2 := map[string]uint64{"a": 1}, map[string]uint64{"a": 2}
	for name, looks := range map[string][]look{
		"stands still":          append(steady(0, 7*s, a1), look{8 * s, a1, []string{"a"}}, look{9 * s, a1, []string{"a"}}),
		"goes on in time":       append(steady(0, 7*s, a1), append(steady(8*s, 15*s, a2), look{16 * s, a2, []string{"a"}})...),
		"unknown before":        {{at: 100 * s, counters: a1}},
		"one of two":            append(steady(0, 7*s, a1), look{8 * s, map[string]uint64{"a": 1, "b": 1}, []string{"a"}}),
		"nobody looked":         append(steady(0, 5*s, a1), append(steady(60*s, 67*s, a1), look{68 * s, a1, []string{"a"}})...),
		"looked late, yet went": {{0, a1, nil}, {3 * s, a1, nil}, {6 * s, a1, nil}, {9 * s, a1, []string{"a"}}},
		"went out, came back":   append(steady(0, 5*s, a1), append([]look{{6 * s, nil, nil}}, append(steady(7*s, 14*s, a1), look{15 * s, a1, []string{"a"}})...)...),
	} {
		var p pulse
		for _, l := range looks {
			if diff := cmp.Diff(l.dead, p.look(l.at, l.counters), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, at %s: dead (-want +got):\n%s", name, l.at, diff)
			}
		}
	}
}

// together is an engine that several stores of this process share, as processes share a database.
type together struct{ kv.Engine }

func (together) Shared() bool { return true }
func (together) Close() error { return nil }

// replicas opens stores over one engine.
func replicas(t *testing.T, n int) []*Store {
	t.Helper()
	return replicasOf(t, newKeyset(t, aead.XChaCha20Poly1305KeyTemplate()), n)
}

func replicasOf(t *testing.T, keyset string, n int) []*Store {
	t.Helper()
	engine, err := boltkv.Open(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	stores := make([]*Store, n)
	c := Config{Keyset: keyset, Log: slog.New(slog.DiscardHandler)}
	for i := range stores {
		c.Replica = string(rune('a' + i))
		if stores[i], err = New(t.Context(), together{engine}, c); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stores[i].Close() })
	}
	return stores
}

func TestClaim(t *testing.T) {
	s := replicas(t, 2)
	ctx := t.Context()
	claim := func(s *Store, name ...string) *Claim {
		t.Helper()
		c, err := s.Claim(ctx, name...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := claim(s[0], "sweep")
	for i, other := range s {
		if _, err := other.Claim(ctx, "sweep"); !errors.Is(err, ErrClaimed) {
			t.Errorf("replica %d claims what is claimed: %v", i, err)
		}
	}
	claim(s[1], "sweep", "other").GiveBack()
	first.GiveBack()
	first.GiveBack()
	second := claim(s[1], "sweep")
	first.GiveBack() // does not end another's
	if _, err := s[0].Claim(ctx, "sweep"); !errors.Is(err, ErrClaimed) {
		t.Errorf("claimed while another has it: %v", err)
	}
	if owners, err := s[0].ClaimOwners(ctx); err != nil || !maps.Equal(owners, map[string]string{"sweep": s[1].Replica()}) {
		t.Errorf("owners are %v, %v", owners, err)
	}
	if s[0].Claimed() != 0 || s[1].Claimed() != 1 {
		t.Errorf("%d and %d claims are held", s[0].Claimed(), s[1].Claimed())
	}

	// What is fenced is stored while the claim stands, and not after.
	put := func(c *Claim, s *Store) error {
		return s.commit(Fenced(ctx, c), func(tx kv.Txn) error { tx.Put(probeKey, nil); return nil })
	}
	if err := errors.Join(put(second, s[1]), put(nil, s[0])); err != nil {
		t.Error(err)
	}
	if err := put(first, s[0]); !errors.Is(err, ErrClaimLost) {
		t.Errorf("behind a claim that was given back: %v", err)
	}
	second.GiveBack()
	again := claim(s[1], "sweep")
	claim(s[1], "left over")
	if err := put(second, s[1]); !errors.Is(err, ErrClaimLost) {
		t.Errorf("behind an earlier claim of the same replica: %v", err)
	}

	// Who closes leaves nothing behind.
	if err := s[1].Close(); err != nil {
		t.Fatal(err)
	}
	claim(s[0], "sweep")
	if err := s[0].dropClaims(ctx); err != nil {
		t.Error(err)
	}
	if owners, err := s[0].ClaimOwners(ctx); err != nil || !maps.Equal(owners, map[string]string{"sweep": s[0].Replica()}) {
		t.Errorf("owners are %v, %v", owners, err)
	}
	if live := s[0].Replicas(); len(live) > 2 || !slices.ContainsFunc(live, func(r Replica) bool { return r.ID == s[0].Replica() && r.Name == "a" }) {
		t.Errorf("replicas are %v", live)
	}
	if err := put(again, s[0]); !errors.Is(err, ErrClaimLost) {
		t.Errorf("behind the claim of one that has closed: %v", err)
	}
}

// TestClaimOfTheDead is taken over after a while, and what the dead come back with is not stored.
func TestClaimOfTheDead(t *testing.T) { synctest.Test(t, testClaimOfTheDead) }

func testClaimOfTheDead(t *testing.T) {
	s := replicas(t, 2)
	held, err := s[0].Claim(t.Context(), "sweep")
	if err != nil {
		t.Fatal(err)
	}
	left, err := s[0].Claim(t.Context(), "left alone")
	if err != nil {
		t.Fatal(err)
	}
	s[0].claims.stop() // it sleeps
	s[0].claims.beating.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	taken, err := s[1].AwaitClaim(ctx, "sweep")
	if err != nil {
		t.Fatal(err)
	}
	if live := s[1].Replicas(); len(live) != 1 || live[0].ID != s[1].Replica() {
		t.Errorf("replicas are %v", live)
	}
	put := func(c *Claim) error {
		return c.store.commit(Fenced(t.Context(), c), func(tx kv.Txn) error { tx.Put(probeKey, nil); return nil })
	}
	if err := put(held); !errors.Is(err, ErrClaimLost) {
		t.Errorf("what was taken over: %v", err)
	}
	// It wakes.
	if found, err := s[0].beat(t.Context(), nil); err != nil || len(found) != 2 {
		t.Errorf("%d replicas, %v", len(found), err)
	}
	s[0].claims.away.Store(true)
	s[0].settleClaims(t.Context())
	select {
	case <-held.Lost():
	default:
		t.Error("it does not know what it has lost")
	}
	held.GiveBack()
	if err := put(taken); err != nil {
		t.Errorf("who has taken over: %v", err)
	}
	select {
	case <-left.Lost():
		// The dead one's claims were dropped meanwhile: it has lost this one too.
		if err := put(left); !errors.Is(err, ErrClaimLost) {
			t.Errorf("what was lost: %v", err)
		}
	default:
		if err := put(left); err != nil {
			t.Errorf("what nobody has taken over: %v", err)
		}
	}
}

// awayEngine is one whose database can be away.
type awayEngine struct {
	kv.Engine
	is atomic.Bool
}

func (e *awayEngine) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if e.is.Load() {
		return kv.ErrUnavailable
	}
	return e.Engine.Update(ctx, fn)
}

func TestAwaitClaim(t *testing.T) {
	for name, other := range map[string]int{"within a replica": 0, "of another replica": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testAwaitClaim(t, other) })
		})
	}
}

func testAwaitClaim(t *testing.T, other int) {
	s := replicas(t, 2)
	held, err := s[0].Claim(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *Claim)
	go func() {
		c, err := s[other].AwaitClaim(t.Context(), "x")
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := s[other].AwaitClaim(ended, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	held.GiveBack()
	if c := <-got; c != nil {
		c.GiveBack()
	}
}

// TestClaimAlone stores nothing where no other process can be.
func TestClaimAlone(t *testing.T) {
	s := openStore(t, t.TempDir())
	before := keysOfData(t, s.engine)
	c, err := s.Claim(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(t.Context(), "x"); !errors.Is(err, ErrClaimed) {
		t.Errorf("claimed twice: %v", err)
	}
	if diff := cmp.Diff(before, keysOfData(t, s.engine)); diff != "" {
		t.Errorf("keys (-before +after):\n%s", diff)
	}
	if err := s.commit(Fenced(t.Context(), c), func(tx kv.Txn) error { tx.Put(probeKey, nil); return nil }); err != nil {
		t.Error(err)
	}
	c.GiveBack()
	if c, err = s.Claim(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	c.GiveBack()
	if live := s.Replicas(); len(live) != 1 || live[0].ID != s.Replica() {
		t.Errorf("replicas are %v", live)
	}
}

// TestGiveBackWhileAway gives a claim back although the database is away when it ends.
func TestGiveBackWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, err := boltkv.Open(filepath.Join(t.TempDir(), "data"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = engine.Close() }()
		away := &awayEngine{Engine: together{engine}}
		c := Config{Keyset: newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())}
		a, err := New(t.Context(), away, c)
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(t.Context(), together{engine}, c)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = errors.Join(a.Close(), b.Close()) }()
		held, err := a.Claim(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		away.is.Store(true)
		held.GiveBack()
		if _, err := b.Claim(t.Context(), "x"); !errors.Is(err, ErrClaimed) {
			t.Errorf("it was given back although nothing could be stored: %v", err)
		}
		away.is.Store(false)
		got, err := b.AwaitClaim(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		got.GiveBack()
	})
}

// lateEngine makes commits of which nobody hears in time.
type lateEngine struct {
	kv.Engine
	late    atomic.Bool
	pending func() error
}

func (e *lateEngine) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if e.late.Swap(false) {
		e.pending = func() error { return e.Engine.Update(context.Background(), fn) }
		return kv.ErrUnknownOutcome
	}
	return e.Engine.Update(ctx, fn)
}

// TestLateClaim removes a claim that comes to stand in the database when it was given up.
func TestLateClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, err := boltkv.Open(filepath.Join(t.TempDir(), "data"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = engine.Close() }()
		late := &lateEngine{Engine: together{engine}}
		c := Config{Keyset: newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())}
		a, err := New(t.Context(), late, c)
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(t.Context(), together{engine}, c)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = errors.Join(a.Close(), b.Close()) }()
		late.late.Store(true)
		if _, err := a.Claim(t.Context(), "x"); !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("got %v, want the unknown outcome", err)
		}
		time.Sleep(time.Minute) // it is looked for, and is not there yet
		if err := late.pending(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Claim(t.Context(), "x"); !errors.Is(err, ErrClaimed) {
			t.Errorf("it does not stand there: %v", err)
		}
		got, err := b.AwaitClaim(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		got.GiveBack()
	})
}
