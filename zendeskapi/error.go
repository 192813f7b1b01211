package zendeskapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Kind says why Zendesk did not do what it was asked.
type Kind string

// The kinds of errors.
const (
	Timeout             Kind = "timeout"              // no answer before the deadline
	Canceled            Kind = "canceled"             // the caller gave up
	RateLimited         Kind = "rate_limited"         // throttled; see RetryAfter
	CredentialsRejected Kind = "credentials_rejected" // credential wrong, expired or missing
	AccessDenied        Kind = "access_denied"        // credential good; its role, plan or scopes do not allow this
	InvalidRequest      Kind = "invalid_request"      // refused for what it asks
	NotFound            Kind = "not_found"            // no record of that id, or no such endpoint
	Conflict            Kind = "conflict"             // someone else changed it at the same time
	Unavailable         Kind = "unavailable"          // unreachable, or it says that it cannot answer now
	BadResponse         Kind = "bad_response"         // the answer is not readable as Zendesk's
)

var kindTexts = map[Kind]string{ //nolint:gosec // G101: texts about credentials, not credentials
	Timeout:             "Zendesk did not answer in time",
	Canceled:            "the request to Zendesk was given up",
	RateLimited:         "Zendesk throttles this account",
	CredentialsRejected: "the credential is not accepted",
	AccessDenied:        "the credential's role, plan or scopes do not allow this",
	InvalidRequest:      "the request is not valid",
	NotFound:            "Zendesk has nothing there",
	Conflict:            "the record was changed by someone else at the same time",
	Unavailable:         "Zendesk cannot be reached or cannot answer now",
	BadResponse:         "the answer is not readable as Zendesk's",
}

// Error is why a request did not succeed. Its text holds neither the request's query nor anything of the answer's body.
type Error struct {
	Op         string // what was asked, such as "search"
	Kind       Kind
	StatusCode int           // HTTP status; 0 when there was no answer
	Code       string        // Zendesk's own code or title, such as RecordNotFound or invalid_grant; empty if it gave none
	Detail     string        // Zendesk's description, one line, at most 500 characters; empty if it gave none
	Fields     []FieldError  // what Zendesk found wrong with single fields
	RequestID  string        // X-Request-Id of the answer, for Zendesk's support
	RetryAfter time.Duration // how long to wait before asking again; 0 when Zendesk did not say. At most an hour
	Attempts   int           // how many requests were sent
	Err        error         // the cause, if there is more to say than the status

	body      Secret // the answer as text; a Secret so that no formatting prints it
	unknown   bool
	transient bool
}

// FieldError is what Zendesk found wrong with one field of a record.
type FieldError struct {
	Field       string // such as "status" or "base"
	Code        string // such as "BlankValue"; often empty
	Description string
}

// Error is for logs.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "zendesk %s: %s", e.Op, e.Kind)
	if e.StatusCode != 0 {
		fmt.Fprintf(&b, ", status %d", e.StatusCode)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, ", request id %q", e.RequestID)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, ", %d attempts", e.Attempts)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Message is for people: what happened, and what Zendesk said about it. One line without secrets.
func (e *Error) Message() string {
	said := first(e.Detail, e.Code)
	if cause, ok := errors.AsType[unreadable](e.Err); ok && said == "" {
		said = string(cause)
	}
	if said == "" {
		return kindTexts[e.Kind]
	}
	return kindTexts[e.Kind] + ": " + said
}

// Body is the text of the answer: valid UTF-8, at most 64 KiB, cut on a character boundary. It is empty when there was no
// answer, and for requests whose answers hold tokens.
func (e *Error) Body() string { return e.body.Reveal() }

// Unknown reports whether a write may have taken effect although it failed: the connection broke, time ran out, or the
// answer was unreadable, after the request had begun to leave. It is false for reads.
func (e *Error) Unknown() bool { return e.unknown }

// EndpointUnavailable reports whether Zendesk refused the endpoint as such, not the ids that stood in the request: the
// account's plan lacks it (404 InvalidEndpoint) or the credential may not use it (403).
func (e *Error) EndpointUnavailable() bool {
	return e.Kind == AccessDenied || e.Kind == NotFound && (e.Code == "InvalidEndpoint" || e.Code == "")
}

var errNoCredential = errors.New("the account has no credential")

// unreadable is why an answer is of no use. The errors of packages json and time are not told: their texts repeat parts of
// what was read.
type unreadable string

// Error tells why.
func (e unreadable) Error() string { return string(e) }

