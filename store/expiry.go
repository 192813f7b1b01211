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
	Looked  int // what was due to be looked at: interactions, and what is kept of agents, tickets and new users
	Expired int // of the interactions, active ones that were left alone
	Lost    int // of those, the ones that had attached data, which nobody will write now
	Aged    int // activities that have aged out
	Removed int // interactions whose id is forgotten now
	Damaged int // what could not be read, and was set aside
}

func (s *Swept) add(other Swept) {
	s.Looked += other.Looked
	s.Expired += other.Expired
	s.Lost += other.Lost
	s.Aged += other.Aged
	s.Removed += other.Removed
	s.Damaged += other.Damaged
}

// setAside is when the sweep comes back to what it could not read.
const setAside = 24 * time.Hour

// Sweep looks at what is due, of any tenant: at no more than limit, which is 1 to 256, each in a short transaction of its
// own. When Looked equals limit there may be more.
//
// An interaction that nothing changed for IdleLife is stripped to its state and times and to which requests ran, a tombstone;
// after TombstoneLife it is forgotten. One whose activity is pending or dead is kept whole. An activity that is over is kept
// for ActivityLife from then on, and until the interaction is a tombstone, which stays at least as long. An agent's
// latest deliveries are forgotten when nobody can read them any more, and a ticket's last place when its activity is not
// pending.
//
// What is damaged is told to the log and set aside for a day, so that the rest is reached. What cannot be swept for another
// reason is reported and stays due; the others are swept all the same. When the clock has jumped nothing is looked at until
// it has gone evenly for an hour.
func (s *Store) Sweep(ctx context.Context, limit int) (Swept, error) {
	stored, err := s.loadSwept(ctx)
	if err != nil {
		return Swept{}, err
	}
	now, even := s.lookAtClock(ctx, stored)
	if !even {
		return Swept{}, nil
	}
	entries, _, err := s.scan(ctx, kv.Range{Start: duesKey, End: dueBefore(now), Limit: limit, KeysOnly: true})
	if err != nil {
		return Swept{}, err
	}
	var swept Swept
	var failures []error
	for _, entry := range entries {
		due, err := parseDue(entry.Key)
		if err == nil {
			var one Swept
			one, err = s.sweepOne(ctx, due, now)
			swept.add(one)
		}
		if errors.Is(err, ErrDamaged) {
			s.log.ErrorContext(ctx, "what is due to be looked at is damaged; restore a backup", "tenant", due.tenant, "kind", due.what(), "hashed_id", due.hashed, "error", err)
			err = s.setAside(ctx, due, now)
			swept.Damaged++
		}
		if ctx.Err() != nil || errors.Is(err, ErrFailed) {
			return swept, err
		}
		swept.Looked++
		if err != nil {
			failures = append(failures, err)
		}
	}
	return swept, errors.Join(append(failures, s.noteSwept(ctx, now, stored))...)
}

// sweepOne decides on what is due, of which the index has one entry.
func (s *Store) sweepOne(ctx context.Context, due due, now time.Time) (swept Swept, err error) {
	err = s.update(ctx, due.tenant, func(w *writing) error {
		swept = Swept{}
		values, err := w.kv.Get(due.key)
		if err != nil || values[0] == nil {
			return err // swept meanwhile
		}
		w.txn.Delete(due.key)
		var next time.Time
		switch due.kind {
		case dueInteraction:
			swept, next, err = s.sweepInteraction(w, due.hashed, now)
		case dueAgent:
			next, err = sweepAgent(w, due.hashed, now)
		case dueTicket:
			next, err = sweepTicket(w, due.hashed, now)
		case duePerson:
			next, err = sweepPerson(w, due.hashed, now)
		}
		if err == nil && !next.IsZero() {
			w.due(next, due.kind, due.hashed)
		}
		return err
	})
	if err != nil {
		return Swept{}, fmt.Errorf("%s of tenant %q with the hashed id %q: %w", due.what(), due.tenant, due.hashed, err)
	}
	return swept, nil
}

// setAside moves what cannot be read out of the way. An entry that names nothing goes.
func (s *Store) setAside(ctx context.Context, due due, now time.Time) error {
	return s.commit(ctx, func(tx kv.Txn) error {
		tx.Delete(due.key)
		if due.kind != dueNothing {
			tx.Put(dueKey(now.Add(setAside), due.tenant, due.kind, due.hashed), nil)
		}
		return nil
	})
}

// lives are how long things are kept.
type lives struct{ idle, tombstone, activity time.Duration }

// fate is what a sweep does to an interaction, and when to look at it next; zero: never.
type fate struct {
	strip  bool // to a tombstone
	age    bool // the activity has aged out: it goes
	forget bool // all of it goes
	next   time.Time
}

// fateOf decides what becomes of an interaction and its activity, which is nil where there is none or it has gone. An activity
// that is over ages out as soon as its life is over and the interaction is a tombstone, and a tombstone stays as long as its
// activity: so that what repeats the completion gets an answer.
func (l lives) fateOf(h *interactionHead, a *storedActivity, now time.Time) (f fate) {
	if idle := h.UpdateTime.Add(l.idle); !h.Stripped && idle.After(now) {
		return fate{next: idle}
	}
	if a != nil && !a.State.over() {
		return fate{next: now.Add(l.idle)}
	}
	stripped := h.StripTime
	if !h.Stripped {
		f.strip, stripped = true, now
	}
	if a != nil {
		since := a.ended()
		if since.IsZero() {
			since = now // it is known from now on
		}
		if end := since.Add(l.activity); end.After(now) {
			f.next = end
			if look := now.Add(l.tombstone); look.Before(end) { // it may have become more than a tombstone by then
				f.next = look
			}
			return f
		}
		f.age = true
	}
	if end := stripped.Add(l.tombstone); !stripped.IsZero() && end.After(now) {
		f.next = end
		return f
	}
	f.forget = true
	return f
}

