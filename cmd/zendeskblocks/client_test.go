package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthsrv "google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// cellsOf splits the lines of a table into cells: two blanks or more part them.
func cellsOf(text string) (rows [][]string) {
	for line := range strings.Lines(text) {
		rows = append(rows, regexp.MustCompile(` {2,}`).Split(strings.TrimSuffix(line, "\n"), -1))
	}
	return rows
}

// objectsOf reads one JSON object a line.
func objectsOf(t *testing.T, text string) (objects []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%q is no object in a line: %v", line, err)
		}
		objects = append(objects, object)
	}
	return objects
}

// Accounts are listed with what people on call look at, and tested; who is ill is told with what to do.
func TestAccountsCommands(t *testing.T) {
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", "127.0.0.1:*")
	server := []string{"--server", s.at()}
	accounts := func(args ...string) (string, error) {
		t.Helper()
		stdout, _, err := runCommand(t, nil, append(append([]string{"accounts"}, args...), server...)...)
		return stdout, err
	}
	if text, err := accounts("list"); err != nil || text != "Accounts: 0\n" {
		t.Errorf("no accounts: %q, %v", text, err)
	}
	s.createAccount(t, "well", sandbox.origin)
	_, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: "ill", Account: &zendeskv1.Account{Name: "Ill", Url: sandbox.origin}})
	must(t, err)

	text, err := accounts("test", "well")
	if rows := cellsOf(text); err != nil || len(rows) != 9 || strings.Join(rows[0], ",") != "CHECK,OUTCOME,WHAT WAS FOUND" || rows[1][0] != "user" || rows[1][1] != "OK" ||
		!strings.HasPrefix(rows[8][0], "well: ") || !strings.Contains(rows[8][0], zendesktest.Admin.Email) {
		t.Errorf("%v\n%s", err, text)
	}
	text, err = accounts("test", "ill")
	if err == nil || !strings.Contains(err.Error(), "FAILED") || !strings.Contains(err.Error(), "CREDENTIALS_REJECTED") || !strings.Contains(text, "user") {
		t.Errorf("%v\n%s", err, text)
	}
	text, err = accounts("test", "ill", "--json")
	if err == nil || objectsOf(t, text)[0]["outcome"] != "CHECK_OUTCOME_FAILED" {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := accounts("test", "nobody"); err == nil || !strings.HasPrefix(err.Error(), "NOT_FOUND ACCOUNT_NOT_FOUND: ") || !strings.HasSuffix(err.Error(), "(see zendeskblocks accounts list)") {
		t.Errorf("%v", err)
	}
	if _, err := accounts("test", "No Id"); err == nil || !strings.HasPrefix(err.Error(), "INVALID_ARGUMENT INVALID_FIELD: account_id: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}

	text, err = accounts("list")
	rows := cellsOf(text)
	if err != nil || len(rows) < 5 || strings.Join(rows[0], ",") != "ACCOUNT,NAME,URL,DEFAULT,AUTHORIZATION,CREDENTIAL,HEALTH,ANSWERED,PENDING,OLDEST,DEAD,LAST FAILURE" ||
		!slices.Equal(rows[1][:5], []string{"ill", "Ill", sandbox.origin, "-", "NONE"}) ||
		!slices.Equal(rows[2][:7], []string{"well", "Account well", sandbox.origin, "yes", "API_TOKEN", "OK", "HEALTHY"}) ||
		rows[3][0] != "Accounts: 2" || !strings.Contains(text, "\nill: NEEDS_AUTHORIZATION") || !strings.Contains(text, "\nwell: API_TOKEN_RETIREMENT (2027-04-30 ") {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := accounts("list", "--ill"); err != nil || !strings.Contains(text, "\nAccounts that are ill: 1\n") || strings.Contains(text, "well") {
		t.Errorf("%v\n%s", err, text)
	}
	text, err = accounts("list", "--json")
	must(t, err)
	objects := objectsOf(t, text)
	if len(objects) != 2 || objects[0]["accountId"] != "ill" || objects[0]["defaultAccount"] != false || strings.Contains(text, zendesktest.Admin.APIToken) || strings.Contains(text, `": `) {
		t.Errorf("%s", text)
	}
}

// Activities that could not be written are listed, retried and discarded: by their ids, by what they match, and never by
// accident.
func TestActivitiesCommands(t *testing.T) {
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", "127.0.0.1:*")
	s.createAccount(t, "main", sandbox.origin)
	activities := func(args ...string) (stdout, stderr string, err error) {
		t.Helper()
		return runCommand(t, nil, append(append([]string{"activities"}, args...), "--server", s.at())...)
	}
	for n := range 4 {
		_, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
			InteractionId: callID(n), TicketId: fmt.Sprint(99_000_000 + n), Details: &zendeskv1.ActivityDetails{Notes: "a note"},
		})
		must(t, err)
	}
	dead := func() []*zendeskv1.Activity { return s.activities(t, zendeskv1.ActivityState_ACTIVITY_STATE_DEAD) }
	until(t, "all are DEAD", func() bool { return len(dead()) == 4 })
	var ids []string
	for _, a := range dead() {
		ids = append(ids, a.GetActivityId())
	}

	text, _, err := activities("list", "--state", "dead", "--reason", "NOT_FOUND", "--account", "main", "--since", "1h")
	rows := cellsOf(text)
	if err != nil || len(rows) != 6 || strings.Join(rows[0], ",") != "ACTIVITY,INTERACTION,ACCOUNT,TICKET,STATE,COMPLETED,TRIES,NEXT TRY,WHY" ||
		!slices.Equal(rows[1][:5], []string{ids[0], callID(0), "main", "99000000", "DEAD"}) || !strings.Contains(text, "NOT_FOUND: ") || rows[5][0] != "Activities: 4" {
		t.Errorf("%v\n%s", err, text)
	}
	for args, want := range map[string]string{
		"--limit 2": "Activities: 2, and there are more (see --limit)", "--limit 4": "Activities: 4", "--limit 0": "Activities: 4", "--until 1h": "Activities: 0",
		"--since 2020-01-01T00:00:00Z": "Activities: 4", "--interaction call-1": "Activities: 1", "--state WRITTEN": "Activities: 0", "--state ACTIVITY_STATE_DEAD": "Activities: 4",
	} {
		if text, _, err := activities(append([]string{"list"}, strings.Fields(args)...)...); err != nil || !strings.HasSuffix("\n"+text, "\n"+want+"\n") {
			t.Errorf("%s: %v\n%s", args, err, text)
		}
	}
	text, _, err = activities("list", "--newest-first", "--limit", "1", "--json")
	if objects := objectsOf(t, text); err != nil || len(objects) != 1 || objects[0]["activityId"] != ids[3] {
		t.Errorf("%v\n%s", err, text)
	}
	for args, want := range map[string]string{
		"list --state GONE": "PENDING", "list --reason X": "NOT_FOUND", "list --since x": "36h", "list --since=-1h": "36h", "list --limit -1": "--limit", "retry": "--account", "discard": "--all",
		"discard x --all": "or what they match", "retry --all --ticket 1": "--ticket goes with ids", "retry --reason X": "none of", "list --call-timeout 0s": "--call-timeout",
	} {
		if _, _, err := activities(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}

	// Nothing is changed without being asked for.
	for _, args := range []string{"discard --all", "retry --all", "discard --all --dry-run", "retry --account main --dry-run", "discard --dry-run " + ids[0]} {
		text, _, err := activities(strings.Fields(args)...)
		if dry := strings.Contains(args, "--dry-run"); dry != (err == nil) || dry != strings.HasSuffix(text, "nothing was changed\n") || len(dead()) != 4 {
			t.Errorf("%s: %v\n%s", args, err, text)
		}
	}

	// One that is not there keeps the other from nothing.
	ticket := fmt.Sprint(zendesktest.CallerTickets[1])
	text, stderr, err := activities("retry", "nobody", ids[0], "--ticket", ticket)
	if err == nil || !strings.Contains(stderr, `activity "nobody": NOT_FOUND ACTIVITY_NOT_FOUND`) || strings.Count(stderr, "\n") != 1 || !strings.Contains(text, ids[0]) || !strings.HasSuffix(text, "Activities: 1 of 2\n") {
		t.Errorf("%v\n%s%s", err, text, stderr)
	}
	s.awaitWritten(t)
	if _, _, err := activities("retry", ids[0]); err == nil || !strings.Contains(err.Error(), "ACTIVITY_WRITTEN") {
		t.Errorf("one that is WRITTEN: %v", err)
	}
	text, _, err = activities("discard", "--json", ids[1])
	if objects := objectsOf(t, text); err != nil || len(objects) != 1 || objects[0]["state"] != "ACTIVITY_STATE_DISCARDED" {
		t.Errorf("%v\n%s", err, text)
	}
	if text, _, err := activities("retry", "--reason", "not_found", "--yes"); err != nil || text != "Activities that are PENDING again: 2\n" {
		t.Errorf("%v\n%s", err, text)
	}
	until(t, "they are DEAD again", func() bool { return len(dead()) == 2 })
	if text, _, err := activities("discard", "--account", "main", "--yes"); err != nil || !strings.HasSuffix(text, "Activities: 2 of 2\n") || len(dead()) != 0 {
		t.Errorf("%v\n%s", err, text)
	}
	if text, _, err := activities("discard", "--all", "--yes"); err != nil || text != "Activities: 0\n" {
		t.Errorf("%v\n%s", err, text)
	}
	if text, _, err := activities("retry", "--all", "--yes", "--json"); err != nil || text != "{\"count\":0}\n" {
		t.Errorf("%v\n%s", err, text)
	}
	s.stop(t)
	s.address <- "127.0.0.1:1" // where nobody is
	_, stderr, err = activities("discard", "a", "b", "c")
	if err == nil || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, "UNAVAILABLE: ") || !strings.Contains(stderr, "see --server") || !strings.Contains(stderr, "not tried then: 2") {
		t.Errorf("nobody is there: %v\n%s", err, stderr)
	}
	<-s.address
}

