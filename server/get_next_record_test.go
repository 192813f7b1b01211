package server

import (
	"fmt"
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

func TestGetNextRecord(t *testing.T) {
	s := newBlockServer(t)
	s.answerWith(`{"results":[{"id":1,"result_type":"user","name":"a","phone":"1"},{"id":2,"result_type":"ticket","subject":"b"},{"id":3,"result_type":"group","name":null}],"count":12}`)
	mustExit(t, s.search(t, "one", "anything"), next)
	s.makeSureOfNothingElse(t)

	second := s.nextOf(t, "one")
	mustExit(t, second, next)
	mustUse(t, second, "main", byDefault)
	mustEqual(t, "record 2", second.GetRecord(), &zendeskv1.Record{
		Type: zendeskv1.RecordType_RECORD_TYPE_TICKET, Id: "2", Url: s.zendesk.Origin() + "/agent/tickets/2",
	})
	mustEqual(t, "variables of record 2", second.GetVariables(), map[string]string{
		"RS.id": "2", "RS.result_type": "ticket", "RS.subject": "b", "RS.name": "", "RS.phone": "", "RS.__count__": "3",
	})
	if second.GetPosition() != 2 || second.GetCount() != 3 {
		t.Errorf("position %d of %d, want 2 of 3", second.GetPosition(), second.GetCount())
	}

	s.restart(t)
	third := s.nextOf(t, "one")
	mustExit(t, third, next)
	last := map[string]string{
		"RS.id": "3", "RS.result_type": "group", "RS.subject": "", "RS.name": "", "RS.phone": "", "RS.__count__": "3",
	}
	mustEqual(t, "variables of record 3", third.GetVariables(), last)
	for range 3 {
		end := s.nextOf(t, "one")
		mustExit(t, end, noData)
		mustUse(t, end, "main", byDefault)
		mustEqual(t, "variables at the end", end.GetVariables(), last)
		if end.GetPosition() != 3 || end.GetCount() != 3 || end.GetRecord() != nil {
			t.Errorf("at the end: %v", end)
		}
	}
	if got := s.interaction(t, "one").GetRecordsets()[0]; got.GetPosition() != 3 || got.GetCurrent().GetId() != "3" {
		t.Errorf("stored recordset is %v", got)
	}
	if got := len(s.searches()); got != 1 {
		t.Errorf("Zendesk was asked %d times, want 1", got)
	}
}

// makeSureOfNothingElse checks that other interactions and recordsets are not there.
func (s *testServer) makeSureOfNothingElse(t testing.TB) {
	t.Helper()
	for _, req := range []*zendeskv1.GetNextRecordRequest{
		{InteractionId: "one", RecordsetName: "rs"},
		{InteractionId: "ONE", RecordsetName: "RS"},
		{InteractionId: "one/RS", RecordsetName: "RS"},
	} {
		resp, err := s.blocks.GetNextRecord(t.Context(), req)
		must(t, err)
		mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
		mustUse(t, resp, "", noSelector)
	}
	if s.interaction(t, "ONE") != nil {
		t.Error("looking for a record created an interaction")
	}
}

// The account is not needed to read what is kept, and the recordset names the one it came from.
func TestGetNextRecordKeepsItsAccount(t *testing.T) {
	other, reach := otherZendesk(t)
	s := newTestServer(t, reach)
	s.account(t, "main", "Main", s.zendesk.Origin())
	s.account(t, "other", "Other", other.Origin())
	mustExit(t, s.selectAccount(t, "one", "other"), next)
	mustExit(t, s.search(t, "one", "type:ticket"), next)
	mustExit(t, s.selectAccount(t, "one", "main"), next)
	resp := s.nextOf(t, "one")
	mustExit(t, resp, next)
	mustUse(t, resp, "other", selected)
	if !strings.HasPrefix(resp.GetRecord().GetUrl(), other.Origin()) {
		t.Errorf("URL is %q", resp.GetRecord().GetUrl())
	}
	mustFail(t, s.selectAccount(t, "one", "nobody"), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)
	mustExit(t, s.nextOf(t, "one"), next)
}

func TestGetNextRecordViolations(t *testing.T) {
	s := newBlockServer(t)
	for _, test := range []struct {
		name string
		req  *zendeskv1.GetNextRecordRequest
		want []string
	}{
		{"nothing given", &zendeskv1.GetNextRecordRequest{}, []string{"interaction_id", "recordset_name"}},
		{"everything wrong", &zendeskv1.GetNextRecordRequest{
			InteractionId: "a\x7f", RequestId: "a b", RecordsetName: "a.b", Variables: map[string]string{"": "x"},
		}, []string{"interaction_id", "request_id", "recordset_name", "variables"}},
		{"too many variables", &zendeskv1.GetNextRecordRequest{Variables: manyVariables(1001, 8, 1)}, []string{"variables"}}, // counted before all is decoded
		{"variable for the name", &zendeskv1.GetNextRecordRequest{InteractionId: "one", RecordsetName: "$(RS)"}, []string{"recordset_name"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.blocks.GetNextRecord(t.Context(), test.req)
			mustViolate(t, err, test.want...)
		})
	}
}

// Each pass of a loop has its own request_id: a repeated one does not move.
func TestGetNextRecordOncePerPass(t *testing.T) {
	s := newBlockServer(t)
	s.answerWith(page(t, 1, 3, 3))
	mustExit(t, s.search(t, "one", "anything"), next)
	for _, pass := range []struct {
		id       string
		position int32
		exit     zendeskv1.Exit
	}{{"a", 2, next}, {"a", 2, next}, {"b", 3, next}, {"a", 2, next}, {"c", 3, noData}, {"c", 3, noData}} {
		resp, err := s.blocks.GetNextRecord(t.Context(), &zendeskv1.GetNextRecordRequest{InteractionId: "one", RequestId: pass.id, RecordsetName: "RS"})
		must(t, err)
		mustExit(t, resp, pass.exit)
		if resp.GetPosition() != pass.position || resp.GetVariables()["RS.id"] != fmt.Sprint(pass.position) {
			t.Errorf("pass %s: position %d, id %s, want %d", pass.id, resp.GetPosition(), resp.GetVariables()["RS.id"], pass.position)
		}
	}
}
