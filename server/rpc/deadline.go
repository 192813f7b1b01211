package rpc

import (
	"context"
	"time"
)

// AnswerInTime leaves a part of the caller's time for what comes after Zendesk: storing, and the way back.
func AnswerInTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	reserve := min(max(time.Until(deadline)/10, 20*time.Millisecond), 250*time.Millisecond)
	return context.WithDeadline(ctx, deadline.Add(-reserve))
}
