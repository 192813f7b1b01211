package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestCreateAccountViolations(t *testing.T) {
	account := func(change func(*zendeskv1.Account)) *zendeskv1.CreateAccountRequest {
		a := &zendeskv1.Account{
			Name:       "Acme",
			Url:        "acme.zendesk.com",
			ApiToken:   &zendeskv1.ApiToken{Username: "joe+vip@acme.com", Token: "t0ken"},
			OauthToken: &zendeskv1.OAuthToken{AccessToken: "acc3ss"},
		}
		change(a)
		return &zendeskv1.CreateAccountRequest{Account: a, AccountId: "acme"}
	}
	withID := func(id string) *zendeskv1.CreateAccountRequest {
		req := account(func(*zendeskv1.Account) {})
		req.AccountId = id
		return req
	}
	for _, test := range []struct {
		name string
		req  *zendeskv1.CreateAccountRequest
		want []string
	}{
		{"nothing given", &zendeskv1.CreateAccountRequest{}, []string{"account", "account.name", "account.url"}},
		{"everything wrong", &zendeskv1.CreateAccountRequest{AccountId: "Acme", Account: &zendeskv1.Account{
			AccountId: "other", Name: " ", Url: "https://evil.example", DefaultRegion: "usa",
			ApiToken: &zendeskv1.ApiToken{}, OauthToken: &zendeskv1.OAuthToken{},
		}}, []string{
			"account_id", "account.account_id", "account.name", "account.url", "account.default_region",
			"account.api_token.username", "account.api_token.token", "account.oauth_token.access_token",
		}},
		{"id starts with a digit", withID("1acme"), []string{"account_id"}},
		{"id is too long", withID("a" + strings.Repeat("b", 63)), []string{"account_id"}},
		{"id of the account differs", account(func(a *zendeskv1.Account) { a.AccountId = "other" }), []string{"account.account_id"}},
		{"name is too long", account(func(a *zendeskv1.Account) { a.Name = strings.Repeat("é", 101) }), []string{"account.name"}},
		{"name has a control character", account(func(a *zendeskv1.Account) { a.Name = "a\nb" }), []string{"account.name"}},
		{"name ends with a space", account(func(a *zendeskv1.Account) { a.Name = "a " }), []string{"account.name"}},
		{"URL with user info", account(func(a *zendeskv1.Account) { a.Url = "https://joe:pw@acme.zendesk.com" }), []string{"account.url"}},
		{"URL of another host", account(func(a *zendeskv1.Account) { a.Url = "https://acme.zendesk.com.evil.example" }), []string{"account.url"}},
		{"URL with a port", account(func(a *zendeskv1.Account) { a.Url = "https://acme.zendesk.com:8443" }), []string{"account.url"}},
		{"URL without TLS", account(func(a *zendeskv1.Account) { a.Url = "http://acme.zendesk.com" }), []string{"account.url"}},
		{"user name is no e-mail address", account(func(a *zendeskv1.Account) { a.ApiToken.Username = "joe" }), []string{"account.api_token.username"}},
		{"user name with display name", account(func(a *zendeskv1.Account) { a.ApiToken.Username = "Joe <joe@acme.com>" }), []string{"account.api_token.username"}},
		{"user name with /token", account(func(a *zendeskv1.Account) { a.ApiToken.Username = "joe@acme.com/token" }), []string{"account.api_token.username"}},
		{"user name is too long", account(func(a *zendeskv1.Account) { a.ApiToken.Username = strings.Repeat("a", 320) + "@acme.com" }), []string{"account.api_token.username"}},
		{"API token with a space", account(func(a *zendeskv1.Account) { a.ApiToken.Token = "a b" }), []string{"account.api_token.token"}},
		{"API token is too long", account(func(a *zendeskv1.Account) { a.ApiToken.Token = strings.Repeat("a", 1025) }), []string{"account.api_token.token"}},
		{"access token with a line break", account(func(a *zendeskv1.Account) { a.OauthToken.AccessToken = "a\n" }), []string{"account.oauth_token.access_token"}},
		{"access token is too long", account(func(a *zendeskv1.Account) { a.OauthToken.AccessToken = strings.Repeat("a", 8193) }), []string{"account.oauth_token.access_token"}},
		{"region in lower case", account(func(a *zendeskv1.Account) { a.DefaultRegion = "us" }), []string{"account.default_region"}},
		{"region of no country", account(func(a *zendeskv1.Account) { a.DefaultRegion = "001" }), []string{"account.default_region"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newAccount(test.req, nil)
			mustViolate(t, errorToStatus(t.Context(), err), test.want...)
		})
	}
}

