// Package kvtest says in tests what package kv promises: [Run] for engines, [RunLossy] for those whose answers can get lost,
// [Hostile] for what is built on one.
package kvtest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

var errOwn = errors.New("the function's own error")

// Run tests an engine. Open returns a new, empty one, which Run closes.
func Run(t *testing.T, open func(*testing.T) kv.Engine) {
	tests := []struct {
		name string
		test func(*testing.T, kv.Engine)
	}{
		{"Values", testValues},
		{"OwnWrites", testOwnWrites},
		{"CopiesIn", testCopiesIn},
		{"CopiesOut", testCopiesOut},
		{"OneState", testOneState},
		{"ExpectMissing", testExpectMissing},
		{"Scan", testScan},
		{"ScanBytes", testScanBytes},
		{"Limits", testLimits},
		{"ErrorWritesNothing", testErrorWritesNothing},
		{"PanicIsAnError", testPanicIsAnError},
		{"FailuresCostOthersNothing", testFailuresCostOthersNothing},
		{"Snapshot", testSnapshotIsolation},
		{"Conflicts", testConflicts},
		{"NobodyWaits", testNobodyWaits},
		{"LostUpdates", testLostUpdates},
		{"WriteSkew", testWriteSkew},
		{"Context", testContext},
		{"Watch", testWatch},
		{"WatchMissesNothing", testWatchMissesNothing},
		{"Failed", testFailed},
		{"Close", testClose},
		{"Oracle", testOracle},
		{"Wait", testWait},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			engine := open(t)
			t.Cleanup(func() {
				if err := engine.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test.test(t, engine)
		})
	}
}

// fataler is *testing.T or *rapid.T.
type fataler interface {
	Helper()
	Context() context.Context
	Fatalf(format string, args ...any)
}

