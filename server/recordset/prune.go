package recordset

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Prune returns a record with what Flatten needs for the columns, what Identify needs, and little else: members of
// objects and custom fields are dropped one by one, other arrays stay whole. Values keep their bytes; members stand in the
// order of their names. Without columns the record itself is returned.
//
// The error is Flatten's, also without columns: what Prune accepts can be read later.
func Prune(record json.RawMessage, columns []string) (json.RawMessage, error) {
	if len(columns) == 0 {
		// A search keeps up to a thousand records: checking them is all that is needed.
		if kindOf(record) != '{' || !json.Valid(record) {
			return nil, errNotObject
		}
		return record, nil
	}
	top, err := members(record)
	if err != nil {
		return nil, err
	}
	sel := newSelection(columns)
	sel["id"], sel["result_type"] = nil, nil
	if custom := top[customFields]; kindOf(custom) == '[' {
		delete(top, duplicateFields)
		if below, ok := sel.below(customFields); ok && below != nil {
			if top[customFields], err = pruneFields(custom, below); err != nil {
				return nil, err
			}
		}
	}
	return pruneMembers(top, sel, 0)
}

func pruneMembers(object map[string]json.RawMessage, sel selection, depth int) (json.RawMessage, error) {
	out := []byte{'{'}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		below, ok := sel.below(key)
		if !ok {
			continue
		}
		value := object[key]
		if below != nil && kindOf(value) == '{' && depth < MaxDepth {
			nested, err := members(value)
			if err != nil {
				return nil, err
			}
			if value, err = pruneMembers(nested, below, depth+1); err != nil {
				return nil, err
			}
		}
		name, err := json.Marshal(key)
		if err != nil {
			return nil, fmt.Errorf("member of a record cannot be written: %w", err)
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, name...)
		out = append(out, ':')
		out = append(out, value...)
	}
	return append(out, '}'), nil
}

// pruneFields drops custom fields that are not selected. If they do not all have an id, the array stays whole, since then
// Flatten counts its elements.
func pruneFields(array json.RawMessage, sel selection) (json.RawMessage, error) {
	var fields []json.RawMessage
	if err := json.Unmarshal(array, &fields); err != nil {
		return nil, fmt.Errorf("custom fields of a record cannot be read: %w", err)
	}
	out := []byte{'['}
	for _, field := range fields {
		id, ok := fieldID(field)
		if !ok {
			return array, nil
		}
		if _, ok := sel.below(id); !ok {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, field...)
	}
	return append(out, ']'), nil
}

func fieldID(field json.RawMessage) (id string, ok bool) {
	if kindOf(field) != '{' {
		return "", false
	}
	object, err := members(field)
	if err != nil {
		return "", false
	}
	switch value := object["id"]; kindOf(value) {
	case '"':
		err = json.Unmarshal(value, &id)
		return id, err == nil
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return string(value), true
	}
	return "", false
}
