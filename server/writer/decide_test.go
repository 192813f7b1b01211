package writer

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// appending are facts by which an activity is added to its ticket.
func appending() *facts {
	return &facts{
		activity: store.Activity{ID: "a", TicketID: "7", Place: 2, State: store.ActivityPending},
		composed: true,
		ticket:   &zendeskapi.Ticket{ID: "7", Status: "open"},
	}
}

// decision is what decide says.
type decision struct {
	next   step
	ended  end
	reason store.FailureReason // empty: no failure
}

func decided(f *facts) decision {
	next, ended, why := decide(f)
	d := decision{next: next, ended: ended}
	if why != nil {
		d.reason = why.Reason
	}
	return d
}

// Every case of decide wins over all that stand below it here, whichever of them hold as well.
func TestDecide(t *testing.T) {
	cases := []struct {
		name string
		hold func(*facts) // makes it hold, and none above it
		want decision
	}{
		{"not pending", func(f *facts) { f.activity.State = store.ActivityDiscarded }, decision{next: stepEnd, ended: endDone}},
		{"behind another", func(f *facts) {
			f.earlier = store.Activity{State: store.ActivityPending, TicketID: f.activity.TicketID, Place: 1}
		}, decision{next: stepEnd, ended: endBehind}},
		{"account gone", func(f *facts) { f.accountGone = true }, decision{stepGiveUp, endDone, store.ReasonAccountNotFound}},
		{"error", func(f *facts) { f.failed, f.err = stepRead, &zendeskapi.Error{Kind: zendeskapi.RateLimited} }, decision{stepEnd, endHold, store.ReasonRateLimited}},
		{"begun before", func(f *facts) { f.activity.Begun = true }, decision{next: stepLook}},
		{"not composed", func(f *facts) { f.composed = false }, decision{next: stepCompose}},
		{"written", func(f *facts) { f.written = true }, decision{next: stepKeep, ended: endDone}},
		{"no ticket", func(f *facts) { f.activity.TicketID = "" }, decision{next: stepCreate}},
		{"not read", func(f *facts) { f.ticket = nil }, decision{next: stepRead}},
		{"closed, to be followed up", func(f *facts) {
			f.ticket = &zendeskapi.Ticket{ID: "7", Status: "closed"}
			f.activity.Create = true
		}, decision{next: stepFollow}},
		{"closed", func(f *facts) { f.ticket = &zendeskapi.Ticket{ID: "7", Status: "closed"} }, decision{stepGiveUp, endDone, store.ReasonInvalidRequest}},
		{"open, with leave to create", func(f *facts) { f.activity.Create = true }, decision{next: stepAppend}},
		{"nothing of these", func(*facts) {}, decision{next: stepAppend}},
	}
	const closed, create = 10, 11 // these two together are the case above them
	for set := range 1 << len(cases) {
		holds := func(i int) bool { return set&(1<<i) != 0 }
		if holds(closed) && holds(create) {
			continue
		}
		f, want, names := appending(), decision{next: stepAppend}, ""
		for i := len(cases) - 1; i >= 0; i-- {
			if holds(i) {
				cases[i].hold(f)
				want, names = cases[i].want, cases[i].name+"; "+names
			}
		}
		if got := decided(f); got != want {
			t.Fatalf("decided %v, want %v, of: %s", got, want, names)
		}
	}
}

// What does not hold one up, although it looks like it.
func TestDecideGoesOn(t *testing.T) {
	for name, change := range map[string]func(*facts){
		"the earlier one is done":      func(f *facts) { f.earlier = store.Activity{State: store.ActivityWritten, TicketID: "7", Place: 1} },
		"the earlier one moved away":   func(f *facts) { f.earlier = store.Activity{State: store.ActivityPending, TicketID: "8", Place: 1} },
		"the earlier one moved behind": func(f *facts) { f.earlier = store.Activity{State: store.ActivityPending, TicketID: "7", Place: 3} },
		"begun by this try":            func(f *facts) { f.activity.Begun, f.began = true, true },
		"looked for, and not found":    func(f *facts) { f.activity.Begun, f.looked = true, true },
		"the ticket is solved":         func(f *facts) { f.ticket.Status = "solved" },
	} {
		f := appending()
		change(f)
		if got := decided(f); got != (decision{next: stepAppend}) {
			t.Errorf("%s: decided %v", name, got)
		}
	}
}

