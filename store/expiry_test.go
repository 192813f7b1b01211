package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

const day = 24 * time.Hour

// sweep sweeps all that is due, one step.
func sweep(t testing.TB, s *Store, limit int) Swept {
	t.Helper()
	swept, err := s.Sweep(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

// expiries is the index: when each interaction is looked at next, by tenant and id.
func expiries(t testing.TB, s *Store) map[string]string {
	t.Helper()
	entries, err := s.scan(t.Context(), kv.Prefix(duesKey))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, entry := range entries {
		segments, err := kv.Split(entry.Key)
		if err != nil {
			t.Fatal(err)
		}
		name := segments[3] + "/" + segments[4]
		if all[name] != "" {
			t.Errorf("interaction %q is indexed twice", name)
		}
		all[name] = segments[2]
	}
	return all
}

// keysOf counts what is stored of a tenant.
func keysOf(t testing.TB, s *Store, tenant string) int {
	t.Helper()
	entries, err := s.scan(t.Context(), kv.Prefix(kv.Key(tenant)))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func stateOf(t testing.TB, s *Store, id string) (state InteractionState, exists bool) {
	t.Helper()
	view(t, s, id, func(tx *InteractionTxn) error {
		state, exists = tx.State(), tx.Exists()
		return nil
	})
	return state, exists
}

// TestSweep takes interactions through their lives.
func TestSweep(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		clock := someTime
		s.now = func() time.Time { return clock }
		check := func(at time.Duration, want Swept) {
			t.Helper()
			clock = someTime.Add(at)
			if diff := cmp.Diff(want, sweep(t, s, 100)); diff != "" {
				t.Errorf("at %v (-want +got):\n%s", at, diff)
			}
			if again := sweep(t, s, 100); again != (Swept{}) {
				t.Errorf("at %v, once more: %+v", at, again)
			}
		}
		staged := stage(t, s, "data", recordsOf(60, 1, "x"))
		update(t, s, "data", func(tx *InteractionTxn) {
			tx.SetAccount(atZendesk("x"))
			tx.SetAttachedData(map[string]string{"a": "1"})
			tx.AddScreenPop(ScreenPop{ID: "1"})
			tx.PublishRecordset(Recordset{Name: "rs"}, staged)
			tx.SetDeliveries(Deliveries{Agent: "a"})
		})
		update(t, s, "nodata", func(tx *InteractionTxn) { tx.SetAttachedData(nil) })
		update(t, s, "done", func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
		complete(t, s, tenant, "done", Activity{ID: "a1", Account: atZendesk("x"), TicketID: "7", State: ActivityPending})
		changeActivity(t, s, "a1", func(a *Activity) { a.State = ActivityWritten })
		clock = clock.Add(5 * day)
		update(t, s, "touched", func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
		clock = someTime.Add(6 * day)
		update(t, s, "touched", func(tx *InteractionTxn) { tx.AddScreenPop(ScreenPop{ID: "1"}) })

		check(7*day, Swept{})
		check(7*day+time.Second, Swept{Looked: 3, Expired: 2, Lost: 1})
		for id, want := range map[string]InteractionState{
			"data": InteractionExpired, "nodata": InteractionExpired, "done": InteractionCompleted, "touched": InteractionActive,
		} {
			if state, exists := stateOf(t, s, id); state != want || !exists {
				t.Errorf("interaction %q: state is %v, exists %v", id, state, exists)
			}
		}
		view(t, s, "data", func(tx *InteractionTxn) error {
			data, err := tx.AttachedData()
			use, state := tx.Account()
			if len(data) != 0 || len(popsOf(t, tx)) != 0 || len(tx.RecordsetNames()) != 0 || state != AccountUnset || use != (AccountUse{}) {
				t.Errorf("not stripped: %v, %v, %q, %v", data, popsOf(t, tx), tx.RecordsetNames(), use)
			}
			if !tx.CreateTime().Equal(someTime) || !tx.UpdateTime().Equal(someTime) {
				t.Errorf("times are %v and %v", tx.CreateTime(), tx.UpdateTime())
			}
			return err
		})
		if n := storedRecords(t, s, "data"); n != 0 {
			t.Errorf("%d records are left", n)
		}
		view(t, s, "done", func(tx *InteractionTxn) error {
			a, err := tx.Activity()
			if a.ID != "a1" {
				t.Errorf("activity of the tombstone is %q", a.ID)
			}
			return err
		})

		check(12*day+time.Second, Swept{Looked: 1}) // touched since: its entry moves
		check(13*day, Swept{})
		check(13*day+time.Second, Swept{Looked: 1, Expired: 1, Lost: 1})
		check(37*day+2*time.Second, Swept{Looked: 3, Removed: 3})
		if _, err := s.Activity(t.Context(), tenant, "a1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("activity of a forgotten interaction: got %v, want ErrNotFound", err)
		}
		check(43*day+2*time.Second, Swept{Looked: 1, Removed: 1})
		if n, index := keysOf(t, s, tenant), expiries(t, s); n != 0 || len(index) != 0 {
			t.Errorf("%d keys are left, index %v", n, index)
		}
		update(t, s, "data", func(tx *InteractionTxn) {
			if tx.Exists() {
				t.Error("a forgotten interaction exists")
			}
			tx.ClearAccount()
		})
	})
}

// TestSweepKeepsUnwritten leaves interactions alone whose activity is pending or dead, until that is decided.
func TestSweepKeepsUnwritten(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		clock := someTime
		s.now = func() time.Time { return clock }
		for i, state := range []ActivityState{ActivityPending, ActivityDead} {
			id := fmt.Sprint(i)
			update(t, s, id, func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
			complete(t, s, tenant, id, Activity{ID: id, Account: atZendesk("x"), TicketID: "7", State: state})
		}
		for range 5 {
			clock = clock.Add(7*day + time.Second)
			if swept := sweep(t, s, 10); swept != (Swept{Looked: 2}) {
				t.Errorf("swept %+v", swept)
			}
			for _, id := range []string{"0", "1"} {
				view(t, s, id, func(tx *InteractionTxn) error {
					data, err := tx.AttachedData()
					if len(data) != 1 {
						t.Errorf("attached data of %q is %v", id, data)
					}
					return err
				})
			}
		}
		changeActivity(t, s, "0", func(a *Activity) { a.State = ActivityWritten })
		changeActivity(t, s, "1", func(a *Activity) { a.State = ActivityDiscarded })
		for _, step := range []struct {
			after time.Duration
			want  Swept
		}{{7*day + time.Second, Swept{Looked: 2}}, {30*day + time.Second, Swept{Looked: 2, Removed: 2}}} {
			clock = clock.Add(step.after)
			if diff := cmp.Diff(step.want, sweep(t, s, 10)); diff != "" {
				t.Errorf("after %v (-want +got):\n%s", step.after, diff)
			}
		}
		if n := keysOf(t, s, tenant); n != 0 {
			t.Errorf("%d keys are left", n)
		}
	})
}

// TestSweepKeepsPlaces forgets an activity whose ticket has a later one.
func TestSweepKeepsPlaces(t *testing.T) {
	s := openStore(t, t.TempDir())
	clock := someTime
	s.now = func() time.Time { return clock }
	add := func(id string) Activity {
		return complete(t, s, tenant, id, Activity{ID: id, Account: atZendesk("x"), TicketID: "7", State: ActivityPending})
	}
	first, second := add("1"), add("2")
	changeActivity(t, s, "1", func(a *Activity) { a.State = ActivityWritten })
	for _, after := range []time.Duration{7*day + time.Second, 30*day + time.Second} {
		clock = clock.Add(after)
		sweep(t, s, 10)
	}
	if _, err := s.Activity(t.Context(), tenant, first.ID); !errors.Is(err, ErrNotFound) {
		t.Fatalf("first activity: got %v, want ErrNotFound", err)
	}
	clock = someTime
	if third := add("3"); third.Place != second.Place+1 {
		t.Errorf("place is %d, want the one behind %d", third.Place, second.Place)
	}
}

// TestTombstoneLives changes interactions that were stripped.
func TestTombstoneLives(t *testing.T) {
	s := openStore(t, t.TempDir())
	clock := someTime
	s.now = func() time.Time { return clock }
	complete(t, s, tenant, "i", Activity{ID: "a1", State: ActivityWritten})
	clock = clock.Add(7*day + time.Second)
	sweep(t, s, 10)
	clock = clock.Add(29 * day)
	update(t, s, "i", func(tx *InteractionTxn) { tx.KeepReply("Search", "1", Reply{}) })
	for _, step := range []struct {
		after time.Duration
		want  Swept
	}{
		{day + time.Second, Swept{Looked: 1}},
		{6*day + time.Second, Swept{Looked: 1}},
		{30*day + time.Second, Swept{Looked: 1, Removed: 1}},
	} {
		if state, _ := stateOf(t, s, "i"); state != InteractionCompleted {
			t.Errorf("state is %v", state)
		}
		clock = clock.Add(step.after)
		if diff := cmp.Diff(step.want, sweep(t, s, 10)); diff != "" {
			t.Errorf("%v after the step before (-want +got):\n%s", step.after, diff)
		}
	}
}

func TestSweepLimit(t *testing.T) {
	s := openStore(t, t.TempDir())
	clock := someTime
	s.now = func() time.Time { return clock }
	for i := range 5 {
		err := s.UpdateInteraction(t.Context(), fmt.Sprint("t", i%2), fmt.Sprint(i), func(tx *InteractionTxn) error {
			tx.ClearAccount()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	clock = clock.Add(8 * day)
	for _, want := range []int{2, 2, 1, 0} {
		if swept := sweep(t, s, 2); swept != (Swept{Looked: want, Expired: want}) {
			t.Errorf("swept %+v, want %d", swept, want)
		}
	}
	if _, err := s.Sweep(t.Context(), kv.MaxScanLimit+1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("limit over 256: got %v, want ErrTooLarge", err)
	}
}

// interposed runs a function before the next update.
type interposed struct {
	kv.Engine
	before func()
}

func (e *interposed) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if before := e.before; before != nil {
		e.before = nil
		before()
	}
	return e.Engine.Update(ctx, fn)
}

// TestSweepMeetsChange changes interactions between the scan of the index and their transaction.
func TestSweepMeetsChange(t *testing.T) {
	s := openStore(t, t.TempDir())
	clock := someTime
	s.now = func() time.Time { return clock }
	engine := &interposed{Engine: s.engine}
	s.engine = engine
	attach := func(value string) func() {
		return func() {
			update(t, s, "i", func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": value}) })
		}
	}
	attach("1")()
	clock = clock.Add(8 * day)
	engine.before = attach("2")
	if swept := sweep(t, s, 10); swept != (Swept{Looked: 1}) {
		t.Errorf("changed meanwhile: swept %+v", swept)
	}
	view(t, s, "i", func(tx *InteractionTxn) error {
		data, err := tx.AttachedData()
		if data["a"] != "2" || tx.State() != InteractionActive {
			t.Errorf("attached data is %v, state %v", data, tx.State())
		}
		return err
	})

	clock = clock.Add(8 * day)
	engine.before = func() { sweep(t, s, 10) }
	if swept := sweep(t, s, 10); swept != (Swept{Looked: 1}) {
		t.Errorf("swept meanwhile: swept %+v", swept)
	}
	if state, exists := stateOf(t, s, "i"); state != InteractionExpired || !exists {
		t.Errorf("swept twice at once: state %v, exists %v", state, exists)
	}
	if index := expiries(t, s); len(index) != 1 {
		t.Errorf("index is %v", index)
	}
}

// TestSweepGoesOn meets an interaction that cannot be read.
func TestSweepGoesOn(t *testing.T) {
	s := openStore(t, t.TempDir())
	clock := someTime
	s.now = func() time.Time { return clock }
	for _, id := range []string{"a", "b", "c"} {
		update(t, s, id, func(tx *InteractionTxn) { tx.ClearAccount() })
	}
	err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
		tx.Put(headKey(tenant, s.vault.hashInteraction(tenant, "b")), []byte("spoilt"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(8 * day)
	swept, err := s.Sweep(t.Context(), 10)
	if swept != (Swept{Looked: 3, Expired: 2}) || !errors.Is(err, errSealed) {
		t.Errorf("swept %+v, %v", swept, err)
	}
	if swept, err := s.Sweep(t.Context(), 10); swept != (Swept{Looked: 1}) || !errors.Is(err, errSealed) {
		t.Errorf("once more: %+v, %v", swept, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if swept, err := s.Sweep(ctx, 10); swept != (Swept{}) || !errors.Is(err, context.Canceled) {
		t.Errorf("no time left: %+v, %v", swept, err)
	}
}

// TestSweepOnceInEffect loses sight of commits: a tombstone is not taken for one that was there before.
func TestSweepOnceInEffect(t *testing.T) {
	s := openStore(t, t.TempDir())
	clock := someTime
	s.now = func() time.Time { return clock }
	update(t, s, "i", func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
	engine := &lossy{Engine: s.engine}
	s.engine = engine
	clock = clock.Add(8 * day)
	engine.times = 2
	if swept := sweep(t, s, 10); swept != (Swept{Looked: 1, Expired: 1, Lost: 1}) {
		t.Errorf("swept %+v", swept)
	}
	if state, exists := stateOf(t, s, "i"); state != InteractionExpired || !exists {
		t.Errorf("state %v, exists %v", state, exists)
	}
	clock = clock.Add(31 * day)
	engine.times = 2
	if swept := sweep(t, s, 10); swept != (Swept{Looked: 1, Removed: 1}) {
		t.Errorf("swept %+v", swept)
	}
}
