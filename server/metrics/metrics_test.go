package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// scrapeBy scrapes by a handler.
func scrapeBy(t testing.TB, h http.Handler, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	maps.Copy(req.Header, header)
	res := httptest.NewRecorder()
	h.ServeHTTP(res, req)
	return res
}

// series returns the samples of the metrics whose names match, with their values, in order.
func series(t testing.TB, m *Metrics, names string) (lines []string) {
	t.Helper()
	body, err := io.ReadAll(scrapeBy(t, m.Handler(), nil).Body)
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile("^" + namespace + "_(?:" + names + `)(?:\{| )`)
	for line := range strings.Lines(string(body)) {
		if match.MatchString(line) {
			lines = append(lines, strings.TrimPrefix(strings.TrimSpace(line), namespace+"_"))
		}
	}
	slices.Sort(lines)
	return lines
}

func mustEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// However many accounts there are, they have no more series than so many, and one.
func TestAccountsAreBounded(t *testing.T) {
	const own, all = 10, 1000
	m := New(Config{Accounts: own})
	var zendesks []zendeskapi.Zendesk
	survey := new(Survey)
	for i := range all {
		tenant, account := fmt.Sprint("tenant", i), fmt.Sprint("account", i)
		for range 2 {
			m.Block("Search", "NEXT", "", tenant, account)
		}
		survey.Accounts = append(survey.Accounts, Account{
			Tenant: tenant, ID: account, State: "failing", OldestPending: time.Now(), CredentialEnd: time.Now().Add(time.Duration(i) * time.Hour), CredentialRenews: true,
		})
		survey.Quotas = append(survey.Quotas, Quota{tenant, "accounts", float64(i)})
		zendesks = append(zendesks, zendeskapi.Zendesk{
			Origin: fmt.Sprintf("https://z%d.zendesk.com", i), Limits: limit.Limits{PerMinute: 700, Remaining: i}, Open: map[string]int{"search": 1},
		})
	}
	m.Surveyed(survey)
	m.Read(Sources{Zendesks: func() []zendeskapi.Zendesk { return zendesks }})
	for _, name := range []string{
		"account_blocks_total", "account_ill", "account_oldest_pending_seconds", "credential_expiry_seconds", "quota_used_ratio",
		"zendesk_limit_per_minute", "zendesk_limit_remaining", "zendesk_limited_seconds", "breakers_open",
	} {
		if n := len(series(t, m, name)); n != own+1 {
			t.Errorf("%s has %d series, want %d", name, n, own+1)
		}
	}
	others := fmt.Sprint(all - own)
	for name, want := range map[string]string{
		"account_blocks_total":    `account_blocks_total{account="_other",exit="NEXT",reason="",tenant="_other"} ` + fmt.Sprint(2*(all-own)),
		"account_ill":             `account_ill{account="_other",state="failing",tenant="_other"} ` + others,
		"quota_used_ratio":        `quota_used_ratio{quota="accounts",tenant="_other"} 999`,
		"zendesk_limit_remaining": `zendesk_limit_remaining{zendesk="_other"} 10`,
		"breakers_open":           `breakers_open{endpoint="search",zendesk="_other"} ` + others,
	} {
		if !slices.Contains(series(t, m, name), want) {
			t.Errorf("there is no %s: %q", want, series(t, m, name))
		}
	}
}

func TestNoSeriesOfAccounts(t *testing.T) {
	m := New(Config{})
	m.Block("Search", "FAILED", "TIMEOUT", "acme", "main")
	m.Block("Search", "NEXT", "", "acme", "")
	mustEqual(t, "series", series(t, m, ".*blocks_total"), []string{
		`account_blocks_total{account="_other",exit="FAILED",reason="TIMEOUT",tenant="_other"} 1`,
		`blocks_total{block="Search",exit="FAILED",reason="TIMEOUT"} 1`,
		`blocks_total{block="Search",exit="NEXT",reason=""} 1`,
	})
}

