package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	// defaultTenant is the tenant of everyone while no authentication is configured.
	defaultTenant = auth.DefaultTenant

	unauthenticated = zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED
	denied          = zendeskv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED

	agentEmail = "ann@acme.example"
)

// openAccess lets everyone in.
func openAccess(t testing.TB) *access {
	t.Helper()
	return newAccess(openAuth(t, auth.Config{}), audit.New(audit.Config{}))
}

func openAuth(t testing.TB, c auth.Config) *auth.Authenticator {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	authenticator, err := auth.Open(c)
	must(t, err)
	t.Cleanup(authenticator.Close)
	return authenticator
}

// tokenFile is a file of bearer tokens.
type tokenFile struct {
	path   string
	tokens map[string]string // by the name of the caller
}

// newTokenFile makes a file with one token for each caller, good for an hour unless the caller says otherwise.
func newTokenFile(t testing.TB, callers ...auth.Caller) *tokenFile {
	t.Helper()
	f := &tokenFile{path: filepath.Join(t.TempDir(), "tokens"), tokens: map[string]string{}}
	for _, caller := range callers {
		if caller.Expires.IsZero() {
			caller.Expires = time.Now().Add(time.Hour)
		}
		token, line, err := auth.NewToken(caller)
		must(t, err)
		must(t, auth.AppendToken(f.path, line))
		f.tokens[caller.Name] = token
	}
	return f
}

// addExpired adds a token that has expired. No command makes one.
func (f *tokenFile) addExpired(t testing.TB, tenant, name string) {
	t.Helper()
	token := auth.TokenPrefix + strings.Repeat("a", 52)
	line := fmt.Sprintf(`{"tenant": %q, "name": %q, "roles": ["admin", "runtime", "desktop", "ops"], "expires": "2020-01-31T00:00:00Z", "sha256": "%x"}`+"\n",
		tenant, name, sha256.Sum256([]byte(token)))
	must(t, auth.AppendToken(f.path, []byte(line)))
	f.tokens[name] = token
}

// revoke takes the token of a caller out of the file.
func (f *tokenFile) revoke(t testing.TB, name string) {
	t.Helper()
	content, err := os.ReadFile(f.path)
	must(t, err)
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(string(content))), func(line string) bool {
		return strings.Contains(line, fmt.Sprintf("%q", name))
	})
	// Never half of it: the file is read all the time.
	must(t, os.WriteFile(f.path+".new", []byte(strings.Join(lines, "")), 0o600))
	must(t, os.Rename(f.path+".new", f.path))
}

// as returns a context whose calls show the token of a caller.
func (f *tokenFile) as(t testing.TB, name string) context.Context {
	t.Helper()
	token, ok := f.tokens[name]
	if !ok {
		t.Fatalf("there is no token of %q", name)
	}
	return showing(t.Context(), "Bearer "+token)
}

// showing returns a context whose calls have these authorization headers.
func showing(ctx context.Context, headers ...string) context.Context {
	for _, header := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", header)
	}
	return ctx
}

// newTokenServer starts a service that accepts the tokens of a file.
func newTokenServer(t testing.TB, f *tokenFile, adjust ...func(*Config, *zendesktest.Config)) *testServer {
	t.Helper()
	return newTestServer(t, append(adjust, func(c *Config, _ *zendesktest.Config) {
		c.Auth = openAuth(t, auth.Config{TokenFile: f.path, Interval: time.Millisecond, Log: c.Log})
	})...)
}

// everyRole is one caller of each role, named for it.
func everyRole(tenant string) (callers []auth.Caller) {
	for _, role := range []auth.Role{auth.Admin, auth.Runtime, auth.Desktop, auth.Ops, auth.Operator} {
		caller := auth.Caller{Tenant: tenant, Name: tenant + " " + string(role), Roles: []auth.Role{role}}
		if role == auth.Operator {
			caller.Tenant = "" // it has none
		}
		callers = append(callers, caller)
	}
	return callers
}

