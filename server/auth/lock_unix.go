//go:build unix && !aix && !solaris

package auth

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// lockFile waits until no other process has the file locked.
func lockFile(file *os.File) error {
	for {
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// keepOwner gives a file that is to replace another one the owner of that: who runs a command as root must not lock out
// the server.
func keepOwner(file *os.File, info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() && int(owner.Gid) == os.Getegid() {
		return nil
	}
	return file.Chown(int(owner.Uid), int(owner.Gid))
}
