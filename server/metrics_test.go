package server

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// scraped is what a scrape told: values by series, as they stand on the page.
type scraped struct {
	text   string
	types  map[string]string
	labels map[string]map[string]bool // of each metric, its labels
	values map[string]float64
}

var sampleLine = regexp.MustCompile(`^([a-zA-Z0-9_:]+)(?:\{(.*)\})? (\S+)$`)

// scrape looks at all tenants, and scrapes what metrics tell now.
func (s *testServer) scrape(t testing.TB) scraped {
	t.Helper()
	found, err := s.server.look(t.Context())
	must(t, err)
	s.config.Metrics.Surveyed(found)
	return scrape(t, s.config.Metrics)
}

func scrape(t testing.TB, m *metrics.Metrics) scraped {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept-Encoding", "gzip")
	res := httptest.NewRecorder()
	m.Handler().ServeHTTP(res, req)
	if res.Code != http.StatusOK || res.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("scrape is answered %d %v: %s", res.Code, res.Header(), res.Body)
	}
	unpacked, err := gzip.NewReader(res.Body)
	must(t, err)
	text, err := io.ReadAll(unpacked)
	must(t, err)
	told := scraped{text: string(text), types: make(map[string]string), labels: make(map[string]map[string]bool), values: make(map[string]float64)}
	for line := range strings.Lines(told.text) {
		line = strings.TrimSuffix(line, "\n")
		if words := strings.Fields(line); words[0] == "#" {
			if words[1] == "TYPE" {
				told.types[words[2]] = words[3]
			}
			continue
		}
		sample := sampleLine.FindStringSubmatch(line)
		if sample == nil {
			t.Fatalf("line %q", line)
		}
		value, err := strconv.ParseFloat(sample[3], 64)
		must(t, err)
		told.values[strings.TrimSuffix(line, " "+sample[3])] = value
		name := sample[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); base != name && told.types[base] == "histogram" {
				name = base
			}
		}
		if told.labels[name] == nil {
			told.labels[name] = make(map[string]bool)
		}
		for _, label := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(sample[2], -1) {
			if label[1] != "le" {
				told.labels[name][label[1]] = true
			}
		}
	}
	return told
}

// mustTell checks the values of some series.
func (s scraped) mustTell(t testing.TB, want map[string]float64) {
	t.Helper()
	for series, value := range want {
		if got, ok := s.values[series]; !ok || got != value {
			t.Errorf("%s is %v, %t, want %v", series, got, ok, value)
		}
	}
}

const (
	searchEndpoint = "/api/v2/search"
	// metricCanary stands where metrics must not look: in names, data, texts and addresses.
	metricCanary = "k4nary"
)

// newBusyServer is a server that has done a little of everything that metrics tell.
func newBusyServer(t *testing.T, own int) *activityServer {
	t.Helper()
	s := newActivityServer(t)
	s.keep.Quota = store.Usage{Accounts: 100, LiveInteractions: 1000, PendingActivities: 100, DeadActivities: 100, StoredBytes: 1 << 30}
	s.ownSeries = own
	s.restart(t)
	_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{
		Account: &zendeskv1.Account{AccountId: "main", Name: metricCanary}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
	})
	must(t, err)
	s.createAccount(t, "second", zendesktest.Agent)
	s.authorize(t, refreshToken)
	s.search(t, metricCanary+"-call", callerQuery+" "+metricCanary)
	s.attach(t, metricCanary+"-call", map[string]string{metricCanary: metricCanary})
	s.pop(t, toTicket(metricCanary+"-popped", openTickets[0]))
	s.deliver(t, metricCanary+"-popped", zendesktest.Agent)
	s.awaitState(t, s.complete(t, metricCanary+"-written", openTickets[0], func(r *zendeskv1.CompleteInteractionRequest) {
		r.Details = &zendeskv1.ActivityDetails{Notes: metricCanary}
	}).GetActivityId(), written)
	s.complete(t, metricCanary+"-skipped", "")
	s.refuse(t, metricCanary+"-dead", 422, "second")
	discarded := s.refuse(t, metricCanary+"-discarded", 422, "second")
	_, err = s.interactions.DiscardActivity(t.Context(), &zendeskv1.DiscardActivityRequest{ActivityId: discarded.GetActivityId()})
	must(t, err)
	_, err = s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: metricCanary})
	if err == nil {
		t.Fatal("an interaction is there that never was")
	}
	// Endpoints that fail again and again are left alone.
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchEndpoint, Status: 500})
	for range 3 {
		s.search(t, metricCanary+"-call", callerQuery)
	}
	s.zendesk.ClearFaults()
	return s
}

