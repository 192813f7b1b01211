package zendesktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFaultsEditAnswers(t *testing.T) {
	a := open(t, Config{})
	ticket := ticketPath(CallerTickets[1], ".json")
	for _, test := range []struct {
		name, fault, path string
		at                []any
		want              string
	}{
		{"a number for a text", `{"set":{"/ticket/external_id":42}}`, ticket, []any{"ticket", "external_id"}, "42"},
		{"null", `{"set":{"/ticket/subject":null}}`, ticket, []any{"ticket", "subject"}, "<nil>"},
		{"a new key", `{"set":{"/ticket/novelty":{"a":[1]}}}`, ticket, []any{"ticket", "novelty", "a", 0}, "1"},
		{"taken away", `{"remove":["/ticket/status"]}`, ticket, []any{"ticket", "status"}, "<nil>"},
		{"in every element", `{"set":{"/audits/*/author_id":-1}}`, ticketPath(CallerTickets[1], "/audits"), []any{"audits", 1, "author_id"}, "-1"},
		{"one element", `{"set":{"/audits/0":"odd"}}`, ticketPath(CallerTickets[1], "/audits"), []any{"audits", 0}, "odd"},
		{"one more element", `{"set":{"/audits/-":7}}`, ticketPath(CallerTickets[1], "/audits?page[size]=1"), []any{"audits", 1}, "7"},
		{"one element less", `{"remove":["/audits/*"]}`, ticketPath(CallerTickets[1], "/audits"), []any{"audits", 0}, "<nil>"},
		{"a count that lies", `{"set":{"/count":1,"/results":[]}}`, "/api/v2/search?query=nothing+at+all", []any{"count"}, "1"},
		{"a path to nowhere", `{"set":{"/ticket/nothing/deep":1,"/5":2}}`, ticket, []any{"ticket", "status"}, "open"},
		{"names with slashes", `{"set":{"/ticket/a~1b~0c":1}}`, ticket, []any{"ticket", "a/b~c"}, "1"},
	} {
		a.do("POST", "/_sandbox/faults", test.fault).want(t, 200)
		if got := a.do("GET", test.path, "").want(t, 200); got.text(test.at...) != test.want {
			t.Errorf("%s: %v is %s, want %s", test.name, test.at, got.text(test.at...), test.want)
		}
		a.do("DELETE", "/_sandbox/faults", "").want(t, 204)
	}
	a.AddFault(Fault{Edit: &Edit{Set: map[string]json.RawMessage{"/ticket/subject": json.RawMessage(`"half \ud83d <b>"`)}}})
	if got := a.do("GET", ticket, "").want(t, 200); !strings.Contains(string(got.raw), `"half \ud83d <b>"`) {
		t.Errorf("half an emoji did not stay: %s", got.raw)
	}
}

