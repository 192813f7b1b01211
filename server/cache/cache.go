// Package cache remembers values for a while. It hides when they are forgotten: at the end of their life, or before, when
// more than 10,000 are remembered.
package cache

import (
	"sync"
	"time"
)

// maxCached bounds what a cache remembers; beyond it, something is forgotten early.
const maxCached = 10_000

// Cache remembers values for a while. It is safe for concurrent use.
type Cache[K comparable, V any] struct {
	life time.Duration
	now  func() time.Time

	mu           sync.Mutex
	entries      map[K]entry[V]
	hits, misses uint64
}

type entry[V any] struct {
	value V
	until time.Time
}

// New makes a cache whose values live for a while, by the clock now.
func New[K comparable, V any](life time.Duration, now func() time.Time) *Cache[K, V] {
	return &Cache[K, V]{life: life, now: now, entries: make(map[K]entry[V])}
}

// Get returns the value of a key, if it is remembered.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.entries[key]
	if !ok || !c.now().Before(found.until) {
		c.misses++
		var zero V
		return zero, false
	}
	c.hits++
	return found.value, true
}

// Lookups returns how many calls of Get have found a value, and how many none.
func (c *Cache[K, V]) Lookups() (hits, misses uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.misses
}

// Put remembers a value, from now on for a whole life.
func (c *Cache[K, V]) Put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if len(c.entries) >= maxCached {
		for k, old := range c.entries {
			if !now.Before(old.until) || len(c.entries) >= maxCached {
				delete(c.entries, k)
			}
		}
	}
	c.entries[key] = entry[V]{value: value, until: now.Add(c.life)}
}

// Drop forgets the value of a key.
func (c *Cache[K, V]) Drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}
