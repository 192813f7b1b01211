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
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
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
	AllowHosts   []string              // HOST or HOST:PORT that account URLs may name beside *.zendesk.com
	Timeouts     Timeouts
	DrainTimeout time.Duration    // how long Serve waits for calls that run when it is told to stop; default 10 s
	UserAgent    string           // sent to Zendesk
	Clock        func() time.Time // default time.Now
}

// Server serves the API.
type Server struct {
	grpc     *grpc.Server
	health   *healthService
	accounts *accountService
	log      *slog.Logger
	drain    time.Duration
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
	s := &Server{
		grpc: grpc.NewServer(
			grpc.ChainUnaryInterceptor(unaryInterceptors(c.Log, c.Timeouts.withDefaults())...),
			grpc.ChainStreamInterceptor(streamInterceptors(c.Log)...),
			grpc.MaxRecvMsgSize(maxReceiveBytes),
			grpc.MaxHeaderListSize(maxHeaderBytes),
			// Stop returns only when handlers have: nothing may use the store after it is closed.
			grpc.WaitForHandlers(true),
		),
		health: &healthService{Server: health.NewServer(), draining: make(chan struct{})},
		log:    c.Log,
		drain:  c.DrainTimeout,
	}
	zendesk := &zendesk{transport: c.Transport, userAgent: c.UserAgent}
	s.accounts = &accountService{store: c.Store, zendesk: zendesk, allowHosts: c.AllowHosts, now: c.Clock}
	zendeskv1.RegisterAccountServiceServer(s.grpc, s.accounts)
	zendeskv1.RegisterBlockServiceServer(s.grpc, &blockService{store: c.Store, zendesk: zendesk, now: c.Clock})
	zendeskv1.RegisterInteractionServiceServer(s.grpc, &interactionService{store: c.Store})
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
	return s, nil
}

// Serve answers calls on l until ctx is done, then drains: health says NOT_SERVING, no new call is taken, running ones
// may end within the drain timeout and are cancelled after it. It returns nil after a drain. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.log.Info("draining", "timeout", s.drain)
	s.health.Shutdown()
	close(s.health.draining)
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(s.drain):
		s.log.Warn("calls still running are cancelled")
		s.grpc.Stop()
		<-drained
	}
	err := <-served
	// Token requests outlive their callers: what Zendesk answers is stored.
	s.accounts.wait()
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil // told to stop before it began
	}
	return err
}

// healthService is the standard health service, except that its watches end on drain: an open one would hold
// GracefulStop up for ever.
type healthService struct {
	*health.Server
	draining chan struct{} // closed on drain
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
