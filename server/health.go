package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/scenarioblocks/zendeskblocks/server/readiness"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// healthService is the standard health service, of which each service says what all checks of readiness say together. The last
// word of its watches on drain is NOT_SERVING.
type healthService struct {
	*health.Server
	services []string
	ready    *readiness.Registry

	mu   sync.Mutex
	says healthv1.HealthCheckResponse_ServingStatus // of all services
}

// follow has health say what readiness says now.
func (h *healthService) follow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	status := healthv1.HealthCheckResponse_NOT_SERVING
	if h.ready.Ready() {
		status = healthv1.HealthCheckResponse_SERVING
	}
	if status == h.says {
		return // else each of those who watch would be bothered
	}
	h.says = status
	for _, name := range h.services {
		h.SetServingStatus(name, status)
	}
}

// run tells watches of changes until ctx is done: at once of those that are told, within probeEvery of others.
func (h *healthService) run(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		h.follow()
		select {
		case <-ticker.C:
		case <-h.ready.Changed():
		case <-ctx.Done():
			return
		}
	}
}

// Check implements the health service.
func (h *healthService) Check(ctx context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	h.follow()
	return h.Server.Check(ctx, req)
}

// List implements the health service.
func (h *healthService) List(ctx context.Context, req *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	h.follow()
	return h.Server.List(ctx, req)
}

// keysEvery is how often it is looked whether there are all keys.
const keysEvery = 10 * time.Second

// watchKeys looks whether there are all keys that values are sealed with, until ctx is done. While the database is away, which
// another check tells, it is as it was.
func (s *Server) watchKeys(ctx context.Context) {
	ticker := time.NewTicker(keysEvery)
	defer ticker.Stop()
	for lacking := false; ; {
		if err := s.store.CheckKeys(ctx); ctx.Err() == nil && !errors.Is(err, store.ErrUnavailable) {
			if err != nil && !lacking && s.store.Err() == nil {
				s.log.Error("keys are not complete; health is NOT_SERVING until they are", "error", err)
			}
			lacking = err != nil
			s.ready.Set(readiness.Keys, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// watchStandby looks whether the database has a synchronous standby, until ctx is done.
func (s *Server) watchStandby(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for lacking := false; ; {
		asking, cancel := context.WithTimeout(ctx, probeTime)
		err := s.store.CheckStandby(asking)
		cancel()
		if ctx.Err() == nil {
			if err != nil && !lacking {
				s.log.Error("the database has no synchronous standby; health is NOT_SERVING until it has", "error", err)
			}
			lacking = err != nil
			s.ready.Set(readiness.Standby, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// errDraining is what readiness says while the service ends.
var errDraining = errors.New("the service drains: it is about to end")

// Watch implements the health service.
func (h *healthService) Watch(req *healthv1.HealthCheckRequest, stream healthv1.Health_WatchServer) error {
	h.follow()
	err := h.Server.Watch(req, stream)
	if errors.Is(context.Cause(stream.Context()), rpc.ErrDraining) {
		// The watch may have ended before it told.
		return stream.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING})
	}
	return err
}
