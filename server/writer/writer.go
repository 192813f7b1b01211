// Package writer writes the activities of completed interactions to Zendesk tickets, each exactly once in effect.
//
// It hides which activity is written next, how a write whose answer was lost is found again, and who is to blame when one
// fails. Before a write is sent, the store knows that it was begun; one that was begun and has no known outcome is looked
// for by its mark before it is sent again, in the state that the repeat is bound to: one which Zendesk is late to act on
// cannot follow it. What came of a try is stored before the ticket is anybody else's.
//
// What a try does next is decided in decide.go, and who is to blame when it fails in blame.go, by functions of what is known;
// attempt.go does it. Whose turn it is, is decided in queue.go. What the ticket then says is composed in package compose.
//
// The accounts are spread over shards, each of which one replica has claimed: that one finds in the store what is pending of them,
// and writes it, and all that it stores of a try it stores behind its claim. One that has slept and lost its claim meanwhile
// stores nothing more; what it still sends is bound to the ticket's state, or to the mark of the ticket that is made, which its
// successor has looked at, or finds.
//
//	w := writer.New(writer.Config{...})
//	go w.Run(ctx, cut)
package writer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	writeTime = 20 * time.Second // of one try, all its requests together
	probeTime = 10 * time.Second // of one that probes a held account
	// A try takes about so many requests, and is begun when the limit has room for them within roomTime.
	tryRequests, roomTime = 3, fieldsTime
	// RoundEvery is how often Run looks at the queue, also when nothing has changed.
	RoundEvery = 10 * time.Second
)

// ErrBusy says that a try to write the activity is under way, here or on another replica, or that another change of it is.
var ErrBusy = errors.New("the activity is being written")

// Config is what a Writer depends on. All but Moved and Panicked is required.
type Config struct {
	Store       *store.Store
	Credentials *credentials.Keeper
	Log         *slog.Logger
	Now         func() time.Time
	Moved       <-chan struct{} // tells that Now has jumped, as it does in tests; nil: it never does
	Panicked    func()          // is called when a try has panicked; nil: nothing is
}

// Writer writes pending activities. It is safe for concurrent use.
type Writer struct {
	store       *store.Store
	credentials *credentials.Keeper
	log         *slog.Logger
	now         func() time.Time
	moved       <-chan struct{}
	panicked    func()
	queue       *queue
	fields      *cache.Cache[string, fieldDefinitions] // by account incarnation
	skewTold    *cache.Cache[string, struct{}]         // by the Zendesk's URL
	running     sync.WaitGroup
	round       atomic.Pointer[time.Time]                      // when Run last began one; at first, when the writer was made
	looks       chan struct{}                                  // holds a token for each shard that is looked at as a whole
	cannotLook  atomic.Bool                                    // pending activities could not be listed the last time
	told        atomic.Pointer[map[credentials.Key]store.Hold] // of all replicas, as was read last

	mu     sync.Mutex
	shards [store.Shards]*shard // that this process has claimed
	unread map[unread]int       // how often an activity could not be read
}

// New makes a Writer. It does nothing by itself until Run.
func New(c Config) *Writer {
	w := &Writer{
		store: c.Store, credentials: c.Credentials, log: c.Log, now: c.Now, moved: c.Moved, panicked: c.Panicked,
		queue: newQueue(c.Now), fields: cache.New[string, fieldDefinitions](fieldsUse, c.Now), skewTold: cache.New[string, struct{}](skewToldFor, c.Now),
		looks: make(chan struct{}, parallelLooks), unread: make(map[unread]int),
	}
	if w.panicked == nil {
		w.panicked = func() {}
	}
	w.round.Store(new(time.Now()))
	w.queue.room = func(origin string) int {
		return c.Credentials.Room(origin, limit.Activities, roomTime) / tryRequests
	}
	return w
}

// FieldLookups returns how often the fields of an account's tickets were known already, and how often not.
func (w *Writer) FieldLookups() (hits, misses uint64) { return w.fields.Lookups() }

