package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	displayed = zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_DISPLAYED
	link      = zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_LINK
	notShown  = zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_FAILED

	parallelPops = 4                // pages of one delivery that are shown at a time
	linkOnlyLife = 10 * time.Minute // how long it is remembered that an agent can be shown nothing

	displayPath = "/api/v2/channels/voice/agents"
	agentsPath  = "/api/v2/users/search"
)

// deliver delivers an interaction to a person, known by e-mail address.
func (s *testServer) deliver(t testing.TB, interaction string, to zendesktest.Person) *zendeskv1.DeliverInteractionResponse {
	t.Helper()
	resp, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
		InteractionId: interaction, Agent: &zendeskv1.Agent{Email: to.Email},
	})
	must(t, err)
	return resp
}

func outcomes(resp *zendeskv1.DeliverInteractionResponse) []zendeskv1.DeliveryOutcome {
	var list []zendeskv1.DeliveryOutcome
	for _, d := range resp.GetDeliveries() {
		list = append(list, d.GetOutcome())
	}
	return list
}

// shown returns what was shown in browsers, as "agent kind id".
func (s *testServer) shown() []string {
	var list []string
	for _, p := range s.zendesk.Pops() {
		list = append(list, fmt.Sprintf("%d %s %d", p.AgentID, p.Type, p.ID))
	}
	return list
}

func (s *testServer) askedFor(pathPrefix string) int {
	n := 0
	for _, r := range s.zendesk.Requests() {
		if strings.HasPrefix(r.Path, pathPrefix) {
			n++
		}
	}
	return n
}

