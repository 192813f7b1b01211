// Package trustedfile reads the files that safety rests on: keys, tokens, certificates, and who may call.
//
// It hides which files are fit. One belongs to the user of the process or to root, nobody else can write it, and a secret
// one is read by its owner and group alone. Links are followed, because Kubernetes mounts secrets as such, certbot keeps
// certificates so, and both swap them at any time; a link must belong to whom the file may belong to. The folder that the
// file or a link to it stands in must not be writable by everyone, unless it is sticky, as /tmp is: others cannot put
// another file of the same owner in its place. That its group may write it is fit, since many systems make folders so.
//
// Nothing but a regular file is read, and nothing is waited for: a pipe, a socket, a device or a folder is refused at once.
//
// Errors are the second half of a sentence whose first half names the file. They wrap one of [ErrMissing], [ErrExposed] and
// [ErrUnreadable], and quote nothing of the content.
//
//	content, err := trustedfile.Read("tokens.jsonl", trustedfile.Rule{Secret: true})
package trustedfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Why a file is unfit.
var (
	ErrMissing    = errors.New("does not exist")
	ErrExposed    = errors.New("others than its owner can read or change it")
	ErrUnreadable = errors.New("cannot be read")
)

// MaxBytes is how large a file may be.
const MaxBytes = 4 << 20

// maxLinks is how many links lead to a file at most, as Linux has it.
const maxLinks = 40

// Rule says what is asked of a file beyond what is asked of all.
type Rule struct {
	Secret bool // only its owner and group may read it
	// AnyOwner lets the file belong to anyone. It is for commands that change a file for its owner, as root does for a
	// service: what such a user owns gets no say in what root does.
	AnyOwner bool
}

// fault is an error of a kind, which says more than the kind does.
type fault struct {
	kind error
	text string
}

func (f *fault) Error() string { return f.text }

func (f *fault) Unwrap() error { return f.kind }

func faultf(kind error, format string, args ...any) error {
	return &fault{kind: kind, text: fmt.Sprintf(format, args...)}
}

// Read returns what is in a file of at most [MaxBytes]. Beside ErrExposed the content comes too: nothing in it can be
// relied on, but that something is no longer in it can be heeded.
func Read(path string, rule Rule) ([]byte, error) {
	for tries := 0; ; tries++ {
		content, linked, err := read(path, rule)
		// A link that was swapped meanwhile leads to a folder that is gone.
		if !linked || !errors.Is(err, ErrMissing) || tries == 3 {
			return content, err
		}
	}
}

func read(path string, rule Rule) (content []byte, linked bool, err error) {
	target, exposed, err := resolve(path, rule)
	linked = target != path
	if err != nil {
		return nil, linked, err
	}
	opened, err := openRegular(target)
	if err != nil {
		return nil, linked, worded(err)
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	info, err := opened.Stat()
	if err != nil {
		return nil, linked, worded(err)
	}
	content, err = io.ReadAll(io.LimitReader(opened, MaxBytes+1))
	switch {
	case err != nil:
		return nil, linked, worded(err)
	case len(content) > MaxBytes:
		return nil, linked, faultf(ErrUnreadable, "is larger than %d bytes", MaxBytes)
	case exposed != nil:
		return content, linked, exposed
	}
	return content, linked, judge(info.Mode(), ownerOf(info), os.Geteuid(), rule)
}

// openRegular opens a file for reading that is regular, and no link.
func openRegular(path string) (*os.File, error) {
	// Asked before it is opened too: opening a device can have effects.
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if err := regular(info); err != nil {
		return nil, err
	}
	opened, err := os.OpenFile(path, os.O_RDONLY|withoutWaiting, 0)
	if err != nil {
		return nil, err
	}
	if info, err = opened.Stat(); err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

func regular(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return faultf(ErrUnreadable, "is %s and not a regular file", kindOf(info.Mode()))
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode&fs.ModeSymlink != 0:
		return "a link"
	}
	return "something else"
}

// worded says an error of the file system without the path, which the sentence names already.
func worded(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return faultf(ErrMissing, "does not exist")
	}
	if _, ok := errors.AsType[*fault](err); ok {
		return err
	}
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		err = wrapped.Err
	}
	return faultf(ErrUnreadable, "cannot be read: %v", err)
}

