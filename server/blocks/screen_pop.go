package blocks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// popTarget is what a ScreenPop request asks to show: a page of kind for the id or query in text, or, when recordset is
// set, that recordset's current record.
type popTarget struct {
	kind      store.RecordType
	text      *variables.Template // nil: no id
	recordset string
	ticket    *ticketSettings // of a new one, or of one to create; else nil
}

// ticketSettings are what a new ticket is to have, parsed; nil templates: nothing.
type ticketSettings struct {
	subject, comment *variables.Template
	tags             []*variables.Template
}

func (t *ticketSettings) templates() []*variables.Template {
	if t == nil {
		return nil
	}
	return append([]*variables.Template{t.subject, t.comment}, t.tags...)
}

// ScreenPop implements BlockService.
func (s *Service) ScreenPop(ctx context.Context, req *zendeskv1.ScreenPopRequest) (*zendeskv1.ScreenPopResponse, error) {
	target, err := validateScreenPop(req)
	if err != nil {
		return nil, err
	}
	id, now := rpc.NewID(), s.now()
	failed := func(f *zendeskv1.Failure) *zendeskv1.ScreenPopResponse {
		return &zendeskv1.ScreenPopResponse{Exit: zendeskv1.Exit_EXIT_FAILED, Failure: f}
	}
	if req.GetCreateTicket() != nil {
		return executeOnce(ctx, s, "ScreenPop", req, changingNothing(failed), func(ctx context.Context, b *block) (*zendeskv1.ScreenPopResponse, error) {
			return s.popCreated(ctx, b, target)
		})
	}
	return executeOnce(ctx, s, "ScreenPop", req, changingNothing(failed), func(ctx context.Context, b *block) (*zendeskv1.ScreenPopResponse, error) {
		vars, err := s.values(ctx, b, append(target.ticket.templates(), target.text)...)
		if err != nil {
			return nil, err
		}
		return transact(ctx, s, b, failed, func(tx *store.InteractionTxn) (*zendeskv1.ScreenPopResponse, error) {
			pop, f, err := resolvePop(tx, vars, target)
			if err != nil {
				return nil, err
			}
			resp := failed(f)
			resp.Account = rpc.AccountUseToProto(pop.Account)
			if f != nil {
				return resp, nil
			}
			pop.ID, pop.CreateTime = id, now
			if pop, f, err = addPop(tx, pop); err != nil {
				return nil, err
			}
			if f != nil {
				resp.Failure = f
				return resp, nil
			}
			b.would("the page %s is shown when the interaction is delivered", pop.URL)
			resp.Exit, resp.ScreenPop = zendeskv1.Exit_EXIT_NEXT, rpc.ScreenPopToProto(pop)
			return resp, nil
		})
	})
}

func validateScreenPop(req *zendeskv1.ScreenPopRequest) (popTarget, error) {
	var v violations
	v.block(req)
	var target popTarget
	switch t := req.GetTarget().(type) {
	case *zendeskv1.ScreenPopRequest_TicketId:
		target = popTarget{kind: store.RecordTicket, text: v.requiredTemplate("ticket_id", t.TicketId)}
	case *zendeskv1.ScreenPopRequest_UserId:
		target = popTarget{kind: store.RecordUser, text: v.requiredTemplate("user_id", t.UserId)}
	case *zendeskv1.ScreenPopRequest_OrganizationId:
		target = popTarget{kind: store.RecordOrganization, text: v.requiredTemplate("organization_id", t.OrganizationId)}
	case *zendeskv1.ScreenPopRequest_SearchString:
		target = popTarget{kind: store.RecordSearch, text: v.requiredTemplate("search_string", t.SearchString)}
	case *zendeskv1.ScreenPopRequest_NewTicket:
		target = popTarget{kind: store.RecordNewTicket, ticket: v.ticket("new_ticket", t.NewTicket.GetSubject(), t.NewTicket.GetTags())}
		if t.NewTicket.GetRequesterId() != "" {
			target.text = v.template("new_ticket.requester_id", t.NewTicket.GetRequesterId())
		}
	case *zendeskv1.ScreenPopRequest_RecordsetName:
		target.recordset = v.recordsetSetting("recordset_name", t.RecordsetName)
	case *zendeskv1.ScreenPopRequest_CreateTicket:
		target = popTarget{kind: store.RecordTicket, ticket: v.ticket("create_ticket", t.CreateTicket.GetSubject(), t.CreateTicket.GetTags())}
		if t.CreateTicket.GetRequesterId() != "" {
			target.text = v.template("create_ticket.requester_id", t.CreateTicket.GetRequesterId())
		}
		if strings.TrimSpace(t.CreateTicket.GetComment()) == "" {
			v.Add("create_ticket.comment", "is required")
		} else {
			target.ticket.comment = v.setting("create_ticket.comment", t.CreateTicket.GetComment(), rpc.MaxTicketComment)
		}
	default:
		v.Add("target", "exactly one of ticket_id, user_id, organization_id, recordset_name, search_string, new_ticket and create_ticket must be set")
	}
	return target, v.Err()
}

