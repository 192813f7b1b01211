// Package accounts implements AccountService: it checks what administrators say of an account, decides what an update may
// change, and words accounts, tests and refusals for them.
//
// Secrets go in and never come out: no message says more of a credential than which rule it broke. How tokens are got and
// accounts tested is package credentials'.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/writer"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Config is what the service depends on. All but AllowHosts is required.
type Config struct {
	Store       *store.Store
	Credentials *credentials.Keeper
	Writer      *writer.Writer
	Audit       *audit.Log
	AllowHosts  []string // that account URLs may name beside *.zendesk.com, as of zendeskapi.ParseOrigin
	Now         func() time.Time
}

// Service implements AccountService.
type Service struct {
	zendeskv1.UnimplementedAccountServiceServer
	store       *store.Store
	credentials *credentials.Keeper
	writer      *writer.Writer
	audit       *audit.Log
	allowHosts  []string
	now         func() time.Time
}

// New makes the service.
func New(c Config) *Service {
	return &Service{store: c.Store, credentials: c.Credentials, writer: c.Writer, audit: c.Audit, allowHosts: c.AllowHosts, now: c.Now}
}

// CreateAccount implements AccountService.
func (s *Service) CreateAccount(ctx context.Context, req *zendeskv1.CreateAccountRequest) (*zendeskv1.CreateAccountResponse, error) {
	account, err := newAccount(req, rpc.Tenant(ctx), s.allowHosts)
	if err != nil {
		return nil, err
	}
	logAccount(ctx, account.ID)
	created, err := s.store.CreateAccount(ctx, rpc.Tenant(ctx), account,
		s.note(ctx, "account created", slog.String("account_id", account.ID), slog.String("url", account.URL)))
	if err != nil {
		return nil, rpc.AccountError(err, account.ID)
	}
	s.changed(ctx, created)
	return &zendeskv1.CreateAccountResponse{Account: accountToProto(created, s.now())}, nil
}

// GetAccount implements AccountService.
func (s *Service) GetAccount(ctx context.Context, req *zendeskv1.GetAccountRequest) (*zendeskv1.GetAccountResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	seen := s.seen(ctx, account)
	if err := s.countActivities(ctx, seen); err != nil {
		return nil, err
	}
	return &zendeskv1.GetAccountResponse{Account: seen}, nil
}

// account loads the account that a request names in its field account_id.
func (s *Service) account(ctx context.Context, id string) (store.Account, error) {
	var v violations
	v.AccountID("account_id", id)
	if err := v.Err(); err != nil {
		return store.Account{}, err
	}
	logAccount(ctx, id)
	account, err := s.store.Account(ctx, rpc.Tenant(ctx), id)
	if err != nil {
		return store.Account{}, rpc.AccountError(err, id)
	}
	return account, nil
}

// ListAccounts implements AccountService.
func (s *Service) ListAccounts(ctx context.Context, req *zendeskv1.ListAccountsRequest) (*zendeskv1.ListAccountsResponse, error) {
	var v violations
	size := v.PageSize(req.GetPageSize())
	after := v.PageToken(req.GetPageToken())
	if err := v.Err(); err != nil {
		return nil, err
	}
	resp, err := s.pageOfAccounts(ctx, after, size, req.GetOnlyIll())
	if err != nil {
		return nil, err
	}
	if err := s.countActivities(ctx, resp.GetAccounts()...); err != nil {
		return nil, err
	}
	return resp, nil
}

// accountsLookedAt is how many accounts are looked at for a page, at most, unless they fill it.
const accountsLookedAt = 1000

// pageOfAccounts lists accounts from behind an id: as many as were asked for and as a message has room for, only those that
// are ill if so wished. One more is looked for, so that no page but an only one is empty.
func (s *Service) pageOfAccounts(ctx context.Context, after string, size int, onlyIll bool) (*zendeskv1.ListAccountsResponse, error) {
	resp, bytes := &zendeskv1.ListAccountsResponse{}, 0
	for looked := 0; looked < accountsLookedAt; {
		some := size + 1
		if onlyIll {
			some = rpc.MaxPageSize
		}
		accounts, more, err := s.store.ListAccounts(ctx, rpc.Tenant(ctx), after, some)
		if err != nil {
			return nil, err
		}
		for _, account := range accounts {
			seen := s.seen(ctx, account)
			after = account.ID
			if onlyIll && !isIll(seen.GetHealth().GetState()) {
				continue
			}
			bytes += proto.Size(seen)
			if n := len(resp.Accounts); n == size || n > 0 && bytes > rpc.MaxPageBytes {
				resp.NextPageToken = rpc.PageToken(resp.Accounts[n-1].GetAccountId())
				return resp, nil
			}
			resp.Accounts = append(resp.Accounts, seen)
		}
		if !more {
			return resp, nil
		}
		looked += len(accounts)
	}
	resp.NextPageToken = rpc.PageToken(after)
	return resp, nil
}

