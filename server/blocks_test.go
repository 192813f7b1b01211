package server

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	next   = zendeskv1.Exit_EXIT_NEXT
	noData = zendeskv1.Exit_EXIT_NO_DATA

	searchPath  = "/api/v2/search"
	callerQuery = "type:user phone:*5135557611" // finds zendesktest.Caller alone
)

// Limits as the proto comments state them.
const (
	maxTextBytes      = 4 << 10
	maxVariablesBytes = 512 << 10
	maxRecordsets     = 32
	maxScreenPops     = 50
)

// blockRequest is what the requests of all blocks have.
type blockRequest interface {
	proto.Message
	GetInteractionId() string
	GetVariables() map[string]string
	GetRequestId() string
}

// blockResponse is what the responses of all blocks have.
type blockResponse interface {
	proto.Message
	GetExit() zendeskv1.Exit
	GetAccount() *zendeskv1.AccountUse
	GetFailure() *zendeskv1.Failure
}

// newBlockServer starts a service with one account, "main", for the fake Zendesk.
func newBlockServer(t testing.TB, adjust ...func(*Config, *zendesktest.Config)) *testServer {
	t.Helper()
	s := newTestServer(t, adjust...)
	s.createAccount(t, "main", zendesktest.Admin)
	return s
}

// otherZendesk starts a second Zendesk. Its option lets a service reach it.
func otherZendesk(t testing.TB) (*zendesktest.Zendesk, func(*Config, *zendesktest.Config)) {
	t.Helper()
	other := zendesktest.New(zendesktest.Config{})
	must(t, other.Start("127.0.0.1:0"))
	t.Cleanup(func() { must(t, other.Close()) })
	return other, func(c *Config, _ *zendesktest.Config) {
		c.AllowHosts = append(c.AllowHosts, strings.TrimPrefix(other.Origin(), "http://"))
	}
}

// account makes an account at an origin.
func (s *testServer) account(t testing.TB, id, name, origin string) {
	t.Helper()
	_, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{
		Name: name, Url: origin, DefaultRegion: "US",
		ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
	}})
	must(t, err)
}

func (s *testServer) deleteAccount(t testing.TB, id string) {
	t.Helper()
	_, err := s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: id})
	must(t, err)
}

func (s *testServer) makeDefault(t testing.TB, id string) {
	t.Helper()
	_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: id, DefaultAccount: true}})
	must(t, err)
}

func (s *testServer) selectAccount(t testing.TB, interaction, account string) *zendeskv1.SelectAccountResponse {
	t.Helper()
	resp, err := s.blocks.SelectAccount(t.Context(), &zendeskv1.SelectAccountRequest{
		InteractionId: interaction, Choice: &zendeskv1.SelectAccountRequest_Account{Account: account},
	})
	must(t, err)
	return resp
}

func (s *testServer) selectDefault(t testing.TB, interaction string) *zendeskv1.SelectAccountResponse {
	t.Helper()
	resp, err := s.blocks.SelectAccount(t.Context(), &zendeskv1.SelectAccountRequest{
		InteractionId: interaction, Choice: &zendeskv1.SelectAccountRequest_UseDefault{UseDefault: true},
	})
	must(t, err)
	return resp
}

// search searches into the recordset RS.
func (s *testServer) search(t testing.TB, interaction, query string, change ...func(*zendeskv1.SearchRequest)) *zendeskv1.SearchResponse {
	t.Helper()
	req := &zendeskv1.SearchRequest{InteractionId: interaction, SearchString: query, RecordsetName: "RS"}
	for _, f := range change {
		f(req)
	}
	resp, err := s.blocks.Search(t.Context(), req)
	must(t, err)
	return resp
}

// nextOf moves in the recordset RS.
func (s *testServer) nextOf(t testing.TB, interaction string) *zendeskv1.GetNextRecordResponse {
	t.Helper()
	resp, err := s.blocks.GetNextRecord(t.Context(), &zendeskv1.GetNextRecordRequest{InteractionId: interaction, RecordsetName: "RS"})
	must(t, err)
	return resp
}