// ticket checks what a new ticket is to have.
func (v *violations) ticket(field, subject string, tags []string) *ticketSettings {
	t := &ticketSettings{}
	if subject != "" {
		t.subject = v.template(field+".subject", subject)
	}
	if len(tags) > rpc.MaxTicketTags {
		v.Add(field+".tags", "has %d entries; at most %d are allowed", len(tags), rpc.MaxTicketTags)
		return t
	}
	for i, tag := range tags {
		t.tags = append(t.tags, v.setting(fmt.Sprintf("%s.tags[%d]", field, i), tag, rpc.MaxTicketTag))
	}
	return t
}

// expand replaces the variables of subject and tags. A tag of which nothing is left is left out.
func (t *ticketSettings) expand(vars *values, region string) (subject string, tags []string, f *zendeskv1.Failure) {
	if t.subject != nil {
		if subject, f = vars.expand(t.subject, variables.Text, region, rpc.MaxText); f != nil {
			return "", nil, about(f, "subject")
		}
	}
	for _, template := range t.tags {
		tag, f := vars.expand(template, variables.Text, region, rpc.MaxTicketTag)
		if f != nil {
			return "", nil, about(f, "tags")
		}
		if tag = strings.TrimSpace(tag); strings.ContainsFunc(tag, func(r rune) bool { return unicode.IsSpace(r) || r == ',' }) {
			return "", nil, rpc.Failure(store.ReasonInvalidRequest, "tags: one has white space or a comma in it once its variables are replaced")
		}
		if tag != "" {
			tags = append(tags, tag)
		}
	}
	return strings.TrimSpace(subject), tags, nil
}

// recordsetSetting checks the name of a recordset, which a scenario may also write as a variable: $(RS).
func (v *violations) recordsetSetting(field, name string) string {
	if len(name) > rpc.MaxText {
		v.Add(field, "has %d bytes; at most %d are allowed", len(name), rpc.MaxText)
		return ""
	}
	if t, err := variables.Parse(name); err == nil {
		if sole, ok := t.Sole(); ok {
			name = sole
		}
	}
	v.RecordsetName(field, name)
	return name
}

// resolvePop finds out which page a target means, in which account.
func resolvePop(tx *store.InteractionTxn, vars *values, target popTarget) (store.ScreenPop, *zendeskv1.Failure, error) {
	if target.recordset != "" {
		return popOfRecordset(tx, target.recordset)
	}
	if target.text != nil {
		rs, ok, err := meantRecordset(tx, vars, target.text)
		if err != nil {
			return store.ScreenPop{}, nil, err
		}
		if ok {
			return popOfMeantRecordset(tx, rs, target, vars)
		}
	}
	account, use, f, err := accountInForce(tx)
	if err != nil || f != nil {
		return store.ScreenPop{}, f, err
	}
	pop := store.ScreenPop{Account: use, RecordType: target.kind}
	if target.text == nil {
		pop.URL, f = target.page(account, "", vars)
		return pop, f, nil
	}
	if target.kind == store.RecordSearch {
		query, f := vars.expand(target.text, variables.SearchString, account.DefaultRegion, rpc.MaxText)
		pop.URL = zendeskapi.SearchPage(account.URL, query)
		return pop, f, nil
	}
	if pop.RecordID, f = vars.expand(target.text, variables.ID, account.DefaultRegion, rpc.MaxText); f != nil {
		return pop, f, nil
	}
	pop.URL, f = target.page(account, pop.RecordID, vars)
	return pop, f, nil
}

