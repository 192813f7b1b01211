package pages

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

func (p *Pages) serveAccounts() {
	p.handle("GET /accounts", p.listAccounts)
	p.handle("GET /accounts/new", p.newAccount)
	p.handle("POST /accounts/new", p.createAccount)
	p.handle("GET /accounts/{id}", p.showAccount)
	p.handle("GET /accounts/{id}/{$}", p.showAccount)
	p.handle("GET /accounts/{id}/change", p.changeAccount)
	p.handle("POST /accounts/{id}/change", p.updateAccount)
	p.handle("POST /accounts/{id}/default", p.makeDefault)
	p.handle("GET /accounts/{id}/clear", p.askToClear)
	p.handle("POST /accounts/{id}/clear", p.clearOAuthToken)
	p.handle("GET /accounts/{id}/delete", p.askToDelete)
	p.handle("POST /accounts/{id}/delete", p.deleteAccount)
	p.handle("GET /accounts/{id}/test", p.askToTest)
	p.handle("POST /accounts/{id}/test", p.testConnection)
	p.handle("GET /accounts/{id}/token", p.askForToken)
	p.handle("POST /accounts/{id}/token", p.requestToken)
	p.handle("GET /accounts/{id}/agree", p.askToAgree)
	p.handle("GET /accounts/{id}/authorize", p.leaveForZendesk)
	p.handle("GET /redirect", p.receiveRedirect)
}

// accountPath is the address of an account's page, or of one below it. An account may have the id new, whose page stands elsewhere
// than the form for new ones.
func accountPath(id, below string) string {
	path := "/accounts/" + url.PathEscape(id)
	if below != "" || id == "new" {
		path += "/" + below
	}
	return path
}

// accountView is an account as pages show it.
type accountView struct {
	*zendeskv1.Account
	Admin bool // the visitor may change it
	Ops   bool // the visitor may look at its activities
}

func (v *visit) view(a *zendeskv1.Account) accountView {
	return accountView{a, v.may("admin"), v.may("ops")}
}

// At is the address of a page of the account; empty: of itself.
func (a accountView) At(below string) string { return accountPath(a.GetAccountId(), below) }

// State is how the account is, in a word.
func (a accountView) State() tag {
	credential := a.GetCredentialState()
	switch state := a.GetHealth().GetState(); {
	case state == zendeskv1.HealthState_HEALTH_STATE_NEEDS_AUTHORIZATION, credential == zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION:
		return tag{"needs authorization", "bad"}
	case state == zendeskv1.HealthState_HEALTH_STATE_FAILING:
		return tag{"failing", "bad"}
	case state == zendeskv1.HealthState_HEALTH_STATE_LIMITED:
		return tag{"throttled", "warn"}
	case credential == zendeskv1.CredentialState_CREDENTIAL_STATE_EXPIRING:
		return tag{"expiring", "warn"}
	case credential == zendeskv1.CredentialState_CREDENTIAL_STATE_UNTESTED:
		return tag{"untested", ""}
	case state == zendeskv1.HealthState_HEALTH_STATE_HEALTHY:
		return tag{"well", "good"}
	case state != zendeskv1.HealthState_HEALTH_STATE_UNKNOWN && state != zendeskv1.HealthState_HEALTH_STATE_UNSPECIFIED:
		return tag{words("HEALTH_STATE", state), ""}
	case credential == zendeskv1.CredentialState_CREDENTIAL_STATE_OK:
		return tag{"authorized", "good"}
	default:
		return tag{"not known", ""}
	}
}

// Means says what the state means, and what to do.
func (a accountView) Means() string {
	switch a.State().Text {
	case "needs authorization":
		return "Somebody has to act: what to look at says how. Until then Zendesk does not let the account in."
	case "failing":
		return "Zendesk does not answer usably, or only partly. It ends by itself, once what is the matter has ended; a test says which part it is."
	case "throttled":
		return "The Zendesk's limit is used up. It ends by itself; if it comes again and again, find out who else uses the limit."
	case "expiring":
		return "The credential in force ends soon, unless somebody acts."
	case "untested":
		return "Zendesk has not been asked with the credential yet: test the connection."
	case "well":
		return "Zendesk answers."
	case "authorized":
		return "Zendesk accepted the credential when it was last asked with it. No other request is known of: a test finds out more."
	case "not known":
		return "Zendesk has not answered this account for a day, or since the service started. A test finds out."
	}
	return ""
}

