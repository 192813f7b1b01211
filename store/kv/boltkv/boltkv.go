// Package boltkv is the [kv.Engine] that keeps its keys in one file, with bbolt. It needs a 64-bit Unix.
//
// It hides how commits are grouped, how the file is recognised, when bbolt would make readers and writers wait for each
// other, and that bbolt believes a damaged file.
//
// Functions run on their callers' goroutines, each on a snapshot. One goroutine, the committer, takes the updates that wait,
// in turns, looks whether what they read has changed, and writes them in one commit, until there are 256 or they have
// 4 MiB; those that wait while a commit reaches the disk share the next. An update that read what has changed runs again,
// and those that came after it do not change what it read until it has come through.
//
// A commit that fails for want of space, while a fresh transaction shows the state before it, is [kv.ErrUnavailable] to all
// that share it, and the engine goes on. After any other failed commit nobody can say what is on the disk: what the disk
// does not have may be visible, and the next sync may succeed without it. The engine has failed then, as it has when a
// page is damaged. Since the outcome of a commit is known, or nothing is any more, there are no unknown outcomes.
//
// Errors are those of package kv, the Err variables here from [Open], and the file system's.
//
//	db, err := boltkv.Open("/var/lib/zendeskblocks/store.db")
//	if err != nil {
//		return err
//	}
//	defer db.Close()
package boltkv

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// DB is an open database file. It is safe for concurrent use and implements [kv.Engine] and [kv.Snapshotter].
type DB struct {
	bolt     *bbolt.DB
	file     *os.File // bbolt's
	path     string
	pageSize int
	mapped   int64 // bytes of the file's map when it was opened
	readOnly bool
	room     func(path string) (int64, error) // bytes that the disk of a file has left; tests say how many
	commit   func(*bbolt.Tx) error            // of a transaction; tests make it fail

	observers []func(kv.Commit)

	changes  changes
	flight   atomic.Pointer[chan struct{}] // closed when the commit that is being made, or was made last, is durable
	queue    *kv.Queue[*update]
	watchers kv.Watchers

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // Views, Updates and copies; closed goes before Wait
	stopped chan struct{}
	failed  chan struct{}
	failure error
	close   func() error
}

var (
	_ kv.Engine      = (*DB)(nil)
	_ kv.Snapshotter = (*DB)(nil)
)

func newDB(bolt *bbolt.DB, file *os.File, path string, observers []func(kv.Commit)) (*DB, error) {
	d := &DB{
		bolt:     bolt,
		file:     file,
		path:     path,
		pageSize: bolt.Info().PageSize,
		mapped:   int64(mapFor(path)),
		room:     diskRoom,
		commit:   (*bbolt.Tx).Commit,

		observers: observers,

		queue:   kv.NewQueue[*update](),
		stopped: make(chan struct{}),
		failed:  make(chan struct{}),
	}
	d.close = sync.OnceValue(d.shut)
	s, err := d.take()
	if err != nil {
		return nil, err
	}
	d.changes.committed.Store(int64(s.version))
	d.changes.publish(s, nil)
	go d.commitGroups()
	return d, nil
}

// Close implements [kv.Engine].
func (d *DB) Close() error {
	return d.close()
}

func (d *DB) shut() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.running.Wait()
	d.queue.Close()
	if d.Err() != nil {
		return abandon(d.file) // bbolt may have died with its locks held; what remains of it goes with the process
	}
	<-d.stopped
	d.withdraw()
	d.watchers.Close()
	return d.bolt.Close()
}

// Shared implements [kv.Engine]: a lock keeps others out.
func (d *DB) Shared() bool { return false }

// Failed implements [kv.Engine].
func (d *DB) Failed() <-chan struct{} {
	return d.failed
}

// Err implements [kv.Engine].
func (d *DB) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failure
}

// fail makes the engine refuse everything from now on, and returns why; the first reason stays.
func (d *DB) fail(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failure == nil {
		d.failure = fmt.Errorf("database file %q: %w: %w", d.path, err, kv.ErrFailed)
		close(d.failed)
		go d.watchers.Close()
	}
	return d.failure
}

// enter is followed by d.running.Done, unless it fails.
func (d *DB) enter(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case d.closed:
		return kv.ErrClosed
	case d.failure != nil:
		return d.failure
	}
	d.running.Add(1)
	return nil
}

// guarded calls a function that touches pages. A page that is damaged, or cannot be read from the disk, makes the engine
// fail, and not the process.
func (d *DB) guarded(fn func() error) error {
	err := guarded(fn)
	if errors.Is(err, kv.ErrDamaged) {
		return d.fail(err)
	}
	return err
}

func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case runtime.Error:
			err = damaged("a page cannot be read: %v", p)
		default:
			line, _, _ := strings.Cut(fmt.Sprint(p), "\n")
			err = damaged("%s", line)
		}
	}()
	return fn()
}

