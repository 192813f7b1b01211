package writer

import (
	"context"
	"errors"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	// lookEvery is how often the queue is compared with all that the store says is pending.
	lookEvery = time.Minute
	// lookMargin is how much further back than the newest that is known it is looked for what has come: clocks of replicas differ,
	// and what was begun before may be committed after.
	lookMargin = 30 * time.Second
	// Looks for what has come rest a while in between, so that looking takes about one part in lookShare of the time at most.
	lookShare             = 4
	lookRest, longestRest = 2 * time.Millisecond, 250 * time.Millisecond
	// lookAgain is after what time it is looked again when it was not possible.
	lookAgain = time.Second
	// parallelLooks is how many shards are looked at as a whole at a time.
	parallelLooks = 4
	// unreadTries is how often an activity is read that cannot be.
	unreadTries = 3
)

// look puts in the queue what is pending of a shard, until the shard is left: all at first and every lookEvery, and what comes when
// the store tells that something has.
func (w *Writer) look(s *shard) {
	tokens, err := w.store.WatchPending(s.open, s.number)
	if err != nil && s.open.Err() == nil {
		w.log.Error("pending activities cannot be watched; they are looked for now and then", "error", err)
	}
	all := time.NewTimer(0)
	defer all.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	var newest time.Time // of what is known
	complete := false
	for {
		var open bool
		since := time.Time{}
		select {
		case <-s.open.Done():
			return
		case <-all.C:
		case _, open = <-tokens:
			if !open {
				tokens = nil // no more come
				continue
			}
			if !newest.IsZero() {
				since = earlier(newest, w.now()).Add(-lookMargin)
			}
		}
		began := time.Now()
		latest, err := w.lookOnce(s, since)
		w.toldOfLooks(s, err)
		if latest.After(newest) {
			newest = latest
		}
		switch {
		case err != nil:
			all.Reset(lookAgain)
		case since.IsZero():
			all.Reset(lookEvery)
			if !complete {
				complete = true
				w.queue.complete(s)
			}
		}
		rest.Reset(restAfter(time.Since(began)))
		select {
		case <-s.open.Done():
			return
		case <-rest.C:
		}
	}
}

// restAfter is how long to rest after a look that took a time.
func restAfter(took time.Duration) time.Duration {
	return min(max(lookRest, (lookShare-1)*took), longestRest)
}

// lookOnce puts in the queue what is pending of a shard since a time; zero: all, and what is pending no more leaves it. It
// returns since when the last one is.
func (w *Writer) lookOnce(s *shard, since time.Time) (newest time.Time, err error) {
	var gone map[string]credentials.Key
	if since.IsZero() {
		select {
		case w.looks <- struct{}{}:
			defer func() { <-w.looks }()
		case <-s.open.Done():
			return time.Time{}, nil
		}
		gone = w.queue.of(s)
	}
	err = w.store.PendingActivities(s.open, s.number, since, func(p store.PendingActivity) error {
		newest = p.Since
		delete(gone, p.ID)
		return w.found(s, p)
	})
	if err != nil {
		return newest, err
	}
	for id, key := range gone {
		a, err := w.store.Activity(s.open, key.Tenant, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && (a.State != store.ActivityPending || a.Account.Incarnation != key.Incarnation) {
			w.queue.forget(id)
		}
	}
	return newest, nil
}

// found puts a pending activity in the queue.
func (w *Writer) found(s *shard, p store.PendingActivity) error {
	since := p.Since.UnixMicro()
	if w.queue.knows(p.ID, since) || w.isSetAside(p.ID, since) {
		return nil
	}
	a, err := w.store.Activity(s.open, p.Tenant, p.ID)
	if err == nil && a.Trying != "" && !w.queue.tries(p.ID) {
		a, err = w.endTrying(s, p.Tenant, a)
	}
	switch {
	case err == nil:
		w.queue.add(p.Tenant, &a, w.now())
	case s.open.Err() != nil:
		return s.open.Err()
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClaimLost):
		return err
	case !errors.Is(err, store.ErrNotFound):
		w.setAside(p.Tenant, p.ID, since, err)
	}
	return nil
}

// endTrying notes that a try is over which the process had begun that wrote the shard's activities before: a person may decide on the
// activity again.
func (w *Writer) endTrying(s *shard, tenant string, was store.Activity) (store.Activity, error) {
	return w.store.UpdateActivity(store.Fenced(s.open, s.claim), tenant, was.ID, func(a *store.Activity) error {
		if a.Trying == was.Trying {
			a.Trying = ""
		}
		return nil
	})
}

// toldOfLooks tells in the log when activities cannot be looked for, once for all shards.
func (w *Writer) toldOfLooks(s *shard, err error) {
	switch {
	case s.open.Err() != nil:
	case errors.Is(err, store.ErrClaimLost):
		w.lost(s)
	case err == nil:
		w.cannotLook.Store(false)
	case !w.cannotLook.Swap(true):
		w.log.Error("pending activities could not be listed; they are looked for again", "error", err)
	}
}

// unread is an activity that cannot be read, as it is since a time.
type unread struct {
	id    string
	since int64
}

// setAside counts that an activity could not be read. It is read again a few times, and then no more: others go on.
func (w *Writer) setAside(tenant, id string, since int64, err error) {
	w.mu.Lock()
	w.unread[unread{id, since}]++
	tries, all := w.unread[unread{id, since}], len(w.unread)
	w.mu.Unlock()
	w.log.Error("activity could not be read, and is set aside", "activity_id", id, "tenant", tenant, "tries", tries, "unreadable_activities", all, "error", err)
}

func (w *Writer) isSetAside(id string, since int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unread[unread{id, since}] >= unreadTries
}

// watchAccount lets the activities of an account be tried at once when its credential has become another one, or when it is gone,
// as long as any of them waits.
func (w *Writer) watchAccount(a delayedAccount) {
	ctx, stop := context.WithCancel(a.shard.open)
	defer stop()
	tokens, err := w.store.WatchAccount(ctx, a.Tenant, a.use.AccountID)
	if err != nil && ctx.Err() == nil {
		w.log.Error("an account cannot be watched; its activities are tried now and then", "tenant", a.Tenant, "account_id", a.use.AccountID, "error", err)
		return
	}
	again := time.NewTimer(0)
	defer again.Stop()
	for first := true; ; {
		select {
		case <-a.left:
			return
		case <-ctx.Done():
			return
		case _, open := <-tokens:
			if !open {
				return
			}
		case <-again.C:
		}
		account, err := w.store.AccountOf(ctx, a.Tenant, a.use)
		etag, inherited := w.queue.inheritedWith(a.Key)
		switch was := w.queue.heldWith(a.Key); {
		case errors.Is(err, store.ErrNotFound):
			w.queue.release(a.Key, true)
		case err != nil:
			again.Reset(lookAgain)
			continue
		case inherited && etag != account.ETag, was.Incarnation == "" && !inherited && !first, was.Incarnation != "" && !credentials.Same(account, was):
			w.queue.release(a.Key, false)
		}
		first = false
	}
}
