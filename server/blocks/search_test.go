package blocks

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
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
			found := searchResult{code: "200", body: func() string { return "{}" }, total: int64(tt.records), first: map[string]string{"id": "1"}}
			for i := range tt.records {
				found.records = append(found.records, json.RawMessage(fmt.Sprintf(`{"id":%d,"result_type":"user","notes":"%s"}`, i+1, noise(uint64(i), 16<<10))))
			}
			b := &block{tenant: tenant, interaction: interaction, rpc: "Search", request: req}
			armed.Store(true)
			resp, err := finishSearch(context.WithoutCancel(t.Context()), s, b, req, searchPlan{account: store.Account{URL: use.URL}, use: use, query: "x"}, found, asSearch)
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

// A setting costs what it names: other columns of large records are not decoded, and of all that are named there is a bound.
func TestValuesOfLargeRecords(t *testing.T) {
	s, _ := newService(t)
	const sets = 3
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
	for i := range sets - 1 {
		data[fmt.Sprintf("key%d", i)] = fmt.Sprintf("$(RS%d.name) $(RS%[1]d.via.channel) $(RS%[1]d.id)", i)
	}
	resp, err := s.AttachedData(call(t, time.Minute), &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: data})
	must(t, err)
	mustExit(t, resp, zendeskv1.Exit_EXIT_NEXT)
	for key, want := range map[string]string{"key0": "Ann voice 7", "key1": "Ann voice 7", "none": "[]", "gone": "[]", "count": "1"} {
		if got := resp.GetData()[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	data["key2"] = "$(RS2.__count__) $(RS2.name)"
	resp, err = s.AttachedData(call(t, time.Minute), &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: data})
	must(t, err)
	if f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST); !strings.HasPrefix(f.GetMessage(), "the settings refer to") {
		t.Errorf("failure is %v", f)
	}
	// What is named and too long ends the expansion there.
	resp, err = s.AttachedData(call(t, time.Minute), &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: map[string]string{"a": "$(RS0.description)"}})
	must(t, err)
	if f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST); !strings.Contains(f.GetMessage(), `the value of "a"`) {
		t.Errorf("failure is %v", f)
	}
}

// What has been set for a recordset is told with every record: where a reply has no room for it, the block fails, and the
// cursor stays.
func TestTooManyVariablesForAReply(t *testing.T) {
	s, _ := newService(t)
	ever := make([]string, 60_000)
	for i := range ever {
		ever[i] = fmt.Sprintf("c%06d", i)
	}
	name := "R" + strings.Repeat("s", 63)
	staged, err := s.store.StageRecords(t.Context(), tenant, "one", []json.RawMessage{json.RawMessage(`{"id":1}`), json.RawMessage(`{"id":2}`)})
	must(t, err)
	must(t, s.store.UpdateInteraction(t.Context(), tenant, "one", func(tx *store.InteractionTxn) error {
		tx.PublishRecordset(store.Recordset{Name: name, ColumnsSet: ever, Position: 1}, staged)
		return nil
	}))
	resp, err := s.GetNextRecord(call(t, time.Minute), &zendeskv1.GetNextRecordRequest{InteractionId: "one", RecordsetName: name})
	must(t, err)
	mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE)
	must(t, s.store.ViewInteraction(t.Context(), tenant, "one", func(tx *store.InteractionTxn) error {
		if rs, err := tx.Recordset(name); rs.Position != 1 {
			t.Errorf("position is %d, %v", rs.Position, err)
		}
		return nil
	}))
}

// A block may refer to so many variables, however few of them there are.
func TestTooManyReferences(t *testing.T) {
	s, _ := newService(t)
	settings := func(n int) map[string]string {
		data := make(map[string]string)
		for i := range n {
			key := fmt.Sprint("k", i/100)
			data[key] += fmt.Sprintf("$(v%d,phone)", i)
		}
		return data
	}
	for n, fails := range map[int]bool{maxReferences: false, maxReferences + 1: true} {
		resp, err := s.AttachedData(call(t, time.Minute), &zendeskv1.AttachedDataRequest{InteractionId: "one", Data: settings(n)})
		must(t, err)
		if !fails {
			mustExit(t, resp, zendeskv1.Exit_EXIT_NEXT)
			continue
		}
		mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	}
}

// noise is a text of so many characters that does not compress well: many records of it do not fit one transaction.
func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	text := make([]byte, n)
	for i := range text {
		text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[r.IntN(64)]
	}
	return string(text)
}
