package limit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func ask(lane Lane) Request {
	return Request{Origin: "z", Endpoint: "search", Tenant: "a", Account: "1", Lane: lane}
}

// enter takes a turn that must come at once.
func enter(t *testing.T, g *Governor, r Request) *Turn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	turn, err := g.Enter(ctx, r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return turn
}

// refusedAfter is what the caller is told who would wait in vain; 0: it was let in.
func refusedAfter(t *testing.T, g *Governor, r Request, patience time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begun := time.Now()
	turn, err := g.Enter(ctx, r)
	if err == nil {
		turn.Done(Answer{Status: 200})
		return 0
	}
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok {
		t.Fatalf("%+v: %v", r, err)
	}
	if waited := time.Since(begun); waited > 0 {
		t.Errorf("%+v: refused after %v, not at once", r, waited)
	}
	return refused.RetryAfter
}

func headers(limit, remaining int) http.Header {
	return http.Header{"X-Rate-Limit": {strconv.Itoa(limit)}, "X-Rate-Limit-Remaining": {strconv.Itoa(remaining)}}
}

// TestRefusals learns from answers which requests have to wait, and for how long.
func TestRefusals(t *testing.T) {
	bucket := func(remaining int) http.Header {
		h := headers(700, 600)
		h.Set("Zendesk-RateLimit-search", fmt.Sprintf("total=20; remaining=%d; resets=50", remaining))
		return h
	}
	other := ask(Blocks)
	other.Endpoint = "ticket"
	elsewhere := ask(Blocks)
	elsewhere.Origin = "y"
	for name, test := range map[string]struct {
		answer               Answer
		same, other, another time.Duration // what is told to who asks the same, another endpoint, another Zendesk
	}{
		"well":                                 {Answer{Status: 200}, 0, 0, 0},
		"nothing left":                         {Answer{Status: 200, Header: headers(700, 0)}, time.Second, time.Second, 0},
		"throttled, and nothing left":          {Answer{429, headers(700, 0), 7 * time.Second}, 7 * time.Second, 7 * time.Second, 0},
		"throttled, though much is left":       {Answer{429, headers(700, 600), 7 * time.Second}, 7 * time.Second, 0, 0},
		"throttled, and nobody says for what":  {Answer{429, nil, 7 * time.Second}, 7 * time.Second, 0, 0},
		"throttled by the endpoint":            {Answer{429, bucket(0), 7 * time.Second}, 7 * time.Second, 0, 0},
		"endpoint used up":                     {Answer{200, bucket(0), 0}, 50 * time.Second, 0, 0},
		"endpoint not used up":                 {Answer{200, bucket(3), 0}, 0, 0, 0},
		"unavailable, and says when":           {Answer{503, nil, 9 * time.Second}, 9 * time.Second, 0, 0},
		"unavailable":                          {Answer{503, nil, 0}, 0, 0, 0},
		"no answer":                            {Answer{}, 0, 0, 0},
		"as much left as others have not used": {Answer{200, headers(700, 1), 0}, time.Second, time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New(Config{})
				enter(t, g, ask(Blocks)).Done(test.answer)
				for what, pair := range map[string]struct {
					r    Request
					want time.Duration
				}{"same": {ask(Blocks), test.same}, "other": {other, test.other}, "another": {elsewhere, test.another}} {
					if got := refusedAfter(t, g, pair.r, 500*time.Millisecond); got != pair.want {
						t.Errorf("%s: refused for %v, want %v", what, got, pair.want)
					}
				}
			})
		})
	}
}

