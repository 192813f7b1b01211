package kv

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
)

var (
	errEmptyKey    = errors.New("key is empty")
	errTooManyKeys = fmt.Errorf("transaction of more than %d keys: %w", MaxTxnKeys, ErrTooLarge)
)

// PanicError is what an Update returns whose function panicked. Its text is one line; Stack is where it happened.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("update panicked: %v", e.Value) }

// Op is one write. With Range it deletes from Key up to, and without, End (empty: no bound); otherwise it sets Key to
// Value, or deletes it when Value is nil.
type Op struct {
	Key, End, Value []byte
	Range           bool
}

// Covers says whether the write is one of key.
func (o *Op) Covers(key []byte) bool {
	if o.Range {
		return bytes.Compare(o.Key, key) <= 0 && below(key, o.End)
	}
	return bytes.Equal(o.Key, key)
}

func (o *Op) size() int { return len(o.Key) + len(o.End) + len(o.Value) }

// below takes an empty end for no bound.
func below(key, end []byte) bool {
	return len(end) == 0 || bytes.Compare(key, end) < 0
}

// Overlay is a [Txn] for engines: it collects copies of the writes of one run over what base reads, and enforces the
// limits. When the run has succeeded an engine makes sure that what [Overlay.Reads] names has not changed, and applies
// [Overlay.Ops]. An overlay used for a single Get of a [Reader] checks there too.
type Overlay struct {
	base   Getter
	named  []named // keys read or written, as they came: a transaction has few
	first  []byte  // of them all, and of ranges
	points []Op    // keys set, anywhere, and keys deleted outside the ranges
	ranges []Op    // deleted, before the points were written; in order and apart
	bytes  int     // of points and ranges
	err    error
}

type named struct {
	key  string
	read bool // from base
}

// NewOverlay returns an empty overlay over base, which hands out copies.
func NewOverlay(base Getter) *Overlay {
	return &Overlay{base: base, named: make([]named, 0, 8)}
}

// Run calls the function of an Update. Its panic becomes a [*PanicError].
func (o *Overlay) Run(fn func(Txn) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return fn(o)
}

// First returns the key that was named first, by which an engine may tell whose an update is; nil if none was.
func (o *Overlay) First() []byte { return o.first }

// Reads returns the keys whose values came from base, each once.
func (o *Overlay) Reads() []string {
	keys := make([]string, 0, len(o.named))
	for i := range o.named {
		if o.named[i].read {
			keys = append(keys, o.named[i].key)
		}
	}
	return keys
}

// Ops returns the writes, or what is wrong with them. They are in order of their keys, and no key is covered by two of
// them: each is written once, and ranges are cut around the keys set in them. They belong to the caller.
func (o *Overlay) Ops() ([]Op, error) {
	if o.err != nil {
		return nil, o.err
	}
	ops := make([]Op, 0, len(o.points)+len(o.ranges))
	pieces := 0
	add := func(piece Op) {
		if below(piece.Key, piece.End) {
			ops, pieces = append(ops, piece), pieces+1
		}
	}
	ranges := slices.Clone(o.ranges)
	slices.SortFunc(o.points, func(a, b Op) int { return bytes.Compare(a.Key, b.Key) })
	for _, op := range o.points {
		for len(ranges) > 0 && !below(op.Key, ranges[0].End) {
			add(ranges[0])
			ranges = ranges[1:]
		}
		if len(ranges) > 0 && ranges[0].Covers(op.Key) {
			add(Op{Key: ranges[0].Key, End: op.Key, Range: true})
			ranges[0].Key = After(op.Key)
		}
		ops = append(ops, op)
	}
	for _, rest := range ranges {
		add(rest)
	}
	if len(o.named)+pieces > MaxTxnKeys {
		return nil, errTooManyKeys
	}
	return ops, nil
}

// Get implements [Txn].
func (o *Overlay) Get(keys ...[]byte) ([][]byte, error) {
	if o.name(keys...); o.err != nil {
		return nil, o.err
	}
	if len(o.points)+len(o.ranges) == 0 {
		for _, key := range keys {
			o.find(key).read = true
		}
		return o.base.Get(keys...)
	}
	read := make([][]byte, len(keys))
	var places []int
	var unknown [][]byte
	for i, key := range keys {
		if value, known := o.written(key); known {
			read[i] = bytes.Clone(value)
		} else {
			places, unknown = append(places, i), append(unknown, key)
			o.find(key).read = true
		}
	}
	if len(unknown) == 0 {
		return read, nil
	}
	values, err := o.base.Get(unknown...)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		read[place] = values[i]
	}
	return read, nil
}

