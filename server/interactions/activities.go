package interactions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/writer"
	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

var activityStates = map[store.ActivityState]zendeskv1.ActivityState{
	store.ActivityPending:   zendeskv1.ActivityState_ACTIVITY_STATE_PENDING,
	store.ActivityWritten:   zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN,
	store.ActivitySkipped:   zendeskv1.ActivityState_ACTIVITY_STATE_SKIPPED,
	store.ActivityDead:      zendeskv1.ActivityState_ACTIVITY_STATE_DEAD,
	store.ActivityDiscarded: zendeskv1.ActivityState_ACTIVITY_STATE_DISCARDED,
}

// storedStates is activityStates the other way; none for unspecified.
var storedStates = map[zendeskv1.ActivityState]store.ActivityState{
	zendeskv1.ActivityState_ACTIVITY_STATE_PENDING:   store.ActivityPending,
	zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN:   store.ActivityWritten,
	zendeskv1.ActivityState_ACTIVITY_STATE_SKIPPED:   store.ActivitySkipped,
	zendeskv1.ActivityState_ACTIVITY_STATE_DEAD:      store.ActivityDead,
	zendeskv1.ActivityState_ACTIVITY_STATE_DISCARDED: store.ActivityDiscarded,
}

// GetActivity implements InteractionService.
func (s *Service) GetActivity(ctx context.Context, req *zendeskv1.GetActivityRequest) (*zendeskv1.GetActivityResponse, error) {
	var v rpc.Violations
	v.Token("activity_id", req.GetActivityId(), true)
	if err := v.Err(); err != nil {
		return nil, err
	}
	activity, err := s.store.Activity(ctx, rpc.Tenant(ctx), req.GetActivityId())
	if err != nil {
		return nil, activityError(err, req.GetActivityId())
	}
	return &zendeskv1.GetActivityResponse{Activity: s.activityToProto(rpc.Tenant(ctx), &activity)}, nil
}

// PreviewActivity implements InteractionService.
func (s *Service) PreviewActivity(ctx context.Context, req *zendeskv1.PreviewActivityRequest) (*zendeskv1.PreviewActivityResponse, error) {
	var v rpc.Violations
	v.Token("activity_id", req.GetActivityId(), true)
	if err := v.Err(); err != nil {
		return nil, err
	}
	tenant := rpc.Tenant(ctx)
	activity, err := s.store.Activity(ctx, tenant, req.GetActivityId())
	if err != nil {
		return nil, activityError(err, req.GetActivityId())
	}
	account, err := s.accountForRetry(ctx, tenant, activity.Account)
	if err != nil {
		return nil, err
	}
	asking, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	var preview writer.Preview
	rpc.Aside(asking, func() { preview, err = s.writer.Preview(asking, tenant, &activity, account) })
	if err != nil {
		return nil, err
	}
	if preview.FieldsFailure != nil {
		preview.FieldsFailure.TraceID = rpc.TraceID(ctx)
	}
	return &zendeskv1.PreviewActivityResponse{Preview: previewToProto(&activity, account, &preview)}, nil
}

// previewToProto words what an activity writes. Actions have the numbers of the API's.
func previewToProto(a *store.Activity, account store.AccountUse, p *writer.Preview) *zendeskv1.ActivityPreview {
	if a.State == store.ActivityWritten {
		account = a.Account
	}
	preview := &zendeskv1.ActivityPreview{
		State: activityStates[a.State], Account: rpc.AccountUseToProto(account), TicketAction: zendeskv1.TicketAction(p.Action), TicketId: a.TicketID,
		CommentHtml: p.Content.Comment, RejectedFields: rejectedToProto(p.Content.Rejected), FieldsFailure: rpc.FailureToProto(p.FieldsFailure), Mark: p.Mark,
	}
	if origin := cmp.Or(account.URL, a.Account.URL); a.TicketID != "" && origin != "" {
		preview.TicketUrl = rpc.PageURL(origin, store.RecordTicket, a.TicketID)
	}
	if p.Created != nil {
		preview.CreatedTicket = createdTicketToProto(p.Created)
	}
	for _, filled := range p.Content.Filled {
		preview.CustomFields = append(preview.CustomFields, filledToProto(filled))
	}
	return preview
}

