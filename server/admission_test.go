package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statusv1 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// wire is a client that sends frames as a test wants them.
type wire struct {
	conn    net.Conn
	framer  *http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
	next    uint32 // stream

	mu      sync.Mutex
	windows map[uint32]int // that were opened by updates, by stream
	ended   map[uint32]chan error
}

// wire makes a connection of frames.
func (b *bubble) wire(t *testing.T) *wire {
	t.Helper()
	conn := b.dial(t)
	w := &wire{conn: conn, framer: http2.NewFramer(conn, conn), next: 1, windows: map[uint32]int{}, ended: map[uint32]chan error{}}
	w.encoder = hpack.NewEncoder(&w.headers)
	w.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, err := io.WriteString(conn, http2.ClientPreface)
	must(t, err)
	must(t, w.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})) // for answers
	must(t, w.framer.WriteWindowUpdate(0, 1<<20))
	go w.read()
	return w
}

func (w *wire) read() {
	for {
		frame, err := w.framer.ReadFrame()
		if err != nil {
			return
		}
		w.mu.Lock()
		switch frame := frame.(type) {
		case *http2.WindowUpdateFrame:
			w.windows[frame.StreamID] += int(frame.Increment)
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				w.ended[frame.StreamID] <- statusOf(frame.Fields)
			}
		case *http2.RSTStreamFrame:
			select {
			case w.ended[frame.StreamID] <- fmt.Errorf("the stream was reset: %v", frame.ErrCode):
			default: // after its status
			}
		}
		w.mu.Unlock()
	}
}

// statusOf is the status that trailers tell.
func statusOf(fields []hpack.HeaderField) error {
	for _, field := range fields {
		if field.Name == "grpc-status-details-bin" {
			raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(field.Value, "="))
			if err != nil {
				return err
			}
			var s statusv1.Status
			if err := proto.Unmarshal(raw, &s); err != nil {
				return err
			}
			return status.FromProto(&s).Err()
		}
	}
	for _, field := range fields {
		if field.Name == "grpc-status" && field.Value != "0" {
			return fmt.Errorf("status %s without details", field.Value)
		}
	}
	return nil
}

// call begins a call, and returns its stream and where its status will come.
func (w *wire) call(t *testing.T, method string, header ...string) (uint32, <-chan error) {
	t.Helper()
	w.headers.Reset()
	fields := append([]string{
		":method", "POST", ":scheme", "http", ":path", method, ":authority", "test", "content-type", "application/grpc", "te", "trailers",
	}, header...)
	for i := 0; i < len(fields); i += 2 {
		must(t, w.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	id, ended := w.next, make(chan error, 1)
	w.next += 2
	w.mu.Lock()
	w.ended[id] = ended
	w.mu.Unlock()
	must(t, w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.headers.Bytes(), EndHeaders: true}))
	return id, ended
}

func (w *wire) window(stream uint32) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.windows[stream]
}

// framed is a message with what stands before it; length, if it is not negative, is said to be its length.
func framed(message []byte, length int) []byte {
	if length < 0 {
		length = len(message)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(length)), message...)
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	must(t, err)
	return raw
}

const (
	attachedData = zendeskv1.BlockService_AttachedData_FullMethodName
	complete     = zendeskv1.InteractionService_CompleteInteraction_FullMethodName
	invalid      = zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD
	tooLarge     = zendeskv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE
	busy         = zendeskv1.ErrorReason_ERROR_REASON_SERVER_BUSY
	tooMany      = zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_CALLS
	tooManyWatch = zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_WATCHES
	late         = zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED
)

