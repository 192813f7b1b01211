package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	// parallelPops is how many pages of one delivery are shown at a time.
	parallelPops = 4
	// storeOutcomeTime is how long storing what has happened may take when the caller has gone.
	storeOutcomeTime = 5 * time.Second
)

// delivery is a delivery that is being made: to an agent, of the pops that the agent has not been shown.
type delivery struct {
	tenant      string
	interaction string
	agent       *zendeskv1.Agent
	visit       int
	pops        []store.ScreenPop // those to show now
	accounts    []store.Account   // of the pops; the zero account where it is gone
}

// DeliverInteraction implements InteractionService.
func (s *interactionService) DeliverInteraction(ctx context.Context, req *zendeskv1.DeliverInteractionRequest) (*zendeskv1.DeliverInteractionResponse, error) {
	var v violations
	v.token("interaction_id", req.GetInteractionId(), true)
	v.agent("agent", req.GetAgent())
	if err := v.err(); err != nil {
		return nil, err
	}
	d := delivery{tenant: tenantOf(ctx), interaction: req.GetInteractionId(), agent: canonicalAgent(req.GetAgent())}
	// One delivery of an interaction at a time: a pop that is being shown must not be shown again.
	release, err := s.delivering.start(ctx, [4]string{d.tenant, d.interaction})
	if err != nil {
		return nil, err
	}
	defer release()
	stored, err := s.planDelivery(ctx, &d)
	if err != nil {
		return nil, err
	}
	if len(d.pops) > 0 {
		shown := s.show(ctx, &d)
		// The pages have been shown: that is kept even if the caller has gone meanwhile.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeOutcomeTime)
		defer cancel()
		if stored, err = s.keepDelivery(ctx, &d, shown); err != nil {
			return nil, err
		}
	}
	return &zendeskv1.DeliverInteractionResponse{Deliveries: stored}, nil
}

func canonicalAgent(agent *zendeskv1.Agent) *zendeskv1.Agent {
	return &zendeskv1.Agent{Email: strings.ToLower(agent.GetEmail()), ZendeskUserId: agent.GetZendeskUserId()}
}

// planDelivery finds the pops that this agent has yet to be shown, and returns the stored deliveries.
func (s *interactionService) planDelivery(ctx context.Context, d *delivery) (stored []*zendeskv1.Delivery, err error) {
	err = s.store.UpdateInteraction(ctx, d.tenant, d.interaction, func(tx *store.InteractionTxn) error {
		stored, d.pops, d.accounts = nil, nil, nil
		deliveries, err := tx.Deliveries()
		if err != nil {
			return err
		}
		active := tx.Exists() && tx.State() == store.InteractionActive
		if deliveries.Agent != d.agent.GetEmail() {
			if !active || len(tx.ScreenPops()) == 0 {
				return nil
			}
			// The agent had it before, or never: either way all of it is to be shown.
			deliveries = store.Deliveries{Agent: d.agent.GetEmail(), Visit: deliveries.Visit + 1}
			tx.SetDeliveries(deliveries)
		}
		d.visit = deliveries.Visit
		if stored, err = deliveriesToProto(tx.ScreenPops(), deliveries); err != nil || !active {
			return err
		}
		for _, pop := range undelivered(tx.ScreenPops(), deliveries) {
			account, err := tx.AccountOf(pop.Account)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			d.pops, d.accounts = append(d.pops, pop), append(d.accounts, account)
		}
		return nil
	})
	return stored, err
}

// undelivered returns the pops that were not shown, or in vain.
func undelivered(pops []store.ScreenPop, deliveries store.Deliveries) []store.ScreenPop {
	done := make(map[string]bool)
	for _, item := range deliveries.Items {
		done[item.PopID] = zendeskv1.DeliveryOutcome(item.Outcome) != zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_FAILED
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
func (s *interactionService) show(ctx context.Context, d *delivery) []*zendeskv1.Delivery {
	ctx, cancel := answerInTime(ctx)
	defer cancel()
	shown := make([]*zendeskv1.Delivery, len(d.pops))
	var group errgroup.Group
	group.SetLimit(parallelPops)
	for i, pop := range d.pops {
		group.Go(func() error {
			outcome, f := s.agents.show(ctx, d.accounts[i], pop, d.agent)
			shown[i] = &zendeskv1.Delivery{
				ScreenPop: screenPopToProto(pop), Agent: d.agent, Outcome: outcome, Failure: f, Time: timestamppb.New(s.now()),
			}
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
	return shown
}

// keepDelivery stores what was shown, for repeats and for those who watch, and returns all deliveries of this visit.
func (s *interactionService) keepDelivery(ctx context.Context, d *delivery, shown []*zendeskv1.Delivery) (stored []*zendeskv1.Delivery, err error) {
	err = s.store.UpdateInteraction(ctx, d.tenant, d.interaction, func(tx *store.InteractionTxn) error {
		deliveries, err := tx.Deliveries()
		if err != nil {
			return err
		}
		if deliveries.Visit != d.visit {
			// It has gone to another agent meanwhile, through another instance: what counts there is kept there.
			stored = shown
			return nil
		}
		var news []store.Delivered
		for _, made := range shown {
			whole, err := proto.Marshal(made)
			if err != nil {
				return fmt.Errorf("storing a delivery: %w", err)
			}
			pop, at := made.GetScreenPop().GetScreenPopId(), made.GetTime().AsTime()
			// The pop stands with the interaction.
			body, err := proto.Marshal(&zendeskv1.Delivery{Agent: made.GetAgent(), Outcome: made.GetOutcome(), Failure: made.GetFailure(), Time: made.GetTime()})
			if err != nil {
				return fmt.Errorf("storing a delivery: %w", err)
			}
			deliveries.Items = slices.DeleteFunc(deliveries.Items, func(item store.Delivery) bool { return item.PopID == pop })
			deliveries.Items = append(deliveries.Items, store.Delivery{PopID: pop, Outcome: int32(made.GetOutcome()), Body: body, Time: at})
			news = append(news, store.Delivered{ID: newID(), InteractionID: d.interaction, Body: whole, Time: at})
		}
		tx.SetDeliveries(deliveries)
		tx.NoteDelivered(d.agent.GetEmail(), news...)
		stored, err = deliveriesToProto(tx.ScreenPops(), deliveries)
		return err
	})
	return stored, err
}
