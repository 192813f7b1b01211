package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const replicaInteractions = 2_000

// BenchmarkReplicaCapacity measures one replica over a PostgreSQL on this machine, which also runs the callers: blocks a second, and
// the processor time that each takes of the service and of all processes of the database, from which the operator's guide says how
// many replicas one database carries. Each figure is a metric of the one iteration that it makes.
//
//	go test ./cmd/zendeskblocks -run '^$' -bench ReplicaCapacity -benchtime 1x
func BenchmarkReplicaCapacity(b *testing.B) {
	database := pgtest.Start(b, "shared_buffers = 256MB")
	url, key := database.URL(b, "data"), filepath.Join(b.TempDir(), "key")
	writeKey(b, key)
	_, _, err := runCommand(b, nil, "migrate", "--store", url)
	must(b, err)
	z := startSandbox(b, "--rate-limit", "0")
	p := startProgram(b, "serve", "--listen", "127.0.0.1:0", "--store", url, "--key-file", key, "--drain-delay", "0s",
		"--audit-log", filepath.Join(b.TempDir(), "audit"), "--block-timeout", "8s", "--allow-host", hostOf(z.origin))
	_, conn := serving(b, p)
	s := &service{accounts: zendeskv1.NewAccountServiceClient(conn), blocks: zendeskv1.NewBlockServiceClient(conn), interactions: zendeskv1.NewInteractionServiceClient(conn)}
	s.createAccount(b, "acme", z.origin)
	tickets := z.takingTickets(b, 10)

	id := func(n int64) string { return "call-" + strconv.FormatInt(n, 10) }
	searchFor := func(ctx context.Context, id, query string) error {
		return answeredBlock(s.blocks.Search(ctx, &zendeskv1.SearchRequest{InteractionId: id, SearchString: query, RecordsetName: "caller"}))
	}
	search := func(ctx context.Context, id string) error {
		return searchFor(ctx, id, "type:user email:"+zendesktest.Caller.Email)
	}
	selects := func(ctx context.Context, id string) error {
		return answeredBlock(s.blocks.SelectAccount(ctx, &zendeskv1.SelectAccountRequest{InteractionId: id, Choice: &zendeskv1.SelectAccountRequest_Account{Account: "acme"}}))
	}
	var ends atomic.Int64
	next := func(ctx context.Context, id string) error {
		resp, err := s.blocks.GetNextRecord(ctx, &zendeskv1.GetNextRecordRequest{InteractionId: id, RecordsetName: "caller"})
		if resp.GetExit() == zendeskv1.Exit_EXIT_NO_DATA {
			ends.Add(1)
		}
		return err
	}
	// A call as it is planned with: five blocks, a delivery, and its completion.
	var wholes atomic.Int64
	whole := func(ctx context.Context, id string) error {
		n := wholes.Add(1)
		ticket := tickets[n%int64(len(tickets))]
		for _, block := range []func(context.Context, string) error{selects, search, next} {
			if err := block(ctx, id); err != nil {
				return err
			}
		}
		if err := answeredBlock(s.blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{InteractionId: id, Data: map[string]string{"a": "b"}})); err != nil {
			return err
		}
		if err := answeredBlock(s.blocks.ScreenPop(ctx, &zendeskv1.ScreenPopRequest{InteractionId: id, Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: ticket}})); err != nil {
			return err
		}
		if _, err := s.interactions.DeliverInteraction(ctx, &zendeskv1.DeliverInteractionRequest{InteractionId: id, Agent: &zendeskv1.Agent{Email: fmt.Sprintf("agent%d@example.com", n%1000)}}); err != nil {
			return err
		}
		_, err := s.interactions.CompleteInteraction(ctx, &zendeskv1.CompleteInteractionRequest{
			InteractionId: id, TicketId: ticket, Details: &zendeskv1.ActivityDetails{Channel: "voice", Notes: "A call"},
		})
		return err
	}
	var made atomic.Int64
	crowd(b, capacityCallers, func(ctx context.Context) (bool, error) {
		n := made.Add(1)
		return n <= replicaInteractions, searchFor(ctx, id(min(n, replicaInteractions)), "type:user") // more than are stepped through
	})
	for _, work := range []struct {
		name string
		call func(context.Context, string) error
		anew bool // each with an interaction of its own
	}{{"selects", selects, false}, {"nexts", next, false}, {"calls", whole, true}} {
		var n atomic.Int64
		service, postgres := processorTime(b, p.cmd.Process.Pid), processorTimeOfDatabase(b, database.Folder)
		begun := time.Now()
		took := crowd(b, capacityCallers, func(ctx context.Context) (bool, error) {
			if time.Since(begun) > capacityTime {
				return false, nil
			}
			at := n.Add(1)
			if work.anew {
				return true, work.call(ctx, work.name+id(at))
			}
			return true, work.call(ctx, id(at%replicaInteractions+1))
		})
		each := float64(len(took))
		b.ReportMetric(each/time.Since(begun).Seconds(), work.name+"/s")
		b.ReportMetric(milliseconds(took[len(took)*99/100]), work.name+"-p99-ms")
		b.ReportMetric(float64(ends.Swap(0))/each, "ends/"+strings.TrimSuffix(work.name, "s"))
		b.ReportMetric(float64((processorTime(b, p.cmd.Process.Pid)-service).Microseconds())/each, "service-µs/"+strings.TrimSuffix(work.name, "s"))
		b.ReportMetric(float64((processorTimeOfDatabase(b, database.Folder)-postgres).Microseconds())/each, "postgres-µs/"+strings.TrimSuffix(work.name, "s"))
	}
	b.ReportMetric(0, "ns/op") // of no meaning here
}

// userTicks are those of the kernel's clock in /proc, of which Linux shows 100 a second everywhere.
const userTicks = 100

// processorTime is what a process has used, by /proc; 0 where there is none.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the name before may have blanks
	fields := strings.Fields(after)
	if len(fields) < 15 {
		return 0
	}
	var ticks int64
	for _, field := range fields[11:15] { // utime, stime, and those of children that have ended
		n, err := strconv.ParseInt(field, 10, 64)
		must(b, err)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userTicks
}

// processorTimeOfDatabase is what all processes of a PostgreSQL server have used whose folder it is.
func processorTimeOfDatabase(b *testing.B, folder string) (sum time.Duration) {
	b.Helper()
	pids, err := os.ReadFile(filepath.Join(folder, "data", "postmaster.pid"))
	must(b, err)
	postmaster, _, _ := strings.Cut(string(pids), "\n")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(after); entry.Name() == postmaster || len(fields) > 1 && fields[1] == postmaster {
			sum += processorTime(b, pid)
		}
	}
	return sum
}
