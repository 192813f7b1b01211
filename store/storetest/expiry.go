package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

const day = 24 * time.Hour

// sweep sweeps all that is due, one step.
func sweep(t testing.TB, s *fixture, limit int) store.Swept {
	t.Helper()
	swept, err := s.Sweep(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

func stateOf(t testing.TB, s *fixture, id string) (state store.InteractionState, exists bool) {
	t.Helper()
	view(t, s, id, func(tx *store.InteractionTxn) error {
		state, exists = tx.State(), tx.Exists()
		return nil
	})
	return state, exists
}

// testSweep takes interactions through their lives.
func testSweep(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	check := func(at time.Duration, want store.Swept) {
		t.Helper()
		clock = someTime.Add(at)
		if diff := cmp.Diff(want, sweep(t, s, 100)); diff != "" {
			t.Errorf("at %v (-want +got):\n%s", at, diff)
		}
		if again := sweep(t, s, 100); again != (store.Swept{}) {
			t.Errorf("at %v, once more: %+v", at, again)
		}
	}
	staged := stage(t, s, "data", recordsOf(60, 16<<10, "x"))
	update(t, s, "data", func(tx *store.InteractionTxn) {
		tx.SetAccount(atZendesk("x"))
		tx.SetAttachedData(map[string]string{"a": "1"})
		tx.AddScreenPop(store.ScreenPop{ID: "1"})
		tx.PublishRecordset(store.Recordset{Name: "rs"}, staged)
		tx.SetDeliveries(store.Deliveries{Agent: "a"})
	})
	update(t, s, "nodata", func(tx *store.InteractionTxn) { tx.SetAttachedData(nil) })
	update(t, s, "done", func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
	complete(t, s, tenant, "done", store.Activity{ID: "a1", Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending})
	changeActivity(t, s, "a1", func(a *store.Activity) { a.State = store.ActivityWritten })
	clock = clock.Add(5 * day)
	update(t, s, "touched", func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
	clock = someTime.Add(6 * day)
	update(t, s, "touched", func(tx *store.InteractionTxn) { tx.AddScreenPop(store.ScreenPop{ID: "1"}) })

	check(7*day, store.Swept{})
	check(7*day+time.Second, store.Swept{Looked: 4, Expired: 2, Lost: 1}) // three interactions and a ticket
	for id, want := range map[string]store.InteractionState{
		"data": store.InteractionExpired, "nodata": store.InteractionExpired, "done": store.InteractionCompleted, "touched": store.InteractionActive,
	} {
		if state, exists := stateOf(t, s, id); state != want || !exists {
			t.Errorf("interaction %q: state is %v, exists %v", id, state, exists)
		}
	}
	view(t, s, "data", func(tx *store.InteractionTxn) error {
		data, err := tx.AttachedData()
		use, state := tx.Account()
		if len(data) != 0 || len(popsOf(t, tx)) != 0 || len(tx.RecordsetNames()) != 0 || state != store.AccountUnset || use != (store.AccountUse{}) {
			t.Errorf("not stripped: %v, %v, %q, %v", data, popsOf(t, tx), tx.RecordsetNames(), use)
		}
		if !tx.CreateTime().Equal(someTime) || !tx.UpdateTime().Equal(someTime) {
			t.Errorf("times are %v and %v", tx.CreateTime(), tx.UpdateTime())
		}
		return err
	})
	// A head of each; two parts of the one that was touched; an activity and two rows.
	if n := keysOf(t, s); n != 4+2+3 {
		t.Errorf("%d keys are left", n)
	}
	view(t, s, "done", func(tx *store.InteractionTxn) error {
		a, err := tx.Activity()
		if a.ID != "a1" {
			t.Errorf("activity of the tombstone is %q", a.ID)
		}
		return err
	})

	check(12*day+time.Second, store.Swept{Looked: 1}) // touched since: its entry moves
	check(13*day, store.Swept{})
	check(13*day+time.Second, store.Swept{Looked: 1, Expired: 1, Lost: 1})
	check(37*day+2*time.Second, store.Swept{Looked: 3, Removed: 2})
	check(43*day+2*time.Second, store.Swept{Looked: 1, Removed: 1})
	check(67*day+3*time.Second, store.Swept{Looked: 1}) // the tombstone stays as long as the activity
	if state, exists := stateOf(t, s, "done"); state != store.InteractionCompleted || !exists {
		t.Errorf("interaction of an activity: state is %v, exists %v", state, exists)
	}
	check(90*day+time.Second, store.Swept{Looked: 1, Aged: 1, Removed: 1})
	if _, err := s.Activity(t.Context(), tenant, "a1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("activity of a forgotten interaction: got %v, want ErrNotFound", err)
	}
	if n := keysOf(t, s); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	update(t, s, "data", func(tx *store.InteractionTxn) {
		if tx.Exists() {
			t.Error("a forgotten interaction exists")
		}
		tx.ClearAccount()
	})
}

// testSweepKeepsUnwritten leaves interactions alone whose activity is pending or dead, until that is decided.
func testSweepKeepsUnwritten(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	for i, state := range []store.ActivityState{store.ActivityPending, store.ActivityDead} {
		id := fmt.Sprint(i)
		update(t, s, id, func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
		complete(t, s, tenant, id, store.Activity{ID: id, Account: atZendesk("x"), TicketID: "7", State: state})
	}
	for range 5 {
		clock = clock.Add(7*day + time.Second)
		if swept := sweep(t, s, 10); swept != (store.Swept{Looked: 3}) { // the ticket too
			t.Errorf("swept %+v", swept)
		}
		for _, id := range []string{"0", "1"} {
			view(t, s, id, func(tx *store.InteractionTxn) error {
				data, err := tx.AttachedData()
				if len(data) != 1 {
					t.Errorf("attached data of %q is %v", id, data)
				}
				return err
			})
		}
	}
	changeActivity(t, s, "0", func(a *store.Activity) { a.State = store.ActivityWritten })
	changeActivity(t, s, "1", func(a *store.Activity) { a.State = store.ActivityDiscarded })
	for _, step := range []struct {
		after time.Duration
		want  store.Swept
	}{
		{7*day + time.Second, store.Swept{Looked: 3}}, {30*day + time.Second, store.Swept{Looked: 2}}, {30*day + time.Second, store.Swept{Looked: 2}},
		{23 * day, store.Swept{Looked: 2, Aged: 2, Removed: 2}},
	} {
		clock = clock.Add(step.after)
		if diff := cmp.Diff(step.want, sweep(t, s, 10)); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", step.after, diff)
		}
	}
	if n := keysOf(t, s); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// testSweepKeepsPlaces forgets an activity whose ticket has a later one.
func testSweepKeepsPlaces(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	add := func(id string) store.Activity {
		return complete(t, s, tenant, id, store.Activity{ID: id, Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending})
	}
	first, second := add("1"), add("2")
	changeActivity(t, s, "1", func(a *store.Activity) { a.State = store.ActivityWritten })
	for _, after := range []time.Duration{7*day + time.Second, 90*day + time.Second} {
		clock = clock.Add(after)
		sweep(t, s, 10)
	}
	if _, err := s.Activity(t.Context(), tenant, first.ID); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("first activity: got %v, want ErrNotFound", err)
	}
	clock = someTime
	if third := add("3"); third.Place != second.Place+1 {
		t.Errorf("place is %d, want the one behind %d", third.Place, second.Place)
	}
}

// testTombstoneLives changes interactions that were stripped.
func testTombstoneLives(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	complete(t, s, tenant, "i", store.Activity{ID: "a1", State: store.ActivityWritten})
	clock = clock.Add(7*day + time.Second)
	sweep(t, s, 10)
	clock = clock.Add(29 * day)
	update(t, s, "i", func(tx *store.InteractionTxn) { tx.KeepReply("Search", "1", store.Reply{}) })
	for _, step := range []struct {
		after time.Duration
		want  store.Swept
	}{
		{day + time.Second, store.Swept{Looked: 1}},
		{6*day + time.Second, store.Swept{Looked: 1}},
		{30*day + time.Second, store.Swept{Looked: 1}},
		{17 * day, store.Swept{Looked: 1, Aged: 1, Removed: 1}},
	} {
		if state, _ := stateOf(t, s, "i"); state != store.InteractionCompleted {
			t.Errorf("state is %v", state)
		}
		clock = clock.Add(step.after)
		if diff := cmp.Diff(step.want, sweep(t, s, 10)); diff != "" {
			t.Errorf("%v after the step before (-want +got):\n%s", step.after, diff)
		}
	}
}

func testSweepLimit(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	for i := range 5 {
		err := s.UpdateInteraction(t.Context(), fmt.Sprint("t", i%2), fmt.Sprint(i), func(tx *store.InteractionTxn) error {
			tx.ClearAccount()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	clock = clock.Add(8 * day)
	for _, want := range []int{2, 2, 1, 0} {
		if swept := sweep(t, s, 2); swept != (store.Swept{Looked: want, Expired: want}) {
			t.Errorf("swept %+v, want %d", swept, want)
		}
	}
	if _, err := s.Sweep(t.Context(), kv.MaxScanLimit+1); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("limit over 256: got %v, want ErrTooLarge", err)
	}
}

// testSweepMeetsChange changes interactions between the scan of the index and their transaction.
func testSweepMeetsChange(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	engine := s.engine
	attach := func(value string) func() {
		return func() {
			update(t, s, "i", func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{"a": value}) })
		}
	}
	attach("1")()
	clock = clock.Add(8 * day)
	engine.before = attach("2")
	if swept := sweep(t, s, 10); swept != (store.Swept{Looked: 1}) {
		t.Errorf("changed meanwhile: swept %+v", swept)
	}
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		data, err := tx.AttachedData()
		if data["a"] != "2" || tx.State() != store.InteractionActive {
			t.Errorf("attached data is %v, state %v", data, tx.State())
		}
		return err
	})

	clock = clock.Add(8 * day)
	engine.before = func() { sweep(t, s, 10) }
	if swept := sweep(t, s, 10); swept != (store.Swept{Looked: 1}) {
		t.Errorf("swept meanwhile: swept %+v", swept)
	}
	if state, exists := stateOf(t, s, "i"); state != store.InteractionExpired || !exists {
		t.Errorf("swept twice at once: state %v, exists %v", state, exists)
	}
	clock = clock.Add(31 * day)
	if swept := sweep(t, s, 10); swept != (store.Swept{Looked: 1, Removed: 1}) {
		t.Errorf("in the end: swept %+v", swept)
	}
}

// testSweepOnceInEffect loses answers, and another sweeps meanwhile: a tombstone is not taken for one that was there before.
func testSweepOnceInEffect(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	for _, made := range []bool{true, false} {
		update(t, s, "i", func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
		for _, step := range []struct {
			after time.Duration
			want  store.Swept
		}{{8 * day, store.Swept{Looked: 1, Expired: 1, Lost: 1}}, {31 * day, store.Swept{Looked: 1, Removed: 1}}} {
			clock = clock.Add(step.after)
			var other store.Swept
			s.engine.loseAnswer(made, func() { other = sweep(t, s, 10) })
			swept := sweep(t, s, 10)
			other.Looked = 1
			if !made {
				swept, other = other, swept
			}
			if swept != step.want || other != (store.Swept{Looked: 1}) {
				t.Errorf("made=%v, after %v: swept %+v and %+v", made, step.after, swept, other)
			}
		}
		if n := keysOf(t, s); n != 0 {
			t.Errorf("%d keys are left", n)
		}
	}
}

// testSweepForgetsLists forgets what nobody reads any more: the deliveries to an agent, and the last place of a ticket that its
// activity has left.
func testSweepForgetsLists(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	deliver := func(agent string) {
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.NoteDelivered(agent, store.Delivered{Delivery: store.Delivery{ID: "1", Time: clock}})
		})
	}
	for i := range 20 {
		deliver(fmt.Sprint("agent-", i))
	}
	complete(t, s, tenant, "i", store.Activity{ID: "a1", Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending})
	changeActivity(t, s, "a1", func(a *store.Activity) { a.TicketID = "8" }) // a follow-up
	clock = clock.Add(time.Hour - time.Second)
	deliver("agent-0")
	clock = clock.Add(time.Second + time.Millisecond)
	if swept := sweep(t, s, 100); swept != (store.Swept{Looked: 20}) {
		t.Errorf("after an hour: swept %+v", swept)
	}
	if diff := cmp.Diff([]string{"1"}, deliveredTo(t, s, tenant, "agent-0")); diff != "" {
		t.Errorf("what can be read (-want +got):\n%s", diff)
	}
	// Head; the activity, three rows, and the last places of both tickets; a list.
	if n := keysOf(t, s); n != 1+5+1 {
		t.Errorf("after an hour %d keys are stored", n)
	}
	deliver("agent-1") // it begins anew
	clock = clock.Add(7 * day)
	sweep(t, s, 100)
	if n := keysOf(t, s); n != 1+4 {
		t.Errorf("after a week %d keys are stored", n)
	}
	changeActivity(t, s, "a1", func(a *store.Activity) { a.State = store.ActivityWritten })
	for range 3 {
		clock = clock.Add(31 * day)
		sweep(t, s, 100)
	}
	if n := keysOf(t, s); n != 0 {
		t.Errorf("in the end %d keys are stored", n)
	}
}

// testClockBack sets the clock back for a while: what changed meanwhile did not change long ago.
func testClockBack(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	change := func(id string) {
		update(t, s, id, func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{"a": clock.String()}) })
	}
	change("before")
	sweep(t, s, 10)
	clock = someTime.Add(-8 * day)
	change("before")
	change("meanwhile")
	clock = someTime.Add(time.Hour)
	sweep(t, s, 10)
	for _, id := range []string{"before", "meanwhile"} {
		if state, exists := stateOf(t, s, id); state != store.InteractionActive || !exists {
			t.Errorf("interaction %q: state %v, exists %v", id, state, exists)
		}
	}
}