func update(t fataler, e kv.Engine, fn func(kv.Txn)) {
	t.Helper()
	if err := e.Update(t.Context(), func(txn kv.Txn) error { fn(txn); return nil }); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func put(t fataler, e kv.Engine, pairs ...string) {
	t.Helper()
	update(t, e, func(txn kv.Txn) {
		for i := 0; i < len(pairs); i += 2 {
			txn.Put([]byte(pairs[i]), []byte(pairs[i+1]))
		}
	})
}

func scan(t fataler, e kv.Engine, r kv.Range) []kv.Entry {
	t.Helper()
	entries, _ := page(t, e, r)
	return entries
}

func page(t fataler, e kv.Engine, r kv.Range) (entries []kv.Entry, more bool) {
	t.Helper()
	err := e.View(t.Context(), func(reader kv.Reader) (err error) {
		entries, more, err = reader.Scan(r)
		return err
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return entries, more
}

func get(t fataler, e kv.Engine, keys ...string) (values [][]byte) {
	t.Helper()
	err := e.View(t.Context(), func(reader kv.Reader) (err error) {
		values, err = reader.Get(bytesOf(keys)...)
		return err
	})
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return values
}

func bytesOf(keys []string) [][]byte {
	b := make([][]byte, len(keys))
	for i, key := range keys {
		b[i] = []byte(key)
	}
	return b
}

func equal(t fataler, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func testValues(t *testing.T, e kv.Engine) {
	update(t, e, func(txn kv.Txn) {
		txn.Put([]byte("empty"), []byte{})
		txn.Put([]byte("nil"), nil)
		txn.Put([]byte("full"), []byte("v"))
		txn.Delete([]byte("missing"))
	})
	want := [][]byte{[]byte("v"), {}, nil, {}, []byte("v")}
	keys := []string{"full", "empty", "missing", "nil", "full"}
	equal(t, "Get in a View", want, get(t, e, keys...))
	var inside [][]byte
	if err := e.Update(t.Context(), func(txn kv.Txn) (err error) {
		inside, err = txn.Get(bytesOf(keys)...)
		return err
	}); err != nil {
		t.Fatalf("Update: %v", err)
	}
	equal(t, "Get in an Update", want, inside)
	equal(t, "Get of nothing", [][]byte{}, get(t, e))
}

func testOwnWrites(t *testing.T, e kv.Engine) {
	put(t, e, "a", "old", "b", "old", "c", "old")
	steps := []struct {
		write func(kv.Txn)
		want  [][]byte
	}{
		{func(kv.Txn) {}, [][]byte{[]byte("old"), []byte("old"), []byte("old")}},
		{func(x kv.Txn) { x.Put([]byte("b"), nil) }, [][]byte{[]byte("old"), {}, []byte("old")}},
		{func(x kv.Txn) { x.DeleteRange([]byte("a"), []byte("c")) }, [][]byte{nil, nil, []byte("old")}},
		{func(x kv.Txn) { x.Put([]byte("a"), []byte("new")) }, [][]byte{[]byte("new"), nil, []byte("old")}},
		{func(x kv.Txn) { x.DeleteRange([]byte("b"), nil) }, [][]byte{[]byte("new"), nil, nil}},
		{func(x kv.Txn) { x.Put([]byte("c"), []byte("new")) }, [][]byte{[]byte("new"), nil, []byte("new")}},
		{func(x kv.Txn) { x.Delete([]byte("a")) }, [][]byte{nil, nil, []byte("new")}},
	}
	got := make([][][]byte, len(steps))
	if err := e.Update(t.Context(), func(txn kv.Txn) (err error) {
		for i, step := range steps {
			step.write(txn)
			if got[i], err = txn.Get(bytesOf([]string{"a", "b", "c"})...); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatalf("Update: %v", err)
	}
	for i, step := range steps {
		equal(t, fmt.Sprintf("Get after step %d", i), step.want, got[i])
	}
	equal(t, "afterwards", []kv.Entry{{Key: []byte("c"), Value: []byte("new")}}, scan(t, e, kv.Range{}))
}

func testCopiesIn(t *testing.T, e kv.Engine) {
	put(t, e, "d", "", "m", "")
	update(t, e, func(txn kv.Txn) {
		key, value, deleted, start, end := []byte("k"), []byte("v"), []byte("d"), []byte("l"), []byte("n")
		txn.Put(key, value)
		txn.Delete(deleted)
		txn.DeleteRange(start, end)
		for _, b := range [][]byte{key, value, deleted, start, end} {
			b[0] = 'A'
		}
	})
	equal(t, "entries", []kv.Entry{{Key: []byte("k"), Value: []byte("v")}}, scan(t, e, kv.Range{}))
}

func testCopiesOut(t *testing.T, e kv.Engine) {
	put(t, e, "k", "value")
	spoil := func(b []byte) {
		for i := range b {
			b[i] = 'X'
		}
	}
	read := func(g kv.Getter) ([]byte, error) {
		values, err := g.Get([]byte("k"))
		if err != nil {
			return nil, err
		}
		return values[0], nil
	}
	var viewed, kept, inTxn, again []byte
	if err := e.View(t.Context(), func(r kv.Reader) (err error) {
		if kept, err = read(r); err != nil {
			return err
		}
		spoiled, err := read(r)
		if err != nil {
			return err
		}
		spoil(spoiled)
		entries, _, err := r.Scan(kv.Range{})
		if err != nil {
			return err
		}
		spoil(entries[0].Key)
		spoil(entries[0].Value)
		viewed, err = read(r)
		return err
	}); err != nil {
		t.Fatalf("View: %v", err)
	}
	if err := e.Update(t.Context(), func(txn kv.Txn) error {
		first, err := read(txn)
		if err != nil {
			return err
		}
		spoil(first)
		if inTxn, err = read(txn); err != nil {
			return err
		}
		txn.Put([]byte("k"), []byte("second"))
		own, err := read(txn)
		if err != nil {
			return err
		}
		spoil(own)
		again, err = read(txn)
		return err
	}); err != nil {
		t.Fatalf("Update: %v", err)
	}
	equal(t, "read again in the View", "value", string(viewed))
	equal(t, "read again in the Update", "value", string(inTxn))
	equal(t, "own write read again", "second", string(again))
	equal(t, "committed", "second", string(get(t, e, "k")[0]))
	equal(t, "kept after the View", "value", string(kept))
}

func testScan(t *testing.T, e kv.Engine) {
	put(t, e, "a", "1", "b", "", "ba", "3", "c", "4", "\xff\xff", "5")
	b := func(s string) []byte { return []byte(s) }
	tests := []struct {
		name string
		r    kv.Range
		want string // with "..." when there is more
	}{
		{"all", kv.Range{}, `"a" "b" "ba" "c" "\xff\xff" `},
		{"end is left out", kv.Range{Start: b("b"), End: b("c")}, `"b" "ba" `},
		{"bounds between keys", kv.Range{Start: b("aa"), End: b("bb")}, `"b" "ba" `},
		{"no end", kv.Range{Start: b("ba")}, `"ba" "c" "\xff\xff" `},
		{"no start", kv.Range{End: b("b")}, `"a" `},
		{"limit", kv.Range{Start: b("b"), Limit: 2}, `"b" "ba" ...`},
		{"limit that just does", kv.Range{Start: b("b"), End: b("c"), Limit: 2}, `"b" "ba" `},
		{"reverse", kv.Range{Reverse: true}, `"\xff\xff" "c" "ba" "b" "a" `},
		{"reverse, end is left out", kv.Range{Start: b("b"), End: b("c"), Reverse: true}, `"ba" "b" `},
		{"reverse, end beyond the last", kv.Range{Start: b("c"), End: b("\xff\xff\xff"), Reverse: true}, `"\xff\xff" "c" `},
		{"reverse with a limit", kv.Range{End: b("ca"), Limit: 3, Reverse: true}, `"c" "ba" "b" ...`},
		{"reverse with a limit that just does", kv.Range{Start: b("b"), End: b("ca"), Limit: 3, Reverse: true}, `"c" "ba" "b" `},
		{"reverse from where a page ended", kv.Range{End: b("b"), Reverse: true}, `"a" `},
		{"reverse before the first", kv.Range{End: b("a"), Reverse: true}, ``},
		{"empty", kv.Range{Start: b("b"), End: b("b")}, ``},
		{"upside down", kv.Range{Start: b("c"), End: b("a")}, ``},
		{"upside down in reverse", kv.Range{Start: b("c"), End: b("b"), Reverse: true}, ``},
		{"prefix", kv.Prefix(b("b")), `"b" "ba" `},
		{"prefix without an end", kv.Prefix(b("\xff")), `"\xff\xff" `},
		{"from where a page ended", kv.Range{Start: kv.After(b("b"))}, `"ba" "c" "\xff\xff" `},
	}
	for _, test := range tests {
		var keys string
		entries, more := page(t, e, test.r)
		for _, entry := range entries {
			keys += strconv.Quote(string(entry.Key)) + " "
		}
		if more {
			keys += "..."
		}
		equal(t, test.name, test.want, keys)
	}
	equal(t, "values", []kv.Entry{{Key: b("a"), Value: b("1")}, {Key: b("b"), Value: []byte{}}}, scan(t, e, kv.Range{Limit: 2}))
	equal(t, "keys only", []kv.Entry{{Key: b("a")}, {Key: b("b")}}, scan(t, e, kv.Range{Limit: 2, KeysOnly: true}))
}

// testScanBytes reads page after page of values of all sizes.
func testScanBytes(t *testing.T, e kv.Engine) {
	const count = 12
	value := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, i*i*i*500) }
	for i := range count {
		update(t, e, func(txn kv.Txn) { txn.Put([]byte(kv.Number(uint64(i))), value(i)) })
	}
	for _, reverse := range []bool{false, true} {
		rng, read, pages := kv.Range{Reverse: reverse}, 0, 0
		for more := true; more; pages++ {
			var entries []kv.Entry
			entries, more = page(t, e, rng)
			if len(entries) == 0 {
				t.Fatalf("page %d is empty", pages)
			}
			size := 0
			for _, entry := range entries {
				i := read
				if reverse {
					i = count - 1 - read
				}
				equal(t, "key", kv.Number(uint64(i)), string(entry.Key))
				if !bytes.Equal(entry.Value, value(i)) {
					t.Fatalf("value %d has %d bytes, want %d", i, len(entry.Value), len(value(i)))
				}
				read, size = read+1, size+len(entry.Key)+len(entry.Value)
			}
			if size > kv.MaxScanBytes {
				t.Errorf("page %d has %d bytes", pages, size)
			}
			last := entries[len(entries)-1].Key
			if rng.Start = kv.After(last); reverse {
				rng.Start, rng.End = nil, last
			}
		}
		equal(t, "entries", count, read)
	}
	if entries, more := page(t, e, kv.Range{KeysOnly: true}); len(entries) != count || more {
		t.Errorf("keys only: %d entries, more: %v", len(entries), more)
	}
}

func testLimits(t *testing.T, e kv.Engine) {
	long := bytes.Repeat([]byte("k"), kv.MaxKeyBytes)
	tooLong := append([]byte("k"), long...)
	number := func(i int) []byte { return []byte(kv.Number(uint64(i))) }
	keys := func(n int) [][]byte {
		keys := make([][]byte, n)
		for i := range keys {
			keys[i] = number(i)
		}
		return keys
	}
	read := func(txn kv.Txn, n int) error { _, err := txn.Get(keys(n)...); return err }
	puts := func(txn kv.Txn, n int) {
		for i := range n {
			txn.Put(number(i), nil)
		}
	}
	updates := []struct {
		name string
		fn   func(kv.Txn) error
		want error
	}{
		{"longest key", func(x kv.Txn) error { x.Put(long, nil); _, err := x.Get(long); return err }, nil},
		{"too long to put", func(x kv.Txn) error { x.Put(tooLong, nil); return nil }, kv.ErrTooLarge},
		{"too long to delete", func(x kv.Txn) error { x.Delete(tooLong); return nil }, kv.ErrTooLarge},
		{"too long to get", func(x kv.Txn) error { _, err := x.Get(tooLong); return err }, kv.ErrTooLarge},
		{"error not looked at", func(x kv.Txn) error { _, _ = x.Get(tooLong); return nil }, kv.ErrTooLarge},
		{"most keys read", func(x kv.Txn) error { return read(x, kv.MaxTxnKeys) }, nil},
		{"too many keys read", func(x kv.Txn) error { return read(x, kv.MaxTxnKeys+1) }, kv.ErrTooLarge},
		{"most keys written", func(x kv.Txn) error { puts(x, kv.MaxTxnKeys); return nil }, nil},
		{"too many keys written", func(x kv.Txn) error { puts(x, kv.MaxTxnKeys+1); return nil }, kv.ErrTooLarge},
		{"most keys together", func(x kv.Txn) error { puts(x, kv.MaxTxnKeys/2); return read(x, kv.MaxTxnKeys/2) }, nil},
		{"too many keys together", func(x kv.Txn) error {
			puts(x, kv.MaxTxnKeys)
			_, err := x.Get([]byte("k"))
			return err
		}, kv.ErrTooLarge},
		{"a key counts once", func(x kv.Txn) error {
			for range 2 {
				puts(x, kv.MaxTxnKeys)
				if err := read(x, kv.MaxTxnKeys); err != nil {
					return err
				}
				x.Delete(number(0))
				if _, err := x.Get(number(1), number(1)); err != nil {
					return err
				}
			}
			return nil
		}, nil},
		{"ranges that meet are one", func(x kv.Txn) error {
			for i := range kv.MaxTxnKeys {
				x.DeleteRange(number(i), number(i+1))
			}
			x.Put(long, nil)
			return nil
		}, nil},
		{"ranges apart", func(x kv.Txn) error {
			for i := range kv.MaxTxnKeys + 1 {
				x.DeleteRange(number(2*i), number(2*i+1))
			}
			return nil
		}, kv.ErrTooLarge},
		{"most keys in a range", func(x kv.Txn) error {
			x.DeleteRange(nil, nil)
			puts(x, (kv.MaxTxnKeys-1)/2)
			return nil
		}, nil},
		{"each key in a range cuts it", func(x kv.Txn) error {
			x.DeleteRange(nil, nil)
			puts(x, kv.MaxTxnKeys/2)
			return nil
		}, kv.ErrTooLarge},
		{"a range is a key", func(x kv.Txn) error {
			puts(x, kv.MaxTxnKeys)
			x.DeleteRange([]byte("y"), []byte("z"))
			return nil
		}, kv.ErrTooLarge},
		{"most bytes", func(x kv.Txn) error { x.Put([]byte("k"), make([]byte, kv.MaxTxnBytes-1)); return nil }, nil},
		{"too many bytes", func(x kv.Txn) error { x.Put([]byte("k"), make([]byte, kv.MaxTxnBytes)); return nil }, kv.ErrTooLarge},
		{"too many bytes together", func(x kv.Txn) error {
			x.Put([]byte("k"), make([]byte, kv.MaxTxnBytes/2))
			x.Put([]byte("l"), make([]byte, kv.MaxTxnBytes/2))
			return nil
		}, kv.ErrTooLarge},
		{"what is written over does not count", func(x kv.Txn) error {
			for range 2 {
				x.Put([]byte("k"), make([]byte, kv.MaxTxnBytes-10))
				x.Put([]byte("k"), nil)
				x.Put([]byte("l"), make([]byte, kv.MaxTxnBytes/2))
				x.DeleteRange([]byte("l"), nil)
			}
			x.Put([]byte("k"), make([]byte, kv.MaxTxnBytes/2))
			return nil
		}, nil},
		{"own error first", func(x kv.Txn) error { x.Put(tooLong, nil); return errOwn }, errOwn},
	}
	for _, test := range updates {
		update(t, e, func(txn kv.Txn) { txn.DeleteRange(nil, nil) })
		if err := e.Update(t.Context(), test.fn); !errors.Is(err, test.want) {
			t.Errorf("%s: Update = %v, want %v", test.name, err, test.want)
		} else if entries := scan(t, e, kv.Range{Limit: 1}); err != nil && len(entries) > 0 {
			t.Errorf("%s: refused, and yet %q was written", test.name, entries[0].Key)
		}
	}
	for name, fn := range map[string]func(kv.Txn) error{
		"get":    func(x kv.Txn) error { _, err := x.Get(nil); return err },
		"put":    func(x kv.Txn) error { x.Put(nil, nil); return nil },
		"delete": func(x kv.Txn) error { x.Delete([]byte{}); return nil },
	} {
		if err := e.Update(t.Context(), fn); err == nil {
			t.Errorf("%s of an empty key succeeded", name)
		}
	}

	for from := 0; from <= kv.MaxScanLimit; from += kv.MaxTxnKeys {
		update(t, e, func(txn kv.Txn) {
			for i := range kv.MaxTxnKeys {
				txn.Put(number(from+i), nil)
			}
		})
	}
	equal(t, "entries without a limit", kv.MaxScanLimit, len(scan(t, e, kv.Range{})))
	equal(t, "entries with the highest limit", kv.MaxScanLimit, len(scan(t, e, kv.Range{Limit: kv.MaxScanLimit})))
	views := map[string]func(kv.Reader) error{
		"limit too high": func(r kv.Reader) error { _, _, err := r.Scan(kv.Range{Limit: kv.MaxScanLimit + 1}); return err },
		"limit below 0":  func(r kv.Reader) error { _, _, err := r.Scan(kv.Range{Limit: -1}); return err },
		"key too long":   func(r kv.Reader) error { _, err := r.Get(tooLong); return err },
		"too many keys":  func(r kv.Reader) error { _, err := r.Get(keys(kv.MaxTxnKeys + 1)...); return err },
	}
	for name, fn := range views {
		if err := e.View(t.Context(), fn); !errors.Is(err, kv.ErrTooLarge) {
			t.Errorf("%s: View = %v, want %v", name, err, kv.ErrTooLarge)
		}
	}
	if err := e.View(t.Context(), func(r kv.Reader) error {
		_, err := r.Get(keys(kv.MaxTxnKeys)...)
		if err == nil {
			_, err = r.Get(keys(kv.MaxTxnKeys)...)
		}
		return err
	}); err != nil {
		t.Errorf("View that reads many keys in two calls: %v", err)
	}
}

func testErrorWritesNothing(t *testing.T, e kv.Engine) {
	err := e.Update(t.Context(), func(txn kv.Txn) error {
		txn.Put([]byte("k"), nil)
		return errOwn
	})
	if err != errOwn { //nolint:errorlint // as it is, not wrapped
		t.Errorf("Update = %v, want %v itself", err, errOwn)
	}
	equal(t, "entries", 0, len(scan(t, e, kv.Range{})))
	if err := e.View(t.Context(), func(kv.Reader) error { return errOwn }); err != errOwn { //nolint:errorlint // as above
		t.Errorf("View = %v, want %v itself", err, errOwn)
	}
}

func testPanicIsAnError(t *testing.T, e kv.Engine) {
	err := e.Update(t.Context(), func(txn kv.Txn) error {
		txn.Put([]byte("k"), nil)
		panic("on purpose") //nolint:forbidigo // what is tested
	})
	if panicked, ok := errors.AsType[*kv.PanicError](err); !ok || panicked.Value != "on purpose" {
		t.Errorf("Update whose function panicked = %v", err)
	}
	equal(t, "entries", 0, len(scan(t, e, kv.Range{})))
	put(t, e, "k", "v")
}

func testFailuresCostOthersNothing(t *testing.T, e kv.Engine) {
	const writers = 30
	errs := make([]error, writers)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			errs[i] = e.Update(t.Context(), func(txn kv.Txn) error {
				txn.Put([]byte(kv.Number(uint64(i))), nil)
				switch i % 3 {
				case 1:
					return errOwn
				case 2:
					panic("on purpose") //nolint:forbidigo // what is tested
				}
				return nil
			})
		})
	}
	group.Wait()
	for i, err := range errs {
		if good := i%3 == 0; good != (err == nil) {
			t.Errorf("Update %d = %v", i, err)
		}
	}
	entries := scan(t, e, kv.Range{KeysOnly: true})
	equal(t, "entries", writers/3, len(entries))
	for i, entry := range entries {
		equal(t, "key", kv.Number(uint64(i*3)), string(entry.Key))
	}
}

func testSnapshotIsolation(t *testing.T, e kv.Engine) {
	put(t, e, "a", "1", "b", "1")
	if err := e.View(t.Context(), func(r kv.Reader) error {
		if _, err := r.Get([]byte("elsewhere")); err != nil { // or the snapshot may not have been taken yet
			return err
		}
		put(t, e, "a", "2", "b", "2", "c", "2")
		values, err := r.Get([]byte("a"), []byte("b"), []byte("c"))
		if err != nil {
			return err
		}
		equal(t, "Get in the snapshot", [][]byte{[]byte("1"), []byte("1"), nil}, values)
		entries, _, err := r.Scan(kv.Range{})
		equal(t, "entries in the snapshot", 2, len(entries))
		return err
	}); err != nil {
		t.Fatalf("View: %v", err)
	}
	equal(t, "acknowledged", "2", string(get(t, e, "c")[0]))

	// Two keys written together are never seen apart.
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			if err := e.Update(t.Context(), func(txn kv.Txn) error {
				txn.Put([]byte("a"), []byte(strconv.Itoa(i)))
				txn.Put([]byte("b"), []byte(strconv.Itoa(i)))
				return nil
			}); err != nil {
				t.Errorf("Update: %v", err)
			}
		})
		group.Go(func() {
			if err := e.View(t.Context(), func(r kv.Reader) error {
				v, err := r.Get([]byte("a"), []byte("b"))
				if err == nil && !bytes.Equal(v[0], v[1]) {
					err = fmt.Errorf("snapshot holds a = %q, b = %q", v[0], v[1])
				}
				return err
			}); err != nil {
				t.Errorf("View: %v", err)
			}
		})
	}
	group.Wait()
}

