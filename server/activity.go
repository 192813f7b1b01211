package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// maxListBytes is how large a page of activities may be.
const maxListBytes = 3 << 20

var activityStates = map[store.ActivityState]zendeskv1.ActivityState{
	store.ActivityPending:   zendeskv1.ActivityState_ACTIVITY_STATE_PENDING,
	store.ActivityWritten:   zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN,
	store.ActivitySkipped:   zendeskv1.ActivityState_ACTIVITY_STATE_SKIPPED,
	store.ActivityDead:      zendeskv1.ActivityState_ACTIVITY_STATE_DEAD,
	store.ActivityDiscarded: zendeskv1.ActivityState_ACTIVITY_STATE_DISCARDED,
}

// GetActivity implements InteractionService.
func (s *interactionService) GetActivity(ctx context.Context, req *zendeskv1.GetActivityRequest) (*zendeskv1.GetActivityResponse, error) {
	var v violations
	v.token("activity_id", req.GetActivityId(), true)
	if err := v.err(); err != nil {
		return nil, err
	}
	activity, err := s.store.Activity(ctx, tenantOf(ctx), req.GetActivityId())
	if err != nil {
		return nil, activityError(err, req.GetActivityId())
	}
	converted, err := s.activityToProto(tenantOf(ctx), &activity)
	return &zendeskv1.GetActivityResponse{Activity: converted}, err
}

// ListActivities implements InteractionService.
func (s *interactionService) ListActivities(ctx context.Context, req *zendeskv1.ListActivitiesRequest) (*zendeskv1.ListActivitiesResponse, error) {
	var v violations
	limit := v.pageSize(req.GetPageSize())
	after := v.pageToken(req.GetPageToken())
	v.enum("state", req.GetState())
	v.enum("failure_reason", req.GetFailureReason())
	if err := v.err(); err != nil {
		return nil, err
	}
	tenant := tenantOf(ctx)
	page, next, err := s.store.ListActivities(ctx, tenant, after, limit, func(a *store.Activity) bool {
		return matches(a, req.GetAccountId(), req.GetFailureReason()) &&
			(req.GetState() == zendeskv1.ActivityState_ACTIVITY_STATE_UNSPECIFIED || activityStates[a.State] == req.GetState())
	})
	if err != nil {
		return nil, err
	}
	resp := &zendeskv1.ListActivitiesResponse{}
	if next != "" {
		resp.NextPageToken = pageToken(next)
	}
	size := 0
	for i := range page {
		converted, err := s.activityToProto(tenant, &page[i])
		if err != nil {
			return nil, err
		}
		// Clients take 4 MiB, and one activity may have a third of one.
		if size += proto.Size(converted); size > maxListBytes && i > 0 {
			resp.NextPageToken = pageToken(page[i-1].ID)
			break
		}
		resp.Activities = append(resp.Activities, converted)
	}
	return resp, nil
}

// matches says whether an activity is of an account and failed for a reason; empty and unspecified match all.
func matches(a *store.Activity, accountID string, reason zendeskv1.FailureReason) bool {
	return (accountID == "" || a.Account.AccountID == accountID) &&
		(reason == zendeskv1.FailureReason_FAILURE_REASON_UNSPECIFIED || a.FailureReason == int32(reason))
}

// RetryActivity implements InteractionService.
func (s *interactionService) RetryActivity(ctx context.Context, req *zendeskv1.RetryActivityRequest) (*zendeskv1.RetryActivityResponse, error) {
	var v violations
	v.token("activity_id", req.GetActivityId(), true)
	v.zendeskID("ticket_id", req.GetTicketId())
	if err := v.err(); err != nil {
		return nil, err
	}
	converted, err := s.revive(ctx, req.GetActivityId(), req.GetTicketId())
	return &zendeskv1.RetryActivityResponse{Activity: converted}, err
}

// RetryActivities implements InteractionService.
func (s *interactionService) RetryActivities(ctx context.Context, req *zendeskv1.RetryActivitiesRequest) (*zendeskv1.RetryActivitiesResponse, error) {
	var v violations
	v.enum("failure_reason", req.GetFailureReason())
	if err := v.err(); err != nil {
		return nil, err
	}
	resp, after := &zendeskv1.RetryActivitiesResponse{}, ""
	for {
		page, next, err := s.store.ListActivities(ctx, tenantOf(ctx), after, maxPageSize, func(a *store.Activity) bool {
			return a.State == store.ActivityDead && matches(a, req.GetAccountId(), req.GetFailureReason())
		})
		if err != nil {
			return nil, err
		}
		for _, a := range page {
			_, err := s.revive(ctx, a.ID, "")
			if _, ok := errors.AsType[*publicError](err); ok {
				continue // someone else was faster, or there is no account to try it with
			}
			if err != nil {
				return nil, err
			}
			resp.Count++
		}
		if after = next; after == "" {
			return resp, nil
		}
	}
}

