package store

import "fmt"

// parts is what an interaction's head knows of the other parts of the interaction, so that one that is missing, or is an
// older one, is no "nothing". Each counts the part's entries, plus one for the part itself; zero: there is no such part.
type parts struct {
	Data       int `json:"data,omitempty"`       // attached data
	Past       int `json:"past,omitempty"`       // changes of it that can be undone
	Pops       int `json:"pops,omitempty"`       // screen pops
	Deliveries int `json:"deliveries,omitempty"` // deliveries of the visit
	Replies    int `json:"replies,omitempty"`    // requests whose id is known, each a part of its own; uncounted in older data
}

const uncounted = -1

// sizes are the bytes of an interaction's parts but the head, keys and sealed values, so that who drops a range knows how many
// there were. They are about right: parts of older data are not in them, and of answers that made room for others it is not
// known exactly how large they were.
type sizes struct {
	Recordsets int64 `json:"recordsets,omitempty"`
	Replies    int64 `json:"replies,omitempty"`
	Others     int64 `json:"others,omitempty"`
}

func (s *sizes) all() int64 { return s.Recordsets + s.Replies + s.Others }

// free counts what was dropped of a part.
func (t *InteractionTxn) free(size *int64, n int64) {
	n = max(0, min(n, *size))
	*size -= n
	t.writing.txn.freed(headKey(t.tenant, t.hashed), n)
}

// countLive counts the interaction if it has begun or ceased to be a live one.
func (t *InteractionTxn) countLive() {
	live := t.head.State == InteractionActive
	if live == t.live {
		return
	}
	by := Usage{LiveInteractions: 1}
	if !live {
		by.LiveInteractions = -1
	}
	t.writing.txn.count(headKey(t.tenant, t.hashed), by)
}

// present is what stands in parts for a part of n entries.
func present(n int) int { return n + 1 }

// checkPart holds what was found of a part to what the head says of it.
func (t *InteractionTxn) checkPart(name string, stored func(*parts) int, found bool, n int) error {
	if t.head.Parts == nil && t.exists {
		return nil // the head was written before parts were counted
	}
	want, got := 0, 0
	if t.head.Parts != nil {
		want = stored(t.head.Parts)
	}
	if found {
		got = present(n)
	}
	switch {
	case got == want:
		return nil
	case got == 0:
		return missingPart("of the interaction, " + name)
	case want == 0:
		return fmt.Errorf("%s of the interaction: there should be none: %w", name, ErrDamaged)
	}
	return fmt.Errorf("%s of the interaction: %d entries, not the %d there should be: %w", name, got-1, want-1, ErrDamaged)
}

// missingPart says that something is not there which something else says exists.
func missingPart(what string) error { return fmt.Errorf("%s is missing: %w", what, ErrDamaged) }

// countParts fills in what a head does not say that was written before parts were counted.
func (t *InteractionTxn) countParts() error {
	if t.head.Parts != nil {
		return nil
	}
	if !t.exists {
		t.head.Parts = new(parts)
		return nil
	}
	counted := parts{Replies: uncounted}
	var data attachedData
	var pops []ScreenPop
	var deliveries Deliveries
	for _, part := range []struct {
		key   []byte
		into  any
		count func()
	}{
		{dataKey(t.tenant, t.hashed), &data, func() { counted.Data = present(len(data)) }},
		{popsKey(t.tenant, t.hashed), &pops, func() { counted.Pops = present(len(pops)) }},
		{deliveriesKey(t.tenant, t.hashed), &deliveries, func() { counted.Deliveries = present(len(deliveries.Items)) }},
	} {
		found, err := t.load(part.key, part.into)
		if err != nil {
			return err
		}
		if found {
			part.count()
		}
	}
	t.head.Parts = &counted
	return nil
}
