package zendesktest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (a *account) overviews(query string) (list []ticketOverview) {
	a.t.Helper()
	got := a.do("GET", "/_sandbox/tickets"+query, "").want(a.t, 200)
	if err := json.Unmarshal(got.raw, &list); err != nil {
		a.t.Fatal(err)
	}
	return list
}

// The overview has the tickets that were changed last first, with what was said and done, by names.
func TestTicketOverview(t *testing.T) {
	a := open(t, Config{})
	a.clock.advance(time.Minute)
	fields := fmt.Sprintf(`[{"id":%d,"value":"sale"},{"id":%d,"value":["router"]},{"id":%d,"value":true},{"id":%d,"value":""}]`,
		DispositionField, ProductsField, CallbackField, CallNotesField)
	made := a.do("POST", "/api/v2/tickets", fmt.Sprintf(`{"ticket":{"subject":"<b>New</b>","external_id":"call-1","requester_id":%d,"tags":["voice"],"custom_fields":%s,
		"metadata":{"zendeskblocks":{"activity":"a1"}},"comment":{"html_body":"<p>One &amp; <b>two</b></p>","public":false}}}`, Caller.ID, fields), person(Agent)).want(t, 201)
	// In the same second: the order is that of the changes.
	a.do("PUT", ticketPath(CallerTickets[1], ""), `{"ticket":{"status":"pending","assignee_id":45900000000103,"comment":{"body":"Later","public":true}}}`).want(t, 200)
	list := a.overviews("?limit=2")
	if len(list) != 2 || list[0].ID != CallerTickets[1] || fmt.Sprint(list[1].ID) != made.text("ticket", "id") {
		t.Fatalf("the last changed are %+v", list)
	}
	old, ticket := list[0], list[1]
	if last := old.Comments[len(old.Comments)-1]; old.Status != "pending" || *old.Assignee != (named{OtherAgent.ID, OtherAgent.Name}) || old.CommentCount != len(old.Comments) || last.PlainBody != "Later" || !last.Public || last.Author.Name != Admin.Name {
		t.Errorf("the old ticket is %+v", old)
	}
	if audit := old.Audits[len(old.Audits)-1]; old.AuditCount != len(old.Audits) || audit.Metadata != nil || !cmp.Equal(audit.Changed, []string{"status", "assignee_id"}) {
		t.Errorf("its last audit is %+v", audit)
	}
	want := ticketOverview{
		ID: ticket.ID, Subject: "<b>New</b>", Status: "new", ExternalID: new("call-1"), Requester: named{Caller.ID, Caller.Name}, Tags: ticket.Tags, Via: "api",
		CreatedAt: a.clock.now(), UpdatedAt: a.clock.now(),
		CustomFields: []valueOverview{{DispositionField, "Disposition", "sale"}, {ProductsField, "Products", []any{"router"}}, {CallbackField, "Callback requested", true}},
		Comments: []commentOverview{{
			ID: ticket.Comments[0].ID, AuditID: ticket.Audits[0].ID, Author: named{Agent.ID, Agent.Name},
			HTMLBody: `<div class="zd-comment" dir="auto"><p>One &amp; <b>two</b></p></div>`, PlainBody: "One & two", Via: "api", At: a.clock.now(),
		}},
		CommentCount: 1,
		Audits: []auditOverview{{
			ID: ticket.Audits[0].ID, Author: named{Agent.ID, Agent.Name}, Metadata: json.RawMessage(`{"zendeskblocks":{"activity":"a1"}}`), Via: "api", At: a.clock.now(),
			Changed: []string{"subject", "status", "requester_id", "organization_id", "external_id", "tags", "Disposition", "Products", "Callback requested"},
		}},
		AuditCount: 1,
	}
	if diff := cmp.Diff(want, ticket); diff != "" {
		t.Errorf("the new ticket (-want +got):\n%s", diff)
	}

	a.do("DELETE", ticketPath(ticket.ID, ""), "").want(t, 204)
	if list := a.overviews(""); len(list) != usualTickets || list[1].ID == ticket.ID {
		t.Errorf("%d tickets, the second is %d", len(list), list[1].ID)
	}
	if n := len(a.overviews("?limit=500")); n != maxTickets {
		t.Errorf("%d tickets", n)
	}
}

