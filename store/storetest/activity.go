package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

var someTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func atZendesk(host string) store.AccountUse {
	return store.AccountUse{AccountID: host, Incarnation: host, Name: host, URL: "https://" + host + ".zendesk.com", Selection: store.Default}
}

// complete ends an interaction of a tenant with an activity.
func complete(t testing.TB, s *fixture, tenant, interaction string, a store.Activity) store.Activity {
	t.Helper()
	var stored store.Activity
	err := s.UpdateInteraction(t.Context(), tenant, interaction, func(tx *store.InteractionTxn) (err error) {
		stored, err = tx.Complete(a)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func changeActivity(t testing.TB, s *fixture, id string, change func(*store.Activity)) store.Activity {
	t.Helper()
	a, err := s.UpdateActivity(t.Context(), tenant, id, func(a *store.Activity) error {
		change(a)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// pendingActivities are the ids of those to be written, by tenant.
func pendingActivities(t testing.TB, s *fixture) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	for shard := range store.Shards {
		last := time.Time{}
		err := s.PendingActivities(t.Context(), shard, time.Time{}, func(p store.PendingActivity) error {
			if p.Since.Before(last) {
				t.Errorf("activity %q waits since %s, and comes behind one since %s", p.ID, p.Since, last)
			}
			last = p.Since
			all[p.Tenant] = append(all[p.Tenant], p.ID)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, ids := range all {
		slices.Sort(ids)
	}
	return all
}

func testActivityIDsSort(t *testing.T) {
	var ids []string
	for i := range 20 {
		ids = append(ids, store.NewActivityID(someTime.Add(time.Duration(i)*time.Millisecond)))
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 20 {
		t.Errorf("ids are %q", ids)
	}
	if len(ids[0]) != 27 || strings.Trim(ids[0], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		t.Errorf("id %q is not 27 letters and digits", ids[0])
	}
	if store.NewActivityID(someTime) == ids[0] {
		t.Error("two ids of one time are the same")
	}
}

// testComplete looks for the activity, and for what goes and stays with a completed interaction.
func testComplete(t *testing.T, s *fixture) {
	data := map[string]string{"a": "1"}
	staged := stage(t, s, "i", recordsOf(60, 16<<10, "x"))
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.SetAttachedData(data)
		tx.AddScreenPop(store.ScreenPop{ID: "pop"})
		tx.PublishRecordset(store.Recordset{Name: "rs"}, staged)
		tx.KeepReply("Search", "1", store.Reply{Body: []byte("x")})
	})
	given := store.Activity{
		ID: "a1", Fingerprint: []byte("f"), Account: atZendesk("x"), Details: store.ActivityDetails{Channel: "call", Notes: "a\nb"}, AttachedData: data, TicketID: "7",
		State: store.ActivityPending, Rejected: []store.Rejected{{Key: "k", Reason: "r"}}, CreateTime: someTime,
	}
	stored := complete(t, s, tenant, "i", given)
	if stored.Place == 0 {
		t.Error("activity got no place")
	}
	want := given
	want.InteractionID, want.Place, want.PendingSince = "i", stored.Place, stored.PendingSince
	read, err := s.Activity(t.Context(), tenant, "a1")
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []store.Activity{stored, read} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("activity (-want +got):\n%s", diff)
		}
	}
	// Head, data, pops and the reply; the activity, its rows, and the last place of its ticket.
	if n := keysOf(t, s); n != 4+4 {
		t.Errorf("%d keys are stored", n)
	}
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		if tx.State() != store.InteractionCompleted || len(tx.RecordsetNames()) != 0 || tx.LastSearched() != "" || len(popsOf(t, tx)) != 1 {
			t.Errorf("state %v, recordsets %q, last searched %q, pops %v", tx.State(), tx.RecordsetNames(), tx.LastSearched(), popsOf(t, tx))
		}
		if reply, found, err := tx.Reply("Search", "1"); !found || string(reply.Body) != "x" || err != nil {
			t.Errorf("kept reply: %+v, %v, %v", reply, found, err)
		}
		if got, err := tx.AttachedData(); !maps.Equal(got, data) || err != nil {
			t.Errorf("attached data is %v, %v", got, err)
		}
		got, err := tx.Activity()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("activity of the interaction (-want +got):\n%s", diff)
		}
		return err
	})
	// Blocks still run: a recordset of the old name starts anew.
	again := stage(t, s, "i", recordsOf(2, 1, "y"))
	update(t, s, "i", func(tx *store.InteractionTxn) { tx.PublishRecordset(store.Recordset{Name: "rs"}, again) })
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		if tx.State() != store.InteractionCompleted || tx.LastSearched() != "rs" {
			t.Errorf("after a search: state %v, last searched %q", tx.State(), tx.LastSearched())
		}
		return nil
	})
}

