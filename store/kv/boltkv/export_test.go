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

// SetCommit has transactions committed by fn; to be called before the first Update.
func (d *DB) SetCommit(fn func(*bbolt.Tx) error) { d.commit = fn }

// NoSync has commits not wait for the disk.
func (d *DB) NoSync() { d.bolt.NoSync = true }

// CheckFile has bbolt look at its pages, and returns all that it finds in the data bucket.
func (d *DB) CheckFile() (all map[string]string, err error) {
	all = make(map[string]string)
	err = d.bolt.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return tx.Bucket(dataBucket).ForEach(func(k, v []byte) error {
			all[string(k)] = string(v)
			return nil
		})
	})
	return all, err
}

// ShareNothing has those who read take snapshots of their own until the next commit.
func (d *DB) ShareNothing() { d.withdraw() }

// SetRoom has the disk have so much room for copies.
func (d *DB) SetRoom(room func(path string) (int64, error)) { d.room = room }

// SpoolReserve is the room that a copy leaves on the disk.
const SpoolReserve = spoolReserve
