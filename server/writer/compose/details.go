package compose

import (
	"fmt"
	"net/mail"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// Limits of details, as Validate says.
const (
	maxDetailRunes       = 256
	maxEmailBytes        = 254 // RFC 5321 with erratum 1690
	maxRecordingURLBytes = 2048
	maxNotesBytes        = 64 << 10
)

// Violation is a mistake in details.
type Violation struct {
	Field       string // the request's field path, such as details.end_time
	Description string // for people; a predicate of the field
}

// Validate returns every mistake in the details, in the order of their fields; none when there is none. What is missing is
// no mistake. Notes have at most 64 KiB. All other details are one line without control characters: the recording's
// address, an http or https URL without user name and password, of at most 2,048 bytes; e-mail addresses, without a display
// name, of at most 254; the others of at most 256 characters. The answer comes at or after the start, the end at or after
// both.
func Validate(d store.ActivityDetails) []Violation {
	var found []Violation
	add := func(field, description string) {
		if description != "" {
			found = append(found, Violation{"details." + field, description})
		}
	}
	add("channel", checkLine(d.Channel))
	add("direction", checkLine(d.Direction))
	add("from_address", checkLine(d.FromAddress))
	add("to_address", checkLine(d.ToAddress))
	add("agent.email", checkEmail(d.Agent.Email))
	add("service", checkLine(d.Service))
	add("disposition", checkLine(d.Disposition))
	add("notes", checkNotes(d.Notes))
	if d.RecordingURL != "" {
		add("recording_url", checkURL(d.RecordingURL))
	}
	if before(d.AnswerTime, d.StartTime) {
		add("answer_time", "must not be before start_time")
	}
	switch {
	case before(d.EndTime, d.StartTime):
		add("end_time", "must not be before start_time")
	case before(d.EndTime, d.AnswerTime):
		add("end_time", "must not be before answer_time")
	}
	add("requester.name", checkLine(d.Requester.Name))
	add("requester.email", checkEmail(d.Requester.Email))
	return found
}

// before tells whether both times are known and the first is earlier.
func before(t, u time.Time) bool { return !t.IsZero() && !u.IsZero() && t.Before(u) }

func checkLine(text string) string {
	switch n := utf8.RuneCountInString(text); {
	case n > maxDetailRunes:
		return fmt.Sprintf("has %d characters; at most %d are allowed", n, maxDetailRunes)
	case strings.ContainsFunc(text, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}

func checkNotes(text string) string {
	if len(text) > maxNotesBytes {
		return fmt.Sprintf("has %d bytes; at most %d are allowed", len(text), maxNotesBytes)
	}
	return ""
}

func checkEmail(text string) string {
	if text == "" {
		return ""
	}
	if len(text) > maxEmailBytes {
		return fmt.Sprintf("has %d bytes; at most %d are allowed", len(text), maxEmailBytes)
	}
	if parsed, err := mail.ParseAddress(text); err != nil || parsed.Address != text {
		return "must be an e-mail address such as maria@example.com"
	}
	return ""
}

// notInURL are the printable characters that RFC 3986 allows nowhere in a URL.
const notInURL = "\"<>\\^`{|}"

func checkURL(text string) string {
	if len(text) > maxRecordingURLBytes {
		return fmt.Sprintf("has %d bytes; at most %d are allowed", len(text), maxRecordingURLBytes)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(notInURL, r) }) {
		return "must be an http or https URL, other characters than those of RFC 3986 percent-escaped"
	}
	if u.User != nil {
		return "must not hold a user name or password"
	}
	return ""
}
