package server

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/nyaruka/phonenumbers"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Limits of accounts. The proto comments state the same figures.
const (
	maxAccountName     = 100 // characters
	maxUsername        = 320 // characters
	maxAPIToken        = 1024
	maxAccessToken     = 8192
	maxMaskPaths       = 100
	maxPageTokenLength = 128
)

var accountID = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// accountService implements AccountService. RequestToken and TestConnection stand in files of their own.
type accountService struct {
	zendeskv1.UnimplementedAccountServiceServer
	store      *store.Store
	zendesk    *zendesk
	allowHosts []string
	now        func() time.Time
	changed    func(tenant string) // told when an account is new, may be able to do what it was not, or is gone
	audit      auditLog
	exchanges  tokenExchanges
}

// CreateAccount implements AccountService.
func (s *accountService) CreateAccount(ctx context.Context, req *zendeskv1.CreateAccountRequest) (*zendeskv1.CreateAccountResponse, error) {
	account, err := newAccount(req, s.allowHosts)
	if err != nil {
		return nil, err
	}
	logAccount(ctx, account.ID)
	created, err := s.store.CreateAccount(ctx, tenantOf(ctx), account)
	if err != nil {
		return nil, accountError(err, account.ID)
	}
	s.changed(tenantOf(ctx))
	s.audit.note(ctx, "account created", slog.String("account_id", created.ID), slog.String("url", created.URL))
	return &zendeskv1.CreateAccountResponse{Account: accountToProto(created, s.now())}, nil
}

// GetAccount implements AccountService.
func (s *accountService) GetAccount(ctx context.Context, req *zendeskv1.GetAccountRequest) (*zendeskv1.GetAccountResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	return &zendeskv1.GetAccountResponse{Account: accountToProto(account, s.now())}, nil
}

// account loads the account that a request names in its field account_id.
func (s *accountService) account(ctx context.Context, id string) (store.Account, error) {
	var v violations
	v.accountID("account_id", id)
	if err := v.err(); err != nil {
		return store.Account{}, err
	}
	logAccount(ctx, id)
	account, err := s.store.Account(ctx, tenantOf(ctx), id)
	if err != nil {
		return store.Account{}, accountError(err, id)
	}
	return account, nil
}

// ListAccounts implements AccountService.
func (s *accountService) ListAccounts(ctx context.Context, req *zendeskv1.ListAccountsRequest) (*zendeskv1.ListAccountsResponse, error) {
	var v violations
	size := v.pageSize(req.GetPageSize())
	after := v.pageToken(req.GetPageToken())
	if err := v.err(); err != nil {
		return nil, err
	}
	accounts, more, err := s.store.ListAccounts(ctx, tenantOf(ctx), after, size)
	if err != nil {
		return nil, err
	}
	resp := &zendeskv1.ListAccountsResponse{Accounts: make([]*zendeskv1.Account, len(accounts))}
	for i, account := range accounts {
		resp.Accounts[i] = accountToProto(account, s.now())
	}
	if more {
		resp.NextPageToken = pageToken(accounts[len(accounts)-1].ID)
	}
	return resp, nil
}

// UpdateAccount implements AccountService.
func (s *accountService) UpdateAccount(ctx context.Context, req *zendeskv1.UpdateAccountRequest) (*zendeskv1.UpdateAccountResponse, error) {
	change, err := newAccountChange(req, s.allowHosts)
	if err != nil {
		return nil, err
	}
	id := req.GetAccount().GetAccountId()
	logAccount(ctx, id)
	updated, err := s.store.UpdateAccount(ctx, tenantOf(ctx), id, req.GetAccount().GetEtag(), change.apply)
	if err != nil {
		return nil, accountError(err, id)
	}
	s.changed(tenantOf(ctx))
	s.audit.note(ctx, "account updated", slog.String("account_id", id), slog.Any("fields", change.fields()))
	return &zendeskv1.UpdateAccountResponse{Account: accountToProto(updated, s.now())}, nil
}

// DeleteAccount implements AccountService.
func (s *accountService) DeleteAccount(ctx context.Context, req *zendeskv1.DeleteAccountRequest) (*zendeskv1.DeleteAccountResponse, error) {
	var v violations
	v.accountID("account_id", req.GetAccountId())
	v.token("etag", req.GetEtag(), false)
	if err := v.err(); err != nil {
		return nil, err
	}
	logAccount(ctx, req.GetAccountId())
	if err := s.store.DeleteAccount(ctx, tenantOf(ctx), req.GetAccountId(), req.GetEtag()); err != nil {
		return nil, accountError(err, req.GetAccountId())
	}
	s.changed(tenantOf(ctx))
	s.audit.note(ctx, "account deleted", slog.String("account_id", req.GetAccountId()))
	return &zendeskv1.DeleteAccountResponse{}, nil
}

