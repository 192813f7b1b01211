package auth

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

func TestAppendToken(t *testing.T) {
	_, added := newToken(t, Caller{Tenant: "acme", Name: "added", Roles: []Role{Admin}, Expires: inAnHour()})
	existing := line("", "")
	tests := map[string]struct {
		before string
		mode   os.FileMode
		want   int // tokens in the end; -1: refused
	}{
		"empty file":     {"", 0o600, 1},
		"another token":  {existing, 0o600, 2},
		"no line feed":   {strings.TrimSpace(existing), 0o640, 2},
		"comments only":  {"# none yet", 0o600, 1},
		"truncated":      {existing[:30], 0o600, -1},
		"other kind":     {"-----BEGIN PRIVATE KEY-----\n", 0o600, -1},
		"world-readable": {existing, 0o644, -1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "tokens.jsonl"), []byte(test.before), test.mode)
			err := AppendToken(path, added)
			content, readErr := os.ReadFile(path)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if test.want < 0 {
				if err == nil || string(content) != test.before {
					t.Fatalf("error %v, file %q; want an error and the file as it was", err, content)
				}
				return
			}
			got, parseErr := parseTokens(content)
			if err != nil || parseErr != nil || len(got) != test.want || !bytes.HasSuffix(content, added) {
				t.Errorf("errors %v, %v, %d tokens; want %d in:\n%s", err, parseErr, len(got), test.want, content)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != test.mode {
				t.Errorf("mode changed: %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestAppendTokenMakesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	const writers = 16
	var lines [writers][]byte
	for i := range lines {
		_, lines[i] = newToken(t, Caller{Tenant: "acme", Name: fmt.Sprint("writer ", i), Roles: []Role{Admin}, Expires: inAnHour()})
	}
	var done sync.WaitGroup
	for _, line := range lines {
		done.Go(func() {
			if err := AppendToken(path, line); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseTokens(content); err != nil || len(got) != writers {
		t.Errorf("%d tokens, error %v; want %d", len(got), err, writers)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	if err := AppendToken(filepath.Join(t.TempDir(), "none", "x"), lines[0]); err == nil {
		t.Error("a folder that is not there: no error")
	}
}

// A name belongs to one live token of a tenant.
func TestAppendTokenRefusesNameInUse(t *testing.T) {
	later := inAnHour()
	now := later.Add(-time.Hour)
	earlier := now.Add(-time.Hour)
	of := func(tenant, name string, expires time.Time) []byte {
		_, l := newToken(t, Caller{Tenant: tenant, Name: name, Roles: []Role{Ops}, Expires: later})
		return bytes.Replace(l, []byte(later.Format(time.RFC3339)), []byte(expires.Format(time.RFC3339)), 1)
	}
	for name, test := range map[string]struct {
		there   []byte
		refused bool
	}{
		"live":                  {of("acme", "x", later), true},
		"expired":               {of("acme", "x", earlier), false},
		"expires now":           {of("acme", "x", now), false},
		"of another tenant":     {of("beta", "x", later), false},
		"of another name":       {of("acme", "X", later), false},
		"live one of two lines": {append(of("acme", "x", earlier), of("acme", "x", later)...), true},
	} {
		t.Run(name, func(t *testing.T) {
			added, err := extended(test.there, of("acme", "x", later), now)
			if (err != nil) != test.refused || (added == nil) != test.refused {
				t.Errorf("%q, error %v; refused must be %v", added, err, test.refused)
			}
		})
	}
}

// Of many who take the same name at once, one gets it.
func TestAppendTokenSameNameAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	var done sync.WaitGroup
	errs := make(chan error, 16)
	for range cap(errs) {
		_, l := newToken(t, Caller{Tenant: "acme", Name: "x", Roles: []Role{Admin}, Expires: inAnHour()})
		done.Go(func() { errs <- AppendToken(path, l) })
	}
	done.Wait()
	close(errs)
	made := 0
	for err := range errs {
		if err == nil {
			made++
		}
	}
	if callers, err := ListTokens(path); made != 1 || len(callers) != 1 || err != nil {
		t.Errorf("%d were made, %d are there, error %v; want one", made, len(callers), err)
	}
}

// Tokens are revoked while others are made: all that was made and not revoked is there in the end.
func TestRevokeAmidAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	const pairs = 16
	var want []string
	var done sync.WaitGroup
	for i := range pairs {
		_, doomed := newToken(t, Caller{Tenant: "acme", Name: fmt.Sprint("doomed ", i), Roles: []Role{Admin}, Expires: inAnHour()})
		if err := AppendToken(path, doomed); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint("kept ", i))
	}
	for i := range pairs {
		_, kept := newToken(t, Caller{Tenant: "acme", Name: fmt.Sprint("kept ", i), Roles: []Role{Admin}, Expires: inAnHour()})
		done.Go(func() {
			if err := AppendToken(path, kept); err != nil {
				t.Error(err)
			}
		})
		done.Go(func() {
			if revoked, err := RevokeTokens(path, "acme", fmt.Sprint("doomed ", i)); err != nil || len(revoked) != 1 {
				t.Errorf("%v, %v", revoked, err)
			}
		})
	}
	done.Wait()
	callers, err := ListTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range callers {
		names[c.Name] = true
	}
	for _, name := range want {
		if !names[name] {
			t.Errorf("%q is lost", name)
		}
	}
	if len(callers) != pairs {
		t.Errorf("%d tokens, want %d", len(callers), pairs)
	}
}

func TestWithoutTokens(t *testing.T) {
	x, y := line("", ""), strings.Replace(line(`"x"`, `"y"`), someHash, strings.Repeat("0", 64), 1)
	type who struct{ tenant, name string }
	acmeX := who{"acme", "x"}
	for name, test := range map[string]struct {
		content string
		of      who
		rest    string
		removed int
	}{
		"one of two":            {x + y, acmeX, y, 1},
		"the last one":          {x, acmeX, headLines, 1},
		"all but blank lines":   {"\n" + x + " \n", acmeX, headLines, 1},
		"comments stay":         {"# a\n" + x + "\n  # b\n" + y, acmeX, "# a\n\n  # b\n" + y, 1},
		"comments alone stay":   {"# a\n" + x, acmeX, "# a\n", 1},
		"a comment with a line": {"#" + x + x, acmeX, "#" + x, 1},
		"no line feed":          {y + strings.TrimSpace(x), acmeX, y, 1},
		"line feeds of Windows": {"# a\r\n" + strings.Replace(x, "\n", "\r\n", 1) + y, acmeX, "# a\r\n" + y, 1},
		"two of the name":       {x + strings.Replace(x, someHash, strings.Repeat("1", 64), 1) + y, acmeX, y, 2},
		"of another tenant":     {x + line("acme", "beta"), acmeX, line("acme", "beta"), 1},
		"a prefix of the name":  {x, who{"acme", ""}, x, 0},
		"case of the name":      {x, who{"acme", "X"}, x, 0},
		"unfit lines stay":      {"{\n" + x + "text\n" + line("x", "z")[:50] + "\n", acmeX, "{\n" + "text\n" + line("x", "z")[:50] + "\n", 1},
		"unknown field":         {line(`"agent"`, `"agnet"`) + y, acmeX, y, 1},
		"unknown role":          {line("desktop", "root") + y, acmeX, y, 1},
		"time that is none":     {line("2040-01-01T00:00:00Z", "never") + y, acmeX, y, 1},
		"roles before the name": {`{"roles": 1, "expires": {}, "name": "x", "tenant": "acme"}` + "\n" + y, acmeX, y, 1},
		"name of another type":  {line(`"x"`, `["x"]`), acmeX, line(`"x"`, `["x"]`), 0},
		"two in a line":         {strings.TrimSpace(x) + y, acmeX, strings.TrimSpace(x) + y, 0},
		"none":                  {"# none\n", acmeX, "# none\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			rest, removed := withoutTokens([]byte(test.content), test.of.tenant, test.of.name)
			if diff := cmp.Diff(test.rest, string(rest)); diff != "" || len(removed) != test.removed {
				t.Errorf("%d removed, want %d; the rest (-want +got):\n%s", len(removed), test.removed, diff)
			}
		})
	}
}

// Whatever stands in a file, no line goes but those of the name, the others stay as they are and in their order, and what
// is left is never an empty file.
func TestWithoutTokensLosesNothing(t *testing.T) {
	doomed := strings.TrimSpace(line("", ""))
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom([]string{
			doomed, " " + doomed + "\t\r", line(`"x"`, `"y"`), line("acme", "beta"), "# c\n", "\n", "{", "\x00\n", "x\r\n",
		}), rapid.String()), 0, 8).Draw(t, "lines")
		content := strings.Join(lines, rapid.SampledFrom([]string{"", "\n"}).Draw(t, "between"))
		var want string
		for l := range strings.Lines(content) { // not those drawn: one without a line feed goes on in the next
			if strings.Trim(l, " \t\r\n") != doomed { // the white space of JSON
				want += l
			}
		}
		if strings.TrimSpace(want) == "" {
			want = headLines
		}
		rest, _ := withoutTokens([]byte(content), "acme", "x")
		if string(rest) != want {
			t.Errorf("of\n%q\nthere is left\n%q\nwant\n%q", content, rest, want)
		}
	})
}