// Messages as they come, and what is said of them.
func TestMessages(t *testing.T) {
	good := framed(marshal(t, &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: map[string]string{"a": "b"}}), -1)
	large := framed(marshal(t, &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: map[string]string{
		"a": strings.Repeat("x", 64<<10), "b": strings.Repeat("y", 64<<10), "c": strings.Repeat("z", 60<<10),
	}}), -1)
	const within = messageTime
	for name, test := range map[string]struct {
		method string
		frames [][]byte
		open   bool // whether the caller may go on sending
		want   zendeskv1.ErrorReason
		after  time.Duration
	}{
		"whole":                          {frames: [][]byte{good}},
		"in pieces":                      {frames: [][]byte{good[:3], good[3:7], good[7:]}},
		"larger than a piece":            {frames: [][]byte{large}},
		"none":                           {want: invalid},
		"half of what stands before it":  {frames: [][]byte{good[:3]}, want: invalid},
		"shorter than it says":           {frames: [][]byte{framed([]byte{1}, 10)}, want: invalid},
		"larger, and shorter":            {frames: [][]byte{framed([]byte{1}, 1<<20)}, want: invalid},
		"compressed":                     {frames: [][]byte{append([]byte{1}, good[1:]...)}, want: invalid},
		"two":                            {frames: [][]byte{good, good}, want: invalid},
		"one and a half":                 {frames: [][]byte{good, good[:2]}, want: invalid},
		"no protobuf":                    {frames: [][]byte{framed([]byte{0xff}, -1)}, want: invalid},
		"longer than the method's":       {frames: [][]byte{framed(nil, maxDataMessage+1)}, open: true, want: tooLarge},
		"as long as the method's":        {frames: [][]byte{framed(nil, maxDataMessage)}, open: true, want: late, after: within},
		"longer than small":              {method: zendeskv1.AccountService_GetAccount_FullMethodName, frames: [][]byte{framed(nil, maxSmallMessage+1)}, open: true, want: tooLarge},
		"longer than what health takes":  {method: healthv1.Health_Check_FullMethodName, frames: [][]byte{framed(nil, maxHealthMessage+1)}, open: true, want: tooLarge},
		"longer than what a watch takes": {method: healthv1.Health_Watch_FullMethodName, frames: [][]byte{framed(nil, maxHealthMessage+1)}, open: true, want: tooLarge},
		"as long as may be":              {method: complete, frames: [][]byte{framed(nil, 1<<32-1)}, open: true, want: tooLarge},
		"never":                          {open: true, want: late, after: within},
		"not to its end":                 {frames: [][]byte{good[:9]}, open: true, want: late, after: within},
		"without an end":                 {frames: [][]byte{good}, open: true, want: late, after: within},
		"never, of health":               {method: healthv1.Health_Check_FullMethodName, open: true, want: late, after: within},
		"never, of a watch of health":    {method: healthv1.Health_Watch_FullMethodName, open: true, want: late, after: within},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, b *bubble) {
				w := b.wire(t)
				method := test.method
				if method == "" {
					method = attachedData
				}
				begun := time.Now()
				id, ended := w.call(t, method)
				for _, frame := range test.frames {
					for ; len(frame) > 16<<10; frame = frame[16<<10:] { // what frames hold
						must(t, w.framer.WriteData(id, false, frame[:16<<10]))
						synctest.Wait() // the window is open again
					}
					must(t, w.framer.WriteData(id, false, frame))
				}
				if !test.open {
					must(t, w.framer.WriteData(id, true, nil))
				}
				err := <-ended
				if test.want == 0 {
					must(t, err)
				} else {
					mustReason(t, err, codeOf(test.want), test.want)
				}
				if took := time.Since(begun); took != test.after {
					t.Errorf("it took %s, want %s", took, test.after)
				}
				must(t, w.conn.Close())
			})
		})
	}
}

// Of a caller who is refused nothing is read: the window that each stream begins with stays as it is, and the service is told
// no more than that.
func TestNothingIsReadOfTheRefused(t *testing.T) {
	file := newTokenFile(t, auth.Caller{Tenant: "acme", Name: "desktop", Roles: []auth.Role{auth.Desktop}})
	inGuardedBubble(t, Config{}, auth.Config{TokenFile: file.path}, func(t *testing.T, b *bubble) {
		for want, header := range map[zendeskv1.ErrorReason][]string{
			unauthenticated: nil,
			denied:          {"authorization", "Bearer " + file.tokens["desktop"]},
		} {
			w := b.wire(t)
			for range 40 {
				id, ended := w.call(t, complete, header...)
				message := framed(make([]byte, 64<<10-1-5), maxMessage)
				for ; len(message) > 0; message = message[min(len(message), 16<<10):] {
					must(t, w.framer.WriteData(id, false, message[:min(len(message), 16<<10)]))
				}
				mustReason(t, <-ended, codeOf(want), want)
				if opened := w.window(id); opened != 0 {
					t.Errorf("%v: the window was opened by %d", want, opened)
				}
			}
			must(t, w.conn.Close())
		}
	})
}

