package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// newLateServer starts a service whose Zendesk searches as things were ten minutes ago.
func newLateServer(t testing.TB) *testServer {
	t.Helper()
	return newPeopleServer(t, func(_ *Config, z *zendesktest.Config) { z.IndexLag = 10 * time.Minute })
}

func (s *testServer) findOrCreate(t testing.TB, interaction, number string, change ...func(*zendeskv1.FindOrCreateUserRequest)) *zendeskv1.FindOrCreateUserResponse {
	t.Helper()
	req := &zendeskv1.FindOrCreateUserRequest{InteractionId: interaction, Phone: number, RecordsetName: "RS"}
	for _, f := range change {
		f(req)
	}
	resp, err := s.blocks.FindOrCreateUser(t.Context(), req)
	must(t, err)
	return resp
}

// creations counts the requests that may have made a user.
func (s *testServer) creations() (n int) {
	for _, asked := range s.requests() {
		if strings.HasPrefix(asked, "POST /api/v2/users") {
			n++
		}
	}
	return n
}

// userOf reads a user of Zendesk.
func (s *testServer) userOf(t testing.TB, id string) (user map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.zendesk.Origin()+"/api/v2/users/"+id, nil)
	must(t, err)
	req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { must(t, res.Body.Close()) }()
	var answer struct {
		User map[string]any `json:"user"`
	}
	must(t, json.NewDecoder(res.Body).Decode(&answer))
	return answer.User
}

func TestFindOrCreateUserCreates(t *testing.T) {
	s := newLateServer(t)
	first := s.findOrCreate(t, "c1", "(513) 555-0001", func(r *zendeskv1.FindOrCreateUserRequest) {
		r.Name, r.Variables = "$(who)", map[string]string{"who": "Ann Lee"}
		r.Fields = map[string]string{"user_fields.plan": "basic", "tags": "a, b", "notes": "Called $(who)"}
	})
	mustExit(t, first, next)
	if !first.GetCreated() || first.GetGrade() != exact || first.GetMatchedBy() != 0 || first.GetRecord().GetType() != zendeskv1.RecordType_RECORD_TYPE_USER {
		t.Errorf("it is %v", first)
	}
	user := s.userOf(t, first.GetRecord().GetId())
	own, _ := user["external_id"].(string)
	got := map[string]any{"name": user["name"], "phone": user["phone"], "notes": user["notes"], "tags": user["tags"], "plan": user["user_fields"].(map[string]any)["plan"]}
	want := map[string]any{"name": "Ann Lee", "phone": "+15135550001", "notes": "Called Ann Lee", "tags": []any{"a", "b"}, "plan": "basic"}
	if diff := cmp.Diff(want, got); diff != "" || !strings.HasPrefix(own, "zendeskblocks:") || strings.Contains(own, "5135550001") {
		t.Errorf("user with the external id %q (-want +got):\n%s", own, diff)
	}
	if vars := first.GetVariables(); vars["RS.name"] != "Ann Lee" || vars["RS.__count__"] != "1" || vars[resultCode] != "201" {
		t.Errorf("variables are %v", vars)
	}

	// Zendesk's search does not know of him yet: the service does, also after a restart, and so does the other block.
	for range 2 {
		again := s.findOrCreate(t, "c2", "+1 513 555 0001")
		mustExit(t, again, next)
		if again.GetCreated() || again.GetRecord().GetId() != first.GetRecord().GetId() || again.GetGrade() != exact || again.GetMatchedBy() != zendeskv1.MatchedBy_MATCHED_BY_PHONE {
			t.Errorf("again: %v", again)
		}
		who := s.identify(t, "c3", "5135550001")
		mustExit(t, who, next)
		if who.GetRecord().GetId() != first.GetRecord().GetId() || who.GetRequests() != 1 {
			t.Errorf("identified: %v", who)
		}
		s.restart(t)
	}
	s.clock.advance(20 * time.Minute)
	if again := s.findOrCreate(t, "c4", "5135550001"); again.GetRecord().GetId() != first.GetRecord().GetId() || again.GetCreated() {
		t.Errorf("after a while: %v", again)
	}
	if n := s.creations(); n != 1 {
		t.Errorf("%d requests to make a user", n)
	}
}

