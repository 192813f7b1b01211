package zendeskapi

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestParseOrigin(t *testing.T) {
	allow := []string{"localhost:*", "127.0.0.1:8080", "[::1]:9000", "Zendesk.Example.COM.:8443", "proxy.example", "10.0.0.5:443", "any.example:*", "globex=theirs.example"}
	for raw, want := range map[string]string{
		"https://acme.zendesk.com":                            "https://acme.zendesk.com",
		"acme.zendesk.com":                                    "https://acme.zendesk.com",
		"  HTTPS://ACME.Zendesk.COM./agent?x=1#y ":            "https://acme.zendesk.com",
		"https://acme.zendesk.com:443/":                       "https://acme.zendesk.com",
		"https://acme.zendesk.com:0443":                       "https://acme.zendesk.com",
		"acme.zendesk.com/agent/tickets/1":                    "https://acme.zendesk.com",
		"acme.zendesk.com?u=https://evil.example":             "https://acme.zendesk.com",
		"acme.zendesk.com/%zz":                                "https://acme.zendesk.com",
		"a-1.zendesk.com":                                     "https://a-1.zendesk.com",
		"http://localhost:5000/x":                             "http://localhost:5000",
		"http://LOCALHOST:80":                                 "http://localhost",
		"localhost":                                           "https://localhost",
		"127.0.0.1:8080":                                      "https://127.0.0.1:8080",
		"http://127.0.0.1:8080":                               "http://127.0.0.1:8080",
		"http://[::ffff:127.0.0.1]:8080":                      "http://127.0.0.1:8080",
		"http://[0:0:0:0:0:0:0:1]:9000":                       "http://[::1]:9000",
		"https://zendesk.example.com:8443":                    "https://zendesk.example.com:8443",
		"https://proxy.example:443/":                          "https://proxy.example",
		"https://any.example:1/":                              "https://any.example:1",
		"10.0.0.5":                                            "https://10.0.0.5",
		"acme.zendesk.com/@evil.example":                      "https://acme.zendesk.com",
		"https://" + strings.Repeat("a", 63) + ".zendesk.com": "https://" + strings.Repeat("a", 63) + ".zendesk.com",
	} {
		got, err := ParseOrigin(raw, "acme", allow)
		if err != nil || got != want {
			t.Errorf("ParseOrigin(%q) = %q, %v; want %q", raw, got, err, want)
		}
	}
	for raw, want := range map[string]OriginRule{
		"":                                                    OriginEmpty,
		" \t":                                                 OriginEmpty,
		"https://":                                            OriginMalformed,
		"https://:443":                                        OriginMalformed,
		"//acme.zendesk.com":                                  OriginMalformed,
		"https://acme.zendesk.com:x":                          OriginMalformed,
		"https://acme.zendesk.com:0":                          OriginMalformed,
		"https://acme.zendesk.com:65536":                      OriginMalformed,
		"https://ac me.zendesk.com":                           OriginMalformed,
		"https://acme\x00.zendesk.com":                        OriginMalformed,
		`https://evil.example\.zendesk.com`:                   OriginMalformed,
		"https://evil.example%2f.zendesk.com":                 OriginMalformed,
		"https://ａｃｍｅ.zendesk.com":                            OriginMalformed,
		"https://acme。zendesk.com":                            OriginMalformed,
		"https://[::1%25lo]:9000":                             OriginMalformed,
		"https://[::1":                                        OriginMalformed,
		"mailto:acme.zendesk.com":                             OriginMalformed,
		"javascript:alert(1)":                                 OriginMalformed,
		strings.Repeat("a", 3000):                             OriginMalformed,
		"ftp://acme.zendesk.com":                              OriginScheme,
		"://acme.zendesk.com":                                 OriginScheme,
		"https://joe:pw@acme.zendesk.com":                     OriginUserInfo,
		"https://acme.zendesk.com@evil.example":               OriginUserInfo,
		"joe@acme.zendesk.com":                                OriginUserInfo,
		"https://@acme.zendesk.com":                           OriginUserInfo,
		"https://evil.example":                                OriginHost,
		"https://zendesk.com":                                 OriginHost,
		"https://.zendesk.com":                                OriginHost,
		"https://a.b.zendesk.com":                             OriginHost,
		"https://acme.zendesk.com..":                          OriginHost,
		"https://acme.zendesk.com.evil.example":               OriginHost,
		"https://evilzendesk.com":                             OriginHost,
		"https://-a.zendesk.com":                              OriginHost,
		"https://a_b.zendesk.com":                             OriginHost,
		"https://xn--cme-7la.zendesk.com":                     OriginHost,
		"https://10.0.0.6":                                    OriginHost,
		"https://169.254.169.254":                             OriginHost,
		"https://2130706433:8080":                             OriginHost,
		"https://127.1:8080":                                  OriginHost,
		"https://" + strings.Repeat("a", 64) + ".zendesk.com": OriginHost,
		"https://acme.zendesk.com:8443":                       OriginPort,
		"https://proxy.example:8443":                          OriginPort,
		"https://proxy.example:80":                            OriginPort,
		"https://theirs.example":                              OriginHost,
		"https://zendesk.example.com":                         OriginPort,
		"https://127.0.0.1:8081":                              OriginPort,
		"http://acme.zendesk.com":                             OriginPlainHTTP,
		"http://proxy.example":                                OriginPlainHTTP,
		"http://10.0.0.5:443":                                 OriginPlainHTTP,
	} {
		got, err := ParseOrigin(raw, "acme", allow)
		e, ok := errors.AsType[*OriginError](err)
		if !ok || e.Rule != want || got != "" || e.Error() == "" {
			t.Errorf("ParseOrigin(%q) = %q, %v; want rule %q", raw, got, err, want)
		}
	}
	for _, entry := range []string{"", "https://x", "a b", "x:y", "u@x", "x/y", "x:0", ":80", ":*", "*", "x:*:*", "x:80:*", "x:*80", "*:80",
		"=x", "acme=", "Acme=x", "acme=globex=x", "-a=x", "acme =x", "acme= x", "acme=https://x", "acme:80=x", "https://x=y"} {
		_, err := ParseOrigin("acme.zendesk.com", "acme", []string{entry})
		if _, typed := errors.AsType[*OriginError](err); err == nil || typed {
			t.Errorf("allowed host %q: %v", entry, err)
		}
	}
}

