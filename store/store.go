// Package store keeps integration accounts, interactions with their recordsets and screen pops, and the activities that
// completed interactions leave, in one data file, or in a database that several processes share.
//
// It hides the engine under it (package kv), the layout of keys, transactions, and encryption at rest: what it is given
// is sealed before it reaches the engine, and no name, address or id of a caller stands in a key. Data of an older layout is
// migrated when it is opened.
//
// Each method is one transaction, all or nothing; Tenants, ListTenants, StageRecords, Sweep, ListActivities, PendingActivities, ClearOutbox,
// ErasePerson, FlushUsage, Reencrypt and Scrub may take several. When it returns nil, what it wrote survives the process and the machine.
// Nothing that is passed in or returned is shared with the store. A method of one transaction that reports an error has changed nothing,
// but for [ErrUnknownOutcome]. What is missing although something else that is stored says it exists, or cannot be read, is
// an [ErrDamaged], never "nothing". Errors wrap the sentinels below; any other error is the engine's, or the context's.
//
//	s, err := store.Open(ctx, store.Config{Path: "zendeskblocks.db"})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	account, err := s.CreateAccount(ctx, "default", store.Account{ID: "acme", Name: "Acme", URL: "https://acme.zendesk.com"})
package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// Errors that callers tell apart.
var (
	ErrNotFound      = errors.New("not found")
	ErrAccountExists = errors.New("an account with this id exists")
	ErrNameTaken     = errors.New("another account has this name or id") // a name is compared without regard to case, with ids too
	ErrETagMismatch  = errors.New("the account has changed since its etag was read")
	ErrDefaultInUse  = errors.New("the default account cannot be deleted while others exist")
	ErrPagePosition  = errors.New("not a position that a page of this list ended with")
	ErrStagedGone    = errors.New("the staged records went when the interaction was completed or expired meanwhile")

	ErrTooLarge       = kv.ErrTooLarge       // a value, or all that one transaction writes
	ErrUnknownOutcome = kv.ErrUnknownOutcome // the context ended while a commit was under way: it may have been made
	ErrDamaged        = kv.ErrDamaged        // something that is stored cannot be read, or is missing: restore a backup
	ErrClosed         = kv.ErrClosed
)

// WithWait has the store, where it is called with the context, wait for commits within around, which may give up meanwhile
// what others can use. It is called from the goroutine that called the store.
func WithWait(ctx context.Context, around func(wait func())) context.Context {
	return kv.WithWait(ctx, around)
}

// Why stored data is not read.
var (
	errNewer    = errors.New("made by a newer zendeskblocks (run that version, or restore a backup made before the upgrade)")
	errNoFormat = errors.New("what says the format of the data is damaged (restore a backup)")
	errWrongKey = errors.New("the data was written under another key")
	errKeyInUse = errors.New("values of the data are sealed with this key")
)

// OutcomeTime is how long storing what has happened may take when who caused it has gone.
const OutcomeTime = 5 * time.Second

// Config says where the data is and what opens it.
type Config struct {
	Path    string           // data file; made if it is not there
	URL     string           // of a PostgreSQL database that several processes may share, in place of Path; see [Migrate]
	KeyFile string           // Tink keyset in JSON; default: Path with ".key" added, none with URL. Made if neither it nor the data file is there
	Keyset  string           // the keyset itself; then no key file is read or made
	Log     *slog.Logger     // default: none
	Now     func() time.Time // clock; default: time.Now

	IdleLife      time.Duration // how long an interaction that nothing changes is kept; default: 7 days
	TombstoneLife time.Duration // how long it is known, after that, that there was one; default: 30 days
	ActivityLife  time.Duration // how long an activity that is WRITTEN, SKIPPED or DISCARDED is kept; default: 90 days

	Quota Usage // what each tenant may have; zero fields: as much as there is

	Observer Observer // is told what happens

	PasswordFile string // holds the database's password; default: it comes from where libpq looks for it
	Replica      string // name of this process for people, among those that share the database
	Restored     bool   // only for [Migrate]: PostgreSQL has restored the data, or a standby that lacks some of them has taken over

	migrates bool // data that replicas share may be migrated
}

