package pgkv

import (
	"slices"
	"sync"
	"time"
)

// pace has callers share round trips: those who come while one is under way gather for the next. Two commits at a time would wait for each
// other in the database, where they read the same keys, and share what each of them costs with half as many. Another one begins beside only
// when as many wait as may share one, or when those under way take long: they may be held up by what does not concern those who wait. A pace
// is used under a lock.
type pace struct {
	underWay []time.Time // when they began
	timer    *time.Timer
}

// long is a round trip that others do not wait for. Most take some milliseconds, with a standby far away some tens.
const long = 50 * time.Millisecond

// begins says whether a round trip begins with those that wait, or else when to look again; full is how many may share one.
func (p *pace) begins(waiting, full int, now time.Time) (yes bool, again time.Duration) {
	if waiting == 0 {
		return false, 0
	}
	for _, begun := range p.underWay {
		again = max(again, long-now.Sub(begun))
	}
	return waiting >= full || again <= 0, again
}

// begin is begins, and has those who take look again when it is time. What has begun is to end.
func (p *pace) begin(waiting, full int, rouse func()) (begun time.Time, yes bool) {
	begun = time.Now()
	yes, again := p.begins(waiting, full, begun)
	switch {
	case yes:
		p.underWay = append(p.underWay, begun)
	case again > 0 && p.timer == nil:
		p.timer = time.AfterFunc(again, rouse)
	case again > 0:
		p.timer.Reset(again)
	}
	return begun, yes
}

func (p *pace) end(begun time.Time) {
	if i := slices.Index(p.underWay, begun); i >= 0 {
		p.underWay = slices.Delete(p.underWay, i, i+1)
	}
}

// fetches are reads that wait to be asked for.
type fetches struct {
	wake chan struct{} // holds a token when something may have come

	mu      sync.Mutex
	pace    pace
	waiting []*fetch
}

func newFetches() *fetches { return &fetches{wake: make(chan struct{}, 1)} }

func (q *fetches) push(f *fetch) {
	q.mu.Lock()
	q.waiting = append(q.waiting, f)
	q.mu.Unlock()
	q.rouse()
}

func (q *fetches) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns those that share a round trip, which begins now; done is called when it has ended. None: it is to wait.
func (q *fetches) take() (together []*fetch, done func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	begun, yes := q.pace.begin(len(q.waiting), maxGroup, q.rouse)
	if !yes {
		return nil, nil
	}
	n, keys := 0, 0
	for n < len(q.waiting) && keys < maxFetchKeys {
		keys += q.waiting[n].size()
		n++
	}
	together = q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	} else {
		q.rouse()
	}
	return together, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.pace.end(begun)
	}
}
