package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	ticketType       = zendeskv1.RecordType_RECORD_TYPE_TICKET
	userType         = zendeskv1.RecordType_RECORD_TYPE_USER
	organizationType = zendeskv1.RecordType_RECORD_TYPE_ORGANIZATION

	resultCode = "integrationResultCode"
	resultBody = "integrationResultBody"
)

func (s *testServer) create(t testing.TB, req *zendeskv1.CreateObjectRequest) *zendeskv1.CreateObjectResponse {
	t.Helper()
	if req.GetInteractionId() == "" {
		req.InteractionId = "one"
	}
	resp, err := s.blocks.CreateObject(t.Context(), req)
	must(t, err)
	return resp
}

func (s *testServer) updateObject(t testing.TB, req *zendeskv1.UpdateObjectRequest) *zendeskv1.UpdateObjectResponse {
	t.Helper()
	if req.GetInteractionId() == "" {
		req.InteractionId = "one"
	}
	resp, err := s.blocks.UpdateObject(t.Context(), req)
	must(t, err)
	return resp
}

// read returns what Zendesk has at a path, as main's credential sees it.
func (s *testServer) read(t testing.TB, path string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.zendesk.Origin()+"/api/v2/"+path, nil)
	must(t, err)
	req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { must(t, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, res.Status)
	}
	var answer map[string]any
	must(t, json.NewDecoder(res.Body).Decode(&answer))
	return answer
}

// writesTo counts the requests of a method to a path.
func (s *testServer) writesTo(method, path string) (n int) {
	for _, r := range s.zendesk.Requests() {
		if r.Method == method && strings.HasPrefix(r.Path, "/api/v2/"+path) {
			n++
		}
	}
	return n
}

func TestCreateObject(t *testing.T) {
	s := newBlockServer(t)
	resp := s.create(t, &zendeskv1.CreateObjectRequest{
		ObjectType: ticketType, Variables: map[string]string{"NAME": `Ann "A" O'Neil`}, ObjectIdVariable: "ticket.made", IncludeResultBody: true,
		Fields: map[string]string{"subject": "Call of $(NAME)", "comment.body": "line\nline", "tags": "a, b", "additional_tags": "c", "nonsense": "x", "nested.nonsense": "y"},
	})
	mustExit(t, resp, next)
	mustUse(t, resp, "main", byDefault)
	id := resp.GetRecord().GetId()
	if !resp.GetCreated() || resp.GetRecord().GetType() != ticketType || resp.GetRecord().GetUrl() != s.zendesk.Origin()+"/agent/tickets/"+id ||
		resp.GetVariables()["ticket.made"] != id || resp.GetVariables()[resultCode] != "201" || !strings.Contains(resp.GetVariables()[resultBody], id) {
		t.Errorf("answer is %v", resp)
	}
	if want := []string{"ticket.nested", "ticket.nonsense"}; !slices.Equal(slices.Sorted(slices.Values(resp.GetIgnoredFields())), want) {
		t.Errorf("ignored are %q, want %q", resp.GetIgnoredFields(), want)
	}
	ticket := s.read(t, "tickets/"+id)["ticket"].(map[string]any)
	comment := s.read(t, "tickets/"+id+"/comments")["comments"].([]any)[0].(map[string]any)
	if ticket["subject"] != `Call of Ann "A" O'Neil` || fmt.Sprint(ticket["tags"]) != "[a b c]" || comment["public"] != false || comment["body"] != "line\nline" {
		t.Errorf("the ticket is %v, its comment %v", ticket, comment)
	}

	// Later settings refer to it: of UpdateObject, of a pop, also after a restart.
	s.restart(t)
	mustExit(t, s.updateObject(t, &zendeskv1.UpdateObjectRequest{ObjectType: ticketType, ObjectId: "$(ticket.made)", Fields: map[string]string{"priority": "high"}}), next)
	pop := s.pop(t, popRequest(&popTicket{TicketId: "$(ticket.made)"}))
	mustExit(t, pop, next)
	if pop.GetScreenPop().GetRecordId() != id {
		t.Errorf("popped %v", pop)
	}
	mustFail(t, s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: "other", Target: &popTicket{TicketId: "$(ticket.made)"}}), zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE)
	given := popRequest(&popTicket{TicketId: "$(ticket.made)"})
	given.Variables = map[string]string{"ticket.made": "7"} // the request wins
	if got := s.pop(t, given).GetScreenPop().GetRecordId(); got != "7" {
		t.Errorf("popped %q", got)
	}
}

