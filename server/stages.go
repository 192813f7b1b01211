package server

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// stage is what is done before and after the handler of a stream. It returns the stream that the stages within it and the
// handler have, and what is made of the error that these ended with; nil: nothing. When it fails, nothing within it is run, and
// nothing is left.
type stage func(stream grpc.ServerStream, info *grpc.StreamServerInfo) (within grpc.ServerStream, leave func(err error) error, err error)

// inStages is the interceptor by which streams pass stages, outermost first. A panic, of a stage or of the handler, is an error
// to those stages that were passed before.
//
// Interceptors in a chain would stand on the stack of each stream for as long as it waits: of thousands of watches that would be
// most of the memory.
func inStages(stages ...stage) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		within, leaves, err := enterStages(stream, info, stages)
		if err == nil {
			err = handle(srv, within, handler)
		}
		return leaveStages(stream.Context(), leaves, err)
	}
}

// enterStages passes stages until one fails. Those that were passed are to be left.
func enterStages(stream grpc.ServerStream, info *grpc.StreamServerInfo, stages []stage) (within grpc.ServerStream, leaves []func(error) error, err error) {
	defer recoverInto(stream.Context(), &err)
	within, leaves = stream, make([]func(error) error, 0, len(stages))
	for _, enter := range stages {
		next, leave, err := enter(within, info)
		if err != nil {
			return nil, leaves, err
		}
		if leave != nil {
			leaves = append(leaves, leave)
		}
		within = next
	}
	return within, leaves, nil
}

func handle(srv any, stream grpc.ServerStream, handler grpc.StreamHandler) (err error) {
	defer recoverInto(stream.Context(), &err)
	return handler(srv, stream)
}

// leaveStages leaves stages, innermost first.
func leaveStages(ctx context.Context, leaves []func(error) error, err error) error {
	for _, leave := range slices.Backward(leaves) {
		err = leaveStage(ctx, leave, err)
	}
	return err
}

func leaveStage(ctx context.Context, leave func(error) error, ended error) (err error) {
	defer recoverInto(ctx, &err)
	return leave(ended)
}

// recoverInto is to be deferred.
func recoverInto(ctx context.Context, err *error) {
	if p := recover(); p != nil {
		*err = rpc.Recovered(ctx, p)
	}
}
