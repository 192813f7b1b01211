// Package operations implements OperationsService: what operators ask of a tenant as a whole.
package operations

import (
	"context"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Service implements OperationsService.
type Service struct {
	zendeskv1.UnimplementedOperationsServiceServer
	store *store.Store
}

// New makes the service.
func New(st *store.Store) *Service { return &Service{store: st} }

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
