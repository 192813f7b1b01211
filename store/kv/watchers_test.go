package kv_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// TestWatchersAreFoundByKey compares who is told of a change with who would be if each watcher were looked at.
func TestWatchersAreFoundByKey(t *testing.T) {
	few := rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00")), 0, 4, -1)
	rapid.Check(t, func(t *rapid.T) {
		var s kv.Watchers
		open := make(map[<-chan struct{}]string)
		for _, prefix := range rapid.SliceOfN(few, 0, 12).Draw(t, "prefixes") {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			tokens := s.Add(ctx, []byte(prefix))
			if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
				cancel()
				<-tokens // which is closed
				continue
			}
			open[tokens] = prefix
		}
		op := kv.Op{Key: []byte(few.Draw(t, "key"))}
		if op.Range = rapid.Bool().Draw(t, "range"); op.Range {
			op.End = []byte(few.Draw(t, "end"))
		}
		var want, got []string
		s.Notify([]kv.Op{op})
		for tokens, prefix := range open {
			if concerns(op, prefix) {
				want = append(want, prefix)
			}
			if len(tokens) > 0 {
				got = append(got, prefix)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q..%q told (-want +got):\n%s", op.Key, op.End, diff)
		}
	})
}

// concerns is what a watcher is told of: a key with its prefix, or a range in which one may lie.
func concerns(op kv.Op, prefix string) bool {
	key, end := string(op.Key), string(op.End)
	if !op.Range {
		return strings.HasPrefix(key, prefix)
	}
	after := string(kv.PrefixEnd([]byte(prefix)))
	return (end == "" || prefix < end || strings.HasPrefix(key, prefix)) && (after == "" || key < after)
}

// BenchmarkNotify has watchers of other keys than those that change, and of more and more.
func BenchmarkNotify(b *testing.B) {
	records := kv.Key("acme", "i", "42", "record")
	ops := []kv.Op{{Key: kv.Key("acme", "i", "42", "head")}, {Key: records, End: kv.PrefixEnd(records), Range: true}}
	for _, n := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprintf("watchers=%d", n), func(b *testing.B) {
			var s kv.Watchers
			for i := range n {
				s.Add(b.Context(), kv.Key("acme", "d", kv.Number(uint64(i))))
			}
			for b.Loop() {
				s.Notify(ops)
			}
		})
	}
}
