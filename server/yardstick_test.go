package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/admin"
	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/server/readiness"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// What the service costs is measured by what its parts cost, in the same run and in turns with it:
//
//	E  a bare gRPC server that answers with the same messages
//	W  the engine's own durable update of as many keys and bytes
//	D  a plain HTTP request to the same fake Zendesk, whose answer is read and decoded
//	EW a bare gRPC server that makes that update before it answers: what any service that is made of these parts can reach
//
// A figure is the median of rounds without the first.
const (
	yardRounds = 7
	yardRound  = 500 * time.Millisecond
)

// yard is one thing that is measured.
type yard struct {
	call  func(ctx context.Context, n int64) error
	n     atomic.Int64
	rates []float64
	took  []time.Duration // p50 of each round
	high  []time.Duration // p90
}

func (y *yard) round(b *testing.B, callers int) {
	b.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var group errgroup.Group
	begun := time.Now()
	for range callers {
		group.Go(func() error {
			var own []time.Duration
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, own...)
			}()
			for time.Since(begun) < yardRound {
				at := time.Now()
				if err := y.call(b.Context(), y.n.Add(1)); err != nil {
					return err
				}
				own = append(own, time.Since(at))
			}
			return nil
		})
	}
	must(b, group.Wait())
	y.rates = append(y.rates, float64(len(all))/time.Since(begun).Seconds())
	slices.Sort(all)
	y.took, y.high = append(y.took, all[len(all)/2]), append(y.high, all[len(all)*9/10])
}

func medianOf[T int64 | float64 | time.Duration](rounds []T) float64 {
	sorted := slices.Sorted(slices.Values(rounds[1:]))
	return float64(sorted[len(sorted)/2])
}

// inTurns measures things in turns.
func inTurns(b *testing.B, callers int, yards ...*yard) {
	b.Helper()
	for range yardRounds {
		for _, y := range yards {
			y.round(b, callers)
		}
	}
}

// together is the rate that two things would have one after the other.
func together(a, b *yard) float64 { return 1 / (1/medianOf(a.rates) + 1/medianOf(b.rates)) }

// bareBlocks answers as the service does, and does nothing for it.
type bareBlocks struct {
	zendeskv1.UnimplementedBlockServiceServer
	zendeskv1.UnimplementedAccountServiceServer
	write *yard // SelectAccount makes it first; nil: it does not
}

var bareUse = &zendeskv1.AccountUse{AccountId: "main", Name: "main", Selection: zendeskv1.AccountSelection_ACCOUNT_SELECTION_SELECTED}

func (s bareBlocks) SelectAccount(ctx context.Context, _ *zendeskv1.SelectAccountRequest) (*zendeskv1.SelectAccountResponse, error) {
	if s.write != nil {
		if err := s.write.call(ctx, s.write.n.Add(1)); err != nil {
			return nil, err
		}
	}
	return &zendeskv1.SelectAccountResponse{Exit: next, Account: bareUse}, nil
}

func (bareBlocks) AttachedData(_ context.Context, req *zendeskv1.AttachedDataRequest) (*zendeskv1.AttachedDataResponse, error) {
	return &zendeskv1.AttachedDataResponse{Exit: next, Data: req.GetData()}, nil
}

func (bareBlocks) GetNextRecord(context.Context, *zendeskv1.GetNextRecordRequest) (*zendeskv1.GetNextRecordResponse, error) {
	return &zendeskv1.GetNextRecordResponse{
		Exit: next, Account: bareUse, Position: 2, Count: 25,
		Variables: map[string]string{"RS.id": "45900000001103", "RS.subject": "Router keeps restarting", "RS.status": "open", "RS.__count__": "25"},
		Record:    &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_TICKET, Id: "45900000001103", Url: "http://127.0.0.1:50080/agent/tickets/45900000001103"},
	}, nil
}

