// Package server puts the services behind one gRPC server, and runs them. It hides the order of the interceptors, who may call
// what, and the life cycle: what works in the background, and how all of it ends on drain.
//
// The services are in packages of their own: accounts, blocks and interactions. Below them are credentials, which asks
// Zendesk as an account, and writer, which writes the history of finished interactions.
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
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/accounts"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/blocks"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/interactions"
	"github.com/scenarioblocks/zendeskblocks/server/writer"
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
	grpc        *grpc.Server
	health      *healthService
	store       *store.Store
	credentials *credentials.Keeper
	writer      *writer.Writer
	log         *slog.Logger
	drain       time.Duration
	draining    chan struct{} // closed on drain
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
	if c.Auth == nil {
		var err error
		if c.Auth, err = auth.Open(auth.Config{Log: c.Log}); err != nil {
			return nil, err
		}
	}
	access := access{c.Auth}
	var transportSecurity grpc.ServerOption = grpc.EmptyServerOption{}
	if tls := c.Auth.TLS(); tls != nil {
		transportSecurity = grpc.Creds(grpccredentials.NewTLS(tls))
	}
	noted := audit.New(c.Audit, c.Log)
	keeper := credentials.New(credentials.Config{
		Store: c.Store, Transport: c.Transport, UserAgent: c.UserAgent, TestEvery: c.TestEvery, Audit: noted, Log: c.Log, Now: c.Clock,
	})
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
		store:       c.Store,
		credentials: keeper,
		writer:      writer.New(writer.Config{Store: c.Store, Credentials: keeper, Log: c.Log, Now: c.Clock, Moved: c.clockMoved}),
		log:         c.Log,
		drain:       c.DrainTimeout,
		draining:    make(chan struct{}),
	}
	s.health = &healthService{Server: health.NewServer(), draining: s.draining}
	zendeskv1.RegisterAccountServiceServer(s.grpc, accounts.New(accounts.Config{
		Store: c.Store, Credentials: keeper, Audit: noted, AllowHosts: c.AllowHosts, Now: c.Clock,
	}))
	zendeskv1.RegisterBlockServiceServer(s.grpc, blocks.New(blocks.Config{Store: c.Store, Credentials: keeper, Now: c.Clock}))
	zendeskv1.RegisterInteractionServiceServer(s.grpc, interactions.New(interactions.Config{
		Store: c.Store, Credentials: keeper, Writer: s.writer, Audit: noted, Now: c.Clock, Draining: s.draining,
	}))
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
		if err := s.writer.Run(ctx, cut); ctx.Err() == nil {
			stop(fmt.Errorf("writing activities: %w", err))
		}
	})
	background.Go(func() { s.sweep(ctx) })
	background.Go(func() { s.credentials.Run(ctx) })
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(l) }()
	select {
	case err := <-served:
		stop(fmt.Errorf("serving %s: %w", l.Addr(), err))
		background.Wait()
		s.credentials.Wait(cut)
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
	s.credentials.Wait(cut)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil // told to stop before it began
	}
	return err
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
