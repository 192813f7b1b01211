package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

const adminPattern = `msg="serving probes and metrics" admin_address=(\S+)`

// askAdmin asks the admin listener at an address.
func askAdmin(t *testing.T, method, address, path, body string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
	must(t, err)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { must(t, res.Body.Close()) }()
	read, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(read)
}

func TestAdminProblems(t *testing.T) {
	for listen, problems := range map[string]int{"": 0, "off": 0, "127.0.0.1:0": 0, ":50052": 0, "0.0.0.0:50052": 0, "here": 1, "50052": 1} {
		if got := (&adminFlags{AdminListen: listen}).problems(); len(got) != problems {
			t.Errorf("of %q it says %v", listen, got)
		}
	}
}

// All sockets that cannot be had are told at once, each with its flag.
func TestPortsInUse(t *testing.T) {
	var taken []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer func() { must(t, l.Close()) }()
		taken = append(taken, l.Addr().String())
	}
	data := filepath.Join(t.TempDir(), "data.db")
	p := startProgram(t, "serve", "--listen", taken[0], "--admin-listen", taken[1], "--data", data)
	if code := p.exitCode(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
	var said []string
	for line := range strings.Lines(p.stderr.String()) {
		said = append(said, line)
	}
	if len(said) != 2 || !strings.Contains(said[0], "--listen: ") || !strings.Contains(said[0], taken[0]) ||
		!strings.Contains(said[1], "--admin-listen: ") || !strings.Contains(said[1], taken[1]) {
		t.Errorf("the log is %q", said)
	}
	alone := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--admin-listen", taken[1], "--data", data)
	mustRefuse(t, alone, "--admin-listen")
}

// While it drains, readiness says so, and calls are taken; the admin listener is the last to go.
func TestReadinessOfADrainingProcess(t *testing.T) {
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"),
		"--drain-delay", "1h", "--drain-timeout", "1h")
	admin, address := p.await(t, p.stderr, adminPattern), p.await(t, p.stderr, `msg=serving address=(\S+)`)
	if said := p.stderr.String(); strings.Index(said, "serving probes") > strings.Index(said, "made a key file") {
		t.Errorf("probes are answered once the data file is open:\n%s", said)
	}
	if status, text := askAdmin(t, http.MethodGet, admin, "/readyz", ""); status != http.StatusOK {
		t.Errorf("ready: %d %s", status, text)
	}
	conn := dialed(t, address)
	health := healthv1.NewHealthClient(conn)
	_, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	must(t, err)
	watch, err := zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: "a@example.com"}})
	must(t, err)
	_, err = watch.Header()
	must(t, err)
	p.signal(t, syscall.SIGTERM)
	p.await(t, p.stderr, "draining begins soon")
	status, text := askAdmin(t, http.MethodGet, admin, "/readyz", "")
	if want := "[-]drain: "; status != http.StatusServiceUnavailable || !strings.Contains(text, want) || strings.Count(text, "[-]") != 1 {
		t.Errorf("while it drains: %d %s, want %q", status, text, want)
	}
	if status, text := askAdmin(t, http.MethodGet, admin, "/livez", ""); status != http.StatusOK {
		t.Errorf("while it drains, live: %d %s", status, text)
	}
	resp, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || resp.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("while it drains, gRPC's health is %v, %v", resp.GetStatus(), err)
	}
}

// The level is changed by name and by signal; each change is told, and the signal leads back to what is configured.
func TestLogLevelOfAProcess(t *testing.T) {
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"))
	admin := p.await(t, p.stderr, adminPattern)
	if status, text := askAdmin(t, http.MethodPut, admin, "/loglevel", "error"); status != http.StatusOK || text != "error\n" {
		t.Errorf("%d %q", status, text)
	}
	p.await(t, p.stderr, `msg="log level set" log_level=ERROR was=INFO by=127`)
	p.signal(t, syscall.SIGUSR1)
	p.await(t, p.stderr, `msg="log level set" log_level=DEBUG was=ERROR by=SIGUSR1`)
	p.signal(t, syscall.SIGUSR1)
	p.await(t, p.stderr, `msg="log level set" log_level=INFO was=DEBUG by=SIGUSR1`)
	if status, text := askAdmin(t, http.MethodGet, admin, "/loglevel", ""); status != http.StatusOK || text != "info\n" {
		t.Errorf("%d %q", status, text)
	}
}

func TestToggled(t *testing.T) {
	for _, test := range []struct{ now, configured, want slog.Level }{
		{slog.LevelInfo, slog.LevelInfo, slog.LevelDebug},
		{slog.LevelDebug, slog.LevelInfo, slog.LevelInfo},
		{slog.LevelDebug, slog.LevelError, slog.LevelError},
		{slog.LevelError, slog.LevelInfo, slog.LevelDebug},
		{slog.LevelDebug, slog.LevelDebug, slog.LevelDebug},
		{slog.LevelDebug - 4, slog.LevelWarn, slog.LevelWarn},
	} {
		if got := toggled(test.now, test.configured); got != test.want {
			t.Errorf("from %v, configured %v: %v, want %v", test.now, test.configured, got, test.want)
		}
	}
}

// A change of the level is in the log before it hushes, or after it does not any more.
func TestSetLevelIsTold(t *testing.T) {
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	for _, from := range levels {
		for _, to := range levels {
			var written output
			written.changed = make(chan struct{})
			level, log := logFlags{LogLevel: from}.newLevel(&written)
			level.SetLevel(to, "test")
			if !strings.Contains(written.String(), fmt.Sprintf("log_level=%s was=%s by=test", to, from)) {
				t.Errorf("from %s to %s: %q", from, to, written.String())
			}
			for _, l := range levels {
				if got := log.Enabled(context.Background(), l); got != (l >= to) {
					t.Errorf("from %s to %s, %s is logged: %v", from, to, l, got)
				}
			}
		}
	}
}

// Two demonstrations run at a time, also beside a service.
func TestDemoTakesNoFixedPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:50052")
	if err == nil {
		defer func() { must(t, l.Close()) }()
	} // else somebody else has it, which does as well
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, run(ctx, []string{"demo"}, nil, io.Discard, io.Discard))
}