// TestTwoEndpointsThatRefuse are all of them.
func TestTwoEndpointsThatRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		first, second, third := ask(Blocks), ask(Blocks), ask(Blocks)
		second.Endpoint, third.Endpoint = "ticket", "user"
		enter(t, g, first).Done(Answer{Status: 429, Pause: 20 * time.Second})
		enter(t, g, second).Done(Answer{Status: 429, Pause: 10 * time.Second})
		if got := refusedAfter(t, g, third, time.Second); got != 10*time.Second {
			t.Errorf("refused for %v", got)
		}
		time.Sleep(10*time.Second + 1)
		probe := enter(t, g, third)
		if got := refusedAfter(t, g, second, time.Millisecond); got == 0 {
			t.Error("while one finds out whether it is over, another was let in")
		}
		probe.Done(Answer{Status: 200})
		if got := refusedAfter(t, g, second, time.Second); got != 0 {
			t.Errorf("it is over, and refused for %v", got)
		}
	})
}

// TestTurns has tenants, accounts and lanes wait.
func TestTurns(t *testing.T) {
	g := New(Config{})
	z := g.zendesk("z")
	wait := func(tenant, account string, lane Lane) {
		z.push(&waiter{request: Request{Origin: "z", Endpoint: "e", Tenant: tenant, Account: account, Lane: lane}, granted: make(chan *Turn, 1)})
	}
	wait("a", "1", Activities)
	for range 4 {
		wait("a", "1", Blocks)
	}
	wait("b", "1", Blocks)
	wait("a", "2", Blocks)
	var order []string
	for lane := range lanes {
		for z.lanes[lane].count > 0 {
			w, _ := g.first(z, lane, time.Now())
			g.grant(z, w, time.Now())
			order = append(order, fmt.Sprint(w.request.Tenant, w.request.Account, w.request.Lane))
		}
	}
	if want := []string{"a1blocks", "b1blocks", "a2blocks", "a1blocks", "a1blocks", "a1blocks", "a1activities"}; !slices.Equal(order, want) {
		t.Errorf("order: %q, want %q", order, want)
	}
}

// TestBounds of what waits and is under way.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{MaxInFlight: 2, MaxWaiting: 3})
		turns := []*Turn{enter(t, g, ask(Blocks)), enter(t, g, ask(Blocks))}
		other := ask(Blocks)
		other.Tenant = "b"
		enter(t, g, other).Done(Answer{Status: 200})
		var group sync.WaitGroup
		var granted, gone atomic.Int32
		for range 3 {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				turn, err := g.Enter(ctx, ask(Blocks))
				if err != nil {
					gone.Add(1)
					return
				}
				granted.Add(1)
				time.Sleep(5 * time.Second)
				turn.Done(Answer{Status: 200})
			})
		}
		synctest.Wait()
		if refused := g.Refuses(ask(Blocks), time.Hour); refused == nil || !refused.Crowded {
			t.Errorf("one too many would be let in: %v", refused)
		}
		if refused := g.Refuses(Request{Origin: "unheard of"}, time.Hour); refused != nil {
			t.Errorf("another Zendesk's would not: %v", refused)
		}
		if _, err := g.Enter(t.Context(), ask(Blocks)); err == nil || !err.(*RefusedError).Crowded { //nolint:forcetypeassert // of this package
			t.Errorf("one too many: %v", err)
		}
		time.Sleep(time.Second)
		turns[0].Done(Answer{Status: 200})
		group.Wait()
		turns[1].Done(Answer{})
		if granted.Load() != 1 || gone.Load() != 2 {
			t.Errorf("%d were granted, %d gave up", granted.Load(), gone.Load())
		}
		if z := g.zendesks["z"]; z.ledger.inFlight != 0 || len(z.load(ask(Blocks)).begun) != 0 || z.waiting() != (waiting{}) {
			t.Errorf("left over: %+v", z)
		}
	})
}

// TestShare holds an account to its part of the limit.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		r := ask(Blocks)
		r.MaxShare = 10
		for i := range 20 {
			enter(t, g, r).Done(Answer{Status: 200, Header: headers(200, 199-i)})
		}
		if got := refusedAfter(t, g, r, 10*time.Second); got < time.Minute {
			t.Errorf("refused for %v", got)
		}
		r.Account = "2"
		if got := refusedAfter(t, g, r, 10*time.Second); got != 0 {
			t.Errorf("another account is refused for %v", got)
		}
	})
}

