package zendeskapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	// MaxSearchResults is how many results of one search Zendesk gives out.
	MaxSearchResults = 1000
	// MaxSearchBytes is how large what is kept of the records of one search may be in all.
	MaxSearchBytes = 16 << 20

	concurrentPages = 3
	keptStep        = 256 << 10 // of the memory for it, which is taken in steps
)

// SearchQuery is what to search for.
type SearchQuery struct {
	Query     string // in Zendesk's search language; escaped here
	SortBy    string // updated_at, created_at, priority, status or ticket_type; empty: by relevance
	SortOrder string // asc or desc; empty: Zendesk's choice, desc
	Max       int    // how many records are wanted: 1 to MaxSearchResults

	// Keep returns what is to be kept of a record, a valid JSON object. It must not hold the record itself, is called while
	// the answers are read, and from several goroutines at once. An error of it makes the answer a BadResponse. Nil: all.
	Keep func(record json.RawMessage) (json.RawMessage, error)
	// Kept names what Keep keeps: who asks the same meanwhile, and has the same kept, shares the answer. With a Keep and
	// without a name it is not shared.
	Kept string
}

// Pages is how many requests it takes at most, from 1.
func (q SearchQuery) Pages() int { return (q.Max + pageSize - 1) / pageSize }

// Request is what is asked for a page, from 1.
func (q SearchQuery) Request(page int) (path, query string) {
	values := url.Values{
		"query":    {q.Query},
		"page":     {strconv.Itoa(page)},
		"per_page": {strconv.Itoa(min(q.Max, pageSize))},
	}
	if q.SortBy != "" {
		values.Set("sort_by", q.SortBy)
	}
	if q.SortOrder != "" {
		values.Set("sort_order", q.SortOrder)
	}
	return apiPath("search"), encodeQuery(values)
}

// SearchResult is what a search found. Others may have the same records: nobody changes them.
type SearchResult struct {
	Records    []json.RawMessage // JSON objects as Zendesk sent them but for the account's secrets, or what Keep made of them, in its order; never nil without an error
	TotalCount int64             // how many there are in Zendesk; may be more than Records
	StatusCode int               // HTTP status of the first page

	body   func() string
	memory *memory
}

// Body is the first page as text, like [Error.Body]. Taking the secrets out of it takes a while: who needs it asks for it.
func (r SearchResult) Body() string {
	if r.body == nil {
		return ""
	}
	return r.body()
}

// Release gives back the memory that the records take of [TransportConfig.AnswerMemory]. It is for who has done with them:
// others wait for it. Without it, that happens when the result is garbage.
func (r SearchResult) Release() {
	if r.memory != nil {
		r.memory.release()
	}
}

// memory is what a result holds of the answers' memory, alone or with others.
type memory struct {
	guest   *guest
	holders *atomic.Int32
	release func() // once; also when the result is garbage
}

// heldBy holds what a guest has, for one more of its holders. The guest leaves with the last of them.
func heldBy(g *guest, holders *atomic.Int32) *memory {
	holders.Add(1)
	m := &memory{guest: g, holders: holders, release: sync.OnceFunc(func() {
		if holders.Add(-1) == 0 {
			g.leave()
		}
	})}
	runtime.AddCleanup(m, func(release func()) { release() }, m.release)
	return m
}

// Search finds records of every type. Pages after the first are fetched three at a time; a record that comes twice,
// because the index moved between pages, is kept once. A page with more records than it counts, or with none where it
// counts some, is asked for once more; more is then taken for what there is. Of all pages together few are asked for again.
//
// Who asks the same as the same account and with the same credential while a search runs gets the answer of that one. Each
// waits no longer than its ctx lasts; the search ends with the last of them.
//
// It returns all that is asked for, or an error: of the kinds of a read; InvalidRequest when Zendesk does not understand
// the query, and when what is to be kept is larger than MaxSearchBytes; BadResponse when an answer holds no list of objects,
// counts what cannot be, or still holds nothing where it counts something. With the error of a later page, or of one that counts what it does not hold, the result has what there is up to it: it must
// not pass for the whole.
// https://developer.zendesk.com/api-reference/ticketing/ticket-management/search/#list-search-results
func (c *Client) Search(ctx context.Context, q SearchQuery) (SearchResult, error) {
	if q.Max < 1 || q.Max > MaxSearchResults {
		return SearchResult{}, invalid(searchOp, fmt.Sprintf("the number of results must be 1 to %d", MaxSearchResults))
	}
	if q.Keep != nil && q.Kept == "" {
		return c.search(ctx, new(budget), q)
	}
	what := fmt.Sprintf("%q %q %q %d %q", q.Query, q.SortBy, q.SortOrder, q.Max, q.Kept)
	return readOnce(ctx, c, searchOp, what, sharedRead[SearchResult]{
		read: func(ctx context.Context, b *budget) (SearchResult, error) { return c.search(ctx, b, q) },
		take: func(found SearchResult) SearchResult {
			found.memory = heldBy(found.memory.guest, found.memory.holders)
			return found
		},
		drop: SearchResult.Release,
	})
}

