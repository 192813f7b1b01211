// Package blocks implements BlockService: it decides what each block of a scenario does, and words what the scenario is
// told. Each block stands in a file of its own; what they share stands here and in values.go.
//
// Blocks answer before their deadline: what Zendesk refuses, or does not say in time, is an exit of the block, not an error.
// State changes of one interaction are serial transactions; none is open while Zendesk is asked.
package blocks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/once"
	"github.com/scenarioblocks/zendeskblocks/server/people"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Config is what the service depends on. All of it is required.
type Config struct {
	Store       *store.Store
	Credentials *credentials.Keeper
	People      *people.Directory
	Log         *slog.Logger
	Now         func() time.Time
}

// Service implements BlockService.
type Service struct {
	zendeskv1.UnimplementedBlockServiceServer
	store       *store.Store
	credentials *credentials.Keeper
	log         *slog.Logger
	people      *people.Directory
	now         func() time.Time
	writes      writes
}

// New makes the service.
func New(c Config) *Service {
	return &Service{store: c.Store, credentials: c.Credentials, people: c.People, log: c.Log, now: c.Now}
}

// request is what the requests of all blocks have.
type request interface {
	proto.Message
	GetInteractionId() string
	GetVariables() map[string]string
	GetRequestId() string
	GetValidateOnly() bool
}

// response is what the responses of all blocks have.
type response interface {
	proto.Message
	GetExit() zendeskv1.Exit
	GetAccount() *zendeskv1.AccountUse
	GetFailure() *zendeskv1.Failure
}

// block is one execution of a block.
type block struct {
	tenant      string
	interaction string
	rpc         string
	request     request

	explained *zendeskv1.Explanation // what would be done, of a block that is not carried out; nil: it is
	turn      *store.Claim           // of its request_id, or of the ticket that it makes; nil: it needs none
	outlived  bool                   // by a write, which ends the turn itself
}

// leave ends the block's turn.
func (b *block) leave() {
	if b.turn != nil {
		b.turn.Release()
	}
}

// inTurn is for what is stored only while the turn is the block's.
func (b *block) inTurn(ctx context.Context) context.Context {
	if b.turn == nil {
		return ctx
	}
	return store.Fenced(ctx, b.turn)
}

// Kinds of turns.
const (
	turnOfRequest = "request"
	turnOfTicket  = "ticket"
)

// turnOf says which blocks run one after the other: of what kind the turn is, and what it is about, beside the tenant; "": none.
// One that makes the ticket of its interaction waits for all others that do. Of those with one request_id, which the transactions
// that they end with let answer once, only those that write to Zendesk wait for one another in several processes: a turn there
// takes transactions of its own, and what only reads may be read twice.
func turnOf(method string, req request, shared bool) (kind string, about []string) {
	writes := false
	switch req := req.(type) {
	case *zendeskv1.ScreenPopRequest:
		if req.GetCreateTicket() != nil {
			kind, about = turnOfTicket, []string{req.GetInteractionId()}
		}
	case *zendeskv1.CreateObjectRequest, *zendeskv1.UpdateObjectRequest, *zendeskv1.FindOrCreateUserRequest:
		writes = true
	case *zendeskv1.InvokeApiRequest:
		writes = !zendeskapi.Reads(req.GetMethod())
	}
	switch {
	case req.GetValidateOnly():
		return "", nil
	case kind == "" && req.GetRequestId() != "" && (writes || !shared):
		return turnOfRequest, []string{req.GetInteractionId(), method, req.GetRequestId()}
	}
	return kind, about
}

// waitInVain is what a block is told that waited for its turn until its time was up.
func waitInVain(kind string) *zendeskv1.Failure {
	if kind == turnOfTicket {
		return rpc.Failure(store.ReasonRequestInProgress, "the ticket of the interaction is still being made")
	}
	return rpc.Failure(store.ReasonRequestInProgress, "an earlier request with this request_id still runs")
}

// take waits for the block's turn, for as long as there is time; [store.ErrClaimed] when there is none left.
func (s *Service) take(ctx context.Context, b *block, kind string, about []string) (err error) {
	inTime, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	rpc.Aside(inTime, func() { b.turn, err = once.Turn(inTime, s.store, kind, b.tenant, about...) })
	if err != nil && !errors.Is(err, store.ErrClaimed) && inTime.Err() != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err) // not even whose turn it is was told in time
	}
	return err
}

