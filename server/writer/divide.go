package writer

import (
	"slices"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// division says who writes the activities of which shard, as one replica sees it.
type division struct {
	self   string
	live   []string             // ids of the replicas that live, with self
	owners [store.Shards]string // who has claimed a shard; empty: nobody
}

// share is how many shards a replica has when all is in balance: as many as each other one, or one more or less. The shares of all
// replicas are all shards together.
func (d *division) share() int {
	replicas := slices.Clone(d.live)
	if !slices.Contains(replicas, d.self) {
		replicas = append(replicas, d.self)
	}
	slices.Sort(replicas)
	replicas = slices.Compact(replicas)
	share := store.Shards / len(replicas)
	if slices.Index(replicas, d.self) < store.Shards%len(replicas) {
		share++
	}
	return share
}

// decide says which shards the replica should claim, since nobody who lives has them, and which ones it has it should give back,
// so that each replica comes to its share. Who follows it again and again, together with the others, ends with its share, and
// then changes nothing until replicas come or go.
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
