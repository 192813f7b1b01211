package zendesktest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Buckets of [Config.EndpointLimits], as the header
// "zendesk-ratelimit-<bucket>" names them.
const (
	SearchBucket       = "search-index"
	TicketFieldsBucket = "ticket-fields-index"
	TicketUpdateBucket = "tickets-update"
)

// window counts the requests of one clock minute.
type window struct {
	minute time.Time
	used   int
}

// use counts one more request, if the limit allows it.
func (w *window) use(limit int, now time.Time) (remaining, resets int, allowed bool) {
	if minute := now.Truncate(time.Minute); !minute.Equal(w.minute) {
		*w = window{minute: minute}
	}
	if allowed = w.used < limit; allowed {
		w.used++
	}
	return limit - w.used, int(w.minute.Add(time.Minute).Sub(now) / time.Second), allowed
}

func (z *Zendesk) window(name string) *window {
	w := z.windows[name]
	if w == nil {
		w = &window{}
		z.windows[name] = w
	}
	return w
}

// limit counts the request against the account and its bucket and sets the
// headers that say so. Its result is the refusal.
func (z *Zendesk) limit(header http.Header, bucket string, now time.Time) *reply {
	remaining, resets, allowed := z.window("").use(z.config.RateLimit, now)
	setLimitHeaders(header, z.config.RateLimit, remaining, resets)
	if allowed && bucket != "" {
		limit := z.config.EndpointLimits[bucket]
		if limit == 0 {
			limit = z.config.RateLimit
		}
		remaining, resets, allowed = z.window(bucket).use(limit, now)
		header.Set("Zendesk-RateLimit-"+bucket, fmt.Sprintf("total=%d; remaining=%d; resets=%d", limit, remaining, resets))
	}
	if allowed {
		return nil
	}
	r := tooManyRequests()
	r.header.Set("Retry-After", strconv.Itoa(resets))
	return r
}

// limitHeaders sets the headers of an answer that no route gave: a 429 has
// nothing left, any other one was counted.
func (z *Zendesk) limitHeaders(header http.Header, status int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	remaining, resets, _ := z.window("").use(z.config.RateLimit, z.now())
	if status == http.StatusTooManyRequests {
		remaining = 0
	}
	setLimitHeaders(header, z.config.RateLimit, remaining, resets)
}

func setLimitHeaders(header http.Header, limit, remaining, resets int) {
	header.Set("X-Rate-Limit", strconv.Itoa(limit))
	header.Set("X-Rate-Limit-Remaining", strconv.Itoa(remaining))
	header.Set("RateLimit-Limit", strconv.Itoa(limit))
	header.Set("RateLimit-Remaining", strconv.Itoa(remaining))
	header.Set("RateLimit-Reset", strconv.Itoa(resets))
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
	r.header.Set("Retry-After", strconv.Itoa(int(recent[0].Add(span).Sub(now)/time.Second)))
	return r
}
