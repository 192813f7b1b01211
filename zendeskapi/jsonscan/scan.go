// Package jsonscan finds and checks values of JSON (RFC 8259) in one pass, without copies, as package json reads them. It hides
// the grammar. What is read may be 16 MiB of anything, and its first use is to throw most of it away; it may also be a part
// of a text of which more is to come.
//
//	end, err := jsonscan.SkipValue(data, jsonscan.SkipSpace(data, 0), true)
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
)

// ErrShort says that data which are not final break off within what was to be skipped.
var ErrShort = errors.New("more is needed")

var errSyntax = errors.New("this is no JSON")

// maxNesting is package json's: what passes here must be readable there.
const maxNesting = 10_000

// SkipSpace returns where something begins that is no white space.
func SkipSpace(data []byte, at int) int {
	for at < len(data) && (data[at] == ' ' || data[at] == '\n' || data[at] == '\r' || data[at] == '\t') {
		at++
	}
	return at
}

// Valid tells whether data are one value, with white space around it or none.
func Valid(data []byte) bool {
	end, err := SkipValue(data, 0, true)
	return err == nil && SkipSpace(data, end) == len(data)
}

// SkipValue returns the end of the value that begins at a place, behind white space. The data may go on behind their end,
// unless they are final. Errors: ErrShort, or that it is no JSON.
func SkipValue(data []byte, at int, final bool) (int, error) { return skipNested(data, at, final, 0) }

func skipNested(data []byte, at int, final bool, depth int) (end int, err error) {
	at = SkipSpace(data, at)
	if at == len(data) {
		return at, short(final)
	}
	switch c := data[at]; {
	case c == '"':
		return SkipString(data, at, final)
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
		if at = SkipSpace(data, at); at == len(data) {
			return at, short(final)
		}
		if data[at] == closing {
			return at + 1, nil
		}
		if !first {
			if data[at] != ',' {
				return at, errSyntax
			}
			at = SkipSpace(data, at+1)
		}
		if isObject {
			if at, err = SkipName(data, at, final); err != nil {
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

// SkipName returns what is behind the name of a member and its colon. Errors: see SkipValue.
func SkipName(data []byte, at int, final bool) (end int, err error) {
	if at == len(data) {
		return at, short(final)
	}
	if data[at] != '"' {
		return at, errSyntax
	}
	if at, err = SkipString(data, at, final); err != nil {
		return at, err
	}
	if at = SkipSpace(data, at); at == len(data) {
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
	return ErrShort
}

// skipPlain returns where the first byte is that does not stand for itself in a string: a quote, a backslash, a control
// character. It looks at eight at a time, and at more where there are many: most of what is read is text.
func skipPlain(data []byte, at int) int {
	for n := 0; at+8 <= len(data); n++ {
		if found := special(binary.LittleEndian.Uint64(data[at:])); found != 0 {
			return at + bits.TrailingZeros64(found)/8
		}
		if at += 8; n == 8 {
			at = skipPlainBlocks(data, at)
		}
	}
	for at < len(data) && data[at] >= ' ' && data[at] != '"' && data[at] != '\\' {
		at++
	}
	return at
}

// skipPlainBlocks skips blocks without such a byte.
func skipPlainBlocks(data []byte, at int) int {
	for ; at+32 <= len(data); at += 32 {
		block := data[at : at+32 : at+32]
		if special(binary.LittleEndian.Uint64(block))|special(binary.LittleEndian.Uint64(block[8:]))|
			special(binary.LittleEndian.Uint64(block[16:]))|special(binary.LittleEndian.Uint64(block[24:])) != 0 {
			break
		}
	}
	return at
}

// special marks bytes that do not stand for themselves, by their top bits: the lowest that is set is right, those above it may
// be set by its borrow.
func special(x uint64) uint64 {
	const (
		ones = 0x0101010101010101
		tops = 0x8080808080808080
	)
	quote, backslash := x^'"'*ones, x^'\\'*ones
	// It is set where a byte is less than a space, or nothing is left of it.
	return ((x-' '*ones)&^x | (quote-ones)&^quote | (backslash-ones)&^backslash) & tops
}

// SkipString returns the end of the string that begins at a place. Errors: see SkipValue.
func SkipString(data []byte, at int, final bool) (int, error) {
	for at++; ; at++ {
		if at = skipPlain(data, at); at >= len(data) {
			return len(data), short(final)
		}
		switch c := data[at]; {
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
		return at, ErrShort
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

// StringEnd returns the end of the string that begins at a place, in what SkipValue has accepted.
func StringEnd(data []byte, at int) int {
	for from := at + 1; from < len(data); {
		quote := bytes.IndexByte(data[from:], '"')
		if quote < 0 {
			break
		}
		quote += from
		escape := quote
		for escape > from && data[escape-1] == '\\' {
			escape--
		}
		if (quote-escape)%2 == 0 {
			return quote + 1
		}
		from = quote + 1
	}
	return len(data)
}

// ValueEnd returns the end of the value that begins at a place, in what SkipValue has accepted. It goes down nowhere.
func ValueEnd(data []byte, at int) int {
	for depth := 0; at < len(data); {
		switch data[at] {
		case '"':
			if at = StringEnd(data, at); depth == 0 {
				return at
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return at // of a number or a word: what it stands in ends
			}
			if depth == 0 {
				return at + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return at
			}
		}
		at++
	}
	return at
}

// Unquote returns the text of a string that SkipString has accepted.
func Unquote(quoted []byte) string {
	for _, c := range quoted[1 : len(quoted)-1] {
		if c == '\\' || c >= 0x80 {
			var text string
			_ = json.Unmarshal(quoted, &text) // cannot fail
			return text
		}
	}
	return string(quoted[1 : len(quoted)-1])
}
