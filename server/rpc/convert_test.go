package rpc

import (
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// The kinds of the store are converted by their numbers.
func TestRecordTypes(t *testing.T) {
	for stored, want := range map[store.RecordType]zendeskv1.RecordType{
		store.RecordTicket:       zendeskv1.RecordType_RECORD_TYPE_TICKET,
		store.RecordUser:         zendeskv1.RecordType_RECORD_TYPE_USER,
		store.RecordOrganization: zendeskv1.RecordType_RECORD_TYPE_ORGANIZATION,
		store.RecordGroup:        zendeskv1.RecordType_RECORD_TYPE_GROUP,
		store.RecordOther:        zendeskv1.RecordType_RECORD_TYPE_OTHER,
		store.RecordNewTicket:    zendeskv1.RecordType_RECORD_TYPE_NEW_TICKET,
		store.RecordSearch:       zendeskv1.RecordType_RECORD_TYPE_SEARCH,
	} {
		mustEqual(t, want.String(), ScreenPopToProto(store.ScreenPop{RecordType: stored}).GetRecordType(), want)
	}
}

func TestAccountUseToProto(t *testing.T) {
	if got := AccountUseToProto(store.AccountUse{}); got != nil {
		t.Errorf("no account is %v", got)
	}
	for stored, want := range map[store.Selection]zendeskv1.AccountSelection{
		store.Selected: zendeskv1.AccountSelection_ACCOUNT_SELECTION_SELECTED,
		store.Default:  zendeskv1.AccountSelection_ACCOUNT_SELECTION_DEFAULT,
		store.Named:    zendeskv1.AccountSelection_ACCOUNT_SELECTION_NAMED,
	} {
		mustEqual(t, want.String(), AccountUseToProto(store.AccountUse{AccountID: "acme", Name: "Acme", Incarnation: "i", URL: "u", Selection: stored}),
			&zendeskv1.AccountUse{AccountId: "acme", Name: "Acme", Selection: want})
	}
}

func TestRecordToProto(t *testing.T) {
	const origin = "https://acme.zendesk.com"
	for raw, want := range map[string]*zendeskv1.Record{
		`{"result_type":"ticket","id":7}`:       {Type: zendeskv1.RecordType_RECORD_TYPE_TICKET, Id: "7", Url: origin + "/agent/tickets/7"},
		`{"result_type":"user","id":7}`:         {Type: zendeskv1.RecordType_RECORD_TYPE_USER, Id: "7", Url: origin + "/agent/users/7/requested_tickets"},
		`{"result_type":"organization","id":7}`: {Type: zendeskv1.RecordType_RECORD_TYPE_ORGANIZATION, Id: "7", Url: origin + "/agent/organizations/7/tickets"},
		`{"result_type":"group","id":7}`:        {Type: zendeskv1.RecordType_RECORD_TYPE_GROUP, Id: "7"},
		`{"result_type":"ticket"}`:              {Type: zendeskv1.RecordType_RECORD_TYPE_TICKET},
		`{"result_type":"article","id":7}`:      {Type: zendeskv1.RecordType_RECORD_TYPE_OTHER, Id: "7"},
	} {
		mustEqual(t, raw, RecordToProto(json.RawMessage(raw), origin), want)
	}
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 5, time.UTC)
	if got := TimeToProto(time.Time{}); got != nil {
		t.Errorf("the zero time is %v", got)
	}
	if got := TimeFromProto(nil); !got.IsZero() {
		t.Errorf("an unset time is %v", got)
	}
	if got := TimeFromProto(TimeToProto(at)); !got.Equal(at) {
		t.Errorf("%v is %v", at, got)
	}
	mustEqual(t, "time", TimeToProto(at), timestamppb.New(at))
}