// Change changes an activity by a person's decision, as [store.Store.UpdateActivity] does, on any replica. It is not tried
// meanwhile; if it is pending then, it is tried at its NextAttempt, else never. Errors: [ErrBusy]; those of the store; change's, as
// they are.
func (w *Writer) Change(ctx context.Context, tenant, id string, change func(*store.Activity) error, notes ...store.Note) (store.Activity, error) {
	if !w.queue.withhold(id) {
		return w.changeEnded(ctx, tenant, id, change, notes...)
	}
	var changed *store.Activity
	defer func() { w.queue.restore(tenant, id, changed, w.now()) }()
	a, err := w.changeUntried(ctx, tenant, id, change, notes...)
	if err != nil {
		return store.Activity{}, err
	}
	changed = &a
	return a, nil
}

// changeEnded is Change for an activity that the queue has not let go of yet: its try has ended if it is no longer pending.
func (w *Writer) changeEnded(ctx context.Context, tenant, id string, change func(*store.Activity) error, notes ...store.Note) (store.Activity, error) {
	a, err := w.store.Activity(ctx, tenant, id)
	if err == nil && a.State == store.ActivityPending {
		err = ErrBusy
	}
	if err != nil {
		return store.Activity{}, err
	}
	if a, err = w.changeUntried(ctx, tenant, id, change, notes...); err != nil {
		return store.Activity{}, err
	}
	w.queue.add(tenant, &a, w.now())
	return a, nil
}

// changeUntried changes an activity that this process does not try, unless another one does. What a replica has begun is over when
// another one, or none that lives, has the shard.
func (w *Writer) changeUntried(ctx context.Context, tenant, id string, change func(*store.Activity) error, notes ...store.Note) (store.Activity, error) {
	over := ""
	for {
		var tried store.Activity
		a, err := w.store.UpdateActivity(ctx, tenant, id, func(a *store.Activity) error {
			if a.State == store.ActivityPending && a.Trying != "" && a.Trying != over {
				tried = *a
				return ErrBusy
			}
			a.Trying, a.PendingSince = "", time.Time{}
			return change(a)
		}, notes...)
		if !errors.Is(err, ErrBusy) || tried.Trying == "" {
			return a, err
		}
		names, namesErr := w.store.ClaimOwners(ctx, claimName)
		if namesErr != nil {
			return store.Activity{}, namesErr
		}
		owner := names[shardName(store.ShardOf(tried.Account.Incarnation))]
		if owner != "" && owner != w.store.Replica() {
			return store.Activity{}, err
		}
		over = tried.Trying
	}
}

