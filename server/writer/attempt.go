package writer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	// sinceLeeway is how much older than the ticket's last change before it a write may seem: Zendesk's clocks are not one.
	sinceLeeway = 24 * time.Hour
	// lateness is how long after a write was begun it may still take effect on a ticket that is not written to any more.
	lateness = 30 * time.Second
	// markKey is where the mark stands in an audit's metadata.
	markKey = "zendeskblocks"
	// longestStoreWait is the longest time between two tries to store what has happened.
	longestStoreWait = 5 * time.Second
)

// attempt is one try to write an activity: it does what decide says, and adds what comes of it to the facts.
type attempt struct {
	facts
	writer  *Writer
	shard   *shard // when its ctx is done, what is not stored is not stored any more
	tenant  string
	id      string
	queued  waitingActivity // as it waited
	since   time.Time       // since when it is as it is known
	account store.Account
	mark    string
}

func newAttempt(w *Writer, ticket *ticketQueue) *attempt {
	return &attempt{
		facts: facts{try: rand.Text()[:8]}, writer: w, shard: ticket.shard, tenant: ticket.account.Tenant, id: ticket.trying.id, queued: ticket.trying,
	}
}

// guarded makes the try, and a panic of it delays the ticket instead of ending the process. Errors are those of run.
func (t *attempt) guarded(ctx context.Context) (ended decision, err error) {
	defer func() {
		if p := recover(); p != nil {
			t.writer.panicked()
			t.writer.log.Error("writing an activity panicked", "activity_id", t.id, "tenant", t.tenant, "error", fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			ended, err = internalError(), nil
		}
	}()
	return t.run(ctx)
}

var (
	// errUnread says that the activity could not be read from the store.
	errUnread = errors.New("activity could not be read")
	// errChanged says that somebody has changed the activity since it was read: decided on it, or sent it elsewhere.
	errChanged = errors.New("activity has changed")
)

// run makes the try. Errors are the store's.
func (t *attempt) run(ctx context.Context) (decision, error) {
	if err := t.load(ctx); err != nil {
		return decision{}, err
	}
	for {
		d := decide(&t.facts)
		var err error
		switch d.step {
		case stepLook:
			t.look(ctx, d.ticket)
		case stepPerson:
			t.findPerson(ctx)
		case stepTickets:
			t.readRequested(ctx)
		case stepTake:
			return d, t.take(d.ticket)
		case stepNone:
			err = t.takeNone()
		case stepFields:
			t.readFields(ctx)
		case stepCompose:
			t.compose()
		case stepRead:
			t.read(ctx)
		case stepWait:
			t.wait(ctx)
		case stepAppend:
			err = t.append(ctx)
		case stepMerge:
			t.askMerge(ctx)
		case stepMove:
			return d, t.move()
		case stepJoin:
			return d, t.join()
		case stepFollow:
			err = t.follow()
		case stepCreate:
			err = t.create(ctx)
		case stepKeep:
			return d, t.keep()
		case stepGiveUp:
			return d, t.giveUp(d.failure)
		case stepEnd:
			return d, nil
		}
		if err != nil {
			return decision{}, err
		}
	}
}

// load reads what the store knows.
func (t *attempt) load(ctx context.Context) error {
	var err error
	if t.activity, err = t.writer.store.Activity(ctx, t.tenant, t.id); err != nil {
		return fmt.Errorf("%w: %w", errUnread, err)
	}
	t.since = t.activity.PendingSince
	if t.activity.State == store.ActivityPending && newWaiting(t.tenant, &t.activity, time.Time{}).ticketKey != t.queued.ticketKey {
		return errChanged
	}
	t.mark = compose.Mark(t.writer.store.InstanceID(), t.tenant, t.activity.InteractionID)
	if t.activity.Previous != "" {
		// The queue is told of activities after they are stored, and so not always in their order.
		t.earlier, err = t.writer.store.Activity(ctx, t.tenant, t.activity.Previous)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			t.earlier = store.Activity{} // gone, or unreadable: it holds nobody up
		}
	}
	t.account, err = t.writer.store.AccountOf(ctx, t.tenant, t.activity.Account)
	if t.accountGone = errors.Is(err, store.ErrNotFound); t.accountGone {
		return nil
	}
	return err
}

// ask makes a request as the activity's account, for a step.
func (t *attempt) ask(ctx context.Context, wanted step, request func(*zendeskapi.Client) error) bool {
	err := t.writer.credentials.Do(ctx, limit.Activities, t.tenant, &t.account, request)
	if err != nil {
		t.facts = t.learn(wanted, err)
	}
	return err == nil
}

