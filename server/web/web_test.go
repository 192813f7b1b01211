package web

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/test/bufconn"

	"github.com/scenarioblocks/zendeskblocks/server"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start serves browsers in front of a whole service, and returns the address.
func start(t *testing.T, adjust func(*Config)) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
	must(t, err)
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{})
	must(t, err)
	api, err := server.New(server.Config{Store: st, Transport: transport, Log: log})
	must(t, err)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	config := Config{Dial: api.Dial, Sealer: st, URL: "http://" + l.Addr().String(), Log: log}
	adjust(&config)
	srv, err := New(config)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- api.Serve(ctx, bufconn.Listen(1<<10)) }()
	go func() { ended <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		must(t, <-ended)
		must(t, <-ended)
		transport.Close()
		must(t, st.Close())
	})
	return "http://" + l.Addr().String()
}

func ask(t *testing.T, method, address string, form url.Values, header map[string]string) (status int, got http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, value := range header {
		if name == "Host" {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	defer func() { must(t, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Header, string(text)
}

func TestWhoMayAsk(t *testing.T) {
	at := start(t, func(*Config) {})
	port := at[strings.LastIndex(at, ":"):]
	for name, test := range map[string]struct {
		method string
		header map[string]string
		want   int
	}{
		"a page":                        {"GET", nil, 404},
		"by another name of here":       {"GET", map[string]string{"Host": "localhost" + port}, 404},
		"by IPv6":                       {"GET", map[string]string{"Host": "[::1]" + port}, 404},
		"by a name pointed here":        {"GET", map[string]string{"Host": "evil.example" + port}, 421},
		"by no name":                    {"GET", map[string]string{"Host": "0"}, 421},
		"a form":                        {"POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, 404},
		"a form by its origin":          {"POST", map[string]string{"Origin": at}, 404},
		"a form of another site":        {"POST", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403},
		"a form of a site beside":       {"POST", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://evil.example"}, 403},
		"a form of an old browser":      {"POST", map[string]string{"Origin": "https://evil.example"}, 403},
		"a form of nobody, as of files": {"POST", map[string]string{"Origin": "null"}, 403},
	} {
		status, header, body := ask(t, test.method, at+"/nowhere", nil, test.header)
		if status != test.want {
			t.Errorf("%s: %d, want %d: %s", name, status, test.want, body)
		}
		if status == 404 && (header.Get("Content-Security-Policy") != policy || header.Get("Cache-Control") != "no-store") {
			t.Errorf("%s: the header is %v", name, header)
		}
	}
}

func TestCookiesOfHTTPS(t *testing.T) {
	at := start(t, func(c *Config) { c.SignIn, c.URL = true, "https://blocks.example.com" })
	status, header, _ := ask(t, "GET", at+"/accounts", nil, map[string]string{"Host": "blocks.example.com"})
	if status != http.StatusSeeOther || header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%d with %v", status, header)
	}
	status, header, body := ask(t, "POST", at+"/signin", url.Values{"credential": {"anything"}}, map[string]string{
		"Host": "blocks.example.com", "Origin": "https://blocks.example.com", "Sec-Fetch-Site": "same-origin",
	})
	if cookie := header.Get("Set-Cookie"); status != http.StatusSeeOther || !strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "Secure") {
		t.Errorf("%d with %q: %s", status, cookie, body)
	}
}

func TestParseURL(t *testing.T) {
	for text, fit := range map[string]bool{
		"https://blocks.example.com": true, "https://blocks.example.com:8443": true, "http://127.0.0.1:50090": true, "http://localhost:1": true, "http://[::1]:1": true,
		"": false, "blocks.example.com": false, "https://blocks.example.com/": false, "https://blocks.example.com/x": false, "http://blocks.example.com": false,
		"https://": false, "https://a@b.example": false, "ftp://b.example": false, "https://b.example?x": false, "https:b": false,
	} {
		if _, err := ParseURL(text); (err == nil) != fit {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestStaticFilesAreKept(t *testing.T) {
	at := start(t, func(*Config) {})
	_, header, page := ask(t, "GET", at+"/nowhere", nil, nil)
	if header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("the header is %v", header)
	}
	_, from, found := strings.Cut(page, `href="/static/page.css`)
	if !found {
		t.Fatal(page)
	}
	version, _, _ := strings.Cut(from, `"`)
	status, header, _ := ask(t, "GET", at+"/static/page.css"+version, nil, nil)
	if status != 200 || !strings.Contains(header.Get("Cache-Control"), "immutable") || !strings.HasPrefix(header.Get("Content-Type"), "text/css") {
		t.Errorf("%d with %v", status, header)
	}
	if status, _, _ := ask(t, "GET", at+"/static/../pages.go", nil, nil); status == 200 {
		t.Error("what is no static file is served")
	}
}
