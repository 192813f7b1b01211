package zendesktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// rules say how each writable key of a resource is read. A rule is false when
// the value is of the wrong type or not allowed.
type rules map[string]func(json.RawMessage) bool

// apply reads the fields of a request. Keys without a rule are dropped and
// told, and so are those whose value is not of their type; wrong are those whose
// value is, and is not allowed.
func (r rules) apply(resource string, fields map[string]json.RawMessage) (dropped, wrong []string) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		rule, known := r[key]
		switch {
		case !known:
			dropped = append(dropped, resource+"."+key)
		case rule(fields[key]):
		case structured(fields[key]), structures[key]:
			dropped = append(dropped, resource+"."+key)
		default:
			wrong = append(wrong, key)
		}
	}
	return dropped, wrong
}

// structures are the keys whose values are arrays or objects.
var structures = map[string]bool{
	"domain_names": true, "user_fields": true, "organization_fields": true, "identities": true,
	"custom_fields": true, "fields": true, "collaborator_ids": true, "follower_ids": true, "email_cc_ids": true,
}

// structured tells whether a JSON value is an array or an object.
func structured(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) > 0 && (raw[0] == '[' || raw[0] == '{')
}

// verdict is what is to be told of the fields of a request.
type verdict struct {
	dropped  []string
	problems problems
}

func (v *verdict) apply(r rules, resource string, fields map[string]json.RawMessage) {
	dropped, wrong := r.apply(resource, fields)
	v.dropped = append(v.dropped, dropped...)
	v.problems.invalid(wrong)
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

// profileField is a custom field of people or organizations.
type profileField struct {
	key     string
	kind    string   // text, checkbox or dropdown
	options []string // of a dropdown
}

// read turns what a request gives into what the profile holds. The second
// result is false when the field does not take it.
func (f profileField) read(raw json.RawMessage) (any, bool) {
	if string(raw) == "null" || string(raw) == `""` {
		return nil, true
	}
	var on bool
	if f.kind == "checkbox" && into(&on)(raw) {
		return on, true
	}
	var text string
	if !into(&text)(raw) {
		return nil, false
	}
	switch f.kind {
	case "checkbox":
		on, err := strconv.ParseBool(text)
		return on, err == nil
	case "dropdown":
		return text, slices.Contains(f.options, text)
	}
	return text, true
}

// profileInto merges the fields of a profile, whose name is what the request
// has them under. Those that nobody knows are dropped.
func (v *verdict) profileInto(target *map[string]any, name string, known []profileField) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		var given map[string]json.RawMessage
		if !into(&given)(raw) {
			return false
		}
		merged := maps.Clone(*target)
		for _, key := range slices.Sorted(maps.Keys(given)) {
			i := slices.IndexFunc(known, func(f profileField) bool { return f.key == key })
			if i < 0 || structured(given[key]) {
				v.dropped = append(v.dropped, name+"."+key)
				continue
			}
			value, ok := known[i].read(given[key])
			if !ok {
				v.problems.add(key, title(key)+": is invalid", "InvalidValue")
				continue
			}
			merged[key] = value
		}
		*target = merged
		return true
	}
}
