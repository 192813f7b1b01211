package server

import (
	"context"
	"log/slog"
	"time"
)

// auditLog notes who changed what, when: an append-only stream of its own, for those who have to answer for it. Nothing
// secret is in it, and of what an update changed only the names of the fields.
type auditLog struct {
	to  *slog.Logger // nil: nobody keeps it
	log *slog.Logger // told of what could not be noted
}

// note writes one event, such as "account created", of the call that ctx belongs to. The change stands, whether it could
// be noted or not.
func (a auditLog) note(ctx context.Context, event string, attrs ...slog.Attr) {
	if a.to == nil {
		return
	}
	caller := callerOf(ctx)
	record := slog.NewRecord(time.Now(), slog.LevelInfo, event, 0)
	record.AddAttrs(slog.String("tenant", caller.Tenant), slog.String("caller", caller.Name), slog.String("credential", caller.Credential))
	record.AddAttrs(attrs...)
	// The handler itself: a logger keeps its errors to itself.
	if err := a.to.Handler().Handle(ctx, record); err != nil {
		a.log.ErrorContext(ctx, "change could not be noted in the audit", "event", event, "error", err)
	}
}
