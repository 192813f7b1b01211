package server

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// crowd is who calls Search all at once, again and again, and how that went.
type crowd struct {
	blocks   []zendeskv1.BlockServiceClient // one for so many callers as a connection has room for
	patience time.Duration
	account  string

	mu      sync.Mutex
	took    []time.Duration
	reasons map[string]int // of failures; exits and errors of gRPC
	inTime  int
}

func newCrowd(b *testing.B, conn *grpc.ClientConn, callers int, patience time.Duration) *crowd {
	b.Helper()
	c := &crowd{patience: patience}
	for range (callers + maxStreams/2 - 1) / (maxStreams / 2) {
		one, err := grpc.NewClient(conn.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		must(b, err)
		b.Cleanup(func() { must(b, one.Close()) })
		c.blocks = append(c.blocks, zendeskv1.NewBlockServiceClient(one))
	}
	return c
}

// call has callers search at a time, until there were so many searches, each for something else.
func (c *crowd) call(ctx context.Context, callers, searches int) {
	c.reasons = map[string]int{}
	var next atomic.Int64
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for n := next.Add(1); n <= int64(searches); n = next.Add(1) {
				c.search(ctx, c.blocks[i%len(c.blocks)], fmt.Sprintf("%s-%d-%d", c.account, callers, n))
			}
		})
	}
	group.Wait()
}

func (c *crowd) search(ctx context.Context, blocks zendeskv1.BlockServiceClient, id string) {
	if c.account != "" {
		_, _ = blocks.SelectAccount(ctx, &zendeskv1.SelectAccountRequest{InteractionId: id, Choice: &zendeskv1.SelectAccountRequest_Account{Account: c.account}})
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	begun := time.Now()
	resp, err := blocks.Search(ctx, &zendeskv1.SearchRequest{
		InteractionId: id, SearchString: "type:user " + id, RecordsetName: "RS", MaxResults: 1,
	})
	took := time.Since(begun)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, took)
	switch {
	case err != nil:
		c.reasons[err.Error()[:min(60, len(err.Error()))]]++
	case resp.GetFailure() != nil:
		c.reasons[resp.GetFailure().GetReason().String()]++
		c.inTime++
	default:
		c.reasons[resp.GetExit().String()]++
		c.inTime++
	}
}

// quantile of the times that calls took.
func (c *crowd) quantile(q float64) time.Duration {
	slices.Sort(c.took)
	return c.took[int(q*float64(len(c.took)-1))]
}

func (c *crowd) part() float64 { return 100 * float64(c.inTime) / float64(len(c.took)) }

// BenchmarkHanging has Zendesk hang while many search at a time.
func BenchmarkHanging(b *testing.B) {
	for _, run := range []struct {
		callers, searches int
		patience          time.Duration
	}{{64, 2000, 500 * time.Millisecond}, {256, 2000, 500 * time.Millisecond}, {1000, 2000, 500 * time.Millisecond}, {4000, 4000, 3 * time.Second}} {
		b.Run(fmt.Sprintf("callers=%d", run.callers), func(b *testing.B) {
			for range b.N {
				s, conn := newBenchServer(b)
				c := newCrowd(b, conn, run.callers, run.patience)
				c.call(b.Context(), run.callers, run.callers)
				c.took, c.inTime = nil, 0
				s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Hang: zendesktest.HangBefore})
				before, memory := runtime.NumGoroutine(), heap()
				c.call(b.Context(), run.callers, run.searches)
				b.ReportMetric(c.part(), "in-time-%")
				b.ReportMetric(float64(c.quantile(.5).Milliseconds()), "p50-ms")
				b.ReportMetric(float64(c.quantile(.999).Milliseconds()), "p99.9-ms")
				b.ReportMetric(float64(settled(before)-before), "goroutines-left")
				b.ReportMetric(float64(heap()-memory)/(1<<20), "MiB-left")
				if c.reasons[zendeskv1.Exit_EXIT_NO_DATA.String()] > 0 {
					b.Error("a search that Zendesk did not answer has found nothing")
				}
				b.Logf("%d at a time, %v each: %.2f %% in time, %v", run.callers, run.patience, c.part(), c.reasons)
			}
		})
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// settled is how many goroutines there are when those that end have ended.
func settled(before int) int {
	n := runtime.NumGoroutine()
	for end := time.Now().Add(5 * time.Second); n > before+10 && time.Now().Before(end); n = runtime.NumGoroutine() {
		time.Sleep(10 * time.Millisecond)
	}
	return n
}

// BenchmarkNeighbours has the Zendesks of fifty accounts hang while their blocks and activities go on, and measures those of
// another account: against itself when nobody hangs.
func BenchmarkNeighbours(b *testing.B) {
	const ill, callers, searches = 50, 4, 400
	const illEvery = 500 * time.Millisecond // a call of each of them
	for range b.N {
		other, reach := otherZendesk(b)
		s := &activityServer{testServer: newTestServer(b, reach, func(c *Config, _ *zendesktest.Config) { c.Log = slog.New(slog.DiscardHandler) })}
		conn, stop := s.listen(b)
		b.Cleanup(func() { must(b, stop()) })
		s.account(b, "well", "Well", other.Origin())
		for i := range ill {
			s.createAccount(b, fmt.Sprint("ill", i), zendesktest.Admin)
		}
		well := newCrowd(b, conn, callers, time.Second)
		well.account = "well"
		well.call(b.Context(), callers, searches)
		well.took, well.inTime = nil, 0
		well.call(b.Context(), callers, searches)
		alone := well.quantile(.9)
		well.took, well.inTime = nil, 0

		s.zendesk.AddFault(zendesktest.Fault{Hang: zendesktest.HangBefore})
		var group sync.WaitGroup
		ctx, cancel := context.WithCancel(b.Context())
		for i := range ill {
			c := newCrowd(b, conn, 1, 3*time.Second)
			c.account, c.reasons = fmt.Sprint("ill", i), map[string]int{}
			group.Go(func() {
				// As callers come: whether those before have been answered or not.
				for n := 0; ctx.Err() == nil; n++ {
					group.Go(func() { c.search(ctx, c.blocks[0], fmt.Sprint(c.account, "-", n)) })
					time.Sleep(illEvery)
				}
			})
			id := fmt.Sprint("ill-call-", i)
			s.selectAccount(b, id, c.account)
			s.complete(b, id, openTickets[0])
		}
		well.call(b.Context(), callers, searches)
		beside := well.quantile(.9)
		slowest := time.Duration(0)
		for i := range 20 {
			id := fmt.Sprint("well-call-", i)
			s.selectAccount(b, id, "well")
			begun := time.Now()
			activity := s.complete(b, id, openTickets[i%2]).GetActivityId()
			for s.activity(b, activity).GetState() != written {
				time.Sleep(5 * time.Millisecond)
			}
			slowest = max(slowest, time.Since(begun))
		}
		cancel()
		group.Wait()
		b.ReportMetric(float64(alone.Microseconds())/1000, "p90-alone-ms")
		b.ReportMetric(float64(beside.Microseconds())/1000, "p90-beside-ms")
		b.ReportMetric(float64(slowest.Milliseconds()), "slowest-activity-ms")
		b.Logf("beside %d accounts that hang: %.2f %% in time, %v", ill, well.part(), well.reasons)
	}
}
