package pgkv

import (
	"bytes"
	"sync"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// cache remembers what keys were when this process last read or wrote them, also that they were missing, so that an update need not
// ask for what it has asked for before. What it says may be out of date: a commit compares the versions of all that was read, and an update
// that came to anything else than a commit by it runs again without it.
type cache struct {
	mu         sync.Mutex
	young, old map[string]*shelf // by shelfOf; shelves that are not asked for while young fills are forgotten
	bytes      int               // of young
}

// shelf holds keys that begin alike, so that a range which is deleted is looked for on one.
type shelf struct {
	found map[string]found
	bytes int
}

// Bounds of the cache: bytes of each half, of a shelf, and of a value.
const (
	maxCacheBytes  = 16 << 20
	maxShelfBytes  = maxCacheBytes / 4
	maxCachedValue = 64 << 10
	cacheOverhead  = 128 // of an entry
)

func newCache() *cache { return &cache{young: make(map[string]*shelf), old: make(map[string]*shelf)} }

// shelfOf is what keys begin with that stand together: three segments, such as those of an interaction; empty for shorter keys.
func shelfOf(key []byte) []byte {
	end := 0
	for range 3 {
		i := bytes.IndexByte(key[end:], 0)
		if i < 0 {
			return nil
		}
		end += i + 1
	}
	return key[:end]
}

// shelf finds a shelf, which is young then; nil: there is none.
func (c *cache) shelf(name []byte) *shelf {
	if s := c.young[string(name)]; s != nil {
		return s
	}
	s := c.old[string(name)]
	if s != nil {
		delete(c.old, string(name))
		c.young[string(name)] = s
		c.bytes += s.bytes
	}
	return s
}

// get tells of the keys of which something is remembered, by their places, and returns the others.
func (c *cache) get(keys [][]byte, tell func(i int, f found)) (unknown [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, key := range keys {
		if s := c.shelf(shelfOf(key)); s != nil {
			if f, ok := s.found[string(key)]; ok {
				tell(i, f)
				continue
			}
		}
		unknown = append(unknown, key)
	}
	return unknown
}

// contradicts says whether a key that was read is known to be another version by now.
func (c *cache) contradicts(read map[string]int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, version := range read {
		if s := c.shelf(shelfOf([]byte(key))); s != nil {
			if f, ok := s.found[key]; ok && f.version != version {
				return true
			}
		}
	}
	return false
}

// remember notes what keys are.
func (c *cache) remember(all map[string]found) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, f := range all {
		c.put([]byte(key), f)
	}
}

// written notes what a commit has made of keys.
func (c *cache) written(ops []kv.Op, version int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range ops {
		switch op := &ops[i]; {
		case op.Range:
			c.dropRange(op)
		case op.Value == nil:
			c.put(op.Key, found{})
		default:
			c.put(op.Key, found{op.Value, version})
		}
	}
}

// changed is for keys that were changed by somebody else.
func (c *cache) changed(ops []kv.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range ops {
		if ops[i].Range {
			c.dropRange(&ops[i])
		} else {
			c.drop(ops[i].Key)
		}
	}
}

// forget is for a key that was found to be otherwise.
func (c *cache) forget(key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
}

func (c *cache) put(key []byte, f found) {
	c.drop(key)
	size := sizeOf(string(key), f)
	if len(f.value) > maxCachedValue {
		return
	}
	if c.bytes+size > maxCacheBytes {
		c.young, c.old, c.bytes = make(map[string]*shelf), c.young, 0
	}
	name := shelfOf(key)
	s := c.shelf(name)
	if s == nil {
		s = &shelf{found: make(map[string]found)}
		c.young[string(name)] = s
	}
	if s.bytes+size > maxShelfBytes {
		c.bytes -= s.bytes
		*s = shelf{found: make(map[string]found)}
	}
	s.found[string(key)] = f
	s.bytes += size
	c.bytes += size
}

func sizeOf(key string, f found) int { return len(key) + len(f.value) + cacheOverhead }

func (c *cache) drop(key []byte) {
	if s := c.shelf(shelfOf(key)); s != nil {
		c.take(s, string(key))
	}
}

// dropRange drops all where a range is of more than a shelf, as seldom one is.
func (c *cache) dropRange(op *kv.Op) {
	name := shelfOf(op.Key)
	if len(name) == 0 || len(op.End) == 0 || bytes.Compare(op.End, kv.PrefixEnd(name)) > 0 {
		c.young, c.old, c.bytes = make(map[string]*shelf), make(map[string]*shelf), 0
		return
	}
	if s := c.shelf(name); s != nil {
		for key := range s.found {
			if op.Covers([]byte(key)) {
				c.take(s, key)
			}
		}
	}
}

// take takes a key off a young shelf.
func (c *cache) take(s *shelf, key string) {
	if f, ok := s.found[key]; ok {
		delete(s.found, key)
		s.bytes -= sizeOf(key, f)
		c.bytes -= sizeOf(key, f)
	}
}