// testOneState has others write between the reads of a function.
func testOneState(t *testing.T, e kv.Engine) {
	put(t, e, "a", "0", "b", "0")
	runs := 0
	var got [][]byte
	if err := e.Update(t.Context(), func(txn kv.Txn) error {
		runs++
		first, err := txn.Get([]byte("a"))
		if err != nil {
			return err
		}
		if runs < 3 {
			n := strconv.Itoa(runs)
			put(t, e, "a", n, "b", n, "made"+n, n)
		}
		second, err := txn.Get([]byte("b"), []byte("a"), []byte("made1"))
		if err != nil {
			return err
		}
		if !bytes.Equal(first[0], second[0]) || !bytes.Equal(first[0], second[1]) {
			t.Errorf("run %d saw a = %q, then b = %q, a = %q", runs, first[0], second[0], second[1])
		}
		got = append(first, second...)
		return nil
	}); err != nil {
		t.Fatalf("Update: %v", err)
	}
	if state := string(bytes.Join(got, []byte(" "))); state != "0 0 0 " && state != "1 1 1 1" && state != "2 2 2 1" {
		t.Errorf("the last run saw %q", state)
	}
}

// testConflicts changes what a function has read, before it commits.
// What is expected to be missing is found where it is there.
func testExpectMissing(t *testing.T, e kv.Engine) {
	put(t, e, "there", "1")
	for _, writes := range []bool{false, true} {
		var found [][]byte
		err := e.Update(t.Context(), func(txn kv.Txn) (err error) {
			keys := bytesOf([]string{"there", "missing", "other"})
			txn.ExpectMissing(keys[:2]...)
			if found, err = txn.Get(keys...); err == nil && writes {
				txn.Put(keys[1], append([]byte("after "), found[0]...))
			}
			return err
		})
		if err != nil {
			t.Fatalf("Update: %v", err)
		}
		equal(t, "what is found", [][]byte{[]byte("1"), nil, nil}, found)
	}
	equal(t, "what was written", [][]byte{[]byte("after 1")}, get(t, e, "missing"))
}

