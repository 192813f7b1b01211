package store

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
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

var someTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func atZendesk(host string) AccountUse {
	return AccountUse{AccountID: host, Incarnation: host, Name: host, URL: "https://" + host + ".zendesk.com", Selection: Default}
}

// complete ends an interaction of a tenant with an activity.
func complete(t testing.TB, s *Store, tenant, interaction string, a Activity) Activity {
	t.Helper()
	var stored Activity
	err := s.UpdateInteraction(t.Context(), tenant, interaction, func(tx *InteractionTxn) (err error) {
		stored, err = tx.Complete(a)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func changeActivity(t testing.TB, s *Store, id string, change func(*Activity)) Activity {
	t.Helper()
	a, err := s.UpdateActivity(t.Context(), tenant, id, func(a *Activity) error {
		change(a)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// pendingActivities are the ids of those to be written, by tenant.
func pendingActivities(t testing.TB, s *Store) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	err := s.PendingActivities(t.Context(), func(tenant string, a Activity) error {
		all[tenant] = append(all[tenant], a.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestActivityIDsSort(t *testing.T) {
	var ids []string
	for i := range 20 {
		ids = append(ids, NewActivityID(someTime.Add(time.Duration(i)*time.Millisecond)))
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 20 {
		t.Errorf("ids are %q", ids)
	}
	if len(ids[0]) != 27 || strings.Trim(ids[0], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		t.Errorf("id %q is not 27 letters and digits", ids[0])
	}
	if NewActivityID(someTime) == ids[0] {
		t.Error("two ids of one time are the same")
	}
}

// TestComplete looks for the activity, and for what goes and stays with a completed interaction.
func TestComplete(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		data := map[string]string{"a": "1"}
		staged := stage(t, s, "i", recordsOf(60, 1, "x"))
		update(t, s, "i", func(tx *InteractionTxn) {
			tx.SetAttachedData(data)
			tx.AddScreenPop(ScreenPop{ID: "pop"})
			tx.PublishRecordset(Recordset{Name: "rs"}, staged)
			tx.KeepReply("Search", "1", Reply{Body: []byte("x")})
		})
		given := Activity{
			ID: "a1", Fingerprint: []byte("f"), Account: atZendesk("x"), Details: []byte("d"), AttachedData: data, TicketID: "7",
			State: ActivityPending, Rejected: []Rejected{{Key: "k", Reason: "r"}}, CreateTime: someTime,
		}
		stored := complete(t, s, tenant, "i", given)
		if stored.Place == 0 {
			t.Error("activity got no place")
		}
		want := given
		want.InteractionID, want.Place = "i", stored.Place
		read, err := s.Activity(t.Context(), tenant, "a1")
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []Activity{stored, read} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("activity (-want +got):\n%s", diff)
			}
		}
		sets, err := s.scan(t.Context(), kv.Prefix(kv.Key(tenant, "i", "i", "recordset")))
		if err != nil {
			t.Fatal(err)
		}
		if n := storedRecords(t, s, "i"); n != 0 || len(sets) != 0 {
			t.Errorf("%d records and %d recordsets are left", n, len(sets))
		}
		view(t, s, "i", func(tx *InteractionTxn) error {
			if tx.State() != InteractionCompleted || len(tx.RecordsetNames()) != 0 || tx.LastSearched() != "" || len(tx.ScreenPops()) != 1 {
				t.Errorf("state %v, recordsets %q, last searched %q, pops %v", tx.State(), tx.RecordsetNames(), tx.LastSearched(), tx.ScreenPops())
			}
			if _, found, err := tx.Reply("Search", "1"); found || err != nil {
				t.Errorf("kept reply: found %v, %v", found, err)
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
		update(t, s, "i", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs"}, again) })
		view(t, s, "i", func(tx *InteractionTxn) error {
			if tx.State() != InteractionCompleted || tx.LastSearched() != "rs" {
				t.Errorf("after a search: state %v, last searched %q", tx.State(), tx.LastSearched())
			}
			return nil
		})
	})
}

// TestCompleteIsWhole fails a transaction after Complete, and completes twice.
func TestCompleteIsWhole(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		a := Activity{ID: "a1", Account: atZendesk("x"), TicketID: "7", State: ActivityPending}
		refused := errors.New("refused")
		err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *InteractionTxn) error {
			if _, err := tx.Activity(); !errors.Is(err, ErrNotFound) {
				t.Errorf("activity before: got %v, want ErrNotFound", err)
			}
			_, err := tx.Complete(a)
			return errors.Join(refused, err)
		})
		if !errors.Is(err, refused) {
			t.Fatalf("got %v, want the function's error", err)
		}
		if _, err := s.Activity(t.Context(), tenant, "a1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("activity of an update that failed: got %v, want ErrNotFound", err)
		}
		if all := pendingActivities(t, s); len(all) != 0 {
			t.Errorf("pending are %v", all)
		}
		complete(t, s, tenant, "i", a)
		err = s.UpdateInteraction(t.Context(), tenant, "i", func(tx *InteractionTxn) error {
			_, err := tx.Complete(Activity{ID: "a2", State: ActivityPending})
			return err
		})
		if !errors.Is(err, errCompleted) {
			t.Errorf("completed twice: got %v, want errCompleted", err)
		}
		if diff := cmp.Diff(map[string][]string{tenant: {"a1"}}, pendingActivities(t, s)); diff != "" {
			t.Errorf("pending (-want +got):\n%s", diff)
		}
	})
}

// TestPublishAfterComplete stages records in the engine that a completion then drops.
func TestPublishAfterComplete(t *testing.T) {
	s := openStore(t, t.TempDir())
	few, many := stage(t, s, "i", recordsOf(2, 1, "x")), stage(t, s, "i", recordsOf(200, 1, "x"))
	complete(t, s, tenant, "i", Activity{ID: "a1", State: ActivitySkipped})
	err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *InteractionTxn) error {
		tx.PublishRecordset(Recordset{Name: "rs"}, many)
		return nil
	})
	if !errors.Is(err, errStagedGone) {
		t.Errorf("got %v, want errStagedGone", err)
	}
	update(t, s, "i", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs"}, few) })
}

// TestPlaces follows a ticket's queue through what a worker and a person do.
func TestPlaces(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		clock := someTime
		s.now = func() time.Time { return clock }
		n := 0
		add := func(host, ticket string, state ActivityState) Activity {
			n++
			return complete(t, s, tenant, fmt.Sprint("i", n), Activity{ID: fmt.Sprint("a", n), Account: atZendesk(host), TicketID: ticket, State: state})
		}
		behind := func(what string, later, earlier Activity) {
			t.Helper()
			if later.Place <= earlier.Place {
				t.Errorf("%s: place %d is not behind %d", what, later.Place, earlier.Place)
			}
		}
		first, second := add("x", "7", ActivityPending), add("x", "7", ActivityPending)
		behind("second at one time", second, first)
		if first.Previous != "" || second.Previous != first.ID {
			t.Errorf("previous are %q and %q", first.Previous, second.Previous)
		}
		clock = clock.Add(-time.Hour)
		third := add("x", "7", ActivityPending)
		behind("third, clock set back", third, second)

		other := third.Account
		other.AccountID, other.Incarnation = "y", "y"
		fourth := complete(t, s, tenant, "other", Activity{ID: "other", Account: other, TicketID: "7", State: ActivityPending})
		behind("another account of the same Zendesk", fourth, third)

		for what, a := range map[string]Activity{"no ticket": add("x", "", ActivityPending), "nothing to write": add("x", "7", ActivitySkipped)} {
			if a.Place != 0 {
				t.Errorf("%s: place is %d", what, a.Place)
			}
		}
		if got := changeActivity(t, s, first.ID, func(a *Activity) { a.Attempts++; a.Place = 99 }); got.Place != first.Place {
			t.Errorf("a try moved it from %d to %d", first.Place, got.Place)
		}
		if got := changeActivity(t, s, first.ID, func(a *Activity) { a.State = ActivityDead }); got.Place != first.Place {
			t.Errorf("death moved it from %d to %d", first.Place, got.Place)
		}
		first = changeActivity(t, s, first.ID, func(a *Activity) { a.State = ActivityPending })
		behind("retried", first, fourth)
		changeActivity(t, s, first.ID, func(a *Activity) { a.State = ActivityDead })
		again := changeActivity(t, s, first.ID, func(a *Activity) { a.State = ActivityPending })
		behind("the last retried", again, first)
		if first.Previous != fourth.ID || again.Previous != fourth.ID {
			t.Errorf("previous of the one retried is %q, then %q, want %q", first.Previous, again.Previous, fourth.ID)
		}
		first = again

		eighth := add("x", "8", ActivityPending)
		moved := changeActivity(t, s, second.ID, func(a *Activity) { a.TicketID = "8" })
		behind("moved to another ticket", moved, eighth)
		moved = changeActivity(t, s, second.ID, func(a *Activity) { a.TicketID = "7" })
		behind("moved back", moved, first)
		clock = someTime.Add(time.Hour) // places at another Zendesk are ahead
		elsewhere := add("z", "7", ActivityPending)
		moved = changeActivity(t, s, second.ID, func(a *Activity) { a.Account = atZendesk("z") })
		behind("moved to another Zendesk", moved, elsewhere)
		if moved = changeActivity(t, s, second.ID, func(a *Activity) { a.TicketID, a.FollowUpOf = "", "7" }); moved.Place != 0 {
			t.Errorf("to be a follow-up: place is %d", moved.Place)
		}
	})
}

func TestUpdateActivity(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		want := complete(t, s, tenant, "i", Activity{ID: "a1", State: ActivityPending, AttachedData: map[string]string{"a": "1"}, CreateTime: someTime})
		// More often than it takes to meet every fault of a hostile engine.
		for range 12 {
			want.Attempts++
			want.AttachedData[fmt.Sprint(want.Attempts)] = "x"
			got := changeActivity(t, s, "a1", func(a *Activity) {
				a.Attempts++
				a.AttachedData[fmt.Sprint(a.Attempts)] = "x"
				a.ID, a.InteractionID, a.CreateTime = "not", "not", time.Time{}
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("update %d (-want +got):\n%s", want.Attempts, diff)
			}
		}
		refused := errors.New("refused")
		_, err := s.UpdateActivity(t.Context(), tenant, "a1", func(a *Activity) error {
			a.State = ActivityDead
			return refused
		})
		if !errors.Is(err, refused) {
			t.Errorf("got %v, want the function's error", err)
		}
		got, err := s.Activity(t.Context(), tenant, "a1")
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("afterwards: %v (-want +got):\n%s", err, diff)
		}
		if _, err := s.UpdateActivity(t.Context(), tenant, "a2", func(*Activity) error { return nil }); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown activity: got %v, want ErrNotFound", err)
		}
	})
}

