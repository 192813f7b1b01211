// Package metrics counts what the service does, and tells it to Prometheus. It is the only package that knows Prometheus.
//
// It hides the names, which stand in the operator's guide too, and keeps what they cost small: a call counts itself with
// numbers that were resolved before, accounts and Zendesks have series of their own only up to a number, all others together
// as "_other". No id of an interaction or a person is in it.
//
//	m := metrics.New(metrics.Config{Accounts: 100})
//	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{Observer: m.Zendesk()})
//	...
//	mux.Handle("/metrics", m.Handler())
package metrics

import (
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"github.com/scenarioblocks/zendeskblocks/store"
)

const namespace = "zendeskblocks"

// Config says what is told beside what happens.
type Config struct {
	Accounts int // how many accounts, tenants and Zendesks have series of their own, the first that appear; 0: none

	Version, Commit, Date string // of the build

	Ready func() map[string]bool // which checks of readiness pass, by name; nil: it is not told
	Now   func() time.Time       // default time.Now
}

// Metrics is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	calls    *grpcprometheus.ServerMetrics
	now      func() time.Time

	accounts, tenants, zendesks *bounded

	errors, renewals, panics, expired, dead, breakers, coalesced *family[string]
	browsers                                                     *family[webKey]

	blocks        *family[blockKey]
	accountBlocks *family[accountBlockKey]
	activities    *family[string]
	requests      *family[requestKey]
	durations     *timings
	pops          *family[string]
	popDelays     *timings

	waits    []prometheus.Observer // by lane
	refusals []prometheus.Counter  // by lane

	commitTime, commitUpdates, commitBytes, heard prometheus.Histogram
	retries, damages, droppedLines                prometheus.Counter

	watches    prometheus.Gauge
	lastBackup prometheus.Gauge

	sources atomic.Pointer[Sources]
	survey  atomic.Pointer[Survey]
}

type (
	blockKey        struct{ block, exit, reason string }
	accountBlockKey struct{ tenant, account, exit, reason string }
	requestKey      struct{ endpoint, status string }
	webKey          struct {
		route  string
		status int
	}
)

// callBuckets are for calls: what only reads, what writes, what asks Zendesk, and the time limits.
var callBuckets = []float64{.001, .005, .02, .1, .3, 1, 3, 8}

