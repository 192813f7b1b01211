package limit

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPeers(t *testing.T) {
	for name, test := range map[string]struct {
		peers     peers
		limit     float64
		underWay  int
		amount    float64
		used      float64
		margin    float64
		meanwhile float64
		share     float64
	}{
		"alone":                            {peers{0, 50}, 200, 9, 100, 60, 0, 0, 100},
		"two who are as busy":              {peers{2, 13}, 200, 3, 100, 90, 4, 6, 100. / 3},
		"two who are idle":                 {peers{2, 0}, 200, 9, 100, 0, 2, 2, 100},
		"two who have used a little":       {peers{2, 1}, 200, 9, 100, 20, 2, 2, 80},
		"nothing is on its way":            {peers{2, 13}, 200, 0, 100, 100, 4, 0, 100. / 3},
		"a small limit":                    {peers{9, 30}, 30, 2, 3, 30, 3, 17, 1},
		"a limit of which nothing is over": {peers{9, 30}, 9, 2, 1, 9, 0, 17, 1},
	} {
		margin, meanwhile, share := test.peers.margin(test.limit), test.peers.meanwhile(test.underWay), test.peers.share(test.amount, test.used)
		if margin != test.margin || meanwhile != test.meanwhile || math.Abs(share-test.share) > 1e-9 {
			t.Errorf("%s: %v are left free, %v may have been sent, %v may be used, want %v, %v and %v",
				name, margin, meanwhile, share, test.margin, test.meanwhile, test.share)
		}
	}
}

// TestOthers tells a ledger what others have used.
func TestOthers(t *testing.T) {
	begun := time.Unix(1_000_000_000, 0)
	var s sent
	s.until(begun)
	for _, step := range []struct {
		at   time.Duration
		told int // -1: nothing
		want int
	}{
		{0, 61, 61},                // some time in the last minute
		{20 * time.Second, -1, 41}, // some of which are past
		{20 * time.Second, 41, 41},
		{21 * time.Second, 50, 50}, // 10 are new, for one has become past
		{25 * time.Second, 10, 10}, // the oldest are forgotten
		{62 * time.Second, -1, 10},
		{81500 * time.Millisecond, -1, 5}, // half of those of the 21st second
		{82 * time.Second, -1, 0},
	} {
		s.until(begun.Add(step.at))
		if step.told >= 0 {
			s.tellOthers(begun.Add(step.at), step.told)
		}
		if s.others != step.want {
			t.Errorf("after %v others have sent %d, want %d", step.at, s.others, step.want)
		}
	}
}

// TestFixedMinute has Zendesk forget at once what was used.
func TestFixedMinute(t *testing.T) {
	begun := time.Unix(1_000_000_000, 0)
	var m fixedMinute
	for i, step := range []struct {
		at                    time.Duration
		used, number, settled int
		more                  int
		fixed                 bool
	}{
		{0, 1, 1, 0, 0, false},
		{time.Second, 150, 50, 40, 0, false},
		{2 * time.Second, 130, 60, 60, 0, false},   // some became past
		{3 * time.Second, 5, 61, 60, 0, true},      // not even ours are counted
		{4 * time.Second, 6, 62, 60, 0, true},      // which was ours
		{5 * time.Second, 20, 66, 60, 10, true},    // of which 4 were
		{6 * time.Second, 25, 68, 60, 3, true},     //
		{63 * time.Second, 150, 90, 60, 103, true}, // at its end
		{64 * time.Second, 2, 91, 60, 0, true},     // the next one
		{64 * time.Second, 1, 92, 60, 0, true},     //
		{130 * time.Second, 100, 99, 60, 0, false},
	} {
		if more, fixed := m.others(begun.Add(step.at), 200, step.used, step.number, step.settled); more != step.more || fixed != step.fixed {
			t.Errorf("step %d: %d more, %t, want %d, %t", i, more, fixed, step.more, step.fixed)
		}
	}
}

// learned is what there is to tell now.
func learned(t *testing.T, g *Governor) []Notice {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	return g.Learned(ctx)
}

