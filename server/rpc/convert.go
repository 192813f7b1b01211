package rpc

import (
	"encoding/json"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

var selections = map[store.Selection]zendeskv1.AccountSelection{
	store.Selected: zendeskv1.AccountSelection_ACCOUNT_SELECTION_SELECTED,
	store.Default:  zendeskv1.AccountSelection_ACCOUNT_SELECTION_DEFAULT,
	store.Named:    zendeskv1.AccountSelection_ACCOUNT_SELECTION_NAMED,
}

// AccountUseToProto converts what is remembered of an account; zero is nil.
func AccountUseToProto(use store.AccountUse) *zendeskv1.AccountUse {
	if use.AccountID == "" {
		return nil
	}
	return &zendeskv1.AccountUse{AccountId: use.AccountID, Name: use.Name, Selection: selections[use.Selection]}
}

// RecordsetToProto converts a recordset with its current record.
func RecordsetToProto(rs store.Recordset, current *zendeskv1.Record) *zendeskv1.Recordset {
	return &zendeskv1.Recordset{
		Name:       rs.Name,
		Account:    AccountUseToProto(rs.Account),
		Query:      rs.Query,
		Count:      int32(rs.Count),
		TotalCount: int32(min(rs.Total, math.MaxInt32)),
		Position:   int32(rs.Position),
		Current:    current,
	}
}

// RecordTypes maps what records say of themselves.
var RecordTypes = map[recordset.Type]store.RecordType{
	recordset.Ticket:       store.RecordTicket,
	recordset.User:         store.RecordUser,
	recordset.Organization: store.RecordOrganization,
	recordset.Group:        store.RecordGroup,
	recordset.Other:        store.RecordOther,
}

// RecordToProto says what a record is, with its page in the Zendesk at origin.
func RecordToProto(raw json.RawMessage, origin string) *zendeskv1.Record {
	kind, id := recordset.Identify(raw)
	record := &zendeskv1.Record{Type: zendeskv1.RecordType(RecordTypes[kind]), Id: id}
	if id != "" {
		record.Url = PageURL(origin, RecordTypes[kind], id)
	}
	return record
}

// PageURL is the agent's page of a kind in the Zendesk at origin; empty when there is none.
func PageURL(origin string, kind store.RecordType, id string) string {
	switch kind {
	case store.RecordTicket:
		return zendeskapi.TicketPage(origin, id)
	case store.RecordUser:
		return zendeskapi.UserPage(origin, id)
	case store.RecordOrganization:
		return zendeskapi.OrganizationPage(origin, id)
	}
	return ""
}

// ScreenPopToProto converts a screen pop.
func ScreenPopToProto(pop store.ScreenPop) *zendeskv1.ScreenPop {
	return &zendeskv1.ScreenPop{
		ScreenPopId: pop.ID,
		Account:     AccountUseToProto(pop.Account),
		RecordType:  zendeskv1.RecordType(pop.RecordType),
		RecordId:    pop.RecordID,
		Url:         pop.URL,
		CreateTime:  TimeToProto(pop.CreateTime),
	}
}

// TimeToProto converts a time; the zero time is unset.
func TimeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// TimeFromProto converts a time; an unset one is the zero time.
func TimeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
