package zendeskapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

var discardLog = log.New(io.Discard, "", 0)

const canary = "canary-Tr0ub4dor&3-canary"

// reply is what a test's Zendesk answers.
type reply struct {
	status int // 0: 200
	header map[string]string
	body   string
}

func (r reply) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	for name, value := range r.header {
		w.Header().Set(name, value)
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	w.WriteHeader(r.status)
	_, _ = io.WriteString(w, r.body)
}

// seen is a request as it arrived.
type seen struct {
	Method, Path, Query, Body string
	Header                    http.Header
}

// script answers requests one after the other, the last reply over and over, and records what arrived.
type script struct {
	mu      sync.Mutex
	replies []http.Handler
	seen    []seen
}

func scripted(replies ...http.Handler) *script { return &script{replies: replies} }

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.seen = append(s.seen, seen{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, string(body), r.Header.Clone()})
	next := s.replies[min(len(s.seen), len(s.replies))-1]
	s.mu.Unlock()
	next.ServeHTTP(w, r)
}

func (s *script) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.seen...)
}

// cut breaks the connection without an answer.
var cut = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
})

// hang answers when the caller has gone.
var hang = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
	// The server notices that only once the request is read.
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
})

// newClient makes a client of a Zendesk on a loopback port.
func newClient(t testing.TB, handler http.Handler) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return clientOf(t, server.URL)
}

