package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestUnknownVariables(t *testing.T) {
	known := []string{"ZENDESKBLOCKS_LISTEN", "ZENDESKBLOCKS_LOG_FORMAT", "ZENDESKBLOCKS_TLS_CERT", "ZENDESKBLOCKS_TIMEOUT", "ZENDESKBLOCKS_KEYSET", "ZENDESKBLOCKS_KEY", "ZENDESKBLOCKS_KEY_FILE"}
	for variable, want := range map[string]string{ // "": fine; "?": refused without a suggestion; else with this one
		"PATH=/bin":                                         "",
		"zendeskblocks_listen=x":                            "",
		"MY_ZENDESKBLOCKS_LISTEN=x":                         "",
		"ZENDESKBLOCKS=x":                                   "",
		"ZENDESKBLOCKS_LISTEN=x":                            "",
		"ZENDESKBLOCKS_KEYSET={}":                           "",
		"ZENDESKBLOCKS_LISTEN=":                             "",
		"ZENDESKBLOCKS_=x":                                  "?",
		"ZENDESKBLOCKS_VERSION=1":                           "?",
		"ZENDESKBLOCKS_HELP=1":                              "?",
		"ZENDESKBLOCKS_LISTN=x":                             "ZENDESKBLOCKS_LISTEN",
		"ZENDESKBLOCKS_LISTN=":                              "ZENDESKBLOCKS_LISTEN",
		"ZENDESKBLOCKS_listen=x":                            "?",
		"ZENDESKBLOCKS_LOGFORMAT=x":                         "ZENDESKBLOCKS_LOG_FORMAT",
		"ZENDESKBLOCKS_LOG-FORMAT=x":                        "ZENDESKBLOCKS_LOG_FORMAT",
		"ZENDESKBLOCKS_TLS_CERT_FILE=x":                     "ZENDESKBLOCKS_TLS_CERT",
		"ZENDESKBLOCKS_TIMEOUT_SECONDS=3":                   "ZENDESKBLOCKS_TIMEOUT",
		"ZENDESKBLOCKS_KEYFILE=x":                           "ZENDESKBLOCKS_KEY_FILE",
		"ZENDESKBLOCKS_KEYSETS=secret":                      "ZENDESKBLOCKS_KEYSET",
		"ZENDESKBLOCKS_NOTHING_LIKE_IT=x":                   "?",
		"ZENDESKBLOCKS_SERVICE_HOST=10.1.2.3":               "", // these are Kubernetes'
		"ZENDESKBLOCKS_SERVICE_PORT=50051":                  "",
		"ZENDESKBLOCKS_SERVICE_PORT_GRPC=50051":             "",
		"ZENDESKBLOCKS_PORT=tcp://10.1.2.3:50051":           "",
		"ZENDESKBLOCKS_PORT_50051_TCP=tcp://10.1.2.3:50051": "",
		"ZENDESKBLOCKS_PORT_50051_TCP_ADDR=10.1.2.3":        "",
		"ZENDESKBLOCKS_GRPC_SERVICE_HOST=10.1.2.3":          "",
		"ZENDESKBLOCKS_GRPC_PORT_50051_TCP_PROTO=tcp":       "",
		"ZENDESKBLOCKS_PORT=50051":                          "?",
		"ZENDESKBLOCKS_LISTEN_PORT=50051":                   "ZENDESKBLOCKS_LISTEN",
		"ZENDESKBLOCKS_SERVICE_PORT=secret":                 "?",
	} {
		problems := newEnvironment([]string{variable}).unknown(known)
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case want == "" && len(problems) > 0:
			t.Errorf("%s: %v", variable, problems)
		case want == "":
		case len(problems) != 1 || !strings.Contains(problems[0].Error(), name):
			t.Errorf("%s: %v", variable, problems)
		case want == "?" && strings.Contains(problems[0].Error(), "did you mean"), want != "?" && !strings.Contains(problems[0].Error(), want+"?"):
			t.Errorf("%s: %v, want %s", variable, problems[0], want)
		case value == "secret" && strings.Contains(problems[0].Error(), value):
			t.Errorf("%s: the value is shown: %v", variable, problems[0])
		}
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"timeout", "timeout", 0}, {"timeot", "timeout", 1}, {"timeuot", "timeout", 2},
		{"listen", "silent", 4}, {"kitten", "sitting", 3},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
		if got := distance(test.b, test.a); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

