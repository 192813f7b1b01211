package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
)

// replicas are service processes that share a database. Its clients call all of them in turn.
type replicas struct {
	*service // called by those who insist: see insist
	url      string
	each     []*replica
}

// replica is one of them; over time, many processes with the same name.
type replica struct {
	name    string
	args    []string
	keyFile string
	calls   *service // this replica alone, its calls not repeated

	mu        sync.Mutex
	address   string // empty: none runs
	admin     string
	processes []*program
}

// startReplicas starts so many on a database, whose schema is made. Each has a key file of its own, with the same keys.
func startReplicas(t testing.TB, url string, count int, flags ...string) *replicas {
	t.Helper()
	_, _, err := store.Migrate(t.Context(), store.Config{URL: url})
	must(t, err)
	dir := t.TempDir()
	keys := filepath.Join(dir, "key")
	must(t, keyfile.Make(keys))
	keyset, err := os.ReadFile(keys)
	must(t, err)
	all := &replicas{url: url}
	for i := range count {
		r := &replica{name: fmt.Sprint("replica-", i), keyFile: filepath.Join(dir, fmt.Sprint("key-", i))}
		must(t, os.WriteFile(r.keyFile, keyset, 0o600))
		r.args = append([]string{
			"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", url, "--replica", r.name, "--key-file", r.keyFile,
			"--audit-log", filepath.Join(dir, r.name+".audit"), "--drain-delay", "0s",
		}, flags...)
		r.start(t)
		r.calls = &service{}
		r.calls.connect(t, "passthrough:///"+r.name, all.dial)
		all.each = append(all.each, r)
	}
	all.service = &service{}
	all.connect(t, inTurn, all.dial, all.resolve(), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`), grpc.WithChainUnaryInterceptor(insist))
	all.keepLogs(t)
	return all
}

// keepLogs keeps what the processes have said when the test fails.
func (all *replicas) keepLogs(t testing.TB) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		dir, err := os.MkdirTemp("", "replicas")
		if err != nil {
			t.Error(err)
			return
		}
		for _, r := range all.each {
			for i, p := range r.processes {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s.%d.log", r.name, i)), []byte(p.stderr.String()), 0o600); err != nil {
					t.Error(err)
				}
			}
		}
		t.Logf("the logs of all replicas are in %s", dir)
	})
}

// explain, deferred, has a test that has failed tell who has claimed what, and the logs hold what each process is doing.
func (all *replicas) explain(t testing.TB) {
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if st, err := store.Open(ctx, store.Config{URL: all.url, KeyFile: all.each[0].keyFile, Replica: "who looks"}); err != nil {
		t.Logf("the database cannot be opened: %v", err)
	} else {
		owners, err := st.ClaimOwners(ctx)
		t.Logf("the replicas are %+v\nthey have claimed, %v, %v", st.Replicas(), err, owners)
		_ = st.Close()
	}
	for _, r := range all.each {
		r.process().signal(t, syscall.SIGCONT)
		r.process().signal(t, syscall.SIGQUIT)
		r.process().exitCode(t)
	}
}

// connect makes the clients of a service that is reached by a dialer.
func (s *service) connect(t testing.TB, target string, dial func(context.Context, string) (net.Conn, error), opts ...grpc.DialOption) {
	t.Helper()
	conn, err := grpc.NewClient(target, append(opts,
		// A replica that hangs keeps its connections.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second}, MinConnectTimeout: 2 * time.Second}))...)
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	s.accounts = zendeskv1.NewAccountServiceClient(conn)
	s.blocks = zendeskv1.NewBlockServiceClient(conn)
	s.interactions = zendeskv1.NewInteractionServiceClient(conn)
}

// resolve returns what has a client know each replica as an address, by its name.
func (all *replicas) resolve() grpc.DialOption {
	names := manual.NewBuilderWithScheme("replicas")
	var addresses []resolver.Address
	for _, r := range all.each {
		addresses = append(addresses, resolver.Address{Addr: r.name})
	}
	names.InitialState(resolver.State{Addresses: addresses})
	return grpc.WithResolvers(names)
}

// inTurn is the target of those who call one replica after the other.
const inTurn = "replicas:///all"

var errDown = errors.New("no process of this replica runs")

// dial connects to the process that a replica has now.
func (all *replicas) dial(ctx context.Context, name string) (net.Conn, error) {
	for _, r := range all.each {
		if r.name == name {
			address, _ := r.addresses()
			if address == "" {
				return nil, errDown
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	return nil, fmt.Errorf("there is no replica %q", name)
}

func (r *replica) addresses() (address, admin string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.address, r.admin
}

func (r *replica) setAddresses(address, admin string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.address, r.admin = address, admin
}

// launch starts a process, and does not wait.
func (r *replica) launch(t testing.TB) *program {
	t.Helper()
	p := startProgram(t, r.args...)
	r.processes = append(r.processes, p)
	return p
}

// start starts a process, and returns when it serves.
func (r *replica) start(t testing.TB) {
	t.Helper()
	p := r.launch(t)
	admin := p.await(t, p.stderr, adminPattern)
	r.setAddresses(p.await(t, p.stderr, `msg=serving address=(\S+)`), admin)
}

func (r *replica) process() *program { return r.processes[len(r.processes)-1] }

// kill ends the process without warning.
func (r *replica) kill(t testing.TB) {
	t.Helper()
	r.setAddresses("", "")
	r.process().signal(t, syscall.SIGKILL)
	if code := r.process().exitCode(t); code != -1 {
		t.Fatalf("%s had ended by itself, with code %d", r.name, code)
	}
}

// stop tells the process to end and waits until it has.
func (r *replica) stop(t testing.TB) {
	t.Helper()
	r.process().signal(t, syscall.SIGTERM)
	if code := r.process().exitCode(t); code != 0 {
		t.Fatalf("%s ended with code %d", r.name, code)
	}
	r.setAddresses("", "")
}

// ready asks whether the replica is ready, and what it says of that.
func (r *replica) ready(t testing.TB) (ready bool, says string) {
	t.Helper()
	_, admin := r.addresses()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	must(t, err)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err.Error()
	}
	text, err := io.ReadAll(res.Body)
	must(t, errors.Join(err, res.Body.Close()))
	return res.StatusCode == http.StatusOK, string(text)
}

// awaitReady waits until all replicas are ready, or none is.
func (all *replicas) awaitReady(t testing.TB, want bool) {
	t.Helper()
	says := map[string]string{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last, the replicas said of themselves: %v", says)
		}
	})
	until(t, fmt.Sprint("ready is ", want), func() bool {
		return !slices.ContainsFunc(all.each, func(r *replica) bool {
			ready, text := r.ready(t)
			says[r.name] = text
			return ready != want
		})
	})
}

// attemptTime is what each attempt of those who insist may take: a process that is stopped does not answer.
const attemptTime = 4 * time.Second

// insist repeats a call as the client guide says, and until ctx ends: UNAVAILABLE, DEADLINE_EXCEEDED, what is told when to be repeated,
// and FAILED exits that are retryable. The next attempt goes to another replica. All calls of the tests have a request_id, or act once
// without.
func insist(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, attemptTime)
		err := invoke(attempt, method, req, reply, conn, opts...)
		end()
		if ctx.Err() != nil || !worthRepeating(reply, err) {
			return err
		}
		pause := max(50*time.Millisecond, min(retryDelay(reply, err), time.Second))
		select {
		case <-time.After(pause + rand.N(pause/2)):
		case <-ctx.Done():
		}
	}
}

func worthRepeating(reply any, err error) bool {
	switch status.Code(err) {
	case codes.OK:
		block, ok := reply.(interface{ GetFailure() *zendeskv1.Failure })
		return ok && block.GetFailure().GetRetryable()
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	case codes.ResourceExhausted:
		return retryDelay(reply, err) > 0
	}
	return false
}

func retryDelay(reply any, err error) time.Duration {
	if block, ok := reply.(interface{ GetFailure() *zendeskv1.Failure }); ok && err == nil {
		return block.GetFailure().GetRetryAfter().AsDuration()
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
