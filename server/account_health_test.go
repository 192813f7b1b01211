package server

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	stateUnknown   = zendeskv1.HealthState_HEALTH_STATE_UNKNOWN
	stateHealthy   = zendeskv1.HealthState_HEALTH_STATE_HEALTHY
	stateLimited   = zendeskv1.HealthState_HEALTH_STATE_LIMITED
	stateFailing   = zendeskv1.HealthState_HEALTH_STATE_FAILING
	stateNeedsAuth = zendeskv1.HealthState_HEALTH_STATE_NEEDS_AUTHORIZATION
)

func (s *testServer) health(t testing.TB, account string) *zendeskv1.AccountHealth {
	t.Helper()
	resp, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: account})
	must(t, err)
	return resp.GetAccount().GetHealth()
}

// ill lists the ids of the accounts that are ill.
func (s *testServer) ill(t testing.TB) (ids []string) {
	t.Helper()
	resp, err := s.accounts.ListAccounts(t.Context(), &zendeskv1.ListAccountsRequest{OnlyIll: true})
	must(t, err)
	for _, a := range resp.GetAccounts() {
		ids = append(ids, a.GetAccountId())
	}
	return ids
}

// searchTimes searches a number of times, for different things.
func (s *testServer) searchTimes(t testing.TB, n int) {
	t.Helper()
	for range n {
		s.search(t, "call", callerQuery)
	}
}