// UpdateAccount implements AccountService.
func (s *Service) UpdateAccount(ctx context.Context, req *zendeskv1.UpdateAccountRequest) (*zendeskv1.UpdateAccountResponse, error) {
	change, err := newAccountChange(req, rpc.Tenant(ctx), s.allowHosts)
	if err != nil {
		return nil, err
	}
	id := req.GetAccount().GetAccountId()
	logAccount(ctx, id)
	updated, err := s.store.UpdateAccount(ctx, rpc.Tenant(ctx), id, req.GetAccount().GetEtag(), change.apply,
		s.note(ctx, "account updated", slog.String("account_id", id), slog.Any("fields", change.fields())))
	if err != nil {
		return nil, rpc.AccountError(err, id)
	}
	s.changed(ctx, updated)
	return &zendeskv1.UpdateAccountResponse{Account: accountToProto(updated, s.now())}, nil
}

// DeleteAccount implements AccountService.
func (s *Service) DeleteAccount(ctx context.Context, req *zendeskv1.DeleteAccountRequest) (*zendeskv1.DeleteAccountResponse, error) {
	var v violations
	v.AccountID("account_id", req.GetAccountId())
	v.Token("etag", req.GetEtag(), false)
	if err := v.Err(); err != nil {
		return nil, err
	}
	logAccount(ctx, req.GetAccountId())
	account, err := s.store.Account(ctx, rpc.Tenant(ctx), req.GetAccountId())
	if err == nil {
		err = s.store.DeleteAccount(ctx, rpc.Tenant(ctx), req.GetAccountId(), req.GetEtag(),
			s.note(ctx, "account deleted", slog.String("account_id", req.GetAccountId())))
	}
	if err != nil {
		return nil, rpc.AccountError(err, req.GetAccountId())
	}
	s.changed(ctx, account)
	return &zendeskv1.DeleteAccountResponse{}, nil
}

// changed tells those who keep accounts alive and write for them.
func (s *Service) changed(ctx context.Context, account store.Account) {
	s.credentials.Changed(credentials.Key{Tenant: rpc.Tenant(ctx), Incarnation: account.Incarnation})
}

// note makes the note of the caller's change.
func (s *Service) note(ctx context.Context, event string, attrs ...slog.Attr) store.Note {
	caller, _ := rpc.Caller(ctx)
	return s.audit.Note(caller, event, attrs...)
}

// logAccount names the account in the log line of a call.
func logAccount(ctx context.Context, id string) {
	rpc.AddFields(ctx, slog.String("account_id", id))
}

// newAccount reads the account that a request creates. Output-only fields are ignored.
func newAccount(req *zendeskv1.CreateAccountRequest, tenant string, allowHosts []string) (store.Account, error) {
	var v violations
	asked, id := req.GetAccount(), req.GetAccountId()
	if asked == nil {
		v.Add("account", "is required")
	}
	if id == "" {
		id = rpc.NewID()
	} else {
		v.AccountID("account_id", id)
	}
	if given := asked.GetAccountId(); given != "" && given != req.GetAccountId() {
		v.Add("account.account_id", "must be empty or equal to account_id")
	} else if given != "" {
		v.AccountID("account.account_id", given)
	}
	account := store.Account{
		ID:            id,
		Name:          asked.GetName(),
		URL:           v.url("account.url", asked.GetUrl(), tenant, allowHosts),
		DefaultRegion: asked.GetDefaultRegion(),
		MaxLimitShare: int(asked.GetMaxLimitShare()),
		Default:       asked.GetDefaultAccount(),
		APIAccess:     v.apiAccess(asked.GetApiAccess()),
		PhoneFields:   v.phoneFields(asked.GetPhoneFields()),
	}
	v.Text("account.name", account.Name, rpc.MaxAccountName)
	v.region("account.default_region", account.DefaultRegion)
	v.share("account.max_limit_share", account.MaxLimitShare)
	v.outputs(asked)
	if t := asked.GetApiToken(); t != nil {
		v.username("account.api_token.username", t.GetUsername())
		v.requiredSecret("account.api_token.token", t.GetToken(), rpc.MaxAPIToken)
		account.APIToken = &store.APIToken{Username: t.GetUsername(), Token: secret.New(t.GetToken())}
	}
	if t := asked.GetOauthToken(); t != nil {
		v.requiredSecret("account.oauth_token.access_token", t.GetAccessToken(), rpc.MaxAccessToken)
		account.OAuthToken = &store.OAuthToken{AccessToken: secret.New(t.GetAccessToken())}
	}
	return account, v.Err()
}

