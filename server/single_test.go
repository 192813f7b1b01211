package server

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// onAll calls all replicas at once.
func onAll[R any](replicas []*testServer, call func(s *testServer, i int) (R, error)) ([]R, []error) {
	answers, errs := make([]R, len(replicas)), make([]error, len(replicas))
	var group sync.WaitGroup
	for i, s := range replicas {
		group.Go(func() { answers[i], errs[i] = call(s, i) })
	}
	group.Wait()
	return answers, errs
}

// writes counts the requests by which Zendesk was asked to change something.
func (s *testServer) writes() (n int) {
	for _, asked := range s.requests() {
		if !strings.HasPrefix(asked, http.MethodGet+" ") {
			n++
		}
	}
	return n
}

// TestSingle has done once, or by one at a time, what replicas are to do so.
func TestSingle(t *testing.T) {
	t.Parallel()
	var fake *zendesktest.Zendesk
	gate := newAnswerGate(t, func(w http.ResponseWriter, r *http.Request) { fake.ServeHTTP(w, r) })
	s := newReplicas(t, 3, func(c *Config, z *zendesktest.Config) {
		c.AllowHosts = append(c.AllowHosts, strings.TrimPrefix(gate.URL, "http://"))
		z.IndexLag = 10 * time.Minute
	})
	fake = s[0].zendesk
	s[0].createAccount(t, "main", zendesktest.Admin)
	s[0].account(t, "gated", "Gated", gate.URL)
	t.Run("at once", func(t *testing.T) { testAtOnce(t, s) })
	t.Run("asleep", func(t *testing.T) { testAsleep(t, s, gate) })
	t.Run("alone", func(t *testing.T) { testAlone(t, s) })
}

// testAtOnce has what one process does once done once by several at a time.
func testAtOnce(t *testing.T, s []*testServer) {
	t.Run("requests", func(t *testing.T) {
		executions := repeatable()
		executions = append(executions, struct{ req, other blockRequest }{req: &zendeskv1.InvokeApiRequest{
			InteractionId: "one", RequestId: "w", Method: "POST", Path: "tickets", Json: `{"ticket":{"comment":{"body":"x"}}}`, ResultPath: "ticket.id",
		}}, struct{ req, other blockRequest }{req: popWithID("t", nil, &zendeskv1.CreateTicket{Comment: "x"})})
		_, err := s[0].store.UpdateAccount(t.Context(), "default", "main", "", func(a *store.Account) error {
			a.APIAccess.Methods = []string{"GET", "POST"}
			return nil
		})
		must(t, err)
		for _, execution := range executions {
			name := fmt.Sprintf("%T %s", execution.req, execution.req.GetRequestId())
			before := s[0].writes()
			answers, errs := onAll(s, func(s *testServer, _ int) (blockResponse, error) {
				return s.call(t.Context(), proto.Clone(execution.req).(blockRequest))
			})
			for i := range answers {
				must(t, errs[i])
				mustExit(t, answers[i], next)
				mustEqual(t, name, answers[i], answers[0])
			}
			if n := s[0].writes() - before; n > 1 {
				t.Errorf("%s: Zendesk was asked %d times for a change", name, n)
			}
		}
		if pops := s[1].interaction(t, "one").GetScreenPops(); len(pops) != 2 {
			t.Errorf("pops are %v", pops)
		}
	})

	t.Run("ticket", func(t *testing.T) {
		before := s[0].writesTo(http.MethodPost, "tickets")
		answers, errs := onAll(s, func(s *testServer, _ int) (*zendeskv1.ScreenPopResponse, error) {
			req := createTicket()
			req.InteractionId = "ticket"
			return s.blocks.ScreenPop(t.Context(), req)
		})
		for i := range answers {
			must(t, errs[i])
			mustExit(t, answers[i], next)
			mustEqual(t, "pop", answers[i].GetScreenPop(), answers[0].GetScreenPop())
		}
		if n := s[0].writesTo(http.MethodPost, "tickets") - before; n != 1 {
			t.Errorf("%d tickets are made", n)
		}
	})

	t.Run("delivery", func(t *testing.T) {
		before := len(s[0].zendesk.Pops())
		answers, errs := onAll(s, func(s *testServer, _ int) (*zendeskv1.DeliverInteractionResponse, error) {
			return s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
				InteractionId: "ticket", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
			})
		})
		for i := range answers {
			must(t, errs[i])
			mustEqual(t, "delivery", answers[i], answers[0])
		}
		if n := len(s[0].zendesk.Pops()) - before; n != 1 || len(answers[0].GetDeliveries()) != 1 {
			t.Errorf("Zendesk showed it %d times: %v", n, answers[0])
		}
	})

	t.Run("user of a number", func(t *testing.T) {
		before := s[0].creations()
		answers, errs := onAll(s, func(s *testServer, i int) (*zendeskv1.FindOrCreateUserResponse, error) {
			return s.blocks.FindOrCreateUser(t.Context(), &zendeskv1.FindOrCreateUserRequest{
				InteractionId: fmt.Sprint("call", i), Phone: "+15135550301", RecordsetName: "RS",
			})
		})
		created := 0
		for i, answer := range answers {
			must(t, errs[i])
			mustExit(t, answer, next)
			if answer.GetCreated() {
				created++
			}
			if answer.GetRecord().GetId() != answers[0].GetRecord().GetId() {
				t.Errorf("there are two users: %v and %v", answer.GetRecord(), answers[0].GetRecord())
			}
		}
		if n := s[0].creations() - before; n != 1 || created != 1 {
			t.Errorf("%d requests make a user, and %d calls have made one", n, created)
		}
	})

	t.Run("renewal", func(t *testing.T) {
		s[0].authorize(t, refreshToken)
		s[0].zendesk.ExpireTokens()
		s[0].zendesk.AddFault(zendesktest.Fault{PathPrefix: tokenPath, Delay: 200 * time.Millisecond, Times: 1}) // meanwhile the others are refused
		before := tokenRequests(s[0].zendesk)
		answers, errs := onAll(s, func(s *testServer, i int) (*zendeskv1.SearchResponse, error) {
			return s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{InteractionId: fmt.Sprint("renewal", i), SearchString: callerQuery, RecordsetName: "RS"})
		})
		for i := range answers {
			must(t, errs[i])
			mustExit(t, answers[i], next)
		}
		if n := tokenRequests(s[0].zendesk) - before; n != 1 {
			t.Errorf("%d token requests were sent, want 1", n)
		}
	})

	t.Run("account", func(t *testing.T) {
		s[0].createAccount(t, "second", zendesktest.Admin)
		mustExit(t, s[1].selectAccount(t, "account", "second"), next)
		_, err := s[2].store.UpdateAccount(t.Context(), "default", "second", "", func(a *store.Account) error {
			a.DefaultRegion, a.APIAccess.Methods = "GB", []string{"PUT"}
			return nil
		})
		must(t, err)
		resp, err := s[1].blocks.InvokeApi(t.Context(), &zendeskv1.InvokeApiRequest{InteractionId: "account", Method: "GET", Path: "users/me"})
		must(t, err)
		mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED)
	})

	t.Run("usage", func(t *testing.T) {
		must(t, s[1].store.FlushUsage(t.Context()))
		for _, of := range s {
			used, _, err := of.store.Usage(t.Context(), "default")
			must(t, err)
			if used.Accounts != 3 || used.LiveInteractions == 0 || used.StoredBytes == 0 {
				t.Errorf("the tenant has %+v", used)
			}
		}
	})
}

