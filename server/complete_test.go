package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	ticketQuery = `type:ticket subject:"Card terminal"`
	noneQuery   = "type:user phone:*99999999999"
)

func toTicket(interaction, id string) *zendeskv1.ScreenPopRequest {
	return &zendeskv1.ScreenPopRequest{InteractionId: interaction, Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: id}}
}

func toUser(interaction string, id int64) *zendeskv1.ScreenPopRequest {
	return &zendeskv1.ScreenPopRequest{InteractionId: interaction, Target: &zendeskv1.ScreenPopRequest_UserId{UserId: fmt.Sprint(id)}}
}

func toCurrent(interaction string) *zendeskv1.ScreenPopRequest {
	return &zendeskv1.ScreenPopRequest{InteractionId: interaction, Target: &zendeskv1.ScreenPopRequest_RecordsetName{RecordsetName: "RS"}}
}

func toSearch(interaction string) *zendeskv1.ScreenPopRequest {
	return &zendeskv1.ScreenPopRequest{InteractionId: interaction, Target: &zendeskv1.ScreenPopRequest_SearchString{SearchString: "type:ticket invoice"}}
}

func into(name string) func(*zendeskv1.SearchRequest) {
	return func(r *zendeskv1.SearchRequest) { r.RecordsetName = name }
}

func TestCompleteChoosesTheTicket(t *testing.T) {
	t.Parallel()
	const (
		requested = zendeskv1.TicketRule_TICKET_RULE_REQUESTED
		popped    = zendeskv1.TicketRule_TICKET_RULE_POPPED
		current   = zendeskv1.TicketRule_TICKET_RULE_CURRENT_RECORD
		created   = zendeskv1.TicketRule_TICKET_RULE_CREATED
		none      = zendeskv1.TicketRule_TICKET_RULE_NONE
	)
	newTicket := &zendeskv1.ScreenPopRequest_NewTicket{NewTicket: &zendeskv1.NewTicket{RequesterId: fmt.Sprint(zendesktest.Caller.ID)}}
	for name, tt := range map[string]struct {
		before    func(*testing.T, *activityServer)
		ticket    string
		create    bool
		requester *zendeskv1.Requester
		rule      zendeskv1.TicketRule
		want      string // ticket
		asks      int64  // requester of a created ticket
	}{
		"nothing": {rule: none},
		"named before all others": {
			before: func(t *testing.T, s *activityServer) { s.pop(t, toTicket("call-1", openTickets[0])) },
			ticket: openTickets[1], create: true, rule: requested, want: openTickets[1],
		},
		"the last popped": {
			before: func(t *testing.T, s *activityServer) {
				s.pop(t, toTicket("call-1", openTickets[0]))
				s.pop(t, toTicket("call-1", openTickets[1]))
				s.pop(t, toUser("call-1", zendesktest.Caller.ID))
				s.pop(t, toSearch("call-1"))
			},
			create: true, rule: popped, want: openTickets[1],
		},
		"popped from a recordset": {
			before: func(t *testing.T, s *activityServer) {
				s.search(t, "call-1", ticketQuery)
				s.pop(t, toCurrent("call-1"))
				s.search(t, "call-1", callerQuery)
			},
			rule: popped, want: openTickets[0],
		},
		"current record": {
			before: func(t *testing.T, s *activityServer) {
				s.search(t, "call-1", callerQuery, into("people"))
				s.search(t, "call-1", ticketQuery)
			},
			create: true, rule: current, want: openTickets[0],
		},
		"current record of another recordset": {
			before: func(t *testing.T, s *activityServer) {
				s.search(t, "call-1", ticketQuery)
				s.search(t, "call-1", callerQuery, into("people"))
			},
			rule: none,
		},
		"recordset searched last is empty": {
			before: func(t *testing.T, s *activityServer) {
				s.search(t, "call-1", ticketQuery, into("tickets"))
				s.search(t, "call-1", noneQuery)
			},
			rule: none,
		},
		"recordset searched last is gone": {
			before: func(t *testing.T, s *activityServer) {
				s.search(t, "call-1", ticketQuery)
				s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: 500})
				s.search(t, "call-1", ticketQuery)
			},
			rule: none,
		},
		"requester popped": {
			before: func(t *testing.T, s *activityServer) {
				s.search(t, "call-1", callerQuery)
				s.pop(t, toUser("call-1", zendesktest.EndUser.ID))
				s.pop(t, toUser("call-1", zendesktest.Precise.ID))
			},
			create: true, rule: created, asks: zendesktest.Precise.ID,
			requester: &zendeskv1.Requester{Email: zendesktest.Caller.Email},
		},
		"requester is the current record": {
			before: func(t *testing.T, s *activityServer) { s.search(t, "call-1", callerQuery) },
			create: true, rule: created, asks: zendesktest.Caller.ID,
			requester: &zendeskv1.Requester{Email: zendesktest.EndUser.Email},
		},
		"requester told": {
			before: func(t *testing.T, s *activityServer) { s.search(t, "call-1", noneQuery) },
			create: true, rule: created, asks: zendesktest.EndUser.ID,
			requester: &zendeskv1.Requester{Email: zendesktest.EndUser.Email},
		},
		"requester unknown": {create: true, rule: created, asks: zendesktest.Admin.ID},
		"new ticket popped": {
			before: func(t *testing.T, s *activityServer) {
				s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: "call-1", Target: newTicket})
			},
			rule: none,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			if tt.before != nil {
				tt.before(t, s)
			}
			a := s.complete(t, "call-1", tt.ticket, func(r *zendeskv1.CompleteInteractionRequest) {
				r.Details = &zendeskv1.ActivityDetails{Requester: tt.requester}
				if tt.create {
					creating(r)
				}
			})
			if a.GetTicketRule() != tt.rule || a.GetTicketId() != tt.want {
				t.Fatalf("activity is %v, want %v, ticket %q", a, tt.rule, tt.want)
			}
			s.zendesk.ClearFaults()
			if tt.rule == none {
				mustEqual(t, "state", s.activity(t, a.GetActivityId()).GetState(), noTicket)
				if a.GetAccount() != nil || a.GetBlockedBy() != 0 {
					t.Errorf("skipped activity is %v", a)
				}
				return
			}
			mustEqual(t, "account", a.GetAccount().GetAccountId(), "main")
			a = s.awaitState(t, a.GetActivityId(), written)
			mustEqual(t, "interactions", s.interactionsOf(t, a.GetTicketId()), []string{"call-1"})
			if tt.asks != 0 {
				mustEqual(t, "requester", s.ticket(t, a.GetTicketId()).RequesterID, tt.asks)
			}
		})
	}
}

