package auth

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// TLS says with which certificate the service answers, and which ones of clients it accepts.
type TLS struct {
	CertFile string // the server's chain in PEM, leaf first; with it, TLS is on
	KeyFile  string // its private key in PEM, which only its owner and group may read
	// ClientCAFile holds the certificates in PEM of those who issue client certificates. A client that shows a certificate
	// of nobody in it is cut off; one that shows none needs another credential.
	ClientCAFile string
	// IdentityFile says who the clients are: one JSON object a line, empty lines and # comments apart, such as
	//
	//	{"identity": "uri:spiffe://acme/runtime", "tenant": "acme", "name": "runtime", "roles": ["runtime"]}
	//
	// An identity is "uri:" and a URI, or "dns:" and a DNS name, of the subject alternative names; or "cn:" and the common
	// name of a certificate that has neither. It is compared as a whole: no wildcards.
	IdentityFile string
	Flags        string // what the flags of certificate and key begin with, for errors; default --tls
}

// flag names the flag of the certificate or of its key, which are for one listener of several.
func (t TLS) flag(name string) string { return cmp.Or(t.Flags, "--tls") + "-" + name }

func (t TLS) problems() (problems []error) {
	for _, p := range []struct{ flag, value, other, otherValue string }{
		{t.flag("cert"), t.CertFile, t.flag("key"), t.KeyFile},
		{t.flag("key"), t.KeyFile, t.flag("cert"), t.CertFile},
		{"--tls-client-ca", t.ClientCAFile, "--tls-identities", t.IdentityFile},
		{"--tls-identities", t.IdentityFile, "--tls-client-ca", t.ClientCAFile},
	} {
		if p.value == "" && p.otherValue != "" {
			problems = append(problems, fmt.Errorf("%s is missing: %s needs it", p.flag, p.other))
		}
	}
	if (t.ClientCAFile != "" || t.IdentityFile != "") && t.CertFile == "" && t.KeyFile == "" {
		problems = append(problems, errors.New("client certificates need TLS: --tls-cert and --tls-key are missing"))
	}
	return problems
}

// keyPair is the server's certificate with its key, re-read when they change. A new version that is unfit leaves the one that
// was good in use.
type keyPair struct {
	cert, key file
	inUse     atomic.Pointer[tls.Certificate]
	read      [2][]byte // what is in use was read from
	told      string    // what the log was last told
}

// get returns the pair in use. It is there from the moment that load has once succeeded.
func (p *keyPair) get() *tls.Certificate { return p.inUse.Load() }

func (p *keyPair) load() error {
	_, err := p.reload()
	return err
}

func (p *keyPair) reload() (changed bool, err error) {
	cert, err := p.cert.read()
	if err != nil {
		return false, err
	}
	key, err := p.key.read()
	if err != nil {
		return false, err
	}
	if p.inUse.Load() != nil && bytes.Equal(cert, p.read[0]) && bytes.Equal(key, p.read[1]) {
		return false, nil
	}
	pair, err := parsePair(cert, key)
	if err != nil {
		return false, p.cert.named(err)
	}
	p.inUse.Store(pair)
	p.read = [2][]byte{cert, key}
	return true, nil
}

// refresh reads the files and tells the log what is new, once.
func (p *keyPair) refresh(log *slog.Logger) {
	changed, err := p.reload()
	switch {
	case err != nil && err.Error() != p.told:
		p.told = err.Error()
		log.Error("new version of a file is unfit; the previous one stays in use", "file", p.cert.path, "error", err)
	case err == nil && (changed || p.told != ""):
		p.told = ""
		log.Info("file is in use", "file", p.cert.path, "changed", changed)
	}
}

// lack is nil: a certificate lets nobody in.
func (p *keyPair) lack() error { return nil }

