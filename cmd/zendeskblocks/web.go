package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/web"
	"github.com/scenarioblocks/zendeskblocks/server/web/gateway"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/loopback"
)

// webFlags say where browsers are answered.
type webFlags struct {
	WebListen      string   `help:"Address to serve browsers on, in HTTP: the administrator's page, and the API by gRPC-Web and Connect; off: not at all. Default: off, and with --sandbox 127.0.0.1:50090." placeholder:"HOST:PORT"`
	WebURL         string   `name:"web-url" help:"How browsers reach it, such as https://blocks.example.com, without a path; http from this machine only. Default: the address that is listened on, if only this machine reaches it." placeholder:"URL"`
	WebAllowOrigin []string `help:"Site whose code in browsers may call the API there, such as https://desktop.example.com; repeatable." placeholder:"ORIGIN"`
	WebTLSCert     string   `name:"web-tls-cert" help:"Certificate chain to serve browsers with, in PEM; re-read when it changes. Without one they are served in plain HTTP, to this machine or to a proxy that --web-url leads to." placeholder:"FILE"`
	WebTLSKey      string   `name:"web-tls-key" help:"Private key of that certificate, in PEM." placeholder:"FILE"`
}

// sandboxWebListen is where browsers are served beside a fake Zendesk, if nothing else is said.
const sandboxWebListen = "127.0.0.1:50090"

// webAddress is where browsers are served; empty: nowhere.
func (f *webFlags) webAddress(sandbox bool) string {
	switch {
	case f.WebListen == off:
		return ""
	case f.WebListen == "" && sandbox:
		return sandboxWebListen
	}
	return f.WebListen
}

// webCertificate is the certificate that browsers are shown; of no files: none.
func (f *webFlags) webCertificate(log *slog.Logger) auth.Config {
	return auth.Config{TLS: auth.TLS{CertFile: f.WebTLSCert, KeyFile: f.WebTLSKey, Flags: "--web-tls"}, Log: log}
}

// webURL is how browsers reach what listens on an address. Without --web-url that is only known of this machine's.
func (f *webFlags) webURL(address string) (*url.URL, error) {
	if f.WebURL != "" {
		return web.ParseURL(strings.TrimSuffix(f.WebURL, "/"))
	}
	if !onLoopback(address) {
		return nil, nil
	}
	return &url.URL{Scheme: f.webScheme(), Host: address}, nil
}

// webScheme is of what is listened on, which a proxy may serve by another one.
func (f *webFlags) webScheme() string {
	if f.WebTLSCert != "" {
		return "https"
	}
	return "http"
}

// sourceProblems refuses an empty address, which says nothing about what is wanted.
func (f *webFlags) sourceProblems(from sources) []error {
	if f.WebListen == "" && from("web-listen") != "" {
		return []error{errors.New("--web-listen must be HOST:PORT, or off, and is empty")}
	}
	return nil
}

// problems says what is wrong with the flags, for a service whose callers show what access says.
func (f *webFlags) problems(sandbox bool, access *accessFlags) (problems []error) {
	address := f.webAddress(sandbox)
	if address == "" {
		if f.WebListen == "" && (f.WebURL != "" || len(f.WebAllowOrigin) > 0 || f.WebTLSCert != "" || f.WebTLSKey != "") {
			problems = append(problems, errors.New("--web-listen is missing: the other flags of --web need it, or --web-listen off"))
		}
		return problems
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return append(problems, fmt.Errorf("--web-listen must be HOST:PORT, or off: %w", err))
	}
	for _, origin := range f.WebAllowOrigin {
		if _, err := gateway.New(gateway.Config{Origins: []string{origin}}); err != nil {
			problems = append(problems, fmt.Errorf("--web-allow-origin: %w", err))
		}
	}
	if certificate, err := auth.Open(f.webCertificate(slog.New(slog.DiscardHandler))); err != nil {
		problems = append(problems, reasons(err)...)
	} else {
		certificate.Close()
	}
	place, err := f.webURL(address)
	if err != nil {
		return append(problems, fmt.Errorf("--web-url: %w", err))
	}
	return slices.Concat(problems, webPlace{
		address: address, url: place, tls: f.WebTLSCert != "" || f.WebTLSKey != "",
		bearers: access.takesBearers(), certificates: access.TLSClientCA != "", insecure: access.Insecure,
	}.problems())
}

// webPlace is what decides whether browsers may be served: from where they come, and what protects that.
type webPlace struct {
	address               string   // that is listened on
	url                   *url.URL // that browsers go to; nil: nobody has said
	tls                   bool
	bearers, certificates bool // that callers may show
	insecure              bool
}

