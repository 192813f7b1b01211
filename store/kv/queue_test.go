package kv

import "testing"

type queued struct{ Pending }

// Whose caller has gone while it was committed holds nobody up, when it turns out that it would have to run again.
func TestReserveOfWhatIsForgotten(t *testing.T) {
	q := NewQueue[*queued]()
	older := &queued{Pending{Reads: []string{"key"}, Ops: []Op{{Key: []byte("key"), Value: []byte("1")}}}}
	younger := &queued{Pending{Ops: []Op{{Key: []byte("key"), Value: []byte("2")}}}}
	q.Push(older)
	if q.Take() != older {
		t.Fatal("the only one is not taken")
	}
	q.Push(younger)
	q.Forget(older)
	q.Reserve(older)
	if q.Take() != younger {
		t.Error("one that comes no more holds a younger one up")
	}
}