func (bareBlocks) GetAccount(context.Context, *zendeskv1.GetAccountRequest) (*zendeskv1.GetAccountResponse, error) {
	return &zendeskv1.GetAccountResponse{Account: &zendeskv1.Account{
		AccountId: "main", Name: "main", Url: "http://127.0.0.1:50080", DefaultAccount: true, DefaultRegion: "US", Etag: "KYS3S2JGJCRZ62MJK2MUCKSU5B-default",
		ApiToken: &zendeskv1.ApiToken{Username: "nora.becker@sandbox.example"}, Warnings: []*zendeskv1.AccountWarning{{Code: 1, Message: strings.Repeat("x", 150)}},
	}}, nil
}

func newBare(b *testing.B, blocks bareBlocks) *grpc.ClientConn {
	b.Helper()
	server := grpc.NewServer()
	zendeskv1.RegisterBlockServiceServer(server, blocks)
	zendeskv1.RegisterAccountServiceServer(server, blocks)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn := dialTo(b, listener.Addr().String())
	b.Cleanup(func() {
		server.Stop()
		must(b, <-served)
	})
	return conn
}

func dialTo(b *testing.B, target string) *grpc.ClientConn {
	b.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(b, err)
	b.Cleanup(func() { must(b, conn.Close()) })
	return conn
}

// newFile opens an engine of W's own, on a file.
func newFile(b *testing.B) kv.Engine {
	b.Helper()
	db, err := boltkv.Open(filepath.Join(b.TempDir(), "db"))
	must(b, err)
	b.Cleanup(func() { must(b, db.Close()) })
	return db
}

// newWrite is W: the head of an interaction read with its account, and written with more keys of so many bytes.
func newWrite(b *testing.B, db kv.Engine, keys, bytes int) *yard {
	b.Helper()
	value, account := []byte(strings.Repeat("v", bytes)), kv.Key("default", "a", "record", "main")
	must(b, db.Update(b.Context(), func(tx kv.Txn) error { tx.Put(account, value); return nil }))
	return &yard{call: func(ctx context.Context, n int64) error {
		return db.Update(ctx, func(tx kv.Txn) error {
			interaction := interactionOf(n)
			head := kv.Key("default", "i", interaction, "head")
			if _, err := tx.Get(head, account); err != nil {
				return err
			}
			tx.Put(head, value)
			for i := 1; i < keys; i++ {
				tx.Put(kv.Key("default", "i", interaction, "data", fmt.Sprint(i)), value)
			}
			return nil
		})
	}}
}

func selecting(c zendeskv1.BlockServiceClient, once bool) func(context.Context, int64) error {
	return func(ctx context.Context, n int64) error {
		req := &zendeskv1.SelectAccountRequest{InteractionId: interactionOf(n), Choice: &zendeskv1.SelectAccountRequest_Account{Account: "main"}}
		if once {
			req.RequestId = fmt.Sprint("r", n)
		}
		resp, err := c.SelectAccount(ctx, req)
		return answered(resp, err, next)
	}
}

func attaching(c zendeskv1.BlockServiceClient) func(context.Context, int64) error {
	return func(ctx context.Context, n int64) error {
		resp, err := c.AttachedData(ctx, &zendeskv1.AttachedDataRequest{
			InteractionId: interactionOf(n), Data: map[string]string{"disposition": "sale", "notes": "Prefers to be called before ten."},
		})
		return answered(resp, err, next)
	}
}

func stepping(c zendeskv1.BlockServiceClient, atEnd func(n int64) error) func(context.Context, int64) error {
	return func(ctx context.Context, n int64) error {
		resp, err := c.GetNextRecord(ctx, &zendeskv1.GetNextRecordRequest{InteractionId: interactionOfRecordset(n % 64), RecordsetName: "RS"})
		if resp.GetExit() == zendeskv1.Exit_EXIT_NO_DATA {
			return atEnd(n % 64)
		}
		return answered(resp, err, next)
	}
}

func reading(c zendeskv1.AccountServiceClient) func(context.Context, int64) error {
	return func(ctx context.Context, _ int64) error {
		_, err := c.GetAccount(ctx, &zendeskv1.GetAccountRequest{AccountId: "main"})
		return err
	}
}

// BenchmarkParts reports how fast blocks are, as a part of what an echo and a write allow one after the other: 1 would be a
// service that costs nothing.
func BenchmarkParts(b *testing.B) {
	benchmarkParts(b, func(b *testing.B) (*testServer, kv.Engine) {
		s := newTestServer(b, func(c *Config, _ *zendesktest.Config) { c.Log = slog.New(slog.DiscardHandler) })
		return s, newFile(b)
	})
}

