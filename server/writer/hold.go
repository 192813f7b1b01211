package writer

import (
	"context"
	"errors"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Backlog is what waits of an account's activities.
type Backlog struct {
	Pending int                 // activities that are to be written, those that are tried now among them; 0, where another replica writes them
	HeldBy  store.FailureReason // what holds all of them up; empty: nothing does
}

// Backlog says what waits of an account's activities. Right after the start not all are known.
func (w *Writer) Backlog(key credentials.Key) Backlog {
	b := w.queue.backlog(key)
	b.HeldBy, _ = w.holdOf(key)
	return b
}

// HeldHere says what holds the activities of an account up that this process writes; empty: nothing does, or another process writes
// them.
func (w *Writer) HeldHere(key credentials.Key) store.FailureReason {
	return w.queue.backlog(key).HeldBy
}

// Hold says what a pending activity waits for, and until when: empty and zero when nothing holds it up.
func (w *Writer) Hold(tenant string, a *store.Activity) (store.FailureReason, time.Time) {
	reason, until := w.holdOf(credentials.Key{Tenant: tenant, Incarnation: a.Account.Incarnation})
	if reason == "" && a.Failure != nil && a.NextAttempt.After(w.now()) {
		reason = a.Failure.Reason
	}
	if a.NextAttempt.After(until) {
		until = a.NextAttempt
	}
	return reason, until
}

// holdOf says what holds an account's activities up, whichever replica writes them.
func (w *Writer) holdOf(key credentials.Key) (store.FailureReason, time.Time) {
	if reason, until := w.queue.hold(key.Tenant, key.Incarnation); reason != "" || w.queue.shardOf(key) != nil {
		return reason, until
	}
	if told := w.told.Load(); told != nil {
		hold := (*told)[key]
		return hold.Reason, hold.Until
	}
	return "", time.Time{}
}

// tellHolds stores which accounts are held, for other replicas to see.
func (w *Writer) tellHolds(ctx context.Context) {
	for {
		select {
		case <-w.queue.holdsSet:
		case <-ctx.Done():
			return
		}
		for _, key := range w.queue.takeHolds() {
			for w.tellHold(ctx, key) != nil && ctx.Err() == nil {
				select {
				case <-time.After(lookAgain):
				case <-ctx.Done():
				}
			}
		}
	}
}

// tellHold stores what holds an account now. Errors are those that a repeat can cure.
func (w *Writer) tellHold(ctx context.Context, key credentials.Key) error {
	shard := w.queue.shardOf(key)
	if shard == nil {
		return nil // who has it now tells
	}
	hold := w.queue.holdToTell(key)
	ctx, cancel := context.WithTimeout(store.Fenced(ctx, shard.claim), store.OutcomeTime)
	defer cancel()
	err := w.store.SetHold(ctx, key.Tenant, key.Incarnation, hold)
	switch {
	case errors.Is(err, store.ErrClaimLost):
		w.lost(shard)
		return nil
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFailed):
		return nil
	}
	return err
}

// followHolds learns which accounts other replicas hold.
func (w *Writer) followHolds(ctx context.Context) {
	tokens, err := w.store.WatchHolds(ctx)
	if err != nil && ctx.Err() == nil {
		w.log.Error("it cannot be watched which accounts other replicas hold; it is looked at now and then", "error", err)
	}
	for {
		began := time.Now()
		next := lookEvery
		if err := w.readHolds(ctx); err != nil {
			next = lookAgain
		}
		rest := time.NewTimer(restAfter(time.Since(began)))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return
		}
		rest.Reset(next)
		select {
		case _, open := <-tokens:
			if !open {
				tokens = nil
			}
		case <-rest.C:
		case <-ctx.Done():
		}
		rest.Stop()
	}
}

func (w *Writer) readHolds(ctx context.Context) error {
	told := make(map[credentials.Key]store.Hold)
	err := w.store.Holds(ctx, store.AllShards, func(tenant, incarnation string, hold store.Hold) error {
		told[credentials.Key{Tenant: tenant, Incarnation: incarnation}] = hold
		return nil
	})
	if err == nil {
		w.told.Store(&told)
	}
	return err
}
