package variables

import (
	"encoding/json"
	"strings"

	callerid "github.com/scenarioblocks/zendeskblocks/server/phone"
)

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
		number, _ := callerid.Read(text, region) // none is the empty text
		v.text, v.wildcard = number.Searchable()
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
