// Package intake reads the messages of calls. It hides how they stand in a stream, the memory that they may take, and how
// long they may take to come.
//
// GRPC by itself reads a message of up to the server's limit whole, as soon as the call's handler begins. Here the length of
// a message, which stands before it, is judged by the limit of the method, and then memory is set aside for it, out of that
// of the process and out of the shares of those whose call it is. Only then does the caller get the window to send it. A
// stream of whose message nothing was asked for has sent 64 KiB at most.
//
//	grpc.NewServer(grpc.InTapHandle(intake.Tap), ...)
//	...
//	message, err := reader.Read(ctx, intake.Call{Method: method, Limit: 64 << 10, Shares: shares})
//	if err != nil {
//		return err
//	}
//	defer message.Release()
//	err = message.Decode(req)
//
// Errors are [rpc.Error]s: MESSAGE_TOO_LARGE, SERVER_BUSY, DEADLINE_EXCEEDED when the message did not come in time,
// INVALID_FIELD when it is none; or the cause of the context's end; or io.EOF when the caller of a stream sends no more.
package intake

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

const (
	// headerBytes stand before each message: whether it is compressed, and its length.
	// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
	headerBytes = 5
	// A message is in memory as it came and as it was decoded.
	copies = 2
	// maxWaiting messages of an owner may wait for room at a time. What has come of them is in memory.
	maxWaiting = 64
	// pieceBytes of a message are asked for at a time.
	pieceBytes = 128 << 10
)

// Config says how much may be read. All but Check is required.
type Config struct {
	Bytes  int64         // that messages may take at a time, in all
	Within time.Duration // from when a message is asked for until it is there
	Wait   time.Duration // for room, of that time
	// Check judges a message of a type as it came, before it is decoded; default: not at all.
	Check func(protoreflect.MessageDescriptor, []byte) error
}

// Reader reads messages. It is safe for concurrent use.
type Reader struct {
	config Config
	budget *budget
}

// New makes a reader.
func New(c Config) *Reader {
	if c.Check == nil {
		c.Check = func(protoreflect.MessageDescriptor, []byte) error { return nil }
	}
	return &Reader{config: c, budget: newBudget(c.Bytes, maxWaiting)}
}

// Call says whose a message is.
type Call struct {
	Method string
	Limit  int     // bytes that a message of the method may have
	Shares []Share // of the owners that a message is charged to, twice its length
	Many   bool    // whether the caller may send more than one message: then the beginning of each has any time
}

type interruptKey struct{}

// Tap lets a call be interrupted that waits for its message: gRPC's own reading ends with the call only. It is to be the
// server's tap handle.
func Tap(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, interrupt := context.WithCancel(ctx)
	return context.WithValue(ctx, interruptKey{}, interrupt), nil
}

// Interrupt resets the call that ctx belongs to, whatever it waits for: it is for calls that have no word left to say.
func Interrupt(ctx context.Context) {
	if interrupt, ok := ctx.Value(interruptKey{}).(context.CancelFunc); ok {
		interrupt()
	}
}

// stream is what gRPC's transport has of a call. The interface that it is handed out by does not name these methods: no call
// is served if they are gone.
type stream interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
}

// Read reads the next message of the call that ctx belongs to. It is to be released. After an error the call has to end.
func (r *Reader) Read(ctx context.Context, c Call) (*Message, error) {
	from, ok := grpc.ServerTransportStreamFromContext(ctx).(stream)
	interrupt, tapped := ctx.Value(interruptKey{}).(context.CancelFunc)
	if !ok || !tapped {
		return nil, errors.New("intake: the transport of the call cannot be read from")
	}
	end := &ending{interrupt: interrupt}
	if c.Many { // the only message of a call is read in the call's own context, whose end ends gRPC's reading
		defer context.AfterFunc(ctx, func() { end.with(context.Cause(ctx)) })()
	}
	bound := func() *time.Timer {
		return time.AfterFunc(r.config.Within, func() { end.with(errSlow(c.Method, r.config.Within)) })
	}
	if !c.Many {
		defer bound().Stop()
	}
	length, err := readLength(from)
	if c.Many {
		defer bound().Stop()
	}
	var message *Message
	if err == nil {
		message, err = r.body(ctx, from, c, length)
	}
	if err == nil && !c.Many {
		err = atEnd(from)
	}
	if errors.Is(err, io.EOF) && !c.Many {
		err = malformed("did not come", nil)
	}
	if ended := end.over(); ended != nil { // what was read then is of no use, and the error says only that
		err = ended
	}
	if err != nil {
		message.Release()
		return nil, err
	}
	return message, nil
}

// ending is how reading ends that takes too long.
type ending struct {
	interrupt func() // the call
	mu        sync.Mutex
	cause     error // nil: it was not interrupted
	done      bool  // reading is over, and nothing is to be interrupted any more
}

