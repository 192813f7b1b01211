package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
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

func TestDeliverTriesAgainWhatFailed(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	s.pop(t, toSearch("call-1"))
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 500, Times: 1})
	first := s.deliver(t, "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(first), []zendeskv1.DeliveryOutcome{notShown, link})
	if f := first.GetDeliveries()[0].GetFailure(); f.GetReason() != zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE || f.GetHttpStatus() != 500 {
		t.Errorf("failure is %v", f)
	}
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 401, Times: 1})
	second := s.deliver(t, "call-1", zendesktest.Agent)
	mustEqual(t, "reason", second.GetDeliveries()[0].GetFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED)
	third := s.deliver(t, "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(third), []zendeskv1.DeliveryOutcome{displayed, link})
	mustEqual(t, "link", third.GetDeliveries()[1], first.GetDeliveries()[1])
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
		"unlicensed":       {&zendeskv1.Agent{Email: zendesktest.UnlicensedAgent.Email}, openTickets[0], 0},
		"unknown ticket":   {&zendeskv1.Agent{Email: zendesktest.OtherAgent.Email}, "4711", zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND},
		"unlicensed by id": {&zendeskv1.Agent{Email: "tom@example.com", ZendeskUserId: fmt.Sprint(zendesktest.UnlicensedAgent.ID)}, openTickets[0], 0},
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
				if d.GetOutcome() != notShown || d.GetFailure().GetReason() != zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT {
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

// Of a request that is repeated what FAILED is tried again, as long as the agent has the interaction.
func TestDeliverWithRequestIDTriesAgainWhatFailed(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.pop(t, toTicket("call-1", openTickets[0]))
	s.pop(t, toSearch("call-1"))
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 500, Times: 2})
	first := s.deliverAs(t, "r1", "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(first), []zendeskv1.DeliveryOutcome{notShown, link})
	if !first.GetDeliveries()[0].GetFailure().GetRetryable() {
		t.Errorf("delivery is %v, want it retryable", first.GetDeliveries()[0])
	}
	s.pop(t, toUser("call-1", zendesktest.Caller.ID)) // is not of that request
	second := s.deliverAs(t, "r1", "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes of the second try", outcomes(second), []zendeskv1.DeliveryOutcome{notShown, link})
	third := s.deliverAs(t, "r1", "call-1", zendesktest.Agent)
	mustEqual(t, "outcomes of the third try", outcomes(third), []zendeskv1.DeliveryOutcome{displayed, link})
	mustEqual(t, "link", third.GetDeliveries()[1], first.GetDeliveries()[1])
	mustEqual(t, "repeat", s.deliverAs(t, "r1", "call-1", zendesktest.Agent), third)
	want := []string{fmt.Sprintf("%d ticket %s", zendesktest.Agent.ID, openTickets[0])}
	mustEqual(t, "shown", s.shown(), want)

	// It FAILED, and the interaction has gone on: that agent is shown nothing any more.
	s.pop(t, toTicket("call-2", openTickets[1]))
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: displayPath, Status: 500, Times: 1})
	failed := s.deliverAs(t, "r1", "call-2", zendesktest.Agent)
	mustEqual(t, "outcomes", outcomes(failed), []zendeskv1.DeliveryOutcome{notShown})
	s.deliverAs(t, "r2", "call-2", zendesktest.OtherAgent)
	mustEqual(t, "late repeat of what failed", s.deliverAs(t, "r1", "call-2", zendesktest.Agent), failed)
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
		mustEqual(t, "repeat of what did not fail", outcomes(resp)[0] == notShown || cmp.Equal(s.deliver(t, "call-1", to), resp, protocmp.Transform()), true)
	}
	deliver(zendesktest.UnlicensedAgent, notShown)
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
