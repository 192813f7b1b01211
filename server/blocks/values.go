package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	// maxReferences is how many different variables the settings of one block refer to, counted in each setting.
	maxReferences = 2000
	// maxReadBytes is how much of recordsets and their current records is read for the settings of one block.
	maxReadBytes = 2 << 20
)

// values has the values of the variables that the settings of a block refer to: those of the request, then those of the
// interaction's current records and of what its blocks have created. All are read from one snapshot before anything is expanded;
// expanding waits for nothing.
type values struct {
	request map[string]string
	records map[string]string  // by the name of the variable; those of created records among them
	failure *zendeskv1.Failure // of all settings: they refer to too much
}

// values looks for what the templates refer to; nil ones refer to nothing. Current records that nobody names are not read,
// and of the others only the columns that are named.
func (s *Service) values(ctx context.Context, b *block, templates ...*variables.Template) (*values, error) {
	v := &values{request: b.request.GetVariables(), records: make(map[string]string)}
	columns, names := v.columnsOf(templates)
	if len(names) == 0 || v.failure != nil {
		return v, nil
	}
	var found []namedRecord
	err := s.store.ViewInteraction(ctx, b.tenant, b.interaction, func(tx *store.InteractionTxn) (err error) {
		for _, name := range names {
			if id, ok := tx.Created(name); ok {
				v.records[name] = id
			}
		}
		found, v.failure, err = readNamed(tx, columns)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, named := range found {
		if err := v.add(named, columns[named.set.Name]); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// columnsOf returns what templates name and the request does not have: all names, and those that may be columns by the names
// of their recordsets.
func (v *values) columnsOf(templates []*variables.Template) (columns map[string][]string, names []string) {
	columns = make(map[string][]string)
	seen := make(map[string]bool)
	references := 0
	for _, t := range templates {
		for name := range t.Names() {
			if references++; references > maxReferences {
				v.failure = rpc.Failure(store.ReasonInvalidRequest, fmt.Sprintf("the settings refer to more than %d variables", maxReferences))
				return nil, nil
			}
			if _, given := v.request[name]; given || seen[name] {
				continue
			}
			seen[name] = true
			names = append(names, name)
			if set, column, ok := strings.Cut(name, "."); ok {
				columns[set] = append(columns[set], column)
			}
		}
	}
	return columns, names
}

// namedRecord is a recordset that a setting names, with its current record if that is named.
type namedRecord struct {
	set    store.Recordset
	record json.RawMessage
}

// readNamed reads the recordsets of a snapshot that are named.
func readNamed(tx *store.InteractionTxn, columns map[string][]string) (found []namedRecord, f *zendeskv1.Failure, err error) {
	size := 0
	for _, name := range tx.RecordsetNames() {
		wanted := columns[name]
		if len(wanted) == 0 {
			continue
		}
		named := namedRecord{}
		if named.set, err = tx.Recordset(name); err != nil {
			return nil, nil, err
		}
		for _, column := range named.set.ColumnsSet {
			size += len(column)
		}
		if named.set.Position > 0 && slices.ContainsFunc(wanted, func(column string) bool { return column != recordset.CountColumn }) {
			if named.record, err = tx.Record(name, named.set.Position); err != nil {
				return nil, nil, err
			}
			size += len(named.record)
		}
		if size > maxReadBytes {
			return nil, rpc.Failure(store.ReasonInvalidRequest,
				fmt.Sprintf("the settings refer to recordsets whose current records have more than %d bytes together", maxReadBytes)), nil
		}
		found = append(found, named)
	}
	return found, nil, nil
}

// add adds what the scenario was told of the columns of a current record.
func (v *values) add(named namedRecord, columns []string) error {
	var current map[string]string
	if named.record != nil {
		var err error
		if current, err = recordset.Pick(named.record, named.set.Columns, columns); err != nil {
			return err
		}
	}
	for _, column := range columns {
		value, known := current[column]
		if column == recordset.CountColumn {
			value, known = countOf(named.set), true
		}
		if !known {
			_, known = slices.BinarySearch(named.set.ColumnsSet, column)
		}
		if known {
			v.records[named.set.Name+"."+column] = value
		}
	}
	return nil
}

func (v *values) lookup(name string) (string, bool) {
	value, ok := v.request[name]
	if !ok {
		value, ok = v.records[name]
	}
	return value, ok
}

// expand replaces the variables of a text setting, which has no more than limit bytes then. What the setting's place does
// not allow is a failure.
func (v *values) expand(t *variables.Template, place variables.Place, region string, limit int) (string, *zendeskv1.Failure) {
	if v.failure != nil {
		return "", v.failure
	}
	text, err := t.Expand(place, v.lookup, region, limit)
	if err != nil {
		return "", expandFailure(err)
	}
	return text, nil
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

// tellable says whether a reply has room for variables, as [store.ErrTooLarge] if it has not. What a recordset has ever set
// is told with each of its records.
func tellable(vars map[string]string) error {
	const around = 16 // of an entry: tags and lengths
	size := 0
	for name, value := range vars {
		size += len(name) + len(value) + around
	}
	if size > rpc.MaxPageBytes {
		return fmt.Errorf("the variables of a record have %d bytes: %w", size, store.ErrTooLarge)
	}
	return nil
}

// countOf is the number of records as the scenario is told it.
func countOf(rs store.Recordset) string {
	if rs.Removed {
		return ""
	}
	return strconv.Itoa(rs.Count)
}
