package writer

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

var testTime = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// openTicket was changed long before it was read.
func openTicket(id string) *zendeskapi.Ticket {
	return &zendeskapi.Ticket{ID: id, Status: "open", Stamp: "s", UpdatedAt: testTime, ReadAt: testTime.Add(time.Minute)}
}

func closedTicket(id string) *zendeskapi.Ticket {
	ticket := openTicket(id)
	ticket.Status = closedStatus
	return ticket
}

// appending are facts by which an activity is added to its ticket.
func appending(changes ...func(*facts)) *facts {
	f := &facts{
		activity: store.Activity{ID: "a", TicketID: "7", Place: 2, State: store.ActivityPending},
		try:      "now", content: &compose.Update{Comment: "it was"}, ticket: openTicket("7"),
	}
	for _, change := range changes {
		change(f)
	}
	return f
}

func begun(tickets ...string) func(*facts) {
	return func(f *facts) {
		for _, ticket := range tickets {
			f.activity.Begun = append(f.activity.Begun, store.BegunWrite{ID: "before", TicketID: ticket})
		}
	}
}

func looked(tickets ...string) func(*facts) {
	return func(f *facts) {
		for _, ticket := range tickets {
			*f = f.lookedAt(ticket)
		}
	}
}

func follows(f *facts) { f.activity.Create = true }

func closed(f *facts) { f.ticket = closedTicket("7") }

// choosing are facts by which a ticket is to be chosen.
func choosing(f *facts) {
	f.activity.TicketID, f.activity.Place, f.activity.TicketRule, f.activity.MaxTicketAge = "", 0, store.TicketNewestUnsolved, time.Hour
	f.ticket, f.content = nil, nil
}

// requested says that these are a requester's tickets.
func requested(tickets ...string) func(*facts) {
	return func(f *facts) {
		f.requester, f.asked = "77", true
		for _, id := range tickets {
			ticket := openTicket(id)
			ticket.RequesterID = "77"
			f.requested = append(f.requested, *ticket)
		}
	}
}

func mergedInto(ticket *zendeskapi.Ticket) func(*facts) {
	return func(f *facts) { f.merged, f.into = true, ticket }
}

func refusedAs(api *zendeskapi.Error) func(*facts) {
	return func(f *facts) { f.failed, f.err = stepRead, api }
}

// restored has the activity come from a backup.
func restored(f *facts) { f.activity.Restored, f.activity.CreateTime = true, testTime }

