package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// KeptAnswers is how many bytes of answers an interaction keeps, compressed: those of its newest requests. Answers of up to
// shortAnswer bytes do not count, and stay as long as it is known that their requests ran.
const (
	KeptAnswers = 256 << 10
	shortAnswer = 512
)

// keptChanges is how many bytes of earlier attached data an interaction keeps, as stored: with them, answers that show the
// data need not hold them. It is what KeptAnswers bytes of values come to.
const keptChanges = 384 << 10

// Reply is the answer to a request, kept in case the request is repeated.
type Reply struct {
	Fingerprint []byte // of the request
	Body        []byte // at most 1 MiB
	// ShowsData says that the attached data belong to the answer, as they were when it was kept. They are not in Body: the
	// store has them, once for all answers.
	ShowsData bool
	Data      map[string]string // them, of a reply that is read
	// AgainUntil is until when the request may run again, for what it does then is done once all the same: Reply finds no reply
	// before. Of one that is kept in place of another such the first time stays. Zero: it may not.
	AgainUntil time.Time
	// Gone says of a reply that is read that its answer is not kept any more, but that the request ran: Body and Data are
	// empty.
	Gone bool
}

// storedReply is the stored form of a reply.
type storedReply struct {
	RequestID   string `json:"request_id"`
	Fingerprint []byte `json:"fingerprint"`
	Body        []byte `json:"body,omitempty"` // a short one
	Packed      []byte `json:"zstd,omitempty"` // one that packing makes short, or of older data; both empty: it stands elsewhere, or nowhere
	// Offset is where Body stands among the interaction's answers, as if they were written one behind the other, from 1;
	// 0: nowhere.
	Offset int64 `json:"offset,omitempty"`
	// DataVersion is that of the attached data that belong to the answer; nil: none do.
	DataVersion *uint64 `json:"data_version,omitempty"`
	// AgainUntil is Reply.AgainUntil.
	AgainUntil time.Time `json:"again_until,omitzero"`
}

// Reply returns the reply kept for a request id of an RPC, for as long as the interaction is known.
func (t *InteractionTxn) Reply(rpc, requestID string) (reply Reply, found bool, err error) {
	var stored storedReply
	key := t.vault.replyKey(t.tenant, t.id, rpc, requestID)
	if t.writing != nil {
		t.writing.txn.ExpectMissing(key) // requests are seldom repeated
	}
	if found, err = t.load(key, &stored); err != nil || !found || stored.AgainUntil.After(t.now) {
		return Reply{}, false, err
	}
	reply, err = t.answer(&stored)
	return reply, err == nil, err
}

// keep takes a body in, if it is short, as it is or packed; else it returns it packed. An empty one is packed: it is one. Of one
// that could not be unpacked again nothing is kept.
func (r *storedReply) keep(body []byte) (packed []byte) {
	if len(body) > maxBody {
		return nil
	}
	if len(body) > 0 && len(body) <= shortAnswer {
		r.Body = body
		return nil
	}
	if packed = pack(body); len(packed) <= shortAnswer {
		r.Packed = packed
		return nil
	}
	return packed
}

// answer puts a reply together.
func (t *InteractionTxn) answer(stored *storedReply) (Reply, error) {
	gone := Reply{Fingerprint: stored.Fingerprint, Gone: true}
	body, packed := stored.Body, stored.Packed
	if len(body) == 0 && len(packed) == 0 {
		if stored.Offset <= t.head.Answers-KeptAnswers || stored.Offset == 0 {
			return gone, nil
		}
		values, err := t.get(answerKey(t.tenant, t.hashed, stored.Offset))
		if err != nil {
			return Reply{}, err
		}
		if packed = values[0]; packed == nil {
			return Reply{}, fmt.Errorf("the answer to request %q is missing: %w", stored.RequestID, ErrDamaged)
		}
	}
	var err error
	if len(packed) > 0 {
		if body, err = unpack(packed); err != nil {
			return Reply{}, err
		}
	}
	reply := Reply{Fingerprint: stored.Fingerprint, Body: body}
	if stored.DataVersion != nil {
		reply.ShowsData = true
		known := false
		if reply.Data, known, err = t.attachedAt(*stored.DataVersion); err != nil || !known {
			return gone, err
		}
	}
	return reply, nil
}

// KeepReply keeps a reply for a request id of an RPC. That the request ran is known as long as the interaction is, the
// answer as long as it is among the newest of the interaction; see [KeptAnswers].
func (t *InteractionTxn) KeepReply(rpc, requestID string, reply Reply) {
	if !t.change() {
		return
	}
	key := t.vault.replyKey(t.tenant, t.id, rpc, requestID)
	var before storedReply
	found, err := t.load(key, &before)
	if err != nil {
		t.fail(err)
		return
	}
	if !found && t.head.Parts.Replies != uncounted {
		t.head.Parts.Replies++
	}
	stored := storedReply{RequestID: requestID, Fingerprint: reply.Fingerprint, AgainUntil: reply.AgainUntil}
	if !reply.AgainUntil.IsZero() && !before.AgainUntil.IsZero() {
		stored.AgainUntil = before.AgainUntil
	}
	if packed := stored.keep(reply.Body); packed != nil && len(packed) <= KeptAnswers {
		stored.Offset = t.head.Answers + 1
		grown := t.writing.txn.grown
		if err := t.writing.put(answerKey(t.tenant, t.hashed, stored.Offset), packed); err != nil {
			t.fail(err)
			return
		}
		t.head.Answers += int64(len(packed))
		added := t.writing.txn.grown - grown
		t.head.Sizes.Others += added
		if before := t.head.Answers - KeptAnswers; before > 0 {
			t.writing.txn.DeleteRange(answerKey(t.tenant, t.hashed, 0), answerKey(t.tenant, t.hashed, before+1))
			// As many bytes of answers go as have come; how large each was is not known.
			t.free(&t.head.Sizes.Others, added*min(before, int64(len(packed)))/int64(len(packed)))
		}
	}
	if reply.ShowsData {
		stored.DataVersion = new(t.head.DataVersion)
		t.head.DataShown = true
	}
	t.saveOf(&t.head.Sizes.Replies, key, &stored)
}

