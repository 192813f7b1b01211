package boltkv

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// ErrReadOnly is the error of an Update of a database that was opened to be looked at.
var ErrReadOnly = errors.New("database is open to be looked at only")

// OpenReadOnly opens a database file to be looked at: nothing in it changes. Others may look at it too, and nobody may write.
// What follows the database in the file does not matter. Errors are those of [Open], and the file system's when there is no
// such file.
func OpenReadOnly(path string) (*DB, error) {
	d, err := openReadOnly(path)
	if err != nil {
		return nil, fmt.Errorf("database file %q: %w", path, err)
	}
	return d, nil
}

func openReadOnly(path string) (*DB, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if info.Mode().IsRegular() && info.Size() == 0 {
		return nil, fmt.Errorf("it is empty: %w", ErrForeign)
	}
	if _, err := inspect(path); err != nil {
		return nil, err
	}
	bolt, file, err := openBolt(path, true)
	if err != nil {
		return nil, err
	}
	d, err := newDB(bolt, file, path, nil)
	if err != nil {
		return nil, errors.Join(err, letGo(bolt, file, err))
	}
	d.readOnly = true
	return d, nil
}

// Check looks at every page of a file that was opened by [OpenReadOnly], and returns how much of it is in use. Found is called
// for what is damaged, until nothing more can be told. An error is the context's, or found's.
func (d *DB) Check(ctx context.Context, found func(error) error) (stats Stats, err error) {
	if err := d.enter(ctx); err != nil {
		return Stats{}, err
	}
	defer d.running.Done()
	info, err := d.file.Stat()
	if err != nil {
		return Stats{}, err
	}
	s, err := d.take()
	if err != nil {
		return Stats{}, err
	}
	defer d.release(s)
	c := checker{ctx: ctx, tree: treeOf(s.tx), found: found}
	c.pages = make([]pageUse, len(c.tree.data)/c.tree.pageSize)
	err = guarded(func() error { return c.run(d, uint64(s.tx.Cursor().Bucket().Root())) })
	if errors.Is(err, kv.ErrDamaged) {
		c.tell(err)
		err = nil
	}
	err = cmp.Or(err, c.stopped)
	return Stats{FileBytes: info.Size(), FreePages: c.free, FreeBytes: int64(c.free) * int64(c.tree.pageSize)}, err
}

// pageUse is what a page is to a file.
type pageUse byte

const (
	pageUnused pageUse = iota
	pageFree
	pageUsed
)

// checker walks over a tree once.
type checker struct {
	ctx     context.Context
	tree    tree
	pages   []pageUse
	free    int
	found   func(error) error
	stopped error
}

// tell tells of damage, and whether to go on.
func (c *checker) tell(err error) bool {
	if c.stopped == nil {
		c.stopped = c.found(err)
	}
	return c.stopped == nil
}

func (c *checker) run(d *DB, root uint64) error {
	c.pages[0], c.pages[1] = pageUsed, pageUsed
	meta, err := newestMeta(d.file, d.pageSize)
	if err != nil {
		return err
	}
	ids, err := c.tree.freelist(meta.freelist())
	if err != nil {
		return err
	}
	for ; len(ids) > 0; ids = ids[8:] {
		c.use(binary.NativeEndian.Uint64(ids), 1, pageFree)
		c.free++
	}
	if body, err := c.tree.body(meta.freelist()); err == nil {
		c.use(meta.freelist(), len(body)/c.tree.pageSize, pageUsed)
	}
	c.walk(root, nil, nil, 0, true)
	for id, use := range c.pages {
		if use == pageUnused && !c.tell(damaged("page %d is neither free nor in use", id)) {
			break
		}
	}
	return nil
}

// use notes what pages are.
func (c *checker) use(id uint64, n int, use pageUse) bool {
	for i := range uint64(n) {
		at := id + i
		if at >= uint64(len(c.pages)) {
			return c.tell(damaged("page %d of %d", at, len(c.pages)))
		}
		if was := c.pages[at]; was != pageUnused {
			return c.tell(damaged("page %d is used twice, or is in use and free", at)) && false
		}
		c.pages[at] = use
	}
	return true
}

// walk looks at a page and all below it, whose keys are from low on, and less than high.
func (c *checker) walk(id uint64, low, high []byte, depth int, buckets bool) {
	if c.stopped == nil && c.ctx.Err() != nil {
		c.stopped = c.ctx.Err()
	}
	if c.stopped != nil {
		return
	}
	p, err := c.tree.page(id)
	if err == nil && depth == maxDepth {
		err = damaged("page %d leads in a circle", id)
	}
	if err == nil && p.count > 0 && (low != nil && !bytes.Equal(p.key(0), low) || !below(p.key(p.count-1), high)) {
		err = damaged("page %d has keys of another page", id)
	}
	if err != nil {
		c.tell(err)
		return
	}
	if !c.use(id, len(p.body)/c.tree.pageSize, pageUsed) {
		return
	}
	for i := range p.count {
		switch {
		case !p.leaf:
			end := high
			if i+1 < p.count {
				end = p.key(i + 1)
			}
			c.walk(p.child(i), p.key(i), end, depth+1, buckets)
		case p.isBucket(i) != buckets:
			c.tell(damaged("element %d of page %d", i, id))
		case buckets:
			c.bucket(p, i)
		}
	}
}

// bucket looks at a bucket of the file.
func (c *checker) bucket(p page, i int) {
	value := p.value(i)
	if len(value) < bucketHeader {
		c.tell(damaged("bucket %q", p.key(i)))
		return
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		c.walk(root, nil, nil, 1, false)
	} else if _, err := c.tree.parsePage(0, value[bucketHeader:]); err != nil {
		c.tell(err)
	}
}
