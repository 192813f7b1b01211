package server

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const fieldsPath = "/api/v2/ticket_fields"

func (s *activityServer) preview(t testing.TB, id string) *zendeskv1.ActivityPreview {
	t.Helper()
	resp, err := s.interactions.PreviewActivity(t.Context(), &zendeskv1.PreviewActivityRequest{ActivityId: id})
	must(t, err)
	return resp.GetPreview()
}

// mustBeOnTicket compares a preview of a written activity with what Zendesk has.
func (s *activityServer) mustBeOnTicket(t testing.TB, p *zendeskv1.ActivityPreview) {
	t.Helper()
	audits := s.audits(t, p.GetTicketId())
	if len(audits) != 1 {
		t.Fatalf("ticket %q has %d audits of ours", p.GetTicketId(), len(audits))
	}
	mustEqual(t, "mark", p.GetMark(), audits[0].Metadata.Custom[markKey])
	for _, e := range audits[0].Events {
		if e.Type == "Comment" && e.HTMLBody != `<div class="zd-comment" dir="auto">`+p.GetCommentHtml()+`</div>` {
			t.Errorf("Zendesk shows\n%s\nwant\n%s", e.HTMLBody, p.GetCommentHtml())
		}
	}
	ticket := s.ticket(t, p.GetTicketId())
	for _, f := range p.GetCustomFields() {
		id, err := strconv.ParseInt(f.GetFieldId(), 10, 64)
		must(t, err)
		var shown []string
		switch value := ticket.field(id).(type) {
		case []any:
			for _, v := range value {
				shown = append(shown, fmt.Sprint(v))
			}
		default:
			shown = []string{fmt.Sprint(value)}
		}
		slices.Sort(shown)
		mustEqual(t, "field "+f.GetTitle(), shown, slices.Sorted(slices.Values(f.GetValues())))
	}
	if created := p.GetCreatedTicket(); created != nil {
		mustEqual(t, "subject", ticket.Subject, created.GetSubject())
		mustEqual(t, "external id", ticket.ExternalID, p.GetMark())
		if id := created.GetRequesterId(); id != "" {
			mustEqual(t, "requester", fmt.Sprint(ticket.RequesterID), id)
		}
	}
}

