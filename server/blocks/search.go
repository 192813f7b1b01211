package blocks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/once"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// Variables that every block which asks Zendesk sets.
const (
	resultCode = "integrationResultCode"
	resultBody = "integrationResultBody"
)

// What Zendesk calls the fields and the ways to sort.
var (
	sortFields = map[zendeskv1.SortBy]string{
		zendeskv1.SortBy_SORT_BY_UPDATED_AT:  "updated_at",
		zendeskv1.SortBy_SORT_BY_CREATED_AT:  "created_at",
		zendeskv1.SortBy_SORT_BY_PRIORITY:    "priority",
		zendeskv1.SortBy_SORT_BY_STATUS:      "status",
		zendeskv1.SortBy_SORT_BY_TICKET_TYPE: "ticket_type",
	}
	sortOrders = map[zendeskv1.SortOrder]string{
		zendeskv1.SortOrder_SORT_ORDER_ASC:  "asc",
		zendeskv1.SortOrder_SORT_ORDER_DESC: "desc",
	}
)

// Search implements BlockService.
func (s *Service) Search(ctx context.Context, req *zendeskv1.SearchRequest) (*zendeskv1.SearchResponse, error) {
	query, err := validateSearch(req)
	if err != nil {
		return nil, err
	}
	inVain := func(ctx context.Context, b *block, f *zendeskv1.Failure) (*zendeskv1.SearchResponse, error) {
		return finishSearch(ctx, s, b, req, searchPlan{}, searchResult{failure: f}, asSearch)
	}
	return executeOnce(ctx, s, "Search", req, inVain, func(ctx context.Context, b *block) (*zendeskv1.SearchResponse, error) {
		plan, answer, err := s.planSearch(ctx, b, req, query)
		if err != nil || answer != nil {
			return answer, err
		}
		if b.explained != nil {
			plan.explain(b, req)
			return &zendeskv1.SearchResponse{Account: rpc.AccountUseToProto(plan.use)}, nil
		}
		found := s.search(ctx, plan, req)
		defer found.release()
		return finishSearch(ctx, s, b, req, plan, found, asSearch)
	})
}

func validateSearch(req *zendeskv1.SearchRequest) (*variables.Template, error) {
	var v violations
	v.block(req)
	query := v.requiredTemplate("search_string", req.GetSearchString())
	v.RecordsetName("recordset_name", req.GetRecordsetName())
	if req.GetMaxResults() < 0 || req.GetMaxResults() > maxSearchResults {
		v.Add("max_results", "must be 1 to %d, or 0 for %d", maxSearchResults, defaultResults)
	}
	v.Enum("sort_by", req.GetSortBy())
	v.Enum("sort_order", req.GetSortOrder())
	v.columns(req.GetColumns())
	return query, v.Err()
}

// searchPlan is what a Search will do, as decided before Zendesk is asked.
type searchPlan struct {
	account store.Account
	use     store.AccountUse
	query   string
}

// searchResult is what a Search got: records and the columns of the first, or a failure.
type searchResult struct {
	records []json.RawMessage
	first   map[string]string
	total   int64
	code    string        // integrationResultCode
	body    func() string // integrationResultBody, for when it is wanted; nil: none
	failure *zendeskv1.Failure

	answer zendeskapi.SearchResult // whose memory the records are in
}

// release is for when the records are stored: others wait for their memory.
func (r searchResult) release() { r.answer.Release() }

// planSearch decides in one transaction whom to ask for what. It writes nothing but a failure: the account is pinned when the
// search is finished, so that the caller waits for one commit. It returns an answer instead of a plan when the request was
// answered before, or fails without Zendesk.
func (s *Service) planSearch(ctx context.Context, b *block, req *zendeskv1.SearchRequest, query *variables.Template) (plan searchPlan, answer *zendeskv1.SearchResponse, err error) {
	vars, err := s.values(ctx, b, query)
	if err != nil {
		return searchPlan{}, nil, err
	}
	inTime, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	var refused error // without a request: that takes no second transaction
	err = s.update(ctx, b, func(tx *store.InteractionTxn) error {
		plan, answer, refused = searchPlan{}, nil, nil
		kept, found, err := keptAnswer[*zendeskv1.SearchResponse](tx, b)
		if err != nil {
			return err
		}
		if found {
			answer = kept
			return nil
		}
		f := overFor(tx, b.rpc)
		if f == nil {
			if plan, f, err = planOf(tx, vars, req, query); err != nil {
				return err
			}
		}
		if f == nil {
			if refused = s.credentials.SearchRefused(inTime, limit.Blocks, b.tenant, plan.account); refused != nil {
				f = zendeskFailure(refused)
			}
		}
		if f != nil {
			answer, err = publishSearch(tx, req, plan, searchResult{failure: f}, nil)
		}
		return err
	})
	if refused != nil {
		rpc.AddFields(ctx, slog.String("message", refused.Error()))
	}
	return plan, answer, err
}