func TestDeliverShowsEachPopOnce(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: "call-1", Target: &zendeskv1.ScreenPopRequest_OrganizationId{OrganizationId: fmt.Sprint(zendesktest.CallerOrganization)}})
	s.pop(t, toSearch("call-1"))
	s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: "call-1", Target: &zendeskv1.ScreenPopRequest_NewTicket{NewTicket: &zendeskv1.NewTicket{}}})
	first := s.deliver(t, "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(first), []zendeskv1.DeliveryOutcome{displayed, link, link, link})
	pops := s.interaction(t, "call-1").GetScreenPops()
	for i, d := range first.GetDeliveries() {
		mustEqual(t, "screen pop", d.GetScreenPop(), pops[i])
		mustEqual(t, "agent", d.GetAgent(), &zendeskv1.Agent{Email: zendesktest.Agent.Email})
		if d.GetFailure() != nil || d.GetTime() == nil || d.GetScreenPop().GetUrl() == "" {
			t.Errorf("delivery is %v", d)
		}
	}
	want := []string{fmt.Sprintf("%d ticket %s", zendesktest.Agent.ID, openTickets[0])}
	mustEqual(t, "shown", s.shown(), want)
	mustEqual(t, "repeat", s.deliver(t, "call-1", zendesktest.Person{Email: strings.ToUpper(zendesktest.Agent.Email)}), first)
	mustEqual(t, "shown after a repeat", s.shown(), want)

	// A pop that is noted later is shown by the next delivery, and only that.
	s.pop(t, toUser("call-1", zendesktest.Caller.ID))
	second := s.deliver(t, "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(second), []zendeskv1.DeliveryOutcome{displayed, link, link, link, displayed})
	mustEqual(t, "the first four", second.GetDeliveries()[:4], first.GetDeliveries())
	want = append(want, fmt.Sprintf("%d user %d", zendesktest.Agent.ID, zendesktest.Caller.ID))
	mustEqual(t, "shown", s.shown(), want)
	mustEqual(t, "look-ups of the agent", s.askedFor(agentsPath), 1)

	s.restart(t)
	mustEqual(t, "repeat after a restart", s.deliver(t, "call-1", zendesktest.Agent), second)
	mustEqual(t, "shown after a restart", s.shown(), want)
}

func TestDeliverUnknownInteraction(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	mustEqual(t, "deliveries", len(s.deliver(t, "call-1", zendesktest.Agent).GetDeliveries()), 0)
	if s.interaction(t, "call-1") != nil {
		t.Error("a delivery makes an interaction")
	}
}

func TestDeliverToSeveralAgents(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	var want []string
	for _, to := range []zendesktest.Person{zendesktest.Agent, zendesktest.OtherAgent, zendesktest.Agent, zendesktest.OtherAgent} {
		for range 2 {
			mustEqual(t, "outcomes", outcomes(s.deliver(t, "call-1", to)), []zendeskv1.DeliveryOutcome{displayed})
		}
		want = append(want, fmt.Sprintf("%d ticket %s", to.ID, openTickets[0]))
		mustEqual(t, "shown", s.shown(), want)
	}
}

// An interaction tells of all agents who had it, and of each pop what came of it last while one had it.
func TestInteractionTellsItsDeliveries(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	var want []*zendeskv1.Delivery
	for _, to := range []zendesktest.Person{zendesktest.Agent, zendesktest.OtherAgent, zendesktest.Agent} {
		want = append(want, s.deliver(t, "call-1", to).GetDeliveries()...)
		s.deliver(t, "call-1", to) // a repeat is none
		s.clock.advance(time.Second)
	}
	s.pop(t, toSearch("call-1"))
	want = append(want, s.deliver(t, "call-1", zendesktest.Agent).GetDeliveries()[1])
	mustEqual(t, "deliveries", s.interaction(t, "call-1").GetDeliveries(), want)
	s.restart(t)
	mustEqual(t, "deliveries after a restart", s.interaction(t, "call-1").GetDeliveries(), want)

	// So many transfers that not all are kept.
	for i := range 130 {
		s.clock.advance(time.Second)
		want = append(want, s.deliver(t, "call-1", []zendesktest.Person{zendesktest.OtherAgent, zendesktest.Agent}[i%2]).GetDeliveries()...)
	}
	slices.SortStableFunc(want, func(a, b *zendeskv1.Delivery) int { return a.GetTime().AsTime().Compare(b.GetTime().AsTime()) })
	got := s.interaction(t, "call-1").GetDeliveries()
	mustEqual(t, "the newest of many", got, want[len(want)-102:])
}

// Whatever keeps Zendesk from showing a page, the agent gets it as a link, and is told why.
func TestDeliverLinksWhatIsNotShown(t *testing.T) {
	t.Parallel()
	page, moved := "<html>Blocked</html>", map[string]string{"Location": "https://acme2.zendesk.com/api/v2/x"}
	for name, tt := range map[string]struct {
		fault zendesktest.Fault
		want  zendeskv1.FailureReason
	}{
		"refused":     {zendesktest.Fault{Status: 403}, zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED},
		"throttled":   {zendesktest.Fault{Status: 429, RetryAfter: "60"}, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED},
		"no patience": {zendesktest.Fault{Status: 429}, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED},
		"credential":  {zendesktest.Fault{Status: 401}, zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED},
		"broken":      {zendesktest.Fault{Status: 501}, zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE},
		"cut":         {zendesktest.Fault{Drop: zendesktest.DropBefore}, zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE},
		"blocked":     {zendesktest.Fault{Status: 403, Body: &page, Edit: &zendesktest.Edit{Header: map[string]string{"Content-Type": "text/html"}}}, zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE},
		"moved":       {zendesktest.Fault{Status: 301, Edit: &zendesktest.Edit{Header: moved}}, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE},
	} {
		for place, path := range map[string]string{"looking up the agent": agentsPath, "showing": displayPath} {
			t.Run(name+", "+place, func(t *testing.T) {
				t.Parallel()
				s := newBlockServer(t)
				s.pop(t, toTicket("call-1", openTickets[0]))
				s.pop(t, toSearch("call-1"))
				tt.fault.PathPrefix = path
				s.zendesk.AddFault(tt.fault)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				first, err := s.interactions.DeliverInteraction(ctx, &zendeskv1.DeliverInteractionRequest{
					InteractionId: "call-1", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
				})
				must(t, err)
				mustEqual(t, "outcomes", outcomes(first), []zendeskv1.DeliveryOutcome{link, link})
				f := first.GetDeliveries()[0].GetFailure()
				if f.GetReason() != tt.want || (f.GetRetryAfter() != nil) != (tt.fault.RetryAfter != "") {
					t.Errorf("failure is %v", f)
				}
				if f := first.GetDeliveries()[1].GetFailure(); f != nil {
					t.Errorf("the search page's failure is %v", f)
				}
				mustEqual(t, "repeat", s.deliver(t, "call-1", zendesktest.Agent), first)
				mustEqual(t, "shown", len(s.shown()), 0)
			})
		}
	}
}

// While Zendesk wants to be left alone it is, and the others of the account are told what it said.
func TestDeliverLeavesZendeskAlone(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	for i := range 3 * parallelPops {
		s.pop(t, toUser("call-1", zendesktest.PhoneFormats[i%len(zendesktest.PhoneFormats)].ID))
	}
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 429, RetryAfter: "60"})
	for _, d := range s.deliver(t, "call-1", zendesktest.Agent).GetDeliveries() {
		if d.GetOutcome() != link || d.GetFailure().GetReason() != zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED {
			t.Errorf("delivery is %v", d)
		}
	}
	if asked := s.askedFor(displayPath); asked > parallelPops {
		t.Errorf("Zendesk was asked %d times inside its Retry-After", asked)
	}
	s.zendesk.ClearFaults()
	before := s.askedFor(displayPath)
	s.clock.advance(30 * time.Second)
	s.pop(t, toTicket("call-2", openTickets[0]))
	f := s.deliver(t, "call-2", zendesktest.OtherAgent).GetDeliveries()[0].GetFailure()
	if f.GetReason() != zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED || f.GetAttempts() != 0 || f.GetRetryAfter().AsDuration() > 31*time.Second {
		t.Errorf("failure is %v", f)
	}
	mustEqual(t, "requests", s.askedFor(displayPath), before)
	s.clock.advance(31 * time.Second)
	s.pop(t, toTicket("call-3", openTickets[0]))
	mustEqual(t, "outcomes", outcomes(s.deliver(t, "call-3", zendesktest.Agent)), []zendeskv1.DeliveryOutcome{displayed})
}

