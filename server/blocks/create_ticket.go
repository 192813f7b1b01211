package blocks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/once"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// callTicketPlan is what is done for the ticket of an interaction, as decided before Zendesk is asked.
type callTicketPlan struct {
	account    store.Account
	use        store.AccountUse
	write      zendeskapi.RecordWrite
	externalID string
	tried      bool // it may have been made before: it is looked for first
}

// popCreated makes the interaction's ticket, unless it has one, and pops it.
func (s *Service) popCreated(ctx context.Context, b *block, target popTarget) (*zendeskv1.ScreenPopResponse, error) {
	leave, ok := s.writes.enter(b.tenant)
	if !ok {
		return answerBusy(ctx, s, b, (&callTicketPlan{}).failed)
	}
	id, now := rpc.NewID(), s.now()
	plan, answer, err := s.planCallTicket(ctx, b, target, id, now)
	if err != nil || answer != nil {
		leave()
		return answer, err
	}
	status, ticket := 0, ""
	return run(ctx, s, b, leave, errand[*zendeskv1.ScreenPopResponse]{
		account: plan.account, repeatable: true, begun: plan.tried,
		ask: func(ctx context.Context, client *zendeskapi.Client, outlive zendeskapi.Outlive) (err error) {
			status, ticket, err = plan.make(ctx, client, outlive)
			return err
		},
		finish: func(tx *store.InteractionTxn) (*zendeskv1.ScreenPopResponse, error) {
			tx.SetCallTicket(store.CallTicket{Account: plan.use, ID: ticket})
			if f := overFor(tx, b.rpc); f != nil {
				return plan.failed(f), nil
			}
			resp, err := popCallTicket(tx, plan.use, plan.account.URL, ticket, id, now)
			if err == nil && status != 0 {
				resp.Variables = resultVariables(strconv.Itoa(status), "")
			}
			return resp, err
		},
		fail: func(tx *store.InteractionTxn, f *zendeskv1.Failure, err *zendeskapi.Error) (*zendeskv1.ScreenPopResponse, error) {
			resp := plan.failed(f)
			resp.Variables = resultVariables("", "")
			if err != nil && err.StatusCode != 0 {
				resp.Variables = resultVariables(strconv.Itoa(err.StatusCode), err.Body())
			}
			if tx != nil && !plan.tried && (err == nil || !err.Unknown()) {
				tx.SetCallTicket(store.CallTicket{}) // there is none: another account may have it
			}
			return resp, nil
		},
	})
}

// planCallTicket decides in one transaction about the ticket. It returns an answer instead of a plan when the interaction has
// its ticket, or the request fails without Zendesk, or is only to be explained.
func (s *Service) planCallTicket(ctx context.Context, b *block, target popTarget, popID string, now time.Time) (plan callTicketPlan, answer *zendeskv1.ScreenPopResponse, err error) {
	vars, err := s.values(ctx, b, append(target.ticket.templates(), target.text)...)
	if err != nil {
		return plan, nil, err
	}
	err = s.update(b.inTurn(ctx), b, func(tx *store.InteractionTxn) error {
		plan, answer = callTicketPlan{}, nil
		kept, found, err := keptAnswer[*zendeskv1.ScreenPopResponse](tx, b)
		if err != nil {
			return err
		}
		if found {
			answer = kept
			return nil
		}
		if f := overFor(tx, b.rpc); f != nil {
			answer = plan.failed(f)
			return nil
		}
		if made := tx.CallTicket(); made.ID != "" {
			answer, err = s.popAgain(tx, b, made, popID, now)
			return err
		}
		f, err := plan.decide(tx)
		if err != nil {
			return err
		}
		plan.externalID = strings.Join([]string{"zendeskblocks-pop", s.store.InstanceID(), b.tenant, b.interaction}, ":")
		plan.write.IdempotencyKey = s.keyOf(b.tenant, b.interaction, "create_ticket")
		if f == nil {
			plan.write.Fields, f = plan.fields(vars, target)
		}
		switch {
		case f != nil:
			answer = plan.failed(f)
		case b.explained != nil:
			plan.explain(b)
			answer = &zendeskv1.ScreenPopResponse{Account: rpc.AccountUseToProto(plan.use)}
		default:
			tx.SetCallTicket(store.CallTicket{Account: plan.use})
		}
		return nil
	})
	return plan, answer, err
}

// popAgain pops the ticket that was made before.
func (s *Service) popAgain(tx *store.InteractionTxn, b *block, made store.CallTicket, popID string, now time.Time) (*zendeskv1.ScreenPopResponse, error) {
	account, f, err := usedAccount(tx, made.Account)
	if err != nil {
		return nil, err
	}
	if f != nil {
		return (&callTicketPlan{use: made.Account}).failed(f), nil
	}
	b.would("the ticket %s, which was made for this interaction before, is shown when it is delivered", made.ID)
	answer, err := popCallTicket(tx, made.Account, account.URL, made.ID, popID, now)
	if err != nil || answer.GetFailure() != nil {
		return answer, err
	}
	return answer, once.Keep(tx, b.rpc, b.request, answer)
}