// unknownError is the error of a write of which nobody knows whether it took effect: the connection was cut after it left.
func unknownError(t testing.TB) *zendeskapi.Error {
	t.Helper()
	cut := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(cut.Close)
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	client, err := zendeskapi.New(zendeskapi.Config{
		Origin: cut.URL, Transport: transport, Credential: zendeskapi.BearerCredential(secret.New("t0ken")),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.UpdateTicket(t.Context(), "7", zendeskapi.TicketUpdate{})
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok || !api.Unknown() {
		t.Fatalf("error is %v, want one of unknown outcome", err)
	}
	return api
}

func TestBlame(t *testing.T) {
	kind := func(kind zendeskapi.Kind) *zendeskapi.Error { return &zendeskapi.Error{Kind: kind, Code: "SomeCode"} }
	noEndpoint := &zendeskapi.Error{Kind: zendeskapi.NotFound, Code: "InvalidEndpoint"}
	noPage := &zendeskapi.Error{Kind: zendeskapi.NotFound} // another page, as of a closed account
	reused := &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 400, Code: idempotencyError}
	for _, test := range []struct {
		name    string
		failed  step // 0: every one but stepCompose
		err     error
		want    decision
		reached bool
		refused bool // after the error, when all that was begun had surely not taken effect before
	}{
		{"no error of Zendesk's", 0, errors.New("disk full"), decision{stepEnd, endDelay, store.ReasonUnavailable}, false, true},
		{"no error of Zendesk's, composing", stepCompose, errors.New("disk full"), decision{stepEnd, endDelay, store.ReasonUnavailable}, false, true},

		// What the fields could not be read for says nothing of the ticket.
		{"composing, no fields there", stepCompose, kind(zendeskapi.NotFound), decision{stepEnd, endHold, store.ReasonNotFound}, false, true},
		{"composing, refused", stepCompose, kind(zendeskapi.InvalidRequest), decision{stepEnd, endHold, store.ReasonInvalidRequest}, false, true},
		{"composing, conflict", stepCompose, kind(zendeskapi.Conflict), decision{stepEnd, endHold, store.ReasonConflict}, false, true},
		{"composing, key used before", stepCompose, reused, decision{stepEnd, endHold, store.ReasonInvalidRequest}, false, true},
		{"composing, broken", stepCompose, kind(zendeskapi.Unavailable), decision{stepEnd, endHold, store.ReasonUnavailable}, false, true},

		{"conflict", 0, kind(zendeskapi.Conflict), decision{stepEnd, endDelay, store.ReasonConflict}, false, true},
		{"no such endpoint", 0, noEndpoint, decision{stepEnd, endHold, store.ReasonNotFound}, false, true},
		{"another page", 0, noPage, decision{stepEnd, endHold, store.ReasonNotFound}, false, true},
		// The ticket is there: the next try is to look for it.
		{"key used with other contents", 0, reused, decision{stepEnd, endDelay, store.ReasonInvalidRequest}, false, false},
		{"no such ticket", 0, &zendeskapi.Error{Kind: zendeskapi.NotFound, Code: "RecordNotFound"}, decision{stepGiveUp, endDone, store.ReasonNotFound}, true, true},
		{"refused", 0, kind(zendeskapi.InvalidRequest), decision{stepGiveUp, endDone, store.ReasonInvalidRequest}, true, true},

		{"timeout", 0, kind(zendeskapi.Timeout), decision{stepEnd, endHold, store.ReasonTimeout}, false, true},
		{"cancelled", 0, kind(zendeskapi.Canceled), decision{stepEnd, endHold, store.ReasonTimeout}, false, true},
		{"throttled", 0, kind(zendeskapi.RateLimited), decision{stepEnd, endHold, store.ReasonRateLimited}, false, true},
		{"credential refused", 0, kind(zendeskapi.CredentialsRejected), decision{stepEnd, endHold, store.ReasonCredentialsRejected}, false, true},
		{"denied", 0, kind(zendeskapi.AccessDenied), decision{stepEnd, endHold, store.ReasonAccessDenied}, false, true},
		{"unavailable", 0, kind(zendeskapi.Unavailable), decision{stepEnd, endHold, store.ReasonUnavailable}, false, true},
		{"unreadable", 0, kind(zendeskapi.BadResponse), decision{stepEnd, endHold, store.ReasonBadResponse}, false, true},
	} {
		steps := []step{test.failed}
		if test.failed == 0 {
			steps = []step{stepLook, stepRead, stepAppend, stepCreate}
		}
		for _, failed := range steps {
			f := appending()
			f.failed, f.err, f.refused = failed, fmt.Errorf("wrapper: %w", test.err), true
			if got := decided(f); got != test.want || f.reached != test.reached || f.refused != test.refused {
				t.Errorf("%s, step %d: decided %v, reached %t, refused %t, want %v, %t, %t",
					test.name, failed, got, f.reached, f.refused, test.want, test.reached, test.refused)
			}
		}
	}
}

// What is told of a failure is what Zendesk said.
func TestBlameTellsTheFailure(t *testing.T) {
	f := appending()
	f.failed, f.err = stepAppend, &zendeskapi.Error{
		Kind: zendeskapi.RateLimited, StatusCode: 429, RequestID: "z", Attempts: 2, RetryAfter: 93,
	}
	_, _, why := decide(f)
	want := &store.Failure{
		Reason: store.ReasonRateLimited, Message: why.Message, HTTPStatus: 429, ZendeskRequestID: "z", Attempts: 2, RetryAfter: 93, Retryable: true,
	}
	if diff := cmp.Diff(want, why); diff != "" || why.Message == "" {
		t.Errorf("failure (-want +got):\n%s", diff)
	}
}

// Nothing that is known changes by a decision, except for what blame notes.
func TestDecideHasNoOtherEffects(t *testing.T) {
	for _, f := range []*facts{
		appending(),
		{activity: store.Activity{State: store.ActivityDead}},
		{activity: store.Activity{State: store.ActivityPending}, accountGone: true},
		{activity: store.Activity{State: store.ActivityPending, Begun: true, Create: true}, failed: stepCreate, err: &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, Code: idempotencyError}},
		{activity: store.Activity{State: store.ActivityPending, TicketID: "7"}, failed: stepRead, err: &zendeskapi.Error{Kind: zendeskapi.NotFound, Code: "RecordNotFound"}},
		{activity: store.Activity{State: store.ActivityPending, TicketID: "7"}, composed: true, ticket: &zendeskapi.Ticket{Status: "closed"}},
	} {
		before := *f
		decide(f)
		after := *f
		after.reached, after.refused = before.reached, before.refused
		if !reflect.DeepEqual(after, before) {
			t.Errorf("the facts were %+v and are %+v", before, after)
		}
	}
}