func TestSurvey(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	m := New(Config{Accounts: 5, Now: func() time.Time { return now }})
	if told := series(t, m, "activities|accounts"); told != nil {
		t.Errorf("before a survey metrics tell %q", told)
	}
	m.Surveyed(&Survey{
		Pending: 3, Dead: 4, OldestPending: now.Add(-90 * time.Second),
		Accounts: []Account{
			{Tenant: "acme", ID: "ill", State: "limited", OldestPending: now.Add(-90 * time.Second), CredentialEnd: now.Add(-time.Minute)},
			{Tenant: "acme", ID: "new", State: "unknown", CredentialEnd: now.Add(time.Hour), CredentialRenews: true},
			{Tenant: "acme", ID: "well", State: "healthy"},
		},
	})
	mustEqual(t, "series", series(t, m, "accounts?|accounts?_[ioe].*|activities|activity_.*|credential_e.*"), []string{
		`account_ill{account="ill",state="limited",tenant="acme"} 1`,
		`account_oldest_pending_seconds{account="ill",tenant="acme"} 90`,
		`account_oldest_pending_seconds{account="new",tenant="acme"} 0`,
		`account_oldest_pending_seconds{account="well",tenant="acme"} 0`,
		`accounts{state="failing"} 0`,
		`accounts{state="healthy"} 1`,
		`accounts{state="limited"} 1`,
		`accounts{state="needs_authorization"} 0`,
		`accounts{state="unknown"} 1`,
		`activities{state="dead"} 4`,
		`activities{state="pending"} 3`,
		`activity_oldest_pending_seconds 90`,
		`credential_expiry_seconds{account="ill",renewable="false",tenant="acme"} -60`,
		`credential_expiry_seconds{account="new",renewable="true",tenant="acme"} 3600`,
	})
	// Who is well again is not ill.
	m.Surveyed(&Survey{Accounts: []Account{{Tenant: "acme", ID: "ill", State: "healthy"}}})
	mustEqual(t, "the ill", series(t, m, "account_ill"), []string(nil))
}

func TestSources(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	m := New(Config{
		Accounts: 1, Now: func() time.Time { return now }, Version: "v1.2.3", Commit: "abc", Date: "2026-11-26",
		Ready: func() map[string]bool { return map[string]bool{"store": true, "drain": false} },
	})
	m.Read(Sources{
		Zendesks: func() []zendeskapi.Zendesk {
			return []zendeskapi.Zendesk{
				{Origin: "http://127.0.0.1:50080", Limits: limit.Limits{PerMinute: 700, Remaining: 3, LimitedUntil: now.Add(30 * time.Second)}},
				{Origin: "https://unknown.zendesk.com"},
			}
		},
		Lookups:        func() []Lookups { return []Lookups{{"agents", 5, 2}} },
		Connections:    func() int { return 7 },
		AuditPending:   func() int { return 8 },
		File:           func() (store.FileStats, bool) { return store.FileStats{Bytes: 9, FreeBytes: 10, DiskFree: 11}, true },
		Writable:       func() bool { return false },
		Database:       func() (int64, bool) { return 13, true },
		Replicas:       func() (int, int, bool) { return 12, 3, true },
		CertificateEnd: func() (time.Time, bool) { return now.Add(time.Hour), true },
	})
	mustEqual(t, "series", series(t, m, "zendesk_limit.*|cache_.*|connections|audit_.*|store_(file|free|disk|writable).*|claims_held|database_.*|replicas|certificate_.*|ready"), []string{
		`audit_pending 8`,
		`cache_lookups_total{cache="agents",result="hit"} 5`,
		`cache_lookups_total{cache="agents",result="miss"} 2`,
		`certificate_expiry_seconds 3600`,
		`claims_held 12`,
		`connections 7`,
		`database_bytes 13`,
		`ready{check="drain"} 0`,
		`ready{check="store"} 1`,
		`replicas 3`,
		`store_disk_free_bytes 11`,
		`store_file_bytes 9`,
		`store_free_bytes 10`,
		`store_writable 0`,
		`zendesk_limit_per_minute{zendesk="127.0.0.1:50080"} 700`,
		`zendesk_limit_remaining{zendesk="127.0.0.1:50080"} 3`,
		`zendesk_limited_seconds{zendesk="127.0.0.1:50080"} 30`,
		`zendesk_limited_seconds{zendesk="_other"} 0`,
	})
	if build := series(t, m, "build_info"); len(build) != 1 || !strings.HasPrefix(build[0], `build_info{commit="abc",date="2026-11-26",goversion="go1`) {
		t.Errorf("build is %q", build)
	}
}

