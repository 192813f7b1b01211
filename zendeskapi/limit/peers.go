package limit

import "math"

// peers are the other replicas, who share a limit. What they have sent is known only when an answer tells what all together have
// used: until then each may have done as this one has, unless hardly anything was sent by others of late.
type peers struct {
	count  int
	lately int // requests of others of late
}

// margin is how much of a limit is left free, since they may send at the same time: two each, and no more than in a second of late.
func (p peers) margin(limit float64) float64 {
	return min(float64(min(2*p.count, 2+p.lately/6)), math.Floor(limit/10))
}

// meanwhile is how many requests they may have sent while so many of ours are on their way: as many each, and no more than in
// three seconds of late.
func (p peers) meanwhile(underWay int) float64 {
	return float64(min(p.count*underWay, 2+p.lately/2))
}

// share is how much of an amount, which is for all replicas together, is for this one, when others have used so much: its part,
// and what they have left of theirs.
func (p peers) share(amount, used float64) float64 {
	if p.count == 0 {
		return amount
	}
	return max(1, amount/float64(1+p.count), amount-used)
}
