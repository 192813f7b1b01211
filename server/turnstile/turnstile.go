// Package turnstile counts what goes on at the same time, by whose it is, and lets nobody have more of it than a limit.
//
//	leave, ok := calls.Enter(tenant)
//	if !ok {
//		return errTooMany
//	}
//	defer leave()
package turnstile

import "sync"

// Turnstile is safe for concurrent use. It remembers only who is inside.
type Turnstile[K comparable] struct {
	limit  int
	mu     sync.Mutex
	inside map[K]int
}

// New makes a turnstile that lets each key in limit times at once; 0 is no limit.
func New[K comparable](limit int) *Turnstile[K] {
	return &Turnstile[K]{limit: limit, inside: make(map[K]int)}
}

// Limit returns how often each key is let in at once; 0 is no limit.
func (t *Turnstile[K]) Limit() int { return t.limit }

// Enter lets k in, unless it is in as often as it may. Who was let in has to leave once.
func (t *Turnstile[K]) Enter(k K) (leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limit > 0 && t.inside[k] >= t.limit {
		return nil, false
	}
	t.inside[k]++
	return func() { t.leave(k) }, true
}

func (t *Turnstile[K]) leave(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inside[k]--; t.inside[k] == 0 {
		delete(t.inside, k)
	}
}