// New makes metrics that have counted nothing.
func New(c Config) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), now: c.Now, accounts: newBounded(c.Accounts), tenants: newBounded(c.Accounts), zendesks: newBounded(c.Accounts)}
	if m.now == nil {
		m.now = time.Now
	}
	m.calls = grpcprometheus.NewServerMetrics(grpcprometheus.WithServerHandlingTimeHistogram(grpcprometheus.WithHistogramBuckets(callBuckets)))
	m.registry.MustRegister(m.calls, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	m.errors = labelled(m, "errors_total", "Errors of gRPC that calls ended with.", one, "reason")
	m.blocks = labelled(m, "blocks_total", "Blocks that were run.", func(k blockKey) []string { return []string{k.block, k.exit, k.reason} }, "block", "exit", "reason")
	m.accountBlocks = labelled(m, "account_blocks_total", "Blocks that used an account.",
		func(k accountBlockKey) []string { return []string{k.tenant, k.account, k.exit, k.reason} }, "tenant", "account", "exit", "reason")

	m.browsers = labelled(m, "web_requests_total", "Requests of browsers that were answered.",
		func(k webKey) []string { return []string{k.route, strconv.Itoa(k.status)} }, "route", "status")
	m.requests = labelled(m, "zendesk_requests_total", "Requests that were sent to Zendesk.",
		func(k requestKey) []string { return []string{k.endpoint, k.status} }, "endpoint", "status")
	m.durations = m.timings("zendesk_request_duration_seconds", "Requests to Zendesk, until the answer was read.", "endpoint", .05, .1, .25, .5, 1, 2.5, 5, 10)
	m.breakers = labelled(m, "breaker_opens_total", "Times that an endpoint of Zendesk was left alone, since it failed again and again.", one, "endpoint")
	m.coalesced = labelled(m, "coalesced_requests_total", "Reads of Zendesk that were answered by one which was under way.", func(string) []string { return nil })
	m.coalesced.of("")
	m.observeLanes()

	m.activities = labelled(m, "activities_total", "Activities that came to a state.", one, "state")
	m.dead = labelled(m, "activities_dead_total", "Activities that cannot be written.", one, "reason")
	m.renewals = labelled(m, "credential_renewals_total", "Renewals of access tokens.", one, "result")
	m.pops = labelled(m, "screen_pops_total", "Screen pops that were shown, or not.", one, "outcome")
	m.popDelays = m.timings("screen_pop_delay_seconds", "From when a delivery arrived until a screen pop was shown.", "outcome", .1, .25, .5, 1, 2.5, 5)
	m.expired = labelled(m, "interactions_expired_total", "Interactions that were left alone for too long.", one, "unwritten")
	m.panics = labelled(m, "panics_total", "Panics that were survived.", one, "where")

	m.commitTime = m.histogram("store_commit_seconds", "Durable commits of the data file, or the database.", .001, .002, .005, .01, .025, .1, .5, 2)
	m.commitUpdates = m.histogram("store_commit_updates", "Updates that shared a commit.", 1, 2, 4, 8, 16, 64, 256)
	m.commitBytes = m.histogram("store_commit_bytes", "Bytes of keys and values in a commit.", 1<<10, 4<<10, 16<<10, 64<<10, 256<<10, 1<<20, 4<<20)
	m.heard = m.histogram("notification_delay_seconds", "From a commit of another replica until this one heard of it.", .01, .025, .05, .1, .2, .5, 1, 2.5, 10)
	m.retries = m.counter("store_update_retries_total", "Updates that ran again, since what they had read had changed.")
	m.damages = m.counter("store_damages_total", "Damage that was found in the data file.")
	m.lastBackup = m.gauge("store_last_backup_timestamp_seconds", "When the last complete backup ended; 0: there was none since the start.")

	m.droppedLines = m.counter("log_lines_dropped_total", "Lines of the log that nobody read in time.")
	m.watches = m.gauge("watches", "Watches of screen pops that are open.")
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "What was built.",
		ConstLabels: prometheus.Labels{"version": c.Version, "commit": c.Commit, "date": c.Date, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, &gauges{m: m, ready: c.Ready})
	m.begin()
	return m
}

// begin makes the series there from the start whose first increase must be seen as one, by rules that are about it.
func (m *Metrics) begin() {
	for _, state := range activityStates {
		m.activities.of(state)
	}
	for _, result := range []string{"renewed", "refused", "failed"} {
		m.renewals.of(result)
	}
	for _, where := range []string{"call", "background"} {
		m.panics.of(where)
	}
	for _, unwritten := range []bool{false, true} {
		m.expired.of(strconv.FormatBool(unwritten))
	}
}

// Interceptors count and time calls.
func (m *Metrics) Interceptors() (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	return m.calls.UnaryServerInterceptor(), m.calls.StreamServerInterceptor()
}

// Failed counts a call that ended with an error of this API.
func (m *Metrics) Failed(reason string) { m.errors.of(reason).Inc() }

// Answered counts a request of a browser, by its route, which is one of few.
func (m *Metrics) Answered(route string, status int) { m.browsers.of(webKey{route, status}).Inc() }

// Block counts a block that was run, and the use of its account; empty: it used none.
func (m *Metrics) Block(block, exit, reason, tenant, account string) {
	m.blocks.of(blockKey{block, exit, reason}).Inc()
	if account != "" {
		tenant, account = m.accounts.labels(tenant, account)
		m.accountBlocks.of(accountBlockKey{tenant, account, exit, reason}).Inc()
	}
}

// Renewed counts the renewal of an access token: renewed, refused or failed.
func (m *Metrics) Renewed(result string) { m.renewals.of(result).Inc() }

// Popped counts a screen pop: displayed, link or failed; delay is how long that took since its delivery arrived.
func (m *Metrics) Popped(outcome string, delay time.Duration) {
	m.pops.of(outcome).Inc()
	m.popDelays.of(outcome).Observe(delay.Seconds())
}

// Watched counts a watch of screen pops that is open until leave is called.
func (m *Metrics) Watched() (leave func()) {
	m.watches.Inc()
	return m.watches.Dec
}

// Expired counts interactions that were left alone for too long, and those of them that had attached data which nobody wrote.
func (m *Metrics) Expired(all, unwritten int) {
	m.expired.of("true").Add(float64(unwritten))
	m.expired.of("false").Add(float64(all - unwritten))
}

