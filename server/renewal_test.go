package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const tokenPath = "/oauth/tokens"

// authorize gives the account `main` a token by a grant, some minutes ago.
func (s *testServer) authorize(t testing.TB, grant string) {
	t.Helper()
	req := tokenRequestFor(t, s.zendesk, grant)
	req.AccountId = "main"
	_, err := s.accounts.RequestToken(t.Context(), req)
	must(t, err)
	s.clock.advance(5 * time.Minute)
}

// tokenRequestFor asks for a token that is renewed by a grant.
func tokenRequestFor(t testing.TB, z *zendesktest.Zendesk, grant string) *zendeskv1.RequestTokenRequest {
	t.Helper()
	if grant == clientCredentials {
		return sandboxToken(nil)
	}
	code, err := z.IssueCode(zendesktest.Grant{})
	must(t, err)
	return sandboxToken(&zendeskv1.AuthorizationCodeGrant{Code: code, RedirectUri: zendesktest.RedirectURI})
}

func (s *testServer) main(t testing.TB) *zendeskv1.Account {
	t.Helper()
	resp, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "main"})
	must(t, err)
	return resp.GetAccount()
}

func tokenRequests(z *zendesktest.Zendesk) int {
	n := 0
	for _, r := range z.Requests() {
		if r.Path == tokenPath {
			n++
		}
	}
	return n
}

func warningCodes(a *zendeskv1.Account) string {
	var names []string
	for _, w := range a.GetWarnings() {
		names = append(names, strings.TrimPrefix(w.GetCode().String(), "ACCOUNT_WARNING_CODE_"))
	}
	return strings.Join(names, " ")
}

// Whoever comes while a token is renewed waits for that one renewal, as long as it can, and nobody's deadline ends it.
func TestManyBlocksRenewOnce(t *testing.T) {
	const blocks = 200
	s := newBlockServer(t)
	s.authorize(t, refreshToken)
	s.zendesk.ExpireTokens()
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: tokenPath, Delay: 500 * time.Millisecond, Times: 1})
	before := tokenRequests(s.zendesk)
	var group sync.WaitGroup
	for i := range blocks {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			resp, err := s.blocks.Search(ctx, &zendeskv1.SearchRequest{InteractionId: fmt.Sprint("short-", i), SearchString: callerQuery, RecordsetName: "RS"})
			if err == nil && resp.GetExit() == zendeskv1.Exit_EXIT_FAILED && resp.GetFailure().GetReason() != zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT ||
				err != nil && status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("a block with a short deadline is answered %v, %v", resp, err)
			}
		})
	}
	group.Wait()
	mustExit(t, s.search(t, "patient", callerQuery), next)
	if n := tokenRequests(s.zendesk) - before; n != 1 {
		t.Errorf("%d token requests were sent, want 1", n)
	}
	if a := s.main(t); a.GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_OK || len(a.GetWarnings()) > 0 {
		t.Errorf("the account is %v", a)
	}
}

