package pgkv

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// fetch is a read of one run: values of keys, and the versions of those that the run has read before, all of one moment.
type fetch struct {
	keys  [][]byte
	known map[string]int64

	values   [][]byte
	versions map[string]int64
	err      error
	done     chan struct{}
}

// maxFetchKeys bounds what shares a round trip.
const maxFetchKeys = 1024

// fetchAll answers fetches, until the engine is closed.
func (d *DB) fetchAll() {
	for {
		select {
		case <-d.fetches.wake:
		case <-d.ctx.Done():
			return
		}
		for together, done := d.fetches.take(); len(together) > 0; together, done = d.fetches.take() {
			d.fetch(together)
			done()
		}
	}
}

func (f *fetch) size() int { return len(f.keys) + len(f.known) }

const selectKeys = `
SELECT key, value, version FROM zendeskblocks_kv WHERE key = ANY($1)
UNION ALL
SELECT key, NULL, version FROM zendeskblocks_kv WHERE key = ANY($2)`

type found struct {
	value   []byte
	version int64
}

func (d *DB) fetch(together []*fetch) {
	wanted, known := make(map[string]found), make(map[string]int64)
	for _, f := range together {
		for _, key := range f.keys {
			wanted[string(key)] = found{}
		}
	}
	for _, f := range together {
		for key := range f.known {
			if _, ok := wanted[key]; !ok {
				known[key] = 0
			}
		}
	}
	err := d.selectAll(wanted, known)
	if err == nil {
		d.cache.remember(wanted)
	}
	for _, f := range together {
		f.err, f.versions = err, make(map[string]int64, f.size())
		for _, key := range f.keys {
			found := wanted[string(key)]
			f.values = append(f.values, found.value)
			f.versions[string(key)] = found.version
		}
		for key := range f.known {
			version, ok := known[key]
			if !ok {
				version = wanted[key].version
			}
			f.versions[key] = version
		}
		close(f.done)
	}
}

func (d *DB) selectAll(wanted map[string]found, known map[string]int64) error {
	first, second := make([][]byte, 0, len(wanted)), make([][]byte, 0, len(known))
	for key := range wanted {
		first = append(first, []byte(key))
	}
	for key := range known {
		second = append(second, []byte(key))
	}
	err := d.ask(d.ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		clear(wanted)
		clear(known)
		rows, err := conn.Query(ctx, selectKeys, first, second)
		if err != nil {
			return err
		}
		var key, value []byte
		var version int64
		_, err = pgx.ForEachRow(rows, []any{&key, &value, &version}, func() error {
			if value != nil {
				wanted[string(key)] = found{value, version}
				value = nil // is another one's from now on
			} else {
				known[string(key)] = version
			}
			return nil
		})
		return err
	})
	if err != nil {
		return unavailable(d.ctx, err)
	}
	for _, key := range first {
		if _, there := wanted[string(key)]; !there {
			wanted[string(key)] = found{}
		}
	}
	return nil
}

// state is what one run of an Update reads.
type state struct {
	db       *DB
	ctx      context.Context
	versions map[string]int64 // of what was read; 0: it was missing
	stale    bool             // something has changed since it was read: the run is to begin again
	failed   bool             // the database was asked in vain

	fresh      bool                // nothing is taken from the cache, or for missing
	remembered bool                // something was
	expected   map[string]struct{} // to be missing
}

var errStale = errors.New("what was read has changed meanwhile")

// Get implements [kv.Getter].
func (s *state) Get(keys ...[]byte) ([][]byte, error) {
	if s.stale {
		return nil, errStale
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err // what was asked for may still be using versions
	}
	values, unknown := make([][]byte, len(keys)), slices.Clone(keys)
	if !s.fresh {
		unknown = s.db.cache.get(keys, func(i int, f found) {
			if version, read := s.versions[string(keys[i])]; read && version != f.version {
				s.stale = true
			}
			s.versions[string(keys[i])], s.remembered = f.version, true
			values[i] = f.value
		})
	}
	if s.stale {
		return nil, errStale
	}
	if unknown = slices.DeleteFunc(unknown, s.missing); len(unknown) > 0 {
		found, err := s.fetch(unknown)
		if err != nil {
			return nil, err
		}
		for i, key := range keys {
			if value, ok := found[string(key)]; ok {
				values[i] = value
			}
		}
	}
	for i, value := range values {
		if value != nil {
			values[i] = append([]byte{}, value...) // others have it too
		}
	}
	return values, nil
}

// ExpectMissing implements [kv.Txn] for the overlay.
func (s *state) ExpectMissing(keys ...[]byte) {
	if s.fresh {
		return
	}
	if s.expected == nil {
		s.expected = make(map[string]struct{}, len(keys))
	}
	for _, key := range keys {
		s.expected[string(key)] = struct{}{}
	}
}

// missing says whether a key is taken for missing.
func (s *state) missing(key []byte) bool {
	if _, ok := s.expected[string(key)]; !ok {
		return false
	}
	s.versions[string(key)], s.remembered = 0, true
	return true
}

// fetch asks for keys, and whether what was read before is as it was.
func (s *state) fetch(keys [][]byte) (map[string][]byte, error) {
	f := &fetch{keys: keys, known: s.versions, done: make(chan struct{})}
	s.db.fetches.push(f)
	select {
	case <-f.done:
	case <-s.ctx.Done():
		s.failed = true
		return nil, s.ctx.Err()
	}
	if f.err != nil {
		s.failed = true
		return nil, f.err
	}
	for key, version := range s.versions {
		if f.versions[key] != version {
			s.stale = true
			s.db.cache.forget([]byte(key))
		}
	}
	if s.stale {
		return nil, errStale
	}
	s.versions = f.versions
	values := make(map[string][]byte, len(keys))
	for i, key := range keys {
		values[string(key)] = f.values[i]
	}
	return values, nil
}

