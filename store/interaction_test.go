package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

func TestInteractionIsCreatedByAChange(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		clock := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		s.now = func() time.Time { return clock }
		exists := func() (exists bool) {
			view(t, s, "i", func(tx *InteractionTxn) error {
				exists = tx.Exists()
				return nil
			})
			return exists
		}
		update(t, s, "i", func(tx *InteractionTxn) {
			tx.Exists()
			popsOf(t, tx)
		})
		refused := errors.New("refused")
		err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *InteractionTxn) error {
			tx.SetAccount(AccountUse{AccountID: "a"})
			return refused
		})
		if !errors.Is(err, refused) || exists() {
			t.Fatalf("got %v, exists %v", err, exists())
		}
		for range 2 {
			update(t, s, "i", func(tx *InteractionTxn) { tx.KeepReply("Search", "1", Reply{Body: []byte("x")}) })
			clock = clock.Add(time.Hour)
		}
		view(t, s, "i", func(tx *InteractionTxn) error {
			want := []time.Time{clock.Add(-2 * time.Hour), clock.Add(-time.Hour)}
			if diff := cmp.Diff(want, []time.Time{tx.CreateTime(), tx.UpdateTime()}); diff != "" || !tx.Exists() {
				t.Errorf("times (-want +got):\n%s", diff)
			}
			return nil
		})
	})
}

func TestInteractionAccount(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		use := AccountUse{AccountID: "a", Incarnation: "1", Name: "A", URL: "https://a.zendesk.com", Selection: Default}
		steps := []struct {
			change func(*InteractionTxn)
			use    AccountUse
			state  AccountState
		}{
			{func(*InteractionTxn) {}, AccountUse{}, AccountUnset},
			{func(tx *InteractionTxn) { tx.SetAccount(use) }, use, AccountInForce},
			{func(tx *InteractionTxn) { tx.ClearAccount() }, AccountUse{}, AccountCleared},
			{func(tx *InteractionTxn) { tx.SetAccount(use) }, use, AccountInForce},
		}
		for i, step := range steps {
			check := func(tx *InteractionTxn) error {
				if use, state := tx.Account(); use != step.use || state != step.state {
					t.Errorf("%d: account is %v, %v, want %v, %v", i, use, state, step.use, step.state)
				}
				return nil
			}
			update(t, s, "i", func(tx *InteractionTxn) {
				step.change(tx)
				if err := check(tx); err != nil {
					t.Error(err)
				}
			})
			view(t, s, "i", check)
		}
	})
}

func TestAttachedDataAndPops(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		check := func(tx *InteractionTxn, wantData map[string]string, wantPops []ScreenPop) {
			t.Helper()
			data, err := tx.AttachedData()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantData, data); diff != "" {
				t.Errorf("attached data (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantPops, popsOf(t, tx)); diff != "" {
				t.Errorf("screen pops (-want +got):\n%s", diff)
			}
		}
		pops := []ScreenPop{{ID: "1", RecordType: RecordUser, RecordID: "3", URL: "u", CreateTime: time.Unix(1, 0).UTC()}, {ID: "2"}, {ID: "3"}}
		update(t, s, "i", func(tx *InteractionTxn) {
			check(tx, map[string]string{}, nil)
			tx.SetAttachedData(map[string]string{"a": "1", "b": "2"})
			tx.AddScreenPop(pops[0])
			tx.AddScreenPop(pops[1])
			check(tx, map[string]string{"a": "1", "b": "2"}, pops[:2])
		})
		update(t, s, "i", func(tx *InteractionTxn) {
			tx.SetAttachedData(map[string]string{"b": ""})
			tx.AddScreenPop(pops[2])
			popsOf(t, tx)[0].ID = "a copy"
		})
		view(t, s, "i", func(tx *InteractionTxn) error {
			check(tx, map[string]string{"b": ""}, pops)
			return nil
		})
	})
}

