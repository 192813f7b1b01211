package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const someIdentities = `# who is who
{"identity": "uri:spiffe://acme/runtime", "tenant": "acme", "name": "runtime", "roles": ["runtime"]}
{"identity": "uri:spiffe://acme/ops", "tenant": "acme", "name": "ops", "roles": ["ops"]}
{"identity": "dns:Desktop.acme.internal", "tenant": "acme", "name": "desktop", "roles": ["desktop"]}
{"identity": "cn:old", "tenant": "acme", "name": "old", "roles": ["admin"]}
`

// handshake connects to a server of that configuration and returns what each side then knows.
func handshake(server *tls.Config, trust *identity, client *identity, maxVersion uint16) (fromServer, fromClient tls.ConnectionState, err error) {
	config := &tls.Config{ServerName: "localhost", RootCAs: x509.NewCertPool(), NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS10, MaxVersion: maxVersion}
	config.RootCAs.AddCert(trust.cert)
	if client != nil {
		config.ClientSessionCache = client.sessions
		// Sent whether or not the server asks for one of its issuer.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{client.cert.Raw}, PrivateKey: client.key}, nil
		}
	}
	near, far := net.Pipe()
	served := tls.Server(far, server)
	dialed := tls.Client(near, config)
	serverErr := make(chan error, 1)
	go func() {
		err := served.Handshake()
		if err == nil {
			_, err = served.Write([]byte{1})
		}
		serverErr <- errors.Join(err, far.Close())
	}()
	// In TLS 1.3 the client learns of a refusal with the first byte only.
	_, readErr := dialed.Read(make([]byte, 1))
	err = errors.Join(readErr, near.Close(), <-serverErr)
	return served.ConnectionState(), dialed.ConnectionState(), err
}