func TestCreateObjectOfJSON(t *testing.T) {
	s := newBlockServer(t)
	for _, text := range []string{
		`{"ticket":{"subject":"$(S)","comment":"$(S)"}}`, `{"subject":"$(S)","comment":{"body":"$(S)"}}`, `{"subject":"$(S,escapejson)","description":"$(S)"}`,
	} {
		resp := s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: ticketType, Json: text, Variables: map[string]string{"S": `"},{"public":true,"x":"` + "\\\n"}})
		mustExit(t, resp, next)
		ticket := s.read(t, "tickets/"+resp.GetRecord().GetId())["ticket"].(map[string]any)
		comment := s.read(t, "tickets/"+resp.GetRecord().GetId()+"/comments")["comments"].([]any)[0].(map[string]any)
		if comment["public"] != false || !strings.HasPrefix(ticket["subject"].(string), `"},{`) {
			t.Errorf("%s: the ticket is %v, its comment %v", text, ticket, comment)
		}
		if resp.GetVariables()[resultBody] != "" {
			t.Error("a body is told that nobody asked for")
		}
	}
	public := s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: ticketType, Json: `{"comment":{"body":"x","public":true}}`})
	if comment := s.read(t, "tickets/"+public.GetRecord().GetId()+"/comments")["comments"].([]any)[0].(map[string]any); comment["public"] != true {
		t.Errorf("the scenario wants it public: %v", comment)
	}
	asked := len(s.zendesk.Requests())
	for _, text := range []string{`{"subject":$(S)}`, `[]`, `{"ticket":{},"more":1}`, `{"comment":{"public":false,"public":true}}`, `=x`} {
		mustFail(t, s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: ticketType, Json: text, ObjectIdVariable: "v"}), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	}
	if got := len(s.zendesk.Requests()); got != asked {
		t.Errorf("Zendesk was asked %d times for what cannot be sent", got-asked)
	}
}

func TestCreateObjectOrUpdates(t *testing.T) {
	s := newBlockServer(t)
	const createOrUpdate = "users/create_or_update"
	first := s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: userType, Fields: map[string]string{"name": "New", "email": "new@example.com"}, ObjectIdVariable: "u"})
	mustExit(t, first, next)
	again := s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: userType, Json: `{"user":{"name":"Newer","email":"NEW@example.com","external_id":"x-1"}}`})
	mustExit(t, again, next)
	if !first.GetCreated() || again.GetCreated() || first.GetRecord().GetId() != again.GetRecord().GetId() || s.writesTo("POST", createOrUpdate) != 2 ||
		first.GetRecord().GetUrl() == "" || first.GetVariables()["u"] != first.GetRecord().GetId() {
		t.Errorf("answers are %v, %v", first, again)
	}
	bare := s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: userType, Fields: map[string]string{"name": "Bare", "phone": "+15135550000"}})
	mustExit(t, bare, next)
	if !bare.GetCreated() || s.writesTo("POST", "users") != 3 || s.writesTo("POST", createOrUpdate) != 2 {
		t.Errorf("answer is %v, asked %q", bare, s.requests())
	}
	for i, want := range []bool{true, false} {
		resp := s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: organizationType, Fields: map[string]string{"name": "New Co", "external_id": "o-1"}})
		mustExit(t, resp, next)
		if resp.GetCreated() != want || resp.GetRecord().GetType() != organizationType {
			t.Errorf("%d: answer is %v", i, resp)
		}
	}
}

