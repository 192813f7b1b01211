package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
)

// TestTurns has many calls of one tenant: so many are worked on at a time, another tenant's at once, and who comes back from
// Zendesk goes before those who have just come.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(2, 0)
		turns.limit = 2
		var mu sync.Mutex
		var order []string
		working, most := map[string]int{}, map[string]int{}
		work := func(tenant, what string, step int) {
			mu.Lock()
			order = append(order, what)
			working[tenant] += step
			most[tenant] = max(most[tenant], working[tenant])
			mu.Unlock()
		}
		var group sync.WaitGroup
		call := func(ctx context.Context, tenant, name string, handler func(context.Context)) {
			group.Go(func() {
				ctx := WithCaller(ctx, auth.Caller{Tenant: tenant})
				_, err := turns.Unary(ctx, nil, &grpc.UnaryServerInfo{}, func(ctx context.Context, _ any) (any, error) {
					work(tenant, name, 1)
					handler(ctx)
					work(tenant, name+" ends", -1)
					return nil, nil
				})
				if err != nil {
					work(tenant, name+" is given up", 0)
				}
			})
			synctest.Wait()
		}
		busy := func(context.Context) { time.Sleep(10 * time.Second) }
		asking := func(ctx context.Context) {
			work("a", "asks", -1)
			Aside(ctx, func() { time.Sleep(5 * time.Second) })
			work("a", "is answered", 1)
		}
		call(t.Context(), "a", "first", asking)
		call(t.Context(), "a", "second", busy)
		for i := range 4 {
			call(t.Context(), "a", fmt.Sprint("later ", i), busy)
		}
		call(t.Context(), "b", "other", func(context.Context) {})
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		call(late, "a", "impatient", busy)
		_, _ = turns.Unary(t.Context(), nil, nil, func(context.Context, any) (any, error) { work("", "unknown", 0); return nil, nil })
		group.Wait()
		want := []string{
			"first", "asks", "second", "later 0", "other", "other ends", "unknown", "impatient is given up",
			"second ends", "is answered", "first ends",
		}
		// What ends at the same time does so in any order.
		if !slices.Equal(order[:8], want[:8]) || !slices.Contains(order[8:12], "is answered") {
			t.Errorf("order: %q", order)
		}
		if most["a"] != 2 || working["a"] != 0 {
			t.Errorf("%d at a time, %d left", most["a"], working["a"])
		}
	})
}

// TestAsideWithoutTime lets a call answer whose time is up, without a turn.
func TestAsideWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(2, 0)
		turns.limit = 2
		ctx, cancel := context.WithTimeout(WithCaller(t.Context(), auth.Caller{Tenant: "a"}), time.Second)
		defer cancel()
		answered := false
		_, err := turns.Unary(ctx, nil, nil, func(inner context.Context, _ any) (any, error) {
			Aside(inner, func() {
				for range 2 {
					if err := turns.take(t.Context(), "a", false); err != nil {
						t.Error(err)
					}
				}
				<-inner.Done()
			})
			answered = true
			return nil, nil
		})
		if !answered || err != nil {
			t.Errorf("answered %t, %v", answered, err)
		}
		if err := turns.take(ctx, "a", false); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		// Who gets none in time is told so, in time.
		late, cancel := context.WithTimeout(WithCaller(t.Context(), auth.Caller{Tenant: "a"}), time.Second)
		defer cancel()
		_, err = turns.Unary(late, nil, nil, nil)
		if refused, ok := errors.AsType[*Error](err); !ok || refused.Reason != zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_CALLS || late.Err() != nil {
			t.Errorf("error is %v", err)
		}
		for range 2 {
			turns.give("a", 0)
		}
		if of := turns.tenants["a"]; of.calls != 0 || of.taken != 0 || of.again.Len()+of.anew.Len() != 0 {
			t.Errorf("what is left: %+v", of)
		}
		time.Sleep(time.Minute)
		turns.count("b", 1)
		if len(turns.tenants) != 1 {
			t.Errorf("%d tenants are remembered", len(turns.tenants))
		}
	})
}

// TestTurnOfAWait has what works on for a call use the store when the call has ended.
func TestTurnOfAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(2, 0)
		own := &turn{turns: turns, tenant: "a"}
		turns.count("a", 1)
		if err := turns.take(t.Context(), "a", false); err != nil {
			t.Fatal(err)
		}
		own.held = true
		ended := make(chan struct{})
		go own.around(func() { <-ended })
		synctest.Wait()
		if own.held || turns.tenants["a"].taken != 0 {
			t.Error("a call that waits for a commit keeps its turn")
		}
		own.around(func() {}) // there is none to give up
		own.end()
		close(ended)
		synctest.Wait()
		if own.held || turns.tenants["a"].taken != 0 {
			t.Error("a call that has ended has a turn")
		}
	})
}

