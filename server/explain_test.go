package server

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// explained is what a request is answered with validate_only.
func (s *testServer) explained(t testing.TB, req blockRequest) (blockResponse, *zendeskv1.Explanation) {
	t.Helper()
	only := proto.Clone(req).(blockRequest)
	only.ProtoReflect().Set(only.ProtoReflect().Descriptor().Fields().ByName("validate_only"), protoreflect.ValueOfBool(true))
	resp := s.mustCall(t, only)
	return resp, resp.(interface{ GetExplain() *zendeskv1.Explanation }).GetExplain()
}

// explainable are requests of all blocks, and what they would ask of Zendesk: method, path, query, body.
func explainable() []struct {
	req  blockRequest
	asks []string
} {
	return []struct {
		req  blockRequest
		asks []string
	}{
		{&zendeskv1.SelectAccountRequest{Choice: &zendeskv1.SelectAccountRequest_Account{Account: "main"}}, nil},
		{&zendeskv1.SearchRequest{SearchString: "subject:$(V)", RecordsetName: "RS", MaxResults: 250, SortBy: zendeskv1.SortBy_SORT_BY_CREATED_AT}, []string{
			"GET /api/v2/search.json page=1&per_page=100&query=subject%3Aab&sort_by=created_at ", "GET /api/v2/search.json page=2&per_page=100&query=subject%3Aab&sort_by=created_at ",
		}},
		{&zendeskv1.AttachedDataRequest{Data: map[string]string{"k": "$(V)"}}, nil},
		{popRequest(&popTicket{TicketId: "$(T)"}), nil},
		{popRequest(&zendeskv1.NewTicket{RequesterId: "7", Subject: "$(V)"}), nil},
		{popRequest(&zendeskv1.CreateTicket{Comment: "$(V)", Subject: "s"}), []string{
			`POST /api/v2/tickets.json  {"ticket":{"subject":"s","comment":{"body":"a\"b","public":false},"external_id":`,
		}},
		{&zendeskv1.CreateObjectRequest{ObjectType: ticketType, Fields: map[string]string{"comment.body": "$(V)"}, ObjectIdVariable: "v"}, []string{`POST /api/v2/tickets.json  {"ticket":{"comment":{"body":"a\"b","public":false}}}`}},
		{&zendeskv1.CreateObjectRequest{ObjectType: userType, Json: `{"email":"a@b.c"}`}, []string{`POST /api/v2/users/create_or_update.json  {"user":{"email":"a@b.c"}}`}},
		{&zendeskv1.UpdateObjectRequest{ObjectType: organizationType, ObjectId: "7", Fields: map[string]string{"notes": "x"}}, []string{`PUT /api/v2/organizations/7.json  {"organization":{"notes":"x"}}`}},
		{&zendeskv1.IdentifyCallerRequest{Email: "A@b.c", RecordsetName: "RS"}, []string{"GET /api/v2/users/search.json per_page=100&query=email%3Aa%40b.c "}},
		{&zendeskv1.FindOrCreateUserRequest{ExternalId: "x", Fields: map[string]string{"tags": "a,$(V)", "verified": "true"}, RecordsetName: "RS"}, []string{
			"GET /api/v2/users/search.json external_id=x&per_page=100 ",
			`POST /api/v2/users/create_or_update.json  {"user":{"external_id":"x","name":"x","skip_verify_email":true,"tags":["a","a\"b"],"verified":true}}`,
		}},
		{&zendeskv1.InvokeApiRequest{Method: "GET", Path: "users/$(V)", Query: map[string]string{"q": "$(V)"}, Result: &intoVariable{ResultVariable: "v"}}, []string{"GET /api/v2/users/a%22b q=a%22b "}},
	}
}

