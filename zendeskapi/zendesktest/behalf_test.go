package zendesktest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// impersonator mints an administrator's token of these scopes.
func (a *account) impersonator(t *testing.T, scopes string) as {
	t.Helper()
	got := a.token(t, map[string]string{"grant_type": "client_credentials", "scope": scopes}).want(t, 200)
	return bearing(got.text("access_token"))
}

func behalf(name string) as { return with("X-On-Behalf-Of", name) }

func TestWhoMayActForWhom(t *testing.T) {
	a := open(t, Config{OddPeople: true})
	admin := a.impersonator(t, "read write impersonate")
	code := a.code(t, Grant{Email: Agent.Email, Scopes: []string{"read", "write", "impersonate"}})
	agent := bearing(a.token(t, map[string]string{"grant_type": "authorization_code", "code": code, "redirect_uri": RedirectURI}).want(t, 200).text("access_token"))
	tests := []struct {
		name   string
		who    as
		whom   string
		path   string
		status int
	}{
		{"by address", admin, "Ella.Fischer@example.com", "/api/v2/users/me.json", 200},
		{"by id", admin, fmt.Sprint(EndUser.ID), "/api/v2/users/me.json", 200},
		{"tickets", admin, EndUser.Email, "/api/v2/tickets.json", 200},
		{"requests", admin, EndUser.Email, "/api/v2/requests.json", 200},
		{"what end users may not", admin, EndUser.Email, "/api/v2/users.json", 403},
		{"nor search", admin, EndUser.Email, "/api/v2/search.json?query=x", 403},
		{"an API token", person(Admin), EndUser.Email, "/api/v2/requests.json", 403},
		{"without the scope", a.impersonator(t, "read write"), EndUser.Email, "/api/v2/requests.json", 403},
		{"the scope alone", a.impersonator(t, "impersonate"), EndUser.Email, "/api/v2/requests.json", 403},
		{"an agent", agent, EndUser.Email, "/api/v2/requests.json", 403},
		{"for an agent", admin, OtherAgent.Email, "/api/v2/requests.json", 403},
		{"for one who is suspended", admin, Suspended.Email, "/api/v2/requests.json", 403},
		{"for one who is not verified", admin, fmt.Sprint(Unverified.ID), "/api/v2/requests.json", 403},
		{"for nobody", admin, "nobody@example.com", "/api/v2/requests.json", 401},
		{"for one who was merged", admin, fmt.Sprint(Merged.ID), "/api/v2/requests.json", 401},
		{"by a name", admin, EndUser.Name, "/api/v2/requests.json", 401},
	}
	for _, test := range tests {
		got := a.do("GET", test.path, "", test.who, behalf(test.whom))
		if got.status != test.status {
			t.Errorf("%s: %d %s, want %d", test.name, got.status, got.raw, test.status)
		}
		if test.path == "/api/v2/users/me.json" && got.text("user", "id") != fmt.Sprint(EndUser.ID) {
			t.Errorf("%s: it is %s", test.name, got.raw)
		}
	}
	// Without the header the token is the administrator's as before.
	if got := a.do("GET", "/api/v2/users/me.json", "", admin).text("user", "id"); got != fmt.Sprint(Admin.ID) {
		t.Errorf("the token is of %s", got)
	}
}

