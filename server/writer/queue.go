package writer

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	// Tries that Zendesk is slow to answer hold nobody else up: after slowTry they count for their account alone.
	parallelWrites = 256
	parallelTries  = 2048 // with the slow ones
	parallelProbes = 32   // of held accounts
	slowTry        = time.Second

	// An account that has not shown yet that it gets through has one.
	parallelAccountWrites = 4

	// A tenant has at most a tenantPart-th of each, so that others' activities do not wait for its many accounts: what a hundred
	// of them need.
	tenantPart = 2

	// Zendesk allows 30 updates of a ticket by one user in 10 minutes; agents' tools may share the user.
	ticketWrites = 25
	ticketWindow = 10 * time.Minute

	// An activity waits for an earlier one of its ticket that the queue heard of after it: at first for a moment, then twice
	// as long each time, since the earlier one may be of another account, which may be held for hours.
	behindTime    = 10 * time.Millisecond
	maxBehindTime = 5 * time.Second

	// roomWait is after what time it is looked again whether a Zendesk's limit has room for a try.
	roomWait = time.Second

	// longestWait bounds what is stored as the time of the next try: by a clock that was wrong then it may be far ahead.
	longestWait = 2 * time.Hour
)

// queue decides which activity is written next. Activities of one ticket go one after the other, in their order; accounts
// take turns. An account that Zendesk gives no answer for, or throttles, or whose credential is refused, is held: when its
// time has come one write probes it, and only when that gets through the others follow. It is a view of what the store says
// is pending.
type queue struct {
	mu       sync.Mutex
	known    map[string]*knownActivity // by id, all activities in it
	withheld map[string]bool           // those that a person decides on at this moment
	accounts map[credentials.Key]*accountQueue
	turns    []*accountQueue // all of them, in the order of their turns
	turn     int             // whose it is
	running  map[*ticketQueue]struct{}
	changed  chan struct{}                        // holds a token when there is something to look at
	recent   *cache.Cache[ticketKey, []time.Time] // our writes to a ticket within ticketWindow
	room     func(origin string) int              // how many tries more a Zendesk's limit has room for soon; nil: any number
}

type ticketKey struct {
	account credentials.Key
	ticket  string // its id; of an activity whose ticket is to be made or chosen, whose it is: see placeOf
}

// placeOf names the ticket that an activity waits for. Those of one requester go one after the other while each is to choose or
// else to make a ticket: the second finds what the first has made.
func placeOf(a *store.Activity) string {
	switch {
	case a.TicketID != "":
		return a.TicketID
	case a.MaxTicketAge > 0 && (a.TicketRule == store.TicketNewestUnsolved || a.TicketRule == store.TicketCreated):
		return "requester " + cmp.Or(a.RequesterID, strings.ToLower(a.Details.Requester.Email), a.ID)
	}
	return a.ID
}

type knownActivity struct {
	ticketKey
	again *waitingActivity // not nil: it was added again
}

type accountQueue struct {
	use     store.AccountUse
	tickets map[string]*ticketQueue
	idle    ticketHeap // the tickets that may be taken, the next one first
	waiting int        // activities, of all tickets
	running int

	heldBy   store.FailureReason // empty: not held
	until    time.Time
	account  store.Account // as it was when what holds it happened
	failures int           // in a row
	releases int
	proven   bool // something got through since it came, or was held

	events   int            // tries that began and failed, counted
	heldAt   int            // the event that holds it
	suspects map[string]int // the tickets that failed since another one got through, with the event
	bad      map[string]bool
}

type ticketQueue struct {
	ticketKey
	waiting   []waitingActivity // never empty while nobody writes
	notBefore time.Time
	failures  int  // in a row, of the first one
	behinds   int  // in a row
	throttled bool // notBefore is what Zendesk asked for
	place     int  // in the account's heap; -1: not in it

	// Of the try that is under way:
	trying   string // the activity; empty: there is none
	since    time.Time
	began    int // the account's event
	releases int // of the account before it
	probe    bool
}

type waitingActivity struct {
	ticketKey
	id        string
	use       store.AccountUse
	place     uint64
	notBefore time.Time
	throttled bool
}

