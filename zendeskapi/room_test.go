package zendeskapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestInOrder(t *testing.T) {
	for name, tt := range map[string]struct{ guests, want []string }{
		"none":                            {},
		"by age":                          {[]string{"a/1", "b/1", "c/1"}, []string{"0", "1", "2"}},
		"one account waits for itself":    {[]string{"a/1", "a/1", "a/1", "b/1"}, []string{"0", "3", "1", "2"}},
		"accounts of a tenant take turns": {[]string{"a/1", "a/1", "a/2"}, []string{"0", "2", "1"}},
		"and are one tenant to others":    {[]string{"a/1", "a/2", "a/3", "b/1"}, []string{"0", "3", "1", "2"}},
		"both":                            {[]string{"a/1", "a/1", "a/2", "b/1", "b/1"}, []string{"0", "3", "2", "4", "1"}},
	} {
		guests, number := []*guest{}, map[*guest]string{}
		for i, text := range tt.guests {
			g := &guest{owner: owner{text[:1], text[2:]}}
			guests, number[g] = append(guests, g), fmt.Sprint(i)
		}
		var got []string
		for _, g := range inOrder(guests) {
			got = append(got, number[g])
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Who finds no room waits in its order, and goes on when there is some.
func TestRoomIsShared(t *testing.T) {
	const mib = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(128*mib, 2)
		a, b, c := r.enter(t.Context(), owner{"a", "1"}), r.enter(t.Context(), owner{"a", "1"}), r.enter(t.Context(), owner{"a", "2"})
		d := r.enter(t.Context(), owner{"b", "1"})
		take := func(g *guest, bytes int64, entry bool) chan error {
			done := make(chan error, 1)
			go func() { done <- g.take(t.Context(), bytes, entry, false) }()
			synctest.Wait()
			return done
		}
		granted := func(done chan error) bool { synctest.Wait(); return len(done) == 1 }

		if !granted(take(a, 20*mib, false)) || !granted(take(b, 12*mib, false)) {
			t.Fatal("an account does not get its share")
		}
		inAccount := take(b, 1, false) // the account has its quarter
		if granted(inAccount) {
			t.Error("an account has more than its share")
		}
		if !granted(take(b, answerBytes, true)) {
			t.Error("a small answer waits for large ones")
		}
		if !granted(take(a, 4*mib, false)) {
			t.Error("the first of an account waits")
		}
		if !granted(take(c, 20*mib, false)) {
			t.Error("an account waits for another")
		}
		if !granted(take(d, 16*mib, false)) {
			t.Error("a tenant waits for another")
		}
		inAll := take(d, 20*mib, false) // 72 of 79.7 MiB are held
		if granted(inAll) {
			t.Error("there is more room than there is")
		}
		if !granted(take(a, 10*mib, false)) {
			t.Error("the first of all waits")
		}
		if r.held > r.memory {
			t.Errorf("%d bytes are held", r.held)
		}
		a.leave()
		if !granted(inAccount) || !granted(inAll) {
			t.Error("room was given back, and somebody waits")
		}
		for _, g := range []*guest{a, b, c, d} {
			g.leave()
		}
		if r.held != 0 || len(r.byOwner)+len(r.byTenant)+len(r.guests)+len(r.waiting) != 0 {
			t.Errorf("what is left: %+v", r)
		}
	})
}

func TestRoomWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(MinAnswerMemory, 2)
		first, g := r.enter(t.Context(), owner{"a", "1"}), r.enter(t.Context(), owner{"a", "1"})
		for range 3 {
			if err := first.take(t.Context(), r.memory/4, false, true); err != nil {
				t.Fatal(err) // the first gets what it needs
			}
		}
		if err := first.startTurn(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.take(t.Context(), 1, false, true); !errors.Is(err, errNoRoom) {
			t.Errorf("at once: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.take(ctx, 1, false, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("memory: %v", err)
		}
		if err := g.startTurn(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("turn: %v", err)
		}
		began := time.Now()
		if err := g.startTurn(context.Background()); !timedOut(err) || time.Since(began) != requestTimeout {
			t.Errorf("without a deadline: %v after %s", err, time.Since(began))
		}
		first.endTurn(0)
		if err := g.startTurn(t.Context()); err != nil || len(r.waiting) != 0 {
			t.Errorf("a turn that ended: %v", err)
		}
	})
}

// Whatever guests do, all of them come to their end, and the memory is never more than it is.
func TestRoomNeverStandsStill(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			r := newRoom(MinAnswerMemory, 3)
			var all sync.WaitGroup
			for range 60 {
				o := owner{fmt.Sprint(random.IntN(3)), fmt.Sprint(random.IntN(3))}
				steps := random.IntN(4 * 8)
				own := rand.New(rand.NewPCG(random.Uint64(), 1))
				all.Go(func() {
					g := r.enter(t.Context(), o)
					defer g.leave()
					if err := g.take(context.Background(), answerBytes, true, false); err != nil {
						t.Errorf("entry: %v", err)
					}
					for range steps {
						if err := g.take(context.Background(), 1<<20, false, false); err != nil {
							t.Errorf("memory: %v", err)
						}
						if err := g.startTurn(context.Background()); err != nil {
							t.Errorf("turn: %v", err)
						}
						time.Sleep(time.Duration(own.IntN(10)) * time.Millisecond)
						g.endTurn(time.Millisecond)
					}
				})
			}
			all.Wait()
			time.Sleep(longestRest)
			synctest.Wait()
			if r.held != 0 || r.reading != 0 || r.mostHeld > r.memory || len(r.waiting) != 0 {
				t.Errorf("held %d, at most %d of %d; %d turns", r.held, r.mostHeld, r.memory, r.reading)
			}
		})
	}
}

func TestRest(t *testing.T) {
	for name, test := range map[string]struct {
		owed, worked time.Duration
		pressed      bool
		pause, still time.Duration
	}{
		"a moment":            {0, 100 * time.Microsecond, false, 0, 200 * time.Microsecond},
		"and what is owed":    {900 * time.Microsecond, 100 * time.Microsecond, false, 1100 * time.Microsecond, 0},
		"long":                {0, 2 * time.Millisecond, false, 4 * time.Millisecond, 0},
		"too long":            {0, time.Second, false, longestRest, 0},
		"somebody is pressed": {900 * time.Microsecond, time.Second, true, 0, 0},
	} {
		if pause, still := rest(test.owed, test.worked, test.pressed); pause != test.pause || still != test.still {
			t.Errorf("%s: %s, and %s is owed, want %s and %s", name, pause, still, test.pause, test.still)
		}
	}
}

// Turns come with rests between them, until half of a guest's time is over.
func TestTurnsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(MinAnswerMemory, 2)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		g := r.enter(ctx, owner{"a", "1"})
		defer g.leave()
		turnsIn := func(d time.Duration) (n int) {
			for begun := time.Now(); time.Since(begun) < d; n++ {
				if err := g.startTurn(ctx); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Millisecond)
				g.endTurn(2 * time.Millisecond)
			}
			return n
		}
		if n := turnsIn(time.Second); n != 169 { // the first three at once, and each of the others 6 ms
			t.Errorf("%d turns in the first half of its time", n)
		}
		if n := turnsIn(time.Second / 2); n != 248 {
			t.Errorf("%d turns then", n)
		}
	})
}
