package server

import (
	"context"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestSearch(t *testing.T) {
	s := newBlockServer(t)
	caller := strconv.FormatInt(zendesktest.Caller.ID, 10)
	resp := s.search(t, "one", "type:user phone:$(ANI,phone)", func(r *zendeskv1.SearchRequest) {
		r.Variables = map[string]string{"ANI": "+15135557611"}
	})
	mustExit(t, resp, next)
	mustUse(t, resp, "main", byDefault)
	want := &zendeskv1.Recordset{
		Name:       "RS",
		Account:    &zendeskv1.AccountUse{AccountId: "main", Name: "Account main", Selection: byDefault},
		Query:      "type:user phone:*5135557611",
		Count:      1,
		TotalCount: 1,
		Position:   1,
		Current: &zendeskv1.Record{
			Type: zendeskv1.RecordType_RECORD_TYPE_USER, Id: caller,
			Url: s.zendesk.Origin() + "/agent/users/" + caller + "/requested_tickets",
		},
	}
	mustEqual(t, "recordset", resp.GetRecordset(), want)
	for name, value := range map[string]string{
		"RS.__count__":          "1",
		"RS.id":                 caller,
		"RS.name":               "Maria Lopez",
		"RS.user_fields.plan":   "business",
		"RS.user_fields.vip":    "true",
		"RS.organization_id":    strconv.FormatInt(zendesktest.CallerOrganization, 10),
		"RS.result_type":        "user",
		"integrationResultCode": "200",
		"integrationResultBody": "",
	} {
		if got, ok := resp.GetVariables()[name]; !ok || got != value {
			t.Errorf("variable %s is %q, %v; want %q", name, got, ok, value)
		}
	}
	mustEqual(t, "stored recordsets", s.interaction(t, "one").GetRecordsets(), []*zendeskv1.Recordset{want})

	// The values of the current record are there for the next block.
	resp = s.search(t, "one", "type:ticket requester:$(RS.id)", func(r *zendeskv1.SearchRequest) {
		r.RecordsetName, r.SortBy, r.SortOrder = "Tickets", zendeskv1.SortBy_SORT_BY_CREATED_AT, zendeskv1.SortOrder_SORT_ORDER_ASC
	})
	mustExit(t, resp, next)
	if got := resp.GetRecordset(); got.GetQuery() != "type:ticket requester:"+caller || got.GetCount() != 3 ||
		got.GetCurrent().GetId() != strconv.FormatInt(zendesktest.CallerTickets[0], 10) {
		t.Errorf("recordset is %v", got)
	}
	for name := range resp.GetVariables() {
		if strings.HasPrefix(name, "RS.") {
			t.Errorf("variable %s of another recordset is set", name)
		}
	}
	resp = s.search(t, "one", "type:ticket requester:$(RS.id)", func(r *zendeskv1.SearchRequest) {
		r.RecordsetName, r.SortBy, r.SortOrder = "Tickets", zendeskv1.SortBy_SORT_BY_CREATED_AT, zendeskv1.SortOrder_SORT_ORDER_DESC
	})
	if got := resp.GetRecordset().GetCurrent().GetId(); got != strconv.FormatInt(zendesktest.CallerTickets[2], 10) {
		t.Errorf("the newest ticket is %s", got)
	}
	// The request's variables win.
	resp = s.search(t, "one", "type:user $(RS.id)", func(r *zendeskv1.SearchRequest) { r.Variables = map[string]string{"RS.id": "x1"} })
	if got := resp.GetRecordset().GetQuery(); got != "type:user x1" {
		t.Errorf("query is %q", got)
	}
}

// A search that would be refused without a request is refused at once, with all that a failure leaves.
func TestSearchRefusedAtOnce(t *testing.T) {
	s := newBlockServer(t)
	mustExit(t, s.search(t, "one", callerQuery), next)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 500})
	for i := 0; len(s.health(t, "main").GetFailingEndpoints()) == 0; i++ {
		if i == 20 {
			t.Fatal("the endpoint is asked again and again")
		}
		mustFail(t, s.search(t, fmt.Sprint("other", i), callerQuery), zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE)
	}
	s.zendesk.ClearFaults()
	asked := len(s.zendesk.Requests())
	resp := s.search(t, "one", callerQuery)
	mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE)
	if f := resp.GetFailure(); f.GetRetryAfter() == nil || f.GetHttpStatus() != 0 || !strings.Contains(f.GetMessage(), "left alone") {
		t.Errorf("failure is %v", f)
	}
	if got := resp.GetAccount().GetAccountId(); got != "main" {
		t.Errorf("account is %q", got)
	}
	if count, set := resp.GetVariables()["RS.__count__"]; !set || count != "" {
		t.Errorf("the variables say that there are %q records: %v", count, resp.GetVariables())
	}
	mustFail(t, s.nextOf(t, "one"), zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
	mustFail(t, s.search(t, "new", callerQuery), zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE)
	if got := s.interaction(t, "new").GetAccount().GetAccountId(); got != "main" {
		t.Errorf("account of a new interaction is %q", got)
	}
	if n := len(s.zendesk.Requests()) - asked; n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestSearchIDsAreExact(t *testing.T) {
	s := newBlockServer(t)
	resp := s.search(t, "one", "type:user phone:*5135557688")
	mustExit(t, resp, next)
	if got := resp.GetVariables()["RS.id"]; got != "9007199254740993" {
		t.Errorf("id variable is %s", got)
	}
	if got := resp.GetRecordset().GetCurrent().GetId(); got != "9007199254740993" {
		t.Errorf("id of the current record is %s", got)
	}
	s.answerWith(`{"results":[{"id":1,"result_type":"user"},
		{"id":9223372036854775807,"result_type":"ticket","amount":12345678901234567.890,"big":1e2,"requester_id":9007199254740993}],"count":2}`)
	mustExit(t, s.search(t, "one", "anything"), next)
	record := s.nextOf(t, "one")
	mustExit(t, record, next)
	for name, want := range map[string]string{
		"RS.id": "9223372036854775807", "RS.amount": "12345678901234567.890", "RS.big": "1e2", "RS.requester_id": "9007199254740993",
	} {
		if got := record.GetVariables()[name]; got != want {
			t.Errorf("variable %s is %s, want %s", name, got, want)
		}
	}
}

func TestSearchKeepsUnknownTypes(t *testing.T) {
	s := newBlockServer(t)
	s.answerWith(`{"results":[{"id":7,"result_type":"article","title":"How to"},{"id":8,"result_type":"group"},{"title":"no id at all"}],"count":3,"next_page":null}`)
	resp := s.search(t, "one", "anything")
	mustExit(t, resp, next)
	mustEqual(t, "current record", resp.GetRecordset().GetCurrent(), &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_OTHER, Id: "7"})
	if got := resp.GetVariables()["RS.title"]; got != "How to" {
		t.Errorf("title is %q", got)
	}
	mustEqual(t, "record 2", s.nextOf(t, "one").GetRecord(), &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_GROUP, Id: "8"})
	mustEqual(t, "record 3", s.nextOf(t, "one").GetRecord(), &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_OTHER})
}

