package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/readiness"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// level implements Level.
type level struct {
	slog.LevelVar
	by string
}

func (l *level) SetLevel(to slog.Level, by string) {
	l.Set(to)
	l.by = by
}

// served is a server on a socket of its own.
type served struct {
	url   string
	ready *readiness.Registry
	level *level
}

func serve(t *testing.T, change func(*Config)) *served {
	t.Helper()
	s := &served{ready: readiness.New(), level: new(level)}
	config := Config{
		Ready: s.ready, Level: s.level, Log: slog.New(slog.DiscardHandler),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "some 1\n") }),
	}
	if change != nil {
		change(&config)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.url = "http://" + l.Addr().String()
	server, ended := New(config), make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		must(t, server.Close(t.Context()))
		must(t, <-ended)
	})
	return s
}

func (s *served) ask(t *testing.T, method, path, body string) (status int, text string, header http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	must(t, err)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	read, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	return res.StatusCode, string(read), res.Header
}

func TestProbes(t *testing.T) {
	s := serve(t, nil)
	mustAnswer := func(path string, status int, want string) {
		t.Helper()
		got, text, header := s.ask(t, http.MethodGet, path, "")
		if got != status || text != want {
			t.Errorf("%s: %d %q, want %d %q", path, got, text, status, want)
		}
		if header.Get("Cache-Control") != "no-store" || header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: the header is %v", path, header)
		}
	}
	mustAnswer("/livez", 200, "[+]writer ok\nlivez check passed\n")
	mustAnswer("/readyz", 503, "[-]store: the service is starting\n[-]standby: the service is starting\n[-]writer: the service is starting\n[-]access: the service is starting\n"+
		"[-]keys: the service is starting\n[+]drain ok\nreadyz check failed\n")
	for _, name := range []string{readiness.Store, readiness.Standby, readiness.Writer, readiness.Access, readiness.Keys} {
		s.ready.Set(name, nil)
	}
	const well = "[+]store ok\n[+]standby ok\n[+]writer ok\n[+]access ok\n[+]keys ok\n[+]drain ok\nreadyz check passed\n"
	mustAnswer("/readyz", 200, well)
	s.ready.Set(readiness.Store, errors.New("no\nspace left"))
	mustAnswer("/readyz", 503, strings.NewReplacer("[+]store ok", "[-]store: no space left", "passed", "failed").Replace(well))
	mustAnswer("/readyz?exclude=store", 200, strings.Replace(well, "store ok", "store excluded", 1))
	mustAnswer("/readyz?exclude=store&exclude=keys", 200, strings.NewReplacer("store ok", "store excluded", "keys ok", "keys excluded").Replace(well))
	mustAnswer("/readyz?exclude=keys", 503, strings.NewReplacer("[+]store ok", "[-]store: no space left", "keys ok", "keys excluded", "passed", "failed").Replace(well))
	mustAnswer("/readyz?exclude=disk", 400, "there is no check \"disk\" here; there is: store, standby, writer, access, keys, drain\n")
	mustAnswer("/readyz/store", 503, "[-]store: no space left\n")
	mustAnswer("/readyz/keys", 200, "[+]keys ok\n")
	mustAnswer("/readyz/disk", 404, "there is no check \"disk\" here; there is: store, standby, writer, access, keys, drain\n")
	mustAnswer("/livez", 200, "[+]writer ok\nlivez check passed\n")
	mustAnswer("/livez/store", 404, "there is no check \"store\" here; there is: writer\n")
	s.ready.Set(readiness.Writer, errors.New("stalled"))
	mustAnswer("/livez", 503, "[-]writer: stalled\nlivez check failed\n")
	mustAnswer("/livez/writer", 503, "[-]writer: stalled\n")
}