// TestAccountHealth brings an account into each state, through Zendesk's answers.
func TestAccountHealth(t *testing.T) {
	t.Parallel()
	const search = "/api/v2/search"
	throttle := zendesktest.Fault{PathPrefix: search, Status: 429, RetryAfter: "300"}
	broken := zendesktest.Fault{PathPrefix: search, Body: new("<html>")}
	for name, test := range map[string]struct {
		do       func(testing.TB, *activityServer)
		want     zendeskv1.HealthState
		why      zendeskv1.FailureReason // of the last failure; 0: there is none
		answered bool
	}{
		"never asked":   {func(testing.TB, *activityServer) {}, stateUnknown, 0, false},
		"answers":       {func(t testing.TB, s *activityServer) { s.searchTimes(t, 1) }, stateHealthy, 0, true},
		"nothing found": {func(t testing.TB, s *activityServer) { s.search(t, "call", "type:user nobody") }, stateHealthy, 0, true},
		"was tested": {func(t testing.TB, s *activityServer) {
			_, err := s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: "main"})
			must(t, err)
		}, stateHealthy, 0, true},
		"throttled": {func(t testing.TB, s *activityServer) {
			s.zendesk.AddFault(throttle)
			s.searchTimes(t, 3)
		}, stateLimited, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED, false},
		"limit used up": {func(t testing.TB, s *activityServer) {
			s.searchTimes(t, 1)
			used := throttle
			used.Edit = &zendesktest.Edit{Header: map[string]string{"X-Rate-Limit-Remaining": "0", "Ratelimit-Remaining": "0", "Rate-Limit-Remaining": "0"}}
			s.zendesk.AddFault(used)
			s.searchTimes(t, 1)
			health := s.health(t, "main")
			if wait := health.GetLimitedUntil().AsTime().Sub(s.clock.now()); wait < 4*time.Minute || wait > 5*time.Minute ||
				health.GetLimitPerMinute() != 200 || health.GetLimitRemaining() >= 200 {
				t.Errorf("health is %v, want 200 a minute and 5 minutes without", health)
			}
		}, stateLimited, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED, true},
		"an endpoint is left alone": {func(t testing.TB, s *activityServer) {
			s.zendesk.AddFault(broken)
			s.searchTimes(t, 6)
			_, err := s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: "main"})
			must(t, err)
			if left := s.health(t, "main").GetFailingEndpoints(); !slices.Equal(left, []string{"search"}) {
				t.Errorf("%q are left alone", left)
			}
		}, stateFailing, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, true},
		"broken": {func(t testing.TB, s *activityServer) {
			s.searchTimes(t, 1)
			s.zendesk.AddFault(broken)
			s.searchTimes(t, 3)
		}, stateFailing, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, true},
		"broken for a moment": {func(t testing.TB, s *activityServer) {
			s.searchTimes(t, 1)
			s.zendesk.AddFault(broken)
			s.searchTimes(t, 2)
		}, stateHealthy, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, true},
		"broken, and well again": {func(t testing.TB, s *activityServer) {
			s.zendesk.AddFault(broken)
			s.searchTimes(t, 3)
			s.zendesk.ClearFaults()
			s.searchTimes(t, 1)
		}, stateHealthy, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, true},
		"not there": {func(t testing.TB, s *activityServer) {
			s.zendesk.AddFault(zendesktest.Fault{Status: 404, Body: new(`{"error":{"title":"No help desk at acme.zendesk.com"}}`)})
			s.searchTimes(t, 3)
		}, stateFailing, zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND, false},
		"not allowed": {func(t testing.TB, s *activityServer) {
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: search, Status: 403})
			s.searchTimes(t, 3)
		}, stateFailing, zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED, false},
		"credential is refused": {func(t testing.TB, s *activityServer) {
			s.zendesk.AddFault(zendesktest.Fault{Status: 401})
			s.searchTimes(t, 1)
		}, stateNeedsAuth, zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED, false},
		"credential is gone": {func(t testing.TB, s *activityServer) {
			s.searchTimes(t, 1)
			_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{
				Account: &zendeskv1.Account{AccountId: "main"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"api_token"}},
			})
			must(t, err)
		}, stateNeedsAuth, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t, func(_ *Config, z *zendesktest.Config) { z.RateLimit = 200 })
			s.createAccount(t, "other", zendesktest.Agent)
			before := s.clock.now()
			test.do(t, s)
			health := s.health(t, "main")
			if health.GetState() != test.want || health.GetLastFailure().GetReason() != test.why {
				t.Errorf("health is %v, want %v and the failure %v", health, test.want, test.why)
			}
			for what, at := range map[string]struct {
				time *timestamppb.Timestamp
				want bool
			}{
				"success": {health.GetLastSuccessTime(), test.answered}, "failure": {health.GetLastFailureTime(), test.why != 0},
			} {
				if got := at.time; (got != nil) != at.want || got != nil && (got.AsTime().Before(before) || got.AsTime().After(s.clock.now())) {
					t.Errorf("the last %s was at %v", what, got.AsTime())
				}
			}
			if health.GetPendingActivities() != 0 || health.GetDeadActivities() != 0 || health.GetOldestPendingTime() != nil {
				t.Errorf("health is %v: there are no activities", health)
			}
			var want []string
			if test.want == stateLimited || test.want == stateFailing || test.want == stateNeedsAuth {
				want = []string{"main"}
			}
			if got := s.ill(t); !slices.Equal(got, want) {
				t.Errorf("ill are %q, want %q", got, want)
			}
			listed, err := s.accounts.ListAccounts(t.Context(), &zendeskv1.ListAccountsRequest{})
			must(t, err)
			// Of the other account nothing is known: Zendesk has not said that it may know what is known of this one's.
			if all := listed.GetAccounts(); len(all) != 2 || !proto.Equal(all[0].GetHealth(), health) ||
				!proto.Equal(all[1].GetHealth(), &zendeskv1.AccountHealth{State: stateUnknown}) {
				t.Errorf("listed are %v, want main with %v", all, health)
			}

			// What is only in memory, a restart forgets.
			s.restart(t)
			after := s.health(t, "main")
			want, wantState := nil, stateUnknown
			if test.want == stateNeedsAuth {
				want, wantState = []string{"main"}, stateNeedsAuth
			}
			if after.GetState() != wantState || after.GetLastFailure() != nil || after.GetLastFailureTime() != nil || !slices.Equal(s.ill(t), want) {
				t.Errorf("after a restart: %v, want %v and no failure", after, wantState)
			}
		})
	}
}

