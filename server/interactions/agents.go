package interactions

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// agents knows how to show pages to agents: their ids, and what Zendesk need not be asked for again so soon.
type agents struct {
	credentials *credentials.Keeper
	now         func() time.Time
	ids         *cache.Cache[[2]string, string] // by account incarnation and e-mail
	spared      *cache.Cache[spareKey, spare]
}

const (
	agentIDLife  = 10 * time.Minute
	linkOnlyLife = 10 * time.Minute
	longestSpare = time.Hour // zendeskapi asks for no longer pause
)

// spareKey is what an account's Zendesk is not to be asked for. It goes with the account's ETag: another credential is
// asked with at once.
type spareKey struct {
	incarnation, etag string
	step              step
	email             string // of the one agent that is meant; empty: all
}

type spare struct {
	until   time.Time
	failure *store.Failure
}

func newAgents(k *credentials.Keeper, now func() time.Time) *agents {
	return &agents{
		credentials: k,
		now:         now,
		ids:         cache.New[[2]string, string](agentIDLife, now),
		spared:      cache.New[spareKey, spare](longestSpare, now),
	}
}

// step is a request on the way to a page in an agent's browser.
type step int

const (
	findAgent step = iota // the id of the agent with an e-mail address
	showPage
)

// spareWhom is who goes without a step for a while.
type spareWhom int

const (
	spareNobody spareWhom = iota
	spareAgent
	spareAll // of the account
)

// verdict is what an answer means for the page, and for those that come after it.
type verdict struct {
	outcome  store.DeliveryOutcome
	failure  *store.Failure // beside a link: why it is no more than that
	spare    spareWhom
	spareFor time.Duration
	forget   bool // the agent's id
}

// judge decides by how a step ended: all but a look-up that found the agent. Whatever goes wrong, the agent gets the page
// as a link. What only may be better in a moment is not remembered.
func judge(at step, err error) verdict {
	if err == nil && at == showPage {
		return verdict{outcome: store.DeliveryDisplayed}
	}
	v := verdict{outcome: store.DeliveryLink}
	if err == nil {
		// Who is not there now may be in a minute.
		v.failure = new(store.NewFailure(store.ReasonNotFound, "Zendesk knows no agent with this e-mail address"))
		return v
	}
	v.failure = new(credentials.FailureOf(err))
	api, ok := errors.AsType[*zendeskapi.Error](err)
	switch {
	case !ok:
	case api.Kind == zendeskapi.RateLimited:
		v.spare, v.spareFor = spareAll, min(api.Pause, longestSpare)
	case at == findAgent:
	case api.Kind == zendeskapi.AccessDenied:
		// The credential may not, or only this agent's licence: others may have it.
		v.spare, v.spareFor = spareAgent, linkOnlyLife
	case api.EndpointUnavailable():
		// The account's plan lacks it: links are what it gets, and nothing is wrong.
		v.failure, v.spare, v.spareFor = nil, spareAll, linkOnlyLife
	case api.RecordMissing():
		v.forget = true // it may be the agent who is not there any more
	}
	return v
}

// showing is a delivery to an agent as far as one account is asked for it.
type showing struct {
	agents  *agents
	tenant  string
	account store.Account // zero: it has been deleted
	agent   store.Agent
	lookUp  func() (id string, err error) // asks once for all pages of the delivery
}

func (a *agents) showing(ctx context.Context, tenant string, account store.Account, agent store.Agent) *showing {
	w := &showing{agents: a, tenant: tenant, account: account, agent: agent}
	w.lookUp = sync.OnceValues(func() (string, error) { return w.agentID(ctx) })
	return w
}

// show shows a page to the agent. A failure beside a link says why it is no more than that. It is safe for concurrent use.
func (w *showing) show(ctx context.Context, pop store.ScreenPop) (store.DeliveryOutcome, *store.Failure) {
	outcome, f := w.tryToShow(ctx, pop)
	return orFailed(pop, outcome, f)
}

