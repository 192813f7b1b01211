package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	pending   = zendeskv1.ActivityState_ACTIVITY_STATE_PENDING
	written   = zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN
	noTicket  = zendeskv1.ActivityState_ACTIVITY_STATE_SKIPPED
	dead      = zendeskv1.ActivityState_ACTIVITY_STATE_DEAD
	discarded = zendeskv1.ActivityState_ACTIVITY_STATE_DISCARDED

	ticketsPath = "/api/v2/tickets"
	longEnough  = time.Hour // longer than any hold
)

// tickets that are open in the fake Zendesk, as texts.
var openTickets = []string{fmt.Sprint(zendesktest.CallerTickets[1]), fmt.Sprint(zendesktest.CallerTickets[2])}

// activityServer is a testServer whose writer is told when the clock moves, and which is waited for through its log.
type activityServer struct {
	*testServer
	moved chan struct{}
	told  *told
}

// newActivityServer starts a service with one account, "main", for the fake Zendesk.
func newActivityServer(t testing.TB, adjust ...func(*Config, *zendesktest.Config)) *activityServer {
	t.Helper()
	s := &activityServer{moved: make(chan struct{}), told: &told{next: make(chan struct{})}}
	s.testServer = newBlockServer(t, append(adjust, func(c *Config, _ *zendesktest.Config) {
		c.clockMoved = s.moved
		c.Log = slog.New(&toldHandler{c.Log.Handler(), s.told})
	})...)
	return s
}

// told tells of what the log says of activities.
type told struct {
	mu   sync.Mutex
	next chan struct{} // closed with the next line
}

func (l *told) line() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

type toldHandler struct {
	slog.Handler
	told *told
}

// Handle implements slog.Handler.
func (h *toldHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if strings.HasPrefix(r.Message, "activity") {
		h.told.mu.Lock()
		close(h.told.next)
		h.told.next = make(chan struct{})
		h.told.mu.Unlock()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h *toldHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &toldHandler{h.Handler.WithAttrs(attrs), h.told}
}

// advance moves the clock, and tells the writer.
func (s *activityServer) advance(t testing.TB, d time.Duration) {
	t.Helper()
	s.clock.advance(d)
	select {
	case s.moved <- struct{}{}:
	case <-time.After(time.Minute):
		t.Fatal("the writer does not run")
	}
}

// complete completes an interaction with a ticket; an empty one is none.
func (s *activityServer) complete(t testing.TB, interaction, ticket string, change ...func(*zendeskv1.CompleteInteractionRequest)) *zendeskv1.Activity {
	t.Helper()
	req := &zendeskv1.CompleteInteractionRequest{InteractionId: interaction, TicketId: ticket}
	for _, f := range change {
		f(req)
	}
	resp, err := s.interactions.CompleteInteraction(t.Context(), req)
	must(t, err)
	return resp.GetActivity()
}

func creating(req *zendeskv1.CompleteInteractionRequest) {
	req.IfNoTicket = zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE
}

func (s *activityServer) activity(t testing.TB, id string) *zendeskv1.Activity {
	t.Helper()
	resp, err := s.interactions.GetActivity(t.Context(), &zendeskv1.GetActivityRequest{ActivityId: id})
	must(t, err)
	return resp.GetActivity()
}

// await waits until an activity is as wanted.
func (s *activityServer) await(t testing.TB, id string, wanted func(*zendeskv1.Activity) bool) *zendeskv1.Activity {
	t.Helper()
	givenUp := time.After(time.Minute)
	for {
		line := s.told.line()
		a := s.activity(t, id)
		if wanted(a) {
			return a
		}
		select {
		case <-line:
		case <-givenUp:
			t.Fatalf("activity is %v", a)
		}
	}
}

func (s *activityServer) awaitState(t testing.TB, id string, state zendeskv1.ActivityState) *zendeskv1.Activity {
	t.Helper()
	return s.await(t, id, func(a *zendeskv1.Activity) bool {
		if a.GetState() != state && a.GetState() != pending {
			t.Fatalf("activity is %v, want %v", a, state)
		}
		return a.GetState() == state
	})
}

// awaitTries waits until an activity has been tried that often and still waits.
func (s *activityServer) awaitTries(t testing.TB, id string, tries int32) *zendeskv1.Activity {
	t.Helper()
	return s.await(t, id, func(a *zendeskv1.Activity) bool { return a.GetState() == pending && a.GetAttempts() >= tries })
}

// markKey is where a mark stands in an audit's metadata.
const markKey = "zendeskblocks"

// ticketAudit is what the fake Zendesk says of a change of a ticket.
type ticketAudit struct {
	ID       int64
	Metadata struct{ Custom map[string]string }
	Events   []struct {
		Type     string
		Body     string
		HTMLBody string `json:"html_body"`
		Public   *bool
	}
}

// ask reads from the fake Zendesk itself. It leaves a trace among its requests.
func (s *activityServer) ask(t testing.TB, path string, answer any) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
	recorder := httptest.NewRecorder()
	s.zendesk.ServeHTTP(recorder, req)
	if recorder.Code != http.StatusOK {
		t.Fatalf("GET %s: status %d: %s", path, recorder.Code, recorder.Body)
	}
	must(t, json.Unmarshal(recorder.Body.Bytes(), answer))
}

