package zendeskapi

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/jsonscan"
)

const (
	maxAnswerBytes = 16 << 20 // of text
	maxValueBytes  = 4 << 20  // of one element of a list, or one member
	maxOtherBytes  = 1 << 20  // of all members beside a list
	maxFaultBytes  = 1 << 20  // that are read of an answer whose status says that it failed
	maxElements    = 10_000   // of a list: they take more memory than they say

	// The beginning of an answer's text is kept for errors, and of more than is shown: a secret at its end must be whole to
	// be found.
	headBytes   = maxBodyTextBytes + headMargin
	headMargin  = 8 << 10
	windowBytes = 32 << 10
)

// intake reads an answer piece by piece, unpacked, as memory and turns allow: it is never in memory as a whole.
type intake struct {
	ctx    context.Context
	guest  *guest
	body   io.Reader // as it was sent
	text   io.Reader // unpacked
	read   int64     // bytes of the text
	taken  int64     // of memory
	turn   bool      // it has one
	turned int64     // where the turn began
	since  time.Time // when

	window []byte // what was read of the text and is not done with
	at     int    // where what is not done with begins
	ended  bool   // nothing comes behind the window

	head []byte // the beginning of the text
}

// open begins to read an answer. Errors: the context's, or that time ran out.
func (g *guest) open(ctx context.Context, res *http.Response) (*intake, error) {
	in := &intake{ctx: ctx, guest: g, body: res.Body}
	if err := in.take(answerBytes, true); err != nil {
		return nil, err
	}
	in.text = in.body
	in.text = readerFunc(in.receive)
	if strings.EqualFold(strings.TrimSpace(res.Header.Get("Content-Encoding")), "gzip") {
		in.text = &unpacked{packed: in.text}
	}
	in.window = make([]byte, 0, windowBytes)
	return in, nil
}

