package store

import (
	"bytes"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// convertFormat1 is the step to format 2. In format 1 the ids of interactions and requests stood in keys, below other
// segments than now; details, failures and deliveries were messages of the API of then, in protobuf's encoding; and
// activities had no index.
func (v *vault) convertFormat1(e kv.Entry) (conversion, error) {
	path, err := kv.Split(e.Key)
	switch {
	case bytes.Equal(e.Key, instanceKey):
		if _, err := v.open(e.Key, e.Value); err == nil {
			return conversion{}, nil
		}
		sealed, err := v.seal(e.Key, e.Value)
		return conversion{puts: []kv.Entry{{Key: e.Key, Value: sealed}}}, err
	case err != nil || len(path) < 3:
		return conversion{}, nil
	case path[0] == "!" && path[1] == "expiry" && len(path) == 5:
		at, tenant, id := path[2], path[3], path[4]
		due := kv.Key("!", "due", at, tenant, v.hashInteraction(tenant, id))
		return conversion{puts: []kv.Entry{{Key: due}}, delete: true}, nil
	case path[0] == "!":
		return conversion{}, nil
	case path[1] == "c" && len(path) == 3:
		return v.activityOfFormat1(path[0], e)
	case path[1] == "d" && len(path) == 3:
		c, err := v.deliveredOfFormat1(e)
		c.puts = append(c.puts, kv.Entry{Key: dueKey(time.Time{}, path[0], dueAgent, path[2])})
		return c, err
	case path[1] == "t" && len(path) == 3:
		return conversion{puts: []kv.Entry{{Key: dueKey(time.Time{}, path[0], dueTicket, path[2])}}}, nil
	case path[1] == "i" && len(path) > 3:
		return v.partOfFormat1(path[0], path[2], path[3:], e)
	}
	return conversion{}, nil
}

// activityOfFormat1 converts an activity where it stands, and adds its rows to the indexes.
func (v *vault) activityOfFormat1(tenant string, e kv.Entry) (conversion, error) {
	value, err := v.open(e.Key, e.Value)
	if err != nil {
		return conversion{unreadable: true}, nil
	}
	var old struct {
		storedActivity        // but for what follows
		Details        []byte `json:"details"`
		Failure        []byte `json:"failure"`
		FailureReason  int    `json:"failure_reason"`
	}
	if err := decode(value, &old); err != nil {
		return conversion{unreadable: true}, nil
	}
	var w wire
	a := old.storedActivity
	a.Details = w.details(old.Details)
	a.Notes = []byte(a.Details.Notes)
	if old.FailureReason != 0 {
		f := w.failure(old.Failure)
		f.Reason = reasonOfFormat1(uint64(old.FailureReason))
		f.Retryable = f.Reason.Retryable()
		a.Failure = &f
	}
	c, err := v.resealed(e.Key, &a, w.damaged)
	if err != nil {
		return conversion{}, err
	}
	for _, row := range a.rows(tenant) {
		c.puts = append(c.puts, kv.Entry{Key: row})
	}
	return c, nil
}

// deliveredOfFormat1 converts an agent's latest deliveries where they stand.
func (v *vault) deliveredOfFormat1(e kv.Entry) (conversion, error) {
	value, err := v.open(e.Key, e.Value)
	if err != nil {
		return conversion{unreadable: true}, nil
	}
	var old []struct {
		ID            string    `json:"id"`
		InteractionID string    `json:"interaction_id"`
		Body          []byte    `json:"body"`
		Time          time.Time `json:"time"`
	}
	if err := decode(value, &old); err != nil {
		return conversion{unreadable: true}, nil
	}
	var w wire
	list := make([]Delivered, 0, len(old))
	for _, item := range old {
		d := Delivered{InteractionID: item.InteractionID}
		d.Delivery, d.Pop = w.delivery(item.Body)
		d.ID, d.PopID, d.Time = item.ID, d.Pop.ID, item.Time
		list = append(list, d)
	}
	return v.resealed(e.Key, list, w.damaged)
}

// partOfFormat1 moves a part of an interaction.
func (v *vault) partOfFormat1(tenant, id string, path []string, e kv.Entry) (conversion, error) {
	key := interactionKey(tenant, v.hashInteraction(tenant, id), path...)
	if path[0] == "reply" && len(path) == 3 {
		key = v.replyKey(tenant, id, path[1], path[2])
	}
	value, err := v.open(e.Key, e.Value)
	if err != nil {
		// In its new place it does not open either.
		return conversion{puts: []kv.Entry{{Key: key, Value: e.Value}}, delete: true, unreadable: true}, nil
	}
	value, whole := v.valueOfFormat1(tenant, id, path, value)
	sealed, err := v.seal(key, value)
	if err == nil && path[0] == "record" && len(key)+len(sealed) > kv.MaxTxnBytes {
		// It was as large as can be, and the new key is longer.
		whole = false
		sealed, err = v.seal(key, []byte("null"))
	}
	return conversion{puts: []kv.Entry{{Key: key, Value: sealed}}, delete: true, unreadable: !whole}, err
}

// valueOfFormat1 converts the value of a part of an interaction, and reports whether all of it was readable. What is no
// JSON stays as it is.
func (v *vault) valueOfFormat1(tenant, id string, path []string, value []byte) (converted []byte, whole bool) {
	var w wire
	var into any
	var err error
	switch {
	case path[0] == "head":
		var head interactionHead
		err = decode(value, &head)
		head.ID = id
		into = head
	case path[0] == "reply" && len(path) == 3:
		into, err = replyOfFormat1(path[2], value)
	case path[0] == "deliveries":
		into, err = v.deliveriesOfFormat1(&w, tenant, id, value)
	default:
		return value, true
	}
	if err == nil {
		converted, err = encode(into)
	}
	if err != nil {
		return value, false
	}
	return converted, !w.damaged
}

func replyOfFormat1(requestID string, value []byte) (reply replyOfFormat2, err error) {
	var old struct {
		Fingerprint []byte `json:"fingerprint"`
		Body        []byte `json:"body"`
	}
	if err := decode(value, &old); err != nil {
		return replyOfFormat2{}, err
	}
	packed, err := deflate(old.Body)
	return replyOfFormat2{storedReply{RequestID: requestID, Fingerprint: old.Fingerprint}, packed}, err
}

func (v *vault) deliveriesOfFormat1(w *wire, tenant, id string, value []byte) (d Deliveries, err error) {
	var old struct {
		Agent string `json:"agent"`
		Visit int    `json:"visit"`
		Items []struct {
			PopID   string          `json:"pop_id"`
			Outcome DeliveryOutcome `json:"outcome"`
			Body    []byte          `json:"body"`
			Time    time.Time       `json:"time"`
		} `json:"items"`
	}
	if err := decode(value, &old); err != nil {
		return Deliveries{}, err
	}
	d = Deliveries{Agent: old.Agent, Visit: old.Visit}
	for _, item := range old.Items {
		made, _ := w.delivery(item.Body)
		made.PopID, made.Outcome, made.Time = item.PopID, item.Outcome, item.Time
		// It had no id of its own, and gets the same one each time that this runs.
		made.ID = v.hash(tenant, "delivery", id, kv.Number(uint64(old.Visit)), item.PopID, kv.Time(item.Time))
		d.Items = append(d.Items, made)
	}
	return d, nil
}

// resealed puts a value of JSON under a key.
func (v *vault) resealed(key []byte, from any, unreadable bool) (conversion, error) {
	value, err := encode(from)
	if err != nil {
		return conversion{}, err
	}
	sealed, err := v.seal(key, value)
	return conversion{puts: []kv.Entry{{Key: key, Value: sealed}}, unreadable: unreadable}, err
}

// wire reads messages of the API of format 1. What is damaged of one is left out.
type wire struct {
	damaged bool
}

// fields calls visit with the fields of a message, a number or bytes each, up to one that is damaged.
func (w *wire) fields(message []byte, visit func(field protowire.Number, number uint64, bytes []byte)) {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			w.damaged = true
			return
		}
		message = message[n:]
		var number uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			w.damaged = true
			return
		}
		message = message[n:]
		visit(field, number, bytes)
	}
}

