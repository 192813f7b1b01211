// Package gateway lets browsers call the whole API: by gRPC-Web, binary and text, and by Connect, unary calls also as GET where they
// have no side effects. Plain gRPC is taken too. Calls are made over the connection of package inside that the request's own
// has, so that the service treats them as its other calls: who the caller is, what there may be at a time, deadlines and drain.
//
// The authorization header alone says who calls, never a cookie: a page of somebody else cannot make a browser send one. Of the other
// headers only the traceparent and tracestate of a trace are passed on.
//
// Requests are read whole before the call is made, those of plain gRPC excepted: within 10 s, up to 4 MiB, and with at most 64 KiB of each
// beyond a budget of memory. They must not be compressed. Errors are those of the API, with their details.
//
//	api, err := gateway.New(gateway.Config{Origins: []string{"https://desk.example.com"}})
//	...
//	for _, path := range gateway.Paths() {
//		mux.Handle(path, api)
//	}
package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha" // of older tools
	"google.golang.org/protobuf/reflect/protoreflect"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// maxReply bounds what is kept of an answer, which is longer as JSON than the 4 MiB that it may have.
const maxReply = 16 << 20

// Config says who may call.
type Config struct {
	// Origins of other pages that may, beside those of the server's own host, as browsers name them: https://desk.example.com.
	Origins []string
}

// Paths are the patterns of http.ServeMux under which the API is.
func Paths() []string {
	var paths []string
	for _, service := range services() {
		paths = append(paths, "/"+string(service.FullName())+"/")
	}
	return paths
}

// services are those of the API, and the standard ones beside it.
func services() (all []protoreflect.ServiceDescriptor) {
	for _, file := range []protoreflect.FileDescriptor{
		zendeskv1.File_scenarioblocks_zendesk_v1_account_service_proto,
		zendeskv1.File_scenarioblocks_zendesk_v1_block_service_proto,
		zendeskv1.File_scenarioblocks_zendesk_v1_interaction_service_proto,
		zendeskv1.File_scenarioblocks_zendesk_v1_operations_service_proto,
		healthv1.File_grpc_health_v1_health_proto,
		reflectionv1.File_grpc_reflection_v1_reflection_proto,
		reflectionv1alpha.File_grpc_reflection_v1alpha_reflection_proto,
	} {
		for i := range file.Services().Len() {
			all = append(all, file.Services().Get(i))
		}
	}
	return all
}

// gateway serves the calls of browsers.
type gateway struct {
	cors       cors
	methods    map[string]protoreflect.MethodDescriptor // by path
	bodies     *bodies
	proxy      http.Handler // gRPC to the service
	transcoder http.Handler // what is not gRPC to proxy
	errors     *connect.ErrorWriter
}

// New makes a gateway.
func New(c Config) (http.Handler, error) {
	cors, err := newCORS(c.Origins)
	if err != nil {
		return nil, err
	}
	g := &gateway{
		cors: cors, methods: make(map[string]protoreflect.MethodDescriptor),
		bodies: newBodies(), errors: connect.NewErrorWriter(),
		proxy: &httputil.ReverseProxy{
			Rewrite:        func(r *httputil.ProxyRequest) { r.Out.Header = passedOn(r.In.Header) },
			Transport:      upstream{},
			ModifyResponse: spellOutEnd,
			ErrorHandler:   writeError,
			FlushInterval:  -1,
			ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // what breaks off is told to the caller
		},
	}
	var transcoded []*vanguard.Service
	for _, service := range services() {
		transcoded = append(transcoded, vanguard.NewServiceWithSchema(service, g.proxy))
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			g.methods[fmt.Sprintf("/%s/%s", service.FullName(), method.Name())] = method
		}
	}
	g.transcoder, err = vanguard.NewTranscoder(transcoded,
		vanguard.WithCodec(newJSONCodec),
		vanguard.WithDefaultServiceOptions(
			vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
			vanguard.WithTargetCodecs(vanguard.CodecProto),
			vanguard.WithNoTargetCompression(),
			vanguard.WithMaxMessageBufferBytes(maxReply),
		))
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.cors.admit(w, r) {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	method, ok := g.methods[r.URL.Path]
	if !ok {
		http.Error(w, "the API has no such method", http.StatusNotFound)
		return
	}
	out := newWriter(w, method.IsStreamingServer(), writeTime)
	defer func() { out.atEnd() }()
	content, text := contentOf(r.Header.Get("Content-Type"))
	if content == "application/grpc" || strings.HasPrefix(content, "application/grpc+") {
		if r.ProtoMajor < 2 {
			http.Error(w, "gRPC needs HTTP/2: over HTTP/1.1 there are gRPC-Web and Connect", http.StatusHTTPVersionNotSupported)
			return
		}
		g.proxy.ServeHTTP(out, r)
		return
	}
	if err := g.prepare(r, out, method, content, text); err != nil {
		_ = g.errors.Write(w, r, connectError(err)) // its error is that of the connection
		return
	}
	if text {
		encoded := newTextWriter(out)
		defer encoded.end()
		g.transcoder.ServeHTTP(encoded, r)
		return
	}
	g.transcoder.ServeHTTP(out, r)
}

