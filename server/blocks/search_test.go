package blocks

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Whatever becomes of an interaction between the moment when a search has staged its records and the one when it publishes
// them, the block answers with the reason.
func TestSearchWhileTheInteractionChanges(t *testing.T) {
	const records = 300 // more than are held until they are published
	const interaction = "one"
	use := store.AccountUse{AccountID: "main", Incarnation: "x", Name: "Main", URL: "https://acme.zendesk.com"}
	publish := func(t *testing.T, st *store.Store, name string) {
		t.Helper()
		staged, err := st.StageRecords(t.Context(), tenant, interaction, []json.RawMessage{json.RawMessage(`{"id":1}`)})
		must(t, err)
		must(t, st.UpdateInteraction(t.Context(), tenant, interaction, func(tx *store.InteractionTxn) error {
			tx.PublishRecordset(store.Recordset{Name: name, Account: use, ColumnsSet: []string{"id"}, Position: 1}, staged)
			return nil
		}))
	}
	complete := func(t *testing.T, st *store.Store) {
		t.Helper()
		must(t, st.UpdateInteraction(t.Context(), tenant, interaction, func(tx *store.InteractionTxn) error {
			_, err := tx.Complete(store.Activity{ID: store.NewActivityID(time.Now()), State: store.ActivitySkipped, CreateTime: time.Now()})
			return err
		}))
	}
	for name, tt := range map[string]struct {
		records   int
		before    int // recordsets
		meanwhile func(*testing.T, *store.Store, *atomic.Int64)
		want      zendeskv1.FailureReason // unspecified: NEXT
	}{
		"nothing":             {records: records, meanwhile: func(*testing.T, *store.Store, *atomic.Int64) {}},
		"it is completed":     {records, 1, func(t *testing.T, st *store.Store, _ *atomic.Int64) { complete(t, st) }, zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_COMPLETED},
		"completed, few held": {records: 3, before: 1, meanwhile: func(t *testing.T, st *store.Store, _ *atomic.Int64) { complete(t, st) }},
		"it expires": {records, 1, func(t *testing.T, st *store.Store, ahead *atomic.Int64) {
			ahead.Store(int64(8 * 24 * time.Hour))
			swept, err := st.Sweep(t.Context(), 10)
			must(t, err)
			if swept.Expired != 1 {
				t.Errorf("swept %+v", swept)
			}
		}, zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_EXPIRED},
		"others take the last place": {records, maxRecordsets - 1, func(t *testing.T, st *store.Store, _ *atomic.Int64) { publish(t, st, "other") }, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST},
		"another of this name":       {records: records, before: maxRecordsets - 1, meanwhile: func(t *testing.T, st *store.Store, _ *atomic.Int64) { publish(t, st, "RS") }},
	} {
		t.Run(name, func(t *testing.T) {
			var armed atomic.Bool
			var ahead atomic.Int64
			var st *store.Store
			st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db"), Now: func() time.Time {
				// The first transaction behind the staging asks for the time before it begins.
				if armed.CompareAndSwap(true, false) {
					tt.meanwhile(t, st, &ahead)
				}
				return time.Now().Add(time.Duration(ahead.Load()))
			}})
			must(t, err)
			t.Cleanup(func() { must(t, st.Close()) })
			for i := range tt.before {
				publish(t, st, fmt.Sprintf("RS%d", i))
			}
			s := New(Config{Store: st, Now: time.Now})
			req := &zendeskv1.SearchRequest{InteractionId: interaction, RequestId: "r", SearchString: "x", RecordsetName: "RS"}
			found := searchResult{code: "200", body: "{}", total: int64(tt.records), first: map[string]string{"id": "1"}}
			for i := range tt.records {
				found.records = append(found.records, json.RawMessage(fmt.Sprintf(`{"id":%d,"result_type":"user"}`, i+1)))
			}
			b := &block{tenant: tenant, interaction: interaction, rpc: "Search", request: req}
			armed.Store(true)
			resp, err := s.finishSearch(context.WithoutCancel(t.Context()), b, req, searchPlan{account: store.Account{URL: use.URL}, use: use, query: "x"}, found)
			must(t, err)
			if armed.Load() {
				t.Fatal("nothing happened meanwhile")
			}
			if tt.want == 0 {
				mustExit(t, resp, zendeskv1.Exit_EXIT_NEXT)
				return
			}
			mustFail(t, resp, tt.want)
			vars := resp.GetVariables()
			if count, ok := vars["RS.__count__"]; !ok || count != "" || vars[resultCode] != "200" || vars[resultBody] != "{}" || resp.GetRecordset() != nil {
				t.Errorf("answer is %v", resp)
			}
			// It is not kept: the repeat executes again.
			must(t, st.ViewInteraction(t.Context(), tenant, interaction, func(tx *store.InteractionTxn) error {
				if _, kept, err := tx.Reply("Search", "r"); kept || err != nil {
					t.Errorf("the failure is kept: %v, %v", kept, err)
				}
				return nil
			}))
		})
	}
}

// A setting costs what it names: other columns of large records are not decoded, and each record is read once.
func TestValuesOfLargeRecords(t *testing.T) {
	s, _ := newService(t)
	const sets = 4
	large := json.RawMessage(`{"id":7,"name":"Ann","description":"` + strings.Repeat("x", 700<<10) + `","via":{"channel":"voice"}}`)
	for i := range sets {
		staged, err := s.store.StageRecords(t.Context(), tenant, "one", []json.RawMessage{large})
		must(t, err)
		must(t, s.store.UpdateInteraction(t.Context(), tenant, "one", func(tx *store.InteractionTxn) error {
			tx.PublishRecordset(store.Recordset{Name: fmt.Sprintf("RS%d", i), ColumnsSet: []string{"gone", "id"}, Position: 1}, staged)
			return nil
		}))
	}
	data := map[string]string{"none": "[$(RS0.never)$(RS9.id)]", "gone": "[$(RS0.gone)]", "count": "$(RS1.__count__)"}
	for i := range sets {
		data[fmt.Sprintf("key%d", i)] = fmt.Sprintf("$(RS%d.name) $(RS%[1]d.via.channel) $(RS%[1]d.id)", i)
	}
	resp, err := s.AttachedData(call(t, time.Minute), &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: data})
	must(t, err)
	mustExit(t, resp, zendeskv1.Exit_EXIT_NEXT)
	for key, want := range map[string]string{"key0": "Ann voice 7", "key3": "Ann voice 7", "none": "[]", "gone": "[]", "count": "1"} {
		if got := resp.GetData()[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	// What is named and too long ends the expansion there.
	resp, err = s.AttachedData(call(t, time.Minute), &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: map[string]string{"a": "$(RS0.description)"}})
	must(t, err)
	if f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST); !strings.Contains(f.GetMessage(), `the value of "a"`) {
		t.Errorf("failure is %v", f)
	}
}
