package zendesktest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRefusedProfiles compares what is told of people and organizations that
// break the rules.
func TestRefusedProfiles(t *testing.T) {
	a := open(t, Config{})
	caller, users := fmt.Sprintf("/api/v2/users/%d", Caller.ID), "/api/v2/users"
	tests := []struct {
		name, method, path, body string
		want                     map[string]string // of each part, "error: description"
	}{
		{"no name", "POST", users, `{"user":{"phone":"+1 513-555-9101"}}`, map[string]string{"name": "BlankValue: Name: cannot be blank"}},
		{"name taken away", "PUT", caller, `{"user":{"name":null}}`, map[string]string{"name": "BlankValue: Name: cannot be blank"}},
		{"address taken", "POST", users, `{"user":{"name":"B","email":"Maria.Lopez@example.com"}}`,
			map[string]string{"email": "DuplicateValue: Email: maria.lopez@example.com is already being used by another user"}},
		{"external id taken", "POST", users, `{"user":{"name":"B","external_id":"CRM-2001"}}`,
			map[string]string{"external_id": "DuplicateValue: External: CRM-2001 has already been taken"}},
		{"everything at once", "POST", users, `{"user":{"email":"maria.lopez@example.com","external_id":"crm-2001","role":"boss","user_fields":{"plan":"gold","vip":"perhaps"}}}`,
			map[string]string{
				"name":        "BlankValue: Name: cannot be blank",
				"email":       "DuplicateValue: Email: maria.lopez@example.com is already being used by another user",
				"external_id": "DuplicateValue: External: crm-2001 has already been taken",
				"role":        "InvalidValue: Role: is invalid",
				"plan":        "InvalidValue: Plan: is invalid",
				"vip":         "InvalidValue: Vip: is invalid",
			}},
		{"identities taken", "POST", users, `{"user":{"name":"B","identities":[{"type":"email","value":"ella.fischer@example.com"},{"type":"phone_number","value":"+1 (513) 555-7611"},{"type":"fax","value":"1"}]}}`,
			map[string]string{
				"email":        "DuplicateValue: Email: ella.fischer@example.com is already being used by another user",
				"phone_number": "DuplicateValue: Phone number: +1 (513) 555-7611 is already being used by another user",
				"fax":          "InvalidFormat: Value: is not properly formatted",
			}},
		{"line taken", "POST", fmt.Sprintf("/api/v2/users/%d/identities", EndUser.ID), `{"identity":{"type":"phone_number","value":"+15135557611"}}`,
			map[string]string{"value": "DuplicateValue: Phone number: +15135557611 is already being used by another user"}},
		{"no digits", "POST", caller + "/identities", `{"identity":{"type":"phone_number","value":"office"}}`,
			map[string]string{"value": "InvalidFormat: Value: is not properly formatted"}},
		{"one by external id, the other by address", "POST", users + "/create_or_update", `{"user":{"external_id":"crm-2001","email":"ella.fischer@example.com"}}`,
			map[string]string{"email": "DuplicateValue: Email: ella.fischer@example.com is already being used by another user"}},
		{"organization", "POST", "/api/v2/organizations", `{"organization":{"name":"harbor bakery","external_id":"CRM-ORG-1000","organization_fields":{"tier":"tin"}}}`,
			map[string]string{
				"name":        "DuplicateValue: Name: Harbor Bakery has already been taken",
				"external_id": "DuplicateValue: External: CRM-ORG-1000 has already been taken",
				"tier":        "InvalidValue: Tier: is invalid",
			}},
	}
	people := a.search("type:user").text("count")
	before := a.do("GET", caller, "").raw
	for _, test := range tests {
		got := a.do(test.method, test.path, test.body)
		told := map[string]string{}
		details, _ := got.at("details").(map[string]any)
		for part := range details {
			told[part] = got.text("details", part, 0, "error") + ": " + got.text("details", part, 0, "description")
		}
		if diff := cmp.Diff(test.want, told); diff != "" || got.status != 422 || got.text("error") != "RecordInvalid" {
			t.Errorf("%s: %d (-want +got):\n%s", test.name, got.status, diff)
		}
	}
	if got := a.search("type:user").text("count"); got != people || string(a.do("GET", caller, "").raw) != string(before) {
		t.Errorf("what was refused left its mark: %s people, were %s", got, people)
	}
}

