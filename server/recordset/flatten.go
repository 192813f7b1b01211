package recordset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Limits of a record's columns. Nothing that Zendesk is known to send comes near them; what goes beyond is left out, in
// the order of the names.
const (
	// MaxColumns is the largest number of columns of one record.
	MaxColumns = 10_000
	// MaxColumnBytes is the longest name of a column.
	MaxColumnBytes = 256
	// MaxDepth is the deepest nesting of objects and arrays.
	MaxDepth = 32
)

// Flatten returns a record's columns: those of the given names and those below them (via selects via.channel), or all
// if none is given.
//
// Nested objects are joined by dots. The array custom_fields is written by id: custom_fields.<id> is the value; its
// duplicate, fields, is left out beside it. Other arrays of scalars are joined by commas; arrays with an object or array
// in them are written by index, a.0.b. Null is the empty string, and so is an empty array; an empty object has no columns.
// Numbers stay as they were written. Where several members make one name, the last counts: in the record's order within
// one object, else in the order of the names. Bytes that are no UTF-8 become U+FFFD.
//
// The error is about what is not one valid JSON object.
func Flatten(record json.RawMessage, columns []string) (map[string]string, error) {
	top, err := decode(record)
	if err != nil {
		return nil, err
	}
	f := flattener{columns: make(map[string]string)}
	if custom, ok := top[customFields].([]any); ok {
		delete(top, duplicateFields)
		if byID, ok := fieldsByID(custom); ok {
			top[customFields] = byID
		}
	}
	f.add("", top, newSelection(columns), 0)
	return f.columns, nil
}

const (
	customFields    = "custom_fields"
	duplicateFields = "fields"
)

func decode(record json.RawMessage) (map[string]any, error) {
	if kindOf(record) != '{' {
		return nil, errNotObject
	}
	dec := json.NewDecoder(bytes.NewReader(record))
	dec.UseNumber()
	var top map[string]any
	err := dec.Decode(&top)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("record is not valid JSON: %w", err)
	}
	return top, nil
}

// fieldsByID turns custom fields into an object by id; false if they do not all have one.
func fieldsByID(fields []any) (map[string]any, bool) {
	byID := make(map[string]any, len(fields))
	for _, field := range fields {
		object, _ := field.(map[string]any)
		switch id := object["id"].(type) {
		case json.Number:
			byID[id.String()] = object["value"]
		case string:
			byID[id] = object["value"]
		default:
			return nil, false
		}
	}
	return byID, len(fields) > 0
}

type flattener struct{ columns map[string]string }

// add adds the columns of a value at a depth. Objects are walked in the order of the names, so that the result is the
// same each time.
func (f *flattener) add(name string, value any, sel selection, depth int) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			f.addMember(name, key, value[key], sel, depth)
		}
	case []any:
		if text, ok := joined(value); ok {
			f.set(name, text, sel)
			return
		}
		for i, element := range value {
			f.addMember(name, strconv.Itoa(i), element, sel, depth)
		}
	default:
		text, _ := scalar(value)
		f.set(name, text, sel)
	}
}

func (f *flattener) addMember(name, key string, value any, sel selection, depth int) {
	below, ok := sel.below(key)
	if depth > 0 {
		key = name + "." + key
	}
	if ok && depth < MaxDepth && len(key) <= MaxColumnBytes {
		f.add(key, value, below, depth+1)
	}
}

// set sets a column, if it is selected itself.
func (f *flattener) set(name, text string, sel selection) {
	if _, ok := f.columns[name]; sel == nil && (ok || len(f.columns) < MaxColumns) {
		f.columns[name] = text
	}
}

// joined joins an array of scalars; false if there is something else in it.
func joined(array []any) (string, bool) {
	texts := make([]string, len(array))
	for i, element := range array {
		var ok bool
		if texts[i], ok = scalar(element); !ok {
			return "", false
		}
	}
	return strings.Join(texts, ","), true
}

// scalar returns the text of a scalar; false for objects and arrays.
func scalar(value any) (string, bool) {
	switch value := value.(type) {
	case nil:
		return "", true
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	case bool:
		return strconv.FormatBool(value), true
	}
	return "", false
}
