package pgkv

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

func TestPace(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		waiting  int
		underWay []time.Duration // since they began
		want     bool
		again    time.Duration
	}{
		{0, nil, false, 0}, {0, []time.Duration{0}, false, 0},
		{1, nil, true, 0},
		{1, []time.Duration{0}, false, long},
		{99, []time.Duration{time.Hour, 3 * time.Millisecond, time.Minute}, false, long - 3*time.Millisecond},
		{1, []time.Duration{long}, true, 0}, {1, []time.Duration{time.Hour, long}, true, 0}, // what is under way may be held up
		{100, []time.Duration{0}, true, long}, // as many as share a round trip
	} {
		var p pace
		for _, since := range test.underWay {
			p.underWay = append(p.underWay, now.Add(-since))
		}
		if yes, again := p.begins(test.waiting, 100, now); yes != test.want || again != test.again {
			t.Errorf("%d wait, and what is under way began before %v: %v, again in %v", test.waiting, test.underWay, yes, again)
		}
	}
}

// TestPaceRouses has who waits look again when what is under way takes long.
func TestPaceRouses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		roused := make(chan struct{}, 1)
		begin := func() (time.Time, bool) { return p.begin(1, 100, func() { roused <- struct{}{} }) }
		first, _ := begin()
		for range 3 {
			if _, yes := begin(); yes {
				t.Error("another begins at once")
			}
			time.Sleep(long / 4)
		}
		<-roused
		if time.Since(first) != long {
			t.Errorf("roused after %v", time.Since(first))
		}
		second, yes := begin()
		if !yes {
			t.Error("none begins beside what takes long")
		}
		p.end(second)
		if third, yes := begin(); !yes { // what is held up counts no more
			t.Error("none begins after another has ended")
		} else {
			p.end(third)
		}
		if p.end(first); len(p.underWay) != 0 {
			t.Errorf("%v are under way", p.underWay)
		}
	})
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
