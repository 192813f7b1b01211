package zendeskapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestInvoke(t *testing.T) {
	for name, tt := range map[string]struct {
		reply   reply
		method  string
		content string
		kind    Kind
		unknown bool
	}{
		"object":          {reply: reply{body: ` {"id":12345678901234567890.10}` + "\n"}, content: `{"id":12345678901234567890.10}`},
		"list":            {reply: reply{body: `[1, 2]`}, content: `[1, 2]`},
		"null":            {reply: reply{body: `null`}, content: `null`},
		"nothing":         {reply: reply{status: 204}, method: "DELETE"},
		"white space":     {reply: reply{body: " \n"}},
		"head":            {reply: reply{body: `{"a":1}`}, method: "HEAD"},
		"says error":      {reply: reply{body: `{"error":"of the customer's own"}`}, content: `{"error":"of the customer's own"}`},
		"refused in 200":  {reply: reply{body: `{"error":"RecordInvalid","description":"no"}`}, kind: InvalidRequest},
		"secret":          {reply: reply{body: `{"a":"` + canary + `"}`}, content: `{"a":"[redacted]"}`},
		"page":            {reply: reply{body: `<html>sign in</html>`}, method: "POST", kind: BadResponse, unknown: true},
		"broken":          {reply: reply{body: `{"a":`}, kind: BadResponse},
		"two values":      {reply: reply{body: `{} {}`}, kind: BadResponse},
		"large":           {reply: reply{body: `["` + strings.Repeat("x", MaxInvokeBytes-3) + `"]`}, kind: BadResponse},
		"elsewhere":       {reply: reply{status: 302, header: map[string]string{"Location": "https://evil.example/api/v2/x"}}, kind: BadResponse},
		"redirected POST": {reply: reply{status: 307, header: map[string]string{"Location": "/api/v2/x"}}, method: "POST", kind: BadResponse},
		"not there":       {reply: reply{status: 404, body: `{"error":"RecordNotFound"}`}, kind: NotFound},
		"refused":         {reply: reply{status: 422, body: `{"error":"x"}`}, method: "PUT", kind: InvalidRequest},
		"breaks":          {reply: reply{status: 500, body: `{}`}, method: "PATCH", kind: Unavailable, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			i := Invocation{Method: tt.method, Path: "/api/v2/tickets/1"}
			if i.Method == "" {
				i.Method = http.MethodGet
			}
			zendesk := scripted(tt.reply)
			got, err := newClient(t, zendesk).Invoke(t.Context(), i)
			defer got.Release()
			if tt.kind != "" {
				if e := failed(t, err, tt.kind); e.Unknown() != tt.unknown || len(zendesk.requests()) > 1 && !Reads(i.Method) {
					t.Errorf("unknown is %t, %d requests", e.Unknown(), len(zendesk.requests()))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			content := strings.Replace(tt.content, "[redacted]", redactedMark(t), 1)
			if string(got.Content) != content {
				t.Errorf("content is %.100q, want %.100q", got.Content, content)
			}
		})
	}
}

// redactedMark is what stands for a secret.
func redactedMark(t *testing.T) string {
	t.Helper()
	told, err := newClient(t, reply{}).tellRecord(json.RawMessage(`"` + canary + `"`))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(told), `"`)
}

