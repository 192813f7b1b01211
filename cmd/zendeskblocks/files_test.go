package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// TestPipesForFiles starts the program with a pipe, which nobody writes to, in the place of each file that it reads: it ends by
// itself, with one line that names the flag.
func TestPipesForFiles(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	keys := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	for flag, others := range map[string][]string{
		"--data":           {"--key-file", "KEY"},
		"--key-file":       nil,
		"--audit-log":      nil,
		"--token-file":     nil,
		"--jwt-key-file":   {"--jwt-issuer", "x", "--jwt-audience", "x"},
		"--tls-cert":       {"--tls-key", "KEYS"},
		"--tls-key":        {"--tls-cert", "KEYS"},
		"--tls-client-ca":  {"--tls-identities", "TEXT", "--tls-cert", "KEYS", "--tls-key", "KEYS"},
		"--tls-identities": {"--tls-client-ca", "KEYS", "--tls-cert", "KEYS", "--tls-key", "KEYS"},
	} {
		t.Run(flag, func(t *testing.T) {
			folder := t.TempDir()
			pipe := filepath.Join(folder, "pipe")
			must(t, syscall.Mkfifo(pipe, 0o600))
			for i, other := range others {
				switch other {
				case "KEYS":
					writeFile(t, filepath.Join(folder, "keys"), keys, 0o600)
					others[i] = filepath.Join(folder, "keys")
				case "KEY":
					others[i] = filepath.Join(folder, "key")
					writeKey(t, others[i])
				case "TEXT":
					writeFile(t, filepath.Join(folder, "text"), "# nobody\n", 0o600)
					others[i] = filepath.Join(folder, "text")
				}
			}
			args := append([]string{"serve", "--listen", "127.0.0.1:0", flag, pipe}, others...)
			if flag != "--data" {
				args = append(args, "--data", filepath.Join(folder, "data.db"))
			}
			p := startProgram(t, args...)
			if code := p.exitCode(t); code != 1 {
				t.Errorf("ended with code %d", code)
			}
			if log := p.stderr.String(); !strings.Contains(log, flag) || !strings.Contains(log, "regular file") {
				t.Errorf("the log does not say that %s is no regular file:\n%s", flag, log)
			}
		})
	}
}

// TestLostTokenFile takes the token file of a process away that serves: after a minute it lets nobody in, and health says so,
// until the file is there again.
func TestLostTokenFile(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	file := filepath.Join(t.TempDir(), "tokens")
	token := createToken(t, "--token-file", file, "--name", "x", "--role", "admin")
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"), "--drain-delay", "0s", "--token-file", file)
	_, conn := serving(t, p)
	accounts, health := zendeskv1.NewAccountServiceClient(conn), healthv1.NewHealthClient(conn)
	list := func() codes.Code {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		_, err := accounts.ListAccounts(ctx, &zendeskv1.ListAccountsRequest{}, grpc.WaitForReady(true))
		return status.Code(err)
	}
	awaitHealth(t, health, healthv1.HealthCheckResponse_SERVING)
	must(t, os.Rename(file, file+".away"))
	p.await(t, p.stderr, `new version of a file is unfit`)
	if code := list(); code != codes.OK {
		t.Errorf("within a minute: %v", code)
	}
	lost := time.Now()
	watch, err := health.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	for {
		resp, err := watch.Recv() // until then there is nothing to wait for
		must(t, err)
		if resp.GetStatus() == healthv1.HealthCheckResponse_NOT_SERVING {
			break
		}
	}
	if code := list(); code != codes.Unauthenticated {
		t.Errorf("after %v: %v", time.Since(lost), code)
	}
	must(t, os.Rename(file+".away", file))
	awaitHealth(t, health, healthv1.HealthCheckResponse_SERVING)
	if code := list(); code != codes.OK {
		t.Errorf("back again: %v", code)
	}
}
