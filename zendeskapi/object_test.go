package zendeskapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// fakeClient makes a client of a fake Zendesk that acts as its administrator.
func fakeClient(t *testing.T, config zendesktest.Config) (*Client, *zendesktest.Zendesk) {
	t.Helper()
	zendesk := zendesktest.New(config)
	if err := zendesk.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := zendesk.Close(); err != nil {
			t.Error(err)
		}
	})
	client := clientOf(t, zendesk.Origin())
	client.credential = APITokenCredential(zendesktest.Admin.Email, secret.New(zendesktest.Admin.APIToken))
	return client, zendesk
}

// edits put values into answers, by their paths.
func edits(paths map[string]string) *zendesktest.Edit {
	set := map[string]json.RawMessage{}
	for path, value := range paths {
		set[path] = json.RawMessage(value)
	}
	return &zendesktest.Edit{Set: set}
}

func TestReadObject(t *testing.T) {
	for text, want := range map[string][]string{ // names and values in turn; nil: refused
		`{}`:                                {},
		` {"a":1 , "b":[{"c" : null}]} `:    {"a", "1", "b", `[{"c" : null}]`},
		`{"a":"\ud83d","a":2,"A":3}`:        {"a", `"\ud83d"`, "a", "2", "A", "3"},
		`{"id":46000000000000000000000001}`: {"id", "46000000000000000000000001"},
		``:                                  nil,
		`null`:                              nil,
		`[]`:                                nil,
		`"x"`:                               nil,
		`{}{}`:                              nil,
		`{} x`:                              nil,
		`{"a":1,}`:                          nil,
		`{"a"}`:                             nil,
		`{"a":`:                             nil,
		`{"a":1`:                            nil,
		`{1:2}`:                             nil,
	} {
		o, err := readObject([]byte(text))
		if want == nil {
			if err == nil {
				t.Errorf("%s is read", text)
			}
			continue
		}
		got := []string{}
		for _, m := range o {
			got = append(got, m.name, string(m.value))
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
}

func FuzzReadObject(f *testing.F) {
	for _, text := range []string{`{"a":1,"A":[{}],"b":"\ud83d"}`, `{"results":[],"count":-1}`, `{"a":1}{}`, `{`, `{"\u0061":null}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := readObject(text)
		var members map[string]json.RawMessage
		valid := json.Unmarshal(text, &members) == nil && members != nil
		if valid != (err == nil) {
			t.Fatalf("%q: %v, and package json says %t", text, err, valid)
		}
		for _, m := range o {
			value, err := o.get(m.name)
			if err == nil && string(value) != string(m.value) {
				t.Errorf("%q of %q is %q", m.name, text, value)
			}
		}
		_, _, _ = o.inner("a").text("b"), o.texts("a"), o.time("a")
	})
}

// Names are exact, and what decides is said once.
func TestDecidingMembers(t *testing.T) {
	o, err := readObject([]byte(`{"a":1,"b":1,"B":2,"c":1,"c":1,"D":1,"l":[],"o":{},"n":null,"t":"x","i":"12","j":34}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "1", "b": "twice", "B": "twice", "c": "twice", "D": "1", "d": "", "x": ""} {
		got, err := o.get(name)
		if (err != nil) != (want == "twice") || err == nil && string(got) != want {
			t.Errorf("%q is %q, %v", name, got, err)
		}
	}
	for name, ok := range map[string]bool{"i": true, "j": true, "n": true, "x": true, "t": false, "l": false, "o": false} {
		if _, err := o.id(name); (err == nil) != ok {
			t.Errorf("id %q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{"l": true, "n": true, "x": true, "o": false, "a": false} {
		if _, err := o.list(name); (err == nil) != ok {
			t.Errorf("list %q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{"o": true, "n": true, "x": true, "l": false, "a": false} {
		if _, err := o.object(name); (err == nil) != ok {
			t.Errorf("object %q: %v", name, err)
		}
	}
}

func TestWhole(t *testing.T) {
	for raw, want := range map[string]int64{`5`: 5, `"5"`: 5, `5.0`: 5, `-1`: -1, `9007199254740993`: 9007199254740993, `1e2`: 100} {
		if got, ok := whole(json.RawMessage(raw)); !ok || got != want {
			t.Errorf("%s is %d, %t", raw, got, ok)
		}
	}
	for _, raw := range []string{``, `null`, `5.5`, `"many"`, `true`, `[]`, `1e300`, `99999999999999999999999`} {
		if got, ok := whole(json.RawMessage(raw)); ok {
			t.Errorf("%s is %d", raw, got)
		}
	}
}

// What decides nothing may be of any type: each answer of the fake is made odd in turn.
func TestOddValuesSpoilNothing(t *testing.T) {
	client, zendesk := fakeClient(t, zendesktest.Config{})
	id := number64(zendesktest.CallerTickets[1])
	tests := map[string]struct {
		set map[string]string
		ask func(t *testing.T) any
		is  any
	}{
		"ticket": {
			map[string]string{
				"/ticket/external_id": `42`, "/ticket/id": `"` + id + `"`, "/ticket/subject": `{"a":1}`, "/ticket/created_at": `-1`, "/ticket/due_at": `"never"`,
				"/ticket/assignee_id": `[]`, "/ticket/tags": `{"x":1}`, "/ticket/custom_fields": `"none"`, "/ticket/requester_id": `"46000000000007"`,
			},
			func(t *testing.T) any {
				ticket, err := client.Ticket(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				return []string{ticket.ID, ticket.Status, ticket.ExternalID, ticket.RequesterID, ticket.Subject}
			},
			[]string{id, "open", "42", "46000000000007", ""},
		},
		"update": {
			map[string]string{"/ticket/id": `{}`, "/ticket/status": `7`, "/ticket/updated_at": `null`, "/audit/id": `"9"`, "/audit/events": `0`},
			func(t *testing.T) any {
				change, err := client.UpdateTicket(t.Context(), id, TicketUpdate{Comment: "c"})
				if err != nil {
					t.Fatal(err)
				}
				return []string{change.Ticket.ID, change.AuditID}
			},
			[]string{id, "9"},
		},
		"update without a readable audit": {
			map[string]string{"/audit": `"gone"`},
			func(t *testing.T) any {
				change, err := client.UpdateTicket(t.Context(), id, TicketUpdate{Comment: "c"})
				if err != nil {
					t.Fatal(err)
				}
				return change.AuditID
			},
			"",
		},
		"audits": {
			map[string]string{"/audits/*/author_id": `-1`, "/audits/*/id": `"77"`, "/audits/*/events": `{}`, "/audits/0/via": `7`, "/audits/-": `"odd"`},
			func(t *testing.T) any {
				audits, err := client.TicketAudits(t.Context(), id, time.Time{})
				if err != nil || len(audits) < 2 {
					t.Fatal(audits, err)
				}
				return []string{audits[0].ID, audits[0].AuthorID}
			},
			[]string{"77", "-1"},
		},
		"tickets by external id": {
			map[string]string{"/tickets/*/external_id": `77`, "/tickets/*/status": `null`, "/tickets/-": `[]`},
			func(t *testing.T) any {
				tickets, err := client.TicketsByExternalID(t.Context(), "77")
				if err != nil {
					t.Fatal(err)
				}
				return len(tickets)
			},
			1,
		},
		"me": {
			map[string]string{"/user/name": `7`, "/user/active": `"yes"`, "/user/created_at": `{}`, "/user/id": `"46000000000001"`},
			func(t *testing.T) any {
				user, err := client.Me(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return user
			},
			User{ID: "46000000000001", Name: "7", Email: zendesktest.Admin.Email, Role: "admin", Active: true},
		},
		"ticket fields": {
			map[string]string{"/ticket_fields/0": `null`, "/ticket_fields/1/id": `-5`, "/ticket_fields/2/custom_field_options": `7`, "/ticket_fields/3/title": `[]`, "/ticket_fields/4/position": `"x"`},
			func(t *testing.T) any {
				fields, err := client.TicketFields(t.Context())
				if err != nil || len(fields) < 20 {
					t.Fatal(len(fields), err)
				}
				return slices.ContainsFunc(fields, func(f TicketField) bool { return f.ID == number64(zendesktest.DispositionField) && len(f.Options) == 5 })
			},
			true,
		},
		"search": {
			map[string]string{"/facets": `[1]`, "/previous_page": `7`, "/next_page": `7`, "/results/0/name": `"half \ud83d"`, "/results/0/created_at": `-1`},
			func(t *testing.T) any {
				found, err := client.Search(t.Context(), SearchQuery{Query: "type:user phone:*5135557611", Max: 1})
				if err != nil {
					t.Fatal(err)
				}
				return strings.Contains(string(found.Records[0]), `"name":"half \ud83d"`)
			},
			true,
		},
	}
	if _, err := client.CreateTicket(t.Context(), TicketCreate{Comment: "c", ExternalID: "77"}, ""); err != nil {
		t.Fatal(err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			zendesk.AddFault(zendesktest.Fault{Edit: edits(test.set)})
			defer zendesk.ClearFaults()
			if diff := cmp.Diff(test.is, test.ask(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func number64(id int64) string { return strconv.FormatInt(id, 10) }

// What decides must be readable, and said once: else nobody knows what there is.
func TestDecidingValuesDecide(t *testing.T) {
	ctx := t.Context()
	search := func(c *Client) error { _, err := c.Search(ctx, SearchQuery{Query: "q", Max: 10}); return err }
	ticket := func(c *Client) error { _, err := c.Ticket(ctx, "1"); return err }
	audits := func(c *Client) error { _, err := c.TicketAudits(ctx, "1", time.Time{}); return err }
	fields := func(c *Client) error { _, err := c.TicketFields(ctx); return err }
	byExternalID := func(c *Client) error { _, err := c.TicketsByExternalID(ctx, "x"); return err }
	me := func(c *Client) error { _, err := c.Me(ctx); return err }
	current := func(c *Client) error { _, err := c.CurrentToken(ctx); return err }
	create := func(c *Client) error { _, err := c.CreateTicket(ctx, TicketCreate{Comment: "c"}, ""); return err }
	for name, test := range map[string]struct {
		body string
		ask  func(*Client) error
	}{
		"negative count":           {`{"results":[],"count":-1}`, search},
		"count with a fraction":    {`{"results":[],"count":0.5}`, search},
		"count beyond all":         {`{"results":[],"count":99999999999999999999}`, search},
		"count an object":          {`{"results":[],"count":{}}`, search},
		"count twice":              {`{"results":[],"count":0,"count":1}`, search},
		"results twice":            {`{"results":[{"id":1}],"results":[],"count":0}`, search},
		"results beside Results":   {`{"results":[{"id":1}],"Results":[],"count":0}`, search},
		"Results beside results":   {`{"Results":[{"id":1}],"results":[],"count":0}`, search},
		"Results alone":            {`{"Results":[],"count":0}`, search},
		"results with a long s":    {`{"result\u017f":[],"results":[],"count":0}`, search},
		"results a text":           {`{"results":"","count":0}`, search},
		"results false":            {`{"results":false,"count":0}`, search},
		"ticket twice":             {`{"ticket":{"id":1,"status":"open","updated_at":"2026-11-24T12:00:00Z"},"ticket":null}`, ticket},
		"status twice":             {`{"ticket":{"id":1,"status":"open","status":"closed","updated_at":"2026-11-24T12:00:00Z"}}`, ticket},
		"no status":                {`{"ticket":{"id":1,"updated_at":"2026-11-24T12:00:00Z"}}`, ticket},
		"status a list":            {`{"ticket":{"id":1,"status":["open"],"updated_at":"2026-11-24T12:00:00Z"}}`, ticket},
		"no stamp":                 {`{"ticket":{"id":1,"status":"open"}}`, ticket},
		"stamp a number":           {`{"ticket":{"id":1,"status":"open","updated_at":1795521600}}`, ticket},
		"ticket without id":        {`{"ticket":{"status":"open","updated_at":"2026-11-24T12:00:00Z"}}`, ticket},
		"created without id":       {`{"ticket":{"status":"open"}}`, create},
		"no audits":                {`{"audits":null}`, audits},
		"audits twice":             {`{"audits":[],"Audits":[{"id":1}]}`, audits},
		"all audits odd":           {`{"audits":[1,"x",null]}`, audits},
		"more audits, perhaps":     {`{"audits":[],"meta":{"has_more":"true"},"links":{"next":"/api/v2/x"}}`, audits},
		"more fields, perhaps":     {`{"ticket_fields":[{"id":1}],"next_page":7}`, fields},
		"all fields odd":           {`{"ticket_fields":[{"id":"x"}]}`, fields},
		"ticket found, perhaps":    {`{"tickets":[{"id":1,"external_id":"x","External_ID":"y"}]}`, byExternalID},
		"ticket found, which?":     {`{"tickets":[{"id":null,"external_id":"x"}]}`, byExternalID},
		"user twice":               {`{"user":{"id":1},"User":{"id":null}}`, me},
		"role twice":               {`{"user":{"id":1,"role":"admin","role":"end-user"}}`, me},
		"token twice":              {`{"token":{"id":1},"token":{"id":2}}`, current},
		"scopes of a token, twice": {`{"token":{"id":1,"scopes":["read"],"scopes":[]}}`, current},
	} {
		t.Run(name, func(t *testing.T) {
			fails(t, test.ask(newClient(t, reply{body: test.body})), BadResponse)
		})
	}
}

// A mark that stands in odd metadata is found all the same: it must not be written again.
func TestAuditsMarksAreFound(t *testing.T) {
	const at = `"created_at":"2026-11-24T12:00:00Z"`
	client := newClient(t, reply{body: `{"audits":[
		{"id":1,` + at + `,"metadata":{"custom":{"mark":"a"}},"metadata":{"custom":{"mark":"b"}}},
		{"id":2,` + at + `,"metadata":{"custom":{"other":1},"custom":{"mark":"c"}}},
		{"id":3,"created_at":"long ago","metadata":{"system":7,"custom":{"mark":"d"}}},
		{"id":{},` + at + `,"metadata":{"custom":{"mark":"e"}}},
		{"id":5,` + at + `,"metadata":null},
		{"id":6,` + at + `,"metadata":{"custom":"mark"}}]}`})
	audits, err := client.TicketAudits(t.Context(), "1", time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	var marks []string
	for _, a := range audits {
		mark, _ := a.Metadata["mark"].(string)
		marks = append(marks, a.ID+mark)
	}
	if diff := cmp.Diff([]string{"3d", "1b", "2c", "e", "5", "6"}, marks); diff != "" {
		t.Error(diff)
	}
}

func TestTimesAreZendesks(t *testing.T) {
	const date = "Tue, 24 Nov 2026 12:00:01 GMT"
	want := time.Date(2026, 11, 24, 12, 0, 1, 0, time.UTC)
	headers := map[string]string{"Date": date}
	client := newClient(t, scripted(
		reply{header: headers, body: `{"ticket":{"id":1,"status":"open","updated_at":"2026-11-24T12:00:00Z"}}`},
		reply{header: headers, body: `{"ticket":{"id":1}}`},
		reply{header: headers, body: `{"audits":[{"id":1,"created_at":"2026-11-24T12:00:00Z"}]}`},
		reply{header: headers, status: 422},
		reply{header: headers, body: `{}`},
		reply{header: map[string]string{"Date": "today"}, status: 422},
	))
	ticket, err := client.Ticket(t.Context(), "1")
	if err != nil || !ticket.ReadAt.Equal(want) || !ticket.UpdatedAt.Equal(want.Add(-time.Second)) {
		t.Errorf("ticket is %+v, %v", ticket, err)
	}
	change, err := client.UpdateTicket(t.Context(), "1", TicketUpdate{})
	if err != nil || !change.Ticket.ReadAt.Equal(want) {
		t.Errorf("change is %+v, %v", change, err)
	}
	audits, err := client.TicketAudits(t.Context(), "1", time.Time{})
	if err != nil || !audits[0].ReadAt.Equal(want) {
		t.Errorf("audits are %+v, %v", audits, err)
	}
	_, err = client.UpdateTicket(t.Context(), "1", TicketUpdate{})
	if e := failed(t, err, InvalidRequest); !e.Date.Equal(want) {
		t.Errorf("date is %v", e.Date)
	}
	_, err = client.Ticket(t.Context(), "1")
	if e := failed(t, err, BadResponse); !e.Date.Equal(want) {
		t.Errorf("date is %v", e.Date)
	}
	before := time.Now()
	_, err = client.UpdateTicket(t.Context(), "1", TicketUpdate{})
	if e := failed(t, err, InvalidRequest); e.Date.Before(before.Truncate(time.Second)) || e.Date.After(time.Now()) {
		t.Errorf("date is %v", e.Date)
	}
	_, err = clientOf(t, "http://127.0.0.1:1").UpdateTicket(t.Context(), "1", TicketUpdate{})
	if e := failed(t, err, Unavailable); !e.Date.IsZero() {
		t.Errorf("date is %v without an answer", e.Date)
	}
}

func TestStampWait(t *testing.T) {
	stamp := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for age, want := range map[time.Duration]time.Duration{
		0: 2 * time.Second, time.Second: time.Second, 2 * time.Second: 0, time.Hour: 0, -time.Hour: 2 * time.Second,
	} {
		ticket := Ticket{UpdatedAt: stamp, ReadAt: stamp.Add(age)}
		if got := ticket.StampWait(); got != want {
			t.Errorf("a stamp of age %v is waited for %v, want %v", age, got, want)
		}
	}
}

func TestOddTokenAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		ok   bool
	}{
		"expires_in a text":       {`{"access_token":"a","refresh_token":"r","expires_in":"7200"}`, true},
		"expires_in a fraction":   {`{"access_token":"a","refresh_token":"r","expires_in":7200.0}`, true},
		"expires_in odd":          {`{"access_token":"a","refresh_token":"r","expires_in":{}}`, true},
		"expires_in endless":      {`{"access_token":"a","refresh_token":"r","expires_in":9223372036854775807}`, true},
		"token_type a number":     {`{"access_token":"a","refresh_token":"r","token_type":1}`, true},
		"scope a list":            {`{"access_token":"a","refresh_token":"r","scope":["read","write"]}`, true},
		"in other cases as well":  {`{"access_token":"a","refresh_token":"r","Token_Type":"x","token_type":"y"}`, true},
		"access token twice":      {`{"access_token":"a","access_token":"b","refresh_token":"r"}`, false},
		"refresh token twice":     {`{"access_token":"a","refresh_token":"r","Refresh_Token":"s"}`, false},
		"refresh token a number":  {`{"access_token":"a","refresh_token":7}`, false},
		"access token of a list":  {`{"access_token":["a"]}`, false},
		"an error beside a token": {`{"access_token":"a","error":"invalid_grant"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			// Not of the media type that the library wants for JSON.
			client := newClient(t, reply{header: map[string]string{"Content-Type": "text/plain"}, body: test.body})
			token, err := client.RequestToken(t.Context(), TokenRequest{ClientID: "c", Grant: RefreshTokenGrant(secret.New("old"))})
			if !test.ok {
				if e, ours := errors.AsType[*Error](err); !ours || e.StatusCode != http.StatusOK {
					t.Errorf("error is %v", err)
				}
				return
			}
			if err != nil || (token.AccessToken.Reveal() != "a" || token.RefreshToken.Reveal() != "r" || !token.ExpiresAt.After(time.Now())) {
				t.Errorf("token is %+v, %v", token, err)
			}
		})
	}
}

// What partsNamed leaves out changes nothing about the others.
func TestPartsNamed(t *testing.T) {
	for _, text := range []string{
		`{}`, ` { "id" : 1 } `, `{"x":{"id":2},"id":1,"y":["id"]}`, `{"id":1,"ID":2}`, `{"Id":1}`, `{"\u0069d":1,"result_\u0074ype":"ticket"}`,
		`{"reſult_type":"user"}`, `{"result_type":"a\"b","id":"7"}`, `{"ids":1,"i":2,"":3}`, `[]`, `1`, `{"x":0` + strings.Repeat(`,"x":0`, maxMembers) + `}`,
	} {
		all, err := partsOf([]byte(text))
		named, namedErr := partsNamed([]byte(text), "id", "result_type")
		if !errors.Is(namedErr, err) {
			t.Errorf("%.50s: the error is %v, not %v", text, namedErr, err)
		}
		for _, name := range []string{"id", "result_type"} {
			want, err := all.get(name)
			got, gotErr := named.get(name)
			if string(got) != string(want) || (gotErr == nil) != (err == nil) {
				t.Errorf("%.50s: %s is %s, %v, not %s, %v", text, name, got, gotErr, want, err)
			}
		}
		if err == nil && len(named) > 2 {
			t.Errorf("%.50s: there are %d members", text, len(named))
		}
	}
}
