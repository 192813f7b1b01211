package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// answersOf lists n users as a page of a search that counts so many.
func answersOf(n, count int) string {
	records := make([]string, n)
	for i := range records {
		records[i] = fmt.Sprintf(`{"id":%d,"result_type":"user","name":"User %d"}`, i+1, i+1)
	}
	return fmt.Sprintf(`{"results":[%s],"count":%d,"next_page":null}`, strings.Join(records, ","), count)
}

// What cannot be is never "there is nothing", and a part never passes for the whole.
func TestSearchOfAbsurdAnswers(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	for name, tt := range map[string]struct {
		pages    []string // as long as Zendesk is asked; the last one stays
		attempts int32    // 0: any
		says     string
	}{
		"counted and not there":        {[]string{answersOf(0, 1)}, 2, ""},
		"an empty second page":         {[]string{answersOf(100, 150), answersOf(0, 150)}, 0, "100 of 150 records had come"},
		"a negative count":             {[]string{`{"results":[],"count":-1}`}, 0, ""},
		"a negative count of some":     {[]string{`{"results":[{"id":1,"result_type":"user"}],"count":-3}`}, 0, ""},
		"a count that is no number":    {[]string{`{"results":[],"count":"none"}`}, 0, ""},
		"results twice, empty first":   {[]string{`{"results":[],"results":[{"id":1}],"count":1}`}, 0, ""},
		"results twice, empty at last": {[]string{`{"results":[{"id":1}],"results":[],"count":0}`}, 0, ""},
		"results beside Results":       {[]string{`{"Results":[{"id":1}],"results":[],"count":0}`}, 0, ""},
		"Results alone":                {[]string{`{"Results":[],"count":0}`}, 0, ""},
		"a count twice":                {[]string{`{"results":[],"count":0,"count":3}`}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.zendesk.ClearFaults()
			mustExit(t, s.search(t, "one", callerQuery), next)
			s.answerWith(tt.pages[:len(tt.pages)-1]...)
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Body: &tt.pages[len(tt.pages)-1]})
			resp := s.search(t, "one", "type:user", func(r *zendeskv1.SearchRequest) { r.MaxResults = 200 })
			f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE)
			if f.GetHttpStatus() != http.StatusOK || f.GetAttempts() < max(1, tt.attempts) || !strings.Contains(f.GetMessage(), tt.says) {
				t.Errorf("failure is %v", f)
			}
			if vars := resp.GetVariables(); vars["integrationResultCode"] != "200" || vars["integrationResultBody"] == "" {
				t.Errorf("variables are %v", vars)
			}
			mustBlank(t, resp.GetVariables(), nil)
			mustFail(t, s.nextOf(t, "one"), zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
		})
	}
	t.Run("more than counted", func(t *testing.T) {
		s.zendesk.ClearFaults()
		more := answersOf(2, 1)
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Body: &more})
		resp := s.search(t, "one", "type:user")
		mustExit(t, resp, next)
		if rs := resp.GetRecordset(); rs.GetCount() != 2 || rs.GetTotalCount() != 2 {
			t.Errorf("recordset is %v", rs)
		}
	})
	t.Run("counted at last", func(t *testing.T) {
		s.zendesk.ClearFaults()
		s.answerWith(answersOf(0, 1), answersOf(1, 1))
		mustExit(t, s.search(t, "one", "type:user"), next)
	})
}

