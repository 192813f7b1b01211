package boltkv

import (
	"bytes"
	"context"

	"go.etcd.io/bbolt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// getter reads bytes that bbolt owns.
type getter struct{ bucket *bbolt.Bucket }

func (g getter) Get(keys ...[]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = g.bucket.Get(key)
	}
	return values, nil
}

type reader struct {
	ctx    context.Context
	bucket *bbolt.Bucket
}

func (r *reader) Get(keys ...[]byte) ([][]byte, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	return kv.NewOverlay(getter{r.bucket}).Get(keys...)
}

func (r *reader) Scan(rng kv.Range) ([]kv.Entry, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	limit, err := rng.CheckedLimit()
	if err != nil {
		return nil, err
	}
	var entries []kv.Entry
	c := r.bucket.Cursor()
	k, v := first(c, rng)
	for len(entries) < limit && k != nil && bytes.Compare(k, rng.Start) >= 0 && below(k, rng.End) {
		entry := kv.Entry{Key: bytes.Clone(k)}
		if !rng.KeysOnly {
			entry.Value = bytes.Clone(v)
		}
		entries = append(entries, entry)
		if rng.Reverse {
			k, v = c.Prev()
		} else {
			k, v = c.Next()
		}
	}
	return entries, nil
}

func first(c *bbolt.Cursor, rng kv.Range) (key, value []byte) {
	switch {
	case !rng.Reverse:
		return c.Seek(rng.Start)
	case len(rng.End) == 0:
		return c.Last()
	}
	if k, _ := c.Seek(rng.End); k == nil {
		return c.Last()
	}
	return c.Prev()
}
