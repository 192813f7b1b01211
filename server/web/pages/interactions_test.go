package pages

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// pop notes a screen pop of a ticket.
func (s *site) pop(t testing.TB, id, ticket string) {
	t.Helper()
	resp, err := s.blocks.ScreenPop(t.Context(), &zendeskv1.ScreenPopRequest{InteractionId: id, Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: ticket}})
	must(t, err)
	if resp.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		t.Fatalf("the pop failed: %v", resp.GetFailure())
	}
}

// popSearch notes one that Zendesk shows to nobody, so that it is delivered as a link.
func (s *site) popSearch(t testing.TB, id, query string) {
	t.Helper()
	resp, err := s.blocks.ScreenPop(t.Context(), &zendeskv1.ScreenPopRequest{InteractionId: id, Target: &zendeskv1.ScreenPopRequest_SearchString{SearchString: query}})
	must(t, err)
	if resp.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		t.Fatalf("the pop failed: %v", resp.GetFailure())
	}
}

func (s *site) deliver(t testing.TB, id, agent string) []*zendeskv1.Delivery {
	t.Helper()
	resp, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{InteractionId: id, Agent: &zendeskv1.Agent{Email: agent}})
	must(t, err)
	return resp.GetDeliveries()
}

func TestInteraction(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	b.get(t, "/interactions").wants(t, 200, "Find").lacks(t, "What happened").sound(t)
	b.get(t, "/interactions?id=call-unknown").wants(t, 404, "Not found", "Find").sound(t)
	b.get(t, "/interactions?id=a%20b").wants(t, 400, "does not fit").sound(t)
	search := func(query, name string) {
		resp, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{InteractionId: "call-1", SearchString: query, RecordsetName: name, MaxResults: 60})
		must(t, err)
		if resp.GetExit() != zendeskv1.Exit_EXIT_NEXT {
			t.Fatalf("the search failed: %v", resp.GetFailure())
		}
	}
	search("type:ticket status:open", "Tickets")
	_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "call-1", Data: map[string]string{"wish": "call back"}})
	must(t, err)
	s.pop(t, "call-1", openTicket)
	s.popSearch(t, "call-1", "maria")
	s.deliver(t, "call-1", zendesktest.Agent.Email)
	s.deliver(t, "call-1", zendesktest.OtherAgent.Email)
	got := b.get(t, "/interactions?id=call-1").wants(t, 200, "active", "none yet", "Tickets", "type:ticket status:open", "wish", "call back").sound(t)

	// Records.
	first := b.get(t, got.link(t, "Tickets")).wants(t, 200, "status", "more columns are on the page of each").sound(t)
	second := b.get(t, first.link(t, "Next page")).wants(t, 200).sound(t)
	if first.link(t, "25") == "" || second.link(t, "26") == "" {
		t.Error("records are not in their places")
	}
	record := b.get(t, second.link(t, "26")).wants(t, 200, "Record 26", "status", "subject", "url").sound(t)
	b.get(t, record.link(t, "its records")).wants(t, 200, "26").sound(t)
	b.get(t, second.link(t, "First page")).wants(t, 200).lacks(t, "First page")
	b.get(t, "/interactions/records?id=call-1&recordset=None").wants(t, 404).sound(t)
	b.get(t, "/interactions/records?id=call-1&recordset=Tickets&position=900").wants(t, 404).sound(t)
	b.get(t, "/interactions/records?id=call-1&recordset=Tickets&page=odd").wants(t, 400).sound(t)

	a := s.complete(t, "call-1", nil)
	s.await(t, a.GetActivityId(), zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN)
	got = b.get(t, "/interactions?id=call-1").wants(t, 200, "completed", "Main", a.GetActivityId(), "written").sound(t)
	text := got.text()
	at := 0
	for _, happened := range []string{
		"The first block named it", "A screen pop was noted: ticket " + openTicket, "A screen pop was noted: search",
		"Delivered to " + zendesktest.Agent.Email, "Delivered to " + zendesktest.Agent.Email, "Delivered to " + zendesktest.OtherAgent.Email, "It was completed", "Its activity was written to ticket " + openTicket,
	} {
		i := strings.Index(text[at:], happened)
		if i < 0 {
			t.Fatalf("%q is not where it happened; the page says: %s", happened, text)
		}
		at += i
	}
	got.wants(t, 200, zendesktest.Agent.Email+", shown by Zendesk: ticket "+openTicket, zendesktest.Agent.Email+", a link to open: search")
	if want := s.zendesk.Origin() + "/agent/tickets/" + openTicket; got.link(t, "ticket "+openTicket) != want {
		t.Errorf("the record is linked as %s", got.link(t, "ticket "+openTicket))
	}
}

