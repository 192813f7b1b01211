package limit

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// simulation is a Zendesk that counts over a sliding minute, and those who ask it.
type simulation struct {
	limit   int
	headers string // which family it sends
	latency time.Duration
	fixed   bool // it counts by fixed minutes

	mu       sync.Mutex
	taken    []time.Time
	sent     int // by us
	refused  int // of these
	foreign  int // by others
	accepted []time.Time
}

// ask is one request, of ours or of others.
func (s *simulation) ask(ours bool) Answer {
	if ours {
		time.Sleep(s.latency / 2)
		defer time.Sleep(s.latency / 2)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	since := now.Add(-time.Minute)
	if s.fixed {
		since = now.Truncate(time.Minute).Add(-1)
	}
	for len(s.taken) > 0 && !s.taken[0].After(since) {
		s.taken = s.taken[1:]
	}
	a := Answer{Status: http.StatusOK, Header: http.Header{}}
	if ours {
		s.sent++
	}
	if len(s.taken) >= s.limit {
		if ours {
			s.refused++
		}
		a.Status, a.Pause = http.StatusTooManyRequests, s.taken[0].Sub(since).Truncate(time.Second)+time.Second
	} else {
		s.taken = append(s.taken, now)
		if ours {
			s.accepted = append(s.accepted, now)
		} else {
			s.foreign++
		}
	}
	remaining := strconv.Itoa(s.limit - len(s.taken))
	switch s.headers {
	case "x":
		a.Header.Set("X-Rate-Limit", strconv.Itoa(s.limit))
		a.Header.Set("X-Rate-Limit-Remaining", remaining)
	case "ratelimit":
		a.Header.Set("RateLimit-Limit", strconv.Itoa(s.limit))
		a.Header.Set("RateLimit-Remaining", remaining)
		a.Header.Set("RateLimit-Reset", "17")
	case "wrong":
		a.Header.Set("X-Rate-Limit", strconv.Itoa(10*s.limit))
		a.Header.Set("X-Rate-Limit-Remaining", strconv.Itoa(10*s.limit-len(s.taken)))
	}
	return a
}

// outcome counts the blocks of a run.
type outcome struct{ asked, succeeded int }

// TestSimulatedMinutes has history drain while blocks are called, for twelve minutes; others of the customer eat half of the
// limit for some of them.
func TestSimulatedMinutes(t *testing.T) {
	for _, headers := range []string{"x", "ratelimit", "none", "wrong"} {
		truthful := headers == "x" || headers == "ratelimit"
		for _, test := range []struct {
			name   string
			others bool // eat half of the limit from minute 4 to 8
			rate   time.Duration
		}{{"draining", false, 500 * time.Millisecond}, {"others", true, time.Second}} {
			t.Run(fmt.Sprint(headers, "/", test.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &simulation{limit: 200, headers: headers, latency: 200 * time.Millisecond}
					g := New(Config{})
					ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
					defer cancel()
					var group sync.WaitGroup
					for range 32 {
						group.Go(func() {
							for ctx.Err() == nil {
								asking, cancel := context.WithTimeout(ctx, 20*time.Second)
								turn, err := g.Enter(asking, Request{Origin: "z", Endpoint: "tickets", Tenant: "a", Account: "1", Lane: Activities})
								if err == nil {
									turn.Done(s.ask(true))
								} else {
									time.Sleep(10 * time.Second)
								}
								cancel()
							}
						})
					}
					if test.others {
						group.Go(func() {
							for time.Sleep(4 * time.Minute); ctx.Err() == nil && s.foreign < 400; time.Sleep(600 * time.Millisecond) {
								s.ask(false)
							}
						})
					}
					var mu sync.Mutex
					var minutes [12]outcome
					var used [12]int
					begun := time.Now()
					for n := range 12 {
						for range int(time.Minute / test.rate) {
							group.Go(func() {
								asking, cancel := context.WithTimeout(ctx, 3*time.Second)
								defer cancel()
								turn, err := g.Enter(asking, Request{Origin: "z", Endpoint: "search", Tenant: "a", Account: "1", Lane: Blocks})
								ok := false
								if err == nil {
									a := s.ask(true)
									turn.Done(a)
									ok = a.Status == http.StatusOK
								}
								mu.Lock()
								defer mu.Unlock()
								minutes[n].asked++
								if ok {
									minutes[n].succeeded++
								}
							})
							time.Sleep(test.rate)
						}
					}
					cancel()
					group.Wait()
					for _, at := range s.accepted {
						if m := int(at.Sub(begun) / time.Minute); m < len(used) {
							used[m]++
						}
					}
					all := outcome{}
					for n, m := range minutes {
						all.asked, all.succeeded = all.asked+m.asked, all.succeeded+m.succeeded
						free := s.limit
						if test.others && n >= 4 && n <= 8 {
							free /= 2
						}
						// The minutes in which something changes have a right to be worse.
						if n != 0 && n != 4 && n != 8 && n != 9 && used[n] < free*90/100 && truthful {
							t.Errorf("minute %d: %d of %d requests were used", n, used[n], free)
						}
					}
					succeeded, refused := 100*float64(all.succeeded)/float64(all.asked), 100*float64(s.refused)/float64(s.sent)
					t.Logf("%.2f %% of blocks succeeded, Zendesk refused %.2f %% of %d requests; sent in each minute: %v", succeeded, refused, s.sent, used)
					if truthful && (succeeded < 99 || refused >= 1) || succeeded < 85 || refused > 6 {
						t.Error("that is not good enough")
					}
				})
			})
		}
	}
}

