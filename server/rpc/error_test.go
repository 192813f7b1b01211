package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// detailOf returns the detail of a type that an error carries.
func detailOf[D any](err error) (detail D, ok bool) {
	for _, d := range status.Convert(err).Details() {
		if detail, ok = d.(D); ok {
			return detail, true
		}
	}
	return detail, false
}

// mustReason checks what a caller is told and returns its ErrorInfo.
func mustReason(t testing.TB, err error, code codes.Code, reason zendeskv1.ErrorReason) *errdetails.ErrorInfo {
	t.Helper()
	info, ok := detailOf[*errdetails.ErrorInfo](err)
	if !ok || status.Code(err) != code || "ERROR_REASON_"+info.GetReason() != reason.String() || info.GetDomain() != ErrorDomain {
		t.Fatalf("error is %v with %v, want %v with %v", err, info, code, reason)
	}
	return info
}

func mustEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// The standard services beside ours word their errors themselves, but no panic.
func TestErrorsOfStandardServices(t *testing.T) {
	info := &grpc.UnaryServerInfo{FullMethod: "/grpc.health.v1.Health/Check"}
	own := status.Error(codes.NotFound, "unknown service")
	for _, test := range []struct {
		err  error
		want codes.Code
	}{{own, codes.NotFound}, {Recovered(t.Context(), "canary"), codes.Internal}} {
		_, err := UnaryErrors(t.Context(), nil, info, func(context.Context, any) (any, error) { return nil, test.err })
		_, detailed := detailOf[*errdetails.ErrorInfo](err)
		if s := status.Convert(err); s.Code() != test.want || detailed != (test.err != own) || strings.Contains(s.Message(), "canary") {
			t.Errorf("%v is told as %v", test.err, s.Proto())
		}
	}
}

// What an error of the store says about the account that a request named.
func TestAccountError(t *testing.T) {
	cause := errors.New("cause")
	for _, test := range []struct {
		name   string
		err    error
		code   codes.Code
		reason zendeskv1.ErrorReason
		holder string
	}{
		{"unknown", store.ErrNotFound, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND, ""},
		{"there already", store.ErrAccountExists, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_ALREADY_EXISTS, ""},
		{"name taken", &store.NameTakenError{AccountID: "acme", HolderID: "other"}, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN, "other"},
		{"name taken by nobody knows whom", store.ErrNameTaken, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN, ""},
		{"changed", store.ErrETagMismatch, codes.Aborted, zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH, ""},
		{"default", store.ErrDefaultInUse, codes.FailedPrecondition, zendeskv1.ErrorReason_ERROR_REASON_DEFAULT_ACCOUNT_IN_USE, ""},
		{"anything else", cause, codes.Internal, zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := AccountError(fmt.Errorf("wrapper: %w", test.err), "acme")
			if test.err == cause && !errors.Is(err, cause) {
				t.Errorf("the error is %v", err)
			}
			info := mustReason(t, toStatus(t.Context(), err), test.code, test.reason)
			want := map[string]string{"account_id": "acme"}
			if test.holder != "" {
				want["holder_account_id"] = test.holder
			}
			if test.err == cause {
				want = nil
			}
			mustEqual(t, "metadata", info.GetMetadata(), want)
			for _, value := range want { // AIP-193
				if text := status.Convert(toStatus(t.Context(), err)).Message(); !strings.Contains(text, value) {
					t.Errorf("the message %q does not hold %q", text, value)
				}
			}
		})
	}
}

func TestEnded(t *testing.T) {
	cause := errors.New("cause")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	public := &Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD}
	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		want zendeskv1.ErrorReason
		code codes.Code
	}{
		{"cancelled", cancelled, cause, zendeskv1.ErrorReason_ERROR_REASON_CANCELLED, codes.Canceled},
		{"expired", expired, cause, zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, codes.DeadlineExceeded},
		{"going on", t.Context(), cause, zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, codes.Internal},
		{"public stays", expired, public, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD, codes.InvalidArgument},
	} {
		err := toStatus(test.ctx, test.err)
		mustReason(t, err, test.code, test.want)
		if test.err == cause && !strings.Contains(err.Error(), "cause") {
			t.Errorf("%s: the log is told %q", test.name, err)
		}
	}
}

// Every reason has a code and reaches the caller in an ErrorInfo, with the details it comes with.
func TestErrorReasons(t *testing.T) {
	for number := range zendeskv1.ErrorReason_name {
		reason := zendeskv1.ErrorReason(number)
		if reason == zendeskv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
			continue
		}
		code, ok := errorCodes[reason]
		if !ok {
			t.Errorf("%v has no code", reason)
			continue
		}
		err := toStatus(t.Context(), &Error{
			Reason: reason, Message: "m", Metadata: map[string]string{"k": "v"}, RetryAfter: time.Minute,
			violations: Violations{{Field: "f"}}, Cause: errors.New("secret cause"),
		})
		info := mustReason(t, err, code, reason)
		mustEqual(t, "metadata", info.GetMetadata(), map[string]string{"k": "v"})
		if retry, _ := detailOf[*errdetails.RetryInfo](err); retry.GetRetryDelay().AsDuration() != time.Minute {
			t.Errorf("%v: retry info is %v", reason, retry)
		}
		if strings.Contains(fmt.Sprint(status.Convert(err).Proto()), "secret") {
			t.Errorf("%v tells its cause", reason)
		}
	}
	if len(errorCodes) != len(zendeskv1.ErrorReason_name)-1 {
		t.Errorf("the error table has %d reasons, the API %d", len(errorCodes), len(zendeskv1.ErrorReason_name)-1)
	}
}

// Every RPC of the API has its place among the deadlines and behind the interceptors: the prefix tells them.
func TestMethodsAreOurs(t *testing.T) {
	for _, desc := range []grpc.ServiceDesc{zendeskv1.AccountService_ServiceDesc, zendeskv1.BlockService_ServiceDesc, zendeskv1.InteractionService_ServiceDesc} {
		for _, method := range desc.Methods {
			if name := fmt.Sprintf("/%s/%s", desc.ServiceName, method.MethodName); !Ours(name) {
				t.Errorf("%s is not told as ours", name)
			}
		}
	}
	if Ours("/grpc.health.v1.Health/Check") {
		t.Error("the health service is told as ours")
	}
}