// A request that meets a 401 renews, and what happens is what the token endpoint's answer makes of it.
func TestRenewalAfterRefusal(t *testing.T) {
	const rejected, unavailable, limited = zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED,
		zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED
	const good, ill = "OK", "NEEDS_AUTHORIZATION"
	refusal := func(code string) *string { return new(fmt.Sprintf(`{"error":%q}`, code)) }
	for _, test := range []struct {
		name    string
		grant   string
		revoked bool // with its refresh token
		fault   *zendesktest.Fault
		want    zendeskv1.FailureReason // of the block; unspecified: none
		asked   int                     // token requests by the block
		state   string                  // then
		later   zendeskv1.FailureReason // of a block more than an hour later, without the fault
	}{
		{name: "minted again", grant: clientCredentials, asked: 1, state: good},
		{name: "rotated", grant: refreshToken, asked: 1, state: good},
		{name: "revoked, minted again", grant: clientCredentials, revoked: true, asked: 1, state: good},
		{name: "invalid_grant", grant: refreshToken, revoked: true, want: rejected, asked: 1, state: ill, later: rejected},
		{name: "invalid_client", grant: clientCredentials, fault: &zendesktest.Fault{Status: 401, Body: refusal("invalid_client")}, want: rejected, asked: 1, state: ill},
		{name: "unsupported_grant_type", grant: clientCredentials, fault: &zendesktest.Fault{Status: 400, Body: refusal("unsupported_grant_type")}, want: rejected, asked: 1, state: ill},
		{name: "Zendesk broken", grant: refreshToken, fault: &zendesktest.Fault{Status: 500}, want: unavailable, asked: 1, state: good},
		{name: "no such page for a while", grant: refreshToken, fault: &zendesktest.Fault{Status: 404}, want: unavailable, asked: 1, state: good},
		{name: "throttled", grant: refreshToken, fault: &zendesktest.Fault{Status: 429, RetryAfter: "93"}, want: limited, asked: 1, state: good},
		{name: "HTML", grant: clientCredentials, fault: &zendesktest.Fault{Body: new("<html></html>")}, want: unavailable, asked: 1, state: good},
		{name: "connection cut before", grant: refreshToken, fault: &zendesktest.Fault{Drop: zendesktest.DropBefore, Times: 1}, asked: 2, state: good},
		{name: "connection cut, minted again", grant: clientCredentials, fault: &zendesktest.Fault{Drop: zendesktest.DropAfter, Times: 1}, asked: 2, state: good},
		{name: "connection cut, pair lost", grant: refreshToken, fault: &zendesktest.Fault{Drop: zendesktest.DropAfter, Times: 1}, want: rejected, asked: 2, state: ill, later: rejected},
		{name: "unreachable", grant: refreshToken, fault: &zendesktest.Fault{Drop: zendesktest.DropBefore}, want: unavailable, asked: 2, state: good},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newBlockServer(t)
			s.authorize(t, test.grant)
			if test.revoked {
				s.zendesk.RevokeTokens()
			} else {
				s.zendesk.ExpireTokens()
			}
			if test.fault != nil {
				test.fault.PathPrefix = tokenPath
				s.zendesk.AddFault(*test.fault)
			}
			mustAnswer := func(want zendeskv1.FailureReason, asked int, state string) {
				t.Helper()
				before := tokenRequests(s.zendesk)
				resp := s.search(t, "one", callerQuery)
				if resp.GetFailure().GetReason() != want {
					t.Errorf("the block is answered %v, want %v", resp, want)
				}
				if n := tokenRequests(s.zendesk) - before; n != asked {
					t.Errorf("%d token requests were sent, want %d", n, asked)
				}
				a := s.main(t)
				if got := strings.TrimPrefix(a.GetCredentialState().String(), "CREDENTIAL_STATE_"); got != state || (warningCodes(a) == "NEEDS_AUTHORIZATION") != (state == ill) {
					t.Errorf("the account is %s with %v, want %s", got, a.GetWarnings(), state)
				}
			}
			mustAnswer(test.want, test.asked, test.state)
			mustAnswer(test.want, 0, test.state) // not asked again at once
			s.zendesk.ClearFaults()
			s.clock.advance(refusalRest + time.Minute)
			asked, state := 0, good
			if test.want != 0 {
				asked = 1
			}
			if test.later != 0 {
				state = ill
			}
			mustAnswer(test.later, asked, state)
			_, err := s.accounts.RequestToken(t.Context(), &zendeskv1.RequestTokenRequest{AccountId: "main", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret})
			must(t, err)
			mustAnswer(0, 0, good)
		})
	}
}

// A token that Zendesk refuses although it is new is not renewed again and again.
func TestRefusedSuccessor(t *testing.T) {
	s := newBlockServer(t)
	s.authorize(t, clientCredentials)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 401})
	before := tokenRequests(s.zendesk)
	for range 5 {
		mustFail(t, s.search(t, "one", callerQuery), zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED)
	}
	if n := tokenRequests(s.zendesk) - before; n != 1 {
		t.Errorf("%d token requests were sent, want 1", n)
	}
}

