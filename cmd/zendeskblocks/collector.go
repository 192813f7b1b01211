package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapRoom is what the garbage collector leaves a small heap to grow by before it runs again. What lives is a few tens of MiB most
// of the time: at the usual doubling the collector would run several times a second, and take a tenth of the processors.
const heapRoom = 128 << 20

// relaxCollector has the collector run when the heap has doubled, or grown by heapRoom, whichever is more. GOGC, if it is set,
// rules alone; GOMEMLIMIT bounds the whole in any case.
func relaxCollector(env environment) {
	if env["GOGC"] != "" {
		return
	}
	percent := 0
	adjust := func() {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if next := collectorPercent(live[0].Value.Uint64()); next != percent {
			percent = next
			debug.SetGCPercent(percent)
		}
	}
	adjust()
	afterCollections(adjust)
}

// collectorPercent is by how much a heap of which so much lives may grow.
func collectorPercent(live uint64) int {
	const steps = 25 // coarse, since each change stops everything for a moment
	percent := int(min(heapRoom*100/max(live, 1<<20), math.MaxInt16))
	return max(percent/steps*steps, 100)
}

// afterCollections calls fn after each run of the collector, from a goroutine of the runtime's.
func afterCollections(fn func()) {
	type mark struct{ _ [16]byte }
	runtime.AddCleanup(new(mark), func(fn func()) {
		fn()
		afterCollections(fn)
	}, fn)
}
