package auth

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

func TestTokenAuthenticates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	want := Caller{Tenant: "acme", Name: "Ann's desktop", Roles: []Role{Desktop}, Agent: "ann@acme.com", Expires: inAnHour()}
	written := want
	written.Agent = "Ann@Acme.com"
	token, line := newToken(t, written)
	if !regexp.MustCompile(`^zendeskblocks_[a-z2-7]{52}$`).MatchString(token) {
		t.Errorf("token %q is not of the promised form", token)
	}
	if bytes.Contains(line, []byte(strings.TrimPrefix(token, TokenPrefix))) {
		t.Error("the line holds the token")
	}
	if err := AppendToken(path, line); err != nil {
		t.Fatal(err)
	}
	a := open(t, Config{TokenFile: path})
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
		got, err := a.Authenticate([]string{scheme + token}, nil)
		want.Credential = "token"
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: error %v, caller (-want +got):\n%s", scheme, err, diff)
		}
	}
}

func TestAuthorizationRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	token, line := newToken(t, Caller{Tenant: "acme", Name: "x", Roles: []Role{Admin}, Expires: inAnHour()})
	other, _ := newToken(t, Caller{Tenant: "acme", Name: "x", Roles: []Role{Admin}, Expires: inAnHour()})
	write(t, path, line, 0o600)
	a := open(t, Config{TokenFile: path})
	tests := map[string]struct {
		header []string
		want   error
	}{
		"none":             {nil, ErrNoCredential},
		"empty":            {[]string{""}, ErrMalformed},
		"scheme only":      {[]string{"Bearer"}, ErrMalformed},
		"no token":         {[]string{"Bearer  "}, ErrMalformed},
		"other scheme":     {[]string{"Basic " + token}, ErrMalformed},
		"no scheme":        {[]string{token}, ErrMalformed},
		"two headers":      {[]string{"Bearer " + token, "Bearer " + token}, ErrMalformed},
		"two tokens":       {[]string{"Bearer " + token + ", Bearer " + token}, ErrMalformed},
		"inner space":      {[]string{"Bearer " + token + " " + token}, ErrMalformed},
		"control":          {[]string{"Bearer " + token + "\x00"}, ErrMalformed},
		"huge":             {bearerOf(strings.Repeat("a", maxCredentialBytes+1)), ErrMalformed},
		"not listed":       {bearerOf(other), ErrUnknown},
		"prefix of one":    {bearerOf(token[:len(token)-1]), ErrUnknown},
		"other case":       {bearerOf(strings.ToUpper(token)), ErrUnknown},
		"hash for token":   {bearerOf(regexp.MustCompile(`[0-9a-f]{64}`).FindString(string(line))), ErrUnknown},
		"JWT unconfigured": {bearerOf("a.b.c"), ErrUnknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			caller, err := a.Authenticate(test.header, nil)
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if diff := cmp.Diff(Caller{}, caller); diff != "" {
				t.Errorf("caller: %s", diff)
			}
			for _, h := range test.header {
				if _, credential, _ := strings.Cut(h, " "); len(credential) > 4 && strings.Contains(err.Error(), credential) {
					t.Errorf("error %q holds the credential", err)
				}
			}
		})
	}
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, line := newToken(t, Caller{Tenant: "acme", Name: "x", Roles: []Role{Admin}, Expires: inAnHour()})
		a := open(t, Config{TokenFile: write(t, filepath.Join(t.TempDir(), "t"), line, 0o600)})
		time.Sleep(time.Hour - time.Nanosecond)
		if _, err := a.Authenticate(bearerOf(token), nil); err != nil {
			t.Errorf("just before: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := a.Authenticate(bearerOf(token), nil); !errors.Is(err, ErrExpired) {
			t.Errorf("at the time: %v, want %v", err, ErrExpired)
		}
	})
}