// Whatever a search finds, a page of it is small, and all of it is text.
func TestHostileRecords(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	var results []map[string]any
	for i := range 60 {
		record := map[string]any{"id": 51 + i, "result_type": "ticket", "subject": hostile, "description": strings.Repeat(`<&"'>`, 500)}
		for c := range 100 {
			record[fmt.Sprintf(`<b>"'&%03d`, c)] = strings.Repeat(`<&"'>`, 40)
		}
		results = append(results, record)
	}
	body, err := json.Marshal(map[string]any{"results": results, "count": len(results)})
	must(t, err)
	answer := string(body)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 200, Body: &answer})
	const id = `a/../"'<script>`
	resp, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{InteractionId: id, SearchString: "<script>" + strings.Repeat("x", 3000), RecordsetName: "Odd", MaxResults: 100})
	must(t, err)
	if resp.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		t.Fatalf("the search failed: %v", resp.GetFailure())
	}
	for i := range 50 {
		s.popSearch(t, id, fmt.Sprint(strings.Repeat(`<"&`, 900), i))
	}
	s.deliver(t, id, zendesktest.Agent.Email)
	s.deliver(t, id, zendesktest.OtherAgent.Email)
	s.deliver(t, id, zendesktest.Agent.Email)
	got := b.get(t, "/interactions?id="+url.QueryEscape(id)).wants(t, 200, id, "<script>xxx", "more are left out here").sound(t)
	records := b.get(t, got.link(t, "Odd")).wants(t, 200, `<b>"'&000`, "more columns").sound(t)
	record := b.get(t, records.link(t, "1")).wants(t, 200, "<script>alert(1)</script>", "(2500 characters)").sound(t)
	column := records.link(t, "1") + "&column=" + url.QueryEscape(`<b>"'&099`)
	if got := b.get(t, column); got.body != strings.Repeat(`<&"'>`, 40) || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") {
		t.Errorf("the column is %q", got.body)
	}
	b.get(t, record.link(t, "its records")).wants(t, 200)
	b.get(t, "/pops?agent="+zendesktest.Agent.Email).wants(t, 200).sound(t)
}

func TestHistory(t *testing.T) {
	at := func(second int) *timestamppb.Timestamp {
		return timestamppb.New(time.Date(2026, 11, 26, 9, 0, second, 0, time.UTC))
	}
	link := zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_LINK
	got := history(&zendeskv1.Interaction{
		CreateTime: at(1), UpdateTime: at(9), State: zendeskv1.InteractionState_INTERACTION_STATE_EXPIRED,
		ScreenPops: []*zendeskv1.ScreenPop{{CreateTime: at(2), RecordType: zendeskv1.RecordType_RECORD_TYPE_TICKET, RecordId: "7", Url: "javascript:alert(1)"}},
		Deliveries: []*zendeskv1.Delivery{
			{Time: at(6), Outcome: link, ScreenPop: &zendeskv1.ScreenPop{RecordType: zendeskv1.RecordType_RECORD_TYPE_NEW_TICKET, RecordId: "8", Url: "https://z.example/new"}},
			{Time: at(3), Agent: &zendeskv1.Agent{ZendeskUserId: "5"}, Failure: &zendeskv1.Failure{Reason: zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT, Message: "slow"}, Outcome: 99},
		},
	}, &zendeskv1.Activity{CreateTime: at(4), State: zendeskv1.ActivityState_ACTIVITY_STATE_PENDING, NextAttemptTime: at(8)}, at(7).AsTime())
	want := []event{
		{Time: at(1), Text: "The first block named it"},
		{Time: at(2), Text: "A screen pop was noted:", To: recordLink{"ticket 7", ""}},
		{Time: at(3), Text: "Delivered to user 5, 99:", Why: "Zendesk did not answer in time: slow"},
		{Time: at(4), Text: "It was completed"},
		{Time: at(6), Text: "Delivered to an agent, a link to open:", To: recordLink{"new ticket for user 8", "https://z.example/new"}},
		{Time: at(8), Text: "Its activity is tried", Why: "tried in 1 s"},
		{Time: at(9), Text: "It was left alone, and nothing of it is kept"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *timestamppb.Timestamp) bool { return a.AsTime().Equal(b.AsTime()) })); diff != "" {
		t.Error(diff)
	}
}