// BenchmarkPartsOnPostgreSQL is BenchmarkParts over a database: W is the update of its engine there.
func BenchmarkPartsOnPostgreSQL(b *testing.B) {
	benchmarkParts(b, func(b *testing.B) (*testServer, kv.Engine) {
		server := pgtest.Start(b)
		url := server.URL(b, "yardstick")
		_, _, err := store.Migrate(b.Context(), store.Config{URL: url})
		must(b, err)
		db, err := pgkv.Open(b.Context(), pgkv.Config{URL: url})
		must(b, err)
		b.Cleanup(func() { must(b, db.Close()) })
		s := newReplicasOn(b, server, 1, func(c *Config, _ *zendesktest.Config) { c.Log = slog.New(slog.DiscardHandler) })[0]
		return s, db
	})
}

func benchmarkParts(b *testing.B, start func(*testing.B) (*testServer, kv.Engine)) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // about as the program has it, whose heap may grow by 128 MiB beside its own size
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			for range b.N {
				s, db := start(b)
				s.createAccount(b, "main", zendesktest.Admin)
				conn, stop := s.listen(b)
				b.Cleanup(func() { must(b, stop()) })
				bare := newBare(b, bareBlocks{})
				own, yardstick := zendeskv1.NewBlockServiceClient(conn), zendeskv1.NewBlockServiceClient(bare)
				const records = 300
				for i := range int64(64) {
					placeAtFirst(b, s.store, interactionOfRecordset(i), records, false)
				}
				again := func(i int64) error {
					placeAtFirst(b, s.store, interactionOfRecordset(i), records, true)
					return nil
				}
				write, writeTwo := newWrite(b, db, 1, 420), newWrite(b, db, 2, 420)
				writing := &yard{call: selecting(zendeskv1.NewBlockServiceClient(newBare(b, bareBlocks{write: newWrite(b, db, 1, 420)})), false)}
				echoes := map[string]*yard{
					"SelectAccount": {call: selecting(yardstick, false)}, "AttachedData": {call: attaching(yardstick)},
					"GetNextRecord": {call: stepping(yardstick, again)}, "GetAccount": {call: reading(zendeskv1.NewAccountServiceClient(bare))},
				}
				calls := map[string]*yard{
					"SelectAccount": {call: selecting(own, false)}, "SelectAccountOnce": {call: selecting(own, true)}, "AttachedData": {call: attaching(own)},
					"GetNextRecord": {call: stepping(own, again)}, "GetAccount": {call: reading(zendeskv1.NewAccountServiceClient(conn))},
				}
				inTurns(b, callers, echoes["SelectAccount"], write, calls["SelectAccount"], writing, writeTwo, calls["SelectAccountOnce"],
					echoes["AttachedData"], calls["AttachedData"], echoes["GetAccount"], calls["GetAccount"], echoes["GetNextRecord"], calls["GetNextRecord"])
				part := func(name, of string, w *yard) {
					b.ReportMetric(medianOf(calls[name].rates)/together(echoes[of], w), name)
				}
				part("SelectAccount", "SelectAccount", write)
				part("SelectAccountOnce", "SelectAccount", writeTwo)
				part("AttachedData", "AttachedData", writeTwo)
				part("GetNextRecord", "GetNextRecord", writeTwo)
				b.ReportMetric(medianOf(writing.rates)/together(echoes["SelectAccount"], write), "EW")
				b.ReportMetric(medianOf(calls["GetAccount"].rates)/medianOf(echoes["GetAccount"].rates), "GetAccount")
				b.ReportMetric(medianOf(calls["SelectAccount"].rates), "SelectAccount/s")
			}
		})
	}
}

