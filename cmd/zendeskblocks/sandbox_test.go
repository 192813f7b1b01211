package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestNeedsSandboxAccount(t *testing.T) {
	const origin = "http://127.0.0.1:50080"
	for name, test := range map[string]struct {
		there   sandboxPlace
		needed  bool
		refused string // what the reason says
	}{
		"new file":                      {sandboxPlace{}, true, ""},
		"has it":                        {sandboxPlace{url: origin, accounts: true}, false, ""},
		"others only":                   {sandboxPlace{accounts: true}, false, "--data"},
		"has it at another port":        {sandboxPlace{url: "http://127.0.0.1:50081", accounts: true}, false, "--sandbox-listen 127.0.0.1:50081"},
		"has it at another address":     {sandboxPlace{url: "http://[::1]:50080", accounts: true}, false, "--sandbox-listen [::1]:50080"},
		"its id is a real account's":    {sandboxPlace{url: "https://acme.zendesk.com", accounts: true}, false, "accounts of its own"},
		"its id is an allowed host's":   {sandboxPlace{url: "https://zendesk.internal:8443", accounts: true}, false, "accounts of its own"},
		"its id, with the other scheme": {sandboxPlace{url: "https://127.0.0.1:50080", accounts: true}, false, "--data"},
	} {
		t.Run(name, func(t *testing.T) {
			needed, err := test.there.needsAccount(origin)
			if needed != test.needed || (err != nil) != (test.refused != "") || err != nil && !strings.Contains(err.Error(), test.refused) {
				t.Errorf("needed %v, error %v", needed, err)
			}
		})
	}
}

// serve --sandbox makes its account once, and leaves it and all others as they are from then on.
func TestSandboxKeepsAccounts(t *testing.T) {
	s := startService(t, "--sandbox", "--sandbox-listen", "127.0.0.1:0")
	list := func() []*zendeskv1.Account {
		t.Helper()
		resp, err := persist(t.Context(), s.accounts.ListAccounts, &zendeskv1.ListAccountsRequest{})
		must(t, err)
		return resp.GetAccounts()
	}
	made := list()
	if len(made) != 1 || made[0].GetAccountId() != sandboxAccount || !made[0].GetDefaultAccount() {
		t.Fatalf("accounts %v, want the sandbox's as the default", made)
	}
	origin := made[0].GetUrl()
	s.createAccount(t, "acme", origin)
	_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: "acme", DefaultAccount: true}})
	must(t, err)
	_, err = s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: sandboxAccount, Name: "Playground"}})
	must(t, err)
	want := list()
	s.stop(t)

	s.flags = []string{"--sandbox", "--sandbox-listen", hostOf(origin)}
	s.start(t)
	if diff := cmp.Diff(want, list(), protocmp.Transform()); diff != "" {
		t.Errorf("the accounts have changed (-before +after):\n%s", diff)
	}
	tested, err := s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: sandboxAccount})
	if err != nil || tested.GetOutcome() != zendeskv1.CheckOutcome_CHECK_OUTCOME_OK {
		t.Errorf("the sandbox's account does not work: %v, %v", tested, err)
	}
	s.stop(t)

	// At another address than its account says.
	before := filesIn(t, s.dir)
	mustRefuse(t, startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", s.dataFile(), "--sandbox", "--sandbox-listen", "127.0.0.1:0"), "--sandbox-listen "+hostOf(origin))
	if diff := cmp.Diff(before, filesIn(t, s.dir)); diff != "" {
		t.Error("files were changed")
	}
}

// A data file with accounts of its own, in whatever tenant, is refused and not touched.
func TestSandboxRefusesAccountsOfOthers(t *testing.T) {
	for _, tenant := range []string{"default", "acme"} {
		t.Run(tenant, func(t *testing.T) {
			tokens := filepath.Join(t.TempDir(), "tokens")
			token := createToken(t, "--token-file", tokens, "--tenant", tenant, "--name", "x", "--role", "admin")
			s := startService(t, "--token-file", tokens)
			_, err := s.accounts.CreateAccount(bearer(t.Context(), token), &zendeskv1.CreateAccountRequest{
				Account: &zendeskv1.Account{Name: "Real", Url: "https://acme.zendesk.com"},
			})
			must(t, err)
			s.stop(t)
			before := filesIn(t, s.dir)
			mustRefuse(t, startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", s.dataFile(), "--sandbox", "--sandbox-listen", "127.0.0.1:0"), "accounts of its own")
			if diff := cmp.Diff(before, filesIn(t, s.dir)); diff != "" {
				t.Error("files were changed")
			}
			s.start(t)
			resp, err := persist(bearer(t.Context(), token), s.accounts.ListAccounts, &zendeskv1.ListAccountsRequest{})
			must(t, err)
			if len(resp.GetAccounts()) != 1 || !resp.GetAccounts()[0].GetDefaultAccount() {
				t.Errorf("accounts %v", resp.GetAccounts())
			}
		})
	}
}

// The flags of sandbox are the limits to begin with.
func TestSandboxLimits(t *testing.T) {
	z := startSandbox(t, "--rate-limit", "200", "--endpoint-limit", "search-index=20", "--endpoint-limit", "tickets-show=30", "--other-consumers", "1", "--seed", "7")
	var got struct {
		zendesktest.Limits
		Usage zendesktest.Usage `json:"usage"`
	}
	z.do(t, http.MethodGet, "/_sandbox/limits", nil, &got)
	want := zendesktest.Limits{
		PerMinute: 200, Endpoints: map[string]int{zendesktest.SearchBucket: 20, zendesktest.TicketShowBucket: 30}, OtherConsumersPerMinute: 1,
		Headers: zendesktest.HeadersAll, RetryAfter: zendesktest.RetryAfterSeconds,
	}
	if diff := cmp.Diff(want, got.Limits); diff != "" || got.Usage.Account.UsedByOthers != 1 {
		t.Errorf("%+v (-want +got):\n%s", got.Usage, diff)
	}
	for _, flag := range []string{"--endpoint-limit=nowhere=1", "--endpoint-limit=search-index=-1", "--endpoint-limit=search-index", "--other-consumers=-1", "--other-consumers=100001", "--seed=-1"} {
		if _, stderr, err := runCommand(t, nil, "sandbox", flag); err == nil || !strings.Contains(stderr, flag[:strings.Index(flag, "=")]) {
			t.Errorf("%s: %v, %s", flag, err, stderr)
		}
	}
}

// The guide's table and the command's help have every endpoint of the sandbox's own, and no others.
func TestSandboxEndpointsOfTheGuide(t *testing.T) {
	source, err := os.ReadFile(filepath.FromSlash("../../zendeskapi/zendesktest/route.go"))
	must(t, err)
	endpoints := func(pattern, text string) (found []string) {
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, match[1]+" "+match[2])
		}
		slices.Sort(found)
		return found
	}
	want := endpoints(`\.HandleFunc\("([A-Z]+) (/_sandbox/[^"]+)"`, string(source))
	if len(want) < 15 {
		t.Errorf("only %q were found", want)
	}
	if diff := cmp.Diff(want, endpoints("(?m)^\\| `([A-Z]+) (/_sandbox/[^`]+)` \\|", readGuide(t, operatorGuide))); diff != "" {
		t.Errorf("the guide's table (-code +guide):\n%s", diff)
	}
	if diff := cmp.Diff(want, endpoints(`(?m)^    ([A-Z]+) +(/_sandbox/\S+)`, sandboxCommand{}.Help())); diff != "" {
		t.Errorf("the help (-code +help):\n%s", diff)
	}
}
