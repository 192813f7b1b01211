package zendeskapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const maxRequestBytes = 1 << 20

// request is one call of the API.
type request struct {
	op     string // name in errors
	method string
	path   string // below the origin, escaped
	query  string // escaped
	header http.Header
	body   any    // sent as JSON; nil: none
	record string // what it writes to, which Zendesk may have a limit of its own for; empty: nothing
	quiet  bool   // the answer may hold a token: its text is kept nowhere

	outlive Outlive

	guest *guest // who the answer's memory is taken for; nil: nobody but the answer itself
}

// answer is what came back.
type answer struct {
	status   int
	header   http.Header
	body     []byte    // its beginning, as text
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
	return c.doWithin(ctx, new(budget), idempotent, r, out)
}

// budget is for all that is sent for one thing that is wanted: however many requests that takes, few of them are repeated.
type budget struct {
	sent    atomic.Int32
	repeats atomic.Int32
}

// repeat takes a repetition, if there is one left.
func (b *budget) repeat() bool { return b.repeats.Add(1) < maxAttempts }

// doWithin is do with a budget that others spend too.
func (c *Client) doWithin(ctx context.Context, all *budget, idempotent bool, r request, out reader) (*answer, error) {
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
	var before *Error // of the attempt before
	for attempts := 1; ; attempts++ {
		got, e := c.attempt(c.sending(ctx, r.op, attempts), all, r, attempts, body, out)
		if e == nil {
			got.attempts = attempts
			return got, nil
		}
		if e.Unsent && before != nil && ctx.Err() == nil {
			// What Zendesk has said itself says more.
			before.Pause = max(before.Pause, e.Pause)
			return nil, before
		}
		if e.Unsent {
			attempts--
		}
		// What an earlier attempt may have done stays unknown.
		unknown = unknown || e.unknown && !Reads(r.method)
		e.Op, e.Attempts, e.unknown = r.op, attempts, unknown
		if e.Unsent || !idempotent || !e.transient {
			e.Unsent = e.Unsent && attempts == 0
			return nil, e
		}
		wait := backoff(e, attempts)
		if !waitFits(ctx, wait) || !all.repeat() {
			return nil, e
		}
		// What throttling asks for is waited for where it is known to all.
		if before = e; e.Kind != RateLimited {
			sleep(ctx, wait)
		}
	}
}

// attempt sends a request once, when it is its turn, unless its endpoint is left alone. number is which time it is.
func (c *Client) attempt(ctx context.Context, all *budget, r request, number int, body []byte, out reader) (*answer, *Error) {
	if c.transport.noWrites && !Reads(r.method) {
		return nil, notSent(&Error{Kind: NoWrites})
	}
	if ctx.Err() != nil {
		return nil, notSent(connectionError(ctx, ctx.Err(), phaseQueued))
	}
	key := breakerKey{c.origin, c.account, r.op}
	judge, rest := c.transport.breakers.allow(key)
	if judge == nil {
		return nil, leftAlone(rest)
	}
	proof := errNoEvidence
	defer func() { judge(proof) }()
	asked := time.Now()
	turn, err := c.transport.governor.Enter(ctx, limit.Request{
		Origin: c.origin, Endpoint: r.op, Record: r.record, Tenant: c.tenant, Account: c.account, MaxShare: c.maxShare, Lane: c.lane,
	})
	if refused, ok := errors.AsType[*limit.RefusedError](err); ok {
		c.transport.observer.Refused(c.lane)
		return nil, refusedHere(refused)
	}
	if err != nil {
		return nil, notSent(connectionError(ctx, err, phaseTurn))
	}
	c.transport.observer.Waited(c.lane, time.Since(asked))
	if rest, left := c.transport.breakers.tripped(key); left {
		// While it waited, others have failed.
		turn.GiveBack()
		return nil, leftAlone(rest)
	}
	if overdue(ctx) {
		turn.GiveBack()
		return nil, notSent(connectionError(ctx, context.DeadlineExceeded, phaseTurn))
	}
	came := limit.Answer{}
	defer func() { turn.Done(came) }()
	all.sent.Add(1)
	countRequest(ctx)
	begun := time.Now()
	got, e := c.send(ctx, r, body, out)
	proof = evidence(e, time.Since(begun))
	c.sent(ctx, r, number, begun, got, e)
	if got != nil {
		came.Status, came.Header = got.status, got.header
	}
	if e == nil {
		return got, nil
	}
	came.Pause = e.Pause
	if e.Kind == RateLimited && came.Status != http.StatusServiceUnavailable {
		came.Status = http.StatusTooManyRequests // whatever it says otherwise
	}
	return nil, e
}

