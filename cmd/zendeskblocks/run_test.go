package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	bolt "go.etcd.io/bbolt"
)

// runCommand runs a command line that is expected to end by itself.
func runCommand(t testing.TB, env map[string]string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, log bytes.Buffer
	err = run(ctx, args, environOf(env), &out, &log)
	return out.String(), log.String(), err
}

// environOf words variables as os.Environ does. Many services run in tests at a time, and only those that say so have listeners for
// browsers and for those who run them.
func environOf(env map[string]string) (environ []string) {
	for _, listener := range []string{"admin-listen", "web-listen"} {
		if _, ok := env[envName(listener)]; !ok {
			environ = append(environ, envName(listener)+"="+off)
		}
	}
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	return environ
}

// A data file that cannot be used is refused with one sentence, and stays as it is.
func TestServeRefusesDataFile(t *testing.T) {
	foreign := func(t *testing.T, path string) {
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("somebody else's"))
			return err
		})
		if err != nil || db.Close() != nil {
			t.Fatal(err)
		}
	}
	for name, prepare := range map[string]func(t *testing.T, path string){
		"not a database": func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("text\n"), 4096), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"another program's": foreign,
		"locked": func(t *testing.T, path string) {
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data.db")
			prepare(t, path)
			before := checksum(t, path)
			// The key of another data file: without it, the missing key would be the reason.
			key := filepath.Join(t.TempDir(), "key")
			writeKey(t, key)
			_, _, err := runCommand(t, nil, "serve", "--listen", "127.0.0.1:0", "--data", path, "--key-file", key)
			if err == nil {
				t.Fatal("serve started")
			}
			if message := err.Error(); !strings.Contains(message, path) || strings.Contains(message, "\n") {
				t.Errorf("the error is not one sentence that names the file: %s", message)
			}
			if checksum(t, path) != before {
				t.Error("the file was changed")
			}
		})
	}
}

// writeKey makes a key file, as the first start of a server does.
func writeKey(t testing.TB, path string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := run(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "other.db"), "--key-file", path},
		environOf(nil), &bytes.Buffer{}, &bytes.Buffer{})
	if _, statErr := os.Stat(path); statErr != nil {
		t.Fatalf("no key was made: %v, %v", statErr, err)
	}
}

func checksum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(content)
}

// TestConfigurationOfTheGuide compares the operator's guide's table with the flags.
func TestConfigurationOfTheGuide(t *testing.T) {
	guide := readGuide(t, operatorGuide)
	var cli commandLine
	parser, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| `(ZENDESKBLOCKS_[A-Z_]+)` \\| (.*?) \\|").FindAllStringSubmatch(guide, -1) {
		if row[2] != envName(row[1]) {
			t.Errorf("--%s: the guide names the variable %s, it is %s", row[1], row[2], envName(row[1]))
		}
		documented[row[1]] = strings.Trim(row[3], "`")
	}
	for _, node := range parser.Model.Children {
		if node.Name != "serve" {
			continue
		}
		for _, flag := range node.Flags {
			value, ok := documented[flag.Name]
			if !ok {
				t.Errorf("--%s is not in the guide", flag.Name)
			} else if value != flag.Default {
				t.Errorf("--%s: the guide says its default is %q, it is %q", flag.Name, value, flag.Default)
			}
			delete(documented, flag.Name)
		}
	}
	for name := range documented {
		t.Errorf("--%s is in the guide, and no flag", name)
	}
}
