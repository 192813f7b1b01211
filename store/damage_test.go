package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

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
