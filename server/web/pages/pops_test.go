package pages

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// events is a stream of server-sent events, read as browsers read it.
type events struct {
	body io.ReadCloser
	scan *bufio.Scanner
	last string // the id of the last event
}

// events opens a stream of an agent's pops, after the event that was seen last.
func (b *browser) events(t testing.TB, agent, last string) *events {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.site.url+"/pops/events?agent="+url.QueryEscape(agent), nil)
	must(t, err)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := b.Do(r)
	must(t, err)
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		must(t, resp.Body.Close())
		t.Fatalf("status %d, %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &events{resp.Body, bufio.NewScanner(resp.Body), last}
}

// next is the next event.
func (e *events) next(t testing.TB) popDelivery {
	t.Helper()
	var d popDelivery
	kind, data := "", ""
	for e.scan.Scan() {
		name, value, _ := strings.Cut(e.scan.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case e.scan.Text() == "" && data != "":
			if kind != "pop" {
				t.Fatalf("an event is %q", kind)
			}
			must(t, json.Unmarshal([]byte(data), &d))
			return d
		case name == "id":
			e.last = value
		case name == "event":
			kind = value
		case name == "data":
			data += value
		}
	}
	t.Fatalf("the stream ended: %v", e.scan.Err())
	return d
}

func TestPops(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	agent := zendesktest.Agent.Email
	b.get(t, "/pops").wants(t, 200, "Agent", "Watch").sound(t)
	b.get(t, "/pops?agent="+strings.Repeat("x", 400)).wants(t, 400, "agent").sound(t)
	b.get(t, "/pops?agent="+url.QueryEscape(hostile)).sound(t)
	b.get(t, "/pops/window").wants(t, 200, "Leave it open").sound(t)
	b.get(t, "/pops?agent="+agent).wants(t, 200, "Of "+agent, "Nothing has come within the last hour", "look again").sound(t)
	stream := b.events(t, agent, "")
	s.popSearch(t, "call-1", "maria")
	s.pop(t, "call-2", openTicket)
	s.deliver(t, "call-1", agent)
	first := stream.next(t)
	s.deliver(t, "call-2", strings.ToUpper(agent))
	second := stream.next(t)
	if first.Interaction != "call-1" || !first.Open || !strings.HasPrefix(first.URL, s.zendesk.Origin()+"/") || first.What != "search" || first.Outcome != "a link to open" {
		t.Errorf("the first event is %+v", first)
	}
	if second.Interaction != "call-2" || second.Open || second.What != "ticket "+openTicket || second.Outcome != "shown by Zendesk" {
		t.Errorf("the second event is %+v", second)
	}
	got := b.until(t, "/pops?agent="+agent, "call-2").wants(t, 200, "call-1", "call-2", "shown by Zendesk", "a link to open").sound(t)
	if strings.Index(got.text(), "call-1") < strings.Index(got.text(), "call-2") {
		t.Error("the newest is not the first")
	}
	links := got.nodes(t, func(n *html.Node) bool { return attribute(n, "target") == "zendeskblocks-pop" })
	if len(links) != 2 || attribute(links[1], "href") != first.URL {
		t.Errorf("%d links lead to the window for pages", len(links))
	}
	listed := got.nodes(t, func(n *html.Node) bool {
		return attribute(n, "data-id") == first.ID || attribute(n, "data-id") == second.ID
	})
	if len(listed) != 2 {
		t.Errorf("%d rows tell the script what is listed", len(listed))
	}
}

// Whenever a stream breaks off, all deliveries reach the browser, each once.
func TestPopsAfterReconnects(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	agent := zendesktest.Agent.Email
	var want, got []string
	seen := map[string]bool{}
	take := func(d popDelivery) {
		if !seen[d.ID] {
			got = append(got, d.Interaction)
		}
		seen[d.ID] = true
	}
	last := ""
	for round := range 4 {
		deliver := func(n string) {
			id := "call-" + string(rune('a'+round)) + n
			want = append(want, id)
			s.popSearch(t, id, "maria")
			s.deliver(t, id, agent)
		}
		deliver("-away") // while nobody watches
		stream := b.events(t, agent, last)
		for len(got) < len(want) {
			take(stream.next(t))
		}
		deliver("-there")
		for len(got) < len(want) {
			take(stream.next(t))
		}
		last = stream.last
		must(t, stream.body.Close())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the browser got %v, want %v", got, want)
	}
}

