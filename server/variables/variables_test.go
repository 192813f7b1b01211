package variables_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/server/variables"
)

func Example() {
	t, err := variables.Parse(`type:ticket requester:*$(ani,phone) subject:$(topic)`)
	if err != nil {
		fmt.Println(err)
		return
	}
	values := map[string]string{"ani": "+1 (513) 555-7611", "topic": `late" OR type:user`}
	lookup := func(name string) (string, bool) { value, ok := values[name]; return value, ok }
	query, err := t.Expand(variables.SearchString, lookup, "US", limit)
	fmt.Println(query, err)
	// Output: type:ticket requester:*5135557611 subject:"late OR type:user" <nil>
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"$(", "a $(b", "$(a,phone", "$(a) $(b", "$(a$(b))", "$(a $(b)", // not closed
		"$()", "$( )", "$(,phone)", "$(\u00a0)", // no name
		"$(" + strings.Repeat("n", variables.MaxNameBytes+1) + ")",
		"$(a,)", "$(a,fax)", "$(a,phone,raw)", "$(a,phone raw)",
		" =$(",
	} {
		if _, err := variables.Parse(text); err == nil {
			t.Errorf("Parse(%q) accepts it", text)
		}
	}
}

// named is a lookup whose values are the names in angle brackets.
func named(name string) (string, bool) { return "<" + name + ">", true }

func TestParseAccepts(t *testing.T) {
	long := strings.Repeat("n", variables.MaxNameBytes)
	for text, want := range map[string]string{
		"":                            "",
		"plain":                       "plain",
		"$(a)":                        "<a>",
		"x$(a)y$(b)$(a)z":             "x<a>y<b><a>z",
		"$(contact.email)":            "<contact.email>",
		"$(contact.__count__)":        "<contact.__count__>",
		"$( a )":                      "<a>",
		"$(a b)":                      "<a b>",
		"$(über.名)":                   "<über.名>",
		"$(a(b)":                      "<a(b>",
		"$(a,raw)":                    "<a>",
		"$(a, RAW )":                  "<a>",
		"$(a,EscapeJson)":             "<a>",
		"$(" + long + ")":             "<" + long + ">",
		"$":                           "$",
		"$$":                          "$$",
		"cost $5 (approx)":            "cost $5 (approx)",
		"$$(a)":                       "$<a>",
		"a)b":                         "a)b",
		"=":                           "=",
		"=$(a)":                       "=$(a)",
		"=$(":                         "=$(",
		" =$(a)":                      " =<a>",
		"a=$(a)":                      "a=<a>",
		"bytes \xff$(a)\xfe that are": "bytes \xff<a>\xfe that are",
	} {
		tmpl, err := variables.Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
			continue
		}
		if got, err := tmpl.Expand(variables.Text, named, "", limit); got != want || err != nil {
			t.Errorf("Expand of %q = %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestSole(t *testing.T) {
	for text, want := range map[string]string{
		"$(RS)": "RS", "$( RS )": "RS", "$(RS.id)": "RS.id",
		"$(RS,raw)": "", "$(RS,phone)": "", " $(RS)": "", "$(RS) ": "", "$(a)$(b)": "", "$(a)$(a)": "",
		"RS": "", "": "", "=$(RS)": "", "=": "",
	} {
		name, ok := parse(t, text).Sole()
		if name != want || ok != (want != "") {
			t.Errorf("Sole of %q = %q, %t, want %q", text, name, ok, want)
		}
	}
}

func parse(t testing.TB, text string) *variables.Template {
	t.Helper()
	tmpl, err := variables.Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return tmpl
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "$(a)", "$(", "=$(a)", "$(a,phone)", "$(a, raw )$(b", "$(a$(b))", "$(,)", "\xff$(\xff)"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tmpl, err := variables.Parse(text)
		if err != nil {
			return
		}
		// Without values, what stands between the variables is left.
		got, err := tmpl.Expand(variables.Text, func(string) (string, bool) { return "", false }, "", limit)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(text, "=") || !strings.Contains(text, "$(") {
			if got != text {
				t.Errorf("%q without variables became %q", text, got)
			}
			return
		}
		var want strings.Builder
		rest := text
		for {
			before, after, ok := strings.Cut(rest, "$(")
			want.WriteString(before)
			if !ok {
				break
			}
			_, rest, _ = strings.Cut(after, ")")
		}
		if got != want.String() {
			t.Errorf("%q without values became %q, want %q", text, got, want.String())
		}
	})
}

// Values of which little is left are read too: all of them together have a bound.
func TestExpandReadsBounded(t *testing.T) {
	long := map[string]string{"a": "a" + strings.Repeat("*", 30<<10), "b": "b" + strings.Repeat("*", 30<<10), "c": "c" + strings.Repeat("*", 30<<10)}
	lookup := func(name string) (string, bool) { value, ok := long[name]; return value, ok }
	for text, want := range map[string]string{
		"$(a)$(b)":                "ab",
		"$(a)$(b)$(a)$(b)":        "abab",
		"$(a)$(b)$(c)":            "",
		"$(a)$(a,escapejson)$(b)": "",
	} {
		tmpl, err := variables.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmpl.Expand(variables.SearchString, lookup, "", 4096)
		tooLong, refused := errors.AsType[*variables.TooLongError](err)
		if got != want || (want == "") != (refused && tooLong.Limit == 4096) {
			t.Errorf("Expand of %q = %.20q, %v, want %q", text, got, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	tmpl, err := variables.Parse("$(b) $(a,phone) $(b) $( b , raw)")
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(tmpl.Names()); !slices.Equal(got, []string{"b", "a", "b"}) {
		t.Errorf("names are %q", got)
	}
	if got := slices.Collect((*variables.Template)(nil).Names()); len(got) > 0 {
		t.Errorf("nothing names %q", got)
	}
}