func TestAnswered(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " y ": true, "n\n": false, "\n": false, "": false, "yesterday\n": false} {
		var asked strings.Builder
		if err := answered(t.Context(), strings.NewReader(answer), &asked, "Discard 3 activities?"); (err == nil) != want || asked.String() != "Discard 3 activities? [y/N] " {
			t.Errorf("%q: %v, asked %q", answer, err, asked.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, end := io.Pipe()
	defer func() { must(t, end.Close()) }()
	if err := answered(ctx, silent, io.Discard, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// operationsFake is an OperationsService with what a real one has only after a while.
type operationsFake struct {
	zendeskv1.UnimplementedOperationsServiceServer
}

func (operationsFake) GetUsage(context.Context, *zendeskv1.GetUsageRequest) (*zendeskv1.GetUsageResponse, error) {
	return &zendeskv1.GetUsageResponse{
		Usage:     &zendeskv1.Usage{Accounts: 3, LiveInteractions: 20, PendingActivities: 1, DeadActivities: 7, StoredBytes: 1536},
		Quota:     &zendeskv1.Usage{Accounts: 100, StoredBytes: 20 << 30},
		CountTime: timestamppb.New(time.Now().Add(-3 * time.Hour)),
	}, nil
}

func (operationsFake) ListTenants(_ context.Context, r *zendeskv1.ListTenantsRequest) (*zendeskv1.ListTenantsResponse, error) {
	if r.GetPageToken() == "" {
		return &zendeskv1.ListTenantsResponse{Tenants: []*zendeskv1.Tenant{{Tenant: "acme", Usage: &zendeskv1.Usage{Accounts: 2, StoredBytes: 5 << 20}}}, NextPageToken: "more"}, nil
	}
	return &zendeskv1.ListTenantsResponse{Tenants: []*zendeskv1.Tenant{{Tenant: "bmce", Usage: &zendeskv1.Usage{DeadActivities: 4}}}}, nil
}

// serveFake serves on a free port until the test ends.
func serveFake(t *testing.T, register func(*grpc.Server)) (address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer()
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		must(t, <-served)
	})
	return l.Addr().String()
}

func TestUsageAndTenantsCommands(t *testing.T) {
	address := serveFake(t, func(s *grpc.Server) { zendeskv1.RegisterOperationsServiceServer(s, operationsFake{}) })
	for args, want := range map[string]string{
		"usage": "WHAT                          HAS      MAY HAVE\naccounts                      3        100\ninteractions that are active  20       any\n" +
			"activities that are pending   1        any\nactivities that are dead      7        any\nstored                        1.5 KiB  20.0 GiB\nCounted 3h ago.\n",
		"tenants": "TENANT  ACCOUNTS  INTERACTIONS  PENDING  DEAD  STORED\nacme    2         0             0        0     5.0 MiB\nbmce    0         0             0        4     0 B\nTenants: 2\n",
		"tenants --json": `{"tenant":"acme","usage":{"accounts":"2","liveInteractions":"0","pendingActivities":"0","deadActivities":"0","storedBytes":"5242880"}}` + "\n" +
			`{"tenant":"bmce","usage":{"accounts":"0","liveInteractions":"0","pendingActivities":"0","deadActivities":"4","storedBytes":"0"}}` + "\n",
	} {
		stdout, stderr, err := runCommand(t, nil, append(strings.Fields(args), "--server", address)...)
		if err != nil || stderr != "" || stdout != want {
			t.Errorf("%s: %v, %s\n%s\nwant\n%s", args, err, stderr, stdout, want)
		}
	}
	s := startService(t)
	if stdout, _, err := runCommand(t, nil, "usage", "--json", "--server", s.at()); err != nil || len(objectsOf(t, stdout)) != 1 {
		t.Errorf("%v\n%s", err, stdout)
	}
}

func TestHealthCommand(t *testing.T) {
	s := startService(t)
	stdout, stderr, err := runCommand(t, nil, "health", "--server", s.at())
	if err != nil || stderr != "" || len(cellsOf(stdout)) != 6 || strings.Count(stdout, "  SERVING\n") != 5 {
		t.Errorf("%v, %s\n%s", err, stderr, stdout)
	}
	health := healthsrv.NewServer() // it knows the whole, and nothing else
	address := serveFake(t, func(s *grpc.Server) { healthv1.RegisterHealthServer(s, health) })
	_, _, err = runCommand(t, nil, "health", "--server", address)
	if err == nil || err.Error() != "not SERVING: AccountService, BlockService, InteractionService, OperationsService" {
		t.Errorf("%v", err)
	}
	health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	stdout, _, err = runCommand(t, nil, "health", "--json", "--server", address)
	if objects := objectsOf(t, stdout); err == nil || objects[0]["status"] != "NOT_SERVING" || objects[1]["status"] != "SERVICE_UNKNOWN" {
		t.Errorf("%v\n%s", err, stdout)
	}
	_, stderr, err = runCommand(t, nil, "health", "--server", "127.0.0.1:1")
	if err == nil || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "127.0.0.1:1") {
		t.Errorf("nobody is there: %v\n%s", err, stderr)
	}
}

// clientCertificate writes a certificate of a client, which is its own issuer, and its key.
func clientCertificate(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return writeFile(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644),
		writeFile(t, filepath.Join(dir, name+"-key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), 0o600)
}

// Over TLS and with authentication, by token or certificate. No output, of commands or the server, has a credential in it.
func TestClientAccess(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ops := createToken(t, "--token-file", at("tokens"), "--name", "on call", "--role", "ops")
	runtime := createToken(t, "--token-file", at("tokens"), "--name", "runtime", "--role", "runtime")
	cert, key, _ := selfSigned(t, dir)
	clientCert, clientKey := clientCertificate(t, dir, "laptop")
	writeFile(t, at("identities"), `{"identity": "cn:laptop", "tenant": "default", "name": "laptop", "roles": ["ops"]}`+"\n", 0o600)
	s := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", at("data.db"), "--log-level", "debug", "--token-file", at("tokens"),
		"--tls-cert", cert, "--tls-key", key, "--tls-client-ca", clientCert, "--tls-identities", at("identities"))
	address := s.await(t, s.stderr, `msg=serving address=(\S+)`)
	writeFile(t, at("ops"), ops+"\n", 0o600)
	writeFile(t, at("runtime"), runtime, 0o600)
	writeFile(t, at("exposed"), ops+"\n", 0o644)
	writeFile(t, at("two"), ops+"\n"+runtime+"\n", 0o600)
	writeFile(t, at("empty"), "\n", 0o600)
	tls := []string{"--server-ca", cert, "--server-name", "localhost"}
	var said []string
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		want []string // in the one line of the error; nil: it works
	}{
		"token in a file":            {nil, append(tls, "--credential-file", at("ops")), nil},
		"token in a variable":        {map[string]string{tokenVariable: ops}, tls, nil},
		"certificate":                {nil, append(tls, "--client-cert", clientCert, "--client-key", clientKey), nil},
		"by the server's own":        {map[string]string{"ZENDESKBLOCKS_TOKEN_FILE": at("tokens"), "ZENDESKBLOCKS_TLS_CERT": cert, "ZENDESKBLOCKS_TLS_KEY": key, "ZENDESKBLOCKS_INSECURE": "true", "ZENDESKBLOCKS_TIMEOUT": "1ns", tokenVariable: ops}, tls, nil},
		"no credential":              {nil, tls, []string{"UNAUTHENTICATED: ", "--credential-file", tokenVariable}},
		"a wrong token":              {map[string]string{tokenVariable: "canary-of-nobody"}, tls, []string{"UNAUTHENTICATED: "}},
		"another role":               {nil, append(tls, "--credential-file", at("runtime")), []string{"PERMISSION_DENIED: ", "ListAccounts"}},
		"file and variable":          {map[string]string{tokenVariable: ops}, append(tls, "--credential-file", at("ops")), []string{"contradict"}},
		"exposed file":               {nil, append(tls, "--credential-file", at("exposed")), []string{at("exposed"), "0644"}},
		"two tokens":                 {nil, append(tls, "--credential-file", at("two")), []string{at("two"), "alone in one line"}},
		"empty file":                 {nil, append(tls, "--credential-file", at("empty")), []string{at("empty"), "alone in one line"}},
		"no file":                    {nil, append(tls, "--credential-file", at("none")), []string{at("none"), "not exist"}},
		"spaces in the variable":     {map[string]string{tokenVariable: ops + " "}, tls, []string{tokenVariable}},
		"another server's issuer":    {map[string]string{tokenVariable: ops}, []string{"--server-ca", clientCert, "--server-name", "localhost"}, []string{"UNAVAILABLE: ", "certificate"}},
		"another name":               {map[string]string{tokenVariable: ops}, []string{"--server-ca", cert}, []string{"UNAVAILABLE: ", "certificate"}},
		"no issuer":                  {nil, []string{"--server-ca", at("ops")}, []string{at("ops"), "no certificate"}},
		"certificate without key":    {nil, append(tls, "--client-cert", clientCert), []string{"--client-key"}},
		"key of another certificate": {nil, append(tls, "--client-cert", clientCert, "--client-key", key), []string{"--client-cert and --client-key"}},
		"no TLS":                     {map[string]string{tokenVariable: ops}, nil, []string{"UNAVAILABLE: ", "see --server and --server-ca"}},
		"TLS and not":                {nil, append(tls, "--plaintext"), []string{"--plaintext contradicts"}},
	} {
		stdout, stderr, err := runCommand(t, test.env, append([]string{"accounts", "list", "--server", address}, test.args...)...)
		said = append(said, stdout, stderr)
		if test.want == nil {
			if err != nil || stdout != "Accounts: 0\n" {
				t.Errorf("%s: %v, %q", name, err, stdout)
			}
			continue
		}
		if err == nil || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %v, %q, %q", name, err, stdout, stderr)
		}
		for _, part := range test.want {
			if !strings.Contains(stderr, part) {
				t.Errorf("%s: %q is not in %s", name, part, stderr)
			}
		}
	}
	for _, text := range append(said, s.stderr.String(), s.stdout.String()) {
		for _, secret := range []string{ops, runtime, "canary-of-nobody"} {
			if discloses(text, secret) {
				t.Errorf("a credential is in %s", text)
			}
		}
	}
}

