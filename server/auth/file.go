package auth

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	strictjson "github.com/go-jose/go-jose/v4/json"

	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

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

// named makes the sentence of a fault whole.
func (f file) named(err error) error { return fmt.Errorf("%s %q %w", f.what, f.path, err) }

// read returns what is in the file, also beside the fault that it is exposed.
func (f file) read() ([]byte, error) { return f.readBy(trustedfile.Rule{Secret: f.secret}) }

// readAsOwner reads the file for a command, which root may give for a service.
func (f file) readAsOwner() ([]byte, error) {
	return f.readBy(trustedfile.Rule{Secret: f.secret, AnyOwner: os.Geteuid() == 0})
}

func (f file) readBy(rule trustedfile.Rule) ([]byte, error) {
	content, err := trustedfile.Read(f.path, rule)
	switch {
	case errors.Is(err, trustedfile.ErrMissing):
		return nil, f.named(faultf(missing, "%v", err))
	case errors.Is(err, trustedfile.ErrExposed):
		return content, f.named(faultf(exposed, "%v", err))
	case err != nil:
		return nil, f.named(faultf(unreadable, "%v", err))
	case len(bytes.TrimSpace(content)) == 0:
		return content, f.named(faultf(empty, "is empty"))
	}
	return content, nil
}

// parseLines reads a file of one JSON object a line. Empty lines and lines that begin with # are skipped. Objects, and
// not words between blanks, because half an object is never mistaken for a whole one that says less. A file of comments
// only is fit, and lets nobody in: so the last credential is revoked.
//
// Each is called with every line that can be read. The error is that of the first line that is unfit, or of the last one, if
// that is cut short.
func parseLines[T any](content []byte, each func(*T) error) (unfit error) {
	lines := bytes.Split(content, []byte("\n"))
	for i, line := range lines {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		value := new(T)
		err := decodeLine(line, value)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			if i == len(lines)-1 {
				return faultf(truncated, "is truncated in line %d", i+1)
			}
			err = errors.New("the JSON object has no end")
		}
		if err == nil {
			err = each(value)
		}
		if err != nil && unfit == nil {
			unfit = faultf(invalid, "has an unfit line %d: %v", i+1, err)
		}
	}
	return unfit
}

// decodeLine reads a line. Its error is of the decoder when the line is cut short, and else quotes no value.
func decodeLine(line []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		if _, ok := errors.AsType[*time.ParseError](err); ok {
			return errors.New(`a time must be as in "2027-01-31T00:00:00Z"`)
		}
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%q is not of type %s", wrong.Field, wrong.Type)
		}
		return err
	}
	if decoder.InputOffset() != int64(len(line)) {
		return errors.New("there is more than one JSON object")
	}
	// The decoder takes "Roles" for "roles", and the last of two; a reader, or another program, may not.
	members, err := uniqueMembers(line)
	if err != nil {
		return err
	}
	for name := range members {
		if name != strings.ToLower(name) {
			return fmt.Errorf("%q must be in lower case", name)
		}
	}
	return nil
}

// uniqueMembers returns the members of a JSON object in which, as in each one inside it, no name is twice.
func uniqueMembers(text []byte) (members map[string]any, err error) {
	if err := strictjson.Unmarshal(text, &members); err != nil {
		return nil, errors.New("a name is in it twice, or it is no JSON object") // the cause may quote a value
	}
	return members, nil
}

// pemBlocks returns the PEM blocks (RFC 7468) of content, which are all of one of the given types. With an error it returns
// those that are.
func pemBlocks(content []byte, types ...string) ([]*pem.Block, error) {
	begun := bytes.Count(content, []byte("-----BEGIN "))
	if begun == 0 {
		return nil, faultf(invalid, "is not in PEM")
	}
	var blocks []*pem.Block
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	whole := len(blocks)
	var odd *pem.Block
	blocks = slices.DeleteFunc(blocks, func(b *pem.Block) bool {
		ours := slices.Contains(types, b.Type)
		if !ours {
			odd = b
		}
		return !ours
	})
	switch last := content[bytes.LastIndex(content, []byte("-----BEGIN ")):]; {
	case whole != begun && !endOfPEM.Match(last):
		return blocks, faultf(truncated, "is truncated: %d of its %d PEM blocks are whole", whole, begun)
	case whole != begun:
		return blocks, faultf(invalid, "is damaged: %d of its %d PEM blocks are whole", whole, begun)
	case odd != nil:
		return blocks, faultf(invalid, "holds a PEM block of type %q where %q belongs", odd.Type, types)
	}
	return blocks, nil
}

var endOfPEM = regexp.MustCompile(`-----END [^-]*-----`)
