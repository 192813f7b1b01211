package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// net/http quotes what a server sends without being asked.
func TestLibraryLinesQuoteNothing(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	line := `Unsolicited response received on idle HTTP channel starting with "canary"; err=<nil>`
	if n, err := (libraryLines{}).Write([]byte(line)); n != len(line) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if !strings.Contains(out.String(), "Unsolicited response") || strings.Contains(out.String(), "canary") {
		t.Errorf("logged %s", out.String())
	}
}
