package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/intake"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/turnstile"
)

const (
	// Messages that are read or worked on take at most messageBytes of memory, as they came and as they were decoded.
	messageBytes           = 256 << 20
	messageBytesConnection = 16 << 20
	messageBytesTenant     = messageBytes / 4 // one tenant's leave room for the others'
	messageBytesStrangers  = 4 << 20          // of all that come without a credential

	messageTime = 10 * time.Second // from a call's start until its message is there
	messageWait = time.Second      // of that, for room

	// Health can be asked without a credential, and is for few: strangers may have so many calls of it at a time.
	maxHealthCalls           = 1000
	maxHealthCallsAddress    = 100
	maxHealthCallsConnection = 4

	maxReflections = 100 // of a tenant, at a time

	// crowdRetry is when there may be less of what there is too much of.
	crowdRetry = time.Second
)

const (
	maxMessage       = 4 << 20
	maxSmallMessage  = 64 << 10
	maxWatchMessage  = 4 << 10
	maxHealthMessage = 4 << 10
	maxBlockMessage  = 1 << 20 // variables are 512 KiB at most, an object 256 KiB, and each text is 4 KiB
	maxDataMessage   = 2 << 20 // keys and values of AttachedData are another 1 MiB, and less are query, headers and body of InvokeApi
)

// messageLimits are the bytes that messages may have where that is not maxSmallMessage: what their fields can hold, and
// some room for the names of fields to come.
var messageLimits = map[string]int{
	zendeskv1.BlockService_SelectAccount_FullMethodName: maxBlockMessage,
	zendeskv1.BlockService_Search_FullMethodName:        maxBlockMessage,
	zendeskv1.BlockService_GetNextRecord_FullMethodName: maxBlockMessage,
	zendeskv1.BlockService_ScreenPop_FullMethodName:     maxBlockMessage,
	zendeskv1.BlockService_AttachedData_FullMethodName:  maxDataMessage,
	zendeskv1.BlockService_CreateObject_FullMethodName:  maxBlockMessage,
	zendeskv1.BlockService_UpdateObject_FullMethodName:  maxBlockMessage,
	zendeskv1.BlockService_InvokeApi_FullMethodName:     maxDataMessage,

	zendeskv1.BlockService_IdentifyCaller_FullMethodName:   maxBlockMessage,
	zendeskv1.BlockService_FindOrCreateUser_FullMethodName: maxBlockMessage,

	zendeskv1.InteractionService_CompleteInteraction_FullMethodName: maxMessage, // a history is taken as it is
	zendeskv1.InteractionService_WatchScreenPops_FullMethodName:     maxWatchMessage,
}

func messageLimit(fullMethod string) int {
	if limit, ok := messageLimits[fullMethod]; ok {
		return limit
	}
	if strings.HasPrefix(fullMethod, healthPrefix) {
		return maxHealthMessage
	}
	return maxSmallMessage
}

// Bounds say how much there may be at a time. A zero field means its default, and one below zero no limit.
type Bounds struct {
	Connections           int // default 10,000
	ConnectionsPerAddress int // of an IPv4 address, or a /64 of IPv6; default 256
	CallsPerTenant        int // that run, streams but watches of screen pops included; default 5,000
	WatchesPerCredential  int // of screen pops; default 20,000
	BusyTenantPercent     int // of the processors' time, for calls of a tenant that has many while others call; default 3
}

func (b Bounds) withDefaults() Bounds {
	for _, bound := range []struct {
		of  *int
		def int
	}{{&b.Connections, 10_000}, {&b.ConnectionsPerAddress, 256}, {&b.CallsPerTenant, 5_000}, {&b.WatchesPerCredential, 20_000}, {&b.BusyTenantPercent, 3}} {
		if *bound.of == 0 {
			*bound.of = bound.def
		}
		*bound.of = max(*bound.of, 0)
	}
	return b
}