// TestForgotten keeps nothing of a Zendesk that is asked no more.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		for i := range 3000 {
			r := ask(Blocks)
			r.Origin = fmt.Sprint(i)
			enter(t, g, r).Done(Answer{Status: 200})
			time.Sleep(time.Second)
		}
		if len(g.zendesks) > 1100 {
			t.Errorf("%d are kept", len(g.zendesks))
		}
	})
}

// TestThrottledRecord keeps nobody else from writing, until another one is throttled too.
func TestThrottledRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		write := func(id string) Request {
			return Request{Origin: "z", Endpoint: "update", Record: id, Tenant: "a", Account: "1"}
		}
		for i, step := range []struct {
			refuses string
			waits   []string
		}{{"1", []string{"1"}}, {"2", []string{"1", "2", "3"}}} {
			enter(t, g, write(step.refuses)).Done(Answer{Status: 429, Header: headers(700, 600), Pause: time.Minute})
			for _, id := range []string{"1", "2", "3"} {
				if waits := refusedAfter(t, g, write(id), time.Second) > 0; waits != slices.Contains(step.waits, id) {
					t.Errorf("step %d, record %s: waits is %t", i, id, waits)
				}
			}
			if after := refusedAfter(t, g, ask(Blocks), time.Second); after > 0 {
				t.Errorf("step %d: another endpoint waits for %v", i, after)
			}
		}
	})
}

// TestManyWaitForTheLimit while none of them is under way: they go when it has room.
func TestManyWaitForTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{MaxInFlight: 2})
		enter(t, g, ask(Blocks)).Done(Answer{Status: 429, Header: headers(700, 0), Pause: 20 * time.Second})
		begun := time.Now()
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				turn, err := g.Enter(ctx, ask(Blocks))
				if err != nil {
					t.Error(err)
					return
				}
				turn.Done(Answer{Status: 200, Header: headers(700, 600)})
			})
		}
		group.Wait()
		if waited := time.Since(begun); waited < 20*time.Second || waited > 21*time.Second {
			t.Errorf("they have waited for %v", waited)
		}
	})
}

// BenchmarkThousandsWait measures a request among thousands that wait for a limit that is used up.
func BenchmarkThousandsWait(b *testing.B) {
	g := New(Config{})
	z := g.zendesk("z")
	now := time.Now()
	z.ledger.tell(now, figures{known: true, limit: 700}, 0, 0)
	for i := range 4000 {
		r := ask(Blocks)
		r.Tenant = fmt.Sprint(i % 100)
		z.push(&waiter{request: r, granted: make(chan *Turn, 1)})
	}
	for b.Loop() {
		g.mu.Lock()
		_ = g.admit(z, ask(Blocks), now, time.Second)
		g.dispatch(z)
		g.mu.Unlock()
	}
}

// A refusal that says that nothing is left holds for its pause, and not until all that it may count has grown old.
func TestRefusalHoldsForItsPause(t *testing.T) {
	for _, peers := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			g := New(Config{})
			g.Share(peers)
			request := Request{Origin: "z", Endpoint: "tickets", Tenant: "t", Account: "a"}
			ask := func(a Answer) {
				t.Helper()
				turn, err := g.Enter(t.Context(), request)
				if err != nil {
					t.Fatal(err)
				}
				turn.Done(a)
			}
			header := func(remaining string) http.Header {
				return http.Header{"X-Rate-Limit": {"700"}, "X-Rate-Limit-Remaining": {remaining}}
			}
			for range 3 {
				ask(Answer{Status: 200, Header: header("650")})
			}
			ask(Answer{Status: 429, Header: header("0"), Pause: time.Second})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			turn, err := g.Enter(ctx, request)
			if err != nil {
				t.Fatalf("%d replicas: after the pause: %v", peers, err)
			}
			turn.Done(Answer{Status: 200, Header: header("640")})
		})
	}
}
