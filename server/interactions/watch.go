package interactions

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// missedFor is how long ago deliveries were made at most that a watch begins with, unless it says since when. Later on it is how
// old those become that a watcher is too slow for.
const missedFor = 30 * time.Second

// WatchScreenPops implements InteractionService. What is sent is read from the store each time that it changes, so that a
// slow watcher holds up nobody and nothing piles up for it: what it is too slow for is older than 30 s, and gone.
//
// While it waits, little stands on its stack: what is done before and after is in functions of its own.
func (s *Service) WatchScreenPops(req *zendeskv1.WatchScreenPopsRequest, stream zendeskv1.InteractionService_WatchScreenPopsServer) error {
	w, err := s.enterWatch(req, stream)
	if err != nil {
		return err
	}
	defer w.leave()
	if err := w.begin(req.GetSince()); err != nil {
		return err
	}
	for range w.changes {
		if err := w.sendNew(); err != nil {
			return err
		}
	}
	return w.ended()
}

// watch is a watch that is open.
type watch struct {
	service *Service
	stream  zendeskv1.InteractionService_WatchScreenPopsServer
	watched
	changes <-chan struct{} // see [store.Store.WatchDelivered]
	sent    map[string]bool // is not to be sent any more, of what a look finds; nil: nothing
	outside func()          // leaves the turnstile
	closed  func()          // tells the observer
}

// enterWatch lets a watch in that may be. It has to leave.
func (s *Service) enterWatch(req *zendeskv1.WatchScreenPopsRequest, stream zendeskv1.InteractionService_WatchScreenPopsServer) (*watch, error) {
	var v rpc.Violations
	checkAgent(&v, "agent", req.GetAgent())
	v.Time("since", req.GetSince())
	if err := v.Err(); err != nil {
		return nil, err
	}
	if caller, _ := rpc.Caller(stream.Context()); !caller.MayWatch(req.GetAgent().GetEmail()) {
		return nil, &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED,
			Message:  fmt.Sprintf("%q may not watch this agent", caller.Name),
			Metadata: map[string]string{"caller": caller.Name},
		}
	}
	of := watched{rpc.Tenant(stream.Context()), canonicalAgent(req.GetAgent()).Email}
	leave, ok := s.watches.Enter(of)
	if !ok {
		limit := strconv.Itoa(maxAgentWatches)
		return nil, &rpc.Error{
			Reason:     zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_WATCHES,
			Message:    "the agent is watched as often as may be: " + limit,
			Metadata:   map[string]string{"limit": limit},
			RetryAfter: time.Second,
		}
	}
	return &watch{service: s, stream: stream, watched: of, outside: leave, closed: s.observer.Watched()}, nil
}

func (w *watch) leave() {
	w.closed()
	w.outside()
}

// begin sends what a watch begins with: what was delivered since then, or, if that is nil, lately. Also what is older, but not so old
// that the next look does not find it, is not to be sent any more. What comes later is sent whatever its time, which another clock
// may have told.
func (w *watch) begin(since *timestamppb.Timestamp) (err error) {
	if w.changes, err = w.service.store.WatchDelivered(w.stream.Context(), w.tenant, w.email); err != nil {
		return err
	}
	if err := w.stream.SendHeader(metadata.MD{}); err != nil {
		return fmt.Errorf("sending headers: %w", err)
	}
	looked := w.service.now().Add(-missedFor)
	from := looked
	if since != nil {
		from = since.AsTime()
	}
	if from.Before(looked) {
		looked = from
	}
	list, err := w.service.store.DeliveredTo(w.stream.Context(), w.tenant, w.email, looked)
	if err != nil {
		return err
	}
	older := make(map[string]bool)
	for _, item := range list {
		if item.Time.Before(from) {
			older[item.ID] = true
		}
	}
	w.sent, err = sendDelivered(w.stream, list, older)
	return err
}

// sendNew sends what has not been sent.
func (w *watch) sendNew() error {
	list, err := w.service.store.DeliveredTo(w.stream.Context(), w.tenant, w.email, w.service.now().Add(-missedFor))
	if err != nil {
		return err
	}
	w.sent, err = sendDelivered(w.stream, list, w.sent)
	return err
}

// ended says why there are no changes any more.
func (w *watch) ended() error {
	if err := w.stream.Context().Err(); err != nil {
		return err
	}
	return store.ErrClosed
}

// sendDelivered sends what has not been sent, and returns what of the list has been.
func sendDelivered(stream zendeskv1.InteractionService_WatchScreenPopsServer, list []store.Delivered, sent map[string]bool) (map[string]bool, error) {
	if len(list) == 0 {
		return nil, nil
	}
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
