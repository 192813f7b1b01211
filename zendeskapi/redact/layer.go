package redact

import (
	"bytes"
	"html"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxDepth  = 4 // of encodings within encodings
	maxRounds = 6 // of escapes within escapes
	// A text is read at most so many times over, and as many bytes beside: more is no text of anyone who means well.
	maxRead     = 48
	maxReadMore = 64 << 10

	readable = 12 // characters in a row that make it worth undoing more in what was decoded
)

// layer is a text with escapes undone, and where each of its bytes stood in the text that it was made of.
type layer struct {
	text     []byte
	undone   bool    // it is not the text itself
	placed   bool    // where its bytes stood is noted
	from, to []int32 // if it is noted; nil: as in the text
	fresh    []bool  // whether a byte is other than in the layer above; nil: all are
	last     bool    // its end is the text's end
}

// span is where a stretch stood, if that is noted.
func (l *layer) span(from, to int) span {
	if l.from == nil {
		return span{from, to}
	}
	return span{int(l.from[from]), int(l.to[to-1])}
}

// below makes room for what is undone in l: never more than size bytes.
func (l *layer) below(size int) layer {
	under := layer{text: make([]byte, 0, size), undone: true, placed: l.placed}
	if l.placed {
		under.from, under.to = make([]int32, 0, size), make([]int32, 0, size)
	}
	return under
}

// put adds bytes that stand for those from i to j of the layer above.
func (l *layer) put(above *layer, i, j int, text ...byte) {
	l.text = append(l.text, text...)
	if !l.placed {
		return
	}
	s := above.span(i, j)
	for range text {
		l.from, l.to = append(l.from, int32(s.from)), append(l.to, int32(s.to))
	}
}

// copy adds the bytes from i to j of the layer above as they are.
func (l *layer) copy(above *layer, i, j int) {
	l.text = append(l.text, above.text[i:j]...)
	if !l.placed {
		return
	}
	if above.from != nil {
		l.from, l.to = append(l.from, above.from[i:j]...), append(l.to, above.to[i:j]...)
		return
	}
	for ; i < j; i++ {
		l.from, l.to = append(l.from, int32(i)), append(l.to, int32(i+1))
	}
}

// unescape undoes the escapes that no other text looks like: %41, \u0041, \x41, \101, \/, &#65;, &#x41;, &amp; and the
// like.
func unescape(l layer) (undone layer, changed bool) {
	return undo(l, `%\&`, escape)
}

// undo replaces what escapes there are: they begin with a character of marks, of which there are three at most.
func undo(l layer, marks string, escape func(text, buffer []byte) (decoded []byte, size int)) (undone layer, changed bool) {
	var buffer [8]byte
	copied := 0
	seen := [3]int{-1, -1, -1}
	for i := 0; ; {
		if i = nextMark(l.text, i, marks, &seen); i == len(l.text) {
			break
		}
		decoded, size := escape(l.text[i:], buffer[:0])
		if size == 0 {
			i++
			continue
		}
		if !changed {
			changed = true
			undone = l.below(len(l.text))
			undone.fresh, undone.last = make([]bool, len(l.text)), l.last
		}
		undone.copy(&l, copied, i)
		// Also what stands before it: there a run can go on now.
		for j := max(len(undone.text)-1, 0); j <= len(undone.text)+len(decoded); j++ {
			if j < len(undone.fresh) {
				undone.fresh[j] = true
			}
		}
		undone.put(&l, i, i+size, decoded...)
		i += size
		copied = i
	}
	if changed {
		undone.copy(&l, copied, len(l.text))
	}
	return undone, changed
}

// nextMark returns where the first of some characters stands from i on; the text's length: none does. In seen it keeps where each
// stands, so that it looks for none again before it is passed.
func nextMark(text []byte, i int, marks string, seen *[3]int) int {
	next := len(text)
	for m := range len(marks) {
		if seen[m] < i {
			seen[m] = len(text)
			if at := bytes.IndexByte(text[i:], marks[m]); at >= 0 {
				seen[m] = i + at
			}
		}
		next = min(next, seen[m])
	}
	return next
}