// What an account's activities add to its health.
func TestAccountHealthOfActivities(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.createAccount(t, "other", zendesktest.Agent)
	counts := func(account string, waiting, isDead int64) *zendeskv1.AccountHealth {
		t.Helper()
		health := s.health(t, account)
		if health.GetPendingActivities() != waiting || health.GetDeadActivities() != isDead {
			t.Errorf("health of %s is %v, want %d pending and %d dead activities", account, health, waiting, isDead)
		}
		return health
	}
	gone := s.refuse(t, "gone", http.StatusNotFound, "main")
	if health := counts("main", 0, 1); health.GetState() != stateHealthy || health.GetOldestPendingTime() != nil {
		t.Errorf("with a dead activity, health is %v", health)
	}
	// The writer holds all of them for what no request is blamed for otherwise.
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodGet, PathPrefix: ticketsPath, Status: 404, Body: new(`{"error":"InvalidEndpoint"}`)})
	first := s.complete(t, "first", openTickets[0], func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = "main" })
	s.awaitTries(t, first.GetActivityId(), 1)
	second := s.complete(t, "second", openTickets[1], func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = "main" })
	health := counts("main", 2, 1)
	oldest, created := health.GetOldestPendingTime().AsTime(), first.GetCreateTime().AsTime()
	if health.GetState() != stateFailing || !oldest.Equal(created.Truncate(time.Microsecond)) {
		t.Errorf("health is %v, want it failing, with an activity that waits since %v", health, created)
	}
	counts("other", 0, 0)
	if got := s.ill(t); !slices.Equal(got, []string{"main"}) {
		t.Errorf("ill are %q", got)
	}

	// Activities are stored: they count after a restart too.
	s.restart(t)
	if again := counts("main", s.health(t, "main").GetPendingActivities(), 1); again.GetPendingActivities() < 1 || !again.GetOldestPendingTime().AsTime().Equal(oldest) {
		t.Errorf("after a restart: %v", again)
	}
	s.zendesk.ClearFaults()
	for _, id := range []string{first.GetActivityId(), second.GetActivityId()} {
		s.advance(t, time.Minute)
		s.awaitThroughTries(t, id)
	}
	_, err := s.interactions.DiscardActivity(t.Context(), &zendeskv1.DiscardActivityRequest{ActivityId: gone.GetActivityId()})
	must(t, err)
	if health := counts("main", 0, 0); health.GetState() != stateHealthy || health.GetOldestPendingTime() != nil {
		t.Errorf("when all is written: %v", health)
	}
}

// Health comes out and does not go in.
func TestAccountHealthIsOutput(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	made := &zendeskv1.Account{Name: "Acme", Url: s.zendesk.Origin(), Health: &zendeskv1.AccountHealth{State: stateHealthy, DeadActivities: 7}}
	created, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: made})
	must(t, err)
	updated, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{
		Account: &zendeskv1.Account{AccountId: "acme", Name: "New", Health: made.GetHealth()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name", "health"}},
	})
	must(t, err)
	if created.GetAccount().GetHealth() != nil || updated.GetAccount().GetHealth() != nil {
		t.Errorf("changes tell of health: %v, %v", created, updated)
	}
	if health := s.health(t, "acme"); health.GetState() != stateNeedsAuth || health.GetDeadActivities() != 0 {
		t.Errorf("health is %v", health)
	}
}

// An account uses no more than its share of its Zendesk's limit; another account of the same Zendesk has the rest.
func TestLimitShare(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	share := func(percent int32, paths ...string) error {
		_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{
			Account: &zendeskv1.Account{AccountId: "main", MaxLimitShare: percent}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		})
		return err
	}
	for _, percent := range []int32{-1, 101} {
		mustViolate(t, share(percent, "max_limit_share"), "account.max_limit_share")
	}
	must(t, share(10, "max_limit_share"))
	got, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "main"})
	must(t, err)
	mustEqual(t, "share", got.GetAccount().GetMaxLimitShare(), int32(10))
	must(t, s.zendesk.SetLimits(zendesktest.Limits{PerMinute: 100}))
	succeeded, begun := 0, time.Now()
	for i := range 20 {
		resp := s.search(t, "one", fmt.Sprint("type:ticket ", i))
		if resp.GetExit() != zendeskv1.Exit_EXIT_FAILED {
			succeeded++
			continue
		}
		f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED)
		if f.GetHttpStatus() != 0 || f.GetRetryAfter().AsDuration() <= 0 || !f.GetRetryable() {
			t.Errorf("failure is %v", f)
		}
	}
	// Of a machine that is slow the limit comes back meanwhile.
	if most := 11 + int(time.Since(begun)/(6*time.Second)); succeeded < 8 || succeeded > most {
		t.Errorf("%d of 20 searches succeeded with a tenth of 100", succeeded)
	}
	must(t, share(0, "max_limit_share"))
	mustExit(t, s.search(t, "one", "type:ticket"), next)
}
