package writer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// shareEvery is how often it is looked who writes which shard.
const shareEvery = time.Second

// claimName is what a shard is claimed as, with its number; with its own id a replica claims that it writes.
const claimName = "writer"

// shard is a part of all accounts, whose activities this process writes as long as it has the claim.
type shard struct {
	number int
	claim  *store.Claim

	open    context.Context // done: no try is to begin any more
	leave   context.CancelFunc
	ctx     context.Context // of tries; done: the claim is lost, or writes are cut
	abandon context.CancelFunc

	tries   sync.WaitGroup // counted by the queue
	stopped bool           // guarded by the queue's lock: no try begins
}

// share has this process write its share of the shards until ctx is done, and give back the others. Where the data are this
// process's alone that is all of them.
func (w *Writer) share(ctx, cut context.Context) {
	ticker := time.NewTicker(shareEvery)
	defer ticker.Stop()
	var presence *store.Claim
	defer func() {
		if presence != nil {
			presence.GiveBack()
		}
	}()
	failed := false
	for {
		d, err := w.division(ctx)
		if err == nil && w.store.Shared() && !slices.Contains(d.writers, d.self) {
			if presence != nil {
				presence.GiveBack() // it is lost
			}
			presence, err = w.store.Claim(ctx, claimName, d.self)
		}
		if err == nil {
			err = w.shareOnce(ctx, cut, &d)
		}
		if err != nil && !failed && ctx.Err() == nil {
			w.log.Warn("it could not be looked who writes the activities of which accounts; it is tried again", "error", err)
		}
		failed = err != nil
		if !w.store.Shared() && w.hasAll() {
			return // and keeps them
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *Writer) shareOnce(ctx, cut context.Context, d *division) error {
	claim, giveBack := d.decide()
	for _, number := range giveBack {
		if held := w.held(number); held != nil {
			held.leave()
		}
	}
	claims := make([]*store.Claim, len(claim))
	errs := make([]error, len(claim))
	var claiming sync.WaitGroup
	for i, number := range claim {
		claiming.Go(func() {
			claims[i], errs[i] = w.store.Claim(ctx, claimName, shardName(number))
			if errors.Is(errs[i], store.ErrClaimed) {
				errs[i] = nil // another one was faster
			}
		})
	}
	claiming.Wait()
	for i, number := range claim {
		if claims[i] != nil {
			w.enter(ctx, cut, number, claims[i])
		}
	}
	return errors.Join(errs...)
}

// division is who writes which shard by now. What this process takes for its own and is not, it leaves.
func (w *Writer) division(ctx context.Context) (division, error) {
	d := division{self: w.store.Replica()}
	var held [store.Shards]*shard
	for number := range held {
		held[number] = w.held(number)
	}
	if !w.store.Shared() {
		for number := range held {
			if held[number] != nil {
				d.owners[number] = d.self
			}
		}
		return d, nil
	}
	names, err := w.store.ClaimOwners(ctx, claimName)
	if err != nil {
		return division{}, err
	}
	d.owners = ownersOf(names)
	for _, replica := range w.store.Replicas() {
		d.live = append(d.live, replica.ID)
		if names[replica.ID] == replica.ID {
			d.writers = append(d.writers, replica.ID)
		}
	}
	for number := range held {
		if held[number] != nil && d.owners[number] != d.self {
			w.lost(held[number])
		}
	}
	return d, nil
}

// ownersOf says who has claimed each shard, by the names of claims, whether who has lives or not.
func ownersOf(names map[string]string) (owners [store.Shards]string) {
	for number := range owners {
		owners[number] = names[shardName(number)]
	}
	return owners
}

func shardName(number int) string { return fmt.Sprintf("%02x", number) }

// held is the shard of a number, if this process has it.
func (w *Writer) held(number int) *shard {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shards[number]
}

// hasAll reports whether this process has every shard.
func (w *Writer) hasAll() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.Contains(w.shards[:], nil)
}

// enter begins to write the activities of a shard, until ctx is done.
func (w *Writer) enter(ctx, cut context.Context, number int, claim *store.Claim) {
	s := &shard{number: number, claim: claim}
	s.ctx, s.abandon = context.WithCancel(cut)
	s.open, s.leave = context.WithCancel(ctx)
	context.AfterFunc(s.ctx, s.leave)
	w.mu.Lock()
	w.shards[number] = s
	w.mu.Unlock()
	w.running.Go(func() {
		select {
		case <-claim.Lost():
			w.lost(s)
		case <-s.ctx.Done():
		}
	})
	w.running.Go(func() { w.keep(s) })
}

// keep finds the activities of a shard until it is left, and gives it back when no try of it runs any more.
func (w *Writer) keep(s *shard) {
	w.queue.open(s, w.inherit(s), w.now())
	w.look(s)
	w.queue.stop(s)
	s.tries.Wait()
	w.queue.drop(s)
	s.abandon()
	s.claim.GiveBack()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shards[s.number] == s { // else it has been claimed again since
		w.shards[s.number] = nil
	}
}

// inherit returns which accounts of a shard are held, as far as that is known.
func (w *Writer) inherit(s *shard) map[credentials.Key]store.Hold {
	if !w.store.Shared() {
		return nil
	}
	held := make(map[credentials.Key]store.Hold)
	err := w.store.Holds(s.open, s.number, func(tenant, incarnation string, hold store.Hold) error {
		held[credentials.Key{Tenant: tenant, Incarnation: incarnation}] = hold
		return nil
	})
	if err != nil && s.open.Err() == nil {
		w.log.Warn("which accounts' activities are held could not be read; it is found out again", "error", err)
	}
	return held
}

// lost ends the tries of a shard that another process has taken over. What they have sent, that one finds in Zendesk.
func (w *Writer) lost(s *shard) {
	if s.ctx.Err() == nil {
		w.log.Info("another replica writes the activities of some accounts now", "shard", shardName(s.number))
	}
	s.abandon()
}
