package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// attach runs a block that asks nobody but the store, as a caller who does not repeat it.
func (r *replica) attach(ctx context.Context, call, request string) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	reply, err := r.calls.blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{InteractionId: call, RequestId: request, Data: map[string]string{request: call}}, grpc.WaitForReady(true))
	if err == nil && reply.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		return fmt.Errorf("%s: the block was answered %v", r.name, reply)
	}
	return err
}

// While the database is away, whether it has crashed or hangs, each replica answers blocks before their deadline, says when to come
// again and that it is not ready. Afterwards all of them go on by themselves, and nothing that was acknowledged is lost.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t)
	server := pgtest.Start(t, "fsync = off")
	all := startReplicas(t, server.URL(t, "zendeskblocks"), 3, "--allow-host", hostOf(sandbox.origin))
	all.createAccount(t, "default", sandbox.origin)
	all.awaitReady(t, true)
	ticket, started := sandbox.takingTickets(t, 1)[0], time.Now()
	var completed []string
	complete := func(call string) {
		t.Helper()
		_, err := all.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
			InteractionId: call, TicketId: ticket, Details: &zendeskv1.ActivityDetails{Channel: "voice", Notes: "Call " + call},
		})
		must(t, err)
		completed = append(completed, call)
	}
	for _, trouble := range []struct {
		name       string
		begin, end func()
	}{
		{"crashed", server.Stop, func() { server.Restart(t) }},
		{"hung", server.Suspend, server.Resume},
	} {
		for n := range 3 {
			complete(fmt.Sprint(trouble.name, "-", n))
		}
		trouble.begin()
		asked := time.Now()
		var asking sync.WaitGroup
		for _, r := range all.each {
			for n := range 3 {
				asking.Go(func() {
					err := r.attach(t.Context(), "while-"+trouble.name, fmt.Sprint(r.name, "-", n))
					reason, retry := reasonOf(err), retryDelay(nil, err)
					if status.Code(err) != codes.Unavailable || reason != "STORE_UNAVAILABLE" || retry <= 0 {
						t.Errorf("%s: while the database has %s, a block is answered %v, %s, to be repeated after %s", r.name, trouble.name, err, reason, retry)
					}
				})
			}
		}
		asking.Wait()
		longest := time.Since(asked)
		t.Logf("while the database has %s, blocks are answered after %s at most", trouble.name, longest.Round(time.Millisecond))
		all.awaitReady(t, false)
		for _, r := range all.each {
			if _, says := r.ready(t); !strings.Contains(says, "store") {
				t.Errorf("%s says that it is not ready with %q", r.name, says)
			}
		}
		trouble.end()
		back := time.Now()
		for _, r := range all.each {
			until(t, r.name+" takes blocks again", func() bool {
				asked := time.Now()
				err := r.attach(t.Context(), "after-"+trouble.name, r.name)
				if err != nil {
					t.Logf("%s after the database was back, %s answers after %s: %v", time.Since(back).Round(time.Millisecond), r.name, time.Since(asked).Round(time.Millisecond), err)
				}
				return err == nil
			})
		}
		t.Logf("%s after the database was back, all take blocks", time.Since(back).Round(time.Millisecond))
		all.awaitReady(t, true)
		if took := time.Since(back); took > 30*time.Second {
			t.Errorf("only after %s all are ready", took)
		} else {
			t.Logf("%s after the database was back, all are ready", took.Round(time.Millisecond))
		}
		if data := all.interaction(t, "after-"+trouble.name).GetAttachedData(); len(data) != len(all.each) {
			t.Errorf("of what was acknowledged there is %v", data)
		}
	}
	all.awaitWritten(t)
	if got := sandbox.written(t, started).audits[ticket]; !slices.Equal(got, completed) {
		t.Errorf("the ticket has %q, want %q", got, completed)
	}
}

// What a replica that is killed had to write, another one writes.
func TestTakeover(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t)
	all := startReplicas(t, pgtest.Start(t, "fsync = off").URL(t, "zendeskblocks"), 3, "--allow-host", hostOf(sandbox.origin))
	all.createAccount(t, "default", sandbox.origin)
	tickets, started := sandbox.takingTickets(t, 2), time.Now()
	complete := func(call, ticket string) {
		t.Helper()
		_, err := all.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
			InteractionId: call, TicketId: ticket, Details: &zendeskv1.ActivityDetails{Channel: "voice", Notes: "Call " + call},
		})
		must(t, err)
	}
	complete("before", tickets[0])
	all.awaitWritten(t)
	owner := all.writerOf(t, "default")
	owner.kill(t)
	killed := time.Now()
	complete("after", tickets[1])
	all.awaitWritten(t)
	took := time.Since(killed)
	t.Logf("%s after %s was killed, another one has written what it had to", took.Round(time.Millisecond), owner.name)
	if took > 30*time.Second {
		t.Error("which is too late")
	}
	if got := sandbox.written(t, started).audits; !slices.Equal(got[tickets[0]], []string{"before"}) || !slices.Equal(got[tickets[1]], []string{"after"}) {
		t.Errorf("the tickets have %v", got)
	}
}