// Whether a connection is protected is decided by where it goes, unless flags say so.
func TestDial(t *testing.T) {
	for name, test := range map[string]struct {
		flags serverFlags
		tls   bool
	}{
		"this machine":            {serverFlags{Server: "127.0.0.1:1"}, false},
		"this machine by name":    {serverFlags{Server: "localhost:1"}, false},
		"this machine, IPv6":      {serverFlags{Server: "[::1]:1"}, false},
		"another":                 {serverFlags{Server: "192.0.2.1:1"}, true},
		"another by name":         {serverFlags{Server: "localhost.acme.example:1"}, true},
		"another, in clear":       {serverFlags{Server: "192.0.2.1:1", Plaintext: true}, false},
		"this machine, by issuer": {serverFlags{Server: "127.0.0.1:1", ServerName: "acme.example"}, true},
	} {
		if got := test.flags.protected(); got != test.tls {
			t.Errorf("%s: TLS is %v, want %v", name, got, test.tls)
		}
	}
	for _, server := range []string{"", "acme.example", "127.0.0.1:", ":50051", "http://127.0.0.1:1", "unix:/run/x"} {
		if _, _, err := runCommand(t, nil, "health", "--server="+server); err == nil || !strings.Contains(err.Error(), "--server must be HOST:PORT") {
			t.Errorf("--server %q: %v", server, err)
		}
	}
}

