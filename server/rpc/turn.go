package rpc

import (
	"container/list"
	"context"
	"sync"

	"google.golang.org/grpc"
)

// Turns share the processors among tenants: of each only so many calls are worked on at a time, and its others wait. A call
// that waits for something else, such as Zendesk, gives its turn up meanwhile: see Aside.
type Turns struct {
	limit int

	mu      sync.Mutex
	tenants map[string]*turnsOfTenant
}

type turnsOfTenant struct {
	taken   int
	waiting list.List // of chan struct{}; those who had a turn before come first
}

// NewTurns makes turns, so many of each tenant.
func NewTurns(limit int) *Turns {
	return &Turns{limit: limit, tenants: make(map[string]*turnsOfTenant)}
}

// take waits for a turn of a tenant until ctx is done. Who had one before comes before those who had none.
func (t *Turns) take(ctx context.Context, tenant string, before bool) error {
	t.mu.Lock()
	of := t.tenants[tenant]
	if of == nil {
		of = new(turnsOfTenant)
		t.tenants[tenant] = of
	}
	if of.taken < t.limit {
		of.taken++
		t.mu.Unlock()
		return nil
	}
	given := make(chan struct{})
	var place *list.Element
	if before {
		place = of.waiting.PushFront(given)
	} else {
		place = of.waiting.PushBack(given)
	}
	t.mu.Unlock()
	select {
	case <-given:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-given: // meanwhile
		return nil
	default:
		of.waiting.Remove(place)
		return context.Cause(ctx)
	}
}

// give gives a turn back: to who waits first.
func (t *Turns) give(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.tenants[tenant]
	if next := of.waiting.Front(); next != nil {
		close(of.waiting.Remove(next).(chan struct{})) //nolint:forcetypeassert // nothing else is in it
		return
	}
	if of.taken--; of.taken == 0 {
		delete(t.tenants, tenant)
	}
}

// turn is that of a call. It is used by the call's goroutine alone.
type turn struct {
	turns  *Turns
	tenant string
	held   bool
}

type turnKey struct{}

// Unary is the interceptor by which unary calls of known callers take turns.
func (t *Turns) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, known := Caller(ctx); !known {
		return handler(ctx, req)
	}
	own := &turn{turns: t, tenant: Tenant(ctx)}
	if err := t.take(ctx, own.tenant, false); err != nil {
		return nil, err
	}
	own.held = true
	defer own.drop()
	return handler(context.WithValue(ctx, turnKey{}, own), req)
}

func (t *turn) drop() {
	if t.held {
		t.held = false
		t.turns.give(t.tenant)
	}
}

// Aside runs what waits for something else than processors, and lets others have the call's turn meanwhile. It is called from
// the call's own goroutine. A call whose time is up goes on without a turn: it still has to answer.
func Aside(ctx context.Context, wait func()) {
	own, ok := ctx.Value(turnKey{}).(*turn)
	if !ok || !own.held {
		wait()
		return
	}
	own.drop()
	defer func() { own.held = ctx.Err() == nil && own.turns.take(ctx, own.tenant, true) == nil }()
	wait()
}
