package writer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	// idempotencyError is Zendesk's code for a key that was used with other contents.
	idempotencyError = "IdempotentRequestError"
	closedStatus     = "closed"

	maxConflicts  = 3 // that a try meets before it is over
	maxRounds     = 8 // of leaving refused parts out, until no part is tried any more
	maxMerges     = 5 // that an activity follows
	maxFieldWaits = 1
	fieldsWait    = 2 * time.Second // at least, for field definitions that cannot be read now
	maxFieldsWait = time.Minute
)

// facts are what a try knows of an activity and of its ticket. They change by learning only.
type facts struct {
	activity    store.Activity
	earlier     store.Activity // the one that had the last place in the ticket's queue before; zero: none, or long done
	accountGone bool
	try         string // names the try

	looked  map[string]bool    // the tickets whose begun write was looked for in the state that is known; "": a creation
	written bool               // it is in Zendesk
	auditID string             // if known
	ticket  *zendeskapi.Ticket // as it was read last
	waited  string             // the stamp that was waited for
	merged  bool               // it was asked where the closed ticket has gone to
	into    *zendeskapi.Ticket // there; nil: nowhere

	requester string              // whose tickets are looked at; empty: not known yet
	asked     bool                // they were, or there is nobody to ask for
	requested []zendeskapi.Ticket // they

	definitions []zendeskapi.TicketField
	fieldless   string // why no field can be filled; empty: they can
	content     *compose.Update
	left        compose.Left // parts that Zendesk refused
	rounds      int          // of leaving out
	conflicts   int
	closing     *store.Failure // Zendesk refused the ticket's status
	refused     bool           // the last write of this try has surely not taken effect

	failed step  // the step that err ended
	err    error // of the client
}

// step is what a try does next.
type step int

const (
	stepLook    step = iota + 1 // look for the mark of a write that was begun
	stepPerson                  // find out who asks for something
	stepTickets                 // read the requester's tickets
	stepTake                    // go to the ticket that is chosen
	stepNone                    // store that there is none, and that one is to be made
	stepFields                  // read the definitions of the ticket's fields, if need be
	stepCompose                 // compose what is written
	stepRead                    // read the ticket
	stepWait                    // wait until the ticket's stamp stands for one state
	stepAppend                  // add to the ticket
	stepMerge                   // ask where the closed ticket has gone to
	stepMove                    // go to the ticket that it was merged into
	stepJoin                    // go to the follow-up that an earlier activity has made
	stepFollow                  // have a follow-up made to the closed ticket
	stepCreate                  // make a ticket
	stepKeep                    // store that it is in Zendesk
	stepGiveUp                  // store that it never will be
	stepEnd                     // give the ticket back to the queue
)

// end is what becomes of the ticket when a try is over.
type end int

const (
	endDone   end = iota + 1 // the activity is no longer pending, or waits for another ticket
	endFailed                // it is to be tried again
	endBehind                // an earlier one has to be written first
)

// decision is what a try does next and, when it gives up or ends, why.
type decision struct {
	step    step
	ticket  string // of stepLook: where; of stepTake: which
	end     end
	failure *store.Failure
	class   class         // of endFailed
	asked   time.Duration // of endFailed: how long to wait at least
	unsent  bool          // of endFailed: the last request was not sent, for want of room in the limit
	reached bool          // Zendesk took the account's request
	waits   int           // of endFailed: more that FieldWaits becomes
}

