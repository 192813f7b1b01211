package interactions

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/once"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// parallelPops is how many pages of one delivery are shown at a time.
const parallelPops = 4

// delivery is a delivery that is being made: to an agent, of the pops that the agent has not been shown.
type delivery struct {
	tenant      string
	interaction string
	agent       store.Agent
	request     *zendeskv1.DeliverInteractionRequest
	visit       int
	pops        []store.ScreenPop // those to show now
	accounts    []store.Account   // of the pops; the zero account where it is gone
}

// DeliverInteraction implements InteractionService.
func (s *Service) DeliverInteraction(ctx context.Context, req *zendeskv1.DeliverInteractionRequest) (*zendeskv1.DeliverInteractionResponse, error) {
	var v rpc.Violations
	v.Token("interaction_id", req.GetInteractionId(), true)
	v.Token("request_id", req.GetRequestId(), false)
	checkAgent(&v, "agent", req.GetAgent())
	if err := v.Err(); err != nil {
		return nil, err
	}
	d := delivery{tenant: rpc.Tenant(ctx), interaction: req.GetInteractionId(), agent: canonicalAgent(req.GetAgent()), request: req}
	// One delivery of an interaction at a time: a pop that is being shown must not be shown again.
	leave, err := s.gate.Enter(ctx, once.Key{Tenant: d.tenant, Interaction: d.interaction})
	if err != nil {
		return nil, err
	}
	defer leave()
	resp, err := s.planDelivery(ctx, &d)
	if err != nil || len(d.pops) == 0 {
		return resp, err
	}
	shown := s.show(ctx, &d)
	// The pages have been shown: that is kept even if the caller has gone meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.OutcomeTime)
	defer cancel()
	return s.keepDelivery(ctx, &d, shown)
}

const deliverMethod = "DeliverInteraction"

// planDelivery finds the pops that this agent has yet to be shown, and answers with the stored deliveries. A request_id that
// was answered before gets that answer; of its pops those that FAILED are tried again, while the agent has the interaction.
func (s *Service) planDelivery(ctx context.Context, d *delivery) (resp *zendeskv1.DeliverInteractionResponse, err error) {
	err = s.store.UpdateInteraction(ctx, d.tenant, d.interaction, func(tx *store.InteractionTxn) error {
		resp, d.pops, d.accounts = &zendeskv1.DeliverInteractionResponse{}, nil, nil
		kept, repeated, err := once.Kept[*zendeskv1.DeliverInteractionResponse](tx, deliverMethod, d.request)
		if err != nil {
			return err
		}
		deliveries, err := tx.Deliveries()
		if err != nil {
			return err
		}
		pops, err := tx.ScreenPops()
		if err != nil {
			return err
		}
		active := tx.Exists() && tx.State() == store.InteractionActive
		if repeated {
			resp = kept
			pops = failedPops(kept, pops)
			active = active && deliveries.Agent == d.agent.Email
		} else if deliveries.Agent != d.agent.Email {
			if !active || len(pops) == 0 {
				return nil
			}
			// The agent had it before, or never: either way all of it is to be shown.
			deliveries = store.Deliveries{Agent: d.agent.Email, Visit: deliveries.Visit + 1}
			tx.SetDeliveries(deliveries)
		}
		d.visit = deliveries.Visit
		if !repeated {
			resp.Deliveries = deliveriesToProto(pops, deliveries)
		}
		if !active {
			return nil
		}
		for _, pop := range undelivered(pops, deliveries) {
			account, err := tx.AccountOf(pop.Account)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			d.pops, d.accounts = append(d.pops, pop), append(d.accounts, account)
		}
		if len(d.pops) > 0 || repeated {
			return nil // what is shown is answered, and kept, when it has been
		}
		return once.Keep(tx, deliverMethod, d.request, resp)
	})
	return resp, err
}

