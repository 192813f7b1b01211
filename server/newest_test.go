package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	newestRule  = zendeskv1.TicketRule_TICKET_RULE_NEWEST_UNSOLVED
	createdRule = zendeskv1.TicketRule_TICKET_RULE_CREATED
)

// newest asks for the newest unsolved ticket.
func newest(req *zendeskv1.CompleteInteractionRequest) {
	req.IfNoTicket = zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED
}

// newestOf is newest for a person.
func newestOf(email string) func(*zendeskv1.CompleteInteractionRequest) {
	return func(req *zendeskv1.CompleteInteractionRequest) {
		newest(req)
		req.Details = &zendeskv1.ActivityDetails{Requester: &zendeskv1.Requester{Name: "Somebody", Email: email}}
	}
}

// change changes something in the fake Zendesk itself, and has time pass, so that stamps tell the order.
func (s *activityServer) change(t testing.TB, method, path, body string) (id string) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
	req.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	s.zendesk.ServeHTTP(recorder, req)
	if recorder.Code/100 != 2 {
		t.Fatalf("%s %s: status %d: %s", method, path, recorder.Code, recorder.Body)
	}
	var answer map[string]json.RawMessage
	must(t, json.Unmarshal(recorder.Body.Bytes(), &answer))
	var record struct{ ID json.Number }
	for _, name := range []string{"ticket", "user"} {
		if raw, ok := answer[name]; ok {
			must(t, json.Unmarshal(raw, &record))
		}
	}
	s.clock.advance(5 * time.Second)
	return record.ID.String()
}

// touch makes a ticket the one that changed last.
func (s *activityServer) touch(t testing.TB, ticket string) {
	t.Helper()
	s.change(t, http.MethodPut, ticketsPath+"/"+ticket, `{"ticket":{"priority":"low"}}`)
}

// monthLater has 31 days pass, in which the credential is used: Zendesk forgets those that are not.
func monthLater(t *testing.T, s *activityServer) {
	s.clock.advance(16 * 24 * time.Hour)
	s.ticket(t, openTickets[0])
	s.clock.advance(15 * 24 * time.Hour)
}

// newTicketOf makes an open ticket of a person.
func (s *activityServer) newTicketOf(t testing.TB, requester int64) (id string) {
	t.Helper()
	return s.change(t, http.MethodPost, ticketsPath, fmt.Sprintf(`{"ticket":{"status":"open","requester_id":%d,"comment":{"body":"x","public":false}}}`, requester))
}

