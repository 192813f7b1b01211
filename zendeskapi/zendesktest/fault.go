package zendesktest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Drop says when a fault cuts the connection.
type Drop string

// DropBefore cuts the connection and nothing has happened; DropAfter lets the
// request act and loses the answer; DropMiddle sends half of the answer's body.
const (
	DropBefore Drop = "before"
	DropAfter  Drop = "after"
	DropMiddle Drop = "middle"
)

// Act says when a request acts that a fault cuts or answers itself.
type Act string

const (
	// ActNever is the usual: it does not act.
	ActNever Act = ""
	// ActBefore lets it act, and loses its answer for the fault's.
	ActBefore Act = "before"
	// ActAfter cuts or answers at once, and lets the request act Delay later;
	// without a Delay, when [Zendesk.Land] is called.
	ActAfter Act = "after"
)

// Fault is a misbehaviour of the network or of Zendesk, for the requests that
// match it. The zero fields match every request and change nothing. Faults are
// looked at in the order they were added; the first that matches, and that
// chance does not spare, is used.
type Fault struct {
	// Method matches the HTTP method; empty matches all.
	Method string
	// PathPrefix matches the start of the path as sent ("/api/v2/search").
	PathPrefix string
	// Status is answered instead of acting. 0 with a Body means 200; 0 without
	// one means that the request acts as always, after Delay.
	Status int
	// RetryAfter is the value of the Retry-After header; empty means none.
	RetryAfter string
	// Delay is waited before the request acts, so that a client that gives up
	// meanwhile changed nothing; with DropAfter between acting and cutting.
	Delay time.Duration
	// Body is sent as it is; nil means the body Zendesk has for Status.
	Body *string
	// Drop cuts the connection; what is about the answer is then not used,
	// except by DropMiddle.
	Drop Drop
	// Act lets the request act although the fault cuts or answers it. It needs
	// one of Status, Body, DropBefore and HangBefore. DropAfter is DropBefore
	// with ActBefore.
	Act Act
	// Hang stops in the course of the answer; it excludes Drop.
	Hang Hang
	// Reset cuts with a TCP reset instead of an orderly end; it needs a Drop.
	Reset bool
	// Transfer changes how the answer is sent, whoever gave it.
	Transfer Transfer
	// Edit changes the answer, whoever gave it; nil leaves it as it is.
	Edit *Edit
	// Echo, a name in Echoes, puts what was sent, the credential and the secrets of a form, where EchoMark stands in Body
	// and in the values of Edit: as gateways do that repeat a request.
	Echo string
	// Times is the number of requests hit; 0 means all until the fault is cleared.
	Times int
	// Probability is the chance, 0 to 1, that a request that matches is hit; nil
	// means 1. With the same Config.Seed, faults and requests, the same are hit.
	Probability *float64
}

// Edit is a change of an answer.
type Edit struct {
	// Header sets headers; empty values take them away. "Location", "Date" and
	// "Content-Type" are the usual ones.
	Header map[string]string
	// Set puts values into the body, if it is JSON. Its keys are paths as of
	// RFC 6901 ("/ticket/external_id"); a * stands for every element of a list
	// ("/audits/*/author_id"), a - for the place behind the last. A nil value
	// takes what is there away, as does one that is no JSON. Paths to nowhere
	// change nothing.
	Set map[string]json.RawMessage
}

// takeFault uses up the fault for r, if there is one, and gives r its id.
func (z *Zendesk) takeFault(r *http.Request) (*Fault, string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	id := z.random()
	id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:32]
	return z.hit(r), id
}

// answers tells whether the fault replaces the answer.
func (f *Fault) answers() bool { return f.Status != 0 || f.Body != nil }

// acts tells whether the request acts before the fault cuts or answers it.
func (f *Fault) acts() bool {
	return f.Drop == DropAfter || f.Act == ActBefore && f.replaces()
}

// replaces tells whether the request's own answer is never sent, so that it
// need not act.
func (f *Fault) replaces() bool {
	return f.answers() || f.Drop == DropBefore || f.Drop == DropAfter || f.Hang == HangBefore
}

