package storetest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store"
)

func recordsOf(n, size int, text string) []json.RawMessage {
	var records []json.RawMessage
	for i := range n {
		records = append(records, fmt.Appendf(nil, `{"id": %d, "text":"<%s%s>"}`, i+1, text, strings.Repeat("x", size)))
	}
	return records
}

// noisyRecords are of bytes of which packing makes hardly less.
func noisyRecords(n, size int) (records []json.RawMessage) {
	for i := range n {
		text := base64.StdEncoding.EncodeToString([]byte(incompressible(uint64(i), size*3/4)))
		records = append(records, fmt.Appendf(nil, `{"id": %d, "text":"%s"}`, i+1, text))
	}
	return records
}

func stage(t testing.TB, s *fixture, id string, records []json.RawMessage) *store.StagedRecords {
	t.Helper()
	staged, err := s.StageRecords(t.Context(), tenant, id, records)
	if err != nil {
		t.Fatal(err)
	}
	return staged
}

func testStaging(t *testing.T, s *fixture) {
	tests := []struct {
		name    string
		records []json.RawMessage
		written bool // before they are published
		blocks  int
	}{
		{"none", nil, false, 0},
		{"a usual search", noisyRecords(25, 4<<10), false, 9},
		{"many, and short when packed", recordsOf(1000, 1<<10, "b"), true, 67},
		{"many", noisyRecords(1000, 2500), true, 167},
		{"few and large", noisyRecords(20, 300<<10), true, 20},
		{"one, as large as can be", []json.RawMessage{json.RawMessage(incompressible(1, 1<<20-500))}, true, 1},
		{"one among small ones, as large as can be", slices.Concat(recordsOf(30, 10, "c"), noisyRecords(1, 1<<20-500), recordsOf(30, 10, "d")), true, 61},
		{"fewer", recordsOf(3, 10, "e"), false, 1},
	}
	for _, test := range tests {
		before := keysOf(t, s)
		staged := stage(t, s, "i", test.records)
		if written := keysOf(t, s) > before; written != test.written {
			t.Errorf("%s: written %v, want %v", test.name, written, test.written)
		}
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.PublishRecordset(store.Recordset{Name: "rs", Count: -1, Removed: true}, staged)
		})
		if n := keysOf(t, s) - 2; n != test.blocks { // beside head and recordset
			t.Errorf("%s: %d blocks are stored, want %d: older ones are left", test.name, n, test.blocks)
		}
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			rs, err := tx.Recordset("rs")
			if err != nil || rs.Count != len(test.records) || rs.Removed {
				t.Errorf("%s: %+v, %v", test.name, rs, err)
			}
			for i, want := range test.records {
				got, err := tx.Record("rs", i+1)
				if err != nil || string(got) != string(want) {
					t.Fatalf("%s: record %d: %v, not as it was given", test.name, i+1, err)
				}
			}
			for _, position := range []int{-1, 0, len(test.records) + 1} {
				if _, err := tx.Record("rs", position); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s: record %d: got %v, want ErrNotFound", test.name, position, err)
				}
			}
			return nil
		})
	}
}

func testStagingTooLarge(t *testing.T, s *fixture) {
	for name, record := range map[string]string{
		"short when it is packed": strings.Repeat("x", 1<<20+1),
		"with its key":            incompressible(1, 1<<20-100),
		"much larger than can be": incompressible(1, 3<<20),
	} {
		records := append(recordsOf(60, 10, "a"), json.RawMessage(record))
		if _, err := s.StageRecords(t.Context(), tenant, "i", records); !errors.Is(err, store.ErrTooLarge) || !strings.HasPrefix(err.Error(), "record 61 of 61 ") {
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		}
		if n := keysOf(t, s); n != 0 {
			t.Errorf("%s: %d blocks are left", name, n)
		}
	}
}

