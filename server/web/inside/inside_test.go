package inside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// service answers calls as the tests ask it to.
type service struct {
	zendeskv1.UnimplementedInteractionServiceServer
}

func (service) GetInteraction(ctx context.Context, req *zendeskv1.GetInteractionRequest) (*zendeskv1.GetInteractionResponse, error) {
	switch id := req.GetInteractionId(); id {
	case "who":
		left := "without a deadline"
		if deadline, ok := ctx.Deadline(); ok {
			left = time.Until(deadline).String()
		}
		shown := metadata.ValueFromIncomingContext(ctx, "authorization")
		return &zendeskv1.GetInteractionResponse{Interaction: &zendeskv1.Interaction{InteractionId: fmt.Sprint(shown, left)}}, nil
	case "refused":
		return nil, (&rpc.Error{
			Reason: zendeskv1.ErrorReason_ERROR_REASON_SERVER_BUSY, Message: "100 % büsy", RetryAfter: time.Second,
		}).Wire()
	case "plain":
		return nil, status.Error(codes.NotFound, "100 % plaïn")
	case "large":
		return &zendeskv1.GetInteractionResponse{Interaction: &zendeskv1.Interaction{InteractionId: strings.Repeat("a", 4<<20)}}, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (service) WatchScreenPops(req *zendeskv1.WatchScreenPopsRequest, stream zendeskv1.InteractionService_WatchScreenPopsServer) error {
	if err := stream.SendHeader(metadata.Pairs("told", "at once")); err != nil {
		return err
	}
	if req.GetAgent().GetEmail() == "short" {
		for _, id := range []string{"one", "two"} {
			if err := stream.Send(&zendeskv1.WatchScreenPopsResponse{InteractionId: id}); err != nil {
				return err
			}
		}
		return rpc.ErrDraining.Wire()
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// browser is one that is connected to an HTTP server whose requests call a service.
type browser struct {
	conns  *Conns
	conn   net.Conn // of the browser
	dialed atomic.Int32
	open   atomic.Int32 // connections of the service that are
	from   atomic.Value
}

// with runs a test with a browser's connection. What is left running after it fails the test.
func with(t *testing.T, test func(t *testing.T, b *browser, conn *Conn), options ...grpc.ServerOption) {
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(1 << 10)
		srv := grpc.NewServer(options...)
		zendeskv1.RegisterInteractionServiceServer(srv, service{})
		served := make(chan error, 1)
		go func() { served <- srv.Serve(listener) }()
		b := &browser{}
		b.conns = New(func(ctx context.Context, remote net.Addr) (net.Conn, error) {
			b.from.Store(remote.String())
			c, err := listener.DialContext(ctx)
			if err != nil {
				return nil, err
			}
			b.dialed.Add(1)
			b.open.Add(1)
			return &counted{Conn: c, open: &b.open}, nil
		})
		got := make(chan *Conn, 1)
		web := &http.Server{
			ConnContext: b.conns.ConnContext, ConnState: b.conns.ConnState,
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- Of(r.Context()) }),
		}
		front := bufconn.Listen(1 << 10)
		go func() { _ = web.Serve(front) }()
		var err error
		if b.conn, err = front.Dial(); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, b.conn) }()
		if _, err := io.WriteString(b.conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		conn := <-got
		if b.dialed.Load() != 0 {
			t.Error("a connection is made that nothing needs")
		}
		test(t, b, conn)
		_ = b.conn.Close()
		synctest.Wait()
		if n := b.open.Load(); n != 0 || len(b.conns.open) != 0 {
			t.Errorf("%d connections outlive the browser's", n)
		}
		if _, err := get(t.Context(), conn, "who"); !errors.Is(err, ErrNoConnection) {
			t.Errorf("a call after the browser has gone: %v", err)
		}
		_ = web.Close()
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

type counted struct {
	net.Conn
	open   *atomic.Int32
	closed atomic.Bool
}

func (c *counted) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

func get(ctx context.Context, conn *Conn, id string) (string, error) {
	client, err := conn.GRPC()
	if err != nil {
		return "", err
	}
	resp, err := zendeskv1.NewInteractionServiceClient(client).GetInteraction(ctx, &zendeskv1.GetInteractionRequest{InteractionId: id})
	return resp.GetInteraction().GetInteractionId(), err
}

func watch(ctx context.Context, t *testing.T, conn *Conn, email string) zendeskv1.InteractionService_WatchScreenPopsClient {
	t.Helper()
	client, err := conn.GRPC()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := zendeskv1.NewInteractionServiceClient(client).WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: email}})
	if err != nil {
		t.Fatal(err)
	}
	if header, err := stream.Header(); err != nil || fmt.Sprint(header.Get("told")) != "[at once]" {
		t.Fatalf("the headers are %v, %v", header, err)
	}
	return stream
}

