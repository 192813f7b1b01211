package zendeskapi

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// flights are the reads that run, so that who asks the same meanwhile gets the same answer. The zero value has none.
type flights struct {
	mu     sync.Mutex
	flying map[flightKey]*flight
}

// flightKey tells what is asked, and as whom: an answer is for nobody else.
type flightKey struct {
	origin     string
	account    string
	credential string
	lane       limit.Lane
	what       string // the operation with all that it asks for
}

// flight is a read that runs. It has the time of the most patient of those who wait for it, and ends with the last of them.
type flight struct {
	done  chan struct{}
	value any
	err   error

	budget budget
	ctx    *flightContext
	drop   func(any)

	// Guarded by flights.mu.
	waiters int
	ended   bool
}

// sharedRead is a read that may be shared. What it returns is not changed.
type sharedRead[T any] struct {
	read   func(context.Context, *budget) (T, error)
	take   func(T) T            // makes of what was read the part of one who waited; nil: it is the same for all
	drop   func(T)              // is called when nobody can take any more; nil: nothing
	gaveUp func(sent int) error // is the error of who waited in vain, while others still wait; so much was sent
	joined func()               // is called for who waits for a read that runs already; nil: nothing
}

// readOnce shares a read of an operation with those who ask for the same as the same account, with the same credential and
// in the same lane. Each gets an error of its own.
func readOnce[T any](ctx context.Context, c *Client, op, what string, s sharedRead[T]) (T, error) {
	key := flightKey{
		origin: c.origin, account: fmt.Sprintf("%q %q", c.tenant, c.account), credential: c.credential.identity(), lane: c.lane,
		what: op + " " + what,
	}
	s.gaveUp = func(sent int) error {
		e := connectionError(ctx, ctx.Err(), phaseWaiting)
		e.Op, e.Attempts = op, sent
		return e
	}
	s.joined = func() { c.transport.observer.Shared(op) }
	value, err := share(ctx, &c.transport.flights, key, s)
	if failed, ok := err.(*Error); ok { //nolint:errorlint // it is never wrapped
		own := *failed
		err = &own
	}
	return value, err
}

// share runs a read, or waits for one of the same key that runs. Each waits no longer than its own ctx lasts.
func share[T any](ctx context.Context, all *flights, key flightKey, s sharedRead[T]) (T, error) {
	f, joined := all.join(ctx, key,
		func(ctx context.Context, b *budget) (any, error) { return s.read(ctx, b) },
		func(value any) {
			if v, ok := value.(T); ok && s.drop != nil {
				s.drop(v)
			}
		})
	if joined && s.joined != nil {
		s.joined()
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		if !all.abandon(ctx, key, f) {
			var none T
			return none, s.gaveUp(int(f.budget.sent.Load()))
		}
		<-f.done // it ends with its last waiter, and tells what it was at
	}
	defer all.leave(f)
	if p, ok := f.err.(*flightPanic); ok { //nolint:errorlint // it is never wrapped
		panic(p) //nolint:forbidigo // goes on with what the goroutine began
	}
	value, _ := f.value.(T)
	if f.err == nil && s.take != nil {
		value = s.take(value)
	}
	return value, f.err
}

// flightPanic is a panic of a read, which goes on in those who wait: in a goroutine of ours it would end the process.
type flightPanic struct {
	value any
	stack []byte
}

func (p *flightPanic) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func (a *flights) join(ctx context.Context, key flightKey, read func(context.Context, *budget) (any, error), drop func(any)) (f *flight, joined bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.flying[key]; f != nil && f.ctx.extend(ctx) {
		f.waiters++
		return f, true
	}
	f = &flight{done: make(chan struct{}), waiters: 1, drop: drop, ctx: newFlightContext(ctx)}
	if a.flying == nil {
		a.flying = make(map[flightKey]*flight)
	}
	a.flying[key] = f
	go func() {
		defer func() {
			if p := recover(); p != nil {
				f.err = &flightPanic{p, debug.Stack()}
			}
			f.ctx.end(context.Canceled)
			a.mu.Lock()
			defer a.mu.Unlock()
			a.remove(key, f)
			f.ended = true
			close(f.done)
		}()
		f.value, f.err = read(f.ctx, &f.budget)
	}()
	return f, false
}

// abandon is for who waits no longer. It ends the read and returns true, if there is nobody else.
func (a *flights) abandon(ctx context.Context, key flightKey, f *flight) (last bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.ended {
		return true
	}
	if f.waiters > 1 {
		f.waiters--
		return false
	}
	a.remove(key, f) // the next one begins anew
	f.ctx.end(ctx.Err())
	return true
}

// leave is for who has what was read.
func (a *flights) leave(f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.drop(f.value)
	}
}

// remove lets nobody join any more. The lock is held.
func (a *flights) remove(key flightKey, f *flight) {
	if a.flying[key] == f {
		delete(a.flying, key)
	}
}

// flightContext has the deadline of the most patient of those who wait. It ends with the last of them, not by itself.
type flightContext struct {
	context.Context // for its values

	mu       sync.Mutex
	deadline time.Time // zero: one of them has none
	ended    chan struct{}
	err      error
}

func newFlightContext(first context.Context) *flightContext {
	c := &flightContext{Context: context.WithoutCancel(first), ended: make(chan struct{})}
	c.deadline, _ = first.Deadline()
	return c
}

// extend gives the read the time of one more who waits. It is false when the read's time is over.
func (c *flightContext) extend(by context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline, ok := by.Deadline()
	switch {
	case c.err != nil:
		return false
	case c.deadline.IsZero():
	case !ok:
		c.deadline = time.Time{}
	case deadline.After(c.deadline):
		c.deadline = deadline
	}
	return true
}

// end ends the context, once.
func (c *flightContext) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.ended)
	}
}

// Deadline implements context.Context.
func (c *flightContext) Deadline() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline, !c.deadline.IsZero()
}

// Done implements context.Context.
func (c *flightContext) Done() <-chan struct{} { return c.ended }

// Err implements context.Context.
func (c *flightContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
