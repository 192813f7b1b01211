package pgkv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

const (
	// maxGroup and maxGroupBytes bound the updates that share a commit. An update is added as long as the group is below both.
	maxGroup      = 256
	maxGroupBytes = 4 << 20
)

// update is one that has run and is to be committed.
type update struct {
	kv.Pending
	versions map[string]int64 // of what it has read; 0: it was missing

	done  chan struct{}
	again bool // what it read has changed
	err   error
}

// group is what shares a commit. No member has read what one before it writes, and no two write the same.
type group struct {
	members []*update
	keys    map[string]struct{} // written
	ranges  []kv.Op
	bytes   int
	stale   []*update // others, which have read what a member writes: they run again after the commit
	retried int       // others that were told to
	begun   time.Time
}

// committing is how commits share round trips.
type committing struct {
	mu       sync.Mutex
	pace     pace
	underWay []*group
}

// commitGroups is one of the committers.
func (d *DB) commitGroups() {
	for range d.queue.Wake() {
		for g := d.group(); len(g.members) > 0; g = d.group() {
			d.commit(g)
		}
	}
}

// group takes from those that wait, if a commit is to begin now. What has read what was changed since runs again; so does what has read what
// one taken before writes, or a commit under way, after that. What writes the same is left to the next group.
func (d *DB) group() *group {
	g := &group{keys: make(map[string]struct{})}
	c := &d.committing
	c.mu.Lock()
	defer c.mu.Unlock()
	var yes bool
	if g.begun, yes = c.pace.begin(d.queue.Len(), maxGroup, d.queue.Rouse); !yes {
		return g
	}
	for len(g.members) < maxGroup && g.bytes < maxGroupBytes {
		u := d.queue.Take()
		if u == nil {
			break
		}
		if d.cache.contradicts(u.versions) {
			d.queue.Reserve(u)
			g.retried++
			u.again, u.err = true, nil
			close(u.done)
		} else if before := c.changing(u.Reads); before != nil {
			d.queue.Reserve(u)
			before.stale = append(before.stale, u)
		} else if g.changes(u.Reads) {
			d.queue.Reserve(u)
			g.stale = append(g.stale, u)
		} else if !g.add(u) {
			d.queue.Push(u)
			break
		}
	}
	if len(g.members) > 0 {
		c.underWay = append(c.underWay, g)
	} else {
		c.pace.end(g.begun)
	}
	return g
}

// changing is the group under way that writes one of the keys, or may; nil: none does.
func (c *committing) changing(keys []string) *group {
	for _, g := range c.underWay {
		if g.changes(keys) {
			return g
		}
	}
	return nil
}

// abandon releases a group whose answer is lost: others need not wait until it is found out what became of it.
func (d *DB) abandon(g *group) {
	d.release(g)
	d.queue.Rouse() // this committer is not back soon
}

// release takes a group off those under way, and has run again what has read what it may have written.
func (d *DB) release(g *group) {
	c := &d.committing
	c.mu.Lock()
	stale := g.stale
	g.stale, g.retried = nil, g.retried+len(stale)
	if i := slices.Index(c.underWay, g); i >= 0 {
		c.underWay = slices.Delete(c.underWay, i, i+1)
		c.pace.end(g.begun)
	}
	c.mu.Unlock()
	for _, u := range stale {
		u.again, u.err = true, nil
		close(u.done)
	}
}

// add takes a member in, unless it writes what another one does.
func (g *group) add(u *update) bool {
	for i := range u.Ops {
		if g.overlaps(&u.Ops[i]) {
			return false
		}
	}
	g.members = append(g.members, u)
	for _, op := range u.Ops {
		g.bytes += len(op.Key) + len(op.Value)
		if op.Range {
			g.ranges = append(g.ranges, op)
		} else {
			g.keys[string(op.Key)] = struct{}{}
		}
	}
	return true
}

func (g *group) overlaps(op *kv.Op) bool {
	if !op.Range {
		return g.changes([]string{string(op.Key)})
	}
	for key := range g.keys {
		if op.Covers([]byte(key)) {
			return true
		}
	}
	return slices.ContainsFunc(g.ranges, func(r kv.Op) bool {
		return bytes.Compare(r.Key, bound(op.End)) < 0 && bytes.Compare(op.Key, bound(r.End)) < 0
	})
}

