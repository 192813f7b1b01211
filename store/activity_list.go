package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// ActivityFilter says which activities a list has, and in which order. Zero fields match all.
type ActivityFilter struct {
	State         ActivityState
	AccountID     string
	Reason        FailureReason // of the last try's failure
	InteractionID string
	Since, Until  time.Time // of CreateTime: from Since up to, and without, Until
	NewestFirst   bool      // else oldest first
}

func (f *ActivityFilter) matches(a *Activity) bool {
	return (f.State == 0 || a.State == f.State) &&
		(f.AccountID == "" || a.Account.AccountID == f.AccountID) &&
		(f.Reason == "" || a.Failure != nil && a.Failure.Reason == f.Reason) &&
		(f.InteractionID == "" || a.InteractionID == f.InteractionID) &&
		(f.Since.IsZero() || !a.CreateTime.Before(f.Since)) &&
		(f.Until.IsZero() || a.CreateTime.Before(f.Until))
}

// behind reports whether an id comes later in the list than another one.
func (f *ActivityFilter) behind(id, other string) bool {
	if f.NewestFirst {
		return id < other
	}
	return id > other
}

// positionPattern is what ids of activities are like.
var positionPattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// ListActivities returns the activities that match, in the order of their ids, from the one behind the position after
// (empty: from the start): limit of them, at least 1, or fewer at the end. next is the position to go on after; empty at
// the end. It reads index rows, and only activities that match. One that changes its state between two pages keeps its
// place in the list. Errors: [ErrPagePosition].
func (s *Store) ListActivities(ctx context.Context, tenant string, f ActivityFilter, after string, limit int) (page []Activity, next string, err error) {
	if after != "" && !positionPattern.MatchString(after) {
		return nil, "", fmt.Errorf("position %.70q: %w", after, ErrPagePosition)
	}
	limit = max(limit, 1)
	for at, more := after, true; more && len(page) <= limit; more = at != "" {
		var found []Activity
		var end string
		err := s.view(ctx, tenant, func(r *reading, rows kv.Reader) (err error) {
			if f.InteractionID != "" {
				found, err = r.activityOf(&f, at)
			} else {
				found, end, err = r.listOn(rows, &f, at, limit+1-len(page))
			}
			return err
		})
		if err != nil {
			return nil, "", err
		}
		page, at = append(page, found...), end
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	return page, next, nil
}

// activityOf returns the activity of the filter's interaction, if it matches and is behind a position.
func (r *reading) activityOf(f *ActivityFilter, at string) ([]Activity, error) {
	t := InteractionTxn{reading: *r, id: f.InteractionID, hashed: r.vault.hashInteraction(r.tenant, f.InteractionID)}
	if err := t.loadHead(); err != nil || t.ActivityID() == "" {
		return nil, err
	}
	a, err := t.Activity()
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil || at != "" && !f.behind(a.ID, at) || !f.matches(&a) {
		return nil, err
	}
	return []Activity{a}, nil
}

// activitiesAtOnce is how many activities are read at a time: each may be large.
const activitiesAtOnce = 16

// listOn returns matching activities behind a position, limit of them at most, and the position to go on after, which is
// empty at the end.
func (r *reading) listOn(rows kv.Reader, f *ActivityFilter, at string, limit int) (found []Activity, next string, err error) {
	ids, next, err := f.ids(rows, r.tenant, at, limit)
	if err != nil {
		return nil, "", err
	}
	for len(ids) > 0 && len(found) < limit {
		n := min(len(ids), activitiesAtOnce, limit-len(found))
		keys := make([][]byte, n)
		for i, id := range ids[:n] {
			keys[i] = activityKey(r.tenant, id)
		}
		values, err := r.kv.Get(keys...)
		if err != nil {
			return nil, "", err
		}
		for i, value := range values {
			if value == nil {
				return nil, "", fmt.Errorf("activity %q is indexed and missing: %w", ids[i], ErrDamaged)
			}
			stored, err := r.vault.openActivity(keys[i], value)
			if err != nil {
				return nil, "", err
			}
			if f.matches(&stored.Activity) { // ids tell the time to the microsecond only
				found = append(found, stored.Activity)
			}
		}
		ids = ids[n:]
	}
	return found, next, nil
}

// ids returns the ids of matching activities behind a position, in order, as far as one look at the indexes of all states
// reaches, and where that ends: empty when nothing follows. It looks at no more than it takes for some of them.
func (f *ActivityFilter) ids(rows kv.Reader, tenant, at string, some int) (ids []string, end string, err error) {
	if len(f.AccountID) > maxAccountIDBytes {
		return nil, "", nil
	}
	limit, reason := min(some, kv.MaxScanLimit), kv.Key(string(f.Reason))
	if f.Reason != "" {
		limit = kv.MaxScanLimit // most rows may be of other reasons
	}
	for state := ActivityPending; state <= ActivityDiscarded; state++ {
		if f.State != 0 && f.State != state || f.Reason != "" && !state.mayHaveFailed() {
			continue
		}
		entries, more, err := rows.Scan(f.rows(activityIndex(tenant, f.AccountID, state), at, limit))
		if err != nil {
			return nil, "", err
		}
		last := ""
		for i, entry := range entries {
			// Most rows may be of other reasons: those are not taken apart.
			if f.Reason != "" && i < len(entries)-1 && !bytes.HasSuffix(entry.Key, reason) {
				continue
			}
			segments, err := kv.Split(entry.Key)
			if err != nil {
				return nil, "", err
			}
			last = segments[len(segments)-2]
			if f.Reason == "" || string(f.Reason) == segments[len(segments)-1] {
				ids = append(ids, last)
			}
		}
		if more && (end == "" || f.behind(end, last)) {
			end = last
		}
	}
	// What is behind the end of one state's rows is for the next look, which sees all states of it.
	ids = slices.DeleteFunc(ids, func(id string) bool { return end != "" && f.behind(id, end) })
	slices.SortFunc(ids, func(a, b string) int {
		if f.NewestFirst {
			a, b = b, a
		}
		return strings.Compare(a, b)
	})
	return ids, end, nil
}

// mayHaveFailed reports whether activities in the state may have a failure: of those that are in Zendesk, which are most, and of those
// that were never tried none has.
func (s ActivityState) mayHaveFailed() bool { return s != ActivityWritten && s != ActivitySkipped }

// rows is the part of an index that is behind a position and in the time.
func (f *ActivityFilter) rows(index []byte, at string, limit int) kv.Range {
	rows := kv.Prefix(index)
	rows.Limit, rows.Reverse, rows.KeysOnly = limit, f.NewestFirst, true
	if !f.Since.IsZero() {
		rows.Start = slices.Concat(index, []byte(activityIDStart(f.Since)))
	}
	if !f.Until.IsZero() {
		rows.End = slices.Concat(index, []byte(activityIDStart(f.Until.Add(time.Microsecond))))
	}
	if at == "" {
		return rows
	}
	here := slices.Concat(index, kv.Key(at))
	if f.NewestFirst && bytes.Compare(here, rows.End) < 0 {
		rows.End = here
	}
	if behind := kv.PrefixEnd(here); !f.NewestFirst && bytes.Compare(behind, rows.Start) > 0 {
		rows.Start = behind
	}
	return rows
}

// Up to how many activities of an account are counted.
const (
	MaxDeadCounted    = 1000
	MaxPendingCounted = 1000
)

// AccountActivities is what an account has of activities that are not written.
type AccountActivities struct {
	Dead          int       // up to MaxDeadCounted
	Pending       int       // up to MaxPendingCounted
	OldestPending time.Time // CreateTime of the pending one that was created first, to the microsecond; zero: none is pending
}

// AccountActivities looks at the activities of each of these accounts, which are told by their ids: those of an earlier
// account of the same id are among them, as in [Store.ListActivities]. It reads index rows only, and of an account no more
// than are counted, and one.
func (s *Store) AccountActivities(ctx context.Context, tenant string, accounts ...string) (all []AccountActivities, err error) {
	err = s.view(ctx, tenant, func(_ *reading, rows kv.Reader) error {
		all = make([]AccountActivities, len(accounts))
		for i, account := range accounts {
			if all[i].Dead, err = countRows(rows, activityIndex(tenant, account, ActivityDead), MaxDeadCounted); err != nil {
				return err
			}
			pending := activityIndex(tenant, account, ActivityPending)
			if all[i].Pending, err = countRows(rows, pending, MaxPendingCounted); err != nil {
				return err
			}
			if all[i].Pending == 0 {
				continue
			}
			if all[i].OldestPending, err = firstRowTime(rows, pending); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// countRows counts the rows of an index, up to a number of them.
func countRows(rows kv.Reader, index []byte, most int) (n int, err error) {
	for part := kv.Prefix(index); ; {
		part.Limit, part.KeysOnly = min(most-n, kv.MaxScanLimit), true
		entries, more, err := rows.Scan(part)
		if err != nil {
			return 0, err
		}
		if n += len(entries); !more || n >= most || len(entries) == 0 {
			return n, nil
		}
		part.Start = kv.After(entries[len(entries)-1].Key)
	}
}

// firstRowTime is the time that the id of an index's first activity was made of; zero: there is none, or it is not readable.
func firstRowTime(rows kv.Reader, index []byte) (time.Time, error) {
	first := kv.Prefix(index)
	first.Limit, first.KeysOnly = 1, true
	entries, _, err := rows.Scan(first)
	if err != nil || len(entries) == 0 {
		return time.Time{}, err
	}
	segments, err := kv.Split(entries[0].Key)
	if err != nil || len(segments) < 2 {
		return time.Time{}, nil // Scrub tells of the damage; nobody's account is hidden for it
	}
	return activityIDTime(segments[len(segments)-2]), nil
}
