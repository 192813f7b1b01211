package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

const (
	capacityInteractions = 20_000
	capacityCallers      = 64
	capacityWatches      = 5_000
	capacityStreams      = 200             // of a connection
	capacityTime         = 3 * time.Second // for what is counted by time
)

// BenchmarkCapacity measures, from outside, what one node does on this machine, which also runs the callers: what the operator's
// guide promises in plain words. Each figure is a metric of the one iteration that it makes.
//
//	go test ./cmd/zendeskblocks -run '^$' -bench Capacity -benchtime 1x
func BenchmarkCapacity(b *testing.B) {
	z := startSandbox(b, "--rate-limit", "0")
	s := startService(b, "--block-timeout", "8s", "--allow-host", strings.TrimPrefix(z.origin, "http://"))
	s.createAccount(b, "acme", z.origin)
	atRest := megabytes(b, s)
	b.ReportMetric(atRest, "MB-at-rest")

	// Before anything else, for what others leave free is used again.
	ctx, cancel := context.WithCancel(b.Context())
	var watching sync.WaitGroup
	for c := range capacityWatches / capacityStreams {
		conn, err := grpc.NewClient("passthrough:///zendeskblocks", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(s.dial))
		must(b, err)
		defer func() { must(b, conn.Close()) }()
		for n := range capacityStreams {
			stream, err := zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{
				Agent: &zendeskv1.Agent{Email: fmt.Sprintf("agent%d-%d@example.com", c, n)},
			})
			must(b, err)
			_, err = stream.Header()
			must(b, err)
			watching.Go(func() { _, _ = stream.Recv() }) // until the end
		}
	}
	b.ReportMetric((megabytes(b, s)-atRest)*1000/capacityWatches, "kB/watch")
	cancel()
	watching.Wait()

	// A search with its tickets is the dearest that an interaction usually has.
	var made atomic.Int64
	begun := time.Now()
	crowd(b, capacityCallers, func(ctx context.Context) (bool, error) {
		n := made.Add(1)
		if n > capacityInteractions {
			return false, nil
		}
		return true, answeredBlock(s.blocks.Search(ctx, &zendeskv1.SearchRequest{
			InteractionId: "call-" + strconv.FormatInt(n, 10), SearchString: "type:ticket status<solved", RecordsetName: "tickets",
		}))
	})
	b.ReportMetric(float64(capacityInteractions)/time.Since(begun).Seconds(), "searches/s")
	info, err := os.Stat(s.dataFile())
	must(b, err)
	b.ReportMetric(float64(info.Size())/capacityInteractions, "file-bytes/interaction")
	b.ReportMetric(megabytes(b, s), "MB-after-searches")

	for _, block := range []struct {
		name string
		call func(context.Context, string) error
	}{
		{"selects", func(ctx context.Context, id string) error {
			return answeredBlock(s.blocks.SelectAccount(ctx, &zendeskv1.SelectAccountRequest{InteractionId: id, Choice: &zendeskv1.SelectAccountRequest_Account{Account: "acme"}}))
		}},
		{"reads", func(ctx context.Context, id string) error {
			_, err := s.interactions.GetInteraction(ctx, &zendeskv1.GetInteractionRequest{InteractionId: id})
			return err
		}},
	} {
		var n atomic.Int64
		until := time.Now().Add(capacityTime)
		took := crowd(b, capacityCallers, func(ctx context.Context) (bool, error) {
			if time.Now().After(until) {
				return false, nil
			}
			return true, block.call(ctx, "call-"+strconv.FormatInt(n.Add(1)%capacityInteractions+1, 10))
		})
		b.ReportMetric(float64(len(took))/capacityTime.Seconds(), block.name+"/s")
		b.ReportMetric(milliseconds(took[len(took)/2]), block.name+"-p50-ms")
		b.ReportMetric(milliseconds(took[len(took)*99/100]), block.name+"-p99-ms")
	}

	at := time.Now()
	s.drain(b)
	s.drained(b)
	s.start(b)
	answers(b, s)
	b.ReportMetric(milliseconds(time.Since(at)), "restart-ms")
	at = time.Now()
	s.kill(b)
	s.start(b)
	answers(b, s)
	b.ReportMetric(milliseconds(time.Since(at)), "restart-after-kill-ms")
	b.ReportMetric(0, "ns/op") // of no meaning here
}

// crowd has callers call until there is nothing left to do, and returns how long each call took, in order of that.
func crowd(b *testing.B, callers int, call func(context.Context) (more bool, err error)) []time.Duration {
	b.Helper()
	var mu sync.Mutex
	var all []time.Duration
	group, ctx := errgroup.WithContext(b.Context())
	for range callers {
		group.Go(func() error {
			var own []time.Duration
			for {
				at := time.Now()
				more, err := call(ctx)
				if err != nil || !more {
					mu.Lock()
					defer mu.Unlock()
					all = append(all, own...)
					return err
				}
				own = append(own, time.Since(at))
			}
		})
	}
	must(b, group.Wait())
	slices.Sort(all)
	return all
}

// answeredBlock is the error of a block that did not leave by NEXT.
func answeredBlock[R interface {
	proto.Message
	GetExit() zendeskv1.Exit
	GetFailure() *zendeskv1.Failure
}](reply R, err error) error {
	if err == nil && reply.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		err = errors.New(reply.GetExit().String() + ": " + reply.GetFailure().GetMessage())
	}
	return err
}

// answers returns when a process answers.
func answers(b *testing.B, s *service) {
	b.Helper()
	_, err := persist(b.Context(), s.accounts.GetAccount, &zendeskv1.GetAccountRequest{AccountId: "acme"})
	must(b, err)
}

// megabytes is the memory of the process that is not backed by files: pages of the data file are the machine's.
func megabytes(b *testing.B, s *service) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process().cmd.Process.Pid))
	if err != nil {
		return 0 // not Linux
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kilobytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			must(b, err)
			return float64(kilobytes) / 1000
		}
	}
	b.Fatal("no RssAnon")
	return 0
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
