package compose

import (
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// Limits of details, as Fit says.
const (
	maxDetailRunes = 256
	maxEmailBytes  = 254 // RFC 5321 with erratum 1690
	maxURLBytes    = 2048
	maxNotesBytes  = 64 << 10
	maxLinks       = 20
	maxLegs        = 50
)

// Fit cuts details to what can be stored, so that it shows: notes and transcript to 64 KiB each, addresses of the web to 2,048
// bytes, all others to 256 characters; 20 links and 50 legs are kept. Nothing is refused: what is odd stands in the comment as
// it is.
func Fit(d store.ActivityDetails) store.ActivityDetails {
	if more := len(d.Links) - maxLinks; more > 0 {
		d.Links, d.Remark = d.Links[:maxLinks], remark(d.Remark, fmt.Sprintf("links left out: %d", more))
	}
	if more := len(d.Legs) - maxLegs; more > 0 {
		d.Legs, d.Remark = d.Legs[:maxLegs], remark(d.Remark, fmt.Sprintf("legs left out: %d", more))
	}
	d.Links, d.Legs = slices.Clone(d.Links), slices.Clone(d.Legs)
	texts := []*string{
		&d.Subject, &d.Channel, &d.Direction, &d.FromAddress, &d.ToAddress, &d.Agent.Email, &d.Agent.ZendeskUserID, &d.Service, &d.Disposition,
		&d.Requester.Name, &d.Requester.Email, &d.Requester.Phone, &d.Remark,
	}
	for i := range d.Legs {
		texts = append(texts, &d.Legs[i].Agent.Email, &d.Legs[i].Agent.ZendeskUserID)
	}
	for i := range d.Links {
		texts = append(texts, &d.Links[i].Title)
		d.Links[i].URL = clip(d.Links[i].URL, maxURLBytes)
	}
	for _, text := range texts {
		*text = clipRunes(*text, maxDetailRunes)
	}
	d.Notes, d.Transcript, d.RecordingURL = clip(d.Notes, maxNotesBytes), clip(d.Transcript, maxNotesBytes), clip(d.RecordingURL, maxURLBytes)
	return d
}

// remark adds to a remark.
func remark(said, more string) string { return strings.TrimPrefix(said+"; "+more, "; ") }

// clipRunes cuts a text to at most n characters, mark included.
func clipRunes(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-utf8.RuneCountInString(cutMark)]) + cutMark
}

// before tells whether both times are known and the first is earlier.
func before(t, u time.Time) bool { return !t.IsZero() && !u.IsZero() && t.Before(u) }

// isEmail tells a plain e-mail address, without a display name.
func isEmail(text string) bool {
	parsed, err := mail.ParseAddress(text)
	return len(text) <= maxEmailBytes && err == nil && parsed.Address == text
}

// notInURL are the printable characters that RFC 3986 allows nowhere in a URL.
const notInURL = "\"<>\\^`{|}"

// isURL tells an http or https URL, all but the characters of RFC 3986 percent-escaped, without user name and password.
func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= maxURLBytes && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		!strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(notInURL, r) })
}
