// Package pgkv is the [kv.Engine] that keeps its keys in a PostgreSQL database, which several processes may share.
//
// It hides the schema, how reads and commits of many callers share round trips, how a commit is validated where others commit
// at the same time, what became of a commit whose answer was lost, and how processes hear of each other's changes. All of it
// is plain SQL at READ COMMITTED: no procedures, no advisory locks.
//
// Functions run on their callers' goroutines. What they read is remembered from when this process last read or wrote it, and asked for
// where it is not; each read that asks also looks whether what was read before has changed, and starts the run again if so. A run that does
// not end in a commit looks once more in the end. The updates that wait are committed in groups, a round trip each: the
// keys that they write, or have read as missing, are locked in order; what they have read is compared; those that still hold
// are applied, and the others run again. Those that come while a commit is under way share the next, which waits for it, unless it takes
// long: few round trips carry many, and a lone caller waits for nobody.
//
// A commit writes a marker of its own, with those that it left out. When its answer is lost, another transaction writes the same marker: if
// it is there, the commit was made; else it was not and never will be.
//
// The database is asked on its primary only; of several hosts, the one that was it last is tried first. An acknowledged update
// is as durable as the primary's synchronous_commit=on makes it, which each session sets: a standby that is to be promoted
// without loss has to be a synchronous one. Commits wait for it then, and while it is away. The engine never cancels such a wait;
// when somebody else does, which the server calls success, the commit counts as one whose answer was lost, and is looked for
// by a transaction that waits too. What a View reads is on the standby unless such a wait was cancelled, or the primary started
// anew, while the standby was away.
//
// Errors are those of package kv. The engine never fails for good: a database that is away, or from which no answer comes for
// some seconds, is [kv.ErrUnavailable], and all goes on when it is back. [kv.ErrUnknownOutcome] comes, beside from contexts that
// end, where it could not be found out for ten minutes what became of a commit.
//
//	db, err := pgkv.Open(ctx, pgkv.Config{URL: "postgres://zendeskblocks@db1,db2/zendeskblocks?sslmode=verify-full"})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
package pgkv

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Config says where the database is.
type Config struct {
	// URL is a connection URI or string of libpq; what it leaves out comes from libpq's variables, its password file and its
	// service file. Several hosts are tried for the one that can be written.
	// https://www.postgresql.org/docs/current/libpq-connect.html
	URL string

	PasswordFile string // holds the password, a line of text, read for each connection; empty: it comes from where libpq looks for it

	// Committed is told of each group of updates that was committed, or has to run again; nil: nobody is.
	Committed func(kv.Commit)
	// Heard is told of each commit of another process how long after it, by the database's clock, this one has heard of it; nil:
	// nobody is.
	Heard func(delay time.Duration)
}

// DB is an open database. It is safe for concurrent use and implements [kv.Engine].
type DB struct {
	network    *network
	pool       *pgxpool.Pool
	replica    int64 // tells this process's changes from those of others
	committed  func(kv.Commit)
	heard      func(time.Duration)
	queue      *kv.Queue[*update]
	committing committing
	fetches    *fetches
	cache      *cache
	views      chan struct{} // holds a token for each View that has a connection
	watchers   kv.Watchers
	notify     chan struct{} // holds a token when others are to hear of changes
	lose       func() *loss  // tests make it lose answers
	dropped    atomic.Uint64 // how often connections were found broken
	size       databaseSize

	ctx  context.Context // ends when the engine is closed
	stop context.CancelFunc
	work sync.WaitGroup // goroutines of the engine

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // Views and Updates; closed goes before Wait
	close   func() error
}

var _ kv.Engine = (*DB)(nil)

// loss is an answer to be lost, after the commit was made or with it.
type loss struct {
	made      bool
	meanwhile func()
}

