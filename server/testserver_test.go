package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// testServer is a whole service as it runs in production, with a fake Zendesk beside it, and clients for it.
type testServer struct {
	accounts     zendeskv1.AccountServiceClient
	blocks       zendeskv1.BlockServiceClient
	interactions zendeskv1.InteractionServiceClient
	operations   zendeskv1.OperationsServiceClient

	zendesk *zendesktest.Zendesk
	store   *store.Store
	clock   *testClock  // of the service, the store and Zendesk
	log     *textBuffer // what the service logged, one JSON object a line
	replies *textBuffer // every reply and error that a client of this server got, as text
	dir     string      // holds the data file and its key, and nothing else

	config    Config
	ownSeries int // how many accounts have series of their own in the metrics
	server    *Server
	keep      store.Config // lives and quotas; the database, where it is not a file in dir
	stop      func()
}

// patient lets calls take as long as a busy machine needs. Tests of deadlines set their own.
var patient = Timeouts{Block: time.Minute, BlockCap: time.Minute, Zendesk: time.Minute, Deliver: time.Minute, Other: time.Minute}

// newTestServer starts a service. adjust, if given, changes its configuration and that of its Zendesk first.
func newTestServer(t testing.TB, adjust ...func(*Config, *zendesktest.Config)) *testServer {
	t.Helper()
	s := newStopped(t, adjust...)
	s.start(t)
	return s
}

// newStopped is a service that has yet to be started, and its Zendesk, which runs.
func newStopped(t testing.TB, adjust ...func(*Config, *zendesktest.Config)) *testServer {
	t.Helper()
	s := &testServer{clock: &testClock{}, log: &textBuffer{}, replies: &textBuffer{}, dir: t.TempDir(), stop: func() {}}
	if url := postgres.database(t); url != "" {
		s.keep.URL, s.keep.KeyFile = url, filepath.Join(s.dir, "data.db.key")
		must(t, keyfile.Make(s.keep.KeyFile))
	}
	zendeskConfig := zendesktest.Config{Clock: s.clock.now}
	s.config = Config{
		Log:       s.log.logger(),
		Clock:     s.clock.now,
		UserAgent: "zendeskblocks/test",
		Timeouts:  patient,
	}
	for _, f := range adjust {
		f(&s.config, &zendeskConfig)
	}
	s.zendesk = zendesktest.New(zendeskConfig)
	must(t, s.zendesk.Start("127.0.0.1:0"))
	t.Cleanup(func() { must(t, s.zendesk.Close()) })
	origin, err := url.Parse(s.zendesk.Origin())
	must(t, err)
	s.config.AllowHosts = append(s.config.AllowHosts, origin.Host)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *testServer) start(t testing.TB) {
	t.Helper()
	var err error
	s.config.Metrics = metrics.New(metrics.Config{Accounts: s.ownSeries, Now: s.clock.now})
	config := s.keep
	config.Observer = s.config.Metrics.Store()
	config.Log, config.Now = s.config.Log, s.clock.now
	if config.URL == "" {
		config.Path = filepath.Join(s.dir, "data.db")
	}
	s.store, err = store.Open(t.Context(), config)
	must(t, err)
	s.config.Store = s.store
	s.config.Transport, err = zendeskapi.NewTransport(zendeskapi.TransportConfig{
		AllowHosts: s.config.AllowHosts, NoWrites: s.config.NoWrites, Now: s.clock.now, Observer: ObserveZendesk(s.config.Metrics, s.config.Log),
	})
	must(t, err)
	srv, err := New(s.config)
	must(t, err)
	s.server = srv

	listener := bufconn.Listen(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, listener) }()
	conn, err := grpc.NewClient("passthrough:///test",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(s.record))
	must(t, err)
	s.accounts = zendeskv1.NewAccountServiceClient(conn)
	s.blocks = zendeskv1.NewBlockServiceClient(conn)
	s.interactions = zendeskv1.NewInteractionServiceClient(conn)
	s.operations = zendeskv1.NewOperationsServiceClient(conn)
	s.stop = sync.OnceFunc(func() {
		must(t, conn.Close())
		cancel()
		must(t, <-served)
		s.config.Transport.Close()
		must(t, s.store.Close())
	})
}

