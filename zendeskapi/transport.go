package zendeskapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// Backstops for callers without a deadline; with one, the context ends a request earlier.
const (
	dialTimeout           = 5 * time.Second
	tlsHandshakeTimeout   = 5 * time.Second
	responseHeaderTimeout = 20 * time.Second
	requestTimeout        = time.Minute // with its answer
)

// TransportConfig says which hosts beside *.zendesk.com may be asked, and what their answers may cost.
type TransportConfig struct {
	// AllowHosts is the list of ParseOrigin. Only these hosts may have addresses of the own network.
	AllowHosts []string

	// AnswerMemory is how many bytes of memory answers take at most, of all accounts together, from when they are read until
	// what was asked for is handed over (of a search: until [SearchResult.Release]); default DefaultAnswerMemory, at least
	// MinAnswerMemory. A tenant has half of it, an account a quarter; who finds no room waits. The process takes up to twice
	// as much for it, until garbage is collected.
	AnswerMemory int64
	// Processors is how many there are: large answers are worked on by all of them but one. Default GOMAXPROCS.
	Processors int

	// Wrap, if set, stands around all that is sent: what it returns gets every request, also those that follow a redirect, and
	// hands it to the one that it was given. [SendingOf] tells it what a request is. It must not change requests or answers.
	Wrap func(http.RoundTripper) http.RoundTripper
	// NoWrites has all requests refused that are no reads, those for tokens too, with an [Error] of Kind NoWrites.
	NoWrites bool

	// Now tells when a limit has room again. Default time.Now.
	Now func() time.Time

	Observer Observer // is told what becomes of requests; nil: nobody is
}

// Transport is the pool of connections that the clients of all accounts share. It keeps no cookies.
//
// Connections are TLS 1.2 or later, HTTP/2 where the other side speaks it. The address is judged when a connection is made,
// after the name was resolved: what IANA's registries of special-purpose addresses hold is refused (loopback, private,
// link-local and with it the metadata address 169.254.169.254, shared, unique local, multicast, …), and IPv6 addresses are
// judged by the IPv4 address within, or refused where that is never needed. A host of AllowHosts that is named by its
// address may have that address, localhost a loopback one, and other names a private one (RFC 1918, RFC 6598, RFC 4193).
//
// The environment's HTTPS_PROXY, HTTP_PROXY and NO_PROXY (or lower case) are read when the Transport is made. Through a
// proxy it is the proxy that resolves names: it has to keep its own network closed. The proxy itself may have any
// address. Loopback hosts are asked directly.
type Transport struct {
	allow    allowList
	room     *room
	base     *http.Transport
	client   *http.Client
	noWrites bool
	wraps    bool // somebody asks what is sent

	governor *limit.Governor
	breakers breakers
	flights  flights
	observer Observer
}

// NewTransport makes a pool. An unreadable entry of AllowHosts, or an unreadable proxy address, is an error.
func NewTransport(c TransportConfig) (*Transport, error) {
	allow, err := parseAllowList(c.AllowHosts)
	if err != nil {
		return nil, err
	}
	proxies := httpproxy.FromEnvironment()
	direct, err := proxyAddresses(proxies)
	if err != nil {
		return nil, err
	}
	proxyFor := proxies.ProxyFunc()
	base := &http.Transport{
		Proxy:                  func(r *http.Request) (*url.URL, error) { return proxyFor(r.URL) },
		DialContext:            dialer(direct, allow),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		ResponseHeaderTimeout:  responseHeaderTimeout,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		// A dead connection must not swallow the requests of a whole account until TCP gives up.
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 10 * time.Second, PingTimeout: 3 * time.Second,
			// What an answer may send before it is read: by default 4 MiB, each.
			MaxReceiveBufferPerStream: 256 << 10, MaxReceiveBufferPerConnection: 4 << 20,
		},
	}
	return newTransport(base, allow, c), nil
}

func newTransport(base *http.Transport, allow allowList, c TransportConfig) *Transport {
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	var sender http.RoundTripper = base
	if c.Wrap != nil {
		sender = c.Wrap(base)
	}
	if c.NoWrites {
		sender = onlyReads{sender}
	}
	return &Transport{
		observer: c.Observer,
		breakers: breakers{opened: c.Observer.Opened},
		wraps:    c.Wrap != nil,

		allow:    allow,
		room:     newRoom(max(cmp.Or(c.AnswerMemory, DefaultAnswerMemory), MinAnswerMemory), cmp.Or(c.Processors, runtime.GOMAXPROCS(0))),
		base:     base,
		client:   &http.Client{Transport: readableRedirects{sender}, CheckRedirect: checkRedirect, Timeout: requestTimeout},
		noWrites: c.NoWrites,

		governor: limit.New(limit.Config{Now: c.Now}),
	}
}

