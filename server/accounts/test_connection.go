package accounts

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// TestConnection implements AccountService.
func (s *Service) TestConnection(ctx context.Context, req *zendeskv1.TestConnectionRequest) (*zendeskv1.TestConnectionResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	testCtx, cancel := rpc.AnswerInTime(ctx)
	defer cancel()
	var tested credentials.Connection
	rpc.Aside(ctx, func() { tested, err = s.credentials.Test(testCtx, rpc.Tenant(ctx), account) })
	if err != nil {
		return nil, rpc.AccountError(err, account.ID)
	}
	rpc.AddFields(ctx, slog.String("outcome", tested.Outcome.String()))
	resp := connectionToProto(tested)
	rpc.Traced(ctx, resp.GetFailure())
	return resp, nil
}

// connectionToProto converts what a test found. Outcomes have the numbers of the API's.
func connectionToProto(tested credentials.Connection) *zendeskv1.TestConnectionResponse {
	resp := &zendeskv1.TestConnectionResponse{
		Outcome: zendeskv1.CheckOutcome(tested.Outcome), Latency: durationpb.New(tested.Latency), Failure: rpc.FailureToProto(tested.Failure),
	}
	if u := tested.User; u != nil {
		resp.User = &zendeskv1.ConnectionUser{Id: u.ID, Name: u.Name, Email: u.Email, Role: u.Role}
	}
	for _, c := range tested.Checks {
		resp.Checks = append(resp.Checks, &zendeskv1.ConnectionCheck{Name: c.Name, Outcome: zendeskv1.CheckOutcome(c.Outcome), Message: c.Message})
	}
	return resp
}
