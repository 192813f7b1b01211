package zendeskapi

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

func TestDialerGuards(t *testing.T) {
	server := httptest.NewServer(reply{body: user1})
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		allow   allowList
		address string
		refused bool
	}{
		"address":              {nil, "127.0.0.1:" + port, true},
		"name that points in":  {nil, "localhost:" + port, true},
		"other host allowed":   {allowList{{host: "zendesk.example", port: anyPort}}, "127.0.0.1:" + port, true},
		"other port allowed":   {allowList{{host: "127.0.0.1", port: "1"}}, "127.0.0.1:" + port, true},
		"default port allowed": {allowList{{host: "127.0.0.1"}}, "127.0.0.1:" + port, true},
		"any port allowed":     {allowList{{host: "127.0.0.1", port: anyPort}}, "127.0.0.1:" + port, false},
		"host, port allowed":   {allowList{{host: "127.0.0.1", port: port}}, "127.0.0.1:" + port, false},
		"a tenant's":           {allowList{{tenant: "acme", host: "127.0.0.1", port: port}}, "127.0.0.1:" + port, false},
		"localhost allowed":    {allowList{{host: "localhost", port: port}}, "localhost:" + port, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dialer(nil, tt.allow)(t.Context(), "tcp", tt.address)
			if errors.Is(err, errOwnNetwork) != tt.refused || (err != nil) != tt.refused {
				t.Errorf("error is %v, want refusal %t", err, tt.refused)
			}
			if conn != nil {
				_ = conn.Close()
			}
		})
	}
	conn, err := dialer(map[string]bool{"localhost:" + port: true}, nil)(t.Context(), "tcp", "localhost:"+port)
	if err != nil {
		t.Fatalf("the proxy is refused: %v", err)
	}
	_ = conn.Close()
}

// A host that the URL rules let through and that resolves inside is refused, at once and for good.
func TestClientRefusesOwnNetwork(t *testing.T) {
	server := httptest.NewServer(reply{body: user1})
	defer server.Close()
	client := clientOf(t, server.URL)
	client.transport.base.DialContext = dialer(nil, nil)
	_, err := client.Me(t.Context())
	if e := failed(t, err, Unavailable); e.Attempts != 1 || !errors.Is(err, errOwnNetwork) {
		t.Errorf("error is %+v", *e)
	}
}

func TestRedirects(t *testing.T) {
	elsewhere := scripted(reply{body: user1})
	other := httptest.NewServer(elsewhere)
	defer other.Close()
	to := func(status int, location string) reply {
		return reply{status: status, header: map[string]string{"Location": location}}
	}
	for name, tt := range map[string]struct {
		replies  []http.Handler
		write    bool
		kind     Kind // empty: success
		requests int
	}{
		"read within the origin": {replies: []http.Handler{to(302, "/api/v2/users/1.json"), reply{body: user1}}, requests: 2},
		"read out of the API":    {replies: []http.Handler{to(302, "/api/v2/../../oauth/tokens")}, kind: BadResponse, requests: 1},
		"read, escaped dots":     {replies: []http.Handler{to(302, "/api/v2/%2e%2e/%2e%2e/oauth")}, kind: BadResponse, requests: 1},
		"read, encoded twice":    {replies: []http.Handler{to(302, "/api/v2/users/..%252f..%252fx")}, kind: BadResponse, requests: 1},
		"read to another port":   {replies: []http.Handler{to(302, other.URL)}, kind: BadResponse, requests: 1},
		"read to another host":   {replies: []http.Handler{to(301, "https://evil.example/api/v2/users/me.json")}, kind: BadResponse, requests: 1},
		"read to another scheme": {replies: []http.Handler{to(307, "ftp://127.0.0.1/")}, kind: BadResponse, requests: 1},
		"read in a circle":       {replies: []http.Handler{to(302, "/api/v2/users/me.json")}, kind: BadResponse, requests: 4},
		"write, 307":             {replies: []http.Handler{to(307, "/api/v2/tickets/2.json")}, write: true, kind: BadResponse, requests: 1},
		"write, 302":             {replies: []http.Handler{to(302, "/api/v2/tickets/2.json")}, write: true, kind: BadResponse, requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(tt.replies...)
			client := newClient(t, zendesk)
			var err error
			if tt.write {
				_, err = client.UpdateTicket(t.Context(), "1", TicketUpdate{Comment: "c"})
			} else {
				_, err = client.Me(t.Context())
			}
			if got := len(zendesk.requests()); got != tt.requests {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
			switch {
			case tt.kind != "":
				fails(t, err, tt.kind)
			case err != nil:
				t.Error(err)
			}
		})
	}
	if len(elsewhere.requests()) != 0 {
		t.Error("the other host was asked")
	}
	for pair, want := range map[[2]string]bool{
		{"https://a.zendesk.com/x", "https://a.zendesk.com:443/y"}: true,
		{"https://a.zendesk.com/x", "http://a.zendesk.com/x"}:      false,
		{"https://a.zendesk.com/x", "https://b.zendesk.com/x"}:     false,
	} {
		from, _ := url.Parse(pair[0])
		next, _ := url.Parse(pair[1])
		if got := sameOrigin(from, next); got != want {
			t.Errorf("sameOrigin%q = %t", pair, got)
		}
	}
}

