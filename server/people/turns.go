package people

import (
	"context"
	"slices"
	"sync"
)

// turns let one call at a time be about a key. The zero value is ready for use.
type turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when the turn ends
}

// take waits for the turns of all keys, or for ctx.
func (t *turns) take(ctx context.Context, keys []string) (leave func(), err error) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys))) // in one order, so that no two wait for each other
	for i, key := range keys {
		if err := t.one(ctx, key); err != nil {
			t.leave(keys[:i])
			return nil, err
		}
	}
	return func() { t.leave(keys) }, nil
}

func (t *turns) one(ctx context.Context, key string) error {
	for {
		t.mu.Lock()
		ended, busy := t.taken[key]
		if !busy {
			if t.taken == nil {
				t.taken = make(map[string]chan struct{})
			}
			t.taken[key] = make(chan struct{})
		}
		t.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *turns) leave(keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range keys {
		close(t.taken[key])
		delete(t.taken, key)
	}
}
