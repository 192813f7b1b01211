package rpc

import (
	"crypto/rand"
	"strings"
)

// NewID returns a random id: lower-case letters and digits, starting with a letter, with 128 bits of chance.
func NewID() string { return "x" + strings.ToLower(rand.Text()) }
