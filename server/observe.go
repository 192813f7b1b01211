package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// ObserveZendesk is told of requests to Zendesk, for the metrics, and at debug for the log: what was asked and what came back,
// without the query, bodies and headers. Paths may hold ids.
func ObserveZendesk(m *metrics.Metrics, log *slog.Logger) zendeskapi.Observer {
	return zendeskLog{m.Zendesk(), slog.New(quiet{log.Handler()})} // which adds the trace
}

type zendeskLog struct {
	zendeskapi.Observer
	log *slog.Logger
}

// Sent implements [zendeskapi.Observer].
func (l zendeskLog) Sent(ctx context.Context, r zendeskapi.SentRequest) {
	l.Observer.Sent(ctx, r)
	if !l.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 8),
		slog.String("endpoint", r.Endpoint), slog.String("method", r.Method), slog.String("path", r.Path),
		slog.Int("http_status", r.Status), slog.Int("attempt", r.Attempt), slog.Duration("duration", r.Duration))
	if r.Kind != "" {
		attrs = append(attrs, slog.String("kind", string(r.Kind)))
	}
	if r.RequestID != "" {
		attrs = append(attrs, slog.String("zendesk_request_id", r.RequestID))
	}
	l.log.LogAttrs(ctx, slog.LevelDebug, "asked Zendesk", attrs...)
}

var blockPrefix = "/" + zendeskv1.BlockService_ServiceDesc.ServiceName + "/"

// countFinished counts how a call ended, and the block that it was, by what the log says of it.
func countFinished(m *metrics.Metrics, fullMethod string, fields []slog.Attr, err error) {
	if reason := rpc.ReasonOf(err); reason != "" {
		m.Failed(reason)
	}
	if err != nil && rpc.Panicked(err) {
		m.Panicked(false)
	}
	block, ok := strings.CutPrefix(fullMethod, blockPrefix)
	if !ok {
		return
	}
	var exit, reason, tenant, account string
	for i := range fields {
		var to *string
		switch fields[i].Key {
		case "exit":
			to = &exit
		case "reason":
			to = &reason
		case "tenant":
			to = &tenant
		case "account_id":
			to = &account
		default:
			continue
		}
		*to = fields[i].Value.String()
	}
	if exit != "" {
		m.Block(block, exit, reason, tenant, account)
	}
}

// sources are what metrics ask when they are scraped.
func (s *Server) sources(c *Config) metrics.Sources {
	return metrics.Sources{
		Zendesks: c.Transport.Zendesks,
		Lookups: func() []metrics.Lookups {
			fieldHits, fieldMisses := s.writer.FieldLookups()
			agentHits, agentMisses := s.interactions.AgentLookups()
			return []metrics.Lookups{{Cache: "ticket_fields", Hits: fieldHits, Misses: fieldMisses}, {Cache: "agents", Hits: agentHits, Misses: agentMisses}}
		},
		Connections: func() int {
			if open := s.connections.Load(); open != nil {
				return countOpen(*open)
			}
			return 0
		},
		AuditPending: s.audit.Pending,
		File: func() (store.FileStats, bool) {
			stats, ok, err := s.store.FileStats()
			return stats, ok && err == nil
		},
		Writable: func() bool { return !s.unwritable.Load() && s.store.Err() == nil },
		Database: func() (int64, bool) {
			bytes := s.databaseBytes.Load()
			return bytes, bytes > 0
		},
		Replicas: func() (claims, replicas int, ok bool) {
			return s.store.Claimed(), len(s.store.Replicas()), s.store.Shared()
		},
		CertificateEnd: c.Auth.CertificateEnd,
	}
}

// observed is what only metrics want to know of a Server.
type observed struct {
	metrics     *metrics.Metrics
	connections atomic.Pointer[[]*connections] // of the listener, and of Dial
	unwritable  atomic.Bool

	databaseBytes atomic.Int64 // as of the last survey
}

const (
	// A survey begins surveyEvery after the last one, or when that took longer than a part of the time since, one in surveyShare.
	surveyEvery, surveyShare = 5 * time.Second, 50
	// surveyAccounts are read at a time.
	surveyAccounts = 200
)

// survey looks at all tenants now and then, for the metrics: what there is, and how accounts get on.
func (s *Server) survey(ctx context.Context) {
	failing := false
	for {
		begun := time.Now()
		found, err := s.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			s.metrics.Surveyed(found)
		case !failing && s.store.Err() == nil:
			s.log.Error("what tenants have could not be looked at for the metrics; it is tried again", "error", err)
		}
		failing = err != nil
		timer := time.NewTimer(max(surveyEvery, surveyShare*time.Since(begun)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (s *Server) look(ctx context.Context) (*metrics.Survey, error) {
	found := new(metrics.Survey)
	if stats, ok, err := s.store.DatabaseStats(ctx); ok && err == nil {
		s.databaseBytes.Store(stats.DatabaseBytes)
	}
	tenants, err := s.store.Tenants(ctx)
	for i := 0; err == nil && i < len(tenants); i++ {
		if err = s.lookAt(ctx, tenants[i], found); errors.Is(err, store.ErrDamaged) {
			err = nil // whoever needs it tells of it; the others are looked at
		}
	}
	return found, err
}

// lookAt adds a tenant to a survey.
func (s *Server) lookAt(ctx context.Context, tenant string, found *metrics.Survey) error {
	totals, err := s.store.ActivityTotals(ctx, tenant)
	if err != nil {
		return err
	}
	found.Pending, found.Dead = found.Pending+totals.Pending, found.Dead+totals.Dead
	if at := totals.OldestPending; !at.IsZero() && (found.OldestPending.IsZero() || at.Before(found.OldestPending)) {
		found.OldestPending = at
	}
	used, _, err := s.store.Usage(ctx, tenant)
	if err != nil {
		return err
	}
	quota := s.store.Quota()
	for _, of := range []struct {
		name        string
		used, quota int64
	}{
		{"accounts", used.Accounts, quota.Accounts},
		{"live_interactions", used.LiveInteractions, quota.LiveInteractions},
		{"pending_activities", used.PendingActivities, quota.PendingActivities},
		{"dead_activities", used.DeadActivities, quota.DeadActivities},
		{"stored_bytes", used.StoredBytes, quota.StoredBytes},
	} {
		if of.quota > 0 {
			found.Quotas = append(found.Quotas, metrics.Quota{Tenant: tenant, Quota: of.name, Used: float64(of.used) / float64(of.quota)})
		}
	}
	for after, more := "", true; more; {
		var accounts []store.Account
		if accounts, more, err = s.store.ListAccounts(ctx, tenant, after, surveyAccounts); err != nil {
			return err
		}
		ids := make([]string, len(accounts))
		for i := range accounts {
			ids[i] = accounts[i].ID
		}
		activities, err := s.store.AccountActivities(ctx, tenant, ids...)
		if err != nil {
			return err
		}
		for i, a := range accounts {
			after = a.ID
			health := s.credentials.Health(tenant, a)
			heldBy := s.writer.HeldHere(credentials.Key{Tenant: tenant, Incarnation: a.Incarnation})
			end, renews := credentials.End(a, s.now())
			found.Accounts = append(found.Accounts, metrics.Account{
				Tenant: tenant, ID: a.ID, State: health.Condition(heldBy).String(), OldestPending: activities[i].OldestPending,
				CredentialEnd: end, CredentialRenews: renews,
			})
		}
	}
	return nil
}
