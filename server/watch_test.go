package server

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// missedFor is how long ago deliveries were made at most that a watch begins with, unless it says since when.
const missedFor = 30 * time.Second

type watcher = zendeskv1.InteractionService_WatchScreenPopsClient

// watch watches the screen pops of a person, and returns when the service has begun to.
func watch(t testing.TB, client zendeskv1.InteractionServiceClient, person zendesktest.Person) watcher {
	t.Helper()
	return watchSince(t, client, person, nil)
}

func watchSince(t testing.TB, client zendeskv1.InteractionServiceClient, person zendesktest.Person, since *timestamppb.Timestamp) watcher {
	t.Helper()
	stream, err := client.WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: person.Email}, Since: since})
	must(t, err)
	_, err = stream.Header()
	must(t, err)
	return stream
}

// popAndDeliver pops a search, which is a link, for an interaction, and delivers it.
func (s *testServer) popAndDeliver(t testing.TB, interaction string, to zendesktest.Person) *zendeskv1.Delivery {
	t.Helper()
	s.pop(t, toSearch(interaction))
	return s.deliver(t, interaction, to).GetDeliveries()[0]
}

// mustSee receives the deliveries of interactions, in that order.
func mustSee(t testing.TB, stream watcher, interactions ...string) {
	t.Helper()
	for _, id := range interactions {
		resp, err := stream.Recv()
		must(t, err)
		if resp.GetInteractionId() != id {
			t.Fatalf("watcher sees %v, want interaction %q", resp, id)
		}
	}
}

func TestWatchSeesWhatIsDelivered(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.popAndDeliver(t, "long-ago", zendesktest.Agent)
	s.clock.advance(missedFor + time.Second)
	recent := s.popAndDeliver(t, "recent", zendesktest.Agent)
	s.popAndDeliver(t, "another-agent", zendesktest.OtherAgent)

	one, two := watch(t, s.interactions, zendesktest.Agent), watch(t, s.interactions, zendesktest.Person{Email: strings.ToUpper(zendesktest.Agent.Email)})
	resp, err := one.Recv()
	must(t, err)
	mustEqual(t, "replay", resp, &zendeskv1.WatchScreenPopsResponse{InteractionId: "recent", Delivery: recent})
	mustSee(t, two, "recent")

	s.popAndDeliver(t, "another-agent-again", zendesktest.OtherAgent)
	s.popAndDeliver(t, "new", zendesktest.Agent)
	s.deliver(t, "new", zendesktest.Agent) // a repeat is no delivery
	s.pop(t, toTicket("new", openTickets[0]))
	s.deliver(t, "new", zendesktest.Agent)
	for _, stream := range []watcher{one, two} {
		mustSee(t, stream, "new")
		resp, err := stream.Recv()
		must(t, err)
		if d := resp.GetDelivery(); d.GetOutcome() != displayed || d.GetScreenPop().GetRecordId() != openTickets[0] || d.GetTime() == nil {
			t.Errorf("watcher sees %v, want the ticket that was popped last", resp)
		}
	}
	// One that connects again is told all of the last 30 s again, and one of the other agent its own.
	mustSee(t, watch(t, s.interactions, zendesktest.Agent), "recent", "new", "new")
	mustSee(t, watch(t, s.interactions, zendesktest.OtherAgent), "another-agent", "another-agent-again")

	s.restart(t)
	mustSee(t, watch(t, s.interactions, zendesktest.Agent), "recent", "new", "new")
}

func TestWatchSince(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	at := make(map[string]*timestamppb.Timestamp)
	for _, id := range []string{"a", "b", "c"} {
		s.clock.advance(20 * time.Minute)
		at[id] = s.popAndDeliver(t, id, zendesktest.Agent).GetTime()
	}
	s.clock.advance(time.Minute)
	now := s.clock.now()
	want := make(map[watcher][]string)
	for _, test := range []struct {
		since *timestamppb.Timestamp
		want  []string
	}{
		{nil, nil}, // only what is younger than 30 s
		{at["a"], []string{"a", "b", "c"}},
		{at["b"], []string{"b", "c"}},
		{timestamppb.New(at["b"].AsTime().Add(time.Nanosecond)), []string{"c"}},
		{&timestamppb.Timestamp{}, []string{"a", "b", "c"}},
		{timestamppb.New(now), nil},
		{timestamppb.New(now.Add(time.Hour)), nil},
	} {
		want[watchSince(t, s.interactions, zendesktest.Agent, test.since)] = append(test.want, "new")
	}
	s.popAndDeliver(t, "new", zendesktest.Agent)
	for stream, interactions := range want {
		mustSee(t, stream, interactions...)
	}
	s.clock.advance(store.RecentDeliveries - 40*time.Minute)
	mustSee(t, watchSince(t, s.interactions, zendesktest.Agent, &timestamppb.Timestamp{}), "b", "c", "new") // no longer than that

	// What comes while it is open is sent, whatever the time.
	s.clock.advance(time.Hour)
	s.popAndDeliver(t, "just-before", zendesktest.Agent)
	s.clock.advance(time.Second)
	stream := watchSince(t, s.interactions, zendesktest.Agent, timestamppb.New(s.clock.now()))
	s.clock.advance(-2 * time.Second)
	s.popAndDeliver(t, "by-a-slow-clock", zendesktest.Agent)
	mustSee(t, stream, "by-a-slow-clock")

	stream, err := s.interactions.WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{
		Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}, Since: &timestamppb.Timestamp{Nanos: -1},
	})
	must(t, err)
	_, err = stream.Recv()
	mustViolate(t, err, "since")
}

