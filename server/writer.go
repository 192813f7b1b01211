package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/activity"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	writeTime = 20 * time.Second // of one try, all its requests together
	// longestBackoff is the number of failures in a row from which on tries are no further apart: 16 to 32 seconds. A try
	// that fails costs Zendesk a request, and all that the account has to write waits for it.
	longestBackoff = 6
	fieldsLife     = 5 * time.Minute // of ticket field definitions
	fieldsFreshFor = time.Minute     // definitions are not read again for unknown keys when they are younger
	// markLeeway is how far Zendesk's clock and ours may be apart when a mark is looked for.
	markLeeway = time.Hour
	// idempotencyError is Zendesk's code for a key that was used with other contents.
	idempotencyError = "IdempotentRequestError"
	// markKey is where the mark stands in an audit's metadata.
	markKey = "zendeskblocks"
)

// writer writes pending activities to Zendesk, each exactly once in effect. Before a write is sent, the store knows that
// it was begun; one that was begun and has no known outcome is looked for by its mark before it is sent again. A write to
// a ticket is bound to the state that the ticket was read in, so that one which Zendesk is late to act on cannot follow
// its own repeat.
type writer struct {
	store   *store.Store
	zendesk *zendesk
	log     *slog.Logger
	now     func() time.Time
	queue   *writeQueue
	fields  *cache[string, fieldDefinitions] // by account incarnation
	moved   <-chan struct{}                  // tells that now has jumped; nil: it never does
	running sync.WaitGroup
}

type fieldDefinitions struct {
	fields []zendeskapi.TicketField
	read   time.Time
}

func newWriter(s *store.Store, z *zendesk, log *slog.Logger, now func() time.Time, moved <-chan struct{}) *writer {
	return &writer{store: s, zendesk: z, log: log, now: now, moved: moved, queue: newWriteQueue(now), fields: newCache[string, fieldDefinitions](fieldsLife, now)}
}

// add puts an activity in the queue, if it is pending.
func (w *writer) add(tenant string, a store.Activity) { w.queue.add(tenant, &a) }

// hold says what a pending activity waits for, and until when.
func (w *writer) hold(tenant string, a *store.Activity) (zendeskv1.FailureReason, time.Time) {
	reason, until := w.queue.hold(tenant, a.Account.Incarnation)
	if a.NextAttempt.After(until) {
		until = a.NextAttempt
	}
	return reason, until
}

// run writes until ctx is done, and returns when the last write has ended: at the latest, when cut is done.
func (w *writer) run(ctx, cut context.Context) error {
	defer w.running.Wait()
	err := w.store.PendingActivities(ctx, func(tenant string, a store.Activity) error {
		w.queue.add(tenant, &a)
		return nil
	})
	if err != nil {
		return err
	}
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
		case <-w.queue.changed:
		case <-w.moved:
		case <-timer.C:
		}
	}
}

// verdict is what becomes of an activity after a try.
type verdict int

const (
	verdictDone   verdict = iota // it is no longer pending
	verdictDelay                 // its ticket is to be tried again
	verdictHold                  // its account is
	verdictBehind                // an earlier one of its ticket has to be written first
)

// writeFirst tries the first activity of a ticket, and tells the queue how it went.
func (w *writer) writeFirst(ctx context.Context, ticket *ticketQueue) {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	id := w.queue.first(ticket)
	try := &attempt{writer: w, tenant: ticket.account.tenant, id: id}
	f, v := try.guarded(ctx)
	// What happened is stored even when time is up.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), storeOutcomeTime)
	defer cancel()
	now := w.now()
	log := w.log.With("activity_id", id, "tenant", try.tenant, "account_id", try.activity.Account.AccountID)
	switch v {
	case verdictBehind:
		w.queue.behind(ticket, try.tenant, &try.earlier, now)
		return
	case verdictDone:
		w.queue.done(ticket, id, now, try.reached)
		switch {
		case f != nil:
			log.Error("activity cannot be written", "reason", reasonName(f), "http_status", f.GetHttpStatus(), "zendesk_request_id", f.GetZendeskRequestId())
		case try.reached:
			log.Info("activity written", "ticket_id", try.activity.TicketID, "audit_id", try.activity.AuditID, "attempts", try.activity.Attempts)
		}
		return
	}
	backoff := func(failures int) time.Duration {
		return backoffTime(min(failures, longestBackoff), f.GetRetryAfter().AsDuration())
	}
	var until time.Time
	if v == verdictHold {
		until = w.queue.holdAccount(ticket, now, f.GetReason(), backoff)
	} else {
		until = w.queue.delay(ticket, now, backoff)
	}
	err := try.update(ctx, func(a *store.Activity) error {
		a.Attempts++
		a.NextAttempt = until
		a.Begun = a.Begun && !try.refused
		return setFailure(a, f)
	})
	if err != nil {
		log.Error("activity's failure could not be stored", "error", err)
	}
	log.Warn("activity waits", "reason", reasonName(f), "http_status", f.GetHttpStatus(), "until", until, "account_held", v == verdictHold)
}

