package interactions

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// WatchScreenPops implements InteractionService. What is sent is read from the store each time that it changes, so that a
// slow watcher holds up nobody and nothing piles up for it: what it is too slow for is older than 30 s, and gone.
func (s *Service) WatchScreenPops(req *zendeskv1.WatchScreenPopsRequest, stream zendeskv1.InteractionService_WatchScreenPopsServer) error {
	var v rpc.Violations
	checkAgent(&v, "agent", req.GetAgent())
	if err := v.Err(); err != nil {
		return err
	}
	if caller, _ := rpc.Caller(stream.Context()); !caller.MayWatch(req.GetAgent().GetEmail()) {
		return &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED,
			Message:  fmt.Sprintf("%q may not watch this agent", caller.Name),
			Metadata: map[string]string{"caller": caller.Name},
		}
	}
	ctx, tenant, agent := stream.Context(), rpc.Tenant(stream.Context()), canonicalAgent(req.GetAgent()).Email
	leave, ok := s.watches.Enter(watched{tenant, agent})
	if !ok {
		limit := strconv.Itoa(maxAgentWatches)
		return &rpc.Error{
			Reason:     zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_WATCHES,
			Message:    "the agent is watched as often as may be: " + limit,
			Metadata:   map[string]string{"limit": limit},
			RetryAfter: time.Second,
		}
	}
	defer leave()
	defer s.observer.Watched()()
	changes, err := s.store.WatchDelivered(ctx, tenant, agent)
	if err != nil {
		return err
	}
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return fmt.Errorf("sending headers: %w", err)
	}
	sent := make(map[string]bool)
	for {
		list, err := s.store.DeliveredTo(ctx, tenant, agent)
		if err != nil {
			return err
		}
		if sent, err = sendDelivered(stream, list, sent); err != nil {
			return err
		}
		select {
		case _, ok := <-changes:
			if !ok {
				return errors.Join(ctx.Err(), store.ErrClosed)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendDelivered sends what has not been sent, and returns what of the list has been.
func sendDelivered(stream zendeskv1.InteractionService_WatchScreenPopsServer, list []store.Delivered, sent map[string]bool) (map[string]bool, error) {
	now := make(map[string]bool, len(list))
	for _, item := range list {
		now[item.ID] = true
		if sent[item.ID] {
			continue
		}
		resp := &zendeskv1.WatchScreenPopsResponse{InteractionId: item.InteractionID, Delivery: deliveryToProto(item.Pop, item.Delivery)}
		if err := stream.Send(resp); err != nil {
			return nil, fmt.Errorf("sending a delivery: %w", err)
		}
	}
	return now, nil
}
