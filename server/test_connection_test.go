package server

import (
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// connection is what the tests compare of a connection test: the outcome of the whole and of each check, in order, by
// their first letter or, if skipped, a hyphen; the reason of the failure; the account's state afterwards.
type connection struct {
	outcome, checks, failure, state string
}

func testConnection(ctx context.Context, t *testing.T, s *testServer) (connection, *zendeskv1.TestConnectionResponse) {
	t.Helper()
	resp, err := s.accounts.TestConnection(ctx, &zendeskv1.TestConnectionRequest{AccountId: "acme"})
	must(t, err)
	account, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "acme"})
	must(t, err)
	got := connection{
		outcome: strings.TrimPrefix(resp.GetOutcome().String(), "CHECK_OUTCOME_"),
		state:   strings.TrimPrefix(account.GetAccount().GetCredentialState().String(), "CREDENTIAL_STATE_"),
	}
	if resp.GetFailure() != nil {
		got.failure = strings.TrimPrefix(resp.GetFailure().GetReason().String(), "FAILURE_REASON_")
	}
	for i, want := range []string{"user", "scopes", "search", "ticket_fields", "audits", "write", "screen_pop"} {
		check := resp.GetChecks()[i]
		if check.GetName() != want || check.GetMessage() == "" {
			t.Errorf("check %d is %v, want %s with a message", i, check, want)
		}
		got.checks += map[zendeskv1.CheckOutcome]string{
			zendeskv1.CheckOutcome_CHECK_OUTCOME_OK: "O", zendeskv1.CheckOutcome_CHECK_OUTCOME_WARNING: "W",
			zendeskv1.CheckOutcome_CHECK_OUTCOME_FAILED: "F", zendeskv1.CheckOutcome_CHECK_OUTCOME_SKIPPED: "-",
		}[check.GetOutcome()]
	}
	return got, resp
}

