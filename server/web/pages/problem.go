package pages

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// problem is what went wrong, for people.
type problem struct {
	Status     int    // of HTTP
	Title      string // what kind it is
	Message    string
	Reason     zendeskv1.ErrorReason
	Metadata   map[string]string
	RetryAfter time.Duration
	Fields     map[string]string // what is wrong with parts of a request, by their paths in it
}

// Field is what is wrong with a part of the request, with one that ends in its path, or with entries of it; empty: nothing. It is empty
// for no problem.
func (p *problem) Field(path string) string {
	if p == nil {
		return ""
	}
	if said, ok := p.Fields[path]; ok {
		return said
	}
	var entries []string
	for _, field := range slices.SortedFunc(maps.Keys(p.Fields), byLength) {
		said := p.Fields[field]
		if strings.HasSuffix(field, "."+path) {
			return said
		}
		if of, index, ok := strings.Cut(field, "["); ok && (of == path || strings.HasSuffix(of, "."+path)) {
			if n, err := strconv.Atoi(strings.TrimSuffix(index, "]")); err == nil {
				entries = append(entries, fmt.Sprintf("entry %d %s", n+1, said))
			}
		}
	}
	return strings.Join(entries, "; ")
}

// byLength orders the paths of entries by their indexes.
func byLength(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }

// signedOut says that the credential is not accepted, or no more.
func (p *problem) signedOut() bool {
	return p.Reason == zendeskv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED
}

var statuses = map[codes.Code]struct {
	status int
	title  string
}{
	codes.InvalidArgument:    {http.StatusBadRequest, "That does not fit"},
	codes.NotFound:           {http.StatusNotFound, "Not found"},
	codes.AlreadyExists:      {http.StatusConflict, "That exists"},
	codes.PermissionDenied:   {http.StatusForbidden, "Not allowed"},
	codes.Unauthenticated:    {http.StatusUnauthorized, "Not signed in"},
	codes.FailedPrecondition: {http.StatusConflict, "Not possible as it is"},
	codes.Aborted:            {http.StatusConflict, "Something else has changed it"},
	codes.ResourceExhausted:  {http.StatusTooManyRequests, "Too much at a time"},
	codes.Unavailable:        {http.StatusServiceUnavailable, "Not available at the moment"},
	codes.DeadlineExceeded:   {http.StatusGatewayTimeout, "It took too long"},
	codes.Unimplemented:      {http.StatusNotImplemented, "Not supported"},
}

// problemOf words an error of the API, or any other; nil for nil.
func problemOf(err error) *problem {
	if err == nil {
		return nil
	}
	if p, ok := err.(*problem); ok { //nolint:errorlint // it is never wrapped
		return p
	}
	s := status.Convert(err)
	p := &problem{Status: http.StatusInternalServerError, Title: "Something went wrong", Message: s.Message()}
	if known, ok := statuses[s.Code()]; ok {
		p.Status, p.Title = known.status, known.title
	}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			p.Reason, p.Metadata = zendeskv1.ErrorReason(zendeskv1.ErrorReason_value["ERROR_REASON_"+d.GetReason()]), d.GetMetadata()
		case *errdetails.RetryInfo:
			p.RetryAfter = d.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			p.Fields = make(map[string]string)
			for _, v := range d.GetFieldViolations() {
				p.Fields[v.GetField()] = v.GetDescription()
			}
		}
	}
	return p
}

// Error lets a problem be returned where the API was not even asked.
func (p *problem) Error() string { return p.Message }

// unfit is a problem of a field that the page itself finds.
func unfit(field, said string) *problem {
	return &problem{Status: http.StatusBadRequest, Title: statuses[codes.InvalidArgument].title, Message: field + ": " + said, Fields: map[string]string{field: said}}
}
