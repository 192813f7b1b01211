package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// handshakeTime is how long a new connection may take until calls can be made on it.
const handshakeTime = 10 * time.Second

// connections is a listener that knows its connections and whether calls run on them, so that a drain waits for no other.
type connections struct {
	net.Listener
	log *slog.Logger

	mu     sync.Mutex
	open   map[*conn]struct{}
	failed time.Time // when Accept last did; zero: not of late
}

func newConnections(l net.Listener, log *slog.Logger) *connections {
	return &connections{Listener: l, log: log, open: make(map[*conn]struct{})}
}

// calmAfter is how long Accept must not have failed for its failing to be over.
const calmAfter = 10 * time.Second

// Accept implements net.Listener. After an error that may pass, such as of a process that is out of file descriptors, gRPC
// tries again, each second at least: the first of them is told, and the end.
func (s *connections) Accept() (net.Conn, error) {
	accepted, err := s.Listener.Accept()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if passing, ok := errors.AsType[interface {
			error
			Temporary() bool
		}](err); ok && passing.Temporary() {
			if s.failed.IsZero() {
				s.log.Error("no new connection can be taken; those that are open are served", "error", err)
			}
			s.failed = time.Now()
		}
		return nil, err
	}
	if !s.failed.IsZero() && time.Since(s.failed) >= calmAfter {
		s.failed = time.Time{}
		s.log.Info("new connections are taken again")
	}
	c := &conn{Conn: accepted, all: s, opened: time.Now()}
	s.open[c] = struct{}{}
	return c, nil
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// closeIf closes the connections for which the condition holds.
func (s *connections) closeIf(condition func(*conn) bool) {
	s.mu.Lock()
	var chosen []*conn
	for c := range s.open {
		if condition(c) {
			chosen = append(chosen, c)
		}
	}
	s.mu.Unlock()
	for _, c := range chosen {
		_ = c.Close() // its error is that of who uses it
	}
}

// lastWords is how long, on drain, a connection without unary calls stays open: streams say why they end, and answers reach
// their callers.
const lastWords = time.Second

// release closes what a drain need not wait for: at once connections that have never sent anything, and then those without a
// unary call, which have had time for last words: watches and other streams whose callers do not read. It ends with ctx.
func (s *connections) release(ctx context.Context) {
	s.closeIf(func(c *conn) bool { return !c.spoke.Load() })
	begun := time.Now()
	ticker := time.NewTicker(lastWords / 10)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			s.closeIf(func(c *conn) bool {
				since, idle := c.idle()
				return idle && now.Sub(since) >= lastWords && now.Sub(begun) >= lastWords
			})
		case <-ctx.Done():
			return
		}
	}
}

// conn is one of a listener.
type conn struct {
	net.Conn
	all    *connections
	opened time.Time
	spoke  atomic.Bool // something has come

	mu    sync.Mutex
	calls int       // unary ones that run
	ended time.Time // when the last of them did
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.spoke.Load() {
		c.spoke.Store(true)
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return peerAddress{c.Conn.RemoteAddr(), c} }

// peerAddress is the address of the other end. GRPC tells it to who serves a call, and the connection with it.
type peerAddress struct {
	net.Addr
	conn *conn
}

// connectionOf is the connection that a call came by; nil if that is none of ours.
func connectionOf(ctx context.Context) *conn {
	if p, ok := peer.FromContext(ctx); ok {
		if address, ok := p.Addr.(peerAddress); ok {
			return address.conn
		}
	}
	return nil
}

// idle says since when no unary call has run: since ever, if there was none.
func (c *conn) idle() (since time.Time, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended, c.calls == 0
}

// countCall is the interceptor that tells a connection of its unary calls.
func countCall(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := connectionOf(ctx)
	if c == nil {
		return handler(ctx, req)
	}
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls--
		c.ended = time.Now()
	}()
	return handler(ctx, req)
}

// age is how old connections get. GRPC moves it by up to a tenth to either side, so that not all of them end at once; from
// then on it takes no new call on a connection, and cuts it after a grace.
type age time.Duration

// grace and streams fit together: a stream ends when its connection takes no call any more, so that it is opened again on
// another one, and before it is cut.
func (a age) grace() time.Duration   { return time.Duration(a) * 30 / 100 }  // it ends after 120 to 140 % of the age
func (a age) streams() time.Duration { return time.Duration(a) * 115 / 100 } // of the connection

var errReconnect = &rpc.Error{
	Reason:  zendeskv1.ErrorReason_ERROR_REASON_CONNECTION_EXPIRED,
	Message: "the connection has served its time: open the stream again, on a new one",
}

// streamEnds ends the streams whose handlers would go on for ever.
type streamEnds struct {
	draining context.Context // its cause is what streams end with
	age      age
}

// stream is the interceptor of streams.
func (e streamEnds) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	defer context.AfterFunc(e.draining, func() { end(context.Cause(e.draining)) })()
	if c := connectionOf(ctx); c != nil {
		defer time.AfterFunc(time.Until(c.opened.Add(e.age.streams())), func() { end(errReconnect) }).Stop()
	}
	err := handler(srv, &endingStream{ServerStream: stream, ctx: ctx})
	if ended, ok := errors.AsType[*rpc.Error](context.Cause(ctx)); ok && err != nil {
		return ended
	}
	return err
}

// endingStream is a stream that ends with a context of ours.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *endingStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream. What still waits for a message when the context ends does so until the handler has
// returned; the message is nobody's then.
func (s *endingStream) RecvMsg(m any) error {
	received := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				received <- rpc.Recovered(s.ctx, p)
			}
		}()
		received <- s.ServerStream.RecvMsg(m)
	}()
	select {
	case err := <-received:
		return err
	case <-s.ctx.Done():
	}
	if s.ServerStream.Context().Err() != nil {
		return <-received
	}
	return context.Cause(s.ctx)
}