// What each role is for. Who changes a rule of the service, or adds an RPC to it, has to say so here.
var allowed = map[auth.Role][]string{
	// Accounts, and erasing.
	auth.Admin: {
		"AccountService/CreateAccount", "AccountService/GetAccount", "AccountService/ListAccounts", "AccountService/UpdateAccount",
		"AccountService/DeleteAccount", "AccountService/RequestToken", "AccountService/TestConnection", "AccountService/StreamTestConnection",
		"OperationsService/ErasePerson", "OperationsService/GetCaller",
	},
	// Blocks, deliver, complete; and to read what it thereby made.
	auth.Runtime: {
		"BlockService/SelectAccount", "BlockService/Search", "BlockService/GetNextRecord", "BlockService/ScreenPop", "BlockService/AttachedData",
		"BlockService/CreateObject", "BlockService/UpdateObject", "BlockService/InvokeApi",
		"BlockService/IdentifyCaller", "BlockService/FindOrCreateUser",
		"InteractionService/DeliverInteraction", "InteractionService/CompleteInteraction",
		"InteractionService/GetInteraction", "InteractionService/ListRecords", "InteractionService/GetActivity", "InteractionService/PreviewActivity",
		"OperationsService/GetCaller",
	},
	// Watch screen pops.
	auth.Desktop: {"InteractionService/WatchScreenPops", "OperationsService/GetCaller"},
	// Read everything but secrets; retry and discard.
	auth.Ops: {
		"AccountService/GetAccount", "AccountService/ListAccounts", "AccountService/TestConnection", "AccountService/StreamTestConnection",
		"InteractionService/GetInteraction", "InteractionService/ListRecords", "InteractionService/WatchScreenPops", "InteractionService/GetActivity",
		"InteractionService/PreviewActivity", "InteractionService/ListActivities", "InteractionService/RetryActivity", "InteractionService/RetryActivities", "InteractionService/DiscardActivity",
		"OperationsService/GetUsage", "OperationsService/GetCaller",
	},
	// All tenants.
	auth.Operator: {"OperationsService/ListTenants", "OperationsService/Backup", "OperationsService/GetCaller"},
}

// method is one that a server has, by its descriptor.
type method struct {
	name   string // full, with slashes
	stream bool
}

// methodsOf lists what a server serves.
func methodsOf(s *Server) (methods []method) {
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			methods = append(methods, method{"/" + service + "/" + m.Name, m.IsServerStream || m.IsClientStream})
		}
	}
	slices.SortFunc(methods, func(a, b method) int { return strings.Compare(a.name, b.name) })
	return methods
}

// Every RPC of the protos has a rule and is served, and every rule has an RPC.
func TestEveryMethodHasARule(t *testing.T) {
	var inProtos []string
	protoregistry.GlobalFiles.RangeFilesByPackage("scenarioblocks.zendesk.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				inProtos = append(inProtos, fmt.Sprintf("/%s/%s", service.FullName(), service.Methods().Get(j).Name()))
			}
		}
		return true
	})
	slices.Sort(inProtos)
	mustEqual(t, "methods with a rule", slices.Sorted(maps.Keys(methodRoles)), inProtos)

	known := map[string]bool{}
	for _, methods := range allowed {
		for _, name := range methods {
			known["/scenarioblocks.zendesk.v1."+name] = true
		}
	}
	mustEqual(t, "methods that some role is for", slices.Sorted(maps.Keys(known)), inProtos)

	srv, err := New(newTestServer(t).config)
	must(t, err)
	var served []string
	for _, m := range methodsOf(srv) {
		switch {
		case rpc.Ours(m.name):
			served = append(served, m.name)
		case !strings.HasPrefix(m.name, healthPrefix) && !strings.HasPrefix(m.name, reflectionPrefix):
			t.Errorf("%s is served, and nobody has said to whom", m.name)
		}
	}
	mustEqual(t, "methods that are served", served, inProtos)
}

// The operator's guide's table of roles is that of the code.
func TestRolesOfTheOperatorsGuide(t *testing.T) {
	text, err := os.ReadFile("../cmd/zendeskblocks/README.md")
	must(t, err)
	want := map[string][]string{}
	for name, roles := range methodRoles {
		for _, role := range roles {
			want[string(role)] = append(want[string(role)], path.Base(name))
		}
	}
	got := map[string][]string{}
	for _, row := range tableOf(t, string(text), string(auth.Admin)) {
		got[row[0]] = strings.Split(row[1], ", ")
	}
	for _, methods := range []map[string][]string{want, got} {
		for _, names := range methods {
			slices.Sort(names)
		}
	}
	mustEqual(t, "roles", got, want)
}