func (w *wire) text(bytes []byte) string {
	if !utf8.Valid(bytes) {
		w.damaged = true
	}
	return strings.ToValidUTF8(string(bytes), "\uFFFD")
}

// secondsAndNanos reads a Timestamp or a Duration.
func (w *wire) secondsAndNanos(message []byte) (seconds, nanos int64) {
	w.fields(message, func(field protowire.Number, number uint64, _ []byte) {
		switch field {
		case 1:
			seconds = int64(number)
		case 2:
			nanos = int64(number)
		}
	})
	return seconds, nanos
}

func (w *wire) time(message []byte) time.Time {
	seconds, nanos := w.secondsAndNanos(message)
	// From the year 1 to 9999, as protobuf and JSON have it.
	if seconds < -62135596800 || seconds > 253402300799 || nanos < 0 || nanos >= 1e9 {
		w.damaged = true
		return time.Time{}
	}
	return time.Unix(seconds, nanos).UTC()
}

func (w *wire) duration(message []byte) time.Duration {
	seconds, nanos := w.secondsAndNanos(message)
	const most = 1 << 33 // some 270 years, and no overflow
	if seconds < -most || seconds > most || nanos <= -1e9 || nanos >= 1e9 {
		w.damaged = true
		return 0
	}
	return time.Duration(seconds)*time.Second + time.Duration(nanos)
}

