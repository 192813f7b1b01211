package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// records lists the recordset RS, and returns its pages.
func (s *testServer) records(t testing.TB, interaction string, pageSize int32) (pages [][]*zendeskv1.ListedRecord) {
	t.Helper()
	req := &zendeskv1.ListRecordsRequest{InteractionId: interaction, RecordsetName: "RS", PageSize: pageSize}
	for {
		resp, err := s.interactions.ListRecords(t.Context(), req)
		must(t, err)
		pages = append(pages, resp.GetRecords())
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return pages
		}
		if len(resp.GetRecords()) == 0 {
			t.Fatal("a page that is not the last is empty")
		}
	}
}

// mustList checks that pages have the records of ids 1 to n, in their places.
func mustList(t testing.TB, pages [][]*zendeskv1.ListedRecord, n int) {
	t.Helper()
	position := 0
	for _, page := range pages {
		for _, r := range page {
			if position++; int(r.GetPosition()) != position || r.GetRecord().GetId() != fmt.Sprint(position) {
				t.Fatalf("record %d is %v", position, r)
			}
		}
	}
	if position != n {
		t.Errorf("%d records are listed, want %d", position, n)
	}
}

func TestListRecords(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.answerWith(`{"results":[{"id":1,"result_type":"user","name":"a","photo":{"url":"x"}},{"id":2,"result_type":"ticket","subject":"b"},{"id":3,"result_type":"group","name":null}],"count":12}`)
	mustExit(t, s.search(t, "one", "anything"), next)
	want := []*zendeskv1.ListedRecord{
		{
			Position: 1, Record: &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_USER, Id: "1", Url: s.zendesk.Origin() + "/agent/users/1/requested_tickets"},
			Columns: map[string]string{"id": "1", "result_type": "user", "name": "a", "photo.url": "x"},
		},
		{
			Position: 2, Record: &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_TICKET, Id: "2", Url: s.zendesk.Origin() + "/agent/tickets/2"},
			Columns: map[string]string{"id": "2", "result_type": "ticket", "subject": "b"},
		},
		{
			Position: 3, Record: &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_GROUP, Id: "3"},
			Columns: map[string]string{"id": "3", "result_type": "group", "name": ""},
		},
	}
	mustEqual(t, "one page", s.records(t, "one", 0), [][]*zendeskv1.ListedRecord{want})
	mustEqual(t, "full pages", s.records(t, "one", 3), [][]*zendeskv1.ListedRecord{want})
	mustEqual(t, "two pages", s.records(t, "one", 2), [][]*zendeskv1.ListedRecord{want[:2], want[2:]})
	mustEqual(t, "singly", s.records(t, "one", 1), [][]*zendeskv1.ListedRecord{want[:1], want[1:2], want[2:]})
	if asked := len(s.searches()); asked != 1 {
		t.Errorf("Zendesk was asked %d times", asked)
	}

	// The cursor does not move, wherever it stands.
	for position := int32(2); position <= 3; position++ {
		resp := s.nextOf(t, "one")
		mustExit(t, resp, next)
		mustEqual(t, "position", resp.GetPosition(), position)
		before := s.interaction(t, "one")
		mustEqual(t, "records", s.records(t, "one", 1), [][]*zendeskv1.ListedRecord{want[:1], want[1:2], want[2:]})
		mustEqual(t, "interaction after a list", s.interaction(t, "one"), before)
	}

	// A token outlives the process.
	req := &zendeskv1.ListRecordsRequest{InteractionId: "one", RecordsetName: "RS", PageSize: 2}
	first, err := s.interactions.ListRecords(t.Context(), req)
	must(t, err)
	s.restart(t)
	req.PageToken = first.GetNextPageToken()
	second, err := s.interactions.ListRecords(t.Context(), req)
	must(t, err)
	mustEqual(t, "second page after a restart", second.GetRecords(), want[2:])

	// In another recordset of the name it goes on at the same position; there may be none.
	s.answerWith(page(t, 1, 5, 5))
	mustExit(t, s.search(t, "one", "anything"), next)
	second, err = s.interactions.ListRecords(t.Context(), req)
	must(t, err)
	if got := second.GetRecords(); len(got) != 2 || got[0].GetPosition() != 3 || got[0].GetRecord().GetId() != "3" {
		t.Errorf("records of the recordset that took its place are %v", got)
	}
	s.answerWith(page(t, 1, 1, 1))
	mustExit(t, s.search(t, "one", "anything"), next)
	second, err = s.interactions.ListRecords(t.Context(), req)
	must(t, err)
	mustEqual(t, "page beyond the end", second, &zendeskv1.ListRecordsResponse{})
}

// The columns are those that the Search asked for.
func TestListRecordsColumns(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.answerWith(`{"results":[{"id":1,"result_type":"ticket","subject":"a","via":{"channel":"voice"},"custom_fields":[{"id":7,"value":"x"}]},{"id":2,"result_type":"ticket","subject":"b","custom_fields":[{"id":7,"value":null}]}],"count":2}`)
	mustExit(t, s.search(t, "one", "anything", func(r *zendeskv1.SearchRequest) { r.Columns = []string{"subject", "custom_fields.7", "missing"} }), next)
	var columns []map[string]string
	for _, r := range s.records(t, "one", 0)[0] {
		mustEqual(t, "id", r.GetRecord().GetId(), fmt.Sprint(r.GetPosition()))
		columns = append(columns, r.GetColumns())
	}
	mustEqual(t, "columns", columns, []map[string]string{{"subject": "a", "custom_fields.7": "x"}, {"subject": "b", "custom_fields.7": ""}})
}