// forOthers says whether others than this machine come.
func (w webPlace) forOthers() bool {
	return !onLoopback(w.address) || w.url != nil && !loopback.Host(w.url.Hostname())
}

// browsersFromElsewhere says whether others than this machine reach what serves browsers.
func (c *serveCommand) browsersFromElsewhere() bool {
	address := c.webAddress(c.Sandbox)
	place, err := c.webURL(address)
	return address != "" && err == nil && webPlace{address: address, url: place}.forOthers()
}

func (w webPlace) problems() (problems []error) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch {
	case w.url == nil:
		wrong("--web-url is missing: --web-listen %s is not a loopback address, and says nothing about how browsers reach it", w.address)
	case w.tls && w.url.Scheme == "http":
		wrong("--web-url %s must be https: --web-tls-cert has browsers served in TLS", w.url)
	case w.url.Scheme == "http" && !onLoopback(w.address) && !w.insecure:
		wrong("--web-listen %s with --web-url %s would have tokens cross the network in clear: it needs --web-tls-cert and --web-tls-key, or as --web-url the https address of a proxy in front; --insecure serves without",
			w.address, w.url)
	}
	const accepted = "--token-file, --jwt-key-file or --jwt-jwks-url"
	switch {
	case w.bearers:
	case w.certificates:
		wrong("--web-listen needs %s: people sign in with tokens, and a browser is not asked for the certificates of --tls-client-ca", accepted)
	case w.forOthers() && !w.insecure:
		wrong("--web-listen %s needs authentication (%s), because others than this machine reach it; --insecure serves without", w.address, accepted)
	}
	return problems
}

// lastAnswerTime is how long browsers may take to be sent what the last calls have answered.
const lastAnswerTime = time.Second

// browsers serves browsers beside the API.
type browsers struct {
	server      *web.Server
	listener    net.Listener
	url         string
	certificate *auth.Authenticator // nothing else of it is asked
}

// forBrowsers makes what serves browsers on a listener; nil without one. Config lacks what flags say.
func (c *serveCommand) forBrowsers(l net.Listener, config web.Config) (*browsers, error) {
	if l == nil {
		return nil, nil
	}
	place, err := c.webURL(l.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("--web-url: %w", err)
	}
	config.URL, config.DrainTimeout = place.String(), lastAnswerTime
	if config.API, err = gateway.New(gateway.Config{Origins: c.WebAllowOrigin}); err != nil {
		return nil, fmt.Errorf("--web-allow-origin: %w", err)
	}
	b := &browsers{listener: l, url: config.URL}
	if b.certificate, err = auth.Open(c.webCertificate(config.Log)); err != nil {
		return nil, err
	}
	if encrypted := b.certificate.TLS(); encrypted != nil {
		encrypted.NextProtos = []string{"h2", "http/1.1"}
		b.listener = tls.NewListener(l, encrypted)
	}
	if b.server, err = web.New(config); err != nil {
		b.certificate.Close()
		return nil, err
	}
	config.Log.Info("serving browsers", "web_address", l.Addr().String(), "url", config.URL)
	return b, nil
}

// place is where browsers go; empty: there is nothing for them.
func (b *browsers) place() string {
	if b == nil {
		return ""
	}
	return b.url
}

func (b *browsers) close() {
	if b != nil {
		b.certificate.Close()
	}
}

// beside serves browsers while the API is served on a listener: from when it is, until it has drained, since their calls are its calls.
// When either fails both end.
func (b *browsers) beside(ctx context.Context, api net.Listener, serve func(context.Context, net.Listener) error) error {
	if b == nil {
		return serve(ctx, api)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	served, end := context.WithCancel(context.WithoutCancel(ctx))
	begun, ended := newAccepting(api), make(chan error, 1)
	go func() {
		select {
		case <-begun.accepting:
		case <-served.Done():
			ended <- b.listener.Close()
			return
		}
		err := b.server.Serve(served, b.listener)
		if err != nil {
			err = fmt.Errorf("serving browsers: %w", err)
			fail(err)
		}
		ended <- err
	}()
	err := serve(ctx, begun)
	end()
	if failed := <-ended; !errors.Is(err, failed) {
		err = errors.Join(err, failed)
	}
	return err
}

// accepting is a listener that tells when connections are taken from it.
type accepting struct {
	net.Listener
	accepting chan struct{}
	begin     func()
}

func newAccepting(l net.Listener) *accepting {
	a := &accepting{Listener: l, accepting: make(chan struct{})}
	a.begin = sync.OnceFunc(func() { close(a.accepting) })
	return a
}

// Accept implements net.Listener.
func (a *accepting) Accept() (net.Conn, error) {
	a.begin()
	return a.Listener.Accept()
}
