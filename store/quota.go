package store

import (
	"fmt"
	"math"
)

// Usage is what a tenant has, or may have.
type Usage struct {
	Accounts          int64 `json:"-"` // counted exactly, in a key of its own
	LiveInteractions  int64 `json:"live_interactions,omitempty"`
	PendingActivities int64 `json:"pending_activities,omitempty"`
	DeadActivities    int64 `json:"dead_activities,omitempty"`
	StoredBytes       int64 `json:"stored_bytes,omitempty"` // of keys and sealed values
}

func (u Usage) plus(o Usage) Usage {
	return Usage{
		Accounts: u.Accounts + o.Accounts, LiveInteractions: u.LiveInteractions + o.LiveInteractions,
		PendingActivities: u.PendingActivities + o.PendingActivities, DeadActivities: u.DeadActivities + o.DeadActivities,
		StoredBytes: u.StoredBytes + o.StoredBytes,
	}
}

func (u Usage) minus(o Usage) Usage {
	return u.plus(Usage{-o.Accounts, -o.LiveInteractions, -o.PendingActivities, -o.DeadActivities, -o.StoredBytes})
}

// atLeastNone is what is told of a count that was lost in part: nothing is had less than not at all.
func (u Usage) atLeastNone() Usage {
	return Usage{max(u.Accounts, 0), max(u.LiveInteractions, 0), max(u.PendingActivities, 0), max(u.DeadActivities, 0), max(u.StoredBytes, 0)}
}

// measures are what there may be a quota of, by the names that they have outside.
var measures = []struct {
	name string
	of   func(Usage) int64
}{
	{"accounts", func(u Usage) int64 { return u.Accounts }},
	{"live_interactions", func(u Usage) int64 { return u.LiveInteractions }},
	{"pending_activities", func(u Usage) int64 { return u.PendingActivities }},
	{"dead_activities", func(u Usage) int64 { return u.DeadActivities }},
	{storedBytes, func(u Usage) int64 { return u.StoredBytes }},
}

const storedBytes = "stored_bytes"

// QuotaError says that a tenant has as much as it may. The change was not made.
type QuotaError struct {
	Quota string // accounts, live_interactions, pending_activities, dead_activities or stored_bytes
	Limit int64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("the tenant is at its quota of %d %s", e.Limit, e.Quota)
}

// demand is what a change would add to what a tenant has.
type demand struct {
	more Usage
	last bool // it is refused last: it ends or delivers an interaction, and somebody has waited for it
}

// littleBytes is what changes may store that go on when a tenant is at its quota of bytes, such as a cursor that moves.
const littleBytes = 4 << 10

// admit decides whether a change may go in: nil, or which quota is in its way. What adds nothing of a kind is not held up by
// it. Over the quota, changes that store little have another twentieth of the bytes, and those that are refused last a tenth
// of everything.
func admit(used, quota Usage, d demand) *QuotaError {
	for _, measure := range measures {
		limit, more := measure.of(quota), measure.of(d.more)
		if limit == 0 || more <= 0 {
			continue
		}
		extra := int64(0)
		switch {
		case d.last:
			extra = limit / 10
		case measure.name == storedBytes && more <= littleBytes:
			extra = limit / 20
		}
		if left := addUpTo(limit, extra) - measure.of(used); more > left {
			return &QuotaError{measure.name, limit}
		}
	}
	return nil
}

// addUpTo adds what is not negative, as far as there are numbers.
func addUpTo(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// fullest is the quota that a tenant is nearest to, and how near, in per cent; empty when it is below most.
func fullest(used, quota Usage, most int64) (name string, percent int64) {
	for _, measure := range measures {
		limit, n := measure.of(quota), measure.of(used)
		if limit <= 0 {
			continue
		}
		if p := int64(float64(n) / float64(limit) * 100); p >= most && p > percent {
			name, percent = measure.name, p
		}
	}
	return name, percent
}
