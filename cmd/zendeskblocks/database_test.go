package main

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

// page is what the admin listener answers.
func page(t *testing.T, p *program, path string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.await(t, p.stderr, adminPattern)+path, nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { must(t, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

// A process on a database is killed with an activity that it was to write, and another one, which comes in its place, writes it
// once. While the database is away calls are told so before their deadlines, and so is whoever asks whether the service is ready;
// when it is back all goes on by itself.
func TestServeOnDatabase(t *testing.T) {
	t.Parallel()
	database := pgtest.Start(t)
	url, key := database.URL(t, "data"), filepath.Join(t.TempDir(), "key")
	writeKey(t, key)
	if _, stderr, err := runCommand(t, nil, "migrate", "--store", url); err != nil {
		t.Fatal(stderr)
	}
	z := startSandbox(t)
	start := func() (*program, *service) {
		p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", url, "--key-file", key, "--audit-log", "-",
			"--replica", "one", "--drain-delay", "0s", "--allow-host", hostOf(z.origin))
		_, conn := serving(t, p)
		return p, &service{accounts: zendeskv1.NewAccountServiceClient(conn), blocks: zendeskv1.NewBlockServiceClient(conn), interactions: zendeskv1.NewInteractionServiceClient(conn)}
	}
	begun := time.Now()
	p, s := start()
	s.createAccount(t, "main", z.origin)
	p.await(t, p.stdout, `"event":"(account created)"`) // the audit
	ticket := z.takingTickets(t, 1)[0]
	z.addFault(t, map[string]any{"method": http.MethodPut, "status": http.StatusServiceUnavailable})
	attach := func(ctx context.Context, id string) error {
		_, err := s.blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{InteractionId: id, Data: map[string]string{"a": "b"}})
		return err
	}
	must(t, attach(t.Context(), "call"))
	_, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
		InteractionId: "call", TicketId: ticket, Details: &zendeskv1.ActivityDetails{Channel: "voice", Notes: "A call"},
	})
	must(t, err)
	p.signal(t, syscall.SIGKILL)
	p.exitCode(t)
	z.clearFaults(t)

	p, s = start()
	s.awaitWritten(t)
	if w := z.written(t, begun); !slices.Equal(w.audits[ticket], []string{"call"}) {
		t.Errorf("the ticket has %v", w.audits)
	}
	_, metrics := page(t, p, "/metrics")
	if !strings.Contains(metrics, "\nzendeskblocks_replicas ") || !strings.Contains(metrics, "\nzendeskblocks_claims_held ") || strings.Contains(metrics, "zendeskblocks_store_file_bytes") {
		t.Errorf("metrics are %s", metrics)
	}
	address := p.await(t, p.stderr, `msg=serving address=(\S+)`)
	_, said, err := runCommand(t, nil, "backup", "--server", address, filepath.Join(t.TempDir(), "backup"))
	if err == nil || !strings.Contains(said, "UNIMPLEMENTED BACKUP_UNSUPPORTED") || !strings.Contains(said, "pg_dump") {
		t.Errorf("a backup: %v\n%s", err, said)
	}

	database.Stop()
	for name, call := range map[string]func(context.Context) error{
		"a write": func(ctx context.Context) error { return attach(ctx, "another") },
		"a read": func(ctx context.Context) error {
			_, err := s.interactions.GetInteraction(ctx, &zendeskv1.GetInteractionRequest{InteractionId: "call"})
			return err
		},
		"a list": func(ctx context.Context) error {
			_, err := s.interactions.ListActivities(ctx, &zendeskv1.ListActivitiesRequest{})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := call(ctx)
		cancel()
		retry := false
		for _, detail := range status.Convert(err).Details() {
			if info, ok := detail.(*errdetails.RetryInfo); ok {
				retry = info.GetRetryDelay().AsDuration() > 0
			}
		}
		if status.Code(err) != codes.Unavailable || !retry {
			t.Errorf("%s while the database is away: %v, with a time to repeat: %t", name, err, retry)
		}
	}
	until(t, "it is not ready", func() bool {
		code, text := page(t, p, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "[-]store: ")
	})
	database.Restart(t)
	until(t, "it is ready", func() bool {
		code, _ := page(t, p, "/readyz")
		return code == http.StatusOK
	})
	until(t, "blocks are run", func() bool { return attach(t.Context(), "another") == nil })
	if log := p.stderr.String(); !strings.Contains(log, "nothing can be stored; health is NOT_SERVING") || !strings.Contains(log, "the store can be written again") {
		t.Error("the log does not say that the database is away, and that it is back")
	}
}