// Who has the identity is told.
func TestCreateObjectIdentityTaken(t *testing.T) {
	s := newBlockServer(t)
	holder := s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: userType, Fields: map[string]string{"name": "Holder", "email": "held@example.com"}})
	mustExit(t, holder, next)
	taken := `{"error":"RecordInvalid","description":"Record validation errors","details":{"email":[{"description":"Email: held@example.com is already being used by another user","error":"DuplicateValue"}]}}`
	s.zendesk.AddFault(zendesktest.Fault{Method: "POST", PathPrefix: "/api/v2/users", Status: 422, Body: &taken})
	req := &zendeskv1.CreateObjectRequest{RequestId: "r", ObjectType: userType, Fields: map[string]string{"name": "Other", "email": "held@example.com", "external_id": "other"}, ObjectIdVariable: "v"}
	for range 2 { // it is not kept, and not a write of unknown outcome
		resp := s.create(t, req)
		if resp.GetFailure().GetReason() != zendeskv1.FailureReason_FAILURE_REASON_CONFLICT || resp.GetFailure().GetRetryable() || !resp.GetIdentityTaken() ||
			resp.GetRecord().GetId() != holder.GetRecord().GetId() || resp.GetVariables()[resultCode] != "422" || resp.GetVariables()[resultBody] == "" {
			t.Errorf("answer is %v", resp)
		}
		if _, set := resp.GetVariables()["v"]; set || resp.GetCreated() {
			t.Error("the variable is not left alone")
		}
	}
	s.zendesk.ClearFaults()
	mustExit(t, s.create(t, req), next)
}

func TestCreateObjectViolations(t *testing.T) {
	s := newBlockServer(t)
	fields := map[string]string{"subject": "x"}
	for _, test := range []struct {
		req  *zendeskv1.CreateObjectRequest
		want []string
	}{
		{&zendeskv1.CreateObjectRequest{}, []string{"object_type", "fields"}},
		{&zendeskv1.CreateObjectRequest{ObjectType: zendeskv1.RecordType_RECORD_TYPE_GROUP, Fields: fields}, []string{"object_type"}},
		{&zendeskv1.CreateObjectRequest{ObjectType: ticketType, Fields: fields, Json: "{}"}, []string{"fields"}},
		{&zendeskv1.CreateObjectRequest{ObjectType: ticketType, Json: "$(x"}, []string{"json"}},
		{&zendeskv1.CreateObjectRequest{ObjectType: ticketType, Fields: map[string]string{"a": "$(x", "b..c": ""}}, []string{`fields["a"]`, `fields["b..c"]`}},
		{&zendeskv1.CreateObjectRequest{ObjectType: ticketType, Fields: map[string]string{"comment": "x", "comment.body": "y"}}, []string{`fields["comment.body"]`}},
		{&zendeskv1.CreateObjectRequest{ObjectType: ticketType, Fields: map[string]string{"custom_fields.plan": "x"}}, []string{`fields["custom_fields.plan"]`}},
		{&zendeskv1.CreateObjectRequest{ObjectType: ticketType, Fields: fields, ObjectIdVariable: "1x"}, []string{"object_id_variable"}},
		{&zendeskv1.CreateObjectRequest{ObjectType: ticketType, Fields: fields, ObjectIdVariable: strings.Repeat("x", 129)}, []string{"object_id_variable"}},
	} {
		test.req.InteractionId = "one"
		_, err := s.blocks.CreateObject(t.Context(), test.req)
		mustViolate(t, err, test.want...)
	}
	if s.interaction(t, "one") != nil {
		t.Error("there is an interaction")
	}
}

