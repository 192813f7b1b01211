package server

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// unaryInterceptors is the chain of every unary call, outermost first.
func unaryInterceptors(log *slog.Logger, m *metrics.Metrics, access *access, admission *admission, timeouts Timeouts, turns *rpc.Turns) []grpc.UnaryServerInterceptor {
	counted, _ := m.Interceptors()
	return []grpc.UnaryServerInterceptor{
		// Metrics stand outside all others: they time all that is done for a call.
		counted,
		// Counting stands outside all that works for a call: a drain waits for all that is done for a call.
		countCall,
		// Logging stands outside errors and recovery, so that the finish of a call that panicked is logged too.
		callLog{log, m}.unary,
		// Errors stands outside recovery: a panic becomes an error there, and INTERNAL here.
		rpc.UnaryErrors,
		// Recovery stands outside all code of ours that reads a request.
		recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(rpc.Recovered)),
		// Authentication comes before anything of the message is read.
		access.unary,
		// Admission stands within authentication, which says whose the call is. It reads the message.
		admission.unary,
		// The deadline stands within these: what they do must not eat into it.
		(&deadlines{timeouts: timeouts}).unary,
		// Turns are the innermost: who waits for one does so within the deadline, and holds nothing of the processors.
		turns.Unary,
	}
}

// streamStages are those of every stream, outermost first.
func streamStages(log *slog.Logger, m *metrics.Metrics, access *access, admission *admission, timeouts Timeouts, ends *streamEnds) []stage {
	return []stage{
		callLog{log, m}.stream,
		streamErrors,
		// What ends streams stands within errors, which words it, and outside the handler, which sees its context end.
		ends.stream,
		access.stream,
		admission.stream,
		(&deadlines{timeouts: timeouts}).stream,
	}
}

// streamInterceptors is the chain of every stream: metrics time all that is done for it.
func streamInterceptors(m *metrics.Metrics, stages []stage) []grpc.StreamServerInterceptor {
	_, counted := m.Interceptors()
	return []grpc.StreamServerInterceptor{counted, inStages(stages...)}
}

// streamErrors is the stage by which the errors of streams cross to gRPC.
func streamErrors(stream grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	return stream, func(err error) error { return rpc.StreamError(stream.Context(), info.FullMethod, err) }, nil
}

// Timeouts says how long calls may take. A zero field means its default.
type Timeouts struct {
	Block    time.Duration // of a block whose caller sets no deadline; default 3 s
	BlockCap time.Duration // of a block at most, whatever its caller sets; default 8 s
	Zendesk  time.Duration // of TestConnection, StreamTestConnection and RequestToken, default and cap; default 15 s
	Deliver  time.Duration // of DeliverInteraction when its caller sets no deadline; default 5 s
	Other    time.Duration // of all other unary calls whose caller sets no deadline; default 3 s
}

func (t Timeouts) withDefaults() Timeouts {
	orDefault := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	orDefault(&t.Block, 3*time.Second)
	orDefault(&t.BlockCap, 8*time.Second)
	orDefault(&t.Zendesk, 15*time.Second)
	orDefault(&t.Deliver, 5*time.Second)
	orDefault(&t.Other, 3*time.Second)
	return t
}

// of returns how long a call of the method has when its caller sets no deadline, and at most; 0 is no limit.
func (t Timeouts) of(fullMethod string) (timeout, limit time.Duration) {
	switch fullMethod {
	case zendeskv1.AccountService_TestConnection_FullMethodName, zendeskv1.AccountService_StreamTestConnection_FullMethodName,
		zendeskv1.AccountService_RequestToken_FullMethodName:
		return t.Zendesk, t.Zendesk
	case zendeskv1.InteractionService_DeliverInteraction_FullMethodName:
		return t.Deliver, 0
	}
	if strings.HasPrefix(fullMethod, "/"+zendeskv1.BlockService_ServiceDesc.ServiceName+"/") {
		return t.Block, t.BlockCap
	}
	return t.Other, 0
}

// deadlines bounds how long calls take, and counts those that run.
type deadlines struct {
	timeouts Timeouts
	crowd    rpc.Crowd
}

// within bounds a call, until it is done.
func (d *deadlines) within(ctx context.Context, fullMethod string) (bound context.Context, done func()) {
	timeout, limit := d.timeouts.of(fullMethod)
	if _, ok := ctx.Deadline(); ok {
		timeout = limit
	}
	cancel := func() {}
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	ctx, leave := d.crowd.Enter(ctx)
	return ctx, func() { leave(); cancel() }
}

// stream bounds the streams that have an end by themselves. The others have none of ours.
func (d *deadlines) stream(stream grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	if info.FullMethod != zendeskv1.AccountService_StreamTestConnection_FullMethodName {
		return stream, nil, nil
	}
	ctx, done := d.within(stream.Context(), info.FullMethod)
	return &streamWithin{stream, ctx}, func(err error) error {
		defer done()
		if err != nil {
			return rpc.Ended(ctx, err)
		}
		return nil
	}, nil
}

func (d *deadlines) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, done := d.within(ctx, info.FullMethod)
	defer done()
	resp, err := handler(ctx, req)
	if err != nil && !rpc.Foreign(info.FullMethod, err) {
		return nil, rpc.Ended(ctx, err) // outside of here a deadline of ours is not known
	}
	return resp, err
}