// reader is a [kv.Reader] on a snapshot that begins with its first read.
type reader struct {
	db     *DB
	ctx    context.Context
	admits bool // it has a place among the Views that have connections
	conn   *pgxpool.Conn
}

// query runs a query within the snapshot, and hands its rows to read.
func (r *reader) query(read func(pgx.Rows) error, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(r.ctx, answerTime)
	defer cancel()
	for again := true; ; again = false {
		begins := r.conn == nil
		if begins && !r.admits {
			select {
			case r.db.views <- struct{}{}:
				r.admits = true
			case <-ctx.Done():
				return unavailable(r.ctx, ctx.Err())
			}
		}
		if begins {
			conn, err := r.db.pool.Acquire(ctx)
			if err != nil {
				return unavailable(r.ctx, err)
			}
			r.conn = conn
		}
		err := r.send(ctx, begins, read, sql, args...)
		if err == nil {
			return nil
		}
		if !r.db.drop(r.ctx, err) || !begins || !again || ctx.Err() != nil {
			return unavailable(r.ctx, err)
		}
		r.conn.Release() // it had broken unnoticed
		r.conn = nil
	}
}

func (r *reader) send(ctx context.Context, begins bool, read func(pgx.Rows) error, sql string, args ...any) (err error) {
	batch := &pgx.Batch{}
	if begins {
		batch.Queue(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`)
	}
	batch.Queue(sql, args...)
	results := r.conn.SendBatch(ctx, batch)
	defer func() {
		if failed := results.Close(); err == nil {
			err = failed
		}
	}()
	if begins {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	return read(rows)
}

// end gives the snapshot up. The caller does not wait for it.
func (r *reader) end() {
	if r.conn == nil {
		if r.admits {
			<-r.db.views
		}
		return
	}
	conn := r.conn
	r.db.work.Go(func() {
		defer func() {
			conn.Release()
			<-r.db.views
		}()
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		if _, err := conn.Exec(ctx, `COMMIT`); err != nil {
			_ = conn.Conn().Close(ctx) // nobody may go on with it
		}
	})
}

const getKeys = `SELECT key, value FROM zendeskblocks_kv WHERE key = ANY($1)`

type viewGetter struct{ *reader }

func (g viewGetter) Get(keys ...[]byte) ([][]byte, error) {
	values := make(map[string][]byte, len(keys))
	err := g.query(func(rows pgx.Rows) error {
		var key, value []byte
		_, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error {
			values[string(key)], value = value, nil
			return nil
		})
		return err
	}, getKeys, keys)
	if err != nil {
		return nil, err
	}
	result := make([][]byte, len(keys))
	for i, key := range keys {
		if value := values[string(key)]; value != nil {
			result[i] = append([]byte{}, value...)
		}
	}
	return result, nil
}

// Get implements [kv.Reader].
func (r *reader) Get(keys ...[]byte) ([][]byte, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	return kv.NewOverlay(viewGetter{r}).Get(keys...)
}

// Of a page that is one entry longer than asked for, scans take what is not too large together. octet_length does not read the
// values.
var scanForward, scanBackward = scanInOrder("key"), scanInOrder("key DESC")

func scanInOrder(order string) string {
	return strings.ReplaceAll(`SELECT key, value, of_page FROM (
	SELECT key, value, row_number() OVER w AS n, count(*) OVER () AS of_page,
		sum(octet_length(key) + coalesce(octet_length(value), 0)) OVER w AS size
	FROM (SELECT key, CASE WHEN $4 THEN NULL ELSE value END AS value FROM zendeskblocks_kv WHERE key >= $1 AND key < $2 ORDER BY {order} LIMIT $3) page
	WINDOW w AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)
) sized WHERE n = 1 OR n < $3 AND size <= $5 ORDER BY n`, "{order}", order)
}

// Scan implements [kv.Reader].
func (r *reader) Scan(rng kv.Range) (entries []kv.Entry, more bool, err error) {
	if err := r.ctx.Err(); err != nil {
		return nil, false, err
	}
	limit, err := rng.CheckedLimit()
	if err != nil {
		return nil, false, err
	}
	sql := scanForward
	if rng.Reverse {
		sql = scanBackward
	}
	all := 0
	err = r.query(func(rows pgx.Rows) error {
		entries = nil
		var e kv.Entry
		_, err := pgx.ForEachRow(rows, []any{&e.Key, &e.Value, &all}, func() error {
			entries, e = append(entries, e), kv.Entry{}
			return nil
		})
		return err
	}, sql, notNil(rng.Start), bound(rng.End), limit+1, rng.KeysOnly, kv.MaxScanBytes)
	if err != nil {
		return nil, false, err
	}
	return entries, all > len(entries), nil
}

// beyond comes after every key.
var beyond = func() []byte {
	b := make([]byte, kv.MaxKeyBytes+1)
	for i := range b {
		b[i] = 0xff
	}
	return b
}()

// bound takes an empty end for no bound.
func bound(end []byte) []byte {
	if len(end) == 0 {
		return beyond
	}
	return end
}

// notNil keeps an empty value from being NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