// An interaction has room for so many variables of what it created.
func TestCreatedIsBounded(t *testing.T) {
	s := newBlockServer(t)
	create := func(name string) *zendeskv1.CreateObjectResponse {
		return s.create(t, &zendeskv1.CreateObjectRequest{ObjectType: organizationType, Fields: map[string]string{"name": "Org", "external_id": "o"}, ObjectIdVariable: name})
	}
	for i := range 100 {
		mustExit(t, create(fmt.Sprint("v", i)), next)
	}
	asked := len(s.zendesk.Requests())
	mustFail(t, create("more"), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	if got := len(s.zendesk.Requests()); got != asked {
		t.Error("Zendesk was asked for what there is no room for")
	}
	mustExit(t, create("v7"), next)
}

// unknownOutcomes are the ways in which it does not become known whether a write was carried out.
var unknownOutcomes = map[string]zendesktest.Fault{
	"cut after":  {Drop: zendesktest.DropAfter, Times: 1},
	"cut before": {Drop: zendesktest.DropBefore, Times: 1},
	"cut within": {Drop: zendesktest.DropMiddle, Times: 1},
	"500":        {Status: 500, Act: zendesktest.ActBefore, Times: 1},
	"408":        {Status: 408, Times: 1},
	"a page":     {Body: new("<html>back soon</html>"), Act: zendesktest.ActBefore, Times: 1},
}

// A write of unknown outcome that Zendesk cannot tell from another is not sent again for its request_id, also after a restart.
func TestUnknownOutcomeIsKept(t *testing.T) {
	for name, fault := range unknownOutcomes {
		t.Run(name, func(t *testing.T) {
			s := newBlockServer(t)
			s.allowAPI(t, "main", &zendeskv1.ApiAccess{Methods: []string{"POST"}})
			for method, req := range map[string]blockRequest{
				"POST": &zendeskv1.CreateObjectRequest{InteractionId: "one", RequestId: "r", ObjectType: userType, Fields: map[string]string{"name": "Twin"}, ObjectIdVariable: "v"},
				"PUT":  &zendeskv1.UpdateObjectRequest{InteractionId: "one", RequestId: "r", ObjectType: ticketType, ObjectId: openTickets[0], Fields: map[string]string{"comment.body": "x"}},
				"api":  &zendeskv1.InvokeApiRequest{InteractionId: "one", RequestId: "r", Method: "POST", Path: "users", Json: `{"user":{"name":"Twin"}}`},
			} {
				f := fault
				s.zendesk.ClearFaults()
				if f.Method = method; method == "api" {
					f.Method = "POST"
				}
				s.zendesk.AddFault(f)
				asked := s.writesTo(f.Method, "")
				first := s.mustCall(t, req)
				if first.GetExit() != zendeskv1.Exit_EXIT_FAILED || first.GetFailure().GetRetryable() || !strings.Contains(first.GetFailure().GetMessage(), "not known") {
					t.Fatalf("%s: answer is %v", method, first)
				}
				for range 2 {
					mustEqual(t, method+": repeat", s.mustCall(t, req), first)
					s.restart(t)
				}
				if got := s.writesTo(f.Method, "") - asked; got != 1 {
					t.Errorf("%s: it was sent %d times", method, got)
				}
			}
		})
	}
}

// A ticket is made once, however often it is asked for, since Zendesk knows the key.
func TestCreateTicketAgain(t *testing.T) {
	for name, fault := range unknownOutcomes {
		t.Run(name, func(t *testing.T) {
			s := newBlockServer(t)
			fault.Method, fault.PathPrefix, fault.Times = "POST", "/api/v2/tickets", 3 // as often as it is sent for one call
			s.zendesk.AddFault(fault)
			req := &zendeskv1.CreateObjectRequest{RequestId: "r", ObjectType: ticketType, Fields: map[string]string{"comment.body": "x", "external_id": "e-1"}}
			first := s.create(t, req)
			if first.GetExit() == zendeskv1.Exit_EXIT_FAILED && !first.GetFailure().GetRetryable() {
				t.Errorf("answer is %v", first)
			}
			s.zendesk.ClearFaults()
			s.restart(t)
			second := s.create(t, req)
			mustExit(t, second, next)
			mustEqual(t, "repeat", s.create(t, req), second)
			if tickets := s.read(t, "tickets?external_id=e-1")["tickets"].([]any); len(tickets) != 1 {
				t.Errorf("there are %d tickets", len(tickets))
			}
		})
	}
}

// Zendesk forgets keys: what may have been made then is not made again.
func TestCreateTicketAfterTheKeyIsForgotten(t *testing.T) {
	s := newBlockServer(t)
	s.zendesk.AddFault(zendesktest.Fault{Method: "POST", PathPrefix: "/api/v2/tickets", Drop: zendesktest.DropAfter})
	req := &zendeskv1.CreateObjectRequest{RequestId: "r", ObjectType: ticketType, Fields: map[string]string{"comment.body": "x", "external_id": "e-1"}}
	if f := s.create(t, req).GetFailure(); !f.GetRetryable() {
		t.Fatalf("failure is %v", f)
	}
	s.zendesk.ClearFaults()
	s.clock.advance(3 * time.Hour)
	asked := s.writesTo("POST", "tickets")
	for range 2 {
		if f := s.create(t, req).GetFailure(); f == nil || f.GetRetryable() {
			t.Errorf("failure is %v", f)
		}
	}
	if got := s.writesTo("POST", "tickets"); got != asked {
		t.Error("it was sent again")
	}
}

// holdingGate is a Zendesk that has done what it is asked to change, and answers when it is let go.
type holdingGate struct {
	*httptest.Server
	acted chan struct{} // one for each request that changes something
	goOn  chan struct{}
}

// newHeldServer starts a service whose account asks the fake Zendesk through a gate.
func newHeldServer(t *testing.T, adjust func(*Config)) (*testServer, *holdingGate) {
	t.Helper()
	var s *testServer
	g := &holdingGate{acted: make(chan struct{}, 10), goOn: make(chan struct{})}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			s.zendesk.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		s.zendesk.ServeHTTP(answer, r)
		g.acted <- struct{}{}
		<-g.goOn
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(g.Close)
	s = newTestServer(t, func(c *Config, _ *zendesktest.Config) {
		c.AllowHosts = append(c.AllowHosts, strings.TrimPrefix(g.URL, "http://"))
		adjust(c)
	})
	s.account(t, "gated", "Gated", g.URL)
	return s, g
}

// What had been sent when the process ended without knowing the answer is not sent by a repeat.
func TestWriteWhoseAnswerIsLost(t *testing.T) {
	s, g := newHeldServer(t, func(c *Config) { c.DrainTimeout = time.Millisecond })
	req := &zendeskv1.CreateObjectRequest{InteractionId: "one", RequestId: "r", ObjectType: userType, Fields: map[string]string{"name": "Twin"}}
	var group sync.WaitGroup
	group.Go(func() { _, _ = s.blocks.CreateObject(t.Context(), req) })
	<-g.acted
	s.stop() // the store is closed before the answer comes
	group.Wait()
	s.start(t)
	for range 2 {
		resp := s.create(t, req)
		if f := mustFailAny(t, resp); f.GetRetryable() || !strings.Contains(f.GetMessage(), "not known") || resp.GetAccount().GetAccountId() != "gated" {
			t.Errorf("answer is %v", resp)
		}
	}
	close(g.goOn)
	mustExit(t, s.create(t, &zendeskv1.CreateObjectRequest{RequestId: "other", ObjectType: userType, Fields: map[string]string{"name": "Another"}}), next)
	if n := s.countUsers(t, "Twin"); n != 1 {
		t.Errorf("there are %d users", n)
	}
}

// A ticket is made once across a crash, too.
func TestTicketWhoseAnswerIsLost(t *testing.T) {
	s, g := newHeldServer(t, func(c *Config) { c.DrainTimeout = time.Millisecond })
	req := &zendeskv1.CreateObjectRequest{InteractionId: "one", RequestId: "r", ObjectType: ticketType, Fields: map[string]string{"comment.body": "x", "external_id": "e-1"}}
	var group sync.WaitGroup
	group.Go(func() { _, _ = s.blocks.CreateObject(t.Context(), req) })
	<-g.acted
	s.stop()
	group.Wait()
	close(g.goOn)
	s.start(t)
	mustExit(t, s.create(t, req), next)
	if tickets := s.read(t, "tickets?external_id=e-1")["tickets"].([]any); len(tickets) != 1 {
		t.Errorf("there are %d tickets", len(tickets))
	}
}

// A write that was sent goes on when its caller has gone, and its repeat gets what it brought.
func TestWriteOutlivesItsCaller(t *testing.T) {
	s, g := newHeldServer(t, func(*Config) {})
	req := &zendeskv1.CreateObjectRequest{InteractionId: "one", RequestId: "r", ObjectType: userType, Fields: map[string]string{"name": "Late"}, ObjectIdVariable: "v"}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _, _ = s.blocks.CreateObject(ctx, req) })
	<-g.acted
	cancel()
	group.Wait()
	var second *zendeskv1.CreateObjectResponse
	group.Go(func() { second = s.create(t, req) }) // waits for the first
	close(g.goOn)
	group.Wait()
	mustExit(t, second, next)
	if n := s.countUsers(t, "Late"); n != 1 || second.GetVariables()["v"] == "" {
		t.Errorf("there are %d users, answer is %v", n, second)
	}
	mustEqual(t, "repeat", s.create(t, req), second)
	mustExit(t, s.updateObject(t, &zendeskv1.UpdateObjectRequest{ObjectType: userType, ObjectId: "$(v)", Fields: map[string]string{"notes": "x"}}), next)
}