// Records are what Zendesk says they are: what nobody can pop has no page, and no text of one breaks a block.
func TestSearchOfOddRecords(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	const joined = "علی\u200cرضا 👩\u200d👧"
	huge := strings.Repeat("9", 40)
	for name, tt := range map[string]struct {
		record string
		id     string // of the record
		vars   map[string]string
		pops   bool
	}{
		"without an id":       {`{"result_type":"ticket","subject":"x"}`, "", map[string]string{"RS.subject": "x"}, false},
		"null as id":          {`{"id":null,"result_type":"ticket"}`, "", map[string]string{"RS.id": ""}, false},
		"an object as id":     {`{"id":{"a":1},"result_type":"ticket"}`, "", map[string]string{"RS.id.a": "1"}, false},
		"a fraction as id":    {`{"id":1.5,"result_type":"ticket"}`, "", map[string]string{"RS.id": "1.5"}, false},
		"a negative id":       {`{"id":-1,"result_type":"ticket"}`, "", map[string]string{"RS.id": "-1"}, false},
		"an id as text":       {`{"id":"4711","result_type":"ticket"}`, "4711", map[string]string{"RS.id": "4711"}, true},
		"an id beyond floats": {`{"id":9007199254740993,"result_type":"ticket"}`, "9007199254740993", map[string]string{"RS.id": "9007199254740993"}, true},
		"a huge id":           {`{"id":` + huge + `,"result_type":"ticket"}`, huge, map[string]string{"RS.id": huge}, true},
		"half an emoji":       {`{"id":1,"result_type":"ticket","subject":"a\ud83db"}`, "1", map[string]string{"RS.subject": "a\ufffdb"}, true},
		"the other half":      {`{"id":1,"result_type":"ticket","subject":"\ude00"}`, "1", map[string]string{"RS.subject": "\ufffd"}, true},
		"half as a name":      {`{"id":1,"result_type":"ticket","a\ud83d":"x"}`, "1", map[string]string{"RS.a\ufffd": "x"}, true},
		"broken bytes":        {"{\"id\":1,\"result_type\":\"ticket\",\"subject\":\"a\xf0\x9f\x98b\"}", "1", nil, true},
		"joiners":             {`{"id":1,"result_type":"ticket","subject":"` + joined + `"}`, "1", map[string]string{"RS.subject": joined}, true},
		"a null byte":         {`{"id":1,"result_type":"ticket","subject":"a\u0000b"}`, "1", map[string]string{"RS.subject": "a\x00b"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			interaction := strings.ReplaceAll(name, " ", "-")
			s.zendesk.ClearFaults()
			s.answerWith(`{"results":[` + tt.record + `],"count":1}`)
			resp := s.search(t, interaction, "type:ticket", func(r *zendeskv1.SearchRequest) { r.IncludeResultBody = true })
			mustExit(t, resp, next)
			mustEqual(t, "id", resp.GetRecordset().GetCurrent().GetId(), tt.id)
			for key, want := range tt.vars {
				if got, ok := resp.GetVariables()[key]; !ok || got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			for key, value := range resp.GetVariables() {
				if !utf8.ValidString(key) || !utf8.ValidString(value) {
					t.Errorf("%q is %q", key, value)
				}
			}
			list, err := s.interactions.ListRecords(t.Context(), &zendeskv1.ListRecordsRequest{InteractionId: interaction, RecordsetName: "RS"})
			must(t, err)
			mustEqual(t, "listed", len(list.GetRecords()), 1)
			for key, value := range list.GetRecords()[0].GetColumns() {
				mustEqual(t, "listed "+key, value, resp.GetVariables()["RS."+key])
			}
			attached := s.attach(t, interaction, map[string]string{"subject": "[$(RS.subject)]"})
			mustExit(t, attached, next)
			mustEqual(t, "attached", attached.GetData()["subject"], "["+resp.GetVariables()["RS.subject"]+"]")
			popped := s.pop(t, toCurrent(interaction))
			if !tt.pops {
				mustFail(t, popped, zendeskv1.FailureReason_FAILURE_REASON_NO_TARGET)
				return
			}
			mustExit(t, popped, next)
			if got := outcomes(s.deliver(t, interaction, zendesktest.Agent)); len(got) != 1 || got[0] != link && got[0] != displayed {
				t.Errorf("outcomes are %v", got)
			}
		})
	}
}

// A Zendesk that has moved, or an address that a page stands in front of, is not a matter of anybody's role.
func TestSearchOfAMovedZendesk(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	page := "<!DOCTYPE html><html><body>You are not allowed</body></html>"
	location := func(to string) *zendesktest.Edit { return &zendesktest.Edit{Header: map[string]string{"Location": to}} }
	for name, tt := range map[string]struct {
		fault zendesktest.Fault
		want  zendeskv1.FailureReason
		says  string
	}{
		"moved":      {zendesktest.Fault{Status: 301, Edit: location("https://acme2.zendesk.com/api/v2/search.json?q=secret")}, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, "acme2.zendesk.com"},
		"for a time": {zendesktest.Fault{Status: 302, Edit: location("https://acme2.zendesk.com/x")}, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, "acme2.zendesk.com"},
		"sign-in":    {zendesktest.Fault{Status: 302, Edit: location("/access/unauthenticated?return_to=secret")}, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, "signing in"},
		"a wall": {
			zendesktest.Fault{Status: 403, Body: &page, Edit: &zendesktest.Edit{Header: map[string]string{"Content-Type": "text/html"}}},
			zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE, "page",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.zendesk.ClearFaults()
			s.zendesk.AddFault(tt.fault)
			f := mustFail(t, s.search(t, "one", callerQuery), tt.want)
			if !strings.Contains(f.GetMessage(), tt.says) || strings.Contains(f.GetMessage(), "secret") || f.GetHttpStatus() != int32(tt.fault.Status) {
				t.Errorf("failure is %v", f)
			}
			test, err := s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: "main"})
			must(t, err)
			if f := test.GetFailure(); f.GetReason() != tt.want || !strings.Contains(f.GetMessage(), tt.says) || strings.Contains(f.GetMessage(), "secret") {
				t.Errorf("TestConnection says %v", test)
			}
			if moved := strings.Contains(tt.says, "acme2"); strings.Contains(test.GetChecks()[0].GetMessage(), "create an account") != moved {
				t.Errorf("TestConnection advises %q", test.GetChecks()[0].GetMessage())
			}
		})
	}
}

