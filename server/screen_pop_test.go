package server

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// popRequest builds requests of the interaction "one" for each kind of target.
func popRequest(target any) *zendeskv1.ScreenPopRequest {
	req := &zendeskv1.ScreenPopRequest{InteractionId: "one"}
	switch target := target.(type) {
	case *zendeskv1.ScreenPopRequest_TicketId:
		req.Target = target
	case *zendeskv1.ScreenPopRequest_UserId:
		req.Target = target
	case *zendeskv1.ScreenPopRequest_OrganizationId:
		req.Target = target
	case *zendeskv1.ScreenPopRequest_RecordsetName:
		req.Target = target
	case *zendeskv1.ScreenPopRequest_SearchString:
		req.Target = target
	case *zendeskv1.NewTicket:
		req.Target = &zendeskv1.ScreenPopRequest_NewTicket{NewTicket: target}
	case *zendeskv1.CreateTicket:
		req.Target = &zendeskv1.ScreenPopRequest_CreateTicket{CreateTicket: target}
	}
	return req
}

type (
	popTicket       = zendeskv1.ScreenPopRequest_TicketId
	popUser         = zendeskv1.ScreenPopRequest_UserId
	popOrganization = zendeskv1.ScreenPopRequest_OrganizationId
	popRecordset    = zendeskv1.ScreenPopRequest_RecordsetName
	popSearch       = zendeskv1.ScreenPopRequest_SearchString
)