// apply changes an answer.
func (e *Edit) apply(r *recorder) {
	for _, path := range slices.Sorted(maps.Keys(e.Set)) {
		body := bytes.TrimSpace(r.body.Bytes())
		if json.Valid(body) {
			body = put(body, strings.Split(path, "/")[1:], e.Set[path])
			r.body.Reset()
			r.body.Write(body)
		}
	}
	for name, value := range e.Header {
		if value == "" {
			// Not deleted: the server would set its own.
			r.Header()[http.CanonicalHeaderKey(name)] = nil
			continue
		}
		r.Header().Set(name, value)
	}
}

// put replaces what stands at a path of a JSON text. Members come out in the
// order of their names.
func put(text json.RawMessage, path []string, value json.RawMessage) json.RawMessage {
	if len(path) == 0 {
		if !json.Valid(value) {
			return nil
		}
		return value
	}
	step := strings.NewReplacer("~1", "/", "~0", "~").Replace(path[0])
	var list []json.RawMessage
	if json.Unmarshal(text, &list) == nil && list != nil {
		kept := []json.RawMessage{}
		for i, item := range list {
			if step == "*" || step == strconv.Itoa(i) {
				item = put(item, path[1:], value)
			}
			if item != nil {
				kept = append(kept, item)
			}
		}
		if step == "-" && len(path) == 1 && json.Valid(value) {
			kept = append(kept, value)
		}
		return marshal(kept)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil || members == nil {
		return text
	}
	if _, there := members[step]; there || len(path) == 1 {
		if members[step] = put(members[step], path[1:], value); members[step] == nil {
			delete(members, step)
		}
	}
	return marshal(members)
}

// marshal writes JSON that was read, with every escape as it was.
func marshal(value any) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil // cannot happen: all of it was read as JSON
	}
	return bytes.TrimSpace(out.Bytes())
}

func (f *Fault) reply() *reply {
	status := f.Status
	if status == 0 {
		status = http.StatusOK
	}
	r := usualReply(status)
	if f.Body != nil {
		r = text(status, *f.Body)
		switch {
		case json.Valid([]byte(*f.Body)):
			r.header.Set("Content-Type", "application/json; charset=utf-8")
		case strings.HasPrefix(*f.Body, "<"):
			r.header.Set("Content-Type", "text/html; charset=utf-8")
		}
	}
	if f.RetryAfter != "" {
		r.header.Set("Retry-After", f.RetryAfter)
	}
	return r
}

// usualReply is what Zendesk says with a status when nothing more is known.
func usualReply(status int) *reply {
	switch status {
	case http.StatusUnauthorized:
		return unauthenticated()
	case http.StatusForbidden:
		return forbidden()
	case http.StatusNotFound:
		return recordNotFound()
	case http.StatusConflict:
		return failure(status, "DatabaseConflict", "Database collision")
	case http.StatusUnprocessableEntity:
		return recordInvalid("base", "The record is invalid")
	case http.StatusTooManyRequests:
		return tooManyRequests()
	case http.StatusServiceUnavailable:
		return failure(status, "unavailable", "Sorry, we could not complete your search query. Please try again in a moment.")
	}
	return text(status, http.StatusText(status))
}

// pause waits; it is false when ctx ended first.
func pause(ctx context.Context, delay time.Duration) bool {
	if delay <= 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lateActs are requests that act after they were answered.
type lateActs struct {
	mu      sync.Mutex
	waiting []*lateAct // in the order of their requests
}

type lateAct struct {
	act   func()
	timer *time.Timer // nil: it waits for Land
}

// actLate lets a request act later.
func (z *Zendesk) actLate(delay time.Duration, act func()) {
	z.late.mu.Lock()
	defer z.late.mu.Unlock()
	one := &lateAct{act: act}
	z.late.waiting = append(z.late.waiting, one)
	if delay > 0 {
		one.timer = time.AfterFunc(delay, func() {
			if z.late.take(one) {
				act()
			}
		})
	}
}

// take removes one that waits; false when it does no more.
func (l *lateActs) take(one *lateAct) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, one)
	if i < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return true
}

// forget gives up what waits.
func (l *lateActs) forget() []*lateAct {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.waiting
	l.waiting = nil
	for _, one := range waiting {
		if one.timer != nil {
			one.timer.Stop()
		}
	}
	return waiting
}

// Land lets all requests act now that a fault with ActAfter has kept from it,
// in the order in which they came. It tells how many there were.
func (z *Zendesk) Land() int {
	waiting := z.late.forget()
	for _, one := range waiting {
		one.act()
	}
	return len(waiting)
}

