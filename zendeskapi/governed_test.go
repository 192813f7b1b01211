package zendeskapi

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestThrottledOnce has many ask while Zendesk wants to be left alone: the first one is refused by Zendesk, the others here.
func TestThrottledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zendesk := scripted(limited("Retry-After", "60"), reply{body: `{"results":[],"count":0}`})
		client := bubbleClient(t, zendesk)
		for i := range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			begun := time.Now()
			_, err := client.Search(ctx, SearchQuery{Query: "x", Max: 1})
			cancel()
			e := failed(t, err, RateLimited)
			if want := time.Duration(60-i) * time.Second; e.RetryAfter != want || time.Since(begun) != 0 || e.Unsent != (i > 0) {
				t.Errorf("call %d after %v: %+v, unsent %t", i, time.Since(begun), *e, e.Unsent)
			}
			time.Sleep(time.Second)
		}
		if n := len(zendesk.requests()); n != 1 {
			t.Errorf("%d requests arrived", n)
		}
		time.Sleep(41 * time.Second)
		if _, err := client.Search(t.Context(), SearchQuery{Query: "x", Max: 1}); err != nil {
			t.Error(err)
		}
	})
}

// TestEndpointIsLeftAlone asks an endpoint that fails, and others meanwhile.
func TestEndpointIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var searches atomic.Int32
		var broken atomic.Bool
		broken.Store(true)
		client := bubbleClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/api/v2/search.json":
				reply{body: user1}.ServeHTTP(w, r)
			case broken.Load():
				searches.Add(1)
				reply{status: http.StatusBadGateway}.ServeHTTP(w, r)
			default:
				searches.Add(1)
				reply{body: `{"results":[],"count":0}`}.ServeHTTP(w, r)
			}
		}))
		search := func() error {
			_, err := client.Search(t.Context(), SearchQuery{Query: "x", Max: 1})
			return err
		}
		for range 2 {
			fails(t, search(), Unavailable)
		}
		for range 10 {
			if e := failed(t, search(), Unavailable); !e.Unsent || e.RetryAfter != restTime || e.StatusCode != 0 {
				t.Errorf("error is %+v", *e)
			}
			if _, err := client.Me(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if n := searches.Load(); n != tripAfter {
			t.Errorf("%d searches arrived", n)
		}
		time.Sleep(restTime)
		fails(t, search(), Unavailable)
		if e := failed(t, search(), Unavailable); searches.Load() != tripAfter+1 || !e.Unsent {
			t.Errorf("%d searches arrived", searches.Load())
		}
		broken.Store(false)
		time.Sleep(restTime)
		if err := search(); err != nil {
			t.Error(err)
		}
		if open := client.transport.Failing(client.origin, client.account); len(open) > 0 {
			t.Errorf("%q are left alone", open)
		}
	})
}

// TestManyThatHang has more ask at a time than may be under way: none of them is kept waiting longer than it wants, and
// those who asked are not more than that.
func TestManyThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		client := bubbleClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := running.Add(1)
			defer running.Add(-1)
			for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
			}
			hang(w, r)
		}))
		begun := time.Now()
		var group sync.WaitGroup
		var kinds sync.Map
		for range 2000 {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				_, err := client.Me(ctx)
				if waited := time.Since(begun); waited > 3*time.Second {
					t.Errorf("answered after %v", waited)
				}
				n, _ := kinds.LoadOrStore(kindOfError(err), new(atomic.Int32))
				n.(*atomic.Int32).Add(1)
			})
		}
		group.Wait()
		kinds.Range(func(kind, n any) bool {
			t.Logf("%v: %d", kind, n.(*atomic.Int32).Load())
			if kind != Timeout && kind != Unavailable {
				t.Errorf("kind is %v", kind)
			}
			return true
		})
		if most.Load() > 64 {
			t.Errorf("%d were under way", most.Load())
		}
		if e := failed(t, func() error { _, err := client.Me(t.Context()); return err }(), Unavailable); !e.Unsent {
			t.Errorf("asked again at once: %+v", *e)
		}
	})
}

func kindOfError(err error) Kind {
	if e, ok := err.(*Error); ok {
		return e.Kind
	}
	return ""
}