// Uses is which authorization is in force.
func (a accountView) Uses() string {
	switch a.GetAuthorization() {
	case zendeskv1.Authorization_AUTHORIZATION_API_TOKEN:
		return "API token"
	case zendeskv1.Authorization_AUTHORIZATION_OAUTH_TOKEN:
		return "OAuth token"
	case zendeskv1.Authorization_AUTHORIZATION_NONE, zendeskv1.Authorization_AUTHORIZATION_UNSPECIFIED:
		return "none"
	}
	return words("AUTHORIZATION", a.GetAuthorization())
}

// warningView is what to look at, with a word for it.
type warningView struct {
	*zendeskv1.AccountWarning
	Word string
}

// ToLookAt are the account's warnings.
func (a accountView) ToLookAt() (all []warningView) {
	for _, w := range a.GetWarnings() {
		word, known := warningWords[w.GetCode()]
		if !known {
			word = words("ACCOUNT_WARNING_CODE", w.GetCode())
		}
		all = append(all, warningView{w, word})
	}
	return all
}

var warningWords = map[zendeskv1.AccountWarningCode]string{
	zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_API_TOKEN_RETIREMENT: "API tokens end",
	zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_TOKEN_EXPIRING:       "The token expires",
	zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_NEEDS_AUTHORIZATION:  "Needs authorization",
	zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_SCOPES_MISSING:       "Scopes are missing",
	zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_NOT_AN_AGENT:         "Not an agent any more",
}

// Methods are what the block InvokeApi may do.
func (a accountView) Methods() string {
	if methods := a.GetApiAccess().GetMethods(); len(methods) > 0 {
		return strings.Join(methods, ", ")
	}
	return "GET, HEAD"
}

// accountsPage is what the list shows.
type accountsPage struct {
	Accounts []accountView
	OnlyIll  bool
	First    bool   // it is the first page
	Next     string // where the next one is; empty: there is none
	Admin    bool
}

// accountsOfPage is how many accounts a page lists.
const accountsOfPage = 50

func (p *Pages) listAccounts(v *visit) (*page, error) {
	query := v.r.URL.Query()
	token, onlyIll := query.Get("page"), query.Get("ill") != ""
	resp, err := v.accounts.ListAccounts(v, &zendeskv1.ListAccountsRequest{PageSize: accountsOfPage, PageToken: token, OnlyIll: onlyIll})
	if err != nil {
		return nil, err
	}
	list := accountsPage{OnlyIll: onlyIll, First: token == "", Admin: v.may("admin")}
	for _, a := range resp.GetAccounts() {
		list.Accounts = append(list.Accounts, v.view(a))
	}
	if resp.GetNextPageToken() != "" {
		next := url.Values{"page": {resp.GetNextPageToken()}}
		if onlyIll {
			next.Set("ill", "1")
		}
		list.Next = "/accounts?" + next.Encode()
	}
	return &page{title: "Accounts", template: "accounts", data: list}, nil
}

// account loads the account that a request is about.
func (v *visit) account() (*zendeskv1.Account, error) {
	resp, err := v.accounts.GetAccount(v, &zendeskv1.GetAccountRequest{AccountId: v.r.PathValue("id")})
	return resp.GetAccount(), err
}

// accountOfAdmin loads the account that a form is about which only an administrator can send.
func (v *visit) accountOfAdmin() (*zendeskv1.Account, error) {
	a, err := v.account()
	if err == nil {
		err = v.needs("admin")
	}
	return a, err
}

// needs refuses forms to those whom the API would refuse what they send.
func (v *visit) needs(role string) error {
	if v.may(role) {
		return nil
	}
	return &problem{
		Status: http.StatusForbidden, Title: "Not allowed",
		Message: fmt.Sprintf("This needs the role %s, which you do not have.", role),
	}
}

