package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// go test ./cmd/zendeskblocks -run EveryCompletion -interactions 500
var interactions = flag.Int("interactions", 60, "how many interactions TestEveryCompletionIsWrittenOnce drives; at least 60, so that all faults are met")

// go test ./cmd/zendeskblocks -run EveryCompletion -skew -5h
var skew = flag.Duration("skew", 0, "how far Zendesk's clock is ahead of ours in TestEveryCompletionIsWrittenOnce")

// Every completion that was acknowledged stands in Zendesk once, and those of one ticket in the order in which they were
// acknowledged, although the process is killed while it takes them and while it writes them, and Zendesk cuts connections
// before and after it acted.
func TestEveryCompletionIsWrittenOnce(t *testing.T) {
	t.Parallel()
	const (
		kills = 4  // while what is left is written
		lines = 6  // each has one call after the other, and tickets of its own
		full  = 20 // activities of one ticket; Zendesk takes 30 updates in 10 minutes, and repeats count
	)
	rounds := max(4, *interactions/15)        // of calls; each has one kill
	perLine := 1 + *interactions/(lines*full) // tickets
	sandbox := startSandbox(t)
	sandbox.do(t, http.MethodPost, "/_sandbox/clock", map[string]any{"skew_ms": skew.Milliseconds()}, nil)
	tickets := sandbox.takingTickets(t, lines*perLine)
	s := startService(t, "--allow-host", hostOf(sandbox.origin))
	s.createAccount(t, "default", sandbox.origin)
	s.createAccount(t, "other", sandbox.origin)
	random := rand.New(rand.NewPCG(2041, 3)) // chooses the moments; what a process does at them differs
	started := time.Now().Add(*skew)

	var acknowledged [lines]map[string][]string // by ticket, calls in the order of their acknowledgement; "": to be created
	for line := range lines {
		acknowledged[line] = map[string][]string{}
	}
	troubles := 0
	for round := range rounds {
		for _, trouble := range shuffled(random, troublesOfTickets) {
			sandbox.addFault(t, trouble)
			troubles += max(1, trouble["times"].(int))
		}
		first, last := round*(*interactions)/rounds, (round+1)*(*interactions)/rounds
		s.killAmid(t, random, int64((last-first)*stepsOfCall), func(ctx context.Context, tick func()) error {
			var running errgroup.Group
			for line := range lines {
				running.Go(func() error {
					for n := first; n < last; n++ {
						if n%lines != line {
							continue
						}
						turn := n / lines
						call := crashCall{id: callID(n), ticket: tickets[line+turn%perLine*lines], way: turn % waysToTickets}
						target, err := call.play(ctx, s, tick)
						if err != nil {
							return fmt.Errorf("%s: %w", call.id, err)
						}
						acknowledged[line][target] = append(acknowledged[line][target], call.id)
					}
					return nil
				})
			}
			return running.Wait()
		})
	}
	for range kills {
		asked := len(sandbox.requests(t)) + random.IntN(*interactions/kills)
		until(t, "Zendesk is asked more", func() bool {
			return len(sandbox.requests(t)) >= asked || len(s.activities(t, zendeskv1.ActivityState_ACTIVITY_STATE_PENDING)) == 0
		})
		s.kill(t)
		s.start(t)
	}
	s.awaitWritten(t)

	got := sandbox.mustHaveWritten(t, started, acknowledged[:])

	// What the service says of them is so.
	told := map[string]string{}
	for _, activity := range s.activities(t, zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN) {
		told[activity.GetInteractionId()] = activity.GetAuditId()
		if !slices.Contains(got.audits[activity.GetTicketId()], activity.GetInteractionId()) {
			t.Errorf("%s is not in ticket %s", activity.GetInteractionId(), activity.GetTicketId())
		}
	}
	if diff := cmp.Diff(got.ids, told); diff != "" {
		t.Errorf("the audits' ids differ (-written +told):\n%s", diff)
	}

	met := 0
	for _, request := range sandbox.requests(t) {
		if request.Method != http.MethodGet && request.Status/100 != 2 {
			met++
		}
	}
	if met < troubles {
		t.Errorf("only %d writes met trouble, want %d", met, troubles)
	}
}

// mustHaveWritten holds the fake Zendesk to the completions that each line of calls had acknowledged, by ticket; "": a new one. It
// returns what was written.
func (z *sandboxProcess) mustHaveWritten(t testing.TB, started time.Time, acknowledged []map[string][]string) written {
	t.Helper()
	wantAudits, wantCreated := map[string][]string{}, []string{}
	for _, line := range acknowledged {
		for ticket, calls := range line {
			if ticket == "" {
				wantCreated = append(wantCreated, calls...)
			} else {
				wantAudits[ticket] = calls
			}
		}
	}
	slices.Sort(wantCreated)
	got := z.written(t, started)
	if diff := cmp.Diff(wantCreated, slices.Sorted(maps.Values(got.created))); diff != "" {
		t.Errorf("the created tickets differ (-acknowledged +created):\n%s", diff)
	}
	for ticket, call := range got.created {
		wantAudits[ticket] = []string{call}
	}
	if diff := cmp.Diff(wantAudits, got.audits); diff != "" {
		t.Errorf("the audits differ (-acknowledged +written):\n%s", diff)
	}
	return got
}

