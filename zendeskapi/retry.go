package zendeskapi

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxAttempts   = 3
	firstBackoff  = 200 * time.Millisecond
	maxWait       = 30 * time.Second // longer waits are the caller's, also when it has no deadline
	defaultPause  = 10 * time.Second
	maxRetryAfter = time.Hour
)

// retryAfter reads how long Zendesk asks to be left alone (RFC 9110, 10.2.3): seconds, also with a fraction, or a date
// by its own clock; of several, which it has been seen to send, the longest. Up to whole seconds. asked is false when
// nothing of it is readable.
func retryAfter(header http.Header, date time.Time) (wait time.Duration, asked bool) {
	var parts []string
	for _, value := range header.Values("Retry-After") {
		parts = append(parts, strings.Split(value, ",")...)
	}
	for i, part := range parts {
		one, ok := seconds(part)
		if i+1 < len(parts) && !ok {
			// A date has a comma of its own.
			if at, err := http.ParseTime(strings.TrimSpace(part + "," + parts[i+1])); err == nil {
				one, ok = wholeSeconds(at.Sub(date)), true
			}
		}
		if at, err := http.ParseTime(strings.TrimSpace(part)); err == nil {
			one, ok = wholeSeconds(at.Sub(date)), true
		}
		if ok {
			wait, asked = max(wait, one), true
		}
	}
	return wait, asked
}

// limitPause is how long to wait when Zendesk did not say: until exhausted buckets are full again, else ten seconds.
// https://developer.zendesk.com/api-reference/introduction/rate-limits/
func limitPause(header http.Header) time.Duration {
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
		return defaultPause
	}
	return longest
}

// seconds reads a number of seconds, with or without a fraction.
func seconds(text string) (time.Duration, bool) {
	text = strings.TrimSpace(text)
	n, err := strconv.ParseFloat(text, 64)
	// ParseFloat knows more forms of numbers than headers do.
	if strings.Trim(text, "0123456789.") != "" || err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	if n > maxRetryAfter.Seconds() {
		return maxRetryAfter, true
	}
	return wholeSeconds(time.Duration(n * float64(time.Second))), true
}

// wholeSeconds rounds a wait up, within its bounds.
func wholeSeconds(wait time.Duration) time.Duration {
	wait = min(max(wait, 0), maxRetryAfter)
	return (wait + time.Second - 1).Truncate(time.Second)
}

// backoff is the wait before the next attempt: what Zendesk asked for, or a doubling one, and chance on top so that
// callers who were refused together do not come back together.
func backoff(e *Error, attempts int) time.Duration {
	step := firstBackoff << (attempts - 1)
	jitter := rand.N(step/2 + 1) //nolint:gosec // spreads load; nothing secret depends on it
	return max(e.Pause, step/2) + jitter
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
