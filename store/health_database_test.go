package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// sharing is an engine of which only whether it is shared is asked.
type sharing struct {
	kv.Engine
	is bool
}

func (s sharing) Shared() bool { return s.is }

// A database that does not answer is away, which is known before the time of who asks is over; unless there is too little of it to
// tell.
func TestInTime(t *testing.T) {
	unknown := fmt.Errorf("%w: %w", ErrUnknownOutcome, context.DeadlineExceeded)
	for name, test := range map[string]struct {
		shared bool
		left   time.Duration // 0: there is no deadline
		fails  error         // in place of the context's error
		takes  time.Duration
		want   error
	}{
		"much time":       {true, 8 * time.Second, nil, 7500 * time.Millisecond, ErrUnavailable},
		"some time":       {true, 1600 * time.Millisecond, nil, 1200 * time.Millisecond, ErrUnavailable},
		"little time":     {true, 1200 * time.Millisecond, nil, 1200 * time.Millisecond, context.DeadlineExceeded},
		"a file":          {false, 8 * time.Second, nil, 8 * time.Second, context.DeadlineExceeded},
		"unknown outcome": {true, 8 * time.Second, unknown, 7500 * time.Millisecond, ErrUnknownOutcome},
		"no deadline":     {true, 0, nil, 20 * time.Second, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.left > 0 {
					ctx, cancel = context.WithTimeout(ctx, test.left)
					defer cancel()
				}
				time.AfterFunc(time.Minute, cancel)
				begun := time.Now()
				err := (&Store{engine: sharing{is: test.shared}}).inTime(ctx, func(ctx context.Context) error {
					<-ctx.Done()
					if test.fails != nil {
						return test.fails
					}
					return ctx.Err()
				})
				if took := time.Since(begun); took != test.takes || !errors.Is(err, test.want) || errors.Is(err, ErrUnavailable) != (test.want == ErrUnavailable) {
					t.Errorf("%v after %s, want %v after %s", err, took, test.want, test.takes)
				}
			})
		})
	}
}