// call makes a call with an empty request, and returns its error. Of a stream it takes the first message only.
func (m method) call(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if !m.stream {
		return conn.Invoke(ctx, m.name, &emptypb.Empty{}, &emptypb.Empty{})
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, m.name)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Every RPC, with every credential: refused for the reason that is due, before anything else about it is judged, or let in.
func TestWhoMayCallWhat(t *testing.T) {
	file := newTokenFile(t, append(everyRole("acme"),
		auth.Caller{Tenant: "acme", Name: "acme everything", Roles: []auth.Role{auth.Admin, auth.Runtime, auth.Desktop, auth.Ops}})...)
	file.addExpired(t, "acme", "acme expired")
	good, wrong := file.tokens["acme everything"], auth.TokenPrefix+strings.Repeat("b", 52)
	s := newTokenServer(t, file)
	srv, err := New(s.config)
	must(t, err)
	conn, _ := s.listen(t)

	for _, m := range methodsOf(srv) {
		health, reflection := strings.HasPrefix(m.name, healthPrefix), strings.HasPrefix(m.name, reflectionPrefix)
		check := func(credential string, ctx context.Context, want zendeskv1.ErrorReason) {
			t.Helper()
			err := m.call(ctx, conn)
			switch code := status.Code(err); {
			case health && want == unauthenticated:
				if err != nil {
					t.Errorf("%s with %s: %v", m.name, credential, err)
				}
			case want != 0:
				t.Run(m.name+" with "+credential, func(t *testing.T) { mustReason(t, err, codeOf(want), want) })
			case code == codes.Unauthenticated || code == codes.PermissionDenied || code == codes.Internal || code == codes.Unimplemented:
				t.Errorf("%s with %s: %v", m.name, credential, err)
			}
		}
		for credential, headers := range map[string][]string{
			"no credential":            nil,
			"an empty header":          {""},
			"a wrong token":            {"Bearer " + wrong},
			"half a token":             {"Bearer " + good[:len(good)-1]},
			"an expired token":         {"Bearer " + file.tokens["acme expired"]},
			"no scheme":                {good},
			"another scheme":           {"Basic " + good},
			"a scheme and nothing":     {"Bearer "},
			"two tokens":               {"Bearer " + good, "Bearer " + good},
			"a JWT, which none issues": {"Bearer eyJhbGciOiJub25lIn0.e30."},
			"a hash":                   {fmt.Sprintf("Bearer %x", sha256.Sum256([]byte(good)))},
		} {
			check(credential, showing(t.Context(), headers...), unauthenticated)
		}
		for role, methods := range allowed {
			want := denied
			if slices.Contains(methods, strings.TrimPrefix(m.name, "/scenarioblocks.zendesk.v1.")) || health || reflection {
				want = 0
			}
			check("role "+string(role), file.as(t, "acme "+string(role)), want)
		}
		name := strings.TrimPrefix(m.name, "/scenarioblocks.zendesk.v1.")
		everything := zendeskv1.ErrorReason(0)
		if slices.Contains(allowed[auth.Operator], name) && !slices.Contains(allowed[auth.Admin], name) {
			everything = denied // no caller of a tenant can have that role
		}
		check("all roles of a tenant", showing(t.Context(), "bearer "+good), everything)
	}
}

// Who calls is asked before what is asked for is looked at.
func TestAuthenticationBeforeValidation(t *testing.T) {
	file := newTokenFile(t, everyRole("acme")...)
	s := newTokenServer(t, file)
	invalid := &zendeskv1.SearchRequest{RecordsetName: "?", SearchString: "$("}
	_, err := s.blocks.Search(t.Context(), invalid)
	mustReason(t, err, codes.Unauthenticated, unauthenticated)
	_, err = s.blocks.Search(file.as(t, "acme desktop"), invalid)
	mustReason(t, err, codes.PermissionDenied, denied)
	_, err = s.blocks.Search(file.as(t, "acme runtime"), invalid)
	mustViolate(t, err, "interaction_id", "recordset_name", "search_string")
}

// A token is in no log line and in no reply, whatever became of it.
func TestTokensAreNotLogged(t *testing.T) {
	file := newTokenFile(t, everyRole("acme")...)
	file.addExpired(t, "acme", "acme expired")
	noted := &textBuffer{}
	s := newTokenServer(t, file, func(c *Config, _ *zendesktest.Config) { c.Audit = noted })
	ctx := file.as(t, "acme admin")
	_, err := s.accounts.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{AccountId: "main", Account: &zendeskv1.Account{Name: "Main", Url: s.zendesk.Origin()}})
	must(t, err)
	for name, token := range file.tokens {
		for _, header := range []string{"Bearer " + token, token, "Basic " + token, "Bearer " + token + "x", "Bearer " + token + " " + token} {
			_, _ = s.accounts.ListAccounts(showing(t.Context(), header), &zendeskv1.ListAccountsRequest{})
			stream, err := s.interactions.WatchScreenPops(showing(t.Context(), header), &zendeskv1.WatchScreenPopsRequest{})
			must(t, err)
			if _, err = stream.Recv(); err == nil {
				t.Fatalf("%s: a watch of nobody", name)
			}
			s.replies.add(err.Error())
		}
	}
	s.stop()
	for place, text := range map[string]string{"the log": s.log.String(), "a reply": s.replies.String(), "the audit": noted.String()} {
		if text == "" {
			t.Errorf("%s is empty", place)
		}
		for name, token := range file.tokens {
			if strings.Contains(text, strings.TrimPrefix(token, auth.TokenPrefix)) || strings.Contains(text, fmt.Sprintf("%x", sha256.Sum256([]byte(token)))) {
				t.Errorf("%s shows the token of %q:\n%s", place, name, text)
			}
		}
	}
	if !strings.Contains(s.log.String(), `"caller":"acme admin"`) || !strings.Contains(s.log.String(), `"tenant":"acme"`) {
		t.Errorf("the log does not say who called:\n%s", s.log)
	}
}