func TestTestConnection(t *testing.T) {
	const (
		me, search, fields = "/api/v2/users/me", "/api/v2/search", "/api/v2/ticket_fields"
		tickets, voice     = "/api/v2/tickets/", "/api/v2/channels/voice/"
		current            = "/api/v2/oauth/tokens/current"
	)
	html := "<html><body>Maintenance</body></html>"
	scopes := func(scopes ...string) func(*testing.T, *testServer) {
		return func(t *testing.T, s *testServer) {
			req := sandboxToken(nil)
			req.Scopes = scopes
			_, err := s.accounts.RequestToken(t.Context(), req)
			must(t, err)
		}
	}
	bearer := func(token string) func(*testing.T, *testServer) {
		return func(t *testing.T, s *testServer) {
			_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{
				AccountId: "acme", OauthToken: &zendeskv1.OAuthToken{AccessToken: token},
			}})
			must(t, err)
		}
	}
	cleared := func(t *testing.T, s *testServer) {
		_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{
			Account: &zendeskv1.Account{AccountId: "acme"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"api_token"}},
		})
		must(t, err)
	}
	revoked := func(t *testing.T, s *testServer) {
		scopes("read", "write")(t, s)
		s.zendesk.RevokeTokens()
	}
	wrong := zendesktest.Person{Email: zendesktest.Admin.Email, APIToken: "wrong"}
	for _, test := range []struct {
		name    string
		person  zendesktest.Person // default the administrator
		prepare func(*testing.T, *testServer)
		fault   zendesktest.Fault
		noPop   bool
		want    connection
	}{
		{name: "administrator", want: connection{"OK", "OOOOOOO", "", "OK"}},
		{name: "agent", person: zendesktest.Agent, want: connection{"OK", "OOOOOOO", "", "OK"}},
		{name: "end user", person: zendesktest.EndUser, want: connection{"FAILED", "F------", "ACCESS_DENIED", "NEEDS_AUTHORIZATION"}},
		{name: "wrong API token: anonymous", person: wrong, want: connection{"FAILED", "F------", "CREDENTIALS_REJECTED", "NEEDS_AUTHORIZATION"}},
		{name: "no credential", prepare: cleared, want: connection{"FAILED", "F------", "CREDENTIALS_REJECTED", "NEEDS_AUTHORIZATION"}},
		{name: "wrong access token", prepare: bearer("wrong"), want: connection{"FAILED", "F------", "CREDENTIALS_REJECTED", "NEEDS_AUTHORIZATION"}},
		{name: "revoked access token", prepare: revoked, want: connection{"FAILED", "F------", "CREDENTIALS_REJECTED", "NEEDS_AUTHORIZATION"}},
		{name: "access token", prepare: scopes("read", "write"), want: connection{"OK", "OOOOOOO", "", "OK"}},
		{name: "read only", prepare: scopes("read"), want: connection{"FAILED", "OOOOOFW", "ACCESS_DENIED", "OK"}},
		{
			name: "scopes of single resources", prepare: scopes("users:read", "tickets:read", "tickets:write", "ticket_fields:read"),
			want: connection{"FAILED", "OFFOFWW", "ACCESS_DENIED", "OK"},
		},
		{name: "tokens/current refused", prepare: scopes("read", "write"), fault: zendesktest.Fault{PathPrefix: current, Status: 403}, want: connection{"WARNING", "OWOOOOO", "", "OK"}},
		{name: "throttled at once", fault: zendesktest.Fault{Status: 429, RetryAfter: "93"}, want: connection{"SKIPPED", "-------", "RATE_LIMITED", "UNTESTED"}},
		{name: "throttled at scopes", prepare: scopes("read", "write"), fault: zendesktest.Fault{PathPrefix: current, Status: 429, RetryAfter: "93"}, want: connection{"WARNING", "O------", "RATE_LIMITED", "OK"}},
		{name: "throttled in between", fault: zendesktest.Fault{PathPrefix: fields, Status: 429, RetryAfter: "93"}, want: connection{"WARNING", "OOO----", "RATE_LIMITED", "OK"}},
		{name: "throttled at the end", fault: zendesktest.Fault{PathPrefix: voice, Status: 429, RetryAfter: "93"}, want: connection{"WARNING", "OOOOOO-", "RATE_LIMITED", "OK"}},
		{name: "401", fault: zendesktest.Fault{Status: 401}, want: connection{"FAILED", "F------", "CREDENTIALS_REJECTED", "NEEDS_AUTHORIZATION"}},
		{name: "403", fault: zendesktest.Fault{Status: 403}, want: connection{"FAILED", "F------", "ACCESS_DENIED", "NEEDS_AUTHORIZATION"}},
		{name: "404", fault: zendesktest.Fault{Status: 404}, want: connection{"FAILED", "F------", "NOT_FOUND", "UNTESTED"}},
		{name: "500", fault: zendesktest.Fault{Status: 500}, want: connection{"FAILED", "F------", "UNAVAILABLE", "UNTESTED"}},
		{name: "HTML", fault: zendesktest.Fault{Body: &html}, want: connection{"FAILED", "F------", "BAD_RESPONSE", "UNTESTED"}},
		{name: "connection cut", fault: zendesktest.Fault{Drop: zendesktest.DropBefore}, want: connection{"FAILED", "F------", "UNAVAILABLE", "UNTESTED"}},
		{name: "no search", fault: zendesktest.Fault{PathPrefix: search, Status: 403}, want: connection{"FAILED", "OOFOOOO", "ACCESS_DENIED", "OK"}},
		{name: "no search and no audits", fault: zendesktest.Fault{Method: "GET", PathPrefix: tickets, Status: 403}, want: connection{"FAILED", "OOOOFOO", "ACCESS_DENIED", "OK"}},
		{name: "no tickets", fault: zendesktest.Fault{PathPrefix: search, Body: new(`{"results":[],"count":0}`)}, want: connection{"OK", "OOOOOOO", "", "OK"}},
		{name: "ticket deleted", fault: zendesktest.Fault{PathPrefix: tickets, Status: 404}, want: connection{"OK", "OOOOOOO", "", "OK"}},
		{name: "ticket fields in HTML", fault: zendesktest.Fault{PathPrefix: fields, Body: &html}, want: connection{"FAILED", "OOOFOOO", "BAD_RESPONSE", "OK"}},
		{name: "no screen pops in the plan", noPop: true, want: connection{"WARNING", "OOOOOOW", "", "OK"}},
		{name: "no licence for screen pops", fault: zendesktest.Fault{PathPrefix: voice, Status: 403}, want: connection{"WARNING", "OOOOOOW", "", "OK"}},
		{name: "screen pops broken", fault: zendesktest.Fault{PathPrefix: voice, Status: 500}, want: connection{"FAILED", "OOOOOOF", "UNAVAILABLE", "OK"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newTestServer(t, func(_ *Config, z *zendesktest.Config) { z.NoScreenPop = test.noPop })
			if test.person.Email == "" {
				test.person = zendesktest.Admin
			}
			s.createAccount(t, "acme", test.person)
			if test.prepare != nil {
				test.prepare(t, s)
			}
			if !reflect.DeepEqual(test.fault, zendesktest.Fault{}) {
				s.zendesk.AddFault(test.fault)
			}
			got, resp := testConnection(t.Context(), t, s)
			if got != test.want {
				t.Errorf("got %v, want %v: %v", got, test.want, resp)
			}
			if test.fault.RetryAfter != "" && resp.GetFailure().GetRetryAfter().AsDuration() != 93*time.Second {
				t.Errorf("failure is %v", resp.GetFailure())
			}
			if known := test.want.checks[0] == 'O' || test.person == zendesktest.EndUser; known != (resp.GetUser().GetId() != "") {
				t.Errorf("user is %v", resp.GetUser())
			}
			if pops := s.zendesk.Pops(); len(pops) > 0 {
				t.Errorf("screens have moved: %v", pops)
			}
			for _, asked := range s.requests() {
				if strings.HasPrefix(asked, "P") && !strings.Contains(asked, "/display") && !strings.Contains(asked, "/oauth/tokens") {
					t.Errorf("%s may change something", asked)
				}
			}
		})
	}
}

