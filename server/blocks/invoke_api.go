package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	maxInvokeResult   = 1 << 20  // of InvokeApiResponse.json
	maxResultVariable = 64 << 10 // of a variable
)

// invokeSettings are the settings of an InvokeApi, parsed.
type invokeSettings struct {
	path, json, onBehalfOf *variables.Template // json and onBehalfOf nil: none
	query, headers         map[string]*variables.Template
	result                 resultPath
}

func (i *invokeSettings) templates() []*variables.Template {
	templates := []*variables.Template{i.path, i.json, i.onBehalfOf}
	for _, each := range []map[string]*variables.Template{i.query, i.headers} {
		for _, t := range each {
			templates = append(templates, t)
		}
	}
	return templates
}

// InvokeApi implements BlockService.
func (s *Service) InvokeApi(ctx context.Context, req *zendeskv1.InvokeApiRequest) (*zendeskv1.InvokeApiResponse, error) { //nolint:revive // the API's name
	settings, err := validateInvoke(req)
	if err != nil {
		return nil, err
	}
	inVain := func(ctx context.Context, b *block, f *zendeskv1.Failure) (*zendeskv1.InvokeApiResponse, error) {
		return s.failInvoke(ctx, b, req, f)
	}
	return executeOnce(ctx, s, "InvokeApi", req, inVain, func(ctx context.Context, b *block) (*zendeskv1.InvokeApiResponse, error) {
		leave := func() {}
		if !zendeskapi.Reads(req.GetMethod()) {
			var ok bool
			if leave, ok = s.writes.enter(b.tenant); !ok {
				return s.failInvoke(ctx, b, req, errBusyWriting())
			}
		}
		plan, answer, err := s.planInvoke(ctx, b, req, settings)
		if err != nil || answer != nil {
			leave()
			return answer, err
		}
		return s.invoke(ctx, b, req, leave, plan)
	})
}

func validateInvoke(req *zendeskv1.InvokeApiRequest) (i invokeSettings, err error) {
	var v violations
	v.block(req)
	if !slices.Contains(zendeskapi.InvokeMethods, req.GetMethod()) {
		v.Add("method", "must be one of %s", strings.Join(zendeskapi.InvokeMethods, ", "))
	}
	i.path = v.requiredTemplate("path", req.GetPath())
	i.query = v.settings("query", req.GetQuery(), rpc.MaxQuery, rpc.MaxQueryKey, "must not be empty, nor _method", zendeskapi.QueryAllowed)
	i.headers = v.settings("headers", req.GetHeaders(), rpc.MaxHeaders, rpc.MaxHeaderName, "is no name of a header that a scenario may send", zendeskapi.HeaderAllowed)
	if req.GetJson() != "" {
		if i.json = v.setting("json", req.GetJson(), rpc.MaxObjectBytes); zendeskapi.Reads(req.GetMethod()) {
			v.Add("json", "must be empty with GET and HEAD")
		}
	}
	if req.GetOnBehalfOf() != "" {
		i.onBehalfOf = v.template("on_behalf_of", req.GetOnBehalfOf())
	}
	if len(req.GetResultPath()) > rpc.MaxText {
		v.Add("result_path", "has %d bytes; at most %d are allowed", len(req.GetResultPath()), rpc.MaxText)
	} else if i.result, err = parseResultPath(req.GetResultPath()); err != nil {
		v.Add("result_path", "%v", err)
	}
	switch result := req.GetResult().(type) {
	case *zendeskv1.InvokeApiRequest_ResultVariable:
		v.variable("result_variable", result.ResultVariable, true)
	case *zendeskv1.InvokeApiRequest_RecordsetName:
		v.RecordsetName("recordset_name", result.RecordsetName)
	}
	v.columns(req.GetColumns())
	return i, v.Err()
}

// settings checks a map of text settings, whose keys are no text settings.
func (v *violations) settings(field string, given map[string]string, count, key int, rule string, allowed func(string) bool) map[string]*variables.Template {
	if len(given) > count {
		v.Add(field, "has %d entries; at most %d are allowed", len(given), count)
		return nil
	}
	parsed := make(map[string]*variables.Template, len(given))
	for _, name := range sortedKeys(given) {
		at := fmt.Sprintf("%s[%q]", field, name)
		switch {
		case v.Full():
			return parsed
		case len(name) > key:
			v.Add(at, "has a key of %d bytes; at most %d are allowed", len(name), key)
		case !allowed(name):
			v.Add(at, "%s", rule)
		default:
			parsed[name] = v.template(at, given[name])
		}
	}
	return parsed
}

