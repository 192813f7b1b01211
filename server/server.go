// Package server puts the services behind one gRPC server, and runs them. It hides the order of the interceptors, who may call
// what, and the life cycle: what works in the background, and how all of it ends on drain.
//
// The services are in packages of their own: accounts, blocks, interactions and operations. Below them are credentials, which asks
// Zendesk as an account, and writer, which writes the history of finished interactions.
//
//	srv, err := server.New(server.Config{Store: st, Transport: transport, Log: log})
//	...
//	err = srv.Serve(ctx, listener) // returns when ctx is done and calls have drained
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/accounts"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/blocks"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/interactions"
	"github.com/scenarioblocks/zendeskblocks/server/limits"
	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/server/operations"
	"github.com/scenarioblocks/zendeskblocks/server/people"
	"github.com/scenarioblocks/zendeskblocks/server/readiness"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/writer"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	maxHeaderBytes = 16 << 10
	maxStreams     = 250 // of a connection at a time, unary calls included

	// A caller may send streamWindow of a message that nothing was asked for of, on each stream; admission asks for more. The
	// window of a connection opens again as data comes, and bounds nothing. Buffers are small, for there may be many connections.
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20
	readBuffer       = 4 << 10

	// A connection without calls is closed after idleAfter, gently, also if its client pings.
	idleAfter = 10 * time.Minute

	// Clients may ping every 10 s; what comes late makes the next seem early.
	minPingInterval = 5 * time.Second
	// A connection from which nothing has come for pingAfter is asked whether it is alive, and cut after pingTimeout.
	pingAfter   = time.Minute
	pingTimeout = 20 * time.Second
)

// Config is what a Server depends on.
type Config struct {
	Store        *store.Store          // required; the caller closes it after Serve has returned
	Transport    *zendeskapi.Transport // required; shared by all accounts
	Log          *slog.Logger          // required
	Auth         *auth.Authenticator   // says who callers are; default: everyone is let in, as the default tenant
	Metrics      *metrics.Metrics      // are told what happens, and by Transport and Store if these observe for them, see ObserveZendesk; default: some that nobody reads
	Audit        audit.Sink            // where changes of accounts and decisions on activities are noted; default: nowhere
	AllowHosts   []string              // that account URLs may name beside *.zendesk.com, as of zendeskapi.ParseOrigin
	Timeouts     Timeouts
	Bounds       Bounds
	Processors   int                 // that tenants share; default GOMAXPROCS
	Ready        *readiness.Registry // is told whether the service can work; default: one that nobody else asks
	Tracing      *Tracing            // default: calls are not traced
	DrainDelay   time.Duration       // how long Serve, told to stop, serves on as NOT_SERVING while anyone is connected; default 0
	DrainTimeout time.Duration       // how long Serve waits after that for calls that run; default 10 s

	// MaxConnectionAge is after how long, within a tenth, a connection takes no new calls, so that its caller makes another;
	// default 30 min. What runs on it has 30 % more, and streams end in the first half of that.
	MaxConnectionAge time.Duration

	UserAgent string // sent to Zendesk
	Version   string // of the program, which backups name
	NoWrites  bool   // nothing is written to Zendesk: Transport has the same; for looking at a copy of the data
	// RequireStandby has the service be ready only while its database has a synchronous standby.
	RequireStandby bool
	TestEvery      time.Duration    // how often, about, the connection of each account is tested; 0: only when asked
	Clock          func() time.Time // default time.Now

	clockMoved <-chan struct{} // tells that Clock has jumped, as it does in tests; nil: it never does
}

// Server serves the API.
type Server struct {
	grpc        *grpc.Server
	health      *healthService
	ready       *readiness.Registry
	store       *store.Store
	credentials *credentials.Keeper
	audit       *audit.Log
	access      *access
	writer      *writer.Writer
	blocks      *blocks.Service

	interactions *interactions.Service
	limits       *limits.Sharing

	log      *slog.Logger
	bounds   Bounds
	noWrites bool
	standby  bool // is required
	now      func() time.Time
	observed

	drainDelay, drainTimeout time.Duration

	draining   context.Context // its end ends streams
	endStreams context.CancelCauseFunc

	within atomic.Pointer[localListener] // of connections of Dial; nil: Serve has not begun
}

