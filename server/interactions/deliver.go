package interactions

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/once"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// parallelPops is how many pages of one delivery are shown at a time.
const parallelPops = 4

// delivery is a delivery that is being made: to an agent, of the pops that the agent has not been shown.
type delivery struct {
	arrived     time.Time
	tenant      string
	interaction string
	agent       store.Agent
	request     *zendeskv1.DeliverInteractionRequest
	visit       int
	pops        []store.ScreenPop                     // those to show now
	kept        *zendeskv1.DeliverInteractionResponse // of a repeat: the first answer
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
	logInteraction(ctx, req.GetInteractionId())
	d := delivery{arrived: time.Now(), tenant: rpc.Tenant(ctx), interaction: req.GetInteractionId(), agent: canonicalAgent(req.GetAgent()), request: req}
	// One delivery of an interaction at a time: a pop that is being shown must not be shown again.
	turn, err := s.take(ctx, &d)
	if err != nil {
		return nil, err
	}
	defer turn.Release()
	resp, err := s.planDelivery(ctx, &d)
	if err != nil || len(d.pops) == 0 {
		return resp, err
	}
	accounts, err := s.accountsOf(ctx, &d)
	if err != nil {
		return nil, err
	}
	shown := s.show(ctx, &d, accounts)
	// The pages have been shown: that is kept even if the caller has gone meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.OutcomeTime)
	defer cancel()
	return s.keepDelivery(ctx, &d, shown)
}

const deliverMethod = "DeliverInteraction"

// retryTurn is after what time it is worth to ask again for what another replica has begun, which may have died.
const retryTurn = 2 * time.Second

// take waits for the delivery's turn.
func (s *Service) take(ctx context.Context, d *delivery) (turn *store.Claim, err error) {
	inTime := ctx
	if s.store.Shared() {
		var cancel context.CancelFunc
		inTime, cancel = rpc.AnswerInTime(ctx)
		defer cancel()
	}
	rpc.Aside(inTime, func() { turn, err = once.Turn(inTime, s.store, "delivery", d.tenant, d.interaction) })
	if errors.Is(err, store.ErrClaimed) && ctx.Err() == nil {
		return nil, &rpc.Error{
			Reason:  zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
			Message: "another replica delivers the interaction, or has died while it did", RetryAfter: retryTurn, Cause: err,
		}
	}
	return turn, err
}

// planDelivery finds the pops that this agent has yet to be shown, and answers with the stored deliveries. A request_id that
// was answered before gets that answer; of its pops those that FAILED are tried again, while the agent has the interaction.
func (s *Service) planDelivery(ctx context.Context, d *delivery) (resp *zendeskv1.DeliverInteractionResponse, err error) {
	err = s.store.UpdateInteraction(ctx, d.tenant, d.interaction, func(tx *store.InteractionTxn) error {
		resp, d.pops, d.kept, d.visit = &zendeskv1.DeliverInteractionResponse{}, nil, nil, 0
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
			resp = withPops(kept, pops)
			d.kept, d.visit = resp, deliveries.Visit
			if active && deliveries.Agent == d.agent.Email {
				d.pops = undelivered(failedPops(resp, pops), deliveries)
			}
			return nil
		}
		if deliveries.Agent != d.agent.Email {
			if !active || len(pops) == 0 {
				return nil
			}
			// The agent had it before, or never: either way all of it is to be shown.
			deliveries = deliveries.NextVisit(d.agent.Email)
			tx.SetDeliveries(deliveries)
		}
		d.visit = deliveries.Visit
		resp.Deliveries = deliveriesToProto(pops, deliveries)
		if !active {
			return nil
		}
		if d.pops = undelivered(pops, deliveries); len(d.pops) > 0 {
			return nil // what is shown is answered, and kept, when it has been
		}
		return keepDeliveries(tx, d.request, resp)
	})
	return resp, err
}