func TestRevokeTokens(t *testing.T) {
	x, y := line("", ""), strings.Replace(line(`"x"`, `"y"`), someHash, strings.Repeat("0", 64), 1)
	for name, test := range map[string]struct {
		content string
		mode    os.FileMode
		after   string // empty: refused, and as it was
		warned  bool   // of another line
	}{
		"one of two":         {x + y, 0o600, y, false},
		"readable by group":  {x + y, 0o640, y, false},
		"read-only":          {x + y, 0o400, y, false},
		"the only one":       {x, 0o600, headLines, false},
		"beside an unfit":    {x + "{\n", 0o600, "{\n", true},
		"not there":          {y, 0o600, "", true},
		"empty":              {"", 0o600, "", true},
		"readable by others": {x + y, 0o644, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, filepath.Join(dir, "tokens"), []byte(test.content), test.mode)
			write(t, path+".new", []byte("of one that was cut off"), 0o600)
			link := filepath.Join(dir, "link")
			if err := os.Symlink("tokens", link); err != nil {
				t.Fatal(err)
			}
			revoked, err := RevokeTokens(link, "acme", "x")
			if (err != nil) != test.warned || (len(revoked) == 0) != (test.after == "") {
				t.Errorf("revoked %v, error %v", revoked, err)
			}
			want := test.after
			if want == "" {
				want = test.content
			}
			content, readErr := os.ReadFile(path)
			info, statErr := os.Stat(path)
			linked, linkErr := os.Readlink(link)
			if err := errors.Join(readErr, statErr, linkErr); err != nil {
				t.Fatal(err)
			}
			if string(content) != want || info.Mode().Perm() != test.mode || linked != "tokens" {
				t.Errorf("the file has mode %o, the link leads to %q, and the content is\n%s\nwant\n%s", info.Mode().Perm(), linked, content, want)
			}
			if _, err := os.Stat(path + ".new"); test.after != "" && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file is left over: %v", err)
			}
		})
	}
	if _, err := RevokeTokens(filepath.Join(t.TempDir(), "none"), "acme", "x"); err == nil {
		t.Error("a file that is not there: no error")
	}
}

