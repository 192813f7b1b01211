package main

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// flagsOfServe are those that a configuration file is read for.
func flagsOfServe(t testing.TB) []*kong.Flag {
	t.Helper()
	parser, err := kong.New(&commandLine{}, kong.Vars{"version": ""})
	must(t, err)
	for _, node := range parser.Model.Children {
		if node.Name == "serve" {
			return node.Flags
		}
	}
	t.Fatal("there is no serve")
	return nil
}

func TestParseConfig(t *testing.T) {
	flags := flagsOfServe(t)
	for name, test := range map[string]struct {
		text     string
		values   map[string]any
		problems []string // parts of them, in order
	}{
		"empty":        {"", map[string]any{}, nil},
		"comments":     {"# nothing\n---\n", map[string]any{}, nil},
		"an empty map": {"{}", map[string]any{}, nil},
		"all kinds": {
			"listen: 127.0.0.1:1\nmax-accounts: 0x10\nsandbox: true\nallow-host: [a, \"b:*\"]\ntimeout: 3s\njwt-issuer: 2026-11-26\nmax-stored: 20GiB\n",
			map[string]any{
				"listen": "127.0.0.1:1", "max-accounts": "0x10", "sandbox": "true", "allow-host": []any{"a", "b:*"}, "timeout": "3s",
				"jwt-issuer": "2026-11-26", "max-stored": "20GiB",
			}, nil,
		},
		"one of a list":   {"allow-host: a", map[string]any{"allow-host": "a"}, nil},
		"an empty text":   {`token-file: ""`, map[string]any{"token-file": ""}, nil},
		"a quoted switch": {`jwt-issuer: "true"`, map[string]any{"jwt-issuer": "true"}, nil},
		"unknown":         {"\nlisen: x\nkey_file: y\nnothing-like-it-at-all: z\n", map[string]any{}, []string{`c.yaml:2: unknown key "lisen", did you mean "listen"?`, `c.yaml:3: unknown key "key_file", did you mean "key-file"?`, `c.yaml:4: unknown key "nothing-like-it-at-all"`}},
		"with dashes":     {"--listen: x", map[string]any{}, []string{`did you mean "listen"?`}},
		"twice":           {"timeout: 3s\nlisten: x\ntimeout: 4s\n", map[string]any{"timeout": "3s", "listen": "x"}, []string{"c.yaml:3: timeout is set before, at c.yaml:1"}},
		"flags only":      {"config: x\ncheck: true\njson: true", map[string]any{}, []string{`:1: "config"`, `:2: "check"`, `:3: "json"`}},
		"keyset":          {"keyset: SECRET", map[string]any{}, []string{"c.yaml:1: a keyset does not stand in a file"}},
		"types": {
			"listen: [a]\nsandbox: maybe\ntoken-file: true\nmax-accounts:\nallow-host: {a: b}\ninsecure: 1\ndata: !!binary aGk=\nallow-host-x: 1\n",
			map[string]any{},
			[]string{":1: listen: takes one value", ":2: sandbox: takes true or false", ":3: token-file: takes FILE", ":4: max-accounts: has no value", ":5: allow-host: takes a single", ":6: insecure: takes true", ":7: data: takes a text", ":8: unknown key"},
		},
		"list in a list":    {"allow-host: [[a]]", map[string]any{}, []string{"a list in a list"}},
		"alias":             {"jwt-issuer: &a x\njwt-audience: *a\n", map[string]any{"jwt-issuer": "x"}, []string{"c.yaml:2: jwt-audience: an alias"}},
		"key that is a map": {"{a: b}: c", map[string]any{}, []string{"c.yaml:1: a key must be a word"}},
		"a list":            {"- listen", map[string]any{}, []string{"c.yaml:1: the file must be a mapping"}},
		"a text":            {"listen", map[string]any{}, []string{"the file must be a mapping"}},
		"two documents":     {"timeout: 3s\n---\ntimeout: 4s\n", map[string]any{"timeout": "3s"}, []string{"c.yaml:2: a second document"}},
		"no YAML":           {"timeout: 3s\n  listen: x\n", map[string]any{}, []string{"c.yaml:2: not readable as YAML"}},
		"no text at all":    {"\x00\xff", map[string]any{}, []string{"not readable as YAML"}},
	} {
		file, problems := parseConfig("c.yaml", []byte(test.text), flags)
		if !reflect.DeepEqual(file.values, test.values) {
			t.Errorf("%s: values %q, want %q", name, file.values, test.values)
		}
		if len(problems) != len(test.problems) {
			t.Errorf("%s: problems %q, want %q", name, problems, test.problems)
			continue
		}
		for i, problem := range problems {
			if said := problem.Error(); !strings.Contains(said, test.problems[i]) || strings.Contains(said, "SECRET") || strings.Contains(said, "\n") {
				t.Errorf("%s: %s, want %q", name, said, test.problems[i])
			}
		}
	}
}

