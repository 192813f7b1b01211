package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logLines keeps what is logged.
type logLines struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

// count tells how many lines of that level there are.
func (l *logLines) count(level slog.Level) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.lines.Bytes(), []byte("level="+level.String()))
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func write(t testing.TB, path string, content []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, c Config) *Authenticator {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// nextLook lets the time pass until the files were looked at again. It must be called in a synctest bubble.
func nextLook() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

func bearerOf(token string) []string { return []string{"Bearer " + token} }

func newToken(t testing.TB, c Caller) (string, []byte) {
	t.Helper()
	token, line, err := NewToken(c)
	if err != nil {
		t.Fatal(err)
	}
	return token, line
}

func inAnHour() time.Time { return time.Now().Add(time.Hour).UTC().Truncate(time.Second) }

// identity is a key with its certificate.
type identity struct {
	key      *ecdsa.PrivateKey
	cert     *x509.Certificate
	sessions tls.ClientSessionCache // of its holder; may be nil
}

// issue makes a certificate as the template says, signed by i, or by itself when i is nil.
func (i *identity) issue(t testing.TB, template x509.Certificate) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.BasicConstraintsValid = true
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	parent := &identity{key: key, cert: &template}
	if i != nil {
		parent = i
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{key: key, cert: cert}
}

func (i *identity) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}

func (i *identity) keyPEM(t testing.TB) []byte { return privatePEM(t, i.key) }

func privatePEM(t testing.TB, key crypto.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func publicPEM(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func newCA(t testing.TB, name string) *identity {
	return (*identity)(nil).issue(t, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

func (i *identity) server(t testing.TB) *identity {
	return i.issue(t, x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func (i *identity) client(t testing.TB, commonName string, uris ...string) *identity {
	t.Helper()
	template := x509.Certificate{Subject: pkix.Name{CommonName: commonName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	return i.issue(t, template)
}

// tlsFiles writes a server's files and returns what names them.
func tlsFiles(t testing.TB, folder string, server, clientCA *identity, identities string) TLS {
	return TLS{
		CertFile:     write(t, filepath.Join(folder, "cert.pem"), server.certPEM(), 0o644),
		KeyFile:      write(t, filepath.Join(folder, "key.pem"), server.keyPEM(t), 0o600),
		ClientCAFile: write(t, filepath.Join(folder, "ca.pem"), clientCA.certPEM(), 0o644),
		IdentityFile: write(t, filepath.Join(folder, "identities.jsonl"), []byte(identities), 0o644),
	}
}