func TestCompleteChoosesTheAccount(t *testing.T) {
	t.Parallel()
	const (
		selected  = zendeskv1.AccountSelection_ACCOUNT_SELECTION_SELECTED
		byDefault = zendeskv1.AccountSelection_ACCOUNT_SELECTION_DEFAULT
	)
	for name, tt := range map[string]struct {
		before    func(*testing.T, *activityServer)
		account   string
		ticket    string
		want      string
		selection zendeskv1.AccountSelection
		reason    zendeskv1.FailureReason // not 0: DEAD
	}{
		"named":           {account: "second", ticket: openTickets[0], want: "second", selection: zendeskv1.AccountSelection_ACCOUNT_SELECTION_NAMED},
		"default":         {ticket: openTickets[0], want: "main", selection: byDefault},
		"default, create": {want: "main", selection: byDefault},
		"in force": {
			before: func(t *testing.T, s *activityServer) { s.selectAccount(t, "call-1", "second") },
			ticket: openTickets[0], want: "second", selection: selected,
		},
		"in force, create": {
			before: func(t *testing.T, s *activityServer) { s.selectAccount(t, "call-1", "second") },
			want:   "second", selection: selected,
		},
		"pinned": {
			before: func(t *testing.T, s *activityServer) {
				s.search(t, "call-1", noneQuery)
				s.makeDefault(t, "second")
			},
			ticket: openTickets[0], want: "main", selection: byDefault,
		},
		"of the pop": {
			before: func(t *testing.T, s *activityServer) {
				s.selectAccount(t, "call-1", "second")
				s.pop(t, toTicket("call-1", openTickets[0]))
				s.selectAccount(t, "call-1", "main")
			},
			want: "second", selection: selected,
		},
		"of the recordset": {
			before: func(t *testing.T, s *activityServer) {
				s.selectAccount(t, "call-1", "second")
				s.search(t, "call-1", ticketQuery)
				s.selectAccount(t, "call-1", "main")
			},
			want: "second", selection: selected,
		},
		// Never another's Zendesk in silence.
		"selected in vain": {
			before: func(t *testing.T, s *activityServer) { s.selectAccount(t, "call-1", "third") },
			ticket: openTickets[0], reason: zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND,
		},
		"selected in vain, create": {
			before: func(t *testing.T, s *activityServer) { s.selectAccount(t, "call-1", "third") },
			reason: zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND,
		},
		"none": {
			before: func(t *testing.T, s *activityServer) {
				s.deleteAccount(t, "second")
				s.deleteAccount(t, "main")
			},
			ticket: openTickets[0], reason: zendeskv1.FailureReason_FAILURE_REASON_NO_DEFAULT_ACCOUNT,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			s.createAccount(t, "second", zendesktest.Agent)
			if tt.before != nil {
				tt.before(t, s)
			}
			a := s.complete(t, "call-1", tt.ticket, creating, func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = tt.account })
			if tt.reason != 0 {
				if a.GetState() != dead || a.GetFailure().GetReason() != tt.reason || a.GetAccount() != nil {
					t.Errorf("activity is %v, want DEAD by %v", a, tt.reason)
				}
				mustEqual(t, "requests", s.asked(http.MethodPut, "")+s.asked(http.MethodPost, ""), 0)
				return
			}
			mustEqual(t, "account", a.GetAccount(), &zendeskv1.AccountUse{AccountId: tt.want, Name: "Account " + tt.want, Selection: tt.selection})
			s.awaitState(t, a.GetActivityId(), written)
		})
	}
}

