package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// holdsOf reads what is held of a shard.
func holdsOf(t *testing.T, s *Store, shard int) map[string]Hold {
	t.Helper()
	found := map[string]Hold{}
	err := s.Holds(t.Context(), shard, func(tenant, incarnation string, h Hold) error {
		found[tenant+" "+incarnation] = h
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What one replica says is held the others see, and no one can say it any more who has lost the accounts.
func TestHolds(t *testing.T) {
	s := replicas(t, 2)
	tokens, err := s[1].WatchHolds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, until := map[string]Hold{}, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for i := range 300 { // more than a scan returns
		h := Hold{ReasonRateLimited, until.Add(time.Duration(i) * time.Second), "etag"}
		incarnation := fmt.Sprint("account", i)
		if err := s[0].SetHold(t.Context(), tenant, incarnation, h); err != nil {
			t.Fatal(err)
		}
		want[tenant+" "+incarnation] = h
	}
	<-tokens
	if diff := cmp.Diff(want, holdsOf(t, s[1], AllShards)); diff != "" {
		t.Errorf("holds (-want +got):\n%s", diff)
	}
	all := 0
	for shard := range Shards {
		all += len(holdsOf(t, s[1], shard))
	}
	if all != len(want) {
		t.Errorf("%d holds in all shards", all)
	}
	first := ShardOf("account0")
	if err := s[0].SetHold(t.Context(), tenant, "account0", Hold{}); err != nil {
		t.Fatal(err)
	}
	<-tokens
	if _, still := holdsOf(t, s[1], first)[tenant+" account0"]; still {
		t.Error("a hold that has ended is still there")
	}
	if found, err := s[0].Scrub(t.Context()); err != nil || found.Damaged > 0 {
		t.Errorf("scrub found %+v, %v", found, err)
	}

	claim, err := s[0].Claim(t.Context(), "writer", "00")
	if err != nil {
		t.Fatal(err)
	}
	if err := s[0].commit(t.Context(), func(tx kv.Txn) error { tx.Delete(claim.key); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s[0].SetHold(Fenced(t.Context(), claim), tenant, "account1", Hold{}); !errors.Is(err, ErrClaimLost) {
		t.Errorf("without the claim: %v", err)
	}
}
