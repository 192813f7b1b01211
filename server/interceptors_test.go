package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// chained is a server of blocks with the production interceptors, whose handler a test gives.
type chained struct {
	zendeskv1.UnimplementedBlockServiceServer
	handle func(context.Context) error

	log     *textBuffer
	metrics *metrics.Metrics
	conn    *grpc.ClientConn
}

func (c *chained) Search(ctx context.Context, _ *zendeskv1.SearchRequest) (*zendeskv1.SearchResponse, error) {
	return &zendeskv1.SearchResponse{}, c.handle(ctx)
}

// streamDesc has a stream among the methods of this API.
var streamDesc = grpc.ServiceDesc{
	ServiceName: "scenarioblocks.zendesk.v1.InteractionService",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "WatchScreenPops", ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		return srv.(*chained).handle(stream.Context())
	}}},
}

// openEnds ends no stream.
var openEnds = newStreamEnds(context.Background(), age(time.Hour))

func newChained(t *testing.T, timeouts Timeouts) *chained {
	t.Helper()
	c := &chained{log: &textBuffer{}, metrics: metrics.New(metrics.Config{})}
	log := slog.New(slog.NewJSONHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server := grpc.NewServer(
		grpc.InTapHandle(newAdmission(Bounds{}).tap),
		grpc.ChainUnaryInterceptor(unaryInterceptors(log, c.metrics, openAccess(t), newAdmission(Bounds{}), timeouts.withDefaults(), rpc.NewTurns(9, 0))...),
		grpc.ChainStreamInterceptor(streamInterceptors(c.metrics, streamStages(log, c.metrics, openAccess(t), newAdmission(Bounds{}), timeouts.withDefaults(), openEnds))...),
		grpc.WaitForHandlers(true),
	)
	zendeskv1.RegisterBlockServiceServer(registrar{Server: server}, c)
	server.RegisterService(&streamDesc, c)
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var err error
	c.conn, err = grpc.NewClient("passthrough:///test",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() {
		must(t, c.conn.Close())
		server.Stop()
		must(t, <-served)
	})
	return c
}

func (c *chained) unary(ctx context.Context) error {
	_, err := zendeskv1.NewBlockServiceClient(c.conn).Search(ctx, &zendeskv1.SearchRequest{})
	return err
}

func (c *chained) stream(ctx context.Context) error {
	stream, err := c.conn.NewStream(ctx, &streamDesc.Streams[0], "/"+streamDesc.ServiceName+"/WatchScreenPops")
	if err == nil {
		err = stream.CloseSend()
	}
	if err == nil {
		err = stream.RecvMsg(&zendeskv1.SearchResponse{})
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// lines returns what was logged.
func (b *textBuffer) lines(t testing.TB) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(b.String()) {
		var line map[string]any
		must(t, json.Unmarshal([]byte(text), &line))
		lines = append(lines, line)
	}
	return lines
}

// finishes returns the log lines about calls.
func (b *textBuffer) finishes(t testing.TB) []map[string]any {
	t.Helper()
	var calls []map[string]any
	for _, line := range b.lines(t) {
		if line["grpc.method"] != nil {
			calls = append(calls, line)
		}
	}
	return calls
}

// roleOf recognises an interceptor.
func roleOf(interceptor any) string {
	name := path.Base(runtime.FuncForPC(reflect.ValueOf(interceptor).Pointer()).Name())
	for _, known := range []struct{ part, role string }{
		{"Errors", "errors"}, {"recovery.", "recovery"}, {"access)", "access"}, {"admission)", "admission"}, {"deadlines)", "deadline"}, {"callLog", "logging"},
		{"countCall", "count"}, {"interceptors.", "metrics"}, {"(*Metrics)", "metrics"}, {"Turns)", "turns"}, {"streamEnds", "ends"},
	} {
		if strings.Contains(name, known.part) {
			return known.role
		}
	}
	return name
}

func TestInterceptorOrder(t *testing.T) {
	log, m := slog.New(slog.DiscardHandler), metrics.New(metrics.Config{})
	var unary, stream []string
	for _, interceptor := range unaryInterceptors(log, m, openAccess(t), newAdmission(Bounds{}), Timeouts{}, rpc.NewTurns(9, 0)) {
		unary = append(unary, roleOf(interceptor))
	}
	for _, stage := range streamStages(log, m, openAccess(t), newAdmission(Bounds{}), Timeouts{}, openEnds) {
		stream = append(stream, roleOf(stage))
	}
	mustEqual(t, "unary", unary, []string{"metrics", "count", "logging", "errors", "recovery", "access", "admission", "deadline", "turns"})
	mustEqual(t, "stream", stream, []string{"logging", "errors", "ends", "access", "admission", "deadline"})
}

// What the order is for: a panic is told to the log in full, and to the caller not at all.
func TestPanic(t *testing.T) {
	c := newChained(t, Timeouts{})
	c.handle = func(context.Context) error { panic("canary of the panic") }
	for name, call := range map[string]func(context.Context) error{"unary": c.unary, "stream": c.stream} {
		logged := len(c.log.finishes(t))
		err := call(t.Context())
		mustReason(t, err, codes.Internal, zendeskv1.ErrorReason_ERROR_REASON_INTERNAL)
		s := status.Convert(err)
		if s.Message() != "internal error" || strings.Contains(fmt.Sprint(s.Proto()), "canary") || strings.Contains(fmt.Sprint(s.Proto()), ".go:") {
			t.Errorf("%s: the caller is told %v", name, s.Proto())
		}
		lines := c.log.finishes(t)[logged:]
		if len(lines) != 1 || lines[0]["grpc.code"] != "Internal" || lines[0]["level"] != "ERROR" {
			t.Errorf("%s: logged %v", name, lines)
			continue
		}
		if text := fmt.Sprint(lines[0]["grpc.error"]); !strings.Contains(text, "canary of the panic") || !strings.Contains(text, "interceptors_test.go:") {
			t.Errorf("%s: the log has no stack: %.200s", name, text)
		}
	}
}

func TestErrorsOfHandlers(t *testing.T) {
	other := context.DeadlineExceeded // as a time-out of an HTTP client is, with time left
	for _, test := range []struct {
		name   string
		err    error
		code   codes.Code
		reason zendeskv1.ErrorReason
		text   string
	}{
		{
			"public", &rpc.Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH, Message: "changed", Cause: errors.New("secret cause")},
			codes.Aborted, zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH, "changed",
		},
		{
			"public, wrapped", fmt.Errorf("wrapper: %w", &rpc.Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND, Message: "gone"}),
			codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND, "gone",
		},
		{"unexpected", errors.New("secret cause"), codes.Internal, zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, "internal error"},
		{"a status", status.Error(codes.NotFound, "secret cause"), codes.Internal, zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, "internal error"},
		{"time-out of something else", fmt.Errorf("secret cause: %w", other), codes.Internal, zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, "internal error"},
		{"store closed", fmt.Errorf("secret cause: %w", store.ErrClosed), codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, "the service is shutting down"},
		{"store failed", fmt.Errorf("secret cause: %w", store.ErrFailed), codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, "the service is shutting down"},
		{"store unavailable", fmt.Errorf("secret cause: %w", store.ErrUnavailable), codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, "the service cannot reach or write its data now"},
		{"outcome unknown", fmt.Errorf("secret cause: %w", store.ErrUnknownOutcome), codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, "the database has not said in time whether it has stored this"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newChained(t, Timeouts{})
			c.handle = func(context.Context) error { return test.err }
			for _, call := range []func(context.Context) error{c.unary, c.stream} {
				err := call(t.Context())
				mustReason(t, err, test.code, test.reason)
				if got := status.Convert(err).Message(); got != test.text {
					t.Errorf("the caller is told %q, want %q", got, test.text)
				}
			}
			for _, line := range c.log.finishes(t) {
				if line["grpc.code"] != test.code.String() || !strings.Contains(fmt.Sprint(line["grpc.error"]), test.err.Error()) {
					t.Errorf("logged %v", line)
				}
			}
		})
	}
}