func TestFaultHeaders(t *testing.T) {
	a := open(t, Config{})
	a.do("POST", "/_sandbox/faults", `{"status":301,"header":{"location":"https://other.zendesk.example/api","Date":"Tue, 24 Nov 2026 11:00:00 GMT","X-Request-Id":""}}`).want(t, 200)
	got := a.do("GET", "/api/v2/groups", "").want(t, 301)
	if got.header.Get("Location") != "https://other.zendesk.example/api" || got.header.Get("Date") != "Tue, 24 Nov 2026 11:00:00 GMT" || got.header.Get("X-Request-Id") != "" {
		t.Errorf("headers are %v", got.header)
	}
	server := httptest.NewServer(a)
	defer server.Close()
	a.ClearFaults()
	a.AddFault(Fault{Edit: &Edit{Header: map[string]string{"Date": ""}}})
	res, err := server.Client().Get(server.URL + "/api/v2/groups")
	if err != nil {
		t.Fatal(err)
	}
	if _, there := res.Header["Date"]; there {
		t.Error("the date is still there")
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestFaultsThatContradictThemselves(t *testing.T) {
	a := open(t, Config{})
	for _, fault := range []string{
		`{"act":"sometimes","status":500}`, `{"act":"before"}`, `{"act":"after","delay_ms":5}`, `{"act":"after","drop":"after"}`,
		`{"set":{"ticket":1}}`, `{"remove":["x"]}`, `{"header":{"a":1}}`,
	} {
		if got := a.do("POST", "/_sandbox/faults", fault); got.status != 400 {
			t.Errorf("%s: %d, want 400", fault, got.status)
		}
	}
}

// drop sends a request whose connection is cut.
func (a *account) drop(method, path, body string) {
	a.t.Helper()
	defer func() {
		if recover() != http.ErrAbortHandler {
			a.t.Error("the connection was not cut")
		}
	}()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	person(Admin)(r)
	a.ServeHTTP(httptest.NewRecorder(), r)
}

func TestFaultsThatAct(t *testing.T) {
	const comment = `{"ticket":{"comment":{"body":"once","public":false}}}`
	a := open(t, Config{})
	path := ticketPath(CallerTickets[1], ".json")
	audits := func() int { return a.do("GET", ticketPath(CallerTickets[1], "/audits"), "").length("audits") }
	before := audits()
	for _, test := range []struct {
		name, fault string
		status      int // 0: cut
		acted       int
	}{
		{"never", `{"method":"PUT","status":503,"times":1}`, 503, 0},
		{"before a 5xx", `{"method":"PUT","status":503,"retry_after":3,"act":"before","times":1}`, 503, 1},
		{"before another body", `{"method":"PUT","body":"OK","act":"before","times":1}`, 200, 1},
		{"before a cut", `{"method":"PUT","drop":"before","act":"before","times":1}`, 0, 1},
		{"after a cut", `{"method":"PUT","drop":"before","act":"after","times":1}`, 0, 0},
		{"after a 5xx", `{"method":"PUT","status":504,"act":"after","times":1}`, 504, 0},
	} {
		a.do("POST", "/_sandbox/faults", test.fault).want(t, 200)
		if test.status == 0 {
			a.drop("PUT", path, comment)
		} else if got := a.do("PUT", path, comment); got.status != test.status {
			t.Errorf("%s: %d, want %d", test.name, got.status, test.status)
		}
		if before += test.acted; audits() != before {
			t.Errorf("%s: there are %d audits, want %d", test.name, audits(), before)
		}
	}
	if got := a.do("POST", "/_sandbox/land", "").want(t, 200); got.text("count") != "2" || audits() != before+2 || a.Land() != 0 {
		t.Errorf("%s landed, and there are %d audits, want %d", got.text("count"), audits(), before+2)
	}
}

func TestLateWritesLandByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Config{})
		path := ticketPath(CallerTickets[1], ".json")
		stamp := a.do("GET", path, "").text("ticket", "updated_at")
		a.AddFault(Fault{Method: "PUT", Drop: DropBefore, Act: ActAfter, Delay: 3 * time.Second, Times: 2})
		body := fmt.Sprintf(`{"ticket":{"safe_update":true,"updated_stamp":%q,"comment":{"body":"late","public":false}}}`, stamp)
		a.drop("PUT", path, body)
		a.drop("PUT", path, body)
		said := func() int { return a.do("GET", ticketPath(CallerTickets[1], "/comments"), "").length("comments") }
		before := said()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if said() != before {
			t.Error("it landed early")
		}
		a.clock.advance(3 * time.Second)
		time.Sleep(time.Second)
		synctest.Wait()
		// The second is bound to a state that is no more.
		if said() != before+1 {
			t.Errorf("there are %d new comments, want 1", said()-before)
		}
	})
}

func TestClockSkew(t *testing.T) {
	a := open(t, Config{})
	date := func() string { return a.do("GET", "/api/v2/groups", "").header.Get("Date") }
	if got := date(); got != "Tue, 24 Nov 2026 12:00:00 GMT" {
		t.Errorf("the date is %s", got)
	}
	a.do("POST", "/_sandbox/clock", `{"skew_ms":-5400000}`).want(t, 204)
	if got := date(); got != "Tue, 24 Nov 2026 10:30:00 GMT" {
		t.Errorf("the date is %s", got)
	}
	got := a.do("POST", "/api/v2/tickets", `{"ticket":{"comment":{"body":"x","public":false}}}`).want(t, 201)
	if got.text("ticket", "updated_at") != "2026-11-24T10:30:00Z" || got.text("audit", "created_at") != "2026-11-24T10:30:00Z" {
		t.Errorf("stamped %s and %s", got.text("ticket", "updated_at"), got.text("audit", "created_at"))
	}
	a.SetSkew(time.Hour)
	if got := date(); got != "Tue, 24 Nov 2026 13:00:00 GMT" {
		t.Errorf("the date is %s", got)
	}
	a.do("POST", "/_sandbox/clock", `{"skew":1}`).want(t, 400)
}

