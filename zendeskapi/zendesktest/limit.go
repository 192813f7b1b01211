package zendesktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"
)

// Buckets of [Limits.Endpoints], as the header "zendesk-ratelimit-<bucket>"
// names them. Endpoints that share one share its limit.
const (
	AuditsBucket       = "ticket-audits-index"
	ScreenPopBucket    = "voice-display"
	SearchBucket       = "search-index"
	TicketCreateBucket = "tickets-create"
	TicketFieldsBucket = "ticket-fields-index"
	TicketShowBucket   = "tickets-show"
	TicketUpdateBucket = "tickets-update"
	TokensBucket       = "oauth-tokens" //nolint:gosec // no credential
	UserSearchBucket   = "users-search"
)

var buckets = []string{
	AuditsBucket, ScreenPopBucket, SearchBucket, TicketCreateBucket, TicketFieldsBucket,
	TicketShowBucket, TicketUpdateBucket, TokensBucket, UserSearchBucket,
}

const (
	// unlimited is a limit that nobody meets, for the headers.
	unlimited = 10_000_000
	// maxOthers bounds what the other consumers take in a minute.
	maxOthers = 100_000
	// span is the time over which requests are counted.
	span = time.Minute
)

// Limits says how many requests the account takes in any 60 seconds, and how
// it tells. What is refused takes nothing of a limit, except that a request
// which its endpoint refuses has been counted by the account.
type Limits struct {
	// PerMinute is the limit of the whole account, whoever asks. 0: none, and
	// headers speak of 10,000,000.
	PerMinute int `json:"per_minute"`
	// Endpoints are limits by bucket. 0: none of its own, and headers speak of
	// the account's.
	Endpoints map[string]int `json:"endpoints"`
	// OtherConsumersPerMinute is what other programs take of the account's
	// limit, evenly spread, as far as there is something left for them. At most
	// 100,000. They send no requests: none is recorded, and no fault hits them.
	OtherConsumersPerMinute int `json:"other_consumers_per_minute"`
	// Headers says which headers tell of the limits. Default HeadersAll.
	Headers LimitHeaders `json:"headers"`
	// RetryAfter is the form of Retry-After where a limit refuses. Default
	// RetryAfterSeconds.
	RetryAfter RetryAfterForm `json:"retry_after"`
}

// Check says what is wrong with limits; nil: nothing.
func (l Limits) Check() error {
	if l.PerMinute < 0 || l.PerMinute > unlimited {
		return fmt.Errorf("per_minute %d is not between 0 and %d", l.PerMinute, unlimited)
	}
	for _, bucket := range slices.Sorted(maps.Keys(l.Endpoints)) {
		switch n := l.Endpoints[bucket]; {
		case !slices.Contains(buckets, bucket):
			return fmt.Errorf("endpoints has no bucket %q: they are %s", bucket, strings.Join(buckets, ", "))
		case n < 0 || n > unlimited:
			return fmt.Errorf("the limit %d of %s is not between 0 and %d", n, bucket, unlimited)
		}
	}
	switch {
	case l.OtherConsumersPerMinute < 0 || l.OtherConsumersPerMinute > maxOthers:
		return fmt.Errorf("other_consumers_per_minute %d is not between 0 and %d", l.OtherConsumersPerMinute, maxOthers)
	case l.Headers != "" && !slices.Contains(limitHeaders, l.Headers):
		return fmt.Errorf("headers %q is none of %q", l.Headers, limitHeaders)
	case l.RetryAfter != "" && !slices.Contains(retryAfterForms, l.RetryAfter):
		return fmt.Errorf("retry_after %q is none of %q", l.RetryAfter, retryAfterForms)
	}
	return nil
}

func (l Limits) account() int {
	if l.PerMinute == 0 {
		return unlimited
	}
	return l.PerMinute
}

func (l Limits) endpoint(bucket string) int {
	if n := l.Endpoints[bucket]; n > 0 {
		return n
	}
	return l.account()
}

// Use is what has been taken of a limit.
type Use struct {
	Used         int `json:"used"`                     // in the last 60 seconds, by whomever
	UsedByOthers int `json:"used_by_others,omitempty"` // part of Used
	Remaining    int `json:"remaining"`
	// Allowed and Refused count requests since the account was made; those of
	// other consumers are in neither.
	Allowed int `json:"allowed"`
	Refused int `json:"refused"`
}

