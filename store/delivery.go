package store

import (
	"context"
	"slices"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Deliveries are what was shown to the agent who has, or had last, the interaction.
type Deliveries struct {
	Agent string     `json:"agent"` // e-mail address, lower-case
	Visit int        `json:"visit"` // from 1; a new one each time that the interaction reaches another agent
	Items []Delivery `json:"items,omitempty"`
}

// Delivery is one screen pop as it was shown to an agent.
type Delivery struct {
	PopID   string    `json:"pop_id"`
	Outcome int32     `json:"outcome"` // the caller's
	Body    []byte    `json:"body"`    // the caller's
	Time    time.Time `json:"time"`
}

// Delivered is a delivery in the list of an agent's latest.
type Delivered struct {
	ID            string    `json:"id"` // the caller's; tells it from all others, so that a watcher knows what it has seen
	InteractionID string    `json:"interaction_id"`
	Body          []byte    `json:"body"` // the caller's
	Time          time.Time `json:"time"`
}

// RecentDeliveries is how long an agent's deliveries can be read.
const RecentDeliveries = 30 * time.Second

// Bounds of an agent's list, so that it fits a transaction beside the interaction's own. The oldest go first.
const (
	maxDelivered      = 200
	maxDeliveredBytes = kv.MaxTxnBytes * 3 / 8 // of the bodies; a third more when stored
)

// Deliveries returns what was shown; zero when nothing was.
func (t *InteractionTxn) Deliveries() (d Deliveries, err error) {
	_, err = t.load(deliveriesKey(t.tenant, t.id), &d)
	return d, err
}

// SetDeliveries replaces what was shown. All bodies have some 200 KiB together.
func (t *InteractionTxn) SetDeliveries(d Deliveries) {
	if t.change() {
		t.save(deliveriesKey(t.tenant, t.id), d)
	}
}

// NoteDelivered adds to an agent's latest deliveries, which those who watch the agent then read. The list holds those of
// the last [RecentDeliveries] before the newest, at most 200 of them and 384 KiB of bodies: older ones go.
func (t *InteractionTxn) NoteDelivered(agent string, items ...Delivered) {
	if len(items) == 0 || !t.change() {
		return
	}
	key := t.vault.agentKey(t.tenant, agent)
	var list []Delivered
	if _, err := t.load(key, &list); err != nil {
		t.fail(err)
		return
	}
	list = append(list, items...)
	since := items[len(items)-1].Time.Add(-RecentDeliveries)
	list = slices.DeleteFunc(list, func(d Delivered) bool { return d.Time.Before(since) })
	first, size := len(list), 0
	for first > 0 && len(list)-first < maxDelivered && size+len(list[first-1].Body) <= maxDeliveredBytes {
		first--
		size += len(list[first].Body)
	}
	t.save(key, list[first:])
}

// DeliveredTo returns an agent's deliveries of the last [RecentDeliveries], in the order in which they were noted.
func (s *Store) DeliveredTo(ctx context.Context, tenant, agent string) ([]Delivered, error) {
	var list []Delivered
	err := s.view(ctx, tenant, func(r *reading, _ kv.Reader) error {
		_, err := r.load(s.vault.agentKey(tenant, agent), &list)
		return err
	})
	if err != nil {
		return nil, err
	}
	since := s.time().Add(-RecentDeliveries)
	return slices.DeleteFunc(list, func(d Delivered) bool { return d.Time.Before(since) }), nil
}

// WatchDelivered sends a token after an agent's deliveries have changed: take one, then look. Tokens are coalesced and may
// be spurious; no change after it returned is missed. The channel is closed when ctx ends or the store is closed.
func (s *Store) WatchDelivered(ctx context.Context, tenant, agent string) (<-chan struct{}, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, err
	}
	return s.engine.Watch(ctx, s.vault.agentKey(tenant, agent))
}