// TestCallsInTheWorks has many calls at once: so many are begun, and the others when those end; who waits for Zendesk does not
// count.
func TestCallsInTheWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(2, 0)
		turns.begun = 5
		var begun atomic.Int64
		committed, answered := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		call := func(wait func(context.Context)) {
			all.Go(func() {
				_, err := turns.Unary(WithCaller(t.Context(), auth.Caller{Tenant: "a"}), nil, nil, func(ctx context.Context, _ any) (any, error) {
					begun.Add(1)
					wait(ctx)
					return nil, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		for range 10 {
			call(func(ctx context.Context) { Aside(ctx, func() { <-answered }) })
		}
		synctest.Wait()
		if n := begun.Swap(0); n != 10 {
			t.Errorf("%d ask Zendesk at a time", n)
		}
		for range 10 {
			call(func(ctx context.Context) {
				ctx.Value(turnKey{}).(*turn).around(func() { <-committed })
			})
		}
		synctest.Wait()
		if n := begun.Load(); n != 5 {
			t.Errorf("%d are begun", n)
		}
		close(committed)
		synctest.Wait()
		if n := begun.Load(); n != 10 {
			t.Errorf("%d are begun when the first have ended", n)
		}
		close(answered)
		all.Wait()
		if of := turns.tenants["a"]; of.calls != 0 || of.taken != 0 {
			t.Errorf("what is left: %+v", of)
		}
	})
}

// TestMeter takes the time of a tenant's calls, period by period.
func TestMeter(t *testing.T) {
	const share = time.Millisecond
	at := func(period int) time.Time { return time.Unix(0, 0).Add(time.Duration(period) * turnPeriod) }
	for name, test := range map[string]struct {
		used   time.Duration // until period 100
		period int
		left   time.Duration // below 0: owed
	}{
		"nothing used":          {0, 100, share},
		"a part of it":          {share / 4, 100, share * 3 / 4},
		"all of it":             {share, 100, 0},
		"more, one period on":   {5 * share / 2, 101, -share / 2},
		"saved up":              {0, 110, 11 * share},
		"no more than so much":  {0, 1000, (turnSavings + 1) * share},
		"owes so much at most":  {time.Hour, 101, -(turnDebts - 2) * share},
		"which is over by then": {time.Hour, 101 + turnDebts, 2 * share},
	} {
		t.Run(name, func(t *testing.T) {
			m := meter{used: test.used, period: at(100)}
			ok, next := m.left(at(test.period).Add(turnPeriod/3), share)
			if left := share - m.used; ok != (test.left > 0) || left != test.left || !next.Equal(at(test.period+1)) {
				t.Errorf("%s are left (%t), want %s; next is %s", left, ok, test.left, next)
			}
		})
	}
}

// TestBusyTenant has one tenant call more than it has turns for: as long as nobody else calls it has them all, beside
// another tenant its share, and who has few calls at a time is not held up.
func TestBusyTenant(t *testing.T) {
	const work = 5 * time.Millisecond
	for name, test := range map[string]struct {
		percent, loops int
		other          bool
		least, most    int // calls in ten seconds
	}{
		"alone":               {3, 50, false, 3990, 4000},
		"beside another":      {3, 50, true, 120, 150}, // 3 % of two processors are 0.6 s, and 60 ms are saved up
		"without a limit":     {0, 50, true, 3990, 4000},
		"few, beside another": {3, 4, true, 3990, 4000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns := NewTurns(2, test.percent)
				turns.limit = 2
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				call := func(tenant string) (ok bool) {
					_, err := turns.Unary(WithCaller(ctx, auth.Caller{Tenant: tenant}), nil, nil, func(context.Context, any) (any, error) {
						time.Sleep(work)
						return nil, nil
					})
					return err == nil && ctx.Err() == nil
				}
				var all sync.WaitGroup
				var calls atomic.Int64
				for range test.loops {
					all.Go(func() {
						for call("busy") {
							calls.Add(1)
						}
					})
				}
				longest := time.Duration(0)
				for begun := time.Now(); test.other && call("other"); begun = time.Now() {
					longest = max(longest, time.Since(begun))
					time.Sleep(100 * time.Millisecond)
				}
				all.Wait()
				if n := int(calls.Load()); n < test.least || n > test.most || longest > work {
					t.Errorf("%d calls, want %d to %d; the other waits for %s", n, test.least, test.most, longest)
				}
			})
		})
	}
}
