package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestReserve grows with how many are answered, and differs for each of them.
func TestReserve(t *testing.T) {
	for _, test := range []struct {
		left  time.Duration
		place int64
		want  time.Duration
	}{
		{500 * time.Millisecond, 0, 50 * time.Millisecond},
		{500 * time.Millisecond, 1, 50 * time.Millisecond},
		{500 * time.Millisecond, 101, 80 * time.Millisecond},
		{500 * time.Millisecond, 601, 230 * time.Millisecond},
		{3 * time.Second, 1001, 550 * time.Millisecond},
		{30 * time.Millisecond, 1000, 20 * time.Millisecond},
		{-time.Second, 5, 20 * time.Millisecond},
	} {
		if got := reserve(test.left, test.place); got != test.want {
			t.Errorf("of %v the call at place %d leaves %v, want %v", test.left, test.place, got, test.want)
		}
	}
	const left = 500 * time.Millisecond
	for place := range int64(5000) {
		if got := reserve(left, place); got < left/10 || got > left/2 {
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