func clientOf(t testing.TB, origin string) *Client {
	t.Helper()
	u, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := NewTransport(TransportConfig{AllowHosts: []string{u.Host}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	client, err := New(Config{Origin: origin, Credential: BearerCredential(secret.New(canary)), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// bubbleClient makes a client of a Zendesk behind pipes: inside a synctest bubble nothing else lets time pass.
func bubbleClient(t *testing.T, handler http.Handler) *Client {
	t.Helper()
	listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	transport := newTransport(&http.Transport{DialContext: listener.dial}, allowList{{host: "127.0.0.1"}}, TransportConfig{})
	t.Cleanup(func() {
		transport.Close()
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	client, err := New(Config{
		Origin: "http://127.0.0.1", Credential: BearerCredential(secret.New(canary)), Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.IPAddr{} }

// failed is the package's error, of the kind wanted.
func failed(t *testing.T, err error, want Kind) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error is %v (%T), want *Error", err, err)
	}
	if e.Kind != want {
		t.Fatalf("kind is %q (%v; %s), want %q", e.Kind, err, e.Message(), want)
	}
	return e
}

// fails checks the kind alone.
func fails(t *testing.T, err error, want Kind) {
	t.Helper()
	_ = failed(t, err, want)
}

func TestNewRefusesOrigins(t *testing.T) {
	transport, err := NewTransport(TransportConfig{AllowHosts: []string{"127.0.0.1:80"}})
	if err != nil {
		t.Fatal(err)
	}
	for origin, kind := range map[string]Kind{
		"https://acme.zendesk.com":  "",
		"http://127.0.0.1":          "",
		"https://acme.zendesk.com/": InvalidRequest,
		"acme.zendesk.com":          InvalidRequest,
		"":                          InvalidRequest,
		"http://acme.zendesk.com":   Unavailable,
		"https://evil.example":      Unavailable,
		"http://127.0.0.1:81":       Unavailable,
	} {
		_, err := New(Config{Origin: origin, Transport: transport})
		if (err == nil) != (kind == "") {
			t.Errorf("New(%q): %v, want %q", origin, err, kind)
		}
		if err != nil {
			e := failed(t, err, kind)
			if _, typed := errors.AsType[*OriginError](e); !typed {
				t.Errorf("New(%q) does not wrap an OriginError: %v", origin, err)
			}
		}
	}
	if _, err := New(Config{Origin: "https://acme.zendesk.com"}); err == nil {
		t.Error("New without a transport succeeds")
	}
}

func TestRequestHeaders(t *testing.T) {
	for name, tt := range map[string]struct {
		credential Credential
		want       string
	}{
		"bearer":    {BearerCredential(secret.New("tok")), "Bearer tok"},
		"api token": {APITokenCredential("a@b.c", secret.New("tok")), "Basic YUBiLmMvdG9rZW46dG9r"},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(reply{body: `{"user":{"id":1}}`})
			client := newClient(t, zendesk)
			client.credential, client.userAgent = tt.credential, "test/1"
			if _, err := client.Me(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := zendesk.requests()[0]
			if got.Header.Get("Authorization") != tt.want || got.Header.Get("User-Agent") != "test/1" ||
				got.Header.Get("Accept") != "application/json" || got.Path != "/api/v2/users/me.json" {
				t.Errorf("request is %+v", got)
			}
		})
	}
}

func TestNoCredential(t *testing.T) {
	zendesk := scripted(reply{body: `{}`})
	client := newClient(t, zendesk)
	client.credential = Credential{}
	_, err := client.Me(t.Context())
	if e := failed(t, err, CredentialsRejected); e.Attempts != 0 || len(zendesk.requests()) != 0 {
		t.Errorf("a request was sent without a credential: %+v", e)
	}
}

// No exported value, however it is formatted, shows a secret or the body of an answer.
func TestNothingShowsSecrets(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"error":%q,"description":%q}`, canary, r.Header.Get("Authorization"))
	})
	client := newClient(t, echo)
	_, err := client.Search(t.Context(), SearchQuery{Query: canary, Max: 1})
	refused := failed(t, err, AccessDenied)
	basic := newClient(t, echo)
	basic.credential = APITokenCredential("a@b.c", secret.New(canary))
	_, err = basic.Me(t.Context())
	refusedBasic := failed(t, err, AccessDenied)
	var unreachable error
	synctest.Test(t, func(t *testing.T) {
		_, unreachable = bubbleClient(t, cut).Search(t.Context(), SearchQuery{Query: canary, Max: 1})
	})
	_, err = client.RequestToken(t.Context(), TokenRequest{ClientID: "c", ClientSecret: secret.New(canary)})
	refusedToken := failed(t, err, AccessDenied)
	hidden := secret.New(canary)
	// One that sent nothing: formatting reads a connection pool without its locks.
	idle := clientOf(t, "http://127.0.0.1:1")
	values := map[string]any{
		"Secret":        hidden,
		"*Secret":       &hidden,
		"Credential":    BearerCredential(hidden),
		"Config":        Config{Credential: APITokenCredential("a@b.c", hidden)},
		"Client":        idle,
		"Client value":  *idle,
		"Grant":         PasswordGrant("a@b.c", hidden),
		"code grant":    AuthorizationCodeGrant(hidden, "https://x", hidden),
		"refresh grant": RefreshTokenGrant(hidden),
		"TokenRequest":  TokenRequest{ClientSecret: hidden, Grant: RefreshTokenGrant(hidden)},
		"Token":         Token{AccessToken: hidden, RefreshToken: hidden},
		"Transport":     idle.transport,
		"refused":       refused,
		"refused basic": refusedBasic,
		"unreachable":   unreachable,
		"no token":      refusedToken,
		"nested":        map[string]any{"x": []any{struct{ s secret.Value }{hidden}}},
		"error value":   *refused,
		"body":          refused.Body(),
		"basic body":    refusedBasic.Body(),
		"message":       refused.Message() + refusedToken.Message() + refusedToken.Body(),
		"origin error":  func() error { _, err := ParseOrigin("https://u:"+canary+"@acme.zendesk.com", "", nil); return err }(),
	}
	for name, value := range values {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		if encoded, err := json.Marshal(value); err == nil {
			out.Write(encoded)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "value", value)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "value", value)
		for _, trace := range []string{canary, "63616e617279", "63616E617279", "OmNhbmFye", url.QueryEscape(canary), "Y2FuYXJ5", "jYW5hcn", "pjYW5hc"} {
			if strings.Contains(out.String(), trace) {
				t.Errorf("%s shows %q:\n%s", name, trace, out.String())
			}
		}
	}
	if hidden.Reveal() != canary {
		t.Error("Reveal does not return the text")
	}
}
