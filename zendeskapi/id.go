package zendeskapi

import (
	"encoding/json"
	"net/url"
	"strings"
)

// isID tells whether a text is decimal digits, as Zendesk's ids are: whole numbers beyond what a float holds exactly.
func isID(text string) bool {
	return text != "" && len(text) <= 20 && strings.Trim(text, "0123456789") == ""
}

// apiPath joins segments to a path of the API, each escaped.
func apiPath(segments ...string) string {
	escaped := make([]string, len(segments))
	for i, segment := range segments {
		escaped[i] = url.PathEscape(segment)
	}
	return "/api/v2/" + strings.Join(escaped, "/") + ".json"
}

// number writes an id, which isID, as a JSON number without leading zeros; the empty id as nothing.
func number(id string) json.RawMessage {
	if id == "" {
		return nil
	}
	return json.RawMessage(strings.TrimLeft(id[:len(id)-1], "0") + id[len(id)-1:])
}