// The end of a credential is not the deadline of a call: neither does it cut the call short, nor does it stand for the
// deadline of the service.
func TestDeadlineIsNotTheCredentials(t *testing.T) {
	for _, left := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			file := newTokenFile(t, auth.Caller{Tenant: "acme", Name: "runtime", Roles: []auth.Role{auth.Runtime}, Expires: time.Now().Add(left)})
			a := newAccess(openAuth(t, auth.Config{TokenFile: file.path}), audit.New(audit.Config{}))
			info := &grpc.UnaryServerInfo{FullMethod: zendeskv1.BlockService_Search_FullMethodName}
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+file.tokens["runtime"]))
			_, err := a.unary(ctx, nil, info, func(ctx context.Context, req any) (any, error) {
				return (&deadlines{timeouts: Timeouts{}.withDefaults()}).unary(ctx, req, info, func(ctx context.Context, _ any) (any, error) {
					if deadline, _ := ctx.Deadline(); time.Until(deadline) != 3*time.Second {
						t.Errorf("a block whose credential has %v left has %v, want 3 s", left, time.Until(deadline))
					}
					time.Sleep(2 * time.Second)
					return nil, ctx.Err()
				})
			})
			must(t, err)
		})
	}
}

// idleStream is a stream on which nothing happens.
type idleStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *idleStream) Context() context.Context { return s.ctx }
func (s *idleStream) SendMsg(any) error        { return nil }

// A stream ends with the credential that it was opened by, to the moment.
func TestStreamEndsWithItsCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newTokenFile(t, auth.Caller{Tenant: "acme", Name: "desktop", Roles: []auth.Role{auth.Desktop}, Expires: time.Now().Add(time.Hour)})
		a := newAccess(openAuth(t, auth.Config{TokenFile: file.path}), audit.New(audit.Config{}))
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+file.tokens["desktop"]))
		opened := time.Now()
		err := inStages(openEnds.stream, a.stream)(nil, &idleStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: zendeskv1.InteractionService_WatchScreenPops_FullMethodName},
			func(_ any, stream grpc.ServerStream) error {
				must(t, stream.SendMsg(nil))
				<-stream.Context().Done()
				mustReason(t, onTheWire(t.Context(), stream.SendMsg(nil)), codes.Unauthenticated, unauthenticated)
				return stream.Context().Err()
			})
		mustReason(t, onTheWire(t.Context(), err), codes.Unauthenticated, unauthenticated)
		if open := time.Since(opened); open != time.Hour {
			t.Errorf("the stream was open for %v", open)
		}
		// One that ends well by itself has ended well.
		file = newTokenFile(t, auth.Caller{Tenant: "acme", Name: "desktop", Roles: []auth.Role{auth.Desktop}, Expires: time.Now().Add(time.Hour)})
		a = newAccess(openAuth(t, auth.Config{TokenFile: file.path}), audit.New(audit.Config{}))
		ctx = metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+file.tokens["desktop"]))
		must(t, inStages(openEnds.stream, a.stream)(nil, &idleStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: zendeskv1.InteractionService_WatchScreenPops_FullMethodName},
			func(any, grpc.ServerStream) error { return nil }))
	})
}

