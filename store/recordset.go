package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Recordset is the named result of a search, without its records.
type Recordset struct {
	Name       string     `json:"name"`
	Account    AccountUse `json:"account,omitzero"`
	Query      string     `json:"query,omitempty"`
	Columns    []string   `json:"columns,omitempty"`     // asked for; none: all
	ColumnsSet []string   `json:"columns_set,omitempty"` // that variables were ever set for
	Count      int        `json:"count"`                 // of records
	Total      int64      `json:"total"`                 // of records that the search found, kept or not
	Position   int        `json:"position"`              // of the current record, from 1; 0: none
	Removed    bool       `json:"removed,omitempty"`     // only Name and ColumnsSet are left
}

func (r *Recordset) clone() Recordset {
	c := *r
	c.Columns, c.ColumnsSet = slices.Clone(r.Columns), slices.Clone(r.ColumnsSet)
	return c
}

// storedRecordset is the stored form of a recordset.
type storedRecordset struct {
	Recordset  Recordset `json:"recordset"`
	Generation string    `json:"generation,omitempty"` // which the records' keys have; empty: no records
	Bytes      int64     `json:"bytes,omitempty"`      // of the records' entries
	PerBlock   int       `json:"per_block,omitempty"`  // how many records each of their entries has, but the last; zero: one
}

func (s *storedRecordset) perBlock() int { return max(s.PerBlock, 1) }

// blockOf tells in which block a record stands, from 0, and where in it.
func (s *storedRecordset) blockOf(position int) (block, at int) {
	return (position - 1) / s.perBlock(), (position - 1) % s.perBlock()
}

// inBlock is how many records a block has that there is.
func (s *storedRecordset) inBlock(block int) int {
	return min(s.perBlock(), s.Recordset.Count-block*s.perBlock())
}

