package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// awaitThroughTries waits until an activity is no longer pending, and moves the clock whenever it waits.
func (s *activityServer) awaitThroughTries(t testing.TB, id string) *zendeskv1.Activity {
	t.Helper()
	for tries := int32(1); ; tries++ {
		a := s.await(t, id, func(a *zendeskv1.Activity) bool { return a.GetState() != pending || a.GetAttempts() >= tries })
		if a.GetState() != pending {
			return a
		}
		tries = max(tries, a.GetAttempts())
		s.advance(t, longEnough)
	}
}

// watched is an activityServer whose account "main" reaches its Zendesk through a proxy that tells of each request before it
// is answered.
func watched(t *testing.T, before func(s *activityServer, r *http.Request)) *activityServer {
	t.Helper()
	var s *activityServer
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before(s, r)
		s.zendesk.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	s = newActivityServer(t, func(c *Config, _ *zendesktest.Config) {
		c.AllowHosts = append(c.AllowHosts, strings.TrimPrefix(proxy.URL, "http://"))
	})
	s.account(t, "watched", "Watched", proxy.URL)
	return s
}

func byAccount(id string) func(*zendeskv1.CompleteInteractionRequest) {
	return func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = id }
}

// However late Zendesk acts on a write that it has lost, the history is there once.
func TestLateWritesAreNotDoubled(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 7; at++ {
		t.Run(fmt.Sprintf("before request %d", at), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			lost, since := false, 0
			s := watched(t, func(s *activityServer, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if lost {
					if since++; since == at {
						s.zendesk.Land()
					}
				}
				lost = lost || r.Method == http.MethodPut
			})
			s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Drop: zendesktest.DropBefore, Act: zendesktest.ActAfter, Times: 1})
			a := s.awaitThroughTries(t, s.complete(t, "call-1", openTickets[0], byAccount("watched")).GetActivityId())
			mustEqual(t, "state", a.GetState(), written)
			s.zendesk.Land()
			mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1"})
		})
	}
}

// A server that fails may have acted, whatever it asks for.
func TestFailedServersMayHaveActed(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]zendesktest.Fault{
		"503 with Retry-After": {Status: 503, RetryAfter: "1"},
		"503":                  {Status: 503},
		"500":                  {Status: 500},
		"502 of a gateway":     {Status: 502, Body: new("<html>Bad gateway")},
		"520":                  {Status: 520},
		"408":                  {Status: 408},
		"garbage":              {Body: new("<html>")},
		"cut off":              {Drop: zendesktest.DropBefore},
	} {
		for _, ticket := range []string{openTickets[0], ""} {
			t.Run(name+" "+ticket, func(t *testing.T) {
				t.Parallel()
				s := newActivityServer(t)
				fault.PathPrefix, fault.Act, fault.Times = ticketsPath, zendesktest.ActBefore, 4
				fault.Method = http.MethodPut
				if ticket == "" {
					fault.Method = http.MethodPost
				}
				s.zendesk.AddFault(fault)
				a := s.awaitThroughTries(t, s.complete(t, "call-1", ticket, creating).GetActivityId())
				mustEqual(t, "state", a.GetState(), written)
				mustEqual(t, "interactions", s.interactionsOf(t, a.GetTicketId()), []string{"call-1"})
				var made struct{ Tickets []zendeskTicket }
				s.ask(t, ticketsPath+"?external_id="+s.mark("call-1"), &made)
				if ticket == "" && len(made.Tickets) != 1 {
					t.Errorf("%d tickets were made", len(made.Tickets))
				}
			})
		}
	}
}