func TestInvokeSends(t *testing.T) {
	zendesk := scripted(reply{body: `{}`})
	header := http.Header{"X-Trace": {"7"}}
	got, err := newClient(t, zendesk).Invoke(t.Context(), Invocation{
		Method: http.MethodPut, Path: "/api/v2/tickets/1.json", Query: url.Values{"a b": {"c&d"}}, Header: header,
		OnBehalfOf: "ann@example.com", Body: json.RawMessage(`{"id": 12345678901234567890}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	got.Release()
	sent := zendesk.requests()[0]
	want := []string{"PUT", "/api/v2/tickets/1.json", "a%20b=c%26d", `{"id":12345678901234567890}`, "7", "ann@example.com", "Bearer " + canary, "application/json"}
	if diff := cmp.Diff(want, []string{
		sent.Method, sent.Path, sent.Query, sent.Body, sent.Header.Get("X-Trace"), sent.Header.Get("X-On-Behalf-Of"),
		sent.Header.Get("Authorization"), sent.Header.Get("Content-Type"),
	}); diff != "" {
		t.Error(diff)
	}
	if len(header) != 1 {
		t.Errorf("the caller's headers are %v", header)
	}
}

// What is sent outlives its caller, for as long as it is told to; what is not sent does not.
func TestInvokeOutlives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			reply{body: `{"done":true}`}.ServeHTTP(w, r)
		})
		client := bubbleClient(t, slow)
		left := 0
		for outlive, kind := range map[time.Duration]Kind{0: Timeout, 3 * time.Second: Timeout, 20 * time.Second: ""} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			got, err := client.Invoke(ctx, Invocation{Method: http.MethodPost, Path: "/api/v2/x", Outlive: Outlive{For: outlive, Leaves: func() { left++ }}})
			cancel()
			got.Release()
			if kind == "" && (err != nil || string(got.Content) != `{"done":true}`) {
				t.Errorf("outliving %v: %q, %v", outlive, got.Content, err)
			} else if kind != "" {
				if e := failed(t, err, kind); !e.Unknown() {
					t.Errorf("outliving %v: the outcome is known", outlive)
				}
			}
			time.Sleep(10 * time.Second)
		}
		if left != 2 {
			t.Errorf("%d requests have left to outlive their callers", left)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := client.Invoke(ctx, Invocation{Method: http.MethodPost, Path: "/api/v2/x", Outlive: Outlive{For: time.Minute, Leaves: func() { t.Error("it leaves") }}})
		if e := failed(t, err, Canceled); !e.Unsent || e.Unknown() {
			t.Errorf("it was sent: %+v", e)
		}
	})
}

func TestWriteRecord(t *testing.T) {
	for name, tt := range map[string]struct {
		write   RecordWrite
		reply   reply
		sent    string // method, path and body
		want    RecordWritten
		kind    Kind
		unknown bool
	}{
		"create a ticket": {
			write: RecordWrite{Kind: TicketRecord, Fields: json.RawMessage(`{"subject":"<x>"}`), IdempotencyKey: "k"},
			reply: reply{status: 201, body: `{"ticket":{"id":123456789012345678}}`}, sent: `POST /api/v2/tickets.json {"ticket":{"subject":"\u003cx\u003e"}}`,
			want: RecordWritten{ID: "123456789012345678", Created: true, StatusCode: 201},
		},
		"update a ticket": {
			write: RecordWrite{Kind: TicketRecord, ID: "7", Fields: json.RawMessage(`{}`)},
			reply: reply{body: `{"ticket":{"id":7}}`, header: map[string]string{"X-Zendesk-Api-Warn": `Removed restricted keys ["ticket.a", "ticket.\u00e9", "ticket.a"] from parameters according to whitelist`}},
			sent:  `PUT /api/v2/tickets/7.json {"ticket":{}}`, want: RecordWritten{ID: "7", StatusCode: 200, Ignored: []string{"ticket.a", "ticket.é"}},
		},
		"an odd warning": {
			write: RecordWrite{Kind: TicketRecord, ID: "7", Fields: json.RawMessage(`{}`)},
			reply: reply{body: `{"ticket":{}}`, header: map[string]string{"X-Zendesk-Api-Warn": `odd ` + canary}},
			sent:  `PUT /api/v2/tickets/7.json {"ticket":{}}`, want: RecordWritten{ID: "7", StatusCode: 200, Ignored: []string{"odd " + redactedMark(t)}},
		},
		"create or update": {
			write: RecordWrite{Kind: UserRecord, OrUpdate: true, Fields: json.RawMessage(`{"email":"a@b.c"}`)},
			reply: reply{body: `{"user":{"id":7}}`}, sent: `POST /api/v2/users/create_or_update.json {"user":{"email":"a@b.c"}}`, want: RecordWritten{ID: "7", StatusCode: 200},
		},
		"an organization": {
			write: RecordWrite{Kind: OrganizationRecord, Fields: json.RawMessage(`{}`)},
			reply: reply{status: 201, body: `{"organization":{"id":7}}`}, sent: `POST /api/v2/organizations.json {"organization":{}}`, want: RecordWritten{ID: "7", Created: true, StatusCode: 201},
		},
		"answered without an id": {
			write: RecordWrite{Kind: UserRecord, Fields: json.RawMessage(`{}`)}, reply: reply{status: 201, body: `{"user":{}}`},
			sent: `POST /api/v2/users.json {"user":{}}`, kind: BadResponse, unknown: true,
		},
		"no id": {write: RecordWrite{Kind: UserRecord, ID: "x", Fields: json.RawMessage(`{}`)}, kind: InvalidRequest},
		"refused": {
			write: RecordWrite{Kind: UserRecord, Fields: json.RawMessage(`{}`)}, reply: reply{status: 422, body: `{"error":"RecordInvalid"}`},
			sent: `POST /api/v2/users.json {"user":{}}`, kind: InvalidRequest,
		},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(tt.reply)
			got, err := newClient(t, zendesk).WriteRecord(t.Context(), tt.write)
			sent := ""
			for _, r := range zendesk.requests() {
				sent += r.Method + " " + r.Path + " " + r.Body
				if r.Header.Get("Idempotency-Key") != tt.write.IdempotencyKey {
					t.Errorf("idempotency key is %q", r.Header.Get("Idempotency-Key"))
				}
			}
			if sent != tt.sent {
				t.Errorf("sent %q, want %q", sent, tt.sent)
			}
			if tt.kind != "" {
				if e := failed(t, err, tt.kind); e.Unknown() != tt.unknown {
					t.Errorf("unknown is %t", e.Unknown())
				}
				return
			}
			tt.want.Body = tt.reply.body
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

func TestIdentityTaken(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":"RecordInvalid","details":{"email":[{"description":"Email: x is already being used by another user","error":"DuplicateValue"}]}}`: "email",
		`{"error":"RecordInvalid","details":{"external_id":[{"description":"External has already been taken"}]}}`:                                   "external_id",
		`{"error":"RecordInvalid","details":{"name":[{"description":"Name: cannot be blank","error":"BlankValue"}]}}`:                               "",
		`{"error":"x"}`: "",
	} {
		_, err := newClient(t, reply{status: 422, body: body}).WriteRecord(t.Context(), RecordWrite{Kind: UserRecord, Fields: json.RawMessage(`{}`)})
		fields, taken := failed(t, err, InvalidRequest).IdentityTaken()
		if strings.Join(fields, ",") != want || taken != (want != "") {
			t.Errorf("%s: %q, %t", body, fields, taken)
		}
	}
}

func TestHolder(t *testing.T) {
	for _, tt := range []struct {
		kind               RecordKind
		field, value, body string
		query, want        string
	}{
		{UserRecord, "external_id", "a&b", `{"users":[{"id":1,"external_id":"other"},{"id":2,"external_id":"A&B"}],"next_page":null}`, "external_id=a%26b", "2"},
		{UserRecord, "email", "a@b.c", `{"users":[{"id":3,"email":"A@b.c"}],"next_page":null}`, "per_page=100&query=email%3Aa%40b.c", "3"},
		{UserRecord, "phone", "+1 (2)", `{"users":[{"id":4,"phone":"312"},{"id":5,"phone":"12"}],"next_page":null}`, "query=phone%3A%2A12", "5"},
		{OrganizationRecord, "name", "Acme", `{"organizations":[{"id":6,"name":"ACME"}],"next_page":null}`, "name=Acme", "6"},
		{OrganizationRecord, "name", "Acme", `{"organizations":[{"id":6,"name":"Acme Inc"}],"next_page":null}`, "name=Acme", ""},
		{TicketRecord, "external_id", "x", "", "", ""},
		{UserRecord, "external_id", "", "", "", ""},
	} {
		zendesk := scripted(reply{body: tt.body})
		id, found, err := newClient(t, zendesk).Holder(t.Context(), tt.kind, tt.field, tt.value)
		query := ""
		for _, r := range zendesk.requests() {
			query = r.Query
		}
		if id != tt.want || found != (tt.want != "") || err != nil || query != tt.query {
			t.Errorf("%+v: %q, %t, %v, asked %q", tt, id, found, err, query)
		}
	}
}
