package store

import (
	"context"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// Commit is what a durable commit of the data file was like.
type Commit = kv.Commit

// Observer is told what happens in a [Store]. Its functions are called where that happens, several at a time, and must be
// quick; nil ones are not called.
type Observer struct {
	Committed func(Commit) // a group of updates was committed, or had to run again
	Damaged   func()       // a scrub has found damage, once for each finding
	// Heard tells how long after a commit of another replica, by the database's clock, this one has heard of it.
	Heard func(delay time.Duration)
	// Became tells that an activity has come to a state, or was made in it; the reason is that of its last failure, if it has one.
	Became func(ActivityState, FailureReason)
}

// stateChange is an activity that has come to a state.
type stateChange struct {
	state  ActivityState
	reason FailureReason
}

// became notes that an activity comes to a state, if the transaction is committed.
func (m *meter) became(a *Activity) {
	change := stateChange{state: a.State}
	if a.Failure != nil {
		change.reason = a.Failure.Reason
	}
	m.states = append(m.states, change)
}

// tell tells of what a transaction has changed that was committed.
func (o *Observer) tell(m *meter) {
	if o.Became == nil {
		return
	}
	for _, change := range m.states {
		o.Became(change.state, change.reason)
	}
}

// FileStats are figures of the data file, and of the disk that it is on.
type FileStats struct {
	Bytes     int64
	FreeBytes int64 // of Bytes: pages that hold nothing
	DiskFree  int64
}

// FileStats returns the figures as of the last commit. ok is false where there is no data file.
func (s *Store) FileStats() (stats FileStats, ok bool, err error) {
	file, ok := s.engine.(interface{ Stats() (boltkv.Stats, error) })
	if !ok {
		return FileStats{}, false, nil
	}
	found, err := file.Stats()
	return FileStats{found.FileBytes, found.FreeBytes, found.DiskFree}, true, err
}

// ActivityTotals is what a tenant has of activities that are not written.
type ActivityTotals struct {
	Pending, Dead int
	OldestPending time.Time // CreateTime of the pending one that was created first, to the microsecond; zero: none is pending
}

// ActivityTotals counts a tenant's activities, by the index: it reads as many keys, some at a time.
func (s *Store) ActivityTotals(ctx context.Context, tenant string) (t ActivityTotals, err error) {
	pending := activityIndex(tenant, "", ActivityPending)
	if t.Pending, err = s.countAll(ctx, pending); err != nil {
		return ActivityTotals{}, err
	}
	if t.Dead, err = s.countAll(ctx, activityIndex(tenant, "", ActivityDead)); err != nil {
		return ActivityTotals{}, err
	}
	err = s.view(ctx, tenant, func(_ *reading, rows kv.Reader) (err error) {
		t.OldestPending, err = firstRowTime(rows, pending)
		return err
	})
	return t, err
}

// countAll counts the rows of an index.
func (s *Store) countAll(ctx context.Context, index []byte) (n int, err error) {
	rows := kv.Prefix(index)
	rows.KeysOnly = true
	err = s.each(ctx, rows, func(kv.Entry) error {
		n++
		return nil
	})
	return n, err
}