// The mark is found whatever the clocks say, and when they change in between.
func TestClocksHideNoMark(t *testing.T) {
	t.Parallel()
	for _, skews := range [][2]time.Duration{{5 * time.Hour, 5 * time.Hour}, {-5 * time.Hour, -5 * time.Hour}, {5 * time.Hour, -5 * time.Hour}, {-5 * time.Hour, 5 * time.Hour}} {
		for _, ticket := range []string{openTickets[0], ""} {
			t.Run(fmt.Sprint(skews, ticket), func(t *testing.T) {
				t.Parallel()
				s := newActivityServer(t)
				s.zendesk.SetSkew(skews[0])
				s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Drop: zendesktest.DropAfter, Times: 1})
				s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPost, PathPrefix: ticketsPath, Drop: zendesktest.DropAfter, Times: 3})
				id := s.complete(t, "call-1", ticket, creating).GetActivityId()
				s.awaitTries(t, id, 1)
				s.zendesk.SetSkew(skews[1])
				a := s.awaitThroughTries(t, id)
				mustEqual(t, "state", a.GetState(), written)
				mustEqual(t, "interactions", s.interactionsOf(t, a.GetTicketId()), []string{"call-1"})
				if told := strings.Contains(s.log.String(), "the clock differs from Zendesk's"); told != (ticket != "") {
					t.Errorf("the log tells of the clock: %v", told)
				}
			})
		}
	}
}

// A try's outcome is stored before its ticket is anybody else's: an account that is changed meanwhile changes nothing of that.
func TestThrottleWhileTheAccountIsRenamed(t *testing.T) {
	t.Parallel()
	for round := range 5 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			throttled := make(chan struct{}, 8)
			s := watched(t, func(_ *activityServer, r *http.Request) {
				if r.Method == http.MethodPut {
					throttled <- struct{}{}
				}
			})
			put := zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Times: 1}
			first, second := put, put
			first.Status, first.RetryAfter, first.Delay = 429, "1", 50*time.Millisecond
			second.Drop = zendesktest.DropAfter
			s.zendesk.AddFault(first)
			s.zendesk.AddFault(second)
			id := s.complete(t, "call-1", openTickets[0], byAccount("watched")).GetActivityId()
			<-throttled
			for i := range 3 {
				_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: "watched", Name: fmt.Sprint("Renamed ", i)}})
				must(t, err)
			}
			mustEqual(t, "state", s.awaitThroughTries(t, id).GetState(), written)
			mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1"})
		})
	}
}

// A retry towards another ticket does not forget the one that may still get the history.
func TestRetryElsewhereWhileTheFirstMayGetIt(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]zendesktest.Act{"written": zendesktest.ActBefore, "written late": zendesktest.ActAfter, "never written": zendesktest.ActNever} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newActivityServer(t)
			s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath + "/" + openTickets[0], Status: 500, Act: act, Times: 1})
			id := s.complete(t, "call-1", openTickets[0]).GetActivityId()
			s.awaitTries(t, id, 1)
			again := s.retry(t, id, openTickets[1])
			mustEqual(t, "ticket", again.GetTicketId(), openTickets[1])
			if again.GetNextAttemptTime() == nil {
				t.Error("it is tried at once, while the first write may take effect")
			}
			s.zendesk.Land()
			s.advance(t, longEnough)
			want := openTickets[0]
			if act == zendesktest.ActNever {
				want = openTickets[1]
			}
			a := s.awaitThroughTries(t, id)
			mustEqual(t, "ticket", a.GetTicketId(), want)
			mustEqual(t, "written", len(s.interactionsOf(t, openTickets[0]))+len(s.interactionsOf(t, openTickets[1])), 1)
			mustEqual(t, "interactions", s.interactionsOf(t, want), []string{"call-1"})
		})
	}
}

func TestMergedTicketIsFollowed(t *testing.T) {
	t.Parallel()
	ids := zendesktest.CallerTickets
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		must(t, s.zendesk.Merge(ids[1], ids[0]))
		must(t, s.zendesk.Merge(ids[2], ids[1]))
		for i, ticket := range ids {
			a := s.awaitState(t, s.complete(t, fmt.Sprint("call-", i), fmt.Sprint(ticket), creating).GetActivityId(), written)
			mustEqual(t, "ticket", a.GetTicketId(), fmt.Sprint(ids[2]))
			rule := zendeskv1.TicketRule_TICKET_RULE_MERGED
			if i == 2 {
				rule = zendeskv1.TicketRule_TICKET_RULE_REQUESTED
			}
			mustEqual(t, "rule", a.GetTicketRule(), rule)
		}
		mustEqual(t, "interactions", s.interactionsOf(t, fmt.Sprint(ids[2])), []string{"call-0", "call-1", "call-2"})
		mustEqual(t, "tickets made", s.asked(http.MethodPost, ticketsPath), 0)
	})
	t.Run("between reading and writing", func(t *testing.T) {
		t.Parallel()
		s := watched(t, func(s *activityServer, r *http.Request) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, openTickets[0]) {
				if err := s.zendesk.Merge(ids[2], ids[1]); err != nil {
					t.Error(err)
				}
			}
		})
		a := s.awaitState(t, s.complete(t, "call-1", openTickets[0], byAccount("watched")).GetActivityId(), written)
		mustEqual(t, "ticket", a.GetTicketId(), openTickets[1])
	})
	t.Run("comments hidden", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		must(t, s.zendesk.Merge(ids[2], ids[1]))
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath + "/" + openTickets[0] + "/comments", Status: 403})
		a := s.awaitState(t, s.complete(t, "call-1", openTickets[0], creating).GetActivityId(), written)
		mustEqual(t, "rule", a.GetTicketRule(), zendeskv1.TicketRule_TICKET_RULE_FOLLOW_UP)
	})
}