func (s *testServer) pop(t testing.TB, req *zendeskv1.ScreenPopRequest) *zendeskv1.ScreenPopResponse {
	t.Helper()
	resp, err := s.blocks.ScreenPop(t.Context(), req)
	must(t, err)
	return resp
}

func (s *testServer) attach(t testing.TB, interaction string, data map[string]string) *zendeskv1.AttachedDataResponse {
	t.Helper()
	resp, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: interaction, Data: data})
	must(t, err)
	return resp
}

// interaction returns an interaction; nil if there is none.
func (s *testServer) interaction(t testing.TB, id string) *zendeskv1.Interaction {
	t.Helper()
	resp, err := s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: id})
	if err != nil {
		mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND)
		return nil
	}
	return resp.GetInteraction()
}

// mustExit checks that a block took an exit, which is not FAILED.
func mustExit(t testing.TB, resp blockResponse, want zendeskv1.Exit) {
	t.Helper()
	if resp.GetExit() != want || resp.GetFailure() != nil {
		t.Fatalf("exit is %v with %v, want %v", resp.GetExit(), resp.GetFailure(), want)
	}
}

// retryable are the reasons for which the same request may succeed later with nothing changed by people.
var retryable = []zendeskv1.FailureReason{
	zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT,
	zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED,
	zendeskv1.FailureReason_FAILURE_REASON_CONFLICT,
	zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE,
	zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE,
	zendeskv1.FailureReason_FAILURE_REASON_REQUEST_IN_PROGRESS,
}

// mustFail checks why a block failed.
func mustFail(t testing.TB, resp blockResponse, want zendeskv1.FailureReason) *zendeskv1.Failure {
	t.Helper()
	f := resp.GetFailure()
	if resp.GetExit() != zendeskv1.Exit_EXIT_FAILED || f.GetReason() != want || f.GetMessage() == "" {
		t.Fatalf("exit is %v with %v, want FAILED with %v and a message", resp.GetExit(), f, want)
	}
	// A token that is refused while it is new is renewed without a person.
	young := want == zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED && strings.Contains(f.GetMessage(), "it is renewed from")
	if f.GetRetryable() != (slices.Contains(retryable, want) || young) {
		t.Errorf("failure is %v, and retryable is not as its reason is", f)
	}
	return f
}

// mustUse checks which account a block used and how it was chosen.
func mustUse(t testing.TB, resp blockResponse, id string, selection zendeskv1.AccountSelection) {
	t.Helper()
	if use := resp.GetAccount(); use.GetAccountId() != id || use.GetSelection() != selection || id != "" && use.GetName() == "" {
		t.Errorf("account used is %v, want %q with a name, %v", use, id, selection)
	}
}

// mustBlank checks that variables of the recordset RS are set, and all of them empty, except for some.
func mustBlank(t testing.TB, vars map[string]string, except map[string]string) {
	t.Helper()
	set := false
	for name, value := range vars {
		if !strings.HasPrefix(name, "RS.") {
			continue
		}
		set = true
		if want := except[name]; value != want {
			t.Errorf("variable %s is %q, want %q", name, value, want)
		}
	}
	if !set {
		t.Error("no variable of the recordset is set")
	}
}

// searches returns the queries that Zendesk was asked, page by page.
func (s *testServer) searches() []string {
	var queries []string
	for _, r := range s.zendesk.Requests() {
		if strings.HasPrefix(r.Path, searchPath) {
			values, err := url.ParseQuery(r.Query)
			if err != nil {
				panic(err)
			}
			queries = append(queries, values.Get("query"))
		}
	}
	return queries
}

// answerWith makes Zendesk answer the next searches with these bodies and status 200, in order.
func (s *testServer) answerWith(bodies ...string) {
	for _, body := range bodies {
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Body: &body, Times: 1})
	}
}

func mustEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// manyVariables returns n variables whose names and values have that many bytes each.
func manyVariables(n, nameBytes, valueBytes int) map[string]string {
	vars := make(map[string]string, n)
	for i := range n {
		name := strings.Repeat("v", nameBytes-4) + string([]byte{byte('a' + i/676/26%26), byte('a' + i/676%26), byte('a' + i/26%26), byte('a' + i%26)})
		vars[name] = strings.Repeat("x", valueBytes)
	}
	return vars
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
