package variables

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
)

// Place is where an expanded text lands. It decides what values may hold.
type Place int

const (
	// Text takes values literally. A variable that nobody set is empty.
	Text Place = iota
	// SearchString is Zendesk's search language. Each variable must be set and have a letter or digit. A value keeps
	// neither double quotes of any script, backslashes, control and format characters, *, < and > nor a leading -; joiners
	// stay within words; its white space is collapsed. A term with a value that holds white space or a colon, or that reads OR, AND or NOT, is
	// quoted as a whole. See https://support.zendesk.com/hc/en-us/articles/4408886879258.
	SearchString
	// ID is the id of something in Zendesk. Each variable must be set and have a letter or digit, and the expanded text,
	// without white space around it, must be 1 to 19 ASCII digits: Expand checks that, also for a text without variables.
	ID
	// JSON is the text of a JSON document, where references stand inside strings: values are escaped as there, once, with the
	// parameter escapejson or without; with the parameter raw they are literal. A variable that nobody set is empty.
	JSON
	// Path is the path of a URL. Each variable must be set and have a letter or digit; values are percent-escaped, also with the
	// parameter raw, and so make no segment. What the text has is left as it is.
	Path
	// Query is a value that Zendesk is asked by, such as one of a URL's query: it is escaped as a whole by who sends it. Each
	// variable must be set and have a letter or digit.
	Query
)

// needsValues tells the places where a variable that is not set, or says nothing, would ask for something else.
func (p Place) needsValues() bool { return p != Text && p != JSON }

// UndefinedError says that nobody set a variable that the place needs.
type UndefinedError struct{ Name string }

func (e *UndefinedError) Error() string { return fmt.Sprintf("variable %q is not set", e.Name) }

// EmptyError says that a variable is set, but that no letter or digit is left of its value where the place needs one.
// A withheld number is the usual cause.
type EmptyError struct {
	Name  string
	Phone bool // a telephone number was looked for in the value
}

func (e *EmptyError) Error() string {
	if e.Phone {
		return fmt.Sprintf("variable %q holds no telephone number", e.Name)
	}
	return fmt.Sprintf("variable %q has a value without a letter or digit", e.Name)
}

// CharacterError says that a variable's value has a character that cannot stand where it is in a search string: after <
// or >, or in the name of a keyword.
type CharacterError struct{ Name string }

func (e *CharacterError) Error() string {
	return fmt.Sprintf("variable %q has a character that its place in the search string does not allow", e.Name)
}

// TooLongError says that the expanded text would have more than Limit bytes.
type TooLongError struct{ Limit int }

func (e *TooLongError) Error() string {
	return fmt.Sprintf("text has more than %d bytes after its variables were replaced", e.Limit)
}

// ErrNotID says that an expanded id is not 1 to 19 digits.
var ErrNotID = errors.New("id is not 1 to 19 digits")

const (
	maxIDDigits = 19 // of an int64
	// cleanable is how much of values is read for what is left of them, by one Expand.
	cleanable = 64 << 10
)

// Expand replaces the variables by their values, which lookup finds; it is called at most once for each different
// reference, in the order of the text. Region is the ISO 3166 region of numbers without a country code, for the
// parameter phone; it may be empty. Limit is the longest text that is made, in bytes: a short text can name long values
// many times, and of long values little may be left: Expand stops where the limit is passed, and where it has read 64 KiB of
// values for less.
//
// The errors are those that the package comment names; the first in the order of the text is returned.
func (t *Template) Expand(place Place, lookup func(name string) (value string, ok bool), region string, limit int) (string, error) {
	tooLong := &TooLongError{Limit: limit}
	values := make([]value, len(t.references))
	total := 0                    // of what each reference becomes where it stands first
	left := max(limit, cleanable) // to be read of values that may become shorter
	for i, r := range t.references {
		found, ok := lookup(r.name)
		if !ok && place.needsValues() {
			return "", &UndefinedError{Name: r.name}
		}
		longest := limit - total
		if place.needsValues() || r.parameter == phone {
			longest = left
			left -= len(found)
		}
		if len(found) > longest {
			return "", tooLong
		}
		v := transform(r, found, region)
		if place == SearchString && r.parameter != raw {
			v.text = cleanSearchValue(v.text)
		}
		if place.needsValues() && !strings.ContainsFunc(v.text, isLetterOrDigit) {
			return "", &EmptyError{Name: r.name, Phone: r.parameter == phone}
		}
		switch {
		case place == JSON && (r.parameter == plain || r.parameter == phone):
			v.text = jsonEscaped(v.text)
		case place == Path:
			v.text = url.PathEscape(v.text)
		}
		if total += len(v.text); total > limit {
			return "", tooLong
		}
		values[i] = v
	}
	switch place {
	case Text, JSON, Path, Query:
		return t.join(values, tooLong)
	case SearchString:
		return t.searchString(values, tooLong)
	case ID:
		id, err := t.join(values, tooLong)
		if err != nil {
			return "", err
		}
		id = strings.TrimSpace(id)
		if id == "" || len(id) > maxIDDigits || strings.ContainsFunc(id, func(r rune) bool { return r < '0' || r > '9' }) {
			return "", ErrNotID
		}
		return id, nil
	}
	return "", fmt.Errorf("place %d is unknown", place)
}

// join puts text and values together as they are.
func (t *Template) join(values []value, tooLong *TooLongError) (string, error) {
	var out strings.Builder
	star := false // what was written last ends with a star
	for _, p := range t.pieces {
		text := p.text
		if p.reference >= 0 {
			v := values[p.reference]
			text = v.text
			if v.wildcard && !star {
				text = "*" + text
			}
		}
		if out.Len()+len(text) > tooLong.Limit {
			return "", tooLong
		}
		out.WriteString(text)
		if text != "" {
			star = strings.HasSuffix(text, "*")
		}
	}
	return out.String(), nil
}

func isLetterOrDigit(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
