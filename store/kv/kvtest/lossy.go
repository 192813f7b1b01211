package kvtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// RunLossy tests an engine whose answers to commits can get lost: it finds out what became of them. Open returns a new,
// empty one, which RunLossy closes.
func RunLossy(t *testing.T, open func(*testing.T) Lossy) {
	tests := []struct {
		name string
		test func(*testing.T, Lossy, bool)
	}{
		{"Once", testOnce},
		{"OthersInBetween", testOthersInBetween},
		{"ErrorAfterLoss", testErrorAfterLoss},
		{"ContextEnds", testContextEndsInDoubt},
	}
	for _, test := range tests {
		for _, made := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/made=%v", test.name, made), func(t *testing.T) {
				engine := open(t)
				t.Cleanup(func() {
					if err := engine.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
				test.test(t, engine, made)
			})
		}
	}
}

// testOnce loses one answer after the other.
func testOnce(t *testing.T, e Lossy, made bool) {
	for i := range 10 {
		e.LoseAnswer(made, func() {})
		if err := e.Update(t.Context(), increment); err != nil {
			t.Fatalf("Update: %v", err)
		}
		equal(t, "counter", fmt.Sprint(i+1), string(get(t, e, "counter")[0]))
	}
}

// testOthersInBetween has others change, delete and restore what the lost commit wrote: that tells nothing of it.
func testOthersInBetween(t *testing.T, e Lossy, made bool) {
	changes := map[string]func(kv.Txn) error{
		"counted on":   increment,
		"written over": func(x kv.Txn) error { x.Put([]byte("counter"), []byte("10")); return nil },
		"deleted":      func(x kv.Txn) error { x.DeleteRange(nil, nil); return nil },
		"written alike": func(x kv.Txn) error {
			x.Put([]byte("counter"), []byte("2"))
			x.Put([]byte("mine"), []byte("1"))
			return nil
		},
	}
	after := map[string]string{"counted on": "3", "written over": "10", "deleted": "", "written alike": "2"}
	if !made {
		after = map[string]string{"counted on": "3", "written over": "11", "deleted": "1", "written alike": "3"}
	}
	for name, change := range changes {
		put(t, e, "counter", "1")
		saw := ""
		e.LoseAnswer(made, func() {
			if err := e.Update(t.Context(), change); err != nil {
				t.Errorf("%s: the other's Update: %v", name, err)
			}
		})
		if err := e.Update(t.Context(), func(txn kv.Txn) error {
			values, err := txn.Get([]byte("counter"))
			if err != nil {
				return err
			}
			saw = string(values[0])
			txn.Put([]byte("mine"), []byte("1"))
			return increment(txn)
		}); err != nil {
			t.Fatalf("%s: Update: %v", name, err)
		}
		equal(t, name+": counter", after[name], string(get(t, e, "counter")[0]))
		if made && saw != "1" {
			t.Errorf("%s: the last run, which is to be the one committed, saw %q", name, saw)
		}
	}
}

// testErrorAfterLoss refuses in the run after the loss: then there is none if the commit was made.
func testErrorAfterLoss(t *testing.T, e Lossy, made bool) {
	e.LoseAnswer(made, func() { put(t, e, "closed", "") })
	err := e.Update(t.Context(), func(txn kv.Txn) error {
		values, err := txn.Get([]byte("closed"))
		if err != nil {
			return err
		}
		if values[0] != nil {
			return errOwn
		}
		txn.Put([]byte("k"), []byte("v"))
		return nil
	})
	if made && err != nil || !made && !errors.Is(err, errOwn) {
		t.Errorf("Update = %v", err)
	}
	equal(t, "written", made, get(t, e, "k")[0] != nil)
}

// testContextEndsInDoubt allows every error that is true.
func testContextEndsInDoubt(t *testing.T, e Lossy, made bool) {
	ctx, cancel := context.WithCancel(t.Context())
	e.LoseAnswer(made, cancel)
	err := e.Update(ctx, func(txn kv.Txn) error { txn.Put([]byte("k"), []byte("v")); return nil })
	written := get(t, e, "k")[0] != nil
	switch {
	case err == nil && written:
	case errors.Is(err, kv.ErrUnknownOutcome) && errors.Is(err, context.Canceled):
	case errors.Is(err, context.Canceled) && !errors.Is(err, kv.ErrUnknownOutcome) && !written:
	default:
		t.Errorf("Update = %v, written: %v", err, written)
	}
	put(t, e, "after", "v")
}