// look looks for the mark of a write that was begun: in a ticket's audits, or, when a creation was, in those of the tickets
// that were made with it.
func (t *attempt) look(ctx context.Context, ticket string) {
	if ticket == "" {
		t.lookForCreated(ctx)
		return
	}
	var since time.Time
	if t.activity.Restored {
		since = t.activity.CreateTime.Add(-sinceLeeway)
	}
	for _, b := range t.activity.Begun {
		if b.TicketID == ticket && !b.Since.IsZero() && !t.activity.Restored {
			since = b.Since.Add(-sinceLeeway)
		}
	}
	audits, ok := t.audits(ctx, ticket, since)
	if ok && !t.foundIn(ticket, audits) {
		t.facts = t.lookedAt(ticket)
	}
}

func (t *attempt) audits(ctx context.Context, ticket string, since time.Time) (audits []zendeskapi.Audit, ok bool) {
	ok = t.ask(ctx, stepLook, func(client *zendeskapi.Client) (err error) {
		audits, err = client.TicketAudits(ctx, ticket, since)
		return err
	})
	return audits, ok
}

// foundIn notes that the write is in Zendesk, if an audit bears its mark.
func (t *attempt) foundIn(ticket string, audits []zendeskapi.Audit) bool {
	for _, audit := range audits {
		if audit.Metadata[markKey] == t.mark {
			t.activity.TicketID, t.auditID, t.written = ticket, audit.ID, true
			return true
		}
	}
	return false
}

// lookForCreated looks for tickets that have the mark as their external id, which no other has.
func (t *attempt) lookForCreated(ctx context.Context) {
	var made []zendeskapi.Ticket
	ok := t.ask(ctx, stepLook, func(client *zendeskapi.Client) (err error) {
		made, err = client.TicketsByExternalID(ctx, t.mark)
		return err
	})
	if !ok {
		return
	}
	for _, ticket := range made {
		audits, ok := t.audits(ctx, ticket.ID, time.Time{})
		if !ok || t.foundIn(ticket.ID, audits) {
			return
		}
	}
	if len(made) > 0 {
		t.activity.TicketID, t.written = made[0].ID, true
		return
	}
	t.facts = t.lookedAt("")
}

// findPerson finds out who asks for something, among whose tickets one is to be chosen.
func (t *attempt) findPerson(ctx context.Context) {
	if t.requester = t.activity.RequesterID; t.requester != "" {
		return
	}
	person := compose.Requester(t.activity.Details)
	if person == nil {
		t.asked = true
		return
	}
	t.ask(ctx, stepPerson, func(client *zendeskapi.Client) error {
		user, found, err := client.UserByEmail(ctx, person.Email)
		if err == nil {
			t.requester, t.asked = user.ID, !found
		}
		return err
	})
}

// readRequested reads the requester's tickets.
func (t *attempt) readRequested(ctx context.Context) {
	ok := t.ask(ctx, stepTickets, func(client *zendeskapi.Client) error {
		age := t.activity.MaxTicketAge
		if t.activity.Restored { // what changed since is looked at, whether it would be chosen now or not
			age = max(age, t.writer.now().Sub(t.activity.CreateTime)+sinceLeeway)
		}
		tickets, err := client.RequestedTickets(ctx, t.requester, age)
		if err == nil {
			t.requested, t.asked = tickets, true
		}
		return err
	})
	if ok && len(t.requested) > 0 {
		t.writer.compareClocks(t.account, t.requested[0].ReadAt)
	}
}

// take stores which ticket was chosen. It waits for its turn at the ticket from then on.
func (t *attempt) take(ticket string) error {
	return t.settle(func(a *store.Activity) { a.TicketID, a.NextAttempt = ticket, time.Time{} })
}

// takeNone stores that a ticket is to be made, for want of one.
func (t *attempt) takeNone() error {
	return t.settle(func(a *store.Activity) { a.TicketRule = store.TicketCreated })
}

// compose makes the comment and the field values.
func (t *attempt) compose() {
	left := t.left
	if t.fieldless != "" && left.All == "" {
		left.All = t.fieldless
	}
	content := compose.Compose(t.activity.Details, t.activity.AttachedData, t.definitions, left)
	t.content = &content
}

// read reads the ticket.
func (t *attempt) read(ctx context.Context) {
	ok := t.ask(ctx, stepRead, func(client *zendeskapi.Client) error {
		ticket, err := client.Ticket(ctx, t.activity.TicketID)
		if err == nil {
			t.ticket = &ticket
		}
		return err
	})
	if ok {
		t.writer.compareClocks(t.account, t.ticket.ReadAt)
	}
}

