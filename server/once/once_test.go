package once

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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