// TestActivityOnceInEffect loses sight of commits: two in a row, where each is followed by the next try.
func TestActivityOnceInEffect(t *testing.T) {
	s := openStore(t, t.TempDir())
	engine := &lossy{Engine: s.engine}
	s.engine = engine
	runs := 0
	var first Activity
	engine.times = 2
	update(t, s, "i", func(tx *InteractionTxn) {
		runs++
		var err error
		if first, err = tx.Complete(Activity{ID: "a1", TicketID: "7", State: ActivityPending}); err != nil {
			t.Error(err)
		}
	})
	if runs != 1 {
		t.Errorf("completed %d times", runs)
	}
	runs, engine.times = 0, 2
	dead := changeActivity(t, s, "a1", func(a *Activity) { runs++; a.State = ActivityDead; a.Attempts++ })
	if runs != 1 || dead.Attempts != 1 || dead.Place != first.Place {
		t.Errorf("changed %d times: %+v", runs, dead)
	}
	engine.times = 2
	again := changeActivity(t, s, "a1", func(a *Activity) { a.State = ActivityPending })
	if stored, err := s.Activity(t.Context(), tenant, "a1"); err != nil || stored.Place != again.Place {
		t.Errorf("place is %d, reported as %d, %v", stored.Place, again.Place, err)
	}
}

