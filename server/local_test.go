package server

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// dialFrom makes a connection of Dial for gRPC, which comes from an address.
func dialFrom(t *testing.T, s *Server, ip string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///within",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.Dial(ctx, callerAddr(ip)) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func attach(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := zendeskv1.NewBlockServiceClient(conn).AttachedData(ctx,
		&zendeskv1.AttachedDataRequest{InteractionId: "one", Data: map[string]string{"a": "b"}})
	return err
}

// There is nobody to be connected to before the service serves, and when it does not any more.
func TestDialNotServing(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, b *bubble) {
		other, err := New(b.config)
		must(t, err)
		if _, err := other.Dial(t.Context(), callerAddr("192.0.2.1")); !errors.Is(err, ErrNotServing) {
			t.Errorf("before: %v", err)
		}
		if _, err := b.server.Dial(t.Context(), nil); err == nil {
			t.Error("a connection comes from nowhere")
		}
		b.drain(t)
		if _, err := b.server.Dial(t.Context(), callerAddr("192.0.2.1")); !errors.Is(err, ErrNotServing) {
			t.Errorf("after: %v", err)
		}
	})
}

// Who is not heard does not wait for ever.
func TestDialIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		s.within.Store(newLocalListener()) // which nobody serves yet
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Dial(ctx, callerAddr("192.0.2.1")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// Connections of Dial have the bounds of the listener's, and are counted by themselves.
func TestDialBounds(t *testing.T) {
	closedAtOnce := func(t *testing.T, b *bubble, ip string) bool {
		t.Helper()
		conn, err := b.server.Dial(t.Context(), callerAddr(ip))
		must(t, err)
		defer func() { _ = conn.Close() }()
		must(t, conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, err = io.ReadAll(conn)
		return err == nil
	}
	inBubble(t, Config{Bounds: Bounds{Connections: 3, ConnectionsPerAddress: 2}}, func(t *testing.T, b *bubble) {
		for _, ip := range []string{"192.0.2.1", "192.0.2.1"} { // in use by a caller, so that they stay
			must(t, attach(t.Context(), dialFrom(t, b.server, ip)))
		}
		if !closedAtOnce(t, b, "192.0.2.1") {
			t.Error("an address has more connections than it may")
		}
		must(t, attach(t.Context(), dialFrom(t, b.server, "192.0.2.2")))
		if !closedAtOnce(t, b, "192.0.2.3") {
			t.Error("there are more connections than there may be")
		}
		for range 3 {
			conn := b.client(t) // by the listener
			must(t, attach(t.Context(), conn))
			defer func() { must(t, conn.Close()) }()
		}
		if open := countOpen(*b.server.connections.Load()); open != 6 {
			t.Errorf("%d are open", open)
		}
	})
}

// Strangers who call often have to wait, by their address.
func TestDialPausesStrangers(t *testing.T) {
	file := newTokenFile(t, everyRole("acme")...)
	inGuardedBubble(t, Config{}, auth.Config{TokenFile: file.path}, func(t *testing.T, b *bubble) {
		begun := time.Now()
		const calls = 20
		for range strangerBurst + calls {
			mustReason(t, attach(t.Context(), dialFrom(t, b.server, "192.0.2.1")), codes.Unauthenticated, unauthenticated)
		}
		if took := time.Since(begun); took < calls*strangerEvery {
			t.Errorf("the calls took %s", took)
		}
		begun = time.Now()
		must(t, attach(showing(t.Context(), "Bearer "+file.tokens["acme runtime"]), dialFrom(t, b.server, "192.0.2.2")))
		if took := time.Since(begun); took >= strangerEvery {
			t.Errorf("another address waits for %s", took)
		}
	})
}

// The TLS of the listener is not that of connections of Dial, on which the authorization header alone says who calls. The log
// says for whom they were made.
func TestDialBesideTLS(t *testing.T) {
	file := newTokenFile(t, everyRole("acme")...)
	ca := newAuthority(t, "ours")
	certFile, keyFile := ca.issue(t, x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}).files(t)
	caFile, _ := ca.files(t)
	identities := filepath.Join(t.TempDir(), "identities")
	must(t, os.WriteFile(identities, []byte(`{"identity": "uri:spiffe://globex/admin", "tenant": "globex", "name": "globex's own", "roles": ["admin"]}`+"\n"), 0o600))
	s := newTestServer(t, func(c *Config, _ *zendesktest.Config) {
		c.Auth = openAuth(t, auth.Config{
			TokenFile: file.path,
			TLS:       auth.TLS{CertFile: certFile, KeyFile: keyFile, ClientCAFile: caFile, IdentityFile: identities},
		})
	})
	_, err := s.blocks.AttachedData(file.as(t, "acme runtime"), &zendeskv1.AttachedDataRequest{})
	if status.Code(err) != codes.Unavailable { // and the service serves
		t.Errorf("the listener takes connections without TLS: %v", err)
	}
	conn := dialFrom(t, s.server, "192.0.2.1")
	mustReason(t, attach(t.Context(), conn), codes.Unauthenticated, unauthenticated)
	must(t, attach(file.as(t, "acme runtime"), conn))
	s.stop()
	calls := s.log.finishes(t)
	if len(calls) != 2 || calls[0]["peer.address"] != "192.0.2.1:50505" || calls[1]["peer.address"] != "192.0.2.1:50505" {
		t.Errorf("the log says %v", calls)
	}
}
