package zendeskapi

import (
	"net/url"
	"strings"
	"testing"
)

// A link leads to another page of the API, or nowhere.
func TestRebase(t *testing.T) {
	from := request{path: "/api/v2/tickets.json", query: "page=1"}
	for link, want := range map[string]string{ // path and query; empty: nowhere
		"/api/v2/tickets.json?page=2":                     "/api/v2/tickets.json?page=2",
		"https://acme.zendesk.com/api/v2/tickets?page=2":  "/api/v2/tickets?page=2",
		"https://evil.example/api/v2/tickets.json?page=2": "/api/v2/tickets.json?page=2",
		"//evil.example/api/v2/tickets.json?page=2":       "/api/v2/tickets.json?page=2",
		"https://u:p@evil.example/api/v2/a?x=../..":       "/api/v2/a?x=../..",
		"/api/v2//tickets//1?page=2":                      "/api/v2/tickets/1?page=2",
		"/api/v2/./tickets/../users?page=2":               "/api/v2/users?page=2",
		"/api/v2/users/a%20b?page=2":                      "/api/v2/users/a%20b?page=2",
		"/api/v2/users/100%25?page=2":                     "/api/v2/users/100%25?page=2",
		"/api/v2/users/a..b/...?page=2":                   "/api/v2/users/a..b/...?page=2",
		"/api/v2/%74ickets?page=2":                        "/api/v2/%74ickets?page=2",
		"/api/v2/tickets.json?page=1":                     "", // itself
		"":                                                "",
		"/":                                               "",
		"/api/v2":                                         "",
		"/api/v2/":                                        "",
		"/api/v2x/tickets":                                "",
		"/API/v2/tickets":                                 "",
		"/oauth/tokens":                                   "",
		"/api/v2/../oauth/tokens":                         "",
		"/api/v2/../../oauth/tokens":                      "",
		"/api/v2/a/../../../oauth":                        "",
		"/api/v2/..":                                      "",
		"/api/v2/../v2/tickets/../../../x":                "",
		"/x/../api/v2/%2e%2e/oauth":                       "",
		"/api/v2/%2e%2e/%2e%2e/oauth":                     "",
		"/api/v2/%2E%2E/oauth":                            "",
		"/api/v2/.%2e/oauth":                              "",
		"/api/v2/%2e/oauth":                               "",
		"/api/v2/..%2foauth":                              "",
		"/api/v2/a%2f..%2f..%2foauth":                     "",
		"/api/v2/a%2fb":                                   "",
		"/api%2fv2/tickets":                               "",
		"/api/v2/..%5coauth":                              "",
		`/api/v2/..\oauth`:                                "",
		`\\evil.example\api\v2\tickets`:                   "",
		"/api/v2/a%5cb":                                   "",
		"/api/v2/%252e%252e/oauth":                        "",
		"/api/v2/..%252foauth":                            "",
		"/api/v2/%25252e%25252e/oauth":                    "",
		"/api/v2/%25252f":                                 "",
		"/api/v2/..;/oauth":                               "",
		"/api/v2/..;x=1/oauth":                            "",
		"/api/v2/..%3bx/oauth":                            "",
		"/api/v2/;/oauth":                                 "",
		"/api/v2/a%00b":                                   "",
		"/api/v2/a%0d%0aHost:x":                           "",
		"/api/v2/a\nb":                                    "",
		"http://[::1":                                     "",
		"javascript:alert(1)":                             "",
		"mailto:/api/v2/x":                                "/api/v2/x?", // an odd scheme names a host as little
	} {
		to, ok := rebase(from, link)
		path, query, _ := strings.Cut(want, "?")
		if ok != (want != "") || ok && (to.path != path || to.query != query) {
			t.Errorf("%q leads to %q %q, %t", link, to.path, to.query, ok)
		}
	}
}

func FuzzRebase(f *testing.F) {
	for _, seed := range []string{"/api/v2/a?b", "/api/v2/%2e%2e/x", "/api/v2/..;/x", "/api/v2/%252e%252e", "//x/api/v2/y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, link string) {
		to, ok := rebase(request{}, link)
		if !ok {
			return
		}
		text := to.path
		for range 5 {
			again, err := url.PathUnescape(text)
			if err == nil {
				text = again
			}
			if !strings.HasPrefix(text, "/api/v2/") || strings.Contains(text+"/", "/../") || strings.Contains(text, "\\") {
				t.Fatalf("%q leads to %q", link, text)
			}
		}
	})
}
