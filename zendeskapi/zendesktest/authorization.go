package zendesktest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// codeLife is how long an authorization code can be redeemed.
const codeLife = 120 * time.Second

// oauthCode is an authorization code not redeemed yet.
type oauthCode struct {
	Grant
	userID    int64
	expiresAt time.Time
}

// Grant is what a person consents to in the browser. The zero value is
// [Admin] granting the seeded client "read write", without PKCE.
type Grant struct {
	ClientID        string   // default [ClientID]
	RedirectURI     string   // default the client's first; must be one of the client's
	Email           string   // of the person; default [Admin]'s
	Scopes          []string // default read, write
	Challenge       string   // PKCE code challenge; empty = no PKCE
	ChallengeMethod string   // "S256", where there is a challenge
}

// IssueCode gives the authorization code that Zendesk would send to the
// redirect URI. It can be redeemed once, within 120 seconds. An unknown client,
// person or redirect URI is an error, and so is what PKCE is not given with.
func (z *Zendesk) IssueCode(g Grant) (string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	g.ClientID = cmp.Or(g.ClientID, ClientID)
	client, found := z.clients[g.ClientID]
	if !found {
		return "", fmt.Errorf("client %q is unknown", g.ClientID)
	}
	g.RedirectURI = cmp.Or(g.RedirectURI, client.redirectURIs[0])
	if !slices.Contains(client.redirectURIs, g.RedirectURI) {
		return "", fmt.Errorf("redirect URI %q is not the client's", g.RedirectURI)
	}
	g.Email = cmp.Or(g.Email, Admin.Email)
	u, found := z.userByEmail(g.Email)
	if !found || u.Suspended || !u.Active {
		return "", fmt.Errorf("user %q is unknown, or may not sign in", g.Email)
	}
	if len(g.Scopes) == 0 {
		g.Scopes = []string{"read", "write"}
	}
	if scope := unknownScope(g.Scopes); scope != "" {
		return "", fmt.Errorf("scope %q is unknown", scope)
	}
	if why := client.pkceFault(g.Challenge, g.ChallengeMethod); why != "" {
		return "", fmt.Errorf("PKCE: %s", why)
	}
	code := z.random()
	z.codes[code] = oauthCode{Grant: g, userID: u.ID, expiresAt: z.now().Add(codeLife)}
	return code, nil
}

// challengeOfS256 is what a SHA-256 looks like in base64url.
var challengeOfS256 = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// pkceFault says what is wrong with a code challenge; empty: nothing.
func (c oauthClient) pkceFault(challenge, method string) string {
	switch {
	case challenge == "" && method != "":
		return "code_challenge_method needs a code_challenge."
	case challenge == "" && c.public():
		return "A public client needs a code_challenge."
	case challenge == "":
		return ""
	case method != "S256":
		return "code_challenge_method must be S256."
	case !challengeOfS256.MatchString(challenge):
		return "code_challenge is not one of S256."
	}
	return ""
}

// verified checks the PKCE verifier (RFC 7636, section 4.6).
func (c oauthCode) verified(verifier string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return c.Challenge == "" || base64.RawURLEncoding.EncodeToString(sum[:]) == c.Challenge
}

// asking are the parameters of the authorization page, in the order of its form.
var asking = []string{"response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"}

// asked is who asks a person to agree, and to what.
type asked struct {
	values url.Values
	client oauthClient
}

// scopes are those that are asked for.
func (a asked) scopes() []string { return strings.Fields(a.values.Get("scope")) }

// refused is the error of RFC 6749, 4.1.2.1, that the client is told before
// anybody is asked; empty: the person decides.
func (a asked) refused() (code, why string) {
	scopes := a.scopes()
	switch {
	case a.values.Get("response_type") != "code":
		return "unsupported_response_type", "The authorization server does not support this response type."
	case len(scopes) == 0 || unknownScope(scopes) != "" || len(a.client.allowed) > 0 && !contains(a.client.allowed, scopes):
		return "invalid_scope", "The requested scope is invalid, unknown, or malformed."
	}
	if why := a.client.pkceFault(a.values.Get("code_challenge"), a.values.Get("code_challenge_method")); why != "" {
		return "invalid_request", why
	}
	return "", ""
}