func planOf(tx *store.InteractionTxn, vars *values, req *zendeskv1.SearchRequest, query *variables.Template) (searchPlan, *zendeskv1.Failure, error) {
	var plan searchPlan
	var f *zendeskv1.Failure
	var err error
	if plan.account, plan.use, f, err = accountToUse(tx); err != nil || f != nil {
		return plan, f, err
	}
	if plan.query, f = vars.expand(query, variables.SearchString, plan.account.DefaultRegion, rpc.MaxText); f != nil {
		return plan, f, nil
	}
	return plan, noRoom(tx.RecordsetNames(), req.GetRecordsetName()), nil
}

// noRoom is the failure for a recordset that an interaction has no room for beside those it has; nil if it has.
func noRoom(names []string, name string) *zendeskv1.Failure {
	if slices.Contains(names, name) || len(names) < maxRecordsets {
		return nil
	}
	return rpc.Failure(store.ReasonInvalidRequest,
		fmt.Sprintf("the interaction has %d recordsets, and no more are allowed", len(names)))
}

// queryFor is what Zendesk is asked.
func (p *searchPlan) queryFor(req *zendeskv1.SearchRequest) zendeskapi.SearchQuery {
	return zendeskapi.SearchQuery{
		Query: p.query, SortBy: sortFields[req.GetSortBy()], SortOrder: sortOrders[req.GetSortOrder()],
		Max: cmp.Or(int(req.GetMaxResults()), defaultResults),
	}
}

// explain says what would be asked.
func (p *searchPlan) explain(b *block, req *zendeskv1.SearchRequest) {
	query := p.queryFor(req)
	for page := 1; page <= min(2, query.Pages()); page++ {
		condition := ""
		if page > 1 {
			condition = fmt.Sprintf("when there are more records: this page and the ones behind it, up to page %d", query.Pages())
		}
		path, encoded := query.Request(page)
		b.wouldAsk(http.MethodGet, path, encoded, nil, condition)
	}
	b.would("up to %d records become the recordset %q", query.Max, req.GetRecordsetName())
}

// search asks Zendesk.
func (s *Service) search(ctx context.Context, plan searchPlan, req *zendeskv1.SearchRequest) searchResult {
	ctx, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	columns := req.GetColumns()
	wanted := plan.queryFor(req)
	if len(columns) > 0 {
		wanted.Kept = fmt.Sprintf("%q", columns)
		wanted.Keep = func(record json.RawMessage) (json.RawMessage, error) { return recordset.Prune(record, columns) }
	}
	var answer zendeskapi.SearchResult
	var err error
	rpc.Aside(ctx, func() {
		err = s.credentials.Do(ctx, limit.Blocks, rpc.Tenant(ctx), &plan.account, func(client *zendeskapi.Client) (err error) {
			answer, err = client.Search(ctx, wanted)
			return err
		})
	})
	if err != nil {
		rpc.AddFields(ctx, slog.String("message", err.Error())) // with the cause, and nothing that was asked or answered
		return failedSearch(err, answer)
	}
	result := searchResult{
		records: answer.Records, total: answer.TotalCount, code: strconv.Itoa(answer.StatusCode), body: answer.Body, answer: answer,
	}
	if len(result.records) > 0 {
		if result.first, err = recordset.Flatten(result.records[0], columns); err != nil {
			answer.Release()
			return unreadableSearch(result, err)
		}
	}
	return result
}

// zendeskFailure words an error of the client for the caller.
func zendeskFailure(err error) *zendeskv1.Failure {
	f := credentials.FailureOf(err)
	return rpc.FailureToProto(&f)
}

// failedSearch words an error of the client. What had come until then is no recordset: it would pass for the whole.
func failedSearch(err error, until zendeskapi.SearchResult) searchResult {
	result := searchResult{failure: zendeskFailure(err)}
	if n := len(until.Records); n > 0 {
		result.failure.Message += fmt.Sprintf("; %d of %d records had come", n, until.TotalCount)
	}
	if api, ok := errors.AsType[*zendeskapi.Error](err); ok && api.StatusCode != 0 {
		result.code, result.body = strconv.Itoa(api.StatusCode), api.Body
	}
	return result
}

// unreadableSearch is for records that answered the search and that nobody could read later.
func unreadableSearch(result searchResult, err error) searchResult {
	f := rpc.Failure(store.ReasonBadResponse, "Zendesk's answer is not readable: "+err.Error())
	return result.failed(f)
}

// failed is what is told of an answer that cannot be used.
func (r searchResult) failed(f *zendeskv1.Failure) searchResult {
	return searchResult{failure: f, code: r.code, body: r.body}
}

// recordsetRequest is what the requests of blocks have that keep what they find.
type recordsetRequest interface {
	GetRecordsetName() string
	GetColumns() []string
	GetIncludeResultBody() bool
}

// asSearch is how a search answers.
func asSearch(resp *zendeskv1.SearchResponse) *zendeskv1.SearchResponse { return resp }