// Open connects to a database whose schema [Migrate] has made, and refuses others.
func Open(ctx context.Context, c Config) (*DB, error) {
	network, err := newNetwork(c)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, network.config)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	if err := checkSchema(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	d := &DB{
		network: network, pool: pool, replica: randomID(), committed: c.Committed, heard: c.Heard,
		queue: kv.NewQueue[*update](), fetches: newFetches(), cache: newCache(), views: make(chan struct{}, maxViews),
		notify: make(chan struct{}, 1), lose: func() *loss { return nil },
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.close = sync.OnceValue(d.shut)
	f, err := d.newFeed(ctx)
	if err != nil {
		d.stop()
		pool.Close()
		return nil, err
	}
	for range committers {
		d.work.Go(d.commitGroups)
	}
	for range fetchers {
		d.work.Go(d.fetchAll)
	}
	d.work.Go(f.run)
	d.work.Go(d.tellOthers)
	d.work.Go(d.sweep)
	return d, nil
}

// Close implements [kv.Engine].
func (d *DB) Close() error { return d.close() }

func (d *DB) shut() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.running.Wait()
	d.queue.Close()
	d.stop()
	d.work.Wait()
	d.watchers.Close()
	d.pool.Close()
	return nil
}

// Shared implements [kv.Engine].
func (d *DB) Shared() bool { return true }

// Failed implements [kv.Engine].
func (d *DB) Failed() <-chan struct{} { return nil }

// Err implements [kv.Engine].
func (d *DB) Err() error { return nil }

// enter is followed by d.running.Done, unless it fails.
func (d *DB) enter(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case d.closed:
		return kv.ErrClosed
	}
	d.running.Add(1)
	return nil
}

// View implements [kv.Engine].
func (d *DB) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.running.Done()
	r := &reader{db: d, ctx: ctx}
	defer r.end()
	return fn(r)
}

// Update implements [kv.Engine].
func (d *DB) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.running.Done()
	u := &update{}
	defer d.queue.Forget(u)
	for run := 1; ; run++ {
		again, err := d.try(ctx, u, fn, run > knowingRuns)
		if !again {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// knowingRuns is how many runs of an update may go by what is remembered. What was found otherwise after one of them is remembered no more.
const knowingRuns = 2

// try runs fn, and commits what it wrote unless what it read has changed. What it comes to without a commit counts if that still is what
// it was. With fresh nothing is taken from what is remembered.
func (d *DB) try(ctx context.Context, u *update, fn func(kv.Txn) error, fresh bool) (again bool, err error) {
	s := &state{db: d, ctx: ctx, versions: make(map[string]int64), fresh: fresh}
	overlay := kv.NewOverlay(s)
	err = overlay.Run(fn)
	if s.stale {
		return true, nil
	}
	var ops []kv.Op
	if err == nil {
		ops, err = overlay.Ops()
	}
	if err != nil || len(ops) == 0 {
		if s.remembered && !s.failed {
			if _, failed := s.fetch(nil); failed != nil {
				return s.stale, failed
			}
		}
		return false, err
	}
	owner, _, _ := bytes.Cut(overlay.First(), []byte{0})
	u.Owner, u.Reads, u.Ops, u.versions = string(owner), overlay.Reads(), ops, s.versions
	u.done = make(chan struct{})
	d.queue.Push(u)
	kv.Wait(ctx, func() { again, err = d.outcome(ctx, u) })
	return again, err
}

// outcome waits until an update is committed or not. Who waits no longer than its context does not know, unless the commit has
// not begun.
func (d *DB) outcome(ctx context.Context, u *update) (again bool, err error) {
	select {
	case <-u.done:
		return u.again, u.err
	case <-ctx.Done():
	}
	if d.queue.Withdraw(u) {
		return false, ctx.Err()
	}
	select {
	case <-u.done:
		return u.again, u.err
	case <-time.After(grace):
		return false, fmt.Errorf("%w: %w", kv.ErrUnknownOutcome, ctx.Err())
	}
}

// grace is how long an update whose context has ended waits for a commit that has begun: most end well.
const grace = 250 * time.Millisecond

// Watch implements [kv.Engine].
func (d *DB) Watch(ctx context.Context, prefix []byte) (<-chan struct{}, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.Done()
	tokens := d.watchers.Add(ctx, prefix)
	if tokens == nil {
		return nil, kv.ErrClosed
	}
	return tokens, nil
}
