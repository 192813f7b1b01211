package rpc

import (
	"context"
	"sync/atomic"
	"time"
)

// answerCost is how long it takes to answer one call among many whose time ends together: about what storing and sending take.
const answerCost = 300 * time.Microsecond

// Crowd counts the calls that are being answered. The zero value is ready for use.
type Crowd struct{ calls atomic.Int64 }

type crowdKey struct{}

// Enter counts one more call, until it leaves; AnswerInTime sees how many there are.
func (c *Crowd) Enter(ctx context.Context) (within context.Context, leave func()) {
	place := c.calls.Add(1)
	return context.WithValue(ctx, crowdKey{}, place), func() { c.calls.Add(-1) }
}

// AnswerInTime leaves a part of the caller's time for what comes after Zendesk: storing, and the way back. It is the larger,
// the more calls are being answered, at most half of the time, and another one for each of them: when they have one deadline,
// they do not all have to be answered at its end.
func AnswerInTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	place, _ := ctx.Value(crowdKey{}).(int64)
	return context.WithDeadline(ctx, deadline.Add(-reserve(time.Until(deadline), place)))
}

// reserve is what is left of a time for answering, by the place that the call has among those that are being answered.
func reserve(left time.Duration, place int64) time.Duration {
	alone := min(max(left/10, 20*time.Millisecond), 250*time.Millisecond)
	places := int64(max(left/2-alone, 0) / answerCost)
	if place <= 1 || places == 0 {
		return alone
	}
	return alone + time.Duration((place-1)%places)*answerCost
}