// TestLargestData stores what the service allows, in characters that JSON makes the most of, with a reply that repeats it.
func TestLargestData(t *testing.T) {
	s := openStore(t, t.TempDir())
	data := make(map[string]string)
	total := 0
	for i := range 200 {
		key := fmt.Sprintf("%03d", i) + strings.Repeat("\x01", 253)
		data[key] = strings.Repeat("\x02", 256<<10/200-len(key))
		total += len(key) + len(data[key])
	}
	update(t, s, "i", func(tx *InteractionTxn) {
		tx.SetAttachedData(data)
		tx.KeepReply("AttachedData", "1", Reply{Body: make([]byte, total+4<<10)})
	})
	view(t, s, "i", func(tx *InteractionTxn) error {
		got, err := tx.AttachedData()
		if diff := cmp.Diff(data, got); diff != "" {
			t.Error("attached data is not what was stored")
		}
		return err
	})
	err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *InteractionTxn) error {
		tx.SetAttachedData(map[string]string{"a": strings.Repeat("x", 1<<20)})
		return nil
	})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("1 MiB: got %v, want ErrTooLarge", err)
	}
}

func TestReplies(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		reply := Reply{Fingerprint: []byte{1}, Body: []byte{0, 255}}
		update(t, s, "i", func(tx *InteractionTxn) {
			tx.KeepReply("Search", "1", reply)
			if got, found, err := tx.Reply("Search", "1"); !found || err != nil || !cmp.Equal(got, reply) {
				t.Errorf("in the transaction: got %v, %v, %v", got, found, err)
			}
		})
		for _, test := range []struct {
			interaction, rpc, id string
			want                 bool
		}{{"i", "Search", "1", true}, {"i", "Search", "2", false}, {"i", "ScreenPop", "1", false}, {"j", "Search", "1", false}} {
			view(t, s, test.interaction, func(tx *InteractionTxn) error {
				got, found, err := tx.Reply(test.rpc, test.id)
				if found != test.want || found && !cmp.Equal(got, reply) {
					t.Errorf("%v: got %v, %v", test, got, found)
				}
				return err
			})
		}
	})
}

func TestViewChangesNothing(t *testing.T) {
	s := openStore(t, t.TempDir())
	populate(t, s)
	staged, err := s.StageRecords(t.Context(), tenant, "call-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(*InteractionTxn){
		"SetAccount":       func(tx *InteractionTxn) { tx.SetAccount(AccountUse{}) },
		"ClearAccount":     func(tx *InteractionTxn) { tx.ClearAccount() },
		"SetAttachedData":  func(tx *InteractionTxn) { tx.SetAttachedData(nil) },
		"AddScreenPop":     func(tx *InteractionTxn) { tx.AddScreenPop(ScreenPop{}) },
		"KeepReply":        func(tx *InteractionTxn) { tx.KeepReply("a", "b", Reply{}) },
		"PublishRecordset": func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: canary}, staged) },
		"UpdateRecordset":  func(tx *InteractionTxn) { tx.UpdateRecordset(Recordset{Name: canary}) },
		"RemoveRecordset":  func(tx *InteractionTxn) { tx.RemoveRecordset(canary) },
		"SetDeliveries":    func(tx *InteractionTxn) { tx.SetDeliveries(Deliveries{}) },
		"NoteDelivered":    func(tx *InteractionTxn) { tx.NoteDelivered("a", Delivered{}) },
		"Complete": func(tx *InteractionTxn) {
			if _, err := tx.Complete(Activity{ID: "a"}); !errors.Is(err, errReadOnly) {
				t.Errorf("Complete itself: got %v, want errReadOnly", err)
			}
		},
	} {
		err := s.ViewInteraction(t.Context(), tenant, "call-1", func(tx *InteractionTxn) error {
			set(tx)
			return nil
		})
		if !errors.Is(err, errReadOnly) {
			t.Errorf("%s: got %v, want errReadOnly", name, err)
		}
	}
}

// lossy commits and says that it does not know, as often as asked.
type lossy struct {
	kv.Engine
	times int
}

func (l *lossy) Update(ctx context.Context, fn func(kv.Txn) error) error {
	err := l.Engine.Update(ctx, fn)
	if err == nil && l.times > 0 {
		l.times--
		return kv.ErrUnknownOutcome
	}
	return err
}

