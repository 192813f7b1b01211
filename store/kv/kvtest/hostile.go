package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Lossy is an engine that can be made to lose answers, for [RunLossy].
type Lossy interface {
	kv.Engine
	// LoseAnswer has the answer of the next commit lost: after the commit was made, or with the commit itself. Before the
	// engine looks what became of it, it calls meanwhile, on the goroutine of the Update.
	LoseAnswer(made bool, meanwhile func())
}

// Hostile returns engine as one across a network is on a bad day, for testing what is built on one. It is an engine
// all the same, and keeps what package kv promises. Of each Update
//
//   - every run but the one that is committed is one more than needed: the function runs for nothing first;
//   - a key that it read is written again by another before it commits, as it was, so that it has to run again;
//   - every third loses its answer, by turns after the commit was made and with the commit. Then each of others is called,
//     to write what it likes, with a context that does not end. After that the engine finds out what became of the commit,
//     and runs the function again if it was not made.
func Hostile(engine kv.Engine, others ...func(context.Context)) Lossy {
	return &hostile{Engine: engine, others: others}
}

type hostile struct {
	kv.Engine
	others []func(context.Context)

	mu      sync.Mutex
	commits int
	lose    *loss
}

type loss struct {
	made      bool
	meanwhile func()
}

func (h *hostile) LoseAnswer(made bool, meanwhile func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lose = &loss{made, meanwhile}
}

// next says whether the next commit loses its answer.
func (h *hostile) next(ctx context.Context) *loss {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lose := h.lose; lose != nil {
		h.lose = nil
		return lose
	}
	if h.commits++; h.commits%3 != 0 {
		return nil
	}
	return &loss{h.commits%2 == 0, func() {
		for _, other := range h.others {
			other(context.WithoutCancel(ctx))
		}
	}}
}

// errAgain ends a run for nothing; errLost a commit that is lost.
var (
	errAgain = errors.New("run the function again")
	errLost  = errors.New("the commit is lost")
)

func (h *hostile) Update(ctx context.Context, fn func(kv.Txn) error) error {
	var failed error
	err := h.Engine.Update(ctx, func(txn kv.Txn) error {
		failed = fn(txn)
		return errAgain
	})
	if err != errAgain { //nolint:errorlint // it comes back as it is
		return err
	}
	if failed != nil {
		return h.Engine.Update(ctx, fn)
	}
	lose := h.next(ctx)
	touched := false
	err = h.Engine.Update(ctx, func(txn kv.Txn) error {
		seen := &seen{Txn: txn}
		if err := fn(seen); err != nil {
			return err
		}
		if !touched {
			touched = true
			if err := h.touch(ctx, seen.keys); err != nil {
				return err
			}
		}
		if lose != nil && !lose.made {
			return errLost
		}
		return nil
	})
	if lose == nil || err != nil && err != errLost { //nolint:errorlint // as above
		return err
	}
	lose.meanwhile()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", kv.ErrUnknownOutcome, ctx.Err())
	}
	if lose.made {
		return nil
	}
	return h.Engine.Update(ctx, fn)
}

// touch is another writer of a key, of the first that is there.
func (h *hostile) touch(ctx context.Context, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	return h.Engine.Update(ctx, func(txn kv.Txn) error {
		values, err := txn.Get(keys...)
		if err != nil {
			return err
		}
		for i, value := range values {
			if value != nil {
				txn.Put(keys[i], value)
				return nil
			}
		}
		return nil
	})
}

// seen notes what was read.
type seen struct {
	kv.Txn
	keys [][]byte
}

func (s *seen) Get(keys ...[]byte) ([][]byte, error) {
	if len(s.keys) == 0 {
		for _, key := range keys {
			s.keys = append(s.keys, bytes.Clone(key))
		}
	}
	return s.Txn.Get(keys...)
}