// What blocks meet shows on the account, and goes when it has passed. Its etag is not about that.
func TestBlocksTellTheCredentialState(t *testing.T) {
	s := newBlockServer(t)
	etag := s.main(t).GetEtag()
	mustState := func(want zendeskv1.CredentialState, warnings string) {
		t.Helper()
		if a := s.main(t); a.GetCredentialState() != want || warningCodes(a) != warnings || a.GetEtag() != etag {
			t.Errorf("the account is %v, want %v with %s", a, want, warnings)
		}
	}
	mustState(zendeskv1.CredentialState_CREDENTIAL_STATE_UNTESTED, "API_TOKEN_RETIREMENT")
	mustExit(t, s.search(t, "one", callerQuery), next)
	mustState(zendeskv1.CredentialState_CREDENTIAL_STATE_OK, "API_TOKEN_RETIREMENT")
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 401})
	mustFail(t, s.search(t, "one", callerQuery), zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED)
	mustState(zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION, "NEEDS_AUTHORIZATION API_TOKEN_RETIREMENT")
	s.zendesk.ClearFaults()
	mustExit(t, s.search(t, "one", callerQuery), next)
	mustState(zendeskv1.CredentialState_CREDENTIAL_STATE_OK, "API_TOKEN_RETIREMENT")

	// The person has become an end user: that a request goes well does not make up for it.
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/users/me", Body: new(`{"user":{"id":7,"role":"end-user"}}`)})
	_, err := s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: "main"})
	must(t, err)
	const noAgent = "NEEDS_AUTHORIZATION NOT_AN_AGENT API_TOKEN_RETIREMENT"
	mustState(zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION, noAgent)
	mustExit(t, s.search(t, "one", callerQuery), next)
	mustState(zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION, noAgent)
	s.zendesk.ClearFaults()
	_, err = s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: "main"})
	must(t, err)
	mustState(zendeskv1.CredentialState_CREDENTIAL_STATE_OK, "API_TOKEN_RETIREMENT")
}

// TestConnection renews as blocks do, and tells of the successor.
func TestTestConnectionRenews(t *testing.T) {
	s := newBlockServer(t)
	s.authorize(t, refreshToken)
	s.zendesk.ExpireTokens()
	tested, err := s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: "main"})
	must(t, err)
	if tested.GetOutcome() != zendeskv1.CheckOutcome_CHECK_OUTCOME_OK || s.main(t).GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_OK {
		t.Errorf("test says %v of %v", tested, s.main(t))
	}
}

// keeping is what keeps accounts alive, without a server around it that would do so as well.
type keeping struct {
	store   *store.Store
	zendesk *zendesktest.Zendesk
	clock   *testClock
	log     *textBuffer
	dir     string
	origin  string              // of the account
	before  func(*http.Request) // runs before the fake Zendesk is asked; may be nil
	instead http.HandlerFunc    // answers instead of the fake Zendesk, unless nil
	service *accountService
	upkeep  *upkeep
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
	k.service = k.process(t)
	k.upkeep = newUpkeep(k.service, testEvery, k.service.zendesk.log)
	return k
}