// Messages that do not come to an end take the memory that is meant for them, and no more: of a connection, and of a
// tenant, whose neighbours are served meanwhile.
func TestBytesInFlight(t *testing.T) {
	file := newTokenFile(t,
		auth.Caller{Tenant: "acme", Name: "acme", Roles: []auth.Role{auth.Runtime}},
		auth.Caller{Tenant: "other", Name: "other", Roles: []auth.Role{auth.Runtime}})
	inGuardedBubble(t, Config{}, auth.Config{TokenFile: file.path}, func(t *testing.T, b *bubble) {
		good := framed(marshal(t, &zendeskv1.CompleteInteractionRequest{InteractionId: "one"}), -1)
		as := func(name string) []string { return []string{"authorization", "Bearer " + file.tokens[name]} }
		var wires []*wire
		var ended []<-chan error
		granted := 0
		flood := func(name string) {
			w := b.wire(t)
			wires = append(wires, w)
			for range 10 {
				id, end := w.call(t, complete, as(name)...)
				must(t, w.framer.WriteData(id, false, framed(make([]byte, 1000), maxMessage)))
				synctest.Wait()
				if w.window(id) > 0 {
					granted++
					continue
				}
				ended = append(ended, end)
			}
		}
		ask := func(name string) error {
			w := b.wire(t)
			defer func() { must(t, w.conn.Close()) }()
			id, end := w.call(t, complete, as(name)...)
			must(t, w.framer.WriteData(id, true, good))
			return <-end
		}
		flood("acme")
		if want := messageBytesConnection / (2 * maxMessage); granted != want {
			t.Errorf("a connection is granted %d messages, want %d", granted, want)
		}
		must(t, ask("acme"))
		for range 10 {
			flood("acme")
		}
		if want := messageBytesTenant / (2 * maxMessage); granted != want {
			t.Errorf("a tenant is granted %d messages, want %d", granted, want)
		}
		begun := time.Now()
		mustReason(t, ask("acme"), codes.ResourceExhausted, busy)
		must(t, ask("other"))
		if took := time.Since(begun); took > messageWait {
			t.Errorf("they took %s", took)
		}
		for _, end := range ended { // each waited for a while, or not at all
			err := <-end
			mustReason(t, err, codes.ResourceExhausted, busy)
			if retry, _ := detailOf[*errdetails.RetryInfo](err); retry.GetRetryDelay().AsDuration() == 0 {
				t.Fatalf("%v says not when to try again", err)
			}
		}
		if took := time.Since(begun); took > messageWait {
			t.Errorf("they took %s", took)
		}
		time.Sleep(messageTime) // what did not come to its end is ended
		must(t, ask("acme"))
		for _, w := range wires {
			must(t, w.conn.Close())
		}
	})
}

// Without a credential health is asked by a few at a time, of a connection, an address, and in all.
func TestHealthIsForFew(t *testing.T) {
	inGuardedBubble(t, Config{}, auth.Config{TokenFile: newTokenFile(t, auth.Caller{Tenant: "acme", Name: "runtime", Roles: []auth.Role{auth.Runtime}}).path}, func(t *testing.T, b *bubble) {
		watch := func(conn *grpc.ClientConn) error {
			stream, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}
		var conns []*grpc.ClientConn
		for range maxHealthCalls / maxHealthCallsConnection {
			conn := b.client(t)
			conns = append(conns, conn)
			for range maxHealthCallsConnection {
				must(t, watch(conn))
			}
			mustReason(t, watch(conn), codes.ResourceExhausted, tooMany)
			_, err := checkHealth(t, conn)
			mustReason(t, err, codes.ResourceExhausted, tooMany)
		}
		conn := b.client(t)
		mustReason(t, watch(conn), codes.ResourceExhausted, tooMany)
		must(t, conns[0].Close())
		synctest.Wait()
		must(t, watch(conn))
		for _, conn := range append(conns[1:], conn) {
			must(t, conn.Close())
		}
	})
}