// Store is safe for concurrent use.
type Store struct {
	engine   kv.Engine
	vault    *vault
	instance string
	now      func() time.Time
	log      *slog.Logger
	keyFile  string // empty: the keyset was given

	backingUp sync.Mutex // held while a backup is made
	restored  restored

	// sealing is held for reading by every update, and for writing while the keys in use change: after that, nothing is stored
	// that another primary key has sealed.
	sealing sync.RWMutex

	lives   lives
	claims  claims
	notices notices

	started     time.Time // with the monotonic reading
	clock       sweepClock
	counter     counter
	observer    Observer
	unavailable chan error // holds one
}

// Open opens the data file, which no other process may have open. It refuses, and touches nothing, when the key does not
// fit: the data file is there and its key file is not, the key file is not a keyset or everyone can read it, a key is
// missing that values are sealed with, or the data was written under another key or by a newer version. Data of an older
// version is migrated first, in small steps: when the process ends meanwhile, the next Open goes on with it. So is what a
// restored copy cannot know taken account of: see [Restore].
func Open(ctx context.Context, c Config) (*Store, error) {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.URL != "" {
		return openDatabase(ctx, c)
	}
	source, keyFile := keySource(c.Path, c.KeyFile, c.Keyset)
	if err := refuseBackup(c.Path); err != nil {
		return nil, err
	}
	keys, err := openKeys(c, keyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	var observers []func(Commit)
	if c.Observer.Committed != nil {
		observers = append(observers, c.Observer.Committed)
	}
	engine, err := boltkv.Open(c.Path, observers...)
	if err != nil {
		return nil, err
	}
	s, err := newStore(ctx, engine, keys, c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data file %q, %s: %w", c.Path, source, err), engine.Close())
	}
	s.keyFile = keyFile
	return s, nil
}

// openKeys reads the key file, if there is one to be used, and makes it when neither it nor the data file is there.
func openKeys(c Config, keyFile string) (*keyfile.Keys, error) {
	if keyFile == "" {
		return readKeys(keyFile, c.Keyset)
	}
	if missing(keyFile) && missing(c.Path) {
		if err := keyfile.Make(keyFile); err != nil {
			return nil, fmt.Errorf("making it: %w", err)
		}
		c.Log.Info("made a key file; back it up: the data cannot be read without it", "key_file", keyFile, "data_file", c.Path)
	}
	keys, err := readKeys(keyFile, c.Keyset)
	if err != nil {
		return nil, err
	}
	if err := keyfile.Sweep(keyFile); err != nil {
		c.Log.Warn("what an interrupted run left beside the key file was not removed", "key_file", keyFile, "error", err)
	}
	return keys, nil
}

// keySource says in words where the keys of a data file are, and which file has them; none, if a keyset is given.
func keySource(path, keyFile, keyset string) (source, file string) {
	if keyset != "" {
		return "keyset given", ""
	}
	file = cmp.Or(keyFile, path+".key")
	return fmt.Sprintf("key file %q", file), file
}

// readKeys reads a key file, or the keyset where there is none.
func readKeys(keyFile, keyset string) (*keyfile.Keys, error) {
	if keyFile == "" {
		return keyfile.Parse(keyset)
	}
	return keyfile.Read(keyFile)
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// New returns a store over any engine, which its Close closes, and migrates the data as Open does. Of the configuration it
// uses Keyset, which must be given, Log, Now, the lives, Quota and Observer, but for Committed.
func New(ctx context.Context, e kv.Engine, c Config) (*Store, error) {
	keys, err := keyfile.Parse(c.Keyset)
	if err != nil {
		return nil, fmt.Errorf("keyset given: %w", err)
	}
	return newStore(ctx, e, keys, c)
}

func newStore(ctx context.Context, e kv.Engine, keys *keyfile.Keys, c Config) (*Store, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Store{
		engine: e, now: c.Now, log: cmp.Or(c.Log, slog.New(slog.DiscardHandler)), unavailable: make(chan error, 1),
		lives: lives{
			idle: cmp.Or(c.IdleLife, 7*24*time.Hour), tombstone: cmp.Or(c.TombstoneLife, 30*24*time.Hour), activity: cmp.Or(c.ActivityLife, 90*24*time.Hour),
		},
		started:  c.Now(),
		counter:  counter{quota: c.Quota},
		observer: c.Observer,
	}
	s.claims.self, s.claims.name = newID(), c.Replica
	known, err := s.identify(ctx, keys)
	if err == nil && !known {
		if err = s.initialize(ctx, keys); err == nil {
			_, err = s.identify(ctx, keys)
		}
	}
	if err == nil {
		err = s.adopt(ctx, keys)
	}
	if err == nil {
		err = s.migrate(ctx, !s.Shared() || c.migrates)
	}
	if err == nil {
		s.instance, err = s.loadInstance(ctx)
	}
	if err == nil {
		err = s.settleRestored(ctx)
	}
	if err == nil {
		err = s.enter(ctx)
	}
	if err != nil {
		s.leave()
		return nil, err
	}
	return s, nil
}

// identify reads what the store knows of itself; false when the engine is new.
func (s *Store) identify(ctx context.Context, keys *keyfile.Keys) (known bool, err error) {
	err = s.engine.View(ctx, func(r kv.Reader) error {
		v, err := unlock(r, keys)
		if err == nil && v != nil {
			s.vault, known = v, true
		}
		return err
	})
	return known, err
}

// unlock returns the vault of data that are there, of a format that is known; nil: there are none yet.
func unlock(r kv.Getter, keys *keyfile.Keys) (*vault, error) {
	values, err := r.Get(instanceKey, formatKey, indexKey)
	if err != nil || values[0] == nil && values[1] == nil && values[2] == nil {
		return nil, err
	}
	if _, err := readProgress(r); err != nil {
		return nil, err
	}
	v := newVault(keys)
	if v.index, err = v.openIndex(r); err != nil {
		return nil, err
	}
	return v, nil
}

// initialize makes a new engine a store, unless another process has done so meanwhile.
func (s *Store) initialize(ctx context.Context, keys *keyfile.Keys) error {
	index := make([]byte, 32)
	if _, err := rand.Read(index); err != nil {
		return fmt.Errorf("making an index key: %w", err)
	}
	v := newVault(keys)
	sealed, err := v.seal(indexKey, index)
	if err != nil {
		return err
	}
	instance, err := v.seal(instanceKey, []byte(newID()))
	if err != nil {
		return err
	}
	return s.commit(ctx, func(tx kv.Txn) error {
		values, err := tx.Get(formatKey)
		if err != nil || values[0] != nil {
			return err
		}
		tx.Put(formatKey, []byte(strconv.Itoa(format)))
		tx.Put(indexKey, sealed)
		tx.Put(instanceKey, instance)
		return nil
	})
}

// loadInstance reads the id of the store. Marks of written activities bear it: by a wrong one none is found, and they are
// written again.
func (s *Store) loadInstance(ctx context.Context) (id string, err error) {
	err = s.engine.View(ctx, func(r kv.Reader) error {
		values, err := r.Get(instanceKey)
		if err != nil {
			return err
		}
		if values[0] == nil {
			return missingPart("the id of the store")
		}
		value, err := s.vault.open(instanceKey, values[0])
		id = string(value)
		return err
	})
	return id, err
}

// Close stores what was counted last, frees what this process has claimed, waits for what is being committed and closes the data
// file, or the connections to the database. The store is not used afterwards.
func (s *Store) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), OutcomeTime)
	defer cancel()
	if err := s.FlushUsage(ctx); err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrFailed) {
		s.log.Warn("what tenants have is not stored; it is counted again after the next start", "error", err)
	}
	s.leave()
	return s.engine.Close()
}