// changes says whether a member writes one of the keys, or may.
func (g *group) changes(keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool {
		_, ok := g.keys[key]
		return ok || slices.ContainsFunc(g.ranges, func(r kv.Op) bool { return r.Covers([]byte(key)) })
	})
}

// commit makes a group's commit, and finds out what became of it.
func (d *DB) commit(g *group) {
	begun := time.Now()
	id, again, err := d.write(g)
	for i, u := range g.members {
		switch {
		case err != nil:
			u.again, u.err = false, err
			d.cache.changed(u.Ops)
		case again[i]:
			d.queue.Reserve(u)
			u.again, u.err = true, nil
		case id == 0:
			u.again, u.err = false, nil
			d.cache.changed(u.Ops)
		default:
			u.again, u.err = false, nil
			d.cache.written(u.Ops, id)
		}
	}
	d.release(g) // first: what those who wait for it do next is no more in conflict with it
	for _, u := range g.members {
		if !u.again && (err == nil || errors.Is(err, kv.ErrUnknownOutcome)) {
			d.watchers.Notify(u.Ops)
		}
		close(u.done)
	}
	if err != nil {
		return
	}
	d.tell(g, again, begun)
	if slices.Contains(again, false) {
		select {
		case d.notify <- struct{}{}:
		default:
		}
	}
}

// tell tells of a group that was committed, as far as it was not to run again.
func (d *DB) tell(g *group, again []bool, begun time.Time) {
	if d.committed == nil {
		return
	}
	made := kv.Commit{Bytes: g.bytes, Retried: g.retried}
	for _, again := range again {
		if again {
			made.Retried++
		} else {
			made.Updates++
		}
	}
	if made.Updates > 0 {
		made.Duration = time.Since(begun)
	}
	d.committed(made)
}

// Pauses between attempts, while the database is away.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second

	// maxAttempts is how often a commit is sent that others keep from being made.
	maxAttempts = 5
)

// write returns the version of what was written, 0 if others may have written over it, and of each member whether it has to run again. An
// error means that nothing was written, unless it is [kv.ErrUnknownOutcome].
func (d *DB) write(g *group) (id int64, again []bool, err error) {
	lose := d.lose()
	id, attempts := randomID(), 0
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		made := lose == nil || lose.made
		if made {
			again, err = d.send(g, id)
		}
		if lose != nil {
			d.abandon(g)
			lose.meanwhile()
			lose, err = nil, errLost
			again = nil
		}
		attempts++
		switch {
		case err == nil:
			return id, again, nil
		case answered(err) && conflicting(err) && attempts < maxAttempts:
			d.pause(pause)
			continue
		case pgconn.SafeToRetry(err) && attempts == 1: // the connection had broken unnoticed
			continue
		case unsent(err) || answered(err):
			return id, nil, unavailable(d.ctx, err)
		}
		d.abandon(g)
		made, left, err := d.resolve(id)
		if err != nil {
			return id, nil, err
		}
		again = slices.Repeat([]bool{!made}, len(g.members))
		for _, member := range left {
			again[member] = true
		}
		return 0, again, nil
	}
}

var errLost = errors.New("the answer was lost")

// pause waits, unless the engine is being closed.
func (d *DB) pause(wait time.Duration) {
	select {
	case <-time.After(wait):
	case <-d.ctx.Done():
	}
}

// A commit's marker says made, and which members have to run again; that of who looks for it does not. Whichever is there first
// stays. Who finds one writes it anew, and so waits, as each commit does, until a standby that is waited for has what was there.
const (
	commitMarker = `INSERT INTO zendeskblocks_commits (id, made) VALUES ($1, true)`
	settleMarker = `
INSERT INTO zendeskblocks_commits (id, made) VALUES ($1, false)
ON CONFLICT (id) DO UPDATE SET at = clock_timestamp() RETURNING made, again`
)

// resolveTime is how long it is tried to find out what became of a commit: its marker may be gone some time after.
const resolveTime = markersLife * 2 / 3

