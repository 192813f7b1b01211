package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// Why keys are not changed.
var (
	errKeysetGiven   = errors.New("the keyset was given, not a key file: only a restart changes it")
	errKeyStillInUse = errors.New("values of the data are still sealed with it; serve them with this key file until the log says that all values are sealed with the primary key")
)

// keyUse is the stored form of which keys are needed. It stands in clear: ids of keys are no secret.
type keyUse struct {
	// IDs are of the keys that values may be sealed with. The last one is the primary: it stands here before it seals, and
	// what the others sealed is sealed again with it.
	IDs    []uint32 `json:"ids"`
	Cursor []byte   `json:"cursor,omitempty"` // the values of all keys that sort before it are sealed with the last one
}

// readKeyUse returns what is stored, provided that its keys are among those given; where nothing is yet, all that are given.
func readKeyUse(r kv.Getter, keys *keyfile.Keys) (use keyUse, known bool, err error) {
	values, err := r.Get(keysKey)
	if err != nil {
		return keyUse{}, false, err
	}
	if values[0] == nil {
		return keyUse{IDs: keys.Enabled()}, false, nil
	}
	if err := decode(values[0], &use); err != nil {
		return keyUse{}, false, err
	}
	lacks := func(id uint32) bool { return !slices.Contains(keys.Enabled(), id) }
	if !slices.ContainsFunc(use.IDs, func(id uint32) bool { return !lacks(id) }) {
		return keyUse{}, false, fmt.Errorf("%w, %d", errWrongKey, use.last())
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

// openIndex returns the index key, if the keys are those of the data.
func (v *vault) openIndex(r kv.Getter) ([]byte, error) {
	if _, _, err := readKeyUse(r, v.keys.Load()); err != nil {
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

// adopt takes keys into use. That their primary one seals is durable before it does. Of replicas each tells in the same
// transaction which keys it has: a key seals only when all of them can open what it has sealed.
func (s *Store) adopt(ctx context.Context, keys *keyfile.Keys) error {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	err := s.engine.Update(ctx, func(tx kv.Txn) error {
		if _, err := newVault(keys).openIndex(tx); err != nil {
			return err
		}
		use, known, err := readKeyUse(tx, keys)
		if err != nil {
			return err
		}
		others, err := s.register(tx, keys)
		if err != nil {
			return err
		}
		changed, err := use.takeOver(keys.Primary(), others)
		if err != nil || known && !changed {
			return err
		}
		return use.save(tx)
	})
	if err == nil {
		s.vault.keys.Store(keys)
	}
	return err
}

// takeOver makes a key the primary one. While another replica seals with the one that is, it stays that: what is promoted on one
// replica after the other is so at once, and not turn by turn.
func (u *keyUse) takeOver(primary uint32, others members) (changed bool, err error) {
	if u.last() == primary {
		return false, nil
	}
	isNew := !slices.Contains(u.IDs, primary)
	for _, id := range slices.Sorted(maps.Keys(others)) {
		other := others[id]
		if isNew && !slices.Contains(other.Keys, primary) {
			return false, fmt.Errorf("key %d cannot seal yet: replica %q does not have it (add it to the key file of every replica before it becomes the primary one)", primary, other.Name)
		}
		if !isNew && other.Primary == u.last() {
			return false, nil
		}
	}
	u.IDs = append(slices.DeleteFunc(u.IDs, func(id uint32) bool { return id == primary }), primary)
	u.Cursor = nil
	return true, nil
}

// Reload reads the key file again: from then on its primary key seals, and each of its keys opens. A key file that cannot
// be used, that lacks a key which values are sealed with, or that is not that of these data is refused with one sentence,
// and the keys read before stay in use. What other keys have sealed is left to Reencrypt.
func (s *Store) Reload(ctx context.Context) error {
	if s.keyFile == "" {
		return errKeysetGiven
	}
	keys, err := keyfile.Read(s.keyFile)
	if err == nil {
		err = s.adopt(ctx, keys)
	}
	if err != nil {
		return fmt.Errorf("key file %q: %w", s.keyFile, err)
	}
	s.log.Info("took over the key file", "key_file", s.keyFile, "primary_key_id", keys.Primary())
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

// errKeysChanged ends a pass of Reencrypt, whose cursor is about another primary key.
var errKeysChanged = errors.New("the keys have changed")

// Reencrypt seals all values with the primary key that other keys have sealed, in short transactions with pauses between
// them, and returns when none is left. It begins when every replica seals with that key; one of them does so at a time, and the
// others wait for it, and go on where it was if it dies. Interrupted, also by the end of the process, it goes on where it was when
// it is called again; when the key file is reloaded meanwhile it seals with the new primary key. Progress is logged. It stops
// at a value that no key opens: nothing is known of its key then, so that none may be dropped.
func (s *Store) Reencrypt(ctx context.Context) error {
	for {
		turn, err := s.AwaitClaim(ctx, "reencrypt")
		if err == nil {
			err = s.reencrypt(Fenced(ctx, turn))
			turn.GiveBack()
		}
		switch {
		case errors.Is(err, errKeysChanged), errors.Is(err, ErrClaimLost):
		case s.Shared() && ctx.Err() == nil && (errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknownOutcome)):
			if err := wait(ctx, othersEvery); err != nil { // until the database is back
				return err
			}
		default:
			return err
		}
	}
}

// reencrypt is one pass, for the keys in use when it begins.
func (s *Store) reencrypt(ctx context.Context) error {
	var keys *keyfile.Keys
	var use keyUse
	err := s.commit(ctx, func(tx kv.Txn) (err error) { // not a View: the keys must not change between the two
		keys = s.vault.keys.Load()
		use, _, err = readKeyUse(tx, keys)
		return err
	})
	if err != nil || len(use.IDs) == 1 {
		return err
	}
	if err := s.awaitPrimary(ctx, keys); err != nil {
		return err
	}
	s.log.Info("sealing values again with the primary key", "primary_key_id", keys.Primary(), "resumed", len(use.Cursor) > 0)
	looked, resealed := 0, 0
	for at := use.Cursor; ; {
		start := time.Now()
		found, err := s.findStale(ctx, keys, at)
		if err != nil {
			return err
		}
		if len(found.keys) > 0 || found.next == nil {
			if err := s.reseal(ctx, keys, found); err != nil {
				return err
			}
		}
		if (looked+found.looked)/resealReport > looked/resealReport {
			s.log.Info("still sealing values again", "looked_at", looked+found.looked, "sealed", resealed+len(found.keys))
		}
		looked, resealed = looked+found.looked, resealed+len(found.keys)
		if at = found.next; at == nil {
			s.log.Info("all values are sealed with the primary key", "primary_key_id", keys.Primary(), "sealed", resealed)
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

// othersEvery is how often it is looked whether the other replicas seal with the primary key by now.
const othersEvery = 2 * time.Second

// awaitPrimary waits until no replica seals with another key.
func (s *Store) awaitPrimary(ctx context.Context, keys *keyfile.Keys) error {
	for told := ""; ; {
		var behind string
		err := s.engine.View(ctx, func(r kv.Reader) error {
			m, err := loadMembers(r)
			behind = m.behind(keys.Primary())
			return err
		})
		switch {
		case err != nil || behind == "":
			return err
		case s.vault.keys.Load() != keys:
			return errKeysChanged
		case behind != told:
			s.log.Info("values are sealed again when every replica seals with the primary key", "primary_key_id", keys.Primary(), "replica", behind)
			told = behind
		}
		if err := wait(ctx, othersEvery); err != nil {
			return err
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

func (s *Store) findStale(ctx context.Context, keys *keyfile.Keys, at []byte) (found stale, err error) {
	entries, more, err := s.scan(ctx, kv.Range{Start: at, Limit: resealValues})
	if err != nil {
		return stale{}, err
	}
	for _, entry := range entries {
		if !plain(entry) && !keyfile.SealedWith(entry.Value, keys.Primary()) {
			if len(found.keys) > 0 && found.bytes+entrySize(entry) > resealBytes {
				return found, nil
			}
			found.keys, found.bytes = append(found.keys, entry.Key), found.bytes+entrySize(entry)
		}
		found.looked, found.next = found.looked+1, kv.After(entry.Key)
	}
	if !more && found.bytes <= resealBytes {
		found.next = nil
	}
	return found, nil
}

// clearKeys are those whose values stand in clear.
var clearKeys = [][]byte{formatKey, keysKey, migrationKey, restoredKey, replicasKey}

// plain reports whether an entry is of those that are not sealed.
func plain(e kv.Entry) bool {
	return len(e.Value) == 0 || bytes.HasPrefix(e.Key, claimKey()) || slices.ContainsFunc(clearKeys, func(key []byte) bool {
		return string(key) == string(e.Key)
	})
}

// reseal seals values again as they are by now, and notes how far it has come.
func (s *Store) reseal(ctx context.Context, keys *keyfile.Keys, found stale) error {
	return s.commit(ctx, func(tx kv.Txn) error {
		if s.vault.keys.Load() != keys {
			return errKeysChanged
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
		use, _, err := readKeyUse(tx, keys)
		if err != nil {
			return err
		}
		if use.last() != keys.Primary() {
			return fmt.Errorf("key %d was to take over and did not: reload the key file", use.last())
		}
		if use.Cursor = found.next; use.Cursor == nil {
			m, err := loadMembers(tx)
			if err != nil {
				return err
			}
			if m.behind(keys.Primary()) != "" {
				return errKeysChanged // it may have sealed what was looked at before
			}
			use.IDs = []uint32{keys.Primary()}
		}
		return use.save(tx)
	})
}

// DropKey removes a key from a key file. It refuses, and changes no key, when the key is the primary one or seals any value.
// A data file, which no process may have open, is compacted before: what the key sealed is nowhere in it then. Of a
// database that replicas share none may seal with the key; what was sealed with it goes when the database vacuums. Of the
// configuration it uses Path or URL, PasswordFile, and KeyFile.
func DropKey(ctx context.Context, c Config, id uint32) (err error) {
	if c.URL == "" {
		if _, err := os.Stat(c.Path); err != nil {
			return fmt.Errorf("data file: %w", err) // Open would make one
		}
	}
	s, err := Open(ctx, Config{Path: c.Path, URL: c.URL, PasswordFile: c.PasswordFile, KeyFile: c.KeyFile, Replica: "keys drop"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return keyfile.Drop(s.keyFile, id, func() error {
		if err := s.unused(ctx, id); err != nil {
			return err
		}
		// A server may start from here on. It does no harm: the key that goes is not the one that it seals with.
		if file, ok := s.engine.(*boltkv.DB); ok {
			return file.CompactInPlace()
		}
		return nil
	})
}

// unused is nil when no value is sealed with a key. It trusts no record of that, but looks at every value.
func (s *Store) unused(ctx context.Context, id uint32) error {
	var use keyUse
	var replicas members
	err := s.engine.View(ctx, func(r kv.Reader) (err error) {
		if use, _, err = readKeyUse(r, s.vault.keys.Load()); err == nil {
			replicas, err = loadMembers(r)
		}
		return err
	})
	if err != nil {
		return err
	}
	if slices.Contains(use.IDs, id) {
		return errKeyStillInUse
	}
	for _, m := range replicas {
		if m.Primary == id {
			return fmt.Errorf("replica %q seals with it", m.Name)
		}
	}
	for at := []byte(nil); ; {
		entries, more, err := s.scan(ctx, kv.Range{Start: at, Limit: resealValues})
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if !plain(entry) && keyfile.SealedWith(entry.Value, id) {
				return errKeyStillInUse
			}
		}
		if !more {
			return nil
		}
		at = kv.After(entries[len(entries)-1].Key)
	}
}

// Compact is [boltkv.Compact] for a data file.
func Compact(path string) (before, after int64, err error) {
	if err := refuseBackup(path); err != nil {
		return 0, 0, err
	}
	return boltkv.Compact(path)
}