func createdTicketToProto(t *zendeskapi.TicketCreate) *zendeskv1.CreatedTicket {
	created := &zendeskv1.CreatedTicket{Subject: t.Subject, FollowUpOf: t.FollowUpOf}
	switch {
	case t.RequesterID != "":
		created.Requester = &zendeskv1.CreatedTicket_RequesterId{RequesterId: t.RequesterID}
	case t.Requester != nil:
		created.Requester = &zendeskv1.CreatedTicket_RequesterPerson{
			RequesterPerson: &zendeskv1.Requester{Name: t.Requester.Name, Email: t.Requester.Email},
		}
	}
	return created
}

func filledToProto(f compose.Filled) *zendeskv1.FilledField {
	filled := &zendeskv1.FilledField{Key: f.Key}
	if f.Field != nil {
		filled.FieldId, filled.Title, filled.Type = f.Field.ID, f.Field.Title, f.Field.Type
	}
	switch value := f.Value.(type) {
	case nil:
	case []string:
		filled.Values = value
	default:
		filled.Values = []string{fmt.Sprint(value)}
	}
	return filled
}

func rejectedToProto(rejected []store.Rejected) (told []*zendeskv1.RejectedField) {
	for _, r := range rejected {
		told = append(told, &zendeskv1.RejectedField{Key: r.Key, Reason: r.Reason})
	}
	return told
}

// ListActivities implements InteractionService.
func (s *Service) ListActivities(ctx context.Context, req *zendeskv1.ListActivitiesRequest) (*zendeskv1.ListActivitiesResponse, error) {
	var v rpc.Violations
	limit := v.PageSize(req.GetPageSize())
	after := v.PageToken(req.GetPageToken())
	v.Enum("state", req.GetState())
	v.Enum("failure_reason", req.GetFailureReason())
	v.Token("interaction_id", req.GetInteractionId(), false)
	v.Time("since", req.GetSince())
	v.Time("until", req.GetUntil())
	account := s.accountFilter(ctx, &v, req.GetAccountId())
	if err := v.Err(); err != nil {
		return nil, err
	}
	filter := store.ActivityFilter{
		State: storedStates[req.GetState()], AccountID: account, Reason: rpc.ReasonFromProto(req.GetFailureReason()),
		InteractionID: req.GetInteractionId(), Since: rpc.TimeFromProto(req.GetSince()), Until: rpc.TimeFromProto(req.GetUntil()),
		NewestFirst: req.GetNewestFirst(),
	}
	resp, err := s.pageOfActivities(ctx, filter, after, limit)
	if errors.Is(err, store.ErrPagePosition) {
		v.MalformedPageToken()
		return nil, v.Err()
	}
	return resp, err
}

// activitiesAtOnce is how many activities are read at a time: one may have a third of a MiB.
const activitiesAtOnce = 16

// pageOfActivities reads activities from behind a position, as many of them as a message has room for.
func (s *Service) pageOfActivities(ctx context.Context, filter store.ActivityFilter, after string, limit int) (*zendeskv1.ListActivitiesResponse, error) {
	tenant, resp, size := rpc.Tenant(ctx), &zendeskv1.ListActivitiesResponse{}, 0
	for limit > 0 {
		page, next, err := s.store.ListActivities(ctx, tenant, filter, after, min(limit, activitiesAtOnce))
		if err != nil {
			return nil, err
		}
		for i := range page {
			converted := s.activityToProto(tenant, &page[i])
			if size += proto.Size(converted); size > rpc.MaxPageBytes && len(resp.Activities) > 0 {
				resp.NextPageToken = rpc.PageToken(after)
				return resp, nil
			}
			resp.Activities = append(resp.Activities, converted)
			after = page[i].ID
		}
		if next == "" {
			return resp, nil
		}
		limit, after = limit-len(page), next
	}
	resp.NextPageToken = rpc.PageToken(after)
	return resp, nil
}