// watch opens a watch, which is there when it returns.
func (s *testServer) watch(ctx context.Context, t testing.TB, agent string) zendeskv1.InteractionService_WatchScreenPopsClient {
	t.Helper()
	stream, err := s.interactions.WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: agent}})
	must(t, err)
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestDesktopOfOneAgent(t *testing.T) {
	file := newTokenFile(t, append(everyRole("acme"),
		auth.Caller{Tenant: "acme", Name: "ann's", Roles: []auth.Role{auth.Desktop}, Agent: agentEmail})...)
	s := newTokenServer(t, file)
	for _, test := range []struct {
		caller, agent string
		denied        bool
	}{
		{"ann's", agentEmail, false},
		{"ann's", strings.ToUpper(agentEmail), false},
		{"ann's", "bob@acme.example", true},
		{"acme desktop", "bob@acme.example", false},
		{"acme ops", "bob@acme.example", false},
	} {
		ctx, cancel := context.WithCancel(file.as(t, test.caller))
		stream, err := s.interactions.WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: test.agent}})
		must(t, err)
		if test.denied {
			_, err := stream.Recv()
			mustReason(t, err, codes.PermissionDenied, denied)
			if strings.Contains(err.Error(), test.agent) {
				t.Errorf("the error names an agent: %v", err)
			}
		} else if md, err := stream.Header(); err != nil || md == nil {
			t.Errorf("%s may not watch %s: %v, %v", test.caller, test.agent, md, err)
		}
		cancel()
	}
}

// A token that is taken out of its file is refused from then on, and what was opened by it gets nothing more.
func TestRevokedToken(t *testing.T) {
	file := newTokenFile(t, append(everyRole("acme"),
		auth.Caller{Tenant: "acme", Name: "lost", Roles: []auth.Role{auth.Desktop, auth.Ops}})...)
	s := newTokenServer(t, file)
	s.createAccountAs(file.as(t, "acme admin"), t, "main")
	lost, kept := s.watch(file.as(t, "lost"), t, agentEmail), s.watch(file.as(t, "acme desktop"), t, agentEmail)
	runtime := file.as(t, "acme runtime")
	for _, call := range []string{"before", "after"} {
		_, err := s.blocks.ScreenPop(runtime, &zendeskv1.ScreenPopRequest{InteractionId: call, Target: &popTicket{TicketId: openTickets[0]}})
		must(t, err)
	}
	deliver := func(call string) {
		t.Helper()
		_, err := s.interactions.DeliverInteraction(runtime, &zendeskv1.DeliverInteractionRequest{InteractionId: call, Agent: &zendeskv1.Agent{Email: agentEmail}})
		must(t, err)
	}
	deliver("before")
	for _, stream := range []zendeskv1.InteractionService_WatchScreenPopsClient{lost, kept} {
		got, err := stream.Recv()
		must(t, err)
		mustEqual(t, "interaction", got.GetInteractionId(), "before")
	}

	file.revoke(t, "lost")
	var err error
	for late := time.Now().Add(time.Minute); err == nil && time.Now().Before(late); {
		_, err = s.accounts.ListAccounts(file.as(t, "lost"), &zendeskv1.ListAccountsRequest{})
	}
	mustReason(t, err, codes.Unauthenticated, unauthenticated)
	deliver("after")
	got, err := kept.Recv()
	must(t, err)
	mustEqual(t, "interaction", got.GetInteractionId(), "after")
	got, err = lost.Recv()
	if err == nil {
		t.Fatalf("the stream of a revoked token got %v", got)
	}
	mustReason(t, err, codes.Unauthenticated, unauthenticated)
}

// createAccountAs makes an account for the fake Zendesk.
func (s *testServer) createAccountAs(ctx context.Context, t testing.TB, id string) {
	t.Helper()
	_, err := s.accounts.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{
		Name: "Account " + id, Url: s.zendesk.Origin(), DefaultRegion: "US",
		ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
	}})
	must(t, err)
}

