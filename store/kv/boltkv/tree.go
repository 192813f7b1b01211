package boltkv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sort"
	"sync"
	"unsafe"

	"go.etcd.io/bbolt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Bbolt trusts its pages: a branch that leads back to itself, or a value said to be longer than memory, ends the process,
// and no recover helps. So the pages are read here, as far as reads and the way of a write go, and nothing that stands
// on them is believed. See bbolt's internal/common/page.go for their form: all numbers are in the machine's order.
//
//	page     id uint64, flags uint16, count uint16, overflow uint32 (pages that follow and belong to it), elements, bytes
//	branch   element: pos uint32, key size uint32, id uint64 of the child
//	leaf     element: flags uint32, pos uint32, key size uint32, value size uint32; the value follows the key
//	bucket   value in the root bucket: id uint64 of its root page, sequence uint64; with id 0 the page itself follows
//	freelist ids uint64, in order; if count is 0xffff, their number comes first, uint64
//	meta     magic uint32, version uint32, …, id of the freelist uint64, …, FNV-64a of what precedes it
//
// A position counts from the start of its element.
const (
	pageHeader   = 16
	elementBytes = 16
	bucketHeader = 16
	branchFlag   = 0x01
	leafFlag     = 0x02
	freelistFlag = 0x10
	bucketFlag   = 0x01

	metaMagic     = 0xed0cdaed
	metaVersion   = 2
	metaSum       = 56
	metaFreelist  = pageHeader + 32
	metaVersionOf = pageHeader + 48
	metaBytes     = pageHeader + 64
	noFreelist    = 1<<64 - 1

	// maxDepth is more levels than any file has: with two keys on a page, a tree of 2⁴⁰.
	maxDepth = 40
)

// tree is one state of a file.
type tree struct {
	data     []byte // the map, as far as the state reaches
	pageSize int
	branches *branches // that have been looked at; nil: they are looked at each time
}

// branches are the branch pages of a state that were found good. Most reads pass the same few.
type branches struct {
	mu   sync.RWMutex
	good map[uint64]page
}

func (b *branches) get(id uint64) (page, bool) {
	if b == nil {
		return page{}, false
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	p, ok := b.good[id]
	return p, ok
}

func (b *branches) put(p page) {
	if b == nil || p.leaf {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.good == nil {
		b.good = make(map[uint64]page)
	}
	b.good[p.id] = p
}

// treeOf is valid as long as the transaction.
func treeOf(tx *bbolt.Tx) tree {
	info := tx.DB().Info()
	//nolint:gosec // memory of bbolt's map, which the transaction keeps in place
	return tree{data: unsafe.Slice(*(**byte)(unsafe.Pointer(&info.Data)), tx.Size()), pageSize: info.PageSize}
}

func damaged(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, kv.ErrDamaged)...)
}

// metaPage is the beginning of a meta page, with all that is in it.
type metaPage [metaBytes]byte

