package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// listen serves the service of s once more, on a loopback port; stop ends that and waits. The connection is to it.
func (s *testServer) listen(t testing.TB) (conn *grpc.ClientConn, stop func() error) {
	t.Helper()
	srv, err := New(s.config)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, listener) }()
	conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() {
		cancel()
		must(t, conn.Close())
	})
	return conn, func() error {
		cancel()
		err := <-served
		served <- err
		return err
	}
}

// gate stands before a Zendesk and holds searches up.
type gate struct {
	arrived chan struct{} // one for each search
	open    chan struct{} // closed to let them go on
	server  *httptest.Server
}

func newGate(t testing.TB) *gate {
	g := &gate{arrived: make(chan struct{}, 100), open: make(chan struct{})}
	z := zendesktest.New(zendesktest.Config{})
	g.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, searchPath) {
			g.arrived <- struct{}{}
			select {
			case <-g.open:
			case <-r.Context().Done():
				return
			}
		}
		z.ServeHTTP(w, r)
	}))
	t.Cleanup(g.server.Close)
	return g
}

// newGatedServer starts a service whose account's Zendesk stands behind a gate.
func newGatedServer(t testing.TB, drain time.Duration) (*testServer, *gate) {
	g := newGate(t)
	s := newTestServer(t, func(c *Config, _ *zendesktest.Config) {
		c.AllowHosts, c.DrainTimeout = []string{strings.TrimPrefix(g.server.URL, "http://")}, drain
	})
	s.account(t, "main", "Main", g.server.URL)
	return s, g
}

type searchOutcome struct {
	resp *zendeskv1.SearchResponse
	err  error
}

func searchInBackground(conn *grpc.ClientConn) <-chan searchOutcome {
	outcome := make(chan searchOutcome, 1)
	go func() {
		resp, err := zendeskv1.NewBlockServiceClient(conn).Search(context.Background(),
			&zendeskv1.SearchRequest{InteractionId: "one", SearchString: callerQuery, RecordsetName: "RS"})
		outcome <- searchOutcome{resp, err}
	}()
	return outcome
}

func TestDrain(t *testing.T) {
	s, g := newGatedServer(t, time.Hour) // what does not end by itself hangs the test
	conn, stop := s.listen(t)
	health := healthv1.NewHealthClient(conn)
	var watches []healthv1.Health_WatchClient
	for _, service := range []string{"", zendeskv1.BlockService_ServiceDesc.ServiceName, "unknown"} {
		watch, err := health.Watch(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		must(t, err)
		first, err := watch.Recv()
		must(t, err)
		if serving := first.GetStatus() == healthv1.HealthCheckResponse_SERVING; serving != (service != "unknown") {
			t.Errorf("health of %q is %v", service, first.GetStatus())
		}
		watches = append(watches, watch)
	}
	outcome := searchInBackground(conn)
	<-g.arrived

	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for _, watch := range watches {
		last := healthv1.HealthCheckResponse_UNKNOWN
		for {
			resp, err := watch.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			last = resp.GetStatus()
		}
		if last != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("the last health that a watch was told is %v", last)
		}
	}
	select {
	case err := <-stopped:
		t.Fatalf("the service stopped (%v) while a call ran", err)
	case got := <-outcome:
		t.Fatalf("the call that ran ended with %v, %v", got.resp, got.err)
	default:
	}
	// Connections are told after those who watch.
	for {
		resp, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{})
		if status.Code(err) == codes.Unavailable {
			break
		}
		if err != nil || resp.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Fatalf("a new call got %v, %v", resp, err)
		}
	}
	close(g.open)
	got := <-outcome
	must(t, got.err)
	mustExit(t, got.resp, next)
	must(t, <-stopped)
	// What was answered is durable.
	if s.interaction(t, "one").GetRecordsets()[0].GetCount() != 1 {
		t.Error("the recordset is lost")
	}
}

func TestDrainTimeout(t *testing.T) {
	s, g := newGatedServer(t, time.Millisecond)
	conn, stop := s.listen(t)
	outcome := searchInBackground(conn)
	<-g.arrived
	must(t, stop())
	if got := <-outcome; status.Code(got.err) != codes.Unavailable {
		t.Errorf("the call that was cut got %v, %v", got.resp, got.err)
	}
}

func TestServeErrors(t *testing.T) {
	s := newTestServer(t)
	srv, err := New(s.config)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, listener.Close())
	if err := srv.Serve(t.Context(), listener); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serving a closed listener: %v", err)
	}
	for name, spoil := range map[string]func(*Config){
		"store":     func(c *Config) { c.Store = nil },
		"transport": func(c *Config) { c.Transport = nil },
		"log":       func(c *Config) { c.Log = nil },
	} {
		config := s.config
		if spoil(&config); config.Log != nil || name == "log" {
			if _, err := New(config); err == nil {
				t.Errorf("a server without %s was made", name)
			}
		}
	}
}

