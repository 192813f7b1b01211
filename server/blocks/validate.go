package blocks

import (
	"strings"
	"unicode"

	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Limits of blocks. The proto comments state the same figures.
const (
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
)

// violations collects everything that is wrong with a block's request.
type violations struct{ rpc.Violations }

// block checks what all block requests have.
func (v *violations) block(req request) {
	v.Token("interaction_id", req.GetInteractionId(), true)
	v.Token("request_id", req.GetRequestId(), false)
	vars := req.GetVariables()
	if len(vars) > maxVariables {
		v.Add("variables", "has %d entries; at most %d are allowed", len(vars), maxVariables)
	}
	size := 0
	for name, value := range vars {
		size += len(name) + len(value)
	}
	if size > maxVariablesBytes {
		v.Add("variables", "has %d bytes; at most %d are allowed", size, maxVariablesBytes)
	}
	if _, ok := vars[""]; ok {
		v.Add("variables", "must not have an entry without a name")
	}
}

// template parses a text setting. It returns nil when it has reported a violation.
func (v *violations) template(field, text string) *variables.Template {
	if len(text) > maxTextBytes {
		v.Add(field, "has %d bytes; at most %d are allowed", len(text), maxTextBytes)
		return nil
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }) {
		v.Add(field, "must not contain control characters")
		return nil
	}
	return v.longTemplate(field, text)
}

// longTemplate is template for settings with limits of their own.
func (v *violations) longTemplate(field, text string) *variables.Template {
	t, err := variables.Parse(text)
	if err != nil {
		v.Add(field, "%v", err)
		return nil
	}
	return t
}

// requiredTemplate is template for settings that cannot be left empty.
func (v *violations) requiredTemplate(field, text string) *variables.Template {
	if strings.TrimSpace(text) == "" {
		v.Add(field, "is required")
		return nil
	}
	return v.template(field, text)
}
