package variables_test

import (
	"errors"
	"flag"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/server/variables"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

func TestExpandSearchString(t *testing.T) {
	vars := values{
		"a": "x y", "b": "z", "word": "word", "attack": `1" type:ticket status:open OR x:y`,
		"minus": "-status:open", "dash": "-5", "dashes": "\u2212\u2014 - -x", "and": "foo AND bar", "or": "oR", "not": "NOT", "o": "O", "r": "R",
		"mail": "joe+vip@acme.com", "inner": "mary-ann_o.x", "apostrophe": "O'Brien", "parens": "(a)", "slash": `a\b\"c`,
		"curly": "\u201cx\u201d", "guillemets": "\u00abx\u00bb", "stars": "*x*", "compare": "x<y>z", "wide": "\uff02x\uff0a\uff1cy\uff1a\uff3cz",
		"nbsp": "x\u00a0\u2028\u3000\ty", "invisible": "\u200b-\ufeffx\u202e\x00\x1b\u00ad", "broken": "x\xff\xed\xa0\x80y",
		"time": "10:30", "date": "2026-11-24T10:30:00+01:00", "id": "360001", "type": "type", "nested": "$(b)",
		"persian": "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627", "joined": "\u200d-status\u200d:open\u200c", "family": "\U0001f468\u200d\U0001f469 Lee", "boolean": "O\u200dR",
		"colon": ":0", "query": `status:open "a b`, "ani": "+1 513 555 7611", "short": "12-34", "padded": "  x\n",
	}
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"type:user  email:joe@acme.com\n", "type:user  email:joe@acme.com\n"},
		{"subject:$(a)-$(b)", `subject:"x y-z"`},
		{"$(b)", "z"},
		{"$(a)", `"x y"`},
		{"-$(a)", `-"x y"`},
		{"-subject:$(a) $(b)", `-subject:"x y" z`},
		{"name:$(b)$(a)*", `name:"zx y*"`},
		{"subject:pre$(a)post type:user", `subject:"prex ypost" type:user`},
		{"name:$(attack)", `name:"1 type:ticket status:open OR x:y"`},
		{"$(minus)", `"status:open"`},
		{"-$(minus)", `-"status:open"`},
		{"$(dashes)", "x"},
		{"x$(dash)", "x5"},
		{"$(and)", `"foo AND bar"`},
		{"x $(or) y", `x "oR" y`},
		{"-$(not)", `-"NOT"`},
		{"x $(o)$(r) y", `x "OR" y`},
		{"x O$(r)", `x "OR"`},
		{"name:$(or)", "name:oR"},
		{"x OR $(b)", "x OR z"},
		{"email:$(mail)", "email:joe+vip@acme.com"},
		{"$(inner)", "mary-ann_o.x"},
		{"name:$(apostrophe)", "name:O'Brien"},
		{"$(parens)", "(a)"},
		{"$(slash)", "abc"},
		{"$(curly)$(guillemets)", "xx"},
		{"name:$(stars)", "name:x"},
		{"name:$(stars)*", "name:x*"},
		{"$(compare)", "xyz"},
		{"$(wide)", "\"xy\uff1az\""},
		{"$(nbsp)", `"x y"`},
		{"$(invisible)", "x"},
		{"name:$(persian)", "name:\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"},
		{"$(joined)", `"status:open"`},
		{"name:$(family)", "name:\"\U0001f468\u200d\U0001f469 Lee\""},
		{"x $(boolean) y", "x \"O\u200dR\" y"},
		{"$(broken)", "xy"},
		{"$(padded)", "x"},
		{"$(nested)", "$(b)"},
		{"at:$(time)", `at:"10:30"`},
		// Quotes of the template.
		{`subject:"$(a) $(time)"`, `subject:"x y 10:30"`},
		{`"$(attack)"`, `"1 type:ticket status:open OR x:y"`},
		{`"$(or)"`, `"oR"`},
		{"\u201c$(a)\u201d", `"x y"`},
		{`subject:"x $(b)`, `subject:"x z"`},
		{`19" screen`, `19" screen`},
		{`"x"$(b)`, `"x"z`},
		{`subject:"x"$(a)`, `subject:"xx y"`},
		{`subject:x\$(a)\`, `subject:"xx y"`},
		{`"a b" $(a)`, `"a b" "x y"`},
		// After < and >.
		{"created>$(date)", "created>2026-11-24T10:30:00+01:00"},
		{"created>=$(date)", "created>=2026-11-24T10:30:00+01:00"},
		{"custom_field_1<$(dash)", "custom_field_1<-5"},
		{"created>$(curly)", "created>x"},
		{"created>10$(colon)", "created>10:0"},
		{`created>"$(time)"`, `created>"10:30"`},
		{`subject:"x > $(a)"`, `subject:"x > x y"`},
		{`created>1 $(a)`, `created>1 "x y"`},
		// Values in and before keywords.
		{"custom_field_$(id):$(a)", `custom_field_360001:"x y"`},
		{"$(type):ticket", `"type:ticket"`},
		{"-$(type):ticket", `-"type:ticket"`},
		{"$(type)>$(b)", `"type>z"`},
		{`"$(type)":$(b)`, `"type:z"`},
		{":$(a)", `:"x y"`},
		{"subject:a:$(b)", "subject:a:z"},
		{"subject:a:$(a)", `subject:"a:x y"`},
		// Parameters.
		{"phone:$(ani,phone)", "phone:*5135557611"},
		{"phone:*$(ani,phone)", "phone:*5135557611"},
		{`phone:"*$(ani,phone)"`, `phone:"*5135557611"`},
		{"phone:*$(short,phone)", "phone:*1234"},
		{"$(ani)", `"+1 513 555 7611"`},
		{"name:$(a)$(ani,phone)", `name:"x y*5135557611"`},
		{"$(query,raw)", `status:open "a b`},
		{"$(query,raw) $(a)", `status:open "a b x y"`},
		{"$(minus,raw)", "-status:open"},
		{"$(slash,escapejson)", "abc"},
		{"=$(a) OR", "=$(a) OR"},
	} {
		got, err := parse(t, c.text).Expand(variables.SearchString, vars.lookup, "", limit)
		if got != c.want || err != nil {
			t.Errorf("%q became %q, %v, want %q", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{
		"created>$(a)", "created>$(colon)", "created>=$(colon)", "created<$(b)$(apostrophe)", "created>=$(inner)", "created>$(mail)", "created>$(ani,phone)", `created>"$(a)"`, ">$(a)",
		"custom_field_$(a):x", "custom_field_$(time)>x", "x$(ani,phone):y",
	} {
		got, err := parse(t, text).Expand(variables.SearchString, vars.lookup, "", limit)
		if _, ok := errors.AsType[*variables.CharacterError](err); !ok || got != "" {
			t.Errorf("%q became %q, error %v, want a CharacterError", text, got, err)
		}
	}
}

// term is one term of a query as Zendesk reads it, without what it searches for.
type term struct {
	negated  bool
	keyword  string
	operator string
	boolean  string // OR, AND or NOT, standing alone
	stars    int    // wildcards outside quotes
}

// terms reads a query as Zendesk's search reference describes it. It shares nothing with the package, and takes the worst
// view of each character: look-alikes of quotes, spaces and operators count as the real ones.
func terms(query string) []term {
	query = strings.NewReplacer("\u201c", `"`, "\u201d", `"`, "\uff02", `"`, "\uff1a", ":", "\uff1c", "<", "\uff1e", ">", "\uff0a", "*", "\uff0d", "-",
		"\u2212", "-", "\u200b", " ", "\ufeff", " ", "\u200c", "", "\u200d", "").Replace(query)
	var all []term
	var words []string // with quoted text as one letter q
	var word strings.Builder
	inQuotes := false
	for _, r := range query {
		switch {
		case r == '"':
			inQuotes = !inQuotes
			if inQuotes {
				word.WriteByte('q')
			}
		case inQuotes:
		case unicode.IsSpace(r) || unicode.IsControl(r):
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteRune(r)
		}
	}
	for _, w := range append(words, word.String()) {
		if w == "" {
			continue
		}
		var one term
		w, one.negated = strings.CutPrefix(w, "-")
		one.stars = strings.Count(w, "*")
		if i := strings.IndexAny(w, ":<>"); i >= 0 {
			end := len(w) - len(strings.TrimLeft(w[i:], ":<>"))
			if w[end-1] != ':' && strings.HasPrefix(w[end:], "=") {
				end++
			}
			one.keyword, one.operator = w[:i], w[i:end]
		} else if upper := strings.ToUpper(w); upper == "OR" || upper == "AND" || upper == "NOT" {
			one.boolean = upper
		}
		all = append(all, one)
	}
	if inQuotes {
		return append(all, term{keyword: "unbalanced quotes"})
	}
	return all
}

func TestTerms(t *testing.T) {
	got := terms(`-type:user "a b":x  OR created>="1 2"3 * q` + "\u00a0\u201cx: y\u201d")
	want := []term{
		{negated: true, keyword: "type", operator: ":"}, {keyword: "q", operator: ":"}, {boolean: "OR"}, {keyword: "created", operator: ">="}, {stars: 1}, {}, {},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(term{})); diff != "" {
		t.Error(diff)
	}
}

// searchTemplates with the terms that they must have for any values of a and b.
var searchTemplates = []struct {
	text string
	want []term
}{
	{`$(a)`, []term{{}}},
	{`-$(a)`, []term{{negated: true}}},
	{`$(a)$(b)`, []term{{}}},
	{`$(a) $(b)`, []term{{}, {}}},
	{`O$(a)`, []term{{}}},
	{`$(a)-$(b)`, []term{{}}},
	{`$(a):x`, []term{{}}},
	{`$(a):$(b)`, []term{{}}},
	{`-$(a)>$(b)`, []term{{negated: true}}},
	{`"$(a)":$(b)`, []term{{}}},
	{`x$(a)`, []term{{}}},
	{`type:user name:$(a)`, []term{{keyword: "type", operator: ":"}, {keyword: "name", operator: ":"}}},
	{`name:$(a)$(b) OR -tags:$(b)`, []term{{keyword: "name", operator: ":"}, {boolean: "OR"}, {negated: true, keyword: "tags", operator: ":"}}},
	{`subject:"$(a) - $(b)" x`, []term{{keyword: "subject", operator: ":"}, {}}},
	{`subject:"$(a)`, []term{{keyword: "subject", operator: ":"}}},
	{`subject:"x"$(a)`, []term{{keyword: "subject", operator: ":"}}},
	{"subject:\u201c$(a)\u201d", []term{{keyword: "subject", operator: ":"}}},
	{`subject:$(a)"x $(b)"`, []term{{keyword: "subject", operator: ":"}}},
	{`subject:x:$(a) y`, []term{{keyword: "subject", operator: ":"}, {}}},
	{"\u00a0$(a)\u3000x:$(b)", []term{{}, {keyword: "x", operator: ":"}}},
	{`created>$(a) name:$(b)`, []term{{keyword: "created", operator: ">"}, {keyword: "name", operator: ":"}}},
	{`created<=$(a)T$(b)Z`, []term{{keyword: "created", operator: "<="}}},
	{`$(a,escapejson) name:$(b,EscapeJSON)`, []term{{}, {keyword: "name", operator: ":"}}},
}

// fataler is a testing.TB or a *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkTerms expands a template and reads the result. Only typed errors are allowed.
func checkTerms(t fataler, text string, want []term, a, b string) {
	t.Helper()
	tmpl, err := variables.Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	got, err := tmpl.Expand(variables.SearchString, values{"a": a, "b": b}.lookup, "US", limit)
	if err != nil {
		_, empty := errors.AsType[*variables.EmptyError](err)
		_, character := errors.AsType[*variables.CharacterError](err)
		if !empty && !character && !isTooLong(err) {
			t.Fatalf("%q with %q and %q: %v", text, a, b, err)
		}
		return
	}
	if !utf8.ValidString(got) || strings.Contains(got, `\`) {
		t.Fatalf("%q with %q and %q became %q", text, a, b, got)
	}
	read := terms(got)
	if !reflect.DeepEqual(want, read) {
		t.Fatalf("%q with %q and %q became %q\n%s", text, a, b, got, cmp.Diff(want, read, cmp.AllowUnexported(term{})))
	}
}

func TestValuesNeverBecomeSyntax(t *testing.T) {
	bits := []string{
		`"`, "\u201c", "\u201d", "\uff02", "'", `\`, "*", "<", ">", ">=", "=", ":", "\uff1a", "-", "--", "\u2212", "\uff0d", "(", ")", "+", "@", ".", "_", "|", "&&", "!",
		" ", "\u00a0", "\u200b", "\u200c", "\u200d", "\u2028", "\u3000", "\ufeff", "\t", "\n", "\x00", "\x85", "\u0085", "\xff", "\xed\xa0\x80", "\u202e", "\ufffd",
		"OR", "or", "AND", "NOT", "R", "status", "type:ticket", "open", "x", "y", "1", "é", "名", "$(a)", "2026-11-24",
	}
	value := rapid.OneOf(
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom(bits), 0, 6), func(s []string) string { return strings.Join(s, "") }),
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return string(b) }),
	)
	rapid.Check(t, func(rt *rapid.T) {
		a, b := value.Draw(rt, "a"), value.Draw(rt, "b")
		for _, c := range searchTemplates {
			checkTerms(rt, c.text, c.want, a, b)
		}
	})
}

