package zendesktest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFaultAnswers(t *testing.T) {
	tests := []struct {
		name        string
		fault       string
		status      int
		contentType string
		body        string // "" = not compared
		retryAfter  string
	}{
		{"throttled", `{"status":429,"retry_after":7}`, 429, "application/json", "", "7"},
		{"throttled without a time", `{"status":429}`, 429, "application/json", "", ""},
		{"until a date", `{"status":503,"retry_after":"Tue, 24 Nov 2026 12:00:10 GMT"}`, 503, "application/json", "", "Tue, 24 Nov 2026 12:00:10 GMT"},
		{"broken", `{"status":500}`, 500, "text/plain", "Internal Server Error", ""},
		{"HTML under 200", `{"body":"<html>Hi</html>"}`, 200, "text/html", "<html>Hi</html>", ""},
		{"truncated", `{"status":200,"body":"{\"results\":["}`, 200, "text/plain", `{"results":[`, ""},
		{"JSON given as JSON", `{"status":422,"body":{"error":"x"}}`, 422, "application/json", `{"error":"x"}`, ""},
		{"null", `{"status":200,"body":"null"}`, 200, "application/json", "null", ""},
		{"another method", `{"method":"POST","status":500}`, 200, "application/json", "", ""},
		{"another path", `{"path_prefix":"/api/v2/tickets","status":500}`, 200, "application/json", "", ""},
		{"method in small letters", `{"method":"get","path_prefix":"/api/v2/gro","status":401}`, 401, "application/json", "", ""},
	}
	a := open(t, Config{})
	for _, test := range tests {
		a.do("POST", "/_sandbox/faults", test.fault).want(t, 200)
		got := a.do("GET", "/api/v2/groups.json", "")
		if got.status != test.status || !strings.HasPrefix(got.header.Get("Content-Type"), test.contentType) ||
			test.body != "" && string(got.raw) != test.body || got.header.Get("Retry-After") != test.retryAfter {
			t.Errorf("%s: %d %v %s", test.name, got.status, got.header, got.raw)
		}
		if got.header.Get("X-Request-Id") == "" || got.header.Get("X-Rate-Limit") == "" {
			t.Errorf("%s: headers %v", test.name, got.header)
		}
		a.do("DELETE", "/_sandbox/faults", "").want(t, 204)
		a.do("GET", "/api/v2/groups.json", "").want(t, 200)
	}
}

func TestFaultEchoes(t *testing.T) {
	a := open(t, Config{})
	for name, want := range map[string]string{
		"plain": Agent.APIToken, "percent": "%73%61%6e", "form": "%3Asandbox", "json": `\u0073`, "html": "Basic ", "html_hex": "&#x73;", "base64": "QmFzaWMg", "hex": "73616e64",
		"quoted_printable": "=73=61",
	} {
		a.do("DELETE", "/_sandbox/faults", "").want(t, 204)
		a.do("POST", "/_sandbox/faults", `{"status":500,"body":"got {{echo}}","header":{"X-Echo":"{{echo}}"},"echo":"`+name+`"}`).want(t, 200)
		got := a.do("GET", "/api/v2/groups.json", "", person(Agent)).want(t, 500)
		if !strings.Contains(string(got.raw), want) || !strings.Contains(got.header.Get("X-Echo"), want) {
			t.Errorf("%s: %v %s lacks %q", name, got.header, got.raw, want)
		}
	}
	a.do("POST", "/_sandbox/faults", `{"echo":"rot13"}`).want(t, 400)
}

func TestFaultBodyEmpty(t *testing.T) {
	a := open(t, Config{})
	a.AddFault(Fault{Status: 200, Body: new("")})
	if got := a.do("GET", "/api/v2/groups", "").want(t, 200); len(got.raw) != 0 {
		t.Errorf("body %q", got.raw)
	}
}

