package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapRoom is what the garbage collector leaves the heap to grow by, beside its own size, before it runs again. What lives is a few
// tens of MiB most of the time, and some 100 MiB with 10,000 watches: at the usual doubling the collector would run several times a
// second, and take a tenth of the processors.
const heapRoom = 128 << 20

// relaxCollector has the collector run when the heap has doubled and grown by heapRoom more. GOGC, if it is set, rules alone;
// GOMEMLIMIT bounds the whole in any case.
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
	percent := int(min(100+heapRoom*100/max(live, 1<<20), math.MaxInt16))
	return percent / steps * steps
}

// afterCollections calls fn after each run of the collector, from a goroutine of the runtime's.
func afterCollections(fn func()) {
	type mark struct{ _ [16]byte }
	runtime.AddCleanup(new(mark), func(fn func()) {
		fn()
		afterCollections(fn)
	}, fn)
}
