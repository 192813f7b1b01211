package zendeskapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

const (
	maxRequestBytes = 1 << 20
	maxAnswerBytes  = 16 << 20
)

// request is one call of the API.
type request struct {
	op     string // name in errors
	method string
	path   string // below the origin, escaped
	query  string // escaped
	header http.Header
	body   any  // sent as JSON; nil: none
	quiet  bool // the answer may hold a token: its text is kept nowhere
}

// answer is what came back.
type answer struct {
	status   int
	header   http.Header
	body     []byte
	date     time.Time // Zendesk's clock; ours, when it did not tell
	attempts int
}

// newAnswer is an answer without its body.
func newAnswer(status int, header http.Header) *answer {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		date = time.Now()
	}
	return &answer{status: status, header: header, date: date.UTC()}
}

// do sends a request and reads its answer, a JSON object, into out; with out nil the status alone counts, and the body may
// be anything but a page. An idempotent request is sent up to three times while the answers are of the kind that passes
// and the waits fit the context's deadline. Every error is an *Error.
func (c *Client) do(ctx context.Context, idempotent bool, r request, out reader) (*answer, error) {
	if c.credential.none() {
		return nil, &Error{Op: r.op, Kind: CredentialsRejected, Detail: errNoCredential.Error(), Err: errNoCredential}
	}
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return nil, &Error{Op: r.op, Kind: InvalidRequest, Err: fmt.Errorf("request cannot be written as JSON: %w", err)}
		}
		if len(body) > maxRequestBytes {
			return nil, invalid(r.op, fmt.Sprintf("the request is larger than %d MiB", maxRequestBytes>>20))
		}
	}
	unknown := false
	for attempts := 1; ; attempts++ {
		if ctx.Err() != nil {
			e := connectionError(ctx, ctx.Err(), phaseQueued)
			e.Op, e.Attempts, e.unknown = r.op, attempts-1, unknown
			return nil, e
		}
		got, e := c.send(ctx, r, body, out)
		if e == nil {
			got.attempts = attempts
			return got, nil
		}
		// What an earlier attempt may have done stays unknown.
		unknown = unknown || e.unknown && r.method != http.MethodGet
		e.Op, e.Attempts, e.unknown = r.op, attempts, unknown
		if !idempotent || !e.transient || attempts == maxAttempts {
			return nil, e
		}
		wait := backoff(e, attempts)
		if !waitFits(ctx, wait) {
			return nil, e
		}
		sleep(ctx, wait)
	}
}

// send sends a request once.
func (c *Client) send(ctx context.Context, r request, body []byte, out reader) (*answer, *Error) {
	ctx, progress := watch(ctx)
	req, err := http.NewRequestWithContext(ctx, r.method, c.origin+r.path, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Kind: InvalidRequest, Err: errors.New("the request's address is malformed")}
	}
	req.URL.RawQuery = r.query
	for name, values := range r.header {
		req.Header[name] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	c.credential.authenticate(req)

	res, err := c.http.Do(req)
	if err != nil {
		e := connectionError(ctx, err, progress.phase())
		e.unknown = progress.left()
		return nil, e
	}
	got, e := readAnswer(ctx, res)
	if e == nil {
		e = c.check(got, out)
	}
	if e != nil {
		return nil, c.complete(e, got, r.quiet)
	}
	return got, nil
}

// readAnswer reads the whole answer; with an error, as much of it as there is.
func readAnswer(ctx context.Context, res *http.Response) (*answer, *Error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	got := newAnswer(res.StatusCode, res.Header)
	got.body = body
	if closeErr := res.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		e := connectionError(ctx, err, phaseReading)
		e.unknown = true
		if e.Kind == Unavailable {
			// It was reached: there is a status.
			e.Kind, e.Err = BadResponse, errCutShort
		}
		return got, e
	}
	if len(body) > maxAnswerBytes {
		return got, &Error{Kind: BadResponse, Err: errTooLarge, unknown: true}
	}
	return got, nil
}

// check decides whether an answer is one of success, and reads it into out.
func (c *Client) check(got *answer, out reader) *Error {
	success := got.status >= 200 && got.status <= 299
	if !success || bytes.Contains(got.body, []byte(`"error`)) {
		if said, found := parseFault(got.body); found || !success {
			return refusal(got, c.origin, said)
		}
	}
	if err := decode(got.body, out); err != nil {
		// Something answered a write with success: it may well have acted.
		return &Error{Kind: BadResponse, Err: err, unknown: true}
	}
	return nil
}

// decode reads an answer of success. Its errors repeat nothing of the body.
func decode(body []byte, out reader) error {
	switch body = bytes.TrimSpace(body); {
	case out == nil && isPage(body):
		return errNotObject
	case out == nil:
		return nil
	case len(body) == 0:
		return errEmpty
	}
	o, err := readObject(body)
	if err != nil {
		return err
	}
	return out.read(o)
}

// isPage tells HTML, which a gateway or a form for signing in answers with.
func isPage(body []byte) bool {
	return strings.HasPrefix(strings.TrimLeft(string(body[:min(len(body), 64)]), " \t\r\n\ufeff"), "<")
}

// complete adds to an error what the answer says about itself.
func (c *Client) complete(e *Error, got *answer, quiet bool) *Error {
	e.StatusCode, e.Date = got.status, got.date
	e.RequestID = sanitize(got.header.Get("X-Request-Id"), maxCodeRunes)
	e.Code, e.Detail = c.credential.redact(e.Code), c.credential.redact(e.Detail)
	for i := range e.Fields {
		f := &e.Fields[i]
		f.Field, f.Code, f.Description = c.credential.redact(f.Field), c.credential.redact(f.Code), c.credential.redact(f.Description)
	}
	if !quiet {
		e.body = secret.New(bodyText([]byte(c.credential.redact(string(got.body)))))
	}
	return e
}

// invalid is for requests that are refused here. detail is for people.
func invalid(op, detail string) *Error {
	return &Error{Op: op, Kind: InvalidRequest, Detail: detail, Err: errors.New(detail)}
}

// get reads a resource.
func (c *Client) get(ctx context.Context, op, path string, query url.Values, out reader) (*answer, error) {
	return c.do(ctx, true, request{op: op, method: http.MethodGet, path: path, query: encodeQuery(query)}, out)
}
