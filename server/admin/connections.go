package admin

import (
	"container/list"
	"net"
	"sync"
)

// connections is a listener that has so many connections open at most. When there are more, the oldest goes: whoever holds many
// keeps no probe out.
type connections struct {
	net.Listener
	max int

	mu   sync.Mutex
	open list.List // of *conn, the oldest first
}

func newConnections(l net.Listener, limit int) *connections {
	return &connections{Listener: l, max: limit}
}

// Accept implements [net.Listener].
func (s *connections) Accept() (net.Conn, error) {
	accepted, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, all: s}
	s.mu.Lock()
	c.at = s.open.PushBack(c)
	var oldest *conn
	if s.open.Len() > s.max {
		oldest = s.open.Front().Value.(*conn)
	}
	s.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close() // its error is nobody's
	}
	return c, nil
}

type conn struct {
	net.Conn
	all  *connections
	once sync.Once
	at   *list.Element
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.once.Do(func() {
		c.all.mu.Lock()
		defer c.all.mu.Unlock()
		c.all.open.Remove(c.at)
	})
	return c.Conn.Close()
}
