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
	for len(s.taken) > 0 && !s.taken[0].After(now.Add(-time.Minute)) {
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
		a.Status, a.Pause = http.StatusTooManyRequests, s.taken[0].Add(time.Minute).Sub(now).Truncate(time.Second)+time.Second
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