// resolve follows the links that a path names, in its folders too, and judges each of them, and the folder of the file that
// they lead to. Where they lead to a file all the same, exposed is what is wrong with them.
func resolve(path string, rule Rule) (target string, exposed, err error) {
	target, rest := startOf(path)
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		next := filepath.Join(target, part) // of "..": target has no links any more
		info, err := os.Lstat(next)
		if err != nil {
			return next, nil, worded(err)
		}
		link := info.Mode()&fs.ModeSymlink != 0
		if exposed == nil && (link || len(rest) == 0) {
			exposed, err = judgePlace(target, info, rule)
			if err != nil {
				return next, nil, worded(err)
			}
		}
		if !link {
			target = next
			continue
		}
		if links++; links > maxLinks {
			return next, nil, faultf(ErrUnreadable, "cannot be read: too many links lead to it")
		}
		to, err := os.Readlink(next)
		if err != nil {
			return next, nil, worded(err)
		}
		if filepath.IsAbs(to) {
			target, _ = startOf(to)
		}
		_, parts := startOf(to)
		rest = append(parts, rest...)
	}
	return target, exposed, nil
}

// startOf splits a path into the folder that it starts from, and the names from there on.
func startOf(path string) (folder string, names []string) {
	folder = filepath.VolumeName(path)
	names = strings.Split(filepath.ToSlash(path[len(folder):]), "/")
	if filepath.IsAbs(path) {
		return folder + string(filepath.Separator), names
	}
	return folder + ".", names
}

// judgePlace judges the folder in which a file or a link stands, and whose the link is.
func judgePlace(folder string, entry fs.FileInfo, rule Rule) (exposed, err error) {
	around, err := os.Stat(folder)
	if err != nil {
		return nil, err
	}
	if err := judgeFolder(around.Mode()); err != nil {
		return err, nil
	}
	if entry.Mode()&fs.ModeSymlink != 0 {
		return judgeOwner("is reached by a link that", ownerOf(entry), os.Geteuid(), rule), nil
	}
	return nil, nil
}

// nobody is the owner of a file on systems that have none.
const nobody = -1

// judge says what is wrong with the mode or the owner of a file.
func judge(mode fs.FileMode, owner, user int, rule Rule) error {
	mode = mode.Perm()
	switch {
	case runtime.GOOS == "windows": // its modes say nothing
	case rule.Secret && mode&0o027 != 0:
		return faultf(ErrExposed, "has mode %04o, which lets others than its owner read or write it; make it 0600 (or 0640)", mode)
	case mode&0o022 != 0:
		return faultf(ErrExposed, "has mode %04o, which lets others than its owner write it; make it 0644", mode)
	}
	return judgeOwner("", owner, user, rule)
}

func judgeOwner(what string, owner, user int, rule Rule) error {
	if owner == nobody || owner == 0 || owner == user || rule.AnyOwner {
		return nil
	}
	if user == 0 {
		return faultf(ErrExposed, "%s", strings.TrimSpace(fmt.Sprintf("%s belongs to user %d, and should to root, who runs this", what, owner)))
	}
	return faultf(ErrExposed, "%s", strings.TrimSpace(fmt.Sprintf("%s belongs to user %d, and should to user %d, who runs this, or to root", what, owner, user)))
}

// judgeFolder says what is wrong with the folder of a file.
func judgeFolder(mode fs.FileMode) error {
	if runtime.GOOS != "windows" && mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0 {
		return faultf(ErrExposed, "is in a folder of mode %04o, in which everyone can replace it; make that 0755", mode.Perm())
	}
	return nil
}