func parsePair(cert, key []byte) (*tls.Certificate, error) {
	if _, err := pemBlocks(cert, "CERTIFICATE"); err != nil {
		return nil, err
	}
	if _, err := pemBlocks(key, "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "EC PARAMETERS"); err != nil {
		return nil, fmt.Errorf("comes with a key file that %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, faultf(invalid, "makes no pair with its key file: %v", err)
	}
	leaf := pair.Leaf
	if err := checkDates(leaf); err != nil {
		return nil, err
	}
	if usages := leaf.ExtKeyUsage; len(usages) > 0 &&
		!slices.Contains(usages, x509.ExtKeyUsageServerAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		return nil, faultf(invalid, "is not for servers, according to its extended key usage")
	}
	return &pair, nil
}

func checkDates(c *x509.Certificate) error {
	now := time.Now()
	if now.After(c.NotAfter) {
		return faultf(outdated, "expired on %s", c.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(c.NotBefore) {
		return faultf(outdated, "is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// authorities are those who issue client certificates, by what their certificates consist of.
type authorities = map[string]*x509.Certificate

func poolOf(a authorities) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range a {
		pool.AddCert(c)
	}
	return pool
}

// vouch reports whether one of the authorities stands at the end of a chain that was verified when the connection began.
func vouch(a authorities, chains [][]*x509.Certificate) bool {
	return slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
		_, ok := a[string(chain[len(chain)-1].Raw)]
		return ok
	})
}

func parseAuthorities(content []byte) (authorities, error) {
	blocks, unfit := pemBlocks(content, "CERTIFICATE")
	found := authorities{}
	var dates error
	for i, block := range blocks {
		c, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			unfit = cmp.Or(unfit, error(faultf(invalid, "holds a certificate, number %d, that cannot be read: %v", i+1, err)))
		case !c.BasicConstraintsValid || !c.IsCA:
			unfit = cmp.Or(unfit, error(faultf(invalid, "holds a certificate, number %d, that is not of an authority", i+1)))
		default:
			if dates = checkDates(c); dates == nil {
				found[string(c.Raw)] = c
			}
		}
	}
	if unfit == nil && len(found) == 0 { // an old authority may stand beside its successor
		unfit = dates
	}
	return found, unfit
}

type identityLine struct {
	Caller
	Identity string `json:"identity"`
}

// identities finds callers by what their certificate says they are.
type identities = map[string]Caller

func parseIdentities(content []byte) (identities, error) {
	found := identities{}
	err := parseLines(content, func(line *identityLine) error {
		if err := line.normalize(); err != nil {
			return err
		}
		kind, name, _ := strings.Cut(line.Identity, ":")
		if !slices.Contains([]string{"uri", "dns", "cn"}, kind) || name == "" {
			return fmt.Errorf(`identity %q is none of "uri:", "dns:" and "cn:" with a name behind it`, line.Identity)
		}
		if kind == "dns" {
			line.Identity = strings.ToLower(line.Identity)
		}
		if _, ok := found[line.Identity]; ok {
			return fmt.Errorf("identity %q is that of an earlier line", line.Identity)
		}
		line.Credential = "certificate"
		found[line.Identity] = line.Caller
		return nil
	})
	return found, err
}

// identitiesOf returns what a certificate says its holder is.
func identitiesOf(c *x509.Certificate) (names []string) {
	for _, uri := range c.URIs {
		names = append(names, "uri:"+uri.String())
	}
	for _, name := range c.DNSNames {
		names = append(names, "dns:"+strings.ToLower(name))
	}
	if len(names) == 0 && c.Subject.CommonName != "" {
		names = append(names, "cn:"+c.Subject.CommonName)
	}
	return names
}

// mutual accepts client certificates.
type mutual struct {
	authorities *rollFile[string, *x509.Certificate]
	identities  *rollFile[string, Caller]
}

// authenticate asks anew what was asked when the connection began: connections live for days, and meanwhile
// certificates expire and authorities are given up.
func (m *mutual) authenticate(chains [][]*x509.Certificate) (Caller, error) {
	leaf := chains[0][0]
	if !vouch(m.authorities.get(), chains) {
		return Caller{}, fmt.Errorf("certificate of an authority that is not known any more: %w", ErrUnknown)
	}
	var caller Caller
	matches := 0
	for _, name := range identitiesOf(leaf) {
		if found, ok := m.identities.get()[name]; ok {
			caller = found
			matches++
		}
	}
	if matches == 0 {
		return Caller{}, fmt.Errorf("certificate of an identity that is not known: %w", ErrUnknown)
	}
	if matches > 1 {
		return Caller{}, fmt.Errorf("certificate of several known identities: %w", ErrUnknown)
	}
	if caller.Expires.IsZero() || leaf.NotAfter.Before(caller.Expires) {
		caller.Expires = leaf.NotAfter
	}
	if !time.Now().Before(caller.Expires) {
		return Caller{}, fmt.Errorf("certificate of %q: %w", caller.Name, ErrExpired)
	}
	return caller, nil
}
