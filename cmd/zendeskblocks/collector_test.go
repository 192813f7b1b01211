package main

import (
	"runtime"
	"testing"
	"time"
)

func TestCollectorPercent(t *testing.T) {
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, 12900}, {1 << 20, 12900}, {16 << 20, 900}, {20 << 20, 725}, {64 << 20, 300}, {128 << 20, 200}, {1 << 30, 100}, {1 << 40, 100},
	} {
		if got := collectorPercent(test.live); got != test.want {
			t.Errorf("of %d bytes that live the heap grows by %d %%, want %d", test.live, got, test.want)
		}
	}
}

// TestAfterCollections is called after each run of the collector, not only the first.
func TestAfterCollections(t *testing.T) {
	ran := make(chan struct{}, 1)
	afterCollections(func() {
		select {
		case ran <- struct{}{}:
		default: // it goes on for as long as the process lives, and holds nobody up
		}
	})
	late := time.After(time.Minute)
	for range 3 {
		for called := false; !called; {
			runtime.GC() // what is to be found by the next one may have been made amid this one
			select {
			case <-ran:
				called = true
			case <-late:
				t.Fatal("it was not called")
			default:
			}
		}
	}
}
