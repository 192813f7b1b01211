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
	// gatherTime is how long, after some were passed on, further lines wait for others: calls end together, as a commit does, and
	// each time that something is passed on costs as much as many lines.
	gatherTime = time.Millisecond
	// lastLinesTime is how long, at the end of the process, what waits may take to be read.
	lastLinesTime = time.Second
)

// unheldWriter passes on what is written to it, in order, and never holds up who writes: what waits is bounded, and what is
// beyond is dropped and counted. When there is room again, told is written in its place.
type unheldWriter struct {
	to   io.Writer
	told func(to io.Writer, dropped int)
	lost func()        // is called for each line that is dropped, when it is
	come chan struct{} // holds a token when something has come
	end  chan struct{} // closed when nothing more comes
	done chan struct{} // closed when all has been passed on then

	mu      sync.Mutex
	waiting bytes.Buffer
	dropped int // lines, behind what waits
}

func newUnheldWriter(to io.Writer) *unheldWriter {
	w := &unheldWriter{to: to, told: func(io.Writer, int) {}, lost: func() {}, come: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{})}
	go w.pass()
	return w
}

// tell sets how dropped lines are told, and who counts them.
func (w *unheldWriter) tell(told func(to io.Writer, dropped int), lost func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told, w.lost = told, lost
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
		w.lost()
	} else {
		w.waiting.Write(p)
	}
	select {
	case w.come <- struct{}{}:
	default:
	}
	return len(p), nil
}

// pass passes on what comes, until nothing more does.
func (w *unheldWriter) pass() {
	var taken bytes.Buffer
	for ended := false; ; {
		select {
		case <-w.come:
		case <-w.end:
			ended = true
		}
		for w.take(&taken, ended) {
			_, _ = w.to.Write(taken.Bytes()) // a reader that has gone costs its lines, and nobody's call
			taken.Reset()
			if !ended && !w.behind() {
				break // what has come meanwhile has left a token
			}
		}
		if ended {
			return
		}
		select {
		case <-time.After(gatherTime):
		case <-w.end:
		}
	}
}

// take takes what waits, with a word on what was dropped behind it; false: nothing does. Once that is the end, nothing waits any
// more.
func (w *unheldWriter) take(taken *bytes.Buffer, ended bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting.Len() == 0 && w.dropped == 0 {
		if ended {
			close(w.done)
		}
		return false
	}
	w.waiting, *taken = *taken, w.waiting
	if w.dropped > 0 {
		w.told(taken, w.dropped)
		w.dropped = 0
	}
	return true
}

// behind says whether there is no time to gather.
func (w *unheldWriter) behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped > 0 || w.waiting.Len() > maxUnread/2
}

// Close waits until all has been read, if that does not take long.
func (w *unheldWriter) Close() {
	close(w.end)
	select {
	case <-w.done:
	case <-time.After(lastLinesTime):
	}
}
