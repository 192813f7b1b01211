package compose_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
)

func TestValues(t *testing.T) {
	products := choices{
		{Name: "Router", Value: "router"}, {Name: "TV box", Value: "tv_box"}, {Name: "Cable, long", Value: "cable_long"},
	}
	nested := choices{
		{Name: "Europe::Germany", Value: "eu_de"}, {Name: "Europe::Other", Value: "eu_other"}, {Name: "Americas::Other", Value: "am_other"},
		{Name: "", Value: "nameless"}, {Name: "Valueless", Value: ""}, {Name: "Asia", Value: "asia"}, {Name: "East::Asia", Value: "east_asia"},
	}
	swapped := choices{{Name: "b", Value: "a"}, {Name: "a", Value: "b"}, {Name: "x", Value: "C"}, {Name: "y", Value: "c"}}
	order := field{Type: "regexp", Pattern: `\A[A-Z]{2}-[0-9]{6}\z`}
	type table map[string]any // value attached to value written; nil is rejected
	for name, c := range map[string]struct {
		field  field
		values table
	}{
		"text": {field{Type: "text"}, table{
			"  a \r\n b\x00\u202ec ": "a bc", "<b> {{x}} [y](z)": "<b> {{x}} [y](z)", "0042": "0042",
			strings.Repeat("ä", 32<<10): strings.Repeat("ä", 32<<10),
			"":                          nil, " \n\t\x00": nil, strings.Repeat("ä", 32<<10) + "x": nil,
		}},
		"textarea": {field{Type: "textarea"}, table{
			"\n one\r\n\ttwo \n\nthree\n": " one\n two\n\nthree", " \n ": nil, strings.Repeat("x", 64<<10+1): nil,
		}},
		"regexp":                 {order, table{"AB-123456": "AB-123456", " AB-123456\n": "AB-123456", "ab-123456": nil, "AB-1234567": nil, "": nil}},
		"regexp without pattern": {field{Type: "regexp"}, table{"anything": "anything", " ": nil}},
		"regexp anywhere":        {field{Type: "regexp", Pattern: `\d{3}`}, table{"a 123 b": "a 123 b", "12": nil}},
		"regexp with look-ahead": {field{Type: "regexp", Pattern: `\A(?!0)\d+\Z`}, table{"x": "x"}},
		"regexp with classes":    {field{Type: "regexp", Pattern: `\A[[:alpha:]]+\z`}, table{"Müller": "Müller", "1": "1"}},
		"regexp open below":      {field{Type: "regexp", Pattern: `\Aa{,3}\z`}, table{"aa": "aa"}},
		"regexp intersection":    {field{Type: "regexp", Pattern: `\A[^a&&b]\z`}, table{"a": "a"}},
		"regexp boundary":        {field{Type: "regexp", Pattern: `\bé`}, table{"é": "é"}},
		"regexp of many states":  {field{Type: "regexp", Pattern: strings.Repeat(`.{1000}`, 37)}, table{"x": "x"}},
		"regexp, long value":     {field{Type: "regexp", Pattern: `\Ax\z`}, table{strings.Repeat("x", 1025): strings.Repeat("x", 1025)}},
		"tagger": {field{Type: "tagger", Options: products}, table{
			"router": "router", "ROUTER": "router", " Tv   Box ": "tv_box", "tv_box": "tv_box", "cable, LONG": "cable_long",
			"modem": nil, "": nil, "router, tv_box": nil, "box": nil,
		}},
		"tagger with levels": {field{Type: "tagger", Options: nested}, table{
			"europe :: GERMANY": "eu_de", "Germany": "eu_de", "Europe::Other": "eu_other", "am_other": "am_other", "Asia": "asia",
			"Other": nil, "Europe": nil, "::Germany": nil, "::": nil, "Valueless": nil,
		}},
		"tagger with twisted names":  {field{Type: "tagger", Options: swapped}, table{"a": "a", "b": "b", "B": "b", "C": "C", "c": "c", "X": "C"}},
		"tagger with a shared value": {field{Type: "tagger", Options: swapped[2:]}, table{" C\n": "C", "d": nil}},
		"tagger with no options":     {field{Type: "tagger"}, table{"a": nil}},
		"multiselect": {field{Type: "multiselect", Options: products}, table{
			"Router, TV box": []string{"router", "tv_box"}, "tv_box\nROUTER\r\ntv box": []string{"tv_box", "router"},
			"Cable, long": []string{"cable_long"}, "router\nCable, long": []string{"router", "cable_long"}, ",router,,": []string{"router"},
			"router, modem": nil, "router\nmodem": nil, ",": nil, "": nil,
		}},
		"multiselect with odd options": {field{Type: "multiselect", Options: nested}, table{"asia\n\nGermany": []string{"asia", "eu_de"}, "Valueless": nil}},
		"checkbox": {field{Type: "checkbox"}, table{
			"true": true, " YES ": true, "y": true, "On": true, "1": true, "checked": true,
			"false": false, "No": false, "n": false, "off": false, "0": false, "unchecked": false,
			"2": nil, "maybe": nil, "": nil, "yes please": nil,
		}},
		"date": {field{Type: "date"}, table{
			"2026-11-24": "2026-11-24", " 2026/11/24": "2026-11-24", "20261124": "2026-11-24", "2024-02-29": "2024-02-29",
			"2026-11-24T23:30:00-05:00": "2026-11-24", "2026-11-24T23:30:00.123Z": "2026-11-24", "2026-11-24 23:30": "2026-11-24",
			"24 Nov 2026": "2026-11-24", "4 november 2026": "2026-11-04", "Nov 4, 2026": "2026-11-04", "24-NOV-2026": "2026-11-24",
			"03/04/2026": nil, "24/11/2026": nil, "24.11.2026": nil, "2026-02-29": nil, "2026-13-01": nil, "26-11-24": nil,
			"0000-01-01": nil, "tomorrow": nil, "2026": nil, "": nil,
		}},
		"integer": {field{Type: "integer"}, table{
			"42": "42", " -7 ": "-7", "+7": "+7", "007": "007", "9223372036854775807": "9223372036854775807",
			"9223372036854775808": nil, "1,000": nil, "1 000": nil, "1.0": nil, "1e3": nil, "0x10": nil, "1_000": nil, "٣": nil, "": nil, "-": nil,
		}},
		"decimal": {field{Type: "decimal"}, table{
			"12.50": "12.50", "-0.10": "-0.10", "+3": "+3", ".5": "0.5", "-,5": "-0.5", "12,50": "12.50", "1234,5": "1234.5", "1.234": "1.234",
			"0.1000000000000000055": nil, "0.100000000000000005": "0.100000000000000005",
			"1,234": nil, "1,234.50": nil, "1.234,50": nil, "1 234": nil, "1'234": nil, "1e3": nil, "5.": nil, ".": nil, "-": nil, "NaN": nil, "٣": nil, "": nil,
		}},
		"partialcreditcard": {field{Type: "partialcreditcard"}, table{
			"1234": "XXXXXXXXXXXX1234", "4111 1111 1111 1234": "XXXXXXXXXXXX1234", "3782-822463-10005": "XXXXXXXXXXXX0005",
			"**** **** **** 1234": "XXXXXXXXXXXX1234", "XXXXXXXXXXXX1234": "XXXXXXXXXXXX1234",
			"123": nil, "12345": nil, "41111111111111111234": nil, "1234 12/27": nil, "XXXX": nil, "": nil,
		}},
		"lookup": {field{Type: "lookup"}, table{
			"46900000001101": "46900000001101", " 7 ": "7", "0": nil, "-7": nil, "+7": nil, "Maria": nil, "7a": nil, "99999999999999999999": nil, "": nil,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c.field.ID, c.field.Title, c.field.Active = "1", "Field", true
			for value, want := range c.values {
				update := compose.Compose(store.ActivityDetails{}, map[string]string{"field": value}, []field{c.field}, compose.Left{})
				var got any
				if len(update.CustomFields()) == 1 {
					got = update.CustomFields()[0].Value
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%.40q (-want +got):\n%.400s", value, diff)
				}
				if rejected := len(update.Rejected) == 1; rejected != (want == nil) {
					t.Errorf("%.40q is rejected: %t", value, rejected)
				}
			}
		})
	}
}
