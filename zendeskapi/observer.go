package zendeskapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// Observer is told what becomes of the requests of a [Transport]. Its methods are called where the requests are made, several
// at a time: they are quick, and keep nothing that they are given.
type Observer interface {
	// Sent is told of each request that was sent, when its answer was read, or will not be.
	Sent(ctx context.Context, r SentRequest)
	// Waited is told how long a request has waited for its turn in the limit of its Zendesk.
	Waited(lane limit.Lane, wait time.Duration)
	// Refused is told of a request that was not sent, since it would have waited in vain.
	Refused(lane limit.Lane)
	// Opened is told that an endpoint is left alone from now on for an account, since it has failed again and again.
	Opened(endpoint string)
	// Shared is told of a read that was answered by one which was under way.
	Shared(endpoint string)
}

// SentRequest is a request that was sent, and what came of it.
type SentRequest struct {
	Endpoint  string // a name as in [Error.Op], one of some hundred at most
	Method    string
	Path      string        // without the query; it may hold ids
	Attempt   int           // 1, and more when it was sent again
	Duration  time.Duration // until its answer was read
	Status    int           // of HTTP; 0: there was no answer
	Kind      Kind          // why it did not succeed; empty: it did
	RequestID string        // X-Request-Id of the answer, for Zendesk's support
}

// Result is the status, or one word for why there is none that says anything: timeout, canceled, unreachable or unreadable.
// Statuses that nobody has registered are "other": there are few results.
func (r *SentRequest) Result() string {
	switch {
	case r.Kind == Canceled:
		return "canceled"
	case r.Kind == Timeout && r.Status != http.StatusRequestTimeout:
		return "timeout"
	case r.Status == 0:
		return "unreachable"
	case r.Kind == BadResponse && r.Status < 300:
		return "unreadable"
	case http.StatusText(r.Status) == "":
		return "other"
	}
	return strconv.Itoa(r.Status)
}

// unobserved is an Observer that is told in vain.
type unobserved struct{}

func (unobserved) Sent(context.Context, SentRequest) {}
func (unobserved) Waited(limit.Lane, time.Duration)  {}
func (unobserved) Refused(limit.Lane)                {}
func (unobserved) Opened(string)                     {}
func (unobserved) Shared(string)                     {}

// sent tells the observer of a request; got and e are what came of it, either may be nil.
func (c *Client) sent(ctx context.Context, r request, attempt int, begun time.Time, got *answer, e *Error) {
	told := SentRequest{Endpoint: r.op, Method: r.method, Path: r.path, Attempt: attempt, Duration: time.Since(begun)}
	if got != nil {
		told.Status, told.RequestID = got.status, c.requestID(got.header)
	}
	if e != nil {
		told.Kind = e.Kind
	}
	c.transport.observer.Sent(ctx, told)
}

// Zendesk is what is known of one Zendesk now.
type Zendesk struct {
	Origin string
	Limits limit.Limits
	Open   map[string]int // by endpoint: for how many accounts it is left alone, since it has failed again and again
}

// Zendesks tells what is known of each Zendesk that was asked of late. It asks nobody.
func (t *Transport) Zendesks() []Zendesk {
	open := t.breakers.tally()
	all := make([]Zendesk, 0, len(open))
	for origin, limits := range t.governor.All() {
		all = append(all, Zendesk{origin, limits, open[origin]})
		delete(open, origin)
	}
	for origin, endpoints := range open {
		all = append(all, Zendesk{Origin: origin, Open: endpoints})
	}
	return all
}
