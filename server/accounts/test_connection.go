package accounts

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// TestConnection implements AccountService.
func (s *Service) TestConnection(ctx context.Context, req *zendeskv1.TestConnectionRequest) (*zendeskv1.TestConnectionResponse, error) {
	return s.test(ctx, req.GetAccountId(), nil)
}

// StreamTestConnection implements AccountService.
func (s *Service) StreamTestConnection(req *zendeskv1.StreamTestConnectionRequest, stream grpc.ServerStreamingServer[zendeskv1.StreamTestConnectionResponse]) error {
	ctx, gone := context.WithCancelCause(stream.Context())
	defer gone(nil)
	result, err := s.test(ctx, req.GetAccountId(), func(made credentials.Check) {
		told := &zendeskv1.StreamTestConnectionResponse{Event: &zendeskv1.StreamTestConnectionResponse_Check{Check: checkToProto(made)}}
		if err := stream.Send(told); err != nil {
			gone(err) // nobody asks any more
		}
	})
	if err != nil {
		return err
	}
	return stream.Send(&zendeskv1.StreamTestConnectionResponse{Event: &zendeskv1.StreamTestConnectionResponse_Result{Result: result}})
}

// test tests an account, and tells each check when it is made to whom wants to be told.
func (s *Service) test(ctx context.Context, accountID string, made func(credentials.Check)) (*zendeskv1.TestConnectionResponse, error) {
	account, err := s.account(ctx, accountID)
	if err != nil {
		return nil, err
	}
	testCtx, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	var tested credentials.Connection
	rpc.Aside(ctx, func() { tested, err = s.credentials.Test(testCtx, rpc.Tenant(ctx), account, made) })
	if err != nil {
		return nil, rpc.AccountError(err, account.ID)
	}
	rpc.AddFields(ctx, slog.String("outcome", tested.Outcome.String()))
	resp := connectionToProto(tested)
	rpc.Traced(ctx, resp.GetFailure())
	return resp, nil
}

// connectionToProto converts what a test found.
func connectionToProto(tested credentials.Connection) *zendeskv1.TestConnectionResponse {
	resp := &zendeskv1.TestConnectionResponse{
		Outcome: zendeskv1.CheckOutcome(tested.Outcome), Latency: durationpb.New(tested.Latency), Failure: rpc.FailureToProto(tested.Failure),
	}
	if u := tested.User; u != nil {
		resp.User = &zendeskv1.ConnectionUser{Id: u.ID, Name: u.Name, Email: u.Email, Role: u.Role}
	}
	for _, c := range tested.Checks {
		resp.Checks = append(resp.Checks, checkToProto(c))
	}
	return resp
}

// checkToProto converts a check. Outcomes have the numbers of the API's.
func checkToProto(c credentials.Check) *zendeskv1.ConnectionCheck {
	return &zendeskv1.ConnectionCheck{Name: c.Name, Outcome: zendeskv1.CheckOutcome(c.Outcome), Message: c.Message}
}
