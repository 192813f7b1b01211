package kv

import "testing"

type queued struct{ Pending }

func TestQueueLength(t *testing.T) {
	q := NewQueue[*queued]()
	first, second := &queued{}, &queued{Pending{Owner: "other"}}
	lengths := []int{q.Len()}
	note := func() { lengths = append(lengths, q.Len()) }
	q.Push(first)
	q.Push(second)
	note()
	if !q.Withdraw(first) || q.Withdraw(first) {
		t.Error("an update is withdrawn once")
	}
	note()
	if q.Take() != second || q.Take() != nil {
		t.Error("the other one is taken, once")
	}
	note()
	for i, want := range []int{0, 2, 1, 0} {
		if lengths[i] != want {
			t.Fatalf("lengths are %v", lengths)
		}
	}
}

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

// Who is late says so to nobody.
func TestQueueRousedAfterClose(t *testing.T) {
	q := NewQueue[*queued]()
	q.Rouse()
	q.Rouse()
	if _, open := <-q.Wake(); !open {
		t.Error("there is no token")
	}
	q.Close()
	q.Rouse()
	q.Push(&queued{})
	if _, open := <-q.Wake(); open {
		t.Error("it is not closed")
	}
}
