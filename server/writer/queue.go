package writer

import (
	"cmp"
	"container/heap"
	"maps"
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
// is pending, of the shards that are open.
type queue struct {
	mu       sync.Mutex
	shards   [store.Shards]*shard      // that are open, or where tries still run
	known    map[string]*knownActivity // by id, all activities in it
	withheld map[string]bool           // those that a person decides on at this moment
	accounts map[credentials.Key]*accountQueue
	turns    []*accountQueue // all of them, in the order of their turns
	turn     int             // whose it is
	running  map[*ticketQueue]struct{}
	changed  chan struct{}                        // holds a token when there is something to look at
	recent   *cache.Cache[ticketKey, []time.Time] // our writes to a ticket within ticketWindow

	delayed   []delayedAccount               // that are to be watched from now on
	inherited map[credentials.Key]store.Hold // of accounts that nothing is known of yet
	holds     map[credentials.Key]struct{}   // accounts that came to be held, or are so no more, or until another time
	holdsSet  chan struct{}                  // holds a token when there is one in holds

	room func(origin string) int // how many tries more a Zendesk's limit has room for soon; nil: any number
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
	since int64            // of what was added last
	again *waitingActivity // not nil: it has changed while it was tried
}

type accountQueue struct {
	shard   *shard
	use     store.AccountUse
	tickets map[string]*ticketQueue
	idle    ticketHeap // the tickets that may be taken, the next one first
	waiting int        // activities, of all tickets
	running int

	heldBy   store.FailureReason // empty: not held
	until    time.Time
	account  store.Account // as it was when what holds it happened
	etag     string        // that it had then
	failures int           // in a row
	releases int
	proven   bool // something got through since it came, or was held

	left chan struct{} // closed when none of its activities waits any more; nil: nobody has to know

	events   int            // tries that began and failed, counted
	heldAt   int            // the event that holds it
	suspects map[string]int // the tickets that failed since another one got through, with the event
	bad      map[string]bool
}

// delayedAccount is an account of whose activities some have to wait: perhaps for another credential.
type delayedAccount struct {
	credentials.Key
	use   store.AccountUse
	shard *shard
	left  <-chan struct{} // closed when none of its activities waits any more
}

type ticketQueue struct {
	ticketKey
	shard     *shard
	waiting   []waitingActivity // never empty while nobody writes
	notBefore time.Time
	failures  int  // in a row, of the first one
	behinds   int  // in a row
	throttled bool // notBefore is what Zendesk asked for
	place     int  // in the account's heap; -1: not in it

	// Of the try that is under way:
	trying   waitingActivity // its id is empty when there is none
	since    time.Time
	began    int // the account's event
	releases int // of the account before it
	probe    bool
}

type waitingActivity struct {
	ticketKey
	id        string
	since     int64 // when it became pending, or whoever writes it was told to look at it anew: grows with each
	use       store.AccountUse
	place     uint64
	notBefore time.Time
	throttled bool
	delayed   bool // notBefore was in the future when it was added
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
		holds:    make(map[credentials.Key]struct{}), holdsSet: make(chan struct{}, 1), inherited: make(map[credentials.Key]store.Hold),
		recent: cache.New[ticketKey, []time.Time](ticketWindow, now),
	}
}

