package pages

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// accountFields are the fields of an account whose values a form of its change holds, by the names of its inputs, which are the API's
// paths in its requests. Those without a path in a mask are no inputs: they are there to be seen when somebody else has changed them.
// No secret is among them.
var accountFields = []struct{ name, path, label string }{
	{"account.name", "name", "Name"},
	{"account.default_region", "default_region", "Region of numbers without country code"},
	{"account.phone_fields", "phone_fields", "User fields with telephone numbers"},
	{"account.max_limit_share", "max_limit_share", "Share of the limit"},
	{"account.api_token.username", "api_token.username", "User of the API token"},
	{"account.api_access.methods", "api_access", "Methods of InvokeApi"},
	{"account.api_access.path_prefixes", "api_access", "Paths of InvokeApi"},
	{"account.api_access.on_behalf_of", "api_access", "InvokeApi in the name of end users"},
	{"account.default_account", "", "Default account"},
	{"account.authorization", "", "Authorization in force"},
	{"account.oauth_token.client_id", "", "OAuth client of the token"},
	{"account.oauth_token.scopes", "", "Scopes of the OAuth token"},
	{"account.oauth_token.expire_time", "", "End of the OAuth token"},
}

// Inputs of secrets, which are empty whenever a form is shown.
const (
	apiTokenInput    = "account.api_token.token"
	oauthTokenInput  = "account.oauth_token.access_token"
	dropAPITokenName = "drop_api_token"
)

