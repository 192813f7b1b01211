package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// exactUsage counts all that is stored of a tenant.
func exactUsage(t testing.TB, s *Store, tenant string) (u Usage) {
	t.Helper()
	keys := kv.Prefix(kv.Key(tenant))
	for more := true; more; {
		var entries []kv.Entry
		var err error
		if entries, more, err = s.scan(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			keys.Start = kv.After(e.Key)
			if bytes.Equal(e.Key, usageKey(tenant)) {
				continue
			}
			u.StoredBytes += int64(len(e.Key) + len(e.Value))
			path, err := kv.Split(e.Key)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case path[1] == "a" && path[2] == "record":
				u.Accounts++
			case path[1] == "c":
				a, err := s.vault.openActivity(e.Key, e.Value)
				if err != nil {
					t.Fatal(err)
				}
				if a.State == ActivityPending {
					u.PendingActivities++
				}
				if a.State == ActivityDead {
					u.DeadActivities++
				}
			case path[1] == "h" && path[3] == "head":
				var head interactionHead
				in := reading{vault: s.vault, tenant: tenant}
				if err := in.decodes(e, &head); err != nil {
					t.Fatal(err)
				}
				if head.State == InteractionActive {
					u.LiveInteractions++
				}
			}
		}
	}
	return u
}