// An agent's address is looked up as it is written, and found in either of its encodings, and when it is not the primary one.
func TestDeliverToUnusualAddresses(t *testing.T) {
	t.Parallel()
	const composed, decomposed = "j\u00f6rg@example.com", "jo\u0308rg@example.com"
	for name, tt := range map[string]struct {
		address string
		people  string // what the search answers
		others  string // the identities of who is found
		want    zendeskv1.DeliveryOutcome
	}{
		"apostrophe":  {"pat.o'brien@example.com", person("pat.o'brien@example.com"), "", displayed},
		"composed":    {composed, person(decomposed), "", displayed},
		"decomposed":  {decomposed, person(composed), "", displayed},
		"domain":      {"jane@b\u00fccher.example", person("jane@b\u00fccher.example"), "", displayed},
		"not primary": {"sam@home.example", person(zendesktest.Agent.Email), `{"identities":[{"id":1,"user_id":1,"type":"email","value":"sam@home.example"}],"meta":{"has_more":false}}`, displayed},
		"another's":   {"sam@home.example", person(zendesktest.Agent.Email), `{"identities":[],"meta":{"has_more":false}}`, link},
		"quoted":      {`"a*b"@example.com`, person(zendesktest.Agent.Email), "", link},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBlockServer(t)
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: agentsPath, Body: &tt.people})
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: fmt.Sprintf("/api/v2/users/%d/identities", zendesktest.Agent.ID), Body: &tt.others})
			s.pop(t, toTicket("call-1", openTickets[0]))
			first := s.deliver(t, "call-1", zendesktest.Person{Email: tt.address})
			mustEqual(t, "outcomes", outcomes(first), []zendeskv1.DeliveryOutcome{tt.want})
			if f := first.GetDeliveries()[0].GetFailure(); (f == nil) != (tt.want == displayed) {
				t.Errorf("failure is %v", f)
			}
			if name == "composed" {
				mustEqual(t, "repeat in the other encoding", s.deliver(t, "call-1", zendesktest.Person{Email: decomposed}), first)
			}
		})
	}
}

// person is a list of users: the seeded agent with that address.
func person(email string) string {
	return fmt.Sprintf(`{"users":[{"id":%d,"name":"Somebody","email":%q,"role":"agent","active":true}],"count":1,"next_page":null}`, zendesktest.Agent.ID, email)
}

// Success is told by the status alone.
func TestDeliverWhateverTheAnswerHolds(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"OK", "null", "", " "} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			s := newBlockServer(t)
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 200, Body: &body})
			s.pop(t, toTicket("call-1", openTickets[0]))
			mustEqual(t, "outcomes", outcomes(s.deliver(t, "call-1", zendesktest.Agent)), []zendeskv1.DeliveryOutcome{displayed})
		})
	}
}

