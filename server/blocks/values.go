package blocks

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// values finds the values of variables: those of the request, then those of the interaction's current records. Each record
// is read once, and of it no more than the columns that are named.
type values struct {
	tx      *store.InteractionTxn
	request map[string]string
	records map[string]*recordValues // by recordset name; nil: there is no such recordset
	err     error                    // of the store; lookups cannot return it
}

// recordValues are the variables of a recordset.
type recordValues struct {
	set     store.Recordset
	current *recordset.Columns // nil: not read, or it stands on no record
	read    bool
}

func newValues(tx *store.InteractionTxn, req request) *values {
	return &values{tx: tx, request: req.GetVariables(), records: make(map[string]*recordValues)}
}

func (v *values) lookup(name string) (string, bool) {
	if value, ok := v.request[name]; ok {
		return value, true
	}
	set, column, ok := strings.Cut(name, ".")
	if !ok || v.err != nil {
		return "", false
	}
	found, ok := v.records[set]
	if !ok {
		if found, v.err = v.recordset(set); v.err != nil {
			return "", false
		}
		v.records[set] = found
	}
	if found == nil {
		return "", false
	}
	return v.column(found, column)
}

func (v *values) recordset(name string) (*recordValues, error) {
	rs, err := v.tx.Recordset(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &recordValues{set: rs}, err
}

// column returns what the scenario was told of a column of the current record.
func (v *values) column(of *recordValues, name string) (string, bool) {
	if name == recordset.CountColumn {
		return countOf(of.set), true
	}
	if !of.read && of.set.Position > 0 {
		raw, err := v.tx.Record(of.set.Name, of.set.Position)
		if err == nil {
			of.current, err = recordset.NewColumns(raw, of.set.Columns)
		}
		if v.err = err; err != nil {
			return "", false
		}
	}
	of.read = true
	if of.current != nil {
		if value, ok := of.current.Column(name); ok {
			return value, true
		}
	}
	_, ever := slices.BinarySearch(of.set.ColumnsSet, name)
	return "", ever
}

// expand replaces the variables of a text setting, which has no more than limit bytes then. What the setting's place does
// not allow is a failure.
func (v *values) expand(t *variables.Template, place variables.Place, region string, limit int) (string, *zendeskv1.Failure, error) {
	text, err := t.Expand(place, v.lookup, region, limit)
	if v.err != nil {
		return "", nil, v.err
	}
	if err != nil {
		return "", expandFailure(err), nil
	}
	return text, nil, nil
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
	return recordset.Variables(rs.Name, columns, rs.ColumnsSet, countOf(rs))
}

// countOf is the number of records as the scenario is told it.
func countOf(rs store.Recordset) string {
	if rs.Removed {
		return ""
	}
	return strconv.Itoa(rs.Count)
}
