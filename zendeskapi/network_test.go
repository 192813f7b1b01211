package zendeskapi

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// reset answers with a TCP reset.
var reset = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
})

// certificate makes one for a name and a time, signed by itself.
func certificate(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name + canary}, DNSNames: []string{name}, IPAddresses: []net.IP{net.ParseIP(name)},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	if template.IPAddresses[0] == nil {
		template.IPAddresses = nil
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// tlsClient makes a client of a TLS server with that certificate, which the client's roots hold if it is trusted.
func tlsClient(t *testing.T, own tls.Certificate, trusted bool) *Client {
	t.Helper()
	server := httptest.NewUnstartedServer(reply{body: user1})
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
	server.Config.ErrorLog = discardLog
	server.StartTLS()
	t.Cleanup(server.Close)
	client := clientOf(t, server.URL)
	client.transport.base.TLSClientConfig.RootCAs = x509.NewCertPool()
	if trusted {
		parsed, err := x509.ParseCertificate(own.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		client.transport.base.TLSClientConfig.RootCAs.AddCert(parsed)
	}
	return client
}

// dialing makes a client whose connections fail so.
func dialing(t *testing.T, err error) *Client {
	t.Helper()
	client := clientOf(t, "http://127.0.0.1:1")
	client.transport.base.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, err }
	return client
}

// Logs and people are told what broke, in words that hold nothing of what was sent or answered.
func TestCauses(t *testing.T) {
	tomorrow, yesterday := time.Now().Add(24*time.Hour), time.Now().Add(-24*time.Hour)
	plainPort := func(t *testing.T) *Client {
		server := httptest.NewServer(reply{body: user1})
		t.Cleanup(server.Close)
		return clientOf(t, "https://"+strings.TrimPrefix(server.URL, "http://"))
	}
	of := func(handler http.Handler) func(*testing.T) *Client {
		return func(t *testing.T) *Client { return newClient(t, handler) }
	}
	failing := func(err error) func(*testing.T) *Client {
		return func(t *testing.T) *Client { return dialing(t, err) }
	}
	for name, test := range map[string]struct {
		client func(*testing.T) *Client
		want   string
		left   bool // a write may have reached the other side
		status bool // there was an answer
	}{
		"refused":             {func(t *testing.T) *Client { return clientOf(t, "http://127.0.0.1:1") }, "the connection was refused", false, false},
		"unknown name":        {failing(&net.DNSError{Name: canary, IsNotFound: true}), "the host's name is not known", false, false},
		"resolver fails":      {failing(&net.DNSError{Name: canary, Err: "server misbehaving"}), "the host's name could not be resolved", false, false},
		"no route":            {failing(&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}), "there is no way to the host", false, false},
		"no descriptors":      {failing(&net.OpError{Op: "dial", Err: syscall.EMFILE}), "this machine has no file descriptor left for a connection", false, false},
		"proxy refuses":       {failing(&net.OpError{Op: "proxyconnect", Err: syscall.ECONNREFUSED}), "at the proxy: the connection was refused", false, false},
		"own network":         {failing(errOwnNetwork), errOwnNetwork.Error(), false, false},
		"something else":      {failing(fmt.Errorf("odd: %s", canary)), "no connection could be made", false, false},
		"unknown authority":   {func(t *testing.T) *Client { return tlsClient(t, certificate(t, "127.0.0.1", tomorrow), false) }, "the host's certificate is signed by an unknown authority", false, false},
		"another name":        {func(t *testing.T) *Client { return tlsClient(t, certificate(t, "other.example", tomorrow), true) }, "the host's certificate is for another name", false, false},
		"expired":             {func(t *testing.T) *Client { return tlsClient(t, certificate(t, "127.0.0.1", yesterday), true) }, "the host's certificate has expired, or is not valid yet", false, false},
		"no TLS":              {plainPort, "the other side does not speak TLS", false, false},
		"reset":               {of(reset), "the connection was reset while waiting for the answer", true, false},
		"cut":                 {of(cut), "the connection broke off while waiting for the answer", true, false},
		"no HTTP":             {of(noHTTP), "the answer is no HTTP", true, false},
		"cut within":          {of(cutWithin), "the connection broke off within the answer", true, true},
		"sign-in on the way":  {of(reply{status: 511, body: "<html>" + canary}), "a proxy on the way wants to be signed in to", true, true},
		"proxy wants sign-in": {of(reply{status: 407}), "a proxy on the way wants to be signed in to", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			client := test.client(t)
			_, err := client.UpdateTicket(t.Context(), "1", TicketUpdate{Comment: canary})
			kind := Unavailable
			if name == "cut within" {
				kind = BadResponse
			}
			e := failed(t, err, kind)
			if e.Cause != test.want || e.Unknown() != test.left || (e.StatusCode != 0) != test.status {
				t.Errorf("cause is %q, unknown %t; %+v", e.Cause, e.Unknown(), *e)
			}
			for _, text := range []string{e.Error(), e.Message()} {
				if !strings.Contains(text, test.want) || strings.Contains(text, "/api/v2") {
					t.Errorf("the error says %q", text)
				}
			}
			if name != "another name" && strings.Contains(e.Error()+e.Message(), canary) {
				t.Errorf("the error repeats what was sent or answered: %q", e.Error())
			}
		})
	}
}

