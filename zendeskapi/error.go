package zendeskapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
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
	NotFound            Kind = "not_found"            // no record of that id, no such endpoint, or no such help desk; see RecordMissing
	Conflict            Kind = "conflict"             // someone else changed it at the same time
	Unavailable         Kind = "unavailable"          // unreachable, also from this network, or it says that it cannot answer now
	BadResponse         Kind = "bad_response"         // the answer is not readable as Zendesk's
	NoWrites            Kind = "no_writes"            // not sent: it would change something; see TransportConfig
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
	NoWrites:            "this service writes nothing to Zendesk now",
}

// Error is why a request did not succeed. Its text holds neither the request's query nor anything of the answer's body.
type Error struct {
	Op         string // what was asked, such as "search"
	Kind       Kind
	StatusCode int           // HTTP status; 0 when there was no answer
	Code       string        // Zendesk's own code or title, such as RecordNotFound or invalid_grant; empty if it gave none
	Detail     string        // Zendesk's description, one line, at most 500 characters; empty if it gave none
	Fields     []FieldError  // what Zendesk found wrong with single fields
	Cause      string        // what broke on the way, for logs and people, without anything that was sent or answered; often empty
	MovedTo    string        // the host, with its port if it names one, that the answer redirects to; empty if it is no other one
	RequestID  string        // X-Request-Id of the answer, for Zendesk's support
	Date       time.Time     // Zendesk's clock when it answered, in whole seconds (ours, if it did not tell); zero when there was no answer
	RetryAfter time.Duration // how long Zendesk asks to be left alone, or is left alone, in whole seconds, at most an hour; 0 when it did not say
	Pause      time.Duration // how long to leave it alone: RetryAfter, else what its headers tell of an exhausted limit, else, when throttled, ten seconds
	Attempts   int           // how many requests were sent; 0 when it was refused here
	Unsent     bool          // it was refused here: the Zendesk's limit, or an endpoint that fails, leaves no room for it now, or nothing may be written
	Err        error         // what there is beside the status, such as an error of the network

	body      secret.Value // the answer as text; a secret.Value so that no formatting prints it
	unknown   bool
	transient bool
}

