package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Selection is how an account was chosen.
type Selection int

// How an account is chosen.
const (
	Selected Selection = iota + 1 // by name or id
	Default                       // as the tenant's default
	Named                         // by who completed the interaction
)

// AccountUse is what an interaction, a recordset or a screen pop remembers of an account.
type AccountUse struct {
	AccountID   string    `json:"account_id"`
	Incarnation string    `json:"incarnation"` // of the account then: AccountOf finds no other
	Name        string    `json:"name"`        // then
	URL         string    `json:"url"`         // an account's never changes
	Selection   Selection `json:"selection"`
}

// AccountState is what an interaction's blocks are to do for an account.
type AccountState int

// States of an interaction's account.
const (
	AccountUnset   AccountState = iota // none was needed yet
	AccountInForce                     // use this one
	AccountCleared                     // one was to be selected, in vain: use none
)

// InteractionState is where an interaction is in its life.
type InteractionState int

// States of an interaction.
const (
	InteractionActive    InteractionState = iota
	InteractionCompleted                  // it has an activity
	InteractionExpired                    // it was left alone while active; only its times are left
)

// RecordType is a kind of Zendesk record, or of a page to show.
type RecordType int

// Kinds of records and pages.
const (
	RecordTicket RecordType = iota + 1
	RecordUser
	RecordOrganization
	RecordGroup
	RecordOther     // any other kind of search result
	RecordNewTicket // the page for a new ticket
	RecordSearch    // the search page, where the agent picks
)

// ScreenPop is a page to show to the agent.
type ScreenPop struct {
	ID         string     `json:"id"`
	Account    AccountUse `json:"account"`
	RecordType RecordType `json:"type"`
	RecordID   string     `json:"record_id,omitempty"`
	URL        string     `json:"url"`
	CreateTime time.Time  `json:"create_time"`
}

// interactionHead is the stored form of what every transaction of an interaction reads, and each that changes something
// writes: so they are serial.
type interactionHead struct {
	ID           string       `json:"id"` // empty: it was erased
	CreateTime   time.Time    `json:"create_time"`
	UpdateTime   time.Time    `json:"update_time"`
	AccountState AccountState `json:"account_state,omitempty"`
	Account      AccountUse   `json:"account,omitzero"`
	Recordsets   []string     `json:"recordsets,omitempty"`    // their names, sorted
	LastSearched string       `json:"last_searched,omitempty"` // the recordset published last

	State      InteractionState `json:"state,omitempty"`
	ActivityID string           `json:"activity_id,omitempty"` // of a completed one
	Stripped   bool             `json:"stripped,omitempty"`    // only this head is left, and what is known of requests
	StripTime  time.Time        `json:"strip_time,omitzero"`   // since when; zero of older ones
	// ActivityGone says that the activity has aged out, before the interaction was forgotten.
	ActivityGone bool `json:"activity_gone,omitempty"`
	// Erasing says that the answers to its requests are being erased.
	Erasing bool `json:"erasing,omitempty"`

	Created    []CreatedRecord `json:"created,omitempty"` // by their names
	CallTicket CallTicket      `json:"call_ticket,omitzero"`

	Parts       *parts `json:"parts,omitempty"`        // nil: written before parts were counted
	Answers     int64  `json:"answers,omitempty"`      // bytes of all answers that were kept, as they are stored
	DataVersion uint64 `json:"data_version,omitempty"` // grows with each change of the attached data
	DataShown   bool   `json:"data_shown,omitempty"`   // attached data belong to an answer that was kept
	Sizes       sizes  `json:"sizes,omitzero"`
}

func (h *interactionHead) copyInto(other *interactionHead) {
	*other = *h
	other.Recordsets, other.Created = slices.Clone(h.Recordsets), slices.Clone(h.Created)
	if h.Parts != nil {
		other.Parts = new(*h.Parts)
	}
}

// CreatedRecord is a record that a block has made, under the name by which later settings refer to its id.
type CreatedRecord struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// CallTicket is the ticket that is made for the interaction to be popped.
type CallTicket struct {
	Account AccountUse `json:"account,omitzero"` // zero: none is, or was tried to be made
	ID      string     `json:"id,omitempty"`     // empty: it is not known whether it was made
}

// attachedData is the stored form of attached data: as bytes, a value of any characters grows by no more than a third.
type attachedData map[string][]byte

