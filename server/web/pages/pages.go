// Package pages is the administrator's page: accounts, activities, interactions and screen pops in a browser.
//
// It hides HTML, forms and words. It is a client of the API like any other: whatever it shows or does is a call with the credential of
// whoever has signed in, by the same interceptors, so that nobody can do here what he may not there. What the API refuses is said in the
// API's words. Pages are made by the server and need no script; what a script adds is said in static/page.js. No secret is in a page or an address.
//
// Each group of pages has a file, with templates of the same name:
//
//	h := pages.New(pages.Config{API: connection, Sessions: sessions, SignIn: true, URL: "https://blocks.example.com"})
package pages

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/web/session"
)

// maxForm bounds what a form sends.
const maxForm = 256 << 10

// Config is what the pages depend on.
type Config struct {
	// API returns a connection to the API for who sent a request, by the request's context. Required.
	API      func(context.Context) (grpc.ClientConnInterface, error)
	Sessions *session.Sessions // required
	SignIn   bool              // the API asks for a credential
	URL      string            // where browsers reach the pages: https://blocks.example.com, without a path
	Sandbox  *url.URL          // of the fake Zendesk that is served beside; nil: none is
	Log      *slog.Logger      // required
	Now      func() time.Time  // default time.Now
}

// Pages answers browsers.
type Pages struct {
	api       func(context.Context) (grpc.ClientConnInterface, error)
	sessions  *session.Sessions
	signIn    bool
	url       string
	sandbox   *url.URL
	log       *slog.Logger
	now       func() time.Time
	templates map[string]*template.Template // by the names of their files
	mux       *http.ServeMux
}

// New makes the pages.
func New(c Config) *Pages {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Pages{
		api: c.API, sessions: c.Sessions, signIn: c.SignIn, url: c.URL, sandbox: c.Sandbox, log: c.Log, now: c.Now,
		mux: http.NewServeMux(),
	}
	p.templates = parse(p.now)
	p.mux.Handle("GET /static/", serveStatic())
	p.mux.HandleFunc("GET /signin", p.showSignIn)
	p.mux.HandleFunc("POST /signin", p.takeSignIn)
	p.mux.HandleFunc("POST /signout", p.signOut)
	p.handle("GET /{$}", p.home)
	p.serveAccounts()
	p.handle("/", p.nowhere)
	p.serveActivities()
	p.serveInteractions()
	p.servePops()
	p.serveSandbox()
	return p
}

// ServeHTTP implements http.Handler.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	p.mux.ServeHTTP(w, r)
}

// visit is one request of somebody who may be here.
type visit struct {
	context.Context // of the calls: it carries the credential

	w   http.ResponseWriter
	r   *http.Request
	who *zendeskv1.GetCallerResponse

	accounts     zendeskv1.AccountServiceClient
	interactions zendeskv1.InteractionServiceClient
	operations   zendeskv1.OperationsServiceClient
}

// may says whether the visitor has one of the roles. Pages ask it for what to offer; what is allowed the API decides.
func (v *visit) may(roles ...string) bool {
	return slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(v.who.GetRoles(), role) })
}

// page is what a visit is answered with.
type page struct {
	status   int      // default 200
	title    string   // of the window, and the heading
	template string   // the file below templates with what follows the heading, without .html
	data     any      // for the template
	problem  *problem // what went wrong, in place of the status and above the rest

	// stream, if there is one, puts templates of the page's file after it as things happen: each is shown at once.
	stream func(put func(template string, data any) error) error

	to  string                    // the browser goes there in place of all else
	raw func(http.ResponseWriter) // answers in place of all else: what is no page
}

// goTo has the browser go to another page, after a form was taken; done is the key of what is said there, see doneWords.
func goTo(path, done string) *page {
	if done == "" {
		return &page{to: path}
	}
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return &page{to: path + separator + "done=" + url.QueryEscape(done)}
}