func TestPendingFollowsState(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		complete(t, s, tenant, "i", Activity{ID: "a1", State: ActivityPending})
		for _, state := range []ActivityState{
			ActivityPending, ActivityWritten, ActivitySkipped, ActivityPending, ActivityDead, ActivityPending, ActivityDiscarded,
		} {
			changeActivity(t, s, "a1", func(a *Activity) { a.State = state })
			if pending := len(pendingActivities(t, s)[tenant]) == 1; pending != (state == ActivityPending) {
				t.Errorf("state %v: pending is %v", state, pending)
			}
		}
	})
}

// addActivities completes interactions that each have an activity, several in a commit.
func addActivities(t testing.TB, s *Store, tenant string, n int) []string {
	t.Helper()
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("a%04d", i))
	}
	for chunk := range slices.Chunk(ids, 20) {
		err := s.update(t.Context(), tenant, func(w *writing) error {
			for _, id := range chunk {
				a := Activity{ID: id, State: ActivityPending, AttachedData: map[string]string{"id": id}}
				if err := w.saveActivity(&storedActivity{Activity: a}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func TestPendingActivities(t *testing.T) {
	s := openStore(t, t.TempDir())
	want := map[string][]string{
		"a": addActivities(t, s, "a", 3),
		"b": addActivities(t, s, "b", kv.MaxScanLimit+44),
		"c": addActivities(t, s, "c", kv.MaxScanLimit-47), // a scan ends with the last of all
	}
	if diff := cmp.Diff(want, pendingActivities(t, s)); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}

	// Those that are decided on while others are visited are left out, and visit may use the store.
	var visited []string
	refused := errors.New("refused")
	err := s.PendingActivities(t.Context(), func(tenant string, a Activity) error {
		visited = append(visited, tenant+a.ID)
		if tenant == "b" {
			return refused
		}
		_, err := s.UpdateActivity(t.Context(), "a", "a0001", func(a *Activity) error {
			a.State = ActivityDiscarded
			return nil
		})
		return err
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the function's error", err)
	}
	if diff := cmp.Diff([]string{"aa0000", "aa0002", "ba0000"}, visited); diff != "" {
		t.Errorf("visited (-want +got):\n%s", diff)
	}
}

func TestListActivities(t *testing.T) {
	s := openStore(t, t.TempDir())
	many := listScans*listScanLimit + 100
	ids := addActivities(t, s, tenant, many)
	addActivities(t, s, "other", 1)
	every := func(n int) func(*Activity) bool {
		return func(a *Activity) bool {
			return a.AttachedData["id"] == a.ID && slices.Index(ids, a.ID)%n == n-1
		}
	}
	tests := []struct {
		name  string
		limit int
		match func(*Activity) bool
		want  []string
		pages int
	}{
		{"all at once", many + 1, every(1), ids, 2},
		{"all, in pages of a scan", listScanLimit, every(1), ids, (many + listScanLimit - 1) / listScanLimit},
		{"few of many", 2, every(500), []string{ids[499], ids[999], ids[1499], ids[1999]}, 3},
		{"the last", 1, every(many), ids[many-1:], 2},
		{"none", 10, func(*Activity) bool { return false }, nil, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			pages, after := 0, ""
			for {
				page, next, err := s.ListActivities(t.Context(), tenant, after, test.limit, test.match)
				if err != nil || len(page) > test.limit {
					t.Fatalf("page of %d, %v", len(page), err)
				}
				for _, a := range page {
					got = append(got, a.ID)
				}
				pages++
				if next == "" {
					break
				}
				if next <= after {
					t.Fatalf("page after %q ends at %q", after, next)
				}
				after = next
			}
			if diff := cmp.Diff(test.want, got); diff != "" || pages != test.pages {
				t.Errorf("%d pages, want %d (-want +got):\n%s", pages, test.pages, diff)
			}
		})
	}
	if page, next, err := s.ListActivities(t.Context(), "nobody", "", 5, every(1)); len(page) != 0 || next != "" || err != nil {
		t.Errorf("tenant without activities: %v, %q, %v", page, next, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.ListActivities(ctx, tenant, "", 5, every(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestLargestActivity completes with what the service allows, in characters that JSON makes the most of, and then has
// each key rejected.
func TestLargestActivity(t *testing.T) {
	s := openStore(t, t.TempDir())
	data := make(map[string]string)
	var rejected []Rejected
	for i := range 200 {
		key := fmt.Sprintf("%03d", i) + strings.Repeat("\x01", 253)
		data[key] = strings.Repeat("\x02", 256<<10/200-len(key))
		rejected = append(rejected, Rejected{Key: key, Reason: strings.Repeat("r", 80)})
	}
	update(t, s, "i", func(tx *InteractionTxn) { tx.SetAttachedData(data) })
	complete(t, s, tenant, "i", Activity{
		ID: NewActivityID(someTime), Account: atZendesk("x"), TicketID: "7", State: ActivityPending,
		Details: make([]byte, 72<<10), AttachedData: data,
	})
	var id string
	view(t, s, "i", func(tx *InteractionTxn) error {
		a, err := tx.Activity()
		id = a.ID
		return err
	})
	changeActivity(t, s, id, func(a *Activity) {
		a.State, a.Rejected, a.Failure = ActivityDead, rejected, make([]byte, 4<<10)
	})
	got, err := s.Activity(t.Context(), tenant, id)
	if err != nil || !maps.Equal(got.AttachedData, data) || !slices.Equal(got.Rejected, rejected) {
		t.Errorf("activity is not what was stored: %v", err)
	}
}

// TestActivitiesModel runs random operations against a plain list in the order of the queues.
func TestActivitiesModel(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		runs := 0
		rapid.Check(t, func(rt *rapid.T) {
			runs++
			tenant := fmt.Sprint("t", runs)
			var queue []Activity // the later, the longer they wait behind others of their ticket
			for i := range rapid.IntRange(1, 15).Draw(rt, "operations") {
				state := rapid.SampledFrom([]ActivityState{ActivityPending, ActivityPending, ActivityWritten, ActivityDead}).Draw(rt, "state")
				ticket := rapid.SampledFrom([]string{"", "7", "8"}).Draw(rt, "ticket")
				if len(queue) == 0 || rapid.Bool().Draw(rt, "create") {
					a := Activity{ID: fmt.Sprintf("a%02d", i), Account: atZendesk("x"), TicketID: ticket, State: state, AttachedData: map[string]string{}}
					a = complete(t, s, tenant, fmt.Sprint("i", i), a)
					queue = append(queue, a)
				} else {
					at := rapid.IntRange(0, len(queue)-1).Draw(rt, "which")
					was := queue[at]
					a, err := s.UpdateActivity(rt.Context(), tenant, was.ID, func(a *Activity) error {
						a.State, a.TicketID = state, ticket
						a.Attempts++
						return nil
					})
					if err != nil {
						rt.Fatal(err)
					}
					want := was
					want.State, want.TicketID, want.Attempts, want.Place = state, ticket, was.Attempts+1, a.Place
					want.Previous = a.Previous
					if diff := cmp.Diff(want, a); diff != "" {
						rt.Fatalf("updated (-want +got):\n%s", diff)
					}
					queue[at] = a
					if was.State != state || was.TicketID != ticket {
						queue = append(slices.Delete(queue, at, at+1), a)
					}
				}
			}
			byID := slices.SortedFunc(slices.Values(queue), func(a, b Activity) int { return strings.Compare(a.ID, b.ID) })
			listed, next, err := s.ListActivities(rt.Context(), tenant, "", len(queue), func(*Activity) bool { return true })
			if diff := cmp.Diff(byID, listed); diff != "" || next != "" || err != nil {
				rt.Fatalf("listed, then %q, %v (-want +got):\n%s", next, err, diff)
			}
			var pending []string
			last := make(map[string]uint64)
			for _, a := range queue {
				if a.State != ActivityPending {
					continue
				}
				pending = append(pending, a.ID)
				if a.TicketID != "" && a.Place <= last[a.TicketID] {
					rt.Fatalf("activity %q has place %d, not behind %d", a.ID, a.Place, last[a.TicketID])
				}
				last[a.TicketID] = a.Place
			}
			slices.Sort(pending)
			if diff := cmp.Diff(pending, pendingOf(rt, s, tenant)); diff != "" {
				rt.Fatalf("pending (-want +got):\n%s", diff)
			}
		})
	})
}

func pendingOf(rt *rapid.T, s *Store, tenant string) (ids []string) {
	entries, err := s.scan(rt.Context(), kv.Prefix(kv.Key("!", "pending", tenant)))
	if err != nil {
		rt.Fatal(err)
	}
	for _, entry := range entries {
		segments, err := kv.Split(entry.Key)
		if err != nil {
			rt.Fatal(err)
		}
		ids = append(ids, segments[3])
	}
	return ids
}
