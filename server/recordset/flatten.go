package recordset

import (
	"encoding/json"
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
	return flatten(record, flattener{selected: newSelection(columns)})
}

// Pick returns the columns of the given names that Flatten has, also where the record has more columns than Flatten returns.
// It costs a look at the record, however many names there are, and keeps nothing but what it returns. The error is Flatten's.
func Pick(record json.RawMessage, columns, names []string) (map[string]string, error) {
	return flatten(record, flattener{selected: newSelection(columns), names: slices.Sorted(slices.Values(names)), picks: true})
}

func flatten(record json.RawMessage, f flattener) (map[string]string, error) {
	if err := check(record); err != nil {
		return nil, err
	}
	f.columns = make(map[string]string)
	f.object("", record, f.selected, 0)
	return f.columns, nil
}

const (
	customFields    = "custom_fields"
	duplicateFields = "fields"
)

type flattener struct {
	columns  map[string]string
	selected selection
	names    []string // sorted; what is wanted
	picks    bool     // only the names are wanted, else all

	members []member // of the objects that are walked, the outer ones first
}

// wants tells whether a column, or one below it, is wanted.
func (f *flattener) wants(name string) bool {
	if !f.picks {
		return true
	}
	if _, ok := slices.BinarySearch(f.names, name); ok {
		return true
	}
	below := name + "."
	at, _ := slices.BinarySearch(f.names, below)
	return at < len(f.names) && strings.HasPrefix(f.names[at], below)
}

// add adds the columns of a value at a depth.
func (f *flattener) add(name string, value []byte, sel selection, depth int) {
	switch {
	case value[0] == '{':
		f.object(name, value, sel, depth)
	case value[0] == '[':
		f.array(name, value, sel, depth)
	case f.takes(name, sel):
		f.columns[name] = scalar(value)
	}
}

// object walks an object in the order of the names, so that the result is the same each time.
func (f *flattener) object(name string, object []byte, sel selection, depth int) {
	first := len(f.members)
	dropped := ""
	if depth == 0 && kindOf(lastOf(object, customFields)) == '[' {
		dropped = duplicateFields
	}
	for written, value := range membersIn(object) {
		key := textOf(written)
		if dropped != "" && key == dropped || len(key) > MaxColumnBytes {
			continue
		}
		if _, ok := sel.below(key); ok && f.wants(joinedName(name, key, depth)) {
			f.members = append(f.members, member{key, value})
		}
	}
	f.walk(name, first, sel, depth)
}

// walk walks the members from first on, and takes them away.
func (f *flattener) walk(name string, first int, sel selection, depth int) {
	end := first + len(sortMembers(f.members[first:]))
	f.members = f.members[:end]
	for i := first; i < end; i++ {
		f.addMember(name, f.members[i].name, f.members[i].value, sel, depth)
	}
	f.members = f.members[:first]
}

func joinedName(name, key string, depth int) string {
	if depth == 0 {
		return key
	}
	return name + "." + key
}

func (f *flattener) addMember(name, key string, value []byte, sel selection, depth int) {
	below, ok := sel.below(key)
	full := joinedName(name, key, depth)
	if !ok || depth >= MaxDepth || len(full) > MaxColumnBytes || !f.wants(full) {
		return
	}
	if depth == 0 && key == customFields && value[0] == '[' {
		first := len(f.members)
		if f.fieldsByID(value) {
			f.walk(full, first, below, 1)
			return
		}
		f.members = f.members[:first]
	}
	f.add(full, value, below, depth+1)
}

// fieldsByID adds custom fields to the members, each by its id; false if they do not all have one.
func (f *flattener) fieldsByID(fields []byte) bool {
	some := false
	for field := range elementsIn(fields) {
		id, value, ok := fieldOf(field)
		if !ok {
			return false
		}
		some = true
		f.members = append(f.members, member{id, value})
	}
	return some
}

// fieldOf reads a custom field; false if it has no id.
func fieldOf(field []byte) (id string, value []byte, ok bool) {
	if field[0] != '{' {
		return "", nil, false
	}
	written := lastOf(field, "id")
	switch kindOf(written) {
	case '"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
	default:
		return "", nil, false
	}
	if value = lastOf(field, "value"); value == nil {
		value = []byte("null")
	}
	return scalar(written), value, true
}

// array writes an array of scalars as one column, another by index.
func (f *flattener) array(name string, array []byte, sel selection, depth int) {
	if !hasNested(array) {
		if f.takes(name, sel) {
			f.columns[name] = joined(array)
		}
		return
	}
	i := 0
	for element := range elementsIn(array) {
		f.addMember(name, strconv.Itoa(i), element, sel, depth)
		i++
	}
}

// takes tells whether a column is selected itself, and has room.
func (f *flattener) takes(name string, sel selection) bool {
	if sel != nil {
		return false
	}
	if f.picks {
		_, ok := slices.BinarySearch(f.names, name)
		return ok
	}
	_, ok := f.columns[name]
	return ok || len(f.columns) < MaxColumns
}

// joined joins an array of scalars.
func joined(array []byte) string {
	var text strings.Builder
	first := true
	for element := range elementsIn(array) {
		if !first {
			text.WriteByte(',')
		}
		first = false
		text.WriteString(scalar(element))
	}
	return text.String()
}
