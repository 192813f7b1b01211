package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/people"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
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
		if b.explained != nil {
			plan.explain(b, req, append(plan.sought.Plan(plan.account), plan.sought.PlanCreate(plan.account, user)...))
			return &zendeskv1.FindOrCreateUserResponse{Account: rpc.AccountUseToProto(plan.use)}, nil
		}
		noWrites := false
		found, requests, result := s.askPeople(ctx, req, &plan, func(ctx context.Context) (people.Found, error) {
			found, err := s.people.FindOrCreate(ctx, b.tenant, &plan.account, plan.sought, user)
			api, ok := errors.AsType[*zendeskapi.Error](err)
			noWrites = ok && api.Kind == zendeskapi.NoWrites
			return found, err
		})
		if noWrites {
			return nil, rpc.ErrNoWrites
		}
		return finishSearch(ctx, s, b, req, plan.searchPlan, result, func(resp *zendeskv1.SearchResponse) *zendeskv1.FindOrCreateUserResponse {
			return foundOrCreated(resp, found, requests)
		})
	})
}

// newUserSettings are the settings of FindOrCreateUser.
type newUserSettings struct {
	sought *soughtTemplates
	name   *variables.Template
	object objectSettings
}

func (s *newUserSettings) templates() []*variables.Template {
	return append(s.object.templates(), s.name)
}

func validateFindOrCreate(req *zendeskv1.FindOrCreateUserRequest) (*newUserSettings, error) {
	var v violations
	v.block(req)
	settings := &newUserSettings{
		sought: v.sought("", req.GetExternalId(), req.GetEmail(), req.GetPhone(), "external_id, email and phone"),
		name:   v.template("name", req.GetName()),
		object: objectSettings{kind: zendeskapi.UserRecord},
	}
	settings.object.fields = v.objectFields(settings.object.kind, req.GetFields())
	for _, name := range []string{"email", "external_id", "phone"} {
		if _, set := req.GetFields()[name]; set { // by it Zendesk could find, and change, somebody who was not sought
			v.Add(fmt.Sprintf("fields[%q]", name), "is a setting of its own")
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
		return people.NewUser{}, about(f, "name")
	}
	user.Name = strings.TrimSpace(name)
	object, f := s.object.expand(vars, region, true)
	if f != nil {
		return people.NewUser{}, f
	}
	_ = json.Unmarshal(object, &user.Fields) // it was made of fields: it is an object
	return user, nil
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
