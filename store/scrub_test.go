package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// loud has the store's log kept.
func loud(s *Store) *bytes.Buffer {
	log := new(bytes.Buffer)
	s.log = slog.New(slog.NewTextHandler(log, nil))
	return log
}

// TestScrubOfWholeData finds nothing in data that are whole, however they came to be.
func TestScrubOfWholeData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, t.TempDir())
		if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
			t.Errorf("empty: %+v, %v", found, err)
		}
		populate(t, s)
		stage(t, s, "staged only", noisyRecords(60, blockBytes))
		staged := stage(t, s, "many", recordsOf(300*blockRecords, 1, "x"))
		update(t, s, "many", func(tx *InteractionTxn) {
			tx.PublishRecordset(Recordset{Name: "rs"}, staged)
			tx.PublishRecordset(Recordset{Name: "removed"}, new(StagedRecords))
			tx.RemoveRecordset("removed")
			for i := range 8 {
				tx.KeepReply("Search", fmt.Sprint(i), Reply{Body: []byte(strings.Repeat(longText[i:], 16)), ShowsData: true})
				tx.SetAttachedData(map[string]string{"a": fmt.Sprint(i)})
			}
		})
		log := loud(s)
		for _, state := range []ActivityState{0, ActivityDead, ActivityWritten} {
			if state != 0 {
				if _, err := s.UpdateActivity(t.Context(), tenant, "activity-1", func(a *Activity) error { a.State = state; return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 || found.Values < 300 {
				t.Errorf("%+v, %v\n%s", found, err, log)
			}
		}
		for range 3 { // tombstones, and nothing
			time.Sleep(40 * day)
			sweep(t, s, 100)
			if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
				t.Errorf("after the sweep: %+v, %v\n%s", found, err, log)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Scrub(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("no time left: %v", err)
		}
	})
}

// TestScrubOfMigratedData knows data of older formats, and finds no more damage in it than there was.
func TestScrubOfMigratedData(t *testing.T) {
	for _, from := range oldFormats {
		engine, c := openTestdata(t, from.name)
		s, err := New(t.Context(), engine, c)
		if err != nil {
			t.Fatal(err)
		}
		log := loud(s)
		if found, err := s.Scrub(t.Context()); err != nil || found.Damaged > from.damaged || found.Values < 100 {
			t.Errorf("%s: %+v, %v\n%s", from.name, found, err, log)
		}
	}
}

// TestScrubBesideChanges finds nothing while interactions change.
func TestScrubBesideChanges(t *testing.T) {
	s := openStore(t, t.TempDir())
	log := loud(s)
	change := func(i int) {
		id := fmt.Sprint("i", i%3)
		staged := stage(t, s, id, recordsOf(i%80, blockBytes, "x"))
		update(t, s, id, func(tx *InteractionTxn) {
			tx.PublishRecordset(Recordset{Name: "rs"}, staged)
			tx.SetAttachedData(map[string]string{fmt.Sprint(i % 5): fmt.Sprint(i)})
			tx.AddScreenPop(ScreenPop{ID: fmt.Sprint(i)})
			tx.KeepReply("Search", fmt.Sprint(i), Reply{Body: []byte(longText), ShowsData: true})
		})
	}
	change(0)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := range 60 {
			change(i)
		}
	}()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		default:
		}
		if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
			t.Fatalf("%+v, %v\n%s", found, err, log)
		}
	}
}

