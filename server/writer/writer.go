// Package writer writes the activities of completed interactions to Zendesk tickets, each exactly once in effect.
//
// It hides which activity is written next, how a write whose answer was lost is found again, and who is to blame when one
// fails. Before a write is sent, the store knows that it was begun; one that was begun and has no known outcome is looked
// for by its mark before it is sent again. A write to a ticket is bound to the state that the ticket was read in, so that one
// which Zendesk is late to act on cannot follow its own repeat.
//
// What a try does next is decided in decide.go, by functions of what is known; attempt.go does it. What the ticket then says
// is composed in package compose.
//
//	w := writer.New(writer.Config{...})
//	go w.Run(ctx, cut)
//	w.Add(tenant, activity) // after it is stored
package writer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	writeTime = 20 * time.Second // of one try, all its requests together
	// longestBackoff is the number of failures in a row from which on tries are no further apart: 16 to 32 seconds. A try
	// that fails costs Zendesk a request, and all that the account has to write waits for it.
	longestBackoff = 6
	fieldsLife     = 5 * time.Minute // of ticket field definitions
	fieldsFreshFor = time.Minute     // definitions are not read again for unknown keys when they are younger
)

// Config is what a Writer depends on. All but Moved is required.
type Config struct {
	Store       *store.Store
	Credentials *credentials.Keeper
	Log         *slog.Logger
	Now         func() time.Time
	Moved       <-chan struct{} // tells that Now has jumped, as it does in tests; nil: it never does
}

// Writer writes pending activities. It is safe for concurrent use.
type Writer struct {
	store       *store.Store
	credentials *credentials.Keeper
	log         *slog.Logger
	now         func() time.Time
	moved       <-chan struct{}
	queue       *queue
	fields      *cache.Cache[string, fieldDefinitions] // by account incarnation
	running     sync.WaitGroup
}

// New makes a Writer. It does nothing by itself until Run.
func New(c Config) *Writer {
	return &Writer{
		store: c.Store, credentials: c.Credentials, log: c.Log, now: c.Now, moved: c.Moved,
		queue: newQueue(c.Now), fields: cache.New[string, fieldDefinitions](fieldsLife, c.Now),
	}
}

// Add puts an activity in the queue, if it is pending.
func (w *Writer) Add(tenant string, a store.Activity) { w.queue.add(tenant, &a) }

// Hold says what a pending activity waits for, and until when: empty and zero when nothing holds it up.
func (w *Writer) Hold(tenant string, a *store.Activity) (store.FailureReason, time.Time) {
	reason, until := w.queue.hold(tenant, a.Account.Incarnation)
	if a.NextAttempt.After(until) {
		until = a.NextAttempt
	}
	return reason, until
}

// Run writes until ctx is done, and returns when the last write has ended: at the latest, when cut is done.
func (w *Writer) Run(ctx, cut context.Context) error {
	defer w.running.Wait()
	err := w.store.PendingActivities(ctx, func(tenant string, a store.Activity) error {
		w.queue.add(tenant, &a)
		return nil
	})
	if err != nil {
		return err
	}
	changes := w.credentials.Changes()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		tickets, wait := w.queue.next(w.now())
		for _, ticket := range tickets {
			w.running.Go(func() { w.writeFirst(cut, ticket) })
		}
		if wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changes.Ready():
			for _, key := range changes.Take() {
				w.queue.release(key)
			}
		case <-w.queue.changed:
		case <-w.moved:
		case <-timer.C:
		}
	}
}

// writeFirst tries the first activity of a ticket, and tells the queue how it went.
func (w *Writer) writeFirst(ctx context.Context, ticket *ticketQueue) {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	id := w.queue.first(ticket)
	try := &attempt{writer: w, tenant: ticket.account.Tenant, id: id}
	ended, f := try.guarded(ctx)
	// What happened is stored even when time is up.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), store.OutcomeTime)
	defer cancel()
	now := w.now()
	log := w.log.With("activity_id", id, "tenant", try.tenant, "account_id", try.activity.Account.AccountID)
	switch ended {
	case endBehind:
		w.queue.behind(ticket, try.tenant, &try.earlier, now)
		return
	case endDone:
		w.queue.done(ticket, id, now, try.reached)
		switch {
		case f != nil:
			log.Error("activity cannot be written", "reason", string(f.Reason), "http_status", f.HTTPStatus, "zendesk_request_id", f.ZendeskRequestID)
		case try.reached:
			log.Info("activity written", "ticket_id", try.activity.TicketID, "audit_id", try.activity.AuditID, "attempts", try.activity.Attempts)
		}
		return
	}
	backoff := func(failures int) time.Duration {
		return credentials.Backoff(min(failures, longestBackoff), f.RetryAfter)
	}
	var until time.Time
	if ended == endHold {
		until = w.queue.holdAccount(ticket, now, f.Reason, backoff)
	} else {
		until = w.queue.delay(ticket, now, backoff)
	}
	err := try.update(ctx, func(a *store.Activity) {
		a.Attempts++
		a.NextAttempt = until
		a.Begun = a.Begun && !try.refused
		a.Failure = f
	})
	if err != nil {
		log.Error("activity's failure could not be stored", "error", err)
	}
	log.Warn("activity waits", "reason", string(f.Reason), "http_status", f.HTTPStatus, "until", until, "account_held", ended == endHold)
}