// orFailed makes a link FAILED that cannot be given.
func orFailed(pop store.ScreenPop, outcome store.DeliveryOutcome, f *store.Failure) (store.DeliveryOutcome, *store.Failure) {
	if outcome != store.DeliveryLink || pop.URL != "" {
		return outcome, f
	}
	if f == nil {
		f = new(store.NewFailure(store.ReasonNoTarget, "the page has no address"))
	}
	return store.DeliveryFailed, f
}

func (w *showing) tryToShow(ctx context.Context, pop store.ScreenPop) (store.DeliveryOutcome, *store.Failure) {
	if w.account.ID == "" {
		return store.DeliveryLink, new(store.NewFailure(store.ReasonAccountNotFound, "the screen pop's account has been deleted"))
	}
	if pop.RecordType != store.RecordTicket && pop.RecordType != store.RecordUser {
		return store.DeliveryLink, nil
	}
	if f, ok := w.spared(showPage); ok {
		return store.DeliveryLink, f
	}
	agentID, known := w.knownID()
	if !known {
		if f, ok := w.spared(findAgent); ok {
			return store.DeliveryLink, f
		}
		var err error
		if agentID, err = w.lookUp(); err != nil || agentID == "" {
			return w.take(findAgent, judge(findAgent, err))
		}
	}
	account := w.account
	err := w.agents.credentials.Do(ctx, limit.Deliveries, w.tenant, &account, func(client *zendeskapi.Client) error {
		if pop.RecordType == store.RecordTicket {
			return client.DisplayTicket(ctx, agentID, pop.RecordID)
		}
		return client.DisplayUser(ctx, agentID, pop.RecordID)
	})
	return w.take(showPage, judge(showPage, err))
}

// take remembers what a verdict means for later.
func (w *showing) take(at step, v verdict) (store.DeliveryOutcome, *store.Failure) {
	if v.forget {
		w.agents.ids.Drop(w.idKey())
	}
	if v.spare != spareNobody && v.spareFor > 0 {
		key := w.spareKey(at)
		if v.spare == spareAgent {
			key.email = w.agent.Email
		}
		w.agents.spared.Put(key, spare{until: w.agents.now().Add(v.spareFor), failure: v.failure})
	}
	return v.outcome, v.failure
}

// spared tells whether a step need not be tried, and why it failed before.
func (w *showing) spared(at step) (*store.Failure, bool) {
	key := w.spareKey(at)
	for _, email := range []string{"", w.agent.Email} {
		key.email = email
		if found, ok := w.agents.spared.Get(key); ok {
			if left := found.until.Sub(w.agents.now()); left > 0 {
				return found.unasked(left), true
			}
		}
	}
	return nil, false
}

// unasked is the failure for those that were spared a request.
func (s spare) unasked(left time.Duration) *store.Failure {
	if s.failure == nil {
		return nil
	}
	f := store.Failure{Reason: s.failure.Reason, Message: s.failure.Message, Retryable: s.failure.Retryable}
	if s.failure.RetryAfter > 0 {
		f.RetryAfter = left.Truncate(time.Second) + time.Second
	}
	return &f
}

func (w *showing) spareKey(at step) spareKey {
	return spareKey{incarnation: w.account.Incarnation, etag: w.account.ETag, step: at}
}

func (w *showing) idKey() [2]string { return [2]string{w.account.Incarnation, w.agent.Email} }

// knownID returns the agent's id in Zendesk if nobody need be asked for it.
func (w *showing) knownID() (string, bool) {
	if w.agent.ZendeskUserID != "" {
		return w.agent.ZendeskUserID, true
	}
	return w.agents.ids.Get(w.idKey())
}

// agentID asks for the agent's id in Zendesk; empty when there is no such agent.
func (w *showing) agentID(ctx context.Context) (string, error) {
	var user zendeskapi.User
	var found bool
	account := w.account
	err := w.agents.credentials.Do(ctx, limit.Deliveries, w.tenant, &account, func(client *zendeskapi.Client) (err error) {
		user, found, err = client.UserByEmail(ctx, w.agent.Email)
		return err
	})
	if err != nil || !found {
		return "", err
	}
	w.agents.ids.Put(w.idKey(), user.ID)
	return user.ID, nil
}
