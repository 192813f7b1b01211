package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const headLines = `# Bearer tokens: one JSON object a line, with the SHA-256 of each token and never the token itself.
# Take a line away to revoke its token; the server reads this file again when it changes.
`

func tokenFile(path string) file { return file{what: "--token-file", path: path, secret: true} }

// AppendToken adds a line of NewToken to the token file at path. When it returns nil the line is durable. A file that
// is not there is made, with mode 0600; one that a server would refuse is left alone, and so is one in which a live token
// of the same tenant has the same name, and one to which not all of the line could be written.
func AppendToken(path string, line []byte) error {
	f := tokenFile(path)
	if _, err := f.read(); err != nil && !isNew(err) {
		return err // before it is opened, which makes it or waits for a pipe
	}
	return f.change(os.O_CREATE|os.O_WRONLY|os.O_APPEND, func(opened *os.File) error {
		content, err := f.read()
		if err != nil && !isNew(err) {
			return err
		}
		if content, err = extended(content, line, time.Now()); err != nil {
			return fmt.Errorf("%s %q %w", f.what, path, err)
		}
		if err := appendWhole(opened, content); err != nil {
			return fmt.Errorf("%s %q could not be added to: %w", f.what, path, err)
		}
		return syncFolder(filepath.Dir(path))
	})
}

// isNew tells a token file that is still to be written from an unfit one.
func isNew(err error) bool {
	unfit, ok := errors.AsType[*fault](err)
	return ok && (unfit.kind == missing || unfit.kind == empty)
}

// extended returns what to append to a token file for a new line.
func extended(content, line []byte, now time.Time) ([]byte, error) {
	there, err := parseTokens([][]byte{content})
	if err != nil {
		return nil, err
	}
	added, err := parseTokens([][]byte{line})
	if err != nil {
		return nil, err
	}
	for _, a := range added {
		for _, t := range there {
			if t.Tenant == a.Tenant && t.Name == a.Name && now.Before(t.Expires) {
				return nil, faultf(invalid, "has a live token named %q of tenant %q, good until %s: revoke it first, or choose another name",
					t.Name, t.Tenant, t.Expires.UTC().Format(time.RFC3339))
			}
		}
	}
	switch {
	case len(bytes.TrimSpace(content)) == 0:
		return append([]byte(headLines), line...), nil
	case !bytes.HasSuffix(content, []byte("\n")):
		return append([]byte("\n"), line...), nil
	}
	return line, nil
}

// appendWhole appends content, or nothing.
func appendWhole(opened *os.File, content []byte) error {
	end, err := opened.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	// One write: a server that reads meanwhile sees the line or does not.
	if _, err := opened.Write(content); err != nil {
		return errors.Join(err, opened.Truncate(end))
	}
	return opened.Sync()
}

// ListTokens returns whom the tokens of a file belong to, in the order of their lines. With an error that some line is
// unfit, it returns those of the other lines.
func ListTokens(path string) ([]Caller, error) {
	f := tokenFile(path)
	content, err := f.read()
	if err != nil {
		return nil, err
	}
	var callers []Caller
	for line := range bytes.Lines(content) {
		found, err := parseTokens([][]byte{line})
		if err != nil {
			continue // told below, with its number
		}
		for _, c := range found {
			callers = append(callers, c)
		}
	}
	if _, err := parseTokens([][]byte{content}); err != nil {
		return callers, fmt.Errorf("%s %q %w", f.what, path, err)
	}
	return callers, nil
}

// RevokeTokens takes the tokens of a name in a tenant out of a token file, which it replaces as a whole, with its mode and
// owner kept; all other lines stay as they are, comments and unfit ones too. It returns whose they were. With an error
// beside them, the tokens are gone from the file, but a server does not read it: another line is unfit.
func RevokeTokens(path, tenant, name string) (revoked []Caller, err error) {
	f := tokenFile(path)
	if _, err := f.read(); err != nil {
		return nil, err
	}
	err = f.change(os.O_RDONLY, func(*os.File) error {
		content, err := f.read()
		if err != nil {
			return err
		}
		rest, found := withoutTokens(content, tenant, name)
		_, unfit := parseTokens([][]byte{rest})
		if unfit != nil {
			unfit = fmt.Errorf("%s %q %w", f.what, path, unfit)
		}
		if len(found) == 0 {
			return errors.Join(fmt.Errorf("%s %q has no token named %q of tenant %q", f.what, path, name, tenant), unfit)
		}
		if err := replaceFile(path, rest); err != nil {
			return fmt.Errorf("%s %q could not be replaced: %w", f.what, path, err)
		}
		revoked = found
		return unfit
	})
	return revoked, err
}

// withoutTokens returns a token file without the tokens of a name in a tenant, and whose they were. A line need not be fit
// to be taken out, as long as it says whose it is.
func withoutTokens(content []byte, tenant, name string) (rest []byte, removed []Caller) {
	for line := range bytes.Lines(content) {
		var whose struct{ Tenant, Name string } // no more: what else is wrong with the line is of no account here
		if err := json.Unmarshal(line, &whose); err != nil || whose.Tenant != tenant || whose.Name != name {
			rest = append(rest, line...)
			continue
		}
		caller := Caller{Tenant: tenant, Name: name}
		if found, err := parseTokens([][]byte{line}); err == nil {
			for _, c := range found { // the only one
				caller = c
			}
		}
		removed = append(removed, caller)
	}
	if len(bytes.TrimSpace(rest)) == 0 {
		rest = []byte(headLines) // an empty file is unfit: the tokens would stay in use
	}
	return rest, removed
}

// change opens the file by flags and runs fn while nobody else changes it.
func (f file) change(flags int, fn func(*os.File) error) (err error) {
	for {
		opened, err := os.OpenFile(f.path, flags, 0o600)
		if err != nil {
			return fmt.Errorf("%s %q %w", f.what, f.path, openFault(err))
		}
		current, err := lock(opened, f.path)
		if err == nil && current {
			err = fn(opened)
		}
		// Closing unlocks.
		if err = errors.Join(err, opened.Close()); err != nil || current {
			return err
		}
	}
}

// lock waits until no other process has the file locked. current tells that the file is still the one at the path, and was
// not replaced meanwhile.
func lock(opened *os.File, path string) (current bool, err error) {
	if err := lockFile(opened); err != nil {
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

// replaceFile replaces what is in a file that is locked, and keeps its mode and owner. Symbolic links stay.
func replaceFile(path string, content []byte) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	next := target + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was cut off: the lock is ours
		return err
	}
	file, err := os.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = errors.Join(file.Chmod(info.Mode().Perm()), keepOwner(file, info), file.Sync())
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(next, target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return syncFolder(filepath.Dir(target))
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
