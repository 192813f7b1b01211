package rpc

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	// turnPeriod is short, so that work which exceeds a share comes in small portions, and long enough for the calls of one
	// to share a commit.
	turnPeriod = 20 * time.Millisecond
	// A tenant saves up the share of so many periods, and owes no more than that of so many.
	turnSavings = 50
	turnDebts   = 25
	// othersCall is how long a call of another tenant counts.
	othersCall = time.Second
)

// Turns share the processors among tenants: of each only so many calls are worked on at a time, and its others wait. While
// other tenants call, too, one that has many calls at a time gets no more than a share of the time. A call that waits for
// something else gives its turn up meanwhile: for a commit of the store, and what is told to Aside.
type Turns struct {
	limit int           // more than there are processors, since reading the store may be waiting for a disk
	begun int           // calls of a tenant that may be in the works: more would only make each take longer
	few   int           // calls of a tenant at a time are no burden to others
	share time.Duration // of each period

	mu      sync.Mutex
	tenants map[string]*turnsOfTenant
	swept   time.Time
	callers [2]lastCall // of two tenants, the last first
}

type lastCall struct {
	tenant string
	at     time.Time
}

type turnsOfTenant struct {
	calls       int // but those that wait for something else than the processors and commits
	taken       int
	again, anew list.List // of chan struct{}: who had a turn before, and who come after them, each the oldest first
	meter       meter
	timer       *time.Timer // that waits for the next period; nil: none does
}

// NewTurns makes turns for so many processors. Beside others a tenant that has many calls at a time gets a percentage of the
// processors' time; 0: no limit.
func NewTurns(processors, percent int) *Turns {
	t := &Turns{limit: max(8, 4*processors), begun: max(128, 64*processors), few: max(4, 2*processors), tenants: make(map[string]*turnsOfTenant)}
	if percent > 0 && percent < 100 {
		t.share = turnPeriod * time.Duration(processors*percent) / 100
	}
	return t
}

// meter counts how long a tenant's calls were worked on.
type meter struct {
	used   time.Duration // below 0: saved
	period time.Time     // that it has counted for
}

// left tells, at a time, whether something of the share is left; and when the next period begins.
func (m *meter) left(now time.Time, share time.Duration) (ok bool, next time.Time) {
	begun := now.Truncate(turnPeriod)
	if passed := begun.Sub(m.period) / turnPeriod; passed > 0 {
		m.used = min(m.used, turnDebts*share) - min(passed, 2*turnSavings)*share
		m.used, m.period = max(m.used, -turnSavings*share), begun
	}
	return m.used < share, begun.Add(turnPeriod)
}

// take waits for a turn of a tenant until ctx is done. Who had one before comes before those who had none, and those leave
// early enough to be told so.
func (t *Turns) take(ctx context.Context, tenant string, before bool) error {
	given, leave := t.enter(tenant, before)
	if given == nil {
		return nil
	}
	if !before {
		inTime, cancel := refuseInTime(ctx)
		defer cancel()
		ctx = inTime
	}
	select {
	case <-given:
		return nil
	case <-ctx.Done():
	}
	if !leave() {
		return nil // given meanwhile
	}
	return context.Cause(ctx)
}

// count counts a call of a tenant, or that it counts no more.
func (t *Turns) count(tenant string, calls int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.tenants[tenant]
	if of == nil {
		t.sweep(time.Now())
		of = new(turnsOfTenant)
		t.tenants[tenant] = of
	}
	of.calls += calls
	if calls < 0 {
		t.grant(tenant, of, time.Now())
	}
}

// enter takes a turn, or a place among those who wait: given is closed when there is one. Leave is false once it is.
func (t *Turns) enter(tenant string, before bool) (given chan struct{}, leave func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.callers[0].tenant != tenant {
		t.callers[1] = t.callers[0]
	}
	t.callers[0] = lastCall{tenant, now}
	of := t.tenants[tenant]
	waiting := &of.anew
	if before {
		waiting = &of.again
	}
	if waiting.Len() == 0 && t.free(tenant, of, !before, 1, now) {
		of.taken++
		return nil, nil
	}
	given = make(chan struct{})
	place := waiting.PushBack(given)
	t.grant(tenant, of, now)
	leave = func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		select {
		case <-given:
			return false
		default:
			waiting.Remove(place)
			return true
		}
	}
	select {
	case <-given:
		return nil, nil
	default:
		return given, leave
	}
}

// takeFree takes a turn if one is free for who had one before, and nobody waits for it.
func (t *Turns) takeFree(tenant string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.tenants[tenant]
	if of.again.Len() > 0 || of.taken >= t.limit {
		return false
	}
	of.taken++
	return true
}

// sweep forgets tenants that have saved all they may.
func (t *Turns) sweep(now time.Time) {
	if now.Sub(t.swept) < time.Second {
		return
	}
	t.swept = now
	for tenant, of := range t.tenants {
		if of.calls == 0 && of.taken == 0 && now.Sub(of.meter.period) > 2*turnSavings*turnPeriod {
			delete(t.tenants, tenant)
		}
	}
}

