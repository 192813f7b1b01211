package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// ActivityState is where an activity is in its life.
type ActivityState int

// States of an activity.
const (
	ActivityPending   ActivityState = iota + 1 // to be written
	ActivityWritten                            // in Zendesk
	ActivitySkipped                            // there was no ticket, and none was wanted
	ActivityDead                               // refused for good; a person decides
	ActivityDiscarded                          // a person decided that it need not be written
)

// TicketRule is how an activity's ticket was chosen.
type TicketRule int

// How a ticket is chosen.
const (
	TicketRequested      TicketRule = iota + 1 // a caller named it
	TicketPopped                               // it was popped last
	TicketCurrentRecord                        // it was the current record of the recordset searched last
	TicketCreated                              // there was none, and one is made
	TicketNone                                 // there was none, and none was wanted
	TicketFollowUp                             // the chosen one was closed, and a follow-up to it is made
	TicketMerged                               // the chosen one was merged into another
	TicketNewestUnsolved                       // the requester's newest unsolved one, which is chosen when it is written
)

// Agent is a Zendesk agent.
type Agent struct {
	Email         string `json:"email,omitempty"`           // as the caller compares it
	ZendeskUserID string `json:"zendesk_user_id,omitempty"` // decimal digits; empty: not known
}

// Requester is a person who asks for something.
type Requester struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	Phone string `json:"phone,omitempty"`
}

// CompletionStatus is how an interaction ended, by the numbers of the API, also those that this version does not know.
type CompletionStatus int

// How an interaction ends.
const (
	CompletionCompleted   CompletionStatus = iota + 1 // it was handled to its end
	CompletionMissed                                  // nobody answered
	CompletionAbandoned                               // the caller left before
	CompletionVoicemail                               // the caller left a message
	CompletionTransferred                             // it was passed on to somebody who does not work here
	CompletionFailed                                  // it broke off
)

// Link leads to something about an interaction.
type Link struct {
	Title string // empty: the address stands for itself
	URL   string // as it was said, also if it is none
}

// Leg is the part of an interaction that one agent handled.
type Leg struct {
	Agent     Agent
	StartTime time.Time
	EndTime   time.Time
}

// ActivityDetails is what was said of an interaction when it was completed. Zero fields: nothing was.
type ActivityDetails struct {
	Subject      string    `json:"subject,omitempty"`
	Channel      string    `json:"channel,omitempty"`
	Direction    string    `json:"direction,omitempty"`
	FromAddress  string    `json:"from_address,omitempty"`
	ToAddress    string    `json:"to_address,omitempty"`
	Agent        Agent     `json:"agent,omitzero"`
	Service      string    `json:"service,omitempty"`
	Disposition  string    `json:"disposition,omitempty"`
	Notes        string    `json:"-"`
	Transcript   string    `json:"-"`
	RecordingURL string    `json:"recording_url,omitempty"`
	StartTime    time.Time `json:"start_time,omitzero"`
	AnswerTime   time.Time `json:"answer_time,omitzero"`
	EndTime      time.Time `json:"end_time,omitzero"`
	Requester    Requester `json:"requester,omitzero"`
	Remark       string    `json:"remark,omitempty"` // what of it could not be kept as it was; for people

	CompletionStatus CompletionStatus `json:"completion_status,omitempty"`
	Links            []Link           `json:"-"`
	Legs             []Leg            `json:"-"`
	// Durations are nil when nothing was said of them, and may be below 0.
	QueueDuration  *time.Duration `json:"queue_duration,omitempty"`
	HoldDuration   *time.Duration `json:"hold_duration,omitempty"`
	TalkDuration   *time.Duration `json:"talk_duration,omitempty"`
	WrapUpDuration *time.Duration `json:"wrap_up_duration,omitempty"`
}

