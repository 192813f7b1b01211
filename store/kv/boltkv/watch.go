package boltkv

import (
	"bytes"
	"context"
	"sync"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Watch implements [kv.Engine].
func (d *DB) Watch(ctx context.Context, prefix []byte) (<-chan struct{}, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &watcher{tokens: make(chan struct{}, 1), start: bytes.Clone(prefix), end: kv.PrefixEnd(prefix)}
	if !d.watchers.add(w) {
		return nil, kv.ErrClosed
	}
	context.AfterFunc(ctx, func() { d.watchers.remove(w) })
	return w.tokens, nil
}

type watcher struct {
	tokens     chan struct{} // one place: a token that nobody has taken stands for all later changes
	start, end []byte
}

type watchers struct {
	mu     sync.Mutex
	open   map[*watcher]struct{}
	closed bool
}

func (s *watchers) add(w *watcher) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.open == nil {
		s.open = make(map[*watcher]struct{})
	}
	s.open[w] = struct{}{}
	return true
}

func (s *watchers) remove(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[w]; ok {
		delete(s.open, w)
		close(w.tokens)
	}
}

func (s *watchers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for w := range s.open {
		delete(s.open, w)
		close(w.tokens)
	}
}

func (s *watchers) notify(ops []kv.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.open {
		for i := range ops {
			if ops[i].Touches(w.start, w.end) {
				select {
				case w.tokens <- struct{}{}:
				default:
				}
				break
			}
		}
	}
}
