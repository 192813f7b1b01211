package zendeskapi

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// Backstops for callers without a deadline; with one, the context ends a request earlier.
const (
	dialTimeout           = 5 * time.Second
	tlsHandshakeTimeout   = 5 * time.Second
	responseHeaderTimeout = 20 * time.Second
	requestTimeout        = time.Minute // with its answer
)

// TransportConfig says which hosts beside *.zendesk.com may be asked.
type TransportConfig struct {
	// AllowHosts lists HOST or HOST:PORT, as for ParseOrigin. Only these may have addresses of the own network.
	AllowHosts []string
}

// Transport is the pool of connections that the clients of all accounts share. It keeps no cookies.
//
// Connections are TLS 1.2 or later, HTTP/2 where the other side speaks it. Addresses of the own network are refused when
// a connection is made, after the name was resolved: loopback, private, link-local (with it the metadata address
// 169.254.169.254), shared (100.64.0.0/10), unique local, multicast and other special addresses, also as IPv6 forms of
// IPv4 addresses. Hosts of AllowHosts are exempt.
//
// The environment's HTTPS_PROXY, HTTP_PROXY and NO_PROXY (or lower case) are read when the Transport is made. Through a
// proxy it is the proxy that resolves names: it has to keep its own network closed. The proxy itself may have any
// address. Loopback hosts are asked directly.
type Transport struct {
	allow  allowList
	base   *http.Transport
	client *http.Client
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
	for entry := range allow {
		direct[entry] = true
	}
	proxyFor := proxies.ProxyFunc()
	base := &http.Transport{
		Proxy:                  func(r *http.Request) (*url.URL, error) { return proxyFor(r.URL) },
		DialContext:            dialer(direct),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		ResponseHeaderTimeout:  responseHeaderTimeout,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		// A dead connection must not swallow the requests of a whole account until TCP gives up.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 3 * time.Second},
	}
	return newTransport(base, allow), nil
}

func newTransport(base *http.Transport, allow allowList) *Transport {
	return &Transport{
		allow:  allow,
		base:   base,
		client: &http.Client{Transport: readableRedirects{base}, CheckRedirect: checkRedirect, Timeout: requestTimeout},
	}
}

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

const maxRedirects = 3

// checkRedirect follows redirects of reads within the origin's API. Any other redirect is handed back as the answer:
// elsewhere it would carry the credential away, or end at a page for people, and a write would be repeated or turned into
// a read.
func checkRedirect(next *http.Request, via []*http.Request) error {
	from := via[0]
	if from.Method != http.MethodGet || len(via) > maxRedirects || !sameOrigin(from.URL, next.URL) ||
		!strings.HasPrefix(next.URL.EscapedPath(), "/api/v2/") {
		return http.ErrUseLastResponse
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return a.Scheme == b.Scheme && a.Hostname() == b.Hostname() && port(a) == port(b)
}

// Not told further: the address may hold a password.
var errBadProxy = errors.New("the proxy address in HTTP_PROXY or HTTPS_PROXY is not readable")

// proxyAddresses lists the proxies of the environment: these connections are meant, wherever they go.
func proxyAddresses(c *httpproxy.Config) (allowList, error) {
	list := allowList{}
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

func dialer(direct allowList) func(ctx context.Context, network, address string) (net.Conn, error) {
	open := &net.Dialer{Timeout: dialTimeout}
	guarded := &net.Dialer{Timeout: dialTimeout, Control: refuseOwnNetwork}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if direct.hostPort(host, port) {
			return open.DialContext(ctx, network, address)
		}
		return guarded.DialContext(ctx, network, address)
	}
}

var errOwnNetwork = errors.New("the host has an address of the own network")

// refuseOwnNetwork runs between resolving and connecting, so that no clever name gets around it.
func refuseOwnNetwork(_, address string, _ syscall.RawConn) error {
	peer, err := netip.ParseAddrPort(address)
	if err != nil || ownNetwork(peer.Addr()) {
		return errOwnNetwork
	}
	return nil
}

// Special-purpose addresses that netip has no method for (RFC 6890 and its registries), as far as they can lead inside.
var (
	specialPrefixes = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("::/96"),          // IPv4-compatible
		netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64
		netip.MustParsePrefix("2001::/32"),      // Teredo
		netip.MustParsePrefix("2002::/16"),      // 6to4
		netip.MustParsePrefix("fec0::/10"),      // site-local
	}
	nat64 = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: the last four bytes are an IPv4 address
)

func ownNetwork(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if nat64.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return true
	}
	for _, prefix := range specialPrefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
