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

// missedFor is how long ago deliveries were made at most that a watch begins with, unless it says since when. Later on it is how
// old those become that a watcher is too slow for.
const missedFor = 30 * time.Second

// WatchScreenPops implements InteractionService. What is sent is read from the store each time that it changes, so that a
// slow watcher holds up nobody and nothing piles up for it: what it is too slow for is older than 30 s, and gone.
func (s *Service) WatchScreenPops(req *zendeskv1.WatchScreenPopsRequest, stream zendeskv1.InteractionService_WatchScreenPopsServer) error {
	var v rpc.Violations
	checkAgent(&v, "agent", req.GetAgent())
	v.Time("since", req.GetSince())
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
	since := s.now().Add(-missedFor)
	if req.GetSince() != nil {
		since = req.GetSince().AsTime()
	}
	sent, err := s.sendMissed(stream, agent, since)
	if err != nil {
		return err
	}
	for {
		select {
		case _, ok := <-changes:
			if !ok {
				return errors.Join(ctx.Err(), store.ErrClosed)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		list, err := s.store.DeliveredTo(ctx, tenant, agent, s.now().Add(-missedFor))
		if err != nil {
			return err
		}
		if sent, err = sendDelivered(stream, list, sent); err != nil {
			return err
		}
	}
}

// sendMissed sends what a watch begins with, and returns what is not to be sent any more: also what is older, but not so old that
// the next look does not find it. What comes later is sent whatever its time, which another clock may have told.
func (s *Service) sendMissed(stream zendeskv1.InteractionService_WatchScreenPopsServer, agent string, since time.Time) (sent map[string]bool, err error) {
	looked := s.now().Add(-missedFor)
	if since.Before(looked) {
		looked = since
	}
	list, err := s.store.DeliveredTo(stream.Context(), rpc.Tenant(stream.Context()), agent, looked)
	if err != nil {
		return nil, err
	}
	older := make(map[string]bool)
	for _, item := range list {
		if item.Time.Before(since) {
			older[item.ID] = true
		}
	}
	return sendDelivered(stream, list, older)
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