// valuesOf are what a form of an account holds.
func valuesOf(a *zendeskv1.Account) url.Values {
	v := url.Values{}
	set := func(name string, values ...string) {
		if values = slices.DeleteFunc(values, func(s string) bool { return s == "" }); len(values) > 0 {
			v[name] = values
		}
	}
	set("account.name", a.GetName())
	set("account.default_region", a.GetDefaultRegion())
	set("account.phone_fields", strings.Join(a.GetPhoneFields(), "\n"))
	if share := a.GetMaxLimitShare(); share != 0 {
		set("account.max_limit_share", strconv.Itoa(int(share)))
	}
	set("account.api_token.username", a.GetApiToken().GetUsername())
	set("account.api_access.methods", slices.Sorted(slices.Values(a.GetApiAccess().GetMethods()))...)
	set("account.api_access.path_prefixes", strings.Join(a.GetApiAccess().GetPathPrefixes(), "\n"))
	if a.GetApiAccess().GetOnBehalfOf() {
		set("account.api_access.on_behalf_of", "yes")
	}
	if a.GetDefaultAccount() {
		set("account.default_account", "yes")
	}
	set("account.authorization", accountView{Account: a}.Uses())
	set("account.oauth_token.client_id", a.GetOauthToken().GetClientId())
	set("account.oauth_token.scopes", strings.Join(a.GetOauthToken().GetScopes(), " "))
	if end := a.GetOauthToken().GetExpireTime(); end != nil {
		set("account.oauth_token.expire_time", end.AsTime().UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return v
}

// filledIn is what a form that was sent holds, without what makes no difference: white space around texts, and empty lines.
func filledIn(form url.Values) url.Values {
	v := url.Values{}
	for name, values := range form {
		switch name {
		case "account.api_access.methods":
			v[name] = slices.Sorted(slices.Values(values))
			continue
		case "account.phone_fields", "account.api_access.path_prefixes":
			values = []string{strings.Join(lines(form.Get(name)), "\n")}
		default:
			values = []string{strings.TrimSpace(form.Get(name))}
		}
		if values[0] != "" {
			v[name] = values
		}
	}
	return v
}

// lines are the lines of a text that have something in them.
func lines(text string) (all []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// accountFrom reads an account from a form. The problem is of the page: what the API has no form for.
func accountFrom(v url.Values) (*zendeskv1.Account, *problem) {
	a := &zendeskv1.Account{
		Name: v.Get("account.name"), Url: v.Get("account.url"), DefaultRegion: v.Get("account.default_region"),
		DefaultAccount: v.Get("account.default_account") != "", PhoneFields: lines(v.Get("account.phone_fields")),
	}
	if share := v.Get("account.max_limit_share"); share != "" {
		percent, err := strconv.ParseInt(share, 10, 32)
		if err != nil {
			return nil, unfit("account.max_limit_share", "must be a whole number from 1 to 100, or empty")
		}
		a.MaxLimitShare = int32(percent)
	}
	access := &zendeskv1.ApiAccess{
		Methods: v["account.api_access.methods"], PathPrefixes: lines(v.Get("account.api_access.path_prefixes")),
		OnBehalfOf: v.Get("account.api_access.on_behalf_of") != "",
	}
	if len(access.GetMethods()) > 0 || len(access.GetPathPrefixes()) > 0 || access.GetOnBehalfOf() {
		a.ApiAccess = access
	}
	if username, token := v.Get("account.api_token.username"), v.Get(apiTokenInput); username != "" || token != "" {
		a.ApiToken = &zendeskv1.ApiToken{Username: username, Token: token}
	}
	if token := v.Get(oauthTokenInput); token != "" {
		a.OauthToken = &zendeskv1.OAuthToken{AccessToken: token}
	}
	return a, nil
}

// changedPaths are the paths in a mask of what was changed in a form, from what it was made with.
func changedPaths(was, mine url.Values) (paths []string) {
	for _, f := range accountFields {
		if f.path != "" && !slices.Equal(was[f.name], mine[f.name]) && !slices.Contains(paths, f.path) {
			paths = append(paths, f.path)
		}
	}
	if mine.Get(apiTokenInput) != "" {
		paths = append(paths, "api_token.token")
	}
	if mine.Get(dropAPITokenName) != "" {
		paths = append(slices.DeleteFunc(paths, func(path string) bool { return strings.HasPrefix(path, "api_token.") }), "api_token")
	}
	if mine.Get(oauthTokenInput) != "" {
		paths = append(paths, "oauth_token.access_token")
	}
	return paths
}

// otherChange is what somebody else has changed since a form was made.
type otherChange struct {
	Label, Was, Is string
	Mine           string // what was filled in instead; where that is another thing
	Differs        bool
}

// onTop puts what was changed in a form on top of what somebody else has changed meanwhile: what is not changed here is as it is
// there. Where both have changed a field, the form's stays, and is said to differ.
func onTop(was, theirs, mine url.Values) (merged url.Values, others []otherChange) {
	merged = url.Values{}
	for name, values := range mine {
		merged[name] = values
	}
	for _, f := range accountFields {
		if slices.Equal(was[f.name], theirs[f.name]) {
			continue
		}
		change := otherChange{Label: f.label, Was: shownAs(was[f.name]), Is: shownAs(theirs[f.name])}
		switch {
		case f.path == "":
		case slices.Equal(was[f.name], mine[f.name]):
			merged[f.name] = theirs[f.name]
		case !slices.Equal(theirs[f.name], mine[f.name]):
			change.Differs, change.Mine = true, shownAs(mine[f.name])
		}
		others = append(others, change)
	}
	return merged, others
}

func shownAs(values []string) string {
	return cmp.Or(strings.Join(strings.Split(strings.Join(values, "\n"), "\n"), ", "), "nothing")
}

// accountForm is what the forms of new accounts and of changes show.
type accountForm struct {
	Values url.Values
	Has    func(name, value string) bool // of several values

	Action  string
	Verb    string
	Back    string
	New     bool
	HasAPI  bool // the account has an API token
	Etag    string
	Was     string // what the form was made with
	Problem *problem

	Stale  bool // somebody has changed the account since
	Others []otherChange
}

// AllMethods are what the block InvokeApi can be allowed.
func (accountForm) AllMethods() []string {
	return []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
}

// page shows the form, without secrets.
func (f accountForm) page(title string) *page {
	f.Values = maps.Clone(f.Values)
	for _, secret := range []string{apiTokenInput, oauthTokenInput} {
		f.Values.Del(secret)
	}
	f.Has = func(name, value string) bool { return slices.Contains(f.Values[name], value) }
	return &page{title: title, template: "account_form", data: f, problem: f.Problem}
}

func newAccountForm(v url.Values, problem *problem) *page {
	return accountForm{Values: v, Action: "/accounts/new", Verb: "Add the account", Back: "/accounts", New: true, Problem: problem}.page("Add an account")
}

func (p *Pages) newAccount(v *visit) (*page, error) {
	if err := v.needs("admin"); err != nil {
		return nil, err
	}
	return newAccountForm(url.Values{}, nil), nil
}

func (p *Pages) createAccount(v *visit) (*page, error) {
	if err := v.readForm(); err != nil {
		return nil, err
	}
	form := filledIn(v.r.PostForm)
	a, wrong := accountFrom(form)
	if wrong != nil {
		return newAccountForm(form, wrong), nil
	}
	resp, err := v.accounts.CreateAccount(v, &zendeskv1.CreateAccountRequest{Account: a, AccountId: form.Get("account_id")})
	if err != nil {
		return newAccountForm(form, besideInputs(problemOf(err))), nil
	}
	done := "created"
	if resp.GetAccount().GetAuthorization() == zendeskv1.Authorization_AUTHORIZATION_NONE {
		done = "bare"
	}
	return goTo(accountPath(resp.GetAccount().GetAccountId(), ""), done), nil
}

// readForm reads what was sent, so that one that is too long is told.
func (v *visit) readForm() error {
	if err := v.r.ParseForm(); err != nil {
		return &problem{Status: http.StatusRequestEntityTooLarge, Title: "That does not fit", Message: "The form is too long, or cannot be read."}
	}
	return nil
}

// besideInputs has what is wrong with an id or a name stand beside its input.
func besideInputs(p *problem) *problem {
	switch p.Reason {
	case zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_ALREADY_EXISTS:
		p.Fields = map[string]string{"account_id": p.Message}
	case zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN:
		p.Fields = map[string]string{"account.name": p.Message}
	default:
	}
	return p
}

// changeForm shows what an account is, or what was filled in.
func changeForm(a *zendeskv1.Account, f accountForm) *page {
	f.Action, f.Verb, f.Back = accountPath(a.GetAccountId(), "change"), "Save", accountPath(a.GetAccountId(), "")
	f.HasAPI = a.GetApiToken() != nil
	return f.page("Change " + a.GetName())
}

func (p *Pages) changeAccount(v *visit) (*page, error) {
	a, err := v.accountOfAdmin()
	if err != nil {
		return nil, err
	}
	values := valuesOf(a)
	return changeForm(a, accountForm{Values: values, Was: values.Encode(), Etag: a.GetEtag()}), nil
}

// updateAccount changes what was changed in the form, and nothing else, if the account is what the form was made with.
func (p *Pages) updateAccount(v *visit) (*page, error) {
	if err := v.readForm(); err != nil {
		return nil, err
	}
	current, err := v.accountOfAdmin()
	if err != nil {
		return nil, err
	}
	form := filledIn(v.r.PostForm)
	was, err := url.ParseQuery(form.Get("was"))
	if err != nil {
		was = url.Values{}
	}
	shown := accountForm{Values: form, Was: form.Get("was"), Etag: form.Get("etag")}
	a, wrong := accountFrom(form)
	if wrong != nil {
		shown.Problem = wrong
		return changeForm(current, shown), nil
	}
	paths := changedPaths(was, form)
	if len(paths) == 0 {
		return goTo(accountPath(current.GetAccountId(), ""), "unchanged"), nil
	}
	if slices.Contains(paths, "api_token") {
		a.ApiToken = nil
	}
	a.AccountId, a.Etag = current.GetAccountId(), form.Get("etag")
	_, err = v.accounts.UpdateAccount(v, &zendeskv1.UpdateAccountRequest{Account: a, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
	if err == nil {
		return goTo(accountPath(current.GetAccountId(), ""), "changed"), nil
	}
	shown.Problem = besideInputs(problemOf(err))
	if shown.Problem.Reason == zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH {
		if current, err = v.accountOfAdmin(); err != nil {
			return nil, err
		}
		theirs := valuesOf(current)
		shown.Values, shown.Others = onTop(was, theirs, form)
		shown.Was, shown.Etag, shown.Stale = theirs.Encode(), current.GetEtag(), true
		shown.Problem.Message = "Somebody has changed the account since this form was made. Nothing of yours is stored yet."
	}
	return changeForm(current, shown), nil
}
