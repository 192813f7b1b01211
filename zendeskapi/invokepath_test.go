package zendeskapi

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestInvokePath(t *testing.T) {
	for written, want := range map[string]string{ // empty: refused
		"tickets":                        "/api/v2/tickets",
		"tickets.json":                   "/api/v2/tickets.json",
		"/tickets/1/comments.json":       "/api/v2/tickets/1/comments.json",
		"/api/v2/tickets":                "/api/v2/tickets",
		"tickets/":                       "/api/v2/tickets",
		"tickets/a b/é":                  "/api/v2/tickets/a%20b/%C3%A9",
		"tickets/a%20b":                  "/api/v2/tickets/a%20b",
		"tickets/100%25":                 "/api/v2/tickets/100%25",
		"%74ickets":                      "/api/v2/tickets",
		"tags/c%23%3f%3B":                "/api/v2/tags/c%23%3F%3B",
		"a..b/.c/d.":                     "/api/v2/a..b/.c/d.",
		"api/v2/tickets":                 "/api/v2/tickets",
		"https:evil.example":             "/api/v2/https:evil.example",
		"":                               "",
		"/":                              "",
		"/api/v2/":                       "",
		"/api/v2/api/v2/tickets":         "/api/v2/api/v2/tickets",
		"/api/v2":                        "/api/v2/api/v2",
		"//evil.example/api/v2/tickets":  "",
		"https://evil.example/tickets":   "",
		"/api/v2//evil.example":          "",
		"tickets//1":                     "",
		"../oauth/tokens":                "",
		"tickets/../../../oauth":         "",
		"tickets/..":                     "",
		"tickets/./1":                    "",
		"tickets/...":                    "",
		"tickets/..json":                 "",
		"tickets/...json":                "",
		"tickets/...JSON":                "",
		"tickets/.json":                  "",
		"%2e%2e/oauth":                   "",
		"%2E./oauth":                     "",
		"%252e%252e/oauth":               "",
		"%2e%2e.json":                    "",
		"..%2foauth":                     "",
		"..%2Foauth":                     "",
		"..%252foauth":                   "",
		"a%2fb":                          "",
		"a%5cb":                          "",
		`..\oauth`:                       "",
		`\\evil.example\x`:               "",
		"..;/oauth":                      "",
		"tickets;x=1":                    "",
		"..%3b/oauth":                    "",
		"tickets?x=1":                    "",
		"tickets#x":                      "",
		"tickets\r\nHost: evil.example":  "",
		"tickets%0d%0aHost:evil.example": "",
		"tickets\x00":                    "",
		"tickets%00":                     "",
		"tickets%c0%af..":                "",
		"tickets%":                       "",
		"tickets%zz":                     "",
		strings.Repeat("é", 2000):        "",
	} {
		got, err := InvokePath(written)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v, want %q", written, got, err, want)
		}
	}
}

// What is accepted is below /api/v2/ of the account's origin, however a server reads it.
func FuzzInvokePath(f *testing.F) {
	for _, seed := range []string{"tickets/1.json", "%2e%2e/x", "..;/x", "%252e%252e", "//x/y", "https://x/y", `..\x`, "a%2f..", "...json", "a\r\nb", "a?b", "a#b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, written string) {
		got, err := InvokePath(written)
		if err != nil {
			return
		}
		const origin = "https://acme.zendesk.com"
		u, err := url.Parse(origin + got)
		if err != nil || u.Scheme+"://"+u.Host != origin || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
			t.Fatalf("%q became %q, which leads to %v, %v", written, got, u, err)
		}
		again, err := InvokePath(got)
		if err != nil || again != got {
			t.Errorf("%q became %q, and that %q, %v", written, got, again, err)
		}
		for read := got; ; {
			for _, variant := range []string{read, strings.ReplaceAll(read, `\`, "/"), strings.TrimSuffix(read, ".json")} {
				cleaned := path.Clean(variant)
				if !strings.HasPrefix(cleaned, "/api/v2/") || strings.Count(cleaned, "/") != strings.Count(got, "/") || strings.ContainsAny(variant, "\r\n\x00") {
					t.Fatalf("%q became %q, which can be read as %q", written, got, cleaned)
				}
			}
			plain, err := url.PathUnescape(read)
			if err != nil || plain == read {
				return
			}
			read = plain
		}
	})
}

func TestSegments(t *testing.T) {
	for path, want := range map[string][]string{
		"/api/v2/tickets.json":          {"tickets"},
		"/api/v2/tickets/1/tags.json":   {"tickets", "1", "tags"},
		"/api/v2/custom%20objects/a.js": {"custom objects", "a.js"},
	} {
		if got := Segments(path); !slices.Equal(got, want) {
			t.Errorf("%q: %q", path, got)
		}
	}
}

func TestInvokeOp(t *testing.T) {
	if !slices.IsSorted(freeResources) {
		t.Error("resources are not sorted")
	}
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/api/v2/tickets/1.json", "invoke_read_tickets"},
		{"HEAD", "/api/v2/users", "invoke_read_users"},
		{"DELETE", "/api/v2/users/1", "invoke_write_users"},
		{"GET", "/api/v2/anything/users", "invoke_read_other"},
		{"PATCH", "/api/v2/%20", "invoke_write_other"},
	} {
		if got := invokeOp(c.method, c.path); got != c.want {
			t.Errorf("%s %s: %s", c.method, c.path, got)
		}
	}
}

func TestHeaderAllowed(t *testing.T) {
	for name, want := range map[string]bool{
		"X-Trace": true, "Accept-Language": true, "If-Match": true, "Idempotency-Key": true, "x-anything": true,
		"": false, "a b": false, "a:b": false, "a\r\nb": false, "a\x00": false, "é": false,
		"Authorization": false, "authorization": false, "AUTHORIZATION": false, "Cookie": false, "Host": false, "Content-Length": false,
		"x-on-behalf-of": false, "X_On_Behalf_Of": false, "Connection": false, "Keep-Alive": false, "TE": false, "Trailer": false,
		"Transfer-Encoding": false, "Upgrade": false, "Proxy-Authorization": false, "proxy-connection": false, "Proxy-Authenticate": false,
		"X-HTTP-Method-Override": false, "X-Forwarded-Host": false, "Forwarded": false, "X-Original-URL": false,
		"Content-Type": false, "Accept-Encoding": false, "Content-Encoding": false, "User-Agent": false, "Range": false,
	} {
		if got := HeaderAllowed(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
	for value, want := range map[string]bool{"": true, "a b": true, "é": true, "a\tb": true, "a\r\nX: y": false, "a\n": false, "a\rb": false, "a\x00": false, "\x7f": false} {
		if got := HeaderValueAllowed(value); got != want {
			t.Errorf("value %q: %t", value, got)
		}
	}
	for name, want := range map[string]bool{"page": true, "filter[type]": true, "": false, "_method": false, "_METHOD": false} {
		if got := QueryAllowed(name); got != want {
			t.Errorf("query %q: %t", name, got)
		}
	}
}