// TestDroppedKeys compares the only sign there is of what nobody read.
func TestDroppedKeys(t *testing.T) {
	a := open(t, Config{})
	tests := []struct {
		name, method, path, body string
		want                     []string // of the warning
	}{
		{"nothing", "PUT", fmt.Sprintf("/api/v2/users/%d", Caller.ID), `{"user":{"notes":"n","user_fields":{"vip":"true"}}}`, nil},
		{"unknown", "PUT", fmt.Sprintf("/api/v2/users/%d", Caller.ID), `{"user":{"note":"n","user_fields":{"vip":true,"since":1}}}`,
			[]string{"user.note", "user.user_fields.since"}},
		{"of another type", "PUT", fmt.Sprintf("/api/v2/users/%d", Caller.ID), `{"user":{"notes":["n"],"name":{"first":"M"},"user_fields":[1],"tags":{"a":1}}}`,
			[]string{"user.name", "user.notes", "user.tags", "user.user_fields"}},
		{"of another type in a profile", "POST", "/api/v2/users", `{"user":{"name":"B","user_fields":{"crm_id":["1"]}}}`, []string{"user.user_fields.crm_id"}},
		{"organization", "POST", "/api/v2/organizations", `{"organization":{"name":"B","domain_names":"b.example","organization_fields":{"level":1}}}`,
			[]string{"organization.domain_names", "organization.organization_fields.level"}},
		{"identity", "POST", fmt.Sprintf("/api/v2/users/%d/identities", Caller.ID), `{"identity":{"type":"email","value":"m@home.example","kind":1}}`, []string{"identity.kind"}},
		{"ticket", "PUT", ticketPath(CallerTickets[1], ""), `{"ticket":{"subject":["s"],"custom_fields":7,"titel":"t"}}`,
			[]string{"ticket.custom_fields", "ticket.subject", "ticket.titel"}},
	}
	for _, test := range tests {
		got := a.do(test.method, test.path, test.body)
		if got.status != 200 && got.status != 201 {
			t.Errorf("%s: %d %s", test.name, got.status, got.raw)
		}
		warning := got.header.Get("X-Zendesk-Api-Warn")
		var dropped []string
		if _, list, found := strings.Cut(warning, "["); found {
			list, _, _ = strings.Cut(list, "]")
			for key := range strings.SplitSeq(list, ", ") {
				dropped = append(dropped, strings.Trim(key, `"`))
			}
		}
		slices.Sort(dropped)
		if diff := cmp.Diff(test.want, dropped); diff != "" {
			t.Errorf("%s: %q (-want +got):\n%s", test.name, warning, diff)
		}
	}
	got := a.do("GET", fmt.Sprintf("/api/v2/users/%d", Caller.ID), "")
	if got.text("user", "name") != Caller.Name || got.text("user", "notes") != "n" || got.text("user", "user_fields", "vip") != "true" {
		t.Errorf("she is %s", got.raw)
	}
}

// TestDirectLines compares whose line a number becomes.
func TestDirectLines(t *testing.T) {
	a := open(t, Config{})
	lines := func(id string) []string {
		var numbers []string
		got := a.do("GET", "/api/v2/users/"+id+"/identities.json", "").want(t, 200)
		for i := range got.length("identities") {
			if got.text("identities", i, "type") == "phone_number" {
				numbers = append(numbers, got.text("identities", i, "value"))
			}
		}
		return numbers
	}
	tests := []struct {
		name, fields  string
		phone, shared string
		lines         []string
	}{
		{"of nobody yet", `"phone":"+1 513-555-9201"`, "+1 513-555-9201", "false", []string{"+1 513-555-9201"}},
		{"hers", `"phone":"+15135557611"`, "+15135557611", "true", nil},
		{"hers, in another form", `"phone":"(513) 555-7611"`, "(513) 555-7611", "false", []string{"(513) 555-7611"}},
		{"said to be shared", `"phone":"+1 513-555-9202","shared_phone_number":true`, "+1 513-555-9202", "true", nil},
		{"hers, said to be his own", `"phone":"+1 513 555 7611","shared_phone_number":false`, "+1 513 555 7611", "true", nil},
		{"no number", `"phone":"reception"`, "reception", "false", nil},
		{"none", `"phone":""`, "<nil>", "<nil>", nil},
	}
	for i, test := range tests {
		got := a.do("POST", "/api/v2/users", fmt.Sprintf(`{"user":{"name":"N %d",%s}}`, i, test.fields)).want(t, 201)
		if got.text("user", "phone") != test.phone || got.text("user", "shared_phone_number") != test.shared {
			t.Errorf("%s: phone %s, shared %s", test.name, got.text("user", "phone"), got.text("user", "shared_phone_number"))
		}
		if diff := cmp.Diff(test.lines, lines(got.text("user", "id"))); diff != "" {
			t.Errorf("%s: lines (-want +got):\n%s", test.name, diff)
		}
	}
	// A line that is told to be shared is one no more, and then anybody's.
	first := a.do("POST", "/api/v2/users", `{"user":{"name":"A","phone":"+1 513-555-9203"}}`).want(t, 201).text("user", "id")
	a.do("PUT", "/api/v2/users/"+first, `{"user":{"shared_phone_number":true}}`).want(t, 200)
	if got := lines(first); got != nil {
		t.Errorf("a shared line is still a direct one: %v", got)
	}
	second := a.do("POST", "/api/v2/users", `{"user":{"name":"B","phone":"+1 513-555-9203"}}`).want(t, 201)
	if second.text("user", "shared_phone_number") != "false" {
		t.Errorf("the line is %s", second.raw)
	}
	if got := a.search("phone:*5135559203").text("count"); got != "2" {
		t.Errorf("%s people are found", got)
	}
}

