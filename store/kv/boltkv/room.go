package boltkv

import (
	"path/filepath"
	"syscall"
)

// diskRoom returns how many bytes the disk of a file has left for this user.
func diskRoom(path string) (int64, error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &disk); err != nil {
		return 0, err
	}
	return int64(disk.Bavail) * int64(disk.Bsize), nil //nolint:unconvert // their types differ from system to system
}
