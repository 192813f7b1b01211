package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/server/web"
)

func TestWebProblems(t *testing.T) {
	tokens := accessFlags{TokenFile: "tokens.jsonl"}
	const (
		noURL   = "--web-url is missing"
		clear   = "in clear"
		noAuth  = "needs authentication"
		noToken = "people sign in with tokens"
	)
	for name, test := range map[string]struct {
		web     webFlags
		sandbox bool
		access  accessFlags
		want    []string
	}{
		"off":                             {web: webFlags{}},
		"off, in words":                   {web: webFlags{WebListen: "off", WebURL: "nonsense"}, sandbox: true},
		"off with an address":             {web: webFlags{WebURL: "https://blocks.example.com"}, want: []string{"--web-listen is missing"}},
		"off with a site":                 {web: webFlags{WebAllowOrigin: []string{"https://a.example"}}, want: []string{"--web-listen is missing"}},
		"sandbox":                         {sandbox: true},
		"sandbox with client certs":       {sandbox: true, access: accessFlags{TLSClientCA: "ca.pem"}, want: []string{noToken}},
		"this machine":                    {web: webFlags{WebListen: "127.0.0.1:0"}},
		"this machine, by name":           {web: webFlags{WebListen: "localhost:50090", WebURL: "http://localhost:50090"}},
		"this machine, IPv6":              {web: webFlags{WebListen: "[::1]:50090"}},
		"no port":                         {web: webFlags{WebListen: "127.0.0.1"}, want: []string{"--web-listen must be HOST:PORT"}},
		"a proxy for others":              {web: webFlags{WebListen: "127.0.0.1:50090", WebURL: "https://blocks.example.com"}, access: tokens},
		"a proxy for others, no tokens":   {web: webFlags{WebListen: "127.0.0.1:50090", WebURL: "https://blocks.example.com"}, want: []string{noAuth}},
		"a proxy in clear":                {web: webFlags{WebListen: "127.0.0.1:50090", WebURL: "http://blocks.example.com"}, access: tokens, want: []string{"must be https"}},
		"everywhere":                      {web: webFlags{WebListen: ":50090"}, want: []string{noURL, noAuth}},
		"everywhere, in clear":            {web: webFlags{WebListen: "0.0.0.0:50090", WebURL: "http://localhost:50090"}, access: tokens, want: []string{clear}},
		"everywhere behind a proxy":       {web: webFlags{WebListen: "0.0.0.0:50090", WebURL: "https://blocks.example.com/"}, access: tokens},
		"everywhere, and told so":         {web: webFlags{WebListen: "0.0.0.0:50090", WebURL: "http://localhost:50090"}, access: accessFlags{Insecure: true}},
		"everywhere, with certificates":   {web: webFlags{WebListen: "0.0.0.0:50090", WebURL: "https://blocks.example.com"}, access: accessFlags{TLSClientCA: "ca.pem"}, want: []string{noToken}},
		"everywhere, no authentication":   {web: webFlags{WebListen: "0.0.0.0:50090", WebURL: "https://blocks.example.com"}, want: []string{noAuth}},
		"JWTs of a file":                  {web: webFlags{WebListen: "0.0.0.0:50090", WebURL: "https://blocks.example.com"}, access: accessFlags{JWTKeyFile: "keys"}},
		"JWTs of an address":              {web: webFlags{WebListen: "0.0.0.0:50090", WebURL: "https://blocks.example.com"}, access: accessFlags{JWTJWKSURL: "https://issuer.example"}},
		"a certificate, and no key":       {web: webFlags{WebListen: "127.0.0.1:0", WebTLSCert: "none.pem"}, want: []string{"--web-tls-key is missing: --web-tls-cert needs it"}},
		"a certificate, and no such file": {web: webFlags{WebListen: "127.0.0.1:0", WebTLSCert: "none.pem", WebTLSKey: "none.key"}, want: []string{"--web-tls-cert"}},
		"a certificate, and http":         {web: webFlags{WebListen: "127.0.0.1:0", WebTLSKey: "none.key", WebURL: "http://localhost"}, want: []string{"--web-tls-cert is missing", "must be https"}},
		"all at once": {web: webFlags{WebListen: "0.0.0.0:1", WebURL: "blocks.example.com", WebAllowOrigin: []string{"*", "https://a.example", "https://a.example/x"}, WebTLSCert: "x"},
			want: []string{"--web-url", `"*"`, `"https://a.example/x"`, "--web-tls-key is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.web.problems(test.sandbox, &test.access)
			if len(got) != len(test.want) {
				t.Errorf("it says %q, want %q", got, test.want)
			}
			for _, want := range test.want {
				if !slices.ContainsFunc(got, func(err error) bool { return strings.Contains(err.Error(), want) }) {
					t.Errorf("nothing says %q: %q", want, got)
				}
			}
		})
	}
}

