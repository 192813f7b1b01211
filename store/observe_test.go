package store

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestObserver(t *testing.T) {
	var mu sync.Mutex
	var became []stateChange
	var commits, updates, damages int
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "data.db"), Observer: Observer{
		Committed: func(c Commit) {
			mu.Lock()
			defer mu.Unlock()
			if c.Updates > 0 && (c.Duration <= 0 || c.Bytes <= 0) {
				t.Errorf("commit is %+v", c)
			}
			commits, updates = commits+1, updates+c.Updates
		},
		Damaged: func() { damages++ },
		Became: func(state ActivityState, reason FailureReason) {
			became = append(became, stateChange{state, reason})
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var id string
	err = s.UpdateInteraction(t.Context(), "acme", "call", func(tx *InteractionTxn) error {
		a, err := tx.Complete(Activity{ID: NewActivityID(s.time()), TicketID: "1", State: ActivityPending})
		id = a.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	change := func(how func(*Activity) error) error {
		_, err := s.UpdateActivity(t.Context(), "acme", id, how)
		return err
	}
	if err := change(func(a *Activity) error { a.Attempts++; return nil }); err != nil {
		t.Fatal(err)
	}
	nothing := errors.New("nothing is to change")
	if err := change(func(a *Activity) error { a.State = ActivityWritten; return nothing }); !errors.Is(err, nothing) {
		t.Fatal(err)
	}
	failure := NewFailure(ReasonNotFound, "gone")
	if err := change(func(a *Activity) error { a.State, a.Failure = ActivityDead, &failure; return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]stateChange{{ActivityPending, ""}, {ActivityDead, ReasonNotFound}}, became, cmp.AllowUnexported(stateChange{})); diff != "" {
		t.Errorf("activities became (-want +got):\n%s", diff)
	}
	mu.Lock()
	if commits < 3 || updates < 3 {
		t.Errorf("%d commits of %d updates", commits, updates)
	}
	mu.Unlock()
	(&scrub{store: s, tell: func([]byte, error) {}}).found([]byte("key"), ErrDamaged)
	if damages != 1 {
		t.Errorf("%d damages", damages)
	}
	stats, ok, err := s.FileStats()
	if err != nil || !ok || stats.Bytes <= 0 || stats.DiskFree <= 0 {
		t.Errorf("file is %+v, %t, %v", stats, ok, err)
	}
}
