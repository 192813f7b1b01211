package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/web/inside"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const otherOrigin = "https://desk.example.com"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// service is a whole service with a gateway before it, on a real socket.
type service struct {
	web     *httptest.Server
	gateway *gateway
	direct  *grpc.ClientConn // of the service, without the gateway
	token   string           // of a caller with all roles of a tenant
	log     *lines
	stop    func() // drains the service
}

// newService starts one. adjust, if given, changes its configuration first.
func newService(t testing.TB, adjust ...func(*server.Config, *Config)) *service {
	t.Helper()
	s := &service{log: &lines{}}
	log := slog.New(slog.NewJSONHandler(s.log, nil))
	zendesk := zendesktest.New(zendesktest.Config{})
	must(t, zendesk.Start("127.0.0.1:0"))
	t.Cleanup(func() { must(t, zendesk.Close()) })
	origin, err := url.Parse(zendesk.Origin())
	must(t, err)
	tokens := filepath.Join(t.TempDir(), "tokens")
	token, line, err := auth.NewToken(auth.Caller{
		Tenant: "acme", Name: "all", Roles: []auth.Role{auth.Admin, auth.Runtime, auth.Desktop, auth.Ops}, Expires: time.Now().Add(time.Hour),
	})
	must(t, err)
	must(t, auth.AppendToken(tokens, line))
	s.token = token
	authenticator, err := auth.Open(auth.Config{TokenFile: tokens, Log: log})
	must(t, err)
	t.Cleanup(authenticator.Close)
	data, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db"), Log: log})
	must(t, err)
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: []string{origin.Host}})
	must(t, err)
	const patient = time.Minute
	config := server.Config{
		Store: data, Transport: transport, Log: log, Auth: authenticator, AllowHosts: []string{origin.Host},
		Timeouts: server.Timeouts{Block: patient, BlockCap: patient, Zendesk: patient, Deliver: patient, Other: patient},
	}
	api := Config{Origins: []string{otherOrigin}}
	for _, f := range adjust {
		f(&config, &api)
	}
	srv, err := server.New(config)
	must(t, err)
	listener := bufconn.Listen(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, listener) }()
	s.direct, err = grpc.NewClient("passthrough:///service",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	_, err = healthv1.NewHealthClient(s.direct).Check(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	s.stop = sync.OnceFunc(func() {
		cancel()
		must(t, <-served)
		must(t, s.direct.Close())
		transport.Close()
		must(t, data.Close())
	})
	t.Cleanup(s.stop)

	handler, err := New(api)
	must(t, err)
	s.gateway = handler.(*gateway)
	conns := inside.New(srv.Dial)
	s.web = httptest.NewUnstartedServer(handler)
	s.web.Config.ConnContext = conns.ConnContext
	state := s.web.Config.ConnState
	s.web.Config.ConnState = func(c net.Conn, now http.ConnState) {
		conns.ConnState(c, now)
		if state != nil {
			state(c, now)
		}
	}
	s.web.Config.Protocols = new(http.Protocols)
	s.web.Config.Protocols.SetHTTP1(true)
	s.web.Config.Protocols.SetUnencryptedHTTP2(true)
	s.web.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(s.log, nil), slog.LevelError)
	s.web.Start()
	t.Cleanup(s.web.Close)
	_, err = zendeskv1.NewAccountServiceClient(s.direct).CreateAccount(s.as(t.Context()), &zendeskv1.CreateAccountRequest{AccountId: "main", Account: &zendeskv1.Account{
		Name: "Main", Url: zendesk.Origin(), DefaultRegion: "US",
		ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
	}})
	must(t, err)
	return s
}

// as shows the credential in calls of gRPC.
func (s *service) as(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token)
}

// pop has a screen pop delivered to an agent.
func (s *service) pop(t testing.TB, interaction string, to zendesktest.Person) {
	t.Helper()
	_, err := zendeskv1.NewBlockServiceClient(s.direct).ScreenPop(s.as(t.Context()), &zendeskv1.ScreenPopRequest{
		InteractionId: interaction, Target: &zendeskv1.ScreenPopRequest_SearchString{SearchString: "anything"},
	})
	must(t, err)
	_, err = zendeskv1.NewInteractionServiceClient(s.direct).DeliverInteraction(s.as(t.Context()), &zendeskv1.DeliverInteractionRequest{
		InteractionId: interaction, Agent: &zendeskv1.Agent{Email: to.Email},
	})
	must(t, err)
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// protocol is one way to call, by a library that others made.
type protocol struct {
	name    string
	http2   bool
	options []connect.ClientOption
}

var protocols = []protocol{
	{name: "Connect"},
	{name: "Connect JSON", options: []connect.ClientOption{connect.WithProtoJSON()}},
	{name: "Connect over HTTP/2", http2: true},
	{name: "gRPC-Web", options: []connect.ClientOption{connect.WithGRPCWeb()}},
	{name: "gRPC-Web JSON over HTTP/2", http2: true, options: []connect.ClientOption{connect.WithGRPCWeb(), connect.WithProtoJSON()}},
	{name: "gRPC", http2: true, options: []connect.ClientOption{connect.WithGRPC()}},
}

// onEach runs a test by each protocol.
func onEach(t *testing.T, test func(t *testing.T, p protocol)) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) { test(t, p) })
	}
}