// recordsOf returns the records of a block that there is, with the value given.
func (s *storedRecordset) recordsOf(block int, value []byte) ([]json.RawMessage, error) {
	if value == nil {
		return nil, fmt.Errorf("records from %d on of recordset %q are counted and missing: %w", block*s.perBlock()+1, s.Recordset.Name, ErrDamaged)
	}
	records, err := unpackRecords(value)
	if want := s.inBlock(block); err == nil && len(records) != want {
		err = fmt.Errorf("%d records, not %d, stand from %d on in recordset %q: %w", len(records), want, block*s.perBlock()+1, s.Recordset.Name, ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	return records, nil
}

func (s *storedRecordset) copyInto(other *storedRecordset) {
	*other = *s
	other.Recordset = s.Recordset.clone()
}

// What a publishing transaction has room for, beside a reply and the like.
const (
	heldRecords = kv.MaxTxnKeys / 2
	heldBytes   = kv.MaxTxnBytes / 2
)

// StagedRecords are records that PublishRecordset makes those of a recordset.
type StagedRecords struct {
	generation string
	count      int
	perBlock   int
	bytes      int64      // of all their entries
	held       []kv.Entry // sealed; what is not in the engine yet
}

// StageRecords prepares records, in their order, for one PublishRecordset of the interaction. A few it only holds; when
// the publishing transaction has no room for them, it writes them where nobody looks until then. Those that are never
// published go with the interaction. Errors: [ErrTooLarge] when a record has about 1 MiB or more, [*QuotaError].
func (s *Store) StageRecords(ctx context.Context, tenant, interactionID string, records []json.RawMessage) (*StagedRecords, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, err
	}
	staged := &StagedRecords{generation: newID(), count: len(records), perBlock: recordsPerBlock(records)}
	hashed := s.vault.hashInteraction(tenant, interactionID)
	for i, record := range records {
		if len(record) > kv.MaxTxnBytes {
			return nil, fmt.Errorf("record %d of %d has %d bytes: %w", i+1, len(records), len(record), ErrTooLarge)
		}
	}
	block := 0
	for some := range slices.Chunk(records, staged.perBlock) {
		block++
		key := recordKey(tenant, hashed, staged.generation, block)
		value, err := s.vault.seal(key, packRecords(some))
		if err != nil {
			return nil, err
		}
		entry := kv.Entry{Key: key, Value: value}
		if entrySize(entry) > kv.MaxTxnBytes {
			return nil, fmt.Errorf("record %d of %d has %d bytes: %w", (block-1)*staged.perBlock+1, len(records), len(some[0]), ErrTooLarge)
		}
		staged.held = append(staged.held, entry)
		staged.bytes += int64(entrySize(entry))
	}
	if len(staged.held) <= heldRecords && staged.bytes <= heldBytes {
		return staged, nil
	}
	if err := s.loadUsage(ctx, tenant); err != nil {
		return nil, err
	}
	if err := s.counter.admit(tenant, 0, demand{more: Usage{StoredBytes: staged.bytes}}); err != nil {
		return nil, err
	}
	for len(staged.held) > 0 {
		chunk := staged.held[:chunkLength(staged.held)]
		err := s.update(ctx, tenant, func(w *writing) error {
			return s.vault.putSealed(w.txn, chunk)
		})
		if err != nil {
			return nil, err
		}
		staged.held = staged.held[len(chunk):]
	}
	return staged, nil
}

// chunkLength is how many of the entries, of which each fits alone, fit one transaction.
func chunkLength(entries []kv.Entry) int {
	size := 0
	for i, entry := range entries {
		if size += entrySize(entry); i == kv.MaxTxnKeys || size > kv.MaxTxnBytes {
			return i
		}
	}
	return len(entries)
}

func entrySize(e kv.Entry) int { return len(e.Key) + len(e.Value) }

// RecordsetNames returns the names of all recordsets, sorted, Removed ones among them. It reads nothing.
func (t *InteractionTxn) RecordsetNames() []string { return slices.Clone(t.head.Recordsets) }

// Recordsets returns all recordsets in the order of their names, Removed ones among them. It reads a key for each: an
// update has some 100 for all that it reads and writes.
func (t *InteractionTxn) Recordsets() ([]Recordset, error) {
	var all []Recordset
	for _, name := range t.head.Recordsets {
		rs, err := t.Recordset(name)
		if err != nil {
			return nil, err
		}
		all = append(all, rs)
	}
	return all, nil
}

// Recordset returns a recordset. Errors: [ErrNotFound] when there never was one of this name.
func (t *InteractionTxn) Recordset(name string) (Recordset, error) {
	set, err := t.recordset(name)
	if err != nil {
		return Recordset{}, err
	}
	return set.Recordset.clone(), nil
}

func (t *InteractionTxn) recordset(name string) (*storedRecordset, error) {
	if set := t.sets[name]; set != nil {
		return set, nil
	}
	if _, found := slices.BinarySearch(t.head.Recordsets, name); !found {
		return nil, fmt.Errorf("recordset %q: %w", name, ErrNotFound)
	}
	set := new(storedRecordset)
	found, err := loadKnown(&t.reading, t.vault.recordsetKey(t.tenant, t.id, name), set)
	if err == nil && !found {
		err = fmt.Errorf("recordset %q is listed and missing: %w", name, ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	t.keep(set)
	return set, nil
}

// Record returns the record at a position, from 1. Errors: [ErrNotFound].
func (t *InteractionTxn) Record(name string, position int) (json.RawMessage, error) {
	set, err := t.recordset(name)
	if err != nil {
		return nil, err
	}
	if position < 1 || position > set.Recordset.Count {
		return nil, fmt.Errorf("record %d of recordset %q: %w", position, name, ErrNotFound)
	}
	return t.recordAt(set, position)
}

// recordAt returns a record that there is.
func (t *InteractionTxn) recordAt(set *storedRecordset, position int) (json.RawMessage, error) {
	block, at := set.blockOf(position)
	key := recordKey(t.tenant, t.hashed, set.Generation, block+1)
	values, err := t.kv.Get(key)
	if err != nil {
		return nil, err
	}
	records, err := t.recordsKnown(set, block, key, values[0])
	if err != nil {
		return nil, err
	}
	return slices.Clone(records[at]), nil
}

// Records returns the records from a position, from 1, on: limit of them, or fewer at the end, or when they have some
// 1 MiB together, but always one if there is one. In an update some 90 are the most. Errors: [ErrNotFound] when there never
// was a recordset of this name.
func (t *InteractionTxn) Records(name string, from, limit int) ([]json.RawMessage, error) {
	set, err := t.recordset(name)
	if err != nil {
		return nil, err
	}
	if from < 1 {
		return nil, fmt.Errorf("records from position %d: positions start at 1", from)
	}
	var records []json.RawMessage
	end := min(set.Recordset.Count, from+limit-1)
	for size := 0; from <= end; {
		first, _ := set.blockOf(from)
		last, _ := set.blockOf(end)
		last = min(last, first+blocksAtOnce-1)
		var keys [][]byte
		for block := first; block <= last; block++ {
			keys = append(keys, recordKey(t.tenant, t.hashed, set.Generation, block+1))
		}
		values, err := t.get(keys...)
		if err != nil {
			return nil, err
		}
		for i, value := range values {
			block, err := set.recordsOf(first+i, value)
			if err != nil {
				return nil, err
			}
			_, at := set.blockOf(from)
			for _, record := range block[at:] {
				if size += len(record); from > end || len(records) > 0 && size > kv.MaxTxnBytes {
					return records, nil
				}
				records = append(records, record)
				from++
			}
		}
	}
	return records, nil
}

// blocksAtOnce bounds what Records reads in vain.
const blocksAtOnce = 16

// PublishRecordset makes a recordset of the staged records, in place of the one of its name. Count is theirs. The
// transaction fails with [ErrStagedGone] when the interaction was completed or expired since they were staged, and they had
// been written.
func (t *InteractionTxn) PublishRecordset(rs Recordset, staged *StagedRecords) {
	if !t.change() {
		return
	}
	old, err := t.recordset(rs.Name)
	switch {
	case err == nil:
		t.dropRecords(old, staged.generation)
	case errors.Is(err, ErrNotFound):
		at, _ := slices.BinarySearch(t.head.Recordsets, rs.Name)
		t.head.Recordsets = slices.Insert(t.head.Recordsets, at, rs.Name)
	default:
		t.fail(err)
		return
	}
	if len(staged.held) == 0 && staged.count > 0 {
		values, err := t.kv.Get(recordKey(t.tenant, t.hashed, staged.generation, 1))
		if err == nil && values[0] == nil {
			err = ErrStagedGone
		}
		if err != nil {
			t.fail(err)
			return
		}
	}
	if err := t.vault.putSealed(t.writing.txn, staged.held); err != nil {
		t.fail(err)
		return
	}
	if old == nil || old.Generation != staged.generation {
		t.head.Sizes.Recordsets += staged.bytes
	}
	set := &storedRecordset{Recordset: rs.clone(), Generation: staged.generation, Bytes: staged.bytes, PerBlock: staged.perBlock}
	set.Recordset.Count, set.Recordset.Removed = staged.count, false
	t.head.LastSearched = rs.Name
	t.saveRecordset(set)
}

// UpdateRecordset stores Position and ColumnsSet of a recordset that is there.
func (t *InteractionTxn) UpdateRecordset(rs Recordset) {
	if !t.change() {
		return
	}
	set, err := t.recordset(rs.Name)
	if err != nil {
		t.fail(err)
		return
	}
	set.Recordset.Position, set.Recordset.ColumnsSet = rs.Position, slices.Clone(rs.ColumnsSet)
	t.saveRecordset(set)
}

// RemoveRecordset removes a recordset, if there is one of the name, but for what later replies need: its ColumnsSet.
func (t *InteractionTxn) RemoveRecordset(name string) {
	set, err := t.recordset(name)
	if errors.Is(err, ErrNotFound) {
		return
	}
	if err != nil {
		t.fail(err)
		return
	}
	if !t.change() {
		return
	}
	if t.head.LastSearched == name {
		t.head.LastSearched = ""
	}
	t.dropRecords(set, "")
	t.saveRecordset(&storedRecordset{Recordset: Recordset{Name: name, ColumnsSet: set.Recordset.ColumnsSet, Removed: true}})
}

// dropRecords drops the records of a recordset, unless those of its generation are to be the new ones.
func (t *InteractionTxn) dropRecords(set *storedRecordset, next string) {
	if set.Generation != "" && set.Generation != next {
		records := recordsKey(t.tenant, t.hashed, set.Generation)
		t.writing.txn.DeleteRange(records, kv.PrefixEnd(records))
		t.free(&t.head.Sizes.Recordsets, set.Bytes)
	}
}

func (t *InteractionTxn) saveRecordset(set *storedRecordset) {
	t.keep(set)
	before := t.writing.txn.grown
	if err := saveKnown(t.writing, t.vault.recordsetKey(t.tenant, t.id, set.Recordset.Name), set); err != nil {
		t.fail(err)
	}
	t.head.Sizes.Recordsets += t.writing.txn.grown - before
}

// keep spares the transaction another read.
func (t *InteractionTxn) keep(set *storedRecordset) {
	if t.sets == nil {
		t.sets = make(map[string]*storedRecordset)
	}
	t.sets[set.Recordset.Name] = set
}
