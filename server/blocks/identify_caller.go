package blocks

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/people"
	"github.com/scenarioblocks/zendeskblocks/server/phone"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// How the API calls what package people decides.
var (
	policies = map[zendeskv1.MatchPolicy]people.Policy{
		zendeskv1.MatchPolicy_MATCH_POLICY_UNSPECIFIED: people.Refuse,
		zendeskv1.MatchPolicy_MATCH_POLICY_FIRST:       people.First,
		zendeskv1.MatchPolicy_MATCH_POLICY_MOST_RECENT: people.MostRecent,
		zendeskv1.MatchPolicy_MATCH_POLICY_REFUSE:      people.Refuse,
		zendeskv1.MatchPolicy_MATCH_POLICY_ALL:         people.All,
	}
	grades = map[phone.Grade]zendeskv1.MatchGrade{
		phone.Exact:    zendeskv1.MatchGrade_MATCH_GRADE_EXACT,
		phone.National: zendeskv1.MatchGrade_MATCH_GRADE_NATIONAL,
		phone.Suffix:   zendeskv1.MatchGrade_MATCH_GRADE_SUFFIX,
	}
	matchedBy = map[people.By]zendeskv1.MatchedBy{
		people.TicketID:   zendeskv1.MatchedBy_MATCHED_BY_TICKET_ID,
		people.ExternalID: zendeskv1.MatchedBy_MATCHED_BY_EXTERNAL_ID,
		people.Email:      zendeskv1.MatchedBy_MATCHED_BY_EMAIL,
		people.Phone:      zendeskv1.MatchedBy_MATCHED_BY_PHONE,
	}
)

// IdentifyCaller implements BlockService.
func (s *Service) IdentifyCaller(ctx context.Context, req *zendeskv1.IdentifyCallerRequest) (*zendeskv1.IdentifyCallerResponse, error) {
	sought, err := validateIdentify(req)
	if err != nil {
		return nil, err
	}
	failed := func(resp *zendeskv1.SearchResponse) *zendeskv1.IdentifyCallerResponse {
		return identified(resp, people.Found{}, 0)
	}
	inVain := func(ctx context.Context, b *block, f *zendeskv1.Failure) (*zendeskv1.IdentifyCallerResponse, error) {
		return finishSearch(ctx, s, b, req, searchPlan{}, searchResult{failure: f}, failed)
	}
	return executeOnce(ctx, s, "IdentifyCaller", req, inVain, func(ctx context.Context, b *block) (*zendeskv1.IdentifyCallerResponse, error) {
		plan, answer, err := planPeople(ctx, s, b, req, sought, failed)
		if err != nil || answer != nil {
			return answer, err
		}
		if b.explained != nil {
			plan.explain(b, req, plan.sought.Plan(plan.account))
			return &zendeskv1.IdentifyCallerResponse{Account: rpc.AccountUseToProto(plan.use)}, nil
		}
		found, requests, result := s.askPeople(ctx, req, &plan, func(ctx context.Context) (people.Found, error) {
			return s.people.Identify(ctx, b.tenant, &plan.account, plan.sought, policies[req.GetPolicy()])
		})
		return finishSearch(ctx, s, b, req, plan.searchPlan, result, func(resp *zendeskv1.SearchResponse) *zendeskv1.IdentifyCallerResponse {
			return identified(resp, found, requests)
		})
	})
}

func validateIdentify(req *zendeskv1.IdentifyCallerRequest) (*soughtTemplates, error) {
	var v violations
	v.block(req)
	sought := v.sought(req.GetTicketId(), req.GetExternalId(), req.GetEmail(), req.GetPhone(), "ticket_id, external_id, email and phone")
	v.RecordsetName("recordset_name", req.GetRecordsetName())
	v.Enum("policy", req.GetPolicy())
	v.columns(req.GetColumns())
	return sought, v.Err()
}

// identified words the answer, which is that of a search with who it was.
func identified(resp *zendeskv1.SearchResponse, found people.Found, requests int32) *zendeskv1.IdentifyCallerResponse {
	answer := &zendeskv1.IdentifyCallerResponse{
		Exit: resp.GetExit(), Variables: resp.GetVariables(), Account: resp.GetAccount(), Failure: resp.GetFailure(),
		Recordset: resp.GetRecordset(), Requests: requests,
	}
	if answer.Failure != nil || found.Total == 0 {
		return answer
	}
	answer.Grade, answer.MatchedBy = grades[found.Grade], matchedBy[found.By]
	answer.MatchedField, answer.MatchedQuery, answer.Suspended = found.Field, found.Query, found.Suspended
	if found.Several {
		answer.Exit = zendeskv1.Exit_EXIT_MULTIPLE
	} else {
		answer.Record = resp.GetRecordset().GetCurrent()
	}
	return answer
}

// soughtTemplates are the settings that say who is sought.
type soughtTemplates struct {
	ticketID, externalID, email, phone *variables.Template
}

func (t *soughtTemplates) all() []*variables.Template {
	return []*variables.Template{t.ticketID, t.externalID, t.email, t.phone}
}

