package zendesktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that moves when told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// account is an account under test, with a clock of its own.
type account struct {
	*Zendesk
	t     testing.TB
	clock *clock
}

func open(t testing.TB, config Config) *account {
	t.Helper()
	c := newClock()
	config.Clock = c.now
	if config.Origin == "" {
		config.Origin = "https://acme.zendesk.example"
	}
	return &account{Zendesk: New(config), t: t, clock: c}
}

// as puts credentials on a request.
type as func(*http.Request)

func person(p Person) as {
	return func(r *http.Request) { r.SetBasicAuth(p.Email+"/token", p.APIToken) }
}

func bearing(token string) as {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func with(key, value string) as { return func(r *http.Request) { r.Header.Set(key, value) } }

// response is an answer, decoded without losing digits.
type response struct {
	status int
	header http.Header
	raw    []byte
	body   any
}

// do sends a request, as [Admin] if nobody else is said.
func (a *account) do(method, path, body string, who ...as) response {
	a.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	person(Admin)(r)
	for _, w := range who {
		w(r)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return decode(a.t, w.Result())
}

func decode(t testing.TB, r *http.Response) response {
	t.Helper()
	defer func() { _ = r.Body.Close() }()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	got := response{status: r.StatusCode, header: r.Header, raw: raw}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		if err := decoder.Decode(&got.body); err != nil {
			t.Fatalf("answer %q: %v", raw, err)
		}
	}
	return got
}

// at walks into the body by keys and indexes; what is not there is nil.
func (r response) at(path ...any) any {
	v := r.body
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

// text is a value of the body as text; null is "<nil>".
func (r response) text(path ...any) string { return fmt.Sprint(r.at(path...)) }

// length is the number of elements of a list in the body.
func (r response) length(path ...any) int {
	list, _ := r.at(path...).([]any)
	return len(list)
}

// want fails the test unless the answer has the status.
func (r response) want(t testing.TB, status int) response {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d; body %s", r.status, status, r.raw)
	}
	return r
}

// search runs a query and lists the ids found.
func (a *account) search(query string, parameters ...string) response {
	a.t.Helper()
	path := "/api/v2/search.json?query=" + url.QueryEscape(query)
	if len(parameters) > 0 {
		path += "&" + strings.Join(parameters, "&")
	}
	return a.do("GET", path, "")
}

func (r response) ids(list string) []string {
	var ids []string
	for i := range r.length(list) {
		ids = append(ids, r.text(list, i, "id"))
	}
	return ids
}

func ticketPath(id int64, rest string) string { return fmt.Sprintf("/api/v2/tickets/%d%s", id, rest) }

func TestEveryAnswerCarriesHeaders(t *testing.T) {
	a := open(t, Config{RateLimit: 700})
	for _, path := range []string{"/api/v2/users/me.json", "/api/v2/tickets/1.json", "/api/v2/search.json", "/api/v2/nothing", "/"} {
		got := a.do("GET", path, "")
		for _, key := range []string{"X-Request-Id", "X-Rate-Limit", "X-Rate-Limit-Remaining", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"} {
			if got.header.Get(key) == "" {
				t.Errorf("%s: no header %s", path, key)
			}
		}
	}
	first := a.do("GET", "/api/v2/groups", "").header.Get("X-Request-Id")
	if second := a.do("GET", "/api/v2/groups", "").header.Get("X-Request-Id"); first == second {
		t.Errorf("two requests have the id %s", first)
	}
}

func TestUnknownPlaces(t *testing.T) {
	a := open(t, Config{})
	tests := []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/api/v2/nothing.json", 404, "InvalidEndpoint"},
		{"DELETE", "/api/v2/users/me.json", 404, "InvalidEndpoint"},
		{"GET", "/api/v2/users/1.json", 404, "RecordNotFound"},
		{"GET", "/api/v2/tickets/1/audits", 404, "RecordNotFound"},
		{"GET", "/api/v2/organizations/1", 404, "RecordNotFound"},
		{"GET", "/api/v2/groups/1", 404, "RecordNotFound"},
		{"GET", "/api/v2/ticket_fields/1", 404, "RecordNotFound"},
	}
	for _, test := range tests {
		got := a.do(test.method, test.path, "")
		if got.status != test.status || got.text("error") != test.code {
			t.Errorf("%s %s: %d %s, want %d %s", test.method, test.path, got.status, got.raw, test.status, test.code)
		}
	}
	if got := a.do("GET", "/api/v2/users/abc.json", "").want(t, 400); got.text("error", "title") != "Invalid attribute" {
		t.Errorf("an id that is no number: %s", got.raw)
	}
}

