package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Swept is what one step of the sweep did.
type Swept struct {
	Looked  int // interactions that were due to be looked at
	Expired int // of those, active ones that were left alone
	Lost    int // of those, the ones that had attached data, which nobody will write now
	Removed int // interactions whose id is forgotten now, and their activity with it
}

func (s *Swept) add(other Swept) {
	s.Looked += other.Looked
	s.Expired += other.Expired
	s.Lost += other.Lost
	s.Removed += other.Removed
}

// Sweep looks at the interactions, of any tenant, that are due: at no more than limit, which is 1 to 256, each in a short
// transaction of its own. When Looked equals limit there may be more.
//
// An interaction that nothing changed for IdleLife is stripped to its state and times, a tombstone; after TombstoneLife it
// is forgotten, and its activity too. One whose activity is pending or dead is kept whole. What cannot be swept is
// reported and stays due; the others are swept all the same.
func (s *Store) Sweep(ctx context.Context, limit int) (Swept, error) {
	now := s.time()
	entries, _, err := s.scan(ctx, kv.Range{Start: duesKey, End: dueKey(now, "", ""), Limit: limit, KeysOnly: true})
	if err != nil {
		return Swept{}, err
	}
	var swept Swept
	var failures []error
	for _, entry := range entries {
		segments, err := kv.Split(entry.Key)
		if err != nil {
			return swept, err
		}
		tenant, hashed := segments[3], segments[4]
		one, err := s.sweepOne(ctx, tenant, hashed, entry.Key, now)
		if ctx.Err() != nil {
			return swept, err
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("interaction of tenant %q with the hashed id %q: %w", tenant, hashed, err))
		}
		swept.add(one)
	}
	return swept, errors.Join(failures...)
}

// sweepOne decides on one interaction. entry is what the index, which has one entry for each, said of it.
func (s *Store) sweepOne(ctx context.Context, tenant, hashed string, entry []byte, now time.Time) (Swept, error) {
	var swept Swept
	err := s.update(ctx, tenant, func(w *writing) error {
		values, err := w.kv.Get(entry)
		if err != nil || values[0] == nil {
			return err // a commit moved it that the engine lost sight of: swept is what that one did
		}
		w.txn.Delete(entry)
		var next time.Time
		if swept, next, err = s.sweep(w, hashed, now); err == nil && !next.IsZero() {
			w.txn.Put(dueKey(next, tenant, hashed), nil)
		}
		return err
	})
	if err != nil {
		return Swept{Looked: 1}, err
	}
	swept.Looked = 1
	return swept, nil
}

// sweep takes one interaction a step on, and returns when to look at it next; zero: never.
func (s *Store) sweep(w *writing, hashed string, now time.Time) (Swept, time.Time, error) {
	t := InteractionTxn{reading: w.reading, hashed: hashed, writing: w}
	if err := t.loadHead(); err != nil || !t.exists {
		return Swept{}, time.Time{}, err
	}
	if end := t.head.UpdateTime.Add(s.idleLife); !t.head.Stripped && end.After(now) {
		return Swept{}, end, nil
	}
	var activity storedActivity
	if t.head.State == InteractionCompleted {
		var err error
		if activity, err = t.activity(t.head.ActivityID); err != nil {
			return Swept{}, time.Time{}, err
		}
	}
	if activity.State == ActivityPending || activity.State == ActivityDead {
		return Swept{}, now.Add(s.idleLife), nil
	}
	all := interactionKey(w.tenant, hashed)
	if t.head.Stripped {
		w.txn.DeleteRange(all, kv.PrefixEnd(all))
		if activity.ID == "" {
			return Swept{Removed: 1}, time.Time{}, nil
		}
		return Swept{Removed: 1}, time.Time{}, w.dropActivity(&activity)
	}
	var swept Swept
	state := t.head.State
	if state == InteractionActive {
		data, err := t.AttachedData()
		if err != nil {
			return Swept{}, time.Time{}, err
		}
		swept.Expired, state = 1, InteractionExpired
		if len(data) > 0 {
			swept.Lost = 1
		}
	}
	w.txn.DeleteRange(all, kv.PrefixEnd(all))
	tombstone := interactionHead{
		ID:         t.head.ID,
		CreateTime: t.head.CreateTime, UpdateTime: t.head.UpdateTime, UpdateID: t.head.UpdateID,
		State: state, ActivityID: t.head.ActivityID, Stripped: true,
	}
	return swept, now.Add(s.tombstoneLife), w.save(headKey(w.tenant, hashed), &tombstone)
}