// overdue reports whether a context's deadline has passed, also if its timer has not run yet: in a process that was stopped and
// goes on, what was to be sent before must not be sent any more.
func overdue(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// refuses is what attempt would refuse a request with before it waits; nil: nothing. For a limit that is used up it says
// nothing: who asks the same as one that waits gets an answer all the same.
func (t *Transport) refuses(ctx context.Context, key breakerKey, r limit.Request) *Error {
	if rest, left := t.breakers.tripped(key); left {
		return leftAlone(rest)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if refused := t.governor.Refuses(r, time.Until(deadline)); refused != nil && refused.Crowded {
			t.observer.Refused(r.Lane)
			return refusedHere(refused)
		}
	}
	return nil
}

// notSent says that Zendesk was not asked.
func notSent(e *Error) *Error {
	e.Unsent = true
	return e
}

// leftAlone is the error for an endpoint that is not asked, for it has failed again and again.
func leftAlone(rest time.Duration) *Error {
	rest = wholeSeconds(rest)
	return notSent(&Error{
		Kind: Unavailable, RetryAfter: rest, Pause: rest,
		Cause: fmt.Sprintf("it has failed %d times in a row, and is left alone for %v; no request was sent", tripAfter, rest),
	})
}

// refusedHere is the error for a request that would have waited in vain.
func refusedHere(refused *limit.RefusedError) *Error {
	e := notSent(&Error{Kind: RateLimited, RetryAfter: refused.RetryAfter, Pause: refused.RetryAfter})
	e.Cause = fmt.Sprintf("the limit of requests is used up for %v; no request was sent", refused.RetryAfter)
	if refused.Crowded {
		e.Kind, e.Cause = Unavailable, "too many requests of this account wait for it already; no request was sent"
	}
	return e
}

// send sends a request once. With an error, there is as much of the answer as was read, or none.
func (c *Client) send(ctx context.Context, r request, body []byte, out reader) (*answer, *Error) {
	if r.outlive.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), r.outlive.For)
		defer cancel()
		if r.outlive.Leaves != nil {
			r.outlive.Leaves()
		}
	}
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
	req.Header.Set("Accept-Encoding", "gzip") // asked for here, it is unpacked here: see intake
	req.Header.Set("User-Agent", c.userAgent)
	c.credential.authenticate(req)

	res, err := c.http.Do(req) //nolint:bodyclose // readAnswer closes it
	if err != nil {
		e := connectionError(ctx, err, progress.phase())
		e.unknown = progress.left()
		return nil, e
	}
	got, e := c.readAnswer(ctx, res, r.guest, out)
	if e != nil {
		return got, c.complete(e, got, r.quiet)
	}
	return got, nil
}

