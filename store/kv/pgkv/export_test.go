package pgkv

import "sync"

// Lossy is an engine that loses answers on command.
type Lossy struct {
	*DB
	mu   sync.Mutex
	next *loss
}

// NewLossy makes an engine lossy.
func NewLossy(d *DB) *Lossy {
	l := &Lossy{DB: d}
	d.lose = func() *loss {
		l.mu.Lock()
		defer l.mu.Unlock()
		next := l.next
		l.next = nil
		return next
	}
	return l
}

// LoseAnswer implements kvtest.Lossy.
func (l *Lossy) LoseAnswer(made bool, meanwhile func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = &loss{made, meanwhile}
}