// TestOnceInEffect loses sight of a commit in each method that is not repeatable as it stands.
func TestOnceInEffect(t *testing.T) {
	s := openStore(t, t.TempDir())
	engine := &lossy{Engine: s.engine}
	s.engine = engine

	for _, id := range []string{"a", "b"} {
		engine.times = 2
		create(t, s, Account{ID: id, Name: "name of " + id})
	}
	runs := 0
	engine.times = 2
	b, err := s.UpdateAccount(t.Context(), tenant, "b", "", func(b *Account) error {
		runs++
		b.DefaultRegion += "x"
		b.Default = true
		return nil
	})
	if err != nil || runs != 1 || b.DefaultRegion != "x" || !b.Default {
		t.Errorf("update ran %d times: %+v, %v", runs, b, err)
	}
	engine.times = 2
	if _, err := s.UpdateAccount(t.Context(), tenant, "b", b.ETag, func(b *Account) error { b.DefaultRegion = "y"; return nil }); err != nil {
		t.Errorf("update with an etag: %v", err)
	}
	for _, id := range []string{"a", "b"} {
		engine.times = 2
		if err := s.DeleteAccount(t.Context(), tenant, id, ""); err != nil {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	engine.times = 2
	runs = 0
	update(t, s, "i", func(tx *InteractionTxn) {
		runs++
		tx.AddScreenPop(ScreenPop{ID: "1"})
	})
	view(t, s, "i", func(tx *InteractionTxn) error {
		if pops := popsOf(t, tx); len(pops) != 1 || runs != 1 {
			t.Errorf("interaction was updated %d times: %v", runs, pops)
		}
		return nil
	})

	engine.times = 100
	if err := s.DeleteAccount(t.Context(), tenant, "a", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete again: got %v, want ErrNotFound", err)
	}
	if _, err := s.CreateAccount(t.Context(), tenant, Account{ID: "c", Name: "C"}); !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("outcome never known: got %v, want ErrUnknownOutcome", err)
	}
}

// TestDamageIsNoAbsence spoils values: getters say so, and setters make the transaction fail.
func TestDamageIsNoAbsence(t *testing.T) {
	s := openStore(t, t.TempDir())
	populate(t, s)
	err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
		tx.Put(popsKey(tenant, s.vault.hashInteraction(tenant, "call-1")), []byte("spoilt"))
		tx.Put(s.vault.recordsetKey(tenant, "call-1", canary), []byte("spoilt"))
		tx.Put(s.vault.agentKey(tenant, canaryAgent), []byte("spoilt"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, use := range map[string]func(*InteractionTxn){
		"AddScreenPop":     func(tx *InteractionTxn) { tx.AddScreenPop(ScreenPop{}) },
		"PublishRecordset": func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: canary}, &StagedRecords{}) },
		"UpdateRecordset":  func(tx *InteractionTxn) { tx.UpdateRecordset(Recordset{Name: canary}) },
		"RemoveRecordset":  func(tx *InteractionTxn) { tx.RemoveRecordset(canary) },
		"NoteDelivered":    func(tx *InteractionTxn) { tx.NoteDelivered(canaryAgent, Delivered{}) },
	} {
		err := s.UpdateInteraction(t.Context(), tenant, "call-1", func(tx *InteractionTxn) error {
			use(tx)
			return errors.New("the function's own")
		})
		if !errors.Is(err, errSealed) {
			t.Errorf("%s: got %v, want errSealed", name, err)
		}
	}
	view(t, s, "call-1", func(tx *InteractionTxn) error {
		_, popsErr := tx.ScreenPops()
		_, setErr := tx.Recordset(canary)
		_, recordsErr := tx.Records(canary, 1, 1)
		for _, err := range []error{popsErr, setErr, recordsErr} {
			if !errors.Is(err, errSealed) {
				t.Errorf("got %v, want errSealed", err)
			}
		}
		return nil // a getter that failed is the caller's to judge
	})
}

func popsOf(t testing.TB, tx *InteractionTxn) []ScreenPop {
	t.Helper()
	pops, err := tx.ScreenPops()
	if err != nil {
		t.Error(err)
	}
	return pops
}
