package boltkv

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Peek runs fn on a database file that [Open] would take, and changes nothing in it. One that is missing or empty has no
// values. Its errors are those of Open, and fn's.
func Peek(path string, fn func(kv.Getter) error) error {
	if err := peek(path, fn); err != nil {
		return fmt.Errorf("database file %q: %w", path, err)
	}
	return nil
}

func peek(path string, fn func(kv.Getter) error) (err error) {
	fresh, err := inspect(path)
	if err != nil {
		return err
	}
	if fresh {
		return fn(values{})
	}
	bolt, file, err := openBolt(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, letGo(bolt, file, err)) }()
	return guarded(func() error {
		tx, err := bolt.Begin(false)
		if err != nil {
			return err
		}
		defer rollback(tx)
		return fn(values{tx.Bucket(dataBucket)})
	})
}

// values is a [kv.Getter] on the bucket of the data; nil: there are none.
type values struct{ bucket *bbolt.Bucket }

// Get implements [kv.Getter].
func (v values) Get(keys ...[]byte) ([][]byte, error) {
	found := make([][]byte, len(keys))
	for i, key := range keys {
		if v.bucket != nil {
			found[i] = bytes.Clone(v.bucket.Get(key))
		}
	}
	return found, nil
}
