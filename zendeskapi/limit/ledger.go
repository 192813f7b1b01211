package limit

import (
	"math"
	"time"
)

const (
	// target is how much of a limit paced lanes fill up to.
	target = .97
	// fresh is for how long it is believed, where other replicas may send, that others use no less than what was told.
	fresh = 2 * time.Second
	// regrow is how a limit that a refusal has shown is believed to grow again: by this part of itself in the first minute, and
	// then ever faster. It may not have been the limit at all.
	regrow = .05
	// burst is how much of a limit a paced lane may send at once, when it has not sent for a while.
	burst = .03
	// startGap is between the requests of a paced lane as long as nothing is known of a limit; it halves every startTime. The
	// first startBurst do not wait: most answers tell a limit.
	startGap, startTime = time.Second, 15 * time.Second
	startBurst          = 30
	// least is the smallest limit that a refusal shows: of a smaller one others have had the rest.
	least = 20
)

// shown is a limit that a refusal has shown of which no header tells. The zero value is none.
type shown struct {
	most float64 // a minute
	at   time.Time
}

func showing(now time.Time, sent float64) shown { return shown{max(least, .9*sent), now} }

// limit is infinite, when none was shown.
func (s shown) limit(now time.Time) float64 {
	if s.most == 0 {
		return math.Inf(1)
	}
	minutes := now.Sub(s.at).Minutes()
	return s.most * math.Pow(1+regrow, minutes*minutes)
}

// ledger is what is known of the limit of one Zendesk, and what was sent to it.
type ledger struct {
	sent     sent
	inFlight int
	peers    int // other replicas, which may send as much as this one

	told  float64 // what headers said, a minute; 0: nothing
	shown shown

	begunCount int // requests sent so far
	toldBy     int // which of them was the newest whose answer told what others use; 0: none
	toldAt     time.Time
	toldOthers int
	fixed      fixedMinute

	heldUntil time.Time
	probing   bool // after a hold, until an answer is no refusal: one request at a time
	probes    int  // under way that find out

	pace  [lanes]time.Time // when the next request of a paced lane may be sent
	begun time.Time        // when the first request was sent
}

// limit is what may be sent in a minute, by all of the customer; infinite, when it is not known. Where nobody tells what others
// use, it is what may be sent from here.
func (l *ledger) limit(now time.Time) float64 {
	limit := math.Inf(1)
	switch {
	case l.told > 0 && l.toldAt.IsZero():
		limit = max(1, l.told/float64(1+l.peers))
	case l.told > 0:
		limit = l.told
	}
	return min(limit, l.shown.limit(now))
}

// foreign is what others are believed to have used in the last minute. What they have used since an answer told, nobody knows
// until the next one; other replicas send on.
func (l *ledger) foreign(now time.Time) float64 {
	l.sent.until(now)
	if l.peers > 0 && now.Sub(l.toldAt) < fresh {
		return float64(max(l.toldOthers, l.sent.others))
	}
	return float64(l.sent.others)
}

// remaining is how many requests may be sent now, by all lanes together; may be negative.
func (l *ledger) remaining(now time.Time) float64 {
	return l.limit(now) - l.foreign(now) - float64(l.sent.total)
}

// others are the other replicas.
func (l *ledger) others(now time.Time) peers {
	l.sent.until(now)
	return peers{count: l.peers, lately: l.sent.othersLate()}
}

// untold is how many of our requests are on their way that no answer has told of yet.
func (l *ledger) untold() int { return min(l.begunCount-l.toldBy, l.inFlight) }

// spare is how much of the limit a lane leaves free.
func (l *ledger) spare(now time.Time, limit float64, lane Lane) float64 {
	return math.Ceil(limit*reserve[lane]) + max(0, l.others(now).margin(limit)-math.Ceil(limit*reserve[Blocks]))
}

// waiting is how many requests of each lane wait.
type waiting [lanes]int

// ready says when a request of a lane may be sent, if own of its lane and earlier of the lanes before it are sent first: now,
// or a time after it.
func (l *ledger) ready(now time.Time, lane Lane, w waiting, own, earlier int) time.Time {
	if now.Before(l.heldUntil) {
		return l.heldUntil
	}
	if l.probing && l.probes > 0 {
		return now.Add(slice)
	}
	limit := l.limit(now)
	at := now
	if lane.paced() {
		at = later(at, l.pace[lane].Add(time.Duration(own)*l.gap(now, lane, limit)))
	}
	if math.IsInf(limit, 1) {
		return at
	}
	switch missing := l.missing(now, lane, limit, w) + float64(own+earlier); {
	case missing > 0:
		at = later(at, l.sent.freed(missing, nil))
	case missing+l.others(now).meanwhile(l.untold()) > 0:
		at = later(at, now.Add(slice)) // an answer tells before
	}
	return at
}

// readyForShare says when the account of a request has a part of the limit left for it, if own of the account are sent first.
func (l *ledger) readyForShare(now time.Time, r Request, own int) time.Time {
	limit := l.limit(now)
	if r.MaxShare <= 0 || r.MaxShare >= 100 || math.IsInf(limit, 1) {
		return now
	}
	l.sent.until(now)
	of := r.account()
	missing := float64(l.sent.of[of]+own+1) - l.others(now).share(max(1, limit*float64(r.MaxShare)/100), l.foreign(now))
	if missing <= 0 {
		return now
	}
	return l.sent.freed(missing, &of)
}

