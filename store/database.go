package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
)

// openDatabase opens the data in a database that processes share. Its keys are made by people, once, and given to all of them.
func openDatabase(ctx context.Context, c Config) (*Store, error) {
	if c.KeyFile == "" && c.Keyset == "" {
		return nil, errors.New("a database that processes share needs a key file, the same for all of them")
	}
	source, keyFile := keySource("", c.KeyFile, c.Keyset)
	keys, err := readKeys(keyFile, c.Keyset)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	engine, err := pgkv.Open(ctx, pgkv.Config{URL: c.URL, PasswordFile: c.PasswordFile, Committed: c.Observer.Committed})
	if err != nil {
		return nil, err
	}
	s, err := newStore(ctx, engine, keys, c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database, %s: %w", source, err), engine.Close())
	}
	s.keyFile = keyFile
	return s, nil
}

// Migrate makes the schema of a database that processes share, or brings it to the version of this program. Programs of the
// version before go on meanwhile. It needs no keys. Of the configuration it uses URL and PasswordFile.
func Migrate(ctx context.Context, c Config) (from, to int, err error) {
	return pgkv.Migrate(ctx, pgkv.Config{URL: c.URL, PasswordFile: c.PasswordFile})
}
