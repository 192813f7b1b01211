package store

import (
	"encoding/json"
	"fmt"
)

// listedRecordset is a recordset without what only the blocks of its interaction need, and what may be large.
type listedRecordset struct{ storedRecordset }

func (l *listedRecordset) decode(value []byte) error { return l.read(value, false) }

// CurrentRecords calls fn with each recordset that is not Removed, in the order of their names, without its ColumnsSet, and
// with its current record; nil when it stands on none. One is held at a time: all of them together may be large. An error of
// fn ends it, and is returned.
func (t *InteractionTxn) CurrentRecords(fn func(rs Recordset, current json.RawMessage) error) error {
	for _, name := range t.head.Recordsets {
		var listed listedRecordset
		found, err := t.load(t.vault.recordsetKey(t.tenant, t.id, name), &listed)
		if err == nil && !found {
			err = fmt.Errorf("recordset %q is listed and missing: %w", name, ErrDamaged)
		}
		if err != nil {
			return err
		}
		rs := listed.Recordset
		if rs.Removed {
			continue
		}
		var current json.RawMessage
		if rs.Position > 0 && rs.Position <= rs.Count {
			if current, err = t.recordAt(&storedRecordset{Recordset: rs, Generation: listed.Generation, PerBlock: listed.PerBlock}, rs.Position); err != nil {
				return err
			}
		}
		if err := fn(rs, current); err != nil {
			return err
		}
	}
	return nil
}
