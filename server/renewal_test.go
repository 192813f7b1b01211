package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	tokenPath = "/oauth/tokens"

	// The grants by which tokens are renewed, as they are stored.
	clientCredentials = "client_credentials"
	refreshToken      = "refresh_token"

	refusalRest = time.Hour // how long Zendesk is not asked again after it has refused to renew a token
)

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
	for i := range 5 {
		f := mustFail(t, s.search(t, "one", callerQuery), zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED)
		if i > 0 && !f.GetRetryable() {
			t.Errorf("failure is %v, want it retryable: there will be another token", f)
		}
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
