package zendesktest

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// every reads all pages of a list.
func (a *account) every(path string) []response {
	a.t.Helper()
	var pages []response
	for path != "<nil>" {
		got := a.do("GET", strings.TrimPrefix(path, a.Origin()), "").want(a.t, 200)
		pages = append(pages, got)
		path = got.text("links", "next")
		if got.at("links") == nil {
			path = got.text("next_page")
		}
	}
	return pages
}

func count(pages []response, list string) int {
	n := 0
	for _, p := range pages {
		n += p.length(list)
	}
	return n
}

func TestSeedIsLargeEnough(t *testing.T) {
	a := open(t, Config{})
	for list, least := range map[string]int{"users": 200, "organizations": 20, "tickets": 500, "ticket_fields": 25, "groups": 5} {
		byOffset := count(a.every("/api/v2/"+list+".json"), list)
		byCursor := count(a.every("/api/v2/"+list+".json?page%5Bsize%5D=70"), list)
		if byOffset < least || byOffset != byCursor {
			t.Errorf("%s: %d by offset, %d by cursor, want at least %d", list, byOffset, byCursor, least)
		}
	}
	types := map[string]bool{}
	fields := a.do("GET", "/api/v2/ticket_fields.json", "")
	for i := range fields.length("ticket_fields") {
		types[fields.text("ticket_fields", i, "type")] = true
	}
	for _, kind := range []string{
		"subject", "description", "status", "tickettype", "priority", "group", "assignee", "custom_status",
		"text", "textarea", "tagger", "multiselect", "checkbox", "date", "integer", "decimal", "regexp", "partialcreditcard", "lookup",
	} {
		if !types[kind] {
			t.Errorf("no ticket field of type %s", kind)
		}
	}
}

func TestSeedIsDeterministic(t *testing.T) {
	a, b := open(t, Config{}), open(t, Config{})
	for _, path := range []string{
		"/api/v2/users.json", "/api/v2/users.json?page=3", "/api/v2/organizations.json", "/api/v2/tickets.json?page=4",
		"/api/v2/ticket_fields.json", "/api/v2/groups.json", "/api/v2/search.json?query=router", ticketPath(CallerTickets[0], "/audits.json"),
	} {
		one, other := a.do("GET", path, ""), b.do("GET", path, "")
		if string(one.raw) != string(other.raw) || !cmp.Equal(one.header, other.header) {
			t.Errorf("%s differs", path)
		}
	}
	mint := map[string]string{"grant_type": "client_credentials"}
	if one, other := a.token(t, mint), b.token(t, mint); string(one.raw) != string(other.raw) {
		t.Errorf("tokens differ: %s, %s", one.raw, other.raw)
	}
}

func TestSeededPeople(t *testing.T) {
	a := open(t, Config{})
	people := append([]Person{Admin, Agent, OtherAgent, UnlicensedAgent, EndUser, Caller, Precise}, PhoneFormats...)
	for _, p := range people {
		got := a.do("GET", fmt.Sprintf("/api/v2/users/%d.json", p.ID), "").want(t, 200)
		phone := p.Phone
		if phone == "" {
			phone = "<nil>"
		}
		if got.text("user", "id") != fmt.Sprint(p.ID) || got.text("user", "name") != p.Name ||
			got.text("user", "email") != p.Email || got.text("user", "phone") != phone {
			t.Errorf("%s is %s", p.Name, got.raw)
		}
	}
	// The neighbour of the id as a float64 is another number.
	if rounded := int64(float64(Precise.ID)); rounded == Precise.ID || Precise.ID > math.MaxInt64/2 {
		t.Errorf("id %d survives a float64", Precise.ID)
	}
}

