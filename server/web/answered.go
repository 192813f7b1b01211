package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// answered tells of each request that was answered, by its route, which is one of few, whatever is asked for.
func answered(log *slog.Logger, tell func(route string, status int), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun, noted := time.Now(), &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			route := r.Pattern
			if route == "" {
				route = "none"
			}
			tell(route, noted.status)
			log.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelDebug, "answered a browser", slog.String("route", route),
				slog.Int("status", noted.status), slog.Duration("duration", time.Since(begun)), slog.String("peer_address", r.RemoteAddr))
		}()
		next.ServeHTTP(noted, r)
	})
}

// statusWriter notes which status was written.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Flush implements http.Flusher.
func (w *statusWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() } // who has gone is told nothing

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
