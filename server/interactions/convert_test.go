package interactions

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Ticket rules and outcomes of deliveries are converted by their numbers.
func TestNumbersOfTheAPI(t *testing.T) {
	s := &Service{}
	for stored, want := range map[store.TicketRule]zendeskv1.TicketRule{
		store.TicketRequested:     zendeskv1.TicketRule_TICKET_RULE_REQUESTED,
		store.TicketPopped:        zendeskv1.TicketRule_TICKET_RULE_POPPED,
		store.TicketCurrentRecord: zendeskv1.TicketRule_TICKET_RULE_CURRENT_RECORD,
		store.TicketCreated:       zendeskv1.TicketRule_TICKET_RULE_CREATED,
		store.TicketNone:          zendeskv1.TicketRule_TICKET_RULE_NONE,
		store.TicketFollowUp:      zendeskv1.TicketRule_TICKET_RULE_FOLLOW_UP,
		store.TicketMerged:        zendeskv1.TicketRule_TICKET_RULE_MERGED,

		store.TicketNewestUnsolved: zendeskv1.TicketRule_TICKET_RULE_NEWEST_UNSOLVED,
	} {
		if got := s.activityToProto("default", &store.Activity{State: store.ActivityWritten, TicketRule: stored}).GetTicketRule(); got != want {
			t.Errorf("%v is shown as %v", want, got)
		}
	}
	for stored, want := range map[store.CompletionStatus]zendeskv1.CompletionStatus{
		store.CompletionCompleted:   zendeskv1.CompletionStatus_COMPLETION_STATUS_COMPLETED,
		store.CompletionMissed:      zendeskv1.CompletionStatus_COMPLETION_STATUS_MISSED,
		store.CompletionAbandoned:   zendeskv1.CompletionStatus_COMPLETION_STATUS_ABANDONED,
		store.CompletionVoicemail:   zendeskv1.CompletionStatus_COMPLETION_STATUS_VOICEMAIL,
		store.CompletionTransferred: zendeskv1.CompletionStatus_COMPLETION_STATUS_TRANSFERRED,
		store.CompletionFailed:      zendeskv1.CompletionStatus_COMPLETION_STATUS_FAILED,
	} {
		if got := detailsToProto(store.ActivityDetails{CompletionStatus: stored}).GetCompletionStatus(); got != want {
			t.Errorf("%v is shown as %v", want, got)
		}
	}
	for stored, want := range map[store.DeliveryOutcome]zendeskv1.DeliveryOutcome{
		store.DeliveryDisplayed: zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_DISPLAYED,
		store.DeliveryLink:      zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_LINK,
		store.DeliveryFailed:    zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_FAILED,
	} {
		if got := deliveryToProto(store.ScreenPop{}, store.Delivery{Outcome: stored}).GetOutcome(); got != want {
			t.Errorf("%v is shown as %v", want, got)
		}
	}
}

// Every state of the API is one of the store, and the other way round.
func TestActivityStates(t *testing.T) {
	for number, name := range zendeskv1.ActivityState_name {
		state := zendeskv1.ActivityState(number)
		stored, known := storedStates[state]
		if known != (number != 0) || known && activityStates[stored] != state {
			t.Errorf("%s is %d in the store, and %v again", name, stored, activityStates[stored])
		}
	}
	if len(activityStates) != len(storedStates) {
		t.Errorf("the store has %d states, the API %d", len(activityStates), len(storedStates))
	}
}

// What was said of an interaction is told again as it was.
func TestDetails(t *testing.T) {
	examples := []*zendeskv1.ActivityDetails{
		{},
		{Agent: &zendeskv1.Agent{ZendeskUserId: "7"}, Requester: &zendeskv1.Requester{Name: "Ann"}},
		{
			Channel: "voice", Direction: "inbound", FromAddress: "+15135557611", ToAddress: "+15135550100",
			Agent: &zendeskv1.Agent{Email: "ann@acme.com", ZendeskUserId: "7"}, Service: "Sales", Disposition: "Sale", Notes: "two\nlines",
			RecordingUrl: "https://rec.example/1", Requester: &zendeskv1.Requester{Name: "Joe", Email: "joe@acme.com", Phone: "+49 30 901820"},
			Subject: "Refund", CompletionStatus: 99, Transcript: "Ann: hello\nJoe: hello",
			Links:         []*zendeskv1.Link{{Title: "Survey", Url: "https://s.example/1"}, {Url: "tape 12"}, {}},
			QueueDuration: durationpb.New(0), HoldDuration: durationpb.New(-time.Second), TalkDuration: durationpb.New(time.Minute + 1), WrapUpDuration: durationpb.New(292 * 365 * 24 * time.Hour),
			Legs: []*zendeskv1.Leg{
				{Agent: &zendeskv1.Agent{Email: "ann@acme.com"}, StartTime: timestamppb.New(time.Unix(3, 0)), EndTime: timestamppb.New(time.Unix(2, 0))}, {},
			},
			StartTime: timestamppb.New(time.Unix(1, 2)), AnswerTime: timestamppb.New(time.Unix(3, 0)), EndTime: timestamppb.New(time.Unix(4, 0)),
		},
	}
	for _, details := range examples {
		if diff := cmp.Diff(details, detailsToProto(detailsFromProto(details)), protocmp.Transform()); diff != "" {
			t.Errorf("details (-want +got):\n%s", diff)
		}
	}
	full := examples[2].ProtoReflect()
	for i := range full.Descriptor().Fields().Len() {
		if field := full.Descriptor().Fields().Get(i); !full.Has(field) {
			t.Errorf("no example has %s", field.Name())
		}
	}
}

// What cannot be kept is told in words.
func TestOddDetails(t *testing.T) {
	for _, test := range []struct {
		details *zendeskv1.ActivityDetails
		want    string
	}{
		{&zendeskv1.ActivityDetails{StartTime: &timestamppb.Timestamp{Seconds: 1, Nanos: -1}}, "start time is no time: 1 s, -1 ns"},
		{&zendeskv1.ActivityDetails{HoldDuration: &durationpb.Duration{Seconds: 1, Nanos: -1}}, "hold duration is none: 1 s, -1 ns"},
		{&zendeskv1.ActivityDetails{WrapUpDuration: &durationpb.Duration{Seconds: 300 * 366 * 86400}}, "wrap-up duration is none: 9486720000 s, 0 ns"},
		{&zendeskv1.ActivityDetails{Legs: []*zendeskv1.Leg{nil, {EndTime: &timestamppb.Timestamp{Seconds: -1 << 60}}}}, "leg 2's end time is no time: -1152921504606846976 s, 0 ns"},
	} {
		got := detailsFromProto(test.details)
		if got.Remark != test.want {
			t.Errorf("%v: %q, want %q", test.details, got.Remark, test.want)
		}
	}
}