// Of calls and watches a tenant and a credential have so many at a time, and the others theirs.
func TestCrowds(t *testing.T) {
	known := func(tenant, name string) context.Context {
		return rpc.WithCaller(t.Context(), auth.Caller{Tenant: tenant, Name: name, Credential: "token"})
	}
	const (
		search     = zendeskv1.BlockService_Search_FullMethodName
		watch      = zendeskv1.InteractionService_WatchScreenPops_FullMethodName
		reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
	)
	fromOf := func(c *conn) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{Addr: peerAddress{conn: c}})
	}
	one, sibling, elsewhere := &conn{address: "192.0.2.1"}, &conn{address: "192.0.2.1"}, &conn{address: "192.0.2.2"}
	for name, test := range map[string]struct {
		fill   context.Context
		method string
		times  int
		want   zendeskv1.ErrorReason
		also   context.Context // is refused too
		other  context.Context // is let in
	}{
		"calls":       {known("acme", "a"), search, 7, tooMany, known("acme", "b"), known("other", "a")},
		"reflections": {known("acme", "a"), reflection, maxReflections, tooMany, known("acme", "b"), known("other", "a")},
		"watches":     {known("acme", "a"), watch, 5, tooManyWatch, known("acme", "a"), known("acme", "b")},
		"health":      {fromOf(one), healthv1.Health_Check_FullMethodName, maxHealthCallsConnection, tooMany, fromOf(one), fromOf(sibling)},
	} {
		bounds := Bounds{CallsPerTenant: 7, WatchesPerCredential: 5}
		if name == "reflections" {
			bounds.CallsPerTenant = 0
		}
		a := newAdmission(bounds)
		var leave []func()
		for range test.times {
			l, err := a.enter(test.fill, test.method)
			must(t, err)
			leave = append(leave, l)
		}
		for _, ctx := range []context.Context{test.fill, test.also} {
			_, err := a.enter(ctx, test.method)
			err = onTheWire(t.Context(), err)
			info := mustReason(t, err, codes.ResourceExhausted, test.want)
			for key, value := range info.GetMetadata() { // AIP-193
				if !strings.Contains(status.Convert(err).Message(), value) {
					t.Errorf("%s: the message %q does not hold %s %q", name, status.Convert(err).Message(), key, value)
				}
			}
			if retry, _ := detailOf[*errdetails.RetryInfo](err); retry.GetRetryDelay().AsDuration() == 0 {
				t.Errorf("%s: nobody says when to try again", name)
			}
		}
		l, err := a.enter(test.other, test.method)
		must(t, err)
		l()
		leave[0]()
		_, err = a.enter(test.fill, test.method)
		must(t, err)
	}
	// An address has more than its connections, and others theirs.
	a := newAdmission(Bounds{})
	for i := range maxHealthCallsAddress {
		c := one
		if i >= maxHealthCallsConnection {
			c = &conn{address: one.address}
		}
		_, err := a.enter(fromOf(c), healthv1.Health_Check_FullMethodName)
		must(t, err)
	}
	_, err := a.enter(fromOf(sibling), healthv1.Health_Check_FullMethodName)
	mustReason(t, onTheWire(t.Context(), err), codes.ResourceExhausted, tooMany)
	_, err = a.enter(fromOf(elsewhere), healthv1.Health_Check_FullMethodName)
	must(t, err)
}

func TestBoundsDefaults(t *testing.T) {
	mustEqual(t, "defaults", Bounds{}.withDefaults(), Bounds{10_000, 256, 5_000, 20_000, 3})
	mustEqual(t, "no limits", Bounds{-1, -1, -1, -1, -1}.withDefaults(), Bounds{})
	mustEqual(t, "limits", Bounds{1, 2, 3, 4, 5}.withDefaults(), Bounds{1, 2, 3, 4, 5})
}