// decide says what a try does next.
func decide(f *facts) decision {
	a := &f.activity
	switch {
	case a.State != store.ActivityPending:
		return decision{step: stepEnd, end: endDone}
	case f.isBehind():
		return decision{step: stepEnd, end: endBehind}
	case f.accountGone:
		return giveUp(store.ReasonAccountNotFound, "the activity's account has been deleted", false)
	case f.err != nil:
		return blame(f)
	case f.written && f.content != nil:
		return decision{step: stepKeep, end: endDone, reached: true}
	}
	if !f.written {
		if at := slices.IndexFunc(a.Begun, f.mustBeLookedFor); at >= 0 {
			return decision{step: stepLook, ticket: a.Begun[at].TicketID}
		}
		if a.Restored && !f.looked[""] {
			return decision{step: stepLook} // a ticket may have been made with it
		}
	}
	switch {
	case unchosen(a):
		return decideTicket(f)
	case f.definitions == nil && f.fieldless == "" && len(a.AttachedData) > 0:
		return decision{step: stepFields}
	case f.content == nil:
		return decision{step: stepCompose}
	case a.TicketID == "":
		return decision{step: stepCreate}
	case f.ticket == nil:
		return decision{step: stepRead}
	case f.ticket.Status == closedStatus:
		return decideClosed(f)
	case f.closing != nil:
		return decision{step: stepGiveUp, end: endDone, failure: f.closing, reached: true}
	case !f.open(a.TicketID):
		return decision{step: stepAppend}
	// A write of before may still act on the state that the ticket was read in, until it is followed by another one.
	case f.ticket.StampWait() > 0 && f.waited != f.ticket.Stamp:
		return decision{step: stepWait}
	case !f.looked[a.TicketID]:
		return decision{step: stepLook, ticket: a.TicketID}
	}
	return decision{step: stepAppend}
}

// unchosen tells of an activity whose ticket is still to be chosen. What was chosen is stored before it is written to, and stays
// chosen: a write to it may have taken effect.
func unchosen(a *store.Activity) bool {
	return a.TicketRule == store.TicketNewestUnsolved && a.TicketID == ""
}

// decideTicket says what a try does that has to choose a ticket.
func decideTicket(f *facts) decision {
	switch {
	case f.asked:
	case f.requester == "":
		return decision{step: stepPerson}
	default:
		return decision{step: stepTickets}
	}
	if ticket, ok := f.perhapsWrittenTo(); ok {
		return decision{step: stepLook, ticket: ticket}
	}
	if ticket, ok := newestUnsolved(f.requested, f.requester, f.activity.MaxTicketAge); ok {
		return decision{step: stepTake, ticket: ticket, end: endDone, reached: true}
	}
	return decision{step: stepNone}
}

// perhapsWrittenTo is a ticket of the requester that an activity of the past may have been written to, which another state of the
// store had chosen: one that has changed since.
func (f *facts) perhapsWrittenTo() (ticket string, ok bool) {
	if !f.activity.Restored || f.written {
		return "", false
	}
	for _, t := range f.requested {
		if !f.looked[t.ID] && !t.UpdatedAt.Before(f.activity.CreateTime.Add(-sinceLeeway)) {
			return t.ID, true
		}
	}
	return "", false
}

// solvedStatuses are those of tickets that nobody works on any more.
var solvedStatuses = []string{"solved", closedStatus, "deleted", ""}

// newestUnsolved chooses, of tickets, the requester's that changed last and is not solved; none, if that is longer ago than
// maxAge by the clock of Zendesk. Of those that changed in the same second it is the one that was made last.
func newestUnsolved(tickets []zendeskapi.Ticket, requester string, maxAge time.Duration) (id string, ok bool) {
	var newest zendeskapi.Ticket
	for _, t := range tickets {
		if t.RequesterID != requester || slices.Contains(solvedStatuses, t.Status) || t.UpdatedAt.IsZero() || t.ReadAt.Sub(t.UpdatedAt) > maxAge {
			continue
		}
		// Ids grow, and so do their texts.
		if cmp.Or(t.UpdatedAt.Compare(newest.UpdatedAt), cmp.Compare(len(t.ID), len(newest.ID)), cmp.Compare(t.ID, newest.ID)) > 0 {
			newest = t
		}
	}
	return newest.ID, newest.ID != ""
}

