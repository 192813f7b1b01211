package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// list lists all activities, page by page.
func (s *activityServer) list(t testing.TB, change ...func(*zendeskv1.ListActivitiesRequest)) []*zendeskv1.Activity {
	t.Helper()
	req := &zendeskv1.ListActivitiesRequest{PageSize: 3}
	for _, f := range change {
		f(req)
	}
	var all []*zendeskv1.Activity
	for {
		resp, err := s.interactions.ListActivities(t.Context(), req)
		must(t, err)
		if len(resp.GetActivities()) > int(req.GetPageSize()) {
			t.Fatalf("page has %d activities", len(resp.GetActivities()))
		}
		all = append(all, resp.GetActivities()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

func (s *activityServer) retry(t testing.TB, id, ticket string) *zendeskv1.Activity {
	t.Helper()
	resp, err := s.interactions.RetryActivity(t.Context(), &zendeskv1.RetryActivityRequest{ActivityId: id, TicketId: ticket})
	must(t, err)
	mustEqual(t, "state after a retry", resp.GetActivity().GetState(), pending)
	return resp.GetActivity()
}

// refuse makes the activity of an interaction DEAD.
func (s *activityServer) refuse(t testing.TB, interaction string, status int, account string) *zendeskv1.Activity {
	t.Helper()
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Status: status, Times: 1})
	a := s.complete(t, interaction, openTickets[0], func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = account })
	return s.awaitState(t, a.GetActivityId(), dead)
}

func TestListActivities(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.createAccount(t, "second", zendesktest.Agent)
	var want []string
	for i := range 4 {
		want = append(want, s.complete(t, fmt.Sprintf("skipped-%d", i), "").GetActivityId())
	}
	for i := range 4 {
		want = append(want, s.refuse(t, fmt.Sprintf("dead-%d", i), []int{404, 422}[i%2], []string{"main", "second"}[i/2]).GetActivityId())
	}
	want = append(want, s.awaitState(t, s.complete(t, "written", openTickets[0]).GetActivityId(), written).GetActivityId())
	for name, tt := range map[string]struct {
		change func(*zendeskv1.ListActivitiesRequest)
		want   []string
	}{
		"all":             {func(*zendeskv1.ListActivitiesRequest) {}, want},
		"one page":        {func(r *zendeskv1.ListActivitiesRequest) { r.PageSize = 200 }, want},
		"singly":          {func(r *zendeskv1.ListActivitiesRequest) { r.PageSize = 1 }, want},
		"by state":        {func(r *zendeskv1.ListActivitiesRequest) { r.State = noTicket }, want[:4]},
		"written":         {func(r *zendeskv1.ListActivitiesRequest) { r.State = written }, want[8:]},
		"pending":         {func(r *zendeskv1.ListActivitiesRequest) { r.State = pending }, nil},
		"by account":      {func(r *zendeskv1.ListActivitiesRequest) { r.AccountId = "second" }, want[6:8]},
		"unknown account": {func(r *zendeskv1.ListActivitiesRequest) { r.AccountId = "third" }, nil},
		"by reason": {func(r *zendeskv1.ListActivitiesRequest) {
			r.FailureReason = zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND
		}, []string{want[4], want[6]}},
		"by all": {func(r *zendeskv1.ListActivitiesRequest) {
			r.State, r.AccountId, r.FailureReason = dead, "second", zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST
		}, want[7:8]},
	} {
		var got []string
		for _, a := range s.list(t, tt.change) {
			got = append(got, a.GetActivityId())
		}
		mustEqual(t, "activities, "+name, got, tt.want)
	}
}

