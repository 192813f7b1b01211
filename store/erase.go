package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Person tells what of the stored data is about a person. Its methods are called many times, with values that they must not
// keep.
type Person interface {
	// InText tells of a text that anybody may have written, such as notes, a search string, an address of the web, an id of the
	// caller's: somewhere in it.
	InText(text string) bool
	// InData tells of a value of the attached data.
	InData(key, value string) bool
	// InRecord tells of a record, as Zendesk sent it.
	InRecord(record json.RawMessage) bool
	// InAnswer tells of the body of a [Reply] of an RPC: whether it is about the person, and whether the person is the agent whom
	// it names.
	InAnswer(rpc string, body []byte) (about, agent bool)
}

// Erasable counts what is stored about a person.
type Erasable struct {
	Interactions int64 // with all that belongs to them
	Activities   int64
}

// Waiting is what cannot be erased yet.
type Waiting struct {
	InteractionID string // empty: it cannot be read
	ActivityID    string // empty: the interaction itself waits
	Reason        string // for people
}

// MaxWaiting is how many a list of them has at most.
const MaxWaiting = 1000

// Erasure is how far erasing a person has come.
type Erasure struct {
	Found, Erased Erasable
	Waiting       []Waiting // at most MaxWaiting
}

const (
	// eraseEntries is what is looked at at a time, and eraseReplies how many replies are emptied in a transaction, each with the
	// answer that stands apart.
	eraseEntries = 64
	eraseReplies = 32
	// eraseShare is the part of the time, one in so many, that erasing works; else it waits: calls go first.
	eraseShare = 4
	// underWay is how long after its last change an active interaction is left alone.
	underWay = time.Hour
)

// ErasePerson erases what is stored about a person in a tenant: interactions, active ones that were used in the last hour
// excepted, with their activities, where those are not pending. What must wait, waits as a whole. Tombstones stay, without
// anything that was said: what was completed or expired stays so, and no request_id runs again. Where the person is the agent,
// the history of others stays, without the agent. dry only counts.
//
// It works in small steps with pauses between them, and tells of each to progress, whose error ends it and comes back as it is.
// Ended early, it has erased what it told, and the next call goes on. begun is noted before anything is erased, and done, which
// may use what progress was told last, when all is.
func (s *Store) ErasePerson(ctx context.Context, tenant string, p Person, dry bool, progress func(Erasure) error, begun, done Note) error {
	if err := checkTenant(tenant); err != nil {
		return err
	}
	e := eraser{store: s, tenant: tenant, person: p, dry: dry, progress: progress}
	if err := e.note(ctx, begun); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{e.interactions, e.lists} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return e.note(ctx, done)
}

// Pseudonym stands for a text about a person where the text must not be: the same for the same text of a tenant, and nobody
// without the data and its key can tell what it is of.
func (s *Store) Pseudonym(tenant, text string) string { return s.vault.hash(tenant, "e", text) }

// eraser is one call of ErasePerson.
type eraser struct {
	store    *Store
	tenant   string
	person   Person
	dry      bool
	progress func(Erasure) error
	Erasure

	unit unit
}

// unit is what was seen of the interaction that the walk is at.
type unit struct {
	hashed  string
	head    bool // it has one, as far as was seen
	about   bool // all of it is about the person
	agent   bool // the person is the agent of it
	damaged bool // something of it cannot be read
}

func (e *eraser) note(ctx context.Context, note Note) error {
	if e.dry || note == nil {
		return nil
	}
	noted := e.store.noted([]Note{note})
	return e.store.update(ctx, e.tenant, noted)
}

// walk goes over what stands under a prefix, a few entries at a time. look returns where to go on; nil: behind the entries.
func (e *eraser) walk(ctx context.Context, prefix []byte, look func(context.Context, []kv.Entry) (next []byte, err error)) error {
	rest := kv.Prefix(prefix)
	rest.Limit = eraseEntries
	for more := true; more; {
		start := time.Now()
		var entries []kv.Entry
		var err error
		if entries, more, err = e.store.scan(ctx, rest); err != nil {
			return err
		}
		next, err := look(ctx, entries)
		switch {
		case err != nil:
			return err
		case next != nil:
			rest.Start, more = next, true
		case len(entries) > 0:
			rest.Start = kv.After(entries[len(entries)-1].Key)
		}
		if err := e.progress(e.Erasure); err != nil {
			return err
		}
		if err := wait(ctx, (eraseShare-1)*time.Since(start)); err != nil {
			return err
		}
	}
	return nil
}

