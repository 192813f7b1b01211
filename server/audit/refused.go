package audit

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
)

var errNotWritten = errors.New("the audit cannot be written")

const (
	// maxRefused is how many kinds of refused calls are told apart between two writes.
	maxRefused = 1000
	// strangersEvery is how often it is written how many calls came without a valid credential.
	strangersEvery = time.Minute
)

// refused counts calls that were refused. They change nothing: no transaction is spent on them, and however many there are,
// they take a bounded room here and in the stream.
type refused struct {
	mu   sync.Mutex
	now  counts
	told time.Time // when strangers were written last
}

// counts are those of refused calls.
type counts struct {
	calls     map[refusedCall]int
	others    int // calls that there was no room to tell apart
	strangers int
}

type refusedCall struct{ tenant, caller, credential, method string }

// Denied counts a call of a caller who has no role that may make it.
func (l *Log) Denied(caller auth.Caller, method string) {
	l.refused.add(counts{calls: map[refusedCall]int{{caller.Tenant, caller.Name, caller.Credential, method}: 1}})
}

// Stranger counts a call without a valid credential.
func (l *Log) Stranger() { l.refused.add(counts{strangers: 1}) }

func (r *refused) add(more counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now.calls == nil {
		r.now.calls = make(map[refusedCall]int)
	}
	for call, n := range more.calls {
		if _, known := r.now.calls[call]; !known && len(r.now.calls) >= maxRefused {
			r.now.others += n
			continue
		}
		r.now.calls[call] += n
	}
	r.now.others += more.others
	r.now.strangers += more.strangers
}

// take returns what has been counted, and counts on from nothing. Strangers are for the last of all, or once in a while.
func (r *refused) take(now time.Time, last bool) counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.now
	r.now = counts{}
	if !last && now.Sub(r.told).Abs() < strangersEvery {
		r.now.strangers, taken.strangers = taken.strangers, 0
	} else if taken.strangers > 0 {
		r.told = now
	}
	return taken
}

// write writes what has been counted.
func (r *refused) write(now time.Time, last bool, sink Sink) error {
	taken := r.take(now, last)
	text, err := taken.lines(now)
	if err == nil && len(text) > 0 {
		err = sink.Append(text)
	}
	if err != nil {
		r.add(taken) // again
	}
	return err
}

// lines are a line for each caller and method, in order, and one for the others of each kind.
func (c *counts) lines(now time.Time) (text []byte, err error) {
	add := func(event string, attrs ...slog.Attr) {
		one, lineErr := Line(now, event, attrs...)
		text, err = append(text, one...), cmp.Or(err, lineErr)
	}
	calls := slices.SortedFunc(maps.Keys(c.calls), func(a, b refusedCall) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.caller, b.caller), cmp.Compare(a.credential, b.credential), cmp.Compare(a.method, b.method))
	})
	for _, call := range calls {
		add("call denied", slog.String("tenant", call.tenant), slog.String("caller", call.caller),
			slog.String("credential", call.credential), slog.String("method", call.method), slog.Int("calls", c.calls[call]))
	}
	if c.others > 0 {
		add("other calls denied", slog.Int("calls", c.others))
	}
	if c.strangers > 0 {
		add("calls without a valid credential", slog.Int("calls", c.strangers))
	}
	return text, err
}
