package zendesktest

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSearchUsers(t *testing.T) {
	a := open(t, Config{IndexLag: 10 * time.Minute})
	tests := []struct {
		parameters string
		want       []string
	}{
		{"query=email:" + Agent.Email, idsOf(Agent.ID)},
		{"query=" + Agent.Email, idsOf(Agent.ID)},
		{"query=lop", idsOf(Caller.ID)},
		{"query=mari+lop", idsOf(Caller.ID)},
		{`query=%22Maria+Lopez%22`, idsOf(Caller.ID)},
		{"query=type:ticket+lopez", nil},
		{"query=", nil},
		{"external_id=CRM-2001", idsOf(Caller.ID)},
		{"external_id=x", nil},
	}
	for _, test := range tests {
		got := a.do("GET", "/api/v2/users/search.json?"+test.parameters, "").want(t, 200)
		if diff := cmp.Diff(test.want, got.ids("users")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.parameters, diff)
		}
	}
	a.do("GET", "/api/v2/users/search.json", "").want(t, 400)
}

// TestUserIndexLag compares what sees a person at once with what comes later.
func TestUserIndexLag(t *testing.T) {
	a := open(t, Config{IndexLag: 10 * time.Minute})
	made := a.do("POST", "/api/v2/users", `{"user":{"name":"Just Made","email":"just@example.com","phone":"+1 513-555-9002","external_id":"just-1"}}`).want(t, 201)
	id := made.text("user", "id")
	fresh := []string{"/api/v2/users/search.json?external_id=just-1", "/api/v2/users/show_many.json?ids=" + id, "/api/v2/users/show_many.json?external_ids=just-1"}
	late := []string{
		"/api/v2/users/search.json?query=email:just@example.com", "/api/v2/users/search.json?query=5135559002",
		"/api/v2/search.json?query=phone:*5135559002",
	}
	check := func(paths []string, want []string) {
		t.Helper()
		for _, path := range paths {
			got := a.do("GET", path, "").want(t, 200)
			if diff := cmp.Diff(want, append(got.ids("users"), got.ids("results")...)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	}
	a.do("GET", "/api/v2/users/"+id, "").want(t, 200)
	check(fresh, []string{id})
	check(late, nil)
	a.clock.advance(10 * time.Minute)
	check(late, []string{id})

	a.do("PUT", "/api/v2/users/"+id, `{"user":{"external_id":"just-2"}}`).want(t, 200)
	check([]string{"/api/v2/users/search.json?external_id=just-2"}, []string{id})
	check(fresh[:1], nil)
	check([]string{"/api/v2/users/search.json?query=external_id:just-1"}, []string{id})
	a.do("DELETE", "/api/v2/users/"+id, "").want(t, 200)
	check([]string{"/api/v2/users/search.json?external_id=just-2", fresh[1]}, nil)
	check(late, []string{id})
	a.clock.advance(10 * time.Minute)
	check(late, nil)
}

func TestUsersByRole(t *testing.T) {
	a := open(t, Config{})
	got := a.do("GET", "/api/v2/users.json?role%5B%5D=admin&role%5B%5D=agent", "").want(t, 200)
	if got.text("count") != "8" {
		t.Errorf("%s agents and administrators", got.text("count"))
	}
}

func TestWriteUsers(t *testing.T) {
	a := open(t, Config{})
	tests := []struct {
		name, method, path, body string
		status                   int
		key, want                string
	}{
		{"new", "POST", "/api/v2/users", `{"user":{"name":"A","email":"A@example.com","phone":"+1 513-555-9001"}}`, 201, "email", "a@example.com"},
		{"without a name", "POST", "/api/v2/users", `{"user":{"email":"b@example.com"}}`, 422, "", ""},
		{"address taken", "POST", "/api/v2/users", `{"user":{"name":"B","email":"maria.lopez@example.com"}}`, 422, "", ""},
		{"known by a number alone", "POST", "/api/v2/users", `{"user":{"name":"N","email":null,"external_id":null,"phone":"+1 513-555-9003"}}`, 201, "email", "<nil>"},
		{"no address", "POST", "/api/v2/users", `{"user":{"name":"B","email":"b"}}`, 422, "", ""},
		{"unknown role", "POST", "/api/v2/users", `{"user":{"name":"B","role":"boss"}}`, 422, "", ""},
		{"unknown organization", "POST", "/api/v2/users", `{"user":{"name":"B","organization_id":7}}`, 422, "", ""},
		{"known by address", "POST", "/api/v2/users/create_or_update", `{"user":{"name":"Maria L.","email":"maria.lopez@example.com"}}`, 200, "name", "Maria L."},
		{"known by external id", "POST", "/api/v2/users/create_or_update", `{"user":{"external_id":"CRM-2001","notes":"n"}}`, 200, "id", fmt.Sprint(Caller.ID)},
		{"not known", "POST", "/api/v2/users/create_or_update", `{"user":{"name":"C","external_id":"c-1"}}`, 201, "external_id", "c-1"},
		{"update", "PUT", fmt.Sprintf("/api/v2/users/%d", Caller.ID), `{"user":{"user_fields":{"plan":"basic","none":1}}}`, 200, "id", fmt.Sprint(Caller.ID)},
		{"update of nobody", "PUT", "/api/v2/users/7", `{"user":{}}`, 404, "", ""},
		{"another's address", "PUT", fmt.Sprintf("/api/v2/users/%d", Caller.ID), `{"user":{"email":"ella.fischer@example.com"}}`, 422, "", ""},
	}
	for _, test := range tests {
		got := a.do(test.method, test.path, test.body)
		if got.status != test.status || test.key != "" && got.text("user", test.key) != test.want {
			t.Errorf("%s: %d %s, want %d", test.name, got.status, got.raw, test.status)
		}
	}
	caller := a.do("GET", fmt.Sprintf("/api/v2/users/%d", Caller.ID), "")
	if diff := cmp.Diff(map[string]any{"crm_id": "2001", "plan": "basic", "vip": true}, caller.at("user", "user_fields")); diff != "" {
		t.Errorf("user_fields (-want +got):\n%s", diff)
	}
	if got := a.search("phone:*5135559001").text("count"); got != "1" {
		t.Errorf("the new number finds %s", got)
	}
}

func TestSeveralNumbersOfOnePerson(t *testing.T) {
	a := open(t, Config{})
	path := fmt.Sprintf("/api/v2/users/%d", Caller.ID)
	a.do("PUT", path, `{"user":{"phone":"+44 20 7946 0999"}}`).want(t, 200)
	got := a.do("GET", path+"/identities.json", "").want(t, 200)
	var values []string
	for i := range got.length("identities") {
		values = append(values, got.text("identities", i, "type")+" "+got.text("identities", i, "value")+" "+got.text("identities", i, "primary"))
	}
	want := []string{"email maria.lopez@example.com true", "phone_number +1 513-555-7611 true", "phone_number +44 20 7946 0999 false"}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
	for _, number := range []string{"*5135557611", "*2079460999"} {
		if diff := cmp.Diff(idsOf(Caller.ID), a.search("type:user phone:"+number).ids("results")); diff != "" {
			t.Errorf("phone:%s (-want +got):\n%s", number, diff)
		}
	}
}

func TestOrganizations(t *testing.T) {
	a := open(t, Config{})
	find := func(parameters string) []string {
		return a.do("GET", "/api/v2/organizations/search.json?"+parameters, "").want(t, 200).ids("organizations")
	}
	if diff := cmp.Diff(idsOf(CallerOrganization), find("name="+url.QueryEscape("harbor bakery"))); diff != "" {
		t.Errorf("by name (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(idsOf(CallerOrganization), find("external_id=CRM-ORG-1000")); diff != "" {
		t.Errorf("by external_id (-want +got):\n%s", diff)
	}
	if got := find("name=harbor"); got != nil {
		t.Errorf("by a part of the name: %v", got)
	}
	a.do("GET", "/api/v2/organizations/search", "").want(t, 400)

	tests := []struct {
		name, method, path, body string
		status                   int
	}{
		{"new", "POST", "", `{"organization":{"name":"Zeppelin","external_id":"z-1"}}`, 201},
		{"name taken", "POST", "", `{"organization":{"name":"ZEPPELIN"}}`, 422},
		{"without a name", "POST", "", `{"organization":{}}`, 422},
		{"known by external id", "POST", "/create_or_update", `{"organization":{"external_id":"z-1","notes":"n"}}`, 200},
		{"known by name", "POST", "/create_or_update", `{"organization":{"name":"Zeppelin","domain_names":null}}`, 200},
		{"not known", "POST", "/create_or_update", `{"organization":{"name":"Airship"}}`, 201},
		{"update", "PUT", fmt.Sprintf("/%d", CallerOrganization), `{"organization":{"organization_fields":{"tier":"bronze"}}}`, 200},
		{"wrong type", "PUT", fmt.Sprintf("/%d", CallerOrganization), `{"organization":{"domain_names":7,"notes":["x"]}}`, 200},
		{"wrong value", "PUT", fmt.Sprintf("/%d", CallerOrganization), `{"organization":{"organization_fields":{"tier":"tin"}}}`, 422},
		{"another's external id", "PUT", fmt.Sprintf("/%d", CallerOrganization), `{"organization":{"external_id":"Z-1"}}`, 422},
		{"update of none", "PUT", "/7", `{"organization":{}}`, 404},
	}
	for _, test := range tests {
		if got := a.do(test.method, "/api/v2/organizations"+test.path, test.body); got.status != test.status {
			t.Errorf("%s: %d %s, want %d", test.name, got.status, got.raw, test.status)
		}
	}
	if got := a.search("tier:bronze notes:before type:organization").ids("results"); !cmp.Equal(got, idsOf(CallerOrganization)) {
		t.Errorf("the updated organization is not found: %v", got)
	}
}

func TestListPages(t *testing.T) {
	a := open(t, Config{})
	tests := []struct {
		name, parameters string
		status           int
		length           int
	}{
		{"default", "", 200, 100},
		{"small", "per_page=3&page=2", 200, 3},
		{"above the maximum", "per_page=1000", 200, 100},
		{"nonsense", "per_page=-1&page=x", 200, 100},
		{"behind the end", "page=99", 200, 0},
		{"beyond 10,000", "page=101", 400, 0},
		{"cursor", "page[size]=5", 200, 5},
		{"cursor too large", "page[size]=101", 400, 0},
		{"cursor that is none", "page[size]=5&page[after]=x", 400, 0},
		{"cursor before that is none", "page[size]=5&page[before]=x", 400, 0},
	}
	for _, test := range tests {
		got := a.do("GET", "/api/v2/users.json?"+test.parameters, "")
		if got.status != test.status || got.length("users") != test.length {
			t.Errorf("%s: %d, %d users, want %d, %d", test.name, got.status, got.length("users"), test.status, test.length)
		}
	}
	first := a.do("GET", "/api/v2/users.json?page[size]=5", "")
	second := a.do("GET", strings.TrimPrefix(first.text("links", "next"), a.Origin()), "").want(t, 200)
	back := a.do("GET", strings.TrimPrefix(second.text("links", "prev"), a.Origin()), "").want(t, 200)
	if diff := cmp.Diff(first.ids("users"), back.ids("users")); diff != "" {
		t.Errorf("forth and back (-want +got):\n%s", diff)
	}
	if first.at("links", "prev") != nil || cmp.Equal(first.ids("users"), second.ids("users")) {
		t.Errorf("first page %v, second %v", first.at("links"), second.ids("users"))
	}
}

func TestShowMany(t *testing.T) {
	a := open(t, Config{})
	for path, want := range map[string][]string{
		fmt.Sprintf("users/show_many.json?ids=%d,7,%d,x", Agent.ID, Caller.ID):          {fmt.Sprint(Agent.ID), fmt.Sprint(Caller.ID)},
		"users/show_many?external_ids=CRM-2001,nobody":                                  idsOf(Caller.ID),
		fmt.Sprintf("organizations/show_many?ids=%d,%d", CallerOrganization, Caller.ID): idsOf(CallerOrganization),
		"organizations/show_many?external_ids=crm-org-1000":                             idsOf(CallerOrganization),
	} {
		resource, _, _ := strings.Cut(path, "/")
		if diff := cmp.Diff(want, a.do("GET", "/api/v2/"+path, "").want(t, 200).ids(resource)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	a.do("GET", "/api/v2/users/show_many", "").want(t, 400)
	if got := a.do("GET", "/api/v2/users/show_many?ids="+strings.Repeat("1,", 100)+"2", "").want(t, 400); got.text("error") != "TooManyValues" || got.text("max_count") != "100" {
		t.Errorf("too many: %s", got.raw)
	}
}