// audits returns those audits of a ticket that bear a mark, oldest first.
func (s *activityServer) audits(t testing.TB, ticket string) []ticketAudit {
	t.Helper()
	var answer struct{ Audits []ticketAudit }
	s.ask(t, ticketsPath+"/"+ticket+"/audits?per_page=100", &answer)
	return slices.DeleteFunc(answer.Audits, func(a ticketAudit) bool { return a.Metadata.Custom[markKey] == "" })
}

// interactionsOf returns the interactions whose marks a ticket's audits bear, in their order.
func (s *activityServer) interactionsOf(t testing.TB, ticket string) []string {
	t.Helper()
	var ids []string
	for _, a := range s.audits(t, ticket) {
		ids = append(ids, a.Metadata.Custom[markKey][strings.LastIndexByte(a.Metadata.Custom[markKey], ':')+1:])
	}
	return ids
}

type zendeskTicket struct {
	ID           int64
	Subject      string
	ExternalID   string `json:"external_id"`
	RequesterID  int64  `json:"requester_id"`
	Status       string
	FollowupIDs  []int64 `json:"followup_ids"`
	CustomFields []struct {
		ID    int64
		Value any
	} `json:"custom_fields"`
}

func (s *activityServer) ticket(t testing.TB, id string) zendeskTicket {
	t.Helper()
	var answer struct{ Ticket zendeskTicket }
	s.ask(t, ticketsPath+"/"+id, &answer)
	return answer.Ticket
}

func (z zendeskTicket) field(id int64) any {
	for _, f := range z.CustomFields {
		if f.ID == id {
			return f.Value
		}
	}
	return nil
}

// asked counts the requests that Zendesk got.
func (s *activityServer) asked(method, pathPrefix string) int {
	n := 0
	for _, r := range s.zendesk.Requests() {
		if r.Method == method && strings.HasPrefix(r.Path, pathPrefix) {
			n++
		}
	}
	return n
}

func (s *activityServer) mark(interaction string) string {
	return "zendeskblocks:" + s.store.InstanceID() + ":default:" + interaction
}

func TestActivityIsWrittenToItsTicket(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.attach(t, "call-1", map[string]string{
		"Disposition": "Sale", strconv.FormatInt(zendesktest.TalkTimeField, 10): "272", "Callback date": "soon", "Mood": "good",
	})
	a := s.complete(t, "call-1", openTickets[0], func(r *zendeskv1.CompleteInteractionRequest) {
		r.Details = &zendeskv1.ActivityDetails{Notes: "Wants a second line."}
	})
	if a.GetState() != pending || a.GetTicketRule() != zendeskv1.TicketRule_TICKET_RULE_REQUESTED {
		t.Errorf("completed activity is %v", a)
	}
	a = s.awaitState(t, a.GetActivityId(), written)
	if a.GetAttempts() != 1 || a.GetFailure() != nil || a.GetWriteTime() == nil || a.GetNextAttemptTime() != nil {
		t.Errorf("written activity is %v", a)
	}
	var rejected []string
	for _, r := range a.GetRejectedFields() {
		rejected = append(rejected, r.GetKey())
	}
	mustEqual(t, "rejected fields", rejected, []string{"Callback date", "Mood"})

	audits := s.audits(t, openTickets[0])
	if len(audits) != 1 || fmt.Sprint(audits[0].ID) != a.GetAuditId() {
		t.Fatalf("audits are %v, want only %s", audits, a.GetAuditId())
	}
	mustEqual(t, "metadata", audits[0].Metadata.Custom, map[string]string{markKey: s.mark("call-1")})
	comments := 0
	for _, e := range audits[0].Events {
		if e.Type != "Comment" {
			continue
		}
		comments++
		if e.Public == nil || *e.Public || !strings.Contains(e.Body, "Wants a second line.") || !strings.Contains(e.Body, "soon") || !strings.Contains(e.Body, "good") {
			t.Errorf("comment is %v", e)
		}
	}
	if comments != 1 {
		t.Errorf("audit has %d comments, want 1", comments)
	}
	ticket := s.ticket(t, openTickets[0])
	mustEqual(t, "disposition", ticket.field(zendesktest.DispositionField), any("sale"))
	mustEqual(t, "talk time", fmt.Sprint(ticket.field(zendesktest.TalkTimeField)), "272")
	if n := s.asked(http.MethodPut, ticketsPath); n != 1 {
		t.Errorf("ticket was written to %d times", n)
	}
}

