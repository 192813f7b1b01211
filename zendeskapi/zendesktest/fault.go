package zendesktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Drop says when a fault cuts the connection.
type Drop string

// DropBefore cuts the connection and nothing has happened; DropAfter lets the
// request act and loses the answer.
const (
	DropBefore Drop = "before"
	DropAfter  Drop = "after"
)

// Fault is a misbehaviour of the network or of Zendesk, for the requests that
// match it. The zero fields match every request and change nothing. Faults are
// looked at in the order they were added; the first that matches is used.
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
	// Drop cuts the connection; Status, RetryAfter and Body are then not used.
	Drop Drop
	// Times is the number of requests hit; 0 means all until the fault is cleared.
	Times int
}

// AddFault sets a fault. Requests under "/_sandbox/" have none.
func (z *Zendesk) AddFault(f Fault) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.faults = append(z.faults, f)
}

// ClearFaults takes all faults away. Requests already waiting are not woken.
func (z *Zendesk) ClearFaults() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.faults = nil
}

// takeFault uses up the fault for r, if there is one, and gives r its id.
func (z *Zendesk) takeFault(r *http.Request) (*Fault, string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	id := z.random()
	id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:32]
	for i := range z.faults {
		f := z.faults[i]
		if f.Method != "" && !strings.EqualFold(f.Method, r.Method) || !strings.HasPrefix(r.URL.Path, f.PathPrefix) {
			continue
		}
		switch f.Times {
		case 0:
		case 1:
			z.faults = slices.Delete(z.faults, i, i+1)
		default:
			z.faults[i].Times--
		}
		return &f, id
	}
	return nil, id
}

// answers tells whether the fault replaces the answer.
func (f *Fault) answers() bool { return f.Status != 0 || f.Body != nil }

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
		return recordInvalid("base", "The record is invalid", "InvalidValue")
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

// UnmarshalJSON reads the form that POST /_sandbox/faults takes:
// {method, path_prefix, status, retry_after, delay_ms, body, drop, times}.
// retry_after is a number of seconds or a string, body a string or any JSON.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var wire struct {
		Method     string          `json:"method"`
		PathPrefix string          `json:"path_prefix"`
		Status     int             `json:"status"`
		RetryAfter any             `json:"retry_after"`
		DelayMS    int64           `json:"delay_ms"`
		Body       json.RawMessage `json:"body"`
		Drop       Drop            `json:"drop"`
		Times      int             `json:"times"`
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wire); err != nil {
		return err
	}
	read := Fault{
		Method: wire.Method, PathPrefix: wire.PathPrefix, Status: wire.Status,
		Delay: time.Duration(wire.DelayMS) * time.Millisecond, Drop: wire.Drop, Times: wire.Times,
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
	case read.Drop != "" && read.Drop != DropBefore && read.Drop != DropAfter:
		return fmt.Errorf(`drop %q is neither "before" nor "after"`, read.Drop)
	case read.Status != 0 && (read.Status < 200 || read.Status > 599):
		return fmt.Errorf("status %d is not between 200 and 599", read.Status)
	case read.Times < 0 || read.Delay < 0:
		return fmt.Errorf("times %d and delay_ms %d must not be negative", read.Times, wire.DelayMS)
	}
	*f = read
	return nil
}
