package limit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sort"
	"sync"
	"time"
)

// Config says how much a Governor takes on.
type Config struct {
	Now         func() time.Time // default time.Now
	MaxInFlight int              // requests of one account and lane under way at a time; default 64
	MaxWaiting  int              // requests of one account and lane that wait; default 1,024
}

// Governor is safe for concurrent use.
type Governor struct {
	config Config

	mu       sync.Mutex
	zendesks map[string]*zendesk // by origin
	peers    int                 // other replicas
	untold   map[*news]struct{}  // what they are to be told
	learned  chan struct{}       // holds a token when there is more of it
}

// New makes a governor that knows nothing yet.
func New(c Config) *Governor {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 64
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = 1024
	}
	return &Governor{
		config: c, zendesks: make(map[string]*zendesk),
		untold: make(map[*news]struct{}), learned: make(chan struct{}, 1),
	}
}

// RefusedError says that a request would wait in vain: longer than its context lasts, or behind too many others.
type RefusedError struct {
	RetryAfter time.Duration // when asking again may be worth it, at least
	Crowded    bool          // too many wait or are under way; else the limit is used up
}

func (e *RefusedError) Error() string {
	if e.Crowded {
		return "too many requests of the account wait"
	}
	return fmt.Sprintf("the limit of requests is used up for %v", e.RetryAfter)
}

// zendesk is the queue of one Zendesk.
type zendesk struct {
	ledger   ledger
	buckets  map[string]*bucket // by endpoint, or by name in a header
	bucketOf map[string]string  // name that an endpoint's answers have told
	lanes    [lanes]queue
	loads    map[loadKey]*load
	refused  map[string]time.Time // endpoints that refuse, and until when
	records  map[record]time.Time // that alone refuse
	news     map[string]*news     // by endpoint, for the other replicas
	timer    *time.Timer
	used     time.Time
}

type record struct{ endpoint, id string }

type loadKey struct {
	account party
	lane    Lane
}

// load is what an account has under way in a lane.
type load struct {
	waiting int
	begun   []time.Time   // of those under way, the oldest first
	takes   time.Duration // how long one takes, of late; 0: none has ended
}

// wait is how long one more of the account waits for the others, at most so many of which are under way at a time.
func (l *load) wait(now time.Time, atMost int) time.Duration {
	if l == nil || len(l.begun) < atMost {
		return 0 // it is the limit that they wait for, if they do
	}
	takes := max(l.takes, now.Sub(l.begun[0]))
	return takes*time.Duration(l.waiting+1)/time.Duration(atMost) + l.takes
}

func (l *load) start(now time.Time) { l.begun = append(l.begun, now) }

func (l *load) end(now, begun time.Time) {
	at := slices.IndexFunc(l.begun, begun.Equal)
	l.begun = slices.Delete(l.begun, at, at+1)
	took := now.Sub(begun)
	if l.takes == 0 {
		l.takes = took
	}
	l.takes += (took - l.takes) / 8
}

// queue holds those that wait in a lane. Tenants take turns, and of a tenant its lines.
type queue struct {
	tenants []*tenantQueue // the next one first
	count   int
}

type tenantQueue struct {
	tenant string
	lines  []*line // the next one first
	count  int
}

// line is of those that wait for the same thing, and so alike.
type line struct {
	account, endpoint, record string
	waiters                   []*waiter
}

type waiter struct {
	request Request
	granted chan *Turn // has room for it
	turn    *Turn      // nil: it waits
}

// Turn is a request that may be sent. Done must be called once, when it has ended, or GiveBack instead.
type Turn struct {
	governor                *Governor
	zendesk                 *zendesk
	bucket                  *bucket
	request                 Request
	begun                   time.Time
	number, recent          int // of the ledger
	probesAll, probesBucket bool
}

