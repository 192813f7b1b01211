package interactions

import (
	"context"
	"errors"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// agents knows how to show pages to agents: their ids, and which accounts and agents can be shown pages at all.
type agents struct {
	credentials *credentials.Keeper
	ids         *cache.Cache[[2]string, string]   // by account incarnation and e-mail
	linked      *cache.Cache[[2]string, struct{}] // account incarnation and e-mail, or no e-mail for all agents: links only
}

const (
	agentIDLife  = 10 * time.Minute
	linkOnlyLife = 10 * time.Minute
)

func newAgents(k *credentials.Keeper, now func() time.Time) *agents {
	return &agents{
		credentials: k,
		ids:         cache.New[[2]string, string](agentIDLife, now),
		linked:      cache.New[[2]string, struct{}](linkOnlyLife, now),
	}
}

// show shows a page to an agent of the tenant. A failure beside a link says why it is no more than that.
func (a *agents) show(ctx context.Context, tenant string, account store.Account, pop store.ScreenPop, agent store.Agent) (store.DeliveryOutcome, *store.Failure) {
	const (
		displayed = store.DeliveryDisplayed
		link      = store.DeliveryLink
		failed    = store.DeliveryFailed
	)
	because := func(f store.Failure) *store.Failure { return &f }
	if account.ID == "" {
		return link, because(store.NewFailure(store.ReasonAccountNotFound, "the screen pop's account has been deleted"))
	}
	if pop.RecordType != store.RecordTicket && pop.RecordType != store.RecordUser {
		return link, nil
	}
	everyone, him := [2]string{account.Incarnation}, [2]string{account.Incarnation, agent.Email}
	if _, ok := a.linked.Get(everyone); ok {
		return link, nil
	}
	if _, ok := a.linked.Get(him); ok {
		return link, nil
	}
	var agentID string
	err := a.credentials.Do(ctx, tenant, &account, func(client *zendeskapi.Client) (err error) {
		agentID, err = a.id(ctx, client, him, agent)
		return err
	})
	if err != nil {
		return failed, because(credentials.FailureOf(err))
	}
	if agentID == "" {
		return link, because(store.NewFailure(store.ReasonNotFound, "Zendesk knows no agent with this e-mail address"))
	}
	err = a.credentials.Do(ctx, tenant, &account, func(client *zendeskapi.Client) error {
		if pop.RecordType == store.RecordTicket {
			return client.DisplayTicket(ctx, agentID, pop.RecordID)
		}
		return client.DisplayUser(ctx, agentID, pop.RecordID)
	})
	api, _ := errors.AsType[*zendeskapi.Error](err)
	switch {
	case err == nil:
		return displayed, nil
	case api == nil:
		return failed, because(credentials.FailureOf(err))
	case api.Kind == zendeskapi.AccessDenied:
		// The plan lacks it, or only this agent's licence: others may have it.
		a.linked.Put(him, struct{}{})
		return link, nil
	case api.EndpointUnavailable():
		a.linked.Put(everyone, struct{}{})
		return link, nil
	case api.Kind == zendeskapi.NotFound:
		// The agent, or the record, is not there (any more).
		a.ids.Drop(him)
		return link, because(credentials.FailureOf(err))
	}
	return failed, because(credentials.FailureOf(err))
}

// id returns an agent's id in Zendesk; empty when there is no such agent.
func (a *agents) id(ctx context.Context, client *zendeskapi.Client, key [2]string, agent store.Agent) (string, error) {
	if agent.ZendeskUserID != "" {
		return agent.ZendeskUserID, nil
	}
	if id, ok := a.ids.Get(key); ok {
		return id, nil
	}
	user, found, err := client.UserByEmail(ctx, agent.Email)
	if err != nil {
		return "", err
	}
	// Who is not there now may be in a minute: only those found are kept.
	if found {
		a.ids.Put(key, user.ID)
	}
	return user.ID, nil
}