// client makes a client of a method, which shows a credential.
func client[Req, Resp any](t testing.TB, s *service, p protocol, method, credential string) *connect.Client[Req, Resp] {
	t.Helper()
	transport := &http.Transport{}
	if p.http2 {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(transport.CloseIdleConnections)
	options := append([]connect.ClientOption{connect.WithInterceptors(showing(credential))}, p.options...)
	return connect.NewClient[Req, Resp](&http.Client{Transport: transport}, s.web.URL+method, options...)
}

// showing is the interceptor that shows a credential.
type showing string

func (c showing) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if c != "" {
			req.Header().Set("Authorization", "Bearer "+string(c))
		}
		return next(ctx, req)
	}
}

func (c showing) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(c))
		return conn
	}
}

func (c showing) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// mustFail checks an error, and returns its details.
func mustFail(t testing.TB, err error, code connect.Code, reason zendeskv1.ErrorReason) map[string]proto.Message {
	t.Helper()
	failed := new(connect.Error)
	if !errors.As(err, &failed) {
		t.Fatalf("it ends with %v", err)
	}
	details := make(map[string]proto.Message)
	for _, d := range failed.Details() {
		value, err := d.Value()
		must(t, err)
		details[d.Type()] = value
	}
	info, _ := details["google.rpc.ErrorInfo"].(*errdetails.ErrorInfo)
	if failed.Code() != code || "ERROR_REASON_"+info.GetReason() != reason.String() {
		t.Fatalf("it ends with %v, %v, want %v with %v", err, details, code, reason)
	}
	return details
}

