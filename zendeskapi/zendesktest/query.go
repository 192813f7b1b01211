package zendesktest

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// query is a parsed search: terms that all have to hold, except that terms of
// one keyword stand for each other.
type query struct {
	terms   []term
	orderBy string // of order_by:, empty for relevance
	sort    string // of sort:, "asc" or "desc"
}

// term is one condition of a search.
type term struct {
	keyword string // lower case; empty for a bare word
	op      string // ":", "<", "<=", ">", ">="; empty for a bare word
	value   string
	quoted  bool // what stands in quotes holds no wildcard
	negated bool
	folded  string   // the value as comparisons see it
	words   []string // of the value; patterns when it is wild
}

// read fills in what follows from the value.
func (t *term) read() {
	t.folded = fold(t.value)
	if t.words = words(t.value); t.wild() {
		t.words = wildWords(t.value)
	}
}

// parseQuery reads the search language. Every text is a query: what is no
// syntax is words.
func parseQuery(s string) query {
	var q query
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		if s == "" {
			return q
		}
		var t term
		t, s = parseTerm(s)
		t.read()
		switch {
		case t.keyword == "order_by" && t.op == ":":
			q.orderBy = strings.ToLower(t.value)
		case t.keyword == "sort" && t.op == ":":
			q.sort = strings.ToLower(t.value)
		case t.keyword == "" && len(t.words) == 0:
			// Punctuation alone asks for nothing.
		default:
			q.terms = append(q.terms, t)
		}
	}
}

func parseTerm(s string) (t term, rest string) {
	if after, found := strings.CutPrefix(s, "-"); found {
		t.negated, s = true, after
	}
	name := 0
	for name < len(s) && (isLetter(s[name]) || name > 0 && (s[name] == '_' || '0' <= s[name] && s[name] <= '9')) {
		name++
	}
	if op := operator(s[name:]); name > 0 && op != "" {
		t.keyword, t.op = strings.ToLower(s[:name]), op
		s = s[name+len(op):]
	}
	if strings.HasPrefix(s, `"`) {
		t.quoted = true
		t.value, rest, _ = strings.Cut(s[1:], `"`)
		return t, rest
	}
	end := strings.IndexFunc(s, unicode.IsSpace)
	if end < 0 {
		end = len(s)
	}
	t.value = s[:end]
	return t, s[end:]
}

func isLetter(b byte) bool { return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' }

func operator(s string) string {
	for _, op := range []string{"<=", ">=", ":", "<", ">"} {
		if strings.HasPrefix(s, op) {
			return op
		}
	}
	return ""
}

// clauses are the conditions that all have to hold: single terms, and the
// alternatives that terms of one keyword are. Comparisons are no alternatives:
// two of them make a range. Those about the type are left out.
func (q query) clauses() [][]term {
	var clauses [][]term
	for _, t := range q.terms {
		i := -1
		if t.keyword == "type" {
			continue
		}
		if t.keyword != "" && t.op == ":" && !t.negated {
			i = slices.IndexFunc(clauses, func(c []term) bool {
				return c[0].keyword == t.keyword && c[0].op == ":" && !c[0].negated
			})
		}
		if i < 0 {
			clauses = append(clauses, []term{t})
		} else {
			clauses[i] = append(clauses[i], t)
		}
	}
	return clauses
}

// wild tells whether the value holds a wildcard.
func (t term) wild() bool { return !t.quoted && strings.Contains(t.value, "*") }

// fold brings text into the form that comparisons ignore case and accents in.
func fold(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		plain = plain && s[i] < 0x80
	}
	if plain {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFD.String(s))
}

// words splits text as the index does: at everything but letters, digits and
// underscores.
func words(s string) []string {
	return strings.FieldsFunc(fold(s), func(r rune) bool { return !inWord(r) })
}

// wildWords splits a value with wildcards into the patterns of its words.
func wildWords(s string) []string {
	return strings.FieldsFunc(fold(s), func(r rune) bool { return r != '*' && !inWord(r) })
}

func inWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// glob matches s against a pattern in which * stands for any text.
func glob(pattern, s string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == s
	}
	s, found := strings.CutPrefix(s, first)
	if !found {
		return false
	}
	for {
		var part string
		part, rest, wild = strings.Cut(rest, "*")
		if !wild {
			return strings.HasSuffix(s, part)
		}
		_, s, found = strings.Cut(s, part)
		if !found {
			return false
		}
	}
}

// phrase tells whether the words stand in text one after the other.
func phrase(text, sought []string) bool {
	for i := 0; i+len(sought) <= len(text); i++ {
		match := true
		for j := range sought {
			match = match && text[i+j] == sought[j]
		}
		if match {
			return len(sought) > 0
		}
	}
	return false
}
