package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// vault seals values and hashes names.
type vault struct {
	keys  atomic.Pointer[keyfile.Keys]
	index []byte    // the index key
	macs  sync.Pool // of hash.Hash, under the index key

	memory memory
	blocks memory // of records
}

func newVault(keys *keyfile.Keys) *vault {
	v := &vault{blocks: memory{most: rememberedBlocks}}
	v.keys.Store(keys)
	return v
}

var errSealed = fmt.Errorf("a stored value does not open with the keyset, or has been moved or altered: %w", ErrDamaged)

// seal encrypts a value for its place: it opens under no other key of the engine.
func (v *vault) seal(key, value []byte) ([]byte, error) {
	sealed, err := v.keys.Load().Seal(value, key)
	if err != nil {
		return nil, fmt.Errorf("sealing a value: %w", err)
	}
	return sealed, nil
}

func (v *vault) open(key, sealed []byte) ([]byte, error) {
	value, err := v.keys.Load().Open(sealed, key)
	if err != nil {
		return nil, errSealed
	}
	return value, nil
}

// ErrNotSealed is what is not opened by [Store.Unseal].
var ErrNotSealed = errors.New("it was not sealed for this purpose with a key of this store")

// Seal encrypts what is kept elsewhere, such as in a browser's cookie. Whoever has the store's keyset opens it, for the same
// purpose alone, until the key that sealed it is dropped.
func (s *Store) Seal(purpose string, text []byte) ([]byte, error) {
	return s.vault.seal(elsewhereKey(purpose), text)
}

// Unseal opens what [Store.Seal] has sealed for the purpose. Its error is [ErrNotSealed].
func (s *Store) Unseal(purpose string, sealed []byte) ([]byte, error) {
	text, err := s.vault.open(elsewhereKey(purpose), sealed)
	if err != nil {
		return nil, ErrNotSealed
	}
	return text, nil
}

// reseal returns a sealed value as the primary key seals it: as it is, if that key did.
func (v *vault) reseal(key, sealed []byte) ([]byte, error) {
	if keyfile.SealedWith(sealed, v.keys.Load().Primary()) {
		return sealed, nil
	}
	value, err := v.open(key, sealed)
	if err != nil {
		return nil, err
	}
	return v.seal(key, value)
}

// putSealed writes values that were sealed before the transaction, maybe with a key that is not the primary any more.
func (v *vault) putSealed(tx kv.Txn, entries []kv.Entry) error {
	for _, entry := range entries {
		sealed, err := v.reseal(entry.Key, entry.Value)
		if err != nil {
			return err
		}
		tx.Put(entry.Key, sealed)
	}
	return nil
}

// hash stands for texts in a key. The first of them keep what is hashed apart: names of tenants, of interactions.
func (v *vault) hash(texts ...string) string {
	mac, ok := v.macs.Get().(hash.Hash)
	if !ok {
		mac = hmac.New(sha256.New, v.index)
	}
	mac.Reset()
	mac.Write(kv.Key(texts...))
	var sum [sha256.Size]byte
	text := hex.EncodeToString(mac.Sum(sum[:0])[:16])
	v.macs.Put(mac)
	return text
}

// reading is a tenant's part of a transaction. All values pass through it, or through writing, so that none is ever
// stored as it is.
type reading struct {
	vault  *vault
	tenant string
	kv     kv.Getter
}

// get returns values in the order of their keys; nil for what is not there.
func (r *reading) get(keys ...[]byte) ([][]byte, error) {
	values, err := r.kv.Get(keys...)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if values[i] == nil {
			continue
		}
		if values[i], err = r.vault.open(key, values[i]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// load reads one value.
func (r *reading) load(key []byte, into any) (found bool, err error) {
	values, err := r.get(key)
	if err != nil || values[0] == nil {
		return false, err
	}
	return true, decode(values[0], into)
}

// writing is a reading that can also write.
type writing struct {
	reading
	txn *meter
}

func (w *writing) put(key, value []byte) error {
	sealed, err := w.vault.seal(key, value)
	if err != nil {
		return err
	}
	w.txn.Put(key, sealed)
	return nil
}

// save writes one value.
func (w *writing) save(key []byte, from any) error {
	value, err := encode(from)
	if err != nil {
		return err
	}
	return w.put(key, value)
}

func encode(from any) ([]byte, error) {
	if own, ok := from.(interface{ encode() []byte }); ok {
		return own.encode(), nil
	}
	return encodeJSON(from)
}

func encodeJSON(from any) ([]byte, error) {
	value, err := json.Marshal(from)
	if err != nil {
		return nil, fmt.Errorf("encoding a value: %w", err)
	}
	return value, nil
}

func decode(value []byte, into any) error {
	if own, ok := into.(interface{ decode(value []byte) error }); ok {
		return own.decode(value)
	}
	return decodeJSON(value, into)
}

func decodeJSON(value []byte, into any) error {
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("decoding a stored value: %w: %w", err, ErrDamaged)
	}
	return nil
}
