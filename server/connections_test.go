package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// bubble is a service on a network in memory, for tests in which time passes at will.
type bubble struct {
	config   Config
	log      *textBuffer
	server   *Server
	listener *bufconn.Listener
	within   bool               // connections are of Dial, not of the listener
	stop     context.CancelFunc // tells Serve to stop
	served   chan error
}

// inBubble runs a test of a service that lets everyone in.
func inBubble(t *testing.T, c Config, test func(*testing.T, *bubble)) {
	t.Helper()
	inGuardedBubble(t, c, auth.Config{}, test)
}

// onEachWay runs a test as inBubble does, by connections of the listener, and by those of Dial.
func onEachWay(t *testing.T, c Config, test func(*testing.T, *bubble)) {
	t.Helper()
	for name, within := range map[string]bool{"by the listener": false, "within the process": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, c, func(t *testing.T, b *bubble) {
				b.within = within
				test(t, b)
			})
		})
	}
}

// inGuardedBubble runs a test of a service that lets in whom a configuration says.
func inGuardedBubble(t *testing.T, c Config, access auth.Config, test func(*testing.T, *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var err error
		c.Store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
		must(t, err)
		b := serveBubble(t, c, access)
		test(t, b)
		b.end(t)
	})
}

// serveBubble starts a service. It is to be ended.
func serveBubble(t *testing.T, c Config, access auth.Config) *bubble {
	t.Helper()
	b := &bubble{log: &textBuffer{}, listener: bufconn.Listen(64 << 10), served: make(chan error, 1)}
	var err error
	c.Log = slog.New(slog.NewJSONHandler(b.log, nil))
	c.Transport, err = zendeskapi.NewTransport(zendeskapi.TransportConfig{})
	must(t, err)
	access.Log = c.Log
	c.Auth, err = auth.Open(access)
	must(t, err)
	b.config = c
	b.server, err = New(c)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	b.stop = stop
	go func() { b.served <- b.server.Serve(ctx, b.listener) }()
	synctest.Wait()
	return b
}

// connect makes a connection.
func (b *bubble) connect(ctx context.Context) (net.Conn, error) {
	if b.within {
		return b.server.Dial(ctx, callerAddr("192.0.2.1"))
	}
	return b.listener.DialContext(ctx)
}

func callerAddr(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 50505} }

// end leaves nothing behind.
func (b *bubble) end(t *testing.T) {
	t.Helper()
	b.stop()
	must(t, <-b.served)
	b.config.Auth.Close()
	b.config.Transport.Close()
	must(t, b.config.Store.Close())
}

// drain stops the service and returns how long that took.
func (b *bubble) drain(t *testing.T) time.Duration {
	t.Helper()
	begun := time.Now()
	b.stop()
	err := <-b.served
	must(t, err)
	b.served <- err
	return time.Since(begun)
}

// dial makes a raw connection.
func (b *bubble) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := b.connect(t.Context())
	must(t, err)
	return conn
}

// client makes a connection of gRPC. Its windows do not grow.
func (b *bubble) client(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///test", append(options,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return b.connect(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))...)
	must(t, err)
	return conn
}

func checkHealth(t *testing.T, conn *grpc.ClientConn) (healthv1.HealthCheckResponse_ServingStatus, error) {
	t.Helper()
	resp, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	return resp.GetStatus(), err
}