// body makes a fault's body of a text.
func body(text string) *string { return &text }

func TestSearchFailures(t *testing.T) {
	type reason = zendeskv1.FailureReason
	const (
		badResponse = zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE
		unavailable = zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE
		limited     = zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED
		rejected    = zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED
		denied      = zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED
		notFound    = zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND
		invalid     = zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST
	)
	const someTime = -1 // not said: until the minute is over
	long := strings.Repeat("é", 50<<10)
	for _, test := range []struct {
		name       string
		fault      zendesktest.Fault
		want       reason
		status     int32 // 0: no answer
		retryAfter time.Duration
	}{
		{"HTML with 200", zendesktest.Fault{Body: body("<html><body>Maintenance</body></html>")}, badResponse, 200, 0},
		{"truncated with 200", zendesktest.Fault{Body: body(`{"results":[{"id":1,"result_ty`)}, badResponse, 200, 0},
		{"empty with 200", zendesktest.Fault{Body: body("")}, badResponse, 200, 0},
		{"null with 200", zendesktest.Fault{Body: body("null")}, badResponse, 200, 0},
		{"null results with 200", zendesktest.Fault{Body: body(`{"results":null,"count":0}`)}, badResponse, 200, 0},
		{"no results with 200", zendesktest.Fault{Body: body(`{"count":0}`)}, badResponse, 200, 0},
		{"results that are no list", zendesktest.Fault{Body: body(`{"results":{},"count":0}`)}, badResponse, 200, 0},
		{"results that are no objects", zendesktest.Fault{Body: body(`{"results":[1,null],"count":2}`)}, badResponse, 200, 0},
		{"a list with 200", zendesktest.Fault{Body: body(`[]`)}, badResponse, 200, 0},
		{"unavailable with 200", zendesktest.Fault{Body: body(`{"error":"unavailable","description":"Sorry, we could not complete your search query."}`)}, unavailable, 200, 0},
		{"unknown error with 200", zendesktest.Fault{Body: body(`{"error":{"title":"Strange","message":"Never seen"}}`)}, badResponse, 200, 0},
		{"error and results with 200", zendesktest.Fault{Body: body(`{"error":"unavailable","results":[],"count":0}`)}, unavailable, 200, 0},
		{"dead token with 200", zendesktest.Fault{Body: body(`{"error":"invalid_token","error_description":"revoked"}`)}, rejected, 200, 0},
		{"no content", zendesktest.Fault{Status: 204}, badResponse, 204, 0},
		{"400", zendesktest.Fault{Status: 400}, invalid, 400, 0},
		{"401", zendesktest.Fault{Status: 401}, rejected, 401, 0},
		{"403", zendesktest.Fault{Status: 403}, denied, 403, 0},
		{"404", zendesktest.Fault{Status: 404}, notFound, 404, 0},
		{"409", zendesktest.Fault{Status: 409}, zendeskv1.FailureReason_FAILURE_REASON_CONFLICT, 409, 0},
		{"422", zendesktest.Fault{Status: 422}, invalid, 422, 0},
		{"429 with Retry-After", zendesktest.Fault{Status: 429, RetryAfter: "93"}, limited, 429, 93 * time.Second},
		{"429 in plain text without Retry-After", zendesktest.Fault{Status: 429, Body: body("Too many requests")}, limited, 429, someTime},
		{"500", zendesktest.Fault{Status: 500}, unavailable, 500, 0},
		{"500 with a long body", zendesktest.Fault{Status: 500, Body: &long}, unavailable, 500, 0},
		{"503", zendesktest.Fault{Status: 503}, unavailable, 503, 0},
		{"503 with Retry-After", zendesktest.Fault{Status: 503, RetryAfter: "60"}, limited, 503, time.Minute},
		{"connection cut", zendesktest.Fault{Drop: zendesktest.DropBefore}, unavailable, 0, 0},
		{"answer lost", zendesktest.Fault{Drop: zendesktest.DropAfter}, unavailable, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newBlockServer(t) // one that is not left alone
			before := s.search(t, "one", callerQuery)
			mustExit(t, before, next)
			test.fault.PathPrefix = searchPath
			s.zendesk.AddFault(test.fault)
			resp := s.search(t, "one", callerQuery)
			f := mustFail(t, resp, test.want)
			mustUse(t, resp, "main", byDefault)
			retryAfter := f.GetRetryAfter().AsDuration()
			if test.retryAfter == someTime {
				retryAfter = someTime
			}
			if f.GetHttpStatus() != test.status || retryAfter != test.retryAfter || f.GetAttempts() == 0 {
				t.Errorf("failure is %v, want status %d, retry after %v, attempts counted", f, test.status, test.retryAfter)
			}
			if answered := test.status != 0; (f.GetZendeskRequestId() != "") != answered {
				t.Errorf("Zendesk's request id is %q", f.GetZendeskRequestId())
			}
			code, text := "", ""
			if test.status != 0 {
				code = strconv.Itoa(int(test.status))
			}
			if test.fault.Body != nil {
				text = *test.fault.Body
			}
			got := resp.GetVariables()
			if got["integrationResultCode"] != code {
				t.Errorf("integrationResultCode is %q, want %q", got["integrationResultCode"], code)
			}
			switch result := got["integrationResultBody"]; {
			case len(result) > 64<<10 || !utf8.ValidString(result) || !strings.HasPrefix(text, result) && test.fault.Body != nil:
				t.Errorf("integrationResultBody is %.100q", result)
			case result == "" && (text != "" || test.status >= 400):
				t.Error("integrationResultBody is empty")
			case test.status == 0 && result != "":
				t.Errorf("integrationResultBody is %.100q without an answer", result)
			}
			// Nothing of the record before survives.
			mustBlank(t, got, nil)
			for name := range before.GetVariables() {
				if _, ok := got[name]; !ok {
					t.Errorf("variable %s is not set", name)
				}
			}
			mustFail(t, s.nextOf(t, "one"), zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
			if resp.GetRecordset() != nil || len(s.interaction(t, "one").GetRecordsets()) != 0 {
				t.Error("a recordset is left")
			}
		})
	}
}