func TestListActivitiesByTimeAndPlace(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.createAccount(t, "second", zendesktest.Agent)
	s.account(t, "third", "beta", s.zendesk.Origin())
	var all []*zendeskv1.Activity
	for i, account := range []string{"", "second", "third", "", "second", "", "third"} {
		id := fmt.Sprintf("call-%d", i)
		if account == "" {
			all = append(all, s.complete(t, id, ""))
		} else {
			all = append(all, s.refuse(t, id, 422, account))
		}
		s.advance(t, time.Hour)
	}
	ids := func(numbers ...int) (list []string) {
		for _, n := range numbers {
			list = append(list, all[n].GetActivityId())
		}
		return list
	}
	at := func(n int) *timestamppb.Timestamp { return all[n].GetCreateTime() }
	mustFind := func(name string, want []string, change func(*zendeskv1.ListActivitiesRequest)) {
		t.Helper()
		for _, newest := range []bool{false, true} {
			if newest {
				want = slices.Clone(want)
				slices.Reverse(want)
			}
			for _, size := range []int32{1, 2, 3, 200, 1 << 30} {
				req := &zendeskv1.ListActivitiesRequest{}
				change(req)
				req.PageSize, req.NewestFirst = size, newest
				var got []string
				for {
					resp, err := s.interactions.ListActivities(t.Context(), req)
					must(t, err)
					if n := len(resp.GetActivities()); n > int(size) || n == 0 && len(want) > 0 {
						t.Errorf("%s: a page has %d activities of %d", name, n, size)
					}
					for _, a := range resp.GetActivities() {
						got = append(got, a.GetActivityId())
					}
					if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
						break
					}
				}
				mustEqual(t, fmt.Sprintf("activities, %s, newest first %t, pages of %d", name, newest, size), got, want)
			}
		}
	}
	type request = zendeskv1.ListActivitiesRequest
	mustFind("all", ids(0, 1, 2, 3, 4, 5, 6), func(*request) {})
	mustFind("of an interaction", ids(3), func(r *request) { r.InteractionId = "call-3" })
	mustFind("of an unknown interaction", nil, func(r *request) { r.InteractionId = "call-9" })
	mustFind("since", ids(4, 5, 6), func(r *request) { r.Since = at(4) })
	mustFind("until", ids(0, 1, 2, 3), func(r *request) { r.Until = at(4) })
	mustFind("between", ids(2, 3, 4), func(r *request) { r.Since, r.Until = at(2), at(5) })
	mustFind("of no time", nil, func(r *request) { r.Since, r.Until = at(2), at(2) })
	mustFind("of a time that ends before it begins", nil, func(r *request) { r.Since, r.Until = at(5), at(2) })
	mustFind("in a state", ids(0, 3, 5), func(r *request) { r.State = noTicket })
	mustFind("in a state, since", ids(3, 5), func(r *request) { r.State, r.Since = noTicket, at(1) })
	mustFind("of an account", ids(1, 4), func(r *request) { r.AccountId = "second" })
	mustFind("of an account by its name", ids(1, 4), func(r *request) { r.AccountId = "Account second" })
	mustFind("of an account by its name in another case", ids(1, 4), func(r *request) { r.AccountId = "ACCOUNT Second" })
	mustFind("of an account whose name could be an id", ids(2, 6), func(r *request) { r.AccountId = "beta" })
	mustFind("of an interaction of another account", nil, func(r *request) { r.InteractionId, r.AccountId = "call-1", "third" })
	mustFind("by all", ids(4), func(r *request) {
		r.State, r.AccountId, r.FailureReason = dead, "Account second", zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST
		r.InteractionId, r.Since, r.Until = "call-4", at(3), at(6)
	})

	// What a deleted account left is found by its id, and not by its name.
	s.deleteAccount(t, "second")
	s.deleteAccount(t, "third")
	mustFind("of a deleted account", ids(1, 4), func(r *request) { r.AccountId = "second" })
	mustFind("by the name of a deleted account", nil, func(r *request) { r.AccountId = "beta" })
	_, err := s.interactions.ListActivities(t.Context(), &request{AccountId: "Account second"})
	mustViolate(t, err, "account_id")
	// One that was made since under its id is found by it as well.
	s.createAccount(t, "second", zendesktest.Agent)
	all = append(all, s.refuse(t, "call-7", 422, "second"))
	mustFind("of an id that two accounts have had", ids(1, 4, 7), func(r *request) { r.AccountId = "second" })
}

