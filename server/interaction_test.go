package server

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

func TestGetInteraction(t *testing.T) {
	s := newBlockServer(t)
	mustExit(t, s.search(t, "one", "type:ticket", func(r *zendeskv1.SearchRequest) { r.RecordsetName = "Tickets" }), next)
	mustExit(t, s.search(t, "one", callerQuery, func(r *zendeskv1.SearchRequest) { r.RecordsetName = "Callers" }), next)
	pop := s.pop(t, popRequest(&popTicket{TicketId: "1"})).GetScreenPop()
	mustExit(t, s.attach(t, "one", map[string]string{"a": "1"}), next)

	got := s.interaction(t, "one")
	use := &zendeskv1.AccountUse{AccountId: "main", Name: "Account main", Selection: byDefault}
	var names []string
	for _, rs := range got.GetRecordsets() {
		names = append(names, rs.GetName())
		mustEqual(t, "account of a recordset", rs.GetAccount(), use)
	}
	mustEqual(t, "names of recordsets", names, []string{"Callers", "Tickets"})
	if got.GetCreateTime() == nil || !got.GetUpdateTime().AsTime().After(got.GetCreateTime().AsTime()) {
		t.Errorf("created %v, updated %v", got.GetCreateTime().AsTime(), got.GetUpdateTime().AsTime())
	}
	mustEqual(t, "interaction", got, &zendeskv1.Interaction{
		InteractionId: "one",
		Account:       use,
		Recordsets:    got.GetRecordsets(),
		AttachedData:  map[string]string{"a": "1"},
		ScreenPops:    []*zendeskv1.ScreenPop{pop},
		State:         zendeskv1.InteractionState_INTERACTION_STATE_ACTIVE,
		CreateTime:    got.GetCreateTime(),
		UpdateTime:    got.GetUpdateTime(),
	})
	s.restart(t)
	if again := s.interaction(t, "one"); !proto.Equal(again, got) {
		t.Errorf("after a restart it is %v", again)
	}
}

func TestGetInteractionErrors(t *testing.T) {
	s := newTestServer(t)
	_, err := s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "nobody"})
	info := mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND)
	if info.GetMetadata()["interaction_id"] != "nobody" {
		t.Errorf("metadata is %v", info.GetMetadata())
	}
	for _, id := range []string{"", "a b", "é", strings.Repeat("a", 129)} {
		_, err := s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: id})
		mustViolate(t, err, "interaction_id")
	}
}