func TestUnary(t *testing.T) {
	t.Parallel()
	s := newService(t)
	onEach(t, func(t *testing.T, p protocol) {
		id := strings.ReplaceAll(strings.ReplaceAll(p.name, " ", "-"), "/", "-")
		selected, err := client[zendeskv1.SelectAccountRequest, zendeskv1.SelectAccountResponse](t, s, p, zendeskv1.BlockService_SelectAccount_FullMethodName, s.token).
			CallUnary(t.Context(), connect.NewRequest(&zendeskv1.SelectAccountRequest{
				InteractionId: id, Choice: &zendeskv1.SelectAccountRequest_UseDefault{UseDefault: true}, Variables: map[string]string{"ä": "<b>"},
			}))
		must(t, err)
		if selected.Msg.GetExit() != zendeskv1.Exit_EXIT_NEXT {
			t.Errorf("the block answers %v", selected.Msg)
		}
		got, err := client[zendeskv1.GetInteractionRequest, zendeskv1.GetInteractionResponse](t, s, p, zendeskv1.InteractionService_GetInteraction_FullMethodName, s.token).
			CallUnary(t.Context(), connect.NewRequest(&zendeskv1.GetInteractionRequest{InteractionId: id}))
		must(t, err)
		want, err := zendeskv1.NewInteractionServiceClient(s.direct).GetInteraction(s.as(t.Context()), &zendeskv1.GetInteractionRequest{InteractionId: id})
		must(t, err)
		if !proto.Equal(got.Msg, want) {
			t.Errorf("the interaction is %v, and by gRPC %v", got.Msg, want)
		}
		// A message without fields.
		list, err := client[zendeskv1.ListAccountsRequest, zendeskv1.ListAccountsResponse](t, s, p, zendeskv1.AccountService_ListAccounts_FullMethodName, s.token).
			CallUnary(t.Context(), connect.NewRequest(&zendeskv1.ListAccountsRequest{}))
		must(t, err)
		if len(list.Msg.GetAccounts()) != 1 {
			t.Errorf("the accounts are %v", list.Msg)
		}
		health, err := client[healthv1.HealthCheckRequest, healthv1.HealthCheckResponse](t, s, p, healthv1.Health_Check_FullMethodName, "").
			CallUnary(t.Context(), connect.NewRequest(&healthv1.HealthCheckRequest{}))
		must(t, err)
		if health.Msg.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health is %v", health.Msg)
		}
	})
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := newService(t)
	onEach(t, func(t *testing.T, p protocol) {
		call := func(credential string, req *zendeskv1.GetInteractionRequest) error {
			_, err := client[zendeskv1.GetInteractionRequest, zendeskv1.GetInteractionResponse](t, s, p, zendeskv1.InteractionService_GetInteraction_FullMethodName, credential).
				CallUnary(t.Context(), connect.NewRequest(req))
			return err
		}
		mustFail(t, call("", &zendeskv1.GetInteractionRequest{}), connect.CodeUnauthenticated, zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED)
		mustFail(t, call(auth.TokenPrefix+"wrong", &zendeskv1.GetInteractionRequest{InteractionId: strings.Repeat("x", 100<<10)}),
			connect.CodeUnauthenticated, zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED)
		details := mustFail(t, call(s.token, &zendeskv1.GetInteractionRequest{InteractionId: "with space"}), connect.CodeInvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		bad, _ := details["google.rpc.BadRequest"].(*errdetails.BadRequest)
		if v := bad.GetFieldViolations(); len(v) != 1 || v[0].GetField() != "interaction_id" {
			t.Errorf("the violations are %v", v)
		}
		mustFail(t, call(s.token, &zendeskv1.GetInteractionRequest{InteractionId: "nobody"}), connect.CodeNotFound, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND)
		mustFail(t, call(s.token, &zendeskv1.GetInteractionRequest{InteractionId: strings.Repeat("x", 65<<10)}), connect.CodeResourceExhausted, zendeskv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE)
		if p.name == "Connect" || p.name == "gRPC-Web" { // gRPC does not show the message before it is asked for
			mustFail(t, call(s.token, &zendeskv1.GetInteractionRequest{InteractionId: strings.Repeat("x", 5<<20)}), connect.CodeResourceExhausted, zendeskv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE)
		}
		_, err := client[zendeskv1.GetInteractionRequest, zendeskv1.GetInteractionResponse](t, s, p, "/scenarioblocks.zendesk.v1.InteractionService/Nothing", s.token).
			CallUnary(t.Context(), connect.NewRequest(&zendeskv1.GetInteractionRequest{}))
		if connect.CodeOf(err) != connect.CodeUnimplemented {
			t.Errorf("a method that is not there: %v", err)
		}
		_, err = client[zendeskv1.GetInteractionRequest, zendeskv1.GetInteractionResponse](t, s,
			protocol{http2: p.http2, options: append([]connect.ClientOption{connect.WithSendGzip()}, p.options...)},
			zendeskv1.InteractionService_GetInteraction_FullMethodName, s.token).
			CallUnary(t.Context(), connect.NewRequest(&zendeskv1.GetInteractionRequest{InteractionId: strings.Repeat("x", 10<<10)}))
		if code := connect.CodeOf(err); code != connect.CodeInvalidArgument && code != connect.CodeUnimplemented {
			t.Errorf("a message that is compressed: %v", err)
		}
	})
	if text := s.log.String(); strings.Contains(text, "panic") {
		t.Error(text)
	}
}

// A stream begins at once, each message comes when it is sent, and the browser hears of the end.
func TestStream(t *testing.T) {
	t.Parallel()
	s := newService(t)
	watches := make(map[string]*connect.ServerStreamForClient[zendeskv1.WatchScreenPopsResponse])
	for i, p := range protocols {
		s.pop(t, fmt.Sprint("call-", i), zendesktest.Agent)
		stream, err := client[zendeskv1.WatchScreenPopsRequest, zendeskv1.WatchScreenPopsResponse](t, s, p, zendeskv1.InteractionService_WatchScreenPops_FullMethodName, s.token).
			CallServerStream(t.Context(), connect.NewRequest(&zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}}))
		must(t, err)
		for j := range i + 1 {
			if !stream.Receive() || stream.Msg().GetInteractionId() != fmt.Sprint("call-", j) {
				t.Fatalf("%s: the watch says %v, %v", p.name, stream.Msg(), stream.Err())
			}
		}
		watches[p.name] = stream
		// One that has nothing to say yet has headers all the same.
		quiet, err := client[zendeskv1.WatchScreenPopsRequest, zendeskv1.WatchScreenPopsResponse](t, s, p, zendeskv1.InteractionService_WatchScreenPops_FullMethodName, s.token).
			CallServerStream(t.Context(), connect.NewRequest(&zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: "quiet@acme.example"}}))
		must(t, err)
		if got := quiet.ResponseHeader().Get("Content-Type"); got == "" {
			t.Errorf("%s: a stream has no headers before its first message", p.name)
		}
		watches[p.name+", quiet"] = quiet
		for j := range i {
			before := watches[protocols[j].name]
			if !before.Receive() || before.Msg().GetInteractionId() != fmt.Sprint("call-", i) {
				t.Fatalf("%s: the watch says %v, %v", protocols[j].name, before.Msg(), before.Err())
			}
		}
	}
	s.stop()
	for name, stream := range watches {
		if stream.Receive() {
			t.Errorf("%s: the watch says %v", name, stream.Msg())
		}
		mustFail(t, stream.Err(), connect.CodeUnavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
		must(t, stream.Close())
	}
	for _, p := range protocols { // also on connections that are there
		_, err := client[healthv1.HealthCheckRequest, healthv1.HealthCheckResponse](t, s, p, healthv1.Health_Check_FullMethodName, "").
			CallUnary(t.Context(), connect.NewRequest(&healthv1.HealthCheckRequest{}))
		mustFail(t, err, connect.CodeUnavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
	}
}

// The service hears of a call that its caller has given up.
func TestCancel(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for i, p := range protocols {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client[zendeskv1.WatchScreenPopsRequest, zendeskv1.WatchScreenPopsResponse](t, s, p, zendeskv1.InteractionService_WatchScreenPops_FullMethodName, s.token).
			CallServerStream(ctx, connect.NewRequest(&zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: "quiet@acme.example"}}))
		must(t, err)
		cancel()
		stream.Receive()
		until(t, p.name+" is given up", func() bool { return strings.Count(s.log.String(), `"grpc.method":"WatchScreenPops"`) == i+1 })
	}
}