// InstanceID returns what tells these data from all others: random, made once.
func (s *Store) InstanceID() string { return s.instance }

// view runs fn in a snapshot of a tenant's data.
func (s *Store) view(ctx context.Context, tenant string, fn func(*reading, kv.Reader) error) error {
	if err := checkTenant(tenant); err != nil {
		return err
	}
	return s.inTime(ctx, func(ctx context.Context) error {
		return s.engine.View(ctx, func(r kv.Reader) error {
			return fn(&reading{vault: s.vault, tenant: tenant, kv: r}, r)
		})
	})
}

// look reads a few keys of a tenant's data, all of one moment. fn may run several times. Over a database it shares round trips with others,
// and most is remembered and only compared: a snapshot takes two of its own.
func (s *Store) look(ctx context.Context, tenant string, fn func(*reading) error) error {
	if !s.Shared() {
		return s.view(ctx, tenant, func(r *reading, _ kv.Reader) error { return fn(r) })
	}
	if err := checkTenant(tenant); err != nil {
		return err
	}
	return s.inTime(ctx, func(ctx context.Context) error {
		return s.engine.Update(ctx, func(txn kv.Txn) error { return fn(&reading{vault: s.vault, tenant: tenant, kv: txn}) })
	})
}

// scan reads entries in a snapshot of its own.
func (s *Store) scan(ctx context.Context, keys kv.Range) (entries []kv.Entry, more bool, err error) {
	err = s.inTime(ctx, func(ctx context.Context) error {
		return s.engine.View(ctx, func(r kv.Reader) (err error) {
			entries, more, err = r.Scan(keys)
			return err
		})
	})
	return entries, more, err
}

