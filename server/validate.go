package server

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Limits of requests. The proto comments state the same figures.
const (
	maxIDLength       = 128
	maxTextBytes      = 4 << 10
	maxVariables      = 1000
	maxVariablesBytes = 512 << 10
	maxSearchResults  = zendeskapi.MaxSearchResults
	defaultResults    = 25
	maxColumns        = 200
	maxColumnBytes    = 256
	maxAttachedKeys   = 200
	maxAttachedKey    = 256
	maxAttachedValue  = 64 << 10
	maxAttachedBytes  = 256 << 10
	maxRecordsets     = 32 // of one interaction; a setting may refer to all of them, and each costs a transaction two keys
	maxScreenPops     = 50 // of one interaction; they are kept together
	maxPageSize       = 200
	defaultPageSize   = 50
	maxEmail          = 320
	maxZendeskID      = 19
)

var recordsetName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// token checks an id that a machine made: printable ASCII without space.
func (v *violations) token(field, value string, required bool) {
	switch {
	case value == "" && required:
		v.add(field, "is required")
	case len(value) > maxIDLength:
		v.add(field, "has %d characters; at most %d are allowed", len(value), maxIDLength)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		v.add(field, "must be printable ASCII without spaces")
	}
}

// text checks a setting that people typed: length in characters, no control characters, no white space at either end.
func (v *violations) text(field, value string, maxRunes int) {
	switch {
	case value == "":
		v.add(field, "is required")
	case utf8.RuneCountInString(value) > maxRunes:
		v.add(field, "has %d characters; at most %d are allowed", utf8.RuneCountInString(value), maxRunes)
	case strings.ContainsFunc(value, unicode.IsControl):
		v.add(field, "must not contain control characters")
	case strings.TrimSpace(value) != value:
		v.add(field, "must not start or end with white space")
	}
}

// secret checks a credential without ever repeating it.
func (v *violations) secret(field, value string, maxLength int) {
	switch {
	case len(value) > maxLength:
		v.add(field, "has %d characters; at most %d are allowed", len(value), maxLength)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		v.add(field, "must be printable ASCII without spaces")
	}
}

// recordsetName checks the name of a recordset.
func (v *violations) recordsetName(field, name string) {
	if !recordsetName.MatchString(name) {
		v.add(field, "must match %s", recordsetName)
	}
}

// template parses a text setting. It returns nil when it has reported a violation.
func (v *violations) template(field, text string) *variables.Template {
	if len(text) > maxTextBytes {
		v.add(field, "has %d bytes; at most %d are allowed", len(text), maxTextBytes)
		return nil
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }) {
		v.add(field, "must not contain control characters")
		return nil
	}
	return v.longTemplate(field, text)
}

// longTemplate is template for settings with limits of their own.
func (v *violations) longTemplate(field, text string) *variables.Template {
	t, err := variables.Parse(text)
	if err != nil {
		v.add(field, "%v", err)
		return nil
	}
	return t
}

// requiredTemplate is template for settings that cannot be left empty.
func (v *violations) requiredTemplate(field, text string) *variables.Template {
	if strings.TrimSpace(text) == "" {
		v.add(field, "is required")
		return nil
	}
	return v.template(field, text)
}

// block checks what all block requests have.
func (v *violations) block(req blockRequest) {
	v.token("interaction_id", req.GetInteractionId(), true)
	v.token("request_id", req.GetRequestId(), false)
	vars := req.GetVariables()
	if len(vars) > maxVariables {
		v.add("variables", "has %d entries; at most %d are allowed", len(vars), maxVariables)
	}
	size := 0
	for name, value := range vars {
		size += len(name) + len(value)
	}
	if size > maxVariablesBytes {
		v.add("variables", "has %d bytes; at most %d are allowed", size, maxVariablesBytes)
	}
	if _, ok := vars[""]; ok {
		v.add("variables", "must not have an entry without a name")
	}
}

// agent checks an agent.
func (v *violations) agent(field string, agent *zendeskv1.Agent) {
	email := agent.GetEmail()
	v.text(field+".email", email, maxEmail)
	if at := strings.LastIndexByte(email, '@'); email != "" && (at < 1 || at == len(email)-1 || strings.ContainsFunc(email, unicode.IsSpace)) {
		v.add(field+".email", "must be an e-mail address")
	}
	v.zendeskID(field+".zendesk_user_id", agent.GetZendeskUserId())
}

// zendeskID checks an optional id of Zendesk's.
func (v *violations) zendeskID(field, id string) {
	if len(id) > maxZendeskID || strings.Trim(id, "0123456789") != "" {
		v.add(field, "must be at most %d decimal digits", maxZendeskID)
	}
}

// enum checks that a value is one that this version knows.
func (v *violations) enum(field string, value protoreflect.Enum) {
	if value.Descriptor().Values().ByNumber(value.Number()) == nil {
		v.add(field, "is not a value of %s", value.Descriptor().Name())
	}
}

// time checks an optional time.
func (v *violations) time(field string, t *timestamppb.Timestamp) {
	if t != nil && t.CheckValid() != nil {
		v.add(field, "is not a valid time")
	}
}

// pageSize checks a page size and applies its default.
func (v *violations) pageSize(size int32) int {
	if size < 0 || size > maxPageSize {
		v.add("page_size", "must be 0 to %d", maxPageSize)
	}
	if size == 0 {
		return defaultPageSize
	}
	return int(size)
}
