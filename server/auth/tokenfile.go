package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/durable"
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
	return f.change(os.O_CREATE|os.O_WRONLY|os.O_APPEND, func(opened *os.File, content []byte) error {
		content, err := extended(content, line, time.Now())
		if err != nil {
			return f.named(err)
		}
		if err := appendWhole(opened, content); err != nil {
			return f.named(fmt.Errorf("could not be added to: %w", err))
		}
		return durable.SyncFolder(path)
	})
}

// change runs fn with what is in the file, while no other command changes it. One that is not there yet may be made.
func (f file) change(flags int, fn func(opened *os.File, content []byte) error) error {
	read := func() ([]byte, error) {
		content, err := f.readAsOwner()
		if flags&os.O_CREATE != 0 && isNew(err) {
			return nil, nil
		}
		return content, err
	}
	// Before it is opened too, which makes it or waits for a pipe.
	if _, err := read(); err != nil {
		return err
	}
	changed := false
	err := durable.Change(f.path, flags, true, func(opened *os.File) error {
		changed = true
		content, err := read()
		if err != nil {
			return err
		}
		return fn(opened, content)
	})
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok && !changed {
		return f.named(faultf(unreadable, "cannot be opened: %v", wrapped.Err))
	}
	return err
}

// isNew tells a token file that is still to be written from an unfit one.
func isNew(err error) bool {
	unfit, ok := errors.AsType[*fault](err)
	return ok && (unfit.kind == missing || unfit.kind == empty)
}

// extended returns what to append to a token file for a new line.
func extended(content, line []byte, now time.Time) ([]byte, error) {
	there, err := parseTokens(content)
	if err != nil {
		return nil, err
	}
	added, err := parseTokens(line)
	if err != nil {
		return nil, err
	}
	for _, a := range added {
		for _, t := range there {
			if t.Tenant == a.Tenant && t.Name == a.Name && now.Before(t.Expires) {
				return nil, faultf(invalid, "has a live token named %q of %s, good until %s: revoke it first, or choose another name",
					t.Name, ofTenant(t.Tenant), t.Expires.UTC().Format(time.RFC3339))
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

// ofTenant names a tenant, for messages.
func ofTenant(tenant string) string {
	if tenant == "" {
		return "no tenant"
	}
	return fmt.Sprintf("tenant %q", tenant)
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
	content, err := f.readAsOwner()
	if err != nil {
		return nil, err
	}
	var callers []Caller
	for line := range bytes.Lines(content) {
		found, err := parseTokens(line)
		if err != nil {
			continue // told below, with its number
		}
		for _, c := range found {
			callers = append(callers, c)
		}
	}
	if _, err := parseTokens(content); err != nil {
		return callers, f.named(err)
	}
	return callers, nil
}

// RevokeTokens takes the tokens of a name in a tenant, or of no tenant if that is empty, out of a token file, which it replaces as a whole, with its mode and
// owner kept; all other lines stay as they are, comments and unfit ones too. It returns whose they were. With an error
// beside them, the tokens are gone from the file, and a server refuses them, but it takes nothing new from the file: another
// line is unfit.
func RevokeTokens(path, tenant, name string) (revoked []Caller, err error) {
	f := tokenFile(path)
	err = f.change(os.O_RDONLY, func(_ *os.File, content []byte) error {
		rest, found := withoutTokens(content, tenant, name)
		_, unfit := parseTokens(rest)
		if unfit != nil {
			unfit = f.named(unfit)
		}
		if len(found) == 0 {
			return errors.Join(f.named(fmt.Errorf("has no token named %q of %s", name, ofTenant(tenant))), unfit)
		}
		if err := durable.Rewrite(path, rest); err != nil {
			return f.named(fmt.Errorf("could not be replaced: %w", err))
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
		if found, err := parseTokens(line); err == nil {
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