func TestDecide(t *testing.T) {
	for name, test := range map[string]struct {
		change []func(*facts)
		want   decision // the failure's message does not count
		reason store.FailureReason
	}{
		"nothing special": {nil, decision{step: stepAppend}, ""},
		"not pending":     {[]func(*facts){func(f *facts) { f.activity.State = store.ActivityDiscarded }}, decision{step: stepEnd, end: endDone}, ""},
		"account gone":    {[]func(*facts){func(f *facts) { f.accountGone = true }}, decision{step: stepGiveUp, end: endDone}, store.ReasonAccountNotFound},

		"behind another": {[]func(*facts){func(f *facts) {
			f.earlier = store.Activity{State: store.ActivityPending, TicketID: "7", Place: 1}
		}}, decision{step: stepEnd, end: endBehind}, ""},
		"the earlier one is done":      {[]func(*facts){func(f *facts) { f.earlier = store.Activity{State: store.ActivityWritten, TicketID: "7", Place: 1} }}, decision{step: stepAppend}, ""},
		"the earlier one moved away":   {[]func(*facts){func(f *facts) { f.earlier = store.Activity{State: store.ActivityPending, TicketID: "8", Place: 1} }}, decision{step: stepAppend}, ""},
		"the earlier one moved behind": {[]func(*facts){func(f *facts) { f.earlier = store.Activity{State: store.ActivityPending, TicketID: "7", Place: 3} }}, decision{step: stepAppend}, ""},
		"the earlier one makes a follow-up": {[]func(*facts){follows, func(f *facts) {
			f.earlier = store.Activity{State: store.ActivityPending, FollowUpOf: "7", Place: 0}
		}}, decision{step: stepEnd, end: endBehind}, ""},

		"restored":                        {[]func(*facts){restored}, decision{step: stepLook}, ""},
		"restored, no ticket was made":    {[]func(*facts){restored, looked("")}, decision{step: stepLook, ticket: "7"}, ""},
		"restored, looked for everywhere": {[]func(*facts){restored, looked("", "7")}, decision{step: stepAppend}, ""},
		"restored, closed meanwhile":      {[]func(*facts){restored, closed, looked("")}, decision{step: stepLook, ticket: "7"}, ""},
		"restored, moved to another":      {[]func(*facts){restored, looked("", "6")}, decision{step: stepLook, ticket: "7"}, ""},
		"restored, a ticket is to be made": {[]func(*facts){restored, looked(""), func(f *facts) {
			f.activity.TicketID, f.activity.TicketRule, f.ticket = "", store.TicketCreated, nil
		}}, decision{step: stepCreate}, ""},
		"restored, to be chosen":                {[]func(*facts){restored, looked(""), choosing, requested("8", "9")}, decision{step: stepLook, ticket: "8"}, ""},
		"restored, to be chosen, one looked at": {[]func(*facts){restored, looked("", "8"), choosing, requested("8", "9")}, decision{step: stepLook, ticket: "9"}, ""},
		"restored, to be chosen, all looked at": {[]func(*facts){restored, looked("", "8", "9"), choosing, requested("8", "9")}, decision{step: stepTake, ticket: "9", end: endDone, reached: true}, ""},
		"restored, tickets changed long before": {[]func(*facts){restored, looked(""), choosing, requested("8"), func(f *facts) {
			f.activity.CreateTime = testTime.Add(sinceLeeway + 1)
		}}, decision{step: stepTake, ticket: "8", end: endDone, reached: true}, ""},
		"restored, found": {[]func(*facts){restored, func(f *facts) { f.written = true }}, decision{step: stepKeep, end: endDone, reached: true}, ""},

		"data, fields unknown": {[]func(*facts){func(f *facts) { f.activity.AttachedData, f.content = map[string]string{"a": "b"}, nil }}, decision{step: stepFields}, ""},
		"data, fields known": {[]func(*facts){func(f *facts) {
			f.activity.AttachedData, f.content, f.definitions = map[string]string{"a": "b"}, nil, []zendeskapi.TicketField{}
		}}, decision{step: stepCompose}, ""},
		"data, fields not readable": {[]func(*facts){func(f *facts) {
			f.activity.AttachedData, f.content, f.fieldless = map[string]string{"a": "b"}, nil, "403"
		}}, decision{step: stepCompose}, ""},
		"not composed":        {[]func(*facts){func(f *facts) { f.content = nil }}, decision{step: stepCompose}, ""},
		"not read":            {[]func(*facts){func(f *facts) { f.ticket = nil }}, decision{step: stepRead}, ""},
		"no ticket":           {[]func(*facts){func(f *facts) { f.activity.TicketID, f.ticket = "", nil }}, decision{step: stepCreate}, ""},
		"written":             {[]func(*facts){func(f *facts) { f.written = true }}, decision{step: stepKeep, end: endDone, reached: true}, ""},
		"found, not composed": {[]func(*facts){begun("7"), func(f *facts) { f.written, f.content = true, nil }}, decision{step: stepCompose}, ""},

		"begun before, not read":   {[]func(*facts){begun("7"), func(f *facts) { f.ticket = nil }}, decision{step: stepRead}, ""},
		"begun before":             {[]func(*facts){begun("7")}, decision{step: stepLook, ticket: "7"}, ""},
		"begun before, looked for": {[]func(*facts){begun("7"), looked("7")}, decision{step: stepAppend}, ""},
		"begun before, changed this second": {[]func(*facts){begun("7"), func(f *facts) { f.ticket.ReadAt = testTime.Add(time.Second) }},
			decision{step: stepWait}, ""},
		"begun before, stamped beyond Zendesk's clock, waited for": {[]func(*facts){begun("7"), func(f *facts) {
			f.ticket.ReadAt, f.ticket.Stamp, f.waited = testTime.Add(-time.Hour), "x", "x"
		}}, decision{step: stepLook, ticket: "7"}, ""},
		"begun before, changed while it was waited": {[]func(*facts){begun("7"), func(f *facts) {
			f.ticket.ReadAt, f.ticket.Stamp, f.waited = testTime, "y", "x"
		}}, decision{step: stepWait}, ""},
		"changed this second, nothing begun": {[]func(*facts){func(f *facts) { f.ticket.ReadAt = testTime.Add(time.Second) }}, decision{step: stepAppend}, ""},
		"begun by this try, refused": {[]func(*facts){func(f *facts) {
			f.activity.Begun, f.refused = []store.BegunWrite{{ID: "now", TicketID: "7"}}, true
		}}, decision{step: stepAppend}, ""},
		"begun by this try, after another": {[]func(*facts){func(f *facts) {
			f.activity.Begun, f.refused = []store.BegunWrite{{ID: "now", TicketID: "7", Earlier: true}}, true
		}}, decision{step: stepLook, ticket: "7"}, ""},
		"begun elsewhere":              {[]func(*facts){begun("6"), func(f *facts) { f.ticket, f.content = nil, nil }}, decision{step: stepLook, ticket: "6"}, ""},
		"creation begun, then retried": {[]func(*facts){begun("")}, decision{step: stepLook}, ""},
		"creation begun":               {[]func(*facts){begun(""), func(f *facts) { f.activity.TicketID = "" }}, decision{step: stepLook}, ""},
		"begun twice elsewhere":        {[]func(*facts){begun("6", "5", "7"), looked("6")}, decision{step: stepLook, ticket: "5"}, ""},
		"all begun looked for":         {[]func(*facts){begun("6", "", "7"), looked("6", "", "7")}, decision{step: stepAppend}, ""},

		"to be chosen":                         {[]func(*facts){choosing}, decision{step: stepPerson}, ""},
		"to be chosen, the person is known":    {[]func(*facts){choosing, func(f *facts) { f.requester = "77" }}, decision{step: stepTickets}, ""},
		"to be chosen, behind nobody":          {[]func(*facts){choosing, func(f *facts) { f.earlier = store.Activity{State: store.ActivityPending} }}, decision{step: stepPerson}, ""},
		"to be chosen, nobody to ask for":      {[]func(*facts){choosing, func(f *facts) { f.asked = true }}, decision{step: stepNone}, ""},
		"to be chosen, there is one":           {[]func(*facts){choosing, requested("8")}, decision{step: stepTake, ticket: "8", end: endDone, reached: true}, ""},
		"to be chosen, there is none":          {[]func(*facts){choosing, requested()}, decision{step: stepNone}, ""},
		"to be chosen, begun elsewhere before": {[]func(*facts){choosing, begun("6")}, decision{step: stepLook, ticket: "6"}, ""},
		"chosen":                               {[]func(*facts){func(f *facts) { f.activity.TicketRule = store.TicketNewestUnsolved }}, decision{step: stepAppend}, ""},
		"none was there": {[]func(*facts){choosing, func(f *facts) { f.activity.TicketRule, f.content = store.TicketCreated, &compose.Update{} }},
			decision{step: stepCreate}, ""},
		"to be chosen, throttled": {[]func(*facts){choosing, func(f *facts) {
			f.failed, f.err = stepTickets, &zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429, RetryAfter: time.Minute}
		}}, decision{step: stepEnd, end: endFailed, class: classDoubt, asked: time.Minute}, store.ReasonRateLimited},

		"closed":                           {[]func(*facts){closed}, decision{step: stepMerge}, ""},
		"closed, begun":                    {[]func(*facts){closed, begun("7")}, decision{step: stepLook, ticket: "7"}, ""},
		"closed, SKIP":                     {[]func(*facts){closed, mergedInto(nil)}, decision{step: stepGiveUp, end: endDone, reached: true}, store.ReasonInvalidRequest},
		"closed, CREATE":                   {[]func(*facts){closed, follows, mergedInto(nil)}, decision{step: stepFollow}, ""},
		"merged":                           {[]func(*facts){closed, mergedInto(openTicket("8"))}, decision{step: stepMove, end: endDone, reached: true}, ""},
		"merged, CREATE":                   {[]func(*facts){closed, follows, mergedInto(openTicket("8"))}, decision{step: stepMove, end: endDone, reached: true}, ""},
		"merged into a closed one, CREATE": {[]func(*facts){closed, follows, mergedInto(closedTicket("8"))}, decision{step: stepFollow}, ""},
		"merged into a closed one, SKIP":   {[]func(*facts){closed, mergedInto(closedTicket("8"))}, decision{step: stepGiveUp, end: endDone, reached: true}, store.ReasonInvalidRequest},
		"merged in a circle":               {[]func(*facts){closed, mergedInto(openTicket("8")), func(f *facts) { f.activity.MergedFrom = []string{"8"} }}, decision{step: stepGiveUp, end: endDone, reached: true}, store.ReasonInvalidRequest},
		"merged too often": {[]func(*facts){closed, follows, mergedInto(openTicket("8")), func(f *facts) { f.activity.MergedFrom = []string{"1", "2", "3", "4", "5"} }},
			decision{step: stepFollow}, ""},
		"followed up by an earlier one": {[]func(*facts){closed, follows, mergedInto(nil), func(f *facts) {
			f.earlier = store.Activity{State: store.ActivityWritten, FollowUpOf: "7", TicketID: "9"}
		}}, decision{step: stepJoin, end: endDone, reached: true}, ""},
		"followed up by one that joined it": {[]func(*facts){closed, follows, mergedInto(nil), func(f *facts) {
			f.earlier = store.Activity{State: store.ActivityPending, FollowUpOf: "7", TicketID: "9"}
		}}, decision{step: stepJoin, end: endDone, reached: true}, ""},
		"followed up in another Zendesk": {[]func(*facts){closed, follows, mergedInto(nil), func(f *facts) {
			f.earlier = store.Activity{State: store.ActivityWritten, FollowUpOf: "7", TicketID: "9", Account: store.AccountUse{URL: "https://other.zendesk.com"}}
		}}, decision{step: stepFollow}, ""},
		"status refused, and open": {[]func(*facts){follows, func(f *facts) { f.closing = new(store.NewFailure(store.ReasonInvalidRequest, "x")) }},
			decision{step: stepGiveUp, end: endDone, reached: true}, store.ReasonInvalidRequest},
		"status refused, and closed": {[]func(*facts){closed, follows, mergedInto(nil), func(f *facts) { f.closing = new(store.NewFailure(store.ReasonInvalidRequest, "x")) }},
			decision{step: stepFollow}, ""},

		"no such ticket":      {[]func(*facts){refusedAs(&zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "RecordNotFound"})}, decision{step: stepGiveUp, end: endDone, reached: true}, store.ReasonNotFound},
		"no such help desk":   {[]func(*facts){refusedAs(&zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "No help desk at x"})}, decision{step: stepEnd, end: endFailed, class: classAccount}, store.ReasonNotFound},
		"throttled":           {[]func(*facts){refusedAs(&zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429, RetryAfter: time.Minute})}, decision{step: stepEnd, end: endFailed, class: classAccount, asked: time.Minute}, store.ReasonRateLimited},
		"forbidden":           {[]func(*facts){refusedAs(&zendeskapi.Error{Kind: zendeskapi.AccessDenied, StatusCode: 403})}, decision{step: stepEnd, end: endFailed, class: classDoubt}, store.ReasonAccessDenied},
		"the account is gone": {[]func(*facts){refusedAs(&zendeskapi.Error{Kind: zendeskapi.AccessDenied}), func(f *facts) { f.accountGone = true }}, decision{step: stepGiveUp, end: endDone}, store.ReasonAccountNotFound},
		"no error of Zendesk": {[]func(*facts){func(f *facts) { f.failed, f.err = stepRead, errors.New("disk full") }}, decision{step: stepEnd, end: endFailed}, store.ReasonUnavailable},
		"fields, throttled": {[]func(*facts){func(f *facts) {
			f.failed, f.err = stepFields, &zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429, RetryAfter: time.Hour}
		}},
			decision{step: stepEnd, end: endFailed, asked: maxFieldsWait, waits: 1}, store.ReasonRateLimited},
		"fields, credential": {[]func(*facts){func(f *facts) {
			f.failed, f.err = stepFields, &zendeskapi.Error{Kind: zendeskapi.CredentialsRejected, StatusCode: 401}
		}},
			decision{step: stepEnd, end: endFailed, class: classAccount}, store.ReasonCredentialsRejected},
	} {
		t.Run(name, func(t *testing.T) {
			f := appending(test.change...)
			got := decide(f)
			var reason store.FailureReason
			if got.failure != nil {
				reason, got.failure = got.failure.Reason, nil
			}
			if got != test.want || reason != test.reason {
				t.Errorf("decided %+v %q, want %+v %q", got, reason, test.want, test.reason)
			}
			if again := decide(f); again.step != got.step || again.ticket != got.ticket {
				t.Errorf("decided %+v the second time", again)
			}
		})
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
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: []string{"127.0.0.1:*"}})
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

