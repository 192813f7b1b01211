package zendeskapi

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What the other side says may repeat what it was sent, in whatever form. Nothing of it is handed on but by the functions
// of this file, which take the account's secrets out before anything is cut.

const (
	maxBodyTextBytes = 64 << 10
	maxDetailRunes   = 500
	maxCodeRunes     = 100
	maxLineBytes     = 16 << 10 // of a text that a line is made of
	maxWarnings      = 20
)

// teller makes one line of a text from outside that may be told: without secrets, control and invisible formatting
// characters, of at most n characters.
type teller func(text string, n int) string

// tell is the client's teller.
func (c *Client) tell(text string, n int) string {
	return oneLine(c.secrets().Prefix(text, maxLineBytes), n)
}

func oneLine(text string, n int) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.C, r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	runes := []rune(strings.Join(strings.Fields(clean), " "))
	if len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return string(runes)
}

// tellAll tells what can be told of each text.
func (c *Client) tellAll(texts []string) []string {
	var told []string
	for _, text := range texts {
		told = append(told, c.tell(text, maxDetailRunes))
	}
	return told
}

// tellBody is a body as valid UTF-8, at most 64 KiB, cut on a character boundary.
func (c *Client) tellBody(body []byte) string {
	return utf8Prefix(c.secrets().Prefix(string(body[:min(len(body), headBytes)]), maxBodyTextBytes))
}

func utf8Prefix(text string) string {
	// Cut before and after: making it valid can lengthen it.
	text = strings.ToValidUTF8(text[:min(len(text), maxBodyTextBytes+utf8.UTFMax)], "\uFFFD")
	if len(text) <= maxBodyTextBytes {
		return text
	}
	end := maxBodyTextBytes
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// tellUser tells what can be told of a user.
func (c *Client) tellUser(user User) User {
	user.Name, user.Email, user.Role = c.tell(user.Name, maxDetailRunes), c.tell(user.Email, maxDetailRunes), c.tell(user.Role, maxCodeRunes)
	return user
}

// tellRecord takes the secrets out of a record, if there are any. It fails when that leaves no JSON.
func (c *Client) tellRecord(record json.RawMessage) (json.RawMessage, error) {
	secrets := c.secrets()
	if !secrets.In(record) {
		return record, nil
	}
	told := secrets.Text(string(record))
	if !json.Valid([]byte(told)) {
		return nil, errRepeats
	}
	return json.RawMessage(told), nil
}

// requestIDs is what ids of requests look like: Zendesk's are UUIDs, those of gateways vary.
var requestIDs = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// requestID is the answer's id, if it is one.
func (c *Client) requestID(header http.Header) string {
	id := header.Get("X-Request-Id")
	if !requestIDs.MatchString(id) || c.secrets().Holds(id) {
		return ""
	}
	return id
}

// warnings are what Zendesk warns of in the header of an answer.
func (c *Client) warnings(header http.Header) []string {
	warnings := header.Values("X-Zendesk-Api-Warn")
	return c.tellAll(warnings[:min(len(warnings), maxWarnings)])
}
