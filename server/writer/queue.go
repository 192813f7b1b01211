package writer

import (
	"cmp"
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	parallelWrites        = 16 // of all accounts together
	parallelAccountWrites = 4

	// Zendesk allows 30 updates of a ticket by one user in 10 minutes; agents' tools may share the user.
	ticketWrites = 25
	ticketWindow = 10 * time.Minute

	// An activity waits for an earlier one of its ticket that the queue heard of after it: at first for a moment, then twice
	// as long each time, since the earlier one may be of another account, which may be held for hours.
	behindTime    = 10 * time.Millisecond
	maxBehindTime = 5 * time.Second
)

// queue decides which activity is written next. Activities of one ticket go one after the other, in their order. An
// account that Zendesk gives no answer for, or throttles, or whose credential is refused, is held: when its time has come
// one write probes it, and only when that gets through the others follow. It is a view of what the store says is pending.
type queue struct {
	mu       sync.Mutex
	known    map[string]*waitingActivity // by id, all activities in it; not nil: it was added again
	accounts map[credentials.Key]*accountQueue
	running  int
	changed  chan struct{}                        // holds a token when there is something to look at
	recent   *cache.Cache[ticketKey, []time.Time] // our writes to a ticket within ticketWindow
}

type ticketKey struct {
	account credentials.Key
	ticket  string // its id; of an activity whose ticket is to be made, the activity's
}

type accountQueue struct {
	tickets map[string]*ticketQueue
	idle    ticketHeap // the tickets that nobody writes to, the next one first
	running int

	heldBy   store.FailureReason // empty: not held
	until    time.Time
	failures int // in a row
	releases int
}

type ticketQueue struct {
	ticketKey
	releases  int               // of the account, when the ticket was taken
	waiting   []waitingActivity // never empty while nobody writes
	notBefore time.Time
	failures  int // in a row, of the first one
	behinds   int // in a row
}

type waitingActivity struct {
	ticketKey
	id        string
	place     uint64
	notBefore time.Time
}

// ticketHeap orders tickets by when they may be written to.
type ticketHeap []*ticketQueue

func (h ticketHeap) Len() int { return len(h) }

func (h ticketHeap) Less(i, j int) bool {
	// Ids are in the order of creation.
	return cmp.Or(h[i].notBefore.Compare(h[j].notBefore), cmp.Compare(h[i].waiting[0].id, h[j].waiting[0].id)) < 0
}

func (h ticketHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *ticketHeap) Push(ticket any) { *h = append(*h, ticket.(*ticketQueue)) }

// Pop implements heap.Interface.
func (h *ticketHeap) Pop() any {
	last := len(*h) - 1
	ticket := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return ticket
}

func newQueue(now func() time.Time) *queue {
	return &queue{
		known:    make(map[string]*waitingActivity),
		accounts: make(map[credentials.Key]*accountQueue),
		changed:  make(chan struct{}, 1),
		recent:   cache.New[ticketKey, []time.Time](ticketWindow, now),
	}
}

// signal says that there is something to look at.
func (q *queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// add puts a pending activity in. One that is in already is looked at once more when it has left: it may have become
// pending again between the two. One that is not pending is left out.
func (q *queue) add(tenant string, a *store.Activity) {
	if a.State != store.ActivityPending {
		return
	}
	ticket := a.TicketID
	if ticket == "" {
		ticket = a.ID
	}
	waiting := waitingActivity{ticketKey{credentials.Key{Tenant: tenant, Incarnation: a.Account.Incarnation}, ticket}, a.ID, a.Place, a.NextAttempt}
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, known := q.known[a.ID]; known {
		q.known[a.ID] = &waiting
		return
	}
	q.insert(waiting)
	q.signal()
}

// insert puts an activity in that is not in. The lock is held.
func (q *queue) insert(w waitingActivity) {
	q.known[w.id] = nil
	account := q.accounts[w.account]
	if account == nil {
		account = &accountQueue{tickets: make(map[string]*ticketQueue)}
		q.accounts[w.account] = account
	}
	ticket := account.tickets[w.ticket]
	if ticket == nil {
		ticket = &ticketQueue{ticketKey: w.ticketKey, waiting: []waitingActivity{w}, notBefore: q.allowed(w.ticketKey, w.notBefore)}
		account.tickets[w.ticket] = ticket
		heap.Push(&account.idle, ticket)
		return
	}
	at, _ := slices.BinarySearchFunc(ticket.waiting, w.place, func(w waitingActivity, place uint64) int { return cmp.Compare(w.place, place) })
	ticket.waiting = slices.Insert(ticket.waiting, at, w)
	if at == 0 {
		heap.Init(&account.idle) // tickets are ordered by their first one
	}
}

// allowed returns when a ticket may be written to, as it has been written to lately; not before at.
func (q *queue) allowed(key ticketKey, at time.Time) time.Time {
	if writes, _ := q.recent.Get(key); len(writes) >= ticketWrites {
		if free := writes[len(writes)-ticketWrites].Add(ticketWindow); free.After(at) {
			return free
		}
	}
	return at
}

// next takes the tickets whose first activity is to be written now. The caller calls one of done, behind, delay and
// holdAccount for each. wait is how long until there may be more; 0: until something changes.
func (q *queue) next(now time.Time) (tickets []*ticketQueue, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	sooner := func(at time.Time) {
		if d := max(at.Sub(now), time.Millisecond); wait == 0 || d < wait {
			wait = d
		}
	}
	for _, account := range q.accounts {
		limit := parallelAccountWrites
		if account.heldBy != "" {
			limit = 1
			if now.Before(account.until) {
				sooner(account.until)
				continue
			}
		}
		for account.running < limit && q.running < parallelWrites && len(account.idle) > 0 {
			if first := account.idle[0]; now.Before(first.notBefore) {
				sooner(first.notBefore)
				break
			}
			ticket := heap.Pop(&account.idle).(*ticketQueue)
			ticket.releases = account.releases
			tickets = append(tickets, ticket)
			account.running++
			q.running++
		}
	}
	return tickets, wait
}

// first is the activity of a taken ticket that is to be written.
func (q *queue) first(ticket *ticketQueue) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return ticket.waiting[0].id
}