// page is the address of what is popped of an id: the form for a new ticket is filled with what the target has for it.
func (t *popTarget) page(account store.Account, id string, vars *values) (string, *zendeskv1.Failure) {
	if t.kind != store.RecordNewTicket {
		return rpc.PageURL(account.URL, t.kind, id), nil
	}
	subject, tags, f := t.ticket.expand(vars, account.DefaultRegion)
	return zendeskapi.NewTicketPage(account.URL, zendeskapi.NewTicket{RequesterID: id, Subject: subject, Tags: tags}), f
}

// meantRecordset recognises a text that is just $(RS): it means the recordset of that name, unless the request has a
// variable of that name.
func meantRecordset(tx *store.InteractionTxn, vars *values, text *variables.Template) (store.Recordset, bool, error) {
	name, ok := text.Sole()
	if !ok {
		return store.Recordset{}, false, nil
	}
	if _, ok := vars.request[name]; ok {
		return store.Recordset{}, false, nil
	}
	rs, err := tx.Recordset(name)
	if errors.Is(err, store.ErrNotFound) {
		return store.Recordset{}, false, nil
	}
	return rs, err == nil, err
}

// popOfMeantRecordset pops the current record of a recordset, or, for a new ticket, the page for a ticket of that user.
func popOfMeantRecordset(tx *store.InteractionTxn, rs store.Recordset, target popTarget, vars *values) (store.ScreenPop, *zendeskv1.Failure, error) {
	pop, f, err := popOfRecordset(tx, rs.Name)
	if err != nil || f != nil || target.kind != store.RecordNewTicket {
		return pop, f, err
	}
	if pop.RecordType != store.RecordUser {
		return pop, noTarget("the current record of %q is not a user, so it cannot be a requester", rs.Name), nil
	}
	account, f, err := usedAccount(tx, rs.Account)
	if err != nil || f != nil {
		return pop, f, err
	}
	pop.RecordType = target.kind
	pop.URL, f = target.page(account, pop.RecordID, vars)
	return pop, f, nil
}

// popOfRecordset pops the current record of a recordset in the account that it came from.
func popOfRecordset(tx *store.InteractionTxn, name string) (store.ScreenPop, *zendeskv1.Failure, error) {
	rs, err := tx.Recordset(name)
	if errors.Is(err, store.ErrNotFound) || err == nil && rs.Removed {
		return store.ScreenPop{}, recordsetNotFound(name), nil
	}
	if err != nil {
		return store.ScreenPop{}, nil, err
	}
	account, f, err := usedAccount(tx, rs.Account)
	if err != nil || f != nil {
		return store.ScreenPop{}, f, err
	}
	use := rs.Account
	use.Name = account.Name
	pop := store.ScreenPop{Account: use}
	if rs.Position == 0 {
		return pop, noTarget("recordset %q is empty", name), nil
	}
	raw, err := tx.Record(rs.Name, rs.Position)
	if err != nil {
		return pop, nil, err
	}
	record := rpc.RecordToProto(raw, account.URL)
	if record.GetUrl() == "" {
		return pop, noTarget("the current record of %q has no page in Zendesk", name), nil
	}
	pop.RecordType, pop.RecordID, pop.URL = store.RecordType(record.GetType()), record.GetId(), record.GetUrl()
	return pop, nil, nil
}

func noTarget(format string, args ...any) *zendeskv1.Failure {
	return rpc.Failure(store.ReasonNoTarget, fmt.Sprintf(format, args...))
}

// addPop notes a pop. Two pops with one target are one: the first.
func addPop(tx *store.InteractionTxn, pop store.ScreenPop) (store.ScreenPop, *zendeskv1.Failure, error) {
	noted, err := tx.ScreenPops()
	if err != nil {
		return pop, nil, err
	}
	for _, p := range noted {
		if p.Account.Incarnation == pop.Account.Incarnation && p.URL == pop.URL {
			return p, nil, nil
		}
	}
	if f := noRoomForPop(noted); f != nil {
		return pop, f, nil
	}
	tx.AddScreenPop(pop)
	return pop, nil, nil
}
