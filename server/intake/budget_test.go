package intake

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

// What is granted and what waits, step by step.
func TestBudget(t *testing.T) {
	share := func(owner string) Share { return Share{Owner: owner, Bytes: 60} }
	type step struct {
		claim  string // takes: its name
		give   string // gives back: the name of what was taken
		bytes  int64
		owners []string
		want   string // "granted", "waits" or "busy"; of a give: which claims are granted by it
	}
	for name, steps := range map[string][]step{
		"room": {
			{claim: "1", bytes: 60, owners: []string{"a"}, want: "granted"},
			{claim: "2", bytes: 40, owners: []string{"b"}, want: "granted"},
			{give: "1"},
		},
		"a share that is used up is waited for by its owner only": {
			{claim: "1", bytes: 60, owners: []string{"a"}, want: "granted"},
			{claim: "2", bytes: 1, owners: []string{"a"}, want: "waits"},
			{claim: "3", bytes: 40, owners: []string{"b"}, want: "granted"},
			{give: "3"},
			{give: "1", want: "2 "},
		},
		"the whole": {
			{claim: "1", bytes: 60, owners: []string{"a"}, want: "granted"},
			{claim: "2", bytes: 60, owners: []string{"b"}, want: "waits"},
			{claim: "3", bytes: 40, owners: []string{"c"}, want: "granted"}, // small ones pass
			{give: "3"},
			{give: "1", want: "2 "},
		},
		"every owner is charged": {
			{claim: "1", bytes: 60, owners: []string{"tenant", "one"}, want: "granted"},
			{claim: "2", bytes: 10, owners: []string{"tenant", "other"}, want: "waits"},
			{claim: "3", bytes: 10, owners: []string{"other"}, want: "granted"},
			{give: "1", want: "2 "},
		},
		"in the order in which they came": {
			{claim: "1", bytes: 60, owners: []string{"a"}, want: "granted"},
			{claim: "2", bytes: 30, owners: []string{"a"}, want: "waits"},
			{claim: "3", bytes: 40, owners: []string{"a"}, want: "waits"},
			{claim: "4", bytes: 30, owners: []string{"a"}, want: "busy"}, // two wait already
			{give: "1", want: "2 "},
			{give: "2", want: "3 "},
		},
		"what never fits does not wait": {
			{claim: "1", bytes: 61, owners: []string{"a"}, want: "busy"},
			{claim: "2", bytes: 101, want: "busy"},
			{claim: "3", bytes: 100, want: "granted"},
		},
	} {
		b := newBudget(100, 2)
		claims := map[string]*claim{}
		for i, s := range steps {
			got := ""
			if s.give != "" {
				waiting := map[string]bool{}
				for name, c := range claims {
					waiting[name] = c.granted != nil && !isGranted(c)
				}
				b.give(claims[s.give])
				delete(claims, s.give)
				for _, s := range steps {
					if c := claims[s.claim]; c != nil && waiting[s.claim] && isGranted(c) {
						got += s.claim + " "
					}
				}
			} else {
				c := &claim{bytes: s.bytes}
				for _, owner := range s.owners {
					c.shares = append(c.shares, share(owner))
				}
				switch err := b.enqueue(c); {
				case errors.Is(err, errBusy):
					got = "busy"
				case isGranted(c):
					got = "granted"
				default:
					got = "waits"
				}
				claims[s.claim] = c
			}
			if got != s.want {
				t.Errorf("%s, step %d: %q, want %q", name, i+1, got, s.want)
			}
		}
	}
}

func isGranted(c *claim) bool {
	if c.granted == nil {
		return true
	}
	select {
	case <-c.granted:
		return true
	default:
		return false
	}
}

// Whatever is taken, waited for and given back: nobody has more than it may, and in the end nothing is left.
func TestBudgetAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBudget(100, 3)
		var held, waiting []*claim
		settle := func() {
			var still []*claim
			for _, c := range waiting {
				if isGranted(c) {
					held = append(held, c)
				} else {
					still = append(still, c)
				}
			}
			waiting = still
		}
		remove := func(from *[]*claim, what string) *claim {
			at := rapid.IntRange(0, len(*from)-1).Draw(t, what)
			c := (*from)[at]
			*from = append((*from)[:at:at], (*from)[at+1:]...)
			return c
		}
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				c := &claim{bytes: rapid.Int64Range(0, 70).Draw(t, "bytes")}
				for _, owner := range rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 0, 2, rapid.ID).Draw(t, "owners") {
					c.shares = append(c.shares, Share{Owner: owner, Bytes: 60})
				}
				if b.enqueue(c) == nil {
					waiting = append(waiting, c)
				}
			},
			"give": func(*rapid.T) {
				if len(held) > 0 {
					b.give(remove(&held, "held"))
				}
			},
			"abandon": func(t *rapid.T) {
				if len(waiting) > 0 {
					if c := remove(&waiting, "waiting"); !b.abandon(c) {
						t.Fatalf("%v does not wait", c)
					}
				}
			},
			"": func(t *rapid.T) {
				settle()
				var used int64
				owners := map[any]int64{}
				for _, c := range held {
					used += c.bytes
					for _, s := range c.shares {
						owners[s.Owner] += c.bytes
					}
				}
				if used != b.used || used > b.size {
					t.Fatalf("%d of %d are used, and %d are held", b.used, b.size, used)
				}
				for owner, bytes := range owners {
					if bytes > 60 || b.owners[owner].used != bytes {
						t.Fatalf("%v has %d", owner, bytes)
					}
				}
			},
		})
		settle()
		for _, c := range waiting {
			b.abandon(c)
		}
		for _, c := range held {
			b.give(c)
		}
		if settle(); b.used != 0 || len(b.owners) != 0 || len(b.waiting) != 0 {
			t.Fatalf("%d bytes, %v and %v are left", b.used, b.owners, b.waiting)
		}
	})
}

// Who waits does so until its context ends, and is forgotten then.
func TestBudgetWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10, 2)
		give, err := b.take(t.Context(), time.Minute, 10, Share{Owner: "a", Bytes: 10})
		if err != nil {
			t.Fatal(err)
		}
		cause := errors.New("cause")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		begun := time.Now()
		if _, err := b.take(ctx, time.Minute, 1); !errors.Is(err, cause) || time.Since(begun) != time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		time.AfterFunc(time.Minute, give)
		again, err := b.take(t.Context(), time.Hour, 10)
		if err != nil || time.Since(begun) != time.Second+time.Minute {
			t.Fatalf("after %s: %v", time.Since(begun), err)
		}
		again()
		if fmt.Sprint(b.used, len(b.owners), len(b.waiting)) != "0 0 0" {
			t.Errorf("%d bytes, %v and %v are left", b.used, b.owners, b.waiting)
		}
	})
}