// faultWire is the form that POST /_sandbox/faults takes.
type faultWire struct {
	Method     string          `json:"method,omitempty"`
	PathPrefix string          `json:"path_prefix,omitempty"`
	Status     int             `json:"status,omitempty"`
	RetryAfter any             `json:"retry_after,omitempty"`
	DelayMS    int64           `json:"delay_ms,omitempty"`
	Body       json.RawMessage `json:"body,omitempty"`
	Drop       Drop            `json:"drop,omitempty"`
	Act        Act             `json:"act,omitempty"`
	Hang       Hang            `json:"hang,omitempty"`
	Reset      bool            `json:"reset,omitempty"`
	transferWire

	Header map[string]string          `json:"header,omitempty"`
	Set    map[string]json.RawMessage `json:"set,omitempty"`
	Remove []string                   `json:"remove,omitempty"`
	Echo   string                     `json:"echo,omitempty"`

	Times       int      `json:"times,omitempty"`
	Probability *float64 `json:"probability,omitempty"`
}

// UnmarshalJSON reads the form that POST /_sandbox/faults takes:
// {method, path_prefix, status, retry_after, delay_ms, body, drop, act, hang,
// reset, size, truncate, gzip, chunked, slow_bytes, slow_ms, header, set,
// remove, echo, times, probability}. retry_after is a number of seconds or a string,
// body a string or any JSON, header an object of strings, set one of paths and
// values, remove a list of paths.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var wire faultWire
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wire); err != nil {
		return err
	}
	read := Fault{
		Method: wire.Method, PathPrefix: wire.PathPrefix, Status: wire.Status,
		Delay: time.Duration(wire.DelayMS) * time.Millisecond, Drop: wire.Drop, Act: wire.Act,
		Hang: wire.Hang, Reset: wire.Reset, Transfer: wire.transfer(),
		Echo: wire.Echo, Times: wire.Times, Probability: wire.Probability,
	}
	if len(wire.Header)+len(wire.Set)+len(wire.Remove) > 0 {
		read.Edit = &Edit{Header: wire.Header, Set: map[string]json.RawMessage{}}
		maps.Copy(read.Edit.Set, wire.Set)
		for _, path := range wire.Remove {
			read.Edit.Set[path] = nil
		}
		for path := range read.Edit.Set {
			if !strings.HasPrefix(path, "/") {
				return fmt.Errorf("path %q does not begin with a slash", path)
			}
		}
	}
	switch after := wire.RetryAfter.(type) {
	case nil:
	case string:
		read.RetryAfter = after
	case float64:
		read.RetryAfter = strconv.FormatFloat(after, 'f', -1, 64)
	default:
		return fmt.Errorf("retry_after %v is neither a number nor a string", after)
	}
	if len(wire.Body) > 0 && string(wire.Body) != "null" {
		body := string(wire.Body)
		var quoted string
		if json.Unmarshal(wire.Body, &quoted) == nil {
			body = quoted
		}
		read.Body = &body
	}
	switch {
	case read.Echo != "" && Echoes[read.Echo] == nil:
		return fmt.Errorf("echo %q is none of %q", read.Echo, slices.Sorted(maps.Keys(Echoes)))
	case read.Drop != "" && read.Drop != DropBefore && read.Drop != DropAfter && read.Drop != DropMiddle:
		return fmt.Errorf(`drop %q is not "before", "middle" or "after"`, read.Drop)
	case read.Act != ActNever && read.Act != ActBefore && read.Act != ActAfter:
		return fmt.Errorf(`act %q is neither "before" nor "after"`, read.Act)
	case read.Act != ActNever && !read.replaces():
		return errors.New("act needs a status, a body, or a drop or hang before the answer")
	case read.Act == ActAfter && read.Drop == DropAfter:
		return errors.New(`act "after" and drop "after" contradict each other`)
	case read.Status != 0 && (read.Status < 200 || read.Status > 599):
		return fmt.Errorf("status %d is not between 200 and 599", read.Status)
	case read.Times < 0 || read.Delay < 0:
		return fmt.Errorf("times %d and delay_ms %d must not be negative", read.Times, wire.DelayMS)
	}
	if err := read.misfit(); err != nil {
		return err
	}
	*f = read
	return nil
}
