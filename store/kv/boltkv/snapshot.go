package boltkv

import (
	"sync"

	"go.etcd.io/bbolt"
)

// snapshot is one state of the data. The newest durable one is shared by all who read: beginning a transaction of bbolt's,
// with a look at the meta pages before it, costs more than most reads.
type snapshot struct {
	db      *DB
	tx      *bbolt.Tx
	version int

	once sync.Once
	data cursor // the bucket, looked up when it is first needed
	err  error

	readers int           // under changes.mu
	gone    chan struct{} // closed when the last reader has gone; nil: nobody waits for that
}

// take begins a snapshot of its own, for one reader. It may be of a commit that is not durable yet.
func (d *DB) take() (*snapshot, error) {
	tx, err := d.begin(false)
	if err != nil {
		return nil, err
	}
	return &snapshot{db: d, tx: tx, version: tx.ID(), readers: 1}, nil
}

// bucket is for use within guarded.
func (s *snapshot) bucket() (cursor, error) {
	s.once.Do(func() {
		t := treeOf(s.tx)
		t.branches = new(branches)
		s.data, s.err = t.bucket(uint64(s.tx.Cursor().Bucket().Root()), dataBucket)
		if s.err == nil && s.data.root.body == nil {
			s.err = damaged("no bucket %q", dataBucket)
		}
	})
	return cursor{tree: s.data.tree, root: s.data.root}, s.err
}

// openView returns a snapshot for a View; it is to be released.
func (d *DB) openView() (*snapshot, error) {
	d.changes.mu.Lock()
	s := d.changes.current
	if s != nil {
		s.readers++
	}
	d.changes.mu.Unlock()
	if s != nil {
		return s, nil
	}
	return d.take()
}

func (d *DB) release(s *snapshot) {
	d.changes.mu.Lock()
	s.readers--
	last := s.readers == 0
	d.changes.mu.Unlock()
	if !last {
		return
	}
	rollback(s.tx)
	if s.gone != nil {
		close(s.gone)
	}
}

// share makes what a commit has made the state that is shared.
func (d *DB) share(version int, changed map[string]struct{}) error {
	s, err := d.take()
	if err == nil && s.version != version {
		rollback(s.tx)
		err = damaged("the newest state is %d and not %d", s.version, version)
	}
	if err != nil {
		return err
	}
	if before := d.changes.publish(s, changed); before != nil {
		d.release(before)
	}
	return nil
}

// withdraw ends the sharing, and waits until nobody reads the shared snapshot any more: when the file's map has to grow, bbolt
// waits for all transactions, that of the snapshot among them.
func (d *DB) withdraw() {
	s := d.changes.withdraw()
	if s == nil {
		return
	}
	gone := make(chan struct{})
	d.changes.mu.Lock()
	s.gone = gone
	d.changes.mu.Unlock()
	d.release(s)
	<-gone
}

const (
	// remapMargin is more than a commit adds to a file beside what it writes: pages on the way to what is written, and the list of
	// free ones.
	remapMargin = 64 << 20
	// remapStep is by what bbolt makes the map of a large file larger.
	remapStep = 1 << 30
)

// mayRemap tells whether a commit of so many bytes may make a file's map too small, which was mapped bytes at first. How large
// that is now, is known from how bbolt chooses it.
func mayRemap(mapped, fileBytes, commitBytes int64) bool {
	mapped = max(mapped, (fileBytes+remapStep-1)/remapStep*remapStep)
	return fileBytes+8*commitBytes+remapMargin > mapped
}