// failedPops returns the pops whose delivery FAILED in an answer.
func failedPops(answer *zendeskv1.DeliverInteractionResponse, pops []store.ScreenPop) []store.ScreenPop {
	return slices.DeleteFunc(pops, func(pop store.ScreenPop) bool {
		return !slices.ContainsFunc(answer.GetDeliveries(), func(made *zendeskv1.Delivery) bool {
			return made.GetScreenPop().GetScreenPopId() == pop.ID && made.GetOutcome() == zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_FAILED
		})
	})
}

// undelivered returns the pops that were not shown, or in vain.
func undelivered(pops []store.ScreenPop, deliveries store.Deliveries) []store.ScreenPop {
	done := make(map[string]bool)
	for _, item := range deliveries.Items {
		done[item.PopID] = item.Outcome != store.DeliveryFailed
	}
	var left []store.ScreenPop
	for _, pop := range pops {
		if !done[pop.ID] {
			left = append(left, pop)
		}
	}
	return left
}

// show shows the pops of a delivery, a few at a time.
func (s *Service) show(ctx context.Context, d *delivery) []store.Delivered {
	ctx, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	shown := make([]store.Delivered, len(d.pops))
	var group errgroup.Group
	group.SetLimit(parallelPops)
	for i, pop := range d.pops {
		group.Go(func() error {
			outcome, f := s.agents.show(ctx, d.tenant, d.accounts[i], pop, d.agent)
			shown[i] = store.Delivered{InteractionID: d.interaction, Pop: pop, Delivery: store.Delivery{
				ID: rpc.NewID(), PopID: pop.ID, Agent: d.agent, Outcome: outcome, Failure: f, Time: s.now(),
			}}
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
	return shown
}

// keepDelivery stores what was shown, for repeats and for those who watch, and answers with all deliveries of this visit.
func (s *Service) keepDelivery(ctx context.Context, d *delivery, shown []store.Delivered) (resp *zendeskv1.DeliverInteractionResponse, err error) {
	err = s.store.UpdateInteraction(ctx, d.tenant, d.interaction, func(tx *store.InteractionTxn) error {
		resp = &zendeskv1.DeliverInteractionResponse{}
		deliveries, err := tx.Deliveries()
		if err != nil {
			return err
		}
		if deliveries.Visit != d.visit {
			// It has gone to another agent meanwhile, through another instance: what counts there is kept there.
			for _, made := range shown {
				resp.Deliveries = append(resp.Deliveries, deliveryToProto(made.Pop, made.Delivery))
			}
			return nil
		}
		for _, made := range shown {
			deliveries.Items = slices.DeleteFunc(deliveries.Items, func(item store.Delivery) bool { return item.PopID == made.PopID })
			deliveries.Items = append(deliveries.Items, made.Delivery)
		}
		tx.SetDeliveries(deliveries)
		tx.NoteDelivered(d.agent.Email, shown...)
		pops, err := tx.ScreenPops()
		if err != nil {
			return err
		}
		resp.Deliveries = deliveriesToProto(pops, deliveries)
		return once.Keep(tx, deliverMethod, d.request, resp)
	})
	return resp, err
}

// deliveriesToProto returns the deliveries in the order of their screen pops.
func deliveriesToProto(pops []store.ScreenPop, deliveries store.Deliveries) []*zendeskv1.Delivery {
	made := make(map[string]store.Delivery)
	for _, item := range deliveries.Items {
		made[item.PopID] = item
	}
	var list []*zendeskv1.Delivery
	for _, pop := range pops {
		if delivery, ok := made[pop.ID]; ok {
			list = append(list, deliveryToProto(pop, delivery))
		}
	}
	return list
}

// deliveryToProto converts a delivery. Outcomes have the numbers of the API's.
func deliveryToProto(pop store.ScreenPop, d store.Delivery) *zendeskv1.Delivery {
	return &zendeskv1.Delivery{
		DeliveryId: d.ID,
		ScreenPop:  rpc.ScreenPopToProto(pop),
		Agent:      &zendeskv1.Agent{Email: d.Agent.Email, ZendeskUserId: d.Agent.ZendeskUserID},
		Outcome:    zendeskv1.DeliveryOutcome(d.Outcome),
		Failure:    rpc.FailureToProto(d.Failure),
		Time:       rpc.TimeToProto(d.Time),
	}
}
