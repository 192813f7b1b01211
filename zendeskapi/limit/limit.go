// Package limit decides when a request may be sent to a Zendesk.
//
// Zendesk counts all requests of a customer together, by the minute: of every account of ours, and of whatever else the
// customer runs. The package hides what is known of the limits, how that is learned from the headers of answers, and whose
// turn it is when they are short. No figure of a limit is built in.
//
//	turn, err := governor.Enter(ctx, limit.Request{Origin: origin, Endpoint: "search", Tenant: tenant, Lane: limit.Blocks})
//	if refused, ok := errors.AsType[*limit.RefusedError](err); ok {
//		// it would have waited in vain: ask again after refused.RetryAfter
//	}
//	...
//	turn.Done(limit.Answer{Status: res.StatusCode, Header: res.Header, Pause: pause})
//
// Enter returns *RefusedError, or why the context was canceled. What is decided is in ledger and bucket, which know neither
// time nor goroutines; Governor is the queue around them.
//
// Several replicas of the service share a limit, as [Governor.Share] is told, without asking each other before they send. What the
// others use, a replica sees as it sees what the customer's own programs use: in how much less is left, by an answer, than it
// has used itself. Until an answer tells, it supposes that each of the others has sent as many requests as itself, but not many more
// than others did of late; of what is left for lanes that are paced it takes its part, and comes to have all of it within half
// a minute when the others leave it. So they keep to the limit together, and one of them that is busy alone has nearly all of it.
// Where no header tells what is left, each has its part of the limit, or what refusals show. That a Zendesk refuses, or that a limit
// is nearly used up, they tell each other, by [Governor.Learned] and [Governor.Learn]: the others wait, too. Whose refusal
// concerns one record alone, each finds out for itself.
package limit

import (
	"net/http"
	"time"
)

// Lane is whose turn it is when a limit is short.
type Lane uint8

// The lanes, first come those whom a caller waits for.
const (
	Blocks     Lane = iota // a scenario waits
	Deliveries             // an agent waits
	Activities             // history is written
	Background             // renewals' checks, tests of connections
	lanes
)

// laneNames are those of Lane.String.
var laneNames = [lanes]string{Blocks: "blocks", Deliveries: "deliveries", Activities: "activities", Background: "background"}

// String returns the lane's name, in lower case.
func (l Lane) String() string { return laneNames[l] }

// Lanes lists the lanes, those first whom a caller waits for.
func Lanes() []Lane { return []Lane{Blocks, Deliveries, Activities, Background} }

// guaranteed is the part of a limit that a lane has when all of them ask for more.
var guaranteed = [lanes]float64{Blocks: .50, Deliveries: .20, Activities: .20, Background: .10}

// reserve is the part of a limit that a lane leaves free, so that those before it find room at once.
var reserve = [lanes]float64{Blocks: .01, Deliveries: .02, Activities: .04, Background: .06}

// paced lanes are not waited for: their requests are spread over the minute.
func (l Lane) paced() bool { return l >= Activities }

// Request is one that wants to be sent.
type Request struct {
	Origin   string // of the Zendesk
	Endpoint string // what Zendesk may have a limit of its own for
	Record   string // what it writes to, which Zendesk may have a limit of its own for; empty: nothing
	Tenant   string // whose account asks
	Account  string // of the tenant
	MaxShare int    // per cent of the Zendesk's limit that the account may use; 0: 100
	Lane     Lane
}

// Answer is what came of a request.
type Answer struct {
	Status int           // of HTTP; 0: there was no answer
	Header http.Header   // may be nil
	Pause  time.Duration // how long a 429 or 503 asks to be left alone
}

// throttled tells the answers by which Zendesk refuses a request for its limits.
func (a Answer) throttled() bool {
	return a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable && a.Pause > 0
}