func (e *ending) with(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done || e.cause != nil {
		return
	}
	e.cause = cause
	e.interrupt()
}

// over says why reading was interrupted; nil if it was not, and is not any more.
func (e *ending) over() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done = true
	return e.cause
}

// readLength reads what stands before a message.
func readLength(from stream) (uint32, error) {
	var header [headerBytes]byte
	if err := from.ReadMessageHeader(header[:]); err != nil {
		return 0, cutShort(err)
	}
	if header[0] != 0 {
		return 0, malformed("is compressed, which is not accepted", nil)
	}
	return binary.BigEndian.Uint32(header[1:]), nil
}

// body reads a message when there is room for it.
func (r *Reader) body(ctx context.Context, from stream, c Call, length uint32) (*Message, error) {
	if int64(length) > int64(c.Limit) {
		return nil, tooLarge(c, length)
	}
	give, err := r.budget.take(ctx, r.config.Wait, copies*int64(length), c.Shares...)
	switch {
	case errors.Is(err, errBusy):
		return nil, busy()
	case err != nil:
		return nil, err
	}
	data, err := readAll(from, int(length))
	if err != nil {
		give()
		return nil, cutShort(err)
	}
	return &Message{data: data, give: give, check: r.config.Check}, nil
}

var pool = mem.DefaultBufferPool()

// readAll reads a message of a length. A caller may send it in pieces of one byte, each of which takes eighty in memory
// until they are put together: that is done piecemeal.
func readAll(from stream, length int) (mem.Buffer, error) {
	if length <= pieceBytes {
		pieces, err := from.Read(length)
		if err != nil {
			return nil, err
		}
		defer pieces.Free()
		return pieces.MaterializeToBuffer(pool), nil
	}
	whole := pool.Get(length)
	for at := 0; at < length; {
		pieces, err := from.Read(min(length-at, pieceBytes))
		if err != nil {
			pool.Put(whole)
			return nil, err
		}
		at += pieces.CopyTo((*whole)[at:])
		pieces.Free()
	}
	return mem.NewBuffer(whole, pool), nil
}

// atEnd checks that nothing follows the only message of a call.
func atEnd(from stream) error {
	switch err := from.ReadMessageHeader(make([]byte, headerBytes)); {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil || errors.Is(err, io.ErrUnexpectedEOF):
		return malformed("is followed by another, and the method takes one", nil)
	default:
		return err
	}
}

// Message is one that was read.
type Message struct {
	data  mem.Buffer // nil once it is decoded
	give  func()
	check func(protoreflect.MessageDescriptor, []byte) error
}

// Decode puts the message into a proto.Message. It can be done once.
func (m *Message) Decode(into any) error {
	message, ok := into.(proto.Message)
	if !ok {
		return fmt.Errorf("intake: %T is no message", into)
	}
	defer m.drop()
	data := m.data.ReadOnlyData()
	if err := m.check(message.ProtoReflect().Descriptor(), data); err != nil {
		return err
	}
	// What is not known is of no use, and would stay in memory with the message.
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, message); err != nil {
		return malformed("cannot be decoded", err)
	}
	return nil
}

// Release gives back the room of the message: what was decoded from it is not used any more. It may be nil.
func (m *Message) Release() {
	if m == nil {
		return
	}
	m.drop()
	if m.give != nil {
		m.give()
		m.give = nil
	}
}

func (m *Message) drop() {
	if m.data != nil {
		m.data.Free()
		m.data = nil
	}
}

// busyRetry is when room may be found.
const busyRetry = time.Second

func tooLarge(c Call, length uint32) error {
	limit, bytes := strconv.Itoa(c.Limit), strconv.FormatUint(uint64(length), 10)
	return &rpc.Error{
		Reason:   zendeskv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE,
		Message:  fmt.Sprintf("the message has %s bytes, and those of %s may have %s", bytes, c.Method, limit),
		Metadata: map[string]string{"method": c.Method, "limit": limit, "bytes": bytes},
	}
}

func busy() error {
	return &rpc.Error{
		Reason:     zendeskv1.ErrorReason_ERROR_REASON_SERVER_BUSY,
		Message:    "the messages that are being read leave no memory for this one",
		RetryAfter: busyRetry,
	}
}

func errSlow(method string, within time.Duration) error {
	return &rpc.Error{
		Reason:   zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
		Message:  fmt.Sprintf("the message of %s was not complete within %s", method, within),
		Metadata: map[string]string{"method": method, "within": within.String()},
	}
}

func malformed(what string, cause error) error {
	return &rpc.Error{
		Reason:  zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD,
		Message: "the message " + what,
		Cause:   cause,
	}
}

// cutShort words the end of a stream within a message.
func cutShort(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("ends before its length", nil)
	}
	return err
}