func TestCreateOrUpdateAtOnce(t *testing.T) {
	a := open(t, Config{IndexLag: 1 << 40})
	for resource, body := range map[string]string{
		"users":         `{"user":{"name":"Just Called","external_id":"caller-1","phone":"+1 513-555-9301"}}`,
		"organizations": `{"organization":{"name":"Just Called","external_id":"caller-1"}}`,
	} {
		var group sync.WaitGroup
		var mu sync.Mutex
		statuses, ids := map[int]int{}, map[string]bool{}
		for range 20 {
			group.Go(func() {
				got := a.do("POST", "/api/v2/"+resource+"/create_or_update.json", body)
				mu.Lock()
				defer mu.Unlock()
				statuses[got.status]++
				ids[got.text(strings.TrimSuffix(resource, "s"), "id")] = true
			})
		}
		group.Wait()
		if statuses[201] != 1 || statuses[200] != 19 || len(ids) != 1 {
			t.Errorf("%s: statuses %v, ids %v", resource, statuses, ids)
		}
	}
}

// Only tickets know idempotency keys: what else is created twice is there twice.
func TestIdempotencyKeyIsForTickets(t *testing.T) {
	a := open(t, Config{})
	for path, body := range map[string]string{
		"/api/v2/users":         `{"user":{"name":"Again","phone":"+1 513-555-9401"}}`,
		"/api/v2/organizations": `{"organization":{"name":"Again"}}`,
	} {
		a.do("POST", path, body, with("Idempotency-Key", "k")).want(t, 201)
		again := a.do("POST", path, body, with("Idempotency-Key", "k"))
		if again.header.Get("X-Idempotency-Lookup") != "" || again.status == 201 && path == "/api/v2/organizations" {
			t.Errorf("%s: %d %v", path, again.status, again.header)
		}
	}
	if got := a.search("name:again type:user").text("count"); got != "2" {
		t.Errorf("%s of one name", got)
	}
}

// FuzzWriteProfile looks for bodies that break what reads people and
// organizations.
func FuzzWriteProfile(f *testing.F) {
	for _, seed := range []string{
		`{"name":"B","phone":"+1 513-555-7611","identities":[{"type":"email","value":"b@example.com"}]}`, `{"name":"B","user_fields":{"vip":1,"plan":""}}`,
		`{"external_id":7,"shared_phone_number":null,"email":"x"}`, `{"identities":[{}],"tags":{},"organization_fields":{"tier":[]}}`, `{"":1,"phone":null}`, `[]`,
	} {
		f.Add(seed)
	}
	opened := open(f, Config{})
	paths := map[string]string{
		"user":         fmt.Sprintf("/api/v2/users/%d", Caller.ID),
		"organization": fmt.Sprintf("/api/v2/organizations/%d", CallerOrganization),
	}
	f.Fuzz(func(t *testing.T, fields string) {
		a := &account{opened.Zendesk, t, opened.clock}
		for _, resource := range []string{"user", "organization"} {
			got := a.do("PUT", paths[resource], `{"`+resource+`":`+fields+`}`)
			if !slices.Contains([]int{200, 400, 422}, got.status) {
				t.Errorf("%s %s: %d %s", resource, fields, got.status, got.raw)
			}
			if name := a.do("GET", paths[resource], "").want(t, 200).text(resource, "name"); strings.TrimSpace(name) == "" {
				t.Errorf("%s %s: it has no name any more", resource, fields)
			}
		}
	})
}