// interactions erases interactions and their activities.
func (e *eraser) interactions(ctx context.Context) error {
	prefix := kv.Key(e.tenant, "h")
	if err := e.walk(ctx, prefix, e.lookAtParts); err != nil {
		return err
	}
	return errors.Join(e.leave(ctx), e.progress(e.Erasure))
}

// lookAtParts looks at parts of interactions. Of one that is known to be about the person the rest is skipped.
func (e *eraser) lookAtParts(ctx context.Context, entries []kv.Entry) (next []byte, err error) {
	for _, entry := range entries {
		path, err := kv.Split(entry.Key)
		if err != nil || len(path) < 4 {
			continue // Scrub tells of it
		}
		if path[2] != e.unit.hashed {
			if err := e.leave(ctx); err != nil {
				return nil, err
			}
			e.unit = unit{hashed: path[2]}
		}
		err = e.look(ctx, entry, path)
		if errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFailed) {
			e.unit.damaged, err = true, nil
		}
		if err != nil {
			return nil, err
		}
		if e.unit.about {
			return kv.PrefixEnd(interactionKey(e.tenant, path[2])), e.leave(ctx)
		}
	}
	return nil, nil
}

// look looks at a part of an interaction.
func (e *eraser) look(ctx context.Context, entry kv.Entry, path []string) error {
	value, err := e.store.vault.open(entry.Key, entry.Value)
	if err != nil {
		return err
	}
	switch part := path[3]; {
	case part == "head":
		e.unit.head = true
		return e.lookAtHead(ctx, value)
	case part == "data":
		var data attachedData
		err = decode(value, &data)
		e.unit.about = e.inData(data)
	case part == "past":
		var past pastData
		err = decode(value, &past)
		for _, change := range past.Changes {
			var data attachedData
			err = errors.Join(err, decode(change, &data))
			e.unit.about = e.unit.about || e.inData(data)
		}
	case part == "deliveries":
		var d Deliveries
		err = decode(value, &d)
		e.lookAtDeliveries(&d)
	case part == "recordset":
		var set storedRecordset
		err = decode(value, &set)
		rs := &set.Recordset
		texts := slices.Concat([]string{rs.Name, rs.Query, rs.Account.Name}, rs.Columns, rs.ColumnsSet)
		e.unit.about = slices.ContainsFunc(texts, e.person.InText)
	case part == "record":
		var block []json.RawMessage
		block, err = unpackRecords(value)
		e.unit.about = slices.ContainsFunc(block, func(record json.RawMessage) bool { return e.person.InRecord(record) })
	case part == "reply" && len(path) == 6:
		return e.lookAtReply(ctx, path[4], value)
	case part == "answer": // its reply says of which RPC it is
	default:
		e.unit.about, err = e.inTexts(value)
	}
	return err
}

func (e *eraser) inData(data attachedData) bool {
	for key, value := range data {
		if e.person.InText(key) || e.person.InData(key, string(value)) {
			return true
		}
	}
	return false
}

// inTexts tells of all texts in a value of JSON.
func (e *eraser) inTexts(value []byte) (about bool, err error) {
	var any any
	if err := decode(value, &any); err != nil {
		return false, err
	}
	return anyText(any, e.person.InText), nil
}

func anyText(value any, is func(string) bool) bool {
	switch value := value.(type) {
	case string:
		return is(value)
	case []any:
		return slices.ContainsFunc(value, func(v any) bool { return anyText(v, is) })
	case map[string]any:
		for key, v := range value {
			if is(key) || anyText(v, is) {
				return true
			}
		}
	}
	return false
}

func (e *eraser) lookAtHead(ctx context.Context, value []byte) error {
	var head interactionHead
	if err := decode(value, &head); err != nil {
		return err
	}
	created := slices.ContainsFunc(head.Created, func(r CreatedRecord) bool { return e.person.InText(r.Name) })
	if head.Erasing || created || e.person.InText(head.ID) {
		e.unit.about = true
		return nil
	}
	if head.ActivityID == "" || head.ActivityGone {
		return nil
	}
	return e.store.view(ctx, e.tenant, func(r *reading, _ kv.Reader) error {
		a, err := r.activity(head.ActivityID)
		if errors.Is(err, ErrNotFound) {
			return nil // gone meanwhile; else Scrub tells of it
		}
		if err == nil {
			e.lookAtActivity(&a)
		}
		return err
	})
}

