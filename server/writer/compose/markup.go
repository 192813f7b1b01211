package compose

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// markup is a piece of HTML. Texts from outside become one by escaped and by link alone.
type markup string

// joiner is an invisible character that lines are not broken at. Programs that look for links and placeholders read past
// what it stands within; people do not notice it.
const joiner = "\u2060"

// escaped is a text as people read it, and nothing else: no markup, no placeholder of Zendesk ({{ticket.id}}), nothing that
// becomes a link by itself (an address with a scheme, //host, www., a domain, the number of a ticket). E-mail addresses
// stay as they are: people copy them. Line breaks stay line breaks.
// https://support.zendesk.com/hc/en-us/articles/4408830863130
func escaped(text string) markup {
	var b strings.Builder
	b.Grow(len(text) + len(text)/8)
	for i, r := range text {
		if i > 0 && isJoint(text, i) {
			b.WriteString(joiner)
		}
		switch r {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '"':
			b.WriteString("&#34;")
		case '\'':
			b.WriteString("&#39;")
		case '\n':
			b.WriteString("<br>")
		default:
			b.WriteRune(r)
		}
	}
	return markup(b.String())
}

// isJoint tells where a text must be broken for people alone to make sense of it.
func isJoint(text string, i int) bool {
	before, after := text[i-1], text[i]
	switch {
	case before == '{' && (after == '{' || after == '%'), before == '/' && after == '/', before == '#' && isDigit(after):
		return true
	case before == ':':
		return after > ' ' && isScheme(text[:i-1])
	case before == '.' || after == '.':
		return isDomain(text, i)
	}
	return false
}

// nearby is how far to look for the ends of a word: farther than an e-mail address reaches.
const nearby = 2 * maxEmailBytes

// isScheme tells whether a text ends with what can be the scheme of an address.
func isScheme(text string) bool {
	text = text[max(0, len(text)-nearby):]
	rest := strings.TrimRightFunc(text, func(r rune) bool { return r < utf8.RuneSelf && (isWord(byte(r)) || strings.ContainsRune("+.-", r)) })
	scheme := strings.TrimLeft(text[len(rest):], "0123456789+.-")
	return scheme != ""
}

// isDomain tells whether a dot beside i stands between names of a host, and not within an e-mail address.
func isDomain(text string, i int) bool {
	dot := i
	if text[i-1] == '.' {
		dot = i - 1
	}
	if dot == 0 || dot+1 == len(text) || !isWord(text[dot-1]) || !isLetter(text[dot+1]) {
		return false
	}
	before, after := text[max(0, dot-nearby):dot], text[dot:min(len(text), dot+nearby)]
	word := before[strings.LastIndexAny(before, " \n")+1:]
	if end := strings.IndexAny(after, " \n"); end >= 0 {
		after = after[:end]
	}
	return !isEmail(strings.Trim(word+after, `.,;:!?()<>"'`))
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= utf8.RuneSelf }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isWord(c byte) bool   { return isLetter(c) || isDigit(c) }

// link shows an address as it is, so that it can be followed and everyone sees where it leads. It must be a URL: isURL.
func link(address string) markup {
	shown := strings.NewReplacer("&", "&amp;", "'", "&#39;").Replace(address)
	return markup(`<a href="` + shown + `" rel="noopener noreferrer">` + shown + `</a>`)
}

func bold(m markup) markup { return "<b>" + m + "</b>" }

func paragraph(lines ...markup) markup { return "<p>" + join(lines, "<br>") + "</p>" }

func join(pieces []markup, separator markup) markup {
	var b strings.Builder
	for i, piece := range pieces {
		if i > 0 {
			b.WriteString(string(separator))
		}
		b.WriteString(string(piece))
	}
	return markup(b.String())
}

// clipMarkup cuts what escaped made to at most limit bytes, mark included, never within a character, an entity or a line
// break. The limit is at least len(cutMark).
func clipMarkup(m markup, limit int) markup {
	if len(m) <= limit {
		return m
	}
	end := max(0, limit-len(joiner+cutMark))
	for end > 0 && !utf8.RuneStart(m[end]) {
		end--
	}
	kept := string(m[:end])
	for _, open := range []struct{ begin, end string }{{"&", ";"}, {"<", ">"}} {
		if at := strings.LastIndex(kept, open.begin); at >= 0 && !strings.Contains(kept[at:], open.end) {
			kept = kept[:at]
		}
	}
	for trimmed := ""; trimmed != kept; {
		trimmed = kept
		kept = strings.TrimSuffix(strings.TrimRightFunc(strings.TrimSuffix(kept, joiner), unicode.IsSpace), "<br>")
	}
	if strings.HasSuffix(kept, ":") {
		kept += joiner // with the mark behind it, it would look like an address
	}
	return markup(kept + cutMark)
}