// ticketsOf is an answer of Zendesk's search with so many tickets of about so many bytes each.
func ticketsOf(n, bytes int) string {
	var all []string
	for i := range n {
		ticket := fmt.Sprintf(`{"id":%d,"result_type":"ticket","url":"https://acme.zendesk.com/api/v2/tickets/%[1]d.json","subject":"Router keeps restarting","via":{"channel":"voice"},"status":"open","tags":["vip","router"],"custom_fields":[`, 45900000001000+i)
		for field := 0; len(ticket) < bytes; field++ {
			ticket += fmt.Sprintf(`{"id":%d,"value":"a value of field %d of %d"},`, 360000000000+field, field, i)
		}
		all = append(all, strings.TrimSuffix(ticket, ",")+"]}")
	}
	return fmt.Sprintf(`{"results":[%s],"count":%d}`, strings.Join(all, ","), n)
}

// BenchmarkSearchParts reports how long a search of 25 tickets and 60 KB takes, Zendesk answering after 5 ms, by the sum of a
// request, an echo and a write.
func BenchmarkSearchParts(b *testing.B) {
	for range b.N {
		s, conn := newBenchServer(b)
		answer := ticketsOf(25, 2400)
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Body: &answer, Delay: 5 * time.Millisecond})
		client := &http.Client{}
		direct := &yard{call: func(ctx context.Context, n int64) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v2/search.json?query=type:ticket+%d&per_page=25", s.zendesk.Origin(), n), nil)
			if err != nil {
				return err
			}
			req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			if err := resp.Body.Close(); err != nil {
				return err
			}
			var into struct{ Results []json.RawMessage }
			if err == nil {
				err = json.Unmarshal(body, &into)
			}
			if err == nil && len(into.Results) != 25 {
				err = fmt.Errorf("%d results", len(into.Results))
			}
			return err
		}}
		bare, own := zendeskv1.NewBlockServiceClient(newBare(b, bareBlocks{})), zendeskv1.NewBlockServiceClient(conn)
		echo := &yard{call: stepping(bare, nil)}
		write := newWrite(b, newFile(b), 27, 2500)
		search := &yard{call: func(ctx context.Context, n int64) error {
			resp, err := own.Search(ctx, &zendeskv1.SearchRequest{InteractionId: interactionOf(n), SearchString: fmt.Sprint("type:ticket ", n), RecordsetName: "RS"})
			return answered(resp, err, next)
		}}
		inTurns(b, 1, direct, echo, write, search)
		b.ReportMetric(medianOf(search.took)/(medianOf(direct.took)+medianOf(echo.took)+medianOf(write.took)), "Search/(D+E+W)")
	}
}

// BenchmarkWatched reports what 10,000 open watches of screen pops cost the blocks.
func BenchmarkWatched(b *testing.B) {
	const watches = 10_000
	for range b.N {
		_, conn := newBenchServer(b)
		without := &yard{call: selecting(zendeskv1.NewBlockServiceClient(conn), false)}
		with := &yard{call: without.call}
		inTurns(b, 64, without)
		ctx, end := context.WithCancel(b.Context())
		var opening errgroup.Group
		opening.SetLimit(64)
		for i := range watches / maxStreams {
			desktop := zendeskv1.NewInteractionServiceClient(dialTo(b, conn.Target()))
			for j := range maxStreams {
				opening.Go(func() error {
					stream, err := desktop.WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: fmt.Sprintf("agent%d.%d@acme.example", i, j)}})
					if err == nil {
						_, err = stream.Header()
					}
					return err
				})
			}
		}
		must(b, opening.Wait())
		inTurns(b, 64, with)
		end()
		b.ReportMetric(medianOf(with.rates)/medianOf(without.rates), "rate-watched/alone")
		b.ReportMetric(medianOf(with.high)/medianOf(without.high), "p90-watched/alone")
	}
}

