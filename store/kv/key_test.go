package kv_test

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

func segments(t *rapid.T, label string) []string {
	// Few different bytes, so that segments often share beginnings and hold the two special ones.
	segment := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 'a', 0xff}), 0, 4), func(b []byte) string { return string(b) })
	return rapid.SliceOfN(segment, 0, 4).Draw(t, label)
}

func TestKeyOrderIsSegmentOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := segments(t, "a"), segments(t, "b")
		if want, got := slices.Compare(a, b), bytes.Compare(kv.Key(a...), kv.Key(b...)); want != got {
			t.Fatalf("segments compare %d, keys %d", want, got)
		}
		begins := len(a) <= len(b) && slices.Equal(a, b[:len(a)])
		if got := bytes.HasPrefix(kv.Key(b...), kv.Key(a...)); got != begins {
			t.Fatalf("HasPrefix = %v, want %v", got, begins)
		}
	})
}

func TestKeyGolden(t *testing.T) {
	// Keys stand in files on disk: their form must not change.
	tests := []struct {
		segments []string
		want     string
	}{
		{nil, ""},
		{[]string{""}, "\x00"},
		{[]string{"tenant", "i", "42"}, "tenant\x00i\x0042\x00"},
		{[]string{"a\x00b", "c\x01d", "\x02\xff"}, "a\x01\x01b\x00c\x01\x02d\x00\x02\xff\x00"},
		{[]string{kv.Number(0), kv.Number(math.MaxUint64)}, "0000000000000000\x00ffffffffffffffff\x00"},
		{[]string{kv.Time(time.Unix(0, 0))}, "8000000000000000\x00"},
		{[]string{kv.Time(time.Unix(1, 1999))}, "80000000000f4241\x00"},
	}
	for _, test := range tests {
		if got := string(kv.Key(test.segments...)); got != test.want {
			t.Errorf("Key(%q) = %q, want %q", test.segments, got, test.want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, key := range []string{"", "\x00", "a\x00b\x00", "a", "a\x00b", "\x01\x00", "\x01\x01\x00", "\x01\x02\x00", "\x01\x03\x00", "\x01"} {
		f.Add([]byte(key))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		split, err := kv.Split(key)
		if err != nil {
			if !errors.Is(err, kv.ErrMalformedKey) {
				t.Fatalf("Split = %v, want %v", err, kv.ErrMalformedKey)
			}
			return
		}
		if again := kv.Key(split...); !bytes.Equal(again, key) {
			t.Fatalf("Key(Split(%q)...) = %q", key, again)
		}
	})
}

func TestSplitUndoesKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := segments(t, "segments")
		got, err := kv.Split(kv.Key(want...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestSplitRefusesWhatKeyDidNotMake(t *testing.T) {
	for _, key := range []string{"a", "a\x00b", "\x01", "\x01\x00", "\x01\x03\x00", "a\x01"} {
		if got, err := kv.Split([]byte(key)); !errors.Is(err, kv.ErrMalformedKey) {
			t.Errorf("Split(%q) = %q, %v, want %v", key, got, err, kv.ErrMalformedKey)
		}
	}
}

func TestPrefixEnd(t *testing.T) {
	tests := []struct{ prefix, want string }{
		{"", ""}, {"a", "b"}, {"a\x00", "a\x01"}, {"a\xff", "b"}, {"a\xff\xff", "b"}, {"\xff", ""}, {"\xff\xff", ""},
	}
	for _, test := range tests {
		prefix := []byte(test.prefix)
		if got := string(kv.PrefixEnd(prefix)); got != test.want {
			t.Errorf("PrefixEnd(%q) = %q, want %q", test.prefix, got, test.want)
		}
		if string(prefix) != test.prefix {
			t.Errorf("PrefixEnd changed %q to %q", test.prefix, prefix)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 0xfe, 0xff}), 0, 4)
		prefix, key := few.Draw(t, "prefix"), few.Draw(t, "key")
		end := kv.PrefixEnd(prefix)
		inRange := bytes.Compare(key, prefix) >= 0 && (end == nil || bytes.Compare(key, end) < 0)
		if want := bytes.HasPrefix(key, prefix); inRange != want {
			t.Fatalf("in range to %q: %v, want %v", end, inRange, want)
		}
	})
}

func TestAfterIsTheNextKey(t *testing.T) {
	key := make([]byte, 1, 8)
	key[0] = 'a'
	if got := string(kv.After(key)); got != "a\x00" {
		t.Errorf("After(a) = %q", got)
	}
	if full := string(key[:2]); full != "a\x00" || cap(key) != 8 {
		t.Fatalf("unexpected spare bytes %q", full)
	}
	key[:2][1] = 'z'
	kv.After(key)
	if key[:2][1] != 'z' {
		t.Error("After wrote into the spare bytes of its argument")
	}
}

func TestNumberAndTimeSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if (a < b) != (kv.Number(a) < kv.Number(b)) {
			t.Fatalf("%s, %s", kv.Number(a), kv.Number(b))
		}
		micros := rapid.Int64Range(-62135596800e6, 253402300800e6) // years 1 to 9999
		x, y := time.UnixMicro(micros.Draw(t, "x")), time.UnixMicro(micros.Draw(t, "y"))
		if x.Before(y) != (kv.Time(x) < kv.Time(y)) {
			t.Fatalf("%s, %s", kv.Time(x), kv.Time(y))
		}
	})
	if zero := kv.Time(time.Time{}); zero >= kv.Time(time.Unix(0, 0)) {
		t.Errorf("the zero time, %s, does not sort first", zero)
	}
}
