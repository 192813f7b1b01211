package once

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		key := Key{"t", "i", "Search", "r"}
		leave, err := g.Enter(t.Context(), key)
		must(t, err)
		other, err := g.Enter(t.Context(), Key{"t", "i", "Search", "other"})
		must(t, err)
		other()

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := g.Enter(ctx, key); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting in vain: %v", err)
		}
		var running, done int
		var mu sync.Mutex
		for range 5 {
			go func() {
				leave, err := g.Enter(t.Context(), key)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				running++
				if running > 1 {
					t.Error("two run at a time")
				}
				mu.Unlock()
				time.Sleep(time.Second) // of the test's own clock
				mu.Lock()
				running--
				done++
				mu.Unlock()
				leave()
			}()
		}
		synctest.Wait()
		if running != 0 {
			t.Error("one runs beside the first")
		}
		leave()
		time.Sleep(time.Minute)
		synctest.Wait()
		if done != 5 || len(g.running) != 0 {
			t.Errorf("%d of 5 have run, and %d ids are left", done, len(g.running))
		}
	})
}

// A request is the same whatever its variables are, and in whatever order its maps are.
func TestFingerprint(t *testing.T) {
	request := func(change func(*zendeskv1.AttachedDataRequest)) string {
		req := &zendeskv1.AttachedDataRequest{
			InteractionId: "one", RequestId: "r", Variables: map[string]string{"V": "1"}, Data: map[string]string{"a": "1", "b": "2", "c": "3"},
		}
		change(req)
		sum, err := Fingerprint(req)
		must(t, err)
		return string(sum)
	}
	same := request(func(*zendeskv1.AttachedDataRequest) {})
	for range 100 {
		if request(func(r *zendeskv1.AttachedDataRequest) { r.Variables = map[string]string{"W": "2"} }) != same {
			t.Fatal("a request with other variables is another")
		}
	}
	for name, change := range map[string]func(*zendeskv1.AttachedDataRequest){
		"interaction": func(r *zendeskv1.AttachedDataRequest) { r.InteractionId = "two" },
		"request id":  func(r *zendeskv1.AttachedDataRequest) { r.RequestId = "q" },
		"a value":     func(r *zendeskv1.AttachedDataRequest) { r.Data["a"] = "2" },
		"one fewer":   func(r *zendeskv1.AttachedDataRequest) { delete(r.Data, "a") },
	} {
		if request(change) == same {
			t.Errorf("a request with another %s is the same", name)
		}
	}
}