// readAnswer decides whether an answer is one of success, and reads it into out. With an error, there is as much of the
// answer as was read.
func (c *Client) readAnswer(ctx context.Context, res *http.Response, g *guest, out reader) (*answer, *Error) {
	defer func() { _ = res.Body.Close() }() // what was read counts
	got := newAnswer(res.StatusCode, res.Header)
	if g == nil {
		g = c.transport.room.enter(ctx, owner{c.tenant, c.origin})
		defer g.leave()
	}
	in, err := g.open(ctx, res)
	if err == nil {
		defer in.close()
		if success := got.status >= 200 && got.status <= 299; success && out != nil {
			return got, c.readSuccess(in, got, out)
		}
		got.body, err = in.all(maxFaultBytes)
		// Parts of the window, which others are read into.
		got.body = bytes.Clone(got.body)
	}
	if err != nil {
		return got, readError(ctx, err)
	}
	return got, c.checkStatus(got)
}

// checkStatus decides about an answer of which the status alone counts.
func (c *Client) checkStatus(got *answer) *Error {
	success := got.status >= 200 && got.status <= 299
	if !success || bytes.Contains(got.body, []byte(`"error`)) {
		if said, found := parseFault(got.body, c.tell); found || !success {
			return c.refusal(got, said)
		}
	}
	if isPage(got.body) {
		return &Error{Kind: BadResponse, Err: errNotObject, unknown: true}
	}
	return nil
}

// readSuccess reads an answer whose status is one of success.
func (c *Client) readSuccess(in *intake, got *answer, out reader) *Error {
	if taker, ok := out.(taker); ok {
		err := taker.take(in)
		got.body = in.head
		if err != nil {
			return readError(in.ctx, err)
		}
		if said, found := taker.fault(); found {
			return c.refusal(got, said)
		}
		return nil
	}
	list, each := "", func(json.RawMessage) error { return nil }
	var odd error // what is wrong with an element: the answer may say better why
	if lister, ok := out.(lister); ok {
		list = lister.begin()
		each = func(raw json.RawMessage) error {
			err := lister.element(in, raw)
			if _, unreadable := errors.AsType[unreadable](err); unreadable && !errors.Is(err, errTooLarge) {
				odd, err = cmp.Or(odd, err), nil
			}
			return err
		}
	}
	o, err := in.object(list, each)
	got.body = in.head
	if err == nil {
		if said, found := o.fault(c.tell); found {
			return c.refusal(got, said)
		}
		if err = odd; err == nil {
			err = out.read(o)
		}
	}
	if err != nil {
		return readError(in.ctx, err)
	}
	return nil
}

// fault reads what an object says went wrong, if it does: with a status of success only that makes it an error.
func (o object) fault(tell teller) (said fault, found bool) {
	text := []byte{'{'}
	for _, m := range o {
		name, err := json.Marshal(m.name)
		if err != nil {
			continue // cannot happen
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(append(append(text, name...), ':'), m.value...)
		found = found || m.name == "error" || m.name == "errors"
	}
	if !found {
		return fault{}, false
	}
	return parseFault(append(text, '}'), tell)
}

// readError is the error of an answer that could not be read.
func readError(ctx context.Context, err error) *Error {
	switch failed := err.(type) { //nolint:errorlint // none of them is wrapped
	case *Error:
		return failed
	case unreadable:
		return &Error{Kind: BadResponse, Err: failed, unknown: true}
	case *roomError:
		e := connectionError(ctx, failed.err, phaseRoom)
		e.unknown = true
		return e
	}
	e := connectionError(ctx, err, phaseReading)
	e.unknown = true
	if e.Kind == Unavailable {
		// It was reached: there is a status.
		e.Kind, e.Err = BadResponse, errCutShort
	}
	return e
}

// isPage tells HTML, which a gateway or a form for signing in answers with.
func isPage(body []byte) bool {
	return strings.HasPrefix(strings.TrimLeft(string(body[:min(len(body), 64)]), " \t\r\n\ufeff"), "<")
}

// complete adds to an error what the answer says about itself.
func (c *Client) complete(e *Error, got *answer, quiet bool) *Error {
	e.StatusCode, e.Date = got.status, got.date
	e.RequestID = c.requestID(got.header)
	if !quiet {
		e.body = secret.New(c.tellBody(got.body))
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