// Usage is the use of all limits.
type Usage struct {
	Account   Use            `json:"account"`
	Endpoints map[string]Use `json:"endpoints"` // by bucket; those that were ever asked
}

// meter counts what was let through in the last minute.
type meter struct {
	taken            []time.Duration // when, since the account was made; oldest first
	allowed, refused int
}

// forget drops what was taken a minute ago or longer.
func (m *meter) forget(now time.Duration) {
	m.taken = m.taken[sort.Search(len(m.taken), func(i int) bool { return m.taken[i] > now-span }):]
}

// take takes a slot of a limit, if there is one.
func (m *meter) take(limit int, now time.Duration) bool {
	m.forget(now)
	if len(m.taken) >= limit {
		return false
	}
	m.taken = append(m.taken, now)
	return true
}

// free says how long it is until a slot comes back: the next one, or, where
// more are taken than the limit allows, the first that can be used.
func (m *meter) free(limit int, now time.Duration) time.Duration {
	if len(m.taken) == 0 {
		return span
	}
	return m.taken[max(0, len(m.taken)-limit)] + span - now
}

func (m *meter) figures(limit int, now time.Duration) figures {
	m.forget(now)
	return figures{limit: limit, remaining: max(0, limit-len(m.taken)), free: m.free(limit, now)}
}

// meters are the state of the limits, guarded by Zendesk.mu.
type meters struct {
	limits    Limits
	account   meter
	endpoints map[string]*meter
	// others is the part of account that other consumers have taken. They have
	// come othersCame times since othersSince.
	others      meter
	othersSince time.Duration
	othersCame  int
}

func (m *meters) endpoint(bucket string) *meter {
	e := m.endpoints[bucket]
	if e == nil {
		e = &meter{}
		m.endpoints[bucket] = e
	}
	return e
}

// letOthersTake makes up for what the other consumers have done until now.
func (m *meters) letOthersTake(now time.Duration) {
	n := m.limits.OtherConsumersPerMinute
	if n == 0 {
		return
	}
	// What was long ago is no longer counted, so that it need not be played.
	const played = 10
	m.othersCame = max(m.othersCame, (int((now-m.othersSince)/span)-played)*n)
	for {
		at := m.othersSince + time.Duration(m.othersCame/n)*span + time.Duration(m.othersCame%n)*span/time.Duration(n)
		if at > now {
			return
		}
		if m.account.take(m.limits.account(), at) {
			m.others.take(unlimited, at)
		}
		m.othersCame++
	}
}

// set changes the limits. What was taken before stays taken.
func (m *meters) set(l Limits, now time.Duration) {
	m.letOthersTake(now)
	if l.OtherConsumersPerMinute != m.limits.OtherConsumersPerMinute {
		m.othersSince, m.othersCame = now, 0
	}
	if l.Headers == "" {
		l.Headers = HeadersAll
	}
	if l.RetryAfter == "" {
		l.RetryAfter = RetryAfterSeconds
	}
	m.limits = l
}

// elapsed is the time since the account was made, by its configured clock: the
// skew of its stamps does not change what a minute is.
func (z *Zendesk) elapsed() time.Duration { return z.config.Clock().Sub(z.made) }

// Limits are those in force.
func (z *Zendesk) Limits() Limits {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.meters.limits.clone()
}

func (l Limits) clone() Limits {
	endpoints := map[string]int{}
	maps.Copy(endpoints, l.Endpoints)
	l.Endpoints = endpoints
	return l
}

// SetLimits changes the limits while the account is in use, for the requests
// that come from then on. What [Limits.Check] objects to changes nothing.
func (z *Zendesk) SetLimits(l Limits) error {
	return z.changeLimits(func(changed *Limits) error {
		*changed = l.clone()
		return nil
	})
}

func (z *Zendesk) changeLimits(change func(*Limits) error) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	l := z.meters.limits.clone()
	if err := change(&l); err != nil {
		return err
	}
	if err := l.Check(); err != nil {
		return err
	}
	z.meters.set(l, z.elapsed())
	return nil
}

