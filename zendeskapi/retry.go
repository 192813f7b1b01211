package zendeskapi

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxAttempts       = 3
	firstBackoff      = 200 * time.Millisecond
	maxWait           = 30 * time.Second // longer waits are the caller's, also when it has no deadline
	defaultRetryAfter = 10 * time.Second
	maxRetryAfter     = time.Hour
)

// retryAfter reads how long Zendesk wants to be left alone: Retry-After in seconds or as a date (RFC 9110, 10.2.3), else
// the time until an exhausted bucket is full again, else ten seconds.
// https://developer.zendesk.com/api-reference/introduction/rate-limits/
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if wait, ok := seconds(value); ok {
		return wait
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	var longest time.Duration
	exhausted := false
	for name, values := range header {
		if !strings.HasPrefix(name, "Zendesk-Ratelimit-") || len(values) == 0 {
			continue
		}
		bucket := map[string]string{}
		for part := range strings.SplitSeq(values[0], ";") {
			key, amount, _ := strings.Cut(part, "=")
			bucket[strings.TrimSpace(key)] = strings.TrimSpace(amount)
		}
		if wait, ok := seconds(bucket["resets"]); ok && bucket["remaining"] == "0" {
			longest, exhausted = max(longest, wait), true
		}
	}
	if wait, ok := seconds(header.Get("Ratelimit-Reset")); ok && header.Get("Ratelimit-Remaining") == "0" {
		longest, exhausted = max(longest, wait), true
	}
	if !exhausted {
		return defaultRetryAfter
	}
	return longest
}

func seconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, false
	}
	return time.Duration(min(n, uint64(maxRetryAfter/time.Second))) * time.Second, true
}

// backoff is the wait before the next attempt: what Zendesk asked for, or a doubling one, and chance on top so that
// callers who were refused together do not come back together.
func backoff(e *Error, attempts int) time.Duration {
	step := firstBackoff << (attempts - 1)
	jitter := rand.N(step/2 + 1) //nolint:gosec // spreads load; nothing secret depends on it
	if e.Kind == RateLimited {
		return max(e.RetryAfter, step/2) + jitter
	}
	return step/2 + jitter
}

// waitFits reports whether a wait leaves time to ask again.
func waitFits(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return wait <= maxWait && (!ok || wait < time.Until(deadline))
}

// sleep returns early when the context is done.
func sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
