// Package kv is the seam between the typed store and the database that keeps its bytes: an ordered map from byte keys
// to byte values with optimistic transactions, small enough for a file on disk and for a cluster.
//
// It hides which database is used. It guarantees that an acknowledged [Engine.Update] is durable, whole and made once, that
// a function sees one state of the world which holds every Update acknowledged before it began, that nothing it saw can
// be lost once its call has returned, and that bytes are copied on the way in and out. Errors are a function's own,
// returned as they are, a [*PanicError], the context's, or wrap one of the Err variables here; anything else is the
// database's own failure.
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
//
// # For those who write an engine
//
// [Overlay] keeps the limits and hands out what a run read and wrote. An engine commits its [Overlay.Ops] all or nothing,
// and only if no value of [Overlay.Reads] has changed since the state that the run saw; a missing key that was made is a
// change.
//
// Where the answer to a commit can get lost, the engine finds out what became of it: with the writes of each commit goes a
// marker of its own, compared absent. When the answer is lost, a second transaction looks for the marker: if it is there
// the update is made, and the second transaction removes it; if not, it writes the marker itself, so that the first one
// can never succeed any more, and the function runs again. How the keys look proves nothing: another writer may have changed
// them since, or have written the same.
package kv

import (
	"context"
	"errors"
	"io"
	"time"
)

// Limits that every engine enforces. They are etcd's defaults less a margin.
const (
	// MaxKeyBytes is the longest key; the shortest has one byte.
	MaxKeyBytes = 1 << 10
	// MaxTxnKeys is the most keys one run of an Update function may read and write together, and the most that a single
	// [Getter] call may ask for. A key counts once, however often it is read and written. A range that is deleted counts
	// as one, ranges that meet as one together; a key set in it cuts it into two.
	MaxTxnKeys = 100
	// MaxTxnBytes is the most bytes, keys and values together, one run of an Update function may write. What it writes over
	// or deletes again does not count.
	MaxTxnBytes = 1 << 20
	// MaxScanLimit is the most entries a single Scan returns, and the default.
	MaxScanLimit = 256
	// MaxScanBytes is the most bytes, keys and values together, a single Scan returns.
	MaxScanBytes = 4 << 20
)

var (
	// ErrTooLarge says that a key, a transaction or a scan is over one of the limits. Nothing was written.
	ErrTooLarge = errors.New("over a limit of the key-value store")
	// ErrUnavailable says that the database cannot do it now: it is out of space, or out of reach. Nothing was written.
	// Repeat it later.
	ErrUnavailable = errors.New("key-value store is unavailable")
	// ErrUnknownOutcome says that an Update may or may not have been committed. Only an Update whose context ended says so;
	// the error wraps the context's, too.
	ErrUnknownOutcome = errors.New("outcome of the update is unknown")
	// ErrFailed says that the engine refuses everything until it is opened anew; see [Engine.Failed]. Of the Updates that
	// were under way, those that had not been acknowledged may or may not be found then.
	ErrFailed = errors.New("key-value store has failed and must be opened anew")
	// ErrDamaged says that what the database has stored does not hold together.
	ErrDamaged = errors.New("damaged (restore a backup)")
	// ErrClosed says that the engine has been closed.
	ErrClosed = errors.New("key-value store is closed")
)