func TestFaultTimes(t *testing.T) {
	a := open(t, Config{})
	a.AddFault(Fault{Status: 500, Times: 2})
	a.AddFault(Fault{Status: 503, Times: 1})
	var got []int
	for range 4 {
		got = append(got, a.do("GET", "/api/v2/groups", "").status)
	}
	if diff := cmp.Diff([]int{500, 500, 503, 200}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFaultsThatAreNone(t *testing.T) {
	a := open(t, Config{})
	for _, fault := range []string{
		`{`, `[]`, `{"drop":"sometimes"}`, `{"status":99}`, `{"status":700}`, `{"times":-1}`,
		`{"delay_ms":-1}`, `{"retry_after":true}`, `{"path":"/api"}`,
	} {
		if got := a.do("POST", "/_sandbox/faults", fault); got.status != 400 {
			t.Errorf("%s: %d, want 400", fault, got.status)
		}
	}
	a.do("GET", "/api/v2/groups", "").want(t, 200)
}

// TestDrop cuts real connections.
func TestDrop(t *testing.T) {
	a := open(t, Config{})
	server := httptest.NewServer(a)
	defer server.Close()
	update := func() error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+ticketPath(CallerTickets[1], ".json"),
			strings.NewReader(`{"ticket":{"comment":{"body":"once","public":false}}}`))
		if err != nil {
			t.Fatal(err)
		}
		person(Admin)(r)
		response, err := server.Client().Do(r)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	audits := func() int {
		return a.do("GET", ticketPath(CallerTickets[1], "/audits"), "").length("audits")
	}
	before := audits()
	a.AddFault(Fault{Method: "PUT", Drop: DropBefore, Times: 1})
	if err := update(); err == nil || audits() != before {
		t.Errorf("dropped before: error %v, %d new audits", err, audits()-before)
	}
	a.AddFault(Fault{Method: "PUT", Drop: DropAfter, Times: 1})
	if err := update(); err == nil || audits() != before+1 {
		t.Errorf("dropped after: error %v, %d new audits", err, audits()-before)
	}
	if err := update(); err != nil || audits() != before+2 {
		t.Errorf("no fault: error %v, %d new audits", err, audits()-before)
	}
	var puts []int
	for _, r := range a.Requests() {
		if r.Method == http.MethodPut {
			puts = append(puts, r.Status)
		}
	}
	if diff := cmp.Diff([]int{0, 0, 200}, puts); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
}

// TestLostRotation loses the answer of a refresh: the old pair is dead all the
// same.
func TestLostRotation(t *testing.T) {
	a := open(t, Config{})
	pair := a.token(t, map[string]string{"grant_type": "authorization_code", "code": a.code(t, Grant{}), "redirect_uri": RedirectURI}).want(t, 200)
	server := httptest.NewServer(a)
	defer server.Close()
	a.AddFault(Fault{PathPrefix: "/oauth/tokens", Drop: DropAfter, Times: 1})
	body, err := json.Marshal(map[string]string{
		"grant_type": "refresh_token", "refresh_token": pair.text("refresh_token"), "client_id": ClientID, "client_secret": ClientSecret,
	})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := http.Post(server.URL+"/oauth/tokens", "application/json", strings.NewReader(string(body)))
	if err == nil {
		t.Fatal("the answer was not lost", lost.Body.Close())
	}
	a.do("GET", "/api/v2/groups", "", bearing(pair.text("access_token"))).want(t, 401)
	a.token(t, map[string]string{"grant_type": "refresh_token", "refresh_token": pair.text("refresh_token")}).want(t, 400)
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Config{})
		a.AddFault(Fault{Delay: 3 * time.Second})
		start := time.Now()
		a.do("GET", "/api/v2/groups", "").want(t, 200)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("answered after %v", took)
		}

		// A client that gives up changes nothing.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "POST", "/api/v2/tickets", strings.NewReader(`{"ticket":{"comment":"late"}}`))
		person(Admin)(r)
		start = time.Now()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the connection was not cut")
				}
			}()
			a.ServeHTTP(httptest.NewRecorder(), r)
		}()
		if took := time.Since(start); took != time.Second {
			t.Errorf("given up after %v", took)
		}
		a.ClearFaults()
		if got := a.search("late").text("count"); got != "0" {
			t.Error("the ticket was made")
		}
	})
}

func TestRecordedRequestsAreBounded(t *testing.T) {
	var list []int
	for i := range 3 * maxRecorded {
		list = appendBounded(list, i)
	}
	if len(list) > maxRecorded || list[len(list)-1] != 3*maxRecorded-1 {
		t.Errorf("%d kept, the last is %d", len(list), list[len(list)-1])
	}
}
