package boltkv

import "go.etcd.io/bbolt"

// Commits is the number of the last transaction committed to the file.
func (d *DB) Commits() (n int, err error) {
	err = d.bolt.View(func(tx *bbolt.Tx) error {
		n = tx.ID()
		return nil
	})
	return n, err
}