// Limits of messages are of methods that there are.
func TestMessageLimits(t *testing.T) {
	srv, err := New(newTestServer(t).config)
	must(t, err)
	served := map[string]bool{}
	for _, m := range methodsOf(srv) {
		served[m.name] = true
	}
	for method, limit := range messageLimits {
		if !served[method] || limit > maxMessage {
			t.Errorf("%s may have messages of %d", method, limit)
		}
	}
	// What a call can take alone is not more than what it may.
	if 2*maxMessage > messageBytesConnection || messageBytesConnection > messageBytesTenant || 2*maxHealthMessage*maxHealthCalls > 2*messageBytesStrangers {
		t.Error("the largest message has no room")
	}
}

// A stream on which nothing happens ends soon after its credential is revoked, or has other roles, and others go on.
func TestSilentStreamsAreReadmitted(t *testing.T) {
	file := newTokenFile(t,
		auth.Caller{Tenant: "acme", Name: "gone", Roles: []auth.Role{auth.Desktop}},
		auth.Caller{Tenant: "acme", Name: "stays", Roles: []auth.Role{auth.Desktop}})
	inGuardedBubble(t, Config{}, auth.Config{TokenFile: file.path}, func(t *testing.T, b *bubble) {
		conn := b.client(t)
		watch := func(name string) (zendeskv1.InteractionService_WatchScreenPopsClient, <-chan error) {
			ctx := showing(t.Context(), "Bearer "+file.tokens[name])
			stream, err := zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(ctx,
				&zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: agentEmail}})
			must(t, err)
			_, err = stream.Header()
			must(t, err)
			ended := make(chan error, 1)
			go func() {
				_, err := stream.Recv()
				ended <- err
			}()
			return stream, ended
		}
		_, gone := watch("gone")
		_, stays := watch("stays")
		time.Sleep(time.Minute)
		file.revoke(t, "gone")
		revoked := time.Now()
		mustReason(t, <-gone, codes.Unauthenticated, unauthenticated)
		if took := time.Since(revoked); took > 10*time.Second {
			t.Errorf("the stream was open for %s", took)
		}
		time.Sleep(time.Minute)
		select {
		case err := <-stays:
			t.Errorf("the other ended with %v", err)
		default:
		}
		must(t, conn.Close())
		if err := <-stays; err == nil {
			t.Error("the watch got a message")
		}
	})
}

// Streams that show the same credential are looked at together.
func TestCredentialsAreLookedAtOnce(t *testing.T) {
	file := newTokenFile(t, auth.Caller{Tenant: "acme", Name: "desktop", Roles: []auth.Role{auth.Desktop}})
	a := newAccess(openAuth(t, auth.Config{TokenFile: file.path}), nil)
	identify := a.onceEach()
	for range 2 {
		caller, err := identify(shown(t.Context(), "Bearer "+file.tokens["desktop"]))
		if err != nil || caller.Name != "desktop" {
			t.Errorf("the caller is %v, %v", caller, err)
		}
		if _, err := identify(shown(t.Context(), "Bearer other")); err == nil {
			t.Error("another credential is taken for the first")
		}
		if _, err := identify(t.Context()); err == nil {
			t.Error("no credential is taken for one")
		}
	}
}

