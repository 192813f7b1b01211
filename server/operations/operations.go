// Package operations implements OperationsService: who the caller is, what is asked of a tenant as a whole, erasing what is stored about a person,
// and what operators do with all tenants: list them, and back all data up.
package operations

import (
	"context"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/people"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Config is what the service depends on. All but Version is required.
type Config struct {
	Store    *store.Store
	People   *people.Directory
	Audit    *audit.Log
	Version  string          // of the program, which backups name
	BackedUp func(time.Time) // is told when a complete backup was sent
	Now      func() time.Time
}

// Service implements OperationsService.
type Service struct {
	zendeskv1.UnimplementedOperationsServiceServer
	store    *store.Store
	people   *people.Directory
	audit    *audit.Log
	version  string
	backedUp func(time.Time)
	now      func() time.Time
}

// New makes the service.
func New(c Config) *Service {
	return &Service{store: c.Store, people: c.People, audit: c.Audit, version: c.Version, backedUp: c.BackedUp, now: c.Now}
}

// GetCaller implements OperationsService.
func (s *Service) GetCaller(ctx context.Context, _ *zendeskv1.GetCallerRequest) (*zendeskv1.GetCallerResponse, error) {
	caller, _ := rpc.Caller(ctx)
	resp := &zendeskv1.GetCallerResponse{
		Name: caller.Name, Tenant: caller.Tenant, Agent: caller.Agent, Credential: caller.Credential, ExpireTime: rpc.TimeToProto(caller.Expires),
	}
	for _, role := range caller.Roles {
		resp.Roles = append(resp.Roles, string(role))
	}
	return resp, nil
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