// logAccount names the account in the log line of a call.
func logAccount(ctx context.Context, id string) {
	logging.AddFields(ctx, logging.Fields{"account_id", id})
}

// newAccount reads the account that a request creates. Output-only fields are ignored.
func newAccount(req *zendeskv1.CreateAccountRequest, allowHosts []string) (store.Account, error) {
	var v violations
	asked, id := req.GetAccount(), req.GetAccountId()
	if asked == nil {
		v.add("account", "is required")
	}
	if id == "" {
		id = newID()
	} else {
		v.accountID("account_id", id)
	}
	if given := asked.GetAccountId(); given != "" && given != req.GetAccountId() {
		v.add("account.account_id", "must be empty or equal to account_id")
	}
	account := store.Account{
		ID:            id,
		Name:          asked.GetName(),
		URL:           v.url("account.url", asked.GetUrl(), allowHosts),
		DefaultRegion: asked.GetDefaultRegion(),
		Default:       asked.GetDefaultAccount(),
	}
	v.text("account.name", account.Name, maxAccountName)
	v.region("account.default_region", account.DefaultRegion)
	if t := asked.GetApiToken(); t != nil {
		v.username("account.api_token.username", t.GetUsername())
		v.requiredSecret("account.api_token.token", t.GetToken(), maxAPIToken)
		account.APIToken = &store.APIToken{Username: t.GetUsername(), Token: store.NewSecret(t.GetToken())}
	}
	if t := asked.GetOauthToken(); t != nil {
		v.requiredSecret("account.oauth_token.access_token", t.GetAccessToken(), maxAccessToken)
		account.OAuthToken = &store.OAuthToken{AccessToken: store.NewSecret(t.GetAccessToken())}
	}
	return account, v.err()
}

// accountChange is what an update asks for. Fields that are nil or false stay as they are.
type accountChange struct {
	name, region       *string
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
func newAccountChange(req *zendeskv1.UpdateAccountRequest, allowHosts []string) (*accountChange, error) {
	var v violations
	asked := req.GetAccount()
	if asked == nil {
		v.add("account", "is required")
		return nil, v.err()
	}
	v.accountID("account.account_id", asked.GetAccountId())
	v.token("account.etag", asked.GetEtag(), false)
	change := &accountChange{}
	if asked.GetUrl() != "" {
		origin := v.url("account.url", asked.GetUrl(), allowHosts)
		change.url = &origin
	}
	mask := req.GetUpdateMask()
	if mask == nil {
		for _, path := range populated(asked) {
			change.read(&v, asked, path, "update_mask")
		}
		return change, v.err()
	}
	switch n := len(mask.GetPaths()); {
	case n == 0:
		v.add("update_mask.paths", "is empty: name the fields to change, or leave update_mask out to change every populated one")
	case n > maxMaskPaths:
		v.add("update_mask.paths", "has %d entries; at most %d are allowed", n, maxMaskPaths)
		return change, v.err()
	}
	for i, path := range mask.GetPaths() {
		if !slices.Contains(mask.GetPaths()[:i], path) {
			change.read(&v, asked, path, fmt.Sprintf("update_mask.paths[%d]", i))
		}
	}
	return change, v.err()
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
		v.text("account.name", *c.name, maxAccountName)
	case "default_account":
		c.defaultAccount = new(asked.GetDefaultAccount())
	case "default_region":
		c.region = new(asked.GetDefaultRegion())
		v.region("account.default_region", *c.region)
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
			v.requiredSecret("account.api_token.token", *c.apiToken, maxAPIToken)
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
			v.requiredSecret("account.oauth_token.access_token", *c.accessToken, maxAccessToken)
		}
	case "account_id", "etag", "authorization", "credential_state", "warnings", "create_time", "update_time",
		"oauth_token.client_id", "oauth_token.scopes", "oauth_token.expire_time", "oauth_token.renewable":
		// account_id and etag say which account is meant; output-only fields are ignored (AIP-161).
	case "url":
		if c.url == nil {
			v.add("account.url", "cannot be cleared")
		}
	case "*":
		v.add(maskField, "is not supported, since secrets are never returned and could not be sent back: name the fields to change")
	default:
		v.add(maskField, "names no field of an account that can be changed")
	}
}

