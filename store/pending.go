package store

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Shards is how many parts the activities to be written are indexed in, so that several processes can divide them.
const Shards = 64

// ShardOf is the part that an account's activities are in, 0 to Shards-1.
func ShardOf(incarnation string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(incarnation)) // which never fails
	return int(h.Sum32() % Shards)
}

func shardKey(shard int) []byte { return kv.Key("!", "pending", fmt.Sprintf("%02x", shard)) }

func pendingKey(tenant string, a *Activity) []byte {
	since := a.PendingSince
	if since.IsZero() {
		since = a.CreateTime
	}
	return append(shardKey(ShardOf(a.Account.Incarnation)), kv.Key(kv.Time(since), a.ID, tenant)...)
}

// PendingActivity is one that is to be written.
type PendingActivity struct {
	Tenant, ID string
	Since      time.Time // to the microsecond, by the clock of who stored that
}

func parsePending(key []byte) (p PendingActivity, err error) {
	segments, err := kv.Split(key)
	if err != nil || len(segments) != 6 || checkTenant(segments[5]) != nil {
		return PendingActivity{}, errUnknownKey
	}
	p = PendingActivity{Tenant: segments[5], ID: segments[4]}
	p.Since, err = kv.ParseTime(segments[3])
	return p, err
}

// PendingActivities calls visit with each activity of a shard, of every tenant, that is to be written since a time or later, in
// that order, and stops at its error, which comes back as it is. The activities themselves are not read: one that cannot be
// stops nobody. visit may call methods of the Store. Activities that become pending meanwhile may be left out, and those
// that were decided on meanwhile are not.
func (s *Store) PendingActivities(ctx context.Context, shard int, since time.Time, visit func(PendingActivity) error) error {
	index := kv.Prefix(shardKey(shard))
	if !since.IsZero() {
		index.Start = append(index.Start, kv.Key(kv.Time(since))...)
	}
	index.KeysOnly = true
	return s.each(ctx, index, func(entry kv.Entry) error {
		p, err := parsePending(entry.Key)
		if err != nil {
			s.log.ErrorContext(ctx, "an entry of the index of pending activities is damaged; restore a backup", "key", fmt.Sprintf("%q", entry.Key))
			return nil
		}
		return visit(p)
	})
}

// WatchPending sends a token after activities of a shard have become pending, or are so no more; see [Store.WatchDelivered].
func (s *Store) WatchPending(ctx context.Context, shard int) (<-chan struct{}, error) {
	return s.engine.Watch(ctx, shardKey(shard))
}
