package limit

import "time"

const (
	// window is what Zendesk counts over.
	window = time.Minute
	// counted is for how long a request of ours counts: it arrives a little after it was sent.
	counted = window + time.Second
	// slice is how exactly it is known when a request was sent.
	slice      = counted / sliceCount
	sliceCount = 244
)

// sent counts what was sent in the last minute, by slices of it.
type sent struct {
	slices [sliceCount]sentSlice
	last   int64 // number of the newest slice
	total  int
	lanes  [lanes]int
	of     map[party]int
}

// party is an account, or an endpoint.
type party struct{ tenant, account, endpoint string }

func (r Request) account() party { return party{tenant: r.Tenant, account: r.Account} }

func (r Request) endpoint() party { return party{endpoint: r.Endpoint} }

type sentSlice struct {
	lanes [lanes]int
	of    map[party]int
}

// until forgets what does not count any more.
func (s *sent) until(now time.Time) {
	number := now.UnixNano() / int64(slice)
	if number-s.last > sliceCount {
		s.last = number - sliceCount
	}
	for s.last < number {
		s.last++
		old := &s.slices[s.last%sliceCount]
		for lane, n := range old.lanes {
			s.lanes[lane] -= n
			s.total -= n
		}
		for p, n := range old.of {
			if s.of[p] -= n; s.of[p] == 0 {
				delete(s.of, p)
			}
		}
		*old = sentSlice{}
	}
}

func (s *sent) add(now time.Time, r Request) {
	s.until(now)
	s.count(s.last, r, 1)
}

// takeBack forgets one that was added, and not sent.
func (s *sent) takeBack(now, added time.Time, r Request) {
	s.until(now)
	if number := added.UnixNano() / int64(slice); number > s.last-sliceCount && number <= s.last {
		s.count(number, r, -1)
	}
}

func (s *sent) count(number int64, r Request, n int) {
	at := &s.slices[number%sliceCount]
	if at.of == nil {
		at.of = make(map[party]int)
	}
	if s.of == nil {
		s.of = make(map[party]int)
	}
	at.lanes[r.Lane] += n
	s.lanes[r.Lane] += n
	s.total += n
	for _, p := range [...]party{r.account(), r.endpoint()} {
		at.of[p] += n
		s.of[p] += n
	}
}

// freed says when enough of them have ceased to count; of a party alone, if it is not nil. At the latest, when all have.
func (s *sent) freed(enough func(freed int, at time.Time) bool, of *party) time.Time {
	freed := 0
	for number := s.last + 1; ; number++ {
		slot := &s.slices[number%sliceCount]
		if of != nil {
			freed += slot.of[*of]
		} else {
			for _, n := range slot.lanes {
				freed += n
			}
		}
		at := time.Unix(0, number*int64(slice))
		if number == s.last+sliceCount || enough(freed, at) {
			return at
		}
	}
}

// demand is what a lane is expected to send in a minute: what it sent in the last one, or what it sends of late.
func (s *sent) demand(lane Lane) int {
	const late = sliceCount / 10
	n := 0
	for i := range int64(late) {
		n += s.slices[(s.last-i)%sliceCount].lanes[lane]
	}
	return max(s.lanes[lane], n*sliceCount/late)
}
