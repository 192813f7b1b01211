package zendesktest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOddPeopleDisturbNobody(t *testing.T) {
	plain, odd := open(t, Config{}), open(t, Config{OddPeople: true})
	for _, path := range []string{
		"/api/v2/users.json", "/api/v2/tickets.json?page=12", "/api/v2/organizations.json",
		fmt.Sprintf("/api/v2/users/%d/identities.json", Caller.ID), ticketPath(CallerTickets[1], "/audits.json"),
		"/api/v2/search.json?query=" + url.QueryEscape("type:user phone:*5135557611"),
	} {
		one, other := plain.do("GET", path, ""), odd.do("GET", path, "")
		for _, list := range []string{"users", "tickets", "organizations", "identities", "audits", "results"} {
			if diff := cmp.Diff(one.ids(list), other.ids(list)); diff != "" {
				t.Errorf("%s (-plain +odd):\n%s", path, diff)
			}
		}
	}
	ids := map[int64]bool{}
	for u := range odd.users.all() {
		for _, i := range u.identities {
			if ids[i.ID] || i.UserID != u.ID {
				t.Errorf("identity %d of %s stands twice, or is of %d", i.ID, u.Name, i.UserID)
			}
			ids[i.ID] = true
		}
	}
}

func TestOddNumbersAreFound(t *testing.T) {
	a := open(t, Config{OddPeople: true})
	of := func(people ...Person) []string {
		var ids []int64
		for _, p := range people {
			ids = append(ids, p.ID)
		}
		return idsOf(ids...)
	}
	tests := []struct {
		query string // of search
		want  []string
	}{
		// Trailing digits of what is stored, whatever stands between them.
		{"phone:*5135557701", of(OddFormats[0])},
		{"phone:*5135557702", of(OddFormats[1], Stranger)},
		{"phone:*30901830", of(OddFormats[2])},
		{"phone:*030901830", of(OddFormats[2])},
		{"phone:*30901831", of(OddFormats[3])},
		{"phone:*5135557703", of(OddFormats[4])},
		{"phone:*5135557704", of(OddFormats[5])},
		{"phone:*8912345678", of(OddFormats[6])},
		{"phone:*498912345678", of()}, // the trunk zero stands in the middle
		{"phone:*2079460020", of(OddFormats[7])},
		{"phone:*5135557706", of(OddFormats[8])},
		{"phone:*199001234", of(OddFormats[9])},
		{"phone:*0698765432", of(OddFormats[11])},
		{"phone:*5135557709", of(OddFormats[13])},
		{"phone:*5135557707", of(OddFormats[14])},
		{"phone:*5135557708", of(OddFormats[14])},
		{"phone:+15135557701", of()},
		{"phone:*513-555-7701", of()},

		{"phone:*5135557720", of(SharedLine...)},
		{"phone:*5135557741", of(Suspended)},
		{"phone:*5135557742", of(SuspendedTwin, LivingTwin)},
		{"phone:*5135557751", of(Survivor)},
		{"phone:*5135557753", of()},
		{"phone:*5135557762", of(LineOnly)},
		{"phone:*5135557763", of(ProfileOnly)},
		{"phone:*7700900456", of(Manifold)},
		{"phone:*5135557765", of(Unverified)},
		{"external_id:200177", of(Numbered)},

		// Elsewhere than on the profile: by the keyword of the field, or by digits alone.
		{"phone:*5135557731", of()},
		{"type:user 5135557731", of(Noted, Detailed)},
		{"type:user *5135557701", of(OddFormats[0], Noted)},
		{"phone:*5135557771", of()},
		{MobileField + ":*5135557771", of(Fielded)},
		{"type:user *5135557771", of(Fielded)},
		{OtherPhoneField + ":*5135557772", of()},
		{OtherPhoneField + `:"(513) 555-7772"`, of(FieldedOddly)},
		{OtherPhoneField + ":*", of(FieldedOddly)},
	}
	for _, test := range tests {
		ids := a.search(test.query).want(t, 200).ids("results")
		slices.Sort(ids)
		if diff := cmp.Diff(test.want, ids); diff != "" {
			t.Errorf("search %s (-want +got):\n%s", test.query, diff)
		}
	}
	// The look-up by query finds digits anywhere.
	for number, want := range map[string][]string{
		"5135557701": of(OddFormats[0], Noted), "5135557731": of(Noted, Detailed), "5135557720": of(SharedLine...),
		"5135557771": of(Fielded), "5135557772": of(FieldedOddly), "5135557707": of(OddFormats[14]), "5135557753": of(),
	} {
		ids := a.do("GET", "/api/v2/users/search.json?query="+number, "").want(t, 200).ids("users")
		slices.Sort(ids)
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("look-up of %s (-want +got):\n%s", number, diff)
		}
	}
}