// finishSearch keeps what was found and words the answer, which as makes of a search's.
func finishSearch[R response](ctx context.Context, s *Service, b *block, req recordsetRequest, plan searchPlan, found searchResult,
	as func(*zendeskv1.SearchResponse) R,
) (R, error) {
	resp, err := keepSearch(ctx, s, b, req, plan, found, as)
	switch {
	case errors.Is(err, store.ErrTooLarge):
		return keepSearch(ctx, s, b, req, plan, unreadableSearch(found, errTooLarge), as)
	case errors.Is(err, store.ErrStagedGone):
		return keepSearch(ctx, s, b, req, plan, found.failed(rpc.Failure(store.ReasonInteractionCompleted,
			"the interaction was completed while the search ran, and its records went with the others")), as)
	}
	return resp, err
}

var errTooLarge = errors.New("a record is larger than can be kept, or has more columns than can be told")

// keepSearch publishes in one transaction, unless the interaction has changed meanwhile so that it takes no more. Errors:
// [store.ErrTooLarge] when a record or its columns are, [store.ErrStagedGone].
func keepSearch[R response](ctx context.Context, s *Service, b *block, req recordsetRequest, plan searchPlan, found searchResult,
	as func(*zendeskv1.SearchResponse) R,
) (resp R, err error) {
	var staged *store.StagedRecords
	if found.failure == nil {
		if staged, err = s.store.StageRecords(ctx, b.tenant, b.interaction, found.records); err != nil {
			return resp, err
		}
	}
	err = s.update(ctx, b, func(tx *store.InteractionTxn) error {
		kept, repeated, err := keptAnswer[R](tx, b)
		if err != nil || repeated {
			resp = kept
			return err
		}
		result, f := found, overFor(tx, b.rpc)
		if f == nil && found.failure == nil {
			f = noRoom(tx.RecordsetNames(), req.GetRecordsetName())
		}
		if f != nil {
			result = found.failed(f)
		}
		published, err := publishSearch(tx, req, plan, result, staged)
		if err != nil {
			return err
		}
		if resp = as(published); result.failure != nil {
			return nil
		}
		return once.Keep(tx, b.rpc, b.request, resp)
	})
	return resp, err
}

// publishSearch replaces the recordset by what was found, or removes it after a failure.
func publishSearch(tx *store.InteractionTxn, req recordsetRequest, plan searchPlan, found searchResult, staged *store.StagedRecords) (*zendeskv1.SearchResponse, error) {
	pin(tx, plan.use)
	rs := keptRecords{
		name: req.GetRecordsetName(), use: plan.use, query: plan.query, columns: req.GetColumns(), total: found.total,
		records: found.records, first: found.first, failed: found.failure != nil, staged: staged,
	}
	resp := &zendeskv1.SearchResponse{Exit: zendeskv1.Exit_EXIT_NEXT, Account: rpc.AccountUseToProto(plan.use), Failure: found.failure}
	var err error
	if resp.Recordset, resp.Variables, err = rs.publish(tx, plan.account.URL); err != nil {
		return nil, err
	}
	resp.Variables[resultCode], resp.Variables[resultBody] = found.code, ""
	if found.body != nil && (found.failure != nil || req.GetIncludeResultBody()) {
		resp.Variables[resultBody] = found.body()
	}
	switch {
	case found.failure != nil:
		resp.Exit = zendeskv1.Exit_EXIT_FAILED
	case len(found.records) == 0:
		resp.Exit = zendeskv1.Exit_EXIT_NO_DATA
	}
	return resp, nil
}

// keptRecords are records that a block has got, and what is kept with them as a recordset.
type keptRecords struct {
	name    string
	use     store.AccountUse
	query   string
	columns []string
	total   int64
	records []json.RawMessage
	first   map[string]string // the columns of the first
	failed  bool              // there are none, since the block FAILED
	staged  *store.StagedRecords
}

// publish replaces the recordset of the name, or removes it after a failure, and returns it with all variables that the scenario
// must set for it. Errors: [store.ErrTooLarge] when they are too many to be told.
func (k *keptRecords) publish(tx *store.InteractionTxn, origin string) (*zendeskv1.Recordset, map[string]string, error) {
	before, err := tx.Recordset(k.name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, nil, err
	}
	rs := store.Recordset{
		Name: k.name, Account: k.use, Query: k.query, Columns: k.columns, ColumnsSet: recordset.Union(before.ColumnsSet, k.first),
		Count: len(k.records), Total: k.total, Removed: k.failed,
	}
	if rs.Count > 0 {
		rs.Position = 1
	}
	vars := recordVariables(rs, k.first)
	if k.failed {
		tx.RemoveRecordset(rs.Name)
		return nil, vars, nil
	}
	if err := tellable(vars); err != nil {
		return nil, nil, err
	}
	tx.PublishRecordset(rs, k.staged)
	var current *zendeskv1.Record
	if rs.Count > 0 {
		current = rpc.RecordToProto(k.records[0], origin)
	}
	return rpc.RecordsetToProto(rs, current), vars, nil
}