func TestSearchTriesAgain(t *testing.T) {
	s := newBlockServer(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 503, Times: 1})
	mustExit(t, s.search(t, "one", callerQuery), next)
	if got := len(s.searches()); got != 2 {
		t.Errorf("Zendesk was asked %d times, want 2", got)
	}
}

func TestSearchAnswersInTime(t *testing.T) {
	for _, test := range []struct {
		name   string
		block  time.Duration // default deadline
		limit  time.Duration
		caller time.Duration // 0: none
	}{
		{"deadline of the caller", 3 * time.Second, 8 * time.Second, 2 * time.Second},
		{"default", 2 * time.Second, 8 * time.Second, 0},
		{"cap", 3 * time.Second, 2 * time.Second, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newBlockServer(t, func(c *Config, _ *zendesktest.Config) { c.Timeouts = Timeouts{Block: test.block, BlockCap: test.limit} })
			mustExit(t, s.search(t, "one", callerQuery), next)
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Delay: time.Hour})
			ctx := t.Context()
			if test.caller != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.caller)
				defer cancel()
			}
			resp, err := s.blocks.Search(ctx, &zendeskv1.SearchRequest{InteractionId: "one", SearchString: callerQuery, RecordsetName: "RS"})
			must(t, err)
			f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT)
			if f.GetHttpStatus() != 0 || f.GetAttempts() == 0 {
				t.Errorf("failure is %v", f)
			}
			mustBlank(t, resp.GetVariables(), nil)
			if code, ok := resp.GetVariables()["integrationResultCode"]; !ok || code != "" {
				t.Errorf("integrationResultCode is %q, %v", code, ok)
			}
			mustFail(t, s.nextOf(t, "one"), zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
		})
	}
}

