package server

import (
	"fmt"
	"sync"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func createTicket() *zendeskv1.ScreenPopRequest {
	req := popRequest(&zendeskv1.CreateTicket{RequesterId: "$(WHO)", Subject: "Call of $(NAME)", Comment: "$(NAME) called", Tags: []string{"call", "$(TAG)"}})
	req.Variables = map[string]string{"WHO": fmt.Sprint(zendesktest.Caller.ID), "NAME": "Ann", "TAG": "vip"}
	return req
}

// An interaction's ticket is made once, and popped by each pop of this kind, whatever it asks for.
func TestScreenPopCreatesATicket(t *testing.T) {
	s := newBlockServer(t)
	first := s.pop(t, createTicket())
	mustExit(t, first, next)
	mustUse(t, first, "main", byDefault)
	pop := first.GetScreenPop()
	if pop.GetRecordType() != ticketType || pop.GetUrl() != s.zendesk.Origin()+"/agent/tickets/"+pop.GetRecordId() || first.GetVariables()[resultCode] != "201" {
		t.Errorf("answer is %v", first)
	}
	ticket := s.read(t, "tickets/"+pop.GetRecordId())["ticket"].(map[string]any)
	comment := s.read(t, "tickets/"+pop.GetRecordId()+"/comments")["comments"].([]any)[0].(map[string]any)
	if ticket["subject"] != "Call of Ann" || comment["body"] != "Ann called" || comment["public"] != false || len(ticket["tags"].([]any)) != 2 {
		t.Errorf("the ticket is %v, its comment %v", ticket, comment)
	}
	s.restart(t)
	other := popRequest(&zendeskv1.CreateTicket{Comment: "another"})
	for range 2 {
		again := s.pop(t, other)
		mustExit(t, again, next)
		mustEqual(t, "pop", again.GetScreenPop(), pop)
		other.RequestId = "r"
	}
	if n := s.writesTo("POST", "tickets"); n != 1 || len(s.interaction(t, "one").GetScreenPops()) != 1 {
		t.Errorf("%d tickets are made, pops are %v", n, s.interaction(t, "one").GetScreenPops())
	}
	elsewhere := createTicket()
	elsewhere.InteractionId = "two"
	if two := s.pop(t, elsewhere); two.GetScreenPop().GetRecordId() == pop.GetRecordId() {
		t.Error("another interaction pops the same ticket")
	}
	_, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{InteractionId: "one", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}})
	must(t, err)
	if popped := s.zendesk.Pops(); len(popped) != 1 {
		t.Errorf("Zendesk was asked to show %v", popped)
	}
}

func TestScreenPopCreatesConcurrently(t *testing.T) {
	s := newBlockServer(t)
	var group sync.WaitGroup
	answers := make([]*zendeskv1.ScreenPopResponse, 16)
	for i := range answers {
		group.Go(func() { answers[i], _ = s.blocks.ScreenPop(t.Context(), createTicket()) })
	}
	group.Wait()
	for _, answer := range answers {
		mustExit(t, answer, next)
		mustEqual(t, "pop", answer.GetScreenPop(), answers[0].GetScreenPop())
	}
	if n := s.writesTo("POST", "tickets"); n != 1 {
		t.Errorf("%d tickets are made", n)
	}
}

// Of unknown outcome, or across a crash: it is looked for before it is made again, also when Zendesk has forgotten the key.
func TestScreenPopFindsItsTicket(t *testing.T) {
	for name, fault := range unknownOutcomes {
		t.Run(name, func(t *testing.T) {
			s := newBlockServer(t)
			fault.Method, fault.PathPrefix, fault.Times = "POST", "/api/v2/tickets", 3
			s.zendesk.AddFault(fault)
			if first := s.pop(t, createTicket()); first.GetExit() == zendeskv1.Exit_EXIT_FAILED && !first.GetFailure().GetRetryable() {
				t.Errorf("answer is %v", first)
			}
			s.zendesk.ClearFaults()
			s.clock.advance(3 * time.Hour)
			s.restart(t)
			req := createTicket()
			req.Variables["NAME"] = "Another"
			second := s.pop(t, req)
			mustExit(t, second, next)
			external := s.read(t, "tickets/"+second.GetScreenPop().GetRecordId())["ticket"].(map[string]any)["external_id"].(string)
			if tickets := s.read(t, "tickets?external_id="+external)["tickets"].([]any); len(tickets) != 1 {
				t.Errorf("there are %d tickets", len(tickets))
			}
		})
	}
}

func TestScreenPopWhoseTicketIsLost(t *testing.T) {
	s, g := newHeldServer(t, func(c *Config) { c.DrainTimeout = time.Millisecond })
	var group sync.WaitGroup
	group.Go(func() { _, _ = s.blocks.ScreenPop(t.Context(), createTicket()) })
	<-g.acted
	s.stop()
	group.Wait()
	close(g.goOn)
	s.start(t)
	mustExit(t, s.pop(t, createTicket()), next)
	if n := s.writesTo("POST", "tickets"); n != 1 {
		t.Errorf("%d tickets are made", n)
	}
}

func TestScreenPopCreateFailures(t *testing.T) {
	s := newBlockServer(t)
	for _, test := range []struct {
		change func(*zendeskv1.ScreenPopRequest)
		reason zendeskv1.FailureReason
	}{
		{func(r *zendeskv1.ScreenPopRequest) { r.Variables["WHO"] = "x" }, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{func(r *zendeskv1.ScreenPopRequest) { delete(r.Variables, "WHO") }, zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE},
		{func(r *zendeskv1.ScreenPopRequest) { r.GetCreateTicket().Comment = "$(nobody)" }, zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE},
		{func(r *zendeskv1.ScreenPopRequest) { r.Variables["TAG"] = "a,b" }, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
	} {
		req := createTicket()
		test.change(req)
		mustFail(t, s.pop(t, req), test.reason)
	}
	if got := len(s.zendesk.Requests()); got != 0 {
		t.Errorf("Zendesk was asked %d times", got)
	}
	// What Zendesk refuses is not made; another try is.
	req := createTicket()
	req.Variables["WHO"] = "999999"
	mustFail(t, s.pop(t, req), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	mustExit(t, s.pop(t, createTicket()), next)
	for field, target := range map[string]*zendeskv1.CreateTicket{
		"create_ticket.comment": {}, "create_ticket.requester_id": {Comment: "x", RequesterId: "$("}, "create_ticket.subject": {Comment: "x", Subject: "$("},
		"create_ticket.tags[0]": {Comment: "x", Tags: []string{"$("}},
	} {
		_, err := s.blocks.ScreenPop(t.Context(), popRequest(target))
		mustViolate(t, err, field)
	}
	_, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{InteractionId: "done"})
	must(t, err)
	late := createTicket()
	late.InteractionId = "done"
	mustFail(t, s.pop(t, late), zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_COMPLETED)
}
