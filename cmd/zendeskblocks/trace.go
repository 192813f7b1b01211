package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/scenarioblocks/zendeskblocks/server"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	// lastSpansTime is how long, after a drain, the collector has to take the last spans.
	lastSpansTime = 3 * time.Second
	// traceFaultEvery is how often at most it is told that spans cannot be sent.
	traceFaultEvery = time.Minute
)

// tracing sends spans of calls, and of the requests to Zendesk within them, to a collector. It never holds up a call: what the
// collector does not take is dropped. A nil one does nothing.
type tracing struct{ provider *sdktrace.TracerProvider }

// tracesOn says whether the environment asks for traces.
func tracesOn(env environment) bool {
	endpoint := env["OTEL_EXPORTER_OTLP_ENDPOINT"] != "" || env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] != ""
	return endpoint && !strings.EqualFold(env["OTEL_SDK_DISABLED"], "true") && env["OTEL_TRACES_EXPORTER"] != "none"
}

// openTracing begins to trace if the environment asks for it; else it returns nil, and nothing is installed. Variables that
// cannot be read were told before: see traceProblems.
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
func openTracing(ctx context.Context, env environment, log *slog.Logger) (*tracing, error) {
	if !tracesOn(env) {
		return nil, nil
	}
	otel.SetLogger(logr.Discard()) // what its errors do not say, it says to itself
	otel.SetErrorHandler(&traceFaults{log: log})
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	self, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "zendeskblocks"), attribute.String("service.version", version())),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // the last one counts
	)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return &tracing{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&discreetExporter{exporter}),
		sdktrace.WithResource(self),
	)}, nil
}

// close sends the last spans, if that does not take long.
func (t *tracing) close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastSpansTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(fmt.Errorf("the last spans: %w", err))
	}
}

// server is what the server is to trace with; nil: nothing.
func (t *tracing) server() *server.Tracing {
	if t == nil {
		return nil
	}
	return &server.Tracing{Provider: t.provider}
}

// wrap is what makes spans of requests to Zendesk; nil: nothing does. Zendesk is told nothing of it: no header goes there.
func (t *tracing) wrap() func(http.RoundTripper) http.RoundTripper {
	if t == nil {
		return nil
	}
	return func(base http.RoundTripper) http.RoundTripper {
		return otelhttp.NewTransport(zendeskSpans{base},
			otelhttp.WithTracerProvider(t.provider),
			otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()),
			otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
			otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string {
				sent, _ := zendeskapi.SendingOf(r.Context())
				return "zendesk " + sent.Op
			}),
		)
	}
}

// zendeskSpans adds to the span of a request what only Zendesk's client knows.
type zendeskSpans struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (z zendeskSpans) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := z.RoundTripper.RoundTrip(r)
	span := trace.SpanFromContext(r.Context())
	sent, ok := zendeskapi.SendingOf(r.Context())
	if !span.IsRecording() || !ok {
		return res, err
	}
	span.SetAttributes(attribute.String("zendeskblocks.endpoint", sent.Op), attribute.Int("zendeskblocks.attempt", sent.Attempt))
	if err == nil {
		if id := sent.RequestID(res.Header); id != "" {
			span.SetAttributes(attribute.String("zendeskblocks.zendesk_request_id", id))
		}
	}
	return res, err
}

// spanAttributes are what a span may say: nothing that came from people or from Zendesk's answers. Addresses with their queries
// hold telephone numbers, and those of callers are theirs.
var spanAttributes = []attribute.Key{
	"rpc.system", "rpc.system.name", "rpc.service", "rpc.method", "rpc.response.status_code", "rpc.grpc.status_code",
	"http.request.method", "http.response.status_code", "network.protocol.version", "server.address", "server.port", "error.type",
	"zendeskblocks.tenant", "zendeskblocks.account_id", "zendeskblocks.exit", "zendeskblocks.reason", "zendeskblocks.http_status",
	"zendeskblocks.endpoint", "zendeskblocks.attempt", "zendeskblocks.zendesk_request_id",
}

// discreetExporter sends of spans what may be told, whatever libraries put into them.
type discreetExporter struct{ sdktrace.SpanExporter }

// ExportSpans implements [sdktrace.SpanExporter].
func (x *discreetExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	discreet := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, span := range spans {
		discreet[i] = discreetSpan{span}
	}
	return x.SpanExporter.ExportSpans(ctx, discreet)
}

type discreetSpan struct{ sdktrace.ReadOnlySpan }

// Attributes implements [sdktrace.ReadOnlySpan].
func (s discreetSpan) Attributes() []attribute.KeyValue {
	return slices.DeleteFunc(slices.Clone(s.ReadOnlySpan.Attributes()), func(a attribute.KeyValue) bool {
		return !slices.Contains(spanAttributes, a.Key)
	})
}

// SpanContext implements [sdktrace.ReadOnlySpan]. Its state is a text of the caller's.
func (s discreetSpan) SpanContext() trace.SpanContext {
	return s.ReadOnlySpan.SpanContext().WithTraceState(trace.TraceState{})
}