// The room for connections.
func TestConnectionBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log textBuffer
		l := &queue{accepted: make(chan net.Conn, 10)}
		s := newConnections(l, Bounds{Connections: 4, ConnectionsPerAddress: 2}, slog.New(slog.NewJSONHandler(&log, nil)))
		closed := map[string]bool{}
		taken := map[string]*conn{}
		connect := func(name, address string) {
			l.accepted <- &namedConn{name: name, address: address, closed: closed}
		}
		accept := func(name, address string) {
			connect(name, address)
			c, err := s.Accept()
			must(t, err)
			taken[c.(*conn).Conn.(*namedConn).name] = c.(*conn)
		}
		accept("a1", "192.0.2.1")
		accept("a2", "192.0.2.1")
		connect("a0", "192.0.2.1") // a1 has had no time yet
		time.AfterFunc(strangeTime, func() { connect("a3", "192.0.2.1") })
		c, err := s.Accept() // a1 makes room
		must(t, err)
		taken["a3"] = c.(*conn)
		time.Sleep(strangeTime)
		accept("b1", "2001:db8::1")
		accept("b2", "2001:db8::2")
		s.admitted(taken["b1"])
		time.Sleep(strangeTime)
		accept("b3", "2001:db8:0:0:ffff::3") // b2 does, whose network is the same
		s.admitted(taken["b3"])
		accept("c1", "2001:db8:0:1::1") // a2 does, the oldest of all
		mustEqual(t, "closed", closed, map[string]bool{"a0": true, "a1": true, "b2": true, "a2": true})
		for _, c := range taken {
			s.admitted(c)
		}
		connect("b4", "2001:db8::4") // known callers stay
		must(t, taken["c1"].Close())
		accept("d1", "192.0.2.4")
		mustEqual(t, "closed", closed, map[string]bool{"a0": true, "a1": true, "b2": true, "a2": true, "c1": true, "b4": true})
		if len(s.open) != 4 || len(log.lines(t)) != 1 {
			t.Errorf("%d are open; the log says %s", len(s.open), log.String())
		}
		for c := range s.open {
			must(t, c.Close())
		}
		if s.strange.Len() != 0 || len(s.addresses) != 0 {
			t.Errorf("%v are remembered, %v", s.strange, s.addresses)
		}
	})
}

// Of connections that no known caller has used there are never more than maxStrange, wherever they come from. Addresses
// share them, and each has hers for a while.
func TestStrangeConnections(t *testing.T) {
	for _, addresses := range []int{40, maxStrange} {
		synctest.Test(t, func(t *testing.T) {
			l := &queue{accepted: make(chan net.Conn, 2)}
			s := newConnections(l, Bounds{Connections: 10_000}, slog.New(slog.DiscardHandler))
			closed := map[string]bool{}
			connect := func(name string, address int) {
				l.accepted <- &namedConn{name: name, address: fmt.Sprintf("10.0.%d.%d", address/250, address%250), closed: closed}
			}
			accepted := func() string {
				c, err := s.Accept()
				must(t, err)
				return c.(*conn).Conn.(*namedConn).name
			}
			for i := range maxStrange {
				connect(fmt.Sprint(i), i%addresses)
				accepted()
			}
			connect("of an address that has one", 0)
			connect("of a new one", addresses)
			time.AfterFunc(strangeTime, func() { connect("late", 0) })
			got := []string{accepted()}
			want := map[string]bool{"of an address that has one": true, "0": true, "of a new one": true}
			if addresses < maxStrange { // others have many
				delete(want, "of a new one")
				delete(want, "0")
				got = append(got, accepted())
			}
			if len(s.open) != maxStrange || got[len(got)-1] != "late" || (len(got) > 1) != (addresses < maxStrange) {
				t.Errorf("%d are open, and %q came in", len(s.open), got)
			}
			for name := range want {
				if !closed[name] {
					t.Errorf("%d addresses: %q is not closed", addresses, name)
				}
			}
			if closed["of a new one"] == (addresses < maxStrange) {
				t.Errorf("%d addresses: of a new one: closed %v", addresses, closed["of a new one"])
			}
		})
	}
}

// shown returns the context of a call that came with an authorization header.
func shown(ctx context.Context, header string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", header))
}

// queue is a listener to which a test connects.
type queue struct {
	net.Listener
	accepted chan net.Conn
}

func (l *queue) Accept() (net.Conn, error) { return <-l.accepted, nil }

type namedConn struct {
	net.Conn
	name, address string
	closed        map[string]bool
}

func (c *namedConn) Close() error {
	c.closed[c.name] = true
	return nil
}

func (c *namedConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.address), Port: 1} }

// What no connection is counted by.
func TestAddressOf(t *testing.T) {
	for _, test := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 7}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 8}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8:1:2:3:4:5:6")}, "2001:db8:1:2::/64"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "fe80::/64"},
		{&net.TCPAddr{}, ""},
		{&net.UnixAddr{Name: "/run/socket", Net: "unix"}, ""},
		{nil, ""},
	} {
		if got := addressOf(test.addr); got != test.want {
			t.Errorf("%v is counted as %q, want %q", test.addr, got, test.want)
		}
	}
}

