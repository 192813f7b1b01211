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
	others int   // sent by others, not in total
	told   int64 // number of the slice in which it was told how many that are
}

// party is an account, or an endpoint.
type party struct{ tenant, account, endpoint string }

func (r Request) account() party { return party{tenant: r.Tenant, account: r.Account} }

func (r Request) endpoint() party { return party{endpoint: r.Endpoint} }

type sentSlice struct {
	lanes  [lanes]int
	of     map[party]int
	others int
}

func (s *sentSlice) total() (n int) {
	for _, of := range s.lanes {
		n += of
	}
	return n
}

// slice returns the one of a number.
func (s *sent) slice(number int64) *sentSlice { return &s.slices[number%sliceCount] }

// until forgets what does not count any more.
func (s *sent) until(now time.Time) {
	number := now.UnixNano() / int64(slice)
	if number-s.last > sliceCount {
		s.last = number - sliceCount
	}
	for s.last < number {
		s.last++
		old := s.slice(s.last)
		s.others -= old.others
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
	at := s.slice(number)
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

// recent is how many of ours were sent in what Zendesk counts over.
func (s *sent) recent() int { return s.between(s.last-int64(window/slice), s.last) }

// settled is how many of these must have arrived.
func (s *sent) settled() int { return s.between(s.last-int64(window/slice)+1, s.last-late) }

// between counts ours of some slices.
func (s *sent) between(first, last int64) (n int) {
	for number := first; number <= last; number++ {
		n += s.slice(number).total()
	}
	return n
}

// tellOthers notes how many others have sent in the last minute. When those did that are new is not known, but that it was since
// it was last told.
func (s *sent) tellOthers(now time.Time, n int) {
	s.until(now)
	more := n - s.others
	since := min(sliceCount, max(1, s.last-s.told))
	for i := range since { // the oldest of them first
		s.slice(s.last - since + 1 + i).others += max(0, more)*int(i+1)/int(since) - max(0, more)*int(i)/int(since)
	}
	for number := s.last - sliceCount + 1; more < 0; number++ {
		gone := min(-more, s.slice(number).others)
		s.slice(number).others -= gone
		more += gone
	}
	s.others, s.told = n, s.last
}

// freed says when so many have ceased to count: of a party alone, if it is not nil. At the latest, when all have.
func (s *sent) freed(missing float64, of *party) time.Time {
	freed := 0
	for number := s.last + 1; ; number++ {
		if old := s.slice(number); of != nil {
			freed += old.of[*of]
		} else {
			freed += old.total() + old.others
		}
		if number == s.last+sliceCount || float64(freed) >= missing {
			return time.Unix(0, number*int64(slice))
		}
	}
}

// late is for how much of the minute it is extrapolated what is sent in one.
const late = sliceCount / 10

// demand is what a lane is expected to send in a minute: what it sent in the last one, or what it sends of late.
func (s *sent) demand(lane Lane) int { return max(s.lanes[lane], s.pace(lane)) }

// pace is what a lane would send in a minute, if it did as it does of late.
func (s *sent) pace(lane Lane) (n int) {
	for i := range int64(late) {
		n += s.slice(s.last - i).lanes[lane]
	}
	return n * sliceCount / late
}

// othersLate is what others are expected to send in as much of the minute as is late: what they did of late, or a part of what they
// sent in the last one.
func (s *sent) othersLate() int {
	n := 0
	for i := range int64(late) {
		n += s.slice(s.last - i).others
	}
	return max(n, s.others*late/sliceCount)
}
