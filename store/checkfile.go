package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/backupfile"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// CheckFileConfig says what is looked at, and what opens it.
type CheckFileConfig struct {
	Path    string // a data file, or a backup
	KeyFile string // default: Path with ".key" added
	Keyset  string // the keyset itself; then no key file is read
	NoKey   bool   // look only at what needs no key
}

// CheckedFile is what is in a data file or a backup.
type CheckedFile struct {
	Backup      *backupfile.Info // what its trailer says; nil: it is a data file
	RestoreTime time.Time        // when it was made of a backup; zero: it was not, or not of late
	Format      int              // of the data
	KnownFormat int              // that this program migrates older ones to
	KeyIDs      []uint32         // of the keys that values are sealed with
	Instance    string           // as backups of it have it; empty: no key has opened it

	FileBytes int64
	FreeBytes int64 // of pages that hold no data
	FreePages int

	Tenants      int
	Accounts     int
	Interactions int // with those that have expired and are still known
	Activities   map[string]int
	Values       int // that were opened

	Findings []string // the first 1,000
	Damaged  int      // how many there are
}

// CheckFile looks at each page and each value of a data file that no process has open, or of a backup, and compares what belongs
// together, as Scrub does. It changes nothing. Data of an older format are opened, and not compared. What is wrong with the
// data, or with the key, is a finding. Errors: the file system's, [boltkv.ErrLocked], [boltkv.ErrForeign], and those that say
// that a newer version has made it.
func CheckFile(ctx context.Context, c CheckFileConfig) (checked CheckedFile, err error) {
	run := fileCheck{CheckFileConfig: c, CheckedFile: CheckedFile{KnownFormat: format, Activities: make(map[string]int)}}
	err = run.file(ctx)
	if errors.Is(err, ErrDamaged) || errors.Is(err, backupfile.ErrDamaged) {
		run.found(err)
		err = nil
	}
	return run.CheckedFile, err
}

type fileCheck struct {
	CheckFileConfig
	CheckedFile
}

func (c *fileCheck) found(err error) {
	if c.Damaged++; c.Damaged <= scrubLines {
		c.Findings = append(c.Findings, err.Error())
	}
}

func (c *fileCheck) file(ctx context.Context) error {
	if err := c.trailer(ctx); err != nil {
		return err
	}
	engine, err := boltkv.OpenReadOnly(c.Path)
	if err != nil {
		return err
	}
	return errors.Join(c.data(ctx, engine), engine.Close())
}