// A block that is only explained sends nothing and stores nothing: not even the interaction is there.
func TestExplain(t *testing.T) {
	s := newBlockServer(t)
	stored := s.storedBytes(t)
	for i, c := range explainable() {
		fields := c.req.ProtoReflect().Descriptor().Fields()
		interaction := fmt.Sprint("explained-", i)
		c.req.ProtoReflect().Set(fields.ByName("interaction_id"), protoreflect.ValueOfString(interaction))
		c.req.ProtoReflect().Set(fields.ByName("request_id"), protoreflect.ValueOfString("r"))
		vars := c.req.ProtoReflect().Mutable(fields.ByName("variables")).Map()
		for name, value := range map[string]string{"V": `a"b`, "T": openTickets[0]} {
			vars.Set(protoreflect.ValueOfString(name).MapKey(), protoreflect.ValueOfString(value))
		}
		resp, explanation := s.explained(t, c.req)
		mustExit(t, resp, next)
		if explanation.GetSummary() == "" || len(resp.(interface{ GetVariables() map[string]string }).GetVariables()) != 0 {
			t.Errorf("%T: %v", c.req, resp)
		}
		if _, noAccount := c.req.(*zendeskv1.AttachedDataRequest); !noAccount && (explanation.GetAccount().GetAccountId() != "main" || resp.GetAccount().GetAccountId() != "main") {
			t.Errorf("%T: account is %v", c.req, explanation.GetAccount())
		}
		var asks []string
		for _, r := range explanation.GetRequests() {
			asks = append(asks, strings.Join([]string{r.GetMethod(), r.GetPath(), r.GetQuery(), r.GetBody()}, " "))
		}
		if len(asks) != len(c.asks) {
			t.Fatalf("%T: would ask %q, want %q", c.req, asks, c.asks)
		}
		for j, want := range c.asks {
			if !strings.HasPrefix(asks[j], want) {
				t.Errorf("%T: would ask %q, want %q", c.req, asks[j], want)
			}
		}
		if s.interaction(t, interaction) != nil {
			t.Errorf("%T has left an interaction", c.req)
		}
	}
	if got := s.requests(); len(got) != 0 {
		t.Errorf("Zendesk was asked %q", got)
	}
	if got := s.storedBytes(t); got != stored {
		t.Errorf("%d bytes are stored, were %d", got, stored)
	}
}

// The plan is what is sent, and explaining it has no part in what the request_id is for.
func TestExplainedIsSent(t *testing.T) {
	s := newBlockServer(t)
	for i, c := range explainable() {
		if len(c.asks) == 0 {
			continue
		}
		fields := c.req.ProtoReflect().Descriptor().Fields()
		c.req.ProtoReflect().Set(fields.ByName("interaction_id"), protoreflect.ValueOfString(fmt.Sprint("sent-", i)))
		c.req.ProtoReflect().Set(fields.ByName("request_id"), protoreflect.ValueOfString("r"))
		vars := c.req.ProtoReflect().Mutable(fields.ByName("variables")).Map()
		vars.Set(protoreflect.ValueOfString("V").MapKey(), protoreflect.ValueOfString("a"))
		_, before := s.explained(t, c.req)
		asked := len(s.zendesk.Requests())
		s.mustCall(t, c.req)
		_, after := s.explained(t, c.req)
		sent := s.zendesk.Requests()[asked]
		plan := before.GetRequests()[0]
		if sent.Method != plan.GetMethod() || sent.Path != plan.GetPath() || sent.Query != plan.GetQuery() {
			t.Errorf("%T: sent %+v, planned %v", c.req, sent, plan)
		}
		if _, pop := c.req.(*zendeskv1.ScreenPopRequest); !pop { // which pops the same ticket then
			mustEqual(t, fmt.Sprintf("plan of %T afterwards", c.req), after, before)
		}
	}
}