func TestMerge(t *testing.T) {
	a := open(t, Config{})
	loser, into := CallerTickets[1], CallerTickets[2]
	got := a.do("POST", ticketPath(into, "/merge.json"), fmt.Sprintf(`{"ids":[%d],"source_comment":"Diese Anfrage wurde mit #%d zusammengeführt."}`, loser, into)).want(t, 200)
	if got.text("job_status", "status") != "queued" {
		t.Errorf("answered %s", got.raw)
	}
	closed := a.do("GET", ticketPath(loser, ""), "").want(t, 200)
	if tags := closed.at("ticket", "tags").([]any); closed.text("ticket", "status") != "closed" || !slices.Contains(tags, any("closed_by_merge")) {
		t.Errorf("the loser is %s", closed.raw)
	}
	last := a.do("GET", ticketPath(loser, "/comments.json?sort=-created_at&page[size]=1"), "").text("comments", 0, "body")
	if last != fmt.Sprintf("Diese Anfrage wurde mit #%d zusammengeführt.", into) {
		t.Errorf("the loser's last comment is %q", last)
	}
	told := a.do("GET", ticketPath(into, "/comments.json?sort=-created_at&page[size]=1"), "").text("comments", 0, "body")
	if !strings.Contains(told, fmt.Sprintf("Request #%d ", loser)) {
		t.Errorf("the other's last comment is %q", told)
	}
	for _, id := range []int64{loser, into} {
		if rel := a.do("GET", ticketPath(id, "/audits?sort=-created_at&page[size]=1"), "").text("audits", 0, "via", "source", "rel"); rel != "merge" {
			t.Errorf("ticket %d's last audit came by %q", id, rel)
		}
	}
	a.update(loser, `{"comment":{"body":"x"}}`).want(t, 422)
	a.update(into, `{"comment":{"body":"x","public":false}}`).want(t, 200)
	for name, err := range map[string]error{
		"into a closed one": a.Merge(loser, into), "a closed one": a.Merge(into, loser), "into itself": a.Merge(into, into),
		"twice the same": a.Merge(into, CallerTickets[0], CallerTickets[0]), "unknown": a.Merge(into, 7),
	} {
		if err == nil {
			t.Errorf("%s: merged", name)
		}
	}
	if err := a.Merge(into, CallerTickets[0]); err != nil {
		t.Error(err)
	}
	a.do("POST", ticketPath(into, "/merge"), `{"ids":[]}`).want(t, 400)
	a.do("POST", ticketPath(into, "/merge"), `{"ids":[7]}`).want(t, 422)
}

// What is wrong with a ticket is told part by part, all of it at once.
func TestEveryWrongPartIsNamed(t *testing.T) {
	suspended := func(a *account) string {
		u := a.do("PUT", fmt.Sprintf("/api/v2/users/%d", EndUser.ID), `{"user":{"suspended":true}}`).want(t, 200)
		return u.text("user", "id")
	}
	for name, test := range map[string]struct {
		fields func(*account) string // of a ticket
		create bool
		want   map[string]string // description of each part, or a piece of it
	}{
		"suspended requester":              {func(a *account) string { return `"requester_id":` + suspended(a) }, true, map[string]string{"requester": "Ella Fischer is suspended."}},
		"suspended requester by address":   {func(a *account) string { suspended(a); return `"requester":{"email":"` + EndUser.Email + `"}` }, true, map[string]string{"requester": "is suspended."}},
		"suspended requester of an update": {func(a *account) string { return `"requester_id":` + suspended(a) }, false, map[string]string{"requester": "is suspended."}},
		"requester's address":              {func(*account) string { return `"requester":{"name":"Kim","email":"kim@example.com8050262430"}` }, true, map[string]string{"requester": "is not properly formatted"}},
		"requester without name":           {func(*account) string { return `"requester":{"email":"kim@example.com"}` }, true, map[string]string{"requester": "Name"}},
		"several":                          {func(*account) string { return `"assignee_email":"nobody@example.com","status":"odd","requester_id":7` }, false, map[string]string{"assignee": "is invalid", "status": "not included", "requester": "is invalid"}},
		"no comment, and more":             {func(*account) string { return `"group_id":7,"comment":{"body":" "}` }, true, map[string]string{"group": "is invalid", "base": "cannot be blank"}},
		"a field that is needed to solve":  {func(a *account) string { a.needs(t, ScoreField); return `"status":"solved"` }, false, map[string]string{"base": "Score: is required when solving a ticket"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, Config{})
			fields := test.fields(a)
			if !strings.Contains(fields, `"comment"`) {
				fields += `,"comment":{"body":"x","public":false}`
			}
			people := a.search("type:user").text("count")
			got := response{}
			if test.create {
				got = a.do("POST", "/api/v2/tickets", `{"ticket":{`+fields+`}}`)
			} else {
				got = a.update(CallerTickets[1], `{`+fields+`}`)
			}
			details, _ := got.want(t, 422).at("details").(map[string]any)
			for part, words := range test.want {
				if said := got.text("details", part, 0, "description"); !strings.Contains(said, words) {
					t.Errorf("%s: %q, want %q", part, said, words)
				}
			}
			if len(details) != len(test.want) {
				t.Errorf("details are %v", details)
			}
			if a.search("type:user").text("count") != people {
				t.Error("a requester was made without a ticket")
			}
		})
	}
	// A solved ticket is asked for the field by every change, an open one by none.
	a := open(t, Config{})
	a.needs(t, ScoreField)
	a.update(CallerTickets[0], `{"comment":{"body":"x","public":false}}`).want(t, 422)
	got := a.update(CallerTickets[0], fmt.Sprintf(`{"custom_fields":[{"id":%d,"value":"5"}]}`, ScoreField)).want(t, 200)
	if got.text("ticket", "status") != "solved" {
		t.Errorf("answered %s", got.raw)
	}
	a.update(CallerTickets[1], `{"comment":{"body":"x","public":false}}`).want(t, 200)
	a.do("POST", "/_sandbox/fields", `{"id":7,"required":true}`).want(t, 400)
}

