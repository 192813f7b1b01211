package server

import (
	"errors"

	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

func failure(reason zendeskv1.FailureReason, message string) *zendeskv1.Failure {
	return &zendeskv1.Failure{Reason: reason, Message: message}
}

// failureReasons maps the client's kinds of errors to the API's.
var failureReasons = map[zendeskapi.Kind]zendeskv1.FailureReason{
	zendeskapi.Timeout:             zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT,
	zendeskapi.Canceled:            zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT,
	zendeskapi.RateLimited:         zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED,
	zendeskapi.CredentialsRejected: zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED,
	zendeskapi.AccessDenied:        zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED,
	zendeskapi.InvalidRequest:      zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST,
	zendeskapi.NotFound:            zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND,
	zendeskapi.Conflict:            zendeskv1.FailureReason_FAILURE_REASON_CONFLICT,
	zendeskapi.Unavailable:         zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE,
	zendeskapi.BadResponse:         zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE,
}

// failureOf words an error of the Zendesk client for the caller.
func failureOf(err error) *zendeskv1.Failure {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok {
		return failure(zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE, "Zendesk could not be asked")
	}
	f := failure(failureReasons[api.Kind], api.Message())
	f.HttpStatus = int32(api.StatusCode)
	f.ZendeskRequestId = api.RequestID
	f.Attempts = int32(api.Attempts)
	if api.RetryAfter > 0 {
		f.RetryAfter = durationpb.New(api.RetryAfter)
	}
	return f
}
