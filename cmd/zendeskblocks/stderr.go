package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// maxUnread is how many bytes wait for standard error at most: some thousand lines of the log.
	maxUnread = 1 << 20
	// lastLinesTime is how long, at the end of the process, what waits may take to be read.
	lastLinesTime = time.Second
)

// unheldWriter passes on what is written to it, in order, and never holds up who writes: what waits is bounded, and what is
// beyond is dropped and counted. When there is room again, told is written in its place.
type unheldWriter struct {
	to   io.Writer
	told func(to io.Writer, dropped int)
	done chan struct{} // closed when all has been passed on, and nothing more comes

	mu      sync.Mutex
	changed *sync.Cond
	waiting bytes.Buffer
	dropped int // lines, behind what waits
	closed  bool
}

func newUnheldWriter(to io.Writer) *unheldWriter {
	w := &unheldWriter{to: to, told: func(io.Writer, int) {}, done: make(chan struct{})}
	w.changed = sync.NewCond(&w.mu)
	go w.pass()
	return w
}

// tell sets how dropped lines are told.
func (w *unheldWriter) tell(told func(to io.Writer, dropped int)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = told
}

// Write implements io.Writer. It takes whole lines, and has no error: whom would it be told?
func (w *unheldWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.done: // the process ends, and holds up nobody
		return w.to.Write(p)
	default:
	}
	// Behind what was dropped nothing more comes in before that is told: the order is kept.
	if w.dropped > 0 || w.waiting.Len()+len(p) > maxUnread {
		w.dropped++
	} else {
		w.waiting.Write(p)
	}
	w.changed.Signal()
	return len(p), nil
}

// pass passes on what comes, until nothing more does.
func (w *unheldWriter) pass() {
	defer close(w.done)
	w.mu.Lock()
	defer w.mu.Unlock()
	var taken bytes.Buffer
	for {
		for w.waiting.Len() == 0 && w.dropped == 0 && !w.closed {
			w.changed.Wait()
		}
		if w.waiting.Len() == 0 && w.dropped == 0 {
			return
		}
		w.waiting, taken = taken, w.waiting
		dropped, told := w.dropped, w.told
		w.dropped = 0
		w.mu.Unlock()
		_, _ = w.to.Write(taken.Bytes()) // a reader that has gone costs its lines, and nobody's call
		if dropped > 0 {
			told(w.to, dropped)
		}
		taken.Reset()
		w.mu.Lock()
	}
}

// Close waits until all has been read, if that does not take long.
func (w *unheldWriter) Close() {
	w.mu.Lock()
	w.closed = true
	w.changed.Signal()
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(lastLinesTime):
	}
}