// SearchRefused returns the error with which Search would be refused now, before it waits: too many wait already, or its
// endpoint is left alone. Nil: it would not be. It costs little; of the configuration it needs no credential.
func (t *Transport) SearchRefused(ctx context.Context, c Config) error {
	e := t.refuses(ctx, breakerKey{c.Origin, c.Account, searchOp}, limit.Request{
		Origin: c.Origin, Endpoint: searchOp, Tenant: c.Tenant, Account: c.Account, MaxShare: c.MaxShare, Lane: c.Lane,
	})
	if e == nil {
		return nil
	}
	e.Op = searchOp
	return e
}

func (c *Client) search(ctx context.Context, all *budget, q SearchQuery) (SearchResult, error) {
	search := &search{client: c, query: q, budget: all, guest: c.transport.room.enter(ctx, owner{c.tenant, c.origin})}
	handed := false
	defer func() {
		if !handed {
			search.guest.leave()
		}
	}()
	go c.secrets() // are made while Zendesk works
	found, err := c.searchPages(ctx, search)
	if err == nil {
		found.memory, handed = heldBy(search.guest, new(atomic.Int32)), true
	}
	return found, err
}

// searchOp names what is asked in errors and limits.
const searchOp = "search"

// search is what the pages of one search share.
type search struct {
	client *Client
	query  SearchQuery
	budget *budget
	guest  *guest
	kept   atomic.Int64 // bytes of all pages
}

func (c *Client) searchPages(ctx context.Context, s *search) (SearchResult, error) {
	q := s.query
	firstPage, got, err := c.searchPage(ctx, s, 1, 0)
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
				pages[i], _, errs[i] = c.searchPage(groupCtx, s, i+1, total)
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
		body:       sync.OnceValue(func() string { return c.tellBody(got.body) }),
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
func (c *Client) searchPage(ctx context.Context, s *search, number int, total int64) (searchAnswer, *answer, error) {
	q, size := s.query, min(s.query.Max, pageSize)
	path, query := q.Request(number)
	attempts := 0
	for {
		page := searchAnswer{search: s}
		r := request{op: searchOp, method: http.MethodGet, path: path, query: query, guest: s.guest}
		got, err := c.doWithin(ctx, s.budget, true, r, &page)
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
		e := c.badResponse(searchOp, got, errIncomplete)
		if wait := backoff(e, 1); again && waitFits(ctx, wait) && s.budget.repeat() {
			page.begin() // forgets
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
	search  *search
	results []found
	here    int   // how many there are; of more than are wanted, the rest is not in results
	kept    int64 // bytes of results
	step    int64 // bytes that are taken for more of them
	count   int64 // -1: not told
	more    bool  // there is a link to a next page
}

// found is a record that was found. Those of types unknown to us may have no id of this form: they are not known.
type found struct {
	kind, id string
	known    bool
	kept     json.RawMessage
}

// begin implements lister.
func (a *searchAnswer) begin() string {
	a.search.kept.Add(-a.kept)
	a.search.guest.giveBack(a.kept + a.step)
	*a = searchAnswer{search: a.search}
	return "results"
}

var errTooMuch = &Error{
	Kind:   InvalidRequest,
	Detail: fmt.Sprintf("the records found are larger than %d MiB in all: ask for fewer columns, or for fewer records", MaxSearchBytes>>20),
}

// element keeps what is wanted of a record.
func (a *searchAnswer) element(in *intake, raw json.RawMessage) error {
	o, err := partsNamed(raw, "id", "result_type")
	if err != nil {
		return errNotRecords
	}
	if a.here++; a.here > a.search.query.Max {
		return nil
	}
	id, idErr := o.id("id")
	kind, kindErr := o.get("result_type")
	f := found{kind: scalar(kind), id: id, known: idErr == nil && kindErr == nil && id != "", kept: raw}
	if keep := a.search.query.Keep; keep != nil {
		if f.kept, err = keep(raw); err != nil {
			return errNotRecords
		}
	}
	if f.kept, err = a.search.client.tellRecord(f.kept); err != nil {
		return err
	}
	size := int64(len(f.kept)) + recordBytes
	if a.search.kept.Add(size) > MaxSearchBytes {
		a.search.kept.Add(-size)
		e := *errTooMuch
		return &e
	}
	a.kept += size
	if a.step -= size; a.step < 0 {
		more := max(keptStep, -a.step)
		if err := in.keep(more); err != nil {
			a.step += size
			a.kept -= size
			a.search.kept.Add(-size)
			return err
		}
		a.step += more
	}
	f.kept = bytes.Clone(f.kept) // it was a part of the window, or longer than it seems
	a.results = append(a.results, f)
	return nil
}

func (a *searchAnswer) read(o object) error {
	a.search.guest.giveBack(a.step) // no more comes
	a.step = 0
	switch list, err := o.list("results"); {
	case err != nil:
		return err
	case list == nil:
		return errNotRecords
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
func (a *searchAnswer) total() int64 { return max(a.count, int64(a.here)) }

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
	here := int64(a.here)
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
		for _, f := range page.results {
			k := key{f.kind, f.id}
			if f.known && seen[k] {
				continue
			}
			seen[k] = true
			if records = append(records, f.kept); len(records) == n {
				return records
			}
		}
	}
	return records
}
