package zendeskapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/redact"
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
			if body := found.Body(); !strings.HasPrefix(body, `{"results":[`) || len(body) > 64<<10 {
				t.Errorf("body of %d bytes", len(body))
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

// A count that is not what is there is asked for once more. What is there is kept; nothing where something is counted is
// an error, never an empty result.
func TestSearchCountsThatLie(t *testing.T) {
	results := func(from, to, count int, next string) reply {
		records := []string{}
		for i := from; i <= to; i++ {
			records = append(records, record(i))
		}
		return reply{body: fmt.Sprintf(`{"results":[%s],"count":%d,"next_page":%s}`, strings.Join(records, ","), count, next)}
	}
	const none, link = "null", `"https://x/api/v2/search.json?page=2"`
	unavailable := reply{status: 501}
	for name, tt := range map[string]struct {
		replies  []http.Handler
		limit    int
		records  int
		total    int64
		requests int
		kind     Kind // empty: success
		attempts int
	}{
		"nothing where one is counted":       {replies: []http.Handler{results(1, 0, 1, none)}, limit: 25, total: 1, requests: 2, kind: BadResponse, attempts: 2},
		"at first":                           {replies: []http.Handler{results(1, 0, 1, none), results(1, 1, 1, none)}, limit: 25, records: 1, total: 1, requests: 2},
		"and then truly nothing":             {replies: []http.Handler{results(1, 0, 1, none), results(1, 0, 0, none)}, limit: 25, requests: 2},
		"and then refused":                   {replies: []http.Handler{results(1, 0, 1, none), unavailable}, limit: 25, requests: 2, kind: Unavailable, attempts: 2},
		"an empty second page":               {replies: []http.Handler{results(1, 100, 150, link), results(1, 0, 150, none)}, limit: 150, records: 100, total: 150, requests: 3, kind: BadResponse, attempts: 2},
		"a second page that is empty once":   {replies: []http.Handler{results(1, 100, 150, link), results(1, 0, 150, none), results(101, 150, 150, none)}, limit: 150, records: 150, total: 150, requests: 3},
		"a second page that counts anew":     {replies: []http.Handler{results(1, 100, 150, link), results(1, 0, 100, none)}, limit: 150, records: 100, total: 150, requests: 2},
		"a second page without a count":      {replies: []http.Handler{results(1, 100, 150, link), reply{body: `{"results":[]}`}}, limit: 150, records: 100, total: 150, requests: 3, kind: BadResponse, attempts: 2},
		"a second page that falls short":     {replies: []http.Handler{results(1, 100, 150, link), results(101, 149, 150, none)}, limit: 150, records: 149, total: 150, requests: 2},
		"more than counted":                  {replies: []http.Handler{results(1, 3, 1, none)}, limit: 25, records: 3, total: 3, requests: 2},
		"some where none is counted":         {replies: []http.Handler{results(1, 3, 0, none)}, limit: 25, records: 3, total: 3, requests: 2},
		"more than counted once":             {replies: []http.Handler{results(1, 3, 1, none), results(1, 3, 3, none)}, limit: 25, records: 3, total: 3, requests: 2},
		"a page follows that is not counted": {replies: []http.Handler{results(1, 100, 3, link)}, limit: 200, records: 100, total: 100, requests: 2, kind: BadResponse, attempts: 2},
		"all that is wanted all the same":    {replies: []http.Handler{results(1, 100, 3, link)}, limit: 100, records: 100, total: 100, requests: 2},
		"a link behind the last":             {replies: []http.Handler{results(1, 3, 3, link)}, limit: 200, records: 3, total: 3, requests: 1},
		"a later page fails":                 {replies: []http.Handler{results(1, 100, 150, link), unavailable}, limit: 150, records: 100, total: 150, requests: 2, kind: Unavailable, attempts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(tt.replies...)
			found, err := newClient(t, zendesk).Search(t.Context(), SearchQuery{Query: "q", Max: tt.limit})
			if got := len(zendesk.requests()); got != tt.requests {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
			if len(found.Records) != tt.records || found.TotalCount != tt.total {
				t.Errorf("%d records of %d, want %d of %d", len(found.Records), found.TotalCount, tt.records, tt.total)
			}
			if tt.kind == "" {
				if err != nil || found.Records == nil {
					t.Error(err)
				}
				return
			}
			e := failed(t, err, tt.kind)
			if e.Attempts != tt.attempts || e.StatusCode == 0 || tt.kind == BadResponse && !strings.Contains(e.Message(), "counts") {
				t.Errorf("error is %+v: %s", *e, e.Message())
			}
		})
	}
}

// There is no second time where it would come too late.
func TestSearchAsksAgainInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zendesk := scripted(reply{body: `{"results":[],"count":1}`})
		client := bubbleClient(t, zendesk)
		ctx, cancel := context.WithTimeout(t.Context(), firstBackoff/2)
		defer cancel()
		_, err := client.Search(ctx, SearchQuery{Query: "q", Max: 10})
		if e := failed(t, err, BadResponse); e.Attempts != 1 || len(zendesk.requests()) != 1 {
			t.Errorf("error is %+v after %d requests", *e, len(zendesk.requests()))
		}
	})
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