func reasonName(f *zendeskv1.Failure) string {
	return strings.TrimPrefix(f.GetReason().String(), "FAILURE_REASON_")
}

// backoffTime is how long to wait after a number of failures in a row: what Zendesk asks for, or twice as long each time,
// up to 5 minutes; a random half of it is left out, so that not all come at once.
func backoffTime(failures int, asked time.Duration) time.Duration {
	const longest = 5 * time.Minute
	wait := min(time.Second<<min(failures-1, 20), longest)
	return max(asked, wait/2) + rand.N(wait/2) //nolint:gosec // jitter is no secret
}

// attempt is one try to write an activity.
type attempt struct {
	writer   *writer
	tenant   string
	id       string
	activity store.Activity
	details  activity.Details // of the activity
	earlier  store.Activity   // that has to be written first
	account  store.Account
	mark     string
	began    bool // by this try, not by one before
	reached  bool // Zendesk took the account's request
	refused  bool // all that was begun has surely not taken effect
	plain    bool // Zendesk refused the fields, and they stand in the comment only
}

// guarded is write, and a panic of it delays the ticket instead of ending the process.
func (t *attempt) guarded(ctx context.Context) (f *zendeskv1.Failure, v verdict) {
	defer func() {
		if p := recover(); p != nil {
			t.writer.log.Error("writing an activity panicked", "activity_id", t.id, "error", recovered(ctx, p))
			f, v = failure(zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, "internal error"), verdictDelay
		}
	}()
	f, v, err := t.write(ctx)
	if err != nil {
		t.writer.log.Error("activity could not be read or stored", "activity_id", t.id, "error", err)
		return failure(zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE, "internal error"), verdictDelay
	}
	return f, v
}

// write makes the try. A failure without an error says why the activity waits or is DEAD.
func (t *attempt) write(ctx context.Context) (*zendeskv1.Failure, verdict, error) {
	var err error
	if t.activity, err = t.writer.store.Activity(ctx, t.tenant, t.id); err != nil {
		return nil, verdictDelay, err
	}
	if t.activity.State != store.ActivityPending {
		return nil, verdictDone, nil
	}
	details := new(zendeskv1.ActivityDetails)
	if err := proto.Unmarshal(t.activity.Details, details); err != nil {
		return nil, verdictDelay, fmt.Errorf("reading the details of an activity: %w", err)
	}
	t.details = detailsOf(details)
	if waits, err := t.isBehind(ctx); err != nil || waits {
		return nil, verdictBehind, err
	}
	t.account, err = t.writer.store.AccountOf(ctx, t.tenant, t.activity.Account)
	if errors.Is(err, store.ErrNotFound) {
		return t.dead(ctx, failure(zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND, "the activity's account has been deleted"))
	}
	if err != nil {
		return nil, verdictDelay, err
	}
	t.mark = activity.Mark(t.writer.store.InstanceID(), t.tenant, t.activity.InteractionID)
	if t.activity.Begun {
		if found, err := t.find(ctx); err != nil || found {
			return t.found(ctx, found, err)
		}
	}
	composed, err := t.compose(ctx)
	if err != nil {
		return held(err)
	}
	if t.activity.TicketID == "" {
		return t.create(ctx, composed)
	}
	return t.append(ctx, composed)
}

