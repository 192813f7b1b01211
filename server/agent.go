package server

import (
	"context"
	"errors"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// agents knows how to show pages to agents: their ids, and which accounts and agents can be shown pages at all.
type agents struct {
	zendesk *zendesk
	ids     *cache[[2]string, string]   // by account incarnation and e-mail
	linked  *cache[[2]string, struct{}] // account incarnation and e-mail, or no e-mail for all agents: links only
}

const (
	agentIDLife  = 10 * time.Minute
	linkOnlyLife = 10 * time.Minute
)

func newAgents(z *zendesk, now func() time.Time) *agents {
	return &agents{
		zendesk: z,
		ids:     newCache[[2]string, string](agentIDLife, now),
		linked:  newCache[[2]string, struct{}](linkOnlyLife, now),
	}
}

// show shows a page to an agent. A failure beside LINK says why it is no more than that.
func (a *agents) show(ctx context.Context, account store.Account, pop store.ScreenPop, agent *zendeskv1.Agent) (zendeskv1.DeliveryOutcome, *zendeskv1.Failure) {
	const (
		displayed = zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_DISPLAYED
		link      = zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_LINK
		failed    = zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_FAILED
	)
	if account.ID == "" {
		return link, failure(zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND, "the screen pop's account has been deleted")
	}
	kind := zendeskv1.RecordType(pop.Type)
	if kind != zendeskv1.RecordType_RECORD_TYPE_TICKET && kind != zendeskv1.RecordType_RECORD_TYPE_USER {
		return link, nil
	}
	everyone, him := [2]string{account.Incarnation}, [2]string{account.Incarnation, agent.GetEmail()}
	if _, ok := a.linked.get(everyone); ok {
		return link, nil
	}
	if _, ok := a.linked.get(him); ok {
		return link, nil
	}
	var agentID string
	err := a.zendesk.do(ctx, tenantOf(ctx), &account, func(client *zendeskapi.Client) (err error) {
		agentID, err = a.id(ctx, client, him, agent)
		return err
	})
	if err != nil {
		return failed, failureOf(err)
	}
	if agentID == "" {
		return link, failure(zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND, "Zendesk knows no agent with this e-mail address")
	}
	err = a.zendesk.do(ctx, tenantOf(ctx), &account, func(client *zendeskapi.Client) error {
		if kind == zendeskv1.RecordType_RECORD_TYPE_TICKET {
			return client.DisplayTicket(ctx, agentID, pop.RecordID)
		}
		return client.DisplayUser(ctx, agentID, pop.RecordID)
	})
	api, _ := errors.AsType[*zendeskapi.Error](err)
	switch {
	case err == nil:
		return displayed, nil
	case api == nil:
		return failed, failureOf(err)
	case api.Kind == zendeskapi.AccessDenied:
		// The plan lacks it, or only this agent's licence: others may have it.
		a.linked.put(him, struct{}{})
		return link, nil
	case api.EndpointUnavailable():
		a.linked.put(everyone, struct{}{})
		return link, nil
	case api.Kind == zendeskapi.NotFound:
		// The agent, or the record, is not there (any more).
		a.ids.drop(him)
		return link, failureOf(err)
	}
	return failed, failureOf(err)
}

// id returns an agent's id in Zendesk; empty when there is no such agent.
func (a *agents) id(ctx context.Context, client *zendeskapi.Client, key [2]string, agent *zendeskv1.Agent) (string, error) {
	if agent.GetZendeskUserId() != "" {
		return agent.GetZendeskUserId(), nil
	}
	if id, ok := a.ids.get(key); ok {
		return id, nil
	}
	user, found, err := client.UserByEmail(ctx, agent.GetEmail())
	if err != nil {
		return "", err
	}
	// Who is not there now may be in a minute: only those found are kept.
	if found {
		a.ids.put(key, user.ID)
	}
	return user.ID, nil
}