func TestSilentlyDroppedFieldsAreTold(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	// The definitions say that the field takes any text; Zendesk thinks otherwise.
	fields := fmt.Sprintf(`{"ticket_fields":[{"id":%d,"type":"text","title":"Score","active":true,"removable":true}],"meta":{"has_more":false}}`, zendesktest.ScoreField)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/ticket_fields", Body: &fields})
	s.attach(t, "call-1", map[string]string{"Score": "very high"})
	a := s.awaitState(t, s.complete(t, "call-1", openTickets[0]).GetActivityId(), written)
	if len(a.GetRejectedFields()) != 1 || !strings.Contains(a.GetRejectedFields()[0].GetReason(), strconv.FormatInt(zendesktest.ScoreField, 10)) {
		t.Errorf("rejected fields are %v, want the warning of Zendesk", a.GetRejectedFields())
	}
}

// A value that Zendesk takes exception to must not keep the history out of the ticket.
func TestRefusedFieldsStandInTheComment(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method, ticket string
	}{
		"update": {http.MethodPut, openTickets[0]},
		"create": {http.MethodPost, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			refusal := `{"error":"RecordInvalid","description":"Record validation errors","details":{"base":[{"description":"Disposition: is not allowed","error":"InvalidValue"}]}}`
			s.zendesk.AddFault(zendesktest.Fault{Method: test.method, PathPrefix: ticketsPath, Status: http.StatusUnprocessableEntity, Body: &refusal, Times: 1})
			s.attach(t, "call-1", map[string]string{"Disposition": "Sale"})
			a := s.awaitState(t, s.complete(t, "call-1", test.ticket, creating).GetActivityId(), written)
			if r := a.GetRejectedFields(); len(r) != 1 || r[0].GetKey() != "Disposition" {
				t.Errorf("rejected fields are %v, want Disposition", r)
			}
			audits := s.audits(t, a.GetTicketId())
			if len(audits) != 1 || !strings.Contains(fmt.Sprint(audits[0].Events), "Disposition: Sale") {
				t.Errorf("audits are %v, want one with the value in its comment", audits)
			}
		})
	}
}

func TestTicketIsCreatedForAnActivity(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		requester *zendeskv1.Requester
		want      int64 // 0: a new person
	}{
		"credential's user": {want: zendesktest.Admin.ID},
		"known requester":   {requester: &zendeskv1.Requester{Name: "M", Email: zendesktest.Caller.Email}, want: zendesktest.Caller.ID},
		"new requester":     {requester: &zendeskv1.Requester{Name: "New Person", Email: "new.person@example.com"}},
		"without an e-mail": {requester: &zendeskv1.Requester{Name: "Anyone"}, want: zendesktest.Admin.ID},
		"without a name":    {requester: &zendeskv1.Requester{Email: "nameless@example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			a := s.complete(t, "call-1", "", creating, func(r *zendeskv1.CompleteInteractionRequest) {
				r.Details = &zendeskv1.ActivityDetails{FromAddress: "+1 513-555-0199", Requester: tt.requester}
			})
			if a.GetTicketId() != "" || a.GetTicketRule() != zendeskv1.TicketRule_TICKET_RULE_CREATED {
				t.Errorf("completed activity is %v", a)
			}
			a = s.awaitState(t, a.GetActivityId(), written)
			ticket := s.ticket(t, a.GetTicketId())
			mustEqual(t, "external id", ticket.ExternalID, s.mark("call-1"))
			if tt.want != 0 {
				mustEqual(t, "requester", ticket.RequesterID, tt.want)
			} else if ticket.RequesterID == zendesktest.Admin.ID {
				t.Error("requester is the credential's user")
			}
			audits := s.audits(t, a.GetTicketId())
			if len(audits) != 1 || fmt.Sprint(audits[0].ID) != a.GetAuditId() || audits[0].Events[0].Public == nil || *audits[0].Events[0].Public {
				t.Errorf("audits are %v, want a private %s", audits, a.GetAuditId())
			}
		})
	}
}

