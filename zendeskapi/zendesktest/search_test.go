package zendesktest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func idsOf(ids ...int64) []string {
	var list []string
	for _, id := range ids {
		list = append(list, fmt.Sprint(id))
	}
	slices.Sort(list)
	return list
}

func TestSearchLanguage(t *testing.T) {
	a := open(t, Config{})
	solved, terminal, second := CallerTickets[0], CallerTickets[1], CallerTickets[2]
	hers := "requester:maria.lopez@example.com "
	tests := []struct {
		query string
		want  []string
	}{
		// The phone rule: digits only, behind a wildcard.
		{"type:user phone:*5135557611", idsOf(Caller.ID)},
		{"phone:*5135557612", idsOf(PhoneFormats[0].ID, PhoneFormats[1].ID)},
		{"phone:5135557612", idsOf(PhoneFormats[1].ID)},
		{"phone:+15135557611", idsOf()},
		{"phone:*513-555-7611", idsOf()},
		{`phone:"*5135557611"`, idsOf()},
		{"phone:*2079460958", idsOf(PhoneFormats[3].ID)},
		{"phone:*5135557645", idsOf(PhoneFormats[6].ID)},
		{"phone:*5135557656", idsOf(PhoneFormats[7].ID)},

		// Words, phrases, wildcards, accents.
		{"type:user maria lopez", idsOf(Caller.ID)},
		{"MARIA LÓPEZ", idsOf(Caller.ID)},
		{"type:user lopez maria", idsOf(Caller.ID)},
		{`type:user "lopez maria"`, idsOf()},
		{"type:user mari* lop*", idsOf(Caller.ID)},
		{"type:user mari", idsOf()},
		{"name:maria type:user", idsOf(Caller.ID)},
		{`type:user name:"Maria Lopez"`, idsOf(Caller.ID)},
		{"type:user joe+vip@acme.com", idsOf()},
		{"maria.lopez@example.com", idsOf(Caller.ID)},
		{"email:MARIA.lopez@example.com", idsOf(Caller.ID)},
		{"email:maria.lopez", idsOf()},
		{"email:maria.lopez*", idsOf(Caller.ID)},
		{`email:maria.lopez@example.com "bakery"`, idsOf(Caller.ID)},

		// Keywords of people and organizations.
		{"type:user external_id:CRM-2001", idsOf(Caller.ID)},
		{"type:organization name:harbor", idsOf(CallerOrganization)},
		{"type:organization external_id:crm-org-1000", idsOf(CallerOrganization)},
		{`type:user organization:"Harbor Bakery" tags:bakery`, idsOf(Caller.ID)},
		{"crm_id:2001", idsOf(Caller.ID)},
		{"role:admin", idsOf(Admin.ID)},
		{fmt.Sprintf("type:user id:%d", Precise.ID), idsOf(Precise.ID)},

		// Tickets, comparisons, negation, alternatives.
		{"type:ticket " + hers + "status<solved", idsOf(terminal, second)},
		{"type:ticket " + hers + "status>=solved", idsOf(solved)},
		{"type:ticket " + hers + "-status:open", idsOf(solved)},
		{"type:ticket " + hers + "status:solved status:open", idsOf(solved, terminal, second)},
		{"type:ticket " + hers + "priority>normal", idsOf(terminal)},
		{"type:ticket " + hers + "ticket_type:incident", idsOf(terminal)},
		{"type:ticket " + hers + "subject:terminal", idsOf(terminal)},
		{"type:ticket " + hers + "description:connection", idsOf(terminal)},
		{"type:ticket " + hers + "comment:technician", idsOf(terminal)},
		{"type:ticket " + hers + "technician", idsOf(terminal)},
		{"type:ticket " + hers + "tags:router", idsOf(terminal)},
		{"type:ticket " + hers + "tags:router tags:sales", idsOf(terminal, second)},
		{"type:ticket " + hers + "-tags:sales", idsOf(solved, terminal)},
		{"type:ticket " + hers + "external_id:none", idsOf(solved, terminal)},
		{"type:ticket external_id:crm-case-77", idsOf(second)},
		{"type:ticket requester:*5135557611 status<solved", idsOf(terminal, second)},
		{`type:ticket requester:"Maria Lopez" status:solved`, idsOf(solved)},
		{"type:ticket " + hers + `assignee:"Priya Nair"`, idsOf(second)},
		{"type:ticket " + hers + "group:support created>3days", idsOf(terminal, second)},
		{"type:ticket " + hers + "created>4days created<2days", idsOf(terminal)},
		{"type:ticket " + hers + "created:2026-11-23", idsOf(second)},
		{"type:ticket " + hers + "created:yesterday", idsOf(second)},
		{"type:ticket " + hers + "created>2026-11-22T00:00:00Z", idsOf(second)},
		{"type:ticket " + hers + "solved:none", idsOf(terminal, second)},
		{"type:ticket requester:" + fmt.Sprint(Caller.ID) + " order_by:created", idsOf(solved, terminal, second)},
		{fmt.Sprintf("%scustom_field_%d:information_given", hers, DispositionField), idsOf(solved)},
		{fmt.Sprintf("%scustom_field_%d>100", hers, TalkTimeField), idsOf(solved)},
		{fmt.Sprintf("%scustom_field_%d<100", hers, TalkTimeField), idsOf()},
		{fmt.Sprintf("%scustom_field_%d:true", hers, CallbackField), idsOf(terminal)},
		{fmt.Sprintf("%scustom_field_%d:router", hers, ProductsField), idsOf(terminal)},
		{fmt.Sprintf("%s-custom_field_%d:router", hers, ProductsField), idsOf(solved, second)},
		{fmt.Sprintf("%scustom_field_%d:*", hers, LanguageField), idsOf(second)},

		// What a value must not turn into.
		{`1" type:ticket status:open OR x:y`, idsOf()},
		{"status:open phone:*5135557611", idsOf()},
		{"type:article maria", idsOf()},
		{"created>whenever", idsOf()},
	}
	for _, test := range tests {
		got := a.search(test.query).want(t, 200)
		ids := got.ids("results")
		slices.Sort(ids)
		if diff := cmp.Diff(test.want, ids); diff != "" {
			t.Errorf("search %s (-want +got):\n%s", test.query, diff)
		}
		if got.text("count") != fmt.Sprint(len(test.want)) {
			t.Errorf("search %s: count %s, want %d", test.query, got.text("count"), len(test.want))
		}
		if count := a.do("GET", "/api/v2/search/count.json?query="+url.QueryEscape(test.query), ""); count.text("count") != got.text("count") {
			t.Errorf("search %s: search/count says %s, search %s", test.query, count.text("count"), got.text("count"))
		}
	}
}

