package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDemo(t *testing.T) {
	for name, test := range map[string]struct {
		args     []string
		has      []string
		lacks    []string
		maxLines int
	}{
		"in short": {
			[]string{"demo"},
			[]string{
				"NEXT  Maria Lopez, +1 513-555-7611, phone; grade: EXACT; requests: 1", "NEXT  created: true, new_ticket=46", "The pop: ticket 46",
				"│ Inbound call from ", "│ Waited 12 s, on hold 35 s, talked 4 min 13 s, wrapped up in 40 s", "│ Subject: Card terminal", "│ Status: Completed",
				"Audit ", "private comment", "custom fields (3)", "All 14 steps did what they should", "pages at http://127.0.0.1:50090",
			},
			[]string{"EXIT_NEXT", "\x1b", "{"}, 60,
		},
		"verbose": {
			[]string{"demo", "--verbose"},
			[]string{"Maria Lopez", "EXIT_NEXT", "CHECK_OUTCOME_OK", `"plain_body"`, `"agent_id"`, "All 14 steps did what they should"},
			[]string{"\x1b"}, 1000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := runCommand(t, map[string]string{"TERM": "xterm"}, test.args...)
			if err != nil || stderr != "" {
				t.Fatalf("%v\n%s", err, stderr)
			}
			for _, want := range test.has {
				if !strings.Contains(stdout, want) {
					t.Errorf("it lacks %q:\n%s", want, stdout)
				}
			}
			for _, secret := range append(test.lacks, "sandbox-admin-api-token", "sandbox-client-secret") {
				if strings.Contains(stdout, secret) {
					t.Errorf("it shows %q:\n%s", secret, stdout)
				}
			}
			if lines := strings.Count(stdout, "\n"); lines > test.maxLines {
				t.Errorf("it has %d lines:\n%s", lines, stdout)
			}
			for line := range strings.Lines(stdout) {
				if width := utf8.RuneCountInString(line) - 1; name == "in short" && width > 80 {
					t.Errorf("%d columns: %s", width, line)
				}
			}
		})
	}
}

func TestHasColours(t *testing.T) {
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as a terminal is
	must(t, err)
	defer func() { must(t, device.Close()) }()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	defer func() { must(t, file.Close()) }()
	xterm := environment{"TERM": "xterm"}
	for name, test := range map[string]struct{ got, want bool }{
		"terminal":            {hasColours(device, xterm), true},
		"NO_COLOR":            {hasColours(device, environment{"TERM": "xterm", "NO_COLOR": "1"}), false},
		"empty NO_COLOR":      {hasColours(device, environment{"TERM": "xterm", "NO_COLOR": ""}), true},
		"dumb terminal":       {hasColours(device, environment{"TERM": "dumb"}), false},
		"terminal of no kind": {hasColours(device, environment{}), false},
		"file":                {hasColours(file, xterm), false},
		"buffer":              {hasColours(&bytes.Buffer{}, xterm), false},
	} {
		if test.got != test.want {
			t.Errorf("%s: %v", name, test.got)
		}
	}
	if got := (&transcript{colours: true}).good("x"); got != "\x1b[32mx\x1b[0m" {
		t.Errorf("%q", got)
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"one two", "one two"},
		{"one two three", "one two\nthree"},
		{"12345678901 x", "12345678901\nx"},
		{"éééé ééééé x", "éééé ééééé\nx"},
		{"a\n\nb  c", "a\n\nb c"},
	} {
		if got := wrap(test.text, 10); got != test.want {
			t.Errorf("%q is %q, want %q", test.text, got, test.want)
		}
	}
}
