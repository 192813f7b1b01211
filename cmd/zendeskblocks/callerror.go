package main

import (
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// callError is an error of a call to a server, worded in one line for people: code and reason, the fields that break rules or
// the message, when to try again, and what to look at.
type callError struct {
	code codes.Code
	line string
}

func (e *callError) Error() string { return e.line }

// single says whether the failure is about what the one request named: the next one may succeed.
func (e *callError) single() bool {
	switch e.code {
	case codes.NotFound, codes.FailedPrecondition, codes.Aborted, codes.InvalidArgument:
		return true
	}
	return false
}

// newCallError words an error of a call to the server at an address.
func newCallError(err error, server string) *callError {
	s := status.Convert(err)
	name, said, reason := codeName(s.Code()), s.Message(), ""
	var wait string
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.BadRequest:
			var broken []string
			for _, v := range d.GetFieldViolations() {
				broken = append(broken, v.GetField()+": "+v.GetDescription())
			}
			said = strings.Join(broken, "; ")
		case *errdetails.RetryInfo:
			wait = fmt.Sprintf("; try again in %s", d.GetRetryDelay().AsDuration())
		}
	}
	if reason != "" && reason != name {
		name += " " + reason
	}
	hint := hintFor(s.Code(), reason, server)
	if hint != "" {
		hint = " (" + hint + ")"
	}
	return &callError{s.Code(), oneLine(name + ": " + said + wait + hint)}
}

// hintFor says what to look at after an error; empty when its message says it all.
func hintFor(code codes.Code, reason, server string) string {
	switch zendeskv1.ErrorReason(zendeskv1.ErrorReason_value["ERROR_REASON_"+reason]) {
	case zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND:
		return "see zendeskblocks accounts list"
	case zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_WRITTEN:
		return "see zendeskblocks activities list"
	case zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED:
		return "see --credential-file and " + tokenVariable
	case zendeskv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED:
		return "call with a credential that has the role: see --credential-file"
	case zendeskv1.ErrorReason_ERROR_REASON_UNSPECIFIED: // not a refusal of this service
	default:
		return ""
	}
	switch code {
	case codes.Unavailable:
		return fmt.Sprintf("is the server running at %s, and does it want TLS? see --server and --server-ca", server)
	case codes.DeadlineExceeded:
		return "see --server and --call-timeout"
	case codes.Unimplemented:
		return "the server is another version than this program, or none of this kind: see --server"
	}
	return ""
}

// codeName is the name of a code as the API's documentation has it.
func codeName(code codes.Code) string {
	var name strings.Builder
	for i, r := range code.String() {
		if i > 0 && unicode.IsUpper(r) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToUpper(r))
	}
	switch code {
	case codes.OK:
		return "OK"
	case codes.Canceled:
		return "CANCELLED"
	}
	return name.String()
}

// oneLine keeps a text from being more than a line, or anything but text: what others wrote is shown on terminals.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text), unicode.IsSpace), " ")
}
