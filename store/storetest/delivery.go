package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
)

func deliveredTo(t testing.TB, s *fixture, tenant, agent string) (ids []string) {
	t.Helper()
	return deliveredSince(t, s, agent, tenant, time.Time{})
}

func deliveredSince(t testing.TB, s *fixture, agent, tenant string, since time.Time) (ids []string) {
	t.Helper()
	list, err := s.DeliveredTo(t.Context(), tenant, agent, since)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		ids = append(ids, d.ID)
	}
	return ids
}

func testDeliveries(t *testing.T, s *fixture) {
	want := []store.Deliveries{
		{Agent: "a@example.com", Visit: 1, Items: []store.Delivery{
			{ID: "d1", PopID: "1", Agent: store.Agent{Email: "a@example.com"}, Outcome: store.DeliveryLink, Failure: &store.Failure{Reason: store.ReasonNotFound, RetryAfter: time.Second}, Time: someTime},
			{ID: "d2", PopID: "2", Outcome: store.DeliveryDisplayed, Time: someTime},
		}},
		{Agent: "b@example.com", Visit: 2},
		{Agent: "c@example.com", Visit: 3, Earlier: []store.Delivery{{ID: "d1", PopID: "1", Agent: store.Agent{Email: "a@example.com"}, Time: someTime}}},
	}
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		d, err := tx.Deliveries()
		if diff := cmp.Diff(store.Deliveries{}, d); diff != "" {
			t.Errorf("of an unknown interaction (-want +got):\n%s", diff)
		}
		return err
	})
	for _, d := range want {
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.SetDeliveries(d)
			if got, err := tx.Deliveries(); err != nil || !cmp.Equal(got, d) {
				t.Errorf("in the transaction: %+v, %v", got, err)
			}
		})
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			got, err := tx.Deliveries()
			if diff := cmp.Diff(d, got); diff != "" {
				t.Errorf("deliveries (-want +got):\n%s", diff)
			}
			return err
		})
	}

	// What is kept of earlier visits is bounded.
	for _, test := range []struct{ size, items, want int }{{1, 150, 100}, {5 << 10, 50, 6}, {40 << 10, 1, 0}} {
		d := store.Deliveries{Agent: "a", Visit: 1}
		for i := range test.items {
			d.Earlier = append(d.Earlier, store.Delivery{ID: fmt.Sprint(i)})
		}
		d.Items = []store.Delivery{{ID: "last", Failure: &store.Failure{Message: strings.Repeat("x", test.size)}}}
		for i := range d.Earlier {
			d.Earlier[i].Failure = d.Items[0].Failure
		}
		update(t, s, "i", func(tx *store.InteractionTxn) { tx.SetDeliveries(d.NextVisit("b")) })
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			got, err := tx.Deliveries()
			if len(got.Earlier) != test.want || test.want > 0 && got.Earlier[test.want-1].ID != "last" || got.Visit != 2 || got.Agent != "b" || len(got.Items) > 0 {
				t.Errorf("%d of %d bytes: %d are kept of earlier visits, want %d", test.items, test.size, len(got.Earlier), test.want)
			}
			return err
		})
	}
}

func testDeliveredTo(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	note := func(interaction, agent string, ids ...string) {
		var items []store.Delivered
		for _, id := range ids {
			items = append(items, store.Delivered{InteractionID: interaction, Delivery: store.Delivery{ID: id, Time: clock}})
		}
		update(t, s, interaction, func(tx *store.InteractionTxn) { tx.NoteDelivered(agent, items...) })
	}
	check := func(agent string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, deliveredTo(t, s, tenant, agent)); diff != "" {
			t.Errorf("%s at %v (-want +got):\n%s", agent, clock.Sub(someTime), diff)
		}
	}
	note("nothing", "a")
	check("a")
	view(t, s, "nothing", func(tx *store.InteractionTxn) error {
		if tx.Exists() {
			t.Error("nothing delivered made an interaction")
		}
		return nil
	})
	note("i", "a", "1", "2")
	clock = clock.Add(20 * time.Second)
	note("j", "a", "3")
	note("j", "b", "4")
	check("a", "1", "2", "3")
	check("b", "4")
	if got := deliveredTo(t, s, "other", "a"); got != nil {
		t.Errorf("of another tenant: %q", got)
	}
	clock = someTime.Add(store.RecentDeliveries)
	check("a", "1", "2", "3")
	clock = clock.Add(time.Nanosecond)
	check("a", "3")
	note("i", "a", "5")
	clock = someTime.Add(20 * time.Second) // an older clock sees what is stored
	check("a", "3", "5")
}