func TestTLS(t *testing.T) {
	for name, tt := range map[string]struct {
		version uint16
		trusted bool
		ok      bool
	}{
		"TLS 1.3":             {tls.VersionTLS13, true, true},
		"TLS 1.1":             {tls.VersionTLS11, true, false},
		"unknown certificate": {tls.VersionTLS13, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var protocol string
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				protocol = r.Proto
				reply{body: user1, header: map[string]string{"Set-Cookie": "a=b"}}.ServeHTTP(w, r)
				if r.Header.Get("Cookie") != "" {
					t.Error("a cookie came back")
				}
			}))
			server.EnableHTTP2 = true
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tt.version}
			server.Config.ErrorLog = discardLog
			server.StartTLS()
			defer server.Close()
			client := clientOf(t, server.URL)
			if tt.trusted {
				client.transport.base.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			}
			for range 2 {
				// A write, because it is sent once.
				err := client.DisplayTicket(t.Context(), "1", "2")
				if (err == nil) != tt.ok {
					t.Fatalf("error is %v, want success %t", err, tt.ok)
				}
				if err != nil {
					fails(t, err, Unavailable)
					return
				}
			}
			if protocol != "HTTP/2.0" {
				t.Errorf("protocol is %q", protocol)
			}
		})
	}
}

func TestProxyFromEnvironment(t *testing.T) {
	proxy := scripted(reply{status: http.StatusForbidden})
	server := httptest.NewServer(proxy)
	defer server.Close()
	for _, value := range []string{server.URL, strings.TrimPrefix(server.URL, "http://")} {
		t.Setenv("HTTPS_PROXY", value)
		transport, err := NewTransport(TransportConfig{})
		if err != nil {
			t.Fatal(err)
		}
		client, err := New(Config{Origin: "https://acme.zendesk.com", Credential: BearerCredential(secret.New("s")), Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		before := len(proxy.requests())
		// A write, because it is sent once.
		_, err = client.UpdateTicket(t.Context(), "1", TicketUpdate{Comment: "c"})
		if e := failed(t, err, Unavailable); e.Unknown() {
			t.Error("the write is taken for sent")
		}
		if got := proxy.requests()[before:]; len(got) != 1 || got[0].Method != http.MethodConnect || got[0].Header.Get("Authorization") != "" {
			t.Errorf("the proxy was asked %+v", got)
		}
		transport.Close()
	}
	for _, value := range []string{"http://", "http://[::1", "://proxy", "gopher://proxy"} {
		t.Setenv("HTTPS_PROXY", value)
		if _, err := NewTransport(TransportConfig{}); err == nil {
			t.Errorf("proxy %q is accepted", value)
		}
	}
}

func TestNewTransportRefusesHosts(t *testing.T) {
	if _, err := NewTransport(TransportConfig{AllowHosts: []string{"https://x"}}); err == nil {
		t.Error("a URL is accepted for a host")
	}
}
