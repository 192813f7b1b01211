package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// call runs the block that a request is for.
func (s *testServer) call(ctx context.Context, req blockRequest) (blockResponse, error) {
	switch req := req.(type) {
	case *zendeskv1.SelectAccountRequest:
		return s.blocks.SelectAccount(ctx, req)
	case *zendeskv1.SearchRequest:
		return s.blocks.Search(ctx, req)
	case *zendeskv1.GetNextRecordRequest:
		return s.blocks.GetNextRecord(ctx, req)
	case *zendeskv1.ScreenPopRequest:
		return s.blocks.ScreenPop(ctx, req)
	case *zendeskv1.AttachedDataRequest:
		return s.blocks.AttachedData(ctx, req)
	case *zendeskv1.CreateObjectRequest:
		return s.blocks.CreateObject(ctx, req)
	case *zendeskv1.UpdateObjectRequest:
		return s.blocks.UpdateObject(ctx, req)
	case *zendeskv1.IdentifyCallerRequest:
		return s.blocks.IdentifyCaller(ctx, req)
	case *zendeskv1.FindOrCreateUserRequest:
		return s.blocks.FindOrCreateUser(ctx, req)
	case *zendeskv1.InvokeApiRequest:
		return s.blocks.InvokeApi(ctx, req)
	}
	return nil, fmt.Errorf("%T is no request of a block", req)
}

func (s *testServer) mustCall(t testing.TB, req blockRequest) blockResponse {
	t.Helper()
	resp, err := s.call(t.Context(), req)
	must(t, err)
	return resp
}

// executions of one of each block, with what may differ in a repeat and what may not.
func repeatable() []struct{ req, other blockRequest } {
	vars := map[string]string{"V": "main"}
	return []struct{ req, other blockRequest }{
		{
			&zendeskv1.SelectAccountRequest{InteractionId: "one", RequestId: "r", Variables: vars, Choice: &zendeskv1.SelectAccountRequest_Account{Account: "$(V)"}},
			&zendeskv1.SelectAccountRequest{InteractionId: "one", RequestId: "r", Choice: &zendeskv1.SelectAccountRequest_UseDefault{UseDefault: true}},
		},
		{
			&zendeskv1.SearchRequest{InteractionId: "one", RequestId: "r", Variables: vars, SearchString: "type:ticket", RecordsetName: "RS", Columns: []string{"id", "subject"}, IncludeResultBody: true},
			&zendeskv1.SearchRequest{InteractionId: "one", RequestId: "r", Variables: vars, SearchString: "type:ticket", RecordsetName: "RS", Columns: []string{"subject", "id"}, IncludeResultBody: true},
		},
		{
			&zendeskv1.GetNextRecordRequest{InteractionId: "one", RequestId: "r", Variables: vars, RecordsetName: "RS"},
			&zendeskv1.GetNextRecordRequest{InteractionId: "one", RequestId: "r", Variables: vars, RecordsetName: "Other"},
		},
		{
			popWithID("r", vars, &zendeskv1.ScreenPopRequest_TicketId{TicketId: "1"}),
			popWithID("r", vars, &zendeskv1.ScreenPopRequest_TicketId{TicketId: "2"}),
		},
		{
			&zendeskv1.AttachedDataRequest{InteractionId: "one", RequestId: "r", Variables: vars, Data: map[string]string{"a": "$(V)", "b": "2"}},
			&zendeskv1.AttachedDataRequest{InteractionId: "one", RequestId: "r", Variables: vars, Data: map[string]string{"a": "$(V)"}},
		},
		{
			&zendeskv1.CreateObjectRequest{InteractionId: "one", RequestId: "r", Variables: vars, ObjectType: ticketType, Fields: map[string]string{"comment.body": "$(V)"}, ObjectIdVariable: "made"},
			&zendeskv1.CreateObjectRequest{InteractionId: "one", RequestId: "r", Variables: vars, ObjectType: ticketType, Fields: map[string]string{"comment.body": "other"}, ObjectIdVariable: "made"},
		},
		{
			&zendeskv1.UpdateObjectRequest{InteractionId: "one", RequestId: "r", Variables: vars, ObjectType: ticketType, ObjectId: openTickets[0], Json: `{"priority":"high"}`},
			&zendeskv1.UpdateObjectRequest{InteractionId: "one", RequestId: "r", Variables: vars, ObjectType: ticketType, ObjectId: openTickets[0], Json: `{"priority":"low"}`},
		},
		{
			&zendeskv1.InvokeApiRequest{InteractionId: "one", RequestId: "r", Variables: vars, Method: "GET", Path: "users/me", ResultPath: "user.id"},
			&zendeskv1.InvokeApiRequest{InteractionId: "one", RequestId: "r", Variables: vars, Method: "GET", Path: "users/me", ResultPath: "user.name"},
		},
		{
			&zendeskv1.IdentifyCallerRequest{InteractionId: "one", RequestId: "r", Variables: vars, Email: zendesktest.Caller.Email, RecordsetName: "Caller"},
			&zendeskv1.IdentifyCallerRequest{InteractionId: "one", RequestId: "r", Variables: vars, Email: zendesktest.Caller.Email, RecordsetName: "Other"},
		},
		{
			&zendeskv1.FindOrCreateUserRequest{InteractionId: "one", RequestId: "r", Variables: vars, ExternalId: "$(V)", RecordsetName: "New"},
			&zendeskv1.FindOrCreateUserRequest{InteractionId: "one", RequestId: "r", Variables: vars, ExternalId: "other", RecordsetName: "New"},
		},
	}
}