// RetryActivities takes the same filters.
func TestRetryActivitiesOfAnAccountByName(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.createAccount(t, "second", zendesktest.Agent)
	s.createAccount(t, "third", zendesktest.Agent)
	first, second := s.refuse(t, "call-1", 422, "main"), s.refuse(t, "call-2", 422, "second")
	third := s.refuse(t, "call-3", 422, "third")
	s.deleteAccount(t, "third")
	retry := func(account string, want int32) {
		t.Helper()
		resp, err := s.interactions.RetryActivities(t.Context(), &zendeskv1.RetryActivitiesRequest{AccountId: account})
		must(t, err)
		mustEqual(t, "retried, of "+account, resp.GetCount(), want)
	}
	retry("account SECOND", 1)
	s.awaitState(t, second.GetActivityId(), written)
	mustEqual(t, "state of another account's", s.activity(t, first.GetActivityId()).GetState(), dead)
	retry("third", 0) // there is no account to write it with
	mustEqual(t, "state of a deleted account's", s.activity(t, third.GetActivityId()).GetState(), dead)
	_, err := s.interactions.RetryActivities(t.Context(), &zendeskv1.RetryActivitiesRequest{AccountId: "Account third"})
	mustViolate(t, err, "account_id")
}

func TestPagesOfActivitiesFitAMessage(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	const large = 12
	for i := range large { // 5 MB of notes and data in all
		id := fmt.Sprintf("call-%d", i)
		for k := range 6 {
			s.attach(t, id, map[string]string{fmt.Sprint(k): strings.Repeat("x", 64<<10-200)})
		}
		s.complete(t, id, "", func(r *zendeskv1.CompleteInteractionRequest) {
			r.Details = &zendeskv1.ActivityDetails{Notes: strings.Repeat("n", 64<<10)}
		})
	}
	mustEqual(t, "activities", len(s.list(t, func(r *zendeskv1.ListActivitiesRequest) { r.PageSize = 200 })), large)
}

func TestRetryActivity(t *testing.T) {
	t.Parallel()
	t.Run("on the same ticket", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		a := s.refuse(t, "call-1", 422, "main")
		again := s.retry(t, a.GetActivityId(), "")
		mustEqual(t, "ticket", again.GetTicketId(), openTickets[0])
		a = s.awaitState(t, a.GetActivityId(), written)
		mustEqual(t, "attempts", a.GetAttempts(), int32(2))
		mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1"})
	})
	t.Run("on another ticket", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		a := s.awaitState(t, s.complete(t, "call-1", fmt.Sprint(zendesktest.ClosedTicket)).GetActivityId(), dead)
		again := s.retry(t, a.GetActivityId(), openTickets[1])
		mustEqual(t, "ticket", again.GetTicketId(), openTickets[1])
		mustEqual(t, "rule", again.GetTicketRule(), zendeskv1.TicketRule_TICKET_RULE_REQUESTED)
		a = s.awaitState(t, a.GetActivityId(), written)
		mustEqual(t, "ticket", a.GetTicketId(), openTickets[1])
		mustEqual(t, "interactions", s.interactionsOf(t, openTickets[1]), []string{"call-1"})
	})
	t.Run("that may have been written", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		audits := ticketsPath + "/" + openTickets[0] + "/audits"
		s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Drop: zendesktest.DropAfter, Times: 1})
		s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodGet, PathPrefix: audits, Status: 404, Times: 1})
		a := s.complete(t, "call-1", openTickets[0])
		s.await(t, a.GetActivityId(), func(a *zendeskv1.Activity) bool { return a.GetAttempts() == 1 })
		s.advance(t, longEnough)
		s.awaitState(t, a.GetActivityId(), dead)
		s.retry(t, a.GetActivityId(), "")
		s.awaitState(t, a.GetActivityId(), written)
		mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1"})
	})
	t.Run("in vain", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, Status: 422})
		id := s.awaitState(t, s.complete(t, "call-1", openTickets[0]).GetActivityId(), dead).GetActivityId()
		// Retried the moment it is DEAD, the queue may not have let go of it yet.
		for tries := int32(2); tries < 20; tries++ {
			s.retry(t, id, "")
			s.await(t, id, func(a *zendeskv1.Activity) bool { return a.GetState() == dead && a.GetAttempts() == tries })
		}
	})
	t.Run("by a default account where there was none", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		s.deleteAccount(t, "main")
		a := s.complete(t, "call-1", openTickets[0])
		mustEqual(t, "state", a.GetState(), dead)
		mustEqual(t, "reason", a.GetFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_NO_DEFAULT_ACCOUNT)
		_, err := s.interactions.RetryActivity(t.Context(), &zendeskv1.RetryActivityRequest{ActivityId: a.GetActivityId()})
		mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND)
		resp, err := s.interactions.RetryActivities(t.Context(), &zendeskv1.RetryActivitiesRequest{})
		must(t, err)
		mustEqual(t, "retried without an account", resp.GetCount(), int32(0))
		s.createAccount(t, "main", zendesktest.Admin)
		s.retry(t, a.GetActivityId(), "")
		a = s.awaitState(t, a.GetActivityId(), written)
		mustEqual(t, "account", a.GetAccount().GetAccountId(), "main")
	})
}

