package zendesktest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseQuery(t *testing.T) {
	tests := []struct {
		in   string
		want query
	}{
		{"", query{}},
		{"  -  \t", query{}},
		{"maria", query{terms: []term{{value: "maria"}}}},
		{`"maria lopez" x`, query{terms: []term{{value: "maria lopez", quoted: true}, {value: "x"}}}},
		{"type:user phone:*5135557611", query{terms: []term{
			{keyword: "type", op: ":", value: "user"}, {keyword: "phone", op: ":", value: "*5135557611"},
		}}},
		{"status<=solved created>=2026-01-01", query{terms: []term{
			{keyword: "status", op: "<=", value: "solved"}, {keyword: "created", op: ">=", value: "2026-01-01"},
		}}},
		{`-Tags:vip -"x y"`, query{terms: []term{
			{keyword: "tags", op: ":", value: "vip", negated: true}, {value: "x y", quoted: true, negated: true},
		}}},
		{`subject:"a:b`, query{terms: []term{{keyword: "subject", op: ":", value: "a:b", quoted: true}}}},
		{"joe+vip@acme.com 12:30", query{terms: []term{{value: "joe+vip@acme.com"}, {value: "12:30"}}}},
		{"custom_field_45:x order_by:created sort:ASC", query{
			terms: []term{{keyword: "custom_field_45", op: ":", value: "x"}}, orderBy: "created", sort: "asc",
		}},
		{`a"b c"`, query{terms: []term{{value: `a"b`}, {value: `c"`}}}},
	}
	for _, test := range tests {
		got := parseQuery(test.in)
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(query{}, term{}), cmpopts.IgnoreFields(term{}, "folded", "words")); diff != "" {
			t.Errorf("parseQuery(%q) (-want +got):\n%s", test.in, diff)
		}
	}
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"*5135557611", "15135557611", true},
		{"*5135557611", "5135557611", true},
		{"*5135557611", "51355576112", false},
		{"pri*", "printer", true},
		{"p*t*r", "printer", true},
		{"p*x*r", "printer", false},
		{"*", "", true},
		{"a*a", "a", false},
		{"abc", "abc", true},
		{"", "a", false},
	}
	for _, test := range tests {
		if got := glob(test.pattern, test.s); got != test.want {
			t.Errorf("glob(%q, %q) = %v", test.pattern, test.s, got)
		}
	}
}

func TestWords(t *testing.T) {
	got := words("José O'Brien, joe+vip@acme.com: foo_bar №5 李小龙")
	want := []string{"jose", "o", "brien", "joe", "vip", "acme", "com", "foo_bar", "5", "李小龙"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("words (-want +got):\n%s", diff)
	}
}

// FuzzSearch looks for queries that break the parser or the search.
func FuzzSearch(f *testing.F) {
	for _, seed := range []string{
		"type:user phone:*5135557611", `1" type:ticket status:open OR x:y`, "created>4hours -tags:none", `"`, "-", ":", "a:b:c",
		"created>99999999999999999999years", "custom_field_45900000002106>1e999999999", "name:*** \x00\xff", "order_by: sort:",
	} {
		f.Add(seed)
	}
	opened := open(f, Config{})
	f.Fuzz(func(t *testing.T, in string) {
		a := &account{opened.Zendesk, t, opened.clock}
		q := parseQuery(in)
		for _, term := range q.terms {
			if term.keyword == "" && len(term.words) == 0 {
				t.Errorf("parseQuery(%q) has the empty term %+v", in, term)
			}
		}
		got := a.search(in)
		if got.status != 200 && got.status != 422 {
			t.Errorf("search(%q) answered %d %s", in, got.status, got.raw)
		}
	})
}
