package rpc

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

const (
	// MaxPageSize is how many items a page of a list has at most; more are not refused but capped (AIP-158).
	MaxPageSize     = 200
	defaultPageSize = 50
	// MaxPageBytes is how large a page of large items may be: clients take messages of 4 MiB.
	MaxPageBytes = 3 << 20
)

// PageSize checks a page size, and applies its default and its maximum.
func (v *Violations) PageSize(size int32) int {
	if size < 0 {
		v.Add("page_size", "must not be negative")
	}
	if size == 0 {
		return defaultPageSize
	}
	return min(int(size), MaxPageSize)
}

// PageToken names the page behind a position. The checksum tells a token from anything else.
func PageToken(position string) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32([]byte(position), crc32.ChecksumIEEE([]byte(position))))
}

// PageToken reads a page token; empty means from the start.
func (v *Violations) PageToken(token string) (position string) {
	switch {
	case token == "":
		return ""
	case len(token) <= MaxPageToken:
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(token)
		if n := len(decoded) - crc32.Size; err == nil && n > 0 && PageToken(string(decoded[:n])) == token {
			return string(decoded[:n])
		}
	}
	v.MalformedPageToken()
	return ""
}

// MalformedPageToken adds that a page token is none of ours.
func (v *Violations) MalformedPageToken() {
	v.Add("page_token", "must be the next_page_token of an earlier reply")
}