func testConflicts(t *testing.T, e kv.Engine) {
	tests := []struct {
		name   string
		change func(kv.Txn)
		want   string // what the function sees of there, missing and ranged when it is committed
	}{
		{"set", func(x kv.Txn) { x.Put([]byte("there"), []byte("new")) }, "new - old"},
		{"set as it was", func(x kv.Txn) { x.Put([]byte("there"), []byte("old")) }, "old - old"},
		{"deleted", func(x kv.Txn) { x.Delete([]byte("there")) }, "- - old"},
		{"made", func(x kv.Txn) { x.Put([]byte("missing"), nil) }, "old  old"},
		{"deleted by a range", func(x kv.Txn) { x.DeleteRange([]byte("r"), []byte("s")) }, "old - -"},
		{"deleted by a range and made again", func(x kv.Txn) {
			x.DeleteRange([]byte("r"), []byte("s"))
			x.Put([]byte("ranged"), []byte("new"))
		}, "old - new"},
		{"others changed", func(x kv.Txn) { x.Put([]byte("other"), nil); x.DeleteRange([]byte("x"), nil) }, "old - old"},
	}
	for _, test := range tests {
		update(t, e, func(txn kv.Txn) { txn.DeleteRange(nil, nil) })
		put(t, e, "there", "old", "ranged", "old")
		changed, last := false, ""
		if err := e.Update(t.Context(), func(txn kv.Txn) error {
			values, err := txn.Get([]byte("there"), []byte("missing"), []byte("ranged"))
			if err != nil {
				return err
			}
			if !changed {
				changed = true
				update(t, e, test.change)
			}
			for i, value := range values {
				if value == nil {
					values[i] = []byte("-")
				}
			}
			last = string(bytes.Join(values, []byte(" ")))
			txn.Put([]byte("seen"), []byte(last))
			return nil
		}); err != nil {
			t.Fatalf("%s: Update: %v", test.name, err)
		}
		equal(t, test.name+": committed", test.want, string(get(t, e, "seen")[0]))
		equal(t, test.name+": the last run saw", test.want, last)
	}
}

