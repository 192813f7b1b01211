package blocks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// A scenario's author writes an object as fields, each of them text, or as JSON. Here both become the object that Zendesk is
// sent. Nothing here waits, and nothing knows of requests.

const customFields = "custom_fields"

// listFields are the fields that hold lists, whatever object they belong to.
var listFields = []string{
	"additional_collaborators", "additional_tags", "collaborator_ids", "collaborators", "domain_names", "email_cc_ids", "follower_ids", "macro_ids",
	"organization_ids", "remove_tags", "sharing_agreement_ids", "tags", "uploads",
}

// boolFields are the fields that are true or false.
var boolFields = []string{
	"moderator", "only_private_comments", "public", "restricted_agent", "safe_update", "shared_comments", "shared_tickets", "skip_verify_email",
	"suspended", "verified",
}

// fieldPath splits the key of a field into the names of nested objects. The error says what is wrong with the key.
func fieldPath(kind zendeskapi.RecordKind, key string) ([]string, error) {
	path := strings.Split(key, ".")
	if slices.Contains(path, "") {
		return nil, errors.New("has a name without characters")
	}
	if kind == zendeskapi.TicketRecord && path[0] == customFields {
		if len(path) != 2 || strings.Trim(path[1], "0123456789") != "" || len(path[1]) > 19 {
			return nil, fmt.Errorf("must be %s. and the field's id", customFields)
		}
	}
	return path, nil
}

// clashOf finds a field that is set as a whole and by its parts; empty if there is none.
func clashOf(fields map[string]string) string {
	for key := range fields {
		for at := range key {
			if key[at] == '.' {
				if _, whole := fields[key[:at]]; whole {
					return key
				}
			}
		}
	}
	return ""
}

// objectOfFields makes the object of fields, whose keys fieldPath has accepted and clashOf has found nothing in.
func objectOfFields(kind zendeskapi.RecordKind, fields map[string]string) (json.RawMessage, error) {
	root := members{}
	var custom []json.RawMessage
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		path, err := fieldPath(kind, key)
		if err != nil {
			return nil, fmt.Errorf("field %q %w", key, err)
		}
		if kind == zendeskapi.TicketRecord && path[0] == customFields {
			custom = append(custom, slices.Concat([]byte(`{"id":`), number(path[1]), []byte(`,"value":`), textOf(fields[key]), []byte("}")))
			continue
		}
		root.set(path, valueOf(path[len(path)-1], fields[key]))
	}
	if custom != nil {
		root = append(root, member{name: customFields, value: slices.Concat([]byte("["), bytes.Join(rawsOf(custom), []byte(",")), []byte("]"))})
	}
	return root.encode(), nil
}

func rawsOf(values []json.RawMessage) [][]byte {
	raws := make([][]byte, len(values))
	for i, value := range values {
		raws[i] = value
	}
	return raws
}

// valueOf is the JSON of a field's text: a list where the field holds one, true or false where it is that, a number or null
// where it is an id of Zendesk's; else a text.
func valueOf(name, text string) json.RawMessage {
	switch trimmed := strings.TrimSpace(text); {
	case slices.Contains(listFields, name):
		list := []json.RawMessage{}
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, scalarOf(strings.HasSuffix(name, "_ids"), part))
			}
		}
		return slices.Concat([]byte("["), bytes.Join(rawsOf(list), []byte(",")), []byte("]"))
	case slices.Contains(boolFields, name) && (strings.EqualFold(trimmed, "true") || strings.EqualFold(trimmed, "false")):
		return json.RawMessage(strings.ToLower(trimmed))
	case strings.HasSuffix(name, "_id") && name != "external_id":
		if trimmed == "" {
			return json.RawMessage("null")
		}
		return scalarOf(true, trimmed)
	}
	return textOf(text)
}

// scalarOf is a number where an id is wanted and there is one; else a text.
func scalarOf(id bool, text string) json.RawMessage {
	if id && len(text) <= 19 && strings.Trim(text, "0123456789") == "" {
		return number(text)
	}
	return textOf(text)
}

// number writes digits as a JSON number.
func number(digits string) json.RawMessage {
	return json.RawMessage(strings.TrimLeft(digits[:len(digits)-1], "0") + digits[len(digits)-1:])
}

func textOf(text string) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // every string has an encoding
	return bytes.TrimSpace(out.Bytes())
}

// members are those of a JSON object, in their order.
type members []member

type member struct {
	name  string
	value json.RawMessage
	below *members // instead of value
}

