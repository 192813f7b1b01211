package pgkv

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Stats are figures of the database.
type Stats struct {
	DatabaseBytes int64 // of the whole database, up to half a minute ago
}

// sizeEvery is how often it is asked how large the database is, which costs it a look at each of its files.
const sizeEvery = 30 * time.Second

// databaseSize is what is known of it.
type databaseSize struct {
	bytes atomic.Int64
	asked atomic.Pointer[time.Time]
}

// Stats returns the figures. With an error, DatabaseBytes is what was known last.
func (d *DB) Stats(ctx context.Context) (Stats, error) {
	var err error
	now := time.Now()
	if asked := d.size.asked.Load(); (asked == nil || now.Sub(*asked) >= sizeEvery) && d.size.asked.CompareAndSwap(asked, &now) {
		err = d.ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
			var bytes int64
			err := conn.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&bytes)
			if err == nil {
				d.size.bytes.Store(bytes)
			}
			return err
		})
		if err != nil {
			err = unavailable(ctx, err)
		}
	}
	return Stats{d.size.bytes.Load()}, err
}
