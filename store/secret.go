package store

// Secret holds a credential. It never shows what it holds: not when it is printed, logged or encoded. The zero Secret
// holds none.
type Secret struct{ value *string } // a pointer: package fmt prints no more than its address, wherever the Secret is nested

const redacted = "[redacted]"

// NewSecret returns a Secret that holds value; the zero Secret if value is empty.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// Reveal returns what the secret holds; empty if it holds nothing.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether the secret holds nothing.
func (s Secret) IsZero() bool { return s.value == nil }

// String returns a placeholder.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// MarshalText returns a placeholder, for JSON and for logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