// Completions and pops that come while a delivery is made: nothing is shown twice, and what was answered is what was shown.
func TestDeliverWhileTheInteractionChanges(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	user := zendesktest.Caller.ID
	var group sync.WaitGroup
	for i := range 16 {
		id := fmt.Sprintf("call-%d", i)
		s.pop(t, toTicket(id, openTickets[0]))
		var first *zendeskv1.DeliverInteractionResponse
		var completed *zendeskv1.CompleteInteractionResponse
		var popped *zendeskv1.ScreenPopResponse
		var errs [2]error
		group.Go(func() {
			first, errs[0] = s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
				InteractionId: id, Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
			})
		})
		group.Go(func() {
			if i%2 == 0 {
				completed, errs[1] = s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{InteractionId: id})
				return
			}
			popped, errs[1] = s.blocks.ScreenPop(t.Context(), toUser(id, user))
		})
		group.Wait()
		must(t, errors.Join(errs[:]...))
		if completed != nil {
			mustEqual(t, "repeat of "+id, s.deliver(t, id, zendesktest.Agent), first)
			mustEqual(t, "ticket of "+id, completed.GetActivity().GetTicketId(), openTickets[0])
			continue
		}
		mustExit(t, popped, next)
		mustEqual(t, "outcomes of "+id, outcomes(s.deliver(t, id, zendesktest.Agent)), []zendeskv1.DeliveryOutcome{displayed, displayed})
	}
	told := 0
	for i := range 16 {
		told += len(s.deliver(t, fmt.Sprintf("call-%d", i), zendesktest.Agent).GetDeliveries())
	}
	mustEqual(t, "shown in all", len(s.shown()), told)
}

// All that one interaction may have at most is delivered at once, and answered again.
func TestDeliverMaxima(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	for i := range maxScreenPops - 1 {
		id := fmt.Sprintf("account-%d", i)
		s.createAccount(t, id, zendesktest.Admin)
		s.selectAccount(t, "call-1", id)
		long := strings.Repeat("\u00e9", maxTextBytes/2-2) + fmt.Sprintf("%02d", i)
		mustExit(t, s.pop(t, &zendeskv1.ScreenPopRequest{
			InteractionId: "call-1", Target: &zendeskv1.ScreenPopRequest_SearchString{SearchString: long},
		}), next)
	}
	mustExit(t, s.pop(t, toTicket("call-1", openTickets[0])), next)
	names := make([]string, maxRecordsets)
	for i := range names {
		names[i] = fmt.Sprintf("RS%d", i)
		mustExit(t, s.search(t, "call-1", callerQuery, func(r *zendeskv1.SearchRequest) { r.RecordsetName = names[i] }), next)
	}
	data := make(map[string]string)
	for i := range 200 {
		data[fmt.Sprintf("key%03d", i)] = "$(" + names[i%len(names)] + ".name)"
	}
	attached := s.attach(t, "call-1", data)
	mustExit(t, attached, next)
	mustEqual(t, "a value", attached.GetData()["key199"], zendesktest.Caller.Name)
	req := &zendeskv1.DeliverInteractionRequest{InteractionId: "call-1", RequestId: "r", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}}
	first, err := s.interactions.DeliverInteraction(t.Context(), req)
	must(t, err)
	mustEqual(t, "deliveries", len(first.GetDeliveries()), maxScreenPops)
	mustEqual(t, "the last outcome", first.GetDeliveries()[maxScreenPops-1].GetOutcome(), displayed)
	repeat, err := s.interactions.DeliverInteraction(t.Context(), req)
	must(t, err)
	mustEqual(t, "repeat", repeat, first)
	mustEqual(t, "shown", len(s.shown()), 1)
}