// keepDeliveries keeps an answer for its request_id, but for the screen pops, which the interaction has: addresses are long.
func keepDeliveries(tx *store.InteractionTxn, req *zendeskv1.DeliverInteractionRequest, resp *zendeskv1.DeliverInteractionResponse) error {
	short := &zendeskv1.DeliverInteractionResponse{}
	for _, made := range resp.GetDeliveries() {
		made = proto.CloneOf(made)
		made.ScreenPop = &zendeskv1.ScreenPop{ScreenPopId: made.GetScreenPop().GetScreenPopId()}
		short.Deliveries = append(short.Deliveries, made)
	}
	return once.Keep(tx, deliverMethod, req, short)
}

// withPops puts the screen pops back into an answer that was kept.
func withPops(kept *zendeskv1.DeliverInteractionResponse, pops []store.ScreenPop) *zendeskv1.DeliverInteractionResponse {
	for _, made := range kept.GetDeliveries() {
		for _, pop := range pops {
			if pop.ID == made.GetScreenPop().GetScreenPopId() {
				made.ScreenPop = rpc.ScreenPopToProto(pop)
			}
		}
	}
	return kept
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

// accountsOf reads the accounts of the pops to show, each once; the zero account where it is gone.
func (s *Service) accountsOf(ctx context.Context, d *delivery) (map[string]store.Account, error) {
	accounts := make(map[string]store.Account)
	for _, pop := range d.pops {
		if _, ok := accounts[pop.Account.Incarnation]; ok {
			continue
		}
		account, err := s.store.AccountOf(ctx, d.tenant, pop.Account)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		accounts[pop.Account.Incarnation] = account
	}
	return accounts, nil
}

// show shows the pops of a delivery, a few at a time.
func (s *Service) show(ctx context.Context, d *delivery, accounts map[string]store.Account) []store.Delivered {
	ctx, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	showings := make(map[string]*showing, len(accounts))
	for incarnation, account := range accounts {
		showings[incarnation] = s.agents.showing(ctx, d.tenant, account, d.agent)
	}
	shown := make([]store.Delivered, len(d.pops))
	var group errgroup.Group
	group.SetLimit(parallelPops)
	for i, pop := range d.pops {
		group.Go(func() error {
			outcome, f := s.survive(pop, func() (store.DeliveryOutcome, *store.Failure) {
				return showings[pop.Account.Incarnation].show(ctx, pop)
			})
			s.observer.Popped(outcomeNames[outcome], time.Since(d.arrived))
			if f != nil { // which several pops may share
				f = new(*f)
				f.TraceID = rpc.TraceID(ctx)
			}
			shown[i] = store.Delivered{InteractionID: d.interaction, Pop: pop, Delivery: store.Delivery{
				ID: rpc.NewID(), PopID: pop.ID, Agent: d.agent, Outcome: outcome, Failure: f, Time: s.now(),
			}}
			return nil
		})
	}
	rpc.Aside(ctx, func() { _ = group.Wait() }) // no function returns an error
	return shown
}

// outcomeNames are what metrics call outcomes.
var outcomeNames = map[store.DeliveryOutcome]string{
	store.DeliveryDisplayed: "displayed", store.DeliveryLink: "link", store.DeliveryFailed: "failed",
}

// survive makes of a panic what other failures are: a panic of this goroutine would end the process, and the pages that the
// others have shown must be kept.
func (s *Service) survive(pop store.ScreenPop, show func() (store.DeliveryOutcome, *store.Failure)) (outcome store.DeliveryOutcome, f *store.Failure) {
	defer func() {
		if p := recover(); p != nil {
			s.observer.Panicked(false)
			s.log.Error("showing a page has panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			outcome, f = orFailed(pop, store.DeliveryLink, new(store.NewFailure(store.ReasonUnavailable, "an internal error kept Zendesk from being asked")))
		}
	}()
	return show()
}

// keepDelivery stores what was shown, for repeats and for those who watch, and answers with all deliveries of this visit, or,
// to a repeat, with the first answer as far as nothing was tried again.
func (s *Service) keepDelivery(ctx context.Context, d *delivery, shown []store.Delivered) (resp *zendeskv1.DeliverInteractionResponse, err error) {
	err = s.store.UpdateInteraction(ctx, d.tenant, d.interaction, func(tx *store.InteractionTxn) error {
		resp = &zendeskv1.DeliverInteractionResponse{}
		deliveries, err := tx.Deliveries()
		if err != nil {
			return err
		}
		pops, err := tx.ScreenPops()
		if err != nil {
			return err
		}
		counting := shown
		if deliveries.Visit == d.visit {
			var fresh []store.Delivered
			fresh, counting = counted(deliveries.Items, shown)
			for _, made := range fresh {
				deliveries.Items = slices.DeleteFunc(deliveries.Items, func(item store.Delivery) bool { return item.PopID == made.PopID })
				deliveries.Items = append(deliveries.Items, made.Delivery)
			}
			if len(fresh) > 0 {
				tx.SetDeliveries(deliveries)
				tx.NoteDelivered(d.agent.Email, fresh...)
			}
		}
		switch {
		case d.kept != nil:
			resp.Deliveries = replaced(d.kept.GetDeliveries(), counting)
			return keepDeliveries(tx, d.request, resp)
		case deliveries.Visit != d.visit:
			// It has gone to another agent meanwhile, through another instance: what counts there is kept there.
			for _, made := range shown {
				resp.Deliveries = append(resp.Deliveries, deliveryToProto(made.Pop, made.Delivery))
			}
		default:
			resp.Deliveries = deliveriesToProto(pops, deliveries)
		}
		kept, answered, err := once.Kept[*zendeskv1.DeliverInteractionResponse](tx, deliverMethod, d.request)
		if err != nil || answered {
			resp = withPops(kept, pops) // as counted says
			return err
		}
		return keepDeliveries(tx, d.request, resp)
	})
	return resp, err
}

// counted decides which of the deliveries that were made count, and which of these are to be stored: of a pop that another
// process has shown meanwhile, since it took this one for dead, the first that was stored is the one.
func counted(stored []store.Delivery, shown []store.Delivered) (fresh, counting []store.Delivered) {
	for _, made := range shown {
		first := slices.IndexFunc(stored, func(item store.Delivery) bool {
			return item.PopID == made.PopID && item.Outcome != store.DeliveryFailed
		})
		if first >= 0 {
			made.Delivery = stored[first]
		} else {
			fresh = append(fresh, made)
		}
		counting = append(counting, made)
	}
	return fresh, counting
}

// replaced returns an answer's deliveries with those that were made anew.
func replaced(kept []*zendeskv1.Delivery, shown []store.Delivered) []*zendeskv1.Delivery {
	list := slices.Clone(kept)
	for i, delivery := range list {
		for _, made := range shown {
			if made.PopID == delivery.GetScreenPop().GetScreenPopId() {
				list[i] = deliveryToProto(made.Pop, made.Delivery)
			}
		}
	}
	return list
}

// allDeliveriesToProto returns the deliveries of all visits that are kept, oldest first.
func allDeliveriesToProto(pops []store.ScreenPop, deliveries store.Deliveries) (list []*zendeskv1.Delivery) {
	items := slices.Concat(deliveries.Earlier, deliveries.Items)
	slices.SortStableFunc(items, func(a, b store.Delivery) int { return a.Time.Compare(b.Time) })
	for _, item := range items {
		if i := slices.IndexFunc(pops, func(pop store.ScreenPop) bool { return pop.ID == item.PopID }); i >= 0 {
			list = append(list, deliveryToProto(pops[i], item))
		}
	}
	return list
}

// deliveriesToProto returns the deliveries of the last visit in the order of their screen pops.
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