// testCompleteIsWhole fails a transaction after Complete, and completes twice.
func testCompleteIsWhole(t *testing.T, s *fixture) {
	a := store.Activity{ID: "a1", Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending}
	refused := errors.New("refused")
	err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *store.InteractionTxn) error {
		if _, err := tx.Activity(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("activity before: got %v, want ErrNotFound", err)
		}
		_, err := tx.Complete(a)
		return errors.Join(refused, err)
	})
	if !errors.Is(err, refused) {
		t.Fatalf("got %v, want the function's error", err)
	}
	if _, err := s.Activity(t.Context(), tenant, "a1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("activity of an update that failed: got %v, want ErrNotFound", err)
	}
	if all := pendingActivities(t, s); len(all) != 0 {
		t.Errorf("pending are %v", all)
	}
	complete(t, s, tenant, "i", a)
	err = s.UpdateInteraction(t.Context(), tenant, "i", func(tx *store.InteractionTxn) error {
		_, err := tx.Complete(store.Activity{ID: "a2", State: store.ActivityPending})
		return err
	})
	if err == nil {
		t.Error("completed twice")
	}
	if diff := cmp.Diff(map[string][]string{tenant: {"a1"}}, pendingActivities(t, s)); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
}

// testPublishAfterComplete stages records in the engine that a completion then drops.
func testPublishAfterComplete(t *testing.T, s *fixture) {
	few, many := stage(t, s, "i", recordsOf(2, 1, "x")), stage(t, s, "i", recordsOf(60, 16<<10, "x"))
	complete(t, s, tenant, "i", store.Activity{ID: "a1", State: store.ActivitySkipped})
	err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *store.InteractionTxn) error {
		tx.PublishRecordset(store.Recordset{Name: "rs"}, many)
		return nil
	})
	if err == nil {
		t.Error("published records that the completion dropped")
	}
	update(t, s, "i", func(tx *store.InteractionTxn) { tx.PublishRecordset(store.Recordset{Name: "rs"}, few) })
}