func TestListRecordsOfNothing(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	list := func(interaction, name string) error {
		_, err := s.interactions.ListRecords(t.Context(), &zendeskv1.ListRecordsRequest{InteractionId: interaction, RecordsetName: name})
		return err
	}
	mustBeMissing := func(err error) {
		t.Helper()
		info := mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_RECORDSET_NOT_FOUND)
		if info.GetMetadata()["recordset_name"] == "" {
			t.Errorf("metadata is %v", info.GetMetadata())
		}
	}
	info := mustReason(t, list("one", "RS"), codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND)
	mustEqual(t, "interaction", info.GetMetadata()["interaction_id"], "one")
	if s.interaction(t, "one") != nil {
		t.Error("a list makes an interaction")
	}
	s.answerWith(`{"results":[],"count":0}`)
	mustExit(t, s.search(t, "one", "anything"), noData)
	mustBeMissing(list("one", "rs"))
	mustBeMissing(list("one", "Other"))
	mustEqual(t, "an empty recordset", s.records(t, "one", 0), [][]*zendeskv1.ListedRecord{nil})
	mustExit(t, s.search(t, "one", callerQuery), next)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 501, Times: 1})
	mustFail(t, s.search(t, "one", callerQuery), zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE)
	mustBeMissing(list("one", "RS"))
}

func TestListRecordsBadInput(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	mustExit(t, s.search(t, "one", callerQuery), next)
	good := &zendeskv1.ListRecordsRequest{InteractionId: "one", RecordsetName: "RS"}
	for name, tt := range map[string]struct {
		change func(*zendeskv1.ListRecordsRequest)
		want   []string
	}{
		"nothing given": {func(r *zendeskv1.ListRecordsRequest) { proto.Reset(r) }, []string{"interaction_id", "recordset_name"}},
		"everything wrong": {func(r *zendeskv1.ListRecordsRequest) {
			r.InteractionId, r.RecordsetName, r.PageSize, r.PageToken = "a b", "$(RS)", -1, "?"
		}, []string{"interaction_id", "recordset_name", "page_size", "page_token"}},
		"token of another list": {func(r *zendeskv1.ListRecordsRequest) { r.PageToken = rpc.PageToken("acme") }, []string{"page_token"}},
		"no position":           {func(r *zendeskv1.ListRecordsRequest) { r.PageToken = rpc.PageToken("0") }, []string{"page_token"}},
		"negative position":     {func(r *zendeskv1.ListRecordsRequest) { r.PageToken = rpc.PageToken("-1") }, []string{"page_token"}},
		"position of no record": {func(r *zendeskv1.ListRecordsRequest) { r.PageToken = rpc.PageToken("9223372036854775807") }, []string{"page_token"}},
		"huge position":         {func(r *zendeskv1.ListRecordsRequest) { r.PageToken = rpc.PageToken("99999999999999999999") }, []string{"page_token"}},
	} {
		req := proto.Clone(good).(*zendeskv1.ListRecordsRequest)
		tt.change(req)
		_, err := s.interactions.ListRecords(t.Context(), req)
		t.Run(name, func(t *testing.T) { mustViolate(t, err, tt.want...) })
	}
	for _, position := range []string{"1", "1000", "2147483647"} {
		good.PageToken = rpc.PageToken(position)
		resp, err := s.interactions.ListRecords(t.Context(), good)
		must(t, err)
		mustEqual(t, "page behind position "+position, resp, &zendeskv1.ListRecordsResponse{})
	}
}

// Clients take messages of 4 MiB, and pages have 200 records at most: 1,000 records come in as many pages as it takes.
func TestPagesOfRecordsFitAMessage(t *testing.T) {
	t.Parallel()
	const count, searched = 1000, 100 // records, and those of one answer of Zendesk
	var text atomic.Value
	zendesk := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number, err := strconv.Atoi(r.URL.Query().Get("page"))
		if err != nil {
			t.Error(err)
		}
		results := []map[string]any{}
		for id := (number-1)*searched + 1; id <= number*searched; id++ {
			results = append(results, map[string]any{"id": id, "result_type": "ticket", "description": text.Load()})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"results": results, "count": count})
	}))
	t.Cleanup(zendesk.Close)
	s := newTestServer(t, func(c *Config, _ *zendesktest.Config) {
		c.AllowHosts = []string{strings.TrimPrefix(zendesk.URL, "http://")}
	})
	s.account(t, "main", "Main", zendesk.URL)
	for _, tt := range []struct {
		bytes int           // of a record, about
		pages map[int32]int // by page size; 0: as many as it takes, but more than whole ones would be
	}{
		{10, map[int32]int{0: 20, 199: 6, 200: 5, 201: 5, 1000: 5}},
		{15 << 10, map[int32]int{1000: 0}},
	} {
		text.Store(strings.Repeat("x", tt.bytes))
		resp := s.search(t, "one", "anything", func(r *zendeskv1.SearchRequest) { r.MaxResults = count })
		mustExit(t, resp, next)
		for size, want := range tt.pages {
			pages := s.records(t, "one", size)
			mustList(t, pages, count)
			if want != 0 && len(pages) != want || want == 0 && len(pages) <= count/int(size) {
				t.Errorf("records of %d bytes, listed %d at a time, come in %d pages, want %d", tt.bytes, size, len(pages), want)
			}
		}
	}
}

// With its completion an interaction loses what was found; what is found then is there.
func TestListRecordsAfterCompletion(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	mustExit(t, s.search(t, "one", callerQuery), next)
	s.complete(t, "one", "")
	_, err := s.interactions.ListRecords(t.Context(), &zendeskv1.ListRecordsRequest{InteractionId: "one", RecordsetName: "RS"})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_RECORDSET_NOT_FOUND)
	s.answerWith(page(t, 1, 3, 3))
	mustExit(t, s.search(t, "one", "anything"), next)
	mustList(t, s.records(t, "one", 2), 3)
}