// Two tenants share a service and a Zendesk, use the same names and ids, and see nothing of each other.
func TestTenants(t *testing.T) {
	file := newTokenFile(t, append(everyRole("acme"), everyRole("globex")...)...)
	told := &told{next: make(chan struct{})}
	s := newTokenServer(t, file, func(c *Config, _ *zendesktest.Config) { c.Log = slog.New(&toldHandler{c.Log.Handler(), told}) })
	acme := func(role auth.Role) context.Context { return file.as(t, "acme "+string(role)) }
	globex := func(role auth.Role) context.Context { return file.as(t, "globex "+string(role)) }
	agent := &zendeskv1.Agent{Email: agentEmail}
	call := "call-1"

	// One has all there is, the other nothing.
	s.createAccountAs(acme(auth.Admin), t, "main")
	found, err := s.blocks.Search(acme(auth.Runtime), &zendeskv1.SearchRequest{InteractionId: call, RequestId: "1", SearchString: "type:ticket", RecordsetName: "RS"})
	must(t, err)
	mustEqual(t, "exit", found.GetExit(), next)
	_, err = s.blocks.ScreenPop(acme(auth.Runtime), &zendeskv1.ScreenPopRequest{InteractionId: call, Target: &popTicket{TicketId: openTickets[0]}})
	must(t, err)
	_, err = s.blocks.AttachedData(acme(auth.Runtime), &zendeskv1.AttachedDataRequest{InteractionId: call, Data: map[string]string{"whose": "acme's"}})
	must(t, err)
	watches := s.watch(globex(auth.Desktop), t, agentEmail) // before and after
	delivered, err := s.interactions.DeliverInteraction(acme(auth.Runtime), &zendeskv1.DeliverInteractionRequest{InteractionId: call, Agent: agent})
	must(t, err)
	mustEqual(t, "deliveries", len(delivered.GetDeliveries()), 1)
	// It dies, so that there is something to retry and to discard.
	s.zendesk.AddFault(zendesktest.Fault{Method: "PUT", PathPrefix: ticketsPath, Status: 422})
	completed, err := s.interactions.CompleteInteraction(acme(auth.Runtime), &zendeskv1.CompleteInteractionRequest{InteractionId: call})
	must(t, err)
	id := completed.GetActivity().GetActivityId()
	await := func(ctx context.Context, id string, state zendeskv1.ActivityState) {
		t.Helper()
		late := time.After(time.Minute)
		for {
			line := told.line()
			got, err := s.interactions.GetActivity(ctx, &zendeskv1.GetActivityRequest{ActivityId: id})
			must(t, err)
			if got.GetActivity().GetState() == state {
				return
			}
			select {
			case <-line:
			case <-late:
				t.Fatalf("activity is %v", got.GetActivity())
			}
		}
	}
	await(acme(auth.Ops), id, dead)
	s.zendesk.ClearFaults()

	accountNotFound := func(err error) {
		t.Helper()
		mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND)
	}
	activityNotFound := func(err error) {
		t.Helper()
		mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND)
	}
	_, err = s.accounts.GetAccount(globex(auth.Admin), &zendeskv1.GetAccountRequest{AccountId: "main"})
	accountNotFound(err)
	_, err = s.accounts.UpdateAccount(globex(auth.Admin), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: "main", Name: "Taken"}})
	accountNotFound(err)
	_, err = s.accounts.DeleteAccount(globex(auth.Admin), &zendeskv1.DeleteAccountRequest{AccountId: "main"})
	accountNotFound(err)
	_, err = s.accounts.TestConnection(globex(auth.Ops), &zendeskv1.TestConnectionRequest{AccountId: "main"})
	accountNotFound(err)
	_, err = s.accounts.RequestToken(globex(auth.Admin), &zendeskv1.RequestTokenRequest{AccountId: "main", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret})
	accountNotFound(err)
	accounts, err := s.accounts.ListAccounts(globex(auth.Ops), &zendeskv1.ListAccountsRequest{})
	must(t, err)
	mustEqual(t, "accounts", len(accounts.GetAccounts()), 0)
	selected, err := s.blocks.SelectAccount(globex(auth.Runtime), &zendeskv1.SelectAccountRequest{
		InteractionId: "other", Choice: &zendeskv1.SelectAccountRequest_Account{Account: "Account main"},
	})
	must(t, err)
	mustEqual(t, "reason", selected.GetFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)

	_, err = s.interactions.GetInteraction(globex(auth.Ops), &zendeskv1.GetInteractionRequest{InteractionId: call})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND)
	record, err := s.blocks.GetNextRecord(globex(auth.Runtime), &zendeskv1.GetNextRecordRequest{InteractionId: call, RecordsetName: "RS"})
	must(t, err)
	mustEqual(t, "reason", record.GetFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
	none, err := s.interactions.DeliverInteraction(globex(auth.Runtime), &zendeskv1.DeliverInteractionRequest{InteractionId: call, Agent: agent})
	must(t, err)
	mustEqual(t, "deliveries", len(none.GetDeliveries()), 0)

	_, err = s.interactions.GetActivity(globex(auth.Ops), &zendeskv1.GetActivityRequest{ActivityId: id})
	activityNotFound(err)
	_, err = s.interactions.RetryActivity(globex(auth.Ops), &zendeskv1.RetryActivityRequest{ActivityId: id})
	activityNotFound(err)
	_, err = s.interactions.DiscardActivity(globex(auth.Ops), &zendeskv1.DiscardActivityRequest{ActivityId: id})
	activityNotFound(err)
	retried, err := s.interactions.RetryActivities(globex(auth.Ops), &zendeskv1.RetryActivitiesRequest{})
	must(t, err)
	mustEqual(t, "activities retried", retried.GetCount(), int32(0))
	activities, err := s.interactions.ListActivities(globex(auth.Ops), &zendeskv1.ListActivitiesRequest{})
	must(t, err)
	mustEqual(t, "activities", len(activities.GetActivities()), 0)

	// The other makes its own, under the same names and ids, on the same Zendesk.
	s.createAccountAs(globex(auth.Admin), t, "main")
	again, err := s.blocks.Search(globex(auth.Runtime), &zendeskv1.SearchRequest{InteractionId: call, RequestId: "1", SearchString: callerQuery, RecordsetName: "RS"})
	must(t, err)
	if again.GetRecordset().GetTotalCount() == found.GetRecordset().GetTotalCount() {
		t.Errorf("the second tenant got the first one's answer: %v", again)
	}
	attached, err := s.blocks.AttachedData(globex(auth.Runtime), &zendeskv1.AttachedDataRequest{InteractionId: call, Data: map[string]string{"mine": "globex's"}})
	must(t, err)
	mustEqual(t, "attached data", attached.GetData(), map[string]string{"mine": "globex's"})
	_, err = s.blocks.ScreenPop(globex(auth.Runtime), &zendeskv1.ScreenPopRequest{InteractionId: call, Target: &popTicket{TicketId: openTickets[0]}})
	must(t, err)
	own, err := s.interactions.DeliverInteraction(globex(auth.Runtime), &zendeskv1.DeliverInteractionRequest{InteractionId: call, Agent: agent})
	must(t, err)
	for _, stream := range []zendeskv1.InteractionService_WatchScreenPopsClient{watches, s.watch(globex(auth.Desktop), t, agentEmail)} {
		first, err := stream.Recv()
		must(t, err)
		mustEqual(t, "the first that is watched", first.GetDelivery().GetScreenPop().GetScreenPopId(), own.GetDeliveries()[0].GetScreenPop().GetScreenPopId())
	}
	completed, err = s.interactions.CompleteInteraction(globex(auth.Runtime), &zendeskv1.CompleteInteractionRequest{InteractionId: call})
	must(t, err)
	await(globex(auth.Ops), completed.GetActivity().GetActivityId(), written)
	_, err = s.interactions.RetryActivity(acme(auth.Ops), &zendeskv1.RetryActivityRequest{ActivityId: id})
	must(t, err)
	await(acme(auth.Ops), id, written)
	var marks []string
	for _, a := range (&activityServer{testServer: s}).audits(t, openTickets[0]) {
		marks = append(marks, a.Metadata.Custom[markKey])
	}
	instance := "zendeskblocks:" + s.store.InstanceID()
	mustEqual(t, "marks", marks, []string{instance + ":globex:call-1", instance + ":acme:call-1"})

	// What the one takes away, the other keeps.
	_, err = s.accounts.DeleteAccount(globex(auth.Admin), &zendeskv1.DeleteAccountRequest{AccountId: "main"})
	must(t, err)
	kept, err := s.accounts.GetAccount(acme(auth.Ops), &zendeskv1.GetAccountRequest{AccountId: "main"})
	must(t, err)
	if account := kept.GetAccount(); account.GetName() != "Account main" || !account.GetDefaultAccount() {
		t.Errorf("the first tenant's account is %v", account)
	}
}

