package boltkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/scenarioblocks/zendeskblocks/store/durable"
)

// Compact replaces a database file that no process has open by one without its free pages, and so without what they still
// hold of values that were deleted or overwritten. Until it is done the disk holds both. It reports the sizes in bytes.
func Compact(path string) (before, after int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, fmt.Errorf("data file: %w", err)
	}
	db, err := Open(path)
	if err != nil {
		return 0, 0, err
	}
	if err := errors.Join(db.CompactInPlace(), db.Close()); err != nil {
		return 0, 0, err
	}
	compacted, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	return info.Size(), compacted.Size(), nil
}

// CompactInPlace replaces the file under an open database by what [DB.Compact] makes of it. The database is of no use then,
// but to be closed: it still has the old file.
func (d *DB) CompactInPlace() error {
	err := durable.Replace(d.path, ".compact", func(next string) error {
		// One that was cut off: the lock is ours.
		if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return d.Compact(next)
	})
	if err != nil {
		return fmt.Errorf("compacting database file %q: %w", d.path, err)
	}
	return nil
}