// together is what several replicas do over one Zendesk.
type together struct {
	name     string
	headers  string
	fixed    bool            // minutes
	drains   map[int]int     // by replica: how many write history, as fast as they may
	blocks   map[int]float64 // by replica: a minute
	bursts   map[int]int     // by replica: blocks at once, each 20 s
	replicas int             // default 3
	least    outcomes
}

// outcomes are in per cent: the least that may succeed, the most that may be refused, the least of the limit that must be used.
type outcomes struct{ succeeded, refused, used float64 }

// TestSeveralGovernors has replicas share one limit for ten minutes; while they find out about each other, in the first two, they are not judged.
func TestSeveralGovernors(t *testing.T) {
	good := outcomes{99, 1, 90}
	for _, test := range []together{
		{name: "bad day", headers: "x", drains: map[int]int{0: 32}, blocks: map[int]float64{0: 40, 1: 40, 2: 40}, least: good},
		{name: "all drain", headers: "x", drains: map[int]int{0: 8, 1: 8, 2: 8}, blocks: map[int]float64{0: 40, 1: 40, 2: 40}, least: good},
		{name: "all drain, no blocks", headers: "x", drains: map[int]int{0: 8, 1: 8, 2: 8}, least: good},
		{name: "one does all", headers: "x", drains: map[int]int{0: 32}, blocks: map[int]float64{0: 120}, least: good},
		{name: "one of ten does all", headers: "x", replicas: 10, drains: map[int]int{0: 32}, blocks: map[int]float64{0: 120}, least: outcomes{99, 1, 85}},
		{name: "ten at work", headers: "x", replicas: 10, drains: map[int]int{0: 8, 4: 8}, blocks: map[int]float64{0: 20, 2: 20, 4: 20, 6: 20, 8: 20, 9: 20}, least: outcomes{99, 1, 85}},
		{name: "blocks elsewhere", headers: "x", drains: map[int]int{0: 32}, blocks: map[int]float64{1: 120}, least: good},
		{name: "fixed minutes", headers: "x", fixed: true, drains: map[int]int{0: 32}, blocks: map[int]float64{0: 40, 1: 40, 2: 40}, least: good},
		{name: "fixed minutes, all drain", headers: "x", fixed: true, drains: map[int]int{0: 8, 1: 8, 2: 8}, blocks: map[int]float64{0: 40, 1: 40, 2: 40}, least: good},
		{name: "bursts", headers: "x", drains: map[int]int{0: 32}, bursts: map[int]int{1: 5}, least: outcomes{97, 1, 85}},
		{name: "more blocks than it takes", headers: "x", blocks: map[int]float64{0: 100, 1: 100, 2: 100}, least: outcomes{60, 2, 90}},
		{name: "other headers", headers: "ratelimit", drains: map[int]int{0: 8, 1: 8, 2: 8}, blocks: map[int]float64{0: 40, 1: 40, 2: 40}, least: good},
		{name: "no headers", headers: "none", drains: map[int]int{0: 32}, blocks: map[int]float64{0: 40, 1: 40, 2: 40}, least: outcomes{75, 4, 75}},
		{name: "no headers, all drain", headers: "none", drains: map[int]int{0: 8, 1: 8, 2: 8}, blocks: map[int]float64{0: 40, 1: 40, 2: 40}, least: outcomes{75, 4, 75}},
		{name: "wrong headers", headers: "wrong", drains: map[int]int{0: 8, 1: 8, 2: 8}, blocks: map[int]float64{0: 40, 1: 40, 2: 40}, least: outcomes{75, 4, 75}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.run(t) })
		})
	}
}

