package pages

import (
	"net/url"
	"strings"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// Grants of the page of token requests, by their names in its address and in its form.
const (
	clientCredentials = "client_credentials"
	authorizationCode = "authorization_code"
	passwordGrant     = "password"
)

// tokenForm is what the page of token requests shows. Its inputs are named for the API's paths in the request.
type tokenForm struct {
	accountView
	Grant       string
	Values      url.Values
	RedirectURI string
	Problem     *problem
}

// Zendesk is what Zendesk said, of a request that it refused.
func (f tokenForm) Zendesk() string {
	if f.Problem == nil {
		return ""
	}
	said := f.Problem.Metadata
	return strings.Trim(said["zendesk_error"]+": "+said["zendesk_error_description"], ": ")
}

// Said is a part of what is told of a refusal.
func (f tokenForm) Said(key string) string {
	if f.Problem == nil {
		return ""
	}
	return f.Problem.Metadata[key]
}

func (p *Pages) redirectURI() string { return strings.TrimSuffix(p.url, "/") + "/redirect" }

func (p *Pages) askForToken(v *visit) (*page, error) {
	a, err := v.accountOfAdmin()
	if err != nil {
		return nil, err
	}
	grant := v.r.URL.Query().Get("grant")
	var told refusal
	if p.sessions.Kept(v.r, refusalCookie, &told) && told.AccountID == a.GetAccountId() {
		p.sessions.Take(v.w, v.r, refusalCookie, &told)
		values := url.Values{"client_id": {told.ClientID}, "scopes": {strings.Join(told.Scopes, " ")}}
		return p.tokenPage(v, a, authorizationCode, values, &told.Problem), nil
	}
	return p.tokenPage(v, a, grant, url.Values{}, nil), nil
}

// tokenPage shows the form of a grant. No secret is in it.
func (p *Pages) tokenPage(v *visit, a *zendeskv1.Account, grant string, values url.Values, problem *problem) *page {
	if grant != authorizationCode && grant != passwordGrant {
		grant = clientCredentials
	}
	shown := url.Values{}
	for _, name := range []string{"client_id", "scopes", "password.username"} {
		shown.Set(name, values.Get(name))
	}
	form := tokenForm{v.view(a), grant, shown, p.redirectURI(), problem}
	return &page{title: "Request a token for " + a.GetName(), template: "token", data: form, problem: problem}
}

// tokenRequest reads what a form asks for, without its grant.
func tokenRequest(accountID string, form url.Values) *zendeskv1.RequestTokenRequest {
	return &zendeskv1.RequestTokenRequest{
		AccountId: accountID, ClientId: strings.TrimSpace(form.Get("client_id")), ClientSecret: strings.TrimSpace(form.Get("client_secret")),
		Scopes: strings.FieldsFunc(form.Get("scopes"), func(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t' }),
	}
}

func (p *Pages) requestToken(v *visit) (*page, error) {
	if err := v.readForm(); err != nil {
		return nil, err
	}
	a, err := v.accountOfAdmin()
	if err != nil {
		return nil, err
	}
	form := v.r.PostForm
	req, grant := tokenRequest(a.GetAccountId(), form), form.Get("grant")
	switch grant {
	case authorizationCode:
		return p.prepareFlow(v, a, req, form)
	case passwordGrant:
		req.Grant = &zendeskv1.RequestTokenRequest_Password{Password: &zendeskv1.PasswordGrant{
			Username: strings.TrimSpace(form.Get("password.username")), Password: form.Get("password.password"),
		}}
	case clientCredentials:
		req.Grant = &zendeskv1.RequestTokenRequest_ClientCredentials{ClientCredentials: &zendeskv1.ClientCredentialsGrant{}}
	default:
		return p.tokenPage(v, a, grant, form, unfit("grant", "is none of client_credentials, authorization_code and password")), nil
	}
	if _, err := v.accounts.RequestToken(v, req); err != nil {
		return p.tokenPage(v, a, grant, form, problemOf(err)), nil
	}
	return goTo(accountPath(a.GetAccountId(), ""), "token"), nil
}

// refusal is why a token was not got after a redirect, kept until its page shows it: the page has another address, without the code.
type refusal struct {
	AccountID string
	ClientID  string
	Scopes    []string
	Problem   problem
}

const (
	refusalCookie = "refusal"
	refusalLife   = 2 * time.Minute
)

// refused leads from the redirect to the page of token requests, where it is said what went wrong.
func (p *Pages) refused(v *visit, flow *pendingFlow, wrong *problem) *page {
	told := refusal{flow.AccountID, flow.Flow.ClientID, flow.Flow.Scopes, problem{
		Status: wrong.Status, Title: wrong.Title, Message: cut(wrong.Message, 600), Reason: wrong.Reason, Metadata: map[string]string{},
	}}
	for _, key := range []string{"zendesk_error", "zendesk_error_description", "hint", "zendesk_request_id"} {
		if said := wrong.Metadata[key]; said != "" {
			told.Problem.Metadata[key] = cut(said, 200)
		}
	}
	if len(strings.Join(told.Scopes, " ")) > 300 {
		told.Scopes = nil
	}
	if err := p.sessions.Keep(v.w, refusalCookie, told, refusalLife); err != nil {
		p.log.Error("why a token was refused could not be kept", "error", err)
	}
	return goTo(accountPath(flow.AccountID, "token")+"?grant="+authorizationCode, "")
}

// cut is the beginning of a text, of so many bytes at most.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