// TestOddProfiles compares what each odd person's profile says with what makes
// it odd.
func TestOddProfiles(t *testing.T) {
	a := open(t, Config{OddPeople: true})
	tests := []struct {
		person Person
		key    string
		want   string // as it stands in the answer
	}{
		{OddFormats[5], "phone", OddFormats[5].Phone},
		{OddFormats[16], "email", "<nil>"},
		{SharedLine[0], "shared_phone_number", "true"},
		{Suspended, "suspended", "true"},
		{LivingTwin, "suspended", "false"},
		{Survivor, "phone", Survivor.Phone},
		{Deleted, "active", "false"},
		{LineOnly, "phone", "<nil>"},
		{ProfileOnly, "shared_phone_number", "<nil>"},
		{Numbered, "external_id", "200177"},
		{Unverified, "verified", "false"},
	}
	for _, test := range tests {
		got := a.do("GET", fmt.Sprintf("/api/v2/users/%d.json", test.person.ID), "").want(t, 200)
		if got.text("user", test.key) != test.want {
			t.Errorf("%s: %s is %s, want %s", test.person.Name, test.key, got.text("user", test.key), test.want)
		}
	}
	if got := a.do("GET", fmt.Sprintf("/api/v2/users/%d", Numbered.ID), "").at("user", "external_id"); got != json.Number("200177") {
		t.Errorf("the external_id is %T %v", got, got)
	}
	if got := a.do("GET", "/api/v2/users/search?external_id=200177", "").ids("users"); !cmp.Equal(got, idsOf(Numbered.ID)) {
		t.Errorf("by external_id: %v", got)
	}
	last := a.do("GET", ticketPath(SharedLineTickets[1], "/audits?sort=-created_at&page[size]=1"), "").want(t, 200)
	if last.text("audits", 0, "author_id") != "-1" || last.text("audits", 0, "events", 0, "type") != "RoutingHint" {
		t.Errorf("the last audit is %s", last.raw)
	}
	states := map[string]string{}
	for i, p := range SharedLine {
		got := a.do("GET", fmt.Sprintf("/api/v2/users/%d/tickets/requested?sort_by=updated_at&sort_order=desc", p.ID), "").want(t, 200)
		states[p.Name] = got.text("tickets", 0, "status")
		if i < len(SharedLineTickets) && got.text("tickets", 0, "id") != fmt.Sprint(SharedLineTickets[i]) {
			t.Errorf("%s has %s", p.Name, got.raw)
		}
	}
	if diff := cmp.Diff(map[string]string{"Frank Family": "solved", "Fiona Family": "open", "Felix Family": "<nil>"}, states); diff != "" {
		t.Errorf("tickets of the shared line (-want +got):\n%s", diff)
	}
	lines := map[int64]int{}
	for _, p := range append([]Person{Manifold, LineOnly, ProfileOnly, Survivor}, SharedLine...) {
		got := a.do("GET", fmt.Sprintf("/api/v2/users/%d/identities.json", p.ID), "").want(t, 200)
		for i := range got.length("identities") {
			if got.text("identities", i, "type") == "phone_number" {
				lines[p.ID]++
			}
		}
	}
	if diff := cmp.Diff(map[int64]int{Manifold.ID: 3, LineOnly.ID: 1, Survivor.ID: 2}, lines); diff != "" {
		t.Errorf("direct lines (-want +got):\n%s", diff)
	}
}