func (p *Pages) showAccount(v *visit) (*page, error) {
	a, err := v.account()
	if err != nil {
		return nil, err
	}
	return p.accountPage(v, a, nil), nil
}

// accountPage shows an account, and what went wrong with it.
func (p *Pages) accountPage(v *visit, a *zendeskv1.Account, problem *problem) *page {
	return &page{title: a.GetName(), template: "account", problem: problem, data: struct {
		accountView
		Granted bool // a token was just requested
	}{v.view(a), problem == nil && v.r.URL.Query().Get("done") == "token"}}
}

// orShow shows the account with what went wrong when a button of its page was pressed.
func (p *Pages) orShow(v *visit, failed error) (*page, error) {
	a, err := v.account()
	if err != nil {
		return nil, failed
	}
	return p.accountPage(v, a, problemOf(failed)), nil
}

func (p *Pages) makeDefault(v *visit) (*page, error) {
	id := v.r.PathValue("id")
	_, err := v.accounts.UpdateAccount(v, &zendeskv1.UpdateAccountRequest{
		Account: &zendeskv1.Account{AccountId: id, DefaultAccount: true}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"default_account"}},
	})
	if err != nil {
		return p.orShow(v, err)
	}
	return goTo(accountPath(id, ""), "default"), nil
}

// confirmation asks whether something that cannot be taken back is to be done.
type confirmation struct {
	accountView
	Action string // where the answer goes
	Verb   string // what the button says
}

func (p *Pages) askToClear(v *visit) (*page, error) {
	a, err := v.accountOfAdmin()
	if err != nil {
		return nil, err
	}
	return p.clearPage(v, a, nil), nil
}

func (p *Pages) clearPage(v *visit, a *zendeskv1.Account, problem *problem) *page {
	data := confirmation{v.view(a), accountPath(a.GetAccountId(), "clear"), "Clear the OAuth token"}
	return &page{title: "Clear the OAuth token?", template: "account_clear", data: data, problem: problem}
}

func (p *Pages) clearOAuthToken(v *visit) (*page, error) {
	id := v.r.PathValue("id")
	_, err := v.accounts.UpdateAccount(v, &zendeskv1.UpdateAccountRequest{
		Account:    &zendeskv1.Account{AccountId: id, Etag: v.r.PostFormValue("etag")},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"oauth_token"}},
	})
	return p.confirmed(v, err, p.clearPage, goTo(accountPath(id, ""), "cleared"))
}

func (p *Pages) askToDelete(v *visit) (*page, error) {
	a, err := v.accountOfAdmin()
	if err != nil {
		return nil, err
	}
	return p.deletePage(v, a, nil), nil
}

func (p *Pages) deletePage(v *visit, a *zendeskv1.Account, problem *problem) *page {
	data := confirmation{v.view(a), accountPath(a.GetAccountId(), "delete"), "Delete the account"}
	return &page{title: "Delete the account?", template: "account_delete", data: data, problem: problem}
}

func (p *Pages) deleteAccount(v *visit) (*page, error) {
	_, err := v.accounts.DeleteAccount(v, &zendeskv1.DeleteAccountRequest{AccountId: v.r.PathValue("id"), Etag: v.r.PostFormValue("etag")})
	return p.confirmed(v, err, p.deletePage, goTo("/accounts", "deleted"))
}

// confirmed goes on after what was confirmed was done. Where it was not, it is asked again, about the account as it is now.
func (p *Pages) confirmed(v *visit, failed error, ask func(*visit, *zendeskv1.Account, *problem) *page, done *page) (*page, error) {
	if failed == nil {
		return done, nil
	}
	a, err := v.accountOfAdmin()
	if err != nil {
		return nil, failed
	}
	problem := problemOf(failed)
	if problem.Reason == zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH {
		problem.Message = "Somebody has changed the account since you were asked. What is said here is how it is now: look, and answer again."
	}
	return ask(v, a, problem), nil
}