// escape reads the escape that a text begins with; size 0: there is none.
func escape(text, buffer []byte) (decoded []byte, size int) {
	switch text[0] {
	case '%':
		if b, ok := hexByte(text[1:]); ok {
			return append(buffer, b), 3
		}
	case '\\':
		return backslash(text, buffer)
	case '&':
		return entity(text, buffer)
	}
	return nil, 0
}

func backslash(text, buffer []byte) ([]byte, int) {
	if len(text) < 2 {
		return nil, 0
	}
	switch c := text[1]; c {
	case 'u', 'U':
		r, ok := number(text[2:], 4, 16)
		if !ok {
			return nil, 0
		}
		if utf16.IsSurrogate(rune(r)) && len(text) >= 12 && text[6] == '\\' {
			if low, ok := number(text[8:], 4, 16); ok {
				if pair := utf16.DecodeRune(rune(r), rune(low)); pair != utf8.RuneError {
					return utf8.AppendRune(buffer, pair), 12
				}
			}
		}
		return utf8.AppendRune(buffer, rune(r)), 6
	case 'x', 'X':
		if b, ok := hexByte(text[2:]); ok {
			return append(buffer, b), 4
		}
	case '0', '1', '2', '3':
		if b, ok := number(text[1:], 3, 8); ok {
			return append(buffer, byte(b)), 4
		}
	case 'n', 'r', 't', 'b', 'f':
		return append(buffer, '\n'), 2
	case '/', '"', '\'', '\\':
		return append(buffer, c), 2
	}
	return nil, 0
}

// entity reads a character reference of HTML, also one without its semicolon.
func entity(text, buffer []byte) ([]byte, int) {
	const longest = 34 // "&CounterClockwiseContourIntegral;" and a little more
	end := 1
	for end < min(len(text), longest) && (isAlphanumeric(text[end]) || text[end] == '#' && end == 1) {
		end++
	}
	if end < len(text) && text[end] == ';' {
		end++
	}
	name := string(text[:end])
	if !strings.HasPrefix(name, "&#") && !strings.HasSuffix(name, ";") {
		for _, legacy := range []string{"&amp", "&lt", "&gt", "&quot"} {
			if len(name) >= len(legacy) && strings.EqualFold(name[:len(legacy)], legacy) {
				return append(buffer, html.UnescapeString(strings.ToLower(legacy)+";")...), len(legacy)
			}
		}
		return nil, 0
	}
	if digits, ok := strings.CutPrefix(strings.TrimSuffix(name, ";"), "&#"); ok {
		base, prefix := 10, 2
		if strings.HasPrefix(strings.ToLower(digits), "x") {
			base, prefix, digits = 16, 3, digits[1:]
		}
		valid := 0
		for valid < len(digits) && digitOf(digits[valid]) < base {
			valid++
		}
		n, err := strconv.ParseInt(digits[:valid], base, 32)
		if err != nil {
			return nil, 0
		}
		size := prefix + valid
		if valid == len(digits) {
			size = len(name)
		}
		return utf8.AppendRune(buffer, rune(n)), size
	}
	if plain := html.UnescapeString(name); plain != name {
		return append(buffer, plain...), len(name)
	}
	return nil, 0
}

// quotedPrintable undoes =41 and lines that end with = (RFC 2045, 6.7).
func quotedPrintable(l layer) (undone layer, changed bool) {
	return undo(l, "=", func(text, buffer []byte) ([]byte, int) {
		if b, ok := hexByte(text[1:]); ok {
			return append(buffer, b), 3
		}
		if line := len(text) - 1 - len(bytes.TrimLeft(text[1:], "\r\n")); line > 0 {
			return buffer, 1 + line
		}
		return nil, 0
	})
}

// unfold joins lines, with the white space that the later ones begin with.
func unfold(l layer) (undone layer, changed bool) {
	return undo(l, "\r\n", func(text, buffer []byte) ([]byte, int) {
		return buffer, len(text) - len(bytes.TrimLeft(text, "\r\n \t"))
	})
}

// encoding is one whose characters stand for some bits each.
type encoding struct {
	bits   int
	phases int // of its characters before bytes begin with one again
	values [256]int8
}