// accountChange is what an update asks for. Fields that are nil or false stay as they are.
type accountChange struct {
	name, region       *string
	share              *int
	access             *store.APIAccess
	phoneFields        *[]string
	url                *string // cannot change; nil when the request leaves it out
	defaultAccount     *bool
	username, apiToken *string
	accessToken        *string
	keepsOAuthToken    bool // the request names a token without its value: one must be there
	clearsAPIToken     bool
	clearsOAuthToken   bool
}

// fields are the names of what changes; no value.
func (c *accountChange) fields() []string {
	var names []string
	for _, field := range []struct {
		name    string
		changes bool
	}{
		{"name", c.name != nil},
		{"default_region", c.region != nil},
		{"max_limit_share", c.share != nil},
		{"api_access", c.access != nil},
		{"phone_fields", c.phoneFields != nil},
		{"default_account", c.defaultAccount != nil},
		{"api_token.username", c.username != nil},
		{"api_token.token", c.apiToken != nil},
		{"api_token", c.clearsAPIToken},
		{"oauth_token.access_token", c.accessToken != nil},
		{"oauth_token", c.clearsOAuthToken},
	} {
		if field.changes {
			names = append(names, field.name)
		}
	}
	return names
}

// newAccountChange reads an update. What it cannot tell without the stored account, apply does.
func newAccountChange(req *zendeskv1.UpdateAccountRequest, tenant string, allowHosts []string) (*accountChange, error) {
	var v violations
	asked := req.GetAccount()
	if asked == nil {
		v.Add("account", "is required")
		return nil, v.Err()
	}
	v.AccountID("account.account_id", asked.GetAccountId())
	v.outputs(asked)
	change := &accountChange{}
	if asked.GetUrl() != "" {
		origin := v.url("account.url", asked.GetUrl(), tenant, allowHosts)
		change.url = &origin
	}
	mask := req.GetUpdateMask()
	if mask == nil {
		for _, path := range populated(asked) {
			change.read(&v, asked, path, "update_mask")
		}
		return change, v.Err()
	}
	switch n := len(mask.GetPaths()); {
	case n == 0:
		v.Add("update_mask.paths", "is empty: name the fields to change, or leave update_mask out to change every populated one")
	case n > rpc.MaxMaskPaths:
		v.Add("update_mask.paths", "has %d entries; at most %d are allowed", n, rpc.MaxMaskPaths)
		return change, v.Err()
	}
	for i, path := range mask.GetPaths() {
		if v.Full() {
			break
		}
		if !slices.Contains(mask.GetPaths()[:i], path) {
			change.read(&v, asked, path, fmt.Sprintf("update_mask.paths[%d]", i))
		}
	}
	return change, v.Err()
}

// populated lists the fields that an update without a mask changes.
func populated(asked *zendeskv1.Account) []string {
	var paths []string
	for _, field := range []struct {
		path string
		set  bool
	}{
		{"name", asked.GetName() != ""},
		{"default_account", asked.GetDefaultAccount()},
		{"api_token.username", asked.GetApiToken().GetUsername() != ""},
		{"api_token.token", asked.GetApiToken().GetToken() != ""},
		{"oauth_token.access_token", asked.GetOauthToken().GetAccessToken() != ""},
		{"default_region", asked.GetDefaultRegion() != ""},
		{"max_limit_share", asked.GetMaxLimitShare() != 0},
		{"api_access", asked.GetApiAccess() != nil},
		{"phone_fields", len(asked.GetPhoneFields()) > 0},
	} {
		if field.set {
			paths = append(paths, field.path)
		}
	}
	return paths
}