// A server that runs lets the callers of revoked tokens in no more, the last one included.
func TestRevokedTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens")
		token, l := newToken(t, Caller{Tenant: "acme", Name: "x", Roles: []Role{Admin}, Expires: inAnHour()})
		a := open(t, Config{TokenFile: write(t, path, l, 0o600)})
		if _, err := a.Authenticate(bearerOf(token), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := RevokeTokens(path, "acme", "x"); err != nil {
			t.Fatal(err)
		}
		nextLook()
		if _, err := a.Authenticate(bearerOf(token), nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("error %v, want %v", err, ErrUnknown)
		}
	})
}

func TestListTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	x := Caller{Tenant: "acme", Name: "x", Roles: []Role{Desktop}, Agent: "a@b.c", Expires: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), Credential: "token"}
	y := x
	y.Name = "y"
	good := line("", "") + "# c\n\n" + strings.Replace(line(`"x"`, `"y"`), someHash, strings.Repeat("0", 64), 1)
	for content, unfit := range map[string]bool{good: false, "{\n" + good + line("desktop", "root"): true} {
		got, err := ListTokens(write(t, path, []byte(content), 0o600))
		if diff := cmp.Diff([]Caller{x, y}, got); diff != "" || (err != nil) != unfit {
			t.Errorf("error %v, callers (-want +got):\n%s", err, diff)
		}
	}
}