// testDeliveredIsBounded delivers more than the list holds, in number and in size.
func testDeliveredIsBounded(t *testing.T, s *fixture) {
	const most, mostBytes = 200, 384 << 10
	s.now = func() time.Time { return someTime }
	tests := []struct {
		name                       string
		deliveries, at, size, want int
	}{
		{"at once", most + 5, most + 5, 1, most},
		{"one by one", 12, 1, mostBytes/10 - 1000, 10},
		{"large at once", 12, 12, mostBytes/4 - 1000, 4},
		{"too large", 1, 1, mostBytes + 1, 0},
	}
	for _, test := range tests {
		var items []store.Delivered
		var want []string
		for i := range test.deliveries {
			items = append(items, store.Delivered{Delivery: store.Delivery{ID: fmt.Sprint(i), PopID: strings.Repeat("x", test.size), Time: someTime}})
			if i >= test.deliveries-test.want {
				want = append(want, fmt.Sprint(i))
			}
		}
		for start := 0; start < len(items); start += test.at {
			update(t, s, "i", func(tx *store.InteractionTxn) {
				tx.SetDeliveries(store.Deliveries{Agent: test.name, Items: []store.Delivery{{PopID: strings.Repeat("x", 300<<10)}}})
				tx.NoteDelivered(test.name, items[start:start+test.at]...)
			})
		}
		if diff := cmp.Diff(want, deliveredTo(t, s, tenant, test.name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// testDeliveredForAnHour delivers all the time, and looks back.
func testDeliveredForAnHour(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	var ids []string // with their times
	var times []time.Time
	deliver := func(every time.Duration, size int) {
		clock = clock.Add(every)
		ids, times = append(ids, fmt.Sprint(len(ids))), append(times, clock)
		item := store.Delivered{Delivery: store.Delivery{ID: ids[len(ids)-1], PopID: strings.Repeat("x", size), Time: clock}}
		update(t, s, "i", func(tx *store.InteractionTxn) { tx.NoteDelivered("a", item) })
	}
	check := func(back time.Duration, most int) {
		t.Helper()
		since := clock.Add(-back)
		var want []string
		for i, at := range times {
			if !at.Before(since) {
				want = append(want, ids[i])
			}
		}
		if most < len(want) {
			want = want[len(want)-most:]
		}
		if diff := cmp.Diff(want, deliveredSince(t, s, "a", tenant, since)); diff != "" {
			t.Errorf("after %v, %v back (-want +got):\n%s", clock.Sub(someTime), back, diff)
		}
	}
	for range 90 {
		deliver(time.Minute, 1)
		for _, back := range []time.Duration{0, 30 * time.Second, time.Minute, 2 * time.Minute, 10 * time.Minute, time.Hour} {
			check(back, 200)
		}
	}
	clock = clock.Add(40 * time.Minute)
	check(time.Hour, 200)
	for range 300 { // busier than what is kept
		deliver(10*time.Second, 1)
	}
	check(30*time.Second, 200)
	check(time.Hour, 200)
	for range 20 {
		deliver(time.Minute, 40<<10)
	}
	check(30*time.Second, 200)
	check(time.Hour, 9) // 384 KiB

	clock = clock.Add(store.RecentDeliveries)
	sweep(t, s, 10)
	clock = clock.Add(store.RecentDeliveries)
	sweep(t, s, 10)
	if n := keysOf(t, s); n != 1 {
		t.Errorf("%d keys are left of an interaction without parts", n)
	}
}

// testWatchDelivered reads as a watcher does, while deliveries go on. It waits for ever when one is missed.
func testWatchDelivered(t *testing.T, s *fixture) {
	const deliveries = 50
	s.now = func() time.Time { return someTime }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tokens, err := s.WatchDelivered(ctx, tenant, "a")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		for i := range deliveries {
			err := s.UpdateInteraction(ctx, tenant, fmt.Sprint("i", i%3), func(tx *store.InteractionTxn) error {
				tx.NoteDelivered("a", store.Delivered{Delivery: store.Delivery{ID: fmt.Sprint(i), Time: someTime}})
				tx.NoteDelivered("b", store.Delivered{Delivery: store.Delivery{ID: "another agent's", Time: someTime}})
				return nil
			})
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	var seen []string
	for len(seen) < deliveries {
		select {
		case <-tokens:
			seen = deliveredTo(t, s, tenant, "a")
		case err := <-failed:
			t.Fatal(err)
		}
	}
	for i, id := range seen {
		if id != fmt.Sprint(i) {
			t.Errorf("delivery %d is %q", i, id)
		}
	}
	cancel()
	for range tokens {
		continue // until it is closed
	}
}
