package pgkv

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// schema is the version that this program makes and reads.
const schema = 1

// steps make the schema of each version of the one before. A step may only add, so that programs of the version before can go
// on beside it; what nobody reads any more goes with a later one.
//
// Values are encrypted: to compress them is in vain. A value is NULL only within a transaction, where it keeps others from
// making the key. Versions are random, so that a key that was deleted and made again is told from what it was.
var steps = [schema]string{`
CREATE TABLE zendeskblocks_kv (
	key     bytea  PRIMARY KEY,
	value   bytea,
	version bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE zendeskblocks_kv ALTER COLUMN value SET STORAGE EXTERNAL;

-- Markers of commits, by which it is found out what became of them.
CREATE TABLE zendeskblocks_commits (
	id    bigint      PRIMARY KEY,
	made  boolean     NOT NULL,
	again int[]       NOT NULL DEFAULT '{}', -- members of the group that it left out
	at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX zendeskblocks_commits_at ON zendeskblocks_commits (at);

-- What was changed in the last seconds, and by which process.
CREATE TABLE zendeskblocks_changes (
	seq     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at      timestamptz NOT NULL DEFAULT clock_timestamp(),
	replica bigint      NOT NULL,
	keys    bytea[]     NOT NULL,
	starts  bytea[]     NOT NULL,
	ends    bytea[]     NOT NULL
);
`}

// Migrate makes the schema, or brings it to the version of this program. It is done once, by whoever comes first; programs
// that read the version before go on meanwhile.
func Migrate(ctx context.Context, c Config) (from, to int, err error) {
	network, err := newNetwork(c)
	if err != nil {
		return 0, 0, err
	}
	conn, err := network.connect(ctx)
	if err != nil {
		return 0, 0, unavailable(ctx, err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS zendeskblocks_schema (version int NOT NULL, least_reader int NOT NULL)`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `LOCK TABLE zendeskblocks_schema IN EXCLUSIVE MODE`); err != nil {
			return err
		}
		least := 0
		err := tx.QueryRow(ctx, `SELECT version, least_reader FROM zendeskblocks_schema`).Scan(&from, &least)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if from >= schema {
			return nil
		}
		for _, step := range steps[from:] {
			if _, err := tx.Exec(ctx, step); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM zendeskblocks_schema`); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO zendeskblocks_schema (version, least_reader) VALUES ($1, $2)`, schema, leastReader)
		return err
	})
	return from, max(from, schema), err
}

// leastReader is the oldest version whose programs can read and write this schema.
const leastReader = 1

// ErrSchema says that the database has no schema, or one that this program does not know.
var ErrSchema = errors.New("the schema of the database does not fit")

func checkSchema(ctx context.Context, pool *pgxpool.Pool) error {
	var version, least int
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := pool.QueryRow(limited, `SELECT version, least_reader FROM zendeskblocks_schema`).Scan(&version, &least)
	switch {
	case errors.Is(err, pgx.ErrNoRows), isCode(err, "42P01"): // undefined_table
		return fmt.Errorf("%w: there is none (run migrate)", ErrSchema)
	case err != nil:
		return unavailable(ctx, err)
	case version < schema:
		return fmt.Errorf("%w: it has version %d, and this program needs %d (run migrate)", ErrSchema, version, schema)
	case least > schema:
		return fmt.Errorf("%w: it has version %d, which programs of version %d or newer read; this one is of %d (run a newer one)", ErrSchema, version, least, schema)
	}
	return nil
}

// randomID is never 0.
func randomID() int64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // which never fails
		if id := int64(binary.LittleEndian.Uint64(b[:]) >> 1); id != 0 {
			return id
		}
	}
}