// ask makes a request as the activity's account.
func (t *attempt) ask(ctx context.Context, request func(*zendeskapi.Client) error) error {
	return t.writer.zendesk.do(ctx, t.tenant, &t.account, request)
}

// isBehind says whether an activity that was completed earlier for the same ticket is still to be written. The queue is told
// of activities after they are stored, and so not always in their order.
func (t *attempt) isBehind(ctx context.Context) (bool, error) {
	if t.activity.Previous == "" {
		return false, nil
	}
	var err error
	t.earlier, err = t.writer.store.Activity(ctx, t.tenant, t.activity.Previous)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil // long done
	}
	return t.earlier.State == store.ActivityPending && t.earlier.TicketID == t.activity.TicketID && t.earlier.Place < t.activity.Place, err
}

// compose makes the comment and the field values, with definitions that are fresh if the keys ask for it.
func (t *attempt) compose(ctx context.Context) (activity.Update, error) {
	if len(t.activity.AttachedData) == 0 {
		return activity.Compose(t.details, nil, nil), nil
	}
	known, ok := t.writer.fields.get(t.account.Incarnation)
	for {
		if !ok {
			var fields []zendeskapi.TicketField
			err := t.ask(ctx, func(client *zendeskapi.Client) (err error) {
				fields, err = client.TicketFields(ctx)
				return err
			})
			if err != nil {
				return activity.Update{}, err
			}
			known = fieldDefinitions{fields: fields, read: t.writer.now()}
			t.writer.fields.put(t.account.Incarnation, known)
		}
		composed := activity.Compose(t.details, t.activity.AttachedData, known.fields)
		if !composed.FieldsMayBeStale || t.writer.now().Sub(known.read) < fieldsFreshFor {
			return composed, nil
		}
		ok = false
	}
}

// append adds the activity to its ticket.
func (t *attempt) append(ctx context.Context, composed activity.Update) (*zendeskv1.Failure, verdict, error) {
	var ticket zendeskapi.Ticket
	err := t.ask(ctx, func(client *zendeskapi.Client) (err error) {
		ticket, err = client.Ticket(ctx, t.activity.TicketID)
		return err
	})
	if err != nil {
		return t.failed(ctx, err)
	}
	if ticket.Status == "closed" {
		return t.closed(ctx, composed)
	}
	if err := t.begin(ctx); err != nil {
		return nil, verdictDelay, err
	}
	var change zendeskapi.TicketChange
	err = t.ask(ctx, func(client *zendeskapi.Client) (err error) {
		change, err = client.UpdateTicket(ctx, t.activity.TicketID, zendeskapi.TicketUpdate{
			Comment: composed.Comment, CustomFields: composed.CustomFields, Metadata: map[string]string{markKey: t.mark}, Stamp: ticket.Stamp,
		})
		return err
	})
	if api, ok := errors.AsType[*zendeskapi.Error](err); ok && slices.ContainsFunc(api.Fields, func(f zendeskapi.FieldError) bool { return f.Field == "status" }) {
		// It was closed just now.
		t.refusedBy(api)
		return t.closed(ctx, composed)
	}
	if fieldsRefused(err, composed) {
		return t.append(ctx, t.withoutFields())
	}
	if err != nil {
		return t.failed(ctx, err)
	}
	return t.written(ctx, t.activity.TicketID, change.AuditID, composed.Rejected, change.Warnings)
}

// closed deals with a ticket that takes no more: a follow-up to it is made, if tickets may be.
func (t *attempt) closed(ctx context.Context, composed activity.Update) (*zendeskv1.Failure, verdict, error) {
	t.reached = true
	if !t.activity.Create {
		return t.dead(ctx, failure(zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST, "the ticket is closed, and no ticket was to be created"))
	}
	err := t.update(ctx, func(a *store.Activity) error {
		a.FollowUpOf, a.TicketID, a.TicketRule = a.TicketID, "", int32(zendeskv1.TicketRule_TICKET_RULE_FOLLOW_UP)
		return nil
	})
	if err != nil {
		return nil, verdictDelay, err
	}
	return t.create(ctx, composed)
}

