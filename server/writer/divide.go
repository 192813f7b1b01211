package writer

import (
	"slices"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// division says who writes the activities of which shard, as one replica sees it.
type division struct {
	self    string
	live    []string             // ids of the replicas that live
	writers []string             // of those that write activities, of which self is one
	owners  [store.Shards]string // who has claimed a shard; empty: nobody
}

// share is how many shards a replica has when all is in balance: as many as each other one, or one more or less. The shares of all
// who write are all shards together.
func (d *division) share() int {
	writers := append(slices.Clone(d.writers), d.self)
	slices.Sort(writers)
	writers = slices.Compact(writers)
	share := store.Shards / len(writers)
	if slices.Index(writers, d.self) < store.Shards%len(writers) {
		share++
	}
	return share
}

// decide says which shards the replica should claim, since nobody who lives has them, and which ones it has it should give back,
// so that each who writes comes to its share. Who follows it again and again, together with the others, ends with its share, and
// then changes nothing until some come or go.
func (d *division) decide() (claim, giveBack []int) {
	var mine, free []int
	for shard, owner := range d.owners {
		switch {
		case owner == d.self:
			mine = append(mine, shard)
		case !slices.Contains(d.live, owner):
			free = append(free, shard)
		}
	}
	share := d.share()
	if len(mine) > share {
		return nil, mine[share:]
	}
	return free[:min(len(free), share-len(mine))], nil
}
