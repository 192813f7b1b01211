package zendesktest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (a *account) update(id int64, ticket string, who ...as) response {
	a.t.Helper()
	return a.do("PUT", ticketPath(id, ".json"), `{"ticket":`+ticket+`}`, who...)
}

// value is what a ticket holds for a custom field.
func (r response) value(t testing.TB, field int64) any {
	t.Helper()
	for i := range r.length("ticket", "custom_fields") {
		if r.text("ticket", "custom_fields", i, "id") == fmt.Sprint(field) {
			return r.at("ticket", "custom_fields", i, "value")
		}
	}
	t.Fatalf("the ticket has no field %d", field)
	return nil
}

// A comment is shown with what Zendesk makes of it: links, placeholders, lines.
func TestCommentsAreRendered(t *testing.T) {
	a := open(t, Config{})
	for html, want := range map[string][2]string{
		"<p>a<br>b</p><ul><li><b>c:</b> d &amp; e</li></ul><blockquote>f</blockquote>": {"a\nb\n\n  * c: d & e\n\nf", ""},
		"<p>see http://x.example/1 or www.y.example</p>":                               {"see http://x.example/1 or www.y.example", `<a href="http://x.example/1">http://x.example/1</a> or <a href="www.y.example">`},
		"<p>ticket {{ticket.id}}{{ dc.x }}!</p>":                                       {fmt.Sprintf("ticket %d!", CallerTickets[1]), ""},
		`<p><a href="https://x.example">https://x.example</a></p>`:                     {"https://x.example", `<p><a href="https://x.example">https://x.example</a></p>`},
	} {
		body, err := json.Marshal(html)
		if err != nil {
			t.Fatal(err)
		}
		got := a.update(CallerTickets[1], `{"comment":{"html_body":`+string(body)+`,"public":false}}`).want(t, 200)
		if text := got.text("audit", "events", 0, "plain_body"); text != want[0] {
			t.Errorf("%s: text is %q, want %q", html, text, want[0])
		}
		if shown := got.text("audit", "events", 0, "html_body"); !strings.Contains(shown, want[1]) {
			t.Errorf("%s: shown as %q, want %q", html, shown, want[1])
		}
	}
}

