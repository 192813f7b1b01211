package credentials

import (
	"errors"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// failureReasons maps the client's kinds of errors.
var failureReasons = map[zendeskapi.Kind]store.FailureReason{
	zendeskapi.Timeout:             store.ReasonTimeout,
	zendeskapi.Canceled:            store.ReasonTimeout,
	zendeskapi.RateLimited:         store.ReasonRateLimited,
	zendeskapi.CredentialsRejected: store.ReasonCredentialsRejected,
	zendeskapi.AccessDenied:        store.ReasonAccessDenied,
	zendeskapi.InvalidRequest:      store.ReasonInvalidRequest,
	zendeskapi.NotFound:            store.ReasonNotFound,
	zendeskapi.Conflict:            store.ReasonConflict,
	zendeskapi.Unavailable:         store.ReasonUnavailable,
	zendeskapi.BadResponse:         store.ReasonBadResponse,
	zendeskapi.NoWrites:            store.ReasonInvalidRequest,
}

// FailureOf words an error of [Keeper.Do].
func FailureOf(err error) store.Failure {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok {
		return store.NewFailure(store.ReasonUnavailable, "Zendesk could not be asked")
	}
	f := store.NewFailure(failureReasons[api.Kind], api.Message())
	f.HTTPStatus, f.ZendeskRequestID, f.Attempts, f.RetryAfter = api.StatusCode, api.RequestID, api.Attempts, api.RetryAfter
	// A token that is refused while it is new is renewed a little later, without a person.
	f.Retryable = f.Retryable || api.Kind == zendeskapi.CredentialsRejected && api.Pause > 0
	return f
}