// New makes a server. It starts nothing.
func New(c Config) (*Server, error) {
	if c.Store == nil || c.Transport == nil || c.Log == nil {
		return nil, errors.New("server: store, transport and log are required")
	}
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.MaxConnectionAge = cmp.Or(c.MaxConnectionAge, 30*time.Minute)
	c.Bounds, c.Processors = c.Bounds.withDefaults(), cmp.Or(c.Processors, runtime.GOMAXPROCS(0))
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Metrics == nil {
		c.Metrics = metrics.New(metrics.Config{})
	}
	if c.Ready == nil {
		c.Ready = readiness.New()
	}
	c.Log = slog.New(quiet{c.Log.Handler()})
	if c.Auth == nil {
		var err error
		if c.Auth, err = auth.Open(auth.Config{Log: c.Log}); err != nil {
			return nil, err
		}
	}
	noted := audit.New(audit.Config{Store: c.Store, Sink: c.Audit, Log: c.Log, Now: c.Clock})
	access, admission := newAccess(c.Auth, noted), newAdmission(c.Bounds)
	var transportSecurity grpc.ServerOption = grpc.EmptyServerOption{}
	if tls := c.Auth.TLS(); tls != nil {
		transportSecurity = grpc.Creds(networkSecurity{grpccredentials.NewTLS(tls)})
	}
	panicked := func() { c.Metrics.Panicked(true) }
	keeper := credentials.New(credentials.Config{
		Store: c.Store, Transport: c.Transport, UserAgent: c.UserAgent, TestEvery: c.TestEvery, NoWrites: c.NoWrites, Audit: noted, Log: c.Log, Now: c.Clock,
		Renewed: c.Metrics.Renewed, Panicked: panicked,
	})
	draining, endStreams := context.WithCancelCause(context.Background())
	age := age(c.MaxConnectionAge)
	s := &Server{
		grpc: grpc.NewServer(
			grpc.ChainUnaryInterceptor(unaryInterceptors(c.Log, c.Metrics, access, admission, c.Timeouts.withDefaults(), rpc.NewTurns(c.Processors, c.Bounds.BusyTenantPercent))...),
			grpc.ChainStreamInterceptor(streamInterceptors(c.Metrics, streamStages(c.Log, c.Metrics, access, admission, c.Timeouts.withDefaults(), newStreamEnds(draining, age)))...),
			transportSecurity,
			c.Tracing.option(),
			grpc.InTapHandle(admission.tap),
			grpc.StaticStreamWindowSize(streamWindow),
			grpc.StaticConnWindowSize(connectionWindow),
			grpc.ReadBufferSize(readBuffer),
			grpc.MaxHeaderListSize(maxHeaderBytes),
			grpc.MaxConcurrentStreams(maxStreams),
			grpc.ConnectionTimeout(handshakeTime),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				Time: pingAfter, Timeout: pingTimeout,
				MaxConnectionIdle: idleAfter,
				MaxConnectionAge:  time.Duration(age), MaxConnectionAgeGrace: age.grace(),
			}),
			// Stop returns only when handlers have: nothing may use the store after it is closed.
			grpc.WaitForHandlers(true),
		),
		ready:       c.Ready,
		store:       c.Store,
		credentials: keeper,
		audit:       noted,
		access:      access,
		writer:      writer.New(writer.Config{Store: c.Store, Credentials: keeper, Log: c.Log, Now: c.Clock, Moved: c.clockMoved, Panicked: panicked}),
		log:         c.Log,
		bounds:      c.Bounds,
		now:         c.Clock,
		observed:    observed{metrics: c.Metrics},
		noWrites:    c.NoWrites,
		standby:     c.RequireStandby,
		drainDelay:  c.DrainDelay, drainTimeout: c.DrainTimeout,
		draining: draining, endStreams: endStreams,
	}
	directory := people.New(people.Config{Store: c.Store, Credentials: keeper, Now: c.Clock})
	s.blocks = blocks.New(blocks.Config{Store: c.Store, Credentials: keeper, People: directory, Log: c.Log, Now: c.Clock})
	s.limits = limits.New(limits.Config{Store: c.Store, Governor: c.Transport.Governor(), Log: c.Log})
	s.health = &healthService{Server: health.NewServer(), ready: c.Ready}
	services := registrar{Server: s.grpc}
	if c.NoWrites {
		services.decoded = refuseWrites
	}
	zendeskv1.RegisterAccountServiceServer(services, accounts.New(accounts.Config{
		Store: c.Store, Credentials: keeper, Writer: s.writer, Audit: noted, AllowHosts: c.AllowHosts, Now: c.Clock,
	}))
	zendeskv1.RegisterBlockServiceServer(services, s.blocks)
	s.interactions = interactions.New(interactions.Config{
		Store: c.Store, Credentials: keeper, Writer: s.writer, Audit: noted, Log: c.Log, Now: c.Clock, Observer: c.Metrics,
	})
	zendeskv1.RegisterInteractionServiceServer(services, s.interactions)
	zendeskv1.RegisterOperationsServiceServer(services, operations.New(operations.Config{
		Store: c.Store, People: directory, Audit: noted, Version: c.Version, BackedUp: c.Metrics.BackedUp, Now: c.Clock,
	}))
	healthv1.RegisterHealthServer(services, s.health)
	reflection.Register(services)
	s.health.services = append(slices.Collect(maps.Keys(s.grpc.GetServiceInfo())), "")
	c.Metrics.Read(s.sources(&c))
	s.ready.Ask(readiness.Access, c.Auth.Err)
	for _, check := range []string{readiness.Store, readiness.Standby, readiness.Writer, readiness.Keys} {
		s.ready.Set(check, nil) // until more is known: an open store has its keys, and was written
	}
	if s.standby {
		s.ready.Set(readiness.Standby, readiness.ErrStarting)
	}
	s.health.follow()
	return s, nil
}

