package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// blockService implements BlockService. Each block stands in a file of its own; what they share stands here: executing
// once per request_id, and answering in time.
type blockService struct {
	zendeskv1.UnimplementedBlockServiceServer
	store   *store.Store
	zendesk *zendesk
	now     func() time.Time
	running executions
}

// blockRequest is what the requests of all blocks have.
type blockRequest interface {
	proto.Message
	GetInteractionId() string
	GetVariables() map[string]string
	GetRequestId() string
}

// blockResponse is what the responses of all blocks have.
type blockResponse interface {
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
	request     blockRequest
}

// executeOnce runs execute, unless the request was answered before: then that answer is given again. Requests with one
// id run one after the other. inVain answers a request that waited for another until its time was up.
func executeOnce[R blockResponse](ctx context.Context, s *blockService, rpc string, req blockRequest,
	inVain func(context.Context, *block, *zendeskv1.Failure) (R, error), execute func(context.Context, *block) (R, error),
) (R, error) {
	b := &block{tenant: tenantOf(ctx), interaction: req.GetInteractionId(), rpc: rpc, request: req}
	resp, err := func() (R, error) {
		if req.GetRequestId() != "" {
			waitCtx, cancel := answerInTime(ctx)
			defer cancel()
			release, err := s.running.start(waitCtx, [4]string{b.tenant, b.interaction, rpc, req.GetRequestId()})
			if err != nil {
				return inVain(ctx, b, failure(zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT, "an earlier request with this request_id still runs"))
			}
			defer release()
		}
		return execute(ctx, b)
	}()
	if err == nil {
		logging.AddFields(ctx, blockFields(req, resp))
	}
	return resp, err
}

// changingNothing is how blocks answer in vain whose failures change nothing.
func changingNothing[R blockResponse](failed func(*zendeskv1.Failure) R) func(context.Context, *block, *zendeskv1.Failure) (R, error) {
	return func(_ context.Context, _ *block, f *zendeskv1.Failure) (R, error) { return failed(f), nil }
}

// blockFields is what the log says of a block beside the call itself.
func blockFields(req blockRequest, resp blockResponse) logging.Fields {
	fields := logging.Fields{
		"interaction_id", req.GetInteractionId(),
		"exit", strings.TrimPrefix(resp.GetExit().String(), "EXIT_"),
	}
	if account := resp.GetAccount(); account != nil {
		fields = append(fields, "account_id", account.GetAccountId())
	}
	if f := resp.GetFailure(); f != nil {
		fields = append(fields, "reason", strings.TrimPrefix(f.GetReason().String(), "FAILURE_REASON_"))
		if f.GetHttpStatus() != 0 {
			fields = append(fields, "http_status", f.GetHttpStatus(), "zendesk_request_id", f.GetZendeskRequestId())
		}
	}
	return fields
}

// transact runs decide in one transaction of the block's interaction and keeps its answer for the request_id. When the
// transaction finds a kept answer, that is returned and decide does not run; failed words the answer when the interaction
// has ended.
func transact[R blockResponse](ctx context.Context, s *blockService, b *block, failed func(*zendeskv1.Failure) R, decide func(*store.InteractionTxn) (R, error)) (R, error) {
	var resp R
	err := s.store.UpdateInteraction(ctx, b.tenant, b.interaction, func(tx *store.InteractionTxn) error {
		kept, found, err := keptReply[R](tx, b)
		if err != nil || found {
			resp = kept
			return err
		}
		if f := overFor(tx, b.rpc); f != nil {
			resp = failed(f)
			return nil
		}
		if resp, err = decide(tx); err != nil {
			return err
		}
		return keepReply(tx, b, resp)
	})
	return resp, err
}

// overFor says why an interaction that has ended does not take a block any more; nil if it does. After completion the blocks
// still run that do not change what was written: surveys and post-call workflows use them.
func overFor(tx *store.InteractionTxn, rpc string) *zendeskv1.Failure {
	switch {
	case tx.State() == store.InteractionExpired:
		return failure(zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_EXPIRED, "the interaction was left alone for too long and is gone")
	case tx.State() == store.InteractionCompleted && (rpc == "ScreenPop" || rpc == "AttachedData"):
		return failure(zendeskv1.FailureReason_FAILURE_REASON_INTERACTION_COMPLETED, "the interaction is completed, and its activity no longer changes")
	}
	return nil
}

// keptReply returns the answer that the block's request_id was given before.
func keptReply[R blockResponse](tx *store.InteractionTxn, b *block) (resp R, found bool, err error) {
	if b.request.GetRequestId() == "" {
		return resp, false, nil
	}
	kept, found, err := tx.Reply(b.rpc, b.request.GetRequestId())
	if err != nil || !found {
		return resp, false, err
	}
	fingerprint, err := fingerprint(b.request)
	if err != nil {
		return resp, false, err
	}
	if string(kept.Fingerprint) != string(fingerprint) {
		return resp, false, &publicError{
			reason:   zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED,
			message:  fmt.Sprintf("request_id %q was used before with other settings", b.request.GetRequestId()),
			metadata: map[string]string{"request_id": b.request.GetRequestId()},
		}
	}
	resp = resp.ProtoReflect().New().Interface().(R)
	if err := proto.Unmarshal(kept.Body, resp); err != nil {
		return resp, false, fmt.Errorf("reading a kept reply: %w", err)
	}
	return resp, true, nil
}

// keepReply keeps an answer for its request_id. FAILED ones are not kept: the repeat executes again.
func keepReply[R blockResponse](tx *store.InteractionTxn, b *block, resp R) error {
	if b.request.GetRequestId() == "" || resp.GetExit() == zendeskv1.Exit_EXIT_FAILED {
		return nil
	}
	fingerprint, err := fingerprint(b.request)
	if err != nil {
		return err
	}
	body, err := proto.Marshal(resp)
	if err != nil {
		return fmt.Errorf("keeping a reply: %w", err)
	}
	tx.KeepReply(b.rpc, b.request.GetRequestId(), store.Reply{Fingerprint: fingerprint, Body: body})
	return nil
}

// fingerprint identifies the settings of a request, without its variables.
func fingerprint(req proto.Message) ([]byte, error) {
	settings := req.ProtoReflect().New()
	req.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Name() != "variables" {
			settings.Set(field, value)
		}
		return true
	})
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(settings.Interface())
	if err != nil {
		return nil, fmt.Errorf("reading the settings of a block: %w", err)
	}
	sum := sha256.Sum256(body)
	return sum[:], nil
}

// answerInTime leaves a part of the caller's time for what comes after Zendesk: storing, and the way back.
func answerInTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	reserve := min(max(time.Until(deadline)/10, 20*time.Millisecond), 250*time.Millisecond)
	return context.WithDeadline(ctx, deadline.Add(-reserve))
}

// executions lets one request per key run at a time.
type executions struct {
	mu      sync.Mutex
	running map[[4]string]chan struct{} // closed when the request has ended
}

// start waits until no request with the key runs, or ctx is done. The caller calls release when it has ended.
func (e *executions) start(ctx context.Context, key [4]string) (release func(), err error) {
	for {
		e.mu.Lock()
		ended, busy := e.running[key]
		if !busy {
			if e.running == nil {
				e.running = make(map[[4]string]chan struct{})
			}
			ended = make(chan struct{})
			e.running[key] = ended
		}
		e.mu.Unlock()
		if !busy {
			return func() {
				e.mu.Lock()
				delete(e.running, key)
				e.mu.Unlock()
				close(ended)
			}, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