func TestAllButWrittenActivitiesAreDecidedOn(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	discard := func(id string) {
		t.Helper()
		resp, err := s.interactions.DiscardActivity(t.Context(), &zendeskv1.DiscardActivityRequest{ActivityId: id})
		must(t, err)
		mustEqual(t, "state", resp.GetActivity().GetState(), discarded)
		mustEqual(t, "stored state", s.activity(t, id).GetState(), discarded)
	}
	discard(s.refuse(t, "refused", 422, "main").GetActivityId())
	skipped := s.complete(t, "skipped", "").GetActivityId()
	_, err := s.interactions.RetryActivity(t.Context(), &zendeskv1.RetryActivityRequest{ActivityId: skipped})
	mustViolate(t, err, "ticket_id")
	discard(skipped)
	_, err = s.interactions.RetryActivity(t.Context(), &zendeskv1.RetryActivityRequest{ActivityId: skipped})
	mustViolate(t, err, "ticket_id") // it is still one for which no ticket was to be created
	s.retry(t, skipped, openTickets[1])
	s.awaitState(t, skipped, written)
	for name, id := range map[string]string{
		"written": s.awaitState(t, s.complete(t, "written", openTickets[0]).GetActivityId(), written).GetActivityId(),
		"retried": skipped,
	} {
		_, err := s.interactions.RetryActivity(t.Context(), &zendeskv1.RetryActivityRequest{ActivityId: id, TicketId: openTickets[1]})
		info := mustReason(t, err, codes.FailedPrecondition, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_WRITTEN)
		mustEqual(t, "activity, "+name, info.GetMetadata()["activity_id"], id)
		_, err = s.interactions.DiscardActivity(t.Context(), &zendeskv1.DiscardActivityRequest{ActivityId: id})
		mustReason(t, err, codes.FailedPrecondition, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_WRITTEN)
	}

	// A pending one that does not move is taken elsewhere, or out of the way of those behind it.
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath + "/" + openTickets[0], Status: 403})
	stuck := s.awaitTries(t, s.complete(t, "stuck", openTickets[0]).GetActivityId(), 1).GetActivityId()
	behind := s.complete(t, "behind", openTickets[0]).GetActivityId()
	s.retry(t, stuck, openTickets[1])
	s.awaitState(t, stuck, written)
	s.awaitTries(t, behind, 1)
	discard(behind)
	s.zendesk.ClearFaults()
	s.advance(t, longEnough)
	s.awaitState(t, s.complete(t, "last", openTickets[0]).GetActivityId(), written)
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"written", "last"})
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[1]), []string{"skipped", "stuck"})
}

func TestActivityIsNotDecidedOnDuringATry(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Drop: zendesktest.DropAfter, Delay: time.Hour, Times: 1})
	id := s.complete(t, "call-1", openTickets[0]).GetActivityId()
	for len(s.audits(t, openTickets[0])) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("it is not written")
		}
	}
	_, err := s.interactions.RetryActivity(t.Context(), &zendeskv1.RetryActivityRequest{ActivityId: id, TicketId: openTickets[1]})
	mustReason(t, err, codes.Aborted, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_BUSY)
	_, err = s.interactions.DiscardActivity(t.Context(), &zendeskv1.DiscardActivityRequest{ActivityId: id})
	mustReason(t, err, codes.Aborted, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_BUSY)
}

