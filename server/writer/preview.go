package writer

import (
	"context"
	"errors"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// Preview is what an activity writes to Zendesk, or has written as far as that is known.
type Preview struct {
	Action  Action
	Content compose.Update
	Created *zendeskapi.TicketCreate // the ticket that is created, or would be if none can be chosen; nil: none is
	Mark    string
	// FieldsFailure is why the definitions of the account's fields are not known; nil: they are, or are not needed.
	FieldsFailure *store.Failure
}

// Action is what an activity does with a ticket.
type Action int

// What an activity does with a ticket.
const (
	ActionUpdate Action = iota + 1 // it adds to the one that is chosen
	ActionCreate                   // it creates one
	ActionChoose                   // it adds to the one that will be chosen, or creates one
	ActionNone                     // nothing: there is none, and none is to be created
)

// actionOf says what an activity does with a ticket, or has done. One that has created its ticket never waited for a place at it.
func actionOf(a *store.Activity) Action {
	switch {
	case a.TicketRule == store.TicketNone:
		return ActionNone
	case unchosen(a):
		return ActionChoose
	case a.TicketID == "", a.State == store.ActivityWritten && a.Place == 0:
		return ActionCreate
	}
	return ActionUpdate
}

// Preview composes what an activity writes, with an account: it need not be the activity's own, and may be zero. Zendesk is asked for
// the definitions of fields at most. Errors are the store's.
func (w *Writer) Preview(ctx context.Context, tenant string, a *store.Activity, use store.AccountUse) (Preview, error) {
	p := Preview{Action: actionOf(a), Mark: compose.Mark(w.store.InstanceID(), tenant, a.InteractionID)}
	var left compose.Left
	if a.State == store.ActivityWritten {
		left = compose.LeftThen(a.AttachedData, a.Rejected, a.RequesterID)
	}
	with := func(fields []zendeskapi.TicketField) compose.Update {
		return compose.Compose(a.Details, a.AttachedData, fields, left)
	}
	var fields []zendeskapi.TicketField
	if len(a.AttachedData) > 0 {
		var err error
		if fields, p.FieldsFailure, err = w.previewFields(ctx, tenant, use, func(fields []zendeskapi.TicketField) bool { return with(fields).FieldsMayBeStale }); err != nil {
			return Preview{}, err
		}
		if p.FieldsFailure != nil {
			left.All = fieldless(*p.FieldsFailure)
		}
	}
	p.Content = with(fields)
	if a.State == store.ActivityWritten {
		p.Content.Rejected = a.Rejected // also what no key of the attached data stands for
	}
	if p.Action == ActionCreate || p.Action == ActionChoose {
		p.Created = new(newTicket(a, &p.Content, left, p.Mark))
	}
	return p, nil
}

// previewFields returns the definitions of the fields of an account's tickets, or why they are not known.
func (w *Writer) previewFields(
	ctx context.Context, tenant string, use store.AccountUse, stale func([]zendeskapi.TicketField) bool,
) (fields []zendeskapi.TicketField, failure *store.Failure, err error) {
	account, err := w.store.AccountOf(ctx, tenant, use)
	if errors.Is(err, store.ErrNotFound) {
		return nil, new(store.NewFailure(store.ReasonAccountNotFound, "there is no account that could be asked for them")), nil
	}
	if err != nil {
		return nil, nil, err
	}
	if fields, err = w.fieldsOf(ctx, limit.Background, tenant, &account, stale); err != nil {
		return nil, new(credentials.FailureOf(err)), nil
	}
	return fields, nil, nil
}
