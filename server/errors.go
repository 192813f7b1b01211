package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// ErrorDomain is the domain of every google.rpc.ErrorInfo of this service.
const ErrorDomain = "zendeskblocks.scenarioblocks"

// errorCodes is the error table: the gRPC code of each reason. README.md has the same table.
var errorCodes = map[zendeskv1.ErrorReason]codes.Code{
	zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD:          codes.InvalidArgument,
	zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED:      codes.InvalidArgument,
	zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND:      codes.NotFound,
	zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_ALREADY_EXISTS: codes.AlreadyExists,
	zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN:     codes.AlreadyExists,
	zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH:          codes.Aborted,
	zendeskv1.ErrorReason_ERROR_REASON_DEFAULT_ACCOUNT_IN_USE: codes.FailedPrecondition,
	zendeskv1.ErrorReason_ERROR_REASON_TOKEN_REFUSED:          codes.FailedPrecondition,
	zendeskv1.ErrorReason_ERROR_REASON_ZENDESK_UNAVAILABLE:    codes.Unavailable,
	zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND:  codes.NotFound,
	zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED:      codes.DeadlineExceeded,
	zendeskv1.ErrorReason_ERROR_REASON_CANCELLED:              codes.Canceled,
	zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN:          codes.Unavailable,
	zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_COMPLETED:  codes.AlreadyExists,
	zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_EXPIRED:    codes.FailedPrecondition,
	zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND:     codes.NotFound,
	zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_DEAD:      codes.FailedPrecondition,
	zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED:        codes.Unauthenticated,
	zendeskv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED:      codes.PermissionDenied,
	zendeskv1.ErrorReason_ERROR_REASON_INTERNAL:               codes.Internal,
}

// publicError is an error that the caller is told about. Its Error text goes to the log only.
type publicError struct {
	reason     zendeskv1.ErrorReason
	message    string            // for the caller
	metadata   map[string]string // every value that the message holds (AIP-193)
	violations violations
	retryAfter time.Duration // 0: Zendesk did not say
	cause      error         // for the log; may be nil
}

func (e *publicError) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %v", e.message, e.cause)
	}
	return e.message
}

func (e *publicError) Unwrap() error { return e.cause }

// status builds what the caller gets.
func (e *publicError) status() *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason:   strings.TrimPrefix(e.reason.String(), "ERROR_REASON_"),
		Domain:   ErrorDomain,
		Metadata: e.metadata,
	}}
	if len(e.violations) > 0 {
		details = append(details, &errdetails.BadRequest{FieldViolations: e.violations})
	}
	if e.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	s := status.New(errorCodes[e.reason], e.message)
	if detailed, err := s.WithDetails(details...); err == nil {
		return detailed
	}
	return s
}

// accountError tells about the account that a request named: what the store said, in the words of the API.
func accountError(err error, accountID string) error {
	public := &publicError{metadata: map[string]string{"account_id": accountID}}
	switch {
	case errors.Is(err, store.ErrNotFound):
		public.reason = zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND
		public.message = fmt.Sprintf("account %q does not exist", accountID)
	case errors.Is(err, store.ErrAccountExists):
		public.reason = zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_ALREADY_EXISTS
		public.message = fmt.Sprintf("account %q exists already", accountID)
	case errors.Is(err, store.ErrNameTaken):
		public.reason = zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN
		public.message = "another account has this name or id; a name is unique without regard to case, and no account's id is another's name"
	case errors.Is(err, store.ErrETagMismatch):
		public.reason = zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH
		public.message = fmt.Sprintf("account %q has changed since its etag was read", accountID)
	case errors.Is(err, store.ErrDefaultInUse):
		public.reason = zendeskv1.ErrorReason_ERROR_REASON_DEFAULT_ACCOUNT_IN_USE
		public.message = fmt.Sprintf("account %q is the default and others exist; mark another one as default first", accountID)
	default:
		return err
	}
	return public
}

// statusError has two faces: its text, with the cause, is for the log, and its status for the wire. Nothing may wrap it:
// gRPC sends the text of a wrapper to the client.
type statusError struct {
	cause  error
	status *status.Status
}

func (e *statusError) Error() string              { return e.cause.Error() }
func (e *statusError) GRPCStatus() *status.Status { return e.status }

// errorToStatus is the one crossing from Go errors to gRPC's. What nobody expected is INTERNAL, and its text stays here.
func errorToStatus(ctx context.Context, err error) error {
	err = ended(ctx, err)
	if public, ok := errors.AsType[*publicError](err); ok {
		return &statusError{cause: err, status: public.status()}
	}
	public := &publicError{reason: zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, message: "internal error"}
	if errors.Is(err, store.ErrClosed) {
		public.reason, public.message = zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, "the service is shutting down"
	}
	return &statusError{cause: err, status: public.status()}
}

// ended words an error of a call whose context is done. The context is asked, not the error: other time-outs look the
// same.
func ended(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*publicError](err); ok {
		return err
	}
	switch ctxErr := ctx.Err(); {
	case errors.Is(ctxErr, context.DeadlineExceeded):
		return &publicError{reason: zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, message: "the deadline passed", cause: err}
	case errors.Is(ctxErr, context.Canceled):
		return &publicError{reason: zendeskv1.ErrorReason_ERROR_REASON_CANCELLED, message: "the caller went away", cause: err}
	}
	return err
}

// foreign tells the statuses of the standard services, such as health and reflection, which are theirs to word.
func foreign(fullMethod string, err error) bool {
	_, isStatus := status.FromError(err)
	return isStatus && !ours(fullMethod)
}

// errDraining ends what would go on for ever when the service stops.
var errDraining = &publicError{reason: zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, message: "the service is shutting down"}

func unaryErrors(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if err != nil && !foreign(info.FullMethod, err) {
		return nil, errorToStatus(ctx, err)
	}
	return resp, err
}

func streamErrors(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	err := handler(srv, stream)
	if err != nil && !foreign(info.FullMethod, err) {
		return errorToStatus(stream.Context(), err)
	}
	return err
}

// recovered turns a panic into an error whose stack goes to the log and not to the caller.
func recovered(_ context.Context, p any) error {
	return fmt.Errorf("panic: %v\n%s", p, debug.Stack())
}

// violations collects everything that is wrong with a request.
type violations []*errdetails.BadRequest_FieldViolation

func (v *violations) add(field, format string, args ...any) {
	*v = append(*v, &errdetails.BadRequest_FieldViolation{Field: field, Description: fmt.Sprintf(format, args...)})
}

// err is nil when there is no violation, and names the fields otherwise.
func (v violations) err() error {
	if len(v) == 0 {
		return nil
	}
	fields := make(map[string]bool, len(v))
	for _, violation := range v {
		// The message is logged, and a key of a map may say something of a person: only the violations name it.
		name, _, _ := strings.Cut(violation.GetField(), "[")
		fields[name] = true
	}
	names := slices.Sorted(maps.Keys(fields))
	return &publicError{
		reason:     zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD,
		message:    "invalid fields: " + strings.Join(names, ", "),
		metadata:   map[string]string{"fields": strings.Join(names, ", ")},
		violations: v,
	}
}