// process is what a process of its own would have on the same data.
func (k *keeping) process(t testing.TB) *accountService {
	t.Helper()
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: []string{"127.0.0.1"}})
	must(t, err)
	t.Cleanup(transport.Close)
	log := slog.New(slog.NewJSONHandler(k.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	z := newZendesk(k.store, transport, "", log, k.clock.now, auditLog{})
	t.Cleanup(z.renewals.wait)
	return &accountService{store: k.store, zendesk: z, allowHosts: []string{"127.0.0.1"}, now: k.clock.now, changed: func(string) {}}
}

func (k *keeping) create(t testing.TB) store.Account {
	t.Helper()
	_, err := k.store.CreateAccount(t.Context(), defaultTenant, store.Account{
		ID: "acme", Name: "Acme", URL: k.origin,
		APIToken: &store.APIToken{Username: zendesktest.Admin.Email, Token: store.NewSecret(zendesktest.Admin.APIToken)},
	})
	must(t, err)
	return k.account(t)
}

// authorized makes an account with a token.
func (k *keeping) authorized(t testing.TB, grant string) store.Account {
	t.Helper()
	k.create(t)
	_, err := k.service.RequestToken(tenantContext(t), tokenRequestFor(t, k.zendesk, grant))
	must(t, err)
	return k.account(t)
}

func (k *keeping) account(t testing.TB) store.Account {
	t.Helper()
	a, err := k.store.Account(t.Context(), defaultTenant, "acme")
	must(t, err)
	return a
}

// asked lists what Zendesk is asked by a round of upkeep.
func (k *keeping) asked(t testing.TB) string {
	t.Helper()
	before := len(k.zendesk.Requests())
	if wait := k.upkeep.round(t.Context()); wait <= time.Millisecond {
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

// Nothing is asked with a token that is not stored.
func TestRenewalStoresBeforeUse(t *testing.T) {
	for _, grant := range []string{clientCredentials, refreshToken} {
		t.Run(grant, func(t *testing.T) {
			k := newKeeping(t, 0)
			old := k.authorized(t, grant)
			k.clock.advance(time.Hour)
			k.zendesk.ExpireTokens()
			used := 0
			k.before = func(r *http.Request) {
				bearer, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
				if isBearer && bearer != old.OAuthToken.AccessToken.Reveal() {
					used++
					if bearer != k.account(t).OAuthToken.AccessToken.Reveal() {
						t.Error("a token is used that is not stored")
					}
				}
			}
			account := old
			must(t, k.service.zendesk.do(t.Context(), defaultTenant, &account, func(c *zendeskapi.Client) error {
				_, err := c.Me(t.Context())
				return err
			}))
			if used != 1 || !sameCredential(account, k.account(t)) {
				t.Errorf("the successor was used %d times, want 1", used)
			}
		})
	}
}

// What another process has renewed is used, whether it did so before or meanwhile.
func TestRenewalByAnotherProcess(t *testing.T) {
	k := newKeeping(t, 0)
	old := k.authorized(t, refreshToken)
	other := k.process(t)
	k.clock.advance(time.Hour)
	if _, err := other.zendesk.renewals.renew(t.Context(), defaultTenant, old); err != nil {
		t.Fatal(err)
	}
	before := tokenRequests(k.zendesk)
	got, err := k.service.zendesk.renewals.renew(t.Context(), defaultTenant, old)
	must(t, err)
	if !sameCredential(got, k.account(t)) || tokenRequests(k.zendesk) != before {
		t.Errorf("Zendesk was asked for a token although there is another")
	}

	k.clock.advance(time.Hour)
	old = k.account(t)
	first := sync.OnceFunc(func() {
		if _, err := other.zendesk.renewals.renew(t.Context(), defaultTenant, old); err != nil {
			t.Error(err)
		}
	})
	var entered sync.Mutex
	inside := false
	k.before = func(r *http.Request) {
		entered.Lock()
		outer := r.URL.Path == tokenPath && !inside
		inside = true
		entered.Unlock()
		if outer {
			first() // and so the refresh token of this request is dead
		}
	}
	got, err = k.service.zendesk.renewals.renew(t.Context(), defaultTenant, old)
	must(t, err)
	if now := k.account(t); !sameCredential(got, now) || sameCredential(got, old) || renewalRefused(now.OAuthToken) {
		t.Errorf("the account is %v", now)
	}
}

// failingEngine fails to commit so often.
type failingEngine struct {
	kv.Engine
	left atomic.Int32
}

// Update implements kv.Engine.
func (e *failingEngine) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if e.left.Add(-1) >= 0 {
		return errors.New("no space left on device")
	}
	return e.Engine.Update(ctx, fn)
}

// What Zendesk rotated is not lost when the store fails for a moment.
func TestRenewalStoresAgain(t *testing.T) {
	k := newKeeping(t, 0)
	path := filepath.Join(t.TempDir(), "data.db")
	made, err := store.Open(t.Context(), store.Config{Path: path})
	must(t, err)
	must(t, made.Close())
	keyset, err := os.ReadFile(path + ".key")
	must(t, err)
	bolt, err := boltkv.Open(path)
	must(t, err)
	engine := &failingEngine{Engine: bolt}
	st, err := store.New(t.Context(), engine, store.Config{Keyset: string(keyset), Now: k.clock.now})
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	k.store = st
	k.service = k.process(t)
	old := k.authorized(t, refreshToken)
	k.clock.advance(time.Hour)
	k.before = func(r *http.Request) {
		if r.URL.Path == tokenPath {
			engine.left.Store(2)
		}
	}
	renewed, err := k.service.zendesk.renewals.renew(t.Context(), defaultTenant, old)
	must(t, err)
	if sameCredential(renewed, old) || !sameCredential(renewed, k.account(t)) {
		t.Errorf("the account is %v", k.account(t))
	}
}

// Those who wait go; the renewal goes on, and what it brings is stored.
func TestRenewalOutlivesItsCallers(t *testing.T) {
	k := newKeeping(t, 0)
	old := k.authorized(t, refreshToken)
	k.clock.advance(time.Hour)
	arrived, released := make(chan struct{}), make(chan struct{})
	k.before = func(r *http.Request) {
		if r.URL.Path == tokenPath {
			close(arrived)
			<-released
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := k.service.zendesk.renewals.renew(ctx, defaultTenant, old)
		ended <- err
	}()
	<-arrived
	cancel()
	if err := <-ended; !errors.Is(err, errStillRenewing) {
		t.Errorf("error is %v", err)
	}
	close(released)
	k.service.zendesk.renewals.wait()
	if sameCredential(k.account(t), old) {
		t.Error("the token that Zendesk granted is not in force")
	}
}

// A token that an administrator sets while one is renewed stays.
func TestRenewalYieldsToAnAdministrator(t *testing.T) {
	for name, change := range map[string]func(*store.Account){
		"another token": func(a *store.Account) { a.OAuthToken = &store.OAuthToken{AccessToken: store.NewSecret("pasted")} },
		"API token":     func(a *store.Account) { a.OAuthToken = nil },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeping(t, 0)
			old := k.authorized(t, refreshToken)
			k.clock.advance(time.Hour)
			k.before = func(r *http.Request) {
				if r.URL.Path == tokenPath {
					_, err := k.store.UpdateAccount(t.Context(), defaultTenant, "acme", "", func(a *store.Account) error {
						change(a)
						return nil
					})
					must(t, err)
				}
			}
			got, err := k.service.zendesk.renewals.renew(t.Context(), defaultTenant, old)
			must(t, err)
			want := old
			change(&want)
			if !sameCredential(got, want) || !sameCredential(k.account(t), want) {
				t.Errorf("the account is %v, want %v", k.account(t), want)
			}
		})
	}
}

func TestUpkeepRenewsInTheBackground(t *testing.T) {
	for _, grant := range []string{clientCredentials, refreshToken} {
		t.Run(grant, func(t *testing.T) {
			k := newKeeping(t, 0)
			old := k.authorized(t, grant)
			k.mustAsk(t, "")
			k.clock.advance(17 * time.Hour) // of 24
			k.mustAsk(t, "")
			k.clock.advance(4 * time.Hour)
			k.zendesk.AddFault(zendesktest.Fault{PathPrefix: tokenPath, Status: 503, Times: 1})
			k.mustAsk(t, tokenPath)
			k.mustAsk(t, "") // not at once
			k.clock.advance(time.Minute)
			k.mustAsk(t, tokenPath)
			k.mustAsk(t, "")
			if now := k.account(t); sameCredential(now, old) || !now.Check.OK {
				t.Errorf("the account is %v", now)
			}
		})
	}
}

// A refusal is told at once, although the token still works, and asked for again now and then.
func TestUpkeepMeetsRefusal(t *testing.T) {
	k := newKeeping(t, 0)
	k.authorized(t, refreshToken)
	k.mustAsk(t, "")
	k.clock.advance(21 * time.Hour)
	k.zendesk.RevokeTokens()
	k.mustAsk(t, tokenPath)
	shown := accountToProto(k.account(t), k.clock.now())
	if shown.GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION || shown.GetOauthToken().GetRenewable() ||
		!strings.Contains(warningCodes(shown), "NEEDS_AUTHORIZATION") || shown.GetWarnings()[0].GetTime().AsTime().After(k.clock.now()) {
		t.Errorf("the account is %v", shown)
	}
	k.clock.advance(30 * time.Minute)
	k.mustAsk(t, "")
	k.clock.advance(31 * time.Minute)
	k.mustAsk(t, tokenPath)
}

func TestUpkeepUsesIdleAPITokens(t *testing.T) {
	k := newKeeping(t, 0)
	account := k.create(t)
	k.mustAsk(t, "")
	k.clock.advance(23 * time.Hour)
	k.mustAsk(t, "")
	use := func() {
		must(t, k.service.zendesk.do(t.Context(), defaultTenant, &account, func(c *zendeskapi.Client) error {
			_, err := c.TicketFields(t.Context())
			return err
		}))
	}
	use()
	k.clock.advance(23 * time.Hour)
	k.mustAsk(t, "")
	k.clock.advance(2 * time.Hour)
	k.mustAsk(t, "users/me")
	k.mustAsk(t, "")
	k.clock.advance(25 * time.Hour)
	k.mustAsk(t, "users/me")
	if a := k.account(t); !a.Check.OK || a.Check.Role != "admin" {
		t.Errorf("the check is %v", a.Check)
	}
	k.clock.advance(31 * 24 * time.Hour) // nobody ran
	k.mustAsk(t, "users/me")
	if a := k.account(t); a.Check.OK {
		t.Error("a token that Zendesk has deactivated counts as good")
	}
}

func TestUpkeepTestsConnections(t *testing.T) {
	k := newKeeping(t, 6*time.Hour)
	k.create(t)
	k.mustAsk(t, "")
	k.clock.advance(5 * time.Hour)
	k.mustAsk(t, "")
	k.clock.advance(2 * time.Hour)
	if got := k.asked(t); !strings.HasPrefix(got, "users/me search ticket_fields tickets/") {
		t.Errorf("Zendesk was asked %q", got)
	}
	k.mustAsk(t, "")
	k.clock.advance(7 * time.Hour)
	if k.asked(t) == "" {
		t.Error("the connection was not tested again")
	}
}

// Deleted accounts are kept alive no more, and those created again are others.
func TestUpkeepForgetsAccounts(t *testing.T) {
	k := newKeeping(t, 0)
	k.create(t)
	k.mustAsk(t, "")
	must(t, k.store.DeleteAccount(t.Context(), defaultTenant, "acme", ""))
	k.clock.advance(25 * time.Hour)
	k.mustAsk(t, "")
	k.create(t)
	k.upkeep.look(defaultTenant)
	k.mustAsk(t, "")
	if n := len(k.upkeep.planned); n != 1 {
		t.Errorf("%d accounts are planned for, want 1", n)
	}
}

func TestNextDuty(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	api := &store.APIToken{}
	token := func(r *store.Renewal) *store.OAuthToken {
		return &store.OAuthToken{IssueTime: now, ExpireTime: now.Add(100 * time.Hour), Renewal: r}
	}
	checked := store.Check{Time: now, OK: true}
	for _, test := range []struct {
		name         string
		account      store.Account
		used, tested time.Time
		every        time.Duration
		spread       float64
		duty         duty
		after        time.Duration
	}{
		{name: "no credential", every: time.Hour},
		{name: "pasted token", account: store.Account{OAuthToken: &store.OAuthToken{}, APIToken: api}},
		{name: "token that nothing renews", account: store.Account{OAuthToken: token(nil)}},
		{name: "early", account: store.Account{OAuthToken: token(&store.Renewal{})}, duty: dutyRenew, after: 75 * time.Hour},
		{name: "middle", account: store.Account{OAuthToken: token(&store.Renewal{})}, spread: 0.5, duty: dutyRenew, after: 80 * time.Hour},
		{name: "late", account: store.Account{OAuthToken: token(&store.Renewal{})}, spread: 1, duty: dutyRenew, after: 85 * time.Hour},
		{name: "refused", account: store.Account{OAuthToken: token(&store.Renewal{RefuseTime: now.Add(90 * time.Hour)})}, duty: dutyRenew, after: 91 * time.Hour},
		{name: "refresh token ends before", account: store.Account{OAuthToken: token(&store.Renewal{RefreshExpireTime: now.Add(50 * time.Hour)})}},
		{name: "new API token", account: store.Account{APIToken: api, UpdateTime: now}, duty: dutyUse, after: 24 * time.Hour},
		{name: "API token not in force", account: store.Account{APIToken: api, OAuthToken: token(&store.Renewal{})}, duty: dutyRenew, after: 75 * time.Hour},
		{name: "API token used", account: store.Account{APIToken: api, Check: checked}, used: now.Add(5 * time.Hour), duty: dutyUse, after: 29 * time.Hour},
		{name: "test", account: store.Account{APIToken: api, Check: checked}, every: 10 * time.Hour, duty: dutyTest, after: 9 * time.Hour},
		{name: "test again", account: store.Account{APIToken: api, Check: checked}, tested: now.Add(time.Hour), every: 10 * time.Hour, spread: 1, duty: dutyTest, after: 12 * time.Hour},
		{name: "test later", account: store.Account{APIToken: api, Check: checked}, every: 100 * time.Hour, duty: dutyUse, after: 24 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, at := nextDuty(test.account, test.used, test.tested, test.every, test.spread)
			want := now.Add(test.after)
			if test.duty == dutyNone {
				want = time.Time{}
			}
			if got != test.duty || !at.Equal(want) {
				t.Errorf("duty %d at %v, want %d at %v", got, at, test.duty, want)
			}
		})
	}
}

