package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// ErrorDomain is the domain of every google.rpc.ErrorInfo of this service.
const ErrorDomain = "zendeskblocks.scenarioblocks"

// errorCodes is the error table: the gRPC code of each reason. The client guide,
// proto/README.md, has the same table.
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
	zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_WRITTEN:       codes.FailedPrecondition,
	zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_BUSY:          codes.Aborted,
	zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED:        codes.Unauthenticated,
	zendeskv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED:      codes.PermissionDenied,
	zendeskv1.ErrorReason_ERROR_REASON_INTERNAL:               codes.Internal,
	zendeskv1.ErrorReason_ERROR_REASON_RECORDSET_NOT_FOUND:    codes.NotFound,
	zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE:      codes.Unavailable,
	zendeskv1.ErrorReason_ERROR_REASON_AUDIT_UNAVAILABLE:      codes.Unavailable,
	zendeskv1.ErrorReason_ERROR_REASON_CONNECTION_EXPIRED:     codes.Unavailable,
	zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_CALLS:         codes.ResourceExhausted,
	zendeskv1.ErrorReason_ERROR_REASON_TOO_MANY_WATCHES:       codes.ResourceExhausted,
	zendeskv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED:         codes.ResourceExhausted,
	zendeskv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE:      codes.ResourceExhausted,
	zendeskv1.ErrorReason_ERROR_REASON_SERVER_BUSY:            codes.ResourceExhausted,
	zendeskv1.ErrorReason_ERROR_REASON_BACKUP_IN_PROGRESS:     codes.ResourceExhausted,
	zendeskv1.ErrorReason_ERROR_REASON_BACKUP_UNSUPPORTED:     codes.Unimplemented,
	zendeskv1.ErrorReason_ERROR_REASON_NO_WRITES:              codes.FailedPrecondition,
}

// Error is an error that the caller is told about. Its text goes to the log only.
type Error struct {
	Reason     zendeskv1.ErrorReason
	Message    string            // for the caller
	Metadata   map[string]string // every value that Message holds (AIP-193)
	RetryAfter time.Duration     // 0: nobody said
	Cause      error             // for the log; may be nil

	violations Violations
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Cause)
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Limits of what a caller is told of an error, in bytes. All of it travels in the trailers, and clients refuse those of more
// than 8 KiB: the message as grpc-message, percent-escaped, and once more in the details, which are in base64.
const (
	maxMessage       = 1200 // escaped
	maxMetadataValue = 320
	maxMetadata      = 1600 // keys and values of ErrorInfo
	maxStatus        = 4 << 10
)

