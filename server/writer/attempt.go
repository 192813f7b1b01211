package writer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	// markLeeway is how far Zendesk's clock and ours may be apart when a mark is looked for.
	markLeeway = time.Hour
	// markKey is where the mark stands in an audit's metadata.
	markKey = "zendeskblocks"
)

// attempt is one try to write an activity: it does what decide says, and adds what comes of it to the facts.
type attempt struct {
	facts
	writer  *Writer
	tenant  string
	id      string
	account store.Account
	mark    string
	content compose.Update
}

// guarded makes the try, and a panic of it delays the ticket instead of ending the process.
func (t *attempt) guarded(ctx context.Context) (ended end, why *store.Failure) {
	log := t.writer.log.With("activity_id", t.id, "tenant", t.tenant)
	internal := store.NewFailure(store.ReasonUnavailable, "internal error")
	defer func() {
		if p := recover(); p != nil {
			log.Error("writing an activity panicked", "error", fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			ended, why = endDelay, &internal
		}
	}()
	ended, why, err := t.run(ctx)
	if err != nil {
		log.Error("activity could not be read or stored", "error", err)
		return endDelay, &internal
	}
	return ended, why
}

// run makes the try. Errors are the store's.
func (t *attempt) run(ctx context.Context) (end, *store.Failure, error) {
	if err := t.load(ctx); err != nil {
		return 0, nil, err
	}
	for {
		next, ended, why := decide(&t.facts)
		var err error
		switch next {
		case stepLook:
			t.look(ctx)
		case stepCompose:
			t.compose(ctx)
		case stepRead:
			t.read(ctx)
		case stepAppend:
			err = t.append(ctx)
		case stepFollow:
			err = t.follow(ctx)
		case stepCreate:
			err = t.create(ctx)
		case stepKeep:
			return ended, nil, t.keep(ctx)
		case stepGiveUp:
			return ended, why, t.giveUp(ctx, why)
		case stepEnd:
			return ended, why, nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

// load reads what the store knows.
func (t *attempt) load(ctx context.Context) error {
	var err error
	if t.activity, err = t.writer.store.Activity(ctx, t.tenant, t.id); err != nil {
		return err
	}
	t.mark = compose.Mark(t.writer.store.InstanceID(), t.tenant, t.activity.InteractionID)
	if t.activity.Previous != "" {
		// The queue is told of activities after they are stored, and so not always in their order.
		t.earlier, err = t.writer.store.Activity(ctx, t.tenant, t.activity.Previous)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
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
	err := t.writer.credentials.Do(ctx, t.tenant, &t.account, request)
	if err != nil {
		t.learn(wanted, err)
	}
	return err == nil
}

// look looks for the mark of a write that was begun: in the ticket's audits, or in those of the tickets that were made with
// it.
func (t *attempt) look(ctx context.Context) {
	tickets := []string{t.activity.TicketID}
	if t.activity.TicketID == "" {
		ok := t.ask(ctx, stepLook, func(client *zendeskapi.Client) error {
			made, err := client.TicketsByExternalID(ctx, t.mark)
			tickets = nil
			for _, ticket := range made {
				tickets = append(tickets, ticket.ID)
			}
			return err
		})
		if !ok {
			return
		}
	}
	for _, ticket := range tickets {
		var audits []zendeskapi.Audit
		ok := t.ask(ctx, stepLook, func(client *zendeskapi.Client) (err error) {
			audits, err = client.TicketAudits(ctx, ticket, t.activity.CreateTime.Add(-markLeeway))
			return err
		})
		if !ok {
			return
		}
		for _, audit := range audits {
			if audit.Metadata[markKey] == t.mark {
				t.activity.TicketID, t.auditID, t.written = ticket, audit.ID, true
			}
		}
	}
	t.looked = true
}

// fieldDefinitions are an account's ticket fields, as they were read.
type fieldDefinitions struct {
	fields []zendeskapi.TicketField
	read   time.Time
}

// compose makes the comment and the field values, with definitions that are fresh if the keys ask for it.
func (t *attempt) compose(ctx context.Context) {
	details, data := t.activity.Details, t.activity.AttachedData
	if len(data) == 0 || t.plain {
		t.content = compose.Compose(details, data, nil)
		for i := range t.content.Rejected {
			t.content.Rejected[i].Reason = "Zendesk refused the ticket's fields as they were"
		}
		t.composed, t.fields = true, false
		return
	}
	known, ok := t.writer.fields.Get(t.account.Incarnation)
	for {
		if !ok {
			ok := t.ask(ctx, stepCompose, func(client *zendeskapi.Client) (err error) {
				known.fields, err = client.TicketFields(ctx)
				return err
			})
			if !ok {
				return
			}
			known.read = t.writer.now()
			t.writer.fields.Put(t.account.Incarnation, known)
		}
		t.content = compose.Compose(details, data, known.fields)
		t.composed, t.fields = true, len(t.content.CustomFields) > 0
		if !t.content.FieldsMayBeStale || t.writer.now().Sub(known.read) < fieldsFreshFor {
			return
		}
		ok = false
	}
}

// read reads the ticket.
func (t *attempt) read(ctx context.Context) {
	t.ask(ctx, stepRead, func(client *zendeskapi.Client) error {
		ticket, err := client.Ticket(ctx, t.activity.TicketID)
		if err == nil {
			t.ticket = &ticket
		}
		return err
	})
}

// append adds the activity to its ticket.
func (t *attempt) append(ctx context.Context) error {
	if err := t.begin(ctx); err != nil {
		return err
	}
	var change zendeskapi.TicketChange
	ok := t.ask(ctx, stepAppend, func(client *zendeskapi.Client) (err error) {
		change, err = client.UpdateTicket(ctx, t.activity.TicketID, zendeskapi.TicketUpdate{
			Comment: t.content.Comment, CustomFields: t.content.CustomFields, Metadata: map[string]string{markKey: t.mark}, Stamp: t.ticket.Stamp,
		})
		return err
	})
	if ok {
		t.took(t.activity.TicketID, change)
	}
	return nil
}

// follow stores that a follow-up to the closed ticket is to be made.
func (t *attempt) follow(ctx context.Context) error {
	t.reached = true
	t.ticket = nil
	return t.update(ctx, func(a *store.Activity) {
		a.FollowUpOf, a.TicketID, a.TicketRule = a.TicketID, "", store.TicketFollowUp
	})
}

// create makes a ticket for the activity.
func (t *attempt) create(ctx context.Context) error {
	details := t.activity.Details
	ticket := zendeskapi.TicketCreate{
		Subject: compose.Subject(details), Comment: t.content.Comment, CustomFields: t.content.CustomFields,
		ExternalID: t.mark, Metadata: map[string]string{markKey: t.mark}, FollowUpOf: t.activity.FollowUpOf, RequesterID: t.activity.RequesterID,
	}
	if email := details.Requester.Email; email != "" {
		// Zendesk makes no user without a name.
		ticket.Requester = &zendeskapi.Requester{Name: cmp.Or(details.Requester.Name, email), Email: email}
	}
	if err := t.begin(ctx); err != nil {
		return err
	}
	key := t.mark
	if t.plain {
		key += ":plain" // a key goes with one body
	}
	var change zendeskapi.TicketChange
	ok := t.ask(ctx, stepCreate, func(client *zendeskapi.Client) (err error) {
		change, err = client.CreateTicket(ctx, ticket, key)
		return err
	})
	if ok {
		t.took(change.Ticket.ID, change)
	}
	return nil
}

// took adds to the facts that Zendesk took the write.
func (t *attempt) took(ticketID string, change zendeskapi.TicketChange) {
	t.activity.TicketID, t.auditID, t.written = ticketID, change.AuditID, true
	for _, warning := range change.Warnings {
		t.content.Rejected = append(t.content.Rejected, compose.Rejected{Reason: "Zendesk dropped something silently: " + warning})
	}
}

// begin makes it known that a write is about to be sent.
func (t *attempt) begin(ctx context.Context) error {
	if t.activity.Begun {
		return nil
	}
	t.began = true
	return t.update(ctx, func(a *store.Activity) { a.Begun = true })
}

// keep stores that the activity is in Zendesk.
func (t *attempt) keep(ctx context.Context) error {
	t.reached = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.OutcomeTime)
	defer cancel()
	var told []store.Rejected
	for _, r := range t.content.Rejected {
		told = append(told, store.Rejected{Key: r.Key, Reason: r.Reason})
	}
	err := t.storeWritten(ctx, told)
	if errors.Is(err, store.ErrTooLarge) {
		// What is in Zendesk must not be written again for want of room for its remarks.
		err = t.storeWritten(ctx, nil)
	}
	return err
}

func (t *attempt) storeWritten(ctx context.Context, rejected []store.Rejected) error {
	now, ticketID := t.writer.now(), t.activity.TicketID
	return t.update(ctx, func(a *store.Activity) {
		a.State, a.Begun, a.Attempts = store.ActivityWritten, false, a.Attempts+1
		a.TicketID, a.AuditID, a.Rejected = ticketID, t.auditID, rejected
		a.WriteTime, a.NextAttempt, a.Failure = now, time.Time{}, nil
	})
}

// giveUp stores that Zendesk will never take the activity as it is.
func (t *attempt) giveUp(ctx context.Context, why *store.Failure) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.OutcomeTime)
	defer cancel()
	return t.update(ctx, func(a *store.Activity) {
		a.State, a.Attempts, a.NextAttempt, a.Failure = store.ActivityDead, a.Attempts+1, time.Time{}, why
		a.Begun = a.Begun && !t.refused // else a retry looks for the mark first
	})
}

// update changes the activity in the store.
func (t *attempt) update(ctx context.Context, change func(*store.Activity)) error {
	changed, err := t.writer.store.UpdateActivity(ctx, t.tenant, t.id, func(a *store.Activity) error {
		change(a)
		return nil
	})
	if err == nil {
		t.activity = changed
	}
	return err
}