// Engine is a database. It is safe for concurrent use.
type Engine interface {
	// View calls fn with one snapshot, which holds every Update acknowledged before, is taken by the first read at the latest,
	// and is valid until fn returns. Keep it short. Its error is fn's, as it is; a panic of fn goes on to the caller.
	View(ctx context.Context, fn func(Reader) error) error

	// Update commits what fn wrote, all or nothing, provided that no key fn read has changed meanwhile; otherwise it
	// runs fn again. Nil means that it was committed, once, and is durable. An error of fn comes back as it is and writes
	// nothing; a panic of fn is an error of this update alone, a [*PanicError].
	//
	// Fn runs on the caller's goroutine, and keeps nobody else waiting: others commit meanwhile. It may run several times,
	// one run after the other, and the last run is the one that is committed: so it assigns to captured variables and never
	// appends to them, does no I/O, calls no engine, and takes ids and times from outside. All reads of a run see one
	// state, and its own writes. Also an update that comes to an error, or to nothing to write, has seen a state that holds every Update
	// acknowledged before.
	//
	// Commits that wait take turns over the first segment of the key that fn named first.
	//
	// For its commit it waits by [Wait]. A context that ends before the commit has begun gives its error, and nothing is
	// written. A commit once begun is waited for; where its answer may never come, the end of the context ends that with [ErrUnknownOutcome].
	Update(ctx context.Context, fn func(Txn) error) error

	// Watch reports changes of keys that begin with prefix (an empty one: of all keys) on a channel of empty tokens.
	// Tokens are coalesced and may be spurious: take one, then look. No change committed after Watch returned is missed;
	// its token may come a little after its Update has returned. The channel is closed when ctx ends, or the engine fails
	// or closes.
	Watch(ctx context.Context, prefix []byte) (<-chan struct{}, error)

	// Shared reports whether other processes may have the database open at the same time.
	Shared() bool

	// Failed is closed when the engine has failed for good: it was unable to make a commit durable, or what it has stored
	// is damaged. From then on everything gets the error that Err returns. Who opened the engine ends the process then,
	// or opens it anew. It is nil for an engine that never gives up.
	Failed() <-chan struct{}

	// Err says in one line why the engine has failed, and wraps [ErrFailed]; nil as long as it has not.
	Err() error

	// Close waits for running Views and Updates, and releases the database. Everything asked later gets [ErrClosed];
	// closing again does nothing.
	Close() error
}

type waitKey struct{}

// WithWait has an [Engine] that is called with the context wait for commits within around: it may give up meanwhile what
// others can use, and is called from the goroutine that called the engine.
func WithWait(ctx context.Context, around func(wait func())) context.Context {
	return context.WithValue(ctx, waitKey{}, around)
}

// Wait is how an engine waits for a commit.
func Wait(ctx context.Context, wait func()) {
	if around, ok := ctx.Value(waitKey{}).(func(wait func())); ok {
		around(wait)
		return
	}
	wait()
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
	// Scan returns the entries of a range in order of their keys, and whether there are more of them: it stops at
	// the range's limit, and before [MaxScanBytes], but not before the first entry. Go on [After] the last key, or, in
	// reverse, with it as the End.
	Scan(Range) (entries []Entry, more bool, err error)
}

// Txn reads and collects writes. Its reads see its own earlier writes, and writes take effect in the order given: a key set
// twice has the later value, and one set after a range around it was deleted is there. A write over a limit fails the
// Update. There is no Scan: not every database can guard a range against deletions.
type Txn interface {
	Getter
	// Put sets the value of a key. A nil value is stored as an empty one.
	Put(key, value []byte)
	// Delete removes a key; a missing key is fine.
	Delete(key []byte)
	// DeleteRange removes the keys from start up to, and without, end. An empty end means no bound.
	DeleteRange(start, end []byte)
	// ExpectMissing says that keys which Get will be asked for are most likely missing. An engine that would have to go far to see may
	// take that for read, and find out when it commits; then the function runs again. It changes nothing of what an Update comes to.
	ExpectMissing(keys ...[]byte)
}

// Commit is what an engine's commit was like.
type Commit struct {
	Duration time.Duration // from when it was begun until it was durable; 0: nothing was committed
	Updates  int           // that it had
	Bytes    int           // of keys and values
	Retried  int           // updates that have to run again, for what they had read has changed
}

// Snapshotter is an engine that can copy itself whole.
type Snapshotter interface {
	// Snapshot returns a copy of one state of the whole database, which holds every Update acknowledged before, in the
	// database's own format, and has look read the same state. Others write meanwhile. A slow reader of the copy costs them
	// nothing; closing it removes it. Where there is no room for it, which it leaves to others, it is [ErrUnavailable].
	Snapshot(ctx context.Context, look func(Reader) error) (io.ReadCloser, error)
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