// A page that hangs fails the whole: part of a result would look like all of it.
func TestSearchHangsOnALaterPage(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t, func(c *Config, _ *zendesktest.Config) { c.Timeouts = Timeouts{Block: 5 * time.Second} })
	s.answerWith(page(t, 1, 100, 250))
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Delay: time.Hour})
	resp := s.search(t, "one", "anything", func(r *zendeskv1.SearchRequest) { r.MaxResults = 250 })
	mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT)
	if len(s.interaction(t, "one").GetRecordsets()) != 0 {
		t.Error("a recordset is left")
	}
}

// page is an answer with the records of ids first to last, of total.
func page(t testing.TB, first, last, total int) string {
	t.Helper()
	results := []map[string]any{}
	for id := first; id <= last; id++ {
		results = append(results, map[string]any{"id": id, "result_type": "ticket", "subject": fmt.Sprintf("Ticket %d", id)})
	}
	text, err := json.Marshal(map[string]any{"results": results, "count": total, "next_page": nil})
	must(t, err)
	return string(text)
}

func TestSearchNoData(t *testing.T) {
	s := newBlockServer(t)
	before := s.search(t, "one", callerQuery)
	resp := s.search(t, "one", "type:user phone:*5130000000")
	mustExit(t, resp, noData)
	mustUse(t, resp, "main", byDefault)
	mustBlank(t, resp.GetVariables(), map[string]string{"RS.__count__": "0"})
	mustEqual(t, "names of variables", sortedKeys(resp.GetVariables()), sortedKeys(before.GetVariables()))
	if got := resp.GetVariables()["integrationResultCode"]; got != "200" {
		t.Errorf("integrationResultCode is %q", got)
	}
	if rs := resp.GetRecordset(); rs.GetCount() != 0 || rs.GetTotalCount() != 0 || rs.GetPosition() != 0 || rs.GetCurrent() != nil || rs.GetName() != "RS" {
		t.Errorf("recordset is %v", rs)
	}
	record := s.nextOf(t, "one")
	mustExit(t, record, noData)
	mustBlank(t, record.GetVariables(), map[string]string{"RS.__count__": "0"})
	mustFail(t, s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: "one", Target: &zendeskv1.ScreenPopRequest_RecordsetName{RecordsetName: "RS"}}),
		zendeskv1.FailureReason_FAILURE_REASON_NO_TARGET)
}

func TestSearchPages(t *testing.T) {
	s := newBlockServer(t)
	ids := func(interaction string) []string {
		all := []string{s.interaction(t, interaction).GetRecordsets()[0].GetCurrent().GetId()}
		for {
			resp := s.nextOf(t, interaction)
			if resp.GetExit() != next {
				mustExit(t, resp, noData)
				return all
			}
			all = append(all, resp.GetRecord().GetId())
		}
	}
	for _, test := range []struct {
		maxResults int32
		count      int32
		pages      int
	}{
		{0, 25, 1}, {1, 1, 1}, {100, 100, 1}, {101, 101, 2}, {350, 350, 4}, {1000, 1000, 10},
	} {
		t.Run(fmt.Sprint(test.maxResults), func(t *testing.T) {
			asked, interaction := len(s.searches()), fmt.Sprint("pages", test.maxResults)
			resp := s.search(t, interaction, "type:ticket", func(r *zendeskv1.SearchRequest) {
				r.MaxResults, r.SortBy = test.maxResults, zendeskv1.SortBy_SORT_BY_CREATED_AT
			})
			mustExit(t, resp, next)
			rs := resp.GetRecordset()
			if rs.GetCount() != test.count || rs.GetTotalCount() <= 1000 || resp.GetVariables()["RS.__count__"] != fmt.Sprint(test.count) {
				t.Errorf("recordset is %v, want %d of more than 1,000 records", rs, test.count)
			}
			if got := len(s.searches()) - asked; got != test.pages {
				t.Errorf("Zendesk was asked for %d pages, want %d", got, test.pages)
			}
			if test.count > 500 {
				return // one walk across pages is enough
			}
			all := ids(interaction)
			slices.Sort(all)
			if got := slices.Compact(all); len(got) != int(test.count) {
				t.Errorf("%d different records are kept, want %d", len(got), test.count)
			}
		})
	}
	t.Run("duplicates", func(t *testing.T) {
		s.answerWith(page(t, 1, 100, 190), page(t, 91, 180, 190))
		resp := s.search(t, "twice", "anything", func(r *zendeskv1.SearchRequest) { r.MaxResults = 200 })
		mustExit(t, resp, next)
		if rs := resp.GetRecordset(); rs.GetCount() != 180 || rs.GetTotalCount() != 190 {
			t.Errorf("recordset is %v, want 180 of 190", rs)
		}
		var want []string
		for id := 1; id <= 180; id++ {
			want = append(want, fmt.Sprint(id))
		}
		mustEqual(t, "ids", ids("twice"), want)
	})
}

