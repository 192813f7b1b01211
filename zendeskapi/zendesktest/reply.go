package zendesktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// reply is an answer not yet sent: it is made under the lock and sent after it.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// object is a JSON object whose keys need no order of their own.
type object map[string]any

func answer(status int, value any) *reply {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return text(http.StatusInternalServerError, err.Error())
	}
	r := text(status, string(bytes.TrimSuffix(body.Bytes(), []byte("\n"))))
	r.header.Set("Content-Type", "application/json; charset=utf-8")
	return r
}

func text(status int, body string) *reply {
	return &reply{
		status: status,
		header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		body:   []byte(body),
	}
}

// The error bodies come in several shapes, as Zendesk's do: each part of its
// API has one of its own.

// failure is {"error": code, "description": …}.
func failure(status int, code, description string) *reply {
	return answer(status, struct {
		Error       string `json:"error"`
		Description string `json:"description"`
	}{code, description})
}

// titled is {"error": {"title": …, "message": …}}.
func titled(status int, title, message string) *reply {
	type body struct {
		Title   string `json:"title"`
		Message string `json:"message"`
	}
	return answer(status, struct {
		Error body `json:"error"`
	}{body{title, message}})
}

// oauthFailure is the shape of RFC 6749, section 5.2.
func oauthFailure(status int, code, description string) *reply {
	return answer(status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{code, description})
}

// problem is one violated rule of a record.
type problem struct {
	Description   string `json:"description"`
	Error         string `json:"error,omitempty"`
	TicketFieldID int64  `json:"ticket_field_id,omitempty"`
}

// problems are all violated rules of a record, by the name Zendesk has for the
// part that breaks them.
type problems map[string][]problem

func (p problems) add(part, description, code string) {
	p[part] = append(p[part], problem{Description: description, Error: code})
}

// invalid adds the keys of a request whose values are wrong.
func (p problems) invalid(keys []string) {
	for _, key := range keys {
		p.add(key, strings.ToUpper(key[:1])+key[1:]+": is invalid", "InvalidValue")
	}
}

// refusal is Zendesk's 422 for a record that breaks its rules; nil for one that
// breaks none.
func (p problems) refusal() *reply {
	if len(p) == 0 {
		return nil
	}
	return answer(http.StatusUnprocessableEntity, struct {
		Error       string   `json:"error"`
		Description string   `json:"description"`
		Details     problems `json:"details"`
	}{"RecordInvalid", "Record validation errors", p})
}

// recordInvalid is the refusal for one value that is not allowed.
func recordInvalid(part, description string) *reply {
	return problems{part: {{Description: description, Error: "InvalidValue"}}}.refusal()
}

func recordNotFound() *reply {
	return failure(http.StatusNotFound, "RecordNotFound", "Not found")
}

func invalidEndpoint() *reply {
	return failure(http.StatusNotFound, "InvalidEndpoint", "Not found")
}

func invalidAttribute(name, rule string) *reply {
	return titled(http.StatusBadRequest, "Invalid attribute",
		fmt.Sprintf("You passed an invalid value for the %s attribute. %s", name, rule))
}

func forbidden() *reply {
	return titled(http.StatusForbidden, "Forbidden",
		"You do not have access to this page. Please contact the account owner of this help desk for further help.")
}