func popWithID(id string, vars map[string]string, target any) *zendeskv1.ScreenPopRequest {
	req := popRequest(target)
	req.RequestId, req.Variables = id, vars
	return req
}

func TestRequestID(t *testing.T) {
	s := newBlockServer(t)
	var firsts []blockResponse
	for _, execution := range repeatable() { // one id for all: each RPC has ids of its own
		first := s.mustCall(t, execution.req)
		mustExit(t, first, next)
		firsts = append(firsts, first)
	}
	// What the repeats would do if they were executed: another account, another record, other data.
	s.createAccount(t, "second", zendesktest.Admin)
	mustExit(t, s.selectAccount(t, "one", "second"), next)
	mustExit(t, s.attach(t, "one", map[string]string{"a": "changed", "c": "new"}), next)
	mustExit(t, s.nextOf(t, "one"), next)
	asked, left := len(s.zendesk.Requests()), s.interaction(t, "one")
	for round := range 3 {
		for i, execution := range repeatable() {
			repeat := proto.Clone(execution.req).(blockRequest)
			if round == 1 { // variables are not compared
				vars := repeat.ProtoReflect().Descriptor().Fields().ByName("variables")
				repeat.ProtoReflect().Clear(vars)
			}
			mustEqual(t, fmt.Sprintf("repeat of %T, round %d", repeat, round), s.mustCall(t, repeat), firsts[i])
			_, err := s.call(t.Context(), execution.other)
			info := mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
			if info.GetMetadata()["request_id"] != "r" {
				t.Errorf("metadata is %v", info.GetMetadata())
			}
		}
		s.restart(t)
	}
	mustEqual(t, "interaction", s.interaction(t, "one"), left)
	if got := len(s.zendesk.Requests()); got != asked {
		t.Errorf("Zendesk was asked %d times by repeats", got-asked)
	}
}

func TestRequestIDScope(t *testing.T) {
	s := newBlockServer(t)
	search := func(interaction, id, query string) {
		t.Helper()
		mustExit(t, s.search(t, interaction, query, func(r *zendeskv1.SearchRequest) { r.RequestId = id }), next)
	}
	search("one", "r", "type:user")
	search("two", "r", "type:ticket") // another interaction
	search("one", "R", "type:ticket") // another id
	search("one", "", "type:user")    // without one each is new
	search("one", "", "type:user")
	if got := len(s.searches()); got != 5 {
		t.Errorf("Zendesk was asked %d times, want 5", got)
	}
}

// FAILED answers and gRPC errors are not kept.
func TestRequestIDOfFailures(t *testing.T) {
	s := newTestServer(t)
	req := &zendeskv1.SearchRequest{InteractionId: "one", RequestId: "r", SearchString: "type:user $(V)", RecordsetName: "RS"}
	mustFail(t, s.mustCall(t, req), zendeskv1.FailureReason_FAILURE_REASON_NO_DEFAULT_ACCOUNT)
	s.createAccount(t, "main", zendesktest.Admin)
	mustFail(t, s.mustCall(t, req), zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE)
	req.Variables = map[string]string{"V": "maria"}
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 501, Times: 1})
	mustFail(t, s.mustCall(t, req), zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE)
	bad := proto.Clone(req).(*zendeskv1.SearchRequest)
	bad.SortBy = 99
	_, err := s.call(t.Context(), bad)
	mustViolate(t, err, "sort_by")
	mustExit(t, s.mustCall(t, req), next)

	selectIt := &zendeskv1.SelectAccountRequest{InteractionId: "one", RequestId: "r", Choice: &zendeskv1.SelectAccountRequest_Account{Account: "late"}}
	mustFail(t, s.mustCall(t, selectIt), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)
	s.createAccount(t, "late", zendesktest.Admin)
	mustExit(t, s.mustCall(t, selectIt), next)
}