func TestSearchReplacesRecordset(t *testing.T) {
	s := newBlockServer(t)
	s.answerWith(`{"results":[{"id":1,"result_type":"user","only_first":"a","both":"b"},{"id":2,"result_type":"user","only_second":"c"}],"count":2}`,
		`{"results":[{"id":3,"result_type":"ticket","both":"d","new":null}],"count":70}`)
	mustExit(t, s.search(t, "one", "first"), next)
	mustExit(t, s.nextOf(t, "one"), next)
	resp := s.search(t, "one", "second")
	mustExit(t, resp, next)
	mustEqual(t, "variables", resp.GetVariables(), map[string]string{
		"RS.id": "3", "RS.result_type": "ticket", "RS.both": "d", "RS.new": "", "RS.only_first": "", "RS.only_second": "", "RS.__count__": "1",
		"integrationResultCode": "200", "integrationResultBody": "",
	})
	if rs := resp.GetRecordset(); rs.GetTotalCount() != 70 || rs.GetCount() != 1 || rs.GetPosition() != 1 || rs.GetQuery() != "second" {
		t.Errorf("recordset is %v", rs)
	}
	mustExit(t, s.nextOf(t, "one"), noData)
	// What any record of this name ever set is known also after a failure and a restart.
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 501, Times: 1})
	mustFail(t, s.search(t, "one", "third"), zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE)
	s.restart(t)
	record := s.nextOf(t, "one")
	mustFail(t, record, zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
	mustBlank(t, record.GetVariables(), nil)
	resp = s.search(t, "one", "type:user phone:*5130000000")
	mustExit(t, resp, noData)
	for _, name := range []string{"RS.only_first", "RS.only_second", "RS.new"} {
		if value, ok := resp.GetVariables()[name]; !ok || value != "" {
			t.Errorf("variable %s is %q, %v", name, value, ok)
		}
	}
}

func TestSearchColumns(t *testing.T) {
	s := newBlockServer(t)
	s.answerWith(`{"results":[
		{"id":1,"result_type":"ticket","subject":"a","via":{"channel":"voice","source":{"rel":"inbound"}},"custom_fields":[{"id":7,"value":"x"},{"id":8,"value":"y"}],"fields":[{"id":7,"value":"x"}]},
		{"id":2,"result_type":"ticket","subject":"b","via":{"channel":"chat"},"custom_fields":[{"id":7,"value":null}]}],"count":2}`)
	columns := []string{"subject", "via.channel", "custom_fields.7", "missing"}
	resp := s.search(t, "one", "anything", func(r *zendeskv1.SearchRequest) { r.Columns = columns })
	mustExit(t, resp, next)
	mustEqual(t, "variables", resp.GetVariables(), map[string]string{
		"RS.subject": "a", "RS.via.channel": "voice", "RS.custom_fields.7": "x", "RS.__count__": "2",
		"integrationResultCode": "200", "integrationResultBody": "",
	})
	mustEqual(t, "current", resp.GetRecordset().GetCurrent(), &zendeskv1.Record{
		Type: zendeskv1.RecordType_RECORD_TYPE_TICKET, Id: "1", Url: s.zendesk.Origin() + "/agent/tickets/1",
	})
	record := s.nextOf(t, "one")
	mustEqual(t, "variables of record 2", record.GetVariables(), map[string]string{
		"RS.subject": "b", "RS.via.channel": "chat", "RS.custom_fields.7": "", "RS.__count__": "2",
	})
}

func TestSearchResultBody(t *testing.T) {
	s := newBlockServer(t)
	for _, query := range []string{callerQuery, "type:user phone:*5130000000", "type:ticket"} {
		resp := s.search(t, "one", query, func(r *zendeskv1.SearchRequest) { r.IncludeResultBody, r.MaxResults = true, 100 })
		got := resp.GetVariables()["integrationResultBody"]
		if !strings.HasPrefix(got, `{"`) || len(got) > 64<<10 || !utf8.ValidString(got) {
			t.Errorf("%s: body is %.100q, %d bytes", query, got, len(got))
		}
	}
}