// What does not run a unary call is not waited for, whatever it does.
func TestDrainWaitsForNobody(t *testing.T) {
	list := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
	large := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: zendeskv1.BlockService_ServiceDesc.ServiceName,
	}}
	reflect := func(t *testing.T, conn *grpc.ClientConn) reflectionv1.ServerReflection_ServerReflectionInfoClient {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		must(t, err)
		return stream
	}
	for name, test := range map[string]struct {
		occupy func(*testing.T, *bubble) func() // begins what the drain meets, and returns what checks and ends it
		takes  time.Duration
	}{
		"nobody": {func(*testing.T, *bubble) func() { return func() {} }, 0},
		"a connection that says nothing": {func(t *testing.T, b *bubble) func() {
			conn := b.dial(t)
			return func() { must(t, conn.Close()) }
		}, 0},
		"a connection that stops within its greeting": {func(t *testing.T, b *bubble) func() {
			conn := b.dial(t)
			_, err := conn.Write([]byte(http2.ClientPreface[:10]))
			must(t, err)
			return func() { must(t, conn.Close()) }
		}, lastWords},
		"a connection without calls": {func(t *testing.T, b *bubble) func() {
			conn := b.client(t)
			_, err := checkHealth(t, conn)
			must(t, err)
			return func() { must(t, conn.Close()) }
		}, 0},
		"a reflection stream": {func(t *testing.T, b *bubble) func() {
			conn := b.client(t)
			stream := reflect(t, conn)
			must(t, stream.Send(list))
			_, err := stream.Recv()
			must(t, err)
			return func() {
				_, err := stream.Recv()
				mustReason(t, err, codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
				must(t, conn.Close())
			}
		}, 0},
		"a health watch": {func(t *testing.T, b *bubble) func() {
			conn := b.client(t)
			stream, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
			must(t, err)
			_, err = stream.Recv()
			must(t, err)
			return func() {
				last := healthv1.HealthCheckResponse_UNKNOWN
				for {
					resp, err := stream.Recv()
					if errors.Is(err, io.EOF) {
						break
					}
					must(t, err)
					last = resp.GetStatus()
				}
				if last != healthv1.HealthCheckResponse_NOT_SERVING {
					t.Errorf("the last health is %v", last)
				}
				must(t, conn.Close())
			}
		}, 0},
		"a stream whose caller does not read": {func(t *testing.T, b *bubble) func() {
			conn := b.client(t)
			stream := reflect(t, conn)
			for range 100 { // answers of more than the window
				must(t, stream.Send(large))
			}
			return func() { must(t, conn.Close()) }
		}, lastWords},
		"a connection that reads nothing at all": {func(t *testing.T, b *bubble) func() {
			conn := b.dial(t)
			_, err := io.WriteString(conn, http2.ClientPreface)
			must(t, err)
			framer := http2.NewFramer(conn, conn)
			must(t, framer.WriteSettings())
			go func() {
				for range 10_000 { // each is to be answered
					if framer.WritePing(false, [8]byte{}) != nil {
						return
					}
				}
			}()
			return func() { _ = conn.Close() }
		}, lastWords},
	} {
		t.Run(name, func(t *testing.T) {
			onEachWay(t, Config{DrainTimeout: time.Hour}, func(t *testing.T, b *bubble) {
				end := test.occupy(t, b)
				synctest.Wait()
				if took := b.drain(t); took < test.takes || took > test.takes+lastWords/5 {
					t.Errorf("the drain took %s, want %s", took, test.takes)
				}
				end()
			})
		})
	}
}

func TestDrainDelay(t *testing.T) {
	const delay = 5 * time.Second
	inBubble(t, Config{DrainDelay: delay}, func(t *testing.T, b *bubble) {
		if took := b.drain(t); took != 0 {
			t.Errorf("with nobody connected the drain took %s", took)
		}
	})
	onEachWay(t, Config{DrainDelay: delay}, func(t *testing.T, b *bubble) {
		conn := b.client(t)
		_, err := checkHealth(t, conn)
		must(t, err)
		begun := time.Now()
		b.stop()
		time.Sleep(delay - time.Nanosecond)
		other := b.client(t)
		for _, conn := range []*grpc.ClientConn{conn, other} { // calls are taken, also on new connections
			if health, err := checkHealth(t, conn); err != nil || health != healthv1.HealthCheckResponse_NOT_SERVING {
				t.Errorf("within the delay health is %v, %v", health, err)
			}
			resp, err := zendeskv1.NewBlockServiceClient(conn).AttachedData(t.Context(),
				&zendeskv1.AttachedDataRequest{InteractionId: "one", Data: map[string]string{"a": "b"}})
			must(t, err)
			mustExit(t, resp, next)
		}
		must(t, <-b.served)
		b.served <- nil
		if took := time.Since(begun); took != delay {
			t.Errorf("the drain took %s", took)
		}
		must(t, conn.Close())
		must(t, other.Close())
	})
}

// A listener that fails ends the service in order: streams are told, and calls that run get their answers.
func TestListenerFails(t *testing.T) {
	s, g := newGatedServer(t, time.Hour)
	srv, err := New(s.config)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context(), listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	watch, err := zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: agentEmail}})
	must(t, err)
	_, err = watch.Header()
	must(t, err)
	outcome := searchInBackground(conn)
	<-g.arrived
	must(t, listener.Close())
	_, err = watch.Recv()
	mustReason(t, err, codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
	select {
	case err := <-served:
		t.Fatalf("the service ended (%v) while a call ran", err)
	default:
	}
	close(g.open)
	got := <-outcome
	must(t, got.err)
	mustExit(t, got.resp, next)
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the service ended with %v", err)
	}
}