func TestLearn(t *testing.T) {
	fieldsRefused := &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 422, Code: "RecordInvalid", Fields: []zendeskapi.FieldError{{Field: "base"}}}
	closed := &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 422, Code: "RecordInvalid", Fields: []zendeskapi.FieldError{{Field: "base"}, {Field: "status"}}}
	reused := &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 422, Code: idempotencyError}
	badRequest := &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 400}
	unknown := unknownError(t)
	stored := errors.New("disk full")
	for _, test := range []struct {
		name   string
		before func(*facts)
		failed step
		err    error
		want   func(*facts) // what has changed
	}{
		{"closed just now", func(f *facts) { f.began = true }, stepAppend, closed, func(f *facts) {
			f.reached, f.refused, f.ticket = true, true, &zendeskapi.Ticket{ID: "7", Status: "closed"}
		}},
		{"closed just now, with custom fields", func(f *facts) { f.began, f.fields = true, true }, stepAppend, closed, func(f *facts) {
			f.reached, f.refused, f.ticket = true, true, &zendeskapi.Ticket{ID: "7", Status: "closed"}
		}},
		{"closed just now, begun by a try before", nil, stepAppend, closed, func(f *facts) {
			f.reached, f.ticket = true, &zendeskapi.Ticket{ID: "7", Status: "closed"}
		}},
		{"status of a ticket that is made", func(f *facts) { f.began = true }, stepCreate, closed, func(f *facts) {
			f.failed, f.err, f.refused = stepCreate, closed, true
		}},
		{"status of a ticket that is made, with custom fields", func(f *facts) { f.began, f.fields = true, true }, stepCreate, closed, func(f *facts) {
			f.plain, f.composed, f.ticket = true, false, nil
		}},

		{"fields refused", func(f *facts) { f.began, f.fields = true, true }, stepAppend, fieldsRefused, func(f *facts) {
			f.plain, f.composed, f.ticket = true, false, nil
		}},
		{"fields of a new ticket refused", func(f *facts) { f.began, f.fields = true, true }, stepCreate, fieldsRefused, func(f *facts) {
			f.plain, f.composed, f.ticket = true, false, nil
		}},
		{"refused without custom fields", func(f *facts) { f.began = true }, stepAppend, fieldsRefused, func(f *facts) {
			f.failed, f.err, f.refused = stepAppend, fieldsRefused, true
		}},
		{"plain, and refused again", func(f *facts) { f.began, f.plain = true, true }, stepCreate, fieldsRefused, func(f *facts) {
			f.failed, f.err, f.refused = stepCreate, fieldsRefused, true
		}},
		{"key used with other contents", func(f *facts) { f.began, f.fields = true, true }, stepCreate, reused, func(f *facts) {
			f.failed, f.err, f.refused = stepCreate, reused, true
		}},
		{"another refusal of a write with custom fields", func(f *facts) { f.began, f.fields = true, true }, stepAppend, badRequest, func(f *facts) {
			f.failed, f.err, f.refused = stepAppend, badRequest, true
		}},
		{"fields refused where none are written", func(f *facts) { f.fields = true }, stepRead, fieldsRefused, func(f *facts) {
			f.failed, f.err = stepRead, fieldsRefused
		}},

		{"outcome not known", func(f *facts) { f.began = true }, stepAppend, unknown, func(f *facts) { f.failed, f.err = stepAppend, unknown }},
		{"refused, begun by a try before", nil, stepAppend, badRequest, func(f *facts) { f.failed, f.err = stepAppend, badRequest }},
		{"read after a refused write", func(f *facts) { f.began, f.plain = true, true }, stepRead, badRequest, func(f *facts) {
			f.failed, f.err, f.refused = stepRead, badRequest, true
		}},
		{"look-up failed", nil, stepLook, badRequest, func(f *facts) { f.failed, f.err = stepLook, badRequest }},
		// Fields that cannot be read say nothing of what was begun.
		{"composing failed", func(f *facts) { f.began = true }, stepCompose, badRequest, func(f *facts) { f.failed, f.err = stepCompose, badRequest }},
		{"no error of Zendesk's", func(f *facts) { f.began = true }, stepAppend, stored, func(f *facts) { f.failed, f.err = stepAppend, stored }},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, want := appending(), appending()
			for _, f := range []*facts{got, want} {
				if test.before != nil {
					test.before(f)
				}
			}
			got.learn(test.failed, test.err)
			if test.want(want); !reflect.DeepEqual(got, want) {
				t.Errorf("the facts are\n%+v, want\n%+v", got, want)
			}
		})
	}
}