// TestEachEntryIsMissed removes, alters, and moves each entry of a store in turn: all of it is found, unless nothing is lost.
func TestEachEntryIsMissed(t *testing.T) {
	s := openStore(t, t.TempDir())
	populate(t, s)
	sweep(t, s, 1)
	entries, _, err := s.scan(t.Context(), kv.Range{})
	if err != nil {
		t.Fatal(err)
	}
	// What tells when to look at things loses nothing, and what is counted is counted again; the others are read when the
	// data are opened, and by the sweep.
	harmless := func(key []byte) bool {
		path, err := kv.Split(key)
		return err != nil || path[0] == "!" && path[1] != "pending" || path[1] == "d" || path[1] == "t" || path[1] == "u"
	}
	put := func(entries ...kv.Entry) {
		t.Helper()
		err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
			for _, entry := range entries {
				if entry.Value == nil {
					tx.Delete(entry.Key)
				} else {
					tx.Put(entry.Key, entry.Value)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tried := 0
	for _, entry := range entries {
		if bytes.Equal(entry.Key, formatKey) || bytes.Equal(entry.Key, keysKey) {
			continue
		}
		flipped := bytes.Clone(entry.Key)
		flipped[len(flipped)-2] ^= 2
		altered := kv.Entry{Key: entry.Key, Value: append(bytes.Clone(entry.Value), 'x')}
		for what, damage := range map[string][]kv.Entry{
			"removed": {{Key: entry.Key}},
			"altered": {altered},
			"moved":   {{Key: entry.Key}, {Key: flipped, Value: entry.Value}},
		} {
			if what == "removed" && harmless(entry.Key) || what == "altered" && len(entry.Value) == 0 && bytes.HasPrefix(entry.Key, duesKey) {
				continue
			}
			tried++
			put(damage...)
			log := loud(s)
			found, err := s.Scrub(t.Context())
			if err != nil || found.Damaged == 0 || !strings.Contains(log.String(), "restore a backup") {
				t.Errorf("%s: %q: %+v, %v", what, entry.Key, found, err)
			}
			if lines := strings.Count(log.String(), "\n"); lines != found.Damaged+1 {
				t.Errorf("%s: %q: %d findings, %d lines", what, entry.Key, found.Damaged, lines)
			}
			put(kv.Entry{Key: flipped}, entry)
		}
	}
	if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 || tried < 60 {
		t.Errorf("restored: %+v, %v, after %d kinds of damage", found, err, tried)
	}
}

// TestMissingPartsAreNoAbsence removes the parts of an interaction: who reads one is told, whichever it is.
func TestMissingPartsAreNoAbsence(t *testing.T) {
	s := openStore(t, t.TempDir())
	account := populate(t, s)
	hashed := s.vault.hashInteraction(tenant, "call-1")
	set, err := s.vault.open(s.vault.recordsetKey(tenant, "call-1", canary), valueOf(t, s, s.vault.recordsetKey(tenant, "call-1", canary)))
	if err != nil {
		t.Fatal(err)
	}
	var stored storedRecordset
	if err := decode(set, &stored); err != nil {
		t.Fatal(err)
	}
	tx := func(read func(*InteractionTxn) error) func() error {
		return func() error { return s.ViewInteraction(t.Context(), tenant, "call-1", read) }
	}
	pops := tx(func(tx *InteractionTxn) error { _, err := tx.ScreenPops(); return err })
	reply := tx(func(tx *InteractionTxn) error { _, _, err := tx.Reply("Search", "request-1"); return err })
	for name, test := range map[string]struct {
		key  []byte
		read func() error
	}{
		"data":       {dataKey(tenant, hashed), tx(func(tx *InteractionTxn) error { _, err := tx.AttachedData(); return err })},
		"past":       {pastKey(tenant, hashed), reply},
		"pops":       {popsKey(tenant, hashed), pops},
		"head":       {headKey(tenant, hashed), pops},
		"deliveries": {deliveriesKey(tenant, hashed), tx(func(tx *InteractionTxn) error { _, err := tx.Deliveries(); return err })},
		"answer":     {answerKey(tenant, hashed, 1), reply},
		"recordset":  {s.vault.recordsetKey(tenant, "call-1", canary), tx(func(tx *InteractionTxn) error { _, err := tx.Recordset(canary); return err })},
		"record":     {recordKey(tenant, hashed, stored.Generation, 1), tx(func(tx *InteractionTxn) error { _, err := tx.Records(canary, 1, 9); return err })},
		"activity": {activityKey(tenant, "activity-1"), func() error {
			return s.ViewInteraction(t.Context(), tenant, "call-2", func(tx *InteractionTxn) error { _, err := tx.Activity(); return err })
		}},
		"activity in a list": {activityKey(tenant, "activity-1"), func() error {
			_, _, err := s.ListActivities(t.Context(), tenant, ActivityFilter{}, "", 9)
			return err
		}},
		"account by name": {accountKey(tenant, "acme-eu"), func() error { _, err := s.FindAccount(t.Context(), tenant, account.Name); return err }},
		"default account": {accountKey(tenant, "acme-eu"), func() error { _, err := s.DefaultAccount(t.Context(), tenant); return err }},
		"mark":            {defaultKey(tenant), func() error { _, err := s.DefaultAccount(t.Context(), tenant); return err }},
	} {
		value := valueOf(t, s, test.key)
		if value == nil {
			t.Fatalf("%s: there is none", name)
		}
		set := func(put bool) {
			err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
				if put {
					tx.Put(test.key, value)
				} else {
					tx.Delete(test.key)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := test.read(); err != nil {
			t.Errorf("%s: whole: %v", name, err)
		}
		set(false)
		if err := test.read(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: missing: got %v, want ErrDamaged", name, err)
		}
		set(true)
	}
}

func valueOf(t testing.TB, s *Store, key []byte) (value []byte) {
	t.Helper()
	err := s.engine.View(t.Context(), func(r kv.Reader) error {
		values, err := r.Get(key)
		if err == nil {
			value = values[0]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestDamagedFiles opens damaged copies of a data file, reads and scrubs them. None brings the process down; and what is
// read is what was written, or the damage is told.
func TestDamagedFiles(t *testing.T) {
	const variants = 196
	folder := t.TempDir()
	path := filepath.Join(folder, "data.db")
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	populate(t, s)
	want := dump(t, s)
	for _, change := range []func(kv.Txn){ // bbolt may go back to the state before the last, which is then the same
		func(tx kv.Txn) { tx.Put(probeKey, nil) }, func(tx kv.Txn) { tx.Delete(probeKey) }, func(tx kv.Txn) { tx.Delete(probeKey) },
	} {
		if err := s.engine.Update(t.Context(), func(tx kv.Txn) error { change(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var whole []byte
	if _, _, err := Compact(path); err != nil { // else most of it is free
		t.Fatal(err)
	}
	if whole, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	var used []int // where there is anything
	for at, b := range whole {
		if b != 0 {
			used = append(used, at)
		}
	}
	random := mathrand.New(mathrand.NewPCG(8, 8))
	outcomes := make(map[string]int)
	for variant := range variants {
		damaged := bytes.Clone(whole)
		at := used[random.IntN(len(used))]
		switch variant % 4 {
		case 0:
			damaged[at] ^= 1 << random.IntN(8)
		case 1:
			damaged[at] = byte(random.Uint32())
		case 2:
			clear(damaged[at:min(len(damaged), at+1+random.IntN(64))])
		case 3:
			page := os.Getpagesize()
			clear(damaged[at/page*page : min(len(damaged), at/page*page+page)])
		}
		copied := filepath.Join(folder, fmt.Sprint("copy-", variant, ".db"))
		if err := errors.Join(os.WriteFile(copied, damaged, 0o600), os.Link(path+".key", copied+".key")); err != nil {
			t.Fatal(err)
		}
		outcome, log := readDamaged(t, copied, want)
		outcomes[outcome]++
		if strings.Contains(log, "goroutine ") || strings.Contains(log, ".go:") {
			t.Errorf("variant %d, byte %d: the log has a stack trace:\n%s", variant, at, log)
		}
		if outcome == "silent" {
			t.Errorf("variant %d, byte %d: what is read is not what was written, and nobody says so", variant, at)
		}
		if err := os.Remove(copied); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("outcomes: %v", outcomes)
	if outcomes["whole"] == variants || outcomes["silent"] > 0 {
		t.Errorf("outcomes: %v", outcomes)
	}
}

// readDamaged reads all that is in a file, and says what became of that.
func readDamaged(t *testing.T, path string, want map[string]any) (outcome, log string) {
	t.Helper()
	var text bytes.Buffer
	s, err := Open(t.Context(), Config{Path: path, Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		if strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("more than one line: %v", err)
		}
		return "refused", text.String()
	}
	defer func() { _ = s.Close() }()
	got, readErr := tryDump(t, s)
	found, scrubErr := s.Scrub(t.Context())
	switch {
	case readErr != nil:
		return "told when it was read", text.String()
	case found.Damaged > 0 || scrubErr != nil:
		return "found by the scrub", text.String()
	case cmp.Equal(want, got, compareSecrets):
		return "whole", text.String()
	}
	return "silent", text.String()
}