func TestCompleteAgain(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.attach(t, "call-1", map[string]string{"Score": "5"})
	details := func(r *zendeskv1.CompleteInteractionRequest) {
		r.Details = &zendeskv1.ActivityDetails{Notes: "done", Disposition: "Sale"}
	}
	first := s.complete(t, "call-1", openTickets[0], details)
	mustEqual(t, "attached data", first.GetAttachedData(), map[string]string{"Score": "5"})
	mustEqual(t, "details", first.GetDetails(), &zendeskv1.ActivityDetails{Notes: "done", Disposition: "Sale"})
	for _, when := range []string{"at once", "written", "after a restart"} {
		switch when {
		case "written":
			s.awaitState(t, first.GetActivityId(), written)
		case "after a restart":
			s.restart(t)
		}
		again := s.complete(t, "call-1", openTickets[0], details)
		mustEqual(t, "activity "+when, again.GetActivityId(), first.GetActivityId())
		for _, other := range []*zendeskv1.CompleteInteractionRequest{
			{InteractionId: "call-1", TicketId: openTickets[0]},
			{InteractionId: "call-1", TicketId: openTickets[1], Details: first.GetDetails()},
			{InteractionId: "call-1", Details: first.GetDetails()},
			{InteractionId: "call-1", TicketId: openTickets[0], Details: first.GetDetails(), IfNoTicket: zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE},
			{InteractionId: "call-1", TicketId: openTickets[0], Details: first.GetDetails(), AccountId: "main"},
		} {
			_, err := s.interactions.CompleteInteraction(t.Context(), other)
			info := mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_COMPLETED)
			mustEqual(t, "metadata", info.GetMetadata(), map[string]string{"interaction_id": "call-1", "activity_id": first.GetActivityId()})
		}
	}
	mustEqual(t, "activities", len(s.list(t)), 1)
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1"})
}