func TestFollowUps(t *testing.T) {
	t.Parallel()
	closed := fmt.Sprint(zendesktest.ClosedTicket)
	s := newActivityServer(t)
	var made string
	for i := range 4 {
		a := s.awaitState(t, s.complete(t, fmt.Sprint("call-", i), closed, creating).GetActivityId(), written)
		if made == "" {
			made = a.GetTicketId()
		}
		mustEqual(t, "ticket", a.GetTicketId(), made)
		mustEqual(t, "rule", a.GetTicketRule(), zendeskv1.TicketRule_TICKET_RULE_FOLLOW_UP)
	}
	mustEqual(t, "interactions", s.interactionsOf(t, made), []string{"call-0", "call-1", "call-2", "call-3"})
	mustEqual(t, "requester", s.ticket(t, made).RequesterID, s.ticket(t, closed).RequesterID)
	// Completed at one time, they find one another too.
	s = newActivityServer(t)
	var ids []string
	for i := range 4 {
		ids = append(ids, s.complete(t, fmt.Sprint("call-", i), closed, creating).GetActivityId())
	}
	for _, id := range ids {
		s.awaitState(t, id, written)
	}
	mustEqual(t, "tickets made", s.asked(http.MethodPost, ticketsPath), 1)
}

func TestRefusedPartsAreLeftOut(t *testing.T) {
	t.Parallel()
	refusal := func(field, text string) *string {
		return new(fmt.Sprintf(`{"error":"RecordInvalid","description":"Record validation errors","details":{%q:[{"description":%q,"error":"InvalidValue"}]}}`, field, text))
	}
	t.Run("a suspended requester", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPost, PathPrefix: ticketsPath, Status: 422, Body: refusal("requester", "Requester: Maria is suspended."), Times: 1})
		a := s.complete(t, "call-1", "", creating, func(r *zendeskv1.CompleteInteractionRequest) {
			r.Details = &zendeskv1.ActivityDetails{Channel: "call", FromAddress: "+15135557611", Requester: &zendeskv1.Requester{Name: "Kim", Email: "kim@example.com8050262430"}}
		})
		a = s.awaitState(t, a.GetActivityId(), written)
		if r := a.GetRejectedFields(); len(r) != 1 || r[0].GetKey() != "requester" || !strings.Contains(r[0].GetReason(), "suspended") {
			t.Errorf("rejected fields are %v", r)
		}
		said := fmt.Sprint(s.audits(t, a.GetTicketId())[0].Events)
		for _, want := range []string{"Kim", "kim@example.com8050262430", "+1 513-555-7611"} {
			if !strings.Contains(said, want) {
				t.Errorf("comment %q does not say %q", said, want)
			}
		}
		mustEqual(t, "requester", s.ticket(t, a.GetTicketId()).RequesterID, zendesktest.Admin.ID)
	})
	t.Run("one of two fields", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Status: 422, Body: refusal(fmt.Sprint("custom_fields.", zendesktest.ScoreField), "Score: no"), Times: 1})
		s.attach(t, "call-1", map[string]string{"Disposition": "Sale", "Score": "5"})
		a := s.awaitState(t, s.complete(t, "call-1", openTickets[0]).GetActivityId(), written)
		if r := a.GetRejectedFields(); len(r) != 1 || r[0].GetKey() != "Score" {
			t.Errorf("rejected fields are %v", r)
		}
		mustEqual(t, "disposition", s.ticket(t, openTickets[0]).field(zendesktest.DispositionField), any("sale"))
		if said := fmt.Sprint(s.audits(t, openTickets[0])[0].Events); !strings.Contains(said, "Score: 5") {
			t.Errorf("comment %q lacks the score", said)
		}
	})
	t.Run("a field that solved tickets need", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		must(t, s.zendesk.RequireField(zendesktest.ScoreField, true))
		a := s.awaitState(t, s.complete(t, "call-1", fmt.Sprint(zendesktest.CallerTickets[0]), creating).GetActivityId(), dead)
		if m := a.GetFailure().GetMessage(); !strings.Contains(m, "Score") || !strings.Contains(m, strconv.FormatInt(zendesktest.ScoreField, 10)) {
			t.Errorf("message %q does not name the field", m)
		}
		mustEqual(t, "tickets made", s.asked(http.MethodPost, ticketsPath), 0)
	})
	t.Run("a status that is not closed", func(t *testing.T) {
		t.Parallel()
		s := newActivityServer(t)
		s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath, Status: 422, Body: refusal("status", "Status: needs an assignee")})
		a := s.awaitState(t, s.complete(t, "call-1", openTickets[0], creating).GetActivityId(), dead)
		if m := a.GetFailure().GetMessage(); !strings.Contains(m, "needs an assignee") {
			t.Errorf("message is %q", m)
		}
		mustEqual(t, "tickets made", s.asked(http.MethodPost, ticketsPath), 0)
	})
}

