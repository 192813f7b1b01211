package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// While Zendesk's tickets cannot be reached, completions are taken and wait, whatever becomes of the process, and what
// Zendesk still answers is answered. Afterwards all of them are written by themselves, in their order.
func TestOutage(t *testing.T) {
	t.Parallel()
	const (
		tickets = 20
		calls   = 5 // of each ticket in each part of the outage
	)
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", hostOf(sandbox.origin))
	s.createAccount(t, "default", sandbox.origin)
	waiting := &waitingCalls{tickets: sandbox.takingTickets(t, tickets)}
	started := time.Now()
	// outage replaces the trouble that everything about tickets is in.
	outage := func(fault map[string]any) {
		t.Helper()
		sandbox.clearFaults(t)
		fault["path_prefix"] = "/api/v2/ticket"
		sandbox.addFault(t, fault)
	}
	lost := func() int {
		return len(slices.DeleteFunc(sandbox.requests(t), func(r zendesktest.Request) bool { return r.Status != 0 }))
	}
	complete := func() {
		t.Helper()
		waiting.complete(t, s, calls, func(call string) error {
			var number int32
			if _, err := fmt.Sscanf(call, "call-%d", &number); err != nil {
				return err
			}
			reply, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{
				InteractionId: call, RequestId: "search", RecordsetName: "caller", SearchString: "type:user email:" + zendesktest.Caller.Email,
				MaxResults: 1 + number, // what does not differ is asked once for all that ask at a time
			})
			if err != nil || reply.GetExit() != zendeskv1.Exit_EXIT_NEXT {
				return fmt.Errorf("search: %v, %w", reply, err)
			}
			return nil
		})
	}
	const unavailable = zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE

	// Nothing is answered for longer than this test has.
	outage(map[string]any{"delay_ms": (10 * patience).Milliseconds()})
	complete()
	s.kill(t)
	until(t, "Zendesk sees the asker gone", func() bool { return lost() > 0 })

	outage(map[string]any{"status": http.StatusServiceUnavailable})
	s.start(t)
	complete()
	s.awaitBlocked(t, waiting.first, unavailable)
	s.stop(t)

	outage(map[string]any{"drop": "before"})
	s.start(t)
	complete()
	s.awaitBlocked(t, waiting.first, unavailable)
	s.stop(t)

	s.start(t)
	s.awaitBlocked(t, waiting.first, unavailable)
	waiting.mustWait(t, s)
	sandbox.clearFaults(t)
	s.awaitWritten(t)
	waiting.mustBeWritten(t, s, sandbox, started)

	searches := 0
	for _, request := range sandbox.requests(t) {
		if strings.HasPrefix(request.Path, "/api/v2/search") && request.Status == http.StatusOK {
			searches++
		}
	}
	if want := waiting.count; searches != want {
		t.Errorf("Zendesk answered %d searches, want %d", searches, want)
	}
}

// While an account's token is dead its activities wait, and none is given up. They are written when there is a new one.
func TestDeadToken(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", hostOf(sandbox.origin))
	s.createAccount(t, "default", sandbox.origin)
	waiting := &waitingCalls{tickets: sandbox.takingTickets(t, 6)}
	started := time.Now()
	// A token that someone else asked for cannot be renewed here.
	var token struct {
		AccessToken string `json:"access_token"`
	}
	sandbox.do(t, http.MethodPost, "/oauth/tokens", map[string]any{
		"grant_type": "client_credentials", "client_id": zendesktest.ClientID, "client_secret": zendesktest.ClientSecret, "scope": "read write",
	}, &token)
	_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{
		Account:    &zendeskv1.Account{AccountId: "default", OauthToken: &zendeskv1.OAuthToken{AccessToken: token.AccessToken}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"oauth_token.access_token"}},
	})
	must(t, err)

	const rejected = zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED
	sandbox.do(t, http.MethodPost, "/_sandbox/tokens/revoke", map[string]any{"access_token": token.AccessToken}, nil)
	waiting.complete(t, s, 5, func(call string) error {
		reply, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{
			InteractionId: call, RecordsetName: "caller", SearchString: "type:user email:" + zendesktest.Caller.Email,
		})
		if err != nil || reply.GetFailure().GetReason() != rejected {
			return fmt.Errorf("search: %v, %w", reply, err)
		}
		return nil
	})
	s.awaitBlocked(t, waiting.first, rejected)
	s.kill(t)
	s.start(t)
	s.awaitBlocked(t, waiting.first, rejected)
	waiting.mustWait(t, s)

	_, err = s.accounts.RequestToken(t.Context(), &zendeskv1.RequestTokenRequest{
		AccountId: "default", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret,
	})
	must(t, err)
	s.awaitWritten(t)
	waiting.mustBeWritten(t, s, sandbox, started)
}

// waitingCalls are calls that are completed while Zendesk cannot be reached.
type waitingCalls struct {
	tickets      []string
	acknowledged map[string][]string // by ticket, in their order
	first        string              // activity
	count        int
}