// Activity is the record of a completed interaction, as it is to stand in Zendesk, and how far its writing has come.
//
// One transaction has room for 256 KiB of attached data, 64 KiB of notes, as much transcript, 160 KiB of links and legs, 8 KiB
// of other details and a Rejected for each of 200 keys.
type Activity struct {
	ID            string            `json:"id"` // from NewActivityID, made of CreateTime
	InteractionID string            `json:"interaction_id"`
	Fingerprint   []byte            `json:"fingerprint"`      // of the request that completed the interaction
	Account       AccountUse        `json:"account,omitzero"` // zero: none
	Details       ActivityDetails   `json:"details,omitzero"`
	AttachedData  map[string]string `json:"-"`

	TicketID    string     `json:"ticket_id,omitempty"` // decimal digits; empty: none yet, or none at all
	TicketRule  TicketRule `json:"ticket_rule"`
	Create      bool       `json:"create,omitempty"`       // make a ticket where there is none, or a follow-up to a closed one
	FollowUpOf  string     `json:"follow_up_of,omitempty"` // the closed ticket that TicketID follows up, or the one to be made is to
	RequesterID string     `json:"requester_id,omitempty"` // of a ticket that is made; empty: as the details say
	// MaxTicketAge is how long ago the ticket may have changed at most that is chosen when it is written; 0: none is. While the
	// rule is TicketNewestUnsolved and TicketID is empty none has been.
	MaxTicketAge time.Duration `json:"max_ticket_age,omitempty"`

	// Place orders the pending activities of one ticket, which is TicketID at Account.URL, whichever account it is reached
	// by: the lower is written first. Set by the store; it grows, with gaps. Zero while there is no ticket.
	Place uint64 `json:"place,omitempty"`
	// Previous is the id of the activity that had the last place of the ticket before; empty if there was none. It may have
	// got a later place, another ticket, or been removed since.
	Previous string `json:"previous,omitempty"`

	State ActivityState `json:"state"`
	// PendingSince is since when it waits to be written; zero while it does not, and in older data. Set by the store, when it becomes
	// pending or gets another ticket, and when a change of UpdateActivity makes it zero, so that whoever writes it looks at it anew.
	PendingSince time.Time `json:"pending_since,omitzero"`

	// Trying names a try that may be writing it now, and is over when the process that writes the activities of the account's shard is
	// another one; empty: there is none. Set where several processes work on the data.
	Trying string `json:"trying,omitempty"`

	// Restored says that it comes from a backup, or was made soon after one was restored: it may have been written meanwhile, to
	// its ticket or any other. Look for its mark wherever it is to be written, and whether a ticket was made with it.
	Restored bool `json:"restored,omitempty"`

	// Begun are the tickets that a write has been begun to whose outcome is not known, one each: look for its mark there
	// before writing again.
	Begun []BegunWrite `json:"begun_writes,omitempty"`
	// MergedFrom are the tickets that it was to be written to before each was seen to be merged into the next.
	MergedFrom []string `json:"merged_from,omitempty"`
	// FieldWaits is how often it was put off because the definitions of the ticket's fields could not be read.
	FieldWaits int `json:"field_waits,omitempty"`
	// Refusals counts the failures that were the ticket's own, while other tickets of the account got through.
	Refusals int `json:"refusals,omitempty"`

	Attempts    int        `json:"attempts,omitempty"`
	NextAttempt time.Time  `json:"next_attempt,omitzero"`
	Failure     *Failure   `json:"failure,omitempty"` // of the last try; nil: it did not fail, or there was none
	AuditID     string     `json:"audit_id,omitempty"`
	Rejected    []Rejected `json:"rejected,omitempty"`
	CreateTime  time.Time  `json:"create_time"`
	WriteTime   time.Time  `json:"write_time,omitzero"`
}

// BegunWrite is stored before a write is sent to a ticket. From then on it may have taken effect although nobody saw it
// answered.
type BegunWrite struct {
	ID       string    `json:"id"`                  // of the last try that began one; only that try takes it away
	TicketID string    `json:"ticket_id,omitempty"` // empty: the creation of one
	Time     time.Time `json:"time,omitzero"`       // of the last one, by the clock of this machine
	// Since is when the ticket was changed last before the first one, by Zendesk's clock: what the write did is not older.
	// Zero: not known.
	Since time.Time `json:"since,omitzero"`
	// Earlier says that the outcome of one before the last is not known either.
	Earlier bool `json:"earlier,omitempty"`
}

