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
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

const (
	// spoolStep is how much of a copy is written and given to the disk at a time. What a disk has been given it must write
	// before it comes to what a commit waits for.
	spoolStep = 4 << 20
	// spoolShare is the part of the time, one in so many, that the disk writes for a copy; else it is the commits'.
	spoolShare = 2
	// spoolReserve is the room that a copy leaves on the disk.
	spoolReserve = 128 << 20
)

// Snapshot implements [kv.Snapshotter]. The copy is a database file for [Open]. Until it is closed it takes its size on the
// database's own disk, where no name leads to it.
func (d *DB) Snapshot(ctx context.Context, look func(kv.Reader) error) (_ io.ReadCloser, err error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.Done()
	spool, err := os.CreateTemp(filepath.Dir(d.path), spoolPrefix(d.path)+"*") // mode 0600
	if err != nil {
		return nil, d.roomError(err)
	}
	// Removed while in use: a crash leaves no copy behind.
	if err = os.Remove(spool.Name()); err == nil {
		err = d.spool(ctx, look, spool)
	}
	if err == nil {
		_, err = spool.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	return spool, nil
}

// spoolPrefix begins the names that copies have for a moment.
func spoolPrefix(path string) string { return "." + filepath.Base(path) + ".snapshot-" }

// sweepSpools takes away what a crash in that moment has left. The lock of the file is the caller's.
func sweepSpools(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil //nolint:nilerr // a folder that may not be listed holds no database up
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), spoolPrefix(path)) {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// spool copies a state, and has look read it.
func (d *DB) spool(ctx context.Context, look func(kv.Reader) error, to *os.File) error {
	s, err := d.take()
	if err != nil {
		return err
	}
	err = d.copyState(ctx, s, look, to)
	d.release(s)
	if err != nil {
		return d.roomError(cmp.Or(ctx.Err(), err)) // bbolt wraps some errors of its writer beyond recognition
	}
	return d.durable(ctx, s.version)
}

func (d *DB) copyState(ctx context.Context, s *snapshot, look func(kv.Reader) error, to *os.File) error {
	if err := look(&reader{state{s, ctx}}); err != nil {
		return err
	}
	w := &spoolWriter{ctx: ctx, db: d, file: to, left: s.tx.Size()}
	if err := w.checkRoom(); err != nil {
		return err
	}
	if _, err := s.tx.WriteTo(w); err != nil {
		return cmp.Or(w.err, err)
	}
	return w.flush(0)
}

// roomError words what the file system says of a disk that is full.
func (d *DB) roomError(err error) error {
	if errors.Is(err, kv.ErrUnavailable) || !noSpace(err) {
		return err
	}
	return fmt.Errorf("a copy of database file %q: %w: %w", d.path, err, kv.ErrUnavailable)
}

// spoolWriter writes a copy, step by step, while there is room and its context lives.
type spoolWriter struct {
	ctx     context.Context
	db      *DB
	file    *os.File
	left    int64 // to be written
	pending int   // written since the disk was last given something
	err     error
}

// Write implements io.Writer.
func (w *spoolWriter) Write(p []byte) (n int, err error) {
	if w.err = w.ctx.Err(); w.err != nil {
		return 0, w.err
	}
	n, w.err = w.file.Write(p)
	w.left -= int64(n)
	if w.pending += n; w.err == nil && w.pending >= spoolStep {
		w.err = w.flush(spoolShare - 1)
	}
	return n, w.err
}

// flush gives the disk what was written, and rests for so many times as long as that took.
func (w *spoolWriter) flush(rests time.Duration) error {
	w.pending = 0
	began := time.Now()
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := w.checkRoom(); err != nil || rests == 0 {
		return err
	}
	rest := time.NewTimer(rests * time.Since(began))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-w.ctx.Done():
	}
	return w.ctx.Err()
}

// checkRoom sees to it that the rest of the copy leaves others their room.
func (w *spoolWriter) checkRoom() error {
	room, err := w.db.room(w.db.path)
	if err != nil {
		return err
	}
	if need := w.left + spoolReserve; room < need {
		return fmt.Errorf("a copy of database file %q needs %d bytes more beside it, and the disk has %d: %w", w.db.path, need, room, kv.ErrUnavailable)
	}
	return nil
}
