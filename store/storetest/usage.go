package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// usage is what is counted of the tenant.
func usage(t testing.TB, s *fixture) store.Usage {
	t.Helper()
	used, _, err := s.Usage(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	return used
}

func scrub(t testing.TB, s *fixture) {
	t.Helper()
	if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
		t.Fatalf("scrubbed: %+v, %v", found, err)
	}
}

// testUsage counts what there is at each step, without looking at all of it.
func testUsage(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	check := func(step string, want store.Usage) {
		t.Helper()
		want.StoredBytes = int64(bytesOf(t, s))
		if got := usage(t, s); got != want {
			t.Errorf("%s: %+v is counted, not %+v", step, got, want)
		}
	}
	check("nothing", store.Usage{})
	create(t, s, store.Account{ID: "a", Name: "A"})
	create(t, s, store.Account{ID: "b", Name: "B"})
	check("accounts", store.Usage{Accounts: 2})
	if _, err := s.UpdateAccount(t.Context(), tenant, "b", "", func(a *store.Account) error { a.Name = "a longer name"; return nil }); err != nil {
		t.Fatal(err)
	}
	check("renamed", store.Usage{Accounts: 2})

	large := stage(t, s, "i", recordsOf(60, 16<<10, "x")) // written before they are published
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.PublishRecordset(store.Recordset{Name: "rs"}, large)
		tx.SetAttachedData(map[string]string{"a": "1"})
		tx.KeepReply("Search", "1", store.Reply{Body: []byte("short"), ShowsData: true})
		tx.KeepReply("Search", "2", store.Reply{Body: []byte(incompressible(1, 10<<10))})
	})
	check("published", store.Usage{Accounts: 2, LiveInteractions: 1})
	small := stage(t, s, "i", recordsOf(3, 10, "x"))
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.PublishRecordset(store.Recordset{Name: "rs"}, small)
		tx.PublishRecordset(store.Recordset{Name: "other"}, stage(t, s, "i", recordsOf(2, 10, "x")))
		tx.SetAttachedData(map[string]string{"b": "22"})
		tx.AddScreenPop(store.ScreenPop{ID: "1"})
		tx.KeepReply("Search", "2", store.Reply{Body: []byte("another")})
	})
	check("published again", store.Usage{Accounts: 2, LiveInteractions: 1})
	update(t, s, "i", func(tx *store.InteractionTxn) { tx.RemoveRecordset("other") })
	check("removed", store.Usage{Accounts: 2, LiveInteractions: 1})
	update(t, s, "i", func(tx *store.InteractionTxn) {
		if d, err := tx.Deliveries(); err != nil || len(d.Items) > 0 {
			t.Errorf("deliveries %+v, %v", d, err)
		}
		tx.SetDeliveries(store.Deliveries{Agent: "x", Visit: 1})
		tx.NoteDelivered("x", store.Delivered{Delivery: store.Delivery{ID: "1", Time: clock}})
	})
	check("delivered", store.Usage{Accounts: 2, LiveInteractions: 1})
	if err := s.FlushUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	flushed := int64(bytesOf(t, s)) - usage(t, s).StoredBytes // the count itself, which does not count
	if flushed <= 0 {
		t.Errorf("what is counted is stored in %d bytes", flushed)
	}
	checkAfter := func(step string, want store.Usage) {
		t.Helper()
		want.StoredBytes = int64(bytesOf(t, s)) - flushed
		if got := usage(t, s); got != want {
			t.Errorf("%s: %+v is counted, not %+v", step, got, want)
		}
	}

	complete(t, s, tenant, "i", store.Activity{ID: "a1", Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending})
	checkAfter("completed", store.Usage{Accounts: 2, PendingActivities: 1})
	complete(t, s, tenant, "j", store.Activity{ID: "a2", Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending})
	changeActivity(t, s, "a2", func(a *store.Activity) {
		a.State, a.Failure = store.ActivityDead, new(store.NewFailure(store.ReasonNotFound, "gone"))
	})
	checkAfter("dead", store.Usage{Accounts: 2, PendingActivities: 1, DeadActivities: 1})
	changeActivity(t, s, "a1", func(a *store.Activity) { a.State = store.ActivityWritten })
	changeActivity(t, s, "a2", func(a *store.Activity) { a.State = store.ActivityPending })
	checkAfter("retried", store.Usage{Accounts: 2, PendingActivities: 1})
	changeActivity(t, s, "a2", func(a *store.Activity) { a.State = store.ActivityDiscarded })
	update(t, s, "idle", func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
	checkAfter("discarded", store.Usage{Accounts: 2, LiveInteractions: 1})
	failed := errors.New("no")
	if err := s.UpdateInteraction(t.Context(), tenant, "k", func(tx *store.InteractionTxn) error { tx.ClearAccount(); return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	checkAfter("nothing was done", store.Usage{Accounts: 2, LiveInteractions: 1})
	clock = clock.Add(8 * day)
	sweep(t, s, 20)
	checkAfter("tombstones", store.Usage{Accounts: 2})
	for _, id := range []string{"b", "a"} {
		if err := s.DeleteAccount(t.Context(), tenant, id, ""); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		clock = clock.Add(31 * day)
		sweep(t, s, 20)
	}
	checkAfter("all is gone", store.Usage{})
	if err := s.FlushUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := keysOf(t, s); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// testUsageSurvivesCrash loses what was counted since it was stored, until all is counted anew.
func testUsageSurvivesCrash(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	begin := func(id string) {
		update(t, s, id, func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{"a": id}) })
	}
	begin("1")
	if err := s.FlushUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored := usage(t, s)
	begin("2")
	complete(t, s, tenant, "3", store.Activity{ID: "a1", Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending})
	exact := usage(t, s)
	s.reopen(t, store.Config{})
	if got := usage(t, s); got != stored {
		t.Errorf("after a crash: %+v is counted, not the %+v that were stored", got, stored)
	}
	begin("4") // counts go on from there
	if got, want := usage(t, s).LiveInteractions, stored.LiveInteractions+1; got != want {
		t.Errorf("after a crash and another one %d are counted, want %d", got, want)
	}
	clock = clock.Add(time.Hour)
	scrub(t, s)
	got, counted, err := s.Usage(t.Context(), tenant)
	if err != nil || got.LiveInteractions != 3 || got.PendingActivities != 1 || got.StoredBytes <= exact.StoredBytes || !counted.Equal(clock) {
		t.Errorf("counted anew: %+v at %v, %v", got, counted, err)
	}
	if err := s.FlushUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := usage(t, s); again != got {
		t.Errorf("stored once more: %+v, not %+v", again, got)
	}
	s.reopen(t, store.Config{})
	if again := usage(t, s); again != got {
		t.Errorf("opened once more: %+v, not %+v", again, got)
	}
	if _, _, err := s.Usage(t.Context(), "!"); err == nil {
		t.Error("what is no tenant has a usage")
	}
}

// mustRefuse holds an error to be of a quota.
func mustRefuse(t testing.TB, what string, err error, want store.QuotaError) {
	t.Helper()
	refused, ok := errors.AsType[*store.QuotaError](err)
	if !ok || *refused != want {
		t.Errorf("%s: got %v, want %v", what, err, &want)
	}
}

// testQuotas goes to each quota of a number.
func testQuotas(t *testing.T, s *fixture) {
	s.reopen(t, store.Config{Quota: store.Usage{Accounts: 2, LiveInteractions: 3, PendingActivities: 10}})
	ctx := t.Context()
	touch := func(tenant, id string) error {
		return s.UpdateInteraction(ctx, tenant, id, func(tx *store.InteractionTxn) error { tx.ClearAccount(); return nil })
	}
	pending := func(id string) error {
		return s.UpdateInteraction(ctx, tenant, id, func(tx *store.InteractionTxn) error {
			_, err := tx.Complete(store.Activity{ID: id, Account: atZendesk("x"), TicketID: "7", State: store.ActivityPending})
			return err
		})
	}
	create(t, s, store.Account{ID: "a", Name: "A"})
	create(t, s, store.Account{ID: "b", Name: "B"})
	_, err := s.CreateAccount(ctx, tenant, store.Account{ID: "c", Name: "C"})
	mustRefuse(t, "third account", err, store.QuotaError{Quota: "accounts", Limit: 2})
	if _, err := s.Account(ctx, tenant, "c"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the account that was refused: got %v, want ErrNotFound", err)
	}
	if err := s.DeleteAccount(ctx, tenant, "b", ""); err != nil {
		t.Fatal(err)
	}
	create(t, s, store.Account{ID: "c", Name: "C"})

	for i := range 3 {
		if err := touch(tenant, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	mustRefuse(t, "fourth interaction", touch(tenant, "3"), store.QuotaError{Quota: "live_interactions", Limit: 3})
	if _, exists := stateOf(t, s, "3"); exists {
		t.Error("the interaction that was refused exists")
	}
	for name, err := range map[string]error{"one that is there": touch(tenant, "0"), "another tenant's": touch("other", "3"), "completed without a call before": pending("direct")} {
		if err != nil {
			t.Errorf("at the quota, %s: %v", name, err)
		}
	}
	if err := errors.Join(pending("0"), touch(tenant, "3")); err != nil {
		t.Errorf("one was completed, and made room for another: %v", err)
	}

	for i := range 9 { // to a tenth above the quota
		if err := pending(fmt.Sprint("p", i)); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	mustRefuse(t, "pending activity", pending("p9"), store.QuotaError{Quota: "pending_activities", Limit: 10})
	changeActivity(t, s, "p0", func(a *store.Activity) { a.State = store.ActivityDead })
	changeActivity(t, s, "p0", func(a *store.Activity) { a.State = store.ActivityPending }) // decisions go on
	changeActivity(t, s, "p1", func(a *store.Activity) { a.State = store.ActivityDiscarded })
	if err := pending("p9"); err != nil {
		t.Errorf("one was discarded, and made room for another: %v", err)
	}
}

// testQuotaOfBytes fills a tenant.
func testQuotaOfBytes(t *testing.T, s *fixture) {
	ctx := t.Context()
	const quota = 1 << 20
	s.reopen(t, store.Config{Quota: store.Usage{StoredBytes: quota}})
	refusal := store.QuotaError{Quota: "stored_bytes", Limit: quota}
	attach := func(id string, size int) error {
		return s.UpdateInteraction(ctx, tenant, id, func(tx *store.InteractionTxn) error {
			tx.SetAttachedData(map[string]string{"a": incompressible(1, size)})
			return nil
		})
	}
	staged := stage(t, s, "other", recordsOf(3, 3000, "x"))
	update(t, s, "other", func(tx *store.InteractionTxn) { tx.PublishRecordset(store.Recordset{Name: "rs", Position: 1}, staged) })
	i, err := 0, error(nil)
	for ; err == nil && i < 100; i++ {
		err = attach(fmt.Sprint(i), 100<<10)
	}
	mustRefuse(t, "attached data", err, refusal)
	if got := bytesOf(t, s); got > quota || got < quota/2 {
		t.Errorf("%d bytes are stored", got)
	}
	for err = nil; err == nil; i++ {
		err = attach(fmt.Sprint(i), 5<<10)
	}
	_, err = s.StageRecords(ctx, tenant, "other", noisyRecords(60, 16<<10))
	mustRefuse(t, "records that are written before", err, refusal)
	held := stage(t, s, "other", noisyRecords(10, 5000))
	mustRefuse(t, "recordset", s.UpdateInteraction(ctx, tenant, "other", func(tx *store.InteractionTxn) error {
		tx.PublishRecordset(store.Recordset{Name: "more"}, held)
		return nil
	}), refusal)
	update(t, s, "other", func(tx *store.InteractionTxn) { // a cursor goes on
		rs, err := tx.Recordset("rs")
		if err != nil {
			t.Error(err)
		}
		rs.Position++
		tx.UpdateRecordset(rs)
		tx.KeepReply("GetNextRecord", "1", store.Reply{Body: []byte(incompressible(1, 1000))})
	})
	for err = nil; err == nil; i++ {
		err = attach(fmt.Sprint(i), 1000)
	}
	mustRefuse(t, "little, again and again", err, refusal)
	if got := bytesOf(t, s); got < quota || got > quota+quota/20+1000 {
		t.Errorf("%d bytes are stored", got)
	}
	complete(t, s, tenant, "done", store.Activity{ID: "a1", Account: atZendesk("x"), State: store.ActivityDead, Details: store.ActivityDetails{Notes: incompressible(1, 20<<10)}})
	shown := slices.Repeat([]store.Delivery{{ID: "1", PopID: "2"}}, 50)
	update(t, s, "other", func(tx *store.InteractionTxn) { tx.SetDeliveries(store.Deliveries{Agent: "x", Items: shown}) })
	_, err = s.CreateAccount(ctx, tenant, store.Account{ID: "a", Name: "A"})
	mustRefuse(t, "account", err, refusal)
	update(t, s, "other", func(tx *store.InteractionTxn) { tx.RemoveRecordset("rs") })
	for j := range i - 1 {
		id := fmt.Sprint(j)
		if _, exists := stateOf(t, s, id); !exists {
			continue
		}
		if err := attach(id, 1); err != nil {
			t.Errorf("less than before: %v", err)
		}
	}
	if err := attach("again", 100<<10); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}
