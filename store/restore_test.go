package store

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// TestMarkRestored marks shared data as a copy of the past, when no replica works on them any more: what waits in them is doubted
// by the next one as what Restore has made is.
func TestMarkRestored(t *testing.T) { synctest.Test(t, testMarkRestored) }

func testMarkRestored(t *testing.T) {
	engine, err := boltkv.Open(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = engine.Close() }()
	keyset, other := newKeyset(t, aead.XChaCha20Poly1305KeyTemplate()), newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())
	mark := func(keyset string) error {
		t.Helper()
		keys, err := keyfile.Parse(keyset)
		if err != nil {
			t.Fatal(err)
		}
		return markRestored(t.Context(), together{engine}, keys, time.Now())
	}
	open := func() *Store {
		t.Helper()
		s, err := New(t.Context(), together{engine}, Config{Keyset: keyset})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	complete := func(s *Store, call string) {
		update(t, s, call, func(tx *InteractionTxn) {
			_, _ = tx.Complete(Activity{ID: "activity-of-" + call, State: ActivityPending, CreateTime: someTime})
		})
	}
	doubted := func(s *Store, call string) bool {
		t.Helper()
		a, err := s.Activity(t.Context(), tenant, "activity-of-"+call)
		if err != nil {
			t.Fatal(err)
		}
		return a.Restored
	}

	if err := mark(keyset); !errors.Is(err, errNothingMarked) {
		t.Errorf("where there are no data: %v", err)
	}
	died, lives := open(), open()
	complete(died, "before")
	died.claims.stop()
	died.claims.beating.Wait()
	if err := mark(keyset); !errors.Is(err, errServed) {
		t.Errorf("while a replica lives: %v", err)
	}
	if err := lives.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mark(other); !errors.Is(err, errWrongKey) {
		t.Errorf("by another key: %v", err)
	}
	s := open()
	if complete(s, "between"); doubted(s, "before") || doubted(s, "between") {
		t.Error("what nobody has marked is doubted")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mark(keyset); err != nil {
		t.Fatalf("when none lives: %v", err)
	}
	s = open()
	if complete(s, "after"); !doubted(s, "before") || !doubted(s, "between") || !doubted(s, "after") {
		t.Error("what may have been written is not looked for")
	}
	if err := errors.Join(s.Close(), died.Close()); err != nil {
		t.Error(err)
	}
}