// restart stops the service and starts it again on the same data.
func (s *testServer) restart(t testing.TB) {
	t.Helper()
	s.stop()
	s.start(t)
}

// record keeps what a caller is shown.
func (s *testServer) record(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var header, trailer metadata.MD
	err := invoke(ctx, method, req, reply, conn, append(opts, grpc.Header(&header), grpc.Trailer(&trailer))...)
	s.replies.add(fmt.Sprint(header, trailer))
	shown := proto.Message(status.Convert(err).Proto())
	if err == nil {
		shown = reply.(proto.Message)
	}
	s.replies.add(method + " " + prototext.Format(shown))
	for _, detail := range status.Convert(err).Details() {
		s.replies.add(prototext.Format(detail.(proto.Message)))
	}
	return err
}

// createAccount makes an account for the fake Zendesk that acts as a person of it.
func (s *testServer) createAccount(t testing.TB, id string, person zendesktest.Person) *zendeskv1.Account {
	t.Helper()
	resp, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{
		Name:          "Account " + id,
		Url:           s.zendesk.Origin(),
		DefaultRegion: "US",
		ApiToken:      &zendeskv1.ApiToken{Username: person.Email, Token: person.APIToken},
	}})
	must(t, err)
	return resp.GetAccount()
}

// requests lists what Zendesk was asked, as "METHOD path".
func (s *testServer) requests() []string {
	var asked []string
	for _, r := range s.zendesk.Requests() {
		asked = append(asked, r.Method+" "+r.Path)
	}
	return asked
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mustReason checks what an error says and returns its ErrorInfo.
func mustReason(t testing.TB, err error, code codes.Code, reason zendeskv1.ErrorReason) *errdetails.ErrorInfo {
	t.Helper()
	info, ok := detailOf[*errdetails.ErrorInfo](err)
	if !ok || status.Code(err) != code || "ERROR_REASON_"+info.GetReason() != reason.String() || info.GetDomain() != rpc.ErrorDomain {
		t.Fatalf("error is %v with %v, want %v with %v", err, info, code, reason)
	}
	return info
}

// onTheWire is an error as the caller of an RPC gets it.
func onTheWire(ctx context.Context, err error) error {
	info := &grpc.UnaryServerInfo{FullMethod: zendeskv1.AccountService_GetAccount_FullMethodName}
	_, err = rpc.UnaryErrors(ctx, nil, info, func(context.Context, any) (any, error) { return nil, err })
	return err
}

// codeOf is the gRPC code that comes with a reason.
func codeOf(reason zendeskv1.ErrorReason) codes.Code {
	return status.Code(onTheWire(context.Background(), &rpc.Error{Reason: reason}))
}

// mustViolate checks that an error names these fields, in any order.
func mustViolate(t testing.TB, err error, want ...string) {
	t.Helper()
	mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
	bad, _ := detailOf[*errdetails.BadRequest](err)
	var got []string
	for _, v := range bad.GetFieldViolations() {
		got = append(got, v.GetField())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("violated fields are %q, want %q", got, want)
	}
}

// detailOf returns the detail of a type that an error carries.
func detailOf[D any](err error) (detail D, ok bool) {
	for _, d := range status.Convert(err).Details() {
		if detail, ok = d.(D); ok {
			return detail, true
		}
	}
	return detail, false
}

// testClock is the real time, moved forward when told to.
type testClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// textBuffer is safe for concurrent use.
type textBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *textBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// logger writes to the buffer, one JSON object a line.
func (b *textBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Append implements audit.Sink.
func (b *textBuffer) Append(lines []byte) error {
	_, err := b.Write(lines)
	return err
}

// Tail implements audit.Sink.
func (b *textBuffer) Tail() ([]byte, error) { return []byte(b.String()), nil }

func (b *textBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *textBuffer) add(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.WriteString(strings.TrimSuffix(text, "\n") + "\n")
}
