package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/scenarioblocks/zendeskblocks/server/pipe"
)

// ErrNotServing is the error of Dial before Serve has begun, and when its drain takes no new calls any more.
var ErrNotServing = errors.New("server: it does not serve")

// Dial makes a connection within the process, for who speaks for others: calls on it are served as those that come by Serve's listener.
// All bounds are the same, of connections of an address too, but these are counted apart from the listener's; so is the drain.
// There is no TLS on it, whatever the listener asks for, and no certificate: the caller is who the authorization header says.
//
// It is taken for a connection from remote, which bounds and the log's peer.address go by. As one of the network may be, it can
// be closed at once, when there are too many. ctx bounds how long Dial waits to be heard; ErrNotServing, or why ctx ended, is its error.
func (s *Server) Dial(ctx context.Context, remote net.Addr) (net.Conn, error) {
	if remote == nil {
		return nil, errors.New("server: a connection comes from somewhere")
	}
	within := s.within.Load()
	if within == nil {
		return nil, ErrNotServing
	}
	client, server := pipe.New(remote, localAddr{})
	select {
	case <-within.closed:
		return nil, ErrNotServing
	default: // which is not to be a matter of luck below
	}
	select {
	case within.dialed <- server:
		return client, nil
	case <-within.closed:
		return nil, ErrNotServing
	case <-ctx.Done():
		return nil, fmt.Errorf("server: a connection is waited for: %w", context.Cause(ctx))
	}
}

// localListener is the listener of connections of Dial.
type localListener struct {
	dialed chan net.Conn
	closed chan struct{}
	close  func()
}

func newLocalListener() *localListener {
	l := &localListener{dialed: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept implements net.Listener.
func (l *localListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialed:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *localListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *localListener) Addr() net.Addr { return localAddr{} }

// localAddr is where connections of Dial lead to.
type localAddr struct{}

// Network implements net.Addr.
func (localAddr) Network() string { return "pipe" }

func (localAddr) String() string { return "this process" }

// networkSecurity asks connections for what the transport credentials do, and none of it of those of Dial, which nobody can listen to.
type networkSecurity struct {
	grpccredentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (n networkSecurity) ServerHandshake(raw net.Conn) (net.Conn, grpccredentials.AuthInfo, error) {
	if c, ok := raw.(*conn); ok {
		if _, local := c.Conn.(*pipe.Conn); local {
			return insecure.NewCredentials().ServerHandshake(raw)
		}
	}
	return n.TransportCredentials.ServerHandshake(raw)
}

// Clone implements credentials.TransportCredentials.
func (n networkSecurity) Clone() grpccredentials.TransportCredentials {
	return networkSecurity{n.TransportCredentials.Clone()}
}
