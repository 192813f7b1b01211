package zendeskapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// library answers searches among records 1 to total.
func library(total int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		size, _ := strconv.Atoi(r.URL.Query().Get("per_page"))
		records := []string{}
		for i := (page-1)*size + 1; i <= min(page*size, total); i++ {
			records = append(records, record(i))
		}
		_, _ = fmt.Fprintf(w, `{"results":[%s],"facets":null,"next_page":null,"previous_page":null,"count":%d,"new_key":1}`,
			strings.Join(records, ","), total)
	}
}

func record(i int) string {
	return fmt.Sprintf(`{"id": 9007199254740993%03d, "result_type":"ticket","n":1.10}`, i)
}

func textsOf(records []json.RawMessage) []string {
	list := make([]string, len(records))
	for i, raw := range records {
		list[i] = string(raw)
	}
	return list
}

func TestSearchPages(t *testing.T) {
	for name, tt := range map[string]struct{ total, limit, records, requests int }{
		"nothing":              {0, 25, 0, 1},
		"one page":             {7, 25, 7, 1},
		"fewer wanted":         {70, 25, 25, 1},
		"a full page":          {100, 100, 100, 1},
		"one more":             {101, 101, 101, 2},
		"limit within a page":  {1000, 250, 250, 3},
		"all":                  {730, 1000, 730, 8},
		"more than given out":  {5000, 1000, 1000, 10},
		"one wanted, one page": {5000, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(library(tt.total))
			client := newClient(t, zendesk)
			found, err := client.Search(t.Context(), SearchQuery{Query: "a+b c", SortBy: "created_at", SortOrder: "asc", Max: tt.limit})
			if err != nil {
				t.Fatal(err)
			}
			want := []string{}
			for i := 1; i <= tt.records; i++ {
				want = append(want, record(i))
			}
			if diff := cmp.Diff(want, textsOf(found.Records)); diff != "" {
				t.Error(diff)
			}
			if found.TotalCount != int64(tt.total) || found.StatusCode != http.StatusOK || found.Records == nil {
				t.Errorf("total %d, status %d", found.TotalCount, found.StatusCode)
			}
			if !strings.HasPrefix(found.Body, `{"results":[`) || len(found.Body) > 64<<10 {
				t.Errorf("body of %d bytes", len(found.Body))
			}
			requests := zendesk.requests()
			if len(requests) != tt.requests {
				t.Errorf("%d requests, want %d", len(requests), tt.requests)
			}
			wantQuery := fmt.Sprintf("page=1&per_page=%d&query=a%%2Bb%%20c&sort_by=created_at&sort_order=asc", min(tt.limit, 100))
			if requests[0].Query != wantQuery || requests[0].Path != "/api/v2/search.json" {
				t.Errorf("query is %q, want %q", requests[0].Query, wantQuery)
			}
		})
	}
}

func TestSearchDropsDuplicates(t *testing.T) {
	client := newClient(t, reply{body: `{"count":9,"results":[
		{"result_type":"user","id":1},{"result_type":"ticket","id":1},{"result_type":"user","id":1,"later":true},
		{"result_type":"novelty"},{"result_type":"novelty"},{"result_type":"novelty","id":"x-1"},{"result_type":"novelty","id":"x-1"},
		{"id":9007199254740993},{"id":9007199254740992}]}`})
	found, err := client.Search(t.Context(), SearchQuery{Query: "q", Max: 100})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"result_type":"user","id":1}`, `{"result_type":"ticket","id":1}`,
		`{"result_type":"novelty"}`, `{"result_type":"novelty"}`, `{"result_type":"novelty","id":"x-1"}`, `{"result_type":"novelty","id":"x-1"}`,
		`{"id":9007199254740993}`, `{"id":9007199254740992}`,
	}
	if diff := cmp.Diff(want, textsOf(found.Records)); diff != "" {
		t.Error(diff)
	}
}

func TestSearchWithoutCount(t *testing.T) {
	client := newClient(t, reply{body: `{"results":[{"id":1}]}`})
	found, err := client.Search(t.Context(), SearchQuery{Query: "q", Max: 10})
	if err != nil || found.TotalCount != 1 || len(found.Records) != 1 {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestSearchRefusesBounds(t *testing.T) {
	zendesk := scripted(library(1))
	client := newClient(t, zendesk)
	for _, limit := range []int{-1, 0, 1001} {
		_, err := client.Search(t.Context(), SearchQuery{Query: "q", Max: limit})
		fails(t, err, InvalidRequest)
	}
	if len(zendesk.requests()) != 0 {
		t.Error("Zendesk was asked")
	}
}

func TestSearchPagesThreeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		count := func(change int) {
			mu.Lock()
			defer mu.Unlock()
			now += change
			most = max(most, now)
		}
		client := bubbleClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			count(1)
			time.Sleep(time.Second)
			count(-1)
			library(1000)(w, r)
		}))
		start := time.Now()
		found, err := client.Search(t.Context(), SearchQuery{Query: "q", Max: 1000})
		if err != nil || len(found.Records) != 1000 {
			t.Fatalf("%d records, %v", len(found.Records), err)
		}
		if most != concurrentPages || time.Since(start) != 4*time.Second {
			t.Errorf("%d at a time, %v in all", most, time.Since(start))
		}
	})
}

func TestSearchDeadlineBetweenPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := bubbleClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			library(1000)(w, r)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := client.Search(ctx, SearchQuery{Query: "q", Max: 1000})
		fails(t, err, Timeout)
		if time.Since(start) != 2500*time.Millisecond {
			t.Errorf("gave up after %v", time.Since(start))
		}
	})
}

func TestSearchFirstErrorCancelsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zendesk := scripted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Query().Get("page") {
			case "1":
				library(1000)(w, r)
			case "3":
				time.Sleep(time.Second)
				reply{status: http.StatusForbidden}.ServeHTTP(w, r)
			default:
				hang(w, r)
			}
		}))
		client := bubbleClient(t, zendesk)
		start := time.Now()
		_, err := client.Search(t.Context(), SearchQuery{Query: "q", Max: 1000})
		fails(t, err, AccessDenied)
		if time.Since(start) != time.Second {
			t.Errorf("took %v", time.Since(start))
		}
		synctest.Wait()
		if asked := len(zendesk.requests()); asked != 1+concurrentPages {
			t.Errorf("%d pages were asked for", asked)
		}
	})
}

func BenchmarkSearch(b *testing.B) {
	answers := library(1000)
	server := httptest.NewServer(answers)
	defer server.Close()
	client := clientOf(b, server.URL)
	for _, limit := range []int{25, 1000} {
		b.Run(fmt.Sprintf("records=%d", limit), func(b *testing.B) {
			for b.Loop() {
				if _, err := client.Search(b.Context(), SearchQuery{Query: "q", Max: limit}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
