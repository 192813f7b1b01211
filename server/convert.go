package server

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

var selections = map[store.Selection]zendeskv1.AccountSelection{
	store.Selected: zendeskv1.AccountSelection_ACCOUNT_SELECTION_SELECTED,
	store.Default:  zendeskv1.AccountSelection_ACCOUNT_SELECTION_DEFAULT,
}

func accountUseToProto(use store.AccountUse) *zendeskv1.AccountUse {
	return &zendeskv1.AccountUse{AccountId: use.AccountID, Name: use.Name, Selection: selections[use.Selection]}
}

func recordsetToProto(rs store.Recordset, current *zendeskv1.Record) *zendeskv1.Recordset {
	return &zendeskv1.Recordset{
		Name:       rs.Name,
		Account:    accountUseToProto(rs.Account),
		Query:      rs.Query,
		Count:      int32(rs.Count),
		TotalCount: int32(min(rs.Total, math.MaxInt32)),
		Position:   int32(rs.Position),
		Current:    current,
	}
}

// recordToProto says what a record is, with its page in the Zendesk at origin.
func recordToProto(raw json.RawMessage, origin string) *zendeskv1.Record {
	kind, id := recordset.Identify(raw)
	record := &zendeskv1.Record{Type: recordTypes[kind], Id: id}
	if id != "" {
		record.Url = pageURL(origin, record.Type, id)
	}
	return record
}

// pageURL is the agent's page of a kind in the Zendesk at origin; empty when there is none.
func pageURL(origin string, kind zendeskv1.RecordType, id string) string {
	switch kind {
	case zendeskv1.RecordType_RECORD_TYPE_TICKET:
		return zendeskapi.TicketPage(origin, id)
	case zendeskv1.RecordType_RECORD_TYPE_USER:
		return zendeskapi.UserPage(origin, id)
	case zendeskv1.RecordType_RECORD_TYPE_ORGANIZATION:
		return zendeskapi.OrganizationPage(origin, id)
	case zendeskv1.RecordType_RECORD_TYPE_NEW_TICKET:
		return zendeskapi.NewTicketPage(origin, id)
	}
	return ""
}

func screenPopToProto(pop store.ScreenPop) *zendeskv1.ScreenPop {
	return &zendeskv1.ScreenPop{
		ScreenPopId: pop.ID,
		Account:     accountUseToProto(pop.Account),
		RecordType:  zendeskv1.RecordType(pop.Type),
		RecordId:    pop.RecordID,
		Url:         pop.URL,
		CreateTime:  timestamppb.New(pop.CreateTime),
	}
}

// deliveriesToProto returns the deliveries in the order of their screen pops.
func deliveriesToProto(pops []store.ScreenPop, deliveries store.Deliveries) ([]*zendeskv1.Delivery, error) {
	made := make(map[string]*zendeskv1.Delivery)
	for _, item := range deliveries.Items {
		delivery := new(zendeskv1.Delivery)
		if err := proto.Unmarshal(item.Body, delivery); err != nil {
			return nil, fmt.Errorf("reading a delivery: %w", err)
		}
		made[item.PopID] = delivery
	}
	var list []*zendeskv1.Delivery
	for _, pop := range pops {
		if delivery := made[pop.ID]; delivery != nil {
			delivery.ScreenPop = screenPopToProto(pop)
			list = append(list, delivery)
		}
	}
	return list, nil
}

// timeOf converts a time; an unset one is the zero time.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