// The service knows of deadlines, and tells of those that passed.
func TestDeadline(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for i, p := range protocols {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		_, err := client[zendeskv1.ListAccountsRequest, zendeskv1.ListAccountsResponse](t, s, p, zendeskv1.AccountService_ListAccounts_FullMethodName, s.token).
			CallUnary(ctx, connect.NewRequest(&zendeskv1.ListAccountsRequest{}))
		cancel()
		must(t, err)
		if n := strings.Count(s.log.String(), `"grpc.request.timeout"`); n != i+1 {
			t.Errorf("%s: the service does not know of the deadline", p.name)
		}
	}
	message := `{"agent":{"email":"quiet@acme.example"}}`
	frame := "\x00\x00\x00\x00" + string(rune(len(message))) + message
	for content, timeout := range map[string][2]string{
		"application/connect+json": {"Connect-Timeout-Ms", "100"}, "application/grpc-web+json": {"Grpc-Timeout", "100m"},
	} {
		status, header, body := s.request(t, "POST", zendeskv1.InteractionService_WatchScreenPops_FullMethodName, frame,
			map[string]string{"Content-Type": content, "Authorization": "Bearer " + s.token, timeout[0]: timeout[1]})
		answer := strings.ToLower(fmt.Sprint(header, body))
		if status != 200 || !strings.Contains(answer, "deadline passed") && !strings.Contains(answer, "deadline%20passed") {
			t.Errorf("%s: after the deadline it is answered by %d %s", content, status, answer)
		}
	}
}

// until waits for what another process, or goroutine, is to bring about.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("it is waited in vain until %s", what)
		}
	}
}

// request makes a request by hand, and returns the answer.
func (s *service) request(t testing.TB, method, path, body string, header map[string]string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.web.URL+path, strings.NewReader(body))
	must(t, err)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	if name, ok := header["Host"]; ok {
		req.Host = name
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	defer func() { must(t, resp.Body.Close()) }()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Header, string(data)
}