func TestPaths(t *testing.T) {
	for _, debug := range []bool{false, true} {
		t.Run(fmt.Sprint("debug ", debug), func(t *testing.T) {
			s := serve(t, func(c *Config) { c.Debug = debug })
			inDebug := map[bool]int{false: 404, true: 200}[debug]
			for _, test := range []struct {
				method, path string
				status       int
				says         string
			}{
				{"GET", "/", 200, "/readyz"},
				{"GET", "/metrics", 200, "some 1\n"},
				{"HEAD", "/readyz", 503, ""},
				{"GET", "/nonsense", 404, "/loglevel"},
				{"GET", "/readyz/a/b", 404, "/readyz"},
				{"POST", "/readyz", 405, ""},
				{"PUT", "/nonsense", 405, ""},
				{"GET", "/debug/pprof/", inDebug, ""},
				{"GET", "/debug/pprof/goroutine?debug=1", inDebug, ""},
				{"GET", "/debug/pprof/cmdline", inDebug, ""},
				{"GET", "/debug/channelz/servers", inDebug, ""},
				{"GET", "/debug/channelz/channels", inDebug, ""},
				{"GET", "/debug/channelz/socket?id=0", 404, ""},
				{"GET", "/debug/channelz/nonsense", 404, ""},
			} {
				status, text, _ := s.ask(t, test.method, test.path, "")
				if status != test.status || !strings.Contains(text, test.says) {
					t.Errorf("%s %s: %d %q, want %d with %q", test.method, test.path, status, text, test.status, test.says)
				}
			}
			_, text, _ := s.ask(t, http.MethodGet, "/debug/pprof/", "")
			if says := strings.Contains(text, "--admin-debug"); says == debug {
				t.Errorf("of /debug it says %q", text)
			}
		})
	}
}

func TestNoMetrics(t *testing.T) {
	s := serve(t, func(c *Config) { c.Metrics = nil })
	if status, text, _ := s.ask(t, http.MethodGet, "/metrics", ""); status != 404 {
		t.Errorf("%d %q", status, text)
	}
}

func TestLogLevel(t *testing.T) {
	s := serve(t, nil)
	for _, test := range []struct {
		method, body string
		status       int
		text         string
		level        slog.Level
	}{
		{"GET", "", 200, "info\n", slog.LevelInfo},
		{"PUT", "debug", 200, "debug\n", slog.LevelDebug},
		{"PUT", " WARN\n", 200, "warn\n", slog.LevelWarn},
		{"PUT", "loud", 400, "the body must be a level: debug, info, warn or error\n", slog.LevelWarn},
		{"PUT", "", 400, "the body must be a level: debug, info, warn or error\n", slog.LevelWarn},
		{"PUT", strings.Repeat("x", 1<<20), 400, "the body must be a level: debug, info, warn or error\n", slog.LevelWarn},
		{"GET", "", 200, "warn\n", slog.LevelWarn},
	} {
		status, text, _ := s.ask(t, test.method, "/loglevel", test.body)
		if status != test.status || text != test.text || s.level.Level() != test.level {
			t.Errorf("%s %.10q: %d %q and %v, want %d %q and %v", test.method, test.body, status, text, s.level.Level(), test.status, test.text, test.level)
		}
	}
	if !strings.HasPrefix(s.level.by, "127.0.0.1:") {
		t.Errorf("set by %q", s.level.by)
	}
}

// recorder is a minimal ResponseWriter.
type recorder struct {
	header http.Header
	status int
	text   strings.Builder
}

func newRecorder() *recorder { return &recorder{header: http.Header{}, status: 200} }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.text.Write(p) }

func TestLogLevelIsSetFromHere(t *testing.T) {
	for _, test := range []struct {
		from  string
		debug bool
		want  int
	}{
		{"127.0.0.1:1", false, 200},
		{"127.8.0.9:1", false, 200},
		{"[::1]:1", false, 200},
		{"[::ffff:127.0.0.1]:1", false, 200},
		{"10.0.0.1:1", false, 403},
		{"[2001:db8::1]:1", false, 403},
		{"@", false, 403},
		{"10.0.0.1:1", true, 200},
	} {
		s := New(Config{Ready: readiness.New(), Level: new(level), Debug: test.debug, Log: slog.New(slog.DiscardHandler)})
		req, err := http.NewRequest(http.MethodPut, "/loglevel", strings.NewReader("debug"))
		must(t, err)
		req.RemoteAddr = test.from
		w := newRecorder()
		s.http.Handler.ServeHTTP(w, req)
		if changed := s.level.Level() == slog.LevelDebug; w.status != test.want || changed != (test.want == 200) {
			t.Errorf("from %s, debug %v: %d, changed %v; want %d", test.from, test.debug, w.status, changed, test.want)
		}
	}
}