// Serve answers calls on l, and on connections of Dial, until ctx is done, and in the background writes activities, keeps accounts alive (neither with
// NoWrites) and lets interactions expire. Then it drains: health says NOT_SERVING; while anyone is connected, calls are still taken for the
// drain delay, in which those who balance load notice. After it no new call is taken, streams end, and calls and writes that
// run may end within the drain timeout and are cancelled after it. Nothing but them is waited for: what is silent, or does
// not read, is cut. It returns nil after a drain.
//
// When l, the store or the writing of activities fails, Serve drains too, without the delay, and returns the error. It closes
// l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cut, cutWrites := context.WithCancel(context.WithoutCancel(ctx))
	defer cutWrites()
	within := newLocalListener()
	connections := []*connections{newConnections(l, s.bounds, s.log), newConnections(within, s.bounds, s.log)}
	s.connections.Store(&connections)
	s.within.Store(within)
	s.ready.Ask(readiness.Writer, func() error { return s.writerStalled(ctx) })
	var background sync.WaitGroup
	if s.noWrites {
		s.log.Warn("nothing is written to Zendesk: activities wait, no token is asked for, and calls that would write are refused")
	}
	background.Go(func() {
		if s.noWrites {
			return
		}
		if err := s.guard("writing activities", func() error { return s.writer.Run(ctx, cut) }); err != nil && !errors.Is(err, store.ErrFailed) {
			stop(fmt.Errorf("writing activities: %w", err))
		}
	})
	background.Go(func() { s.repeat(ctx, "expiry of interactions", s.alone("sweep", s.sweep)) })
	background.Go(func() { s.repeat(ctx, "looking at all data", s.alone("scrub", s.scrub)) })
	background.Go(func() { s.repeat(ctx, "counting what tenants have", s.count) })
	background.Go(func() { s.repeat(ctx, "writing the audit", s.alone(audit.Turn, s.audit.Run)) })
	background.Go(func() { s.repeat(ctx, "writing refused calls to the audit", s.audit.Follow) })
	background.Go(func() { s.repeat(ctx, "looking at what metrics tell", s.survey) })
	background.Go(func() { s.repeat(ctx, "looking at the callers of streams", s.access.run) })
	background.Go(func() { s.repeat(ctx, "sharing limits with other replicas", s.limits.Run) })
	if !s.noWrites {
		background.Go(func() { s.repeat(ctx, "upkeep of accounts", s.alone("upkeep", s.credentials.Run)) })
	}
	background.Go(func() { stop(s.watchStore(ctx)) })
	background.Go(func() { s.repeat(ctx, "following readiness", s.health.run) })
	background.Go(func() { s.repeat(ctx, "looking for keys", s.watchKeys) })
	if s.standby {
		background.Go(func() { s.repeat(ctx, "looking for a standby", s.watchStandby) })
	}
	var served sync.WaitGroup
	var err error
	served.Go(func() {
		err = s.grpc.Serve(connections[0])
		stop(fmt.Errorf("serving %s: %w", l.Addr(), err))
	})
	served.Go(func() { _ = s.grpc.Serve(connections[1]) }) // it ends with the other: its listener does not fail
	<-ctx.Done()
	s.awaitUnready(context.Cause(ctx), connections)
	s.log.Info("draining", "timeout", s.drainTimeout)
	late := time.AfterFunc(s.drainTimeout, func() {
		s.log.Warn("calls and writes still running are cancelled")
		cutWrites()
		s.grpc.Stop()
	})
	defer late.Stop()
	s.endCalls(connections)
	served.Wait()
	background.Wait()
	s.blocks.Wait(cut)
	s.credentials.Wait(cut)
	s.flushAudit()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil // told to stop before it began
	}
	return err
}