func (test together) run(t *testing.T) {
	const minutes, unjudged, delay = 10, 2, 100 * time.Millisecond
	s := &simulation{limit: 200, headers: test.headers, latency: 200 * time.Millisecond, fixed: test.fixed}
	ctx, cancel := context.WithTimeout(t.Context(), minutes*time.Minute)
	defer cancel()
	replicas := make([]*Governor, max(3, test.replicas))
	for i := range replicas {
		replicas[i] = New(Config{})
		replicas[i].Share(len(replicas))
	}
	var group sync.WaitGroup
	for i, g := range replicas {
		group.Go(func() {
			for notices := g.Learned(ctx); notices != nil; notices = g.Learned(ctx) {
				time.Sleep(delay)
				for j, other := range replicas {
					for _, n := range notices {
						if i != j {
							other.Learn(n)
						}
					}
				}
			}
		})
	}
	begun := time.Now()
	for i, n := range test.drains {
		for range n {
			group.Go(func() {
				for ctx.Err() == nil {
					asking, cancel := context.WithTimeout(ctx, 20*time.Second)
					turn, err := replicas[i].Enter(asking, Request{Origin: "z", Endpoint: "tickets", Tenant: "a", Account: "1", Lane: Activities})
					if err == nil {
						turn.Done(s.ask(true))
					} else {
						time.Sleep(10 * time.Second)
					}
					cancel()
				}
			})
		}
	}
	var mu sync.Mutex
	all := outcome{}
	block := func(i int) {
		asking, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		counts := time.Since(begun) >= unjudged*time.Minute
		turn, err := replicas[i].Enter(asking, Request{Origin: "z", Endpoint: "search", Tenant: "a", Account: "1", Lane: Blocks})
		ok := false
		if err == nil {
			a := s.ask(true)
			turn.Done(a)
			ok = a.Status == http.StatusOK
		}
		mu.Lock()
		defer mu.Unlock()
		if counts && ctx.Err() == nil {
			all.asked++
			if ok {
				all.succeeded++
			}
		}
	}
	for i, rate := range test.blocks {
		every := time.Duration(float64(time.Minute) / rate)
		group.Go(func() {
			for time.Sleep(time.Duration(i) * every / 7); ctx.Err() == nil; time.Sleep(every) {
				group.Go(func() { block(i) })
			}
		})
	}
	for i, n := range test.bursts {
		group.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(20 * time.Second) {
				for range n {
					group.Go(func() { block(i) })
				}
			}
		})
	}
	group.Wait()
	used := [minutes]int{}
	for _, at := range s.accepted {
		if m := int(at.Sub(begun) / time.Minute); m < len(used) {
			used[m]++
		}
	}
	sum := 0
	for _, n := range used[unjudged:] {
		sum += n
	}
	got := outcomes{100 * float64(all.succeeded) / float64(max(1, all.asked)), 100 * float64(s.refused) / float64(s.sent), 100 * float64(sum) / float64(s.limit*(minutes-unjudged))}
	t.Logf("%.2f %% of %d blocks succeeded, Zendesk refused %.2f %% of %d requests, %.1f %% of the limit were used, in each minute: %v",
		got.succeeded, all.asked, got.refused, s.sent, got.used, used)
	if all.asked > 0 && got.succeeded < test.least.succeeded || got.refused >= test.least.refused || got.used < test.least.used {
		t.Errorf("that is not good enough")
	}
}
