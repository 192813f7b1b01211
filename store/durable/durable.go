// Package durable replaces files so that a crash at any moment leaves the old one or the new one, whole.
//
// It hides links, modes, owners and what has to reach the disk in which order. Errors are the file system's, and those of
// the functions passed in.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace replaces a file by another one, which write makes beside it under the path that it is given: the file's with a
// suffix. What write returns no error for is there then, durably, with the old file's mode and, where that is permitted, its
// owner. A link to the file stays one. When write fails, what it made is write's to remove: the path may be another
// process's.
func Replace(path, suffix string, write func(path string) error) error {
	target, err := filepath.EvalSymlinks(path) // a link would else be replaced instead of the file
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	next := target + suffix
	if err := write(next); err != nil {
		return err
	}
	if err = makeLike(next, info); err == nil {
		err = os.Rename(next, target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return SyncFolder(target)
}

// makeLike gives a file the mode and the owner of another, and its contents to the disk.
func makeLike(path string, info fs.FileInfo) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(info.Mode().Perm()), keepOwner(file, info), file.Sync(), file.Close())
}

// SyncFolder makes the name of a file as durable as its contents.
func SyncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
