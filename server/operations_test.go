package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// newKeepingServer starts a service with lives and quotas, and an account.
func newKeepingServer(t testing.TB, keep store.Config) *testServer {
	t.Helper()
	s := newTestServer(t)
	s.keep = keep
	s.restart(t)
	s.createAccount(t, "main", zendesktest.Admin)
	return s
}

func (s *testServer) usage(t testing.TB) *zendeskv1.GetUsageResponse {
	t.Helper()
	resp, err := s.operations.GetUsage(t.Context(), &zendeskv1.GetUsageRequest{})
	must(t, err)
	return resp
}

// mustBeFull checks that a call was refused at a quota.
func mustBeFull(t testing.TB, err error, quota, limit string) {
	t.Helper()
	info := mustReason(t, err, codes.ResourceExhausted, zendeskv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED)
	if diff := cmp.Diff(map[string]string{"quota": quota, "limit": limit}, info.GetMetadata()); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if retry, ok := detailOf[*errdetails.RetryInfo](err); !ok || retry.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("RetryInfo is %v", retry)
	}
}

func TestGetUsage(t *testing.T) {
	t.Parallel()
	s := newKeepingServer(t, store.Config{Quota: store.Usage{Accounts: 2, LiveInteractions: 2, StoredBytes: 64 << 10}})
	attach := func(id, value string) error {
		_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: id, Data: map[string]string{"a": value}})
		return err
	}
	must(t, errors.Join(attach("one", "x"), attach("two", "x")))
	s.createAccount(t, "second", zendesktest.Agent)
	got := s.usage(t)
	mustEqual(t, "quota", got.GetQuota(), &zendeskv1.Usage{Accounts: 2, LiveInteractions: 2, StoredBytes: 64 << 10})
	if u := got.GetUsage(); u.GetAccounts() != 2 || u.GetLiveInteractions() != 2 || u.GetStoredBytes() < 1000 || u.GetStoredBytes() > 64<<10 || got.GetCountTime() != nil {
		t.Errorf("usage is %v", got)
	}

	_, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: "third", Account: &zendeskv1.Account{Name: "Third", Url: s.zendesk.Origin()}})
	mustBeFull(t, err, "accounts", "2")
	mustBeFull(t, attach("three", "x"), "live_interactions", "2")
	mustBeFull(t, attach("one", strings.Repeat("x", 60<<10)), "stored_bytes", "65536")
	toNoTicket, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{InteractionId: "four", TicketId: "999999"})
	must(t, err)
	_, err = s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{InteractionId: "one"})
	must(t, err)
	must(t, attach("three", "x"))

	// A change that is committed while all is counted may be counted twice.
	for state := pending; state == pending; {
		got, err := s.interactions.GetActivity(t.Context(), &zendeskv1.GetActivityRequest{ActivityId: toNoTicket.GetActivity().GetActivityId()})
		must(t, err)
		state = got.GetActivity().GetState()
	}
	_, err = s.store.Scrub(t.Context())
	must(t, err)
	counted := s.usage(t)
	if u := counted.GetUsage(); u.GetLiveInteractions() != 2 || u.GetPendingActivities()+u.GetDeadActivities() != 1 || counted.GetCountTime() == nil {
		t.Errorf("counted anew: %v", counted)
	}
	s.restart(t)
	if u := s.usage(t).GetUsage(); u.GetLiveInteractions() != 2 || u.GetAccounts() != 2 {
		t.Errorf("after a restart: %v", u)
	}
}

// A completion is repeated when its activity is not kept any more, but its interaction still is known.
func TestCompletedLongAgo(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	s := newKeepingServer(t, store.Config{IdleLife: 2 * day, TombstoneLife: 30 * day, ActivityLife: 2 * day})
	req := &zendeskv1.CompleteInteractionRequest{InteractionId: "one"}
	completed, err := s.interactions.CompleteInteraction(t.Context(), req)
	must(t, err)
	id := completed.GetActivity().GetActivityId()
	s.clock.advance(2*day + time.Hour)
	if swept, err := s.store.Sweep(t.Context(), 10); err != nil || swept.Aged != 1 {
		t.Fatalf("swept %+v, %v", swept, err)
	}
	_, err = s.interactions.GetActivity(t.Context(), &zendeskv1.GetActivityRequest{ActivityId: id})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND)
	_, err = s.interactions.CompleteInteraction(t.Context(), req)
	info := mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_COMPLETED)
	mustEqual(t, "metadata", info.GetMetadata(), map[string]string{"interaction_id": "one", "activity_id": id})
	got, err := s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "one"})
	must(t, err)
	if i := got.GetInteraction(); i.GetState() != zendeskv1.InteractionState_INTERACTION_STATE_COMPLETED || i.GetActivityId() != id {
		t.Errorf("interaction is %v", i)
	}
}