// A service that drains waits for what was sent, whose caller has gone, and stores what it brought.
func TestDrainAwaitsWrites(t *testing.T) {
	s, g := newHeldServer(t, func(c *Config) { c.DrainTimeout = time.Hour })
	req := &zendeskv1.CreateObjectRequest{InteractionId: "one", RequestId: "r", ObjectType: userType, Fields: map[string]string{"name": "Late"}}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _, _ = s.blocks.CreateObject(ctx, req) })
	<-g.acted
	cancel()
	group.Wait()
	group.Go(s.stop)
	close(g.goOn)
	group.Wait()
	s.start(t)
	mustExit(t, s.create(t, req), next)
	if n := s.countUsers(t, "Late"); n != 1 {
		t.Errorf("there are %d users", n)
	}
}

// Its caller is told in time that there is no answer.
func TestWriteIsAnsweredInTime(t *testing.T) {
	s, g := newHeldServer(t, func(c *Config) { c.Timeouts.Block = 2 * time.Second })
	req := &zendeskv1.CreateObjectRequest{RequestId: "r", ObjectType: userType, Fields: map[string]string{"name": "Late"}, ObjectIdVariable: "v"}
	first := s.create(t, req)
	for len(g.acted) == 0 { // a busy machine had no time to send it
		first = s.create(t, req)
	}
	if f := mustFailAny(t, first); f.GetReason() != zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT || f.GetRetryable() || first.GetAccount().GetAccountId() != "gated" {
		t.Errorf("answer is %v", first)
	}
	if _, set := first.GetVariables()["v"]; set {
		t.Error("the variable is not left alone")
	}
	close(g.goOn)
	second := s.create(t, req)
	for second.GetFailure().GetReason() == zendeskv1.FailureReason_FAILURE_REASON_REQUEST_IN_PROGRESS {
		second = s.create(t, req)
	}
	mustExit(t, second, next)
	if n := s.countUsers(t, "Late"); n != 1 {
		t.Errorf("there are %d users", n)
	}
}