func FuzzParseOrigin(f *testing.F) {
	for _, seed := range []string{
		"https://acme.zendesk.com", "ACME.zendesk.com:443/x?y#z", "http://127.0.0.1:8080", "http://[::1]:9000", "u:p@acme.zendesk.com",
		"https://evil.example\\@acme.zendesk.com", "acme.zendesk.com.", "xn--a.zendesk.com", "https://a%2ezendesk.com", "localhost:1",
	} {
		f.Add(seed)
	}
	allow := []string{"localhost:*", "127.0.0.1:8080", "[::1]:9000"}
	f.Fuzz(func(t *testing.T, raw string) {
		origin, err := ParseOrigin(raw, "acme", allow)
		if err != nil {
			if _, ok := errors.AsType[*OriginError](err); !ok {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		again, err := ParseOrigin(origin, "acme", allow)
		if err != nil || again != origin {
			t.Fatalf("%q gives %q, and that %q, %v", raw, origin, again, err)
		}
		u, err := url.Parse(origin)
		if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("%q gives %q, which is no origin: %v", raw, origin, err)
		}
		label, zendesk := strings.CutSuffix(u.Host, ".zendesk.com")
		listed := u.Hostname() == "localhost" || u.Host == "127.0.0.1:8080" || u.Host == "[::1]:9000"
		if !listed && (!zendesk || label == "" || strings.ContainsAny(label, ".:") || u.Scheme != "https") {
			t.Fatalf("%q gives %q", raw, origin)
		}
	})
}

// An entry allows what it says, and whom.
func TestAllowHosts(t *testing.T) {
	for _, tt := range []struct {
		entry, tenant, raw string
		ok                 bool
	}{
		{"proxy.example", "acme", "https://proxy.example", true},
		{"proxy.example", "acme", "https://proxy.example:443", true},
		{"proxy.example", "acme", "https://proxy.example:8443", false},
		{"proxy.example", "acme", "https://sub.proxy.example", false},
		{"proxy.example:443", "acme", "https://proxy.example", true},
		{"proxy.example:8443", "acme", "https://proxy.example", false},
		{"proxy.example:*", "acme", "https://proxy.example:8443", true},
		{"proxy.example:*", "acme", "http://proxy.example", false},
		{"acme=proxy.example", "acme", "https://proxy.example", true},
		{"acme=proxy.example", "acme", "https://proxy.example:8443", false},
		{"acme=proxy.example:8443", "acme", "https://proxy.example:8443", true},
		{"acme=proxy.example:*", "acme", "https://proxy.example:1", true},
		{"acme=proxy.example", "globex", "https://proxy.example", false},
		{"acme=proxy.example", "", "https://proxy.example", false},
		{"acme=acme.zendesk.com:8443", "globex", "https://acme.zendesk.com:8443", false},
		{"acme=acme.zendesk.com:8443", "globex", "https://acme.zendesk.com", true},
		{"127.0.0.1", "acme", "http://127.0.0.1", true},
		{"127.0.0.1", "acme", "https://127.0.0.1", true},
		{"127.0.0.1", "acme", "https://127.0.0.1:80", false},
		{"127.0.0.1", "acme", "http://127.0.0.1:443", false},
		{"127.0.0.1", "acme", "http://127.0.0.1:8080", false},
		{"[::1]", "acme", "http://[::1]", true},
		{"[::1]:*", "acme", "http://[::1]:8080", true},
		{"acme=[::1]:8080", "acme", "http://[::1]:8080", true},
		{"[::ffff:10.0.0.5]", "acme", "https://10.0.0.5", true},
		{"10.0.0.5", "acme", "http://10.0.0.5", false},
	} {
		_, err := ParseOrigin(tt.raw, tt.tenant, []string{tt.entry})
		if (err == nil) != tt.ok {
			t.Errorf("%q allows %q %q: %v", tt.entry, tt.tenant, tt.raw, err)
		}
		transport, err := NewTransport(TransportConfig{AllowHosts: []string{tt.entry}})
		if err != nil {
			t.Fatal(err)
		}
		origin, err := ParseOrigin(tt.raw, tt.tenant, []string{"proxy.example:*", "127.0.0.1:*", "[::1]:*", "10.0.0.5:*", "acme.zendesk.com:*"})
		if err != nil {
			continue // plain http, which no entry allows
		}
		// What was stored while more was allowed is judged again, and waits for an operator.
		_, err = New(Config{Tenant: tt.tenant, Origin: origin, Transport: transport})
		if (err == nil) != tt.ok {
			t.Errorf("%q makes a client of %q for %q: %v", tt.entry, tt.tenant, origin, err)
		}
		if err != nil {
			fails(t, err, Unavailable)
		}
	}
}
