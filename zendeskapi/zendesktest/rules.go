package zendesktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// rules say how each writable key of a resource is read. A rule is false when
// the value is of the wrong type or not allowed.
type rules map[string]func(json.RawMessage) bool

// apply reads the fields of a request. Keys without a rule are dropped and
// told, and so are those with a wrong value.
func (r rules) apply(resource string, fields map[string]json.RawMessage) (dropped, wrong []string) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		rule, known := r[key]
		switch {
		case !known:
			dropped = append(dropped, resource+"."+key)
		case !rule(fields[key]):
			wrong = append(wrong, key)
		}
	}
	return dropped, wrong
}

// warn tells the keys that were dropped, the only sign of it that Zendesk gives.
func warn(r *reply, dropped []string) {
	if len(dropped) == 0 {
		return
	}
	quoted := make([]string, len(dropped))
	for i, key := range dropped {
		quoted[i] = fmt.Sprintf("%+q", key)
	}
	r.header.Set("X-Zendesk-Api-Warn",
		"Removed restricted keys ["+strings.Join(quoted, ", ")+"] from parameters according to whitelist")
}

// into reads a JSON value into target. Numbers pass for strings, and strings of
// digits for numbers.
func into[T any](target *T) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		if len(raw) == 0 {
			return false
		}
		var value T
		if json.Unmarshal(raw, &value) == nil {
			*target = value
			return true
		}
		var number json.Number
		if json.Unmarshal(raw, &number) != nil {
			return false
		}
		for _, form := range []string{number.String(), `"` + number.String() + `"`} {
			var value T
			if json.Unmarshal([]byte(form), &value) == nil {
				*target = value
				return true
			}
		}
		return false
	}
}

// optionalID reads the id of a record that there is, or null.
func optionalID(target **int64, exists func(int64) bool) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		var id *int64
		if !into(&id)(raw) || id != nil && !exists(*id) {
			return false
		}
		*target = id
		return true
	}
}

// tagsInto reads a set of tags, as an array or as words.
func tagsInto(target *[]string) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		var list []string
		if !into(&list)(raw) {
			var text string
			if !into(&text)(raw) {
				return false
			}
			list = strings.Fields(text)
		}
		*target = tagSet(list)
		return true
	}
}

// tagSet is tags as Zendesk keeps them: lower case, no spaces, sorted, once each.
func tagSet(tags []string) []string {
	set := []string{}
	for _, t := range tags {
		if t = strings.ToLower(strings.Join(strings.Fields(t), "_")); t != "" {
			set = append(set, t)
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// fieldsInto merges profile fields; keys the profile has not are ignored.
func fieldsInto(target *map[string]any) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		var given map[string]any
		if !into(&given)(raw) {
			return false
		}
		merged := maps.Clone(*target)
		for key, value := range given {
			if _, known := merged[key]; known {
				merged[key] = value
			}
		}
		*target = merged
		return true
	}
}
