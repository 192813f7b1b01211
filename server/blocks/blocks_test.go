package blocks

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/once"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	tenant      = "default"
	searchPath  = "/api/v2/search"
	callerQuery = "type:user phone:*5135557611" // finds zendesktest.Caller alone
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newService makes a service without gRPC around it, with one account, "main", for a fake Zendesk.
func newService(t testing.TB) (*Service, *zendesktest.Zendesk) {
	t.Helper()
	zendesk := zendesktest.New(zendesktest.Config{})
	must(t, zendesk.Start("127.0.0.1:0"))
	t.Cleanup(func() { must(t, zendesk.Close()) })
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: []string{"127.0.0.1:*", "localhost:*"}})
	must(t, err)
	t.Cleanup(transport.Close)
	_, err = st.CreateAccount(t.Context(), tenant, store.Account{
		ID: "main", Name: "Main", URL: zendesk.Origin(), DefaultRegion: "US",
		APIToken: &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New(zendesktest.Admin.APIToken)},
	})
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	keeper := credentials.New(credentials.Config{Store: st, Transport: transport, Audit: audit.New(audit.Config{Log: log}), Log: log, Now: time.Now})
	return New(Config{Store: st, Credentials: keeper, Now: time.Now}), zendesk
}

// call is the context of a call as the interceptors make it, with that much time.
func call(t testing.TB, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(rpc.WithCaller(t.Context(), auth.Caller{Tenant: tenant}), timeout)
	t.Cleanup(cancel)
	return ctx
}

func mustExit(t testing.TB, resp response, want zendeskv1.Exit) {
	t.Helper()
	if resp.GetExit() != want || resp.GetFailure() != nil {
		t.Fatalf("exit is %v with %v, want %v", resp.GetExit(), resp.GetFailure(), want)
	}
}

func mustFail(t testing.TB, resp response, want zendeskv1.FailureReason) *zendeskv1.Failure {
	t.Helper()
	f := resp.GetFailure()
	if resp.GetExit() != zendeskv1.Exit_EXIT_FAILED || f.GetReason() != want || f.GetMessage() == "" {
		t.Fatalf("exit is %v with %v, want FAILED with %v and a message", resp.GetExit(), f, want)
	}
	return f
}

// A request waits for an earlier one with its request_id; when that runs beyond its deadline, it fails as one that got
// nothing.
func TestRequestInProgress(t *testing.T) {
	t.Parallel()
	s, zendesk := newService(t)
	searches := func() (n int) {
		for _, r := range zendesk.Requests() {
			if strings.HasPrefix(r.Path, searchPath) {
				n++
			}
		}
		return n
	}
	search := func(timeout time.Duration, id string) *zendeskv1.SearchResponse {
		t.Helper()
		resp, err := s.Search(call(t, timeout), &zendeskv1.SearchRequest{InteractionId: "one", RequestId: id, SearchString: callerQuery, RecordsetName: "RS"})
		must(t, err)
		return resp
	}
	before := search(time.Minute, "")
	mustExit(t, before, zendeskv1.Exit_EXIT_NEXT)
	turn, err := once.Turn(t.Context(), s.store, turnOfRequest, tenant, "one", "Search", "r")
	must(t, err)

	resp := search(3*time.Second, "r") // of which it keeps a quarter of a second to store its answer
	if f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_REQUEST_IN_PROGRESS); !f.GetRetryable() {
		t.Error("the failure is not retryable")
	}
	for name, value := range resp.GetVariables() {
		if value != "" {
			t.Errorf("variable %s is %q, want it blank", name, value)
		}
	}
	if got, want := slices.Sorted(maps.Keys(resp.GetVariables())), slices.Sorted(maps.Keys(before.GetVariables())); !slices.Equal(got, want) {
		t.Errorf("variables are %q, want %q", got, want)
	}
	of, err := s.GetNextRecord(call(t, time.Minute), &zendeskv1.GetNextRecordRequest{InteractionId: "one", RecordsetName: "RS"})
	must(t, err)
	mustFail(t, of, zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND)
	if got := searches(); got != 1 {
		t.Errorf("Zendesk was asked %d times, want 1", got)
	}
	// Other ids, other RPCs and other interactions do not wait.
	mustExit(t, search(time.Minute, "q"), zendeskv1.Exit_EXIT_NEXT)
	other, err := s.GetNextRecord(call(t, time.Minute), &zendeskv1.GetNextRecordRequest{InteractionId: "one", RequestId: "r", RecordsetName: "RS"})
	must(t, err)
	mustExit(t, other, zendeskv1.Exit_EXIT_NO_DATA)
	elsewhere, err := s.Search(call(t, time.Minute), &zendeskv1.SearchRequest{InteractionId: "two", RequestId: "r", SearchString: callerQuery, RecordsetName: "RS"})
	must(t, err)
	mustExit(t, elsewhere, zendeskv1.Exit_EXIT_NEXT)
	turn.Release()
	mustExit(t, search(time.Minute, "r"), zendeskv1.Exit_EXIT_NEXT)
}