// TestKeywords compares the keywords search knows with those that records have.
func TestKeywords(t *testing.T) {
	a := open(t, Config{})
	used := map[string]bool{"type": true} // decided for all records of a kind at once
	note := func(d *document) {
		for keyword := range d.properties {
			if !strings.HasPrefix(keyword, customKeyword) {
				used[keyword] = true
			}
		}
	}
	for v := range a.tickets.at(a.now()) {
		note(v.index())
	}
	for v := range a.users.at(a.now()) {
		note(v.index())
	}
	for v := range a.organizations.at(a.now()) {
		note(v.index())
	}
	for v := range a.groups.at(a.now()) {
		note(v.index())
	}
	for _, f := range userFields {
		delete(used, f.key)
	}
	if diff := cmp.Diff(used, keywords); diff != "" {
		t.Errorf("(-of records +known):\n%s", diff)
	}
}

func TestSearchMe(t *testing.T) {
	a := open(t, Config{})
	got := a.do("GET", "/api/v2/search.json?query="+url.QueryEscape("type:ticket requester:maria.lopez@example.com assignee:me"), "", person(OtherAgent))
	if diff := cmp.Diff(idsOf(CallerTickets[2]), got.ids("results")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSearchResultTypes(t *testing.T) {
	a := open(t, Config{})
	for _, kind := range []string{"ticket", "user", "organization", "group"} {
		got := a.search("type:"+kind, "per_page=1").want(t, 200)
		if got.text("results", 0, "result_type") != kind {
			t.Errorf("type:%s gives result_type %s", kind, got.text("results", 0, "result_type"))
		}
	}
}

func TestSearchOrder(t *testing.T) {
	a := open(t, Config{})
	hers := "type:ticket requester:maria.lopez@example.com"
	solved, terminal, second := fmt.Sprint(CallerTickets[0]), fmt.Sprint(CallerTickets[1]), fmt.Sprint(CallerTickets[2])
	tests := []struct {
		query, parameters string
		want              []string
	}{
		{hers, "", []string{second, terminal, solved}},
		{hers, "sort_by=created_at", []string{second, terminal, solved}},
		{hers, "sort_by=created_at&sort_order=asc", []string{solved, terminal, second}},
		{hers + " order_by:created sort:asc", "", []string{solved, terminal, second}},
		{hers, "sort_by=priority", []string{terminal, solved, second}},
		{hers, "sort_by=status&sort_order=asc", []string{terminal, second, solved}},
		{hers, "sort_by=ticket_type&sort_order=asc", []string{terminal, solved, second}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, a.search(test.query, test.parameters).ids("results")); diff != "" {
			t.Errorf("search %s, %s (-want +got):\n%s", test.query, test.parameters, diff)
		}
	}
}

func TestSearchPages(t *testing.T) {
	a := open(t, Config{})
	seen := map[string]bool{}
	path := "/api/v2/search.json?query=type%3Auser&per_page=100"
	pages := 0
	for path != "<nil>" {
		got := a.do("GET", strings.TrimPrefix(path, a.Origin()), "").want(t, 200)
		for _, id := range got.ids("results") {
			if seen[id] {
				t.Errorf("%s is on two pages", id)
			}
			seen[id] = true
		}
		pages++
		if (got.at("previous_page") == nil) != (pages == 1) {
			t.Errorf("page %d: previous_page is %v", pages, got.at("previous_page"))
		}
		if path = got.text("next_page"); path != "<nil>" && !strings.HasPrefix(path, a.Origin()+"/api/v2/search.json?") {
			t.Fatalf("next_page %q is not an absolute address of the search", path)
		}
		if got.text("count") != fmt.Sprint(len(seen)) && path == "<nil>" {
			t.Errorf("count %s, but %d results on all pages", got.text("count"), len(seen))
		}
	}
	if want := (len(seen) + 99) / 100; pages != want {
		t.Errorf("%d pages, want %d", pages, want)
	}
}

func TestSearchLimits(t *testing.T) {
	a := open(t, Config{})
	tests := []struct {
		name, parameters string
		status           int
	}{
		{"the last page within the cap", "query=type:ticket&page=10&per_page=100", 200},
		{"the first page beyond the cap", "query=type:ticket&page=11&per_page=100", 422},
		{"a page that crosses the cap", "query=type:ticket&page=34&per_page=30", 422},
		{"small pages beyond the cap", "query=type:ticket&page=101&per_page=10", 422},
		{"per_page above the maximum", "query=type:ticket&per_page=500&page=11", 422},
		{"cursor pagination", "query=type:ticket&page[size]=10", 400},
		{"no query", "per_page=1", 400},
		{"an empty query", "query=%20", 422},
	}
	for _, test := range tests {
		if got := a.do("GET", "/api/v2/search.json?"+test.parameters, ""); got.status != test.status {
			t.Errorf("%s: %d %.200s, want %d", test.name, got.status, got.raw, test.status)
		}
	}
	capped := a.search("type:ticket", "page=11&per_page=100")
	if capped.text("error") != "invalid" {
		t.Errorf("the cap's error is %s", capped.raw)
	}
	if got := a.search("type:ticket", "per_page=100"); got.length("results") != 100 || got.text("count") != fmt.Sprint(seededTickets+4) {
		t.Errorf("%d results, count %s", got.length("results"), got.text("count"))
	}
	last := a.search("type:ticket", "page=10&per_page=100")
	if last.length("results") != 100 || last.at("next_page") == nil {
		t.Errorf("page 10 has %d results and next_page %v; there are more than the cap", last.length("results"), last.at("next_page"))
	}
}

func TestSearchExport(t *testing.T) {
	a := open(t, Config{})
	seen := map[string]bool{}
	path := "/api/v2/search/export.json?query=status%3Aclosed&filter%5Btype%5D=ticket&page%5Bsize%5D=200"
	for path != "<nil>" {
		got := a.do("GET", strings.TrimPrefix(path, a.Origin()), "").want(t, 200)
		for _, id := range got.ids("results") {
			if seen[id] {
				t.Errorf("%s is exported twice", id)
			}
			seen[id] = true
		}
		path = got.text("links", "next")
		if got.text("meta", "has_more") != fmt.Sprint(path != "<nil>") {
			t.Errorf("has_more %s, next %s", got.text("meta", "has_more"), path)
		}
	}
	if want := a.search("type:ticket status:closed").text("count"); want != fmt.Sprint(len(seen)) {
		t.Errorf("%d exported, %s found", len(seen), want)
	}
	first := a.do("GET", "/api/v2/search/export?query=role:end-user&filter[type]=user&page[size]=1", "")
	next := strings.TrimPrefix(first.text("links", "next"), a.Origin())
	a.do("GET", next, "").want(t, 200)
	a.clock.advance(exportCursorLife + time.Second)
	a.do("GET", next, "").want(t, 400)
	a.do("GET", "/api/v2/search/export?query=x", "").want(t, 400)
}

func TestIndexLag(t *testing.T) {
	a := open(t, Config{IndexLag: 2 * time.Minute})
	created := a.do("POST", "/api/v2/tickets.json", `{"ticket":{"subject":"zanzibar","comment":{"body":"x"}}}`).want(t, 201)
	id := created.text("ticket", "id")
	a.do("GET", "/api/v2/tickets/"+id+".json", "").want(t, 200)
	if got := a.search("zanzibar").text("count"); got != "0" {
		t.Errorf("found %s at once", got)
	}
	a.clock.advance(2 * time.Minute)
	if got := a.search("zanzibar").text("count"); got != "1" {
		t.Errorf("found %s after the lag", got)
	}
	a.do("PUT", "/api/v2/tickets/"+id, `{"ticket":{"subject":"timbuktu"}}`).want(t, 200)
	a.clock.advance(time.Minute)
	a.do("PUT", "/api/v2/tickets/"+id, `{"ticket":{"subject":"samarkand"}}`).want(t, 200)
	for range 2 { // one change is indexed after the other
		stale := a.search("type:ticket id:" + id)
		if got := stale.text("results", 0, "subject"); got == "samarkand" {
			t.Errorf("search sees %s too early", got)
		}
		a.clock.advance(time.Minute)
	}
	if got := a.search("samarkand").text("count"); got != "1" {
		t.Errorf("found %s after the lag", got)
	}
}

func BenchmarkSearch(b *testing.B) {
	a := open(b, Config{})
	for _, query := range []string{"type:user phone:*5135557611", "type:ticket requester:maria.lopez@example.com status<solved", "router"} {
		b.Run(query, func(b *testing.B) {
			for b.Loop() {
				a.search(query, "per_page=25").want(b, 200)
			}
		})
	}
}