// testPublishedTwice publishes the same records again, as a caller does that repeats an update of unknown outcome.
func testPublishedTwice(t *testing.T, s *fixture) {
	for _, test := range []struct {
		records []json.RawMessage
		blocks  int
	}{
		{recordsOf(3, 10, "a"), 1},
		{recordsOf(200, 10, "a"), 7},
		{recordsOf(60, 16<<10, "a"), 60}, // written before they are published
	} {
		staged := stage(t, s, "i", test.records)
		for range 2 {
			update(t, s, "i", func(tx *store.InteractionTxn) { tx.PublishRecordset(store.Recordset{Name: "rs"}, staged) })
		}
		if got := keysOf(t, s) - 2; got != test.blocks {
			t.Errorf("%d blocks are left of %d", got, test.blocks)
		}
	}
}

func testUnknownRecordset(t *testing.T, s *fixture) {
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.RemoveRecordset("rs")
		if _, err := tx.Recordset("rs"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("recordset: got %v, want ErrNotFound", err)
		}
		if _, err := tx.Record("rs", 1); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("record: got %v, want ErrNotFound", err)
		}
	})
	err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *store.InteractionTxn) error {
		tx.UpdateRecordset(store.Recordset{Name: "rs"})
		return nil
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("update: got %v, want ErrNotFound", err)
	}
}

// testRecords reads runs of records, each as often as it takes.
func testRecords(t *testing.T, s *fixture) {
	small, middle, large := recordsOf(70, 10, "a"), noisyRecords(100, 4<<10), recordsOf(5, 400<<10, "b")
	for name, records := range map[string][]json.RawMessage{"small": small, "middle": middle, "large": large} {
		staged := stage(t, s, "i", records)
		update(t, s, "i", func(tx *store.InteractionTxn) { tx.PublishRecordset(store.Recordset{Name: name}, staged) })
	}
	for _, test := range []struct {
		name        string
		from, limit int
		want        []json.RawMessage
	}{
		{"small", 1, 70, small},
		{"small", 1, 1000, small},
		{"small", 1, 16, small[:16]},
		{"small", 17, 17, small[16:33]},
		{"small", 70, 2, small[69:]},
		{"small", 71, 10, nil},
		{"small", 1, 0, nil},
		{"middle", 1, 100, middle},
		{"middle", 2, 50, middle[1:51]},
		{"middle", 3, 1, middle[2:3]},
		{"middle", 4, 2, middle[3:5]},
		{"middle", 100, 1, middle[99:]},
		{"large", 1, 5, large[:2]}, // some 1 MiB
		{"large", 2, 5, large[1:3]},
		{"large", 5, 5, large[4:]},
	} {
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			got, err := tx.Records(test.name, test.from, test.limit)
			if !slices.EqualFunc(test.want, got, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
				t.Errorf("%s, %d from %d: got %d records, want %d", test.name, test.limit, test.from, len(got), len(test.want))
			}
			return err
		})
	}
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.RemoveRecordset("small")
		if got, err := tx.Records("small", 1, 10); len(got) != 0 || err != nil {
			t.Errorf("of a removed recordset: %d records, %v", len(got), err)
		}
		if _, err := tx.Records("none", 1, 10); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("of no recordset: got %v, want ErrNotFound", err)
		}
		if _, err := tx.Records("large", 0, 10); err == nil {
			t.Error("there is a position 0")
		}
	})
}

// testRecordsetsModel runs random operations, several in a transaction, against a plain map.
func testRecordsetsModel(t *testing.T, s *fixture) {
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		id := fmt.Sprint("i", runs)
		model := make(map[string]modelRecordset)
		for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
			commit := rapid.IntRange(0, 3).Draw(rt, "commit") > 0
			var operations []func(*store.InteractionTxn, map[string]modelRecordset)
			for range rapid.IntRange(1, 3).Draw(rt, "operations") {
				operations = append(operations, drawOperation(rt, s, id))
			}
			var want, got map[string]modelRecordset
			refused := errors.New("refused")
			err := s.UpdateInteraction(t.Context(), tenant, id, func(tx *store.InteractionTxn) (err error) {
				want = maps.Clone(model)
				for _, operation := range operations {
					operation(tx, want)
				}
				if got, err = readRecordsets(tx); err == nil && !commit {
					err = refused
				}
				return err
			})
			if commit && err != nil || !commit && !errors.Is(err, refused) {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatalf("in the transaction (-want +got):\n%s", diff)
			}
			if commit {
				model = want
			}
			err = s.ViewInteraction(t.Context(), tenant, id, func(tx *store.InteractionTxn) (err error) {
				got, err = readRecordsets(tx)
				return err
			})
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(model, got); diff != "" {
				rt.Fatalf("afterwards (-want +got):\n%s", diff)
			}
		}
	})
}

