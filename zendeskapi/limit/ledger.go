package limit

import (
	"math"
	"time"
)

const (
	// target is how much of a limit paced lanes fill up to.
	target = .97
	// fresh is for how long what others use is what an answer has told.
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

	told  float64 // what headers said, a minute; 0: nothing
	shown shown

	others   float64 // what others of the customer used in the last minute, at most
	othersAt time.Time

	heldUntil time.Time
	probing   bool // after a hold, until an answer is no refusal: one request at a time
	probes    int  // under way that find out

	pace  [lanes]time.Time // when the next request of a paced lane may be sent
	begun time.Time        // when the first request was sent
}

// limit is what may be sent in a minute, by all of the customer; infinite, when it is not known.
func (l *ledger) limit(now time.Time) float64 {
	limit := math.Inf(1)
	if l.told > 0 {
		limit = l.told
	}
	return min(limit, l.shown.limit(now))
}

// foreign is what others are believed to have used in the last minute. What was told some time ago has gone from the minute in
// part: what they have used since nobody knows until the next answer tells.
func (l *ledger) foreign(at time.Time) float64 {
	left := 1 - float64(at.Sub(l.othersAt))/float64(window)
	return l.others * min(1, max(0, left))
}

// remaining is how many requests may be sent now, by all lanes together; may be negative.
func (l *ledger) remaining(now time.Time) float64 {
	l.sent.until(now)
	return l.limit(now) - float64(l.sent.total) - l.foreign(now)
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
	if missing := l.missing(now, lane, limit, w) + float64(own+earlier); missing > 0 {
		at = later(at, l.freed(now, missing, nil))
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
	missing := float64(l.sent.of[of]+own+1) - max(1, limit*float64(r.MaxShare)/100)
	if missing <= 0 {
		return now
	}
	return l.freed(now, missing, &of)
}

// freed says when so many requests have ceased to count: of a party, if it is not nil, else of everybody.
func (l *ledger) freed(now time.Time, missing float64, of *party) time.Time {
	foreign := l.foreign(now)
	return l.sent.freed(func(ours int, at time.Time) bool {
		free := float64(ours)
		if of == nil {
			free += foreign - l.foreign(at)
		}
		return free >= missing
	}, of)
}

// missing is how many requests must cease to count until one of a lane may be sent; not positive: none.
func (l *ledger) missing(now time.Time, lane Lane, limit float64, w waiting) float64 {
	left := l.remaining(now) - math.Ceil(limit*reserve[lane])
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
		left += math.Ceil(limit * reserve[lane]) // the part is its own, to the last request
	}
	return 1 - left
}

// gap is the time between two requests of a paced lane: as many as those before it leave of the limit, at least what is
// guaranteed, spread over the minute.
func (l *ledger) gap(now time.Time, lane Lane, limit float64) time.Duration {
	if math.IsInf(limit, 1) {
		return startGap >> min(30, now.Sub(l.begun)/startTime)
	}
	own := limit - l.foreign(now)
	rate := target*limit - l.foreign(now)
	for before := range lane {
		rate -= float64(l.sent.demand(before))
	}
	rate = max(rate, own*guaranteed[lane], 1)
	return time.Duration(float64(window) / rate)
}

// send notes that a request is sent; probe, that it finds out whether a refusal is over.
func (l *ledger) send(now time.Time, r Request) (probe bool) {
	l.sent.add(now, r)
	l.inFlight++
	if l.begun.IsZero() {
		l.begun = now
	}
	if r.Lane.paced() {
		limit := l.limit(now)
		gap, spared := l.gap(now, r.Lane, limit), float64(startBurst)
		if !math.IsInf(limit, 1) {
			spared = math.Floor(burst * limit)
		}
		l.pace[r.Lane] = later(l.pace[r.Lane], now.Add(-time.Duration(spared*float64(gap)))).Add(gap)
	}
	if l.probing {
		l.probes++
	}
	return l.probing
}

// refusal is an answer by which Zendesk refused a request for the limit of all.
type refusal struct {
	until time.Time
	shows bool // that the limit is used up: not merely that it takes no requests now
}

// end notes that a request is not under way any more.
func (l *ledger) end(probe bool) {
	l.inFlight--
	if probe {
		l.probes--
	}
}

// done notes how a request has ended; refused is nil, if it was not refused.
func (l *ledger) done(now time.Time, probe bool, f figures, refused *refusal) {
	l.end(probe)
	l.sent.until(now)
	if f.limit > 0 {
		l.told = float64(f.limit)
	}
	if f.known {
		// Of ours, those that are under way may not have been counted yet.
		others := max(0, float64(f.limit-f.remaining)-float64(max(0, l.sent.total-l.inFlight)))
		if others <= l.foreign(now) || now.Sub(l.othersAt) >= fresh {
			l.others, l.othersAt = others, now
		}
	}
	if refused == nil {
		if !now.Before(l.heldUntil) {
			l.probing = false
		}
		return
	}
	if now.Before(l.heldUntil) {
		l.heldUntil = later(l.heldUntil, refused.until)
		return // it was sent before the hold began: it shows nothing more
	}
	l.heldUntil, l.probing = refused.until, true
	if refused.shows && (!f.known || f.remaining > 0) {
		// Nobody said that the limit is used up: it must be lower than what is believed.
		l.shown = showing(now, float64(l.sent.total)+l.foreign(now))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
