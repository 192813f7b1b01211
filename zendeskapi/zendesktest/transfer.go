package zendesktest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Hang says when a fault stops answering, until the client goes.
type Hang string

// HangBefore sends nothing at all, and nothing has happened, unless Act says
// so; HangMiddle sends the header and half of the body.
const (
	HangBefore Hang = "before"
	HangMiddle Hang = "middle"
)

// maxSize is the largest answer that a fault makes, in bytes.
const maxSize = 4 << 30

// Transfer is how an answer is sent. The zero value is the usual.
type Transfer struct {
	// Size is what the body is grown to, in bytes, at most 4 GiB: a JSON object
	// gets a member "padding", and anything else blanks at its end.
	Size int64
	// Truncate leaves out the second half of the body, and Content-Length
	// agrees. (Where it does not: DropMiddle.)
	Truncate bool
	// Gzip compresses the body, whatever the client accepts, and implies
	// Chunked. With a large Size it is a bomb.
	Gzip bool
	// Chunked sends the body without a Content-Length.
	Chunked bool
	// SlowBytes is how many bytes of the body are sent at a time, each followed
	// by a pause of SlowEvery. They need each other.
	SlowBytes int
	SlowEvery time.Duration
}

// transferWire is its part of faultWire.
type transferWire struct {
	Size      int64 `json:"size,omitempty"`
	Truncate  bool  `json:"truncate,omitempty"`
	Gzip      bool  `json:"gzip,omitempty"`
	Chunked   bool  `json:"chunked,omitempty"`
	SlowBytes int   `json:"slow_bytes,omitempty"`
	SlowMS    int64 `json:"slow_ms,omitempty"`
}

func (w transferWire) transfer() Transfer {
	return Transfer{
		Size: w.Size, Truncate: w.Truncate, Gzip: w.Gzip, Chunked: w.Chunked,
		SlowBytes: w.SlowBytes, SlowEvery: time.Duration(w.SlowMS) * time.Millisecond,
	}
}

func (t Transfer) wire() transferWire {
	return transferWire{
		Size: t.Size, Truncate: t.Truncate, Gzip: t.Gzip, Chunked: t.Chunked,
		SlowBytes: t.SlowBytes, SlowMS: t.SlowEvery.Milliseconds(),
	}
}

// transfers tells whether the answer is sent in an unusual way.
func (f *Fault) transfers() bool {
	return f.Transfer != Transfer{} || f.Drop == DropMiddle || f.Hang == HangMiddle
}

// content is what is sent of a body, and its length.
func (t Transfer) content(body []byte) (io.Reader, int64) {
	head, filler, tail := body, byte(' '), ""
	if trimmed := bytes.TrimSpace(body); json.Valid(trimmed) && trimmed[0] == '{' && int64(len(body)) < t.Size {
		start := `,"padding":"`
		if len(bytes.TrimSpace(trimmed[1:len(trimmed)-1])) == 0 {
			start = start[1:]
		}
		head, filler, tail = append(bytes.Clone(trimmed[:len(trimmed)-1]), start...), 'x', `"}`
	}
	padding := max(0, t.Size-int64(len(head)+len(tail)))
	n := int64(len(head)+len(tail)) + padding
	content := io.MultiReader(bytes.NewReader(head), io.LimitReader(endless(filler), padding), bytes.NewReader([]byte(tail)))
	if t.Truncate {
		n /= 2
		content = io.LimitReader(content, n)
	}
	return content, n
}

// endless reads as one byte over and over.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// send sends an answer as the fault wants it.
func (f *Fault) send(ctx context.Context, w http.ResponseWriter, sent *recorder) {
	t := f.Transfer
	content, n := t.content(sent.body.Bytes())
	header := sent.Header()
	switch {
	case t.Gzip:
		header.Set("Content-Encoding", "gzip")
	case !t.Chunked && n > 0 && header["Content-Length"] == nil:
		header.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	for key, values := range header {
		w.Header()[key] = values
	}
	w.WriteHeader(sent.status)
	control := http.NewResponseController(w)
	// An early flush is what keeps the server from adding a Content-Length. A
	// connection that is broken is told by the writing.
	flush := func() { _ = control.Flush() }
	flush()

	half := f.Drop == DropMiddle || f.Hang == HangMiddle
	if half {
		content = io.LimitReader(content, n/2)
	}
	var out io.Writer = w
	if t.SlowBytes > 0 {
		out = &slowWriter{ctx: ctx, to: w, flush: flush, bytes: t.SlowBytes, every: t.SlowEvery}
	}
	end := func() error { return nil }
	if t.Gzip {
		zipped := gzip.NewWriter(out)
		out, end = zipped, zipped.Close
		if half {
			end = zipped.Flush
		}
	}
	_, err := io.Copy(out, content)
	if err == nil {
		err = end()
	}
	switch {
	case err != nil:
		abort(w, false) // the client is gone
	case f.Hang == HangMiddle:
		flush()
		<-ctx.Done()
		abort(w, false)
	case f.Drop == DropMiddle:
		flush()
		abort(w, f.Reset)
	}
}

// slowWriter pauses after every few bytes.
type slowWriter struct {
	ctx   context.Context
	to    io.Writer
	flush func()
	bytes int
	every time.Duration
}

func (s *slowWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n, err := s.to.Write(p[:min(len(p), s.bytes)])
		if written += n; err != nil {
			return written, err
		}
		s.flush()
		if !pause(s.ctx, s.every) {
			return written, s.ctx.Err()
		}
		p = p[n:]
	}
	return written, nil
}

// abort closes the connection without a word; with reset, so that the client's
// system tells it of an error.
func abort(w http.ResponseWriter, reset bool) {
	if reset {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
				conn = wrapped.NetConn()
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	}
	panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's own way to close a connection without a word
}
