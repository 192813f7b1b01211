package metrics

import (
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Sources are asked when a page is made: they answer from memory. Nil ones are not asked.
type Sources struct {
	Zendesks       func() []zendeskapi.Zendesk
	Lookups        func() []Lookups
	Connections    func() int
	AuditPending   func() int // lines
	File           func() (stats store.FileStats, ok bool)
	Writable       func() bool
	Database       func() (bytes int64, ok bool)          // of a database; 0 bytes: not known yet
	Replicas       func() (claims, replicas int, ok bool) // those that this one holds, and those that live; false: no others share the store
	CertificateEnd func() (end time.Time, ok bool)
}

// Lookups are those of one cache since the start.
type Lookups struct {
	Cache        string
	Hits, Misses uint64
}

// Survey is what was found by a look at all tenants.
type Survey struct {
	Pending, Dead int       // activities
	OldestPending time.Time // zero: none is pending
	Accounts      []Account
	Quotas        []Quota
}

// Account is how an account gets on.
type Account struct {
	Tenant, ID       string
	State            string    // one of accountStates
	OldestPending    time.Time // of its activities; zero: none is pending
	CredentialEnd    time.Time // of its access token, or of what renews that; zero: none that is known
	CredentialRenews bool      // without a person
}

// accountStates are how accounts get on.
var accountStates = []string{"healthy", "limited", "failing", "needs_authorization", "unknown"}

// Quota is how much of a quota a tenant has used; 1: all.
type Quota struct {
	Tenant, Quota string
	Used          float64
}

// Read has the sources asked from now on, in place of others.
func (m *Metrics) Read(s Sources) { m.sources.Store(&s) }

// Surveyed takes the latest survey.
func (m *Metrics) Surveyed(s *Survey) { m.survey.Store(s) }

// gauges tells what is so now.
type gauges struct {
	m     *Metrics
	ready func() map[string]bool
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	limitPerMinute = desc("zendesk_limit_per_minute", "Known limit of requests.", "zendesk")
	limitRemaining = desc("zendesk_limit_remaining", "Requests that may be sent now.", "zendesk")
	limitedSeconds = desc("zendesk_limited_seconds", "For how long nothing may be sent.", "zendesk")
	breakersOpen   = desc("breakers_open", "Accounts for which an endpoint is left alone.", "zendesk", "endpoint")
	cacheLookups   = desc("cache_lookups_total", "Lookups in a cache.", "cache", "result")
	connections    = desc("connections", "Connections of callers that are open.")
	auditPending   = desc("audit_pending", "Lines of the audit that wait to be written.")
	fileBytes      = desc("store_file_bytes", "Size of the data file.")
	freeBytes      = desc("store_free_bytes", "Size of the pages of the data file that hold nothing.")
	diskFree       = desc("store_disk_free_bytes", "What is free on the disk of the data file.")
	writable       = desc("store_writable", "Whether the data can be written.")
	databaseBytes  = desc("database_bytes", "Size of the database.")
	claimsHeld     = desc("claims_held", "Work that this replica has claimed.")
	replicasLive   = desc("replicas", "Replicas that live, as this one sees it.")
	certificateEnd = desc("certificate_expiry_seconds", "Until the TLS certificate that is served ends.")
	readyCheck     = desc("ready", "Whether a check of readiness passes.", "check")

	activitiesNow = desc("activities", "Activities that are not written.", "state")
	oldestPending = desc("activity_oldest_pending_seconds", "Age of the oldest activity that waits.")
	accountOldest = desc("account_oldest_pending_seconds", "Age of an account's oldest activity that waits.", "tenant", "account")
	accountIll    = desc("account_ill", "Whether an account is in a state that needs looking at.", "tenant", "account", "state")
	accountsNow   = desc("accounts", "Accounts by how they get on.", "state")
	credentialEnd = desc("credential_expiry_seconds", "Until an account's access token ends, or what renews it.", "tenant", "account", "renewable")
	quotaUsed     = desc("quota_used_ratio", "Part of a quota that a tenant has used.", "tenant", "quota")
)

// Describe implements [prometheus.Collector]: what is told depends on what there is.
func (g *gauges) Describe(chan<- *prometheus.Desc) {}

// page takes gauges of one page. Those of all that have no series of their own become one, which is the most pressing.
type page struct {
	to chan<- prometheus.Metric
	m  *Metrics
}

func (p page) gauge(d *prometheus.Desc, value float64, labels ...string) {
	p.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

// Collect implements [prometheus.Collector].
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	p := page{to, g.m}
	if g.ready != nil {
		for check, passes := range g.ready() {
			p.gauge(readyCheck, truth(passes), check)
		}
	}
	if s := g.m.sources.Load(); s != nil {
		p.sources(s)
	}
	if s := g.m.survey.Load(); s != nil {
		p.survey(s)
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (p page) sources(s *Sources) {
	if s.Zendesks != nil {
		p.zendesks(s.Zendesks())
	}
	if s.Lookups != nil {
		for _, l := range s.Lookups() {
			p.to <- prometheus.MustNewConstMetric(cacheLookups, prometheus.CounterValue, float64(l.Hits), l.Cache, "hit")
			p.to <- prometheus.MustNewConstMetric(cacheLookups, prometheus.CounterValue, float64(l.Misses), l.Cache, "miss")
		}
	}
	if s.Connections != nil {
		p.gauge(connections, float64(s.Connections()))
	}
	if s.AuditPending != nil {
		p.gauge(auditPending, float64(s.AuditPending()))
	}
	if s.File != nil {
		if stats, ok := s.File(); ok {
			p.gauge(fileBytes, float64(stats.Bytes))
			p.gauge(freeBytes, float64(stats.FreeBytes))
			p.gauge(diskFree, float64(stats.DiskFree))
		}
	}
	if s.Writable != nil {
		p.gauge(writable, truth(s.Writable()))
	}
	if s.Database != nil {
		if bytes, ok := s.Database(); ok && bytes > 0 {
			p.gauge(databaseBytes, float64(bytes))
		}
	}
	if s.Replicas != nil {
		if claims, replicas, ok := s.Replicas(); ok {
			p.gauge(claimsHeld, float64(claims))
			p.gauge(replicasLive, float64(replicas))
		}
	}
	if s.CertificateEnd != nil {
		if end, ok := s.CertificateEnd(); ok {
			p.gauge(certificateEnd, end.Sub(p.m.now()).Seconds())
		}
	}
}

// worst keeps one value for each combination of labels: of several, the one that worse prefers.
type worst[K comparable] struct {
	values map[K]float64
	of     func(a, b float64) float64
}

func newWorst[K comparable](of func(a, b float64) float64) worst[K] {
	return worst[K]{make(map[K]float64), of}
}

func (w worst[K]) add(key K, value float64) {
	if had, ok := w.values[key]; ok {
		value = w.of(had, value)
	}
	w.values[key] = value
}

func largest(a, b float64) float64  { return math.Max(a, b) }
func smallest(a, b float64) float64 { return math.Min(a, b) }
func sum(a, b float64) float64      { return a + b }

func (p page) zendesks(all []zendeskapi.Zendesk) {
	perMinute, remaining, limited := newWorst[string](smallest), newWorst[string](smallest), newWorst[string](largest)
	open := newWorst[[2]string](sum)
	for _, z := range all {
		label := p.m.zendesks.label(hostOf(z.Origin))
		if z.Limits.PerMinute > 0 {
			perMinute.add(label, float64(z.Limits.PerMinute))
			remaining.add(label, float64(z.Limits.Remaining))
		}
		wait := 0.
		if at := z.Limits.LimitedUntil; !at.IsZero() {
			wait = max(0, at.Sub(p.m.now()).Seconds())
		}
		limited.add(label, wait)
		for endpoint, accounts := range z.Open {
			open.add([2]string{label, endpoint}, float64(accounts))
		}
	}
	for _, of := range []struct {
		desc *prometheus.Desc
		worst[string]
	}{{limitPerMinute, perMinute}, {limitRemaining, remaining}, {limitedSeconds, limited}} {
		for label, value := range of.values {
			p.gauge(of.desc, value, label)
		}
	}
	for labels, value := range open.values {
		p.gauge(breakersOpen, value, labels[0], labels[1])
	}
}

// hostOf is the host of an origin, with its port if it names one.
func hostOf(origin string) string {
	if u, err := url.Parse(origin); err == nil {
		return u.Host
	}
	return other
}

func (p page) survey(s *Survey) {
	now := p.m.now()
	age := func(since time.Time) float64 {
		if since.IsZero() {
			return 0
		}
		return max(0, now.Sub(since).Seconds())
	}
	p.gauge(activitiesNow, float64(s.Pending), "pending")
	p.gauge(activitiesNow, float64(s.Dead), "dead")
	p.gauge(oldestPending, age(s.OldestPending))
	states := make(map[string]int)
	oldest, ill := newWorst[[2]string](largest), newWorst[[3]string](sum)
	ends, quotas := newWorst[[3]string](smallest), newWorst[[2]string](largest)
	for i := range s.Accounts {
		a := &s.Accounts[i]
		tenant, account := p.m.accounts.labels(a.Tenant, a.ID)
		states[a.State]++
		oldest.add([2]string{tenant, account}, age(a.OldestPending))
		switch a.State {
		case "limited", "failing", "needs_authorization":
			ill.add([3]string{tenant, account, a.State}, 1)
		}
		if !a.CredentialEnd.IsZero() {
			ends.add([3]string{tenant, account, strconv.FormatBool(a.CredentialRenews)}, a.CredentialEnd.Sub(now).Seconds())
		}
	}
	for _, q := range s.Quotas {
		quotas.add([2]string{p.m.tenants.label(q.Tenant), q.Quota}, q.Used)
	}
	for _, state := range accountStates {
		p.gauge(accountsNow, float64(states[state]), state)
	}
	for labels, value := range oldest.values {
		p.gauge(accountOldest, value, labels[:]...)
	}
	for labels, value := range ill.values {
		p.gauge(accountIll, value, labels[:]...)
	}
	for labels, value := range ends.values {
		p.gauge(credentialEnd, value, labels[:]...)
	}
	for labels, value := range quotas.values {
		p.gauge(quotaUsed, value, labels[:]...)
	}
}
