package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// healthService is the standard health service, except that the last word of its watches on drain is NOT_SERVING.
type healthService struct {
	*health.Server
	services []string

	mu    sync.Mutex
	lacks map[string]bool // what keeps them from serving
}

// lacking says whether something is lacking that all services need. While nothing is they serve, until Shutdown.
func (h *healthService) lacking(what string, lacking bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lacks == nil {
		h.lacks = make(map[string]bool)
	}
	delete(h.lacks, what)
	if lacking {
		h.lacks[what] = true
	}
	status := healthv1.HealthCheckResponse_SERVING
	if len(h.lacks) > 0 {
		status = healthv1.HealthCheckResponse_NOT_SERVING
	}
	for _, name := range h.services {
		h.SetServingStatus(name, status)
	}
}

// What health may lack.
const (
	lacksStore  = "store"
	lacksAccess = "access"
)

// watchAccess keeps health NOT_SERVING while callers cannot be let in whatever they show, until ctx is done. Why is in the log
// already.
func (h *healthService) watchAccess(ctx context.Context, a *auth.Authenticator) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		h.lacking(lacksAccess, a.Err() != nil)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Watch implements the health service.
func (h *healthService) Watch(req *healthv1.HealthCheckRequest, stream healthv1.Health_WatchServer) error {
	err := h.Server.Watch(req, stream)
	if errors.Is(context.Cause(stream.Context()), rpc.ErrDraining) {
		// The watch may have ended before it told.
		return stream.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING})
	}
	return err
}
