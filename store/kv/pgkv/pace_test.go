package pgkv

import (
	"fmt"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

func TestPace(t *testing.T) {
	for _, test := range []struct {
		waiting, underWay int
		want              bool
	}{
		{0, 0, false}, {0, 5, false},
		{1, 0, true},
		{1, 1, true}, {1, 2, false},
		{31, 32, false}, {32, 32, true}, {33, 32, true},
		{99, 1000, false}, {100, 1000, true}, // as many as share a round trip
	} {
		p := pace{underWay: test.underWay}
		if got := p.begins(test.waiting, 100); got != test.want {
			t.Errorf("%d wait and %d are under way: %v", test.waiting, test.underWay, got)
		}
	}
}

// recall is what a cache remembers of a key: its value, "missing", or "unknown".
func recall(c *cache, key string) string {
	got := "unknown"
	c.get([][]byte{[]byte(key)}, func(_ int, f found) {
		if got = string(f.value); f.version == 0 {
			got = "missing"
		}
	})
	return got
}

func TestCache(t *testing.T) {
	c := newCache()
	expect := func(what, key, want string) {
		t.Helper()
		if got := recall(c, key); got != want {
			t.Errorf("%s: %s is %q, want %q", what, key, got, want)
		}
	}
	expect("at first", "a", "unknown")
	c.remember(map[string]found{"a": {[]byte("1"), 7}, "b": {}})
	expect("read", "a", "1")
	expect("read as missing", "b", "missing")
	c.written([]kv.Op{{Key: []byte("a")}, {Key: []byte("b"), Value: []byte("2")}}, 8)
	expect("deleted", "a", "missing")
	expect("set", "b", "2")
	c.forget([]byte("b"))
	expect("forgotten", "b", "unknown")
	c.remember(map[string]found{"large": {make([]byte, maxCachedValue+1), 1}})
	expect("too large", "large", "unknown")

	// A range is looked for where its keys stand together; one of more has all forgotten.
	key := func(segments ...string) string { return string(kv.Key(segments...)) }
	c.remember(map[string]found{key("t", "h", "1", "a"): {[]byte("x"), 1}, key("t", "h", "1", "b"): {}, key("t", "h", "2", "a"): {[]byte("y"), 1}})
	c.written([]kv.Op{{Key: kv.Key("t", "h", "1", "b"), End: kv.PrefixEnd(kv.Key("t", "h", "1")), Range: true}}, 9)
	expect("beside a range", key("t", "h", "1", "a"), "x")
	expect("in a range", key("t", "h", "1", "b"), "unknown")
	c.changed([]kv.Op{{Key: kv.Key("t", "h", "1"), End: kv.PrefixEnd(kv.Key("t", "h", "1")), Range: true}})
	expect("in a range of another", key("t", "h", "1", "a"), "unknown")
	expect("on another shelf", key("t", "h", "2", "a"), "y")
	c.changed([]kv.Op{{Key: kv.Key("t", "h", "1"), End: kv.Key("t", "h", "2", "b"), Range: true}})
	expect("in a range of more shelves", key("t", "h", "2", "a"), "unknown")
	c.written([]kv.Op{{Key: []byte("a")}}, 10)

	value := make([]byte, maxCachedValue)
	for i := range 4 * maxCacheBytes / maxCachedValue {
		c.remember(map[string]found{key("t", "h", fmt.Sprint(i), "data"): {value, 1}, key("t", "h", "large", fmt.Sprint(i)): {value, 1}})
		if i%50 == 0 {
			expect("asked for again and again", "a", "missing")
		}
		bytes, young := 0, 0
		for _, half := range []map[string]*shelf{c.old, c.young} {
			young = 0
			for _, s := range half {
				size := 0
				for key, f := range s.found {
					size += sizeOf(key, f)
				}
				if size != s.bytes || size > maxShelfBytes {
					t.Fatalf("a shelf of %d bytes has %d", s.bytes, size)
				}
				young += size
			}
			bytes += young
		}
		if young != c.bytes || bytes > 2*maxCacheBytes+maxShelfBytes {
			t.Fatalf("it remembers %d bytes, %d of them young, which it takes for %d", bytes, young, c.bytes)
		}
	}
	expect("not asked for", key("t", "h", "0", "data"), "unknown")
}
