package compose

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// maxSubjectBytes keeps a subject on one line of an agent's list.
const maxSubjectBytes = 150

// Subject is the subject of a ticket that is created for the interaction: that of the details, or one such as "Call from Maria
// Lopez on 24 Nov 2026". It is one line of at most 150 bytes, never empty.
func Subject(d store.ActivityDetails) string {
	if subject := oneLine(d.Subject); subject != "" {
		return clip(inert(subject), maxSubjectBytes)
	}
	customer, preposition := d.FromAddress, " from "
	if direction(d.Direction) == outbound {
		customer, preposition = d.ToAddress, " to "
	}
	subject := capital(noun(d.Channel))
	for _, who := range []string{part(d.Requester.Name), address(customer), part(d.Requester.Email), address(d.Requester.Phone)} {
		if who != "" {
			subject += preposition + who
			break
		}
	}
	on := ""
	for _, t := range []time.Time{d.StartTime, d.AnswerTime, d.EndTime} {
		if !t.IsZero() {
			on = " on " + t.UTC().Format(dayLayout)
			break
		}
	}
	return clip(inert(subject), maxSubjectBytes-len(on)) + on
}

// inert breaks what Zendesk would take for a placeholder. A subject is plain text.
func inert(text string) string {
	for _, opened := range []string{"{{", "{{", "{%"} { // of several braces every second one at first
		text = strings.ReplaceAll(text, opened, opened[:1]+joiner+opened[1:])
	}
	return text
}

// headline says what it was and who had it with whom.
func headline(d store.ActivityDetails) string {
	what := noun(d.Channel)
	if way := direction(d.Direction); way != "" {
		what = way + " " + what
	}
	from, to := address(d.FromAddress), address(d.ToAddress)
	if direction(d.Direction) == outbound {
		to = person(d, to)
	} else {
		from = person(d, from)
	}
	line := capital(what)
	if from != "" {
		line += " from " + from
	}
	if to != "" {
		line += " to " + to
	}
	return line
}

// person is the customer, at an address, with all that is known.
func person(d store.ActivityDetails, at string) string {
	var known []string
	for _, text := range []string{part(d.Requester.Name), at, part(d.Requester.Email), address(d.Requester.Phone)} {
		if text != "" && !slices.ContainsFunc(known, func(other string) bool { return strings.EqualFold(other, text) }) {
			known = append(known, text)
		}
	}
	if len(known) < 2 {
		return strings.Join(known, "")
	}
	return known[0] + " (" + strings.Join(known[1:], ", ") + ")"
}

var e164 = regexp.MustCompile(`^\+[0-9]{7,15}$`)

// address groups the digits of an international phone number, for people. Everything else stays as it is.
func address(text string) string {
	text = part(text)
	if e164.MatchString(text) {
		if number, err := phonenumbers.Parse(text, ""); err == nil {
			return phonenumbers.Format(number, phonenumbers.INTERNATIONAL)
		}
	}
	return text
}

// nouns of well-known channels. Others are called by their name.
var nouns = map[string]string{
	"": "interaction", "voice": "call", "phone": "call", "call": "call", "video": "video call", "callback": "callback",
	"chat": "chat", "sms": "SMS", "email": "e-mail", "e-mail": "e-mail",
}

func noun(channel string) string {
	channel = part(channel)
	if known, ok := nouns[fold(channel)]; ok {
		return known
	}
	return named(channel)
}

// isSpoken tells whether people talk on the channel.
func isSpoken(channel string) bool {
	n := noun(channel)
	return n == "call" || n == "video call" || n == "callback"
}

const outbound = "outbound" // the contact centre began it

// directions are the well-known ones. Others are called by their name.
var directions = map[string]string{
	"inbound": "inbound", "incoming": "inbound", "outbound": outbound, "outgoing": outbound, "internal": "internal",
}

func direction(text string) string {
	text = part(text)
	if known, ok := directions[fold(text)]; ok {
		return known
	}
	return named(text)
}

// named is a word that begins the first line: without colons, which would make a label of it.
func named(text string) string { return oneLine(strings.ReplaceAll(text, ":", " ")) }

func capital(text string) string {
	if text == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}