func (w *wire) details(message []byte) (d ActivityDetails) {
	w.fields(message, func(field protowire.Number, _ uint64, bytes []byte) {
		switch field {
		case 1:
			d.Channel = w.text(bytes)
		case 2:
			d.Direction = w.text(bytes)
		case 3:
			d.FromAddress = w.text(bytes)
		case 4:
			d.ToAddress = w.text(bytes)
		case 5:
			d.Agent = w.agent(bytes)
		case 6:
			d.Service = w.text(bytes)
		case 7:
			d.Disposition = w.text(bytes)
		case 8:
			d.Notes = w.text(bytes)
		case 9:
			d.RecordingURL = w.text(bytes)
		case 10:
			d.StartTime = w.time(bytes)
		case 11:
			d.AnswerTime = w.time(bytes)
		case 12:
			d.EndTime = w.time(bytes)
		case 13:
			w.fields(bytes, func(field protowire.Number, _ uint64, bytes []byte) {
				switch field {
				case 1:
					d.Requester.Name = w.text(bytes)
				case 2:
					d.Requester.Email = w.text(bytes)
				}
			})
		}
	})
	return d
}

func (w *wire) agent(message []byte) (a Agent) {
	w.fields(message, func(field protowire.Number, _ uint64, bytes []byte) {
		switch field {
		case 1:
			a.Email = w.text(bytes)
		case 2:
			a.ZendeskUserID = w.text(bytes)
		}
	})
	return a
}

// reasonsOfFormat1 have the numbers of the enum, from 1.
var reasonsOfFormat1 = []FailureReason{
	ReasonTimeout, ReasonRateLimited, ReasonCredentialsRejected, ReasonAccessDenied, ReasonInvalidRequest, ReasonNotFound,
	ReasonConflict, ReasonUnavailable, ReasonBadResponse, ReasonAccountNotFound, ReasonNoDefaultAccount, ReasonUndefinedVariable,
	ReasonEmptyValue, ReasonRecordsetNotFound, ReasonNoTarget, ReasonInteractionCompleted, ReasonInteractionExpired,
}

func reasonOfFormat1(number uint64) FailureReason {
	if number < 1 || number > uint64(len(reasonsOfFormat1)) {
		return ""
	}
	return reasonsOfFormat1[number-1]
}

func (w *wire) failure(message []byte) (f Failure) {
	w.fields(message, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case 1:
			f.Reason = reasonOfFormat1(number)
		case 2:
			f.Message = w.text(bytes)
		case 3:
			f.HTTPStatus = int(int32(number))
		case 4:
			f.RetryAfter = w.duration(bytes)
		case 5:
			f.ZendeskRequestID = w.text(bytes)
		case 6:
			f.Attempts = int(int32(number))
		}
	})
	f.Retryable = f.Reason.Retryable()
	return f
}

// delivery reads a delivery and, where it has one, the pop that was delivered, whose account is known by id and name only.
func (w *wire) delivery(message []byte) (d Delivery, pop ScreenPop) {
	w.fields(message, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case 1:
			pop = w.screenPop(bytes)
		case 2:
			d.Agent = w.agent(bytes)
		case 3:
			d.Outcome = DeliveryOutcome(int32(number))
		case 4:
			d.Failure = new(w.failure(bytes))
		case 5:
			d.Time = w.time(bytes)
		}
	})
	return d, pop
}

func (w *wire) screenPop(message []byte) (pop ScreenPop) {
	w.fields(message, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case 1:
			pop.ID = w.text(bytes)
		case 2:
			w.fields(bytes, func(field protowire.Number, number uint64, bytes []byte) {
				switch field {
				case 1:
					pop.Account.AccountID = w.text(bytes)
				case 2:
					pop.Account.Name = w.text(bytes)
				case 3:
					pop.Account.Selection = Selection(int32(number))
				}
			})
		case 3:
			pop.RecordType = RecordType(int32(number))
		case 4:
			pop.RecordID = w.text(bytes)
		case 5:
			pop.URL = w.text(bytes)
		case 6:
			pop.CreateTime = w.time(bytes)
		}
	})
	return pop
}
