package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// ErrLocked says that another process has the data file open.
var ErrLocked = boltkv.ErrLocked

// Inspect says whether [Open] would take the data file and the key, and changes nothing: the same errors, at once, without a
// look at every value. A data file that is not there yet is fine, and so is its key file then. ErrLocked says that the data
// file could not be looked into; the key is fit then, and whether it is the one of the data is not known. A database has to
// be there, with its schema.
func Inspect(ctx context.Context, c Config) error {
	if c.URL != "" {
		return inspectDatabase(ctx, c)
	}
	if err := refuseBackup(c.Path); err != nil {
		return err
	}
	source, keyFile := keySource(c.Path, c.KeyFile, c.Keyset)
	if keyFile != "" && missing(keyFile) && missing(c.Path) {
		return nil
	}
	keys, err := readKeys(keyFile, c.Keyset)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	var unfit error
	if err := boltkv.Peek(c.Path, func(r kv.Getter) error {
		_, unfit = unlock(r, keys)
		return nil
	}); err != nil {
		return err
	}
	if unfit != nil {
		return fmt.Errorf("data file %q, %s: %w", c.Path, source, unfit)
	}
	return nil
}

func inspectDatabase(ctx context.Context, c Config) error {
	engine, keys, source, err := connect(ctx, c)
	if err != nil {
		return err
	}
	err = engine.View(ctx, func(r kv.Reader) error {
		_, err := unlock(r, keys)
		return err
	})
	if err != nil {
		err = fmt.Errorf("database, %s: %w", source, err)
	}
	return errors.Join(err, engine.Close())
}