// TestNotices has one replica learn from answers, and the other from it.
func TestNotices(t *testing.T) {
	usedUp := Notice{Origin: "z", Limit: 200}
	for name, test := range map[string]struct {
		answer Answer
		want   []Notice
		same   time.Duration // what the other replica tells who asks for the same
		other  time.Duration // and for another endpoint
	}{
		"well":                      {Answer{Status: 200}, nil, 0, 0},
		"much is left":              {Answer{Status: 200, Header: headers(200, 100)}, nil, 0, 0},
		"little is left":            {Answer{Status: 200, Header: headers(200, 12)}, []Notice{{Origin: "z", Limit: 200, Remaining: 12}}, 0, 0},
		"nothing is left":           {Answer{Status: 200, Header: headers(200, 0)}, []Notice{usedUp}, time.Second, time.Second},
		"refused, nothing is left":  {Answer{429, headers(200, 0), 7 * time.Second}, []Notice{{Origin: "z", Limit: 200, Pause: 7 * time.Second, UsedUp: true}}, 8 * time.Second, 8 * time.Second},
		"refused, nobody says what": {Answer{429, nil, 7 * time.Second}, []Notice{{Origin: "z", Endpoint: "search", Pause: 7 * time.Second, UsedUp: true}}, 8 * time.Second, 0},
		"takes no requests now":     {Answer{503, nil, 7 * time.Second}, []Notice{{Origin: "z", Endpoint: "search", Pause: 7 * time.Second}}, 8 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, alone := New(Config{}), New(Config{}), New(Config{})
				a.Share(2)
				b.Share(2)
				enter(t, a, ask(Blocks)).Done(test.answer)
				got := learned(t, a)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("notices (-want +got):\n%s", diff)
				}
				for _, n := range got {
					b.Learn(n)
				}
				other := ask(Blocks)
				other.Endpoint = "ticket"
				for what, pair := range map[string]struct {
					r    Request
					want time.Duration
				}{"same": {ask(Blocks), test.same}, "other": {other, test.other}} {
					if got := refusedAfter(t, b, pair.r, 200*time.Millisecond); got != pair.want {
						t.Errorf("%s: refused for %v, want %v", what, got, pair.want)
					}
				}
				if got := learned(t, b); got != nil {
					t.Errorf("what it was told it tells again: %+v", got)
				}
				enter(t, alone, ask(Blocks)).Done(test.answer)
				if got := learned(t, alone); got != nil {
					t.Errorf("one that is alone has %+v to tell", got)
				}
			})
		})
	}
}

// TestNoticesAreFew has answers tell the same again and again: others are told once a second, and of a refusal at once.
func TestNoticesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		g.Share(3)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var told atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for notices := g.Learned(ctx); notices != nil; notices = g.Learned(ctx) {
				told.Add(int64(len(notices)))
			}
		}()
		begun := time.Now()
		for time.Since(begun) < 5*time.Second {
			enter(t, g, ask(Blocks)).Done(Answer{Status: 200, Header: headers(200, 15)})
			time.Sleep(50 * time.Millisecond)
		}
		if n := told.Swap(0); n < 5 || n > 6 {
			t.Errorf("in 5 s it tells %d times", n)
		}
		enter(t, g, ask(Blocks)).Done(Answer{429, headers(200, 0), 20 * time.Second})
		synctest.Wait()
		if n := told.Load(); n != 1 {
			t.Errorf("of a refusal it tells %d times at once", n)
		}
		<-done
	})
}

// TestLearnedPauseEnds lets one request find out whether it is over, when that was told, a little after who was refused does.
func TestLearnedPauseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		g.Share(2)
		g.Learn(Notice{Origin: "z", Pause: 5 * time.Second, UsedUp: true, Limit: 200})
		if got := g.Limits("z"); time.Until(got.LimitedUntil) != 5*time.Second+learnedLater {
			t.Errorf("limits are %+v", got)
		}
		time.Sleep(5*time.Second + learnedLater)
		g.Learn(Notice{Origin: "z", Limit: 200, Remaining: 100})
		probe := enter(t, g, ask(Blocks))
		if got := refusedAfter(t, g, ask(Blocks), time.Millisecond); got == 0 {
			t.Error("while one finds out whether it is over, another was let in")
		}
		probe.Done(Answer{Status: 200, Header: headers(200, 99)})
		enter(t, g, ask(Blocks)).Done(Answer{Status: 200, Header: headers(200, 98)})
	})
}

// TestShareOfReplicas holds an account to its part of the limit over all replicas, and lets it have what the others leave.
func TestShareOfReplicas(t *testing.T) {
	for name, test := range map[string]struct {
		replicas, others int
		want             int // requests that are let in
	}{
		"alone":              {1, 100, 60},
		"others are idle":    {3, 0, 60},
		"others use little":  {3, 10, 50},
		"others use as much": {3, 100, 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New(Config{})
				g.Share(test.replicas)
				r := ask(Blocks)
				r.MaxShare = 30
				n := 0
				for ; n < 100; n++ {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					turn, err := g.Enter(ctx, r)
					cancel()
					if err != nil {
						break
					}
					turn.Done(Answer{Status: 200, Header: headers(200, 199-test.others-n)})
				}
				if n != test.want {
					t.Errorf("%d were let in, want %d", n, test.want)
				}
			})
		})
	}
}