// done gives a ticket back of which an activity has left the queue: it was written, or never will be. reached says that
// Zendesk took the account's request, so that a held account is held no more.
func (q *queue) done(ticket *ticketQueue, id string, now time.Time, reached bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	again := q.known[id]
	delete(q.known, id)
	// Not always the first one any more: an earlier one may have come meanwhile.
	ticket.waiting = slices.DeleteFunc(ticket.waiting, func(w waitingActivity) bool { return w.id == id })
	if reached {
		account := q.accounts[ticket.account]
		account.heldBy, account.failures = "", 0
		writes, _ := q.recent.Get(ticket.ticketKey)
		writes = slices.DeleteFunc(slices.Clone(writes), func(at time.Time) bool { return now.Sub(at) >= ticketWindow })
		q.recent.Put(ticket.ticketKey, append(writes, now))
	}
	ticket.failures, ticket.behinds, ticket.notBefore = 0, 0, q.allowed(ticket.ticketKey, now)
	q.giveBack(ticket)
	if again != nil {
		q.insert(*again)
	}
}

// behind gives a ticket back whose first activity has to wait for one that was completed before it.
func (q *queue) behind(ticket *ticketQueue, tenant string, earlier *store.Activity, now time.Time) {
	q.add(tenant, earlier)
	q.mu.Lock()
	defer q.mu.Unlock()
	ticket.notBefore = now.Add(min(behindTime<<min(ticket.behinds, 20), maxBehindTime))
	ticket.behinds++
	q.giveBack(ticket)
}

// delay gives a ticket back whose first activity is to be tried again later.
func (q *queue) delay(ticket *ticketQueue, now time.Time, backoff func(failures int) time.Duration) (until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ticket.failures++
	ticket.notBefore = now.Add(backoff(ticket.failures))
	q.giveBack(ticket)
	return ticket.notBefore
}

// holdAccount gives a ticket back and holds its whole account, unless that was released meanwhile: what failed may have used
// the old credential.
func (q *queue) holdAccount(ticket *ticketQueue, now time.Time, reason store.FailureReason, backoff func(failures int) time.Duration) (until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[ticket.account]
	if ticket.releases != account.releases {
		ticket.notBefore = now
		q.giveBack(ticket)
		return now
	}
	// What was under way together fails together: that is one failure.
	if account.heldBy == "" || !now.Before(account.until) {
		account.failures++
	}
	account.heldBy, account.until = reason, now.Add(backoff(account.failures))
	// The next probe takes another ticket: this one may be what fails.
	ticket.notBefore = account.until
	q.giveBack(ticket)
	return account.until
}

// giveBack ends what next began. The lock is held.
func (q *queue) giveBack(ticket *ticketQueue) {
	account := q.accounts[ticket.account]
	account.running--
	q.running--
	if len(ticket.waiting) > 0 {
		heap.Push(&account.idle, ticket)
	} else {
		delete(account.tickets, ticket.ticket)
	}
	if len(account.tickets) == 0 {
		delete(q.accounts, ticket.account)
	}
	q.signal()
}

// release lets an account be tried at once: its credential has changed.
func (q *queue) release(key credentials.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[key]
	if account == nil {
		return
	}
	account.until, account.failures = time.Time{}, 0
	account.releases++
	// Tickets that were tried meanwhile, or before a restart, wait for the hold and for nothing else.
	for _, ticket := range account.idle {
		if ticket.failures == 0 {
			ticket.notBefore = q.allowed(ticket.ticketKey, time.Time{})
		}
	}
	heap.Init(&account.idle)
	q.signal()
}

// hold says what an activity's account waits for; empty when it is not held.
func (q *queue) hold(tenant, incarnation string) (store.FailureReason, time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[credentials.Key{Tenant: tenant, Incarnation: incarnation}]
	if account == nil || account.heldBy == "" {
		return "", time.Time{}
	}
	return account.heldBy, account.until
}
