package zendeskapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// unstamped leaves out the time of reading.
var unstamped = cmp.Options{cmpopts.IgnoreFields(Ticket{}, "ReadAt"), cmpopts.IgnoreFields(Audit{}, "ReadAt"), cmpopts.IgnoreUnexported(Audit{})}

func TestMe(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		want User
		kind Kind
	}{
		"admin":           {body: `{"user":{"id":46000000000001,"url":"u","name":"Ada","email":"ada@acme.com","role":"admin","active":true,"suspended":false,"verified":true}}`, want: User{"46000000000001", "Ada", "ada@acme.com", "admin", true, false}},
		"beyond floats":   {body: `{"user":{"id":9007199254740993,"name":null,"role":"novel","suspended":true}}`, want: User{ID: "9007199254740993", Role: "novel", Active: true, Suspended: true}},
		"anonymous":       {body: `{"user":{"id":null,"name":"Anonymous user","email":"invalid@example.com","role":"end-user"}}`, kind: CredentialsRejected},
		"without id":      {body: `{"user":{"name":"Anonymous user"}}`, kind: CredentialsRejected},
		"no user":         {body: `{}`, kind: BadResponse},
		"null user":       {body: `{"user":null}`, kind: BadResponse},
		"list for a user": {body: `{"user":[]}`, kind: BadResponse},
		"id as a float":   {body: `{"user":{"id":4.6e13}}`, kind: BadResponse},
		"id as an object": {body: `{"user":{"id":{}}}`, kind: BadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newClient(t, reply{body: tt.body}).Me(t.Context())
			if tt.kind != "" {
				if e := failed(t, err, tt.kind); e.StatusCode != http.StatusOK || e.Body() != tt.body || e.Attempts != 1 {
					t.Errorf("error is %+v", *e)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

// identities answers for the addresses of users, by id, and users for everything else.
func identities(users string, byUser map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, isIdentity := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/api/v2/users/"), "/identities.json")
		body := users
		if isIdentity {
			if body = byUser[id]; body == "" {
				reply{status: 404, body: `{"error":"RecordNotFound","description":"Not found"}`}.ServeHTTP(w, r)
				return
			}
		}
		reply{body: body}.ServeHTTP(w, r)
	})
}

func TestUserByEmail(t *testing.T) {
	const none = `{"identities":[]}`
	email := func(address string) string {
		return `{"identities":[{"id":1,"type":"phone_number","value":"` + address + `"},7,{"id":"2","type":"email","value":"` + address + `","primary":false}]}`
	}
	phone := func(number string) string {
		return `{"identities":[{"id":1,"type":"phone_number","value":"` + number + `"}]}`
	}
	crowd := `{"users":[{"id":1},{"id":2},{"id":3},{"id":4},{"id":5},{"id":6}]}`
	nobody := map[string]string{"1": none, "2": none, "3": none, "4": none, "5": none, "6": none}
	for name, tt := range map[string]struct {
		email    string
		users    string
		byUser   map[string]string
		want     string // id; empty: nobody
		requests int
		kind     Kind
	}{
		"primary":               {email: "joe+vip@acme.com", users: `{"users":[{"id":1,"email":"joe+vip@acme.com.au"},{"id":2,"email":"Joe+VIP@acme.com"},{"id":3,"email":null}],"next_page":"/api/v2/users/search.json?page=2"}`, want: "2", requests: 1},
		"apostrophe":            {email: "pat.o'brien@example.com", users: `{"users":[{"id":1,"email":"pat.o'brien@example.com"}]}`, want: "1", requests: 1},
		"umlaut":                {email: "jörg@example.com", users: `{"users":[{"id":1,"email":"jorg@example.com"},{"id":2,"email":"J\u00d6RG@example.com"}]}`, want: "2", requests: 1},
		"umlaut in two parts":   {email: "jo\u0308rg@example.com", users: `{"users":[{"id":1,"email":"jörg@example.com"}]}`, want: "1", requests: 1},
		"nobody":                {email: "a@b.c", users: `{"users":[]}`, requests: 1},
		"another address":       {email: "pat@old.example", users: `{"users":[{"id":1,"email":"pat@new.example","role":"agent"}]}`, byUser: map[string]string{"1": email("Pat@old.example")}, want: "1", requests: 2},
		"agents first":          {email: "pat@old.example", users: `{"users":[{"id":1,"role":"end-user"},{"id":2,"role":"agent"}]}`, byUser: map[string]string{"1": email("pat@old.example"), "2": email("pat@old.example")}, want: "2", requests: 2},
		"in the notes only":     {email: "pat@old.example", users: `{"users":[{"id":1,"role":"agent"}]}`, byUser: map[string]string{"1": phone("pat@old.example")}, requests: 2},
		"deleted meanwhile":     {email: "pat@old.example", users: `{"users":[{"id":1},{"id":2}]}`, byUser: map[string]string{"2": email("pat@old.example")}, want: "2", requests: 3},
		"deleted":               {email: "a@b.c", users: `{"users":[{"id":1,"email":"a@b.c","active":false}]}`, requests: 1},
		"too many like it":      {email: "a@b.c", users: crowd, byUser: nobody, requests: 6, kind: BadResponse},
		"one of them odd":       {email: "a@b.c", users: `{"users":[null,{"id":{},"email":"a@b.c"},{"id":"7","email":"a@b.c","active":"yes","name":[1]}]}`, want: "7", requests: 1},
		"all of them odd":       {email: "a@b.c", users: `{"users":[{"id":1,"email":"a@b.c","Email":"x@b.c"}]}`, requests: 1, kind: BadResponse},
		"identities are hidden": {email: "a@b.c", users: `{"users":[{"id":1}]}`, byUser: map[string]string{"1": `{"error":"Forbidden"}`}, requests: 2, kind: AccessDenied},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(identities(tt.users, tt.byUser))
			user, found, err := newClient(t, zendesk).UserByEmail(t.Context(), tt.email)
			if got := zendesk.requests(); len(got) != tt.requests || got[0].Path != "/api/v2/users/search.json" ||
				got[0].Query != "per_page=100&query="+strings.ReplaceAll(url.QueryEscape("email:"+tt.email), "+", "%20") {
				t.Errorf("asked %+v", got)
			}
			if tt.kind != "" {
				fails(t, err, tt.kind)
				return
			}
			if err != nil || user.ID != tt.want || found != (tt.want != "") {
				t.Errorf("got %+v, %t, %v", user, found, err)
			}
		})
	}
	zendesk := scripted(reply{body: `{"users":[]}`})
	client := newClient(t, zendesk)
	for _, email := range []string{"", "joe", "joe@acme.com type:user", `"joe@acme.com"`, "*@acme.com"} {
		_, _, err := client.UserByEmail(t.Context(), email)
		fails(t, err, InvalidRequest)
	}
	if len(zendesk.requests()) != 0 {
		t.Error("Zendesk was asked")
	}
}