// signal says that there is something to look at.
func (q *queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// knows tells whether an activity is in the queue as it is since a time, or later.
func (q *queue) knows(id string, since int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	known := q.known[id]
	return known != nil && known.since >= since
}

// tries tells whether a try of an activity is under way here.
func (q *queue) tries(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	ticket := q.ticketOf(id)
	return ticket != nil && ticket.trying.id == id
}

// add puts a pending activity in, whose shard is open. One that is in and has changed since is put in its place anew; while it
// is tried, when that is over.
func (q *queue) add(tenant string, a *store.Activity, now time.Time) {
	if a.State != store.ActivityPending {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := newWaiting(tenant, a, now)
	known := q.known[a.ID]
	switch {
	case known == nil:
		q.insert(waiting)
	case waiting.since <= known.since:
		return
	case q.ticketOf(a.ID).trying.id == a.ID:
		known.since, known.again = waiting.since, &waiting
	default:
		q.replace(waiting)
	}
	q.signal()
}

func newWaiting(tenant string, a *store.Activity, now time.Time) waitingActivity {
	key := ticketKey{credentials.Key{Tenant: tenant, Incarnation: a.Account.Incarnation}, placeOf(a)}
	at := a.NextAttempt
	if latest := now.Add(longestWait); at.After(latest) {
		at = latest
	}
	return waitingActivity{
		ticketKey: key, id: a.ID, since: sinceOf(a), use: a.Account, place: a.Place, notBefore: at,
		throttled: a.Failure != nil && a.Failure.Reason == store.ReasonRateLimited, delayed: at.After(now),
	}
}

// sinceOf is since when an activity is as it is, as [store.PendingActivity] tells it, in microseconds.
func sinceOf(a *store.Activity) int64 {
	if a.PendingSince.IsZero() {
		return a.CreateTime.UnixMicro()
	}
	return a.PendingSince.UnixMicro()
}

// replace puts an activity in its place that may be in another one: at once, if it is the first of its ticket. The lock is held.
func (q *queue) replace(w waitingActivity) {
	if ticket := q.ticketOf(w.id); ticket != nil {
		q.takeOut(ticket, w.id)
		q.settle(ticket)
	}
	q.insert(w)
	if ticket := q.ticketOf(w.id); ticket != nil && ticket.trying.id == "" && ticket.waiting[0].id == w.id {
		ticket.failures, ticket.notBefore = 0, q.allowed(ticket.ticketKey, w.notBefore)
		q.settle(ticket)
	}
}

// insert puts an activity in that is not in, if its shard is open. The lock is held.
func (q *queue) insert(w waitingActivity) {
	shard := q.shards[store.ShardOf(w.account.Incarnation)]
	if shard == nil || shard.stopped {
		return
	}
	q.known[w.id] = &knownActivity{ticketKey: w.ticketKey, since: w.since}
	account := q.accounts[w.account]
	if account == nil {
		account = &accountQueue{
			shard: shard, use: w.use, tickets: make(map[string]*ticketQueue), suspects: make(map[string]int), bad: make(map[string]bool),
		}
		if hold, ok := q.inherited[w.account]; ok {
			account.heldBy, account.until, account.etag, account.failures = hold.Reason, hold.Until, hold.ETag, 1
			delete(q.inherited, w.account)
			q.watch(w.account, account)
		}
		q.accounts[w.account] = account
		q.turns = append(q.turns, account)
	}
	if w.delayed {
		q.watch(w.account, account)
	}
	ticket := account.tickets[w.ticket]
	if ticket == nil {
		ticket = &ticketQueue{ticketKey: w.ticketKey, shard: shard, place: -1, notBefore: q.allowed(w.ticketKey, w.notBefore), throttled: w.throttled}
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
	ready := ticket.trying.id == "" && len(ticket.waiting) > 0 && !q.withheld[ticket.waiting[0].id]
	switch {
	case ready && ticket.place < 0:
		heap.Push(&account.idle, ticket)
	case ready:
		heap.Fix(&account.idle, ticket.place)
	case ticket.place >= 0:
		heap.Remove(&account.idle, ticket.place)
	}
	if ticket.trying.id == "" && len(ticket.waiting) == 0 {
		delete(account.tickets, ticket.ticket)
		delete(account.suspects, ticket.ticket)
		delete(account.bad, ticket.ticket)
	}
	if len(account.tickets) == 0 {
		if account.heldBy != "" {
			q.publish(ticket.account)
		}
		q.remove(ticket.account, account)
	}
}

// remove takes an account out. The lock is held.
func (q *queue) remove(key credentials.Key, account *accountQueue) {
	delete(q.accounts, key)
	at := slices.Index(q.turns, account)
	q.turns = slices.Delete(q.turns, at, at+1)
	if at < q.turn {
		q.turn--
	}
	if account.left != nil {
		close(account.left)
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
			if account.running > running || account.shard.stopped {
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
	account.shard.tries.Add(1)
	q.running[ticket] = struct{}{}
	ticket.trying, ticket.since, ticket.began = ticket.waiting[0], now, account.events
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
	id := ticket.trying.id
	again := q.known[id].again
	q.takeOut(ticket, id)
	if reached {
		if resumed = q.accounts[ticket.account].gotThrough(ticket); resumed {
			q.publish(ticket.account)
		}
		writes, _ := q.recent.Get(ticket.ticketKey)
		writes = slices.DeleteFunc(slices.Clone(writes), func(at time.Time) bool { return now.Sub(at) >= ticketWindow })
		q.recent.Put(ticket.ticketKey, append(writes, now))
	}
	ticket.failures, ticket.behinds = 0, 0
	tenant := ticket.account.Tenant
	q.leave(ticket, q.allowed(ticket.ticketKey, now))
	waiting := newWaiting(tenant, next, now)
	switch {
	case again != nil && again.since > waiting.since: // what it has become since
		q.insert(*again)
	case next.State == store.ActivityPending:
		q.insert(waiting)
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
	q.watch(ticket.account, account)
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
	account.etag = t.account.ETag
	q.publish(ticket.account)
	// The next probe takes another ticket: this one may be what fails.
	v.until = until
	return v
}

// giveBack gives a ticket back whose activity is to be tried again, not before at.
func (q *queue) giveBack(ticket *ticketQueue, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	known := q.known[ticket.trying.id]
	q.leave(ticket, at)
	if known.again != nil {
		q.replace(*known.again)
	}
}

// leave ends what next began. The lock is held.
func (q *queue) leave(ticket *ticketQueue, notBefore time.Time) {
	q.accounts[ticket.account].running--
	delete(q.running, ticket)
	ticket.trying, ticket.notBefore = waitingActivity{}, notBefore
	q.settle(ticket)
	q.signal()
}

// withhold keeps an activity from being tried while a person decides on it; false: a try is under way. restore ends it.
func (q *queue) withhold(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	ticket := q.ticketOf(id)
	if q.withheld[id] || ticket != nil && ticket.trying.id == id {
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
	switch {
	case changed != nil && changed.State == store.ActivityPending:
		q.replace(newWaiting(tenant, changed, now))
	case ticket == nil:
	default:
		if changed != nil {
			q.takeOut(ticket, id)
		}
		q.settle(ticket)
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

// holdToTell is what holds an account, for other replicas.
func (q *queue) holdToTell(key credentials.Key) store.Hold {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[key]
	if account == nil || account.heldBy == "" {
		return store.Hold{}
	}
	return store.Hold{Reason: account.heldBy, Until: account.until, ETag: account.etag}
}

// inheritedWith is the etag that an account had when that happened which holds it, where another replica saw it.
func (q *queue) inheritedWith(key credentials.Key) (etag string, inherited bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	account := q.accounts[key]
	if account == nil || account.heldBy == "" || account.account.Incarnation != "" {
		return "", false
	}
	return account.etag, true
}

// heldWith is how an account was when what holds it happened; zero: it is not held, or nobody knows.
func (q *queue) heldWith(key credentials.Key) store.Account {
	q.mu.Lock()
	defer q.mu.Unlock()
	if account := q.accounts[key]; account != nil && account.heldBy != "" {
		return account.account
	}
	return store.Account{}
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
		if account.heldBy != "" {
			q.publish(key)
		}
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

// watch has an account watched from now on, until none of its activities waits. The lock is held.
func (q *queue) watch(key credentials.Key, account *accountQueue) {
	if account.left == nil {
		account.left = make(chan struct{})
		q.delayed = append(q.delayed, delayedAccount{key, account.use, account.shard, account.left})
		q.signal()
	}
}

// takeDelayed returns the accounts that are to be watched from now on.
func (q *queue) takeDelayed() (accounts []delayedAccount) {
	q.mu.Lock()
	defer q.mu.Unlock()
	accounts, q.delayed = q.delayed, nil
	return accounts
}

// publish notes that what holds an account has changed. The lock is held.
func (q *queue) publish(key credentials.Key) {
	q.holds[key] = struct{}{}
	select {
	case q.holdsSet <- struct{}{}:
	default:
	}
}

// takeHolds returns the accounts for which what holds them has changed.
func (q *queue) takeHolds() []credentials.Key {
	q.mu.Lock()
	defer q.mu.Unlock()
	keys := slices.Collect(maps.Keys(q.holds))
	clear(q.holds)
	return keys
}

// open lets the activities of a shard in. Its accounts begin as they were held by who wrote them before.
func (q *queue) open(s *shard, held map[credentials.Key]store.Hold, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shards[s.number] = s
	for key, hold := range held {
		if latest := now.Add(longestWait); hold.Until.After(latest) {
			hold.Until = latest
		}
		q.inherited[key] = hold
	}
}

// complete tells that all is in the queue that a shard had when it was opened: other accounts are held no more.
func (q *queue) complete(s *shard) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key := range q.inherited {
		if store.ShardOf(key.Incarnation) == s.number {
			delete(q.inherited, key)
			q.publish(key)
		}
	}
}

// stop has no try of a shard begin any more.
func (q *queue) stop(s *shard) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.stopped = true
}

// drop takes a shard out of which no try runs: another process has it now. It is no news for those who are told of holds.
func (q *queue) drop(s *shard) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key, account := range q.accounts {
		if account.shard != s {
			continue
		}
		for _, ticket := range account.tickets {
			delete(q.running, ticket)
			for _, waiting := range ticket.waiting {
				delete(q.known, waiting.id)
			}
		}
		q.remove(key, account)
	}
	q.shards[s.number] = nil
}

// shardOf is the shard of an account, if it is open.
func (q *queue) shardOf(key credentials.Key) *shard {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.shards[store.ShardOf(key.Incarnation)]
}

// of returns the activities of a shard.
func (q *queue) of(s *shard) (ids map[string]credentials.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids = make(map[string]credentials.Key)
	for key, account := range q.accounts {
		if account.shard != s {
			continue
		}
		for _, ticket := range account.tickets {
			for _, waiting := range ticket.waiting {
				ids[waiting.id] = key
			}
		}
	}
	return ids
}

// forget takes an activity out that is not pending any more, unless it is tried: then that finds out.
func (q *queue) forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ticket := q.ticketOf(id); ticket != nil && ticket.trying.id != id && !q.withheld[id] {
		q.takeOut(ticket, id)
		q.settle(ticket)
	}
}
