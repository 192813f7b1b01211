// Package boltkv is the [kv.Engine] that keeps its keys in one file, with bbolt.
//
// It hides how commits are grouped, how the file is recognised, and when bbolt would make readers and writers wait for
// each other. Updates run one after the other, so a function runs once; all that wait while one commit reaches the disk
// share the next. Errors are those of package kv, the Err variables here from [Open], and the file system's.
//
//	db, err := boltkv.Open("/var/lib/zendeskblocks/store.db")
//	if err != nil {
//		return err
//	}
//	defer db.Close()
package boltkv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// maxGroup bounds the updates that share a commit, and with it the memory a commit takes and how long its first waits.
const maxGroup = 256

// DB is an open database file. It is safe for concurrent use and implements [kv.Engine] and [kv.Snapshotter].
type DB struct {
	bolt     *bbolt.DB
	path     string
	queue    chan *update // unbuffered: an update that has not been taken can be withdrawn
	closing  chan struct{}
	stopped  chan struct{}
	close    func() error
	watchers watchers
}

var (
	_ kv.Engine      = (*DB)(nil)
	_ kv.Snapshotter = (*DB)(nil)
)

type update struct {
	fn   func(kv.Txn) error
	err  error
	done chan struct{}
}

func newDB(bolt *bbolt.DB, path string) *DB {
	d := &DB{
		bolt:    bolt,
		path:    path,
		queue:   make(chan *update),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	d.close = sync.OnceValue(func() error {
		close(d.closing)
		<-d.stopped
		d.watchers.close()
		return d.bolt.Close()
	})
	go d.commitGroups()
	return d
}

// Close implements [kv.Engine].
func (d *DB) Close() error {
	return d.close()
}

// View implements [kv.Engine].
func (d *DB) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := d.begin(false)
	if err != nil {
		return err
	}
	defer rollback(tx)
	return fn(&reader{ctx, tx.Bucket(dataBucket)})
}

// Update implements [kv.Engine]. A commit that fails, such as on a full disk, is [kv.ErrUnknownOutcome] with the cause.
func (d *DB) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u := &update{fn: fn, done: make(chan struct{})}
	select {
	case d.queue <- u:
		<-u.done
		return u.err
	case <-ctx.Done():
		return ctx.Err()
	case <-d.closing:
		return kv.ErrClosed
	}
}

func (d *DB) commitGroups() {
	defer close(d.stopped)
	for {
		select {
		case u := <-d.queue:
			d.commitGroup(u)
		case <-d.closing:
			return
		}
	}
}

// commitGroup runs first, and every update that is waiting when its turn comes, in one bbolt transaction. Even an update
// that failed hears of it only after the commit: what it saw may be the work of one before it.
func (d *DB) commitGroup(first *update) {
	group := []*update{first}
	defer func() {
		for _, u := range group {
			close(u.done)
		}
	}()
	tx, err := d.begin(true)
	if err != nil {
		first.err = err
		return
	}
	var ops []kv.Op
	for u := first; u != nil && err == nil; u = d.next(&group) {
		var written []kv.Op
		if written, u.err = u.run(tx.Bucket(dataBucket)); u.err == nil {
			err = apply(tx.Bucket(dataBucket), written)
			ops = append(ops, written...)
		}
	}
	if len(ops) == 0 {
		rollback(tx)
		return
	}
	if err == nil {
		err = tx.Commit()
	} else {
		rollback(tx)
	}
	if err != nil {
		for _, u := range group {
			u.err = fmt.Errorf("commit to %q: %w: %w", d.path, kv.ErrUnknownOutcome, err)
		}
	}
	d.watchers.notify(ops)
}

// next takes a waiting update into the group, or returns nil.
func (d *DB) next(group *[]*update) *update {
	if len(*group) == maxGroup {
		return nil
	}
	select {
	case u := <-d.queue:
		*group = append(*group, u)
		return u
	default:
		return nil
	}
}

// run has a goroutine of its own: should fn end it, as t.Fatal does, the committer goes on.
func (u *update) run(bucket *bbolt.Bucket) (ops []kv.Op, err error) {
	err = errors.New("update ended its goroutine")
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("update panicked: %v\n%s", p, debug.Stack())
			}
		}()
		overlay := kv.NewOverlay(getter{bucket})
		if err = u.fn(overlay); err == nil {
			ops, err = overlay.Ops()
		}
	}()
	<-over
	return ops, err
}

func apply(bucket *bbolt.Bucket, ops []kv.Op) error {
	for _, op := range ops {
		var err error
		switch {
		case op.Range:
			err = deleteRange(bucket, op.Key, op.End)
		case op.Value == nil:
			err = bucket.Delete(op.Key)
		default:
			err = bucket.Put(op.Key, op.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func deleteRange(bucket *bbolt.Bucket, start, end []byte) error {
	// Collected first: a bbolt cursor skips keys when they are deleted under it.
	var keys [][]byte
	c := bucket.Cursor()
	for k, _ := c.Seek(start); k != nil && below(k, end); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func below(key, end []byte) bool {
	return len(end) == 0 || bytes.Compare(key, end) < 0
}

func (d *DB) begin(writable bool) (*bbolt.Tx, error) {
	tx, err := d.bolt.Begin(writable)
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
}

// Stats returns the figures as of the last commit. The list of free pages is written with each commit, so that many of
// them make commits slow.
func (d *DB) Stats() (Stats, error) {
	info, err := os.Stat(d.path)
	if err != nil {
		return Stats{}, err
	}
	s := d.bolt.Stats()
	return Stats{FileBytes: info.Size(), FreePages: s.FreePageN + s.PendingPageN, FreeBytes: int64(s.FreeAlloc)}, nil
}