// revive makes a DEAD activity PENDING.
func (s *interactionService) revive(ctx context.Context, id, ticket string) (*zendeskv1.Activity, error) {
	tenant := tenantOf(ctx)
	before, err := s.store.Activity(ctx, tenant, id)
	if err != nil {
		return nil, activityError(err, id)
	}
	account, err := s.accountForRetry(ctx, tenant, before.Account)
	if err != nil {
		return nil, err
	}
	activity, err := s.decide(ctx, id, func(a *store.Activity) error {
		if account.AccountID == "" {
			return &publicError{
				reason:   zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND,
				message:  "the activity's account does not exist, or it had none and none is marked as default",
				metadata: map[string]string{"activity_id": id},
			}
		}
		a.Account = account
		a.State, a.NextAttempt = store.ActivityPending, time.Time{}
		if ticket != "" && ticket != a.TicketID {
			a.TicketID, a.TicketRule, a.FollowUpOf = ticket, int32(zendeskv1.TicketRule_TICKET_RULE_REQUESTED), ""
			// Nothing was ever begun on that ticket.
			a.Begun = false
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.writer.add(tenant, activity)
	s.audit.note(ctx, "activity retried", slog.String("activity_id", id), slog.String("ticket_id", activity.TicketID))
	return s.activityToProto(tenant, &activity)
}

// accountForRetry returns the account that a DEAD activity is to be written with: its own; one that was made since under the
// same id, for the same Zendesk; or the default, if it had none. Zero if there is none of these.
func (s *interactionService) accountForRetry(ctx context.Context, tenant string, use store.AccountUse) (store.AccountUse, error) {
	if use.AccountID == "" {
		byDefault, err := s.store.DefaultAccount(ctx, tenant)
		if errors.Is(err, store.ErrNotFound) {
			return store.AccountUse{}, nil
		}
		return useOf(byDefault, store.Default), err
	}
	account, err := s.store.Account(ctx, tenant, use.AccountID)
	if errors.Is(err, store.ErrNotFound) || err == nil && account.URL != use.URL {
		return store.AccountUse{}, nil
	}
	return useOf(account, use.Selection), err
}

// DiscardActivity implements InteractionService.
func (s *interactionService) DiscardActivity(ctx context.Context, req *zendeskv1.DiscardActivityRequest) (*zendeskv1.DiscardActivityResponse, error) {
	var v violations
	v.token("activity_id", req.GetActivityId(), true)
	if err := v.err(); err != nil {
		return nil, err
	}
	activity, err := s.decide(ctx, req.GetActivityId(), func(a *store.Activity) error {
		a.State = store.ActivityDiscarded
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.audit.note(ctx, "activity discarded", slog.String("activity_id", req.GetActivityId()))
	converted, err := s.activityToProto(tenantOf(ctx), &activity)
	return &zendeskv1.DiscardActivityResponse{Activity: converted}, err
}

// decide changes a DEAD activity.
func (s *interactionService) decide(ctx context.Context, id string, change func(*store.Activity) error) (store.Activity, error) {
	activity, err := s.store.UpdateActivity(ctx, tenantOf(ctx), id, func(a *store.Activity) error {
		if a.State != store.ActivityDead {
			state := activityStates[a.State].String()
			return &publicError{
				reason:   zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_DEAD,
				message:  fmt.Sprintf("activity %q is %s, and only DEAD ones can be retried or discarded", id, state),
				metadata: map[string]string{"activity_id": id, "state": state},
			}
		}
		return change(a)
	})
	return activity, activityError(err, id)
}

func activityError(err error, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return &publicError{
			reason:   zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND,
			message:  fmt.Sprintf("activity %q does not exist", id),
			metadata: map[string]string{"activity_id": id},
		}
	}
	return err
}

// activityToProto words an activity, with what holds it up at the moment.
func (s *interactionService) activityToProto(tenant string, a *store.Activity) (*zendeskv1.Activity, error) {
	activity := &zendeskv1.Activity{
		ActivityId: a.ID, InteractionId: a.InteractionID, AttachedData: a.AttachedData,
		TicketId: a.TicketID, TicketRule: zendeskv1.TicketRule(a.TicketRule), State: activityStates[a.State],
		Attempts: int32(a.Attempts), AuditId: a.AuditID, CreateTime: timestamppb.New(a.CreateTime),
		Details: new(zendeskv1.ActivityDetails),
	}
	if err := proto.Unmarshal(a.Details, activity.Details); err != nil {
		return nil, fmt.Errorf("reading the details of an activity: %w", err)
	}
	if a.Account.AccountID != "" {
		activity.Account = accountUseToProto(a.Account)
	}
	if a.FailureReason != 0 {
		activity.Failure = new(zendeskv1.Failure)
		if err := proto.Unmarshal(a.Failure, activity.Failure); err != nil {
			return nil, fmt.Errorf("reading the failure of an activity: %w", err)
		}
	}
	for _, rejected := range a.Rejected {
		activity.RejectedFields = append(activity.RejectedFields, &zendeskv1.RejectedField{Key: rejected.Key, Reason: rejected.Reason})
	}
	if !a.WriteTime.IsZero() {
		activity.WriteTime = timestamppb.New(a.WriteTime)
	}
	if a.State == store.ActivityPending {
		reason, until := s.writer.hold(tenant, a)
		activity.BlockedBy = reason
		if !until.IsZero() {
			activity.NextAttemptTime = timestamppb.New(until)
		}
	}
	return activity, nil
}
