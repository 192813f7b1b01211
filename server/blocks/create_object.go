package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// recordKinds are the objects that blocks write.
var recordKinds = map[zendeskv1.RecordType]zendeskapi.RecordKind{
	zendeskv1.RecordType_RECORD_TYPE_TICKET:       zendeskapi.TicketRecord,
	zendeskv1.RecordType_RECORD_TYPE_USER:         zendeskapi.UserRecord,
	zendeskv1.RecordType_RECORD_TYPE_ORGANIZATION: zendeskapi.OrganizationRecord,
}

// objectSettings are the settings by which an object is written, parsed.
type objectSettings struct {
	kind   zendeskapi.RecordKind
	fields map[string]*variables.Template // nil: json
	json   *variables.Template
}

func (o *objectSettings) templates() []*variables.Template {
	templates := []*variables.Template{o.json}
	for _, t := range o.fields {
		templates = append(templates, t)
	}
	return templates
}

// object checks the settings by which an object is written.
func (v *violations) object(kind zendeskv1.RecordType, fields map[string]string, text string) (o objectSettings) {
	var ok bool
	if o.kind, ok = recordKinds[kind]; !ok {
		v.Add("object_type", "must be TICKET, USER or ORGANIZATION")
	}
	switch {
	case len(fields) > 0 && text != "", len(fields) == 0 && text == "":
		v.Add("fields", "or json is required, and not both of them")
		return o
	case text != "":
		o.json = v.setting("json", text, rpc.MaxObjectBytes)
		return o
	}
	o.fields = v.objectFields(o.kind, fields)
	return o
}

// objectFields checks the fields of an object.
func (v *violations) objectFields(kind zendeskapi.RecordKind, fields map[string]string) map[string]*variables.Template {
	templates := make(map[string]*variables.Template, len(fields))
	if len(fields) > rpc.MaxObjectFields {
		v.Add("fields", "has %d entries; at most %d are allowed", len(fields), rpc.MaxObjectFields)
		return templates
	}
	size := 0
	for _, key := range sortedKeys(fields) {
		if v.Full() {
			return templates
		}
		field := fmt.Sprintf("fields[%q]", key)
		size += len(key) + len(fields[key])
		if len(key) > rpc.MaxObjectKey {
			v.Add(field, "has a key of %d bytes; at most %d are allowed", len(key), rpc.MaxObjectKey)
			continue
		}
		if _, err := fieldPath(kind, key); err != nil {
			v.Add(field, "%v", err)
		}
		templates[key] = v.setting(field, fields[key], rpc.MaxObjectValue)
	}
	if clash := clashOf(fields); clash != "" {
		v.Add(fmt.Sprintf("fields[%q]", clash), "is a part of another field")
	}
	if size > rpc.MaxObjectBytes {
		v.Add("fields", "has %d bytes; at most %d are allowed", size, rpc.MaxObjectBytes)
	}
	return templates
}

// maxObjectText is how long an object may be once its variables are replaced: what Zendesk is sent has 1 MiB at most.
const maxObjectText = 512 << 10

// expand makes the object that Zendesk is sent.
func (o *objectSettings) expand(vars *values, region string, isNew bool) (json.RawMessage, *zendeskv1.Failure) {
	object, f := o.expandObject(vars, region)
	if f != nil {
		return nil, f
	}
	if o.kind == zendeskapi.TicketRecord {
		var err error
		if object, err = private(object, isNew); err != nil {
			return nil, rpc.Failure(store.ReasonInvalidRequest, "the object cannot be sent: "+err.Error())
		}
	}
	return object, nil
}

func (o *objectSettings) expandObject(vars *values, region string) (object json.RawMessage, f *zendeskv1.Failure) {
	var err error
	if o.json != nil {
		text, f := vars.expand(o.json, variables.JSON, region, maxObjectText)
		if f != nil {
			return nil, about(f, "json")
		}
		object, err = objectOfJSON(o.kind, text)
	} else {
		left := maxObjectText
		fields := make(map[string]string, len(o.fields))
		for _, key := range sortedKeys(o.fields) {
			if fields[key], f = vars.expand(o.fields[key], variables.Text, region, left); f != nil {
				return nil, about(f, fmt.Sprintf("field %q", key))
			}
			left -= len(fields[key])
		}
		object, err = objectOfFields(o.kind, fields)
	}
	if err != nil {
		return nil, rpc.Failure(store.ReasonInvalidRequest, "the object cannot be sent: "+err.Error())
	}
	return object, nil
}

