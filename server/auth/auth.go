// Package auth says who a caller is and what it may do. It hides the files that credentials stand in and their
// re-reading, hashes, JWTs and certificates. It knows nothing of gRPC.
//
// A caller shows a bearer token or a JWT in its authorization header, or a client certificate. A header that is there
// decides: one that is not accepted is not made good by a certificate. Files are looked at every few seconds. A new
// version that is unfit leaves the one before it in use and is told to the log once, so that a slip neither locks
// everyone out nor lets anyone in.
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
	Interval  time.Duration // between two looks at the files; default 5 s
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
	if c.TokenFile == "" && c.JWT.KeyFile == "" && (c.TLS.ClientCAFile == "" || c.TLS.IdentityFile == "") {
		lacks = append(lacks, "authentication (--token-file, --jwt-key-file or --tls-client-ca)")
	}
	if insecure || len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("listening on %s needs %s, because it is not a loopback address; --insecure serves without", addr, strings.Join(lacks, " and "))
}

// Authenticator tells who callers are. It is safe for concurrent use.
type Authenticator struct {
	tokens     *source[tokens] // nil: there are none; so with the others
	issuer     *issuer
	pair       *source[*tls.Certificate]
	mutual     *mutual
	stop       chan struct{}
	stopOnce   sync.Once
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
		c.Interval = 5 * time.Second
	}
	a := &Authenticator{stop: make(chan struct{})}
	var refresh []func(*slog.Logger)
	if c.TokenFile != "" {
		a.tokens = &source[tokens]{files: []file{tokenFile(c.TokenFile)}, parse: parseTokens}
		problems = append(problems, start(a.tokens, &refresh))
	}
	if c.JWT.KeyFile != "" {
		a.issuer = newIssuer(c.JWT)
		problems = append(problems, start(a.issuer.keys, &refresh))
	}
	if c.TLS.CertFile != "" && c.TLS.KeyFile != "" {
		a.pair = &source[*tls.Certificate]{
			files: []file{
				{what: "--tls-cert", path: c.TLS.CertFile},
				{what: "--tls-key", path: c.TLS.KeyFile, secret: true},
			},
			parse: parsePair,
		}
		problems = append(problems, start(a.pair, &refresh))
	}
	if c.TLS.ClientCAFile != "" && c.TLS.IdentityFile != "" {
		a.mutual = &mutual{
			authorities: &source[*authorities]{files: []file{{what: "--tls-client-ca", path: c.TLS.ClientCAFile}}, parse: parseAuthorities},
			identities:  &source[identities]{files: []file{{what: "--tls-identities", path: c.TLS.IdentityFile}}, parse: parseIdentities},
		}
		problems = append(problems, start(a.mutual.authorities, &refresh), start(a.mutual.identities, &refresh))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	a.refreshing.Go(func() {
		ticker := time.NewTicker(c.Interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				for _, f := range refresh {
					f(c.Log)
				}
			case <-a.stop:
				return
			}
		}
	})
	return a, nil
}

// start loads a source for the first time and has it refreshed from then on.
func start[T any](s *source[T], refresh *[]func(*slog.Logger)) error {
	*refresh = append(*refresh, s.refresh)
	_, err := s.load()
	return err
}

// Close stops the re-reading of files. What was read last stays in use.
func (a *Authenticator) Close() {
	a.stopOnce.Do(func() { close(a.stop) })
	a.refreshing.Wait()
}

// Required reports whether callers must show a credential.
func (a *Authenticator) Required() bool {
	return a.tokens != nil || a.issuer != nil || a.mutual != nil
}

// Authenticate tells who calls. authorization are the values of that header; chains the verified chains of the client's
// certificate (tls.ConnectionState.VerifiedChains), empty when it showed none.
func (a *Authenticator) Authenticate(authorization []string, chains [][]*x509.Certificate) (Caller, error) {
	if !a.Required() {
		return Caller{Tenant: DefaultTenant, Name: "anonymous", Roles: slices.Clone(allRoles), Credential: "none"}, nil
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
		return a.tokens.get().authenticate(credential)
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
		current.ClientCAs = a.mutual.authorities.get().pool
		return current, nil
	}
	return config
}