// Governor decides when requests may be sent, of all clients.
func (t *Transport) Governor() *limit.Governor { return t.governor }

// Limits tells what is known of the limit of the Zendesk at an origin. It asks nobody.
func (t *Transport) Limits(origin string) limit.Limits { return t.governor.Limits(origin) }

// Room is how many requests more a lane may send to the Zendesk at an origin within a time, as far as is known; at most 64.
func (t *Transport) Room(origin string, lane limit.Lane, within time.Duration) int {
	return t.governor.Room(origin, lane, within)
}

// Failing lists what is not asked any more of the Zendesk at an origin on behalf of an account, since it has failed again and
// again: names as in [Error.Op], in order. It asks nobody.
func (t *Transport) Failing(origin, account string) []string { return t.breakers.open(origin, account) }

// Close closes the connections that are idle. Requests that run end as usual.
func (t *Transport) Close() { t.base.CloseIdleConnections() }

// readableRedirects takes away where a redirect leads that cannot be read: the HTTP client would hide the whole answer.
type readableRedirects struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (r readableRedirects) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := r.RoundTripper.RoundTrip(req)
	if err == nil {
		if _, parseErr := req.URL.Parse(res.Header.Get("Location")); parseErr != nil {
			res.Header.Del("Location")
		}
	}
	return res, err
}

// onlyReads sends nothing that may change something, whoever asks and however.
type onlyReads struct{ http.RoundTripper }

var errNoWrites = errors.New("nothing is written")

// RoundTrip implements [http.RoundTripper].
func (r onlyReads) RoundTrip(req *http.Request) (*http.Response, error) {
	if !Reads(req.Method) {
		return nil, errNoWrites
	}
	return r.RoundTripper.RoundTrip(req)
}

const maxRedirects = 3

// checkRedirect follows redirects of reads within the origin's API. Any other redirect is handed back as the answer:
// elsewhere it would carry the credential away, or end at a page for people, and a write would be repeated or turned into
// a read.
func checkRedirect(next *http.Request, via []*http.Request) error {
	from := via[0]
	if from.Method != http.MethodGet || len(via) > maxRedirects || !sameOrigin(from.URL, next.URL) ||
		!cleanAPI(next.URL) {
		return http.ErrUseLastResponse
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return defaultPorts[u.Scheme]
	}
	return a.Scheme == b.Scheme && a.Hostname() == b.Hostname() && port(a) == port(b)
}

// Not told further: the address may hold a password.
var errBadProxy = errors.New("the proxy address in HTTP_PROXY or HTTPS_PROXY is not readable")

// proxyAddresses lists the proxies of the environment, as HOST:PORT: these connections are meant, wherever they go.
func proxyAddresses(c *httpproxy.Config) (map[string]bool, error) {
	list := map[string]bool{}
	for _, raw := range []string{c.HTTPProxy, c.HTTPSProxy} {
		if raw == "" {
			continue
		}
		if !strings.Contains(raw, "://") {
			raw = "http://" + raw
		}
		u, err := url.Parse(raw)
		if err != nil {
			return nil, errBadProxy
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
		}
		if u.Hostname() == "" || port == "" {
			return nil, errBadProxy
		}
		list[net.JoinHostPort(u.Hostname(), port)] = true
	}
	return list, nil
}

// dialer connects to proxies wherever they are, and to other hosts where permitted says that they may be.
func dialer(proxies map[string]bool, allow allowList) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		open := &net.Dialer{Timeout: dialTimeout}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if !proxies[address] {
			permitted := permitted(host, allow.dials(host, port))
			// Between resolving and connecting, so that no clever name gets around it.
			open.Control = func(_, address string, _ syscall.RawConn) error {
				peer, err := netip.ParseAddrPort(address)
				if err != nil || !permitted(peer.Addr()) {
					return errOwnNetwork
				}
				return nil
			}
		}
		return open.DialContext(ctx, network, address)
	}
}
