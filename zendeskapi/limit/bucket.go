package limit

import "time"

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
func (b *bucket) ready(now time.Time, lane Lane) time.Time {
	if now.Before(b.held) {
		return b.held
	}
	if !b.mustProbe(now, lane) {
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
func (b *bucket) mustProbe(now time.Time, lane Lane) bool {
	spare := int(float64(b.figures.limit) * reserve[lane])
	return b.probing || b.figures.known && now.Before(b.at.Add(window)) && b.figures.remaining-b.since-spare < 1
}

func (b *bucket) resetsAfter() time.Duration {
	if b.figures.resets > 0 {
		return b.figures.resets
	}
	return window
}

// send notes that a request is sent there; probe, that it finds something out.
func (b *bucket) send(now time.Time, lane Lane) (probe bool) {
	probe = b.mustProbe(now, lane)
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