func TestFindOrCreateUserFinds(t *testing.T) {
	s := newPeopleServer(t)
	found := s.findOrCreate(t, "c", "+15135557701", func(r *zendeskv1.FindOrCreateUserRequest) { r.Name = "Somebody Else" })
	mustExit(t, found, next)
	if found.GetCreated() || found.GetRecord().GetId() != idOf(zendesktest.OddFormats[0]) || s.userOf(t, found.GetRecord().GetId())["name"] != zendesktest.OddFormats[0].Name {
		t.Errorf("it is %v", found)
	}
	shared := s.findOrCreate(t, "c", "+15135557720")
	mustExit(t, shared, multiple)
	if shared.GetRecord() != nil || shared.GetRecordset().GetCount() != 3 || shared.GetCreated() {
		t.Errorf("it is %v", shared)
	}
	byEmail := s.findOrCreate(t, "c", "+15135550002", func(r *zendeskv1.FindOrCreateUserRequest) { r.Email = zendesktest.Caller.Email })
	if byEmail.GetRecord().GetId() != idOf(zendesktest.Caller) || byEmail.GetMatchedBy() != zendeskv1.MatchedBy_MATCHED_BY_EMAIL {
		t.Errorf("it is %v", byEmail)
	}
	for _, number := range []string{"anonymous", "204"} {
		if n := s.asked(func() {
			mustFail(t, s.findOrCreate(t, "c", number), zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE)
		}); n != 0 {
			t.Errorf("%q costs %d requests", number, n)
		}
	}
	if n := s.creations(); n != 0 {
		t.Errorf("%d requests to make a user", n)
	}
}

// Calls at a time, of two accounts and two tenants of one Zendesk too, make one user for each number.
func TestFindOrCreateUserTogether(t *testing.T) {
	s := newLateServer(t)
	s.createAccount(t, "other", zendesktest.Admin)
	const calls, numbers = 10, 4
	for i := range calls {
		if i%2 == 1 {
			s.selectAccount(t, fmt.Sprint("call-", i), "other")
		}
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	ids, created := make([]map[string]bool, numbers), 0
	for i := range calls {
		for n := range numbers {
			group.Go(func() {
				resp := s.findOrCreate(t, fmt.Sprint("call-", i), fmt.Sprintf("+1513555001%d", n))
				mu.Lock()
				defer mu.Unlock()
				if ids[n] == nil {
					ids[n] = map[string]bool{}
				}
				ids[n][resp.GetRecord().GetId()] = true
				if resp.GetCreated() {
					created++
				}
			})
		}
	}
	group.Wait()
	for n, of := range ids {
		if len(of) != 1 || of[""] {
			t.Errorf("number %d has the users %v", n, of)
		}
	}
	if created != numbers || s.creations() != numbers {
		t.Errorf("%d calls made a user, by %d requests, of %d numbers", created, s.creations(), numbers)
	}
}

// After a crash between the note and the end of what it announces, the user that was made is found, whatever it was made with.
func TestFindOrCreateUserAfterCrash(t *testing.T) {
	s := newLateServer(t)
	body := `{"user":{"name":"Ann Lee","phone":"+15135550003","external_id":"crm-7"}}`
	must(t, s.store.NotePerson(t.Context(), "default", s.zendesk.Origin(), []string{"phone +15135550003"}, store.NotedPerson{ExternalID: "crm-7"}))
	// Nothing was made: now it is, with the same external id.
	resp := s.findOrCreate(t, "c", "+15135550003")
	if !resp.GetCreated() || s.userOf(t, resp.GetRecord().GetId())["external_id"] != "crm-7" {
		t.Errorf("it is %v", resp)
	}
	// It was made.
	must(t, s.store.NotePerson(t.Context(), "default", s.zendesk.Origin(), []string{"phone +15135550004"}, store.NotedPerson{ExternalID: "crm-8"}))
	s.tellZendesk(t, http.MethodPost, "/api/v2/users", strings.NewReplacer("0003", "0004", "crm-7", "crm-8").Replace(body))
	before := s.creations()
	resp = s.findOrCreate(t, "c", "+15135550004")
	mustExit(t, resp, next)
	if resp.GetCreated() || s.creations() != before || s.userOf(t, resp.GetRecord().GetId())["external_id"] != "crm-8" {
		t.Errorf("it is %v", resp)
	}
}

// Another service made the user a moment ago, or makes him at the same time: it gives him the same external id.
func TestFindOrCreateUserOfTwoServices(t *testing.T) {
	s := newLateServer(t)
	other := newTestServer(t, func(c *Config, _ *zendesktest.Config) {
		c.AllowHosts = append(c.AllowHosts, strings.TrimPrefix(s.zendesk.Origin(), "http://"))
	})
	other.account(t, "main", "Main", s.zendesk.Origin())
	first := other.findOrCreate(t, "c", "+15135550005", func(r *zendeskv1.FindOrCreateUserRequest) { r.Name = "First" })
	second := s.findOrCreate(t, "c", "+15135550005", func(r *zendeskv1.FindOrCreateUserRequest) { r.Name = "Second" })
	mustExit(t, second, next)
	if second.GetMatchedBy() != zendeskv1.MatchedBy_MATCHED_BY_PHONE || second.GetGrade() != exact {
		t.Errorf("it is %v", second)
	}
	if !first.GetCreated() || second.GetCreated() || first.GetRecord().GetId() != second.GetRecord().GetId() || s.userOf(t, second.GetRecord().GetId())["name"] != "First" {
		t.Errorf("they are %v and %v", first, second)
	}
}

// Somebody whom Zendesk's search does not know of yet is found by his address, and left as he is.
func TestFindOrCreateUserOfNewAddress(t *testing.T) {
	s := newLateServer(t)
	s.tellZendesk(t, http.MethodPost, "/api/v2/users", `{"user":{"name":"Ann Lee","email":"ann.lee@new.example"}}`)
	withEmail := func(r *zendeskv1.FindOrCreateUserRequest) { r.Email, r.Name = "Ann.Lee@new.example", "Somebody Else" }
	resp := s.findOrCreate(t, "c", "+15135550021", withEmail)
	mustExit(t, resp, next)
	user := s.userOf(t, resp.GetRecord().GetId())
	if resp.GetCreated() || resp.GetMatchedBy() != zendeskv1.MatchedBy_MATCHED_BY_EMAIL || user["name"] != "Ann Lee" || user["external_id"] != nil {
		t.Errorf("it is %v, and he is %v", resp, user)
	}
	resp = s.findOrCreate(t, "c", "", func(r *zendeskv1.FindOrCreateUserRequest) { r.Email = "bob@new.example" })
	mustExit(t, resp, next)
	if user := s.userOf(t, resp.GetRecord().GetId()); !resp.GetCreated() || user["name"] != "bob@new.example" {
		t.Errorf("it is %v, and he is %v", resp, user)
	}
	if again := s.findOrCreate(t, "c", "", func(r *zendeskv1.FindOrCreateUserRequest) { r.Email = "BOB@new.example" }); again.GetCreated() || again.GetRecord().GetId() != resp.GetRecord().GetId() {
		t.Errorf("again: %v", again)
	}
}

// A user whom Zendesk refuses to make, since another has what only one may have, is that other.
func TestFindOrCreateUserTaken(t *testing.T) {
	s := newLateServer(t)
	taken := `{"error":"RecordInvalid","description":"Record validation errors","details":{"external_id":[{"description":"External: has already been taken","error":"DuplicateValue"}]}}`
	s.zendesk.AddFault(zendesktest.Fault{
		Method: http.MethodPost, PathPrefix: "/api/v2/users/", Status: http.StatusUnprocessableEntity, Body: &taken, Act: zendesktest.ActBefore, Times: 1,
	})
	resp := s.findOrCreate(t, "c", "+15135550006")
	mustExit(t, resp, next)
	if resp.GetCreated() || resp.GetRecord().GetId() == "" || s.userOf(t, resp.GetRecord().GetId())["phone"] != "+15135550006" {
		t.Errorf("it is %v", resp)
	}
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPost, PathPrefix: "/api/v2/users/", Status: http.StatusUnprocessableEntity, Body: &taken, Times: 1})
	mustFail(t, s.findOrCreate(t, "c", "+15135550007"), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
}