// What is shown before is what Zendesk gets, and is shown afterwards.
func TestPreviewIsWhatIsWritten(t *testing.T) {
	t.Parallel()
	details := &zendeskv1.ActivityDetails{
		Channel: "call", Direction: "inbound", FromAddress: "+15135557611", Subject: `<script>alert("x")</script> {{ticket.title}}`,
		Notes: "Wants a second line.\n<b>soon</b> & cheap", Requester: &zendeskv1.Requester{Name: "Eve <i>", Email: "eve@example.com", Phone: "+15135550000"},
	}
	data := map[string]string{
		"Disposition": "Sale", "Products": "Router, Modem", "Callback requested": "yes", strconv.FormatInt(zendesktest.TalkTimeField, 10): "272",
		"Callback date": "soon", "Mood <b>": "good", "Card": "4111 1111 1111 1234",
	}
	person := &zendeskv1.CreatedTicket_RequesterPerson{RequesterPerson: &zendeskv1.Requester{Name: "Eve <i>", Email: "eve@example.com"}}
	popCaller := func(s *activityServer) { s.pop(t, toUser("call-1", zendesktest.Caller.ID)) }
	byID := &zendeskv1.CreatedTicket_RequesterId{RequesterId: strconv.FormatInt(zendesktest.Caller.ID, 10)}
	for name, test := range map[string]struct {
		prepare   func(*activityServer)
		ticket    string
		change    func(*zendeskv1.CompleteInteractionRequest)
		requester any
		before    zendeskv1.TicketAction
		after     zendeskv1.TicketAction
	}{
		"update":                {nil, openTickets[0], creating, nil, zendeskv1.TicketAction_TICKET_ACTION_UPDATE, zendeskv1.TicketAction_TICKET_ACTION_UPDATE},
		"create":                {nil, "", creating, person, zendeskv1.TicketAction_TICKET_ACTION_CREATE, zendeskv1.TicketAction_TICKET_ACTION_CREATE},
		"create, a user popped": {popCaller, "", creating, byID, zendeskv1.TicketAction_TICKET_ACTION_CREATE, zendeskv1.TicketAction_TICKET_ACTION_CREATE},
		"choose":                {popCaller, "", newest, byID, zendeskv1.TicketAction_TICKET_ACTION_CHOOSE, zendeskv1.TicketAction_TICKET_ACTION_UPDATE},
		"choose in vain":        {nil, "", newest, person, zendeskv1.TicketAction_TICKET_ACTION_CHOOSE, zendeskv1.TicketAction_TICKET_ACTION_CREATE},
		"follow up":             {nil, strconv.FormatInt(zendesktest.ClosedTicket, 10), creating, nil, zendeskv1.TicketAction_TICKET_ACTION_UPDATE, zendeskv1.TicketAction_TICKET_ACTION_CREATE},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			if test.prepare != nil {
				test.prepare(s)
			}
			s.attach(t, "call-1", data)
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Status: http.StatusServiceUnavailable})
			s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/users/", Status: http.StatusServiceUnavailable})
			id := s.complete(t, "call-1", test.ticket, test.change, func(r *zendeskv1.CompleteInteractionRequest) { r.Details = details }).GetActivityId()
			s.awaitTries(t, id, 1)
			before := s.preview(t, id)
			mustEqual(t, "state before", before.GetState(), pending)
			mustEqual(t, "action before", before.GetTicketAction(), test.before)
			mustEqual(t, "ticket before", before.GetTicketId(), test.ticket)
			mustEqual(t, "failure", before.GetFieldsFailure(), (*zendeskv1.Failure)(nil))
			mustEqual(t, "reads of the fields", s.asked(http.MethodGet, fieldsPath), 1)
			var filled, rejected []string
			for _, f := range before.GetCustomFields() {
				filled = append(filled, f.GetTitle()+" ("+f.GetType()+") "+strings.Join(f.GetValues(), "+"))
			}
			for _, r := range before.GetRejectedFields() {
				rejected = append(rejected, r.GetKey())
			}
			mustEqual(t, "filled", filled, []string{
				"Talk time (integer) 272", "Callback requested (checkbox) true", "Card (partialcreditcard) XXXXXXXXXXXX1234",
				"Disposition (tagger) sale", "Products (multiselect) router+modem",
			})
			mustEqual(t, "rejected", rejected, []string{"Callback date", "Mood <b>"})
			if strings.Contains(before.GetCommentHtml(), "<script") || strings.Contains(before.GetCommentHtml(), "<b>soon") {
				t.Errorf("comment is not escaped: %s", before.GetCommentHtml())
			}
			if requester := before.GetCreatedTicket().GetRequester(); test.before != zendeskv1.TicketAction_TICKET_ACTION_UPDATE {
				mustEqual(t, "requester", before.GetCreatedTicket(), func() *zendeskv1.CreatedTicket {
					want := &zendeskv1.CreatedTicket{Subject: before.GetCreatedTicket().GetSubject()}
					switch r := test.requester.(type) {
					case *zendeskv1.CreatedTicket_RequesterId:
						want.Requester = r
					case *zendeskv1.CreatedTicket_RequesterPerson:
						want.Requester = r
					}
					return want
				}())
			} else if before.GetCreatedTicket() != nil {
				t.Errorf("a ticket is to be created by %v", requester)
			}

			s.zendesk.ClearFaults()
			s.advance(t, longEnough)
			a := s.awaitState(t, id, written)
			after := s.preview(t, id)
			mustEqual(t, "action after", after.GetTicketAction(), test.after)
			mustEqual(t, "ticket after", after.GetTicketId(), a.GetTicketId())
			mustEqual(t, "page", after.GetTicketUrl(), s.zendesk.Origin()+"/agent/tickets/"+a.GetTicketId())
			s.mustBeOnTicket(t, after)
			want := proto.CloneOf(before)
			want.State, want.TicketAction, want.TicketId, want.TicketUrl, want.CreatedTicket =
				after.GetState(), after.GetTicketAction(), after.GetTicketId(), after.GetTicketUrl(), after.GetCreatedTicket()
			mustEqual(t, "all else", after, want)
		})
	}
}

// Of what Zendesk refused, the preview afterwards says what stands there.
func TestPreviewOfWhatWasRefused(t *testing.T) {
	t.Parallel()
	refuse := func(key string) string {
		return `{"error":"RecordInvalid","description":"Record validation errors","details":{"` + key + `":[{"description":"is not allowed","error":"InvalidValue"}]}}`
	}
	for name, test := range map[string]struct {
		body     string
		data     map[string]string
		filled   int
		rejected []string
	}{
		"a field":                {refuse(fmt.Sprint("custom_fields.", zendesktest.DispositionField)), map[string]string{"Disposition": "Sale", "Score": "5"}, 1, []string{"Disposition"}},
		"fields":                 {refuse("assignee"), map[string]string{"Disposition": "Sale", "Score": "5"}, 0, []string{"Disposition", "Score"}},
		"requester":              {refuse("requester"), map[string]string{"Score": "5"}, 1, []string{"requester"}},
		"requester, and its key": {refuse("requester"), map[string]string{"requester": "x", "Mood": "y"}, 0, []string{"requester", "Mood", "requester"}},
		"a key like it":          {refuse("assignee"), map[string]string{"requester": "x", "Score": "5", "abc": "z"}, 0, []string{"Score", "abc", "requester"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPost, PathPrefix: ticketsPath, Status: http.StatusUnprocessableEntity, Body: &test.body, Times: 1})
			s.attach(t, "call-1", test.data)
			a := s.awaitState(t, s.complete(t, "call-1", "", creating, func(r *zendeskv1.CompleteInteractionRequest) {
				r.Details = &zendeskv1.ActivityDetails{Requester: &zendeskv1.Requester{Email: "eve@example.com"}}
			}).GetActivityId(), written)
			p := s.preview(t, a.GetActivityId())
			s.mustBeOnTicket(t, p)
			mustEqual(t, "filled", len(p.GetCustomFields()), test.filled)
			var rejected []string
			for _, r := range p.GetRejectedFields() {
				rejected = append(rejected, r.GetKey())
			}
			mustEqual(t, "rejected", rejected, test.rejected)
			refused := strings.HasPrefix(name, "requester")
			if got := p.GetCreatedTicket().GetRequesterPerson() == nil; got != refused {
				t.Errorf("created ticket is %v", p.GetCreatedTicket())
			}
		})
	}
}

