package turnstile

import "testing"

func TestTurnstile(t *testing.T) {
	calls := New[string](2)
	var leave []func()
	for _, step := range []struct {
		who string
		ok  bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}} {
		l, ok := calls.Enter(step.who)
		if ok != step.ok {
			t.Fatalf("%s is let in: %t", step.who, ok)
		}
		if ok {
			leave = append(leave, l)
		}
	}
	leave[0]()
	again, ok := calls.Enter("a")
	if !ok {
		t.Fatal("who has left is not let in again")
	}
	for _, l := range append(leave[1:], again) {
		l()
	}
	if len(calls.inside) != 0 {
		t.Errorf("%v is remembered", calls.inside)
	}
}

func TestNoLimit(t *testing.T) {
	calls := New[int](0)
	for range 1000 {
		if _, ok := calls.Enter(1); !ok {
			t.Fatal("there is a limit")
		}
	}
}