// Whatever is wrong with a command line and its variables is told at once, by name.
func TestAllProblemsAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		env   map[string]string
		args  []string
		named []string // one for each line, in any order
	}{
		"one flag":        {nil, []string{"serve", "--timeout", "0s"}, []string{"--timeout"}},
		"value":           {nil, []string{"serve", "--timeout", "3"}, []string{"--timeout"}},
		"two values":      {nil, []string{"serve", "--timeout=3", "--drain-timeout", "x"}, []string{"--timeout", "--drain-timeout"}},
		"variable":        {map[string]string{"ZENDESKBLOCKS_TIMEOUT": "3"}, []string{"serve"}, []string{"ZENDESKBLOCKS_TIMEOUT"}},
		"switch":          {map[string]string{"ZENDESKBLOCKS_SANDBOX": "maybe"}, []string{"serve", "--insecure=perhaps"}, []string{"ZENDESKBLOCKS_SANDBOX", "--insecure"}},
		"log":             {nil, []string{"serve", "--log-level", "loud", "--log-format", "xml"}, []string{"--log-level", "--log-format"}},
		"block above cap": {nil, []string{"serve", "--block-timeout", "9s"}, []string{"--block-cap 8s"}},
		"cap below block": {nil, []string{"serve", "--block-cap", "2s"}, []string{"--block-timeout 3s"}},
		"unknown flags": {nil, []string{"serve", "--lisen", "127.0.0.1:0", "--timeot=3s", "--bogus", "--timeout", "0s"},
			[]string{"--listen?", "--timeout?", "--bogus", "--timeout must"}},
		"no value":   {map[string]string{"ZENDESKBLOCKS_LISTN": "x"}, []string{"serve", "--timeout"}, []string{"--timeout", "ZENDESKBLOCKS_LISTN"}},
		"argument":   {map[string]string{"ZENDESKBLOCKS_LISTN": "x"}, []string{"serve", "now"}, []string{"now", "ZENDESKBLOCKS_LISTN"}},
		"no command": {map[string]string{"ZENDESKBLOCKS_LISTN": "x"}, nil, []string{"serve", "ZENDESKBLOCKS_LISTN"}},
		"everything": {
			map[string]string{"ZENDESKBLOCKS_BLOCK_TIMEOUT": "-1s", "ZENDESKBLOCKS_DELIVER_TIMEOUT": "long", "ZENDESKBLOCKS_TOKENS": "x"},
			[]string{"serve", "--listen", "nowhere", "--timeout", "0s", "--sandbox", "--sandbox-listen", "0.0.0.0:1", "--allow-host", "a b", "--allow-host", "ok", "--allow-host", "c:d",
				"--test-every", "1s", "--token-file", "/none", "--jwt-issuer", "x", "--tls-cert", "/none.pem", "--data", "", "--nonsense"},
			[]string{"--block-timeout", "ZENDESKBLOCKS_DELIVER_TIMEOUT", "ZENDESKBLOCKS_TOKENS", "--listen", "--timeout", "--sandbox-listen", `"a b"`, `"c:d"`,
				"--test-every", "/none", "--jwt-key-file or --jwt-jwks-url is missing", "--jwt-audience is missing", "--tls-key is missing", "--data", "--nonsense"},
		},
		"for others": {nil, []string{"serve", "--listen", "0.0.0.0:0", "--timeout", "0s", "--token-file", "/none"}, []string{"--tls-cert and --tls-key", "--timeout", "/none"}},
		"tokens":     {nil, []string{"tokens", "create", "--expires", "0s"}, []string{"--expires", "--token-file"}},
		"tokens role": {map[string]string{"ZENDESKBLOCKS_ROLE": "root"}, []string{"tokens", "create", "--expires", "x", "--name", "x", "--token-file", "x"},
			[]string{"--expires", "root"}},
		"sandbox": {nil, []string{"sandbox", "--listen", "0.0.0.0:1", "--rate-limit=-1", "--index-lag=-1s", "--token-life", "x"}, []string{"--listen", "--rate-limit", "--index-lag", "--token-life"}},
		"demo":    {nil, []string{"demo", "--verbos"}, []string{"--verbose?"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			stdout, stderr, err := runCommand(t, test.env, test.args...)
			if err == nil || stdout != "" {
				t.Fatalf("error %v, standard output %q", err, stdout)
			}
			told := reasons(err)
			if len(told) != len(test.named) || strings.Count(stderr, "\n") != len(test.named) {
				t.Errorf("%d problems are told, want %d:\n%s", len(told), len(test.named), stderr)
			}
			for _, part := range test.named {
				if !slices.ContainsFunc(told, func(e error) bool { return strings.Contains(e.Error(), part) }) {
					t.Errorf("no problem says %q:\n%s", part, stderr)
				}
			}
			if files := filesIn(t, "."); len(files) > 0 {
				t.Errorf("files were made: %v", files)
			}
		})
	}
}