// flushAudit writes what was noted last. What it does not get to, the next start writes.
func (s *Server) flushAudit() {
	ctx, cancel := context.WithTimeout(context.Background(), store.OutcomeTime)
	defer cancel()
	if err := s.audit.Flush(ctx); err != nil && s.store.Err() == nil {
		s.log.Warn("the last lines of the audit wait for the next start", "error", err)
	}
}

// awaitUnready says that the service is not ready any more, and gives those who are to notice the time for it. A service that
// ends because something has failed has none to give.
func (s *Server) awaitUnready(cause error, connections []*connections) {
	s.ready.Set(readiness.Drain, errDraining)
	s.health.follow()
	if !errors.Is(cause, context.Canceled) || s.drainDelay <= 0 || countOpen(connections) == 0 {
		return
	}
	s.log.Info("draining begins soon; health is NOT_SERVING", "delay", s.drainDelay)
	select {
	case <-time.After(s.drainDelay):
	case <-s.store.Failed():
	}
}

// endCalls returns when no handler runs any more.
func (s *Server) endCalls(connections []*connections) {
	s.endStreams(rpc.ErrDraining)
	ctx, end := context.WithCancel(context.Background())
	defer end()
	for _, open := range connections {
		go open.release(ctx)
	}
	s.grpc.GracefulStop()
}

// guard turns a panic into an error: no interceptor stands around what runs by itself.
func (s *Server) guard(what string, run func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.Panicked(true)
			err = fmt.Errorf("%s: %w", what, rpc.Recovered(context.Background(), p))
		}
	}()
	return run()
}

// repeatAfter is how long what has panicked rests.
const repeatAfter = time.Minute

// repeat runs what ends with ctx. After a panic it begins again.
func (s *Server) repeat(ctx context.Context, what string, run func(context.Context)) {
	for {
		err := s.guard(what, func() error {
			run(ctx)
			return nil
		})
		if err == nil {
			return
		}
		s.log.Error("work in the background has panicked, and begins again", "work", what, "error", err)
		select {
		case <-time.After(repeatAfter):
		case <-ctx.Done():
			return
		}
	}
}

// aloneAgain is after what time it is tried again to claim what could not be.
const aloneAgain = 3 * time.Second

// alone is run for one process at a time of those that share the data: it begins when no other one has the claim of the name. When
// this process loses the claim, since it was taken for dead, run's context ends, nothing that it stores is stored, and it waits
// again. It ends when run does so by itself, or with ctx.
func (s *Server) alone(name string, run func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		for failing := false; ctx.Err() == nil; {
			claim, err := s.store.AwaitClaim(ctx, name)
			if err == nil {
				if failing = false; whileClaimed(ctx, claim, run) {
					return
				}
				continue
			}
			if !failing && ctx.Err() == nil && s.store.Err() == nil && !errors.Is(err, store.ErrUnavailable) {
				s.log.Error("what one process at a time does could not be claimed; it is tried again", "claim", name, "error", err)
			}
			failing = true
			select {
			case <-time.After(aloneAgain):
			case <-ctx.Done():
			}
		}
	}
}

