package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// File is a file that a stream is kept in, one JSON object a line, which is only ever added to.
type File struct {
	path string
	mu   sync.Mutex
	file *os.File
	torn bool // the file may end in the middle of a line
}

// OpenFile opens the file, and makes it if it is not there: its owner alone reads it.
func OpenFile(path string) (*File, error) {
	f := &File{path: path}
	if err := f.Reopen(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reopen opens the file of the name anew: where the old one has been moved away, there is a new one. After an error the one
// that was open stays.
func (f *File) Reopen() error {
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	torn, err := endsTorn(file)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", f.path, err), file.Close())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.file
	f.file, f.torn = file, torn
	if old != nil {
		return old.Close()
	}
	return nil
}

// endsTorn reports whether a file's last line has no end: a crash or a full disk has cut it.
func endsTorn(file *os.File) (bool, error) {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false, err
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, info.Size()-1); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return last[0] != '\n', nil
}

// Append adds lines, and syncs the file.
func (f *File) Append(lines []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.torn {
		lines = append([]byte{'\n'}, lines...)
	}
	n, err := f.file.Write(lines)
	if n > 0 {
		f.torn = err != nil
	}
	if err != nil {
		return err
	}
	// What is no file, such as a pipe, has nothing to sync.
	if err := f.file.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// tailBytes is more than lines that are added together have.
const tailBytes = 8 << 20

// Tail implements [Sink]. What was added before Reopen is not in it.
func (f *File) Tail() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := f.file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	start := max(0, info.Size()-tailBytes)
	return io.ReadAll(io.NewSectionReader(f.file, start, info.Size()-start))
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}