func TestClosedTicketIsFollowedUp(t *testing.T) {
	t.Parallel()
	closed := fmt.Sprint(zendesktest.ClosedTicket)
	t.Run("with CREATE", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		first := s.complete(t, "call-1", closed, creating)
		a := s.awaitState(t, first.GetActivityId(), written)
		if a.GetTicketRule() != zendeskv1.TicketRule_TICKET_RULE_FOLLOW_UP || a.GetTicketId() == closed {
			t.Errorf("activity is %v", a)
		}
		if made := s.ticket(t, closed).FollowupIDs; len(made) != 1 || fmt.Sprint(made[0]) != a.GetTicketId() {
			t.Errorf("follow-ups are %v, want %s", made, a.GetTicketId())
		}
		mustEqual(t, "interactions", s.interactionsOf(t, a.GetTicketId()), []string{"call-1"})
		// The repeat tells of the same activity.
		mustEqual(t, "repeat", s.complete(t, "call-1", closed, creating).GetActivityId(), a.GetActivityId())
	})
	t.Run("with SKIP", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		a := s.awaitState(t, s.complete(t, "call-1", closed).GetActivityId(), dead)
		mustEqual(t, "reason", a.GetFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
		mustEqual(t, "written", s.asked(http.MethodPut, ticketsPath)+s.asked(http.MethodPost, ticketsPath), 0)
	})
	t.Run("closed between reading and writing", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		open := fmt.Sprintf(`{"ticket":{"id":%s,"status":"solved","updated_at":%q}}`, closed, time.Now().UTC().Format(time.RFC3339))
		s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodGet, PathPrefix: ticketsPath + "/" + closed, Body: &open, Times: 1})
		a := s.awaitState(t, s.complete(t, "call-1", closed, creating).GetActivityId(), written)
		mustEqual(t, "rule", a.GetTicketRule(), zendeskv1.TicketRule_TICKET_RULE_FOLLOW_UP)
		mustEqual(t, "interactions", s.interactionsOf(t, a.GetTicketId()), []string{"call-1"})
	})
}

func TestRefusedActivityIsDead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault  zendesktest.Fault
		ticket string
		reason zendeskv1.FailureReason
	}{
		"400":                 {zendesktest.Fault{Method: http.MethodPut, Status: 400}, openTickets[0], zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		"422":                 {zendesktest.Fault{Method: http.MethodPut, Status: 422}, openTickets[0], zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		"404":                 {zendesktest.Fault{Method: http.MethodPut, Status: 404}, openTickets[0], zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND},
		"422 of a new ticket": {zendesktest.Fault{Method: http.MethodPost, Status: 422}, "", zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		"no such ticket":      {zendesktest.Fault{PathPrefix: "/none"}, "12345", zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			s.zendesk.AddFault(tt.fault)
			a := s.awaitState(t, s.complete(t, "call-1", tt.ticket, creating).GetActivityId(), dead)
			if f := a.GetFailure(); f.GetReason() != tt.reason || f.GetMessage() == "" || a.GetAttempts() != 1 || a.GetBlockedBy() != 0 {
				t.Errorf("dead activity is %v", a)
			}
			// It holds nothing up.
			s.zendesk.ClearFaults()
			s.awaitState(t, s.complete(t, "call-2", openTickets[0]).GetActivityId(), written)
			mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-2"})
		})
	}
}

func TestTroubleHoldsTheAccount(t *testing.T) {
	t.Parallel()
	maintenance := "<html>maintenance</html>"
	for name, tt := range map[string]struct {
		fault  zendesktest.Fault
		reason zendeskv1.FailureReason
	}{
		"401":                {zendesktest.Fault{Status: 401}, zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED},
		"403":                {zendesktest.Fault{Status: 403}, zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED},
		"403 of the write":   {zendesktest.Fault{Method: http.MethodPut, Status: 403}, zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED},
		"429":                {zendesktest.Fault{Status: 429, RetryAfter: "600"}, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED},
		"429 of the write":   {zendesktest.Fault{Method: http.MethodPut, Status: 429, RetryAfter: "600"}, zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED},
		"500":                {zendesktest.Fault{Status: 500}, zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE},
		"500 of the write":   {zendesktest.Fault{Method: http.MethodPut, Status: 500}, zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE},
		"503":                {zendesktest.Fault{Status: 503}, zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE},
		"time-out":           {zendesktest.Fault{Method: http.MethodPut, Status: 408}, zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT},
		"connection cut":     {zendesktest.Fault{Drop: zendesktest.DropBefore}, zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE},
		"maintenance page":   {zendesktest.Fault{Body: &maintenance}, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE},
		"404 without a code": {zendesktest.Fault{Status: 404, Body: &maintenance}, zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other, reach := otherZendesk(t)
			s := newActivityServer(t, reach)
			s.account(t, "other", "Other", other.Origin())
			tt.fault.PathPrefix = ticketsPath
			s.zendesk.AddFault(tt.fault)
			a := s.awaitTries(t, s.complete(t, "call-1", openTickets[0]).GetActivityId(), 1)
			if a.GetBlockedBy() != tt.reason || a.GetFailure().GetReason() != tt.reason || a.GetNextAttemptTime() == nil {
				t.Errorf("held activity is %v", a)
			}
			b := s.complete(t, "call-2", openTickets[1])
			// Another account goes on.
			s.awaitState(t, s.complete(t, "call-3", openTickets[0], func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = "other" }).GetActivityId(), written)
			mustEqual(t, "state while held", s.activity(t, b.GetActivityId()).GetState(), pending)
			s.zendesk.ClearFaults()
			s.advance(t, longEnough)
			for i, id := range []string{a.GetActivityId(), b.GetActivityId()} {
				done := s.awaitState(t, id, written)
				if done.GetFailure() != nil || done.GetBlockedBy() != 0 || done.GetNextAttemptTime() != nil {
					t.Errorf("written activity is %v", done)
				}
				mustEqual(t, "interactions", s.interactionsOf(t, openTickets[i]), []string{fmt.Sprintf("call-%d", i+1)})
			}
		})
	}
}

