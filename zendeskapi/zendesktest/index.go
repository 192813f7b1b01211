package zendesktest

import (
	"cmp"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// document is what the index holds of one record.
type document struct {
	kind       string // ticket, user, organization, group
	id         int64
	created    time.Time
	updated    time.Time
	text       texts // what bare words are looked for in
	properties map[string]property
}

// property is one thing a keyword can ask for.
type property interface {
	// match tells whether the property meets the term.
	match(t term, s *searching) bool
	// empty tells that the record has no value for it.
	empty() bool
}

func (d *document) match(t term, s *searching) bool {
	if t.keyword == "" {
		return d.text.match(t, s)
	}
	p, found := d.property(t.keyword)
	switch {
	case !found:
		return false
	case !t.quoted && t.op == ":" && t.value == "none":
		return p.empty()
	case !t.quoted && t.op == ":" && (t.value == "*" || t.value == ""):
		// Nothing behind the colon asks for everything that has a value.
		return !p.empty()
	}
	return !p.empty() && p.match(t, s)
}

// property looks up what a keyword asks for. The second result is false when
// records of this kind have no such thing.
func (d *document) property(keyword string) (property, bool) {
	p, found := d.properties[keyword]
	if !found && d.kind == "ticket" && strings.HasPrefix(keyword, customKeyword) {
		return exact{}, true // all tickets have all fields; empty ones are not kept
	}
	return p, found
}

// customKeyword is what the keyword of a custom field starts with.
const customKeyword = "custom_field_"

// exact is compared whole, without regard to case: ids, e-mail addresses, tags.
type exact []string

func exactly(values ...string) exact {
	var e exact
	for _, v := range values {
		if v != "" {
			e = append(e, fold(v))
		}
	}
	return e
}

func (e exact) empty() bool { return len(e) == 0 }

func (e exact) match(t term, _ *searching) bool {
	if t.op != ":" {
		return false
	}
	return slices.ContainsFunc(e, func(v string) bool { return v == t.folded || t.wild() && glob(t.folded, v) })
}

// texts are fields of running text, as their words.
type texts [][]string

func textOf(values ...string) texts {
	var list texts
	for _, v := range values {
		if w := words(v); len(w) > 0 {
			list = append(list, w)
		}
	}
	return list
}

func (x texts) empty() bool { return len(x) == 0 }

func (x texts) match(t term, _ *searching) bool {
	if t.op != ":" && t.op != "" {
		return false
	}
	matches := func(text []string) bool { return phrase(text, t.words) }
	if t.wild() {
		// A wildcard reaches no further than a word.
		matches = func(text []string) bool { return globPhrase(text, t.words) }
	}
	return slices.ContainsFunc(x, matches)
}

func globPhrase(text, patterns []string) bool {
	for i := 0; i+len(patterns) <= len(text); i++ {
		match := true
		for j := range patterns {
			match = match && glob(patterns[j], text[i+j])
		}
		if match {
			return len(patterns) > 0
		}
	}
	return false
}

// phones are compared by their digits alone.
type phones []string

func phonesOf(numbers ...string) phones {
	var list phones
	for _, n := range numbers {
		whole := digits(n)
		if whole == "" {
			continue
		}
		list = append(list, whole)
		// The number itself is found too when an extension stands behind it.
		if number := digits(withoutExtension(n)); number != whole {
			list = append(list, number)
		}
	}
	return list
}

// withoutExtension ends a number where something else follows its digits: a
// letter, or one of the signs that extensions are dialled with.
func withoutExtension(n string) string {
	begun := false
	for i, r := range n {
		if begun && (unicode.IsLetter(r) || strings.ContainsRune("#;,", r)) {
			return n[:i]
		}
		begun = begun || '0' <= r && r <= '9'
	}
	return n
}

// shortestNumber is how many digits in running text are taken for a telephone
// number.
const shortestNumber = 7

var numberInText = regexp.MustCompile(`\d[\d\s().\-/]*\d`)

// numbersIn are the telephone numbers in running text, as their digits.
func numbersIn(text string) []string {
	var numbers []string
	for _, n := range numberInText.FindAllString(text, -1) {
		if n = digits(n); len(n) >= shortestNumber {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// profiled is the value of a profile's field: found whole, or by its words.
type profiled struct {
	exact
	words texts
}

func (p profiled) match(t term, s *searching) bool {
	return p.exact.match(t, s) || t.op == ":" && p.words.match(t, s)
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

func (p phones) empty() bool { return len(p) == 0 }

func (p phones) match(t term, _ *searching) bool {
	if t.op != ":" {
		return false
	}
	return slices.ContainsFunc(p, func(number string) bool {
		return number == t.value || t.wild() && glob(t.value, number)
	})
}

// rank is a value of an ordered list.
type rank struct {
	order []string
	value string
}

var (
	statuses   = []string{"new", "open", "pending", "hold", "solved", "closed"}
	priorities = []string{"low", "normal", "high", "urgent"}
)

func (r rank) empty() bool { return r.value == "" }

func (r rank) match(t term, _ *searching) bool {
	sought := slices.Index(r.order, t.folded)
	return sought >= 0 && compares(t.op, cmp.Compare(slices.Index(r.order, r.value), sought))
}

// moment is a point in time; the zero one is absent.
type moment time.Time

func (m moment) empty() bool { return time.Time(m).IsZero() }

func (m moment) match(t term, s *searching) bool {
	from, to, ok := interval(t.value, s.now)
	if !ok {
		return false
	}
	at := time.Time(m)
	switch t.op {
	case ":":
		return !at.Before(from) && at.Before(to)
	case "<":
		return at.Before(from)
	case "<=":
		return at.Before(to)
	case ">":
		return !at.Before(to)
	}
	return !at.Before(from)
}

// interval reads a date, a time, or a span of time before now ("4hours"). It
// ends where the next day, second or instant starts.
func interval(value string, now time.Time) (from, to time.Time, ok bool) {
	today := now.Truncate(24 * time.Hour)
	switch v := strings.ToLower(value); v {
	case "today":
		return today, today.AddDate(0, 0, 1), true
	case "yesterday":
		return today.AddDate(0, 0, -1), today, true
	}
	for _, layout := range []string{time.DateOnly, "2006-01", "2006"} {
		if at, err := time.Parse(layout, value); err == nil {
			switch layout {
			case "2006":
				return at, at.AddDate(1, 0, 0), true
			case "2006-01":
				return at, at.AddDate(0, 1, 0), true
			}
			return at, at.AddDate(0, 0, 1), true
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if at, err := time.Parse(layout, value); err == nil {
			return at, at.Add(time.Second), true
		}
	}
	number := strings.TrimRightFunc(value, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > 1e6 {
		return time.Time{}, time.Time{}, false
	}
	switch strings.TrimSuffix(strings.ToLower(value[len(number):]), "s") {
	case "minute":
		from = now.Add(-time.Duration(n) * time.Minute)
	case "hour":
		from = now.Add(-time.Duration(n) * time.Hour)
	case "day":
		from = now.AddDate(0, 0, -n)
	case "week":
		from = now.AddDate(0, 0, -7*n)
	case "month":
		from = now.AddDate(0, -n, 0)
	case "year":
		from = now.AddDate(-n, 0, 0)
	default:
		return time.Time{}, time.Time{}, false
	}
	return from, from.Add(time.Second), true
}

// number is a numeric value, as its text; the empty one is absent.
type number string

func (n number) empty() bool { return n == "" }

func (n number) match(t term, _ *searching) bool {
	value, fine := decimal(string(n))
	sought, alsoFine := decimal(t.value)
	return fine && alsoFine && compares(t.op, value.Cmp(sought))
}

// decimal reads a plain number: no fraction bar, no exponent to blow it up.
func decimal(s string) (*big.Rat, bool) {
	if s == "" || len(s) > 100 || strings.Trim(s, "+-.0123456789") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// compares tells whether the result of a comparison meets an operator.
func compares(op string, c int) bool {
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	}
	return c == 0
}

// reference points to users, organizations or groups, as [searching.named]
// resolves them.
type reference struct {
	kind string
	ids  []int64
}

func referTo(kind string, ids ...*int64) reference {
	r := reference{kind: kind}
	for _, id := range ids {
		if id != nil {
			r.ids = append(r.ids, *id)
		}
	}
	return r
}

func (r reference) empty() bool { return len(r.ids) == 0 }

func (r reference) match(t term, s *searching) bool {
	if t.op != ":" {
		return false
	}
	named := s.named(r.kind, t)
	return slices.ContainsFunc(r.ids, func(id int64) bool { return named[id] })
}