func scrapeOf(t *testing.T, s *scrapes, accept string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "/metrics", nil)
	must(t, err)
	req.Header.Set("Accept", accept)
	w := newRecorder()
	s.ServeHTTP(w, req)
	return w.status, w.text.String()
}

// However often it is asked, and by however many, the handler is bothered a few times a second.
func TestScrapesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gathered atomic.Int32
		s := newScrapes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(30 * time.Millisecond)
			w.Header().Set("Content-Type", r.Header.Get("Accept"))
			_, _ = fmt.Fprint(w, r.Header.Get("Accept"), " ", gathered.Add(1))
		}))
		const seconds = 10
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for range seconds * 100 {
					if status, text := scrapeOf(t, s, "text"); status != 200 || !strings.HasPrefix(text, "text ") {
						t.Errorf("%d %q", status, text)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		all.Wait()
		if n := gathered.Load(); n < seconds || n > seconds+2 {
			t.Errorf("in %d s it was gathered %d times", seconds, n)
		}
		time.Sleep(scrapeLife)
		for i := range maxScrapes + 2 {
			status, text := scrapeOf(t, s, fmt.Sprint("format ", i))
			if want := map[bool]int{true: 200, false: 503}[i < maxScrapes]; status != want {
				t.Errorf("in format %d: %d %q", i, status, text)
			}
		}
		time.Sleep(scrapeLife)
		if status, _ := scrapeOf(t, s, "format 9"); status != 200 {
			t.Errorf("a second later: %d", status)
		}
	})
}

// A handler that hangs is not asked again and again.
func TestScrapesThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked atomic.Int32
		s := newScrapes(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			<-release
			w.WriteHeader(http.StatusTeapot)
		}))
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { scrapeOf(t, s, "text") })
			time.Sleep(scrapeLife)
		}
		if n := asked.Load(); n != maxScrapes {
			t.Errorf("it was asked %d times", n)
		}
		close(release)
		all.Wait()
		if status, _ := scrapeOf(t, s, "text"); status != http.StatusTeapot {
			t.Errorf("afterwards: %d", status)
		}
	})
}

func TestScrapeThatPanics(t *testing.T) {
	s := newScrapes(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("metrics") }))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is not told")
			}
		}()
		scrapeOf(t, s, "text")
	}()
	if status, _ := scrapeOf(t, s, "text"); status != http.StatusInternalServerError {
		t.Errorf("the next gets %d", status)
	}
	if s.running != 0 {
		t.Errorf("%d are gathered", s.running)
	}
}

// Whoever holds connections keeps no probe out.
func TestConnectionsAreFew(t *testing.T) {
	s := serve(t, nil)
	var held []net.Conn
	for range maxConnections + 10 {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		must(t, err)
		held = append(held, c)
	}
	if status, _, _ := s.ask(t, http.MethodGet, "/livez", ""); status != 200 {
		t.Errorf("a probe gets %d", status)
	}
	for _, c := range held[:10] { // which the server has closed
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("an old connection is open")
		}
	}
	for _, c := range held {
		must(t, c.Close())
	}
}

// The patience of who waits for the end of a request is bounded.
func TestClose(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := New(Config{Ready: readiness.New(), Level: new(level), Log: slog.New(slog.DiscardHandler), Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	})})
	ended, asked := make(chan error, 1), make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	go func() {
		res, err := http.Get("http://" + l.Addr().String() + "/metrics")
		if err == nil {
			err = res.Body.Close()
		}
		asked <- err
	}()
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, server.Close(ctx))
	must(t, <-ended)
	close(release)
	if err := <-asked; err == nil {
		t.Error("it was answered")
	}
}

func TestJudgedOfNothing(t *testing.T) {
	status, text := judged("livez", nil, nil)
	if diff := cmp.Diff("livez check passed\n", text); diff != "" || status != http.StatusOK {
		t.Errorf("%d (-want +got)\n%s", status, diff)
	}
}