func mustFailAny(t testing.TB, resp blockResponse) *zendeskv1.Failure {
	t.Helper()
	if resp.GetExit() != zendeskv1.Exit_EXIT_FAILED || resp.GetFailure() == nil {
		t.Fatalf("answer is %v", resp)
	}
	return resp.GetFailure()
}

// What is refused before it is sent, or by Zendesk, is not kept: the repeat executes.
func TestRefusedWriteExecutesAgain(t *testing.T) {
	s := newBlockServer(t)
	for i, status := range []int{401, 403, 404, 409, 422, 429} {
		s.zendesk.ClearFaults()
		s.zendesk.AddFault(zendesktest.Fault{Method: "POST", PathPrefix: "/api/v2/organizations", Status: status, RetryAfter: map[int]string{429: "60"}[status], Times: 1})
		req := &zendeskv1.CreateObjectRequest{RequestId: fmt.Sprint(status), ObjectType: organizationType, Fields: map[string]string{"name": fmt.Sprint("Org ", i)}}
		if f := mustFailAny(t, s.create(t, req)); f.GetHttpStatus() != int32(status) {
			t.Errorf("%d: failure is %v", status, f)
		}
		s.clock.advance(2 * time.Minute)
		mustExit(t, s.create(t, req), next)
	}
}

