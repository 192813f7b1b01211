package zendeskapi

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestParseOrigin(t *testing.T) {
	allow := []string{"localhost", "127.0.0.1:8080", "[::1]:9000", "Zendesk.Example.COM.:8443", "proxy.example", "10.0.0.5:443"}
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
		"https://proxy.example:1/":                            "https://proxy.example:1",
		"10.0.0.5":                                            "https://10.0.0.5",
		"acme.zendesk.com/@evil.example":                      "https://acme.zendesk.com",
		"https://" + strings.Repeat("a", 63) + ".zendesk.com": "https://" + strings.Repeat("a", 63) + ".zendesk.com",
	} {
		got, err := ParseOrigin(raw, allow)
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
		"https://zendesk.example.com":                         OriginPort,
		"https://127.0.0.1:8081":                              OriginPort,
		"http://acme.zendesk.com":                             OriginPlainHTTP,
		"http://proxy.example":                                OriginPlainHTTP,
		"http://10.0.0.5:443":                                 OriginPlainHTTP,
	} {
		got, err := ParseOrigin(raw, allow)
		e, ok := errors.AsType[*OriginError](err)
		if !ok || e.Rule != want || got != "" || e.Error() == "" {
			t.Errorf("ParseOrigin(%q) = %q, %v; want rule %q", raw, got, err, want)
		}
	}
	for _, entry := range []string{"", "https://x", "a b", "x:y", "u@x", "x/y", "x:0", ":80"} {
		_, err := ParseOrigin("acme.zendesk.com", []string{entry})
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
	allow := []string{"localhost", "127.0.0.1:8080", "[::1]:9000"}
	f.Fuzz(func(t *testing.T, raw string) {
		origin, err := ParseOrigin(raw, allow)
		if err != nil {
			if _, ok := errors.AsType[*OriginError](err); !ok {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		again, err := ParseOrigin(origin, allow)
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
