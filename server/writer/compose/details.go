package compose

import (
	"net/mail"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// Limits of details, as Fit says.
const (
	maxDetailRunes       = 256
	maxEmailBytes        = 254 // RFC 5321 with erratum 1690
	maxRecordingURLBytes = 2048
	maxNotesBytes        = 64 << 10
)

// Fit cuts details to what can be stored, so that it shows: notes to 64 KiB, the recording's address to 2,048 bytes, all
// others to 256 characters. Nothing is refused: what is odd stands in the comment as it is.
func Fit(d store.ActivityDetails) store.ActivityDetails {
	for _, text := range []*string{
		&d.Channel, &d.Direction, &d.FromAddress, &d.ToAddress, &d.Agent.Email, &d.Agent.ZendeskUserID, &d.Service, &d.Disposition,
		&d.Requester.Name, &d.Requester.Email, &d.Remark,
	} {
		*text = clipRunes(*text, maxDetailRunes)
	}
	d.Notes, d.RecordingURL = clip(d.Notes, maxNotesBytes), clip(d.RecordingURL, maxRecordingURLBytes)
	return d
}

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
	return err == nil && len(text) <= maxRecordingURLBytes && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		!strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(notInURL, r) })
}
