package variables_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/server/variables"
)

type values map[string]string

func (v values) lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

const limit = 1 << 20

func isTooLong(err error) bool {
	long, ok := errors.AsType[*variables.TooLongError](err)
	return ok && long.Limit == limit
}

func TestExpandText(t *testing.T) {
	vars := values{
		"a": "x", "empty": "", "dashes": "---", "nested": "$(a)", "quoted": `say "hi"\` + "\n\u2028</b>",
		"ani": "+1 (513) 555-7611", "short": "x123-456", "withheld": "anonymous", "star": "*",
	}
	for text, want := range map[string]string{
		"$(a)":                   "x",
		"$(nobody)":              "",
		"[$(nobody,phone)]":      "[]",
		"[$(empty)]":             "[]",
		"$(dashes)":              "---",
		"$(nested)":              "$(a)",
		"$(nested,raw)":          "$(a)",
		"$(quoted)":              vars["quoted"],
		`"$(quoted,escapejson)"`: `"say \"hi\"\\\n\u2028</b>"`,
		"$(ani,phone)":           "*5135557611",
		"*$(ani,phone)":          "*5135557611",
		"**$(ani,phone)":         "**5135557611",
		"* $(ani,phone)":         "* *5135557611",
		"*$(nobody)$(ani,phone)": "*5135557611",
		"$(star)$(ani,phone)":    "*5135557611",
		"$(short,phone)":         "123456",
		"*$(short,phone)":        "*123456",
		"$(withheld,phone)":      "",
	} {
		if got, err := parse(t, text).Expand(variables.Text, vars.lookup, "US", limit); got != want || err != nil {
			t.Errorf("%q became %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestExpandPhone(t *testing.T) {
	for _, c := range []struct{ value, region, want string }{
		{"+15135557611", "", "*5135557611"},
		{"+15135557611", "DE", "*5135557611"},
		{"(513) 555-7611", "US", "*5135557611"},
		{"1 513 555 7611", "US", "*5135557611"},
		{"513.555.7611 ext. 12", "US", "*5135557611"},
		{"tel:+1-513-555-7611", "", "*5135557611"},
		{"1-800-FLOWERS", "US", "*8003569377"},
		{"030 901820", "DE", "*30901820"},
		{"+39 06 698 12345", "", "*0669812345"}, // Italy's zero is part of the national number
		{"＋１５１３５５５７６１１", "", "*5135557611"},
		{"(513) 555-7611", "", "*5135557611"}, // no region: not parseable, all digits
		{"0049 30 901820", "", "*30901820"},
		{`"Ann Lee" <sips:+15135557611@pbx2.example.com:5061;transport=tls>;tag=4f7a`, "", "*5135557611"},
		{"sip:5135557611@192.168.10.20", "US", "*5135557611"},
		{"tel:5135557611;phone-context=+1", "", "*5135557611"},
		{"+999 1234567", "US", "*9991234567"},
		{"sip:5135557611", "ZZ", "*5135557611"},
		{strings.Repeat("5", 300), "US", "*" + strings.Repeat("5", 300)},
		{"+49 30 1234", "DE", "*49301234"}, // the national part alone is too short for a wildcard
		{"1234567", "", "*1234567"},
		{"123456", "", "123456"},
		{"12-34", "US", "1234"},
		{"911", "US", "911"},
		{"0", "DE", "0"},
	} {
		vars := values{"n": c.value}
		if got, err := parse(t, "$(n,phone)").Expand(variables.SearchString, vars.lookup, c.region, limit); got != c.want || err != nil {
			t.Errorf("phone %q in %q = %q, %v, want %q", c.value, c.region, got, err, c.want)
		}
	}
}

func TestExpandID(t *testing.T) {
	vars := values{"id": "46000000000001", "spaced": " 12 ", "name": "x12", "part": "45", "thai": "๑๒", "ani": "5135557611"}
	for text, want := range map[string]string{
		"$(id)": "46000000000001", "$(spaced)": "12", " $(id) ": "46000000000001", "123$(part)": "12345", "$(id,raw)": "46000000000001",
		"9223372036854775807": "9223372036854775807", " 7\n": "7",
	} {
		if got, err := parse(t, text).Expand(variables.ID, vars.lookup, "", limit); got != want || err != nil {
			t.Errorf("%q became %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "x", "-1", "+1", "1.0", "1e3", "12345678901234567890", "=1", "$(name)", "$(thai)", "$(spaced)$(spaced)", "$(ani,phone)", "1/$(id)",
	} {
		if _, err := parse(t, text).Expand(variables.ID, vars.lookup, "US", limit); !errors.Is(err, variables.ErrNotID) {
			t.Errorf("%q: error %v, want ErrNotID", text, err)
		}
	}
}

func TestExpandErrors(t *testing.T) {
	vars := values{
		"a": "x", "empty": "", "spaces": " \t ", "marks": `-*"-`, "withheld": "anonymous", "star": "*", "letter": "é", "digit": "٣",
		"trunk": "sip:anonymous@192.168.10.20:5060", "keypad": "+266696687",
	}
	undefined := func(name string) error { return &variables.UndefinedError{Name: name} }
	empty := func(name string) error { return &variables.EmptyError{Name: name} }
	noPhone := func(name string) error { return &variables.EmptyError{Name: name, Phone: true} }
	for _, c := range []struct {
		text   string
		places []variables.Place
		want   error
	}{
		{"$(nobody)", both, undefined("nobody")},
		{"phone:$(nobody.x,phone)", both, undefined("nobody.x")},
		{"$(nobody,raw)", both, undefined("nobody")},
		{"$(empty)", both, empty("empty")},
		{"$(empty,raw)", both, empty("empty")},
		{"$(empty,escapejson)", both, empty("empty")},
		{"$(spaces)", both, empty("spaces")},
		{"$(marks)", both, empty("marks")},
		{"$(star,raw)", both, empty("star")},
		{"$(withheld,phone)", both, noPhone("withheld")},
		{"phone:*$(withheld,phone)", both, noPhone("withheld")},
		{"phone:$(trunk,phone)", both, noPhone("trunk")},
		{"phone:$(keypad,phone)", both, noPhone("keypad")},
		{"phone:$(empty,phone)", both, noPhone("empty")},
		{`"$(empty)"`, both, empty("empty")},
		{"$(a)$(empty)$(nobody)", both, empty("empty")},
		{"$(a)$(nobody)$(empty)", both, undefined("nobody")},
		{"$(letter)$(digit)", []variables.Place{variables.SearchString}, nil},
		{"$(withheld)", []variables.Place{variables.SearchString}, nil},
	} {
		for _, place := range c.places {
			_, err := parse(t, c.text).Expand(place, vars.lookup, "US", limit)
			if !reflect.DeepEqual(err, c.want) {
				t.Errorf("%q in place %d: error %v, want %v", c.text, place, err, c.want)
			}
		}
	}
	if text := noPhone("ani").Error(); !strings.Contains(text, "no telephone number") {
		t.Errorf("the error says %q", text)
	}
	if _, err := parse(t, "x").Expand(variables.Query+1, vars.lookup, "", limit); err == nil {
		t.Error("an unknown place is accepted")
	}
}

