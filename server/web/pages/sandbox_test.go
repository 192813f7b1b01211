package pages

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// change changes something in the fake Zendesk itself.
func (s *site) change(t testing.TB, method, path, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.zendesk.ServeHTTP(w, r)
	if w.Code/100 != 2 {
		t.Fatalf("%s %s: status %d: %s", method, path, w.Code, w.Body)
	}
}

func TestSandbox(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "call-1", Data: map[string]string{"Disposition": "sale", "wish": "call <b>back</b>"}})
	must(t, err)
	s.pop(t, "call-1", openTicket)
	s.deliver(t, "call-1", zendesktest.Agent.Email)
	a := s.complete(t, "call-1", func(r *zendeskv1.CompleteInteractionRequest) {
		r.Details = &zendeskv1.ActivityDetails{Notes: "Was charged twice.", Subject: "Refund"}
	})
	s.await(t, a.GetActivityId(), zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN)
	got := b.get(t, "/sandbox").wants(t, 200, s.zendesk.Origin(), openTicket, "Disposition", "sale", "Private comment of "+zendesktest.Admin.Name,
		"Was charged twice.", "call <b>back</b>", "Pages shown to agents", zendesktest.Agent.Name, "PUT /api/v2/tickets/"+openTicket, "None: it behaves.").sound(t)
	if got.header.Get("Refresh") != "" {
		t.Error("it is renewed unasked")
	}
	if got := b.get(t, got.link(t, "have it renewed every 5 seconds")); got.header.Get("Refresh") != "5" {
		t.Error("it is not renewed")
	}
}

// Each fault that there is a button for is in force afterwards, says what it does, and is taken off again.
func TestFaults(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	const search = "/api/v2/search"
	set := 0
	for _, preset := range presets {
		got := b.post(t, "/sandbox/faults", url.Values{"fault": {preset.Key}}).wants(t, 200, "That is how the sandbox behaves from now on.").sound(t)
		if len(got.nodes(t, func(n *html.Node) bool { return n.Data == "button" && attribute(n, "value") == preset.Key })) != 1 {
			t.Errorf("%s has no button", preset.Key)
		}
		if preset.path == "/faults" {
			set++
			got.wants(t, 200, "In force", "hit 0 times").lacks(t, ": changed;")
		}
		if buttons := got.nodes(t, func(n *html.Node) bool { return strings.HasPrefix(attribute(n, "aria-label"), "Take off fault") }); len(buttons) != set {
			t.Errorf("after %s %d faults are in force, want %d", preset.Key, len(buttons), set)
		}
	}
	b.post(t, "/sandbox/faults/remove", url.Values{"id": {"2"}}).wants(t, 200, "The sandbox behaves again.").lacks(t, "Take off fault 2")
	b.post(t, "/sandbox/faults/remove", url.Values{"id": {"2"}}).wants(t, 200) // a second click
	b.post(t, "/sandbox/faults/remove", url.Values{"id": {"x"}}).wants(t, 400)
	b.post(t, "/sandbox/faults", url.Values{"fault": {"odd"}}).wants(t, 400)
	b.post(t, "/sandbox/faults/remove", nil).wants(t, 200, "None: it behaves.")

	b.post(t, "/sandbox/faults", url.Values{"fault": {"search-refused"}}).wants(t, 200, search+"…: answered 422")
	resp, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{InteractionId: "call-1", SearchString: "x", RecordsetName: "R"})
	must(t, err)
	if resp.GetExit() != zendeskv1.Exit_EXIT_FAILED {
		t.Errorf("the search is %v", resp.GetExit())
	}
	b.get(t, "/sandbox").wants(t, 200, "hit 1 time", "422").sound(t)
}

func TestHostileSandbox(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	long := strings.Repeat(`<&\"'>`, 4000)
	for i := range 30 {
		s.change(t, http.MethodPost, ticketsPath, fmt.Sprintf(`{"ticket":{"subject":"<script>alert(1)</script>\u202e %d","external_id":"\"><img src=x onerror=y>","tags":["a<b"],
			"custom_fields":[{"id":%d,"value":"<i>%s"}],"comment":{"html_body":"<p onclick=x>Hello <a href=\"javascript:alert(1)\">there</a></p><script>alert(2)</script>%s","public":false}}}`,
			i, zendesktest.CallNotesField, long, strings.ReplaceAll(long, "<", "&lt;")))
	}
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: `/<script>`, Status: 500})
	resp, err := http.Get(s.zendesk.Origin() + "/<script>?x=" + strings.Repeat("%3C", 2000)) //nolint:noctx // a request of somebody
	must(t, err)
	must(t, resp.Body.Close())
	b.get(t, "/sandbox").wants(t, 200, "<script>alert(1)</script>", "Hello", "more tickets are left out here").sound(t)
}

// What the sandbox answers may be anything, or nothing.
func TestSandboxThatIsNone(t *testing.T) {
	answer := ""
	status := http.StatusOK
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	origin, err := url.Parse(odd.URL)
	must(t, err)
	p := &Pages{sandbox: origin}
	for name, c := range map[string]struct {
		status int
		answer string
		want   int
	}{
		"no JSON":  {200, "<html>", http.StatusBadGateway},
		"refused":  {500, hostile, http.StatusBadGateway},
		"nothing":  {404, "", http.StatusNotFound},
		"redirect": {302, "", http.StatusBadGateway},
	} {
		status, answer = c.status, c.answer
		var list []sandboxTicket
		if got := problemOf(newest(t.Context(), p, "/tickets", 5, &list)); got == nil || got.Status != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	status, answer = http.StatusOK, "["+strings.Repeat(" ", maxSandboxBytes)+"]"
	var list []sandboxTicket
	if err := newest(t.Context(), p, "/tickets", 5, &list); err != nil || list != nil {
		t.Errorf("too much is %v, %v", list, err)
	}
	odd.Close()
	if got := problemOf(newest(t.Context(), p, "/tickets", 5, &list)); got == nil || got.Status != http.StatusBadGateway {
		t.Errorf("no sandbox is %+v", got)
	}
}

func TestFaultText(t *testing.T) {
	third := 0.33
	for want, f := range map[string]sandboxFault{
		"All requests: changed; hit 0 times":                                                       {},
		"/api/v2/search…: answered 429, to be repeated after 30 s; 1 more time; hit 2 times":       {PathPrefix: searchPath, Status: 429, RetryAfter: float64(30), Times: 1, Hits: 2},
		"PUT /api/v2/tickets…: done, and the answer is lost; hit 1 time":                           {Method: "PUT", PathPrefix: ticketsPath, Drop: "after", Hits: 1},
		"GET…: after 2 s, cut off before they act; about 33 of 100; hit 0 times":                   {Method: "GET", DelayMS: 2000, Drop: "before", Probability: &third},
		"All requests: cut off amid the answer, not answered until who asks gives up; hit 0 times": {Drop: "middle", Hang: "middle"},
		"All requests: answered 200, with another body; hit 0 times":                               {Status: 200, Body: []byte(`"x"`)},
	} {
		if got := faultText(f); got != want {
			t.Errorf("a fault is %q, want %q", got, want)
		}
	}
}