func TestListsFollowPagesOnTheOwnOriginOnly(t *testing.T) {
	elsewhere := "https://evil.example"
	fields := func(id int, rest string) reply {
		return reply{body: fmt.Sprintf(`{"ticket_fields":[{"id":%d}],%s}`, id, rest)}
	}
	next := `"meta":{"has_more":true},"links":{"next":"%s/api/v2/ticket_fields.json?page%%5Bafter%%5D=%s&page%%5Bsize%%5D=100"}`
	for name, tt := range map[string]struct {
		replies []http.Handler
		want    []string
		kind    Kind
		second  string
	}{
		"cursor":            {replies: []http.Handler{fields(1, fmt.Sprintf(next, elsewhere, "x")), fields(2, `"meta":{"has_more":false},"links":{"next":"https://x/api/v2/y"}`)}, want: []string{"1", "2"}, second: "page%5Bafter%5D=x&page%5Bsize%5D=100"},
		"offset":            {replies: []http.Handler{fields(1, `"next_page":"https://evil.example/api/v2/ticket_fields.json?page=2"`), fields(2, `"next_page":null`)}, want: []string{"1", "2"}, second: "page=2"},
		"relative":          {replies: []http.Handler{fields(1, `"next_page":"/api/v2/ticket_fields.json?page=2"`), fields(2, `"next_page":null`)}, want: []string{"1", "2"}, second: "page=2"},
		"one page":          {replies: []http.Handler{fields(1, `"links":null,"meta":null`)}, want: []string{"1"}},
		"to another path":   {replies: []http.Handler{fields(1, `"next_page":"https://evil.example/oauth/tokens"`)}, kind: BadResponse},
		"to itself":         {replies: []http.Handler{fields(1, `"next_page":"/api/v2/ticket_fields.json?page%5Bsize%5D=100"`)}, kind: BadResponse},
		"no link":           {replies: []http.Handler{fields(1, `"next_page":"http://[::1"`)}, kind: BadResponse},
		"list missing":      {replies: []http.Handler{reply{body: `{"count":0}`}}, kind: BadResponse},
		"list null":         {replies: []http.Handler{reply{body: `{"ticket_fields":null}`}}, kind: BadResponse},
		"list of numbers":   {replies: []http.Handler{reply{body: `{"ticket_fields":[1]}`}}, kind: BadResponse},
		"record without id": {replies: []http.Handler{reply{body: `{"ticket_fields":[{}]}`}}, kind: BadResponse},
		"second page fails": {replies: []http.Handler{fields(1, fmt.Sprintf(next, elsewhere, "x")), reply{status: 401}}, kind: CredentialsRejected, second: "page%5Bafter%5D=x&page%5Bsize%5D=100"},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(tt.replies...)
			got, err := newClient(t, zendesk).TicketFields(t.Context())
			requests := zendesk.requests()
			if tt.second != "" && (len(requests) != 2 || requests[1].Query != tt.second || requests[1].Header.Get("Authorization") == "") {
				t.Errorf("requests are %+v", requests)
			}
			if tt.kind != "" {
				fails(t, err, tt.kind)
				return
			}
			ids := []string{}
			for _, field := range got {
				ids = append(ids, field.ID)
			}
			if diff := cmp.Diff(tt.want, ids); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

func TestListsEnd(t *testing.T) {
	n := 0
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		_, _ = fmt.Fprintf(w, `{"ticket_fields":[],"next_page":"/api/v2/ticket_fields.json?page=%d"}`, n)
	}))
	_, err := client.TicketFields(t.Context())
	if fails(t, err, BadResponse); n != maxPages {
		t.Errorf("%d pages", n)
	}
}