type modelRecordset struct {
	Head    store.Recordset
	Records []string
}

func readRecordsets(tx *store.InteractionTxn) (map[string]modelRecordset, error) {
	all := make(map[string]modelRecordset)
	sets, err := tx.Recordsets()
	if err != nil {
		return nil, err
	}
	if !slices.IsSorted(tx.RecordsetNames()) || len(sets) != len(tx.RecordsetNames()) {
		return nil, fmt.Errorf("names are %q of %d", tx.RecordsetNames(), len(sets))
	}
	if err := checkCurrentRecords(tx, sets); err != nil {
		return nil, err
	}
	for _, rs := range sets {
		m := modelRecordset{Head: rs}
		// The ends tell: a transaction can read no more than some keys.
		for i := 1; i <= rs.Count; i += max(1, rs.Count-1) {
			record, err := tx.Record(rs.Name, i)
			if err != nil {
				return nil, err
			}
			m.Records = append(m.Records, string(record))
		}
		all[rs.Name] = m
	}
	return all, nil
}

// checkCurrentRecords compares what is listed of recordsets with the recordsets themselves.
func checkCurrentRecords(tx *store.InteractionTxn, sets []store.Recordset) error {
	sets = slices.DeleteFunc(slices.Clone(sets), func(rs store.Recordset) bool { return rs.Removed })
	n := 0
	err := tx.CurrentRecords(func(rs store.Recordset, current json.RawMessage) error {
		if n == len(sets) {
			return fmt.Errorf("recordset %q is listed and not there", rs.Name)
		}
		want := sets[n]
		n++
		var record json.RawMessage
		if want.Position > 0 && want.Position <= want.Count {
			var err error
			if record, err = tx.Record(want.Name, want.Position); err != nil {
				return err
			}
		}
		want.ColumnsSet = nil
		if diff := cmp.Diff(want, rs); diff != "" || !bytes.Equal(current, record) {
			return fmt.Errorf("listed with the record %s, want %s (-want +got):\n%s", current, record, diff)
		}
		return nil
	})
	if err == nil && n != len(sets) {
		err = fmt.Errorf("%d recordsets are listed, want %d", n, len(sets))
	}
	return err
}

func drawOperation(rt *rapid.T, s *fixture, id string) func(*store.InteractionTxn, map[string]modelRecordset) {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "name")
	n := rapid.SampledFrom([]int{0, 1, 2, 5, 60}).Draw(rt, "n")
	query := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "query")
	switch rapid.IntRange(0, 2).Draw(rt, "operation") {
	case 0:
		records := recordsOf(n, 1000, query) // of 60, some in each block
		staged, err := s.StageRecords(rt.Context(), tenant, id, records)
		if err != nil {
			rt.Fatal(err)
		}
		return func(tx *store.InteractionTxn, model map[string]modelRecordset) {
			rs := store.Recordset{Name: name, Query: query, Columns: []string{query}, ColumnsSet: []string{name}, Total: int64(n) * 10, Count: n, Position: min(n, 1)}
			tx.PublishRecordset(rs, staged)
			m := modelRecordset{Head: rs}
			for i := 0; i < n; i += max(1, n-1) {
				m.Records = append(m.Records, string(records[i]))
			}
			model[name] = m
		}
	case 1:
		return func(tx *store.InteractionTxn, model map[string]modelRecordset) {
			m, ok := model[name]
			if !ok {
				return
			}
			rs := m.Head
			rs.Position, rs.ColumnsSet = n, []string{query}
			m.Head = rs
			rs.Query, rs.Count = "not stored", 99
			tx.UpdateRecordset(rs)
			model[name] = m
		}
	default:
		return func(tx *store.InteractionTxn, model map[string]modelRecordset) {
			tx.RemoveRecordset(name)
			if m, ok := model[name]; ok {
				model[name] = modelRecordset{Head: store.Recordset{Name: name, ColumnsSet: m.Head.ColumnsSet, Removed: true}}
			}
		}
	}
}
