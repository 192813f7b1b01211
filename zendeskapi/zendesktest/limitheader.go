package zendesktest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// LimitHeaders says which headers of an answer tell of the limits, and whether
// they are right. What limits are enforced does not depend on it.
type LimitHeaders string

// The families are sent alone or together; the others are lies.
const (
	HeadersAll       LimitHeaders = "all"
	HeadersX         LimitHeaders = "x"          // X-Rate-Limit, X-Rate-Limit-Remaining
	HeadersRatelimit LimitHeaders = "ratelimit"  // RateLimit-Limit, -Remaining, -Reset
	HeadersRateLimit LimitHeaders = "rate-limit" // Rate-Limit, -Remaining, -Reset
	HeadersEndpoint  LimitHeaders = "endpoint"   // Zendesk-RateLimit-<bucket>
	HeadersNone      LimitHeaders = "none"
	// HeadersWrong are all, and claim ten times as much.
	HeadersWrong LimitHeaders = "wrong"
	// HeadersContradictory are all, and each family says something else.
	HeadersContradictory LimitHeaders = "contradictory"
	// HeadersGarbled are all, with values that are none.
	HeadersGarbled LimitHeaders = "garbled"
)

var limitHeaders = []LimitHeaders{
	HeadersAll, HeadersX, HeadersRatelimit, HeadersRateLimit, HeadersEndpoint,
	HeadersNone, HeadersWrong, HeadersContradictory, HeadersGarbled,
}

// figures are what headers say of a limit.
type figures struct {
	limit, remaining int
	free             time.Duration // until a slot comes back
}

func (f figures) times(n int) figures {
	f.remaining += f.limit * (n - 1)
	f.limit *= n
	return f
}

// set writes the headers of the account, and of the bucket, if there is one.
func (h LimitHeaders) set(header http.Header, account figures, bucket string, endpoint figures) {
	x := func(limit, remaining any) {
		header.Set("X-Rate-Limit", fmt.Sprint(limit))
		header.Set("X-Rate-Limit-Remaining", fmt.Sprint(remaining))
	}
	ratelimit := func(limit, remaining, reset any) {
		header.Set("RateLimit-Limit", fmt.Sprint(limit))
		header.Set("RateLimit-Remaining", fmt.Sprint(remaining))
		header.Set("RateLimit-Reset", fmt.Sprint(reset))
	}
	hyphened := func(limit, remaining, reset any) {
		header.Set("Rate-Limit", fmt.Sprint(limit))
		header.Set("Rate-Limit-Remaining", fmt.Sprint(remaining))
		header.Set("Rate-Limit-Reset", fmt.Sprint(reset))
	}
	own := func(total, remaining, resets any) {
		if bucket != "" {
			header.Set("Zendesk-RateLimit-"+bucket, fmt.Sprintf("total=%v; remaining=%v; resets=%v", total, remaining, resets))
		}
	}
	switch h {
	case HeadersNone:
		return
	case HeadersContradictory:
		x(account.limit, account.remaining)
		ratelimit(max(1, account.limit/2), 0, 3600)
		hyphened(account.limit*10, account.limit*10, 0)
		own(1, 7, -5)
		return
	case HeadersGarbled:
		x("many", -1)
		ratelimit("1e309", "", "soon")
		hyphened("0x40", "9223372036854775808", "NaN")
		own("", "?", "1, 2")
		return
	case HeadersWrong:
		account, endpoint = account.times(10), endpoint.times(10)
	}
	all := h == HeadersAll || h == HeadersWrong
	if all || h == HeadersX {
		x(account.limit, account.remaining)
	}
	if all || h == HeadersRatelimit {
		ratelimit(account.limit, account.remaining, ceil(account.free, time.Second))
	}
	if all || h == HeadersRateLimit {
		hyphened(account.limit, account.remaining, ceil(account.free, time.Second))
	}
	if all || h == HeadersEndpoint {
		own(endpoint.limit, endpoint.remaining, ceil(endpoint.free, time.Second))
	}
}

// RetryAfterForm is the form in which a refusal says when to come again.
type RetryAfterForm string

// All forms but the last two say when a slot is free, rounded up.
const (
	RetryAfterSeconds RetryAfterForm = "seconds" // 53
	RetryAfterList    RetryAfterForm = "list"    // 50, 53: the largest is right
	RetryAfterDecimal RetryAfterForm = "decimal" // 53.0
	RetryAfterDate    RetryAfterForm = "date"    // an HTTP date, by the account's clock
	// RetryAfterWrong is a tenth of the time.
	RetryAfterWrong RetryAfterForm = "wrong"
	// RetryAfterNone leaves the header out.
	RetryAfterNone RetryAfterForm = "none"
)

var retryAfterForms = []RetryAfterForm{
	RetryAfterSeconds, RetryAfterList, RetryAfterDecimal, RetryAfterDate, RetryAfterWrong, RetryAfterNone,
}

// setRetryAfter says when a refused request may come again.
func (z *Zendesk) setRetryAfter(header http.Header, wait time.Duration) {
	if value := z.meters.limits.RetryAfter.value(wait, z.exactNow()); value != "" {
		header.Set("Retry-After", value)
	}
}

func (f RetryAfterForm) value(wait time.Duration, now time.Time) string {
	seconds := ceil(wait, time.Second)
	switch f {
	case RetryAfterList:
		return fmt.Sprintf("%d, %d", max(0, seconds-3), seconds)
	case RetryAfterDecimal:
		return strconv.FormatFloat(float64(ceil(wait, time.Second/10))/10, 'f', 1, 64)
	case RetryAfterDate:
		// A date has no parts of a second: the next whole one.
		return now.Add(wait + time.Second - 1).Truncate(time.Second).UTC().Format(http.TimeFormat)
	case RetryAfterWrong:
		return strconv.Itoa(seconds / 10)
	case RetryAfterNone:
		return ""
	}
	return strconv.Itoa(seconds)
}

// ceil counts units, the last one begun.
func ceil(d, unit time.Duration) int { return int((d + unit - 1) / unit) }