// decideClosed says what a try does with a ticket that is closed.
func decideClosed(f *facts) decision {
	a := &f.activity
	switch {
	case f.open(a.TicketID) && !f.looked[a.TicketID]:
		return decision{step: stepLook, ticket: a.TicketID}
	case !f.merged:
		return decision{step: stepMerge}
	case f.into != nil && f.into.Status != closedStatus && !slices.Contains(a.MergedFrom, f.into.ID) && len(a.MergedFrom) < maxMerges:
		return decision{step: stepMove, end: endDone, reached: true}
	case !a.Create:
		return giveUp(store.ReasonInvalidRequest, "the ticket is closed, and no ticket was to be created", true)
	case f.earlier.FollowUpOf == a.TicketID && f.earlier.TicketID != "" && f.sameZendesk():
		return decision{step: stepJoin, end: endDone, reached: true}
	}
	return decision{step: stepFollow}
}

func giveUp(reason store.FailureReason, message string, reached bool) decision {
	why := store.NewFailure(reason, message)
	return decision{step: stepGiveUp, end: endDone, failure: &why, reached: reached}
}

// isBehind tells whether an earlier activity of the ticket has to be written first, or is to make the follow-up that this one
// goes to.
func (f *facts) isBehind() bool {
	a := &f.activity
	if f.earlier.State != store.ActivityPending || a.TicketID == "" {
		return false
	}
	return f.earlier.TicketID == a.TicketID && f.earlier.Place < a.Place ||
		a.Create && f.earlier.TicketID == "" && f.earlier.FollowUpOf == a.TicketID && f.sameZendesk()
}

func (f *facts) sameZendesk() bool { return f.earlier.Account.URL == f.activity.Account.URL }

// open tells whether a write to a ticket may have taken effect, or may yet.
func (f *facts) open(ticket string) bool {
	return f.activity.Restored || slices.ContainsFunc(f.activity.Begun, func(b store.BegunWrite) bool { return b.TicketID == ticket && f.isOpen(b) })
}

func (f *facts) isOpen(b store.BegunWrite) bool { return b.ID != f.try || b.Earlier || !f.refused }

// mustBeLookedFor tells of begun writes that are looked for before anything else. Those to the activity's own ticket are
// looked for in the state that the next write is bound to.
func (f *facts) mustBeLookedFor(b store.BegunWrite) bool {
	return f.isOpen(b) && !f.looked[b.TicketID] && (b.TicketID == "" || b.TicketID != f.activity.TicketID)
}

// begunAfter is what is known of begun writes when a try is over.
func (f *facts) begunAfter(begun []store.BegunWrite) []store.BegunWrite {
	return slices.DeleteFunc(slices.Clone(begun), func(b store.BegunWrite) bool { return !f.isOpen(b) })
}

// begin notes a write that is about to be sent.
func begin(begun []store.BegunWrite, w store.BegunWrite) []store.BegunWrite {
	begun = slices.Clone(begun)
	at := slices.IndexFunc(begun, func(b store.BegunWrite) bool { return b.TicketID == w.TicketID })
	if at < 0 {
		return append(begun, w)
	}
	was := begun[at]
	w.Since, w.Earlier = was.Since, was.ID != w.ID || was.Earlier
	begun[at] = w
	return begun
}

// learn returns what is known when a step has failed. An error that says how the write can be made after all is not held
// against it: the next step does that.
func (f facts) learn(failed step, err error) facts {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok {
		f.failed, f.err = failed, err
		return f
	}
	switch failed {
	case stepAppend, stepCreate:
		return f.learnRefusal(failed, api)
	case stepLook:
		if api.RecordMissing() && f.looking() != f.activity.TicketID {
			// Whatever was begun there, it has gone with the ticket.
			return f.lookedAt(f.looking())
		}
	case stepPerson, stepTickets:
		if api.RecordMissing() || api.Kind == zendeskapi.InvalidRequest || failed == stepPerson && api.Kind == zendeskapi.AccessDenied {
			f.asked = true // there is no such person, as far as this credential can tell
			return f
		}
	case stepMerge:
		if api.EndpointUnavailable() || api.RecordMissing() {
			f.merged = true // what only helps decides nothing
			return f
		}
	case stepFields:
		if classOf(failed, err) != classAccount || api.Kind == zendeskapi.NotFound {
			return f.learnFieldless(api)
		}
	}
	f.failed, f.err = failed, err
	return f
}

