package server

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// WatchScreenPops implements InteractionService. What is sent is read from the store each time that it changes, so that a
// slow watcher holds up nobody and nothing piles up for it: what it is too slow for is older than 30 s, and gone.
func (s *interactionService) WatchScreenPops(req *zendeskv1.WatchScreenPopsRequest, stream zendeskv1.InteractionService_WatchScreenPopsServer) error {
	var v violations
	v.agent("agent", req.GetAgent())
	if err := v.err(); err != nil {
		return err
	}
	if caller := callerOf(stream.Context()); !caller.MayWatch(req.GetAgent().GetEmail()) {
		return &publicError{
			reason:   zendeskv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED,
			message:  fmt.Sprintf("%q may not watch this agent", caller.Name),
			metadata: map[string]string{"caller": caller.Name},
		}
	}
	ctx, tenant, agent := stream.Context(), tenantOf(stream.Context()), strings.ToLower(req.GetAgent().GetEmail())
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
		case <-s.draining:
			return errDraining
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
		delivery := new(zendeskv1.Delivery)
		if err := proto.Unmarshal(item.Body, delivery); err != nil {
			return nil, fmt.Errorf("reading a delivery: %w", err)
		}
		if err := stream.Send(&zendeskv1.WatchScreenPopsResponse{InteractionId: item.InteractionID, Delivery: delivery}); err != nil {
			return nil, fmt.Errorf("sending a delivery: %w", err)
		}
	}
	return now, nil
}