// admission lets calls in, as many as may run at a time, and reads their messages. Whose a call is was found out before.
type admission struct {
	reader      *intake.Reader
	calls       *turnstile.Turnstile[string] // by tenant; so with reflections
	reflections *turnstile.Turnstile[string]
	watches     *turnstile.Turnstile[credential]
	refusals    *refusals // of watches

	// Calls of health.
	strangers           *turnstile.Turnstile[struct{}]
	strangersAddress    *turnstile.Turnstile[string]
	strangersConnection *turnstile.Turnstile[*conn]
}

// credential tells the credentials of callers apart.
type credential struct{ tenant, name, kind string }

func newAdmission(b Bounds) *admission {
	return &admission{
		reader:              intake.New(intake.Config{Check: rpc.CheckWire, Bytes: messageBytes, Within: messageTime, Wait: messageWait}),
		calls:               turnstile.New[string](b.CallsPerTenant),
		reflections:         turnstile.New[string](maxReflections),
		watches:             turnstile.New[credential](b.WatchesPerCredential),
		refusals:            newRefusals(),
		strangers:           turnstile.New[struct{}](maxHealthCalls),
		strangersAddress:    turnstile.New[string](maxHealthCallsAddress),
		strangersConnection: turnstile.New[*conn](maxHealthCallsConnection),
	}
}

// enter lets a call in. Who was let in has to leave.
func (a *admission) enter(ctx context.Context, fullMethod string) (leave func(), err error) {
	caller, known := rpc.Caller(ctx)
	switch {
	case !known:
		gates := []func() (func(), error){past(a.strangers, struct{}{}, errTooManyHealthCalls)}
		if c := connectionOf(ctx); c != nil {
			gates = append(gates, past(a.strangersConnection, c, errTooManyHealthCalls))
			if c.address != "" {
				gates = append(gates, past(a.strangersAddress, c.address, errTooManyHealthCalls))
			}
		}
		return enter(gates...)
	case fullMethod == zendeskv1.InteractionService_WatchScreenPops_FullMethodName:
		return enter(past(a.watches, credential{caller.Tenant, caller.Name, caller.Credential}, func(limit string) error {
			return errTooManyWatches(caller.Name, limit)
		}))
	}
	refused := func(limit string) error { return errTooManyCalls(caller.Tenant, limit) }
	if strings.HasPrefix(fullMethod, reflectionPrefix) {
		return enter(past(a.reflections, caller.Tenant, refused), past(a.calls, caller.Tenant, refused))
	}
	return enter(past(a.calls, caller.Tenant, refused))
}

// past is a turnstile that a call has to pass, and what it is told if it may not.
func past[K comparable](t *turnstile.Turnstile[K], k K, refused func(limit string) error) func() (func(), error) {
	return func() (func(), error) {
		leave, ok := t.Enter(k)
		if !ok {
			return nil, refused(strconv.Itoa(t.Limit()))
		}
		return leave, nil
	}
}

// enter passes all gates, or none.
func enter(gates ...func() (func(), error)) (leave func(), err error) {
	var passed []func()
	leave = func() {
		for _, l := range passed {
			l()
		}
	}
	for _, g := range gates {
		l, err := g()
		if err != nil {
			leave()
			return nil, err
		}
		passed = append(passed, l)
	}
	return leave, nil
}

func errTooManyHealthCalls(limit string) error {
	return &rpc.Error{
		Reason:     zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_CALLS,
		Message:    fmt.Sprintf("calls of health that run are as many as may: %s", limit),
		Metadata:   map[string]string{"limit": limit},
		RetryAfter: crowdRetry,
	}
}

func errTooManyCalls(tenant, limit string) error {
	return &rpc.Error{
		Reason:     zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_CALLS,
		Message:    fmt.Sprintf("tenant %q has as many such calls running as it may: %s", tenant, limit),
		Metadata:   map[string]string{"tenant": tenant, "limit": limit},
		RetryAfter: crowdRetry,
	}
}

func errTooManyWatches(caller, limit string) error {
	return &rpc.Error{
		Reason:     zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_WATCHES,
		Message:    fmt.Sprintf("%q has as many watches open as it may: %s", caller, limit),
		Metadata:   map[string]string{"caller": caller, "limit": limit},
		RetryAfter: crowdRetry,
	}
}

