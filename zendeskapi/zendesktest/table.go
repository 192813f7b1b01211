package zendesktest

import (
	"iter"
	"sync"
	"time"
)

// table holds the records of one resource and, because search looks at the
// past, their recent versions. Records are never modified once put.
type table[T any] struct {
	rows  map[int64]*row[T]
	order []*row[T] // of creation
}

type row[T any] struct {
	versions []*version[T] // oldest first
}

// version is one state of a record. What search knows of it is worked out when
// first asked for: most versions never are.
type version[T any] struct {
	value T
	since time.Time
	index func() *document
	gone  bool // the record is no more
}

func newTable[T any]() table[T] { return table[T]{rows: map[int64]*row[T]{}} }

// put makes value the current state of the record. Versions that were replaced
// before oldest are forgotten.
func (t *table[T]) put(id int64, value T, since, oldest time.Time, index func() *document) {
	r := t.rows[id]
	if r == nil {
		r = &row[T]{}
		t.rows[id] = r
		t.order = append(t.order, r)
	}
	r.add(&version[T]{value: value, since: since, index: sync.OnceValue(index)}, oldest)
}

// remove takes a record away; search goes on seeing what it was.
func (t *table[T]) remove(id int64, since, oldest time.Time) {
	if r := t.rows[id]; r != nil {
		r.add(&version[T]{since: since, gone: true}, oldest)
	}
}

func (r *row[T]) add(v *version[T], oldest time.Time) {
	r.versions = append(r.versions, v)
	for len(r.versions) > 1 && !r.versions[1].since.After(oldest) {
		r.versions = r.versions[1:]
	}
}

func (t *table[T]) get(id int64) (T, bool) {
	r := t.rows[id]
	if r == nil || r.current().gone {
		var none T
		return none, false
	}
	return r.current().value, true
}

func (r *row[T]) current() *version[T] { return r.versions[len(r.versions)-1] }

func (t *table[T]) has(id int64) bool {
	_, found := t.get(id)
	return found
}

// all yields the current records in order of creation.
func (t *table[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, r := range t.order {
			if v := r.current(); !v.gone && !yield(v.value) {
				return
			}
		}
	}
}

// at yields the records as they were at a moment, in order of creation.
func (t *table[T]) at(moment time.Time) iter.Seq[*version[T]] {
	return func(yield func(*version[T]) bool) {
		for _, r := range t.order {
			i := len(r.versions) - 1
			for i >= 0 && r.versions[i].since.After(moment) {
				i--
			}
			if i >= 0 && !r.versions[i].gone && !yield(r.versions[i]) {
				return
			}
		}
	}
}
