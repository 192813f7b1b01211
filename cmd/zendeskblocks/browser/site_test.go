package browser

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// patience ends a test that waits for what never comes. No test takes long to succeed.
const patience = time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// binary builds the program, once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(built, "zendeskblocks")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/scenarioblocks/zendeskblocks/cmd/zendeskblocks").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// built is a folder for what is made for all tests.
var built string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if built, err = os.MkdirTemp("", "zendeskblocks-browser-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(built) }()
		defer closeChromium()
		return m.Run()
	}())
}

// site is a service with its fake Zendesk, as a process, and the pages that it serves.
type site struct {
	dir     string
	flags   []string
	process *exec.Cmd
	log     *output
	url     string // of the pages
	sandbox string // origin of the fake Zendesk

	accounts     zendeskv1.AccountServiceClient
	blocks       zendeskv1.BlockServiceClient
	interactions zendeskv1.InteractionServiceClient
	address      string // of the API
}

// newSite starts `serve --sandbox` with these flags. It serves until the test ends.
func newSite(t testing.TB, flags ...string) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), flags: flags}
	s.start(t, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0")
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	s.accounts, s.blocks, s.interactions = zendeskv1.NewAccountServiceClient(conn), zendeskv1.NewBlockServiceClient(conn), zendeskv1.NewInteractionServiceClient(conn)
	return s
}

func (s *site) start(t testing.TB, api, web, sandbox string) {
	t.Helper()
	path, err := binary()
	must(t, err)
	s.process = exec.Command(path, slices.Concat([]string{
		"serve", "--listen", api, "--web-listen", web, "--sandbox", "--sandbox-listen", sandbox, "--admin-listen", "off", "--drain-delay", "0s",
		"--data", filepath.Join(s.dir, "data.db"),
	}, s.flags)...)
	s.process.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ZENDESKBLOCKS_") })
	s.log = newOutput()
	s.process.Stderr = s.log
	must(t, s.process.Start())
	process, log := s.process, s.log
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = process.Wait() // how it ends is told by stop
	}()
	t.Cleanup(func() {
		_ = process.Process.Kill() // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("standard error of serve:\n%s", log)
		}
	})
	s.address = s.log.await(t, ended, `msg=serving address=(\S+)`)
	s.url = s.log.await(t, ended, `msg="serving browsers" .*url=(\S+)`)
	s.sandbox = s.log.await(t, ended, `msg="serving a fake Zendesk" origin=(\S+)`)
}

// restart ends the process, and starts another one at the same addresses on the same data.
func (s *site) restart(t testing.TB) {
	t.Helper()
	must(t, s.process.Process.Signal(syscall.SIGTERM))
	s.log.await(t, nil, `msg=stopped`)
	hostOf := func(origin string) string { _, host, _ := strings.Cut(origin, "://"); return host }
	s.start(t, s.address, hostOf(s.url), hostOf(s.sandbox))
}

// run runs another command of the program, and returns what it prints.
func run(t testing.TB, args ...string) string {
	t.Helper()
	path, err := binary()
	must(t, err)
	out, err := exec.CommandContext(t.Context(), path, args...).Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// newForger is another site, with a form that is sent to an address.
func newForger(t testing.TB, action string) string {
	t.Helper()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>Win</title><link rel="icon" href="data:,"><form method="post" action="%s"><button>Win</button></form>`, action)
	}))
	t.Cleanup(other.Close)
	return other.URL
}

// output is what a process has written so far.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed by the next write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits until something is written that a pattern matches, and returns its last group.
func (o *output) await(t testing.TB, ended <-chan struct{}, pattern string) string {
	t.Helper()
	late := time.After(patience)
	for over := false; ; {
		o.mu.Lock()
		text, changed := o.text.String(), o.changed
		o.mu.Unlock()
		if match := regexp.MustCompile(pattern).FindStringSubmatch(text); match != nil {
			return match[len(match)-1]
		}
		if over {
			t.Fatalf("the process ended without writing %q:\n%s", pattern, text)
		}
		select {
		case <-changed:
		case <-ended:
			over = true
		case <-late:
			t.Fatalf("the process does not write %q:\n%s", pattern, text)
		}
	}
}

// until polls what another process brings about.
func until(t testing.TB, what string, done func(ctx context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !done(ctx) {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("it never comes to this: %s", what)
		}
	}
}