func TestWatchTellsOfATransferAndBack(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	stream := watch(t, s.interactions, zendesktest.Agent)
	s.popAndDeliver(t, "call-1", zendesktest.Agent)
	s.deliver(t, "call-1", zendesktest.OtherAgent)
	s.deliver(t, "call-1", zendesktest.Agent)
	s.popAndDeliver(t, "last", zendesktest.Agent)
	mustSee(t, stream, "call-1", "call-1", "last")
}

func TestSlowWatcherHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	slow, other := watch(t, s.interactions, zendesktest.Agent), watch(t, s.interactions, zendesktest.Agent)
	// Much more than the buffers of a connection hold, of which the slow one reads nothing.
	const interactions, pops = 25, 10
	for i := range interactions {
		id := fmt.Sprintf("call-%d", i)
		for p := range pops {
			s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: id, Target: &zendeskv1.ScreenPopRequest_SearchString{
				SearchString: fmt.Sprintf("%d %s", p, strings.Repeat("x", 3<<10)),
			}})
		}
		s.deliver(t, id, zendesktest.Agent)
		for range pops {
			mustSee(t, other, id)
		}
	}
	s.clock.advance(missedFor + time.Second)
	s.popAndDeliver(t, "last", zendesktest.Agent)
	mustSee(t, other, "last")
	// It is sent what was in the buffers, then what is not too old: nothing waited for it.
	seen := 0
	for {
		resp, err := slow.Recv()
		must(t, err)
		if resp.GetInteractionId() == "last" {
			break
		}
		seen++
	}
	if seen == 0 || seen >= interactions*pops {
		t.Errorf("the slow watcher saw %d of %d old deliveries, want only those in the buffers", seen, interactions*pops)
	}
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t, func(c *Config, _ *zendesktest.Config) { c.DrainTimeout = time.Hour }) // what does not end by itself hangs the test
	conn, stop := s.listen(t)
	client := zendeskv1.NewInteractionServiceClient(conn)
	streams := []watcher{watch(t, client, zendesktest.Agent), watch(t, client, zendesktest.OtherAgent)}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for _, stream := range streams {
		_, err := stream.Recv()
		mustReason(t, err, codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
	}
	must(t, <-stopped)

	ctx, cancel := context.WithCancel(t.Context())
	stream, err := s.interactions.WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}})
	must(t, err)
	_, err = stream.Header()
	must(t, err)
	cancel()
	if _, err := stream.Recv(); err == nil {
		t.Error("a cancelled watch goes on")
	}
}

func TestWatchBadInput(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	stream, err := s.interactions.WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{ZendeskUserId: "x"}})
	must(t, err)
	_, err = stream.Recv()
	mustViolate(t, err, "agent.email", "agent.zendesk_user_id")
}

// An agent is watched by so many at a time; other agents are none the worse.
func TestWatchesOfAnAgent(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, b *bubble) {
		var conns []*grpc.ClientConn
		watch := func(conn *grpc.ClientConn, agent string) error {
			stream, err := zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(t.Context(),
				&zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: agent}})
			must(t, err)
			if md, err := stream.Header(); err == nil && md != nil {
				return nil
			}
			_, err = stream.Recv()
			return err
		}
		for i := range 101 {
			if i%50 == 0 {
				conns = append(conns, b.client(t))
			}
			err := watch(conns[len(conns)-1], agentEmail)
			if i < 100 {
				must(t, err)
				continue
			}
			mustReason(t, err, codes.ResourceExhausted, zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_WATCHES)
		}
		must(t, watch(conns[len(conns)-1], "ben@acme.example"))
		must(t, conns[0].Close())
		synctest.Wait()
		must(t, watch(conns[len(conns)-1], strings.ToUpper(agentEmail)))
		for _, conn := range conns[1:] {
			must(t, conn.Close())
		}
	})
}

// While watches wait the collector makes their stacks small, which are most of what they take.
func TestStacksOfWatches(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has larger frames")
	}
	const watches = 200
	s := newBlockServer(t)
	before := stacksInUse()
	for i := range watches {
		watch(t, s.interactions, zendesktest.Person{Email: fmt.Sprintf("agent%d@example.com", i)})
	}
	each := (stacksInUse() - before) / watches
	if bound := 13 << 10; each > bound { // 8 KiB of the watch, and its client's
		t.Errorf("a watch and its client have stacks of %d bytes, want %d at most", each, bound)
	}
}

// stacksInUse are the bytes of all stacks, once the collector has made them as small as they may be.
func stacksInUse() int {
	for range 2 {
		runtime.GC()
	}
	stacks := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(stacks)
	return int(stacks[0].Value.Uint64())
}