func attachedBytes(texts map[string]string) attachedData {
	data := make(attachedData, len(texts))
	for key, text := range texts {
		data[key] = []byte(text)
	}
	return data
}

func (d attachedData) texts() map[string]string {
	texts := make(map[string]string, len(d))
	for key, value := range d {
		texts[key] = string(value)
	}
	return texts
}

// InteractionTxn is a transaction on one interaction. It reads what it wrote. It is valid until the function that it is
// passed to returns, and for one goroutine.
//
// Where a method returns no error and fails all the same, the transaction fails, whatever the function returns.
type InteractionTxn struct {
	reading
	id      string
	hashed  string    // what stands for the id in keys
	now     time.Time // of an update
	doubt   bool      // the store was restored of late
	over    time.Time // when what ends now has ended, by the clock of the sweep
	writing *writing  // nil in a view
	err     error     // the first one that no method returned

	head     interactionHead
	exists   bool
	headSize int64 // as it was stored, with its key
	live     bool  // it was there before, and active
	changed  bool
	last     bool // it is refused last at a quota
	pops     []ScreenPop
	popsGot  bool
	sets     map[string]*storedRecordset // those read or written, by name
}

// UpdateInteraction runs fn in a transaction on an interaction, whose error comes back as it is and undoes everything. fn
// may run several times, and what it did last counts: it assigns to captured variables and never appends, waits for
// nothing, and calls no method of the Store. An interaction that does not exist is created when fn changes something.
// Errors: [*QuotaError].
func (s *Store) UpdateInteraction(ctx context.Context, tenant, id string, fn func(*InteractionTxn) error) error {
	if err := s.loadUsage(ctx, tenant); err != nil {
		return err
	}
	now, hashed := s.time(), s.vault.hashInteraction(tenant, id)
	over := s.changeTime(now, time.Time{})
	return s.update(ctx, tenant, func(w *writing) error {
		t := &InteractionTxn{reading: w.reading, id: id, hashed: hashed, now: now, over: over, doubt: s.restored.recently(now), writing: w}
		if err := t.loadHead(); err != nil {
			return err
		}
		err := fn(t)
		if err := cmp.Or(t.err, err); err != nil || !t.changed {
			return err
		}
		if !t.exists {
			t.head.CreateTime = now
			w.due(now.Add(s.lives.idle), dueInteraction, hashed)
		}
		t.head.ID = id // also of one that was erased, and is used again
		t.head.UpdateTime, t.head.Stripped, t.head.StripTime = s.changeTime(now, t.head.UpdateTime), false, time.Time{}
		t.countLive()
		if err := saveKnown(w, headKey(tenant, hashed), &t.head); err != nil {
			return err
		}
		return s.counter.admit(tenant, 0, demand{w.txn.total(), t.last})
	})
}

// ViewInteraction runs fn on a snapshot of an interaction, with the same rules. Setters make it fail.
func (s *Store) ViewInteraction(ctx context.Context, tenant, id string, fn func(*InteractionTxn) error) error {
	return s.view(ctx, tenant, func(r *reading, _ kv.Reader) error {
		t := InteractionTxn{reading: *r, id: id, hashed: s.vault.hashInteraction(tenant, id)}
		if err := t.loadHead(); err != nil {
			return err
		}
		err := fn(&t)
		return cmp.Or(t.err, err)
	})
}

func (t *InteractionTxn) loadHead() (err error) {
	t.exists, err = loadKnown(&t.reading, headKey(t.tenant, t.hashed), &t.head)
	if t.writing != nil {
		t.headSize = int64(t.writing.txn.sizes[string(headKey(t.tenant, t.hashed))])
	}
	t.live = t.exists && t.head.State == InteractionActive
	return err
}

var errReadOnly = errors.New("a view of an interaction changes nothing")

// change announces a change, and reports whether it may be made.
func (t *InteractionTxn) change() bool {
	if t.writing == nil {
		t.fail(errReadOnly)
		return false
	}
	if err := t.countParts(); err != nil {
		t.fail(err)
	}
	t.changed = true
	return t.err == nil
}

func (t *InteractionTxn) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Exists reports whether the interaction was there before the transaction.
func (t *InteractionTxn) Exists() bool { return t.exists }

// CreateTime returns when the interaction first changed; zero if it does not exist.
func (t *InteractionTxn) CreateTime() time.Time { return t.head.CreateTime }