// prepare makes a request that is not of gRPC one that the transcoder takes, whose body is there.
func (g *gateway) prepare(r *http.Request, w *writer, method protoreflect.MethodDescriptor, content string, text bool) error {
	if content != "" {
		r.Header.Set("Content-Type", content)
	}
	if method.IsStreamingClient() {
		return &rpc.Error{
			Reason:  zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD,
			Message: fmt.Sprintf("the request of %s is a stream, which gRPC alone can send", method.FullName()),
		}
	}
	if compressed(r) {
		return malformed("is compressed, which is not accepted", nil)
	}
	// What is unary and has the content type of a message is of Connect, whether it says so or not.
	if !method.IsStreamingServer() && (content == "application/json" || content == "application/proto") {
		r.Header.Set("Connect-Protocol-Version", "1")
	}
	body, release, err := g.bodies.read(r, w, text)
	if err != nil {
		return err
	}
	w.atEnd = release
	if strings.HasPrefix(content, "application/grpc-web") || strings.HasPrefix(content, "application/connect+") {
		if err := checkFrame(body); err != nil {
			return err
		}
	}
	*r = *r.WithContext(context.WithValue(r.Context(), transcodedKey{}, true))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// contentOf is a content type as the transcoder takes it, and whether its messages are in base64.
func contentOf(header string) (content string, text bool) {
	content, parameters, err := mime.ParseMediaType(header)
	if err != nil || len(parameters) > 1 || len(parameters) == 1 && !strings.EqualFold(parameters["charset"], "utf-8") {
		return header, false
	}
	if rest, ok := strings.CutPrefix(content, "application/grpc-web-text"); ok {
		return "application/grpc-web" + rest, true
	}
	return content, false
}

// compressed tells whether the message is, in any of the protocols.
func compressed(r *http.Request) bool {
	said := append(slices.Clone(r.URL.Query()["compression"]), r.Header.Values("Content-Encoding")...)
	said = append(append(said, r.Header.Values("Grpc-Encoding")...), r.Header.Values("Connect-Content-Encoding")...)
	return slices.ContainsFunc(said, func(encoding string) bool { return encoding != "" && encoding != "identity" })
}

// connectError is an error as the library words it in the request's protocol.
func connectError(err error) error {
	public, ok := errors.AsType[*rpc.Error](err)
	if !ok {
		public = &rpc.Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, Message: "internal error"}
	}
	status := public.Status()
	said := connect.NewError(connect.Code(status.GetCode()), errors.New(status.GetMessage()))
	for _, packed := range status.GetDetails() {
		if detail, err := connect.NewErrorDetail(packed); err == nil {
			said.AddDetail(detail)
		}
	}
	return said
}

// writeTime is how long a browser may take nothing of an answer.
const writeTime = 30 * time.Second

// writer is the response to a browser. It bounds how long each part of it may wait to be taken, and lets the headers of a stream go at
// once: it may be long until there is anything else.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	stream  bool
	within  time.Duration
	atEnd   func()
}

func newWriter(w http.ResponseWriter, stream bool, within time.Duration) *writer {
	return &writer{w, http.NewResponseController(w), stream, within, func() {}}
}

// Unwrap lets an http.ResponseController find the writer below.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	w.ResponseWriter.WriteHeader(status)
	if w.stream {
		w.Flush()
	}
}

// Write implements http.ResponseWriter.
func (w *writer) Write(p []byte) (int, error) {
	defer w.bound()()
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *writer) Flush() {
	defer w.bound()()
	_ = w.control.Flush() // its error is that of the next write
}

// bound sets a deadline, which does not outlive what it is for: over HTTP/2 it would end a stream that has nothing to say.
func (w *writer) bound() (unbound func()) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.within)) // where it cannot be set there is another bound
	return func() { _ = w.control.SetWriteDeadline(time.Time{}) }
}

// addressOf is whose bodies are counted together.
func addressOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}