// whileClaimed reports whether run has ended by itself.
func whileClaimed(ctx context.Context, claim *store.Claim, run func(context.Context)) bool {
	defer claim.GiveBack()
	ctx, cancel := context.WithCancel(store.Fenced(ctx, claim))
	defer cancel()
	go func() {
		select {
		case <-claim.Lost():
			cancel()
		case <-ctx.Done():
		}
	}()
	run(ctx)
	return ctx.Err() == nil
}

const (
	// probeEvery is how often a store that cannot be written is tried.
	probeEvery = time.Second
	// probeTime is how long a database may take to answer a try: one that is away may not answer at all.
	probeTime = 2 * time.Second
)

// watchStore keeps health NOT_SERVING while the store cannot be written. A service that nobody calls finds out too where its store is
// a database: the store tells others each second that this process lives. It ends when the store has failed for good, and says why, or
// with ctx.
func (s *Server) watchStore(ctx context.Context) error {
	for {
		var why error
		select {
		case why = <-s.store.Unavailable():
		case <-s.store.Failed():
			return s.store.Err()
		case <-ctx.Done():
			return nil
		}
		s.unwritable.Store(true)
		s.ready.Set(readiness.Store, fmt.Errorf("it cannot be written: %w", why))
		s.log.Error("nothing can be stored; health is NOT_SERVING until that is possible", "error", why)
		for since := time.Now(); ; {
			select {
			case <-time.After(probeEvery):
			case <-s.store.Failed():
				return s.store.Err()
			case <-ctx.Done():
				return nil
			}
			err := s.probe(ctx)
			select {
			case <-s.store.Unavailable(): //nolint:errcheck // what was told meanwhile is known
			default:
			}
			if err == nil {
				s.log.Info("the store can be written again", "after", time.Since(since).Round(time.Second))
				break
			}
		}
		s.unwritable.Store(false)
		s.ready.Set(readiness.Store, nil)
	}
}

// probe finds out whether the store can be written.
func (s *Server) probe(ctx context.Context) error {
	if s.store.Shared() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, probeTime)
		defer cancel()
	}
	return s.store.Probe(ctx)
}

// stalledAfter is after how long without a round the writer is taken for one that hangs.
const stalledAfter = 6 * writer.RoundEvery

// writerStalled says whether what writes activities hangs. A drain, by which ctx is done, ends it, and where nothing is written it
// does not run.
func (s *Server) writerStalled(ctx context.Context) error {
	if since := s.writer.SinceRound(); since > stalledAfter && ctx.Err() == nil && !s.noWrites {
		return fmt.Errorf("it has made no round for %s", since.Round(time.Second))
	}
	return nil
}

const (
	sweepEvery = time.Minute
	sweepStep  = 64
)

const (
	// scrubAfter is when all data is looked at first, when the start is over; scrubEvery how often then.
	scrubAfter = 5 * time.Minute
	scrubEvery = 12 * time.Hour
)

// scrub looks at all data now and then, so that damage is told within a day, whether anybody reads what is damaged or not.
func (s *Server) scrub(ctx context.Context) {
	for pause := scrubAfter; ; pause = scrubEvery {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if _, err := s.store.Scrub(ctx); err != nil && ctx.Err() == nil && s.store.Err() == nil && !errors.Is(err, store.ErrClaimLost) {
			s.log.Error("not all data could be looked at; it is tried again later", "error", err)
		}
	}
}

// countEvery is how often what tenants have is stored: so much of the count a crash loses.
const countEvery = 5 * time.Second

// count stores what tenants have, which is counted as it changes. The store does so a last time when it is closed.
func (s *Server) count(ctx context.Context) {
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := s.store.FlushUsage(ctx); err != nil && ctx.Err() == nil && s.store.Err() == nil && !errors.Is(err, store.ErrUnavailable) {
			s.log.Error("what tenants have could not be stored; it is tried again", "error", err)
		}
	}
}

// sweep lets interactions that were left alone expire, a few at a time.
func (s *Server) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		for {
			swept, err := s.store.Sweep(ctx, sweepStep)
			if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClaimLost) {
				s.log.Error("expired interactions could not be swept", "error", err)
			}
			s.metrics.Expired(swept.Expired, swept.Lost)
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