// What a client without a library sends.
func TestByHand(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const get, list = zendeskv1.InteractionService_GetInteraction_FullMethodName, zendeskv1.AccountService_ListAccounts_FullMethodName
	as := func(header map[string]string) map[string]string {
		if _, ok := header["Authorization"]; !ok {
			header["Authorization"] = "Bearer " + s.token
		}
		return header
	}
	asJSON := map[string]string{"Content-Type": "application/json"}
	query := func(message string) string {
		return "?" + url.Values{"connect": {"v1"}, "encoding": {"json"}, "message": {message}}.Encode()
	}
	for name, test := range map[string]struct {
		method, path, body string
		header             map[string]string
		status             int
		says               string // a part of the body
	}{
		"JSON without more":      {"POST", list, "{}", asJSON, 200, `"accountId"`},
		"JSON in UTF-8":          {"POST", list, "{}", map[string]string{"Content-Type": "application/json;charset=UTF-8"}, 200, `"accountId"`},
		"JSON in another coding": {"POST", list, "{}", map[string]string{"Content-Type": "application/json; charset=latin1"}, 404, ""},
		"no JSON":                {"POST", list, "{", asJSON, 400, `"code":"invalid_argument"`},
		"nothing":                {"POST", list, "", asJSON, 400, `"code":"invalid_argument"`},
		"a field of nobody":      {"POST", list, `{"x":[{}]}`, asJSON, 200, `"accountId"`},
		"a field of a wrong type": {
			"POST", list, `{"pageSize":"many"}`, asJSON, 400, `"code":"invalid_argument"`,
		},
		"too many elements": {"POST", list, `{"x":[` + strings.Repeat("{},", maxElements) + `{}]}`, asJSON, 400, "more than 20000"},
		"too deep":          {"POST", list, `{"x":` + strings.Repeat("[", maxElements-1) + strings.Repeat("]", maxElements-1) + `}`, asJSON, 400, `"code":"invalid_argument"`},
		"GET":               {"GET", list + query("{}"), "", map[string]string{}, 200, `"accountId"`},
		"GET of what is bad": {
			"GET", get + query(`{"interactionId":"a b"}`), "", map[string]string{}, 400, "interaction_id",
		},
		"GET that is compressed":         {"GET", list + query("{}") + "&compression=gzip", "", map[string]string{}, 400, "compressed"},
		"GET of what has effects":        {"GET", zendeskv1.AccountService_DeleteAccount_FullMethodName + query("{}"), "", map[string]string{}, 405, ""},
		"DELETE":                         {"DELETE", list, "", asJSON, 405, ""},
		"another content type":           {"POST", list, "{}", map[string]string{"Content-Type": "text/plain"}, 404, ""},
		"a form":                         {"POST", list, "a=b", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 404, ""},
		"XML":                            {"POST", list, "<a/>", map[string]string{"Content-Type": "application/xml", "Connect-Protocol-Version": "1"}, 415, ""},
		"a stream as if it was unary":    {"POST", zendeskv1.InteractionService_WatchScreenPops_FullMethodName, "{}", asJSON, 404, ""},
		"gRPC over HTTP/1.1":             {"POST", list, "\x00\x00\x00\x00\x00", map[string]string{"Content-Type": "application/grpc"}, 505, "HTTP/2"},
		"a cookie instead of a header":   {"POST", list, "{}", map[string]string{"Content-Type": "application/json", "Authorization": "", "Cookie": "session=Bearer " + s.token}, 401, `"code":"unauthenticated"`},
		"a method of nobody":             {"POST", "/scenarioblocks.zendesk.v1.AccountService/Nothing", "{}", asJSON, 404, ""},
		"a path of nobody":               {"POST", "/", "{}", asJSON, 404, ""},
		"reflection, which is a stream":  {"POST", reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName, "\x00\x00\x00\x00\x00", map[string]string{"Content-Type": "application/connect+proto"}, 200, "invalid_argument"},
		"a timeout that is none":         {"POST", list, "{}", map[string]string{"Content-Type": "application/json", "Connect-Timeout-Ms": "soon"}, 400, ""},
		"a frame that is cut":            {"POST", zendeskv1.InteractionService_WatchScreenPops_FullMethodName, "\x00\x00\x00\x00\x05{", map[string]string{"Content-Type": "application/connect+json"}, 200, "ends before its length"},
		"two frames":                     {"POST", zendeskv1.InteractionService_WatchScreenPops_FullMethodName, "\x00\x00\x00\x00\x02{}\x00\x00\x00\x00\x02{}", map[string]string{"Content-Type": "application/connect+json"}, 200, "followed by another"},
		"a frame that says it is zipped": {"POST", zendeskv1.InteractionService_WatchScreenPops_FullMethodName, "\x01\x00\x00\x00\x02{}", map[string]string{"Content-Type": "application/connect+json"}, 200, "compressed"},
		"no frame":                       {"POST", zendeskv1.InteractionService_WatchScreenPops_FullMethodName, "", map[string]string{"Content-Type": "application/connect+json"}, 200, "did not come"},
		"a frame of no JSON":             {"POST", zendeskv1.InteractionService_WatchScreenPops_FullMethodName, "\x00\x00\x00\x00\x01{", map[string]string{"Content-Type": "application/connect+json"}, 200, "invalid_argument"},
	} {
		t.Run(name, func(t *testing.T) {
			status, header, body := s.request(t, test.method, test.path, test.body, as(test.header))
			if status != test.status || !strings.Contains(body, test.says) {
				t.Errorf("it is answered by %d %q, want %d with %q", status, body, test.status, test.says)
			}
			if header.Get("Cache-Control") != "no-store" {
				t.Errorf("it may be kept: %v", header)
			}
		})
	}
	// The error of Connect is JSON with its details, as of the error table.
	_, header, body := s.request(t, "POST", get, `{"interactionId":"nobody"}`, as(map[string]string{"Content-Type": "application/json"}))
	var said struct {
		Code    string
		Details []struct{ Type string }
	}
	must(t, json.Unmarshal([]byte(body), &said))
	if said.Code != "not_found" || len(said.Details) == 0 || said.Details[0].Type != "google.rpc.ErrorInfo" || header.Get("Content-Type") != "application/json" {
		t.Errorf("the error is %s", body)
	}
	if text := s.log.String(); strings.Contains(text, "panic") {
		t.Error(text)
	}
}

