// Package redact takes secrets out of texts that came from outside: some servers and gateways repeat what they were sent.
//
// It hides in how many ways a secret can be written. A text is read as it is and with every escape and encoding undone,
// one within the other: percent and form escapes, those of JSON, C and HTML, quoted-printable, hexadecimal and base64 at
// every alignment, in upper, lower or mixed case, also broken into lines; encodings up to four deep, escapes up to five. A
// text with more escapes within escapes, or with too much to undo, is withheld as a whole.
//
//	secrets := redact.New(token)
//	secrets.Text(`{"error":"bad header Bearer%20` + token + `"}`) // {"error":"bad header Bearer%20[redacted]"}
//
// A server that wants to betray a secret can do so in a cipher of its own. This is for those that merely repeat.
package redact

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

const (
	// told is how many characters of a secret in a row may not be told. Shorter stretches are of no use to anyone, and
	// stand by chance in large texts.
	told = 12
	// hinted is the same for texts that nobody needs to read.
	hinted = 8
	// Secrets shorter than this are looked for as whole words only, and those shorter than shortest not at all: they stand
	// in any text.
	glued    = 6
	shortest = window

	window = 4 // bytes by which places are found where a secret may stand

	// slack is how far behind a cut a text is read: the longest that told characters become when each is escaped three
	// times.
	slack = 4 << 10

	maxPlaces = 4 // of one window within one secret
	maxTries  = 3
)

// Secrets are what no text may tell. The zero value is none. They cannot change and are safe for concurrent use.
type Secrets struct {
	values  []secret.Value
	needles []needle
	places  map[uint32][]place // by window
	filter  [1 << 11]uint64    // by hash: whether there are places for a window
	firsts  [256]bool          // what needles begin with
	least   int                // length of the shortest needle; 0: there is none
	unclear bool               // one is too short to be looked for
}

// Format implements [fmt.Formatter]: no verb shows anything.
func (s *Secrets) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret.Redacted) }

// needle is a secret as it is compared.
type needle struct {
	text string
	told int  // how many characters in a row are too many
	word bool // only where no letter or digit stands beside it
}

// place is where in a needle a window stands.
type place struct{ needle, at int }

// New returns the secrets among values: empty ones are none.
func New(values ...secret.Value) *Secrets {
	s := &Secrets{places: make(map[uint32][]place)}
	for _, value := range values {
		if !value.IsZero() {
			s.add(value)
		}
	}
	return s
}

// With returns these secrets and more.
func (s *Secrets) With(more ...secret.Value) *Secrets {
	if s == nil {
		return New(more...)
	}
	return New(slices.Concat(s.values, more)...)
}

func (s *Secrets) add(value secret.Value) {
	s.values = append(s.values, value)
	l := layer{text: []byte(value.Reveal())}
	// A secret that holds escapes is looked for without them, too: a text may have lost them.
	for range maxRounds {
		s.addNeedle(canonical(l.text))
		undone, changed := unescape(l)
		if !changed {
			break
		}
		l = undone
	}
}

func (s *Secrets) addNeedle(text string) {
	if len(text) < shortest {
		s.unclear = true
		return
	}
	for _, known := range s.needles {
		if known.text == text {
			return
		}
	}
	n := needle{text: text, told: min(len(text), told), word: len(text) < glued}
	s.needles = append(s.needles, n)
	s.firsts[text[0]] = true
	if s.least == 0 || n.told < s.least {
		s.least = n.told
	}
	found := make(map[uint32]int)
	for at := range len(text) - window + 1 {
		key := binary.LittleEndian.Uint32([]byte(text[at:]))
		if found[key]++; found[key] > maxPlaces {
			continue // of a secret that repeats itself the first places find it
		}
		s.places[key] = append(s.places[key], place{len(s.needles) - 1, at})
		h := hash(key)
		s.filter[h>>6] |= 1 << (h & 63)
	}
}

func hash(key uint32) uint32 { return key * 0x9E3779B1 >> (32 - 17) }

// Text returns a text in which [secret.Redacted] stands for every 12 characters or more in a row of a secret, for the
// whole of a shorter one, and for the beginning of one that the end of the text cuts off. Secrets of less than 6
// characters are replaced where they are whole words, those of less than 4 never.
func (s *Secrets) Text(text string) string { return s.Prefix(text, len(text)) }

// Prefix is Text of the first n bytes: no part of a secret is left where they are cut off.
func (s *Secrets) Prefix(text string, n int) string {
	n = min(n, len(text))
	if s == nil || s.least == 0 {
		return text[:n]
	}
	text = text[:min(len(text), n+slack)]
	for range maxTries {
		found, ok := s.find([]byte(text), told)
		if !ok {
			break
		}
		if len(found) == 0 {
			return text[:min(n, len(text))]
		}
		text, n = replace(text, n, found)
	}
	return secret.Redacted
}

// In tells whether a text tells something that Text takes out.
func (s *Secrets) In(text []byte) bool {
	if s == nil || s.least == 0 {
		return false
	}
	found, ok := s.find(text, told)
	return !ok || len(found) > 0
}

// Holds tells whether a text may tell 8 characters in a row of a secret, or the whole of a shorter one; and so does every
// text if one of the secrets is too short to be found.
func (s *Secrets) Holds(text string) bool {
	if s == nil || text == "" {
		return false
	}
	if s.unclear {
		return true
	}
	if s.least == 0 {
		return false
	}
	found, ok := s.find([]byte(text), hinted)
	return !ok || len(found) > 0
}

// span is a stretch of a text.
type span struct{ from, to int }

// replace puts the placeholder into stretches of a text, of which n bytes count.
func replace(text string, n int, found []span) (string, int) {
	slices.SortFunc(found, func(a, b span) int { return a.from - b.from })
	var out []byte
	at, cut := 0, -1
	for _, s := range found {
		if s.from > at || len(out) == 0 {
			if cut < 0 && n <= s.from {
				cut = len(out) + max(n-at, 0)
			}
			out = append(out, text[at:max(s.from, at)]...)
			out = append(out, secret.Redacted...)
		}
		at = max(at, s.to)
	}
	switch {
	case cut >= 0:
	case n <= at:
		cut = len(out)
	default:
		cut = len(out) + n - at
	}
	return string(append(out, text[at:]...)), cut
}
