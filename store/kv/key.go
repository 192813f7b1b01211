package kv

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// In a key each segment ends with 0x00. Inside segments 0x00 is written 0x01 0x01 and 0x01 is written 0x01 0x02, so that
// no segment holds the terminator and byte order stays segment order.
const (
	terminator = 0x00
	escape     = 0x01
)

// ErrMalformedKey says that a key was not made by [Key].
var ErrMalformedKey = errors.New("malformed key")

// Key joins segments, which may hold any bytes. Keys sort as their segments do, one after the other and byte by byte, a
// key before those it begins; and Key(a) is a byte prefix of Key(a, b), never of Key(ab).
func Key(segments ...string) []byte {
	size := len(segments)
	for _, s := range segments {
		size += len(s)
	}
	key := make([]byte, 0, size)
	for _, s := range segments {
		for i := range len(s) {
			if s[i] <= escape {
				key = append(key, escape, s[i]+1)
			} else {
				key = append(key, s[i])
			}
		}
		key = append(key, terminator)
	}
	return key
}

// Split returns the segments [Key] joined, or [ErrMalformedKey].
func Split(key []byte) ([]string, error) {
	var segments []string
	var b strings.Builder
	for i := 0; i < len(key); i++ {
		switch key[i] {
		case terminator:
			segments = append(segments, b.String())
			b.Reset()
			if i == len(key)-1 {
				return segments, nil
			}
		case escape:
			i++
			if i == len(key) || key[i] != 0x01 && key[i] != 0x02 {
				return nil, ErrMalformedKey
			}
			b.WriteByte(key[i] - 1)
		default:
			b.WriteByte(key[i])
		}
	}
	if len(key) > 0 {
		return nil, ErrMalformedKey
	}
	return nil, nil
}

// PrefixEnd returns the first key after all those that begin with prefix, or nil, no bound, when there is none.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}

// After returns the first key after key: where a Scan goes on.
func After(key []byte) []byte {
	return append(key[:len(key):len(key)], 0)
}

// Number is a segment that sorts as n does: 16 hexadecimal digits.
func Number(n uint64) string {
	return fmt.Sprintf("%016x", n)
}

// ParseTime returns the time that a segment made by [Time] stands for, or [ErrMalformedKey].
func ParseTime(segment string) (time.Time, error) {
	n, err := strconv.ParseUint(segment, 16, 64)
	if err != nil || len(segment) != 16 {
		return time.Time{}, ErrMalformedKey
	}
	return time.UnixMicro(int64(n ^ 1<<63)).UTC(), nil
}

// Time is a segment that sorts as t does, for any year of common use: 16 hexadecimal digits, cut to the microsecond.
func Time(t time.Time) string {
	// The flipped sign bit puts times before 1970, such as the zero Time, first.
	return Number(uint64(t.UnixMicro()) ^ 1<<63)
}
