package zendeskapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/jsonscan"
)

// object is a JSON object whose members are read one by one: those that decide must be as promised, and what the others
// hold spoils nothing. Package json matches names without regard to case and takes the last of two: an object that says
// something twice would be read as saying either.
type object []member

type member struct {
	name  string
	value json.RawMessage // exactly as it was sent
}

// reader is what an answer is read into.
type reader interface {
	read(o object) error
}

// lister is a reader that takes a list element by element, so that the answer is never in memory as a whole.
type lister interface {
	reader

	// begin forgets what was read before, and names the list. It stands as an empty one in what read is told.
	begin() (list string)
	// element takes an element, which is valid during the call. What is wrong with it is an error of the type unreadable.
	element(in *intake, raw json.RawMessage) error
}

// taker is a reader that takes an answer as a whole, which need not be an object.
type taker interface {
	reader

	// take takes the text of an answer whose status is one of success.
	take(in *intake) error
	// fault tells whether it says all the same that something went wrong.
	fault() (said fault, found bool)
}

// maxMembers is how many members an object may have, that its parts cost no more than it: Zendesk's have less than a hundred.
const maxMembers = 10_000

// readObject takes a text of one JSON object apart. Its values are parts of the text.
func readObject(data []byte) (object, error) {
	if !jsonscan.Valid(data) {
		return nil, errNotObject
	}
	return partsOf(data)
}

// partsOf is readObject for what is known to be valid JSON.
func partsOf(data []byte) (object, error) {
	o := object{}
	err := eachMember(data, func(quoted, value []byte) {
		o = append(o, member{jsonscan.Unquote(quoted), value})
	})
	return o, err
}

// partsNamed is partsOf without the members that have none of the names, in capitals or not. It takes no memory for those.
func partsNamed(data []byte, names ...string) (object, error) {
	o := object{}
	err := eachMember(data, func(quoted, value []byte) {
		name := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			name = []byte(jsonscan.Unquote(quoted))
		}
		for _, wanted := range names {
			if strings.EqualFold(string(name), wanted) {
				o = append(o, member{string(name), value})
			}
		}
	})
	return o, err
}

// eachMember tells the members of an object that is known to be valid JSON, with their names as they are written. Errors: that it
// is no object, or has more than maxMembers.
func eachMember(data []byte, each func(quoted, value []byte)) error {
	at := jsonscan.SkipSpace(data, 0)
	if at == len(data) || data[at] != '{' {
		return errNotObject
	}
	n := 0
	for at = jsonscan.SkipSpace(data, at+1); data[at] != '}'; at = jsonscan.SkipSpace(data, at) {
		if n == maxMembers {
			return errNotObject
		}
		if n > 0 {
			at = jsonscan.SkipSpace(data, at+1) // behind the comma
		}
		n++
		nameEnd := jsonscan.StringEnd(data, at)
		valueAt := jsonscan.SkipSpace(data, jsonscan.SkipSpace(data, nameEnd)+1) // behind the colon
		end := jsonscan.ValueEnd(data, valueAt)
		each(data[at:nameEnd], data[valueAt:end:end])
		at = end
	}
	return nil
}

// get returns a member that decides; nil if there is none. One that stands there twice, also in other cases, is an error.
func (o object) get(name string) (json.RawMessage, error) {
	var value json.RawMessage
	found := false
	for _, m := range o {
		if !strings.EqualFold(m.name, name) {
			continue
		}
		if found {
			return nil, unreadable(fmt.Sprintf("the answer says %q twice", name))
		}
		found = true
		if m.name == name {
			value = m.value
		}
	}
	return value, nil
}

// all returns what stands under a name, however often it does.
func (o object) all(name string) []json.RawMessage {
	var values []json.RawMessage
	for _, m := range o {
		if strings.EqualFold(m.name, name) {
			values = append(values, m.value)
		}
	}
	return values
}

// lenient returns a member that decides nothing; nil if it cannot be told.
func (o object) lenient(name string) json.RawMessage {
	value, _ := o.get(name)
	return value
}

// object returns a member that is an object; nil if it is missing or null.
func (o object) object(name string) (object, error) {
	raw, err := o.get(name)
	if err != nil || isNull(raw) {
		return nil, err
	}
	inner, err := readObject(raw)
	if err != nil {
		return nil, wrongType(name)
	}
	return inner, nil
}

// list returns a member that is a list; nil if it is missing or null.
func (o object) list(name string) ([]json.RawMessage, error) {
	raw, err := o.get(name)
	if err != nil || isNull(raw) {
		return nil, err
	}
	list := []json.RawMessage{}
	if json.Unmarshal(raw, &list) != nil {
		return nil, wrongType(name)
	}
	return list, nil
}

// id returns a member that is an id; empty if it is missing or null.
func (o object) id(name string) (string, error) {
	raw, err := o.get(name)
	if err != nil || isNull(raw) {
		return "", err
	}
	id := strings.Trim(string(raw), `"`)
	if !isID(id) {
		return "", errBadID
	}
	return id, nil
}

// inner is an object that decides nothing; empty if it is none.
func (o object) inner(name string) object {
	inner, _ := readObject(o.lenient(name))
	return inner
}

// text is a string's text or a number as it is written; empty for everything else.
func (o object) text(name string) string { return scalar(o.lenient(name)) }

// flag is a boolean; usual for everything else.
func (o object) flag(name string, usual bool) bool {
	if json.Unmarshal(o.lenient(name), &usual) != nil {
		return usual
	}
	return usual
}

// time is a time as Zendesk writes it; zero for everything else.
func (o object) time(name string) time.Time {
	at, err := time.Parse(time.RFC3339, o.text(name))
	if err != nil {
		return time.Time{}
	}
	return at
}

// texts are the strings and numbers of a list, or the words of a text.
func (o object) texts(name string) []string {
	raw := o.lenient(name)
	var list []json.RawMessage
	var texts []string
	if json.Unmarshal(raw, &list) != nil {
		return append(texts, strings.Fields(scalar(raw))...)
	}
	for _, item := range list {
		if text := scalar(item); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func isObject(raw json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) }

// scalar is a string's text or a number as it is written; the empty string for everything else.
func scalar(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String()
	}
	return ""
}

// whole reads a number without a fraction, also one that is written as a text or with a point.
func whole(raw json.RawMessage) (int64, bool) {
	text := scalar(raw)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != float64(int64(f)) || f > 1<<53 || f < -1<<53 {
		return 0, false
	}
	return int64(f), true
}

func wrongType(name string) error {
	return unreadable(fmt.Sprintf("the answer's field %q has the wrong type", name))
}
