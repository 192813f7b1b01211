package zendeskapi

import (
	"encoding/json"
	"errors"
)

// The grammar of JSON (RFC 8259), as package json reads it: values are found and checked in one pass, without copies. What is
// read may be 16 MiB of anything, and its first use is to throw most of it away.

var (
	errShort  = errors.New("more is needed")
	errSyntax = errors.New("this is no JSON")
)

// maxNesting is package json's: what passes here must be readable there.
const maxNesting = 10_000

// skipSpace returns where something begins that is no white space.
func skipSpace(data []byte, at int) int {
	for at < len(data) && (data[at] == ' ' || data[at] == '\n' || data[at] == '\r' || data[at] == '\t') {
		at++
	}
	return at
}

// skipValue returns the end of the value that begins at a place, behind white space. The data may go on behind their end,
// unless they are final. Errors: errShort, errSyntax.
func skipValue(data []byte, at int, final bool) (int, error) { return skipNested(data, at, final, 0) }

func skipNested(data []byte, at int, final bool, depth int) (end int, err error) {
	at = skipSpace(data, at)
	if at == len(data) {
		return at, short(final)
	}
	switch c := data[at]; {
	case c == '"':
		return skipString(data, at, final)
	case c == '-' || c >= '0' && c <= '9':
		return skipNumber(data, at, final)
	case c == 't':
		return skipWord(data, at, "true", final)
	case c == 'f':
		return skipWord(data, at, "false", final)
	case c == 'n':
		return skipWord(data, at, "null", final)
	case c != '{' && c != '[' || depth == maxNesting:
		return at, errSyntax
	}
	isObject, first := data[at] == '{', true
	closing := data[at] + 2 // of both pairs of ASCII
	for at++; ; first = false {
		if at = skipSpace(data, at); at == len(data) {
			return at, short(final)
		}
		if data[at] == closing {
			return at + 1, nil
		}
		if !first {
			if data[at] != ',' {
				return at, errSyntax
			}
			at = skipSpace(data, at+1)
		}
		if isObject {
			if at, err = skipName(data, at, final); err != nil {
				return at, err
			}
		} else if at < len(data) && data[at] == closing {
			return at, errSyntax // behind a comma
		}
		if at, err = skipNested(data, at, final, depth+1); err != nil {
			return at, err
		}
	}
}

// skipName returns what is behind the name of a member and its colon.
func skipName(data []byte, at int, final bool) (end int, err error) {
	if at == len(data) {
		return at, short(final)
	}
	if data[at] != '"' {
		return at, errSyntax
	}
	if at, err = skipString(data, at, final); err != nil {
		return at, err
	}
	if at = skipSpace(data, at); at == len(data) {
		return at, short(final)
	}
	if data[at] != ':' {
		return at, errSyntax
	}
	return at + 1, nil
}

func short(final bool) error {
	if final {
		return errSyntax
	}
	return errShort
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (table [256]bool) {
	for c := range table {
		table[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return table
}()

func skipString(data []byte, at int, final bool) (int, error) {
	for at++; at < len(data); at++ {
		switch c := data[at]; {
		case plain[c]:
		case c == '"':
			return at + 1, nil
		case c != '\\':
			return at, errSyntax
		default:
			if at++; at == len(data) {
				return at, short(final)
			}
			switch data[at] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if at++; at == len(data) {
						return at, short(final)
					}
					if c := data[at] | 0x20; (c < '0' || c > '9') && (c < 'a' || c > 'f') || data[at] < '0' {
						return at, errSyntax
					}
				}
			default:
				return at, errSyntax
			}
		}
	}
	return at, short(final)
}

func skipNumber(data []byte, at int, final bool) (int, error) {
	digits := func() bool {
		from := at
		for at < len(data) && data[at] >= '0' && data[at] <= '9' {
			at++
		}
		return at > from
	}
	// What breaks off at the end may go on.
	broken := func() (int, error) {
		if at == len(data) {
			return at, short(final)
		}
		return at, errSyntax
	}
	if data[at] == '-' {
		at++
	}
	if at < len(data) && data[at] == '0' {
		at++
	} else if !digits() {
		return broken()
	}
	if at < len(data) && data[at] == '.' {
		if at++; !digits() {
			return broken()
		}
	}
	if at < len(data) && data[at]|0x20 == 'e' {
		if at++; at < len(data) && (data[at] == '+' || data[at] == '-') {
			at++
		}
		if !digits() {
			return broken()
		}
	}
	if at == len(data) && !final {
		return at, errShort
	}
	return at, nil
}

func skipWord(data []byte, at int, word string, final bool) (int, error) {
	have := data[at:min(len(data), at+len(word))]
	switch {
	case string(have) == word:
		return at + len(word), nil
	case string(have) == word[:len(have)]:
		return at, short(final)
	}
	return at, errSyntax
}

// unquote returns the text of a string that skipString has accepted.
func unquote(quoted []byte) string {
	for _, c := range quoted[1 : len(quoted)-1] {
		if c == '\\' || c >= 0x80 {
			var text string
			_ = json.Unmarshal(quoted, &text) // cannot fail
			return text
		}
	}
	return string(quoted[1 : len(quoted)-1])
}