// TestActingForACustomer compares what becomes of writes: they are the
// customer's, who sees nothing that is private or another's.
func TestActingForACustomer(t *testing.T) {
	a := open(t, Config{})
	admin, she := a.impersonator(t, "read write impersonate"), behalf(Caller.Email)
	hers := fmt.Sprint(Caller.ID)
	made := a.do("POST", "/api/v2/tickets.json",
		fmt.Sprintf(`{"ticket":{"subject":"s","requester_id":%d,"comment":{"body":"b","public":false,"author_id":%d}}}`, EndUser.ID, Admin.ID), admin, she).want(t, 201)
	if made.text("ticket", "requester_id") != hers || made.text("ticket", "submitter_id") != hers ||
		made.text("audit", "author_id") != hers || made.text("audit", "events", 0, "author_id") != hers ||
		made.text("audit", "events", 0, "public") != "true" || made.header.Get("X-Zendesk-Api-Warn") == "" {
		t.Errorf("made %s", made.raw)
	}
	id := made.text("ticket", "id")
	a.do("PUT", "/api/v2/tickets/"+id, `{"ticket":{"comment":{"body":"among us","public":false}}}`).want(t, 200)
	updated := a.do("PUT", "/api/v2/tickets/"+id, `{"ticket":{"comment":{"body":"again"}}}`, admin, she).want(t, 200)
	if updated.text("audit", "author_id") != hers {
		t.Errorf("updated %s", updated.raw)
	}
	if got := a.do("GET", "/api/v2/tickets/"+id+"/comments", "", admin, she).want(t, 200); got.length("comments") != 2 {
		t.Errorf("she sees %s", got.raw)
	}
	if got := a.do("GET", "/api/v2/tickets/"+id+"/comments", ""); got.length("comments") != 3 {
		t.Errorf("an agent sees %s", got.raw)
	}
	for _, method := range []string{"GET", "PUT"} {
		a.do(method, ticketPath(ClosedTicket, ""), `{"ticket":{}}`, admin, she).want(t, 404)
		a.do(method, fmt.Sprintf("/api/v2/requests/%d", ClosedTicket), `{"request":{}}`, admin, she).want(t, 404)
	}
	if got := a.do("GET", "/api/v2/tickets", "", admin, she).want(t, 200); got.length("tickets") != len(CallerTickets)+1 {
		t.Errorf("she has %d tickets", got.length("tickets"))
	}
}

func TestRequests(t *testing.T) {
	a := open(t, Config{})
	she := person(EndUser)
	made := a.do("POST", "/api/v2/requests.json", `{"request":{"subject":"s","comment":{"body":"b"},"tags":["vip"],"group_id":7,"recipient":["r"],"priority":"high"}}`, she).want(t, 201)
	id := made.text("request", "id")
	if made.text("request", "requester_id") != fmt.Sprint(EndUser.ID) || made.text("request", "priority") != "high" ||
		made.header.Get("Location") != a.Origin()+"/api/v2/requests/"+id+".json" ||
		!strings.Contains(made.header.Get("X-Zendesk-Api-Warn"), `["request.group_id", "request.tags", "request.recipient"]`) {
		t.Errorf("made %v %s", made.header, made.raw)
	}
	a.do("PUT", "/api/v2/requests/"+id, `{"request":{"comment":{"body":"c"}}}`, she).want(t, 200)
	if got := a.do("GET", "/api/v2/requests/"+id+"/comments", "", she).want(t, 200); got.length("comments") != 2 {
		t.Errorf("comments are %s", got.raw)
	}
	solved := a.do("PUT", "/api/v2/requests/"+id, `{"request":{"solved":true}}`, she).want(t, 200)
	if solved.text("request", "status") != "solved" || solved.text("request", "solved") != "true" {
		t.Errorf("solved %s", solved.raw)
	}
	if got := a.do("GET", "/api/v2/requests", "", she).want(t, 200).ids("requests"); !cmp.Equal(got, []string{id}) {
		t.Errorf("her requests are %v", got)
	}
	if got := a.do("GET", "/api/v2/requests/"+id, "", she).want(t, 200); got.text("request", "url") != made.header.Get("Location") {
		t.Errorf("it is %s", got.raw)
	}
	for _, body := range []string{`{"request":{"subject":"s"}}`, `{"request":{"comment":{"body":"b"},"priority":"odd"}}`} {
		a.do("POST", "/api/v2/requests", body, she).want(t, 422)
	}
	a.do("POST", "/api/v2/requests", `{"ticket":{}}`, she).want(t, 400)
	a.do("GET", "/api/v2/requests/"+id, "", person(Admin)).want(t, 404)
	a.do("PUT", "/api/v2/requests/"+id, `{"request":{}}`, person(Admin)).want(t, 404)
	a.do("GET", "/api/v2/requests/"+id+"/comments", "", person(Admin)).want(t, 404)
}
