package pages

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	openTicket  = "45900000001102"
	otherTicket = "45900000001103"

	// hostile is what should never be more than text: markup, a way out of attributes, a direction, and a long word.
	hostile = `</textarea><script>alert(1)</script><img src=x onerror=alert(2)>"'{{.}} javascript:alert(3)` + "\u202egnol\u0000\ufffe"
)

// integrate makes an account of the site's Zendesk.
func (s *site) integrate(t testing.TB, id, name string) {
	t.Helper()
	_, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{
		Name: name, Url: s.zendesk.Origin(), ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
	}})
	must(t, err)
}

// complete completes an interaction.
func (s *site) complete(t testing.TB, id string, change func(*zendeskv1.CompleteInteractionRequest)) *zendeskv1.Activity {
	t.Helper()
	req := &zendeskv1.CompleteInteractionRequest{InteractionId: id}
	if change != nil {
		change(req)
	}
	resp, err := s.interactions.CompleteInteraction(t.Context(), req)
	must(t, err)
	return resp.GetActivity()
}

// as calls with the credential of a caller.
func (s *site) as(t testing.TB, name string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+s.tokens[name])
}

// onTicket has the history written to a ticket.
func onTicket(req *zendeskv1.CompleteInteractionRequest) { req.TicketId = openTicket }

// homeless has it dead, for its account does not exist.
func homeless(req *zendeskv1.CompleteInteractionRequest) {
	req.TicketId, req.AccountId = openTicket, "nobody"
}

// await asks until an activity is in a state.
func (s *site) await(t testing.TB, id string, state zendeskv1.ActivityState) *zendeskv1.Activity {
	t.Helper()
	var a *zendeskv1.Activity
	until(t, state.String(), func() bool {
		resp, err := s.interactions.GetActivity(t.Context(), &zendeskv1.GetActivityRequest{ActivityId: id})
		must(t, err)
		a = resp.GetActivity()
		return a.GetState() == state
	})
	return a
}

// until looks again and again until it is true, or for a minute.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for begun := time.Now(); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%s never came", what)
		}
	}
}

// until looks at a page until it says something.
func (b *browser) until(t testing.TB, path, text string) (got *shown) {
	t.Helper()
	until(t, fmt.Sprintf("%q at %s", text, path), func() bool {
		got = b.get(t, path)
		return strings.Contains(got.text(), text)
	})
	return got
}

// outage keeps all activities from being written.
func (s *site) outage() {
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/", Status: http.StatusServiceUnavailable, RetryAfter: "600"})
}

// nodes are the elements of a page that match.
func (s *shown) nodes(t testing.TB, match func(*html.Node) bool) (found []*html.Node) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(s.body))
	must(t, err)
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && match(n) {
			found = append(found, n)
		}
	}
	return found
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// sound fails the test where a page has more than the pages' own markup, or is too large, or lacks what readers of it need.
func (s *shown) sound(t testing.TB) *shown {
	t.Helper()
	if len(s.body) > 200<<10 {
		t.Errorf("%s has %d bytes", s.path, len(s.body))
	}
	ids := make(map[string]bool)
	headings := 0
	for _, n := range s.nodes(t, func(*html.Node) bool { return true }) {
		switch n.Data {
		case "h1":
			headings++
		case "script":
			if n.FirstChild != nil || !strings.HasPrefix(attribute(n, "src"), "/static/") {
				t.Errorf("%s has a script of somebody's", s.path)
			}
		case "img", "iframe", "style", "object", "embed", "base", "svg", "math":
			t.Errorf("%s has <%s>", s.path, n.Data)
		case "table":
			if n.FirstChild == nil || !slices.ContainsFunc(slices.Collect(n.ChildNodes()), func(c *html.Node) bool { return c.Data == "caption" }) {
				t.Errorf("%s has a table without a caption", s.path)
			}
		case "th":
			if attribute(n, "scope") == "" {
				t.Errorf("%s has a heading of a table without a scope", s.path)
			}
		case "a", "link":
			to := attribute(n, "href")
			if u, err := url.Parse(to); err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || strings.Contains(to, "ZgotmplZ") {
				t.Errorf("%s leads to %q", s.path, to)
			}
		}
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "srcdoc":
				t.Errorf("%s has <%s %s=%q>", s.path, n.Data, a.Key, a.Val)
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("%s has the id %q twice", s.path, a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			}
		}
	}
	if headings != 1 {
		t.Errorf("%s has %d headings of the first order", s.path, headings)
	}
	return s
}

