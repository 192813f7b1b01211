package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// fullEngine is an engine without room, when it is full, for more than some bytes.
type fullEngine struct {
	kv.Engine
	room int
	full bool
}

func (e *fullEngine) Update(ctx context.Context, fn func(kv.Txn) error) error {
	return e.Engine.Update(ctx, func(tx kv.Txn) error {
		counted := &countingTxn{Txn: tx}
		if err := fn(counted); err != nil {
			return err
		}
		if e.full && counted.bytes > e.room {
			return fmt.Errorf("no space: %w", kv.ErrUnavailable)
		}
		return nil
	})
}

type countingTxn struct {
	kv.Txn
	bytes int
}

func (tx *countingTxn) Put(key, value []byte) {
	tx.bytes += len(value)
	tx.Txn.Put(key, value)
}

// TestUnavailable tells of writes for which there is no room, until there is; a probe leaves nothing behind.
func TestUnavailable(t *testing.T) {
	s := openStore(t, t.TempDir())
	engine := &fullEngine{Engine: s.engine, room: 1 << 10}
	s.engine = engine
	told := func() (err error) {
		select {
		case err = <-s.Unavailable():
		default:
		}
		return err
	}
	before := keysOfData(t, engine)
	if err := s.Probe(t.Context()); err != nil || told() != nil {
		t.Errorf("with room the probe says %v", err)
	}
	engine.full = true
	for range 2 {
		_, err := s.CreateAccount(t.Context(), tenant, Account{ID: "acme", Name: string(make([]byte, 2<<10)), URL: "https://acme.zendesk.com"})
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("without room an account is made with %v", err)
		}
	}
	if err := told(); !errors.Is(err, ErrUnavailable) || told() != nil {
		t.Errorf("of two errors %v is told", err)
	}
	if err := s.Probe(t.Context()); !errors.Is(err, ErrUnavailable) || !errors.Is(told(), ErrUnavailable) {
		t.Errorf("without room the probe says %v", err)
	}
	engine.full = false
	if err := s.Probe(t.Context()); err != nil || told() != nil {
		t.Errorf("with room again the probe says %v", err)
	}
	if diff := cmp.Diff(before, keysOfData(t, engine)); diff != "" {
		t.Errorf("keys (-before +after):\n%s", diff)
	}
}