// The guide's table of metrics is what a server tells that has done everything.
func TestMetricsOfTheGuide(t *testing.T) {
	t.Parallel()
	s := newBusyServer(t, 100)
	told := s.scrape(t)
	// What this server lacks: TLS, checks of readiness, browsers, and other replicas over a database.
	lacking := metrics.New(metrics.Config{Ready: func() map[string]bool { return map[string]bool{"store": true} }})
	lacking.Read(metrics.Sources{
		CertificateEnd: func() (time.Time, bool) { return time.Now(), true },
		Replicas:       func() (int, int, bool) { return 1, 1, true },
		Database:       func() (int64, bool) { return 1, true },
	})
	lacking.Answered("GET /accounts", http.StatusOK)
	lacks := []string{"web_requests_total", "ready", "certificate_expiry_seconds", "claims_held", "replicas", "database_bytes"}
	without := scrape(t, lacking)
	for name, labels := range without.labels {
		if told.labels[name] == nil && slices.Contains(lacks, strings.TrimPrefix(name, "zendeskblocks_")) {
			told.labels[name], told.types[name] = labels, without.types[name]
		}
	}
	got := make(map[string]string)
	for name, labels := range told.labels {
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			got[name] = told.types[name] + " " + strings.Join(slices.Sorted(maps.Keys(labels)), " ")
		}
	}
	guide, err := os.ReadFile("../cmd/zendeskblocks/README.md")
	must(t, err)
	want := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `((?:grpc|zendeskblocks)_[a-z_]+)` \\| (counter|gauge|histogram) \\| ([a-z_`, ]*) ?\\|").FindAllStringSubmatch(string(guide), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		want[row[1]] = row[2] + " " + strings.Join(labels, " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics are not those of the guide (-guide +told):\n%s", diff)
	}
}

func TestMetricsCount(t *testing.T) {
	t.Parallel()
	s := newBusyServer(t, 100)
	told := s.scrape(t)
	told.mustTell(t, map[string]float64{
		`grpc_server_handled_total{grpc_code="NotFound",grpc_method="GetInteraction",grpc_service="scenarioblocks.zendesk.v1.InteractionService",grpc_type="unary"}`: 1,
		`zendeskblocks_errors_total{reason="INTERACTION_NOT_FOUND"}`:                                                         1,
		`zendeskblocks_blocks_total{block="AttachedData",exit="NEXT",reason=""}`:                                             1,
		`zendeskblocks_blocks_total{block="Search",exit="FAILED",reason="UNAVAILABLE"}`:                                      3,
		`zendeskblocks_account_blocks_total{account="main",exit="FAILED",reason="UNAVAILABLE",tenant="default"}`:             3,
		`zendeskblocks_breakers_open{endpoint="search",zendesk="` + strings.TrimPrefix(s.zendesk.Origin(), "http://") + `"}`: 1,
		`zendeskblocks_breaker_opens_total{endpoint="search"}`:                                                               1,
		`zendeskblocks_zendesk_requests_total{endpoint="search",status="500"}`:                                               5,
		`zendeskblocks_zendesk_requests_total{endpoint="request_token",status="200"}`:                                        1,
		`zendeskblocks_activities{state="dead"}`:                                                                             1,
		`zendeskblocks_activities{state="pending"}`:                                                                          0,
		`zendeskblocks_activities_total{state="written"}`:                                                                    1,
		`zendeskblocks_activities_total{state="skipped"}`:                                                                    1,
		`zendeskblocks_activities_total{state="dead"}`:                                                                       2,
		`zendeskblocks_activities_total{state="discarded"}`:                                                                  1,
		`zendeskblocks_activities_dead_total{reason="INVALID_REQUEST"}`:                                                      2,
		`zendeskblocks_activity_oldest_pending_seconds`:                                                                      0,
		`zendeskblocks_accounts{state="failing"}`:                                                                            1,
		`zendeskblocks_account_ill{account="main",state="failing",tenant="default"}`:                                         1,
		`zendeskblocks_screen_pops_total{outcome="displayed"}`:                                                               1,
		`zendeskblocks_screen_pop_delay_seconds_count{outcome="displayed"}`:                                                  1,
		`zendeskblocks_connections`:                                                                                          1,
		`zendeskblocks_watches`:                                                                                              0,
		`zendeskblocks_store_writable`:                                                                                       1,
		`zendeskblocks_quota_used_ratio{quota="accounts",tenant="default"}`:                                                  .02,
	})
	for _, series := range []string{
		"zendeskblocks_store_commit_seconds_count", "zendeskblocks_store_commit_updates_count", "zendeskblocks_store_file_bytes",
		"zendeskblocks_store_disk_free_bytes", `zendeskblocks_limit_wait_seconds_count{lane="blocks"}`,
		`zendeskblocks_credential_expiry_seconds{account="main",renewable="true",tenant="default"}`,
	} {
		if told.values[series] <= 0 {
			t.Errorf("%s is %v", series, told.values[series])
		}
	}

	watching, end := context.WithCancel(t.Context())
	s.watch(watching, t, zendesktest.Agent.Email)
	s.scrape(t).mustTell(t, map[string]float64{"zendeskblocks_watches": 1})
	end()

	// What was dead before a restart is dead after it, at once.
	s.restart(t)
	s.scrape(t).mustTell(t, map[string]float64{
		`zendeskblocks_activities{state="dead"}`:                                        1,
		`zendeskblocks_activities_total{state="dead"}`:                                  0,
		`zendeskblocks_account_oldest_pending_seconds{account="main",tenant="default"}`: 0,
	})
}