// wait waits until the ticket's stamp stands for one state, and has it read again then. A stamp that is the same then stands
// for it, even if it is from beyond Zendesk's clock.
func (t *attempt) wait(ctx context.Context) {
	timer := time.NewTimer(t.ticket.StampWait())
	defer timer.Stop()
	t.waited, t.ticket = t.ticket.Stamp, nil
	select {
	case <-timer.C:
	case <-ctx.Done(): // reading it says so
	}
}

// append adds the activity to its ticket.
func (t *attempt) append(ctx context.Context) error {
	if err := t.begin(ctx, earlier(t.ticket.UpdatedAt, t.ticket.ReadAt)); err != nil {
		return err
	}
	var change zendeskapi.TicketChange
	ok := t.ask(ctx, stepAppend, func(client *zendeskapi.Client) (err error) {
		change, err = client.UpdateTicket(ctx, t.activity.TicketID, zendeskapi.TicketUpdate{
			Comment: t.content.Comment, CustomFields: t.content.CustomFields(), Metadata: map[string]string{markKey: t.mark}, Stamp: t.ticket.Stamp,
		})
		return err
	})
	if ok {
		t.took(t.activity.TicketID, change)
	}
	return nil
}

// askMerge asks where the closed ticket has gone to.
func (t *attempt) askMerge(ctx context.Context) {
	t.ask(ctx, stepMerge, func(client *zendeskapi.Client) error {
		into, found, err := client.MergedInto(ctx, *t.ticket)
		if err == nil {
			if t.merged = true; found {
				t.into = &into
			}
		}
		return err
	})
}

// move stores that the activity goes to the ticket that its own was merged into.
func (t *attempt) move() error {
	from, to := t.activity.TicketID, t.into.ID
	return t.settle(func(a *store.Activity) {
		a.MergedFrom = append(a.MergedFrom, from)
		a.TicketID, a.TicketRule, a.NextAttempt = to, store.TicketMerged, time.Time{}
		a.Begun = without(a.Begun, from)
	})
}

// join stores that the activity goes to the follow-up that an earlier one has made to the closed ticket.
func (t *attempt) join() error {
	closed, to := t.activity.TicketID, t.earlier.TicketID
	return t.settle(func(a *store.Activity) {
		a.FollowUpOf, a.TicketID, a.TicketRule, a.NextAttempt = closed, to, store.TicketFollowUp, time.Time{}
		a.Begun = without(a.Begun, closed)
	})
}

// follow stores that a follow-up to the closed ticket is to be made, with its requester.
func (t *attempt) follow() error {
	closed, from := *t.ticket, t.activity.TicketID
	if t.into != nil {
		closed = *t.into
	}
	t.ticket = nil
	return t.settle(func(a *store.Activity) {
		a.FollowUpOf, a.TicketID, a.TicketRule, a.RequesterID = closed.ID, "", store.TicketFollowUp, closed.RequesterID
		a.Begun = without(a.Begun, from)
	})
}

// without drops what was begun on a ticket that takes no write any more.
func without(begun []store.BegunWrite, ticket string) []store.BegunWrite {
	var others []store.BegunWrite
	for _, b := range begun {
		if b.TicketID != ticket {
			others = append(others, b)
		}
	}
	return others
}

// create makes a ticket for the activity.
func (t *attempt) create(ctx context.Context) error {
	ticket := newTicket(&t.activity, t.content, t.left, t.mark)
	if err := t.begin(ctx, time.Time{}); err != nil {
		return err
	}
	var change zendeskapi.TicketChange
	ok := t.ask(ctx, stepCreate, func(client *zendeskapi.Client) (err error) {
		change, err = client.CreateTicket(ctx, ticket, idempotencyKey(t.mark, t.left))
		return err
	})
	if ok {
		t.took(change.Ticket.ID, change)
	}
	return nil
}

// newTicket is the ticket that is made for an activity.
func newTicket(a *store.Activity, content *compose.Update, left compose.Left, mark string) zendeskapi.TicketCreate {
	ticket := zendeskapi.TicketCreate{
		Subject: compose.Subject(a.Details), Comment: content.Comment, CustomFields: content.CustomFields(),
		ExternalID: mark, Metadata: map[string]string{markKey: mark}, FollowUpOf: a.FollowUpOf,
	}
	if left.RequesterID == "" {
		ticket.RequesterID = a.RequesterID
	}
	if !left.NoRequester {
		ticket.Requester = compose.Requester(a.Details)
	}
	return ticket
}