func TestOneProbeWhileHeld(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Status: 429, RetryAfter: "600"})
	first := s.complete(t, "call-0", openTickets[0])
	s.awaitTries(t, first.GetActivityId(), 1)
	ids := []string{first.GetActivityId()}
	for i := range 10 {
		ids = append(ids, s.complete(t, fmt.Sprintf("call-%d", i+1), fmt.Sprint(zendesktest.CallerTickets[i%3])).GetActivityId())
	}
	before := s.asked(http.MethodGet, ticketsPath)
	mustEqual(t, "requests before the hold", before, 1)
	for probe := 1; probe <= 3; probe++ {
		s.advance(t, 20*time.Minute) // Retry-After, and the longest backoff
		s.await(t, ids[0], func(*zendeskv1.Activity) bool {
			var tries int32
			for _, id := range ids {
				tries += s.activity(t, id).GetAttempts()
			}
			return tries == int32(1+probe)
		})
		mustEqual(t, "requests after a probe", s.asked(http.MethodGet, ticketsPath), 1+probe)
	}
	if a := s.activity(t, ids[5]); a.GetBlockedBy() != zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED || a.GetNextAttemptTime() == nil {
		t.Errorf("activity behind the hold is %v", a)
	}
	s.zendesk.ClearFaults()
	s.advance(t, longEnough)
	for _, id := range ids {
		s.awaitState(t, id, written)
	}
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-0", "call-2", "call-5", "call-8"})
}

func TestHoldEndsWithTheCredentialsTrouble(t *testing.T) {
	t.Parallel()
	for name, cure := range map[string]func(*testing.T, *activityServer){
		"UpdateAccount": func(t *testing.T, s *activityServer) {
			_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{
				AccountId: "main", ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Agent.Email, Token: zendesktest.Agent.APIToken},
			}})
			must(t, err)
		},
		"RequestToken": func(t *testing.T, s *activityServer) {
			_, err := s.accounts.RequestToken(t.Context(), &zendeskv1.RequestTokenRequest{
				AccountId: "main", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret,
			})
			must(t, err)
		},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %t", name, restarted), func(t *testing.T) {
				t.Parallel()
				s := newActivityServer(t)
				s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Status: 401})
				var ids []string
				for i := range 4 {
					ids = append(ids, s.complete(t, fmt.Sprintf("call-%d", i), openTickets[i%2]).GetActivityId())
				}
				s.awaitTries(t, ids[0], 1)
				if restarted {
					s.restart(t)
					s.awaitTries(t, ids[0], 1)
				}
				s.zendesk.ClearFaults()
				cure(t, s)
				for _, id := range ids {
					s.awaitState(t, id, written)
				}
				mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-0", "call-2"})
				mustEqual(t, "interactions", s.interactionsOf(t, openTickets[1]), []string{"call-1", "call-3"})
			})
		}
	}
}

