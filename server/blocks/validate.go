package blocks

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Limits of blocks beside those of the fields, which package rpc has. The proto comments state the same figures.
const (
	maxSearchResults = zendeskapi.MaxSearchResults
	defaultResults   = 25
	maxAttachedKey   = 256 // once its variables are replaced
	maxRecordsets    = 32  // of one interaction
	maxScreenPops    = 50  // of one interaction; they are kept together
	maxCreated       = 100 // variables of one interaction for what it has created; they are kept with it
)

// violations collects everything that is wrong with a block's request.
type violations struct{ rpc.Violations }

// block checks what all block requests have.
func (v *violations) block(req request) {
	v.Token("interaction_id", req.GetInteractionId(), true)
	v.Token("request_id", req.GetRequestId(), false)
	vars := req.GetVariables()
	if len(vars) > rpc.MaxVariables {
		v.Add("variables", "has %d entries; at most %d are allowed", len(vars), rpc.MaxVariables)
		return
	}
	size := 0
	for name, value := range vars {
		size += len(name) + len(value)
	}
	if size > rpc.MaxVariablesBytes {
		v.Add("variables", "has %d bytes; at most %d are allowed", size, rpc.MaxVariablesBytes)
	}
	if _, ok := vars[""]; ok {
		v.Add("variables", "must not have an entry without a name")
	}
}

// columns checks the names of columns.
func (v *violations) columns(columns []string) {
	if len(columns) > rpc.MaxColumns {
		v.Add("columns", "has %d entries; at most %d are allowed", len(columns), rpc.MaxColumns)
		return
	}
	for i, column := range columns {
		if column == "" || len(column) > rpc.MaxColumn {
			v.Add(fmt.Sprintf("columns[%d]", i), "must have 1 to %d bytes", rpc.MaxColumn)
		}
		if v.Full() {
			return
		}
	}
}

// template parses a text setting. It returns nil when it has reported a violation.
func (v *violations) template(field, text string) *variables.Template {
	return v.setting(field, text, rpc.MaxText)
}

// setting is template for settings of another length.
func (v *violations) setting(field, text string, limit int) *variables.Template {
	if len(text) > limit {
		v.Add(field, "has %d bytes; at most %d are allowed", len(text), limit)
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

// variableName is how a scenario may call what a block sets.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]{0,127}$`)

// variable checks the name of a variable that a block sets.
func (v *violations) variable(field, name string, required bool) {
	if (name != "" || required) && !variableName.MatchString(name) {
		v.Add(field, "must match %s", variableName)
	}
}

// sortedKeys are the keys of a map, in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// requiredTemplate is template for settings that cannot be left empty.
func (v *violations) requiredTemplate(field, text string) *variables.Template {
	if strings.TrimSpace(text) == "" {
		v.Add(field, "is required")
		return nil
	}
	return v.template(field, text)
}