// answerGate is a Zendesk that has done what it is asked to change, and answers when it is let go, if it is to wait.
type answerGate struct {
	*httptest.Server
	mu          sync.Mutex
	acted, goOn chan struct{} // of the next request that is held; nil: none is
}

func newAnswerGate(t testing.TB, serve http.HandlerFunc) *answerGate {
	g := new(answerGate)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var acted, goOn chan struct{}
		if r.Method != http.MethodGet {
			g.mu.Lock()
			acted, goOn = g.acted, g.goOn
			g.acted, g.goOn = nil, nil
			g.mu.Unlock()
		}
		answer := httptest.NewRecorder()
		serve(answer, r)
		if acted != nil {
			close(acted)
			<-goOn
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(g.Close)
	return g
}

// hold holds the answer to the next request up: acted is closed when Zendesk has done it, and goOn is to be.
func (g *answerGate) hold() (acted <-chan struct{}, goOn chan<- struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acted, g.goOn = make(chan struct{}), make(chan struct{})
	return g.acted, g.goOn
}

// testAsleep takes the turns of a process away that waits for Zendesk, as when it slept, and has another one do the same.
func testAsleep(t *testing.T, s []*testServer, gate *answerGate) {
	engine, err := pgkv.Open(t.Context(), pgkv.Config{URL: s[0].keep.URL})
	must(t, err)
	t.Cleanup(func() { must(t, engine.Close()) })

	// asleep runs first until Zendesk has done what it is asked for, then second, as if first had been taken for dead, and then lets
	// first go on.
	asleep := func(kind string, first, second func()) {
		t.Helper()
		acted, goOn := gate.hold()
		var group sync.WaitGroup
		group.Go(first)
		<-acted
		must(t, engine.Update(t.Context(), func(tx kv.Txn) error {
			claims := kv.Key("!", "claim", kind)
			tx.DeleteRange(claims, kv.PrefixEnd(claims))
			return nil
		}))
		second()
		close(goOn)
		group.Wait()
	}

	mustExit(t, s[0].selectAccount(t, "asleep", "gated"), next)
	newTicket := createTicket()
	newTicket.InteractionId = "asleep"

	t.Run("what is not sent again", func(t *testing.T) {
		req := &zendeskv1.CreateObjectRequest{InteractionId: "asleep", RequestId: "u", ObjectType: userType, Fields: map[string]string{"name": "Twin"}}
		var first, second *zendeskv1.CreateObjectResponse
		asleep("request", func() { first = s[0].create(t, req) }, func() { second = s[1].create(t, req) })
		if f := mustFailAny(t, second); !strings.Contains(f.GetMessage(), "not known") {
			t.Errorf("answer is %v", second)
		}
		mustExit(t, first, next)
		for _, of := range s[:2] { // nobody else knows what became of it
			mustEqual(t, "repeat", of.create(t, req), first)
		}
		if n := s[0].countUsers(t, "Twin"); n != 1 {
			t.Errorf("there are %d users", n)
		}
	})

	t.Run("what may be sent again", func(t *testing.T) {
		req := &zendeskv1.CreateObjectRequest{InteractionId: "asleep", RequestId: "t", ObjectType: ticketType, Fields: map[string]string{"comment.body": "x", "external_id": "e-1"}}
		var first, second *zendeskv1.CreateObjectResponse
		asleep("request", func() { first = s[0].create(t, req) }, func() { second = s[1].create(t, req) })
		mustExit(t, second, next)
		mustEqual(t, "the late answer", first, second)
		mustEqual(t, "repeat", s[0].create(t, req), second)
		if tickets := s[0].read(t, "tickets?external_id=e-1")["tickets"].([]any); len(tickets) != 1 {
			t.Errorf("there are %d tickets", len(tickets))
		}
	})

	t.Run("ticket of an interaction", func(t *testing.T) {
		var first, second *zendeskv1.ScreenPopResponse
		asleep("ticket", func() { first = s[0].pop(t, newTicket) }, func() { second = s[1].pop(t, newTicket) })
		mustExit(t, second, next)
		mustExit(t, first, next)
		mustEqual(t, "pop", first.GetScreenPop(), second.GetScreenPop())
		if pops := s[0].interaction(t, "asleep").GetScreenPops(); len(pops) != 1 {
			t.Errorf("pops are %v", pops)
		}
	})

	t.Run("delivery", func(t *testing.T) {
		deliver := func(s *testServer) *zendeskv1.DeliverInteractionResponse {
			resp, err := s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{
				InteractionId: "asleep", RequestId: "d", Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email},
			})
			if err != nil {
				t.Error(err)
			}
			return resp
		}
		var first, second *zendeskv1.DeliverInteractionResponse
		asleep("delivery", func() { first = deliver(s[0]) }, func() { second = deliver(s[1]) })
		mustEqual(t, "the late answer", first, second)
		told, err := s[0].store.DeliveredTo(t.Context(), "default", strings.ToLower(zendesktest.Agent.Email), time.Time{})
		must(t, err)
		told = slices.DeleteFunc(told, func(d store.Delivered) bool { return d.InteractionID != "asleep" })
		if len(told) != 1 || len(second.GetDeliveries()) != 1 || told[0].ID != second.GetDeliveries()[0].GetDeliveryId() {
			t.Errorf("watchers are told %v", told)
		}
	})
}

