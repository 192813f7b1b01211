package boltkv

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/scenarioblocks/zendeskblocks/store/durable"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// The file:
//
//	meta            bucket
//	  magic         "zendeskblocks store"
//	  format        "1"
//	data            bucket: the keys and values of package kv, as they are
//
// Magic and format say that it is such a file, no more: they are the same in all that there are. What the keys and values
// are, and in which version, is told among them. Another number would be of a file that is not made of these buckets.
var (
	metaBucket = []byte("meta")
	dataBucket = []byte("data")
	magicKey   = []byte("magic")
	formatKey  = []byte("format")
)

const (
	magic    = "zendeskblocks store"
	format   = 1
	fileMode = 0o600

	// lockTimeout is how long Open waits for another process to let go of the file.
	lockTimeout = time.Second

	// compactBytes is written at a time by Compact.
	compactBytes = 16 << 20
)

// Why [Open] refuses a file. The file is left as it was.
var (
	// ErrLocked says that another process has the file open.
	ErrLocked = errors.New("in use by another process (is another zendeskblocks running on it?)")
	// ErrForeign says that the file was not made by this package.
	ErrForeign = errors.New("not a zendeskblocks database (is the path right?)")
	// ErrNewer says that the file was made by a later version of this program.
	ErrNewer = errors.New("made by a newer zendeskblocks (run that version, or restore a backup made before the upgrade)")
)

// Open opens the database file at path, and creates it with mode 0600 when it is missing or empty; its folder must
// exist. It waits up to a second for a process that has the file open. A file it refuses is left as it was; the error
// names it and wraps [ErrLocked], [ErrForeign], [ErrNewer], [kv.ErrDamaged] or the file system's error. The observers are
// told of each commit when it is durable, by the one goroutine that commits: they must be quick.
func Open(path string, observers ...func(kv.Commit)) (*DB, error) {
	d, err := open(path, observers)
	if err != nil {
		return nil, fmt.Errorf("database file %q: %w", path, err)
	}
	return d, nil
}

func open(path string, observers []func(kv.Commit)) (d *DB, err error) {
	if _, err := inspect(path); err != nil {
		return nil, err
	}
	bolt, file, err := openBolt(path, false)
	if err != nil {
		return nil, err
	}
	if err = guarded(func() error { return initialize(bolt) }); err == nil {
		err = durable.SyncFolder(path)
	}
	if err == nil {
		err = sweepSpools(path)
	}
	if err == nil {
		d, err = newDB(bolt, file, path, observers)
	}
	if err != nil {
		return nil, errors.Join(err, letGo(bolt, file, err))
	}
	return d, nil
}

// letGo closes bbolt's file after an error. Where it met damage bbolt may have died with its locks held, and can do no more:
// only the lock of the file is given back.
func letGo(bolt *bbolt.DB, file *os.File, err error) error {
	if errors.Is(err, kv.ErrDamaged) {
		return abandon(file)
	}
	return bolt.Close()
}

// abandon gives back the lock of a file, which the map would keep when the file is closed.
func abandon(file *os.File) error {
	return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
}

// inspect reads whether Open may write to the file: opening a bbolt file for writing may already change it. One that is
// missing, empty, or has no buckets yet is fresh.
func inspect(path string) (fresh bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, errors.Unwrap(err)
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("not a regular file: %w", ErrForeign)
	case info.Size() == 0:
		return true, nil
	}
	bolt, file, err := openBolt(path, true)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, letGo(bolt, file, err)) }()
	err = guarded(func() error {
		tx, err := bolt.Begin(false)
		if err != nil {
			return err
		}
		defer rollback(tx)
		if tx.Size() > info.Size() {
			return damaged("%d bytes of %d", info.Size(), tx.Size())
		}
		meta, err := newestMeta(file, bolt.Info().PageSize)
		if err != nil {
			return err
		}
		if meta.freelist() == noFreelist {
			return fmt.Errorf("it has no list of free pages: %w", ErrForeign)
		}
		if err := treeOf(tx).checkFreelist(meta.freelist()); err != nil {
			return err
		}
		fresh, err = identify(tx)
		return err
	})
	return fresh, err
}

// openBolt returns bbolt's file, too.
func openBolt(path string, readOnly bool) (bolt *bbolt.DB, file *os.File, err error) {
	options := &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		ReadOnly:     readOnly,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			opened, err := os.OpenFile(name, flag, perm)
			file = opened
			return opened, err
		},
	}
	if !readOnly {
		options.InitialMmapSize = mapFor(path)
	}
	err = guarded(func() (err error) {
		bolt, err = bbolt.Open(path, fileMode, options)
		return err
	})
	errno, isErrno := errors.AsType[syscall.Errno](err)
	switch {
	case err == nil && !named(path, file):
		return nil, nil, errors.Join(ErrLocked, bolt.Close())
	case err == nil:
		return bolt, file, nil
	case errors.Is(err, kv.ErrDamaged):
		return nil, nil, errors.Join(err, abandon(file))
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, nil, ErrLocked
	case errno == syscall.ENOMEM && !readOnly:
		return nil, nil, fmt.Errorf("its map needs %d GiB of address space, not of memory (see ulimit -v, LimitAS): %w", options.InitialMmapSize>>30, errno)
	case isErrno:
		return nil, nil, errno // without the path, which Open names
	default:
		return nil, nil, fmt.Errorf("%w: %w", err, ErrForeign)
	}
}

