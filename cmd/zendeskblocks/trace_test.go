package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	colltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// collector takes spans over OTLP.
type collector struct {
	colltrace.UnimplementedTraceServiceServer
	address string

	mu       sync.Mutex
	requests []*colltrace.ExportTraceServiceRequest
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c, server := &collector{address: l.Addr().String()}, grpc.NewServer()
	colltrace.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		must(t, <-served)
	})
	return c
}

// Export implements the collector's service.
func (c *collector) Export(_ context.Context, req *colltrace.ExportTraceServiceRequest) (*colltrace.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, req)
	return &colltrace.ExportTraceServiceResponse{}, nil
}

// spans returns what was taken, and all of it as text.
func (c *collector) spans() (spans []*tracev1.Span, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, req := range c.requests {
		text += protojson.Format(req)
		for _, of := range req.GetResourceSpans() {
			for _, in := range of.GetScopeSpans() {
				spans = append(spans, in.GetSpans()...)
			}
		}
	}
	return spans, text
}

func attributesOf(span *tracev1.Span) map[string]string {
	all := map[string]string{}
	for _, a := range span.GetAttributes() {
		v := a.GetValue()
		all[a.GetKey()] = v.GetStringValue()
		if v.GetStringValue() == "" {
			all[a.GetKey()] = fmt.Sprint(v.GetIntValue())
		}
	}
	return all
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

// A call that fails can be followed from its caller's trace to Zendesk's request id, and nobody is in it.
func TestSpans(t *testing.T) {
	c, sandbox := startCollector(t), startSandbox(t)
	zendesk := overhear(t, sandbox.origin)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+c.address)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test%20bench")
	s := startService(t, "--allow-host", hostOf(zendesk.origin), "--log-format", "text", "--log-level", "debug")
	s.createAccount(t, "main", zendesk.origin)
	const phone, email, secret = "+15135559988", "canary.person@example.com", "canary-api-token"
	_, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: "wrong", Account: &zendeskv1.Account{
		Name: "Wrong", Url: zendesk.origin, DefaultRegion: "US", ApiToken: &zendeskv1.ApiToken{Username: email, Token: secret},
	}})
	must(t, err)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+callersTrace+"-"+callersSpan+"-01", "baggage", "who="+email)
	_, err = s.blocks.IdentifyCaller(ctx, &zendeskv1.IdentifyCallerRequest{InteractionId: phone, RecordsetName: "caller", Phone: phone})
	must(t, err)
	sandbox.addFault(t, map[string]any{
		"path_prefix": "/api/v2/tickets", "status": 422, "times": 9, "header": map[string]string{"X-Request-Id": "zendesk-4711"},
		"body": map[string]any{"error": "RecordInvalid", "description": email + " is no " + phone},
	})
	created, err := s.blocks.InvokeApi(ctx, &zendeskv1.InvokeApiRequest{
		InteractionId: phone, Method: "GET", Path: "tickets/" + "canary-path.json", Query: map[string]string{"email": email, "phone": phone},
	})
	must(t, err)
	tested, err := s.accounts.TestConnection(ctx, &zendeskv1.TestConnectionRequest{AccountId: "wrong"})
	must(t, err)
	if tested.GetFailure().GetTraceId() != callersTrace {
		t.Errorf("the test's failure is %v", tested.GetFailure())
	}
	_, _ = s.accounts.GetAccount(ctx, &zendeskv1.GetAccountRequest{AccountId: email}) // refused with a message that quotes it
	s.stop(t)                                                                         // sends the last spans

	spans, text := c.spans()
	for _, canary := range []string{
		phone, phone[1:], email, "canary", secret, zendesktest.Admin.Email, zendesktest.Admin.APIToken, "RecordInvalid", "?",
	} {
		if strings.Contains(text, canary) {
			t.Errorf("the spans disclose %q", canary)
		}
	}
	for _, want := range []string{`"zendeskblocks"`, `"test bench"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the resource has no %s", want)
		}
	}
	by := map[string]*tracev1.Span{}
	for _, span := range spans {
		by[span.GetName()] = span
		if fmt.Sprintf("%x", span.GetTraceId()) != callersTrace {
			continue
		}
		if span.GetKind() == tracev1.Span_SPAN_KIND_SERVER && fmt.Sprintf("%x", span.GetParentSpanId()) != callersSpan {
			t.Errorf("%s has the parent %x", span.GetName(), span.GetParentSpanId())
		}
	}
	invoked := by["scenarioblocks.zendesk.v1.BlockService/InvokeApi"]
	if fmt.Sprintf("%x", invoked.GetTraceId()) != callersTrace {
		t.Fatalf("the spans are %s", text)
	}
	var below *tracev1.Span
	for _, span := range spans {
		if string(span.GetParentSpanId()) == string(invoked.GetSpanId()) {
			below = span
		}
	}
	got := attributesOf(below)
	for key, want := range map[string]string{
		"http.request.method": "GET", "http.response.status_code": "422", "zendeskblocks.attempt": "1", "zendeskblocks.zendesk_request_id": "zendesk-4711",
	} {
		if got[key] != want {
			t.Errorf("of the request %s is %q, want %q", key, got[key], want)
		}
	}
	if name := below.GetName(); !strings.HasPrefix(name, "zendesk ") || name == "zendesk " {
		t.Errorf("the request's span is named %q", name)
	}
	if f := created.GetFailure(); f.GetTraceId() != callersTrace || f.GetZendeskRequestId() != "zendesk-4711" {
		t.Errorf("the failure is %v", f)
	}
	if line := s.process().stderr.String(); !strings.Contains(line, "trace_id="+callersTrace) {
		t.Error("the log does not name the trace")
	}
	if told := zendesk.told(); len(told) != 0 {
		t.Errorf("Zendesk was told %q", told)
	}
}

// overheard stands before a Zendesk, and hears what headers it is sent that are about traces.
type overheard struct {
	origin string

	mu      sync.Mutex
	headers []string
	asked   int
}

func overhear(t *testing.T, origin string) *overheard {
	t.Helper()
	target, err := url.Parse(origin)
	must(t, err)
	o := &overheard{}
	server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.asked++
		for _, name := range []string{"Traceparent", "Tracestate", "Baggage", "B3", "X-B3-Traceid"} {
			if _, ok := r.In.Header[name]; ok {
				o.headers = append(o.headers, r.In.URL.Path+" "+name)
			}
		}
		r.SetURL(target)
	}})
	t.Cleanup(server.Close)
	o.origin = server.URL
	return o
}

// told returns the headers that it was sent.
func (o *overheard) told() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked == 0 {
		return []string{"nothing at all"}
	}
	return o.headers
}

// A collector that takes connections and says nothing holds up neither calls nor the end, and is told of once.
func TestCollectorThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var held []net.Conn
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			held = append(held, conn)
		}
	}()
	defer func() {
		must(t, l.Close())
		<-accepted
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "1")
	s := startService(t)
	for i := range 200 {
		_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: fmt.Sprint(i), Data: map[string]string{"a": "b"}})
		must(t, err)
	}
	s.stop(t)
	if told := strings.Count(s.process().stderr.String(), "spans were not sent"); told > 1 {
		t.Errorf("it is told %d times", told)
	}
}

// A drain is held up so long at most.
func TestTracingCloses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // which nobody accepts from
	must(t, err)
	defer func() { must(t, l.Close()) }()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	traces, err := openTracing(t.Context(), environment{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + l.Addr().String()}, slog.New(slog.DiscardHandler))
	must(t, err)
	_, span := traces.provider.Tracer("test").Start(t.Context(), "one")
	span.End()
	begun := time.Now()
	traces.close()
	if took := time.Since(begun); took > 3*lastSpansTime {
		t.Errorf("it gave up after %s", took)
	}
}

// Without a collector nothing is installed.
func TestTracesOff(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, env := range []environment{
		nil, {endpoint: ""}, {"OTEL_SERVICE_NAME": "x"}, {endpoint: "http://x:1", "OTEL_SDK_DISABLED": "TRUE"}, {endpoint: "http://x:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		traces, err := openTracing(t.Context(), env, slog.New(slog.DiscardHandler))
		if err != nil || traces != nil || traces.server() != nil || traces.wrap() != nil {
			t.Errorf("%v: %v, %v", env, traces, err)
		}
		traces.close()
		env = env.with("OTEL_TRACES_SAMPLER", "nonsense")
		if problems := traceProblems(env); problems != nil {
			t.Errorf("%v: %v", env, problems)
		}
	}
}

func (e environment) with(name, value string) environment {
	with := environment{name: value}
	for name, value := range e {
		with[name] = value
	}
	return with
}

func TestTraceProblems(t *testing.T) {
	on := environment{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}
	for _, test := range []struct {
		name   string
		fit    []string
		unfit  []string
		secret bool
	}{
		{name: "OTEL_EXPORTER_OTLP_ENDPOINT", fit: []string{"http://x:4317", "https://x", "http://[::1]:4317/"}, unfit: []string{"x:4317", "ftp://x", "http://", "http://a:b@x:1", "http://x:1/v1/traces", "http://x:1?y=z", "%"}},
		{name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", fit: []string{"http://x:4317"}, unfit: []string{"localhost:4317"}},
		{name: "OTEL_EXPORTER_OTLP_PROTOCOL", fit: []string{"grpc"}, unfit: []string{"http/protobuf", "http/json", "x"}},
		{name: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", fit: []string{"grpc"}, unfit: []string{"http/protobuf"}},
		{name: "OTEL_TRACES_EXPORTER", fit: []string{"otlp"}, unfit: []string{"zipkin", "otlp,console"}},
		{name: "OTEL_PROPAGATORS", fit: []string{"tracecontext", "tracecontext, baggage"}, unfit: []string{"b3", "tracecontext,b3"}},
		{name: "OTEL_TRACES_SAMPLER", fit: []string{"always_on", "parentbased_traceidratio"}, unfit: []string{"sometimes", "jaeger_remote"}},
		{name: "OTEL_TRACES_SAMPLER_ARG", fit: []string{"0", "0.5", "1"}, unfit: []string{"-1", "1.1", "x", "NaN"}},
		{name: "OTEL_BSP_MAX_QUEUE_SIZE", fit: []string{"1", "4096"}, unfit: []string{"0", "-1", "x", "1.5", "99999999999"}},
		{name: "OTEL_EXPORTER_OTLP_TIMEOUT", fit: []string{"100"}, unfit: []string{"10s", "0"}},
		{name: "OTEL_EXPORTER_OTLP_HEADERS", fit: []string{"a=b", "a=b,c=d%20e"}, unfit: []string{"canary", "=canary", "a=canary%zz"}},
		{name: "OTEL_RESOURCE_ATTRIBUTES", fit: []string{"a=b"}, unfit: []string{"a", "a=b,"}},
		{name: "OTEL_EXPORTER_OTLP_COMPRESSION", fit: []string{"gzip", "none"}, unfit: []string{"zstd"}},
		{name: "OTEL_EXPORTER_OTLP_INSECURE", fit: []string{"true", "FALSE"}, unfit: []string{"yes"}},
		{name: "OTEL_EXPORTER_OTLP_CERTIFICATE", unfit: []string{"/none/there", "/dev/null"}},
		{name: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", unfit: []string{"/none/there"}},
		{name: "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", unfit: []string{"/none/there"}},
		{name: "OTEL_SDK_DISABLED", fit: []string{"false", "true"}, unfit: []string{"perhaps"}},
	} {
		for _, value := range test.fit {
			if problems := traceProblems(on.with(test.name, value)); problems != nil {
				t.Errorf("%s=%s: %v", test.name, value, problems)
			}
		}
		for _, value := range test.unfit {
			env := on.with(test.name, value)
			if test.name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
				env = environment{test.name: value}
			}
			problems := traceProblems(env)
			if len(problems) != 1 || !strings.Contains(problems[0].Error(), test.name) || strings.Contains(problems[0].Error(), "canary") {
				t.Errorf("%s=%s: %v", test.name, value, problems)
			}
		}
	}
	_, _, err := runCommand(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "nowhere", "OTEL_BSP_SCHEDULE_DELAY": "soon"}, "serve", "--timeout", "0s")
	for _, want := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_BSP_SCHEDULE_DELAY", "--timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not among %v", want, err)
		}
	}
}

func TestTraceFaultsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := newOutput()
		f := &traceFaults{log: slog.New(slog.NewJSONHandler(written, nil))}
		for range 600 {
			f.Handle(io.EOF)
			time.Sleep(time.Second)
		}
		var faults []float64
		for line := range strings.Lines(written.String()) {
			var said struct{ Faults float64 }
			must(t, json.Unmarshal([]byte(line), &said))
			faults = append(faults, said.Faults)
		}
		if want := append([]float64{1}, slices.Repeat([]float64{60}, 9)...); !slices.Equal(faults, want) {
			t.Errorf("it is told %v times, want %v", faults, want)
		}
	})
}