// Enter waits until a request may be sent. It returns at once when that will not be before ctx ends. Errors: [*RefusedError],
// also at the end of ctx's time; the cause of ctx, when it ends for another reason.
func (g *Governor) Enter(ctx context.Context, r Request) (*Turn, error) {
	patience := time.Duration(math.MaxInt64)
	if deadline, ok := ctx.Deadline(); ok {
		if patience = time.Until(deadline); patience <= 0 {
			return nil, context.DeadlineExceeded
		}
	}
	g.mu.Lock()
	z := g.zendesk(r.Origin)
	now := g.config.Now()
	z.used = now
	if refused := g.admit(z, r, now, patience); refused != nil {
		g.mu.Unlock()
		return nil, refused
	}
	w := &waiter{request: r, granted: make(chan *Turn, 1)}
	z.push(w)
	g.dispatch(z)
	g.mu.Unlock()
	select {
	case turn := <-w.granted:
		return turn, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.turn != nil {
		return w.turn, nil
	}
	z.remove(w, false)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	// More has come before it than could be foreseen.
	if refused := g.admit(z, r, g.config.Now(), 0); refused != nil {
		return nil, refused
	}
	return nil, &RefusedError{RetryAfter: time.Second}
}

// Refuses tells what Enter would refuse a request with now, of a patience; nil: it would let it wait. It changes nothing.
func (g *Governor) Refuses(r Request, patience time.Duration) *RefusedError {
	g.mu.Lock()
	defer g.mu.Unlock()
	z := g.zendesks[r.Origin]
	if z == nil {
		return nil
	}
	return g.admit(z, r, g.config.Now(), patience)
}

// admit says whether it is worth to wait.
func (g *Governor) admit(z *zendesk, r Request, now time.Time, patience time.Duration) *RefusedError {
	l := z.loads[loadKey{r.account(), r.Lane}]
	wait := l.wait(now, g.config.MaxInFlight)
	waiting := 0
	if l != nil {
		waiting = l.waiting
	}
	if waiting >= g.config.MaxWaiting || wait > patience {
		return &RefusedError{RetryAfter: wholeSeconds(max(wait, time.Second)), Crowded: true}
	}
	at := later(z.ready(now, r), z.ledger.readyForShare(now, r, waiting))
	at = later(at, z.readyThere(now, r))
	if wait := at.Sub(now); wait > patience {
		return &RefusedError{RetryAfter: wholeSeconds(wait)}
	}
	return nil
}

// ready says when the limit of all will have room for one more request that waits.
func (z *zendesk) ready(now time.Time, r Request) time.Time {
	q := &z.lanes[r.Lane]
	own := 0
	if t := q.tenant(r.Tenant); t != nil {
		own = t.count
	}
	// Tenants take turns: of each as many are before it as of its own.
	ahead, earlier := 0, 0
	for _, t := range q.tenants {
		ahead += min(t.count, own+1)
	}
	for before := range r.Lane {
		earlier += z.lanes[before].count
	}
	return z.ledger.ready(now, r.Lane, z.waiting(), ahead, earlier)
}

// readyThere says when the endpoint of a request will have room for it.
func (z *zendesk) readyThere(now time.Time, r Request) time.Time {
	b := z.endpoint(r.Endpoint)
	at := b.ready(now, r.Lane, z.ledger.others(now))
	if r.Record != "" {
		at = later(at, z.records[record{r.Endpoint, r.Record}])
	}
	z.ledger.sent.until(now)
	of := r.endpoint()
	if missing := float64(z.ledger.sent.of[of]+1) - b.shown.limit(now); missing > 0 {
		at = later(at, z.ledger.sent.freed(missing, &of))
	}
	return at
}

func wholeSeconds(d time.Duration) time.Duration { return (d + time.Second - 1).Truncate(time.Second) }

// Room is how many requests more a lane may send to a Zendesk within a time, beside those that wait; at most 64.
func (g *Governor) Room(origin string, lane Lane, within time.Duration) int {
	const most = 64
	g.mu.Lock()
	defer g.mu.Unlock()
	z := g.zendesks[origin]
	if z == nil {
		return most
	}
	now, w := g.config.Now(), z.waiting()
	waiting := w[lane]
	if waiting == 0 {
		w[lane] = 1
	}
	// It is the later, the more are before it.
	return sort.Search(most, func(n int) bool { return z.ledger.ready(now, lane, w, waiting+n, 0).Sub(now) > within })
}

// Done notes what came of a request that was sent, and lets others have their turn.
func (t *Turn) Done(a Answer) {
	g, z, said := t.governor, t.zendesk, read(a.Header)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.config.Now()
	z.end(now, t)
	g.answered(z, now, t, a, said)
	g.dispatch(z)
}

// GiveBack ends a turn whose request was not sent, instead of Done.
func (t *Turn) GiveBack() {
	g, z := t.governor, t.zendesk
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.config.Now()
	z.ledger.sent.takeBack(now, t.begun, t.request)
	z.end(now, t)
	z.ledger.end(t.probesAll)
	g.dispatch(z)
}

// end notes that a request is not under way any more.
func (z *zendesk) end(now time.Time, t *Turn) {
	key := loadKey{t.request.account(), t.request.Lane}
	z.loads[key].end(now, t.begun)
	z.tidy(key)
	t.bucket.done(t.probesBucket)
	z.used = now
}

// answered learns from an answer.
func (g *Governor) answered(z *zendesk, now time.Time, t *Turn, a Answer, s said) {
	endpoint := t.request.Endpoint
	ofAll, ofEndpoint := Notice{Origin: t.request.Origin}, Notice{Origin: t.request.Origin, Endpoint: endpoint}
	ofAll.says(s.account)
	exhausted, least := false, math.MaxInt // a limit of the endpoint's own
	for name, f := range s.buckets {
		z.bucket(name).tell(now, f)
		exhausted = exhausted || f.remaining == 0
		if f.remaining < least {
			least, z.bucketOf[endpoint] = f.remaining, name
			ofEndpoint.says(f)
		}
	}
	refused := false // for the limit of all
	switch {
	case a.throttled():
		until, usedUp := now.Add(a.Pause), a.Status == http.StatusTooManyRequests
		switch {
		case z.blamesAccount(now, endpoint, s, exhausted):
			refused, ofAll.Pause, ofAll.UsedUp = true, a.Pause, usedUp
			for other := range z.refused {
				z.endpoint(other).shown = shown{} // it was blamed for the limit of all
			}
		case !exhausted && z.blamesRecord(now, t.request):
			z.records[record{endpoint, t.request.Record}] = until
		default:
			ofEndpoint.Pause, ofEndpoint.UsedUp = a.Pause, usedUp
			z.refuse(now, endpoint, until, usedUp && !exhausted)
		}
	case a.Status != 0:
		delete(z.refused, endpoint)
		if !now.Before(t.bucket.held) {
			t.bucket.probing = false
		}
	}
	if refused {
		s.account.known = false // how long there is no room its pause says: who sent what others are said to have sent, and when, is not known
	}
	z.ledger.done(now, t, s.account)
	if refused {
		z.ledger.refuse(now, now.Add(ofAll.Pause), ofAll.shows())
	} else {
		z.ledger.taken(now)
	}
	g.tell(z, now, ofAll)
	g.tell(z, now, ofEndpoint)
}

// refuse notes that an endpoint refuses. shows: that its limit is lower than what is believed.
func (z *zendesk) refuse(now time.Time, endpoint string, until time.Time, shows bool) {
	b := z.endpoint(endpoint)
	if shows && !now.Before(b.held) {
		b.shown = showing(now, float64(z.ledger.sent.of[party{endpoint: endpoint}]))
	}
	b.hold(until)
	z.refused[endpoint] = until
}

// maxRecords bounds how many records are known to refuse.
const maxRecords = 1024

// blamesRecord tells whether a refusal may be of the record alone: no other one of the endpoint refuses.
func (z *zendesk) blamesRecord(now time.Time, r Request) bool {
	maps.DeleteFunc(z.records, func(_ record, until time.Time) bool { return !now.Before(until) })
	for other := range z.records {
		if other.endpoint == r.Endpoint && other.id != r.Record {
			return false
		}
	}
	return r.Record != "" && len(z.records) < maxRecords
}

// blamesAccount tells whether a refusal is of the limit of all requests, and not of one endpoint's own.
func (z *zendesk) blamesAccount(now time.Time, endpoint string, s said, exhausted bool) bool {
	switch {
	case s.account.known && s.account.remaining == 0:
		return true
	case exhausted:
		return false
	}
	// Nobody says which. One endpoint that refuses is one; two at a time are all, and so is one at the limit that is believed.
	l := &z.ledger
	if used := float64(l.sent.total) + l.foreign(now); used >= target*l.limit(now) || l.shown.most > 0 && used >= l.shown.most {
		return true
	}
	for other, until := range z.refused {
		if other != endpoint && now.Before(until) {
			return true
		}
	}
	return false
}

func (g *Governor) zendesk(origin string) *zendesk {
	z := g.zendesks[origin]
	if z == nil {
		g.forget()
		z = &zendesk{
			buckets: make(map[string]*bucket), bucketOf: make(map[string]string),
			loads: make(map[loadKey]*load), refused: make(map[string]time.Time),
			records: make(map[record]time.Time), news: make(map[string]*news),
		}
		z.ledger.peers = g.peers
		g.zendesks[origin] = z
	}
	return z
}

// forget drops what was not used for so long that nothing of it counts any more.
func (g *Governor) forget() {
	const enough = 1024
	if len(g.zendesks) < enough {
		return
	}
	now := g.config.Now()
	for origin, z := range g.zendesks {
		if now.Sub(z.used) > 2*window && now.After(z.ledger.heldUntil) && z.ledger.inFlight == 0 && z.waiting() == (waiting{}) {
			delete(g.zendesks, origin)
		}
	}
}

func (z *zendesk) waiting() (w waiting) {
	for lane := range lanes {
		w[lane] = z.lanes[lane].count
	}
	return w
}

func (z *zendesk) endpoint(name string) *bucket {
	if told, ok := z.bucketOf[name]; ok {
		return z.bucket(told)
	}
	return z.bucket("endpoint " + name)
}

func (z *zendesk) bucket(name string) *bucket {
	b := z.buckets[name]
	if b == nil {
		b = new(bucket)
		if len(z.buckets) < maxBuckets {
			z.buckets[name] = b
		}
	}
	return b
}

// dispatch grants turns, and looks again when the next one may be.
func (g *Governor) dispatch(z *zendesk) {
	now := g.config.Now()
	next := time.Time{}
	for lane := range lanes {
		for z.lanes[lane].count > 0 {
			w, at := g.first(z, lane, now)
			if w == nil {
				if !at.IsZero() && (next.IsZero() || at.Before(next)) {
					next = at
				}
				break
			}
			g.grant(z, w, now)
		}
	}
	if z.timer != nil {
		z.timer.Stop()
		z.timer = nil
	}
	if !next.IsZero() {
		z.timer = time.AfterFunc(max(next.Sub(now), time.Millisecond), func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.dispatch(z)
		})
	}
}