var (
	base16 = newEncoding(4, 2, "0123456789abcdef", "0123456789ABCDEF")
	base64 = newEncoding(6, 4,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
	encodings = []*encoding{base16, base64}
)

func newEncoding(bits, phases int, alphabets ...string) *encoding {
	e := &encoding{bits: bits, phases: phases}
	for i := range e.values {
		e.values[i] = -1
	}
	for _, alphabet := range alphabets {
		for value, c := range []byte(alphabet) {
			e.values[c] = int8(value)
		}
	}
	return e
}

// runs lists where characters of the encoding stand in a row, enough of them for least bytes. Those that stood in the
// layer above are left out: they were found there.
func (e *encoding) runs(l *layer, least int) []span {
	least = (least*8 + e.bits - 1) / e.bits
	var found []span
	for from := 0; from+least <= len(l.text); {
		// From its end on, it takes few looks to see that a row is too short.
		last := from + least - 1
		for last >= from && e.values[l.text[last]] >= 0 {
			last--
		}
		if last >= from {
			from = last + 1
			continue
		}
		to := from + least
		for to < len(l.text) && e.values[l.text[to]] >= 0 {
			to++
		}
		if l.fresh == nil || slices.Contains(l.fresh[from:to], true) {
			found = append(found, span{from, to})
		}
		from = to + 1
	}
	return found
}

// between stands between what was decoded of different runs: no secret holds it.
const between = 0xff

// decode undoes the encoding in runs of a layer, of which bytes begin with the character of a phase.
func (e *encoding) decode(l *layer, runs []span, phase int) (decoded layer) {
	size := 0
	for _, run := range runs {
		size += (run.to-run.from)*e.bits/8 + 2
	}
	decoded = l.below(size)
	for _, run := range runs {
		var bits, have, from int
		for i := run.from + phase; i < run.to; i++ {
			if have == 0 {
				from = i
			}
			bits, have = (bits<<e.bits|int(e.values[l.text[i]]))&0xffff, have+e.bits
			if have >= 8 {
				have -= 8
				decoded.text = append(decoded.text, byte(bits>>have))
				if l.placed {
					s := l.span(from, i+1)
					decoded.from, decoded.to = append(decoded.from, int32(s.from)), append(decoded.to, int32(s.to))
				}
				from = i
			}
		}
		decoded.last = l.last && run.to == len(l.text)
		decoded.text = append(decoded.text, between)
		if l.placed {
			decoded.from, decoded.to = append(decoded.from, decoded.fromLast()), append(decoded.to, decoded.toLast())
		}
	}
	if n := len(decoded.text) - 1; n >= 0 && decoded.last {
		decoded.text = decoded.text[:n]
		if l.placed {
			decoded.from, decoded.to = decoded.from[:n], decoded.to[:n]
		}
	}
	return decoded
}

func (l *layer) fromLast() int32 {
	if len(l.from) == 0 {
		return 0
	}
	return l.from[len(l.from)-1]
}

func (l *layer) toLast() int32 {
	if len(l.to) == 0 {
		return 0
	}
	return l.to[len(l.to)-1]
}

// isReadable tells whether what was decoded holds a stretch of text that could hold least bytes more: anything that is no
// encoding decodes to chance.
func isReadable(text []byte, least int) bool {
	least = min(least*4/3, readable)
	row := 0
	for _, b := range text {
		if (b < ' ' || b > '~') && b != '\r' && b != '\n' && b != '\t' {
			row = 0
			continue
		}
		if row++; row == least {
			return true
		}
	}
	return false
}

func hexByte(text []byte) (byte, bool) {
	n, ok := number(text, 2, 16)
	return byte(n), ok
}

// number reads so many digits.
func number(text []byte, digits, base int) (n int, ok bool) {
	if len(text) < digits {
		return 0, false
	}
	for _, c := range text[:digits] {
		d := digitOf(c)
		if d >= base {
			return 0, false
		}
		n = n*base + d
	}
	return n, true
}

// digitOf is the value of a digit of up to base 16; 16 for anything else.
func digitOf(c byte) int {
	if value := base16.values[c]; value >= 0 {
		return int(value)
	}
	return 16
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
