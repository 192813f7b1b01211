package zendeskapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	maxFaultsPerAnswer = 20
	maxFieldErrors     = 200 // of an answer
	maxPerField        = 10  // so that no field crowds out another
)

// fault is what an answer says went wrong.
type fault struct {
	code   string
	detail string
	fields []FieldError
}

// parseFault reads an error body. Zendesk has seven shapes of them:
//
//	{"error":"RecordInvalid","description":"…","details":{"status":[{"description":"…","error":"…"}]}}
//	{"error":{"title":"…","message":"…"}}
//	{"error":"RecordNotFound","description":"…"}
//	{"errors":[{"code":"…","title":"…","detail":"…"}]}
//	{"error":"TooManyValues","description":"…","max_count":100}
//	{"error":"invalid_token","error_description":"…"}
//	text or HTML
//
// Of each text there is what tell makes of it. found tells whether the body is JSON that reports an error: with status 200
// only that makes it one.
func parseFault(body []byte, tell teller) (said fault, found bool) {
	trimmed := bytes.TrimSpace(body)
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(trimmed, &keys); err != nil {
		return fault{detail: tell(plainText(trimmed), maxDetailRunes)}, false
	}
	var code, detail string
	switch raw := keys["error"]; {
	case isObject(raw):
		inner := texts(raw, "title", "code", "message", "description")
		code, detail = first(inner["title"], inner["code"]), first(inner["message"], inner["description"])
	default:
		code = scalar(raw)
	}
	var list []json.RawMessage
	if json.Unmarshal(keys["errors"], &list) == nil {
		for i, item := range list[:min(len(list), maxFaultsPerAnswer)] {
			itemCode, itemDetail := scalar(item), ""
			if isObject(item) {
				inner := texts(item, "code", "title", "detail", "message")
				itemCode = first(inner["code"], inner["title"])
				itemDetail = join(": ", inner["title"], first(inner["detail"], inner["message"]))
			}
			if i == 0 && code == "" {
				code = itemCode
			}
			detail = join("; ", detail, first(itemDetail, itemCode))
		}
	}
	found = code != "" || detail != ""
	outer := texts(trimmed, "description", "error_description", "message")
	detail = first(detail, outer["description"], outer["error_description"], outer["message"])
	fields := fieldErrors(keys["details"], tell)
	if isObject(keys["errors"]) {
		fields = append(fields, fieldErrors(keys["errors"], tell)...)
		found = found || len(fields) > 0
	}
	for _, f := range fields {
		detail = join("; ", detail, join(": ", f.Field, f.Description))
	}
	return fault{code: tell(code, maxCodeRunes), detail: tell(detail, maxDetailRunes), fields: fields}, found
}

// fieldErrors reads details: by field, a list of objects or texts, one of them, or such details of the field's parts.
func fieldErrors(raw json.RawMessage, tell teller) []FieldError {
	var byField map[string]json.RawMessage
	if json.Unmarshal(raw, &byField) != nil {
		return nil
	}
	var fields []FieldError
	for _, name := range slices.Sorted(maps.Keys(byField)) {
		if len(fields) >= maxFieldErrors {
			break
		}
		found := errorsOf(byField[name], 0, tell)
		if len(found) == 0 {
			found = []FieldError{{}} // it is named: that is something
		}
		for _, f := range found[:min(len(found), maxPerField)] {
			f.Field = tell(name, maxCodeRunes)
			fields = append(fields, f)
		}
	}
	return fields
}

// errorsOf reads what is said of one field.
func errorsOf(raw json.RawMessage, depth int, tell teller) []FieldError {
	const maxDepth = 3
	var list []json.RawMessage
	var parts map[string]json.RawMessage
	switch {
	case depth > maxDepth:
		return nil
	case json.Unmarshal(raw, &list) == nil:
		var found []FieldError
		for _, item := range list[:min(len(list), maxPerField)] {
			found = append(found, errorsOf(item, depth+1, tell)...)
		}
		return found
	case json.Unmarshal(raw, &parts) != nil:
		if text := scalar(raw); text != "" {
			return []FieldError{{Description: tell(text, maxDetailRunes)}}
		}
		return nil
	}
	said := FieldError{
		Code:        tell(scalar(parts["error"]), maxCodeRunes),
		Description: tell(first(scalar(parts["description"]), scalar(parts["message"])), maxDetailRunes),
	}
	if id := scalar(parts["ticket_field_id"]); isID(id) {
		said.TicketField = id
	}
	if said != (FieldError{}) {
		return []FieldError{said}
	}
	var found []FieldError
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		for _, f := range errorsOf(parts[name], depth+1, tell) {
			f.Description = tell(join(": ", name, f.Description), maxDetailRunes)
			found = append(found, f)
		}
	}
	return found
}

// customFieldName is how Zendesk names a custom field: custom_fields.360001, custom_field_360001, ticket_field_360001 …
var customFieldName = regexp.MustCompile(`^(?:ticket\.)?(?:custom_|ticket_)?fields?[._\[]?([0-9]{1,20})\]?$`)

// CustomField returns the id of the custom field that Zendesk means, if it told: by the field's name, or beside it.
func (f FieldError) CustomField() (id string, ok bool) {
	if found := customFieldName.FindStringSubmatch(f.Field); found != nil {
		return found[1], true
	}
	if isID(f.Field) {
		return f.Field, true
	}
	return f.TicketField, f.TicketField != ""
}

// texts returns the members of an object that are strings or numbers.
func texts(raw json.RawMessage, names ...string) map[string]string {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return nil
	}
	found := map[string]string{}
	for _, name := range names {
		found[name] = scalar(members[name])
	}
	return found
}

// plainText is what of a body that is no JSON object is worth showing: not HTML.
func plainText(body []byte) string {
	if text := scalar(body); text != "" {
		return text
	}
	if isPage(body) || json.Valid(body) {
		return ""
	}
	return string(body[:min(len(body), maxBodyTextBytes)])
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func join(separator string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), separator)
}