func TestCreateAccount(t *testing.T) {
	s := newTestServer(t)
	create := func(id, name string) (*zendeskv1.Account, error) {
		resp, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{
			Name: name, Url: "HTTPS://Acme.Zendesk.com:443/agent/dashboard?x=1#y", CredentialState: zendeskv1.CredentialState_CREDENTIAL_STATE_OK,
		}})
		return resp.GetAccount(), err
	}
	first, err := create("first", "First account")
	must(t, err)
	if first.GetUrl() != "https://acme.zendesk.com" || !first.GetDefaultAccount() || first.GetEtag() == "" || first.GetCreateTime() == nil ||
		first.GetAuthorization() != zendeskv1.Authorization_AUTHORIZATION_NONE ||
		first.GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION {
		t.Errorf("created %v", first)
	}
	second, err := create("", "Second account")
	must(t, err)
	if !accountID.MatchString(second.GetAccountId()) || second.GetDefaultAccount() {
		t.Errorf("created %v, want a generated id and no default mark", second)
	}
	_, err = create("first", "Third account")
	mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_ALREADY_EXISTS)
	for _, name := range []string{"first ACCOUNT", "First", second.GetAccountId()} {
		_, err = create("third", name)
		mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN)
	}
}

// stored is what the tests of updates compare.
type stored struct {
	Name, Region       string
	Username, APIToken string
	AccessToken        string
	Renewable, Default bool
	Tested             bool
}

func storedOf(a store.Account) stored {
	s := stored{Name: a.Name, Region: a.DefaultRegion, Default: a.Default, Tested: !a.Check.Time.IsZero()}
	if t := a.APIToken; t != nil {
		s.Username, s.APIToken = t.Username, t.Token.Reveal()
	}
	if t := a.OAuthToken; t != nil {
		s.AccessToken, s.Renewable = t.AccessToken.Reveal(), t.Renewal != nil
	}
	return s
}

// testedAccount has all that an account can have.
func testedAccount() store.Account {
	return store.Account{
		ID: "acme", Name: "Acme", URL: "https://acme.zendesk.com", DefaultRegion: "US", Default: true,
		APIToken: &store.APIToken{Username: "joe@acme.com", Token: store.NewSecret("t0ken")},
		OAuthToken: &store.OAuthToken{
			AccessToken: store.NewSecret("acc3ss"), ClientID: "client",
			Renewal: &store.Renewal{Grant: clientCredentials, ClientSecret: store.NewSecret("s3cret")},
		},
		Check: store.Check{Time: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), OK: true},
	}
}

