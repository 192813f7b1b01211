package pages

import (
	"html"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	markup "golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// What pages show of others' texts. Templates escape it; here it is kept short, so that no page grows with what callers and
// Zendesk send.

// escapedSize is how many bytes a text takes in a page.
func escapedSize(text string) int { return len(template.HTMLEscapeString(text)) }

// clip returns what of a text takes at most so many bytes in a page, and whether that is not all of it.
func clip(text string, most int) (string, bool) {
	size := 0
	for i, r := range text {
		width := utf8.RuneLen(r)
		if strings.ContainsRune(`&'"<>`+"\x00", r) {
			width = escapedSize(string(r))
		}
		if size += width; size > most {
			return text[:i], true
		}
	}
	return text, false
}

// short is a text in one line of at most so many bytes; an ellipsis ends one that was cut.
func short(text string, most int) string {
	kept, cut := clip(strings.Join(strings.Fields(text), " "), most)
	if cut {
		return kept + "…"
	}
	return kept
}

// fitting returns the first items that take at most so many bytes together, and how many are left out.
func fitting[T any](items []T, room int, size func(T) int) (shown []T, left int) {
	for i, item := range items {
		if room -= size(item); room < 0 {
			return items[:i], len(items) - i
		}
	}
	return items, 0
}

const (
	maxUnfolded = 300 // bytes of a text that is shown at once
	headOfText  = 80  // bytes of one that is folded
)

// text is one for the template "text": folded when it is long, and cut when it is very long.
type text struct {
	Text string
	Head string // how it begins; empty: it is not folded
	Size int    // characters of all of it, where it is folded
	All  string // where all of it is; empty: here
}

// shownText shows at most so many bytes of a text, and says that all is at an address.
func shownText(whole string, most int, all string) text {
	shown, cut := clip(whole, most)
	if !cut {
		all = ""
	}
	if !cut && escapedSize(whole) <= maxUnfolded && strings.Count(whole, "\n") < 4 {
		return text{Text: whole}
	}
	return text{Text: shown, Head: short(whole, headOfText), Size: utf8.RuneCountInString(whole), All: all}
}

// webAddress is an address that a browser may be led to: an http or https one of a host; else empty.
func webAddress(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// plain answers with a text alone.
func plain(whole string) *page {
	return &page{raw: func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, strings.ToValidUTF8(whole, "\uFFFD")) // who has gone is told nothing
	}}
}

// commentTags are the tags that comments are made of; each may stand with its links' addresses and nothing else.
var commentTags = []atom.Atom{atom.P, atom.B, atom.Br, atom.A, atom.Ul, atom.Li, atom.Blockquote}

const maxCommentDepth = 20

// commentMarkup is a comment for a page: of its markup the tags of comments and web addresses, of all else the text. Tags are
// closed as they were opened, so that nothing of it reaches beyond. It takes at most so many bytes, and some for links.
func commentMarkup(comment string, most int) (shown template.HTML, cut bool) {
	var out strings.Builder
	var open []atom.Atom
	closeTo := func(depth int) {
		for len(open) > depth {
			last := len(open) - 1
			out.WriteString("</" + open[last].String() + ">")
			open = open[:last]
		}
	}
	for tokens := markup.NewTokenizer(strings.NewReader(comment)); ; {
		kind := tokens.Next()
		if kind == markup.ErrorToken {
			break
		}
		if out.Len() >= most {
			cut = true
			break
		}
		switch token := tokens.Token(); {
		case kind == markup.TextToken:
			said, more := clip(strings.ToValidUTF8(token.Data, "\uFFFD"), most-out.Len())
			out.WriteString(html.EscapeString(said))
			cut = cut || more
		case kind == markup.EndTagToken:
			for depth := len(open) - 1; depth >= 0; depth-- {
				if open[depth] == token.DataAtom {
					closeTo(depth)
					break
				}
			}
		case kind != markup.StartTagToken && kind != markup.SelfClosingTagToken || !slices.Contains(commentTags, token.DataAtom):
		case token.DataAtom == atom.Br:
			out.WriteString("<br>")
		case len(open) < maxCommentDepth:
			out.WriteString(startTag(token))
			open = append(open, token.DataAtom)
		}
		if cut {
			break
		}
	}
	closeTo(0)
	return template.HTML(out.String()), cut //nolint:gosec // G203: it is made of what is allowed
}

// startTag is a tag of a comment, without attributes but a link's address.
func startTag(token markup.Token) string {
	if token.DataAtom == atom.A {
		for _, attribute := range token.Attr {
			if to := webAddress(attribute.Val); attribute.Namespace == "" && attribute.Key == "href" && to != "" {
				return `<a href="` + html.EscapeString(to) + `" rel="noopener noreferrer">`
			}
		}
	}
	return "<" + token.DataAtom.String() + ">"
}
