package blocks

import (
	"context"
	"errors"
	"fmt"

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
	return executeOnce(ctx, s, "ScreenPop", req, changingNothing(failed), func(ctx context.Context, b *block) (*zendeskv1.ScreenPopResponse, error) {
		vars, err := s.values(ctx, b, target.text)
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
		target = popTarget{kind: store.RecordNewTicket}
		if t.NewTicket.GetRequesterId() != "" {
			target.text = v.template("new_ticket.requester_id", t.NewTicket.GetRequesterId())
		}
	case *zendeskv1.ScreenPopRequest_RecordsetName:
		target.recordset = v.recordsetSetting("recordset_name", t.RecordsetName)
	default:
		v.Add("target", "exactly one of ticket_id, user_id, organization_id, recordset_name, search_string and new_ticket must be set")
	}
	return target, v.Err()
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
			return popOfMeantRecordset(tx, rs, target.kind)
		}
	}
	account, use, f, err := accountInForce(tx)
	if err != nil || f != nil {
		return store.ScreenPop{}, f, err
	}
	pop := store.ScreenPop{Account: use, RecordType: target.kind}
	if target.text == nil {
		pop.URL = rpc.PageURL(account.URL, target.kind, "")
		return pop, nil, nil
	}
	if target.kind == store.RecordSearch {
		query, f := vars.expand(target.text, variables.SearchString, account.DefaultRegion, rpc.MaxText)
		pop.URL = zendeskapi.SearchPage(account.URL, query)
		return pop, f, nil
	}
	pop.RecordID, f = vars.expand(target.text, variables.ID, account.DefaultRegion, rpc.MaxText)
	pop.URL = rpc.PageURL(account.URL, target.kind, pop.RecordID)
	return pop, f, nil
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
func popOfMeantRecordset(tx *store.InteractionTxn, rs store.Recordset, kind store.RecordType) (store.ScreenPop, *zendeskv1.Failure, error) {
	pop, f, err := popOfRecordset(tx, rs.Name)
	if err != nil || f != nil || kind != store.RecordNewTicket {
		return pop, f, err
	}
	if pop.RecordType != store.RecordUser {
		return pop, noTarget("the current record of %q is not a user, so it cannot be a requester", rs.Name), nil
	}
	pop.RecordType, pop.URL = kind, rpc.PageURL(rs.Account.URL, kind, pop.RecordID)
	return pop, nil, nil
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
	if len(noted) >= maxScreenPops {
		return pop, rpc.Failure(store.ReasonInvalidRequest,
			fmt.Sprintf("the interaction has %d screen pops, and no more are allowed", len(noted))), nil
	}
	tx.AddScreenPop(pop)
	return pop, nil, nil
}
