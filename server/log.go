package server

import (
	"context"
	"errors"
	"log/slog"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"

	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// logTo logs the finish of calls.
func logTo(log *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		log.Log(ctx, max(slog.Level(level), failureLevel(fields)), msg, fields...) //nolint:sloglint // the library's message is a constant
	})
}

// failureLevel is how loud the failure of a block is, by its reason, one of the names and values in fields.
func failureLevel(fields []any) slog.Level {
	for i := 0; i+1 < len(fields); i += 2 {
		if reason, ok := fields[i+1].(string); ok && fields[i] == "reason" && rpc.ConcernsOperators(store.FailureReason(reason)) {
			return slog.LevelWarn
		}
	}
	return slog.LevelInfo
}

// quiet leaves out what is told of a store that has failed: whoever uses it meets that, and the process ends by telling it
// once.
type quiet struct{ slog.Handler }

// Handle implements slog.Handler.
func (h quiet) Handle(ctx context.Context, r slog.Record) error {
	failed := false
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		failed = ok && errors.Is(err, store.ErrFailed)
		return !failed
	})
	if failed {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h quiet) WithGroup(name string) slog.Handler { return quiet{h.Handler.WithGroup(name)} }