// status builds what the caller gets. traceID is of the call's trace; empty: it belongs to none.
func (e *Error) status(traceID string) *status.Status {
	s := &spb.Status{Code: int32(errorCodes[e.Reason]), Message: cutEscaped(e.Message, maxMessage)}
	add := func(detail proto.Message) {
		if packed, err := anypb.New(detail); err == nil { // which cannot fail: all texts are UTF-8
			s.Details = append(s.Details, packed)
		}
	}
	metadata := cutMetadata(e.Metadata)
	if traceID != "" {
		if metadata == nil {
			metadata = make(map[string]string, 1)
		}
		metadata["trace_id"] = traceID
	}
	add(&errdetails.ErrorInfo{Reason: strings.TrimPrefix(e.Reason.String(), "ERROR_REASON_"), Domain: ErrorDomain, Metadata: metadata})
	if e.RetryAfter > 0 {
		add(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	if bad := fitting(e.violations, maxStatus-proto.Size(s)); bad != nil {
		add(bad)
	}
	return status.FromProto(s)
}

// cutMetadata keeps of the metadata, in the order of the keys, what there is room for.
func cutMetadata(metadata map[string]string) map[string]string {
	if len(metadata) == 0 {
		return nil
	}
	kept, left := make(map[string]string, len(metadata)), maxMetadata
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		value := cut(metadata[key], maxMetadataValue)
		if left -= len(key) + len(value); left < 0 {
			break
		}
		kept[key] = value
	}
	return kept
}

// fitting returns the first violations that have room in a detail; nil if there is none.
func fitting(violations Violations, room int) *errdetails.BadRequest {
	const around = 64 // what names the type of the detail, and lengths
	bad := &errdetails.BadRequest{}
	for room -= around; len(bad.FieldViolations) < len(violations); {
		next := violations[len(bad.FieldViolations)]
		if room -= proto.Size(next) + 3; room < 0 && len(bad.FieldViolations) > 0 {
			break
		}
		bad.FieldViolations = append(bad.FieldViolations, next)
	}
	if len(bad.FieldViolations) == 0 {
		return nil
	}
	return bad
}

// cut shortens a text to at most limit bytes, visibly and between characters. What is no UTF-8 cannot be told at all, and is
// replaced.
func cut(text string, limit int) string {
	return shortened(text, limit, func(r rune) int { return utf8.RuneLen(r) })
}

// cutEscaped is cut for what gRPC escapes by percent signs, limit counting the result: three bytes for each that is no
// printable ASCII.
func cutEscaped(text string, limit int) string {
	return shortened(text, limit, escapedLen)
}

func escapedLen(r rune) int {
	if r < ' ' || r > '~' || r == '%' {
		return 3 * utf8.RuneLen(r)
	}
	return 1
}

const ellipsis = '…'

func shortened(text string, limit int, length func(rune) int) string {
	size, end := 0, 0 // of what is kept in any case
	for at, r := range text {
		if size+length(ellipsis) <= limit {
			end = at
		}
		if size += length(r); size > limit {
			return strings.ToValidUTF8(text[:end], "\uFFFD") + string(ellipsis)
		}
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// AccountError tells about the account that a request named: what the store said, in the words of the API.
func AccountError(err error, accountID string) error {
	public := &Error{Metadata: map[string]string{"account_id": accountID}}
	switch {
	case errors.Is(err, store.ErrNotFound):
		public.Reason = zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND
		public.Message = fmt.Sprintf("account %q does not exist", accountID)
	case errors.Is(err, store.ErrAccountExists):
		public.Reason = zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_ALREADY_EXISTS
		public.Message = fmt.Sprintf("account %q exists already", accountID)
	case errors.Is(err, store.ErrNameTaken):
		public.Reason = zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN
		holder := "another one"
		if taken, ok := errors.AsType[*store.NameTakenError](err); ok {
			holder = fmt.Sprintf("account %q", taken.HolderID)
			public.Metadata["holder_account_id"] = taken.HolderID
		}
		public.Message = fmt.Sprintf("account %q cannot have this name or id: %s has it as its name or id, compared without regard to case", accountID, holder)
	case errors.Is(err, store.ErrETagMismatch):
		public.Reason = zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH
		public.Message = fmt.Sprintf("account %q has changed since its etag was read", accountID)
	case errors.Is(err, store.ErrDefaultInUse):
		public.Reason = zendeskv1.ErrorReason_ERROR_REASON_DEFAULT_ACCOUNT_IN_USE
		public.Message = fmt.Sprintf("account %q is the default and others exist; mark another one as default first", accountID)
	default:
		return err
	}
	return public
}

// auditRetry is when it may be worth to try again what could not be noted: a person has to look into it.
const auditRetry = 10 * time.Second

// quotaRetry is when there may be room again for a tenant that is at a quota: others end their calls, or somebody clears up.
const quotaRetry = 30 * time.Second

// statusError has two faces: its text, with the cause, is for the log, and its status for the wire. Nothing may wrap it:
// gRPC sends the text of a wrapper to the client.
type statusError struct {
	cause  error
	reason zendeskv1.ErrorReason
	status *status.Status
}

func (e *statusError) Error() string              { return e.cause.Error() }
func (e *statusError) GRPCStatus() *status.Status { return e.status }

// Wire returns the error as callers get it, for where no interceptor makes it so.
func (e *Error) Wire() error { return &statusError{cause: e, reason: e.Reason, status: e.status("")} }

// Status returns the error as callers get it, for who speaks to them by other means than gRPC's.
func (e *Error) Status() *spb.Status { return e.status("").Proto() }

// toStatus is the one crossing from Go errors to gRPC's. What nobody expected is INTERNAL, and its text stays here.
func toStatus(ctx context.Context, err error) error {
	err = Ended(ctx, err)
	if public, ok := errors.AsType[*Error](err); ok {
		return &statusError{cause: err, reason: public.Reason, status: public.status(TraceID(ctx))}
	}
	public := &Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, Message: "internal error"}
	quota, overQuota := errors.AsType[*store.QuotaError](err)
	switch {
	case overQuota:
		public.Reason, public.RetryAfter = zendeskv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, quotaRetry
		public.Message = fmt.Sprintf("the tenant is at its quota of %d %s", quota.Limit, quota.Quota)
		public.Metadata = map[string]string{"quota": quota.Quota, "limit": strconv.FormatInt(quota.Limit, 10)}
	case errors.Is(err, store.ErrUnavailable):
		public.Reason, public.Message = zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, "the service cannot reach or write its data now"
		public.RetryAfter = time.Second
	case errors.Is(err, store.ErrUnknownOutcome):
		public.Reason, public.Message = zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, "the database has not said in time whether it has stored this"
		public.RetryAfter = time.Second
	case errors.Is(err, store.ErrNotNoted):
		public.Reason, public.RetryAfter = zendeskv1.ErrorReason_ERROR_REASON_AUDIT_UNAVAILABLE, auditRetry
		public.Message = "changes are refused while the audit cannot be written: what it has to take waits already"
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFailed): // a store that has failed ends the process
		public.Reason, public.Message = ErrDraining.Reason, ErrDraining.Message
	}
	return &statusError{cause: err, reason: public.Reason, status: public.status(TraceID(ctx))}
}

// Ended words an error of a call whose context is done. The context is asked, not the error: other time-outs look the
// same.
func Ended(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	switch ctxErr := ctx.Err(); {
	case errors.Is(ctxErr, context.DeadlineExceeded):
		return &Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, Message: "the deadline passed", Cause: err}
	case errors.Is(ctxErr, context.Canceled):
		return &Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_CANCELLED, Message: "the caller went away", Cause: err}
	}
	return err
}

