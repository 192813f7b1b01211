package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"sync"
)

const (
	// rememberedValues are remembered at least and at most twice as many: the heads of interactions that are being handled, and
	// accounts.
	rememberedValues = 4096
	// maxRemembered is the largest sealed value that is: more would be a lot of memory for what is rare.
	maxRemembered = 8 << 10

	// rememberedBlocks are so many blocks of records, up to maxRememberedBlock each before they were packed: a scenario steps through all
	// records of a block.
	rememberedBlocks   = 256
	maxRememberedBlock = 64 << 10
)

// memory spares opening and decoding values again: it knows what they were decoded to, and answers only for the very bytes that
// are stored under the key. So it is never out of date, whoever has written them.
type memory struct {
	most int // values in each half; 0: rememberedValues

	mu         sync.Mutex
	young, old map[string]memo // what is used in neither's time is forgotten
}

type memo struct {
	sealed []byte
	value  any
}

// get returns what the sealed value of a key was decoded to; nil if that is not known. It is shared: nobody changes it.
func (m *memory) get(key, sealed []byte) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.young[string(key)]
	if !ok {
		if found, ok = m.old[string(key)]; ok {
			m.keep(string(key), found)
		}
	}
	if !ok || !bytes.Equal(found.sealed, sealed) {
		return nil
	}
	return found.value
}

// put remembers what a sealed value is decoded to.
func (m *memory) put(key, sealed []byte, value any) {
	if len(sealed) > maxRemembered {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(string(key), memo{bytes.Clone(sealed), value})
}

func (m *memory) keep(key string, as memo) {
	if m.young == nil || len(m.young) >= cmp.Or(m.most, rememberedValues) {
		m.young, m.old = make(map[string]memo), m.young
	}
	m.young[key] = as
}

// copied is a pointer to a value that can be handed out without being shared.
type copied[T any] interface {
	*T
	copyInto(other *T)
}

// loadKnown is load for a value that is remembered.
func loadKnown[P copied[T], T any](r *reading, key []byte, into P) (found bool, err error) {
	values, err := r.kv.Get(key)
	if err != nil || values[0] == nil {
		return false, err
	}
	return true, decodeKnown(r.vault, key, values[0], into)
}

// decodeKnown opens and decodes the sealed value of a key, unless it is remembered.
func decodeKnown[P copied[T], T any](v *vault, key, sealed []byte, into P) error {
	if known, ok := v.memory.get(key, sealed).(P); ok {
		known.copyInto(into)
		return nil
	}
	value, err := v.open(key, sealed)
	if err != nil {
		return err
	}
	if err = decode(value, into); err == nil {
		rememberKnown(v, key, sealed, into)
	}
	return err
}

// recordsKnown is recordsOf, for a block that is remembered. The records are shared: nobody changes them.
func (r *reading) recordsKnown(set *storedRecordset, block int, key, sealed []byte) ([]json.RawMessage, error) {
	if known, ok := r.vault.blocks.get(key, sealed).([]json.RawMessage); ok && len(known) == set.inBlock(block) {
		return known, nil
	}
	var value []byte
	if sealed != nil {
		var err error
		if value, err = r.vault.open(key, sealed); err != nil {
			return nil, err
		}
	}
	records, err := set.recordsOf(block, value)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, record := range records {
		size += len(record)
	}
	if size <= maxRememberedBlock {
		r.vault.blocks.put(key, sealed, records)
	}
	return records, nil
}

// saveKnown is save for a value that is remembered.
func saveKnown[P copied[T], T any](w *writing, key []byte, from P) error {
	value, err := encode(from)
	if err != nil {
		return err
	}
	sealed, err := w.vault.seal(key, value)
	if err != nil {
		return err
	}
	w.txn.Put(key, sealed)
	rememberKnown(w.vault, key, sealed, from)
	return nil
}

func rememberKnown[P copied[T], T any](v *vault, key, sealed []byte, value P) {
	kept := P(new(T))
	value.copyInto(kept)
	v.memory.put(key, sealed, kept)
}

// text is a short value that is no JSON.
type text []byte

// getKnown is get for short values that seldom change.
func (r *reading) getKnown(keys ...[]byte) ([][]byte, error) {
	values, err := r.kv.Get(keys...)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if values[i], err = r.vault.openKnown(key, values[i]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// openKnown opens a short value that seldom changes; nil if there is none.
func (v *vault) openKnown(key, sealed []byte) ([]byte, error) {
	if sealed == nil {
		return nil, nil
	}
	known, ok := v.memory.get(key, sealed).(text)
	if !ok {
		value, err := v.open(key, sealed)
		if err != nil {
			return nil, err
		}
		known = value
		v.memory.put(key, sealed, known)
	}
	return bytes.Clone(known), nil
}
