package readiness

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func failing(checks []Check) (names []string) {
	for _, c := range checks {
		if c.Err != nil {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestRegistry(t *testing.T) {
	r := New()
	mustFail := func(when string, ready, live []string) {
		t.Helper()
		if diff := cmp.Diff(ready, failing(r.Checks())); diff != "" {
			t.Errorf("%s, of readiness fail (-want +got)\n%s", when, diff)
		}
		if diff := cmp.Diff(live, failing(r.Live())); diff != "" {
			t.Errorf("%s, of liveness fail (-want +got)\n%s", when, diff)
		}
		if r.Ready() != (len(ready) == 0) {
			t.Errorf("%s, ready is %v", when, r.Ready())
		}
	}
	mustFail("starting", []string{Store, Standby, Writer, Access, Keys}, nil)
	stalled := errors.New("stalled")
	var writer error
	r.Ask(Writer, func() error { return writer })
	for _, name := range []string{Store, Standby, Access, Keys} {
		r.Set(name, nil)
	}
	mustFail("serving", nil, nil)
	writer = stalled
	mustFail("stalled", []string{Writer}, []string{Writer})
	writer = nil
	for _, name := range []string{Store, Standby, Access, Keys, Drain} {
		r.Set(name, stalled)
		mustFail("without "+name, []string{name}, nil)
		r.Set(name, nil)
	}
	mustFail("mended", nil, nil)
	if got := len(r.Checks()); got != len(known) {
		t.Errorf("there are %d checks, want %d", got, len(known))
	}
}

func TestRegistryTellsChanges(t *testing.T) {
	r := New()
	select {
	case <-r.Changed():
		t.Error("a change is told that nobody made")
	default:
	}
	var all sync.WaitGroup
	for range 8 { // nobody reads, and nobody waits
		all.Go(func() { r.Set(Store, nil) })
	}
	all.Wait()
	<-r.Changed()
}