func TestObservers(t *testing.T) {
	m := New(Config{})
	z, s := m.Zendesk(), m.Store()
	z.Sent(t.Context(), zendeskapi.SentRequest{Endpoint: "search", Status: 200, Duration: time.Second})
	z.Sent(t.Context(), zendeskapi.SentRequest{Endpoint: "search", Kind: zendeskapi.Timeout})
	z.Waited(limit.Activities, time.Second)
	z.Refused(limit.Blocks)
	z.Opened("search")
	z.Shared("search")
	s.Committed(store.Commit{Duration: time.Second, Updates: 3, Bytes: 5, Retried: 2})
	s.Committed(store.Commit{Retried: 1})
	s.Damaged()
	s.Heard(30 * time.Millisecond)
	s.Became(store.ActivityPending, "")
	s.Became(store.ActivityDead, store.ReasonNotFound)
	s.Became(store.ActivityWritten, store.ReasonTimeout)
	m.Renewed("refused")
	m.Popped("link", time.Second)
	m.Expired(5, 2)
	m.Panicked(true)
	m.LogLineDropped()
	m.BackedUp(time.Unix(1_800_000_000, 0))
	m.Failed("INTERNAL")
	m.Watched()
	m.Watched()()
	mustEqual(t, "series", series(t, m, "zendesk_requests.*|.*_count|limit_refusals_total|breaker.*|coalesced.*|activities.*|credential_r.*|screen_pops_total|interactions.*|panics.*|log.*|errors.*|watches|store_(up|dam|last).*"), []string{
		`activities_dead_total{reason="NOT_FOUND"} 1`,
		`activities_total{state="dead"} 1`,
		`activities_total{state="discarded"} 0`,
		`activities_total{state="skipped"} 0`,
		`activities_total{state="written"} 1`,
		`breaker_opens_total{endpoint="search"} 1`,
		`coalesced_requests_total 1`,
		`credential_renewals_total{result="failed"} 0`,
		`credential_renewals_total{result="refused"} 1`,
		`credential_renewals_total{result="renewed"} 0`,
		`errors_total{reason="INTERNAL"} 1`,
		`interactions_expired_total{unwritten="false"} 3`,
		`interactions_expired_total{unwritten="true"} 2`,
		`limit_refusals_total{lane="activities"} 0`,
		`limit_refusals_total{lane="background"} 0`,
		`limit_refusals_total{lane="blocks"} 1`,
		`limit_refusals_total{lane="deliveries"} 0`,
		`limit_wait_seconds_count{lane="activities"} 1`,
		`limit_wait_seconds_count{lane="background"} 0`,
		`limit_wait_seconds_count{lane="blocks"} 0`,
		`limit_wait_seconds_count{lane="deliveries"} 0`,
		`log_lines_dropped_total 1`,
		`notification_delay_seconds_count 1`,
		`panics_total{where="background"} 1`,
		`panics_total{where="call"} 0`,
		`screen_pop_delay_seconds_count{outcome="link"} 1`,
		`screen_pops_total{outcome="link"} 1`,
		`store_commit_bytes_count 1`,
		`store_commit_seconds_count 1`,
		`store_commit_updates_count 1`,
		`store_damages_total 1`,
		`store_last_backup_timestamp_seconds 1.8e+09`,
		`store_update_retries_total 3`,
		`watches 1`,
		`zendesk_request_duration_seconds_count{endpoint="search"} 2`,
		`zendesk_requests_total{endpoint="search",status="200"} 1`,
		`zendesk_requests_total{endpoint="search",status="timeout"} 1`,
	})
}

// A page shows what goes on at the same time as calls count themselves.
func TestAtTheSameTime(t *testing.T) {
	m := New(Config{Accounts: 3})
	ctx, end := context.WithCancelCause(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil; i++ {
			m.Block("Search", "NEXT", "", "acme", fmt.Sprint("a", i%7))
			m.Zendesk().Sent(ctx, zendeskapi.SentRequest{Endpoint: fmt.Sprint("e", i%5), Status: 200 + i%3})
		}
	}()
	for range 20 {
		if len(series(t, m, "build_info")) != 1 {
			t.Error("a page is cut short")
		}
	}
	end(errors.New("enough"))
	<-ended
}

func BenchmarkBlock(b *testing.B) {
	m := New(Config{Accounts: 100})
	b.ReportAllocs()
	for b.Loop() {
		m.Block("SelectAccount", "NEXT", "", "acme", "main")
	}
}

func BenchmarkPage(b *testing.B) {
	m := New(Config{Accounts: 100})
	for i := range 100 {
		m.Block("SelectAccount", "NEXT", "", "acme", fmt.Sprint("a", i))
	}
	for b.Loop() {
		scrapeBy(b, m.Handler(), http.Header{"Accept-Encoding": {"gzip"}})
	}
}