// What Zendesk did not ask for is not told, whatever is made of it here.
func TestSearchTellsRetryAfter(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{"": 0, "soon": 0, "-5": 0, "7": 7 * time.Second, "2.2": 3 * time.Second, "3, 90": 90 * time.Second} {
		t.Run(header, func(t *testing.T) {
			s := newBlockServer(t)
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 429, RetryAfter: header})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			resp, err := s.blocks.Search(ctx, &zendeskv1.SearchRequest{InteractionId: "one", SearchString: callerQuery, RecordsetName: "RS"})
			must(t, err)
			f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED)
			if f.GetRetryAfter().AsDuration() != want || (f.GetRetryAfter() != nil) != (want != 0) {
				t.Errorf("retry_after is %v, want %v", f.GetRetryAfter(), want)
			}
		})
	}
}

// What telephone systems send leads to the caller, and what they send for a withheld number leads nowhere.
func TestSearchByCallerID(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	search := func(t *testing.T, callerID string) *zendeskv1.SearchResponse {
		return s.search(t, "one", "type:user phone:$(ANI,phone)", func(r *zendeskv1.SearchRequest) { r.Variables = map[string]string{"ANI": callerID} })
	}
	for _, callerID := range []string{
		"sip:+15135557611@10.0.0.5:5060", "sip:5135557611@192.168.10.20", `"Desk 42" <sip:+15135557611@pbx.example.com>`,
		`"Ann Lee" <sips:+15135557611@pbx2.example.com:5061;transport=tls>;tag=4f7a`, "tel:+1-513-555-7611;ext=22", "tel:5135557611;phone-context=+1",
		"\u202a+1 513\u2011555\u20117611\u202c", "+1\u00a0513\u00ad555\ufe0f7611", "＋１５１３５５５７６１１", "001 513 555 7611",
	} {
		resp := search(t, callerID)
		mustExit(t, resp, next)
		mustEqual(t, "query of "+callerID, resp.GetRecordset().GetQuery(), callerQuery)
	}
	asked := len(s.searches())
	for _, callerID := range []string{
		"sip:anonymous@192.168.10.20:5060", "<sip:unknown@10.20.30.40>;tag=1", "Restricted", "+266696687", "7378742833", "2562533", "8656696", "86282452253", "",
	} {
		f := mustFail(t, search(t, callerID), zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE)
		if !strings.Contains(f.GetMessage(), "no telephone number") {
			t.Errorf("%q: %s", callerID, f.GetMessage())
		}
	}
	mustEqual(t, "searches for nobody", len(s.searches()), asked)
}

// Joiners within words are spelling.
func TestSearchKeepsJoiners(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	const name = "علی\u200cرضا"
	resp := s.search(t, "one", "type:user name:$(NAME)", func(r *zendeskv1.SearchRequest) { r.Variables = map[string]string{"NAME": name} })
	mustExit(t, resp, noData)
	mustEqual(t, "asked", s.searches(), []string{"type:user name:" + name})
}

// Beyond the limits of a request nothing is parsed, and nothing changes.
func TestAttachedDataIsBoundedBefore(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	mustExit(t, s.attach(t, "one", map[string]string{"a": "1"}), next)
	many, large := keys(0, 201, 1), map[string]string{}
	for i := range 5 {
		large[fmt.Sprintf("key%d", i)] = "$(V)" + strings.Repeat("x", 60<<10)
	}
	expanding := map[string]string{}
	for i := range 200 {
		expanding[fmt.Sprintf("key%03d", i)] = strings.Repeat("$(V,escapejson)", 80)
	}
	vars := map[string]string{"V": strings.Repeat("\x01", 400<<10)}
	for name, data := range map[string]map[string]string{"entries": many, "written": large, "expanded": expanding, "removals": keys(0, 201, 0)} {
		resp, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: data, Variables: vars})
		must(t, err)
		mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
		mustEqual(t, name, s.interaction(t, "one").GetAttachedData(), map[string]string{"a": "1"})
	}
	mustExit(t, s.attach(t, "two", keys(0, 200, 1000)), next)
}
