package zendeskapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/jsonscan"
)

// MaxInvokeBytes is how large an answer of [Client.Invoke] may be.
const MaxInvokeBytes = maxValueBytes

// Outlive lets a request that was sent go on when ctx has ended: what it did is worth knowing. The zero Outlive does not.
type Outlive struct {
	For    time.Duration // from when it is sent on
	Leaves func()        // called when it is sent, each time; what ctx has ended before that is never sent. May be nil
}

// Invocation is one request of the API in a scenario's own words.
type Invocation struct {
	Method     string // one of InvokeMethods
	Path       string // as InvokePath returned it
	Query      url.Values
	Header     http.Header     // further ones; see HeaderAllowed
	OnBehalfOf string          // the end user in whose name it is sent, by id or address; empty: nobody
	Body       json.RawMessage // JSON; nil: none
	Outlive    Outlive
}

// EncodedQuery is the query as it is sent, without its question mark.
func (i *Invocation) EncodedQuery() string { return encodeQuery(i.Query) }

// Invoked is what an Invocation was answered.
type Invoked struct {
	StatusCode int
	Content    json.RawMessage // the answer but for the account's secrets, at most MaxInvokeBytes; nil: it had no body
	Body       string          // the same as text, like [Error.Body]

	memory *memory
}

// Release gives back the memory that the answer takes of [TransportConfig.AnswerMemory], as [SearchResult.Release] does.
func (i Invoked) Release() {
	if i.memory != nil {
		i.memory.release()
	}
}

// Invoke sends a request as a scenario's author has written it. Reads are tried again like others; all else is sent once.
// Kinds of errors: those of a read or write; NotFound; BadResponse also for an answer that is no JSON, a redirect that is not
// followed, or more than MaxInvokeBytes; InvalidRequest also for an end user of OnBehalfOf whom Zendesk does not know.
func (c *Client) Invoke(ctx context.Context, i Invocation) (Invoked, error) {
	r := request{
		op: invokeOp(i.Method, i.Path), method: i.Method, path: i.Path, query: i.EncodedQuery(), header: i.Header.Clone(), outlive: i.Outlive,
		guest: c.transport.room.enter(ctx, owner{c.tenant, c.origin}),
	}
	handed := false
	defer func() {
		if !handed {
			r.guest.leave()
		}
	}()
	if i.OnBehalfOf != "" {
		if r.header == nil {
			r.header = http.Header{}
		}
		r.header.Set("X-On-Behalf-Of", i.OnBehalfOf)
	}
	if i.Body != nil {
		r.body = i.Body
	}
	if segments := Segments(i.Path); i.Method == http.MethodPut && len(segments) == 2 && segments[0] == "tickets" {
		r.record = segments[1]
	}
	out := wholeAnswer{client: c, method: i.Method}
	got, err := c.do(ctx, Reads(i.Method), r, &out)
	if err != nil {
		return Invoked{}, c.blamed(ctx, i, err)
	}
	handed = true
	return Invoked{
		StatusCode: got.status, Content: out.content, Body: c.tellBody(got.body), memory: heldBy(r.guest, new(atomic.Int32)),
	}, nil
}

// blamed makes the error of a request in the name of an end user one of that name, where it is: Zendesk answers for somebody it
// does not know as if the credential were not good.
func (c *Client) blamed(ctx context.Context, i Invocation, err error) error {
	refused, ok := errors.AsType[*Error](err)
	if !ok || i.OnBehalfOf == "" || refused.Kind != CredentialsRejected || refused.StatusCode == 0 {
		return err
	}
	if _, err := c.Me(ctx); err != nil {
		return refused
	}
	named := *refused
	named.Kind, named.Code, named.Detail = InvalidRequest, "", "it does not know the end user in whose name it was asked"
	return &named
}

// wholeAnswer takes an answer as it is.
type wholeAnswer struct {
	client  *Client
	method  string
	content json.RawMessage
}

// read implements reader. It is not called.
func (a *wholeAnswer) read(object) error { return nil }

// take implements taker.
func (a *wholeAnswer) take(in *intake) error {
	a.content = nil
	text, err := in.all(MaxInvokeBytes)
	switch {
	case err != nil:
		return err
	case !in.ended || len(text) < len(in.window):
		return errTooLarge
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil
	}
	if !jsonscan.Valid(text) {
		return errNotJSON
	}
	told, err := a.client.tellRecord(text)
	if err != nil {
		return err
	}
	if err := in.keep(int64(len(told))); err != nil {
		return err
	}
	a.content = bytes.Clone(told) // it is a part of the window
	return nil
}

// fault implements taker: what says under a status of success that it is none. Members of the name error alone say nothing of
// that here: they may be what was asked for.
func (a *wholeAnswer) fault() (said fault, found bool) {
	o, err := readObject(a.content)
	if err != nil {
		return fault{}, false
	}
	said, found = o.fault(a.client.tell)
	if !found {
		return fault{}, false
	}
	_, always := kindOfCode[said.code]
	_, in200 := kindOfCodeIn200[said.code]
	return said, always || in200
}
