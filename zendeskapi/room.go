package zendeskapi

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// DefaultAnswerMemory is TransportConfig.AnswerMemory, in bytes, where that is 0.
	DefaultAnswerMemory = 128 << 20
	// MinAnswerMemory is the least that it may be.
	MinAnswerMemory = 64 << 20

	// What every answer takes from when it is read until it is decoded: what arrived, what unpacking it needs, the beginning
	// of its text, and the part that is looked at.
	answerBytes = 192 << 10

	// The most that a guest comes to hold: what a search keeps, and three pages of it with a large value each.
	guestBytes = MaxSearchBytes + concurrentPages*(answerBytes+maxValueBytes+maxOtherBytes+keptStep)

	// An answer up to this size waits for no turn: most are.
	smallAnswerBytes = 256 << 10
	// For so long, in bytes of text, a turn lasts at most while others wait: about 2 ms.
	turnBytes = 1 << 20
)

// room is the memory and the time of processors that the answers of all accounts share.
//
// Who finds no room waits, until its context is done. Memory: a tenant has at most half of it, and an account a quarter.
// Turns: all processors but one, with rests between them as long as nobody is pressed for time: what comes in masses is read
// in time and no faster, which leaves processors to others. Who goes first: the oldest guest of each account, then the second
// of each; and so among the tenants. What begins first ends first, so that the others wait no longer than they must, and no account or tenant waits
// for all that another has begun.
//
// It cannot come to a standstill: nobody waits for memory within a turn, and the guest that comes first gets its memory
// whatever the others hold. Room for that is set aside.
type room struct {
	memory int64 // bytes
	turns  int

	mu       sync.Mutex
	guests   []*guest // the oldest first
	waiting  []*wish
	reading  int           // turns that are taken, or rested from
	owed     time.Duration // rest that was too short to take
	held     int64
	byTenant map[string]int64
	byOwner  map[owner]int64
	mostHeld int64
}

// owner is whose answers share what an account may have.
type owner struct{ tenant, origin string }

// guest is a request, or a whole search, whose answers take room. It may be used concurrently.
type guest struct {
	room    *room
	owner   owner
	pressed time.Time // from when on its time runs short
	held    int64
	worked  time.Duration // in its turns
}

// wish is what a guest waits for.
type wish struct {
	guest   *guest
	bytes   int64 // 0: a turn
	entry   bool  // the first memory of an answer, for which more is set aside
	granted chan struct{}
}

func newRoom(memory int64, processors int) *room {
	return &room{
		memory: memory, turns: max(1, processors-1),
		byTenant: map[string]int64{}, byOwner: map[owner]int64{},
	}
}

// enter lets in a guest, who must leave, and has time until ctx ends.
func (r *room) enter(ctx context.Context, o owner) *guest {
	begun := time.Now()
	left := requestTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = deadline.Sub(begun)
	}
	g := &guest{room: r, owner: o, pressed: begun.Add(left / 2)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.guests = append(r.guests, g)
	return g
}

// leave gives back all that a guest holds. Repeated, it does nothing.
func (g *guest) leave() {
	r := g.room
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold(g, -g.held)
	r.guests = slices.DeleteFunc(r.guests, func(other *guest) bool { return other == g })
	r.grant()
}

var errNoRoom = errors.New("there is no memory for this now")

// take takes memory, when there is some: at once only, if now is set. Errors: the context's, or that time ran out; errNoRoom.
func (g *guest) take(ctx context.Context, bytes int64, entry, now bool) error {
	r := g.room
	r.mu.Lock()
	if s := sharesOf(r.memory, entry); len(r.waiting) == 0 && r.held+bytes <= s.all &&
		r.byTenant[g.owner.tenant]+bytes <= s.tenant && r.byOwner[g.owner]+bytes <= s.owner {
		r.hold(g, bytes)
		r.mu.Unlock()
		return nil
	}
	w := &wish{guest: g, bytes: bytes, entry: entry, granted: make(chan struct{})}
	r.waiting = append(r.waiting, w)
	r.grant()
	if now && !r.isGranted(w) {
		r.forget(w)
		r.mu.Unlock()
		return errNoRoom
	}
	r.mu.Unlock()
	return r.wait(ctx, w)
}

// giveBack gives back some of the memory.
func (g *guest) giveBack(bytes int64) {
	g.room.mu.Lock()
	defer g.room.mu.Unlock()
	g.room.hold(g, -min(bytes, g.held))
	g.room.grant()
}

// startTurn takes a turn, which must end. Errors: the context's, or that time ran out.
func (g *guest) startTurn(ctx context.Context) error {
	r := g.room
	r.mu.Lock()
	if len(r.waiting) == 0 && r.reading < r.turns {
		r.reading++
		r.mu.Unlock()
		return nil
	}
	w := &wish{guest: g, granted: make(chan struct{})}
	r.waiting = append(r.waiting, w)
	r.grant()
	r.mu.Unlock()
	return r.wait(ctx, w)
}

// endTurn ends a turn, of which so much was spent at work.
func (g *guest) endTurn(worked time.Duration) {
	r := g.room
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	pressed := slices.ContainsFunc(r.guests, func(g *guest) bool { return now.After(g.pressed) })
	unhurried := max(g.worked+worked-quickly, 0) - max(g.worked-quickly, 0)
	g.worked += worked
	var pause time.Duration
	if pause, r.owed = rest(r.owed, unhurried, pressed); pause > 0 {
		time.AfterFunc(pause, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.freeTurn()
		})
		return
	}
	r.freeTurn()
}

