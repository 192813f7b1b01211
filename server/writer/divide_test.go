package writer

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// shardsFrom are some shards in a row.
func shardsFrom(first, n int) (shards []int) {
	for i := range n {
		shards = append(shards, first+i)
	}
	return shards
}

// owned says who has shards: each has so many, in a row; the rest is nobody's.
func owned(by ...any) (owners [store.Shards]string) {
	at := 0
	for i := 0; i < len(by); i += 2 {
		for range by[i+1].(int) {
			owners[at] = by[i].(string)
			at++
		}
	}
	return owners
}

func TestDivision(t *testing.T) {
	for name, test := range map[string]struct {
		writers         []string
		owners          [store.Shards]string
		claim, giveBack []int
	}{
		"alone":                          {[]string{"b"}, owned(), shardsFrom(0, 64), nil},
		"alone, with all":                {[]string{"b"}, owned("b", 64), nil, nil},
		"alone, and not yet seen itself": {nil, owned("b", 3), shardsFrom(3, 61), nil},
		"after a crash of its own":       {[]string{"b"}, owned("was-b", 64), shardsFrom(0, 64), nil},
		"three start":                    {[]string{"a", "b", "c"}, owned(), shardsFrom(0, 21), nil},
		"the others were faster":         {[]string{"a", "b", "c"}, owned("a", 22, "c", 21), shardsFrom(43, 21), nil},
		"one has come":                   {[]string{"a", "b"}, owned("b", 64), nil, shardsFrom(32, 32)},
		"it has come":                    {[]string{"a", "b"}, owned("a", 64), nil, nil},
		"some were given back":           {[]string{"a", "b"}, owned("a", 40), shardsFrom(40, 24), nil},
		"one has died":                   {[]string{"a", "b"}, owned("a", 22, "b", 21, "c", 21), shardsFrom(43, 11), nil},
		"in balance":                     {[]string{"a", "b", "c"}, owned("a", 22, "b", 21, "c", 21), nil, nil},
		"one too many":                   {[]string{"a", "b", "c"}, owned("a", 21, "b", 22, "c", 21), nil, shardsFrom(42, 1)},
		"one leaves":                     {[]string{"a", "b"}, owned("a", 22, "b", 21, "leaving", 20), shardsFrom(63, 1), nil},
		"more replicas than shards":      {append([]string{"b"}, manyReplicas(70)...), owned("b", 1), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := division{"b", append([]string{"reader", "leaving"}, test.writers...), test.writers, test.owners}
			claim, giveBack := d.decide()
			mustEqual(t, "claimed", append([]int(nil), claim...), test.claim)
			mustEqual(t, "given back", giveBack, test.giveBack)
		})
	}
}

func manyReplicas(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("x%02d", i))
	}
	return ids
}

// However replicas come and go, and whoever looks first: in the end each has its share, every shard is somebody's, and nobody
// changes anything.
func TestDivisionEndsInBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var owners [store.Shards]string
		live, writers := []string{"a"}, []string{"a"}
		made := 1
		look := func(self string) (changed bool) {
			d := division{self, live, writers, owners}
			claim, giveBack := d.decide()
			for _, shard := range claim {
				if slices.Contains(live, owners[shard]) {
					t.Fatalf("%s claims shard %d of %s, which lives", self, shard, owners[shard])
				}
				owners[shard] = self
			}
			for _, shard := range giveBack {
				owners[shard] = ""
			}
			return len(claim)+len(giveBack) > 0
		}
		t.Repeat(map[string]func(*rapid.T){
			"come": func(t *rapid.T) {
				if len(live) > 7 {
					t.Skip("there are many")
				}
				comes := string(rune('a'+made%26)) + fmt.Sprint(made)
				live, writers = append(live, comes), append(writers, comes)
				made++
			},
			"go": func(t *rapid.T) {
				if len(writers) < 2 {
					t.Skip("it is the last")
				}
				goes := rapid.SampledFrom(writers).Draw(t, "replica")
				writers = slices.DeleteFunc(writers, func(id string) bool { return id == goes })
				if rapid.Bool().Draw(t, "dead") {
					live = slices.DeleteFunc(live, func(id string) bool { return id == goes })
					return
				}
				for shard, owner := range owners { // it still does other things
					if owner == goes {
						owners[shard] = ""
					}
				}
			},
			"look": func(t *rapid.T) { look(rapid.SampledFrom(writers).Draw(t, "replica")) },
			"balance": func(t *rapid.T) {
				order := rapid.Permutation(writers).Draw(t, "order")
				for range 2 { // what some give back others claim in the second round at the latest
					for _, self := range order {
						look(self)
					}
				}
				has := map[string]int{}
				for shard, owner := range owners {
					if !slices.Contains(writers, owner) {
						t.Fatalf("shard %d is nobody's", shard)
					}
					has[owner]++
				}
				for _, self := range writers {
					if n := has[self]; n < store.Shards/len(writers) || n > (store.Shards+len(writers)-1)/len(writers) {
						t.Fatalf("%s has %d shards of %v", self, n, has)
					}
					if look(self) {
						t.Fatalf("%s changes what is in balance: %v", self, has)
					}
				}
			},
		})
	})
}
