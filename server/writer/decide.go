package writer

import (
	"errors"
	"net/http"
	"slices"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// idempotencyError is Zendesk's code for a key that was used with other contents.
const idempotencyError = "IdempotentRequestError"

// facts are what a try knows of an activity and of its ticket.
type facts struct {
	activity    store.Activity
	earlier     store.Activity // the one that had the last place in the ticket's queue before; zero: none, or long done
	accountGone bool

	began    bool // by this try, not by one before
	looked   bool // the mark was looked for
	written  bool // it is in Zendesk
	auditID  string
	composed bool // what is written is composed
	fields   bool // it fills custom fields
	plain    bool // Zendesk refused the fields, and they stand in the comment only
	ticket   *zendeskapi.Ticket
	refused  bool // all that was begun has surely not taken effect
	reached  bool // Zendesk took the account's request

	failed step  // the step that err ended
	err    error // of the client
}

// step is what a try does next.
type step int

const (
	stepLook    step = iota + 1 // look for the mark of a write that was begun
	stepCompose                 // compose what is written
	stepRead                    // read the ticket
	stepAppend                  // add to the ticket
	stepFollow                  // have a follow-up made to the closed ticket
	stepCreate                  // make a ticket
	stepKeep                    // store that it is in Zendesk
	stepGiveUp                  // store that it never will be
	stepEnd                     // give the ticket back to the queue
)

// end is what becomes of the ticket when a try is over.
type end int

const (
	endDone   end = iota // the activity is no longer pending
	endDelay             // its ticket is to be tried again
	endHold              // its account is
	endBehind            // an earlier one of its ticket has to be written first
)

// decide says what a try does next, and, when it gives up or ends, why.
func decide(f *facts) (step, end, *store.Failure) {
	a := &f.activity
	switch {
	case a.State != store.ActivityPending:
		return stepEnd, endDone, nil
	case f.earlier.State == store.ActivityPending && f.earlier.TicketID == a.TicketID && f.earlier.Place < a.Place:
		return stepEnd, endBehind, nil
	case f.accountGone:
		gone := store.NewFailure(store.ReasonAccountNotFound, "the activity's account has been deleted")
		return stepGiveUp, endDone, &gone
	case f.err != nil:
		return blame(f)
	case a.Begun && !f.began && !f.looked:
		return stepLook, 0, nil
	case !f.composed:
		return stepCompose, 0, nil
	case f.written:
		return stepKeep, endDone, nil
	case a.TicketID == "":
		return stepCreate, 0, nil
	case f.ticket == nil:
		return stepRead, 0, nil
	case f.ticket.Status == "closed" && a.Create:
		return stepFollow, 0, nil
	case f.ticket.Status == "closed":
		closed := store.NewFailure(store.ReasonInvalidRequest, "the ticket is closed, and no ticket was to be created")
		return stepGiveUp, endDone, &closed
	}
	return stepAppend, 0, nil
}

// learn adds to what is known that a step has failed. An error that says how the write can be made after all is not held
// against it: the next step does that.
func (f *facts) learn(failed step, err error) {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	writing := failed == stepAppend || failed == stepCreate
	switch {
	case ok && failed == stepAppend && slices.ContainsFunc(api.Fields, func(field zendeskapi.FieldError) bool { return field.Field == "status" }):
		// It was closed just now.
		f.noteRefusal(api)
		f.reached = true
		f.ticket = &zendeskapi.Ticket{ID: f.activity.TicketID, Status: "closed"}
	case ok && writing && f.fields && api.StatusCode == http.StatusUnprocessableEntity && api.Code != idempotencyError:
		// Maybe for the values of the fields: they must not keep the history out of the ticket.
		f.plain, f.composed, f.ticket = true, false, nil
	default:
		f.failed, f.err = failed, err
		if ok && failed != stepCompose {
			f.noteRefusal(api)
		}
	}
}

// noteRefusal notes whether a write that was answered by an error has surely not taken effect. That says nothing of those
// that tries before this one have begun, nor does an error of a read.
func (f *facts) noteRefusal(err *zendeskapi.Error) { f.refused = f.began && !err.Unknown() }

// blame decides what an error of the client means: for the activity, for its ticket, or for its account.
func blame(f *facts) (step, end, *store.Failure) {
	api, ok := errors.AsType[*zendeskapi.Error](f.err)
	if !ok {
		internal := store.NewFailure(store.ReasonUnavailable, "internal error")
		return stepEnd, endDelay, &internal
	}
	failure := credentials.FailureOf(f.err)
	switch {
	case f.failed == stepCompose:
		// It says nothing of the ticket, whatever it says.
		return stepEnd, endHold, &failure
	case api.Kind == zendeskapi.Conflict:
		return stepEnd, endDelay, &failure
	case api.Kind == zendeskapi.NotFound && api.EndpointUnavailable():
		// Not the ticket is missing, but the whole of Zendesk: a closed account, a maintenance page.
		return stepEnd, endHold, &failure
	case api.Kind == zendeskapi.InvalidRequest && api.Code == idempotencyError:
		// Zendesk knows the key with other contents, so the ticket is there: the next try finds it by its mark.
		f.refused = false
		return stepEnd, endDelay, &failure
	case api.Kind == zendeskapi.NotFound, api.Kind == zendeskapi.InvalidRequest:
		f.reached = true
		return stepGiveUp, endDone, &failure
	}
	return stepEnd, endHold, &failure
}
