package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/intake"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// methodRoles says who may call what: a caller needs one of the roles. A method that is not here is nobody's. The operator's
// guide, cmd/zendeskblocks/README.md, has the same table.
var methodRoles = map[string][]auth.Role{
	zendeskv1.AccountService_CreateAccount_FullMethodName:        {auth.Admin},
	zendeskv1.AccountService_GetAccount_FullMethodName:           {auth.Admin, auth.Ops},
	zendeskv1.AccountService_ListAccounts_FullMethodName:         {auth.Admin, auth.Ops},
	zendeskv1.AccountService_UpdateAccount_FullMethodName:        {auth.Admin},
	zendeskv1.AccountService_DeleteAccount_FullMethodName:        {auth.Admin},
	zendeskv1.AccountService_RequestToken_FullMethodName:         {auth.Admin},
	zendeskv1.AccountService_TestConnection_FullMethodName:       {auth.Admin, auth.Ops},
	zendeskv1.AccountService_StreamTestConnection_FullMethodName: {auth.Admin, auth.Ops},

	zendeskv1.BlockService_SelectAccount_FullMethodName:    {auth.Runtime},
	zendeskv1.BlockService_Search_FullMethodName:           {auth.Runtime},
	zendeskv1.BlockService_GetNextRecord_FullMethodName:    {auth.Runtime},
	zendeskv1.BlockService_ScreenPop_FullMethodName:        {auth.Runtime},
	zendeskv1.BlockService_AttachedData_FullMethodName:     {auth.Runtime},
	zendeskv1.BlockService_CreateObject_FullMethodName:     {auth.Runtime},
	zendeskv1.BlockService_UpdateObject_FullMethodName:     {auth.Runtime},
	zendeskv1.BlockService_InvokeApi_FullMethodName:        {auth.Runtime},
	zendeskv1.BlockService_IdentifyCaller_FullMethodName:   {auth.Runtime},
	zendeskv1.BlockService_FindOrCreateUser_FullMethodName: {auth.Runtime},

	zendeskv1.InteractionService_GetInteraction_FullMethodName:      {auth.Runtime, auth.Ops},
	zendeskv1.InteractionService_ListRecords_FullMethodName:         {auth.Runtime, auth.Ops},
	zendeskv1.InteractionService_DeliverInteraction_FullMethodName:  {auth.Runtime},
	zendeskv1.InteractionService_WatchScreenPops_FullMethodName:     {auth.Desktop, auth.Ops},
	zendeskv1.InteractionService_CompleteInteraction_FullMethodName: {auth.Runtime},
	zendeskv1.InteractionService_GetActivity_FullMethodName:         {auth.Runtime, auth.Ops},
	zendeskv1.InteractionService_PreviewActivity_FullMethodName:     {auth.Runtime, auth.Ops},
	zendeskv1.InteractionService_ListActivities_FullMethodName:      {auth.Ops},
	zendeskv1.InteractionService_RetryActivity_FullMethodName:       {auth.Ops},
	zendeskv1.InteractionService_RetryActivities_FullMethodName:     {auth.Ops},
	zendeskv1.InteractionService_DiscardActivity_FullMethodName:     {auth.Ops},

	zendeskv1.OperationsService_GetCaller_FullMethodName:   {auth.Admin, auth.Runtime, auth.Desktop, auth.Ops, auth.Operator},
	zendeskv1.OperationsService_GetUsage_FullMethodName:    {auth.Ops},
	zendeskv1.OperationsService_ErasePerson_FullMethodName: {auth.Admin},
	zendeskv1.OperationsService_ListTenants_FullMethodName: {auth.Operator},
	zendeskv1.OperationsService_Backup_FullMethodName:      {auth.Operator},
}

// healthPrefix begins the methods that need no credential; reflection does need one, of any role.
const (
	healthPrefix     = "/grpc.health.v1.Health/"
	reflectionPrefix = "/grpc.reflection."
)

// access finds out who calls, and whether they may.
type access struct {
	authenticator *auth.Authenticator
	audit         *audit.Log // is told of calls that are refused

	mu   sync.Mutex
	open map[*admittedStream]struct{} // streams of callers
}

func newAccess(a *auth.Authenticator, log *audit.Log) *access {
	return &access{authenticator: a, audit: log, open: make(map[*admittedStream]struct{})}
}

