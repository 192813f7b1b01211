// Package inside carries the calls of browsers to the service within the process. For each connection of an HTTP server it makes
// connections of the service's own, said to come from the same address, when a request first needs one, and ends them with the other: one
// for requests as they are, and one for a client of gRPC. So the service's bounds of connections, and of what there may be on one, are
// those of browsers.
//
//	conns := inside.New(srv.Dial)
//	web := &http.Server{ConnContext: conns.ConnContext, ConnState: conns.ConnState, ...}
//	...
//	conn, err := inside.Of(r.Context()).GRPC()
//
// There are more of a kind only after the service has told one to take no more calls, as it does with old ones, or while
// more calls run than it takes at a time.
package inside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Dial makes a connection to the service that comes from an address, as server.Server.Dial does.
type Dial func(ctx context.Context, remote net.Addr) (net.Conn, error)

// Conns are the connections of an HTTP server.
type Conns struct {
	transport *http.Transport
	dial      Dial

	mu   sync.Mutex
	open map[net.Conn]*Conn
}

// streamWindow is what the service may send of an answer that the browser has not taken, as gRPC's own clients have it.
const streamWindow = 64 << 10

// New makes none yet.
func New(dial Dial) *Conns {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &Conns{
		transport: &http.Transport{
			Protocols:          protocols,
			HTTP2:              &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow},
			DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				remote, _ := ctx.Value(remoteKey{}).(net.Addr)
				return dial(ctx, remote)
			},
		},
		dial: dial,
		open: make(map[net.Conn]*Conn),
	}
}

type (
	connKey   struct{}
	remoteKey struct{}
)

// ConnContext is to be that of the http.Server.
func (s *Conns) ConnContext(ctx context.Context, c net.Conn) context.Context {
	conn := &Conn{transport: s.transport, dial: s.dial, remote: c.RemoteAddr()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = conn
	return context.WithValue(ctx, connKey{}, conn)
}

// ConnState is to be that of the http.Server, or be called by it.
func (s *Conns) ConnState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	s.mu.Lock()
	conn := s.open[c]
	delete(s.open, c)
	s.mu.Unlock()
	if conn != nil {
		conn.close()
	}
}

// Of is the connection that a request came by; nil if its server does not have ConnContext.
func Of(ctx context.Context) *Conn {
	conn, _ := ctx.Value(connKey{}).(*Conn)
	return conn
}

// Conn is what carries the calls of one connection of the HTTP server.
type Conn struct {
	transport *http.Transport
	dial      Dial
	remote    net.Addr

	mu     sync.Mutex
	made   []*http.ClientConn // the last one takes calls
	client *grpc.ClientConn
	closed bool
}

// Host is what requests may name as their URL's: there is only one place that they can lead to.
const Host = "service"

// ErrNoConnection is the error of a call for which no connection could be made: Dial has failed, or the browser's own is closed.
var ErrNoConnection = errors.New("inside: there is no connection to the service")

var errClosed = fmt.Errorf("%w: the browser's own is closed", ErrNoConnection)

// Transport makes HTTP requests of gRPC to the service.
func (c *Conn) Transport() http.RoundTripper { return roundTripper{c} }

// GRPC makes calls of gRPC, on a connection of their own.
func (c *Conn) GRPC() (grpc.ClientConnInterface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.client == nil {
		client, err := grpc.NewClient("passthrough:///"+Host, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.dial(ctx, c.remote) }))
		if err != nil {
			return nil, fmt.Errorf("inside: %w", err)
		}
		c.client = client
	}
	return c.client, nil
}

type roundTripper struct{ conn *Conn }

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	conn, err := t.conn.reserve(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	return conn.RoundTrip(req)
}

// reserve returns a connection that takes one more call.
func (c *Conn) reserve(ctx context.Context) (*http.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	for _, made := range slices.Backward(c.made) {
		if made.Reserve() == nil {
			return made, nil
		}
	}
	made, err := c.transport.NewClientConn(context.WithValue(ctx, remoteKey{}, c.remote), "http", Host+":80")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoConnection, err)
	}
	if err := made.Reserve(); err != nil { // it was closed at once
		return nil, errors.Join(err, made.Close())
	}
	c.made = append(slices.DeleteFunc(c.made, func(old *http.ClientConn) bool { return old.Err() != nil }), made)
	return made, nil
}

// close ends all calls.
func (c *Conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, made := range c.made {
		_ = made.Close() // its error is that of the calls
	}
	c.made = nil
	if c.client != nil {
		_ = c.client.Close()
	}
}