func TestUpdateAccountChanges(t *testing.T) {
	was := storedOf(testedAccount())
	for _, test := range []struct {
		name   string
		paths  []string // nil: no mask
		asked  *zendeskv1.Account
		before func(*store.Account)
		want   func(*stored)
	}{
		{name: "nothing", asked: &zendeskv1.Account{}},
		{
			name: "no mask takes what is populated", asked: &zendeskv1.Account{
				Name: "New", DefaultRegion: "DE", Url: "acme.zendesk.com/agent",
				ApiToken: &zendeskv1.ApiToken{Username: "ann@acme.com"}, OauthToken: &zendeskv1.OAuthToken{AccessToken: "new"},
				Authorization: zendeskv1.Authorization_AUTHORIZATION_NONE, Warnings: []*zendeskv1.AccountWarning{{Message: "x"}},
			},
			want: func(s *stored) {
				s.Name, s.Region, s.Username, s.AccessToken, s.Renewable, s.Tested = "New", "DE", "ann@acme.com", "new", false, false
			},
		},
		{
			name: "what the mask leaves out stays", paths: []string{"name"}, asked: &zendeskv1.Account{Name: "New", DefaultRegion: "DE"},
			want: func(s *stored) { s.Name = "New" },
		},
		{name: "region cleared", paths: []string{"default_region"}, asked: &zendeskv1.Account{}, want: func(s *stored) { s.Region = "" }},
		{name: "a reply sent back changes nothing", paths: []string{"name", "url", "default_account", "api_token", "oauth_token", "default_region"},
			asked: accountToProto(testedAccount(), time.Now())},
		{name: "a reply sent back without a mask changes nothing", asked: accountToProto(testedAccount(), time.Now())},
		{
			name: "default mark set", paths: []string{"default_account"}, asked: &zendeskv1.Account{DefaultAccount: true},
			before: func(a *store.Account) { a.Default = false },
		},
		{
			name: "default mark not set where there is none", paths: []string{"default_account"}, asked: &zendeskv1.Account{},
			before: func(a *store.Account) { a.Default = false }, want: func(s *stored) { s.Default = false },
		},
		{
			name: "OAuth token cleared", paths: []string{"oauth_token"}, asked: &zendeskv1.Account{},
			want: func(s *stored) { s.AccessToken, s.Renewable, s.Tested = "", false, false },
		},
		{
			name: "API token that is not in force cleared", paths: []string{"api_token"}, asked: &zendeskv1.Account{},
			want: func(s *stored) { s.Username, s.APIToken = "", "" },
		},
		{
			name: "API token in force cleared", paths: []string{"api_token"}, asked: &zendeskv1.Account{},
			before: func(a *store.Account) { a.OAuthToken = nil },
			want: func(s *stored) {
				s.Username, s.APIToken, s.AccessToken, s.Renewable, s.Tested = "", "", "", false, false
			},
		},
		{
			name: "user name alone keeps the token", paths: []string{"api_token"}, asked: &zendeskv1.Account{ApiToken: &zendeskv1.ApiToken{Username: "ann@acme.com"}},
			before: func(a *store.Account) { a.OAuthToken = nil },
			want:   func(s *stored) { s.Username, s.AccessToken, s.Renewable, s.Tested = "ann@acme.com", "", false, false },
		},
		{
			name: "API token alone keeps the user name", paths: []string{"api_token.token"}, asked: &zendeskv1.Account{ApiToken: &zendeskv1.ApiToken{Token: "new"}},
			want: func(s *stored) { s.APIToken = "new" },
		},
		{
			name: "access token", paths: []string{"oauth_token.access_token"}, asked: &zendeskv1.Account{OauthToken: &zendeskv1.OAuthToken{AccessToken: "new"}},
			want: func(s *stored) { s.AccessToken, s.Renewable, s.Tested = "new", false, false },
		},
		{
			name: "the same access token", paths: []string{"oauth_token", "oauth_token.access_token"},
			asked: &zendeskv1.Account{OauthToken: &zendeskv1.OAuthToken{AccessToken: "acc3ss"}},
		},
		{
			name: "first API token", asked: &zendeskv1.Account{ApiToken: &zendeskv1.ApiToken{Username: "ann@acme.com", Token: "new"}},
			before: func(a *store.Account) { a.APIToken = nil },
			want:   func(s *stored) { s.Username, s.APIToken = "ann@acme.com", "new" },
		},
		{
			name: "output-only paths are ignored", asked: &zendeskv1.Account{Url: "https://acme.zendesk.com"},
			paths: []string{
				"account_id", "etag", "url", "authorization", "credential_state", "warnings", "create_time", "update_time",
				"oauth_token.client_id", "oauth_token.scopes", "oauth_token.expire_time", "oauth_token.renewable",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, want := testedAccount(), was
			if test.before != nil {
				test.before(&a)
			}
			if test.want != nil {
				test.want(&want)
			}
			req := &zendeskv1.UpdateAccountRequest{Account: test.asked}
			req.Account.AccountId = "acme"
			if test.paths != nil {
				req.UpdateMask = &fieldmaskpb.FieldMask{Paths: test.paths}
			}
			change, err := newAccountChange(req, nil)
			must(t, err)
			must(t, change.apply(&a))
			if diff := cmp.Diff(want, storedOf(a)); diff != "" {
				t.Errorf("stored differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUpdateAccountViolations(t *testing.T) {
	bare := store.Account{ID: "acme", Name: "Acme", URL: "https://acme.zendesk.com"}
	for _, test := range []struct {
		name    string
		paths   []string // nil: no mask
		asked   *zendeskv1.Account
		account store.Account
		want    []string
	}{
		{"no account", nil, nil, bare, []string{"account"}},
		{"no id", nil, &zendeskv1.Account{}, bare, []string{"account.account_id"}},
		{"everything wrong", []string{"name", "created", "api_token", "*", "", "oauth_token.access_token", "default_region"}, &zendeskv1.Account{
			AccountId: "A", Etag: "é", Url: "ftp://acme.zendesk.com", ApiToken: &zendeskv1.ApiToken{Token: "ü"}, DefaultRegion: "XX",
		}, bare, []string{
			"account.account_id", "account.etag", "account.url", "account.name", "update_mask.paths[1]", "account.api_token.username",
			"account.api_token.token", "update_mask.paths[3]", "update_mask.paths[4]", "account.oauth_token.access_token", "account.default_region",
		}},
		{"empty mask", []string{}, &zendeskv1.Account{AccountId: "acme", Name: "New"}, bare, []string{"update_mask.paths"}},
		{"too many paths", make([]string, 101), &zendeskv1.Account{AccountId: "acme"}, bare, []string{"update_mask.paths"}},
		{"name cleared", []string{"name"}, &zendeskv1.Account{AccountId: "acme"}, bare, []string{"account.name"}},
		{"URL cleared", []string{"url"}, &zendeskv1.Account{AccountId: "acme"}, bare, []string{"account.url"}},
		{"user name cleared", []string{"api_token.username"}, &zendeskv1.Account{AccountId: "acme"}, testedAccount(), []string{"account.api_token.username"}},
		{"API token cleared by its value", []string{"api_token.token"}, &zendeskv1.Account{AccountId: "acme"}, testedAccount(), []string{"account.api_token.token"}},
		{"other URL", nil, &zendeskv1.Account{AccountId: "acme", Url: "other.zendesk.com"}, bare, []string{"account.url"}},
		{"default mark cleared, other URL", []string{"default_account"}, &zendeskv1.Account{AccountId: "acme", Url: "other.zendesk.com"}, testedAccount(), []string{"account.default_account", "account.url"}},
		{"user name for no token", nil, &zendeskv1.Account{AccountId: "acme", ApiToken: &zendeskv1.ApiToken{Username: "a@b.c"}}, bare, []string{"account.api_token.token"}},
		{"token for no user name", nil, &zendeskv1.Account{AccountId: "acme", ApiToken: &zendeskv1.ApiToken{Token: "t"}}, bare, []string{"account.api_token.username"}},
		{"no access token to keep", []string{"oauth_token"}, &zendeskv1.Account{AccountId: "acme", OauthToken: &zendeskv1.OAuthToken{}}, bare, []string{"account.oauth_token.access_token"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := &zendeskv1.UpdateAccountRequest{Account: test.asked}
			if test.paths != nil {
				req.UpdateMask = &fieldmaskpb.FieldMask{Paths: test.paths}
			}
			change, err := newAccountChange(req, nil)
			if err == nil {
				err = change.apply(&test.account)
			}
			mustViolate(t, errorToStatus(t.Context(), err), test.want...)
		})
	}
}

func TestUpdateAccount(t *testing.T) {
	s := newTestServer(t)
	first := s.createAccount(t, "first", zendesktest.Admin)
	s.createAccount(t, "second", zendesktest.Agent)
	update := func(a *zendeskv1.Account) (*zendeskv1.Account, error) {
		resp, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: a})
		return resp.GetAccount(), err
	}
	got := func(id string) *zendeskv1.Account {
		resp, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: id})
		must(t, err)
		return resp.GetAccount()
	}

	second, err := update(&zendeskv1.Account{AccountId: "second", DefaultAccount: true})
	must(t, err)
	if !second.GetDefaultAccount() || got("first").GetDefaultAccount() {
		t.Error("the default mark has not moved")
	}
	_, err = update(&zendeskv1.Account{AccountId: "first", Name: "New", Etag: first.GetEtag()})
	mustReason(t, err, codes.Aborted, zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH)
	renamed, err := update(&zendeskv1.Account{AccountId: "first", Name: "New", Etag: got("first").GetEtag()})
	must(t, err)
	if renamed.GetName() != "New" || renamed.GetEtag() == first.GetEtag() {
		t.Errorf("renamed to %v", renamed)
	}
	_, err = update(&zendeskv1.Account{AccountId: "first", Name: "SECOND"})
	mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN)
	_, err = update(&zendeskv1.Account{AccountId: "second", Url: "other.zendesk.com"})
	mustViolate(t, err, "account.url")

	_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: "second"})
	mustReason(t, err, codes.FailedPrecondition, zendeskv1.ErrorReason_ERROR_REASON_DEFAULT_ACCOUNT_IN_USE)
	_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: "first", Etag: first.GetEtag()})
	mustReason(t, err, codes.Aborted, zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH)
	for _, id := range []string{"first", "second"} {
		_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: id})
		must(t, err)
	}
	if again := s.createAccount(t, "third", zendesktest.Admin); !again.GetDefaultAccount() {
		t.Error("the first account after all were deleted is not the default")
	}
}

