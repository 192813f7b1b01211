package redact

import (
	"bytes"
	"slices"
	"strings"
)

// reading looks for secrets in one text.
type reading struct {
	secrets *Secrets
	enough  int // characters of a secret in a row that count
	left    int // bytes that may still be read
	found   []span
}

// find lists where a text tells enough of a secret; ok is false when it cannot be read to the end. Most texts tell nothing: where
// what is undone stood is noted only when that is wanted.
func (s *Secrets) find(text []byte, enough int) (found []span, ok bool) {
	for _, placed := range []bool{false, true} {
		r := &reading{secrets: s, enough: enough, left: maxRead*len(text) + maxReadMore}
		if ok = r.read(layer{text: text, last: true, placed: placed}, 0); !ok || len(r.found) == 0 {
			return nil, ok
		}
		found = r.found
	}
	return found, true
}

// read looks for secrets in a layer and in all that can be undone there.
func (r *reading) read(l layer, depth int) (ok bool) {
	printable, ok := r.undo(l, depth, true, unfold, unescape)
	if ok && printable {
		// Apart from the others: =41 is a value of a form, too.
		_, ok = r.undo(l, depth, false, quotedPrintable, unfold, unescape)
	}
	return ok
}

// undo undoes escapes again and again and looks at each layer; only at those that come of the first of the steps if
// others have been seen. printable tells whether one may be of quoted-printable.
func (r *reading) undo(l layer, depth int, seeing bool, steps ...func(layer) (layer, bool)) (printable, ok bool) {
	if seeing && !r.visit(l, depth) {
		return false, false
	}
	for range maxRounds {
		changed := false
		printable = printable || seeing && bytes.IndexByte(l.text, '=') >= 0
		for i, step := range steps {
			undone, did := step(l)
			if !did {
				continue
			}
			l, changed, seeing = undone, true, seeing || i == 0
			if seeing && !r.visit(l, depth) {
				return false, false
			}
		}
		if !changed {
			return printable, true
		}
	}
	return false, false
}

// visit looks for secrets in a layer as it is, and in what is encoded there.
func (r *reading) visit(l layer, depth int) (ok bool) {
	if r.left -= len(l.text); r.left < 0 {
		return false
	}
	r.look(l)
	if depth == maxDepth {
		return true
	}
	least := min(r.enough, r.secrets.least)
	for _, e := range encodings {
		runs := e.runs(&l, least)
		for phase := range e.phases {
			if len(runs) == 0 {
				break
			}
			decoded := e.decode(&l, runs, phase)
			further := r.read
			if !isReadable(decoded.text, least) {
				further = func(l layer, _ int) bool { return r.visit(l, maxDepth) }
			}
			if !further(decoded, depth+1) {
				return false
			}
		}
	}
	return true
}

// folded are bytes as they are compared: without case, and without white space, plus signs (spaces of a form) and
// control characters, which are 0.
var folded = func() (table [256]byte) {
	for i := range table {
		switch b := byte(i); {
		case b <= ' ' || b == '+' || b == 0x7f:
		case b >= 'A' && b <= 'Z':
			table[i] = b + 'a' - 'A'
		default:
			table[i] = b
		}
	}
	return table
}()

// step returns the byte that is compared at i, if any, and where the next one stands.
func step(text []byte, i int) (b byte, next int) {
	b = folded[text[i]]
	if b >= 0xc2 {
		if n := invisible(text[i:]); n > 0 {
			return 0, i + n
		}
	}
	return b, i + 1
}

// invisible is how many bytes a character takes that shows nothing; 0: it is none.
func invisible(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch string(text[:2]) {
	case "\u00a0", "\u00ad":
		return 2
	}
	if len(text) < 3 {
		return 0
	}
	switch string(text[:3]) {
	case "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff":
		return 3
	}
	return 0
}

// canonical is a text as it is compared.
func canonical(text []byte) string {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		var b byte
		if b, i = step(text, i); b != 0 {
			out = append(out, b)
		}
	}
	return string(out)
}

// look finds secrets in a layer as it is.
func (r *reading) look(l layer) {
	text, filter := l.text, &r.secrets.filter
	var key uint32 // the last bytes; what has not come yet is 0, which no secret holds
	for i := 0; i < len(text); i++ {
		b := folded[text[i]]
		if b >= 0xc2 {
			if n := invisible(text[i:]); n > 0 {
				i += n - 1
				continue
			}
		}
		if b == 0 {
			continue
		}
		key = key>>8 | uint32(b)<<24
		if h := hash(key); filter[h>>6]>>(h&63)&1 == 0 {
			continue
		}
		if len(r.secrets.places[key]) == 0 {
			continue
		}
		from := windowBefore(text, i+1)
		if to := r.longest(text, key, from); to > from {
			r.found = append(r.found, l.span(from, to))
			i, key = to-1, 0
		}
	}
	if l.last {
		r.lookAtEnd(l)
	}
}

// windowBefore returns where the window begins that ends before a place.
func windowBefore(text []byte, at int) int {
	for seen := 0; seen < window; {
		at--
		if at >= 1 && invisible(text[at-1:at+1]) == 2 {
			at--
		} else if at >= 2 && invisible(text[at-2:at+1]) == 3 {
			at -= 2
		} else if folded[text[at]] != 0 {
			seen++
		}
	}
	return at
}

// longest returns where the longest stretch ends that begins at from, with a window, and tells enough of a secret; 0:
// there is none.
func (r *reading) longest(text []byte, key uint32, from int) (to int) {
	for _, p := range r.secrets.places[key] {
		n := r.secrets.needles[p.needle]
		length, end := 0, from
		for i, want := from, n.text[p.at:]; i < len(text) && length < len(want); {
			var b byte
			if b, i = step(text, i); b == 0 {
				continue
			}
			if b != want[length] {
				break
			}
			length, end = length+1, i
		}
		if length >= min(n.told, r.enough) && end > to && (!n.word || isWord(text, from, end)) {
			to = end
		}
	}
	return to
}

// isWord tells whether no letter or digit stands beside a stretch.
func isWord(text []byte, from, to int) bool {
	return (from == 0 || !isAlphanumeric(text[from-1])) && (to == len(text) || !isAlphanumeric(text[to]))
}

// lookAtEnd finds the beginning of a secret that the end of the text cuts off, also within an escape.
func (r *reading) lookAtEnd(l layer) {
	const far = 4 * told // a little more than can be white space
	ends := []int{len(l.text), len(l.text) - dangling(l.text)}
	for _, end := range slices.Compact(ends) {
		for from := end - 1; from >= max(0, end-far); from-- {
			b := folded[l.text[from]]
			if b < 0xc2 && !r.secrets.firsts[b] || from > 0 && isAlphanumeric(l.text[from-1]) && !l.undone {
				continue // nothing begins here
			}
			tail := canonical(l.text[from:end])
			for _, n := range r.secrets.needles {
				if len(tail) >= window && len(tail) < n.told && strings.HasPrefix(n.text, tail) {
					r.found = append(r.found, l.span(from, len(l.text)))
				}
			}
		}
	}
}

// dangling is how many bytes at the end of a text can be an escape that was cut off.
func dangling(text []byte) int {
	const longest = 8
	tail := text[max(0, len(text)-longest):]
	at := bytes.LastIndexAny(tail, `%\&=`)
	if at < 0 {
		return 0
	}
	for _, c := range tail[at+1:] {
		if !isAlphanumeric(c) && c != '#' {
			return 0
		}
	}
	return len(tail) - at
}
