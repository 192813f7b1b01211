package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
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
}

func (t TLS) problems() (problems []error) {
	for _, p := range []struct{ flag, value, other, otherValue string }{
		{"--tls-cert", t.CertFile, "--tls-key", t.KeyFile},
		{"--tls-key", t.KeyFile, "--tls-cert", t.CertFile},
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

func parsePair(contents [][]byte) (*tls.Certificate, error) {
	if _, err := pemBlocks(contents[0], "CERTIFICATE"); err != nil {
		return nil, err
	}
	if _, err := pemBlocks(contents[1], "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "EC PARAMETERS"); err != nil {
		return nil, fmt.Errorf("comes with a key file that %w", err)
	}
	pair, err := tls.X509KeyPair(contents[0], contents[1])
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

// authorities are those who issue client certificates.
type authorities struct {
	pool *x509.CertPool
	all  []*x509.Certificate
}

// vouch reports whether one of them stands at the end of a chain that was verified when the connection began.
func (a *authorities) vouch(chains [][]*x509.Certificate) bool {
	return slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
		return slices.ContainsFunc(a.all, chain[len(chain)-1].Equal)
	})
}

func parseAuthorities(contents [][]byte) (*authorities, error) {
	blocks, err := pemBlocks(contents[0], "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	a := &authorities{pool: x509.NewCertPool()}
	var dates error
	for i, block := range blocks {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, faultf(invalid, "holds a certificate, number %d, that cannot be read: %v", i+1, err)
		}
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, faultf(invalid, "holds a certificate, number %d, that is not of an authority", i+1)
		}
		if dates = checkDates(c); dates == nil {
			a.pool.AddCert(c)
			a.all = append(a.all, c)
		}
	}
	// An old authority may stand beside its successor.
	if len(a.all) == 0 {
		return nil, dates
	}
	return a, nil
}

type identityLine struct {
	Caller
	Identity string `json:"identity"`
}

// identities finds callers by what their certificate says they are.
type identities map[string]Caller

func parseIdentities(contents [][]byte) (identities, error) {
	found := identities{}
	err := parseLines(contents[0], func(line *identityLine) error {
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
	authorities *source[*authorities]
	identities  *source[identities]
}

// authenticate asks anew what was asked when the connection began: connections live for days, and meanwhile
// certificates expire and authorities are given up.
func (m *mutual) authenticate(chains [][]*x509.Certificate) (Caller, error) {
	leaf := chains[0][0]
	if !m.authorities.get().vouch(chains) {
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