func (e *eraser) lookAtActivity(a *storedActivity) {
	d := &a.Details
	texts := []string{
		d.Subject, d.Channel, d.Direction, d.FromAddress, d.ToAddress, d.Service, d.Disposition, d.Notes, d.Transcript, d.RecordingURL,
		d.Requester.Name, d.Requester.Email, d.Requester.Phone, d.Remark, a.InteractionID,
	}
	for _, link := range d.Links {
		texts = append(texts, link.Title, link.URL)
	}
	for _, rejected := range a.Rejected {
		texts = append(texts, rejected.Key, rejected.Reason)
	}
	if a.Failure != nil {
		texts = append(texts, a.Failure.Message)
	}
	e.unit.about = slices.ContainsFunc(texts, e.person.InText) || e.inData(attachedBytes(a.AttachedData))
	e.unit.agent = e.unit.agent || e.isAgent(d.Agent) || slices.ContainsFunc(d.Legs, func(leg Leg) bool { return e.isAgent(leg.Agent) })
}

func (e *eraser) isAgent(a Agent) bool { return e.person.InText(a.Email) }

func (e *eraser) lookAtDeliveries(d *Deliveries) {
	for _, item := range slices.Concat(d.Earlier, d.Items) {
		e.unit.agent = e.unit.agent || e.isAgent(item.Agent)
		e.unit.about = e.unit.about || item.Failure != nil && e.person.InText(item.Failure.Message)
	}
	e.unit.agent = e.unit.agent || e.person.InText(d.Agent)
}

func (e *eraser) lookAtReply(ctx context.Context, rpc string, value []byte) error {
	var reply storedReply
	if err := decode(value, &reply); err != nil {
		return err
	}
	if e.unit.about = e.person.InText(reply.RequestID); e.unit.about {
		return nil
	}
	about, agent, err := e.inReply(ctx, rpc, &reply)
	e.unit.about, e.unit.agent = about, e.unit.agent || agent
	return err
}

// inReply tells of the answer of a reply, wherever it stands.
func (e *eraser) inReply(ctx context.Context, rpc string, reply *storedReply) (about, agent bool, err error) {
	body, packed := reply.Body, reply.Packed
	if reply.Offset > 0 {
		err := e.store.view(ctx, e.tenant, func(r *reading, _ kv.Reader) error {
			values, err := r.get(answerKey(e.tenant, e.unit.hashed, reply.Offset))
			if err == nil {
				packed = values[0]
			}
			return err
		})
		if err != nil {
			return false, false, err
		}
	}
	if len(packed) > 0 {
		if body, err = unpack(packed); err != nil {
			return false, false, err
		}
	}
	if len(body) == 0 {
		return false, false, nil
	}
	about, agent = e.person.InAnswer(rpc, body)
	return about, agent, nil
}

// leave decides on the interaction that the walk leaves.
func (e *eraser) leave(ctx context.Context) error {
	u := e.unit
	e.unit = unit{}
	switch {
	case u.about:
		return e.erase(ctx, u)
	case u.agent:
		return e.redact(ctx, u.hashed)
	case u.damaged:
		e.wait(Waiting{Reason: "something of an interaction cannot be read: it is damaged; the log tells more when all data is looked at"})
	}
	return nil
}

func (e *eraser) wait(w Waiting) {
	if len(e.Waiting) < MaxWaiting {
		e.Waiting = append(e.Waiting, w)
	}
}

// found is what was found of an interaction at the time of a decision about it.
type found struct {
	Erasable
	waits *Waiting // nil: it may be changed
}

// decide says, in a transaction, what there is of an interaction, and whether it must wait. The activity is nil where there is
// none.
func (e *eraser) decide(t *InteractionTxn, now time.Time) (f found, activity *storedActivity, err error) {
	if !t.exists {
		return found{}, nil, nil
	}
	f.Interactions = 1
	if t.head.State == InteractionCompleted && !t.head.ActivityGone {
		stored, err := t.activityOfHead()
		if err != nil {
			return found{}, nil, err
		}
		activity, f.Activities = &stored, 1
	}
	switch {
	case activity != nil && activity.State == ActivityPending:
		f.waits = &Waiting{t.head.ID, activity.ID, "the activity is PENDING: it is to be written first, or to be discarded"}
	case t.head.State == InteractionActive && now.Sub(t.head.UpdateTime) < underWay:
		f.waits = &Waiting{t.head.ID, "", "the interaction is ACTIVE and was used in the last hour"}
	}
	return f, activity, nil
}