// Whatever stands in a file, each of its settings is one that a flag takes, and each problem is a line.
func FuzzParseConfig(f *testing.F) {
	flags := flagsOfServe(f)
	for _, seed := range []string{"", "listen: x", "allow-host: [a, b]\n---\n", "? [a]\n: b", "a: &a [*a]", "timeout: !!int 3\ntimeout: 4", "\"a\\nb\": c"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, problems := parseConfig("c.yaml", text, flags)
		for name, value := range file.values {
			at := slices.IndexFunc(flags, func(flag *kong.Flag) bool { return flag.Name == name })
			if _, list := value.([]any); at < 0 || list && !flags[at].IsSlice() || slices.Contains(asked, name) {
				t.Errorf("%q is set to %q", name, value)
			}
		}
		for _, problem := range problems {
			if strings.ContainsAny(problem.Error(), "\n\x1b") {
				t.Errorf("the problem is more than a line: %q", problem)
			}
		}
	})
}

// Flags go before variables, and variables before the file; problems of all three are told at once.
func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "serve.yaml"),
		"listen: 127.0.0.1:0\ndata: "+filepath.Join(dir, "file.db")+"\ntimeout: 4s\nblock-cap: 9s\nmax-accounts: 7\nallow-host: [127.0.0.1:*, localhost:*]\n", 0o644)
	env := map[string]string{"ZENDESKBLOCKS_CONFIG": file, "ZENDESKBLOCKS_TIMEOUT": "5s", "ZENDESKBLOCKS_BLOCK_CAP": "", "ZENDESKBLOCKS_MAX_ACCOUNTS": "8"}
	stdout, stderr, err := runCommand(t, env, "serve", "--check", "--max-accounts", "9")
	if err != nil || stderr != "" {
		t.Fatalf("%v, %s", err, stderr)
	}
	for _, want := range []string{
		"timeout = 5s  (variable ZENDESKBLOCKS_TIMEOUT)", "max-accounts = 9  (flag)", "block-cap = 9s  (file " + file + ":4)",
		"allow-host = 127.0.0.1:*,localhost:*  (file " + file + ":6)", "deliver-timeout = 5s  (default)",
		"key-file = " + filepath.Join(dir, "file.db.key") + "  (default)",
	} {
		if !strings.Contains("\n"+stdout, "\n"+want+"\n") {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}

	p := startProgram(t, "serve", "--config", file, "--drain-delay", "0s")
	digest := p.await(t, p.stderr, `msg=serving address=\S+ data=`+filepath.Join(dir, "file.db")+` .*config_digest=([0-9a-f]{64})`)
	checked, _, err := runCommand(t, nil, "serve", "--check", "--config", file, "--drain-delay", "0s")
	if err != nil || !strings.HasSuffix(checked, "digest = "+digest+"\n") {
		t.Errorf("the server's digest is %s, and the check says %v\n%s", digest, err, checked)
	}

	for name, test := range map[string]struct {
		text  string
		env   map[string]string
		args  []string
		named []string
	}{
		"no file": {"", nil, []string{"--config", filepath.Join(dir, "none")}, []string{"does not exist"}},
		"all at once": {"lisen: x\ntimeout: 3\nblock-cap: -1s\n", map[string]string{"ZENDESKBLOCKS_DELIVER_TIMEOUT": "long", "ZENDESKBLOCKS_LISTN": "x"}, []string{"--drain-timeout", "x", "--bogus"},
			[]string{"bad.yaml:1: unknown key", "bad.yaml:2: timeout: ", "--block-cap must be more", "--block-timeout 3s", "ZENDESKBLOCKS_DELIVER_TIMEOUT", "ZENDESKBLOCKS_LISTN", "--drain-timeout", "--bogus"}},
		"not one of": {"log-format: xml\n", nil, nil, []string{"log-format"}},
		"overridden": {"timeout: 3\nmax-accounts: x\n", map[string]string{"ZENDESKBLOCKS_TIMEOUT": "4"}, []string{"--max-accounts", "y"}, []string{"ZENDESKBLOCKS_TIMEOUT", "--max-accounts"}},
	} {
		bad := writeFile(t, filepath.Join(dir, "bad.yaml"), test.text, 0o644)
		args := test.args
		if !slices.Contains(args, "--config") {
			args = append([]string{"--config", bad}, args...)
		}
		_, stderr, err := runCommand(t, test.env, append([]string{"serve"}, args...)...)
		told := reasons(err)
		if err == nil || len(told) != len(test.named) {
			t.Errorf("%s: %d problems, want %d:\n%s", name, len(told), len(test.named), stderr)
		}
		for _, part := range test.named {
			if !slices.ContainsFunc(told, func(e error) bool { return strings.Contains(e.Error(), part) }) {
				t.Errorf("%s: no problem says %q:\n%s", name, part, stderr)
			}
		}
	}
	exposed := writeFile(t, filepath.Join(dir, "exposed.yaml"), "timeout: 3s\n", 0o666)
	if _, _, err := runCommand(t, nil, "serve", "--check", "--config", exposed); err == nil {
		t.Error("a file that everyone may change is taken")
	}
	asJSON := writeFile(t, filepath.Join(dir, "json.yaml"), "log-format: json\ntimeout: 0s\n", 0o644)
	if _, stderr, err := runCommand(t, nil, "serve", "--config", asJSON); err == nil || len(jsonLines(t, stderr)) != 1 {
		t.Errorf("the problem is not told in the format of the file: %v\n%s", err, stderr)
	}
}