func TestSearchTemplatesExpand(t *testing.T) {
	for _, c := range searchTemplates {
		got, err := parse(t, c.text).Expand(variables.SearchString, values{"a": "v", "b": "w"}.lookup, "", limit)
		if err != nil || !strings.Contains(got, "v") && !strings.Contains(got, "w") {
			t.Errorf("%q became %q, %v", c.text, got, err)
		}
		checkTerms(t, c.text, c.want, "v", "w")
	}
}

func FuzzExpand(f *testing.F) {
	for _, value := range []string{`1" type:ticket status:open OR x:y`, "-status:open", "+1 513 555 7611", "\xff\u201c", "", "(", "x:y", "OR"} {
		f.Add("type:$(a) $(b)", value, "x", "US")
		f.Add(`created>$(a,phone) "$(b,raw)`, "1", value, "")
		f.Add(`$(a):x -"$(a`, value, value, "ZZ")
	}
	f.Fuzz(func(t *testing.T, text, a, b, region string) {
		for _, c := range searchTemplates {
			checkTerms(t, c.text, c.want, a, b)
		}
		tmpl, err := variables.Parse(text)
		if err != nil {
			return
		}
		for _, place := range []variables.Place{variables.Text, variables.SearchString, variables.ID} {
			got, err := tmpl.Expand(place, values{"a": a, "b": b}.lookup, region, limit)
			if err != nil && got != "" || len(got) > limit {
				t.Errorf("%q became %q, %v", text, got, err)
			}
		}
	})
}

func BenchmarkExpand(b *testing.B) {
	tmpl := parse(b, `type:ticket status<solved requester:$(ani,phone) subject:"$(topic)" tags:$(tag)-$(tag2)`)
	vars := values{"ani": "+1 513 555 7611", "topic": "late delivery", "tag": "vip", "tag2": "gold card"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tmpl.Expand(variables.SearchString, vars.lookup, "US", limit); err != nil {
			b.Fatal(err)
		}
	}
}