// troublesOfTickets are faults of writes to tickets. The client itself repeats a POST, since it has an idempotency key.
var troublesOfTickets = []map[string]any{
	{"method": "PUT", "path_prefix": "/api/v2/tickets/", "drop": "before", "times": 1},
	{"method": "PUT", "path_prefix": "/api/v2/tickets/", "drop": "after", "times": 2},
	{"method": "PUT", "path_prefix": "/api/v2/tickets/", "status": 503, "times": 1},
	{"method": "PUT", "path_prefix": "/api/v2/tickets/", "status": 429, "retry_after": 1, "times": 1},
	{"method": "POST", "path_prefix": "/api/v2/tickets", "drop": "after", "times": 3},
	{"method": "POST", "path_prefix": "/api/v2/tickets", "drop": "before", "times": 1},
}

func shuffled[T any](random *rand.Rand, list []T) []T {
	list = slices.Clone(list)
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// crashCall is a call from its arrival to its end.
type crashCall struct {
	id     string
	ticket string
	way    int // in which it comes to its ticket

	delivery *zendeskv1.Delivery // set when it is made
}

const (
	byPop = iota
	byRequest
	byRecord
	byCreation
	waysToTickets
)

const stepsOfCall = 6

// play plays the call, and returns the ticket that its activity is to be written to; empty: a new one. Each request is
// repeated until it is answered.
func (c *crashCall) play(ctx context.Context, s *service, tick func()) (ticket string, err error) {
	variables := map[string]string{"ANI": zendesktest.Caller.Phone, "ticket": c.ticket}
	search, pop := "type:user phone:$(ANI,phone)", &zendeskv1.ScreenPopRequest_RecordsetName{RecordsetName: "found"}
	if c.way == byRecord {
		search = "type:ticket $(ticket)"
	}
	popping := &zendeskv1.ScreenPopRequest{InteractionId: c.id, RequestId: "pop", Variables: variables, Target: pop}
	complete := &zendeskv1.CompleteInteractionRequest{
		InteractionId: c.id, IfNoTicket: zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE,
		Details: &zendeskv1.ActivityDetails{Channel: "voice", FromAddress: zendesktest.Caller.Phone, Notes: "What was said in " + c.id, EndTime: timestamppb.Now()},
	}
	wantRule := zendeskv1.TicketRule_TICKET_RULE_POPPED
	switch c.way {
	case byPop:
		popping.Target = &zendeskv1.ScreenPopRequest_TicketId{TicketId: "$(ticket)"}
	case byRequest:
		complete.TicketId, wantRule = c.ticket, zendeskv1.TicketRule_TICKET_RULE_REQUESTED
	case byRecord:
		// A search page is no ticket.
		popping.Target = &zendeskv1.ScreenPopRequest_SearchString{SearchString: "$(ANI)"}
		wantRule = zendeskv1.TicketRule_TICKET_RULE_CURRENT_RECORD
	case byCreation:
		wantRule = zendeskv1.TicketRule_TICKET_RULE_CREATED
	}
	for _, block := range []execution{
		executionOf(s.blocks.SelectAccount, &zendeskv1.SelectAccountRequest{
			InteractionId: c.id, RequestId: "select", Choice: &zendeskv1.SelectAccountRequest_Account{Account: "other"},
		}),
		executionOf(s.blocks.Search, &zendeskv1.SearchRequest{
			InteractionId: c.id, RequestId: "search", Variables: variables, RecordsetName: "found", SearchString: search,
		}),
		executionOf(s.blocks.ScreenPop, popping),
		executionOf(s.blocks.AttachedData, &zendeskv1.AttachedDataRequest{
			InteractionId: c.id, RequestId: "attach", Variables: variables,
			Data: map[string]string{"Caller number": "$(ANI)", "Disposition": "Callback", "Mood": "good"},
		}),
	} {
		tick()
		reply, err := block(ctx)
		if err != nil || reply.GetExit() != zendeskv1.Exit_EXIT_NEXT {
			return "", fmt.Errorf("a block was answered %v, %w", reply, err)
		}
	}
	tick()
	delivered, err := persist(ctx, s.interactions.DeliverInteraction, &zendeskv1.DeliverInteractionRequest{
		InteractionId: c.id, Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
	})
	if err != nil || len(delivered.GetDeliveries()) != 1 {
		return "", fmt.Errorf("the delivery was answered %v, %w", delivered, err)
	}
	c.delivery = delivered.GetDeliveries()[0]
	tick()
	completed, err := persist(ctx, s.interactions.CompleteInteraction, complete)
	if err != nil {
		return "", err
	}
	activity := completed.GetActivity()
	// A repeat may be answered when the ticket has been created already.
	if activity.GetTicketRule() != wantRule || c.way != byCreation && activity.GetTicketId() != c.ticket {
		return "", fmt.Errorf("ticket %s was chosen by %s", activity.GetTicketId(), activity.GetTicketRule())
	}
	again, err := persist(ctx, s.interactions.CompleteInteraction, complete)
	if err != nil || again.GetActivity().GetActivityId() != activity.GetActivityId() {
		return "", fmt.Errorf("a repeat was answered %v, %w", again, err)
	}
	if c.way == byCreation {
		return "", nil
	}
	return c.ticket, nil
}