// link is the address of the first link of a text.
func (s *shown) link(t testing.TB, text string) string {
	t.Helper()
	for _, n := range s.nodes(t, func(n *html.Node) bool { return n.Data == "a" }) {
		said := ""
		for c := range n.Descendants() {
			if c.Type == html.TextNode {
				said += c.Data
			}
		}
		if strings.TrimSpace(said) == text {
			return attribute(n, "href")
		}
	}
	t.Fatalf("%s has no link %q; it says: %s", s.path, text, s.text())
	return ""
}

// form is what the form that leads to an address sends.
func (s *shown) form(t testing.TB, action string) url.Values {
	t.Helper()
	forms := s.nodes(t, func(n *html.Node) bool { return n.Data == "form" && attribute(n, "action") == action })
	if len(forms) == 0 {
		t.Fatalf("%s has no form to %s", s.path, action)
	}
	sent := url.Values{}
	for n := range forms[0].Descendants() {
		if n.Data == "input" && attribute(n, "name") != "" && attribute(n, "type") != "checkbox" {
			sent.Add(attribute(n, "name"), attribute(n, "value"))
		}
	}
	return sent
}

func TestActivities(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	b.get(t, "/activities").wants(t, 200, "Waiting 0", "Dead 0", "There is none.").sound(t)
	s.integrate(t, "main", "Main <desk>")
	s.integrate(t, "second", "Second")
	written := s.complete(t, "call-written", onTicket).GetActivityId()
	s.await(t, written, zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN)
	skipped := s.complete(t, "call-skipped", nil).GetActivityId()
	dead := s.complete(t, "call-dead", homeless).GetActivityId()
	s.outage()
	waiting := s.complete(t, "call-waiting", onTicket).GetActivityId()
	second := s.complete(t, "call-second", func(r *zendeskv1.CompleteInteractionRequest) {
		r.TicketId, r.AccountId = openTicket, "second"
	}).GetActivityId()
	b.until(t, "/activities", "Held up: Zendesk").wants(t, 200, "Waiting 2", "Dead 1", waiting, second, "Main <desk>", "tried in").lacks(t, dead, written, skipped).sound(t)
	all := []string{written, skipped, dead, waiting, second}
	for query, want := range map[string][]string{
		"state=all":                           all,
		"state=dead":                          {dead},
		"state=dead&reason=account_not_found": {dead},
		"state=dead&reason=rate_limited":      {},
		"state=written&reason=rate_limited":   {},
		"state=skipped":                       {skipped},
		"state=discarded":                     {},
		"state=written":                       {written},
		"account=second":                      {second},
		"account=Second":                      {second},
		"account=nobody&state=all":            {dead},
		"interaction=call-waiting":            {waiting},
		"interaction=call-unknown":            {},
		"state=all&until=2001-01-01T00:00":    {},
		"state=all&since=2001-01-01T00:00":    all,
		"state=all&since=2001-01-01":          all,
		"state=all&until=2999-01-01T00:00:00": all,
	} {
		got := b.get(t, "/activities?"+query).wants(t, 200).sound(t)
		for _, id := range all {
			listed := len(got.nodes(t, func(n *html.Node) bool { return n.Data == "input" && attribute(n, "value") == id })) > 0
			if listed != slices.Contains(want, id) {
				t.Errorf("%s: %s is listed: %t", query, id, listed)
			}
		}
	}
	for query, want := range map[string]string{
		"state=odd": "state", "state=all&reason=conflict": "choose a state", "reason=odd": "reason", "order=odd": "order", "since=yesterday": "is no time", "until=%00": "is no time",
		"account=%3Cscript%3E": "account", "interaction=a%20b": "interaction", "page=odd": "page", "interaction=" + strings.Repeat("x", 200): "interaction",
	} {
		b.get(t, "/activities?"+query).wants(t, 400, want).sound(t)
	}
	newest, oldest := b.get(t, "/activities?state=all").body, b.get(t, "/activities?state=all&order=oldest").body
	if strings.Index(newest, `value="`+written) < strings.Index(newest, `value="`+dead) || strings.Index(oldest, `value="`+written) > strings.Index(oldest, `value="`+dead) {
		t.Error("the order is not what was asked for")
	}
}

