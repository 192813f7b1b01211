package zendeskapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"golang.org/x/sync/errgroup"
)

const (
	// MaxSearchResults is how many results of one search Zendesk gives out.
	MaxSearchResults = 1000

	concurrentPages = 3
)

// SearchQuery is what to search for.
type SearchQuery struct {
	Query     string // in Zendesk's search language; escaped here
	SortBy    string // updated_at, created_at, priority, status or ticket_type; empty: by relevance
	SortOrder string // asc or desc; empty: Zendesk's choice, desc
	Max       int    // how many records are wanted: 1 to MaxSearchResults
}

// SearchResult is what a search found.
type SearchResult struct {
	Records    []json.RawMessage // JSON objects exactly as Zendesk sent them, in its order; never nil
	TotalCount int64             // how many there are in Zendesk; may be more than Records
	StatusCode int               // HTTP status of the first page
	Body       string            // the first page as text, like [Error.Body]
}

// Search finds records of every type. Pages after the first are fetched three at a time; a record that comes twice,
// because the index moved between pages, is kept once. It returns all that is asked for or an error: of the kinds of a
// read; InvalidRequest when Zendesk does not understand the query; BadResponse when an answer holds no list of objects.
// https://developer.zendesk.com/api-reference/ticketing/ticket-management/search/#list-search-results
func (c *Client) Search(ctx context.Context, q SearchQuery) (SearchResult, error) {
	if q.Max < 1 || q.Max > MaxSearchResults {
		return SearchResult{}, invalid("search", fmt.Sprintf("the number of results must be 1 to %d", MaxSearchResults))
	}
	firstPage, got, err := c.searchPage(ctx, q, 1)
	if err != nil {
		return SearchResult{}, err
	}
	total := firstPage.total()
	size := min(q.Max, pageSize)
	wanted := int(min(total, int64(q.Max)))
	pages := make([]searchAnswer, max(1, (wanted+size-1)/size))
	pages[0] = firstPage

	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentPages)
	for i := 1; i < len(pages); i++ {
		group.Go(func() error {
			page, _, err := c.searchPage(groupCtx, q, i+1)
			pages[i] = page
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return SearchResult{}, err
	}
	return SearchResult{
		Records:    distinct(pages, q.Max),
		TotalCount: total,
		StatusCode: got.status,
		Body:       bodyText(got.body),
	}, nil
}

func (c *Client) searchPage(ctx context.Context, q SearchQuery, number int) (searchAnswer, *answer, error) {
	query := url.Values{
		"query":    {q.Query},
		"page":     {strconv.Itoa(number)},
		"per_page": {strconv.Itoa(min(q.Max, pageSize))},
	}
	if q.SortBy != "" {
		query.Set("sort_by", q.SortBy)
	}
	if q.SortOrder != "" {
		query.Set("sort_order", q.SortOrder)
	}
	var page searchAnswer
	got, err := c.get(ctx, "search", apiPath("search"), query, &page)
	return page, got, err
}

type searchAnswer struct {
	Results  []json.RawMessage
	Count    *int64
	NextPage *string `json:"next_page"`
}

func (a *searchAnswer) validate() error {
	if a.Results == nil {
		return errNotRecords
	}
	for _, raw := range a.Results {
		if !isObject(raw) {
			return errNotRecords
		}
	}
	if a.Count == nil && a.NextPage != nil {
		return errNoCount
	}
	return nil
}

// total is Zendesk's count, which a single page can do without.
func (a *searchAnswer) total() int64 {
	if a.Count != nil {
		return max(*a.Count, int64(len(a.Results)))
	}
	return int64(len(a.Results))
}

// distinct joins pages, at most n records of them.
func distinct(pages []searchAnswer, n int) []json.RawMessage {
	type key struct{ kind, id string }
	seen := map[key]bool{}
	records := []json.RawMessage{}
	for _, page := range pages {
		for _, raw := range page.Results {
			var record struct {
				ResultType string `json:"result_type"`
				ID         id
			}
			// A record of a type unknown to us may have no id of this form: it is kept as it is.
			known := json.Unmarshal(raw, &record) == nil && record.ID != ""
			k := key{record.ResultType, string(record.ID)}
			if known && seen[k] {
				continue
			}
			seen[k] = true
			if records = append(records, raw); len(records) == n {
				return records
			}
		}
	}
	return records
}
