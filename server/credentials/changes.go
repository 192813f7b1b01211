package credentials

import "sync"

// Changes is a set of accounts that have changed.
type Changes struct {
	mu    sync.Mutex
	keys  map[Key]struct{}
	ready chan struct{}
}

func newChanges() *Changes {
	return &Changes{keys: make(map[Key]struct{}), ready: make(chan struct{}, 1)}
}

// Ready has a token when there is something to take.
func (c *Changes) Ready() <-chan struct{} { return c.ready }

// Take empties the set.
func (c *Changes) Take() []Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	var taken []Key
	for key := range c.keys {
		taken = append(taken, key)
	}
	clear(c.keys)
	return taken
}

func (c *Changes) add(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[key] = struct{}{}
	select {
	case c.ready <- struct{}{}:
	default:
	}
}