// View implements [kv.Engine]. A panic of fn goes on to the caller.
func (d *DB) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.running.Done()
	version, err := d.view(ctx, fn)
	return cmp.Or(d.durable(ctx, version), err)
}

func (d *DB) view(ctx context.Context, fn func(kv.Reader) error) (version int, err error) {
	s, err := d.openView()
	if err != nil {
		return 0, err
	}
	defer d.release(s)
	return s.version, fn(&reader{state{s, ctx}})
}

// durable waits until the commit that made a state is durable: it is visible a little earlier. An engine that has failed
// meanwhile says so, whatever was read.
func (d *DB) durable(ctx context.Context, version int) error {
	for int64(version) > d.changes.committed.Load() {
		kv.Wait(ctx, func() {
			select {
			case <-*d.flight.Load():
			case <-d.failed:
			case <-ctx.Done():
			}
		})
		if err := cmp.Or(d.Err(), ctx.Err()); err != nil {
			return err
		}
	}
	return d.Err()
}

// Update implements [kv.Engine].
func (d *DB) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if d.readOnly {
		return ErrReadOnly
	}
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.running.Done()
	u := &update{}
	defer d.queue.Forget(u)
	for {
		if again, err := d.try(ctx, u, fn); !again {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// try runs fn, and commits what it wrote unless what it read has changed.
func (d *DB) try(ctx context.Context, u *update, fn func(kv.Txn) error) (again bool, err error) {
	s, oldest, err := d.openUpdate()
	if err != nil {
		return false, err
	}
	defer d.changes.end(oldest)
	if err := d.run(ctx, s, u, fn); err != nil || len(u.Ops) == 0 {
		return false, cmp.Or(d.durable(ctx, u.version), err)
	}
	u.done = make(chan struct{})
	d.queue.Push(u)
	kv.Wait(ctx, func() { again, err = d.outcome(ctx, u) })
	return again, err
}

// outcome waits until an update is committed or not.
func (d *DB) outcome(ctx context.Context, u *update) (again bool, err error) {
	select {
	case <-u.done:
		return u.again, u.err
	case <-d.failed:
		return false, d.Err()
	case <-ctx.Done():
	}
	if d.queue.Withdraw(u) {
		return false, ctx.Err()
	}
	select {
	case <-u.done:
		return u.again, u.err
	case <-d.failed:
		return false, d.Err()
	}
}

// run takes from a run of fn on a snapshot, which it releases, what the committer must know.
func (d *DB) run(ctx context.Context, on *snapshot, u *update, fn func(kv.Txn) error) error {
	defer d.release(on)
	s := &state{on, ctx}
	overlay := kv.NewOverlay(s)
	u.version, u.Ops = on.version, nil
	if err := overlay.Run(fn); err != nil {
		return err
	}
	ops, err := overlay.Ops()
	if err != nil {
		return err
	}
	owner, _, _ := bytes.Cut(overlay.First(), []byte{0})
	u.Owner, u.Reads, u.Ops = string(owner), overlay.Reads(), ops
	return d.guarded(func() error { return s.inspect(ops) })
}

func (d *DB) begin(writable bool) (tx *bbolt.Tx, err error) {
	oldest := int(d.changes.committed.Load())
	err = d.guarded(func() (err error) {
		if _, err := newestMeta(d.file, d.pageSize); err != nil {
			return err
		}
		if tx, err = d.bolt.Begin(writable); err != nil {
			return err
		}
		state := tx.ID()
		if writable {
			state--
		}
		if state < oldest {
			return damaged("the newest state is gone") // bbolt takes the one before it then
		}
		return nil
	})
	return tx, translate(err)
}

func translate(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return kv.ErrClosed
	}
	return err
}

func rollback(tx *bbolt.Tx) {
	_ = tx.Rollback() // it fails only when the transaction is already over
}

// Stats are figures of the database file.
type Stats struct {
	FileBytes int64 // size of the file
	FreePages int   // pages that hold no data; [DB.Compact] leaves them out
	FreeBytes int64 // size of those pages
	DiskFree  int64 // what the file system has left for this process
}

// Stats returns the figures as of the last commit. The list of free pages is written with each commit, so that many of
// them make commits slow.
func (d *DB) Stats() (Stats, error) {
	info, err := os.Stat(d.path)
	if err != nil {
		return Stats{}, err
	}
	room, err := diskRoom(d.path)
	if err != nil {
		return Stats{}, err
	}
	s := d.bolt.Stats()
	return Stats{FileBytes: info.Size(), FreePages: s.FreePageN + s.PendingPageN, FreeBytes: int64(s.FreeAlloc), DiskFree: room}, nil
}
