package server

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	grpctap "google.golang.org/grpc/tap"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/intake"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// handshakeTime is how long a new connection may take until calls can be made on it.
const handshakeTime = 10 * time.Second

const (
	// maxStrange connections may be open that no known caller has used: each takes some 30 KiB.
	maxStrange = 2000
	// strangeTime is how long such a connection has at least until it makes room for another.
	strangeTime = 3 * time.Second
)

// connections is a listener that knows its connections and whether calls run on them, so that a drain waits for no other.
// It has as many of them as it may, in all and of an address, and of those that no known caller has used. When there are
// more, the oldest of these makes room and is closed, if it has had some time, or its address has more than the new one's;
// else the new one is. So what a flood of them costs is bounded, and others get in beside it.
type connections struct {
	net.Listener
	log             *slog.Logger
	max, maxAddress int // 0: no limit

	mu        sync.Mutex
	open      map[*conn]struct{}
	addresses map[string]*address // that have open ones
	strange   list.List           // of the open ones that no known caller has used, the oldest first
	failed    time.Time           // when Accept last did; zero: not of late
	closed    int                 // for want of room, since that was last told
	told      time.Time
}

func newConnections(l net.Listener, b Bounds, log *slog.Logger) *connections {
	return &connections{
		Listener: l, log: log, max: b.Connections, maxAddress: b.ConnectionsPerAddress,
		open: make(map[*conn]struct{}), addresses: make(map[string]*address),
	}
}

// calmAfter is how long Accept must not have failed for its failing to be over.
const calmAfter = 10 * time.Second

// Accept implements net.Listener. After an error that may pass, such as of a process that is out of file descriptors, gRPC
// tries again, each second at least: the first of them is told, and the end.
func (s *connections) Accept() (net.Conn, error) {
	for {
		c, inTheWay, err := s.accept()
		if inTheWay != nil {
			_ = inTheWay.Close() // its error is nobody's
		}
		if c != nil || err != nil {
			return c, err
		}
	}
}

// accept takes a connection, and returns which one there is no room for: the new one itself, or another.
func (s *connections) accept() (c net.Conn, inTheWay net.Conn, err error) {
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
		return nil, nil, err
	}
	if !s.failed.IsZero() && time.Since(s.failed) >= calmAfter {
		s.failed = time.Time{}
		s.log.Info("new connections are taken again")
	}
	added := &conn{Conn: accepted, all: s, opened: time.Now(), address: addressOf(accepted.RemoteAddr())}
	old, full := s.inTheWay(added.address)
	if full {
		s.tell()
	}
	if full && old == nil {
		return nil, accepted, nil
	}
	if old != nil {
		s.forget(old)
		inTheWay = old
	}
	s.open[added] = struct{}{}
	if s.addresses[added.address] == nil {
		s.addresses[added.address] = &address{}
	}
	s.addresses[added.address].open++
	added.strange, added.strangeOfAddress = s.strange.PushBack(added), s.addresses[added.address].strange.PushBack(added)
	return added, inTheWay, nil
}

// inTheWay says whether there are as many connections as there may be before another one of an address, and which of them
// may go; nil: none.
func (s *connections) inTheWay(address string) (old *conn, full bool) {
	var oldest *list.Element
	switch from := s.addresses[address]; {
	case s.maxAddress > 0 && address != "" && from != nil && from.open >= s.maxAddress:
		oldest = from.strange.Front()
	case s.max > 0 && len(s.open) >= s.max, s.strange.Len() >= maxStrange:
		own := 0
		if from != nil {
			own = from.strange.Len()
		}
		// Addresses share: who has none gets one, also amid a flood from others.
		if most := s.strangest(); most != nil && most.strange.Len() > own+1 {
			return most.strange.Front().Value.(*conn), true //nolint:forcetypeassert // nothing else is in the lists
		}
		oldest = s.strange.Front()
	default:
		return nil, false
	}
	if oldest != nil {
		if c := oldest.Value.(*conn); time.Since(c.opened) >= strangeTime { //nolint:forcetypeassert // nothing else is in the lists
			return c, true
		}
	}
	return nil, true
}

// strangest is the address that has the most connections which no known caller has used; nil: none has any.
func (s *connections) strangest() (most *address) {
	for _, a := range s.addresses {
		if n := a.strange.Len(); n > 0 && (most == nil || n > most.strange.Len()) {
			most = a
		}
	}
	return most
}

// tellEvery is how often it is told that connections were closed for want of room.
const tellEvery = 10 * time.Second

func (s *connections) tell() {
	s.closed++
	if now := time.Now(); now.Sub(s.told) >= tellEvery {
		s.log.Warn("there are as many connections as there may be, in all or of an address: some were closed",
			"closed", s.closed, "open", len(s.open))
		s.closed, s.told = 0, now
	}
}

