package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// jsonLines reads a log of one JSON object a line, and nothing else.
func jsonLines(t *testing.T, text string) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, object)
	}
	return lines
}

// dialed returns a connection that is closed when the test ends.
func dialed(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	return conn
}

// From the first line to the last the log is in the format asked for.
func TestLogOfOneFormat(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data.db"), "--sandbox", "--sandbox-listen", "127.0.0.1:0",
				"--log-format", format, "--log-level", "debug", "--drain-timeout", "1500ms")
			address := p.await(t, p.stderr, map[string]string{"json": `"msg":"serving","address":"([^"]+)"`, "text": `msg=serving address=(\S+)`}[format])
			accounts := zendeskv1.NewAccountServiceClient(dialed(t, address))
			_, err := accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: sandboxAccount})
			must(t, err)
			if _, err := accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{}); err == nil {
				t.Error("an account without id was found")
			}
			p.signal(t, syscall.SIGTERM)
			if code := p.exitCode(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if format == "text" {
				if said := p.stderr.String(); !strings.Contains(said, "msg=draining timeout=1.5s\n") || !strings.HasSuffix(said, "level=INFO msg=stopped\n") {
					t.Errorf("the log is\n%s", said)
				}
				if said := p.stdout.String(); !strings.Contains(said, "grpcurl") {
					t.Errorf("no hints on standard output: %q", said)
				}
				return
			}
			lines := jsonLines(t, p.stderr.String())
			if last := lines[len(lines)-1]; last["msg"] != "stopped" {
				t.Errorf("the last line is %v", last)
			}
			drained := false
			for _, line := range lines {
				drained = drained || line["msg"] == "draining" && line["timeout"] == "1.5s"
			}
			if said := p.stdout.String(); !drained || said != "" {
				t.Errorf("standard output is %q, the log\n%s", said, p.stderr)
			}
		})
	}
}

// Why a server does not start stands in its log too.
func TestStartFailureInLog(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, taken.Close()) }()
	for name, test := range map[string]struct {
		args  []string
		named string
	}{
		"address in use":         {[]string{"--listen", taken.Addr().String()}, "--listen"},
		"sandbox address in use": {[]string{"--sandbox", "--sandbox-listen", taken.Addr().String()}, "--sandbox-listen"},
		"data file a folder":     {[]string{"--data", os.TempDir()}, "--data"},
		"key file missing":       {[]string{"--data", "there.db"}, "--key-file"},
		"key file unfit":         {[]string{"--key-file", "there.db"}, "--key-file"},
		"audit a folder":         {[]string{"--audit-log", os.TempDir()}, "--audit-log"},
		"for others":             {[]string{"--listen", "0.0.0.0:0"}, "--tls-cert"},
		"unknown flag":           {[]string{"--nonsense"}, "--nonsense"},
		"value":                  {[]string{"--timeout", "x"}, "--timeout"},
		"flag without value":     {[]string{"--timeout"}, "--timeout"},
		"argument":               {[]string{"now"}, "now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			writeFile(t, "there.db", "no database", 0o600)
			for format, env := range map[string]map[string]string{"flag": nil, "variable": {"ZENDESKBLOCKS_LOG_FORMAT": "json"}} {
				args := append([]string{"serve", "--listen", "127.0.0.1:0", "--data", "data.db"}, test.args...)
				if format == "flag" {
					args = append([]string{"serve", "--log-format=json"}, args[1:]...)
				}
				stdout, stderr, err := runCommand(t, env, args...)
				if err == nil || stdout != "" {
					t.Fatalf("error %v, standard output %q", err, stdout)
				}
				lines := jsonLines(t, stderr)
				if len(lines) == 0 {
					t.Fatal("nothing is said")
				}
				last := lines[len(lines)-1]
				if text, _ := last["error"].(string); last["level"] != "ERROR" || !strings.Contains(text, test.named) || text != err.Error() {
					t.Errorf("by %s, the last line is %v; want one that names %s", format, last, test.named)
				}
			}
		})
	}
}

// What libraries say, who know of no format, comes in the format of the log.
func TestLogOfLibraries(t *testing.T) {
	written := newOutput()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	must(t, run(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"), "--log-format", "json"}, environOf(nil), &bytes.Buffer{}, written))
	if lines := jsonLines(t, written.String()); len(lines) == 0 || lines[len(lines)-1]["msg"] != "stopped" {
		t.Errorf("told to stop before it began, it says %s", written)
	}
	log.Print("http: a library's\nwords")
	grpcLog{}.Infof("%s", "what is for who debugs")
	grpcLog{}.Errorln("[core]", "gRPC's words")
	lines := jsonLines(t, written.String())
	said := fmt.Sprint(lines[len(lines)-2:])
	if !strings.Contains(said, "a library's\nwords") || !strings.Contains(said, "message:[core] gRPC's words") {
		t.Errorf("the last lines are %s", said)
	}
}

func TestReasons(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	wrapped := fmt.Errorf("of %w and %w", a, b)
	for name, test := range map[string]struct {
		err  error
		want []string
	}{
		"none":           {nil, nil},
		"one":            {a, []string{"a"}},
		"joined":         {errors.Join(a, errors.Join(b, nil, c)), []string{"a", "b", "c"}},
		"two in one":     {errors.Join(wrapped, c), []string{"of a and b", "c"}},
		"wrapped joined": {fmt.Errorf("of %w", errors.Join(a, b)), []string{"of a\nb"}},
	} {
		var got []string
		for _, reason := range reasons(test.err) {
			if reason != nil {
				got = append(got, reason.Error())
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestLogFormatOfAnyCommandLine(t *testing.T) {
	for line, want := range map[string]string{ // "": no log is kept
		"serve":                                     "text",
		"serve --log-format json":                   "json",
		"serve --nonsense --log-format=json":        "json",
		"serve --log-format=json --log-format=text": "text",
		"serve --log-format":                        "text",
		"--nonsense serve --log-format json":        "json",
		"tokens create --log-format json":           "",
		"":                                          "",
		"nonsense":                                  "",
	} {
		format, logs := logFormat(strings.Fields(line), environment{"ZENDESKBLOCKS_LOG_FORMAT": "text"}, nil)
		if logs != (want != "") || logs && format != want {
			t.Errorf("%q: %q, %v; want %q", line, format, logs, want)
		}
	}
}

func TestDurationAsText(t *testing.T) {
	var out bytes.Buffer
	logFlags{LogFormat: "json"}.logger(&out).Info("x", "a", 1500*time.Millisecond, slog.Group("g", "b", 2*time.Minute), "n", 7)
	line := jsonLines(t, out.String())[0]
	delete(line, "time")
	if diff := cmp.Diff(map[string]any{"level": "INFO", "msg": "x", "a": "1.5s", "g": map[string]any{"b": "2m0s"}, "n": 7.0}, line); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