// set sets what is at a path.
func (m *members) set(path []string, value json.RawMessage) {
	at := slices.IndexFunc(*m, func(one member) bool { return one.name == path[0] })
	if at < 0 {
		at = len(*m)
		*m = append(*m, member{name: path[0]})
	}
	one := &(*m)[at]
	if len(path) == 1 {
		one.value, one.below = value, nil
		return
	}
	if one.below == nil {
		one.below = &members{}
	}
	one.below.set(path[1:], value)
}

// get returns the value of a member; nil if there is none.
func (m members) get(name string) json.RawMessage {
	for _, one := range m {
		if one.name == name {
			if one.below != nil {
				return one.below.encode()
			}
			return one.value
		}
	}
	return nil
}

func (m members) encode() json.RawMessage {
	out := []byte{'{'}
	for i, one := range m {
		if i > 0 {
			out = append(out, ',')
		}
		value := one.value
		if one.below != nil {
			value = one.below.encode()
		}
		out = append(append(append(out, textOf(one.name)...), ':'), value...)
	}
	return append(out, '}')
}

var (
	errNotAnObject = errors.New("it must be one JSON object")
	errNotJSON     = errors.New("it is not valid JSON once its variables are replaced")
	errTwice       = errors.New("an object in it has two members of one name")
	errBeside      = errors.New("it has members beside the object's wrapper")
)

// readMembers reads a JSON object. One that has a name twice could be read as saying either.
func readMembers(text json.RawMessage) (members, error) {
	if !json.Valid(text) {
		return nil, errNotJSON
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errNotAnObject
	}
	read := members{}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errNotJSON // cannot happen: it is valid
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, errNotJSON
		}
		if seen[name] {
			return nil, errTwice
		}
		seen[name] = true
		read = append(read, member{name: name, value: value})
	}
	return read, nil
}

// objectOfJSON reads an object that is written as JSON, in Zendesk's wrapper or without.
func objectOfJSON(kind zendeskapi.RecordKind, text string) (json.RawMessage, error) {
	object, err := readMembers(json.RawMessage(text))
	if err != nil {
		return nil, err
	}
	inner := object.get(string(kind))
	if inner == nil {
		return json.RawMessage(text), nil
	}
	if len(object) > 1 {
		return nil, errBeside
	}
	if _, err := readMembers(inner); err != nil {
		return nil, err
	}
	return inner, nil
}

// private makes what a ticket's object says to people private, unless it says itself who may read it: Zendesk's default may
// mail it to the customer. A comment that is only a text becomes an object, and so does the description of a new ticket, which
// is its first comment.
func private(object json.RawMessage, isNew bool) (json.RawMessage, error) {
	ticket, err := readMembers(object)
	if err != nil {
		return nil, err
	}
	comment := ticket.get("comment")
	if description := ticket.get("description"); isNew && isNull(comment) && isText(description) {
		ticket = slices.DeleteFunc(ticket, func(m member) bool { return m.name == "description" || m.name == "comment" })
		comment = description
	}
	if isText(comment) {
		comment = slices.Concat([]byte(`{"body":`), comment, []byte("}"))
	}
	if isNull(comment) {
		return object, nil
	}
	said, err := readMembers(comment)
	if err != nil {
		return nil, fmt.Errorf("comment: %w", err)
	}
	if isNull(said.get("public")) {
		said.set([]string{"public"}, json.RawMessage("false"))
	}
	ticket.set([]string{"comment"}, said.encode())
	return ticket.encode(), nil
}

func isNull(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }

func isText(value json.RawMessage) bool { return len(value) > 0 && value[0] == '"' }

// identityOf returns the values by which Zendesk tells one object of a kind from all others; empty ones are left out.
func identityOf(kind zendeskapi.RecordKind, object json.RawMessage) map[string]string {
	names := map[zendeskapi.RecordKind][]string{
		zendeskapi.UserRecord:         {"email", "external_id", "phone"},
		zendeskapi.OrganizationRecord: {"external_id", "name"},
	}[kind]
	identity := map[string]string{}
	read, err := readMembers(object)
	if err != nil {
		return identity
	}
	for _, name := range names {
		var text string
		var digits json.Number
		raw := read.get(name)
		if json.Unmarshal(raw, &text) != nil && json.Unmarshal(raw, &digits) == nil {
			text = digits.String()
		}
		if text = strings.TrimSpace(text); text != "" {
			identity[name] = text
		}
	}
	return identity
}

// orUpdates tells whether a new object of that identity is to be made only where there is none: where Zendesk can tell.
func orUpdates(kind zendeskapi.RecordKind, identity map[string]string) bool {
	switch kind {
	case zendeskapi.UserRecord:
		return identity["email"] != "" || identity["external_id"] != ""
	case zendeskapi.OrganizationRecord:
		return identity["external_id"] != ""
	}
	return false
}
