package limit

import (
	"context"
	"time"
)

const (
	// noticeEvery is how often, at most, others are told of one limit. That Zendesk refuses, they are told at once.
	noticeEvery = time.Second
	// tight is the part of a limit under which others are told how much is left.
	tight = .10
	// learnedLater is how much longer those wait who were only told that Zendesk refuses: who was refused finds out first whether
	// that is over.
	learnedLater = 500 * time.Millisecond
)

// Notice is what the replicas tell each other of a Zendesk's limit.
type Notice struct {
	Origin   string
	Endpoint string // whose limit it is; empty: that of all requests

	Pause  time.Duration // for which it refuses; 0: it does not
	UsedUp bool          // it refuses since the limit is used up: not merely takes no requests now

	Limit     int           // a minute; 0: nobody has told it, nor what remains
	Remaining int           // of it
	Resets    time.Duration // after which something remains again; 0: that is not known
}

// says notes what headers tell of it.
func (n *Notice) says(f figures) {
	if f.known {
		n.Limit, n.Remaining, n.Resets = f.limit, f.remaining, f.resets
	}
}

// shows tells that the limit is lower than what is believed: it is used up, and nobody has said so.
func (n *Notice) shows() bool { return n.UsedUp && (n.Limit == 0 || n.Remaining > 0) }

// news is what the other replicas are to be told of a limit.
type news struct {
	notice Notice
	at     time.Time // when Notice was true
	told   time.Time // when they were last told
	until  time.Time // when what they were told ends that it refuses
}

// due says when to tell it.
func (n *news) due() time.Time {
	if n.notice.Pause > 0 && n.at.Add(n.notice.Pause).After(n.until.Add(noticeEvery)) {
		return n.at
	}
	return later(n.at, n.told.Add(noticeEvery))
}

// Share tells how many replicas there are, this one included, that share the limits. At first it is one.
func (g *Governor) Share(replicas int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peers = max(0, replicas-1)
	for _, z := range g.zendesks {
		z.ledger.peers = g.peers
	}
}

// Learned waits until answers have taught something that the other replicas are to [Governor.Learn]: it is nil only when ctx
// has ended. Of one limit that is at most about one notice a second.
func (g *Governor) Learned(ctx context.Context) []Notice {
	for {
		notices, next := g.takeNews()
		if len(notices) > 0 {
			return notices
		}
		timer := time.NewTimer(next)
		select {
		case <-g.learned:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// takeNews returns what is to be told now, and after what time to look again, unless something new is learned before.
func (g *Governor) takeNews() (notices []Notice, next time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.config.Now()
	next = time.Hour
	for n := range g.untold {
		if wait := n.due().Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		notice := n.notice
		if notice.Pause > 0 {
			n.until = n.at.Add(notice.Pause)
			notice.Pause = max(0, n.until.Sub(now))
		}
		n.told = now
		delete(g.untold, n)
		if notice.Pause > 0 || notice.Limit > 0 {
			notices = append(notices, notice)
		}
	}
	return notices, next
}

// tell notes what the other replicas are to be told.
func (g *Governor) tell(z *zendesk, now time.Time, n Notice) {
	if g.peers == 0 || n.Pause <= 0 && n.Limit == 0 {
		return
	}
	one := z.newsOf(n.Endpoint)
	if _, waits := g.untold[one]; waits && n.Pause < one.at.Add(one.notice.Pause).Sub(now) {
		n.Pause, n.UsedUp = one.at.Add(one.notice.Pause).Sub(now), one.notice.UsedUp
	}
	if n.Pause <= 0 && float64(n.Remaining) >= tight*float64(n.Limit) {
		delete(g.untold, one)
		return
	}
	one.notice, one.at = n, now
	g.untold[one] = struct{}{}
	select {
	case g.learned <- struct{}{}:
	default:
	}
}

func (z *zendesk) newsOf(endpoint string) *news {
	one := z.news[endpoint]
	if one == nil {
		one = new(news)
		z.news[endpoint] = one
	}
	return one
}

// Learn takes in what another replica has learned, a moment ago.
func (g *Governor) Learn(n Notice) {
	g.mu.Lock()
	defer g.mu.Unlock()
	z, now := g.zendesk(n.Origin), g.config.Now()
	z.used = now
	one := z.newsOf(n.Endpoint)
	one.told = now // by another
	if n.Pause <= 0 || n.Endpoint != "" {
		z.learn(now, n.Endpoint, figures{known: n.Limit > 0, limit: n.Limit, remaining: n.Remaining, resets: n.Resets})
	}
	if n.Pause > 0 {
		one.until = later(one.until, now.Add(n.Pause))
		if until := now.Add(n.Pause + learnedLater); n.Endpoint == "" {
			z.ledger.refuse(now, until, n.shows())
		} else {
			z.refuse(now, n.Endpoint, until, n.shows())
		}
	}
	g.dispatch(z)
}

// learn takes in figures that another replica was told. Who was told some of late knows better.
func (z *zendesk) learn(now time.Time, endpoint string, f figures) {
	if !f.known {
		return
	}
	if endpoint != "" {
		if b := z.endpoint(endpoint); now.Sub(b.at) >= noticeEvery {
			b.tell(now, f)
		}
		return
	}
	if l := &z.ledger; now.Sub(l.toldAt) >= noticeEvery {
		l.sent.until(now)
		l.tell(now, f, l.begunCount-l.inFlight, l.sent.recent()-l.inFlight)
	}
}