func TestCallError(t *testing.T) {
	detailed := func(code codes.Code, message, reason string, details ...*durationpb.Duration) error {
		s, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "zendeskblocks.scenarioblocks"})
		must(t, err)
		for _, wait := range details {
			s, err = s.WithDetails(&errdetails.RetryInfo{RetryDelay: wait})
			must(t, err)
		}
		return s.Err()
	}
	broken, err := status.New(codes.InvalidArgument, "page_size: no").WithDetails(&errdetails.ErrorInfo{Reason: "INVALID_FIELD"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "page_size", Description: "no"}, {Field: "page_token", Description: "neither"}}})
	must(t, err)
	for want, err := range map[string]error{
		"RESOURCE_EXHAUSTED TOO_MANY_CALLS: too many; try again in 7s":                                                        detailed(codes.ResourceExhausted, "too many", "TOO_MANY_CALLS", durationpb.New(7*time.Second)),
		"INVALID_ARGUMENT INVALID_FIELD: page_size: no; page_token: neither":                                                  broken.Err(),
		"INTERNAL: internal error":                                                                                            detailed(codes.Internal, "internal error", "INTERNAL"),
		"NOT_FOUND ACTIVITY_NOT_FOUND: none (see zendeskblocks activities list)":                                              detailed(codes.NotFound, "none", "ACTIVITY_NOT_FOUND"),
		"UNAVAILABLE STORE_UNAVAILABLE: a b [31m c":                                                                           detailed(codes.Unavailable, "a\n\tb \x1b[31m c", "STORE_UNAVAILABLE"),
		"DEADLINE_EXCEEDED: late (see --server and --call-timeout)":                                                           status.Error(codes.DeadlineExceeded, "late"),
		"UNIMPLEMENTED: unknown method (the server is another version than this program, or none of this kind: see --server)": status.Error(codes.Unimplemented, "unknown method"),
		"CANCELLED: gone": status.Error(codes.Canceled, "gone"),
	} {
		if got := newCallError(err, "127.0.0.1:1").Error(); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
}