// A process that was not there in time renews when it starts.
func TestUpkeepAfterRestart(t *testing.T) {
	renewed := make(chan struct{}, 1)
	s := newBlockServer(t, func(c *Config, _ *zendesktest.Config) {
		c.Log = slog.New(&lineHandler{c.Log.Handler(), "token renewed", renewed})
	})
	s.authorize(t, refreshToken)
	before := s.main(t)
	s.stop()
	s.clock.advance(21 * time.Hour)
	s.start(t)
	select {
	case <-renewed:
	case <-time.After(time.Minute):
		t.Fatal("the token is not renewed")
	}
	after := s.main(t)
	if diff := cmp.Diff(before.GetOauthToken().GetScopes(), after.GetOauthToken().GetScopes()); diff != "" || !after.GetOauthToken().GetRenewable() ||
		!after.GetOauthToken().GetExpireTime().AsTime().After(before.GetOauthToken().GetExpireTime().AsTime()) {
		t.Errorf("the account was %v and is %v", before, after)
	}
}

// lineHandler tells when a line was logged.
type lineHandler struct {
	slog.Handler
	line   string
	logged chan struct{}
}

// Handle implements slog.Handler.
func (h *lineHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Message == h.line {
		select {
		case h.logged <- struct{}{}:
		default:
		}
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{h.Handler.WithAttrs(attrs), h.line, h.logged}
}

// An activity whose token has ended is written with the next one.
func TestWriterRenews(t *testing.T) {
	s := newActivityServer(t)
	s.authorize(t, clientCredentials)
	s.zendesk.ExpireTokens()
	a := s.complete(t, "one", openTickets[0])
	if got := s.awaitState(t, a.GetActivityId(), written); got.GetAttempts() != 1 {
		t.Errorf("the activity is %v", got)
	}
}

// Zendesk echoes what it is sent. No one else may ever see it.
func TestRenewalKeepsSecrets(t *testing.T) {
	const canary = "canary-91cd"
	k := newKeeping(t, 0)
	k.create(t)
	for _, grant := range []string{clientCredentials, refreshToken} {
		for _, code := range []int{http.StatusOK, http.StatusBadRequest, http.StatusInternalServerError} {
			k.clock.advance(2 * refusalRest)
			account, err := k.store.UpdateAccount(t.Context(), defaultTenant, "acme", "", func(a *store.Account) error {
				a.OAuthToken = &store.OAuthToken{
					AccessToken: store.NewSecret(canary + "-access-" + fmt.Sprint(code, grant)), ClientID: "client",
					IssueTime: k.clock.now().Add(-time.Hour), ExpireTime: k.clock.now().Add(time.Hour),
					Renewal: &store.Renewal{Grant: grant, ClientSecret: store.NewSecret(canary + "-client"), RefreshToken: store.NewSecret(canary + "-refresh")},
				}
				return nil
			})
			must(t, err)
			k.instead = func(w http.ResponseWriter, r *http.Request) {
				must(t, r.ParseForm())
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(code)
				_, _ = fmt.Fprintf(w, `{"error":%q,"error_description":%q}`, r.Form.Get("client_secret"), fmt.Sprint(r.Form))
				if code == http.StatusOK {
					_, _ = fmt.Fprint(w, canary)
				}
			}
			if _, err := k.service.zendesk.renewals.renew(t.Context(), defaultTenant, account); err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("error is %v", err)
			}
			if shown := prototext.Format(accountToProto(k.account(t), k.clock.now())); strings.Contains(shown, canary) {
				t.Errorf("the account shows the canary: %s", shown)
			}
		}
	}
	if log := k.log.String(); log == "" || strings.Contains(log, canary) {
		t.Errorf("the log holds the canary, or nothing:\n%s", log)
	}
	files, err := os.ReadDir(k.dir)
	must(t, err)
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(k.dir, file.Name()))
		must(t, err)
		if strings.Contains(string(data), canary) {
			t.Errorf("the file %q holds the canary", file.Name())
		}
	}
}