func TestBlocksAfterCompletion(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.search(t, "call-1", callerQuery)
	s.attach(t, "call-1", map[string]string{"a": "1"})
	a := s.complete(t, "call-1", "")
	mustFail(t, s.attach(t, "call-1", map[string]string{"b": "2"}), zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_COMPLETED)
	mustFail(t, s.pop(t, toTicket("call-1", openTickets[0])), zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_COMPLETED)
	mustFail(t, s.nextOf(t, "call-1"), zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
	interaction := s.interaction(t, "call-1")
	if interaction.GetState() != zendeskv1.InteractionState_INTERACTION_STATE_COMPLETED || interaction.GetActivityId() != a.GetActivityId() || len(interaction.GetRecordsets()) != 0 {
		t.Errorf("completed interaction is %v", interaction)
	}
	mustEqual(t, "attached data", interaction.GetAttachedData(), map[string]string{"a": "1"})
	mustExit(t, s.selectAccount(t, "call-1", "main"), next)
	mustExit(t, s.search(t, "call-1", "type:ticket requester:"+zendesktest.Caller.Email), next)
	mustExit(t, s.nextOf(t, "call-1"), next)
	mustEqual(t, "attached data of the activity", s.activity(t, a.GetActivityId()).GetAttachedData(), map[string]string{"a": "1"})
}

func TestExpiredInteractions(t *testing.T) {
	t.Parallel()
	const idle, tombstone = 7 * 24 * time.Hour, 30 * 24 * time.Hour
	s := newActivityServer(t)
	sweep := func(after time.Duration) {
		t.Helper()
		s.advance(t, after+time.Hour)
		_, err := s.store.Sweep(t.Context(), 64)
		must(t, err)
	}
	s.attach(t, "left", map[string]string{"a": "1"})
	s.pop(t, toTicket("left", openTickets[0]))
	finished := s.awaitState(t, s.complete(t, "finished", openTickets[0]).GetActivityId(), written)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Status: 401})
	s.attach(t, "held", map[string]string{"Score": "1"})
	held := s.awaitTries(t, s.complete(t, "held", openTickets[0]).GetActivityId(), 1)

	sweep(idle)
	interaction := s.interaction(t, "left")
	mustEqual(t, "state", interaction.GetState(), zendeskv1.InteractionState_INTERACTION_STATE_EXPIRED)
	mustEqual(t, "left over", len(interaction.GetAttachedData())+len(interaction.GetScreenPops()), 0)
	const expired = zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_EXPIRED
	mustFail(t, s.attach(t, "left", map[string]string{"b": "2"}), expired)
	mustFail(t, s.pop(t, toTicket("left", openTickets[0])), expired)
	mustFail(t, s.search(t, "left", callerQuery), expired)
	mustFail(t, s.nextOf(t, "left"), expired)
	mustFail(t, s.selectAccount(t, "left", "main"), expired)
	_, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{InteractionId: "left", TicketId: openTickets[0]})
	mustReason(t, err, codes.FailedPrecondition, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_EXPIRED)
	mustEqual(t, "deliveries", len(s.deliver(t, "left", zendesktest.Agent).GetDeliveries()), 0)
	// A completed one still gives its activity, one whose activity is pending is kept whole.
	mustEqual(t, "activity", s.complete(t, "finished", openTickets[0]).GetActivityId(), finished.GetActivityId())
	mustEqual(t, "state", s.interaction(t, "held").GetState(), zendeskv1.InteractionState_INTERACTION_STATE_COMPLETED)
	mustEqual(t, "attached data", s.interaction(t, "held").GetAttachedData(), map[string]string{"Score": "1"})

	sweep(tombstone)
	if s.interaction(t, "left") != nil {
		t.Error("an interaction outlives its tombstone")
	}
	mustEqual(t, "activity", s.complete(t, "finished", openTickets[0]).GetActivityId(), finished.GetActivityId())
	sweep(90*24*time.Hour - idle - tombstone)
	if s.interaction(t, "finished") != nil {
		t.Error("an interaction outlives its activity and its tombstone")
	}
	_, err = s.interactions.GetActivity(t.Context(), &zendeskv1.GetActivityRequest{ActivityId: finished.GetActivityId()})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND)
	mustExit(t, s.attach(t, "left", map[string]string{"b": "2"}), next)
	mustEqual(t, "state", s.activity(t, held.GetActivityId()).GetState(), pending)
}

