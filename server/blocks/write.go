package blocks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/once"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	// writeTime is how long a write has for its answer, from when it is sent on, whether its caller waits or not.
	writeTime = 20 * time.Second
	// What runs at a time: a tenant whose Zendesks all hang leaves the others theirs.
	maxWrites       = 2048
	maxTenantWrites = 256

	// againFor is how long a write with an idempotency key may be sent again: a little less than Zendesk remembers it.
	againFor = zendeskapi.IdempotencyLife - 10*time.Minute
)

// writes counts what may outlive its caller. The zero value is ready for use.
type writes struct {
	mu      sync.Mutex
	all     int
	tenants map[string]int
	group   sync.WaitGroup
}

// enter counts one more, until leave; false when too many run.
func (w *writes) enter(tenant string) (leave func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == maxWrites || w.tenants[tenant] == maxTenantWrites {
		return nil, false
	}
	if w.tenants == nil {
		w.tenants = make(map[string]int)
	}
	w.all++
	w.tenants[tenant]++
	w.group.Add(1)
	return sync.OnceFunc(func() {
		w.mu.Lock()
		w.all--
		if w.tenants[tenant]--; w.tenants[tenant] == 0 {
			delete(w.tenants, tenant)
		}
		w.mu.Unlock()
		w.group.Done()
	}), true
}

// Wait returns when the writes that outlive their callers have ended and are stored, or when ctx is done: then what they did
// is known to nobody, as after a crash. No new one may come.
func (s *Service) Wait(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		s.writes.group.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// errand is what a block asks Zendesk for, and what it makes of the answer.
type errand[R response] struct {
	account store.Account
	reads   bool // it changes nothing in Zendesk: it ends with its caller, and may be repeated

	// repeatable says that a repeat of the block may send a write again: what it does is done once all the same.
	repeatable bool
	// begun says that the write may have been sent before, by an earlier try.
	begun bool

	// ask sends the requests. Outlive is for a write. What it leaves for finish is the errand's.
	ask func(ctx context.Context, client *zendeskapi.Client, outlive zendeskapi.Outlive) error
	// stage prepares for finish what no transaction has room for; nil: nothing.
	stage func(ctx context.Context) error
	// finish stores what was answered, and words it. It runs again with its transaction.
	finish func(tx *store.InteractionTxn) (R, error)
	// fail stores that it failed, and words it. The error is Zendesk's, if it is the reason; else nil.
	fail func(tx *store.InteractionTxn, f *zendeskv1.Failure, err *zendeskapi.Error) (R, error)
	// release is for when all is stored; nil: nothing.
	release func()
}

// idempotentError is Zendesk's code for a key that was used for something else.
const idempotentError = "IdempotentRequestError"

// outcome is how the requests of an errand ended.
type outcome struct {
	failure *zendeskv1.Failure
	err     *zendeskapi.Error // Zendesk's, if there is one
	unknown bool              // whether the write was carried out is not known
	again   bool              // and sending it again does no harm
	broken  error             // of this service
}

// errBusyWriting is for a tenant whose Zendesks hang.
func errBusyWriting() *zendeskv1.Failure {
	return rpc.Failure(store.ReasonUnavailable, "too many requests that change something in Zendesk wait for its answer; no request was sent")
}

// answerBusy answers a block that cannot write now, unless it was answered before.
func answerBusy[R response](ctx context.Context, s *Service, b *block, failed func(*zendeskv1.Failure) R) (R, error) {
	return transact(ctx, s, b, failed, func(*store.InteractionTxn) (R, error) { return failed(errBusyWriting()), nil })
}

// intend stores, in the transaction that decides about a write, what its request_id is answered when no more becomes known.
// begun tells whether an earlier try has done so.
func intend[R response](tx *store.InteractionTxn, b *block, now time.Time, repeatable bool, word func(*zendeskv1.Failure) R) (begun bool, err error) {
	var until time.Time
	if repeatable {
		until = now.Add(againFor)
		if begun, err = once.Begun(tx, b.rpc, b.request); err != nil {
			return false, err
		}
	}
	return begun, once.KeepIntent(tx, b.rpc, b.request, word(outcomeUnknown()), until)
}

// outcomeUnknown is what is answered of a write that may have been carried out, and that is not sent again.
func outcomeUnknown() *zendeskv1.Failure {
	f := rpc.Failure(store.ReasonUnavailable, "the request was begun before, and whether Zendesk carried it out is not known: it is not sent again")
	f.Retryable = false
	return f
}

// run carries out an errand whose intent is stored, if it has one. A write that is sent when the caller's time is over goes on
// without it: what it does is stored for its request_id, and a repeat waits for it.
func run[R response](ctx context.Context, s *Service, b *block, leave func(), e errand[R]) (R, error) {
	inTime, cancel := rpc.AnswerInTime(ctx)
	sent, done, abandoned := make(chan struct{}), make(chan outcome), make(chan struct{})
	outlive := zendeskapi.Outlive{}
	if !e.reads {
		outlive = zendeskapi.Outlive{For: writeTime, Leaves: sync.OnceFunc(func() { close(sent) })}
	}
	go func() {
		defer cancel()
		o := s.ask(inTime, b, &e.account, outlive, e.ask)
		if e.reads {
			o.unknown = false
		}
		o.again = o.unknown && o.again && e.repeatable
		select {
		case done <- o:
		case <-abandoned:
			defer leave()
			defer b.leave()
			ctx := store.WithWait(context.WithoutCancel(ctx), func(wait func()) { wait() })
			if _, err := settle(ctx, s, b, e, o); err != nil {
				s.log.ErrorContext(ctx, "what a write has done could not be stored", "tenant", b.tenant, "error", err)
			}
		}
	}()
	var o outcome
	ended := false
	rpc.Aside(ctx, func() {
		select {
		case o = <-done:
			ended = true
		case <-inTime.Done():
			// What has not been sent ends now, too.
			select {
			case o = <-done:
				ended = true
			case <-sent:
			}
		}
	})
	if ended {
		defer leave()
		if o.err != nil {
			rpc.AddFields(ctx, slog.String("message", o.err.Error())) // with the cause, and nothing that was asked or answered
		}
		return settle(ctx, s, b, e, o)
	}
	b.outlived = true
	close(abandoned)
	return e.fail(nil, b.inFlight(e.repeatable), nil)
}

// inFlight is what the caller of a write is told whose answer has not come in its time.
func (b *block) inFlight(repeatable bool) *zendeskv1.Failure {
	message := "Zendesk has not answered in time, and what was sent goes on"
	if b.request.GetRequestId() != "" {
		message += ": a repeat with the same request_id tells what became of it"
	}
	f := rpc.Failure(store.ReasonTimeout, message)
	f.Attempts, f.Retryable = 1, repeatable
	return f
}

// ask sends the requests of an errand, and judges how that ended.
func (s *Service) ask(ctx context.Context, b *block, account *store.Account, outlive zendeskapi.Outlive,
	ask func(context.Context, *zendeskapi.Client, zendeskapi.Outlive) error,
) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			o = outcome{broken: rpc.Recovered(ctx, p)}
		}
	}()
	err := s.credentials.Do(ctx, limit.Blocks, b.tenant, account, func(client *zendeskapi.Client) error { return ask(ctx, client, outlive) })
	if err == nil {
		return outcome{}
	}
	o.failure = zendeskFailure(err)
	o.err, _ = errors.AsType[*zendeskapi.Error](err)
	if o.err != nil {
		o.unknown = o.err.Unknown()
		o.again = o.unknown
		if o.err.Code == idempotentError {
			// An earlier one had the key, and was about something else: that one was carried out, or was not.
			o.unknown = true
		}
	}
	return o
}