func TestSeededCaller(t *testing.T) {
	a := open(t, Config{})
	got := a.do("GET", fmt.Sprintf("/api/v2/users/%d/tickets/requested.json", Caller.ID), "").want(t, 200)
	var states []string
	for i := range got.length("tickets") {
		states = append(states, got.text("tickets", i, "status"))
	}
	if diff := cmp.Diff([]string{"solved", "open", "open"}, states); diff != "" {
		t.Errorf("her tickets (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(idsOf(CallerTickets...), got.ids("tickets")); diff != "" {
		t.Errorf("her tickets (-want +got):\n%s", diff)
	}
	if got := a.do("GET", ticketPath(ClosedTicket, ""), "").text("ticket", "status"); got != "closed" {
		t.Errorf("the closed ticket is %s", got)
	}
}

func TestSeededHistoryIsWhole(t *testing.T) {
	a := open(t, Config{})
	ids := map[int64]bool{}
	for ticket := range a.tickets.all() {
		audits := a.audits[ticket.ID]
		if len(audits) == 0 {
			t.Fatalf("ticket %d has no audit", ticket.ID)
		}
		if last := audits[len(audits)-1].CreatedAt; !last.Equal(ticket.UpdatedAt) || last.After(a.clock.now()) {
			t.Errorf("ticket %d: updated %v, last audit %v", ticket.ID, ticket.UpdatedAt, last)
		}
		status := ""
		for _, audit := range audits {
			if ids[audit.ID] {
				t.Errorf("audit %d stands twice", audit.ID)
			}
			ids[audit.ID] = true
			for _, e := range audit.Events {
				switch e := e.(type) {
				case createEvent:
					if e.FieldName == "status" {
						status = e.Value.(string)
					}
				case changeEvent:
					if e.FieldName == "status" {
						if e.PreviousValue != status {
							t.Errorf("ticket %d: status was %s, not %v", ticket.ID, status, e.PreviousValue)
						}
						status = e.Value.(string)
					}
				}
			}
		}
		if status != ticket.Status {
			t.Errorf("ticket %d is %s, its audits say %s", ticket.ID, ticket.Status, status)
		}
		if _, found := a.users.get(ticket.RequesterID); !found {
			t.Errorf("ticket %d: requester %d is nobody", ticket.ID, ticket.RequesterID)
		}
	}
}

// TestShape compares the keys of each resource with those of Zendesk's
// reference.
func TestShape(t *testing.T) {
	a := open(t, Config{})
	tests := []struct{ path, key, want string }{
		{"/api/v2/users/45900000000106.json", "user", `active alias chat_only created_at custom_role_id default_group_id
			details email external_id iana_time_zone id last_login_at locale locale_id moderator name notes
			only_private_comments organization_id phone photo report_csv restricted_agent role role_type shared shared_agent
			shared_phone_number signature suspended tags ticket_restriction time_zone two_factor_auth_enabled updated_at url
			user_fields verified`},
		{ticketPath(CallerTickets[1], ".json"), "ticket", `allow_attachments allow_channelback assignee_id brand_id
			collaborator_ids created_at custom_fields custom_status_id description due_at email_cc_ids encoded_id external_id
			fields follower_ids followup_ids forum_topic_id from_messaging_channel generated_timestamp group_id has_incidents
			id is_public organization_id priority problem_id raw_subject recipient requester_id satisfaction_rating
			sharing_agreement_ids status subject submitter_id tags ticket_form_id type updated_at url via`},
		{"/api/v2/organizations/45900000003101.json", "organization", `created_at details domain_names external_id group_id
			id name notes organization_fields shared_comments shared_tickets tags updated_at url`},
		{"/api/v2/groups/46000000000020.json", "group", `created_at default deleted description id is_public name updated_at url`},
		{"/api/v2/ticket_fields/45900000002101.json", "ticket_field", `active agent_can_edit agent_description
			collapsed_for_agents created_at custom_field_options description editable_in_portal id key position
			raw_description raw_title raw_title_in_portal regexp_for_validation removable required required_in_portal tag
			title title_in_portal type updated_at url visible_in_portal`},
	}
	for _, test := range tests {
		got := a.do("GET", test.path, "").want(t, 200)
		fields, _ := got.at(test.key).(map[string]any)
		var keys []string
		for key := range fields {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		if diff := cmp.Diff(strings.Fields(test.want), keys); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.path, diff)
		}
		if got.text(test.key, "url") != a.Origin()+test.path {
			t.Errorf("%s has the url %s", test.path, got.text(test.key, "url"))
		}
	}
}

// TestNullUntilSet compares what nobody ever wrote: Zendesk has null there, not an empty text.
func TestNullUntilSet(t *testing.T) {
	a := open(t, Config{})
	for _, test := range []struct{ resource, keys string }{
		{"user", "alias details notes signature external_id phone photo last_login_at organization_id"},
		{"organization", "details notes external_id group_id"},
	} {
		made := a.do("POST", "/api/v2/"+test.resource+"s", `{"`+test.resource+`":{"name":"Quite New"}}`).want(t, 201)
		for _, key := range strings.Fields(test.keys) {
			if got := made.text(test.resource, key); got != "<nil>" {
				t.Errorf("%s of a new %s is %q", key, test.resource, got)
			}
		}
		path := "/api/v2/" + test.resource + "s/" + made.text(test.resource, "id")
		for _, notes := range []string{`"Calls at night"`, `""`, `null`} {
			a.do("PUT", path, `{"`+test.resource+`":{"notes":`+notes+`}}`).want(t, 200)
			got, err := json.Marshal(a.do("GET", path, "").at(test.resource, "notes"))
			if err != nil || string(got) != notes {
				t.Errorf("notes of the %s are %s, want %s (%v)", test.resource, got, notes, err)
			}
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		New(Config{})
	}
}
