// Package authcode has a person authorize an OAuth client of a Zendesk: with an authorization code (RFC 6749, section 4.1),
// PKCE by S256 (RFC 7636), and a redirect to an address of this machine (RFC 8252, section 7.3).
//
// It hides the address of Zendesk's page, the state and the verifier, and the little web server that the redirect reaches. One
// redirect with the state that was sent out is taken, whatever it brings; what else arrives is answered in words, and told,
// and changes nothing. No page has anything of the code, and no error has.
//
//	flow, err := authcode.New(authcode.Request{Origin: "https://acme.zendesk.com", ClientID: "blocks", RedirectURI: "http://127.0.0.1:50053/oauth/callback"})
//	fmt.Println("Open", flow.Address())
//	err = flow.Receive(ctx, listener, 5*time.Minute, redeem, tell)
package authcode

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/oauth2"
)

// Request says who is to be authorized, where, and to do what.
type Request struct {
	Origin      string   // of the Zendesk
	ClientID    string   // the OAuth client's unique identifier
	Scopes      []string // none: read and write
	RedirectURI string   // as the OAuth client has it, character by character: https, or http to this machine
}

// Code is what a person brought back, with what redeems it. It lives 120 s.
type Code struct {
	Code, RedirectURI, Verifier string
}

// Flow is one authorization, from the address that a person opens to the redirect.
type Flow struct {
	request  Request
	path     string // of the redirect URI
	state    string
	verifier string
	taken    atomic.Bool // a redirect was, or time is over
}

// New makes a flow with a state and a verifier of its own. It fails when the redirect URI or the origin is not fit.
func New(r Request) (*Flow, error) {
	redirect, err := url.Parse(r.RedirectURI)
	if err != nil || redirect.Host == "" || redirect.Fragment != "" || redirect.User != nil ||
		redirect.Scheme != "https" && (redirect.Scheme != "http" || !thisMachine(redirect.Hostname())) {
		return nil, errors.New("the redirect URI must be https://HOST/PATH, or http to this machine, without user and fragment")
	}
	if origin, err := url.Parse(r.Origin); err != nil || origin.Host == "" {
		return nil, errors.New("the account has no URL")
	}
	if len(r.Scopes) == 0 {
		r.Scopes = []string{"read", "write"}
	}
	path := redirect.Path
	if path == "" {
		path = "/"
	}
	return &Flow{request: r, path: path, state: rand.Text(), verifier: oauth2.GenerateVerifier()}, nil
}

func thisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Address is that of Zendesk's page on which a person agrees. Nothing in it is secret from who sits at this machine.
func (f *Flow) Address() string {
	return strings.TrimSuffix(f.request.Origin, "/") + "/oauth/authorizations/new?" + url.Values{
		"response_type": {"code"}, "client_id": {f.request.ClientID}, "redirect_uri": {f.request.RedirectURI},
		"scope": {strings.Join(f.request.Scopes, " ")}, "state": {f.state},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(f.verifier)}, "code_challenge_method": {"S256"},
	}.Encode()
}

// Receive serves on l, which it closes, until Zendesk's redirect has come and redeem has ended, for at most wait until the
// redirect comes; ctx ends both. Its error is redeem's, or says in words why there was no code. The person is shown a page
// that says the same. tell is given a line about whatever else arrives, from many goroutines.
func (f *Flow) Receive(ctx context.Context, l net.Listener, wait time.Duration, redeem func(context.Context, Code) error, tell func(string)) error {
	outcome := make(chan error, 1)
	server := &http.Server{
		Handler: f.handler(func(code Code, err error) error {
			if err == nil {
				err = redeem(ctx, code) // also when the person has closed the page
			}
			outcome <- err
			return err
		}, tell),
		ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(io.Discard, "", 0), //nolint:forbidigo // what it says may quote the code
	}
	server.SetKeepAlivesEnabled(false)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		// The page of the outcome is still being written.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if server.Shutdown(closing) != nil {
			_ = server.Close()
		}
	}()
	late := time.NewTimer(wait)
	defer late.Stop()
	for {
		select {
		case err := <-outcome:
			return err
		case err := <-served:
			if f.taken.CompareAndSwap(false, true) {
				return fmt.Errorf("the redirect cannot be received: %w", err)
			}
			return <-outcome
		case <-late.C:
			if f.taken.CompareAndSwap(false, true) {
				return fmt.Errorf("no redirect came from Zendesk within %s: open the address again with a new run, and end what its page asks", wait)
			}
		case <-ctx.Done():
			if f.taken.CompareAndSwap(false, true) {
				return context.Cause(ctx)
			}
			return <-outcome // redeem ends with ctx
		}
	}
}

// handler answers whoever comes to the redirect's address. done is called once, with what the right redirect brought.
func (f *Flow) handler(done func(Code, error) error, tell func(string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		switch {
		case r.URL.Path != f.path:
			if r.URL.Path != "/favicon.ico" { // which every browser asks for
				tell("A request for another path than the redirect's was refused.")
			}
			show(w, http.StatusNotFound, "Nothing is here", "Zendesk's redirect goes to another path.")
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", http.MethodGet)
			tell("A request that is no redirect was refused.")
			show(w, http.StatusMethodNotAllowed, "Not a redirect", "A redirect is a GET.")
		case subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(f.state)) != 1:
			tell("A redirect with a wrong state was refused: it does not answer the address above. Use that one.")
			show(w, http.StatusBadRequest, "Not this authorization", "The state is not the one that was sent to Zendesk. Open the address that the program has printed last.")
		case !f.taken.CompareAndSwap(false, true):
			tell("A second redirect was refused: the first one counts.")
			show(w, http.StatusConflict, "Already answered", "This authorization has been answered before, or its time is over. The program says how it ended.")
		default:
			code, err := f.codeOf(query)
			if err = done(code, err); err != nil {
				show(w, http.StatusBadRequest, "Not authorized", printable(err.Error(), 1000))
				return
			}
			show(w, http.StatusOK, "Authorized", "The account has its token. You can close this page.")
		}
	})
}

// codeOf reads the redirect (RFC 6749, sections 4.1.2 and 4.1.2.1).
func (f *Flow) codeOf(query url.Values) (Code, error) {
	code := Code{Code: query.Get("code"), RedirectURI: f.request.RedirectURI, Verifier: f.verifier}
	refused := query.Get("error")
	switch {
	case refused != "":
		said := printable(refused, 100)
		if description := query.Get("error_description"); description != "" {
			said += ": " + printable(description, 300)
		}
		if refused == "access_denied" {
			return Code{}, fmt.Errorf("the person at Zendesk did not agree (%s)", said)
		}
		return Code{}, fmt.Errorf("the client was not authorized (%s)", said)
	case code.Code == "" || len(code.Code) > 4096:
		return Code{}, errors.New("the redirect brought neither a code nor an error")
	}
	return code, nil
}

// printable is a text of others, without what is no text, cut to so many bytes.
func printable(text string, most int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)), " ")
	if len(text) <= most {
		return text
	}
	for !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{{.Title}}</title></head>
<body><h1>{{.Title}}</h1><p>{{.Text}}</p></body>
</html>
`))

// show writes a page that runs nothing, loads nothing, and tells nobody the address that it stands at, which has the code.
func show(w http.ResponseWriter, status int, title, text string) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = page.Execute(w, struct{ Title, Text string }{title, text}) // who has gone sees nothing
}
