package recordset

import (
	"encoding/json"
	"slices"
)

// Prune returns a record with what Flatten needs for the columns, what Identify needs, and little else: members of
// objects and custom fields are dropped one by one, other arrays stay whole. Values keep their bytes; members stand in the
// order of their names. Without columns the record itself is returned.
//
// The error is Flatten's, also without columns: what Prune accepts can be read later.
func Prune(record json.RawMessage, columns []string) (json.RawMessage, error) {
	if err := check(record); err != nil {
		return nil, err
	}
	if len(columns) == 0 {
		return record, nil
	}
	sel := newSelection(columns)
	sel["id"], sel["result_type"] = nil, nil
	members := selectedIn(record, sel)
	if custom := lastOf(record, customFields); kindOf(custom) == '[' {
		members = slices.DeleteFunc(members, func(m member) bool { return m.name == duplicateFields })
		if below, ok := sel.below(customFields); ok && below != nil {
			at := slices.IndexFunc(members, func(m member) bool { return m.name == customFields })
			members[at].value = pruneFields(custom, below)
		}
	}
	return appendPruned(nil, members, sel, 0), nil
}

// selectedIn returns the members of an object that are selected, or something below them, by their names.
func selectedIn(object []byte, sel selection) []member {
	var members []member
	for written, value := range membersIn(object) {
		name := textOf(written)
		if _, ok := sel.below(name); ok {
			members = append(members, member{name, value})
		}
	}
	return sortMembers(members)
}

// appendPruned writes an object of the members, without what is not selected below them.
func appendPruned(out []byte, members []member, sel selection, depth int) []byte {
	out = append(out, '{')
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		name, _ := json.Marshal(m.name) // cannot fail: every string has an encoding
		out = append(append(out, name...), ':')
		if below, _ := sel.below(m.name); below != nil && m.value[0] == '{' && depth < MaxDepth {
			out = appendPruned(out, selectedIn(m.value, below), below, depth+1)
		} else {
			out = append(out, m.value...)
		}
	}
	return append(out, '}')
}

// pruneFields drops custom fields that are not selected. If they do not all have an id, the array stays whole, since then
// Flatten counts its elements.
func pruneFields(array []byte, sel selection) []byte {
	out := []byte{'['}
	for field := range elementsIn(array) {
		id, _, ok := fieldOf(field)
		if !ok {
			return array
		}
		if _, ok := sel.below(id); !ok {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, field...)
	}
	return append(out, ']')
}
