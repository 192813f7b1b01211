package rpc

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// retryable says of every reason whether the same request may succeed later with nothing changed by people.
var retryable = map[store.FailureReason]bool{
	store.ReasonTimeout:              true,
	store.ReasonRateLimited:          true,
	store.ReasonCredentialsRejected:  false,
	store.ReasonAccessDenied:         false,
	store.ReasonInvalidRequest:       false,
	store.ReasonNotFound:             false,
	store.ReasonConflict:             true,
	store.ReasonUnavailable:          true,
	store.ReasonBadResponse:          true,
	store.ReasonAccountNotFound:      false,
	store.ReasonNoDefaultAccount:     false,
	store.ReasonUndefinedVariable:    false,
	store.ReasonEmptyValue:           false,
	store.ReasonRecordsetNotFound:    false,
	store.ReasonNoTarget:             false,
	store.ReasonInteractionCompleted: false,
	store.ReasonInteractionExpired:   false,
	store.ReasonRequestInProgress:    true,
}

// The reasons of the store are those of the API, by name.
func TestFailureReasons(t *testing.T) {
	for number, name := range zendeskv1.FailureReason_name {
		reason := ReasonFromProto(zendeskv1.FailureReason(number))
		if number == 0 {
			mustEqual(t, "unspecified", reason, store.FailureReason(""))
			continue
		}
		want, known := retryable[reason]
		if !known || string(reason) != strings.TrimPrefix(name, "FAILURE_REASON_") {
			t.Errorf("%s is %q in the store", name, reason)
			continue
		}
		failure := Failure(reason, "why")
		mustEqual(t, name, failure, &zendeskv1.Failure{Reason: zendeskv1.FailureReason(number), Message: "why", Retryable: want})
	}
	if len(retryable) != len(zendeskv1.FailureReason_name)-1 {
		t.Errorf("the store has %d reasons, the API %d", len(retryable), len(zendeskv1.FailureReason_name)-1)
	}
	mustEqual(t, "no reason", ReasonToProto(""), zendeskv1.FailureReason_FAILURE_REASON_UNSPECIFIED)
}

func TestFailureToProto(t *testing.T) {
	if got := FailureToProto(nil); got != nil {
		t.Errorf("no failure is %v", got)
	}
	mustEqual(t, "failure", FailureToProto(&store.Failure{
		Reason: store.ReasonRateLimited, Message: "too many", HTTPStatus: 429, RetryAfter: 93 * time.Second, ZendeskRequestID: "z", Attempts: 2, Retryable: true,
	}), &zendeskv1.Failure{
		Reason: zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED, Message: "too many", HttpStatus: 429, RetryAfter: durationpb.New(93 * time.Second),
		ZendeskRequestId: "z", Attempts: 2, Retryable: true,
	})
}
