package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

const (
	maxBody  = 4<<20 + 5 // the longest message of the API, and what stands before it
	bodyTime = 10 * time.Second

	// bodyFree of each body are read whatever else there is: so much a caller of gRPC can send that nothing was asked for of.
	bodyFree = 64 << 10
	// What is beyond that has room in so much memory, of all and of an address. It counts bodyCopies times: as it came, as it is
	// decoded, and as it is sent on.
	bodyBytes        = 128 << 20
	bodyBytesAddress = 32 << 20
	bodyCopies       = 3

	bodyHeard = 16 << 20 // are read of what is too long, and forgotten
)

// bodies reads those of requests, and knows what memory they take.
type bodies struct {
	within time.Duration // from the first byte to the last

	mu        sync.Mutex
	used      int
	addresses map[string]int // what is used by each that uses some
}

func newBodies() *bodies { return &bodies{within: bodyTime, addresses: make(map[string]int)} }

// take charges an address, if there is room.
func (b *bodies) take(address string, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > bodyBytes || b.addresses[address]+n > bodyBytesAddress {
		return false
	}
	b.used += n
	b.addresses[address] += n
	return true
}

func (b *bodies) give(address string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.addresses[address] -= n; b.addresses[address] == 0 {
		delete(b.addresses, address)
	}
}

// read reads the body of a request, which takes memory until it is released.
func (b *bodies) read(r *http.Request, w *writer, text bool) (body []byte, release func(), err error) {
	limit := maxBody
	if text {
		limit = base64.StdEncoding.EncodedLen(maxBody)
	}
	address, taken := addressOf(r.RemoteAddr), 0
	give := func() {
		if taken > 0 {
			b.give(address, taken)
		}
	}
	defer func() {
		if err != nil {
			give()
		}
	}()
	_ = w.control.SetReadDeadline(time.Now().Add(b.within)) // where it cannot be set there is another bound
	var read bytes.Buffer
	for {
		n, err := io.CopyN(&read, r.Body, int64(min(bodyFree, limit+1-read.Len())))
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, nil, errSlow(r, b.within)
		case err != nil:
			return nil, nil, malformed("ends before its length", err)
		case read.Len() > limit:
			// Who is told before all is sent may not hear it.
			rest, _ := io.CopyN(io.Discard, r.Body, bodyHeard)
			return nil, nil, errTooLarge(r, int64(read.Len())+rest)
		}
		if !b.take(address, bodyCopies*int(n)) {
			return nil, nil, errBusy
		}
		taken += bodyCopies * int(n)
	}
	_ = w.control.SetReadDeadline(time.Time{})
	body = read.Bytes()
	if text {
		body, err = fromText(body)
	}
	return body, give, err
}

// frameBytes stand before a message in the protocols that have streams: a flag, and its length.
const frameBytes = 5

// checkFrame checks that a body is one message as these have it. What else the transcoder may find wrong it tells after the call.
func checkFrame(body []byte) error {
	switch {
	case len(body) == 0:
		return malformed("did not come", nil)
	case len(body) < frameBytes:
		return malformed("ends before its length", nil)
	case body[0] != 0:
		return malformed("is compressed, or no message, and neither is accepted", nil)
	}
	switch length, came := uint64(binary.BigEndian.Uint32(body[1:])), uint64(len(body)-frameBytes); {
	case came < length:
		return malformed("ends before its length", nil)
	case came > length:
		return malformed("is followed by another, and the method takes one", nil)
	}
	return nil
}

func malformed(what string, cause error) error {
	return &rpc.Error{Reason: zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD, Message: "the message " + what, Cause: cause}
}

var errBusy = &rpc.Error{
	Reason:     zendeskv1.ErrorReason_ERROR_REASON_SERVER_BUSY,
	Message:    "the messages that are being read leave no memory for this one",
	RetryAfter: time.Second,
}

func errTooLarge(r *http.Request, bytes int64) error {
	limit, size := strconv.Itoa(maxBody), strconv.FormatInt(bytes, 10)
	return &rpc.Error{
		Reason:   zendeskv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE,
		Message:  fmt.Sprintf("the message has %s bytes or more, and those of %s may have less than %s", size, r.URL.Path, limit),
		Metadata: map[string]string{"method": r.URL.Path, "limit": limit, "bytes": size},
	}
}

func errSlow(r *http.Request, within time.Duration) error {
	return &rpc.Error{
		Reason:   zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
		Message:  fmt.Sprintf("the message of %s was not complete within %s", r.URL.Path, within),
		Metadata: map[string]string{"method": r.URL.Path, "within": within.String()},
	}
}
