package store

import (
	"context"
	"errors"
	"fmt"

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
	return s.commit(ctx, func(tx kv.Txn) error {
		tx.Delete(probeKey)
		return nil
	})
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