// create makes a ticket for the activity.
func (t *attempt) create(ctx context.Context, composed activity.Update) (*zendeskv1.Failure, verdict, error) {
	ticket := zendeskapi.TicketCreate{
		Subject: activity.Subject(t.details), Comment: composed.Comment, CustomFields: composed.CustomFields,
		ExternalID: t.mark, Metadata: map[string]string{markKey: t.mark}, FollowUpOf: t.activity.FollowUpOf, RequesterID: t.activity.RequesterID,
	}
	if email := t.details.RequesterEmail; email != "" {
		// Zendesk makes no user without a name.
		ticket.Requester = &zendeskapi.Requester{Name: cmp.Or(t.details.RequesterName, email), Email: email}
	}
	if err := t.begin(ctx); err != nil {
		return nil, verdictDelay, err
	}
	key := t.mark
	if t.plain {
		key += ":plain" // a key goes with one body
	}
	var change zendeskapi.TicketChange
	err := t.ask(ctx, func(client *zendeskapi.Client) (err error) {
		change, err = client.CreateTicket(ctx, ticket, key)
		return err
	})
	if fieldsRefused(err, composed) {
		return t.create(ctx, t.withoutFields())
	}
	if err != nil {
		return t.failed(ctx, err)
	}
	return t.written(ctx, change.Ticket.ID, change.AuditID, composed.Rejected, change.Warnings)
}

// fieldsRefused says whether Zendesk may have refused a write for the values of its custom fields.
func fieldsRefused(err error, composed activity.Update) bool {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	return ok && api.StatusCode == http.StatusUnprocessableEntity && api.Code != idempotencyError && len(composed.CustomFields) > 0
}

// withoutFields composes an update whose attached data stand in the comment only: a value that Zendesk takes exception to
// must not keep the history out of the ticket.
func (t *attempt) withoutFields() activity.Update {
	t.plain = true
	composed := activity.Compose(t.details, t.activity.AttachedData, nil)
	for i := range composed.Rejected {
		composed.Rejected[i].Reason = "Zendesk refused the ticket's fields as they were"
	}
	return composed
}

// begin makes it known that a write is about to be sent.
func (t *attempt) begin(ctx context.Context) error {
	if t.activity.Begun {
		return nil
	}
	t.began = true
	return t.update(ctx, func(a *store.Activity) error {
		a.Begun = true
		return nil
	})
}

// refusedBy notes whether a write that was answered by an error has surely not taken effect. That says nothing of those
// that tries before this one have begun, nor does an error of a read.
func (t *attempt) refusedBy(err *zendeskapi.Error) { t.refused = t.began && !err.Unknown() }

// find looks for the mark of a write that was begun. It sets the activity's ticket and audit when it is there.
func (t *attempt) find(ctx context.Context) (bool, error) {
	tickets := []string{t.activity.TicketID}
	if t.activity.TicketID == "" {
		var made []zendeskapi.Ticket
		err := t.ask(ctx, func(client *zendeskapi.Client) (err error) {
			made, err = client.TicketsByExternalID(ctx, t.mark)
			return err
		})
		if err != nil {
			return false, err
		}
		tickets = nil
		for _, ticket := range made {
			tickets = append(tickets, ticket.ID)
		}
	}
	for _, ticket := range tickets {
		var audits []zendeskapi.Audit
		err := t.ask(ctx, func(client *zendeskapi.Client) (err error) {
			audits, err = client.TicketAudits(ctx, ticket, t.activity.CreateTime.Add(-markLeeway))
			return err
		})
		if err != nil {
			return false, err
		}
		for _, audit := range audits {
			if audit.Metadata[markKey] == t.mark {
				t.activity.TicketID, t.activity.AuditID = ticket, audit.ID
				return true, nil
			}
		}
	}
	return false, nil
}

// found ends a try whose mark was found, or could not be looked for.
func (t *attempt) found(ctx context.Context, found bool, err error) (*zendeskv1.Failure, verdict, error) {
	if !found {
		return t.failed(ctx, err)
	}
	composed, err := t.compose(ctx)
	if err != nil {
		return held(err)
	}
	return t.written(ctx, t.activity.TicketID, t.activity.AuditID, composed.Rejected, nil)
}

