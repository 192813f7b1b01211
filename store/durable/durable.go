// Package durable replaces files so that a crash at any moment leaves the old one or the new one, whole.
//
// It hides links, modes, owners, locks, and what has to reach the disk in which order. Errors are the file system's, and
// those of the functions passed in.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrBusy says that another process has locked a file.
var ErrBusy = errors.New("another process is changing it")

// Change opens the file at path by flags, in which O_CREATE makes it with mode 0600, and runs fn while no other process
// changes it by Change. It waits for one that does, or, unless wait is set, returns ErrBusy. When fn has replaced the file,
// who waited has the new one. On systems without flock it does not keep others off.
func Change(path string, flags int, wait bool, fn func(*os.File) error) (err error) {
	for {
		opened, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return err
		}
		current, err := lock(opened, path, wait)
		if err == nil && current {
			err = fn(opened)
		}
		// Closing unlocks.
		if err = errors.Join(err, opened.Close()); err != nil || current {
			return err
		}
	}
}

// lock locks a file. current tells that it is still the one at the path, and was not replaced meanwhile.
func lock(opened *os.File, path string, wait bool) (current bool, err error) {
	if err := lockFile(opened, wait); err != nil {
		return false, err
	}
	locked, err := opened.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(locked, there), err
}

// newSuffix ends the name of what Rewrite makes beside a file.
const newSuffix = ".new"

// Rewrite replaces what is in a file, within Change, as Replace does.
func Rewrite(path string, content []byte) error {
	return Replace(path, newSuffix, func(next string) error {
		if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was cut off: the lock is ours
			return err
		}
		file, err := os.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = file.Write(content)
		if err = errors.Join(err, file.Close()); err != nil {
			return errors.Join(err, os.Remove(next))
		}
		return nil
	})
}

// Sweep takes away what a Rewrite has left that was cut off. It leaves alone what a process is changing.
func Sweep(path string) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(target + newSuffix); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err = Change(path, os.O_RDONLY, false, func(*os.File) error { return os.Remove(target + newSuffix) })
	if errors.Is(err, ErrBusy) {
		return nil
	}
	return err
}

// Replace replaces a file by another one, which write makes beside it under the path that it is given: the file's with a
// suffix. What write returns no error for is there then, durably, with the old file's mode, owner and group. A link to the
// file stays one. When write fails, what it made is write's to remove: the path may be another process's.
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

// Create makes a file that is not there, as Replace replaces one. When it is there by then, the error wraps [fs.ErrExist].
func Create(path, suffix string, write func(path string) error) error {
	next := path + suffix
	if err := write(next); err != nil {
		return err
	}
	file, err := os.Open(next)
	if err == nil {
		err = errors.Join(file.Sync(), file.Close())
	}
	if err == nil {
		err = os.Link(next, path)
	}
	if err = errors.Join(err, os.Remove(next)); err != nil {
		return err
	}
	return SyncFolder(path)
}

// makeLike gives a file the mode and the owner of another, and its contents to the disk.
func makeLike(path string, info fs.FileInfo) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	// The owner first: the mode may let the group read.
	return errors.Join(keepOwner(file, info), file.Chmod(info.Mode().Perm()), file.Sync(), file.Close())
}

// SyncFolder makes the name of a file as durable as its contents.
func SyncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