// History is worth more than form: what is odd in it is written as it is, or as much of it as there is room for.
func TestOddDetailsAreTaken(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	at := func(second int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: second} }
	for name, tt := range map[string]struct {
		details *zendeskv1.ActivityDetails
		says    []string
	}{
		"everything": {&zendeskv1.ActivityDetails{
			Channel: "a\nb", Direction: strings.Repeat("d", 300), FromAddress: strings.Repeat("f", 400), ToAddress: "\x00",
			Agent: &zendeskv1.Agent{Email: "nobody", ZendeskUserId: "x"}, Service: strings.Repeat("s", 300), Disposition: "\x07",
			Notes: strings.Repeat("n", 64<<10+1), RecordingUrl: "javascript:alert(1)",
			StartTime: at(200), AnswerTime: at(150), EndTime: at(100),
			Requester: &zendeskv1.Requester{Name: strings.Repeat("n", 300), Email: "x y"},
		}, []string{"…(cut)", "Recording: javascript:alert(1)", "x y", "nobody", "out of order"}},
		"out of order by milliseconds": {&zendeskv1.ActivityDetails{
			StartTime: &timestamppb.Timestamp{Seconds: 100, Nanos: 1e6}, AnswerTime: at(100), EndTime: &timestamppb.Timestamp{Seconds: 99, Nanos: 999e6},
		}, []string{"out of order"}},
		"at one time": {&zendeskv1.ActivityDetails{StartTime: at(100), AnswerTime: at(100), EndTime: at(100)}, []string{"00:01:40"}},
		"milliseconds for seconds": {&zendeskv1.ActivityDetails{StartTime: at(1_764_000_000_000), EndTime: at(100)},
			[]string{"start time is no time: 1764000000000 s", "00:01:40"}},
		"no times":         {&zendeskv1.ActivityDetails{StartTime: &timestamppb.Timestamp{Nanos: -1}}, []string{"start time is no time: 0 s, -1 ns"}},
		"long recording":   {&zendeskv1.ActivityDetails{RecordingUrl: "https://example.com/" + strings.Repeat("x", 3000)}, []string{"Recording: https://example.com/xxx"}},
		"mistyped address": {&zendeskv1.ActivityDetails{Requester: &zendeskv1.Requester{Name: "Kim", Email: "kim@@example"}}, []string{"Kim", "kim@@example"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, ticket := range []string{openTickets[0], ""} {
				a := s.complete(t, strings.ReplaceAll(name, " ", "-")+ticket, ticket, creating, func(r *zendeskv1.CompleteInteractionRequest) { r.Details = tt.details })
				a = s.awaitState(t, a.GetActivityId(), written)
				audits := s.audits(t, a.GetTicketId())
				said := strings.ReplaceAll(fmt.Sprint(audits[len(audits)-1].Events), "\u2060", "")
				for _, want := range tt.says {
					if !strings.Contains(said, want) {
						t.Errorf("comment %.3000q does not say %q", said, want)
					}
				}
			}
		})
	}
}

func TestCompleteBadInput(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	for name, tt := range map[string]struct {
		req  *zendeskv1.CompleteInteractionRequest
		want []string
	}{
		"empty": {&zendeskv1.CompleteInteractionRequest{}, []string{"interaction_id"}},
		"everything": {&zendeskv1.CompleteInteractionRequest{
			InteractionId: "with space", TicketId: "$(ticket)", AccountId: "?", IfNoTicket: 9,
		}, []string{"interaction_id", "ticket_id", "account_id", "if_no_ticket"}},
		"account without ticket": {&zendeskv1.CompleteInteractionRequest{InteractionId: "call-1", AccountId: "main"}, []string{"account_id"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.interactions.CompleteInteraction(t.Context(), tt.req)
			mustViolate(t, err, tt.want...)
		})
	}
	if s.interaction(t, "call-1") != nil || len(s.list(t)) != 0 {
		t.Error("a refused completion left something")
	}
}