// close gives back the memory but for what it was told to keep.
func (in *intake) close() {
	in.pause()
	in.guest.giveBack(in.taken)
	in.taken, in.window = 0, nil
	if u, ok := in.text.(*unpacked); ok {
		u.close()
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// receive reads what was sent. While it waits for that, others have the turn.
func (in *intake) receive(p []byte) (int, error) {
	paused := in.pause()
	n, err := in.body.Read(p)
	if paused && n > 0 {
		if turnErr := in.resume(); turnErr != nil {
			return n, turnErr
		}
	}
	return n, err
}

// pause ends the turn, if it has one.
func (in *intake) pause() bool {
	had := in.turn
	if had {
		in.turn = false
		in.guest.endTurn(time.Since(in.since))
	}
	return had
}

func (in *intake) resume() error {
	if err := in.guest.startTurn(in.ctx); err != nil {
		return &roomError{err}
	}
	in.turn, in.turned, in.since = true, in.read, time.Now()
	return nil
}

// take takes memory, which close gives back. Nobody waits for it within a turn.
func (in *intake) take(bytes int64, entry bool) error {
	err := in.guest.take(in.ctx, bytes, entry, in.turn)
	if errors.Is(err, errNoRoom) {
		in.pause()
		if err = in.guest.take(in.ctx, bytes, entry, false); err == nil {
			if err := in.resume(); err != nil {
				in.taken += bytes
				return err
			}
		}
	}
	if err != nil {
		return &roomError{err}
	}
	in.taken += bytes
	return nil
}

// keep takes memory that stays taken after close: it is the guest's.
func (in *intake) keep(bytes int64) error {
	err := in.take(bytes, false)
	if err == nil {
		in.taken -= bytes
	}
	return err
}

// roomError is that time ran out while others were read.
type roomError struct{ err error }

func (e *roomError) Error() string { return "waiting for other answers to be read: " + e.err.Error() }
func (e *roomError) Unwrap() error { return e.err }

// more reads on. It makes room in the window by what is done with, or by a larger one.
func (in *intake) more() error {
	if err := in.ctx.Err(); err != nil {
		return err
	}
	if in.at > 0 {
		in.window = in.window[:copy(in.window, in.window[in.at:])]
		in.at = 0
	}
	if have := cap(in.window); len(in.window) == have {
		if have >= maxValueBytes {
			return errTooLarge
		}
		size := min(4*have, maxValueBytes) // a large value is looked at anew each time
		if err := in.take(int64(size-have), false); err != nil {
			return err
		}
		in.window = append(make([]byte, 0, size), in.window...)
	}
	// Full, so that a large value is looked at few times.
	for len(in.window) < cap(in.window) && !in.ended {
		from := len(in.window)
		n, err := in.text.Read(in.window[from:min(cap(in.window), from+turnBytes)])
		in.window = in.window[:from+n]
		in.head = append(in.head, in.window[from:from+min(n, headBytes-len(in.head))]...)
		if in.read += int64(n); in.read > maxAnswerBytes {
			return errTooLarge
		}
		switch {
		case errors.Is(err, io.EOF):
			in.ended = true
		case err != nil:
			return err
		}
		if in.turn && in.read-in.turned >= turnBytes {
			in.pause()
		}
		if in.read <= smallAnswerBytes {
			continue
		}
		if !in.turn {
			if err := in.resume(); err != nil {
				return err
			}
		}
		runtime.Gosched() // what runs for long comes after what has just something to do
	}
	return nil
}

// next returns the next character that is no white space, and leaves it there; 0 at the end.
func (in *intake) next() (byte, error) {
	for {
		in.at = jsonscan.SkipSpace(in.window, in.at)
		if in.at < len(in.window) {
			return in.window[in.at], nil
		}
		if in.ended {
			return 0, nil
		}
		if err := in.more(); err != nil {
			return 0, err
		}
	}
}

// part returns what skip skips, which is valid until the next call.
func (in *intake) part(skip func(data []byte, at int, final bool) (end int, err error)) ([]byte, error) {
	for {
		end, err := skip(in.window, in.at, in.ended)
		switch {
		case err == nil:
			part := in.window[in.at:end]
			in.at = end
			return part, nil
		case !errors.Is(err, jsonscan.ErrShort):
			return nil, errNotObject
		}
		if err := in.more(); err != nil {
			return nil, err
		}
	}
}

// object reads a text of one JSON object. A member that is a list of the given name is told to each, element by element,
// and stands as an empty one in what is returned. What each is told is valid during the call.
func (in *intake) object(list string, each func(json.RawMessage) error) (object, error) {
	switch c, err := in.next(); {
	case err != nil:
		return nil, err
	case c == 0:
		return nil, errEmpty
	case c != '{':
		return nil, errNotObject
	}
	in.at++
	o, held := object{}, 0
	for first := true; ; first = false {
		c, err := in.next()
		if err != nil {
			return nil, err
		}
		if c == '}' {
			in.at++
			break
		}
		if !first {
			if c != ',' {
				return nil, errNotObject
			}
			in.at++
			if _, err := in.next(); err != nil {
				return nil, err
			}
		}
		quoted, err := in.part(jsonscan.SkipName)
		if err != nil {
			return nil, err
		}
		quoted = bytes.TrimRight(quoted[:len(quoted)-1], " \t\r\n")
		m := member{name: jsonscan.Unquote(quoted)}
		if c, err = in.next(); err != nil {
			return nil, err
		}
		if list != "" && m.name == list && c == '[' {
			m.value = json.RawMessage("[]")
			err = in.elements(each)
		} else {
			m.value, err = in.part(jsonscan.SkipValue)
			m.value = bytes.Clone(m.value)
			held += len(m.value)
			if err == nil && (len(o) == maxMembers || list != "" && held > maxOtherBytes) {
				err = errTooLarge
			}
			if err == nil && held > maxOtherBytes {
				err = in.take(int64(len(m.value)), false)
			}
		}
		if err != nil {
			return nil, err
		}
		o = append(o, m)
	}
	c, err := in.next()
	if err == nil && c != 0 {
		err = errNotObject
	}
	return o, err
}

// elements reads a list.
func (in *intake) elements(each func(json.RawMessage) error) error {
	in.at++
	for n := 0; ; n++ {
		c, err := in.next()
		switch {
		case err != nil:
			return err
		case c == ']':
			in.at++
			return nil
		case n == maxElements:
			return errTooLarge
		case n > 0 && c != ',':
			return errNotObject
		case n > 0:
			in.at++
			if _, err := in.next(); err != nil {
				return err
			}
		}
		element, err := in.part(jsonscan.SkipValue)
		if err != nil {
			return err
		}
		if err := each(element); err != nil {
			return err
		}
	}
}

// all reads the text, or as much of it as the limit, which is no more than a window holds.
func (in *intake) all(limit int) (text []byte, err error) {
	for !in.ended && len(in.window) <= limit {
		if err := in.more(); err != nil {
			return in.window, err
		}
	}
	return in.window[:min(len(in.window), limit)], nil
}

// unpacked unpacks gzip (RFC 1952). Nothing at all, which is what some answers without a body are packed to, is nothing.
type unpacked struct {
	packed io.Reader
	gzip   *gzip.Reader
	buffer *bufio.Reader
}

// Unpacking needs 40 KiB: it is used again.
var (
	unpackers = sync.Pool{New: func() any { return new(gzip.Reader) }}
	buffers   = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 16<<10) }}
)

func (u *unpacked) Read(p []byte) (int, error) {
	if u.gzip == nil {
		u.buffer = buffers.Get().(*bufio.Reader)
		u.buffer.Reset(u.packed)
		if _, err := u.buffer.Peek(1); err != nil {
			return 0, err
		}
		u.gzip = unpackers.Get().(*gzip.Reader)
		if err := u.gzip.Reset(u.buffer); err != nil {
			return 0, packError(err)
		}
	}
	n, err := u.gzip.Read(p)
	return n, packError(err)
}

// packError tells what is wrong with the packing from what is wrong with the connection.
func packError(err error) error {
	if _, corrupt := errors.AsType[flate.CorruptInputError](err); corrupt || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
		return errBadGzip
	}
	return err
}

func (u *unpacked) close() {
	if u.gzip != nil {
		unpackers.Put(u.gzip)
	}
	if u.buffer != nil {
		u.buffer.Reset(nil)
		buffers.Put(u.buffer)
	}
	u.gzip, u.buffer = nil, nil
}