// testPlaces follows a ticket's queue through what a worker and a person do.
func testPlaces(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	n := 0
	add := func(host, ticket string, state store.ActivityState) store.Activity {
		n++
		return complete(t, s, tenant, fmt.Sprint("i", n), store.Activity{ID: fmt.Sprint("a", n), Account: atZendesk(host), TicketID: ticket, State: state})
	}
	behind := func(what string, later, earlier store.Activity) {
		t.Helper()
		if later.Place <= earlier.Place {
			t.Errorf("%s: place %d is not behind %d", what, later.Place, earlier.Place)
		}
	}
	first, second := add("x", "7", store.ActivityPending), add("x", "7", store.ActivityPending)
	behind("second at one time", second, first)
	if first.Previous != "" || second.Previous != first.ID {
		t.Errorf("previous are %q and %q", first.Previous, second.Previous)
	}
	clock = clock.Add(-time.Hour)
	third := add("x", "7", store.ActivityPending)
	behind("third, clock set back", third, second)

	other := third.Account
	other.AccountID, other.Incarnation = "y", "y"
	fourth := complete(t, s, tenant, "other", store.Activity{ID: "other", Account: other, TicketID: "7", State: store.ActivityPending})
	behind("another account of the same Zendesk", fourth, third)

	for what, a := range map[string]store.Activity{"no ticket": add("x", "", store.ActivityPending), "nothing to write": add("x", "7", store.ActivitySkipped)} {
		if a.Place != 0 {
			t.Errorf("%s: place is %d", what, a.Place)
		}
	}
	if got := changeActivity(t, s, first.ID, func(a *store.Activity) { a.Attempts++; a.Place = 99 }); got.Place != first.Place {
		t.Errorf("a try moved it from %d to %d", first.Place, got.Place)
	}
	if got := changeActivity(t, s, first.ID, func(a *store.Activity) { a.State = store.ActivityDead }); got.Place != first.Place {
		t.Errorf("death moved it from %d to %d", first.Place, got.Place)
	}
	first = changeActivity(t, s, first.ID, func(a *store.Activity) { a.State = store.ActivityPending })
	behind("retried", first, fourth)
	changeActivity(t, s, first.ID, func(a *store.Activity) { a.State = store.ActivityDead })
	again := changeActivity(t, s, first.ID, func(a *store.Activity) { a.State = store.ActivityPending })
	behind("the last retried", again, first)
	if first.Previous != fourth.ID || again.Previous != fourth.ID {
		t.Errorf("previous of the one retried is %q, then %q, want %q", first.Previous, again.Previous, fourth.ID)
	}
	first = again

	eighth := add("x", "8", store.ActivityPending)
	moved := changeActivity(t, s, second.ID, func(a *store.Activity) { a.TicketID = "8" })
	behind("moved to another ticket", moved, eighth)
	moved = changeActivity(t, s, second.ID, func(a *store.Activity) { a.TicketID = "7" })
	behind("moved back", moved, first)
	clock = someTime.Add(time.Hour) // places at another Zendesk are ahead
	elsewhere := add("z", "7", store.ActivityPending)
	moved = changeActivity(t, s, second.ID, func(a *store.Activity) { a.Account = atZendesk("z") })
	behind("moved to another Zendesk", moved, elsewhere)
	if moved = changeActivity(t, s, second.ID, func(a *store.Activity) { a.TicketID, a.FollowUpOf = "", "7" }); moved.Place != 0 {
		t.Errorf("to be a follow-up: place is %d", moved.Place)
	}
}