var both = []variables.Place{variables.SearchString, variables.ID, variables.Path, variables.Query}

func TestExpandInPlace(t *testing.T) {
	vars := values{
		"a": "x", "empty": "", "name": `O"Neil\`, "path": "../a/b?c#d;e%2f", "lines": "a\nb\x00", "object": `{"b":[1]}`, "ani": "+1 (513) 555-7611",
	}
	for _, c := range []struct {
		place      variables.Place
		text, want string
	}{
		{variables.JSON, `{"a":"$(name)"}`, `{"a":"O\"Neil\\"}`},
		{variables.JSON, `{"a":"$(name,escapejson)"}`, `{"a":"O\"Neil\\"}`},
		{variables.JSON, `{"a":$(object,raw)}`, `{"a":{"b":[1]}}`},
		{variables.JSON, `{"a":"$(object)"}`, `{"a":"{\"b\":[1]}"}`},
		{variables.JSON, `{"a":"$(lines)"}`, `{"a":"a\nb\u0000"}`},
		{variables.JSON, `["$(nobody)","$(empty)"]`, `["",""]`},
		{variables.JSON, `["$(ani,phone)"]`, `["*5135557611"]`},
		{variables.JSON, `="$(a)"`, `="$(a)"`},
		{variables.Path, "tickets/$(a)/$(path)", "tickets/x/..%2Fa%2Fb%3Fc%23d%3Be%252f"},
		{variables.Path, "tickets/$(path,raw)", "tickets/..%2Fa%2Fb%3Fc%23d%3Be%252f"},
		{variables.Path, "a b/%20", "a b/%20"},
		{variables.Query, "email:$(path)", "email:../a/b?c#d;e%2f"},
	} {
		if got, err := parse(t, c.text).Expand(c.place, vars.lookup, "US", limit); got != c.want || err != nil {
			t.Errorf("%q in place %d became %q, %v, want %q", c.text, c.place, got, err, c.want)
		}
	}
}

func TestExpandTooLong(t *testing.T) {
	vars := values{"long": strings.Repeat("7", limit/4), "a": "7"}
	for _, place := range []variables.Place{variables.Text, variables.SearchString} {
		got, err := parse(t, "$(long)$(long)$(long)$(long)").Expand(place, vars.lookup, "", limit)
		if len(got) != limit || err != nil {
			t.Errorf("place %d: the longest text has %d bytes, error %v", place, len(got), err)
		}
		for _, text := range []string{"$(long)$(long)$(long)$(long)$(a)", strings.Repeat("$(long) ", 10_000)} {
			if got, err := parse(t, text).Expand(place, vars.lookup, "", limit); got != "" || !isTooLong(err) {
				t.Errorf("place %d: %d bytes, error %v, want TooLongError", place, len(got), err)
			}
		}
	}
	if _, err := parse(t, "$(long)$(long)$(long)$(long)$(long)").Expand(variables.ID, vars.lookup, "", limit); !isTooLong(err) {
		t.Errorf("id: error %v, want TooLongError", err)
	}
}

// What a text may become is bounded while it is expanded: nothing is looked up behind the value that goes beyond, and
// nothing long is transformed in vain.
func TestExpandStopsAtTheLimit(t *testing.T) {
	const small = 100
	for _, c := range []struct {
		text  string
		place variables.Place
		value string
		want  string // looked up
	}{
		{"$(a)$(b)$(c)", variables.Text, strings.Repeat("x", 60), "a b"},
		{"$(a)$(b)$(c)", variables.SearchString, strings.Repeat("x", 60), "a b"},
		{"$(a,escapejson)$(b)", variables.Text, strings.Repeat("\u0001", 20), "a"},
		{"$(a,escapejson)$(b)", variables.Text, strings.Repeat("x", 1<<20), "a"},
		{"$(a)$(b)", variables.SearchString, "x" + strings.Repeat(" ", 1<<20), "a"},
		{"$(a,phone)$(b)", variables.Text, strings.Repeat(" ", 1<<20), "a"},
	} {
		var asked []string
		_, err := parse(t, c.text).Expand(c.place, func(name string) (string, bool) {
			asked = append(asked, name)
			return c.value, true
		}, "US", small)
		if long, ok := errors.AsType[*variables.TooLongError](err); !ok || long.Limit != small || strings.Join(asked, " ") != c.want {
			t.Errorf("%s: looked up %q, error %v; want %q and a TooLongError of %d", c.text, asked, err, c.want, small)
		}
	}
	padded := func(string) (string, bool) { return strings.Repeat(" ", 1000) + "+1 513-555-7611", true }
	for text, place := range map[string]variables.Place{"$(a,phone)": variables.Text, "phone:$(a)": variables.SearchString} {
		if _, err := parse(t, text).Expand(place, padded, "US", small); err != nil {
			t.Errorf("%s: what is short in the end is refused: %v", text, err)
		}
	}
}

func TestExpandLooksUpOnce(t *testing.T) {
	var asked []string
	lookup := func(name string) (string, bool) {
		asked = append(asked, name)
		return "x", true
	}
	if _, err := parse(t, "$(b)$(a)$(b) $(a) $( b )").Expand(variables.SearchString, lookup, "", limit); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(asked, " "); got != "b a" {
		t.Errorf("looked up %q, want each name once", got)
	}
}

// Values are often personal data, and errors are logged.
func TestErrorsHoldNoValue(t *testing.T) {
	const canary = "canary"
	vars := values{"a": "?" + canary, "none": "-"}
	for text, place := range map[string]variables.Place{
		"$(a)": variables.ID, "created>$(a)": variables.SearchString, "x$(a):y": variables.SearchString, "$(a)$(none)": variables.SearchString,
	} {
		_, err := parse(t, text).Expand(place, vars.lookup, "", limit)
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), canary) {
			t.Errorf("%q: error %v", text, err)
		}
	}
}
