package boltkv

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

const (
	// maxGroup and maxGroupBytes bound the updates that share a commit: how long the first of them waits, and those after
	// them. An update is added as long as the group is below both.
	maxGroup      = 256
	maxGroupBytes = 4 << 20
)

// update is one that has run and is to be committed.
type update struct {
	kv.Pending
	version int // of the state it has read

	done  chan struct{}
	again bool // what it read has changed
	err   error
}

// commitGroups is the committer. Once the engine has failed it does nothing, until it is closed.
func (d *DB) commitGroups() {
	defer close(d.stopped)
	for range d.queue.Wake() {
		for d.Err() == nil && d.commitGroup() {
		}
	}
}

// commitGroup commits what waits, and reports whether that was anything.
func (d *DB) commitGroup() bool {
	runtime.Gosched() // those whom the last commit has answered may come again, and share this one
	first := d.queue.Take()
	if first == nil {
		return false
	}
	g, begun := group{keys: make(map[string]struct{})}, time.Now()
	err := d.write(&g, first)
	if err == nil {
		d.tell(&g, begun)
	}
	if err == nil && len(g.ops) > 0 {
		if err = d.share(g.version, g.keys); err != nil {
			err = d.fail(err)
		}
	}
	for _, u := range g.members {
		if !u.again {
			u.err = err
		}
		close(u.done)
	}
	if err == nil && len(g.ops) > 0 {
		go d.watchers.Notify(g.ops) // the next commit need not wait for it
	}
	return true
}

// tell tells the observers of a group that was committed, as far as it was not to run again.
func (d *DB) tell(g *group, begun time.Time) {
	made := kv.Commit{Bytes: g.bytes}
	for _, u := range g.members {
		if u.again {
			made.Retried++
		}
	}
	if made.Updates = len(g.members) - made.Retried; made.Updates > 0 {
		made.Duration = time.Since(begun)
	}
	for _, observe := range d.observers {
		observe(made)
	}
}

// group is what shares a commit.
type group struct {
	version int
	members []*update
	keys    map[string]struct{} // changed
	ops     []kv.Op
	bytes   int
}

func (d *DB) write(g *group, first *update) error {
	tx, err := d.begin(true)
	if err != nil {
		return d.fail(err)
	}
	g.version = tx.ID()
	err = d.guarded(func() error {
		meta, err := newestMeta(d.file, d.pageSize)
		if err == nil {
			_, err = treeOf(tx).freelist(meta.freelist())
		}
		bucket := tx.Bucket(dataBucket)
		if err != nil || bucket == nil {
			return cmp.Or(err, damaged("no bucket %q", dataBucket))
		}
		for u := first; u != nil; u = d.next(g) {
			g.members = append(g.members, u)
			if u.again = d.changes.since(u.version, u.Reads) || g.changed(u.Reads); u.again {
				d.queue.Reserve(u)
				continue
			}
			if err := g.apply(bucket, u.Ops); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case d.Err() != nil: // also when a reader has met damage
		return d.Err()
	case err != nil:
		return d.fail(err)
	case len(g.ops) == 0:
		rollback(tx)
		return nil
	}
	if mayRemap(d.mapped, tx.Size(), int64(g.bytes)) {
		d.withdraw()
	}
	flight := make(chan struct{})
	d.flight.Store(&flight)
	if err := d.guarded(func() error { return d.commit(tx) }); err != nil {
		return d.failedCommit(g.version-1, err)
	}
	d.changes.committed.Store(int64(g.version))
	close(flight)
	return nil
}

func (d *DB) next(g *group) *update {
	if len(g.members) >= maxGroup || g.bytes >= maxGroupBytes {
		return nil
	}
	return d.queue.Take()
}

func (g *group) changed(keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { _, ok := g.keys[key]; return ok })
}

func (g *group) apply(bucket *bbolt.Bucket, ops []kv.Op) error {
	for i := range ops {
		op := &ops[i]
		g.bytes += len(op.Key) + len(op.Value)
		var err error
		switch {
		case op.Range:
			err = g.deleteRange(bucket, op)
		case op.Value == nil:
			g.keys[string(op.Key)] = struct{}{}
			err = bucket.Delete(op.Key)
		default:
			g.keys[string(op.Key)] = struct{}{}
			err = bucket.Put(op.Key, op.Value)
		}
		if err != nil {
			return err
		}
	}
	g.ops = append(g.ops, ops...)
	return nil
}

// deleteRange changes the keys that are there: those that were read as missing stay so.
func (g *group) deleteRange(bucket *bbolt.Bucket, op *kv.Op) error {
	// Collected first: a bbolt cursor skips keys when they are deleted under it.
	var keys [][]byte
	c := bucket.Cursor()
	for k, _ := c.Seek(op.Key); k != nil && op.Covers(k); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		g.bytes += len(k)
		g.keys[string(k)] = struct{}{}
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// failedCommit decides what a failed commit means. Where the disk had no room for the pages, bbolt has not come to
// write the one that makes them visible, and has taken everything back.
func (d *DB) failedCommit(before int, err error) error {
	if d.Err() == nil && noSpace(err) {
		if tx, beginErr := d.begin(false); beginErr == nil {
			shown := tx.ID()
			rollback(tx)
			if shown == before {
				return fmt.Errorf("database file %q: %w: %w", d.path, err, kv.ErrUnavailable)
			}
		}
	}
	return d.fail(fmt.Errorf("commit: %w", err))
}

// noSpace also knows the errors by their text: bbolt passes on no more when it makes the file larger.
func noSpace(err error) bool {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, errno) || strings.HasSuffix(err.Error(), errno.Error()) {
			return true
		}
	}
	return false
}