// RunsAgain reports whether a reply is kept that is to be given only later: the request was begun before, and may run again.
func (t *InteractionTxn) RunsAgain(rpc, requestID string) (bool, error) {
	var stored storedReply
	found, err := t.load(t.vault.replyKey(t.tenant, t.id, rpc, requestID), &stored)
	return found && stored.AgainUntil.After(t.now), err
}

// DropReply forgets that a request ran, if that is known.
func (t *InteractionTxn) DropReply(rpc, requestID string) {
	key := t.vault.replyKey(t.tenant, t.id, rpc, requestID)
	values, err := t.get(key)
	if err != nil {
		t.fail(err)
		return
	}
	if values[0] == nil || !t.change() {
		return
	}
	if t.head.Parts.Replies != uncounted {
		t.head.Parts.Replies--
	}
	before := t.writing.txn.grown
	t.writing.txn.Delete(key)
	t.head.Sizes.Replies = max(0, t.head.Sizes.Replies+t.writing.txn.grown-before)
}

// pastData is the stored form of how attached data were before: each change undoes one, the last one that which led to
// the data as they are.
type pastData struct {
	// Changes are objects of the keys that changed, with the values that they had before; null: none.
	Changes []json.RawMessage `json:"changes"`
}

// AttachedData returns all attached data; an empty map if there is none.
func (t *InteractionTxn) AttachedData() (map[string]string, error) {
	var stored attachedData
	found, err := t.load(dataKey(t.tenant, t.hashed), &stored)
	if err == nil {
		err = t.checkPart("attached data", func(p *parts) int { return p.Data }, found, len(stored))
	}
	return stored.texts(), err
}

// SetAttachedData replaces all attached data: at most 256 KiB.
func (t *InteractionTxn) SetAttachedData(data map[string]string) {
	if !t.change() {
		return
	}
	was, err := t.AttachedData()
	if err != nil {
		t.fail(err)
		return
	}
	undo := make(attachedData)
	for key, value := range was {
		if now, ok := data[key]; !ok || now != value {
			undo[key] = []byte(value)
		}
	}
	for key := range data {
		if _, ok := was[key]; !ok {
			undo[key] = nil
		}
	}
	t.head.Parts.Data = present(len(data))
	t.saveOf(&t.head.Sizes.Others, dataKey(t.tenant, t.hashed), attachedBytes(data))
	if len(undo) == 0 {
		return
	}
	t.head.DataVersion++
	if t.head.DataShown { // else nobody asks for what was before
		t.keepChange(undo)
	}
}

// keepChange notes how to undo the change of the attached data that was made, and drops the oldest notes for which there is
// no room.
func (t *InteractionTxn) keepChange(undo attachedData) {
	past, err := t.past()
	if err != nil {
		t.fail(err)
		return
	}
	change, err := encode(undo)
	if err != nil {
		t.fail(err)
		return
	}
	past.Changes = append(past.Changes, change)
	first, size := len(past.Changes), 0
	for first > 0 && size+len(past.Changes[first-1]) < keptChanges {
		first--
		size += len(past.Changes[first]) + 1
	}
	past.Changes = past.Changes[first:]
	t.head.Parts.Past = present(len(past.Changes))
	t.saveOf(&t.head.Sizes.Others, pastKey(t.tenant, t.hashed), &past)
}

func (t *InteractionTxn) past() (past pastData, err error) {
	found, err := t.load(pastKey(t.tenant, t.hashed), &past)
	if err == nil {
		err = t.checkPart("earlier attached data", func(p *parts) int { return p.Past }, found, len(past.Changes))
	}
	return past, err
}

// attachedAt returns the attached data as they were; false when that is not known any more.
func (t *InteractionTxn) attachedAt(version uint64) (data map[string]string, known bool, err error) {
	if version > t.head.DataVersion {
		return nil, false, nil
	}
	if data, err = t.AttachedData(); err != nil || version == t.head.DataVersion {
		return data, err == nil, err
	}
	past, err := t.past()
	back := t.head.DataVersion - version
	if err != nil || back > uint64(len(past.Changes)) {
		return nil, false, err
	}
	for _, change := range slices.Backward(past.Changes[uint64(len(past.Changes))-back:]) {
		var undo attachedData
		if err := decode(change, &undo); err != nil {
			return nil, false, err
		}
		for key, value := range undo {
			if value == nil {
				delete(data, key)
			} else {
				data[key] = string(value)
			}
		}
	}
	return data, true, nil
}