// invokePlan is what an InvokeApi will do, as decided before Zendesk is asked.
type invokePlan struct {
	account  store.Account
	use      store.AccountUse
	request  zendeskapi.Invocation
	settings invokeSettings
}

// planInvoke decides in one transaction whom to ask for what. It returns an answer instead of a plan when the request was
// answered before, or fails without Zendesk, or is only to be explained.
func (s *Service) planInvoke(ctx context.Context, b *block, req *zendeskv1.InvokeApiRequest, settings invokeSettings) (plan invokePlan, answer *zendeskv1.InvokeApiResponse, err error) {
	vars, err := s.values(ctx, b, settings.templates()...)
	if err != nil {
		return plan, nil, err
	}
	now := s.now()
	err = s.update(b.inTurn(ctx), b, func(tx *store.InteractionTxn) error {
		plan, answer = invokePlan{settings: settings}, nil
		kept, found, err := keptAnswer[*zendeskv1.InvokeApiResponse](tx, b)
		if err != nil {
			return err
		}
		if found {
			answer = kept
			return nil
		}
		f := overFor(tx, b.rpc)
		if f == nil {
			if f, err = plan.decide(tx, vars, req); err != nil {
				return err
			}
		}
		switch {
		case f != nil:
			answer, err = plan.publish(tx, req, invoked{failure: f}, nil)
		case b.explained != nil:
			plan.explain(b, req)
			answer = &zendeskv1.InvokeApiResponse{Account: rpc.AccountUseToProto(plan.use)}
		case !zendeskapi.Reads(req.GetMethod()):
			_, err = intend(tx, b, now, false, func(f *zendeskv1.Failure) *zendeskv1.InvokeApiResponse {
				return &zendeskv1.InvokeApiResponse{
					Exit: zendeskv1.Exit_EXIT_FAILED, Failure: f, Account: rpc.AccountUseToProto(plan.use), Variables: resultVariables("", ""),
				}
			})
		}
		return err
	})
	return plan, answer, err
}

// decide replaces the variables, and holds what comes of it to what the account allows.
func (p *invokePlan) decide(tx *store.InteractionTxn, vars *values, req *zendeskv1.InvokeApiRequest) (f *zendeskv1.Failure, err error) {
	if p.account, p.use, f, err = accountInForce(tx); err != nil || f != nil {
		return f, err
	}
	if f = p.expand(vars, req); f != nil {
		return f, nil
	}
	if f = accessDenied(p.account.APIAccess, &p.request); f != nil {
		return f, nil
	}
	if name := req.GetRecordsetName(); name != "" {
		return noRoom(tx.RecordsetNames(), name), nil
	}
	return nil, nil
}

// expand makes the request that Zendesk is sent.
func (p *invokePlan) expand(vars *values, req *zendeskv1.InvokeApiRequest) *zendeskv1.Failure {
	region := p.account.DefaultRegion
	invalid := func(format string, args ...any) *zendeskv1.Failure {
		return rpc.Failure(store.ReasonInvalidRequest, fmt.Sprintf(format, args...))
	}
	path, f := vars.expand(p.settings.path, variables.Path, region, rpc.MaxText)
	if f != nil {
		return about(f, "path")
	}
	p.request = zendeskapi.Invocation{Method: req.GetMethod(), Query: url.Values{}, Header: http.Header{}}
	var err error
	if p.request.Path, err = zendeskapi.InvokePath(path); err != nil {
		return invalid("%v", err)
	}
	for _, name := range sortedKeys(p.settings.query) {
		value, f := vars.expand(p.settings.query[name], variables.Query, region, rpc.MaxText)
		if f != nil {
			return about(f, fmt.Sprintf("query parameter %q", name))
		}
		p.request.Query.Set(name, value)
	}
	for _, name := range sortedKeys(p.settings.headers) {
		value, f := vars.expand(p.settings.headers[name], variables.Text, region, rpc.MaxText)
		if f != nil {
			return about(f, fmt.Sprintf("header %q", name))
		}
		if !zendeskapi.HeaderValueAllowed(value) {
			return invalid("header %q would have a line break or another control character in it", name)
		}
		p.request.Header.Set(name, value)
	}
	if p.settings.json != nil {
		text, f := vars.expand(p.settings.json, variables.JSON, region, maxObjectText)
		if f != nil {
			return about(f, "json")
		}
		if !json.Valid([]byte(text)) {
			return invalid("json: %v", errNotJSON)
		}
		p.request.Body = json.RawMessage(text)
	}
	if p.settings.onBehalfOf != nil {
		// Nobody must not become the credential's own user.
		who, f := vars.expand(p.settings.onBehalfOf, variables.Query, region, rpc.MaxText)
		if f != nil {
			return about(f, "on_behalf_of")
		}
		if who = strings.TrimSpace(who); who == "" || !zendeskapi.HeaderValueAllowed(who) {
			return invalid("on_behalf_of is empty, or has a control character in it")
		}
		p.request.OnBehalfOf = who
	}
	return nil
}

