//go:build unix

package durable

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file that is to replace another one the owner and group of that: who runs a command as root must not lock
// out the server, which may read the file by its group.
func keepOwner(file *os.File, info fs.FileInfo) error {
	made, err := file.Stat()
	if err != nil {
		return err
	}
	old, ok := info.Sys().(*syscall.Stat_t)
	now, okToo := made.Sys().(*syscall.Stat_t)
	if !ok || !okToo || now.Uid == old.Uid && now.Gid == old.Gid {
		return nil
	}
	return file.Chown(int(old.Uid), int(old.Gid))
}