// A value stays a value: it can narrow a search and never widen it.
func TestSearchInjection(t *testing.T) {
	s := newBlockServer(t)
	for _, value := range []string{
		`1" type:ticket status:open OR x:y`,
		`1” type:ticket status:open`,
		`x" OR type:user "`,
		`x\" type:user`,
		`zqxj name:*`,
		`zqxj* type:user`,
		`-zqxj`,
		`x status<solved`,
		"x\ntype:user",
		"x\u200b\" type:user",
		`OR`,
		`$(OTHER)`,
	} {
		for _, template := range []string{`type:user name:$(V)`, `type:user name:"$(V)"`, `type:user $(V)`, `type:user name:$(V) phone:*5135557611x`, `type:user email:$(V)@example.com`} {
			resp := s.search(t, "one", template, func(r *zendeskv1.SearchRequest) { r.Variables = map[string]string{"V": value, "OTHER": "maria"} })
			if resp.GetExit() != noData {
				t.Errorf("%q in %q: exit %v, sent %q, found %v", value, template, resp.GetExit(), resp.GetRecordset().GetQuery(), resp.GetRecordset())
			}
		}
	}
	// Taken as syntax, one of them does find: the test above can fail.
	mustExit(t, s.search(t, "one", `type:user name:$(V,raw)`, func(r *zendeskv1.SearchRequest) { r.Variables = map[string]string{"V": `zqxj name:*`} }), next)
}

func TestSearchValues(t *testing.T) {
	s := newBlockServer(t)
	for _, test := range []struct{ template, value, want string }{
		{"subject:$(V)", "two words", `subject:"two words"`},
		{"$(V)", "joe+vip@acme.com", "joe+vip@acme.com"},
		{"subject:$(V)-x", "a:b", `subject:"a:b-x"`},
		{"created>$(V)", "2026-01-01T10:00:00Z", "created>2026-01-01T10:00:00Z"},
		{"phone:$(V,phone)", "(513) 555-7611", "phone:*5135557611"},
		{"phone:*$(V, PHONE )", "+1 513 555 7611", "phone:*5135557611"},
		{"phone:$(V,phone)", "4711", "phone:4711"},
		{"$(V,raw)", "type:user status:open", "type:user status:open"},
		{"=$(V)", "x", "=$(V)"},
	} {
		resp := s.search(t, "one", test.template, func(r *zendeskv1.SearchRequest) { r.Variables = map[string]string{"V": test.value} })
		if resp.GetFailure() != nil {
			t.Errorf("%q with %q: %v", test.template, test.value, resp.GetFailure())
			continue
		}
		if asked := s.searches(); resp.GetRecordset().GetQuery() != test.want || asked[len(asked)-1] != test.want {
			t.Errorf("%q with %q: sent %q, told %q, want %q", test.template, test.value, asked[len(asked)-1], resp.GetRecordset().GetQuery(), test.want)
		}
	}
	// A plus sign reaches Zendesk as one.
	requests := s.zendesk.Requests()
	if !slices.ContainsFunc(requests, func(r zendesktest.Request) bool { return strings.Contains(r.Query, "joe%2Bvip") }) {
		t.Error("no request has joe%2Bvip")
	}
}

func TestSearchOfEveryPhoneFormat(t *testing.T) {
	s := newBlockServer(t)
	for _, p := range zendesktest.PhoneFormats {
		if p.Phone == "" || strings.Contains(p.Phone, "x") || strings.HasPrefix(p.Phone, "00") {
			continue // an extension, or the prefix of another country, is not the caller's number
		}
		resp := s.search(t, "one", "type:user phone:$(ANI,phone)", func(r *zendeskv1.SearchRequest) { r.Variables = map[string]string{"ANI": p.Phone} })
		mustExit(t, resp, next)
	}
}