// change runs fn in a transaction on an interaction that need not wait, and counts what there is of it. A dry one only looks.
func (e *eraser) change(ctx context.Context, hashed string, fn func(t *InteractionTxn, activity *storedActivity, now time.Time) error) (changed bool, err error) {
	s := e.store
	now := s.time()
	over := s.changeTime(now, time.Time{})
	var f found
	if e.dry {
		err = s.view(ctx, e.tenant, func(r *reading, _ kv.Reader) error {
			t := InteractionTxn{reading: *r, hashed: hashed}
			if err := t.loadHead(); err != nil {
				return err
			}
			f, _, err = e.decide(&t, now)
			return err
		})
	} else {
		err = s.update(ctx, e.tenant, func(w *writing) error {
			t := InteractionTxn{reading: w.reading, hashed: hashed, now: now, over: over, writing: w}
			if err := t.loadHead(); err != nil {
				return err
			}
			var activity *storedActivity
			if f, activity, err = e.decide(&t, now); err != nil || f.waits != nil {
				return err
			}
			if err := fn(&t, activity, over); err != nil || t.err != nil || !t.exists {
				return errors.Join(err, t.err)
			}
			return saveKnown(w, headKey(e.tenant, hashed), &t.head)
		})
	}
	if errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFailed) {
		e.wait(Waiting{Reason: "something of an interaction cannot be read: it is damaged; the log tells more when all data is looked at"})
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.Found = e.Found.plus(f.Erasable)
	if f.waits != nil {
		e.wait(*f.waits)
	}
	if e.dry || f.waits != nil {
		return false, nil
	}
	e.Erased = e.Erased.plus(f.Erasable)
	return true, nil
}

func (n Erasable) plus(m Erasable) Erasable {
	return Erasable{n.Interactions + m.Interactions, n.Activities + m.Activities}
}

// erase leaves a tombstone of an interaction, which says nothing of anybody. While its replies are emptied, which may take more
// than a transaction, the head says that they are to be.
func (e *eraser) erase(ctx context.Context, u unit) error {
	hashed, staged, replies := u.hashed, int64(0), false
	if !u.head {
		var err error
		if staged, err = e.sizeOf(ctx, interactionKey(e.tenant, hashed, "record")); err != nil {
			return err
		}
	}
	erased, err := e.change(ctx, hashed, func(t *InteractionTxn, activity *storedActivity, now time.Time) error {
		w := t.writing
		if replies = false; !t.exists {
			t.dropAll("record") // staged by a search that never came to an end
			w.txn.freed(headKey(e.tenant, hashed), staged)
			return nil
		}
		if activity != nil {
			rows := activity.rows(w.tenant)
			w.txn.Delete(activityKey(w.tenant, activity.ID))
			w.deleteRows(rows, nil)
			w.countActivity(activity.State, rows, -1)
			t.head.ActivityGone = true
		}
		was := t.head
		if _, err := t.strip(now); err != nil {
			return err
		}
		if was.Stripped && !was.StripTime.IsZero() {
			t.head.StripTime = was.StripTime // it lives no longer for this
		}
		replies = t.head.Parts.Replies != 0
		t.head.ID, t.head.Erasing = "", replies
		return nil
	})
	if err != nil || !erased || !replies {
		return err
	}
	all := func(string, *storedReply) (bool, error) { return true, nil }
	return e.emptyReplies(ctx, hashed, all, func(head *interactionHead) { head.Erasing = false })
}

// sizeOf is how many bytes stand under a prefix.
func (e *eraser) sizeOf(ctx context.Context, prefix []byte) (size int64, err error) {
	rest := kv.Prefix(prefix)
	for more := true; more; {
		var entries []kv.Entry
		if entries, more, err = e.store.scan(ctx, rest); err != nil {
			return 0, err
		}
		for _, entry := range entries {
			size += int64(entrySize(entry))
			rest.Start = kv.After(entry.Key)
		}
	}
	return size, nil
}

// redact takes the agent out of an interaction that is about somebody else.
func (e *eraser) redact(ctx context.Context, hashed string) error {
	redacted, err := e.change(ctx, hashed, func(t *InteractionTxn, activity *storedActivity, now time.Time) error {
		d, err := t.Deliveries()
		if err != nil {
			return err
		}
		if e.person.InText(d.Agent) {
			d.Agent = ""
		}
		for _, items := range [][]Delivery{d.Earlier, d.Items} {
			for i := range items {
				if e.isAgent(items[i].Agent) {
					items[i].Agent = Agent{}
				}
			}
		}
		if t.head.Parts != nil && t.head.Parts.Deliveries > 0 || d.Visit > 0 {
			t.SetDeliveries(d)
		}
		if activity == nil {
			return nil
		}
		rows := activity.rows(e.tenant)
		if e.isAgent(activity.Details.Agent) {
			activity.Details.Agent = Agent{}
		}
		for i := range activity.Details.Legs {
			if e.isAgent(activity.Details.Legs[i].Agent) {
				activity.Details.Legs[i].Agent = Agent{}
			}
		}
		return t.writing.saveActivity(activity, activity.State, rows, now)
	})
	if err != nil || !redacted {
		return err
	}
	e.unit.hashed = hashed
	defer func() { e.unit = unit{} }()
	return e.emptyReplies(ctx, hashed, func(rpc string, reply *storedReply) (bool, error) {
		about, agent, err := e.inReply(ctx, rpc, reply)
		return about || agent, err
	}, func(*interactionHead) {})
}