// missing is how many requests must cease to count until one of a lane may be sent; not positive: none.
func (l *ledger) missing(now time.Time, lane Lane, limit float64, w waiting) float64 {
	left := l.remaining(now) - l.spare(now, limit, lane)
	own := max(0, limit-l.foreign(now))
	higherWait := false
	for other := range lanes {
		switch {
		case other < lane:
			higherWait = higherWait || w[other] > 0
		case other > lane && w[other] > 0:
			// What it is guaranteed and has not had stays free for it.
			left -= min(float64(w[other]), max(0, own*guaranteed[other]-float64(l.sent.lanes[other])))
		}
	}
	if higherWait && float64(l.sent.lanes[lane])+1 > own*guaranteed[lane] {
		// Those before it wait: it has had its part.
		return max(1-left, float64(l.sent.lanes[lane])+1-own*guaranteed[lane])
	}
	if higherWait {
		left += l.spare(now, limit, lane) // the part is its own, to the last request
	}
	return 1 - left
}

// gap is the time between two requests of a paced lane: as many as those before it leave of the limit, at least what is
// guaranteed, spread over the minute.
func (l *ledger) gap(now time.Time, lane Lane, limit float64) time.Duration {
	if math.IsInf(limit, 1) {
		return startGap >> min(30, now.Sub(l.begun)/startTime) * time.Duration(1+l.peers)
	}
	others, used := l.others(now), l.foreign(now)
	if others.count > 0 {
		used = max(used, float64(others.lately)*sliceCount/late)
	}
	rate := target*limit - used
	for before := range lane {
		rate -= float64(l.sent.demand(before))
	}
	least := limit - used
	if others.count > 0 {
		// Those who find the same left at the same time take a part of it each.
		own := float64(l.sent.pace(lane))
		rate = own + (rate-own)/float64(1+others.count)
		least = others.share(limit, used)
	}
	rate = max(rate, least*guaranteed[lane], 1)
	return time.Duration(float64(window) / rate)
}

// send notes that a request is sent. It returns the request's number, and how many of ours Zendesk counts when it arrives; probe,
// that it finds out whether a refusal is over.
func (l *ledger) send(now time.Time, r Request) (number, recent int, probe bool) {
	l.sent.add(now, r)
	l.inFlight++
	l.begunCount++
	if l.begun.IsZero() {
		l.begun = now
	}
	if r.Lane.paced() {
		limit := l.limit(now)
		gap, spared := l.gap(now, r.Lane, limit), float64(startBurst)
		if !math.IsInf(limit, 1) {
			spared = math.Floor(burst * limit)
		}
		spared /= float64((1 + l.peers) * (1 + l.peers))
		l.pace[r.Lane] = later(l.pace[r.Lane], now.Add(-time.Duration(spared*float64(gap)))).Add(gap)
	}
	if l.probing {
		l.probes++
	}
	return l.begunCount, l.sent.recent(), l.probing
}

// end notes that a request is not under way any more.
func (l *ledger) end(probe bool) {
	l.inFlight--
	if probe {
		l.probes--
	}
}

// done notes how a request has ended, and what its answer told.
func (l *ledger) done(now time.Time, t *Turn, f figures) {
	l.end(t.probesAll)
	if f.known && t.number > l.toldBy {
		l.toldBy = t.number
		l.tell(now, f, t.number, t.recent)
	}
	if f.limit > 0 {
		l.told = float64(f.limit)
	}
}

// taken notes that Zendesk did not refuse a request.
func (l *ledger) taken(now time.Time) {
	if !now.Before(l.heldUntil) {
		l.probing = false
	}
}

// tell notes what is used of the limit, by an answer to the request of a number, when so many of ours were sent in the last minute.
func (l *ledger) tell(now time.Time, f figures, number, recent int) {
	l.told, l.toldAt = float64(f.limit), now
	used := f.limit - f.remaining
	l.sent.until(now)
	if more, ok := l.fixed.others(now, f.limit, used, number, l.sent.settled()); ok {
		l.toldOthers = l.sent.others + more
	} else {
		l.toldOthers = max(0, used-recent)
	}
	l.sent.tellOthers(now, l.toldOthers)
}

// fixedMinute is one by which Zendesk counts: at its beginning what was used before it is forgotten. That shows in that not even
// what we have sent is counted any more. Since all who have waited for it would begin at once, it is not relied on: it counts what
// was sent in the last minute, whatever is told.
type fixedMinute struct {
	begun        time.Time // zero: it is not known that Zendesk counts so
	used, number int       // told first in it, and by the answer to which request
	told         int       // how many others have sent since
	before       int       // used, as it was told last, whether Zendesk counts so or not
}

// others returns how many more others have sent than was told before; false, when Zendesk does not count by fixed minutes.
func (m *fixedMinute) others(now time.Time, limit, used, number, settled int) (more int, ok bool) {
	little, before := limit/10, m.before
	m.before = used
	switch {
	case used <= little && settled-used > little && before-used > little:
		if m.begun.IsZero() || now.Sub(m.begun) > window/2 {
			*m = fixedMinute{begun: now, used: used, number: number, before: used}
		}
	case now.Sub(m.begun) > window:
		*m = fixedMinute{before: used}
		return 0, false
	}
	more = max(0, (used-m.used)-(number-m.number)-m.told)
	m.told += more
	return more, true
}

// refuse notes that Zendesk refuses. shows: that the limit is lower than what is believed.
func (l *ledger) refuse(now, until time.Time, shows bool) {
	if now.Before(l.heldUntil) {
		l.heldUntil = later(l.heldUntil, until)
		return // it was sent before the hold began: it shows nothing more
	}
	l.heldUntil, l.probing = until, true
	if shows {
		l.shown = showing(now, float64(l.sent.total)+l.foreign(now))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