// admit returns the context of a call that may be made.
func (a *access) admit(ctx context.Context, fullMethod string) (context.Context, error) {
	if strings.HasPrefix(fullMethod, healthPrefix) {
		return ctx, nil
	}
	caller, err := a.caller(ctx)
	if err != nil {
		a.audit.Stranger()
		return nil, &rpc.Error{
			Reason:  zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
			Message: "the call needs a valid credential: " + err.Error(),
		}
	}
	rpc.AddFields(ctx, slog.String("tenant", caller.Tenant), slog.String("caller", caller.Name))
	if !strings.HasPrefix(fullMethod, reflectionPrefix) && !caller.May(methodRoles[fullMethod]...) {
		a.audit.Denied(caller, fullMethod)
		return nil, &rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED,
			Message:  fmt.Sprintf("%q does not have a role that may call %s", caller.Name, fullMethod),
			Metadata: map[string]string{"caller": caller.Name, "method": fullMethod},
		}
	}
	if c := connectionOf(ctx); c != nil {
		c.all.admitted(c)
	}
	return rpc.WithCaller(ctx, caller), nil
}

// caller finds out who makes the call that ctx belongs to, by what is known now.
func (a *access) caller(ctx context.Context) (auth.Caller, error) {
	return a.authenticator.Authenticate(metadata.ValueFromIncomingContext(ctx, "authorization"), clientChains(ctx))
}

// clientChains are the verified chains of the client's certificate, if it showed one.
func clientChains(ctx context.Context) [][]*x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	return info.State.VerifiedChains
}

// unary leaves the deadline of the call alone, also when the credential ends before it: the call was allowed when it was
// made, and who is told that it was not would believe that nothing was done.
func (a *access) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := a.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// stream is the stage that ends a stream with the credential that it was opened by. It stands next within [streamEnds].
func (a *access) stream(stream grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	ctx, err := a.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return nil, nil, err
	}
	caller, ok := rpc.Caller(ctx)
	if !ok {
		return stream, nil, nil // health needs no credential
	}
	cancel := func() {}
	if !caller.Expires.IsZero() {
		ctx, cancel = context.WithDeadlineCause(ctx, caller.Expires, errCredentialEnded)
	}
	admitted := &admittedStream{streamWithin{stream, ctx}, a, stream.(*endableStream).end}
	a.watch(admitted)
	return admitted, func(err error) error {
		defer cancel()
		defer a.forget(admitted)
		if err != nil && errors.Is(context.Cause(ctx), errCredentialEnded) {
			return errCredentialEnded
		}
		return err
	}, nil
}

var errCredentialEnded = &rpc.Error{
	Reason:  zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
	Message: "the credential of the call has expired, or is not what it was any more",
}

// admittedStream lets no message out once its caller is not who it was: a credential may be revoked, or be given other
// roles, long after it opened a stream.
type admittedStream struct {
	streamWithin
	access *access
	end    context.CancelCauseFunc
}

// SendMsg implements grpc.ServerStream.
func (s *admittedStream) SendMsg(m any) error {
	if err := s.readmit(s.access.caller); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

// readmit fails if the caller is not who it was, which identify finds out.
func (s *admittedStream) readmit(identify func(context.Context) (auth.Caller, error)) error {
	admitted, _ := rpc.Caller(s.ctx)
	if caller, err := identify(s.ctx); err != nil || !reflect.DeepEqual(caller, admitted) {
		return errCredentialEnded
	}
	return nil
}

// watch has a stream looked at until it is forgotten.
func (a *access) watch(s *admittedStream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[s] = struct{}{}
}

func (a *access) forget(s *admittedStream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, s)
}

// readmitEvery is how often callers of open streams are looked at. With the time until a file of credentials is read again
// it is less than 10 s.
const readmitEvery = 2 * time.Second

// run ends streams of callers that are not who they were, also those on which nothing is sent, until ctx is done.
func (a *access) run(ctx context.Context) {
	ticker := time.NewTicker(readmitEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			a.readmit()
		case <-ctx.Done():
			return
		}
	}
}

// readmit looks at all open streams once. One that was told to end before, and has not, is reset: its caller does not take
// what is sent.
func (a *access) readmit() {
	a.mu.Lock()
	open := slices.Collect(maps.Keys(a.open))
	a.mu.Unlock()
	identify := a.onceEach()
	for _, s := range open {
		switch {
		case errors.Is(context.Cause(s.ctx), errCredentialEnded):
			intake.Interrupt(s.ctx)
		case s.readmit(identify) != nil:
			s.end(errCredentialEnded)
		}
	}
}

// onceEach returns what caller does, but looks at each credential once: thousands of streams may show the same.
func (a *access) onceEach() func(context.Context) (auth.Caller, error) {
	type shown struct {
		headers string
		chain   *x509.Certificate
	}
	type found struct {
		caller auth.Caller
		err    error
	}
	known := make(map[shown]found)
	return func(ctx context.Context) (auth.Caller, error) {
		s := shown{headers: strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), "\n")}
		if chains := clientChains(ctx); len(chains) > 0 && len(chains[0]) > 0 {
			s.chain = chains[0][0]
		}
		f, ok := known[s]
		if !ok {
			f.caller, f.err = a.caller(ctx)
			known[s] = f
		}
		return f.caller, f.err
	}
}