// Parent implements [sdktrace.ReadOnlySpan].
func (s discreetSpan) Parent() trace.SpanContext {
	return s.ReadOnlySpan.Parent().WithTraceState(trace.TraceState{})
}

// Links implements [sdktrace.ReadOnlySpan].
func (discreetSpan) Links() []sdktrace.Link { return nil }

// Status implements [sdktrace.ReadOnlySpan]. Messages of errors may quote what was asked.
func (s discreetSpan) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}

// Events implements [sdktrace.ReadOnlySpan]. Libraries note errors there, with their texts.
func (discreetSpan) Events() []sdktrace.Event { return nil }

// traceFaults tells that spans cannot be sent, now and then.
type traceFaults struct {
	log *slog.Logger

	mu     sync.Mutex
	told   time.Time
	faults int // since then
}

// Handle implements otel.ErrorHandler.
func (f *traceFaults) Handle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults++
	if !f.told.IsZero() && time.Since(f.told) < traceFaultEvery {
		return
	}
	f.log.Warn("spans were not sent to the collector, and are lost; calls go on", "faults", f.faults, "error", err)
	f.told, f.faults = time.Now(), 0
}

// traceProblems says which variables of OpenTelemetry cannot be read, of those that are heeded; none while traces are off.
// Values may be secret, and are not shown.
func traceProblems(env environment) (problems []error) {
	if !tracesOn(env) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(traceVariables)) {
		if value := strings.TrimSpace(env[name]); value != "" {
			if err := traceVariables[name](value); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	for _, of := range []string{"", "TRACES_"} {
		cert, key := env["OTEL_EXPORTER_OTLP_"+of+"CLIENT_CERTIFICATE"], env["OTEL_EXPORTER_OTLP_"+of+"CLIENT_KEY"]
		if cert == "" && key == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			problems = append(problems, fmt.Errorf("OTEL_EXPORTER_OTLP_%[1]sCLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_%[1]sCLIENT_KEY: %w", of, unquoted(err)))
		}
	}
	return problems
}

// traceVariables are the variables that have values which may be unfit.
var traceVariables = func() map[string]func(string) error {
	checks := map[string]func(string) error{
		"OTEL_SDK_DISABLED":        oneOf("true", "false"),
		"OTEL_TRACES_EXPORTER":     oneOf("otlp", "none"),
		"OTEL_PROPAGATORS":         eachOf("tracecontext", "baggage"), // the latter is for others: nothing is done with it
		"OTEL_TRACES_SAMPLER":      oneOf("always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
		"OTEL_TRACES_SAMPLER_ARG":  checkRatio,
		"OTEL_RESOURCE_ATTRIBUTES": checkPairs,
	}
	for _, name := range []string{
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
	} {
		checks[name] = checkPositive
	}
	for _, of := range []string{"", "TRACES_"} {
		of = "OTEL_EXPORTER_OTLP_" + of
		checks[of+"ENDPOINT"] = checkEndpoint
		checks[of+"PROTOCOL"] = oneOf("grpc")
		checks[of+"COMPRESSION"] = oneOf("gzip", "none")
		checks[of+"INSECURE"] = oneOf("true", "false")
		checks[of+"TIMEOUT"] = checkPositive
		checks[of+"HEADERS"] = checkPairs
		checks[of+"CERTIFICATE"] = checkCertificates
	}
	return checks
}()

func oneOf(words ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(words, strings.ToLower(value)) {
			return fmt.Errorf("must be %s", strings.Join(words, " or "))
		}
		return nil
	}
}

func eachOf(words ...string) func(string) error {
	one := oneOf(words...)
	return func(value string) error {
		for word := range strings.SplitSeq(value, ",") {
			if err := one(strings.TrimSpace(word)); err != nil {
				return err
			}
		}
		return nil
	}
}

func checkRatio(value string) error {
	if ratio, err := strconv.ParseFloat(value, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
		return errors.New("must be a number from 0 to 1")
	}
	return nil
}

func checkPositive(value string) error {
	if n, err := strconv.Atoi(value); err != nil || n <= 0 || n > 1<<31-1 {
		return errors.New("must be a whole number, more than 0; times are in milliseconds")
	}
	return nil
}

func checkPairs(value string) error {
	for pair := range strings.SplitSeq(value, ",") {
		name, text, ok := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(text); !ok || strings.TrimSpace(name) == "" || err != nil {
			return errors.New("must be NAME=VALUE, several divided by commas, values percent-encoded")
		}
	}
	return nil
}

func checkEndpoint(value string) error {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return errors.New("must be http://HOST:PORT, or https, of a collector that speaks OTLP over gRPC")
	}
	return nil
}

func checkCertificates(name string) error {
	text, err := os.ReadFile(name)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
		err = errors.New("the file has no certificate in PEM")
	}
	return unquoted(err)
}

// unquoted is an error without the name of a file: who mistook the variable may have put a key there.
func unquoted(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("the file cannot be read: %w", failed.Err)
	}
	return err
}