// writerOf is the replica that writes an account's activities.
func (all *replicas) writerOf(t testing.TB, account string) (writer *replica) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: all.url, KeyFile: all.each[0].keyFile, Replica: "who looks"})
	must(t, err)
	defer func() { must(t, st.Close()) }()
	found, err := st.Account(t.Context(), "default", account)
	must(t, err)
	shard := fmt.Sprintf("%02x", store.ShardOf(found.Incarnation))
	until(t, "an account has a writer", func() bool {
		owners, err := st.ClaimOwners(t.Context(), "writer")
		must(t, err)
		for _, live := range st.Replicas() {
			for _, r := range all.each {
				if live.ID == owners[shard] && live.Name == r.name {
					writer = r
				}
			}
		}
		return writer != nil
	})
	return writer
}

// Pages reach a desktop that another replica serves, each once, also when that replica is told to end and the desktop connects to
// another one.
func TestPopsReachOtherReplicas(t *testing.T) {
	const pops = 200
	sandbox := startSandbox(t)
	all := startReplicas(t, pgtest.Start(t, "fsync = off").URL(t, "zendeskblocks"), 3, "--allow-host", hostOf(sandbox.origin))
	all.createAccount(t, "default", sandbox.origin)
	deliver := func(by *replica, call string) string {
		t.Helper()
		pop, err := by.calls.blocks.ScreenPop(t.Context(), &zendeskv1.ScreenPopRequest{
			InteractionId: call, RequestId: "pop", Target: &zendeskv1.ScreenPopRequest_SearchString{SearchString: call},
		}, grpc.WaitForReady(true))
		if err != nil || pop.GetExit() != zendeskv1.Exit_EXIT_NEXT {
			t.Fatalf("the pop of %s was answered %v, %v", call, pop, err)
		}
		delivered, err := by.calls.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
			InteractionId: call, Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
		}, grpc.WaitForReady(true))
		if err != nil || len(delivered.GetDeliveries()) != 1 {
			t.Fatalf("the delivery of %s was answered %v, %v", call, delivered, err)
		}
		return call + " " + delivered.GetDeliveries()[0].GetDeliveryId()
	}

	stream, err := all.each[0].calls.interactions.WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}}, grpc.WaitForReady(true))
	must(t, err)
	_, err = stream.Header()
	must(t, err)
	arrived := make(chan string, pops)
	go func() {
		defer close(arrived)
		for {
			got, err := stream.Recv()
			if err != nil {
				return
			}
			arrived <- got.GetInteractionId() + " " + got.GetDelivery().GetDeliveryId()
		}
	}()
	var delays []time.Duration
	for n := range pops {
		made := deliver(all.each[1+n%2], callID(n))
		answered := time.Now()
		select {
		case got := <-arrived:
			if got != made {
				t.Fatalf("%q arrived, and %q was delivered", got, made)
			}
		case <-time.After(patience):
			t.Fatalf("%q does not arrive", made)
		}
		delays = append(delays, time.Since(answered))
	}
	slices.Sort(delays)
	t.Logf("of %d deliveries half arrive %s after their answer, 99%% %s, the last %s", pops, delays[pops/2], delays[pops*99/100], delays[pops-1])

	desk := all.desktop(t, zendesktest.OtherAgent)
	var want []string
	var mu sync.Mutex
	others := func(from int) {
		for n := range 30 {
			call := fmt.Sprint("drain-", from, "-", n)
			_, err := all.blocks.ScreenPop(t.Context(), &zendeskv1.ScreenPopRequest{InteractionId: call, RequestId: "pop", Target: &zendeskv1.ScreenPopRequest_SearchString{SearchString: call}})
			if err != nil {
				t.Error(err)
				return
			}
			delivered, err := all.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{InteractionId: call, Agent: &zendeskv1.Agent{Email: zendesktest.OtherAgent.Email}})
			if err != nil || len(delivered.GetDeliveries()) != 1 {
				t.Errorf("the delivery of %s was answered %v, %v", call, delivered, err)
				return
			}
			mu.Lock()
			want = append(want, call+" "+delivered.GetDeliveries()[0].GetDeliveryId())
			mu.Unlock()
		}
	}
	for i, r := range all.each { // one of them serves the desktop
		var delivering sync.WaitGroup
		delivering.Go(func() { others(i) })
		r.stop(t)
		r.start(t)
		delivering.Wait()
	}
	desk.mustHaveSeen(t, want)
}