// However long a ticket's history is, its end is told, and how long it is.
func TestLongTicketOverview(t *testing.T) {
	a := open(t, Config{TicketUpdateLimit: 1_000})
	for i := range maxHistory + 1 {
		a.do("PUT", ticketPath(CallerTickets[2], ""), fmt.Sprintf(`{"ticket":{"comment":{"body":"note %d","public":false}}}`, i)).want(t, 200)
	}
	ticket := a.overviews("?limit=1")[0]
	if n := len(ticket.Comments); n != maxHistory || ticket.CommentCount != maxHistory+2 || ticket.Comments[n-1].PlainBody != fmt.Sprintf("note %d", maxHistory) {
		t.Errorf("%d of %d comments", n, ticket.CommentCount)
	}
	if n := len(ticket.Audits); n != maxHistory || ticket.AuditCount <= maxHistory {
		t.Errorf("%d of %d audits", n, ticket.AuditCount)
	}
}

// What the system did is told as its own, and a person who is no more has no name.
func TestNamesOfOverviews(t *testing.T) {
	a := open(t, Config{OddPeople: true})
	for id, want := range map[int64]string{-1: "Zendesk", Caller.ID: Caller.Name, 7: ""} {
		if got := a.person(id); got != (named{id, want}) {
			t.Errorf("%d is %+v", id, got)
		}
	}
	found := false
	for _, ticket := range a.overviews("?limit=500") {
		for _, audit := range ticket.Audits {
			found = found || audit.Author.Name == "Zendesk"
		}
	}
	if !found {
		t.Error("no audit is the system's")
	}
}

func TestPopOverview(t *testing.T) {
	a := open(t, Config{})
	a.do("POST", displayPath(Agent.ID, "tickets", CallerTickets[1]), "").want(t, 200)
	a.do("POST", displayPath(OtherAgent.ID, "users", Caller.ID), "").want(t, 200)
	a.do("DELETE", ticketPath(CallerTickets[1], ""), "").want(t, 204)
	var got []popOverview
	if err := json.Unmarshal(a.do("GET", "/_sandbox/pops", "").want(t, 200).raw, &got); err != nil {
		t.Fatal(err)
	}
	want := []popOverview{
		{Pop{AgentID: Agent.ID, Type: "ticket", ID: CallerTickets[1], At: a.clock.now()}, Agent.Name, ""},
		{Pop{AgentID: OtherAgent.ID, Type: "user", ID: Caller.ID, At: a.clock.now()}, OtherAgent.Name, Caller.Name},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pops (-want +got):\n%s", diff)
	}
}

// Lists are cut to their newest, and take no parameter but that.
func TestLimitsOfOverviews(t *testing.T) {
	a := open(t, Config{})
	for i := range 3 {
		a.do("GET", fmt.Sprintf("/api/v2/groups?page=%d", i+1), "")
		a.do("POST", displayPath(Agent.ID, "tickets", CallerTickets[i]), "").want(t, 200)
	}
	if got := a.do("GET", "/_sandbox/requests?limit=2", "").want(t, 200); got.length() != 2 || got.text(0, "query") != "page=3" {
		t.Errorf("requests %s", got.raw)
	}
	if got := a.do("GET", "/_sandbox/pops?limit=2", "").want(t, 200); got.length() != 2 || got.text(0, "id") != fmt.Sprint(CallerTickets[1]) {
		t.Errorf("pops %s", got.raw)
	}
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=x", "?limit=", "?limit=1&limit=2", "?limit=100001", "?page=1"} {
		for _, path := range []string{"requests", "pops", "tickets"} {
			if got := a.do("GET", "/_sandbox/"+path+query, "").want(t, 400); got.text("error") != "InvalidQuery" {
				t.Errorf("%s%s: %s", path, query, got.raw)
			}
		}
	}
	a.do("GET", "/_sandbox/tickets?limit=501", "").want(t, 400)
}