func TestScreenPop(t *testing.T) {
	const (
		ticket    = zendeskv1.RecordType_RECORD_TYPE_TICKET
		user      = zendeskv1.RecordType_RECORD_TYPE_USER
		newTicket = zendeskv1.RecordType_RECORD_TYPE_NEW_TICKET

		none = zendeskv1.FailureReason_FAILURE_REASON_UNSPECIFIED
	)
	s := newBlockServer(t)
	asked := 0
	searched := func(recordset, answer string) {
		s.answerWith(answer)
		s.search(t, "one", "anything", func(r *zendeskv1.SearchRequest) { r.RecordsetName = recordset })
		asked++
	}
	searched("Tickets", page(t, 51, 52, 2))
	searched("Users", `{"results":[{"id":61,"result_type":"user"}],"count":1}`)
	searched("Groups", `{"results":[{"id":71,"result_type":"group"}],"count":1}`)
	searched("Articles", `{"results":[{"id":81,"result_type":"article"}],"count":1}`)
	searched("Nothing", `{"results":[],"count":0}`)
	searched("Gone", page(t, 1, 1, 1))
	searched("Gone", "<html>")
	vars := map[string]string{"T": " 123 ", "EMPTY": "", "WORD": "abc", "Users": "987", "ANI": "+1 513 555 7611"}

	for _, test := range []struct {
		target any
		kind   zendeskv1.RecordType
		id     string
		path   string
		want   zendeskv1.FailureReason
	}{
		{target: &popTicket{TicketId: "9007199254740993"}, kind: ticket, id: "9007199254740993", path: "/agent/tickets/9007199254740993"},
		{target: &popTicket{TicketId: "$(T)"}, kind: ticket, id: "123", path: "/agent/tickets/123"},
		{target: &popTicket{TicketId: "$(Tickets.id)"}, kind: ticket, id: "51", path: "/agent/tickets/51"},
		{target: &popTicket{TicketId: "4$(T)"}, want: zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{target: &popTicket{TicketId: "12/../../users/1"}, want: zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{target: &popTicket{TicketId: "-1"}, want: zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{target: &popTicket{TicketId: "１２"}, want: zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{target: &popTicket{TicketId: strings.Repeat("1", 20)}, want: zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{target: &popTicket{TicketId: "$(WORD)"}, want: zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{target: &popTicket{TicketId: "$(EMPTY)"}, want: zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE},
		{target: &popTicket{TicketId: "$(UNSET)"}, want: zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE},
		{target: &popTicket{TicketId: "$(Tickets)"}, kind: ticket, id: "51", path: "/agent/tickets/51"},
		{target: &popTicket{TicketId: "1$(Tickets)"}, want: zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE},
		{target: &popTicket{TicketId: "$(Gone)"}, want: zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND},
		{target: &popTicket{TicketId: "$(Nothing)"}, want: zendeskv1.FailureReason_FAILURE_REASON_NO_TARGET},
		{target: &popUser{UserId: "61"}, kind: user, id: "61", path: "/agent/users/61/requested_tickets"},
		{target: &popUser{UserId: "$(Users)"}, kind: user, id: "987", path: "/agent/users/987/requested_tickets"}, // the request's variable wins
		{target: &popOrganization{OrganizationId: "77"}, kind: zendeskv1.RecordType_RECORD_TYPE_ORGANIZATION, id: "77", path: "/agent/organizations/77/tickets"},
		{target: &popRecordset{RecordsetName: "Tickets"}, kind: ticket, id: "51", path: "/agent/tickets/51"},
		{target: &popRecordset{RecordsetName: "$(Users)"}, kind: user, id: "61", path: "/agent/users/61/requested_tickets"},
		{target: &popRecordset{RecordsetName: "Nothing"}, want: zendeskv1.FailureReason_FAILURE_REASON_NO_TARGET},
		{target: &popRecordset{RecordsetName: "Groups"}, want: zendeskv1.FailureReason_FAILURE_REASON_NO_TARGET},
		{target: &popRecordset{RecordsetName: "Articles"}, want: zendeskv1.FailureReason_FAILURE_REASON_NO_TARGET},
		{target: &popRecordset{RecordsetName: "Gone"}, want: zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND},
		{target: &popRecordset{RecordsetName: "Never"}, want: zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND},
		{
			target: &popSearch{SearchString: "phone:$(ANI,phone) a+b&c=d"}, kind: zendeskv1.RecordType_RECORD_TYPE_SEARCH,
			path: "/agent/search/1?q=" + strings.ReplaceAll(url.QueryEscape("phone:*5135557611 a+b&c=d"), "+", "%20"),
		},
		{target: &popSearch{SearchString: "phone:$(EMPTY)"}, want: zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE},
		{target: &popSearch{SearchString: strings.Repeat("$(ANI)", 600)}, want: zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		{target: &zendeskv1.NewTicket{RequesterId: "$(T)"}, kind: newTicket, id: "123", path: "/agent/tickets/new/1?requester_id=123"},
		{target: &zendeskv1.NewTicket{RequesterId: "$(Users.id)"}, kind: newTicket, id: "61", path: "/agent/tickets/new/1?requester_id=61"},
		{target: &zendeskv1.NewTicket{RequesterId: "$(Tickets)"}, want: zendeskv1.FailureReason_FAILURE_REASON_NO_TARGET},
		{target: &zendeskv1.NewTicket{RequesterId: "$(EMPTY)"}, want: zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE},
	} {
		req := popRequest(test.target)
		req.Variables = vars
		t.Run(fmt.Sprintf("%.60s", req.Target), func(t *testing.T) {
			noted := len(s.interaction(t, "one").GetScreenPops())
			resp := s.pop(t, req)
			if test.want != none {
				mustFail(t, resp, test.want)
				if resp.GetScreenPop() != nil || len(s.interaction(t, "one").GetScreenPops()) != noted {
					t.Error("a pop is noted")
				}
				return
			}
			mustExit(t, resp, next)
			mustUse(t, resp, "main", byDefault)
			pop := resp.GetScreenPop()
			if pop.GetRecordType() != test.kind || pop.GetRecordId() != test.id || pop.GetUrl() != s.zendesk.Origin()+test.path ||
				pop.GetScreenPopId() == "" || pop.GetCreateTime() == nil || pop.GetAccount().GetAccountId() != "main" {
				t.Errorf("pop is %v, want %v %q at %q", pop, test.kind, test.id, test.path)
			}
		})
	}
	if got := len(s.zendesk.Requests()); got != asked {
		t.Errorf("Zendesk was asked %d times for pops", got-asked)
	}
}

func TestScreenPopOfANewTicketWithoutRequester(t *testing.T) {
	s := newBlockServer(t)
	pop := s.pop(t, popRequest(&zendeskv1.NewTicket{})).GetScreenPop()
	if pop.GetRecordType() != zendeskv1.RecordType_RECORD_TYPE_NEW_TICKET || pop.GetRecordId() != "" || !strings.HasPrefix(pop.GetUrl(), s.zendesk.Origin()+"/agent/tickets/new/1") {
		t.Errorf("pop is %v", pop)
	}
	s.answerWith(`{"results":[{"id":61,"result_type":"user"}],"count":1}`)
	mustExit(t, s.search(t, "one", "anything"), next)
	pop = s.pop(t, popRequest(&zendeskv1.NewTicket{RequesterId: "$(RS)"})).GetScreenPop()
	if pop.GetRecordType() != zendeskv1.RecordType_RECORD_TYPE_NEW_TICKET || pop.GetRecordId() != "61" {
		t.Errorf("pop is %v", pop)
	}
}

func TestScreenPopOnce(t *testing.T) {
	s := newBlockServer(t)
	s.answerWith(page(t, 51, 52, 2))
	mustExit(t, s.search(t, "one", "anything"), next)
	first := s.pop(t, popRequest(&popTicket{TicketId: "51"}))
	s.restart(t)
	for _, target := range []any{&popTicket{TicketId: "51"}, &popRecordset{RecordsetName: "RS"}, &popTicket{TicketId: "$(RS.id)"}} {
		mustEqual(t, "pop of the same target", s.pop(t, popRequest(target)).GetScreenPop(), first.GetScreenPop())
	}
	mustExit(t, s.nextOf(t, "one"), next)
	second := s.pop(t, popRequest(&popRecordset{RecordsetName: "RS"}))
	user := s.pop(t, popRequest(&popUser{UserId: "51"}))
	mustEqual(t, "pops, oldest first", s.interaction(t, "one").GetScreenPops(),
		[]*zendeskv1.ScreenPop{first.GetScreenPop(), second.GetScreenPop(), user.GetScreenPop()})
}

// A recordset's pop uses the account that the recordset came from, an id's the one in force.
func TestScreenPopAccount(t *testing.T) {
	other, reach := otherZendesk(t)
	s := newTestServer(t, reach)
	s.account(t, "main", "Main", s.zendesk.Origin())
	s.account(t, "other", "Other", other.Origin())
	mustExit(t, s.selectAccount(t, "one", "other"), next)
	mustExit(t, s.search(t, "one", "type:ticket"), next)
	mustExit(t, s.selectDefault(t, "one"), next)
	for _, test := range []struct {
		target    any
		id        string
		selection zendeskv1.AccountSelection
		origin    string
	}{
		{&popRecordset{RecordsetName: "RS"}, "other", selected, other.Origin()},
		{&popTicket{TicketId: "$(RS)"}, "other", selected, other.Origin()},
		{&popTicket{TicketId: "$(RS.id)"}, "main", byDefault, s.zendesk.Origin()},
	} {
		resp := s.pop(t, popRequest(test.target))
		mustExit(t, resp, next)
		mustUse(t, resp, test.id, test.selection)
		if !strings.HasPrefix(resp.GetScreenPop().GetUrl(), test.origin+"/") {
			t.Errorf("%v pops %q, want it at %q", test.target, resp.GetScreenPop().GetUrl(), test.origin)
		}
	}
	if got := len(s.interaction(t, "one").GetScreenPops()); got != 2 {
		t.Errorf("%d pops are noted, want one per account", got)
	}
	mustFail(t, s.selectAccount(t, "one", "nobody"), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)
	mustExit(t, s.pop(t, popRequest(&popRecordset{RecordsetName: "RS"})), next)
}

func TestScreenPopLimit(t *testing.T) {
	s := newBlockServer(t)
	// As long as they get: each character of a query needs three in a URL.
	long := strings.Repeat("é", maxTextBytes/2-2)
	for i := range maxScreenPops {
		mustExit(t, s.pop(t, popRequest(&popSearch{SearchString: fmt.Sprintf("%s%02d", long, i)})), next)
	}
	mustFail(t, s.pop(t, popRequest(&popTicket{TicketId: "1"})), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	mustExit(t, s.pop(t, popRequest(&popSearch{SearchString: long + "00"})), next)
	if got := len(s.interaction(t, "one").GetScreenPops()); got != maxScreenPops {
		t.Errorf("%d pops are noted, want %d", got, maxScreenPops)
	}
}

func TestScreenPopViolations(t *testing.T) {
	s := newBlockServer(t)
	for _, test := range []struct {
		target any
		want   string
	}{
		{nil, "target"},
		{&popTicket{TicketId: ""}, "ticket_id"},
		{&popTicket{TicketId: "$(x"}, "ticket_id"},
		{&popTicket{TicketId: "1\x00"}, "ticket_id"},
		{&popUser{UserId: " "}, "user_id"},
		{&popOrganization{OrganizationId: strings.Repeat("1", 4097)}, "organization_id"},
		{&popRecordset{RecordsetName: ""}, "recordset_name"},
		{&popRecordset{RecordsetName: "$(RS"}, "recordset_name"},
		{&popRecordset{RecordsetName: "$(RS,phone)"}, "recordset_name"},
		{&popRecordset{RecordsetName: "$(RS)$(RS)"}, "recordset_name"},
		{&popSearch{SearchString: ""}, "search_string"},
		{&zendeskv1.NewTicket{RequesterId: "$()"}, "new_ticket.requester_id"},
	} {
		req := popRequest(test.target)
		_, err := s.blocks.ScreenPop(t.Context(), req)
		mustViolate(t, err, test.want)
		all := proto.Clone(req).(*zendeskv1.ScreenPopRequest)
		all.InteractionId, all.RequestId, all.Variables = "", "é", map[string]string{"": ""}
		_, err = s.blocks.ScreenPop(t.Context(), all)
		mustViolate(t, err, test.want, "interaction_id", "request_id", "variables")
	}
}