func TestCausesOfTimeouts(t *testing.T) {
	stuck := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	// A connection that takes nothing: the other end of the pipe is never read.
	silent := func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		_ = far
		return near, nil
	}
	for name, test := range map[string]struct {
		handler http.Handler
		dial    func(context.Context, string, string) (net.Conn, error)
		cancel  bool
		want    string
		left    bool
	}{
		"no connection":   {dial: stuck, want: "time ran out while waiting for a connection"},
		"nothing is read": {dial: silent, want: "time ran out while sending the request", left: true},
		"no answer":       {handler: hang, want: "time ran out while waiting for the answer", left: true},
		"half an answer":  {handler: hangWithin, want: "time ran out within the answer", left: true},
		"given up":        {handler: hang, cancel: true, want: "it was given up while waiting for the answer", left: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var client *Client
				if test.handler != nil {
					client = bubbleClient(t, test.handler)
				} else {
					client = clientOf(t, "http://127.0.0.1:1")
					client.transport.base.DialContext = test.dial
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if test.cancel {
					time.AfterFunc(time.Second/2, cancel)
				}
				defer cancel()
				_, err := client.UpdateTicket(ctx, "1", TicketUpdate{Comment: strings.Repeat("x", 100_000)})
				kind := Timeout
				if test.cancel {
					kind = Canceled
				}
				if e := failed(t, err, kind); e.Cause != test.want || e.Unknown() != test.left || !strings.Contains(e.Message(), test.want) {
					t.Errorf("cause is %q, unknown %t", e.Cause, e.Unknown())
				}
			})
		})
	}
}

// A write has left as soon as it has a connection, also when that breaks before anyone can have read all of it.
func TestWriteHasLeftWithItsConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	}()
	client := clientOf(t, "http://"+listener.Addr().String())
	_, err = client.UpdateTicket(t.Context(), "1", TicketUpdate{Comment: strings.Repeat("x", 500_000)})
	if e := failed(t, err, Unavailable); !e.Unknown() || e.Attempts != 1 {
		t.Errorf("error is %+v, unknown %t", *e, e.Unknown())
	}
	_, err = client.RequestToken(t.Context(), TokenRequest{ClientID: "c"})
	if e := failed(t, err, Unavailable); !e.Unknown() || e.Attempts != 1 {
		t.Errorf("error of a token request is %+v, unknown %t", *e, e.Unknown())
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}

func TestRedirectsAreTold(t *testing.T) {
	for name, test := range map[string]struct {
		status   int
		location string
		movedTo  string
		says     string
	}{
		"another host":          {301, "https://acme2.zendesk.com/api/v2/tickets/1.json?token=" + canary, "acme2.zendesk.com", "it redirects to another address at the host acme2.zendesk.com"},
		"another host, 302":     {302, "https://ACME2.zendesk.com:8443/x", "acme2.zendesk.com:8443", "it redirects to another address at the host acme2.zendesk.com:8443"},
		"another host, 307":     {307, "//acme2.zendesk.com/api", "acme2.zendesk.com", "it redirects to another address at the host acme2.zendesk.com"},
		"another host, 308":     {308, "https://u:" + canary + "@acme2.zendesk.com/", "acme2.zendesk.com", "it redirects to another address at the host acme2.zendesk.com"},
		"a sign-in elsewhere":   {302, "https://login.example.com/oauth2/login?client=" + canary, "login.example.com", "it redirects to a page for signing in at the host login.example.com"},
		"its own sign-in":       {302, "/access/unauthenticated?return_to=" + canary, "", "it redirects to a page for signing in"},
		"its own sign-in, SAML": {303, "/auth/v2/login/signin", "", "it redirects to a page for signing in"},
		"another page":          {301, "/hc/en-us", "", "it redirects to another address"},
		"no location":           {301, "", "", "it redirects, and does not tell where to"},
		"an odd location":       {301, "https://" + canary + "_ü@[/", "", "it redirects, and does not tell where to"},
		"an odd host":           {301, "https://a_b c/", "", "it redirects, and does not tell where to"},
		"a script":              {301, "javascript:alert(1)", "", "it redirects, and does not tell where to"},
		"not modified":          {304, "", "", "it redirects, and does not tell where to"},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(reply{status: test.status, header: map[string]string{"Location": test.location}})
			client := newClient(t, zendesk)
			_, readErr := client.Me(t.Context())
			_, writeErr := client.UpdateTicket(t.Context(), "1", TicketUpdate{Comment: "c"})
			for _, err := range []error{readErr, writeErr} {
				e := failed(t, err, BadResponse)
				if e.MovedTo != test.movedTo || e.Cause != test.says || e.StatusCode != test.status || e.Unknown() || e.EndpointUnavailable() {
					t.Errorf("error is %+v", *e)
				}
				if text := e.Error() + e.Message(); strings.Contains(text, canary) || !strings.Contains(text, test.says) {
					t.Errorf("the error says %q", text)
				}
			}
			if got := len(zendesk.requests()); got != 2 {
				t.Errorf("%d requests were sent", got)
			}
		})
	}
}