func TestRetryActivities(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.createAccount(t, "second", zendesktest.Agent)
	notFound := s.refuse(t, "call-0", 404, "main").GetActivityId()
	invalid := s.refuse(t, "call-1", 422, "main").GetActivityId()
	other := s.refuse(t, "call-2", 422, "second").GetActivityId()
	retry := func(account string, reason zendeskv1.FailureReason, want int32) {
		t.Helper()
		resp, err := s.interactions.RetryActivities(t.Context(), &zendeskv1.RetryActivitiesRequest{AccountId: account, FailureReason: reason})
		must(t, err)
		mustEqual(t, "retried", resp.GetCount(), want)
	}
	retry("third", 0, 0)
	retry("second", zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND, 0)
	retry("", zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND, 1)
	s.awaitState(t, notFound, written)
	retry("second", 0, 1)
	s.awaitState(t, other, written)
	mustEqual(t, "state of the last", s.activity(t, invalid).GetState(), dead)
	retry("", 0, 1)
	s.awaitState(t, invalid, written)
	retry("", 0, 0)
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-0", "call-2", "call-1"})
}

// When there are more than a call has time for, the next call goes on.
func TestRetryActivitiesInParts(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.deleteAccount(t, "main")
	var ids []string
	for i := range 60 {
		ids = append(ids, s.complete(t, fmt.Sprint("call-", i), fmt.Sprint(zendesktest.CallerTickets[i%3])).GetActivityId())
	}
	s.createAccount(t, "main", zendesktest.Admin)
	retry := func(token string, deadline time.Duration) (*zendeskv1.RetryActivitiesResponse, error) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		return s.interactions.RetryActivities(ctx, &zendeskv1.RetryActivitiesRequest{PageToken: token})
	}
	for token, deadline := "", 30*time.Millisecond; ; {
		resp, err := retry(token, deadline)
		switch status.Code(err) {
		case codes.OK:
			if token = resp.GetNextPageToken(); token != "" && resp.GetCount() == 0 {
				t.Error("a call did nothing and goes on")
			}
		case codes.DeadlineExceeded:
			deadline *= 2
			continue
		default:
			t.Fatal(err)
		}
		if token == "" {
			break
		}
	}
	for _, id := range ids {
		if a := s.activity(t, id); a.GetState() == dead {
			t.Errorf("activity was left out: %v", a)
		}
	}
	_, err := retry("?", time.Second)
	mustViolate(t, err, "page_token")
}

func TestActivitiesBadInput(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	ctx := t.Context()
	long := strings.Repeat("a", 129)
	_, err := s.interactions.GetActivity(ctx, &zendeskv1.GetActivityRequest{})
	mustViolate(t, err, "activity_id")
	_, err = s.interactions.GetActivity(ctx, &zendeskv1.GetActivityRequest{ActivityId: long})
	mustViolate(t, err, "activity_id")
	_, err = s.interactions.GetActivity(ctx, &zendeskv1.GetActivityRequest{ActivityId: "none"})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND)
	_, err = s.interactions.RetryActivity(ctx, &zendeskv1.RetryActivityRequest{TicketId: "abc"})
	mustViolate(t, err, "activity_id", "ticket_id")
	_, err = s.interactions.RetryActivity(ctx, &zendeskv1.RetryActivityRequest{ActivityId: "none"})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND)
	_, err = s.interactions.DiscardActivity(ctx, &zendeskv1.DiscardActivityRequest{})
	mustViolate(t, err, "activity_id")
	_, err = s.interactions.DiscardActivity(ctx, &zendeskv1.DiscardActivityRequest{ActivityId: "none"})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND)
	_, err = s.interactions.RetryActivities(ctx, &zendeskv1.RetryActivitiesRequest{FailureReason: 999})
	mustViolate(t, err, "failure_reason")
	_, err = s.interactions.ListActivities(ctx, &zendeskv1.ListActivitiesRequest{PageSize: -1, PageToken: "?", State: 99, FailureReason: 999})
	mustViolate(t, err, "page_size", "page_token", "state", "failure_reason")
	_, err = s.interactions.ListActivities(ctx, &zendeskv1.ListActivitiesRequest{
		AccountId: "../x", InteractionId: "a b", Since: &timestamppb.Timestamp{Nanos: -1}, Until: &timestamppb.Timestamp{Seconds: 1 << 60},
	})
	mustViolate(t, err, "account_id", "interaction_id", "since", "until")
	_, err = s.interactions.ListActivities(ctx, &zendeskv1.ListActivitiesRequest{PageToken: rpc.PageToken("A/B")})
	mustViolate(t, err, "page_token")
}