// emptyReplies takes the answers of an interaction's replies away, and the ids of their requests. That the requests ran stays
// known. ended is told of the head when all are done.
func (e *eraser) emptyReplies(ctx context.Context, hashed string, which func(rpc string, reply *storedReply) (bool, error), ended func(*interactionHead)) error {
	replies := kv.Prefix(interactionKey(e.tenant, hashed, "reply"))
	replies.Limit = eraseReplies
	for more := true; more; {
		entries, rest, err := e.store.scan(ctx, replies)
		if err != nil {
			return err
		}
		if more = rest; len(entries) > 0 {
			replies.Start = kv.After(entries[len(entries)-1].Key)
		}
		var empty [][]byte
		for _, entry := range entries {
			path, err := kv.Split(entry.Key)
			if err != nil || len(path) != 6 {
				continue
			}
			var reply storedReply
			err = (&reading{vault: e.store.vault}).decodes(entry, &reply)
			wanted := err == nil
			if wanted {
				wanted, err = which(path[4], &reply)
			}
			switch {
			case errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFailed):
				e.wait(Waiting{Reason: "the answer to a request cannot be read: it is damaged"})
			case err != nil:
				return err
			case wanted:
				empty = append(empty, entry.Key)
			}
		}
		err = e.store.update(ctx, e.tenant, func(w *writing) error {
			t := InteractionTxn{reading: w.reading, hashed: hashed, writing: w}
			if err := t.loadHead(); err != nil || !t.exists {
				return err // forgotten meanwhile
			}
			for _, key := range empty {
				if err := t.emptyReply(key); err != nil {
					return err
				}
			}
			if !more {
				ended(&t.head)
			}
			return errors.Join(t.err, saveKnown(w, headKey(e.tenant, hashed), &t.head))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// emptyReply takes the answer of a reply away.
func (t *InteractionTxn) emptyReply(key []byte) error {
	var reply storedReply
	found, err := t.load(key, &reply)
	if err != nil || !found {
		return err
	}
	if reply.Offset > 0 {
		answer := answerKey(t.tenant, t.hashed, reply.Offset)
		values, err := t.kv.Get(answer)
		if err != nil {
			return err
		}
		if values[0] != nil {
			before := t.writing.txn.grown
			t.writing.txn.Delete(answer)
			t.head.Sizes.Others += t.writing.txn.grown - before
		}
	}
	t.saveOf(&t.head.Sizes.Replies, key, &storedReply{Fingerprint: reply.Fingerprint})
	return nil
}

// lists takes out of agents' latest deliveries what is about the person, or to the person, and what nobody can read any more.
func (e *eraser) lists(ctx context.Context) error {
	if e.dry {
		return nil
	}
	return e.walk(ctx, kv.Key(e.tenant, "d"), func(ctx context.Context, entries []kv.Entry) ([]byte, error) {
		for _, entry := range entries {
			err := e.shorten(ctx, entry)
			if errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFailed) {
				e.wait(Waiting{Reason: "the latest deliveries to an agent cannot be read: they are damaged"})
				err = nil
			}
			if err != nil {
				return nil, fmt.Errorf("an agent's latest deliveries: %w", err)
			}
		}
		return nil, nil
	})
}

// shorten takes out of one list what is to go.
func (e *eraser) shorten(ctx context.Context, entry kv.Entry) error {
	since := e.store.time().Add(-RecentDeliveries)
	goes := func(d Delivered) bool { return d.Time.Before(since) || e.inDelivered(&d) }
	var seen []Delivered
	if err := (&reading{vault: e.store.vault}).decodes(entry, &seen); err != nil || !slices.ContainsFunc(seen, goes) {
		return err
	}
	return e.store.update(ctx, e.tenant, func(w *writing) error {
		var list []Delivered
		found, err := w.load(entry.Key, &list)
		if err != nil || !found {
			return err
		}
		return w.save(entry.Key, slices.DeleteFunc(list, goes)) // also an empty one: the sweep is due to look at it
	})
}

func (e *eraser) inDelivered(d *Delivered) bool {
	return e.person.InText(d.InteractionID) || e.person.InText(d.Pop.URL) || e.isAgent(d.Agent) || d.Failure != nil && e.person.InText(d.Failure.Message)
}