// executeOnce runs execute, unless the request was answered before: then that answer is given again. Requests with one
// id run one after the other; see turnOf. inVain answers a request that waited for another until its time was up, or that another
// process has begun since it took this one for dead. A request that is only to be explained has no part in that: it is no
// execution.
func executeOnce[R response](ctx context.Context, s *Service, method string, req request,
	inVain func(context.Context, *block, *zendeskv1.Failure) (R, error), execute func(context.Context, *block) (R, error),
) (R, error) {
	b := &block{tenant: rpc.Tenant(ctx), interaction: req.GetInteractionId(), rpc: method, request: req}
	if req.GetValidateOnly() {
		b.explained = &zendeskv1.Explanation{}
	}
	rpc.AddFields(ctx, slog.String("interaction_id", b.interaction))
	resp, err := func() (none R, err error) {
		kind, about := turnOf(method, req, s.store.Shared())
		if kind != "" {
			if err := s.take(ctx, b, kind, about); errors.Is(err, store.ErrClaimed) {
				return inVain(ctx, b, waitInVain(kind))
			} else if err != nil {
				return none, err
			}
		}
		defer func() {
			if !b.outlived {
				b.leave()
			}
		}()
		resp, err := execute(ctx, b)
		if errors.Is(err, store.ErrClaimLost) {
			return inVain(ctx, b, waitInVain(kind))
		}
		return resp, err
	}()
	if err == nil && b.explained != nil {
		b.explain(resp)
	}
	if err == nil {
		rpc.Traced(ctx, resp.GetFailure())
		rpc.AddFields(ctx, blockFields(resp)...)
	}
	return resp, err
}

// changingNothing is how blocks answer in vain whose failures change nothing.
func changingNothing[R response](failed func(*zendeskv1.Failure) R) func(context.Context, *block, *zendeskv1.Failure) (R, error) {
	return func(_ context.Context, _ *block, f *zendeskv1.Failure) (R, error) { return failed(f), nil }
}

// blockFields is what the log says of how a block ended.
func blockFields(resp response) []slog.Attr {
	fields := []slog.Attr{slog.String("exit", strings.TrimPrefix(resp.GetExit().String(), "EXIT_"))}
	if account := resp.GetAccount(); account != nil {
		fields = append(fields, slog.String("account_id", account.GetAccountId()))
	}
	if f := resp.GetFailure(); f != nil {
		fields = append(fields, slog.String("reason", string(rpc.ReasonFromProto(f.GetReason()))))
		if reason := rpc.ReasonFromProto(f.GetReason()); rpc.ConcernsOperators(reason) && f.GetHttpStatus() == 0 {
			// Not what others said: Zendesk's words, or the scenario's, may be about a person.
			fields = append(fields, slog.String("message", f.GetMessage()))
		}
		if f.GetHttpStatus() != 0 {
			fields = append(fields, slog.Int("http_status", int(f.GetHttpStatus())), slog.String("zendesk_request_id", f.GetZendeskRequestId()))
		}
	}
	return fields
}

// transact runs decide in one transaction of the block's interaction and keeps its answer for the request_id, unless it is
// FAILED: then the repeat executes again. When the transaction finds a kept answer, that is returned and decide does not
// run; failed words the answer when the interaction has ended.
func transact[R response](ctx context.Context, s *Service, b *block, failed func(*zendeskv1.Failure) R, decide func(*store.InteractionTxn) (R, error)) (R, error) {
	var resp R
	err := s.update(ctx, b, func(tx *store.InteractionTxn) error {
		kept, found, err := keptAnswer[R](tx, b)
		if err != nil || found {
			resp = kept
			return err
		}
		if f := overFor(tx, b.rpc); f != nil {
			resp = failed(f)
			return nil
		}
		if resp, err = decide(tx); err != nil || resp.GetExit() == zendeskv1.Exit_EXIT_FAILED {
			return err
		}
		return once.Keep(tx, b.rpc, b.request, resp)
	})
	return resp, err
}

// update runs fn in a transaction of the block's interaction. Of a block that is only explained it leaves nothing: all that it
// stores goes through here.
func (s *Service) update(ctx context.Context, b *block, fn func(*store.InteractionTxn) error) error {
	err := s.store.UpdateInteraction(ctx, b.tenant, b.interaction, func(tx *store.InteractionTxn) error {
		err := fn(tx)
		if err == nil && b.explained != nil {
			err = errOnlyExplained
		}
		return err
	})
	if errors.Is(err, errOnlyExplained) {
		return nil
	}
	return err
}

var errOnlyExplained = errors.New("the block is only explained")

// keptAnswer is the answer that the block's request_id was given before. One that is only explained has none.
func keptAnswer[R response](tx *store.InteractionTxn, b *block) (resp R, found bool, err error) {
	if b.explained != nil {
		return resp, false, nil
	}
	return once.Kept[R](tx, b.rpc, b.request)
}

// overFor says why an interaction that has ended does not take a block any more; nil if it does. After completion the blocks
// still run that do not change what was written: surveys and post-call workflows use them.
func overFor(tx *store.InteractionTxn, method string) *zendeskv1.Failure {
	switch {
	case tx.State() == store.InteractionExpired:
		return rpc.Failure(store.ReasonInteractionExpired, "the interaction was left alone for too long and is gone")
	case tx.State() == store.InteractionCompleted && (method == "ScreenPop" || method == "AttachedData"):
		return rpc.Failure(store.ReasonInteractionCompleted, "the interaction is completed, and its activity no longer changes")
	}
	return nil
}
