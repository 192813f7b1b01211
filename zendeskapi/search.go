package zendeskapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
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
	Records    []json.RawMessage // JSON objects exactly as Zendesk sent them, in its order; never nil without an error
	TotalCount int64             // how many there are in Zendesk; may be more than Records
	StatusCode int               // HTTP status of the first page
	Body       string            // the first page as text, like [Error.Body]
}

// Search finds records of every type. Pages after the first are fetched three at a time; a record that comes twice,
// because the index moved between pages, is kept once. A page with more records than it counts, or with none where it
// counts some, is asked for once more; more is then taken for what there is.
//
// It returns all that is asked for, or an error: of the kinds of a read; InvalidRequest when Zendesk does not understand
// the query; BadResponse when an answer holds no list of objects, counts what cannot be, or still holds nothing where
// it counts something. With the error of a later page, or of one that counts what it does not hold, the result has what there is up to it: it must
// not pass for the whole.
// https://developer.zendesk.com/api-reference/ticketing/ticket-management/search/#list-search-results
func (c *Client) Search(ctx context.Context, q SearchQuery) (SearchResult, error) {
	if q.Max < 1 || q.Max > MaxSearchResults {
		return SearchResult{}, invalid("search", fmt.Sprintf("the number of results must be 1 to %d", MaxSearchResults))
	}
	firstPage, got, err := c.searchPage(ctx, q, 1, 0)
	if got == nil {
		return SearchResult{}, err
	}
	total := firstPage.total()
	size := min(q.Max, pageSize)
	wanted := int(min(total, int64(q.Max)))
	pages := make([]searchAnswer, max(1, (wanted+size-1)/size))
	errs := make([]error, len(pages))
	pages[0], errs[0] = firstPage, err
	if err == nil {
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(concurrentPages)
		for i := 1; i < len(pages); i++ {
			group.Go(func() (err error) {
				defer func() {
					if p := recover(); p != nil {
						err = &pagePanic{p, debug.Stack()}
					}
				}()
				pages[i], _, errs[i] = c.searchPage(groupCtx, q, i+1, total)
				return errs[i]
			})
		}
		err = group.Wait()
		if p, ok := errors.AsType[*pagePanic](err); ok {
			panic(p) //nolint:forbidigo // goes on with what the goroutine began
		}
	}
	// What stands behind a gap is not the next record.
	for i := range pages {
		if errs[i] != nil {
			pages = pages[:i+1]
			break
		}
	}
	return SearchResult{
		Records:    distinct(pages, q.Max),
		TotalCount: total,
		StatusCode: got.status,
		Body:       bodyText(got.body),
	}, err
}

// pagePanic is a panic that goes on in the caller's goroutine: in one of ours it would end the process.
type pagePanic struct {
	value any
	stack []byte
}

func (p *pagePanic) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

// searchPage asks for a page, once more if what it holds is not what it counts; total is what is counted where it does not count
// itself. Without an answer that can be read, the answer is nil.
func (c *Client) searchPage(ctx context.Context, q SearchQuery, number int, total int64) (searchAnswer, *answer, error) {
	size := min(q.Max, pageSize)
	query := url.Values{
		"query":    {q.Query},
		"page":     {strconv.Itoa(number)},
		"per_page": {strconv.Itoa(size)},
	}
	if q.SortBy != "" {
		query.Set("sort_by", q.SortBy)
	}
	if q.SortOrder != "" {
		query.Set("sort_order", q.SortOrder)
	}
	attempts := 0
	for {
		var page searchAnswer
		got, err := c.get(ctx, "search", apiPath("search"), query, &page)
		if failed, ok := errors.AsType[*Error](err); ok {
			failed.Attempts += attempts
			return page, nil, failed
		}
		judged := page.judge(number, size, q.Max, total)
		if judged == plausible {
			return page, got, nil
		}
		again := attempts == 0
		attempts += got.attempts
		got.attempts = attempts
		e := c.badResponse("search", got, errIncomplete)
		if wait := backoff(e, 1); again && waitFits(ctx, wait) {
			sleep(ctx, wait)
			continue
		}
		if judged == surplus {
			return page, got, nil
		}
		return page, got, e
	}
}

type searchAnswer struct {
	results []json.RawMessage
	count   int64 // -1: not told
	more    bool  // there is a link to a next page
}

func (a *searchAnswer) read(o object) error {
	var err error
	if a.results, err = o.list("results"); err != nil {
		return err
	}
	if a.results == nil {
		return errNotRecords
	}
	for _, raw := range a.results {
		if !isObject(raw) {
			return errNotRecords
		}
	}
	next, err := o.get("next_page")
	if err != nil {
		return err
	}
	a.more = !isNull(next)
	count, err := o.get("count")
	switch {
	case err != nil:
		return err
	case isNull(count) && a.more:
		return errNoCount
	case isNull(count):
		a.count = -1
		return nil
	}
	n, ok := whole(count)
	if !ok || n < 0 {
		return errBadCount
	}
	a.count = n
	return nil
}

// total is Zendesk's count, which a single page can do without. An index that is changed meanwhile may hold more than it
// counts.
func (a *searchAnswer) total() int64 { return max(a.count, int64(len(a.results))) }

// verdict judges a page by its own count: between two pages that may change.
type verdict int

const (
	plausible verdict = iota
	surplus           // there is more than is counted
	missing           // there is nothing, or nothing further, where more is counted or linked to
)

// judge compares what page number holds with what is counted, total where it does not count itself. A page that merely
// falls short is one of an index that has changed since.
func (a *searchAnswer) judge(number, size, wanted int, total int64) verdict {
	if a.count >= 0 {
		total = a.count
	}
	expected := min(max(total-int64(number-1)*int64(size), 0), int64(size))
	here := int64(len(a.results))
	switch {
	case here == 0 && expected > 0:
		return missing
	case here >= int64(size) && a.more && number*size < wanted && total <= int64(number*size):
		return missing
	case here > expected && a.count >= 0:
		return surplus
	}
	return plausible
}

// distinct joins pages, at most n records of them.
func distinct(pages []searchAnswer, n int) []json.RawMessage {
	type key struct{ kind, id string }
	seen := map[key]bool{}
	records := []json.RawMessage{}
	for _, page := range pages {
		for _, raw := range page.results {
			// A record of a type unknown to us may have no id of this form: it is kept as it is.
			record, err := readObject(raw)
			id, idErr := record.id("id")
			kind, kindErr := record.get("result_type")
			known := err == nil && idErr == nil && kindErr == nil && id != ""
			k := key{scalar(kind), id}
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
