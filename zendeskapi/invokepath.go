package zendeskapi

import (
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// InvokeMethods are the methods that [Client.Invoke] sends.
var InvokeMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// Reads tells the methods that change nothing.
func Reads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

const apiRoot = "/api/v2/"

// maxPathBytes is how long a path may be once it is escaped.
const maxPathBytes = 8 << 10

// BelowAPI returns what of a path, as people write it, is below /api/v2/.
func BelowAPI(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "/"), apiRoot[1:])
}

// ErrBadPath says that a path could be read as one that is not below /api/v2/, or as more than a path.
var ErrBadPath = errors.New("path is not one below /api/v2/: it must not hold empty segments, dots alone, backslashes, control characters, nor ? # ;")

// InvokePath returns the path, from the root and escaped in the one form that everybody reads alike, for what is written as
// a path below /api/v2/; a leading / or /api/v2/ or api/v2/, and a slash at the end, are dropped. What stands percent-escaped in a segment
// stays in it. Nothing that is accepted leaves the API for who unescapes twice, takes a backslash for a slash, or drops what
// follows a semicolon. Errors: [ErrBadPath].
func InvokePath(written string) (string, error) {
	below := strings.TrimSuffix(BelowAPI(written), "/")
	segments := strings.Split(below, "/")
	for i, segment := range segments {
		plain, err := url.PathUnescape(segment)
		if err != nil || strings.ContainsAny(segment, "?#;") || !plainSegment(segment) {
			return "", ErrBadPath
		}
		segments[i] = url.PathEscape(plain)
	}
	path := apiRoot + strings.Join(segments, "/")
	if len(path) > maxPathBytes {
		return "", ErrBadPath
	}
	if u, err := url.Parse(path); err != nil || !cleanAPI(u) {
		return "", ErrBadPath
	}
	return path, nil
}

// plainSegment tells whether a segment is one name, however often it is unescaped.
func plainSegment(segment string) bool {
	for {
		name := segment
		if at := len(name) - len(".json"); at >= 0 && strings.EqualFold(name[at:], ".json") {
			name = name[:at] // it names a format, and is dropped
		}
		if strings.Trim(name, ".") == "" || strings.ContainsAny(segment, `/\`) || !utf8.ValidString(segment) || strings.ContainsFunc(segment, unicode.IsControl) {
			return false
		}
		plain, err := url.PathUnescape(segment)
		if err != nil || plain == segment {
			return true
		}
		segment = plain
	}
}

// Segments are the segments of a path that InvokePath returned, below /api/v2/, unescaped and without the last one's .json.
func Segments(path string) []string {
	segments := strings.Split(strings.TrimPrefix(path, apiRoot), "/")
	for i, segment := range segments {
		segments[i], _ = url.PathUnescape(segment) // what was escaped can be unescaped
	}
	last := &segments[len(segments)-1]
	*last = strings.TrimSuffix(*last, ".json")
	return segments
}

// ownHeaders are what a scenario must not say: who asks, whom, in which form, and what concerns one hop alone (RFC 9110,
// section 7.6.1); and what makes some servers take a request for another one.
var ownHeaders = []string{
	"Authorization", "Cookie", "Host", "X-On-Behalf-Of", "User-Agent",
	"Accept", "Accept-Encoding", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Range",
	"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	"Forwarded", "Via", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
}

// ownPrefixes begin the names of further such headers.
var ownPrefixes = []string{"Proxy-", "X-Forwarded-"}

// HeaderAllowed tells whether a scenario may send a header of that name, which must be a token (RFC 9110, section 5.1).
func HeaderAllowed(name string) bool {
	canonical := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-")) // which some servers take for the same
	return httpguts.ValidHeaderFieldName(name) && !slices.Contains(ownHeaders, canonical) &&
		!slices.ContainsFunc(ownPrefixes, func(prefix string) bool { return strings.HasPrefix(canonical, prefix) })
}

// HeaderValueAllowed tells whether a header may have that value: no line breaks, and no other control characters.
func HeaderValueAllowed(value string) bool { return httpguts.ValidHeaderFieldValue(value) }

// QueryAllowed tells whether a request may have a query parameter of that name: one makes some servers take a request for one
// of another method.
func QueryAllowed(name string) bool { return name != "" && !strings.EqualFold(name, "_method") }

// freeResources are the first segments of paths that are told apart in limits and errors; all others are one.
var freeResources = []string{
	"activities", "audit_logs", "automations", "brands", "channels", "custom_objects", "custom_roles", "custom_statuses", "dynamic_content",
	"group_memberships", "groups", "help_center", "incremental", "job_statuses", "locales", "macros", "organization_fields", "organization_memberships",
	"organizations", "requests", "routing", "satisfaction_ratings", "search", "sessions", "slas", "suspended_tickets", "tags", "ticket_fields",
	"ticket_forms", "ticket_metrics", "tickets", "triggers", "uploads", "user_fields", "users", "views",
}

// invokeOp names a request in limits and errors.
func invokeOp(method, path string) string {
	resource := Segments(path)[0]
	if _, known := slices.BinarySearch(freeResources, resource); !known {
		resource = "other"
	}
	if Reads(method) {
		return "invoke_read_" + resource
	}
	return "invoke_write_" + resource
}