func TestPopsOfOneAgent(t *testing.T) {
	s := newSite(t,
		auth.Caller{Tenant: "acme", Name: "sam", Roles: []auth.Role{auth.Desktop}, Agent: zendesktest.Agent.Email},
		auth.Caller{Tenant: "acme", Name: "desks", Roles: []auth.Role{auth.Desktop}},
	)
	sam := s.signIn(t, "sam")
	other := url.QueryEscape(zendesktest.OtherAgent.Email)
	sam.get(t, "/pops?agent="+other).wants(t, 200, "Of "+zendesktest.Agent.Email).lacks(t, zendesktest.OtherAgent.Email, "Another agent").sound(t)
	s.signIn(t, "desks").get(t, "/pops").wants(t, 200, "Watch")
	s.signIn(t, "desks").get(t, "/pops?agent="+other).wants(t, 200, "Of "+zendesktest.OtherAgent.Email, "Another agent").sound(t)
	if got := s.browser(t).get(t, "/pops/events?agent=x@example.com"); !strings.HasPrefix(got.path, "/signin") {
		t.Errorf("who is not signed in is led to %s", got.path)
	}
	stream := sam.events(t, zendesktest.OtherAgent.Email, "")
	_, err := auth.RevokeTokens(s.tokenFile, "acme", "sam")
	must(t, err)
	for stream.scan.Scan() { // until it ends
	}
	if errors.Is(stream.scan.Err(), context.DeadlineExceeded) {
		t.Error("a stream outlives the token that it was opened with")
	}
}

// The streams of browsers that have gone end, so that others find room.
func TestPopsOfBrowsersThatGo(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	const agent, most = "x@example.com", 100 // watches of an agent
	var streams []*events
	for range most {
		streams = append(streams, b.events(t, agent, ""))
	}
	b.get(t, "/pops/events?agent="+agent).wants(t, http.StatusTooManyRequests, "watched as often as may be")
	for _, stream := range streams {
		must(t, stream.body.Close())
	}
	until(t, "room for a watch", func() bool { return b.get(t, "/pops?agent="+agent).status == http.StatusOK })
}

func TestEventsSince(t *testing.T) {
	now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	for last, want := range map[string]time.Time{
		"": now.Add(-time.Hour), "odd": now.Add(-time.Hour), "2026-11-26T08:50:00.5Z abc": now.Add(-11*time.Minute + 500*time.Millisecond),
		"2026-11-26T08:50:00Z": now.Add(-11 * time.Minute), "\n\x00": now.Add(-time.Hour),
	} {
		if got := eventsSince(last, now); !got.Equal(want) {
			t.Errorf("since %q is %v, want %v", last, got, want)
		}
	}
}

func TestPopDelivery(t *testing.T) {
	now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	const link = zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_LINK
	for name, c := range map[string]struct {
		outcome zendeskv1.DeliveryOutcome
		url     string
		age     time.Duration
		open    bool
	}{
		"new":        {link, "https://z.example/1", time.Second, true},
		"old":        {link, "https://z.example/1", freshFor, false},
		"shown":      {zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_DISPLAYED, "https://z.example/1", 0, false},
		"no page":    {link, "", 0, false},
		"no address": {link, "javascript:alert(1)", 0, false},
		"early":      {link, "http://127.0.0.1:1/x", -time.Second, true},
	} {
		d := popDeliveryOf(&zendeskv1.WatchScreenPopsResponse{InteractionId: hostile, Delivery: &zendeskv1.Delivery{
			DeliveryId: "a\nb c\r\n", Outcome: c.outcome, Time: timestamppb.New(now.Add(-c.age)), Failure: &zendeskv1.Failure{Message: hostile},
			ScreenPop: &zendeskv1.ScreenPop{RecordType: zendeskv1.RecordType_RECORD_TYPE_TICKET, RecordId: "7", Url: c.url},
		}}, now)
		if d.Open != c.open || d.Open && d.URL == "" {
			t.Errorf("%s: %+v", name, d)
		}
		event := string(popEvent(d))
		if lines := strings.Split(event, "\n"); len(lines) != 5 || lines[0] != "id: "+d.Time+" abc" || lines[3] != "" {
			t.Errorf("%s: the event is %q", name, event)
		}
	}
}

// A stream says that it lives, and ends with the watch, with the browser, and where it cannot write.
func TestRelay(t *testing.T) {
	pop := watched{resp: &zendeskv1.WatchScreenPopsResponse{InteractionId: "call-1", Delivery: &zendeskv1.Delivery{DeliveryId: "d1"}}}
	for name, end := range map[string]func(cancel func(), messages chan watched, broken *bool){
		"watch ends":    func(_ func(), messages chan watched, _ *bool) { messages <- watched{err: io.EOF} },
		"watch is gone": func(_ func(), messages chan watched, _ *bool) { close(messages) },
		"browser goes":  func(cancel func(), _ chan watched, _ *bool) { cancel() },
		"cannot write":  func(_ func(), messages chan watched, broken *bool) { *broken = true; messages <- pop },
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			messages, ended := make(chan watched), make(chan struct{})
			beat := time.NewTicker(heartbeat)
			defer beat.Stop()
			var sent []string
			broken := false
			go func() {
				defer close(ended)
				relay(ctx, messages, beat.C, time.Now, func(event []byte) error {
					if broken {
						return io.ErrClosedPipe
					}
					sent = append(sent, string(event))
					return nil
				})
			}()
			messages <- pop
			time.Sleep(2*heartbeat + time.Second)
			synctest.Wait()
			if len(sent) != 4 || !strings.HasPrefix(sent[0], "retry: ") || !strings.Contains(sent[1], `"interaction":"call-1"`) || sent[2] != ":\n\n" || sent[3] != sent[2] {
				t.Errorf("%s: %q was sent", name, sent)
			}
			end(cancel, messages, &broken)
			<-ended
		})
	}
}
