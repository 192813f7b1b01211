package credentials

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// illAfter is how many requests in a row must fail for an account to be ill: one that fails alone says nothing of others.
const illAfter = 3

// Health is how an account gets on with its Zendesk. All but Credential is what this process has seen itself: of an account,
// for a day after its last request.
type Health struct {
	Credential State
	Limits     limit.Limits // of its Zendesk; zero also while Zendesk has not accepted the credential
	Failing    []string     // what is left alone because it fails again and again, by [zendeskapi.Error] Op
	Answers    bool         // Zendesk has answered one of its requests
	Ill        bool         // its last requests failed, three of them or more
	Throttled  bool         // they were refused for the limit, by Zendesk or before they were sent, and it may still be so; not Ill

	LastSuccess     time.Time      // when Zendesk last answered; what is stored of it, after a restart; zero: not known
	LastFailure     *store.Failure // of the last request whose failure may be more than its own; nil: none is known
	LastFailureTime time.Time
}

// Health tells how an account gets on with its Zendesk. It asks nobody.
func (k *Keeper) Health(tenant string, a store.Account) Health {
	key := Key{tenant, a.Incarnation}
	known, _ := k.courses.accounts.Get(key)
	h := known.health(k.now())
	h.Credential = StateOf(a, k.now())
	h.Failing = k.transport.Failing(a.URL, key.String())
	if a.Check.OK {
		// Whoever names another one's Zendesk in an account is not told how busy that is.
		h.Limits = k.transport.Limits(a.URL)
		h.LastSuccess = later(h.LastSuccess, a.Check.Time)
	}
	return h
}

// Condition is how an account gets on, in one word.
type Condition int

// Conditions of accounts.
const (
	ConditionUnknown Condition = iota
	ConditionHealthy
	ConditionLimited            // its Zendesk takes no more requests now
	ConditionFailing            // its Zendesk, or a part of it, does not answer
	ConditionNeedsAuthorization // its credential does not work
)

// String returns the condition's name, in lower case.
func (c Condition) String() string {
	return [...]string{"unknown", "healthy", "limited", "failing", "needs_authorization"}[c]
}

// Condition says how the account gets on, of whose activities heldBy holds all up; empty: nothing does.
func (h *Health) Condition(heldBy store.FailureReason) Condition {
	switch {
	case h.Credential == StateNeedsAuthorization:
		return ConditionNeedsAuthorization
	case h.Ill, len(h.Failing) > 0, heldBy != "" && heldBy != store.ReasonRateLimited:
		return ConditionFailing
	case h.Throttled, !h.Limits.LimitedUntil.IsZero(), heldBy == store.ReasonRateLimited:
		return ConditionLimited
	case h.Answers:
		return ConditionHealthy
	}
	return ConditionUnknown
}

// sign is what the end of a request says about the Zendesk of its account.
type sign int

const (
	signNone sign = iota // nothing: the caller gave up, it was not sent, or it is about the credential
	signWell             // it answers
	signIll              // it does not, or only to throttle or to refuse
)

// signOf reads an error of a request; nil is success. What may be the fault of one record or endpoint alone is a sign all the
// same: it takes several in a row, and one success ends the row.
func signOf(err error) sign {
	if err == nil {
		return signWell
	}
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok || api.Unsent {
		return signNone
	}
	switch api.Kind {
	case zendeskapi.Timeout, zendeskapi.Unavailable, zendeskapi.RateLimited, zendeskapi.BadResponse, zendeskapi.AccessDenied:
		return signIll
	case zendeskapi.NotFound:
		if !api.RecordMissing() && api.Code != invalidEndpoint {
			return signIll // not what was asked for is missing, but the whole help desk
		}
		return signWell
	case zendeskapi.InvalidRequest, zendeskapi.Conflict:
		return signWell
	}
	return signNone
}

// invalidEndpoint is Zendesk's code for an endpoint that the account's plan lacks, or that is there no more.
const invalidEndpoint = "InvalidEndpoint"

// courses keeps how the requests of accounts end, and tells the log when accounts fall ill and recover: once each, however
// many requests are made.
type courses struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	accounts *cache.Cache[Key, course]
}

// course is how the requests of an account have ended.
type course struct {
	lastSuccess time.Time
	lastFailure *store.Failure
	failureTime time.Time

	since    time.Time // of the first of failures
	failures int       // in a row, of requests that were sent; up to illAfter

	throttles      int       // in a row, of requests that were refused for the limit; up to illAfter
	throttledUntil time.Time // for so long the last one says something
}

// throttledFor is how long it says something that a request was refused for the limit, which is one of a minute, unless more
// was asked for.
const throttledFor = time.Minute

// health is what a course says of the account's health at now.
func (c *course) health(now time.Time) Health {
	throttled := c.throttles >= illAfter
	return Health{
		Answers: !c.lastSuccess.IsZero(), Ill: c.failures >= illAfter && !throttled, Throttled: throttled && now.Before(c.throttledUntil),
		LastSuccess: c.lastSuccess, LastFailure: c.lastFailure, LastFailureTime: c.failureTime,
	}
}

func newCourses(log *slog.Logger, now func() time.Time) *courses {
	return &courses{log: log, now: now, accounts: cache.New[Key, course](useMemory, now)}
}

// note takes the end of a request of an account.
func (s *courses) note(tenant string, account store.Account, err error) {
	found := signOf(err)
	api, _ := errors.AsType[*zendeskapi.Error](err)
	throttled := isKind(err, zendeskapi.RateLimited)
	isFailure := found == signIll || throttled || isKind(err, zendeskapi.CredentialsRejected)
	if found == signNone && !isFailure {
		return
	}
	key, now := Key{tenant, account.Incarnation}, s.now()
	log := s.log.With("tenant", tenant, "account_id", account.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	known, _ := s.accounts.Get(key)
	if isFailure {
		known.lastFailure, known.failureTime = new(FailureOf(err)), now
	}
	switch found {
	case signWell:
		if known.failures >= illAfter {
			log.Info("account is well again", "after", now.Sub(known.since).Round(time.Second))
		}
		known.lastSuccess, known.failures = now, 0
	case signIll:
		if known.failures == 0 {
			known.since = now
		}
		if known.failures < illAfter {
			if known.failures++; known.failures == illAfter {
				log.Warn("account is ill: its requests fail", "reason", string(known.lastFailure.Reason), "error", err)
			}
		}
	}
	switch {
	case throttled:
		known.throttles, known.throttledUntil = min(known.throttles+1, illAfter), now.Add(max(throttledFor, api.Pause))
	case found != signNone:
		known.throttles = 0
	}
	s.accounts.Put(key, known)
}
