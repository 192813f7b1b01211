package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// newBenchServer starts a service on a loopback port whose log goes nowhere.
func newBenchServer(b *testing.B, options ...func(*Config)) (*testServer, *grpc.ClientConn) {
	b.Helper()
	s := newTestServer(b, func(c *Config, _ *zendesktest.Config) {
		c.Log = slog.New(slog.DiscardHandler)
		for _, option := range options {
			option(c)
		}
	})
	s.createAccount(b, "main", zendesktest.Admin)
	conn, stop := s.listen(b)
	b.Cleanup(func() { must(b, stop()) })
	return s, conn
}

// newEcho starts a bare gRPC server on a loopback port: no interceptor, no store, no Zendesk.
func newEcho(b *testing.B) func(context.Context) error {
	b.Helper()
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(b, err)
	b.Cleanup(func() {
		must(b, conn.Close())
		server.Stop()
		must(b, <-served)
	})
	client := healthv1.NewHealthClient(conn)
	return func(ctx context.Context) error {
		_, err := client.Check(ctx, &healthv1.HealthCheckRequest{})
		return err
	}
}

// measure runs call alone and 64 at a time, beside an echo in the same run, and reports how many echoes one call costs.
// The calls are numbered; prepare, if given, is told the first number and how many follow.
func measure(b *testing.B, prepare func(first, calls int64), call func(ctx context.Context, n int64) error) {
	b.Helper()
	echo := newEcho(b)
	must(b, echo(b.Context()))
	var n atomic.Int64
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			run := func(times int64, work func() error) float64 {
				start := time.Now()
				var group errgroup.Group
				var left atomic.Int64
				left.Store(times)
				for range callers {
					group.Go(func() error {
						for left.Add(-1) >= 0 {
							if err := work(); err != nil {
								return err
							}
						}
						return nil
					})
				}
				must(b, group.Wait())
				return float64(time.Since(start)) / float64(times)
			}
			if prepare != nil {
				prepare(n.Load()+1, int64(b.N))
			}
			echoes := run(max(2000, int64(b.N)), func() error { return echo(b.Context()) }) // few would be of a cold connection
			b.ResetTimer()
			calls := run(int64(b.N), func() error { return call(b.Context(), n.Add(1)) })
			b.StopTimer()
			b.ReportMetric(calls/echoes, "echoes/op")
		})
	}
}

// BenchmarkEcho is what a call costs at least.
func BenchmarkEcho(b *testing.B) {
	echo := newEcho(b)
	measure(b, nil, func(ctx context.Context, _ int64) error { return echo(ctx) })
}

// interactionOf spreads calls over interactions, as calls of different callers are.
func interactionOf(n int64) string { return fmt.Sprint("i", n%256) }

// answered tells of a block that did not take the exit it should.
func answered(resp blockResponse, err error, want zendeskv1.Exit) error {
	if err == nil && resp.GetExit() != want {
		err = fmt.Errorf("exit is %v with %v", resp.GetExit(), resp.GetFailure())
	}
	return err
}

func BenchmarkSelectAccount(b *testing.B) {
	_, conn := newBenchServer(b)
	blocks := zendeskv1.NewBlockServiceClient(conn)
	measure(b, nil, func(ctx context.Context, n int64) error {
		resp, err := blocks.SelectAccount(ctx, &zendeskv1.SelectAccountRequest{
			InteractionId: interactionOf(n), Choice: &zendeskv1.SelectAccountRequest_Account{Account: "main"},
		})
		return answered(resp, err, next)
	})
}

// BenchmarkSearch has a request to a fake Zendesk in it, over HTTP, which answers without searching.
func BenchmarkSearch(b *testing.B) {
	s, conn := newBenchServer(b)
	answer := `{"results":[{"id":1,"result_type":"user","name":"Maria Lopez","phone":"+15135557611"}],"count":1}`
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Body: &answer})
	blocks := zendeskv1.NewBlockServiceClient(conn)
	measure(b, nil, func(ctx context.Context, n int64) error {
		resp, err := blocks.Search(ctx, &zendeskv1.SearchRequest{InteractionId: interactionOf(n), SearchString: callerQuery, RecordsetName: "RS"})
		return answered(resp, err, next)
	})
}

func BenchmarkScreenPop(b *testing.B) {
	_, conn := newBenchServer(b)
	blocks := zendeskv1.NewBlockServiceClient(conn)
	measure(b, nil, func(ctx context.Context, n int64) error {
		req := popRequest(&popTicket{TicketId: "1"})
		req.InteractionId = fmt.Sprint("i", n)
		resp, err := blocks.ScreenPop(ctx, req)
		return answered(resp, err, next)
	})
}

func BenchmarkAttachedData(b *testing.B) {
	_, conn := newBenchServer(b)
	blocks := zendeskv1.NewBlockServiceClient(conn)
	measure(b, nil, func(ctx context.Context, n int64) error {
		resp, err := blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{
			InteractionId: interactionOf(n), Data: map[string]string{"disposition": "sale", "notes": "Prefers to be called before ten."},
		})
		return answered(resp, err, next)
	})
}

// BenchmarkGetNextRecord costs the same in small recordsets and in large ones. Every call moves; the calls are spread over
// 64 recordsets or more, each of an interaction of its own.
func BenchmarkGetNextRecord(b *testing.B) {
	for _, records := range []int64{10, 1000} {
		b.Run(fmt.Sprint("records=", records), func(b *testing.B) {
			s, conn := newBenchServer(b)
			blocks := zendeskv1.NewBlockServiceClient(conn)
			var made, used, first int64
			prepare := func(n, calls int64) {
				first, used = n, max(64, calls/(records-1)+1)
				for i := range used {
					placeAtFirst(b, s.store, interactionOfRecordset(i), records, i < made)
				}
				made = max(made, used)
			}
			measure(b, prepare, func(ctx context.Context, n int64) error {
				resp, err := blocks.GetNextRecord(ctx, &zendeskv1.GetNextRecordRequest{
					InteractionId: interactionOfRecordset((n - first) % used), RecordsetName: "RS",
				})
				return answered(resp, err, next)
			})
		})
	}
}

func interactionOfRecordset(i int64) string { return fmt.Sprint("recordset", i) }

// placeAtFirst puts an interaction's recordset on its first record, and makes it if it is not there.
func placeAtFirst(b *testing.B, st *store.Store, interaction string, records int64, there bool) {
	b.Helper()
	rs := store.Recordset{Name: "RS", Position: 1, Account: store.AccountUse{AccountID: "main"}}
	var staged *store.StagedRecords
	if !there {
		raw := make([]json.RawMessage, records)
		for i := range raw {
			raw[i] = fmt.Appendf(nil, `{"id":%d,"result_type":"ticket","subject":"Router keeps restarting","via":{"channel":"voice"},"status":"open"}`, i+1)
		}
		var err error
		staged, err = st.StageRecords(b.Context(), defaultTenant, interaction, raw)
		must(b, err)
	}
	must(b, st.UpdateInteraction(b.Context(), defaultTenant, interaction, func(tx *store.InteractionTxn) error {
		if there {
			tx.UpdateRecordset(rs)
		} else {
			tx.PublishRecordset(rs, staged)
		}
		return nil
	}))
}
