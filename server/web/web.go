// Package web answers browsers: the administrator's pages, and the API in the protocols that a browser's code speaks.
//
// It hides what protects them. Connections, and what may be on one, are bounded as those of the API's port are, by the same code: each
// browser's has one within the process beside it (package inside). Requests count only under the names that the service is reached by, so
// that no other site's name can be pointed here. A form of another site is refused, and pages load nothing from elsewhere, run no script but
// their own, and stand in no frame. The API takes the authorization header alone, never a page's cookie, and code of other sites only where
// they are allowed by name.
//
//	srv, err := web.New(web.Config{Dial: api.Dial, Sealer: st, SignIn: true, URL: "https://blocks.example.com", Log: log})
//	...
//	err = srv.Serve(ctx, listener) // returns when ctx is done and requests have ended
package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/scenarioblocks/zendeskblocks/server/web/gateway"
	"github.com/scenarioblocks/zendeskblocks/server/web/inside"
	"github.com/scenarioblocks/zendeskblocks/server/web/pages"
	"github.com/scenarioblocks/zendeskblocks/server/web/session"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/loopback"
)

const (
	headerTime     = 10 * time.Second
	idleTime       = 2 * time.Minute
	maxHeaderBytes = 16 << 10
)

// Config is what a Server depends on.
type Config struct {
	Dial   inside.Dial    // connects to the API within the process; required
	Sealer session.Sealer // required
	SignIn bool           // the API asks for a credential
	// URL is where browsers reach the server: https://blocks.example.com, or http on this machine; no path. Required.
	URL          string
	Sandbox      *url.URL                       // of the fake Zendesk that is served beside; nil: none is
	API          http.Handler                   // the API for browsers' code, for the paths of its services; nil: pages alone
	Answered     func(route string, status int) // is told of each request that was answered; nil: nobody is
	Log          *slog.Logger                   // required
	DrainTimeout time.Duration                  // how long requests may take to end after Serve was told to; default 10 s
	Now          func() time.Time
}

var errOutside = errors.New("web: a request came by no connection of the server")

// Server answers browsers.
type Server struct {
	http         http.Server
	conns        *inside.Conns
	log          *slog.Logger
	drainTimeout time.Duration
}

// New makes a server. It starts nothing.
func New(c Config) (*Server, error) {
	at, err := ParseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Answered == nil {
		c.Answered = func(string, int) {}
	}
	s := &Server{conns: inside.New(c.Dial), log: c.Log, drainTimeout: cmp.Or(c.DrainTimeout, 10*time.Second)}
	shown := pages.New(pages.Config{
		API: func(ctx context.Context) (grpc.ClientConnInterface, error) {
			conn := inside.Of(ctx)
			if conn == nil {
				return nil, errOutside
			}
			return conn.GRPC()
		},
		Sessions: session.New(session.Config{Sealer: c.Sealer, Secure: at.Scheme == "https", Now: c.Now}),
		SignIn:   c.SignIn, URL: c.URL, Sandbox: c.Sandbox, Log: c.Log, Now: c.Now,
	})
	routes := http.NewServeMux()
	routes.Handle("/", ownForms(shown))
	if c.API != nil {
		for _, path := range gateway.Paths() {
			routes.Handle(path, c.API)
		}
	}
	s.http = http.Server{
		Handler:           answered(c.Log, c.Answered, named(at, secured(at, routes))),
		ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes,
		ConnContext: s.conns.ConnContext, ConnState: s.conns.ConnState,
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// ParseURL checks where browsers are to reach the service: an https origin, or an http one of this machine.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return nil, fmt.Errorf("%q is no address such as https://blocks.example.com, without a path", text)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback.Host(u.Hostname())) {
		return nil, fmt.Errorf("%q must be https: only what is on this machine may be http", text)
	}
	return u, nil
}

// Serve answers on l, which it closes, until ctx is done. Then requests that run may end within the drain timeout. It returns nil after
// that.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	s.http.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	go func() { served <- s.http.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drainTimeout)
	defer cancel()
	if s.http.Shutdown(ending) != nil {
		_ = s.http.Close() // what still runs is cut
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// named refuses requests under a name that is not the service's own: a site whose name is pointed to this address would else be one with
// the pages, for a browser. Addresses of this machine are names of a service that is on it.
func named(at *url.URL, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.Trim(host, "[]")
		if !strings.EqualFold(host, at.Hostname()) && (!loopback.Host(at.Hostname()) || !loopback.Host(host)) {
			http.Error(w, "This service is at "+at.String()+".", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// policy is what pages may load and do: https://www.w3.org/TR/CSP3/
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'"

// secured has browsers keep what they are shown to themselves.
func secured(at *url.URL, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin") // with no-referrer, forms would not say where they come from
		h.Set("Cross-Origin-Opener-Policy", "same-origin-allow-popups")
		h.Set("Cache-Control", "no-store")
		if at.Scheme == "https" {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// ownForms refuses what changes something and is not sent by the pages themselves.
func ownForms(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "This form was sent by another site, and is refused.", http.StatusForbidden)
	}))
	return protection.Handler(next)
}
