package limit

import (
	"math"
	"time"
)

// maxBuckets bounds how many limits of endpoints are kept for one Zendesk.
const maxBuckets = 64

// bucket is what is known of the limit of one endpoint.
type bucket struct {
	figures  figures
	at       time.Time // when they were told
	since    int       // sent after that, or not counted in them yet
	inFlight int

	shown   shown
	held    time.Time // until when it refuses
	probing bool      // after that, until an answer is no refusal: one request at a time
	probes  int       // under way that find out
}

// ready says when a request may be sent there. When the time has come that was told, a slot is free, or all of them: Zendesks
// mean the one or the other. One request finds out.
func (b *bucket) ready(now time.Time, lane Lane, others peers) time.Time {
	if now.Before(b.held) {
		return b.held
	}
	if !b.mustProbe(now, lane, others) {
		// Each of the other replicas may have sent as many as this one since.
		if untold := min(b.since, b.inFlight); b.counts(now) && b.left(lane, others) < 1+others.meanwhile(untold) {
			return now.Add(slice) // an answer tells before
		}
		return now
	}
	if resets := b.at.Add(b.resetsAfter()); !b.probing && now.Before(resets) {
		return resets
	}
	if b.probes > 0 {
		return now.Add(slice)
	}
	return now
}

// mustProbe says that nothing is known to be left.
func (b *bucket) mustProbe(now time.Time, lane Lane, others peers) bool {
	return b.probing || b.counts(now) && b.left(lane, others) < 1
}

// counts says that what was told counts still.
func (b *bucket) counts(now time.Time) bool { return b.figures.known && now.Before(b.at.Add(window)) }

// left is what a lane may send of what was told to be left.
func (b *bucket) left(lane Lane, others peers) float64 {
	limit := float64(b.figures.limit)
	spare := math.Floor(limit*reserve[lane]) + max(0, others.margin(limit)-math.Floor(limit*reserve[Blocks]))
	return float64(b.figures.remaining-b.since) - spare
}

func (b *bucket) resetsAfter() time.Duration {
	if b.figures.resets > 0 {
		return b.figures.resets
	}
	return window
}

// send notes that a request is sent there; probe, that it finds something out.
func (b *bucket) send(now time.Time, lane Lane, others peers) (probe bool) {
	probe = b.mustProbe(now, lane, others)
	if probe {
		b.probes++
	}
	b.inFlight++
	b.since++
	return probe
}

// done notes that a request has ended.
func (b *bucket) done(probe bool) {
	b.inFlight--
	if probe {
		b.probes--
	}
}

func (b *bucket) tell(now time.Time, f figures) { b.figures, b.at, b.since = f, now, b.inFlight }

// hold notes that it refuses.
func (b *bucket) hold(until time.Time) { b.held, b.probing = later(b.held, until), true }
