package blocks

import "testing"

// A tenant has a part of what may be written at a time.
func TestWritesAreBounded(t *testing.T) {
	var w writes
	var leave func()
	for i := range maxTenantWrites {
		var ok bool
		if leave, ok = w.enter("one"); !ok {
			t.Fatalf("%d of %d may write", i, maxTenantWrites)
		}
	}
	if _, ok := w.enter("one"); ok {
		t.Error("one more may write")
	}
	if _, ok := w.enter("two"); !ok {
		t.Error("another tenant may not")
	}
	leave()
	leave() // once more does nothing
	if _, ok := w.enter("one"); !ok {
		t.Error("none may write in place of one that has ended")
	}
	if _, ok := w.enter("one"); ok {
		t.Error("one more may write")
	}
}