// Two tickets that fail by themselves cost the others nothing, and are not asked again and again.
func TestBadTicketsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	var made []string
	for i := range 22 {
		a := s.awaitState(t, s.complete(t, fmt.Sprint("made-", i), "", creating).GetActivityId(), written)
		made = append(made, a.GetTicketId())
	}
	bad := made[:2]
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath + "/" + bad[0], Status: 403})
	s.zendesk.AddFault(zendesktest.Fault{Method: http.MethodPut, PathPrefix: ticketsPath + "/" + bad[1], Status: 500})
	var ids []string
	for i, ticket := range made {
		ids = append(ids, s.complete(t, fmt.Sprint("call-", i), ticket).GetActivityId())
	}
	for _, id := range ids[2:] {
		s.awaitState(t, id, written)
	}
	for _, id := range ids[:2] {
		s.await(t, id, func(a *zendeskv1.Activity) bool { return a.GetState() == pending && a.GetBlockedBy() != 0 })
	}
	// Alone, they hold their account no more, and are tried ever less often.
	for range 12 {
		s.advance(t, longEnough)
		for _, id := range ids[:2] {
			tries := s.activity(t, id).GetAttempts()
			s.await(t, id, func(a *zendeskv1.Activity) bool { return a.GetAttempts() > tries || a.GetAttempts() > 8 })
		}
	}
	for i, id := range ids[:2] {
		a := s.activity(t, id)
		if a.GetState() != pending || a.GetAttempts() > 40 {
			t.Errorf("activity of a bad ticket is %v", a)
		}
		mustEqual(t, "written to "+bad[i], slices.Contains(s.interactionsOf(t, bad[1]), fmt.Sprint("call-", i)), false)
	}
	s.awaitState(t, s.complete(t, "last", made[5]).GetActivityId(), written)
}

// Zendesk allows few updates of one ticket: that is the ticket's limit, and others go on.
func TestThrottledTicketHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t, func(_ *Config, z *zendesktest.Config) { z.TicketUpdateLimit = 2 })
	var ids []string
	for i := range 3 {
		ids = append(ids, s.complete(t, fmt.Sprint("call-", i), openTickets[0]).GetActivityId())
	}
	a := s.awaitTries(t, ids[2], 1)
	mustEqual(t, "blocked by", a.GetBlockedBy(), zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED)
	if wait := time.Until(a.GetNextAttemptTime().AsTime()); wait < 5*time.Minute {
		t.Errorf("it is tried again after %v", wait)
	}
	for i := range 2 {
		s.awaitState(t, s.complete(t, fmt.Sprint("other-", i), openTickets[1]).GetActivityId(), written)
	}
	s.advance(t, 20*time.Minute)
	s.awaitState(t, ids[2], written)
}

