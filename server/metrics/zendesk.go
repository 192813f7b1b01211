package metrics

import (
	"context"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// Zendesk counts what becomes of requests to Zendesk.
func (m *Metrics) Zendesk() zendeskapi.Observer { return zendeskObserver{m} }

type zendeskObserver struct{ m *Metrics }

// Sent implements [zendeskapi.Observer].
func (o zendeskObserver) Sent(_ context.Context, r zendeskapi.SentRequest) {
	o.m.requests.of(requestKey{r.Endpoint, r.Result()}).Inc()
	o.m.durations.of(r.Endpoint).Observe(r.Duration.Seconds())
}

// Waited implements [zendeskapi.Observer].
func (o zendeskObserver) Waited(lane limit.Lane, wait time.Duration) {
	o.m.waits[lane].Observe(wait.Seconds())
}

// Refused implements [zendeskapi.Observer].
func (o zendeskObserver) Refused(lane limit.Lane) { o.m.refusals[lane].Inc() }

// Opened implements [zendeskapi.Observer].
func (o zendeskObserver) Opened(endpoint string) { o.m.breakers.of(endpoint).Inc() }

// Shared implements [zendeskapi.Observer].
func (o zendeskObserver) Shared(string) { o.m.coalesced.of("").Inc() }

func (m *Metrics) observeLanes() {
	waits := m.timings("limit_wait_seconds", "How long requests waited for their turn in the limit of their Zendesk.", "lane", .001, .05, .25, 1, 5, 30)
	refusals := labelled(m, "limit_refusals_total", "Requests that were not sent, since they would have waited in vain.", one, "lane")
	for _, lane := range limit.Lanes() {
		m.waits = append(m.waits, waits.of(lane.String()))
		m.refusals = append(m.refusals, refusals.of(lane.String()))
	}
}
