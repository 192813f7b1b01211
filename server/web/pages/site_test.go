package pages

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/web/session"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is the pages in front of a whole service and its Zendesk, without authentication unless it has tokens.
type site struct {
	zendesk      *zendesktest.Zendesk
	store        *store.Store
	accounts     zendeskv1.AccountServiceClient
	blocks       zendeskv1.BlockServiceClient
	interactions zendeskv1.InteractionServiceClient
	operations   zendeskv1.OperationsServiceClient
	tokens       map[string]string // of callers by their names
	tokenFile    string
	url          string
}

// patience is how long calls may take: only what hangs is to fail a test.
const patience = 2 * time.Minute

// newSite starts a site. Callers, if there are any, are who may call, each with a token.
func newSite(t testing.TB, callers ...auth.Caller) *site {
	t.Helper()
	s := &site{zendesk: zendesktest.New(zendesktest.Config{}), tokens: make(map[string]string)}
	must(t, s.zendesk.Start("127.0.0.1:0"))
	t.Cleanup(func() { must(t, s.zendesk.Close()) })
	log := slog.New(slog.DiscardHandler)
	config := auth.Config{Log: log}
	if len(callers) > 0 {
		s.tokenFile = filepath.Join(t.TempDir(), "tokens.jsonl")
		config.TokenFile = s.tokenFile
	}
	for _, caller := range callers {
		if caller.Expires.IsZero() {
			caller.Expires = time.Now().Add(time.Hour)
		}
		token, line, err := auth.NewToken(caller)
		must(t, err)
		must(t, auth.AppendToken(s.tokenFile, line))
		s.tokens[caller.Name] = token
	}
	access, err := auth.Open(config)
	must(t, err)
	t.Cleanup(access.Close)
	s.store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
	must(t, err)
	t.Cleanup(func() { must(t, s.store.Close()) })
	origin, err := url.Parse(s.zendesk.Origin())
	must(t, err)
	allow := []string{origin.Host}
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: allow})
	must(t, err)
	t.Cleanup(transport.Close)
	srv, err := server.New(server.Config{
		Store: s.store, Transport: transport, Log: log, Auth: access, AllowHosts: allow,
		Timeouts: server.Timeouts{Block: patience, BlockCap: patience, Deliver: patience, Zendesk: patience, Other: patience},
	})
	must(t, err)
	listener := bufconn.Listen(1 << 20)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, listener) }()
	conn, err := grpc.NewClient("passthrough:///site",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	web := httptest.NewUnstartedServer(nil)
	s.url = "http://" + web.Listener.Addr().String()
	web.Config.Handler = New(Config{
		API:      func(context.Context) (grpc.ClientConnInterface, error) { return conn, nil },
		Sessions: session.New(session.Config{Sealer: s.store}), SignIn: access.Required(), URL: s.url, Sandbox: origin,
		Log: slog.New(failOnError{t}),
	})
	web.Start()
	t.Cleanup(func() {
		web.Close()
		must(t, conn.Close())
		stop()
		must(t, <-served)
	})
	s.accounts, s.blocks = zendeskv1.NewAccountServiceClient(conn), zendeskv1.NewBlockServiceClient(conn)
	s.interactions, s.operations = zendeskv1.NewInteractionServiceClient(conn), zendeskv1.NewOperationsServiceClient(conn)
	return s
}

// failOnError fails a test whose pages log an error: a template that could not be filled in, for example.
type failOnError struct{ t testing.TB }

func (failOnError) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (f failOnError) WithAttrs([]slog.Attr) slog.Handler             { return f }
func (f failOnError) WithGroup(string) slog.Handler                  { return f }

func (f failOnError) Handle(_ context.Context, r slog.Record) error {
	f.t.Errorf("%s", r.Message)
	r.Attrs(func(a slog.Attr) bool { f.t.Errorf("%s: %v", a.Key, a.Value); return true })
	return nil
}

// browser keeps cookies, and follows redirects.
type browser struct {
	*http.Client
	site *site
}

func (s *site) browser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	return &browser{&http.Client{Jar: jar}, s}
}

// signIn is a browser in which a caller has signed in.
func (s *site) signIn(t testing.TB, name string) *browser {
	t.Helper()
	b := s.browser(t)
	if got := b.post(t, "/signin", url.Values{"credential": {s.tokens[name]}, "to": {"/"}}); strings.HasPrefix(got.path, "/signin") {
		t.Fatalf("%s is not let in: %s", name, got.text())
	}
	return b
}

// shown is an answer, after redirects.
type shown struct {
	status int
	path   string // where redirects have led, with the query
	header http.Header
	body   string
}