// resolve finds out whether the commit with this marker was made, and which members it left out, and else makes sure that it
// never will be.
func (d *DB) resolve(id int64) (made bool, left []int, err error) {
	for pause, begun := firstPause, time.Now(); d.ctx.Err() == nil && time.Since(begun) < resolveTime; pause = min(2*pause, lastPause) {
		if made, left, err = d.settle(id); err == nil {
			return made, left, nil
		}
		if !answered(err) {
			d.refuse(err)
		}
		d.pause(pause)
	}
	if d.ctx.Err() != nil {
		err = kv.ErrClosed
	}
	return false, nil, fmt.Errorf("%w: %v", kv.ErrUnknownOutcome, err) //nolint:errorlint // a deadline in it is none of the caller's
}

func (d *DB) settle(id int64) (made bool, left []int, err error) {
	batch := &pgx.Batch{}
	batch.Queue(settleMarker, id).QueryRow(func(row pgx.Row) error { return row.Scan(&made, &left) })
	err = d.commitBatch(batch)
	return made, left, err
}

// refuse answers the updates that wait to be committed, while the database is away.
func (d *DB) refuse(err error) {
	for u := d.queue.Take(); u != nil; u = d.queue.Take() {
		u.again, u.err = false, unavailable(d.ctx, err)
		close(u.done)
	}
}

// lockKeys locks the keys that a commit writes or relies on as missing, those that are missing by making them.
const lockKeys = `
INSERT INTO zendeskblocks_kv AS kv (key, value, version)
SELECT k, v, $3 FROM unnest($1::bytea[], $2::bytea[]) AS t(k, v) ORDER BY k
ON CONFLICT (key) DO UPDATE SET version = kv.version WHERE kv.version = 0`

// apply compares what members have read, and applies those that still hold. Keys that are only read are locked unless somebody
// else has: who writes them now is in conflict, and nobody waits, so that there is no deadlock. It returns the others, with the keys
// that were otherwise than they had read, and notes them with the marker. Keys are found by lists of them, and not by joins, which take
// longer the more there is in the table, or the more are compared, when they were planned for less.
//
//	$1 the version of the commit, by which it knows the keys that lockKeys made
//	$2 keys that are read and not locked yet
//	$3, $4, $5 member, key, version: what was read
//	$6, $7 member, key: what lockKeys has locked
//	$8, $9, $10 member, key, value: to be set, if it was there
//	$11, $12 member, key: to be deleted
//	$13, $14, $15 member, start, end: to be deleted
const apply = `
WITH shared AS MATERIALIZED (
	SELECT key, version FROM zendeskblocks_kv WHERE key = ANY($2) FOR SHARE SKIP LOCKED
), seen AS MATERIALIZED (
	SELECT key, version FROM shared
	UNION ALL
	SELECT key, version FROM zendeskblocks_kv WHERE key = ANY($7::bytea[]) AND version <> $1
), bad AS MATERIALIZED (
	SELECT r.member, r.key FROM unnest($3::int[], $4::bytea[], $5::bigint[]) AS r(member, key, version)
	LEFT JOIN seen USING (key) WHERE coalesce(seen.version, 0) <> r.version
), taken_back AS (
	DELETE FROM zendeskblocks_kv WHERE key = ANY($7) AND version = $1 AND (value IS NULL OR key IN (
		SELECT t.key FROM unnest($6::int[], $7::bytea[]) AS t(member, key) WHERE t.member IN (SELECT member FROM bad)))
), deleted AS (
	DELETE FROM zendeskblocks_kv WHERE version <> $1 AND key = ANY(ARRAY(
		SELECT t.key FROM unnest($11::int[], $12::bytea[]) AS t(member, key) WHERE t.member NOT IN (SELECT member FROM bad)))
), ranged AS (
	DELETE FROM zendeskblocks_kv kv USING unnest($13::int[], $14::bytea[], $15::bytea[]) AS t(member, first, beyond)
	WHERE kv.key >= t.first AND kv.key < t.beyond AND kv.version <> $1 AND t.member NOT IN (SELECT member FROM bad)
), updated AS (
	INSERT INTO zendeskblocks_kv AS kv (key, value, version)
	SELECT key, value, $1 FROM unnest($8::int[], $9::bytea[], $10::bytea[]) AS t(member, key, value) WHERE member NOT IN (SELECT member FROM bad)
	ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = $1 WHERE kv.version <> $1
), marked AS (
	UPDATE zendeskblocks_commits SET again = ARRAY(SELECT DISTINCT member FROM bad) WHERE id = $1 AND EXISTS (SELECT FROM bad)
)
SELECT member, key FROM bad`