func TestCalls(t *testing.T) {
	with(t, func(t *testing.T, b *browser, conn *Conn) {
		if who, err := get(t.Context(), conn, "who"); who != "[]without a deadline" || err != nil {
			t.Errorf("a call: %q, %v", who, err)
		}
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer x"), time.Minute)
		defer cancel()
		if who, err := get(ctx, conn, "who"); who != "[Bearer x]1m0s" || err != nil {
			t.Errorf("a call with a credential and a deadline: %q, %v", who, err)
		}

		_, err := get(t.Context(), conn, "refused")
		refused := status.Convert(err)
		if len(refused.Details()) != 2 || refused.Code() != codes.ResourceExhausted || refused.Message() != "100 % büsy" {
			t.Errorf("a refusal: %v with %v", err, refused.Details())
		} else if retry, ok := refused.Details()[1].(*errdetails.RetryInfo); !ok || retry.GetRetryDelay().AsDuration() != time.Second {
			t.Errorf("its details are %v", refused.Details())
		}
		if _, err := get(t.Context(), conn, "plain"); status.Convert(err).Message() != "100 % plaïn" || status.Code(err) != codes.NotFound {
			t.Errorf("a refusal without details: %v", err)
		}
		if _, err := get(t.Context(), conn, "large"); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a reply that is too large: %v", err)
		}
		client, err := conn.GRPC()
		if err != nil {
			t.Fatal(err)
		}
		_, err = zendeskv1.NewBlockServiceClient(client).Search(t.Context(), &zendeskv1.SearchRequest{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("a method of nobody: %v", err)
		}

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := get(ctx, conn, "never"); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("after the deadline: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := get(ctx, conn, "never"); status.Code(err) != codes.Canceled {
			t.Errorf("after it was given up: %v", err)
		}
		if n := b.dialed.Load(); n != 1 || b.from.Load() != "bufconn" {
			t.Errorf("%d connections were made, from %v", n, b.from.Load())
		}
	})
}

func TestStreams(t *testing.T) {
	with(t, func(t *testing.T, b *browser, conn *Conn) {
		stream := watch(t.Context(), t, conn, "short")
		for _, want := range []string{"one", "two"} {
			if resp, err := stream.Recv(); resp.GetInteractionId() != want || err != nil {
				t.Fatalf("the stream says %v, %v", resp, err)
			}
		}
		for range 2 { // it stays ended
			if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || len(status.Convert(err).Details()) != 1 {
				t.Errorf("the stream ends with %v", err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		stream = watch(ctx, t, conn, "long")
		time.AfterFunc(time.Second, cancel)
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("a stream that is given up ends with %v", err)
		}
		stream = watch(t.Context(), t, conn, "long")
		_ = b.conn.Close()
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("when the browser has gone a stream ends with %v", err)
		}
		if _, err := get(t.Context(), conn, "who"); !errors.Is(err, ErrNoConnection) {
			t.Errorf("when the browser has gone a call ends with %v", err)
		}
	})
}

// After a connection has served its time the next call gets another, and what runs on the first ends by itself.
func TestAge(t *testing.T) {
	const age = time.Hour
	with(t, func(t *testing.T, b *browser, conn *Conn) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream := watch(ctx, t, conn, "long")
		time.Sleep(2 * age)
		for range 2 {
			if _, err := get(t.Context(), conn, "who"); err != nil {
				t.Error(err)
			}
		}
		if dialed, open := b.dialed.Load(), b.open.Load(); dialed != 2 || open != 2 {
			t.Errorf("%d connections were made, and %d are open", dialed, open)
		}
		cancel()
		_, _ = stream.Recv()
		synctest.Wait()
		if open := b.open.Load(); open != 1 {
			t.Errorf("%d are open, of which one takes calls", open)
		}
	}, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: age}))
}

// Who has more calls running than a connection takes gets another connection.
func TestMoreThanOneTakes(t *testing.T) {
	with(t, func(t *testing.T, b *browser, conn *Conn) {
		watched, err := proto.Marshal(&zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: "long"}})
		if err != nil {
			t.Fatal(err)
		}
		frame := append([]byte{0, 0, 0, 0, byte(len(watched))}, watched...)
		for range 5 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+Host+zendeskv1.InteractionService_WatchScreenPops_FullMethodName, bytes.NewReader(frame))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("Te", "trailers")
			resp, err := conn.Transport().RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
		}
		if n := b.dialed.Load(); n != 3 {
			t.Errorf("%d connections were made", n)
		}
	}, grpc.MaxConcurrentStreams(2))
}

// A request of a server without ConnContext came by no connection.
func TestOfNothing(t *testing.T) {
	if Of(t.Context()) != nil {
		t.Error("there is a connection")
	}
}