// A caller with the service config of the client guide, and no other repeats, notices nothing of replicas that are replaced one after the
// other.
func TestRollingUpgrade(t *testing.T) {
	const callers = 6
	sandbox := startSandbox(t)
	all := startReplicas(t, pgtest.Start(t, "fsync = off").URL(t, "zendeskblocks"), 3, "--allow-host", hostOf(sandbox.origin), "--drain-delay", "1s")
	all.createAccount(t, "default", sandbox.origin)
	guide := readGuide(t, clientGuide)
	_, config, _ := strings.Cut(guide[strings.Index(guide, "**Service config.**"):], "```json\n")
	config, _, _ = strings.Cut(config, "```")
	if !strings.Contains(config, "round_robin") {
		config = strings.Replace(config, "{", `{"loadBalancingConfig": [{"round_robin": {}}],`, 1)
	}
	client := &service{}
	client.connect(t, inTurn, all.dial, all.resolve(), grpc.WithDefaultServiceConfig(config))

	ctx, stop := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	counts := make([]int, callers)
	for caller := range callers {
		calling.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				call, request := fmt.Sprint("call-", caller, "-", n/20), fmt.Sprint(n)
				deadline, end := context.WithTimeout(t.Context(), 8*time.Second)
				var reply blockReply
				var err error
				if n%20 == 0 {
					reply, err = client.blocks.Search(deadline, &zendeskv1.SearchRequest{InteractionId: call, RequestId: request, RecordsetName: "found", SearchString: "type:ticket", MaxResults: 100})
				} else {
					reply, err = client.blocks.GetNextRecord(deadline, &zendeskv1.GetNextRecordRequest{InteractionId: call, RequestId: request, RecordsetName: "found"})
				}
				end()
				if err != nil || reply.GetExit() != zendeskv1.Exit_EXIT_NEXT {
					t.Errorf("block %d of %s was answered %v, %v", n%20, call, reply, err)
				}
				counts[caller]++
			}
		})
	}
	for _, r := range all.each {
		r.stop(t)
		r.start(t)
		all.awaitReady(t, true)
	}
	stop()
	calling.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	t.Logf("%d blocks while all replicas were replaced", total)
}

// Keys are replaced while replicas serve: added everywhere, then promoted, and dropped when nothing anywhere uses them. Who lacks one that
// is in use says which, and does not serve.
func TestReplicasRotateKeys(t *testing.T) {
	t.Parallel()
	all := startReplicas(t, pgtest.Start(t, "fsync = off").URL(t, "zendeskblocks"), 3)
	first := all.each[0].keyFile
	// everywhere changes the keys of all replicas, one after the other.
	everywhere := func(told string) {
		t.Helper()
		keys, err := os.ReadFile(first)
		must(t, err)
		for _, r := range all.each {
			must(t, os.WriteFile(r.keyFile, keys, 0o600))
		}
		for _, r := range all.each {
			before := strings.Count(r.process().stderr.String(), "took over the key file")
			r.process().signal(t, syscall.SIGHUP)
			until(t, r.name+" has the keys, after "+told, func() bool {
				said := r.process().stderr.String()
				if strings.Contains(said, "keys were not reloaded") {
					t.Fatalf("%s refuses the keys, after %s", r.name, told)
				}
				return strings.Count(said, "took over the key file") > before
			})
		}
	}
	drop := func(key uint32) error {
		_, _, err := runCommand(t, nil, "keys", "drop", "--store", all.url, "--key-file", first, "--key", fmt.Sprint(key), "--audit-log", filepath.Join(t.TempDir(), "audit"))
		return err
	}
	use := func(name string) {
		t.Helper()
		for _, r := range all.each {
			must(t, r.attach(t.Context(), "one", name+"-"+r.name))
		}
	}
	use("before")
	keys, err := keyfile.List(first)
	must(t, err)
	old := keys[0].ID
	oldKeys, err := os.ReadFile(first)
	must(t, err)

	added, err := keyfile.Add(first)
	must(t, err)
	everywhere("one was added")
	use("added")
	must(t, keyfile.Promote(first, added))
	if err := drop(old); err == nil {
		t.Error("a key that replicas seal with was dropped")
	}
	everywhere("it was promoted")
	use("promoted")
	until(t, "all values are sealed with the new key", func() bool {
		return slices.ContainsFunc(all.each, func(r *replica) bool {
			return strings.Contains(r.process().stderr.String(), "all values are sealed with the primary key\" primary_key_id="+strconv.FormatUint(uint64(added), 10))
		})
	})
	must(t, drop(old))
	everywhere("the old one was dropped")
	use("dropped")
	if data := all.interaction(t, "one").GetAttachedData(); len(data) != 4*len(all.each) {
		t.Errorf("the attached data are %v", data)
	}

	late := &replica{name: "late", keyFile: filepath.Join(t.TempDir(), "key")}
	must(t, os.WriteFile(late.keyFile, oldKeys, 0o600))
	late.args = append(slices.Clone(all.each[0].args), "--replica", late.name, "--key-file", late.keyFile)
	p := late.launch(t)
	if code := p.exitCode(t); code == 0 || !strings.Contains(p.stderr.String(), fmt.Sprint(added)) {
		t.Errorf("a replica without key %d ended with code %d:\n%s", added, code, p.stderr)
	}
	all.each[2].stop(t)
	all.each[2].start(t)
	must(t, all.each[2].attach(t.Context(), "one", "late"))
}
