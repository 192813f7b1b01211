package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Whether the data can be used.
var (
	ErrUnavailable = kv.ErrUnavailable // nothing can be written now, such as for want of space; nothing was; see [Store.Unavailable]
	ErrFailed      = kv.ErrFailed      // for good; see [Store.Failed]
)

// Failed is closed when the store has failed for good, as when a commit could not be made durable or the data is damaged:
// everything gets the error that Err returns then, until it is opened anew. It is nil where that cannot happen.
func (s *Store) Failed() <-chan struct{} { return s.engine.Failed() }

// Err says in one line why the store has failed, and wraps [ErrFailed]; nil as long as it has not.
func (s *Store) Err() error { return s.engine.Err() }

// Unavailable gives the error when something could not be written: an [ErrUnavailable]. What nobody has taken stands for all
// later ones. There is one reader.
func (s *Store) Unavailable() <-chan error { return s.unavailable }

// probeBytes is enough that a probe does not get by with the few pages that are free in a file which cannot grow.
const probeBytes = 256 << 10

// Probe finds out whether the data can be written again.
func (s *Store) Probe(ctx context.Context) error {
	if s.Shared() {
		return s.eraseProbe(ctx) // there is nothing to erase, which is a commit all the same
	}
	err := s.commit(ctx, func(tx kv.Txn) error {
		sealed, err := s.vault.seal(probeKey, make([]byte, probeBytes))
		if err == nil {
			tx.Put(probeKey, sealed)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("probing: %w", err)
	}
	return s.eraseProbe(ctx)
}

func (s *Store) eraseProbe(ctx context.Context) error {
	return s.commit(ctx, func(tx kv.Txn) error {
		tx.Delete(probeKey)
		return nil
	})
}

const (
	// tellTime is what is left of a caller's time to say that the database does not answer.
	tellTime = 500 * time.Millisecond
	// backgroundTime is how long it may take where nobody waits.
	backgroundTime = 20 * time.Second
	// answerTime is how long a database may take in any case: most answers take milliseconds.
	answerTime = time.Second
)

// inTime asks a database that is reached over a network. One that does not answer is away, which is said before the caller's time
// is over.
func (s *Store) inTime(ctx context.Context, ask func(context.Context) error) error {
	if !s.Shared() {
		return ask(ctx)
	}
	early := backgroundTime
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		early = left - min(left/4, tellTime)
	}
	if early < answerTime {
		return ask(ctx)
	}
	within, cancel := context.WithTimeout(ctx, early)
	defer cancel()
	err := ask(within)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && !errors.Is(err, ErrUnknownOutcome) {
		return fmt.Errorf("%w: it has not answered for %s: %w", ErrUnavailable, early.Round(time.Millisecond), err)
	}
	return err
}

// noteUnavailable passes on the error of an update.
func (s *Store) noteUnavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		select {
		case s.unavailable <- err:
		default:
		}
	}
	return err
}
