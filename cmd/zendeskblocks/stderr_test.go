package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader is one of standard error that reads nothing until it is let.
type reader struct {
	let chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	<-r.let
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *reader) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(strings.Lines(r.text.String()))
}

func countLost(to io.Writer, dropped int) { _, _ = fmt.Fprintf(to, "%d lost\n", dropped) }

// TestUnheldWriter writes more than can wait to a reader that does not read, and reads it then.
func TestUnheldWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{let: make(chan struct{})}
		w := newUnheldWriter(r)
		counted := 0
		w.tell(countLost, func() { counted++ })
		const lines = 20_000
		line := func(n int) string { return fmt.Sprintf("%08d%s\n", n, strings.Repeat(".", 191)) }
		for n := range lines {
			_, err := w.Write([]byte(line(n))) // no write waits: nobody would go on
			must(t, err)
			if n == 0 {
				synctest.Wait() // the first is on its way
			}
		}
		if counted == 0 {
			t.Error("lines that are lost are counted only when somebody reads again")
		}
		close(r.let)
		synctest.Wait()
		for n := range 10 {
			_, err := w.Write([]byte(line(lines + n)))
			must(t, err)
		}
		w.Close()
		got := r.lines()
		lost := slices.IndexFunc(got, func(text string) bool { return strings.HasSuffix(text, " lost\n") })
		if lost < maxUnread/200-1 || got[lost] != fmt.Sprintf("%d lost\n", lines-lost) || counted != lines-lost {
			t.Fatalf("%d lines of %d were read before %q", lost, lines, got[max(lost, 0)])
		}
		for n, text := range got[:lost] {
			if text != line(n) {
				t.Fatalf("line %d is %q", n, text)
			}
		}
		if after := got[lost+1:]; len(after) != 10 || after[0] != line(lines) || after[9] != line(lines+9) {
			t.Errorf("after it there is %q", after)
		}
	})
}

// TestUnheldWriterCloses ends also when nobody reads, and in time.
func TestUnheldWriterCloses(t *testing.T) {
	for name, stuck := range map[string]bool{"read": false, "unread": true} {
		synctest.Test(t, func(t *testing.T) {
			r := &reader{let: make(chan struct{})}
			if !stuck {
				close(r.let)
			}
			w := newUnheldWriter(r)
			_, err := w.Write([]byte("last words\n"))
			must(t, err)
			begun := time.Now()
			w.Close()
			want := time.Duration(0)
			if stuck {
				want = lastLinesTime
				close(r.let)
				synctest.Wait()
			}
			if took := time.Since(begun); took != want || !slices.Equal(r.lines(), []string{"last words\n"}) {
				t.Errorf("%s: closing took %s, and %q was read", name, took, r.lines())
			}
		})
	}
}