func TestMutualTLS(t *testing.T) {
	serverCA, clientCA, otherCA := newCA(t, "server"), newCA(t, "client"), newCA(t, "other")
	a := open(t, Config{TLS: tlsFiles(t, t.TempDir(), serverCA.server(t), clientCA, someIdentities)})
	byDNS := clientCA.issue(t, x509.Certificate{DNSNames: []string{"x.internal", "desktop.acme.INTERNAL"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	expired := clientCA.issue(t, x509.Certificate{DNSNames: []string{"desktop.acme.internal"}, NotAfter: time.Now().Add(-time.Minute)})
	tests := map[string]struct {
		client    *identity
		connected bool
		name      string
		want      error
	}{
		"by URI":             {clientCA.client(t, "x", "spiffe://acme/runtime"), true, "runtime", nil},
		"by DNS name":        {byDNS, true, "desktop", nil},
		"by common name":     {clientCA.client(t, "old"), true, "old", nil},
		"no certificate":     {nil, true, "", ErrNoCredential},
		"unknown":            {clientCA.client(t, "x", "spiffe://acme/other"), true, "", ErrUnknown},
		"name beside a URI":  {clientCA.client(t, "old", "spiffe://acme/other"), true, "", ErrUnknown},
		"CN as if a URI":     {clientCA.client(t, "uri:spiffe://acme/runtime"), true, "", ErrUnknown},
		"two known":          {clientCA.client(t, "x", "spiffe://acme/runtime", "spiffe://acme/ops"), true, "", ErrUnknown},
		"of another CA":      {otherCA.client(t, "x", "spiffe://acme/runtime"), false, "", nil},
		"of the server's CA": {serverCA.client(t, "x", "spiffe://acme/runtime"), false, "", nil},
		"a server's":         {clientCA.server(t), false, "", nil},
		"expired":            {expired, false, "", nil},
		"signed by itself":   {(*identity)(nil).client(t, "x", "spiffe://acme/runtime"), false, "", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			state, clientState, err := handshake(a.TLS(), serverCA, test.client, tls.VersionTLS13)
			if (err == nil) != test.connected {
				t.Fatalf("handshake: %v, want connected %v", err, test.connected)
			}
			if !test.connected {
				return
			}
			if clientState.NegotiatedProtocol != "h2" {
				t.Errorf("protocol %q, want h2", clientState.NegotiatedProtocol)
			}
			caller, err := a.Authenticate(nil, state.VerifiedChains)
			if !errors.Is(err, test.want) || caller.Name != test.name {
				t.Errorf("caller %+v, error %v; want %q, %v", caller, err, test.name, test.want)
			}
			if err == nil && (caller.Credential != "certificate" || !caller.Expires.Equal(test.client.cert.NotAfter)) {
				t.Errorf("caller %+v does not end with its certificate", caller)
			}
		})
	}
}

func TestHeaderDecidesBeforeCertificate(t *testing.T) {
	folder := t.TempDir()
	ca := newCA(t, "ca")
	token, line := newToken(t, Caller{Tenant: "north", Name: "token", Roles: []Role{Ops}, Expires: inAnHour()})
	a := open(t, Config{
		TokenFile: write(t, filepath.Join(folder, "tokens"), line, 0o600),
		TLS:       tlsFiles(t, folder, ca.server(t), ca, someIdentities),
	})
	state, _, err := handshake(a.TLS(), ca, ca.client(t, "old"), tls.VersionTLS13)
	if err != nil {
		t.Fatal(err)
	}
	if caller, err := a.Authenticate(bearerOf(token), state.VerifiedChains); err != nil || caller.Name != "token" {
		t.Errorf("with a token: %+v, %v", caller, err)
	}
	if _, err := a.Authenticate(bearerOf(token+"x"), state.VerifiedChains); !errors.Is(err, ErrUnknown) {
		t.Errorf("with a wrong token: %v, want %v", err, ErrUnknown)
	}
	if caller, err := a.Authenticate(nil, state.VerifiedChains); err != nil || caller.Name != "old" {
		t.Errorf("with the certificate alone: %+v, %v", caller, err)
	}
}

func TestTLSVersions(t *testing.T) {
	ca := newCA(t, "ca")
	both := tlsFiles(t, t.TempDir(), ca.server(t), ca, someIdentities)
	for name, files := range map[string]TLS{"plain": {CertFile: both.CertFile, KeyFile: both.KeyFile}, "mutual": both} {
		config := open(t, Config{TLS: files}).TLS()
		for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			if _, _, err := handshake(config, ca, nil, version); (err == nil) != want {
				t.Errorf("%s, %s: error %v, want success %v", name, tls.VersionName(version), err, want)
			}
		}
	}
}

func TestSessionsAreNotResumed(t *testing.T) {
	ca := newCA(t, "ca")
	config := open(t, Config{TLS: tlsFiles(t, t.TempDir(), ca.server(t), ca, someIdentities)}).TLS()
	client := ca.client(t, "old")
	client.sessions = tls.NewLRUClientSessionCache(1)
	for range 2 {
		_, state, err := handshake(config, ca, client, tls.VersionTLS13)
		if err != nil || state.DidResume {
			t.Errorf("resumed %v, error %v", state.DidResume, err)
		}
	}
}

func TestCertificateReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		oldCA, newerCA := newCA(t, "old"), newCA(t, "newer")
		first, second := oldCA.server(t), oldCA.server(t)
		files := tlsFiles(t, t.TempDir(), first, oldCA, someIdentities)
		var log logLines
		a := open(t, Config{TLS: files, Log: log.logger()})
		config := a.TLS() // once: it follows the files
		runtime, err := url.Parse("spiffe://acme/runtime")
		if err != nil {
			t.Fatal(err)
		}
		client := oldCA.issue(t, x509.Certificate{
			URIs: []*url.URL{runtime}, NotAfter: time.Now().Add(10 * time.Minute), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		state, _, err := handshake(config, oldCA, client, tls.VersionTLS13)
		if err != nil {
			t.Fatal(err)
		}
		errs := 0
		check := func(when string, want *identity, newErrs int) {
			t.Helper()
			nextLook()
			_, got, err := handshake(config, oldCA, nil, tls.VersionTLS13)
			if err != nil || !got.PeerCertificates[0].Equal(want.cert) {
				t.Errorf("%s: error %v, or not the expected certificate", when, err)
			}
			if errs += newErrs; log.count(slog.LevelError) != errs {
				t.Errorf("%s: %d errors logged by now, want %d", when, log.count(slog.LevelError), errs)
			}
		}
		check("at first", first, 0)
		write(t, files.CertFile, second.certPEM(), 0o644)
		check("half of a new pair", first, 1)
		check("still half", first, 0)
		write(t, files.KeyFile, second.keyPEM(t), 0o600)
		check("whole", second, 0)
		write(t, files.KeyFile, second.keyPEM(t), 0o644)
		check("key readable by all", second, 1)
		write(t, files.KeyFile, first.keyPEM(t)[:50], 0o600)
		check("key cut", second, 1)
		future := oldCA.issue(t, x509.Certificate{DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(8 * time.Second)})
		write(t, files.CertFile, future.certPEM(), 0o644)
		write(t, files.KeyFile, future.keyPEM(t), 0o600)
		check("not valid yet", second, 1)
		check("valid since", future, 0)

		chains := state.VerifiedChains
		authenticate := func(when string, want error) {
			t.Helper()
			nextLook()
			if _, err := a.Authenticate(nil, chains); !errors.Is(err, want) {
				t.Errorf("%s: error %v, want %v", when, err, want)
			}
		}
		authenticate("at first", nil)
		write(t, files.IdentityFile, []byte(someIdentities+"{}\n"), 0o644)
		authenticate("a broken line", nil)
		write(t, files.IdentityFile, []byte("{}\n"), 0o644)
		authenticate("a broken line alone", ErrUnknown)
		write(t, files.IdentityFile, []byte("# nobody"), 0o644)
		authenticate("no identities", ErrUnknown)
		write(t, files.IdentityFile, []byte(someIdentities), 0o644)
		authenticate("identities again", nil)
		write(t, files.ClientCAFile, append(first.certPEM(), oldCA.certPEM()...), 0o644)
		authenticate("one that is no authority beside it", nil)
		write(t, files.ClientCAFile, oldCA.certPEM()[:200], 0o644)
		authenticate("cut short", nil)
		write(t, files.ClientCAFile, append(newerCA.certPEM(), oldCA.certPEM()...), 0o644)
		authenticate("both authorities", nil)
		if _, _, err := handshake(config, oldCA, newerCA.client(t, "old"), tls.VersionTLS13); err != nil {
			t.Errorf("client of the newer authority: %v", err)
		}
		write(t, files.ClientCAFile, newerCA.certPEM(), 0o644)
		authenticate("authority given up, connection still open", ErrUnknown)
		if _, _, err := handshake(config, oldCA, client, tls.VersionTLS13); err == nil {
			t.Error("authority given up: a new connection was made")
		}
		write(t, files.ClientCAFile, oldCA.certPEM(), 0o644)
		authenticate("authority again", nil)
		time.Sleep(time.Until(client.cert.NotAfter))
		authenticate("certificate expired, connection still open", ErrExpired)
	})
}

func TestIdentityExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "ca")
		expires := inAnHour()
		line := fmt.Sprintf(`{"identity":"cn:x","tenant":"acme","name":"x","roles":["ops"],"expires":%q}`, expires.Format(time.RFC3339))
		a := open(t, Config{TLS: tlsFiles(t, t.TempDir(), ca.server(t), ca, line)})
		state, _, err := handshake(a.TLS(), ca, ca.client(t, "x"), tls.VersionTLS12)
		if err != nil {
			t.Fatal(err)
		}
		want := Caller{Tenant: "acme", Name: "x", Roles: []Role{Ops}, Expires: expires, Credential: "certificate"}
		got, err := a.Authenticate(nil, state.VerifiedChains)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("error %v, caller (-want +got):\n%s", err, diff)
		}
		time.Sleep(time.Hour)
		if _, err := a.Authenticate(nil, state.VerifiedChains); !errors.Is(err, ErrExpired) {
			t.Errorf("an hour later: error %v, want %v", err, ErrExpired)
		}
	})
}

func TestTLSFilesRefused(t *testing.T) {
	ca := newCA(t, "ca")
	server, other := ca.server(t), ca.server(t)
	key := server.keyPEM(t)
	outOfDate := func(from, to time.Duration) *identity {
		return ca.issue(t, x509.Certificate{IsCA: true, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to)})
	}
	old, early := outOfDate(-2*time.Hour, -time.Hour), outOfDate(time.Hour, 2*time.Hour)
	cut := func(b []byte) []byte { return b[:len(b)-30] }
	tests := map[string]struct {
		change func(f TLS)
		file   func(f TLS) string // which the error names
		want   faultKind
	}{
		"certificate empty":        {func(f TLS) { write(t, f.CertFile, nil, 0o644) }, certFile, empty},
		"certificate cut":          {func(f TLS) { write(t, f.CertFile, cut(server.certPEM()), 0o644) }, certFile, truncated},
		"certificate's second cut": {func(f TLS) { write(t, f.CertFile, append(server.certPEM(), cut(ca.certPEM())...), 0o644) }, certFile, truncated},
		"certificate a key":        {func(f TLS) { write(t, f.CertFile, key, 0o644) }, certFile, invalid},
		"certificate damaged": {func(f TLS) {
			write(t, f.CertFile, bytes.Replace(server.certPEM(), []byte("MII"), []byte("AAA"), 1), 0o644)
		}, certFile, invalid},
		"certificate no PEM":    {func(f TLS) { write(t, f.CertFile, server.cert.Raw, 0o644) }, certFile, invalid},
		"certificate another's": {func(f TLS) { write(t, f.CertFile, other.certPEM(), 0o644) }, certFile, invalid},
		"certificate a client's": {func(f TLS) {
			c := ca.client(t, "x")
			write(t, f.CertFile, c.certPEM(), 0o644)
			write(t, f.KeyFile, c.keyPEM(t), 0o600)
		}, certFile, invalid},
		"certificate expired":  {func(f TLS) { write(t, f.CertFile, old.certPEM(), 0o644); write(t, f.KeyFile, old.keyPEM(t), 0o600) }, certFile, outdated},
		"certificate early":    {func(f TLS) { write(t, f.CertFile, early.certPEM(), 0o644); write(t, f.KeyFile, early.keyPEM(t), 0o600) }, certFile, outdated},
		"certificate writable": {func(f TLS) { write(t, f.CertFile, server.certPEM(), 0o646) }, certFile, exposed},
		"key empty":            {func(f TLS) { write(t, f.KeyFile, nil, 0o600) }, keyFile, empty},
		"key readable by all":  {func(f TLS) { write(t, f.KeyFile, key, 0o604) }, keyFile, exposed},
		"key cut":              {func(f TLS) { write(t, f.KeyFile, cut(key), 0o600) }, certFile, truncated},
		"key a certificate":    {func(f TLS) { write(t, f.KeyFile, server.certPEM(), 0o600) }, certFile, invalid},
		"key a public key":     {func(f TLS) { write(t, f.KeyFile, publicPEM(t, &server.key.PublicKey), 0o600) }, certFile, invalid},
		"CA empty":             {func(f TLS) { write(t, f.ClientCAFile, nil, 0o644) }, caFile, empty},
		"CA cut":               {func(f TLS) { write(t, f.ClientCAFile, cut(ca.certPEM()), 0o644) }, caFile, truncated},
		"CA a key":             {func(f TLS) { write(t, f.ClientCAFile, key, 0o644) }, caFile, invalid},
		"CA no authority":      {func(f TLS) { write(t, f.ClientCAFile, server.certPEM(), 0o644) }, caFile, invalid},
		"CA expired":           {func(f TLS) { write(t, f.ClientCAFile, old.certPEM(), 0o644) }, caFile, outdated},
		"CA writable":          {func(f TLS) { write(t, f.ClientCAFile, ca.certPEM(), 0o666) }, caFile, exposed},
		"identities empty":     {func(f TLS) { write(t, f.IdentityFile, nil, 0o644) }, identityFile, empty},
		"identities cut":       {func(f TLS) { write(t, f.IdentityFile, cut([]byte(someIdentities)), 0o644) }, identityFile, truncated},
		"identity twice":       {func(f TLS) { write(t, f.IdentityFile, []byte(someIdentities+someIdentities), 0o644) }, identityFile, invalid},
		"identity of no kind": {func(f TLS) {
			write(t, f.IdentityFile, []byte(`{"identity":"x","tenant":"a","name":"x","roles":["ops"]}`), 0o644)
		}, identityFile, invalid},
		"identity without name": {func(f TLS) {
			write(t, f.IdentityFile, []byte(`{"identity":"cn:","tenant":"a","name":"x","roles":["ops"]}`), 0o644)
		}, identityFile, invalid},
		"identity without tenant":  {func(f TLS) { write(t, f.IdentityFile, []byte(`{"identity":"cn:x","name":"x","roles":["ops"]}`), 0o644) }, identityFile, invalid},
		"identities a certificate": {func(f TLS) { write(t, f.IdentityFile, ca.certPEM(), 0o644) }, identityFile, invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			files := tlsFiles(t, t.TempDir(), server, ca, someIdentities)
			open(t, Config{TLS: files}) // they are fit until something is changed
			test.change(files)
			checkRefused(t, Config{TLS: files}, test.file(files), test.want)
		})
	}
}

func certFile(f TLS) string     { return f.CertFile }
func keyFile(f TLS) string      { return f.KeyFile }
func caFile(f TLS) string       { return f.ClientCAFile }
func identityFile(f TLS) string { return f.IdentityFile }
