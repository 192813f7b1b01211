package rpc

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// refusing is a service whose every call ends with an error.
type refusing struct {
	healthv1.UnimplementedHealthServer
	err error
}

func (r *refusing) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return nil, r.err
}

// trailerBytes tells how large the headers of a refusal are.
type trailerBytes struct{ compressed int }

func (*trailerBytes) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*trailerBytes) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*trailerBytes) HandleConn(context.Context, stats.ConnStats)                       {}
func (b *trailerBytes) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InTrailer); ok {
		b.compressed = max(b.compressed, in.WireLength)
	}
	if in, ok := s.(*stats.InHeader); ok {
		b.compressed = max(b.compressed, in.WireLength)
	}
}

// TestStatusFitsClients sends the worst errors over a connection to a client that takes 8 KiB of headers, as most do: they
// reach it with all that counts.
func TestStatusFitsClients(t *testing.T) {
	key := func(n int) string { return fmt.Sprintf("data[%q]", strings.Repeat("\u6f22", 1300)+fmt.Sprint(n)) }
	many := func(field func(int) string, rule string) error {
		var v Violations
		for i := range 5000 {
			v.Add(field(i), "%s", rule)
		}
		return v.Err()
	}
	long := strings.Repeat("\u6f22%\x01", 3000)
	metadata := map[string]string{"account_id": "a", "hint": long, "zendesk_error": long, "zendesk_error_description": long}
	for name, test := range map[string]struct {
		err     error
		message string // how it begins
	}{
		"long keys":     {many(key, "is required"), "data: is required; and more than 49 more"},
		"long rules":    {many(func(n int) string { return fmt.Sprint("columns[", n, "]") }, long), "columns[0]: \u6f22"},
		"many fields":   {many(func(n int) string { return fmt.Sprint(strings.Repeat("f", 100), n) }, "is wrong"), "fff"},
		"a long text":   {&Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_TOKEN_REFUSED, Message: long, Metadata: metadata, RetryAfter: time.Second}, "\u6f22"},
		"not UTF-8":     {&Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_TOKEN_REFUSED, Message: "a\xffb", Metadata: map[string]string{"k": "\xfe"}}, "a\ufffdb"},
		"all of it":     {&Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD, Message: long, Metadata: metadata, RetryAfter: time.Second, violations: violationsOf(many(key, long))}, "\u6f22"},
		"one violation": {many(func(int) string { return "f" }, "x"), "f: x"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer()
			healthv1.RegisterHealthServer(server, &refusing{err: toStatus(t.Context(), test.err)})
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			defer func() {
				server.Stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
			}()
			var size trailerBytes
			conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithMaxHeaderListSize(8<<10), grpc.WithStatsHandler(&size))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
			if s := status.Convert(err); s.Code() != status.Code(toStatus(t.Context(), test.err)) || !strings.HasPrefix(s.Message(), test.message) {
				t.Errorf("the client gets %v", err)
			}
			info, ok := detailOf[*errdetails.ErrorInfo](err)
			if !ok || info.GetReason() == "" {
				t.Errorf("the client gets the details %v", status.Convert(err).Details())
			}
			if bad, ok := detailOf[*errdetails.BadRequest](err); violationsOf(test.err) != nil && (!ok || len(bad.GetFieldViolations()) == 0) {
				t.Error("the client gets no violation")
			}
			if size.compressed > 7<<10 {
				t.Errorf("the status has %d bytes on the wire", size.compressed)
			}
			t.Logf("%d bytes on the wire", size.compressed)
		})
	}
}

func violationsOf(err error) Violations { return err.(*Error).violations }
