package boltkv_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// TestTree lets trees of all shapes grow and shrink, and compares what is read of their pages with what bbolt reads:
// whatever bbolt writes is no damage.
func TestTree(t *testing.T) {
	const updates = 600
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 0))
		db := open(t, filepath.Join(t.TempDir(), "db"))
		db.NoSync()
		want := make(map[string]string)
		key := func() []byte {
			return append(bytes.Repeat([]byte{'k'}, int(seed*seed)*80), kv.Number(uint64(r.IntN(5000)))...)
		}
		for i := range updates {
			growing := i/300%2 == 0
			var ops []func(kv.Txn)
			for range 1 + r.IntN(20) {
				k := key()
				switch {
				case r.IntN(100) == 0:
					end := append(bytes.Clone(k[:len(k)-2]), 'z')
					maps.DeleteFunc(want, func(old, _ string) bool { return old >= string(k) && old < string(end) })
					ops = append(ops, func(x kv.Txn) { x.DeleteRange(k, end) })
				case growing && r.IntN(10) > 0 || r.IntN(10) == 0:
					v := bytes.Repeat([]byte{byte(i)}, r.IntN(1<<r.IntN(13)))
					want[string(k)] = string(v)
					ops = append(ops, func(x kv.Txn) { x.Put(k, v) })
				default:
					delete(want, string(k))
					ops = append(ops, func(x kv.Txn) { x.Delete(k) })
				}
			}
			update(t, db, func(x kv.Txn) {
				for _, op := range ops {
					op(x)
				}
			})
			if i%150 == 149 {
				compareAll(t, db, want)
			}
		}
		update(t, db, func(x kv.Txn) { x.DeleteRange(nil, nil) })
		compareAll(t, db, map[string]string{})
	}
}

func update(t *testing.T, db kv.Engine, fn func(kv.Txn)) {
	t.Helper()
	if err := db.Update(t.Context(), func(txn kv.Txn) error { fn(txn); return nil }); err != nil {
		t.Fatal(err)
	}
}

func compareAll(t *testing.T, db *boltkv.DB, want map[string]string) {
	t.Helper()
	bolt, err := db.CheckFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, bolt); diff != "" {
		t.Fatalf("bbolt has (-want +got):\n%s", diff)
	}
	keys := slices.Sorted(maps.Keys(want))
	for _, reverse := range []bool{false, true} {
		if reverse {
			slices.Reverse(keys)
		}
		rest := keys
		for rng, more := (kv.Range{Reverse: reverse}), true; more; {
			if err := db.View(t.Context(), func(reader kv.Reader) error {
				entries, isMore, err := reader.Scan(rng)
				for _, entry := range entries {
					if len(rest) == 0 || string(entry.Key) != rest[0] || string(entry.Value) != want[rest[0]] {
						t.Fatalf("reverse %v: unexpected key %q, or its value", reverse, entry.Key)
					}
					rest = rest[1:]
					if rng.Start = kv.After(entry.Key); reverse {
						rng.Start, rng.End = nil, entry.Key
					}
				}
				more = isMore
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if len(rest) > 0 {
			t.Fatalf("reverse %v: %d keys are missing", reverse, len(rest))
		}
	}
	for range 20 {
		key := "missing"
		for some := range want {
			key = some
			break
		}
		value, there := want[key]
		if err := db.View(t.Context(), func(reader kv.Reader) error {
			values, err := reader.Get([]byte(key))
			if err == nil && (string(values[0]) != value || there != (values[0] != nil)) {
				t.Errorf("%q has another value", key)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBothMetaPages takes a running database what every transaction begins with.
func TestBothMetaPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	put(t, db, "k", "v")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(make([]byte, 2*os.Getpagesize()), 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := set(t, db, "k", "new"); err == nil {
		t.Error("an update succeeded")
	}
	refusesEverything(t, db)
}

// TestNewestMetaPage takes a running database the newest state: the one before is no substitute.
func TestNewestMetaPage(t *testing.T) {
	for page := range int64(2) {
		path := filepath.Join(t.TempDir(), "db")
		db := open(t, path)
		put(t, db, "k", "old")
		put(t, db, "k", "new")
		newest := int64(commits(t, db) % 2)
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(make([]byte, os.Getpagesize()), page*int64(os.Getpagesize())); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		if page != newest {
			if got := get(t, db, "k"); got != "new" {
				t.Errorf("%q is read", got)
			}
			continue
		}
		if page%2 == 0 {
			db.ShareNothing()
			if err := db.View(t.Context(), func(kv.Reader) error { return nil }); err == nil {
				t.Error("a view succeeded")
			}
		} else if err := set(t, db, "k", "next"); err == nil {
			t.Error("an update succeeded")
		}
		refusesEverything(t, db)
	}
}
