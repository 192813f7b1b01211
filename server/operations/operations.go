// Package operations implements OperationsService: what operators ask of a tenant as a whole, and erasing what is stored about a
// person.
package operations

import (
	"context"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Config is what the service depends on. All of it but Forget is required.
type Config struct {
	Store *store.Store
	Audit *audit.Log
	Now   func() time.Time
	// Forget forgets what the look-up of callers remembers of a person of a tenant, and counts it; when dry it only counts. nil:
	// nothing is remembered.
	Forget func(ctx context.Context, tenant string, who Identity, dry bool) (found, forgotten int64, err error)
}

// Service implements OperationsService.
type Service struct {
	zendeskv1.UnimplementedOperationsServiceServer
	store  *store.Store
	audit  *audit.Log
	now    func() time.Time
	forget func(ctx context.Context, tenant string, who Identity, dry bool) (found, forgotten int64, err error)
}

// New makes the service.
func New(c Config) *Service {
	return &Service{store: c.Store, audit: c.Audit, now: c.Now, forget: c.Forget}
}

// GetUsage implements OperationsService.
func (s *Service) GetUsage(ctx context.Context, _ *zendeskv1.GetUsageRequest) (*zendeskv1.GetUsageResponse, error) {
	used, counted, err := s.store.Usage(ctx, rpc.Tenant(ctx))
	if err != nil {
		return nil, err
	}
	return &zendeskv1.GetUsageResponse{
		Usage: usageToProto(used), Quota: usageToProto(s.store.Quota()), CountTime: rpc.TimeToProto(counted),
	}, nil
}

func usageToProto(u store.Usage) *zendeskv1.Usage {
	return &zendeskv1.Usage{
		Accounts: u.Accounts, LiveInteractions: u.LiveInteractions,
		PendingActivities: u.PendingActivities, DeadActivities: u.DeadActivities,
		StoredBytes: u.StoredBytes,
	}
}