// panicking is a transport that panics over all pages but the first.
type panicking struct{ http.RoundTripper }

func (p panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Get("page") != "1" {
		panic("no further")
	}
	return p.RoundTripper.RoundTrip(r)
}

// A panic over a later page is one of the caller's goroutine, where it can be recovered from.
func TestSearchPanicsWhereItWasCalled(t *testing.T) {
	client := newClient(t, library(300))
	client.http = &http.Client{Transport: panicking{client.http.Transport}}
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "no further") || !strings.Contains(text, "RoundTrip") {
			t.Errorf("recovered %.100q", text)
		}
	}()
	_, err := client.Search(t.Context(), SearchQuery{Query: "x", Max: 300})
	t.Errorf("the search ended with %v", err)
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

// TestSearchIsAskedOnce has many search for the same, and others for something else or as somebody else.
func TestSearchIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		client := bubbleClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			time.Sleep(time.Second)
			_, _ = fmt.Fprintf(w, `{"results":[{"id":1,"result_type":"user","name":%q}],"count":1}`, r.Header.Get("Authorization")[7:])
		}))
		client.secrets = func() *redact.Secrets { return redact.New() } // it repeats who asked
		other, lane, credential := *client, *client, *client
		other.account, lane.lane, credential.credential = "other", limit.Background, BearerCredential(secret.New("another credential"))
		name := func(record json.RawMessage) (json.RawMessage, error) { return record, nil }
		var group sync.WaitGroup
		search := func(c *Client, q SearchQuery) {
			group.Go(func() {
				found, err := c.Search(t.Context(), q)
				if err != nil || len(found.Records) != 1 || !strings.Contains(string(found.Records[0]), c.credential.secret.Reveal()) {
					t.Errorf("%+v: %s, %v", q, found.Records, err)
				}
				found.Release()
				found.Release()
			})
		}
		for range 100 {
			search(client, SearchQuery{Query: "x", Max: 1})
		}
		synctest.Wait()
		if asked.Load() != 1 {
			t.Errorf("%d requests for one search", asked.Load())
		}
		for _, c := range []*Client{&other, &lane, &credential} {
			search(c, SearchQuery{Query: "x", Max: 1})
		}
		for _, q := range []SearchQuery{
			{Query: "y", Max: 1}, {Query: "x", Max: 2}, {Query: "x", SortBy: "status", Max: 1}, {Query: "x", SortOrder: "asc", Max: 1},
			{Query: "x", Max: 1, Keep: name, Kept: "name"}, {Query: "x", Max: 1, Keep: name}, {Query: "x", Max: 1, Keep: name},
		} {
			search(client, q)
		}
		synctest.Wait()
		if asked.Load() != 11 {
			t.Errorf("%d requests for 11 different searches", asked.Load())
		}
		group.Wait()
		r := client.transport.room
		if len(client.transport.flights.flying) != 0 || len(r.guests) != 0 || r.held != 0 {
			t.Errorf("left: %d searches, %d guests, %d bytes", len(client.transport.flights.flying), len(r.guests), r.held)
		}
	})
}

// TestSharedSearchKeepsItsMemory until the last of those who have it releases it.
func TestSharedSearchKeepsItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := bubbleClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, `{"results":[{"id":1}],"count":1}`)
		}))
		held := func() int64 {
			client.transport.room.mu.Lock()
			defer client.transport.room.mu.Unlock()
			return client.transport.room.held
		}
		var found [2]SearchResult
		var group sync.WaitGroup
		for i := range found {
			group.Go(func() { found[i], _ = client.Search(t.Context(), SearchQuery{Query: "x", Max: 1}) })
		}
		group.Wait()
		found[0].Release()
		found[0].Release()
		if held() == 0 {
			t.Error("released while another has it")
		}
		found[1].Release()
		if n := held(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
	})
}

// TestOneBudget bounds what is sent for one search, whatever fails of it.
func TestOneBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		incomplete := reply{body: `{"results":[],"count":5}`}
		zendesk := scripted(reply{status: http.StatusBadGateway}, incomplete, reply{status: http.StatusBadGateway})
		_, err := bubbleClient(t, zendesk).Search(t.Context(), SearchQuery{Query: "x", Max: 5})
		if e := failed(t, err, Unavailable); e.Attempts != maxAttempts || len(zendesk.requests()) != maxAttempts {
			t.Errorf("%d requests: %+v", len(zendesk.requests()), *e)
		}
	})
}