// flood changes what some tenants have, in many ways at once.
func flood(t *testing.T, s *Store, tenants []string, rounds int) {
	var workers sync.WaitGroup
	for seed := range 4 {
		workers.Go(func() {
			random := mathrand.New(mathrand.NewPCG(9, uint64(seed)))
			for range rounds {
				tenant, id := tenants[random.IntN(len(tenants))], fmt.Sprint("call-", random.IntN(20))
				if err := floodOnce(t.Context(), s, random, tenant, id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
}

func floodOnce(ctx context.Context, s *Store, random *mathrand.Rand, tenant, id string) error {
	text := strings.Repeat("x", random.IntN(2000))
	activity := Activity{ID: NewActivityID(someTime), Account: AccountUse{AccountID: "a"}, TicketID: fmt.Sprint(random.IntN(3) + 1), State: ActivityPending + ActivityState(random.IntN(5))}
	what, changed := random.IntN(8), ""
	var staged *StagedRecords
	if what == 0 {
		var err error
		if staged, err = s.StageRecords(ctx, tenant, id, recordsOf(random.IntN(70), random.IntN(100)*blockBytes/50, "x")); err != nil {
			return err
		}
	}
	err := s.UpdateInteraction(ctx, tenant, id, func(tx *InteractionTxn) error {
		if changed = ""; tx.State() == InteractionCompleted {
			changed = tx.ActivityID()
			tx.KeepReply("Search", fmt.Sprint(random.IntN(9)), Reply{Body: []byte(text)})
			return nil
		}
		switch what {
		case 0:
			tx.PublishRecordset(Recordset{Name: fmt.Sprint("rs", len(text)%3)}, staged)
		case 1:
			tx.RemoveRecordset("rs1")
		case 2:
			tx.SetAttachedData(map[string]string{fmt.Sprint(len(text) % 5): text})
		case 3:
			tx.AddScreenPop(ScreenPop{ID: text})
		case 4:
			tx.KeepReply("Search", fmt.Sprint(len(text)%9), Reply{Body: []byte(text), ShowsData: true})
		case 5:
			if _, err := tx.Deliveries(); err != nil {
				return err
			}
			tx.SetDeliveries(Deliveries{Agent: text})
			tx.NoteDelivered("agent", Delivered{Delivery: Delivery{ID: text, Time: someTime}})
		case 6:
			_, err := tx.Complete(activity)
			return err
		}
		return nil
	})
	if errors.Is(err, ErrStagedGone) {
		err = nil
	}
	if err == nil && changed != "" {
		_, err = s.UpdateActivity(ctx, tenant, changed, func(a *Activity) error {
			a.State, a.TicketID = activity.State, activity.TicketID
			return nil
		})
	}
	return err
}

// TestUsageOfAFlood holds what is counted to what there is.
func TestUsageOfAFlood(t *testing.T) {
	s := openStore(t, t.TempDir())
	tenants := []string{"one", "two", "three"}
	check := func(what string, bytes bool) {
		t.Helper()
		if err := s.FlushUsage(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, tenant := range tenants {
			want := exactUsage(t, s, tenant)
			got, _, err := s.Usage(t.Context(), tenant)
			if err != nil {
				t.Fatal(err)
			}
			if off := got.StoredBytes - want.StoredBytes; !bytes && float64(max(off, -off)) < float64(want.StoredBytes)/3 {
				got.StoredBytes = want.StoredBytes // staged, and then the interaction was completed
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: tenant %q (-want +got):\n%s", what, tenant, diff)
			}
		}
	}
	flood(t, s, tenants, 60)
	check("counted as it changed", false)

	ended := make(chan struct{})
	var beside sync.WaitGroup
	repeat := func(work func() error) {
		beside.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				if err := work(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	repeat(func() error { return s.FlushUsage(t.Context()) })
	repeat(func() error { _, err := s.Scrub(t.Context()); return err })
	flood(t, s, tenants, 40)
	close(ended)
	beside.Wait()
	if _, err := s.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("counted anew", true)
}

// TestRecountMeetsChanges changes data that a recount has walked over, is at, and has yet to come to.
func TestRecountMeetsChanges(t *testing.T) {
	s := openStore(t, t.TempDir())
	ctx := t.Context()
	touch := func(id, text string) {
		t.Helper()
		err := s.UpdateInteraction(ctx, tenant, id, func(tx *InteractionTxn) error {
			tx.SetAttachedData(map[string]string{"a": text})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		touch(fmt.Sprint(i), "x")
	}
	run := scrub{store: s}
	steps := 0
	for at := []byte(nil); ; steps++ {
		next, err := run.step(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		if at = next; at == nil {
			break
		}
		for i := range 3 { // some are before, some behind
			id := fmt.Sprint((steps*7 + i) % 25)
			if i == 2 && steps%2 == 0 {
				_ = s.UpdateInteraction(ctx, tenant, id, func(tx *InteractionTxn) error {
					if tx.State() == InteractionActive {
						_, err := tx.Complete(Activity{ID: NewActivityID(someTime), State: ActivityDead - ActivityState(steps%4/2*3)})
						return err
					}
					return nil
				})
			} else {
				touch(id, strings.Repeat("y", steps*10))
			}
		}
		if steps%5 == 0 {
			if err := s.FlushUsage(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := run.enter(ctx, ""); err != nil {
		t.Fatal(err)
	}
	got, _, err := s.Usage(ctx, tenant)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exactUsage(t, s, tenant), got); diff != "" || steps < 20 {
		t.Errorf("after %d steps (-want +got):\n%s", steps, diff)
	}
}

// TestDamagedUsage goes on with a count that cannot be read, until all is counted anew.
func TestDamagedUsage(t *testing.T) {
	folder := t.TempDir()
	s, err := Open(t.Context(), Config{Path: filepath.Join(folder, "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateAccount(t.Context(), tenant, Account{ID: "a", Name: "A"}); err != nil {
		t.Fatal(err)
	}
	want := exactUsage(t, s, tenant)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, folder)
	if got, _, err := s.Usage(t.Context(), tenant); err != nil || got != want {
		t.Errorf("opened again: %+v, %v; want %+v", got, err, want)
	}
	err = s.engine.Update(t.Context(), func(tx kv.Txn) error { tx.Put(usageKey(tenant), []byte("x")); return nil })
	if err != nil {
		t.Fatal(err)
	}
	log := loud(s)
	s.counter.tenants = nil // as after a start
	if _, err := s.CreateAccount(t.Context(), tenant, Account{ID: "b", Name: "B"}); err != nil {
		t.Errorf("with a damaged count: %v", err)
	}
	if err := s.FlushUsage(t.Context()); err != nil {
		t.Errorf("with a damaged count: %v", err)
	}
	if !strings.Contains(log.String(), "the count is damaged") {
		t.Errorf("the log does not tell:\n%s", log)
	}
	if _, err := s.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.Usage(t.Context(), tenant); err != nil || got != exactUsage(t, s, tenant) {
		t.Errorf("counted anew: %+v, %v; want %+v", got, err, exactUsage(t, s, tenant))
	}
}

// TestWarningsOfQuota tells of a tenant near to its quota, and not again and again.
func TestWarningsOfQuota(t *testing.T) {
	s := openStore(t, t.TempDir())
	clock := someTime
	s.now = func() time.Time { return clock }
	s.counter.quota = Usage{LiveInteractions: 10, Accounts: 10}
	log := loud(s)
	begun := 0
	for _, step := range []struct {
		begin int
		after time.Duration
		want  string // percent; empty: nothing is told
	}{
		{8, 0, ""}, {1, 0, "percent=90"}, {0, time.Second, ""}, {1, time.Second, "percent=100"}, {1, time.Second, ""}, {1, warnEvery, "percent=100"},
	} {
		clock = clock.Add(step.after)
		for range step.begin {
			begun++
			err := s.UpdateInteraction(t.Context(), tenant, fmt.Sprint(begun), func(tx *InteractionTxn) error { tx.ClearAccount(); return nil })
			if _, refused := errors.AsType[*QuotaError](err); err != nil && !refused {
				t.Fatal(err)
			}
		}
		log.Reset()
		if err := s.FlushUsage(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); (step.want == "") != (got == "") || !strings.Contains(got, step.want) {
			t.Errorf("after %d: %q, want %q", begun, got, step.want)
		}
	}
	clock = clock.Add(warnEvery)
	log.Reset()
	for i := range 9 {
		if _, err := s.CreateAccount(t.Context(), tenant, Account{ID: fmt.Sprint("a", i), Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 {
		t.Errorf("accounts: %q", got)
	}
}

// TestOlderActivitiesAgeOut has activities age out that were stored before their ends were: from when they are known to have
// ended, or from when the sweep first sees them.
func TestOlderActivitiesAgeOut(t *testing.T) {
	for name, test := range map[string]struct {
		state    ActivityState
		written  time.Time
		stripped bool
		aged     time.Duration // after someTime
	}{
		"written":               {ActivityWritten, someTime.Add(-80 * day), true, 10 * day},
		"skipped":               {ActivitySkipped, time.Time{}, true, 0}, // when it was created
		"discarded":             {ActivityDiscarded, time.Time{}, false, 90 * day},
		"discarded, stripped":   {ActivityDiscarded, time.Time{}, true, 90 * day},
		"written, nobody knows": {ActivityWritten, time.Time{}, true, 90 * day},
	} {
		s := openStore(t, t.TempDir())
		clock := someTime
		s.now = func() time.Time { return clock }
		hashed := s.vault.hashInteraction(tenant, "call-1")
		a := storedActivity{Activity: Activity{ID: "a1", InteractionID: "call-1", State: test.state, WriteTime: test.written, CreateTime: someTime.Add(-100 * day)}}
		head := interactionHead{ID: "call-1", UpdateTime: someTime.Add(-100 * day), State: InteractionCompleted, ActivityID: "a1", Stripped: test.stripped, Parts: new(parts)}
		err := s.update(t.Context(), tenant, func(w *writing) error {
			w.due(someTime.Add(-time.Second), dueInteraction, hashed)
			return errors.Join(w.saveActivity(&a, test.state, nil, time.Time{}), w.save(headKey(tenant, hashed), &head))
		})
		if err != nil {
			t.Fatal(err)
		}
		before := max(test.aged-time.Second, 0)
		for step := time.Duration(0); step < test.aged; step += 5 * day {
			clock = someTime.Add(min(step, before))
			if swept := sweep(t, s, 10); swept.Aged != 0 {
				t.Errorf("%s: aged out %v after it was seen", name, clock.Sub(someTime))
			}
		}
		clock = someTime.Add(test.aged + time.Second)
		if swept := sweep(t, s, 10); swept.Aged != 1 {
			t.Errorf("%s: after %v: swept %+v", name, test.aged, swept)
		}
		if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
			t.Errorf("%s: scrubbed: %+v, %v", name, found, err)
		}
	}
}