// An account is authorized in one go, as a person would do it in a browser: Zendesk's redirect brings the code, and the token
// is in force. No page, output or log has a code, a verifier, a token or the client's secret in it.
func TestAuthorizeCommand(t *testing.T) {
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", "127.0.0.1:*", "--log-level", "debug")
	_, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: &zendeskv1.Account{Name: "Acme", Url: sandbox.origin}})
	must(t, err)
	secretFile := writeFile(t, filepath.Join(t.TempDir(), "secret"), zendesktest.ClientSecret+"\n", 0o600)
	confidential := []string{"--client-secret-file", secretFile}
	secrets, texts := []string{zendesktest.ClientSecret}, []string{}
	for _, test := range []struct {
		name   string
		env    map[string]string
		flags  []string
		answer string // "deny", or the e-mail address of who agrees; "forge": a redirect with a wrong state comes first
		status int    // of the last page
		page   string // in it
		stdout string // in it; empty: it fails
		stderr string // in it
	}{
		{"denied", nil, confidential, "deny", 400, "did not agree", "", "did not agree (access_denied: "},
		{"wrong secret", map[string]string{clientSecretVariable: "canary-secret"}, nil, "", 400, "TOKEN_REFUSED", "", "FAILED_PRECONDITION TOKEN_REFUSED: "},
		{"unknown scope", nil, append(confidential, "--scopes", "fly"), "", 400, "invalid_scope", "", "invalid_scope"},
		{"confidential", nil, confidential, "", 200, "Authorized", "OAUTH_TOKEN, OK, renewed before it ends in ", ""},
		{"public", nil, []string{"--scopes", "read,write", "--json"}, zendesktest.Agent.Email, 200, "Authorized", `"renewable":`, "Open this address"},
		{"after a forged redirect", map[string]string{clientSecretVariable: zendesktest.ClientSecret}, nil, "forge", 200, "Authorized", "Granted: read write", "wrong state"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, log, ended := newOutput(), newOutput(), make(chan error, 1)
			go func() {
				ended <- run(t.Context(), append([]string{"authorize", "--account", "acme", "--client-id", zendesktest.ClientID, "--redirect-listen", "127.0.0.1:0", "--server", s.at()}, test.flags...),
					environOf(test.env), out, log)
			}()
			words := out
			if slices.Contains(test.flags, "--json") {
				words = log
			}
			address := awaitIn(t, words, ended, `(http://\S+/oauth/authorizations/new\?\S+)`)
			u, err := url.Parse(address)
			must(t, err)
			redirect := u.Query().Get("redirect_uri")
			sandbox.do(t, http.MethodPost, "/_sandbox/clients", map[string]any{"redirect_uri": redirect}, nil)
			if test.answer == "forge" {
				if status, _ := browse(t, redirect+"?code=x&state=forged"); status != http.StatusBadRequest {
					t.Errorf("a forged redirect is answered %d", status)
				}
			}
			email := ""
			if strings.Contains(test.answer, "@") {
				email = test.answer
			}
			last, err := zendesktest.Answer(t.Context(), address, email, test.answer != "deny")
			must(t, err)
			status, page := browse(t, last.String())
			if status != test.status || !strings.Contains(page, test.page) {
				t.Errorf("the last page is %d\n%s", status, page)
			}
			err = <-ended
			if (err == nil) != (test.stdout != "") || !strings.Contains(out.String(), test.stdout) || !strings.Contains(log.String(), test.stderr) {
				t.Errorf("%v\n%s%s", err, out, log)
			}
			if code := last.Query().Get("code"); code != "" {
				secrets = append(secrets, code)
			}
			texts = append(texts, page, out.String(), log.String())
		})
	}
	account, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "acme"})
	if err != nil || account.GetAccount().GetAuthorization() != zendeskv1.Authorization_AUTHORIZATION_OAUTH_TOKEN {
		t.Errorf("%v, %v", account, err)
	}
	secrets = append(secrets, "canary-secret")
	if len(secrets) < 6 {
		t.Errorf("codes were not seen: %d secrets", len(secrets))
	}
	texts = append(texts, s.process().stderr.String(), s.process().stdout.String())
	for _, text := range texts {
		for _, secret := range secrets {
			if discloses(text, secret) {
				t.Errorf("%q is in %s", secret, text)
			}
		}
	}
}

