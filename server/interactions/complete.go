package interactions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/once"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// CompleteInteraction implements InteractionService.
func (s *Service) CompleteInteraction(ctx context.Context, req *zendeskv1.CompleteInteractionRequest) (*zendeskv1.CompleteInteractionResponse, error) {
	if err := validateComplete(req); err != nil {
		return nil, err
	}
	logInteraction(ctx, req.GetInteractionId())
	now := s.now()
	fresh := store.Activity{
		ID: store.NewActivityID(now), InteractionID: req.GetInteractionId(), Fingerprint: once.Fingerprint(req), Details: detailsFromProto(req.GetDetails()), CreateTime: now,
		Create: creates[req.GetIfNoTicket()], MaxTicketAge: maxTicketAge(req),
	}
	var completed store.Activity
	err := s.store.UpdateInteraction(ctx, rpc.Tenant(ctx), req.GetInteractionId(), func(tx *store.InteractionTxn) (err error) {
		if tx.State() != store.InteractionActive {
			completed, err = completedBefore(tx, req)
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
	return &zendeskv1.CompleteInteractionResponse{Activity: s.activityToProto(rpc.Tenant(ctx), &completed)}, nil
}

// creates says which choices end with a ticket that is created, if there is no other.
var creates = map[zendeskv1.IfNoTicket]bool{
	zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE: true, zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED: true,
}

// How long ago a ticket may have changed at most that is chosen when it is written.
const (
	minMaxTicketAge     = time.Minute
	maxMaxTicketAge     = 1000 * 24 * time.Hour
	defaultMaxTicketAge = 30 * 24 * time.Hour
)

// maxTicketAge is that age; 0 when no ticket is to be chosen later.
func maxTicketAge(req *zendeskv1.CompleteInteractionRequest) time.Duration {
	switch {
	case req.GetIfNoTicket() != zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED:
		return 0
	case req.GetMaxTicketAge() == nil:
		return defaultMaxTicketAge
	}
	return req.GetMaxTicketAge().AsDuration()
}

// validateComplete finds mistakes about what is to be done. Details are taken as they are: history is worth more than form.
func validateComplete(req *zendeskv1.CompleteInteractionRequest) error {
	var v rpc.Violations
	v.Token("interaction_id", req.GetInteractionId(), true)
	v.ZendeskID("ticket_id", req.GetTicketId())
	if req.GetAccountId() != "" {
		v.AccountID("account_id", req.GetAccountId())
		if req.GetTicketId() == "" {
			v.Add("account_id", "must be empty without ticket_id")
		}
	}
	v.Enum("if_no_ticket", req.GetIfNoTicket())
	if age := req.GetMaxTicketAge(); age != nil {
		switch {
		case req.GetIfNoTicket() != zendeskv1.IfNoTicket_IF_NO_TICKET_NEWEST_UNSOLVED:
			v.Add("max_ticket_age", "must be unset unless if_no_ticket is NEWEST_UNSOLVED")
		case age.CheckValid() != nil || age.AsDuration() < minMaxTicketAge || age.AsDuration() > maxMaxTicketAge:
			v.Add("max_ticket_age", "must be 1 minute to 1,000 days")
		}
	}
	return v.Err()
}

// completedBefore answers the repeat of a completion.
func completedBefore(tx *store.InteractionTxn, req *zendeskv1.CompleteInteractionRequest) (store.Activity, error) {
	id := req.GetInteractionId()
	if tx.State() == store.InteractionExpired {
		return store.Activity{}, &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_EXPIRED,
			Message:  fmt.Sprintf("interaction %q was left alone for too long and is gone", id),
			Metadata: map[string]string{"interaction_id": id},
		}
	}
	activity, err := tx.Activity()
	if errors.Is(err, store.ErrNotFound) {
		return store.Activity{}, &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_COMPLETED,
			Message:  fmt.Sprintf("interaction %q was completed long ago, and its activity %q is not kept any more", id, tx.ActivityID()),
			Metadata: map[string]string{"interaction_id": id, "activity_id": tx.ActivityID()},
		}
	}
	if err != nil {
		return store.Activity{}, err
	}
	if !once.Matches(activity.Fingerprint, req) {
		return store.Activity{}, &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_COMPLETED,
			Message:  fmt.Sprintf("interaction %q was completed before with other details, as activity %q", id, activity.ID),
			Metadata: map[string]string{"interaction_id": id, "activity_id": activity.ID},
		}
	}
	return activity, nil
}

// popped finds the last screen pop of a kind.
func popped(pops []store.ScreenPop, kind store.RecordType) (store.ScreenPop, bool) {
	for _, pop := range slices.Backward(pops) {
		if pop.RecordType == kind {
			return pop, true
		}
	}
	return store.ScreenPop{}, false
}

