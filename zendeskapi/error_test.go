package zendeskapi

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestErrorBodies(t *testing.T) {
	for name, tt := range map[string]struct {
		status  int
		header  map[string]string
		body    string
		kind    Kind
		code    string
		detail  string
		fields  []FieldError
		noRoute bool
	}{
		"record invalid": {
			status: 422, kind: InvalidRequest, code: "RecordInvalid",
			body:   `{"error":"RecordInvalid","description":"Record validation errors","details":{"status":[{"description":"Status: closed prevents ticket update","error":"InvalidValue"}],"base":["odd"]}}`,
			detail: "Record validation errors; base: odd; status: Status: closed prevents ticket update",
			fields: []FieldError{{Field: "base", Description: "odd"}, {Field: "status", Code: "InvalidValue", Description: "Status: closed prevents ticket update"}},
		},
		"titled":             {status: 403, body: `{"error":{"title":"Forbidden","message":"You do not have access"}}`, kind: AccessDenied, code: "Forbidden", detail: "You do not have access", noRoute: true},
		"record not found":   {status: 404, body: `{"error":"RecordNotFound","description":"Not found"}`, kind: NotFound, code: "RecordNotFound", detail: "Not found"},
		"invalid endpoint":   {status: 404, body: `{"error":"InvalidEndpoint","description":"Not found"}`, kind: NotFound, code: "InvalidEndpoint", detail: "Not found", noRoute: true},
		"404 as HTML":        {status: 404, body: `<!DOCTYPE html><title>Not here</title>`, kind: NotFound, noRoute: true},
		"errors list":        {status: 400, body: `{"errors":[{"code":"InvalidCursor","title":"Invalid cursor","detail":"page[after] is odd","status":"400"},{"code":7}]}`, kind: InvalidRequest, code: "InvalidCursor", detail: "Invalid cursor: page[after] is odd; 7"},
		"too many values":    {status: 400, body: `{"error":"TooManyValues","description":"Parameter must be a list of up to 100 values","max_count":100}`, kind: InvalidRequest, code: "TooManyValues", detail: "Parameter must be a list of up to 100 values"},
		"invalid token":      {status: 401, body: `{"error":"invalid_token","error_description":"The access token provided is expired"}`, kind: CredentialsRejected, code: "invalid_token", detail: "The access token provided is expired"},
		"bad credentials":    {status: 401, body: `{"error":"Couldn't authenticate you"}`, kind: CredentialsRejected, code: "Couldn't authenticate you"},
		"text":               {status: 403, body: "You are missing the following\r\nrequired scopes: \u202eread", kind: AccessDenied, detail: "You are missing the following required scopes: read", noRoute: true},
		"HTML":               {status: 500, body: "<html><body>Oops</body></html>", kind: Unavailable},
		"empty":              {status: 401, kind: CredentialsRejected},
		"JSON text":          {status: 400, body: `"odd"`, kind: InvalidRequest, detail: "odd"},
		"JSON list":          {status: 400, body: `["odd"]`, kind: InvalidRequest},
		"grant used up":      {status: 400, body: `{"error":"invalid_grant","error_description":"used"}`, kind: CredentialsRejected, code: "invalid_grant", detail: "used"},
		"payment":            {status: 402, kind: AccessDenied, noRoute: true},
		"gone":               {status: 410, body: `{"error":"Gone"}`, kind: NotFound, code: "Gone"},
		"request timeout":    {status: 408, kind: Timeout},
		"conflict":           {status: 409, body: `{"error":"UpdateConflict","description":"Safe Update prevented the update"}`, kind: Conflict, code: "UpdateConflict", detail: "Safe Update prevented the update"},
		"teapot":             {status: 418, kind: InvalidRequest},
		"throttled":          {status: 429, header: map[string]string{"Retry-After": "3600"}, body: `{"error":"APIRateLimitExceeded","description":"Number of allowed API requests per minute exceeded"}`, kind: RateLimited, code: "APIRateLimitExceeded", detail: "Number of allowed API requests per minute exceeded"},
		"throttled as text":  {status: 429, header: map[string]string{"Retry-After": "3600"}, body: "Too many", kind: RateLimited, detail: "Too many"},
		"503 that throttles": {status: 503, header: map[string]string{"Retry-After": "3600"}, kind: RateLimited},
		"not implemented":    {status: 501, kind: Unavailable},
		"search is too wide": {status: 422, body: `{"error":"invalid","description":"Invalid search: Requested response size was greater than Search Response Limits"}`, kind: InvalidRequest, code: "invalid", detail: "Invalid search: Requested response size was greater than Search Response Limits"},
		"redirect elsewhere": {status: 302, header: map[string]string{"Location": "https://evil.example/"}, kind: BadResponse},
		"error under 200":    {status: 200, body: `{"error":"RecordNotFound","description":"Not found"}`, kind: NotFound, code: "RecordNotFound", detail: "Not found"},
		"token under 200":    {status: 200, body: `{"error":"invalid_token"}`, kind: CredentialsRejected, code: "invalid_token"},
		"unknown under 200":  {status: 200, body: `{"results":[],"count":0,"error":"Strange"}`, kind: BadResponse, code: "Strange"},
		"titled under 200":   {status: 200, body: `{"error":{"title":"Forbidden"}}`, kind: AccessDenied, code: "Forbidden", noRoute: true},
		"HTML under 200":     {status: 200, body: "<html>Maintenance</html>", kind: BadResponse},
		"empty under 200":    {status: 200, kind: BadResponse},
		"204":                {status: 204, kind: BadResponse},
		"spaces under 200":   {status: 200, body: " \n", kind: BadResponse},
		"null under 200":     {status: 200, body: "null", kind: BadResponse},
		"list under 200":     {status: 200, body: "[]", kind: BadResponse},
		"truncated":          {status: 200, body: `{"results":[{"id":1},{"id`, kind: BadResponse},
		"two values":         {status: 200, body: `{"results":[],"count":0}{}`, kind: BadResponse},
		"results missing":    {status: 200, body: `{"count":0}`, kind: BadResponse},
		"results null":       {status: 200, body: `{"results":null,"count":0}`, kind: BadResponse},
		"results object":     {status: 200, body: `{"results":{},"count":0}`, kind: BadResponse},
		"result a number":    {status: 200, body: `{"results":[1],"count":1}`, kind: BadResponse},
		"result null":        {status: 200, body: `{"results":[null],"count":1}`, kind: BadResponse},
		"count a text":       {status: 200, body: `{"results":[],"count":"many"}`, kind: BadResponse},
		"count missing":      {status: 200, body: `{"results":[],"next_page":"https://x/api/v2/search.json?page=2"}`, kind: BadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			header := map[string]string{"X-Request-Id": "r-1"}
			for k, v := range tt.header {
				header[k] = v
			}
			client := newClient(t, reply{tt.status, header, tt.body})
			_, err := client.Search(t.Context(), SearchQuery{Query: "q", Max: 10})
			e := failed(t, err, tt.kind)
			if e.StatusCode != tt.status || e.RequestID != "r-1" || e.Op != "search" || e.Unknown() {
				t.Errorf("error is %+v, unknown %t", *e, e.Unknown())
			}
			if diff := cmp.Diff([]any{tt.code, tt.detail, tt.fields}, []any{e.Code, e.Detail, e.Fields}); diff != "" {
				t.Error(diff)
			}
			if e.Body() != tt.body {
				t.Errorf("body is %q", e.Body())
			}
			if e.EndpointUnavailable() != tt.noRoute {
				t.Errorf("EndpointUnavailable is %t", e.EndpointUnavailable())
			}
			if e.Message() == "" || strings.Contains(e.Error(), "Not found") {
				t.Errorf("texts are %q and %q", e.Message(), e.Error())
			}
		})
	}
}