// GRPC-Web's text, as browsers without streams of bytes have it.
func TestText(t *testing.T) {
	t.Parallel()
	s := newService(t)
	message, err := proto.Marshal(&zendeskv1.ListAccountsRequest{PageSize: 10})
	must(t, err)
	framed := append([]byte{0, 0, 0, 0, byte(len(message))}, message...)
	encoded := base64.StdEncoding.EncodeToString(framed[:1]) + base64.StdEncoding.EncodeToString(framed[1:]) // padded within
	for _, content := range []string{"application/grpc-web-text", "application/grpc-web-text+proto"} {
		status, header, body := s.request(t, "POST", zendeskv1.AccountService_ListAccounts_FullMethodName, encoded,
			map[string]string{"Content-Type": content, "Authorization": "Bearer " + s.token})
		if status != 200 || header.Get("Content-Type") != "application/grpc-web-text+proto" {
			t.Fatalf("it is answered by %d %v %q", status, header, body)
		}
		data, err := fromText([]byte(body))
		must(t, err)
		length := int(data[3])<<8 | int(data[4])
		var list zendeskv1.ListAccountsResponse
		must(t, proto.Unmarshal(data[5:5+length], &list))
		trailers := data[5+length:]
		if len(list.GetAccounts()) != 1 || trailers[0] != 0x80 || !strings.Contains(strings.ToLower(string(trailers)), "grpc-status: 0") {
			t.Errorf("it is answered by %v, %q", &list, trailers)
		}
	}
	_, header, _ := s.request(t, "POST", zendeskv1.AccountService_ListAccounts_FullMethodName, "no base64!",
		map[string]string{"Content-Type": "application/grpc-web-text", "Authorization": "Bearer " + s.token})
	if header.Get("Grpc-Status") != "3" {
		t.Errorf("what is no base64 is answered by %v", header)
	}
}

func TestFromText(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "YQ==": "a", "YQ==YWI=YWJj": "aababc", "YWJjYWJj": "abcabc", "Y": "!", "YQ=": "!", "YQ": "!", "====": "!", "YQ==YQ": "!", "Y!==": "!",
	} {
		got, err := fromText([]byte(text))
		if err != nil {
			got = []byte("!")
		}
		if string(got) != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// Only what the service needs reaches it.
func TestHeadersThatPass(t *testing.T) {
	sent := http.Header{
		"Authorization": {"a"}, "Cookie": {"b"}, "Traceparent": {"c"}, "Grpc-Timeout": {"1S"}, "X-Forwarded-For": {"d"}, "Origin": {"e"}, "User-Agent": {"f"},
	}
	if diff := cmp.Diff(passedOn(sent), http.Header{"Authorization": {"a"}, "Traceparent": {"c"}, "Grpc-Timeout": {"1S"}, "User-Agent": nil}); diff != "" {
		t.Error(diff)
	}
}

// Reflection is a stream of requests, which plain gRPC has.
func TestReflection(t *testing.T) {
	t.Parallel()
	s := newService(t)
	conn, err := grpc.NewClient(strings.TrimPrefix(s.web.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(s.as(t.Context()))
	must(t, err)
	var served []string
	for range 2 {
		must(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
		resp, err := stream.Recv()
		must(t, err)
		served = nil
		for _, service := range resp.GetListServicesResponse().GetService() {
			served = append(served, "/"+service.GetName()+"/")
		}
	}
	// The gateway serves what the service does.
	missing := make(map[string]bool)
	for _, path := range served {
		missing[path] = true
	}
	for _, path := range Paths() {
		if !missing[path] {
			t.Errorf("%s is of no service", path)
		}
		delete(missing, path)
	}
	if len(missing) != 0 {
		t.Errorf("%v are not served", missing)
	}
	s.stop() // the caller hears of it, though it has not said all
	_, err = stream.Recv()
	if got := status.Convert(err); got.Code() != codes.Unavailable || len(got.Details()) != 1 {
		t.Errorf("the stream ends with %v, %v", err, got.Details())
	}
}

// deadlined is a response that knows its deadline.
type deadlined struct {
	*httptest.ResponseRecorder
	deadline, atWrite, atFlush time.Time
}

func (d *deadlined) SetWriteDeadline(t time.Time) error {
	d.deadline = t
	return nil
}

func (d *deadlined) Write(p []byte) (int, error) {
	d.atWrite = d.deadline
	return d.ResponseRecorder.Write(p)
}

func (d *deadlined) FlushError() error {
	d.atFlush = d.deadline
	return nil
}

// Each part of an answer has its time to be taken, and between them there is none: a watch on which nothing is said for long goes on.
func TestWriteTime(t *testing.T) {
	below := &deadlined{ResponseRecorder: httptest.NewRecorder()}
	w := newWriter(below, true, time.Hour)
	w.WriteHeader(http.StatusOK) // which is flushed, for a stream
	_, err := w.Write([]byte("x"))
	must(t, err)
	if below.atWrite.IsZero() || below.atFlush.IsZero() || !below.deadline.IsZero() {
		t.Errorf("the deadlines are %v when it is written, %v when it is flushed, and %v after that", below.atWrite, below.atFlush, below.deadline)
	}
}

// What a browser does not take is not kept for it.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out := newWriter(w, true, 10*time.Millisecond)
		var err error
		for err == nil {
			_, err = out.Write(make([]byte, 1<<10))
			out.Flush()
		}
		ended <- err
	})}
	listener := bufconn.Listen(1 << 10)
	go func() { _ = web.Serve(listener) }()
	defer func() { must(t, web.Close()) }()
	conn, err := listener.Dial()
	must(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	must(t, err)
	err = <-ended
	if late, ok := errors.AsType[net.Error](err); !ok || !late.Timeout() {
		t.Errorf("it ends with %v", err)
	}
}

// A body that does not come is not waited for.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.gateway.bodies.within = 100 * time.Millisecond
	for _, content := range []string{"application/json", "application/grpc-web"} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.web.URL, "http://"))
		must(t, err)
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: 4000000\r\n\r\n{", zendeskv1.AccountService_ListAccounts_FullMethodName, content)
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		data, _ := io.ReadAll(resp.Body) // the connection is cut behind it
		must(t, resp.Body.Close())
		if answer := fmt.Sprint(resp.Header, string(data)); !strings.Contains(answer, "was not complete within 100ms") {
			t.Errorf("it is answered by %s", answer)
		}
	}
}

