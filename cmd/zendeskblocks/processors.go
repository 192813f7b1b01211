package main

import "runtime"

// spareProcessor has Go run one goroutine more at a time than there are processors, and returns how many of these there are. The
// goroutine that commits waits for the disk most of the time, and Go takes it for one that runs. GOMAXPROCS, if it is set, rules.
func spareProcessor(env environment) (processors int) {
	if env["GOMAXPROCS"] != "" {
		return runtime.GOMAXPROCS(0)
	}
	runtime.SetDefaultGOMAXPROCS() // also if this was called before
	processors = runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(processors + 1)
	return processors
}