// mapFor is how much of address space a file is given, to grow in.
func mapFor(path string) int {
	size := int64(0)
	if info, err := os.Stat(path); err == nil {
		size = info.Size()
	}
	return int((size+remapStep-1)/remapStep*remapStep) + mmapBytes
}

// named reports whether a path still leads to a file. While Open waited for the lock, another process may have put a
// compacted copy in the file's place: what was written to the old one would be lost.
func named(path string, file *os.File) bool {
	opened, openedErr := file.Stat()
	now, nowErr := os.Stat(path)
	return openedErr == nil && nowErr == nil && os.SameFile(opened, now)
}

// initialize makes a new file ours. It looks again at one that is not: another process may have made it since.
func initialize(bolt *bbolt.DB) error {
	tx, err := bolt.Begin(true)
	if err != nil {
		return err
	}
	defer rollback(tx)
	fresh, err := identify(tx)
	if err != nil || !fresh {
		return err
	}
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(dataBucket); err != nil {
		return err
	}
	if err := meta.Put(magicKey, []byte(magic)); err != nil {
		return err
	}
	if err := meta.Put(formatKey, []byte(strconv.Itoa(format))); err != nil {
		return err
	}
	return tx.Commit()
}

// identify says whether a bbolt file is ours, or fresh: nothing was ever kept in it, as after a crash in its first moment.
func identify(tx *bbolt.Tx) (fresh bool, err error) {
	t, rootBucket := treeOf(tx), uint64(tx.Cursor().Bucket().Root())
	if root, err := t.page(rootBucket); err != nil || root.count == 0 {
		return err == nil, err
	}
	meta, err := t.bucket(rootBucket, metaBucket)
	if err != nil {
		return false, err
	}
	if value, err := meta.get(magicKey); err != nil || string(value) != magic {
		return false, cmp.Or(err, ErrForeign)
	}
	value, err := meta.get(formatKey)
	if err != nil {
		return false, err
	}
	made, err := strconv.Atoi(string(value))
	if err != nil || made < 1 {
		return false, damaged("format %q", value)
	}
	if made > format {
		return false, fmt.Errorf("format %d, this program knows %d: %w", made, format, ErrNewer)
	}
	data, err := t.bucket(rootBucket, dataBucket)
	if err == nil && data.root.body == nil {
		err = damaged("no bucket %q", dataBucket)
	}
	return false, err
}

// Compact writes the database to a new file at path, without free pages and what they still hold of deleted values. The
// copy holds every Update acknowledged before. A file that exists is not touched: the error wraps [fs.ErrExist].
func (d *DB) Compact(path string) error {
	if err := d.enter(context.Background()); err != nil {
		return err
	}
	defer d.running.Done()
	made, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	if err := made.Close(); err != nil {
		return err
	}
	dst, _, err := openBolt(path, false)
	if err != nil {
		return errors.Join(fmt.Errorf("database file %q: %w", path, err), os.Remove(path))
	}
	if err = initialize(dst); err == nil {
		err = d.copyInto(dst)
	}
	if err := errors.Join(err, dst.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return durable.SyncFolder(path)
}

func (d *DB) copyInto(dst *bbolt.DB) error {
	src, err := d.take()
	if err != nil {
		return err
	}
	defer d.release(src)
	var c cursor
	err = d.guarded(func() (err error) {
		if c, err = src.bucket(); err == nil {
			err = c.seek(nil)
		}
		return err
	})
	for more := err == nil; more && err == nil; {
		err = dst.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(dataBucket)
			bucket.FillPercent = 1 // nothing will be put between
			return d.guarded(func() (err error) {
				more, err = c.copyInto(bucket)
				return err
			})
		})
	}
	return err
}

// copyInto copies the next entries.
func (c *cursor) copyInto(bucket *bbolt.Bucket) (more bool, err error) {
	for size := 0; size < compactBytes; {
		key, ok := c.key()
		if !ok {
			return false, nil
		}
		size += len(key) + len(c.value())
		if err := bucket.Put(key, bytes.Clone(c.value())); err != nil {
			return false, err
		}
		if err := c.step(false); err != nil {
			return false, err
		}
	}
	return true, nil
}
