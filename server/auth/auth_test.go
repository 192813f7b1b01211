package auth

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

func TestOpenReportsEverything(t *testing.T) {
	folder := t.TempDir()
	_, err := Open(Config{
		TokenFile: filepath.Join(folder, "tokens"),
		JWT:       JWT{KeyFile: filepath.Join(folder, "keys")}, // no issuer, no audience
		TLS:       TLS{CertFile: filepath.Join(folder, "cert"), ClientCAFile: filepath.Join(folder, "ca")},
		Interval:  -1,
	})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error %v is of one problem", err)
	}
	// Both files, issuer, audience, key file, identity file, log, interval.
	if got := len(joined.Unwrap()); got != 8 {
		t.Errorf("%d problems, want 8:\n%v", got, err)
	}
}

func TestOpenRefusesHalves(t *testing.T) {
	for name, c := range map[string]Config{
		"certificate alone": {TLS: TLS{CertFile: "x"}},
		"key alone":         {TLS: TLS{KeyFile: "x"}},
		"CA alone":          {TLS: TLS{ClientCAFile: "x"}},
		"identities alone":  {TLS: TLS{IdentityFile: "x"}},
		"claim alone":       {JWT: JWT{TenantClaim: "x"}},
		"issuer alone":      {JWT: JWT{Issuer: "x", Audience: "x"}},
	} {
		c.Log = slog.New(slog.DiscardHandler)
		if a, err := Open(c); err == nil || a != nil {
			t.Errorf("%s: %v, %v; want an error", name, a, err)
		}
	}
}

func TestNothingConfigured(t *testing.T) {
	a := open(t, Config{})
	if a.Required() || a.TLS() != nil {
		t.Errorf("required %v, TLS %v", a.Required(), a.TLS())
	}
	caller, err := a.Authenticate(bearerOf("x"), nil)
	want := Caller{Tenant: "default", Name: "anonymous", Roles: []Role{Admin, Runtime, Desktop, Ops, Operator}, Credential: "none"}
	if diff := cmp.Diff(want, caller); err != nil || diff != "" {
		t.Errorf("error %v, caller (-want +got):\n%s", err, diff)
	}
	a.Close() // again is fine

	caller, err = open(t, Config{Exposed: true}).Authenticate(nil, nil)
	want.Roles = []Role{Admin, Runtime, Desktop, Ops}
	if diff := cmp.Diff(want, caller); err != nil || diff != "" {
		t.Errorf("from elsewhere: error %v, caller (-want +got):\n%s", err, diff)
	}
}

func TestCallersDoNotShareRoles(t *testing.T) {
	token, line := newToken(t, Caller{Tenant: "acme", Name: "x", Roles: []Role{Ops}, Expires: inAnHour()})
	a := open(t, Config{TokenFile: write(t, filepath.Join(t.TempDir(), "t"), line, 0o600)})
	for range 2 {
		caller, err := a.Authenticate(bearerOf(token), nil)
		if err != nil || caller.May(Admin) {
			t.Fatalf("caller %+v, error %v", caller, err)
		}
		caller.Roles[0] = Admin
	}
}

