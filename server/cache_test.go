package server

import (
	"testing"
	"time"
)

func TestCache(t *testing.T) {
	var clock testClock
	c := newCache[string, int](time.Minute, clock.now)
	look := func(key string, want int, found bool) {
		t.Helper()
		if got, ok := c.get(key); got != want || ok != found {
			t.Errorf("%s is %d, %t, want %d, %t", key, got, ok, want, found)
		}
	}
	look("a", 0, false)
	c.put("a", 1)
	c.put("b", 2)
	look("a", 1, true)
	c.put("a", 3)
	look("a", 3, true)
	c.drop("a")
	c.drop("a")
	look("a", 0, false)
	look("b", 2, true)
	clock.advance(time.Minute)
	look("b", 0, false)
	c.put("b", 4)
	look("b", 4, true)
}

func TestCacheIsBounded(t *testing.T) {
	var clock testClock
	c := newCache[int, int](time.Minute, clock.now)
	for i := range maxCached + 100 {
		c.put(i, i)
		if got, ok := c.get(i); !ok || got != i {
			t.Fatalf("%d is %d, %t at once", i, got, ok)
		}
	}
	if n := len(c.entries); n != maxCached {
		t.Errorf("cache has %d entries, want %d", n, maxCached)
	}
	clock.advance(time.Minute)
	c.put(0, 0)
	if n := len(c.entries); n != 1 {
		t.Errorf("cache has %d entries after their time, want 1", n)
	}
}
