package store

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// scanned is a snapshot of rows that notes which indexes are scanned.
type scanned struct {
	rows    []kv.Entry
	indexes map[string]bool
}

// Get implements kv.Reader.
func (s *scanned) Get(...[]byte) ([][]byte, error) {
	return nil, errors.New("nothing but rows is read")
}

// Scan implements kv.Reader, oldest first.
func (s *scanned) Scan(r kv.Range) (found []kv.Entry, more bool, err error) {
	segments, err := kv.Split(r.Start[:bytes.LastIndexByte(r.Start, 0)+1])
	if err != nil {
		return nil, false, err
	}
	s.indexes[strings.Join(segments[:4], " ")] = true
	for _, row := range s.rows {
		if bytes.Compare(row.Key, r.Start) < 0 || bytes.Compare(row.Key, r.End) >= 0 {
			continue
		}
		if len(found) == r.Limit {
			return found, true, nil
		}
		found = append(found, row)
	}
	return found, false, nil
}

// Most activities are written, and have no failure: a list by its reason does not look at them. It finds no reason that only ends as
// the one that is asked for.
func TestListByReasonLooksWhereFailuresAre(t *testing.T) {
	s := &scanned{indexes: make(map[string]bool)}
	for id, row := range map[string]struct {
		state  ActivityState
		reason FailureReason
	}{
		"a1": {ActivityDead, ReasonNotFound}, "a2": {ActivityDead, ReasonRecordsetNotFound}, "a3": {ActivityPending, ReasonNotFound},
		"a4": {ActivityWritten, ""}, "a5": {ActivityDiscarded, ReasonNotFound}, "a6": {ActivityDead, ReasonTimeout}, "a7": {ActivitySkipped, ""},
	} {
		s.rows = append(s.rows, kv.Entry{Key: activityRow(activityIndex(tenant, "", row.state), id, row.reason)})
	}
	slices.SortFunc(s.rows, func(a, b kv.Entry) int { return bytes.Compare(a.Key, b.Key) })
	f := ActivityFilter{Reason: ReasonNotFound}
	ids, end, err := f.ids(s, tenant, "", 10)
	if diff := cmp.Diff([]string{"a1", "a3", "a5"}, ids); diff != "" || end != "" || err != nil {
		t.Errorf("end %q, %v (-want +got):\n%s", end, err, diff)
	}
	want := map[string]bool{}
	for _, state := range []ActivityState{ActivityPending, ActivityDead, ActivityDiscarded} {
		segments, err := kv.Split(activityIndex(tenant, "", state))
		if err != nil {
			t.Fatal(err)
		}
		want[strings.Join(segments, " ")] = true
	}
	if diff := cmp.Diff(want, s.indexes); diff != "" {
		t.Errorf("indexes (-want +got):\n%s", diff)
	}
}