// A deadline of this service is told as the caller's own is.
func TestDeadlinePassed(t *testing.T) {
	c := newChained(t, Timeouts{Block: time.Millisecond})
	c.handle = func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("storing: %w", ctx.Err())
	}
	mustReason(t, c.unary(t.Context()), codes.DeadlineExceeded, zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED)
	if line := c.log.finishes(t)[0]; line["grpc.code"] != "DeadlineExceeded" || line["grpc.request.timeout"] != nil {
		t.Errorf("logged %v, want no deadline: the caller had set none", line)
	}
}

func TestDeadlines(t *testing.T) {
	const second = time.Second
	for _, test := range []struct {
		method string
		caller time.Duration // 0: none
		want   time.Duration
	}{
		{zendeskv1.BlockService_Search_FullMethodName, 0, 3 * second},
		{zendeskv1.BlockService_Search_FullMethodName, 5 * second, 5 * second},
		{zendeskv1.BlockService_Search_FullMethodName, second, second},
		{zendeskv1.BlockService_Search_FullMethodName, time.Hour, 8 * second},
		{zendeskv1.BlockService_SelectAccount_FullMethodName, 0, 3 * second},
		{zendeskv1.BlockService_GetNextRecord_FullMethodName, time.Hour, 8 * second},
		{zendeskv1.BlockService_ScreenPop_FullMethodName, time.Hour, 8 * second},
		{zendeskv1.BlockService_AttachedData_FullMethodName, 0, 3 * second},
		{zendeskv1.AccountService_TestConnection_FullMethodName, 0, 15 * second},
		{zendeskv1.AccountService_TestConnection_FullMethodName, time.Hour, 15 * second},
		{zendeskv1.AccountService_RequestToken_FullMethodName, 0, 15 * second},
		{zendeskv1.AccountService_RequestToken_FullMethodName, 2 * second, 2 * second},
		{zendeskv1.AccountService_CreateAccount_FullMethodName, 0, 3 * second},
		{zendeskv1.InteractionService_GetInteraction_FullMethodName, 0, 3 * second},
		{zendeskv1.InteractionService_GetInteraction_FullMethodName, time.Minute, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if test.caller != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.caller)
				defer cancel()
			}
			_, err := (&deadlines{timeouts: Timeouts{}.withDefaults()}).unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: test.method}, func(ctx context.Context, _ any) (any, error) {
				deadline, ok := ctx.Deadline()
				if got := time.Until(deadline); !ok || got != test.want {
					t.Errorf("%s with %v has %v, want %v", test.method, test.caller, got, test.want)
				}
				return nil, nil
			})
			must(t, err)
		})
	}
}

