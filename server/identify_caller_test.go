package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	multiple = zendeskv1.Exit_EXIT_MULTIPLE

	exact    = zendeskv1.MatchGrade_MATCH_GRADE_EXACT
	national = zendeskv1.MatchGrade_MATCH_GRADE_NATIONAL
)

// newPeopleServer starts a service whose Zendesk has people with numbers as real data has them, in two custom fields too.
func newPeopleServer(t testing.TB, adjust ...func(*Config, *zendesktest.Config)) *testServer {
	t.Helper()
	s := newBlockServer(t, append(adjust, func(_ *Config, z *zendesktest.Config) { z.OddPeople = true })...)
	s.phoneFields(t, "main")
	return s
}

// phoneFields has an account's custom fields searched.
func (s *testServer) phoneFields(t testing.TB, account string) {
	t.Helper()
	_, err := s.store.UpdateAccount(t.Context(), "default", account, "", func(a *store.Account) error {
		a.PhoneFields = []string{zendesktest.MobileField, zendesktest.OtherPhoneField}
		return nil
	})
	must(t, err)
}

// identify looks for the caller of a number, into the recordset RS.
func (s *testServer) identify(t testing.TB, interaction, number string, change ...func(*zendeskv1.IdentifyCallerRequest)) *zendeskv1.IdentifyCallerResponse {
	t.Helper()
	req := &zendeskv1.IdentifyCallerRequest{InteractionId: interaction, Phone: number, RecordsetName: "RS"}
	for _, f := range change {
		f(req)
	}
	resp, err := s.blocks.IdentifyCaller(t.Context(), req)
	must(t, err)
	return resp
}

func policy(p zendeskv1.MatchPolicy) func(*zendeskv1.IdentifyCallerRequest) {
	return func(r *zendeskv1.IdentifyCallerRequest) { r.Policy = p }
}

func idOf(p zendesktest.Person) string { return fmt.Sprint(p.ID) }

// asked counts what Zendesk is asked meanwhile.
func (s *testServer) asked(during func()) int {
	before := len(s.requests())
	during()
	return len(s.requests()) - before
}

func TestIdentifyCallerByNumber(t *testing.T) {
	s := newPeopleServer(t)
	odd := zendesktest.OddFormats
	for name, tt := range map[string]struct {
		number string
		want   zendesktest.Person // zero: nobody
		grade  zendeskv1.MatchGrade
		field  string
	}{
		"punctuation":             {"+15135557701", odd[0], exact, "phone"},
		"at home":                 {"(513) 555 7701", odd[0], national, "phone"},
		"SIP":                     {`"Ann" <sip:+15135557701@192.0.2.4:5060;transport=tls>;tag=1`, odd[0], exact, "phone"},
		"stored with extension":   {"+15135557702", odd[1], national, "phone"},
		"trunk zero":              {"+4930901830", odd[2], exact, "phone"},
		"tel URI":                 {"+15135557703", odd[4], exact, "phone"},
		"invisible":               {"+15135557704", odd[5], exact, "phone"},
		"slash":                   {"+498912345678", odd[6], exact, "phone"},
		"international prefix":    {"+442079460020", odd[7], exact, "phone"},
		"stored as SIP":           {"+15135557706", odd[8], exact, "phone"},
		"France":                  {"+33199001234", odd[9], exact, "phone"},
		"Italy":                   {"+390698765432", odd[11], exact, "phone"},
		"pause":                   {"+15135557709", odd[13], national, "phone"},
		"two numbers":             {"+15135557707", odd[14], national, "phone"},
		"United Kingdom":          {"+447700900123", odd[16], exact, "phone"},
		"another number's end":    {"+4915135557702", zendesktest.Stranger, exact, "phone"},
		"a local end":             {"5557702", zendesktest.Person{}, 0, ""},
		"Italy without its zero":  {"+39698765432", zendesktest.Person{}, 0, ""},
		"in notes and details":    {"+15135557731", zendesktest.Person{}, 0, ""},
		"nobody's":                {"+15135550000", zendesktest.Person{}, 0, ""},
		"custom field":            {"+15135557771", zendesktest.Fielded, exact, "user_fields.mobile"},
		"custom field, written":   {"+15135557772", zendesktest.FieldedOddly, national, "user_fields.other_phone"},
		"suspended twin":          {"+15135557742", zendesktest.LivingTwin, national, "phone"},
		"merged":                  {"+15135557751", zendesktest.Survivor, exact, "identities"},
		"deleted":                 {"+15135557753", zendesktest.Person{}, 0, ""},
		"second number":           {"+447700900456", zendesktest.Manifold, exact, "identities"},
		"direct line alone":       {"+15135557762", zendesktest.LineOnly, exact, "identities"},
		"profile alone":           {"+15135557763", zendesktest.ProfileOnly, exact, "phone"},
		"an external id's number": {"+15135557764", zendesktest.Numbered, exact, "phone"},
	} {
		t.Run(name, func(t *testing.T) {
			resp := s.identify(t, strings.ReplaceAll(name, " ", "-"), tt.number)
			if tt.want.ID == 0 {
				mustExit(t, resp, noData)
				if rs := resp.GetRecordset(); rs == nil || rs.GetCount() != 0 || resp.GetRecord() != nil || resp.GetVariables()["RS.__count__"] != "0" {
					t.Errorf("nobody is %v", resp)
				}
				return
			}
			mustExit(t, resp, next)
			want := &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_USER, Id: idOf(tt.want), Url: s.zendesk.Origin() + "/agent/users/" + idOf(tt.want) + "/requested_tickets"}
			if diff := cmp.Diff(want, resp.GetRecord(), protocmp.Transform()); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			if resp.GetGrade() != tt.grade || resp.GetMatchedBy() != zendeskv1.MatchedBy_MATCHED_BY_PHONE || resp.GetMatchedField() != tt.field ||
				resp.GetRequests() < 1 || resp.GetSuspended() {
				t.Errorf("it is %v", resp)
			}
			vars := resp.GetVariables()
			if vars["RS.name"] != tt.want.Name || vars["RS.__count__"] != "1" || vars[resultCode] != "200" || vars[resultBody] != "" {
				t.Errorf("variables are %v", vars)
			}
		})
	}
}