// accessDenied is the failure for a request that an account does not allow; nil if it does.
func accessDenied(access store.APIAccess, request *zendeskapi.Invocation) *zendeskv1.Failure {
	denied := func(format string, args ...any) *zendeskv1.Failure {
		return rpc.Failure(store.ReasonAccessDenied, "no request was sent: the account's api_access allows no "+fmt.Sprintf(format, args...))
	}
	methods := access.Methods
	if len(methods) == 0 {
		methods = []string{http.MethodGet, http.MethodHead}
	}
	if !slices.Contains(methods, request.Method) {
		return denied("%s", request.Method)
	}
	if request.OnBehalfOf != "" && !access.OnBehalfOf {
		return denied("request on behalf of end users")
	}
	segments := zendeskapi.Segments(request.Path)
	below := func(prefix string) bool {
		wanted := strings.Split(prefix, "/")
		return len(segments) >= len(wanted) && slices.Equal(segments[:len(wanted)], wanted)
	}
	if len(access.PathPrefixes) > 0 && !slices.ContainsFunc(access.PathPrefixes, below) {
		return denied("path outside of %s", strings.Join(access.PathPrefixes, ", "))
	}
	return nil
}

func (p *invokePlan) explain(b *block, req *zendeskv1.InvokeApiRequest) {
	condition := ""
	if p.request.OnBehalfOf != "" {
		condition = "in the name of the end user " + strconv.Quote(p.request.OnBehalfOf)
	}
	b.wouldAsk(p.request.Method, p.request.Path, p.request.EncodedQuery(), p.request.Body, condition)
	switch result := req.GetResult().(type) {
	case *zendeskv1.InvokeApiRequest_ResultVariable:
		b.would("what is at result_path becomes the variable %q", result.ResultVariable)
	case *zendeskv1.InvokeApiRequest_RecordsetName:
		b.would("what is at result_path becomes the recordset %q", result.RecordsetName)
	default:
		b.would("what is at result_path is returned")
	}
}

// invoked is what an InvokeApi got, or why it got nothing.
type invoked struct {
	code    string // integrationResultCode
	body    string // integrationResultBody, if it is wanted
	failure *zendeskv1.Failure
	value   json.RawMessage   // what is at the path; nil: nothing
	records []json.RawMessage // of a recordset
	first   map[string]string // the columns of the first
}

// invoke asks Zendesk, and keeps what is wanted of the answer.
func (s *Service) invoke(ctx context.Context, b *block, req *zendeskv1.InvokeApiRequest, leave func(), plan invokePlan) (*zendeskv1.InvokeApiResponse, error) {
	var answer zendeskapi.Invoked
	var got invoked
	var staged *store.StagedRecords
	e := errand[*zendeskv1.InvokeApiResponse]{account: plan.account, reads: zendeskapi.Reads(req.GetMethod())}
	e.ask = func(ctx context.Context, client *zendeskapi.Client, outlive zendeskapi.Outlive) (err error) {
		request := plan.request
		request.Outlive = outlive
		if answer, err = client.Invoke(ctx, request); err == nil {
			got = plan.take(req, answer)
		}
		return err
	}
	e.stage = func(ctx context.Context) (err error) {
		if req.GetRecordsetName() == "" || got.failure != nil {
			return nil
		}
		staged, err = s.store.StageRecords(ctx, b.tenant, b.interaction, got.records)
		if errors.Is(err, store.ErrTooLarge) {
			got, err = got.failed(store.ReasonBadResponse, errTooLarge), nil
		}
		return err
	}
	e.finish = func(tx *store.InteractionTxn) (*zendeskv1.InvokeApiResponse, error) {
		resp, err := plan.publish(tx, req, got, staged)
		if errors.Is(err, store.ErrTooLarge) {
			return plan.publish(tx, req, got.failed(store.ReasonBadResponse, errTooLarge), nil)
		}
		return resp, err
	}
	e.fail = func(tx *store.InteractionTxn, f *zendeskv1.Failure, err *zendeskapi.Error) (*zendeskv1.InvokeApiResponse, error) {
		failed := invoked{failure: f}
		if err != nil && err.StatusCode != 0 {
			failed.code, failed.body = strconv.Itoa(err.StatusCode), err.Body()
		}
		return plan.publish(tx, req, failed, nil)
	}
	e.release = func() { answer.Release() }
	resp, err := run(ctx, s, b, leave, e)
	if errors.Is(err, store.ErrStagedGone) {
		got = got.failed(store.ReasonInteractionCompleted, errors.New("the interaction was completed while Zendesk was asked, and its records went with the others"))
		return settle(ctx, s, b, e, outcome{})
	}
	return resp, err
}

