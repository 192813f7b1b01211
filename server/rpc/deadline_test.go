package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestReserve grows with how many are answered, and differs for each of them.
func TestReserve(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		left         time.Duration
		place, calls int64
		want         time.Duration
	}{
		{500 * ms, 1, 1, 50 * ms},
		{500 * ms, 1, 301, 80 * ms}, // who came first sees who has come since
		{500 * ms, 101, 301, 110 * ms},
		{500 * ms, 101, 5000, 205 * ms},
		{500 * ms, 601, 601, 290 * ms},
		{3 * time.Second, 1001, 1001, 650 * ms},
		{30 * ms, 1000, 1000, 20 * ms},
		{-time.Second, 5, 5, 20 * ms},
	} {
		if got := reserve(test.left, test.place, test.calls); got != test.want {
			t.Errorf("of %v the call at place %d of %d leaves %v, want %v", test.left, test.place, test.calls, got, test.want)
		}
	}
	const left = 500 * ms
	for place := range int64(5000) {
		if got := reserve(left, place+1, 5000); got < left/10 || got > left*3/5 {
			t.Errorf("place %d leaves %v of %v", place, got, left)
		}
	}
	var crowd Crowd
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		defer cancel()
		var ends []time.Time
		for range 3 {
			within, leave := crowd.Enter(ctx)
			defer leave()
			within, cancel := AnswerInTime(within)
			defer cancel()
			end, _ := within.Deadline()
			ends = append(ends, end)
		}
		if !ends[1].Before(ends[0]) || !ends[2].Before(ends[1]) {
			t.Errorf("they end at %v", ends)
		}
	})
	if n := crowd.calls.Load(); n != 0 {
		t.Errorf("%d calls are counted, and none is left", n)
	}
}

// Calls leave a part of their time for what comes after Zendesk.
func TestAnswerInTime(t *testing.T) {
	for _, test := range []struct{ left, want time.Duration }{
		{100 * time.Millisecond, 80 * time.Millisecond},
		{time.Second, 900 * time.Millisecond},
		{8 * time.Second, 7750 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.left)
			defer cancel()
			ctx, cancel = AnswerInTime(ctx)
			defer cancel()
			if deadline, _ := ctx.Deadline(); time.Until(deadline) != test.want {
				t.Errorf("of %v Zendesk has %v, want %v", test.left, time.Until(deadline), test.want)
			}
		})
	}
}