// freeTurn lets somebody else have a turn. The lock is held.
func (r *room) freeTurn() {
	r.reading--
	r.grant()
}

const (
	shortestRest = time.Millisecond // timers are not finer
	longestRest  = 10 * time.Millisecond
	// quickly is how much of a guest's work nobody rests for: the usual answer of some 60 KB is read in one go.
	quickly = 5 * time.Millisecond
)

// rest decides how long nobody takes a turn's place: twice as long as it was worked, where nobody is pressed for time.
// What is too short is owed.
func rest(owed, worked time.Duration, pressed bool) (pause, stillOwed time.Duration) {
	if pressed {
		return 0, 0
	}
	if owed += 2 * worked; owed < shortestRest {
		return 0, owed
	}
	return min(owed, longestRest), 0
}

func (r *room) isGranted(w *wish) bool { return !slices.Contains(r.waiting, w) }

func (r *room) forget(w *wish) {
	r.waiting = slices.DeleteFunc(r.waiting, func(other *wish) bool { return other == w })
}

// wait waits for a wish.
func (r *room) wait(ctx context.Context, w *wish) error {
	select {
	case <-w.granted:
		return nil
	default:
	}
	timer := time.NewTimer(requestTimeout) // for callers without a deadline
	defer timer.Stop()
	var err error
	select {
	case <-w.granted:
		return nil
	case <-timer.C:
		err = os.ErrDeadlineExceeded
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isGranted(w) {
		return nil // meanwhile
	}
	r.forget(w)
	r.grant() // what came behind it may fit
	return err
}

// hold changes what a guest holds.
func (r *room) hold(g *guest, bytes int64) {
	g.held += bytes
	r.held += bytes
	r.mostHeld = max(r.mostHeld, r.held)
	if r.byTenant[g.owner.tenant] += bytes; r.byTenant[g.owner.tenant] == 0 {
		delete(r.byTenant, g.owner.tenant)
	}
	if r.byOwner[g.owner] += bytes; r.byOwner[g.owner] == 0 {
		delete(r.byOwner, g.owner)
	}
}

// grant grants the wishes that can be.
func (r *room) grant() {
	if len(r.waiting) == 0 {
		return
	}
	order := inOrder(r.guests)
	rank := make(map[*guest]int, len(order))
	firstOfTenant, firstOfOwner := map[string]*guest{}, map[owner]*guest{}
	for i, g := range order {
		rank[g] = i
		if firstOfTenant[g.owner.tenant] == nil {
			firstOfTenant[g.owner.tenant] = g
		}
		if firstOfOwner[g.owner] == nil {
			firstOfOwner[g.owner] = g
		}
	}
	slices.SortStableFunc(r.waiting, func(a, b *wish) int { return cmp.Compare(rank[a.guest], rank[b.guest]) })
	full := map[bool]bool{} // by entry: who comes later does not overtake
	left := r.waiting[:0]
	for _, w := range r.waiting {
		g := w.guest
		granted := false
		if w.bytes == 0 {
			if granted = r.reading < r.turns; granted {
				r.reading++
			}
		} else {
			s := sharesOf(r.memory, w.entry)
			ownerFits := r.byOwner[g.owner]+w.bytes <= s.owner || firstOfOwner[g.owner] == g
			tenantFits := r.byTenant[g.owner.tenant]+w.bytes <= s.tenant || firstOfTenant[g.owner.tenant] == g
			if ownerFits && tenantFits {
				fits := !full[w.entry] && r.held+w.bytes <= s.all
				full[w.entry] = full[w.entry] || !fits
				granted = fits || order[0] == g
			}
			if granted {
				r.hold(g, w.bytes)
			}
		}
		if granted {
			close(w.granted)
		} else {
			left = append(left, w)
		}
	}
	clear(r.waiting[len(left):])
	r.waiting = left
}

// shares is how much memory may be held, in bytes.
type shares struct{ all, tenant, owner int64 }

// sharesOf sets aside what the first guest may need in any case, and an eighth for answers that begin, so that small ones
// need not wait for large ones.
func sharesOf(memory int64, entry bool) shares {
	all := memory - guestBytes
	s := shares{all: all - memory/8, tenant: memory / 2, owner: memory / 4}
	if entry {
		s = shares{all: all, tenant: s.tenant + memory/16, owner: s.owner + memory/16}
	}
	return s
}

// inOrder sorts guests, who come the oldest first, by who goes first: see room.
func inOrder(guests []*guest) []*guest {
	nth := func(sorted []*guest, key func(*guest) owner) []*guest {
		before, place := map[owner]int{}, make(map[*guest]int, len(sorted))
		for _, g := range sorted {
			place[g] = before[key(g)]
			before[key(g)]++
		}
		sorted = slices.Clone(sorted)
		slices.SortStableFunc(sorted, func(a, b *guest) int { return cmp.Compare(place[a], place[b]) })
		return sorted
	}
	byAccount := nth(guests, func(g *guest) owner { return g.owner })
	return nth(byAccount, func(g *guest) owner { return owner{tenant: g.owner.tenant} })
}