func TestActivityIsWrittenOnce(t *testing.T) {
	t.Parallel()
	put := func(drop zendesktest.Drop, times int) zendesktest.Fault {
		return zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Drop: drop, Times: times}
	}
	post := func(drop zendesktest.Drop, times int) zendesktest.Fault {
		return zendesktest.Fault{Method: http.MethodPost, PathPrefix: ticketsPath, Drop: drop, Times: times}
	}
	look := func(path string, status int) zendesktest.Fault {
		return zendesktest.Fault{Method: http.MethodGet, PathPrefix: ticketsPath + path, Status: status, Times: 1}
	}
	conflict := `{"error":"UpdateConflict","description":"Safe Update prevented the update"}`
	garbage := "<html>"
	closed := fmt.Sprint(zendesktest.ClosedTicket)
	for name, tt := range map[string]struct {
		ticket string // empty: one is created
		faults []zendesktest.Fault
	}{
		"update dropped before":                         {openTickets[0], []zendesktest.Fault{put(zendesktest.DropBefore, 1)}},
		"update dropped before, thrice":                 {openTickets[0], []zendesktest.Fault{put(zendesktest.DropBefore, 3)}},
		"update dropped after":                          {openTickets[0], []zendesktest.Fault{put(zendesktest.DropAfter, 1)}},
		"update answered by garbage":                    {openTickets[0], []zendesktest.Fault{{Method: http.MethodPut, PathPrefix: ticketsPath, Body: &garbage, Times: 1}}},
		"update answered by 500":                        {openTickets[0], []zendesktest.Fault{{Method: http.MethodPut, PathPrefix: ticketsPath, Status: 500, Times: 1}}},
		"update conflicts":                              {openTickets[0], []zendesktest.Fault{{Method: http.MethodPut, PathPrefix: ticketsPath, Status: 409, Body: &conflict, Times: 2}}},
		"update dropped after, unreadable":              {openTickets[0], []zendesktest.Fault{put(zendesktest.DropAfter, 1), look("/"+openTickets[0]+"/audits", 500)}},
		"update dropped after, throttled":               {openTickets[0], []zendesktest.Fault{put(zendesktest.DropAfter, 1), {Method: http.MethodGet, PathPrefix: ticketsPath + "/" + openTickets[0] + "/audits", Status: 429, RetryAfter: "60", Times: 1}}},
		"update dropped before, then ticket unreadable": {openTickets[0], []zendesktest.Fault{put(zendesktest.DropBefore, 1), look("/"+openTickets[0], 401), look("/"+openTickets[0], 401)}},
		"creation dropped before":                       {"", []zendesktest.Fault{post(zendesktest.DropBefore, 1)}},
		"creation dropped before for long":              {"", []zendesktest.Fault{post(zendesktest.DropBefore, 7)}},
		"creation dropped after":                        {"", []zendesktest.Fault{post(zendesktest.DropAfter, 1)}},
		"creation dropped after for long":               {"", []zendesktest.Fault{post(zendesktest.DropAfter, 3)}},
		"creation dropped after for long, unreadable":   {"", []zendesktest.Fault{post(zendesktest.DropAfter, 3), look("", 500)}},
		"follow-up dropped after for long":              {closed, []zendesktest.Fault{post(zendesktest.DropAfter, 3)}},
		"follow-up dropped before for long":             {closed, []zendesktest.Fault{post(zendesktest.DropBefore, 3)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			for _, f := range tt.faults {
				s.zendesk.AddFault(f)
			}
			a := s.complete(t, "call-1", tt.ticket, creating)
			id := a.GetActivityId()
			for tries := int32(1); a.GetState() == pending; tries++ {
				a = s.await(t, id, func(a *zendeskv1.Activity) bool { return a.GetState() != pending || a.GetAttempts() >= tries })
				if a.GetState() == pending {
					s.advance(t, longEnough)
				}
			}
			a = s.awaitState(t, id, written)
			mustEqual(t, "interactions", s.interactionsOf(t, a.GetTicketId()), []string{"call-1"})
			mustEqual(t, "audit", fmt.Sprint(s.audits(t, a.GetTicketId())[0].ID), a.GetAuditId())
			var made struct{ Tickets []zendeskTicket }
			s.ask(t, ticketsPath+"?external_id="+s.mark("call-1"), &made)
			want := 1
			if tt.ticket == openTickets[0] {
				want = 0
			}
			mustEqual(t, "tickets made", len(made.Tickets), want)
		})
	}
}

func TestOrderOfATicketIsKept(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Drop: zendesktest.DropAfter, Times: 3})
	const each = 12 // fewer than a ticket takes in 10 minutes
	var ids, want []string
	for i := range 2 * each {
		id := fmt.Sprintf("call-%02d", i)
		ids = append(ids, s.complete(t, id, openTickets[i%2]).GetActivityId())
		want = append(want, id)
	}
	for _, id := range ids {
		for a := s.activity(t, id); a.GetState() == pending; {
			tries := a.GetAttempts()
			a = s.await(t, id, func(a *zendeskv1.Activity) bool {
				return a.GetState() != pending || a.GetAttempts() > tries || a.GetBlockedBy() != 0
			})
			if a.GetState() == pending {
				s.advance(t, longEnough)
			}
		}
	}
	for i, ticket := range openTickets {
		var wanted []string
		for j := i; j < len(want); j += 2 {
			wanted = append(wanted, want[j])
		}
		mustEqual(t, "interactions", s.interactionsOf(t, ticket), wanted)
	}
}

