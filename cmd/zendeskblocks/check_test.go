package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// runCheck runs serve --check.
func runCheck(t *testing.T, env map[string]string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return runCommand(t, env, append([]string{"serve", "--check"}, args...)...)
}

// Everything that is wrong is told at once, also what a start would find only later, and nothing is made.
func TestCheckTellsAll(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(t.TempDir(), "key")
	writeKey(t, key)
	other := startService(t)
	other.stop(t)
	damaged := writeFile(t, filepath.Join(dir, "damaged.db"), strings.Repeat("text\n", 4096), 0o600)
	notKey := writeFile(t, filepath.Join(dir, "not.key"), "{}", 0o600)
	before := filesIn(t, dir)
	for name, test := range map[string]struct {
		env   map[string]string
		args  []string
		named []string
	}{
		"another data file's key": {nil, []string{"--data", other.dataFile(), "--key-file", key}, []string{"written under another key, "}},
		"damaged":                 {nil, []string{"--data", damaged, "--key-file", key}, []string{damaged}},
		"no key":                  {nil, []string{"--data", damaged}, []string{"it is missing"}},
		"no keyset":               {map[string]string{keysetVariable: "SECRET"}, []string{"--data", filepath.Join(dir, "x.db")}, []string{keysetVariable}},
		"a folder":                {nil, []string{"--data", dir, "--key-file", key}, []string{dir}},
		"everything": {
			map[string]string{"ZENDESKBLOCKS_TIMEOUT": "0s"},
			[]string{"--listen", "192.0.2.1:50051", "--insecure", "--data", filepath.Join(dir, "none", "x.db"), "--key-file", notKey, "--audit-log", filepath.Join(dir, "neither", "audit"),
				"--token-file", filepath.Join(dir, "tokens"), "--allow-host", "a b"},
			[]string{"--timeout", "--listen: ", "not.key", `neither"`, "tokens", `"a b"`},
		},
		"values that cannot be read": {nil, []string{"--timeout", "x", "--data", damaged, "--key-file", key}, []string{"--timeout", damaged}},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, err := runCheck(t, test.env, append([]string{"--listen", "127.0.0.1:0"}, test.args...)...)
			told := reasons(err)
			if err == nil || len(told) != len(test.named) || strings.Contains(stderr, "SECRET") || strings.Count(stderr, "\n") != len(test.named) {
				t.Errorf("%d problems, want %d:\n%s", len(told), len(test.named), stderr)
			}
			for _, part := range test.named {
				if !slices.ContainsFunc(told, func(e error) bool { return strings.Contains(e.Error(), part) }) {
					t.Errorf("no problem says %q:\n%s", part, stderr)
				}
			}
			for line := range strings.Lines(stderr) {
				if !strings.HasPrefix(line, "zendeskblocks: ") {
					t.Errorf("a problem is a line of a log: %s", line)
				}
			}
		})
	}
	for path, content := range filesIn(t, dir) {
		if before[path] != content {
			t.Errorf("%s was made or changed", path)
		}
	}
}

// Beside the server that runs, its configuration is fine: what could not be looked into is said.
func TestCheckBesideTheServer(t *testing.T) {
	s := startService(t)
	address := <-s.address
	s.address <- address
	_, stderr, err := runCheck(t, nil, "--listen", address, "--data", s.dataFile())
	if err != nil || strings.Count(stderr, "warning: ") != 2 || !strings.Contains(stderr, "in use, as it is while the server runs") || !strings.Contains(stderr, "was not looked into") {
		t.Errorf("%v\n%s", err, stderr)
	}
	s.stop(t)
	if _, stderr, err := runCheck(t, nil, "--listen", "127.0.0.1:0", "--data", s.dataFile()); err != nil || stderr != "" {
		t.Errorf("stopped: %v\n%s", err, stderr)
	}
}

// What is in force is told in order, without secrets; its digest depends on the values, and on nothing else.
func TestCheckSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	key := filepath.Join(t.TempDir(), "key")
	writeKey(t, key)
	keyset, err := os.ReadFile(key)
	must(t, err)
	digest := func(env map[string]string, args ...string) string {
		t.Helper()
		stdout, stderr, err := runCheck(t, env, append([]string{"--listen", "127.0.0.1:0"}, args...)...)
		if err != nil || stderr != "" {
			t.Fatalf("%v\n%s", err, stderr)
		}
		lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
		last := len(lines) - 1
		if !slices.IsSorted(lines[:last]) || len(lines) < 30 {
			t.Errorf("not in order:\n%s", stdout)
		}
		for _, line := range lines[:last] {
			if !regexp.MustCompile(`^[a-z-]+ = .*  \((flag|variable ZENDESKBLOCKS_[A-Z_]+|default)\)$`).MatchString(line) {
				t.Errorf("the line %q", line)
			}
		}
		if strings.Contains(stdout, "primaryKeyId") {
			t.Errorf("the keyset is shown:\n%s", stdout)
		}
		return lines[last]
	}
	base := digest(nil)
	if got := digest(map[string]string{"ZENDESKBLOCKS_TIMEOUT": "3000ms", "ZENDESKBLOCKS_INTERACTION_LIFE": "168h"}, "--max-stored", "20480MiB"); got != base {
		t.Errorf("the same values have other digests: %s, %s", base, got)
	}
	if got := digest(nil, "--timeout", "4s"); got == base {
		t.Error("other values have the same digest")
	}
	withKeyset := digest(map[string]string{keysetVariable: string(keyset)})
	if withKeyset == base {
		t.Error("a keyset is not told")
	}
	if names := filesIn(t, "."); len(names) > 0 {
		t.Errorf("files were made: %v", names)
	}

	stdout, _, err := runCheck(t, nil, "--listen", "127.0.0.1:0", "--json", "--timeout", "0s")
	var said struct {
		Settings []setting
		Digest   string
		Warnings []string
		Problems []string
	}
	if json.Unmarshal([]byte(stdout), &said) != nil || err == nil || len(said.Settings) < 30 || len(said.Digest) != 64 || len(said.Warnings) != 0 || len(said.Problems) != 1 {
		t.Errorf("%v: %s", err, stdout)
	}
	if stdout, _, err := runCheck(t, nil, "--listen", "127.0.0.1:0", "--json"); err != nil || json.Unmarshal([]byte(stdout), &said) != nil || len(said.Problems) != 0 || "digest = "+said.Digest != base {
		t.Errorf("%v: %s", err, stdout)
	}
}
