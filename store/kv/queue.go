package kv

import (
	"slices"
	"sync"
)

// Pending is what a [Queue] knows of an update. An engine's own type of updates embeds it.
type Pending struct {
	Owner string   // whose turn it takes
	Reads []string // keys that it has read
	Ops   []Op     // what it writes

	age      int                 // order of arrival
	reserved map[string]struct{} // what it read when it had to run again
	gone     bool                // it comes no more
}

func (p *Pending) pending() *Pending { return p }

// Queued is a pointer to a type that embeds [Pending].
type Queued interface {
	comparable
	pending() *Pending
}

// Queue holds the updates of an engine that wait to be committed. They come out in turns over their owners; and one that has
// to run again, since what it read has changed, is not overtaken for ever: those that came after it do not change what it read
// until it has come through. It is safe for concurrent use.
type Queue[U Queued] struct {
	wake chan struct{} // holds a token when something may have come

	mu       sync.Mutex
	closed   bool
	arrived  int
	count    int      // of waiting updates
	turns    []string // owners of waiting updates
	waiting  map[string][]U
	reserved []U // those that run again, oldest first
}

// NewQueue returns an empty queue.
func NewQueue[U Queued]() *Queue[U] {
	return &Queue[U]{wake: make(chan struct{}, 1), waiting: make(map[string][]U)}
}

// Wake has a token when something may have come. It is closed by Close.
func (q *Queue[U]) Wake() <-chan struct{} { return q.wake }

// Close says that nothing will be pushed any more.
func (q *Queue[U]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.wake)
}

// Push has an update wait.
func (q *Queue[U]) Push(u U) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if u.pending().age == 0 {
		q.arrived++
		u.pending().age = q.arrived
	}
	if q.waiting[u.pending().Owner] == nil {
		q.turns = append(q.turns, u.pending().Owner)
	}
	q.waiting[u.pending().Owner] = append(q.waiting[u.pending().Owner], u)
	q.count++
	q.rouse()
}

// Len is how many updates wait.
func (q *Queue[U]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}

// Rouse puts the token of Wake: those who take are to look again.
func (q *Queue[U]) Rouse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rouse()
}

func (q *Queue[U]) rouse() {
	if q.closed {
		return
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Take returns the update whose turn it is, of those that change nothing an older one has reserved; the zero U if there is none.
func (q *Queue[U]) Take() (u U) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, owner := range q.turns {
		free := slices.IndexFunc(q.waiting[owner], func(u U) bool { return !q.held(u) })
		if free < 0 {
			continue
		}
		u = q.waiting[owner][free]
		q.turns = append(slices.Delete(q.turns, i, i+1), owner)
		q.remove(u)
		return u
	}
	return u
}

// held says whether an update would change what an older one has read that runs again.
func (q *Queue[U]) held(u U) bool {
	for _, older := range q.reserved {
		if older.pending().age >= u.pending().age {
			return false
		}
		for i := range u.pending().Ops {
			if u.pending().Ops[i].Range {
				for key := range older.pending().reserved {
					if u.pending().Ops[i].Covers([]byte(key)) {
						return true
					}
				}
			} else if _, ok := older.pending().reserved[string(u.pending().Ops[i].Key)]; ok {
				return true
			}
		}
	}
	return false
}

// Withdraw takes an update out; false: it waits no more, the committer has it.
func (q *Queue[U]) Withdraw(u U) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.remove(u)
}

func (q *Queue[U]) remove(u U) bool {
	waiting := q.waiting[u.pending().Owner]
	i := slices.Index(waiting, u)
	if i < 0 {
		return false
	}
	q.count--
	if len(waiting) > 1 {
		q.waiting[u.pending().Owner] = slices.Delete(waiting, i, i+1)
		return true
	}
	delete(q.waiting, u.pending().Owner)
	q.turns = slices.DeleteFunc(q.turns, func(owner string) bool { return owner == u.pending().Owner })
	return true
}

// Reserve keeps younger updates from changing what this one read, unless it comes no more: who waited for it may have gone while it
// was committed.
func (q *Queue[U]) Reserve(u U) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if u.pending().gone {
		return
	}
	if u.pending().reserved == nil {
		u.pending().reserved = make(map[string]struct{})
		i, _ := slices.BinarySearchFunc(q.reserved, u.pending().age, func(other U, age int) int { return other.pending().age - age })
		q.reserved = slices.Insert(q.reserved, i, u)
	}
	for _, key := range u.pending().Reads {
		u.pending().reserved[key] = struct{}{}
	}
}

// Forget is for an update that comes no more.
func (q *Queue[U]) Forget(u U) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u.pending().gone = true
	if u.pending().reserved != nil {
		q.reserved = slices.DeleteFunc(q.reserved, func(other U) bool { return other == u })
		q.rouse()
	}
}
