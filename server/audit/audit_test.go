package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
)

var (
	someone  = auth.Caller{Tenant: "acme", Name: "kim", Credential: "token"}
	someTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// memory is a Sink that fails when it is told to: before it has kept the lines, or after.
type memory struct {
	bytes.Buffer
	before, after error
	known         bool // it knows what it ends with
}

func (m *memory) Tail() ([]byte, error) {
	if m.known {
		return bytes.Clone(m.Bytes()), nil
	}
	return nil, nil
}

func (m *memory) Append(lines []byte) error {
	if m.before != nil {
		return m.before
	}
	m.Write(lines)
	return m.after
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func decode(t *testing.T, text string) (lines []map[string]any) {
	t.Helper()
	for text := range strings.Lines(text) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// A note is stored with its change or not at all, and is written once where writing has an answer, twice at most where the
// process ends before it had.
func TestNotesRideWithChanges(t *testing.T) {
	st, sink := openStore(t), new(memory)
	var log bytes.Buffer
	l := New(Config{Store: st, Sink: sink, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: time.Now})
	create := func(id string) error {
		_, err := st.CreateAccount(t.Context(), "acme", store.Account{ID: id, Name: id}, l.Note(someone, "account created", slog.String("account_id", id)), nil)
		return err
	}
	must(t, create("a"))
	if err := create("a"); !errors.Is(err, store.ErrAccountExists) {
		t.Errorf("created twice: %v", err)
	}
	must(t, l.Flush(t.Context()))
	must(t, l.Flush(t.Context()))
	lines := decode(t, sink.String())
	if len(lines) != 1 || lines[0]["event"] != "account created" || lines[0]["account_id"] != "a" || lines[0]["caller"] != "kim" || lines[0]["tenant"] != "acme" {
		t.Fatalf("lines are %v", lines)
	}

	must(t, create("b"))
	for range 2 { // it cannot be written at all; the log says so once
		sink.before = errors.New("no room")
		if err := l.Flush(t.Context()); err == nil {
			t.Error("nothing is wrong")
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("log:\n%s", &log)
	}
	sink.before, sink.after = nil, errors.New("not synced") // it may be there
	if err := l.Flush(t.Context()); err == nil {
		t.Error("nothing is wrong")
	}
	sink.after = nil
	// As after the end of the process.
	must(t, New(Config{Store: st, Sink: sink, Log: slog.New(slog.DiscardHandler), Now: time.Now}).Flush(t.Context()))
	lines = decode(t, sink.String())
	if len(lines) != 3 || lines[1]["id"] != lines[2]["id"] || lines[1]["id"] == lines[0]["id"] {
		t.Errorf("lines are %v", lines)
	}
	if waiting, _, err := st.OutboxBacklog(t.Context(), 10); waiting != 0 || err != nil {
		t.Errorf("%d lines are left, %v", waiting, err)
	}

	// A stream that knows its end has no line twice.
	sink.known, sink.after = true, errors.New("not synced")
	must(t, create("d"))
	if err := l.Flush(t.Context()); err == nil {
		t.Error("nothing is wrong")
	}
	sink.after = nil
	for range 2 {
		must(t, l.Flush(t.Context()))
		must(t, New(Config{Store: st, Sink: sink, Log: slog.New(slog.DiscardHandler), Now: time.Now}).Flush(t.Context()))
	}
	if lines = decode(t, sink.String()); len(lines) != 4 || lines[3]["account_id"] != "d" {
		t.Errorf("lines are %v", lines)
	}

	// A note that fails undoes the change.
	failed := errors.New("no note")
	_, err := st.CreateAccount(t.Context(), "acme", store.Account{ID: "c", Name: "c"}, func(string, time.Time) ([]byte, error) { return nil, failed })
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if _, err := st.Account(t.Context(), "acme", "c"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the change was made: %v", err)
	}
}

// All of many lines is written, in the order of the changes.
func TestManyNotes(t *testing.T) {
	st, sink := openStore(t), new(memory)
	l := New(Config{Store: st, Sink: sink, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	_, err := st.CreateAccount(t.Context(), "acme", store.Account{ID: "a", Name: "a"})
	must(t, err)
	const n = 30
	for i := range n { // some at once, to have many
		notes := make([]store.Note, 20)
		for j := range notes {
			notes[j] = l.Note(someone, fmt.Sprint(i))
		}
		_, err := st.UpdateAccount(t.Context(), "acme", "a", "", func(*store.Account) error { return nil }, notes...)
		must(t, err)
	}
	must(t, l.Flush(t.Context()))
	lines := decode(t, sink.String())
	if len(lines) != n*20 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines {
		if line["event"] != fmt.Sprint(i/20) {
			t.Fatalf("line %d is %v", i, line)
		}
	}
}

func TestBacklog(t *testing.T) {
	for _, test := range []struct {
		lines   int
		waits   time.Duration
		refused bool
	}{
		{0, 0, false}, {1, maxWaitingFor, false}, {1, maxWaitingFor + 1, true}, {maxWaiting, time.Second, false}, {maxWaiting + 1, time.Second, true},
	} {
		b := backlog{lines: test.lines, oldest: someTime.Add(-test.waits)}
		if test.lines == 0 {
			b.oldest = time.Time{}
		}
		if err := b.check(someTime); errors.Is(err, store.ErrNotNoted) != test.refused {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// What must not be refused is noted also when much waits, and everything else is refused with its change.
func TestRefusedWhileMuchWaits(t *testing.T) {
	st := openStore(t)
	now := time.Now()
	l := New(Config{Store: st, Sink: &memory{before: errors.New("no room")}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	create := func(id string, note store.Note) error {
		_, err := st.CreateAccount(t.Context(), "acme", store.Account{ID: id, Name: id}, note)
		return err
	}
	must(t, create("a", l.Note(someone, "created")))
	if err := l.Flush(t.Context()); err == nil {
		t.Error("nothing is wrong")
	}
	must(t, create("b", l.Note(someone, "created")))
	now = now.Add(maxWaitingFor + time.Minute)
	if err := create("c", l.Note(someone, "created")); !errors.Is(err, store.ErrNotNoted) {
		t.Errorf("got %v", err)
	}
	must(t, create("d", l.NoteAnyway(someone, "created")))
	if waiting, oldest, err := st.OutboxBacklog(t.Context(), 2); waiting < 2 || oldest.IsZero() || err != nil {
		t.Errorf("%d lines wait since %v, %v", waiting, oldest, err)
	}
}

// Nobody keeps the stream: nothing is noted, nothing waits.
func TestNoSink(t *testing.T) {
	st := openStore(t)
	l := New(Config{Store: st, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	_, err := st.CreateAccount(t.Context(), "acme", store.Account{ID: "a", Name: "a"}, l.Note(someone, "account created"))
	must(t, err)
	l.Denied(someone, "m")
	l.Stranger()
	must(t, errors.Join(l.Ready(), l.Flush(t.Context())))
	if lines, _, err := st.Outbox(t.Context(), 10); len(lines) != 0 || err != nil {
		t.Errorf("outbox: %v, %v", lines, err)
	}
	l.Run(context.Background()) // returns at once
}

// Refused calls take a bounded room, however many there are, and are not lost while nothing can be written.
func TestRefusedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r refused
		sink := new(memory)
		write := func(last bool) []string {
			sink.Reset()
			_ = r.write(time.Now(), last, sink)
			var got []string
			for _, line := range decode(t, sink.String()) {
				got = append(got, fmt.Sprint(line["event"], " ", line["caller"], " ", line["calls"]))
			}
			return got
		}
		check := func(what string, got []string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		call := func(caller string, n int) counts {
			return counts{calls: map[refusedCall]int{{"acme", caller, "token", "m"}: n}}
		}
		check("nothing", write(false))
		r.add(call("b", 2))
		r.add(call("a", 1))
		r.add(call("b", 1))
		r.add(counts{strangers: 3})
		sink.before = errors.New("no room")
		check("no room", write(false))
		sink.before = nil
		r.add(counts{strangers: 1})
		check("kept", write(false), "call denied a 1", "call denied b 3")
		check("strangers at the end", write(true), "calls without a valid credential <nil> 4")
		r.add(counts{strangers: 1})
		check("soon again", write(false))
		time.Sleep(strangersEvery) // of the test's own clock
		check("later", write(false), "calls without a valid credential <nil> 1")
		for i := range 2 * maxRefused {
			r.add(call(fmt.Sprint(i), 1))
		}
		if got := write(false); len(got) != maxRefused+1 || got[maxRefused] != "other calls denied <nil> 1000" {
			t.Errorf("%d lines, the last is %q", len(got), got[len(got)-1])
		}
	})
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	must(t, os.WriteFile(path, []byte("whole\ntor"), 0o600))
	f, err := OpenFile(FileConfig{Path: path})
	must(t, err)
	must(t, errors.Join(f.Append([]byte("a\nb\n")), f.Append([]byte("c\n"))))
	if tail, err := f.Tail(); err != nil || string(tail) != "whole\ntor\na\nb\nc\n" {
		t.Errorf("tail is %q, %v", tail, err)
	}
	must(t, os.Rename(path, path+".1"))
	must(t, f.Append([]byte("d\n"))) // still the old file
	must(t, f.Reopen())
	must(t, f.Append([]byte("e\n")))
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
	if err := f.Reopen(); err == nil {
		t.Error("a folder was opened")
	}
	must(t, f.Append([]byte("f\n"))) // the old one stays in use
	must(t, f.Close())
	old, err := os.ReadFile(path + ".1")
	must(t, err)
	if string(old) != "whole\ntor\na\nb\nc\nd\n" {
		t.Errorf("file is %q", old)
	}
	made := filepath.Join(t.TempDir(), "made")
	f, err = OpenFile(FileConfig{Path: made})
	must(t, err)
	must(t, f.Close())
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file is made with %v, %v", info.Mode(), err)
	}
}

// Of several processes one writes what was changed, whoever has changed it; each writes the calls that it has refused, and
// refuses changes when too much waits.
func TestTurn(t *testing.T) {
	st := openStore(t)
	now := time.Now()
	sink := new(memory)
	other := New(Config{Store: st, Sink: sink, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	turn, err := st.Claim(t.Context(), Turn)
	must(t, err)
	_, err = st.CreateAccount(t.Context(), "acme", store.Account{ID: "a", Name: "a"}, other.Note(someone, "account created"))
	must(t, err)
	other.Denied(someone, "m")
	must(t, other.Flush(t.Context()))
	if lines := decode(t, sink.String()); len(lines) != 1 || lines[0]["event"] != "call denied" {
		t.Errorf("lines are %v", lines)
	}
	if n := other.Pending(); n != 1 || other.Ready() != nil {
		t.Errorf("%d lines wait: %v", n, other.Ready())
	}
	now = now.Add(maxWaitingFor + time.Minute)
	must(t, other.write(t.Context(), false, false))
	if err := other.Ready(); !errors.Is(err, store.ErrNotNoted) {
		t.Errorf("got %v", err)
	}
	lines, _, err := st.Outbox(t.Context(), 10) // as whoever has the turn writes them
	must(t, errors.Join(err, st.ClearOutbox(t.Context(), lines)))
	must(t, other.write(t.Context(), false, false)) // it was looked a moment ago
	now = now.Add(followEvery)
	must(t, other.write(t.Context(), false, false))
	if n := other.Pending(); n != 0 || other.Ready() != nil {
		t.Errorf("%d lines wait: %v", n, other.Ready())
	}
	turn.GiveBack()
	_, err = st.CreateAccount(t.Context(), "acme", store.Account{ID: "b", Name: "b"}, other.Note(someone, "account created"))
	must(t, errors.Join(err, other.Flush(t.Context())))
	if lines := decode(t, sink.String()); len(lines) != 2 || lines[1]["event"] != "account created" {
		t.Errorf("lines are %v", lines)
	}
}