func TestTestConnectionInTime(t *testing.T) {
	for _, test := range []struct {
		hanging string
		want    connection
	}{
		{"/api/v2/users/me", connection{"FAILED", "F------", "TIMEOUT", "UNTESTED"}},
		{"/api/v2/search", connection{"FAILED", "OOF----", "TIMEOUT", "OK"}},
	} {
		t.Run(test.hanging, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t)
			s.createAccount(t, "acme", zendesktest.Admin)
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: test.hanging, Delay: time.Hour})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if got, resp := testConnection(ctx, t, s); got != test.want {
				t.Errorf("got %v, want %v: %v", got, test.want, resp)
			}
		})
	}
}

// A pasted token brings nothing with it; Zendesk tells.
func TestTestConnectionLearnsToken(t *testing.T) {
	s := newTestServer(t)
	s.createAccount(t, "acme", zendesktest.Admin)
	_, err := s.accounts.RequestToken(t.Context(), sandboxToken(nil))
	must(t, err)
	own, err := s.store.Account(t.Context(), defaultTenant, "acme")
	must(t, err)
	_, err = s.store.CreateAccount(t.Context(), defaultTenant, store.Account{
		ID: "pasted", Name: "Pasted", URL: own.URL, OAuthToken: &store.OAuthToken{AccessToken: own.OAuthToken.AccessToken},
	})
	must(t, err)
	_, err = s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: "pasted"})
	must(t, err)
	resp, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "pasted"})
	must(t, err)
	token := resp.GetAccount().GetOauthToken()
	if strings.Join(token.GetScopes(), " ") != "read write" || token.GetExpireTime() == nil || token.GetRenewable() {
		t.Errorf("token is %v", token)
	}
}

// The stream tells the checks of the test, each when it is made, and at last what the test replies.
func TestStreamTestConnection(t *testing.T) {
	s := newTestServer(t)
	s.createAccount(t, "acme", zendesktest.Admin)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/ticket_fields", Status: 403})
	stream, err := s.accounts.StreamTestConnection(t.Context(), &zendeskv1.StreamTestConnectionRequest{AccountId: "acme"})
	must(t, err)
	var told []*zendeskv1.ConnectionCheck
	for {
		resp, err := stream.Recv()
		must(t, err)
		if resp.GetResult() == nil {
			told = append(told, resp.GetCheck())
			continue
		}
		_, want := testConnection(t.Context(), t, s)
		got := resp.GetResult()
		for _, r := range []*zendeskv1.TestConnectionResponse{got, want} {
			r.Latency, r.GetFailure().ZendeskRequestId = nil, ""
		}
		mustEqual(t, "result", got, want)
		mustEqual(t, "checks", told, want.GetChecks())
		break
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the result comes %v", err)
	}
	stream, err = s.accounts.StreamTestConnection(t.Context(), &zendeskv1.StreamTestConnectionRequest{AccountId: "nobody"})
	must(t, err)
	_, err = stream.Recv()
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND)
}

// Whoever waits is told what is known, while Zendesk has not answered the rest; and may go.
func TestStreamTestConnectionTellsAtOnce(t *testing.T) {
	s := newTestServer(t)
	s.createAccount(t, "acme", zendesktest.Admin)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/search", Delay: time.Hour})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	stream, err := s.accounts.StreamTestConnection(ctx, &zendeskv1.StreamTestConnectionRequest{AccountId: "acme"})
	must(t, err)
	for _, want := range []string{"user", "scopes"} {
		resp, err := stream.Recv()
		must(t, err)
		if check := resp.GetCheck(); check.GetName() != want || check.GetOutcome() != zendeskv1.CheckOutcome_CHECK_OUTCOME_OK {
			t.Errorf("the check is %v, want %s", check, want)
		}
	}
	leave()
	for err = nil; err == nil; _, err = stream.Recv() {
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("the stream ends with %v", err)
	}
	eventually(t, "what Zendesk said of the credential is kept", func() bool { // although nobody waits
		account, err := s.store.Account(t.Context(), defaultTenant, "acme")
		must(t, err)
		return account.Check.OK
	})
}