// Nothing secret and nothing of a person or an interaction is in metrics.
func TestMetricsTellNoSecrets(t *testing.T) {
	t.Parallel()
	told := newBusyServer(t, 100).scrape(t)
	page := strings.ToLower(told.text)
	for _, secret := range []string{
		metricCanary, "@", zendesktest.Admin.APIToken, zendesktest.Agent.APIToken, zendesktest.ClientSecret, "5135557611", openTickets[0],
	} {
		if at := strings.Index(page, strings.ToLower(secret)); at >= 0 {
			t.Errorf("metrics tell %q: … %.200q", secret, page[max(0, at-100):])
		}
	}
}

func TestMetricsTellPanics(t *testing.T) {
	c := newChained(t, Timeouts{})
	c.handle = func(context.Context) error { panic("one") }
	_, _ = c.unary(t.Context()), c.stream(t.Context())
	told := scrape(t, c.metrics)
	told.mustTell(t, map[string]float64{
		`zendeskblocks_panics_total{where="call"}`:       2,
		`zendeskblocks_panics_total{where="background"}`: 0,
		`zendeskblocks_errors_total{reason="INTERNAL"}`:  2,
	})
}

// The log tells at debug what was asked of Zendesk, and not what it was asked about.
func TestZendeskIsLogged(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: searchEndpoint, Status: 503, Times: 1})
	_, err := s.blocks.Search(metadata.AppendToOutgoingContext(t.Context(), "traceparent", traceparent), &zendeskv1.SearchRequest{
		InteractionId: "call", SearchString: callerQuery + " " + metricCanary, RecordsetName: "RS",
	})
	must(t, err)
	var asked []string
	for _, line := range s.log.lines(t) {
		if line["msg"] != "asked Zendesk" || line["endpoint"] != "search" {
			continue
		}
		asked = append(asked, fmt.Sprintln(line["level"], line["method"], line["path"], line["http_status"], line["attempt"], line["kind"]))
		if line["duration"] == nil || line["zendesk_request_id"] == nil || line["trace_id"] != callersTrace {
			t.Errorf("line %v lacks something", line)
		}
	}
	mustEqual(t, "lines", asked, []string{
		"DEBUG GET /api/v2/search.json 503 1 unavailable\n", "DEBUG GET /api/v2/search.json 200 2 <nil>\n",
	})
	if strings.Contains(s.log.String(), metricCanary) {
		t.Error("the log tells what was searched for")
	}
}