func TestNewestUnsolvedIsChosen(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before func(*testing.T, *activityServer)
		change func(*zendeskv1.CompleteInteractionRequest)
		rule   zendeskv1.TicketRule // in the reply
		want   string               // ticket; empty: one that is created
		asks   int64                // its requester
	}{
		"requester popped": {
			before: func(t *testing.T, s *activityServer) { s.pop(t, toUser("call-1", zendesktest.Caller.ID)) },
			change: newestOf(zendesktest.EndUser.Email), rule: newestRule, want: openTickets[0], asks: zendesktest.Caller.ID,
		},
		"requester is the current record": {
			before: func(t *testing.T, s *activityServer) { s.search(t, "call-1", callerQuery) },
			change: newest, rule: newestRule, want: openTickets[0], asks: zendesktest.Caller.ID,
		},
		"requester told": {change: newestOf("MARIA.lopez@example.com"), rule: newestRule, want: openTickets[0], asks: zendesktest.Caller.ID},
		"a ticket popped": {
			before: func(t *testing.T, s *activityServer) { s.pop(t, toTicket("call-1", openTickets[1])) },
			change: newest, rule: zendeskv1.TicketRule_TICKET_RULE_POPPED, want: openTickets[1], asks: zendesktest.Caller.ID,
		},
		"the newest is solved": {
			before: func(t *testing.T, s *activityServer) {
				s.change(t, http.MethodPut, ticketsPath+"/"+openTickets[0], `{"ticket":{"status":"solved"}}`)
			},
			change: newestOf(zendesktest.Caller.Email), rule: newestRule, want: openTickets[1], asks: zendesktest.Caller.ID,
		},
		"all too old": {
			before: monthLater,
			change: newestOf(zendesktest.Caller.Email), rule: newestRule, asks: zendesktest.Caller.ID,
		},
		"old, and wanted": {
			before: monthLater,
			change: func(req *zendeskv1.CompleteInteractionRequest) {
				newestOf(zendesktest.Caller.Email)(req)
				req.MaxTicketAge = durationpb.New(60 * 24 * time.Hour)
			},
			rule: newestRule, want: openTickets[0], asks: zendesktest.Caller.ID,
		},
		"too old by Zendesk's clock alone": {
			before: func(_ *testing.T, s *activityServer) { s.zendesk.SetSkew(2 * time.Hour) },
			change: func(req *zendeskv1.CompleteInteractionRequest) {
				newestOf(zendesktest.Caller.Email)(req)
				req.MaxTicketAge = durationpb.New(time.Hour)
			},
			rule: newestRule, asks: zendesktest.Caller.ID,
		},
		"nobody has the address": {change: newestOf("nobody@example.com"), rule: newestRule},
		"no address":             {change: newestOf("nobody"), rule: createdRule, asks: zendesktest.Admin.ID},
		"nobody told":            {change: newest, rule: createdRule, asks: zendesktest.Admin.ID},
		"people are not to be looked for": {
			before: func(_ *testing.T, s *activityServer) {
				s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/users/search", Status: 403})
			},
			change: newestOf(zendesktest.Caller.Email), rule: newestRule, asks: zendesktest.Caller.ID,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			s.touch(t, openTickets[1])
			s.touch(t, openTickets[0])
			if tt.before != nil {
				tt.before(t, s)
			}
			made := s.asked(http.MethodPost, ticketsPath)
			a := s.complete(t, "call-1", "", tt.change)
			want := ""
			if tt.rule == zendeskv1.TicketRule_TICKET_RULE_POPPED {
				want = tt.want
			}
			if a.GetState() != pending || a.GetTicketRule() != tt.rule || a.GetTicketId() != want {
				t.Errorf("completed activity is %v", a)
			}
			a = s.awaitState(t, a.GetActivityId(), written)
			rule := tt.rule
			if tt.want == "" {
				rule = createdRule
			} else {
				mustEqual(t, "ticket", a.GetTicketId(), tt.want)
			}
			mustEqual(t, "rule in the end", a.GetTicketRule(), rule)
			mustEqual(t, "interactions", s.interactionsOf(t, a.GetTicketId()), []string{"call-1"})
			if got := s.ticket(t, a.GetTicketId()).RequesterID; tt.asks != 0 && got != tt.asks {
				t.Errorf("requester is %d, want %d", got, tt.asks)
			}
			if n := s.asked(http.MethodPost, ticketsPath) - made; (n == 1) != (tt.want == "") || n > 1 {
				t.Errorf("%d tickets were made", n)
			}
			if n := s.asked(http.MethodGet, searchPath); n > 1 {
				t.Errorf("the search index, which lags, was asked %d times", n)
			}
			// A repeat of the completion has the same answer, although the ticket is chosen by now.
			again := s.complete(t, "call-1", "", tt.change)
			mustEqual(t, "the same again", again.GetActivityId(), a.GetActivityId())
		})
	}
}

func TestMaxTicketAge(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	for _, tt := range []struct {
		choice zendeskv1.IfNoTicket
		age    *durationpb.Duration
		ok     bool
	}{
		{zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED, durationpb.New(time.Minute), true},
		{zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED, durationpb.New(24_000 * time.Hour), true},
		{zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED, durationpb.New(time.Minute - 1), false},
		{zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED, durationpb.New(24_000*time.Hour + 1), false},
		{zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED, &durationpb.Duration{Seconds: 60, Nanos: -1}, false},
		{zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED, &durationpb.Duration{}, false},
		{zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE, durationpb.New(time.Hour), false},
		{zendeskv1.IfNoTicket_IF_NO_TICKET_UNSPECIFIED, durationpb.New(time.Hour), false},
	} {
		req := &zendeskv1.CompleteInteractionRequest{InteractionId: fmt.Sprint("call-", tt.age, tt.choice), IfNoTicket: tt.choice, MaxTicketAge: tt.age}
		req.InteractionId = strings.ReplaceAll(req.InteractionId, " ", "")
		_, err := s.interactions.CompleteInteraction(t.Context(), req)
		if tt.ok {
			must(t, err)
			continue
		}
		mustViolate(t, err, "max_ticket_age")
	}
}

