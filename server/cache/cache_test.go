package cache

import (
	"testing"
	"time"
)

// testClock stands still until it is moved.
type testClock struct{ time time.Time }

func (c *testClock) now() time.Time          { return c.time }
func (c *testClock) advance(d time.Duration) { c.time = c.time.Add(d) }

func TestCache(t *testing.T) {
	var clock testClock
	c := New[string, int](time.Minute, clock.now)
	look := func(key string, want int, found bool) {
		t.Helper()
		if got, ok := c.Get(key); got != want || ok != found {
			t.Errorf("%s is %d, %t, want %d, %t", key, got, ok, want, found)
		}
	}
	look("a", 0, false)
	c.Put("a", 1)
	c.Put("b", 2)
	look("a", 1, true)
	c.Put("a", 3)
	look("a", 3, true)
	c.Drop("a")
	c.Drop("a")
	look("a", 0, false)
	look("b", 2, true)
	clock.advance(time.Minute)
	look("b", 0, false)
	c.Put("b", 4)
	look("b", 4, true)
}

func TestCacheIsBounded(t *testing.T) {
	var clock testClock
	c := New[int, int](time.Minute, clock.now)
	for i := range maxCached + 100 {
		c.Put(i, i)
		if got, ok := c.Get(i); !ok || got != i {
			t.Fatalf("%d is %d, %t at once", i, got, ok)
		}
	}
	if n := len(c.entries); n != maxCached {
		t.Errorf("cache has %d entries, want %d", n, maxCached)
	}
	clock.advance(time.Minute)
	c.Put(0, 0)
	if n := len(c.entries); n != 1 {
		t.Errorf("cache has %d entries after their time, want 1", n)
	}
}