// CreateObject implements BlockService.
func (s *Service) CreateObject(ctx context.Context, req *zendeskv1.CreateObjectRequest) (*zendeskv1.CreateObjectResponse, error) {
	var v violations
	v.block(req)
	settings := v.object(req.GetObjectType(), req.GetFields(), req.GetJson())
	v.variable("object_id_variable", req.GetObjectIdVariable(), false)
	if err := v.Err(); err != nil {
		return nil, err
	}
	failed := func(f *zendeskv1.Failure) *zendeskv1.CreateObjectResponse {
		return &zendeskv1.CreateObjectResponse{Exit: zendeskv1.Exit_EXIT_FAILED, Failure: f, Variables: resultVariables("", "")}
	}
	return executeOnce(ctx, s, "CreateObject", req, changingNothing(failed), func(ctx context.Context, b *block) (*zendeskv1.CreateObjectResponse, error) {
		return writeObject(ctx, s, b, objectBlock[*zendeskv1.CreateObjectResponse]{
			settings: settings, variable: req.GetObjectIdVariable(), withBody: req.GetIncludeResultBody(), failed: failed,
			word: func(w objectWords) *zendeskv1.CreateObjectResponse {
				resp := &zendeskv1.CreateObjectResponse{
					Exit: w.exit, Variables: w.variables, Account: w.account, Failure: w.failure, Record: w.record,
					Created: w.created, IdentityTaken: w.taken, IgnoredFields: w.ignored,
				}
				if req.GetObjectIdVariable() != "" && w.exit == zendeskv1.Exit_EXIT_NEXT {
					resp.Variables[req.GetObjectIdVariable()] = w.record.GetId()
				}
				return resp
			},
		})
	})
}

// objectBlock is a block that writes an object.
type objectBlock[R response] struct {
	settings objectSettings
	id       *variables.Template // of the object to change; nil: a new one
	variable string              // by which later settings refer to a new one; empty: by none
	withBody bool

	failed func(*zendeskv1.Failure) R // before Zendesk was asked
	word   func(objectWords) R
}

// objectWords are what the answers of these blocks say.
type objectWords struct {
	exit      zendeskv1.Exit
	variables map[string]string
	account   *zendeskv1.AccountUse
	failure   *zendeskv1.Failure
	record    *zendeskv1.Record
	created   bool
	taken     bool
	ignored   []string
}

// objectPlan is what such a block will do, as decided before Zendesk is asked.
type objectPlan struct {
	account  store.Account
	use      store.AccountUse
	write    zendeskapi.RecordWrite
	identity map[string]string
	begun    bool
}

// writeObject runs a block that writes an object.
func writeObject[R response](ctx context.Context, s *Service, b *block, o objectBlock[R]) (none R, err error) {
	leave, ok := s.writes.enter(b.tenant)
	if !ok {
		return answerBusy(ctx, s, b, o.failed)
	}
	plan, answer, found, err := planObject(ctx, s, b, o)
	if err != nil || found || b.explained != nil {
		leave()
		return answer, err
	}
	var written zendeskapi.RecordWritten
	var holder string
	e := errand[R]{account: plan.account, repeatable: plan.write.IdempotencyKey != "" && b.request.GetRequestId() != "", begun: plan.begun}
	e.ask = func(ctx context.Context, client *zendeskapi.Client, outlive zendeskapi.Outlive) (err error) {
		write := plan.write
		write.Outlive = outlive
		if written, err = client.WriteRecord(ctx, write); err != nil {
			if o.id == nil {
				holder = holderOf(ctx, client, plan, err)
			}
		}
		return err
	}
	e.finish = func(tx *store.InteractionTxn) (R, error) {
		if o.variable != "" {
			tx.SetCreated(o.variable, written.ID)
		}
		w := plan.words(written.StatusCode, "")
		if o.withBody {
			w.variables[resultBody] = written.Body
		}
		w.exit, w.created, w.ignored = zendeskv1.Exit_EXIT_NEXT, written.Created, written.Ignored
		w.record = plan.record(written.ID)
		return o.word(w), nil
	}
	e.fail = func(_ *store.InteractionTxn, f *zendeskv1.Failure, err *zendeskapi.Error) (R, error) {
		w := plan.words(0, "")
		w.exit, w.failure = zendeskv1.Exit_EXIT_FAILED, f
		if err != nil && err.StatusCode != 0 {
			w = plan.words(err.StatusCode, err.Body())
			w.exit, w.failure = zendeskv1.Exit_EXIT_FAILED, f
			if _, taken := err.IdentityTaken(); taken && o.id == nil {
				w.taken, f.Reason, f.Retryable = true, zendeskv1.FailureReason_FAILURE_REASON_CONFLICT, false
				if holder != "" {
					w.record = plan.record(holder)
				}
			}
		}
		if o.id != nil && err != nil && err.RecordMissing() {
			w.exit, w.failure = zendeskv1.Exit_EXIT_NO_DATA, nil
			if !o.withBody {
				w.variables[resultBody] = ""
			}
		}
		return o.word(w), nil
	}
	return run(ctx, s, b, leave, e)
}