func TestPagesOfActivities(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	const all = activitiesOfPage + 7
	for i := range all {
		s.complete(t, fmt.Sprintf("call-%03d", i), nil)
	}
	first := b.get(t, "/activities?state=skipped&order=oldest").wants(t, 200, "call-000", "call-049").lacks(t, "call-050").sound(t)
	second := b.get(t, first.link(t, "Next page")).wants(t, 200, "call-050", "call-056", "Skipped").lacks(t, "call-049", "Next page").sound(t)
	b.get(t, second.link(t, "First page")).wants(t, 200, "call-000")
}

func TestActivity(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "call-1", Data: map[string]string{
		"Disposition": "sale", "wish": "<b>call</b> back",
	}})
	must(t, err)
	begun := timestamppb.New(time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC))
	a := s.complete(t, "call-1", func(r *zendeskv1.CompleteInteractionRequest) {
		r.IfNoTicket = zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE
		r.Details = &zendeskv1.ActivityDetails{
			Subject: "Refund", Notes: "Was charged twice.", StartTime: begun, RecordingUrl: "https://rec.example.com/1",
			Requester: &zendeskv1.Requester{Name: "Maria", Email: "maria@example.com"},
			Agent:     &zendeskv1.Agent{Email: zendesktest.Agent.Email}, Legs: []*zendeskv1.Leg{{Agent: &zendeskv1.Agent{Email: "ann@example.com"}}},
			Links: []*zendeskv1.Link{{Title: "Survey", Url: "https://s.example.com/1"}},
		}
	})
	a = s.await(t, a.GetActivityId(), zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN)
	got := b.get(t, "/activities/"+a.GetActivityId()).wants(t, 200, "What was written", "It created the ticket", "ticket "+a.GetTicketId(),
		"Refund", "Was charged twice.", "Maria", "2026-11-26 09:00:00 UTC", "Disposition", "sale", "<b>call</b> back", "no field", "Survey", "ann@example.com",
	).lacks(t, "Discard…").sound(t)
	if want := s.zendesk.Origin() + "/agent/tickets/" + a.GetTicketId(); got.link(t, "ticket "+a.GetTicketId()) != want {
		t.Errorf("the ticket's link is not %s", want)
	}
	for _, n := range got.nodes(t, func(n *html.Node) bool { return n.Data == "a" && strings.HasPrefix(attribute(n, "href"), "http") }) {
		if !strings.Contains(attribute(n, "rel"), "noreferrer") {
			t.Errorf("the link to %s says where it is followed from", attribute(n, "href"))
		}
	}
	if b.get(t, got.link(t, "call-1")).wants(t, 200, "Interaction").status != 200 {
		t.Error("the interaction is not linked")
	}
	b.get(t, "/activities/no-such").wants(t, 404, "Not found").sound(t)
}

