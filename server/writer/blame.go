package writer

import (
	"errors"
	"net/http"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	// longestBackoff is the number of failures in a row from which on probes of a held account are no further apart: 16 to 32
	// seconds. A probe costs Zendesk a request, and all that the account has to write waits for it.
	longestBackoff = 6
	// longestTicketWait is what the tries of a ticket that fails by itself come to be apart.
	longestTicketWait = time.Hour
	// maxRefusals is how often a ticket may fail by itself until its activity is DEAD: about a day's tries. They are counted,
	// not timed, so that a clock that jumps kills nothing.
	maxRefusals = 44
)

// class is whose fault a failure can be.
type class int

const (
	classNone    class = iota // nobody's: something has to be waited for, or we are broken
	classTicket               // the ticket's for sure: its account was reached
	classDoubt                // the ticket's or the account's: others tell
	classAccount              // the account's for sure
)

// classOf tells whose fault an error of a step can be. What settles the activity's fate is not asked here.
func classOf(failed step, err error) class {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok {
		return classNone
	}
	if api.Unsent && api.Kind != zendeskapi.RateLimited {
		return classNone // an endpoint is left alone, or it was not its turn in time
	}
	switch api.Kind {
	case zendeskapi.Conflict, zendeskapi.InvalidRequest:
		return classTicket
	case zendeskapi.RateLimited:
		// Reading a ticket has no limit of its own; writes to one ticket and other endpoints have.
		if failed == stepRead {
			return classAccount
		}
	case zendeskapi.CredentialsRejected:
		return classAccount
	case zendeskapi.NotFound:
		if !api.RecordMissing() {
			// Not the ticket is missing, but the whole of Zendesk: a closed help desk, a maintenance page.
			return classAccount
		}
		return classTicket
	case zendeskapi.Unavailable:
		// No server has said that it failed with this request: the network, a proxy, a page that refuses us.
		if api.StatusCode < http.StatusInternalServerError && !api.Unknown() {
			return classAccount
		}
	}
	return classDoubt
}

// culprit is who is held up by a failure.
type culprit int

const (
	culpritNone    culprit = iota // the ticket, for as long as it takes
	culpritTicket                 // the ticket alone: others get through
	culpritSuspect                // the ticket alone, until another one fails too
	culpritAccount
)

// judge blames the smallest thing that the facts allow. bad says that others of the account have got through since the
// ticket failed, and that it has not; others is how many other tickets have failed since one of the account got through.
func judge(c class, bad bool, others int) culprit {
	switch {
	case c == classNone:
		return culpritNone
	case c == classAccount:
		return culpritAccount
	case c == classTicket, bad:
		return culpritTicket
	case others > 0:
		return culpritAccount
	}
	return culpritSuspect
}

// backoff is how long the culprit is left alone after a number of failures in a row.
func backoff(c culprit, failures int, t trouble) time.Duration {
	if t.unsent {
		return max(t.asked, time.Second) // it has cost nothing
	}
	switch c {
	case culpritAccount:
		return credentials.Backoff(min(failures, longestBackoff), t.asked)
	case culpritTicket:
		if wait := time.Second << min(t.refusals, 20); wait > 4*time.Minute {
			return max(t.asked, min(wait, longestTicketWait))
		}
		return credentials.Backoff(t.refusals+1, t.asked)
	case culpritNone:
		if t.asked > 0 {
			return t.asked
		}
	}
	return credentials.Backoff(failures, t.asked)
}
