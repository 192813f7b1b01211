package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
)

const zendeskOrigin = "https://acme.zendesk.com"

// noted returns the note of a number.
func noted(t testing.TB, s *fixture, tenant, origin string) (store.NotedPerson, bool) {
	t.Helper()
	p, found, err := s.PersonNoted(t.Context(), tenant, origin, "+15135557611")
	if err != nil {
		t.Fatal(err)
	}
	return p, found
}

func note(t testing.TB, s *fixture, p store.NotedPerson) {
	t.Helper()
	if err := s.NotePerson(t.Context(), tenant, zendeskOrigin, []string{"+15135557611"}, p); err != nil {
		t.Fatal(err)
	}
}

func testNotedPeople(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	if p, found := noted(t, s, tenant, zendeskOrigin); found {
		t.Errorf("nobody was noted, and there is %+v", p)
	}
	note(t, s, store.NotedPerson{ExternalID: "x1"})
	clock = clock.Add(time.Minute)
	note(t, s, store.NotedPerson{ExternalID: "x1", UserID: "7"})
	s.reopen(t, store.Config{})
	want := store.NotedPerson{ExternalID: "x1", UserID: "7", Time: clock.UTC().Round(0)}
	if p, found := noted(t, s, tenant, zendeskOrigin); !found || !cmp.Equal(p, want) {
		t.Errorf("noted is %+v, %t, want %+v", p, found, want)
	}
	for _, other := range []struct{ tenant, origin string }{{"other", zendeskOrigin}, {tenant, "https://other.zendesk.com"}} {
		if p, found := noted(t, s, other.tenant, other.origin); found {
			t.Errorf("tenant %q at %s sees %+v", other.tenant, other.origin, p)
		}
	}
	clock = clock.Add(store.PersonMemory - time.Second)
	if swept := sweep(t, s, 100); swept != (store.Swept{Looked: 1}) {
		t.Errorf("before its end: swept %+v", swept)
	}
	if _, found := noted(t, s, tenant, zendeskOrigin); !found {
		t.Error("it is forgotten before its end")
	}
	clock = clock.Add(time.Second)
	if p, found := noted(t, s, tenant, zendeskOrigin); found {
		t.Errorf("at its end it is read: %+v", p)
	}
	clock = clock.Add(time.Millisecond)
	sweep(t, s, 100)
	if n := keysOf(t, s); n != 0 {
		t.Errorf("in the end %d keys are stored", n)
	}
}

func testForgetPerson(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	other := func() bool {
		_, found, err := s.PersonNoted(t.Context(), tenant, zendeskOrigin, "bob@example.com")
		if err != nil {
			t.Error(err)
		}
		return found
	}
	forget := func(dry bool, want int) {
		t.Helper()
		if n, err := s.ForgetPerson(t.Context(), tenant, zendeskOrigin, "+15135557611", dry); err != nil || n != want {
			t.Errorf("forgotten, dry %t: %d, %v, want %d", dry, n, err, want)
		}
	}
	note(t, s, store.NotedPerson{ExternalID: "x1", UserID: "7"})
	for identity, p := range map[string]store.NotedPerson{
		"ann@example.com": {UserID: "7"}, "x1": {ExternalID: "x1"}, "bob@example.com": {ExternalID: "x2", UserID: "8"}, "nobody": {},
	} {
		if err := s.NotePerson(t.Context(), tenant, zendeskOrigin, []string{identity}, p); err != nil {
			t.Fatal(err)
		}
	}
	forget(true, 3)
	forget(false, 3)
	forget(false, 0)
	for _, identity := range []string{"+15135557611", "ann@example.com", "x1"} {
		if p, found, err := s.PersonNoted(t.Context(), tenant, zendeskOrigin, identity); err != nil || found {
			t.Errorf("what is forgotten is read: %+v, %v", p, err)
		}
	}
	if !other() {
		t.Error("somebody else is forgotten, too")
	}
	if scrubbed, err := s.Scrub(t.Context()); err != nil || scrubbed.Damaged != 0 {
		t.Errorf("scrubbed %+v, %v", scrubbed, err)
	}
	note(t, s, store.NotedPerson{UserID: "8"})
	if p, found := noted(t, s, tenant, zendeskOrigin); !found || p.UserID != "8" {
		t.Errorf("noted anew: %+v, %t", p, found)
	}
	clock = clock.Add(store.PersonMemory + time.Millisecond)
	sweep(t, s, 100)
	if n := keysOf(t, s); n != 1 { // the count of what the tenant has, which Scrub has made
		t.Errorf("in the end %d keys are stored", n)
	}
}