// awaitIn waits until a command that runs has written what the pattern matches, and returns its first group.
func awaitIn(t *testing.T, o *output, ended <-chan error, pattern string) string {
	t.Helper()
	for late := time.After(patience); ; {
		text, changed := o.current()
		if match := regexp.MustCompile(pattern).FindStringSubmatch(text); match != nil {
			return match[1]
		}
		select {
		case <-changed:
		case err := <-ended:
			t.Fatalf("the command ended: %v\n%s", err, text)
		case <-late:
			t.Fatalf("the command does not write %q:\n%s", pattern, text)
		}
	}
}

// browse opens an address as a browser does.
func browse(t *testing.T, address string) (status int, page string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	return resp.StatusCode, string(body)
}

// What cannot begin says why at once; nobody coming back, in its time.
func TestAuthorizeRefuses(t *testing.T) {
	s := startService(t, "--allow-host", "127.0.0.1:*")
	_, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: &zendeskv1.Account{Name: "Acme", Url: "http://127.0.0.1:1"}})
	must(t, err)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, taken.Close()) }()
	for args, want := range map[string]string{
		"--account nobody --client-id x": "ACCOUNT_NOT_FOUND",
		"--account acme":                 "--client-id",
		"--account acme --client-id x --redirect-listen 0.0.0.0:0":                    "--redirect-listen must be",
		"--account acme --client-id x --redirect-listen " + taken.Addr().String():     "--redirect-listen: ",
		"--account acme --client-id x --redirect-uri http://acme.example/x":           "see --redirect-uri",
		"--account acme --client-id x --wait 0s":                                      "--wait",
		"--account acme --client-id x --client-secret-file /none":                     "/none",
		"--account acme --client-id x --wait 1ns --redirect-uri https://acme.example": "no redirect came from Zendesk",
	} {
		listen := "127.0.0.1:0"
		words := append([]string{"authorize", "--server", s.at(), "--redirect-listen", listen}, strings.Fields(args)...)
		if _, stderr, err := runCommand(t, nil, words...); err == nil || !strings.Contains(err.Error(), want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %v, want %q\n%s", args, err, want, stderr)
		}
	}
}

// The guide's table of the flags by which servers are called has each of them, as its help is. None is a flag of serve: both
// read the same variables.
func TestClientFlagsOfTheGuide(t *testing.T) {
	guide := readGuide(t, operatorGuide)
	parser, err := kong.New(&commandLine{}, kong.Vars{"version": ""})
	must(t, err)
	ofServe := map[string]bool{}
	for _, flag := range flagsOfServe(t) {
		ofServe[flag.Name] = true
	}
	found := 0
	for _, command := range parser.Model.Leaves(false) {
		for _, flag := range command.Flags {
			if flag.Group == nil || flag.Group.Title != "Server:" {
				continue
			}
			found++
			shown := flag.Default
			if shown != "" {
				shown = "`" + shown + "`"
			}
			if row := fmt.Sprintf("\n| `--%s` | %s | %s |\n", flag.Name, shown, flag.Help); !strings.Contains(guide, row) {
				t.Errorf("the guide has no row %s", row)
			}
			if ofServe[flag.Name] {
				t.Errorf("--%s is a flag of serve, too", flag.Name)
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d flags were found", found)
	}
}