func testUpdateActivity(t *testing.T, s *fixture) {
	want := complete(t, s, tenant, "i", store.Activity{ID: "a1", State: store.ActivityPending, AttachedData: map[string]string{"a": "1"}, CreateTime: someTime})
	// More often than it takes to meet every fault of a hostile engine.
	for range 12 {
		want.Attempts++
		want.AttachedData[fmt.Sprint(want.Attempts)] = "x"
		got := changeActivity(t, s, "a1", func(a *store.Activity) {
			a.Attempts++
			a.AttachedData[fmt.Sprint(a.Attempts)] = "x"
			a.ID, a.InteractionID, a.CreateTime = "not", "not", time.Time{}
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("update %d (-want +got):\n%s", want.Attempts, diff)
		}
	}
	refused := errors.New("refused")
	_, err := s.UpdateActivity(t.Context(), tenant, "a1", func(a *store.Activity) error {
		a.State = store.ActivityDead
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the function's error", err)
	}
	got, err := s.Activity(t.Context(), tenant, "a1")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("afterwards: %v (-want +got):\n%s", err, diff)
	}
	if _, err := s.UpdateActivity(t.Context(), tenant, "a2", func(*store.Activity) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown activity: got %v, want ErrNotFound", err)
	}
}

// testActivityOnceInEffect loses answers of commits, while another changes the same activity.
func testActivityOnceInEffect(t *testing.T, s *fixture) {
	for _, made := range []bool{true, false} {
		id := fmt.Sprint("a-", made)
		var first store.Activity
		s.engine.loseAnswer(made, func() {})
		update(t, s, id, func(tx *store.InteractionTxn) {
			var err error
			if first, err = tx.Complete(store.Activity{ID: id, TicketID: "7", State: store.ActivityPending}); err != nil {
				t.Error(err)
			}
		})
		attempt := func(state store.ActivityState) store.Activity {
			return changeActivity(t, s, id, func(a *store.Activity) { a.State = state; a.Attempts++ })
		}
		s.engine.loseAnswer(made, func() { attempt(store.ActivityDead) })
		dead := attempt(store.ActivityDead)
		if want := map[bool]int{true: 1, false: 2}[made]; dead.Attempts != want || dead.Place != first.Place {
			t.Errorf("made=%v: %+v, want %d attempts", made, dead, want)
		}
		s.engine.loseAnswer(made, func() { attempt(store.ActivityPending) })
		attempt(store.ActivityPending)
		if stored, err := s.Activity(t.Context(), tenant, id); err != nil || stored.Attempts != 4 {
			t.Errorf("made=%v: %d attempts are stored, want 4, %v", made, stored.Attempts, err)
		}
	}
}

func testPendingFollowsState(t *testing.T, s *fixture) {
	complete(t, s, tenant, "i", store.Activity{ID: "a1", State: store.ActivityPending})
	for _, state := range []store.ActivityState{
		store.ActivityPending, store.ActivityWritten, store.ActivitySkipped, store.ActivityPending, store.ActivityDead, store.ActivityPending, store.ActivityDiscarded,
	} {
		changeActivity(t, s, "a1", func(a *store.Activity) { a.State = state })
		if pending := len(pendingActivities(t, s)[tenant]) == 1; pending != (state == store.ActivityPending) {
			t.Errorf("state %v: pending is %v", state, pending)
		}
	}
}

// addActivities completes interactions, a few at a time, with an activity each.
func addActivities(t testing.TB, s *fixture, tenant string, n int, activity func(i int) store.Activity) []store.Activity {
	t.Helper()
	all := make([]store.Activity, n)
	var group errgroup.Group
	group.SetLimit(1)
	if n > 500 {
		group.SetLimit(32) // more than a hostile engine bears: each may meet several faults in a row
	}
	for i := range n {
		group.Go(func() error {
			return s.UpdateInteraction(t.Context(), tenant, fmt.Sprint("i", i), func(tx *store.InteractionTxn) (err error) {
				all[i], err = tx.Complete(activity(i))
				return err
			})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

// pendingActivity makes the nth of many.
func pendingActivity(i int) store.Activity {
	return store.Activity{ID: fmt.Sprintf("a%04d", i), State: store.ActivityPending, AttachedData: map[string]string{}}
}

func idsOf(activities []store.Activity) (ids []string) {
	for _, a := range activities {
		ids = append(ids, a.ID)
	}
	return ids
}

func testPendingActivities(t *testing.T, s *fixture) {
	want := map[string][]string{
		"a": idsOf(addActivities(t, s, "a", 3, pendingActivity)),
		"b": idsOf(addActivities(t, s, "b", kv.MaxScanLimit+44, pendingActivity)),
		"c": idsOf(addActivities(t, s, "c", kv.MaxScanLimit-47, pendingActivity)), // a scan ends with the last of all
	}
	if diff := cmp.Diff(want, pendingActivities(t, s)); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}

	// visit may use the store, and stop.
	var visited []string
	refused := errors.New("refused")
	err := s.PendingActivities(t.Context(), store.ShardOf(""), time.Time{}, func(p store.PendingActivity) error {
		visited = append(visited, p.Tenant+p.ID)
		if p.Tenant == "b" {
			return refused
		}
		_, err := s.UpdateActivity(t.Context(), p.Tenant, p.ID, func(a *store.Activity) error {
			a.State = store.ActivityDiscarded
			return nil
		})
		return err
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the function's error", err)
	}
	if diff := cmp.Diff([]string{"aa0000", "aa0001", "aa0002", "ba0000"}, visited); diff != "" {
		t.Errorf("visited (-want +got):\n%s", diff)
	}
}

// testPendingSince finds what has become pending, or is to be looked at anew, since a time, in the shard of its account.
func testPendingSince(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	use := store.AccountUse{AccountID: "x", Incarnation: "incarnation", URL: "https://x.zendesk.com"}
	shard := store.ShardOf(use.Incarnation)
	ids := make([]string, 3)
	for i := range ids {
		clock = clock.Add(time.Minute)
		a := pendingActivity(i)
		a.Account, a.CreateTime, ids[i] = use, clock, a.ID
		if err := s.UpdateInteraction(t.Context(), tenant, a.ID, func(tx *store.InteractionTxn) error {
			_, err := tx.Complete(a)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	since := func(at time.Time) (found []string) {
		err := s.PendingActivities(t.Context(), shard, at, func(p store.PendingActivity) error {
			found = append(found, p.ID)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	check := func(what string, at time.Time, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, since(at), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	change := func(id string, change func(*store.Activity)) {
		t.Helper()
		if _, err := s.UpdateActivity(t.Context(), tenant, id, func(a *store.Activity) error { change(a); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	check("all", time.Time{}, ids...)
	check("the last", clock, ids[2])
	check("none", clock.Add(time.Second))

	tokens, err := s.WatchPending(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(time.Hour)
	change(ids[0], func(a *store.Activity) { a.Attempts++ })
	check("tried", clock)
	for range 2 { // also at one and the same time
		for len(tokens) > 0 {
			<-tokens
		}
		change(ids[0], func(a *store.Activity) { a.PendingSince = time.Time{} })
		check("to be looked at anew", clock, ids[0])
		<-tokens
	}
	clock = clock.Add(time.Hour)
	change(ids[1], func(a *store.Activity) { a.State = store.ActivityDead })
	change(ids[1], func(a *store.Activity) { a.State = store.ActivityPending })
	change(ids[2], func(a *store.Activity) { a.TicketID = "7" })
	check("again, and to another ticket", clock, ids[1], ids[2])
	check("all", time.Time{}, ids[0], ids[1], ids[2])
	change(ids[1], func(a *store.Activity) { a.State = store.ActivityDiscarded })
	check("over", time.Time{}, ids[0], ids[2])
}

// listAll reads a list page by page, and holds each page to what is promised of it.
func listAll(t testing.TB, s *fixture, f store.ActivityFilter, limit int, between func()) (all []store.Activity) {
	t.Helper()
	for after := ""; ; {
		page, next, err := s.ListActivities(t.Context(), tenant, f, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > limit || next != "" && len(page) < limit {
			t.Fatalf("page of %d, next %q", len(page), next)
		}
		all = append(all, page...)
		if next == "" {
			if len(page) == 0 && after != "" {
				t.Fatal("the last page is empty")
			}
			return all
		}
		after = next
		between()
	}
}

// variedActivity makes the nth of many that differ in all that a list asks for.
func variedActivity(i int) store.Activity {
	at := someTime.Add(time.Duration(i) * 700 * time.Nanosecond) // some within a microsecond
	a := store.Activity{
		ID: store.NewActivityID(at), CreateTime: at, State: store.ActivityPending, Details: store.ActivityDetails{Notes: fmt.Sprint(i)},
		AttachedData: map[string]string{},
	}
	if i%2 > 0 {
		a.State = store.ActivityState(i/2%5 + 1)
	}
	if i%7 > 0 {
		a.Account = atZendesk(string(rune('a' + i%3)))
	}
	if i%4 > 1 && a.State != store.ActivityWritten && a.State != store.ActivitySkipped {
		a.Failure = &store.Failure{Reason: []store.FailureReason{store.ReasonTimeout, store.ReasonNotFound}[i%2]}
	}
	return a
}

// testListActivities compares lists with the same filter over all that there is.
func testListActivities(t *testing.T, s *fixture) {
	const many = 640 // more of a state than one look at the index sees
	all := addActivities(t, s, tenant, many, variedActivity)
	addActivities(t, s, "other", 3, variedActivity)
	slices.SortFunc(all, func(a, b store.Activity) int { return strings.Compare(a.ID, b.ID) })
	at := func(i int) time.Time { return all[i].CreateTime }
	filters := []store.ActivityFilter{
		{},
		{State: store.ActivityDead},
		{AccountID: "b"},
		{AccountID: "b", State: store.ActivityPending},
		{AccountID: "none"},
		{AccountID: strings.Repeat("x", 5000)},
		{Reason: store.ReasonNotFound},
		{Reason: store.ReasonTimeout, State: store.ActivityDead, AccountID: "c"},
		{Reason: store.ReasonTimeout, State: store.ActivityWritten},
		{Reason: store.ReasonConflict},
		{Since: at(many / 2)},
		{Until: at(many / 2)},
		{Since: at(10), Until: at(11)},
		{Since: at(10), Until: at(10)},
		{Since: at(20), Until: at(30), State: store.ActivitySkipped},
		{Until: at(0)},
		{Since: at(many - 1).Add(1)},
		{Since: at(100), Until: at(600), Reason: store.ReasonTimeout},
		{InteractionID: all[5].InteractionID},
		{InteractionID: all[5].InteractionID, State: all[5].State, Since: at(5), Until: at(6)},
		{InteractionID: all[5].InteractionID, State: all[6].State},
		{InteractionID: all[5].InteractionID, Until: at(5)},
		{InteractionID: "unknown"},
	}
	for _, f := range filters {
		want := []store.Activity{}
		for _, a := range all {
			reason := store.FailureReason("")
			if a.Failure != nil {
				reason = a.Failure.Reason
			}
			if (f.State == 0 || f.State == a.State) && (f.AccountID == "" || f.AccountID == a.Account.AccountID) && (f.Reason == "" || f.Reason == reason) &&
				(f.InteractionID == "" || f.InteractionID == a.InteractionID) &&
				(f.Since.IsZero() || f.Since.Compare(a.CreateTime) <= 0) && (f.Until.IsZero() || f.Until.Compare(a.CreateTime) > 0) {
				want = append(want, a)
			}
		}
		for _, limit := range []int{1, 7, 100, many, many + 1} {
			if limit == 1 && len(want) > 50 {
				continue
			}
			for _, f.NewestFirst = range []bool{false, true} {
				got := listAll(t, s, f, limit, func() {})
				if f.NewestFirst {
					slices.Reverse(got)
				}
				if diff := cmp.Diff(idsOf(want), idsOf(got)); diff != "" {
					t.Fatalf("%+v, %d at a time (-want +got):\n%s", f, limit, diff)
				}
			}
		}
	}
	if diff := cmp.Diff(all, listAll(t, s, store.ActivityFilter{}, 100, func() {})); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if page, next, err := s.ListActivities(t.Context(), "nobody", store.ActivityFilter{}, "", 5); len(page) != 0 || next != "" || err != nil {
		t.Errorf("tenant without activities: %v, %q, %v", page, next, err)
	}
	for _, after := range []string{"A", " ", "a\x00", strings.Repeat("a", 64), "ä"} {
		for _, f := range []store.ActivityFilter{{}, {InteractionID: "i1"}} {
			if _, _, err := s.ListActivities(t.Context(), tenant, f, after, 5); !errors.Is(err, store.ErrPagePosition) {
				t.Errorf("after %q: got %v, want ErrPagePosition", after, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.ListActivities(ctx, tenant, store.ActivityFilter{}, "", 5); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// testAccountActivities compares what is said of accounts with their activities.
func testAccountActivities(t *testing.T, s *fixture) {
	check := func(tenant string, accounts []string, want ...store.AccountActivities) {
		t.Helper()
		got, err := s.AccountActivities(t.Context(), tenant, accounts...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("activities of %q (-want +got):\n%s", accounts, diff)
		}
	}
	check(tenant, nil)
	check(tenant, []string{"a", "b"}, store.AccountActivities{}, store.AccountActivities{})

	all := addActivities(t, s, tenant, 640, variedActivity)
	addActivities(t, s, "other", 3, variedActivity)
	want := map[string]store.AccountActivities{}
	for _, a := range all {
		w := want[a.Account.AccountID]
		if a.State == store.ActivityDead {
			w.Dead++
		}
		if a.State == store.ActivityPending {
			if w.Pending++; w.OldestPending.IsZero() {
				w.OldestPending = a.CreateTime.Truncate(time.Microsecond)
			}
		}
		want[a.Account.AccountID] = w
	}
	if want["a"].Dead == 0 || want["b"].OldestPending.IsZero() {
		t.Fatalf("nothing to find: %v", want)
	}
	check(tenant, []string{"b", "none", "a"}, want["b"], store.AccountActivities{}, want["a"])
	var totals store.ActivityTotals
	for _, a := range all {
		switch a.State {
		case store.ActivityDead:
			totals.Dead++
		case store.ActivityPending:
			totals.Pending++
			if totals.OldestPending.IsZero() {
				totals.OldestPending = a.CreateTime.Truncate(time.Microsecond)
			}
		}
	}
	if got, err := s.ActivityTotals(t.Context(), tenant); err != nil || got != totals {
		t.Errorf("totals are %+v, %v, want %+v", got, err, totals)
	}

	// More than are counted, and one whose id tells no time.
	addActivities(t, s, "many", store.MaxDeadCounted+1, func(int) store.Activity {
		return store.Activity{ID: store.NewActivityID(someTime), Account: atZendesk("dead"), State: store.ActivityDead}
	})
	odd := pendingActivity(0)
	odd.Account = atZendesk("odd")
	complete(t, s, "many", "odd", odd)
	check("many", []string{"dead", "odd"}, store.AccountActivities{Dead: store.MaxDeadCounted}, store.AccountActivities{Pending: 1})
	if _, err := s.AccountActivities(t.Context(), "!"); err == nil {
		t.Error("there is a tenant !")
	}
}

// testListActivitiesThatChange lists while others change their state and their account: no activity comes twice, and none
// that is left alone is missed.
func testListActivitiesThatChange(t *testing.T, s *fixture) {
	const many = 300
	all := addActivities(t, s, tenant, many, variedActivity)
	turn := 0
	for _, f := range []store.ActivityFilter{{}, {NewestFirst: true}, {State: store.ActivityPending}, {AccountID: "a", NewestFirst: true}} {
		before := idsOf(listAll(t, s, f, many+1, func() {}))
		changed := make(map[string]bool)
		got := idsOf(listAll(t, s, f, 9, func() {
			for range 3 {
				turn++
				a := all[turn*97%many]
				changed[a.ID] = true
				changeActivity(t, s, a.ID, func(a *store.Activity) {
					a.State = store.ActivityState(turn%5 + 1)
					a.Account = atZendesk(string(rune('a' + turn%3)))
				})
			}
		}))
		seen := make(map[string]int)
		for i, id := range got {
			if seen[id]++; seen[id] > 1 {
				t.Errorf("%+v: %q comes twice", f, id)
			}
			if i > 0 && id > got[i-1] == f.NewestFirst {
				t.Errorf("%+v: %q comes after %q", f, id, got[i-1])
			}
		}
		for _, id := range before {
			if seen[id] == 0 && !changed[id] {
				t.Errorf("%+v: %q is missed", f, id)
			}
		}
	}
}

// testActivityHasState refuses what no list would ever show.
func testActivityHasState(t *testing.T, s *fixture) {
	for _, state := range []store.ActivityState{0, store.ActivityDiscarded + 1, -1} {
		err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *store.InteractionTxn) error {
			_, err := tx.Complete(store.Activity{ID: "a1", State: state})
			return err
		})
		if err == nil {
			t.Errorf("state %d is allowed", state)
		}
	}
}

// testLargestActivity completes with what the service allows, in characters that JSON makes the most of, and then has
// each key rejected.
func testLargestActivity(t *testing.T, s *fixture) {
	data := make(map[string]string)
	var rejected []store.Rejected
	for i := range 200 {
		key := fmt.Sprintf("%03d", i) + strings.Repeat("\x01", 253)
		data[key] = strings.Repeat("\x02", 256<<10/200-len(key))
		rejected = append(rejected, store.Rejected{Key: key, Reason: strings.Repeat("r", 80)})
	}
	update(t, s, "i", func(tx *store.InteractionTxn) { tx.SetAttachedData(data) })
	complete(t, s, tenant, "i", store.Activity{
		ID: store.NewActivityID(someTime), Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending,
		Details: largestDetails(), AttachedData: data,
	})
	var id string
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		a, err := tx.Activity()
		id = a.ID
		return err
	})
	changeActivity(t, s, id, func(a *store.Activity) {
		a.State, a.Rejected, a.Failure = store.ActivityDead, rejected, &store.Failure{Reason: store.ReasonInvalidRequest, Message: strings.Repeat("\x05", 4<<10)}
	})
	got, err := s.Activity(t.Context(), tenant, id)
	if err != nil || !maps.Equal(got.AttachedData, data) || !slices.Equal(got.Rejected, rejected) || !cmp.Equal(got.Details, largestDetails()) {
		t.Errorf("activity is not what was stored: %v", err)
	}
}

// largestDetails are as large as may be, and hard to write down.
func largestDetails() store.ActivityDetails {
	wide := strings.Repeat("\U0001f600", 256)
	return store.ActivityDetails{
		Notes: strings.Repeat("\x03", 64<<10), Transcript: strings.Repeat("\x03", 64<<10), FromAddress: strings.Repeat("\x04", 256),
		RecordingURL: strings.Repeat("&", 2<<10), Subject: strings.Repeat("<", 256), CompletionStatus: store.CompletionMissed,
		QueueDuration: new(time.Duration(0)), HoldDuration: new(-time.Second), TalkDuration: new(time.Hour), WrapUpDuration: new(time.Minute),
		Links: slices.Repeat([]store.Link{{Title: wide, URL: strings.Repeat("&", 2<<10)}}, 20),
		Legs:  slices.Repeat([]store.Leg{{Agent: store.Agent{Email: wide, ZendeskUserID: wide}, StartTime: someTime, EndTime: someTime}}, 50),
	}
}

// testActivitiesModel runs random operations against a plain list in the order of the queues.
func testActivitiesModel(t *testing.T, s *fixture) {
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		tenant := fmt.Sprint("t", runs)
		var queue []store.Activity // the later, the longer they wait behind others of their ticket
		for i := range rapid.IntRange(1, 15).Draw(rt, "operations") {
			state := rapid.SampledFrom([]store.ActivityState{store.ActivityPending, store.ActivityPending, store.ActivityWritten, store.ActivityDead}).Draw(rt, "state")
			ticket := rapid.SampledFrom([]string{"", "7", "8"}).Draw(rt, "ticket")
			if len(queue) == 0 || rapid.Bool().Draw(rt, "create") {
				a := store.Activity{ID: fmt.Sprintf("a%02d", i), Account: atZendesk("x"), TicketID: ticket, State: state, AttachedData: map[string]string{}}
				a = complete(t, s, tenant, fmt.Sprint("i", i), a)
				queue = append(queue, a)
			} else {
				at := rapid.IntRange(0, len(queue)-1).Draw(rt, "which")
				was := queue[at]
				a, err := s.UpdateActivity(rt.Context(), tenant, was.ID, func(a *store.Activity) error {
					a.State, a.TicketID = state, ticket
					a.Attempts++
					return nil
				})
				if err != nil {
					rt.Fatal(err)
				}
				want := was
				want.State, want.TicketID, want.Attempts, want.Place = state, ticket, was.Attempts+1, a.Place
				want.Previous, want.PendingSince = a.Previous, a.PendingSince
				if (state == store.ActivityPending) == a.PendingSince.IsZero() {
					rt.Fatalf("activity in state %d is pending since %s", state, a.PendingSince)
				}
				if diff := cmp.Diff(want, a); diff != "" {
					rt.Fatalf("updated (-want +got):\n%s", diff)
				}
				queue[at] = a
				if was.State != state || was.TicketID != ticket {
					queue = append(slices.Delete(queue, at, at+1), a)
				}
			}
		}
		byID := slices.SortedFunc(slices.Values(queue), func(a, b store.Activity) int { return strings.Compare(a.ID, b.ID) })
		listed, next, err := s.ListActivities(rt.Context(), tenant, store.ActivityFilter{}, "", len(queue))
		if diff := cmp.Diff(byID, listed); diff != "" || next != "" || err != nil {
			rt.Fatalf("listed, then %q, %v (-want +got):\n%s", next, err, diff)
		}
		var pending []string
		last := make(map[string]uint64)
		for _, a := range queue {
			if a.State != store.ActivityPending {
				continue
			}
			pending = append(pending, a.ID)
			if a.TicketID != "" && a.Place <= last[a.TicketID] {
				rt.Fatalf("activity %q has place %d, not behind %d", a.ID, a.Place, last[a.TicketID])
			}
			last[a.TicketID] = a.Place
		}
		slices.Sort(pending)
		if diff := cmp.Diff(pending, pendingActivities(t, s)[tenant]); diff != "" {
			rt.Fatalf("pending (-want +got):\n%s", diff)
		}
	})
}