func TestTicketFields(t *testing.T) {
	client := newClient(t, reply{body: `{"ticket_fields":[
		{"id":360001,"type":"tagger","title":"Plan","key":null,"active":true,"required":true,"regexp_for_validation":null,
		 "custom_field_options":[{"id":1,"name":"Gold","value":"plan_gold","default":false}]},
		{"id":360002,"type":"regexp","title":"Order","active":false,"regexp_for_validation":"\\A[0-9]+\\z"}],"count":2}`})
	got, err := client.TicketFields(t.Context())
	want := []TicketField{
		{ID: "360001", Type: "tagger", Title: "Plan", Active: true, Required: true, Options: []TicketFieldOption{{"Gold", "plan_gold"}}},
		{ID: "360002", Type: "regexp", Title: "Order", Pattern: `\A[0-9]+\z`},
	}
	if diff := cmp.Diff(want, got, unstamped); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestTicketAudits(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 24, 12, minute, 0, 0, time.UTC) }
	audit := func(id, minute int, custom string) string {
		return fmt.Sprintf(`{"id":%d,"author_id":7,"created_at":%q,"metadata":{"system":{},"custom":%s},"events":[]}`, id, at(minute).Format(time.RFC3339), custom)
	}
	more := func(cursor string) string {
		return `"meta":{"has_more":true},"links":{"next":"https://x/api/v2/tickets/1/audits.json?page%5Bafter%5D=` + cursor + `"}`
	}
	newest := reply{body: `{"audits":[` + audit(9, 9, `{"zendeskblocks":"i:t:x","n":1}`) + `,` + audit(8, 8, `{}`) + `],` + more("a") + `}`}
	older := reply{body: `{"audits":[` + audit(5, 5, `null`) + `,` + audit(4, 4, `"odd"`) + `],` + more("b") + `}`}
	oldest := reply{body: `{"audits":[` + audit(1, 1, `{}`) + `],"meta":{"has_more":false}}`}
	ascending := reply{body: `{"audits":[` + audit(1, 1, `{}`) + `,` + audit(9, 9, `{}`) + `,` + audit(2, 2, `{}`) + `],` + more("c") + `}`}
	same := reply{body: `{"audits":[` + audit(1, 1, `{}`) + `,` + audit(2, 1, `{}`) + `],` + more("d") + `}`}
	for name, tt := range map[string]struct {
		replies  []http.Handler
		since    time.Time
		ids      []string
		requests int
	}{
		"all":                        {[]http.Handler{newest, older, oldest}, time.Time{}, []string{"9", "8", "5", "4", "1"}, 3},
		"ends where since is passed": {[]http.Handler{newest, older, oldest}, at(5), []string{"9", "8", "5"}, 2},
		"all in one second":          {[]http.Handler{same, newest, oldest}, at(8), []string{"9", "8"}, 3},
		"order not as asked":         {[]http.Handler{ascending, newest, oldest}, at(8), []string{"9", "9", "8"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(tt.replies...)
			got, err := newClient(t, zendesk).TicketAudits(t.Context(), "1", tt.since)
			if err != nil {
				t.Fatal(err)
			}
			ids := []string{}
			for _, a := range got {
				ids = append(ids, a.ID)
			}
			if diff := cmp.Diff(tt.ids, ids); diff != "" {
				t.Error(diff)
			}
			requests := zendesk.requests()
			if len(requests) != tt.requests || requests[0].Path != "/api/v2/tickets/1/audits.json" || requests[0].Query != "page%5Bsize%5D=100&sort=-created_at" {
				t.Errorf("requests are %+v", requests)
			}
		})
	}
	got, err := newClient(t, newest).TicketAudits(t.Context(), "1", at(9))
	want := []Audit{{ID: "9", AuthorID: "7", CreatedAt: at(9), Metadata: map[string]any{"zendeskblocks": "i:t:x", "n": 1.0}}}
	if diff := cmp.Diff(want, got, unstamped); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestTicket(t *testing.T) {
	client := newClient(t, reply{body: `{"ticket":{"id":35436,"subject":null,"status":"closed","external_id":"x:1","requester_id":46000000000001,"tags":[],"updated_at":"2026-11-24T12:00:00Z"}}`})
	got, err := client.Ticket(t.Context(), "35436")
	want := Ticket{
		ID: "35436", Status: "closed", ExternalID: "x:1", RequesterID: "46000000000001",
		Stamp: "2026-11-24T12:00:00Z", UpdatedAt: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
	}
	if diff := cmp.Diff(want, got, unstamped); diff != "" || err != nil {
		t.Error(diff, err)
	}
	_, err = newClient(t, reply{status: 404, body: `{"error":"RecordNotFound","description":"Not found"}`}).Ticket(t.Context(), "1")
	fails(t, err, NotFound)
}