// Strangers who call more often than they may wait where their connection is read, and known callers do not.
func TestStrangersArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &queue{accepted: make(chan net.Conn, 4)}
		s := newConnections(l, Bounds{}, slog.New(slog.DiscardHandler))
		var conns []*conn
		for _, from := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"} {
			l.accepted <- &namedConn{address: from, closed: map[string]bool{}}
			c, err := s.Accept()
			must(t, err)
			conns = append(conns, c.(*conn))
		}
		flooding, sibling, becoming, other := conns[0], conns[1], conns[2], conns[3]
		called := func(c *conn, want time.Duration) {
			t.Helper()
			if pause := s.called(c); pause != want {
				t.Errorf("from %s there is a pause of %s, want %s", c.address, pause, want)
			}
		}
		for range strangerBurst {
			called(flooding, 0)
		}
		called(flooding, strangerEvery)
		called(sibling, 2*strangerEvery)
		called(other, 0)
		called(becoming, 3*strangerEvery)
		s.admitted(becoming) // so it was no stranger
		called(becoming, 0)
		called(flooding, 3*strangerEvery)
		for range 1000 {
			s.called(flooding)
		}
		called(flooding, strangerPause)
		time.Sleep(time.Minute)
		called(flooding, 0)
		begun := time.Now()
		a := newAdmission(Bounds{})
		for range 1000 {
			ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: flooding.RemoteAddr()})
			_, err := a.tap(ctx, &grpctap.Info{FullMethodName: healthv1.Health_Check_FullMethodName})
			must(t, err)
		}
		if took, want := time.Since(begun), (1000-strangerBurst+1)*strangerEvery; took != want {
			t.Errorf("1000 calls took %s, want %s", took, want)
		}
	})
}

// What is refused without a credential is refused where the connection is read, with all that belongs to it.
func TestHealthIsRefusedAtTheTap(t *testing.T) {
	a := newAdmission(Bounds{})
	for range maxHealthCalls {
		leave, ok := a.strangers.Enter(struct{}{})
		if !ok {
			t.Fatal("there is no room")
		}
		defer leave()
	}
	_, err := a.tap(t.Context(), &grpctap.Info{FullMethodName: healthv1.Health_Watch_FullMethodName})
	if s := status.Convert(err); s.Code() != codes.ResourceExhausted || len(s.Details()) != 2 {
		t.Errorf("error is %v, with %v", err, s.Details())
	}
	_, err = a.tap(t.Context(), &grpctap.Info{FullMethodName: zendeskv1.BlockService_Search_FullMethodName})
	must(t, err)
}

// Who was refused watches and goes on asking waits where the connection is read; others, and other calls, do not.
func TestRefusedWatchesArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const watch = zendeskv1.InteractionService_WatchScreenPops_FullMethodName
		r := newRefusals()
		mine, other := metadata.Pairs("authorization", "Bearer a"), metadata.Pairs("authorization", "Bearer b")
		asked := func(header metadata.MD, method string, want time.Duration) {
			t.Helper()
			if pause := r.asked(header, method); pause != want {
				t.Errorf("there is a pause of %s, want %s", pause, want)
			}
		}
		for range 1000 {
			asked(mine, watch, 0)
		}
		r.note(metadata.NewIncomingContext(t.Context(), mine))
		r.note(t.Context()) // shows none
		for range watchBurst - 1 {
			asked(mine, watch, 0)
		}
		asked(mine, watch, watchEvery)
		asked(other, watch, 0)
		asked(nil, watch, 0)
		asked(mine, zendeskv1.InteractionService_DeliverInteraction_FullMethodName, 0)
		for range 1000 {
			r.asked(mine, watch)
		}
		asked(mine, watch, watchPause)
		time.Sleep(time.Minute)
		asked(mine, watch, 0)
		time.Sleep(time.Minute)
		r.note(metadata.NewIncomingContext(t.Context(), other))
		if len(r.due) != 1 {
			t.Errorf("%d are remembered", len(r.due))
		}
	})
}
