package accounts

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// told is an error as the caller of an RPC gets it.
func told(ctx context.Context, err error) error {
	info := &grpc.UnaryServerInfo{FullMethod: zendeskv1.AccountService_GetAccount_FullMethodName}
	_, err = rpc.UnaryErrors(ctx, nil, info, func(context.Context, any) (any, error) { return nil, err })
	return err
}

// mustReason checks what the caller is told and returns its ErrorInfo.
func mustReason(t testing.TB, err error, code codes.Code, reason zendeskv1.ErrorReason) *errdetails.ErrorInfo {
	t.Helper()
	info, ok := detailOf[*errdetails.ErrorInfo](err)
	if !ok || status.Code(err) != code || "ERROR_REASON_"+info.GetReason() != reason.String() || info.GetDomain() != rpc.ErrorDomain {
		t.Fatalf("error is %v with %v, want %v with %v", err, info, code, reason)
	}
	return info
}

// mustViolate checks that the caller is told of these fields, in any order.
func mustViolate(t testing.TB, err error, want ...string) {
	t.Helper()
	mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
	bad, _ := detailOf[*errdetails.BadRequest](err)
	var got []string
	for _, v := range bad.GetFieldViolations() {
		got = append(got, v.GetField())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("violated fields are %q, want %q", got, want)
	}
}

// detailOf returns the detail of a type that an error carries.
func detailOf[D any](err error) (detail D, ok bool) {
	for _, d := range status.Convert(err).Details() {
		if detail, ok = d.(D); ok {
			return detail, true
		}
	}
	return detail, false
}

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
			_, err := newAccount(test.req, "acme", nil)
			mustViolate(t, told(t.Context(), err), test.want...)
		})
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
		APIToken: &store.APIToken{Username: "joe@acme.com", Token: secret.New("t0ken")},
		OAuthToken: &store.OAuthToken{
			AccessToken: secret.New("acc3ss"), ClientID: "client",
			Renewal: &store.Renewal{Grant: credentials.GrantClientCredentials, ClientSecret: secret.New("s3cret")},
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
			change, err := newAccountChange(req, "acme", nil)
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
			change, err := newAccountChange(req, "acme", nil)
			if err == nil {
				err = change.apply(&test.account)
			}
			mustViolate(t, told(t.Context(), err), test.want...)
		})
	}
}
