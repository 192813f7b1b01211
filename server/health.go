package server

import (
	"context"
	"errors"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// healthService is the standard health service, except that the last word of its watches on drain is NOT_SERVING.
type healthService struct {
	*health.Server
	services []string
}

// set says of all services whether they serve, until Shutdown.
func (h *healthService) set(status healthv1.HealthCheckResponse_ServingStatus) {
	for _, name := range h.services {
		h.SetServingStatus(name, status)
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