// looking is the ticket that decide has just said to look at.
func (f *facts) looking() string { return decide(f).ticket }

// lookedAt returns the facts with a ticket that has no mark.
func (f facts) lookedAt(ticket string) facts {
	f.looked = maps.Clone(f.looked)
	if f.looked == nil {
		f.looked = map[string]bool{}
	}
	f.looked[ticket] = true
	return f
}

// learnFieldless adds that the definitions of fields cannot be read. It says nothing of the ticket.
func (f facts) learnFieldless(api *zendeskapi.Error) facts {
	switch api.Kind {
	case zendeskapi.AccessDenied, zendeskapi.NotFound, zendeskapi.InvalidRequest:
	default:
		if f.activity.FieldWaits < maxFieldWaits && !f.written {
			f.failed, f.err = stepFields, api
			return f
		}
	}
	f.fieldless = fieldless(credentials.FailureOf(api))
	return f
}

// learnRefusal adds that a write has failed.
func (f facts) learnRefusal(failed step, api *zendeskapi.Error) facts {
	f.refused = !api.Unknown()
	f.looked = maps.Clone(f.looked)
	delete(f.looked, f.activity.TicketID)
	switch {
	case api.Kind == zendeskapi.Conflict && failed == stepAppend && f.conflicts < maxConflicts:
		// Someone changed it, maybe this very write, that something on the way has sent twice.
		f.refused, f.ticket = false, nil
		f.conflicts++
		return f
	case api.Kind == zendeskapi.Conflict, api.Code == idempotencyError:
		// Zendesk knows the key with other contents, so the ticket may be there: the next try looks for its mark.
		f.refused = false
	case api.Kind == zendeskapi.InvalidRequest && failed == stepAppend && f.closing == nil && names(api, "status"):
		why := credentials.FailureOf(api)
		f.closing, f.ticket = &why, nil
		return f
	case api.Kind == zendeskapi.InvalidRequest:
		if left, more := f.leaveOut(failed, api); more {
			f.left, f.content, f.ticket = left, nil, nil
			f.rounds++
			return f
		}
	}
	f.failed, f.err = failed, api
	return f
}

func names(api *zendeskapi.Error, field string) bool {
	return slices.ContainsFunc(api.Fields, func(e zendeskapi.FieldError) bool { return e.Field == field })
}

// leaveOut adds the parts of a write that Zendesk takes exception to; more is false when there is none that could be left
// out. When Zendesk does not say which, it is all custom fields.
func (f *facts) leaveOut(failed step, api *zendeskapi.Error) (left compose.Left, more bool) {
	left = f.left
	left.Fields = maps.Clone(f.left.Fields)
	elsewhere := false // it names something that was not sent
	for _, e := range api.Fields {
		why := "Zendesk refused it: " + strings.TrimPrefix(e.Description, e.Field+": ")
		if e.Description == "" {
			why = "Zendesk refused it"
		}
		id, custom := f.sentField(e)
		switch {
		case custom && id != "":
			if left.Fields == nil {
				left.Fields = map[string]string{}
			}
			left.Fields[id], more = why, true
		case custom:
			elsewhere = true
		case failed == stepCreate && strings.HasPrefix(e.Field, "requester"):
			switch {
			case f.activity.RequesterID != "" && left.RequesterID == "":
				left.RequesterID, left.Requester = f.activity.RequesterID, why
				more = true
			case compose.Requester(f.activity.Details) != nil && !left.NoRequester:
				left.NoRequester, left.Requester = true, why
				more = true
			}
		}
	}
	if more && f.rounds < maxRounds {
		return left, true
	}
	if len(f.content.CustomFields()) > 0 && left.All == "" && (more || !elsewhere) {
		left.All = "Zendesk refused the ticket's fields as they were"
		return left, true
	}
	return f.left, false
}