func refusal(fields ...zendeskapi.FieldError) *zendeskapi.Error {
	return &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 422, Code: "RecordInvalid", Detail: "Record validation errors", Fields: fields}
}

// filling are facts by which two custom fields are filled, and a person is the requester of a ticket that is made.
func filling(f *facts) {
	f.definitions = []zendeskapi.TicketField{{ID: "1", Title: "Mood"}, {ID: "2", Title: "Score"}, {ID: "3", Title: "Outcome"}}
	f.content = &compose.Update{Comment: "it was", Filled: []compose.Filled{{Field: &f.definitions[0], Value: "good"}, {Field: &f.definitions[1], Value: "5"}}}
	f.activity.Details.Requester = store.Requester{Name: "Ann", Email: "ann@example.com"}
}

func TestRefusedPartsAreLeftOut(t *testing.T) {
	const why = "Zendesk refused it"
	plain := "Zendesk refused the ticket's fields as they were"
	field := func(name string) zendeskapi.FieldError { return zendeskapi.FieldError{Field: name} }
	for name, test := range map[string]struct {
		step   step
		change func(*facts)
		err    *zendeskapi.Error
		want   compose.Left
		dead   bool
	}{
		"one field":                          {stepAppend, nil, refusal(field("custom_fields.1")), compose.Left{Fields: map[string]string{"1": why}}, false},
		"two fields":                         {stepAppend, nil, refusal(field("custom_fields.1"), field("custom_field_2")), compose.Left{Fields: map[string]string{"1": why, "2": why}}, false},
		"a field beside":                     {stepAppend, nil, refusal(zendeskapi.FieldError{Field: "base", TicketField: "2"}), compose.Left{Fields: map[string]string{"2": why}}, false},
		"a field by title":                   {stepAppend, nil, refusal(zendeskapi.FieldError{Field: "base", Description: "Mood: ist zu lang"}), compose.Left{Fields: map[string]string{"1": why + ": Mood: ist zu lang"}}, false},
		"nothing named":                      {stepAppend, nil, refusal(), compose.Left{All: plain}, false},
		"base":                               {stepAppend, nil, refusal(field("base")), compose.Left{All: plain}, false},
		"assignee":                           {stepAppend, nil, refusal(field("assignee")), compose.Left{All: plain}, false},
		"nothing named, bad":                 {stepAppend, nil, &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 400}, compose.Left{All: plain}, false},
		"nothing named, no fields":           {stepAppend, func(f *facts) { f.content = &compose.Update{} }, refusal(), compose.Left{}, true},
		"again, without fields":              {stepAppend, func(f *facts) { f.left.All, f.content = plain, &compose.Update{} }, refusal(field("base")), compose.Left{All: plain}, true},
		"a required field that was not sent": {stepAppend, nil, refusal(zendeskapi.FieldError{Field: "base", TicketField: "3", Code: "BlankValue"}), compose.Left{}, true},
		"the same, by title":                 {stepAppend, nil, refusal(zendeskapi.FieldError{Field: "base", Description: "Outcome: is required"}), compose.Left{}, true},
		"sent and not sent":                  {stepAppend, nil, refusal(zendeskapi.FieldError{Field: "base", TicketField: "3"}, field("custom_fields.1")), compose.Left{Fields: map[string]string{"1": why}}, false},
		"person":                             {stepCreate, nil, refusal(field("requester")), compose.Left{Requester: why, NoRequester: true}, false},
		"person by id": {stepCreate, func(f *facts) { f.activity.RequesterID = "77" }, refusal(field("requester_id")),
			compose.Left{Requester: why, RequesterID: "77"}, false},
		"person by id, then by address": {stepCreate, func(f *facts) { f.activity.RequesterID, f.left = "77", compose.Left{Requester: why, RequesterID: "77"} },
			refusal(field("requester")), compose.Left{Requester: why, RequesterID: "77", NoRequester: true}, false},
		"person and field": {stepCreate, nil, refusal(field("requester"), field("custom_fields.2")),
			compose.Left{Requester: why, NoRequester: true, Fields: map[string]string{"2": why}}, false},
		"nobody was the requester":    {stepCreate, func(f *facts) { f.activity.Details.Requester, f.content = store.Requester{}, &compose.Update{} }, refusal(field("requester")), compose.Left{}, true},
		"requester of an open ticket": {stepAppend, func(f *facts) { f.content = &compose.Update{} }, refusal(field("requester")), compose.Left{}, true},
		"too many rounds":             {stepAppend, func(f *facts) { f.rounds = maxRounds }, refusal(field("custom_fields.1")), compose.Left{Fields: map[string]string{"1": why}, All: plain}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := appending(filling, func(f *facts) { f.activity.Begun = []store.BegunWrite{{ID: "now", TicketID: "7"}} })
			if test.change != nil {
				test.change(f)
			}
			before := *f
			got := f.learn(test.step, test.err)
			if diff := cmp.Diff(before.left, f.left); diff != "" || f.content != before.content {
				t.Errorf("learning changed what was known: %s", diff)
			}
			if diff := cmp.Diff(test.want, got.left); diff != "" || !got.refused {
				t.Errorf("left out (-want +got):\n%s", diff)
			}
			d := decide(&got)
			if isDead := d.step == stepGiveUp; isDead != test.dead {
				t.Errorf("decided %+v", d)
			}
			if !test.dead && (got.content != nil || d.step != stepCompose) {
				t.Errorf("decided %+v, want what is left composed", d)
			}
		})
	}
	f := appending(filling)
	got := f.learn(stepAppend, refusal(zendeskapi.FieldError{Field: "base", TicketField: "3", Code: "BlankValue"}))
	d := decide(&got)
	mustEqual(t, "message", d.failure.Message, `the request is not valid: Record validation errors; it means field "Outcome" (3)`)
}