func TestSearchWithoutValue(t *testing.T) {
	s := newBlockServer(t)
	const (
		undefined = zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE
		empty     = zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE
		invalid   = zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST
	)
	for _, test := range []struct {
		name, query string
		vars        map[string]string
		want        zendeskv1.FailureReason
		says        string
	}{
		{"nobody set it", "phone:$(ANI)", nil, undefined, "ANI"},
		{"nobody set the column", "phone:$(RS.nothing)", nil, undefined, "RS.nothing"},
		{"no such recordset", "phone:$(Other.id)", nil, undefined, "Other.id"},
		{"withheld", "phone:$(ANI,phone)", map[string]string{"ANI": "+"}, empty, "ANI"},
		{"empty", "type:user phone:$(ANI)", map[string]string{"ANI": ""}, empty, "ANI"},
		{"only syntax", `"$(ANI)"`, map[string]string{"ANI": `"*-:`}, empty, "ANI"},
		{"empty column", "$(RS.external_id)", nil, empty, "RS.external_id"},
		{"not comparable", "created>$(V)", map[string]string{"V": "2026 OR"}, invalid, "V"},
		{"too long", "$(V)", map[string]string{"V": strings.Repeat("x", maxTextBytes+1)}, invalid, ""},
		{"far too long", strings.Repeat("$(V)", 1000), map[string]string{"V": strings.Repeat("x", maxVariablesBytes-1)}, invalid, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.answerWith(`{"results":[{"id":1,"result_type":"user","external_id":null}],"count":1}`)
			mustExit(t, s.search(t, "one", "anything"), next)
			asked := len(s.zendesk.Requests())
			resp := s.search(t, "one", test.query, func(r *zendeskv1.SearchRequest) { r.Variables = test.vars })
			f := mustFail(t, resp, test.want)
			if !strings.Contains(f.GetMessage(), test.says) {
				t.Errorf("message %q does not name %s", f.GetMessage(), test.says)
			}
			if f.GetAttempts() != 0 || len(s.zendesk.Requests()) != asked {
				t.Error("Zendesk was asked")
			}
			mustUse(t, resp, "main", byDefault)
			mustBlank(t, resp.GetVariables(), nil)
			mustFail(t, s.nextOf(t, "one"), zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
		})
	}
}

func TestSearchOfARemovedRecordsetsVariables(t *testing.T) {
	s := newBlockServer(t)
	mustExit(t, s.search(t, "one", callerQuery), next)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 501, Times: 1})
	mustFail(t, s.search(t, "one", callerQuery), zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE)
	mustFail(t, s.search(t, "one", "requester:$(RS.id)"), zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE)
}

// A setting may refer to every recordset that an interaction can have.
func TestSearchLimitOfRecordsets(t *testing.T) {
	s := newBlockServer(t)
	var all strings.Builder
	for i := range maxRecordsets {
		mustExit(t, s.search(t, "one", callerQuery, func(r *zendeskv1.SearchRequest) { r.RecordsetName = fmt.Sprint("RS", i) }), next)
		fmt.Fprintf(&all, "$(RS%d.id) ", i)
	}
	asked := len(s.searches())
	mustFail(t, s.search(t, "one", callerQuery), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	if len(s.searches()) != asked {
		t.Error("Zendesk was asked")
	}
	mustExit(t, s.search(t, "one", all.String(), func(r *zendeskv1.SearchRequest) { r.RecordsetName, r.RequestId = "RS0", "r" }), noData)
	mustExit(t, s.search(t, "one", callerQuery, func(r *zendeskv1.SearchRequest) { r.RecordsetName = "RS0" }), next)
	mustExit(t, s.attach(t, "one", map[string]string{"all": all.String()}), next)
	mustExit(t, s.pop(t, &zendeskv1.ScreenPopRequest{
		InteractionId: "one", RequestId: "r", Target: &zendeskv1.ScreenPopRequest_SearchString{SearchString: all.String()},
	}), next)
	if got := len(s.interaction(t, "one").GetRecordsets()); got != maxRecordsets {
		t.Errorf("the interaction has %d recordsets", got)
	}
}

// Records beyond what a transaction can hold are an unreadable answer, not a broken service.
func TestSearchOfHugeRecords(t *testing.T) {
	s := newBlockServer(t)
	huge := func(bytes int) string {
		var text strings.Builder // that cannot be compressed much
		for r := mathrand.New(mathrand.NewPCG(1, 2)); text.Len() < bytes; {
			text.WriteString(strconv.FormatUint(r.Uint64(), 36))
		}
		return fmt.Sprintf(`{"results":[{"id":1,"result_type":"ticket"},{"id":2,"result_type":"ticket","text":%q}],"count":2}`, text.String())
	}
	withID := func(r *zendeskv1.SearchRequest) { r.RequestId = "r" }
	s.answerWith(huge(2 << 20))
	resp := s.search(t, "one", "anything", withID)
	mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE)
	if vars := resp.GetVariables(); vars["integrationResultCode"] != "200" || len(vars["integrationResultBody"]) != 64<<10 {
		t.Errorf("code is %q, the body has %d bytes", vars["integrationResultCode"], len(vars["integrationResultBody"]))
	}
	// An answer that is too large to be kept is given once. Its repeat does not run again.
	s.answerWith(strings.Replace(huge(900<<10), `{"id":1,"result_type":"ticket"},`, "", 1))
	mustExit(t, s.search(t, "one", "anything", withID), next)
	_, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{InteractionId: "one", SearchString: "anything", RecordsetName: "RS", RequestId: "r"})
	mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
	s.answerWith(huge(900 << 10))
	mustExit(t, s.search(t, "one", "anything", func(r *zendeskv1.SearchRequest) { r.RequestId = "s" }), next)
	record, err := s.blocks.GetNextRecord(t.Context(), &zendeskv1.GetNextRecordRequest{InteractionId: "one", RecordsetName: "RS", RequestId: "r"})
	must(t, err)
	mustExit(t, record, next)
}