// testAlone has one of two processes do what one does at a time, and the other when that one ends.
func testAlone(t *testing.T, replicas []*testServer) {
	for claimed := false; !claimed; time.Sleep(20 * time.Millisecond) { // by one of them, whichever it is
		owners, err := replicas[0].store.ClaimOwners(t.Context())
		must(t, err)
		claimed = owners["sweep"] != "" && owners["scrub"] != "" && owners["upkeep"] != ""
	}
	type turn struct {
		of     *store.Store
		fenced context.Context
	}
	begun := make(chan turn)
	var stops []context.CancelFunc
	var group sync.WaitGroup
	for _, s := range replicas[:2] {
		ctx, stop := context.WithCancel(t.Context())
		stops = append(stops, stop)
		server := &Server{store: s.store, log: slog.New(slog.DiscardHandler)}
		group.Go(func() {
			server.alone("work", func(ctx context.Context) {
				begun <- turn{s.store, ctx}
				<-ctx.Done()
			})(ctx)
		})
	}
	first := <-begun
	for i, s := range replicas[:2] {
		if s.store == first.of {
			stops[i]()
		}
	}
	second := <-begun
	if second.of == first.of || first.fenced.Err() == nil {
		t.Error("both do it")
	}
	for _, stop := range stops {
		stop()
	}
	group.Wait()
	// What has been done alone ends by itself, too.
	ended := &Server{store: replicas[0].store, log: slog.New(slog.DiscardHandler)}
	ended.alone("work", func(context.Context) {})(t.Context())
}
