package zendeskapi

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxBodyTextBytes   = 64 << 10
	maxDetailRunes     = 500
	maxCodeRunes       = 100
	maxFaultsPerAnswer = 20
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
// found tells whether the body is JSON that reports an error: with status 200 only that makes it one.
func parseFault(body []byte) (said fault, found bool) {
	trimmed := bytes.TrimSpace(body)
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(trimmed, &keys); err != nil {
		return fault{detail: sanitize(plainText(trimmed), maxDetailRunes)}, false
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
	fields := fieldErrors(keys["details"])
	for _, f := range fields {
		detail = join("; ", detail, join(": ", f.Field, f.Description))
	}
	return fault{code: sanitize(code, maxCodeRunes), detail: sanitize(detail, maxDetailRunes), fields: fields}, found
}

// fieldErrors reads details: by field, a list of objects or of texts.
func fieldErrors(raw json.RawMessage) []FieldError {
	var byField map[string]json.RawMessage
	if json.Unmarshal(raw, &byField) != nil {
		return nil
	}
	names := make([]string, 0, len(byField))
	for name := range byField {
		names = append(names, name)
	}
	slices.Sort(names)
	var fields []FieldError
	for _, name := range names {
		var items []json.RawMessage
		if json.Unmarshal(byField[name], &items) != nil {
			items = []json.RawMessage{byField[name]}
		}
		for _, item := range items {
			if len(fields) == maxFaultsPerAnswer {
				return fields
			}
			f := FieldError{Field: sanitize(name, maxCodeRunes), Description: sanitize(scalar(item), maxDetailRunes)}
			if isObject(item) {
				inner := texts(item, "error", "description")
				f.Code = sanitize(inner["error"], maxCodeRunes)
				f.Description = sanitize(inner["description"], maxDetailRunes)
			}
			fields = append(fields, f)
		}
	}
	return fields
}

func isObject(raw json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) }

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

// scalar is a string's text or a number as it is written; the empty string for everything else.
func scalar(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String()
	}
	return ""
}

// plainText is what of a body that is no JSON object is worth showing: not HTML.
func plainText(body []byte) string {
	if text := scalar(body); text != "" {
		return text
	}
	if bytes.HasPrefix(body, []byte("<")) || json.Valid(body) {
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

// sanitize makes one line of a text from outside: no control or invisible formatting characters, at most n characters.
func sanitize(text string, n int) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.C, r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	runes := []rune(strings.Join(strings.Fields(clean), " "))
	if len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return string(runes)
}

// bodyText is a body as valid UTF-8, cut on a character boundary.
func bodyText(body []byte) string {
	// Cut before and after: making it valid can lengthen it.
	text := strings.ToValidUTF8(string(body[:min(len(body), maxBodyTextBytes+utf8.UTFMax)]), "\uFFFD")
	if len(text) <= maxBodyTextBytes {
		return text
	}
	end := maxBodyTextBytes
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
