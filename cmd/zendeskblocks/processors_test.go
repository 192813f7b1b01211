package main

import (
	"runtime"
	"testing"
)

func TestSpareProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	for range 2 { // also when it is started again
		there := spareProcessor(environment{})
		if run := runtime.GOMAXPROCS(0); there < 1 || run != there+1 {
			t.Errorf("of %d processors %d are used", there, run)
		}
	}
	runtime.GOMAXPROCS(5)
	if there := spareProcessor(environment{"GOMAXPROCS": "5"}); there != 5 || runtime.GOMAXPROCS(0) != 5 {
		t.Errorf("told to use 5 it uses %d of %d", runtime.GOMAXPROCS(0), there)
	}
}