// sentField tells which custom field an error means; id is empty when it was not sent. Errors of the whole record begin with
// the title of the field that they mean, in any language.
func (f *facts) sentField(e zendeskapi.FieldError) (id string, custom bool) {
	sent := func(id string) bool {
		return slices.ContainsFunc(f.content.CustomFields(), func(c zendeskapi.CustomField) bool { return c.ID == id })
	}
	if id, ok := e.CustomField(); ok {
		if !sent(id) {
			id = ""
		}
		return id, true
	}
	if e.Field != "base" {
		return "", false
	}
	for _, d := range f.definitions {
		if d.Title != "" && strings.HasPrefix(e.Description, d.Title+":") {
			if sent(d.ID) {
				return d.ID, true
			}
			custom = true
		}
	}
	return "", custom
}

// blame decides what an error of the client means for the activity.
func blame(f *facts) decision {
	failure := credentials.FailureOf(f.err)
	api, ok := errors.AsType[*zendeskapi.Error](f.err)
	if !ok {
		return internalError()
	}
	again := decision{step: stepEnd, end: endFailed, failure: &failure, class: classOf(f.failed, f.err), asked: max(api.RetryAfter, api.Pause), unsent: api.Unsent}
	switch {
	case f.failed == stepFields && again.class != classAccount:
		again.class, again.waits = classNone, 1
		again.asked = min(max(again.asked, fieldsWait), maxFieldsWait)
	case f.failed == stepRead && api.RecordMissing(), f.failed == stepAppend && api.RecordMissing():
		return decision{step: stepGiveUp, end: endDone, failure: &failure, reached: true}
	case (f.failed == stepAppend || f.failed == stepCreate) && api.Kind == zendeskapi.InvalidRequest && api.Code != idempotencyError:
		failure.Message += f.meantFields(api)
		return decision{step: stepGiveUp, end: endDone, failure: &failure, reached: true}
	case f.failed == stepLook && api.RecordMissing():
		return decision{step: stepGiveUp, end: endDone, failure: &failure, reached: true}
	case f.failed == stepRead && api.Kind == zendeskapi.InvalidRequest && api.StatusCode == 0:
		// What stands in for the ticket's id is none.
		return decision{step: stepGiveUp, end: endDone, failure: &failure}
	}
	return again
}

// internalError ends a try that failed for our own fault.
func internalError() decision {
	internal := store.NewFailure(store.ReasonUnavailable, "internal error")
	return decision{step: stepEnd, end: endFailed, failure: &internal}
}

// meantFields names the custom fields that an error means, for a person who has to fill them.
func (f *facts) meantFields(api *zendeskapi.Error) string {
	var meant []string
	for _, e := range api.Fields {
		id, ok := e.CustomField()
		if !ok {
			continue
		}
		words := "field " + id
		if at := slices.IndexFunc(f.definitions, func(d zendeskapi.TicketField) bool { return d.ID == id }); at >= 0 {
			words = fmt.Sprintf("field %q (%s)", f.definitions[at].Title, id)
		}
		if !slices.Contains(meant, words) {
			meant = append(meant, words)
		}
	}
	if len(meant) == 0 {
		return ""
	}
	return "; it means " + strings.Join(meant, ", ")
}

// RetryTime is when an activity that a person wants to be tried again may be: at once, unless a write to another ticket has
// just been sent, which may yet take effect there.
func RetryTime(a *store.Activity, now time.Time) time.Time {
	var at time.Time
	for _, b := range a.Begun {
		if b.TicketID != a.TicketID {
			at = later(at, earlier(b.Time, now).Add(lateness))
		}
	}
	if !at.After(now) {
		return time.Time{}
	}
	return at
}

func later(t, u time.Time) time.Time {
	if t.After(u) {
		return t
	}
	return u
}

func earlier(t, u time.Time) time.Time {
	if t.Before(u) {
		return t
	}
	return u
}