// planObject decides in one transaction what to write. It returns an answer instead of a plan when the request was answered
// before, or fails without Zendesk, or is only to be explained.
func planObject[R response](ctx context.Context, s *Service, b *block, o objectBlock[R]) (plan objectPlan, answer R, found bool, err error) {
	vars, err := s.values(ctx, b, append(o.settings.templates(), o.id)...)
	if err != nil {
		return plan, answer, false, err
	}
	now, random := s.now(), rpc.NewID()
	err = s.update(b.inTurn(ctx), b, func(tx *store.InteractionTxn) error {
		plan, found = objectPlan{}, false
		if answer, found, err = keptAnswer[R](tx, b); err != nil || found {
			return err
		}
		f := overFor(tx, b.rpc)
		if f == nil {
			if f, err = planWrite(tx, vars, o.settings, o.id, o.variable, &plan); err != nil {
				return err
			}
		}
		if f != nil {
			w := plan.words(0, "")
			w.exit, w.failure = zendeskv1.Exit_EXIT_FAILED, f
			answer, found = o.word(w), true
			return nil
		}
		if plan.write.Kind == zendeskapi.TicketRecord && o.id == nil {
			plan.write.IdempotencyKey = random // of the attempts of this one call
			if id := b.request.GetRequestId(); id != "" {
				plan.write.IdempotencyKey = s.keyOf(b.tenant, b.interaction, b.rpc, id)
			}
		}
		if b.explained != nil {
			plan.explain(b, o.variable)
			answer = o.word(plan.words(0, ""))
			return nil
		}
		plan.begun, err = intend(tx, b, now, plan.write.IdempotencyKey != "", func(f *zendeskv1.Failure) R {
			w := plan.words(0, "")
			w.exit, w.failure = zendeskv1.Exit_EXIT_FAILED, f
			return o.word(w)
		})
		return err
	})
	return plan, answer, found, err
}

// planWrite decides what to write in which account.
func planWrite(tx *store.InteractionTxn, vars *values, settings objectSettings, id *variables.Template, variable string, plan *objectPlan) (f *zendeskv1.Failure, err error) {
	if plan.account, plan.use, f, err = accountInForce(tx); err != nil || f != nil {
		return f, err
	}
	plan.write.Kind = settings.kind
	if id != nil {
		if plan.write.ID, f = vars.expand(id, variables.ID, plan.account.DefaultRegion, rpc.MaxText); f != nil {
			return about(f, "object_id"), nil
		}
	}
	if plan.write.Fields, f = settings.expand(vars, plan.account.DefaultRegion, id == nil); f != nil {
		return f, nil
	}
	if id == nil {
		plan.identity = identityOf(settings.kind, plan.write.Fields)
		plan.write.OrUpdate = orUpdates(settings.kind, plan.identity)
	}
	return noRoomForCreated(tx, variable), nil
}

// noRoomForCreated is the failure for a variable that an interaction has no room for beside those of what it has created.
func noRoomForCreated(tx *store.InteractionTxn, variable string) *zendeskv1.Failure {
	if variable == "" {
		return nil
	}
	if _, known := tx.Created(variable); known || tx.CreatedNames() < maxCreated {
		return nil
	}
	return rpc.Failure(store.ReasonInvalidRequest, fmt.Sprintf("the interaction has %d variables of created objects, and no more are allowed", maxCreated))
}

func (p *objectPlan) explain(b *block, variable string) {
	method, path, body := p.write.Request()
	b.wouldAsk(method, path, "", body, "")
	switch {
	case variable != "":
		b.would("the id of the %s becomes the variable %q", p.write.Kind, variable)
	default:
		b.would("the %s is written", p.write.Kind)
	}
}

// words are those that all answers have, with Zendesk's status, if it answered, and its body, where it is told.
func (p *objectPlan) words(status int, body string) objectWords {
	code := ""
	if status != 0 {
		code = strconv.Itoa(status)
	}
	return objectWords{variables: resultVariables(code, body), account: rpc.AccountUseToProto(p.use)}
}

// resultVariables are those that every block sets which asks Zendesk.
func resultVariables(code, body string) map[string]string {
	return map[string]string{resultCode: code, resultBody: body}
}

func (p *objectPlan) record(id string) *zendeskv1.Record {
	kind := map[zendeskapi.RecordKind]store.RecordType{
		zendeskapi.TicketRecord: store.RecordTicket, zendeskapi.UserRecord: store.RecordUser, zendeskapi.OrganizationRecord: store.RecordOrganization,
	}[p.write.Kind]
	return &zendeskv1.Record{Type: zendeskv1.RecordType(kind), Id: id, Url: rpc.PageURL(p.account.URL, kind, id)}
}

// holderOf asks who has an identity that Zendesk refuses since somebody has it; empty if that is not known. It helps, and
// decides nothing.
func holderOf(ctx context.Context, client *zendeskapi.Client, plan objectPlan, err error) string {
	refused, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok {
		return ""
	}
	fields, taken := refused.IdentityTaken()
	if !taken {
		return ""
	}
	// What was named first, then what else could be meant: names of fields vary.
	for _, field := range slices.Concat(fields, sortedKeys(plan.identity)) {
		if id, found, err := client.Holder(ctx, plan.write.Kind, field, plan.identity[field]); err == nil && found && id != plan.write.ID {
			return id
		}
	}
	return ""
}