// Run writes until ctx is done, and returns when the last write has ended: at the latest, when cut is done.
func (w *Writer) Run(ctx, cut context.Context) error {
	defer w.running.Wait()
	w.running.Go(func() { w.share(ctx, cut) })
	if w.store.Shared() {
		w.running.Go(func() { w.tellHolds(ctx) })
		w.running.Go(func() { w.followHolds(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	rounds := time.NewTicker(RoundEvery)
	defer rounds.Stop()
	for {
		w.round.Store(new(time.Now()))
		tickets, wait := w.queue.next(w.now())
		for _, ticket := range tickets {
			w.running.Go(func() { w.writeFirst(ticket) })
		}
		for _, account := range w.queue.takeDelayed() {
			w.running.Go(func() { w.watchAccount(account) })
		}
		if wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.queue.changed:
		case <-w.moved:
		case <-timer.C:
		case <-rounds.C:
		}
	}
}

// SinceRound is how long ago Run looked at the queue last. When that is much more than RoundEvery, it hangs.
func (w *Writer) SinceRound() time.Duration { return time.Since(*w.round.Load()) }

// writeFirst tries the first activity of a ticket, stores how it went, and gives the ticket back.
func (w *Writer) writeFirst(ticket *ticketQueue) {
	defer ticket.shard.tries.Done()
	limit := writeTime
	if ticket.probe {
		limit = probeTime
	}
	ctx, cancel := context.WithTimeout(ticket.shard.ctx, limit)
	defer cancel()
	t := newAttempt(w, ticket)
	ended, err := t.guarded(ctx)
	log := w.log.With("activity_id", t.id, "tenant", t.tenant, "account_id", t.activity.Account.AccountID)
	switch {
	case err == nil:
	case errors.Is(err, store.ErrClaimLost):
		w.lost(ticket.shard)
		return
	case ticket.shard.ctx.Err() != nil:
		return // what happened is looked for after the restart, or by who has the shard now
	case errors.Is(err, errChanged):
		ended = t.anew()
	case errors.Is(err, store.ErrNotFound):
		ended = decision{end: endDone}
	case errors.Is(err, errUnread):
		w.setAside(t.tenant, t.id, t.queued.since, err)
		ended = decision{end: endDone}
	default:
		log.Error("activity could not be stored", "error", err)
		ended = internalError()
	}
	switch ended.end {
	case endBehind:
		w.queue.behind(ticket, t.tenant, &t.earlier, w.now())
	case endDone:
		w.done(log, ticket, t, ended)
	case endFailed:
		w.failed(log, ticket, t, ended)
	}
}

// done gives a ticket back whose activity has left it.
func (w *Writer) done(log *slog.Logger, ticket *ticketQueue, t *attempt, ended decision) {
	a := t.activity
	if w.queue.done(ticket, &a, w.now(), ended.reached) {
		w.log.Info("account's activities go on", "tenant", t.tenant, "account_id", a.Account.AccountID)
	}
	switch {
	case ended.failure != nil:
		f := ended.failure
		log.Error("activity cannot be written", "ticket_id", a.TicketID, "reason", string(f.Reason), "message", f.Message,
			"http_status", f.HTTPStatus, "zendesk_request_id", f.ZendeskRequestID, "attempts", a.Attempts)
	case a.State == store.ActivityWritten && ended.reached:
		log.Info("activity written", "ticket_id", a.TicketID, "audit_id", a.AuditID, "attempts", a.Attempts)
	case a.State == store.ActivityPending && ended.reached:
		log.Info("activity goes to another ticket", "ticket_id", a.TicketID)
	}
}

// failed decides who is to blame for a try that came to nothing, stores that, and gives the ticket back.
func (w *Writer) failed(log *slog.Logger, ticket *ticketQueue, t *attempt, ended decision) {
	f := ended.failure
	v := w.queue.failed(ticket, w.now(), trouble{
		class: ended.class, reason: f.Reason, asked: ended.asked, unsent: ended.unsent, refusals: t.activity.Refusals, account: t.account,
	})
	if v.held {
		w.log.Warn("account's activities are held", "tenant", t.tenant, "account_id", t.activity.Account.AccountID, "reason", string(f.Reason),
			"message", f.Message, "http_status", f.HTTPStatus, "until", v.until)
	}
	isDead := v.culprit == culpritTicket && t.activity.Refusals+1 >= maxRefusals
	err := t.settle(func(a *store.Activity) {
		if !ended.unsent {
			a.Attempts++
		}
		a.NextAttempt, a.Failure = v.until, f
		a.Begun = t.begunAfter(a.Begun)
		a.FieldWaits += ended.waits
		if v.culprit == culpritTicket {
			a.Refusals++
		}
		if isDead {
			a.State, a.NextAttempt = store.ActivityDead, time.Time{}
		}
	})
	switch {
	case errors.Is(err, store.ErrClaimLost):
		w.lost(ticket.shard)
		return
	case err != nil && t.shard.ctx.Err() != nil:
		return
	case errors.Is(err, errChanged):
		if again := t.anew(); again.end == endDone {
			w.done(log, ticket, t, again)
			return
		}
	case err != nil:
		log.Error("activity's failure could not be stored", "error", err)
	}
	if isDead {
		w.done(log, ticket, t, decision{failure: f})
		return
	}
	w.queue.giveBack(ticket, v.until)
	log.Warn("activity waits", "ticket_id", t.activity.TicketID, "reason", string(f.Reason), "message", f.Message, "http_status", f.HTTPStatus,
		"until", v.until, "account_held", v.culprit == culpritAccount)
}