func TestDecisions(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	dead := func(id string) string {
		s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Status: http.StatusUnprocessableEntity, Times: 1})
		a := s.complete(t, id, onTicket).GetActivityId()
		s.await(t, a, zendeskv1.ActivityState_ACTIVITY_STATE_DEAD)
		return a
	}
	state := func(id string) string {
		resp, err := s.interactions.GetActivity(t.Context(), &zendeskv1.GetActivityRequest{ActivityId: id})
		must(t, err)
		return stateTag(resp.GetActivity().GetState()).Text
	}
	const decide = "/activities/decide"

	// One is retried elsewhere.
	one := dead("call-1")
	shown := b.get(t, "/activities/"+one).wants(t, 200, "What a retry would write", "Zendesk refuses it", "Retry…", "Discard…").sound(t)
	form := shown.form(t, decide)
	form.Set("act", "retry")
	form.Set("ticket", "x1")
	b.get(t, decide+"?"+form.Encode()).wants(t, 400, "a ticket's number").sound(t)
	form.Set("ticket", otherTicket)
	before := b.get(t, decide+"?"+form.Encode()).wants(t, 200, "Retry 1 activity", "It is written to ticket "+otherTicket).sound(t)
	if state(one) != "dead" {
		t.Error("a look at what will be done does it")
	}
	wrong := before.form(t, decide)
	wrong.Set("ticket", "12345678901234567890")
	b.post(t, decide, wrong).wants(t, 400, "a ticket's number", "Retry 1 activity").sound(t)
	b.post(t, decide, before.form(t, decide)).wants(t, 200, "It waits to be written.", one).sound(t)
	if a := s.await(t, one, zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN); a.GetTicketId() != otherTicket {
		t.Errorf("it is written to ticket %s", a.GetTicketId())
	}

	// Some are discarded, of which one is written meanwhile, and one is not there.
	two, three, skipped := dead("call-2"), dead("call-3"), s.complete(t, "call-4", nil).GetActivityId()
	chosen := url.Values{"act": {"discard"}, "id": {two, three, one, "no-such", two}}
	before = b.get(t, decide+"?"+chosen.Encode()).
		wants(t, 200, "Discard 4 activities", "It is discarded, and not written", "Nothing: it is written", "Not found", "A retry takes it back").sound(t)
	b.post(t, decide, before.form(t, decide)).wants(t, 200, "2 of 4 are discarded", "It is written, maybe meanwhile: ticket "+otherTicket+" has it", "It is not there, or no more").sound(t)
	if state(two) != "discarded" || state(three) != "discarded" || state(one) != "written" {
		t.Errorf("they are %s, %s and %s", state(two), state(three), state(one))
	}

	// One without a ticket needs one.
	b.get(t, decide+"?act=retry&id="+skipped).wants(t, 200, "unless you name a ticket")
	b.post(t, decide, url.Values{"act": {"retry"}, "id": {skipped}}).wants(t, 200, "0 of 1 wait to be written", "The ticket is required")
	b.post(t, decide, url.Values{"act": {"retry"}, "id": {skipped}, "ticket": {openTicket}}).wants(t, 200, "It waits to be written.")
	s.await(t, skipped, zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN)

	// Forms that nobody has made.
	for _, form := range []url.Values{
		{}, {"act": {"retry"}}, {"act": {"erase"}, "id": {one}}, {"act": {"retry"}, "all": {"1"}, "reason": {"odd"}}, {"act": {"retry"}, "id": many(maxDecided + 1)},
	} {
		b.post(t, decide, form).wants(t, 400, "That does not fit").sound(t)
		b.get(t, decide+"?"+form.Encode()).wants(t, 400, "That does not fit")
	}
	b.post(t, decide, url.Values{"act": {"retry"}, "all": {"1"}, "page": {"odd"}}).wants(t, 400, "page_token")
	b.post(t, decide, url.Values{"act": {"retry"}, "all": {"1"}, "account": {hostile}}).wants(t, 400, "account_id").sound(t)
}

func many(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("x%d", i))
	}
	return ids
}