// changes knows the newest durable state, and which keys were changed since the oldest state that a running update has read.
type changes struct {
	committed atomic.Int64 // the last commit that is durable

	mu      sync.Mutex
	current *snapshot   // of that commit; nil: every reader takes its own
	running map[int]int // how many updates read no older state than that of a commit
	last    map[string]int
	log     []change
}

type change struct {
	version int
	keys    map[string]struct{}
}

// openUpdate returns a snapshot, which is to be released, and has the changes remembered since a version that is not newer,
// until end.
func (d *DB) openUpdate() (s *snapshot, oldest int, err error) {
	c := &d.changes
	c.mu.Lock()
	if c.running == nil {
		c.running, c.last = make(map[int]int), make(map[string]int)
	}
	if s = c.current; s != nil {
		s.readers++
		oldest = s.version
	} else {
		oldest = int(c.committed.Load())
	}
	c.running[oldest]++
	c.mu.Unlock()
	if s == nil {
		if s, err = d.take(); err != nil {
			c.end(oldest)
		}
	}
	return s, oldest, err
}

func (c *changes) end(version int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[version]--; c.running[version] == 0 {
		delete(c.running, version)
	}
}

func (c *changes) withdraw() (before *snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.current = c.current, nil
	return before
}

// publish makes a snapshot the current one, and returns the one before, which is to be released.
func (c *changes) publish(s *snapshot, changed map[string]struct{}) (before *snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.current = c.current, s
	if len(changed) > 0 {
		c.add(s.version, changed)
	}
	return before
}

func (c *changes) add(version int, keys map[string]struct{}) {
	for key := range keys {
		c.last[key] = version
	}
	c.log = append(c.log, change{version, keys})
	oldest := version
	for running := range c.running {
		oldest = min(oldest, running)
	}
	for len(c.log) > 0 && c.log[0].version <= oldest {
		for key := range c.log[0].keys {
			if c.last[key] == c.log[0].version {
				delete(c.last, key)
			}
		}
		c.log = c.log[1:]
	}
}

func (c *changes) since(version int, keys []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(keys, func(key string) bool { return c.last[key] > version })
}
