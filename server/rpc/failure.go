package rpc

import (
	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// failurePrefix begins the names of the reasons in the API.
const failurePrefix = "FAILURE_REASON_"

// ReasonToProto returns the API's value; unspecified for the empty reason.
func ReasonToProto(reason store.FailureReason) zendeskv1.FailureReason {
	return zendeskv1.FailureReason(zendeskv1.FailureReason_value[failurePrefix+string(reason)])
}

// ReasonFromProto returns the reason that a value of the API means; empty for unspecified.
func ReasonFromProto(reason zendeskv1.FailureReason) store.FailureReason {
	if reason == zendeskv1.FailureReason_FAILURE_REASON_UNSPECIFIED {
		return ""
	}
	return store.FailureReason(reason.String()[len(failurePrefix):])
}

// ConcernsOperators tells the reasons for which something fails because of Zendesk, of what lies between, or of how an
// account is set up there: who runs the service looks into that. The others are matters of the scenario and of its data.
func ConcernsOperators(reason store.FailureReason) bool {
	switch reason {
	case store.ReasonTimeout, store.ReasonRateLimited, store.ReasonCredentialsRejected, store.ReasonAccessDenied,
		store.ReasonUnavailable, store.ReasonBadResponse:
		return true
	}
	return false
}

// Failure says in the API's words why something failed that Zendesk has no part in.
func Failure(reason store.FailureReason, message string) *zendeskv1.Failure {
	f := store.NewFailure(reason, message)
	return FailureToProto(&f)
}

// FailureToProto converts a failure; nil stays nil.
func FailureToProto(f *store.Failure) *zendeskv1.Failure {
	if f == nil {
		return nil
	}
	failure := &zendeskv1.Failure{
		Reason:           ReasonToProto(f.Reason),
		Message:          f.Message,
		HttpStatus:       int32(f.HTTPStatus),
		ZendeskRequestId: f.ZendeskRequestID,
		Attempts:         int32(f.Attempts),
		Retryable:        f.Retryable,
		TraceId:          f.TraceID,
	}
	if f.RetryAfter > 0 {
		failure.RetryAfter = durationpb.New(f.RetryAfter)
	}
	return failure
}