// back sends the browser to the client, with these parameters and the state.
func (a asked) back(parameters url.Values) *reply {
	target, err := url.Parse(a.values.Get("redirect_uri"))
	if err != nil { // the client would not have it
		return invalidAuthorization()
	}
	query := target.Query()
	for name := range parameters {
		query.Set(name, parameters.Get(name))
	}
	if a.values.Has("state") {
		query.Set("state", a.values.Get("state"))
	}
	target.RawQuery = query.Encode()
	return &reply{status: http.StatusFound, header: http.Header{"Location": {target.String()}, "Cache-Control": {"no-store"}}}
}

func (a asked) backWithError(code, why string) *reply {
	return a.back(url.Values{"error": {code}, "error_description": {why}})
}

// asks reads who asks. The second result is the page for who names a client or
// a redirect URI that is not known, or says something twice: they are sent
// nowhere (RFC 6749, 3.1 and 4.1.2.1).
func (z *Zendesk) asks(values url.Values) (asked, *reply) {
	z.mu.Lock()
	defer z.mu.Unlock()
	client, found := z.clients[values.Get("client_id")]
	if !found || !slices.Contains(client.redirectURIs, values.Get("redirect_uri")) {
		return asked{}, invalidAuthorization()
	}
	for _, name := range asking {
		if len(values[name]) > 1 {
			return asked{}, invalidAuthorization()
		}
	}
	return asked{values, client}, nil
}

// serveAuthorization is GET /oauth/authorizations/new: the page on which a
// person agrees. Zendesk has them sign in before; here they say who they are.
func (z *Zendesk) serveAuthorization(w http.ResponseWriter, r *http.Request) {
	a, refused := z.asks(r.URL.Query())
	if refused == nil {
		if code, why := a.refused(); code != "" {
			refused = a.backWithError(code, why)
		}
	}
	if refused != nil {
		refused.write(w)
		return
	}
	z.authorizationPage(a).write(w)
}

// serveAuthorized takes the form of the authorization page: its parameters, the
// email of the person, and their answer, allow or deny.
func (z *Zendesk) serveAuthorized(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		invalidAuthorization().write(w)
		return
	}
	a, refused := z.asks(r.PostForm)
	if refused == nil {
		refused = z.decided(a)
	}
	refused.write(w)
}

// decided sends the browser back with what the person has decided.
func (z *Zendesk) decided(a asked) *reply {
	if code, why := a.refused(); code != "" {
		return a.backWithError(code, why)
	}
	switch a.values.Get("answer") {
	case "allow":
		code, err := z.IssueCode(Grant{
			ClientID: a.values.Get("client_id"), RedirectURI: a.values.Get("redirect_uri"), Email: a.values.Get("email"),
			Scopes: a.scopes(), Challenge: a.values.Get("code_challenge"), ChallengeMethod: a.values.Get("code_challenge_method"),
		})
		if err != nil {
			return page(http.StatusBadRequest, "Nobody agreed", "There is no such person, or they may not sign in. Go back and choose another one.")
		}
		return a.back(url.Values{"code": {code}})
	case "deny":
		return a.backWithError("access_denied", "The end-user or authorization server denied the request.")
	}
	return page(http.StatusBadRequest, "Nobody answered", "The answer is neither allow nor deny. Go back and choose one.")
}