// chooseTicket decides where an activity is written, and sets its state.
func chooseTicket(tx *store.InteractionTxn, req *zendeskv1.CompleteInteractionRequest, a *store.Activity) error {
	choose := func(rule store.TicketRule, account store.AccountUse, ticket string) {
		a.State, a.TicketRule, a.Account, a.TicketID = store.ActivityPending, rule, account, ticket
	}
	kind, id, use, err := lastCurrentRecord(tx)
	if err != nil {
		return err
	}
	pops, err := tx.ScreenPops()
	if err != nil {
		return err
	}
	if req.GetTicketId() != "" {
		account, err := requestedAccount(tx, req.GetAccountId())
		if err != nil {
			return err
		}
		choose(store.TicketRequested, account, req.GetTicketId())
		blockIfNoAccount(tx, a)
		return nil
	}
	if pop, ok := popped(pops, store.RecordTicket); ok {
		choose(store.TicketPopped, pop.Account, pop.RecordID)
		return nil
	}
	if kind == store.RecordTicket && id != "" {
		choose(store.TicketCurrentRecord, use, id)
		return nil
	}
	if !a.Create {
		a.State, a.TicketRule = store.ActivitySkipped, store.TicketNone
		return nil
	}
	// A requester that is known by its id decides which Zendesk the ticket is made in.
	if pop, ok := popped(pops, store.RecordUser); ok {
		choose(createRule(a), pop.Account, "")
		a.RequesterID = pop.RecordID
		return nil
	}
	if kind == store.RecordUser && id != "" {
		choose(createRule(a), use, "")
		a.RequesterID = id
		return nil
	}
	account, err := requestedAccount(tx, "")
	if err != nil {
		return err
	}
	rule := createRule(a)
	if compose.Requester(a.Details) == nil {
		rule = store.TicketCreated // nobody has asked for tickets
	}
	choose(rule, account, "")
	blockIfNoAccount(tx, a)
	return nil
}

// createRule is how the ticket of a known requester is chosen.
func createRule(a *store.Activity) store.TicketRule {
	if a.MaxTicketAge > 0 {
		return store.TicketNewestUnsolved
	}
	return store.TicketCreated
}

// lastCurrentRecord says what the current record of the recordset that was searched last is; nothing if there is none.
func lastCurrentRecord(tx *store.InteractionTxn) (store.RecordType, string, store.AccountUse, error) {
	if tx.LastSearched() == "" {
		return 0, "", store.AccountUse{}, nil
	}
	rs, err := tx.Recordset(tx.LastSearched())
	if err != nil || rs.Position == 0 {
		return 0, "", store.AccountUse{}, err
	}
	raw, err := tx.Record(rs.Name, rs.Position)
	if err != nil {
		return 0, "", store.AccountUse{}, err
	}
	kind, id := recordset.Identify(raw)
	return rpc.RecordTypes[kind], id, rs.Account, nil
}

