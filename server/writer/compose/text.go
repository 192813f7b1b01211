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
// white space becomes a space, those that reorder text, and those that show nothing. Joiners stay where scripts and emoji
// need them.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x300 && !unicode.IsControl(r) && r != '\u00ad': // most of all
			return r
		case r == '\n' || r == '\u200c' || r == '\u200d' || r >= 0xe0020 && r <= 0xe007f: // flags are written with tags
			return r
		case unicode.IsSpace(r) && unicode.IsControl(r), r == '\u3164', r == '\uffa0', r == '\u2800': // fillers
			return ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co), r == '\u115f', r == '\u1160', r == '\u034f':
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
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