func (g *Governor) grant(z *zendesk, w *waiter, now time.Time) {
	r := w.request
	z.remove(w, true)
	z.load(r).start(now)
	b := z.endpoint(r.Endpoint)
	w.turn = &Turn{
		governor: g, zendesk: z, bucket: b, request: r, begun: now,
		probesBucket: b.send(now, r.Lane, z.ledger.others(now)),
	}
	w.turn.number, w.turn.recent, w.turn.probesAll = z.ledger.send(now, r)
	w.granted <- w.turn
}

// first is the next of a lane that may be sent now; if there is none, when there may be one: zero, when an answer decides.
func (g *Governor) first(z *zendesk, lane Lane, now time.Time) (*waiter, time.Time) {
	all := z.ledger.ready(now, lane, z.waiting(), 0, 0)
	if all.After(now) {
		return nil, all
	}
	next := time.Time{}
	for _, t := range z.lanes[lane].tenants {
		for _, l := range t.lines {
			r := l.waiters[0].request
			if len(z.load(r).begun) >= g.config.MaxInFlight {
				continue
			}
			at := later(z.ledger.readyForShare(now, r, 0), z.readyThere(now, r))
			if !at.After(now) {
				return l.waiters[0], now
			}
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
	}
	return nil, next
}

func (z *zendesk) load(r Request) *load {
	key := loadKey{r.account(), r.Lane}
	l := z.loads[key]
	if l == nil {
		l = new(load)
		z.loads[key] = l
	}
	return l
}

// maxLoads is of how many accounts is kept how long their requests take, when none is under way.
const maxLoads = 256

func (z *zendesk) tidy(key loadKey) {
	if l := z.loads[key]; l.waiting == 0 && len(l.begun) == 0 && len(z.loads) > maxLoads {
		delete(z.loads, key)
	}
}

func (z *zendesk) push(w *waiter) {
	z.lanes[w.request.Lane].push(w)
	z.load(w.request).waiting++
}

// remove takes out one that waits. With turn it has had its turn.
func (z *zendesk) remove(w *waiter, turn bool) {
	z.lanes[w.request.Lane].remove(w, turn)
	z.load(w.request).waiting--
}

func (q *queue) tenant(name string) *tenantQueue {
	for _, t := range q.tenants {
		if t.tenant == name {
			return t
		}
	}
	return nil
}

func (t *tenantQueue) line(r Request) *line {
	for _, l := range t.lines {
		if l.account == r.Account && l.endpoint == r.Endpoint && l.record == r.Record {
			return l
		}
	}
	return nil
}

func (q *queue) push(w *waiter) {
	t := q.tenant(w.request.Tenant)
	if t == nil {
		t = &tenantQueue{tenant: w.request.Tenant}
		q.tenants = append(q.tenants, t)
	}
	l := t.line(w.request)
	if l == nil {
		l = &line{account: w.request.Account, endpoint: w.request.Endpoint, record: w.request.Record}
		t.lines = append(t.lines, l)
	}
	l.waiters = append(l.waiters, w)
	t.count++
	q.count++
}

// remove takes out one that waits. With turn it has had its turn: its tenant and its line go behind the others.
func (q *queue) remove(w *waiter, turn bool) {
	t := q.tenant(w.request.Tenant)
	l := t.line(w.request)
	i := slices.Index(l.waiters, w)
	l.waiters = slices.Delete(l.waiters, i, i+1)
	t.count--
	q.count--
	at, of := slices.Index(t.lines, l), slices.Index(q.tenants, t)
	if turn || len(l.waiters) == 0 {
		t.lines = slices.Delete(t.lines, at, at+1)
	}
	if turn && len(l.waiters) > 0 {
		t.lines = append(t.lines, l)
	}
	if turn || t.count == 0 {
		q.tenants = slices.Delete(q.tenants, of, of+1)
	}
	if turn && t.count > 0 {
		q.tenants = append(q.tenants, t)
	}
}

// Limits is what is known of a Zendesk's limit.
type Limits struct {
	PerMinute    int       // 0: not known
	Remaining    int       // requests that may be sent now
	LimitedUntil time.Time // zero: it is not
}

// Limits tells what is known of a Zendesk.
func (g *Governor) Limits(origin string) (l Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if z := g.zendesks[origin]; z != nil {
		l = z.limits(g.config.Now())
	}
	return l
}

// All tells what is known of each Zendesk, by origin.
func (g *Governor) All() map[string]Limits {
	g.mu.Lock()
	defer g.mu.Unlock()
	all, now := make(map[string]Limits, len(g.zendesks)), g.config.Now()
	for origin, z := range g.zendesks {
		all[origin] = z.limits(now)
	}
	return all
}

func (z *zendesk) limits(now time.Time) (l Limits) {
	if limit := z.ledger.limit(now); !math.IsInf(limit, 1) {
		l.PerMinute, l.Remaining = int(limit), max(0, int(z.ledger.remaining(now)))
	}
	if now.Before(z.ledger.heldUntil) {
		l.LimitedUntil = z.ledger.heldUntil
	}
	return l
}
