package pgkv

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

const (
	// channel is what processes that share a database notify each other by.
	channel = "zendeskblocks"

	// notifyEvery is how long changes are gathered until others are notified: a notification locks the whole database for a
	// moment, and so is no part of a commit.
	notifyEvery = 25 * time.Millisecond

	// lookEvery is how often changes of others are looked for without a notification, which can get lost.
	lookEvery = time.Second

	// lateCommits is how much later a commit may become visible than others that were numbered after it.
	lateCommits = 10 * time.Second

	// changesLife and markersLife are how long both are kept, sweepEvery how often older ones are deleted, and sweepTime how long
	// that may take.
	changesLife = time.Minute
	markersLife = 15 * time.Minute
	sweepEvery  = 10 * time.Second
	sweepTime   = 30 * time.Second
)

// tellOthers notifies other processes of changes, some time after the first of them.
func (d *DB) tellOthers() {
	for {
		select {
		case <-d.notify:
		case <-d.ctx.Done():
			return
		}
		d.pause(notifyEvery)
		select {
		case <-d.notify:
		default:
		}
		// One that is lost is made up for by looking.
		_ = d.ask(d.ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
			_, err := conn.Exec(ctx, notifyOthers, channel, strconv.FormatInt(d.replica, 10))
			return err
		})
	}
}

// notifyOthers is a transaction that nothing depends on: it waits for no disk and no standby.
const notifyOthers = `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)`

// sweep deletes what has served its time.
func (d *DB) sweep() {
	for d.ctx.Err() == nil {
		d.pause(sweepEvery)
		ctx, cancel := context.WithTimeout(d.ctx, sweepTime)
		batch := &pgx.Batch{}
		batch.Queue(`DELETE FROM zendeskblocks_changes WHERE at < clock_timestamp() - $1::interval`, changesLife)
		batch.Queue(`DELETE FROM zendeskblocks_commits WHERE at < clock_timestamp() - $1::interval`, markersLife)
		_ = d.pool.SendBatch(ctx, batch).Close() // the next one makes up for it
		cancel()
	}
}

// feed is what is known of the changes of others.
type feed struct {
	db *DB
	numbers
}

// numbers follow changes by their numbers, which may become visible in another order.
type numbers struct {
	floor int64               // all up to it are known, or will never come
	above map[int64]time.Time // those above it that are known, and since when
}

// note takes a number in, and tells whether it is new.
func (n *numbers) note(seq int64, now time.Time) bool {
	if _, known := n.above[seq]; known || seq <= n.floor {
		return false
	}
	n.above[seq] = now
	return true
}

// settle raises the floor: over numbers that follow it, and over gaps that are old enough never to be filled.
func (n *numbers) settle(now time.Time) {
	for {
		for _, known := n.above[n.floor+1]; known; _, known = n.above[n.floor+1] {
			n.floor++
			delete(n.above, n.floor)
		}
		next, since := n.lowest()
		if since.IsZero() || now.Sub(since) < lateCommits {
			return
		}
		n.floor = next - 1
	}
}

func (n *numbers) lowest() (seq int64, since time.Time) {
	for known, at := range n.above {
		if since.IsZero() || known < seq {
			seq, since = known, at
		}
	}
	return seq, since
}

// newFeed begins after the changes that are known now.
func (d *DB) newFeed(ctx context.Context) (*feed, error) {
	f := &feed{db: d}
	if err := f.renew(ctx); err != nil {
		return nil, unavailable(ctx, err)
	}
	return f, nil
}

// renew forgets the numbers, and takes in those that there are. What may yet become visible below the highest is no part of them.
func (f *feed) renew(ctx context.Context) error {
	const (
		settled = `SELECT coalesce(max(seq), 0) FROM zendeskblocks_changes WHERE at < clock_timestamp() - $1::interval`
		later   = `SELECT seq FROM zendeskblocks_changes WHERE seq > $1`
	)
	return f.db.ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		n := numbers{above: make(map[int64]time.Time)}
		if err := conn.QueryRow(ctx, settled, lateCommits).Scan(&n.floor); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, later, n.floor)
		if err != nil {
			return err
		}
		var seq int64
		now := time.Now()
		_, err = pgx.ForEachRow(rows, []any{&seq}, func() error {
			n.note(seq, now)
			return nil
		})
		if err == nil {
			f.numbers = n
		}
		return err
	})
}

// run looks for changes of others when it is notified of some, and now and then, until the engine is closed.
func (f *feed) run() {
	notified := make(chan struct{}, 1)
	f.db.work.Go(func() { f.db.listen(notified) })
	var dropped uint64
	failed := false
	for {
		select {
		case <-notified:
		case <-time.After(lookEvery):
		case <-f.db.ctx.Done():
			return
		}
		if now := f.db.dropped.Load(); failed || now != dropped {
			// Changes may have gone by unseen; and where another server has taken over, it may give their numbers anew.
			if failed = f.renew(f.db.ctx) != nil; failed {
				continue
			}
			dropped = now
			f.db.watchers.Notify([]kv.Op{{Range: true}})
		}
		failed = f.look() != nil
	}
}

// listen passes on notifications. Whenever it begins to, it passes on one that may have been missed.
func (d *DB) listen(notified chan<- struct{}) {
	for d.ctx.Err() == nil {
		d.listenOnce(func() {
			select {
			case notified <- struct{}{}:
			default:
			}
		})
		d.pause(lookEvery)
	}
}

func (d *DB) listenOnce(notified func()) {
	conn, err := d.network.connect(d.ctx)
	if err != nil {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(d.ctx, `LISTEN `+channel); err != nil {
		return
	}
	for {
		notified()
		for own := true; own; {
			n, err := conn.WaitForNotification(d.ctx)
			if err != nil {
				return
			}
			own = n.Payload == strconv.FormatInt(d.replica, 10)
		}
	}
}

// selectChanges leaves out what this process has changed: its watchers have been told.
const selectChanges = `
SELECT seq, own, clock_timestamp() - at, CASE WHEN NOT own THEN keys END, CASE WHEN NOT own THEN starts END, CASE WHEN NOT own THEN ends END
FROM (SELECT *, replica = $3 AS own FROM zendeskblocks_changes WHERE seq > $1 AND NOT seq = ANY($2)) found`

// look tells watchers what others have changed.
func (f *feed) look() error {
	above := make([]int64, 0, len(f.above))
	for seq := range f.above {
		above = append(above, seq)
	}
	now := time.Now()
	err := f.db.ask(f.db.ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		rows, err := conn.Query(ctx, selectChanges, f.floor, above, f.db.replica)
		if err != nil {
			return err
		}
		var seq int64
		var own bool
		var delay time.Duration
		var keys, starts, ends [][]byte
		_, err = pgx.ForEachRow(rows, []any{&seq, &own, &delay, &keys, &starts, &ends}, func() error {
			if !f.note(seq, now) || own {
				return nil
			}
			ops := make([]kv.Op, 0, len(keys)+len(starts))
			for _, key := range keys {
				ops = append(ops, kv.Op{Key: key})
			}
			for i := range starts {
				ops = append(ops, kv.Op{Key: starts[i], End: ends[i], Range: true})
			}
			f.db.cache.changed(ops)
			f.db.watchers.Notify(ops)
			if f.db.heard != nil {
				f.db.heard(delay)
			}
			return nil
		})
		return err
	})
	f.settle(now)
	return err
}