// Some clients join a base URL and a path with one slash too many.
func TestSlashesAreForgiven(t *testing.T) {
	a := open(t, Config{})
	for _, path := range []string{"/api/v2//users/me.json", "/api/v2/users/me/", "//api/v2/users//me"} {
		a.do("GET", path, "").want(t, 200)
	}
	made := a.do("POST", "/api/v2//tickets.json", `{"ticket":{"subject":"x","comment":{"body":"y"}}}`).want(t, 201)
	a.do("PUT", "/api/v2//tickets/"+made.text("ticket", "id")+".json", `{"ticket":{"subject":"z"}}`).want(t, 200)
	if next := a.do("GET", "/api/v2//tickets.json?per_page=2", "").text("next_page"); !strings.Contains(next, "/api/v2/tickets.json?") {
		t.Errorf("the next page is at %s", next)
	}
}

func TestBodyIsBounded(t *testing.T) {
	a := open(t, Config{})
	body := `{"ticket":{"comment":{"body":"` + strings.Repeat("x", maxBody) + `"}}}`
	a.do("POST", "/api/v2/tickets.json", body).want(t, http.StatusRequestEntityTooLarge)
}

func TestRateLimit(t *testing.T) {
	a := open(t, Config{RateLimit: 3, EndpointLimits: map[string]int{TicketFieldsBucket: 1}})
	a.do("GET", "/api/v2/ticket_fields.json", "").want(t, 200)
	limited := a.do("GET", "/api/v2/ticket_fields.json", "").want(t, 429)
	if got := limited.header.Get("X-Rate-Limit-Remaining"); got != "1" {
		t.Errorf("the account has %s left, want 1: only the bucket is empty", got)
	}
	if got, want := limited.header.Get("Zendesk-RateLimit-"+TicketFieldsBucket), "total=1; remaining=0; resets=60"; got != want {
		t.Errorf("bucket header %q, want %q", got, want)
	}
	a.do("GET", "/api/v2/groups.json", "").want(t, 200)
	refused := a.do("GET", "/api/v2/groups.json", "").want(t, 429)
	if got := refused.header.Get("Retry-After"); got != "60" {
		t.Errorf("Retry-After %q, want 60", got)
	}
	if got := refused.text("error"); got != "APIRateLimitExceeded" {
		t.Errorf("error %q", got)
	}
	a.clock.advance(time.Minute)
	a.do("GET", "/api/v2/groups.json", "").want(t, 200)
}

func TestOriginFollowsTheRequest(t *testing.T) {
	z := New(Config{Clock: newClock().now})
	r := httptest.NewRequest(http.MethodGet, "/api/v2/groups.json?per_page=1", nil)
	r.Host = "other.zendesk.example"
	person(Admin)(r)
	w := httptest.NewRecorder()
	z.ServeHTTP(w, r)
	got := decode(t, w.Result()).want(t, 200)
	for _, address := range []string{got.text("next_page"), got.text("groups", 0, "url")} {
		if !strings.HasPrefix(address, "http://other.zendesk.example/api/v2/groups") {
			t.Errorf("address %q is not on the host asked", address)
		}
	}
}

func TestStartAndClose(t *testing.T) {
	z := New(Config{})
	if err := z.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		got, err := http.Get(z.Origin() + "/api/v2/users/me.json")
		if err != nil {
			return err
		}
		return got.Body.Close()
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err == nil {
		t.Error("the account still answers after Close")
	}
	if err := New(Config{}).Start("256.0.0.1:0"); err == nil {
		t.Error("Start on an address that is none gave no error")
	}
}

func TestConcurrentUse(t *testing.T) {
	a := open(t, Config{TicketUpdateLimit: 1000})
	before := a.do("GET", ticketPath(CallerTickets[1], "/audits"), "").length("audits")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 5 {
				a.do("PUT", ticketPath(CallerTickets[1], ""), fmt.Sprintf(`{"ticket":{"comment":{"body":"from %d"}}}`, i))
				a.search("type:ticket technician")
				a.token(t, map[string]string{"grant_type": "client_credentials"})
				a.AddFault(Fault{PathPrefix: "/nowhere"})
				a.ClearFaults()
				a.Requests()
			}
		})
	}
	group.Wait()
	if got := a.do("GET", ticketPath(CallerTickets[1], "/audits"), "").length("audits"); got != before+40 {
		t.Errorf("%d new audits, want 40", got-before)
	}
	ids := map[int64]bool{}
	for _, audit := range a.audits[CallerTickets[1]] {
		ids[audit.ID] = true
	}
	if len(ids) != before+40 {
		t.Errorf("%d ids for %d audits", len(ids), before+40)
	}
}