// What a write's error says of whether it took effect, and what is done next.
func TestOutcomeOfAWrite(t *testing.T) {
	unknown := unknownError(t)
	for name, test := range map[string]struct {
		step  step
		err   error
		open  bool // it may have taken effect
		after step
	}{
		"unknown":                  {stepAppend, unknown, true, stepEnd},
		"throttled":                {stepAppend, &zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429}, false, stepEnd},
		"refused credential":       {stepAppend, &zendeskapi.Error{Kind: zendeskapi.CredentialsRejected, StatusCode: 401}, false, stepEnd},
		"changed meanwhile":        {stepAppend, &zendeskapi.Error{Kind: zendeskapi.Conflict, StatusCode: 409}, true, stepRead},
		"creation in two bodies":   {stepCreate, &zendeskapi.Error{Kind: zendeskapi.InvalidRequest, StatusCode: 400, Code: idempotencyError}, true, stepEnd},
		"creation changed":         {stepCreate, &zendeskapi.Error{Kind: zendeskapi.Conflict, StatusCode: 409}, true, stepEnd},
		"status":                   {stepAppend, refusal(zendeskapi.FieldError{Field: "status"}), false, stepRead},
		"gone":                     {stepAppend, &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "RecordNotFound"}, false, stepGiveUp},
		"no error of Zendesk's":    {stepAppend, errors.New("disk full"), true, stepEnd},
		"an unknown one, creation": {stepCreate, unknown, true, stepEnd},
	} {
		t.Run(name, func(t *testing.T) {
			ticket := map[step]string{stepAppend: "7", stepCreate: ""}[test.step]
			f := appending(looked(ticket), func(f *facts) {
				f.activity.TicketID, f.activity.Begun = ticket, []store.BegunWrite{{ID: "now", TicketID: ticket}}
			})
			got := f.learn(test.step, test.err)
			if got.open(ticket) != test.open || len(got.begunAfter(got.activity.Begun)) != map[bool]int{true: 1}[test.open] {
				t.Errorf("may have taken effect: %t, kept %v", got.open(ticket), got.begunAfter(got.activity.Begun))
			}
			if d := decide(&got); d.step != test.after {
				t.Errorf("decided %+v", d)
			}
			if _, api := errors.AsType[*zendeskapi.Error](test.err); api && got.looked[ticket] {
				t.Error("the next write is not looked for")
			}
			// One of before is never taken away by the refusal of this one, nor one of another try.
			f.activity.Begun = []store.BegunWrite{{ID: "now", TicketID: ticket, Earlier: true}, {ID: "other", TicketID: "9"}}
			got = f.learn(test.step, test.err)
			mustEqual(t, "kept", len(got.begunAfter(got.activity.Begun)), 2)
		})
	}
	// Conflicts come to an end.
	f := *appending(func(f *facts) { f.activity.Begun = []store.BegunWrite{{ID: "now", TicketID: "7"}} })
	for range maxConflicts {
		f = f.learn(stepAppend, &zendeskapi.Error{Kind: zendeskapi.Conflict})
		mustEqual(t, "step after a conflict", decide(&f).step, stepRead)
		f.ticket = openTicket("7")
		mustEqual(t, "step then", decide(&f).step, stepLook)
	}
	f = f.learn(stepAppend, &zendeskapi.Error{Kind: zendeskapi.Conflict})
	mustEqual(t, "step after too many", decide(&f).step, stepEnd)
	mustEqual(t, "class", decide(&f).class, classTicket)
}

