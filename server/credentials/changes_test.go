package credentials

import "testing"

// Those who wait are told once of many changes, and take each account once.
func TestChanges(t *testing.T) {
	k := newKeeping(t, 0)
	changes := k.keeper.Changes()
	mustBeReady := func(want bool) {
		t.Helper()
		select {
		case <-changes.Ready():
			if !want {
				t.Error("there is something to take")
			}
		default:
			if want {
				t.Error("there is nothing to take")
			}
		}
	}
	mustBeReady(false)
	a, b := Key{tenant, "a"}, Key{"another", "a"}
	for _, key := range []Key{a, b, a} {
		k.keeper.Changed(key)
	}
	mustBeReady(true)
	mustBeReady(false)
	taken := make(map[Key]int)
	for _, key := range changes.Take() {
		taken[key]++
	}
	if len(taken) != 2 || taken[a] != 1 || taken[b] != 1 {
		t.Errorf("took %v", taken)
	}
	if left := changes.Take(); len(left) > 0 {
		t.Errorf("%v are taken twice", left)
	}
	k.keeper.Changed(b)
	mustBeReady(true)
}