func TestSearchSort(t *testing.T) {
	s := newBlockServer(t)
	// Zendesk's words are those of the enums in lower case; for what is not set it is told nothing.
	word := func(name, prefix string) string {
		return strings.TrimPrefix(strings.ToLower(strings.TrimPrefix(name, prefix)), "unspecified")
	}
	for by, byName := range zendeskv1.SortBy_name {
		for order, orderName := range zendeskv1.SortOrder_name {
			mustExit(t, s.search(t, "one", "type:ticket", func(r *zendeskv1.SearchRequest) {
				r.SortBy, r.SortOrder = zendeskv1.SortBy(by), zendeskv1.SortOrder(order)
			}), next)
			requests := s.zendesk.Requests()
			query, err := url.ParseQuery(requests[len(requests)-1].Query)
			must(t, err)
			if query.Get("sort_by") != word(byName, "SORT_BY_") || query.Get("sort_order") != word(orderName, "SORT_ORDER_") {
				t.Errorf("asked for %v, want %s, %s", query, byName, orderName)
			}
		}
	}
}

func TestSearchViolations(t *testing.T) {
	s := newBlockServer(t)
	columns := make([]string, 201)
	for i := range columns {
		columns[i] = fmt.Sprint("c", i)
	}
	ok := func(change func(*zendeskv1.SearchRequest)) *zendeskv1.SearchRequest {
		req := &zendeskv1.SearchRequest{InteractionId: "one", SearchString: "x", RecordsetName: "RS"}
		change(req)
		return req
	}
	for _, test := range []struct {
		name string
		req  *zendeskv1.SearchRequest
		want []string
	}{
		{"nothing given", &zendeskv1.SearchRequest{}, []string{"interaction_id", "search_string", "recordset_name"}},
		{"everything wrong", &zendeskv1.SearchRequest{
			InteractionId: "a b", RequestId: "ü", SearchString: "$(x", RecordsetName: "1st", MaxResults: 1001, SortBy: 99, SortOrder: -1,
			Columns: []string{"id", "", strings.Repeat("c", 257)}, Variables: map[string]string{"": "x"},
		}, []string{
			"interaction_id", "request_id", "search_string", "recordset_name", "max_results", "sort_by", "sort_order", "columns[1]", "columns[2]", "variables",
		}},
		{"ids too long", ok(func(r *zendeskv1.SearchRequest) {
			r.InteractionId, r.RequestId = strings.Repeat("a", 129), strings.Repeat("a", 129)
		}), []string{"interaction_id", "request_id"}},
		{"max_results negative", ok(func(r *zendeskv1.SearchRequest) { r.MaxResults = -1 }), []string{"max_results"}},
		{"too many columns", ok(func(r *zendeskv1.SearchRequest) { r.Columns = columns }), []string{"columns"}},
		{"too many variables", ok(func(r *zendeskv1.SearchRequest) { r.Variables = manyVariables(1001, 8, 1) }), []string{"variables"}},
		{"variables too large", ok(func(r *zendeskv1.SearchRequest) { r.Variables = manyVariables(1000, 8, 600) }), []string{"variables"}},
		{"search string too long", ok(func(r *zendeskv1.SearchRequest) { r.SearchString = strings.Repeat("x", 4097) }), []string{"search_string"}},
		{"search string blank", ok(func(r *zendeskv1.SearchRequest) { r.SearchString = " \n" }), []string{"search_string"}},
		{"search string with a control character", ok(func(r *zendeskv1.SearchRequest) { r.SearchString = "a\x00b" }), []string{"search_string"}},
		{"unknown parameter", ok(func(r *zendeskv1.SearchRequest) { r.SearchString = "$(x,upper)" }), []string{"search_string"}},
		{"recordset name too long", ok(func(r *zendeskv1.SearchRequest) { r.RecordsetName = strings.Repeat("a", 65) }), []string{"recordset_name"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.blocks.Search(t.Context(), test.req)
			mustViolate(t, err, test.want...)
		})
	}
	at := ok(func(r *zendeskv1.SearchRequest) {
		r.InteractionId, r.RequestId, r.RecordsetName = strings.Repeat("~", 128), strings.Repeat("!", 128), strings.Repeat("_", 64)
		r.SearchString, r.MaxResults, r.Columns = strings.Repeat("x", 4096), 1000, columns[:200]
		r.Variables = manyVariables(1000, 8, 516)
	})
	resp, err := s.blocks.Search(t.Context(), at)
	must(t, err)
	mustExit(t, resp, noData)
	if s.interaction(t, "one") != nil {
		t.Error("a refused request created an interaction")
	}
	mustEqual(t, "query", resp.GetRecordset().GetQuery(), at.GetSearchString())
}