func (a *account) needs(t *testing.T, field int64) {
	t.Helper()
	a.do("POST", "/_sandbox/fields", fmt.Sprintf(`{"id":%d,"required":true}`, field)).want(t, 204)
}

func TestIdentities(t *testing.T) {
	a := open(t, Config{})
	path := fmt.Sprintf("/api/v2/users/%d/identities.json", Agent.ID)
	a.do("POST", path, `{"identity":{"type":"email","value":"Jörg.O'Brien@old.example"}}`).want(t, 201)
	found := a.do("GET", "/api/v2/users/search.json?query="+url.QueryEscape("email:jörg.o'brien@old.example"), "").want(t, 200)
	if ids := found.ids("users"); len(ids) != 1 || ids[0] != strconv.FormatInt(Agent.ID, 10) || found.text("users", 0, "email") != Agent.Email {
		t.Errorf("found %s", found.raw)
	}
	listed := a.do("GET", path, "").want(t, 200)
	last := listed.length("identities") - 1
	if listed.text("identities", last, "value") != "jörg.o'brien@old.example" || listed.text("identities", last, "primary") != "false" {
		t.Errorf("listed %s", listed.raw)
	}
	for _, body := range []string{
		`{"identity":{"type":"email","value":"nobody"}}`, `{"identity":{"type":"fax","value":"1"}}`, `{"identity":{"type":"email"}}`,
		`{"identity":{"type":"email","value":"` + Caller.Email + `"}}`,
	} {
		a.do("POST", path, body).want(t, 422)
	}
	a.do("POST", "/api/v2/users/7/identities", `{"identity":{}}`).want(t, 404)
}

func TestAllowedScopes(t *testing.T) {
	a := open(t, Config{})
	a.do("POST", "/_sandbox/clients", `{"scopes":["tickets:read","users:read"]}`).want(t, 204)
	credentials := func(scope string) response {
		return a.token(t, map[string]string{"grant_type": "client_credentials", "scope": scope})
	}
	if got := credentials("").want(t, 200); got.text("scope") != "tickets:read users:read" {
		t.Errorf("granted %s", got.raw)
	}
	if got := credentials("users:read").want(t, 200); got.text("scope") != "users:read" {
		t.Errorf("granted %s", got.raw)
	}
	if got := credentials("read write").want(t, 400); got.text("error") != "invalid_scope" {
		t.Errorf("answered %s", got.raw)
	}
	// A code is not used up by a scope that is refused.
	redeem := map[string]string{"grant_type": "authorization_code", "code": a.code(t, Grant{Scopes: []string{"users:read"}}), "redirect_uri": RedirectURI, "scope": "read write"}
	a.token(t, redeem).want(t, 400)
	delete(redeem, "scope")
	a.token(t, redeem).want(t, 200)

	a.do("POST", "/_sandbox/clients", `{"scopes":null}`).want(t, 204)
	credentials("read write").want(t, 200)
	a.do("POST", "/_sandbox/clients", `{"client_id":"nobody"}`).want(t, 400)
	a.do("POST", "/_sandbox/clients", `{"scopes":["everything"]}`).want(t, 400)
}

func TestAddressForm(t *testing.T) {
	got := map[string]bool{}
	want := map[string]bool{
		"a@b.co": true, "pat.o'brien@example.com": true, "jörg@bücher.example": true, "a@xn--bcher-kva.example": true, "a@b.xn--p1ai": true,
		"": false, "a": false, "a@b": false, "a@b.c": false, "kim@example.com8050262430": false, "a b@c.example": false, "a@b@c.example": false,
	}
	for email := range want {
		got[email] = isAddress(email)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
