package credentials

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/cache"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// illAfter is how many requests in a row must fail for an account to be ill: one that fails alone says nothing of others.
const illAfter = 3

// sign is what the end of a request says about the Zendesk of its account.
type sign int

const (
	signNone sign = iota // nothing: it may be about the record, the endpoint, the caller
	signWell             // it answers
	signIll              // it does not, or only to throttle
)

// signOf reads an error of a request; nil is success. A credential that is refused is told where its state is kept.
func signOf(err error) sign {
	if err == nil {
		return signWell
	}
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok {
		return signNone
	}
	switch api.Kind {
	case zendeskapi.Timeout, zendeskapi.Unavailable, zendeskapi.RateLimited, zendeskapi.BadResponse:
		return signIll
	case zendeskapi.NotFound, zendeskapi.InvalidRequest, zendeskapi.Conflict:
		return signWell
	}
	return signNone
}

// illnesses tells the log when accounts fall ill and recover: once each, however many requests are made.
type illnesses struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	accounts *cache.Cache[Key, illness] // those whose last requests failed
}

type illness struct {
	since    time.Time
	failures int // in a row, up to illAfter
}

func newIllnesses(log *slog.Logger, now func() time.Time) *illnesses {
	return &illnesses{log: log, now: now, accounts: cache.New[Key, illness](useMemory, now)}
}

// note takes the end of a request of an account.
func (s *illnesses) note(tenant string, account store.Account, err error) {
	found := signOf(err)
	if found == signNone {
		return
	}
	key := Key{tenant, account.Incarnation}
	log := s.log.With("tenant", tenant, "account_id", account.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	known, failing := s.accounts.Get(key)
	if found == signWell {
		s.accounts.Drop(key)
		if known.failures == illAfter {
			log.Info("account is well again", "after", s.now().Sub(known.since).Round(time.Second))
		}
		return
	}
	if !failing {
		known.since = s.now()
	}
	if known.failures < illAfter {
		if known.failures++; known.failures == illAfter {
			log.Warn("account is ill: its requests fail", "reason", string(FailureOf(err).Reason), "error", err)
		}
	}
	s.accounts.Put(key, known)
}