// accountFilter returns the id that a filter means: of an account that has it as its name, else the filter itself, also if no
// account has it any more.
func (s *Service) accountFilter(ctx context.Context, v *rpc.Violations, filter string) string {
	if filter == "" {
		return ""
	}
	if utf8.RuneCountInString(filter) > rpc.MaxAccountName {
		v.Add("account_id", "must be the id or the name of an account: at most %d characters", rpc.MaxAccountName)
		return ""
	}
	if account, err := s.store.FindAccount(ctx, rpc.Tenant(ctx), filter); err == nil {
		return account.ID
	}
	v.AccountID("account_id", filter)
	return filter
}

// RetryActivity implements InteractionService.
func (s *Service) RetryActivity(ctx context.Context, req *zendeskv1.RetryActivityRequest) (*zendeskv1.RetryActivityResponse, error) {
	var v rpc.Violations
	v.Token("activity_id", req.GetActivityId(), true)
	v.ZendeskID("ticket_id", req.GetTicketId())
	if err := v.Err(); err != nil {
		return nil, err
	}
	activity, err := s.revive(ctx, req.GetActivityId(), req.GetTicketId())
	if err != nil {
		return nil, err
	}
	return &zendeskv1.RetryActivityResponse{Activity: s.activityToProto(rpc.Tenant(ctx), &activity)}, nil
}

// RetryActivities implements InteractionService.
func (s *Service) RetryActivities(ctx context.Context, req *zendeskv1.RetryActivitiesRequest) (*zendeskv1.RetryActivitiesResponse, error) {
	var v rpc.Violations
	v.Enum("failure_reason", req.GetFailureReason())
	account := s.accountFilter(ctx, &v, req.GetAccountId())
	after := v.PageToken(req.GetPageToken())
	if err := v.Err(); err != nil {
		return nil, err
	}
	tenant := rpc.Tenant(ctx)
	filter := store.ActivityFilter{State: store.ActivityDead, AccountID: account, Reason: rpc.ReasonFromProto(req.GetFailureReason())}
	resp, start := &zendeskv1.RetryActivitiesResponse{}, after
	working, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	for {
		page, next, err := s.store.ListActivities(working, tenant, filter, after, activitiesAtOnce)
		if errors.Is(err, store.ErrPagePosition) {
			v.MalformedPageToken()
			return nil, v.Err()
		}
		if err != nil && working.Err() == nil {
			return nil, err
		}
		for _, a := range page {
			_, err := s.revive(working, a.ID, "")
			if _, ok := errors.AsType[*rpc.Error](err); err != nil && !ok {
				if working.Err() == nil {
					return nil, err
				}
				break
			}
			if err == nil {
				resp.Count++
			} // else someone else was faster, or there is no account to try it with
			after = a.ID
		}
		if working.Err() != nil {
			if after == start {
				return nil, &rpc.Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, Message: "there was no time for a single activity"}
			}
			resp.NextPageToken = rpc.PageToken(after)
			return resp, nil
		}
		if after = next; after == "" {
			return resp, nil
		}
	}
}

// revive makes an activity PENDING that is not written.
func (s *Service) revive(ctx context.Context, id, ticket string) (store.Activity, error) {
	tenant := rpc.Tenant(ctx)
	before, err := s.store.Activity(ctx, tenant, id)
	if err != nil {
		return store.Activity{}, activityError(err, id)
	}
	account, err := s.accountForRetry(ctx, tenant, before.Account)
	if err != nil {
		return store.Activity{}, err
	}
	now, target := s.now(), ""
	note := s.note(ctx, "activity retried", slog.String("activity_id", id), slog.Any("ticket_id", audit.Late(&target)))
	activity, err := s.decide(ctx, id, note, func(a *store.Activity) error {
		if a.TicketRule == store.TicketNone && ticket == "" { // it is SKIPPED, or was before it was DISCARDED
			var v rpc.Violations
			v.Add("ticket_id", "is required: the activity has no ticket, and none was to be created")
			return v.Err()
		}
		if account.AccountID == "" {
			return &rpc.Error{
				Reason:   zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND,
				Message:  "the activity's account does not exist, or it had none and none is marked as default",
				Metadata: map[string]string{"activity_id": id},
			}
		}
		a.Account, a.State = account, store.ActivityPending
		if ticket != "" && ticket != a.TicketID {
			// What was begun on the ticket before is looked for there first.
			a.TicketID, a.TicketRule, a.FollowUpOf = ticket, store.TicketRequested, ""
		}
		a.NextAttempt, target = writer.RetryTime(a, now), a.TicketID
		a.Refusals, a.FieldWaits, a.MergedFrom = 0, 0, nil
		return nil
	})
	return activity, err
}

