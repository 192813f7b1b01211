package zendeskapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const user1 = `{"user":{"id":1}}`

func limited(header ...string) reply {
	r := reply{status: http.StatusTooManyRequests, header: map[string]string{}}
	for i := 0; i < len(header); i += 2 {
		r.header[header[i]] = header[i+1]
	}
	return r
}

func TestReadsAreTriedAgain(t *testing.T) {
	unavailable := reply{body: `{"error":"unavailable","description":"Please try again in a moment."}`}
	for name, tt := range map[string]struct {
		replies  []http.Handler
		deadline time.Duration // 0: none
		kind     Kind          // empty: success
		attempts int
		waited   time.Duration // at least, and at most 0.5 s more
		retry    time.Duration
	}{
		"429 with seconds":          {replies: []http.Handler{limited("Retry-After", "2"), reply{body: user1}}, attempts: 2, waited: 2 * time.Second},
		"429 with a date":           {replies: []http.Handler{limited("Retry-After", "Sat, 01 Jan 2000 00:00:04 GMT"), reply{body: user1}}, attempts: 2, waited: 4 * time.Second},
		"429 with a bucket":         {replies: []http.Handler{limited("Zendesk-RateLimit-Search-Index", "total=20; remaining=0; resets=7"), reply{body: user1}}, attempts: 2, waited: 7 * time.Second},
		"429 bare":                  {replies: []http.Handler{limited(), reply{body: user1}}, attempts: 2, waited: 10 * time.Second},
		"503":                       {replies: []http.Handler{reply{status: 503}, reply{status: 503}, reply{body: user1}}, attempts: 3, waited: 300 * time.Millisecond},
		"503 with Retry-After":      {replies: []http.Handler{reply{status: 503, header: map[string]string{"Retry-After": "1"}}, reply{body: user1}}, attempts: 2, waited: time.Second},
		"502 for ever":              {replies: []http.Handler{reply{status: 502}}, kind: Unavailable, attempts: 3, waited: 300 * time.Millisecond},
		"504":                       {replies: []http.Handler{reply{status: 504}, reply{body: user1}}, attempts: 2, waited: 100 * time.Millisecond},
		"connection cut":            {replies: []http.Handler{cut, reply{body: user1}}, attempts: 2, waited: 100 * time.Millisecond},
		"answer is no HTTP":         {replies: []http.Handler{noHTTP}, kind: Unavailable, attempts: 3, waited: 300 * time.Millisecond},
		"connection cut for ever":   {replies: []http.Handler{cut}, kind: Unavailable, attempts: 3, waited: 300 * time.Millisecond},
		"answer cut":                {replies: []http.Handler{cutWithin, reply{body: user1}}, attempts: 2, waited: 100 * time.Millisecond},
		"answer cut for ever":       {replies: []http.Handler{cutWithin}, kind: BadResponse, attempts: 3, waited: 300 * time.Millisecond},
		"transient error under 200": {replies: []http.Handler{unavailable, reply{body: user1}}, attempts: 2, waited: 100 * time.Millisecond},
		"500":                       {replies: []http.Handler{reply{status: 500}, reply{body: user1}}, attempts: 2, waited: 100 * time.Millisecond},
		"520":                       {replies: []http.Handler{reply{status: 520}, reply{status: 524}, reply{body: user1}}, attempts: 3, waited: 300 * time.Millisecond},
		"408":                       {replies: []http.Handler{reply{status: 408}, reply{body: user1}}, attempts: 2, waited: 100 * time.Millisecond},
		"502 with Retry-After":      {replies: []http.Handler{reply{status: 502, header: map[string]string{"Retry-After": "2"}}, reply{body: user1}}, attempts: 2, waited: 2 * time.Second},
		"429 with nonsense":         {replies: []http.Handler{limited("Retry-After", "soon"), reply{body: user1}}, attempts: 2, waited: 10 * time.Second},
		"429 with a list":           {replies: []http.Handler{limited("Retry-After", "2, 5.0"), reply{body: user1}}, attempts: 2, waited: 5 * time.Second},
		"501 is not":                {replies: []http.Handler{reply{status: 501}}, kind: Unavailable, attempts: 1},
		"401 is not":                {replies: []http.Handler{reply{status: 401}}, kind: CredentialsRejected, attempts: 1},
		"HTML is not":               {replies: []http.Handler{reply{body: "<html>"}}, kind: BadResponse, attempts: 1},
		"wait past the deadline":    {replies: []http.Handler{limited("Retry-After", "5")}, deadline: 3 * time.Second, kind: RateLimited, attempts: 1, retry: 5 * time.Second},
		"wait equal to deadline":    {replies: []http.Handler{limited("Retry-After", "3")}, deadline: 3 * time.Second, kind: RateLimited, attempts: 1, retry: 3 * time.Second},
		"long wait, no deadline":    {replies: []http.Handler{limited("Retry-After", "31")}, kind: RateLimited, attempts: 1, retry: 31 * time.Second},
		"absurd wait":               {replies: []http.Handler{limited("Retry-After", "999999999")}, kind: RateLimited, attempts: 1, retry: time.Hour},
		"second wait too long":      {replies: []http.Handler{limited("Retry-After", "2"), limited("Retry-After", "2")}, deadline: 3 * time.Second, kind: RateLimited, attempts: 2, waited: 2 * time.Second, retry: 2 * time.Second},
		"hangs":                     {replies: []http.Handler{hang}, deadline: 3 * time.Second, kind: Timeout, attempts: 1, waited: 3 * time.Second},
		"answer hangs":              {replies: []http.Handler{hangWithin}, deadline: 3 * time.Second, kind: Timeout, attempts: 1, waited: 3 * time.Second},
		"answer hangs, no deadline": {replies: []http.Handler{hangWithin}, kind: Timeout, attempts: 3, waited: 3*time.Minute + 300*time.Millisecond},
		"hangs after a 503":         {replies: []http.Handler{reply{status: 503}, hang}, deadline: 3 * time.Second, kind: Timeout, attempts: 2, waited: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				zendesk := scripted(tt.replies...)
				client := bubbleClient(t, zendesk)
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				start := time.Now()
				_, err := client.Me(ctx)
				waited := time.Since(start)
				if got := len(zendesk.requests()); got != tt.attempts {
					t.Errorf("%d requests, want %d", got, tt.attempts)
				}
				if waited < tt.waited || waited > tt.waited+500*time.Millisecond {
					t.Errorf("waited %v, want %v", waited, tt.waited)
				}
				if tt.kind == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if e := failed(t, err, tt.kind); e.Attempts != tt.attempts || e.RetryAfter != tt.retry || e.Unknown() || strings.Contains(err.Error(), canary) {
					t.Errorf("error is %v: %+v, unknown %t", err, *e, e.Unknown())
				}
			})
		})
	}
}

