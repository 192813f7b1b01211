package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// troubledInteractions is the variable that says how many interactions TestReplicasInTrouble plays; with one, troubles come again and
// again, and the sleeper sleeps longer.
//
//	TROUBLED_INTERACTIONS=1000 go test ./cmd/zendeskblocks -run TestReplicasInTrouble -timeout 1h
const troubledInteractions = "TROUBLED_INTERACTIONS"

// Three replicas take calls while they are killed and stopped, and their database crashes and fails over to its standby: every
// completion that was acknowledged stands in Zendesk once, those of one ticket in the order in which they were acknowledged, each page
// reaches the agent's desktop under one delivery_id, and the account keeps its token.
func TestReplicasInTrouble(t *testing.T) {
	t.Parallel()
	const (
		lines = 6  // each has one call after the other, and tickets of its own
		full  = 20 // activities of one ticket: Zendesk takes 30 updates in 10 minutes
	)
	count, sleep, cycles := 60, 12*time.Second, 1
	if text := os.Getenv(troubledInteractions); text != "" {
		var err error
		count, err = strconv.Atoi(text)
		must(t, err)
		sleep, cycles = 40*time.Second, max(1, count/200)
	}
	perLine := 1 + count/(lines*full) // tickets
	random := rand.New(rand.NewPCG(2041, 14))

	sandbox := startSandbox(t, "--token-life", "10s")
	pair := pgtest.StartPair(t)
	all := startReplicas(t, pair.URL(t, "zendeskblocks"), 3, "--allow-host", hostOf(sandbox.origin))
	defer all.explain(t)
	tickets := sandbox.takingTickets(t, lines*perLine)
	all.createAccount(t, "default", sandbox.origin)
	all.createAccount(t, "other", sandbox.origin)
	// What is minted anew each time: a token that Zendesk rotated for a process that is killed before it has the answer is lost.
	_, err := all.accounts.RequestToken(t.Context(), &zendeskv1.RequestTokenRequest{
		AccountId: "other", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret,
	})
	must(t, err)
	desktop := all.desktop(t, zendesktest.Agent)
	started := time.Now()

	victim := func() *replica { return all.each[random.IntN(len(all.each))] }
	troubles := []struct {
		name string
		make func(*replica)
	}{
		{"is killed", func(r *replica) { r.kill(t); r.start(t) }},
		{"sleeps", func(r *replica) {
			r.process().signal(t, syscall.SIGSTOP)
			<-time.After(sleep)
			r.process().signal(t, syscall.SIGCONT)
		}},
		{"loses its database for a moment, as all do", func(*replica) { pair.Primary.Stop(); pair.Primary.Restart(t); pair.AwaitStandby(t) }},
		{"is killed while the database fails over", func(r *replica) { r.kill(t); pair.FailOver(t); r.start(t); pair.Rejoin(t) }},
		{"is told to end", func(r *replica) { r.stop(t); r.start(t) }},
	}
	rounds := cycles * len(troubles)
	acknowledged := make([]map[string][]string, lines) // by ticket, calls in the order of their acknowledgement; "": to be created
	for line := range acknowledged {
		acknowledged[line] = map[string][]string{}
	}
	deliveries := make([][]string, lines)
	for round := range rounds {
		trouble, first, last := troubles[round%len(troubles)], round*count/rounds, (round+1)*count/rounds
		r := victim()
		t.Logf("%s: %s %s", time.Since(started).Round(time.Millisecond), r.name, trouble.name)
		amid(t, 10*patience, random, int64((last-first)*stepsOfCall), func() { trouble.make(r) }, func(ctx context.Context, tick func()) error {
			var running errgroup.Group
			for line := range lines {
				running.Go(func() error {
					for n := first; n < last; n++ {
						if n%lines != line {
							continue
						}
						turn := n / lines
						call := crashCall{id: callID(n), ticket: tickets[line+turn%perLine*lines], way: turn % waysToTickets}
						target, err := call.play(ctx, all.service, tick)
						if err != nil {
							return fmt.Errorf("%s, of ticket %q, while %s %s: %w", call.id, call.ticket, r.name, trouble.name, err)
						}
						acknowledged[line][target] = append(acknowledged[line][target], call.id)
						deliveries[line] = append(deliveries[line], call.id+" "+call.delivery.GetDeliveryId())
					}
					return nil
				})
			}
			return running.Wait()
		})
	}
	t.Logf("%s: all is acknowledged", time.Since(started).Round(time.Millisecond))
	all.awaitWritten(t)
	t.Logf("%s: all is written", time.Since(started).Round(time.Millisecond))

	got := sandbox.mustHaveWritten(t, started, acknowledged)
	told := map[string]string{}
	for _, activity := range all.activities(t, zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN) {
		told[activity.GetInteractionId()] = activity.GetAuditId()
	}
	if diff := cmp.Diff(got.ids, told); diff != "" {
		t.Errorf("the audits' ids differ (-written +told):\n%s", diff)
	}
	desktop.mustHaveSeen(t, slices.Concat(deliveries...))

	account, err := all.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "other"})
	must(t, err)
	if a := account.GetAccount(); a.GetAuthorization() != zendeskv1.Authorization_AUTHORIZATION_OAUTH_TOKEN ||
		a.GetCredentialState() == zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION {
		t.Errorf("the account has lost its token: %v", a)
	}
	renewals := 0
	for _, request := range sandbox.requests(t) {
		if strings.HasPrefix(request.Path, "/oauth/tokens") {
			renewals++
		}
	}
	t.Logf("%d interactions, %d token requests", count, renewals)
}

// desktop shows an agent what is delivered, connected to one replica after the other.
type desktop struct {
	mu   sync.Mutex
	seen map[string]int // how often, by interaction and delivery_id
}

// desktop watches until the test ends.
func (all *replicas) desktop(t testing.TB, agent zendesktest.Person) *desktop {
	t.Helper()
	d := &desktop{seen: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	connected := make(chan struct{})
	connect := sync.OnceFunc(func() { close(connected) })
	var watching sync.WaitGroup
	watching.Go(func() {
		defer connect()
		for ctx.Err() == nil {
			d.watch(ctx, all.service, agent, connect)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() { cancel(); watching.Wait() })
	<-connected
	return d
}

// watch is one connection.
func (d *desktop) watch(ctx context.Context, s *service, agent zendesktest.Person, connected func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(attemptTime, cancel) // a replica that hangs takes streams and sends nothing
	stream, err := s.interactions.WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: agent.Email}}, grpc.WaitForReady(true))
	if err != nil {
		return
	}
	if _, err := stream.Header(); err != nil || !late.Stop() {
		return
	}
	connected()
	for {
		got, err := stream.Recv()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.seen[got.GetInteractionId()+" "+got.GetDelivery().GetDeliveryId()]++
		d.mu.Unlock()
	}
}

func (d *desktop) ids() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.seen))
}

// mustHaveSeen waits until the desktop has seen these deliveries, and checks that there are no others.
func (d *desktop) mustHaveSeen(t testing.TB, want []string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	late := time.After(10 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !slices.Equal(d.ids(), want) {
		select {
		case <-again.C:
			continue
		case <-late:
		}
		break
	}
	if diff := cmp.Diff(want, d.ids()); diff != "" {
		t.Errorf("the deliveries that the desktop has seen differ (-made +seen):\n%s", diff)
	}
}
