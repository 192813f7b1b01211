package kv

import (
	"context"
	"slices"
	"sync"
)

type watcher struct {
	tokens chan struct{} // one place: a token that nobody has taken stands for all later changes
	prefix string
}

// Watchers keeps who watches which keys, and finds those whom a change concerns by its key, however many others there are.
// The zero value has none. It is safe for concurrent use.
type Watchers struct {
	mu     sync.Mutex
	open   map[string][]*watcher // by prefix
	sorted []string              // the prefixes
	closed bool
}

// Add returns the channel of an [Engine.Watch], which is closed when ctx ends; nil after Close.
func (s *Watchers) Add(ctx context.Context, prefix []byte) <-chan struct{} {
	w := &watcher{tokens: make(chan struct{}, 1), prefix: string(prefix)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	context.AfterFunc(ctx, func() { s.remove(w) })
	if s.open == nil {
		s.open = make(map[string][]*watcher)
	}
	if s.open[w.prefix] == nil {
		i, _ := slices.BinarySearch(s.sorted, w.prefix)
		s.sorted = slices.Insert(s.sorted, i, w.prefix)
	}
	s.open[w.prefix] = append(s.open[w.prefix], w)
	return w.tokens
}

func (s *Watchers) remove(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := s.open[w.prefix]
	at := slices.Index(same, w)
	if at < 0 {
		return
	}
	close(w.tokens)
	if same = slices.Delete(same, at, at+1); len(same) > 0 {
		s.open[w.prefix] = same
	} else {
		delete(s.open, w.prefix)
		i, _ := slices.BinarySearch(s.sorted, w.prefix)
		s.sorted = slices.Delete(s.sorted, i, i+1)
	}
}

// Close closes all channels.
func (s *Watchers) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, same := range s.open {
		for _, w := range same {
			close(w.tokens)
		}
	}
	s.open, s.sorted = nil, nil
}

// Notify tells those who watch what was written.
func (s *Watchers) Notify(ops []Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range ops {
		s.tellAlong(string(ops[i].Key))
		if ops[i].Range {
			s.tellBetween(string(ops[i].Key), string(ops[i].End))
		}
	}
}

// tellAlong tells the watchers of all prefixes of a key. The last prefix that sorts before the key either is one of it, or
// shows how long any other can be at most.
func (s *Watchers) tellAlong(key string) {
	for {
		i, exact := slices.BinarySearch(s.sorted, key)
		if exact {
			i++
		}
		if i == 0 {
			return
		}
		before := s.sorted[i-1]
		common := commonLength(before, key)
		if common == len(before) {
			s.tell(before)
			if common == 0 {
				return
			}
			common--
		}
		key = key[:common]
	}
}

func commonLength(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// tellBetween tells the watchers of prefixes in a range.
func (s *Watchers) tellBetween(start, end string) {
	i, _ := slices.BinarySearch(s.sorted, start)
	for ; i < len(s.sorted) && (end == "" || s.sorted[i] < end); i++ {
		s.tell(s.sorted[i])
	}
}

func (s *Watchers) tell(prefix string) {
	for _, w := range s.open[prefix] {
		select {
		case w.tokens <- struct{}{}:
		default:
		}
	}
}