// ticketHeap orders tickets by when they may be written to.
type ticketHeap []*ticketQueue

func (h ticketHeap) Len() int { return len(h) }

func (h ticketHeap) Less(i, j int) bool {
	// Ids are in the order of creation.
	return cmp.Or(h[i].notBefore.Compare(h[j].notBefore), cmp.Compare(h[i].waiting[0].id, h[j].waiting[0].id)) < 0
}

func (h ticketHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *ticketHeap) Push(ticket any) {
	ticket.(*ticketQueue).place = len(*h)
	*h = append(*h, ticket.(*ticketQueue))
}

// Pop implements heap.Interface.
func (h *ticketHeap) Pop() any {
	last := len(*h) - 1
	ticket := (*h)[last]
	ticket.place = -1
	(*h)[last] = nil
	*h = (*h)[:last]
	return ticket
}

func newQueue(now func() time.Time) *queue {
	return &queue{
		known:    make(map[string]*knownActivity),
		withheld: make(map[string]bool),
		accounts: make(map[credentials.Key]*accountQueue),
		running:  make(map[*ticketQueue]struct{}),
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

// has tells whether an activity is in the queue.
func (q *queue) has(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.known[id] != nil
}

// add puts a pending activity in. One that is in already is looked at once more when it has left: it may have become
// pending again between the two. One that is not pending is left out.
func (q *queue) add(tenant string, a *store.Activity, now time.Time) {
	if a.State != store.ActivityPending {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := newWaiting(tenant, a, now)
	if known := q.known[a.ID]; known != nil {
		known.again = &waiting
		return
	}
	q.insert(waiting)
	q.signal()
}

func newWaiting(tenant string, a *store.Activity, now time.Time) waitingActivity {
	key := ticketKey{credentials.Key{Tenant: tenant, Incarnation: a.Account.Incarnation}, placeOf(a)}
	at := a.NextAttempt
	if latest := now.Add(longestWait); at.After(latest) {
		at = latest
	}
	return waitingActivity{key, a.ID, a.Account, a.Place, at, a.Failure != nil && a.Failure.Reason == store.ReasonRateLimited}
}

// insert puts an activity in that is not in. The lock is held.
func (q *queue) insert(w waitingActivity) {
	q.known[w.id] = &knownActivity{ticketKey: w.ticketKey}
	account := q.accounts[w.account]
	if account == nil {
		account = &accountQueue{
			use: w.use, tickets: make(map[string]*ticketQueue), suspects: make(map[string]int), bad: make(map[string]bool),
		}
		q.accounts[w.account] = account
		q.turns = append(q.turns, account)
	}
	ticket := account.tickets[w.ticket]
	if ticket == nil {
		ticket = &ticketQueue{ticketKey: w.ticketKey, place: -1, notBefore: q.allowed(w.ticketKey, w.notBefore), throttled: w.throttled}
		account.tickets[w.ticket] = ticket
	}
	account.waiting++
	at, _ := slices.BinarySearchFunc(ticket.waiting, w, func(a, b waitingActivity) int { return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.id, b.id)) })
	ticket.waiting = slices.Insert(ticket.waiting, at, w)
	q.settle(ticket)
}

// takeOut takes an activity out that is in. It is not always its ticket's first one: an earlier one may have come. The lock is
// held.
func (q *queue) takeOut(ticket *ticketQueue, id string) {
	delete(q.known, id)
	ticket.waiting = slices.DeleteFunc(ticket.waiting, func(w waitingActivity) bool { return w.id == id })
	q.accounts[ticket.account].waiting--
}

// settle puts a ticket where it belongs after a change. The lock is held.
func (q *queue) settle(ticket *ticketQueue) {
	account := q.accounts[ticket.account]
	ready := ticket.trying == "" && len(ticket.waiting) > 0 && !q.withheld[ticket.waiting[0].id]
	switch {
	case ready && ticket.place < 0:
		heap.Push(&account.idle, ticket)
	case ready:
		heap.Fix(&account.idle, ticket.place)
	case ticket.place >= 0:
		heap.Remove(&account.idle, ticket.place)
	}
	if ticket.trying == "" && len(ticket.waiting) == 0 {
		delete(account.tickets, ticket.ticket)
		delete(account.suspects, ticket.ticket)
		delete(account.bad, ticket.ticket)
	}
	if len(account.tickets) > 0 {
		return
	}
	delete(q.accounts, ticket.account)
	at := slices.Index(q.turns, account)
	q.turns = slices.Delete(q.turns, at, at+1)
	if at < q.turn {
		q.turn--
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

// next takes the tickets whose first activity is to be written now. The caller calls one of done, behind and giveBack for
// each. wait is how long until there may be more; 0: until something changes.
func (q *queue) next(now time.Time) (tickets []*ticketQueue, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	sooner := func(at time.Time) {
		if d := max(at.Sub(now), time.Millisecond); wait == 0 || d < wait {
			wait = d
		}
	}
	loads, slowAt := &loads{tenants: make(map[string]load)}, time.Time{}
	for ticket := range q.running {
		slow := ticket.since.Add(slowTry)
		quick := !ticket.probe && slow.After(now)
		loads.add(ticket.account.Tenant, ticket.probe, quick)
		if quick && (slowAt.IsZero() || slow.Before(slowAt)) {
			slowAt = slow
		}
	}
	room := q.newRoom()
	// Each account takes one ticket, before any takes a second one.
	for running := range parallelAccountWrites {
		for range q.turns {
			account := q.turns[q.turn%len(q.turns)]
			q.turn = (q.turn + 1) % len(q.turns)
			if account.running > running {
				continue
			}
			at, ok := account.ready(now)
			if !ok {
				if !at.IsZero() {
					sooner(at)
				}
				continue
			}
			tenant, probe := account.idle[0].account.Tenant, account.heldBy != ""
			switch {
			case !loads.room(tenant, probe):
				if !probe && !slowAt.IsZero() {
					sooner(slowAt)
				}
				continue
			case !probe && !room.take(account.use.URL):
				sooner(now.Add(roomWait))
				continue
			case !probe && slowAt.IsZero():
				slowAt = now.Add(slowTry)
			}
			loads.add(tenant, probe, !probe)
			tickets = append(tickets, q.take(account, now))
		}
	}
	return tickets, wait
}

// load is how many tries run: all, those that Zendesk is not slow to answer, and those that probe.
type load struct{ tries, quick, probes int }

func (l load) with(probe, quick bool) load {
	l.tries++
	if probe {
		l.probes++
	}
	if quick {
		l.quick++
	}
	return l
}

// within tells whether there may be one more, of a part of what there may be in all.
func (l load) within(part int, probe bool) bool {
	if probe {
		return l.tries < parallelTries/part && l.probes < parallelProbes/part
	}
	return l.tries < parallelTries/part && l.quick < parallelWrites/part
}

// loads are those of all, and of each tenant.
type loads struct {
	all     load
	tenants map[string]load
}

func (l *loads) add(tenant string, probe, quick bool) {
	l.all, l.tenants[tenant] = l.all.with(probe, quick), l.tenants[tenant].with(probe, quick)
}

// room tells whether a tenant may begin one more.
func (l *loads) room(tenant string, probe bool) bool {
	return l.all.within(1, probe) && l.tenants[tenant].within(tenantPart, probe)
}

// room is for how many tries more the limits of Zendesks have room, by their addresses.
type room struct {
	of   func(origin string) int
	left map[string]int
}

// newRoom counts what runs. The lock is held.
func (q *queue) newRoom() *room {
	r := &room{q.room, make(map[string]int)}
	for ticket := range q.running {
		origin := q.accounts[ticket.account].use.URL
		if _, ok := r.left[origin]; !ok && r.of != nil {
			r.left[origin] = r.of(origin)
		}
	}
	return r
}

// take takes the room of one try. Where none runs there is room for one: it waits for its turn.
func (r *room) take(origin string) bool {
	if r.of == nil {
		return true
	}
	if _, ok := r.left[origin]; !ok {
		r.left[origin] = max(1, r.of(origin))
	}
	r.left[origin]--
	return r.left[origin] >= 0
}

// take begins a try of an account. The lock is held.
func (q *queue) take(account *accountQueue, now time.Time) *ticketQueue {
	ticket := heap.Pop(&account.idle).(*ticketQueue)
	account.events++
	account.running++
	q.running[ticket] = struct{}{}
	ticket.trying, ticket.since, ticket.began = ticket.waiting[0].id, now, account.events
	ticket.releases, ticket.probe = account.releases, account.heldBy != ""
	return ticket
}

// ready tells whether a ticket of the account may be taken; at is when it may be, zero: when something changes.
func (a *accountQueue) ready(now time.Time) (at time.Time, ok bool) {
	limit := 1
	if a.proven {
		limit = parallelAccountWrites
	}
	switch {
	case a.running >= limit, len(a.idle) == 0:
		return time.Time{}, false
	case a.heldBy != "" && now.Before(a.until):
		return a.until, false
	}
	first := a.idle[0].notBefore
	return first, !now.Before(first)
}

// done gives a ticket back of which the activity that was tried has left the queue: it was written, or never will be.
// reached says that Zendesk took the account's request. resumed tells that a held account goes on with that. next is what
// has become of the activity: when it is still pending, it waits for its new ticket.
func (q *queue) done(ticket *ticketQueue, next *store.Activity, now time.Time, reached bool) (resumed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := ticket.trying
	again := q.known[id].again
	q.takeOut(ticket, id)
	if reached {
		resumed = q.accounts[ticket.account].gotThrough(ticket)
		writes, _ := q.recent.Get(ticket.ticketKey)
		writes = slices.DeleteFunc(slices.Clone(writes), func(at time.Time) bool { return now.Sub(at) >= ticketWindow })
		q.recent.Put(ticket.ticketKey, append(writes, now))
	}
	ticket.failures, ticket.behinds = 0, 0
	tenant := ticket.account.Tenant
	q.leave(ticket, q.allowed(ticket.ticketKey, now))
	switch {
	case next.State == store.ActivityPending:
		q.insert(newWaiting(tenant, next, now))
	case again != nil:
		q.insert(*again)
	}
	return resumed
}

// gotThrough notes that Zendesk took a request of the account. What failed before that request began was not the account's
// fault.
func (a *accountQueue) gotThrough(ticket *ticketQueue) (resumed bool) {
	for suspect, event := range a.suspects {
		if suspect != ticket.ticket && event < ticket.began {
			a.bad[suspect] = true
			delete(a.suspects, suspect)
		}
	}
	delete(a.suspects, ticket.ticket)
	delete(a.bad, ticket.ticket)
	if a.heldBy != "" && a.heldAt > ticket.began {
		return false
	}
	resumed = a.heldBy != ""
	a.heldBy, a.failures, a.account, a.proven = "", 0, store.Account{}, true
	return resumed
}

// behind gives a ticket back whose first activity has to wait for one that was completed before it.
func (q *queue) behind(ticket *ticketQueue, tenant string, earlier *store.Activity, now time.Time) {
	q.add(tenant, earlier, now)
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := min(behindTime<<min(ticket.behinds, 20), maxBehindTime)
	ticket.behinds++
	q.leave(ticket, now.Add(wait))
}

// trouble is a try that came to nothing.
type trouble struct {
	class    class
	reason   store.FailureReason
	asked    time.Duration // how long Zendesk wants to be left alone; 0: it did not say
	unsent   bool          // nothing was sent: the limit has no room for it
	refusals int           // failures before that were surely the ticket's own
	account  store.Account // with the credential that was used
}

// verdict is what a failed try leads to.
type verdict struct {
	culprit culprit
	until   time.Time // of the next try
	held    bool      // the account was not held before
}

// failed decides who is to blame for a try that came to nothing, and holds the account if it is. The ticket stays taken.
func (q *queue) failed(ticket *ticketQueue, now time.Time, t trouble) verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[ticket.account]
	others := len(account.suspects)
	if _, suspected := account.suspects[ticket.ticket]; suspected {
		others--
	}
	if !t.unsent {
		ticket.failures++
	}
	ticket.throttled = t.reason == store.ReasonRateLimited
	account.events++
	v := verdict{culprit: judge(t.class, account.bad[ticket.ticket], others)}
	if t.class == classDoubt && v.culprit != culpritTicket {
		account.suspects[ticket.ticket] = account.events
	}
	if v.culprit != culpritAccount {
		v.until = now.Add(backoff(v.culprit, ticket.failures, t))
		return v
	}
	if ticket.releases != account.releases && (t.reason == store.ReasonCredentialsRejected || t.reason == store.ReasonAccessDenied) {
		// What failed may have used the old credential.
		return verdict{culprit: culpritAccount, until: now}
	}
	v.held = account.heldBy == ""
	// What was under way together fails together: that is one failure.
	if (v.held || !now.Before(account.until)) && !t.unsent {
		account.failures++
	}
	until := now.Add(backoff(v.culprit, account.failures, t))
	if !v.held && account.until.After(until) {
		until = account.until
	}
	account.heldBy, account.until, account.account, account.heldAt, account.proven = t.reason, until, t.account, account.events, false
	// The next probe takes another ticket: this one may be what fails.
	v.until = until
	return v
}

// giveBack gives a ticket back whose activity is to be tried again, not before at.
func (q *queue) giveBack(ticket *ticketQueue, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave(ticket, at)
}

// leave ends what next began. The lock is held.
func (q *queue) leave(ticket *ticketQueue, notBefore time.Time) {
	q.accounts[ticket.account].running--
	delete(q.running, ticket)
	ticket.trying, ticket.notBefore = "", notBefore
	q.settle(ticket)
	q.signal()
}

// withhold keeps an activity from being tried while a person decides on it; false: a try is under way. restore ends it.
func (q *queue) withhold(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	ticket := q.ticketOf(id)
	if q.withheld[id] || ticket != nil && ticket.trying == id {
		return false
	}
	q.withheld[id] = true
	if ticket != nil {
		q.settle(ticket)
	}
	return true
}

// restore puts an activity that was withheld in its place again: as it was, if changed is nil; else as it is now, at once.
func (q *queue) restore(tenant, id string, changed *store.Activity, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.withheld, id)
	ticket := q.ticketOf(id)
	if changed != nil && ticket != nil {
		q.takeOut(ticket, id)
		q.settle(ticket)
	} else if ticket != nil {
		q.settle(ticket)
	}
	if changed != nil && changed.State == store.ActivityPending {
		waiting := newWaiting(tenant, changed, now)
		q.insert(waiting)
		if ticket := q.ticketOf(id); ticket.trying == "" && ticket.waiting[0].id == id {
			ticket.failures, ticket.notBefore = 0, q.allowed(ticket.ticketKey, waiting.notBefore)
			q.settle(ticket)
		}
	}
	q.signal()
}

// ticketOf is the ticket that an activity waits for; nil: it is not in the queue. The lock is held.
func (q *queue) ticketOf(id string) *ticketQueue {
	known := q.known[id]
	if known == nil {
		return nil
	}
	return q.accounts[known.account].tickets[known.ticket]
}

// waitsWith returns which account the activities of a key wait for, and how it was when what holds it happened: zero when it
// is not held. False: none of its activities waits.
func (q *queue) waitsWith(key credentials.Key) (store.AccountUse, store.Account, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[key]
	if account == nil {
		return store.AccountUse{}, store.Account{}, false
	}
	return account.use, account.account, true
}

// release lets an account be tried at once, because its credential has changed. That does not lift a throttle, unless the
// account is gone: then nothing is asked of Zendesk.
func (q *queue) release(key credentials.Key, gone bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[key]
	if account == nil {
		return
	}
	account.releases++
	if account.heldBy != store.ReasonRateLimited || gone {
		account.until, account.failures = time.Time{}, 0
	}
	// Tickets that were tried meanwhile, or before a restart, wait for the hold and for nothing else.
	for _, ticket := range account.idle {
		if gone || !ticket.throttled && !account.bad[ticket.ticket] {
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

// backlog says what waits of an account's activities.
func (q *queue) backlog(key credentials.Key) Backlog {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[key]
	if account == nil {
		return Backlog{}
	}
	return Backlog{Pending: account.waiting, HeldBy: account.heldBy}
}