func TestNewTokenRefuses(t *testing.T) {
	good := Caller{Tenant: "acme", Name: "x", Roles: []Role{Admin}, Expires: inAnHour()}
	if _, _, err := NewToken(good); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*Caller){
		"no tenant":            func(c *Caller) { c.Tenant = "" },
		"upper-case tenant":    func(c *Caller) { c.Tenant = "Acme" },
		"long tenant":          func(c *Caller) { c.Tenant = strings.Repeat("a", 64) },
		"tenant of two lines":  func(c *Caller) { c.Tenant = "acme\n" },
		"leading hyphen":       func(c *Caller) { c.Tenant = "-acme" },
		"no name":              func(c *Caller) { c.Name = "" },
		"control in name":      func(c *Caller) { c.Name = "a\nb" },
		"long name":            func(c *Caller) { c.Name = strings.Repeat("a", maxNameBytes+1) },
		"no UTF-8 in name":     func(c *Caller) { c.Name = "\xff" },
		"operator of a tenant": func(c *Caller) { c.Roles = []Role{Operator} },
		"operator and admin":   func(c *Caller) { c.Tenant, c.Roles = "", []Role{Operator, Admin} },
		"operator twice":       func(c *Caller) { c.Tenant, c.Roles = "", []Role{Operator, Operator} },
		"operator with agent":  func(c *Caller) { c.Tenant, c.Roles, c.Agent = "", []Role{Operator}, "ann@acme.com" },
		"no role":              func(c *Caller) { c.Roles = nil },
		"unknown role":         func(c *Caller) { c.Roles = []Role{Admin, "root"} },
		"agent of admin":       func(c *Caller) { c.Agent = "ann@acme.com" },
		"agent no address":     func(c *Caller) { c.Roles, c.Agent = []Role{Desktop}, "ann" },
		"agent with name":      func(c *Caller) { c.Roles, c.Agent = []Role{Desktop}, "Ann <ann@acme.com>" },
		"no expiry":            func(c *Caller) { c.Expires = time.Time{} },
		"expired":              func(c *Caller) { c.Expires = time.Now().Add(-time.Second) },
	}
	operator := Caller{Name: "x", Roles: []Role{Operator}, Expires: inAnHour()}
	if _, _, err := NewToken(operator); err != nil {
		t.Error(err)
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			c := good
			spoil(&c)
			if token, line, err := NewToken(c); err == nil || token != "" || line != nil {
				t.Errorf("token %q, line %q, error %v; want an error alone", token, line, err)
			}
		})
	}
}

const someHash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// line is a line of a token file with one part replaced.
func line(old, replacement string) string {
	good := `{"tenant":"acme","name":"x","roles":["desktop"],"agent":"a@b.c","expires":"2040-01-01T00:00:00Z","sha256":"` + someHash + `"}` + "\n"
	return strings.Replace(good, old, replacement, 1)
}

func TestTokenFileRefused(t *testing.T) {
	tests := map[string]struct {
		content string
		mode    os.FileMode
		want    faultKind
	}{
		"empty":               {"", 0o600, empty},
		"white space":         {" \n\t\n", 0o600, empty},
		"readable by all":     {line("", ""), 0o604, exposed},
		"writable by all":     {line("", ""), 0o602, exposed},
		"writable by group":   {line("", ""), 0o620, exposed},
		"cut line":            {line("", "") + line("", "")[:60], 0o600, truncated},
		"cut in a string":     {line("", "")[:20], 0o600, truncated},
		"cut before agent":    {line("", "")[:strings.Index(line("", ""), `,"agent"`)], 0o600, truncated},
		"PEM":                 {"-----BEGIN PRIVATE KEY-----\n", 0o600, invalid},
		"binary":              {"\x00\x01\x02", 0o600, invalid},
		"array":               {"[]", 0o600, invalid},
		"null":                {"null", 0o600, invalid},
		"two objects":         {strings.TrimSpace(line("", "")) + line("", ""), 0o600, invalid},
		"the same hash twice": {line("", "") + line("acme", "evil"), 0o600, invalid},
		"unknown field":       {line(`"agent"`, `"agnet"`), 0o600, invalid},
		"name in upper case":  {line(`"roles"`, `"Roles"`), 0o600, invalid},
		"tenant twice":        {line(`"tenant"`, `"tenant":"evil","tenant"`), 0o600, invalid},
		"tenant and Tenant":   {line(`"tenant"`, `"Tenant":"evil","tenant"`), 0o600, invalid},
		"cut amid":            {line("", "")[:60] + "\n" + line("", ""), 0o600, invalid},
		"role a string":       {line(`["desktop"]`, `"desktop"`), 0o600, invalid},
		"unknown role":        {line("desktop", "root"), 0o600, invalid},
		"no roles":            {line(`"desktop"`, ""), 0o600, invalid},
		"bad tenant":          {line("acme", "ACME"), 0o600, invalid},
		"expiry no time":      {line("2040-01-01T00:00:00Z", "never"), 0o600, invalid},
		"no expiry":           {line(`"expires":"2040-01-01T00:00:00Z",`, ""), 0o600, invalid},
		"short hash":          {line(someHash, someHash[2:]), 0o600, invalid},
		"hash no hex":         {line(someHash, "canary-secret"), 0o600, invalid},
		"too large":           {line("", "") + strings.Repeat("#", trustedfile.MaxBytes), 0o600, unreadable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "tokens.jsonl"), []byte(test.content), test.mode)
			checkRefused(t, Config{TokenFile: path}, path, test.want)
		})
	}
}

