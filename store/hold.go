package store

import (
	"context"
	"fmt"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Hold is what holds up all activities of an account that are to be written.
type Hold struct {
	Reason FailureReason `json:"reason"`         // empty: nothing does
	Until  time.Time     `json:"until,omitzero"` // by the clock of who writes them
	ETag   string        `json:"etag,omitempty"` // of the account when that happened: one that has changed since may do better
}

// AllShards stands for every shard.
const AllShards = -1

func holdsKey(shard int) []byte {
	if shard == AllShards {
		return kv.Key("!", "hold")
	}
	return kv.Key("!", "hold", fmt.Sprintf("%02x", shard))
}

func holdKey(tenant, incarnation string) []byte {
	return append(holdsKey(ShardOf(incarnation)), kv.Key(tenant, incarnation)...)
}

func parseHold(key []byte) (tenant, incarnation string, err error) {
	segments, err := kv.Split(key)
	if err != nil || len(segments) != 5 || checkTenant(segments[3]) != nil || string(key) != string(holdKey(segments[3], segments[4])) {
		return "", "", errUnknownKey
	}
	return segments[3], segments[4], nil
}

// SetHold stores what holds the activities of an account up, in place of what was; a Hold without a reason removes it.
func (s *Store) SetHold(ctx context.Context, tenant, incarnation string, h Hold) error {
	if err := checkTenant(tenant); err != nil {
		return err
	}
	key := holdKey(tenant, incarnation)
	if h.Reason == "" {
		return s.commit(ctx, func(tx kv.Txn) error {
			tx.Delete(key)
			return nil
		})
	}
	value, err := encode(h)
	if err != nil {
		return err
	}
	return s.commit(ctx, func(tx kv.Txn) error {
		sealed, err := s.vault.seal(key, value)
		if err == nil {
			tx.Put(key, sealed)
		}
		return err
	})
}

// Holds calls visit with each account of a shard, or of [AllShards], whose activities are held up, and stops at its error. One
// whose record cannot be read is left out.
func (s *Store) Holds(ctx context.Context, shard int, visit func(tenant, incarnation string, h Hold) error) error {
	return s.each(ctx, kv.Prefix(holdsKey(shard)), func(entry kv.Entry) error {
		h, err := s.vault.openHold(entry)
		tenant, incarnation, bad := parseHold(entry.Key)
		if err != nil || bad != nil {
			return nil //nolint:nilerr // whoever writes the account's activities stores it anew
		}
		return visit(tenant, incarnation, h)
	})
}

func (v *vault) openHold(e kv.Entry) (h Hold, err error) {
	value, err := v.open(e.Key, e.Value)
	if err == nil {
		err = decode(value, &h)
	}
	return h, err
}

// WatchHolds sends a token after accounts have come to be held, or are so no more; see [Store.WatchDelivered].
func (s *Store) WatchHolds(ctx context.Context) (<-chan struct{}, error) {
	return s.engine.Watch(ctx, holdsKey(AllShards))
}