// Owners of messages, beside connections.
type (
	tenantMessages   string
	strangerMessages struct{}
)

// call says what intake has to know of a call.
func (a *admission) call(ctx context.Context, fullMethod string, many bool) intake.Call {
	call := intake.Call{Method: fullMethod, Limit: messageLimit(fullMethod), Many: many}
	if c := connectionOf(ctx); c != nil {
		call.Shares = append(call.Shares, intake.Share{Owner: c, Bytes: messageBytesConnection})
	}
	if caller, ok := rpc.Caller(ctx); ok {
		call.Shares = append(call.Shares, intake.Share{Owner: tenantMessages(caller.Tenant), Bytes: messageBytesTenant})
	} else {
		call.Shares = append(call.Shares, intake.Share{Owner: strangerMessages{}, Bytes: messageBytesStrangers})
	}
	return call
}

// unary is the interceptor of unary calls. The request of those outside of it is nil; that of those within is the message,
// which is decoded where the method is known: see registrar.
func (a *admission) unary(ctx context.Context, _ any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	leave, err := a.enter(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	defer leave()
	message, err := a.reader.Read(ctx, a.call(ctx, info.FullMethod, false))
	if err != nil {
		return nil, err
	}
	defer message.Release()
	return handler(ctx, message)
}

// stream is the stage of streams.
func (a *admission) stream(stream grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	leave, err := a.enter(stream.Context(), info.FullMethod)
	if err != nil {
		return nil, nil, err
	}
	return &readStream{stream, a.reader, a.call(stream.Context(), info.FullMethod, info.IsClientStream)}, func(err error) error {
		defer leave()
		if caller, _ := rpc.Caller(stream.Context()); caller.Agent != "" && isTooManyWatches(err) { // else it may be one agent's of many
			a.refusals.note(stream.Context())
		}
		return err
	}, nil
}

func isTooManyWatches(err error) bool {
	refused, ok := errors.AsType[*rpc.Error](err)
	return ok && refused.Reason == zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_WATCHES
}

// readStream is a stream whose messages intake reads.
type readStream struct {
	grpc.ServerStream
	reader *intake.Reader
	call   intake.Call
}

// RecvMsg implements grpc.ServerStream.
func (s *readStream) RecvMsg(m any) error {
	message, err := s.reader.Read(s.Context(), s.call)
	if err != nil {
		return err
	}
	defer message.Release()
	return message.Decode(m)
}

// registrar registers services so that the credential of a unary call is judged before its message is read: gRPC's handlers
// read first, and call the interceptors then.
type registrar struct {
	*grpc.Server
	decoded grpc.UnaryServerInterceptor // of unary calls whose message is decoded; nil: none
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	own := *desc
	own.Methods = slices.Clone(desc.Methods)
	for i := range own.Methods {
		m := &own.Methods[i]
		m.Handler = interceptFirst(fmt.Sprintf("/%s/%s", desc.ServiceName, m.MethodName), m.Handler, r.decoded)
	}
	r.Server.RegisterService(&own, impl)
}

// interceptFirst makes a handler whose message is what the interceptors read.
func interceptFirst(fullMethod string, handler grpc.MethodHandler, decoded grpc.UnaryServerInterceptor) grpc.MethodHandler {
	return func(srv any, ctx context.Context, _ func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		growStack()
		info := &grpc.UnaryServerInfo{Server: srv, FullMethod: fullMethod}
		return intercept(ctx, nil, info, func(ctx context.Context, req any) (any, error) {
			return handler(srv, ctx, req.(*intake.Message).Decode, decoded)
		})
	}
}

// stackBytes are what most calls need at their deepest.
const stackBytes = 11 << 10

// growStack gives the goroutine of a call a stack that is large enough. GRPC begins one for each, and its stack is copied each time
// it has to grow, by then with all that stands on it.
//
//go:noinline
func growStack() byte {
	var room [stackBytes]byte
	return room[roomUsed]
}

var roomUsed int // not a constant, so that the compiler does not leave the room out