// read adds one path of the mask, which stands at the field maskField of the request.
func (c *accountChange) read(v *violations, asked *zendeskv1.Account, path, maskField string) {
	switch path {
	case "name":
		c.name = new(asked.GetName())
		v.Text("account.name", *c.name, rpc.MaxAccountName)
	case "default_account":
		c.defaultAccount = new(asked.GetDefaultAccount())
	case "default_region":
		c.region = new(asked.GetDefaultRegion())
		v.region("account.default_region", *c.region)
	case "max_limit_share":
		c.share = new(int(asked.GetMaxLimitShare()))
		v.share("account.max_limit_share", *c.share)
	case "api_access":
		c.access = new(v.apiAccess(asked.GetApiAccess()))
	case "phone_fields":
		c.phoneFields = new(v.phoneFields(asked.GetPhoneFields()))
	case "api_access.methods", "api_access.path_prefixes", "api_access.on_behalf_of":
		v.Add(maskField, "is not supported: what is allowed is given as a whole, by api_access")
	case "api_token":
		if c.clearsAPIToken = asked.GetApiToken() == nil; !c.clearsAPIToken {
			c.read(v, asked, "api_token.username", maskField)
			if asked.GetApiToken().GetToken() != "" {
				c.read(v, asked, "api_token.token", maskField)
			}
		}
	case "api_token.username":
		if c.username == nil {
			c.username = new(asked.GetApiToken().GetUsername())
			v.username("account.api_token.username", *c.username)
		}
	case "api_token.token":
		if c.apiToken == nil {
			c.apiToken = new(asked.GetApiToken().GetToken())
			v.requiredSecret("account.api_token.token", *c.apiToken, rpc.MaxAPIToken)
		}
	case "oauth_token":
		switch {
		case asked.GetOauthToken() == nil:
			c.clearsOAuthToken = true
		case asked.GetOauthToken().GetAccessToken() == "":
			c.keepsOAuthToken = true
		default:
			c.read(v, asked, "oauth_token.access_token", maskField)
		}
	case "oauth_token.access_token":
		if c.accessToken == nil {
			c.accessToken = new(asked.GetOauthToken().GetAccessToken())
			v.requiredSecret("account.oauth_token.access_token", *c.accessToken, rpc.MaxAccessToken)
		}
	case "account_id", "etag", "authorization", "credential_state", "warnings", "health", "create_time", "update_time",
		"oauth_token.client_id", "oauth_token.scopes", "oauth_token.expire_time", "oauth_token.renewable":
		// account_id and etag say which account is meant; output-only fields are ignored (AIP-161).
	case "url":
		if c.url == nil {
			v.Add("account.url", "cannot be cleared")
		}
	case "*":
		v.Add(maskField, "is not supported, since secrets are never returned and could not be sent back: name the fields to change")
	default:
		v.Add(maskField, "names no field of an account that can be changed")
	}
}

// apply makes the change, or says which parts of it this account does not allow.
func (c *accountChange) apply(a *store.Account) error {
	var v violations
	before := *a
	if c.url != nil && *c.url != a.URL {
		v.Add("account.url", "cannot be changed: another Zendesk is another account")
	}
	if c.defaultAccount != nil {
		if a.Default && !*c.defaultAccount {
			v.Add("account.default_account", "cannot be cleared: mark another account as default instead")
		}
		a.Default = *c.defaultAccount
	}
	setIfGiven(&a.Name, c.name)
	setIfGiven(&a.DefaultRegion, c.region)
	setIfGiven(&a.MaxLimitShare, c.share)
	setIfGiven(&a.APIAccess, c.access)
	setIfGiven(&a.PhoneFields, c.phoneFields)
	c.applyAPIToken(a, &v)
	c.applyOAuthToken(a, &v)
	if !credentials.Same(*a, before) {
		a.Check = store.Check{}
	}
	return v.Err()
}

func (c *accountChange) applyAPIToken(a *store.Account, v *violations) {
	if c.clearsAPIToken {
		a.APIToken = nil
	}
	if c.username == nil && c.apiToken == nil {
		return
	}
	var next store.APIToken
	if a.APIToken != nil {
		next = *a.APIToken
	}
	setIfGiven(&next.Username, c.username)
	if c.apiToken != nil {
		next.Token = secret.New(*c.apiToken)
	}
	if next.Username == "" {
		v.Add("account.api_token.username", "is required: the account has no API token yet")
	}
	if next.Token.IsZero() {
		v.Add("account.api_token.token", "is required: the account has no API token yet")
	}
	a.APIToken = &next
}

func (c *accountChange) applyOAuthToken(a *store.Account, v *violations) {
	if c.keepsOAuthToken && a.OAuthToken == nil {
		v.Add("account.oauth_token.access_token", "is required: the account has no OAuth token yet")
	}
	if c.clearsOAuthToken {
		a.OAuthToken = nil
	}
	// The token that is stored, pasted once more, stays what it is. Of another one nothing is known, and what renewed the
	// old one does not renew it.
	if c.accessToken != nil && (a.OAuthToken == nil || a.OAuthToken.AccessToken.Reveal() != *c.accessToken) {
		a.OAuthToken = &store.OAuthToken{AccessToken: secret.New(*c.accessToken)}
	}
}