// identity is a key with its certificate.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// issue makes a certificate as the template says, good for an hour, signed by i, or by itself when i is nil.
func (i *identity) issue(t testing.TB, template x509.Certificate) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.BasicConstraintsValid = true
	issuer := i
	if i == nil {
		issuer = &identity{key, &template}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer.cert, &key.PublicKey, issuer.key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &identity{key, cert}
}

// client makes a certificate for one who calls.
func (i *identity) client(t testing.TB, uri string) *identity {
	t.Helper()
	parsed, err := url.Parse(uri)
	must(t, err)
	return i.issue(t, x509.Certificate{URIs: []*url.URL{parsed}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (i *identity) pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key}
}

// files writes the certificate and the key in PEM.
func (i *identity) files(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	must(t, err)
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return certFile, keyFile
}

func newAuthority(t testing.TB, name string) *identity {
	return (*identity)(nil).issue(t, x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
}

// Over real connections: TLS with tokens, certificates of clients, and neither.
func TestTLS(t *testing.T) {
	file := newTokenFile(t, everyRole("acme")...)
	ca, stranger := newAuthority(t, "ours"), newAuthority(t, "a stranger's")
	certFile, keyFile := ca.issue(t, x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}).files(t)
	caFile, _ := ca.files(t)
	identities := filepath.Join(t.TempDir(), "identities")
	must(t, os.WriteFile(identities, []byte(`{"identity": "uri:spiffe://globex/admin", "tenant": "globex", "name": "globex's own", "roles": ["admin"]}`+"\n"), 0o600))
	noted := &textBuffer{}
	s := newTestServer(t)
	s.config.Audit = noted
	s.config.Auth = openAuth(t, auth.Config{
		TokenFile: file.path,
		TLS:       auth.TLS{CertFile: certFile, KeyFile: keyFile, ClientCAFile: caFile, IdentityFile: identities},
	})
	plain, _ := s.listen(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	connect := func(config *tls.Config, certificates ...tls.Certificate) *grpc.ClientConn {
		t.Helper()
		config.RootCAs, config.ServerName = roots, "localhost"
		for _, certificate := range certificates {
			// Shown whether the service asks for one of its issuer or not.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
		}
		conn, err := grpc.NewClient(plain.Target(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
		must(t, err)
		t.Cleanup(func() { must(t, conn.Close()) })
		return conn
	}
	create := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := zendeskv1.NewAccountServiceClient(conn).CreateAccount(ctx, &zendeskv1.CreateAccountRequest{
			AccountId: "main", Account: &zendeskv1.Account{Name: "Main", Url: s.zendesk.Origin()},
		})
		return err
	}

	// No TLS, too old a TLS, a certificate of nobody we know: not even health.
	old := connect(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	for name, conn := range map[string]*grpc.ClientConn{
		"no TLS": plain, "TLS 1.1": old, "a stranger's certificate": connect(&tls.Config{}, stranger.client(t, "spiffe://globex/admin").pair()),
	} {
		if _, err := healthv1.NewHealthClient(conn).Check(file.as(t, "acme admin"), &healthv1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("health with %s: %v", name, err)
		}
	}
	insecureToo, err := grpc.NewClient(plain.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { must(t, insecureToo.Close()) })
	if err := create(file.as(t, "acme admin"), insecureToo); status.Code(err) != codes.Unavailable {
		t.Errorf("a token without TLS: %v", err)
	}

	byToken := connect(&tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12})
	byCertificate := connect(&tls.Config{}, ca.client(t, "spiffe://globex/admin").pair())
	unknown := connect(&tls.Config{}, ca.client(t, "spiffe://globex/unknown").pair())
	for name, conn := range map[string]*grpc.ClientConn{"no credential": byToken, "an unknown identity": unknown} {
		if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Errorf("health with %s: %v", name, err)
		}
		mustReason(t, create(t.Context(), conn), codes.Unauthenticated, unauthenticated)
	}
	mustReason(t, create(file.as(t, "acme runtime"), byToken), codes.PermissionDenied, denied)
	must(t, create(file.as(t, "acme admin"), byToken))
	must(t, create(t.Context(), byCertificate)) // of another tenant: the id is not taken
	_, err = zendeskv1.NewBlockServiceClient(byCertificate).AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{})
	mustReason(t, err, codes.PermissionDenied, denied)
	// The header decides, and a good certificate does not make up for a bad one.
	_, err = zendeskv1.NewBlockServiceClient(byCertificate).AttachedData(file.as(t, "acme runtime"), &zendeskv1.AttachedDataRequest{})
	mustViolate(t, err, "interaction_id", "data")
	mustReason(t, create(showing(t.Context(), "Bearer "+auth.TokenPrefix+"wrong"), byCertificate), codes.Unauthenticated, unauthenticated)

	var who []string
	s.stop()
	for _, line := range noted.lines(t) {
		if line["event"] != "account created" {
			continue
		}
		who = append(who, fmt.Sprint(line["tenant"], "/", line["caller"], "/", line["credential"]))
	}
	mustEqual(t, "callers", who, []string{"acme/acme admin/token", "globex/globex's own/certificate"})
}