func TestDeliverToWhomZendeskCannotShow(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	for name, tt := range map[string]struct {
		agent  *zendeskv1.Agent
		ticket string
		reason zendeskv1.FailureReason
	}{
		"unknown":          {&zendeskv1.Agent{Email: "nobody@example.com"}, openTickets[0], zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND},
		"unknown id":       {&zendeskv1.Agent{Email: "somebody@example.com", ZendeskUserId: "4711"}, openTickets[0], zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND},
		"a customer":       {&zendeskv1.Agent{Email: zendesktest.EndUser.Email}, openTickets[0], zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND},
		"unlicensed":       {&zendeskv1.Agent{Email: zendesktest.UnlicensedAgent.Email}, openTickets[0], zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED},
		"unknown ticket":   {&zendeskv1.Agent{Email: zendesktest.OtherAgent.Email}, "4711", zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND},
		"unlicensed by id": {&zendeskv1.Agent{Email: "tom@example.com", ZendeskUserId: fmt.Sprint(zendesktest.UnlicensedAgent.ID)}, openTickets[0], zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED},
	} {
		id := strings.ReplaceAll(name, " ", "-")
		s.pop(t, toTicket(id, tt.ticket))
		resp, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{InteractionId: id, Agent: tt.agent})
		must(t, err)
		mustEqual(t, "outcomes, "+name, outcomes(resp), []zendeskv1.DeliveryOutcome{link})
		mustEqual(t, "reason, "+name, resp.GetDeliveries()[0].GetFailure().GetReason(), tt.reason)
	}
	mustEqual(t, "shown", len(s.shown()), 0)
	// That an agent cannot be shown anything is remembered for a while.
	for i, want := range []int{0, 1} {
		asked := s.askedFor(displayPath)
		s.clock.advance(time.Duration(i) * linkOnlyLife)
		id := fmt.Sprintf("unlicensed-%d", i)
		s.pop(t, toTicket(id, openTickets[0]))
		mustEqual(t, "outcomes", outcomes(s.deliver(t, id, zendesktest.UnlicensedAgent)), []zendeskv1.DeliveryOutcome{link})
		mustEqual(t, "requests", s.askedFor(displayPath)-asked, want)
	}
	// The others are not held back by it.
	s.pop(t, toTicket("licensed", openTickets[0]))
	mustEqual(t, "outcomes", outcomes(s.deliver(t, "licensed", zendesktest.Agent)), []zendeskv1.DeliveryOutcome{displayed})
	s.pop(t, toTicket("known-ticket", openTickets[0]))
	mustEqual(t, "outcomes", outcomes(s.deliver(t, "known-ticket", zendesktest.OtherAgent)), []zendeskv1.DeliveryOutcome{displayed})
}

func TestDeliverByTheAgentsID(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	resp, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
		InteractionId: "call-1", Agent: &zendeskv1.Agent{Email: "Sam@Elsewhere.example", ZendeskUserId: fmt.Sprint(zendesktest.Agent.ID)},
	})
	must(t, err)
	mustEqual(t, "outcomes", outcomes(resp), []zendeskv1.DeliveryOutcome{displayed})
	mustEqual(t, "agent", resp.GetDeliveries()[0].GetAgent().GetEmail(), "sam@elsewhere.example")
	mustEqual(t, "look-ups", s.askedFor(agentsPath), 0)
}

func TestDeliverWithoutTheEndpoint(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t, func(_ *Config, z *zendesktest.Config) { z.NoScreenPop = true })
	for i, want := range []int{1, 1, 2} {
		if i == 2 {
			s.clock.advance(linkOnlyLife)
		}
		id := fmt.Sprintf("call-%d", i)
		s.pop(t, toTicket(id, openTickets[0]))
		to := []zendesktest.Person{zendesktest.Agent, zendesktest.OtherAgent, zendesktest.Agent}[i]
		mustEqual(t, "outcomes", outcomes(s.deliver(t, id, to)), []zendeskv1.DeliveryOutcome{link})
		mustEqual(t, "requests", s.askedFor(displayPath), want)
	}
}

func TestDeliverConcurrently(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	const pops = 6
	for i := range pops {
		s.pop(t, toUser("call-1", zendesktest.PhoneFormats[i].ID))
	}
	var wg sync.WaitGroup
	replies := make([]*zendeskv1.DeliverInteractionResponse, 8)
	for i := range replies {
		wg.Go(func() {
			resp, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
				InteractionId: "call-1", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
			})
			if err != nil {
				t.Error(err)
			}
			replies[i] = resp
		})
	}
	wg.Wait()
	for _, resp := range replies {
		mustEqual(t, "reply", resp, replies[0])
	}
	mustEqual(t, "shown", len(s.shown()), pops)
}

func TestDeliverWhenZendeskHangs(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"looking up the agent": agentsPath, "showing": displayPath} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBlockServer(t)
			for i := range 2*parallelPops + 1 {
				s.pop(t, toUser("call-1", zendesktest.PhoneFormats[i].ID))
			}
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: path, Delay: time.Hour})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			resp, err := s.interactions.DeliverInteraction(ctx, &zendeskv1.DeliverInteractionRequest{
				InteractionId: "call-1", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
			})
			must(t, err)
			mustEqual(t, "deliveries", len(resp.GetDeliveries()), 2*parallelPops+1)
			for _, d := range resp.GetDeliveries() {
				if d.GetOutcome() != link || d.GetFailure().GetReason() != zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT {
					t.Errorf("delivery is %v", d)
				}
			}
		})
	}
}

