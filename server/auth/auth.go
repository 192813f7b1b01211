// Package auth says who a caller is and what it may do. It hides the files that credentials stand in and their
// re-reading, hashes, JWTs and certificates. It knows nothing of gRPC.
//
// A caller shows a bearer token or a JWT in its authorization header, or a client certificate. A header that is there
// decides: one that is not accepted is not made good by a certificate.
//
// Files are looked at each second. What is gone from one is let in no more, a few seconds later, also when the new version is
// unfit, as by its mode or a broken line elsewhere; what is new in an unfit version is not let in. A file that is missing,
// empty or cut short lets in for a minute whom it let in before, and then nobody, until it is fit again. The log is told, and
// Err. A server certificate, and its key, stay in use until they are replaced by a pair that is fit.
//
// Open reports all that is wrong with the configuration at once, by the flags of the command line. Errors of Authenticate are one of ErrNoCredential,
// ErrUnknown, ErrExpired and ErrMalformed, and hold nothing of the credential.
//
//	a, err := auth.Open(auth.Config{TokenFile: "tokens.jsonl", Log: log})
//	...
//	defer a.Close()
//	caller, err := a.Authenticate(md["authorization"], nil)
//	if err == nil && caller.May(auth.Admin) { ... }
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Why a caller is not known.
var (
	ErrNoCredential = errors.New("no credential")
	ErrUnknown      = errors.New("credential is not known")
	ErrExpired      = errors.New("credential has expired")
	ErrMalformed    = errors.New("credential is malformed")
)

// Config says which credentials are accepted. The zero value accepts everyone as DefaultTenant: see CheckListen.
type Config struct {
	// TokenFile holds bearer tokens as NewToken writes them, one JSON object a line, empty lines and # comments apart:
	//
	//	{"tenant": "acme", "name": "runtime", "roles": ["runtime"], "expires": "2027-01-31T00:00:00Z", "sha256": "9f86…"}
	//
	// Only its owner and group may read it.
	TokenFile string
	JWT       JWT
	TLS       TLS
	Interval  time.Duration // between two looks at the files; default 1 s
	Exposed   bool          // others than this machine reach the listener: who shows no credential is no Operator then
	Log       *slog.Logger  // required
}

// CheckListen refuses an address that others than this machine reach, unless TLS is on and callers must show a
// credential, or insecure is set.
func (c Config) CheckListen(addr net.Addr, insecure bool) error {
	switch addr := addr.(type) {
	case *net.UnixAddr:
		return nil
	case *net.TCPAddr:
		if addr.IP.IsLoopback() {
			return nil
		}
	}
	var lacks []string
	if c.TLS.CertFile == "" || c.TLS.KeyFile == "" {
		lacks = append(lacks, "TLS (--tls-cert and --tls-key)")
	}
	if c.TokenFile == "" && c.JWT.KeyFile == "" && c.JWT.KeySetURL == "" && (c.TLS.ClientCAFile == "" || c.TLS.IdentityFile == "") {
		lacks = append(lacks, "authentication (--token-file, --jwt-key-file, --jwt-jwks-url or --tls-client-ca)")
	}
	if insecure || len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("listening on %s needs %s, because it is not a loopback address; --insecure serves without", addr, strings.Join(lacks, " and "))
}

// Authenticator tells who callers are. It is safe for concurrent use.
type Authenticator struct {
	tokens     *rollFile[[sha256.Size]byte, Caller] // nil: there are none; so with the others
	issuer     *issuer
	pair       *keyPair
	mutual     *mutual
	sources    []source
	exposed    bool
	stop       context.CancelFunc
	refreshing sync.WaitGroup
}

