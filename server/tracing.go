package server

import (
	"context"
	"log/slog"
	"slices"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// Tracing says where spans of calls go. A call belongs to the trace that its caller names (W3C Trace Context).
type Tracing struct {
	Provider trace.TracerProvider // required
}

// option has gRPC make a span of each call of ours. Of what strangers may call, and of names that nobody has, it makes none.
func (t *Tracing) option() grpc.ServerOption {
	if t == nil {
		return grpc.EmptyServerOption{}
	}
	return grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.Provider),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool {
			_, ours := methodRoles[info.FullMethodName]
			return ours
		}),
	))
}

// inTrace returns a context in which the caller's trace is known, also when calls are not traced here.
func inTrace(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	parent := metadata.ValueFromIncomingContext(ctx, "traceparent")
	if len(parent) == 0 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent[0]})
}

// spanFields are the log's fields of a call that its span has too. Others may be about people, as ids of interactions are that
// are made of telephone numbers.
var spanFields = []string{"tenant", "account_id", "exit", "reason", "http_status", "zendesk_request_id"}

// noteOnSpan adds to the span of a call, if there is one, what its line in the log says.
func noteOnSpan(ctx context.Context, fields []slog.Attr) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	for _, field := range fields {
		if !slices.Contains(spanFields, field.Key) {
			continue
		}
		name := attribute.Key("zendeskblocks." + field.Key)
		if field.Value.Kind() == slog.KindInt64 {
			span.SetAttributes(name.Int64(field.Value.Int64()))
		} else {
			span.SetAttributes(name.String(field.Value.String()))
		}
	}
}