// cutWithin promises more than it sends.
var cutWithin = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = w.Write([]byte(`{"user":`))
})

// hangWithin sends a part of its answer, and the rest never.
var hangWithin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte(`{"user":`))
	_ = http.NewResponseController(w).Flush()
	hang(w, r)
})

// noHTTP answers with what the HTTP client would quote.
var noHTTP = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, _ = conn.Write([]byte("SSH-2.0 " + canary + "\r\n\r\n"))
		_ = conn.Close()
	}
})

func TestWritesAreSentOnce(t *testing.T) {
	const ticket1 = `{"ticket":{"id":1},"audit":{"id":2}}`
	for name, tt := range map[string]struct {
		replies  []http.Handler
		key      string // creates with this idempotency key; empty: updates
		kind     Kind   // empty: success
		attempts int
		unknown  bool
	}{
		"cut":                        {replies: []http.Handler{cut}, kind: Unavailable, attempts: 1, unknown: true},
		"hangs":                      {replies: []http.Handler{hang}, kind: Timeout, attempts: 1, unknown: true},
		"answer cut":                 {replies: []http.Handler{cutWithin}, kind: BadResponse, attempts: 1, unknown: true},
		"HTML under 200":             {replies: []http.Handler{reply{body: "<html>"}}, kind: BadResponse, attempts: 1, unknown: true},
		"no ticket under 200":        {replies: []http.Handler{reply{body: "{}"}}, kind: BadResponse, attempts: 1, unknown: true},
		"500":                        {replies: []http.Handler{reply{status: 500}}, kind: Unavailable, attempts: 1, unknown: true},
		"502":                        {replies: []http.Handler{reply{status: 502}}, kind: Unavailable, attempts: 1, unknown: true},
		"429":                        {replies: []http.Handler{limited("Retry-After", "1")}, kind: RateLimited, attempts: 1},
		"503 that throttles":         {replies: []http.Handler{reply{status: 503, header: map[string]string{"Retry-After": "1"}}}, kind: RateLimited, attempts: 1, unknown: true},
		"524":                        {replies: []http.Handler{reply{status: 524}}, kind: Unavailable, attempts: 1, unknown: true},
		"unavailable under 200":      {replies: []http.Handler{reply{body: `{"error":"unavailable"}`}}, kind: Unavailable, attempts: 1, unknown: true},
		"403 as a page":              {replies: []http.Handler{reply{status: 403, body: "<html>"}}, kind: Unavailable, attempts: 1},
		"redirect":                   {replies: []http.Handler{reply{status: 308, header: map[string]string{"Location": "https://other.zendesk.com/"}}}, kind: BadResponse, attempts: 1},
		"409":                        {replies: []http.Handler{reply{status: 409}}, kind: Conflict, attempts: 1},
		"422":                        {replies: []http.Handler{reply{status: 422}}, kind: InvalidRequest, attempts: 1},
		"with a key: cut, then done": {replies: []http.Handler{cut, reply{status: 201, body: ticket1}}, key: "k", attempts: 2},
		"with a key: cut, then 429":  {replies: []http.Handler{cut, limited("Retry-After", "60")}, key: "k", kind: RateLimited, attempts: 2, unknown: true},
		"with a key: 422":            {replies: []http.Handler{reply{status: 422}}, key: "k", kind: InvalidRequest, attempts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				zendesk := scripted(tt.replies...)
				client := bubbleClient(t, zendesk)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				var err error
				if tt.key == "" {
					_, err = client.UpdateTicket(ctx, "1", TicketUpdate{Comment: "c"})
				} else {
					_, err = client.CreateTicket(ctx, TicketCreate{Comment: "c"}, tt.key)
				}
				if got := len(zendesk.requests()); got < 1 || got > 3 || tt.key == "" && got != 1 {
					t.Errorf("%d requests arrived", got)
				}
				if tt.kind == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if e := failed(t, err, tt.kind); e.Attempts != tt.attempts || e.Unknown() != tt.unknown {
					t.Errorf("error is %+v, unknown %t, want %t", *e, e.Unknown(), tt.unknown)
				}
			})
		})
	}
}

