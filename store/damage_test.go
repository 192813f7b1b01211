package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
		tx.Put(latestKey(tenant, s.vault.hashAgent(tenant, canaryAgent)), []byte("spoilt"))
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

// TestSweepGoesOn meets what cannot be read, more of it than one step looks at.
func TestSweepGoesOn(t *testing.T) {
	s := openStore(t, t.TempDir())
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	clock := someTime
	s.now = func() time.Time { return clock }
	const damaged = 10
	for i := range damaged {
		update(t, s, fmt.Sprint("damaged-", i), func(tx *InteractionTxn) { tx.ClearAccount() })
	}
	clock = clock.Add(time.Second)
	update(t, s, "whole", func(tx *InteractionTxn) { tx.ClearAccount() })
	err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
		for i := range damaged {
			head := headKey(tenant, s.vault.hashInteraction(tenant, fmt.Sprint("damaged-", i)))
			if tx.Put(head, []byte("spoilt")); i%2 == 0 {
				tx.Delete(head)
			}
		}
		for _, key := range [][]byte{kv.Key("!", "due", kv.Time(someTime)), kv.Key("!", "due", kv.Time(someTime), "NO tenant", "x"),
			kv.Key("!", "due", kv.Time(someTime), tenant, "x", "no kind"), append(kv.Key("!", "due"), "0"...)} {
			tx.Put(key, nil)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(8 * day)
	var all Swept
	for range 3 {
		swept, err := s.Sweep(t.Context(), 5)
		if err != nil || swept.Looked != 5 {
			t.Errorf("swept %+v, %v", swept, err)
		}
		all.add(swept)
	}
	if all != (Swept{Looked: 15, Expired: 1, Damaged: damaged + 4}) {
		t.Errorf("swept %+v", all)
	}
	if n := strings.Count(log.String(), "\n"); n != damaged+4 || strings.Count(log.String(), "restore a backup") < n {
		t.Errorf("%d lines in the log:\n%s", n, &log)
	}
	if swept, err := s.Sweep(t.Context(), 10); swept != (Swept{}) || err != nil {
		t.Errorf("at once again: %+v, %v", swept, err)
	}
	clock = clock.Add(setAside + time.Second)
	if swept, err := s.Sweep(t.Context(), 100); swept != (Swept{Looked: damaged, Damaged: damaged}) || err != nil {
		t.Errorf("a day later: %+v, %v", swept, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if swept, err := s.Sweep(ctx, 10); swept != (Swept{}) || !errors.Is(err, context.Canceled) {
		t.Errorf("no time left: %+v, %v", swept, err)
	}
}