// valid is how bbolt knows a meta page.
func (p *metaPage) valid() bool {
	meta := p[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(meta[:metaSum])
	return binary.NativeEndian.Uint32(meta) == metaMagic && binary.NativeEndian.Uint32(meta[4:]) == metaVersion &&
		binary.NativeEndian.Uint64(meta[metaSum:]) == sum.Sum64()
}

func (p *metaPage) freelist() uint64 { return binary.NativeEndian.Uint64(p[metaFreelist:]) }
func (p *metaPage) version() uint64  { return binary.NativeEndian.Uint64(p[metaVersionOf:]) }

// newestMeta returns the newer of the meta pages that are good: without one, bbolt dies with its locks held, and its other users
// wait for ever. One of the two may be half written.
func newestMeta(file *os.File, pageSize int) (newest metaPage, err error) {
	for range 3 {
		for i := range int64(2) {
			var page metaPage
			if _, err := file.ReadAt(page[:], i*int64(pageSize)); err != nil && !errors.Is(err, os.ErrClosed) {
				return newest, damaged("meta page: %v", err)
			}
			if page.valid() && (!newest.valid() || page.version() > newest.version()) {
				newest = page
			}
		}
		if newest.valid() {
			return newest, nil
		}
	}
	return newest, damaged("both meta pages")
}

// page is a branch or a leaf.
type page struct {
	id    uint64
	body  []byte
	count int
	leaf  bool
}

func (t tree) page(id uint64) (page, error) {
	if p, ok := t.branches.get(id); ok {
		return p, nil
	}
	body, err := t.body(id)
	if err != nil {
		return page{}, err
	}
	p, err := t.parsePage(id, body)
	if err == nil {
		t.branches.put(p)
	}
	return p, err
}

// body is a page with its overflow.
func (t tree) body(id uint64) ([]byte, error) {
	pages := uint64(len(t.data) / t.pageSize)
	if id < 2 || id >= pages {
		return nil, damaged("page %d of %d", id, pages)
	}
	body := t.data[id*uint64(t.pageSize):]
	overflow := uint64(binary.NativeEndian.Uint32(body[12:]))
	if self := binary.NativeEndian.Uint64(body); self != id || overflow >= pages-id {
		return nil, damaged("page %d calls itself %d, with %d more", id, self, overflow)
	}
	return body[:(overflow+1)*uint64(t.pageSize)], nil
}

// freelist returns the ids of the free pages.
func (t tree) freelist(id uint64) ([]byte, error) {
	body, err := t.body(id)
	if err != nil {
		return nil, err
	}
	flags, count, ids := binary.NativeEndian.Uint16(body[8:]), uint64(binary.NativeEndian.Uint16(body[10:])), body[pageHeader:]
	if count == 0xffff {
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if flags != freelistFlag || count > uint64(len(ids)/8) {
		return nil, damaged("page %d has flags %#x and %d free pages", id, flags, count)
	}
	// The pages that the list takes may have been on it when its size was reckoned.
	pages := uint64(len(body) / t.pageSize)
	if pages > (pageHeader+8*(1+count+pages))/uint64(t.pageSize)+1 {
		return nil, damaged("page %d has %d bytes for %d free pages", id, len(body), count)
	}
	return ids[:8*count], nil
}

// checkFreelist looks at the list of free pages, which bbolt believes: memory would be allocated for a wrong length, and a
// page that is in use would be written over.
func (t tree) checkFreelist(id uint64) error {
	ids, err := t.freelist(id)
	last := uint64(1)
	for ; len(ids) > 0; ids = ids[8:] {
		free := binary.NativeEndian.Uint64(ids)
		if free <= last || free >= uint64(len(t.data)/t.pageSize) {
			return damaged("page %d lists a free page %d", id, free)
		}
		last = free
	}
	return err
}

// parsePage looks at every element. Bbolt writes keys and values one after the other, and takes no more pages than it needs:
// it would free those that a wrong header claims.
func (t tree) parsePage(id uint64, body []byte) (page, error) {
	if len(body) < pageHeader {
		return page{}, damaged("page %d of %d bytes", id, len(body))
	}
	flags := binary.NativeEndian.Uint16(body[8:])
	p := page{id: id, body: body, count: int(binary.NativeEndian.Uint16(body[10:])), leaf: flags == leafFlag}
	end := uint64(pageHeader + p.count*elementBytes)
	if !p.leaf && (flags != branchFlag || p.count == 0) || end > uint64(len(body)) {
		return page{}, damaged("page %d has flags %#x and %d elements", id, flags, p.count)
	}
	var last []byte
	for i := range p.count {
		at, keySize, valueSize := p.place(i)
		if at != end || keySize == 0 || keySize > kv.MaxKeyBytes || valueSize > kv.MaxTxnBytes ||
			at+keySize+valueSize > uint64(len(body)) {
			return page{}, damaged("element %d of page %d is not where it belongs", i, id)
		}
		key := body[at : at+keySize]
		if bytes.Compare(last, key) >= 0 {
			return page{}, damaged("page %d has keys out of order", id)
		}
		last, end = key, end+keySize+valueSize
	}
	if uint64(len(body)) > (end/uint64(t.pageSize)+1)*uint64(t.pageSize) {
		return page{}, damaged("page %d has %d bytes for %d", id, len(body), end)
	}
	return p, nil
}

// place is where the key of an element stands.
func (p page) place(i int) (at, keySize, valueSize uint64) {
	start := pageHeader + i*elementBytes
	number := func(offset int) uint64 { return uint64(binary.NativeEndian.Uint32(p.body[start+offset:])) }
	if p.leaf {
		return uint64(start) + number(4), number(8), number(12)
	}
	return uint64(start) + number(0), number(4), 0
}

func (p page) key(i int) []byte {
	at, size, _ := p.place(i)
	return p.body[at:][:size:size]
}

func (p page) value(i int) []byte {
	at, keySize, size := p.place(i)
	return p.body[at+keySize:][:size:size]
}

func (p page) child(i int) uint64 {
	return binary.NativeEndian.Uint64(p.body[pageHeader+i*elementBytes+8:])
}

func (p page) isBucket(i int) bool {
	return binary.NativeEndian.Uint32(p.body[pageHeader+i*elementBytes:])&bucketFlag != 0
}

// search returns the first element whose key is not less than key.
func (p page) search(key []byte) (i int, exact bool) {
	return sort.Find(p.count, func(i int) int { return bytes.Compare(key, p.key(i)) })
}

// bucket returns a cursor for a bucket. Its root has no body if there is no such bucket.
func (t tree) bucket(rootBucket uint64, name []byte) (cursor, error) {
	root, err := t.page(rootBucket)
	if err != nil {
		return cursor{}, err
	}
	buckets := cursor{tree: t, root: root}
	value, err := buckets.get(name)
	if value == nil || err != nil {
		return cursor{}, err
	}
	leaf := buckets.levels[len(buckets.levels)-1]
	if !leaf.page.isBucket(leaf.index) || len(value) < bucketHeader {
		return cursor{}, damaged("bucket %q", name)
	}
	c := cursor{tree: t}
	if id := binary.NativeEndian.Uint64(value); id != 0 {
		c.root, err = t.page(id)
	} else {
		c.root, err = t.parsePage(0, value[bucketHeader:])
	}
	return c, err
}

// level is a page on the way to a leaf, and where the way goes on.
type level struct {
	page  page
	index int    // on a leaf, count is behind its end
	high  []byte // what the keys of the page are less than; nil is no bound
}

// cursor stands at an entry of a bucket, or at its end.
type cursor struct {
	tree   tree
	root   page
	levels []level
}

// get returns the value of a key; nil if it is missing.
func (c *cursor) get(key []byte) ([]byte, error) {
	if c.root.body == nil {
		return nil, nil
	}
	if err := c.way(key); err != nil {
		return nil, err
	}
	at := &c.levels[len(c.levels)-1]
	if at.index == at.page.count || !bytes.Equal(at.page.key(at.index), key) {
		return nil, nil
	}
	return at.page.value(at.index), nil
}

// key is false at the end.
func (c *cursor) key() ([]byte, bool) {
	if len(c.levels) == 0 {
		return nil, false
	}
	at := &c.levels[len(c.levels)-1]
	return at.page.key(at.index), true
}

func (c *cursor) value() []byte {
	at := &c.levels[len(c.levels)-1]
	return at.page.value(at.index)
}

// seek goes to the first key that is not less than key.
func (c *cursor) seek(key []byte) error {
	if err := c.way(key); err != nil {
		return err
	}
	if at := &c.levels[len(c.levels)-1]; at.index == at.page.count {
		at.index--
		return c.step(false)
	}
	return nil
}

// way goes to the leaf where a key stands, or would stand.
func (c *cursor) way(key []byte) error {
	c.levels = c.levels[:0]
	return c.descend(level{page: c.root}, func(p page) int {
		i, exact := p.search(key)
		if !p.leaf && !exact && i > 0 {
			return i - 1
		}
		return i
	})
}

// start goes to where a scan of a range begins.
func (c *cursor) start(rng kv.Range) error {
	switch {
	case !rng.Reverse:
		return c.seek(rng.Start)
	case len(rng.End) == 0:
		return c.last()
	}
	if err := c.way(rng.End); err != nil {
		return err
	}
	return c.step(true)
}

// last goes to the last key.
func (c *cursor) last() error {
	c.levels = c.levels[:0]
	if err := c.descend(level{page: c.root}, lastOf); err != nil {
		return err
	}
	if at := &c.levels[len(c.levels)-1]; at.page.count == 0 {
		return c.step(true)
	}
	return nil
}

func firstOf(page) int  { return 0 }
func lastOf(p page) int { return p.count - 1 }

// descend goes down to a leaf, from a page that is not on the way yet.
func (c *cursor) descend(from level, choose func(page) int) error {
	for {
		from.index = choose(from.page)
		if c.levels = append(c.levels, from); from.page.leaf {
			return nil
		}
		if len(c.levels) == maxDepth {
			return damaged("page %d leads in a circle", from.page.id)
		}
		var err error
		if from, err = c.child(&from, from.index); err != nil {
			return err
		}
	}
}

// child returns a child of a branch. Its first key is the branch's key for it, by which bbolt finds it again when it writes
// the branch.
func (c *cursor) child(parent *level, i int) (level, error) {
	p, err := c.tree.page(parent.page.child(i))
	if err != nil {
		return level{}, err
	}
	down := level{page: p, high: parent.high}
	if i+1 < parent.page.count {
		down.high = parent.page.key(i + 1)
	}
	if p.count > 0 && (!bytes.Equal(p.key(0), parent.page.key(i)) || !below(p.key(p.count-1), down.high)) {
		return level{}, damaged("page %d has keys of another page", p.id)
	}
	return down, nil
}

// step goes on to the next key, or back to the previous one.
func (c *cursor) step(back bool) error {
	by, choose := 1, firstOf
	if back {
		by, choose = -1, lastOf
	}
	for len(c.levels) > 0 {
		at := &c.levels[len(c.levels)-1]
		if at.index += by; at.index < 0 || at.index >= at.page.count {
			c.levels = c.levels[:len(c.levels)-1]
			continue
		}
		if at.page.leaf {
			return nil
		}
		down, err := c.child(at, at.index)
		if err != nil {
			return err
		}
		if err := c.descend(down, choose); err != nil {
			return err
		}
		if leaf := &c.levels[len(c.levels)-1]; leaf.page.count > 0 {
			return nil
		}
	}
	return nil
}

// neighbours looks at the pages beside the way: after a deletion bbolt may join pages with them.
func (c *cursor) neighbours() error {
	for i := range c.levels {
		at := &c.levels[i]
		for _, beside := range []int{at.index - 1, at.index + 1} {
			if at.page.leaf || beside < 0 || beside >= at.page.count {
				continue
			}
			if _, err := c.child(at, beside); err != nil {
				return err
			}
		}
	}
	return nil
}
