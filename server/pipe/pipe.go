// Package pipe makes connections within the process. They are what those of a network are to who uses them: what is written waits
// in a buffer of 64 KiB each way until it is read, deadlines hold, and after one end is closed the other reads what was written
// before, and then io.EOF. A pipe on which nothing is under way holds no buffer.
//
//	client, server := pipe.New(clientAddr, serverAddr)
//
// Errors are net.ErrClosed of an end that is closed, io.ErrClosedPipe when the other one is, and os.ErrDeadlineExceeded.
package pipe

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// bufferBytes may be under way each way.
const bufferBytes = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// New makes a connection, whose ends have these addresses.
func New(clientAddr, serverAddr net.Addr) (client, server *Conn) {
	up, down := newWay(), newWay()
	return &Conn{in: down, out: up, local: clientAddr, remote: serverAddr}, &Conn{in: up, out: down, local: serverAddr, remote: clientAddr}
}

// Conn is one end.
type Conn struct {
	in, out       *way
	local, remote net.Addr
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.in.close(true)
	c.out.close(false)
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t) // neither fails
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.reading.set(&c.in.mu, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.writing.set(&c.out.mu, t)
	return nil
}

// way is one direction.
type way struct {
	mu               sync.Mutex
	reading, writing side
	buffer           *[bufferBytes]byte // nil: nothing is under way
	at, length       int                // of what is, in the buffer, which is a ring
}

// side is one of who reads and who writes.
type side struct {
	wake   sync.Cond // tells it that something has changed
	closed bool
	late   bool // its deadline has passed
	timer  *time.Timer
}

func newWay() *way {
	w := &way{}
	w.reading.wake.L, w.writing.wake.L = &w.mu, &w.mu
	return w
}

// set changes the deadline. The caller holds mu.
func (s *side) set(mu *sync.Mutex, t time.Time) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.late = !t.IsZero() && time.Until(t) <= 0
	if s.late {
		s.wake.Broadcast()
	}
	if s.late || t.IsZero() || s.closed {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(t), func() {
		mu.Lock()
		defer mu.Unlock()
		if s.timer == timer { // else there is another deadline by now
			s.late = true
			s.wake.Broadcast()
		}
	})
	s.timer = timer
}

// fails is why the side can do nothing; nil: it can.
func (s *side) fails() error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.late:
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (w *way) read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if err := w.reading.fails(); err != nil {
			return 0, err
		}
		if w.length > 0 || len(p) == 0 {
			break
		}
		if w.writing.closed {
			return 0, io.EOF
		}
		w.reading.wake.Wait()
	}
	n := 0
	for n < len(p) && w.length > 0 {
		part := copy(p[n:], w.buffer[w.at:min(w.at+w.length, bufferBytes)])
		n += part
		w.at = (w.at + part) % bufferBytes
		w.length -= part
	}
	if w.length == 0 {
		w.drop()
	}
	w.writing.wake.Broadcast()
	return n, nil
}

func (w *way) write(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if err := w.writing.fails(); err != nil {
			return n, err
		}
		if w.reading.closed {
			return n, io.ErrClosedPipe
		}
		if n == len(p) {
			return n, nil
		}
		if w.length == bufferBytes {
			w.writing.wake.Wait()
			continue
		}
		if w.buffer == nil {
			w.buffer = buffers.Get().(*[bufferBytes]byte) //nolint:forcetypeassert // nothing else is in the pool
		}
		end := (w.at + w.length) % bufferBytes
		free := w.buffer[end:min(end+bufferBytes-w.length, bufferBytes)]
		part := copy(free, p[n:])
		n += part
		w.length += part
		w.reading.wake.Broadcast()
	}
}

// close closes the side that reads, or the one that writes. What nobody will read is dropped.
func (w *way) close(reads bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.writing
	if reads {
		s = &w.reading
		w.drop()
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	w.reading.wake.Broadcast()
	w.writing.wake.Broadcast()
}

// drop forgets what is under way.
func (w *way) drop() {
	if w.buffer != nil {
		buffers.Put(w.buffer)
	}
	w.buffer, w.at, w.length = nil, 0, 0
}
