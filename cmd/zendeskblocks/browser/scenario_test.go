package browser

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// as is a context of calls with a token.
func as(t testing.TB, token string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// words are what a call brings in from outside, which pages show.
type words struct{ subject, notes, key, value string }

var terminal = words{
	subject: "Card terminal does not start", notes: "The terminal stays dark, with another cable too.\nShe is there until 5 pm.",
	key: "Disposition", value: "Callback",
}

// call is a call of Maria Lopez: she is found, with her tickets, one is noted to be shown, and an agent takes the call. It is not over yet.
func (s *site) call(ctx context.Context, t testing.TB, id string, agent zendesktest.Person, w words) {
	t.Helper()
	_, err := s.blocks.IdentifyCaller(ctx, &zendeskv1.IdentifyCallerRequest{
		InteractionId: id, Variables: map[string]string{"ANI": "sip:+15135557611@carrier.example"}, Phone: "$(ANI)",
		RecordsetName: "caller", Columns: []string{"id", "name", "email", "phone"},
	})
	must(t, err)
	_, err = s.blocks.Search(ctx, &zendeskv1.SearchRequest{
		InteractionId: id, RecordsetName: "tickets", SearchString: "type:ticket requester:maria.lopez@example.com status<solved", Columns: []string{"id", "subject", "status"},
	})
	must(t, err)
	_, err = s.blocks.ScreenPop(ctx, &zendeskv1.ScreenPopRequest{InteractionId: id, Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: fmt.Sprint(zendesktest.CallerTickets[0])}})
	must(t, err)
	_, err = s.blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{InteractionId: id, Data: map[string]string{"Caller number": zendesktest.Caller.Phone, w.key: w.value}})
	must(t, err)
	_, err = s.interactions.DeliverInteraction(ctx, &zendeskv1.DeliverInteractionRequest{InteractionId: id, Agent: &zendeskv1.Agent{Email: agent.Email}})
	must(t, err)
}

// complete ends a call, and returns its activity.
func (s *site) complete(ctx context.Context, t testing.TB, id string, w words) *zendeskv1.Activity {
	t.Helper()
	end := time.Now()
	completed, err := s.interactions.CompleteInteraction(ctx, &zendeskv1.CompleteInteractionRequest{
		InteractionId: id, IfNoTicket: zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE,
		Details: &zendeskv1.ActivityDetails{
			Channel: "voice", Direction: "inbound", FromAddress: zendesktest.Caller.Phone, ToAddress: "+1 800 555 0199", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
			Subject: w.subject, CompletionStatus: zendeskv1.CompletionStatus_COMPLETION_STATUS_COMPLETED, Service: "Card terminals", Disposition: w.value, Notes: w.notes,
			RecordingUrl: "https://recordings.example.com/2041",
			StartTime:    timestamppb.New(end.Add(-5 * time.Minute)), AnswerTime: timestamppb.New(end.Add(-288 * time.Second)), EndTime: timestamppb.New(end),
			QueueDuration: durationpb.New(12 * time.Second), TalkDuration: durationpb.New(253 * time.Second),
		},
	})
	must(t, err)
	return completed.GetActivity()
}

// awaits waits until an activity is in a state.
func (s *site) awaits(ctx context.Context, t testing.TB, id string, state zendeskv1.ActivityState) {
	t.Helper()
	until(t, "activity "+id+" is "+state.String(), func(context.Context) bool {
		got, err := s.interactions.GetActivity(ctx, &zendeskv1.GetActivityRequest{ActivityId: id})
		must(t, err)
		return got.GetActivity().GetState() == state
	})
}
