package blocks

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// searchAnswer is an answer of Zendesk to a search, with that many records of about that size each.
func searchAnswer(records, size int) string {
	list := make([]string, records)
	for i := range list {
		list[i] = fmt.Sprintf(`{"id":%d,"result_type":"ticket","subject":"s","description":"%s"}`, i+1, strings.Repeat("text ", size/5))
	}
	return fmt.Sprintf(`{"results":[%s],"count":%d}`, strings.Join(list, ","), records)
}

// A search says that it keeps too much, and has replaced the recordset by nothing; with columns it keeps what it may.
func TestSearchThatKeepsTooMuch(t *testing.T) {
	s, zendesk := newService(t)
	page := strings.Replace(searchAnswer(100, 100<<10), `"count":100`, `"count":1000`, 1)
	zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Body: &page, Transfer: zendesktest.Transfer{Gzip: true}})
	search := func(columns ...string) *zendeskv1.SearchResponse {
		t.Helper()
		resp, err := s.Search(call(t, time.Minute), &zendeskv1.SearchRequest{
			InteractionId: "one", SearchString: "x", RecordsetName: "RS", MaxResults: 1000, Columns: columns,
		})
		must(t, err)
		return resp
	}
	resp := search()
	if f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST); !strings.Contains(f.GetMessage(), "16 MiB") || f.GetRetryable() {
		t.Errorf("failure is %v", f)
	}
	if got := resp.GetVariables(); got["RS.__count__"] != "" || got[resultCode] != "200" {
		t.Errorf("variables are %.500v", got)
	}
	resp = search("subject")
	mustExit(t, resp, zendeskv1.Exit_EXIT_NEXT)
	if got := resp.GetVariables(); got["RS.subject"] != "s" || got["RS.description"] != "" || got["RS.__count__"] != "100" {
		t.Errorf("variables are %.500v", got)
	}
}

// 64 answers of 15 MB at once, of 64 accounts of 8 tenants, and a neighbour that goes on searching: how much memory is in
// use at most, how many are answered within 8 s, and how much longer the neighbour waits than alone.
func BenchmarkLargeAnswers(b *testing.B) {
	for _, columns := range [][]string{nil, {"subject"}} {
		b.Run(fmt.Sprintf("columns=%d", len(columns)), func(b *testing.B) {
			benchmarkLargeAnswers(b, columns)
		})
	}
}

func benchmarkLargeAnswers(b *testing.B, columns []string) {
	const floods, tenants = 64, 8
	s, _ := newService(b)
	large, small := []byte(searchAnswer(100, 150<<10)), []byte(searchAnswer(3, 1000))
	zendesk := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := small
		if r.URL.Query().Get("query") == "large" {
			answer = large
		}
		_, _ = w.Write(answer)
	}))
	b.Cleanup(zendesk.Close)
	in := func(tenant string, timeout time.Duration) (context.Context, context.CancelFunc) {
		return context.WithTimeout(rpc.WithCaller(b.Context(), auth.Caller{Tenant: tenant}), timeout)
	}
	account := func(tenant, id string) {
		_, err := s.store.CreateAccount(b.Context(), tenant, store.Account{
			ID: id, Name: id, URL: strings.Replace(zendesk.URL, "127.0.0.1", "localhost", 1), Default: true,
			APIToken: &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New("token")},
		})
		must(b, err)
	}
	for i := range tenants {
		account(fmt.Sprint("flood", i), "main")
	}
	account("neighbour", "main")
	search := func(tenant, interaction, query string) *zendeskv1.SearchResponse {
		ctx, cancel := in(tenant, 8*time.Second)
		defer cancel()
		resp, err := s.Search(ctx, &zendeskv1.SearchRequest{InteractionId: interaction, SearchString: query, RecordsetName: "RS", MaxResults: 100, Columns: columns})
		must(b, err)
		return resp
	}
	// p90 of a neighbour's searches until it is told to stop.
	neighbour := func(stop func(n int) bool) time.Duration {
		var took []time.Duration
		for n := 0; !stop(n); n++ {
			began := time.Now()
			if resp := search("neighbour", fmt.Sprint("n", n), "small"); resp.GetExit() != zendeskv1.Exit_EXIT_NEXT {
				b.Errorf("the neighbour's search: %v", resp.GetFailure())
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[len(took)*9/10]
	}
	for b.Loop() {
		alone := neighbour(func(n int) bool { return n == 200 })
		var done atomic.Bool
		var answered atomic.Int64
		var peak uint64
		var all, watch sync.WaitGroup
		watch.Go(func() {
			sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
			for !done.Load() {
				metrics.Read(sample)
				peak = max(peak, sample[0].Value.Uint64()-sample[1].Value.Uint64())
				time.Sleep(time.Millisecond)
			}
		})
		began := time.Now()
		for i := range floods {
			all.Go(func() {
				if search(fmt.Sprint("flood", i%tenants), fmt.Sprint("f", i), "large").GetExit() == zendeskv1.Exit_EXIT_NEXT {
					answered.Add(1)
				}
			})
		}
		go func() { all.Wait(); done.Store(true) }()
		beside := neighbour(func(n int) bool { return n > 0 && done.Load() })
		b.ReportMetric(time.Since(began).Seconds(), "s-until-all")
		watch.Wait()
		b.ReportMetric(float64(peak)/(1<<20), "MiB-peak")
		b.ReportMetric(float64(answered.Load()), "of-64-answered")
		b.ReportMetric(float64(alone.Microseconds())/1000, "ms-p90-alone")
		b.ReportMetric(float64(beside.Microseconds())/1000, "ms-p90-beside")
		b.ReportMetric(float64(beside)/float64(alone), "x-p90")
	}
}