func TestDecisionsAboutAll(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	const decide, all = "/activities/decide", maxDecided + 5
	b.get(t, decide+"?act=retry&all=1").wants(t, 200, "There are no dead activities that match").sound(t)
	for i := range all {
		s.complete(t, fmt.Sprintf("call-%03d", i), homeless)
	}
	list := b.get(t, "/activities?state=dead&account=nobody&reason=account_not_found").wants(t, 200, fmt.Sprint("Dead ", all)).sound(t)

	// Those that are discarded are those that were looked at.
	before := b.get(t, list.link(t, "Discard them…")).wants(t, 200, "Discard the first 200 dead activities", "And 180 more", "call-000", "These are discarded and no others").sound(t)
	next := b.get(t, before.link(t, "Look at the next ones")).wants(t, 200, "Discard the next 5 dead activities", "call-200").sound(t)
	form := next.form(t, decide)
	if len(form["id"]) != 5 || len(before.form(t, decide)["id"]) != maxDecided {
		t.Fatalf("the forms name %d and %d activities", len(before.form(t, decide)["id"]), len(form["id"]))
	}
	b.post(t, decide, form).wants(t, 200, "5 of 5 are discarded")
	b.post(t, decide, url.Values{"act": {"discard"}, "all": {"1"}}).wants(t, 200, "Discard 200 dead activities") // asks
	b.get(t, "/activities?state=dead").wants(t, 200, "Dead 200")

	// All that can be are retried: those of an account that was made meanwhile.
	s.outage()
	b.get(t, decide+"?act=retry&all=1&account=nobody&reason=rate_limited").wants(t, 200, "There are no dead activities that match")
	before = b.get(t, decide+"?act=retry&all=1&account=nobody&reason=account_not_found").
		wants(t, 200, "Retry 200 dead activities", "call-000", "And 180 more", "It waits to be written again", "All that are dead then").lacks(t, "Another ticket").sound(t)
	form = before.form(t, decide)
	b.post(t, decide, form).wants(t, 200, "0 wait again to be written, and no more are left that can be").sound(t)
	s.integrate(t, "nobody", "Somebody")
	b.post(t, decide, form).wants(t, 200, "200 wait again to be written, and no more are left that can be").sound(t)
	b.get(t, "/activities?state=dead").wants(t, 200, "Dead 0", "There is none.")
}

// One that is tried at this moment is told to be busy.
func TestBusyActivity(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	s.integrate(t, "main", "Main")
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Status: http.StatusBadGateway, Delay: 2 * time.Second})
	id := s.complete(t, "call-1", onTicket).GetActivityId()
	until(t, "a busy one", func() bool {
		b.post(t, "/activities/decide", url.Values{"act": {"retry"}, "id": {id}}) // it may have been discarded before its try began
		got := b.post(t, "/activities/decide", url.Values{"act": {"discard"}, "id": {id}}).wants(t, 200).sound(t)
		return strings.Contains(got.text(), "0 of 1 are discarded") && strings.Contains(got.text(), "It is being written at this moment")
	})
}

