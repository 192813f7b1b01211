package variables

import (
	"encoding/json"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// minPhoneDigits is where a number is long enough to be looked for by its end alone.
const minPhoneDigits = 7

// value is what a reference becomes before the parts of a text are put together.
type value struct {
	name     string
	text     string
	wildcard bool // a * that is syntax stands before text, unless there is one already
	literal  bool // text is as good as written in the template
}

// transform applies a reference's parameter.
func transform(r reference, text, region string) value {
	v := value{name: r.name, text: text, literal: r.parameter == raw}
	switch r.parameter {
	case escapeJSON:
		v.text = jsonEscaped(text)
	case phone:
		v.text = phoneDigits(text, region)
		v.wildcard = len(v.text) >= minPhoneDigits
	}
	return v
}

func jsonEscaped(text string) string {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return "" // cannot happen: every string has an encoding
	}
	return strings.TrimSuffix(out.String()[1:], "\"\n")
}

// phoneDigits returns the national significant number, or all digits when the text is no number that can be parsed. So
// does one whose national part is too short for a wildcard: with its prefixes it can still be found.
func phoneDigits(text, region string) string {
	number, err := phonenumbers.Parse(text, region)
	if err == nil {
		if national := phonenumbers.GetNationalSignificantNumber(number); len(national) >= minPhoneDigits {
			return national
		}
	}
	return phonenumbers.NormalizeDigitsOnly(text)
}
