package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

const maxFileBytes = 4 << 20

// faultKind is a way for a file to be unfit.
type faultKind int

const (
	missing    faultKind = iota
	unreadable           // permissions, a folder, a device, too large
	exposed              // more people than should may read or write it
	empty
	truncated
	invalid  // not what belongs there
	outdated // expired, or not valid yet
)

// fault is why a file is unfit: the second half of a sentence whose first half names the file.
type fault struct {
	kind faultKind
	text string
}

func (f *fault) Error() string { return f.text }

func faultf(kind faultKind, format string, args ...any) *fault {
	return &fault{kind: kind, text: fmt.Sprintf(format, args...)}
}

// file is a file that the operator keeps.
type file struct {
	what   string // for messages: the flag that names it
	path   string
	secret bool // only its owner and group may read it
}

// read returns what is in the file. Symbolic links are followed: Kubernetes mounts secrets as such.
func (f file) read() (content []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s %q %w", f.what, f.path, err)
		}
	}()
	// Asked before it is opened: opening a pipe waits for its writer.
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, openFault(err)
	}
	if !info.Mode().IsRegular() {
		return nil, faultf(unreadable, "is not a regular file")
	}
	opened, err := os.Open(f.path)
	if err != nil {
		return nil, openFault(err)
	}
	defer func() {
		err = errors.Join(err, opened.Close())
	}()
	if info, err = opened.Stat(); err != nil {
		return nil, openFault(err)
	}
	if err := f.checkMode(info.Mode().Perm()); err != nil {
		return nil, err
	}
	content, err = io.ReadAll(io.LimitReader(opened, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, openFault(err)
	case len(content) > maxFileBytes:
		return nil, faultf(unreadable, "is larger than %d bytes", maxFileBytes)
	case len(bytes.TrimSpace(content)) == 0:
		return nil, faultf(empty, "is empty")
	}
	return content, nil
}

// openFault words an error of the file system without the path, which the sentence names already.
func openFault(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return faultf(missing, "does not exist")
	}
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		err = wrapped.Err
	}
	return faultf(unreadable, "cannot be read: %v", err)
}

// checkMode lets the group read, because that is how Kubernetes hands secrets to a process that is not root.
func (f file) checkMode(mode fs.FileMode) error {
	switch {
	case runtime.GOOS == "windows": // its modes say nothing
	case f.secret && mode&0o027 != 0:
		return faultf(exposed, "has mode %04o, which lets others than its owner read or write it; make it 0600 (or 0640)", mode)
	case mode&0o002 != 0:
		return faultf(exposed, "has mode %04o, which lets everyone write it; make it 0644", mode)
	}
	return nil
}

// source is a set of files that together hold one T, re-read when they change. A broken new version leaves the one
// that was good in use.
type source[T any] struct {
	files   []file
	parse   func(contents [][]byte) (T, error)
	inUse   atomic.Pointer[T]
	sum     [sha256.Size]byte // of the contents in use
	problem string            // what was last logged
}

// load reads the files. When it fails, what was in use stays so.
//
// Contents are compared, not times or sizes: those miss a file replaced within one tick of the clock, and a symbolic
// link moved to a file that is older.
func (s *source[T]) load() (changed bool, err error) {
	hash := sha256.New()
	contents := make([][]byte, len(s.files))
	for i, f := range s.files {
		if contents[i], err = f.read(); err != nil {
			return false, err
		}
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(contents[i])))
		_, _ = hash.Write(size[:]) // a hash never fails
		_, _ = hash.Write(contents[i])
	}
	sum := [sha256.Size]byte(hash.Sum(nil))
	if s.inUse.Load() != nil && sum == s.sum {
		return false, nil
	}
	value, err := s.parse(contents)
	if err != nil {
		return false, fmt.Errorf("%s %q %w", s.files[0].what, s.files[0].path, err)
	}
	s.inUse.Store(&value)
	s.sum = sum
	return true, nil
}

// refresh loads the files and tells the log what is new, once.
func (s *source[T]) refresh(log *slog.Logger) {
	changed, err := s.load()
	switch {
	case err != nil && err.Error() != s.problem:
		s.problem = err.Error()
		log.Error("new version of a file is unfit; the previous one stays in use", "file", s.files[0].path, "error", err)
	case err == nil && (changed || s.problem != ""):
		s.problem = ""
		log.Info("file is in use", "file", s.files[0].path, "changed", changed)
	}
}

// get returns what is in use. It is fit for use from the moment that load has once succeeded.
func (s *source[T]) get() T { return *s.inUse.Load() }

// parseLines reads a file of one JSON object a line. Empty lines and lines that begin with # are skipped. Objects, and
// not words between blanks, because half an object is never mistaken for a whole one that says less. A file of comments
// only is fit, and lets nobody in: so the last credential is revoked.
func parseLines[T any](content []byte, each func(*T) error) error {
	for i, line := range bytes.Split(content, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields()
		value := new(T)
		if err := decoder.Decode(value); err != nil {
			return lineFault(i+1, err)
		}
		if decoder.InputOffset() != int64(len(line)) {
			return faultf(invalid, "has more than one JSON object in line %d", i+1)
		}
		if err := each(value); err != nil {
			return faultf(invalid, "has an unfit line %d: %v", i+1, err)
		}
	}
	return nil
}

// lineFault words an error of the JSON decoder without the values that it may quote.
func lineFault(line int, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return faultf(truncated, "is truncated in line %d", line)
	}
	if _, ok := errors.AsType[*time.ParseError](err); ok {
		return faultf(invalid, `has an unfit line %d: a time must be as in "2027-01-31T00:00:00Z"`, line)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return faultf(invalid, "has an unfit line %d: %q is not of type %s", line, wrong.Field, wrong.Type)
	}
	return faultf(invalid, "has an unfit line %d: %v", line, err)
}

// pemBlocks returns the PEM blocks (RFC 7468) of content, which are all of one of the given types.
func pemBlocks(content []byte, types ...string) ([]*pem.Block, error) {
	begun := bytes.Count(content, []byte("-----BEGIN "))
	if begun == 0 {
		return nil, faultf(invalid, "is not in PEM")
	}
	var blocks []*pem.Block
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	if len(blocks) != begun {
		return nil, faultf(truncated, "is truncated or damaged: %d of its %d PEM blocks are whole", len(blocks), begun)
	}
	for _, block := range blocks {
		if !slices.Contains(types, block.Type) {
			return nil, faultf(invalid, "holds a PEM block of type %q where %q belongs", block.Type, types)
		}
	}
	return blocks, nil
}