// NO_DATA is an answer, and kept.
func TestRequestIDOfNoData(t *testing.T) {
	s := newBlockServer(t)
	req := &zendeskv1.SearchRequest{InteractionId: "one", RequestId: "r", SearchString: "anything", RecordsetName: "RS"}
	s.answerWith(`{"results":[],"count":0}`, page(t, 1, 1, 1))
	first := s.mustCall(t, req)
	mustExit(t, first, noData)
	mustEqual(t, "repeat", s.mustCall(t, req), first)
}

func TestRequestIDConcurrently(t *testing.T) {
	s := newBlockServer(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Delay: 50 * time.Millisecond})
	req := &zendeskv1.SearchRequest{InteractionId: "one", RequestId: "r", SearchString: callerQuery, RecordsetName: "RS"}
	const callers = 16
	var group sync.WaitGroup
	answers, errs := make([]blockResponse, callers), make([]error, callers)
	for i := range callers {
		group.Go(func() { answers[i], errs[i] = s.call(t.Context(), req) })
	}
	group.Wait()
	must(t, errors.Join(errs...))
	for _, answer := range answers {
		mustExit(t, answer, next)
		mustEqual(t, "answer", answer, answers[0])
	}
	if got := len(s.searches()); got != 1 {
		t.Errorf("Zendesk was asked %d times by one execution", got)
	}
}

// Repeats are answered after completion as before it, and never run again when the answer is not kept any more.
func TestRequestIDAfterCompletion(t *testing.T) {
	s := newBlockServer(t)
	var firsts []blockResponse
	for _, execution := range repeatable() {
		firsts = append(firsts, s.mustCall(t, execution.req))
	}
	deliver := &zendeskv1.DeliverInteractionRequest{InteractionId: "one", RequestId: "r", Agent: &zendeskv1.Agent{Email: zendesktest.Admin.Email}}
	delivered, err := s.interactions.DeliverInteraction(t.Context(), deliver)
	must(t, err)
	mustExit(t, s.attach(t, "one", map[string]string{"a": "changed", "c": "new"}), next)
	_, err = s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{InteractionId: "one"})
	must(t, err)
	asked, left := len(s.searches()), s.interaction(t, "one")
	for range 2 {
		for i, execution := range repeatable() {
			mustEqual(t, fmt.Sprintf("repeat of %T", execution.req), s.mustCall(t, execution.req), firsts[i])
		}
		again, err := s.interactions.DeliverInteraction(t.Context(), deliver)
		must(t, err)
		mustEqual(t, "repeat of the delivery", again, delivered)
		s.restart(t)
	}
	mustFail(t, s.attach(t, "one", map[string]string{"a": "late"}), zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_COMPLETED)
	mustEqual(t, "interaction", s.interaction(t, "one"), left)
	if got := len(s.searches()); got != asked {
		t.Errorf("Zendesk was asked %d times by repeats", got-asked)
	}

	s.clock.advance(8 * 24 * time.Hour)
	_, err = s.store.Sweep(t.Context(), 10)
	must(t, err)
	for _, execution := range repeatable() {
		resp, err := s.call(t.Context(), execution.req)
		if err == nil { // a short answer stays
			continue
		}
		mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
		if !strings.Contains(err.Error(), "not kept any more") {
			t.Errorf("%T: %v, %v", execution.req, resp, err)
		}
	}
	if got := len(s.searches()); got != asked {
		t.Errorf("Zendesk was asked %d times by repeats of what is not kept", got-asked)
	}
}

// What is kept of answers has a bound: the request whose answer is beyond it is not run again.
func TestRequestIDBeyondWhatIsKept(t *testing.T) {
	s := newBlockServer(t)
	search := func(id string) (blockResponse, error) {
		return s.call(t.Context(), &zendeskv1.SearchRequest{
			InteractionId: "one", RequestId: id, SearchString: "type:user", RecordsetName: "RS", IncludeResultBody: true,
		})
	}
	text := make([]byte, 50_000) // of what does not compress
	for i := range 8 {
		_, _ = rand.Read(text)
		s.answerWith(fmt.Sprintf(`{"results":[{"id":1,"result_type":"user","notes":%q}],"count":1}`, hex.EncodeToString(text)))
		resp, err := search(fmt.Sprint(i))
		must(t, err)
		mustExit(t, resp, next)
	}
	asked := len(s.searches())
	_, err := search("0")
	mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
	resp, err := search("7")
	must(t, err)
	mustExit(t, resp, next)
	if got := len(s.searches()); got != asked {
		t.Errorf("Zendesk was asked %d times by repeats", got-asked)
	}
}