func TestBeginsAreKeptApart(t *testing.T) {
	first := store.BegunWrite{ID: "1", TicketID: "7", Time: testTime, Since: testTime}
	second := store.BegunWrite{ID: "2", TicketID: "7", Time: testTime.Add(time.Hour), Since: testTime.Add(time.Hour)}
	elsewhere := store.BegunWrite{ID: "2", TicketID: "8"}
	begun := begin(nil, first)
	mustEqual(t, "first", begun, []store.BegunWrite{first})
	mustEqual(t, "again", begin(begun, first), []store.BegunWrite{first})
	both := begin(begin(begun, second), elsewhere)
	mustEqual(t, "second", both, []store.BegunWrite{{ID: "2", TicketID: "7", Time: second.Time, Since: first.Since, Earlier: true}, elsewhere})
	mustEqual(t, "what was before", begun, []store.BegunWrite{first})
}

func TestFieldsThatCannotBeRead(t *testing.T) {
	for name, test := range map[string]struct {
		err   *zendeskapi.Error
		waits bool // at first
		holds bool // the account
	}{
		"403":                {&zendeskapi.Error{Kind: zendeskapi.AccessDenied, StatusCode: 403}, false, false},
		"404":                {&zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404}, false, false},
		"422":                {refusal(), false, false},
		"429":                {&zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429}, true, false},
		"500":                {&zendeskapi.Error{Kind: zendeskapi.Unavailable, StatusCode: 500}, true, false},
		"time-out":           {&zendeskapi.Error{Kind: zendeskapi.Timeout}, true, false},
		"unreadable":         {&zendeskapi.Error{Kind: zendeskapi.BadResponse, StatusCode: 200}, true, false},
		"refused credential": {&zendeskapi.Error{Kind: zendeskapi.CredentialsRejected, StatusCode: 401}, false, true},
		"no network":         {&zendeskapi.Error{Kind: zendeskapi.Unavailable}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			for waits := range 2 {
				f := appending(func(f *facts) {
					f.activity.AttachedData, f.activity.FieldWaits, f.content = map[string]string{"a": "b"}, waits, nil
				})
				got := f.learn(stepFields, test.err)
				d := decide(&got)
				switch {
				case test.holds:
					mustEqual(t, "class", d.class, classAccount)
				case test.waits && waits == 0:
					if d.end != endFailed || d.class != classNone || d.waits != 1 || d.asked < fieldsWait {
						t.Errorf("decided %+v", d)
					}
				case d.step != stepCompose || got.fieldless == "":
					t.Errorf("decided %+v, want it composed without fields", d)
				}
			}
		})
	}
}

