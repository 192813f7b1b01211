package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/scenarioblocks/zendeskblocks/store/backupfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Why there is no backup.
var (
	ErrBackupRunning     = errors.New("another backup is being made")
	ErrBackupUnsupported = errors.New("the database is backed up by its own means")
)

// errIsBackup is for a backup where a data file belongs: what would be written to it would make it none, and what a restored
// copy needs would not have been done.
var errIsBackup = errors.New("it is a backup: restore it to a data file first (zendeskblocks restore)")

// Backup writes a copy of all data to w, as a file that [Restore] takes. It holds everything acknowledged before, is of one
// moment, sealed as the data are, and has no key in it. Others write meanwhile; a slow w costs them nothing but room on the
// disk, where the copy is made first. One is made at a time. The version is of the program that makes it. Errors:
// [ErrBackupRunning], [ErrBackupUnsupported], [ErrUnavailable] when the disk has no room for the copy, and those of w.
func (s *Store) Backup(ctx context.Context, version string, w io.Writer) (backupfile.Info, error) {
	engine, ok := s.engine.(kv.Snapshotter)
	if !ok {
		return backupfile.Info{}, ErrBackupUnsupported
	}
	if !s.backingUp.TryLock() {
		return backupfile.Info{}, ErrBackupRunning
	}
	defer s.backingUp.Unlock()
	info := backupfile.Info{CreateTime: s.time(), Version: version, Instance: instanceDigest(s.instance)}
	data, err := engine.Snapshot(ctx, func(r kv.Reader) error {
		p, err := readProgress(r)
		if err != nil {
			return err
		}
		use, _, err := readKeyUse(r, s.vault.keys.Load())
		info.DataFormat, info.KeyIDs = p.format, use.IDs
		return err
	})
	if err != nil {
		return backupfile.Info{}, err
	}
	info, err = backupfile.Write(w, data, info)
	return info, errors.Join(err, data.Close())
}

// instanceDigest tells data files apart. The id itself keeps marks in Zendesk from being reckoned from ids of interactions.
func instanceDigest(instance string) string {
	sum := sha256.Sum256([]byte("zendeskblocks instance " + instance))
	return hex.EncodeToString(sum[:8])
}

// refuseBackup refuses a backup where a data file belongs.
func refuseBackup(path string) error {
	file, err := openFile(path)
	if err != nil {
		return nil //nolint:nilerr // who opens it to use it says so
	}
	_, err = readBackup(file)
	if errors.Is(err, backupfile.ErrNoBackup) {
		err = nil
	} else {
		err = errIsBackup
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("data file %q: %w", path, err)
	}
	return nil
}

// openFile opens a file for reading, and waits for nobody, as who opens a pipe would. Whether it is a file readBackup says.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func readBackup(file *os.File) (backupfile.Info, error) {
	info, err := file.Stat()
	if err != nil {
		return backupfile.Info{}, err
	}
	if !info.Mode().IsRegular() {
		return backupfile.Info{}, fmt.Errorf("it is not a regular file: %w", backupfile.ErrNoBackup)
	}
	return backupfile.Read(file, info.Size())
}

// Note stores lines for the audit of what changes nothing in the store.
func (s *Store) Note(ctx context.Context, notes ...Note) error {
	noted := s.noted(notes)
	return s.commit(ctx, func(tx kv.Txn) error {
		return noted(&writing{reading: reading{vault: s.vault, kv: tx}, txn: &meter{Txn: tx}})
	})
}
