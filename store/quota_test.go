package store

import (
	"math"
	"testing"
	"time"
)

func TestAdmit(t *testing.T) {
	quota := Usage{Accounts: 10, LiveInteractions: 100, PendingActivities: 1000, StoredBytes: 1 << 20}
	full := Usage{Accounts: 10, LiveInteractions: 100, PendingActivities: 1000, DeadActivities: 1 << 40, StoredBytes: 1 << 20}
	for name, test := range map[string]struct {
		used, quota Usage
		demand      demand
		want        string // the quota that refuses it; empty: it is let in
	}{
		"nothing wanted":          {full, quota, demand{}, ""},
		"no quotas":               {full, Usage{}, demand{more: Usage{1, 1, 1, 1, 1 << 30}}, ""},
		"room":                    {Usage{}, quota, demand{more: Usage{1, 1, 1, 1, 1 << 10}}, ""},
		"the last one":            {Usage{LiveInteractions: 99}, quota, demand{more: Usage{LiveInteractions: 1}}, ""},
		"one too many":            {Usage{LiveInteractions: 100}, quota, demand{more: Usage{LiveInteractions: 1}}, "live_interactions"},
		"more than all":           {Usage{}, quota, demand{more: Usage{Accounts: 11}}, "accounts"},
		"exactly all":             {Usage{}, quota, demand{more: Usage{Accounts: 10}}, ""},
		"less":                    {full, quota, demand{more: Usage{-1, -1, -1, -1, -1}}, ""},
		"less of one":             {full, quota, demand{more: Usage{LiveInteractions: -1, PendingActivities: 1}, last: true}, ""},
		"less does not pay":       {full, quota, demand{more: Usage{LiveInteractions: -1, PendingActivities: 1}}, "pending_activities"},
		"the dead have no quota":  {full, quota, demand{more: Usage{DeadActivities: 1}}, ""},
		"another's quota":         {Usage{Accounts: 10}, quota, demand{more: Usage{LiveInteractions: 1}}, ""},
		"little":                  {full, quota, demand{more: Usage{StoredBytes: littleBytes}}, ""},
		"not so little":           {full, quota, demand{more: Usage{StoredBytes: littleBytes + 1}}, "stored_bytes"},
		"little, for too long":    {Usage{StoredBytes: 1<<20 + 1<<20/20}, quota, demand{more: Usage{StoredBytes: 1}}, "stored_bytes"},
		"little, and another one": {full, quota, demand{more: Usage{LiveInteractions: 1, StoredBytes: 1}}, "live_interactions"},
		"last":                    {full, quota, demand{more: Usage{PendingActivities: 1, StoredBytes: 100 << 10}, last: true}, ""},
		"last, after the others":  {Usage{PendingActivities: 1100}, quota, demand{more: Usage{PendingActivities: 1}, last: true}, "pending_activities"},
		"last, and large":         {full, quota, demand{more: Usage{StoredBytes: 1<<20/10 + 1}, last: true}, "stored_bytes"},
		"below nothing":           {Usage{LiveInteractions: -5}, quota, demand{more: Usage{LiveInteractions: 100}}, ""},
		"as much as there is":     {full, Usage{StoredBytes: math.MaxInt64}, demand{more: Usage{StoredBytes: 1 << 40}, last: true}, ""},
		"far beyond":              {Usage{StoredBytes: math.MaxInt64}, quota, demand{more: Usage{StoredBytes: 1}, last: true}, "stored_bytes"},
	} {
		got := admit(test.used, test.quota, test.demand)
		switch {
		case got == nil && test.want != "", got != nil && got.Quota != test.want:
			t.Errorf("%s: got %+v, want %q", name, got, test.want)
		case got != nil && got.Limit == 0:
			t.Errorf("%s: got %+v, without a limit", name, got)
		}
	}
}

func TestFullest(t *testing.T) {
	quota := Usage{Accounts: 10, LiveInteractions: 100, StoredBytes: 1 << 50}
	for name, test := range map[string]struct {
		used    Usage
		want    string
		percent int64
	}{
		"nothing":      {Usage{}, "", 0},
		"below":        {Usage{LiveInteractions: 89}, "", 0},
		"at":           {Usage{LiveInteractions: 90}, "live_interactions", 90},
		"full":         {Usage{LiveInteractions: 100, Accounts: 9}, "live_interactions", 100},
		"other":        {Usage{LiveInteractions: 95, Accounts: 10}, "accounts", 100},
		"over":         {Usage{StoredBytes: 1<<50 + 1<<49}, "stored_bytes", 150},
		"has no quota": {Usage{PendingActivities: 1 << 40}, "", 0},
	} {
		if got, percent := fullest(test.used, quota, 90); got != test.want || percent != test.percent {
			t.Errorf("%s: got %q at %d %%, want %q at %d %%", name, got, percent, test.want, test.percent)
		}
	}
}