func TestBodyIsBounded(t *testing.T) {
	for name, filler := range map[string]string{"ascii": "a", "four bytes": "🦉", "invalid": "\xffa"} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, reply{status: http.StatusForbidden, body: "x" + strings.Repeat(filler, 100<<10)})
			_, err := client.Me(t.Context())
			body := failed(t, err, AccessDenied).Body()
			if len(body) > 64<<10 || len(body) < 64<<10-utf8.UTFMax || !utf8.ValidString(body) {
				t.Errorf("body has %d bytes, valid %t", len(body), utf8.ValidString(body))
			}
		})
	}
}

// Whoever leaves out what is refused must know each part of it.
func TestFieldErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		want []FieldError
	}{
		"requester and more": {
			`{"error":"RecordInvalid","description":"Record validation errors","details":{"requester":[{"description":"Requester: Kim is suspended."}],"status":[{"description":"Status: is odd","error":"InvalidValue"},{"description":"Status: is late"}],"assignee":[{"error":"InvalidValue"}]}}`,
			[]FieldError{{Field: "assignee", Code: "InvalidValue"}, {Field: "requester", Description: "Requester: Kim is suspended."}, {Field: "status", Code: "InvalidValue", Description: "Status: is odd"}, {Field: "status", Description: "Status: is late"}},
		},
		"a ticket field": {
			`{"error":"RecordInvalid","details":{"base":[{"description":"Score: is required","error":"BlankValue","ticket_field_id":360001,"ticket_field_type":"integer"}]}}`,
			[]FieldError{{Field: "base", Code: "BlankValue", Description: "Score: is required", TicketField: "360001"}},
		},
		"texts":              {`{"details":{"base":"odd","email":["one","two"]}}`, []FieldError{{Field: "base", Description: "odd"}, {Field: "email", Description: "one"}, {Field: "email", Description: "two"}}},
		"an object":          {`{"details":{"base":{"description":"odd","error":"E"}}}`, []FieldError{{Field: "base", Code: "E", Description: "odd"}}},
		"parts of a part":    {`{"details":{"requester":{"name":[{"description":"is short"}],"email":["is odd"]}}}`, []FieldError{{Field: "requester", Description: "email: is odd"}, {Field: "requester", Description: "name: is short"}}},
		"named and no more":  {`{"details":{"status":[],"base":null,"odd":true}}`, []FieldError{{Field: "base"}, {Field: "odd"}, {Field: "status"}}},
		"under errors":       {`{"errors":{"base":[{"description":"odd"}]}}`, []FieldError{{Field: "base", Description: "odd"}}},
		"details are a list": {`{"error":"x","details":["odd"]}`, nil},
		"no details":         {`{"error":"x"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t, reply{status: 422, body: tt.body}).UpdateTicket(t.Context(), "1", TicketUpdate{})
			if diff := cmp.Diff(tt.want, failed(t, err, InvalidRequest).Fields); diff != "" {
				t.Error(diff)
			}
		})
	}
	// None is crowded out by another.
	var many strings.Builder
	for i := range 100 {
		many.WriteString(`{"description":"x` + strings.Repeat("y", i) + `"},`)
	}
	body := `{"details":{"base":[` + strings.TrimSuffix(many.String(), ",") + `],"status":["closed"]}}`
	_, err := newClient(t, reply{status: 422, body: body}).UpdateTicket(t.Context(), "1", TicketUpdate{})
	fields := failed(t, err, InvalidRequest).Fields
	if len(fields) != maxPerField+1 || fields[len(fields)-1].Field != "status" {
		t.Errorf("fields are %+v", fields)
	}
}

func TestFieldErrorCustomField(t *testing.T) {
	for field, want := range map[string]string{
		"custom_fields.360001": "360001", "custom_field_360001": "360001", "ticket_field_360001": "360001", "fields.360001": "360001", "ticket.custom_fields.360001": "360001",
		"custom_fields[360001]": "360001", "360001": "360001", "base": "", "status": "", "custom_fields": "", "custom_fields.x": "", "requester": "",
	} {
		if id, ok := (FieldError{Field: field}).CustomField(); id != want || ok != (want != "") {
			t.Errorf("%q is of field %q, %t", field, id, ok)
		}
	}
	if id, ok := (FieldError{Field: "base", TicketField: "7"}).CustomField(); id != "7" || !ok {
		t.Errorf("field is %q, %t", id, ok)
	}
}

// What the fake refuses part by part arrives part by part.
func TestRefusedPartsOfATicket(t *testing.T) {
	client, zendesk := fakeClient(t, zendesktest.Config{})
	if err := zendesk.RequireField(zendesktest.ScoreField, true); err != nil {
		t.Fatal(err)
	}
	parts := func(err error) map[string]string {
		found := map[string]string{}
		for _, f := range failed(t, err, InvalidRequest).Fields {
			id, _ := f.CustomField()
			found[f.Field] = id
		}
		return found
	}
	_, err := client.CreateTicket(t.Context(), TicketCreate{Comment: "c", Requester: &Requester{Name: "Kim", Email: "kim@example.com8050262430"}}, "key")
	if diff := cmp.Diff(map[string]string{"requester": ""}, parts(err)); diff != "" {
		t.Error(diff)
	}
	_, err = client.UpdateTicket(t.Context(), number64(zendesktest.CallerTickets[0]), TicketUpdate{Comment: "c"})
	if diff := cmp.Diff(map[string]string{"base": number64(zendesktest.ScoreField)}, parts(err)); diff != "" {
		t.Error(diff)
	}
	_, err = client.UpdateTicket(t.Context(), number64(zendesktest.ClosedTicket), TicketUpdate{Comment: "c"})
	if diff := cmp.Diff(map[string]string{"status": ""}, parts(err)); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersAndRequestsAreBounded(t *testing.T) {
	client := newClient(t, reply{body: `{"user":{"name":"` + strings.Repeat("x", maxAnswerBytes) + `"}}`})
	_, err := client.Me(t.Context())
	fails(t, err, BadResponse)

	zendesk := scripted(reply{body: `{}`})
	client = newClient(t, zendesk)
	_, err = client.UpdateTicket(t.Context(), "1", TicketUpdate{Comment: strings.Repeat("x", maxRequestBytes)})
	fails(t, err, InvalidRequest)
	if len(zendesk.requests()) != 0 {
		t.Error("an over-long request was sent")
	}
}

func FuzzErrorBody(f *testing.F) {
	for _, seed := range []string{
		`{"error":"RecordInvalid","description":"d","details":{"status":[{"description":"d","error":"e"}],"x":"y","z":{"a":1}}}`,
		`{"error":{"title":"t","message":"m"}}`, `{"errors":[{"code":1,"title":null,"detail":"d"},"x"]}`,
		`{"error":"invalid_token","error_description":"x"}`, "<html>", "", "null", "text\x00\xff", `{"error":`, `{"error":[]}`, `{"details":[]}`,
	} {
		f.Add([]byte(seed), 422)
	}
	client := newClient(f, reply{})
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		said, _ := parseFault(body, client.tell)
		e := client.refusal(newAnswer(status, http.Header{}), said)
		e.body = secret.New(client.tellBody(body))
		texts := []string{e.Code, e.Detail, e.Message()}
		for _, field := range e.Fields {
			texts = append(texts, field.Field, field.Code, field.Description)
		}
		for _, text := range texts {
			if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\r\n\t") || utf8.RuneCountInString(text) > 600 {
				t.Errorf("text %q is not for people", text)
			}
		}
		if !utf8.ValidString(e.Body()) || len(e.Body()) > maxBodyTextBytes {
			t.Error("body is not as promised")
		}
		if _, known := kindTexts[e.Kind]; !known {
			t.Errorf("kind %q is unknown", e.Kind)
		}
	})
}
