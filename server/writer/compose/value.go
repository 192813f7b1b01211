package compose

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Limits of values. What Zendesk refuses costs the whole update, so they are on the safe side.
const (
	maxTextBytes     = 64 << 10
	maxDecimalDigits = 19
	maxPatternBytes  = 256 // longer patterns, and longer values of a regexp field, Zendesk alone judges: they could cost seconds
	maxMatchedBytes  = 1 << 10
)

const cardType = "partialcreditcard"

// reject is a rejection that only another value would cure.
func reject(reason string) *rejection { return &rejection{reason: reason} }

// coerce turns a value into what the field's type takes, as Compose says.
func coerce(f *zendeskapi.TicketField, value string) (any, *rejection) {
	text := oneLine(value)
	if text == "" {
		return nil, reject("value is blank")
	}
	switch f.Type {
	case "text":
		return checkLength(text)
	case "textarea":
		return checkLength(multiLine(value))
	case "regexp":
		return checkPattern(text, f.Pattern)
	case "tagger":
		return option(f.Options, text)
	case "multiselect":
		return options(f.Options, value)
	case "checkbox":
		return checkbox(text)
	case "date":
		return date(text)
	case "integer":
		return integer(text)
	case "decimal":
		return decimal(text)
	case cardType:
		return lastDigits(text)
	case "lookup":
		return recordID(text)
	}
	return nil, reject("fields of this type take no attached data")
}

func checkLength(text string) (any, *rejection) {
	if len(text) > maxTextBytes {
		return nil, reject("value has more than " + strconv.Itoa(maxTextBytes) + " bytes")
	}
	return text, nil
}

// rubyOnly finds what Ruby, which Zendesk matches with, and Go both compile and read differently: POSIX classes (all of
// Unicode in Ruby), sets within sets, word boundaries, an open lower bound of a repetition, quoted stretches.
var rubyOnly = regexp.MustCompile(`\[[^\]]*(?:\[|&&)|\\[bBQ]|\{,`)

// checkPattern refuses what Zendesk would: it matches anywhere in the value, unless the pattern says otherwise.
func checkPattern(text, pattern string) (any, *rejection) {
	if len(text) <= maxMatchedBytes && len(pattern) <= maxPatternBytes && !rubyOnly.MatchString(pattern) {
		if re, err := regexp.Compile(pattern); err == nil && !re.MatchString(text) {
			return nil, &rejection{reason: "value does not match the field's pattern", curable: true}
		}
	}
	return checkLength(text)
}

const nesting = "::" // between the levels of an option's name

// optionIndex finds options by what a person may call them, the most exact way first: the value as it is, the value, the
// whole name, its last part.
type optionIndex [4]map[string][]string

func newOptionIndex(options []zendeskapi.TicketFieldOption) optionIndex {
	var x optionIndex
	for i := range x {
		x[i] = make(map[string][]string, len(options))
	}
	for _, o := range options {
		name := foldName(o.Name)
		for i, called := range []string{o.Value, foldName(o.Value), name, lastPart(name)} {
			if called != "" && o.Value != "" && !slices.Contains(x[i][called], o.Value) {
				x[i][called] = append(x[i][called], o.Value)
			}
		}
	}
	return x
}

// find returns the value of the option that a text means.
func (x optionIndex) find(text string) (string, *rejection) {
	folded := foldName(text)
	for i, called := range []string{text, folded, folded, folded} {
		switch found := x[i][called]; {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return "", &rejection{reason: "several options of the field have this name", curable: true}
		}
	}
	return "", &rejection{reason: "value is no option of the field", curable: true}
}

func option(of []zendeskapi.TicketFieldOption, text string) (any, *rejection) {
	value, why := newOptionIndex(of).find(text)
	if why != nil {
		return nil, why
	}
	return value, nil
}

// foldName is fold for names with levels; spaces around a level do not count.
func foldName(name string) string {
	levels := strings.Split(name, nesting)
	for i, level := range levels {
		levels[i] = fold(level)
	}
	return strings.Join(levels, nesting)
}

func lastPart(name string) string {
	return name[strings.LastIndex(nesting+name, nesting):]
}