// take takes what is wanted of an answer.
func (p *invokePlan) take(req *zendeskv1.InvokeApiRequest, answer zendeskapi.Invoked) invoked {
	got := invoked{code: strconv.Itoa(answer.StatusCode), body: answer.Body, value: p.settings.result.of(answer.Content)}
	if isNull(got.value) {
		got.value = nil
	}
	switch result := req.GetResult().(type) {
	case *zendeskv1.InvokeApiRequest_RecordsetName:
		return got.asRecords(req.GetColumns())
	case *zendeskv1.InvokeApiRequest_ResultVariable:
		if got.value != nil && len(textOfValue(got.value)) > maxResultVariable {
			return got.failed(store.ReasonInvalidRequest, fmt.Errorf("what is at result_path has more than the %d bytes that the variable %q holds", maxResultVariable, result.ResultVariable))
		}
	}
	if len(got.value) > maxInvokeResult {
		return got.failed(store.ReasonInvalidRequest, fmt.Errorf("what is at result_path has more than %d bytes: ask for less of it", maxInvokeResult))
	}
	return got
}

// asRecords makes records of what is at the path.
func (i invoked) asRecords(columns []string) invoked {
	if i.value == nil {
		return i
	}
	records, err := recordsOf(i.value)
	if err != nil {
		return i.failed(store.ReasonInvalidRequest, err)
	}
	for n, record := range records {
		if records[n], err = recordset.Prune(record, columns); err != nil {
			return i.failed(store.ReasonBadResponse, err)
		}
	}
	if len(records) > 0 {
		if i.first, err = recordset.Flatten(records[0], columns); err != nil {
			return i.failed(store.ReasonBadResponse, err)
		}
	}
	i.records = records
	return i
}

// failed is what is told of an answer that cannot be used.
func (i invoked) failed(reason store.FailureReason, why error) invoked {
	return invoked{code: i.code, body: i.body, failure: rpc.Failure(reason, why.Error())}
}

// failInvoke is for a request that failed without being planned.
func (s *Service) failInvoke(ctx context.Context, b *block, req *zendeskv1.InvokeApiRequest, f *zendeskv1.Failure) (resp *zendeskv1.InvokeApiResponse, err error) {
	err = s.update(ctx, b, func(tx *store.InteractionTxn) error {
		kept, found, err := keptAnswer[*zendeskv1.InvokeApiResponse](tx, b)
		if err != nil || found {
			resp = kept
			return err
		}
		resp, err = (&invokePlan{}).publish(tx, req, invoked{failure: f}, nil)
		return err
	})
	return resp, err
}

// publish stores what was got, and words the answer. Without a transaction it stores nothing.
func (p *invokePlan) publish(tx *store.InteractionTxn, req *zendeskv1.InvokeApiRequest, got invoked, staged *store.StagedRecords) (*zendeskv1.InvokeApiResponse, error) {
	resp := &zendeskv1.InvokeApiResponse{
		Exit: zendeskv1.Exit_EXIT_NEXT, Failure: got.failure, Account: rpc.AccountUseToProto(p.use), Variables: map[string]string{},
	}
	empty := got.value == nil
	if name := req.GetRecordsetName(); name != "" && tx != nil {
		rs := keptRecords{
			name: name, use: p.use, query: strings.TrimSuffix(p.request.Method+" "+p.request.Path+"?"+p.request.EncodedQuery(), "?"),
			columns: req.GetColumns(), total: int64(len(got.records)), records: got.records, first: got.first, failed: got.failure != nil, staged: staged,
		}
		var err error
		if resp.Recordset, resp.Variables, err = rs.publish(tx, p.account.URL); err != nil {
			return nil, err
		}
		empty = len(got.records) == 0
	}
	resp.Variables[resultCode], resp.Variables[resultBody] = got.code, ""
	if got.failure != nil || req.GetIncludeResultBody() {
		resp.Variables[resultBody] = got.body
	}
	variable := req.GetResultVariable()
	switch {
	case got.failure != nil:
		resp.Exit = zendeskv1.Exit_EXIT_FAILED
	case empty:
		resp.Exit = zendeskv1.Exit_EXIT_NO_DATA
		if variable != "" {
			resp.Variables[variable] = ""
		}
	case req.GetRecordsetName() == "":
		resp.Json = strings.ToValidUTF8(string(got.value), "\uFFFD")
		if variable != "" {
			resp.Variables[variable] = textOfValue(got.value)
		}
	}
	return resp, nil
}