// In several processes only what writes to Zendesk waits for another request with its id: to wait costs transactions.
func TestTurnOf(t *testing.T) {
	const one, id = "one", "r"
	for name, test := range map[string]struct {
		req         request
		own, shared string
	}{
		"search":                  {&zendeskv1.SearchRequest{InteractionId: one, RequestId: id}, turnOfRequest, ""},
		"without an id":           {&zendeskv1.SearchRequest{InteractionId: one}, "", ""},
		"only explained":          {&zendeskv1.CreateObjectRequest{InteractionId: one, RequestId: id, ValidateOnly: true}, "", ""},
		"stores only":             {&zendeskv1.AttachedDataRequest{InteractionId: one, RequestId: id}, turnOfRequest, ""},
		"identifies":              {&zendeskv1.IdentifyCallerRequest{InteractionId: one, RequestId: id}, turnOfRequest, ""},
		"finds or creates":        {&zendeskv1.FindOrCreateUserRequest{InteractionId: one, RequestId: id}, turnOfRequest, turnOfRequest},
		"creates":                 {&zendeskv1.CreateObjectRequest{InteractionId: one, RequestId: id}, turnOfRequest, turnOfRequest},
		"creates, without an id":  {&zendeskv1.CreateObjectRequest{InteractionId: one}, "", ""},
		"updates":                 {&zendeskv1.UpdateObjectRequest{InteractionId: one, RequestId: id}, turnOfRequest, turnOfRequest},
		"invokes, reading":        {&zendeskv1.InvokeApiRequest{InteractionId: one, RequestId: id, Method: "GET"}, turnOfRequest, ""},
		"invokes, writing":        {&zendeskv1.InvokeApiRequest{InteractionId: one, RequestId: id, Method: "PUT"}, turnOfRequest, turnOfRequest},
		"pops":                    {&zendeskv1.ScreenPopRequest{InteractionId: one, RequestId: id, Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: "1"}}, turnOfRequest, ""},
		"pops what it makes":      {&zendeskv1.ScreenPopRequest{InteractionId: one, RequestId: id, Target: &zendeskv1.ScreenPopRequest_CreateTicket{CreateTicket: &zendeskv1.CreateTicket{}}}, turnOfTicket, turnOfTicket},
		"the same, without an id": {&zendeskv1.ScreenPopRequest{InteractionId: one, Target: &zendeskv1.ScreenPopRequest_CreateTicket{CreateTicket: &zendeskv1.CreateTicket{}}}, turnOfTicket, turnOfTicket},
		"the same, explained":     {&zendeskv1.ScreenPopRequest{InteractionId: one, ValidateOnly: true, Target: &zendeskv1.ScreenPopRequest_CreateTicket{CreateTicket: &zendeskv1.CreateTicket{}}}, "", ""},
	} {
		about := map[string][]string{turnOfRequest: {one, "Method", id}, turnOfTicket: {one}}
		for shared, want := range map[bool]string{false: test.own, true: test.shared} {
			if kind, got := turnOf("Method", test.req, shared); kind != want || !slices.Equal(got, about[want]) {
				t.Errorf("%s, shared %v: a turn of %q about %q, want %q", name, shared, kind, got, want)
			}
		}
	}
}

// Blocks that change nothing when they fail answer in vain as well.
func TestRequestInProgressChangesNothing(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	for _, method := range []string{"SelectAccount", "GetNextRecord", "ScreenPop", "AttachedData"} {
		turn, err := once.Turn(t.Context(), s.store, turnOfRequest, tenant, "one", method, "r")
		must(t, err)
		defer turn.Release()
	}
	ctx := call(t, 200*time.Millisecond)
	selected, err := s.SelectAccount(ctx, &zendeskv1.SelectAccountRequest{InteractionId: "one", RequestId: "r", Choice: &zendeskv1.SelectAccountRequest_UseDefault{UseDefault: true}})
	must(t, err)
	mustFail(t, selected, zendeskv1.FailureReason_FAILURE_REASON_REQUEST_IN_PROGRESS)
	ctx = call(t, 200*time.Millisecond)
	record, err := s.GetNextRecord(ctx, &zendeskv1.GetNextRecordRequest{InteractionId: "one", RequestId: "r", RecordsetName: "RS"})
	must(t, err)
	mustFail(t, record, zendeskv1.FailureReason_FAILURE_REASON_REQUEST_IN_PROGRESS)
	ctx = call(t, 200*time.Millisecond)
	pop, err := s.ScreenPop(ctx, &zendeskv1.ScreenPopRequest{InteractionId: "one", RequestId: "r", Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: "1"}})
	must(t, err)
	mustFail(t, pop, zendeskv1.FailureReason_FAILURE_REASON_REQUEST_IN_PROGRESS)
	ctx = call(t, 200*time.Millisecond)
	data, err := s.AttachedData(ctx, &zendeskv1.AttachedDataRequest{InteractionId: "one", RequestId: "r", Data: map[string]string{"a": "1"}})
	must(t, err)
	mustFail(t, data, zendeskv1.FailureReason_FAILURE_REASON_REQUEST_IN_PROGRESS)
	must(t, s.store.ViewInteraction(t.Context(), tenant, "one", func(tx *store.InteractionTxn) error {
		if tx.Exists() {
			t.Error("a request that waited in vain left something")
		}
		return nil
	}))
}