// A service told to stop before it began stops all the same.
func TestServeAfterTheEnd(t *testing.T) {
	s := newTestServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		srv, err := New(s.config)
		must(t, err)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		must(t, srv.Serve(ctx, listener))
	}
}

func TestHealthAndReflection(t *testing.T) {
	s := newTestServer(t)
	conn, stop := s.listen(t)
	services := []string{
		zendeskv1.AccountService_ServiceDesc.ServiceName, zendeskv1.BlockService_ServiceDesc.ServiceName,
		zendeskv1.InteractionService_ServiceDesc.ServiceName,
	}
	for _, service := range append([]string{""}, services...) {
		resp, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		must(t, err)
		if resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q is %v", service, resp.GetStatus())
		}
	}
	_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "unknown"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("health of an unknown service: %v", err)
	}
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	must(t, err)
	must(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	resp, err := stream.Recv()
	must(t, err)
	must(t, stream.CloseSend())
	var listed []string
	for _, service := range resp.GetListServicesResponse().GetService() {
		listed = append(listed, service.GetName())
	}
	for _, service := range append(services, healthv1.Health_ServiceDesc.ServiceName) {
		if !slices.Contains(listed, service) {
			t.Errorf("reflection lists %q, without %s", listed, service)
		}
	}
	must(t, stop())
	for _, line := range s.log.finishes(t) {
		if line["grpc.service"] == healthv1.Health_ServiceDesc.ServiceName {
			t.Errorf("a health check is logged: %v", line)
		}
	}
}

// What gRPC refuses itself never reaches code of ours.
func TestRefusalsOfGRPC(t *testing.T) {
	s := newTestServer(t)
	conn, stop := s.listen(t)
	for method, want := range map[string]codes.Code{
		"/scenarioblocks.zendesk.v1.BlockService/Nothing": codes.Unimplemented,
		"/scenarioblocks.zendesk.v1.Nothing/Search":       codes.Unimplemented,
	} {
		err := conn.Invoke(t.Context(), method, &zendeskv1.SearchRequest{}, &zendeskv1.SearchResponse{})
		if status.Code(err) != want {
			t.Errorf("%s: %v", method, err)
		}
	}
	must(t, stop())
}

// tableOf returns the rows, without header, of the table of a Markdown text that has a row for name.
func tableOf(t testing.TB, text, name string) [][]string {
	t.Helper()
	var rows [][]string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "|") {
			if slices.ContainsFunc(rows, func(row []string) bool { return row[0] == name }) {
				break
			}
			rows = nil
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("no table has a row for %s", name)
	}
	return rows[2:]
}

// The tables of the client guide are those of the code.
func TestTablesOfTheClientGuide(t *testing.T) {
	text, err := os.ReadFile("../proto/README.md")
	must(t, err)
	check := func(kind string, rows [][]string, want map[string]string) {
		seen := map[string]bool{}
		for _, row := range rows {
			second, known := want[row[0]]
			switch {
			case !regexp.MustCompile(`^[A-Z_]+$`).MatchString(row[0]) || !known:
				t.Errorf("%s table: %q is no reason", kind, row[0])
			case seen[row[0]]:
				t.Errorf("%s table: %s stands twice", kind, row[0])
			case row[1] != second:
				t.Errorf("%s table: %s is %s, want %s", kind, row[0], row[1], second)
			case strings.TrimSpace(row[len(row)-1]) == "":
				t.Errorf("%s table: %s is not explained", kind, row[0])
			}
			seen[row[0]] = true
		}
		for name := range want {
			if !seen[name] {
				t.Errorf("%s table: %s is missing", kind, name)
			}
		}
	}
	errorRows := map[string]string{}
	for number, name := range zendeskv1.ErrorReason_name {
		if number != 0 {
			errorRows[strings.TrimPrefix(name, "ERROR_REASON_")] = rpccode.Code(codeOf(zendeskv1.ErrorReason(number))).String()
		}
	}
	check("error", tableOf(t, string(text), "INVALID_FIELD"), errorRows)
	failureRows := map[string]string{}
	for number, name := range zendeskv1.FailureReason_name {
		if number != 0 {
			failure := rpc.Failure(rpc.ReasonFromProto(zendeskv1.FailureReason(number)), "")
			failureRows[strings.TrimPrefix(name, "FAILURE_REASON_")] = map[bool]string{true: "yes", false: "no"}[failure.GetRetryable()]
		}
	}
	check("failure", tableOf(t, string(text), "TIMEOUT"), failureRows)
}
