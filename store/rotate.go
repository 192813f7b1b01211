package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// Why keys are not changed.
var (
	errKeysetGiven   = errors.New("the keyset was given, not a key file: only a restart changes it")
	errKeyFileBusy   = errors.New("another process is changing it, or was cut off; if none runs, remove the file")
	errKeyUnknown    = errors.New("the key file has no such key")
	errPrimaryKey    = errors.New("it is the primary key; rotate first")
	errKeyStillInUse = errors.New("values of the data file are still sealed with it; serve the file with this key file until the log says that all values are sealed with the primary key")
)

// keyUse is the stored form of which keys are needed. It stands in clear: ids of keys are no secret.
type keyUse struct {
	// IDs are of the keys that values may be sealed with. The last one is the primary: it stands here before it seals, and
	// what the others sealed is sealed again with it.
	IDs    []uint32 `json:"ids"`
	Cursor []byte   `json:"cursor,omitempty"` // the values of all keys that sort before it are sealed with the last one
}

// readKeyUse returns what is stored, provided that the keyring has the keys; where nothing is yet, all keys of the keyring.
func readKeyUse(r kv.Getter, ring *keyring) (use keyUse, known bool, err error) {
	values, err := r.Get(keysKey)
	if err != nil {
		return keyUse{}, false, err
	}
	if values[0] == nil {
		return keyUse{IDs: slices.Clone(ring.enabled)}, false, nil
	}
	if err := decode(values[0], &use); err != nil {
		return keyUse{}, false, err
	}
	lacks := func(id uint32) bool { return !slices.Contains(ring.enabled, id) }
	if !slices.ContainsFunc(use.IDs, func(id uint32) bool { return !lacks(id) }) {
		return keyUse{}, false, errWrongKey
	}
	if i := slices.IndexFunc(use.IDs, lacks); i >= 0 {
		return keyUse{}, false, fmt.Errorf("key %d is missing or not enabled: %w", use.IDs[i], errKeyInUse)
	}
	return use, true, nil
}

func (u *keyUse) last() uint32 { return u.IDs[len(u.IDs)-1] }

func (u *keyUse) save(tx kv.Txn) error {
	value, err := encode(u)
	if err == nil {
		tx.Put(keysKey, value)
	}
	return err
}

// openIndex returns the index key, if the keyring is one for the data.
func (v *vault) openIndex(r kv.Getter) ([]byte, error) {
	if _, _, err := readKeyUse(r, v.ring.Load()); err != nil {
		return nil, err
	}
	values, err := r.Get(indexKey)
	if err != nil {
		return nil, err
	}
	index, err := v.open(indexKey, values[0])
	if err != nil {
		return nil, errWrongKey
	}
	return index, nil
}

// adopt makes a keyring the one in use. That its primary seals is durable before it does.
func (s *Store) adopt(ctx context.Context, ring *keyring) error {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	err := s.repeatAlone(ctx, func(tx kv.Txn) error {
		if _, err := newVault(ring).openIndex(tx); err != nil {
			return err
		}
		use, known, err := readKeyUse(tx, ring)
		if err != nil || known && use.last() == ring.primary {
			return err
		}
		use.IDs = append(slices.DeleteFunc(use.IDs, func(id uint32) bool { return id == ring.primary }), ring.primary)
		use.Cursor = nil
		return use.save(tx)
	})
	if err == nil {
		s.vault.ring.Store(ring)
	}
	return err
}

// Reload reads the key file again: from then on its primary key seals, and each of its keys opens. A key file that cannot
// be used, that lacks a key which values are sealed with, or that is not this data file's is refused with one sentence,
// and the keys read before stay in use. What other keys have sealed is left to Reencrypt.
func (s *Store) Reload(ctx context.Context) error {
	if s.keyFile == "" {
		return errKeysetGiven
	}
	ring, err := readKeyFile(s.keyFile)
	if err == nil {
		err = s.adopt(ctx, ring)
	}
	if err != nil {
		return fmt.Errorf("key file %q: %w", s.keyFile, err)
	}
	s.log.Info("took over the key file", "key_file", s.keyFile, "primary_key_id", ring.primary)
	return nil
}

const (
	// What one transaction of Reencrypt seals at most, so that it holds up others no longer than they hold up each other.
	// A single value may be larger.
	resealValues = 32
	resealBytes  = 256 << 10

	// resealShare is the part of the time, one in so many, that Reencrypt works; else it waits.
	resealShare = 5

	// resealReport is how many values lie between two reports of progress.
	resealReport = 50_000
)

// errKeyringChanged ends a pass of Reencrypt, whose cursor is about another primary key.
var errKeyringChanged = errors.New("the keyring has changed")

// Reencrypt seals all values with the primary key that other keys have sealed, in short transactions with pauses between
// them, and returns when none is left. Interrupted, also by the end of the process, it goes on where it was when it is
// called again; when the key file is reloaded meanwhile it seals with the new primary key. Progress is logged. It stops
// at a value that no key opens: nothing is known of its key then, so that none may be dropped.
func (s *Store) Reencrypt(ctx context.Context) error {
	for {
		if err := s.reencrypt(ctx); !errors.Is(err, errKeyringChanged) {
			return err
		}
	}
}