// The choice is stored before it is written to: whatever happens then, it stays.
func TestChoiceOutlivesACrash(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]zendesktest.Fault{
		"before the write":       {Status: http.StatusBadGateway},
		"the write is refused":   {Status: http.StatusTooManyRequests, RetryAfter: "60"},
		"the answer is lost":     {Drop: zendesktest.DropAfter},
		"the write lands late":   {Drop: zendesktest.DropBefore, Act: zendesktest.ActAfter},
		"the answer is an error": {Status: http.StatusInternalServerError, Act: zendesktest.ActBefore},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			s.touch(t, openTickets[0])
			fault.Method, fault.PathPrefix = http.MethodPut, ticketsPath
			s.zendesk.AddFault(fault)
			a := s.complete(t, "call-1", "", newestOf(zendesktest.Caller.Email))
			a = s.await(t, a.GetActivityId(), func(a *zendeskv1.Activity) bool { return a.GetTicketId() != "" && a.GetAttempts() > 0 })
			if a.GetState() != pending || a.GetTicketId() != openTickets[0] || a.GetTicketRule() != newestRule {
				t.Fatalf("activity is %v", a)
			}
			s.zendesk.ClearFaults()
			s.touch(t, openTickets[1]) // another one is the newest by now
			s.restart(t)
			s.zendesk.Land()
			a = s.awaitThroughTries(t, a.GetActivityId())
			s.zendesk.Land()
			if a.GetState() != written || a.GetTicketId() != openTickets[0] {
				t.Errorf("activity is %v", a)
			}
			mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1"})
			mustEqual(t, "interactions elsewhere", s.interactionsOf(t, openTickets[1]), []string(nil))
		})
	}
}

// A creation whose answer was lost is looked for, and no ticket is chosen instead.
func TestLostCreationIsNotChosenAgain(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPost, PathPrefix: ticketsPath, Drop: zendesktest.DropAfter})
	a := s.complete(t, "call-1", "", newestOf(zendesktest.EndUser.Email), func(r *zendeskv1.CompleteInteractionRequest) { r.MaxTicketAge = durationpb.New(time.Minute) })
	s.await(t, a.GetActivityId(), func(a *zendeskv1.Activity) bool { return a.GetTicketRule() == createdRule && a.GetAttempts() > 0 })
	s.zendesk.ClearFaults()
	s.restart(t)
	other := s.newTicketOf(t, zendesktest.EndUser.ID)
	a = s.awaitThroughTries(t, a.GetActivityId())
	if a.GetState() != written || a.GetTicketId() == other {
		t.Errorf("activity is %v", a)
	}
	mustEqual(t, "interactions", s.interactionsOf(t, a.GetTicketId()), []string{"call-1"})
}

// Several histories of a person who has no ticket make one.
func TestNewestUnsolvedMakesOneTicket(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/users/", Status: http.StatusTooManyRequests, RetryAfter: "60"})
	var ids, want []string
	for i := range 5 {
		interaction := fmt.Sprint("call-", i)
		ids, want = append(ids, s.complete(t, interaction, "", newestOf("new.person@example.com")).GetActivityId()), append(want, interaction)
	}
	a := s.awaitTries(t, ids[0], 1)
	if a.GetBlockedBy() != zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED || a.GetTicketId() != "" || a.GetTicketRule() != newestRule {
		t.Errorf("throttled activity is %v", a)
	}
	s.zendesk.ClearFaults()
	s.restart(t)
	s.advance(t, longEnough)
	var ticket string
	for i, id := range ids {
		a := s.awaitState(t, id, written)
		if i == 0 {
			ticket = a.GetTicketId()
			mustEqual(t, "rule of the first", a.GetTicketRule(), createdRule)
			continue
		}
		if a.GetTicketId() != ticket || a.GetTicketRule() != newestRule {
			t.Errorf("activity %d is %v", i, a)
		}
	}
	mustEqual(t, "interactions", s.interactionsOf(t, ticket), want)
}