// What fails without Zendesk is told to fail, and nothing of it is stored either: of a SelectAccount not that there is no account.
func TestExplainFailures(t *testing.T) {
	s := newBlockServer(t)
	mustExit(t, s.search(t, "one", "type:ticket", func(r *zendeskv1.SearchRequest) { r.MaxResults = 1 }), next)
	left, asked := s.interaction(t, "one"), len(s.zendesk.Requests())
	for _, c := range []struct {
		req    blockRequest
		reason zendeskv1.FailureReason
	}{
		{&zendeskv1.SelectAccountRequest{Choice: &zendeskv1.SelectAccountRequest_Account{Account: "nobody"}}, zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND},
		{&zendeskv1.SearchRequest{SearchString: "$(nobody)", RecordsetName: "RS"}, zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE},
		{&zendeskv1.GetNextRecordRequest{RecordsetName: "None"}, zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND},
		{popRequest(&popTicket{TicketId: "x"}), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{&zendeskv1.AttachedDataRequest{Data: map[string]string{"$(nobody)": "x"}}, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{&zendeskv1.CreateObjectRequest{ObjectType: userType, Json: "[]"}, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{&zendeskv1.UpdateObjectRequest{ObjectType: userType, ObjectId: "$(nobody)", Json: "{}"}, zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE},
		{&zendeskv1.InvokeApiRequest{Method: "DELETE", Path: "users/1", Result: &intoRecordset{RecordsetName: "RS"}}, zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED},
	} {
		c.req.ProtoReflect().Set(c.req.ProtoReflect().Descriptor().Fields().ByName("interaction_id"), protoreflect.ValueOfString("one"))
		resp, explanation := s.explained(t, c.req)
		mustFail(t, resp, c.reason)
		if explanation.GetSummary() == "" || len(explanation.GetRequests()) != 0 {
			t.Errorf("%T: %v", c.req, explanation)
		}
		mustEqual(t, fmt.Sprintf("interaction after %T", c.req), s.interaction(t, "one"), left)
	}
	// At the end of a recordset, which is no failure.
	resp, explanation := s.explained(t, &zendeskv1.GetNextRecordRequest{InteractionId: "one", RecordsetName: "RS"})
	mustExit(t, resp, next)
	if !strings.Contains(explanation.GetSummary(), "NO_DATA") {
		t.Errorf("explanation is %v", explanation)
	}
	mustEqual(t, "interaction", s.interaction(t, "one"), left)
	if got := len(s.zendesk.Requests()); got != asked {
		t.Errorf("Zendesk was asked %d times", got-asked)
	}
}

// storedBytes is what the tenant has stored, as it is counted.
func (s *testServer) storedBytes(t testing.TB) int64 {
	t.Helper()
	used, _, err := s.store.Usage(t.Context(), "default")
	must(t, err)
	return used.StoredBytes
}

func TestScreenPopOfAPrefilledTicket(t *testing.T) {
	s := newBlockServer(t)
	vars := map[string]string{"WHO": "Ann & Co", "TAG": "vip", "NONE": " "}
	pop := func(target *zendeskv1.NewTicket) *zendeskv1.ScreenPopResponse {
		req := popRequest(target)
		req.Variables = vars
		return s.pop(t, req)
	}
	filled := pop(&zendeskv1.NewTicket{RequesterId: "7", Subject: "Call of $(WHO)", Tags: []string{"$(TAG)", "call", "$(NONE)"}})
	mustExit(t, filled, next)
	page, err := url.Parse(filled.GetScreenPop().GetUrl())
	must(t, err)
	query := page.Query()
	if page.Path != "/agent/tickets/new/1" || query.Get("requester_id") != "7" || query.Get("ticket[subject]") != "Call of Ann & Co" || query.Get("ticket[tags]") != "vip call" || filled.GetScreenPop().GetRecordId() != "7" {
		t.Errorf("popped %v", filled.GetScreenPop())
	}
	mustExit(t, pop(&zendeskv1.NewTicket{Subject: "other"}), next)
	if got := len(s.interaction(t, "one").GetScreenPops()); got != 2 {
		t.Errorf("%d pops: other contents are another page", got)
	}
	vars["TAG"] = "two words"
	mustFail(t, pop(&zendeskv1.NewTicket{Tags: []string{"$(TAG)"}}), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	for field, target := range map[string]*zendeskv1.NewTicket{
		"new_ticket.subject": {Subject: "$("}, "new_ticket.tags[1]": {Tags: []string{"a", strings.Repeat("x", 257)}}, "new_ticket.tags": {Tags: make([]string, 51)},
	} {
		_, err := s.blocks.ScreenPop(t.Context(), popRequest(target))
		mustViolate(t, err, field)
	}
}
