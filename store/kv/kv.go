// Package kv is the seam between the typed store and the database that keeps its bytes: an ordered map from byte keys
// to byte values with transactions, small enough for a file on disk and for a cluster.
//
// It hides which database is used. It guarantees that an acknowledged [Engine.Update] is durable and whole, that a
// [Engine.View] sees one state of the world which holds every Update acknowledged before it began, and that bytes are
// copied on the way in and out. Errors are a function's own, returned as they are, the context's, or wrap one of the
// Err variables here; anything else is the database's own failure.
//
//	err := engine.Update(ctx, func(t kv.Txn) error {
//		values, err := t.Get(nameKey)
//		if err != nil {
//			return err
//		}
//		if values[0] != nil {
//			return errNameTaken
//		}
//		t.Put(nameKey, id)
//		return nil
//	})
package kv

import (
	"context"
	"errors"
	"io"
)

// Limits that every engine enforces. They are etcd's defaults less a margin.
const (
	// MaxKeyBytes is the longest key; the shortest has one byte.
	MaxKeyBytes = 1 << 10
	// MaxTxnKeys is the most keys one run of an Update function may read and write together, each counted as often as
	// it is named (a DeleteRange counts as one), and the most keys a single [Getter] call may ask for.
	MaxTxnKeys = 100
	// MaxTxnBytes is the most bytes, keys and values together, one run of an Update function may write.
	MaxTxnBytes = 1 << 20
	// MaxScanLimit is the most entries a single Scan returns, and the default.
	MaxScanLimit = 256
)

var (
	// ErrTooLarge says that a key, a transaction or a scan is over one of the limits. Nothing was written.
	ErrTooLarge = errors.New("over a limit of the key-value store")
	// ErrUnknownOutcome says that an Update may or may not have been committed. Repeat the whole operation.
	ErrUnknownOutcome = errors.New("outcome of the update is unknown")
	// ErrClosed says that the engine has been closed.
	ErrClosed = errors.New("key-value store is closed")
)

// Engine is a database. It is safe for concurrent use.
type Engine interface {
	// View calls fn with one snapshot, which holds every Update acknowledged before and is valid until fn returns. Keep
	// it short. Its error is fn's, as it is.
	View(ctx context.Context, fn func(Reader) error) error

	// Update commits what fn wrote, all or nothing, provided that no key fn read has changed meanwhile; otherwise it
	// runs fn again. Nil means durable. An error of fn comes back as it is and writes nothing; a panic of fn is an error
	// of this update alone.
	//
	// Fn may run several times and on another goroutine: it assigns to captured variables and never appends to them,
	// does no I/O, calls no engine, does not end its goroutine (as t.Fatal does), and takes ids and times from outside.
	//
	// A context that ends before fn runs gives its error; a commit once begun is waited for.
	Update(ctx context.Context, fn func(Txn) error) error

	// Watch reports changes of keys that begin with prefix (an empty one: of all keys) on a channel of empty tokens.
	// Tokens are coalesced and may be spurious: take one, then look. No change committed after Watch returned is missed.
	// The channel is closed when ctx ends or the engine closes.
	Watch(ctx context.Context, prefix []byte) (<-chan struct{}, error)

	// Close waits for running Views and Updates, and releases the database. Everything asked later gets [ErrClosed];
	// closing again does nothing.
	Close() error
}

// Getter reads keys.
type Getter interface {
	// Get returns one value per key, in order: nil when the key is missing, empty but not nil when its value is empty.
	// Ask for all the keys you know at once: each call may be a round trip.
	Get(keys ...[]byte) ([][]byte, error)
}

// Reader is a snapshot.
type Reader interface {
	Getter
	// Scan returns the entries of a range in order of their keys.
	Scan(Range) ([]Entry, error)
}

// Txn reads and collects writes. Its reads see its own earlier writes, and writes take effect in the order given. A write
// over a limit fails the Update. There is no Scan: not every database can guard a range against deletions.
type Txn interface {
	Getter
	// Put sets the value of a key. A nil value is stored as an empty one.
	Put(key, value []byte)
	// Delete removes a key; a missing key is fine.
	Delete(key []byte)
	// DeleteRange removes the keys from start up to, and without, end. An empty end means no bound.
	DeleteRange(start, end []byte)
}

// Snapshotter is an engine that can copy itself whole.
type Snapshotter interface {
	// Snapshot writes one state of the whole database, which holds every Update acknowledged before, in the database's
	// own format, and returns the bytes written. A slow writer costs other users nothing.
	Snapshot(ctx context.Context, w io.Writer) (int64, error)
}

// Range is a run of keys, and how to read it.
type Range struct {
	Start, End []byte // from Start up to, and without, End; empty means no bound
	Limit      int    // entries at most; 0 means [MaxScanLimit], more is [ErrTooLarge]
	Reverse    bool   // from the end of the range
	KeysOnly   bool   // leave values nil
}

// Prefix is the range of all keys that begin with prefix.
func Prefix(prefix []byte) Range {
	return Range{Start: prefix, End: PrefixEnd(prefix)}
}

// Entry is a key and its value.
type Entry struct {
	Key, Value []byte
}