// testNobodyWaits lets an update rest in its function.
func testNobodyWaits(t *testing.T, e kv.Engine) {
	started, release := make(chan struct{}), make(chan struct{})
	start := sync.OnceFunc(func() { close(started) })
	var group sync.WaitGroup
	group.Go(func() {
		if err := e.Update(t.Context(), func(txn kv.Txn) error {
			_, err := txn.Get([]byte("slow"))
			start()
			<-release
			txn.Put([]byte("slow"), []byte("v"))
			return err
		}); err != nil {
			t.Errorf("slow Update: %v", err)
		}
	})
	<-started
	put(t, e, "fast", "v") // or the test times out
	equal(t, "of the fast and the slow one", [][]byte{[]byte("v"), nil}, get(t, e, "fast", "slow"))
	close(release)
	group.Wait()
	equal(t, "in the end", "v", string(get(t, e, "slow")[0]))
}

func testFailed(t *testing.T, e kv.Engine) {
	put(t, e, "k", "v")
	select {
	case <-e.Failed():
		t.Error("a good engine has failed")
	default:
	}
	if err := e.Err(); err != nil {
		t.Errorf("Err = %v", err)
	}
}

func testLostUpdates(t *testing.T, e kv.Engine) {
	const writers, rounds = 16, 10
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range rounds {
				if err := e.Update(t.Context(), increment); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	group.Wait()
	equal(t, "counter", strconv.Itoa(writers*rounds), string(get(t, e, "counter")[0]))
}

func increment(txn kv.Txn) error {
	values, err := txn.Get([]byte("counter"))
	if err != nil {
		return err
	}
	n := 0
	if values[0] != nil {
		if n, err = strconv.Atoi(string(values[0])); err != nil {
			return err
		}
	}
	txn.Put([]byte("counter"), []byte(strconv.Itoa(n+1)))
	return nil
}

// testWriteSkew has two updates that each read both keys and write one: a key read and found missing must be guarded too.
func testWriteSkew(t *testing.T, e kv.Engine) {
	for round := range 20 {
		keys := bytesOf([]string{fmt.Sprintf("%d/left", round), fmt.Sprintf("%d/right", round)})
		var taken atomic.Int32
		var group sync.WaitGroup
		for _, mine := range keys {
			group.Go(func() {
				err := e.Update(t.Context(), func(txn kv.Txn) error {
					values, err := txn.Get(keys...)
					if err != nil {
						return err
					}
					if values[0] != nil || values[1] != nil {
						return errOwn
					}
					txn.Put(mine, nil)
					return nil
				})
				if err == nil {
					taken.Add(1)
				} else if !errors.Is(err, errOwn) {
					t.Errorf("Update: %v", err)
				}
			})
		}
		group.Wait()
		equal(t, "updates that found both keys missing", 1, int(taken.Load()))
	}
}

func testContext(t *testing.T, e kv.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errUnexpected := errors.New("called although the context is done")
	if err := e.Update(ctx, func(kv.Txn) error { return errUnexpected }); !errors.Is(err, context.Canceled) {
		t.Errorf("Update = %v, want %v", err, context.Canceled)
	}
	if err := e.View(ctx, func(kv.Reader) error { return errUnexpected }); !errors.Is(err, context.Canceled) {
		t.Errorf("View = %v, want %v", err, context.Canceled)
	}
	if _, err := e.Watch(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v, want %v", err, context.Canceled)
	}
	if s, ok := e.(kv.Snapshotter); ok {
		if _, err := s.Snapshot(ctx, func(kv.Reader) error { return errUnexpected }); !errors.Is(err, context.Canceled) {
			t.Errorf("Snapshot = %v, want %v", err, context.Canceled)
		}
	}
}

func testWatch(t *testing.T, e kv.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	put(t, e, "b1", "")
	tokens, err := e.Watch(ctx, []byte("b"))
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	changes := map[string]func(kv.Txn){
		"Put":                   func(x kv.Txn) { x.Put([]byte("b1"), []byte("v")) },
		"Put of the prefix":     func(x kv.Txn) { x.Put([]byte("b"), nil) },
		"Delete":                func(x kv.Txn) { x.Delete([]byte("b1")) },
		"DeleteRange around":    func(x kv.Txn) { x.DeleteRange([]byte("a"), []byte("z")) },
		"DeleteRange of all":    func(x kv.Txn) { x.DeleteRange(nil, nil) },
		"DeleteRange inside":    func(x kv.Txn) { x.DeleteRange([]byte("b0"), []byte("b2")) },
		"after others' changes": func(x kv.Txn) { x.Put([]byte("a"), nil); x.Put([]byte("c"), nil); x.Put([]byte("b2"), nil) },
	}
	for _, change := range changes {
		update(t, e, func(txn kv.Txn) { txn.Put([]byte("b1"), nil); txn.Put([]byte("b"), nil) })
		<-tokens
		update(t, e, change)
		<-tokens // or the test times out: a change was missed
	}
	cancel()
	for range tokens { // ends when the channel is closed
	}

	tokens, err = e.Watch(t.Context(), nil)
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	put(t, e, "any", "")
	<-tokens
	if err := e.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for range tokens {
	}
}

// testWatchMissesNothing follows a counter by tokens alone: should one be missed, the watcher never sees the end.
func testWatchMissesNothing(t *testing.T, e kv.Engine) {
	const writers, rounds = 8, 20
	tokens, err := e.Watch(t.Context(), []byte("counter"))
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range rounds {
				if err := e.Update(t.Context(), increment); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	for range tokens {
		if string(get(t, e, "counter")[0]) == strconv.Itoa(writers*rounds) {
			break
		}
	}
	group.Wait()
}

func testClose(t *testing.T, e kv.Engine) {
	// Each update either is acknowledged or gets ErrClosed.
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := e.Update(t.Context(), increment); err != nil && !errors.Is(err, kv.ErrClosed) {
				t.Errorf("Update while closing = %v, want nil or %v", err, kv.ErrClosed)
			}
		})
		group.Go(func() {
			err := e.View(t.Context(), func(r kv.Reader) error { _, _, err := r.Scan(kv.Range{}); return err })
			if err != nil && !errors.Is(err, kv.ErrClosed) {
				t.Errorf("View while closing = %v, want nil or %v", err, kv.ErrClosed)
			}
		})
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	group.Wait()
	errs := map[string]error{
		"Update": e.Update(t.Context(), func(kv.Txn) error { return nil }),
		"View":   e.View(t.Context(), func(kv.Reader) error { return nil }),
	}
	_, errs["Watch"] = e.Watch(t.Context(), nil)
	if s, ok := e.(kv.Snapshotter); ok {
		_, errs["Snapshot"] = s.Snapshot(t.Context(), func(kv.Reader) error { return nil })
	}
	for name, err := range errs {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s after Close = %v, want %v", name, err, kv.ErrClosed)
		}
	}
}

