package recordset

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Columns finds single columns of a record and leaves the rest of it alone: a record has up to 1 MiB, and the settings of
// a block name a few of its columns. It is not safe for concurrent use.
type Columns struct {
	members   map[string]json.RawMessage
	trees     map[string]any // members that were asked for
	selection selection
}

// NewColumns reads a record, of which columns are those that Flatten would be given. The error is Flatten's.
func NewColumns(record json.RawMessage, columns []string) (*Columns, error) {
	top, err := members(record)
	if err != nil {
		return nil, err
	}
	if kindOf(top[customFields]) == '[' {
		delete(top, duplicateFields)
	}
	return &Columns{members: top, trees: make(map[string]any), selection: newSelection(columns)}, nil
}

// Column returns what Flatten has under the name, also where the record has more columns than Flatten returns.
func (c *Columns) Column(name string) (string, bool) {
	if below, ok := c.selection.below(name); !ok || below != nil || len(name) > MaxColumnBytes {
		return "", false
	}
	return find(c.member, name, 1)
}

// member returns the tree of a member of the record.
func (c *Columns) member(key string) (any, bool) {
	if found, ok := c.trees[key]; ok {
		return found, true
	}
	raw, ok := c.members[key]
	if !ok {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) != nil {
		return nil, false // cannot happen: the record was valid
	}
	if array, ok := value.([]any); ok && key == customFields {
		if byID, ok := fieldsByID(array); ok {
			value = byID
		}
	}
	c.trees[key] = treeOf(value)
	return c.trees[key], true
}

// treeOf makes a value of texts and maps: each is read once, however many columns below it are asked for.
func treeOf(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			value[key] = treeOf(member)
		}
		return value
	case []any:
		if text, ok := joined(value); ok {
			return text
		}
		byIndex := make(map[string]any, len(value))
		for i, element := range value {
			byIndex[strconv.Itoa(i)] = treeOf(element)
		}
		return byIndex
	}
	text, _ := scalar(value)
	return text
}

// find finds a column by its name below members at a depth. Names of members may hold dots; where several make the name,
// the longest comes last in Flatten's order, and counts.
func find(member func(key string) (any, bool), name string, depth int) (string, bool) {
	for at := len(name); at >= 0; at-- {
		if at < len(name) && name[at] != '.' {
			continue
		}
		value, ok := member(name[:at])
		if !ok {
			continue
		}
		switch value := value.(type) {
		case string:
			if at == len(name) {
				return value, true
			}
		case map[string]any:
			if at == len(name) || depth == MaxDepth {
				continue
			}
			below := func(key string) (any, bool) { found, ok := value[key]; return found, ok }
			if text, ok := find(below, name[at+1:], depth+1); ok {
				return text, true
			}
		}
	}
	return "", false
}