func TestTicketsByExternalID(t *testing.T) {
	zendesk := scripted(reply{body: `{"tickets":[{"id":1,"external_id":"a:b c"},{"id":2,"external_id":null}],"count":2}`})
	client := newClient(t, zendesk)
	got, err := client.TicketsByExternalID(t.Context(), "a:b c")
	if diff := cmp.Diff([]Ticket{{ID: "1", ExternalID: "a:b c"}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if r := zendesk.requests()[0]; r.Path != "/api/v2/tickets.json" || r.Query != "external_id=a%3Ab%20c" {
		t.Errorf("asked %s?%s", r.Path, r.Query)
	}
	_, err = client.TicketsByExternalID(t.Context(), "")
	fails(t, err, InvalidRequest)
}

func TestUpdateTicket(t *testing.T) {
	zendesk := scripted(reply{
		header: map[string]string{"X-Zendesk-Api-Warn": "Removed restricted keys [\"x\"]\tfrom parameters"},
		body:   `{"ticket":{"id":1,"status":"open"},"audit":{"id":2127301143,"metadata":{"custom":{}}}}`,
	})
	got, err := newClient(t, zendesk).UpdateTicket(t.Context(), "1", TicketUpdate{
		Comment:      "Call of 3 min <b>",
		CustomFields: []CustomField{{"360001", "gold"}, {"9007199254740993", []string{"a", "b"}}, {"3", true}, {"4", json.Number("1.50")}, {"05", nil}},
		Metadata:     map[string]string{"zendeskblocks": "i:t:x"},
	})
	want := TicketChange{Ticket: Ticket{ID: "1", Status: "open"}, AuditID: "2127301143", Warnings: []string{`Removed restricted keys ["x"] from parameters`}}
	if diff := cmp.Diff(want, got, unstamped); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	sent := zendesk.requests()[0]
	wantBody := `{"ticket":{"comment":{"html_body":"Call of 3 min \u003cb\u003e","public":false},` +
		`"custom_fields":[{"id":360001,"value":"gold"},{"id":9007199254740993,"value":["a","b"]},{"id":3,"value":true},{"id":4,"value":1.50},{"id":5,"value":null}],` +
		`"metadata":{"zendeskblocks":"i:t:x"}}}`
	if sent.Method != http.MethodPut || sent.Path != "/api/v2/tickets/1.json" || sent.Body != wantBody || sent.Header.Get("Content-Type") != "application/json" {
		t.Errorf("sent %+v", sent)
	}
}

func TestCreateTicket(t *testing.T) {
	zendesk := scripted(reply{
		status: 201, header: map[string]string{"X-Idempotency-Lookup": "hit"},
		body: `{"ticket":{"id":7,"external_id":"x"},"audit":{"id":8}}`,
	})
	client := newClient(t, zendesk)
	got, err := client.CreateTicket(t.Context(), TicketCreate{
		Subject: "S", Comment: "C", RequesterID: "46000000000001", Requester: &Requester{Email: "not@used"}, ExternalID: "x", FollowUpOf: "6",
	}, "key-1")
	want := TicketChange{Ticket: Ticket{ID: "7", ExternalID: "x"}, AuditID: "8", Repeated: true}
	if diff := cmp.Diff(want, got, unstamped); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	if _, err := client.CreateTicket(t.Context(), TicketCreate{Comment: "C", Requester: &Requester{Name: "N", Email: "n@x"}}, ""); err != nil {
		t.Fatal(err)
	}
	sent := zendesk.requests()
	wantBody := `{"ticket":{"subject":"S","comment":{"html_body":"C","public":false},"requester_id":46000000000001,"external_id":"x","via_followup_source_id":6}}`
	if sent[0].Method != http.MethodPost || sent[0].Path != "/api/v2/tickets.json" || sent[0].Body != wantBody || sent[0].Header.Get("Idempotency-Key") != "key-1" {
		t.Errorf("sent %+v", sent[0])
	}
	wantBody = `{"ticket":{"comment":{"html_body":"C","public":false},"requester":{"name":"N","email":"n@x"}}}`
	if sent[1].Body != wantBody || sent[1].Header.Get("Idempotency-Key") != "" {
		t.Errorf("sent %+v", sent[1])
	}
}

func TestDisplay(t *testing.T) {
	zendesk := scripted(
		reply{}, reply{body: " "}, reply{body: "{}"},
		reply{status: 404, body: `{"error":"InvalidEndpoint","description":"Not found"}`},
		reply{status: 403},
		reply{status: 404, body: `{"error":"RecordNotFound","description":"Not found"}`},
		reply{body: "<html>log in</html>"},
	)
	client := newClient(t, zendesk)
	for i, tt := range []struct {
		kind    Kind
		missing bool
	}{{}, {}, {}, {NotFound, true}, {AccessDenied, true}, {NotFound, false}, {BadResponse, false}} {
		err := client.DisplayTicket(t.Context(), "46000000000001", "35436")
		if tt.kind == "" {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
			continue
		}
		if e := failed(t, err, tt.kind); e.EndpointUnavailable() != tt.missing {
			t.Errorf("%d: EndpointUnavailable is %t", i, e.EndpointUnavailable())
		}
	}
	fails(t, client.DisplayUser(t.Context(), "1", "2"), BadResponse)
	sent := zendesk.requests()
	if first, last := sent[0], sent[len(sent)-1]; first.Method != http.MethodPost || first.Body != "" ||
		first.Path != "/api/v2/channels/voice/agents/46000000000001/tickets/35436/display.json" ||
		last.Path != "/api/v2/channels/voice/agents/1/users/2/display.json" {
		t.Errorf("sent %+v and %+v", first, last)
	}
}

func TestIDsMustBeDigits(t *testing.T) {
	zendesk := scripted(reply{body: `{}`})
	client := newClient(t, zendesk)
	ctx := t.Context()
	for _, bad := range []string{"1/../2", "x", "-1", "1e3", "123456789012345678901"} {
		_, ticketErr := client.Ticket(ctx, bad)
		_, auditErr := client.TicketAudits(ctx, bad, time.Time{})
		_, updateErr := client.UpdateTicket(ctx, bad, TicketUpdate{})
		_, fieldErr := client.UpdateTicket(ctx, "1", TicketUpdate{CustomFields: []CustomField{{ID: bad}}})
		_, requesterErr := client.CreateTicket(ctx, TicketCreate{RequesterID: bad}, "")
		_, followErr := client.CreateTicket(ctx, TicketCreate{FollowUpOf: bad}, "")
		_, createFieldErr := client.CreateTicket(ctx, TicketCreate{CustomFields: []CustomField{{ID: bad}}}, "")
		for i, err := range []error{
			ticketErr, auditErr, updateErr, fieldErr, requesterErr, followErr, createFieldErr,
			client.DisplayTicket(ctx, bad, "1"), client.DisplayUser(ctx, "1", bad),
		} {
			if err == nil {
				t.Fatalf("%d: %q is accepted", i, bad)
			}
			fails(t, err, InvalidRequest)
		}
	}
	if len(zendesk.requests()) != 0 {
		t.Error("Zendesk was asked")
	}
}