func TestHelpDecidesNothing(t *testing.T) {
	for _, api := range []*zendeskapi.Error{{Kind: zendeskapi.AccessDenied, StatusCode: 403}, {Kind: zendeskapi.NotFound, StatusCode: 404, Code: "RecordNotFound"}} {
		f := appending(closed, follows)
		got := f.learn(stepMerge, api)
		mustEqual(t, "step when the comments are hidden", decide(&got).step, stepFollow)
	}
	// A ticket that is gone has nothing that was begun on it.
	f := appending(begun("6"))
	got := f.learn(stepLook, &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "RecordNotFound"})
	mustEqual(t, "step when the ticket before is gone", decide(&got).step, stepAppend)
}

func TestRetryTime(t *testing.T) {
	a := &store.Activity{TicketID: "7"}
	mustEqual(t, "nothing begun", RetryTime(a, testTime), time.Time{})
	for name, test := range map[string]struct {
		ticket string
		at     time.Time
		want   time.Time
	}{
		"elsewhere, just now":                {"6", testTime, testTime.Add(lateness)},
		"elsewhere, a moment ago":            {"6", testTime.Add(-lateness / 3), testTime.Add(lateness * 2 / 3)},
		"elsewhere, long ago":                {"6", testTime.Add(-time.Hour), time.Time{}},
		"elsewhere, by a clock that was off": {"6", testTime.Add(time.Hour), testTime.Add(lateness)},
		"there, just now":                    {"7", testTime, time.Time{}},
	} {
		a.Begun = []store.BegunWrite{{TicketID: test.ticket, Time: test.at}}
		mustEqual(t, name, RetryTime(a, testTime), test.want)
	}
}