// complete completes so many more calls of each ticket, after work for each; the tickets at the same time.
func (w *waitingCalls) complete(t testing.TB, s *service, calls int, work func(call string) error) {
	t.Helper()
	if w.acknowledged == nil {
		w.acknowledged = map[string][]string{}
	}
	given, ids := make([][]string, len(w.tickets)), make([]string, len(w.tickets))
	var running errgroup.Group
	for i, ticket := range w.tickets {
		running.Go(func() error {
			for n := range calls {
				call := callID(w.count + i*calls + n)
				if err := work(call); err != nil {
					return fmt.Errorf("%s: %w", call, err)
				}
				reply, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
					InteractionId: call, TicketId: ticket, Details: &zendeskv1.ActivityDetails{Channel: "voice", Notes: "Call " + call},
				})
				if err != nil {
					return fmt.Errorf("%s: %w", call, err)
				}
				given[i], ids[i] = append(given[i], call), reply.GetActivity().GetActivityId()
			}
			return nil
		})
	}
	must(t, running.Wait())
	for i, ticket := range w.tickets {
		w.acknowledged[ticket] = append(w.acknowledged[ticket], given[i]...)
	}
	w.first = ids[0]
	w.count += calls * len(w.tickets)
}

// mustWait checks that all of them are still to be written.
func (w *waitingCalls) mustWait(t testing.TB, s *service) {
	t.Helper()
	if pending := s.activities(t, zendeskv1.ActivityState_ACTIVITY_STATE_PENDING); len(pending) != w.count {
		t.Errorf("%d activities wait, want %d", len(pending), w.count)
	}
}

// mustBeWritten compares what the calls left in the fake Zendesk with what was acknowledged.
func (w *waitingCalls) mustBeWritten(t testing.TB, s *service, sandbox *sandboxProcess, since time.Time) {
	t.Helper()
	if diff := cmp.Diff(w.acknowledged, sandbox.written(t, since).audits); diff != "" {
		t.Errorf("the audits differ (-acknowledged +written):\n%s", diff)
	}
	if done := s.activities(t, zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN); len(done) != w.count {
		t.Errorf("%d activities are WRITTEN, want %d", len(done), w.count)
	}
}

// awaitBlocked waits until an activity has met what holds it up.
func (s *service) awaitBlocked(t testing.TB, id string, reason zendeskv1.FailureReason) {
	t.Helper()
	until(t, "the activity is blocked by "+reason.String(), func() bool {
		got, err := s.interactions.GetActivity(t.Context(), &zendeskv1.GetActivityRequest{ActivityId: id}, grpc.WaitForReady(true))
		must(t, err)
		if state := got.GetActivity().GetState(); state != zendeskv1.ActivityState_ACTIVITY_STATE_PENDING {
			t.Fatalf("the activity is %s", state)
		}
		return got.GetActivity().GetBlockedBy() == reason
	})
}