// A try as the runner makes it: each step succeeds unless its error is given.
func TestTries(t *testing.T) {
	refused := &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 422, Fields: []zendeskapi.FieldError{{Field: "base"}}}
	closed := &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 422, Fields: []zendeskapi.FieldError{{Field: "status"}}}
	conflict := &zendeskapi.Error{Kind: zendeskapi.Conflict, StatusCode: 409}
	broken := &zendeskapi.Error{Kind: zendeskapi.Unavailable, StatusCode: 500}
	gone := &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "RecordNotFound"}
	reused := &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 400, Code: idempotencyError}
	type made struct {
		step step
		err  error
	}
	ok := func(s step) made { return made{s, nil} }
	for _, test := range []struct {
		name    string
		ticket  string
		create  bool
		begun   bool // by a try before
		found   bool // the mark of that
		fields  bool // custom fields are filled
		status  string
		steps   []made
		want    decision
		reached bool
		begunAt bool // begun is to be left behind: the next try looks first
	}{
		{name: "append", ticket: "7", steps: []made{ok(stepCompose), ok(stepRead), ok(stepAppend)}, want: decision{next: stepKeep}},
		{name: "create", create: true, steps: []made{ok(stepCompose), ok(stepCreate)}, want: decision{next: stepKeep}},
		{name: "begun, not found", ticket: "7", begun: true, steps: []made{ok(stepLook), ok(stepCompose), ok(stepRead), ok(stepAppend)}, want: decision{next: stepKeep}},
		{name: "begun, found", ticket: "7", begun: true, found: true, steps: []made{ok(stepLook), ok(stepCompose)}, want: decision{next: stepKeep}},
		{name: "begun, cannot be looked for", ticket: "7", begun: true, steps: []made{{stepLook, broken}}, want: decision{stepEnd, endHold, store.ReasonUnavailable}, begunAt: true},
		{name: "begun, ticket gone", ticket: "7", begun: true, steps: []made{{stepLook, gone}}, want: decision{stepGiveUp, endDone, store.ReasonNotFound}, reached: true, begunAt: true},
		{name: "found, and the fields cannot be read", ticket: "7", begun: true, found: true, steps: []made{ok(stepLook), {stepCompose, broken}}, want: decision{stepEnd, endHold, store.ReasonUnavailable}, begunAt: true},

		{name: "closed, with leave to create", ticket: "7", create: true, status: "closed", steps: []made{ok(stepCompose), ok(stepRead), ok(stepFollow), ok(stepCreate)}, want: decision{next: stepKeep}, reached: true},
		{name: "closed", ticket: "7", status: "closed", steps: []made{ok(stepCompose), ok(stepRead)}, want: decision{stepGiveUp, endDone, store.ReasonInvalidRequest}},
		{name: "closed just now, with leave to create", ticket: "7", create: true, steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, closed}, ok(stepFollow), ok(stepCreate)}, want: decision{next: stepKeep}, reached: true},
		{name: "closed just now", ticket: "7", steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, closed}}, want: decision{stepGiveUp, endDone, store.ReasonInvalidRequest}, reached: true},

		{name: "fields refused", ticket: "7", fields: true, steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, refused}, ok(stepCompose), ok(stepRead), ok(stepAppend)}, want: decision{next: stepKeep}},
		{
			name: "fields refused, and the comment too", ticket: "7", fields: true, reached: true,
			steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, refused}, ok(stepCompose), ok(stepRead), {stepAppend, refused}},
			want:  decision{stepGiveUp, endDone, store.ReasonInvalidRequest},
		},
		{
			name: "fields refused, and closed meanwhile", ticket: "7", create: true, fields: true, reached: true,
			steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, refused}, ok(stepCompose), ok(stepRead), {stepAppend, closed}, ok(stepFollow), ok(stepCreate)},
			want:  decision{next: stepKeep},
		},
		{
			name: "fields of a new ticket refused, and the rest too", create: true, fields: true, reached: true,
			steps: []made{ok(stepCompose), {stepCreate, refused}, ok(stepCompose), {stepCreate, refused}},
			want:  decision{stepGiveUp, endDone, store.ReasonInvalidRequest},
		},
		{name: "refused", ticket: "7", steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, refused}}, want: decision{stepGiveUp, endDone, store.ReasonInvalidRequest}, reached: true},
		{name: "refused, begun before", ticket: "7", begun: true, steps: []made{ok(stepLook), ok(stepCompose), ok(stepRead), {stepAppend, refused}}, want: decision{stepGiveUp, endDone, store.ReasonInvalidRequest}, reached: true, begunAt: true},

		{name: "conflict", ticket: "7", steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, conflict}}, want: decision{stepEnd, endDelay, store.ReasonConflict}},
		{name: "broken", ticket: "7", steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, broken}}, want: decision{stepEnd, endHold, store.ReasonUnavailable}},
		{name: "answer lost", ticket: "7", steps: []made{ok(stepCompose), ok(stepRead), {stepAppend, unknownError(t)}}, want: decision{stepEnd, endHold, store.ReasonUnavailable}, begunAt: true},
		{name: "answer of a creation lost", create: true, steps: []made{ok(stepCompose), {stepCreate, unknownError(t)}}, want: decision{stepEnd, endHold, store.ReasonUnavailable}, begunAt: true},
		{name: "created before with other contents", create: true, steps: []made{ok(stepCompose), {stepCreate, reused}}, want: decision{stepEnd, endDelay, store.ReasonInvalidRequest}, begunAt: true},
		{name: "ticket gone", ticket: "7", steps: []made{ok(stepCompose), {stepRead, gone}}, want: decision{stepGiveUp, endDone, store.ReasonNotFound}, reached: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &facts{activity: store.Activity{ID: "a", TicketID: test.ticket, Place: 2, Create: test.create, Begun: test.begun, State: store.ActivityPending}}
			begin := func() {
				if !f.activity.Begun {
					f.activity.Begun, f.began = true, true
				}
			}
			for i, made := range test.steps {
				if got := decided(f); got != (decision{next: made.step}) {
					t.Fatalf("step %d is %v, want %v", i, got, made.step)
				}
				if made.step == stepAppend || made.step == stepCreate {
					begin()
				}
				if made.err != nil {
					f.learn(made.step, made.err)
					continue
				}
				switch made.step {
				case stepLook:
					f.looked, f.written = true, test.found
				case stepCompose:
					f.composed, f.fields = true, test.fields && !f.plain
				case stepRead:
					f.ticket = &zendeskapi.Ticket{ID: f.activity.TicketID, Status: test.status}
				case stepFollow:
					f.reached, f.ticket = true, nil
					f.activity.FollowUpOf, f.activity.TicketID = f.activity.TicketID, ""
				case stepAppend, stepCreate:
					f.written = true
				}
			}
			if got := decided(f); got != test.want {
				t.Errorf("in the end: %v, want %v", got, test.want)
			}
			if f.reached != test.reached {
				t.Errorf("reached is %t, want %t", f.reached, test.reached)
			}
			if left := f.activity.Begun && !f.refused; test.want.next != stepKeep && left != test.begunAt {
				t.Errorf("begun is left as %t, want %t", left, test.begunAt)
			}
		})
	}
}
