package recordset

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/jsonscan"
)

// What is read here is valid JSON: check has looked at all of it before. Nothing is decoded but what is asked for, and nothing
// goes down as deep as the text does: it takes fifty times the memory of a text to hold its tree.

// check tells whether a record is one valid JSON object.
func check(record json.RawMessage) error {
	if kindOf(record) != '{' {
		return errNotObject
	}
	if jsonscan.Valid(record) {
		return nil
	}
	var whole json.RawMessage
	if err := json.Unmarshal(record, &whole); err != nil {
		return fmt.Errorf("record is not valid JSON: %w", err)
	}
	return errNotObject
}

// kindOf returns the first character of a JSON value, which tells its kind; 0 if there is none.
func kindOf(value []byte) byte {
	if at := jsonscan.SkipSpace(value, 0); at < len(value) {
		return value[at]
	}
	return 0
}

// membersIn are the members of an object in their order: the names as they are written, and the values.
func membersIn(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for at := jsonscan.SkipSpace(object, 0) + 1; ; {
			if at = jsonscan.SkipSpace(object, at); at >= len(object) || object[at] != '"' {
				return
			}
			end := jsonscan.StringEnd(object, at)
			name := object[at:end]
			at = jsonscan.SkipSpace(object, jsonscan.SkipSpace(object, end)+1) // behind the colon
			end = jsonscan.ValueEnd(object, at)
			if at >= end || !yield(name, object[at:end]) {
				return
			}
			at = jsonscan.SkipSpace(object, end) + 1 // behind the comma
		}
	}
}

// elementsIn are the elements of an array.
func elementsIn(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for at := jsonscan.SkipSpace(array, 0) + 1; ; {
			at = jsonscan.SkipSpace(array, at)
			end := jsonscan.ValueEnd(array, at)
			if at >= end || !yield(array[at:end]) {
				return
			}
			at = jsonscan.SkipSpace(array, end) + 1
		}
	}
}

// member is a member of an object.
type member struct {
	name  string
	value []byte
}

// sortMembers orders members by their names, and keeps the last of each.
func sortMembers(members []member) []member {
	slices.SortStableFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	kept := members[:0]
	for i, m := range members {
		if i+1 == len(members) || members[i+1].name != m.name {
			kept = append(kept, m)
		}
	}
	return kept
}

// lastOf returns the value of the last member of a name; nil if there is none.
func lastOf(object []byte, name string) (last []byte) {
	for written, value := range membersIn(object) {
		if isName(written, name) {
			last = value
		}
	}
	return last
}

// isName tells whether a name as it is written is one.
func isName(written []byte, name string) bool {
	if len(written) < len(name)+2 || len(written) > 6*len(name)+2 { // escapes are that long at most
		return false
	}
	return textOf(written) == name
}

// textOf reads a string. Bytes that are no UTF-8 become U+FFFD.
func textOf(written []byte) string {
	inside := written[1 : len(written)-1]
	if plain := !slices.Contains(inside, '\\') && utf8.Valid(inside); plain {
		return string(inside)
	}
	var text string
	_ = json.Unmarshal(written, &text) // cannot fail: it is valid
	return text
}

// hasNested tells whether an array has an object or an array in it.
func hasNested(array []byte) bool {
	for at := jsonscan.SkipSpace(array, 0) + 1; ; {
		at = jsonscan.SkipSpace(array, at)
		if at < len(array) && (array[at] == '{' || array[at] == '[') {
			return true
		}
		end := jsonscan.ValueEnd(array, at)
		if at >= end {
			return false
		}
		at = jsonscan.SkipSpace(array, end) + 1
	}
}

// scalar returns the text of a scalar: null is empty, numbers stay as they are written.
func scalar(value []byte) string {
	switch value[0] {
	case '"':
		return textOf(value)
	case 'n':
		return ""
	}
	return string(value)
}
