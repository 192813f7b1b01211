package store

import (
	"context"
	"slices"
	"time"
)

// Deliveries are what was shown to the agent who has, or had last, the interaction.
type Deliveries struct {
	Agent string     `json:"agent"` // e-mail address, lower-case
	Visit int        `json:"visit"` // from 1; a new one each time that the interaction reaches another agent
	Items []Delivery `json:"items,omitempty"`
	// Earlier are those of earlier visits, oldest first. The newest are kept: 100 of them, and 32 KiB as stored.
	Earlier []Delivery `json:"earlier,omitempty"`
}

// NextVisit is what is known of deliveries when the interaction has reached another agent, to whom nothing has been shown yet.
func (d Deliveries) NextVisit(agent string) Deliveries {
	return Deliveries{Agent: agent, Visit: d.Visit + 1, Earlier: slices.Concat(d.Earlier, d.Items)}
}

// DeliveryOutcome is how a screen pop reached an agent.
type DeliveryOutcome int

// How a screen pop reaches an agent.
const (
	DeliveryDisplayed DeliveryOutcome = iota + 1 // Zendesk showed it
	DeliveryLink                                 // the agent's desktop is to open its URL
	DeliveryFailed                               // not at all
)

// Delivery is one screen pop as it was shown to an agent.
type Delivery struct {
	ID      string          `json:"id"` // the caller's; tells it from all others, so that a watcher knows what it has seen
	PopID   string          `json:"pop_id"`
	Agent   Agent           `json:"agent"`
	Outcome DeliveryOutcome `json:"outcome"`
	Failure *Failure        `json:"failure,omitempty"` // why it failed, or is only a link; nil: there is nothing to say
	Time    time.Time       `json:"time"`
}

// Delivered is a delivery in the list of an agent's latest.
type Delivered struct {
	InteractionID string    `json:"interaction_id"`
	Pop           ScreenPop `json:"pop"`
	Delivery
}

// RecentDeliveries is how long an agent's deliveries can be read.
const RecentDeliveries = time.Hour

// Bounds of an agent's list, and of what an interaction keeps of earlier visits, so that both fit a transaction beside the
// interaction's own deliveries and an answer. The oldest go first.
const (
	maxDelivered      = 200
	maxDeliveredBytes = 384 << 10
	maxEarlier        = 100
	maxEarlierBytes   = 32 << 10
)

// newest returns the last ones of a list that are within bounds, of number and of bytes as stored, and how many bytes those are.
func newest[T any](list []T, most, mostBytes int) (within []T, size int, err error) {
	first := len(list)
	for first > 0 && len(list)-first < most {
		item, err := encode(list[first-1])
		if err != nil {
			return nil, 0, err
		}
		if size+len(item) > mostBytes {
			break
		}
		size += len(item)
		first--
	}
	return list[first:], size, nil
}

// An agent's deliveries stand in two lists. The latest is written with each one that comes, and read by all who watch; what is older
// than latestFor leaves it for the other one, so many at a time.
const (
	latestFor   = 2 * time.Minute
	leaveAtOnce = 16
)

// divideLatest returns what leaves the latest deliveries, and what stays.
func divideLatest(latest []Delivered) (leave, stay []Delivered) {
	old, n := latest[len(latest)-1].Time.Add(-latestFor), 0
	for n < len(latest) && latest[n].Time.Before(old) {
		n++
	}
	if n < leaveAtOnce {
		n = 0
	}
	return latest[:n], latest[n:]
}

// since drops deliveries from before a time.
func since(at time.Time, list []Delivered) []Delivered {
	return slices.DeleteFunc(list, func(d Delivered) bool { return d.Time.Before(at) })
}

// Deliveries returns what was shown; zero when nothing was.
func (t *InteractionTxn) Deliveries() (d Deliveries, err error) {
	found, err := t.load(deliveriesKey(t.tenant, t.hashed), &d)
	if err == nil {
		err = t.checkPart("deliveries", func(p *parts) int { return p.Deliveries }, found, len(d.Items))
	}
	return d, err
}

