package boltkv

import (
	"bytes"
	"context"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// state reads a snapshot for one call.
type state struct {
	*snapshot
	ctx context.Context
}

func (s *state) Get(keys ...[]byte) ([][]byte, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	err := s.db.guarded(func() error {
		c, err := s.bucket()
		for i := 0; i < len(keys) && err == nil; i++ {
			values[i], err = c.get(keys[i])
			values[i] = bytes.Clone(values[i])
		}
		return err
	})
	return values, err
}

// reader is a [kv.Reader] on a state.
type reader struct{ state }

func (r *reader) Get(keys ...[]byte) ([][]byte, error) {
	return kv.NewOverlay(&r.state).Get(keys...)
}

func (r *reader) Scan(rng kv.Range) (entries []kv.Entry, more bool, err error) {
	if err := r.ctx.Err(); err != nil {
		return nil, false, err
	}
	limit, err := rng.CheckedLimit()
	if err != nil {
		return nil, false, err
	}
	err = r.db.guarded(func() error {
		c, err := r.bucket()
		if err != nil {
			return err
		}
		if err := c.start(rng); err != nil {
			return err
		}
		size := 0
		for key, ok := c.key(); ok && bytes.Compare(key, rng.Start) >= 0 && below(key, rng.End); key, ok = c.key() {
			var entry kv.Entry
			size += len(key)
			if !rng.KeysOnly {
				size += len(c.value())
			}
			if len(entries) == limit || len(entries) > 0 && size > kv.MaxScanBytes {
				more = true
				return nil
			}
			entry.Key = bytes.Clone(key)
			if !rng.KeysOnly {
				entry.Value = append([]byte{}, c.value()...)
			}
			entries = append(entries, entry)
			if err := c.step(rng.Reverse); err != nil {
				return err
			}
		}
		return nil
	})
	return entries, more, err
}

// inspect looks at the pages that bbolt will read to make writes.
func (s *state) inspect(ops []kv.Op) error {
	c, err := s.bucket()
	if err != nil {
		return err
	}
	for i := range ops {
		op := &ops[i]
		if err := c.way(op.Key); err != nil {
			return err
		}
		if op.Value != nil {
			continue
		}
		if err := c.neighbours(); err != nil {
			return err
		}
		if !op.Range {
			continue
		}
		if err := c.seek(op.Key); err != nil {
			return err
		}
		for key, ok := c.key(); ok && op.Covers(key); key, ok = c.key() {
			if err := c.step(false); err != nil {
				return err
			}
		}
		if err := c.neighbours(); err != nil {
			return err
		}
	}
	return nil
}

func below(key, end []byte) bool {
	return len(end) == 0 || bytes.Compare(key, end) < 0
}