func TestDeadlinesOfStreams(t *testing.T) {
	for _, test := range []struct {
		method string
		caller time.Duration // 0: none
		want   time.Duration // 0: none
	}{
		{zendeskv1.AccountService_StreamTestConnection_FullMethodName, 0, 15 * time.Second},
		{zendeskv1.AccountService_StreamTestConnection_FullMethodName, time.Hour, 15 * time.Second},
		{zendeskv1.AccountService_StreamTestConnection_FullMethodName, time.Second, time.Second},
		{zendeskv1.InteractionService_WatchScreenPops_FullMethodName, 0, 0},
		{zendeskv1.InteractionService_WatchScreenPops_FullMethodName, time.Hour, time.Hour},
		{zendeskv1.OperationsService_Backup_FullMethodName, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if test.caller != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.caller)
				defer cancel()
			}
			d, info := &deadlines{timeouts: Timeouts{}.withDefaults()}, &grpc.StreamServerInfo{FullMethod: test.method}
			must(t, inStages(d.stream)(nil, &idleStream{ctx: ctx}, info, func(_ any, stream grpc.ServerStream) error {
				deadline, ok := stream.Context().Deadline()
				if ok != (test.want != 0) || ok && time.Until(deadline) != test.want {
					t.Errorf("%s with %v has %v, %t, want %v", test.method, test.caller, time.Until(deadline), ok, test.want)
				}
				return nil
			}))
		})
	}
}

