package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// fillInteraction gives an interaction as many recordsets as it may have, each on a record of 700 KiB whose tree would be many
// times as large, and with as many columns ever set as there are elements in ever.
func fillInteraction(t testing.TB, st *store.Store, interaction string, ever []string) {
	t.Helper()
	objects := strings.TrimSuffix(strings.Repeat("{},", 700<<10/3), ",")
	record := json.RawMessage(`{"id":7,"result_type":"ticket","name":"Ann","list":[` + objects + `]}`)
	for i := range maxRecordsets {
		staged, err := st.StageRecords(t.Context(), defaultTenant, interaction, []json.RawMessage{record})
		must(t, err)
		must(t, st.UpdateInteraction(t.Context(), defaultTenant, interaction, func(tx *store.InteractionTxn) error {
			tx.PublishRecordset(store.Recordset{
				Name: fmt.Sprint("RS", i), ColumnsSet: ever, Position: 1, Account: store.AccountUse{AccountID: "main"},
			}, staged)
			return nil
		}))
	}
}

// namingAll is a setting that refers to a record of each recordset, deep in it.
func namingAll() string {
	var text strings.Builder
	for i := range maxRecordsets {
		fmt.Fprintf(&text, "$(RS%d.list.9.x)$(RS%d.name) ", i, i)
	}
	return text.String()
}

// worstRequests are the requests that cost the most, of what a runtime may do.
func (s *testServer) worstRequests(t testing.TB) map[string]func() error {
	names := namingAll()
	columns := make(map[string]string)
	for i := range 200 {
		columns[fmt.Sprint("k", i)] = strings.Repeat(fmt.Sprintf("$(RS0.list.%d,phone)", i), 50)
	}
	var phones strings.Builder
	vars := make(map[string]string)
	for i := range 1000 {
		fmt.Fprintf(&phones, "$(v%d,phone)", i)
		vars[fmt.Sprint("v", i)] = "withheld by the network"
	}
	settings := make(map[string]string)
	for i := range 20 {
		settings[fmt.Sprint("k", i)] = phones.String()
	}
	return map[string]func() error{
		"data naming all recordsets": func() error {
			_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "large", Data: map[string]string{"k": names}})
			return err
		},
		"search naming all recordsets": func() error {
			_, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{InteractionId: "large", SearchString: names, RecordsetName: "RS0"})
			return err
		},
		"data naming many columns": func() error {
			_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "large", Data: columns})
			return err
		},
		"telephone numbers": func() error {
			_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "large", Variables: vars, Data: settings})
			return err
		},
		"get an interaction": func() error {
			_, err := s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "large"})
			return err
		},
		"next record": func() error {
			_, err := s.blocks.GetNextRecord(t.Context(), &zendeskv1.GetNextRecordRequest{InteractionId: "large", RecordsetName: "RS31"})
			return err
		},
		"list records": func() error {
			_, err := s.interactions.ListRecords(t.Context(), &zendeskv1.ListRecordsRequest{InteractionId: "large", RecordsetName: "RS31"})
			return err
		},
		"pop a recordset": func() error {
			_, err := s.blocks.ScreenPop(t.Context(), &zendeskv1.ScreenPopRequest{InteractionId: "large", Target: &zendeskv1.ScreenPopRequest_RecordsetName{RecordsetName: "RS31"}})
			return err
		},
		"complete": func() error {
			_, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
				InteractionId: "other", Details: &zendeskv1.ActivityDetails{Notes: strings.Repeat("n", 3<<20)},
			})
			return err
		},
	}
}

func newWorstServer(t testing.TB) *testServer {
	t.Helper()
	s := newBlockServer(t, func(c *Config, _ *zendesktest.Config) { c.Log = slog.New(slog.DiscardHandler) })
	ever := make([]string, 40_000)
	for i := range ever {
		ever[i] = fmt.Sprintf("column_%06d", i)
	}
	fillInteraction(t, s.store, "large", ever)
	return s
}

// peakHeap runs a function and returns by how much the heap was larger meanwhile than before.
func peakHeap(run func()) uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	before, peak := stats.HeapAlloc, uint64(0)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for ticker := time.NewTicker(2 * time.Millisecond); ; {
			runtime.ReadMemStats(&stats)
			if stats.HeapAlloc > before {
				peak = max(peak, stats.HeapAlloc-before)
			}
			select {
			case <-ticker.C:
			case <-done:
				ticker.Stop()
				return
			}
		}
	})
	run()
	close(done)
	watching.Wait()
	return peak
}

// TestWorstRequests holds that no request of a runtime takes 64 MiB, and prints what it takes, and how long another caller's
// blocks take meanwhile.
func TestWorstRequests(t *testing.T) {
	const most = 64 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // what is garbage is not taken
	s := newWorstServer(t)
	neighbour := func() time.Duration {
		start := time.Now()
		s.attach(t, "neighbour", map[string]string{"k": fmt.Sprint(start.UnixNano())})
		return time.Since(start)
	}
	for range 20 {
		neighbour()
	}
	alone := make([]time.Duration, 50)
	for i := range alone {
		alone[i] = neighbour()
	}
	slices.Sort(alone)
	t.Logf("alone: p90 %v, longest %v", alone[len(alone)*9/10], alone[len(alone)-1])
	worst := s.worstRequests(t)
	for name, run := range worst {
		if err := run(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name, run := range worst {
		var took, longest time.Duration
		peak := peakHeap(func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				start := time.Now()
				_ = run()
				took = time.Since(start)
			}()
			for ended := false; !ended; {
				longest = max(longest, neighbour())
				select {
				case <-done:
					ended = true
				default:
				}
			}
		})
		t.Logf("%-30s %10v, %6d KiB; a neighbour's longest block %v", name, took.Round(time.Millisecond), peak>>10, longest.Round(time.Millisecond))
		if peak > most {
			t.Errorf("%s takes %d KiB", name, peak>>10)
		}
	}
}
