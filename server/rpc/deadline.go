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

// inCrowd is a call's place among those that were being answered when it came.
type inCrowd struct {
	crowd *Crowd
	place int64
}

// Enter counts one more call, until it leaves; AnswerInTime sees how many there are.
func (c *Crowd) Enter(ctx context.Context) (within context.Context, leave func()) {
	place := c.calls.Add(1)
	return context.WithValue(ctx, crowdKey{}, inCrowd{c, place}), func() { c.calls.Add(-1) }
}

// AnswerInTime leaves a part of the caller's time for what comes after Zendesk: storing, and the way back. It is the larger,
// the more calls are being answered, and another one for each of them: when they have one deadline, they do not all have to be
// answered at its end.
func AnswerInTime(ctx context.Context) (context.Context, context.CancelFunc) {
	place, calls := int64(1), int64(1)
	if in, ok := ctx.Value(crowdKey{}).(inCrowd); ok {
		place, calls = in.place, in.crowd.calls.Load()
	}
	return endEarly(ctx, place, calls)
}

// refuseInTime leaves as much of the caller's time as it takes to say no.
func refuseInTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return endEarly(ctx, 1, 1)
}

// endEarly ends a context before its deadline, by the reserve for a call's place among so many.
func endEarly(ctx context.Context, place, calls int64) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-reserve(time.Until(deadline), place, calls)))
}

// reserve is what is left of a time for answering, by the place of the call and how many there are: at most three fifths.
func reserve(left time.Duration, place, calls int64) time.Duration {
	alone := min(max(left/10, 20*time.Millisecond), 250*time.Millisecond)
	least := alone + min(time.Duration(calls-1)*answerCost/3, left/4)
	places := int64(max(left*3/5-least, 0) / answerCost)
	if places == 0 {
		return alone
	}
	return least + time.Duration((place-1)%places)*answerCost
}
