package server

import (
	"sync"
	"time"
)

// maxCached bounds what a cache remembers; beyond it, something is forgotten early.
const maxCached = 10_000

// cache remembers values for a while.
type cache[K comparable, V any] struct {
	life time.Duration
	now  func() time.Time

	mu      sync.Mutex
	entries map[K]cacheEntry[V]
}

type cacheEntry[V any] struct {
	value V
	until time.Time
}

func newCache[K comparable, V any](life time.Duration, now func() time.Time) *cache[K, V] {
	return &cache[K, V]{life: life, now: now, entries: make(map[K]cacheEntry[V])}
}

func (c *cache[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, ok := c.entries[key]
	if !ok || !c.now().Before(entry.until) {
		var zero V
		return zero, false
	}
	return entry.value, true
}

func (c *cache[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if len(c.entries) >= maxCached {
		for k, entry := range c.entries {
			if !now.Before(entry.until) || len(c.entries) >= maxCached {
				delete(c.entries, k)
			}
		}
	}
	c.entries[key] = cacheEntry[V]{value: value, until: now.Add(c.life)}
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}