// authorizationPage is the form on which a person answers.
func (z *Zendesk) authorizationPage(a asked) *reply {
	type field struct{ Name, Value string }
	type person struct{ Name, Role, Email string }
	shown := struct {
		Client, RedirectURI string
		Scopes              []field
		Hidden              []field
		People              []person
	}{Client: a.client.name, RedirectURI: a.values.Get("redirect_uri")}
	for _, scope := range a.scopes() {
		shown.Scopes = append(shown.Scopes, field{scope, scopeWords(scope)})
	}
	for _, name := range asking {
		if a.values.Has(name) {
			shown.Hidden = append(shown.Hidden, field{name, a.values.Get(name)})
		}
	}
	z.mu.Lock()
	for u := range z.users.all() {
		if u.Role != roleEndUser && u.Active && !u.Suspended && u.Email != nil {
			shown.People = append(shown.People, person{u.Name, u.Role, *u.Email})
		}
	}
	z.mu.Unlock()
	return hypertext(http.StatusOK, "agree", shown)
}

// scopeWords say what a scope lets a client do.
func scopeWords(scope string) string {
	resource, act, of := strings.Cut(scope, ":")
	switch {
	case of && act == "read":
		return "read " + strings.ReplaceAll(resource, "_", " ")
	case of:
		return "create, change and delete " + strings.ReplaceAll(resource, "_", " ")
	case scope == "read":
		return "read all that the person can read"
	case scope == "write":
		return "create, change and delete all that the person can"
	}
	return "act as end users"
}

// invalidAuthorization is the page for who is not sent back.
func invalidAuthorization() *reply {
	return page(http.StatusBadRequest, "Invalid Authorization Request", "No such client exists, or it has another redirect URL, or something is said twice.")
}

// page is one that says something.
func page(status int, title, words string) *reply {
	return hypertext(status, "words", struct{ Title, Words string }{title, words})
}

// hypertext is a page that runs nothing and loads nothing, not even an icon,
// which would count as a request. Its policy says nothing of forms: browsers
// would hold it against the redirect that answers one.
func hypertext(status int, name string, data any) *reply {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, data); err != nil {
		return text(http.StatusInternalServerError, err.Error())
	}
	r := text(status, body.String())
	r.header.Set("Content-Type", "text/html; charset=utf-8")
	r.header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'")
	r.header.Set("Referrer-Policy", "no-referrer")
	r.header.Set("X-Content-Type-Options", "nosniff")
	r.header.Set("Cache-Control", "no-store")
	return r
}

var pages = template.Must(template.New("pages").Parse(`
{{- define "head" -}}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.}} – Zendesk sandbox</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; padding: 1rem; }
main { max-width: 34rem; margin: 0 auto; overflow-wrap: anywhere; }
label { display: block; font-weight: 600; }
select, button { font: inherit; padding: .5rem; max-width: 100%; }
button { margin: 1rem .5rem 0 0; padding: .5rem 1.5rem; }
</style>
</head>
<body>
<main>
<p>Zendesk sandbox: nobody signs in here, and nothing is real.</p>
<h1>{{.}}</h1>
{{end -}}

{{- define "agree" -}}
{{template "head" (printf "Let %s use your account?" .Client)}}<p>It asks to:</p>
<ul>
{{range .Scopes}}<li>{{.Value}} (<code>{{.Name}}</code>)</li>
{{end}}</ul>
<p>Your answer goes to <code>{{.RedirectURI}}</code></p>
<form method="post" action="/oauth/authorizations">
{{range .Hidden}}<input type="hidden" name="{{.Name}}" value="{{.Value}}">
{{end}}<label for="email">Answer as</label>
<select id="email" name="email">
{{range .People}}<option value="{{.Email}}">{{.Name}}, {{.Role}}</option>
{{end}}</select>
<div>
<button name="answer" value="allow">Allow</button>
<button name="answer" value="deny">Deny</button>
</div>
</form>
</main>
</body>
</html>
{{end -}}

{{- define "words" -}}
{{template "head" .Title}}<p>{{.Words}}</p>
</main>
</body>
</html>
{{end -}}
`))
