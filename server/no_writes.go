package server

import (
	"context"

	"google.golang.org/grpc"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// writingMethods are those that write to Zendesk, or have something written to it later. FindOrCreateUser is not among them:
// it finds, and is refused when it comes to create.
var writingMethods = map[string]bool{
	zendeskv1.AccountService_RequestToken_FullMethodName:            true,
	zendeskv1.BlockService_CreateObject_FullMethodName:              true,
	zendeskv1.BlockService_UpdateObject_FullMethodName:              true,
	zendeskv1.BlockService_InvokeApi_FullMethodName:                 true,
	zendeskv1.InteractionService_DeliverInteraction_FullMethodName:  true,
	zendeskv1.InteractionService_CompleteInteraction_FullMethodName: true,
	zendeskv1.InteractionService_RetryActivity_FullMethodName:       true,
	zendeskv1.InteractionService_RetryActivities_FullMethodName:     true,
	zendeskv1.InteractionService_DiscardActivity_FullMethodName:     true,
}

// writes tells whether a call would write to Zendesk.
func writes(fullMethod string, req any) bool {
	if explained, ok := req.(interface{ GetValidateOnly() bool }); ok && explained.GetValidateOnly() {
		return false
	}
	if invoked, ok := req.(*zendeskv1.InvokeApiRequest); ok && zendeskapi.Reads(invoked.GetMethod()) {
		return false
	}
	return writingMethods[fullMethod]
}

// refuseWrites is the interceptor of a service that writes nothing to Zendesk. It stands where messages are decoded.
func refuseWrites(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if writes(info.FullMethod, req) {
		return nil, rpc.ErrNoWrites
	}
	return handler(ctx, req)
}