func TestDeliverWithoutTheAccount(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.createAccount(t, "second", zendesktest.Agent)
	s.selectAccount(t, "call-1", "second")
	s.pop(t, toTicket("call-1", openTickets[0]))
	s.deleteAccount(t, "second")
	s.createAccount(t, "second", zendesktest.Agent) // another one
	resp := s.deliver(t, "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(resp), []zendeskv1.DeliveryOutcome{link})
	mustEqual(t, "reason", resp.GetDeliveries()[0].GetFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)
	mustEqual(t, "requests", s.askedFor(displayPath), 0)
}

func TestDeliverAfterCompletion(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	first := s.deliver(t, "call-1", zendesktest.Agent)
	s.complete(t, "call-1", "")
	mustEqual(t, "repeat", s.deliver(t, "call-1", zendesktest.Agent), first)
	mustEqual(t, "deliveries to another", len(s.deliver(t, "call-1", zendesktest.OtherAgent).GetDeliveries()), 0)
	mustEqual(t, "repeat after that", s.deliver(t, "call-1", zendesktest.Agent), first)
	s.pop(t, toTicket("call-2", openTickets[0]))
	s.complete(t, "call-2", "")
	mustEqual(t, "deliveries", len(s.deliver(t, "call-2", zendesktest.Agent).GetDeliveries()), 0)
	mustEqual(t, "shown", len(s.shown()), 1)
}

func TestDeliverBadInput(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	for name, tt := range map[string]struct {
		req  *zendeskv1.DeliverInteractionRequest
		want []string
	}{
		"empty":     {&zendeskv1.DeliverInteractionRequest{}, []string{"interaction_id", "agent.email"}},
		"no e-mail": {&zendeskv1.DeliverInteractionRequest{InteractionId: "call-1", Agent: &zendeskv1.Agent{ZendeskUserId: "1"}}, []string{"agent.email"}},
		"bad e-mail": {&zendeskv1.DeliverInteractionRequest{
			InteractionId: "a b", Agent: &zendeskv1.Agent{Email: "nobody", ZendeskUserId: "-1"},
		}, []string{"interaction_id", "agent.email", "agent.zendesk_user_id"}},
		"long id": {&zendeskv1.DeliverInteractionRequest{
			InteractionId: "call-1", Agent: &zendeskv1.Agent{Email: "a@b.example", ZendeskUserId: strings.Repeat("1", 20)},
		}, []string{"agent.zendesk_user_id"}},
		"long e-mail": {&zendeskv1.DeliverInteractionRequest{
			InteractionId: "call-1", Agent: &zendeskv1.Agent{Email: strings.Repeat("a", 320) + "@b.example"},
		}, []string{"agent.email"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.interactions.DeliverInteraction(t.Context(), tt.req)
			mustViolate(t, err, tt.want...)
		})
	}
	mustEqual(t, "requests", s.askedFor(http.MethodGet), 0)
}

// deliverAs delivers an interaction to a person with a request_id.
func (s *testServer) deliverAs(t testing.TB, requestID, interaction string, to zendesktest.Person) *zendeskv1.DeliverInteractionResponse {
	t.Helper()
	resp, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
		InteractionId: interaction, Agent: &zendeskv1.Agent{Email: to.Email}, RequestId: requestID,
	})
	must(t, err)
	return resp
}