func TestFindOrCreateUserRequestID(t *testing.T) {
	s := newLateServer(t)
	withID := func(r *zendeskv1.FindOrCreateUserRequest) { r.RequestId = "1" }
	first := s.findOrCreate(t, "c", "+15135550008", withID)
	if n := s.asked(func() {
		if diff := cmp.Diff(first, s.findOrCreate(t, "c", "+15135550008", withID), protocmp.Transform()); diff != "" {
			t.Errorf("the repeat is answered otherwise (-first +again):\n%s", diff)
		}
	}); n != 0 {
		t.Errorf("the repeat costs %d requests", n)
	}
}

func TestFindOrCreateUserExplain(t *testing.T) {
	s := newLateServer(t)
	var resp *zendeskv1.FindOrCreateUserResponse
	if n := s.asked(func() {
		resp = s.findOrCreate(t, "c", "+15135550009", func(r *zendeskv1.FindOrCreateUserRequest) { r.ValidateOnly, r.Name = true, "Ann" })
	}); n != 0 || s.interaction(t, "c") != nil {
		t.Errorf("explaining costs %d requests", n)
	}
	mustExit(t, resp, next)
	requests := resp.GetExplain().GetRequests()
	if len(requests) != 5 || !strings.Contains(requests[3].GetQuery(), "external_id=zendeskblocks%3A") {
		t.Fatalf("explained %v", resp.GetExplain())
	}
	var body struct{ User map[string]any }
	must(t, json.Unmarshal([]byte(requests[4].GetBody()), &body))
	if last := requests[4]; last.GetMethod() != http.MethodPost || last.GetPath() != "/api/v2/users/create_or_update.json" || body.User["phone"] != "+15135550009" || body.User["name"] != "Ann" {
		t.Errorf("explained %v", last)
	}
}