func TestAccountUnknown(t *testing.T) {
	s := newTestServer(t)
	for id, check := range map[string]func(testing.TB, error){
		"nobody": func(t testing.TB, err error) {
			info := mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND)
			if info.GetMetadata()["account_id"] != "nobody" {
				t.Errorf("metadata is %v", info.GetMetadata())
			}
		},
		"": func(t testing.TB, err error) {
			mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		},
		"../x": func(t testing.TB, err error) {
			mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		},
	} {
		_, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: id})
		check(t, err)
		_, err = s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: id, Name: "New"}})
		check(t, err)
		_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: id})
		check(t, err)
		_, err = s.accounts.RequestToken(t.Context(), &zendeskv1.RequestTokenRequest{AccountId: id, ClientId: "c", ClientSecret: "s"})
		check(t, err)
		_, err = s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: id})
		check(t, err)
	}
}

func TestListAccounts(t *testing.T) {
	s := newTestServer(t)
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("acme-%d", i)
		s.createAccount(t, id, zendesktest.Admin)
		want = append(want, id)
	}
	var got []string
	req := &zendeskv1.ListAccountsRequest{PageSize: 3}
	for pages := 1; ; pages++ {
		resp, err := s.accounts.ListAccounts(t.Context(), req)
		must(t, err)
		for _, a := range resp.GetAccounts() {
			got = append(got, a.GetAccountId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			if pages != 3 {
				t.Errorf("listed in %d pages, want 3", pages)
			}
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed ids differ (-want +got):\n%s", diff)
	}
	_, err := s.accounts.ListAccounts(t.Context(), &zendeskv1.ListAccountsRequest{PageSize: 201, PageToken: "acme"})
	mustViolate(t, err, "page_size", "page_token")
}

func TestPageToken(t *testing.T) {
	good := pageToken("acme-1")
	for token, want := range map[string]string{
		"": "", good: "acme-1", good[:len(good)-1]: "", good + "A": "", "acme-1": "", "!": "", strings.Repeat("A", 4096): "", pageToken(""): "",
	} {
		var v violations
		after := v.pageToken(token)
		if valid := token == "" || token == good; after != want || (len(v) == 0) != valid {
			t.Errorf("page token %q names %q with %d violations", token, after, len(v))
		}
	}
}

// A page token that is accepted is one that was given out.
func FuzzPageToken(f *testing.F) {
	f.Add(pageToken("acme"))
	f.Add("YWNtZQ")
	f.Fuzz(func(t *testing.T, token string) {
		var v violations
		if after := v.pageToken(token); after != "" && pageToken(after) != token {
			t.Errorf("page token %q names %q", token, after)
		}
	})
}

func TestCredentialState(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	tested := store.Check{Time: now.Add(-time.Hour), OK: true}
	apiToken := &store.APIToken{Username: "joe@acme.com"}
	renewal := &store.Renewal{Grant: clientCredentials}
	oauth := func(age, left time.Duration, renewal *store.Renewal) *store.OAuthToken {
		return &store.OAuthToken{IssueTime: now.Add(-age), ExpireTime: now.Add(left), Renewal: renewal, RequestedScopes: []string{"read", "write"}, Scopes: []string{"read", "write"}}
	}
	for _, test := range []struct {
		name     string
		account  store.Account
		auth     string
		state    string
		warnings []string
	}{
		{"no credential", store.Account{}, "NONE", "NEEDS_AUTHORIZATION", []string{"NEEDS_AUTHORIZATION"}},
		{"new API token", store.Account{APIToken: apiToken}, "API_TOKEN", "UNTESTED", []string{"API_TOKEN_RETIREMENT"}},
		{"good API token", store.Account{APIToken: apiToken, Check: tested}, "API_TOKEN", "OK", []string{"API_TOKEN_RETIREMENT"}},
		{"refused API token", store.Account{APIToken: apiToken, Check: store.Check{Time: now, Reason: "CREDENTIALS_REJECTED"}}, "API_TOKEN", "NEEDS_AUTHORIZATION", []string{"NEEDS_AUTHORIZATION", "API_TOKEN_RETIREMENT"}},
		{"pasted OAuth token", store.Account{APIToken: apiToken, OAuthToken: &store.OAuthToken{}}, "OAUTH_TOKEN", "UNTESTED", nil},
		{"good OAuth token", store.Account{OAuthToken: oauth(time.Hour, 23*time.Hour, renewal), Check: tested}, "OAUTH_TOKEN", "OK", nil},
		{"good OAuth token that nothing renews", store.Account{OAuthToken: oauth(time.Hour, 23*time.Hour, nil), Check: tested}, "OAUTH_TOKEN", "OK", []string{"TOKEN_EXPIRING"}},
		{"refresh token has ended", store.Account{OAuthToken: oauth(time.Hour, 23*time.Hour, &store.Renewal{Grant: refreshToken, RefreshExpireTime: now}), Check: tested}, "OAUTH_TOKEN", "OK", []string{"TOKEN_EXPIRING"}},
		{"a tenth of its life left", store.Account{OAuthToken: oauth(9*time.Hour, time.Hour, renewal), Check: tested}, "OAUTH_TOKEN", "EXPIRING", []string{"TOKEN_EXPIRING"}},
		{"more than a tenth of its life left", store.Account{OAuthToken: oauth(9*time.Hour, time.Hour+time.Minute, renewal), Check: tested}, "OAUTH_TOKEN", "OK", nil},
		{"a day of a long life left", store.Account{OAuthToken: oauth(99*24*time.Hour, 24*time.Hour, renewal), Check: tested}, "OAUTH_TOKEN", "EXPIRING", []string{"TOKEN_EXPIRING"}},
		{"more than a day of a long life left", store.Account{OAuthToken: oauth(99*24*time.Hour, 25*time.Hour, renewal), Check: tested}, "OAUTH_TOKEN", "OK", nil},
		{"expired", store.Account{OAuthToken: oauth(time.Hour, 0, renewal), Check: tested}, "OAUTH_TOKEN", "NEEDS_AUTHORIZATION", []string{"NEEDS_AUTHORIZATION"}},
		{"taken after its end", store.Account{OAuthToken: oauth(3*time.Hour, -2*time.Hour, renewal), Check: tested}, "OAUTH_TOKEN", "EXPIRING", []string{"TOKEN_EXPIRING"}},
		{"refused OAuth token", store.Account{OAuthToken: oauth(time.Hour, 23*time.Hour, renewal), Check: store.Check{Time: now}}, "OAUTH_TOKEN", "NEEDS_AUTHORIZATION", []string{"NEEDS_AUTHORIZATION"}},
		{"scopes missing", store.Account{OAuthToken: &store.OAuthToken{RequestedScopes: []string{"read", "write"}, Scopes: []string{"read"}}, Check: tested}, "OAUTH_TOKEN", "OK", []string{"SCOPES_MISSING"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := accountToProto(test.account, now)
			var warnings []string
			for _, w := range got.GetWarnings() {
				warnings = append(warnings, strings.TrimPrefix(w.GetCode().String(), "ACCOUNT_WARNING_CODE_"))
			}
			if got.GetAuthorization().String() != "AUTHORIZATION_"+test.auth || got.GetCredentialState().String() != "CREDENTIAL_STATE_"+test.state {
				t.Errorf("authorization %v, state %v, want %s, %s", got.GetAuthorization(), got.GetCredentialState(), test.auth, test.state)
			}
			if diff := cmp.Diff(test.warnings, warnings); diff != "" {
				t.Errorf("warnings differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPITokenWarningTime(t *testing.T) {
	account := store.Account{APIToken: &store.APIToken{}}
	for _, now := range []time.Time{apiTokenRetirement.creationEnds.Add(-time.Hour), apiTokenRetirement.end.Add(time.Hour)} {
		warnings := accountWarnings(account, now)
		if len(warnings) != 1 || !warnings[0].GetTime().AsTime().Equal(apiTokenRetirement.end) || warnings[0].GetMessage() == "" {
			t.Errorf("at %v warnings are %v", now, warnings)
		}
	}
}
