package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
)

// openDatabase opens the data in a database that processes share. Its keys are made by people, once, and given to all of them.
func openDatabase(ctx context.Context, c Config) (*Store, error) {
	engine, keys, source, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	s, err := newStore(ctx, engine, keys, c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database, %s: %w", source, err), engine.Close())
	}
	_, s.keyFile = keySource("", c.KeyFile, c.Keyset)
	return s, nil
}

// connect reads the keys of a database, and opens it. Source says where the keys are.
func connect(ctx context.Context, c Config) (engine *pgkv.DB, keys *keyfile.Keys, source string, err error) {
	if c.KeyFile == "" && c.Keyset == "" {
		return nil, nil, "", errors.New("a database that processes share needs a key file, the same for all of them")
	}
	source, keyFile := keySource("", c.KeyFile, c.Keyset)
	if keys, err = readKeys(keyFile, c.Keyset); err != nil {
		return nil, nil, "", fmt.Errorf("%s: %w", source, err)
	}
	engine, err = pgkv.Open(ctx, pgkv.Config{URL: c.URL, PasswordFile: c.PasswordFile, Committed: c.Observer.Committed, Heard: c.Observer.Heard})
	return engine, keys, source, err
}

// Migrate makes the schema of a database that processes share, or brings it to the version of this program, and then the data in
// it, if there are any and keys are given. Programs of the version before go on meanwhile. Of the configuration it uses URL,
// PasswordFile, KeyFile or Keyset, Log, and Restored. Versions are those of the schema.
//
// With Restored it takes account of what the data cannot know, as the first Open of what [Restore] has made does. It refuses while
// a replica works on them: that one would go on as if it knew.
func Migrate(ctx context.Context, c Config) (from, to int, err error) {
	if from, to, err = pgkv.Migrate(ctx, pgkv.Config{URL: c.URL, PasswordFile: c.PasswordFile}); err != nil {
		return from, to, err
	}
	if c.Restored {
		if err := markDatabase(ctx, c); err != nil {
			return from, to, err
		}
	}
	if c.KeyFile == "" && c.Keyset == "" {
		return from, to, nil
	}
	s, err := Open(ctx, Config{
		URL: c.URL, PasswordFile: c.PasswordFile, KeyFile: c.KeyFile, Keyset: c.Keyset, Log: c.Log, Replica: "migrate", migrates: true,
	})
	if err != nil {
		return from, to, err
	}
	return from, to, s.Close()
}

// markDatabase notes in a database that its data are restored.
func markDatabase(ctx context.Context, c Config) (err error) {
	engine, keys, source, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	if err := markRestored(ctx, engine, keys, time.Now()); err != nil {
		return fmt.Errorf("database, %s: %w", source, err)
	}
	return nil
}

// CheckStandby returns nil when what is committed is waited for until a standby of the database has it, and else says in a
// sentence why that is not so. Without a database that processes share there is nothing to check.
func (s *Store) CheckStandby(ctx context.Context) error {
	if database, ok := s.engine.(interface{ Standby(context.Context) error }); ok {
		return database.Standby(ctx)
	}
	return nil
}

// DatabaseStats are figures of a database that processes share.
type DatabaseStats = pgkv.Stats

// DatabaseStats returns the figures of the database; ok is false where no processes share one. With an error, it has those that
// are known.
func (s *Store) DatabaseStats(ctx context.Context) (stats DatabaseStats, ok bool, err error) {
	database, ok := s.engine.(interface {
		Stats(context.Context) (pgkv.Stats, error)
	})
	if !ok {
		return DatabaseStats{}, false, nil
	}
	stats, err = database.Stats(ctx)
	return stats, true, err
}