// A repeat is answered as the first was, also when the interaction has gone on meanwhile; it shows nothing.
func TestDeliverWithRequestID(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	s.pop(t, toSearch("call-1"))
	first := s.deliverAs(t, "r1", "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(first), []zendeskv1.DeliveryOutcome{displayed, link})
	want := []string{fmt.Sprintf("%d ticket %s", zendesktest.Agent.ID, openTickets[0])}
	mustEqual(t, "repeat", s.deliverAs(t, "r1", "call-1", zendesktest.Agent), first)
	mustEqual(t, "shown after a repeat", s.shown(), want)
	// While it stays with the agent, another request is a repeat too, and shows what is new.
	mustEqual(t, "another request", s.deliverAs(t, "r1b", "call-1", zendesktest.Agent), first)
	mustEqual(t, "without a request_id", s.deliver(t, "call-1", zendesktest.Agent), first)
	s.pop(t, toUser("call-1", zendesktest.Caller.ID))
	mustEqual(t, "repeat after another pop", s.deliverAs(t, "r1", "call-1", zendesktest.Agent), first)
	mustEqual(t, "shown after another pop", s.shown(), want)
	later := s.deliverAs(t, "r1c", "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes with the new pop", outcomes(later), []zendeskv1.DeliveryOutcome{displayed, link, displayed})
	want = append(want, fmt.Sprintf("%d user %d", zendesktest.Agent.ID, zendesktest.Caller.ID))
	mustEqual(t, "shown with the new pop", s.shown(), want)

	// It goes to another agent: a late repeat is answered, and takes nothing from the other.
	second := s.deliverAs(t, "r2", "call-1", zendesktest.OtherAgent)
	mustEqual(t, "outcomes at the other agent", outcomes(second), []zendeskv1.DeliveryOutcome{displayed, link, displayed})
	want = append(want, fmt.Sprintf("%d ticket %s", zendesktest.OtherAgent.ID, openTickets[0]), fmt.Sprintf("%d user %d", zendesktest.OtherAgent.ID, zendesktest.Caller.ID))
	shown := s.shown()
	mustEqual(t, "shown to the other", sorted(shown), sorted(want))
	for range 2 {
		mustEqual(t, "late repeat", s.deliverAs(t, "r1", "call-1", zendesktest.Agent), first)
		mustEqual(t, "late repeat of the last", s.deliverAs(t, "r1c", "call-1", zendesktest.Agent), later)
		mustEqual(t, "repeat at the other", s.deliverAs(t, "r2", "call-1", zendesktest.OtherAgent), second)
		mustEqual(t, "shown after late repeats", s.shown(), shown)
		s.restart(t)
	}

	// It comes back: with another request_id that is a new arrival.
	third := s.deliverAs(t, "r3", "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes of the second visit", outcomes(third), []zendeskv1.DeliveryOutcome{displayed, link, displayed})
	mustEqual(t, "shown in the second visit", len(s.shown()), len(shown)+2)
	mustEqual(t, "late repeat of the first visit", s.deliverAs(t, "r1", "call-1", zendesktest.Agent), first)
	mustEqual(t, "repeat of the second visit", s.deliverAs(t, "r3", "call-1", zendesktest.Agent), third)
	mustEqual(t, "shown in the end", len(s.shown()), len(shown)+2)
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// markFailed makes the deliveries that have a failure FAILED, as those are whose pages have no address.
func (s *testServer) markFailed(t testing.TB, interaction, requestID string) {
	t.Helper()
	must(t, s.store.UpdateInteraction(t.Context(), "default", interaction, func(tx *store.InteractionTxn) error {
		made, err := tx.Deliveries()
		if err != nil {
			return err
		}
		for i := range made.Items {
			if made.Items[i].Failure != nil {
				made.Items[i].Outcome = store.DeliveryFailed
			}
		}
		tx.SetDeliveries(made)
		reply, found, err := tx.Reply("DeliverInteraction", requestID)
		if err != nil || !found {
			return err
		}
		var answer zendeskv1.DeliverInteractionResponse
		if err := proto.Unmarshal(reply.Body, &answer); err != nil {
			return err
		}
		for _, d := range answer.GetDeliveries() {
			if d.GetFailure() != nil {
				d.Outcome = notShown
			}
		}
		if reply.Body, err = proto.Marshal(&answer); err != nil {
			return err
		}
		tx.KeepReply("DeliverInteraction", requestID, reply)
		return nil
	}))
}

// Of a request that is repeated what FAILED is tried again, as long as the agent has the interaction.
func TestDeliverWithRequestIDTriesAgainWhatFailed(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	s.pop(t, toSearch("call-1"))
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 500, Times: 1})
	first := s.deliverAs(t, "r1", "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(first), []zendeskv1.DeliveryOutcome{link, link})
	mustEqual(t, "repeat", s.deliverAs(t, "r1", "call-1", zendesktest.Agent), first)
	s.markFailed(t, "call-1", "r1")
	s.pop(t, toUser("call-1", zendesktest.Caller.ID)) // is not of that request
	second := s.deliverAs(t, "r1", "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes of the second try", outcomes(second), []zendeskv1.DeliveryOutcome{displayed, link})
	mustEqual(t, "link", second.GetDeliveries()[1], first.GetDeliveries()[1])
	mustEqual(t, "repeat", s.deliverAs(t, "r1", "call-1", zendesktest.Agent), second)
	want := []string{fmt.Sprintf("%d ticket %s", zendesktest.Agent.ID, openTickets[0])}
	mustEqual(t, "shown", s.shown(), want)
	// Nor is it when what was noted later has been shown by another request.
	want = append(want, fmt.Sprintf("%d user %d", zendesktest.Agent.ID, zendesktest.Caller.ID))
	mustEqual(t, "outcomes of another request", outcomes(s.deliverAs(t, "r2", "call-1", zendesktest.Agent)), []zendeskv1.DeliveryOutcome{displayed, link, displayed})
	mustEqual(t, "late repeat", s.deliverAs(t, "r1", "call-1", zendesktest.Agent), second)
	mustEqual(t, "shown", s.shown(), want)

	// It FAILED, and the interaction has gone on: that agent is shown nothing any more.
	s.pop(t, toTicket("call-2", openTickets[1]))
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 500, Times: 1})
	s.deliverAs(t, "r1", "call-2", zendesktest.Agent)
	s.markFailed(t, "call-2", "r1")
	s.deliverAs(t, "r2", "call-2", zendesktest.OtherAgent)
	mustEqual(t, "late repeat of what failed", outcomes(s.deliverAs(t, "r1", "call-2", zendesktest.Agent)), []zendeskv1.DeliveryOutcome{notShown})
	want = append(want, fmt.Sprintf("%d ticket %s", zendesktest.OtherAgent.ID, openTickets[1]))
	mustEqual(t, "shown in the end", s.shown(), want)
}

