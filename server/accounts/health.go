package accounts

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/writer"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// seen converts an account for who looks at it: with its health, but for what countActivities adds. It reads nothing.
func (s *Service) seen(ctx context.Context, account store.Account) *zendeskv1.Account {
	tenant := rpc.Tenant(ctx)
	converted := accountToProto(account, s.now())
	converted.Health = healthToProto(s.credentials.Health(tenant, account),
		s.writer.Backlog(credentials.Key{Tenant: tenant, Incarnation: account.Incarnation}))
	return converted
}

// countActivities adds to the health of accounts what the store knows of their activities.
func (s *Service) countActivities(ctx context.Context, accounts ...*zendeskv1.Account) error {
	ids := make([]string, len(accounts))
	for i, a := range accounts {
		ids[i] = a.GetAccountId()
	}
	all, err := s.store.AccountActivities(ctx, rpc.Tenant(ctx), ids...)
	if err != nil {
		return err
	}
	for i, a := range accounts {
		found, health := all[i], a.GetHealth()
		health.DeadActivities = int64(found.Dead)
		if !found.OldestPending.IsZero() {
			health.OldestPendingTime = timestamppb.New(found.OldestPending)
		}
		if found.Pending < store.MaxPendingCounted {
			health.PendingActivities = 0 // the writer may not have heard yet of all, or of what has become of some
		}
		health.PendingActivities = max(health.PendingActivities, int64(found.Pending))
	}
	return nil
}

// healthToProto converts what is known of an account's health, and of its activities that wait.
func healthToProto(known credentials.Health, backlog writer.Backlog) *zendeskv1.AccountHealth {
	health := &zendeskv1.AccountHealth{
		State:             healthStates[known.Condition(backlog.HeldBy)],
		LimitPerMinute:    int32(known.Limits.PerMinute),
		LimitRemaining:    int32(known.Limits.Remaining),
		LastFailure:       rpc.FailureToProto(known.LastFailure),
		PendingActivities: int64(backlog.Pending),
		FailingEndpoints:  known.Failing,
	}
	if at := known.Limits.LimitedUntil; !at.IsZero() {
		health.LimitedUntil = timestamppb.New(at)
	}
	if at := known.LastSuccess; !at.IsZero() {
		health.LastSuccessTime = timestamppb.New(at)
	}
	if known.LastFailure != nil {
		health.LastFailureTime = timestamppb.New(known.LastFailureTime)
	}
	return health
}

// healthStates are what the API calls conditions.
var healthStates = map[credentials.Condition]zendeskv1.HealthState{
	credentials.ConditionUnknown:            zendeskv1.HealthState_HEALTH_STATE_UNKNOWN,
	credentials.ConditionHealthy:            zendeskv1.HealthState_HEALTH_STATE_HEALTHY,
	credentials.ConditionLimited:            zendeskv1.HealthState_HEALTH_STATE_LIMITED,
	credentials.ConditionFailing:            zendeskv1.HealthState_HEALTH_STATE_FAILING,
	credentials.ConditionNeedsAuthorization: zendeskv1.HealthState_HEALTH_STATE_NEEDS_AUTHORIZATION,
}

// isIll tells the states that somebody may have to look at.
func isIll(state zendeskv1.HealthState) bool {
	switch state {
	case zendeskv1.HealthState_HEALTH_STATE_LIMITED, zendeskv1.HealthState_HEALTH_STATE_FAILING, zendeskv1.HealthState_HEALTH_STATE_NEEDS_AUTHORIZATION:
		return true
	}
	return false
}