// apply makes the change, or says which parts of it this account does not allow.
func (c *accountChange) apply(a *store.Account) error {
	var v violations
	before := *a
	if c.url != nil && *c.url != a.URL {
		v.add("account.url", "cannot be changed: another Zendesk is another account")
	}
	if c.defaultAccount != nil {
		if a.Default && !*c.defaultAccount {
			v.add("account.default_account", "cannot be cleared: mark another account as default instead")
		}
		a.Default = *c.defaultAccount
	}
	setIfGiven(&a.Name, c.name)
	setIfGiven(&a.DefaultRegion, c.region)
	c.applyAPIToken(a, &v)
	c.applyOAuthToken(a, &v)
	if !sameCredential(*a, before) {
		a.Check = store.Check{}
	}
	return v.err()
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
		next.Token = store.NewSecret(*c.apiToken)
	}
	if next.Username == "" {
		v.add("account.api_token.username", "is required: the account has no API token yet")
	}
	if next.Token.IsZero() {
		v.add("account.api_token.token", "is required: the account has no API token yet")
	}
	a.APIToken = &next
}

func (c *accountChange) applyOAuthToken(a *store.Account, v *violations) {
	if c.keepsOAuthToken && a.OAuthToken == nil {
		v.add("account.oauth_token.access_token", "is required: the account has no OAuth token yet")
	}
	if c.clearsOAuthToken {
		a.OAuthToken = nil
	}
	// The token that is stored, pasted once more, stays what it is. Of another one nothing is known, and what renewed the
	// old one does not renew it.
	if c.accessToken != nil && (a.OAuthToken == nil || a.OAuthToken.AccessToken.Reveal() != *c.accessToken) {
		a.OAuthToken = &store.OAuthToken{AccessToken: store.NewSecret(*c.accessToken)}
	}
}

func setIfGiven(field *string, value *string) {
	if value != nil {
		*field = *value
	}
}

// accountID checks the id of an account.
func (v *violations) accountID(field, id string) {
	switch {
	case id == "":
		v.add(field, "is required")
	case !accountID.MatchString(id):
		v.add(field, "must match %s", accountID)
	}
}

// url checks the URL of an account and returns its canonical origin. It does not repeat the URL, which may hold a password.
func (v *violations) url(field, raw string, allowHosts []string) string {
	origin, err := zendeskapi.ParseOrigin(raw, allowHosts)
	if err != nil {
		rule := ""
		if refused, ok := errors.AsType[*zendeskapi.OriginError](err); ok {
			rule = string(refused.Rule) + ": "
		}
		v.add(field, "%s%v", rule, err)
	}
	return origin
}

// username checks the user name of an API token. It does not repeat it: people paste tokens into the wrong field.
func (v *violations) username(field, name string) {
	n := len(*v)
	v.text(field, name, maxUsername)
	if len(*v) > n {
		return
	}
	address, err := mail.ParseAddress(name)
	switch {
	case strings.HasSuffix(name, "/token"):
		v.add(field, "must be the e-mail address alone: /token is added by the service")
	case err != nil || address.Address != name || strings.ContainsAny(name, ": "):
		v.add(field, "must be an e-mail address")
	}
}

// requiredSecret is secret for credentials that cannot be left empty.
func (v *violations) requiredSecret(field, value string, maxLength int) {
	if value == "" {
		v.add(field, "is required")
		return
	}
	v.secret(field, value, maxLength)
}

// region checks the region of telephone numbers.
func (v *violations) region(field, region string) {
	if region != "" && !phonenumbers.GetSupportedRegions()[region] {
		v.add(field, "must be an ISO 3166-1 alpha-2 region in upper case, such as US")
	}
}

// pageToken names the page behind the account with this id. The checksum tells a token from anything else.
func pageToken(id string) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32([]byte(id), crc32.ChecksumIEEE([]byte(id))))
}

// pageToken reads a page token; empty means from the start.
func (v *violations) pageToken(token string) (after string) {
	if token == "" {
		return ""
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if n := len(decoded) - crc32.Size; err == nil && n > 0 && len(token) <= maxPageTokenLength && pageToken(string(decoded[:n])) == token {
		return string(decoded[:n])
	}
	v.add("page_token", "must be the next_page_token of an earlier reply")
	return ""
}