// A ticket that is chosen late keeps its order: what waits for it already comes first, and what comes later goes behind.
func TestChosenTicketKeepsItsOrder(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.touch(t, openTickets[0])
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath + "/" + openTickets[0], Status: http.StatusBadGateway})
	first := s.complete(t, "call-1", openTickets[0])
	s.awaitTries(t, first.GetActivityId(), 1)
	chosen := s.complete(t, "call-2", "", newestOf(zendesktest.Caller.Email))
	s.await(t, chosen.GetActivityId(), func(a *zendeskv1.Activity) bool { return a.GetTicketId() == openTickets[0] })
	last := s.complete(t, "call-3", openTickets[0])
	s.zendesk.ClearFaults()
	s.advance(t, longEnough)
	for _, a := range []*zendeskv1.Activity{first, chosen, last} {
		mustEqual(t, "state", s.awaitThroughTries(t, a.GetActivityId()).GetState(), written)
	}
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1", "call-2", "call-3"})
}

// What happens to the chosen ticket before it is written to is as with any other.
func TestChosenTicketIsMergedOrClosed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		meanwhile func(*testing.T, *activityServer)
		rule      zendeskv1.TicketRule
	}{
		"merged": {func(t *testing.T, s *activityServer) {
			must(t, s.zendesk.Merge(zendesktest.CallerTickets[2], zendesktest.CallerTickets[1]))
		}, zendeskv1.TicketRule_TICKET_RULE_MERGED},
		"closed": {func(t *testing.T, s *activityServer) {
			s.change(t, http.MethodPut, ticketsPath+"/"+openTickets[0], `{"ticket":{"status":"closed"}}`)
		}, zendeskv1.TicketRule_TICKET_RULE_FOLLOW_UP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			s.touch(t, openTickets[0])
			s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Status: http.StatusBadGateway})
			a := s.complete(t, "call-1", "", newestOf(zendesktest.Caller.Email))
			s.await(t, a.GetActivityId(), func(a *zendeskv1.Activity) bool { return a.GetTicketId() == openTickets[0] && a.GetAttempts() > 0 })
			s.zendesk.ClearFaults()
			tt.meanwhile(t, s)
			s.advance(t, longEnough)
			a = s.awaitThroughTries(t, a.GetActivityId())
			if a.GetState() != written || a.GetTicketRule() != tt.rule || a.GetTicketId() == openTickets[0] {
				t.Errorf("activity is %v", a)
			}
		})
	}
}

// A requester whom Zendesk has suspended still has tickets; where there is none, one is made without the person.
func TestSuspendedRequester(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	user := s.change(t, http.MethodPost, "/api/v2/users", `{"user":{"name":"Sue","email":"sue@example.com","role":"end-user"}}`)
	suspend := func(suspended bool) {
		s.change(t, http.MethodPut, "/api/v2/users/"+user, fmt.Sprintf(`{"user":{"suspended":%t}}`, suspended))
	}
	suspend(true)
	a := s.awaitState(t, s.complete(t, "call-1", "", newestOf("sue@example.com")).GetActivityId(), written)
	if r := a.GetRejectedFields(); len(r) != 1 || r[0].GetKey() != "requester" || a.GetTicketRule() != createdRule {
		t.Errorf("activity is %v", a)
	}
	suspend(false)
	ticket := s.change(t, http.MethodPost, ticketsPath, fmt.Sprintf(`{"ticket":{"status":"open","requester_id":%s,"comment":{"body":"x","public":false}}}`, user))
	suspend(true)
	a = s.awaitState(t, s.complete(t, "call-2", "", newestOf("sue@example.com")).GetActivityId(), written)
	mustEqual(t, "ticket", a.GetTicketId(), ticket)
	if !slices.Equal(s.interactionsOf(t, ticket), []string{"call-2"}) {
		t.Errorf("interactions are %q", s.interactionsOf(t, ticket))
	}
}
