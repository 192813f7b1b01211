// Package secret holds credentials so that they do not show: whatever prints, logs or encodes a [Value], or something
// that a Value is part of, gets a placeholder. Reveal is the only way to the text.
//
//	token := secret.New(text)
//	slog.Info("got a token", "token", token) // [redacted]
//	request.Header.Set("Authorization", "Bearer "+token.Reveal())
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Value that holds a text is shown as.
const Redacted = "[redacted]"

// Value holds a secret text. The zero Value holds none.
type Value struct {
	text *string // a pointer: package fmt prints no more than its address where it calls no method, as of unexported fields
}

// New returns a Value that holds a text; the zero Value if it is empty.
func New(text string) Value {
	if text == "" {
		return Value{}
	}
	return Value{&text}
}

// Reveal returns the text; empty if the Value holds none.
func (v Value) Reveal() string {
	if v.text == nil {
		return ""
	}
	return *v.text
}

// IsZero reports whether the Value holds no text.
func (v Value) IsZero() bool { return v.text == nil }

// String returns [Redacted]; empty if the Value holds no text.
func (v Value) String() string {
	if v.IsZero() {
		return ""
	}
	return Redacted
}

// GoString returns what String does.
func (v Value) GoString() string { return v.String() }

// Format implements [fmt.Formatter] for every verb: verbs for numbers, too, must show nothing.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// LogValue implements [slog.LogValuer].
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalText returns what String does, for JSON and other encodings.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