// trailer looks whether the file is a backup, and at all of its bytes if it is.
func (c *fileCheck) trailer(ctx context.Context) (err error) {
	file, err := openFile(c.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := readBackup(file)
	switch {
	case errors.Is(err, backupfile.ErrNoBackup):
		if stat, err := file.Stat(); err == nil && stat.Mode().IsRegular() && stat.Size()%int64(os.Getpagesize()) != 0 {
			c.found(fmt.Errorf("it ends after %d bytes, amid a page: it may be a backup that was cut short", stat.Size()))
		}
		return nil
	case err != nil:
		return fmt.Errorf("backup %q: %w", c.Path, err)
	}
	c.Backup = &info
	if err := backupfile.Copy(&writerWithin{ctx, io.Discard}, file, info); !errors.Is(err, backupfile.ErrDamaged) {
		return err
	} else if err != nil {
		c.found(err)
	}
	return nil
}

func (c *fileCheck) data(ctx context.Context, engine *boltkv.DB) error {
	stats, err := engine.Check(ctx, func(err error) error { c.found(err); return nil })
	if err != nil {
		return err
	}
	c.FileBytes, c.FreeBytes, c.FreePages = stats.FileBytes, stats.FreeBytes, stats.FreePages
	s := &Store{engine: engine, now: time.Now, log: slog.New(slog.DiscardHandler)}
	empty, err := c.identify(ctx, engine)
	if err != nil || empty {
		return err
	}
	if err := c.count(ctx, s); err != nil || c.NoKey {
		return err
	}
	if err := c.open(ctx, s); err != nil || s.vault == nil {
		return err
	}
	if c.Format < format {
		return c.openAll(ctx, s)
	}
	run := scrub{store: s, share: 1, tell: func(key []byte, err error) { c.found(fmt.Errorf("key %q: %w", key, err)) }}
	err = run.all(ctx)
	c.Values = run.Values
	return err
}

// identify reads what the data say of themselves in clear. Empty tells that there are none.
func (c *fileCheck) identify(ctx context.Context, engine kv.Engine) (empty bool, err error) {
	err = engine.View(ctx, func(r kv.Reader) error {
		values, err := r.Get(formatKey, instanceKey, indexKey, keysKey, restoredKey)
		if err != nil {
			return err
		}
		if empty = values[0] == nil && values[1] == nil && values[2] == nil; empty {
			return nil
		}
		p, err := readProgress(r)
		if errors.Is(err, errNoFormat) {
			return fmt.Errorf("%w: %w", err, ErrDamaged)
		}
		if err != nil {
			return fmt.Errorf("data file %q: %w", c.Path, err)
		}
		var use keyUse
		var mark restoredMark
		if values[3] != nil {
			err = decode(values[3], &use)
		}
		if err == nil && values[4] != nil {
			err = decode(values[4], &mark)
		}
		c.Format, c.KeyIDs, c.RestoreTime = p.format, use.IDs, mark.Time
		return err
	})
	return empty, err
}

// open takes the keys into use; where they do not fit, that is found.
func (c *fileCheck) open(ctx context.Context, s *Store) error {
	source, keyFile := keySource(c.Path, c.KeyFile, c.Keyset)
	keys, err := readKeys(keyFile, c.Keyset)
	if err != nil {
		c.found(fmt.Errorf("no value can be opened: %s: %w", source, err))
		return nil
	}
	v := newVault(keys)
	err = s.engine.View(ctx, func(r kv.Reader) (err error) {
		v.index, err = v.openIndex(r)
		return err
	})
	if errors.Is(err, errWrongKey) || errors.Is(err, errKeyInUse) {
		c.found(fmt.Errorf("no value can be opened: %s: %w", source, err))
		return nil
	}
	if err != nil {
		return err
	}
	s.vault = v
	if c.Format < format {
		return nil
	}
	instance, err := s.loadInstance(ctx)
	if err == nil {
		c.Instance = instanceDigest(instance)
		if c.Backup != nil && c.Backup.Instance != c.Instance {
			err = fmt.Errorf("its trailer is of another data file: %w", ErrDamaged)
		}
	}
	return err
}

// openAll opens all values of an older format that say that they are sealed: more stood in clear then.
func (c *fileCheck) openAll(ctx context.Context, s *Store) error {
	return eachEntry(ctx, s, false, func(e kv.Entry) {
		if !slices.ContainsFunc(s.vault.keys.Load().Enabled(), func(id uint32) bool { return keyfile.SealedWith(e.Value, id) }) {
			return
		}
		c.Values++
		if _, err := s.vault.open(e.Key, e.Value); err != nil {
			c.found(fmt.Errorf("key %q: %w", e.Key, err))
		}
	})
}

// activityStates names the states, as the API does.
var activityStates = map[string]string{
	strconv.Itoa(int(ActivityPending)): "PENDING", strconv.Itoa(int(ActivityWritten)): "WRITTEN", strconv.Itoa(int(ActivitySkipped)): "SKIPPED",
	strconv.Itoa(int(ActivityDead)): "DEAD", strconv.Itoa(int(ActivityDiscarded)): "DISCARDED",
}

// count counts what there is, by its keys.
func (c *fileCheck) count(ctx context.Context, s *Store) error {
	last := ""
	return eachEntry(ctx, s, true, func(e kv.Entry) {
		path, err := kv.Split(e.Key)
		if err != nil || len(path) < 2 || checkTenant(path[0]) != nil {
			return
		}
		if path[0] != last {
			c.Tenants, last = c.Tenants+1, path[0]
		}
		switch {
		case path[1] == "a" && len(path) == 4 && path[2] == "record":
			c.Accounts++
		case path[1] == "h" && len(path) == 4 && path[3] == "head", path[1] == "i" && len(path) == 4 && path[3] == "head":
			c.Interactions++
		case path[1] == "b" && len(path) > 4 && path[2] == "state":
			c.Activities[cmp.Or(activityStates[path[3]], path[3])]++
		}
	})
}

// eachEntry visits all entries, in order of their keys.
func eachEntry(ctx context.Context, s *Store, keysOnly bool, visit func(kv.Entry)) error {
	for at := []byte(nil); ; {
		entries, more, err := s.scan(ctx, kv.Range{Start: at, KeysOnly: keysOnly})
		if err != nil {
			return err
		}
		for _, e := range entries {
			visit(e)
		}
		if !more {
			return nil
		}
		at = kv.After(entries[len(entries)-1].Key)
	}
}
