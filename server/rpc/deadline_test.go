package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

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