// Bodies take no more memory than they may, all together and of an address.
func TestBodiesAreBounded(t *testing.T) {
	b := newBodies()
	if !b.take("a", bodyBytesAddress) || b.take("a", 1) {
		t.Error("an address has more than it may, or less")
	}
	for i := range bodyBytes/bodyBytesAddress - 1 {
		if !b.take(fmt.Sprint(i), bodyBytesAddress) {
			t.Errorf("address %d has no room", i)
		}
	}
	if b.take("b", 1) {
		t.Error("there is more than there may be")
	}
	b.give("a", bodyBytesAddress)
	if !b.take("b", 1) || len(b.addresses) != bodyBytes/bodyBytesAddress {
		t.Errorf("what is given back is no room: %v", b.addresses)
	}
}

// A body is charged while it is worked on, and then not.
func TestBodiesAreReleased(t *testing.T) {
	b := newBodies()
	for size, want := range map[int]int{0: 0, bodyFree - 1: 0, 3 * bodyFree / 2: bodyFree * bodyCopies, 3 << 20: 3 << 20 * bodyCopies} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", bytes.NewReader(make([]byte, size)))
		body, release, err := b.read(r, newWriter(httptest.NewRecorder(), false, writeTime), false)
		must(t, err)
		if len(body) != size || b.used != want {
			t.Errorf("%d of %d bytes are read, and %d charged", len(body), size, b.used)
		}
		release()
	}
	long := httptest.NewRequestWithContext(t.Context(), "POST", "/", io.MultiReader(bytes.NewReader(make([]byte, maxBody+1)))) // of no known length
	if _, _, err := b.read(long, newWriter(httptest.NewRecorder(), false, writeTime), false); err == nil {
		t.Error("a body is too long")
	}
	if b.used != 0 || len(b.addresses) != 0 {
		t.Errorf("%d are used, by %v", b.used, b.addresses)
	}
}

// The service's bounds of connections are those of browsers.
func TestConnectionBounds(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *server.Config, _ *Config) { c.Bounds.ConnectionsPerAddress = 1 })
	watch := func(email string) (*connect.ServerStreamForClient[zendeskv1.WatchScreenPopsResponse], error) {
		return client[zendeskv1.WatchScreenPopsRequest, zendeskv1.WatchScreenPopsResponse](t, s, protocols[0], zendeskv1.InteractionService_WatchScreenPops_FullMethodName, s.token).
			CallServerStream(t.Context(), connect.NewRequest(&zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: email}}))
	}
	first, err := watch("one@acme.example")
	must(t, err)
	second, err := watch("two@acme.example")
	if err == nil {
		second.Receive()
		err = second.Err()
	}
	details := mustFail(t, err, connect.CodeUnavailable, zendeskv1.ErrorReason_ERROR_REASON_CONNECTION_EXPIRED)
	if details["google.rpc.RetryInfo"] == nil {
		t.Error("nobody says when to try again")
	}
	must(t, first.Close())
}