// What identifies nobody costs no request, and removes the recordset.
func TestIdentifyCallerByNothing(t *testing.T) {
	s := newPeopleServer(t)
	mustExit(t, s.identify(t, "c", "+15135557701"), next)
	for _, number := range []string{"anonymous", "sip:anonymous@anonymous.invalid", "+266696687", "x204", "204", "ext. 12", "911", "+999 1234567", "---", "$(ani)", strings.Repeat("5", 200)} {
		var resp *zendeskv1.IdentifyCallerResponse
		if n := s.asked(func() {
			resp = s.identify(t, "c", number, func(r *zendeskv1.IdentifyCallerRequest) { r.Variables = map[string]string{"ani": ""} })
		}); n != 0 {
			t.Errorf("%q costs %d requests", number, n)
		}
		mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE)
		if count, told := resp.GetVariables()["RS.__count__"]; !told || count != "" || resp.GetRecordset() != nil || resp.GetRequests() != 0 {
			t.Errorf("%q: %v", number, resp)
		}
	}
	mustFail(t, s.identify(t, "c", "$(nobody)"), zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE)
	resp := s.identify(t, "c", "$(nobody)", func(r *zendeskv1.IdentifyCallerRequest) { r.Email = zendesktest.Caller.Email })
	mustExit(t, resp, next)
}

