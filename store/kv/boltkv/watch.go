package boltkv

import (
	"context"
	"slices"
	"sync"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Watch implements [kv.Engine].
func (d *DB) Watch(ctx context.Context, prefix []byte) (<-chan struct{}, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.Done()
	w := &watcher{tokens: make(chan struct{}, 1), prefix: string(prefix)}
	if !d.watchers.add(w) {
		return nil, d.Err() // which has closed them
	}
	context.AfterFunc(ctx, func() { d.watchers.remove(w) })
	return w.tokens, nil
}

type watcher struct {
	tokens chan struct{} // one place: a token that nobody has taken stands for all later changes
	prefix string
}

// watchers finds those whom a change concerns by its key, however many others there are.
type watchers struct {
	mu     sync.Mutex
	open   map[string]map[*watcher]struct{} // by prefix
	sorted []string                         // the prefixes
	closed bool
}

func (s *watchers) add(w *watcher) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.open == nil {
		s.open = make(map[string]map[*watcher]struct{})
	}
	if s.open[w.prefix] == nil {
		s.open[w.prefix] = make(map[*watcher]struct{})
		i, _ := slices.BinarySearch(s.sorted, w.prefix)
		s.sorted = slices.Insert(s.sorted, i, w.prefix)
	}
	s.open[w.prefix][w] = struct{}{}
	return true
}

func (s *watchers) remove(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := s.open[w.prefix]
	if _, ok := same[w]; !ok {
		return
	}
	close(w.tokens)
	if delete(same, w); len(same) == 0 {
		delete(s.open, w.prefix)
		i, _ := slices.BinarySearch(s.sorted, w.prefix)
		s.sorted = slices.Delete(s.sorted, i, i+1)
	}
}

func (s *watchers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, same := range s.open {
		for w := range same {
			close(w.tokens)
		}
	}
	s.open, s.sorted = nil, nil
}

func (s *watchers) notify(ops []kv.Op) {
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
func (s *watchers) tellAlong(key string) {
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
func (s *watchers) tellBetween(start, end string) {
	i, _ := slices.BinarySearch(s.sorted, start)
	for ; i < len(s.sorted) && (end == "" || s.sorted[i] < end); i++ {
		s.tell(s.sorted[i])
	}
}

func (s *watchers) tell(prefix string) {
	for w := range s.open[prefix] {
		select {
		case w.tokens <- struct{}{}:
		default:
		}
	}
}
