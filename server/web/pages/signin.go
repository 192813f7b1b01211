package pages

import (
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/metadata"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/web/session"
)

// signInForm is what the page of signing in shows.
type signInForm struct {
	To      string // where one goes from there
	Why     string // why one has to
	Problem *problem
}

// askToSignIn sends a browser to the page of signing in, and from there back to what it asked for.
func (p *Pages) askToSignIn(w http.ResponseWriter, r *http.Request, why string) {
	query := url.Values{}
	switch {
	case r.URL.Path == "/redirect": // its query has a code
		query.Set("to", r.URL.Path)
	case r.Method == http.MethodGet:
		query.Set("to", r.URL.RequestURI())
	}
	if why != "" {
		query.Set("why", why)
	}
	http.Redirect(w, r, "/signin?"+query.Encode(), http.StatusSeeOther)
}

// within is a path of these pages; "/" for all that is none, so that nobody is led elsewhere.
func within(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(to, "//") ||
		strings.ContainsAny(to, "\\\r\n\t") || strings.HasPrefix(u.Path, "/signin") {
		return "/"
	}
	return u.RequestURI()
}

func (p *Pages) showSignIn(w http.ResponseWriter, r *http.Request) {
	if !p.signIn {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	form := signInForm{To: within(r.URL.Query().Get("to"))}
	if r.URL.Query().Get("why") == "ended" {
		form.Why = "Your credential is not accepted any more."
	}
	p.write(w, r, nil, &page{title: "Sign in", template: "signin", data: form})
}

// takeSignIn lets in whom the API lets in.
func (p *Pages) takeSignIn(w http.ResponseWriter, r *http.Request) {
	form := signInForm{To: within(r.PostFormValue("to"))}
	refuse := func(problem *problem) {
		form.Problem = problem
		p.write(w, r, nil, &page{status: problem.Status, title: "Sign in", template: "signin", data: form})
	}
	token := strings.TrimSpace(r.PostFormValue("credential"))
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "bearer") {
		token = strings.TrimSpace(rest)
	}
	switch {
	case token == "":
		refuse(unfit("credential", "is required"))
		return
	case len(token) > session.MaxCredential:
		refuse(unfit("credential", "is too long for a browser: it may have 2,600 bytes"))
		return
	case strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }):
		refuse(unfit("credential", "is a token or a JWT, which has printable ASCII characters only"))
		return
	}
	conn, err := p.api(r.Context())
	if err == nil {
		ctx := metadata.AppendToOutgoingContext(r.Context(), "authorization", "Bearer "+token)
		_, err = zendeskv1.NewOperationsServiceClient(conn).GetCaller(ctx, &zendeskv1.GetCallerRequest{})
	}
	if err == nil {
		err = p.sessions.Begin(w, "Bearer "+token)
	}
	if err != nil {
		refuse(problemOf(err))
		return
	}
	http.Redirect(w, r, form.To, http.StatusSeeOther)
}

func (p *Pages) signOut(w http.ResponseWriter, r *http.Request) {
	p.sessions.End(w)
	w.Header().Set("Clear-Site-Data", `"cache"`) // going back shows no page that the browser has kept in memory
	http.Redirect(w, r, "/signin", http.StatusSeeOther)
}