// SetDeliveries replaces what was shown: some 300 KiB, as stored. The transaction is among the last that a quota refuses.
func (t *InteractionTxn) SetDeliveries(d Deliveries) {
	var err error
	if d.Earlier, _, err = newest(d.Earlier, maxEarlier, maxEarlierBytes); err != nil {
		t.fail(err)
		return
	}
	if t.change() {
		t.head.Parts.Deliveries = present(len(d.Items))
		t.last = true
		t.saveOf(&t.head.Sizes.Others, deliveriesKey(t.tenant, t.hashed), d)
	}
}

// NoteDelivered adds to an agent's latest deliveries, which those who watch the agent then read. Those of the last
// [RecentDeliveries] before the newest are kept, 200 of them and 384 KiB as stored: older ones go.
func (t *InteractionTxn) NoteDelivered(agent string, items ...Delivered) {
	if len(items) == 0 || !t.change() {
		return
	}
	hashed := t.vault.hashAgent(t.tenant, agent)
	if err := t.noteDelivered(hashed, items); err != nil {
		t.fail(err)
	}
}

func (t *InteractionTxn) noteDelivered(hashed string, items []Delivered) error {
	key := latestKey(t.tenant, hashed)
	var latest []Delivered
	found, err := t.load(key, &latest)
	if err != nil {
		return err
	}
	if !found {
		t.writing.due(t.now.Add(RecentDeliveries), dueAgent, hashed)
	}
	kept := items[len(items)-1].Time.Add(-RecentDeliveries)
	leave, stay := divideLatest(append(since(kept, latest), items...))
	within, size, err := newest(stay, maxDelivered, maxDeliveredBytes)
	if err != nil {
		return err
	}
	if err := t.writing.save(key, within); err != nil {
		return err
	}
	hasRoom := len(within) == len(stay) // for what is older
	if len(leave) == 0 && hasRoom {
		return nil
	}
	var older []Delivered
	found, err = t.load(olderKey(t.tenant, hashed), &older)
	if err != nil {
		return err
	}
	if !hasRoom {
		if found {
			t.writing.txn.Delete(olderKey(t.tenant, hashed))
		}
		return nil
	}
	older, _, err = newest(append(since(kept, older), leave...), maxDelivered-len(within), maxDeliveredBytes-size)
	if err != nil {
		return err
	}
	return t.writing.save(olderKey(t.tenant, hashed), older)
}

// DeliveredTo returns an agent's deliveries since a time, in the order in which they were noted; those of the last
// [RecentDeliveries] at most. It reads more the longer ago that is.
func (s *Store) DeliveredTo(ctx context.Context, tenant, agent string, from time.Time) ([]Delivered, error) {
	now, hashed := s.time(), s.vault.hashAgent(tenant, agent)
	var older, latest []Delivered
	err := s.look(ctx, tenant, func(r *reading) error {
		older, latest = nil, nil
		_, err := r.load(latestKey(tenant, hashed), &latest)
		if err == nil && from.Before(now.Add(-latestFor/2)) { // half of it is for clocks that differ
			_, err = r.load(olderKey(tenant, hashed), &older)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if kept := now.Add(-RecentDeliveries); from.Before(kept) {
		from = kept
	}
	list := since(from, append(older, latest...))
	if len(older) > 0 {
		list, _, err = newest(list, maxDelivered, maxDeliveredBytes)
	}
	return list, err
}

// WatchDelivered sends a token after an agent's deliveries have changed: take one, then look. Tokens are coalesced and may
// be spurious; no change after it returned is missed. The channel is closed when ctx ends or the store is closed.
func (s *Store) WatchDelivered(ctx context.Context, tenant, agent string) (<-chan struct{}, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, err
	}
	return s.engine.Watch(ctx, latestKey(tenant, s.vault.hashAgent(tenant, agent)))
}
