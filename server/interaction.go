package server

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// interactionService implements InteractionService.
type interactionService struct {
	zendeskv1.UnimplementedInteractionServiceServer
	store      *store.Store
	agents     *agents
	writer     *writer
	now        func() time.Time
	draining   <-chan struct{} // closed when watches are to end
	delivering executions
	audit      auditLog
}

var interactionStates = map[store.InteractionState]zendeskv1.InteractionState{
	store.InteractionActive:    zendeskv1.InteractionState_INTERACTION_STATE_ACTIVE,
	store.InteractionCompleted: zendeskv1.InteractionState_INTERACTION_STATE_COMPLETED,
	store.InteractionExpired:   zendeskv1.InteractionState_INTERACTION_STATE_EXPIRED,
}

// GetInteraction implements InteractionService.
func (s *interactionService) GetInteraction(ctx context.Context, req *zendeskv1.GetInteractionRequest) (*zendeskv1.GetInteractionResponse, error) {
	var v violations
	v.token("interaction_id", req.GetInteractionId(), true)
	if err := v.err(); err != nil {
		return nil, err
	}
	var interaction *zendeskv1.Interaction
	err := s.store.ViewInteraction(ctx, tenantOf(ctx), req.GetInteractionId(), func(tx *store.InteractionTxn) error {
		if !tx.Exists() {
			return &publicError{
				reason:   zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND,
				message:  fmt.Sprintf("interaction %q does not exist", req.GetInteractionId()),
				metadata: map[string]string{"interaction_id": req.GetInteractionId()},
			}
		}
		var err error
		interaction, err = interactionToProto(tx, req.GetInteractionId())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &zendeskv1.GetInteractionResponse{Interaction: interaction}, nil
}

func interactionToProto(tx *store.InteractionTxn, id string) (*zendeskv1.Interaction, error) {
	data, err := tx.AttachedData()
	if err != nil {
		return nil, err
	}
	sets, err := tx.Recordsets()
	if err != nil {
		return nil, err
	}
	interaction := &zendeskv1.Interaction{
		InteractionId: id,
		AttachedData:  data,
		State:         interactionStates[tx.State()],
		ActivityId:    tx.ActivityID(),
		CreateTime:    timestamppb.New(tx.CreateTime()),
		UpdateTime:    timestamppb.New(tx.UpdateTime()),
	}
	if use, state := tx.Account(); state == store.AccountInForce {
		interaction.Account = accountUseToProto(use)
	}
	for _, rs := range sets {
		if rs.Removed {
			continue
		}
		var current *zendeskv1.Record
		if rs.Position > 0 {
			raw, err := tx.Record(rs.Name, rs.Position)
			if err != nil {
				return nil, err
			}
			current = recordToProto(raw, rs.Account.URL)
		}
		interaction.Recordsets = append(interaction.Recordsets, recordsetToProto(rs, current))
	}
	for _, pop := range tx.ScreenPops() {
		interaction.ScreenPops = append(interaction.ScreenPops, screenPopToProto(pop))
	}
	return interaction, nil
}