func TestUpdateIsOneAudit(t *testing.T) {
	a := open(t, Config{})
	id := CallerTickets[1]
	before := a.do("GET", ticketPath(id, "/audits"), "").length("audits")
	a.clock.advance(time.Minute)
	got := a.update(id, fmt.Sprintf(`{
		"comment": {"body": "Called back <today>\nat ten", "public": false},
		"metadata": {"mark": "zendeskblocks:1", "n": 9007199254740993},
		"priority": "urgent", "additional_tags": ["Called Back"],
		"custom_fields": [{"id": %d, "value": "sale"}, {"id": %d, "value": true}]
	}`, DispositionField, CallbackField)).want(t, 200)

	if got.text("audit", "ticket_id") != fmt.Sprint(id) || got.text("audit", "author_id") != fmt.Sprint(Admin.ID) {
		t.Errorf("audit %s", got.raw)
	}
	if !strings.Contains(string(got.raw), `"custom":{"mark": "zendeskblocks:1", "n": 9007199254740993}`) &&
		!strings.Contains(string(got.raw), `"custom":{"mark":"zendeskblocks:1","n":9007199254740993}`) {
		t.Errorf("metadata is not as sent: %v", got.at("audit", "metadata", "custom"))
	}
	var events []string
	for i := range got.length("audit", "events") {
		e := func(key string) string { return got.text("audit", "events", i, key) }
		if e("type") == "Comment" {
			events = append(events, "Comment "+e("public")+" "+e("body")+" "+e("html_body"))
			continue
		}
		events = append(events, e("type")+" "+e("field_name")+" "+e("previous_value")+" to "+e("value"))
	}
	want := []string{
		"Comment false Called back <today>\nat ten <div class=\"zd-comment\" dir=\"auto\"><p dir=\"auto\">Called back &lt;today&gt;<br>at ten</p></div>",
		"Change priority high to urgent",
		"Change tags [callback_requested hardware router terminal] to [callback_requested called_back hardware router sale terminal]",
		fmt.Sprintf("Change %d <nil> to sale", DispositionField),
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if got.text("ticket", "updated_at") != stamp(a.clock.now()) {
		t.Errorf("updated_at %s", got.text("ticket", "updated_at"))
	}

	all := a.do("GET", ticketPath(id, "/audits.json"), "").want(t, 200)
	if all.length("audits") != before+1 || all.text("audits", before, "id") != got.text("audit", "id") {
		t.Errorf("%d audits, want %d", all.length("audits"), before+1)
	}
	one := a.do("GET", ticketPath(id, "/audits/")+got.text("audit", "id")+".json", "").want(t, 200)
	if diff := cmp.Diff(got.at("audit"), one.at("audit")); diff != "" {
		t.Errorf("the audit alone (-update +show):\n%s", diff)
	}
	comments := a.do("GET", ticketPath(id, "/comments.json?sort_order=desc"), "").want(t, 200)
	if comments.text("comments", 0, "public") != "false" || comments.text("comments", 0, "audit_id") != got.text("audit", "id") {
		t.Errorf("newest comment %v", comments.at("comments", 0))
	}
}

func TestAuditsByCursorNewestFirst(t *testing.T) {
	a := open(t, Config{})
	for i := range 3 {
		a.update(CallerTickets[1], fmt.Sprintf(`{"comment":{"body":"%d","public":false}}`, i)).want(t, 200)
	}
	first := a.do("GET", ticketPath(CallerTickets[1], "/audits.json?sort=-created_at&page%5Bsize%5D=2"), "").want(t, 200)
	var said []string
	for i := range first.length("audits") {
		said = append(said, first.text("audits", i, "events", 0, "body"))
	}
	if diff := cmp.Diff([]string{"2", "1"}, said); diff != "" || first.text("meta", "has_more") != "true" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCustomFields(t *testing.T) {
	many := strings.Repeat("x", maxText)
	tests := []struct {
		name  string
		field int64
		value string
		want  any
		drop  bool // it is told, and the value stays
	}{
		{"text", CallerNumberField, `"+1 513"`, "+1 513", false},
		{"text of a number", CallerNumberField, `4711`, "4711", false},
		{"text of a list", CallerNumberField, `["x"]`, nil, true},
		{"text too long", CallNotesField, `"` + many + `x"`, nil, true},
		{"longest text", CallNotesField, `"` + many + `"`, many, false},
		{"text cleared", CallerNumberField, `null`, nil, false},
		{"text cleared by empty", CallerNumberField, `""`, nil, false},
		{"option by value", DispositionField, `"wrong_number"`, "wrong_number", false},
		{"option by name", DispositionField, `"Wrong number"`, nil, true},
		{"options", ProductsField, `["modem","tv_box"]`, []any{"modem", "tv_box"}, false},
		{"options with an unknown one", ProductsField, `["modem","toaster"]`, nil, true},
		{"one option for many", ProductsField, `"modem"`, nil, true},
		{"check", ResolvedField, `true`, true, false},
		{"uncheck as text", ResolvedField, `"false"`, false, false},
		{"check as text", ResolvedField, `"true"`, true, false},
		{"uncheck as number", ResolvedField, `0`, false, false},
		{"check as number", ResolvedField, `1`, true, false},
		{"uncheck", CallbackField, `false`, false, false},
		{"uncheck by null", CallbackField, `null`, false, false},
		{"check as word", ResolvedField, `"yes please"`, nil, true},
		{"date", CallbackDateField, `"2026-12-24"`, "2026-12-24", false},
		{"no date", CallbackDateField, `"2026-02-30"`, nil, true},
		{"date and time", CallbackDateField, `"2026-12-24T10:00:00Z"`, nil, true},
		{"integer", TalkTimeField, `184`, "184", false},
		{"integer as text", TalkTimeField, `"-5"`, "-5", false},
		{"integer with a fraction", TalkTimeField, `1.5`, nil, true},
		{"decimal", RefundField, `12.50`, "12.50", false},
		{"decimal of words", RefundField, `"twelve"`, nil, true},
		{"pattern", OrderNumberField, `"AB-123456"`, "AB-123456", false},
		{"pattern not met", OrderNumberField, `"AB-12345"`, nil, true},
		{"card", CardField, `"XXXXXXXXXXXX4242"`, "XXXXXXXXXXXX4242", false},
		{"no card", CardField, `"4242"`, nil, true},
		{"lookup", AccountManagerField, fmt.Sprint(Agent.ID), fmt.Sprint(Agent.ID), false},
		{"lookup of nobody", AccountManagerField, `"77"`, nil, true},
	}
	a := open(t, Config{TicketUpdateLimit: len(tests)})
	for _, test := range tests {
		want := test.want
		if test.drop {
			want = a.do("GET", ticketPath(CallerTickets[1], ""), "").value(t, test.field)
		}
		got := a.update(CallerTickets[1], fmt.Sprintf(`{"custom_fields":[{"id":%d,"value":%s}]}`, test.field, test.value)).want(t, 200)
		if diff := cmp.Diff(want, got.value(t, test.field)); diff != "" {
			t.Errorf("%s (-want +got):\n%.300s", test.name, diff)
		}
		warned := strings.Contains(got.header.Get("X-Zendesk-Api-Warn"), fmt.Sprint(test.field))
		if warned != test.drop {
			t.Errorf("%s: x-zendesk-api-warn %q", test.name, got.header.Get("X-Zendesk-Api-Warn"))
		}
		if diff := cmp.Diff(got.at("ticket", "custom_fields"), got.at("ticket", "fields")); diff != "" {
			t.Errorf("%s: fields and custom_fields differ", test.name)
		}
	}
}

func TestCustomFieldsByObjectAndTheirTags(t *testing.T) {
	a := open(t, Config{})
	set := func(value string) response {
		return a.update(CallerTickets[1], fmt.Sprintf(`{"custom_fields":{"%d":%s}}`, DispositionField, value)).want(t, 200)
	}
	tags := func(r response) []string {
		var list []string
		for i := range r.length("ticket", "tags") {
			list = append(list, r.text("ticket", "tags", i))
		}
		return list
	}
	whole := a.update(CallerTickets[1], fmt.Sprintf(`{"tags":["One","two words"],"additional_tags":["three"],"custom_fields":{"%d":"callback"}}`, DispositionField)).want(t, 200)
	if diff := cmp.Diff([]string{"callback", "one", "three", "two_words"}, tags(whole)); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if got := a.update(CallerTickets[1], `{"tags":7}`); got.status != 200 || !slices.Contains(tags(got), "7") {
		t.Errorf("a number for tags: %s", got.raw)
	}
	a.update(CallerTickets[1], `{"tags":{}}`).want(t, 422)
	a.update(CallerTickets[1], `{"tags":["router"]}`).want(t, 200)
	if got := tags(set(`"sale"`)); !slices.Contains(got, "sale") {
		t.Errorf("tags %v", got)
	}
	if got := tags(set(`"complaint"`)); slices.Contains(got, "sale") || !slices.Contains(got, "complaint") {
		t.Errorf("tags %v", got)
	}
	got := a.update(CallerTickets[1], fmt.Sprintf(`{"remove_tags":["router"],"custom_fields":[{"id":%d,"value":"x"},{"id":77,"value":"x"}],"colour":"red","comment":{"body":"x","mood":"good"}}`, LegacyField)).want(t, 200)
	if slices.Contains(tags(got), "router") {
		t.Errorf("tags %v", tags(got))
	}
	for _, key := range []string{fmt.Sprint(LegacyField), "custom_fields.77", "ticket.colour", "ticket.comment.mood"} {
		if warned := got.header.Get("X-Zendesk-Api-Warn"); !strings.Contains(warned, key) {
			t.Errorf("x-zendesk-api-warn %q does not tell %s", warned, key)
		}
	}
}

func TestUpdateRefused(t *testing.T) {
	a := open(t, Config{})
	tests := []struct {
		name, body string
		id         int64
		status     int
		code       string
		detail     string
	}{
		{"closed", `{"ticket":{"comment":{"body":"x"}}}`, ClosedTicket, 422, "RecordInvalid", "status"},
		{"unknown status", `{"ticket":{"status":"done"}}`, CallerTickets[1], 422, "RecordInvalid", "status"},
		{"unknown priority", `{"ticket":{"priority":1}}`, CallerTickets[1], 422, "RecordInvalid", "priority"},
		{"assignee is a customer", fmt.Sprintf(`{"ticket":{"assignee_id":%d}}`, Caller.ID), CallerTickets[1], 422, "RecordInvalid", "assignee"},
		{"assignee of digits that is nobody", `{"ticket":{"assignee_id":"77"}}`, CallerTickets[1], 422, "RecordInvalid", "assignee"},
		{"requester is nobody", `{"ticket":{"requester_id":7}}`, CallerTickets[1], 422, "RecordInvalid", "requester"},
		{"metadata is no object", `{"ticket":{"metadata":"x"}}`, CallerTickets[1], 422, "RecordInvalid", "metadata"},
		{"no wrapper", `{"priority":"low"}`, CallerTickets[1], 400, "", ""},
		{"no JSON", `{"ticket":`, CallerTickets[1], 400, "", ""},
		{"no such ticket", `{"ticket":{}}`, 7, 404, "RecordNotFound", ""},
		{"stale", `{"ticket":{"safe_update":true,"updated_stamp":"2020-01-01T00:00:00Z","priority":"low"}}`, CallerTickets[1], 409, "UpdateConflict", ""},
		{"stale, with false", `{"ticket":{"safe_update":false,"updated_stamp":"2020-01-01T00:00:00Z"}}`, CallerTickets[1], 409, "UpdateConflict", ""},
		{"safe without a stamp", `{"ticket":{"safe_update":true}}`, CallerTickets[1], 409, "UpdateConflict", ""},
	}
	for _, test := range tests {
		before := a.do("GET", ticketPath(CallerTickets[1], ""), "").raw
		got := a.do("PUT", ticketPath(test.id, ".json"), test.body)
		if got.status != test.status || test.code != "" && got.text("error") != test.code ||
			test.detail != "" && got.at("details", test.detail, 0, "description") == nil {
			t.Errorf("%s: %d %s, want %d %s", test.name, got.status, got.raw, test.status, test.code)
		}
		if after := a.do("GET", ticketPath(CallerTickets[1], ""), "").raw; string(before) != string(after) {
			t.Errorf("%s: the ticket changed", test.name)
		}
	}
	stamp := a.do("GET", ticketPath(CallerTickets[1], ""), "").text("ticket", "updated_at")
	a.update(CallerTickets[1], `{"safe_update":true,"updated_stamp":"`+stamp+`","priority":"low"}`).want(t, 200)
}

func TestUpdatesPerUserAndTicket(t *testing.T) {
	a := open(t, Config{})
	update := func(id int64, p Person) response { return a.update(id, `{"comment":{"body":"x"}}`, person(p)) }
	for range 30 {
		update(CallerTickets[1], Admin).want(t, 200)
	}
	refused := update(CallerTickets[1], Admin).want(t, 429)
	if got := refused.header.Get("Retry-After"); got != "600" {
		t.Errorf("Retry-After %q, want 600", got)
	}
	update(CallerTickets[1], Agent).want(t, 200)
	update(CallerTickets[2], Admin).want(t, 200)
	a.clock.advance(10 * time.Minute)
	update(CallerTickets[1], Admin).want(t, 200)
}

func TestCreateTicket(t *testing.T) {
	a := open(t, Config{})
	got := a.do("POST", "/api/v2/tickets.json", fmt.Sprintf(`{"ticket":{
		"subject": "Call of ten", "comment": {"html_body": "<p>Hello &amp; <b>thanks</b></p>", "public": false},
		"requester": {"name": "Nina New", "email": "Nina.New@example.com"}, "external_id": "zb:1", "type": "task",
		"due_at": "2026-12-01T10:00:00Z", "priority": "low", "assignee_email": %q, "metadata": {"mark": "m"}
	}}`, Agent.Email)).want(t, 201)
	id := got.text("ticket", "id")
	if location := got.header.Get("Location"); location != a.Origin()+"/api/v2/tickets/"+id+".json" || location != got.text("ticket", "url") {
		t.Errorf("Location %q", location)
	}
	for key, want := range map[string]string{
		"status": "open", "external_id": "zb:1", "type": "task", "priority": "low", "is_public": "false",
		"assignee_id": fmt.Sprint(Agent.ID), "description": "Hello & thanks", "subject": "Call of ten", "due_at": "2026-12-01T10:00:00Z",
	} {
		if got.text("ticket", key) != want {
			t.Errorf("%s is %s, want %s", key, got.text("ticket", key), want)
		}
	}
	if got.text("audit", "metadata", "custom", "mark") != "m" || got.text("audit", "events", 0, "type") != "Comment" || got.text("audit", "events", 1, "type") != "Create" {
		t.Errorf("audit %v", got.at("audit"))
	}
	requester := a.do("GET", "/api/v2/users/"+got.text("ticket", "requester_id"), "").want(t, 200)
	if requester.text("user", "email") != "nina.new@example.com" {
		t.Errorf("requester %s", requester.raw)
	}
	found := a.do("GET", "/api/v2/tickets.json?external_id=zb:1", "").want(t, 200)
	if diff := cmp.Diff([]string{id}, found.ids("tickets")); diff != "" {
		t.Errorf("by external_id (-want +got):\n%s", diff)
	}

	own := a.do("POST", "/api/v2/tickets", `{"ticket":{"description":"no subject here"}}`, person(Agent)).want(t, 201)
	if own.text("ticket", "requester_id") != fmt.Sprint(Agent.ID) || own.text("ticket", "subject") != "no subject here" || own.text("ticket", "status") != "new" {
		t.Errorf("%s", own.raw)
	}
	for _, body := range []string{
		`{"ticket":{"subject":"x"}}`, `{"ticket":{"comment":{"body":" "}}}`, `{"ticket":{"comment":7.5,"x":1,"status":"x"}}`,
		`{"ticket":{"comment":"x","requester":{"email":"new@example.com"}}}`, `{"ticket":{"comment":"x","requester":{"name":"x"}}}`,
		fmt.Sprintf(`{"ticket":{"comment":"x","via_followup_source_id":%d}}`, CallerTickets[1]),
	} {
		if got := a.do("POST", "/api/v2/tickets", body); got.status != 422 || got.text("error") != "RecordInvalid" {
			t.Errorf("%s: %d %s", body, got.status, got.raw)
		}
	}
}

func TestIdsOfDigits(t *testing.T) {
	a := open(t, Config{})
	got := a.update(CallerTickets[1], fmt.Sprintf(`{"assignee_id":"%d"}`, OtherAgent.ID)).want(t, 200)
	if got.text("ticket", "assignee_id") != fmt.Sprint(OtherAgent.ID) {
		t.Errorf("assignee_id %s", got.text("ticket", "assignee_id"))
	}
}

func TestFollowUp(t *testing.T) {
	a := open(t, Config{})
	got := a.do("POST", "/api/v2/tickets", fmt.Sprintf(`{"ticket":{"comment":"again","via_followup_source_id":%d}}`, ClosedTicket)).want(t, 201)
	if got.text("ticket", "via", "source", "rel") != "follow_up" || got.text("ticket", "via", "source", "from", "ticket_id") != fmt.Sprint(ClosedTicket) {
		t.Errorf("via %v", got.at("ticket", "via"))
	}
	source := a.do("GET", ticketPath(ClosedTicket, ""), "")
	if source.text("ticket", "followup_ids", 0) != got.text("ticket", "id") {
		t.Errorf("followup_ids %v", source.at("ticket", "followup_ids"))
	}
}

func TestIdempotencyKey(t *testing.T) {
	a := open(t, Config{})
	post := func(key, body string) response {
		return a.do("POST", "/api/v2/tickets", `{"ticket":{"comment":"`+body+`"}}`, with("Idempotency-Key", key))
	}
	first := post("k1", "one").want(t, 201)
	second := post("k1", "one").want(t, 201)
	if first.header.Get("X-Idempotency-Lookup") != "miss" || second.header.Get("X-Idempotency-Lookup") != "hit" {
		t.Errorf("lookups %q, %q", first.header.Get("X-Idempotency-Lookup"), second.header.Get("X-Idempotency-Lookup"))
	}
	if string(first.raw) != string(second.raw) || second.header.Get("Location") != first.header.Get("Location") {
		t.Errorf("the repeat got another answer: %s", second.raw)
	}
	if got := post("k1", "two").want(t, 400); got.text("error") != "IdempotentRequestError" {
		t.Errorf("%s", got.raw)
	}
	post("k2", "").want(t, 422)
	if got := post("k2", "").want(t, 422); got.header.Get("X-Idempotency-Lookup") != "miss" {
		t.Error("a refusal was remembered")
	}
	if got := post("k3", "one").want(t, 201); got.text("ticket", "id") == first.text("ticket", "id") {
		t.Error("another key gave the same ticket")
	}
	a.clock.advance(idempotencyLife)
	if got := post("k1", "one").want(t, 201); got.text("ticket", "id") == first.text("ticket", "id") {
		t.Error("the key is remembered for too long")
	}
}

func TestCommentsAreBounded(t *testing.T) {
	a := open(t, Config{TicketUpdateLimit: maxComments})
	a.mu.Lock()
	id := CallerTickets[2]
	for len(comments(a.audits[id])) < maxComments {
		said := a.audits[id][0]
		a.audits[id] = append(a.audits[id], slices.Repeat([]audit{said}, maxComments-len(comments(a.audits[id])))...)
	}
	a.mu.Unlock()
	a.update(id, `{"comment":{"body":"x"}}`).want(t, 422)
	a.update(id, `{"priority":"low"}`).want(t, 200)
}

// FuzzUpdate looks for request bodies that break the service or the ticket.
func FuzzUpdate(f *testing.F) {
	for _, seed := range []string{
		`{"ticket":{"comment":{"body":"x","public":null}}}`, `{"ticket":{"custom_fields":[{"id":45900000002101,"value":["x"]}]}}`,
		`{"ticket":{"custom_fields":{"a":1}}}`, `{"ticket":{"tags":null,"via_id":45,"status":null}}`, `{"ticket":null}`, `[]`,
		`{"ticket":{"comment":{"html_body":"<<>"}}}`, `{"ticket":{"requester":{}}}`, `{"ticket":{"follower_ids":[1],"due_at":"x"}}`,
	} {
		f.Add(seed)
	}
	opened := open(f, Config{TicketUpdateLimit: 1 << 40})
	f.Fuzz(func(t *testing.T, body string) {
		a := &account{opened.Zendesk, t, opened.clock}
		path := ticketPath(CallerTickets[1], "")
		if got := a.do("PUT", path, body); got.status >= 500 {
			t.Errorf("PUT %q answered %d %s", body, got.status, got.raw)
		}
		var shown struct {
			Ticket ticket `json:"ticket"`
		}
		if err := json.Unmarshal(a.do("GET", path, "").want(t, 200).raw, &shown); err != nil {
			t.Errorf("after PUT %q: %v", body, err)
		}
		if got := a.do("POST", "/api/v2/tickets", body); got.status >= 500 {
			t.Errorf("POST %q answered %d %s", body, got.status, got.raw)
		}
	})
}

func TestRequestedOrder(t *testing.T) {
	a := open(t, Config{})
	solved, terminal, second := fmt.Sprint(CallerTickets[0]), fmt.Sprint(CallerTickets[1]), fmt.Sprint(CallerTickets[2])
	a.clock.advance(time.Second)
	a.update(CallerTickets[1], `{"comment":{"body":"x","public":false}}`).want(t, 200)
	for parameters, want := range map[string][]string{
		"":                                           {solved, terminal, second},
		"sort_by=updated_at":                         {solved, second, terminal},
		"sort_by=updated_at&sort_order=desc":         {terminal, second, solved},
		"sort_by=created_at&sort_order=desc":         {second, terminal, solved},
		"sort_by=nothing&sort_order=desc":            {solved, terminal, second},
		"page[size]=3&sort=-updated_at":              {terminal, second, solved},
		"page[size]=3&sort_by=updated_at":            {solved, terminal, second},
		"per_page=1&page=2&sort_by=updated_at":       {second},
		"sort_by=updated_at&sort_order=asc&per_page": {solved, second, terminal},
	} {
		got := a.do("GET", fmt.Sprintf("/api/v2/users/%d/tickets/requested.json?%s", Caller.ID, parameters), "").want(t, 200)
		if diff := cmp.Diff(want, got.ids("tickets")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", parameters, diff)
		}
	}
	// The second page by cursor goes on in the same order.
	first := a.do("GET", fmt.Sprintf("/api/v2/users/%d/tickets/requested.json?page[size]=1&sort=-updated_at", Caller.ID), "")
	next := a.do("GET", strings.TrimPrefix(first.text("links", "next"), a.Origin()), "").want(t, 200)
	if got := append(first.ids("tickets"), next.ids("tickets")...); !cmp.Equal(got, []string{terminal, second}) {
		t.Errorf("by cursor: %v", got)
	}
}