// A page is shown once to each agent that an interaction reaches, however often that is said, before a crash and after;
// and a desktop that reconnects after it learns what it may have missed.
func TestDeskAcrossRestart(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", hostOf(sandbox.origin))
	s.createAccount(t, "default", sandbox.origin)
	sam, priya := zendesktest.Agent, zendesktest.OtherAgent
	first, second := fmt.Sprint(zendesktest.CallerTickets[1]), fmt.Sprint(zendesktest.CallerTickets[2])
	caller, organization := fmt.Sprint(zendesktest.Caller.ID), fmt.Sprint(zendesktest.CallerOrganization)
	pop := func(call string, requests ...*zendeskv1.ScreenPopRequest) {
		t.Helper()
		for _, request := range requests {
			request.InteractionId = call
			if reply, err := s.blocks.ScreenPop(t.Context(), request); err != nil || reply.GetExit() != zendeskv1.Exit_EXIT_NEXT {
				t.Fatalf("screen pop: %v, %v", reply, err)
			}
		}
	}
	// deliver says twice that a call has reached an agent.
	deliver := func(call string, agent zendesktest.Person) *zendeskv1.DeliverInteractionResponse {
		t.Helper()
		request := &zendeskv1.DeliverInteractionRequest{InteractionId: call, Agent: &zendeskv1.Agent{Email: strings.ToUpper(agent.Email)}}
		reply, err := s.interactions.DeliverInteraction(t.Context(), request, grpc.WaitForReady(true))
		must(t, err)
		again, err := s.interactions.DeliverInteraction(t.Context(), request)
		must(t, err)
		if diff := cmp.Diff(reply, again, protocmp.Transform()); diff != "" {
			t.Errorf("the repeat is answered otherwise (-first +repeat):\n%s", diff)
		}
		return reply
	}
	const call, other = "call-1", "call-2"
	samsDesk, priyasDesk := s.watch(t, sam), s.watch(t, priya)

	pop(call, &zendeskv1.ScreenPopRequest{Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: first}},
		&zendeskv1.ScreenPopRequest{Target: &zendeskv1.ScreenPopRequest_UserId{UserId: caller}},
		&zendeskv1.ScreenPopRequest{Target: &zendeskv1.ScreenPopRequest_OrganizationId{OrganizationId: organization}})
	deliver(call, sam)
	deliver(call, priya)
	deliver(call, sam)
	pop(call, &zendeskv1.ScreenPopRequest{Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: second}})
	delivered := deliver(call, sam)

	visit := []string{
		call + " TICKET " + first + " DISPLAYED",
		call + " USER " + caller + " DISPLAYED",
		call + " ORGANIZATION " + organization + " LINK",
	}
	late := call + " TICKET " + second + " DISPLAYED"
	wantSam, wantPriya := append(slices.Concat(visit, visit), late), visit
	samsDesk.mustShow(t, wantSam...)
	priyasDesk.mustShow(t, wantPriya...)
	shown := map[string]int{
		fmt.Sprint(sam.ID, " ticket ", first): 2, fmt.Sprint(sam.ID, " user ", caller): 2, fmt.Sprint(sam.ID, " ticket ", second): 1,
		fmt.Sprint(priya.ID, " ticket ", first): 1, fmt.Sprint(priya.ID, " user ", caller): 1,
	}
	mustHavePopped(t, sandbox, shown)

	s.kill(t)
	for _, desk := range []*desk{samsDesk, priyasDesk} {
		if err := desk.end(t); status.Code(err) != codes.Unavailable {
			t.Errorf("the watch that was cut off ended with %v", err)
		}
	}
	s.start(t)
	samsDesk, priyasDesk = s.watch(t, sam), s.watch(t, priya)
	samsDesk.mustShow(t, wantSam...)
	priyasDesk.mustShow(t, wantPriya...)
	if diff := cmp.Diff(delivered, deliver(call, sam), protocmp.Transform()); diff != "" {
		t.Errorf("after the restart a repeat is answered otherwise (-before +after):\n%s", diff)
	}
	mustHavePopped(t, sandbox, shown)

	pop(other, &zendeskv1.ScreenPopRequest{Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: second}})
	deliver(other, priya)
	priyasDesk.mustShow(t, other+" TICKET "+second+" DISPLAYED")
	shown[fmt.Sprint(priya.ID, " ticket ", second)]++
	mustHavePopped(t, sandbox, shown)

	s.stop(t)
	for _, desk := range []*desk{samsDesk, priyasDesk} {
		var reasons []string
		err := desk.end(t)
		for _, detail := range status.Convert(err).Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok {
				reasons = append(reasons, info.GetReason())
			}
		}
		if status.Code(err) != codes.Unavailable || !slices.Equal(reasons, []string{"SHUTTING_DOWN"}) {
			t.Errorf("the watch of a process that stops ended with %v, %v", err, reasons)
		}
	}
}

// mustHavePopped compares how often which page was shown to whom.
func mustHavePopped(t testing.TB, sandbox *sandboxProcess, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, pop := range sandbox.pops(t) {
		got[fmt.Sprint(pop.AgentID, " ", pop.Type, " ", pop.ID)]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the pops differ (-want +got):\n%s", diff)
	}
}

// desk watches what is delivered to an agent.
type desk struct {
	shown chan string // interaction, kind, id and outcome of each delivery
	ended chan error
}

// watch starts a desk, and returns when it is connected.
func (s *service) watch(t testing.TB, agent zendesktest.Person) *desk {
	t.Helper()
	stream, err := s.interactions.WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: agent.Email}}, grpc.WaitForReady(true))
	must(t, err)
	_, err = stream.Header()
	must(t, err)
	d := &desk{shown: make(chan string, 100), ended: make(chan error, 1)}
	go func() {
		for {
			got, err := stream.Recv()
			if err != nil {
				d.ended <- err
				close(d.shown)
				return
			}
			pop := got.GetDelivery().GetScreenPop()
			d.shown <- fmt.Sprintf("%s %s %s %s", got.GetInteractionId(),
				strings.TrimPrefix(pop.GetRecordType().String(), "RECORD_TYPE_"), pop.GetRecordId(),
				strings.TrimPrefix(got.GetDelivery().GetOutcome().String(), "DELIVERY_OUTCOME_"))
		}
	}()
	return d
}

// mustShow waits for the next deliveries, which must be these.
func (d *desk) mustShow(t testing.TB, want ...string) {
	t.Helper()
	late := time.After(patience)
	var got []string
	for range want {
		select {
		case one, ok := <-d.shown:
			if !ok {
				t.Fatalf("the watch ended after %q", got)
			}
			got = append(got, one)
		case <-late:
			t.Fatalf("the watch shows no more than %q", got)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the deliveries differ (-want +got):\n%s", diff)
	}
}

// end waits until the watch has ended, which must not have shown more, and returns why it did.
func (d *desk) end(t testing.TB) error {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case one, ok := <-d.shown:
			if !ok {
				return <-d.ended
			}
			t.Errorf("the watch shows %q too", one)
		case <-late:
			t.Fatal("the watch does not end")
			return errors.New("the watch does not end")
		}
	}
}