// What one caller completes after the reply to what it completed before is written after it.
func TestCompletionsThatRaceAreAllWritten(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	const callers, rounds = 6, 4
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for r := range rounds {
				_, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
					InteractionId: fmt.Sprintf("caller-%d-%d", c, r), TicketId: openTickets[0],
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, a := range s.list(t) {
		s.awaitState(t, a.GetActivityId(), written)
	}
	got := s.interactionsOf(t, openTickets[0])
	mustEqual(t, "activities written", len(got), callers*rounds)
	for c := range callers {
		var own, want []string
		for _, id := range got {
			if strings.HasPrefix(id, fmt.Sprintf("caller-%d-", c)) {
				own = append(own, id)
			}
		}
		for r := range rounds {
			want = append(want, fmt.Sprintf("caller-%d-%d", c, r))
		}
		mustEqual(t, "order of one caller", own, want)
	}
}

func TestDeadActivityIsOvertaken(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Status: 422, Times: 1})
	a := s.awaitState(t, s.complete(t, "call-1", openTickets[0]).GetActivityId(), dead)
	b := s.awaitState(t, s.complete(t, "call-2", openTickets[0]).GetActivityId(), written)
	s.retry(t, a.GetActivityId(), "")
	s.awaitState(t, a.GetActivityId(), written)
	s.awaitState(t, b.GetActivityId(), written)
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-2", "call-1"})
}

func TestTicketIsWrittenToSeldomEnough(t *testing.T) {
	const ticketWrites, ticketWindow = 25, 10 * time.Minute // Zendesk allows 30
	t.Parallel()
	s := newActivityServer(t)
	var ids []string
	for i := range ticketWrites + 3 {
		ids = append(ids, s.complete(t, fmt.Sprintf("call-%02d", i), openTickets[0]).GetActivityId())
	}
	for _, id := range ids[:ticketWrites] {
		s.awaitState(t, id, written)
	}
	// Another ticket of the account goes on.
	s.awaitState(t, s.complete(t, "other", openTickets[1]).GetActivityId(), written)
	for _, id := range ids[ticketWrites:] {
		mustEqual(t, "state of one too many", s.activity(t, id).GetState(), pending)
	}
	mustEqual(t, "written", s.asked(http.MethodPut, ticketsPath+"/"+openTickets[0]), ticketWrites)
	s.advance(t, ticketWindow)
	for _, id := range ids {
		s.awaitState(t, id, written)
	}
	for _, r := range s.zendesk.Requests() {
		if r.Status >= 400 {
			t.Errorf("Zendesk refused %v", r)
		}
	}
}

func TestUnknownKeyReadsTheFieldsOnceMore(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	const fields = "/api/v2/ticket_fields"
	const fieldsFreshFor, fieldsLife = time.Minute, 5 * time.Minute
	step := func(interaction string, data map[string]string, reads int) {
		t.Helper()
		s.attach(t, interaction, data)
		s.awaitState(t, s.complete(t, interaction, openTickets[0]).GetActivityId(), written)
		mustEqual(t, "reads of the fields by "+interaction, s.asked(http.MethodGet, fields), reads)
	}
	step("known", map[string]string{"Score": "1"}, 1)
	step("known-again", map[string]string{"Score": "2"}, 1)
	step("unknown-soon", map[string]string{"Moood": "2"}, 1) // the definitions are new
	s.advance(t, fieldsFreshFor)
	step("unknown", map[string]string{"Moood": "2"}, 2)
	step("unknown-again", map[string]string{"Moood": "2"}, 2)
	s.advance(t, fieldsFreshFor)
	step("known-later", map[string]string{"Score": "3"}, 2)
	s.advance(t, fieldsLife)
	step("known-much-later", map[string]string{"Score": "3"}, 3)
	s.awaitState(t, s.complete(t, "nothing-attached", openTickets[0]).GetActivityId(), written)
	mustEqual(t, "reads of the fields", s.asked(http.MethodGet, fields), 3)
}

