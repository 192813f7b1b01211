package zendeskapi

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

const (
	redacted    = "[redacted]"
	minRedacted = 6
)

// Secret holds a text that must not be shown. No formatting verb, encoder or logger prints it, wherever it is embedded;
// Reveal is the only way to it. The zero value holds the empty text.
type Secret struct {
	// A pointer, because fmt calls no method on unexported fields: of a pointer it prints the address.
	text *string
}

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text: &text} }

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Format implements [fmt.Formatter] for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// redact takes the secret out of a text that came from outside: some gateways echo the request. A very short one is left:
// it may be a part of any word.
func (s Secret) redact(text string) string {
	if len(s.Reveal()) < minRedacted {
		return text
	}
	return strings.ReplaceAll(text, s.Reveal(), redacted)
}

// MarshalText keeps the text out of JSON and other encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Credential is what a Client authenticates with. The zero value is none.
type Credential struct {
	username string // of an API token; empty with an OAuth access token
	secret   Secret
}

// APITokenCredential authenticates as username, the e-mail address of a Zendesk user, with an API token (HTTP Basic,
// username "{username}/token"). https://developer.zendesk.com/api-reference/introduction/security-and-auth/#api-token
func APITokenCredential(username string, token Secret) Credential {
	return Credential{username: username, secret: token}
}

// BearerCredential authenticates with an OAuth access token.
// https://developer.zendesk.com/api-reference/introduction/security-and-auth/#oauth-access-token
func BearerCredential(accessToken Secret) Credential { return Credential{secret: accessToken} }

func (c Credential) none() bool { return c.secret.Reveal() == "" }

func (c Credential) authenticate(r *http.Request) {
	if c.username == "" {
		r.Header.Set("Authorization", "Bearer "+c.secret.Reveal())
		return
	}
	r.SetBasicAuth(c.username+"/token", c.secret.Reveal())
}

// redact takes the credential out of a text that came from outside, in both forms it is sent in.
func (c Credential) redact(text string) string {
	basic := NewSecret(base64.StdEncoding.EncodeToString([]byte(c.username + "/token:" + c.secret.Reveal())))
	return c.secret.redact(basic.redact(text))
}
