package zendesktest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMergeUsers(t *testing.T) {
	a := open(t, Config{})
	path := func(id int64, rest string) string { return fmt.Sprintf("/api/v2/users/%d%s", id, rest) }
	into := func(id int64) string { return fmt.Sprintf(`{"user":{"id":%d}}`, id) }
	for name, test := range map[string]struct {
		loser  int64
		body   string
		status int
	}{
		"an agent": {Agent.ID, into(Caller.ID), 403}, "into an agent": {Caller.ID, into(Agent.ID), 403},
		"into oneself": {Caller.ID, into(Caller.ID), 422}, "into nobody": {Caller.ID, into(7), 404},
		"nobody": {7, into(Caller.ID), 404}, "without a body": {Caller.ID, `{}`, 400},
	} {
		if got := a.do("PUT", path(test.loser, "/merge.json"), test.body); got.status != test.status {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.raw, test.status)
		}
	}
	got := a.do("PUT", path(Caller.ID, "/merge.json"), into(EndUser.ID)).want(t, 200)
	if got.text("user", "id") != fmt.Sprint(EndUser.ID) || got.text("user", "email") != EndUser.Email {
		t.Errorf("answered %s", got.raw)
	}
	for _, gone := range []string{"", "/identities", "/tickets/requested"} {
		a.do("GET", path(Caller.ID, gone), "").want(t, 404)
	}
	var values []string
	list := a.do("GET", path(EndUser.ID, "/identities"), "").want(t, 200)
	for i := range list.length("identities") {
		values = append(values, list.text("identities", i, "value")+" "+list.text("identities", i, "primary"))
	}
	want := []string{EndUser.Email + " true", EndUser.Phone + " true", Caller.Email + " false", Caller.Phone + " false"}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
	if got := a.do("GET", path(EndUser.ID, "/tickets/requested"), "").ids("tickets"); !cmp.Equal(got, idsOf(CallerTickets...)) {
		t.Errorf("the tickets are %v", got)
	}
	if got := a.search("type:user phone:*5135557611").ids("results"); !cmp.Equal(got, idsOf(EndUser.ID)) {
		t.Errorf("her number finds %v", got)
	}
	if got := a.do("GET", "/api/v2/users/search?external_id=crm-2001", "").length("users"); got != 0 {
		t.Errorf("her external_id finds %d", got)
	}

	redirecting := open(t, Config{OddPeople: true, MergedRedirects: true})
	moved := redirecting.do("GET", path(Merged.ID, ".json"), "").want(t, 301)
	if got := moved.header.Get("Location"); got != redirecting.Origin()+path(Survivor.ID, ".json") {
		t.Errorf("moved to %s", got)
	}
}
