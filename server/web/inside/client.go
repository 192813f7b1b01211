package inside

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxReply is how long a message of the service may be, as gRPC's own clients have it.
const maxReply = 4 << 20

// client makes calls of gRPC by HTTP requests. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
type client struct{ transport http.RoundTripper }

// Invoke implements grpc.ClientConnInterface.
func (c client) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{}, method, opts...)
	if err != nil {
		return err
	}
	if err := errors.Join(s.SendMsg(args), s.CloseSend()); err != nil {
		return err
	}
	if err := s.RecvMsg(reply); err != nil {
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Internal, "the service has not answered")
		}
		return err
	}
	if err := s.RecvMsg(nil); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// NewStream implements grpc.ClientConnInterface.
func (c client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	if desc.ClientStreams {
		return nil, status.Errorf(codes.Unimplemented, "the request of %s is a stream", method)
	}
	header := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	if deadline, ok := ctx.Deadline(); ok {
		header.Set("Grpc-Timeout", timeout(time.Until(deadline)))
	}
	sent, _ := metadata.FromOutgoingContext(ctx)
	for key, values := range sent {
		for _, value := range values {
			if strings.HasSuffix(key, "-bin") {
				value = base64.RawStdEncoding.EncodeToString([]byte(value))
			}
			header.Add(key, value)
		}
	}
	return &stream{ctx: ctx, transport: c.transport, method: method, header: header, answered: make(chan struct{})}, nil
}

// timeout is a time as gRPC writes it, in milliseconds, or seconds if those are too many. It is rounded up, so that the service does not
// end a call before its caller does.
func timeout(left time.Duration) string {
	const most = 99_999_999 // eight digits
	if ms := max((left-1)/time.Millisecond+1, 1); ms <= most {
		return strconv.FormatInt(int64(ms), 10) + "m"
	}
	return strconv.FormatInt(min(int64((left-1)/time.Second+1), most), 10) + "S"
}

// stream is a call whose request is one message.
type stream struct {
	ctx       context.Context
	transport http.RoundTripper
	method    string
	header    http.Header
	request   []byte

	answered chan struct{} // closed when there are headers, or none come any more
	response *http.Response
	failed   error // nil: there are headers
	ended    error // nil: more may come
}

// SendMsg implements grpc.ClientStream. It keeps the message, which CloseSend sends.
func (s *stream) SendMsg(m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "%T is no message", m)
	}
	framed, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 5, 5+proto.Size(message)), message)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	binary.BigEndian.PutUint32(framed[1:], uint32(len(framed)-5))
	s.request = framed
	return nil
}

// CloseSend implements grpc.ClientStream.
func (s *stream) CloseSend() error {
	req := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: Host, Path: s.method}, Header: s.header,
		Body: io.NopCloser(bytes.NewReader(s.request)), ContentLength: int64(len(s.request)),
	}).WithContext(s.ctx)
	go func() {
		defer close(s.answered)
		response, err := s.transport.RoundTrip(req)
		if err != nil {
			s.failed = s.broken(err)
			return
		}
		s.response = response
	}()
	return nil
}

// broken is the error of a call that the service has not ended.
func (s *stream) broken(err error) error {
	ended := s.ctx.Err()
	if deadline, ok := s.ctx.Deadline(); ok && !deadline.After(time.Now()) {
		ended = context.DeadlineExceeded // which the service may have noticed first
	}
	if ended != nil {
		return status.FromContextError(ended).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}

// await returns when there are headers.
func (s *stream) await() error {
	select {
	case <-s.answered:
		return s.failed
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	if err := s.await(); err != nil {
		return err
	}
	if s.ended == nil {
		if err := s.receive(m); err != nil {
			s.ended = err
			_ = s.response.Body.Close()
		}
	}
	return s.ended
}

func (s *stream) receive(m any) error {
	if s.response.StatusCode != http.StatusOK {
		return status.Errorf(codes.Unavailable, "the service answers with HTTP status %d", s.response.StatusCode)
	}
	var prefix [5]byte
	switch _, err := io.ReadFull(s.response.Body, prefix[:]); {
	case errors.Is(err, io.EOF):
		return s.end()
	case err != nil:
		return s.broken(err)
	}
	length := binary.BigEndian.Uint32(prefix[1:])
	message, ok := m.(proto.Message)
	switch {
	case !ok:
		return status.Errorf(codes.Internal, "%s is answered more than once", s.method)
	case prefix[0] != 0:
		return status.Error(codes.Internal, "the service compresses what it was not asked to")
	case length > maxReply:
		return status.Errorf(codes.ResourceExhausted, "the reply has %d bytes, and may have %d", length, maxReply)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(s.response.Body, data); err != nil {
		return s.broken(err)
	}
	if err := proto.Unmarshal(data, message); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

// end is how the service has ended the call: io.EOF when all is well.
func (s *stream) end() error {
	from := s.response.Trailer
	if s.response.Header.Get("Grpc-Status") != "" { // there was nothing else to say
		from = s.response.Header
	}
	code, err := strconv.ParseUint(from.Get("Grpc-Status"), 10, 32)
	if err != nil {
		return s.broken(fmt.Errorf("the service has not said how %s ended", s.method))
	}
	if code == uint64(codes.OK) {
		return io.EOF
	}
	ended := &spb.Status{Code: int32(code)}
	details, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(from.Get("Grpc-Status-Details-Bin"), "="))
	if err != nil || len(details) == 0 || proto.Unmarshal(details, ended) != nil {
		message := from.Get("Grpc-Message")
		if unescaped, err := url.PathUnescape(message); err == nil {
			message = unescaped
		}
		ended = &spb.Status{Code: int32(code), Message: message}
	}
	return status.ErrorProto(ended)
}

// Header implements grpc.ClientStream.
func (s *stream) Header() (metadata.MD, error) {
	if err := s.await(); err != nil {
		return nil, err
	}
	return metadataOf(s.response.Header), nil
}

// Trailer implements grpc.ClientStream.
func (s *stream) Trailer() metadata.MD {
	if s.ended == nil {
		return nil
	}
	return metadataOf(s.response.Trailer)
}

// Context implements grpc.ClientStream.
func (s *stream) Context() context.Context { return s.ctx }

func metadataOf(header http.Header) metadata.MD {
	md := make(metadata.MD, len(header))
	for key, values := range header {
		md.Append(key, values...)
	}
	return md
}
