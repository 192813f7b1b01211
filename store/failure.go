package store

import "time"

// FailureReason is the kind of a [Failure]. The texts are part of the stored form.
type FailureReason string

// Kinds of failures.
const (
	ReasonTimeout              FailureReason = "TIMEOUT"               // Zendesk did not answer in time
	ReasonRateLimited          FailureReason = "RATE_LIMITED"          // Zendesk throttles, for longer than there was time
	ReasonCredentialsRejected  FailureReason = "CREDENTIALS_REJECTED"  // Zendesk refused the account's credential, or there is none
	ReasonAccessDenied         FailureReason = "ACCESS_DENIED"         // the credential is good, and does not allow this
	ReasonInvalidRequest       FailureReason = "INVALID_REQUEST"       // what was asked was refused
	ReasonNotFound             FailureReason = "NOT_FOUND"             // what was asked for by its id is not there
	ReasonConflict             FailureReason = "CONFLICT"              // someone else changed it at the same time
	ReasonUnavailable          FailureReason = "UNAVAILABLE"           // Zendesk could not be reached, or cannot answer now
	ReasonBadResponse          FailureReason = "BAD_RESPONSE"          // what answered was not readable as Zendesk's answer
	ReasonAccountNotFound      FailureReason = "ACCOUNT_NOT_FOUND"     // the account does not exist (any more)
	ReasonNoDefaultAccount     FailureReason = "NO_DEFAULT_ACCOUNT"    // none was selected, and the tenant has no default
	ReasonUndefinedVariable    FailureReason = "UNDEFINED_VARIABLE"    // nobody set a variable that is needed
	ReasonEmptyValue           FailureReason = "EMPTY_VALUE"           // a variable that is needed has no letter or digit
	ReasonRecordsetNotFound    FailureReason = "RECORDSET_NOT_FOUND"   // the interaction has no such recordset
	ReasonNoTarget             FailureReason = "NO_TARGET"             // there is nothing to pop
	ReasonInteractionCompleted FailureReason = "INTERACTION_COMPLETED" // the interaction changes no more
	ReasonInteractionExpired   FailureReason = "INTERACTION_EXPIRED"   // the interaction was left alone for too long
	ReasonRequestInProgress    FailureReason = "REQUEST_IN_PROGRESS"   // an earlier request of the same id still runs
)

// Failure is why something was not done.
type Failure struct {
	Reason           FailureReason `json:"reason"`
	Message          string        `json:"message,omitempty"`     // for people
	HTTPStatus       int           `json:"http_status,omitempty"` // Zendesk's; 0: it did not answer, or was not asked
	RetryAfter       time.Duration `json:"retry_after,omitempty"` // what Zendesk asked to wait, stored in nanoseconds; 0: it did not say
	ZendeskRequestID string        `json:"zendesk_request_id,omitempty"`
	Attempts         int           `json:"attempts,omitempty"`  // requests that were sent
	Retryable        bool          `json:"retryable,omitempty"` // the same may succeed later with nothing changed by people
	TraceID          string        `json:"trace_id,omitempty"`  // of the call in which it failed; empty: none, or it was not traced
}

// NewFailure is a failure that Zendesk has no part in.
func NewFailure(reason FailureReason, message string) Failure {
	return Failure{Reason: reason, Message: message, Retryable: reason.Retryable()}
}

// Retryable tells the reasons for which the same request may succeed later with nothing changed by people.
func (r FailureReason) Retryable() bool {
	switch r {
	case ReasonTimeout, ReasonRateLimited, ReasonConflict, ReasonUnavailable, ReasonBadResponse, ReasonRequestInProgress:
		return true
	}
	return false
}
