package intake

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// errBusy says that there was no room.
var errBusy = errors.New("no room")

// Share is what one owner may have of a budget.
type Share struct {
	Owner any // comparable
	Bytes int64
}

// budget is memory that is given out and comes back. Each part is charged to the whole and to its owners' shares: who
// has used up its own share waits for itself, and holds up nobody.
type budget struct {
	size    int64
	waiters int // that an owner may have

	mu      sync.Mutex
	used    int64
	owners  map[any]*owned
	waiting []*claim // in the order in which they came
}

// owned is what an owner has.
type owned struct {
	used    int64
	waiting int
	claims  int // that are granted or waiting
}

// claim is a part of a budget that somebody wants, or has.
type claim struct {
	bytes   int64
	shares  []Share
	granted chan struct{} // closed when it is
}

func newBudget(size int64, waiters int) *budget {
	return &budget{size: size, waiters: waiters, owners: make(map[any]*owned)}
}

// take waits for room for as long as it may, and until ctx is done. Its error is errBusy when there is none, or the cause of
// ctx. Who was given room gives it back once.
func (b *budget) take(ctx context.Context, wait time.Duration, bytes int64, shares ...Share) (give func(), err error) {
	c := &claim{bytes: bytes, shares: shares}
	if err := b.enqueue(c); err != nil {
		return nil, err
	}
	if c.granted != nil {
		ctx, stop := context.WithTimeoutCause(ctx, wait, errBusy)
		defer stop()
		select {
		case <-c.granted:
		case <-ctx.Done():
			if b.abandon(c) {
				return nil, context.Cause(ctx)
			}
		}
	}
	return func() { b.give(c) }, nil
}

// enqueue grants the claim, or makes it wait: then it has a channel.
func (b *budget) enqueue(c *claim) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.bytes > b.size {
		return errBusy
	}
	for _, s := range c.shares {
		if o := b.owners[s.Owner]; c.bytes > s.Bytes || o != nil && o.waiting >= b.waiters {
			return errBusy
		}
	}
	for _, s := range c.shares {
		o := b.owners[s.Owner]
		if o == nil {
			o = &owned{}
			b.owners[s.Owner] = o
		}
		o.claims++
	}
	if b.fits(c) {
		b.charge(c, c.bytes)
		return nil
	}
	b.waits(c, 1)
	c.granted = make(chan struct{})
	b.waiting = append(b.waiting, c)
	return nil
}

func (b *budget) fits(c *claim) bool {
	if b.used+c.bytes > b.size {
		return false
	}
	for _, s := range c.shares {
		if b.owners[s.Owner].used+c.bytes > s.Bytes {
			return false
		}
	}
	return true
}

func (b *budget) charge(c *claim, bytes int64) {
	b.used += bytes
	for _, s := range c.shares {
		b.owners[s.Owner].used += bytes
	}
}

// give takes a claim back, and grants those that fit now, small ones before large ones that do not.
func (b *budget) give(c *claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.charge(c, -c.bytes)
	b.forget(c)
	kept := b.waiting[:0]
	for _, w := range b.waiting {
		if !b.fits(w) {
			kept = append(kept, w)
			continue
		}
		b.charge(w, w.bytes)
		b.waits(w, -1)
		close(w.granted)
	}
	clear(b.waiting[len(kept):])
	b.waiting = kept
}

// abandon ends the wait of a claim. It returns false if that was granted meanwhile.
func (b *budget) abandon(c *claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := slices.Index(b.waiting, c)
	if at < 0 {
		return false
	}
	b.waiting = slices.Delete(b.waiting, at, at+1)
	b.waits(c, -1)
	b.forget(c)
	return true
}

func (b *budget) waits(c *claim, n int) {
	for _, s := range c.shares {
		b.owners[s.Owner].waiting += n
	}
}

// forget drops the owners that have nothing any more.
func (b *budget) forget(c *claim) {
	for _, s := range c.shares {
		o := b.owners[s.Owner]
		if o.claims--; o.claims == 0 {
			delete(b.owners, s.Owner)
		}
	}
}