// checkRefused sees to it that a configuration is refused with one line that names the file.
func checkRefused(t *testing.T, c Config, path string, want faultKind) {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	a, err := Open(c)
	unfit, ok := errors.AsType[*fault](err)
	if !ok || a != nil || unfit.kind != want {
		t.Fatalf("Open: %v, %v; want a fault of kind %d", a, err, want)
	}
	text := err.Error()
	if strings.Count(text, fmt.Sprintf("%q", path)) != 1 || strings.Contains(text, "\n") || strings.Contains(text, "canary") {
		t.Errorf("error %q is no sentence that names the file once and keeps its content to itself", text)
	}
}

func TestFileOfTheWrongKind(t *testing.T) {
	folder := t.TempDir()
	loop := filepath.Join(folder, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	regular := write(t, filepath.Join(folder, "file"), []byte("x"), 0o600)
	for path, want := range map[string]faultKind{
		filepath.Join(folder, "none"): missing,
		folder:                        unreadable,
		loop:                          unreadable,
		filepath.Join(regular, "x"):   unreadable,
		os.DevNull:                    unreadable,
	} {
		checkRefused(t, Config{TokenFile: path}, path, want)
	}
	if os.Geteuid() != 0 { // root may read everything
		path := write(t, filepath.Join(folder, "locked"), []byte("x"), 0)
		checkRefused(t, Config{TokenFile: path}, path, unreadable)
	}
}

func TestTokenFileReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.jsonl")
		first, firstLine := newToken(t, Caller{Tenant: "acme", Name: "first", Roles: []Role{Admin}, Expires: inAnHour()})
		second, secondLine := newToken(t, Caller{Tenant: "acme", Name: "second", Roles: []Role{Ops}, Expires: inAnHour()})
		write(t, path, firstLine, 0o600)
		var log logLines
		a := open(t, Config{TokenFile: path, Log: log.logger()})
		errs, infos := 0, 0
		steps := []struct {
			name          string
			change        func()
			first, second error
			errs, infos   int // lines that the log grows by
		}{
			{"appended", func() {
				if err := AppendToken(path, secondLine); err != nil {
					t.Fatal(err)
				}
			}, nil, nil, 0, 1},
			{"nothing new", func() {}, nil, nil, 0, 0},
			{"truncated", func() { write(t, path, firstLine[:40], 0o600) }, nil, nil, 1, 0},
			{"still truncated", func() {}, nil, nil, 0, 0},
			{"emptied", func() { write(t, path, nil, 0o600) }, nil, nil, 1, 0},
			{"removed", func() {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}, nil, nil, 1, 0},
			{"readable by all", func() { write(t, path, secondLine, 0o644) }, ErrUnknown, nil, 1, 0},
			{"made fit", func() { write(t, path, secondLine, 0o600) }, ErrUnknown, nil, 0, 1},
			{"damaged", func() { write(t, path, []byte("{}"), 0o600) }, ErrUnknown, ErrUnknown, 1, 0},
			{"as it was", func() { write(t, path, secondLine, 0o600) }, ErrUnknown, nil, 0, 1},
			{"same size", func() { write(t, path, bytes.Replace(secondLine, []byte("second"), []byte("dnoces"), 1), 0o600) }, ErrUnknown, nil, 0, 1},
			{"beside an unfit line", func() { write(t, path, append([]byte("{}\n"), secondLine...), 0o600) }, ErrUnknown, ErrUnknown, 1, 0},
			{"fit", func() { write(t, path, append(firstLine, secondLine...), 0o600) }, nil, nil, 0, 1},
			{"both beside an unfit line", func() { write(t, path, append([]byte("{}\n"), append(firstLine, secondLine...)...), 0o600) }, nil, nil, 1, 0},
			{"one beside an unfit line", func() { write(t, path, append([]byte("{}\n"), secondLine...), 0o600) }, ErrUnknown, nil, 0, 0},
			{"fit again", func() { write(t, path, append(firstLine, secondLine...), 0o600) }, nil, nil, 0, 1},
			{"all revoked", func() { write(t, path, []byte("# nobody\n"), 0o600) }, ErrUnknown, ErrUnknown, 0, 1},
		}
		for _, step := range steps {
			step.change()
			nextLook()
			for token, want := range map[string]error{first: step.first, second: step.second} {
				if _, err := a.Authenticate(bearerOf(token), nil); !errors.Is(err, want) {
					t.Errorf("%s: error %v, want %v", step.name, err, want)
				}
			}
			errs, infos = errs+step.errs, infos+step.infos
			if gotErrs, gotInfos := log.count(slog.LevelError), log.count(slog.LevelInfo); gotErrs != errs || gotInfos != infos {
				t.Errorf("%s: %d errors and %d infos logged by now, want %d and %d", step.name, gotErrs, gotInfos, errs, infos)
			}
		}
		a.Close()
		write(t, path, firstLine, 0o600)
		nextLook()
		if _, err := a.Authenticate(bearerOf(first), nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("after Close: error %v, want %v", err, ErrUnknown)
		}
	})
}