// UpdateTime returns when the interaction last changed, not counting this transaction; zero if it does not exist.
func (t *InteractionTxn) UpdateTime() time.Time { return t.head.UpdateTime }

// State returns where the interaction is in its life; one that does not exist is active.
func (t *InteractionTxn) State() InteractionState { return t.head.State }

// ActivityID returns the id of a completed interaction's activity; empty if there is none.
func (t *InteractionTxn) ActivityID() string { return t.head.ActivityID }

// LastSearched returns the name of the recordset published last; empty if there is none.
func (t *InteractionTxn) LastSearched() string { return t.head.LastSearched }

// Account returns the interaction's account; use is zero unless the state is AccountInForce.
func (t *InteractionTxn) Account() (use AccountUse, state AccountState) {
	return t.head.Account, t.head.AccountState
}

// SetAccount puts an account in force.
func (t *InteractionTxn) SetAccount(use AccountUse) {
	if t.change() {
		t.head.Account, t.head.AccountState = use, AccountInForce
	}
}

// ClearAccount leaves the interaction without an account: AccountCleared.
func (t *InteractionTxn) ClearAccount() {
	if t.change() {
		t.head.Account, t.head.AccountState = AccountUse{}, AccountCleared
	}
}

// Created returns the id of a record under the name that it was created with.
func (t *InteractionTxn) Created(name string) (id string, found bool) {
	at, found := t.created(name)
	if !found {
		return "", false
	}
	return t.head.Created[at].ID, true
}

// CreatedNames is how many names SetCreated has given.
func (t *InteractionTxn) CreatedNames() int { return len(t.head.Created) }

// SetCreated gives a record that was created a name, which another one may have had. The caller bounds how many there are: they
// are read with the interaction.
func (t *InteractionTxn) SetCreated(name, id string) {
	if !t.change() {
		return
	}
	at, found := t.created(name)
	if !found {
		t.head.Created = slices.Insert(t.head.Created, at, CreatedRecord{Name: name})
	}
	t.head.Created[at].ID = id
}

func (t *InteractionTxn) created(name string) (at int, found bool) {
	return slices.BinarySearchFunc(t.head.Created, name, func(r CreatedRecord, name string) int { return cmp.Compare(r.Name, name) })
}

// CallTicket returns the ticket that was made for the interaction to be popped.
func (t *InteractionTxn) CallTicket() CallTicket { return t.head.CallTicket }

// SetCallTicket notes that a ticket is made for the interaction to be popped, or that it was.
func (t *InteractionTxn) SetCallTicket(made CallTicket) {
	if t.change() {
		t.head.CallTicket = made
	}
}

// ScreenPops returns the screen pops, oldest first.
func (t *InteractionTxn) ScreenPops() ([]ScreenPop, error) {
	if !t.popsGot {
		found, err := t.load(popsKey(t.tenant, t.hashed), &t.pops)
		if err == nil {
			err = t.checkPart("screen pops", func(p *parts) int { return p.Pops }, found, len(t.pops))
		}
		if err != nil {
			return nil, err
		}
		t.popsGot = true
	}
	return slices.Clone(t.pops), nil
}

// AddScreenPop notes a screen pop; the caller has looked for one that is the same. All of an interaction's have some
// 700 KiB together.
func (t *InteractionTxn) AddScreenPop(pop ScreenPop) {
	if !t.change() {
		return
	}
	pops, err := t.ScreenPops()
	if err != nil {
		t.fail(err)
		return
	}
	t.pops = append(pops, pop)
	t.head.Parts.Pops = present(len(t.pops))
	t.saveOf(&t.head.Sizes.Others, popsKey(t.tenant, t.hashed), t.pops)
}

// dropAll drops parts, each with all that stands below it.
func (t *InteractionTxn) dropAll(names ...string) {
	for _, name := range names {
		keys := interactionKey(t.tenant, t.hashed, name)
		t.writing.txn.DeleteRange(keys, kv.PrefixEnd(keys))
	}
}

// save writes a value; only after change has agreed.
func (t *InteractionTxn) save(key []byte, from any) {
	if err := t.writing.save(key, from); err != nil {
		t.fail(err)
	}
}

// saveOf is save for a part of the interaction, whose size it keeps.
func (t *InteractionTxn) saveOf(size *int64, key []byte, from any) {
	before := t.writing.txn.grown
	t.save(key, from)
	*size += t.writing.txn.grown - before
}