// sweepInteraction takes one interaction a step on, and returns when to look at it next; zero: never.
func (s *Store) sweepInteraction(w *writing, hashed string, now time.Time) (swept Swept, next time.Time, err error) {
	t := InteractionTxn{reading: w.reading, hashed: hashed, writing: w}
	if err := t.loadHead(); err != nil {
		return Swept{}, time.Time{}, err
	}
	if !t.exists {
		return Swept{}, time.Time{}, missingPart("the head")
	}
	var activity *storedActivity
	if t.head.State == InteractionCompleted && !t.head.ActivityGone {
		stored, err := t.activityOfHead()
		if err != nil {
			return Swept{}, time.Time{}, err
		}
		activity = &stored
	}
	fate := s.lives.fateOf(&t.head, activity, now)
	switch {
	case fate.age:
		w.txn.Delete(activityKey(w.tenant, activity.ID))
		w.deleteRows(activity.rows(w.tenant), nil)
		swept.Aged, t.head.ActivityGone = 1, true
	case activity != nil && activity.State.over() && activity.ended().IsZero():
		activity.EndTime = now
		if err := w.saveActivity(activity, activity.State, activity.rows(w.tenant), now); err != nil {
			return Swept{}, time.Time{}, err
		}
	}
	if fate.forget {
		all := interactionKey(w.tenant, hashed)
		w.txn.DeleteRange(all, kv.PrefixEnd(all))
		w.txn.freed(headKey(w.tenant, hashed), t.headSize+t.head.Sizes.all())
		swept.Removed = 1
		return swept, time.Time{}, nil
	}
	if fate.strip {
		lost, err := t.strip(now)
		if err != nil {
			return Swept{}, time.Time{}, err
		}
		swept.add(lost)
	}
	if fate.strip || fate.age {
		err = saveKnown(w, headKey(w.tenant, hashed), &t.head)
	}
	return swept, fate.next, err
}

// strip leaves a tombstone of an interaction.
func (t *InteractionTxn) strip(now time.Time) (swept Swept, err error) {
	state := t.head.State
	if state == InteractionActive {
		data, err := t.AttachedData()
		if err != nil {
			return Swept{}, err
		}
		swept.Expired, state = 1, InteractionExpired
		if len(data) > 0 {
			swept.Lost = 1
		}
	}
	t.dropAll("answer", "data", "deliveries", "past", "pops", "record", "recordset")
	t.free(&t.head.Sizes.Others, t.head.Sizes.Others)
	t.free(&t.head.Sizes.Recordsets, t.head.Sizes.Recordsets)
	was := t.head
	t.head = interactionHead{
		ID:         was.ID,
		CreateTime: was.CreateTime, UpdateTime: was.UpdateTime,
		State: state, ActivityID: was.ActivityID, ActivityGone: was.ActivityGone, Erasing: was.Erasing, Stripped: true, StripTime: now,
		// No answer that was kept is told again, and no data.
		Answers: was.Answers + KeptAnswers, DataVersion: was.DataVersion + 1,
		Parts: &parts{Replies: uncounted}, Sizes: was.Sizes,
	}
	if was.Parts != nil {
		t.head.Parts.Replies = was.Parts.Replies
	}
	t.countLive()
	return swept, nil
}

// sweepAgent forgets an agent's deliveries that nobody can read any more: a whole list at a time.
func sweepAgent(w *writing, hashed string, now time.Time) (next time.Time, err error) {
	for _, key := range [][]byte{olderKey(w.tenant, hashed), latestKey(w.tenant, hashed)} {
		var list []Delivered
		found, err := w.load(key, &list)
		if err != nil {
			return time.Time{}, err
		}
		end := endOfDelivered(list)
		if latest := now.Add(RecentDeliveries); end.After(latest) {
			end = latest // the clock was wrong when it was noted
		}
		switch {
		case end.After(now):
			next = end
		case found && next.IsZero():
			w.txn.Delete(key)
		}
	}
	return next, nil
}

// endOfDelivered is until when the last one of a list can be read; zero: it is empty.
func endOfDelivered(list []Delivered) time.Time {
	if len(list) == 0 {
		return time.Time{}
	}
	return list[len(list)-1].Time.Add(RecentDeliveries)
}

// sweepTicket forgets a ticket's last place, unless the activity that has it is to be written there.
func sweepTicket(w *writing, hashed string, now time.Time) (next time.Time, err error) {
	key := kv.Key(w.tenant, "t", hashed)
	var last lastPlace
	found, err := w.load(key, &last)
	if err != nil || !found {
		return time.Time{}, err
	}
	activity, err := w.activity(last.ActivityID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return time.Time{}, err
	}
	if err == nil && activity.State == ActivityPending && w.vault.hashTicket(w.tenant, activity.Account.URL, activity.TicketID) == hashed {
		return now.Add(placeLife), nil
	}
	w.txn.Delete(key)
	return time.Time{}, nil
}
