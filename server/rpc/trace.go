package rpc

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// TraceID is the id of the trace that the call belongs to, 32 lower-case hexadecimal digits; empty: to none.
func TraceID(ctx context.Context) string {
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		return span.TraceID().String()
	}
	return ""
}

// Traced has a failure that the call tells name the call's trace. What was kept of an earlier call's failure names this one's
// too: it is where it was told.
func Traced(ctx context.Context, f *zendeskv1.Failure) {
	if f != nil {
		f.TraceId = TraceID(ctx)
	}
}