// FieldError is what Zendesk found wrong with one field of a record.
type FieldError struct {
	Field       string // as Zendesk names it: "status", "requester", "assignee", "base", …
	Code        string // such as "BlankValue"; often empty
	Description string
	TicketField string // id of the ticket field that is meant, if Zendesk told; also with Field "base"
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
	if e.Cause != "" {
		b.WriteString(": " + e.Cause)
	}
	if e.Err != nil && !errors.Is(e.Err, errConnection) {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Message is for people: what happened, and what Zendesk said about it. One line without secrets.
func (e *Error) Message() string {
	said := first(e.Detail, e.Code, e.Cause)
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

// Unknown reports whether a write may have taken effect although it failed: it had a connection when that broke or time
// ran out, the answer was unreadable, or it was one of a server that failed (5xx), also when that asks for patience. It is
// false for reads.
func (e *Error) Unknown() bool { return e.unknown }

// RecordMissing reports whether Zendesk said that it has no record of the id asked for. Any other 404 says nothing of the
// record: the endpoint is missing (InvalidEndpoint), or the whole help desk ("No help desk at …", or a page).
func (e *Error) RecordMissing() bool {
	return e.Kind == NotFound && (e.Code == "RecordNotFound" || e.StatusCode == http.StatusGone)
}

// EndpointUnavailable reports whether Zendesk refused the endpoint as such, not the ids that stood in the request: the
// account's plan lacks it or it is there no more (a 404 that is not RecordMissing), or the credential may not use it (403).
func (e *Error) EndpointUnavailable() bool {
	return e.Kind == AccessDenied || e.Kind == NotFound && !e.RecordMissing()
}

var errNoCredential = errors.New("the account has no credential")

// unreadable is why an answer is of no use. The errors of packages json and time are not told: their texts repeat parts of
// what was read.
type unreadable string

// Error tells why.
func (e unreadable) Error() string { return string(e) }

const (
	errEmpty        unreadable = "the answer is empty"
	errNotObject    unreadable = "the answer is no JSON object"
	errNotJSON      unreadable = "the answer is no JSON"
	errTooLarge     unreadable = "the answer is larger than 16 MiB, or a part of it than 4 MiB"
	errBadGzip      unreadable = "the answer cannot be unpacked"
	errCutShort     unreadable = "the connection broke within the answer"
	errBadLink      unreadable = "the answer's link to the next page leads nowhere"
	errEndless      unreadable = "the list in the answer does not end"
	errBadID        unreadable = "an id in the answer is no number"
	errBadCount     unreadable = "the answer's count is no number"
	errBadTicket    unreadable = "the ticket in the answer has no readable status or time"
	errNoRecord     unreadable = "no record of the list in the answer is readable"
	errIncomplete   unreadable = "the answer counts results that it does not hold"
	errNoList       unreadable = "the answer does not hold the list asked for"
	errNotRecords   unreadable = "the answer's results are not a list of objects"
	errNoCount      unreadable = "the answer does not tell how many results there are"
	errNoUser       unreadable = "the answer holds no user"
	errTooManyUsers unreadable = "too many people are like the address to tell who has it"
	errNoTicket     unreadable = "the answer holds no ticket"
	errRepeats      unreadable = "the answer repeats what was sent, where it cannot be left out"
	errNotToken     unreadable = "the answer holds no token"
)

// refusal makes the error of an answer that is none of success.
func (c *Client) refusal(got *answer, said fault) *Error {
	e := &Error{Kind: kindOf(got.status, said.code), Code: said.code, Detail: said.detail, Fields: said.fields}
	after, asked := retryAfter(got.header, got.date)
	switch {
	case got.status == http.StatusServiceUnavailable && asked:
		e.Kind = RateLimited
	case got.status >= 300 && got.status < 400:
		// What stands in its body is about the address, which may hold secrets.
		e.Code, e.Detail = "", ""
		e.MovedTo, e.Cause = c.redirection(got.header.Get("Location"))
	case got.status == http.StatusForbidden && isPage(got.body):
		e.Kind, e.Cause = Unavailable, "a page refuses this network, or this address of Zendesk: it is no answer of the API"
	case got.status == http.StatusProxyAuthRequired, got.status == http.StatusNetworkAuthenticationRequired:
		e.Kind, e.Cause = Unavailable, "a proxy on the way wants to be signed in to"
	}
	e.RetryAfter, e.Pause = after, after
	if e.Kind == RateLimited && !asked {
		e.Pause = limitPause(got.header)
	}
	switch got.status {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
	default:
		e.transient = got.status >= 500 || got.status == http.StatusRequestTimeout || e.Kind == RateLimited || said.code == "unavailable"
	}
	// A server that fails, or a gateway before it, may have acted, whatever it asks for. One that says what is wrong has not.
	e.unknown = got.status >= 500 || got.status == http.StatusRequestTimeout ||
		got.status < 300 && (e.Kind == BadResponse || e.Kind == Unavailable)
	return e
}

var (
	authority   = regexp.MustCompile(`^[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?$`)
	signInPages = regexp.MustCompile(`(?i)\b(access|auth|login|saml|sign_?in|signin|sso)\b`)
)

// redirection words where a redirect that was not followed leads; host is another one than that of the origin.
func (c *Client) redirection(location string) (host, words string) {
	const unnamed = "it redirects, and does not tell where to"
	base, err := url.Parse(c.origin)
	if err != nil || location == "" {
		return "", unnamed
	}
	to, err := base.Parse(location)
	if err != nil || !authority.MatchString(to.Host) || c.secrets().Holds(to.Host) {
		return "", unnamed
	}
	words = "it redirects to another address"
	if signInPages.MatchString(to.Path) {
		words = "it redirects to a page for signing in"
	}
	if sameOrigin(base, to) {
		return "", words
	}
	host = strings.ToLower(to.Host)
	return host, words + " at the host " + host
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