// Open reads all files, and goes on reading them when they change until Close. Its error joins everything that is wrong.
func Open(c Config) (*Authenticator, error) {
	problems := append(c.JWT.problems(), c.TLS.problems()...)
	if c.Log == nil {
		problems = append(problems, errors.New("auth: log is required"))
	}
	if c.Interval < 0 {
		problems = append(problems, errors.New("auth: interval must not be negative"))
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Authenticator{stop: cancel, exposed: c.Exposed}
	keep := func(s source) {
		a.sources = append(a.sources, s)
		problems = append(problems, s.load())
	}
	if c.TokenFile != "" {
		a.tokens = &rollFile[[sha256.Size]byte, Caller]{file: tokenFile(c.TokenFile), parse: parseTokens}
		keep(a.tokens)
	}
	if c.JWT.KeyFile != "" || c.JWT.KeySetURL != "" {
		a.issuer = newIssuer(c.JWT, c.Log)
	}
	if c.JWT.KeyFile != "" {
		keep(a.issuer.keys)
	}
	if c.TLS.CertFile != "" && c.TLS.KeyFile != "" {
		a.pair = &keyPair{
			cert: file{what: c.TLS.flag("cert"), path: c.TLS.CertFile},
			key:  file{what: c.TLS.flag("key"), path: c.TLS.KeyFile, secret: true},
		}
		keep(a.pair)
	}
	if c.TLS.ClientCAFile != "" && c.TLS.IdentityFile != "" {
		a.mutual = &mutual{
			authorities: &rollFile[string, *x509.Certificate]{file: file{what: "--tls-client-ca", path: c.TLS.ClientCAFile}, parse: parseAuthorities},
			identities:  &rollFile[string, Caller]{file: file{what: "--tls-identities", path: c.TLS.IdentityFile}, parse: parseIdentities},
		}
		keep(a.mutual.authorities)
		keep(a.mutual.identities)
	}
	if err := errors.Join(problems...); err != nil {
		cancel()
		return nil, err
	}
	a.refreshing.Go(func() {
		ticker := time.NewTicker(c.Interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				for _, s := range a.sources {
					s.refresh(c.Log)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	if a.issuer != nil && a.issuer.remote != nil {
		a.refreshing.Go(func() { a.issuer.remote.run(ctx) })
	}
	return a, nil
}

// source is where credentials, or what they are judged by, come from.
type source interface {
	load() error          // for the first time, when it must be fit
	refresh(*slog.Logger) // looks again, and tells what is new
	lack() error          // why nobody is let in by it
}

// Close stops the re-reading of files and the fetching of keys. What was read last stays in use.
func (a *Authenticator) Close() {
	a.stop()
	a.refreshing.Wait()
}

// Err says why some callers, or all, cannot be let in for now whatever they show: a file has been missing, empty or cut short
// for a minute, is unfit and lets nobody in, or the issuer's keys could not be fetched yet. It is nil again by itself.
func (a *Authenticator) Err() error {
	var lacks []error
	for _, s := range a.sources {
		lacks = append(lacks, s.lack())
	}
	if a.issuer != nil && a.issuer.remote != nil {
		lacks = append(lacks, a.issuer.remote.lack())
	}
	return errors.Join(lacks...)
}

// Required reports whether callers must show a credential.
func (a *Authenticator) Required() bool {
	return a.tokens != nil || a.issuer != nil || a.mutual != nil
}

// Authenticate tells who calls. authorization are the values of that header; chains the verified chains of the client's
// certificate (tls.ConnectionState.VerifiedChains), empty when it showed none.
func (a *Authenticator) Authenticate(authorization []string, chains [][]*x509.Certificate) (Caller, error) {
	if !a.Required() {
		caller := Caller{Tenant: DefaultTenant, Name: "anonymous", Roles: slices.Clone(allRoles), Credential: "none"}
		if a.exposed {
			caller.Roles = slices.DeleteFunc(caller.Roles, func(r Role) bool { return r == Operator })
		}
		return caller, nil
	}
	caller, err := a.authenticate(authorization, chains)
	caller.Roles = slices.Clone(caller.Roles) // those of a file are shared by all calls
	return caller, err
}

func (a *Authenticator) authenticate(authorization []string, chains [][]*x509.Certificate) (Caller, error) {
	switch {
	case len(authorization) > 1:
		return Caller{}, fmt.Errorf("more than one authorization header: %w", ErrMalformed)
	case len(authorization) == 1:
		credential, err := bearer(authorization[0])
		if err != nil {
			return Caller{}, err
		}
		return a.authenticateBearer(credential)
	case a.mutual != nil && len(chains) > 0:
		return a.mutual.authenticate(chains)
	}
	return Caller{}, ErrNoCredential
}

// authenticateBearer tells a JWT, which has two dots, from a token, which has none.
func (a *Authenticator) authenticateBearer(credential string) (Caller, error) {
	isJWT := strings.Count(credential, ".") == 2
	switch {
	case isJWT && a.issuer != nil:
		return a.issuer.authenticate(credential)
	case !isJWT && a.tokens != nil:
		return authenticateToken(a.tokens.get(), credential)
	}
	return Caller{}, fmt.Errorf("bearer token of a kind that is not configured: %w", ErrUnknown)
}

// bearer returns the credential in a header of the form that RFC 6750, section 2.1 describes.
func bearer(header string) (string, error) {
	scheme, credential, _ := strings.Cut(header, " ")
	credential = strings.TrimSpace(credential)
	inToken68 := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/=", r)
	}
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", fmt.Errorf("authorization header of another scheme than Bearer: %w", ErrMalformed)
	case len(credential) > maxCredentialBytes:
		return "", fmt.Errorf("bearer token of more than %d bytes: %w", maxCredentialBytes, ErrMalformed)
	case credential == "" || strings.ContainsFunc(credential, func(r rune) bool { return !inToken68(r) }):
		return "", fmt.Errorf("bearer token with other characters than RFC 6750 allows: %w", ErrMalformed)
	}
	return credential, nil
}

// CertificateEnd is when the certificate ends that is served; ok is false without TLS.
func (a *Authenticator) CertificateEnd() (end time.Time, ok bool) {
	if a.pair == nil {
		return time.Time{}, false
	}
	return a.pair.get().Leaf.NotAfter, true
}

// TLS returns how to serve TLS 1.2 or newer with the certificates that are in use at the time of each handshake; nil
// when there is no certificate.
func (a *Authenticator) TLS() *tls.Config {
	if a.pair == nil {
		return nil
	}
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.pair.get(), nil },
		// A resumed session would keep what was verified under files that have changed since.
		SessionTicketsDisabled: true,
	}
	if a.mutual == nil {
		return config
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		current := config.Clone()
		current.ClientCAs = poolOf(a.mutual.authorities.get())
		return current, nil
	}
	return config
}
