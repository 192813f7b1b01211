// Package audit notes who changed what, when: an append-only stream of its own, for those who have to answer for it. It
// hides where and how that is written. Nothing secret is in it, and of what an update changed only the names of the fields.
package audit

import (
	"context"
	"log/slog"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
)

// Service is the caller of what this service does for a tenant by itself.
func Service(tenant string) auth.Caller {
	return auth.Caller{Tenant: tenant, Name: "zendeskblocks", Credential: "none"}
}

// Log is the stream. It is safe for concurrent use.
type Log struct {
	to  *slog.Logger
	log *slog.Logger
}

// New returns the stream that is written to to; nil: nobody keeps it. log is told of what could not be noted.
func New(to, log *slog.Logger) *Log { return &Log{to, log} }

// Note writes one event, such as "account created". The change stands, whether it could be noted or not.
func (l *Log) Note(ctx context.Context, caller auth.Caller, event string, attrs ...slog.Attr) {
	if l.to == nil {
		return
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, event, 0)
	record.AddAttrs(slog.String("tenant", caller.Tenant), slog.String("caller", caller.Name), slog.String("credential", caller.Credential))
	record.AddAttrs(attrs...)
	// The handler itself: a logger keeps its errors to itself.
	if err := l.to.Handler().Handle(ctx, record); err != nil {
		l.log.ErrorContext(ctx, "change could not be noted in the audit", "event", event, "error", err)
	}
}