// accountForRetry returns the account that an activity is to be written with: its own; one that was made since under the
// same id, for the same Zendesk; or the default, if it had none. Zero if there is none of these.
func (s *Service) accountForRetry(ctx context.Context, tenant string, use store.AccountUse) (store.AccountUse, error) {
	if use.AccountID == "" {
		byDefault, err := s.store.DefaultAccount(ctx, tenant)
		if errors.Is(err, store.ErrNotFound) {
			return store.AccountUse{}, nil
		}
		return byDefault.Use(store.Default), err
	}
	account, err := s.store.Account(ctx, tenant, use.AccountID)
	// One that was not there when the interaction was completed has no URL yet.
	if errors.Is(err, store.ErrNotFound) || err == nil && use.URL != "" && account.URL != use.URL {
		return store.AccountUse{}, nil
	}
	return account.Use(use.Selection), err
}

// DiscardActivity implements InteractionService.
func (s *Service) DiscardActivity(ctx context.Context, req *zendeskv1.DiscardActivityRequest) (*zendeskv1.DiscardActivityResponse, error) {
	var v rpc.Violations
	v.Token("activity_id", req.GetActivityId(), true)
	if err := v.Err(); err != nil {
		return nil, err
	}
	note := s.note(ctx, "activity discarded", slog.String("activity_id", req.GetActivityId()))
	activity, err := s.decide(ctx, req.GetActivityId(), note, func(a *store.Activity) error {
		a.State, a.NextAttempt = store.ActivityDiscarded, time.Time{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &zendeskv1.DiscardActivityResponse{Activity: s.activityToProto(rpc.Tenant(ctx), &activity)}, nil
}

// decide changes an activity by a person's decision, unless it is written or a try is under way.
func (s *Service) decide(ctx context.Context, id string, note store.Note, change func(*store.Activity) error) (store.Activity, error) {
	activity, err := s.writer.Change(ctx, rpc.Tenant(ctx), id, func(a *store.Activity) error {
		if a.State == store.ActivityWritten {
			return &rpc.Error{
				Reason:   zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_WRITTEN,
				Message:  fmt.Sprintf("activity %q is written: ticket %s has it", id, a.TicketID),
				Metadata: map[string]string{"activity_id": id, "ticket_id": a.TicketID},
			}
		}
		return change(a)
	}, note)
	if errors.Is(err, writer.ErrBusy) {
		err = &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_BUSY,
			Message:  fmt.Sprintf("activity %q is being written at this moment; ask again in a few seconds", id),
			Metadata: map[string]string{"activity_id": id},
		}
	}
	return activity, activityError(err, id)
}

func activityError(err error, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND,
			Message:  fmt.Sprintf("activity %q does not exist", id),
			Metadata: map[string]string{"activity_id": id},
		}
	}
	return err
}

// activityToProto words an activity, with what holds it up at the moment. Ticket rules have the numbers of the API's.
func (s *Service) activityToProto(tenant string, a *store.Activity) *zendeskv1.Activity {
	activity := &zendeskv1.Activity{
		ActivityId: a.ID, InteractionId: a.InteractionID, Account: rpc.AccountUseToProto(a.Account), Details: detailsToProto(a.Details),
		AttachedData: a.AttachedData, TicketId: a.TicketID, TicketRule: zendeskv1.TicketRule(a.TicketRule), State: activityStates[a.State],
		Attempts: int32(a.Attempts), Failure: rpc.FailureToProto(a.Failure), AuditId: a.AuditID, RejectedFields: rejectedToProto(a.Rejected),
		CreateTime: rpc.TimeToProto(a.CreateTime), WriteTime: rpc.TimeToProto(a.WriteTime),
	}
	if a.State == store.ActivityPending {
		reason, until := s.writer.Hold(tenant, a)
		activity.BlockedBy, activity.NextAttemptTime = rpc.ReasonToProto(reason), rpc.TimeToProto(until)
	}
	return activity
}
