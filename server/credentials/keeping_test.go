package credentials

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	tenant    = "default"
	tokenPath = "/oauth/tokens"
)

// keeping is a keeper of one account of a fake Zendesk, on a store of its own. What keeps accounts alive runs when a test
// says so.
type keeping struct {
	store   *store.Store
	zendesk *zendesktest.Zendesk
	clock   *testClock
	log     *textBuffer
	dir     string
	origin  string              // of the account
	before  func(*http.Request) // runs before the fake Zendesk is asked; may be nil
	instead http.HandlerFunc    // answers instead of the fake Zendesk, unless nil
	keeper  *Keeper
}

func newKeeping(t testing.TB, testEvery time.Duration) *keeping {
	t.Helper()
	k := &keeping{clock: &testClock{}, log: &textBuffer{}, dir: t.TempDir()}
	k.zendesk = zendesktest.New(zendesktest.Config{Clock: k.clock.now})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if k.before != nil {
			k.before(r)
		}
		if k.instead != nil {
			k.instead(w, r)
			return
		}
		k.zendesk.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	k.origin = proxy.URL
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(k.dir, "data.db"), Now: k.clock.now})
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	k.store = st
	k.keeper = k.process(t, testEvery)
	return k
}

// process is what a process of its own would have on the same data.
func (k *keeping) process(t testing.TB, testEvery time.Duration) *Keeper {
	t.Helper()
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: []string{"127.0.0.1:*"}})
	must(t, err)
	t.Cleanup(transport.Close)
	log := slog.New(slog.NewJSONHandler(k.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	keeper := New(Config{Store: k.store, Transport: transport, TestEvery: testEvery, Audit: audit.New(audit.Config{Log: log}), Log: log, Now: k.clock.now})
	t.Cleanup(func() { keeper.Wait(t.Context()) }) // before the store is closed
	return keeper
}

func (k *keeping) create(t testing.TB) store.Account {
	t.Helper()
	_, err := k.store.CreateAccount(t.Context(), tenant, store.Account{
		ID: "acme", Name: "Acme", URL: k.origin,
		APIToken: &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New(zendesktest.Admin.APIToken)},
	})
	must(t, err)
	return k.account(t)
}

// authorized makes an account with a token that is renewed by a grant.
func (k *keeping) authorized(t testing.TB, renewedBy string) store.Account {
	t.Helper()
	k.create(t)
	grant, request := GrantClientCredentials, sandboxRequest(zendeskapi.ClientCredentialsGrant())
	if renewedBy == grantRefreshToken {
		code, err := k.zendesk.IssueCode(zendesktest.Grant{})
		must(t, err)
		grant, request = GrantAuthorizationCode, sandboxRequest(zendeskapi.AuthorizationCodeGrant(secret.New(code), zendesktest.RedirectURI, secret.Value{}))
	}
	_, err := k.keeper.RequestToken(t.Context(), auth.Caller{Tenant: tenant}, k.account(t), grant, request)
	must(t, err)
	return k.account(t)
}

// sandboxRequest asks the fake Zendesk's own client for a token.
func sandboxRequest(grant zendeskapi.Grant) zendeskapi.TokenRequest {
	return zendeskapi.TokenRequest{
		ClientID: zendesktest.ClientID, ClientSecret: secret.New(zendesktest.ClientSecret), Scopes: []string{"read", "write"}, Grant: grant,
	}
}

func (k *keeping) account(t testing.TB) store.Account {
	t.Helper()
	a, err := k.store.Account(t.Context(), tenant, "acme")
	must(t, err)
	return a
}

// tokenRequests counts the requests for tokens.
func (k *keeping) tokenRequests() int {
	n := 0
	for _, r := range k.zendesk.Requests() {
		if r.Path == tokenPath {
			n++
		}
	}
	return n
}

// asked lists what Zendesk is asked by a round of upkeep.
func (k *keeping) asked(t testing.TB) string {
	t.Helper()
	before := len(k.zendesk.Requests())
	k.keeper.upkeep.round(t.Context())
	k.keeper.upkeep.attending.Wait()
	if wait := k.keeper.upkeep.round(t.Context()); wait <= time.Millisecond {
		t.Errorf("the next round is due after %v", wait)
	}
	var paths []string
	for _, r := range k.zendesk.Requests()[before:] {
		paths = append(paths, strings.TrimSuffix(strings.TrimPrefix(r.Path, "/api/v2/"), ".json"))
	}
	return strings.Join(paths, " ")
}

func (k *keeping) mustAsk(t testing.TB, want string) {
	t.Helper()
	if got := k.asked(t); got != want {
		t.Errorf("Zendesk was asked %q, want %q", got, want)
	}
}

// warnings are the kinds of an account's warnings.
func warnings(a store.Account, now time.Time) []WarningCode {
	var codes []WarningCode
	for _, w := range Warnings(a, now) {
		codes = append(codes, w.Code)
	}
	return codes
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testClock is the real time, moved forward when told to.
type testClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// textBuffer is safe for concurrent use.
type textBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *textBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *textBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