func TestIdempotencyKey(t *testing.T) {
	keys := map[string]string{}
	for name, left := range map[string]compose.Left{
		"whole": {}, "a field": {Fields: map[string]string{"1": "x"}}, "another field": {Fields: map[string]string{"2": "x"}},
		"no fields": {All: "x"}, "no person": {NoRequester: true, Requester: "x"}, "no user": {RequesterID: "1", Requester: "x"},
	} {
		key := idempotencyKey("mark", left)
		if other, ok := keys[key]; ok {
			t.Errorf("%s has the key of %s", name, other)
		}
		keys[key] = name
	}
	mustEqual(t, "the whole one's", keys["mark"], "whole")
	// The words of a refusal are not the body.
	mustEqual(t, "key", idempotencyKey("mark", compose.Left{All: "y"}), idempotencyKey("mark", compose.Left{All: "x"}))
}

func TestNewestUnsolved(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	// of is a ticket that changed some time before Zendesk's clock.
	of := func(id, status string, ago time.Duration) zendeskapi.Ticket {
		return zendeskapi.Ticket{ID: id, Status: status, RequesterID: "77", UpdatedAt: testTime.Add(-ago), ReadAt: testTime}
	}
	stranger, timeless := of("9", "open", 0), of("9", "open", 0)
	stranger.RequesterID, timeless.UpdatedAt = "78", time.Time{}
	for name, test := range map[string]struct {
		tickets []zendeskapi.Ticket
		want    string
	}{
		"none":                           {nil, ""},
		"one":                            {[]zendeskapi.Ticket{of("7", "open", hour)}, "7"},
		"the newest, whatever the order": {[]zendeskapi.Ticket{of("7", "open", 2*hour), of("8", "pending", hour), of("9", "hold", 3*hour)}, "8"},
		"solved and closed":              {[]zendeskapi.Ticket{of("9", "solved", 0), of("8", "closed", 0), of("6", "deleted", 0), of("5", "", 0), of("7", "new", hour)}, "7"},
		"only solved":                    {[]zendeskapi.Ticket{of("9", "solved", 0)}, ""},
		"a status that is new to us":     {[]zendeskapi.Ticket{of("7", "waiting", hour)}, "7"},
		"just young enough":              {[]zendeskapi.Ticket{of("7", "open", day)}, "7"},
		"just too old":                   {[]zendeskapi.Ticket{of("7", "open", day+time.Second)}, ""},
		"from beyond the clock":          {[]zendeskapi.Ticket{of("7", "open", -hour)}, "7"},
		"a stranger's":                   {[]zendeskapi.Ticket{stranger, of("7", "open", hour)}, "7"},
		"without a time":                 {[]zendeskapi.Ticket{timeless}, ""},
		"in the same second":             {[]zendeskapi.Ticket{of("98", "open", hour), of("101", "open", hour), of("100", "open", hour)}, "101"},
	} {
		got, ok := newestUnsolved(test.tickets, "77", day)
		if got != test.want || ok != (test.want != "") {
			t.Errorf("%s: chosen %q, %t, want %q", name, got, ok, test.want)
		}
	}
}

// Who cannot be found, or may not be looked for, has no tickets: one is made, and Zendesk finds the person itself.
func TestUnknownRequester(t *testing.T) {
	missing := &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "RecordNotFound"}
	forbidden := &zendeskapi.Error{Kind: zendeskapi.AccessDenied, StatusCode: 403}
	for name, test := range map[string]struct {
		failed step
		err    error
		want   step
	}{
		"no such user":               {stepTickets, missing, stepNone},
		"no address":                 {stepPerson, &zendeskapi.Error{Kind: zendeskapi.InvalidRequest}, stepNone},
		"list refused as it was":     {stepTickets, refusal(), stepNone},
		"people are not to be seen":  {stepPerson, forbidden, stepNone},
		"tickets are not to be seen": {stepTickets, forbidden, stepEnd},
		"no help desk":               {stepTickets, &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "No help desk at x"}, stepEnd},
		"failing server":             {stepPerson, &zendeskapi.Error{Kind: zendeskapi.Unavailable, StatusCode: 503}, stepEnd},
	} {
		f := appending(choosing)
		got := f.learn(test.failed, test.err)
		if d := decide(&got); d.step != test.want {
			t.Errorf("%s: decided %+v", name, d)
		}
	}
}