// Connections end without a stream that is cut: each is told to reconnect, on a connection that takes no more calls.
func TestConnectionAge(t *testing.T) {
	onEachWay(t, Config{}, func(t *testing.T, b *bubble) {
		conn := b.client(t)
		begun := time.Now()
		rounds := 20
		if b.within {
			rounds = 2 // what ends them is the same
		}
		for range rounds {
			for name, open := range map[string]func() (grpc.ClientStream, error){
				"health": func() (grpc.ClientStream, error) {
					return healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
				},
				"reflection": func() (grpc.ClientStream, error) {
					return reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
				},
				"pops": func() (grpc.ClientStream, error) {
					return zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: agentEmail}})
				},
			} {
				stream, err := open()
				must(t, err)
				for err == nil {
					err = stream.RecvMsg(new(healthv1.HealthCheckResponse)) // of the others no message comes
				}
				if got := fmt.Sprint(status.Convert(err).Details()); status.Code(err) != codes.Unavailable || !strings.Contains(got, "CONNECTION_EXPIRED") {
					t.Fatalf("the %s stream ended with %v, %s", name, err, got)
				}
			}
		}
		if lived := time.Since(begun) / time.Duration(3*rounds); lived < 30*time.Minute || lived > 40*time.Minute {
			t.Errorf("connections lived for %s each", lived)
		}
		must(t, conn.Close())
	})
}

func TestKeepalive(t *testing.T) {
	onEachWay(t, Config{}, func(t *testing.T, b *bubble) {
		conn := b.client(t, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, PermitWithoutStream: true}))
		_, err := checkHealth(t, conn)
		must(t, err)
		synctest.Wait() // calls may be made before the client says that it is ready
		called := time.Now()
		conn.WaitForStateChange(t.Context(), connectivity.Ready)
		if idle := time.Since(called); idle < idleAfter || idle > idleAfter+time.Second {
			t.Errorf("a client that pings every 10 s and does not call is disconnected after %s", idle)
		}
		_, err = checkHealth(t, conn) // on another connection
		must(t, err)
		must(t, conn.Close())
	})
	for name, test := range map[string]struct {
		greet func(*testing.T, net.Conn)
		after time.Duration
	}{
		"says nothing": {func(*testing.T, net.Conn) {}, handshakeTime},
		"is gone": {func(t *testing.T, conn net.Conn) {
			_, err := io.WriteString(conn, http2.ClientPreface)
			must(t, err)
			must(t, http2.NewFramer(conn, conn).WriteSettings())
		}, pingAfter + pingTimeout},
	} {
		onEachWay(t, Config{}, func(t *testing.T, b *bubble) {
			conn := b.dial(t)
			test.greet(t, conn)
			begun := time.Now()
			_, _ = io.Copy(io.Discard, conn) // until it is closed
			if lived := time.Since(begun); lived < test.after || lived > test.after+time.Second {
				t.Errorf("a client that %s is disconnected after %s, want %s", name, lived, test.after)
			}
			must(t, conn.Close())
		})
	}
}

func TestStreamsPerConnection(t *testing.T) {
	onEachWay(t, Config{}, func(t *testing.T, b *bubble) {
		conn := b.client(t)
		open := func(ctx context.Context, i int) error {
			stream, err := zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{
				Agent: &zendeskv1.Agent{Email: fmt.Sprintf("%d@acme.example", i)},
			})
			if err == nil {
				_, err = stream.Header()
			}
			return err
		}
		for i := range maxStreams {
			must(t, open(t.Context(), i))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := open(ctx, maxStreams); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("stream %d of the connection got %v", maxStreams+1, err)
		}
		must(t, conn.Close())
	})
}

// failing is a listener whose Accept fails as long as a process is out of file descriptors.
type failing struct {
	net.Listener
	errors chan error
}

func (l *failing) Accept() (net.Conn, error) {
	select {
	case err := <-l.errors:
		return nil, err
	default:
		return l.Listener.Accept()
	}
}

// Accept is tried again many times, and now and then a connection comes through: that it fails is told once, and so is
// that it does not any more.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log textBuffer
		network := bufconn.Listen(1)
		l := &failing{network, make(chan error, 100)}
		s := newConnections(l, Bounds{}, slog.New(slog.NewJSONHandler(&log, nil)))
		accept := func() {
			go func() {
				conn, err := network.Dial()
				must(t, err)
				must(t, conn.Close())
			}()
			_, err := s.Accept()
			must(t, err)
		}
		for range 5 {
			for range 20 {
				l.errors <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
				if _, err := s.Accept(); !errors.Is(err, syscall.EMFILE) {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			accept()
		}
		for range 3 {
			time.Sleep(calmAfter)
			accept()
		}
		lines := log.lines(t)
		if len(lines) != 2 || lines[0]["level"] != "ERROR" || lines[1]["level"] != "INFO" {
			t.Errorf("the log says %v", lines)
		}
	})
}
