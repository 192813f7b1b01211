package pgkv

import "sync"

// pace has callers share round trips. Those who come while some are under way gather until they are as many, or as many as may share
// one: then another round trip begins beside. So a lone caller waits for nobody, nobody waits for more than what was under way when he
// came, and where many call, few round trips carry them all. It is used under a lock.
type pace struct{ underWay int }

// begins says whether a round trip begins with those that wait; full is how many may share one.
func (p *pace) begins(waiting, full int) bool {
	return waiting > 0 && waiting >= min(p.underWay, full)
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
func (q *fetches) take() []*fetch {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.pace.begins(len(q.waiting), maxGroup) {
		return nil
	}
	n, keys := 0, 0
	for n < len(q.waiting) && keys < maxFetchKeys {
		keys += q.waiting[n].size()
		n++
	}
	together := q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	} else {
		q.rouse()
	}
	q.pace.underWay += n
	return together
}

func (q *fetches) done(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pace.underWay -= n
}