const webPattern = `msg="serving browsers" web_address=\S+ url=(\S+)`

// Pages and the API are served beside the gRPC port, with a certificate of their own if there is one, until the service has drained.
func TestWeb(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, roots := selfSigned(t, dir)
	token := createToken(t, "--token-file", filepath.Join(dir, "tokens"), "--name", "ada", "--role", "admin")
	for name, test := range map[string]struct {
		flags  []string
		scheme string
	}{
		"plain":         {nil, "http"},
		"a certificate": {[]string{"--web-tls-cert", cert, "--web-tls-key", key}, "https"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, slices.Concat([]string{
				"serve", "--listen", "127.0.0.1:0", "--web-listen", "localhost:0", "--admin-listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"),
				"--token-file", filepath.Join(dir, "tokens"), "--drain-delay", "0s",
			}, test.flags)...)
			address := p.await(t, p.stderr, webPattern)
			admin := p.await(t, p.stderr, adminPattern)
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, ForceAttemptHTTP2: true}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			ask := func(method, path, body string) (status int, text string) {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), method, address+path, strings.NewReader(body))
				must(t, err)
				r.Header.Set("Authorization", "Bearer "+token)
				r.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(r)
				must(t, err)
				read, err := io.ReadAll(resp.Body)
				must(t, errors.Join(err, resp.Body.Close()))
				return resp.StatusCode, string(read)
			}
			if status, page := ask(http.MethodGet, "/accounts", ""); status != http.StatusOK || !strings.Contains(page, "Sign in") || !strings.HasPrefix(address, test.scheme+"://") {
				t.Errorf("the page at %s is %d: %s", address, status, page)
			}
			if status, answer := ask(http.MethodPost, "/scenarioblocks.zendesk.v1.OperationsService/GetCaller", "{}"); status != http.StatusOK || !strings.Contains(answer, `"ada"`) {
				t.Errorf("the API answers %d: %s", status, answer)
			}
			if _, seen := askAdmin(t, http.MethodGet, admin, "/metrics", ""); !strings.Contains(seen, `zendeskblocks_web_requests_total{route="GET /signin",status="200"} 1`) {
				t.Errorf("the metrics of browsers are %q", regexp.MustCompile("(?m)^zendeskblocks_web.*$").FindAllString(seen, -1))
			}
			p.signal(t, syscall.SIGTERM)
			if code := p.exitCode(t); code != 0 {
				t.Errorf("the process ends with code %d", code)
			}
		})
	}
}

// When one of what is served beside each other fails, both end, and why is told.
func TestBrowsersBesideTheAPI(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { _ = l.Close() }) // mostly it is closed
		return l
	}
	newBrowsers := func() *browsers {
		l := listen()
		server, err := web.New(web.Config{URL: "http://" + l.Addr().String(), Log: slog.New(slog.DiscardHandler)})
		must(t, err)
		return &browsers{server: server, listener: l}
	}
	serve := func(ctx context.Context, l net.Listener) error {
		go func() { _, _ = l.Accept() }()
		<-ctx.Done()
		return errors.Join(l.Close(), context.Cause(ctx))
	}
	for name, test := range map[string]struct {
		api     func(context.Context, net.Listener) error
		disturb func(b *browsers, stop func())
		want    string
	}{
		"told to stop":     {serve, func(_ *browsers, stop func()) { stop() }, "context canceled"},
		"browsers fail":    {serve, func(b *browsers, _ func()) { _ = b.listener.Close() }, "serving browsers"},
		"the API fails":    {func(context.Context, net.Listener) error { return errors.New("the API is ill") }, func(*browsers, func()) {}, "the API is ill"},
		"it never started": {func(context.Context, net.Listener) error { return nil }, func(*browsers, func()) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b, ended := newBrowsers(), make(chan error, 1)
			go func() { ended <- b.beside(ctx, listen(), test.api) }()
			test.disturb(b, cancel)
			err := <-ended
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("it ends with %v, want %q", err, test.want)
			}
			if _, err := b.listener.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the listener is still open: %v", err)
			}
		})
	}
}