// handle has visits of a pattern answered by fn. Its error is shown as a page of its own: forms that can be mended show
// problemOf themselves, beside what was filled in.
func (p *Pages) handle(pattern string, fn func(*visit) (*page, error)) {
	p.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		conn, err := p.api(r.Context())
		if err != nil {
			p.write(w, r, nil, failed(problemOf(err)))
			return
		}
		v := &visit{
			Context: r.Context(), w: w, r: r,
			accounts: zendeskv1.NewAccountServiceClient(conn), interactions: zendeskv1.NewInteractionServiceClient(conn),
			operations: zendeskv1.NewOperationsServiceClient(conn),
		}
		if p.signIn {
			signedIn := p.sessions.Of(r)
			if signedIn == nil {
				p.askToSignIn(w, r, "")
				return
			}
			v.Context = metadata.AppendToOutgoingContext(v.Context, "authorization", signedIn.Credential)
			if err := p.sessions.Renew(w, signedIn); err != nil {
				p.log.Error("a session could not be renewed", "error", err)
			}
		}
		if v.who, err = v.operations.GetCaller(v, &zendeskv1.GetCallerRequest{}); err == nil {
			var answer *page
			if answer, err = fn(v); err == nil {
				p.write(w, r, v, answer)
				return
			}
		}
		problem := problemOf(err)
		if problem.signedOut() && p.signIn {
			p.sessions.End(w)
			p.askToSignIn(w, r, "ended")
			return
		}
		p.write(w, r, v, failed(problem))
	})
}

// failed is the page of a problem that has no other.
func failed(problem *problem) *page {
	return &page{title: problem.Title, template: "problem", problem: problem}
}

func (p *Pages) nowhere(*visit) (*page, error) {
	return failed(&problem{Title: "There is no such page", Status: http.StatusNotFound, Message: "The address leads nowhere."}), nil
}

// home leads to what the visitor is here for.
func (p *Pages) home(v *visit) (*page, error) {
	links := p.navigation(v)
	if len(links) == 0 {
		return failed(&problem{Title: "Nothing to see", Status: http.StatusForbidden, Message: "None of your roles has a page here."}), nil
	}
	return &page{to: links[0].Path}, nil
}

// link is a place in the navigation.
type link struct {
	Path, Text string
	Current    bool
}

// navigation is what the visitor may open.
func (p *Pages) navigation(v *visit) (links []link) {
	if v == nil || v.who == nil {
		return nil
	}
	add := func(path, text string, roles ...string) {
		if v.may(roles...) {
			links = append(links, link{path, text, v.r.URL.Path == path || strings.HasPrefix(v.r.URL.Path, path+"/")})
		}
	}
	add("/accounts", "Accounts", "admin", "ops")
	add("/activities", "Activities", "ops")
	add("/interactions", "Interactions", "ops", "runtime")
	add("/pops", "Screen pops", "desktop", "ops")
	if p.sandbox != nil {
		add("/sandbox", "Sandbox", "admin", "ops", "runtime", "desktop")
	}
	return links
}

// write answers with a page.
func (p *Pages) write(w http.ResponseWriter, r *http.Request, v *visit, answer *page) {
	if answer.to != "" {
		http.Redirect(w, r, answer.to, http.StatusSeeOther)
		return
	}
	if answer.raw != nil {
		answer.raw(w)
		return
	}
	status := answer.status
	if answer.problem != nil && status == 0 {
		status = answer.problem.Status
	}
	if status == 0 {
		status = http.StatusOK
	}
	t := p.templates[answer.template]
	shown := struct {
		Title      string
		Navigation []link
		Who        *zendeskv1.GetCallerResponse
		SignedIn   bool
		Done       string
		Problem    *problem
	}{
		Title: answer.title, Navigation: p.navigation(v), SignedIn: p.signIn,
		Done: doneWords[r.URL.Query().Get("done")], Problem: answer.problem,
	}
	if v != nil {
		shown.Who = v.who
	}
	var b bytes.Buffer // so that a template that fails has not answered half
	err := t.ExecuteTemplate(&b, "head", shown)
	if err == nil {
		err = t.ExecuteTemplate(&b, answer.template+".html", answer.data)
	}
	if err == nil && answer.stream == nil {
		err = t.ExecuteTemplate(&b, "foot", shown)
	}
	if err != nil {
		p.log.Error("a page could not be made", "page", answer.template, "error", err)
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who has gone is told nothing
	if answer.stream == nil {
		return
	}
	put := func(name string, data any) error {
		b.Reset()
		if err := t.ExecuteTemplate(&b, name, data); err != nil {
			return fmt.Errorf("template %s: %w", name, err)
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	}
	if err = http.NewResponseController(w).Flush(); err == nil {
		err = answer.stream(put)
	}
	if err != nil && r.Context().Err() == nil {
		_ = put("problem", problemOf(err))
	}
	_ = put("foot", shown)
}