// decide decides in which account the ticket is made: where an earlier try may have made it, if there was one.
func (p *callTicketPlan) decide(tx *store.InteractionTxn) (f *zendeskv1.Failure, err error) {
	if tried := tx.CallTicket().Account; tried.AccountID != "" {
		if p.account, f, err = usedAccount(tx, tried); err != nil {
			return nil, err
		}
		p.use, p.tried = tried, f == nil
	}
	if !p.tried {
		if p.account, p.use, f, err = accountInForce(tx); err != nil || f != nil {
			return f, err
		}
	}
	p.write.Kind = zendeskapi.TicketRecord
	noted, err := tx.ScreenPops()
	return noRoomForPop(noted), err
}

// fields are those of the ticket.
func (p *callTicketPlan) fields(vars *values, target popTarget) (json.RawMessage, *zendeskv1.Failure) {
	region := p.account.DefaultRegion
	subject, tags, f := target.ticket.expand(vars, region)
	if f != nil {
		return nil, f
	}
	comment, f := vars.expand(target.ticket.comment, variables.Text, region, rpc.MaxTicketComment)
	if f != nil {
		return nil, about(f, "comment")
	}
	if strings.TrimSpace(comment) == "" {
		return nil, rpc.Failure(store.ReasonEmptyValue, "comment is empty once its variables are replaced")
	}
	fields := members{}
	if target.text != nil {
		id, f := vars.expand(target.text, variables.ID, region, rpc.MaxText)
		if f != nil {
			return nil, about(f, "requester_id")
		}
		fields.set([]string{"requester_id"}, number(id))
	}
	if subject != "" {
		fields.set([]string{"subject"}, textOf(subject))
	}
	fields.set([]string{"comment", "body"}, textOf(comment))
	fields.set([]string{"comment", "public"}, json.RawMessage("false"))
	fields.set([]string{"external_id"}, textOf(p.externalID))
	if len(tags) > 0 {
		fields.set([]string{"tags"}, valueOf("tags", strings.Join(tags, ",")))
	}
	return fields.encode(), nil
}

func (p *callTicketPlan) explain(b *block) {
	method, path, body := p.write.Request()
	b.wouldAsk(method, path, "", body, "")
	b.would("the ticket is shown when the interaction is delivered")
}

// make makes the ticket, and returns Zendesk's status; 0: it was there.
func (p *callTicketPlan) make(ctx context.Context, client *zendeskapi.Client, outlive zendeskapi.Outlive) (status int, ticket string, err error) {
	if p.tried {
		if ticket, err = p.find(ctx, client); err != nil || ticket != "" {
			return 0, ticket, err
		}
	}
	write := p.write
	write.Outlive = outlive
	written, err := client.WriteRecord(ctx, write)
	if refused, ok := errors.AsType[*zendeskapi.Error](err); ok && refused.Code == idempotentError {
		// An earlier try with other words was taken.
		ticket, findErr := p.find(ctx, client)
		if ticket != "" {
			return 0, ticket, nil
		}
		return 0, "", cmp.Or(findErr, err)
	}
	return written.StatusCode, written.ID, err
}

// find looks for the ticket that an earlier try has made; empty: there is none.
func (p *callTicketPlan) find(ctx context.Context, client *zendeskapi.Client) (ticket string, err error) {
	tickets, err := client.TicketsByExternalID(ctx, p.externalID)
	if err != nil || len(tickets) == 0 {
		return "", err
	}
	return tickets[0].ID, nil
}

func (p *callTicketPlan) failed(f *zendeskv1.Failure) *zendeskv1.ScreenPopResponse {
	return &zendeskv1.ScreenPopResponse{Exit: zendeskv1.Exit_EXIT_FAILED, Failure: f, Account: rpc.AccountUseToProto(p.use)}
}

// popCallTicket notes the pop of the interaction's ticket.
func popCallTicket(tx *store.InteractionTxn, use store.AccountUse, origin, ticket, popID string, now time.Time) (*zendeskv1.ScreenPopResponse, error) {
	pop, f, err := addPop(tx, store.ScreenPop{
		ID: popID, Account: use, RecordType: store.RecordTicket, RecordID: ticket, URL: rpc.PageURL(origin, store.RecordTicket, ticket), CreateTime: now,
	})
	if err != nil {
		return nil, err
	}
	resp := &zendeskv1.ScreenPopResponse{Exit: zendeskv1.Exit_EXIT_NEXT, Account: rpc.AccountUseToProto(pop.Account)}
	if f != nil {
		resp.Exit, resp.Failure = zendeskv1.Exit_EXIT_FAILED, f
		return resp, nil
	}
	resp.ScreenPop = rpc.ScreenPopToProto(pop)
	return resp, nil
}

// noRoomForPop is the failure for a pop that an interaction has no room for beside those it has; nil if it has.
func noRoomForPop(noted []store.ScreenPop) *zendeskv1.Failure {
	if len(noted) < maxScreenPops {
		return nil
	}
	return rpc.Failure(store.ReasonInvalidRequest, fmt.Sprintf("the interaction has %d screen pops, and no more are allowed", len(noted)))
}
