// Package admin is the HTTP server for those who run the service: probes, scrapers, and people who look into it. It is no part of
// the API, asks for no credential, and is meant for the inside of a machine or a cluster.
//
//	/livez, /readyz   200, or 503 and what fails; one check is below by its name, and ?exclude=NAME leaves one out
//	/metrics          Prometheus
//	/loglevel         the least level that is logged; PUT sets it, from this machine alone
//	/debug/...        profiles and channelz, if they are asked for
//
// It holds up nobody: it answers from what is known, has few connections, and gathers the metrics four times a second at most.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/readiness"
)

const (
	maxConnections = 64
	headerTime     = 5 * time.Second
	readTime       = 10 * time.Second
	writeTime      = 30 * time.Second // profiles take themselves as long as they are told to
	idleTime       = 2 * time.Minute  // longer than scrapers pause
	maxHeaderBytes = 16 << 10
	maxLevelBytes  = 64
)

// Level is the least level that is logged.
type Level interface {
	Level() slog.Level
	SetLevel(level slog.Level, by string) // by says who does, for the log
}

// Config is what a Server depends on.
type Config struct {
	Ready   *readiness.Registry // required
	Metrics http.Handler        // default: there are none
	Level   Level               // required
	Debug   bool                // serves profiles and channelz, and lets everybody set the level
	Log     *slog.Logger        // required
}

// Server answers those who run the service.
type Server struct {
	http  http.Server
	ready *readiness.Registry
	level Level
	debug bool
	paths []string // what there is, with a word on each
}

// New makes a server. It starts nothing.
func New(c Config) *Server {
	s := &Server{ready: c.Ready, level: c.Level, debug: c.Debug}
	mux := http.NewServeMux()
	serve := func(pattern, what string, handler http.HandlerFunc) {
		mux.HandleFunc("GET "+pattern, handler)
		s.paths = append(s.paths, fmt.Sprintf("%-26s %s", pattern, what))
	}
	serve("/livez", "whether a restart would help", s.checks("livez", c.Ready.Live))
	serve("/livez/{check}", "of one check", s.check(c.Ready.Live))
	serve("/readyz", "whether the service can do its work; ?exclude=NAME leaves a check out", s.checks("readyz", c.Ready.Checks))
	serve("/readyz/{check}", "of one check", s.check(c.Ready.Checks))
	if c.Metrics != nil {
		serve("/metrics", "for Prometheus", newScrapes(c.Metrics).ServeHTTP)
	}
	serve("/loglevel", "the least level that is logged; PUT debug, info, warn or error sets it", s.showLevel)
	mux.HandleFunc("PUT /loglevel", s.setLevel)
	if c.Debug {
		serve("/debug/pprof/", "profiles", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		serve("/debug/channelz/{what}", "gRPC's connections: servers, sockets?server=ID, socket?id=ID, channels, subchannel?id=ID", newChannelz().ServeHTTP)
	}
	mux.HandleFunc("GET /", s.list)
	s.http = http.Server{
		Handler:           plain(mux),
		ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
	return s
}

// Serve answers on l until Close. It closes l. Its error says why it ended before.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(newConnections(l, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends Serve. What is being answered may end first, if it does before ctx is done.
func (s *Server) Close(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// plain has all answers be text that nobody keeps or takes for something else; who says more says it.
func plain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) //nolint:gosec // G705: it is plain text; who has hung up is told nothing
}

// list says what there is.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	text := "There is:\n" + strings.Join(s.paths, "\n") + "\n"
	if r.URL.Path == "/" {
		answer(w, http.StatusOK, text)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/debug/") && !s.debug {
		text = "/debug is served with --admin-debug only.\n" + text
	}
	answer(w, http.StatusNotFound, text)
}

// checks answers for all checks of a kind.
func (s *Server) checks(kind string, of func() []readiness.Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, text := judged(kind, of(), r.URL.Query()["exclude"])
		answer(w, status, text)
	}
}

// judged words the state of checks, some of which do not count.
func judged(kind string, checks []readiness.Check, exclude []string) (status int, text string) {
	var b strings.Builder
	for _, name := range exclude {
		if !slices.ContainsFunc(checks, func(c readiness.Check) bool { return c.Name == name }) {
			return http.StatusBadRequest, unknownCheck(name, checks)
		}
	}
	status, verdict := http.StatusOK, "passed"
	for _, c := range checks {
		switch {
		case slices.Contains(exclude, c.Name):
			fmt.Fprintf(&b, "[+]%s excluded\n", c.Name)
		case c.Err == nil:
			fmt.Fprintf(&b, "[+]%s ok\n", c.Name)
		default:
			status, verdict = http.StatusServiceUnavailable, "failed"
			fmt.Fprintf(&b, "[-]%s: %s\n", c.Name, oneLine(c.Err))
		}
	}
	fmt.Fprintf(&b, "%s check %s\n", kind, verdict)
	return status, b.String()
}

// check answers for the check that the path names.
func (s *Server) check(of func() []readiness.Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		checks := of()
		at := slices.IndexFunc(checks, func(c readiness.Check) bool { return c.Name == r.PathValue("check") })
		switch {
		case at < 0:
			answer(w, http.StatusNotFound, unknownCheck(r.PathValue("check"), checks))
		case checks[at].Err != nil:
			answer(w, http.StatusServiceUnavailable, fmt.Sprintf("[-]%s: %s\n", checks[at].Name, oneLine(checks[at].Err)))
		default:
			answer(w, http.StatusOK, fmt.Sprintf("[+]%s ok\n", checks[at].Name))
		}
	}
}

func unknownCheck(name string, checks []readiness.Check) string {
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
	}
	return fmt.Sprintf("there is no check %.100q here; there is: %s\n", name, strings.Join(names, ", "))
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (s *Server) showLevel(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, strings.ToLower(s.level.Level().String())+"\n")
}

// setLevel is for who is on this machine, where a process may also be stopped: nothing says who asks, and at debug the log
// tells more about people.
func (s *Server) setLevel(w http.ResponseWriter, r *http.Request) {
	if from, err := netip.ParseAddrPort(r.RemoteAddr); !s.debug && (err != nil || !from.Addr().Unmap().IsLoopback()) {
		answer(w, http.StatusForbidden, "the level is set from this machine only, or by anybody with --admin-debug\n")
		return
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLevelBytes))
	var level slog.Level
	if err == nil {
		err = level.UnmarshalText([]byte(strings.TrimSpace(string(text))))
	}
	if err != nil {
		answer(w, http.StatusBadRequest, "the body must be a level: debug, info, warn or error\n")
		return
	}
	s.level.SetLevel(level, r.RemoteAddr)
	s.showLevel(w, r)
}
