package kvtest

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Hostile returns engine as it may behave on a bad day, for testing operations built on one. It runs each Update function
// once for nothing and then again, as an engine does that found a key changed; and every third Update that would succeed
// is answered with [kv.ErrUnknownOutcome], by turns after it was committed and without.
func Hostile(engine kv.Engine) kv.Engine {
	return &hostile{Engine: engine}
}

type hostile struct {
	kv.Engine
	updates atomic.Int64
}

var errAgain = errors.New("run the function again")

func (h *hostile) Update(ctx context.Context, fn func(kv.Txn) error) error {
	var failed error
	err := h.Engine.Update(ctx, func(txn kv.Txn) error {
		failed = fn(txn)
		return errAgain
	})
	var turn int64
	if failed == nil && errors.Is(err, errAgain) {
		turn = h.updates.Add(1)
	}
	if turn%6 == 3 {
		return kv.ErrUnknownOutcome
	}
	if err := h.Engine.Update(ctx, fn); err != nil {
		return err
	}
	if turn > 0 && turn%6 == 0 {
		return kv.ErrUnknownOutcome
	}
	return nil
}
