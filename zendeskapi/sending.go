package zendeskapi

import (
	"context"
	"net/http"
)

// Sending is what is told of a request to those who stand around the transport: see [TransportConfig].
type Sending struct {
	Op      string // what is asked, as in [Error]
	Attempt int    // from 1; more is a repetition

	client *Client
}

type sendingKey struct{}

// sending has the requests that are made with the context tell what they are.
func (c *Client) sending(ctx context.Context, op string, attempt int) context.Context {
	if !c.transport.wraps {
		return ctx
	}
	return context.WithValue(ctx, sendingKey{}, Sending{Op: op, Attempt: attempt, client: c})
}

// SendingOf tells what the request is that has the context.
func SendingOf(ctx context.Context) (Sending, bool) {
	s, ok := ctx.Value(sendingKey{}).(Sending)
	return s, ok
}

// RequestID is the X-Request-Id of an answer; empty if it is none, or repeats what is secret.
func (s Sending) RequestID(answer http.Header) string { return s.client.requestID(answer) }
