package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/backupfile"
	"github.com/scenarioblocks/zendeskblocks/store/durable"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// ErrExists says that there is a data file already.
var ErrExists = errors.New("it is there already, and would be replaced")

// RestoreConfig says what is restored, and where to.
type RestoreConfig struct {
	Backup  string           // file that Backup has written
	Path    string           // data file to make
	Replace bool             // a data file that is there; it is kept under another name
	Now     func() time.Time // clock; default: time.Now
}

// Restored is what was restored.
type Restored struct {
	backupfile.Info
	Kept string // where the data file is that was replaced; empty: there was none
}

// Restore makes a data file of a backup, each byte of which it looks at. It needs no key. A crash, or an error, leaves what was
// there before. Errors: those of package backupfile, [ErrExists], [boltkv.ErrLocked] when a process has the data file open.
//
// A copy of the past does not know what has been done since. When it is first opened, each activity that is PENDING or DEAD is
// marked as perhaps written; so are those that come to it in the 7 days after, which may be said again. What cannot be mended is
// told in the log: tokens that were renewed since are not in it, nor that requests were made.
func Restore(ctx context.Context, c RestoreConfig) (Restored, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	r := restorer{RestoreConfig: c}
	if err := r.run(ctx); err != nil {
		return Restored{}, err
	}
	return Restored{r.info, r.kept}, nil
}

type restorer struct {
	RestoreConfig
	info   backupfile.Info
	backup *os.File
	kept   string
}

func (r *restorer) run(ctx context.Context) (err error) {
	if r.backup, err = openFile(r.Backup); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, r.backup.Close()) }()
	if r.info, err = readBackup(r.backup); err == nil && r.info.DataFormat > format {
		err = fmt.Errorf("its data have format %d, this program knows %d: %w", r.info.DataFormat, format, backupfile.ErrNewer)
	}
	if errors.Is(err, backupfile.ErrNewer) && r.info.Version != "" {
		err = fmt.Errorf("%w (it is %s: restore with that version or a later one)", err, r.info.Version)
	}
	if err != nil {
		return fmt.Errorf("backup %q: %w", r.Backup, err)
	}
	if err := r.sweep(); err != nil {
		return fmt.Errorf("data file %q: %w", r.Path, err)
	}
	suffix := restoringSuffix + strings.ToLower(rand.Text()[:12])
	write := func(path string) error { return r.write(ctx, path) }
	switch _, err := os.Lstat(r.Path); {
	case errors.Is(err, fs.ErrNotExist):
		err = durable.Create(r.Path, suffix, write)
		if errors.Is(err, fs.ErrExist) { // made meanwhile
			err = ErrExists
		}
		return r.named(err)
	case err != nil:
		return r.named(err)
	case !r.Replace:
		return r.named(ErrExists)
	}
	return r.named(r.replace(suffix, write))
}

// named says which file an error is about, unless it is about the backup.
func (r *restorer) named(err error) error {
	if err == nil || errors.Is(err, backupfile.ErrDamaged) {
		return err
	}
	return fmt.Errorf("data file %q: %w", r.Path, err)
}

// replace replaces a data file that no process has open, and keeps it under another name.
func (r *restorer) replace(suffix string, write func(string) error) error {
	kept := r.Path + ".replaced-" + r.Now().UTC().Format("20060102T150405.000Z")
	err := durable.Change(r.Path, os.O_RDWR, false, func(*os.File) error {
		linked := false
		err := durable.Replace(r.Path, suffix, func(path string) error {
			if err := write(path); err != nil {
				return err
			}
			old, err := filepath.EvalSymlinks(r.Path)
			if err == nil {
				err = os.Link(old, kept)
			}
			if err != nil {
				return errors.Join(fmt.Errorf("keeping what is there: %w", err), os.Remove(path))
			}
			linked = true
			return nil
		})
		if err != nil && linked {
			err = errors.Join(err, os.Remove(kept))
		}
		return err
	})
	if errors.Is(err, durable.ErrBusy) {
		return boltkv.ErrLocked
	}
	if err == nil {
		r.kept, err = kept, durable.SyncFolder(kept)
	}
	return err
}

// restoringSuffix begins what the name of a data file ends with that is being made; letters and digits follow.
const restoringSuffix = ".restoring-"

// sweep takes away what runs have left that were cut off. What is locked is another process's.
func (r *restorer) sweep() error {
	target, err := filepath.EvalSymlinks(r.Path)
	if err != nil {
		target = r.Path
	}
	entries, err := os.ReadDir(filepath.Dir(target))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), filepath.Base(target)+restoringSuffix) {
			continue
		}
		left := filepath.Join(filepath.Dir(target), entry.Name())
		err := durable.Change(left, os.O_RDWR, false, func(*os.File) error { return os.Remove(left) })
		if err != nil && !errors.Is(err, durable.ErrBusy) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// write makes a data file of the backup, or leaves nothing.