// Panicked counts a panic that was survived, of a call or of what works in the background.
func (m *Metrics) Panicked(background bool) {
	if background {
		m.panics.of("background").Inc()
		return
	}
	m.panics.of("call").Inc()
}

// LogLineDropped counts a line of the log that nobody read in time.
func (m *Metrics) LogLineDropped() { m.droppedLines.Inc() }

// BackedUp notes the end of a complete backup.
func (m *Metrics) BackedUp(at time.Time) { m.lastBackup.Set(seconds(at)) }

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

// Store is what a store tells of itself.
func (m *Metrics) Store() store.Observer {
	return store.Observer{
		Committed: func(c store.Commit) {
			m.retries.Add(float64(c.Retried))
			if c.Updates > 0 {
				m.commitTime.Observe(c.Duration.Seconds())
				m.commitUpdates.Observe(float64(c.Updates))
				m.commitBytes.Observe(float64(c.Bytes))
			}
		},
		Damaged: m.damages.Inc,
		Heard:   func(delay time.Duration) { m.heard.Observe(delay.Seconds()) },
		Became: func(state store.ActivityState, reason store.FailureReason) {
			name, ok := activityStates[state]
			if !ok {
				return // it waits
			}
			m.activities.of(name).Inc()
			if state == store.ActivityDead {
				m.dead.of(string(reason)).Inc()
			}
		},
	}
}

// activityStates are those that an activity ends in.
var activityStates = map[store.ActivityState]string{
	store.ActivityWritten: "written", store.ActivitySkipped: "skipped", store.ActivityDead: "dead", store.ActivityDiscarded: "discarded",
}

// family is a counter with labels, each combination of which is resolved once.
type family[K comparable] struct {
	vec    *prometheus.CounterVec
	labels func(K) []string

	mu    sync.RWMutex
	known map[K]prometheus.Counter
}

func labelled[K comparable](m *Metrics, name, help string, labels func(K) []string, names ...string) *family[K] {
	f := &family[K]{
		vec:    prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, names),
		labels: labels, known: make(map[K]prometheus.Counter),
	}
	m.registry.MustRegister(f.vec)
	return f
}

func one(label string) []string { return []string{label} }

func (f *family[K]) of(key K) prometheus.Counter {
	f.mu.RLock()
	known := f.known[key]
	f.mu.RUnlock()
	if known != nil {
		return known
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	known = f.vec.WithLabelValues(f.labels(key)...)
	f.known[key] = known
	return known
}

// timings is a histogram with one label, each value of which is resolved once.
type timings struct {
	vec *prometheus.HistogramVec

	mu    sync.RWMutex
	known map[string]prometheus.Observer
}

func (m *Metrics) timings(name, help, label string, buckets ...float64) *timings {
	t := &timings{
		vec:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, []string{label}),
		known: make(map[string]prometheus.Observer),
	}
	m.registry.MustRegister(t.vec)
	return t
}

func (t *timings) of(key string) prometheus.Observer {
	t.mu.RLock()
	known := t.known[key]
	t.mu.RUnlock()
	if known != nil {
		return known
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known = t.vec.WithLabelValues(key)
	t.known[key] = known
	return known
}

func (m *Metrics) histogram(name, help string, buckets ...float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	m.registry.MustRegister(g)
	return g
}

// other stands for all that have no series of their own.
const other = "_other"

// bounded keeps how many have series of their own within a number: the first that appear.
type bounded struct {
	most int

	mu    sync.RWMutex
	known map[[2]string]struct{}
}

func newBounded(most int) *bounded {
	return &bounded{most: most, known: make(map[[2]string]struct{})}
}

// labels are those of one that has two names: the names, or other for each.
func (b *bounded) labels(first, second string) (string, string) {
	if b.own([2]string{first, second}) {
		return first, second
	}
	return other, other
}

// label is that of one that has one name.
func (b *bounded) label(name string) string {
	if b.own([2]string{name}) {
		return name
	}
	return other
}

func (b *bounded) own(key [2]string) bool {
	b.mu.RLock()
	_, known := b.known[key]
	full := len(b.known) >= b.most
	b.mu.RUnlock()
	if known || full {
		return known
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known) < b.most {
		b.known[key] = struct{}{}
	}
	_, known = b.known[key]
	return known
}