// written stores that the activity is in Zendesk.
func (t *attempt) written(ctx context.Context, ticketID, auditID string, rejected []activity.Rejected, warnings []string) (*zendeskv1.Failure, verdict, error) {
	t.reached = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeOutcomeTime)
	defer cancel()
	var told []store.Rejected
	for _, r := range rejected {
		told = append(told, store.Rejected{Key: r.Key, Reason: r.Reason})
	}
	for _, warning := range warnings {
		told = append(told, store.Rejected{Reason: "Zendesk dropped something silently: " + warning})
	}
	err := t.storeWritten(ctx, ticketID, auditID, told)
	if errors.Is(err, store.ErrTooLarge) {
		// What is in Zendesk must not be written again for want of room for its remarks.
		err = t.storeWritten(ctx, ticketID, auditID, nil)
	}
	return nil, verdictDone, err
}

func (t *attempt) storeWritten(ctx context.Context, ticketID, auditID string, rejected []store.Rejected) error {
	now := t.writer.now()
	return t.update(ctx, func(a *store.Activity) error {
		a.State, a.Begun, a.Attempts = store.ActivityWritten, false, a.Attempts+1
		a.TicketID, a.AuditID, a.Rejected = ticketID, auditID, rejected
		a.WriteTime, a.NextAttempt = now, time.Time{}
		return setFailure(a, nil)
	})
}

// dead stores that Zendesk will never take the activity as it is.
func (t *attempt) dead(ctx context.Context, f *zendeskv1.Failure) (*zendeskv1.Failure, verdict, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeOutcomeTime)
	defer cancel()
	err := t.update(ctx, func(a *store.Activity) error {
		a.State, a.Attempts, a.NextAttempt = store.ActivityDead, a.Attempts+1, time.Time{}
		a.Begun = a.Begun && !t.refused // else a retry looks for the mark first
		return setFailure(a, f)
	})
	return f, verdictDone, err
}

// held ends a try by an error of the client that says nothing of the ticket, whatever it says.
func held(err error) (*zendeskv1.Failure, verdict, error) {
	if _, ok := errors.AsType[*zendeskapi.Error](err); !ok {
		return nil, verdictDelay, err
	}
	return failureOf(err), verdictHold, nil
}

// failed decides what an error of the client means: for the activity, for its ticket, or for its account.
func (t *attempt) failed(ctx context.Context, err error) (*zendeskv1.Failure, verdict, error) {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok {
		return nil, verdictDelay, err
	}
	t.refusedBy(api)
	f := failureOf(err)
	switch api.Kind {
	case zendeskapi.Conflict:
		return f, verdictDelay, nil
	case zendeskapi.NotFound:
		if api.EndpointUnavailable() {
			// Not the ticket is missing, but the whole of Zendesk: a closed account, a maintenance page.
			return f, verdictHold, nil
		}
		t.reached = true
		return t.dead(ctx, f)
	case zendeskapi.InvalidRequest:
		if api.Code == idempotencyError {
			// Zendesk knows the key with other contents, so the ticket is there: the next try finds it by its mark.
			t.refused = false
			return f, verdictDelay, nil
		}
		t.reached = true
		return t.dead(ctx, f)
	}
	return f, verdictHold, nil
}

// update changes the activity in the store.
func (t *attempt) update(ctx context.Context, change func(*store.Activity) error) error {
	changed, err := t.writer.store.UpdateActivity(ctx, t.tenant, t.id, change)
	if err == nil {
		t.activity = changed
	}
	return err
}

// detailsOf converts what the runtime said of an interaction.
func detailsOf(d *zendeskv1.ActivityDetails) activity.Details {
	return activity.Details{
		Channel: d.GetChannel(), Direction: d.GetDirection(), FromAddress: d.GetFromAddress(), ToAddress: d.GetToAddress(),
		AgentEmail: d.GetAgent().GetEmail(), Service: d.GetService(), Disposition: d.GetDisposition(), Notes: d.GetNotes(),
		RecordingURL: d.GetRecordingUrl(), StartTime: timeOf(d.GetStartTime()), AnswerTime: timeOf(d.GetAnswerTime()), EndTime: timeOf(d.GetEndTime()),
		RequesterName: d.GetRequester().GetName(), RequesterEmail: d.GetRequester().GetEmail(),
	}
}