// testActivityAgesOutFirst has an activity go before the tombstone of its interaction: it is known that it was there.
func testActivityAgesOutFirst(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	s.reopen(t, store.Config{IdleLife: 2 * day, TombstoneLife: 10 * day, ActivityLife: 3 * day})
	complete(t, s, tenant, "i", store.Activity{ID: "a1", Account: atZendesk("x"), State: store.ActivityDead})
	complete(t, s, tenant, "j", store.Activity{ID: "a2", Account: atZendesk("x"), State: store.ActivityDead})
	clock = clock.Add(20 * day)
	if swept := sweep(t, s, 10); swept != (store.Swept{Looked: 2}) {
		t.Errorf("dead: swept %+v", swept)
	}
	changeActivity(t, s, "a1", func(a *store.Activity) { a.State = store.ActivityDiscarded })
	for _, step := range []struct {
		after time.Duration
		want  store.Swept
	}{{2*day + time.Second, store.Swept{Looked: 2}}, {day, store.Swept{Looked: 1, Aged: 1}}} {
		clock = clock.Add(step.after)
		if diff := cmp.Diff(step.want, sweep(t, s, 10)); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", step.after, diff)
		}
	}
	if _, err := s.Activity(t.Context(), tenant, "a1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("activity: got %v, want ErrNotFound", err)
	}
	for _, filter := range []store.ActivityFilter{{}, {InteractionID: "i"}, {State: store.ActivityDiscarded}, {AccountID: "x"}} {
		list, _, err := s.ListActivities(t.Context(), tenant, filter, "", 10)
		if err != nil || len(list) > 1 || len(list) == 1 && list[0].ID != "a2" {
			t.Errorf("%+v: %d activities, %v", filter, len(list), err)
		}
	}
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		if _, err := tx.Activity(); !errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
			t.Errorf("activity of the interaction: got %v, want ErrNotFound", err)
		}
		if tx.State() != store.InteractionCompleted || tx.ActivityID() != "a1" {
			t.Errorf("state %v, activity %q", tx.State(), tx.ActivityID())
		}
		return nil
	})
	update(t, s, "i", func(tx *store.InteractionTxn) { tx.KeepReply("Search", "1", store.Reply{}) }) // a survey
	if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
		t.Errorf("scrubbed: %+v, %v", found, err)
	}
	changeActivity(t, s, "a2", func(a *store.Activity) { a.State = store.ActivityDiscarded })
	for range 4 {
		clock = clock.Add(10*day + time.Second)
		sweep(t, s, 10)
	}
	if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
		t.Errorf("scrubbed: %+v, %v", found, err)
	}
	if n := keysOf(t, s); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}
