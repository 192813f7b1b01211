package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/web/inside"
)

// headers are those that the service gets of a request.
var headers = []string{"Authorization", "Content-Type", "Grpc-Encoding", "Grpc-Timeout", "Te", "Traceparent", "Tracestate"}

func passedOn(from http.Header) http.Header {
	passed := make(http.Header, len(headers)+1)
	for _, name := range headers {
		if values, ok := from[name]; ok {
			passed[name] = slices.Clone(values)
		}
	}
	passed["User-Agent"] = nil // else there is that of Go
	return passed
}

// upstream carries requests of gRPC to the service.
type upstream struct{}

// RoundTrip implements http.RoundTripper.
func (upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	conn := inside.Of(req.Context())
	if conn == nil {
		return nil, errors.New("the HTTP server does not say which connection a request came by")
	}
	ctx, cancel := withTimeout(req.Context(), req.Header.Get("Grpc-Timeout"))
	out := req.WithContext(ctx)
	out.URL = &url.URL{Scheme: "http", Host: inside.Host, Path: req.URL.Path}
	out.Host = ""
	if transcoded(req) {
		// The transcoder answers by itself if there is no sense in the body, and must not do so while the service answers too.
		body, err := io.ReadAll(req.Body)
		if err != nil || len(body) == 0 { // the transcoder has answered, as a rule
			cancel()
			return nil, malformed("cannot be read", err)
		}
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	res, err := conn.Transport().RoundTrip(out)
	if err != nil {
		err = broken(ctx, err)
		cancel()
		return nil, err
	}
	res.Body = &answer{ReadCloser: res.Body, ctx: ctx, cancel: cancel}
	res.Request = out
	return res, nil
}

type transcodedKey struct{}

func transcoded(req *http.Request) bool { return req.Context().Value(transcodedKey{}) != nil }

// withTimeout bounds a call as the service does, which says no more of a call that is late than that it has ended.
func withTimeout(ctx context.Context, timeout string) (context.Context, context.CancelFunc) {
	if d, ok := parseTimeout(timeout); ok {
		return context.WithTimeout(ctx, d)
	}
	return context.WithCancel(ctx)
}

// parseTimeout reads a time as gRPC writes it. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
func parseTimeout(timeout string) (time.Duration, bool) {
	if len(timeout) < 2 || len(timeout) > 9 {
		return 0, false
	}
	unit, ok := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[timeout[len(timeout)-1]]
	n, err := strconv.ParseUint(timeout[:len(timeout)-1], 10, 32)
	if !ok || err != nil {
		return 0, false
	}
	const forever = 100 * 365 * 24 * time.Hour
	if n > uint64(forever/unit) {
		return forever, true
	}
	return time.Duration(n) * unit, true
}

// broken words the end of a call that the service has not ended itself.
func broken(ctx context.Context, err error) error {
	if deadline, ok := ctx.Deadline(); ok && !deadline.After(time.Now()) {
		return &rpc.Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, Message: "the deadline passed", Cause: err}
	}
	if errors.Is(err, inside.ErrNoConnection) {
		return rpc.ErrDraining
	}
	if ended := rpc.Ended(ctx, err); ended != err { //nolint:errorlint // it is another one
		return ended
	}
	return &rpc.Error{
		Reason:     zendeskv1.ErrorReason_ERROR_REASON_CONNECTION_EXPIRED,
		Message:    "the connection to the service broke off, as it does when there are too many: make the call again, on a new one",
		RetryAfter: time.Second,
		Cause:      err,
	}
}

// answer is the body of a response. When it breaks off it ends, and says why. With its end the call is over, whether or not the request
// has all come: http.Transport would wait for that.
type answer struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelFunc
	ended  error
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		a.ended, err = broken(a.ctx, err), io.EOF
	}
	if err != nil {
		a.cancel()
	}
	return n, err
}

// Close implements io.Closer.
func (a *answer) Close() error {
	defer a.cancel()
	return a.ReadCloser.Close()
}

// spellOutEnd has the trailers of a response that broke off say why.
func spellOutEnd(res *http.Response) error {
	body, ok := res.Body.(*answer)
	if !ok {
		return nil
	}
	res.Body = &trailing{body, res}
	return nil
}

type trailing struct {
	*answer
	of *http.Response
}

// Close implements io.Closer. The trailers are read after it.
func (t *trailing) Close() error {
	err := t.answer.Close()
	if t.ended != nil {
		t.of.Trailer = statusHeaders(t.ended)
	}
	return err
}

// writeError answers a request of gRPC that the service has not.
func writeError(w http.ResponseWriter, _ *http.Request, err error) {
	for name, values := range statusHeaders(err) {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.WriteHeader(http.StatusOK)
}

// statusHeaders are what gRPC says of an error.
func statusHeaders(err error) http.Header {
	public, ok := errors.AsType[*rpc.Error](err)
	if !ok {
		public = &rpc.Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, Message: "internal error"}
	}
	status := public.Status()
	said := http.Header{"Grpc-Status": {strconv.Itoa(int(status.GetCode()))}, "Grpc-Message": {escape(status.GetMessage())}}
	if details, err := proto.Marshal(status); err == nil {
		said.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
	}
	return said
}

// escape is a message as gRPC writes it.
func escape(message string) string {
	var escaped strings.Builder
	for _, c := range []byte(message) {
		if c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&escaped, "%%%02X", c)
		} else {
			escaped.WriteByte(c)
		}
	}
	return escaped.String()
}
