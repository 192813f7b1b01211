package zendesktest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func displayPath(agent int64, kind string, id int64) string {
	return fmt.Sprintf("/api/v2/channels/voice/agents/%d/%s/%d/display.json", agent, kind, id)
}

func TestDisplay(t *testing.T) {
	a := open(t, Config{})
	ticket := CallerTickets[1]
	tests := []struct {
		name, path string
		status     int
		code       string
	}{
		{"ticket", displayPath(Agent.ID, "tickets", ticket), 200, ""},
		{"user", displayPath(OtherAgent.ID, "users", Caller.ID), 200, ""},
		{"agent that is none", displayPath(Caller.ID, "tickets", ticket), 404, "RecordNotFound"},
		{"unknown agent", displayPath(7, "tickets", ticket), 404, "RecordNotFound"},
		{"unknown ticket", displayPath(Agent.ID, "tickets", 7), 404, "RecordNotFound"},
		{"unknown user", displayPath(Agent.ID, "users", 0), 404, "RecordNotFound"},
		{"agent without a licence", displayPath(UnlicensedAgent.ID, "tickets", ticket), 403, ""},
		{"organization", displayPath(Agent.ID, "organizations", CallerOrganization), 404, "InvalidEndpoint"},
		{"no number", "/api/v2/channels/voice/agents/x/tickets/1/display", 400, ""},
	}
	for _, test := range tests {
		got := a.do("POST", test.path, "")
		if got.status != test.status || test.code != "" && got.text("error") != test.code {
			t.Errorf("%s: %d %s, want %d %s", test.name, got.status, got.raw, test.status, test.code)
		}
	}
	want := []Pop{
		{AgentID: Agent.ID, Type: "ticket", ID: ticket, At: a.clock.now()},
		{AgentID: OtherAgent.ID, Type: "user", ID: Caller.ID, At: a.clock.now()},
	}
	if diff := cmp.Diff(want, a.Pops()); diff != "" {
		t.Errorf("pops (-want +got):\n%s", diff)
	}
	outside := a.do("GET", "/_sandbox/pops", "").want(t, 200)
	if outside.length() != 2 || outside.text(1, "agent_id") != fmt.Sprint(OtherAgent.ID) {
		t.Errorf("pops from outside: %s", outside.raw)
	}
}

func TestNoScreenPop(t *testing.T) {
	a := open(t, Config{NoScreenPop: true})
	for _, path := range []string{displayPath(Agent.ID, "tickets", CallerTickets[1]), displayPath(0, "users", 0), "/api/v2/channels/voice/tickets"} {
		if got := a.do("POST", path, `{"ticket":{"via_id":45,"comment":"x"}}`).want(t, 404); got.text("error") != "InvalidEndpoint" {
			t.Errorf("%s: %s", path, got.raw)
		}
	}
	if got := a.do("GET", "/_sandbox/pops", ""); string(got.raw) != "[]" {
		t.Errorf("pops %s", got.raw)
	}
}

func TestVoiceTicket(t *testing.T) {
	a := open(t, Config{})
	post := func(body string) response { return a.do("POST", "/api/v2/channels/voice/tickets.json", body) }
	got := post(fmt.Sprintf(`{"display_to_agent":%d,"ticket":{"via_id":45,"subject":"Call","comment":{"body":"x","public":false}}}`, Agent.ID)).want(t, 201)
	if got.text("ticket", "via", "channel") != "voice" || got.text("ticket", "via", "source", "rel") != "inbound" {
		t.Errorf("via %v", got.at("ticket", "via"))
	}
	if pops := a.Pops(); len(pops) != 1 || fmt.Sprint(pops[0].ID) != got.text("ticket", "id") {
		t.Errorf("pops %v", pops)
	}
	post(`{"ticket":{"via_id":46,"comment":"x"}}`).want(t, 201)
	for _, body := range []string{
		`{"ticket":{"comment":"x"}}`, `{"ticket":{"via_id":1,"comment":"x"}}`,
		fmt.Sprintf(`{"display_to_agent":%d,"ticket":{"via_id":45,"comment":"x"}}`, Caller.ID),
		`{"display_to_agent":7,"ticket":{"via_id":45,"comment":"x"}}`,
	} {
		post(body).want(t, 422)
	}
	post(`{`).want(t, 400)
	if len(a.Pops()) != 1 {
		t.Errorf("a refused or silent ticket popped: %v", a.Pops())
	}
}
