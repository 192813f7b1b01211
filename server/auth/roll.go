package auth

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"sync/atomic"
	"time"
)

// lostAfter is how long a file may be gone, empty or cut short until nobody is let in by it any more.
const lostAfter = time.Minute

// reading is what a look at a file has found.
type reading[K comparable, V any] struct {
	content []byte  // nil: none could be read
	entries map[K]V // those that could be read, of an unfit file too
	fault   error   // why the file is unfit; nil: it is fit
	cut     bool    // it is empty or ends amid an entry, so that more may belong to it
}

// roll is what a file lets in: callers by the hashes of their tokens, say, or the keys that JWTs may be signed with.
type roll[K comparable, V any] struct {
	in     map[K]V
	absent map[K]bool // in, but not in what was read last
	fit    []byte     // the last fit version
	lost   time.Time  // since when it is not known what the file would say; zero: it is known
}

// next decides who is let in when a file has been looked at again.
//
// A fit version says it all. Of an unfit one only what it no longer has is heeded: an entry that is gone or has changed is
// let in no more, and none is let in that was not. An entry is gone when two looks in a row have not found it, since one may
// have come amid the writing of the file. Where it cannot be known what is gone, all stay in, for a minute at most: the file
// is missing, cannot be read, is empty, or is cut short. Cut short, it begins as its last fit version did: else its writer
// had another one in mind, and what is gone counts at once.
func (r roll[K, V]) next(found reading[K, V], now time.Time) roll[K, V] {
	next := roll[K, V]{in: map[K]V{}, absent: map[K]bool{}, fit: r.fit}
	if found.content == nil || found.cut {
		next.lost = r.lost
		if next.lost.IsZero() {
			next.lost = now
		}
		if now.Sub(next.lost) >= lostAfter {
			return next
		}
		if bytes.HasPrefix(r.fit, found.content) { // as nothing does
			next.in, next.absent = r.in, r.absent
			return next
		}
	}
	for key, value := range r.in {
		if there, ok := found.entries[key]; ok && (found.fault == nil || reflect.DeepEqual(value, there)) {
			next.in[key] = value
		} else if !r.absent[key] {
			next.in[key], next.absent[key] = value, true
		}
	}
	if found.fault == nil {
		maps.Copy(next.in, found.entries)
		next.fit = found.content
	}
	return next
}

// rollFile keeps the roll of a file.
type rollFile[K comparable, V any] struct {
	file  file
	parse func(content []byte) (map[K]V, error) // with an error, a *fault, the entries that are fit all the same

	inUse atomic.Pointer[map[K]V]
	err   atomic.Pointer[error] // why the file lets nobody in

	// What follows is of who looks.
	roll roll[K, V]
	last reading[K, V]
	told string // what the log was last told
}

// lack is why nobody is let in by the file: it is unfit.
func (f *rollFile[K, V]) lack() error { return *f.err.Load() }

// get returns what is let in. It is there from the moment that load has once succeeded.
func (f *rollFile[K, V]) get() map[K]V { return *f.inUse.Load() }

// load looks for the first time, when nothing but a fit file will do.
func (f *rollFile[K, V]) load() error {
	f.look(time.Now())
	return f.last.fault
}

// look reads the file and goes on to the next roll.
func (f *rollFile[K, V]) look(now time.Time) {
	f.last = f.read()
	f.roll = f.roll.next(f.last, now)
	in := f.roll.in
	f.inUse.Store(&in)
	var err error
	if passing := !f.roll.lost.IsZero() && now.Sub(f.roll.lost) < lostAfter; f.last.fault != nil && len(in) == 0 && !passing {
		err = fmt.Errorf("nobody is let in by a file that is unfit: %w", f.last.fault)
	}
	f.err.Store(&err)
}

func (f *rollFile[K, V]) read() reading[K, V] {
	content, err := f.file.read()
	// Contents are compared, not times or sizes: those miss a file replaced within one tick of the clock, and a symbolic link
	// moved to a file that is older.
	if err == nil && f.last.fault == nil && f.last.content != nil && bytes.Equal(content, f.last.content) {
		return f.last
	}
	found := reading[K, V]{content: content, fault: err}
	switch {
	case content == nil:
		return found
	case len(bytes.TrimSpace(content)) == 0:
		found.content, found.cut = []byte{}, true
		return found
	}
	found.entries, err = f.parse(content)
	if unfit, ok := errors.AsType[*fault](err); ok {
		found.cut = unfit.kind == truncated
	}
	if err != nil && found.fault == nil {
		found.fault = f.file.named(err)
	}
	return found
}

// refresh looks again, and tells the log what changes.
func (f *rollFile[K, V]) refresh(log *slog.Logger) {
	before := f.roll
	f.look(time.Now())
	path, gone := f.file.path, 0
	for key := range before.in {
		if _, ok := f.roll.in[key]; !ok {
			gone++
		}
	}
	told := ""
	if f.last.fault != nil {
		told = f.last.fault.Error()
	}
	lost := !f.roll.lost.IsZero() && len(f.roll.in) == 0
	switch {
	case lost && gone > 0:
		log.Error("file is lost: nobody is let in by it until it is fit again", "file", path, "error", f.last.fault, "since", f.roll.lost)
	case told != "" && told != f.told:
		log.Error("new version of a file is unfit: nothing that is new in it is taken, and what is gone from it is let in no more",
			"file", path, "error", f.last.fault)
	case told == "" && (f.told != "" || !bytes.Equal(before.fit, f.roll.fit)):
		log.Info("file is in use", "file", path, "entries", len(f.last.entries))
	}
	if gone > 0 && told != "" && !lost {
		log.Warn("what is gone from an unfit file is let in no more", "file", path, "entries", gone)
	}
	f.told = told
}