// settle stores what an errand has brought, and words it.
func settle[R response](ctx context.Context, s *Service, b *block, e errand[R], o outcome) (resp R, err error) {
	if e.release != nil {
		defer e.release()
	}
	if o.broken != nil {
		return resp, o.broken // the intent stays
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.OutcomeTime)
	defer cancel()
	if resp, err = conclude(b.inTurn(ctx), s, b, e, o, false); errors.Is(err, store.ErrClaimLost) {
		return conclude(ctx, s, b, e, o, true)
	}
	return resp, err
}

// conclude stores how an errand ended. One is late whose turn has passed to another process, which took this one for dead: what
// Zendesk has done is stored all the same, unless that one has kept an answer, and nothing else is.
func conclude[R response](ctx context.Context, s *Service, b *block, e errand[R], o outcome, late bool) (resp R, err error) {
	if late && o.failure != nil {
		return e.fail(nil, o.told(), o.err)
	}
	if o.failure == nil && e.stage != nil {
		if err := e.stage(ctx); err != nil {
			return resp, err
		}
	}
	// Until it ends, an intent that does not let a request run again is its own.
	mayBeAnswered := e.reads || late && e.repeatable
	err = s.update(ctx, b, func(tx *store.InteractionTxn) error {
		if mayBeAnswered {
			kept, found, err := keptAnswer[R](tx, b)
			if err != nil || found {
				resp = kept
				return err
			}
		}
		var err error
		if o.failure == nil {
			if resp, err = e.finish(tx); err != nil {
				return err
			}
			if e.reads && resp.GetExit() == zendeskv1.Exit_EXIT_FAILED {
				return nil // it executes again
			}
			return once.Keep(tx, b.rpc, b.request, resp)
		}
		if resp, err = e.fail(tx, o.told(), o.err); err != nil {
			return err
		}
		switch {
		case resp.GetExit() != zendeskv1.Exit_EXIT_FAILED:
			return once.Keep(tx, b.rpc, b.request, resp)
		case e.reads, o.again, e.begun && !o.refused():
			return nil // an intent stays until the time when it holds
		case o.unknown:
			return once.Keep(tx, b.rpc, b.request, resp)
		}
		once.Drop(tx, b.rpc, b.request)
		return nil
	})
	return resp, err
}

// told is the failure as the caller is told it.
func (o *outcome) told() *zendeskv1.Failure {
	f := o.failure
	if o.unknown {
		f.Retryable = o.again
		if !o.again {
			f.Message = o.err.Message() + "; whether Zendesk carried it out is not known, and it is not sent again"
		}
	}
	return f
}

// refused tells whether Zendesk has looked at a write and will have none of it: an earlier try has then not been carried out
// either.
func (o *outcome) refused() bool {
	switch {
	case o.err == nil, o.unknown:
		return false
	}
	return o.err.StatusCode == http.StatusBadRequest || o.err.StatusCode == http.StatusNotFound || o.err.StatusCode == http.StatusUnprocessableEntity
}

// keyOf derives an idempotency key, which tells one thing to do from all others, from what identifies it.
func (s *Service) keyOf(parts ...string) string {
	sum := sha256.New()
	for _, part := range append([]string{s.store.InstanceID()}, parts...) {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part) // a hash never fails
	}
	return hex.EncodeToString(sum.Sum(nil))
}
