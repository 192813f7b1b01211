// Package once makes a request that is repeated with its request_id act once, and gives it the first answer again.
//
// It hides what is kept of a request and its answer, how repeats wait for one another, and what counts as the same request.
// The scope of a request_id is its interaction and RPC. Requests without one act each time.
//
//	turn, err := once.Turn(ctx, st, "request", tenant, ...) // one after the other
//	...
//	defer turn.Release()
//	err = st.UpdateInteraction(ctx, tenant, id, func(tx *store.InteractionTxn) error {
//		kept, found, err := once.Kept[*zendeskv1.SearchResponse](tx, "Search", req)
//		if err != nil || found {
//			resp = kept
//			return err
//		}
//		...
//		return once.Keep(tx, "Search", req, resp)
//	})
package once

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Request is what requests have that can be repeated.
type Request interface {
	proto.Message
	GetRequestId() string
}

// Kept returns the answer that the request_id was given before. Another request with the same id is refused with
// REQUEST_ID_REUSED, and so is the same one when its answer is not kept any more: it is never run again.
func Kept[R proto.Message](tx *store.InteractionTxn, method string, req Request) (resp R, found bool, err error) {
	if req.GetRequestId() == "" {
		return resp, false, nil
	}
	kept, found, err := tx.Reply(method, req.GetRequestId())
	if err != nil || !found {
		return resp, false, err
	}
	if !Matches(kept.Fingerprint, req) {
		return resp, false, reused(req, "was used before with other settings")
	}
	if kept.Gone {
		return resp, false, reused(req, "ran before, and its answer is not kept any more: it does not run again")
	}
	resp = resp.ProtoReflect().New().Interface().(R)
	if err := proto.Unmarshal(kept.Body, resp); err != nil {
		return resp, false, fmt.Errorf("reading a kept reply: %w", err)
	}
	if shown, ok := proto.Message(resp).(*zendeskv1.AttachedDataResponse); ok && kept.ShowsData && len(kept.Data) > 0 {
		shown.Data = kept.Data
	}
	return resp, true, nil
}

func reused(req Request, what string) error {
	return &rpc.Error{
		Reason:   zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED,
		Message:  fmt.Sprintf("request_id %q %s", req.GetRequestId(), what),
		Metadata: map[string]string{"request_id": req.GetRequestId()},
	}
}

// Keep keeps an answer for its request_id. An answer that shows the attached data shows them as the transaction leaves them.
func Keep(tx *store.InteractionTxn, method string, req Request, resp proto.Message) error {
	return keep(tx, method, req, resp, time.Time{})
}

// KeepIntent keeps, before a request is carried out, what it is answered if no more becomes known of it: so a repeat does not
// carry it out a second time, whatever became of the first. Where that does no harm until a time, for what is done then is
// recognised as the same, it may run again until then: againUntil; zero: never. Keep takes the intent's place, and Drop forgets it.
func KeepIntent(tx *store.InteractionTxn, method string, req Request, resp proto.Message, againUntil time.Time) error {
	return keep(tx, method, req, resp, againUntil)
}

// Begun reports whether an intent is kept of a request that may run again.
func Begun(tx *store.InteractionTxn, method string, req Request) (bool, error) {
	if req.GetRequestId() == "" {
		return false, nil
	}
	return tx.RunsAgain(method, req.GetRequestId())
}

// Drop forgets the intent of a request that was not carried out: a repeat runs again.
func Drop(tx *store.InteractionTxn, method string, req Request) {
	if req.GetRequestId() != "" {
		tx.DropReply(method, req.GetRequestId())
	}
}

func keep(tx *store.InteractionTxn, method string, req Request, resp proto.Message, againUntil time.Time) error {
	if req.GetRequestId() == "" {
		return nil
	}
	reply := store.Reply{Fingerprint: Fingerprint(req), AgainUntil: againUntil}
	if shown, ok := resp.(*zendeskv1.AttachedDataResponse); ok {
		rest := proto.CloneOf(shown)
		rest.Data, reply.ShowsData = nil, true
		resp = rest
	}
	var err error
	if reply.Body, err = proto.Marshal(resp); err != nil {
		return fmt.Errorf("keeping a reply: %w", err)
	}
	tx.KeepReply(method, req.GetRequestId(), reply)
	return nil
}

// Turn waits until nothing else, in any process, is about what a name tells: of a kind, such as the requests with a request_id,
// and by the ids that tell one of them. The claim is to be released when that has ended. Errors: those of
// [store.Store.AwaitClaim].
func Turn(ctx context.Context, st *store.Store, kind, tenant string, ids ...string) (*store.Claim, error) {
	return st.AwaitClaim(ctx, kind, tenant, st.HashedName(append([]string{kind, tenant}, ids...)...))
}
