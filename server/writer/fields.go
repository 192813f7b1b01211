package writer

import (
	"context"
	"errors"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
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

// readFields learns the definitions of the ticket's fields: those that were read before, unless they are old, or the activity
// has keys that newer ones may know.
func (t *attempt) readFields(ctx context.Context) {
	known, ok := t.writer.fields.Get(t.account.Incarnation)
	now := t.writer.now()
	if ok && !known.read.IsZero() && now.Sub(known.read) < fieldsLife {
		t.definitions = known.fields
		stale := compose.Compose(t.activity.Details, t.activity.AttachedData, known.fields, t.left).FieldsMayBeStale
		if !stale || now.Sub(known.read) < fieldsFreshFor {
			return
		}
	}
	if known.failed != nil && now.Before(known.until) {
		t.fieldsFailed(known, known.failed)
		return
	}
	var fields []zendeskapi.TicketField
	reading, cancel := context.WithTimeout(ctx, fieldsTime)
	defer cancel()
	err := t.writer.credentials.Do(reading, limit.Activities, t.tenant, &t.account, func(client *zendeskapi.Client) (err error) {
		fields, err = client.TicketFields(reading)
		return err
	})
	if err == nil {
		if fields == nil {
			fields = []zendeskapi.TicketField{}
		}
		t.definitions = fields
		t.writer.fields.Put(t.account.Incarnation, fieldDefinitions{fields: fields, read: now})
		return
	}
	if api, ok := errors.AsType[*zendeskapi.Error](err); ok && ctx.Err() == nil {
		known.failed, known.until = api, now.Add(min(max(api.RetryAfter, api.Pause, fieldsWait), maxFieldsWait))
		t.writer.fields.Put(t.account.Incarnation, known)
	}
	t.fieldsFailed(known, err)
}

// fieldsFailed goes on with old definitions, which are better than none.
func (t *attempt) fieldsFailed(known fieldDefinitions, err error) {
	if !known.read.IsZero() {
		t.definitions = known.fields
		return
	}
	t.facts = t.learn(stepFields, err)
}