// options finds several options. A line is tried as a whole first: names may hold commas. It is all of them or none, since
// what is written replaces what the field held.
func options(of []zendeskapi.TicketFieldOption, list string) (any, *rejection) {
	index := newOptionIndex(of)
	var found []string
	for line := range strings.SplitSeq(multiLine(list), "\n") {
		if value, why := index.find(oneLine(line)); why == nil {
			found = append(found, value)
			continue
		}
		for item := range strings.SplitSeq(line, ",") {
			if item = oneLine(item); item == "" {
				continue
			}
			value, why := index.find(item)
			if why != nil {
				return nil, &rejection{reason: "not every item of the list is the name of one option of the field", curable: true}
			}
			found = append(found, value)
		}
	}
	if len(found) == 0 {
		return nil, reject("value is an empty list")
	}
	return distinct(found), nil
}

// distinct keeps the first of equal texts.
func distinct(texts []string) []string {
	seen := make(map[string]bool, len(texts))
	return slices.DeleteFunc(texts, func(text string) bool {
		again := seen[text]
		seen[text] = true
		return again
	})
}

var (
	yes = []string{"true", "yes", "y", "on", "1", "checked"}
	no  = []string{"false", "no", "n", "off", "0", "unchecked"}
)

func checkbox(text string) (any, *rejection) {
	text = fold(text)
	switch {
	case slices.Contains(yes, text):
		return true, nil
	case slices.Contains(no, text):
		return false, nil
	}
	return nil, reject("value is neither yes nor no")
}

// dateLayouts have the year first or the month in letters: in others nobody knows the day from the month.
var dateLayouts = []string{
	time.DateOnly, "2006/01/02", "20060102",
	time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04",
	"2 Jan 2006", "2 January 2006", "2-Jan-2006", "Jan 2, 2006", "January 2, 2006", "Jan 2 2006", "January 2 2006",
}

func date(text string) (any, *rejection) {
	for _, layout := range dateLayouts {
		if day, err := time.Parse(layout, text); err == nil && day.Year() > 0 {
			return day.Format(time.DateOnly), nil
		}
	}
	return nil, reject("value is no date such as 2026-11-24")
}

func integer(text string) (any, *rejection) {
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		return nil, reject("value is no whole number of plain digits, of at most 64 bits")
	}
	return text, nil
}

var decimals = regexp.MustCompile(`^([-+]?)([0-9]*)(?:([.,])([0-9]+))?$`)

// decimal keeps the digits as they are. 12,50 can only be a decimal comma; 1,234 can be either, and is refused.
func decimal(text string) (any, *rejection) {
	parts := decimals.FindStringSubmatch(text)
	if parts == nil {
		return nil, reject("value is no number such as 1234.5")
	}
	sign, whole, point, fraction := parts[1], parts[2], parts[3], parts[4]
	switch digits := len(whole) + len(fraction); {
	case digits == 0:
		return nil, reject("value is no number such as 1234.5")
	case digits > maxDecimalDigits:
		return nil, reject("value has more than " + strconv.Itoa(maxDecimalDigits) + " digits")
	case point == "," && len(fraction) == 3:
		return nil, reject("value's comma may group thousands; write a decimal point")
	case point == "":
		return sign + whole, nil
	}
	if whole == "" {
		whole = "0"
	}
	return sign + whole + "." + fraction, nil
}

var (
	cards    = regexp.MustCompile(`^(?:[0-9Xx*•]{4,15})?[0-9]{4}$`)
	cardMask = strings.Repeat("X", 12)
)

// lastDigits masks a card number, so that the whole one never leaves; Zendesk keeps no more of it.
func lastDigits(text string) (any, *rejection) {
	digits := strings.NewReplacer(" ", "", "-", "").Replace(text)
	if !cards.MatchString(digits) {
		return nil, reject("value is no card number, nor the last four digits of one")
	}
	return cardMask + digits[len(digits)-4:], nil
}

func recordID(text string) (any, *rejection) {
	if id, err := strconv.ParseInt(text, 10, 64); err != nil || id <= 0 || text[0] == '+' {
		return nil, reject("value is no record's id")
	}
	return text, nil
}