func TestCheckListen(t *testing.T) {
	folder := t.TempDir()
	ca := newCA(t, "ca")
	mutual := tlsFiles(t, folder, ca.server(t), ca, someIdentities)
	tokens := write(t, filepath.Join(folder, "tokens"), []byte("# none\n"), 0o600)
	plain := TLS{CertFile: mutual.CertFile, KeyFile: mutual.KeyFile}
	nothing, tokensOnly, tlsOnly := Config{}, Config{TokenFile: tokens}, Config{TLS: plain}
	both, byCertificate := Config{TLS: plain, TokenFile: tokens}, Config{TLS: mutual}
	for _, c := range []Config{nothing, tokensOnly, tlsOnly, both, byCertificate} {
		if a := open(t, c); a.Required() != (c.TokenFile != "" || c.TLS.ClientCAFile != "") || (a.TLS() != nil) != (c.TLS.CertFile != "") {
			t.Errorf("%+v: CheckListen takes it for something else", c)
		}
	}
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	for _, addr := range []net.Addr{tcp("127.0.0.1"), tcp("127.8.8.8"), tcp("::1"), &net.UnixAddr{Name: "x", Net: "unix"}} {
		for _, a := range []Config{nothing, tokensOnly, tlsOnly, both} {
			if err := a.CheckListen(addr, false); err != nil {
				t.Errorf("%s: %v", addr, err)
			}
		}
	}
	for _, addr := range []net.Addr{tcp("0.0.0.0"), tcp("::"), tcp("10.0.0.1"), tcp("2001:db8::1"), &net.TCPAddr{}} {
		for name, a := range map[string]Config{"nothing": nothing, "tokens": tokensOnly, "TLS": tlsOnly} {
			if a.CheckListen(addr, false) == nil {
				t.Errorf("%s with %s only: no error", addr, name)
			}
			if err := a.CheckListen(addr, true); err != nil {
				t.Errorf("%s with %s only, insecure: %v", addr, name, err)
			}
		}
		if err := errors.Join(both.CheckListen(addr, false), byCertificate.CheckListen(addr, false)); err != nil {
			t.Errorf("%s with both: %v", addr, err)
		}
	}
}

func TestMay(t *testing.T) {
	caller := func(agent string, roles ...Role) *Caller { return &Caller{Roles: roles, Agent: agent} }
	tests := []struct {
		caller *Caller
		may    []Role
		// Whether it may watch ann's pops and bob's.
		ann, bob bool
	}{
		{caller(""), nil, false, false},
		{caller("", Admin), []Role{Admin}, false, false},
		{caller("", Runtime), []Role{Runtime}, false, false},
		{caller("", Ops), []Role{Ops}, true, true},
		{caller("", Desktop), []Role{Desktop}, true, true},
		{caller("ann@acme.com", Desktop), []Role{Desktop}, true, false},
		{caller("ann@acme.com", Desktop, Admin), []Role{Admin, Desktop}, true, false},
		{caller("ann@acme.com", Desktop, Ops), []Role{Desktop, Ops}, true, true},
	}
	for _, test := range tests {
		for _, role := range allRoles {
			if got, want := test.caller.May(role), slices.Contains(test.may, role); got != want {
				t.Errorf("%+v: May(%s) is %v", test.caller, role, got)
			}
		}
		if test.caller.May() || test.caller.May(allRoles...) != (len(test.may) > 0) {
			t.Errorf("%+v: May of none or of all is wrong", test.caller)
		}
		if got := test.caller.MayWatch("Ann@ACME.com"); got != test.ann {
			t.Errorf("%+v: MayWatch(ann) is %v", test.caller, got)
		}
		if got := test.caller.MayWatch("bob@acme.com"); got != test.bob {
			t.Errorf("%+v: MayWatch(bob) is %v", test.caller, got)
		}
	}
}

// BenchmarkAuthenticate is what each call pays.
func BenchmarkAuthenticate(b *testing.B) {
	folder := b.TempDir()
	ca := newCA(b, "ca")
	token, line := newToken(b, Caller{Tenant: "acme", Name: "x", Roles: []Role{Ops}, Expires: inAnHour()})
	a := open(b, Config{
		TokenFile: write(b, filepath.Join(folder, "tokens"), line, 0o600),
		JWT:       JWT{KeyFile: write(b, filepath.Join(folder, "keys"), allJWKS(b), 0o644), Issuer: issuerName, Audience: audienceName},
		TLS:       tlsFiles(b, folder, ca.server(b), ca, someIdentities),
	})
	state, _, err := handshake(a.TLS(), ca, ca.client(b, "old"), tls.VersionTLS13)
	if err != nil {
		b.Fatal(err)
	}
	for name, authorization := range map[string][]string{
		"token":       bearerOf(token),
		"RS256":       bearerOf(sign(b, jwt.SigningMethodRS256, issuerKeys.rsa, goodClaims(), kid("rsa"))),
		"ES256":       bearerOf(sign(b, jwt.SigningMethodES256, issuerKeys.ec, goodClaims(), kid("ec"))),
		"certificate": nil,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Authenticate(authorization, state.VerifiedChains); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