// requestedAccount returns the account that a request names, else the one in force, else the default; zero if there is
// none, or if one was to be selected in vain: the default is not put in its place. Of a named one that is not there it
// returns the id alone.
func requestedAccount(tx *store.InteractionTxn, id string) (store.AccountUse, error) {
	if id != "" {
		account, err := tx.FindAccount(id)
		if errors.Is(err, store.ErrNotFound) || err == nil && account.ID != id { // a name, not an id
			return store.AccountUse{AccountID: id, Selection: store.Named}, nil
		}
		return account.Use(store.Named), err
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
	return account.Use(store.Default), nil
}

// blockIfNoAccount declares an activity DEAD that no account can write: a person has to make one, and retry.
func blockIfNoAccount(tx *store.InteractionTxn, a *store.Activity) {
	if a.Account.Incarnation != "" {
		return
	}
	why := store.NewFailure(store.ReasonNoDefaultAccount, "no account was in force and none is marked as default")
	if id := a.Account.AccountID; id != "" {
		why = store.NewFailure(store.ReasonAccountNotFound, fmt.Sprintf("account %q, which the completion names, does not exist", id))
	} else if _, state := tx.Account(); state == store.AccountCleared {
		why = store.NewFailure(store.ReasonAccountNotFound, "the account that was to be selected last does not exist")
	}
	a.State, a.Failure = store.ActivityDead, &why
}

// detailsFromProto converts what the runtime said of an interaction, cut to what can be stored.
func detailsFromProto(d *zendeskv1.ActivityDetails) store.ActivityDetails {
	details := store.ActivityDetails{
		Subject: d.GetSubject(), Channel: d.GetChannel(), Direction: d.GetDirection(), FromAddress: d.GetFromAddress(), ToAddress: d.GetToAddress(),
		Agent: agentFromProto(d.GetAgent()), Service: d.GetService(), Disposition: d.GetDisposition(), Notes: d.GetNotes(), Transcript: d.GetTranscript(),
		CompletionStatus: store.CompletionStatus(d.GetCompletionStatus()), RecordingURL: d.GetRecordingUrl(),
		Requester: store.Requester{Name: d.GetRequester().GetName(), Email: d.GetRequester().GetEmail(), Phone: d.GetRequester().GetPhone()},
	}
	for _, link := range d.GetLinks() {
		details.Links = append(details.Links, store.Link{Title: link.GetTitle(), URL: link.GetUrl()})
	}
	var odd oddities
	details.StartTime = odd.time("start", d.GetStartTime())
	details.AnswerTime = odd.time("answer", d.GetAnswerTime())
	details.EndTime = odd.time("end", d.GetEndTime())
	details.QueueDuration = odd.duration("queue", d.GetQueueDuration())
	details.HoldDuration = odd.duration("hold", d.GetHoldDuration())
	details.TalkDuration = odd.duration("talk", d.GetTalkDuration())
	details.WrapUpDuration = odd.duration("wrap-up", d.GetWrapUpDuration())
	for i, leg := range d.GetLegs() {
		name := fmt.Sprintf("leg %d's ", i+1)
		details.Legs = append(details.Legs, store.Leg{
			Agent: agentFromProto(leg.GetAgent()), StartTime: odd.time(name+"start", leg.GetStartTime()), EndTime: odd.time(name+"end", leg.GetEndTime()),
		})
	}
	details.Remark = strings.Join(odd, "; ")
	return compose.Fit(details)
}

// oddities are what cannot be kept as it was said, in words.
type oddities []string

func (o *oddities) time(name string, at *timestamppb.Timestamp) time.Time {
	if at != nil && at.CheckValid() != nil {
		*o = append(*o, fmt.Sprintf("%s time is no time: %d s, %d ns", name, at.GetSeconds(), at.GetNanos()))
		return time.Time{}
	}
	return rpc.TimeFromProto(at)
}

func (o *oddities) duration(name string, d *durationpb.Duration) *time.Duration {
	if d == nil {
		return nil
	}
	took := d.AsDuration()
	if d.CheckValid() != nil || !proto.Equal(durationpb.New(took), d) { // some 292 years are the most
		*o = append(*o, fmt.Sprintf("%s duration is none: %d s, %d ns", name, d.GetSeconds(), d.GetNanos()))
		return nil
	}
	return &took
}

func durationToProto(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}

func agentFromProto(a *zendeskv1.Agent) store.Agent {
	return store.Agent{Email: a.GetEmail(), ZendeskUserID: a.GetZendeskUserId()}
}

func agentToProto(a store.Agent) *zendeskv1.Agent {
	if a == (store.Agent{}) {
		return nil
	}
	return &zendeskv1.Agent{Email: a.Email, ZendeskUserId: a.ZendeskUserID}
}

// detailsToProto converts them back.
func detailsToProto(d store.ActivityDetails) *zendeskv1.ActivityDetails {
	details := &zendeskv1.ActivityDetails{
		Subject: d.Subject, Channel: d.Channel, Direction: d.Direction, FromAddress: d.FromAddress, ToAddress: d.ToAddress,
		Agent: agentToProto(d.Agent), Service: d.Service, Disposition: d.Disposition, Notes: d.Notes, Transcript: d.Transcript,
		CompletionStatus: zendeskv1.CompletionStatus(d.CompletionStatus), RecordingUrl: d.RecordingURL,
		StartTime: rpc.TimeToProto(d.StartTime), AnswerTime: rpc.TimeToProto(d.AnswerTime), EndTime: rpc.TimeToProto(d.EndTime),
		QueueDuration: durationToProto(d.QueueDuration), HoldDuration: durationToProto(d.HoldDuration),
		TalkDuration: durationToProto(d.TalkDuration), WrapUpDuration: durationToProto(d.WrapUpDuration),
	}
	for _, link := range d.Links {
		details.Links = append(details.Links, &zendeskv1.Link{Title: link.Title, Url: link.URL})
	}
	for _, leg := range d.Legs {
		details.Legs = append(details.Legs, &zendeskv1.Leg{
			Agent: agentToProto(leg.Agent), StartTime: rpc.TimeToProto(leg.StartTime), EndTime: rpc.TimeToProto(leg.EndTime),
		})
	}
	if d.Requester != (store.Requester{}) {
		details.Requester = &zendeskv1.Requester{Name: d.Requester.Name, Email: d.Requester.Email, Phone: d.Requester.Phone}
	}
	return details
}
