package kv

import (
	"bytes"
	"errors"
	"fmt"
)

var errEmptyKey = errors.New("key is empty")

// Op is one write. With Range it deletes from Key up to, and without, End (empty: no bound); otherwise it sets Key to
// Value, or deletes it when Value is nil.
type Op struct {
	Key, End, Value []byte
	Range           bool
}

// Touches says whether the write may change a key in the range from start up to, and without, end (empty: no bound).
func (o *Op) Touches(start, end []byte) bool {
	if o.Range {
		return below(start, o.End) && below(o.Key, end)
	}
	return bytes.Compare(o.Key, start) >= 0 && below(o.Key, end)
}

func below(key, end []byte) bool {
	return len(end) == 0 || bytes.Compare(key, end) < 0
}

// Overlay is a [Txn] for engines: it collects copies of the writes of one run over what base reads, and enforces the
// limits. An engine applies [Overlay.Ops] when the run has succeeded. An overlay used for a single Get of a [Reader] checks
// and copies there too.
type Overlay struct {
	base  Getter
	ops   []Op
	keys  int
	bytes int
	err   error
}

// NewOverlay returns an empty overlay over base, which may hand out bytes of its own: the overlay copies them.
func NewOverlay(base Getter) *Overlay {
	return &Overlay{base: base}
}

// Ops returns the writes in order, or what is wrong with them. They belong to the caller.
func (o *Overlay) Ops() ([]Op, error) {
	return o.ops, o.err
}

// Get implements [Txn].
func (o *Overlay) Get(keys ...[]byte) ([][]byte, error) {
	o.keys += len(keys)
	if o.check(keys...); o.err != nil {
		return nil, o.err
	}
	values, err := o.base.Get(keys...)
	if err != nil {
		return nil, err
	}
	read := make([][]byte, len(keys))
	for i, key := range keys {
		read[i] = bytes.Clone(o.latest(key, values[i]))
	}
	return read, nil
}

func (o *Overlay) latest(key, value []byte) []byte {
	end := After(key)
	for i := len(o.ops) - 1; i >= 0; i-- {
		if op := &o.ops[i]; op.Touches(key, end) {
			return op.Value
		}
	}
	return value
}

// Put implements [Txn].
func (o *Overlay) Put(key, value []byte) {
	o.check(key)
	o.write(Op{Key: key, Value: append([]byte{}, value...)})
}

// Delete implements [Txn].
func (o *Overlay) Delete(key []byte) {
	o.check(key)
	o.write(Op{Key: key})
}

// DeleteRange implements [Txn].
func (o *Overlay) DeleteRange(start, end []byte) {
	o.write(Op{Key: start, End: bytes.Clone(end), Range: true})
}

func (o *Overlay) write(op Op) {
	o.keys++
	o.bytes += len(op.Key) + len(op.End) + len(op.Value)
	if o.check(); o.err != nil {
		return
	}
	op.Key = bytes.Clone(op.Key)
	o.ops = append(o.ops, op)
}

// check keeps the first error, so that a function which goes on after it fails all the same.
func (o *Overlay) check(keys ...[]byte) {
	switch {
	case o.err != nil:
	case o.keys > MaxTxnKeys:
		o.err = fmt.Errorf("transaction of more than %d keys: %w", MaxTxnKeys, ErrTooLarge)
	case o.bytes > MaxTxnBytes:
		o.err = fmt.Errorf("transaction of more than %d bytes: %w", MaxTxnBytes, ErrTooLarge)
	}
	for _, key := range keys {
		switch {
		case o.err != nil:
		case len(key) == 0:
			o.err = errEmptyKey
		case len(key) > MaxKeyBytes:
			o.err = fmt.Errorf("key of %d bytes: %w", len(key), ErrTooLarge)
		}
	}
}

// CheckedLimit is the number of entries a Scan of the range may return, or [ErrTooLarge].
func (r Range) CheckedLimit() (int, error) {
	switch {
	case r.Limit < 0 || r.Limit > MaxScanLimit:
		return 0, fmt.Errorf("scan of %d entries: %w", r.Limit, ErrTooLarge)
	case r.Limit == 0:
		return MaxScanLimit, nil
	default:
		return r.Limit, nil
	}
}
