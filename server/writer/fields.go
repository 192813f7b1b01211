package writer

import (
	"context"
	"errors"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	fieldsLife     = 5 * time.Minute // of ticket field definitions
	fieldsUse      = 24 * time.Hour  // in which they are better than none
	fieldsFreshFor = time.Minute     // definitions are not read again for unknown keys when they are younger
	fieldsTime     = 5 * time.Second // of reading them
)

// fieldDefinitions are an account's ticket fields, as they were read last.
type fieldDefinitions struct {
	fields []zendeskapi.TicketField
	read   time.Time // zero: never
	// failed is why they could not be read the last time; nobody asks again until then.
	failed *zendeskapi.Error
	until  time.Time
}

// readFields learns the definitions of the ticket's fields.
func (t *attempt) readFields(ctx context.Context) {
	fields, err := t.writer.fieldsOf(ctx, limit.Activities, t.tenant, &t.account, func(fields []zendeskapi.TicketField) bool {
		return compose.Compose(t.activity.Details, t.activity.AttachedData, fields, t.left).FieldsMayBeStale
	})
	if err != nil {
		t.facts = t.learn(stepFields, err)
		return
	}
	t.definitions = fields
}

// fieldsOf returns the definitions of the fields of an account's tickets, never nil: those that were read before, unless they are
// old, or newer ones may know more, as stale says. When they cannot be read, old ones are better than none. Errors are those of the
// client.
func (w *Writer) fieldsOf(
	ctx context.Context, lane limit.Lane, tenant string, account *store.Account, stale func([]zendeskapi.TicketField) bool,
) ([]zendeskapi.TicketField, error) {
	known, ok := w.fields.Get(account.Incarnation)
	now := w.now()
	if ok && !known.read.IsZero() && now.Sub(known.read) < fieldsLife && (now.Sub(known.read) < fieldsFreshFor || !stale(known.fields)) {
		return known.fields, nil
	}
	if known.failed != nil && now.Before(known.until) {
		return known.or(known.failed)
	}
	var fields []zendeskapi.TicketField
	reading, cancel := context.WithTimeout(ctx, fieldsTime)
	defer cancel()
	err := w.credentials.Do(reading, lane, tenant, account, func(client *zendeskapi.Client) (err error) {
		fields, err = client.TicketFields(reading)
		return err
	})
	if err == nil {
		if fields == nil {
			fields = []zendeskapi.TicketField{}
		}
		w.fields.Put(account.Incarnation, fieldDefinitions{fields: fields, read: now})
		return fields, nil
	}
	api, ok := errors.AsType[*zendeskapi.Error](err)
	// What one lane has no room for, another may have.
	if ok && ctx.Err() == nil && (lane == limit.Activities || !api.Unsent) {
		known.failed, known.until = api, now.Add(min(max(api.RetryAfter, api.Pause, fieldsWait), maxFieldsWait))
		w.fields.Put(account.Incarnation, known)
	}
	return known.or(err)
}

// or returns the definitions, or an error if they have never been read.
func (d *fieldDefinitions) or(err error) ([]zendeskapi.TicketField, error) {
	if !d.read.IsZero() {
		return d.fields, nil
	}
	return nil, err
}

// fieldless is why no field is filled whose definitions could not be read.
func fieldless(why store.Failure) string {
	return "the definitions of Zendesk's fields could not be read: " + why.Message
}
