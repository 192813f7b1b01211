package blocks

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/people"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
)

// FindOrCreateUser implements BlockService.
func (s *Service) FindOrCreateUser(ctx context.Context, req *zendeskv1.FindOrCreateUserRequest) (*zendeskv1.FindOrCreateUserResponse, error) {
	settings, err := validateFindOrCreate(req)
	if err != nil {
		return nil, err
	}
	failed := func(resp *zendeskv1.SearchResponse) *zendeskv1.FindOrCreateUserResponse {
		return foundOrCreated(resp, people.Found{}, 0)
	}
	if req.GetValidateOnly() {
		return s.explainFindOrCreate(ctx, req, settings)
	}
	inVain := func(ctx context.Context, b *block, f *zendeskv1.Failure) (*zendeskv1.FindOrCreateUserResponse, error) {
		return finishSearch(ctx, s, b, req, searchPlan{}, searchResult{failure: f}, failed)
	}
	return executeOnce(ctx, s, "FindOrCreateUser", req, inVain, func(ctx context.Context, b *block) (*zendeskv1.FindOrCreateUserResponse, error) {
		plan, answer, err := planPeople(ctx, s, b, req, settings.sought, failed, settings.templates()...)
		if err != nil || answer != nil {
			return answer, err
		}
		user, f := settings.expand(plan.vars, plan.account.DefaultRegion)
		if f != nil {
			return finishSearch(ctx, s, b, req, plan.searchPlan, searchResult{failure: f}, failed)
		}
		found, requests, result := s.askPeople(ctx, req, &plan, func(ctx context.Context) (people.Found, error) {
			return s.people.FindOrCreate(ctx, b.tenant, &plan.account, plan.sought, user)
		})
		return finishSearch(ctx, s, b, req, plan.searchPlan, result, func(resp *zendeskv1.SearchResponse) *zendeskv1.FindOrCreateUserResponse {
			return foundOrCreated(resp, found, requests)
		})
	})
}

// newUserSettings are the settings of FindOrCreateUser.
type newUserSettings struct {
	sought *soughtTemplates
	name   *variables.Template
	fields map[string]*variables.Template
}

func (s *newUserSettings) templates() []*variables.Template {
	return append(slices.Collect(maps.Values(s.fields)), s.name)
}

func validateFindOrCreate(req *zendeskv1.FindOrCreateUserRequest) (*newUserSettings, error) {
	var v violations
	v.block(req)
	settings := &newUserSettings{fields: make(map[string]*variables.Template)}
	settings.sought = v.sought("", req.GetExternalId(), req.GetEmail(), req.GetPhone(), "external_id, email and phone")
	settings.name = v.template("name", req.GetName())
	if n := len(req.GetFields()); n > rpc.MaxObjectFields {
		v.Add("fields", "has %d entries; at most %d are allowed", n, rpc.MaxObjectFields)
	} else {
		size := 0
		for _, key := range slices.Sorted(maps.Keys(req.GetFields())) {
			text := req.GetFields()[key]
			field := fmt.Sprintf("fields[%q]", key)
			switch {
			case key == "" || len(key) > rpc.MaxObjectKey || slices.Contains(strings.Split(key, "."), ""):
				v.Add("fields", "has a key that is not 1 to %d bytes of names with dots between", rpc.MaxObjectKey)
			case len(text) > rpc.MaxObjectValue:
				v.Add(field, "has %d bytes; at most %d are allowed", len(text), rpc.MaxObjectValue)
			default:
				settings.fields[key] = v.longTemplate(field, text)
			}
			if size += len(key) + len(text); v.Full() {
				break
			}
		}
		if size > rpc.MaxObjectBytes {
			v.Add("fields", "has %d bytes; at most %d are allowed", size, rpc.MaxObjectBytes)
		}
	}
	v.RecordsetName("recordset_name", req.GetRecordsetName())
	v.columns(req.GetColumns())
	return settings, v.Err()
}

// expand replaces the variables of what a user is made with.
func (s *newUserSettings) expand(vars *values, region string) (user people.NewUser, f *zendeskv1.Failure) {
	name, f := vars.expand(s.name, variables.Text, region, rpc.MaxText)
	if f != nil {
		return people.NewUser{}, f
	}
	user = people.NewUser{Name: strings.TrimSpace(name), Fields: make(map[string]any)}
	for _, key := range slices.Sorted(maps.Keys(s.fields)) {
		text, f := vars.expand(s.fields[key], variables.Text, region, rpc.MaxObjectValue)
		if f != nil {
			return people.NewUser{}, f
		}
		nest(user.Fields, strings.Split(key, "."), text)
	}
	return user, nil
}

// nest sets a member of nested objects. Of tags the text is a list.
func nest(object map[string]any, path []string, text string) {
	if len(path) > 1 {
		inner, ok := object[path[0]].(map[string]any)
		if !ok {
			inner = make(map[string]any)
			object[path[0]] = inner
		}
		nest(inner, path[1:], text)
		return
	}
	object[path[0]] = text
	if path[0] == "tags" {
		object[path[0]] = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	}
}

// foundOrCreated words the answer, which is that of a search with who it was.
func foundOrCreated(resp *zendeskv1.SearchResponse, found people.Found, requests int32) *zendeskv1.FindOrCreateUserResponse {
	who := identified(resp, found, requests)
	return &zendeskv1.FindOrCreateUserResponse{
		Exit: who.GetExit(), Variables: who.GetVariables(), Account: who.GetAccount(), Failure: who.GetFailure(),
		Recordset: who.GetRecordset(), Record: who.GetRecord(), Created: who.GetFailure() == nil && found.Created,
		Grade: who.GetGrade(), MatchedBy: who.GetMatchedBy(), Requests: requests, Suspended: who.GetSuspended(),
	}
}

// explainFindOrCreate says what would be asked, and what be made.
func (s *Service) explainFindOrCreate(ctx context.Context, req *zendeskv1.FindOrCreateUserRequest, settings *newUserSettings) (*zendeskv1.FindOrCreateUserResponse, error) {
	e, err := s.explainPeople(ctx, req, settings.sought, "FindOrCreateUser", settings.templates()...)
	if err != nil {
		return nil, err
	}
	if e.failure == nil {
		user, f := settings.expand(e.plan.vars, e.plan.account.DefaultRegion)
		if f != nil {
			e.exit, e.failure = zendeskv1.Exit_EXIT_FAILED, f
		} else {
			for _, planned := range e.plan.sought.PlanCreate(e.plan.account, user) {
				e.explanation.Requests = append(e.explanation.Requests, plannedToProto(planned))
			}
		}
	}
	return &zendeskv1.FindOrCreateUserResponse{Exit: e.exit, Account: e.explanation.GetAccount(), Failure: e.failure, Explain: e.explanation}, nil
}