// find returns what is known of a key that was named; nil if it was not.
func (o *Overlay) find(key []byte) *named {
	for i := range o.named {
		if o.named[i].key == string(key) {
			return &o.named[i]
		}
	}
	return nil
}

func (o *Overlay) point(key []byte) int {
	return slices.IndexFunc(o.points, func(op Op) bool { return bytes.Equal(op.Key, key) })
}

func (o *Overlay) written(key []byte) (value []byte, known bool) {
	if i := o.point(key); i >= 0 {
		return o.points[i].Value, true
	}
	return nil, slices.ContainsFunc(o.ranges, func(r Op) bool { return r.Covers(key) })
}

// Put implements [Txn].
func (o *Overlay) Put(key, value []byte) {
	if o.name(key); o.err == nil {
		o.set(Op{Key: bytes.Clone(key), Value: append([]byte{}, value...)})
	}
}

// Delete implements [Txn].
func (o *Overlay) Delete(key []byte) {
	if o.name(key); o.err != nil {
		return
	}
	if slices.ContainsFunc(o.ranges, func(r Op) bool { return r.Covers(key) }) {
		o.drop(key)
		return
	}
	o.set(Op{Key: bytes.Clone(key)})
}

func (o *Overlay) set(op Op) {
	o.drop(op.Key)
	o.points = append(o.points, op)
	o.grow(op.size())
}

func (o *Overlay) drop(key []byte) {
	if i := o.point(key); i >= 0 {
		o.bytes -= o.points[i].size()
		o.points = slices.Delete(o.points, i, i+1)
	}
}

// ExpectMissing implements [Txn]: it tells base, if that has it.
func (o *Overlay) ExpectMissing(keys ...[]byte) {
	if base, ok := o.base.(interface{ ExpectMissing(keys ...[]byte) }); ok {
		base.ExpectMissing(keys...)
	}
}

// DeleteRange implements [Txn].
func (o *Overlay) DeleteRange(start, end []byte) {
	if o.first == nil {
		o.first = append([]byte{}, start...)
	}
	if !below(start, end) || o.err != nil {
		return
	}
	added := Op{Key: bytes.Clone(start), End: bytes.Clone(end), Range: true}
	o.points = slices.DeleteFunc(o.points, func(op Op) bool {
		if !added.Covers(op.Key) {
			return false
		}
		o.bytes -= op.size()
		return true
	})
	// One range takes in those that it meets.
	var apart []Op
	for _, r := range o.ranges {
		if reaches(r.End, added.Key) && reaches(added.End, r.Key) {
			o.bytes -= r.size()
			added = Op{Key: slices.MinFunc([][]byte{r.Key, added.Key}, bytes.Compare), End: later(r.End, added.End), Range: true}
		} else {
			apart = append(apart, r)
		}
	}
	o.ranges = append(apart, added)
	slices.SortFunc(o.ranges, func(a, b Op) int { return bytes.Compare(a.Key, b.Key) })
	o.grow(added.size())
}

func reaches(end, key []byte) bool {
	return len(end) == 0 || bytes.Compare(end, key) >= 0
}

func later(end, other []byte) []byte {
	if reaches(end, other) && len(other) > 0 {
		return end
	}
	return other
}

// name notes keys that the function names, and what is wrong with them.
func (o *Overlay) name(keys ...[]byte) {
	for _, key := range keys {
		switch {
		case o.err != nil:
			return
		case len(key) == 0:
			o.err = errEmptyKey
			return
		case len(key) > MaxKeyBytes:
			o.err = fmt.Errorf("key of %d bytes: %w", len(key), ErrTooLarge)
			return
		}
		if o.first == nil {
			o.first = bytes.Clone(key)
		}
		if o.find(key) == nil {
			o.named = append(o.named, named{key: string(key)})
		}
	}
	o.grow(0)
}

// grow keeps the first error, so that a function which goes on after it fails all the same.
func (o *Overlay) grow(size int) {
	o.bytes += size
	switch {
	case o.err != nil:
	case len(o.named)+len(o.ranges) > MaxTxnKeys:
		o.err = errTooManyKeys
	case o.bytes > MaxTxnBytes:
		o.err = fmt.Errorf("transaction of more than %d bytes: %w", MaxTxnBytes, ErrTooLarge)
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
