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
