package blocks

import (
	"context"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// UpdateObject implements BlockService.
func (s *Service) UpdateObject(ctx context.Context, req *zendeskv1.UpdateObjectRequest) (*zendeskv1.UpdateObjectResponse, error) {
	var v violations
	v.block(req)
	settings := v.object(req.GetObjectType(), req.GetFields(), req.GetJson())
	id := v.requiredTemplate("object_id", req.GetObjectId())
	if err := v.Err(); err != nil {
		return nil, err
	}
	failed := func(f *zendeskv1.Failure) *zendeskv1.UpdateObjectResponse {
		return &zendeskv1.UpdateObjectResponse{Exit: zendeskv1.Exit_EXIT_FAILED, Failure: f, Variables: resultVariables("", "")}
	}
	return executeOnce(ctx, s, "UpdateObject", req, changingNothing(failed), func(ctx context.Context, b *block) (*zendeskv1.UpdateObjectResponse, error) {
		return writeObject(ctx, s, b, objectBlock[*zendeskv1.UpdateObjectResponse]{
			settings: settings, id: id, withBody: req.GetIncludeResultBody(), failed: failed,
			word: func(w objectWords) *zendeskv1.UpdateObjectResponse {
				return &zendeskv1.UpdateObjectResponse{
					Exit: w.exit, Variables: w.variables, Account: w.account, Failure: w.failure, Record: w.record, IgnoredFields: w.ignored,
				}
			},
		})
	})
}
