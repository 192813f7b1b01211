package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/activity"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// CompleteInteraction implements InteractionService.
func (s *interactionService) CompleteInteraction(ctx context.Context, req *zendeskv1.CompleteInteractionRequest) (*zendeskv1.CompleteInteractionResponse, error) {
	if err := validateComplete(req); err != nil {
		return nil, err
	}
	sum, err := fingerprint(req)
	if err != nil {
		return nil, err
	}
	details, err := proto.Marshal(req.GetDetails())
	if err != nil {
		return nil, fmt.Errorf("storing the details: %w", err)
	}
	now := s.now()
	fresh := store.Activity{
		ID: store.NewActivityID(now), InteractionID: req.GetInteractionId(), Fingerprint: sum, Details: details, CreateTime: now,
		Create: req.GetIfNoTicket() == zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE,
	}
	var completed store.Activity
	err = s.store.UpdateInteraction(ctx, tenantOf(ctx), req.GetInteractionId(), func(tx *store.InteractionTxn) error {
		if tx.State() != store.InteractionActive {
			completed, err = completedBefore(tx, req, sum)
			return err
		}
		completed = fresh
		if completed.AttachedData, err = tx.AttachedData(); err != nil {
			return err
		}
		if err := chooseTicket(tx, req, &completed); err != nil {
			return err
		}
		completed, err = tx.Complete(completed)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.writer.add(tenantOf(ctx), completed)
	converted, err := s.activityToProto(tenantOf(ctx), &completed)
	return &zendeskv1.CompleteInteractionResponse{Activity: converted}, err
}

func validateComplete(req *zendeskv1.CompleteInteractionRequest) error {
	var v violations
	v.token("interaction_id", req.GetInteractionId(), true)
	v.zendeskID("ticket_id", req.GetTicketId())
	if req.GetAccountId() != "" {
		v.accountID("account_id", req.GetAccountId())
		if req.GetTicketId() == "" {
			v.add("account_id", "must be empty without ticket_id")
		}
	}
	v.enum("if_no_ticket", req.GetIfNoTicket())
	details := req.GetDetails()
	v.time("details.start_time", details.GetStartTime())
	v.time("details.answer_time", details.GetAnswerTime())
	v.time("details.end_time", details.GetEndTime())
	v.zendeskID("details.agent.zendesk_user_id", details.GetAgent().GetZendeskUserId())
	for _, violation := range activity.Validate(detailsOf(details)) {
		v.add(violation.Field, "%s", violation.Description)
	}
	return v.err()
}

// completedBefore answers the repeat of a completion.
func completedBefore(tx *store.InteractionTxn, req *zendeskv1.CompleteInteractionRequest, sum []byte) (store.Activity, error) {
	id := req.GetInteractionId()
	if tx.State() == store.InteractionExpired {
		return store.Activity{}, &publicError{
			reason:   zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_EXPIRED,
			message:  fmt.Sprintf("interaction %q was left alone for too long and is gone", id),
			metadata: map[string]string{"interaction_id": id},
		}
	}
	activity, err := tx.Activity()
	if err != nil {
		return store.Activity{}, err
	}
	if !slices.Equal(activity.Fingerprint, sum) {
		return store.Activity{}, &publicError{
			reason:   zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_COMPLETED,
			message:  fmt.Sprintf("interaction %q was completed before with other details, as activity %q", id, activity.ID),
			metadata: map[string]string{"interaction_id": id, "activity_id": activity.ID},
		}
	}
	return activity, nil
}

// popped finds the last screen pop of a kind.
func popped(pops []store.ScreenPop, kind zendeskv1.RecordType) (store.ScreenPop, bool) {
	for _, pop := range slices.Backward(pops) {
		if pop.Type == int32(kind) {
			return pop, true
		}
	}
	return store.ScreenPop{}, false
}

// chooseTicket decides where an activity is written, and sets its state.
func chooseTicket(tx *store.InteractionTxn, req *zendeskv1.CompleteInteractionRequest, a *store.Activity) error {
	choose := func(rule zendeskv1.TicketRule, account store.AccountUse, ticket string) {
		a.State, a.TicketRule, a.Account, a.TicketID = store.ActivityPending, int32(rule), account, ticket
	}
	current, use, err := lastCurrentRecord(tx)
	if err != nil {
		return err
	}
	pops := tx.ScreenPops()
	if req.GetTicketId() != "" {
		account, err := requestedAccount(tx, req.GetAccountId())
		if err != nil {
			return err
		}
		choose(zendeskv1.TicketRule_TICKET_RULE_REQUESTED, account, req.GetTicketId())
		return blockIfNoAccount(tx, a)
	}
	if pop, ok := popped(pops, zendeskv1.RecordType_RECORD_TYPE_TICKET); ok {
		choose(zendeskv1.TicketRule_TICKET_RULE_POPPED, pop.Account, pop.RecordID)
		return nil
	}
	if current.GetType() == zendeskv1.RecordType_RECORD_TYPE_TICKET && current.GetId() != "" {
		choose(zendeskv1.TicketRule_TICKET_RULE_CURRENT_RECORD, use, current.GetId())
		return nil
	}
	if !a.Create {
		a.State, a.TicketRule = store.ActivitySkipped, int32(zendeskv1.TicketRule_TICKET_RULE_NONE)
		return nil
	}
	// A requester that is known by its id decides which Zendesk the ticket is made in.
	if pop, ok := popped(pops, zendeskv1.RecordType_RECORD_TYPE_USER); ok {
		choose(zendeskv1.TicketRule_TICKET_RULE_CREATED, pop.Account, "")
		a.RequesterID = pop.RecordID
		return nil
	}
	if current.GetType() == zendeskv1.RecordType_RECORD_TYPE_USER && current.GetId() != "" {
		choose(zendeskv1.TicketRule_TICKET_RULE_CREATED, use, "")
		a.RequesterID = current.GetId()
		return nil
	}
	account, err := requestedAccount(tx, "")
	if err != nil {
		return err
	}
	choose(zendeskv1.TicketRule_TICKET_RULE_CREATED, account, "")
	return blockIfNoAccount(tx, a)
}

// lastCurrentRecord returns the current record of the recordset that was searched last.
func lastCurrentRecord(tx *store.InteractionTxn) (*zendeskv1.Record, store.AccountUse, error) {
	if tx.LastSearched() == "" {
		return nil, store.AccountUse{}, nil
	}
	rs, err := tx.Recordset(tx.LastSearched())
	if err != nil || rs.Position == 0 {
		return nil, store.AccountUse{}, err
	}
	raw, err := tx.Record(rs.Name, rs.Position)
	if err != nil {
		return nil, store.AccountUse{}, err
	}
	return recordToProto(raw, rs.Account.URL), rs.Account, nil
}

// requestedAccount returns the account that a request names, else the one in force, else the default; zero if there is
// none, or if one was to be selected in vain: the default is not put in its place.
func requestedAccount(tx *store.InteractionTxn, id string) (store.AccountUse, error) {
	if id != "" {
		account, err := tx.FindAccount(id)
		if err == nil && account.ID != id {
			err = store.ErrNotFound // a name, not an id
		}
		if err != nil {
			return store.AccountUse{}, accountError(err, id)
		}
		return useOf(account, store.Selected), nil
	}
	if use, state := tx.Account(); state != store.AccountUnset {
		return use, nil
	}
	account, err := tx.DefaultAccount()
	if errors.Is(err, store.ErrNotFound) {
		return store.AccountUse{}, nil
	}
	if err != nil {
		return store.AccountUse{}, err
	}
	return useOf(account, store.Default), nil
}

// blockIfNoAccount declares an activity DEAD that no account can write: a person has to make one, and retry.
func blockIfNoAccount(tx *store.InteractionTxn, a *store.Activity) error {
	if a.Account.AccountID != "" {
		return nil
	}
	a.State = store.ActivityDead
	if _, state := tx.Account(); state == store.AccountCleared {
		return setFailure(a, failure(zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND, "the account that was to be selected last does not exist"))
	}
	return setFailure(a, failure(zendeskv1.FailureReason_FAILURE_REASON_NO_DEFAULT_ACCOUNT, "no account was in force and none is marked as default"))
}

// setFailure notes why the last try failed; nil: it did not.
func setFailure(a *store.Activity, f *zendeskv1.Failure) error {
	a.Failure, a.FailureReason = nil, 0
	if f == nil {
		return nil
	}
	body, err := proto.Marshal(f)
	if err != nil {
		return fmt.Errorf("storing a failure: %w", err)
	}
	a.Failure, a.FailureReason = body, int32(f.GetReason())
	return nil
}