// Other commands take nothing from the file: their flags of the same names mean what they say.
func TestConfigFileIsOfServe(t *testing.T) {
	env := map[string]string{"ZENDESKBLOCKS_CONFIG": filepath.Join(t.TempDir(), "none")}
	if _, stderr, err := runCommand(t, env, "version"); err != nil {
		t.Errorf("%v: %s", err, stderr)
	}
}

func TestWordsOfSettings(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "data.db": "data.db", "127.0.0.1:50051": "127.0.0.1:50051", "acme=*.example:1": "acme=*.example:1",
		"https://a.example/keys":          "https://a.example/keys",
		"https://user:SECRET@a.example/":  "https://redacted@a.example/",
		"https://a.example/?token=SECRET": "https://a.example/?redacted",
		"https://SECRET@a.example:x/":     "(an address that cannot be read)",
	} {
		if got := withoutSecrets(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	for value, want := range map[fmt.Stringer]string{
		lifetime(7 * day): "7d", lifetime(day / 2): "12h0m0s", lifetime(0): "0s", lifetime(day + 1): "24h0m0.000000001s",
		byteSize(0): "0", byteSize(1): "1", byteSize(20 << 30): "20GiB", byteSize(1536 << 10): "1536KiB", byteSize(1 << 50): "1024TiB",
	} {
		if got := value.String(); got != want {
			t.Errorf("%T %d is %q, want %q", value, value, got, want)
		}
	}
}
