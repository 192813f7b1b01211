package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/mac"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// rotate adds a primary key to the store's key file, and has the store take it over.
func rotate(t testing.TB, s *Store) (id uint32) {
	t.Helper()
	id, err := keyfile.Rotate(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	return id
}

func reencrypt(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Reencrypt(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func primaryOf(s *Store) uint32 { return s.vault.keys.Load().Primary() }

// keysInUse is what the store knows of who may have sealed its values.
func keysInUse(t testing.TB, s *Store) (use keyUse) {
	t.Helper()
	err := s.engine.View(t.Context(), func(r kv.Reader) (err error) {
		use, _, err = readKeyUse(r, s.vault.keys.Load())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return use
}

// sealedValues is all that is sealed, by its key.
func sealedValues(t testing.TB, s *Store) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for keys := (kv.Range{}); ; {
		entries, more, err := s.scan(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !plain(entry) {
				all[string(entry.Key)] = entry.Value
			}
		}
		if !more {
			return all
		}
		keys.Start = kv.After(entries[len(entries)-1].Key)
	}
}

// keysetOf is the part of a keyset with one of its keys alone.
func keysetOf(t testing.TB, text string, id uint32) string {
	t.Helper()
	var keyset struct {
		PrimaryKeyID uint32           `json:"primaryKeyId"`
		Key          []map[string]any `json:"key"`
	}
	if err := json.Unmarshal([]byte(text), &keyset); err != nil {
		t.Fatal(err)
	}
	keyset.PrimaryKeyID = id
	keyset.Key = slices.DeleteFunc(keyset.Key, func(key map[string]any) bool { return key["keyId"] != float64(id) })
	alone, err := json.Marshal(keyset)
	if err != nil || len(keyset.Key) != 1 {
		t.Fatalf("%d keys, %v", len(keyset.Key), err)
	}
	return string(alone)
}

// checkSealed opens every value with the primary key alone.
func checkSealed(t testing.TB, s *Store) {
	t.Helper()
	text, err := os.ReadFile(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := keyfile.Parse(keysetOf(t, string(text), primaryOf(s)))
	if err != nil {
		t.Fatal(err)
	}
	values := sealedValues(t, s)
	for key, value := range values {
		if _, err := alone.Open(value, []byte(key)); err != nil {
			t.Errorf("value of %q does not open with the primary key", key)
		}
	}
	if len(values) == 0 {
		t.Error("there are no sealed values")
	}
	if got := keysInUse(t, s).IDs; !slices.Equal(got, []uint32{primaryOf(s)}) {
		t.Errorf("keys in use are %d, want %d alone", got, primaryOf(s))
	}
}

// TestRotation plays it from beginning to end. The old key is of no use then, not even to who has the freed pages.
func TestRotation(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "data.db")
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	populate(t, s)
	before, old, oldSealed := dump(t, s), primaryOf(s), sealedValues(t, s)
	if got := rotate(t, s); got == old || got != primaryOf(s) {
		t.Errorf("primary key is %d, was %d, want %d", primaryOf(s), old, got)
	}
	if diff := cmp.Diff(before, dump(t, s), compareSecrets); diff != "" {
		t.Errorf("after the reload (-before +after):\n%s", diff)
	}
	if got := keysInUse(t, s).IDs; !slices.Equal(got, []uint32{old, primaryOf(s)}) {
		t.Errorf("after the reload, keys in use are %d", got)
	}
	reencrypt(t, s)
	checkSealed(t, s)
	reencrypt(t, s) // nothing is left
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := DropKey(t.Context(), Config{Path: path}, old); err != nil {
		t.Fatal(err)
	}
	keys, err := keyfile.List(path + ".key")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]keyfile.Key{{ID: primaryOf(s), Primary: true, Status: "ENABLED"}}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	content := files(t, folder)["data.db"]
	for key, value := range oldSealed {
		if strings.Contains(content, string(value)) {
			t.Errorf("the data file still holds what the old key sealed for %q", key)
		}
	}
	if diff := cmp.Diff(before, dump(t, openStore(t, folder)), compareSecrets); diff != "" {
		t.Errorf("with the new key alone (-before +after):\n%s", diff)
	}
	if got := slices.Sorted(func(yield func(string) bool) {
		for name := range files(t, folder) {
			if !yield(name) {
				return
			}
		}
	}); !slices.Equal(got, []string{"data.db", "data.db.key"}) {
		t.Errorf("the folder holds %q", got)
	}
}

// TestReencryptOnHostileEngine runs every step twice, with others between, and loses answers.
func TestReencryptOnHostileEngine(t *testing.T) {
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := keyfile.Make(keyFile); err != nil {
		t.Fatal(err)
	}
	s := hostileStore(t, keyFile)
	populate(t, s)
	for i := range 100 {
		update(t, s, fmt.Sprintf("more-%d", i), func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"k": "v"}) })
	}
	before := dump(t, s)
	if _, err := keyfile.Rotate(keyFile); err != nil {
		t.Fatal(err)
	}
	keys, err := keyfile.Read(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.adopt(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	reencrypt(t, s)
	s.keyFile = keyFile
	checkSealed(t, s)
	s.keyFile = ""
	if diff := cmp.Diff(before, dump(t, s), compareSecrets); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if err := s.Reload(t.Context()); !errors.Is(err, errKeysetGiven) {
		t.Errorf("reload of a keyset that was given: %v, want errKeysetGiven", err)
	}
}

// TestRotationUnderLoad rotates again and again while writers do random things, each to interactions and accounts of its
// own, and remember what must be there.
func TestRotationUnderLoad(t *testing.T) {
	const writers, rotations, steps = 4, 6, 500 // the last bounds what there is to seal again
	s := openStore(t, t.TempDir())
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	done := make(chan struct{})
	var group sync.WaitGroup
	checks := make([]func(), writers)
	for i := range writers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		w := &randomWriter{t: t, s: s, random: random, name: fmt.Sprintf("w%d", i), data: map[string]string{}, records: map[string]int{}, accounts: map[string]string{}}
		checks[i] = w.check
		group.Go(func() {
			for range steps {
				select {
				case <-done:
					return
				default:
					w.step()
				}
			}
		})
	}
	order := rand.New(rand.NewPCG(seed, writers))
	var reencrypting sync.WaitGroup
	for range rotations {
		rotate(t, s)
		// It may be still at it when the next key comes.
		reencrypting.Go(func() {
			if err := s.Reencrypt(t.Context()); err != nil {
				t.Error(err)
			}
		})
		if order.IntN(2) == 0 {
			reencrypting.Wait()
		}
	}
	reencrypting.Wait()
	close(done)
	group.Wait()
	checkSealed(t, s)
	for _, check := range checks {
		check()
	}
}

// randomWriter does random things and remembers what must be there.
type randomWriter struct {
	t        *testing.T
	s        *Store
	random   *rand.Rand
	name     string
	data     map[string]string // attached data, by interaction
	records  map[string]int    // size of the recordset, by interaction
	accounts map[string]string // name, by id

	staged      *StagedRecords // not published yet: sealed some time ago
	stagedFor   string
	stagedCount int
}

func (w *randomWriter) step() {
	id, value := fmt.Sprintf("%s-%d", w.name, w.random.IntN(40)), fmt.Sprint(w.random.Uint64())
	var err error
	switch w.random.IntN(6) {
	case 0, 1:
		err = w.s.UpdateInteraction(context.Background(), tenant, id, func(tx *InteractionTxn) error {
			tx.SetAttachedData(map[string]string{"k": value})
			return nil
		})
		w.data[id] = value
	case 2:
		w.stagedFor, w.stagedCount = id, 1+w.random.IntN(80) // some are held, others written at once
		w.staged, err = w.s.StageRecords(context.Background(), tenant, id, recordsOf(w.stagedCount, blockBytes, "x"))
	case 3:
		if w.staged == nil {
			return
		}
		err = w.s.UpdateInteraction(context.Background(), tenant, w.stagedFor, func(tx *InteractionTxn) error {
			tx.PublishRecordset(Recordset{Name: "rs"}, w.staged)
			return nil
		})
		w.records[w.stagedFor], w.staged = w.stagedCount, nil
	case 4:
		if _, found := w.accounts[id]; found {
			_, err = w.s.UpdateAccount(context.Background(), w.name, id, "", func(a *Account) error {
				a.Name = value
				return nil
			})
		} else {
			_, err = w.s.CreateAccount(context.Background(), w.name, Account{ID: id, Name: value})
		}
		w.accounts[id] = value
	case 5:
		if _, found := w.accounts[id]; !found {
			return
		}
		if err = w.s.DeleteAccount(context.Background(), w.name, id, ""); errors.Is(err, ErrDefaultInUse) {
			return
		}
		delete(w.accounts, id)
	}
	if err != nil {
		w.t.Error(err)
	}
}

func (w *randomWriter) check() {
	for id, want := range w.data {
		view(w.t, w.s, id, func(tx *InteractionTxn) error {
			data, err := tx.AttachedData()
			if data["k"] != want {
				w.t.Errorf("attached data of %q is %q, want %q", id, data["k"], want)
			}
			return err
		})
	}
	for id, want := range w.records {
		view(w.t, w.s, id, func(tx *InteractionTxn) error {
			rs, err := tx.Recordset("rs")
			if err != nil {
				return err
			}
			if rs.Count != want {
				w.t.Errorf("recordset of %q has %d records, want %d", id, rs.Count, want)
			}
			for i := range rs.Count {
				if _, err := tx.Record("rs", i+1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	got := make(map[string]string)
	accounts, _, err := w.s.ListAccounts(w.t.Context(), w.name, "", 100)
	if err != nil {
		w.t.Error(err)
	}
	for _, a := range accounts {
		got[a.ID] = a.Name
		if err := w.s.view(w.t.Context(), w.name, func(r *reading, _ kv.Reader) error {
			found, err := r.FindAccount(a.Name)
			if found.ID != a.ID {
				w.t.Errorf("account %q is not found by its name", a.ID)
			}
			return err
		}); err != nil {
			w.t.Error(err)
		}
	}
	if diff := cmp.Diff(w.accounts, got); diff != "" {
		w.t.Errorf("accounts (-want +got):\n%s", diff)
	}
}

// TestStagedBeforeRotation publishes what a key sealed that nothing is to be sealed with any more.
func TestStagedBeforeRotation(t *testing.T) {
	for _, count := range []int{3, 300} {
		s := openStore(t, t.TempDir())
		staged := stage(t, s, "i", recordsOf(count, blockBytes, "x"))
		rotate(t, s)
		reencrypt(t, s)
		update(t, s, "i", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs"}, staged) })
		checkSealed(t, s)
	}
}

// TestReencryptIsInterrupted ends the work after each number of steps, and opens the data file again.
func TestReencryptIsInterrupted(t *testing.T) {
	folder := t.TempDir()
	s := openStore(t, folder)
	for i := range 70 {
		update(t, s, fmt.Sprintf("i-%02d", i), func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"k": fmt.Sprint(i)}) })
	}
	rotate(t, s)
	for steps := range 3 {
		keys, at := s.vault.keys.Load(), keysInUse(t, s).Cursor
		for range steps {
			found, err := s.findStale(t.Context(), keys, at)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.reseal(t.Context(), keys, found); err != nil {
				t.Fatal(err)
			}
			at = found.next
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, folder)
		if got := keysInUse(t, s); len(got.IDs) != 2 || !bytes.Equal(got.Cursor, at) {
			t.Errorf("after %d steps: %d keys in use, cursor %q, want 2 and %q", steps, len(got.IDs), got.Cursor, at)
		}
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Reencrypt(stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v", err)
	}
	// What an interrupted pass has done is no longer right when another key takes over.
	rotate(t, s)
	if got := keysInUse(t, s); len(got.IDs) != 3 || len(got.Cursor) != 0 {
		t.Errorf("after another rotation: %d keys in use, cursor %q, want 3 and none", len(got.IDs), got.Cursor)
	}
	reencrypt(t, s)
	checkSealed(t, s)
}

// TestReencryptLargeValues has values that leave no room for anything beside them.
func TestReencryptLargeValues(t *testing.T) {
	s := openStore(t, t.TempDir())
	largest := func(id string) json.RawMessage {
		key := recordKey(tenant, s.vault.hashInteraction(tenant, id), newID(), 1)
		overhead := entrySize(kv.Entry{Key: key, Value: make([]byte, 1+4+24+16)}) // prefix, nonce and tag
		return bytes.Repeat([]byte("x"), kv.MaxTxnBytes-overhead)
	}
	for _, id := range []string{"a", "zz"} { // amid others, and at the end of the file
		staged := stage(t, s, id, []json.RawMessage{largest(id), largest(id), largest(id)})
		update(t, s, id, func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs"}, staged) })
	}
	stage(t, s, "zzz", []json.RawMessage{largest("zzz")[1:], largest("zzz")})
	rotate(t, s)
	reencrypt(t, s)
	checkSealed(t, s)
}

// TestReencryptStopsAtDamage keeps a key in use when nobody can say which one sealed a value.
func TestReencryptStopsAtDamage(t *testing.T) {
	s := openStore(t, t.TempDir())
	populate(t, s)
	err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
		tx.Put(accountKey(tenant, "damaged"), []byte("damaged"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, s)
	if err := s.Reencrypt(t.Context()); !errors.Is(err, errSealed) {
		t.Errorf("got %v, want errSealed", err)
	}
	if got := keysInUse(t, s).IDs; len(got) != 2 {
		t.Errorf("%d keys in use, want 2", len(got))
	}
}

// TestReloadRefuses has the keys read before stay in use.
func TestReloadRefuses(t *testing.T) {
	write := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	foreign := newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())
	tests := []struct {
		name  string
		spoil func(path string) error
		want  error
	}{
		{"missing", os.Remove, keyfile.ErrMissing},
		{"empty", write(""), keyfile.ErrEmpty},
		{"truncated", func(path string) error { return os.Truncate(path, 100) }, keyfile.ErrTruncated},
		{"no keyset", write("[]"), keyfile.ErrNotKeyset},
		{"no AEAD", write(newKeyset(t, mac.HMACSHA256Tag256KeyTemplate())), keyfile.ErrNotAEAD},
		{"readable by everyone", func(path string) error { return os.Chmod(path, 0o644) }, keyfile.ErrExposed},
		{"foreign", write(foreign), errWrongKey},
		{"lacks a key in use", func(path string) error {
			keys, err := keyfile.List(path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return write(keysetOf(t, string(text), keys[1].ID))(path)
		}, errKeyInUse},
		{"foreign, same id", func(path string) error {
			keys, err := keyfile.List(path)
			other, parseErr := keyfile.Parse(foreign)
			if err := errors.Join(err, parseErr); err != nil {
				return err
			}
			// The same two ids, for one key that is not theirs.
			text := strings.ReplaceAll(foreign, fmt.Sprint(other.Primary()), fmt.Sprint(keys[0].ID))
			second := strings.ReplaceAll(foreign, fmt.Sprint(other.Primary()), fmt.Sprint(keys[1].ID))
			_, key, _ := strings.Cut(second, `"key":[`)
			text = strings.TrimSuffix(strings.TrimSpace(text), "]}") + "," + key
			return write(text)(path)
		}, errWrongKey},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			s := openStore(t, folder)
			populate(t, s)
			rotate(t, s)
			before, keys := dump(t, s), s.vault.keys.Load()
			good := files(t, folder)["data.db.key"]
			if err := test.spoil(s.keyFile); err != nil {
				t.Fatal(err)
			}
			err := s.Reload(t.Context())
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), s.keyFile) {
				t.Errorf("error is not one sentence that names the file: %v", err)
			}
			if s.vault.keys.Load() != keys {
				t.Error("the keys were replaced")
			}
			if diff := cmp.Diff(before, dump(t, s), compareSecrets); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
			if err := errors.Join(os.WriteFile(s.keyFile, []byte(good), 0o600), os.Chmod(s.keyFile, 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := s.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOpenRefusesKeysetThatLacksKey also when the primary key is there.
func TestOpenRefusesKeysetThatLacksKey(t *testing.T) {
	folder := t.TempDir()
	s, err := Open(t.Context(), Config{Path: filepath.Join(folder, "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	disabled := strings.Replace(string(text), `"ENABLED"`, `"DISABLED"`, 1) // the old one is the first
	if err := os.WriteFile(s.keyFile, []byte(disabled), 0o600); err != nil {
		t.Fatal(err)
	}
	before := files(t, folder)
	if s, err := Open(t.Context(), Config{Path: filepath.Join(folder, "data.db")}); !errors.Is(err, errKeyInUse) {
		t.Errorf("got %v, %v; want errKeyInUse", s, err)
	}
	if diff := cmp.Diff(before, files(t, folder)); diff != "" {
		t.Errorf("files were touched (-before +after):\n%s", diff)
	}
}

// TestDropKeyRefuses leaves the key file as it is.
func TestDropKeyRefuses(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, s *Store) (id uint32)
		want    error
		open    bool // the data file is
	}{
		{"primary", func(_ *testing.T, s *Store) uint32 { return primaryOf(s) }, keyfile.ErrPrimary, false},
		{"unknown", func(_ *testing.T, s *Store) uint32 { return primaryOf(s) + 1 }, keyfile.ErrUnknown, false},
		{"not encrypted again", func(t *testing.T, s *Store) uint32 {
			old := primaryOf(s)
			rotate(t, s)
			return old
		}, errKeyStillInUse, false},
		{"not even reloaded", func(t *testing.T, s *Store) uint32 {
			if _, err := keyfile.Rotate(s.keyFile); err != nil {
				t.Fatal(err)
			}
			return primaryOf(s)
		}, errKeyStillInUse, false},
		{"in use against all records", func(t *testing.T, s *Store) uint32 {
			old, values := primaryOf(s), sealedValues(t, s)
			rotate(t, s)
			reencrypt(t, s)
			err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
				key := accountKey(tenant, "acme-eu")
				tx.Put(key, values[string(key)])
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return old
		}, errKeyStillInUse, false},
		{"data file open", func(t *testing.T, s *Store) uint32 {
			old := primaryOf(s)
			rotate(t, s)
			reencrypt(t, s)
			return old
		}, boltkv.ErrLocked, true},
		{"key file changing", func(t *testing.T, s *Store) uint32 {
			old := primaryOf(s)
			rotate(t, s)
			reencrypt(t, s)
			file, err := os.Open(s.keyFile)
			if err == nil {
				err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = file.Close() })
			return old
		}, keyfile.ErrBusy, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "data.db")
			s := openStore(t, folder)
			populate(t, s)
			id := test.prepare(t, s)
			if !test.open {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			before := files(t, folder)["data.db.key"]
			err := DropKey(t.Context(), Config{Path: path}, id)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error is not one sentence: %v", err)
			}
			if files(t, folder)["data.db.key"] != before {
				t.Error("the key file was changed")
			}
		})
	}
	folder := t.TempDir()
	if err := DropKey(t.Context(), Config{Path: filepath.Join(folder, "none.db")}, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no data file: got %v", err)
	}
	if left := files(t, folder); len(left) > 0 {
		t.Errorf("no data file: files were made: %v", left)
	}
}

// TestDropUnusedKey drops one that never sealed anything: it was replaced before a server took it over.
func TestDropUnusedKey(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "data.db")
	s := openStore(t, folder)
	populate(t, s)
	before := dump(t, s)
	skipped, err := keyfile.Rotate(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := DropKey(t.Context(), Config{Path: path}, skipped); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, dump(t, openStore(t, folder)), compareSecrets); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestCompact(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "data.db")
	s := openStore(t, folder)
	populate(t, s)
	staged := stage(t, s, "large", noisyRecords(500, 4<<10))
	update(t, s, "large", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs"}, staged) })
	var removed []byte
	for key, value := range sealedValues(t, s) {
		if strings.HasPrefix(key, string(interactionKey(tenant, s.vault.hashInteraction(tenant, "large"), "record"))) {
			removed = value
		}
	}
	update(t, s, "large", func(tx *InteractionTxn) { tx.RemoveRecordset("rs") })
	before := dump(t, s)
	if _, _, err := Compact(path); !errors.Is(err, boltkv.ErrLocked) {
		t.Errorf("open data file: got %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	size := len(files(t, folder)["data.db"])
	if removed == nil || !strings.Contains(files(t, folder)["data.db"], string(removed)) {
		t.Error("the data file does not hold what was removed, so this test has nothing to look for")
	}
	if err := os.WriteFile(path+".compact", []byte("one that was cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	was, is, err := Compact(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(files(t, folder)["data.db"], string(removed)) {
		t.Error("the data file still holds what was removed")
	}
	if was != int64(size) {
		t.Errorf("had %d bytes, want %d", was, size)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != is || info.Mode().Perm() != 0o600 {
		t.Errorf("data file is %v, %v", info, err)
	}
	if len(files(t, folder)) != 2 {
		t.Errorf("the folder holds %d files, want 2", len(files(t, folder)))
	}
	if diff := cmp.Diff(before, dump(t, openStore(t, folder)), compareSecrets); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if _, _, err := Compact(filepath.Join(folder, "none.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no data file: got %v", err)
	}
}

// TestKeysStaySecret looks for key material in what is logged and reported.
func TestKeysStaySecret(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "data.db")
	var log bytes.Buffer
	s, err := Open(t.Context(), Config{Path: path, Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	rotate(t, s)
	reencrypt(t, s)
	keys, err := keyfile.List(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	said := log.String() + fmt.Sprint(keys)
	var parsed struct {
		Key []struct{ KeyData struct{ Value string } }
	}
	if err := json.Unmarshal([]byte(files(t, folder)["data.db.key"]), &parsed); err != nil || len(parsed.Key) != 2 {
		t.Fatalf("%d keys, %v", len(parsed.Key), err)
	}
	for _, key := range parsed.Key {
		if strings.Contains(said, key.KeyData.Value) || len(key.KeyData.Value) < 40 {
			t.Errorf("key material is in %q", said)
		}
	}
	if !strings.Contains(said, "all values are sealed") {
		t.Errorf("the log does not tell of the end: %q", said)
	}
}