// Usage says how much of the limits is in use.
func (z *Zendesk) Usage() Usage {
	z.mu.Lock()
	defer z.mu.Unlock()
	now := z.elapsed()
	z.meters.letOthersTake(now)
	use := func(m *meter, limit int) Use {
		remaining := m.figures(limit, now).remaining
		return Use{Used: len(m.taken), Remaining: remaining, Allowed: m.allowed, Refused: m.refused}
	}
	usage := Usage{Account: use(&z.meters.account, z.meters.limits.account()), Endpoints: map[string]Use{}}
	z.meters.others.forget(now)
	usage.Account.UsedByOthers = len(z.meters.others.taken)
	for bucket, m := range z.meters.endpoints {
		usage.Endpoints[bucket] = use(m, z.meters.limits.endpoint(bucket))
	}
	return usage
}

// limit counts the request against the account and its bucket and sets the
// headers that say so. Its result is the refusal.
func (z *Zendesk) limit(header http.Header, bucket string) *reply {
	now, m := z.elapsed(), &z.meters
	m.letOthersTake(now)
	count := func(of *meter, limit int) (time.Duration, bool) {
		if of.take(limit, now) {
			of.allowed++
			return 0, true
		}
		of.refused++
		return of.free(limit, now), false
	}
	wait, allowed := count(&m.account, m.limits.account())
	var endpoint figures
	if bucket != "" {
		limit := m.limits.endpoint(bucket)
		if allowed {
			wait, allowed = count(m.endpoint(bucket), limit)
		}
		endpoint = m.endpoint(bucket).figures(limit, now)
	}
	m.limits.Headers.set(header, m.account.figures(m.limits.account(), now), bucket, endpoint)
	if allowed {
		return nil
	}
	r := tooManyRequests()
	z.setRetryAfter(r.header, wait)
	return r
}

// limitHeaders sets the headers of an answer that a fault gave. A 429 has
// nothing left; any other one counts, unless the request has acted, which
// counted it.
func (z *Zendesk) limitHeaders(header http.Header, status int, acted bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	now, m := z.elapsed(), &z.meters
	m.letOthersTake(now)
	if status != http.StatusTooManyRequests && !acted && m.account.take(m.limits.account(), now) {
		m.account.allowed++
	}
	account := m.account.figures(m.limits.account(), now)
	if status == http.StatusTooManyRequests {
		account.remaining = 0
	}
	m.limits.Headers.set(header, account, "", figures{})
}

func tooManyRequests() *reply {
	return failure(http.StatusTooManyRequests, "APIRateLimitExceeded",
		"Number of allowed API requests per minute exceeded")
}

// updateKey is what Zendesk counts ticket updates by.
type updateKey struct{ user, ticket int64 }

// limitUpdate refuses more updates of one ticket by one user than Zendesk
// allows in 10 minutes.
func (z *Zendesk) limitUpdate(key updateKey, now time.Time) *reply {
	const span = 10 * time.Minute
	recent := slices.DeleteFunc(z.updates[key], func(t time.Time) bool { return !t.After(now.Add(-span)) })
	z.updates[key] = recent
	if len(recent) < z.config.TicketUpdateLimit {
		z.updates[key] = append(recent, now)
		return nil
	}
	r := failure(http.StatusTooManyRequests, "TooManyRequests",
		"Number of allowed updates of this ticket by this user in 10 minutes exceeded")
	z.setRetryAfter(r.header, recent[0].Add(span).Sub(now))
	return r
}

// serveSetLimits takes Limits; what is left out stays as it is, and of
// endpoints the buckets that are left out.
func (z *Zendesk) serveSetLimits(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = z.changeLimits(func(l *Limits) error { return decodeWhole(body, l) })
	}
	if err != nil {
		failure(http.StatusBadRequest, "InvalidLimits", err.Error()).write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (z *Zendesk) serveLimits(w http.ResponseWriter, _ *http.Request) {
	answer(http.StatusOK, struct {
		Limits
		Usage Usage `json:"usage"`
	}{z.Limits(), z.Usage()}).write(w)
}

// decodeWhole reads one JSON text without keys that nobody knows, and nothing
// behind it.
func decodeWhole(body []byte, value any) error {
	if !json.Valid(body) {
		return errors.New("the body is no JSON")
	}
	return decodeStrictly(strings.NewReader(string(body)), value)
}