// One id is one arrival, of one interaction at one agent.
func TestDeliverWithRequestIDReused(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	for _, interaction := range []string{"call-1", "call-2"} {
		s.pop(t, toTicket(interaction, openTickets[0]))
		mustEqual(t, "outcomes", outcomes(s.deliverAs(t, "r1", interaction, zendesktest.Agent)), []zendeskv1.DeliveryOutcome{displayed})
	}
	for _, agent := range []*zendeskv1.Agent{{Email: zendesktest.OtherAgent.Email}, {Email: zendesktest.Agent.Email, ZendeskUserId: "1"}} {
		_, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{InteractionId: "call-1", Agent: agent, RequestId: "r1"})
		info := mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
		mustEqual(t, "metadata", info.GetMetadata(), map[string]string{"request_id": "r1"})
	}
	for _, id := range []string{"a b", "é", strings.Repeat("r", 129)} {
		_, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
			InteractionId: "call-1", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}, RequestId: id,
		})
		mustViolate(t, err, "request_id")
	}
	mustEqual(t, "shown", len(s.shown()), 2)
}

// Repeats that come at once are one arrival.
func TestDeliverWithRequestIDConcurrently(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	var group sync.WaitGroup
	replies := make([]*zendeskv1.DeliverInteractionResponse, 8)
	for i := range replies {
		group.Go(func() {
			var err error
			replies[i], err = s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
				InteractionId: "call-1", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}, RequestId: "r1",
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, resp := range replies {
		mustEqual(t, "reply", resp, replies[0])
	}
	mustEqual(t, "shown", len(s.shown()), 1)
}

// Watchers tell deliveries by their ids: each try, and each visit, has its own; a repeat brings none.
func TestDeliveryIDs(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	stream := watch(t, s.interactions, zendesktest.UnlicensedAgent)
	s.pop(t, toTicket("call-1", openTickets[0]))
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 500, Times: 1})
	seen := map[string]bool{}
	var told []*zendeskv1.Delivery
	deliver := func(to zendesktest.Person, want ...zendeskv1.DeliveryOutcome) {
		t.Helper()
		resp := s.deliver(t, "call-1", to)
		mustEqual(t, "outcomes", outcomes(resp), want)
		for _, d := range resp.GetDeliveries() {
			if d.GetDeliveryId() == "" || seen[d.GetDeliveryId()] {
				t.Errorf("delivery %v has no id of its own", d)
			}
			seen[d.GetDeliveryId()] = true
			if to.Email == zendesktest.UnlicensedAgent.Email {
				told = append(told, d)
			}
		}
		mustEqual(t, "repeat", s.deliver(t, "call-1", to), resp)
	}
	deliver(zendesktest.UnlicensedAgent, link)
	s.markFailed(t, "call-1", "")
	deliver(zendesktest.UnlicensedAgent, link) // FAILED has become a LINK
	deliver(zendesktest.OtherAgent, displayed)
	deliver(zendesktest.UnlicensedAgent, link) // a later visit
	for _, want := range told {
		resp, err := stream.Recv()
		must(t, err)
		mustEqual(t, "delivery that is watched", resp.GetDelivery(), want)
	}
	// One that connects again leaves out what it has seen.
	again := watch(t, s.interactions, zendesktest.UnlicensedAgent)
	for range told {
		resp, err := again.Recv()
		must(t, err)
		if !seen[resp.GetDelivery().GetDeliveryId()] {
			t.Errorf("%v is told with another id", resp)
		}
	}
}