// History is worth more than form: that of an account which is not there waits for a person.
func TestCompleteForAnAccountThatIsGone(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.account(t, "named", "fourth", s.zendesk.Origin())
	s.account(t, "third", "Third", s.zendesk.Origin())
	s.deleteAccount(t, "third")
	for interaction, account := range map[string]string{"call-1": "third", "call-2": "fourth"} { // a name is no id
		resp, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
			InteractionId: interaction, TicketId: openTickets[0], AccountId: account, Details: &zendeskv1.ActivityDetails{Notes: "kept"},
		})
		must(t, err)
		a := resp.GetActivity()
		if a.GetState() != zendeskv1.ActivityState_ACTIVITY_STATE_DEAD || a.GetFailure().GetReason() != zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND ||
			a.GetAccount().GetAccountId() != account || a.GetDetails().GetNotes() != "kept" || a.GetTicketId() != openTickets[0] {
			t.Errorf("activity is %v", a)
		}
		_, err = s.interactions.RetryActivity(t.Context(), &zendeskv1.RetryActivityRequest{ActivityId: a.GetActivityId()})
		mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND)
		if account == "third" {
			s.account(t, "third", "Third", s.zendesk.Origin())
			_, err = s.interactions.RetryActivity(t.Context(), &zendeskv1.RetryActivityRequest{ActivityId: a.GetActivityId()})
			must(t, err)
			s.awaitState(t, a.GetActivityId(), written)
		}
	}
}

// What is said of an interaction is told again, stands in the ticket, and makes a repeat another completion.
func TestDetailsSayWhatHappened(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	details := &zendeskv1.ActivityDetails{
		Subject: "Refund for October", Channel: "voice", CompletionStatus: zendeskv1.CompletionStatus_COMPLETION_STATUS_VOICEMAIL,
		Transcript: "Ann: Good day\nMaria: <b>refund</b>", Links: []*zendeskv1.Link{{Title: "Survey", Url: "https://s.example.com/1"}},
		QueueDuration: durationpb.New(12 * time.Second), HoldDuration: durationpb.New(0), TalkDuration: durationpb.New(125 * time.Second), WrapUpDuration: durationpb.New(-time.Second),
		Legs:      []*zendeskv1.Leg{{Agent: &zendeskv1.Agent{Email: "ann@example.com"}, StartTime: timestamppb.New(s.clock.now())}},
		Requester: &zendeskv1.Requester{Name: "Maria", Email: "maria.new@example.com", Phone: "+15135557611"},
	}
	complete := func(d *zendeskv1.ActivityDetails) (*zendeskv1.CompleteInteractionResponse, error) {
		return s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
			InteractionId: "call-1", Details: d, IfNoTicket: zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE,
		})
	}
	first, err := complete(details)
	must(t, err)
	mustEqual(t, "details", first.GetActivity().GetDetails(), details)
	a := s.awaitState(t, first.GetActivity().GetActivityId(), written)
	mustEqual(t, "details, written", a.GetDetails(), details)
	again, err := complete(details)
	must(t, err)
	mustEqual(t, "the same again", again.GetActivity().GetActivityId(), a.GetActivityId())
	for _, change := range []func(*zendeskv1.ActivityDetails){
		func(d *zendeskv1.ActivityDetails) { d.Subject = "" },
		func(d *zendeskv1.ActivityDetails) { d.CompletionStatus = 0 },
		func(d *zendeskv1.ActivityDetails) { d.Transcript += "." },
		func(d *zendeskv1.ActivityDetails) { d.Links[0].Title = "" },
		func(d *zendeskv1.ActivityDetails) { d.HoldDuration = nil },
		func(d *zendeskv1.ActivityDetails) { d.Legs = nil },
		func(d *zendeskv1.ActivityDetails) { d.Requester.Phone = "" },
	} {
		other := proto.CloneOf(details)
		change(other)
		_, err := complete(other)
		mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_COMPLETED)
	}
	var answer struct{ Ticket struct{ Subject string } }
	s.ask(t, ticketsPath+"/"+a.GetTicketId(), &answer)
	mustEqual(t, "subject", answer.Ticket.Subject, "Refund for October")
	comment := fmt.Sprint(s.audits(t, a.GetTicketId()))
	for _, want := range []string{
		"Call from Maria (maria.new@example.com, +1 513-555-7611)", "Waited 12 s, on hold 0 s, talked 2 min 5 s, wrapped up in minus 1 s (as reported)",
		"Status: The caller left a message", "Agent: ann@example.com, from ", "https://s.example.com/1", "Maria: <b>refund</b>",
	} {
		if !strings.Contains(comment, want) {
			t.Errorf("comment %q lacks %q", comment, want)
		}
	}
}
