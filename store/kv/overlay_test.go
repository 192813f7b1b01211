package kv_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

func b(text string) []byte { return []byte(text) }

// base is what an overlay lies over.
type base map[string]string

func (m base) Get(keys ...[]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		if value, ok := m[string(key)]; ok {
			values[i] = []byte(value)
		}
	}
	return values, nil
}

func text(ops []kv.Op) (lines []string) {
	for _, op := range ops {
		switch {
		case op.Range:
			lines = append(lines, fmt.Sprintf("delete %q..%q", op.Key, op.End))
		case op.Value == nil:
			lines = append(lines, fmt.Sprintf("delete %q", op.Key))
		default:
			lines = append(lines, fmt.Sprintf("%q = %q", op.Key, op.Value))
		}
	}
	return lines
}

func TestOpsAreNormalised(t *testing.T) {
	tests := []struct {
		name  string
		write func(kv.Txn)
		want  []string
	}{
		{"nothing", func(kv.Txn) {}, nil},
		{"in order of keys", func(x kv.Txn) { x.Put(b("b"), b("1")); x.Delete(b("a")) }, []string{`delete "a"`, `"b" = "1"`}},
		{"the later value", func(x kv.Txn) { x.Put(b("a"), b("1")); x.Put(b("a"), b("2")) }, []string{`"a" = "2"`}},
		{"deleted after all", func(x kv.Txn) { x.Put(b("a"), b("1")); x.Delete(b("a")) }, []string{`delete "a"`}},
		{"set after all", func(x kv.Txn) { x.Delete(b("a")); x.Put(b("a"), nil) }, []string{`"a" = ""`}},
		{"a range takes what lies in it", func(x kv.Txn) { x.Put(b("b"), b("1")); x.Delete(b("c")); x.DeleteRange(b("a"), b("d")) },
			[]string{`delete "a".."d"`}},
		{"a range leaves what lies at its end", func(x kv.Txn) { x.Put(b("d"), nil); x.DeleteRange(b("a"), b("d")) },
			[]string{`delete "a".."d"`, `"d" = ""`}},
		{"set in a deleted range", func(x kv.Txn) { x.DeleteRange(b("a"), b("d")); x.Put(b("b"), b("1")) },
			[]string{`delete "a".."b"`, `"b" = "1"`, `delete "b\x00".."d"`}},
		{"set and deleted in a deleted range", func(x kv.Txn) { x.DeleteRange(b("a"), b("d")); x.Put(b("b"), nil); x.Delete(b("b")) },
			[]string{`delete "a".."d"`}},
		{"set where a range starts", func(x kv.Txn) { x.DeleteRange(b("a"), b("d")); x.Put(b("a"), b("1")) },
			[]string{`"a" = "1"`, `delete "a\x00".."d"`}},
		{"all of a range set", func(x kv.Txn) { x.DeleteRange(b("a"), b("a\x00")); x.Put(b("a"), b("1")) }, []string{`"a" = "1"`}},
		{"set in an endless range", func(x kv.Txn) { x.DeleteRange(nil, nil); x.Put(b("a"), b("1")) },
			[]string{`delete "".."a"`, `"a" = "1"`, `delete "a\x00"..""`}},
		{"ranges that overlap", func(x kv.Txn) { x.DeleteRange(b("a"), b("c")); x.DeleteRange(b("b"), b("d")) }, []string{`delete "a".."d"`}},
		{"ranges that touch", func(x kv.Txn) { x.DeleteRange(b("c"), b("d")); x.DeleteRange(b("a"), b("c")) }, []string{`delete "a".."d"`}},
		{"ranges apart", func(x kv.Txn) { x.DeleteRange(b("c"), nil); x.DeleteRange(nil, b("a")) }, []string{`delete "".."a"`, `delete "c"..""`}},
		{"a range around ranges", func(x kv.Txn) {
			x.DeleteRange(b("b"), b("c"))
			x.DeleteRange(b("e"), b("f"))
			x.DeleteRange(b("h"), b("i"))
			x.DeleteRange(b("a"), b("g"))
		}, []string{`delete "a".."g"`, `delete "h".."i"`}},
		{"a range around an endless one", func(x kv.Txn) { x.DeleteRange(b("b"), nil); x.DeleteRange(b("a"), b("c")) }, []string{`delete "a"..""`}},
		{"empty and upside down", func(x kv.Txn) { x.DeleteRange(b("a"), b("a")); x.DeleteRange(b("b"), b("a")) }, nil},
	}
	for _, test := range tests {
		o := kv.NewOverlay(base{})
		test.write(o)
		ops, err := o.Ops()
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, text(ops)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestOpsDoWhatWasAsked compares random writes, done one after the other, with the ops that are left of them, which may be
// done in any order.
func TestOpsDoWhatWasAsked(t *testing.T) {
	key := rapid.StringOfN(rapid.RuneFrom([]rune("abc\x00")), 1, 2, -1)
	bound := rapid.StringOfN(rapid.RuneFrom([]rune("abc\x00")), 0, 2, -1)
	rapid.Check(t, func(t *rapid.T) {
		before := base(rapid.MapOfN(key, rapid.Just("old"), 0, 8).Draw(t, "base"))
		want := maps.Clone(before)
		o := kv.NewOverlay(before)
		for range rapid.IntRange(0, 10).Draw(t, "writes") {
			switch k := key.Draw(t, "key"); rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				v := rapid.StringN(0, 1, -1).Draw(t, "value")
				want[k] = v
				o.Put(b(k), b(v))
			case 1:
				delete(want, k)
				o.Delete(b(k))
			case 2:
				start, end := bound.Draw(t, "start"), bound.Draw(t, "end")
				deleteRange(want, start, end)
				o.DeleteRange(b(start), b(end))
			case 3:
				values, err := o.Get(b(k))
				if v, ok := want[k]; err != nil || ok != (values[0] != nil) || string(values[0]) != v {
					t.Fatalf("%q = %q, %v, want %q, %v", k, values[0], err, v, ok)
				}
			}
		}
		ops, err := o.Ops()
		if err != nil {
			t.Fatal(err)
		}
		got := maps.Clone(before)
		for _, op := range rapid.Permutation(ops).Draw(t, "order") {
			switch {
			case op.Range:
				deleteRange(got, string(op.Key), string(op.End))
			case op.Value == nil:
				delete(got, string(op.Key))
			default:
				got[string(op.Key)] = string(op.Value)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("ops %q (-want +got):\n%s", text(ops), diff)
		}
		for i := range ops {
			for k := range maps.Keys(want) {
				if overlap := slices.IndexFunc(ops[i+1:], func(op kv.Op) bool { return op.Covers(b(k)) }); overlap >= 0 && ops[i].Covers(b(k)) {
					t.Fatalf("two of %q cover %q", text(ops), k)
				}
			}
		}
	})
}

func deleteRange(m base, start, end string) {
	maps.DeleteFunc(m, func(k, _ string) bool { return k >= start && (end == "" || k < end) })
}

func TestReadsComeFromBaseOnce(t *testing.T) {
	o := kv.NewOverlay(base{"a": "1"})
	o.Put(b("own"), nil)
	o.DeleteRange(b("x"), b("y"))
	for range 2 {
		if _, err := o.Get(b("a"), b("missing"), b("a"), b("own"), b("xx")); err != nil {
			t.Fatal(err)
		}
	}
	o.Put(b("a"), nil)
	reads := o.Reads()
	slices.Sort(reads)
	if diff := cmp.Diff([]string{"a", "missing"}, reads); diff != "" {
		t.Errorf("Reads (-want +got):\n%s", diff)
	}
	if first := o.First(); !bytes.Equal(first, b("own")) {
		t.Errorf("First = %q", first)
	}
}

// TestPieces has keys that cut a range: each piece is an operation of the engine.
func TestPieces(t *testing.T) {
	for _, test := range []struct {
		keys int
		want error
	}{{(kv.MaxTxnKeys - 1) / 2, nil}, {kv.MaxTxnKeys / 2, kv.ErrTooLarge}} {
		o := kv.NewOverlay(base{})
		o.DeleteRange(nil, nil)
		for i := range test.keys {
			o.Put(b(kv.Number(uint64(i))), nil)
		}
		ops, err := o.Ops()
		if !errors.Is(err, test.want) || len(ops) > kv.MaxTxnKeys {
			t.Errorf("%d keys in a range: %d ops, %v, want %v", test.keys, len(ops), err, test.want)
		}
	}
}

func TestRunTurnsPanicsIntoErrors(t *testing.T) {
	err := kv.NewOverlay(base{}).Run(func(kv.Txn) error { panic("on purpose") })
	panicked, ok := errors.AsType[*kv.PanicError](err)
	if !ok || panicked.Value != "on purpose" || !bytes.Contains(panicked.Stack, b("overlay_test")) {
		t.Fatalf("Run = %v", err)
	}
	if panicked.Error() != "update panicked: on purpose" {
		t.Errorf("text %q", panicked)
	}
}