// What only helps decides nothing: without the definitions of fields the rest is told.
func TestPreviewWithoutFields(t *testing.T) {
	t.Parallel()
	data := map[string]string{"Score": "5", "Mood": "good"}
	s := newActivityServer(t)
	s.attach(t, "written", data)
	done := s.awaitState(t, s.complete(t, "written", openTickets[0]).GetActivityId(), written)
	onTicket := s.preview(t, done.GetActivityId())
	s.attach(t, "skipped", data)
	skipped := s.complete(t, "skipped", "").GetActivityId()
	was := s.preview(t, skipped)
	mustEqual(t, "action", was.GetTicketAction(), zendeskv1.TicketAction_TICKET_ACTION_NONE)
	mustEqual(t, "filled", len(was.GetCustomFields()), 1) // with the account that a retry would use
	mustEqual(t, "account", was.GetAccount().GetAccountId(), "main")
	s.attach(t, "discarded", data)
	away := s.refuse(t, "discarded", http.StatusNotFound, "main").GetActivityId()
	_, err := s.interactions.DiscardActivity(t.Context(), &zendeskv1.DiscardActivityRequest{ActivityId: away})
	must(t, err)
	mustEqual(t, "reads of the fields", s.asked(http.MethodGet, fieldsPath), 1)

	s.advance(t, 48*time.Hour) // what was read is worth nothing any more
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: fieldsPath, Status: http.StatusForbidden})
	for range 2 { // it is asked once, and not again so soon
		p := s.preview(t, away)
		mustEqual(t, "state", p.GetState(), discarded)
		mustEqual(t, "reason", p.GetFieldsFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED)
		mustEqual(t, "status", p.GetFieldsFailure().GetHttpStatus(), int32(http.StatusForbidden))
		mustEqual(t, "filled and rejected", []int{len(p.GetCustomFields()), len(p.GetRejectedFields())}, []int{0, 2})
		if !strings.Contains(p.GetCommentHtml(), "<b>Score:</b> 5") {
			t.Errorf("comment is %s", p.GetCommentHtml())
		}
	}
	mustEqual(t, "reads of the fields", s.asked(http.MethodGet, fieldsPath), 2)
	again := s.preview(t, done.GetActivityId())
	mustEqual(t, "comment of what is written", again.GetCommentHtml(), onTicket.GetCommentHtml())
	mustEqual(t, "fields of what is written", again.GetCustomFields(), []*zendeskv1.FilledField{{Key: "Score"}})
	mustEqual(t, "rejected of what is written", again.GetRejectedFields(), done.GetRejectedFields())

	_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: "main"})
	must(t, err)
	gone := s.preview(t, skipped)
	mustEqual(t, "account that is gone", gone.GetAccount(), (*zendeskv1.AccountUse)(nil))
	mustEqual(t, "reason", gone.GetFieldsFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)
	mustEqual(t, "reads of the fields", s.asked(http.MethodGet, fieldsPath), 2)
}

func TestPreviewBadInput(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	_, err := s.interactions.PreviewActivity(t.Context(), &zendeskv1.PreviewActivityRequest{})
	mustViolate(t, err, "activity_id")
	_, err = s.interactions.PreviewActivity(t.Context(), &zendeskv1.PreviewActivityRequest{ActivityId: "none"})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND)
	// Nothing attached: nothing is asked.
	id := s.complete(t, "call-1", "").GetActivityId()
	if p := s.preview(t, id); p.GetCommentHtml() == "" || p.GetFieldsFailure() != nil || s.asked(http.MethodGet, fieldsPath) > 0 {
		t.Errorf("preview is %v", p)
	}
}
