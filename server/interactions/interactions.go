// Package interactions implements InteractionService: it shows what blocks have left, delivers screen pops once to each
// agent, decides where the history of a finished interaction is written, and lets people decide on what could not be.
//
// What it decides about a delivery or a completion is stored in the same transaction as what it is decided by. Writing the
// history is package writer's.
package interactions

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/turnstile"
	"github.com/scenarioblocks/zendeskblocks/server/writer"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// maxAgentWatches may be open on one agent's screen pops at a time.
const maxAgentWatches = 100

// Config is what the service depends on. All of it is required.
type Config struct {
	Store       *store.Store
	Credentials *credentials.Keeper
	Writer      *writer.Writer
	Audit       *audit.Log
	Log         *slog.Logger
	Now         func() time.Time
	Observer    Observer
}

// Service implements InteractionService.
type Service struct {
	zendeskv1.UnimplementedInteractionServiceServer
	store  *store.Store
	writer *writer.Writer
	audit  *audit.Log
	log    *slog.Logger
	now    func() time.Time
	agents *agents

	watches *turnstile.Turnstile[watched]

	observer Observer
}

// watched is an agent of a tenant, by its canonical e-mail address.
type watched struct{ tenant, email string }

// New makes the service.
func New(c Config) *Service {
	return &Service{
		store: c.Store, writer: c.Writer, audit: c.Audit, log: c.Log, now: c.Now, agents: newAgents(c.Credentials, c.Now),
		watches:  turnstile.New[watched](maxAgentWatches),
		observer: c.Observer,
	}
}

// Observer is told of what agents see. Its methods must be quick.
type Observer interface {
	// Popped is told of a screen pop that was shown: displayed, or as a link, or failed; delay is how long that took since its
	// delivery arrived.
	Popped(outcome string, delay time.Duration)
	// Watched is told of a watch that is open until leave is called.
	Watched() (leave func())
	// Panicked is told of a panic that was survived.
	Panicked(background bool)
}

// AgentLookups returns how often the id of an agent was known already, and how often not.
func (s *Service) AgentLookups() (hits, misses uint64) { return s.agents.ids.Lookups() }

// note makes the note of the caller's change.
func (s *Service) note(ctx context.Context, event string, attrs ...slog.Attr) store.Note {
	caller, _ := rpc.Caller(ctx)
	return s.audit.Note(caller, event, attrs...)
}

var interactionStates = map[store.InteractionState]zendeskv1.InteractionState{
	store.InteractionActive:    zendeskv1.InteractionState_INTERACTION_STATE_ACTIVE,
	store.InteractionCompleted: zendeskv1.InteractionState_INTERACTION_STATE_COMPLETED,
	store.InteractionExpired:   zendeskv1.InteractionState_INTERACTION_STATE_EXPIRED,
}

// logInteraction names the interaction in the log line of a call.
func logInteraction(ctx context.Context, id string) {
	rpc.AddFields(ctx, slog.String("interaction_id", id))
}

// GetInteraction implements InteractionService.
func (s *Service) GetInteraction(ctx context.Context, req *zendeskv1.GetInteractionRequest) (*zendeskv1.GetInteractionResponse, error) {
	var v rpc.Violations
	v.Token("interaction_id", req.GetInteractionId(), true)
	if err := v.Err(); err != nil {
		return nil, err
	}
	logInteraction(ctx, req.GetInteractionId())
	var interaction *zendeskv1.Interaction
	err := s.store.ViewInteraction(ctx, rpc.Tenant(ctx), req.GetInteractionId(), func(tx *store.InteractionTxn) error {
		if !tx.Exists() {
			return interactionNotFound(req.GetInteractionId())
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

func interactionNotFound(id string) error {
	return &rpc.Error{
		Reason:   zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND,
		Message:  fmt.Sprintf("interaction %q does not exist", id),
		Metadata: map[string]string{"interaction_id": id},
	}
}

func interactionToProto(tx *store.InteractionTxn, id string) (*zendeskv1.Interaction, error) {
	data, err := tx.AttachedData()
	if err != nil {
		return nil, err
	}
	pops, err := tx.ScreenPops()
	if err != nil {
		return nil, err
	}
	deliveries, err := tx.Deliveries()
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
		Deliveries:    allDeliveriesToProto(pops, deliveries),
	}
	if use, state := tx.Account(); state == store.AccountInForce {
		interaction.Account = rpc.AccountUseToProto(use)
	}
	err = tx.CurrentRecords(func(rs store.Recordset, raw json.RawMessage) error {
		var current *zendeskv1.Record
		if raw != nil {
			current = rpc.RecordToProto(raw, rs.Account.URL)
		}
		interaction.Recordsets = append(interaction.Recordsets, rpc.RecordsetToProto(rs, current))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, pop := range pops {
		interaction.ScreenPops = append(interaction.ScreenPops, rpc.ScreenPopToProto(pop))
	}
	return interaction, nil
}

// checkAgent checks an agent.
func checkAgent(v *rpc.Violations, field string, agent *zendeskv1.Agent) {
	email := agent.GetEmail()
	v.Text(field+".email", email, rpc.MaxEmail)
	if at := strings.LastIndexByte(email, '@'); email != "" && (at < 1 || at == len(email)-1 || strings.ContainsFunc(email, unicode.IsSpace)) {
		v.Add(field+".email", "must be an e-mail address")
	}
	v.ZendeskID(field+".zendesk_user_id", agent.GetZendeskUserId())
}

// canonicalAgent is an agent as deliveries are kept for: addresses are compared without regard to case, and a letter with a
// mark has two encodings.
func canonicalAgent(agent *zendeskv1.Agent) store.Agent {
	return store.Agent{Email: norm.NFC.String(strings.ToLower(agent.GetEmail())), ZendeskUserID: agent.GetZendeskUserId()}
}