func (b *browser) do(t testing.TB, r *http.Request) *shown {
	t.Helper()
	resp, err := b.Do(r)
	must(t, err)
	defer func() { must(t, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return &shown{resp.StatusCode, resp.Request.URL.RequestURI(), resp.Header, string(body)}
}

func (b *browser) get(t testing.TB, path string) *shown {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.site.url+path, nil)
	must(t, err)
	return b.do(t, r)
}

func (b *browser) post(t testing.TB, path string, form url.Values) *shown {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.site.url+path, strings.NewReader(form.Encode()))
	must(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(t, r)
}

// text is what a person reads: without markup, white space collapsed.
func (s *shown) text() string {
	root, err := html.Parse(strings.NewReader(s.body))
	if err != nil {
		return err.Error()
	}
	var words []string
	for n := range root.Descendants() {
		if n.Type == html.TextNode && (n.Parent == nil || n.Parent.Data != "script" && n.Parent.Data != "style") {
			words = append(words, strings.Fields(n.Data)...)
		}
	}
	return strings.Join(words, " ")
}

// wants fails the test unless the answer has a status and shows texts.
func (s *shown) wants(t testing.TB, status int, texts ...string) *shown {
	t.Helper()
	if s.status != status {
		t.Errorf("%s: status is %d, want %d", s.path, s.status, status)
	}
	for _, text := range texts {
		if !strings.Contains(s.text(), text) {
			t.Errorf("%s does not say %q; it says: %s", s.path, text, s.text())
		}
	}
	return s
}

// lacks fails the test if the answer shows a text.
func (s *shown) lacks(t testing.TB, texts ...string) *shown {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(s.text(), text) {
			t.Errorf("%s says %q", s.path, text)
		}
	}
	return s
}

func TestSigningIn(t *testing.T) {
	s := newSite(t,
		auth.Caller{Tenant: "acme", Name: "ada", Roles: []auth.Role{auth.Admin, auth.Ops}},
		auth.Caller{Tenant: "acme", Name: "desk", Roles: []auth.Role{auth.Desktop}},
	)
	b := s.browser(t)
	got := b.get(t, "/nowhere?x=1").wants(t, 200, "Sign in", "Token")
	if want := "/signin?to=%2Fnowhere%3Fx%3D1"; got.path != want {
		t.Errorf("who is not signed in is led to %s, want %s", got.path, want)
	}
	b.post(t, "/signin", url.Values{"credential": {"wrong"}}).wants(t, 401, "Not signed in")
	b.post(t, "/signin", url.Values{"credential": {" "}}).wants(t, 400, "is required")
	b.post(t, "/signin", url.Values{"credential": {strings.Repeat("x", session.MaxCredential+1)}}).wants(t, 400, "too long")
	b.post(t, "/signin", url.Values{"credential": {"Bearer " + s.tokens["ada"]}, "to": {"/nowhere?x=1"}}).
		wants(t, 404, "There is no such page", "ada of acme")
	b.post(t, "/signout", nil).wants(t, 200, "Sign in")
	b.get(t, "/nowhere").wants(t, 200, "Sign in")

	desk := s.signIn(t, "desk")
	desk.get(t, "/nowhere").wants(t, 404, "Screen pops").lacks(t, "Accounts")
	_, err := auth.RevokeTokens(s.tokenFile, "acme", "desk")
	must(t, err)
	for got = desk.get(t, "/nowhere"); !strings.HasPrefix(got.path, "/signin"); got = desk.get(t, "/nowhere") {
		select {
		case <-time.After(50 * time.Millisecond): // until the file is read again
		case <-t.Context().Done():
			t.Fatal("a revoked token is let in")
		}
	}
	got.wants(t, 200, "not accepted any more")
}

func TestWithin(t *testing.T) {
	for to, want := range map[string]string{
		"": "/", "/": "/", "/accounts": "/accounts", "/accounts?x=%2F%2F": "/accounts?x=%2F%2F",
		"//evil.example": "/", "https://evil.example/": "/", `/\evil.example`: "/", `\\evil.example`: "/", "javascript:alert(1)": "/",
		"accounts": "/", "/\t/evil.example": "/", "/signin?to=/signin": "/", "///evil.example": "/",
	} {
		if got := within(to); got != want {
			t.Errorf("within(%q) is %q, want %q", to, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 1200 * time.Millisecond: "1 s", 59 * time.Second: "59 s", 90 * time.Second: "1 min",
		3*time.Hour + 20*time.Minute: "3 h 20 min", 50 * time.Hour: "2 d 2 h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) is %q, want %q", d, got, want)
		}
	}
	if got := fmt.Sprint(words("CREDENTIAL_STATE", zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION)); got != "needs authorization" {
		t.Errorf("words are %q", got)
	}
}