// The log tells once that an account is held, and once that it goes on.
func TestLogTellsOfAHold(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Status: 401})
	first := s.complete(t, "call-1", openTickets[0]).GetActivityId()
	s.awaitTries(t, first, 1)
	for range 3 {
		tries := s.activity(t, first).GetAttempts()
		s.advance(t, longEnough)
		s.awaitTries(t, first, tries+1)
	}
	s.zendesk.ClearFaults()
	s.advance(t, longEnough)
	s.awaitState(t, first, written)
	s.awaitState(t, s.complete(t, "call-2", "12345").GetActivityId(), dead)
	for _, message := range []string{"account's activities are held", "account's activities go on"} {
		mustEqual(t, message, strings.Count(s.log.String(), message), 1)
	}
	for _, line := range s.log.lines(t) {
		if line["msg"] == "activity cannot be written" && (line["ticket_id"] != "12345" || line["message"] == "") {
			t.Errorf("the line does not say which ticket, and why: %v", line)
		}
	}
}

// Accounts whose Zendesk hangs cost a healthy one nothing.
func TestHangingAccountsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	other, reach := otherZendesk(t)
	s := newActivityServer(t, reach, func(c *Config, _ *zendesktest.Config) { c.DrainTimeout = time.Millisecond })
	const accounts = 50
	for i := range accounts {
		id := fmt.Sprint("hung-", i)
		s.account(t, id, "Hung "+id, other.Origin())
	}
	other.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Delay: time.Hour})
	for i := range accounts {
		for j := range 4 {
			s.complete(t, fmt.Sprintf("hung-%d-%d", i, j), openTickets[j%2], byAccount(fmt.Sprint("hung-", i)))
		}
	}
	for i := range 20 {
		s.awaitState(t, s.complete(t, fmt.Sprint("healthy-", i), openTickets[i%2]).GetActivityId(), written)
	}
	// Not one of the others has come to an end in the meantime, so that none made room.
	for _, a := range s.list(t, func(r *zendeskv1.ListActivitiesRequest) { r.PageSize = 200 }) {
		if strings.HasPrefix(a.GetInteractionId(), "hung") && a.GetAttempts() > 0 {
			t.Fatalf("%s was tried to the end", a.GetInteractionId())
		}
	}
}

// One activity that cannot be read costs the others nothing.
func TestUnreadableActivityIsSetAside(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: ticketsPath, Status: 429, RetryAfter: "3600"})
	var ids []string
	for i := range 3 {
		ids = append(ids, s.complete(t, fmt.Sprint("call-", i), openTickets[0]).GetActivityId())
	}
	s.awaitTries(t, ids[0], 1)
	s.stop()
	damage(t, filepath.Join(s.dir, "data.db"), ids[0])
	s.zendesk.ClearFaults()
	s.start(t)
	s.advance(t, longEnough)
	for _, id := range ids[1:] {
		s.awaitState(t, id, written)
	}
	mustEqual(t, "interactions", s.interactionsOf(t, openTickets[0]), []string{"call-1", "call-2"})
	if !strings.Contains(s.log.String(), "activity could not be read, and is set aside") {
		t.Error("the log does not tell of it")
	}
}

// damage spoils the value of an activity in a data file.
func damage(t *testing.T, path, activity string) {
	t.Helper()
	engine, err := boltkv.Open(path)
	must(t, err)
	var found []byte
	must(t, engine.View(context.Background(), func(r kv.Reader) error {
		at := kv.Range{}
		for {
			entries, _, err := r.Scan(at)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if len(e.Value) > 0 && strings.Contains(string(e.Key), activity) {
					found = e.Key
				}
			}
			if len(entries) == 0 {
				return nil
			}
			at.Start = kv.After(entries[len(entries)-1].Key)
		}
	}))
	if found == nil {
		t.Fatal("the activity is not in the file")
	}
	must(t, engine.Update(context.Background(), func(txn kv.Txn) error {
		txn.Put(found, []byte("damaged"))
		return nil
	}))
	must(t, engine.Close())
}