// The log says which browser has called.
func TestPeer(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.request(t, "POST", zendeskv1.AccountService_ListAccounts_FullMethodName, "{}", map[string]string{"Content-Type": "application/json"})
	if !strings.Contains(s.log.String(), `"peer.address":"127.0.0.1:`) {
		t.Errorf("the log is %s", s.log)
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const list = zendeskv1.AccountService_ListAccounts_FullMethodName
	for name, test := range map[string]struct {
		method string
		header map[string]string
		status int
		origin string // that may read the answer
	}{
		"no origin":                    {"POST", map[string]string{}, 200, ""},
		"its own":                      {"POST", map[string]string{"Host": "web.example.com", "Origin": "https://web.example.com"}, 200, ""},
		"one that may":                 {"POST", map[string]string{"Origin": otherOrigin}, 200, otherOrigin},
		"one that may, in plain":       {"POST", map[string]string{"Origin": "http://desk.example.com"}, 403, ""},
		"its neighbour":                {"POST", map[string]string{"Origin": "https://evil.desk.example.com"}, 403, ""},
		"one that looks alike":         {"POST", map[string]string{"Origin": "https://desk.example.com.evil.example"}, 403, ""},
		"another port":                 {"POST", map[string]string{"Origin": "https://desk.example.com:8443"}, 403, ""},
		"a file":                       {"POST", map[string]string{"Origin": "null"}, 403, ""},
		"preflight":                    {"OPTIONS", map[string]string{"Origin": otherOrigin, "Access-Control-Request-Method": "POST"}, 204, otherOrigin},
		"preflight of another":         {"OPTIONS", map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}, 403, ""},
		"a picture of another":         {"GET", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, ""},
		"a picture of a neighbour":     {"GET", map[string]string{"Sec-Fetch-Site": "same-site"}, 403, ""},
		"what a person typed":          {"GET", map[string]string{"Sec-Fetch-Site": "none"}, 200, ""},
		"a picture of a page of ours":  {"GET", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200, ""},
		"a method of nobody, preflown": {"OPTIONS", map[string]string{"Origin": otherOrigin}, 204, otherOrigin},
	} {
		test.header["Authorization"], test.header["Content-Type"] = "Bearer "+s.token, "application/json"
		path, body := list, "{}"
		if test.method == "GET" {
			delete(test.header, "Content-Type")
			path, body = list+"?connect=v1&encoding=json&message=%7B%7D", ""
		}
		status, header, said := s.request(t, test.method, path, body, test.header)
		if status != test.status || header.Get("Access-Control-Allow-Origin") != test.origin || header.Get("Vary") != "Origin" || header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: it is answered by %d %v %q", name, status, header, said)
		}
		if test.status == 403 && !strings.Contains(said, "setting") {
			t.Errorf("%s: who is refused is told %q", name, said)
		}
		if test.status == 204 && (header.Get("Access-Control-Allow-Headers") != corsHeaders || header.Get("Access-Control-Max-Age") == "") {
			t.Errorf("%s: the preflight says %v", name, header)
		}
		if test.status == 200 && test.origin != "" && header.Get("Access-Control-Expose-Headers") != corsExposed {
			t.Errorf("%s: a page cannot read %v", name, header)
		}
	}
}

func TestOrigins(t *testing.T) {
	for origin, want := range map[string]string{
		"https://desk.example.com": "https://desk.example.com", "HTTPS://Desk.Example.COM:443": "https://desk.example.com",
		"http://localhost:8080": "http://localhost:8080", "http://[::1]:80": "http://[::1]",
		"*": "", "": "", "null": "", "desk.example.com": "", "https://": "", "https://*.example.com": "", "https://desk.example.com/": "",
		"https://desk.example.com/a": "", "https://desk.example.com?a": "", "https://a@desk.example.com": "", "ftp://desk.example.com": "", "https://desk.example.com#a": "",
	} {
		got, err := originOf(origin)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v, want %q", origin, got, err, want)
		}
	}
	if _, err := New(Config{Origins: []string{"*"}}); err == nil {
		t.Error("everybody may call")
	}
}

func TestParseTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6,
		"99999999H": 100 * 365 * 24 * time.Hour, "": -1, "1": -1, "H": -1, "1x": -1, "-1S": -1, "123456789S": -1,
	} {
		got, ok := parseTimeout(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestElements(t *testing.T) {
	for text, want := range map[string]int{
		``: 0, `{}`: 1, `{"a":1,"b":[1,2,{}]}`: 6, `"{[,,"`: 0, `{"a\"{,":"\\"}`: 1, `["\\\\",","]`: 2,
	} {
		if got := elements([]byte(text)); got != want {
			t.Errorf("%s has %d, want %d", text, got, want)
		}
	}
}