const (
	errEmpty      unreadable = "the answer is empty"
	errNotObject  unreadable = "the answer is no JSON object"
	errMalformed  unreadable = "a value in the answer is malformed"
	errTooLarge   unreadable = "the answer is larger than 16 MiB"
	errCutShort   unreadable = "the connection broke within the answer"
	errRedirected unreadable = "the answer is a redirect that is not followed"
	errBadLink    unreadable = "the answer's link to the next page leads nowhere"
	errEndless    unreadable = "the list in the answer does not end"
	errBadID      unreadable = "an id in the answer is no number"
	errNoList     unreadable = "the answer does not hold the list asked for"
	errNotRecords unreadable = "the answer's results are not a list of objects"
	errNoCount    unreadable = "the answer does not tell how many results there are"
	errNoUser     unreadable = "the answer holds no user"
	errNoTicket   unreadable = "the answer holds no ticket"
	errNotToken   unreadable = "the answer holds no token"
)

// connectionError classifies an error of the HTTP client: there was no answer.
func connectionError(ctx context.Context, err error) *Error {
	// Its text repeats the address with the query.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	e := &Error{Kind: Unavailable, Err: cause(err)}
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	name, badName := errors.AsType[*net.DNSError](err)
	network, isNetwork := errors.AsType[net.Error](err)
	switch ctxErr := ctx.Err(); {
	// Asked of the context: timeouts of the transport satisfy errors.Is(err, context.DeadlineExceeded) too.
	case errors.Is(ctxErr, context.DeadlineExceeded):
		e.Kind, e.Err = Timeout, ctxErr
	case ctxErr != nil:
		e.Kind, e.Err = Canceled, ctxErr
	case errors.Is(err, errOwnNetwork):
		e.Detail = errOwnNetwork.Error()
	case badCertificate:
		e.Detail = "the host's certificate is not valid"
	case badName && name.IsNotFound:
		e.Detail = "the host's name is not known"
	case isNetwork && network.Timeout():
		e.Kind, e.transient = Timeout, true
	default:
		e.transient = true
	}
	return e
}

var errConnection = errors.New("the connection broke")

// cause keeps of an error what the operating system, the resolver or TLS said. Other texts of the HTTP client can repeat
// what the other side sent.
func cause(err error) error {
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		return operation
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificate
	}
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() {
		return network
	}
	return errConnection
}

// refusal makes the error of an answer that is none of success.
func refusal(status int, header http.Header, said fault) *Error {
	e := &Error{
		Kind: kindOf(status, said.code),
		Code: said.code, Detail: said.detail, Fields: said.fields,
	}
	switch {
	case status == http.StatusServiceUnavailable && header.Get("Retry-After") != "":
		e.Kind = RateLimited
	case status >= 300 && status < 400:
		e.Err = errRedirected
	}
	if e.Kind == RateLimited {
		e.RetryAfter = retryAfter(header, time.Now())
	}
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.transient = true
	default:
		e.transient = e.Kind == RateLimited || said.code == "unavailable"
	}
	// A server that fails, or a gateway before it, may have acted. One that throttles, or says what is wrong, has not.
	e.unknown = status >= 500 && e.Kind != RateLimited || status == http.StatusRequestTimeout || status < 300 && e.Kind == BadResponse
	return e
}

// kindOfCode holds the codes that say more than the status does: some arrive with status 200.
var kindOfCode = map[string]Kind{
	"unavailable":          Unavailable,
	"APIRateLimitExceeded": RateLimited,
	"TooManyRequests":      RateLimited,
	"invalid_token":        CredentialsRejected,
	"invalid_client":       CredentialsRejected,
	"invalid_grant":        CredentialsRejected,
}

// kindOfCodeIn200 holds those that are needed only where the status says success.
var kindOfCodeIn200 = map[string]Kind{
	"Couldn't authenticate you": CredentialsRejected,
	"Forbidden":                 AccessDenied,
	"RecordNotFound":            NotFound,
	"InvalidEndpoint":           NotFound,
	"RecordInvalid":             InvalidRequest,
	"TooManyValues":             InvalidRequest,
	"invalid":                   InvalidRequest,
	"invalid_request":           InvalidRequest,
	"invalid_scope":             InvalidRequest,
	"unsupported_grant_type":    InvalidRequest,
}

func kindOf(status int, code string) Kind {
	if kind, ok := kindOfCode[code]; ok {
		return kind
	}
	switch {
	case status < 300:
		if kind, ok := kindOfCodeIn200[code]; ok {
			return kind
		}
		return BadResponse
	case status < 400:
		return BadResponse
	case status >= 500:
		return Unavailable
	}
	switch status {
	case http.StatusUnauthorized:
		return CredentialsRejected
	case http.StatusPaymentRequired, http.StatusForbidden:
		return AccessDenied
	case http.StatusNotFound, http.StatusGone:
		return NotFound
	case http.StatusRequestTimeout:
		return Timeout
	case http.StatusConflict:
		return Conflict
	case http.StatusTooManyRequests:
		return RateLimited
	}
	return InvalidRequest
}
