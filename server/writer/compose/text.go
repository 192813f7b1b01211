package compose

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const cutMark = "…(cut)"

// oneLine makes a text one line without control characters: white space of any kind is collapsed to single spaces.
func oneLine(text string) string {
	return strings.Join(strings.Fields(clean(text)), " ")
}

// multiLine keeps a text's lines, without white space at their ends and without blank lines around the whole.
func multiLine(text string) string {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(text)
	lines := strings.Split(clean(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRightFunc(line, unicode.IsSpace)
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// clean takes away what is invisible and can deceive a reader: control characters, of which only line feeds stay and other
// white space becomes a space, and those that reorder text. Joiners stay: scripts and emoji need them.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case unicode.IsSpace(r) && unicode.IsControl(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\ufeff':
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
}

// inert makes a text plain. In comments Zendesk renders Markdown, the HTML tags in it and placeholders in braces: what
// would begin a link, a tag or a placeholder gets a space after its first character. That harms what a person wrote less
// than an escape, which an account without Markdown would show.
// https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_comments/#bodies
func inert(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteByte(text[i])
		if i+1 < len(text) && isSyntax(text[i], text[i+1]) {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// isSyntax tells whether two characters begin a link ([text](address), or [name]: address), a tag or a placeholder.
func isSyntax(first, second byte) bool {
	switch first {
	case ']':
		return second == '(' || second == ':'
	case '{':
		return second == '{' || second == '%'
	case '<':
		return second >= 'a' && second <= 'z' || second >= 'A' && second <= 'Z' || strings.IndexByte("/!?", second) >= 0
	}
	return false
}

// clip cuts a text to at most limit bytes, mark included, on a character boundary. The limit is at least len(cutMark).
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := limit - len(cutMark)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.TrimRightFunc(text[:end], unicode.IsSpace) + cutMark
}
