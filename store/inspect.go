package store

import (
	"cmp"
	"fmt"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// ErrLocked says that another process has the data file open.
var ErrLocked = boltkv.ErrLocked

// Inspect says whether [Open] would take the data file and the key, and changes nothing: the same errors, at once, without a
// look at every value. A data file that is not there yet is fine, and so is its key file then. ErrLocked says that the data
// file could not be looked into; the key is fit then, and whether it is the one of the data is not known.
func Inspect(c Config) error {
	if err := refuseBackup(c.Path); err != nil {
		return err
	}
	source, keyFile := "keyset given", ""
	if c.Keyset == "" {
		keyFile = cmp.Or(c.KeyFile, c.Path+".key")
		source = fmt.Sprintf("key file %q", keyFile)
		if missing(keyFile) && missing(c.Path) {
			return nil
		}
	}
	keys, err := readKeys(c, keyFile)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	var unfit error
	if err := boltkv.Peek(c.Path, func(r kv.Getter) error {
		unfit = fits(r, keys)
		return nil
	}); err != nil {
		return err
	}
	if unfit != nil {
		return fmt.Errorf("data file %q, %s: %w", c.Path, source, unfit)
	}
	return nil
}

// readKeys reads the keyset given, or else the key file.
func readKeys(c Config, keyFile string) (*keyfile.Keys, error) {
	if keyFile == "" {
		return keyfile.Parse(c.Keyset)
	}
	return keyfile.Read(keyFile)
}

// fits says whether keys open data of a format that is known, as identify does; there may be none yet.
func fits(r kv.Getter, keys *keyfile.Keys) error {
	stored, err := r.Get(instanceKey, formatKey, indexKey)
	if err != nil || stored[0] == nil && stored[1] == nil && stored[2] == nil {
		return err
	}
	if _, err := readProgress(r); err != nil {
		return err
	}
	_, err = newVault(keys).openIndex(r)
	return err
}