func TestWriteThatNeverLeftIsKnown(t *testing.T) {
	client := clientOf(t, "http://127.0.0.1:1")
	_, err := client.UpdateTicket(t.Context(), "1", TicketUpdate{Comment: "c"})
	if e := failed(t, err, Unavailable); e.Unknown() || e.Attempts != 1 {
		t.Errorf("error is %+v, unknown %t", *e, e.Unknown())
	}
}

// stopping is a process that is stopped when it is a request's turn, beyond the request's deadline: nobody has been told of that yet.
type stopping struct {
	context.Context
	Observer
	deadline *time.Time
}

func (s stopping) Deadline() (time.Time, bool) { return *s.deadline, true }

func (s stopping) Waited(limit.Lane, time.Duration) { *s.deadline = time.Now().Add(-time.Millisecond) }

// What was to be sent in a time that has passed unnoticed is not sent.
func TestNothingIsSentTooLate(t *testing.T) {
	server := scripted()
	client := newClient(t, server)
	process := stopping{t.Context(), client.transport.observer, new(time.Now().Add(time.Minute))}
	client.transport.observer = process
	_, err := client.UpdateTicket(process, "7", TicketUpdate{Comment: "late"})
	if e := failed(t, err, Timeout); !e.Unsent || e.Unknown() || len(server.requests()) > 0 {
		t.Errorf("error is %+v after %d requests", e, len(server.requests()))
	}
}

