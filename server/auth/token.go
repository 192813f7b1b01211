package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// TokenPrefix begins every bearer token that NewToken makes, so that secret scanners know one when they see one:
// zendeskblocks_[a-z2-7]{52}.
const TokenPrefix = "zendeskblocks_"

const tokenBytes = 32

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// tokenLine is a line of a token file. A plain hash is enough: a token is 256 bits of chance, which no dictionary holds
// and nobody guesses, so that salt and slowness would add nothing.
type tokenLine struct {
	Caller
	SHA256 string `json:"sha256"` // of the whole token, in hex
}

// tokens finds callers by the SHA-256 of their token. The time that a look-up takes may depend on the hash that is
// looked for, and on those that are there, but a hash says nothing of its token: who wants to come nearer to a stored
// hash, byte by byte, would need tokens with hashes of their choice.
type tokens = map[[sha256.Size]byte]Caller

func parseTokens(content []byte) (tokens, error) {
	found := tokens{}
	err := parseLines(content, func(line *tokenLine) error {
		if err := line.normalize(); err != nil {
			return err
		}
		if line.Expires.IsZero() {
			return errors.New("expires is missing")
		}
		sum, err := hex.DecodeString(line.SHA256)
		if err != nil || len(sum) != sha256.Size {
			// Not quoted: it may be the token itself.
			return errors.New("sha256 must be 64 hexadecimal digits")
		}
		key := [sha256.Size]byte(sum)
		if _, ok := found[key]; ok {
			return errors.New("sha256 is that of an earlier line")
		}
		line.Credential = "token"
		found[key] = line.Caller
		return nil
	})
	return found, err
}

func authenticateToken(known tokens, token string) (Caller, error) {
	caller, ok := known[sha256.Sum256([]byte(token))]
	switch {
	case !ok:
		return Caller{}, fmt.Errorf("token: %w", ErrUnknown)
	case !time.Now().Before(caller.Expires):
		return Caller{}, fmt.Errorf("token of %q: %w", caller.Name, ErrExpired)
	}
	return caller, nil
}

// NewToken makes a bearer token for c, which must say when it expires, and the line, ending in a line feed, by which a
// token file knows it. The token itself is kept nowhere: it is to be shown once.
func NewToken(c Caller) (token string, line []byte, err error) {
	if err := c.normalize(); err != nil {
		return "", nil, err
	}
	if !c.Expires.After(time.Now()) {
		return "", nil, errors.New("expires must be in the future")
	}
	c.Expires = c.Expires.UTC().Truncate(time.Second)
	var chance [tokenBytes]byte
	if _, err := rand.Read(chance[:]); err != nil {
		return "", nil, err
	}
	token = TokenPrefix + tokenEncoding.EncodeToString(chance[:])
	sum := sha256.Sum256([]byte(token))
	line, err = json.Marshal(tokenLine{Caller: c, SHA256: hex.EncodeToString(sum[:])})
	if err != nil {
		return "", nil, err
	}
	return token, append(line, '\n'), nil
}
