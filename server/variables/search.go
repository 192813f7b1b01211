package variables

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Characters that look like Zendesk's syntax count as it: whether Zendesk folds them is not documented.
const (
	doubleQuotes = "\"\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u301d\u301e\u301f\uff02"
	backslashes  = "\\\uff3c\ufe68"
	wildcards    = "*\uff0a\ufe61"
	comparisons  = "<>\uff1c\ufe64\uff1e\ufe65"
	colons       = ":\uff1a\ufe55\ufe13\u2236\ua789"
	minusSign    = '\u2212'
	joiners      = "\u200c\u200d"
)

// cleanSearchValue takes from a value what is syntax wherever it stands, and collapses its white space.
func cleanSearchValue(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' ' // first: line feeds are control characters too, but they separate words
		case strings.ContainsRune(joiners, r):
			return r
		case unicode.In(r, unicode.Cc, unicode.Cf), strings.ContainsRune(doubleQuotes+backslashes+wildcards+comparisons, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return strings.Join(strings.Fields(withinWords(text)), " ")
}

// withinWords drops the joiners that join nothing. Between letters they are spelling, as in Persian names; elsewhere they
// could hide syntax.
func withinWords(text string) string {
	if !strings.ContainsAny(text, joiners) {
		return text
	}
	joined := func(r rune) bool { return unicode.In(r, unicode.L, unicode.M, unicode.So, unicode.Sk) }
	runes := []rune(text)
	kept := runes[:0]
	for i, r := range runes {
		if strings.ContainsRune(joiners, r) && (len(kept) == 0 || !joined(kept[len(kept)-1]) || i+1 == len(runes) || !joined(runes[i+1])) {
			continue
		}
		kept = append(kept, r)
	}
	return string(kept)
}

// searchString writes a query. Text and values go through one scanner, term by term, since whether a value needs quotes
// depends on all of its term.
func (t *Template) searchString(values []value, tooLong *TooLongError) (string, error) {
	var s searchScanner
	for _, p := range t.pieces {
		var err error
		switch {
		case p.reference < 0:
			err = s.addText(p.text)
		case values[p.reference].literal:
			err = s.addText(values[p.reference].text)
		default:
			err = s.addValue(values[p.reference])
		}
		if err != nil {
			return "", err
		}
		if s.out.Len()+len(s.term.text) > tooLong.Limit {
			return "", tooLong
		}
	}
	s.endTerm()
	if s.out.Len() > tooLong.Limit {
		return "", tooLong
	}
	return s.out.String(), nil
}

// searchScanner follows a query as Zendesk reads it: terms are separated by white space outside quotes; a term is an
// optional -, an optional keyword with an operator, and an operand.
type searchScanner struct {
	out    strings.Builder
	quoted bool // inside quotes of the template
	term   searchTerm
}

// searchTerm is the term being written.
type searchTerm struct {
	text     []byte
	operand  int    // where in text the operand begins
	operator bool   // the template has written an operator
	compare  bool   // the operator is < or >
	phrase   bool   // a value or quotes stand at the beginning, so that nothing behind them is an operator
	value    bool   // there is a value
	quote    bool   // there is a value that needs quotes
	unfit    string // a variable so far without operator, whose value cannot be part of a keyword
}

// addText adds text of the template.
func (s *searchScanner) addText(text string) error {
	t := &s.term
	for _, r := range text {
		switch {
		case r == '"', r == '\u201c', r == '\u201d':
			s.quoted = !s.quoted
			t.phrase = t.phrase || !t.operator
			// Curly quotes come from text editors. Straight ones are certain to be quotes for Zendesk.
			t.text = append(t.text, '"')
		case s.quoted:
			t.text = utf8.AppendRune(t.text, r)
		case unicode.IsSpace(r):
			s.endTerm()
			s.out.WriteRune(r)
		default:
			if err := t.addRune(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// addRune adds a character of the template that stands outside quotes and may be syntax.
func (t *searchTerm) addRune(r rune) error {
	begun := len(t.text) > t.operand
	t.text = utf8.AppendRune(t.text, r)
	operator := r == ':' || r == '<' || r == '>'
	switch {
	case r == '-' && !begun && !t.operator:
		t.operand = len(t.text)
	case operator && t.phrase:
		// What a value begins is no keyword: $(a):x must not become status:x.
		t.quote = t.quote || t.value
	case operator && !t.operator, (operator || r == '=') && t.operator && !begun:
		if t.unfit != "" {
			return &CharacterError{Name: t.unfit}
		}
		t.operator = true
		t.compare = t.compare || r != ':' && r != '='
		t.operand = len(t.text)
	}
	return nil
}

// addValue adds a clean value.
func (s *searchScanner) addValue(v value) error {
	t := &s.term
	text := v.text
	if t.compare {
		// A leading - stays: here it is a sign. A leading colon would stretch the operator.
		continued := strings.HasPrefix(text, ":") && len(t.text) == t.operand
		if continued || v.wildcard || strings.ContainsFunc(text, func(r rune) bool { return !isWord(r, ":+.-") }) {
			return &CharacterError{Name: v.name}
		}
	} else {
		text = strings.TrimLeftFunc(text, func(r rune) bool { return unicode.Is(unicode.Pd, r) || r == minusSign || r == ' ' })
		t.quote = t.quote || !s.quoted && strings.ContainsAny(text, " "+colons)
	}
	if !t.operator && !t.phrase {
		if len(t.text) == t.operand {
			t.phrase = true
		} else if t.unfit == "" && (v.wildcard || strings.ContainsFunc(text, func(r rune) bool { return !isWord(r, "_.-") })) {
			t.unfit = v.name
		}
	}
	if v.wildcard && (len(t.text) == 0 || t.text[len(t.text)-1] != '*') {
		t.text = append(t.text, '*')
	}
	t.text = append(t.text, text...)
	t.value = true
	return nil
}

// endTerm writes the term to the query, its operand in quotes if need be, and begins the next.
func (s *searchScanner) endTerm() {
	t := &s.term
	operand := string(t.text[t.operand:])
	switch {
	case t.quote, t.value && !t.operator && isBoolean(operand):
		s.out.Write(t.text[:t.operand])
		s.out.WriteString(`"` + strings.NewReplacer(`"`, "", `\`, "").Replace(operand) + `"`)
	case t.value && s.quoted:
		// The template ends inside quotes. Zendesk may ignore a quote that is not closed, and read the value as syntax.
		s.out.Write(append(t.text, '"'))
	default:
		s.out.Write(t.text)
	}
	s.term = searchTerm{text: t.text[:0]}
}

func isBoolean(word string) bool {
	word = strings.NewReplacer("\u200c", "", "\u200d", "").Replace(word)
	return strings.EqualFold(word, "OR") || strings.EqualFold(word, "AND") || strings.EqualFold(word, "NOT")
}

// isWord reports whether r is an ASCII letter or digit or one of the marks.
func isWord(r rune, marks string) bool {
	return '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || strings.ContainsRune(marks, r)
}
