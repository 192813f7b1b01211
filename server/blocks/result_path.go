package blocks

import (
	"encoding/json"
	"errors"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/jsonscan"
)

// resultPath is where in an answer is what is wanted of it; empty: all of it.
type resultPath []string

var errBadPointer = errors.New("is no JSON pointer: each ~ must be followed by 0 or 1")

// parseResultPath reads a JSON pointer (RFC 6901), which begins with a slash, or else a path with dots.
func parseResultPath(text string) (resultPath, error) {
	switch {
	case text == "":
		return nil, nil
	case !strings.HasPrefix(text, "/"):
		return strings.Split(text, "."), nil
	}
	if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(text), "~") {
		return nil, errBadPointer
	}
	path := strings.Split(text[1:], "/")
	for i, step := range path {
		path[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
	}
	return path, nil
}

// of returns what is at the path in a valid JSON text, exactly as it stands there; nil if nothing is. Of members with one
// name the last counts.
func (p resultPath) of(text json.RawMessage) json.RawMessage {
	at := jsonscan.SkipSpace(text, 0)
	if at == len(text) {
		return nil
	}
	value := text[at:jsonscan.ValueEnd(text, at)]
	for _, step := range p {
		switch value[0] {
		case '{':
			value = lastMember(value, step)
		case '[':
			value = elementAt(value, step)
		default:
			return nil
		}
		if value == nil {
			return nil
		}
	}
	return value
}

func lastMember(object json.RawMessage, name string) (last json.RawMessage) {
	for written, value := range valuesIn(object) {
		if jsonscan.Unquote(written) == name {
			last = value
		}
	}
	return last
}

func elementAt(list json.RawMessage, step string) json.RawMessage {
	n, err := strconv.Atoi(step)
	if err != nil || n < 0 || strconv.Itoa(n) != step {
		return nil
	}
	for _, value := range valuesIn(list) {
		if n == 0 {
			return value
		}
		n--
	}
	return nil
}

// valuesIn are the members of a valid object, with their names as they are written, or the elements of a valid list.
func valuesIn(text json.RawMessage) iter.Seq2[json.RawMessage, json.RawMessage] {
	return func(yield func(name, value json.RawMessage) bool) {
		isObject := text[0] == '{'
		for at := jsonscan.SkipSpace(text, 1); at < len(text) && text[at] != '}' && text[at] != ']'; at = jsonscan.SkipSpace(text, at) {
			if text[at] == ',' {
				at = jsonscan.SkipSpace(text, at+1)
			}
			var name json.RawMessage
			if isObject {
				end := jsonscan.StringEnd(text, at)
				name = text[at:end]
				at = jsonscan.SkipSpace(text, jsonscan.SkipSpace(text, end)+1) // behind the colon
			}
			end := jsonscan.ValueEnd(text, at)
			if !yield(name, text[at:end]) {
				return
			}
			at = end
		}
	}
}

// textOfValue is a value as a variable holds it: the text of a text, all else as JSON.
func textOfValue(value json.RawMessage) string {
	if value[0] == '"' {
		return jsonscan.Unquote(value)
	}
	return strings.ToValidUTF8(string(value), "\uFFFD")
}

// recordsOf are the records in a value that is not null: a list of objects, or one object. The error says what it is instead.
func recordsOf(value json.RawMessage) ([]json.RawMessage, error) {
	if value[0] == '{' {
		return []json.RawMessage{typed(value)}, nil
	}
	if value[0] != '[' {
		return nil, errNoRecords
	}
	records := []json.RawMessage{}
	for _, record := range valuesIn(value) {
		switch {
		case record[0] != '{':
			return nil, errNoRecords
		case len(records) == maxSearchResults:
			return nil, errManyRecords
		}
		records = append(records, typed(record))
	}
	return records, nil
}

var (
	errNoRecords   = errors.New("what is at result_path is no list of objects, and no object")
	errManyRecords = errors.New("the list at result_path has more than " + strconv.Itoa(maxSearchResults) + " objects: ask for fewer")
)

// resultTypes are the types of records that have a page, by the part of their address that names them.
var resultTypes = map[string]string{"tickets": "ticket", "users": "user", "organizations": "organization", "groups": "group"}

// typed gives a record the result_type that search results have, by which its kind is told, where its own address says it.
func typed(record json.RawMessage) json.RawMessage {
	if lastMember(record, "result_type") != nil {
		return record
	}
	written := lastMember(record, "url")
	if !isText(written) {
		return record
	}
	address, err := url.Parse(jsonscan.Unquote(written))
	if err != nil {
		return record
	}
	resource, id, _ := strings.Cut(strings.TrimPrefix(address.Path, "/api/v2/"), "/")
	kind := resultTypes[resource]
	if kind == "" || strings.TrimSuffix(id, ".json") != string(lastMember(record, "id")) {
		return record
	}
	out := append([]byte(`{"result_type":"`+kind+`"`), ',')
	return append(out, record[1:]...)
}
