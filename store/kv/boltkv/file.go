package boltkv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/scenarioblocks/zendeskblocks/store/durable"
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

	// mmapBytes is address space, not memory. Growing the map waits for every open View and holds up writers until then,
	// so it must not happen.
	mmapBytes = 16 << 30

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
	// ErrDamaged says that the file is cut short or its pages do not hold together.
	ErrDamaged = errors.New("damaged (restore a backup)")
)

// Open opens the database file at path, and creates it with mode 0600 when it is missing or empty; its folder must
// exist. It waits up to a second for a process that has the file open. A file it refuses is left as it was; the error
// names it and wraps [ErrLocked], [ErrForeign], [ErrNewer], [ErrDamaged] or the file system's error.
func Open(path string) (*DB, error) {
	bolt, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("database file %q: %w", path, err)
	}
	return newDB(bolt, path), nil
}

func open(path string) (bolt *bbolt.DB, err error) {
	// Pages of a damaged file make bbolt panic, or point outside the file.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			bolt, err = nil, fmt.Errorf("%v: %w", p, ErrDamaged)
		}
	}()
	if err := inspect(path); err != nil {
		return nil, err
	}
	bolt, err = openBolt(path, false)
	if err != nil {
		return nil, err
	}
	if err := initialize(bolt); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	if err := durable.SyncFolder(path); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	return bolt, nil
}

// inspect reads whether Open may write to the file: opening a bbolt file for writing may already change it.
func inspect(path string) (err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return errors.Unwrap(err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("not a regular file: %w", ErrForeign)
	case info.Size() == 0:
		return nil
	}
	bolt, err := openBolt(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bolt.Close()) }()
	tx, err := bolt.Begin(false)
	if err != nil {
		return err
	}
	defer rollback(tx)
	if tx.Size() > info.Size() {
		return fmt.Errorf("%d bytes of %d: %w", info.Size(), tx.Size(), ErrDamaged)
	}
	_, err = identify(tx)
	return err
}

func openBolt(path string, readOnly bool) (*bbolt.DB, error) {
	var opened *os.File
	options := &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		ReadOnly:     readOnly,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			file, err := os.OpenFile(name, flag, perm)
			if opened == nil { // bbolt opens it again for each copy
				opened = file
			}
			return file, err
		},
	}
	if !readOnly {
		options.InitialMmapSize = mmapBytes
	}
	bolt, err := bbolt.Open(path, fileMode, options)
	var errno syscall.Errno
	switch {
	case err == nil && !named(path, opened):
		return nil, errors.Join(ErrLocked, bolt.Close())
	case err == nil:
		return bolt, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, ErrLocked
	case errors.As(err, &errno):
		return nil, errno // without the path, which Open names
	default:
		return nil, fmt.Errorf("%w: %w", err, ErrForeign)
	}
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
	if name, _ := tx.Cursor().First(); name == nil {
		return true, nil
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil || string(meta.Get(magicKey)) != magic {
		return false, ErrForeign
	}
	made, err := strconv.Atoi(string(meta.Get(formatKey)))
	switch {
	case err != nil || made < 1 || tx.Bucket(dataBucket) == nil:
		return false, ErrDamaged
	case made > format:
		return false, fmt.Errorf("format %d, this program knows %d: %w", made, format, ErrNewer)
	}
	return false, nil
}

// Snapshot implements [kv.Snapshotter]. The copy is a database file for [Open]. Until it is written out it takes its size
// again on the database's own disk, where no name leads to it.
func (d *DB) Snapshot(ctx context.Context, w io.Writer) (n int64, err error) {
	spool, err := os.CreateTemp(filepath.Dir(d.path), ".snapshot-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	// Removed while in use: no crash can leave a copy behind.
	if err := os.Remove(spool.Name()); err != nil {
		return 0, err
	}
	if err := d.copyTo(writer{ctx, spool}); err != nil {
		return 0, cmp.Or(ctx.Err(), err) // bbolt wraps some errors of its writer beyond recognition
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(writer{ctx, w}, spool)
}

func (d *DB) copyTo(w io.Writer) error {
	tx, err := d.begin(false)
	if err != nil {
		return err
	}
	defer rollback(tx)
	_, err = tx.WriteTo(w)
	return err
}

// writer stops when its context ends.
type writer struct {
	ctx context.Context
	w   io.Writer
}

func (w writer) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// Compact writes the database to a new file at path, without free pages and what they still hold of deleted values. The
// copy holds every Update acknowledged before. A file that exists is not touched: the error wraps [fs.ErrExist].
func (d *DB) Compact(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	dst, err := openBolt(path, false)
	if err != nil {
		return fmt.Errorf("database file %q: %w", path, err)
	}
	err = translate(bbolt.Compact(dst, d.bolt, compactBytes))
	if err := errors.Join(err, dst.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return durable.SyncFolder(path)
}