func TestCallerGivesUp(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		zendesk := scripted(reply{body: user1})
		client := newClient(t, zendesk)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := client.Me(ctx)
		if e := failed(t, err, Canceled); e.Attempts != 0 || len(zendesk.requests()) != 0 {
			t.Errorf("error is %+v", *e)
		}
	})
	t.Run("while waiting to try again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := bubbleClient(t, limited("Retry-After", "20"))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, cancel)
			start := time.Now()
			_, err := client.Me(ctx)
			fails(t, err, Canceled)
			if waited := time.Since(start); waited != 3*time.Second {
				t.Errorf("gave up after %v", waited)
			}
		})
	})
	t.Run("while Zendesk hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := bubbleClient(t, hang)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err := client.UpdateTicket(ctx, "1", TicketUpdate{Comment: "c"})
			if e := failed(t, err, Canceled); !e.Unknown() {
				t.Error("the outcome of a write that was sent is taken for known")
			}
		})
	})
	t.Run("deadline of another layer", func(t *testing.T) {
		// A timeout of the transport, not of the caller, is one of Zendesk all the same.
		synctest.Test(t, func(t *testing.T) {
			client := bubbleClient(t, hang)
			client.transport.base.ResponseHeaderTimeout = time.Second
			_, err := client.Me(t.Context())
			if e := failed(t, err, Timeout); e.Attempts != maxAttempts {
				t.Errorf("error is %+v", *e)
			}
		})
	})
}

