package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClockWatch looks at clocks that go, and that jump.
func TestClockWatch(t *testing.T) {
	type look struct {
		wall, passed time.Duration // since the start
		jump         time.Duration
		even         bool
	}
	const week = 7 * day
	for name, test := range map[string]struct {
		away  time.Duration // before the start, since the last sweep; 0: never swept
		looks []look
	}{
		"going":          {0, []look{{0, 0, 0, true}, {time.Minute, time.Minute, 0, true}, {week, week, 0, true}}},
		"adjusted":       {0, []look{{0, 0, 0, true}, {61 * time.Second, time.Minute, 0, true}, {119 * time.Second, 2 * time.Minute, 0, true}}},
		"ahead for good": {0, []look{{0, 0, 0, true}, {8 * day, 0, 8 * day, false}, {8*day + 30*time.Minute, 30 * time.Minute, 0, false}, {8*day + time.Hour, time.Hour, 0, true}}},
		"ahead for a minute": {0, []look{
			{0, 0, 0, true}, {8 * day, 0, 8 * day, false}, {time.Minute, time.Minute, -8 * day, false},
			{time.Hour, time.Hour, 0, false}, {time.Hour + time.Minute, time.Hour + time.Minute, 0, true},
		}},
		"back":            {0, []look{{0, 0, 0, true}, {-week, 0, -week, false}, {-week + time.Hour, time.Hour, 0, true}}},
		"slept":           {0, []look{{0, 0, 0, true}, {day, time.Second, day - time.Second, false}}},
		"restarted":       {time.Minute, []look{{0, 0, 0, true}}},
		"away":            {clockTrust + 1, []look{{0, 0, clockTrust + 1, false}, {time.Hour, time.Hour, 0, true}}},
		"came before":     {-2 * time.Minute, []look{{0, 0, -2 * time.Minute, false}, {time.Hour, time.Hour, 0, true}}},
		"a little before": {-time.Second, []look{{0, 0, 0, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			var swept time.Time
			if test.away != 0 {
				swept = someTime.Add(-test.away)
			}
			var w clockWatch
			for i, look := range test.looks {
				var jump time.Duration
				w, jump = w.look(someTime.Add(look.wall), look.passed, swept)
				if jump != look.jump || w.even() != look.even {
					t.Errorf("look %d: jump %v, even %v, want %v, %v", i, jump, w.even(), look.jump, look.even)
				}
			}
		})
	}
}

// TestJumpDestroysNothing has the clock days ahead for a minute, in a process and across restarts.
func TestJumpDestroysNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	wall := time.Now() // its reading of the time that passes is changed with it, unless it is taken off
	var log bytes.Buffer
	open := func() *Store {
		s, err := Open(t.Context(), Config{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		s.now = func() time.Time { return wall }
		s.started = wall
		return s
	}
	s := open()
	for i := range 10 {
		update(t, s, fmt.Sprint(i), func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "1"}) })
	}
	nothing := func(what string) {
		t.Helper()
		if swept, err := s.Sweep(t.Context(), 100); err != nil || swept != (Swept{}) {
			t.Errorf("%s: swept %+v, %v", what, swept, err)
		}
	}
	jump := func(d time.Duration) { // as if the clock had been set
		s.started = s.started.Add(d)
		wall = wall.Add(d)
	}
	nothing("at first")
	jump(8 * day)
	nothing("eight days ahead")
	wall = wall.Add(time.Minute)
	nothing("a minute later")
	restart := func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
	}
	restart()
	nothing("started anew, ahead")
	wall = wall.Add(clockTrust - time.Second)
	nothing("started anew, ahead for less than an hour")
	wall = wall.Add(-8*day - clockTrust)
	restart()
	nothing("started anew, in time")
	if n := strings.Count(log.String(), "the clock has jumped"); n < 2 {
		t.Errorf("the log tells of %d jumps:\n%s", n, &log)
	}
	for id := range 10 {
		view(t, s, fmt.Sprint(id), func(tx *InteractionTxn) error {
			if data, err := tx.AttachedData(); err != nil || len(data) != 1 || tx.State() != InteractionActive {
				t.Errorf("interaction %d: %v, state %v, %v", id, data, tx.State(), err)
			}
			return nil
		})
	}
	wall = wall.Add(8 * day) // that pass
	if swept, err := s.Sweep(t.Context(), 100); err != nil || swept.Expired != 10 {
		t.Errorf("in the end: swept %+v, %v", swept, err)
	}
	if err := s.Close(); err != nil && !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