// Rejected is attached data that no field of the ticket took.
type Rejected struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// storedActivity is the stored form of an activity.
type storedActivity struct {
	Activity
	// Parts of Details, and AttachedData; as bytes, a text of any characters grows by no more than a third. In memory they are
	// where they belong.
	Notes      []byte       `json:"notes,omitempty"`
	Transcript []byte       `json:"transcript,omitempty"`
	Links      []storedLink `json:"links,omitempty"`
	Legs       []storedLeg  `json:"legs,omitempty"`
	Data       attachedData `json:"data,omitempty"`

	// EndTime is when it became WRITTEN, SKIPPED or DISCARDED; zero while it is none of these, and in older data.
	EndTime time.Time `json:"end_time,omitzero"`

	WasBegun bool `json:"begun,omitempty"` // how Begun was stored once: a write to TicketID
}

type storedLink struct {
	Title []byte `json:"title,omitempty"`
	URL   []byte `json:"url,omitempty"`
}

type storedLeg struct {
	Email     []byte    `json:"email,omitempty"`
	UserID    []byte    `json:"zendesk_user_id,omitempty"`
	StartTime time.Time `json:"start_time,omitzero"`
	EndTime   time.Time `json:"end_time,omitzero"`
}

// fold fills in what is stored in another form.
func (a *storedActivity) fold() {
	d := &a.Details
	a.Data, a.Notes, a.Transcript, a.Links, a.Legs = attachedBytes(a.AttachedData), []byte(d.Notes), []byte(d.Transcript), nil, nil
	for _, link := range d.Links {
		a.Links = append(a.Links, storedLink{[]byte(link.Title), []byte(link.URL)})
	}
	for _, leg := range d.Legs {
		a.Legs = append(a.Legs, storedLeg{[]byte(leg.Agent.Email), []byte(leg.Agent.ZendeskUserID), leg.StartTime, leg.EndTime})
	}
}

// unfold is fold the other way.
func (a *storedActivity) unfold() {
	d := &a.Details
	a.AttachedData, d.Notes, d.Transcript, d.Links, d.Legs = a.Data.texts(), string(a.Notes), string(a.Transcript), nil, nil
	for _, link := range a.Links {
		d.Links = append(d.Links, Link{string(link.Title), string(link.URL)})
	}
	for _, leg := range a.Legs {
		d.Legs = append(d.Legs, Leg{Agent{string(leg.Email), string(leg.UserID)}, leg.StartTime, leg.EndTime})
	}
}

// over reports whether nothing is to be done about an activity in the state any more: it ages out.
func (s ActivityState) over() bool {
	return s == ActivityWritten || s == ActivitySkipped || s == ActivityDiscarded
}

// ended is when an activity that is over came to be that; zero: not known.
func (a *storedActivity) ended() time.Time {
	switch {
	case !a.EndTime.IsZero():
		return a.EndTime
	case a.State == ActivityWritten:
		return a.WriteTime
	case a.State == ActivitySkipped:
		return a.CreateTime
	}
	return time.Time{}
}

// NewActivityID returns a random id that sorts behind those made of earlier times: 27 lower-case letters and digits.
func NewActivityID(now time.Time) string {
	return activityIDStart(now) + strings.ToLower(rand.Text()[:10])
}

// activityIDStart is what ids of a microsecond begin with.
func activityIDStart(at time.Time) string { return "a" + kv.Time(at) }

// activityIDTime is the time that an id was made of, to the microsecond; zero, when it was made of none.
func activityIDTime(id string) time.Time {
	digits := len(activityIDStart(time.Time{}))
	if len(id) < digits {
		return time.Time{}
	}
	at, err := kv.ParseTime(id[1:digits])
	if err != nil {
		return time.Time{}
	}
	return at
}

// plainActivity is the largest JSON of an activity that is stored as it is. Texts of many characters that JSON escapes would leave
// no room in a transaction: such is packed.
const plainActivity = 64 << 10

func (v *vault) openActivity(key, sealed []byte) (a storedActivity, err error) {
	value, err := v.open(key, sealed)
	if err != nil {
		return storedActivity{}, err
	}
	if isPacked(value) {
		if value, err = unpack(value); err != nil {
			return storedActivity{}, err
		}
	}
	if err := decode(value, &a); err != nil {
		return storedActivity{}, err
	}
	a.unfold()
	if a.WasBegun {
		a.Begun, a.WasBegun = append(a.Begun, BegunWrite{TicketID: a.TicketID}), false
	}
	return a, nil
}