// reencrypt is one pass, for one keyring.
func (s *Store) reencrypt(ctx context.Context) error {
	var ring *keyring
	var use keyUse
	err := s.repeat(ctx, func(tx kv.Txn) (err error) { // not a View: the keyring must not change between the two
		ring = s.vault.ring.Load()
		use, _, err = readKeyUse(tx, ring)
		return err
	})
	if err != nil || len(use.IDs) == 1 {
		return err
	}
	s.log.Info("sealing values again with the primary key", "primary_key_id", ring.primary, "resumed", len(use.Cursor) > 0)
	looked, resealed := 0, 0
	for at := use.Cursor; ; {
		start := time.Now()
		found, err := s.findStale(ctx, ring, at)
		if err != nil {
			return err
		}
		if len(found.keys) > 0 || found.next == nil {
			if err := s.reseal(ctx, ring, found); err != nil {
				return err
			}
		}
		if (looked+found.looked)/resealReport > looked/resealReport {
			s.log.Info("still sealing values again", "looked_at", looked+found.looked, "sealed", resealed+len(found.keys))
		}
		looked, resealed = looked+found.looked, resealed+len(found.keys)
		if at = found.next; at == nil {
			s.log.Info("all values are sealed with the primary key", "primary_key_id", ring.primary, "sealed", resealed)
			return nil
		}
		pause := time.NewTimer((resealShare - 1) * time.Since(start))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// stale is a run of keys.
type stale struct {
	looked int
	keys   [][]byte // those whose value was not sealed with the primary key: few enough for a transaction
	bytes  int      // in their entries
	next   []byte   // first key behind the run; nil: nothing is
}

func (s *Store) findStale(ctx context.Context, ring *keyring, at []byte) (found stale, err error) {
	entries, err := s.scan(ctx, kv.Range{Start: at, Limit: resealValues})
	if err != nil {
		return stale{}, err
	}
	for _, entry := range entries {
		if !plain(entry) && !sealedWith(entry.Value, ring.primary) {
			if len(found.keys) > 0 && found.bytes+entrySize(entry) > resealBytes {
				return found, nil
			}
			found.keys, found.bytes = append(found.keys, entry.Key), found.bytes+entrySize(entry)
		}
		found.looked, found.next = found.looked+1, kv.After(entry.Key)
	}
	if len(entries) < resealValues && found.bytes <= resealBytes {
		found.next = nil
	}
	return found, nil
}

// plain reports whether an entry is of those that are not sealed.
func plain(e kv.Entry) bool {
	return len(e.Value) == 0 || slices.ContainsFunc([][]byte{formatKey, instanceKey, keysKey, migrationKey}, func(key []byte) bool {
		return string(key) == string(e.Key)
	})
}

// reseal seals values again as they are by now, and notes how far it has come.
func (s *Store) reseal(ctx context.Context, ring *keyring, found stale) error {
	return s.repeat(ctx, func(tx kv.Txn) error {
		if s.vault.ring.Load() != ring {
			return errKeyringChanged
		}
		values, err := tx.Get(found.keys...)
		if err != nil {
			return err
		}
		for i, key := range found.keys {
			if values[i] == nil {
				continue // gone meanwhile
			}
			sealed, err := s.vault.reseal(key, values[i])
			if err != nil {
				return fmt.Errorf("sealing the value of key %q again: %w", key, err)
			}
			tx.Put(key, sealed)
		}
		if found.bytes > resealBytes {
			return nil // a value so large that nothing may fit beside it
		}
		use, _, err := readKeyUse(tx, ring)
		if err != nil {
			return err
		}
		if use.last() != ring.primary {
			return fmt.Errorf("key %d was to take over and did not: reload the key file", use.last())
		}
		if use.Cursor = found.next; use.Cursor == nil {
			use.IDs = []uint32{ring.primary}
		}
		return use.save(tx)
	})
}

// Key is a key of a key file, without what is secret.
type Key struct {
	ID      uint32
	Primary bool   // it seals
	Status  string // ENABLED; DISABLED or DESTROYED: it does not open either
}

// ListKeys returns the keys of a key file, in its order.
func ListKeys(keyFile string) ([]Key, error) {
	ring, err := readKeyFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("key file %q: %w", keyFile, err)
	}
	var keys []Key
	for _, info := range ring.handle.KeysetInfo().GetKeyInfo() {
		keys = append(keys, Key{ID: info.GetKeyId(), Primary: info.GetKeyId() == ring.primary, Status: info.GetStatus().String()})
	}
	return keys, nil
}

// RotateKey adds a new XChaCha20-Poly1305 key to a key file and makes it the primary one. The others stay, to open what
// they have sealed. The file is replaced as a whole, durably; its mode and, where that is permitted, its owner stay.
func RotateKey(keyFile string) (id uint32, err error) {
	err = changeKeyFile(keyFile, func(m *keyset.Manager) error {
		if id, err = m.Add(aead.XChaCha20Poly1305KeyTemplate()); err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
	return id, err
}

// DropKey removes a key from the key file of a data file that no process has open, after compacting the data file: what
// the key sealed is nowhere in it then. It refuses, and changes no key, when the key is the primary one or seals any
// value. Of the configuration it uses Path and KeyFile.
func DropKey(ctx context.Context, c Config, id uint32) (err error) {
	if _, err := os.Stat(c.Path); err != nil {
		return fmt.Errorf("data file: %w", err) // Open would make one
	}
	s, err := Open(ctx, Config{Path: c.Path, KeyFile: c.KeyFile})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return changeKeyFile(s.keyFile, func(m *keyset.Manager) error {
		if err := s.unused(ctx, id); err != nil {
			return fmt.Errorf("key %d: %w", id, err)
		}
		if err := compact(s.engine.(*boltkv.DB), c.Path); err != nil {
			return fmt.Errorf("compacting data file %q: %w", c.Path, err)
		}
		// A server may start from here on. It does no harm: the key that goes is not the one that it seals with.
		return m.Delete(id)
	})
}

// unused is nil when a key can go. It trusts no record of that, but looks at every value.
func (s *Store) unused(ctx context.Context, id uint32) error {
	ring := s.vault.ring.Load()
	known := slices.ContainsFunc(ring.handle.KeysetInfo().GetKeyInfo(), func(k *tinkpb.KeysetInfo_KeyInfo) bool { return k.GetKeyId() == id })
	switch {
	case !known:
		return errKeyUnknown
	case id == ring.primary:
		return errPrimaryKey
	}
	var use keyUse
	err := s.engine.View(ctx, func(r kv.Reader) (err error) {
		use, _, err = readKeyUse(r, ring)
		return err
	})
	if err != nil {
		return err
	}
	if slices.Contains(use.IDs, id) {
		return errKeyStillInUse
	}
	for at := []byte(nil); ; {
		entries, err := s.scan(ctx, kv.Range{Start: at, Limit: resealValues})
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if !plain(entry) && sealedWith(entry.Value, id) {
				return errKeyStillInUse
			}
		}
		if len(entries) < resealValues {
			return nil
		}
		at = kv.After(entries[len(entries)-1].Key)
	}
}

// changeKeyFile replaces a key file by what change makes of it: whole, and durable when it returns. A file beside it, which
// becomes the new one, keeps a second process from changing it at the same time.
func changeKeyFile(path string, change func(*keyset.Manager) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("key file %q: %w", path, err)
		}
	}()
	target, info, err := resolve(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errKeyMissing
	}
	if err != nil {
		return err
	}
	next := target + ".new"
	file, err := os.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("file %q is there: %w", next, errKeyFileBusy)
	}
	if err != nil {
		return err
	}
	text, err := changedKeyset(target, change)
	if err == nil {
		_, err = file.Write(text)
	}
	if err == nil {
		err = errors.Join(file.Chmod(info.Mode().Perm()), keepOwner(file, info), file.Sync())
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(next, target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return syncFolder(target)
}

func changedKeyset(path string, change func(*keyset.Manager) error) ([]byte, error) {
	ring, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	manager := keyset.NewManagerFromHandle(ring.handle)
	if err := change(manager); err != nil {
		return nil, err
	}
	handle, err := manager.Handle()
	if err != nil {
		return nil, err
	}
	return formatKeyset(handle)
}

// Compact rewrites a data file that no process has open without its free pages, and so without what they still hold of
// values that were deleted or sealed again. Until it is done the disk holds both. It reports the sizes in bytes.
func Compact(path string) (before, after int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, fmt.Errorf("data file: %w", err)
	}
	db, err := boltkv.Open(path)
	if err != nil {
		return 0, 0, err
	}
	err = compact(db, path)
	if err = errors.Join(err, db.Close()); err != nil {
		return 0, 0, fmt.Errorf("compacting data file %q: %w", path, err)
	}
	compacted, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	return info.Size(), compacted.Size(), nil
}

// compact replaces the file under an open database, which is of no use but to be closed then.
func compact(db *boltkv.DB, path string) error {
	target, info, err := resolve(path)
	if err != nil {
		return err
	}
	next := target + ".compact"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was cut off: the lock is ours
		return err
	}
	if err := db.Compact(next); err != nil {
		return err
	}
	file, err := os.Open(next)
	if err == nil {
		err = errors.Join(file.Chmod(info.Mode().Perm()), keepOwner(file, info), file.Close())
	}
	if err == nil {
		err = os.Rename(next, target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return syncFolder(target)
}

// resolve follows links, which would else be replaced instead of the file.
func resolve(path string) (string, fs.FileInfo, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", nil, err
	}
	info, err := os.Stat(target)
	return target, info, err
}