func TestIdentifyCallerInOrder(t *testing.T) {
	s := newPeopleServer(t)
	all := func(r *zendeskv1.IdentifyCallerRequest) {
		r.TicketId, r.ExternalId, r.Email = fmt.Sprint(zendesktest.SharedLineTickets[0]), "200177", "MONA@old.example"
	}
	for _, tt := range []struct {
		change func(*zendeskv1.IdentifyCallerRequest)
		by     zendeskv1.MatchedBy
		id     string
		field  string
	}{
		{func(*zendeskv1.IdentifyCallerRequest) {}, zendeskv1.MatchedBy_MATCHED_BY_TICKET_ID, fmt.Sprint(zendesktest.SharedLineTickets[0]), "id"},
		{func(r *zendeskv1.IdentifyCallerRequest) { r.TicketId = "4711" }, zendeskv1.MatchedBy_MATCHED_BY_EXTERNAL_ID, idOf(zendesktest.Numbered), "external_id"},
		{func(r *zendeskv1.IdentifyCallerRequest) { r.TicketId, r.ExternalId = "none", " " }, zendeskv1.MatchedBy_MATCHED_BY_EMAIL, idOf(zendesktest.Manifold), "identities"},
		{func(r *zendeskv1.IdentifyCallerRequest) {
			r.TicketId, r.ExternalId, r.Email = "", "nobody", "nobody@example.com"
		}, zendeskv1.MatchedBy_MATCHED_BY_PHONE, idOf(zendesktest.OddFormats[0]), "phone"},
	} {
		resp := s.identify(t, "c", "+15135557701", all, tt.change)
		mustExit(t, resp, next)
		if resp.GetRecord().GetId() != tt.id || resp.GetMatchedBy() != tt.by || resp.GetMatchedField() != tt.field || resp.GetGrade() != exact {
			t.Errorf("want %s by %v: %v", tt.id, tt.by, resp)
		}
		wantType := zendeskv1.RecordType_RECORD_TYPE_USER
		if tt.by == zendeskv1.MatchedBy_MATCHED_BY_TICKET_ID {
			wantType = zendeskv1.RecordType_RECORD_TYPE_TICKET
		}
		if resp.GetRecord().GetType() != wantType {
			t.Errorf("record is %v", resp.GetRecord())
		}
	}
}

func TestIdentifyCallerPolicies(t *testing.T) {
	s := newPeopleServer(t)
	shared := zendesktest.SharedLine
	for _, number := range []string{"+15135557720", "513-555-7720"} {
		for p, want := range map[zendeskv1.MatchPolicy][]zendesktest.Person{
			zendeskv1.MatchPolicy_MATCH_POLICY_UNSPECIFIED: {},
			zendeskv1.MatchPolicy_MATCH_POLICY_REFUSE:      {},
			zendeskv1.MatchPolicy_MATCH_POLICY_ALL:         shared,
		} {
			resp := s.identify(t, "c", number, policy(p))
			mustExit(t, resp, multiple)
			if resp.GetRecord() != nil || resp.GetRecordset().GetTotalCount() != 3 || int(resp.GetRecordset().GetCount()) != len(want) {
				t.Errorf("%v of %s: %v", p, number, resp)
			}
			var got []string
			for i := range want {
				if i > 0 {
					mustExit(t, s.nextOf(t, "c"), next)
				}
				got = append(got, s.interaction(t, "c").GetRecordsets()[0].GetCurrent().GetId())
			}
			var ids []string
			for _, p := range want {
				ids = append(ids, idOf(p))
			}
			if !slices.Equal(ids, got) {
				t.Errorf("%v of %s is %v, want %v", p, number, got, ids)
			}
		}
	}
	// Frank's is the exact match of the number as the network gives it; of those who are alike Fiona's ticket is open.
	resp := s.identify(t, "c", "+15135557720", policy(zendeskv1.MatchPolicy_MATCH_POLICY_FIRST))
	mustExit(t, resp, next)
	if resp.GetRecord().GetId() != idOf(shared[0]) || resp.GetGrade() != exact {
		t.Errorf("FIRST is %v", resp)
	}
	resp = s.identify(t, "c", "513-555-7720", policy(zendeskv1.MatchPolicy_MATCH_POLICY_MOST_RECENT))
	mustExit(t, resp, next)
	if resp.GetRecord().GetId() != idOf(shared[1]) || resp.GetGrade() != national {
		t.Errorf("MOST_RECENT is %v", resp)
	}
}

// A suspended person is found, and said to be, only when there is nobody else.
func TestIdentifyCallerSuspended(t *testing.T) {
	s := newPeopleServer(t)
	resp := s.identify(t, "c", "+15135557741")
	mustExit(t, resp, next)
	if resp.GetRecord().GetId() != idOf(zendesktest.Suspended) || !resp.GetSuspended() {
		t.Errorf("it is %v", resp)
	}
}

