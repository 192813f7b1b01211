package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// named is a person whose name stands in all that is about the person.
type named string

// InText implements [store.Person].
func (n named) InText(text string) bool { return strings.Contains(text, string(n)) }

// InData implements [store.Person].
func (n named) InData(_, value string) bool { return n.InText(value) }

// InRecord implements [store.Person].
func (n named) InRecord(raw json.RawMessage) bool { return n.InText(string(raw)) }

// InAnswer implements [store.Person].
func (n named) InAnswer(_ string, body []byte) (about, agent bool) {
	return n.InText(string(body)), false
}

// testErasePerson erases a person, and nobody else, once in effect; a person of one tenant is none of another.
func testErasePerson(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	for i, name := range []string{"ann", "bob"} {
		staged := stage(t, s, fmt.Sprint("found ", i), recordsOf(70, 1, name))
		update(t, s, fmt.Sprint("found ", i), func(tx *store.InteractionTxn) {
			tx.PublishRecordset(store.Recordset{Name: "rs", Position: 1}, staged)
			for j := range 40 {
				tx.KeepReply("Search", fmt.Sprint(j), store.Reply{Body: []byte(name)})
			}
		})
		complete(t, s, tenant, fmt.Sprint("done ", i), store.Activity{ID: fmt.Sprint("a", i), State: store.ActivityDead, TicketID: "7", Details: store.ActivityDetails{Notes: name}})
		complete(t, s, "other", fmt.Sprint("done ", i), store.Activity{ID: fmt.Sprint("a", i), State: store.ActivityWritten, Details: store.ActivityDetails{Notes: name}})
	}
	clock = clock.Add(2 * time.Hour)
	erase := func(dry bool) (last store.Erasure) {
		t.Helper()
		progress := func(e store.Erasure) error { last = e; return nil }
		if err := s.ErasePerson(t.Context(), tenant, named("ann"), dry, progress, nil, nil); err != nil {
			t.Fatal(err)
		}
		return last
	}
	all := store.Erasable{Interactions: 2, Activities: 1}
	for _, step := range []struct {
		dry  bool
		want store.Erasure
	}{
		{true, store.Erasure{Found: all}}, {false, store.Erasure{Found: all, Erased: all}}, {true, store.Erasure{}}, {false, store.Erasure{}},
	} {
		if diff := cmp.Diff(step.want, erase(step.dry)); diff != "" {
			t.Errorf("dry %t (-want +got):\n%s", step.dry, diff)
		}
	}
	view(t, s, "found 0", func(tx *store.InteractionTxn) error {
		for j := range 40 {
			if reply, found, err := tx.Reply("Search", fmt.Sprint(j)); err != nil || !found || !reply.Gone {
				t.Errorf("request %d: %+v, %t, %v", j, reply, found, err)
			}
		}
		if tx.State() != store.InteractionExpired || len(tx.RecordsetNames()) != 0 {
			t.Errorf("state %v, recordsets %q", tx.State(), tx.RecordsetNames())
		}
		return nil
	})
	view(t, s, "found 1", func(tx *store.InteractionTxn) error {
		reply, _, err := tx.Reply("Search", "7")
		records, recordsErr := tx.Records("rs", 1, 100)
		if err != nil || recordsErr != nil || string(reply.Body) != "bob" || len(records) != 70 || tx.State() != store.InteractionActive {
			t.Errorf("of somebody else: %+v, %d records, %v, %v", reply, len(records), err, recordsErr)
		}
		return nil
	})
	for _, of := range []string{tenant, "other"} {
		var ids []string
		listed, _, err := s.ListActivities(t.Context(), of, store.ActivityFilter{}, "", 10)
		if err != nil {
			t.Error(err)
		}
		for _, a := range listed {
			ids = append(ids, a.ID)
		}
		want := map[string][]string{tenant: {"a1"}, "other": {"a0", "a1"}}[of]
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("activities of %s (-want +got):\n%s", of, diff)
		}
	}
	used, _, err := s.Usage(t.Context(), tenant)
	if err != nil || used.LiveInteractions != 1 || used.DeadActivities != 1 {
		t.Errorf("usage is %+v, %v", used, err)
	}
	if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
		t.Errorf("scrubbed: %+v, %v", found, err)
	}
}