func (r *reading) activity(id string) (storedActivity, error) {
	key := activityKey(r.tenant, id)
	values, err := r.kv.Get(key)
	if err == nil && values[0] == nil {
		err = fmt.Errorf("activity %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return storedActivity{}, err
	}
	return r.vault.openActivity(key, values[0])
}

// rows are the activity's keys in the indexes; the first is that of all activities in its state.
func (a *Activity) rows(tenant string) [][]byte {
	reason := FailureReason("")
	if a.Failure != nil {
		reason = a.Failure.Reason
	}
	rows := [][]byte{activityRow(activityIndex(tenant, "", a.State), a.ID, reason)}
	if a.Account.AccountID != "" {
		rows = append(rows, activityRow(activityIndex(tenant, a.Account.AccountID, a.State), a.ID, reason))
	}
	if a.State == ActivityPending {
		rows = append(rows, pendingKey(tenant, a))
	}
	return rows
}

// waits notes since when an activity waits that is changed: was is since when it did before, and anew that it is to be looked at.
func (a *Activity) waits(was, now time.Time, anew bool) {
	switch {
	case a.State != ActivityPending:
		a.PendingSince = time.Time{}
	case anew || a.PendingSince.IsZero():
		a.PendingSince = now
		if earliest := was.Add(time.Microsecond); !was.IsZero() && now.Before(earliest) {
			a.PendingSince = earliest // another row than before, or nobody would look
		}
	default:
		a.PendingSince = was
	}
}

// saveActivity stores an activity, and its rows in place of those that it had in the state it was in; zero: it is new.
func (w *writing) saveActivity(a *storedActivity, was ActivityState, had [][]byte, now time.Time) error {
	if a.State < ActivityPending || a.State > ActivityDiscarded {
		return fmt.Errorf("activity %q: there is no state %d", a.ID, a.State)
	}
	rows := a.rows(w.tenant)
	w.deleteRows(had, rows)
	for _, row := range rows {
		if !containsKey(had, row) {
			w.txn.Put(row, nil)
		}
	}
	if a.State != was {
		w.txn.became(&a.Activity)
		w.countActivity(was, had, -1)
		w.countActivity(a.State, rows, 1)
		if a.EndTime = (time.Time{}); a.State.over() {
			a.EndTime = now
		}
	}
	value, err := a.value()
	if err != nil {
		return err
	}
	return w.put(activityKey(w.tenant, a.ID), value)
}

// value is what is stored of an activity.
func (a *storedActivity) value() ([]byte, error) {
	a.fold()
	value, err := encode(a)
	if err == nil && len(value) > plainActivity {
		value = pack(value)
	}
	return value, err
}

// countActivity counts one that has come to a state, or has left it, with these rows.
func (w *writing) countActivity(state ActivityState, rows [][]byte, by int64) {
	switch state {
	case ActivityPending:
		w.txn.count(rows[0], Usage{PendingActivities: by})
	case ActivityDead:
		w.txn.count(rows[0], Usage{DeadActivities: by})
	}
}

func (w *writing) deleteRows(rows, but [][]byte) {
	for _, row := range rows {
		if !containsKey(but, row) {
			w.txn.Delete(row)
		}
	}
}

func containsKey(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

// enqueue gives a pending activity a place behind all others of its ticket.
func (w *writing) enqueue(a *Activity, now time.Time) error {
	if a.State != ActivityPending {
		return nil
	}
	if a.TicketID == "" {
		a.Place, a.Previous = 0, ""
		return nil
	}
	hashed := w.vault.hashTicket(w.tenant, a.Account.URL, a.TicketID)
	key := kv.Key(w.tenant, "t", hashed)
	var last lastPlace
	found, err := w.load(key, &last)
	if err != nil {
		return err
	}
	if !found {
		w.due(now.Add(placeLife), dueTicket, hashed)
	}
	// Places start at the time, so that they go on growing after the sweep has dropped the last one.
	a.Place = max(last.Place+1, uint64(max(now.UnixMicro(), 0)))
	if last.ActivityID != a.ID { // else it was the last already: what was before it still is
		a.Previous = last.ActivityID
	}
	return w.save(key, lastPlace{a.Place, a.ID})
}

// placeLife is when it is looked at first whether a ticket's last place is still needed.
const placeLife = 7 * 24 * time.Hour

// lastPlace is the end of a ticket's queue.
type lastPlace struct {
	Place      uint64 `json:"place"`
	ActivityID string `json:"activity_id"`
}

var errCompleted = errors.New("the interaction is completed")

// Complete ends an interaction that is not completed with its activity, and returns that as it is stored, with its
// InteractionID and Place. In the same transaction the recordsets go. It is among the last that a quota refuses.
func (t *InteractionTxn) Complete(a Activity) (Activity, error) {
	if t.head.State == InteractionCompleted {
		t.fail(errCompleted)
	}
	if !t.change() {
		return Activity{}, t.err
	}
	a.InteractionID, a.Restored = t.id, t.doubt
	a.waits(time.Time{}, t.now, true)
	if err := t.writing.enqueue(&a, t.now); err != nil {
		t.fail(err)
		return Activity{}, err
	}
	if err := t.writing.saveActivity(&storedActivity{Activity: a}, 0, nil, t.over); err != nil {
		t.fail(err)
		return Activity{}, err
	}
	t.dropAll("record", "recordset")
	t.free(&t.head.Sizes.Recordsets, t.head.Sizes.Recordsets)
	t.last = true
	t.sets, t.head.Recordsets, t.head.LastSearched = nil, nil, ""
	t.head.State, t.head.ActivityID = InteractionCompleted, a.ID
	return a, nil
}

// Activity returns the activity of a completed interaction. Errors: [ErrNotFound] when it is not completed, or its activity
// has aged out.
func (t *InteractionTxn) Activity() (Activity, error) {
	stored, err := t.activityOfHead()
	return stored.Activity, err
}

// activityOfHead returns the activity that the head names, which is there unless the head says that it has gone.
func (t *InteractionTxn) activityOfHead() (storedActivity, error) {
	stored, err := t.activity(t.head.ActivityID)
	if errors.Is(err, ErrNotFound) && t.head.ActivityID != "" && !t.head.ActivityGone {
		err = missingPart(fmt.Sprintf("activity %q of the interaction", t.head.ActivityID))
	}
	return stored, err
}

// Activity returns one activity. Errors: [ErrNotFound].
func (s *Store) Activity(ctx context.Context, tenant, id string) (a Activity, err error) {
	err = s.look(ctx, tenant, func(r *reading) error {
		stored, err := r.activity(id)
		a = stored.Activity
		return err
	})
	return a, err
}

// UpdateActivity changes one activity by change, whose error comes back as it is. change may run several times. One that
// becomes pending again, or gets another ticket, goes to the end of its ticket's queue. What change does to ID,
// InteractionID, CreateTime, Place and Previous does not count. Errors: [ErrNotFound].
func (s *Store) UpdateActivity(ctx context.Context, tenant, id string, change func(*Activity) error, notes ...Note) (Activity, error) {
	now, noted := s.time(), s.noted(notes)
	over := s.changeTime(now, time.Time{})
	var updated storedActivity
	err := s.update(ctx, tenant, func(w *writing) error {
		var err error
		if updated, err = w.activity(id); err != nil {
			return err
		}
		was, had, next := updated.Activity, updated.rows(tenant), &updated.Activity
		if err := change(next); err != nil {
			return err
		}
		next.ID, next.InteractionID, next.CreateTime, next.Place, next.Previous = was.ID, was.InteractionID, was.CreateTime, was.Place, was.Previous
		anew := next.State != was.State || next.TicketID != was.TicketID || next.Account.URL != was.Account.URL
		if anew {
			if err := w.enqueue(next, now); err != nil {
				return err
			}
		}
		next.waits(was.PendingSince, now, anew)
		if err := w.saveActivity(&updated, was.State, had, over); err != nil {
			return err
		}
		return noted(w)
	})
	if err != nil {
		return Activity{}, err
	}
	return updated.Activity, nil
}
