package store

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

var someTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func popsOf(t testing.TB, tx *InteractionTxn) []ScreenPop {
	t.Helper()
	pops, err := tx.ScreenPops()
	if err != nil {
		t.Error(err)
	}
	return pops
}

func recordsOf(n, size int, text string) []json.RawMessage {
	var records []json.RawMessage
	for i := range n {
		records = append(records, fmt.Appendf(nil, `{"id": %d, "text":"<%s%s>"}`, i+1, text, strings.Repeat("x", size)))
	}
	return records
}

// noise are bytes that cannot be compressed.
func noise(seed uint64, size int) []byte {
	text := make([]byte, size)
	_, _ = mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(text)
	return text
}

// noisyRecords are of bytes of which packing makes hardly less.
func noisyRecords(n, size int) (records []json.RawMessage) {
	for i := range n {
		records = append(records, fmt.Appendf(nil, `{"id": %d, "text":"%s"}`, i+1, base64.StdEncoding.EncodeToString(noise(uint64(i), size*3/4))))
	}
	return records
}

func stage(t testing.TB, s *Store, id string, records []json.RawMessage) *StagedRecords {
	t.Helper()
	staged, err := s.StageRecords(t.Context(), tenant, id, records)
	if err != nil {
		t.Fatal(err)
	}
	return staged
}

// sweep sweeps all that is due, one step.
func sweep(t testing.TB, s *Store, limit int) Swept {
	t.Helper()
	swept, err := s.Sweep(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

// expiries is the index: when each interaction is looked at next, by tenant and id.
func expiries(t testing.TB, s *Store) map[string]string {
	t.Helper()
	entries, _, err := s.scan(t.Context(), kv.Prefix(duesKey))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, entry := range entries {
		segments, err := kv.Split(entry.Key)
		if err != nil {
			t.Fatal(err)
		}
		if len(segments) != 5 {
			continue // not of an interaction
		}
		name := segments[3] + "/" + segments[4]
		if all[name] != "" {
			t.Errorf("interaction %q is indexed twice", name)
		}
		all[name] = segments[2]
	}
	return all
}

// listAll reads a list page by page, and holds each page to what is promised of it.
func listAll(t testing.TB, s *Store, tenant string, f ActivityFilter, limit int, between func()) (all []Activity) {
	t.Helper()
	for after := ""; ; {
		page, next, err := s.ListActivities(t.Context(), tenant, f, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > limit || next != "" && len(page) < limit {
			t.Fatalf("page of %d, next %q", len(page), next)
		}
		all = append(all, page...)
		if next == "" {
			if len(page) == 0 && after != "" {
				t.Fatal("the last page is empty")
			}
			return all
		}
		after = next
		between()
	}
}