// What blocks did stands in the log; what they did it with does not.
func TestLogOfBlocks(t *testing.T) {
	s := newBlockServer(t)
	const canary = "k4naryk4nary"
	vars := map[string]string{canary + "name": canary, "V": canary}
	mustExit(t, s.search(t, "one", "type:user $(V) "+canary, func(r *zendeskv1.SearchRequest) { r.Variables = vars }), noData)
	mustExit(t, s.search(t, "one", callerQuery), next)
	s.answerWith(`{"error":"` + canary + `","description":"` + canary + `"}`)
	mustFail(t, s.search(t, "one", canary), zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE)
	s.answerWith(`{"results":[{"` + canary + `":"` + canary + `"}],"count":1}`)
	mustExit(t, s.search(t, "one", "anything"), next)
	mustExit(t, s.nextOf(t, "one"), noData)
	mustExit(t, s.attach(t, "one", map[string]string{canary: canary}), next)
	mustFail(t, s.attach(t, "one", map[string]string{canary: strings.Repeat(canary, 10<<10)}), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	mustFail(t, s.selectAccount(t, "one", canary), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)
	mustFail(t, s.search(t, "one", "$(V)", func(r *zendeskv1.SearchRequest) { r.Variables = vars }), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)
	mustExit(t, s.selectDefault(t, "one"), next)
	mustFail(t, s.search(t, "one", "$("+canary+")"), zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE)
	mustFail(t, s.pop(t, popRequest(&popTicket{TicketId: canary})), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	mustExit(t, s.pop(t, popRequest(&popSearch{SearchString: canary})), next)
	_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: map[string]string{canary: "$(" + canary}})
	mustViolate(t, err, `data["`+canary+`"]`)
	_, err = s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{
		InteractionId: "one", SearchString: "$(" + canary, RecordsetName: canary + "!", SortBy: 99, SortOrder: -1, Variables: vars,
	})
	mustViolate(t, err, "search_string", "recordset_name", "sort_by", "sort_order")
	s.stop()

	for text := range strings.Lines(s.log.String()) {
		for _, secret := range []string{canary, "5135557611", "Maria", "canary", "sandbox-admin-api-token"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is logged: %s", secret, text)
			}
		}
	}
	if !strings.Contains(s.replies.String(), canary) {
		t.Error("the replies hold no canary: nothing was tested")
	}
	type call struct{ method, exit, reason, account, status any }
	var got []call
	for _, line := range s.log.finishes(t) {
		if line["interaction_id"] == "one" {
			got = append(got, call{line["grpc.method"], line["exit"], line["reason"], line["account_id"], line["http_status"]})
		}
	}
	want := []call{
		{"Search", "NO_DATA", nil, "main", nil},
		{"Search", "NEXT", nil, "main", nil},
		{"Search", "FAILED", "BAD_RESPONSE", "main", 200.0},
		{"Search", "NEXT", nil, "main", nil},
		{"GetNextRecord", "NO_DATA", nil, "main", nil},
		{"AttachedData", "NEXT", nil, nil, nil},
		{"AttachedData", "FAILED", "INVALID_REQUEST", nil, nil},
		{"SelectAccount", "FAILED", "ACCOUNT_NOT_FOUND", nil, nil},
		{"Search", "FAILED", "ACCOUNT_NOT_FOUND", nil, nil},
		{"SelectAccount", "NEXT", nil, "main", nil},
		{"Search", "FAILED", "UNDEFINED_VARIABLE", "main", nil},
		{"ScreenPop", "FAILED", "INVALID_REQUEST", "main", nil},
		{"ScreenPop", "NEXT", nil, "main", nil},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("logged\n%v, want\n%v", got, want)
	}
}