// BenchmarkObserved reports what is left of the rate of calls while all are traced, and while metrics are scraped every 10 ms; and
// how long the metrics themselves take of a call, which are always there.
func BenchmarkObserved(b *testing.B) {
	for range b.N {
		seen, ready := metrics.New(metrics.Config{Accounts: 100}), readiness.New()
		_, plain := newBenchServer(b, func(c *Config) { c.Metrics, c.Ready = seen, ready })
		_, traced := newBenchServer(b, func(c *Config) {
			c.Tracing = &Tracing{Provider: sdktrace.NewTracerProvider(sdktrace.WithBatcher(tracetest.NewNoopExporter()))}
		})
		probes := admin.New(admin.Config{Ready: ready, Metrics: seen.Handler(), Level: fixedLevel{}, Log: slog.New(slog.DiscardHandler)})
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(b, err)
		served := make(chan error, 1)
		go func() { served <- probes.Serve(listener) }()
		var scraping atomic.Bool
		var scrapes atomic.Int64
		ctx, end := context.WithCancel(b.Context())
		var scraper sync.WaitGroup
		scraper.Go(func() {
			for ticker := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-ticker.C {
				if !scraping.Load() {
					continue
				}
				if resp, err := http.Get("http://" + listener.Addr().String() + "/metrics"); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					scrapes.Add(1)
				}
			}
		})
		for name, of := range map[string]func(*grpc.ClientConn) func(context.Context, int64) error{
			"SelectAccount": func(c *grpc.ClientConn) func(context.Context, int64) error {
				return selecting(zendeskv1.NewBlockServiceClient(c), false)
			},
			"GetAccount": func(c *grpc.ClientConn) func(context.Context, int64) error {
				return reading(zendeskv1.NewAccountServiceClient(c))
			},
		} {
			alone, tracing, scraped := &yard{call: of(plain)}, &yard{call: of(traced)}, &yard{call: of(plain)}
			for range yardRounds {
				alone.round(b, 64)
				tracing.round(b, 64)
				scraping.Store(true)
				scraped.round(b, 64)
				scraping.Store(false)
			}
			b.ReportMetric(medianOf(tracing.rates)/medianOf(alone.rates), name+"-traced/alone")
			b.ReportMetric(medianOf(scraped.rates)/medianOf(alone.rates), name+"-scraped/alone")
		}
		end()
		scraper.Wait()
		must(b, probes.Close(b.Context()))
		must(b, <-served)
		b.ReportMetric(float64(scrapes.Load()), "scrapes")

		counted, _ := seen.Interceptors()
		info := &grpc.UnaryServerInfo{FullMethod: zendeskv1.AccountService_GetAccount_FullMethodName}
		handler := func(context.Context, any) (any, error) { return nil, nil }
		const calls = 100_000
		begun := time.Now()
		for range calls {
			_, _ = counted(b.Context(), nil, info, handler)
			seen.Block("SelectAccount", "NEXT", "", "default", "main")
		}
		b.ReportMetric(float64(time.Since(begun).Nanoseconds())/calls, "ns-of-metrics/call")
	}
}

// fixedLevel is a level of the log that nobody sets.
type fixedLevel struct{}

func (fixedLevel) Level() slog.Level           { return slog.LevelInfo }
func (fixedLevel) SetLevel(slog.Level, string) {}

// BenchmarkBesideLargeSearches reports what 32 searches at a time, each of 1,000 records of 10 KB, cost a small update.
func BenchmarkBesideLargeSearches(b *testing.B) {
	for range b.N {
		s, conn := newBenchServer(b)
		answer := ticketsOf(100, 10<<10)
		answer = strings.TrimSuffix(answer, "100}") + "1000}"
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Body: &answer})
		alone := &yard{call: selecting(zendeskv1.NewBlockServiceClient(conn), false)}
		beside := &yard{call: alone.call}
		inTurns(b, 1, alone)
		ctx, end := context.WithCancel(b.Context())
		var large sync.WaitGroup
		var found atomic.Int64
		for i := range 32 {
			own := zendeskv1.NewBlockServiceClient(dialTo(b, conn.Target()))
			large.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					resp, err := own.Search(ctx, &zendeskv1.SearchRequest{InteractionId: fmt.Sprint("large", i), SearchString: fmt.Sprint("type:ticket ", i, n), RecordsetName: "RS", MaxResults: 1000})
					if err == nil && resp.GetExit() == next {
						found.Add(1)
					}
				}
			})
		}
		inTurns(b, 1, beside)
		end()
		large.Wait()
		b.ReportMetric(medianOf(beside.took)/medianOf(alone.took), "p50-beside/alone")
		b.ReportMetric(float64(found.Load()), "searches")
	}
}
