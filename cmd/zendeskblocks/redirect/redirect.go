// Package redirect receives Zendesk's redirect at an address of this machine (RFC 8252, section 7.3), after a person has been
// sent to the address of an [authcode.Flow].
//
// It hides the little web server that the redirect reaches. One redirect with the state that was sent out is taken, whatever
// it brings; what else arrives is answered in words, and told, and changes nothing. No page has anything of the code, and no
// error has.
//
//	fmt.Println("Open", flow.Address())
//	err = redirect.Receive(ctx, listener, flow, 5*time.Minute, redeem, tell)
package redirect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/authcode"
)

// Receive serves on l, which it closes, until Zendesk's redirect has come and redeem has ended, for at most wait until the
// redirect comes; ctx ends both. Its error is redeem's, or says in words why there was no code. The person is shown a page
// that says the same. tell is given a line about whatever else arrives, from many goroutines.
func Receive(ctx context.Context, l net.Listener, flow *authcode.Flow, wait time.Duration, redeem func(context.Context, authcode.Code) error, tell func(string)) error {
	outcome := make(chan error, 1)
	place := newReceiver(flow, func(code authcode.Code, err error) error {
		if err == nil {
			err = redeem(ctx, code) // also when the person has closed the page
		}
		outcome <- err
		return err
	}, tell)
	server := &http.Server{
		Handler:           place,
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
			if place.taken.CompareAndSwap(false, true) {
				return fmt.Errorf("the redirect cannot be received: %w", err)
			}
			return <-outcome
		case <-late.C:
			if place.taken.CompareAndSwap(false, true) {
				return fmt.Errorf("no redirect came from Zendesk within %s: open the address again with a new run, and end what its page asks", wait)
			}
		case <-ctx.Done():
			if place.taken.CompareAndSwap(false, true) {
				return context.Cause(ctx)
			}
			return <-outcome // redeem ends with ctx
		}
	}
}

// receiver answers whoever comes to the redirect's address.
type receiver struct {
	flow  *authcode.Flow
	path  string                           // of the redirect URI
	done  func(authcode.Code, error) error // called once, with what the right redirect brought
	tell  func(string)
	taken atomic.Bool // a redirect was, or time is over
}

func newReceiver(flow *authcode.Flow, done func(authcode.Code, error) error, tell func(string)) *receiver {
	path := "/"
	if uri, err := url.Parse(flow.RedirectURI); err == nil { // as New of authcode has seen
		path = cmp.Or(uri.Path, path)
	}
	return &receiver{flow: flow, path: path, done: done, tell: tell}
}

func (p *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != p.path:
		if r.URL.Path != "/favicon.ico" { // which every browser asks for
			p.tell("A request for another path than the redirect's was refused.")
		}
		show(w, http.StatusNotFound, "Nothing is here", "Zendesk's redirect goes to another path.")
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		p.tell("A request that is no redirect was refused.")
		show(w, http.StatusMethodNotAllowed, "Not a redirect", "A redirect is a GET.")
		return
	}
	code, err := p.flow.Redirect(r.URL.Query())
	switch {
	case errors.Is(err, authcode.ErrState):
		p.tell("A redirect with a wrong state was refused: it does not answer the address above. Use that one.")
		show(w, http.StatusBadRequest, "Not this authorization", "The state is not the one that was sent to Zendesk. Open the address that the program has printed last.")
	case !p.taken.CompareAndSwap(false, true):
		p.tell("A second redirect was refused: the first one counts.")
		show(w, http.StatusConflict, "Already answered", "This authorization has been answered before, or its time is over. The program says how it ended.")
	default:
		if err = p.done(code, err); err != nil {
			show(w, http.StatusBadRequest, "Not authorized", err.Error())
			return
		}
		show(w, http.StatusOK, "Authorized", "The account has its token. You can close this page.")
	}
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