// A variable of another command is no slip, and is not read.
func TestVariableOfAnotherCommand(t *testing.T) {
	env := map[string]string{"ZENDESKBLOCKS_TIMEOUT": "garbage", "ZENDESKBLOCKS_KEYSET": "x", "ZENDESKBLOCKS_ROLE": "root", "ZENDESKBLOCKS_VERBOSE": "x"}
	if stdout, _, err := runCommand(t, env, "version"); err != nil || stdout == "" {
		t.Errorf("%q, %v", stdout, err)
	}
}

// Every command has help, which names each flag with its default, at its side or behind help.
func TestHelp(t *testing.T) {
	var cli commandLine
	parser, err := kong.New(&cli, kong.Vars{"version": ""})
	must(t, err)
	for _, command := range append(parser.Model.Leaves(false), parser.Model.Children...) {
		path := strings.Fields(command.Path())
		stdout, _, err := runCommand(t, map[string]string{"ZENDESKBLOCKS_TIMEOUT": "garbage"}, append(path, "--help")...)
		if err != nil {
			t.Errorf("%s --help: %v", command.Path(), err)
		}
		again, _, err := runCommand(t, nil, append([]string{"help"}, path...)...)
		if err != nil || again != stdout {
			t.Errorf("help %s is not %s --help: %v\n%s", command.Path(), command.Path(), err, again)
		}
		help := strings.Join(strings.Fields(stdout), " ")
		for _, flag := range command.Flags {
			if !strings.Contains(help, flag.Name) || flag.Default != "" && !strings.Contains(help, flag.Help+" Default: "+flag.Default+".") {
				t.Errorf("%s --help lacks --%s or its default %q:\n%s", command.Path(), flag.Name, flag.Default, stdout)
			}
		}
		for line := range strings.Lines(stdout) {
			if len(line) > 81 && !strings.HasPrefix(line, "Usage:") {
				t.Errorf("%s --help is wider than 80 columns: %s", command.Path(), line)
			}
		}
	}
	for _, args := range [][]string{{"--help"}, {"help"}, {"-h"}} {
		if stdout, _, err := runCommand(t, nil, args...); err != nil || !strings.Contains(stdout, "tokens revoke") {
			t.Errorf("%q: %q, %v", args, stdout, err)
		}
	}
	if _, _, err := runCommand(t, nil, "help", "nonsense"); err == nil {
		t.Error("help on no command")
	}
}

func TestVersion(t *testing.T) {
	byCommand, _, err := runCommand(t, nil, "version")
	if err != nil || !strings.HasPrefix(byCommand, "zendeskblocks ") || strings.Count(byCommand, "\n") != 1 {
		t.Errorf("version: %q, %v", byCommand, err)
	}
	if byFlag, _, err := runCommand(t, nil, "--version"); err != nil || byFlag != byCommand {
		t.Errorf("--version: %q, %v", byFlag, err)
	}
}