// Repeat callers, and several blocks of one call, cost one request each.
func TestIdentifyCallerRemembers(t *testing.T) {
	s := newPeopleServer(t)
	callers := []string{"+15135557701", "+4930901830", "+15135557771", "+15135557762"}
	total, calls := 0, 0
	for i := range 20 {
		for _, number := range callers {
			resp := s.identify(t, fmt.Sprint("call-", i), number)
			mustExit(t, resp, next)
			total += int(resp.GetRequests())
			calls++
			if i > 0 && resp.GetMatchedQuery() != "" {
				t.Errorf("%s is looked for again: %v", number, resp)
			}
		}
	}
	if 10*total > 12*calls {
		t.Errorf("%d calls took %d requests", calls, total)
	}
	s.clock.advance(10*time.Minute + time.Second)
	if resp := s.identify(t, "late", callers[0]); resp.GetMatchedQuery() == "" {
		t.Errorf("it is remembered for too long: %v", resp)
	}
	// Another account has its own memory.
	s.createAccount(t, "other", zendesktest.Admin)
	s.selectAccount(t, "of-other", "other")
	if resp := s.identify(t, "of-other", callers[0]); resp.GetMatchedQuery() == "" {
		t.Errorf("another account remembers: %v", resp)
	}
}

// What is remembered is confirmed: who has another number now, is suspended, merged or deleted is not the caller any more.
func TestIdentifyCallerConfirms(t *testing.T) {
	user := "/api/v2/users/" + idOf(zendesktest.OddFormats[0])
	for name, change := range map[string]struct{ method, path, body string }{
		"another number": {http.MethodPut, user, `{"user":{"phone":"+15135550099"}}`},
		"merged":         {http.MethodPut, user + "/merge", fmt.Sprintf(`{"user":{"id":%d}}`, zendesktest.LineOnly.ID)},
		"deleted":        {http.MethodDelete, user, ""},
	} {
		for _, redirects := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", redirects), func(t *testing.T) {
				s := newPeopleServer(t, func(_ *Config, z *zendesktest.Config) { z.MergedRedirects, z.IndexLag = redirects, 10*time.Minute })
				mustExit(t, s.identify(t, "c", "+15135557701"), next)
				s.tellZendesk(t, change.method, change.path, change.body)
				// The index is late, and shows the person as he was.
				for range 3 {
					mustExit(t, s.identify(t, "c", "+15135557701"), noData)
				}
				if name == "another number" {
					return
				}
				s.clock.advance(11 * time.Minute)
				want := noData
				if name == "merged" {
					want = next
				}
				mustExit(t, s.identify(t, "c", "+15135557701"), want)
			})
		}
	}
}

// tellZendesk changes something in Zendesk as its administrator.
func (s *testServer) tellZendesk(t testing.TB, method, path, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.zendesk.Origin()+path, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: status %d", method, path, res.StatusCode)
	}
}

// A repeat with the request_id gives the first answer, without a request; another execution looks again.
func TestIdentifyCallerRequestID(t *testing.T) {
	s := newPeopleServer(t)
	withID := func(r *zendeskv1.IdentifyCallerRequest) {
		r.RequestId, r.Policy = "1", zendeskv1.MatchPolicy_MATCH_POLICY_ALL
	}
	for _, number := range []string{"+15135557720", "+15135550000", "+15135557701"} {
		first := s.identify(t, number, number, withID)
		if n := s.asked(func() {
			if diff := cmp.Diff(first, s.identify(t, number, number, withID), protocmp.Transform()); diff != "" {
				t.Errorf("the repeat is answered otherwise (-first +again):\n%s", diff)
			}
		}); n != 0 {
			t.Errorf("the repeat costs %d requests", n)
		}
	}
}

// Zendesk's refusals are FAILED, and never NO_DATA.
func TestIdentifyCallerFails(t *testing.T) {
	s := newPeopleServer(t)
	mustExit(t, s.identify(t, "c", "+15135557701"), next)
	for _, path := range []string{"/api/v2/search", "/api/v2/users/"} {
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: path, Status: http.StatusForbidden})
		resp := s.identify(t, "c", map[string]string{"/api/v2/search": "+15135557703", "/api/v2/users/": "+15135557701"}[path])
		mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED)
		if resp.GetVariables()[resultCode] != "403" || resp.GetRecordset() != nil {
			t.Errorf("it is %v", resp)
		}
		s.zendesk.ClearFaults()
	}
}