func TestRetryAfter(t *testing.T) {
	date := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		values []string
		want   time.Duration // negative: not asked
	}{
		"seconds":            {[]string{" 17 "}, 17 * time.Second},
		"zero":               {[]string{"0"}, 0},
		"a fraction of none": {[]string{"37.0"}, 37 * time.Second},
		"a fraction":         {[]string{"37.2"}, 38 * time.Second},
		"less than one":      {[]string{"0.001"}, time.Second},
		"a list":             {[]string{"50, 53"}, 53 * time.Second},
		"a list, descending": {[]string{"53,50"}, 53 * time.Second},
		"two headers":        {[]string{"5", "7.5"}, 8 * time.Second},
		"a list with odd":    {[]string{"soon, 4, -9"}, 4 * time.Second},
		"huge":               {[]string{"9223372036854775807"}, time.Hour},
		"overflowing":        {[]string{"99999999999999999999"}, time.Hour},
		"endless":            {[]string{strings.Repeat("9", 500)}, time.Hour},
		"date":               {[]string{"Tue, 24 Nov 2026 12:00:30 GMT"}, 30 * time.Second},
		"date of RFC 850":    {[]string{"Tuesday, 24-Nov-26 12:00:30 GMT"}, 30 * time.Second},
		"date of asctime":    {[]string{"Tue Nov 24 12:00:30 2026"}, 30 * time.Second},
		"date in the past":   {[]string{"Tue, 24 Nov 2026 11:00:30 GMT"}, 0},
		"date far ahead":     {[]string{"Tue, 24 Nov 2099 11:00:30 GMT"}, time.Hour},
		"dates and seconds":  {[]string{"3, Tue, 24 Nov 2026 12:00:30 GMT, Tue, 24 Nov 2026 12:00:40 GMT, 9"}, 40 * time.Second},
		"seconds, then date": {[]string{"Tue, 24 Nov 2026 12:00:30 GMT", "45"}, 45 * time.Second},
		"nothing":            {nil, -1},
		"empty":              {[]string{""}, -1},
		"negative":           {[]string{"-5"}, -1},
		"words":              {[]string{"a minute"}, -1},
		"with a unit":        {[]string{"50s"}, -1},
		"an exponent":        {[]string{"1e3"}, -1},
		"not a number":       {[]string{"NaN"}, -1},
		"infinite":           {[]string{"Inf"}, -1},
		"hexadecimal":        {[]string{"0x10"}, -1},
		"a point":            {[]string{"."}, -1},
		"two points":         {[]string{"1.2.3"}, -1},
		"only commas":        {[]string{",,"}, -1},
		"a date cut in half": {[]string{"Tue, 24 Nov"}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			got, asked := retryAfter(http.Header{"Retry-After": tt.values}, date)
			if !asked {
				got = -1
			}
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestLimitPause(t *testing.T) {
	for name, tt := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"nothing":            {http.Header{}, defaultPause},
		"empty bucket":       {http.Header{"Zendesk-Ratelimit-Ticket-Fields": {"total=20; remaining=0; resets=50"}}, 50 * time.Second},
		"bucket not empty":   {http.Header{"Zendesk-Ratelimit-Ticket-Fields": {"total=20; remaining=3; resets=50"}}, defaultPause},
		"two buckets":        {http.Header{"Zendesk-Ratelimit-A": {"remaining=0;resets=5"}, "Zendesk-Ratelimit-B": {"remaining=0;resets=9"}}, 9 * time.Second},
		"bucket unreadable":  {http.Header{"Zendesk-Ratelimit-A": {"remaining; =; resets"}}, defaultPause},
		"account exhausted":  {http.Header{"Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"33"}}, 33 * time.Second},
		"account has plenty": {http.Header{"Ratelimit-Remaining": {"300"}, "Ratelimit-Reset": {"33"}}, defaultPause},
	} {
		t.Run(name, func(t *testing.T) {
			if got := limitPause(tt.header); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// That Zendesk did not say how long to wait is told; what is waited is another matter.
func TestPause(t *testing.T) {
	bucket := map[string]string{"Zendesk-RateLimit-Search": "total=20; remaining=0; resets=50"}
	for name, tt := range map[string]struct {
		status       int
		header       map[string]string
		after, pause time.Duration
	}{
		"told":                       {429, map[string]string{"Retry-After": "93"}, 93 * time.Second, 93 * time.Second},
		"told as none":               {429, map[string]string{"Retry-After": "0"}, 0, 0},
		"not told":                   {429, nil, 0, 10 * time.Second},
		"not told, a bucket is":      {429, bucket, 0, 50 * time.Second},
		"nonsense":                   {429, map[string]string{"Retry-After": "later"}, 0, 10 * time.Second},
		"by Zendesk's clock":         {429, map[string]string{"Retry-After": "Tue, 24 Nov 2026 12:00:30 GMT", "Date": "Tue, 24 Nov 2026 12:00:00 GMT"}, 30 * time.Second, 30 * time.Second},
		"503 that throttles":         {503, map[string]string{"Retry-After": "50, 53"}, 53 * time.Second, 53 * time.Second},
		"503":                        {503, nil, 0, 0},
		"500 that asks to wait":      {500, map[string]string{"Retry-After": "7"}, 7 * time.Second, 7 * time.Second},
		"422 beside an empty bucket": {422, bucket, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(reply{status: tt.status, header: tt.header})
			_, err := newClient(t, zendesk).UpdateTicket(t.Context(), "1", TicketUpdate{})
			if e, ok := errors.AsType[*Error](err); !ok || e.RetryAfter != tt.after || e.Pause != tt.pause {
				t.Errorf("error is %+v", err)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("12", "total=20; remaining=0; resets=50")
	f.Add("50, 53.5", "total=20; remaining=0; resets=50")
	f.Add("Tue, 24 Nov 2026 12:00:30 GMT", "")
	f.Add("1,Tue, 24 Nov 9999 12:00:30 GMT", "remaining=0;resets=99999999999")
	f.Fuzz(func(t *testing.T, value, bucket string) {
		header := http.Header{"Retry-After": {value}, "Zendesk-Ratelimit-Search": {bucket}}
		wait, asked := retryAfter(header, time.Unix(1_795_000_000, 0))
		for _, wait := range []time.Duration{wait, limitPause(header)} {
			if wait < 0 || wait > maxRetryAfter || wait%time.Second != 0 {
				t.Errorf("wait is %v", wait)
			}
		}
		if !asked && wait != 0 {
			t.Errorf("wait is %v, and nothing was asked", wait)
		}
	})
}