// Kubernetes mounts tokens.jsonl -> ..data/tokens.jsonl, ..data -> a folder per version, and renames ..data over.
func TestTokenFileFollowsSwappedLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		publish := func(version string, content []byte) {
			t.Helper()
			if err := os.Mkdir(filepath.Join(folder, version), 0o700); err != nil {
				t.Fatal(err)
			}
			path := write(t, filepath.Join(folder, version, "tokens.jsonl"), content, 0o440)
			old := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // each version claims the same time
			if err := errors.Join(os.Chtimes(path, old, old),
				os.Symlink(version, filepath.Join(folder, "..new")),
				os.Rename(filepath.Join(folder, "..new"), filepath.Join(folder, "..data"))); err != nil {
				t.Fatal(err)
			}
		}
		first, firstLine := newToken(t, Caller{Tenant: "acme", Name: "a", Roles: []Role{Admin}, Expires: inAnHour()})
		second, secondLine := newToken(t, Caller{Tenant: "acme", Name: "b", Roles: []Role{Admin}, Expires: inAnHour()})
		publish("v1", firstLine)
		path := filepath.Join(folder, "tokens.jsonl")
		if err := os.Symlink("..data/tokens.jsonl", path); err != nil {
			t.Fatal(err)
		}
		a := open(t, Config{TokenFile: path})
		publish("v2", secondLine)
		nextLook()
		if _, err := a.Authenticate(bearerOf(first), nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("old token: error %v, want %v", err, ErrUnknown)
		}
		if _, err := a.Authenticate(bearerOf(second), nil); err != nil {
			t.Errorf("new token: %v", err)
		}
	})
}

func FuzzTokenFile(f *testing.F) {
	f.Add([]byte(line("", "")))
	f.Add([]byte("# comment\n\n" + line("acme", "b") + line(someHash, strings.ToUpper(someHash))))
	f.Add([]byte(line("", "")[:50]))
	f.Fuzz(func(t *testing.T, content []byte) {
		found, err := parseTokens(content)
		if err != nil {
			if _, ok := errors.AsType[*fault](err); !ok {
				t.Errorf("error %v is no fault", err)
			}
			return
		}
		for _, c := range found {
			if err := c.normalize(); err != nil || c.Expires.IsZero() {
				t.Errorf("accepted %+v: %v", c, err)
			}
		}
	})
}