// Ours tells the methods of this API from those of the standard services beside it.
func Ours(fullMethod string) bool {
	return strings.HasPrefix(fullMethod, "/scenarioblocks.zendesk.")
}

// Foreign tells the statuses of the standard services, such as health and reflection, which are theirs to word.
func Foreign(fullMethod string, err error) bool {
	_, isStatus := status.FromError(err)
	return isStatus && !Ours(fullMethod)
}

// ErrDraining ends what would go on for ever when the service stops.
var ErrDraining = &Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, Message: "the service is shutting down"}

// ErrNoWrites refuses what would write to Zendesk where nothing is written.
var ErrNoWrites = &Error{
	Reason:  zendeskv1.ErrorReason_ERROR_REASON_NO_WRITES,
	Message: "the service was started with --no-writes: it writes nothing to Zendesk, and asks for no token",
}

// UnaryErrors is the interceptor by which the errors of unary calls cross to gRPC.
func UnaryErrors(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if err != nil && !Foreign(info.FullMethod, err) {
		return nil, toStatus(ctx, err)
	}
	return resp, err
}

// StreamError is what the error that the handler of a stream ended with crosses to gRPC as; it may be nil.
func StreamError(ctx context.Context, fullMethod string, err error) error {
	if err != nil && !Foreign(fullMethod, err) {
		return toStatus(ctx, err)
	}
	return err
}

// panicError is a panic that was survived, with its stack.
type panicError string

func (e panicError) Error() string { return string(e) }

// Recovered turns a panic into an error whose stack goes to the log and not to the caller.
func Recovered(_ context.Context, p any) error {
	return panicError(fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
}

// Panicked tells whether a call ended with an error of Recovered.
func Panicked(err error) bool {
	if failed, ok := err.(*statusError); ok { //nolint:errorlint // nothing wraps it
		err = failed.cause
	}
	_, ok := errors.AsType[panicError](err)
	return ok
}

// ReasonOf is the reason that an error of this API has on the wire, without its prefix; empty: it is none of this API.
func ReasonOf(err error) string {
	if failed, ok := err.(*statusError); ok { //nolint:errorlint // nothing wraps it
		return strings.TrimPrefix(failed.reason.String(), "ERROR_REASON_")
	}
	return ""
}

// Outcome names the code that a call ended with, and says how loud that is in the log: what its caller could do better is not.
func Outcome(err error) (code string, level slog.Level) {
	switch c := status.Code(err); c {
	case codes.OK, codes.NotFound, codes.Canceled, codes.AlreadyExists, codes.InvalidArgument, codes.Unauthenticated:
		return c.String(), slog.LevelInfo
	case codes.Unknown, codes.Unimplemented, codes.Internal, codes.DataLoss:
		return c.String(), slog.LevelError
	default:
		return c.String(), slog.LevelWarn
	}
}
