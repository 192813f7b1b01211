package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// renewalCrashes is the variable that says how often TestKillAroundRenewal kills the process.
const renewalCrashes = "RENEWAL_CRASHES"

// moments of a renewal at which the process is killed.
const (
	momentAsked    = "asked"    // Zendesk has the request, and has not acted
	momentActed    = "acted"    // Zendesk has killed the old pair, and its answer never leaves
	momentAnswered = "answered" // the answer was sent a moment ago: whether the process has read it nobody knows
	momentUsed     = "used"     // the process has used the new token, and so has read the answer
)

// A process that is killed around a renewal has lost no account, but for one case: what Zendesk rotated and the process
// never learnt of is gone, and the account says so. That the answer has reached the process is sure once it uses the new
// token; of those killed within milliseconds after the answer was sent, the log of the test tells how many were lost.
func TestKillAroundRenewal(t *testing.T) {
	crashes := 8
	if text := os.Getenv(renewalCrashes); text != "" {
		var err error
		crashes, err = strconv.Atoi(text)
		must(t, err)
	}
	zendesk := startRenewalZendesk(t)
	s := startService(t, "--allow-host", hostOf(zendesk.URL))
	accounts := map[string]string{"client_credentials": "minted", "refresh_token": "rotated"} // by the grant that renews
	for grant, account := range accounts {
		s.createAccount(t, account, zendesk.URL)
		zendesk.authorize(t, s, account, grant)
	}
	random := rand.New(rand.NewPCG(2041, 4)) // chooses the moments; what a process does at them differs
	lost, killed := map[string]int{}, map[string]int{}
	for run := range crashes {
		grant := []string{"client_credentials", "refresh_token"}[run%2]
		moment := []string{momentAsked, momentActed, momentAnswered, momentUsed}[run/2%4]
		reached := zendesk.await(grant, moment)
		until(t, "Zendesk is asked for a token", func() bool {
			select {
			case <-reached:
				return true
			default:
				// The background renews, or a block that comes before.
				s.searchAs(t, accounts[grant])
				return false
			}
		})
		if moment == momentAnswered {
			<-time.After(time.Duration(random.Int64N(int64(4 * time.Millisecond))))
		}
		s.kill(t)
		s.start(t)

		key := grant + ", " + moment
		killed[key]++
		var failure zendeskv1.FailureReason
		until(t, "Zendesk decides", func() bool {
			failure = s.searchAs(t, accounts[grant])
			return failure == zendeskv1.FailureReason_FAILURE_REASON_UNSPECIFIED || failure == zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED
		})
		if failure == zendeskv1.FailureReason_FAILURE_REASON_UNSPECIFIED {
			continue
		}
		lost[key]++
		if grant != "refresh_token" || moment == momentAsked || moment == momentUsed {
			t.Errorf("run %d: the account renewed by %s is lost, killed when %s", run, grant, moment)
		}
		resp, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: accounts[grant]})
		must(t, err)
		if resp.GetAccount().GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION || len(resp.GetAccount().GetWarnings()) == 0 {
			t.Errorf("run %d: the account is lost and does not say so: %v", run, resp.GetAccount())
		}
		zendesk.authorize(t, s, accounts[grant], grant)
	}
	for key, n := range killed {
		t.Logf("killed when %s: %d, lost: %d", key, n, lost[key])
	}
}

// searchAs runs a search as an account, and returns how it failed; unspecified: it did not.
func (s *service) searchAs(t testing.TB, account string) zendeskv1.FailureReason {
	t.Helper()
	id := "call-of-" + account
	_, err := persist(t.Context(), s.blocks.SelectAccount, &zendeskv1.SelectAccountRequest{InteractionId: id, Choice: &zendeskv1.SelectAccountRequest_Account{Account: account}})
	must(t, err)
	resp, err := persist(t.Context(), s.blocks.Search, &zendeskv1.SearchRequest{InteractionId: id, RecordsetName: "found", SearchString: "type:ticket", MaxResults: 1})
	must(t, err)
	return resp.GetFailure().GetReason()
}

// renewalZendesk is a fake Zendesk whose tokens live for two seconds, less the part of one that it cuts off, and which tells how far a token request has come.
type renewalZendesk struct {
	*httptest.Server
	fake *zendesktest.Zendesk

	mu      sync.Mutex
	grant   string        // of the token request that is awaited; empty: none is
	moment  string        // of it that is awaited
	bearer  string        // the token whose use is awaited; empty: none
	reached chan struct{} // closed at that moment
}

func startRenewalZendesk(t testing.TB) *renewalZendesk {
	z := &renewalZendesk{fake: zendesktest.New(zendesktest.Config{TokenLife: 2 * time.Second})}
	z.Server = httptest.NewServer(z)
	t.Cleanup(z.Close)
	return z
}

// await returns what is closed when the next token request of a grant has come to a moment. A request that is awaited
// before its answer gets none.
func (z *renewalZendesk) await(grant, moment string) <-chan struct{} {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.grant, z.moment, z.bearer, z.reached = grant, moment, "", make(chan struct{})
	return z.reached
}

// ServeHTTP implements http.Handler.
func (z *renewalZendesk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the process was killed
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	z.mu.Lock()
	if z.bearer != "" && strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") == z.bearer {
		z.bearer = ""
		close(z.reached)
	}
	awaited := r.URL.Path == "/oauth/tokens" && z.grant != "" && strings.Contains(string(body), "grant_type="+z.grant)
	moment, reached := z.moment, z.reached
	if awaited {
		z.grant = ""
	}
	z.mu.Unlock()
	if !awaited {
		z.fake.ServeHTTP(w, r)
		return
	}
	if moment == momentAsked {
		close(reached)
		<-r.Context().Done()
		return
	}
	answer := httptest.NewRecorder()
	z.fake.ServeHTTP(answer, r)
	if moment == momentActed {
		close(reached)
		<-r.Context().Done()
		return
	}
	if moment == momentUsed {
		var granted struct {
			AccessToken string `json:"access_token"`
		}
		if json.Unmarshal(answer.Body.Bytes(), &granted) == nil {
			z.mu.Lock()
			z.bearer = granted.AccessToken
			z.mu.Unlock()
		}
	}
	w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
	w.Header().Set("Content-Length", fmt.Sprint(answer.Body.Len()))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
	_ = http.NewResponseController(w).Flush()
	if moment == momentAnswered {
		close(reached)
	}
}

// authorize gives an account a token that is renewed by a grant.
func (z *renewalZendesk) authorize(t testing.TB, s *service, account, grant string) {
	t.Helper()
	req := &zendeskv1.RequestTokenRequest{AccountId: account, ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret}
	if grant == "refresh_token" {
		code, err := z.fake.IssueCode(zendesktest.Grant{})
		must(t, err)
		req.Grant = &zendeskv1.RequestTokenRequest_AuthorizationCode{AuthorizationCode: &zendeskv1.AuthorizationCodeGrant{
			Code: code, RedirectUri: zendesktest.RedirectURI,
		}}
	}
	_, err := s.accounts.RequestToken(t.Context(), req)
	must(t, err)
}