// A Zendesk that hangs costs the caller no more than the block's time.
func TestIdentifyCallerWhenZendeskHangs(t *testing.T) {
	s := newPeopleServer(t, func(c *Config, _ *zendesktest.Config) { c.Timeouts.Block = time.Second })
	s.zendesk.AddFault(zendesktest.Fault{Hang: zendesktest.HangBefore})
	mustFail(t, s.identify(t, "c", "+15135557701"), zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT)
	mustFail(t, s.findOrCreate(t, "c", "+15135557701"), zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT)
	s.zendesk.ClearFaults()
}

// The columns that are asked for are kept and told, no others, also of one who is remembered.
func TestIdentifyCallerColumns(t *testing.T) {
	s := newPeopleServer(t)
	want := map[string]string{"RS.__count__": "1", "RS.phone": "+1 (513) 555-7701", resultCode: "200"}
	for range 2 {
		resp := s.identify(t, "c", "+15135557701", func(r *zendeskv1.IdentifyCallerRequest) { r.Columns, r.IncludeResultBody = []string{"phone"}, true })
		mustExit(t, resp, next)
		got := resp.GetVariables()
		if !strings.Contains(got[resultBody], "pia.parentheses@example.com") {
			t.Errorf("the body is %q", got[resultBody])
		}
		delete(got, resultBody)
		if diff := cmp.Diff(want, got); diff != "" || resp.GetRecord().GetType() != zendeskv1.RecordType_RECORD_TYPE_USER {
			t.Errorf("record is %v, variables (-want +got):\n%s", resp.GetRecord(), diff)
		}
	}
}

func TestIdentifyCallerExplain(t *testing.T) {
	s := newPeopleServer(t)
	var resp *zendeskv1.IdentifyCallerResponse
	if n := s.asked(func() {
		resp = s.identify(t, "c", "+15135557701", func(r *zendeskv1.IdentifyCallerRequest) {
			r.ValidateOnly, r.RequestId, r.ExternalId = true, "1", "a b"
		})
	}); n != 0 || s.interaction(t, "c") != nil {
		t.Errorf("explaining costs %d requests", n)
	}
	mustExit(t, resp, next)
	var got []string
	for _, r := range resp.GetExplain().GetRequests() {
		got = append(got, r.GetMethod()+" "+r.GetPath()+"?"+r.GetQuery())
	}
	want := []string{
		"GET /api/v2/users/search.json?external_id=a%20b&per_page=100",
		"GET /api/v2/search.json?page=1&per_page=100&query=type%3Auser%20phone%3A%2A5135557701",
		"GET /api/v2/search.json?page=1&per_page=100&query=type%3Auser%20mobile%3A%2A5135557701%20mobile%3A%22513%20555%207701%22",
		"GET /api/v2/search.json?page=1&per_page=100&query=type%3Auser%20other_phone%3A%2A5135557701%20other_phone%3A%22513%20555%207701%22",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("explained (-want +got):\n%s", diff)
	}
	if resp.GetExplain().GetAccount().GetAccountId() != "main" {
		t.Errorf("explained %v", resp.GetExplain())
	}
	mustFail(t, s.identify(t, "c", "anonymous", func(r *zendeskv1.IdentifyCallerRequest) { r.ValidateOnly = true }), zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE)
}

func TestIdentifyCallerValidates(t *testing.T) {
	s := newPeopleServer(t)
	_, err := s.blocks.IdentifyCaller(t.Context(), &zendeskv1.IdentifyCallerRequest{InteractionId: "c", Policy: 99, RecordsetName: "1"})
	mustViolate(t, err, "phone", "policy", "recordset_name")
	_, err = s.blocks.FindOrCreateUser(t.Context(), &zendeskv1.FindOrCreateUserRequest{
		InteractionId: "c", Email: "$(", Fields: map[string]string{"a..b": "", "c": "$(", "phone": "1", "tags": "", "tags.x": ""}, RecordsetName: "RS",
	})
	mustViolate(t, err, "email", `fields["a..b"]`, `fields["c"]`, `fields["phone"]`, `fields["tags.x"]`)
}