// admitted tells that a known caller uses a connection.
func (s *connections) admitted(c *conn) {
	if c.known.Swap(true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if from := s.addresses[c.address]; from != nil {
		from.due = from.due.Add(-time.Duration(c.charged) * strangerEvery) // they were no stranger's
	}
	s.acquaint(c)
}

// acquaint takes a connection off the list of those that no known caller has used.
func (s *connections) acquaint(c *conn) {
	if c.strange != nil {
		s.strange.Remove(c.strange)
		s.addresses[c.address].strange.Remove(c.strangeOfAddress)
		c.strange, c.strangeOfAddress = nil, nil
	}
}

// forget takes a connection off the books.
func (s *connections) forget(c *conn) {
	if _, ok := s.open[c]; !ok {
		return
	}
	delete(s.open, c)
	s.acquaint(c)
	from := s.addresses[c.address]
	if from.open--; from.open == 0 {
		delete(s.addresses, c.address)
	}
}

// address is where connections come from.
type address struct {
	open    int
	strange list.List // of the open ones that no known caller has used, the oldest first
	due     time.Time // when what strangers have called from there is paid for
}

const (
	// Strangers may call strangerBurst times from an address, and once more every strangerEvery. When they call more often
	// their connections take no call for a while, at most strangerPause: a flood of calls that are refused costs others little.
	strangerBurst = 50
	strangerEvery = 20 * time.Millisecond
	strangerPause = time.Second
)

// called counts a call on a connection that no known caller has used, and returns how long it takes no other now.
func (s *connections) called(c *conn) time.Duration {
	if c.address == "" || c.known.Load() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.addresses[c.address]
	if from == nil {
		return 0
	}
	c.charged++
	var pause time.Duration
	from.due, pause = charged(from.due, time.Now(), strangerBurst, strangerEvery)
	return min(pause, strangerPause)
}

// tap is the tap handle of the server. It runs where a connection is read: that it pauses there holds up only who shares it.
func (a *admission) tap(ctx context.Context, info *grpctap.Info) (context.Context, error) {
	pause := a.refusals.asked(info.Header, info.FullMethodName)
	if c := connectionOf(ctx); c != nil {
		pause = max(pause, c.all.called(c))
	}
	time.Sleep(pause)
	if strings.HasPrefix(info.FullMethodName, healthPrefix) {
		// What is refused costs least here.
		leave, err := a.enter(ctx, info.FullMethodName)
		if words, ok := errors.AsType[*rpc.Error](err); ok {
			return nil, words.Wire()
		}
		leave()
	}
	return intake.Tap(ctx, info)
}

// addressOf is whose connections are counted together: those of an IPv4 address, or of the /64 that a network of IPv6 has at
// least. Empty: they are not counted.
func addressOf(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil || !network.IsValid() {
		return ""
	}
	return network.String()
}

// countOpen is how many connections are open.
func countOpen(all []*connections) (n int) {
	for _, s := range all {
		s.mu.Lock()
		n += len(s.open)
		s.mu.Unlock()
	}
	return n
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
	all     *connections
	opened  time.Time
	address string      // whose it is; empty: not told
	spoke   atomic.Bool // something has come
	known   atomic.Bool // a known caller has used it

	strange, strangeOfAddress *list.Element // nil: a known caller has used it
	charged                   int           // calls before that

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
	c.all.forget(c)
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

	mu   sync.Mutex
	open map[*conn]*openStreams // nil is the connection of streams that came by none of ours
}

func newStreamEnds(draining context.Context, age age) *streamEnds {
	return &streamEnds{draining: draining, age: age, open: make(map[*conn]*openStreams)}
}

// openStreams are those of a connection. They end together, so that thousands of them share what waits for that.
type openStreams struct {
	streams   map[*endableStream]struct{}
	ended     error // what they were told to end with; nil: they were not
	undrained func() bool
	aged      *time.Timer // nil: never
}

// endableStream is a stream whose context ends when it is told to.
type endableStream struct {
	streamWithin
	end context.CancelCauseFunc
}

// stream is the stage of streams.
func (e *streamEnds) stream(stream grpc.ServerStream, _ *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	ctx, end := context.WithCancelCause(stream.Context())
	endable, c := &endableStream{streamWithin{stream, ctx}, end}, connectionOf(ctx)
	e.join(c, endable)
	return endable, func(err error) error {
		defer end(nil)
		e.part(c, endable)
		if ended, ok := errors.AsType[*rpc.Error](context.Cause(ctx)); ok && err != nil {
			return ended
		}
		return err
	}, nil
}

func (e *streamEnds) join(c *conn, s *endableStream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := e.open[c]
	if o == nil {
		o = &openStreams{streams: make(map[*endableStream]struct{})}
		o.undrained = context.AfterFunc(e.draining, func() { e.endAll(o, context.Cause(e.draining)) })
		if c != nil {
			o.aged = time.AfterFunc(time.Until(c.opened.Add(e.age.streams())), func() { e.endAll(o, errReconnect) })
		}
		e.open[c] = o
	}
	o.streams[s] = struct{}{}
	if o.ended != nil {
		s.end(o.ended)
	}
}

func (e *streamEnds) part(c *conn, s *endableStream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := e.open[c]
	if delete(o.streams, s); len(o.streams) > 0 {
		return
	}
	delete(e.open, c)
	o.undrained()
	if o.aged != nil {
		o.aged.Stop()
	}
}

func (e *streamEnds) endAll(o *openStreams, cause error) {
	e.mu.Lock()
	o.ended = cause
	all := slices.Collect(maps.Keys(o.streams))
	e.mu.Unlock()
	for _, s := range all {
		s.end(cause)
	}
}
