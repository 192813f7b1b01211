package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// callLog writes a line for each call when it ends, without payloads. Health checks are left out: they come every few seconds
// and say nothing.
type callLog struct {
	log     *slog.Logger
	metrics *metrics.Metrics // are told too
}

func (l callLog) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if strings.HasPrefix(info.FullMethod, healthPrefix) {
		return handler(ctx, req)
	}
	ctx, fields := rpc.WithFields(inTrace(ctx))
	start := time.Now()
	resp, err := handler(ctx, req)
	l.finished(ctx, info.FullMethod, start, fields, err)
	return resp, err
}

func (l callLog) stream(stream grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	if strings.HasPrefix(info.FullMethod, healthPrefix) {
		return stream, nil, nil
	}
	ctx, fields := rpc.WithFields(inTrace(stream.Context()))
	start := time.Now()
	return &streamWithin{stream, ctx}, func(err error) error {
		l.finished(ctx, info.FullMethod, start, fields, err)
		return err
	}, nil
}

// streamWithin is a stream whose context is another.
type streamWithin struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *streamWithin) Context() context.Context { return s.ctx }

//nolint:sloglint // what is gRPC's has names with dots, as its own libraries give it
func (l callLog) finished(ctx context.Context, fullMethod string, start time.Time, fields *rpc.Fields, err error) {
	added := fields.All()
	countFinished(l.metrics, fullMethod, added, err)
	noteOnSpan(ctx, added)
	code, level := rpc.Outcome(err)
	level = max(level, failureLevel(added))
	if !l.log.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, len(added)+8), added...)
	service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	attrs = append(attrs, slog.String("grpc.service", service), slog.String("grpc.method", method))
	if p, ok := peer.FromContext(ctx); ok {
		attrs = append(attrs, slog.String("peer.address", p.Addr.String()))
	}
	if deadline, ok := ctx.Deadline(); ok {
		attrs = append(attrs, slog.Duration("grpc.request.timeout", deadline.Sub(start)))
	}
	attrs = append(attrs, slog.String("grpc.code", code))
	if err != nil {
		attrs = append(attrs, slog.String("grpc.error", err.Error()))
	}
	l.log.LogAttrs(ctx, level, "finished call", append(attrs, slog.Duration("grpc.duration", time.Since(start)))...)
}

// failureLevel is how loud the failure of a block is, by its reason.
func failureLevel(fields []slog.Attr) slog.Level {
	for _, field := range fields {
		if field.Key == "reason" && rpc.ConcernsOperators(store.FailureReason(field.Value.String())) {
			return slog.LevelWarn
		}
	}
	return slog.LevelInfo
}

// quiet leaves out what is told of a store that has failed: whoever uses it meets that, and the process ends by telling it
// once. To what is told in a call that belongs to a trace it adds the trace.
type quiet struct{ slog.Handler }

// Handle implements slog.Handler.
func (h quiet) Handle(ctx context.Context, r slog.Record) error {
	failed := false
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindAny {
			err, ok := a.Value.Any().(error)
			failed = ok && errors.Is(err, store.ErrFailed)
		}
		return !failed
	})
	if failed {
		return nil
	}
	if id := rpc.TraceID(ctx); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h quiet) WithGroup(name string) slog.Handler { return quiet{h.Handler.WithGroup(name)} }
