package server

import (
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
	traceparent  = "00-" + callersTrace + "-" + callersSpan + "-01"
)

// mustTell checks that failures, errors and the log name a trace.
func mustTell(t *testing.T, s *testServer, trace string, header ...string) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), header...)
	failed, err := s.blocks.Search(ctx, &zendeskv1.SearchRequest{InteractionId: "call", SearchString: callerQuery, RecordsetName: "RS"})
	must(t, err)
	f := mustFail(t, failed, zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED)
	tested, err := s.accounts.TestConnection(ctx, &zendeskv1.TestConnectionRequest{AccountId: "main"})
	must(t, err)
	s.pop(t, toTicket("call", openTickets[0]))
	delivered, err := s.interactions.DeliverInteraction(ctx, &zendeskv1.DeliverInteractionRequest{
		InteractionId: "call", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
	})
	must(t, err)
	for from, got := range map[string]string{
		"a block": f.GetTraceId(), "a test": tested.GetFailure().GetTraceId(), "a delivery": delivered.GetDeliveries()[0].GetFailure().GetTraceId(),
	} {
		if got != trace {
			t.Errorf("the failure of %s is of trace %q, want %q", from, got, trace)
		}
	}
	_, err = s.accounts.GetAccount(ctx, &zendeskv1.GetAccountRequest{AccountId: "nobody"})
	info, _ := detailOf[*errdetails.ErrorInfo](err)
	if got := info.GetMetadata()["trace_id"]; got != trace {
		t.Errorf("the error %v is of trace %q, want %q", err, got, trace)
	}
	calls := map[string]bool{}
	for _, line := range s.log.finishes(t) {
		id, _ := line["trace_id"].(string)
		if method := fmt.Sprint(line["grpc.method"]); id == trace {
			calls[method] = true
		}
	}
	for _, method := range []string{"Search", "TestConnection", "DeliverInteraction", "GetAccount"} {
		if !calls[method] {
			t.Errorf("no line of %s is of trace %q", method, trace)
		}
	}
}

// refusedServer is a server whose account is refused.
func refusedServer(t *testing.T, adjust ...func(*Config, *zendesktest.Config)) *testServer {
	t.Helper()
	s := newTestServer(t, adjust...)
	s.createAccount(t, "main", zendesktest.Person{Email: zendesktest.Admin.Email, APIToken: "wrong-token"})
	return s
}

// A caller's trace is told also when calls are not traced here.
func TestTraceOfTheCaller(t *testing.T) {
	s := refusedServer(t)
	mustTell(t, s, callersTrace, "traceparent", traceparent)
	if strings.Contains(s.log.String(), callersSpan) {
		t.Error("the log has the caller's span")
	}
}

func TestNoTrace(t *testing.T) {
	for _, header := range [][]string{nil, {"traceparent", "nonsense"}, {"traceparent", "00-" + strings.Repeat("0", 32) + "-" + callersSpan + "-01"}} {
		s := refusedServer(t)
		mustTell(t, s, "", header...)
		if strings.Contains(s.log.String(), "trace_id") {
			t.Errorf("with %q the log has a trace:\n%s", header, s.log)
		}
	}
}

func TestSpansOfCalls(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	s := refusedServer(t, func(c *Config, _ *zendesktest.Config) { c.Tracing = &Tracing{Provider: provider} })
	conn, stop := s.listen(t)
	_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	err = conn.Invoke(t.Context(), "/scenarioblocks.zendesk.v1.BlockService/Call+15135557611", &zendeskv1.SearchRequest{}, &zendeskv1.SearchResponse{})
	if err == nil {
		t.Error("a method that is not there was called")
	}
	must(t, stop())
	mustTell(t, s, callersTrace, "traceparent", traceparent)
	_, err = s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "call"})
	must(t, err)
	s.stop()
	var search sdktrace.ReadOnlySpan
	for _, span := range spans.Ended() {
		text := fmt.Sprint(span.Name(), span.Attributes())
		if strings.Contains(text, "5135557611") || strings.Contains(text, "ealth") {
			t.Errorf("there is a span %s", text)
		}
		switch span.Name() {
		case "scenarioblocks.zendesk.v1.BlockService/Search":
			search = span
		case "scenarioblocks.zendesk.v1.InteractionService/GetInteraction":
			if span.Parent().IsValid() || span.SpanContext().TraceID().String() == callersTrace {
				t.Errorf("a call whose caller names no trace has the parent %v", span.Parent())
			}
		}
	}
	if search == nil {
		t.Fatal("there is no span of the search")
	}
	if parent := search.Parent(); parent.TraceID().String() != callersTrace || parent.SpanID().String() != callersSpan {
		t.Errorf("the parent is %v", parent)
	}
	got := map[attribute.Key]string{}
	for _, a := range search.Attributes() {
		got[a.Key] = a.Value.String()
		if strings.Contains(a.Value.String(), "call") {
			t.Errorf("%s is %q", a.Key, a.Value.String())
		}
	}
	for key, want := range map[attribute.Key]string{
		"zendeskblocks.tenant": "default", "zendeskblocks.account_id": "main", "zendeskblocks.exit": "FAILED",
		"zendeskblocks.reason": "CREDENTIALS_REJECTED", "zendeskblocks.http_status": "401", "rpc.response.status_code": "OK",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}