func TestFateOf(t *testing.T) {
	l := lives{idle: 7 * day, tombstone: 30 * day, activity: 90 * day}
	at := func(days int) time.Time { return someTime.Add(time.Duration(days) * day) }
	touched := func(days int) *interactionHead { return &interactionHead{UpdateTime: at(days)} }
	tombstone := func(days int) *interactionHead {
		return &interactionHead{UpdateTime: at(days - 7), Stripped: true, StripTime: at(days)}
	}
	in := func(state ActivityState, end int) *storedActivity {
		return &storedActivity{Activity: Activity{State: state, CreateTime: at(0)}, EndTime: at(end)}
	}
	older := func(state ActivityState, end int) *storedActivity { // as it was stored before the end was
		a := &storedActivity{Activity: Activity{State: state, CreateTime: at(end)}}
		if state == ActivityWritten {
			a.CreateTime, a.WriteTime = at(0), at(end)
		}
		return a
	}
	for name, test := range map[string]struct {
		lives    *lives
		head     *interactionHead
		activity *storedActivity
		now      int
		want     fate
	}{
		"touched":                       {nil, touched(3), nil, 9, fate{next: at(10)}},
		"left alone":                    {nil, touched(3), nil, 10, fate{strip: true, next: at(40)}},
		"a tombstone":                   {nil, tombstone(10), nil, 39, fate{next: at(40)}},
		"an old tombstone":              {nil, tombstone(10), nil, 40, fate{forget: true}},
		"one of an older version":       {nil, &interactionHead{UpdateTime: at(0), Stripped: true}, nil, 37, fate{forget: true}},
		"touched, with an old activity": {nil, touched(199), in(ActivityWritten, 0), 200, fate{next: at(206)}},
		"pending":                       {nil, touched(0), in(ActivityPending, 0), 1000, fate{next: at(1007)}},
		"dead":                          {nil, touched(0), in(ActivityDead, 0), 1000, fate{next: at(1007)}},
		"pending, of a tombstone":       {nil, tombstone(10), in(ActivityPending, 0), 1000, fate{next: at(1007)}},
		"written":                       {nil, touched(0), in(ActivityWritten, 0), 7, fate{strip: true, next: at(37)}},
		"skipped":                       {nil, tombstone(7), in(ActivitySkipped, 0), 37, fate{next: at(67)}},
		"discarded":                     {nil, tombstone(7), in(ActivityDiscarded, 0), 67, fate{next: at(90)}},
		"aged":                          {nil, tombstone(7), in(ActivityDiscarded, 0), 90, fate{age: true, forget: true}},
		"written late":                  {nil, tombstone(7), in(ActivityWritten, 80), 90, fate{next: at(120)}},
		"left alone and aged":           {nil, touched(83), in(ActivityWritten, 0), 90, fate{strip: true, age: true, next: at(120)}},
		"gone before":                   {nil, tombstone(90), nil, 120, fate{forget: true}},
		"written, older":                {nil, tombstone(7), older(ActivityWritten, 2), 92, fate{age: true, forget: true}},
		"skipped, older":                {nil, tombstone(7), older(ActivitySkipped, 2), 91, fate{next: at(92)}},
		"discarded, older":              {nil, touched(0), older(ActivityDiscarded, 2), 200, fate{strip: true, next: at(230)}},
		"a short life":                  {&lives{7 * day, 30 * day, 7 * day}, touched(0), in(ActivityWritten, 0), 7, fate{strip: true, age: true, next: at(37)}},
		"a short life, later":           {&lives{7 * day, 30 * day, 10 * day}, touched(0), in(ActivityWritten, 0), 7, fate{strip: true, next: at(10)}},
		"a short life, over":            {&lives{7 * day, 30 * day, 10 * day}, tombstone(7), in(ActivityWritten, 0), 10, fate{age: true, next: at(37)}},
	} {
		with := l
		if test.lives != nil {
			with = *test.lives
		}
		if got := with.fateOf(test.head, test.activity, at(test.now)); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}
