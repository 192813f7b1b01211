package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/scenarioblocks/zendeskblocks/store/durable"
)

// FileConfig says how a file is kept.
type FileConfig struct {
	Path string
	// MaxBytes is how large the file gets until it is moved aside, to its name with .000001, .000002 and so on after it, and
	// another one is begun. 0: never.
	MaxBytes int64
	Keep     int          // how many that were moved aside are kept, the newest; at least 1 with MaxBytes
	Log      *slog.Logger // told when the file cannot be moved aside; default: nobody
}

// File is a file that a stream is kept in, one JSON object a line, which is only ever added to. Its mode is 0600, and it has no
// other name: a link in its place, or another name for it, is refused, and so is what is no regular file.
type File struct {
	FileConfig
	mu     sync.Mutex
	file   *os.File
	torn   bool // the file may end in the middle of a line
	failed bool // it could not be moved aside
}

// OpenFile opens the file, and makes it if it is not there. One that others than its owner could read or write gets the mode
// 0600: what was readable was, but what comes now is not.
func OpenFile(c FileConfig) (*File, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	f := &File{FileConfig: c}
	if err := f.Reopen(); err != nil {
		return nil, err
	}
	if f.MaxBytes > 0 {
		f.report(f.prune()) // fewer may be kept than before
	}
	return f, nil
}

// Reopen opens the file of the name anew: where the old one has been moved away, there is a new one. After an error the one
// that was open stays.
func (f *File) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reopen()
}

func (f *File) reopen() error {
	file, torn, err := openPrivate(f.Path)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	old := f.file
	f.file, f.torn = file, torn
	if old != nil {
		return old.Close()
	}
	return nil
}

// openPrivate opens a regular file with one name, and makes it if it is not there. Torn tells that its last line has no end: a
// crash or a full disk has cut it.
func openPrivate(path string) (file *os.File, torn bool, err error) {
	// Neither a link is followed nor a pipe waited for.
	file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, false, errors.New("it is a link, which the audit must not be")
	case err != nil:
		return nil, false, bare(err)
	}
	opened := file
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, false, bare(err)
	}
	if !info.Mode().IsRegular() {
		return nil, false, errors.New("it is no regular file")
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink != 1 {
		return nil, false, fmt.Errorf("it has %d names, by each of which it could be changed, and must have one", stat.Nlink)
	}
	if info.Mode().Perm() != 0o600 {
		if err := file.Chmod(0o600); err != nil {
			return nil, false, fmt.Errorf("it has mode %04o, which cannot be made 0600: %w", info.Mode().Perm(), bare(err))
		}
	}
	torn, err = endsTorn(file, info.Size())
	return file, torn, err
}

// bare is an error of the file system without the path, which the sentence has already.
func bare(err error) error {
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		return wrapped.Err
	}
	return err
}

func endsTorn(file *os.File, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, size-1); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return last[0] != '\n', nil
}

// Append adds lines, and syncs the file. One that has grown too large is moved aside before.
func (f *File) Append(lines []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.MaxBytes > 0 {
		f.report(f.rotate(int64(len(lines))))
	}
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
	return f.file.Sync()
}

// report tells the log when the file cannot be moved aside, or an old one taken away, and when it can again: until then the
// stream goes on where it is.
func (f *File) report(err error) {
	switch {
	case err != nil && !f.failed:
		f.Log.Error("the audit was not rotated; it goes on in the file that is open", "error", err)
	case err == nil && f.failed:
		f.Log.Info("the audit is rotated again")
	}
	f.failed = err != nil
}

// rotate moves the file aside when it has no room for more bytes. What was added last stays where Tail finds it.
func (f *File) rotate(more int64) error {
	info, err := f.file.Stat()
	if err != nil || info.Size() == 0 || info.Size()+more <= f.MaxBytes {
		return err
	}
	there, err := os.Lstat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, there):
		return f.reopen() // it has been moved away already
	case err != nil:
		return err
	}
	numbers, err := f.aside()
	if err != nil {
		return err
	}
	next := 1
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	// Not by a link, which replaces nothing: a crash before the old name is gone would leave a file with two, which is refused.
	if err := os.Rename(f.Path, f.nameOf(next)); err != nil {
		return err
	}
	if err := f.reopen(); err != nil {
		return errors.Join(err, os.Rename(f.nameOf(next), f.Path))
	}
	return errors.Join(durable.SyncFolder(f.Path), f.prune())
}

// prune takes away the oldest files that were moved aside, of more than are kept.
func (f *File) prune() error {
	numbers, err := f.aside()
	if err != nil {
		return err
	}
	for _, n := range numbers[:max(0, len(numbers)-max(1, f.Keep))] {
		err = errors.Join(err, os.Remove(f.nameOf(n)))
	}
	return err
}

// numberDigits is how many digits the number of a file has at least, so that names sort, and that none of those which other
// programs give when they rotate, such as .1, is taken for one.
const numberDigits = 6

func (f *File) nameOf(number int) string { return fmt.Sprintf("%s.%0*d", f.Path, numberDigits, number) }

// aside are the numbers of the files that were moved aside, the oldest first.
func (f *File) aside() (numbers []int, err error) {
	entries, err := os.ReadDir(filepath.Dir(f.Path))
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		digits, ok := strings.CutPrefix(entry.Name(), filepath.Base(f.Path)+".")
		number, err := strconv.Atoi(digits)
		if ok && err == nil && number > 0 && entry.Type().IsRegular() && f.nameOf(number) == f.Path+"."+digits {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// tailBytes is more than lines that are added together have.
const tailBytes = 8 << 20

// Tail implements [Sink]. What was added before Reopen is not in it, but what was before the file was moved aside is: the
// writing of lines may have been cut off amid that.
func (f *File) Tail() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := tailOf(f.file)
	if err != nil || len(text) == tailBytes {
		return text, err
	}
	numbers, err := f.aside()
	if err != nil || len(numbers) == 0 {
		return text, err
	}
	before, err := os.OpenFile(f.nameOf(numbers[len(numbers)-1]), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	first, err := tailOf(before)
	if err = errors.Join(err, before.Close()); err != nil {
		return nil, err
	}
	if len(first) > 0 && first[len(first)-1] != '\n' {
		first = append(first, '\n')
	}
	return append(first, text...), nil
}

func tailOf(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	start := max(0, info.Size()-tailBytes)
	return io.ReadAll(io.NewSectionReader(file, start, info.Size()-start))
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}