// sought checks the settings that say who is sought; one of them, as named in which, is required.
func (v *violations) sought(ticketID, externalID, email, phone, which string) *soughtTemplates {
	if strings.TrimSpace(ticketID+externalID+email+phone) == "" {
		v.Add("phone", "is required, or another one of %s", which)
		return nil
	}
	return &soughtTemplates{
		ticketID: v.template("ticket_id", ticketID), externalID: v.template("external_id", externalID),
		email: v.template("email", email), phone: v.template("phone", phone),
	}
}

// expand replaces the variables. What nobody set is empty: another setting may say who it is. The failure is for settings
// none of which can identify anybody.
func (t *soughtTemplates) expand(vars *values, region string) (sought people.Sought, f *zendeskv1.Failure) {
	undefined := ""
	for _, setting := range []struct {
		template *variables.Template
		into     *string
	}{{t.ticketID, &sought.TicketID}, {t.externalID, &sought.ExternalID}, {t.email, &sought.Email}, {t.phone, &sought.Phone}} {
		if *setting.into, f = vars.expand(setting.template, variables.Text, region, rpc.MaxText); f != nil {
			return sought, f
		}
		for name := range setting.template.Names() {
			if _, set := vars.lookup(name); !set && undefined == "" {
				undefined = name
			}
		}
	}
	switch {
	case sought.Identifies(region):
		return sought, nil
	case undefined != "":
		return sought, expandFailure(&variables.UndefinedError{Name: undefined})
	}
	return sought, rpc.Failure(store.ReasonEmptyValue, people.ErrNothing.Error())
}

// peoplePlan is what a block will look for, as decided before Zendesk is asked.
type peoplePlan struct {
	searchPlan
	sought people.Sought
	vars   *values
}

// planPeople decides in one transaction whom to ask for whom. As of a Search, it writes nothing but a failure. It returns an
// answer instead of a plan when the request was answered before, or fails without Zendesk.
func planPeople[R response](ctx context.Context, s *Service, b *block, req recordsetRequest, sought *soughtTemplates,
	failed func(*zendeskv1.SearchResponse) R, more ...*variables.Template,
) (plan peoplePlan, answer R, err error) {
	vars, err := s.values(ctx, b, append(sought.all(), more...)...)
	if err != nil {
		return peoplePlan{}, answer, err
	}
	err = s.update(ctx, b, func(tx *store.InteractionTxn) error {
		var none R
		plan, answer = peoplePlan{vars: vars}, none
		kept, found, err := keptAnswer[R](tx, b)
		if err != nil || found {
			answer = kept
			return err
		}
		f, err := plan.decide(tx, b, req, sought)
		if err != nil || f == nil {
			return err
		}
		resp, err := publishSearch(tx, req, plan.searchPlan, searchResult{failure: f}, nil)
		answer = failed(resp)
		return err
	})
	return plan, answer, err
}

// decide completes the plan, or says why nobody is asked.
func (p *peoplePlan) decide(tx *store.InteractionTxn, b *block, req recordsetRequest, sought *soughtTemplates) (f *zendeskv1.Failure, err error) {
	if f := overFor(tx, b.rpc); f != nil {
		return f, nil
	}
	if p.account, p.use, f, err = accountToUse(tx); err != nil || f != nil {
		return f, err
	}
	if p.sought, f = sought.expand(p.vars, p.account.DefaultRegion); f != nil {
		return f, nil
	}
	return noRoom(tx.RecordsetNames(), req.GetRecordsetName()), nil
}

// askPeople asks Zendesk, in time, and makes of who was found what a search would have found.
func (s *Service) askPeople(ctx context.Context, req recordsetRequest, plan *peoplePlan, ask func(context.Context) (people.Found, error)) (people.Found, int32, searchResult) {
	inTime, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	counted, count := zendeskapi.CountRequests(inTime)
	var found people.Found
	var err error
	rpc.Aside(counted, func() { found, err = ask(counted) })
	if err != nil {
		rpc.AddFields(ctx, slog.String("message", err.Error())) // with the cause, and nothing that was asked or answered
		return people.Found{}, count.Load(), failedSearch(err, zendeskapi.SearchResult{})
	}
	plan.query = found.Query
	result := searchResult{records: found.Records, total: int64(found.Total), body: found.Said.Body}
	if found.Said.StatusCode != 0 {
		result.code = strconv.Itoa(found.Said.StatusCode)
	}
	if err := result.reduce(req.GetColumns()); err != nil {
		return found, count.Load(), unreadableSearch(result, err)
	}
	return found, count.Load(), result
}

// reduce keeps of the records what is asked for, and flattens the first.
func (r *searchResult) reduce(columns []string) (err error) {
	records := make([]json.RawMessage, len(r.records))
	for i, record := range r.records {
		if records[i] = record; len(columns) > 0 {
			if records[i], err = recordset.Prune(record, columns); err != nil {
				return err
			}
		}
	}
	if r.records = records; len(records) > 0 {
		r.first, err = recordset.Flatten(records[0], columns)
	}
	return err
}

// explain says what would be asked.
func (p *peoplePlan) explain(b *block, req recordsetRequest, planned []people.Planned) {
	for _, r := range planned {
		b.wouldAsk(r.Method, r.Path, r.Query, r.Body, r.Condition)
	}
	b.would("who is found becomes the recordset %q", req.GetRecordsetName())
}