// idempotencyKey names a creation without some parts. A key goes with one body; bodies that differ for other reasons, such as
// new field definitions, have one key on purpose: only one of them can take effect.
func idempotencyKey(mark string, left compose.Left) string {
	parts := slices.Sorted(maps.Keys(left.Fields))
	if left.All != "" {
		parts = []string{"fields"}
	}
	if left.RequesterID != "" {
		parts = append(parts, "requester "+left.RequesterID)
	}
	if left.NoRequester {
		parts = append(parts, "requester")
	}
	if len(parts) == 0 {
		return mark
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return mark + ":" + hex.EncodeToString(sum[:6])
}

// took adds to the facts that Zendesk took the write.
func (t *attempt) took(ticketID string, change zendeskapi.TicketChange) {
	t.activity.TicketID, t.auditID, t.written = ticketID, change.AuditID, true
	for _, warning := range change.Warnings {
		t.content.Rejected = append(t.content.Rejected, store.Rejected{Reason: "Zendesk dropped something silently: " + warning})
	}
}

// begin makes it known that a write is about to be sent to the activity's ticket, which was changed last at since. It is stored before
// each write, also before another one of the same try: by then the claim may be lost.
func (t *attempt) begin(ctx context.Context, since time.Time) error {
	t.refused = false
	w := store.BegunWrite{ID: t.try, TicketID: t.activity.TicketID, Time: t.writer.now(), Since: since}
	return t.update(ctx, func(a *store.Activity) {
		a.Begun = begin(a.Begun, w)
		if t.writer.store.Shared() {
			a.Trying = t.try
		}
	})
}

// keep stores that the activity is in Zendesk.
func (t *attempt) keep() error {
	err := t.storeWritten(t.content.Rejected)
	if errors.Is(err, store.ErrTooLarge) {
		// What is in Zendesk must not be written again for want of room for its remarks.
		err = t.storeWritten(nil)
	}
	return err
}

func (t *attempt) storeWritten(rejected []store.Rejected) error {
	now, ticketID := t.writer.now(), t.activity.TicketID
	return t.settle(func(a *store.Activity) {
		a.State, a.Begun, a.Attempts = store.ActivityWritten, nil, a.Attempts+1
		a.TicketID, a.AuditID, a.Rejected = ticketID, t.auditID, rejected
		a.WriteTime, a.NextAttempt, a.Failure = now, time.Time{}, nil
	})
}

// giveUp stores that Zendesk will never take the activity as it is.
func (t *attempt) giveUp(why *store.Failure) error {
	return t.settle(func(a *store.Activity) {
		a.State, a.Attempts, a.NextAttempt, a.Failure = store.ActivityDead, a.Attempts+1, time.Time{}, why
		a.Begun = t.begunAfter(a.Begun) // a retry looks for the marks of those first
	})
}

// incurable are errors of an update that another one does not cure.
var incurable = []error{store.ErrNotFound, store.ErrTooLarge, store.ErrClosed, store.ErrClaimLost, errChanged}

// settle stores what has happened, however long that takes: nobody else may try the activity before. Only its own answers,
// the end of the drain and the loss of the claim end it. Errors: those of update that a repeat cannot cure, and the end's.
func (t *attempt) settle(change func(*store.Activity)) error {
	wait := 50 * time.Millisecond
	for told := false; ; told = true {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.shard.ctx), store.OutcomeTime)
		err := t.update(ctx, change)
		cancel()
		if err == nil || slices.ContainsFunc(incurable, func(final error) bool { return errors.Is(err, final) }) {
			return err
		}
		if !told {
			t.writer.log.Error("outcome of a write cannot be stored; it is tried again", "activity_id", t.id, "tenant", t.tenant, "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait = min(2*wait, longestStoreWait)
		case <-t.shard.ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// update changes the activity in the store, as long as this process has its shard, and the activity is as it is known. Errors: those
// of store.UpdateActivity; errChanged.
func (t *attempt) update(ctx context.Context, change func(*store.Activity)) error {
	changed, err := t.writer.store.UpdateActivity(store.Fenced(ctx, t.shard.claim), t.tenant, t.id, func(a *store.Activity) error {
		if a.State != store.ActivityPending || !a.PendingSince.Equal(t.since) {
			return errChanged
		}
		a.Trying = ""
		change(a)
		return nil
	})
	if err == nil {
		t.activity, t.since = changed, changed.PendingSince
	}
	return err
}

// anew reads the activity as it has become, for the queue to put it in its place.
func (t *attempt) anew() decision {
	ctx, cancel := context.WithTimeout(t.shard.ctx, store.OutcomeTime)
	defer cancel()
	a, err := t.writer.store.Activity(ctx, t.tenant, t.id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		t.activity = store.Activity{}
	case err != nil:
		return internalError()
	default:
		t.activity = a
	}
	return decision{end: endDone}
}