// each calls visit with all entries of a range, in order, some of a snapshot at a time, and stops at its error, which comes back as
// it is.
func (s *Store) each(ctx context.Context, keys kv.Range, visit func(kv.Entry) error) error {
	for {
		entries, more, err := s.scan(ctx, keys)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := visit(entry); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		keys.Start = kv.After(entries[len(entries)-1].Key)
	}
}

// update runs fn in a transaction on a tenant's data. It may run several times.
func (s *Store) update(ctx context.Context, tenant string, fn func(*writing) error) error {
	if err := checkTenant(tenant); err != nil {
		return err
	}
	var run *meter
	err := s.commit(ctx, func(tx kv.Txn) error {
		run = &meter{Txn: tx, tenant: kv.Key(tenant)}
		return fn(&writing{reading: reading{vault: s.vault, tenant: tenant, kv: run}, txn: run})
	})
	if err == nil {
		s.counter.add(tenant, run.changes)
		s.observer.tell(run)
	}
	return err
}

// commit is one update of the engine. The keys in use do not change meanwhile.
func (s *Store) commit(ctx context.Context, fn func(kv.Txn) error) error {
	s.sealing.RLock()
	defer s.sealing.RUnlock()
	return s.inTime(ctx, func(ctx context.Context) error {
		err := errUnadopted
		if !s.claims.unadopted.Load() {
			err = s.engine.Update(ctx, s.fenced(ctx, fn))
		}
		if errors.Is(err, ErrClaimLost) {
			s.claims.away.Store(true)
		}
		return s.noteUnavailable(err)
	})
}

// errUnadopted keeps a replica that was taken for dead from storing anything before it knows that it may seal.
var errUnadopted = fmt.Errorf("%w: this replica was taken for dead, and has yet to find out whether its keys are in use", ErrUnavailable)

// checkTenant keeps a caller's slip from reaching what belongs to no tenant.
func checkTenant(tenant string) error {
	if !tenantPattern.MatchString(tenant) {
		return fmt.Errorf("tenant %q is not allowed", tenant)
	}
	return nil
}

// time is the present, as it is stored.
func (s *Store) time() time.Time { return s.now().UTC().Round(0) }

// newID returns a random text of letters and digits that no other has.
func newID() string { return rand.Text() }