func TestRolesOfActivities(t *testing.T) {
	s := newSite(t,
		auth.Caller{Tenant: "acme", Name: "ops", Roles: []auth.Role{auth.Ops}},
		auth.Caller{Tenant: "acme", Name: "admin", Roles: []auth.Role{auth.Admin}},
		auth.Caller{Tenant: "acme", Name: "runtime", Roles: []auth.Role{auth.Runtime}},
		auth.Caller{Tenant: "acme", Name: "desktop", Roles: []auth.Role{auth.Desktop}, Agent: zendesktest.Agent.Email},
		auth.Caller{Name: "operator", Roles: []auth.Role{auth.Operator}},
		auth.Caller{Tenant: "rival", Name: "other", Roles: []auth.Role{auth.Ops}},
	)
	resp, err := s.interactions.CompleteInteraction(s.as(t, "runtime"), &zendeskv1.CompleteInteractionRequest{InteractionId: "call-1"})
	must(t, err)
	id := resp.GetActivity().GetActivityId()
	for _, c := range []struct {
		name, path string
		want       int
	}{
		{"ops", "/activities", 200}, {"admin", "/activities", 403}, {"runtime", "/activities", 403}, {"desktop", "/activities", 403}, {"operator", "/activities", 403},
		{"ops", "/activities/" + id, 200}, {"admin", "/activities/" + id, 403}, {"runtime", "/activities/" + id, 200}, {"desktop", "/activities/" + id, 403},
		{"other", "/activities/" + id, 404},
		{"ops", "/activities/decide?act=retry&id=" + id, 200}, {"desktop", "/activities/decide?act=retry&id=" + id, 403},
		{"ops", "/activities/decide?act=discard&all=1", 200}, {"runtime", "/activities/decide?act=discard&all=1", 403},
		{"ops", "/interactions", 200}, {"ops", "/interactions?id=call-1", 200}, {"runtime", "/interactions?id=call-1", 200},
		{"admin", "/interactions?id=call-1", 403}, {"desktop", "/interactions?id=call-1", 403}, {"other", "/interactions?id=call-1", 404},
		{"ops", "/pops", 200}, {"desktop", "/pops", 200}, {"admin", "/pops", 403}, {"runtime", "/pops", 403}, {"operator", "/pops", 403},
		{"ops", "/pops?agent=anybody@example.com", 200}, {"runtime", "/pops?agent=anybody@example.com", 403}, {"admin", "/pops/events?agent=anybody@example.com", 403},
		{"ops", "/sandbox", 200}, {"desktop", "/sandbox", 200}, {"operator", "/sandbox", 403},
	} {
		if got := s.signIn(t, c.name).get(t, c.path); got.status != c.want {
			t.Errorf("%s at %s: status %d, want %d", c.name, c.path, got.status, c.want)
		}
	}
	for _, name := range []string{"admin", "runtime", "desktop", "operator", "other"} {
		got := s.signIn(t, name).post(t, "/activities/decide", url.Values{"act": {"discard"}, "id": {id}})
		if want := map[bool]int{true: 200, false: 403}[name == "other"]; got.status != want {
			t.Errorf("%s discards: status %d, want %d", name, got.status, want)
		}
		got = s.signIn(t, name).post(t, "/activities/decide", url.Values{"act": {"retry"}, "all": {"1"}})
		if want := map[bool]int{true: 200, false: 403}[name == "other"]; got.status != want {
			t.Errorf("%s retries all: status %d, want %d", name, got.status, want)
		}
	}
	s.signIn(t, "runtime").get(t, "/activities/"+id).wants(t, 200, "skipped").lacks(t, "Discard…")
	s.signIn(t, "operator").post(t, "/sandbox/faults", url.Values{"fault": {"broken"}}).wants(t, 403)
	s.signIn(t, "operator").post(t, "/sandbox/faults/remove", nil).wants(t, 403)
}