// testWait has what goes on around the wait for a commit.
func testWait(t *testing.T, e kv.Engine) {
	waits, waiting := 0, false
	ctx := kv.WithWait(t.Context(), func(wait func()) {
		waits, waiting = waits+1, true
		wait()
		waiting = false
	})
	for i := range 3 {
		err := e.Update(ctx, func(tx kv.Txn) error {
			if waiting {
				t.Error("a function runs while its commit is waited for")
			}
			tx.Put([]byte("k"), []byte{byte(i)})
			return nil
		})
		if err != nil || waits <= i || waiting {
			t.Errorf("%d commits were waited for %d times, %v", i+1, waits, err)
		}
	}
}

// testOracle compares random updates with a map.
func testOracle(t *testing.T, e kv.Engine) {
	key := rapid.Custom(func(t *rapid.T) string {
		return string(kv.Key(rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00\x01")), 0, 2, -1), 1, 2).Draw(t, "segments")...))
	})
	bound := rapid.OneOf(rapid.Just(""), key)
	rapid.Check(t, func(t *rapid.T) {
		update(t, e, func(txn kv.Txn) { txn.DeleteRange(nil, nil) })
		committed := map[string]string{}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				r := kv.Range{
					Start:    []byte(bound.Draw(t, "start")),
					End:      []byte(bound.Draw(t, "end")),
					Limit:    rapid.IntRange(0, 4).Draw(t, "limit"),
					Reverse:  rapid.Bool().Draw(t, "reverse"),
					KeysOnly: rapid.Bool().Draw(t, "keys only"),
				}
				wantEntries, wantMore := expected(committed, r)
				entries, more := page(t, e, r)
				equal(t, "Scan", wantEntries, entries)
				equal(t, "more", wantMore, more)
			},
			"Update": func(t *rapid.T) {
				own := map[string]string{}
				for k, v := range committed {
					own[k] = v
				}
				var steps []func(kv.Txn) error
				for range rapid.IntRange(1, 6).Draw(t, "steps") {
					steps = append(steps, step(t, own, key, bound))
				}
				fails := rapid.Bool().Draw(t, "fails")
				err := e.Update(t.Context(), func(txn kv.Txn) error {
					for _, step := range steps {
						if err := step(txn); err != nil {
							return err
						}
					}
					if fails {
						return errOwn
					}
					return nil
				})
				switch {
				case err == nil && !fails:
					committed = own
				case !fails || !errors.Is(err, errOwn):
					t.Fatalf("Update: %v", err)
				}
			},
		})
	})
}

