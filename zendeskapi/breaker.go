package zendeskapi

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// tripAfter is how many requests in a row must fail until no more are sent; restTime is for how long. After it one at a
	// time finds out whether it is over.
	tripAfter = 5
	restTime  = 10 * time.Second
	// patience is how long a request must have waited for running out of time to be held against the endpoint.
	patience = 800 * time.Millisecond
	// enoughBreakers is how many are kept before those go that nothing is held against.
	enoughBreakers = 16 << 10
)

// breakers stop requests to endpoints that fail for an account: its callers are told at once, and nobody waits for what
// will not come. The zero value has none.
type breakers struct {
	opened func(endpoint string) // is told; nil: nobody is

	mu       sync.Mutex
	accounts map[breakerAccount]map[string]*breaker // by endpoint
	count    int
}

type breakerKey struct{ origin, account, endpoint string }

type breakerAccount struct{ origin, account string }

type breaker struct {
	*gobreaker.TwoStepCircuitBreaker[struct{}]
	opened atomic.Int64 // when it was, in nanoseconds
}

// rest is for how long it will be left alone.
func (b *breaker) rest() time.Duration {
	return max(time.Second, restTime-time.Since(time.Unix(0, b.opened.Load())))
}

// errFault and errNoEvidence are what a breaker is told of a request; nil, when the endpoint answered.
var (
	errFault      = errors.New("the endpoint does not answer")
	errNoEvidence = errors.New("nothing is known of the endpoint")
)

// evidence says what the end of a request, sent for so long, tells of its endpoint.
func evidence(e *Error, waited time.Duration) error {
	if e == nil {
		return nil
	}
	switch e.Kind {
	case Unavailable, BadResponse:
		return errFault
	case Timeout:
		if waited >= patience {
			return errFault
		}
		return errNoEvidence // who has little time learns little
	case RateLimited, Canceled:
		return errNoEvidence
	}
	return nil
}

// allow returns what is to be told of how the request ended, by evidence; nil, when the endpoint is left alone, and for how
// long.
func (b *breakers) allow(key breakerKey) (done func(error), rest time.Duration) {
	one := b.of(key)
	done, err := one.Allow()
	if err != nil {
		return nil, one.rest()
	}
	return done, 0
}

// tripped tells whether an endpoint is left alone, and for how long. One that is being found out about is not.
func (b *breakers) tripped(key breakerKey) (rest time.Duration, is bool) {
	one := b.of(key)
	return one.rest(), one.State() == gobreaker.StateOpen
}

func (b *breakers) of(key breakerKey) *breaker {
	b.mu.Lock()
	defer b.mu.Unlock()
	account := breakerAccount{key.origin, key.account}
	one := b.accounts[account][key.endpoint]
	if one != nil {
		return one
	}
	if b.count >= enoughBreakers {
		b.forget()
	}
	one = new(breaker)
	one.TwoStepCircuitBreaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Interval:    time.Minute, // after which success and failure are forgotten
		Timeout:     restTime,
		ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= tripAfter },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				one.opened.Store(time.Now().UnixNano())
				if b.opened != nil {
					b.opened(key.endpoint)
				}
			}
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNoEvidence) },
	})
	if b.accounts == nil {
		b.accounts = make(map[breakerAccount]map[string]*breaker)
	}
	if b.accounts[account] == nil {
		b.accounts[account] = make(map[string]*breaker)
	}
	b.accounts[account][key.endpoint] = one
	b.count++
	return one
}

// forget drops those that nothing is held against. The lock is held.
func (b *breakers) forget() {
	for account, all := range b.accounts {
		for endpoint, one := range all {
			if one.State() == gobreaker.StateClosed && one.Counts().ConsecutiveFailures == 0 {
				delete(all, endpoint)
				b.count--
			}
		}
		if len(all) == 0 {
			delete(b.accounts, account)
		}
	}
}

// open lists the endpoints of an account that are left alone, in order.
func (b *breakers) open(origin, account string) (endpoints []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for endpoint, one := range b.accounts[breakerAccount{origin, account}] {
		if one.State() != gobreaker.StateClosed {
			endpoints = append(endpoints, endpoint)
		}
	}
	slices.Sort(endpoints)
	return endpoints
}

// tally counts the accounts for which endpoints are left alone, by origin and endpoint.
func (b *breakers) tally() map[string]map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]map[string]int)
	for account, endpoints := range b.accounts {
		for endpoint, one := range endpoints {
			if one.State() == gobreaker.StateClosed {
				continue
			}
			if all[account.origin] == nil {
				all[account.origin] = make(map[string]int)
			}
			all[account.origin][endpoint]++
		}
	}
	return all
}