func TestHostileActivity(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	const id = `call/..%2f"><script>alert(1)</script>&?#'{{.}}`
	s.integrate(t, "main", strings.TrimSpace(`"><script>alert(4)</script>`))
	_, err := s.blocks.SelectAccount(t.Context(), &zendeskv1.SelectAccountRequest{InteractionId: id, Choice: &zendeskv1.SelectAccountRequest_Account{Account: "main"}})
	must(t, err)
	long := strings.Repeat(`<&"'>`, 12<<10)
	data := map[string]string{}
	for i := range 190 {
		data[fmt.Sprintf("%s %d", `<i>"'&`+strings.Repeat("<", 200), i)] = strings.Repeat(`<&"'>`, 150)
	}
	for _, part := range []map[string]string{data, {`<script>` + "\u202e": hostile, "long": long}} {
		resp, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: id, Data: part})
		must(t, err)
		if resp.GetExit() != zendeskv1.Exit_EXIT_NEXT {
			t.Fatalf("the data is refused: %v", resp.GetFailure())
		}
	}
	details := &zendeskv1.ActivityDetails{
		Channel: hostile, Direction: hostile, FromAddress: hostile, ToAddress: hostile, Agent: &zendeskv1.Agent{Email: hostile}, Service: hostile,
		Disposition: hostile, Notes: long + "end of the notes", RecordingUrl: `javascript:alert(1)//"><script>`, Requester: &zendeskv1.Requester{Name: hostile, Email: hostile, Phone: hostile},
		Subject: hostile, Transcript: hostile + long,
	}
	for range 20 {
		details.Links = append(details.Links, &zendeskv1.Link{Title: hostile, Url: "https://x.example/" + strings.Repeat("%22", 600)}, &zendeskv1.Link{Title: hostile, Url: "javascript:alert(1)"})
	}
	for range 50 {
		details.Legs = append(details.Legs, &zendeskv1.Leg{Agent: &zendeskv1.Agent{Email: hostile + strings.Repeat("<", 200)}})
	}
	details.Links = details.Links[:20]
	s.outage()
	a := s.complete(t, id, func(r *zendeskv1.CompleteInteractionRequest) { r.Details, r.TicketId = details, openTicket })
	path := "/activities/" + a.GetActivityId()
	got := b.get(t, path).wants(t, 200, "<script>alert(1)</script>", "more are left out here").sound(t)
	if all := b.get(t, "/activities/text?part=notes&id="+a.GetActivityId()); all.body != a.GetDetails().GetNotes() || !strings.HasPrefix(all.header.Get("Content-Type"), "text/plain") {
		t.Errorf("all of the notes has %d bytes of %s", len(all.body), all.header.Get("Content-Type"))
	}
	links := got.nodes(t, func(n *html.Node) bool { return strings.HasPrefix(attribute(n, "href"), "/activities/text?") })
	if len(links) < 2 {
		t.Fatalf("%d texts are cut with a link to all of them", len(links))
	}
	for _, n := range links {
		b.get(t, attribute(n, "href")).wants(t, 200)
	}
	b.get(t, "/activities/text?part=data&id="+a.GetActivityId()+"&key=nothing").wants(t, 404).sound(t)
	b.get(t, "/activities/text?part=odd&id="+a.GetActivityId()).wants(t, 404).sound(t)
	b.get(t, "/activities").wants(t, 200, id).sound(t)
	b.get(t, "/activities/decide?act=discard&id="+a.GetActivityId()+"&id="+url.QueryEscape(hostile)).wants(t, 200, id).sound(t)
	b.post(t, "/activities/decide", url.Values{"act": {"discard"}, "id": {a.GetActivityId(), hostile}}).wants(t, 200).sound(t)
	b.get(t, "/activities?"+url.Values{"account": {hostile}, "interaction": {hostile}, "since": {hostile}}.Encode()).wants(t, 400).sound(t)
	b.get(t, "/activities/"+url.PathEscape(hostile)).wants(t, 400).sound(t)
	interaction := "/interactions?id=" + url.QueryEscape(id)
	b.get(t, interaction).wants(t, 200, id, "It was completed", `"><script>alert(4)</script>`).sound(t)
	if listed, err := url.Parse(b.get(t, "/activities?state=all").link(t, id)); err != nil || listed.Path != "/interactions" || listed.Query().Get("id") != id {
		t.Errorf("the interaction is linked as %s: %v", listed, err)
	}
	if all := b.get(t, "/interactions/text?key=long&id="+url.QueryEscape(id)); all.body != long {
		t.Errorf("all of the value has %d bytes", len(all.body))
	}
	b.get(t, "/interactions/text?key=none&id="+url.QueryEscape(id)).wants(t, 404)
}