// step draws one access, does it to the oracle and returns what does it to the engine.
func step(t *rapid.T, own map[string]string, key, bound *rapid.Generator[string]) func(kv.Txn) error {
	k := key.Draw(t, "key")
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		v := rapid.StringN(0, 3, -1).Draw(t, "value")
		own[k] = v
		return func(txn kv.Txn) error { txn.Put([]byte(k), []byte(v)); return nil }
	case 1:
		delete(own, k)
		return func(txn kv.Txn) error { txn.Delete([]byte(k)); return nil }
	case 2:
		start, end := bound.Draw(t, "start"), bound.Draw(t, "end")
		for k := range own {
			if k >= start && (end == "" || k < end) {
				delete(own, k)
			}
		}
		return func(txn kv.Txn) error { txn.DeleteRange([]byte(start), []byte(end)); return nil }
	default:
		var want []byte
		if v, ok := own[k]; ok {
			want = []byte(v)
		}
		return func(txn kv.Txn) error {
			values, err := txn.Get([]byte(k))
			if err == nil && !cmp.Equal(values, [][]byte{want}) {
				err = fmt.Errorf("%q = %q, want %q", k, values[0], want)
			}
			return err
		}
	}
}

func expected(oracle map[string]string, r kv.Range) (entries []kv.Entry, more bool) {
	keys := slices.Sorted(maps.Keys(oracle))
	if r.Reverse {
		slices.Reverse(keys)
	}
	for _, k := range keys {
		if k < string(r.Start) || len(r.End) > 0 && k >= string(r.End) {
			continue
		}
		if r.Limit > 0 && len(entries) == r.Limit {
			return entries, true
		}
		entry := kv.Entry{Key: []byte(k)}
		if !r.KeysOnly {
			entry.Value = []byte(oracle[k])
		}
		entries = append(entries, entry)
	}
	return entries, false
}