// Each body that a 404 or 403 has been seen with means something else.
func TestWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct {
		answer   reply
		kind     Kind
		record   bool
		endpoint bool
	}{
		"record":                 {reply{status: 404, body: `{"error":"RecordNotFound","description":"Not found"}`}, NotFound, true, false},
		"record, listed":         {reply{status: 404, body: `{"errors":[{"code":"RecordNotFound","title":"x"}]}`}, NotFound, true, false},
		"record under 200":       {reply{body: `{"error":"RecordNotFound"}`}, NotFound, true, false},
		"record that was":        {reply{status: 410}, NotFound, true, false},
		"endpoint":               {reply{status: 404, body: `{"error":"InvalidEndpoint","description":"Not found"}`}, NotFound, false, true},
		"help desk":              {reply{status: 404, body: `{"error":{"title":"No help desk at acme.zendesk.com","message":"There is no help desk configured at this address."}}`}, NotFound, false, true},
		"help desk, as a page":   {reply{status: 404, body: "<!DOCTYPE html><title>Oops</title>"}, NotFound, false, true},
		"help desk, as text":     {reply{status: 404, body: "No such account"}, NotFound, false, true},
		"anything":               {reply{status: 404}, NotFound, false, true},
		"may not":                {reply{status: 403, body: `{"error":{"title":"Forbidden","message":"You do not have access"}}`}, AccessDenied, false, true},
		"may not, without words": {reply{status: 403}, AccessDenied, false, true},
		"blocked network":        {reply{status: 403, body: "\ufeff\n <html><title>Access denied | Cloudflare</title>"}, Unavailable, false, false},
		"throttled as a page":    {reply{status: 429, body: "<html>"}, RateLimited, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t, test.answer).UpdateTicket(t.Context(), "1", TicketUpdate{Comment: "c"})
			e := failed(t, err, test.kind)
			if e.RecordMissing() != test.record || e.EndpointUnavailable() != test.endpoint || e.Unknown() {
				t.Errorf("record missing %t, endpoint unavailable %t: %+v", e.RecordMissing(), e.EndpointUnavailable(), *e)
			}
		})
	}
	_, err := newClient(t, reply{status: 403, body: "<html>"}).Me(t.Context())
	if e := failed(t, err, Unavailable); e.Attempts != 1 || !strings.Contains(e.Message(), "this network") || strings.Contains(e.Message(), "role") {
		t.Errorf("error is %+v: %s", *e, e.Message())
	}
}

func TestDisplayCountsTheStatus(t *testing.T) {
	for body, ok := range map[string]bool{
		"": true, " \n": true, "OK": true, `"OK"`: true, "null": true, "{}": true, "true": true, "[]": true, `{"status":"ok"}`: true, `{"half":`: true,
		"<html>log in</html>": false, "\ufeff<!DOCTYPE html>": false, `{"error":"RecordNotFound"}`: false, `{"error":{"title":"Forbidden"}}`: false,
	} {
		err := newClient(t, reply{header: map[string]string{"Content-Type": "text/html"}, body: body}).DisplayTicket(t.Context(), "1", "2")
		if (err == nil) != ok {
			t.Errorf("body %q: %v", body, err)
		}
	}
	for status := range map[int]bool{http.StatusCreated: true, http.StatusAccepted: true, http.StatusNoContent: true} {
		if err := newClient(t, reply{status: status}).DisplayUser(t.Context(), "1", "2"); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}