// grant gives the turns that a tenant may have: to who waits first.
func (t *Turns) grant(tenant string, of *turnsOfTenant, now time.Time) {
	for {
		waiting := &of.again
		if waiting.Len() == 0 {
			waiting = &of.anew
		}
		if waiting.Len() == 0 || !t.free(tenant, of, waiting == &of.anew, of.anew.Len(), now) {
			return
		}
		of.taken++
		close(waiting.Remove(waiting.Front()).(chan struct{})) //nolint:forcetypeassert // nothing else is in it
	}
}

// free tells whether a tenant may have one more turn, of whom so many wait to come anew. The share bounds those: what was begun
// is ended. When it is used up, the turn is granted in the next period.
func (t *Turns) free(tenant string, of *turnsOfTenant, anew bool, waiting int, now time.Time) bool {
	if of.taken >= t.limit || anew && of.calls-waiting >= t.begun {
		return false
	}
	if anew && t.share > 0 && of.calls > t.few && t.othersCall(tenant, now) {
		if ok, next := of.meter.left(now, t.share); !ok {
			t.grantAt(next, tenant, of)
			return false
		}
	}
	return true
}

func (t *Turns) grantAt(at time.Time, tenant string, of *turnsOfTenant) {
	if of.timer != nil {
		return
	}
	of.timer = time.AfterFunc(time.Until(at), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		of.timer = nil
		t.grant(tenant, of, time.Now())
	})
}

// othersCall tells whether other tenants have called of late.
func (t *Turns) othersCall(tenant string, now time.Time) bool {
	other := t.callers[0]
	if other.tenant == tenant {
		other = t.callers[1]
	}
	return now.Sub(other.at) < othersCall
}

// give gives a turn back, after so long.
func (t *Turns) give(tenant string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	of := t.tenants[tenant]
	of.meter.left(now, t.share)
	of.meter.used += took
	of.taken--
	t.grant(tenant, of, now)
}

// turn is that of a call.
type turn struct {
	turns  *Turns
	tenant string

	mu          sync.Mutex
	held, ended bool
	since       time.Time // it is held
}

type turnKey struct{}

// Unary is the interceptor by which unary calls of known callers take turns. A call that gets none in time is refused.
func (t *Turns) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, known := Caller(ctx); !known {
		return handler(ctx, req)
	}
	own := &turn{turns: t, tenant: Tenant(ctx)}
	t.count(own.tenant, 1)
	defer t.count(own.tenant, -1)
	err := t.take(ctx, own.tenant, false)
	switch {
	case err != nil && ctx.Err() == nil:
		return nil, errBusy(own.tenant)
	case err != nil:
		return nil, err
	}
	own.held, own.since = true, time.Now()
	defer own.end()
	ctx = context.WithValue(ctx, turnKey{}, own)
	return handler(store.WithWait(ctx, func(wait func()) { own.around(wait) }), req)
}

// busyRetry is when there may be fewer calls.
const busyRetry = time.Second

func errBusy(tenant string) error {
	return &Error{
		Reason:     zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_CALLS,
		Message:    fmt.Sprintf("tenant %q has more calls waiting than can be worked on in time", tenant),
		Metadata:   map[string]string{"tenant": tenant},
		RetryAfter: busyRetry,
	}
}

// drop gives the turn up, and tells whether there was one.
func (t *turn) drop() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.giveUp()
}

func (t *turn) giveUp() bool {
	if !t.held {
		return false
	}
	t.held = false
	t.turns.give(t.tenant, time.Since(t.since))
	return true
}

func (t *turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveUp()
	t.ended = true
}

// resume takes a turn again. A call whose time is up goes on without: it still has to answer.
func (t *turn) resume(ctx context.Context) {
	if ctx.Err() != nil || t.turns.take(ctx, t.tenant, true) != nil {
		return
	}
	t.holdAgain()
}

func (t *turn) holdAgain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held || t.ended { // what works on for the call has come back after it
		t.turns.give(t.tenant, 0)
		return
	}
	t.held, t.since = true, time.Now()
}

// around lets others have the turn during the wait for a commit. What a call does after it is little: it is done without a
// turn where none is free, rather than after another wait.
func (t *turn) around(wait func()) {
	dropped := t.drop()
	wait()
	if dropped && t.turns.takeFree(t.tenant) {
		t.holdAgain()
	}
}

// Aside runs what waits for something else than processors, and lets others have the call's turn meanwhile.
func Aside(ctx context.Context, wait func()) {
	own, ok := ctx.Value(turnKey{}).(*turn)
	if !ok || !own.drop() {
		wait()
		return
	}
	own.turns.count(own.tenant, -1)
	defer func() {
		own.turns.count(own.tenant, 1)
		own.resume(ctx)
	}()
	wait()
}
