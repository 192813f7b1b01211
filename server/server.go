// Package server is the gRPC face of the service: it validates requests, decides what each block does, and words the
// replies. It hides gRPC itself, the error table, tenancy, deadlines and the life cycle from the rest.
//
// Blocks answer before their deadline: what Zendesk refuses, or does not say in time, is an exit of the block, not an
// error. What a reply confirms is durable. Errors cross to gRPC in one place, errors.go; what nobody expected is
// INTERNAL to the caller and in full in the log.
//
//	srv, err := server.New(server.Config{Store: st, Transport: transport, Log: log})
//	...
//	err = srv.Serve(ctx, listener) // returns when ctx is done and calls have drained
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	maxReceiveBytes = 4 << 20
	maxHeaderBytes  = 16 << 10
)

// Config is what a Server depends on.
type Config struct {
	Store        *store.Store          // required; the caller closes it after Serve has returned
	Transport    *zendeskapi.Transport // required; shared by all accounts
	Log          *slog.Logger          // required
	Auth         *auth.Authenticator   // says who callers are; default: everyone is let in, as the default tenant
	Audit        *slog.Logger          // where changes of accounts and decisions on activities are noted; default: nowhere
	AllowHosts   []string              // HOST or HOST:PORT that account URLs may name beside *.zendesk.com
	Timeouts     Timeouts
	DrainTimeout time.Duration    // how long Serve waits for calls that run when it is told to stop; default 10 s
	UserAgent    string           // sent to Zendesk
	TestEvery    time.Duration    // how often, about, the connection of each account is tested; 0: only when asked
	Clock        func() time.Time // default time.Now

	clockMoved <-chan struct{} // tells that Clock has jumped, as it does in tests; nil: it never does
}

// Server serves the API.
type Server struct {
	grpc     *grpc.Server
	health   *healthService
	accounts *accountService
	store    *store.Store
	writer   *writer
	upkeep   *upkeep
	log      *slog.Logger
	drain    time.Duration
	draining chan struct{} // closed on drain
}

// New makes a server. It starts nothing.
func New(c Config) (*Server, error) {
	if c.Store == nil || c.Transport == nil || c.Log == nil {
		return nil, errors.New("server: store, transport and log are required")
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	audit := auditLog{to: c.Audit, log: c.Log}
	if c.Auth == nil {
		var err error
		if c.Auth, err = auth.Open(auth.Config{Log: c.Log}); err != nil {
			return nil, err
		}
	}
	access := access{c.Auth}
	var transportSecurity grpc.ServerOption = grpc.EmptyServerOption{}
	if tls := c.Auth.TLS(); tls != nil {
		transportSecurity = grpc.Creds(credentials.NewTLS(tls))
	}
	s := &Server{
		grpc: grpc.NewServer(
			grpc.ChainUnaryInterceptor(unaryInterceptors(c.Log, access, c.Timeouts.withDefaults())...),
			grpc.ChainStreamInterceptor(streamInterceptors(c.Log, access)...),
			transportSecurity,
			grpc.MaxRecvMsgSize(maxReceiveBytes),
			grpc.MaxHeaderListSize(maxHeaderBytes),
			// Stop returns only when handlers have: nothing may use the store after it is closed.
			grpc.WaitForHandlers(true),
		),
		store:    c.Store,
		log:      c.Log,
		drain:    c.DrainTimeout,
		draining: make(chan struct{}),
	}
	s.health = &healthService{Server: health.NewServer(), draining: s.draining}
	zendesk := newZendesk(c.Store, c.Transport, c.UserAgent, c.Log, c.Clock, audit)
	s.writer = newWriter(c.Store, zendesk, c.Log, c.Clock, c.clockMoved)
	s.accounts = &accountService{store: c.Store, zendesk: zendesk, allowHosts: c.AllowHosts, now: c.Clock, audit: audit}
	s.upkeep = newUpkeep(s.accounts, c.TestEvery, c.Log)
	s.accounts.changed = func(tenant string) {
		s.writer.queue.release(tenant)
		s.upkeep.look(tenant)
	}
	zendesk.renewals.changed = s.accounts.changed
	zendeskv1.RegisterAccountServiceServer(s.grpc, s.accounts)
	zendeskv1.RegisterBlockServiceServer(s.grpc, &blockService{store: c.Store, zendesk: zendesk, now: c.Clock})
	zendeskv1.RegisterInteractionServiceServer(s.grpc, &interactionService{
		store: c.Store, agents: newAgents(zendesk, c.Clock), writer: s.writer, now: c.Clock, draining: s.draining, audit: audit,
	})
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
	return s, nil
}

// Serve answers calls on l until ctx is done, and in the background writes activities, keeps accounts alive and lets
// interactions expire. Then it drains: health says NOT_SERVING, no new call is taken, watches end, and calls and writes that
// run may end within the drain timeout and are cancelled after it. It returns nil after a drain. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cut, cutWrites := context.WithCancel(context.WithoutCancel(ctx))
	defer cutWrites()
	var background sync.WaitGroup
	background.Go(func() {
		if err := s.writer.run(ctx, cut); ctx.Err() == nil {
			stop(fmt.Errorf("writing activities: %w", err))
		}
	})
	background.Go(func() { s.sweep(ctx) })
	background.Go(func() { s.upkeep.run(ctx) })
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(l) }()
	select {
	case err := <-served:
		stop(fmt.Errorf("serving %s: %w", l.Addr(), err))
		background.Wait()
		s.waitForTokens()
		return context.Cause(ctx)
	case <-ctx.Done():
	}
	s.log.Info("draining", "timeout", s.drain)
	s.health.Shutdown()
	close(s.draining)
	late := time.AfterFunc(s.drain, func() {
		s.log.Warn("calls and writes still running are cancelled")
		cutWrites()
		s.grpc.Stop()
	})
	defer late.Stop()
	s.grpc.GracefulStop()
	err := <-served
	background.Wait()
	s.waitForTokens()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil // told to stop before it began
	}
	return err
}

// waitForTokens returns when no token request runs any more. They outlive their callers: what Zendesk answers is stored.
func (s *Server) waitForTokens() {
	s.accounts.wait()
	s.accounts.zendesk.renewals.wait()
}

const (
	sweepEvery = time.Minute
	sweepStep  = 64
)

// sweep lets interactions that were left alone expire, a few at a time.
func (s *Server) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		for {
			swept, err := s.store.Sweep(ctx, sweepStep)
			if err != nil && ctx.Err() == nil {
				s.log.Error("expired interactions could not be swept", "error", err)
			}
			if swept.Lost > 0 {
				s.log.Warn("interactions expired with attached data that was never written", "interactions", swept.Lost)
			}
			if err != nil || swept.Looked < sweepStep {
				break
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// healthService is the standard health service, except that its watches end on drain: an open one would hold
// GracefulStop up for ever.
type healthService struct {
	*health.Server
	draining <-chan struct{} // closed on drain
}

// Watch implements the health service.
func (h *healthService) Watch(req *healthv1.HealthCheckRequest, stream healthv1.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-h.draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := h.Server.Watch(req, &watchStream{Health_WatchServer: stream, ctx: ctx})
	select {
	case <-h.draining:
		// The watch may have ended before it told.
		return stream.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING})
	default:
		return err
	}
}

// watchStream is a stream with a context of ours.
type watchStream struct {
	healthv1.Health_WatchServer
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (w *watchStream) Context() context.Context { return w.ctx }