const tellChanges = `INSERT INTO zendeskblocks_changes (replica, keys, starts, ends) VALUES ($1, $2, $3, $4)`

// send sends a commit in one round trip, as one transaction. It says of each member whether it has to run again.
func (d *DB) send(g *group, id int64) (again []bool, err error) {
	p := g.parameters()
	batch := &pgx.Batch{}
	batch.Queue(commitMarker, id)
	batch.Queue(lockKeys, p.locked, p.inserted, id)
	again = make([]bool, len(g.members))
	batch.Queue(apply, id, p.shared, p.readers, p.read, p.versions, p.lockers, p.locked,
		p.setters, p.set, p.values, p.deleters, p.deleted, p.rangers, p.starts, p.ends).Query(func(rows pgx.Rows) error {
		var member int
		var key []byte
		_, err := pgx.ForEachRow(rows, []any{&member, &key}, func() error {
			again[member] = true
			d.cache.forget(key)
			return nil
		})
		return err
	})
	batch.Queue(tellChanges, d.replica, p.written, p.starts, p.ends)
	return again, d.commitBatch(batch)
}

// parameters are what the statements of a commit take.
type parameters struct {
	locked, inserted      [][]byte // inserted: the value, where it may be missing
	lockers               []int
	shared                [][]byte
	readers               []int
	read                  [][]byte
	versions              []int64
	setters               []int
	set, values           [][]byte
	deleters              []int
	deleted               [][]byte
	rangers               []int
	starts, ends, written [][]byte
}

// parameters sorts what members have read and write.
func (g *group) parameters() (p parameters) {
	none := [][]byte{}
	p.locked, p.inserted, p.shared, p.read, p.set, p.values, p.deleted, p.starts, p.ends, p.written = none, none, none, none, none, none, none, none, none, none
	locked := make(map[string]bool)
	lock := func(member int, key, value []byte) {
		locked[string(key)] = true
		p.lockers, p.locked, p.inserted = append(p.lockers, member), append(p.locked, key), append(p.inserted, value)
	}
	for i, u := range g.members {
		for _, op := range u.Ops {
			if op.Range {
				p.rangers, p.starts, p.ends = append(p.rangers, i), append(p.starts, notNil(op.Key)), append(p.ends, bound(op.End))
				continue
			}
			version, read := u.versions[string(op.Key)]
			p.written = append(p.written, op.Key)
			switch {
			case op.Value == nil:
				lock(i, op.Key, nil)
				p.deleters, p.deleted = append(p.deleters, i), append(p.deleted, op.Key)
			case read && version != 0:
				lock(i, op.Key, nil)
			default:
				lock(i, op.Key, op.Value)
			}
			if op.Value != nil && (!read || version != 0) {
				p.setters, p.set, p.values = append(p.setters, i), append(p.set, op.Key), append(p.values, op.Value)
			}
		}
	}
	shared := make(map[string]bool)
	for i, u := range g.members {
		for _, key := range u.Reads {
			version := u.versions[key]
			p.readers, p.read, p.versions = append(p.readers, i), append(p.read, []byte(key)), append(p.versions, version)
			switch {
			case locked[key] || shared[key]:
			case version == 0:
				lock(i, []byte(key), nil)
			default:
				shared[key] = true
				p.shared = append(p.shared, []byte(key))
			}
		}
	}
	return p
}

// unsentError says that a commit was not sent.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// unsent tells the errors after which the server has nothing of a commit.
func unsent(err error) bool {
	_, ok := errors.AsType[*unsentError](err)
	return ok || pgconn.SafeToRetry(err)
}

// conflicting tells the errors after which the same may succeed at once: serialization_failure, deadlock_detected,
// lock_not_available.
func conflicting(err error) bool { return isCode(err, "40001", "40P01", "55P03") }
