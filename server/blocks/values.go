package blocks

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// values finds the values of variables: those of the request, then those of the interaction's current records.
type values struct {
	tx      *store.InteractionTxn
	request map[string]string
	records map[string]map[string]string // by recordset name: its variables, by full name
	err     error                        // of the store; lookups cannot return it
}

func newValues(tx *store.InteractionTxn, req request) *values {
	return &values{tx: tx, request: req.GetVariables(), records: make(map[string]map[string]string)}
}

func (v *values) lookup(name string) (string, bool) {
	if value, ok := v.request[name]; ok {
		return value, true
	}
	set, _, ok := strings.Cut(name, ".")
	if !ok || v.err != nil {
		return "", false
	}
	vars, ok := v.records[set]
	if !ok {
		vars, v.err = currentVariables(v.tx, set)
		v.records[set] = vars
	}
	value, ok := vars[name]
	return value, ok
}

// expand replaces the variables of a text setting. What the setting's place does not allow is a failure.
func (v *values) expand(t *variables.Template, place variables.Place, region string) (string, *zendeskv1.Failure, error) {
	text, err := t.Expand(place, v.lookup, region)
	if v.err != nil {
		return "", nil, v.err
	}
	if err != nil {
		return "", expandFailure(err), nil
	}
	return text, nil, nil
}

// expandQuery is expand for a search string, which is limited also after its variables are replaced.
func (v *values) expandQuery(t *variables.Template, region string) (string, *zendeskv1.Failure, error) {
	query, f, err := v.expand(t, variables.SearchString, region)
	if err == nil && f == nil && len(query) > maxTextBytes {
		f = rpc.Failure(store.ReasonInvalidRequest,
			fmt.Sprintf("search_string has %d bytes after its variables were replaced; at most %d are allowed", len(query), maxTextBytes))
	}
	return query, f, err
}

func expandFailure(err error) *zendeskv1.Failure {
	reason := store.ReasonInvalidRequest
	if _, ok := errors.AsType[*variables.UndefinedError](err); ok {
		reason = store.ReasonUndefinedVariable
	} else if _, ok := errors.AsType[*variables.EmptyError](err); ok {
		reason = store.ReasonEmptyValue
	}
	return rpc.Failure(reason, err.Error())
}

// currentVariables returns the variables that a recordset's current record sets, by full name; nil if there is no such
// recordset.
func currentVariables(tx *store.InteractionTxn, name string) (map[string]string, error) {
	rs, err := tx.Recordset(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, columns, err := currentRecord(tx, rs)
	if err != nil {
		return nil, err
	}
	return recordVariables(rs, columns), nil
}

// currentRecord returns a recordset's current record and its columns; none when it stands on no record.
func currentRecord(tx *store.InteractionTxn, rs store.Recordset) (json.RawMessage, map[string]string, error) {
	if rs.Position == 0 {
		return nil, nil, nil
	}
	raw, err := tx.Record(rs.Name, rs.Position)
	if err != nil {
		return nil, nil, err
	}
	columns, err := recordset.Flatten(raw, rs.Columns)
	if err != nil {
		return nil, nil, err
	}
	return raw, columns, nil
}

// recordVariables returns all variables of a recordset whose current record has these columns.
func recordVariables(rs store.Recordset, columns map[string]string) map[string]string {
	count := ""
	if !rs.Removed {
		count = strconv.Itoa(rs.Count)
	}
	return recordset.Variables(rs.Name, columns, rs.ColumnsSet, count)
}