func (r *restorer) write(ctx context.Context, path string) error {
	var made fs.FileInfo
	err := durable.Change(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, false, func(file *os.File) error {
		if err := backupfile.Copy(&writerWithin{ctx, file}, r.backup, r.info); err != nil {
			if errors.Is(err, backupfile.ErrDamaged) {
				err = fmt.Errorf("backup %q: %w", r.Backup, err)
			}
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		var err error
		made, err = file.Stat()
		return err
	})
	if err == nil {
		err = r.mark(ctx, path, made)
	}
	if err != nil {
		removeErr := os.Remove(path)
		if errors.Is(removeErr, fs.ErrNotExist) {
			removeErr = nil
		}
		return errors.Join(err, removeErr)
	}
	return nil
}

// mark notes in the data file that was made that it was restored.
func (r *restorer) mark(ctx context.Context, path string, made fs.FileInfo) (err error) {
	value, err := encode(restoredMark{Time: r.Now().UTC().Round(0), CreateTime: r.info.CreateTime, Version: r.info.Version})
	if err != nil {
		return err
	}
	engine, err := boltkv.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	// Another restore may have swept it away while it was not locked; the engine has made an empty one then.
	if opened, err := os.Stat(path); err != nil || !os.SameFile(made, opened) {
		return errors.Join(errors.New("another restore has taken it away"), err)
	}
	return engine.Update(ctx, func(tx kv.Txn) error {
		tx.Put(restoredKey, value)
		return nil
	})
}

// writerWithin stops when its context ends.
type writerWithin struct {
	ctx context.Context
	w   io.Writer
}

func (w *writerWithin) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// LacksKeys returns which of the keys are not in a key file, or in a keyset if that is given; all of them with an error that
// says why it cannot be used.
func LacksKeys(ids []uint32, keyFile, keyset string) ([]uint32, error) {
	var keys *keyfile.Keys
	var err error
	if keyset != "" {
		keys, err = keyfile.Parse(keyset)
	} else if keys, err = keyfile.Read(keyFile); err != nil {
		err = fmt.Errorf("key file %q: %w", keyFile, err)
	}
	if err != nil {
		return ids, err
	}
	has := keys.Enabled()
	return slices.DeleteFunc(slices.Clone(ids), func(id uint32) bool { return slices.Contains(has, id) }), nil
}

// restoredMark is the stored form of what is known of a restore. It stands in clear: who restores has no key.
type restoredMark struct {
	Time       time.Time `json:"time"`        // of the restore
	CreateTime time.Time `json:"create_time"` // of the backup; zero: not known
	Version    string    `json:"version,omitempty"`
	// Settled says that what there was is marked.
	Settled bool `json:"settled,omitempty"`
}

// Why data that PostgreSQL has restored are not marked as such.
var (
	errServed        = errors.New("a replica works on the data: end all of them, have what was restored marked, and start them then")
	errNothingMarked = errors.New("there are no data in it that could have been restored")
)

// markRestored notes in data that processes share that they are a copy of the past, which whoever restored them by the means of the
// database has to say. What is a replica in the copy may have been one of the original alone: it counts when it lives.
func markRestored(ctx context.Context, engine kv.Engine, keys *keyfile.Keys, at time.Time) error {
	value, err := encode(restoredMark{Time: at.UTC().Round(0)})
	if err != nil {
		return err
	}
	dead, err := deadReplicas(ctx, engine)
	if err != nil {
		return err
	}
	return engine.Update(ctx, func(tx kv.Txn) error {
		now, err := loadMembers(tx)
		if err != nil {
			return err
		}
		if now.someLivedSince(dead) {
			return errServed
		}
		v, err := unlock(tx, keys)
		switch {
		case err != nil:
			return err
		case v == nil:
			return errNothingMarked
		}
		tx.Put(restoredKey, value)
		return nil
	})
}

// deadReplicas returns the replicas that the data know, when it is certain that none of them lives; else it is an error.
func deadReplicas(ctx context.Context, engine kv.Engine) (members, error) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	began := time.Now()
	var p pulse
	for before := members(nil); ; {
		var now members
		err := engine.View(ctx, func(r kv.Reader) (err error) {
			now, err = loadMembers(r)
			return err
		})
		if err != nil {
			return nil, err
		}
		if before != nil && now.someLivedSince(before) {
			return nil, errServed
		}
		counters := make(map[string]uint64, len(now))
		for id, m := range now {
			counters[id] = m.Counter
		}
		if len(p.look(time.Since(began), counters)) == len(now) {
			return now, nil
		}
		before = now
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// someLivedSince says whether one has come, or raised its counter, since the members were others.
func (m members) someLivedSince(others members) bool {
	for id, now := range m {
		if before, known := others[id]; !known || before.Counter != now.Counter {
			return true
		}
	}
	return false
}

// replayLife is for how long after a restore what is said again may have been done before.
const replayLife = 7 * 24 * time.Hour

// restored is what a store knows of the last restore; zero: there was none of late.
type restored struct{ at time.Time }

func (r restored) recently(now time.Time) bool {
	return !r.at.IsZero() && now.Before(r.at.Add(replayLife))
}

// settleRestored does what is due after a restore. When the process ends amid it, the next one does it again.
func (s *Store) settleRestored(ctx context.Context) error {
	var mark restoredMark
	known := false
	err := s.engine.View(ctx, func(r kv.Reader) error {
		values, err := r.Get(restoredKey)
		if known = err == nil && values[0] != nil; known {
			err = decode(values[0], &mark)
		}
		return err
	})
	if err != nil || !known {
		return err
	}
	now := s.time()
	if !mark.Settled {
		if err := s.settle(ctx, mark, now); err != nil {
			return fmt.Errorf("taking account of the restore, which the next start goes on with: %w", err)
		}
		mark.Settled = true
	}
	if s.restored = (restored{mark.Time}); s.restored.recently(now) {
		return nil
	}
	s.restored = restored{}
	return s.commit(ctx, func(tx kv.Txn) error {
		tx.Delete(restoredKey)
		return nil
	})
}

func (s *Store) settle(ctx context.Context, mark restoredMark, now time.Time) error {
	var backup []any
	if !mark.CreateTime.IsZero() {
		backup = []any{"backup_time", mark.CreateTime, "age", now.Sub(mark.CreateTime).Round(time.Second).String(), "backup_version", cmp.Or(mark.Version, "unknown")}
	}
	s.log.WarnContext(ctx, "the data come from a backup: what was done since it was made is not known here", append(backup, "restore_time", mark.Time)...)
	doubted, renewable := 0, 0
	for tenant := ""; ; {
		var err error
		if tenant, err = s.nextTenant(ctx, tenant); err != nil {
			return err
		}
		if tenant == "" {
			break
		}
		for _, state := range []ActivityState{ActivityPending, ActivityDead} {
			n, err := s.doubt(ctx, tenant, state)
			if err != nil {
				return err
			}
			doubted += n
		}
		n, err := s.countRenewable(ctx, tenant)
		if err != nil {
			return err
		}
		renewable += n
	}
	value, err := encode(restoredMark{Time: mark.Time, CreateTime: mark.CreateTime, Version: mark.Version, Settled: true})
	if err != nil {
		return err
	}
	if err := s.commit(ctx, func(tx kv.Txn) error { tx.Put(restoredKey, value); return nil }); err != nil {
		return err
	}
	s.log.WarnContext(ctx, "activities that are PENDING or DEAD may have been written since the backup: each is looked for in Zendesk before it is written",
		"activities", doubted)
	if renewable > 0 {
		s.log.WarnContext(ctx, "refresh tokens that were used since the backup are dead: accounts whose renewal Zendesk refuses become NEEDS_AUTHORIZATION, and need RequestToken",
			"accounts", renewable)
	}
	return nil
}

// doubt marks the activities of a state as restored, and returns how many there are.
func (s *Store) doubt(ctx context.Context, tenant string, state ActivityState) (n int, err error) {
	rows := kv.Prefix(activityIndex(tenant, "", state))
	rows.KeysOnly, rows.Limit = true, resealValues
	for {
		entries, more, err := s.scan(ctx, rows)
		if err != nil {
			return n, err
		}
		var keys [][]byte
		for _, entry := range entries {
			if path, err := kv.Split(entry.Key); err == nil && len(path) > 1 {
				keys = append(keys, activityKey(tenant, path[len(path)-2]))
			}
		}
		for len(keys) > 0 {
			done, err := s.doubtSome(ctx, keys)
			if err != nil {
				return n, err
			}
			n, keys = n+done, keys[done:]
		}
		if !more {
			return n, nil
		}
		rows.Start = kv.After(entries[len(entries)-1].Key)
	}
}

// doubtSome marks the first of some activities, as many as one transaction has room for, and returns how many it came to.
func (s *Store) doubtSome(ctx context.Context, keys [][]byte) (done int, err error) {
	err = s.commit(ctx, func(tx kv.Txn) error {
		done = 0
		values, err := tx.Get(keys...)
		if err != nil {
			return err
		}
		size := 0
		for i, key := range keys {
			if size += len(key) + len(values[i]); done > 0 && size > resealBytes {
				return nil
			}
			done++
			if values[i] == nil {
				continue
			}
			a, err := s.vault.openActivity(key, values[i])
			if err != nil {
				if errors.Is(err, ErrDamaged) {
					continue // who comes to write it says so
				}
				return err
			}
			if a.Restored {
				continue
			}
			a.Restored = true
			value, err := a.value()
			if err == nil {
				value, err = s.vault.seal(key, value)
			}
			if err != nil {
				return err
			}
			tx.Put(key, value)
		}
		return nil
	})
	return done, err
}

// countRenewable counts a tenant's accounts whose tokens are renewed by refresh tokens.
func (s *Store) countRenewable(ctx context.Context, tenant string) (n int, err error) {
	for after := ""; ; {
		accounts, more, err := s.ListAccounts(ctx, tenant, after, kv.MaxScanLimit)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return n, err
		}
		for _, a := range accounts {
			if t := a.OAuthToken; t != nil && t.Renewal != nil && t.Renewal.RefreshToken.Reveal() != "" {
				n++
			}
		}
		if !more || err != nil || len(accounts) == 0 {
			return n, nil
		}
		after = accounts[len(accounts)-1].ID
	}
}