func setIfGiven[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// violations collects everything that is wrong with a request.
type violations struct{ rpc.Violations }

// secret checks a credential without ever repeating it.
func (v *violations) secret(field, value string, maxLength int) {
	switch {
	case len(value) > maxLength:
		v.Add(field, "has %d characters; at most %d are allowed", len(value), maxLength)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		v.Add(field, "must be printable ASCII without spaces")
	}
}

// share checks a part of a limit.
func (v *violations) share(field string, percent int) {
	if percent < 0 || percent > 100 {
		v.Add(field, "must be 0 to 100")
	}
}

// url checks the URL of an account and returns its canonical origin. It does not repeat the URL, which may hold a password.
func (v *violations) url(field, raw, tenant string, allowHosts []string) string {
	if len(raw) > rpc.MaxURL {
		v.Add(field, "has %d bytes; at most %d are allowed", len(raw), rpc.MaxURL)
		return ""
	}
	origin, err := zendeskapi.ParseOrigin(raw, tenant, allowHosts)
	if err != nil {
		rule := ""
		if refused, ok := errors.AsType[*zendeskapi.OriginError](err); ok {
			rule = string(refused.Rule) + ": "
		}
		v.Add(field, "%s%v", rule, err)
	}
	return origin
}

// outputs checks the size of what the service has set when a caller sends an account back. Of its content only the etag
// counts.
func (v *violations) outputs(asked *zendeskv1.Account) {
	v.Token("account.etag", asked.GetEtag(), false)
	v.output("account.oauth_token.client_id", asked.GetOauthToken().GetClientId())
	if v.outputList("account.oauth_token.scopes", len(asked.GetOauthToken().GetScopes())) {
		for i, scope := range asked.GetOauthToken().GetScopes() {
			v.output(fmt.Sprintf("account.oauth_token.scopes[%d]", i), scope)
		}
	}
	if v.outputList("account.warnings", len(asked.GetWarnings())) {
		for i, warning := range asked.GetWarnings() {
			v.output(fmt.Sprintf("account.warnings[%d].message", i), warning.GetMessage())
		}
	}
	failure, failing := asked.GetHealth().GetLastFailure(), asked.GetHealth().GetFailingEndpoints()
	v.output("account.health.last_failure.message", failure.GetMessage())
	v.output("account.health.last_failure.zendesk_request_id", failure.GetZendeskRequestId())
	v.output("account.health.last_failure.trace_id", failure.GetTraceId())
	if v.outputList("account.health.failing_endpoints", len(failing)) {
		for i, endpoint := range failing {
			v.output(fmt.Sprintf("account.health.failing_endpoints[%d]", i), endpoint)
		}
	}
}

func (v *violations) output(field, text string) {
	if len(text) > rpc.MaxOutputText {
		v.Add(field, "has %d bytes; at most %d are allowed", len(text), rpc.MaxOutputText)
	}
}

func (v *violations) outputList(field string, n int) bool {
	if n > rpc.MaxOutputs {
		v.Add(field, "has %d entries; at most %d are allowed", n, rpc.MaxOutputs)
	}
	return n <= rpc.MaxOutputs
}

// username checks the user name of an API token. It does not repeat it: people paste tokens into the wrong field.
func (v *violations) username(field, name string) {
	n := len(v.Violations)
	v.Text(field, name, rpc.MaxEmail)
	if len(v.Violations) > n {
		return
	}
	address, err := mail.ParseAddress(name)
	switch {
	case strings.HasSuffix(name, "/token"):
		v.Add(field, "must be the e-mail address alone: /token is added by the service")
	case err != nil || address.Address != name || strings.ContainsAny(name, ": "):
		v.Add(field, "must be an e-mail address")
	}
}

// requiredSecret is secret for credentials that cannot be left empty.
func (v *violations) requiredSecret(field, value string, maxLength int) {
	if value == "" {
		v.Add(field, "is required")
		return
	}
	v.secret(field, value, maxLength)
}

// region checks the region of telephone numbers.
func (v *violations) region(field, region string) {
	if region != "" && !phonenumbers.GetSupportedRegions()[region] {
		v.Add(field, "must be an ISO 3166-1 alpha-2 region in upper case, such as US")
	}
}
