package store

import (
	"fmt"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// dueKind is what an entry of the index is about that says when to look at things.
type dueKind string

const (
	dueNothing     dueKind = "-" // not a kind
	dueInteraction dueKind = ""
	dueAgent       dueKind = "agent"  // the latest deliveries to an agent
	dueTicket      dueKind = "ticket" // the last place given to an activity of the ticket
	duePerson      dueKind = "person" // the note of a new user
)

// due is an entry of that index.
type due struct {
	key    []byte
	tenant string
	kind   dueKind
	hashed string // what stands for an id
}

func (d *due) what() string {
	switch d.kind {
	case dueInteraction:
		return "interaction"
	case dueAgent:
		return "deliveries to an agent"
	case dueTicket:
		return "last place of a ticket"
	case duePerson:
		return "note of a new user"
	}
	return "entry"
}

func dueKey(at time.Time, tenant string, kind dueKind, hashed string) []byte {
	if kind == dueInteraction {
		return kv.Key("!", "due", kv.Time(at), tenant, hashed)
	}
	return kv.Key("!", "due", kv.Time(at), tenant, hashed, string(kind))
}

// dueBefore is the end of what is due at a time.
func dueBefore(at time.Time) []byte { return kv.Key("!", "due", kv.Time(at)) }

func parseDue(key []byte) (due, error) {
	d := due{key: key, kind: dueNothing}
	segments, err := kv.Split(key)
	switch {
	case err != nil || len(segments) < 5 || len(segments) > 6 || checkTenant(segments[3]) != nil:
		return d, fmt.Errorf("key %q: %w", key, ErrDamaged)
	case len(segments) == 5:
		d.kind = dueInteraction
	case segments[5] == string(dueAgent) || segments[5] == string(dueTicket) || segments[5] == string(duePerson):
		d.kind = dueKind(segments[5])
	default:
		return d, fmt.Errorf("key %q: %w", key, ErrDamaged)
	}
	d.tenant, d.hashed = segments[3], segments[4]
	return d, nil
}

// due notes when to look at something. It is written when the thing is made; from then on the sweep moves it, so that a
// change of the thing costs no second key.
func (w *writing) due(at time.Time, kind dueKind, hashed string) {
	w.txn.Put(dueKey(at, w.tenant, kind, hashed), nil)
}