// What only helps decides nothing: the history is written, its data in the comment.
func TestUnreadableFieldsStandInTheComment(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault zendesktest.Fault
		waits int32
	}{
		"400":  {zendesktest.Fault{Status: 400}, 0},
		"403":  {zendesktest.Fault{Status: 403}, 0},
		"404":  {zendesktest.Fault{Status: 404}, 0},
		"422":  {zendesktest.Fault{Status: 422}, 0},
		"429":  {zendesktest.Fault{Status: 429, RetryAfter: "3600"}, 1},
		"500":  {zendesktest.Fault{Status: 500}, 1},
		"page": {zendesktest.Fault{Body: new("<html>")}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			tt.fault.PathPrefix = "/api/v2/ticket_fields"
			s.zendesk.AddFault(tt.fault)
			// Nothing says that the limit of all is used up.
			must(t, s.zendesk.SetLimits(zendesktest.Limits{Headers: zendesktest.HeadersNone}))
			s.attach(t, "call-1", map[string]string{"Score": "5"})
			id := s.complete(t, "call-1", openTickets[0]).GetActivityId()
			if tt.waits > 0 {
				s.awaitTries(t, id, tt.waits)
				// Another ticket, without data, does not wait.
				s.awaitState(t, s.complete(t, "call-2", openTickets[1]).GetActivityId(), written)
				s.advance(t, 2*time.Minute)
			}
			a := s.awaitState(t, id, written)
			mustEqual(t, "attempts", a.GetAttempts(), tt.waits+1)
			if r := a.GetRejectedFields(); len(r) != 1 || r[0].GetKey() != "Score" {
				t.Errorf("rejected fields are %v, want Score", r)
			}
			if audits := s.audits(t, openTickets[0]); len(audits) != 1 || !strings.Contains(fmt.Sprint(audits[0].Events), "Score: 5") {
				t.Errorf("audits are %v, want one with the value in its comment", audits)
			}
			s.zendesk.ClearFaults()
			s.advance(t, longEnough)
			s.attach(t, "call-3", map[string]string{"Score": "6"})
			a = s.awaitState(t, s.complete(t, "call-3", openTickets[0]).GetActivityId(), written)
			mustEqual(t, "rejected once fields are readable", len(a.GetRejectedFields()), 0)
		})
	}
}

func TestPendingActivitiesSurviveARestart(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Status: 500})
	var ids, want []string
	for i := range 10 {
		id := fmt.Sprintf("call-%d", i)
		ids, want = append(ids, s.complete(t, id, openTickets[0]).GetActivityId()), append(want, id)
	}
	s.awaitTries(t, ids[0], 1)
	s.restart(t)
	s.restart(t)
	s.zendesk.ClearFaults()
	s.advance(t, longEnough)
	for _, id := range ids {
		s.awaitState(t, id, written)
	}
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), want)
}

func TestWriteThatIsCutByTheDrainIsFoundAgain(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t, func(c *Config, _ *zendesktest.Config) { c.DrainTimeout = time.Millisecond })
	// The write takes effect and its answer never comes.
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Drop: zendesktest.DropAfter, Delay: time.Hour, Times: 1})
	a := s.complete(t, "call-1", openTickets[0])
	for len(s.audits(t, openTickets[0])) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("it is not written")
		}
	}
	s.restart(t)
	s.advance(t, longEnough)
	s.awaitState(t, a.GetActivityId(), written)
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1"})
	mustEqual(t, "writes", s.asked(http.MethodPut, ticketsPath), 1)
}

func TestActivityOfADeletedAccountIsDead(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.createAccount(t, "second", zendesktest.Admin)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Status: 429, RetryAfter: "3600"})
	a := s.complete(t, "call-1", openTickets[0], func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = "second" })
	s.awaitTries(t, a.GetActivityId(), 1)
	s.deleteAccount(t, "second")
	s.createAccount(t, "second", zendesktest.Admin) // another one of the same id
	s.zendesk.ClearFaults()
	a = s.awaitState(t, a.GetActivityId(), dead)
	mustEqual(t, "reason", a.GetFailure().GetReason(), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)
	mustEqual(t, "account", a.GetAccount().GetAccountId(), "second")
	mustEqual(t, "writes", s.asked(http.MethodPut, ticketsPath), 0)
}

// Two accounts for one Zendesk share its tickets: their activities are written in one order.
func TestOrderOfATicketAcrossAccounts(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.createAccount(t, "second", zendesktest.Agent)
	_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{
		AccountId: "main", ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: "wrong"},
	}})
	must(t, err)
	first := s.complete(t, "call-1", openTickets[0])
	s.awaitTries(t, first.GetActivityId(), 1)
	second := s.complete(t, "call-2", openTickets[0], func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = "second" })
	// Another ticket is free.
	s.awaitState(t, s.complete(t, "call-3", openTickets[1], func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = "second" }).GetActivityId(), written)
	mustEqual(t, "state behind the first", s.activity(t, second.GetActivityId()).GetState(), pending)
	_, err = s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{
		AccountId: "main", ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
	}})
	must(t, err)
	s.awaitState(t, first.GetActivityId(), written)
	s.advance(t, longEnough)
	s.awaitState(t, second.GetActivityId(), written)
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1", "call-2"})
}