func TestUpdateObject(t *testing.T) {
	s := newBlockServer(t)
	id := openTickets[0]
	before := s.read(t, "tickets/"+id)["ticket"].(map[string]any)
	resp := s.updateObject(t, &zendeskv1.UpdateObjectRequest{
		ObjectType: ticketType, ObjectId: " $(T) ", Variables: map[string]string{"T": id}, IncludeResultBody: true,
		Fields: map[string]string{"additional_tags": "new1,new2", "comment": "said", "nonsense": "x"},
	})
	mustExit(t, resp, next)
	mustUse(t, resp, "main", byDefault)
	if resp.GetRecord().GetId() != id || resp.GetRecord().GetUrl() == "" || resp.GetVariables()[resultCode] != "200" || resp.GetVariables()[resultBody] == "" ||
		!slices.Equal(resp.GetIgnoredFields(), []string{"ticket.nonsense"}) {
		t.Errorf("answer is %v", resp)
	}
	mustExit(t, s.updateObject(t, &zendeskv1.UpdateObjectRequest{ObjectType: ticketType, ObjectId: id, Json: `{"ticket":{"remove_tags":["new2"]}}`}), next)
	after := s.read(t, "tickets/"+id)["ticket"].(map[string]any)
	if tags := fmt.Sprint(after["tags"]); !strings.Contains(tags, "new1") || strings.Contains(tags, "new2") || len(after["tags"].([]any)) != len(before["tags"].([]any))+1 {
		t.Errorf("tags are %v, were %v", after["tags"], before["tags"])
	}
	comments := s.read(t, "tickets/"+id+"/comments")["comments"].([]any)
	if last := comments[len(comments)-1].(map[string]any); last["public"] != false || last["body"] != "said" {
		t.Errorf("the comment is %v", last)
	}
	none := &zendeskv1.UpdateObjectRequest{RequestId: "none", ObjectType: userType, ObjectId: "999", Fields: map[string]string{"name": "x"}}
	gone := s.updateObject(t, none)
	mustExit(t, gone, noData)
	if gone.GetRecord() != nil || gone.GetVariables()[resultCode] != "404" || gone.GetVariables()[resultBody] != "" {
		t.Errorf("answer is %v", gone)
	}
	asked := len(s.zendesk.Requests())
	mustEqual(t, "repeat of NO_DATA", s.updateObject(t, none), gone)
	for id, reason := range map[string]zendeskv1.FailureReason{
		"$(nobody)": zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE, "x": zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST,
		"$(e)": zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE,
	} {
		mustFail(t, s.updateObject(t, &zendeskv1.UpdateObjectRequest{
			ObjectType: userType, ObjectId: id, Fields: map[string]string{"name": "x"}, Variables: map[string]string{"e": ""},
		}), reason)
	}
	if got := len(s.zendesk.Requests()); got != asked {
		t.Errorf("Zendesk was asked %d times", got-asked)
	}
	s.zendesk.AddFault(zendesktest.Fault{Method: "PUT", Status: 404, Body: new(`{"error":{"title":"No help desk at acme.zendesk.com","message":"x"}}`)})
	mustFail(t, s.updateObject(t, &zendeskv1.UpdateObjectRequest{ObjectType: userType, ObjectId: "999", Fields: map[string]string{"name": "x"}}), zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND)
	_, err := s.blocks.UpdateObject(t.Context(), &zendeskv1.UpdateObjectRequest{InteractionId: "one", ObjectType: ticketType, Json: "{}", ObjectId: " "})
	mustViolate(t, err, "object_id")
}

// countUsers counts the people of a name.
func (s *testServer) countUsers(t testing.TB, name string) (n int) {
	t.Helper()
	for page := "users"; page != ""; {
		answer := s.read(t, page)
		for _, u := range answer["users"].([]any) {
			if u.(map[string]any)["name"] == name {
				n++
			}
		}
		next, _ := answer["next_page"].(string)
		_, page, _ = strings.Cut(next, "/api/v2/")
	}
	return n
}

// allowAPI lets InvokeApi do more with an account.
func (s *testServer) allowAPI(t testing.TB, account string, access *zendeskv1.ApiAccess) {
	t.Helper()
	_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: account, ApiAccess: access}})
	must(t, err)
}
